//! Removes a tree of any depth and size with a few descriptors, even if its permissions deny that to the owner.
//!
//! A child may nest folders deeper than any stack, and the host may be short of descriptors. So nothing here recurses:
//! folders that are not empty are moved up into the top folder, until none is nested.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, renameat};
use nix::libc;
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// How folders are opened: not through a link.
pub(super) const FOLDER: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// How many names are read at a time.
const BATCH: usize = 1024;

/// Removes a folder and everything in it. Does not follow links; a missing file is not an error.
///
/// # Errors
/// The error of the system; part of the tree may be left.
pub(super) fn remove_tree(path: &Path) -> nix::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::EINVAL) };
    let name = CString::new(name.as_encoded_bytes()).map_err(|_| Errno::EINVAL)?;
    let parent = match open(parent, FOLDER | OFlag::O_PATH, Mode::empty()) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        opened => opened?,
    };
    let top = match open_folder(&parent, &name) {
        Err(Errno::ENOENT) => return Ok(()),
        opened => opened?,
    };
    let mut moved = 0_u64;
    loop {
        let names = names(&top)?;
        if names.is_empty() {
            break;
        }
        let (mut progress, mut failed) = (false, Errno::EIO);
        for name in &names {
            match remove_entry(&top, name, &mut moved) {
                Ok(()) => progress = true,
                Err(errno) => failed = errno,
            }
        }
        if !progress {
            return Err(failed);
        }
    }
    drop(top);
    gone(unlinkat(&parent, name.as_c_str(), UnlinkatFlags::RemoveDir))
}

/// Removes an entry of the top folder; entries of a folder below it are removed or moved up.
fn remove_entry(top: &OwnedFd, name: &CString, moved: &mut u64) -> nix::Result<()> {
    match remove_alone(top, name) {
        Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::EACCES) => {}
        other => return other,
    }
    let folder = open_folder(top, name)?;
    loop {
        let inner = names(&folder)?;
        if inner.is_empty() {
            break;
        }
        for entry in &inner {
            match remove_alone(&folder, entry) {
                Err(Errno::ENOTEMPTY | Errno::EEXIST) => move_up(&folder, entry, top, moved)?,
                other => other?,
            }
        }
    }
    drop(folder);
    gone(unlinkat(top, name.as_c_str(), UnlinkatFlags::RemoveDir))
}

/// Removes a file, a link, or a folder that is empty.
fn remove_alone(folder: &OwnedFd, name: &CString) -> nix::Result<()> {
    let found = match fstatat(folder, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => return Ok(()),
        found => found?,
    };
    let is_folder = found.st_mode & libc::S_IFMT == libc::S_IFDIR;
    let how = if is_folder { UnlinkatFlags::RemoveDir } else { UnlinkatFlags::NoRemoveDir };
    gone(unlinkat(folder, name.as_c_str(), how))
}

fn move_up(folder: &OwnedFd, name: &CString, top: &OwnedFd, moved: &mut u64) -> nix::Result<()> {
    // A folder can be moved only by those who may write to it.
    let _ = fchmodat(folder, name.as_c_str(), Mode::S_IRWXU, FchmodatFlags::FollowSymlink);
    loop {
        *moved += 1;
        let target = CString::new(format!(".removing-{moved}")).map_err(|_| Errno::EINVAL)?;
        match renameat(folder, name.as_c_str(), top, target.as_c_str()) {
            // The name exists already: the child made it.
            Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) => {}
            other => return other,
        }
    }
}

/// Opens a folder, with all permissions for its owner. A link is not followed.
fn open_folder(parent: &OwnedFd, name: &CString) -> nix::Result<OwnedFd> {
    let found = fstatat(parent, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if found.st_mode & libc::S_IFMT == libc::S_IFDIR && found.st_mode & 0o700 != 0o700 {
        fchmodat(parent, name.as_c_str(), Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?;
    }
    openat(parent, name.as_c_str(), FOLDER, Mode::empty())
}

/// The first names in a folder.
fn names(folder: &OwnedFd) -> nix::Result<Vec<CString>> {
    let mut dir = Dir::openat(folder.as_fd(), ".", FOLDER, Mode::empty())?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name.to_owned());
        }
        if names.len() >= BATCH {
            break;
        }
    }
    Ok(names)
}

fn gone(result: nix::Result<()>) -> nix::Result<()> {
    match result {
        Err(Errno::ENOENT) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn removes_deeper_trees_than_descriptors_allow() {
        let root = tempfile::tempdir().unwrap();
        let tree = root.path().join("tree");
        fs::create_dir(&tree).unwrap();
        // Deeper than a path can be long.
        let mut folder: OwnedFd = fs::File::open(&tree).unwrap().into();
        for _ in 0..5000 {
            nix::sys::stat::mkdirat(&folder, "d", Mode::S_IRWXU).unwrap();
            folder = openat(&folder, "d", FOLDER, Mode::empty()).unwrap();
        }
        drop(folder);
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }

    #[test]
    fn removes_closed_folders_and_leaves_what_links_lead_to() {
        let root = tempfile::tempdir().unwrap();
        let (tree, other) = (root.path().join("tree"), root.path().join("other"));
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::create_dir(tree.join(".removing-1")).unwrap();
        fs::write(tree.join(".removing-1/x"), "x").unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("kept"), "x").unwrap();
        fs::write(tree.join("a/b/file"), "x").unwrap();
        symlink(&other, tree.join("a/link")).unwrap();
        for closed in ["a/b", "a"] {
            fs::set_permissions(tree.join(closed), fs::Permissions::from_mode(0o000)).unwrap();
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && other.join("kept").exists());
        remove_tree(&tree).unwrap();
    }

    #[test]
    fn removes_many_files_in_batches() {
        let root = tempfile::tempdir().unwrap();
        let tree = root.path().join("tree");
        fs::create_dir(&tree).unwrap();
        for number in 0..BATCH + 10 {
            fs::write(tree.join(number.to_string()), "").unwrap();
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }
}
