//! The keeper: one process for each run, between zygote and child.
//!
//! It is its descendants' subreaper, so that none can leave its tree, and ends the tree when the host says so or is
//! gone. Single-threaded, in a session of its own, deaf to every signal but SIGKILL.

use std::convert::Infallible;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, kill, sigaction, sigprocmask};
use nix::sys::socket::{MsgFlags, send};
use nix::unistd::{ForkResult, Pid, execve, fork, getpid, pipe2, read, setsid, write};

use super::containment::{self, Proof, descendants};
use super::event::{Contained, Exit, ExitStatus, StopSignal, Usage};
use super::linux::{self, ChildWatch};
use super::wire::{Born, Command, MAX_FRAME, MAX_NAMED, Program, Report, Stage};

/// What the zygote hands to a new keeper.
#[derive(Debug)]
pub(super) struct KeeperFds {
    /// Commands, reports, and the sign that the host lives.
    pub(super) lifeline: OwnedFd,
    /// The child's standard streams.
    pub(super) stdio: [OwnedFd; 3],
}

/// The pipes between keeper and the child that waits.
struct Gate {
    /// Written to when the child may execute; its end, too, tells the child.
    open: Option<OwnedFd>,
    /// Closed by a successful exec; otherwise says what failed.
    failure: Option<OwnedFd>,
}

/// The next step of a stop.
struct Stopping {
    terminate_at: Option<Instant>,
    kill_at: Instant,
}

struct Keeper {
    lifeline: OwnedFd,
    watch: ChildWatch,
    child: Pid,
    gate: Gate,
    exited: bool,
    stopping: Option<Stopping>,
}

/// Leaves this process without running anything of the program that it was forked from.
pub(super) fn leave() -> ! {
    // SAFETY: ends the process; takes a number only.
    unsafe { libc::_exit(0) }
}

/// Does a keeper's work in a process just forked, and ends it.
pub(super) fn run_keeper(fds: KeeperFds) -> ! {
    let raw = |fd: &OwnedFd| fd.as_raw_fd();
    let [stdin, stdout, stderr] = &fds.stdio;
    linux::close_all_but(&[raw(&fds.lifeline), raw(stdin), raw(stdout), raw(stderr)]);
    linux::set_process_name(c"ostler-keeper");
    let _ = setsid();
    let Ok(Some(Command::Prepare(program))) = read_command(fds.lifeline.as_fd()) else { leave() };
    match Keeper::begin(fds, &program) {
        Ok(mut keeper) => keeper.serve(),
        Err((lifeline, errno)) => {
            report(lifeline.as_fd(), &Report::Failed { stage: Stage::Fork, errno: errno as i32 });
            leave()
        }
    }
}

impl Keeper {
    /// Forks the child, which then waits at the gate.
    fn begin(fds: KeeperFds, program: &Program) -> Result<Self, (OwnedFd, Errno)> {
        let KeeperFds { lifeline, stdio } = fds;
        let parts = || {
            linux::become_subreaper()?;
            let watch = ChildWatch::new()?;
            let gate = pipe2(OFlag::O_CLOEXEC)?;
            let failure = pipe2(OFlag::O_CLOEXEC)?;
            Ok((watch, gate, failure))
        };
        let (watch, (gate_read, gate_write), (failure_read, failure_write)) = match parts() {
            Ok(parts) => parts,
            Err(errno) => return Err((lifeline, errno)),
        };
        // SAFETY: this process has one thread, so that the copy may do whatever this one may.
        match unsafe { fork() } {
            Ok(ForkResult::Child) => {
                // The child must not keep the lifeline, nor its own gate, open.
                let keep = [&gate_read, &failure_write, &stdio[0], &stdio[1], &stdio[2]].map(AsRawFd::as_raw_fd);
                linux::close_all_but(&keep);
                let (stage, errno) = match become_child(&gate_read, &stdio, program) {
                    Ok(never) => match never {},
                    Err(failed) => failed,
                };
                let mut message = [0; 5];
                message[0] = stage.code();
                message[1..].copy_from_slice(&(errno as i32).to_le_bytes());
                let _ = write(&failure_write, &message);
                leave()
            }
            Ok(ForkResult::Parent { child }) => Ok(Self {
                lifeline,
                watch,
                child,
                gate: Gate { open: Some(gate_write), failure: Some(failure_read) },
                exited: false,
                stopping: None,
            }),
            Err(errno) => Err((lifeline, errno)),
        }
    }

    fn serve(&mut self) -> ! {
        // A child that has failed already is a zombie until it is collected, and can still be described.
        let born = |pid: Pid| {
            let start_ticks = linux::process(pid.as_raw()).map_or(0, |process| process.start_ticks);
            Born { pid: pid.as_raw(), start_ticks }
        };
        self.report(&Report::Prepared { keeper: born(getpid()), child: born(self.child) });
        loop {
            let (failure, watch, lifeline) = self.wait();
            if failure {
                self.read_failure();
            }
            if watch {
                self.watch.drain();
                if self.reap() == Proof::NoneLeft && self.exited {
                    self.report(&Report::Contained(Contained::default()));
                    leave();
                }
            }
            if lifeline {
                match read_command(self.lifeline.as_fd()) {
                    Ok(Some(Command::Start)) => {
                        if let Some(gate) = self.gate.open.take() {
                            let _ = write(&gate, b"g");
                        }
                    }
                    Ok(Some(Command::Stop { first, grace })) => self.stop(first, grace),
                    // The order to end, the host's end, or a host gone mad.
                    Ok(Some(Command::Contain | Command::Prepare(_)) | None) | Err(_) => self.contain(),
                }
            }
            self.stop_further();
        }
    }

    /// Waits for the gate's answer, an ended child, the host, or the next step of a stop.
    fn wait(&self) -> (bool, bool, bool) {
        let next = self.stopping.as_ref().map(|stopping| stopping.terminate_at.unwrap_or(stopping.kill_at));
        let timeout = next.map_or(PollTimeout::NONE, |at| {
            // One more, so that the step is due when this returns.
            let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = vec![
            PollFd::new(self.watch.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.lifeline.as_fd(), PollFlags::POLLIN),
        ];
        if let Some(failure) = &self.gate.failure {
            fds.push(PollFd::new(failure.as_fd(), PollFlags::POLLIN));
        }
        if poll(&mut fds, timeout).is_err() {
            return (false, false, false);
        }
        let ready = |index: usize| fds.get(index).and_then(PollFd::any).unwrap_or(false);
        (ready(2), ready(0), ready(1))
    }

    /// The child has executed its program, or failed to.
    fn read_failure(&mut self) {
        let Some(failure) = self.gate.failure.take() else { return };
        let mut message = [0; 5];
        match read(&failure, &mut message) {
            Ok(5) => {
                let [stage, number @ ..] = message;
                let failed = Report::Failed { stage: Stage::from_code(stage), errno: i32::from_le_bytes(number) };
                // Nothing is left when the host hears of it.
                let _ = nix::sys::wait::waitpid(self.child, None);
                self.report(&failed);
                leave()
            }
            _ => self.report(&Report::Started),
        }
    }

    /// Collects everything that has ended.
    fn reap(&mut self) -> Proof {
        loop {
            let (pid, status, usage) = match wait_any() {
                Ok(Some(ended)) => ended,
                Ok(None) => return Proof::SomeLeft,
                Err(Errno::ECHILD) => return Proof::NoneLeft,
                Err(_) => return Proof::Unknown,
            };
            if pid == self.child.as_raw() {
                if self.gate.failure.is_some() {
                    self.read_failure();
                }
                self.exited = true;
                self.report(&Report::Exited(Exit { status, usage }));
            }
        }
    }

    fn stop(&mut self, first: StopSignal, grace: Duration) {
        if grace.is_zero() {
            self.contain();
        }
        let now = Instant::now();
        // A grace beyond all time is one that never ends by itself.
        let far = now + Duration::from_secs(365 * 86_400);
        let kill_at = now.checked_add(grace).unwrap_or(far);
        let terminate_at = match first {
            StopSignal::Interrupt => {
                if !self.exited {
                    let _ = kill(Pid::from_raw(-self.child.as_raw()), Signal::SIGINT);
                }
                Some(now.checked_add(grace / 2).unwrap_or(far))
            }
            StopSignal::Terminate => {
                self.terminate_all();
                None
            }
        };
        self.stopping = Some(Stopping { terminate_at, kill_at });
    }

    /// Takes the steps that are due.
    fn stop_further(&mut self) {
        let now = Instant::now();
        let Some(stopping) = &mut self.stopping else { return };
        if now >= stopping.kill_at {
            self.contain();
        }
        if stopping.terminate_at.is_some_and(|at| now >= at) {
            stopping.terminate_at = None;
            self.terminate_all();
        }
    }

    fn terminate_all(&self) {
        for process in descendants(&[getpid().as_raw()], &|_| false) {
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGTERM);
        }
    }

    /// Ends the whole tree, reports, and ends this process.
    fn contain(&mut self) -> ! {
        let own = getpid().as_raw();
        if !self.exited && linux::process(own).is_none() {
            // Without a readable /proc nothing can be searched; this at least is known.
            let _ = kill(Pid::from_raw(-self.child.as_raw()), Signal::SIGKILL);
        }
        let ended = containment::end_all(|| descendants(&[own], &|_| false), || self.reap());
        let child = self.child.as_raw();
        let not_child = |left: &super::Leftover| left.pid != child;
        let mut killed: Vec<_> = ended.killed.into_iter().filter(not_child).collect();
        let killed_total = killed.len();
        killed.truncate(MAX_NAMED);
        self.report(&Report::Contained(Contained {
            killed,
            killed_total,
            survivors: ended.survivors,
            keeper_lost: false,
        }));
        leave()
    }

    fn report(&self, report: &Report) {
        self::report(self.lifeline.as_fd(), report);
    }
}

/// Sends a report; a host that is gone, or that has not read for ages, does not get it.
pub(super) fn report(lifeline: BorrowedFd<'_>, report: &Report) {
    if let Some(frame) = report.encode() {
        let _ = send(lifeline.as_raw_fd(), &frame, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT);
    }
}

/// Reads one whole command; nothing when the host is gone.
fn read_command(lifeline: BorrowedFd<'_>) -> nix::Result<Option<Command>> {
    let mut header = [0; 4];
    if !read_exactly(lifeline, &mut header)? {
        return Ok(None);
    }
    let length = u32::from_le_bytes(header) as usize;
    if length > MAX_FRAME {
        return Err(Errno::EMSGSIZE);
    }
    let mut body = vec![0; length];
    if !read_exactly(lifeline, &mut body)? {
        return Ok(None);
    }
    Command::decode(&body).map(Some).ok_or(Errno::EBADMSG)
}

fn read_exactly(fd: BorrowedFd<'_>, mut buffer: &mut [u8]) -> nix::Result<bool> {
    while !buffer.is_empty() {
        match read(fd, buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => buffer = buffer.get_mut(count..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(true)
}

/// Collects one ended child with what it used; nothing if none has ended yet.
fn wait_any() -> nix::Result<Option<(i32, ExitStatus, Usage)>> {
    let mut status = 0;
    // SAFETY: all zeros is a valid value of this plain structure.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live, writable values of the right types.
    let pid = Errno::result(unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut usage) })?;
    if pid == 0 {
        return Ok(None);
    }
    let status = if libc::WIFSIGNALED(status) {
        ExitStatus::Signal(libc::WTERMSIG(status))
    } else {
        ExitStatus::Code(libc::WEXITSTATUS(status))
    };
    let time = |value: libc::timeval| {
        Duration::from_secs(value.tv_sec.try_into().unwrap_or(0))
            + Duration::from_micros(value.tv_usec.try_into().unwrap_or(0))
    };
    let peak_rss = u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024;
    Ok(Some((pid, status, Usage { user: time(usage.ru_utime), system: time(usage.ru_stime), peak_rss })))
}

/// From the fork to the program, in the child.
fn become_child(gate: &OwnedFd, stdio: &[OwnedFd; 3], program: &Program) -> Result<Infallible, (Stage, Errno)> {
    let setup = |errno| (Stage::Setup, errno);
    setsid().map_err(setup)?;
    reset_signals().map_err(setup)?;
    let [stdin, stdout, stderr] = stdio;
    nix::unistd::dup2_stdin(stdin).map_err(setup)?;
    nix::unistd::dup2_stdout(stdout).map_err(setup)?;
    nix::unistd::dup2_stderr(stderr).map_err(setup)?;
    nix::unistd::chdir(program.cwd.as_c_str()).map_err(|errno| (Stage::Cwd, errno))?;
    let mut go = [0];
    if !read_exactly(gate.as_fd(), &mut go).map_err(setup)? {
        // The keeper has gone, and there is nobody to tell.
        leave();
    }
    let path: &CStr = program.argv.first().ok_or((Stage::Exec, Errno::ENOENT))?;
    // All else that is open here closes on exec.
    execve(path, &program.argv, &program.envp).map_err(|errno| (Stage::Exec, errno))
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

/// Makes zygote and keepers deaf to what a terminal or a service manager sends to everything at once.
pub(super) fn ignore_signals() {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
        Signal::SIGPIPE,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
    ] {
        // SAFETY: ignoring runs no code of ours.
        let _ = unsafe { sigaction(signal, &ignore) };
    }
    // Ignored, it would take the children's exit status with it.
    // SAFETY: the default action runs no code of ours.
    let _ = unsafe { sigaction(Signal::SIGCHLD, &default) };
}
