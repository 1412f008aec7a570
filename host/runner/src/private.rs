//! The private folder of one attempt: files that the child reads, and files that it may leave.
//!
//! The child runs as the same user and can change anything in it. So nothing here follows a link: every folder on the
//! path is opened by itself, starting from a descriptor that was opened when the private folder was made.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::linux::{errno_of, read_limited};
use super::remove::{FOLDER, remove_tree};
use super::shims::{OUTSIDE, remove_outside};
use super::spec::is_transient;

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
pub struct PrivateDir {
    path: PathBuf,
    folder: OwnedFd,
    removed: bool,
}

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
    /// The path is not a regular file.
    #[error("{path:?} in the private folder is not a regular file, or lies behind a link")]
    NotAFile {
        /// The path as given.
        path: String,
    },
    /// The folder of private folders is not a folder, or is a link to one.
    #[error("failed to use {} for the files of runs: it is not a folder, or a link to one", .path.display())]
    NotAFolder {
        /// Its path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("failed to {what} {}: {}", .path.display(), .errno.desc())]
    System {
        /// What was tried.
        what: &'static str,
        /// The path.
        path: PathBuf,
        /// The system's answer.
        errno: Errno,
    },
}

impl PrivateDir {
    /// Makes `parent/name` (and `parent`, 0700, if it is missing). It must not exist yet, and `parent` must not be a
    /// link.
    ///
    /// # Errors
    /// A name that is not a single file name; a `parent` that is a link or not a folder; an error of the system.
    pub fn create(parent: &Path, name: &str) -> Result<Self, PrivateError> {
        Self::check(name)?;
        if name.contains('/') {
            return Err(PrivateError::BadPath { path: name.to_owned(), reason: "it must be a single name" });
        }
        let path = parent.join(name);
        let failed = |what| {
            let path = path.clone();
            move |errno| PrivateError::System { what, path, errno }
        };
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
        let above = match (open(parent, FOLDER, Mode::empty()), made) {
            (Ok(above), _) => above,
            (Err(Errno::ELOOP | Errno::ENOTDIR), _) => {
                return Err(PrivateError::NotAFolder { path: parent.to_owned() });
            }
            (Err(_), Err(error)) => return Err(failed("make the folder of")(errno_of(&error))),
            (Err(errno), Ok(())) => return Err(failed("open the folder of")(errno)),
        };
        mkdirat(&above, name, Mode::S_IRWXU).map_err(failed("make the private folder"))?;
        let folder = openat(&above, name, FOLDER, Mode::empty()).map_err(|errno| {
            let _ = unlinkat(&above, name, UnlinkatFlags::RemoveDir);
            failed("open the private folder")(errno)
        })?;
        Ok(Self { path, folder, removed: false })
    }

    /// Makes a folder in it, 0700.
    ///
    /// # Errors
    /// What the system refused.
    pub fn make_folder(&self, name: &str) -> Result<(), PrivateError> {
        mkdirat(&self.folder, name, Mode::S_IRWXU).map_err(|errno| PrivateError::System {
            what: "make the folder",
            path: self.path.join(name),
            errno,
        })
    }

    /// Its path, absolute if `parent` was.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks a relative path as [`PrivateDir::write`] does: `/` between folders, no `..`, no `.`, not absolute, no
    /// NUL, at most 512 bytes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(relative: &str) -> Result<(), PrivateError> {
        let reason = if relative.is_empty() {
            "it is empty"
        } else if relative.len() > 512 {
            "it is longer than 512 bytes"
        } else if relative.starts_with('/') {
            "it must be relative"
        } else if relative.contains('\0') {
            "it holds a NUL character"
        } else if relative.split('/').any(|part| matches!(part, "" | "." | "..")) {
            "it must not hold . or .. or an empty name"
        } else {
            return Ok(());
        };
        Err(PrivateError::BadPath { path: relative.to_owned(), reason })
    }

    /// Writes a new file, making the folders on its path (0700); returns its absolute path. Never follows links.
    ///
    /// # Errors
    /// A bad path, a file that exists already, an error of the system. No partly written file is left.
    pub fn write(&self, relative: &str, content: &[u8], access: Access) -> Result<PathBuf, PrivateError> {
        Self::check(relative)?;
        let path = self.path.join(relative);
        let failed = |what: &'static str| {
            let path = path.clone();
            move |errno| PrivateError::System { what, path, errno }
        };
        let (folders, name) = split(relative);
        let mut folder = self.root().map_err(failed("open the folder of"))?;
        for part in folders {
            match mkdirat(&folder, part, Mode::S_IRWXU) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(failed("make the folder of")(errno)),
            }
            folder = openat(&folder, part, FOLDER, Mode::empty()).map_err(failed("open the folder of"))?;
        }
        let mode = match access {
            Access::Data => Mode::S_IRUSR | Mode::S_IWUSR,
            Access::Executable => Mode::S_IRWXU,
        };
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&folder, name, flags, mode).map_err(failed("create"))?;
        let written =
            fchmod(&file, mode).and_then(|()| File::from(file).write_all(content).map_err(|error| errno_of(&error)));
        if let Err(errno) = written {
            let _ = unlinkat(&folder, name, UnlinkatFlags::NoRemoveDir);
            return Err(failed("write")(errno));
        }
        Ok(path)
    }

    /// Reads a file that the child may have left; `None` if there is none. Regular files only, links are not
    /// followed, at most `limit` bytes.
    ///
    /// # Errors
    /// A bad path, something that is not a regular file, an error of the system.
    pub fn collect(&self, relative: &str, limit: usize) -> Result<Option<Collected>, PrivateError> {
        Self::check(relative)?;
        let not_a_file = || PrivateError::NotAFile { path: relative.to_owned() };
        let failed = |errno| match errno {
            Errno::ELOOP | Errno::ENOTDIR | Errno::ENXIO | Errno::ENODEV => not_a_file(),
            errno => PrivateError::System { what: "read", path: self.path.join(relative), errno },
        };
        let (folders, name) = split(relative);
        let opened = || {
            let mut folder = self.root()?;
            for part in folders {
                folder = openat(&folder, part, FOLDER, Mode::empty())?;
            }
            // Not blocking: a FIFO would wait for a writer for ever.
            let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
            openat(&folder, name, flags, Mode::empty())
        };
        let file = match opened() {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        };
        if !file.metadata().map_err(|error| failed(errno_of(&error)))?.is_file() {
            return Err(not_a_file());
        }
        let mut content = read_limited(file, limit).map_err(|error| failed(errno_of(&error)))?;
        let truncated = content.len() > limit;
        content.truncate(limit);
        Ok(Some(Collected { content, truncated }))
    }

    /// Removes it now, and reports an error.
    ///
    /// # Errors
    /// What the system refused; the next removal, or the next [`sweep`], tries again.
    pub fn remove(mut self) -> Result<(), PrivateError> {
        self.removed = true;
        remove_with_earlier(&self.path).map_err(|errno| PrivateError::System {
            what: "remove the private folder",
            path: self.path.clone(),
            errno,
        })
    }

    fn root(&self) -> nix::Result<OwnedFd> {
        openat(self.folder.as_fd(), ".", FOLDER, Mode::empty())
    }
}

impl Drop for PrivateDir {
    fn drop(&mut self) {
        if !self.removed
            && let Err(error) = remove_with_earlier(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "failed to remove a private folder");
        }
    }
}

/// Private folders that could not be removed because descriptors or memory were lacking. The next removal tries them
/// again.
static UNREMOVED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes a private folder, then those that could not be removed before.
fn remove_with_earlier(path: &Path) -> nix::Result<()> {
    let unremoved = || UNREMOVED.lock().unwrap_or_else(PoisonError::into_inner);
    let remove = |path: &Path| {
        remove_tree(path).inspect_err(|errno| {
            if is_transient(*errno) {
                unremoved().push(path.to_owned());
            }
        })
    };
    let removed = remove(path);
    if removed.is_ok() {
        let earlier = std::mem::take(&mut *unremoved());
        for path in earlier {
            let _ = remove(&path);
        }
    }
    removed
}

/// The folders on the path, and the file's own name.
fn split(relative: &str) -> (impl Iterator<Item = &str>, &str) {
    let (folders, name) = relative.rsplit_once('/').unwrap_or(("", relative));
    (folders.split('/').filter(|part| !part.is_empty()), name)
}

/// What a sweep did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SweepReport {
    /// Folders that were removed.
    pub removed: Vec<PathBuf>,
    /// Folders that could not be removed, and why.
    pub failed: Vec<(PathBuf, String)>,
}

/// Removes all private folders under `parent` whose name `keep` rejects: those of dead runs, with the shims that they
/// put elsewhere. Called at the start of a host, which owns all of them.
pub fn sweep(parent: &Path, keep: impl Fn(&OsStr) -> bool) -> SweepReport {
    let mut report = SweepReport::default();
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if keep(&entry.file_name()) {
            continue;
        }
        let path = entry.path();
        let is_folder = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir());
        let done = if is_folder {
            sweep_outside(&path);
            remove_tree(&path).map_err(std::io::Error::from)
        } else {
            fs::remove_file(&path)
        };
        match done {
            Ok(()) => report.removed.push(path),
            Err(error) => report.failed.push((path, error.to_string())),
        }
    }
    report
}

fn sweep_outside(path: &Path) {
    let Ok(folder) = open(path, FOLDER, Mode::empty()) else { return };
    let dir = PrivateDir { path: path.to_owned(), folder, removed: true };
    if let Ok(Some(manifest)) = dir.collect(OUTSIDE, 1024 * 1024) {
        remove_outside(&String::from_utf8_lossy(&manifest.content));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::fs::symlink;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn dir(parent: &tempfile::TempDir) -> PrivateDir {
        PrivateDir::create(&parent.path().join("private"), "run-1").unwrap()
    }

    #[test]
    fn files_are_private_and_removed_with_the_folder() {
        let parent = tempfile::tempdir().unwrap();
        let dir = dir(&parent);
        let data = dir.write("a/b/c.json", b"x", Access::Data).unwrap();
        let tool = dir.write("tool", b"#!", Access::Executable).unwrap();
        assert_eq!(fs::read(&data).unwrap(), b"x");
        assert_eq!((mode(dir.path()), mode(&dir.path().join("a/b"))), (0o700, 0o700));
        assert_eq!((mode(&data), mode(&tool)), (0o600, 0o700));
        assert!(dir.write("tool", b"again", Access::Data).is_err());
        assert_eq!(fs::read(&tool).unwrap(), b"#!");
        assert!(PrivateDir::create(&parent.path().join("private"), "run-1").is_err());
        let path = dir.path().to_owned();
        drop(dir);
        assert!(!path.exists());
    }

    #[test]
    fn path_out_of_the_folder_is_rejected() {
        let parent = tempfile::tempdir().unwrap();
        let dir = dir(&parent);
        for bad in ["", "/etc/x", "../x", "a/../x", "./x", "a//b", "a/", "a\0b", &"x".repeat(513)] {
            let refused = |result: PrivateError| matches!(result, PrivateError::BadPath { .. });
            assert!(refused(dir.write(bad, b"", Access::Data).unwrap_err()), "{bad:?}");
            assert!(refused(dir.collect(bad, 1).unwrap_err()), "{bad:?}");
        }
        assert!(PrivateDir::create(parent.path(), "a/b").is_err());
    }

    #[test]
    fn links_are_never_followed() {
        let parent = tempfile::tempdir().unwrap();
        let outside = parent.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("secret"), "s").unwrap();
        let dir = dir(&parent);
        symlink(&outside, dir.path().join("folder")).unwrap();
        symlink(outside.join("secret"), dir.path().join("file")).unwrap();
        nix::unistd::mkfifo(&dir.path().join("fifo"), Mode::S_IRWXU).unwrap();
        fs::create_dir(dir.path().join("plain")).unwrap();
        for no_file in ["folder/secret", "file", "fifo", "plain"] {
            let found = dir.collect(no_file, 10);
            assert_eq!(found, Err(PrivateError::NotAFile { path: no_file.to_owned() }), "{no_file}");
        }
        assert!(dir.write("folder/new", b"", Access::Data).is_err());
        drop(dir);
        assert!(outside.join("secret").exists());
        assert!(!outside.join("new").exists());
    }

    #[test]
    fn parent_that_is_a_link_or_file_is_rejected() {
        let parent = tempfile::tempdir().unwrap();
        let (real, link) = (parent.path().join("real"), parent.path().join("link"));
        fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        symlink("nowhere", parent.path().join("dangling")).unwrap();
        fs::write(parent.path().join("file"), "").unwrap();
        for name in ["link", "dangling", "file"] {
            let path = parent.path().join(name);
            assert_eq!(PrivateDir::create(&path, "run-1").unwrap_err(), PrivateError::NotAFolder { path });
        }
        assert_eq!(fs::read_dir(&real).unwrap().count(), 0);
    }

    #[test]
    fn collected_content_is_cut_at_the_limit() {
        let parent = tempfile::tempdir().unwrap();
        let dir = dir(&parent);
        fs::write(dir.path().join("left"), "12345").unwrap();
        let collected = |content: &[u8], truncated| Ok(Some(Collected { content: content.to_vec(), truncated }));
        assert_eq!(dir.collect("left", 5), collected(b"12345", false));
        assert_eq!(dir.collect("left", 4), collected(b"1234", true));
        assert_eq!(dir.collect("absent", 4), Ok(None));
        assert_eq!(dir.collect("absent/file", 4), Ok(None));
    }

    #[test]
    fn sweep_removes_folders_that_are_not_kept() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["dead", "alive"] {
            std::mem::forget(PrivateDir::create(parent.path(), name).unwrap());
        }
        let closed = parent.path().join("dead/closed");
        fs::create_dir(&closed).unwrap();
        fs::write(closed.join("file"), "").unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
        let report = sweep(parent.path(), |name| name == "alive");
        assert_eq!(report, SweepReport { removed: vec![parent.path().join("dead")], failed: Vec::new() });
        assert!(parent.path().join("alive").exists());
        assert_eq!(sweep(&parent.path().join("absent"), |_| false), SweepReport::default());
    }
}
