//! Empty folders in the places of protected ones that are missing, for as long as a child lives.
//!
//! The child sees them read-only. They are the keeper's, which outlives the child and the host.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Folders that were made, each with the open folder that it is in.
#[derive(Debug, Default)]
pub(super) struct Placeholders(Vec<(OwnedFd, PathBuf)>);

impl Placeholders {
    /// Makes those that are missing. One that cannot be made is left out: then the child cannot make it either, or finds
    /// it already there.
    pub(super) fn make(paths: &[PathBuf]) -> Self {
        let made = paths.iter().filter_map(|path| {
            let folder = open_folder(path.parent()?).ok()?;
            let name = PathBuf::from(path.file_name()?);
            mkdirat(&folder, &name, Mode::from_bits_truncate(0o755)).ok()?;
            Some((folder, name))
        });
        Self(made.collect())
    }

    /// Removes those that are still empty.
    pub(super) fn remove(&mut self) {
        for (folder, name) in self.0.drain(..) {
            let _ = unlinkat(&folder, &name, UnlinkatFlags::RemoveDir);
        }
    }
}

impl Drop for Placeholders {
    fn drop(&mut self) {
        self.remove();
    }
}

fn open_folder(path: &Path) -> nix::Result<OwnedFd> {
    open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
}
