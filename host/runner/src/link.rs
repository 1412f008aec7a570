//! The host's end of a keeper's lifeline: sends commands, receives reports, and ends the tree when dropped.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, Shutdown, UnixAddr, recv, recvmsg, send, shutdown};

use super::containment::{self, Ended, Proof, SURVIVAL};
use super::event::Contained;
use super::identity::ProcessIdentity;
use super::leftover;
use super::linux;
use super::sandbox;
use super::spec::{SpawnError, SpawnErrorKind, SpawnSpec, is_transient};
use super::wire::{Command, Frames, MAX_NAMED, Report, Stage};

/// How long a keeper may take to start, and to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a keeper may be silent before the host checks whether its zygote still answers.
const SILENCE: Duration = Duration::from_secs(1);

/// The lifeline of one keeper. Dropping it ends the keeper's whole tree and waits for that.
#[derive(Debug)]
pub(super) struct Link {
    socket: OwnedFd,
    frames: Frames,
    identity: ProcessIdentity,
    /// Sockets of the child's network that came with the reports.
    sockets: Vec<OwnedFd>,
    /// The keeper has gone, and everything below it.
    ended: bool,
}

/// The result of a read of the lifeline.
#[derive(Debug)]
pub(super) enum Received {
    /// The reports that arrived, possibly none.
    Reports(Vec<Report>),
    /// The keeper has closed the lifeline; these reports came before.
    End(Vec<Report>),
}

impl Link {
    /// Begins the conversation: sends what to start, and waits until keeper and child exist.
    /// `still_wanted` is called after each silence of [`SILENCE`].
    pub(super) fn open(
        socket: OwnedFd,
        frame: &[u8],
        spec: &SpawnSpec,
        still_wanted: impl Fn() -> bool,
    ) -> Result<Self, SpawnError> {
        set_nonblocking(&socket).map_err(|errno| SpawnError::system("set up a socket", errno))?;
        let identity = ProcessIdentity {
            pid: 0,
            start_ticks: 0,
            keeper_pid: 0,
            keeper_start_ticks: 0,
            boot_id: linux::boot_id().to_owned(),
            marker: spec.marker.clone(),
        };
        let mut link = Self { socket, frames: Frames::default(), identity, sockets: Vec::new(), ended: false };
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        link.send_all(frame, deadline);
        let report = loop {
            let silence = deadline.min(Instant::now() + SILENCE);
            match link.receive_one(silence) {
                None if Instant::now() >= silence && silence < deadline && still_wanted() => {}
                report => break report,
            }
        };
        match report {
            Some(Report::Prepared { keeper, child }) => {
                link.identity.pid = child.pid;
                link.identity.start_ticks = child.start_ticks;
                link.identity.keeper_pid = keeper.pid;
                link.identity.keeper_start_ticks = keeper.start_ticks;
                Ok(link)
            }
            Some(Report::Failed { stage, errno, step }) => {
                Err(link.failed(stage, errno, &step, &spec.executable, &spec.cwd))
            }
            Some(_) | None => {
                let message = "failed to start a child: the helper process that starts them does not answer";
                Err(SpawnError::new(SpawnErrorKind::ZygoteGone, message))
            }
        }
    }

    /// Lets the child execute its program and waits until it has.
    pub(super) fn start(&mut self, executable: &Path, cwd: &Path) -> Result<(), SpawnError> {
        self.send(&Command::Start);
        match self.receive_one(Instant::now() + ANSWER_TIMEOUT * 3) {
            Some(Report::Started) => Ok(()),
            Some(Report::Failed { stage, errno, step }) => Err(self.failed(stage, errno, &step, executable, cwd)),
            Some(_) | None => {
                let message = format!("failed to start {}: its keeper was killed or hangs", executable.display());
                Err(SpawnError::new(SpawnErrorKind::Transient, message))
            }
        }
    }

    pub(super) fn identity(&self) -> &ProcessIdentity {
        &self.identity
    }

    /// The sockets of the child's network, once: the proxy's, then those of the forwarded ports.
    pub(super) fn take_sockets(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.sockets)
    }

    /// Sends a command. A failure needs no error: the next read sees that the keeper has gone.
    pub(super) fn send(&mut self, command: &Command) {
        if let Some(frame) = command.encode() {
            self.send_all(&frame, Instant::now() + ANSWER_TIMEOUT);
        }
    }

    fn send_all(&mut self, mut bytes: &[u8], deadline: Instant) {
        while !bytes.is_empty() {
            match send(self.socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) if wait_for(self.socket.as_fd(), PollFlags::POLLOUT, deadline) => {}
                Err(_) => return,
            }
        }
    }

    /// Reads what has come, without waiting.
    pub(super) fn receive(&mut self) -> Received {
        let mut buffer = [0; 8192];
        let mut end = false;
        loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(count) if count > 0 => self.frames.extend(buffer.get(..count).unwrap_or_default()),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Ok(_) | Err(_) => {
                    end = true;
                    break;
                }
            }
        }
        let mut reports = Vec::new();
        loop {
            match self.frames.pop() {
                Ok(Some(body)) => reports.extend(Report::decode(&body)),
                Ok(None) => break,
                Err(_) => {
                    end = true;
                    break;
                }
            }
        }
        if end { Received::End(reports) } else { Received::Reports(reports) }
    }

    /// Waits for the next report.
    fn receive_one(&mut self, deadline: Instant) -> Option<Report> {
        let mut buffer = [0; 1024];
        loop {
            if let Some(body) = self.frames.pop().ok()? {
                return Report::decode(&body);
            }
            if !wait_for(self.socket.as_fd(), PollFlags::POLLIN, deadline) {
                return None;
            }
            match receive_with_sockets(self.socket.as_fd(), &mut buffer, &mut self.sockets) {
                Ok(count) if count > 0 => self.frames.extend(buffer.get(..count)?),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Ok(_) | Err(_) => return None,
            }
        }
    }

    /// The keeper has reported that its tree is gone, and goes itself.
    pub(super) fn set_ended(&mut self) {
        self.ended = true;
    }

    /// Ends the tree without its keeper, which was killed or hangs.
    pub(super) fn end_without_keeper(&mut self) -> Contained {
        self.ended = true;
        let ProcessIdentity { keeper_pid, keeper_start_ticks, .. } = self.identity;
        if keeper_pid != 0 {
            let _ = linux::signal_exactly(keeper_pid, keeper_start_ticks, Signal::SIGKILL);
        }
        let identity = self.identity.clone();
        let Ended { mut killed, survivors } =
            containment::end_all(|| leftover::belonging_to(&identity), || Proof::Unknown);
        killed.retain(|left| left.pid != identity.pid && left.pid != keeper_pid);
        let killed_total = killed.len();
        killed.truncate(MAX_NAMED);
        Contained { killed, killed_total, survivors, keeper_lost: true }
    }

    /// Why there is no child. The keeper has gone already.
    fn failed(&mut self, stage: Stage, errno: i32, step: &str, executable: &Path, cwd: &Path) -> SpawnError {
        self.ended = true;
        let errno = Errno::from_raw(errno);
        let (kind, why) = describe(stage, errno, step, executable, cwd);
        SpawnError::new(kind, format!("failed to start {}: {why}", executable.display()))
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.ended || self.identity.keeper_pid == 0 {
            return;
        }
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Write);
        let deadline = Instant::now() + SURVIVAL + Duration::from_secs(2);
        while let Some(report) = self.receive_one(deadline) {
            if matches!(report, Report::Contained(_) | Report::Failed { .. }) {
                return;
            }
        }
        self.end_without_keeper();
    }
}

fn describe(stage: Stage, errno: Errno, step: &str, executable: &Path, cwd: &Path) -> (SpawnErrorKind, String) {
    let reason = errno.desc();
    if (stage, errno) == (Stage::Terminal, Errno::ENOSPC) {
        let why = "all terminals of this system are in use (kernel.pty.max); try again later, or raise the limit";
        return (SpawnErrorKind::Transient, why.to_owned());
    }
    if is_transient(errno) {
        return (SpawnErrorKind::Transient, format!("{reason}; try again later"));
    }
    match (stage, errno) {
        (Stage::Cwd, Errno::ESTALE) => {
            let why = format!("its working directory {} was replaced after it was checked", cwd.display());
            (SpawnErrorKind::BadCwd, why)
        }
        (Stage::Sandbox, Errno::ESTALE) => (SpawnErrorKind::BadCwd, format!("failed to {step}: it was replaced")),
        (Stage::Sandbox, _) => {
            (SpawnErrorKind::SandboxUnavailable, format!("its containment cannot be made: failed to {step}: {reason}"))
        }
        (Stage::Terminal, _) => {
            (SpawnErrorKind::Other, format!("no terminal can be opened for it: {reason}; check /dev/ptmx and /dev/pts"))
        }
        (Stage::Cwd, _) => {
            (SpawnErrorKind::BadCwd, format!("its working directory {} cannot be entered: {reason}", cwd.display()))
        }
        (Stage::Exec, Errno::ENOENT | Errno::ENOTDIR) if executable.exists() => {
            let why =
                "the interpreter that its first line or header names is missing: install it, or reinstall the program";
            (SpawnErrorKind::NotExecutable, why.to_owned())
        }
        (Stage::Exec, Errno::ENOENT | Errno::ENOTDIR) => (SpawnErrorKind::NotFound, "there is no such file".to_owned()),
        (Stage::Exec, Errno::EACCES | Errno::EPERM | Errno::EISDIR | Errno::ELOOP) => {
            (SpawnErrorKind::NotExecutable, format!("it may not be executed ({reason}): check its type and mode"))
        }
        (Stage::Exec, Errno::ENOEXEC | Errno::ELIBBAD | Errno::EINVAL) => {
            let why =
                format!("it is not a program for this system ({reason}); a script needs a first line like #!/bin/sh");
            (SpawnErrorKind::NotExecutable, why)
        }
        (Stage::Exec, Errno::E2BIG) => {
            let why = "its arguments and environment are larger than the system takes (one argument: 128 KiB): \
                       pass less, or by standard input";
            (SpawnErrorKind::TooLarge, why.to_owned())
        }
        _ => (SpawnErrorKind::Other, reason.to_owned()),
    }
}

/// Reads bytes, and the descriptors that came with them.
fn receive_with_sockets(socket: BorrowedFd<'_>, buffer: &mut [u8], sockets: &mut Vec<OwnedFd>) -> nix::Result<usize> {
    let mut space = nix::cmsg_space!([RawFd; sandbox::MAX_SOCKETS]);
    let mut iov = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut iov, Some(&mut space), flags)?;
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = part {
            // SAFETY: the kernel made these descriptors for this process just now.
            sockets.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok(message.bytes)
}

pub(super) fn set_nonblocking(fd: impl AsFd) -> nix::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}

/// Waits until the descriptor is ready; false if the deadline passes first.
fn wait_for(fd: BorrowedFd<'_>, flags: PollFlags, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd, flags)], timeout) {
            Ok(0) if Instant::now() >= deadline => return false,
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return true,
            Err(_) => return false,
        }
    }
}
