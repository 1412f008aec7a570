//! Where an export may appear.
//!
//! The folder is opened once, step by step and without following a link; what is checked is what is written to. A file
//! that an agent could have laid (a link, a device, a file in the host's own folders) is never written through.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use tempfile::NamedTempFile;

use super::{TEMPORARY, taken};
use ostler_protocol::{ApiError, ErrorKind};

/// Where a file is to appear.
#[derive(Debug)]
pub(super) struct Target {
    folder: OwnedFd,
    name: OsString,
    /// The whole path, without links.
    pub(super) path: PathBuf,
    /// Whether it lies in the host's folder, and goes with the run.
    pub(super) kept: bool,
    overwrite: bool,
}

/// What lies at a place already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occupied {
    Nothing,
    File,
}

impl Target {
    /// A file in the host's own folder of exports. The newer one takes the place of an earlier one of the same run.
    pub(super) fn kept(folder: &Path, name: &str) -> io::Result<Self> {
        let opened = File::open(folder)?.into();
        Ok(Self { folder: opened, name: name.into(), path: folder.join(name), kept: true, overwrite: true })
    }

    /// A file at a path that a client named. Checks what exists there.
    ///
    /// # Errors
    /// `INVALID_PARAMS` for a path that cannot be, or that leads through a link or into one of `forbidden`; `CONFLICT` where
    /// there is a file and `overwrite` was not asked for.
    pub(super) fn named(path: &Path, overwrite: bool, forbidden: &[PathBuf]) -> Result<(Self, Occupied), ApiError> {
        let wrong = |message: &str| ApiError::new(ErrorKind::InvalidParams, message).at("/path");
        if !path.is_absolute() {
            return Err(wrong("must be an absolute path"));
        }
        let name =
            path.file_name().filter(|_| path.to_str().is_some_and(|text| !text.contains('\0') && !text.ends_with('/')));
        let (Some(name), Some(parent)) = (name, path.parent()) else {
            return Err(wrong("must name a file, in UTF-8"));
        };
        let folder = open_folder(parent)?;
        let real = std::fs::read_link(fd_path(&folder))
            .map_err(|error| ApiError::new(ErrorKind::Io, format!("failed to find {}: {error}", parent.display())))?;
        if let Some(own) = forbidden.iter().find(|own| real.starts_with(own)) {
            return Err(wrong(&format!("lies in a folder of Ostler's own: {}", own.display()))
                .hint("name a file elsewhere, or leave the path out: the file then goes to the folder of exports"));
        }
        let occupied = look_at(&folder, name, path)?;
        if occupied == Occupied::File && !overwrite {
            return Err(taken(path));
        }
        Ok((Self { folder, name: name.to_owned(), path: real.join(name), kept: false, overwrite }, occupied))
    }

    /// A temporary file in the same folder.
    pub(super) fn begin(&self) -> io::Result<NamedTempFile<File>> {
        tempfile::Builder::new().prefix(TEMPORARY.0).suffix(TEMPORARY.1).tempfile_in(fd_path(&self.folder))
    }

    /// Lets the finished file appear in its place. Returns its size in bytes.
    pub(super) fn persist(&self, file: NamedTempFile<File>) -> io::Result<u64> {
        file.as_file().sync_all()?;
        let bytes = file.as_file().metadata()?.len();
        let place = fd_path(&self.folder).join(&self.name);
        // A rename replaces what has this name, and follows nothing. Dropping the temporary file, as an error does, removes
        // it.
        let placed = if self.overwrite { file.persist(place) } else { file.persist_noclobber(place) };
        placed.map_err(|error| error.error)?;
        Ok(bytes)
    }

    /// Leaves the finished file under the name that it was begun with. Returns its path and its size in bytes.
    pub(super) fn leave(&self, file: NamedTempFile<File>) -> io::Result<(PathBuf, u64)> {
        let (file, path) = file.keep().map_err(|error| error.error)?;
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        Ok((folder.join(path.file_name().unwrap_or_default()), file.metadata()?.len()))
    }

    /// Removes the file again.
    pub(super) fn remove(&self) {
        let _ = unlinkat(&self.folder, self.name.as_os_str(), UnlinkatFlags::NoRemoveDir);
    }
}

/// A path to the open file, which is valid even if its name has changed.
fn fd_path(folder: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}

/// Opens a folder without following a link anywhere on the way.
fn open_folder(path: &Path) -> Result<OwnedFd, ApiError> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let failed = |at: &Path, errno: Errno| {
        let wrong = |message: String| ApiError::new(ErrorKind::InvalidParams, message).at("/path");
        match errno {
            Errno::ENOTDIR | Errno::ELOOP if at.is_symlink() => {
                let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
                wrong(format!("the path leads through the link {}; exports do not follow links", at.display()))
                    .hint(format!("name the folder itself: {}", real.display()))
            }
            Errno::ENOENT => wrong(format!("the folder {} does not exist; create it first", at.display())),
            Errno::ENOTDIR => wrong(format!("{} is not a folder", at.display())),
            errno => ApiError::new(ErrorKind::Io, format!("failed to open {}: {}", at.display(), errno.desc())),
        }
    };
    let (mut at, mut folder): (PathBuf, Option<OwnedFd>) = (PathBuf::new(), None);
    for component in path.components() {
        let step: &OsStr = match component {
            Component::RootDir => OsStr::new("/"),
            Component::Normal(name) => name,
            Component::ParentDir => OsStr::new(".."),
            Component::CurDir | Component::Prefix(_) => continue,
        };
        at.push(step);
        let opened = match &folder {
            None => nix::fcntl::open(step, flags, Mode::empty()),
            Some(folder) => openat(folder.as_fd(), step, flags, Mode::empty()),
        };
        folder = Some(opened.map_err(|errno| failed(&at, errno))?);
    }
    folder.ok_or_else(|| failed(path, Errno::ENOENT))
}

/// What has this name in a folder.
///
/// # Errors
/// `INVALID_PARAMS` for what an export never replaces.
fn look_at(folder: &OwnedFd, name: &OsStr, path: &Path) -> Result<Occupied, ApiError> {
    let wrong = |message: &str| Err(ApiError::new(ErrorKind::InvalidParams, message).at("/path"));
    let found = match fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => return Ok(Occupied::Nothing),
        Err(errno) => {
            let message = format!("failed to look at {}: {}", path.display(), errno.desc());
            return Err(ApiError::new(ErrorKind::Io, message));
        }
        Ok(found) => SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT,
    };
    match found {
        SFlag::S_IFREG => Ok(Occupied::File),
        SFlag::S_IFDIR => wrong("is a folder; name a file in it"),
        SFlag::S_IFLNK => wrong("is a link; exports follow no links. Name the file itself"),
        _ => wrong("is not a regular file; name another"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::io::Write;
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        (folder, path)
    }

    fn write(target: &Target, text: &str) -> io::Result<u64> {
        let mut file = target.begin()?;
        file.write_all(text.as_bytes())?;
        target.persist(file)
    }

    #[track_caller]
    fn refused(path: &Path, overwrite: bool, forbidden: &[PathBuf], word: &str) {
        let error = Target::named(path, overwrite, forbidden).unwrap_err();
        assert_eq!((error.kind, error.pointer.as_deref()), (ErrorKind::InvalidParams, Some("/path")), "{error:?}");
        assert!(error.message.contains(word), "{error:?}");
    }

    #[test]
    fn refuses_links_on_the_way_and_at_its_end() {
        let (_folder, at) = folder();
        std::fs::create_dir(at.join("real")).unwrap();
        std::fs::write(at.join("victim"), "mine").unwrap();
        symlink("real", at.join("link")).unwrap();
        symlink("victim", at.join("out.md")).unwrap();
        refused(&at.join("link/out.md"), true, &[], "link");
        refused(&at.join("out.md"), true, &[], "link");
        refused(&at.join("none/out.md"), true, &[], "does not exist");
        refused(&at.join("victim/out.md"), true, &[], "is not a folder");
        refused(&at.join("real"), true, &[], "folder");
        assert_eq!(std::fs::read_to_string(at.join("victim")).unwrap(), "mine");
    }

    #[test]
    fn refuses_devices_and_folders_of_the_host() {
        let (_folder, at) = folder();
        refused(Path::new("/dev/null"), true, &[], "regular");
        std::fs::create_dir_all(at.join("data/exports")).unwrap();
        refused(&at.join("data/exports/x.md"), false, &[at.join("data")], "Ostler's own");
        refused(&at.join("data/../data/x.md"), false, &[at.join("data")], "Ostler's own");
        assert!(Target::named(&at.join("data/../x.md"), false, &[at.join("data")]).is_ok());
    }

    #[test]
    fn a_folder_that_is_exchanged_after_the_check_changes_nothing() {
        let (_folder, at) = folder();
        for name in ["out", "outside"] {
            std::fs::create_dir(at.join(name)).unwrap();
        }
        let (target, occupied) = Target::named(&at.join("out/x.md"), false, &[]).unwrap();
        assert_eq!(occupied, Occupied::Nothing);
        std::fs::rename(at.join("out"), at.join("moved")).unwrap();
        symlink("outside", at.join("out")).unwrap();
        assert_eq!(write(&target, "text").unwrap(), 4);
        assert_eq!(std::fs::read_to_string(at.join("moved/x.md")).unwrap(), "text");
        assert_eq!(std::fs::read_dir(at.join("outside")).unwrap().count(), 0);
        target.remove();
        assert_eq!(std::fs::read_dir(at.join("moved")).unwrap().count(), 0);
    }

    #[test]
    fn a_link_that_is_laid_after_the_check_is_not_followed() {
        let (_folder, at) = folder();
        std::fs::write(at.join("victim"), "mine").unwrap();
        let (careful, _) = Target::named(&at.join("x.md"), false, &[]).unwrap();
        let (bold, _) = Target::named(&at.join("x.md"), true, &[]).unwrap();
        symlink("victim", at.join("x.md")).unwrap();
        assert_eq!(write(&careful, "text").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        write(&bold, "text").unwrap();
        assert_eq!(std::fs::read_to_string(at.join("victim")).unwrap(), "mine");
        assert!(!at.join("x.md").is_symlink());
    }

    #[test]
    fn a_file_that_is_there_needs_a_word() {
        let (_folder, at) = folder();
        std::fs::write(at.join("x.md"), "mine").unwrap();
        assert_eq!(Target::named(&at.join("x.md"), false, &[]).unwrap_err().kind, ErrorKind::Conflict);
        let (target, occupied) = Target::named(&at.join("x.md"), true, &[]).unwrap();
        assert_eq!(occupied, Occupied::File);
        write(&target, "new").unwrap();
        assert_eq!(std::fs::read_to_string(at.join("x.md")).unwrap(), "new");
    }
}
