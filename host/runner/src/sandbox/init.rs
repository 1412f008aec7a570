//! Process 1 of a child's PID namespace: builds the view, starts the program, collects orphans, reports the end.
//!
//! It is a copy of the keeper in new namespaces, or, where `bwrap` makes those, a new process of this program, which
//! executes the reaper once the program's process exists.

use std::fs;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, recvmsg, sendmsg,
    setsockopt, socketpair, sockopt,
};
use nix::unistd::{ForkResult, Pid, fork, pipe2, read};
use ostler_reaper::{REPORT, Reaped};

use super::super::event::{Exit, ExitStatus};
use super::super::keeper::{exit_of, leave};
use super::super::linux::{self, ProcessHandle};
use super::super::spawn::ChildFailure;
use super::bwrap::{self, Expected};
use super::{MAX_SOCKETS, Namespaces, Setup, SetupError, network, privileges, view};

/// Longest message: a report of an exit.
const MAX_MESSAGE: usize = 256;

/// The first bytes of the messages between the keeper and process 1.
const READY: u8 = b'r';
const ADMITTED: u8 = b'a';
const LISTENERS: u8 = b'l';
const PROGRAM: u8 = b'p';

/// The keeper's side.
#[derive(Debug)]
pub(in super::super) struct Init {
    /// The keeper's child, which ends when the namespace has ended: process 1, or the `bwrap` that made it. In the
    /// keeper's PID namespace, as all ids here.
    pub(in super::super) pid: Pid,
    /// Process 1, once it has sent a message.
    first: Option<First>,
    control: OwnedFd,
    /// Standard error of `bwrap`.
    stderr: Option<OwnedFd>,
}

/// Process 1, with a handle: it is not the keeper's child if `bwrap` made it, so another process could get its id.
#[derive(Debug)]
struct First {
    pid: Pid,
    handle: ProcessHandle,
}

/// A report of process 1.
#[derive(Debug)]
pub(in super::super) enum InitReport {
    /// It exists, with that id, and waits for [`Init::admit`].
    Ready(Pid),
    /// The sockets that the host is to serve.
    Listeners(Vec<OwnedFd>),
    /// The program exists and waits. Its id in the keeper's PID namespace.
    Program(Pid),
    /// The program has ended.
    Exited(Exit),
    /// There is no report at the moment.
    Nothing,
    /// Process 1 has gone.
    End,
}

/// Makes process 1 of new namespaces. In it, calls `become_program` in another process of the namespace, which returns
/// only on failure; `fail` sends the failure of either process to the keeper.
pub(in super::super) fn start(
    namespaces: &Namespaces,
    become_program: impl FnOnce() -> ChildFailure,
    fail: impl Fn(ChildFailure),
) -> Setup<Init> {
    let at = |errno| SetupError::at("make namespaces")(errno);
    let (control, theirs) = control_pair().map_err(at)?;
    let mut flags = libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::SIGCHLD;
    if namespaces.network.is_some() {
        flags |= libc::CLONE_NEWNET;
    }
    // SAFETY: as `fork`, with namespaces: no stack is given, so that the copy continues with this one's. This process
    // has one thread, so that the copy may do the same as this one.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::c_long::from(flags), 0, 0, 0, 0) };
    match Errno::result(pid).map_err(at)? {
        0 => {
            drop(control);
            // The keeper reads the failure when `theirs` closes, so it must be sent before.
            let set_up = || {
                let listeners = namespaces.network.as_ref().map(network::open).transpose()?;
                namespaces.view.as_ref().map_or(Ok(()), view::build)?;
                Ok(listeners.unwrap_or_default())
            };
            privileges::be_transparent();
            if let Err(error) = serve(&theirs, set_up, become_program, &fail, None) {
                fail(error.into());
            }
            leave()
        }
        pid => {
            let pid = Pid::from_raw(i32::try_from(pid).unwrap_or(0));
            Ok(Init { pid, first: None, control, stderr: None })
        }
    }
}

/// Runs process 1 in namespaces that `bwrap` has made. `expected` names the file that must be at each path.
pub(in super::super) fn serve_made(
    namespaces: &Namespaces,
    control: &OwnedFd,
    expected: &[Expected],
    become_program: impl FnOnce() -> ChildFailure,
    fail: impl Fn(ChildFailure),
) -> ! {
    let set_up = || {
        bwrap::detach_mounts();
        bwrap::verify(expected)?;
        Ok(namespaces.network.as_ref().map(network::listen).transpose()?.unwrap_or_default())
    };
    let reaper = bwrap::reaper();
    if let Err(error) = reaper.and_then(|reaper| serve(control, set_up, become_program, &fail, Some(&reaper))) {
        fail(error.into());
    }
    leave()
}

/// A socket for keeper and process 1. The first end is the keeper's: the kernel adds the sender's id there, as the
/// keeper sees it.
pub(super) fn control_pair() -> nix::Result<(OwnedFd, OwnedFd)> {
    let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    setsockopt(&pair.0, sockopt::PassCred, &true)?;
    Ok(pair)
}

impl Init {
    /// The keeper's side for namespaces that `bwrap`, the child `pid`, makes.
    pub(super) const fn made_by(pid: Pid, control: OwnedFd, stderr: OwnedFd) -> Self {
        Self { pid, first: None, control, stderr: Some(stderr) }
    }

    /// Lets process 1, which has that id, continue once its user namespace knows this user.
    pub(in super::super) fn admit(&mut self, first: Pid) -> Setup {
        let lost = |_| SetupError::at("make namespaces")(Errno::ECHILD);
        let found = linux::process(first.as_raw());
        let handle =
            found.and_then(|found| ProcessHandle::open(found.pid, found.start_ticks)).ok_or_else(|| lost(()))?;
        self.first = Some(First { pid: first, handle });
        if !self.is_made_by_bwrap() {
            write_maps(first)?;
        }
        sendmsg::<UnixAddr>(self.control.as_raw_fd(), &[IoSlice::new(&[ADMITTED])], &[], MsgFlags::MSG_NOSIGNAL, None)
            .map(drop)
            .map_err(|_| lost(()))
    }

    const fn is_made_by_bwrap(&self) -> bool {
        self.stderr.is_some()
    }

    /// Whether a process is process 1, or the `bwrap` that made it.
    pub(in super::super) fn is_own(&self, pid: i32) -> bool {
        self.pid.as_raw() == pid || self.first.as_ref().is_some_and(|first| first.pid.as_raw() == pid)
    }

    /// Ends process 1, and the kernel with it everything in its namespace. [`Self::pid`] ends after that. Returns
    /// whether a process was there to end.
    pub(in super::super) fn kill(&self) -> bool {
        let killed = match &self.first {
            Some(first) => first.handle.signal(Signal::SIGKILL),
            None => kill(self.pid, Signal::SIGKILL),
        };
        killed.is_ok()
    }

    /// Whether the `bwrap` that makes the namespaces has ended.
    pub(in super::super) fn maker_has_ended(&self) -> bool {
        use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
        // Do not collect it here.
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        self.is_made_by_bwrap() && !matches!(waitid(Id::Pid(self.pid), look), Ok(WaitStatus::StillAlive))
    }

    /// The error if `bwrap` could not make the namespaces.
    pub(in super::super) fn failure(&self) -> Option<SetupError> {
        let text = bwrap::error_text(self.stderr.as_ref().filter(|_| self.first.is_none())?);
        // Without a message, it was killed, perhaps because memory was lacking: a temporary error.
        let (detail, errno) =
            if text.is_empty() { (text, Errno::EAGAIN) } else { (format!(" ({text})"), Errno::ECHILD) };
        Some(SetupError::at(format!("make namespaces with bwrap{detail}"))(errno))
    }

    /// The next report of process 1; [`InitReport::Nothing`] if there is none at the moment.
    pub(in super::super) fn receive(&self) -> InitReport {
        let mut buffer = [0; MAX_MESSAGE];
        let received = loop {
            match receive(&self.control, &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(received) => break received,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return InitReport::Nothing,
                Err(_) => return InitReport::End,
            }
        };
        let Some((kind, rest)) = buffer.get(..received.length).and_then(<[u8]>::split_first) else {
            return InitReport::End;
        };
        match *kind {
            READY => received.sender.map_or(InitReport::End, InitReport::Ready),
            LISTENERS => InitReport::Listeners(received.fds),
            PROGRAM => received.sender.map_or(InitReport::End, InitReport::Program),
            REPORT => Reaped::decode(rest).map_or(InitReport::Nothing, |reaped| InitReport::Exited(exit_of(&reaped))),
            _ => InitReport::Nothing,
        }
    }
}

impl AsFd for Init {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.control.as_fd()
    }
}

struct Received {
    length: usize,
    fds: Vec<OwnedFd>,
    sender: Option<Pid>,
}

fn receive(socket: &OwnedFd, buffer: &mut [u8], flags: MsgFlags) -> nix::Result<Received> {
    let mut space = nix::cmsg_space!([RawFd; MAX_SOCKETS], libc::ucred);
    let mut iov = [IoSliceMut::new(buffer)];
    let message =
        recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut iov, Some(&mut space), flags | MsgFlags::MSG_CMSG_CLOEXEC)?;
    let (mut fds, mut sender) = (Vec::new(), None);
    for part in message.cmsgs()? {
        match part {
            ControlMessageOwned::ScmRights(raw) => {
                // SAFETY: the kernel made these descriptors for this process just now.
                fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
            ControlMessageOwned::ScmCredentials(who) => sender = Some(Pid::from_raw(who.pid())),
            _ => {}
        }
    }
    Ok(Received { length: message.bytes, fds, sender })
}

/// Maps the ids of this user namespace into the new one: all of them if this process may do that (root), else its user
/// and group.
fn write_maps(init: Pid) -> Setup {
    let write = |file: &str, content: &str| {
        fs::write(format!("/proc/{init}/{file}"), content).map_err(|error| linux::errno_of(&error))
    };
    let at = |errno| SetupError::at("map the user into its namespace")(errno);
    if nix::unistd::geteuid().is_root() {
        let all = |file| identity_map(&fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default());
        let mapped = write("uid_map", &all("uid_map")).and_then(|()| write("gid_map", &all("gid_map")));
        match mapped {
            // Root without the right to set ids is treated as any other user.
            Err(Errno::EPERM) => {}
            other => return other.map_err(at),
        }
    }
    write("setgroups", "deny").map_err(at)?;
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    write("gid_map", &format!("{group} {group} 1\n")).map_err(at)?;
    write("uid_map", &format!("{user} {user} 1\n")).map_err(at)
}

/// The map that keeps every id of a namespace with the map `own` unchanged.
fn identity_map(own: &str) -> String {
    let ranges = own.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (first, _, count) = (fields.next()?, fields.next()?, fields.next()?);
        Some(format!("{first} {first} {count}\n"))
    });
    ranges.collect()
}

/// Runs process 1. `set_up` configures the namespaces, and returns the sockets for the host. If there is a `reaper`,
/// process 1 executes it once the program's process exists.
fn serve(
    control: &OwnedFd,
    set_up: impl FnOnce() -> Setup<Vec<OwnedFd>>,
    become_program: impl FnOnce() -> ChildFailure,
    fail: &impl Fn(ChildFailure),
    reaper: Option<&OwnedFd>,
) -> Setup {
    let lost = |errno| SetupError::at("reach the keeper")(errno);
    let send = |kind: u8, fds: &[RawFd]| {
        let rights = [ControlMessage::ScmRights(fds)];
        let rights = if fds.is_empty() { &[][..] } else { &rights[..] };
        sendmsg::<UnixAddr>(control.as_raw_fd(), &[IoSlice::new(&[kind])], rights, MsgFlags::MSG_NOSIGNAL, None)
            .map(drop)
    };
    linux::set_process_name(c"ostler-init");
    send(READY, &[]).map_err(lost)?;
    let mut byte = [0];
    if receive(control, &mut byte, MsgFlags::empty()).map_err(lost)?.length == 0 {
        leave();
    }
    // It was transparent while the keeper wrote its user map.
    privileges::be_opaque();
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(lost)?;
    let listeners = set_up()?;
    if !listeners.is_empty() {
        let raw: Vec<RawFd> = listeners.iter().map(AsRawFd::as_raw_fd).collect();
        send(LISTENERS, &raw).map_err(lost)?;
    }
    let failed = |errno| SetupError::at("make the program's process")(errno);
    // The pipe closes when process 1 has executed the reaper and no process of the run can read its memory.
    let reaper = reaper.map(|reaper| Ok((reaper, pipe2(OFlag::O_CLOEXEC).map_err(failed)?))).transpose()?;
    // SAFETY: this process has one thread, so that the copy may do the same as this one.
    let program = match unsafe { fork() }.map_err(failed)? {
        ForkResult::Child => {
            if let Some((_, (private, opaque))) = reaper {
                drop(opaque);
                while read(&private, &mut byte) == Err(Errno::EINTR) {}
            }
            // If process 1 ends now, the kernel ends this process as well.
            if send(PROGRAM, &[]).is_ok() {
                // It closes `control`, like all descriptors that it does not need.
                fail(become_program());
            }
            leave()
        }
        ForkResult::Parent { child } => child,
    };
    if let Some((reaper, (_, opaque))) = &reaper {
        match bwrap::execute_reaper(reaper, control, program, opaque)? {}
    }
    linux::close_all_but(&[control.as_raw_fd()]);
    ostler_reaper::collect(control.as_raw_fd(), program.as_raw());
    leave()
}

/// The exit status of a program whose process 1 ended without a report: it was killed, and the namespace with it.
pub(in super::super) const KILLED: ExitStatus = ExitStatus::Signal(libc::SIGKILL);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_map_keeps_every_id_of_the_own_map() {
        assert_eq!(identity_map("         0          0 4294967295\n"), "0 0 4294967295\n");
        assert_eq!(identity_map("0 100000 65536\n65536 7 1\n"), "0 0 65536\n65536 65536 1\n");
    }
}
