//! The private folder of one attempt: files that the child reads, and files that it may leave.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Whether a private file can be executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// 0600.
    Data,
    /// 0700.
    Executable,
}

/// A folder of mode 0700 that is removed with everything in it when dropped.
#[derive(Debug)]
pub struct PrivateDir {}

/// A file that the child left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collected {
    /// The first bytes of it, up to the limit.
    pub content: Vec<u8>,
    /// Whether there was more.
    pub truncated: bool,
}

/// A private folder or file could not be made or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrivateError {
    /// The relative path is not one that stays inside.
    #[error("{path:?} is not a path inside the private folder: {reason}")]
    BadPath {
        /// The path as given.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is something else than a regular file.
    #[error("{path:?} in the private folder is not a regular file")]
    NotAFile {
        /// The path as given.
        path: String,
    },
    /// The system refused.
    #[error("failed to {what} {}: {}", .path.display(), .errno.desc())]
    System {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's answer.
        errno: nix::errno::Errno,
    },
}

impl PrivateDir {
    /// Makes `parent/name` (and `parent`, 0700, where it is missing). It must not exist yet.
    pub fn create(parent: &Path, name: &str) -> Result<Self, PrivateError> {
        todo!()
    }

    /// Where it is, absolute if `parent` was.
    pub fn path(&self) -> &Path {
        todo!()
    }

    /// Checks a relative path as [`PrivateDir::write`] does: `/` between folders, no `..`, no `.`, not absolute, no NUL.
    pub fn check(relative: &str) -> Result<(), PrivateError> {
        todo!()
    }

    /// Writes a new file, making the folders on its way (0700); returns its absolute path. Never follows links.
    pub fn write(&self, relative: &str, content: &[u8], access: Access) -> Result<PathBuf, PrivateError> {
        todo!()
    }

    /// Reads a file that the child may have left; `None` where there is none. Regular files only, links are not
    /// followed, at most `limit` bytes.
    pub fn collect(&self, relative: &str, limit: usize) -> Result<Option<Collected>, PrivateError> {
        todo!()
    }

    /// Removes it now, and tells if that fails.
    pub fn remove(self) -> Result<(), PrivateError> {
        todo!()
    }
}

/// What a sweep did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SweepReport {
    /// Folders that were removed.
    pub removed: Vec<PathBuf>,
    /// Folders that could not be, and why.
    pub failed: Vec<(PathBuf, String)>,
}

/// Removes all private folders under `parent` that `keep` does not claim by name: those of runs that are dead.
pub fn sweep(parent: &Path, keep: impl Fn(&OsStr) -> bool) -> SweepReport {
    todo!()
}
