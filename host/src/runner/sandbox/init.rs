//! Process 1 of a child's PID namespace: builds the view, starts the program, collects orphans, reports the end.

use std::fs;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, recvmsg, sendmsg,
    setsockopt, socketpair, sockopt,
};
use nix::unistd::{ForkResult, Pid, fork};

use super::super::birth::ChildFailure;
use super::super::event::{Exit, ExitStatus};
use super::super::keeper::{leave, wait_any};
use super::super::linux;
use super::super::wire::Report;
use super::{MAX_SOCKETS, Namespaces, Setup, SetupError, network, privileges, view};

/// Longest message: a report of an exit.
const MAX_MESSAGE: usize = 256;

/// What is said between the keeper and process 1.
const READY: u8 = b'r';
const MAPPED: u8 = b'm';
const LISTENERS: u8 = b'l';
const PROGRAM: u8 = b'p';
const REPORT: u8 = b'x';

/// The keeper's side.
#[derive(Debug)]
pub(in super::super) struct Init {
    /// In the keeper's PID namespace.
    pub(in super::super) pid: Pid,
    control: OwnedFd,
}

/// What process 1 says.
#[derive(Debug)]
pub(in super::super) enum InitReport {
    /// The sockets that the host is to serve.
    Listeners(Vec<OwnedFd>),
    /// The program exists and waits. Its id in the keeper's PID namespace.
    Program(Pid),
    /// The program has ended.
    Exited(Exit),
    /// Nothing at the moment.
    Nothing,
    /// It has gone.
    End,
}

/// Makes process 1 of new namespaces. In it, calls `become_program` in another process of the namespace, which must not
/// return but on failure; `fail` takes the failure of either to the keeper.
pub(in super::super) fn start(
    namespaces: &Namespaces,
    become_program: impl FnOnce() -> ChildFailure,
    fail: impl Fn(ChildFailure),
) -> Setup<Init> {
    let at = |errno| SetupError::at("make namespaces")(errno);
    let (control, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).map_err(at)?;
    // The kernel then says who sends, in the ids of the receiver.
    setsockopt(&control, sockopt::PassCred, &true).map_err(at)?;
    let mut flags = libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::SIGCHLD;
    if namespaces.network.is_some() {
        flags |= libc::CLONE_NEWNET;
    }
    // SAFETY: as `fork`, with namespaces: no stack is given, so that the copy goes on with this one's. This process has one
    // thread, so that the copy may do whatever this one may.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::c_long::from(flags), 0, 0, 0, 0) };
    match Errno::result(pid).map_err(at)? {
        0 => {
            drop(control);
            // The keeper reads the failure when it sees the end of `theirs`, which must therefore come after it.
            if let Err(error) = serve(namespaces, &theirs, become_program, &fail) {
                fail(error.into());
            }
            leave()
        }
        pid => {
            drop(theirs);
            let pid = Pid::from_raw(i32::try_from(pid).unwrap_or(0));
            let init = Init { pid, control };
            init.map_users()?;
            Ok(init)
        }
    }
}

impl Init {
    /// Lets process 1 go on once its user namespace knows this user.
    fn map_users(&self) -> Setup {
        let lost = |_| SetupError::at("make namespaces")(Errno::ECHILD);
        let mut byte = [0];
        let received = receive(&self.control, &mut byte, MsgFlags::empty()).map_err(lost)?;
        if received.length == 0 {
            return Err(lost(Errno::ECHILD));
        }
        write_maps(self.pid)?;
        sendmsg::<UnixAddr>(self.control.as_raw_fd(), &[IoSlice::new(&[MAPPED])], &[], MsgFlags::MSG_NOSIGNAL, None)
            .map(drop)
            .map_err(lost)
    }

    /// The next thing that process 1 says; [`InitReport::Nothing`] where it says nothing now.
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
            LISTENERS => InitReport::Listeners(received.fds),
            PROGRAM => received.sender.map_or(InitReport::End, InitReport::Program),
            REPORT => match Report::decode(rest) {
                Some(Report::Exited(exit)) => InitReport::Exited(exit),
                _ => InitReport::Nothing,
            },
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

/// Makes the ids of this user namespace valid in the new one: all of them where this process may (root), else this user
/// and its group.
fn write_maps(init: Pid) -> Setup {
    let write = |file: &str, content: &str| {
        fs::write(format!("/proc/{init}/{file}"), content).map_err(|error| linux::errno_of(&error))
    };
    let at = |errno| SetupError::at("map the user into its namespace")(errno);
    if nix::unistd::geteuid().is_root() {
        let all = |file| identity_map(&fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default());
        let mapped = write("uid_map", &all("uid_map")).and_then(|()| write("gid_map", &all("gid_map")));
        match mapped {
            // Without the right to set ids root is as any other user.
            Err(Errno::EPERM) => {}
            other => return other.map_err(at),
        }
    }
    write("setgroups", "deny").map_err(at)?;
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    write("gid_map", &format!("{group} {group} 1\n")).map_err(at)?;
    write("uid_map", &format!("{user} {user} 1\n")).map_err(at)
}

/// The map under which every id of a namespace with that map keeps its number.
fn identity_map(own: &str) -> String {
    let ranges = own.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (first, _, count) = (fields.next()?, fields.next()?, fields.next()?);
        Some(format!("{first} {first} {count}\n"))
    });
    ranges.collect()
}

/// The life of process 1.
fn serve(
    namespaces: &Namespaces,
    control: &OwnedFd,
    become_program: impl FnOnce() -> ChildFailure,
    fail: &impl Fn(ChildFailure),
) -> Setup {
    let lost = |errno| SetupError::at("reach the keeper")(errno);
    let say = |kind: u8, fds: &[RawFd]| {
        let rights = [ControlMessage::ScmRights(fds)];
        let rights = if fds.is_empty() { &[][..] } else { &rights[..] };
        sendmsg::<UnixAddr>(control.as_raw_fd(), &[IoSlice::new(&[kind])], rights, MsgFlags::MSG_NOSIGNAL, None)
            .map(drop)
    };
    linux::set_process_name(c"ostler-init");
    privileges::be_transparent();
    say(READY, &[]).map_err(lost)?;
    let mut byte = [0];
    if receive(control, &mut byte, MsgFlags::empty()).map_err(lost)?.length == 0 {
        leave();
    }
    privileges::be_opaque();
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).map_err(lost)?;
    if let Some(network) = &namespaces.network {
        let listeners = network::open(network)?;
        let raw: Vec<RawFd> = listeners.iter().map(AsRawFd::as_raw_fd).collect();
        say(LISTENERS, &raw).map_err(lost)?;
    }
    if let Some(view) = &namespaces.view {
        view::build(view)?;
    }
    // SAFETY: this process has one thread, so that the copy may do whatever this one may.
    let program = match unsafe { fork() }.map_err(SetupError::at("make the program's process"))? {
        ForkResult::Child => {
            // Were process 1 to end now, the kernel would end this one as well.
            if say(PROGRAM, &[]).is_ok() {
                // It closes `control`, as all that it does not need.
                fail(become_program());
            }
            leave()
        }
        ForkResult::Parent { child } => child,
    };
    linux::close_all_but(&[control.as_raw_fd()]);
    collect(control, program)
}

/// Collects what ends, and reports the program's end. Returns never: ends when nothing is left.
fn collect(control: &OwnedFd, program: Pid) -> ! {
    loop {
        match wait_any(true) {
            Ok(Some((pid, status, usage))) if pid == program.as_raw() => {
                let mut message = vec![REPORT];
                let report = Report::Exited(Exit { status, usage }).encode().unwrap_or_default();
                // Without the length that a stream needs.
                message.extend_from_slice(report.get(4..).unwrap_or_default());
                let iov = [IoSlice::new(&message)];
                let sent = sendmsg::<UnixAddr>(control.as_raw_fd(), &iov, &[], MsgFlags::MSG_NOSIGNAL, None);
                if sent.is_err() {
                    leave();
                }
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => leave(),
        }
    }
}

/// The end of a program whose process 1 went without a word of it: somebody killed it, and the namespace with it.
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
