//! A terminal (PTY) in place of the child's three pipes.
//!
//! # Who opens it
//! The child's own process does, after it has entered its namespaces and before it is restricted, and it sends the
//! master to the host over a socket, which takes the place of the pipes on the way through zygote and keeper:
//! ```text
//! host ◀──socket── program's process: opens /dev/ptmx, sends master and slave, keeps the slave as its streams
//! ```
//! So the terminal belongs to the `/dev/pts` that the child sees: it can name and reopen it (`tty`, `ttyname`), and in a
//! sandbox with a `/dev` of its own, no process outside can name it. A terminal that the host opened would be in the
//! host's `/dev/pts` instead, next to those of all other runs. Zygote, keeper and process 1 never have the terminal
//! open; the host gets it with close-on-exec set.
//!
//! The crates that start a program in a terminal (`portable-pty`, `pty-process`) make the process, too, and would run
//! in the host. Here the zygote makes it, so only the system calls are needed: `nix` has most of them.
//!
//! # The end of the output
//! Reading a master fails with EIO while no process has the slave open, also if the child only closed its streams and
//! is about to open `/dev/tty`. So the host keeps the slave open until the child has exited, and takes EIO as the end
//! of the stream after that. The kernel keeps what was written until it is read, and reports EIO only after that;
//! nothing that the child wrote is lost. Closing the master earlier would lose it, so input ends differently:
//! see [`end_of_input`].
//!
//! # Modes
//! A new terminal is as a terminal emulator makes it: lines are edited and echoed, Ctrl-C and Ctrl-D work, LF becomes
//! CRLF. Input that comes before the program has changed the modes is therefore echoed, as typing ahead is at any
//! terminal. It would be wrong to turn echo off for that: programs that read lines rely on it, and those that edit lines
//! themselves restore the modes that they found.

use std::io::{IoSlice, IoSliceMut};
use std::num::NonZeroU16;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::pty::{posix_openpt, unlockpt};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use nix::sys::termios::{InputFlags, LocalFlags, SetArg, SpecialCharacterIndices as Key, tcgetattr, tcsetattr};
use serde::{Deserialize, Serialize};

/// Ctrl-D, for a terminal that has no key for the end of input.
const CTRL_D: u8 = 4;

/// The size of a terminal, in characters. Neither number is 0, by which programs would divide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    rows: NonZeroU16,
    columns: NonZeroU16,
}

impl TerminalSize {
    /// A size; None if a number is 0.
    #[must_use]
    pub const fn new(rows: u16, columns: u16) -> Option<Self> {
        match (NonZeroU16::new(rows), NonZeroU16::new(columns)) {
            (Some(rows), Some(columns)) => Some(Self { rows, columns }),
            _ => None,
        }
    }

    /// The number of lines.
    #[must_use]
    pub const fn rows(self) -> u16 {
        self.rows.get()
    }

    /// The number of characters in a line.
    #[must_use]
    pub const fn columns(self) -> u16 {
        self.columns.get()
    }
}

impl Default for TerminalSize {
    /// 30 rows of 120 columns.
    fn default() -> Self {
        let number = |value: u16| NonZeroU16::MIN.saturating_add(value - 1);
        Self { rows: number(30), columns: number(120) }
    }
}

/// Why a terminal was not resized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResizeRefused {
    /// The child has pipes.
    #[error("the child has no terminal that could be resized")]
    NoTerminal,
    /// The stream has ended.
    #[error("the terminal is closed: the child has ended")]
    Closed,
    /// The system refused.
    #[error("failed to resize the terminal: {}", .0.desc())]
    System(Errno),
}

/// Opens a terminal, makes it the controlling terminal and the standard streams of this process, and sends it to the
/// host. The process must be the leader of a session without a terminal.
pub(super) fn open(size: TerminalSize, host: &OwnedFd) -> nix::Result<()> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    // No `grantpt`: the kernel has set owner and mode already, and old C libraries would look for the group `tty`.
    let master = posix_openpt(flags)?;
    unlockpt(&master)?;
    // Without a path: the one of the slave may lead elsewhere.
    // SAFETY: an open descriptor and flags; returns a new descriptor or -1.
    let slave = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags.bits()) };
    // SAFETY: the kernel made this descriptor just now, and nothing else owns it.
    let slave = unsafe { OwnedFd::from_raw_fd(Errno::result(slave)?) };
    set_size(slave.as_fd(), size)?;
    let mut modes = tcgetattr(&slave)?;
    // With it, the terminal erases a whole character of several bytes.
    modes.input_flags |= InputFlags::IUTF8;
    tcsetattr(&slave, SetArg::TCSANOW, &modes)?;
    // SAFETY: an open descriptor and a number: no terminal is taken from another session.
    Errno::result(unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0) })?;
    nix::unistd::dup2_stdin(&slave)?;
    nix::unistd::dup2_stdout(&slave)?;
    nix::unistd::dup2_stderr(&slave)?;
    let rights = [master.as_raw_fd(), slave.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&rights)];
    sendmsg::<UnixAddr>(host.as_raw_fd(), &[IoSlice::new(b"t")], &rights, MsgFlags::MSG_NOSIGNAL, None).map(drop)
}

/// Receives the terminal that the child has sent before it executed its program: master and slave.
pub(super) fn receive(socket: &OwnedFd) -> nix::Result<(OwnedFd, OwnedFd)> {
    let mut byte = [0];
    let mut space = nix::cmsg_space!([RawFd; 2]);
    let mut iov = [IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut iov, Some(&mut space), flags)?;
    let mut owned = Vec::new();
    // A message that was cut, because descriptors are lacking, fails here.
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = part {
            // SAFETY: the kernel made these descriptors for this process just now.
            owned.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    let [master, slave] = <[OwnedFd; 2]>::try_from(owned).map_err(|_| Errno::EMFILE)?;
    Ok((master, slave))
}

/// Sets the size. Where it changes, the kernel sends SIGWINCH to the foreground process group.
pub(super) fn set_size(terminal: BorrowedFd<'_>, size: TerminalSize) -> nix::Result<()> {
    let size = libc::winsize { ws_row: size.rows(), ws_col: size.columns(), ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: an open descriptor and a live structure of the type that the request reads.
    Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }).map(drop)
}

/// Sends SIGINT to the foreground process group, as Ctrl-C does, whatever the modes are and without discarding output.
/// Not if that is the group of `leader`, the child, which is signalled by other means.
pub(super) fn interrupt_foreground(master: BorrowedFd<'_>, leader: i32) {
    if nix::unistd::tcgetpgrp(master).is_ok_and(|group| group.as_raw() != leader) {
        // SAFETY: an open descriptor and a signal's number.
        unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSIG, libc::SIGINT) };
    }
}

/// Sends SIGINT to the foreground process group, if Ctrl-C does. Returns whether it does.
pub(super) fn interrupt_by_modes(master: BorrowedFd<'_>) -> bool {
    let signals = tcgetattr(master).is_ok_and(|modes| modes.local_flags.contains(LocalFlags::ISIG));
    // SAFETY: an open descriptor and a signal's number.
    signals && Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSIG, libc::SIGINT) }).is_ok()
}

/// The bytes that end the input, where `last` is the last byte of input before them.
///
/// Where the terminal edits lines, its key for the end of input (VEOF, Ctrl-D) ends one read of the program, as if a
/// file had ended; in the middle of a line it only hands over that line, so it is needed twice. A program that reads on
/// after the end waits, as at any terminal. Where the program reads single keys ("raw"), there is no end of input: it
/// gets the key, Ctrl-D, by which most programs that people use leave.
pub(super) fn end_of_input(master: BorrowedFd<'_>, last: Option<u8>) -> Vec<u8> {
    // The master's modes are those of the slave.
    let Ok(modes) = tcgetattr(master) else { return vec![CTRL_D] };
    let key = |key: Key| modes.control_chars.get(key as usize).copied().filter(|key| *key != 0);
    if !modes.local_flags.contains(LocalFlags::ICANON) {
        return vec![CTRL_D];
    }
    // A terminal without that key cannot end its input.
    let Some(end) = key(Key::VEOF) else { return Vec::new() };
    let ends_line = [Key::VEOF, Key::VEOL, Key::VEOL2, Key::VKILL, Key::VINTR, Key::VQUIT, Key::VSUSP];
    let at_start = last.is_none_or(|last| {
        matches!(last, b'\n' | b'\r') || ends_line.into_iter().filter_map(key).any(|key| key == last)
    });
    if at_start { vec![end] } else { vec![end, end] }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn master() -> nix::pty::OpenptyResult {
        nix::pty::openpty(None, None).unwrap()
    }

    #[test]
    fn size_with_a_zero_is_rejected() {
        assert_eq!(TerminalSize::new(0, 80), None);
        assert_eq!(TerminalSize::new(24, 0), None);
        assert_eq!(TerminalSize::new(30, 120), Some(TerminalSize::default()));
        assert!(serde_json::from_str::<TerminalSize>(r#"{"rows":0,"columns":1}"#).is_err());
    }

    #[test]
    fn end_of_input_is_sent_twice_in_the_middle_of_a_line() {
        let terminal = master();
        for last in [None, Some(b'\n'), Some(b'\r'), Some(4), Some(3)] {
            assert_eq!(end_of_input(terminal.master.as_fd(), last), [4], "{last:?}");
        }
        for last in [b'x', b' ', 0, 0xff] {
            assert_eq!(end_of_input(terminal.master.as_fd(), Some(last)), [4, 4], "{last}");
        }
    }

    #[test]
    fn end_of_input_follows_the_modes_of_the_terminal() {
        let terminal = master();
        let mut modes = tcgetattr(&terminal.slave).unwrap();
        modes.control_chars[Key::VEOF as usize] = 26;
        tcsetattr(&terminal.slave, SetArg::TCSANOW, &modes).unwrap();
        assert_eq!(end_of_input(terminal.master.as_fd(), None), [26]);
        modes.control_chars[Key::VEOF as usize] = 0;
        tcsetattr(&terminal.slave, SetArg::TCSANOW, &modes).unwrap();
        assert!(end_of_input(terminal.master.as_fd(), None).is_empty());
        nix::sys::termios::cfmakeraw(&mut modes);
        tcsetattr(&terminal.slave, SetArg::TCSANOW, &modes).unwrap();
        assert_eq!(end_of_input(terminal.master.as_fd(), Some(b'x')), [4]);
    }
}
