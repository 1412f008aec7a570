//! What to start, and the errors of starting it.

use std::ffi::{CString, OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;

use super::sandbox::{FileIdentity, Sandbox};
use super::terminal::TerminalSize;
use super::wire::{Program, c_string};
use ostler_protocol::MARKER_VARIABLE;

/// Everything that a child is started with. Nothing else is inherited: no variable, no open file, no signal mask.
#[derive(Debug, Clone)]
pub struct SpawnSpec {
    /// The program, by absolute path. No search path and no shell is involved.
    pub executable: PathBuf,
    /// The arguments, without the program's own name (which is `executable`).
    pub args: Vec<OsString>,
    /// The whole environment. [`MARKER_VARIABLE`] is added.
    pub environment: Vec<(OsString, OsString)>,
    /// The working directory, by absolute path.
    pub cwd: PathBuf,
    /// The folder that was checked. Where `cwd` leads to another one by now, the child is not started.
    pub cwd_identity: Option<FileIdentity>,
    /// What bounds the child.
    pub sandbox: Sandbox,
    /// Identifies this attempt's processes; all descendants inherit it. Unique for each attempt, not empty, without NUL.
    pub marker: String,
    /// What the child reads.
    pub stdin: Stdin,
    /// The size of the terminal that the child gets in place of three pipes. None: it gets pipes. What the program
    /// expects to find about it in its environment (`TERM`, perhaps `COLORTERM`) is up to `environment`.
    pub terminal: Option<TerminalSize>,
    /// Times and sizes.
    pub limits: SpawnLimits,
}

/// What the child finds on its standard input.
#[derive(Debug, Clone)]
pub enum Stdin {
    /// These bytes, then the end. They are written while output is read; empty means at once at the end. A terminal
    /// gets them as soon as the program runs, when it may not have set its modes yet.
    Bytes(Vec<u8>),
    /// Nothing yet: [`Child::write`](super::Child::write) adds, [`Child::close_stdin`](super::Child::close_stdin) ends.
    Open,
}

/// Times and sizes of one child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpawnLimits {
    /// How long streams may stay open after the child's exit before its descendants are ended and they are closed.
    pub linger: Duration,
    /// How many bytes [`Child::write`](super::Child::write) lets wait for a child that does not read.
    pub stdin_queue: usize,
}

impl Default for SpawnLimits {
    /// A linger of one second, a queue of 16 MiB.
    fn default() -> Self {
        Self { linger: Duration::from_secs(1), stdin_queue: 16 * 1024 * 1024 }
    }
}

impl SpawnSpec {
    /// The specification, checked and ready for `execve`.
    pub(super) fn program(&self) -> Result<Program, SpawnError> {
        let invalid = |message: String| SpawnError::new(SpawnErrorKind::Invalid, message);
        let shown = self.executable.display();
        if !self.executable.is_absolute() {
            return Err(invalid(format!("failed to start {shown}: the path of a program must be absolute")));
        }
        if !self.cwd.is_absolute() {
            let cwd = self.cwd.display();
            return Err(invalid(format!("failed to start {shown}: the working directory {cwd} must be absolute")));
        }
        if self.marker.is_empty() {
            return Err(invalid(format!("failed to start {shown}: the marker is empty")));
        }
        let text = |what: &str, text: &OsStr| {
            c_string(text).ok_or_else(|| invalid(format!("failed to start {shown}: {what} holds a NUL character")))
        };
        let mut argv = vec![text("its path", self.executable.as_os_str())?];
        for (index, argument) in self.args.iter().enumerate() {
            argv.push(text(&format!("argument {}", index + 1), argument)?);
        }
        let mut envp: Vec<CString> = Vec::with_capacity(self.environment.len() + 1);
        let marker = (OsString::from(MARKER_VARIABLE), OsString::from(&self.marker));
        let own = self.environment.iter().filter(|(name, _)| name != MARKER_VARIABLE);
        for (name, value) in own.chain([&marker]) {
            let display = name.to_string_lossy();
            if name.is_empty() || name.as_encoded_bytes().contains(&b'=') {
                return Err(invalid(format!("failed to start {shown}: {display:?} cannot be a variable's name")));
            }
            let mut variable = name.clone();
            variable.push("=");
            variable.push(value);
            envp.push(text(&format!("the variable {display}"), &variable)?);
        }
        Ok(Program {
            cwd: text("the working directory", self.cwd.as_os_str())?,
            cwd_identity: self.cwd_identity,
            sandbox: self.sandbox.clone(),
            terminal: self.terminal,
            argv,
            envp,
        })
    }
}

/// What kind of failure a [`SpawnError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpawnErrorKind {
    /// There is no such program.
    NotFound,
    /// The program is there, but cannot be executed: its mode, its format, or a missing interpreter.
    NotExecutable,
    /// The working directory is missing, not a directory, or may not be entered.
    BadCwd,
    /// The system lacks something at the moment (processes, memory, descriptors, or the file is being written): try again.
    Transient,
    /// Arguments and environment are larger than the system takes.
    TooLarge,
    /// The requested containment is not possible here.
    SandboxUnavailable,
    /// The zygote does not answer and could not be started again.
    ZygoteGone,
    /// The specification itself is wrong: a relative path, a NUL, an empty marker.
    Invalid,
    /// Anything else; the message says what.
    Other,
}

/// A child could not be started. Nothing of it is left.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SpawnError {
    /// What kind of failure, for decisions.
    pub kind: SpawnErrorKind,
    /// What failed and what to do, lower case, for people. Names paths, never values of the environment.
    pub message: String,
}

impl SpawnError {
    pub(super) fn new(kind: SpawnErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// Whether a retry a little later may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, SpawnErrorKind::Transient | SpawnErrorKind::ZygoteGone)
    }

    /// An error of the system while doing `what` ("open a pipe").
    pub(super) fn system(what: &str, errno: Errno) -> Self {
        let kind = if is_transient(errno) { SpawnErrorKind::Transient } else { SpawnErrorKind::Other };
        Self::new(kind, format!("failed to {what}: {}", errno.desc()))
    }
}

/// Whether an error of the system is temporary.
pub fn is_transient(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE | Errno::ETXTBSY | Errno::ENOBUFS | Errno::EINTR
    )
}

/// The zygote could not be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunnerError {
    /// [`start_zygote`](super::start_zygote) was called when the process had threads already: forking is unsound then.
    #[error("failed to fork the zygote: this process already has {0} threads; start it first thing in main")]
    Threads(usize),
    /// The system refused.
    #[error("failed to {what}: {}", .errno.desc())]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        errno: Errno,
    },
    /// The program that was to serve as zygote could not be started.
    #[error("failed to start the zygote {program}: {message}")]
    Launch {
        /// The program.
        program: PathBuf,
        /// The system's answer.
        message: String,
    },
}

impl RunnerError {
    pub(super) fn system(what: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self::System { what, errno }
    }
}
