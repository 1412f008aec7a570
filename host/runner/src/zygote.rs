//! The host's handle of the zygote.

use std::ffi::OsString;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socketpair};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2};

use super::child::{Prepared, Streams};
use super::link::Link;
use super::linux::{WakeFd, errno_of};
use super::spec::{RunnerError, SpawnError, SpawnErrorKind, SpawnSpec, Stdin};
use super::wire;

/// The process that starts all children. `Send + Sync`: share it in an `Arc`; calls from several threads run in parallel.
///
/// Dropping it ends the zygote; running children keep their keepers and continue.
#[derive(Debug)]
pub struct Zygote {
    running: Mutex<Arc<Running>>,
    respawn: Option<(PathBuf, Vec<OsString>)>,
}

/// How long a zygote may take to show that it lives, in milliseconds. It does nothing that takes long.
const SIGN_OF_LIFE: u16 = 2000;

/// One zygote process. Its control socket closes with the last user, upon which it ends.
#[derive(Debug)]
struct Running {
    control: OwnedFd,
    process: Pid,
}

impl Zygote {
    pub(super) fn new(control: OwnedFd, process: Pid) -> Self {
        Self { running: Mutex::new(Arc::new(Running { control, process })), respawn: None }
    }

    /// Starts `program args…`, which must call [`serve_zygote`](super::serve_zygote) with its standard input and
    /// nothing else. Sound in a process with threads; costs an exec of that program, which gets no environment.
    ///
    /// # Errors
    /// What the system refused.
    pub fn launch(program: &Path, args: &[OsString]) -> Result<Self, RunnerError> {
        Ok(Self { running: Mutex::new(Running::launch(program, args)?), respawn: None })
    }

    /// Names the program for [`Zygote::launch`] that replaces this zygote if it dies. Without it, every
    /// [`Zygote::prepare`] fails with [`ZygoteGone`](super::SpawnErrorKind::ZygoteGone) from then on.
    #[must_use]
    pub fn respawn_with(mut self, program: impl Into<PathBuf>, args: Vec<OsString>) -> Self {
        self.respawn = Some((program.into(), args));
        self
    }

    /// Makes keeper and child, the latter waiting before it executes the program: record
    /// [`Prepared::identity`], then call [`Prepared::start`].
    ///
    /// # Errors
    /// A wrong specification and everything that goes wrong before the program is executed.
    pub fn prepare(&self, spec: &SpawnSpec) -> Result<Prepared, SpawnError> {
        let frame = wire::Command::Prepare(Box::new(spec.program()?)).encode().ok_or_else(|| too_large(spec))?;
        let running = self.running()?;
        let (streams, theirs) = match spec.terminal {
            None => Streams::open_pipes(matches!(&spec.stdin, Stdin::Bytes(bytes) if bytes.is_empty()))?,
            Some(_) => Streams::expect_terminal()?,
        };
        let wake = WakeFd::new().map_err(|errno| SpawnError::system("open a descriptor to wake by", errno))?;
        let (lifeline, keeper) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
            .map_err(|errno| SpawnError::system("open a socket for the child's keeper", errno))?;
        let [stdin, stdout, stderr] = &theirs;
        running.send(&[&keeper, stdin, stdout, stderr])?;
        // From here on the other ends exist in the keeper alone, so that their closing is noticed.
        drop((keeper, theirs));
        let link = Link::open(lifeline, &frame, spec, || running.answers()).map_err(|error| {
            if error.kind == SpawnErrorKind::ZygoteGone && running.is_alive() {
                // It lives, but could not make a keeper and could not report that: it lacks descriptors or memory.
                let message =
                    "failed to start a keeper for the child: the system may lack memory, processes or descriptors";
                return SpawnError::new(SpawnErrorKind::Transient, message);
            }
            error
        })?;
        Ok(Prepared::new(link, streams, wake, spec))
    }

    /// Whether the zygote still answers.
    pub fn is_alive(&self) -> bool {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).is_alive()
    }

    /// The zygote that runs, a new one if the last one died and may be replaced.
    fn running(&self) -> Result<Arc<Running>, SpawnError> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_alive() {
            return Ok(Arc::clone(&running));
        }
        let Some((program, args)) = &self.respawn else { return Err(gone("nothing may replace it")) };
        tracing::warn!(pid = running.process.as_raw(), "the zygote has died: starting another one");
        *running = Running::launch(program, args).map_err(|error| gone(&error.to_string()))?;
        Ok(Arc::clone(&running))
    }
}

fn gone(why: &str) -> SpawnError {
    let message =
        format!("failed to start a child: the helper process that starts them has died ({why}); restart the host");
    SpawnError::new(SpawnErrorKind::ZygoteGone, message)
}

fn too_large(spec: &SpawnSpec) -> SpawnError {
    let message = format!(
        "failed to start {}: its arguments and environment have more than {} MiB; pass less, or by standard input",
        spec.executable.display(),
        wire::MAX_FRAME / 1024 / 1024
    );
    SpawnError::new(SpawnErrorKind::TooLarge, message)
}

/// The two ends of a control socket, the host's first. Message boundaries are preserved, so threads need no lock.
pub(super) fn control_pair() -> Result<(OwnedFd, OwnedFd), RunnerError> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .map_err(RunnerError::system("open the zygote's socket"))
}

impl Running {
    fn launch(program: &Path, args: &[OsString]) -> Result<Arc<Self>, RunnerError> {
        let (control, theirs) = control_pair()?;
        let child = Command::new(program)
            .args(args)
            .env_clear()
            .current_dir("/")
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| RunnerError::Launch { program: program.to_owned(), message: error.to_string() })?;
        let process = Pid::from_raw(i32::try_from(child.id()).unwrap_or(0));
        Ok(Arc::new(Self { control, process }))
    }

    /// Asks for a keeper with four descriptors, or for a sign of life with one.
    fn send(&self, fds: &[&OwnedFd]) -> Result<(), SpawnError> {
        let raw: Vec<RawFd> = fds.iter().map(|fd| fd.as_raw_fd()).collect();
        let sent = sendmsg::<UnixAddr>(
            self.control.as_raw_fd(),
            &[IoSlice::new(b"k")],
            &[ControlMessage::ScmRights(&raw)],
            // A zygote that hangs must not block the caller.
            MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT,
            None,
        );
        match sent {
            Ok(_) => Ok(()),
            Err(Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN) => Err(gone("it ended just now")),
            // Too many descriptors are under way.
            Err(Errno::ETOOMANYREFS) => Err(SpawnError::system("pass the child's streams", Errno::EAGAIN)),
            Err(errno) => Err(SpawnError::system("pass the child's streams", errno)),
        }
    }

    /// Whether the process answers. One that does not (for example, because it was stopped) is killed, so that a new one
    /// replaces it; its keepers continue.
    fn answers(&self) -> bool {
        let Ok((ours, theirs)) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC) else {
            // The host lacks descriptors, which is not a fault of the zygote.
            return true;
        };
        if self.send(&[&theirs]).is_ok() {
            drop(theirs);
            let mut fds = [PollFd::new(ours.as_fd(), PollFlags::POLLIN)];
            if matches!(poll(&mut fds, SIGN_OF_LIFE), Ok(1..)) {
                return true;
            }
        }
        tracing::warn!(pid = self.process.as_raw(), "the zygote does not answer: killing it");
        let _ = kill(self.process, Signal::SIGKILL);
        // Its closed socket marks it as dead.
        let _ = poll(&mut [PollFd::new(self.control.as_fd(), PollFlags::POLLIN)], SIGN_OF_LIFE);
        false
    }

    fn is_alive(&self) -> bool {
        let mut fds = [PollFd::new(self.control.as_fd(), PollFlags::POLLIN)];
        // The zygote never sends, so a readable socket means that it has closed its end.
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(0))
    }
}

impl Drop for Running {
    /// Closes the control socket, which ends the process, and collects it.
    fn drop(&mut self) {
        use nix::sys::socket::{Shutdown, shutdown};
        let _ = shutdown(self.control.as_raw_fd(), Shutdown::Both);
        let deadline = Instant::now() + Duration::from_secs(1);
        while matches!(waitpid(self.process, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive)) {
            if Instant::now() >= deadline {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Streams {
    /// Opens a pipe for each of the child's three streams: the host's ends, and the child's.
    fn open_pipes(no_input: bool) -> Result<(Self, [OwnedFd; 3]), SpawnError> {
        let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(|errno| SpawnError::system("open a pipe", errno));
        let ((child_in, stdin), (stdout, child_out), (stderr, child_err)) = (pipe()?, pipe()?, pipe()?);
        for fd in [&stdin, &stdout, &stderr] {
            super::link::set_nonblocking(fd).map_err(|errno| SpawnError::system("set up a pipe", errno))?;
        }
        super::linux::enlarge_pipe(&stdout);
        let stdin = (!no_input).then_some(stdin);
        Ok((Self::Pipes { stdin, stdout, stderr }, [child_in, child_out, child_err]))
    }

    /// Opens a socket for the child's terminal. The child's end takes the place of all three streams on the way.
    fn expect_terminal() -> Result<(Self, [OwnedFd; 3]), SpawnError> {
        let failed = |errno| SpawnError::system("open a socket for the child's terminal", errno);
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).map_err(failed)?;
        let copy = || theirs.try_clone().map_err(|error| failed(errno_of(&error)));
        let (one, other) = (copy()?, copy()?);
        Ok((Self::Terminal(ours), [theirs, one, other]))
    }
}
