//! The messages between host and keeper: frames on the lifeline socket.
//!
//! Both ends are the same program, so there is no version; a frame that cannot be read ends the connection.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use super::event::{Contained, Exit, ExitStatus, Leftover, StopSignal, Usage};
use super::sandbox::{FileIdentity, Sandbox};
use super::terminal::TerminalSize;

/// The largest frame that is accepted: arguments and environment of one child. Far above the limit of `execve`.
pub(super) const MAX_FRAME: usize = 16 * 1024 * 1024;
/// The largest number of processes that a message names.
pub(super) const MAX_NAMED: usize = 64;

/// What the keeper needs to know about the program, ready for `execve`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) cwd: CString,
    /// The folder that was checked; None if none was.
    pub(super) cwd_identity: Option<FileIdentity>,
    /// What bounds the child.
    pub(super) sandbox: Sandbox,
    /// The terminal that it opens for its streams. None: it was given pipes.
    pub(super) terminal: Option<TerminalSize>,
    /// The program's path is the first of them.
    pub(super) argv: Vec<CString>,
    pub(super) envp: Vec<CString>,
}

/// From the host to the keeper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// Always first: fork the child for this program.
    Prepare(Box<Program>),
    /// Let it execute.
    Start,
    /// End the tree in stages.
    Stop { first: StopSignal, grace: Duration },
    /// End the tree now.
    Contain,
}

/// What the child was doing when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Making keeper or child.
    Fork,
    /// Entering the working directory.
    Cwd,
    /// Executing the program.
    Exec,
    /// Containing the child.
    Sandbox,
    /// Opening its terminal.
    Terminal,
    /// Anything between.
    Setup,
}

/// Identifies a process uniquely within one boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProcessKey {
    pub(super) pid: i32,
    pub(super) start_ticks: u64,
}

/// From the keeper to the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Report {
    /// Keeper and child exist. Sockets that the host is to serve come with it.
    Prepared { keeper: ProcessKey, child: ProcessKey },
    /// There is no child, or no longer. `step` says what was tried if the stage does not.
    Failed { stage: Stage, errno: i32, step: String },
    /// The program runs.
    Started,
    /// The child has ended.
    Exited(Exit),
    /// The tree has ended; always last.
    Contained(Contained),
}

impl Stage {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Fork => 0,
            Self::Cwd => 1,
            Self::Exec => 2,
            Self::Setup => 3,
            Self::Sandbox => 4,
            Self::Terminal => 5,
        }
    }

    pub(super) fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Fork,
            1 => Self::Cwd,
            2 => Self::Exec,
            4 => Self::Sandbox,
            5 => Self::Terminal,
            _ => Self::Setup,
        }
    }
}

/// A frame that is being written: four bytes for the length, then the fields.
struct Writer(Vec<u8>);

impl Writer {
    fn new(tag: u8) -> Self {
        Self(vec![0, 0, 0, 0, tag])
    }

    fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn i32(mut self, value: i32) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn process_key(self, value: ProcessKey) -> Self {
        self.i32(value.pid).u64(value.start_ticks)
    }

    fn bytes(mut self, value: &[u8]) -> Self {
        self = self.u64(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn strings(self, values: &[CString]) -> Self {
        values.iter().fold(self.u64(values.len() as u64), |writer, value| writer.bytes(value.as_bytes()))
    }

    fn leftovers(self, values: &[Leftover]) -> Self {
        let values = values.get(..MAX_NAMED).unwrap_or(values);
        values
            .iter()
            .fold(self.u64(values.len() as u64), |writer, value| writer.i32(value.pid).bytes(value.name.as_bytes()))
    }

    /// The frame, or None if it exceeds [`MAX_FRAME`].
    fn finish(mut self) -> Option<Vec<u8>> {
        let length = u32::try_from(self.0.len() - 4).ok().filter(|length| *length as usize <= MAX_FRAME)?;
        self.0.get_mut(..4)?.copy_from_slice(&length.to_le_bytes());
        Some(self.0)
    }
}

/// A frame that is being read; every method returns None if the frame is too short.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn i32(&mut self) -> Option<i32> {
        Some(i32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn process_key(&mut self) -> Option<ProcessKey> {
        Some(ProcessKey { pid: self.i32()?, start_ticks: self.u64()? })
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u64()?).ok()?;
        self.take(length)
    }

    fn strings(&mut self) -> Option<Vec<CString>> {
        let count = self.u64()?;
        (0..count).map(|_| CString::new(self.bytes()?).ok()).collect()
    }

    fn leftovers(&mut self) -> Option<Vec<Leftover>> {
        let count = self.u64()?;
        let mut one = || {
            let pid = self.i32()?;
            Some(Leftover { pid, name: String::from_utf8_lossy(self.bytes()?).into_owned() })
        };
        (0..count).map(|_| one()).collect()
    }
}

impl Command {
    /// As a frame; nothing where it is too large.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        match self {
            Self::Prepare(program) => {
                let bounds = serde_json::to_vec(&(&program.cwd_identity, &program.sandbox, &program.terminal)).ok()?;
                Writer::new(0)
                    .bytes(program.cwd.as_bytes())
                    .bytes(&bounds)
                    .strings(&program.argv)
                    .strings(&program.envp)
                    .finish()
            }
            Self::Start => Writer::new(1).finish(),
            Self::Stop { first, grace } => Writer::new(2)
                .u8(match first {
                    StopSignal::Terminate => 0,
                    StopSignal::Interrupt => 1,
                    StopSignal::Hangup => 2,
                })
                .u64(u64::try_from(grace.as_millis()).unwrap_or(u64::MAX))
                .finish(),
            Self::Contain => Writer::new(3).finish(),
        }
    }

    /// From the body of a frame.
    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        Some(match reader.u8()? {
            0 => {
                let cwd = CString::new(reader.bytes()?).ok()?;
                let (cwd_identity, sandbox, terminal) = serde_json::from_slice(reader.bytes()?).ok()?;
                let (argv, envp) = (reader.strings()?, reader.strings()?);
                Self::Prepare(Box::new(Program { cwd, cwd_identity, sandbox, terminal, argv, envp }))
            }
            1 => Self::Start,
            2 => {
                let first = match reader.u8()? {
                    0 => StopSignal::Terminate,
                    1 => StopSignal::Interrupt,
                    2 => StopSignal::Hangup,
                    _ => return None,
                };
                Self::Stop { first, grace: Duration::from_millis(reader.u64()?) }
            }
            3 => Self::Contain,
            _ => return None,
        })
    }
}

impl Report {
    /// As a frame; nothing where it is too large.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        match self {
            Self::Prepared { keeper, child } => Writer::new(0).process_key(*keeper).process_key(*child).finish(),
            Self::Failed { stage, errno, step } => {
                Writer::new(1).u8(stage.code()).i32(*errno).bytes(step.as_bytes()).finish()
            }
            Self::Started => Writer::new(2).finish(),
            Self::Exited(exit) => {
                let (kind, value) = match exit.status {
                    ExitStatus::Code(code) => (0, code),
                    ExitStatus::Signal(signal) => (1, signal),
                    ExitStatus::Unknown => (2, 0),
                };
                let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
                let Usage { user, system, peak_rss } = exit.usage;
                Writer::new(3).u8(kind).i32(value).u64(micros(user)).u64(micros(system)).u64(peak_rss).finish()
            }
            Self::Contained(contained) => Writer::new(4)
                .u64(contained.killed_total as u64)
                .leftovers(&contained.killed)
                .leftovers(&contained.survivors)
                .finish(),
        }
    }

    /// From the body of a frame.
    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        Some(match reader.u8()? {
            0 => Self::Prepared { keeper: reader.process_key()?, child: reader.process_key()? },
            1 => Self::Failed {
                stage: Stage::from_code(reader.u8()?),
                errno: reader.i32()?,
                step: String::from_utf8_lossy(reader.bytes()?).into_owned(),
            },
            2 => Self::Started,
            3 => {
                let kind = reader.u8()?;
                let value = reader.i32()?;
                let status = match kind {
                    0 => ExitStatus::Code(value),
                    1 => ExitStatus::Signal(value),
                    _ => ExitStatus::Unknown,
                };
                let user = Duration::from_micros(reader.u64()?);
                let system = Duration::from_micros(reader.u64()?);
                Self::Exited(Exit { status, usage: Usage { user, system, peak_rss: reader.u64()? } })
            }
            4 => Self::Contained(Contained {
                killed_total: usize::try_from(reader.u64()?).ok()?,
                killed: reader.leftovers()?,
                survivors: reader.leftovers()?,
                keeper_lost: false,
            }),
            _ => return None,
        })
    }
}

/// Bytes of a stream of frames, cut anywhere.
#[derive(Debug, Default)]
pub(super) struct Frames(Vec<u8>);

impl Frames {
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The body of the next whole frame.
    ///
    /// # Errors
    /// A frame larger than [`MAX_FRAME`]: the peer does not follow the protocol.
    pub(super) fn pop(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(header) = self.0.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*header) as usize;
        if length > MAX_FRAME {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        if self.0.len() < 4 + length {
            return Ok(None);
        }
        let body = self.0.drain(..4 + length).skip(4).collect();
        Ok(Some(body))
    }
}

/// A C string; None if the text contains a NUL.
pub(super) fn c_string(text: &OsStr) -> Option<CString> {
    CString::new(text.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn cut(frame: &[u8], at: usize) -> Vec<u8> {
        let mut frames = Frames::default();
        let (first, second) = frame.split_at(at.min(frame.len()));
        frames.extend(first);
        if !second.is_empty() {
            assert_eq!(frames.pop().unwrap(), None);
        }
        frames.extend(second);
        let body = frames.pop().unwrap().unwrap();
        assert_eq!(frames.pop().unwrap(), None);
        body
    }

    proptest! {
        #[test]
        fn a_program_survives_the_way(
            cwd in "[^\0]{0,20}", argv in prop::collection::vec("[^\0]{0,20}", 0..5),
            envp in prop::collection::vec("[^\0]{0,20}", 0..5), at in 0usize..100,
        ) {
            let strings = |from: Vec<String>| from.into_iter().map(|s| CString::new(s).unwrap()).collect();
            let sent = Command::Prepare(Box::new(Program {
                cwd: CString::new(cwd).unwrap(), argv: strings(argv), envp: strings(envp),
                cwd_identity: Some(FileIdentity { device: 1, inode: u64::MAX }),
                sandbox: Sandbox::default(),
                terminal: TerminalSize::new(40, 100),
            }));
            prop_assert_eq!(Command::decode(&cut(&sent.encode().unwrap(), at)), Some(sent));
        }

        #[test]
        fn garbage_is_refused_quietly(body in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Command::decode(&body);
            let _ = Report::decode(&body);
        }
    }

    #[test]
    fn reports_survive_the_way() {
        let leftover = |pid| Leftover { pid, name: "sleep".to_owned() };
        let usage = Usage { user: Duration::from_millis(3), system: Duration::from_micros(7), peak_rss: 4096 };
        for sent in [
            Report::Prepared {
                keeper: ProcessKey { pid: 7, start_ticks: 1 },
                child: ProcessKey { pid: 8, start_ticks: u64::MAX },
            },
            Report::Failed { stage: Stage::Sandbox, errno: 2, step: "mount /work".to_owned() },
            Report::Started,
            Report::Exited(Exit { status: ExitStatus::Signal(9), usage }),
            Report::Exited(Exit { status: ExitStatus::Code(3), usage }),
            Report::Contained(Contained {
                killed: vec![leftover(1), leftover(2)],
                killed_total: 2,
                survivors: vec![leftover(3)],
                keeper_lost: false,
            }),
        ] {
            assert_eq!(Report::decode(&cut(&sent.encode().unwrap(), 3)), Some(sent));
        }
    }

    #[test]
    fn leftovers_beyond_the_limit_are_counted_but_not_named() {
        let killed = vec![Leftover { pid: 1, name: String::new() }; 1000];
        let sent = Report::Contained(Contained { killed, killed_total: 1000, ..Contained::default() });
        let Some(Report::Contained(got)) = Report::decode(&cut(&sent.encode().unwrap(), 0)) else { panic!() };
        assert_eq!((got.killed.len(), got.killed_total), (MAX_NAMED, 1000));
    }
}
