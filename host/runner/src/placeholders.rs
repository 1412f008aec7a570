//! Empty folders and files at protected paths that are missing, as long as children live.
//!
//! A child sees them read-only, and so cannot make them itself. They belong to the keeper, which outlives the child
//! and the host. Several keepers may need the same one: each holds a shared lock on it, and the last one removes it. A
//! placeholder has a file mode that nothing else has, so that one whose keeper was killed is recognized and reused.

use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, open, openat};
use nix::sys::stat::{Mode, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use serde::{Deserialize, Serialize};

use super::remove::FOLDER;

/// Modes that mark a placeholder: unlikely for any other file.
const FOLDER_MODE: u32 = 0o551;
const FILE_MODE: u32 = 0o440;

/// Modes given to a placeholder with content: it then belongs to the user.
const FILLED_FOLDER_MODE: u32 = 0o755;
const FILLED_FILE_MODE: u32 = 0o644;

/// How often locking is tried, in case other keepers remove the same placeholder meanwhile.
const TRIES: usize = 3;

/// A protected file or folder that is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placeholder {
    /// Where, absolute.
    pub path: PathBuf,
    /// Whether it is a folder.
    pub folder: bool,
}

impl Placeholder {
    /// The content of a file: valid for programs that read it, and without settings.
    fn content(&self) -> &'static [u8] {
        if self.path.extension().is_some_and(|extension| extension == "json") { b"{}\n" } else { b"" }
    }

    /// Whether there is a placeholder at this path already.
    #[must_use]
    pub fn is_there(&self) -> bool {
        let Ok(found) = fs::symlink_metadata(&self.path) else { return false };
        let mode = found.permissions().mode() & 0o7777;
        match self.folder {
            true => {
                found.is_dir()
                    && mode == FOLDER_MODE
                    && fs::read_dir(&self.path).is_ok_and(|mut all| all.next().is_none())
            }
            false => {
                found.is_file() && mode == FILE_MODE && fs::read(&self.path).is_ok_and(|text| text == self.content())
            }
        }
    }
}

/// A placeholder on which this keeper has a shared lock.
#[derive(Debug)]
struct Locked {
    placeholder: Placeholder,
    parent: OwnedFd,
    lock: Flock<OwnedFd>,
}

/// The placeholders of one keeper.
#[derive(Debug, Default)]
pub(super) struct Placeholders(Vec<Locked>);

impl Placeholders {
    /// Makes those that are missing, and shares those of other keepers. One that cannot be made is left out: then the
    /// child cannot make it either, or another process has made it.
    pub(super) fn make(wanted: &[Placeholder]) -> Self {
        Self(wanted.iter().filter_map(|placeholder| (0..TRIES).find_map(|_| lock(placeholder).ok())).collect())
    }

    /// Removes those that no other keeper needs and that are still empty.
    pub(super) fn remove(&mut self) {
        for Locked { placeholder, parent, lock } in self.0.drain(..) {
            let Some(name) = placeholder.path.file_name() else { continue };
            // Replace the shared lock by an exclusive one; if another keeper has a lock, keep the placeholder.
            let Ok(file) = lock.unlock() else { continue };
            let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { continue };
            let how = if placeholder.folder { UnlinkatFlags::RemoveDir } else { UnlinkatFlags::NoRemoveDir };
            if !placeholder.is_there() || unlinkat(&parent, name, how).is_err() {
                reset_mode(&lock, placeholder.folder);
            }
        }
    }
}

/// Gives a placeholder that has content now a mode with which its owner can work.
fn reset_mode(file: &OwnedFd, folder: bool) {
    let (own, theirs) = if folder { (FOLDER_MODE, FILLED_FOLDER_MODE) } else { (FILE_MODE, FILLED_FILE_MODE) };
    if fstat(file).is_ok_and(|found| found.st_mode & 0o7777 == own) {
        let _ = fchmod(file.as_fd(), Mode::from_bits_truncate(theirs));
    }
}

impl Drop for Placeholders {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Makes a placeholder, or reuses one, and takes a shared lock on it.
fn lock(placeholder: &Placeholder) -> nix::Result<Locked> {
    let (Some(folder), Some(name)) = (placeholder.path.parent(), placeholder.path.file_name()) else {
        return Err(Errno::EINVAL);
    };
    let parent = open(folder, FOLDER | OFlag::O_PATH, Mode::empty())?;
    let made = if placeholder.folder {
        mkdirat(&parent, name, Mode::from_bits_truncate(FOLDER_MODE)).map(|()| None)
    } else {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        openat(&parent, name, flags, Mode::from_bits_truncate(FILE_MODE)).map(Some)
    };
    match made {
        Ok(Some(file)) => {
            fs::File::from(file).write_all(placeholder.content()).map_err(|_| Errno::EIO)?;
        }
        Ok(None) => {}
        Err(Errno::EEXIST) if placeholder.is_there() => {}
        Err(errno) => return Err(errno),
    }
    let file = openat(&parent, name, OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    // Set it explicitly: the umask of this process may have changed it.
    let mode = if placeholder.folder { FOLDER_MODE } else { FILE_MODE };
    fchmod(file.as_fd(), Mode::from_bits_truncate(mode))?;
    let lock = Flock::lock(file, FlockArg::LockSharedNonblock).map_err(|(_, errno)| errno)?;
    // Another keeper may have removed it before the lock was there.
    let (locked, there) = (fstat(&*lock)?, fstatat(&parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)?);
    if (locked.st_dev, locked.st_ino) != (there.st_dev, there.st_ino) {
        return Err(Errno::EAGAIN);
    }
    Ok(Locked { placeholder: placeholder.clone(), parent, lock })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::path::Path;

    use super::*;

    fn wanted(root: &Path) -> Vec<Placeholder> {
        let of = |name: &str, folder| Placeholder { path: root.join(name), folder };
        vec![of("folder", true), of("settings.json", false)]
    }

    #[test]
    fn shared_placeholder_is_removed_by_the_last_keeper() {
        let root = tempfile::tempdir().unwrap();
        let wanted = wanted(root.path());
        let (mut first, mut second) = (Placeholders::make(&wanted), Placeholders::make(&wanted));
        assert_eq!((first.0.len(), second.0.len()), (2, 2));
        assert_eq!(fs::read_to_string(root.path().join("settings.json")).unwrap(), "{}\n");
        first.remove();
        assert!(wanted.iter().all(Placeholder::is_there));
        second.remove();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn placeholder_folder_with_content_stays_and_becomes_writable() {
        let root = tempfile::tempdir().unwrap();
        let mut placeholders = Placeholders::make(&wanted(root.path()));
        let folder = root.path().join("folder");
        // As root can, or an owner who changes the mode and changes it back.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(folder.join("settings.json"), "the user's").unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(FOLDER_MODE)).unwrap();
        placeholders.remove();
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, FILLED_FOLDER_MODE);
        assert!(folder.join("settings.json").exists() && !root.path().join("settings.json").exists());
    }

    #[test]
    fn files_of_others_and_filled_placeholders_stay() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("folder")).unwrap();
        let mut placeholders = Placeholders::make(&wanted(root.path()));
        assert_eq!(placeholders.0.len(), 1);
        let file = root.path().join("settings.json");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&file, "the user's").unwrap();
        placeholders.remove();
        assert!(root.path().join("folder").exists() && file.exists());
    }
}
