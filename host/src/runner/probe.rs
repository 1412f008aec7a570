//! A short command whose whole output is wanted: `codex --version`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::event::ExitStatus;
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
    /// As [`SpawnSpec::marker`](super::SpawnSpec::marker).
    pub marker: String,
    /// How long it may take, from its start to the end of its output.
    pub timeout: Duration,
    /// How many bytes of each stream are kept; the rest is read and dropped.
    pub max_output: usize,
}

/// What came of a probe. Nothing of it is left in any case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// It ended by itself.
    Finished {
        /// How.
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
        /// And to standard error.
        stderr: Vec<u8>,
    },
    /// There is no such program.
    NotFound,
    /// It could not be started for another reason.
    Failed(super::SpawnError),
}

/// Runs a probe and waits for it, with an empty standard input.
pub fn run_probe(zygote: &Zygote, spec: &ProbeSpec) -> ProbeOutcome {
    todo!()
}
