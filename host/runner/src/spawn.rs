//! How a keeper makes its child: a process that waits at a gate and then executes the program.

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
use super::terminal;
use super::wire::{Command, Program, Report, Stage};

/// The largest step text in a failure message, in bytes.
const MAX_STEP: usize = 512;

/// Why the program did not start.
pub(super) struct ChildFailure {
    stage: Stage,
    errno: Errno,
    /// What was tried, if the stage does not say it.
    step: String,
}

impl ChildFailure {
    pub(super) fn at(stage: Stage, errno: Errno) -> Self {
        Self { stage, errno, step: String::new() }
    }

    pub(super) fn report(&self) -> Report {
        Report::Failed { stage: self.stage, errno: self.errno as i32, step: self.step.clone() }
    }

    /// Sends the failure to the keeper, from a process that then ends.
    fn send(&self, failure: &OwnedFd) {
        let mut message = vec![self.stage.code()];
        message.extend_from_slice(&(self.errno as i32).to_le_bytes());
        message.extend_from_slice(self.step.as_bytes().get(..MAX_STEP).unwrap_or(self.step.as_bytes()));
        let _ = write(failure, &message);
    }

    /// Reads what a process sent with [`Self::send`]. `None` if it closed the pipe without a message: then the program
    /// runs.
    pub(super) fn receive(failure: &OwnedFd) -> Option<Self> {
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

/// A child that waits at the gate.
pub(super) struct WaitingChild {
    pub(super) pid: Pid,
    /// Process 1 of its namespaces, if it has any.
    pub(super) init: Option<Init>,
    /// Sockets of its network.
    pub(super) sockets: Vec<OwnedFd>,
    /// A byte is written here when the child may execute. Closing it ends the child.
    pub(super) gate: OwnedFd,
    /// Closed by a successful exec; otherwise says what failed.
    pub(super) failure: OwnedFd,
}

/// The child's ends of the pipes.
struct ChildPipes {
    gate: OwnedFd,
    failure: OwnedFd,
}

/// Makes the child, which then waits at the gate. `lifeline` closes when the host no longer wants the child.
/// `watch` reports ended children of the keeper.
pub(super) fn make(
    lifeline: BorrowedFd<'_>,
    watch: &ChildWatch,
    stdio: &[OwnedFd; 3],
    program: &Program,
) -> Result<WaitingChild, ChildFailure> {
    let fork_failed = |errno| ChildFailure::at(Stage::Fork, errno);
    let (gate_read, gate) = pipe2(OFlag::O_CLOEXEC).map_err(fork_failed)?;
    let (failure, failure_write) = pipe2(OFlag::O_CLOEXEC).map_err(fork_failed)?;
    let pipes = ChildPipes { gate: gate_read, failure: failure_write };
    let Some(namespaces) = &program.sandbox.namespaces else {
        // SAFETY: this process has one thread, so that the copy may do the same as this one.
        return match unsafe { fork() }.map_err(fork_failed)? {
            ForkResult::Child => {
                let failed = become_program(&pipes, stdio, program);
                failed.send(&pipes.failure);
                leave()
            }
            ForkResult::Parent { child } => {
                Ok(WaitingChild { pid: child, init: None, sockets: Vec::new(), gate, failure })
            }
        };
    };
    let init = start_init(stdio, program, namespaces, &pipes)?;
    // From here on the other ends exist in the namespace alone, so that their closing is noticed.
    drop(pipes);
    wait_for_program(init, lifeline, watch, gate, failure)
}

/// Makes process 1 of new namespaces.
fn start_init(
    stdio: &[OwnedFd; 3],
    program: &Program,
    namespaces: &Namespaces,
    pipes: &ChildPipes,
) -> Result<Init, ChildFailure> {
    let fail = |failed: ChildFailure| failed.send(&pipes.failure);
    let init = match namespaces.maker {
        Maker::Own => sandbox::start_init(namespaces, || become_program(pipes, stdio, program), fail)?,
        Maker::Bwrap => {
            let frame = Command::Prepare(Box::new(program.clone())).encode();
            let frame = frame.ok_or_else(|| ChildFailure::at(Stage::Setup, Errno::E2BIG))?;
            let [stdin, stdout, stderr] = stdio;
            let fds = [&pipes.gate, &pipes.failure, stdin, stdout, stderr];
            let marker = program.envp.last();
            sandbox::start_bwrap(namespaces, &Handover { frame: &frame, fds, marker }, fail)?
        }
    };
    Ok(init)
}

/// Lets process 1 make the program's process, and waits until it exists.
fn wait_for_program(
    mut init: Init,
    lifeline: BorrowedFd<'_>,
    watch: &ChildWatch,
    gate: OwnedFd,
    failure: OwnedFd,
) -> Result<WaitingChild, ChildFailure> {
    let mut sockets = Vec::new();
    loop {
        let mut fds = [init.as_fd(), lifeline, watch.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(end_and_fail(&init, ChildFailure::at(Stage::Fork, errno))),
            Ok(_) => {}
        }
        if fds.get(1).and_then(PollFd::any).unwrap_or(false) {
            // The host sends nothing before the child is reported: it has gone, or its timeout has passed.
            return Err(end_and_fail(&init, ChildFailure::at(Stage::Fork, Errno::EPIPE)));
        }
        if fds.get(2).and_then(PollFd::any).unwrap_or(false) {
            watch.drain();
        }
        match init.receive() {
            // The process that it has made may live on, and its end would not be noticed.
            InitReport::Nothing if init.maker_has_ended() => return Err(lost(&init, &failure)),
            InitReport::Ready(first) => {
                if let Err(error) = init.admit(first) {
                    return Err(end_and_fail(&init, error.into()));
                }
            }
            InitReport::Listeners(listeners) => sockets = listeners,
            InitReport::Program(pid) => return Ok(WaitingChild { pid, init: Some(init), sockets, gate, failure }),
            InitReport::Nothing | InitReport::Exited(_) => {}
            InitReport::End => return Err(lost(&init, &failure)),
        }
    }
}

/// Why process 1 has gone, or will not come.
fn lost(init: &Init, failure: &OwnedFd) -> ChildFailure {
    // First, because a waiting program also holds the pipe open.
    end(init);
    let reported = ChildFailure::receive(failure).or_else(|| init.failure().map(ChildFailure::from));
    reported.unwrap_or_else(|| ChildFailure::at(Stage::Fork, Errno::ECHILD))
}

/// Ends process 1 and with it its namespace; returns the failure.
fn end_and_fail(init: &Init, failure: ChildFailure) -> ChildFailure {
    end(init);
    failure
}

/// Ends process 1, and the kernel with it everything in its namespace; returns when all of it has gone. What `bwrap`
/// left behind ends, too: the keeper is its subreaper, and has no other children yet.
pub(super) fn end(init: &Init) {
    let _ = init.kill();
    let own = getpid().as_raw();
    containment::end_all(|| containment::descendants(&[own], &|_| false), collect_all);
}

/// Collects all ended children.
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

/// Serves as process 1 of namespaces that `bwrap` has made; never returns. The keeper passes the numbers of descriptors
/// in `args`. The process must have one thread, and must have opened nothing.
pub fn serve_as_init(args: impl Iterator<Item = OsString>) -> ! {
    sandbox::be_opaque();
    let fds: Option<Vec<OwnedFd>> = args.map(|number| adopt(&number)).collect();
    // `bwrap` may have left something open.
    linux::close_all_but(&fds.iter().flatten().map(AsRawFd::as_raw_fd).collect::<Vec<_>>());
    let fds = fds.and_then(|fds| <[OwnedFd; 7]>::try_from(fds).ok());
    let Some([control, program, gate, failure, stdin, stdout, stderr]) = fds else { leave() };
    let Some((expected, frame)) = sandbox::take_over(program) else { leave() };
    // The first four bytes are the length of the frame.
    let command = frame.get(4..).and_then(Command::decode);
    let Some(Command::Prepare(program)) = command else { leave() };
    let Some(namespaces) = &program.sandbox.namespaces else { leave() };
    let (pipes, stdio) = (ChildPipes { gate, failure }, [stdin, stdout, stderr]);
    sandbox::serve_made(
        namespaces,
        &control,
        &expected,
        || become_program(&pipes, &stdio, &program),
        |failed| failed.send(&pipes.failure),
    )
}

/// Takes over an inherited descriptor and sets it to close on exec.
fn adopt(number: &OsStr) -> Option<OwnedFd> {
    let number: RawFd = number.to_str()?.parse().ok().filter(|number| *number > 2)?;
    // SAFETY: only looked at; where it is not open, this fails.
    let inherited = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(inherited, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).ok()?;
    // SAFETY: open, as just seen, and without another owner: this process has opened nothing by itself yet.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Executes the program, in the forked child. Returns only on failure.
fn become_program(pipes: &ChildPipes, stdio: &[OwnedFd; 3], program: &Program) -> ChildFailure {
    // The child must not keep the lifeline, nor its own gate, open.
    let keep = [&pipes.gate, &pipes.failure, &stdio[0], &stdio[1], &stdio[2]].map(AsRawFd::as_raw_fd);
    linux::close_all_but(&keep);
    match execute(&pipes.gate, stdio, program) {
        Ok(never) => match never {},
        Err(failed) => failed,
    }
}

fn execute(gate: &OwnedFd, stdio: &[OwnedFd; 3], program: &Program) -> Result<Infallible, ChildFailure> {
    let setup = |errno| ChildFailure::at(Stage::Setup, errno);
    setsid().map_err(setup)?;
    reset_signals().map_err(setup)?;
    attributes::set_child_attributes();
    let [stdin, stdout, stderr] = stdio;
    match program.terminal {
        None => {
            nix::unistd::dup2_stdin(stdin).map_err(setup)?;
            nix::unistd::dup2_stdout(stdout).map_err(setup)?;
            nix::unistd::dup2_stderr(stderr).map_err(setup)?;
        }
        // All three are the socket to the host.
        Some(size) => terminal::open(size, stdin).map_err(|errno| ChildFailure::at(Stage::Terminal, errno))?,
    }
    sandbox::enter(&program.cwd, program.cwd_identity).map_err(|errno| ChildFailure::at(Stage::Cwd, errno))?;
    sandbox::restrict(&program.sandbox, program.terminal.is_some())?;
    let mut go = [0];
    if !read_exactly(gate.as_fd(), &mut go).map_err(setup)? {
        // The keeper has gone, so the failure cannot be reported.
        leave();
    }
    let path: &CStr = program.argv.first().ok_or_else(|| ChildFailure::at(Stage::Exec, Errno::ENOENT))?;
    // All other open descriptors close on exec.
    execve(path, &program.argv, &program.envp).map_err(|errno| ChildFailure::at(Stage::Exec, errno))
}

/// Resets all signals, as a shell does: none ignored, none blocked. Programs inherit both; SIGPIPE matters most.
fn reset_signals() -> nix::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator().filter(|signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: the default action runs no code of ours.
        unsafe { sigaction(signal, &default) }?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}
