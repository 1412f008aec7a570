//! What a child reports.

use std::time::Duration;

/// One of the child's output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output. With a terminal, everything that the child prints.
    Stdout,
    /// Standard error. There is none with a terminal.
    Stderr,
}

/// What [`Child::next`](super::Child::next) returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Bytes of a stream, never empty, at most 256 KiB.
    Output {
        /// The stream.
        stream: Stream,
        /// The bytes, cut anywhere.
        bytes: Vec<u8>,
    },
    /// The stream has ended or was closed after the linger. Once for each stream that the child has.
    EndOfStream(Stream),
    /// The child itself has ended; its descendants and streams may live on for the linger. Exactly once.
    Exited(Exit),
    /// All input has been written, and standard input was closed. A terminal has got its key for the end of input.
    StdinClosed,
    /// The child does not read its input: it closed it or has ended. No further input will be written. With a terminal,
    /// only its end is noticed.
    StdinFailed {
        /// How many bytes were not written.
        unwritten: usize,
    },
    /// The tree is gone, but for the survivors named. Always the last event, after the ends of all streams and the exit;
    /// a further call returns it again.
    Contained(Contained),
    /// [`Waker::wake`](super::Waker::wake) was called since the last event of this kind.
    Woken,
    /// The time given to [`Child::next`](super::Child::next) has come.
    Deadline,
}

/// How the child ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Code or signal.
    pub status: ExitStatus,
    /// What it used, with the descendants that it waited for. Zero where unknown.
    pub usage: Usage,
}

/// The child's exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// It returned this code.
    Code(i32),
    /// It died by this signal.
    Signal(i32),
    /// Its keeper was killed, so the status is lost.
    Unknown,
}

/// What a child used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// CPU time in user mode.
    pub user: Duration,
    /// CPU time in the kernel.
    pub system: Duration,
    /// The largest resident size of any one of its processes, in bytes. Not less than the keeper's, a few MiB.
    pub peak_rss: u64,
}

/// What happened to the descendants that outlived the child.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contained {
    /// Descendants that had to be killed, the first 64 of them. The child itself is never among them.
    pub killed: Vec<Leftover>,
    /// How many had to be killed in all.
    pub killed_total: usize,
    /// Processes that were still alive two seconds after SIGKILL, the first 64 of them: `LEFTOVER_PROCESS`.
    pub survivors: Vec<Leftover>,
    /// The keeper itself was killed; the host ended what it could identify.
    pub keeper_lost: bool,
}

/// A process that outlived the child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Its process id.
    pub pid: i32,
    /// Its short name, as the kernel has it (at most 15 bytes).
    pub name: String,
}

/// The first signal of [`Child::stop`](super::Child::stop).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGINT to the child's process group, as Ctrl-C would, and to the foreground process group of its terminal; then
    /// SIGTERM and SIGKILL to every descendant.
    Interrupt,
    /// SIGTERM to every descendant, then SIGKILL.
    Terminate,
    /// SIGHUP to the child's process group, as when its terminal is closed, then SIGTERM and SIGKILL to every descendant.
    /// Interactive shells ignore SIGTERM.
    Hangup,
}
