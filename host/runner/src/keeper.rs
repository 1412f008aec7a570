//! The keeper: one process for each run, between zygote and child.
//!
//! It is its descendants' subreaper, so that none can leave its tree, and ends the tree when the host says so or is
//! gone. Single-threaded, in a session of its own; it ignores the signals that can be ignored.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use nix::unistd::{Pid, getpid, read, setsid, write};
use ostler_reaper::Reaped;

use super::containment::{self, Ended, Proof, descendants};
use super::event::{Contained, Exit, ExitStatus, StopSignal, Usage};
use super::linux::{self, ChildWatch};
use super::placeholders::Placeholders;
use super::sandbox::{self, Init, InitReport};
use super::spawn::{self, ChildFailure, WaitingChild};
use super::wire::{Command, MAX_FRAME, MAX_NAMED, ProcessKey, Program, Report};

/// What the zygote hands to a new keeper.
#[derive(Debug)]
pub(super) struct KeeperFds {
    /// Carries commands and reports. Open as long as the host lives.
    pub(super) lifeline: OwnedFd,
    /// The child's standard streams.
    pub(super) stdio: [OwnedFd; 3],
}

/// The pipes between keeper and the child that waits.
struct Gate {
    /// A byte is written here when the child may execute. Closing it ends the child.
    open: Option<OwnedFd>,
    /// Closed by a successful exec; otherwise says what failed.
    failure: Option<OwnedFd>,
}

/// The sources that are ready to be read.
#[derive(Default)]
struct ReadySources {
    failure: bool,
    watch: bool,
    lifeline: bool,
    init: bool,
}

/// The next step of a stop.
struct Stopping {
    terminate_at: Option<Instant>,
    kill_at: Instant,
}

struct Keeper {
    lifeline: OwnedFd,
    watch: ChildWatch,
    /// Process 1 of the child's namespaces, if it has any.
    init: Option<Init>,
    /// Whether process 1 may still send reports.
    init_connected: bool,
    child: Pid,
    /// Sockets of the child's network, until the host has them.
    sockets: Vec<OwnedFd>,
    gate: Gate,
    /// Empty files and folders at protected paths that are missing, until the tree has ended.
    placeholders: Placeholders,
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
    sandbox::be_opaque();
    let _ = setsid();
    let Ok(Some(Command::Prepare(program))) = read_command(fds.lifeline.as_fd()) else { leave() };
    match Keeper::begin(fds, &program) {
        Ok(mut keeper) => keeper.serve(),
        Err((lifeline, failure)) => {
            report(lifeline.as_fd(), &failure.report());
            leave()
        }
    }
}

impl Keeper {
    /// Makes the child, which then waits at the gate.
    fn begin(fds: KeeperFds, program: &Program) -> Result<Self, (OwnedFd, ChildFailure)> {
        let KeeperFds { lifeline, stdio } = fds;
        let made = linux::become_subreaper()
            .and_then(|()| ChildWatch::new())
            .map_err(|errno| ChildFailure::at(super::wire::Stage::Fork, errno))
            .and_then(|watch| {
                let placeholders = Placeholders::make(&program.sandbox.placeholders);
                let waiting = spawn::make(lifeline.as_fd(), &watch, &stdio, program)?;
                Ok((watch, placeholders, waiting))
            });
        match made {
            Ok((watch, placeholders, WaitingChild { pid, init, sockets, gate, failure })) => Ok(Self {
                placeholders,
                lifeline,
                watch,
                init_connected: init.is_some(),
                init,
                child: pid,
                sockets,
                gate: Gate { open: Some(gate), failure: Some(failure) },
                exited: false,
                stopping: None,
            }),
            Err(failure) => Err((lifeline, failure)),
        }
    }

    fn serve(&mut self) -> ! {
        // A child that has failed already is a zombie until it is collected, and can still be described.
        let born = |pid: Pid| {
            let start_ticks = linux::process(pid.as_raw()).map_or(0, |process| process.start_ticks);
            ProcessKey { pid: pid.as_raw(), start_ticks }
        };
        let sockets = std::mem::take(&mut self.sockets);
        report_with(
            self.lifeline.as_fd(),
            &Report::Prepared { keeper: born(getpid()), child: born(self.child) },
            &sockets,
        );
        drop(sockets);
        loop {
            let ReadySources { failure, watch, lifeline, init } = self.wait();
            if failure {
                self.read_failure();
            }
            if init {
                self.read_init_reports();
            }
            if watch {
                self.watch.drain();
                if self.reap() == Proof::NoneLeft && self.exited {
                    self.placeholders.remove();
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
                    // The command to end, a closed lifeline, or an invalid command.
                    Ok(Some(Command::Contain | Command::Prepare(_)) | None) | Err(_) => self.contain(),
                }
            }
            self.advance_stop();
        }
    }

    /// Waits for the gate's answer, an ended child, the host, process 1, or the next step of a stop.
    fn wait(&self) -> ReadySources {
        let next = self.stopping.as_ref().map(|stopping| stopping.terminate_at.unwrap_or(stopping.kill_at));
        let timeout = next.map_or(PollTimeout::NONE, |at| {
            // One millisecond more, so that the step is due when this returns.
            let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = vec![
            PollFd::new(self.watch.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.lifeline.as_fd(), PollFlags::POLLIN),
        ];
        let failure = self.gate.failure.as_ref().map(|failure| {
            fds.push(PollFd::new(failure.as_fd(), PollFlags::POLLIN));
            fds.len() - 1
        });
        let init = self.init.as_ref().filter(|_| self.init_connected).map(|init| {
            fds.push(PollFd::new(init.as_fd(), PollFlags::POLLIN));
            fds.len() - 1
        });
        if poll(&mut fds, timeout).is_err() {
            return ReadySources::default();
        }
        let ready = |index: usize| fds.get(index).and_then(PollFd::any).unwrap_or(false);
        ReadySources {
            failure: failure.is_some_and(ready),
            watch: ready(0),
            lifeline: ready(1),
            init: init.is_some_and(ready),
        }
    }

    /// The child has executed its program, or failed to.
    fn read_failure(&mut self) {
        let Some(failure) = self.gate.failure.take() else { return };
        match ChildFailure::receive(&failure) {
            Some(failed) => {
                // The tree is gone before the host gets the report.
                match &self.init {
                    Some(init) => spawn::end(init),
                    None => _ = nix::sys::wait::waitpid(self.child, None),
                }
                self.placeholders.remove();
                self.report(&failed.report());
                leave()
            }
            None => self.report(&Report::Started),
        }
    }

    /// Reads the reports of process 1.
    fn read_init_reports(&mut self) {
        while let Some(init) = self.init.as_ref().filter(|_| self.init_connected) {
            match init.receive() {
                InitReport::Exited(exit) => self.child_exited(exit),
                InitReport::End => self.init_connected = false,
                InitReport::Nothing => return,
                InitReport::Ready(_) | InitReport::Listeners(_) | InitReport::Program(_) => {}
            }
        }
    }

    fn child_exited(&mut self, exit: Exit) {
        if self.exited {
            return;
        }
        if self.gate.failure.is_some() {
            self.read_failure();
        }
        self.exited = true;
        self.report(&Report::Exited(exit));
    }

    /// Collects everything that has ended.
    fn reap(&mut self) -> Proof {
        self.read_init_reports();
        loop {
            let (pid, exit) = match wait_any() {
                Ok(Some(reaped)) => reaped,
                Ok(None) => return Proof::SomeLeft,
                Err(Errno::ECHILD) => return Proof::NoneLeft,
                Err(_) => return Proof::Unknown,
            };
            if pid == self.child.as_raw() {
                self.child_exited(exit);
            } else if self.init.as_ref().is_some_and(|init| init.is_own(pid)) {
                // Read its last reports first. If none names the program's exit, the kernel has ended both.
                self.read_init_reports();
                let maker = self.init.as_ref().filter(|init| init.pid.as_raw() == pid);
                if maker.is_some_and(Init::kill) {
                    // `bwrap` was killed: process 1 is this process's child now, and its exit ends the tree.
                    continue;
                }
                self.child_exited(Exit { status: sandbox::KILLED, usage: Usage::default() });
            }
        }
    }

    fn stop(&mut self, first: StopSignal, grace: Duration) {
        if grace.is_zero() {
            self.contain();
        }
        let now = Instant::now();
        // A grace that overflows is treated as one year.
        let far = now + Duration::from_secs(365 * 86_400);
        let kill_at = now.checked_add(grace).unwrap_or(far);
        let terminate_at = match first {
            StopSignal::Interrupt | StopSignal::Hangup => {
                let signal = if first == StopSignal::Hangup { Signal::SIGHUP } else { Signal::SIGINT };
                if !self.exited {
                    let _ = kill(Pid::from_raw(-self.child.as_raw()), signal);
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

    /// Takes the steps of the stop that are due.
    fn advance_stop(&mut self) {
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

    /// Ends everything below this process, one search after another.
    fn end_descendants(&mut self) -> Ended {
        let own = getpid().as_raw();
        if !self.exited && linux::process(own).is_none() {
            // Without a readable /proc no search is possible; the child's process group is known.
            let _ = kill(Pid::from_raw(-self.child.as_raw()), Signal::SIGKILL);
        }
        containment::end_all(|| descendants(&[own], &|_| false), || self.reap())
    }

    /// Ends process 1: the kernel ends everything else in its namespace, and lets go of process 1 only after that.
    fn end_namespace(&mut self) -> Ended {
        let own = getpid().as_raw();
        let find = |keeper: &Self| {
            let mut found = descendants(&[own], &|_| false);
            found.retain(|process| keeper.init.as_ref().is_none_or(|init| !init.is_own(process.pid)));
            found
        };
        if self.reap() == Proof::NoneLeft {
            return Ended::default();
        }
        let killed: Vec<_> = find(self).iter().map(containment::leftover).collect();
        if let Some(init) = &self.init {
            let _ = init.kill();
        }
        let begin = Instant::now();
        loop {
            if self.reap() == Proof::NoneLeft {
                return Ended { killed, survivors: Vec::new() };
            }
            if begin.elapsed() >= containment::SURVIVAL {
                let survivors = find(self).iter().map(containment::leftover).collect();
                return Ended { killed, survivors };
            }
            // SIGCHLD makes the watch readable.
            let left = containment::SURVIVAL.saturating_sub(begin.elapsed());
            let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
            let _ = poll(&mut [PollFd::new(self.watch.as_fd(), PollFlags::POLLIN)], timeout);
            self.watch.drain();
        }
    }

    /// Ends the whole tree, reports, and ends this process.
    fn contain(&mut self) -> ! {
        let ended = if self.init.is_some() { self.end_namespace() } else { self.end_descendants() };
        let child = self.child.as_raw();
        let not_child = |left: &super::Leftover| left.pid != child;
        let mut killed: Vec<_> = ended.killed.into_iter().filter(not_child).collect();
        let killed_total = killed.len();
        killed.truncate(MAX_NAMED);
        self.placeholders.remove();
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

/// Sends a report. It is lost if the host is gone or the socket is full.
pub(super) fn report(lifeline: BorrowedFd<'_>, report: &Report) {
    report_with(lifeline, report, &[]);
}

fn report_with(lifeline: BorrowedFd<'_>, report: &Report, sockets: &[OwnedFd]) {
    let Some(frame) = report.encode() else { return };
    let raw: Vec<RawFd> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let rights = if raw.is_empty() { &[][..] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    let _ = sendmsg::<UnixAddr>(lifeline.as_raw_fd(), &[IoSlice::new(&frame)], rights, flags, None);
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

pub(super) fn read_exactly(fd: BorrowedFd<'_>, mut buffer: &mut [u8]) -> nix::Result<bool> {
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
pub(super) fn wait_any() -> nix::Result<Option<(i32, Exit)>> {
    let reaped = ostler_reaper::wait_any(false).map_err(|error| linux::errno_of(&error))?;
    Ok(reaped.map(|(pid, reaped)| (pid, exit_of(&reaped))))
}

/// How a process ended, from what the kernel says of it.
pub(super) const fn exit_of(reaped: &Reaped) -> Exit {
    let status = if libc::WIFSIGNALED(reaped.status) {
        ExitStatus::Signal(libc::WTERMSIG(reaped.status))
    } else {
        ExitStatus::Code(libc::WEXITSTATUS(reaped.status))
    };
    let usage = Usage {
        user: Duration::from_micros(reaped.user_micros),
        system: Duration::from_micros(reaped.system_micros),
        peak_rss: reaped.peak_rss_kib.saturating_mul(1024),
    };
    Exit { status, usage }
}

/// Makes zygote and keepers ignore the signals that a terminal or a service manager sends to a whole group.
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
    // If SIGCHLD were ignored, the kernel would discard the children's exit status.
    // SAFETY: the default action runs no code of ours.
    let _ = unsafe { sigaction(Signal::SIGCHLD, &default) };
}
