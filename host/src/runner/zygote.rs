//! The host's handle of the zygote.

use std::ffi::OsString;
use std::path::Path;

use super::child::Prepared;
use super::spec::{RunnerError, SpawnError, SpawnSpec};

/// The process that starts all children. `Send + Sync`: share it in an `Arc`; calls from several threads run in parallel.
#[derive(Debug)]
pub struct Zygote {}

impl Zygote {
    /// Starts `program args…`, which must call [`serve_zygote`](super::serve_zygote) with its standard input and
    /// nothing else. Sound in a process with threads; costs an exec of that program.
    pub fn launch(program: &Path, args: &[OsString]) -> Result<Self, RunnerError> {
        todo!()
    }

    /// Names the program for [`Zygote::launch`] that takes this zygote's place, should it die. Without it, every
    /// [`Zygote::prepare`] fails with [`ZygoteGone`](super::SpawnErrorKind::ZygoteGone) from then on.
    pub fn respawn_with(self, program: impl Into<std::path::PathBuf>, args: Vec<OsString>) -> Self {
        todo!()
    }

    /// Makes keeper and child, the latter waiting before it executes the program: record
    /// [`Prepared::identity`], then call [`Prepared::start`].
    ///
    /// # Errors
    /// A wrong specification and everything that goes wrong before the program is executed.
    pub fn prepare(&self, spec: &SpawnSpec) -> Result<Prepared, SpawnError> {
        todo!()
    }

    /// Whether the zygote still answers.
    pub fn is_alive(&self) -> bool {
        todo!()
    }
}
