//! A run's process, seen from the host.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{read, write};

use super::containment::SURVIVAL;
use super::event::{Contained, Event, Exit, ExitStatus, StopSignal, Stream, Usage};
use super::identity::ProcessIdentity;
use super::input::Input;
use super::link::{Link, Received, set_nonblocking};
use super::linux::WakeFd;
use super::spec::{SpawnError, SpawnErrorKind, SpawnLimits, SpawnSpec, Stdin};
use super::terminal::{self, ResizeRefused, TerminalSize};
use super::wire::{Command, Report};

/// How many bytes one read takes, and a pipe holds where the system allows.
pub(super) const READ_SIZE: usize = 256 * 1024;
/// How many bytes are still read after the tree has ended, from a stream that another process writes to.
const LAST_BYTES: usize = 1024 * 1024;
/// How much longer than expected a keeper may take before the host ends it.
const KEEPER_MARGIN: Duration = Duration::from_secs(3);

/// The host's ends of the child's streams.
#[derive(Debug)]
pub(super) enum Streams {
    Pipes {
        /// None if the child's input is empty and already closed.
        stdin: Option<OwnedFd>,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
    /// The socket over which the child sends its terminal before it executes the program.
    Terminal(OwnedFd),
}

/// A child that exists, with its keeper, and waits before it executes the program. Dropping it ends both.
#[derive(Debug)]
pub struct Prepared {
    link: Link,
    streams: Streams,
    wake: Arc<WakeFd>,
    executable: PathBuf,
    cwd: PathBuf,
    input: Input,
    limits: SpawnLimits,
}

/// A running child. Belongs to one thread, which calls [`Child::next`] until [`Event::Contained`].
///
/// Dropping it early ends the whole tree and waits for that (at most a few seconds).
#[derive(Debug)]
pub struct Child {
    link: Link,
    stdin: Option<OwnedFd>,
    input: Input,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    /// None with pipes. With a terminal, `stdin` and `stdout` are its master, and there is no `stderr`.
    terminal: Option<Terminal>,
    wake: Arc<WakeFd>,
    limits: SpawnLimits,
    buffer: Vec<u8>,
    ready: VecDeque<Event>,
    life: Life,
    /// When the linger ends; set by the exit.
    linger_until: Option<Instant>,
    /// When the keeper must have ended the tree; set with the command to do so.
    keeper_until: Option<Instant>,
    stopping: bool,
    /// The time for which [`Event::Deadline`] was last returned.
    reported_deadline: Option<Instant>,
}

/// How far the end of the child has progressed.
#[derive(Debug, PartialEq)]
enum Life {
    Running,
    Exited,
    /// The keeper has the command to end the tree.
    Ending,
    /// The tree has ended; the streams may still hold something.
    TreeEnded(Contained),
    /// All other events have been returned.
    Finished(Contained),
}

/// A child's terminal, without its master.
#[derive(Debug)]
struct Terminal {
    /// Held until the child has exited, because reading the master fails while no process holds it.
    slave: Option<OwnedFd>,
    /// Whether the end of the input has been queued.
    end_queued: bool,
}

impl Prepared {
    pub(super) fn new(link: Link, streams: Streams, wake: WakeFd, spec: &SpawnSpec) -> Self {
        let mut input = Input::default();
        if let Stdin::Bytes(bytes) = &spec.stdin {
            input.push(bytes.clone());
            input.closed = true;
        }
        Self {
            link,
            streams,
            wake: Arc::new(wake),
            executable: spec.executable.clone(),
            cwd: spec.cwd.clone(),
            input,
            limits: spec.limits,
        }
    }

    /// Identifies the child; record it before [`Prepared::start`].
    pub fn identity(&self) -> &ProcessIdentity {
        self.link.identity()
    }

    /// The sockets of the child's network, once: the proxy's, then those of the forwarded ports, in their order. Empty
    /// where it has the host's network.
    pub fn take_sockets(&mut self) -> Vec<OwnedFd> {
        self.link.take_sockets()
    }

    /// A handle that wakes the child's thread, available before the thread starts.
    pub fn waker(&self) -> Waker {
        Waker { wake: Arc::clone(&self.wake) }
    }

    /// Lets the child execute its program; returns when it has.
    ///
    /// # Errors
    /// The system's error for the working directory, the terminal or the program. Nothing is left behind.
    pub fn start(mut self) -> Result<Child, SpawnError> {
        self.link.start(&self.executable, &self.cwd)?;
        let Self { link, streams, wake, input, limits, .. } = self;
        let (stdin, stdout, stderr, terminal) = match streams {
            Streams::Pipes { stdin, stdout, stderr } => (stdin, stdout, Some(stderr), None),
            Streams::Terminal(socket) => {
                let (master, slave) = receive_terminal(&socket)
                    .map_err(|errno| SpawnError::system("receive the terminal of the child", errno))?;
                let terminal = Terminal { slave: Some(slave), end_queued: false };
                let input = master.try_clone().map_err(|error| {
                    SpawnError::new(SpawnErrorKind::Transient, format!("failed to copy a descriptor: {error}"))
                })?;
                (Some(input), master, None, Some(terminal))
            }
        };
        let ready = if stdin.is_none() { VecDeque::from([Event::StdinClosed]) } else { VecDeque::new() };
        let mut child = Child {
            link,
            stdin,
            input,
            stdout: Some(stdout),
            stderr,
            terminal,
            wake,
            limits,
            buffer: vec![0; READ_SIZE],
            ready,
            life: Life::Running,
            linger_until: None,
            keeper_until: None,
            stopping: false,
            reported_deadline: None,
        };
        // Bytes that came together with the answer are buffered, where `poll` does not see them.
        child.read_lifeline();
        Ok(child)
    }
}

impl Child {
    /// Identifies the child.
    pub fn identity(&self) -> &ProcessIdentity {
        self.link.identity()
    }

    /// Blocks until something happens, at most until `until`. Also moves standard input meanwhile.
    ///
    /// When `until` has passed, [`Event::Deadline`] is returned once, before any other event. Called again with the same
    /// time, this returns other events, and [`Event::Deadline`] at once if there is none.
    pub fn next(&mut self, until: Option<Instant>) -> Event {
        loop {
            if let Some(until) =
                until.filter(|until| self.reported_deadline != Some(*until) && *until <= Instant::now())
            {
                self.reported_deadline = Some(until);
                return Event::Deadline;
            }
            if let Some(event) = self.ready.pop_front() {
                return event;
            }
            if let Life::Finished(contained) = &self.life {
                return Event::Contained(contained.clone());
            }
            self.advance();
            if !self.ready.is_empty() || matches!(self.life, Life::Finished(_)) {
                continue;
            }
            let moved = self.poll(until);
            if !moved && until.is_some_and(|until| self.reported_deadline == Some(until)) {
                return Event::Deadline;
            }
        }
    }

    /// Adds input. It is written while [`Child::next`] runs. A terminal gets the bytes as if they were typed: its modes
    /// decide what they do (Ctrl-C is 3, Enter is CR), and in a terminal that edits lines, as every new one does, the
    /// kernel cuts a line at 4,095 bytes.
    ///
    /// # Errors
    /// [`WriteRefused::Closed`] after the input was closed or failed, [`WriteRefused::Full`] where more than
    /// [`SpawnLimits::stdin_queue`] would wait; nothing of `bytes` is queued then.
    pub fn write(&mut self, bytes: Vec<u8>) -> Result<(), WriteRefused> {
        if self.stdin.is_none() || self.input.closed {
            return Err(WriteRefused::Closed);
        }
        let (waiting, limit) = (self.input.waiting(), self.limits.stdin_queue);
        if waiting.saturating_add(bytes.len()) > limit {
            return Err(WriteRefused::Full { waiting, limit });
        }
        self.input.push(bytes);
        Ok(())
    }

    /// How many bytes of input wait for the child to read them.
    pub const fn input_waiting(&self) -> usize {
        self.input.waiting()
    }

    /// Ends the input after what is queued.
    ///
    /// A terminal stays open, because closing it would end the child and lose its output: its key for the end of input
    /// (VEOF, usually Ctrl-D) is sent instead, twice in the middle of a line. A program that reads lines sees the end of
    /// its input once, and can read on; one that reads single keys gets the key and does with it what it likes.
    pub fn close_stdin(&mut self) {
        self.input.closed = true;
    }

    /// Changes the size of the terminal. If it differs, the kernel sends SIGWINCH to the foreground process group.
    ///
    /// # Errors
    /// There is no terminal, or no longer.
    pub fn resize(&mut self, size: TerminalSize) -> Result<(), ResizeRefused> {
        if self.terminal.is_none() {
            return Err(ResizeRefused::NoTerminal);
        }
        let Some(master) = &self.stdout else { return Err(ResizeRefused::Closed) };
        terminal::set_size(master.as_fd(), size).map_err(ResizeRefused::System)
    }

    /// Sends SIGINT to the foreground process group of the terminal, if its modes make Ctrl-C do that. Returns whether they
    /// do. Unlike the key, it does not wait for input that nobody has read.
    pub fn interrupt_terminal(&mut self) -> bool {
        let master = self.terminal.as_ref().and(self.stdout.as_ref());
        master.is_some_and(|master| terminal::interrupt_by_modes(master.as_fd()))
    }

    /// A handle that wakes this child's thread from any other.
    pub fn waker(&self) -> Waker {
        Waker { wake: Arc::clone(&self.wake) }
    }

    /// Starts to end the tree: `first`, then SIGTERM, then SIGKILL, with `grace` divided between them. Returns at once;
    /// events continue. Further calls have no effect, except with a zero `grace`, which kills at once.
    pub fn stop(&mut self, first: StopSignal, grace: Duration) {
        if !matches!(self.life, Life::Running | Life::Exited) || (self.stopping && !grace.is_zero()) {
            return;
        }
        self.stopping = true;
        if let (Some(_), StopSignal::Interrupt, Some(master)) = (&self.terminal, first, &self.stdout) {
            terminal::interrupt_foreground(master.as_fd(), self.link.identity().pid);
        }
        self.link.send(&Command::Stop { first, grace });
        self.expect_end(grace);
    }

    /// Takes the state changes that are due.
    fn advance(&mut self) {
        let now = Instant::now();
        let open = self.stdout.is_some() || self.stderr.is_some();
        let lingered = self.linger_until.is_some_and(|until| now >= until);
        match &self.life {
            Life::Exited if !open || lingered => {
                self.link.send(&Command::Contain);
                self.life = Life::Ending;
                self.expect_end(Duration::ZERO);
            }
            Life::TreeEnded(_) if open && lingered => {
                self.drain_stream(Stream::Stdout);
                self.drain_stream(Stream::Stderr);
            }
            Life::TreeEnded(contained) if !open => self.life = Life::Finished(contained.clone()),
            Life::Running | Life::Exited | Life::Ending if self.keeper_until.is_some_and(|until| now >= until) => {
                // The answer may already be there, unread.
                self.read_lifeline();
                if !matches!(self.life, Life::TreeEnded(_)) {
                    tracing::warn!(keeper = self.identity().keeper_pid, "a keeper does not answer: ending it");
                    self.end_without_keeper();
                }
            }
            _ => {}
        }
    }

    /// Sets the deadline for the keeper to end the tree: `grace` and the time for killing, from now.
    fn expect_end(&mut self, grace: Duration) {
        let until = Instant::now().checked_add(grace.saturating_add(SURVIVAL + KEEPER_MARGIN));
        self.keeper_until = match (self.keeper_until, until) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }

    /// Waits for the next event and handles it; false if the timeout passed first.
    fn poll(&mut self, until: Option<Instant>) -> bool {
        let waits_to_write = self.stdin.is_some() && (self.input.waiting() > 0 || self.input.closed);
        let mut fds = Vec::with_capacity(5);
        let mut what = Vec::with_capacity(5);
        let mut add = |fd, flags, source| {
            fds.push(PollFd::new(fd, flags));
            what.push(source);
        };
        add(self.wake.as_fd(), PollFlags::POLLIN, Source::Wake);
        if !matches!(self.life, Life::TreeEnded(_)) {
            add(self.link.as_fd(), PollFlags::POLLIN, Source::Lifeline);
        }
        if let Some(stdin) = &self.stdin {
            // Even with no flags, poll reports that no reader is left.
            let flags = if waits_to_write { PollFlags::POLLOUT } else { PollFlags::empty() };
            add(stdin.as_fd(), flags, Source::Stdin);
        }
        if let Some(stdout) = &self.stdout {
            add(stdout.as_fd(), PollFlags::POLLIN, Source::Output(Stream::Stdout));
        }
        if let Some(stderr) = &self.stderr {
            add(stderr.as_fd(), PollFlags::POLLIN, Source::Output(Stream::Stderr));
        }
        if poll(&mut fds, self.timeout(until)).is_err() {
            return false;
        }
        let ready: Vec<Source> =
            what.iter().zip(&fds).filter(|(_, fd)| fd.any().unwrap_or(false)).map(|(source, _)| *source).collect();
        // Output before the keeper's reports, so that what a child wrote comes before its exit where possible.
        for source in ready.iter().rev() {
            match source {
                Source::Wake => {
                    self.wake.drain();
                    self.ready.push_back(Event::Woken);
                }
                Source::Lifeline => self.read_lifeline(),
                Source::Stdin => self.write_input(),
                Source::Output(stream) => {
                    self.read_stream(*stream);
                }
            }
        }
        !ready.is_empty()
    }

    fn timeout(&self, until: Option<Instant>) -> PollTimeout {
        let linger = self.linger_until.filter(|_| matches!(self.life, Life::Exited | Life::TreeEnded(_)));
        let keeper = self.keeper_until.filter(|_| !matches!(self.life, Life::TreeEnded(_)));
        let Some(next) = [until, linger, keeper].into_iter().flatten().min() else { return PollTimeout::NONE };
        let left = next.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return PollTimeout::ZERO;
        }
        // One millisecond more, so that the time has passed when this returns.
        PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
    }

    fn read_lifeline(&mut self) {
        let (reports, end) = match self.link.receive() {
            Received::Reports(reports) => (reports, false),
            Received::End(reports) => (reports, true),
        };
        for report in reports {
            match report {
                Report::Exited(exit) => self.exited(exit),
                Report::Contained(contained) => {
                    self.link.set_ended();
                    self.tree_ended(contained);
                }
                Report::Prepared { .. } | Report::Failed { .. } | Report::Started => {}
            }
        }
        if end && !matches!(self.life, Life::TreeEnded(_) | Life::Finished(_)) {
            tracing::warn!(keeper = self.identity().keeper_pid, "a keeper was killed: ending its tree");
            self.end_without_keeper();
        }
    }

    fn end_without_keeper(&mut self) {
        let contained = self.link.end_without_keeper();
        self.tree_ended(contained);
    }

    fn exited(&mut self, exit: Exit) {
        self.ready.push_back(Event::Exited(exit));
        if let Some(terminal) = &mut self.terminal {
            // From here on, the stream ends when no descendant holds the slave.
            terminal.slave = None;
        }
        self.linger_until = Instant::now().checked_add(self.limits.linger);
        if self.life == Life::Running {
            self.life = Life::Exited;
        }
    }

    fn tree_ended(&mut self, contained: Contained) {
        if self.linger_until.is_none() {
            // The exit status is unknown: its keeper was killed, or it survived SIGKILL.
            self.exited(Exit { status: ExitStatus::Unknown, usage: Usage::default() });
        }
        if self.stdin.is_some() {
            self.fail_input();
        }
        self.life = Life::TreeEnded(contained);
    }

    fn write_input(&mut self) {
        let Some(stdin) = &self.stdin else { return };
        loop {
            while let Some(bytes) = self.input.next() {
                match write(stdin, bytes) {
                    Ok(count) => self.input.advance(count),
                    Err(Errno::EINTR) => {}
                    // A terminal that no process has open any more.
                    Err(Errno::EAGAIN) if self.terminal.is_some() && has_no_reader(stdin) => return self.fail_input(),
                    Err(Errno::EAGAIN) => return,
                    Err(_) => return self.fail_input(),
                }
            }
            match &mut self.terminal {
                Some(terminal) if self.input.closed && !terminal.end_queued => {
                    terminal.end_queued = true;
                    self.input.push(terminal::end_of_input(stdin.as_fd(), self.input.last()));
                }
                _ => break,
            }
        }
        if self.input.closed {
            self.stdin = None;
            self.ready.push_back(Event::StdinClosed);
        } else if has_no_reader(stdin) {
            self.fail_input();
        }
    }

    fn fail_input(&mut self) {
        let unwritten = self.input.discard();
        self.stdin = None;
        self.ready.push_back(Event::StdinFailed { unwritten });
    }

    /// Reads once. Returns the number of bytes, or None if there are none at the moment.
    fn read_stream(&mut self, stream: Stream) -> Option<usize> {
        let pipe = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let fd = pipe.as_ref()?;
        match read(fd, &mut self.buffer) {
            Err(Errno::EAGAIN | Errno::EINTR) => None,
            Ok(0) | Err(_) => {
                *pipe = None;
                self.ready.push_back(Event::EndOfStream(stream));
                Some(0)
            }
            Ok(count) => {
                let bytes = self.buffer.get(..count).unwrap_or_default().to_vec();
                self.ready.push_back(Event::Output { stream, bytes });
                Some(count)
            }
        }
    }

    /// Reads what is left in a stream that a process outside the tree holds open, and closes it.
    fn drain_stream(&mut self, stream: Stream) {
        let mut taken = 0;
        while taken < LAST_BYTES {
            match self.read_stream(stream) {
                Some(0) => return,
                Some(count) => taken += count,
                None => break,
            }
        }
        let pipe = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        if pipe.take().is_some() {
            self.ready.push_back(Event::EndOfStream(stream));
        }
    }
}

/// What [`Child::poll`] waits for.
#[derive(Debug, Clone, Copy)]
enum Source {
    Wake,
    Lifeline,
    Stdin,
    Output(Stream),
}

/// Takes over the terminal that the child has sent.
fn receive_terminal(socket: &OwnedFd) -> nix::Result<(OwnedFd, OwnedFd)> {
    let (master, slave) = terminal::receive(socket)?;
    // The child's streams are other open files: they keep blocking.
    set_nonblocking(&master)?;
    Ok((master, slave))
}

/// Whether no process has the other end of the pipe or terminal open.
fn has_no_reader(pipe: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::empty())];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(count) if count > 0)
}

/// Why input was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteRefused {
    /// The child's input is closed.
    #[error("the input is closed: the child has ended or closed it, or the end of the input was announced")]
    Closed,
    /// The child does not read fast enough.
    #[error("{waiting} bytes already wait for the child to read them, at most {limit} may: try again later")]
    Full {
        /// Bytes that wait.
        waiting: usize,
        /// The limit.
        limit: usize,
    },
}

/// Wakes [`Child::next`], which then returns [`Event::Woken`]. May outlive the child.
#[derive(Debug, Clone)]
pub struct Waker {
    wake: Arc<WakeFd>,
}

impl Waker {
    /// Wakes the child's thread. Several calls before it wakes count as one.
    pub fn wake(&self) {
        self.wake.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::super::linux;
    use super::super::tests::{follow, shell, start, zygote};
    use super::*;

    #[test]
    fn late_read_of_an_ended_keeper_reports_no_lost_keeper() {
        let zygote = zygote();
        let mut child = start(&zygote, &shell("exit 3"));
        let keeper = child.identity().keeper_pid;
        let deadline = Instant::now() + Duration::from_secs(10);
        while linux::process(keeper).is_some_and(|process| process.alive) {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(1));
        }
        child.keeper_until = Some(Instant::now());
        let reported = follow(&mut child);
        assert_eq!((reported.status(), reported.contained.keeper_lost), (ExitStatus::Code(3), false));
    }

    #[test]
    fn unlimited_grace_is_accepted() {
        let zygote = zygote();
        let mut child = start(&zygote, &shell("exec sleep 100"));
        child.stop(StopSignal::Terminate, Duration::MAX);
        assert_eq!(follow(&mut child).status(), ExitStatus::Signal(15));
    }
}
