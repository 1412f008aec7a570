//! The zygote: how it starts, and what it does until the host is gone.

use std::collections::HashSet;
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid, setsid};

use super::containment::{self, Proof};
use super::keeper::{self, KeeperFds, run_keeper};
use super::linux::{self, ChildWatch};
use super::sandbox;
use super::spec::RunnerError;
use super::wire::{Report, Stage};
use super::zygote::{Zygote, control_pair};

/// Forks the zygote. To be called first thing in `main`, before any thread exists; returns in the host only.
///
/// # Errors
/// [`RunnerError::Threads`] where threads exist already; otherwise what the system refused.
pub fn start_zygote() -> Result<Zygote, RunnerError> {
    let threads = linux::thread_count();
    if threads > 1 {
        return Err(RunnerError::Threads(threads));
    }
    let (host, zygote) = control_pair()?;
    // SAFETY: this process has one thread, as just counted, so that the copy may do the same as this one.
    match unsafe { fork() }.map_err(RunnerError::system("fork the zygote"))? {
        ForkResult::Child => serve(&zygote),
        ForkResult::Parent { child } => Ok(Zygote::new(host, child)),
    }
}

/// Serves as zygote on standard input until the host is gone, for [`Zygote::launch`]; never returns. The process must
/// have one thread.
pub fn serve_zygote() -> ! {
    // SAFETY: a copy of standard input, which is open by the contract of `Zygote::launch`; should it not be, the copy
    // is -1 and every use of it fails, which ends this process.
    let control = nix::unistd::dup(unsafe { std::os::fd::BorrowedFd::borrow_raw(0) });
    match control {
        Ok(control) => serve(&control),
        Err(_) => keeper::leave(),
    }
}

/// The main loop of the zygote.
fn serve(control: &OwnedFd) -> ! {
    linux::close_all_but(&[control.as_raw_fd()]);
    linux::set_process_name(c"ostler-zygote");
    sandbox::be_opaque();
    let _ = setsid();
    let _ = nix::unistd::chdir("/");
    keeper::ignore_signals();
    let watch = detach_stdio().and_then(|()| linux::become_subreaper()).and_then(|()| ChildWatch::new());
    let Ok(watch) = watch else { keeper::leave() };
    let mut keepers = HashSet::new();
    loop {
        let mut fds = [PollFd::new(control.as_fd(), PollFlags::POLLIN), PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::NONE).is_err() {
            continue;
        }
        let [requested, ended] = fds.map(|fd| fd.any().unwrap_or(false));
        if ended {
            watch.drain();
            while reap(&mut keepers) {
                end_orphans(&keepers);
            }
        }
        if requested {
            match receive(control) {
                Ok(Some(Request::Keeper(fds))) => fork_keeper(fds, &mut keepers),
                // Closing it shows the host that this process lives.
                Ok(Some(Request::SignOfLife(fd))) => drop(fd),
                // Descriptors came in part, for want of free ones. Close them: the host sees its ends close, too.
                Err(Errno::ENOBUFS | Errno::EBADMSG) => {
                    linux::close_all_but(&[control.as_raw_fd(), watch.as_fd().as_raw_fd()]);
                }
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                // The host has gone, or standard input never was its socket.
                Ok(None) | Err(_) => keeper::leave(),
            }
        }
    }
}

/// Redirects the standard streams to `/dev/null`: the host's terminal and log must not stay open.
fn detach_stdio() -> nix::Result<()> {
    let null = nix::fcntl::open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)
}

/// A request of the host.
enum Request {
    Keeper(KeeperFds),
    SignOfLife(OwnedFd),
}

/// Receives one request: the keeper's lifeline and the child's three streams, or a descriptor to close. None when the
/// host is gone.
fn receive(control: &OwnedFd) -> nix::Result<Option<Request>> {
    let mut byte = [0; 1];
    let mut space = nix::cmsg_space!([RawFd; 4]);
    let mut iov = [IoSliceMut::new(&mut byte)];
    let message = recvmsg::<UnixAddr>(control.as_raw_fd(), &mut iov, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC);
    let message = match message {
        Err(Errno::ECONNRESET) => return Ok(None),
        other => other?,
    };
    if message.bytes == 0 {
        return Ok(None);
    }
    let mut owned = Vec::new();
    // A message cut short (no descriptors left) fails here.
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = part {
            // SAFETY: the kernel made these descriptors for this process just now.
            owned.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    if owned.len() == 1 {
        return Ok(owned.pop().map(Request::SignOfLife));
    }
    let [lifeline, stdin, stdout, stderr] = <[OwnedFd; 4]>::try_from(owned).map_err(|_| Errno::EBADMSG)?;
    Ok(Some(Request::Keeper(KeeperFds { lifeline, stdio: [stdin, stdout, stderr] })))
}

fn fork_keeper(fds: KeeperFds, keepers: &mut HashSet<Pid>) {
    // SAFETY: this process has one thread, so that the copy may do the same as this one.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => run_keeper(fds),
        Ok(ForkResult::Parent { child }) => {
            keepers.insert(child);
        }
        Err(errno) => {
            keeper::report(
                fds.lifeline.as_fd(),
                &Report::Failed { stage: Stage::Fork, errno: errno as i32, step: String::new() },
            );
        }
    }
}

/// Collects ended children. Returns whether a keeper was among them that did not end by itself.
fn reap(keepers: &mut HashSet<Pid>) -> bool {
    let mut lost = false;
    loop {
        match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, _)) => {
                keepers.remove(&pid);
            }
            Ok(WaitStatus::Signaled(pid, ..)) => lost |= keepers.remove(&pid),
            Err(Errno::EINTR) => {}
            Ok(WaitStatus::StillAlive) | Err(_) => return lost,
            Ok(_) => {}
        }
    }
}

/// Ends what a killed keeper left: it is below this process now, and in no living keeper's tree.
fn end_orphans(keepers: &HashSet<Pid>) {
    let own = getpid().as_raw();
    let find = || containment::descendants(&[own], &|pid| keepers.contains(&Pid::from_raw(pid)));
    // Nothing is collected meanwhile: a keeper that ends keeps its id until the next `reap`.
    containment::end_all(find, || Proof::Unknown);
}
