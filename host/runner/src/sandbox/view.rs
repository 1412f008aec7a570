//! Builds what a child sees of the file system, in its own mount namespace, as process 1 of its PID namespace.
//!
//! Trees that stay open are copied first, detached from everything. Then the whole becomes read-only, and covers and
//! copies are mounted from the root towards the leaves, so that the deeper of two entries decides.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::libc;
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, fstat, mkdirat};

use super::super::linux::errno_of;
use super::mounts::{self, PLAIN};
use super::{FileIdentity, OpenPath, Setup, SetupError, TEMPORARY_FOLDERS, View};

/// Devices of a minimal `/dev`, as far as the host has them.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Links of a minimal `/dev`.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Parts of `/proc` that belong to the whole system. Its files ask for the owner, not for a capability: a child of root
/// could change them.
pub(super) const KERNEL: [&str; 7] = ["sys", "sysrq-trigger", "irq", "bus", "fs", "acpi", "scsi"];

/// Bytes of shared memory (`/dev/shm`) of one child, at most.
const SHARED_MEMORY: &str = "512m";

/// The mount point of the cover sources while the view is built; `/proc` is mounted there at the end.
const SCRATCH: &str = "/proc";

/// What is mounted at a path.
enum Entry {
    /// A detached copy.
    Tree { tree: OwnedFd, required: bool },
    /// An empty file or folder.
    Cover,
}

/// Builds the view. What was mounted stays in this mount namespace and goes with it.
pub(super) fn build(view: &View) -> Setup {
    mounts::make_all_private().map_err(SetupError::at("detach mounts from the host"))?;
    let entries = entries(view)?;
    let devices = if view.minimal_dev { copies_of_devices() } else { Vec::new() };
    if view.read_only {
        mounts::make_all_read_only().map_err(SetupError::at("make the file system read-only"))?;
    }
    let covers = Covers::mount()?;
    if view.minimal_dev {
        make_dev(&devices)?;
    }
    let open: Vec<PathBuf> =
        entries.iter().filter(|(_, entry)| matches!(entry, Entry::Tree { .. })).map(|(path, _)| path.clone()).collect();
    let mut unfinished = Vec::new();
    for (path, entry) in &entries {
        match entry {
            Entry::Tree { tree, required } => match attach(tree, path) {
                Ok(()) => {}
                // A folder above it is covered, or has been removed.
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EROFS) if !required => {}
                Err(errno) => return Err(SetupError::on("mount", path)(errno)),
            },
            Entry::Cover => {
                let holds_open = open.iter().any(|open| open != path && open.starts_with(path));
                unfinished.extend(covers.cover(path, holds_open)?);
            }
        }
    }
    for cover in &unfinished {
        mounts::set_attributes(cover.as_fd(), libc::MOUNT_ATTR_RDONLY, false)
            .map_err(SetupError::at("make a cover read-only"))?;
    }
    let mut writable: Vec<&Path> = view.open.iter().filter(|open| open.write).map(|open| open.path.as_path()).collect();
    if !view.read_only {
        writable.push(Path::new("/"));
    }
    let mut pinned = BTreeSet::new();
    let covered = entries.iter().filter(|(path, entry)| matches!(entry, Entry::Cover) && path.exists());
    for (path, _) in covered {
        pin(path, &writable, &mut pinned)?;
    }
    for path in &view.protect {
        protect(path, &writable, &mut pinned)?;
    }
    umount2(SCRATCH, MntFlags::MNT_DETACH).map_err(SetupError::at("detach the covers"))?;
    mount_proc()
}

/// The mount for each path, parents before children. A path that stays open is not covered by an entry of its own.
fn entries(view: &View) -> Setup<BTreeMap<PathBuf, Entry>> {
    let mut entries = BTreeMap::new();
    for hidden in &view.hide {
        // The target of a link is covered. A missing path needs no cover.
        if let Ok(path) = hidden.canonicalize() {
            entries.insert(path, Entry::Cover);
        }
    }
    if let Some(folder) = &view.tmp {
        for target in TEMPORARY_FOLDERS {
            let Ok(target) = Path::new(target).canonicalize() else { continue };
            let tree = copy(folder, PLAIN)?;
            entries.insert(target, Entry::Tree { tree, required: true });
        }
    }
    let covered: Vec<PathBuf> = entries.keys().cloned().collect();
    for open in &view.open {
        let Some(tree) = copy_checked(open)? else { continue };
        // A path without a cover above is visible and readable already.
        let shown = !covered.iter().any(|cover| open.path.starts_with(cover));
        if shown && (!open.write || !view.read_only) {
            continue;
        }
        entries.insert(open.path.clone(), Entry::Tree { tree, required: open.required });
    }
    Ok(entries)
}

/// Whether a path that was not opened is missing, as far as this user can see.
pub(super) const fn is_absent(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES)
}

/// A copy of something that stays open, if it is there and is what was checked.
fn copy_checked(open: &OpenPath) -> Setup<Option<OwnedFd>> {
    let tree = match copy(&open.path, if open.write { PLAIN } else { PLAIN | libc::MOUNT_ATTR_RDONLY }) {
        Ok(tree) => tree,
        Err(error) if !open.required && is_absent(error.errno) => return Ok(None),
        Err(error) => return Err(error),
    };
    if let Some(checked) = open.identity {
        let found = FileIdentity::of(&tree).map_err(SetupError::on("look at", &open.path))?;
        if found != checked {
            return Err(SetupError::on("find the folder that was checked at", &open.path)(Errno::ESTALE));
        }
    }
    Ok(Some(tree))
}

fn copy(path: &Path, attributes: u64) -> Setup<OwnedFd> {
    let tree = mounts::copy_tree(path).map_err(SetupError::on("open", path))?;
    mounts::set_attributes(tree.as_fd(), attributes, true).map_err(SetupError::on("bound", path))?;
    Ok(tree)
}

/// Mounts a detached tree at a path. The path is made first if a cover or the private temporary folder lacks it.
fn attach(tree: &OwnedFd, path: &Path) -> nix::Result<()> {
    let target = match mounts::open_path(path) {
        Err(Errno::ENOENT) => make_mount_point(path, mounts::is_folder(tree)?)?,
        found => found?,
    };
    mounts::attach(tree.as_fd(), target.as_fd())
}

/// Makes the file or folder on which a tree is then mounted.
fn make_mount_point(path: &Path, folder: bool) -> nix::Result<OwnedFd> {
    let made = match (folder, path.parent()) {
        (true, _) => fs::create_dir_all(path),
        (false, Some(parent)) => fs::create_dir_all(parent).and_then(|()| fs::File::create_new(path).map(drop)),
        (false, None) => return Err(Errno::ENOENT),
    };
    made.map_err(|error| errno_of(&error))?;
    mounts::open_path(path)
}

/// Mounts a file or folder over itself, read-only, and pins the folders above it, so that it cannot be replaced.
fn protect(path: &Path, writable: &[&Path], pinned: &mut BTreeSet<PathBuf>) -> Setup {
    let target = match mounts::open_path(path) {
        Ok(target) => target,
        // Nothing can be mounted behind a link; the engine checks whether such a path is replaced.
        Err(errno) if is_absent(errno) || errno == Errno::ELOOP => return Ok(()),
        Err(errno) => return Err(SetupError::on("open", path)(errno)),
    };
    let kind = fstat(&target).map_err(SetupError::on("look at", path))?.st_mode & libc::S_IFMT;
    if kind == libc::S_IFLNK {
        // Nothing can be mounted on a link, and what it leads to is protected where it is writable at all.
        return Ok(());
    }
    pin(path, writable, pinned)?;
    mount_over_itself(path, PLAIN | libc::MOUNT_ATTR_RDONLY)
}

/// Mounts the folders between a path and the outermost writable one over themselves: the kernel does not rename a
/// mount point, so the path cannot be replaced, and no folder above it can be moved.
fn pin(path: &Path, writable: &[&Path], pinned: &mut BTreeSet<PathBuf>) -> Setup {
    let root = writable.iter().filter(|root| path.starts_with(root)).min_by_key(|root| root.components().count());
    let below = |ancestor: &&Path| root.is_some_and(|root| ancestor.starts_with(root) && ancestor != root);
    let between = path.ancestors().skip(1).take_while(below);
    // The writable folders are mount points already.
    let mut between: Vec<&Path> = between.filter(|folder| !writable.contains(folder)).collect();
    between.reverse();
    for folder in between {
        if pinned.insert(folder.to_owned()) {
            mount_over_itself(folder, PLAIN)?;
        }
    }
    Ok(())
}

fn mount_over_itself(path: &Path, attributes: u64) -> Setup {
    let tree = copy(path, attributes)?;
    let target = mounts::open_path(path).map_err(SetupError::on("open", path))?;
    mounts::attach(tree.as_fd(), target.as_fd()).map_err(SetupError::on("protect", path))
}

/// An empty file and an empty folder, to be mounted over what the child must not see.
struct Covers;

impl Covers {
    fn mount() -> Setup<Self> {
        let at = |errno| SetupError::at("make the covers of hidden paths")(errno);
        let files = empty_file_system().map_err(at)?;
        mkdirat(&files, "folder", Mode::from_bits_truncate(0o555)).map_err(at)?;
        openat(&files, "file", OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::from_bits_truncate(0o444))
            .map_err(at)?;
        let target = mounts::open_path(Path::new(SCRATCH)).map_err(at)?;
        mounts::attach(files.as_fd(), target.as_fd()).map_err(at)?;
        mounts::set_attributes(files.as_fd(), libc::MOUNT_ATTR_RDONLY, false).map_err(at)?;
        Ok(Self)
    }

    /// Covers a path. If something below it stays open, the cover is a separate file system, writable until the mount
    /// points in it are made.
    fn cover(&self, path: &Path, holds_open: bool) -> Setup<Option<OwnedFd>> {
        let target = match mounts::open_path(path) {
            Ok(target) => target,
            // A cover above hides it.
            Err(errno) if is_absent(errno) => return Ok(None),
            Err(errno) => return Err(SetupError::on("open", path)(errno)),
        };
        let folder = mounts::is_folder(&target).map_err(SetupError::on("look at", path))?;
        let cover = if folder && holds_open {
            empty_file_system()
        } else {
            mounts::copy_tree(&Path::new(SCRATCH).join(if folder { "folder" } else { "file" }))
        };
        let cover = cover.map_err(SetupError::on("cover", path))?;
        mounts::attach(cover.as_fd(), target.as_fd()).map_err(SetupError::on("cover", path))?;
        Ok((folder && holds_open).then_some(cover))
    }
}

/// An empty file system that holds a few names.
fn empty_file_system() -> nix::Result<OwnedFd> {
    mounts::new_file_system(c"tmpfs", &[("size", "64k"), ("mode", "0755")], PLAIN | libc::MOUNT_ATTR_NOEXEC)
}

fn copies_of_devices() -> Vec<(&'static str, OwnedFd)> {
    DEVICES.iter().filter_map(|name| Some((*name, mounts::copy_tree(&Path::new("/dev").join(name)).ok()?))).collect()
}

fn make_dev(devices: &[(&str, OwnedFd)]) -> Setup {
    let at = |errno| SetupError::at("make a minimal /dev")(errno);
    let dev =
        mounts::new_file_system(c"tmpfs", &[("size", "1m"), ("mode", "0755")], libc::MOUNT_ATTR_NOSUID).map_err(at)?;
    let target = mounts::open_path(Path::new("/dev")).map_err(at)?;
    mounts::attach(dev.as_fd(), target.as_fd()).map_err(at)?;
    let made = |name: &str, folder| make_mount_point(&Path::new("/dev").join(name), folder);
    for (name, device) in devices {
        let target = made(name, false).map_err(at)?;
        mounts::attach(device.as_fd(), target.as_fd()).map_err(at)?;
    }
    let memory = [("size", SHARED_MEMORY), ("mode", "1777")];
    let memory = mounts::new_file_system(c"tmpfs", &memory, PLAIN).map_err(at)?;
    mounts::attach(memory.as_fd(), made("shm", true).map_err(at)?.as_fd()).map_err(at)?;
    let pts = made("pts", true).map_err(at)?;
    // If the kernel refuses this, the child has no pseudo-terminals of its own.
    if let Ok(terminals) = mounts::new_file_system(
        c"devpts",
        &[("ptmxmode", "0666"), ("mode", "0620")],
        libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC,
    ) {
        mounts::attach(terminals.as_fd(), pts.as_fd()).map_err(at)?;
    }
    for (name, target) in LINKS {
        nix::unistd::symlinkat(target, &dev, name).map_err(at)?;
    }
    mounts::set_attributes(dev.as_fd(), libc::MOUNT_ATTR_RDONLY, false).map_err(at)
}

/// The `/proc` of this PID namespace. If the host's is partly covered (as in most containers), the kernel refuses a new
/// one. Then the host's stays: it names processes outside, but the user namespace denies access to their contents.
fn mount_proc() -> Setup {
    let attributes = PLAIN | libc::MOUNT_ATTR_NOEXEC;
    let proc = match mounts::new_file_system(c"proc", &[], attributes) {
        Ok(proc) => proc,
        Err(Errno::EPERM | Errno::EBUSY) => return Ok(()),
        Err(errno) => return Err(SetupError::at("mount /proc")(errno)),
    };
    let target = mounts::open_path(Path::new("/proc")).map_err(SetupError::at("open /proc"))?;
    match mounts::attach(proc.as_fd(), target.as_fd()) {
        Ok(()) => {}
        Err(Errno::EPERM) => return Ok(()),
        Err(errno) => return Err(SetupError::at("mount /proc")(errno)),
    }
    for name in KERNEL {
        let path = Path::new("/proc").join(name);
        if path.exists() {
            mount_over_itself(&path, PLAIN | libc::MOUNT_ATTR_RDONLY)?;
        }
    }
    Ok(())
}

/// Enters a folder and verifies that it is the one that was checked.
pub(in super::super) fn enter(folder: &std::ffi::CStr, checked: Option<FileIdentity>) -> nix::Result<()> {
    nix::unistd::chdir(folder)?;
    let Some(checked) = checked else { return Ok(()) };
    let here = nix::fcntl::open(".", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    if FileIdentity::of(&here)? == checked { Ok(()) } else { Err(Errno::ESTALE) }
}
