//! How a keeper makes its child: the process that waits at a gate and then becomes the program.

use std::convert::Infallible;
use std::ffi::{CStr, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};
use nix::unistd::{ForkResult, Pid, execve, fork, getpid, pipe2, read, setsid, write};

use super::attributes;
use super::containment::{self, Proof};
use super::keeper::{leave, read_exactly, wait_any};
use super::linux::{self, ChildWatch};
use super::sandbox::{self, Handover, Init, InitReport, Maker, Namespaces, SetupError};
use super::wire::{Command, Program, Report, Stage};

/// Longest text of a step that a failure carries.
const MAX_STEP: usize = 512;

/// Why no program came to run.
pub(super) struct ChildFailure {
    stage: Stage,
    errno: Errno,
    /// What was tried, where the stage does not say it.
    step: String,
}

impl ChildFailure {
    pub(super) fn at(stage: Stage, errno: Errno) -> Self {
        Self { stage, errno, step: String::new() }
    }

    pub(super) fn report(&self) -> Report {
        Report::Failed { stage: self.stage, errno: self.errno as i32, step: self.step.clone() }
    }

    /// Tells the keeper, from a process that ends then.
    fn tell(&self, failure: &OwnedFd) {
        let mut message = vec![self.stage.code()];
        message.extend_from_slice(&(self.errno as i32).to_le_bytes());
        message.extend_from_slice(self.step.as_bytes().get(..MAX_STEP).unwrap_or(self.step.as_bytes()));
        let _ = write(failure, &message);
    }

    /// What a process told before it ended, or `None` where it closed the pipe without a word: then the program runs.
    pub(super) fn hear(failure: &OwnedFd) -> Option<Self> {
        let mut message = [0; 5 + MAX_STEP];
        let length = loop {
            match read(failure, &mut message) {
                Err(Errno::EINTR) => {}
                other => break other.ok()?,
            }
        };
        let (head, step) = message.get(..length)?.split_first_chunk::<5>()?;
        let [stage, number @ ..] = *head;
        Some(Self {
            stage: Stage::from_code(stage),
            errno: Errno::from_raw(i32::from_le_bytes(number)),
            step: String::from_utf8_lossy(step).into_owned(),
        })
    }
}

impl From<SetupError> for ChildFailure {
    fn from(error: SetupError) -> Self {
        Self { stage: Stage::Sandbox, errno: error.errno, step: error.step }
    }
}

/// A child that waits.
pub(super) struct Newborn {
    pub(super) pid: Pid,
    /// Process 1 of its namespaces, where it has some.
    pub(super) init: Option<Init>,
    /// Sockets of its network.
    pub(super) sockets: Vec<OwnedFd>,
    /// Written to when the child may execute; its end, too, tells the child.
    pub(super) gate: OwnedFd,
    /// Closed by a successful exec; otherwise says what failed.
    pub(super) failure: OwnedFd,
}

/// The child's ends of the pipes.
struct Ends {
    gate: OwnedFd,
    failure: OwnedFd,
}

/// Makes the child, which then waits at the gate. `lifeline` closes when nobody wants it any more.
/// `watch` tells of the keeper's children.
pub(super) fn make(
    lifeline: BorrowedFd<'_>,
    watch: &ChildWatch,
    stdio: &[OwnedFd; 3],
    program: &Program,
) -> Result<Newborn, ChildFailure> {
    let fork_failed = |errno| ChildFailure::at(Stage::Fork, errno);
    let (gate_read, gate) = pipe2(OFlag::O_CLOEXEC).map_err(fork_failed)?;
    let (failure, failure_write) = pipe2(OFlag::O_CLOEXEC).map_err(fork_failed)?;
    let ends = Ends { gate: gate_read, failure: failure_write };
    let Some(namespaces) = &program.sandbox.namespaces else {
        // SAFETY: this process has one thread, so that the copy may do whatever this one may.
        return match unsafe { fork() }.map_err(fork_failed)? {
            ForkResult::Child => {
                let failed = become_program(&ends, stdio, program);
                failed.tell(&ends.failure);
                leave()
            }
            ForkResult::Parent { child } => Ok(Newborn { pid: child, init: None, sockets: Vec::new(), gate, failure }),
        };
    };
    let init = start_init(stdio, program, namespaces, &ends)?;
    // From here on the other ends live in the namespace alone, so that their end can be seen.
    drop(ends);
    meet(init, lifeline, watch, gate, failure)
}

/// Makes process 1 of new namespaces.
fn start_init(
    stdio: &[OwnedFd; 3],
    program: &Program,
    namespaces: &Namespaces,
    ends: &Ends,
) -> Result<Init, ChildFailure> {
    let fail = |failed: ChildFailure| failed.tell(&ends.failure);
    let init = match namespaces.maker {
        Maker::Own => sandbox::start_init(namespaces, || become_program(ends, stdio, program), fail)?,
        Maker::Bwrap => {
            let frame = Command::Prepare(Box::new(program.clone())).encode();
            let frame = frame.ok_or_else(|| ChildFailure::at(Stage::Setup, Errno::E2BIG))?;
            let [stdin, stdout, stderr] = stdio;
            let fds = [&ends.gate, &ends.failure, stdin, stdout, stderr];
            let marker = program.envp.last();
            sandbox::start_bwrap(namespaces, &Handover { frame: &frame, fds, marker }, fail)?
        }
    };
    Ok(init)
}

/// Lets process 1 make the program's process.
fn meet(
    mut init: Init,
    lifeline: BorrowedFd<'_>,
    watch: &ChildWatch,
    gate: OwnedFd,
    failure: OwnedFd,
) -> Result<Newborn, ChildFailure> {
    let mut sockets = Vec::new();
    loop {
        let mut fds = [init.as_fd(), lifeline, watch.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(give_up(&init, ChildFailure::at(Stage::Fork, errno))),
            Ok(_) => {}
        }
        if fds.get(1).and_then(PollFd::any).unwrap_or(false) {
            // The host sends nothing before it has heard of the child: it has gone, or has lost its patience.
            return Err(give_up(&init, ChildFailure::at(Stage::Fork, Errno::EPIPE)));
        }
        if fds.get(2).and_then(PollFd::any).unwrap_or(false) {
            watch.drain();
        }
        match init.receive() {
            // The process that it has made may live on: nobody would see that end.
            InitReport::Nothing if init.maker_has_ended() => return Err(lost(&init, &failure)),
            InitReport::Ready(first) => {
                if let Err(error) = init.admit(first) {
                    return Err(give_up(&init, error.into()));
                }
            }
            InitReport::Listeners(listeners) => sockets = listeners,
            InitReport::Program(pid) => return Ok(Newborn { pid, init: Some(init), sockets, gate, failure }),
            InitReport::Nothing | InitReport::Exited(_) => {}
            InitReport::End => return Err(lost(&init, &failure)),
        }
    }
}

/// Why process 1 has gone, or will not come.
fn lost(init: &Init, failure: &OwnedFd) -> ChildFailure {
    // First: a program that waits holds the pipe, too.
    end(init);
    let told = ChildFailure::hear(failure).or_else(|| init.failure().map(ChildFailure::from));
    told.unwrap_or_else(|| ChildFailure::at(Stage::Fork, Errno::ECHILD))
}

/// Ends process 1 and with it its namespace.
fn give_up(init: &Init, failure: ChildFailure) -> ChildFailure {
    end(init);
    failure
}

/// Ends process 1, and the kernel with it everything in its namespace; returns when all of it has gone. What `bwrap` left
/// behind on its way ends, too: the keeper is its subreaper, and has no other children yet.
pub(super) fn end(init: &Init) {
    let _ = init.kill();
    let own = getpid().as_raw();
    containment::end_all(|| containment::descendants(&[own], &|_| false), collect_all);
}

/// Collects everything that has ended, whatever it was.
fn collect_all() -> Proof {
    loop {
        match wait_any() {
            Ok(Some(_)) => {}
            Ok(None) => return Proof::SomeLeft,
            Err(Errno::ECHILD) => return Proof::NoneLeft,
            Err(_) => return Proof::Unknown,
        }
    }
}

/// Serves as process 1 of namespaces that `bwrap` has made, for a keeper that has put the numbers of descriptors into
/// `args`; never returns. The process must have one thread, and must have opened nothing.
pub fn serve_as_init(args: impl Iterator<Item = OsString>) -> ! {
    sandbox::be_opaque();
    let fds: Option<Vec<OwnedFd>> = args.map(|number| adopt(&number)).collect();
    // `bwrap` may have left something open.
    linux::close_all_but(&fds.iter().flatten().map(AsRawFd::as_raw_fd).collect::<Vec<_>>());
    let fds = fds.and_then(|fds| <[OwnedFd; 7]>::try_from(fds).ok());
    let Some([control, program, gate, failure, stdin, stdout, stderr]) = fds else { leave() };
    let Some((expected, frame)) = sandbox::take_over(program) else { leave() };
    // Without the length that a stream needs.
    let command = frame.get(4..).and_then(Command::decode);
    let Some(Command::Prepare(program)) = command else { leave() };
    let Some(namespaces) = &program.sandbox.namespaces else { leave() };
    let (ends, stdio) = (Ends { gate, failure }, [stdin, stdout, stderr]);
    sandbox::serve_made(
        namespaces,
        &control,
        &expected,
        || become_program(&ends, &stdio, &program),
        |failed| failed.tell(&ends.failure),
    )
}

/// Takes an inherited descriptor over, and closes it on exec from here on.
fn adopt(number: &OsStr) -> Option<OwnedFd> {
    let number: RawFd = number.to_str()?.parse().ok().filter(|number| *number > 2)?;
    // SAFETY: only looked at; where it is not open, this fails.
    let inherited = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(inherited, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).ok()?;
    // SAFETY: open, as just seen, and nobody else's: this process has opened nothing by itself yet.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// From the fork to the program, in the child; returns only what went wrong.
fn become_program(ends: &Ends, stdio: &[OwnedFd; 3], program: &Program) -> ChildFailure {
    // The child must not keep the lifeline, nor its own gate, open.
    let keep = [&ends.gate, &ends.failure, &stdio[0], &stdio[1], &stdio[2]].map(AsRawFd::as_raw_fd);
    linux::close_all_but(&keep);
    match execute(&ends.gate, stdio, program) {
        Ok(never) => match never {},
        Err(failed) => failed,
    }
}

fn execute(gate: &OwnedFd, stdio: &[OwnedFd; 3], program: &Program) -> Result<Infallible, ChildFailure> {
    let setup = |errno| ChildFailure::at(Stage::Setup, errno);
    setsid().map_err(setup)?;
    reset_signals().map_err(setup)?;
    attributes::be_as_usual();
    let [stdin, stdout, stderr] = stdio;
    nix::unistd::dup2_stdin(stdin).map_err(setup)?;
    nix::unistd::dup2_stdout(stdout).map_err(setup)?;
    nix::unistd::dup2_stderr(stderr).map_err(setup)?;
    sandbox::enter(&program.cwd, program.cwd_identity).map_err(|errno| ChildFailure::at(Stage::Cwd, errno))?;
    sandbox::restrict(&program.sandbox)?;
    let mut go = [0];
    if !read_exactly(gate.as_fd(), &mut go).map_err(setup)? {
        // The keeper has gone, and there is nobody to tell.
        leave();
    }
    let path: &CStr = program.argv.first().ok_or_else(|| ChildFailure::at(Stage::Exec, Errno::ENOENT))?;
    // All else that is open here closes on exec.
    execve(path, &program.argv, &program.envp).map_err(|errno| ChildFailure::at(Stage::Exec, errno))
}

/// As a shell would start it: nothing ignored, nothing blocked. Programs inherit both, and SIGPIPE most of all matters.
fn reset_signals() -> nix::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator().filter(|signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: the default action runs no code of ours.
        unsafe { sigaction(signal, &default) }?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}
