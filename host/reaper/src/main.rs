//! `ostler-reaper CONTROL PROGRAM PRIVATE`: what process 1 of a run executes once the program's process exists.
//!
//! `CONTROL` is the socket to the keeper, `PROGRAM` the id of the program's process, and `PRIVATE` a pipe. It is
//! closed to signal the program's process that no process of the run can read the memory of this one any more.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).map(|number| number.parse::<i32>().ok());
    let (Some(Some(control)), Some(Some(program)), Some(Some(private)), None) =
        (numbers.next(), numbers.next(), numbers.next(), numbers.next())
    else {
        eprintln!("ostler-reaper is a part of ostler and is not to be started by hand");
        return ExitCode::from(64);
    };
    // SAFETY: numbers, and a string that lives as long as the program. Failures are ignored.
    unsafe {
        // No other process of the run may read this one's memory or take its socket.
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
        libc::prctl(libc::PR_SET_NAME, c"ostler-init".as_ptr(), 0, 0, 0);
        libc::close(private);
    }
    ostler_reaper::collect(control, program);
    ExitCode::SUCCESS
}
