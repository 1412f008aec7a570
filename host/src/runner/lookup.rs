//! Finds programs on a search path.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A program file, with what tells that it has been replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executable {
    /// Where it was found, absolute, links not resolved (programs look at the name they are called by).
    pub path: PathBuf,
    /// Size in bytes of the file that the links lead to.
    pub size: u64,
    /// When that file was last written.
    pub modified: SystemTime,
}

/// What came of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The first match.
    Found(Executable),
    /// Nothing usable, but these bear the name: no regular file, or no permission to execute.
    NotExecutable(Vec<PathBuf>),
    /// Nothing of the name.
    NotFound,
}

/// Searches `search_path` for the first of `names` that is there; an earlier name wins over an earlier folder.
/// Relative entries of the path are ignored. A name with a slash is taken only if it is absolute, and looked at directly.
pub fn find_executable<S: AsRef<OsStr>>(names: &[S], search_path: &OsStr) -> Lookup {
    todo!()
}

/// Looks at one file by absolute path.
pub fn inspect_executable(path: &Path) -> Lookup {
    todo!()
}

/// How to start a program so that no search path is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// What to execute.
    pub executable: PathBuf,
    /// Arguments before the program's own: the interpreter's, and the script.
    pub leading_args: Vec<OsString>,
}

/// Why a script cannot be started without a search path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// The script's interpreter is not on the search path.
    #[error("failed to find {interpreter:?}, the interpreter of {}: install it or put it on PATH", .script.display())]
    InterpreterMissing {
        /// The script.
        script: PathBuf,
        /// The interpreter's name.
        interpreter: String,
    },
    /// The program cannot be read.
    #[error("failed to read {}: {message}", .path.display())]
    Unreadable {
        /// The program.
        path: PathBuf,
        /// The system's answer.
        message: String,
    },
}

/// Resolves a `#!/usr/bin/env NAME` script's interpreter on `search_path`, so that the script starts when its own
/// `PATH` is a folder of shims. Programs that need no such help come back as they are.
pub fn resolve_launch(executable: &Path, search_path: &OsStr) -> Result<Launch, LaunchError> {
    todo!()
}
