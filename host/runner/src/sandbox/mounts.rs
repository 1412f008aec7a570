//! The mount calls of Linux, with owned descriptors. Called in a process with one thread.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::libc;

/// Attributes that hold for every folder of a child: no set-user-id programs, no devices.
pub(super) const PLAIN: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;

fn owned(result: libc::c_long) -> nix::Result<OwnedFd> {
    let fd = RawFd::try_from(Errno::result(result)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel made this descriptor just now, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A detached copy of what is mounted at `path`, with everything below it. No link is followed, in any part of the
/// path: a process that can change a folder on the path must not choose what is copied.
pub(super) fn copy_tree(path: &Path) -> nix::Result<OwnedFd> {
    let target = open_path(path)?;
    let flags = libc::OPEN_TREE_CLONE
        | libc::OPEN_TREE_CLOEXEC
        | libc::AT_RECURSIVE as libc::c_uint
        | libc::AT_EMPTY_PATH as libc::c_uint;
    // SAFETY: an open descriptor, an empty C string and numbers; returns a new descriptor or -1.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, target.as_raw_fd(), c"".as_ptr(), flags) })
}

/// Opens a path without access to its content. No link is followed: a link at the end is opened itself, one on the way
/// fails with `ELOOP`.
pub(super) fn open_path(path: &Path) -> nix::Result<OwnedFd> {
    use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    openat2(AT_FDCWD, path, how)
}

/// Whether an open path is a folder.
pub(super) fn is_folder(target: &OwnedFd) -> nix::Result<bool> {
    Ok(nix::sys::stat::fstat(target)?.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

/// Whether an open path is the root of a mount. Known from Linux 5.8 on; false on older kernels.
pub(super) fn is_mount_root(target: &OwnedFd) -> nix::Result<bool> {
    // SAFETY: all zeros is a valid value of this plain structure.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: an open descriptor, an empty C string, numbers, and a live structure of the type that is written.
    let asked = unsafe {
        libc::statx(target.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, libc::STATX_BASIC_STATS, &raw mut found)
    };
    Errno::result(asked)?;
    let bit = libc::STATX_ATTR_MOUNT_ROOT as u64;
    Ok(found.stx_attributes & found.stx_attributes_mask & bit != 0)
}

/// Mounts a detached tree on an open file or folder.
pub(super) fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> nix::Result<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: two open descriptors, empty C strings and numbers.
    let moved = unsafe {
        libc::syscall(libc::SYS_move_mount, tree.as_raw_fd(), c"".as_ptr(), target.as_raw_fd(), c"".as_ptr(), flags)
    };
    Errno::result(moved).map(drop)
}

/// Sets attributes (`MOUNT_ATTR_*`) of an open tree, `recursive` of everything mounted below it, too.
pub(super) fn set_attributes(tree: BorrowedFd<'_>, set: u64, recursive: bool) -> nix::Result<()> {
    let below = if recursive { libc::AT_RECURSIVE } else { 0 };
    change(tree.as_raw_fd(), c"", libc::AT_EMPTY_PATH | below, set, 0)
}

/// Makes everything from `/` on read-only.
pub(super) fn make_all_read_only() -> nix::Result<()> {
    change(libc::AT_FDCWD, c"/", libc::AT_RECURSIVE, libc::MOUNT_ATTR_RDONLY, 0)
}

/// Detaches everything from `/` on from mounts that are made elsewhere.
pub(super) fn make_all_private() -> nix::Result<()> {
    change(libc::AT_FDCWD, c"/", libc::AT_RECURSIVE, 0, libc::MS_PRIVATE)
}

fn change(fd: RawFd, path: &std::ffi::CStr, flags: libc::c_int, set: u64, propagation: u64) -> nix::Result<()> {
    let attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation, userns_fd: 0 };
    // SAFETY: a valid C string and a live structure whose size is given.
    let changed = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(changed).map(drop)
}

/// A new file system of that type that is mounted nowhere yet. `options` are names and values.
pub(super) fn new_file_system(
    kind: &std::ffi::CStr,
    options: &[(&str, &str)],
    attributes: u64,
) -> nix::Result<OwnedFd> {
    // SAFETY: a valid C string and a number; returns a new descriptor or -1.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), libc::FSOPEN_CLOEXEC) })?;
    for (name, value) in options {
        let name = CString::new(*name).map_err(|_| Errno::EINVAL)?;
        let value = CString::new(*value).map_err(|_| Errno::EINVAL)?;
        configure(context.as_fd(), libc::FSCONFIG_SET_STRING, name.as_ptr(), value.as_ptr())?;
    }
    configure(context.as_fd(), libc::FSCONFIG_CMD_CREATE, std::ptr::null(), std::ptr::null())?;
    // SAFETY: an open descriptor and numbers; returns a new descriptor or -1.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), libc::FSMOUNT_CLOEXEC, attributes) })
}

fn configure(
    context: BorrowedFd<'_>,
    command: libc::fsconfig_command,
    name: *const libc::c_char,
    value: *const libc::c_char,
) -> nix::Result<()> {
    // SAFETY: an open descriptor; the pointers are null or to live C strings, as the command wants them.
    let done = unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, name, value, 0) };
    Errno::result(done).map(drop)
}
