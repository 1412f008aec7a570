//! Addresses of unix sockets whose path may be longer than an address can hold.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;

/// The longest path that the address of a unix socket can hold, in bytes.
pub const MAX_SOCKET_PATH: usize = 107;

/// The path of a socket in a form that fits into an address, whatever its length.
///
/// A path that is too long becomes one below `/proc/self/fd`: the socket is in the same folder, and every program that
/// knows the folder finds it. A path computed from the environment would differ between a login session and a cron job.
#[derive(Debug)]
pub struct SocketAddress<'a> {
    path: Cow<'a, Path>,
    /// Must stay open as long as the path is used.
    _folder: Option<File>,
}

impl<'a> SocketAddress<'a> {
    /// An address for the socket at this path.
    ///
    /// # Errors
    /// If the path is too long for an address and its folder cannot be opened.
    pub fn of(path: &'a Path) -> io::Result<Self> {
        if path.as_os_str().len() <= MAX_SOCKET_PATH {
            return Ok(Self { path: Cow::Borrowed(path), _folder: None });
        }
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidFilename.into());
        };
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        let folder = OpenOptions::new().read(true).custom_flags(flags).open(folder)?;
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
        Ok(Self { path: Cow::Owned(path), _folder: Some(folder) })
    }

    /// What to bind or to connect to. Valid as long as this value lives.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}
