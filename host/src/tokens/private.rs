//! Files that nobody else may read.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Opens a file that must be the user's own and closed to others, and gives its length in bytes. None if there is none.
///
/// # Errors
/// What is wrong with it, and what to do.
pub(crate) fn open_private(path: &Path) -> Result<Option<(File, u64)>, String> {
    // A link or a pipe in its place must lead nowhere and hold nobody up.
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let found = file.metadata().map_err(|error| error.to_string())?;
    if !found.is_file() {
        return Err("it is no file".to_owned());
    }
    if found.uid() != nix::unistd::geteuid().as_raw() {
        return Err("it belongs to another user".to_owned());
    }
    if found.mode() & 0o077 != 0 {
        return Err("others can read it; take their rights away with chmod 600".to_owned());
    }
    Ok(Some((file, found.len())))
}
