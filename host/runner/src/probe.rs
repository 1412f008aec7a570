//! Runs a short command and collects its output: `codex --version`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::event::{Event, ExitStatus, StopSignal, Stream};
use super::sandbox::Sandbox;
use super::spec::{SpawnError, SpawnErrorKind, SpawnLimits, SpawnSpec, Stdin};
use super::zygote::Zygote;

/// A short command.
#[derive(Debug, Clone)]
pub struct ProbeSpec {
    /// The program, by absolute path.
    pub executable: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Its working directory.
    pub cwd: PathBuf,
    /// As [`SpawnSpec::marker`].
    pub marker: String,
    /// How long it may take, from its start to its exit.
    pub timeout: Duration,
    /// How many bytes of each stream are kept; the rest is read and dropped.
    pub max_output: usize,
    /// What bounds it.
    pub sandbox: Sandbox,
}

/// The result of a probe. No process of it is left in any case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// It ended by itself.
    Finished {
        /// Its exit status.
        status: ExitStatus,
        /// Its standard output, at most `max_output` bytes.
        stdout: Vec<u8>,
        /// Its standard error, at most `max_output` bytes.
        stderr: Vec<u8>,
        /// Whether output was dropped.
        truncated: bool,
    },
    /// It took too long and was ended.
    TimedOut {
        /// What it had printed until then.
        stdout: Vec<u8>,
        /// What it had printed to standard error.
        stderr: Vec<u8>,
    },
    /// There is no such program.
    NotFound,
    /// It could not be started for another reason.
    Failed(SpawnError),
}

/// Runs a probe and waits for it, with an empty standard input.
pub fn run_probe(zygote: &Zygote, spec: &ProbeSpec) -> ProbeOutcome {
    let spawn = SpawnSpec {
        executable: spec.executable.clone(),
        args: spec.args.clone(),
        environment: spec.environment.clone(),
        cwd: spec.cwd.clone(),
        cwd_identity: None,
        sandbox: spec.sandbox.clone(),
        marker: spec.marker.clone(),
        terminal: None,
        stdin: Stdin::Bytes(Vec::new()),
        limits: SpawnLimits::default(),
    };
    let mut child = match zygote.prepare(&spawn).and_then(super::Prepared::start) {
        Ok(child) => child,
        Err(error) if error.kind == SpawnErrorKind::NotFound => return ProbeOutcome::NotFound,
        Err(error) => return ProbeOutcome::Failed(error),
    };
    let deadline = Instant::now().checked_add(spec.timeout);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let (mut status, mut truncated, mut timed_out) = (None, false, false);
    loop {
        match child.next(deadline.filter(|_| !timed_out)) {
            Event::Output { stream, bytes } => {
                let kept = if stream == Stream::Stdout { &mut stdout } else { &mut stderr };
                let room = spec.max_output.saturating_sub(kept.len());
                truncated |= bytes.len() > room;
                kept.extend_from_slice(bytes.get(..room).unwrap_or(&bytes));
            }
            Event::Exited(exit) => status = Some(exit.status),
            // After an exit in time, the linger bounds what is left.
            Event::Deadline if status.is_none() => {
                timed_out = true;
                child.stop(StopSignal::Terminate, Duration::ZERO);
            }
            Event::Contained(_) => break,
            Event::Deadline | Event::EndOfStream(_) | Event::StdinClosed | Event::StdinFailed { .. } | Event::Woken => {
            }
        }
    }
    if timed_out {
        ProbeOutcome::TimedOut { stdout, stderr }
    } else {
        let status = status.unwrap_or(ExitStatus::Unknown);
        ProbeOutcome::Finished { status, stdout, stderr, truncated }
    }
}
