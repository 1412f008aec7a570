//! Small files with a random secret of the host, readable only by their owner.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The largest content of a file with one key or one token.
const MAX_BYTES: u64 = 4096;

/// Why a secret file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("failed to use the key file {}: {message}", path.display())]
pub struct SecretFileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, and what to do.
    pub message: String,
}

/// Reads the file with `parse`. If it is missing, creates it (0600) from `N` random bytes, encoded by `form`.
///
/// # Errors
/// If the file is readable for others, belongs to another user, cannot be read or created, or is not a file; if `parse`
/// rejects its content; if the system has no random bytes.
pub fn read_or_make<const N: usize, T>(
    path: &Path,
    form: impl FnOnce(&[u8; N]) -> Vec<u8>,
    parse: impl Fn(&[u8]) -> Result<T, String>,
) -> Result<T, SecretFileError> {
    let wrong = |message: String| SecretFileError { path: path.to_owned(), message };
    if let Some(found) = read(path, MAX_BYTES)? {
        return parse(&found).map_err(wrong);
    }
    let mut random = [0_u8; N];
    getrandom::fill(&mut random).map_err(|error| wrong(format!("the system gives no random bytes: {error}")))?;
    let kept = make(path, form(&random))?;
    parse(&kept).map_err(wrong)
}

/// The key of `N` bytes that the file holds. Where there is none, a random one is made (0600).
///
/// # Errors
/// As [`read_or_make`]; if it is not `N` bytes long.
pub fn read_or_make_key<const N: usize>(path: &Path) -> Result<[u8; N], SecretFileError> {
    let parse = |bytes: &[u8]| <[u8; N]>::try_from(bytes).map_err(|_| format!("it is not {N} bytes long"));
    read_or_make::<N, _>(path, |random| random.to_vec(), parse)
}

/// The first `most` bytes of a file that must be the user's own and closed to others. None if there is none.
///
/// # Errors
/// If it is readable for others, belongs to another user, is not a file or cannot be read.
pub fn read(path: &Path, most: u64) -> Result<Option<Vec<u8>>, SecretFileError> {
    let wrong = |message: String| SecretFileError { path: path.to_owned(), message };
    // A pipe at this path must not block the host.
    let flags = (nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK).bits();
    let mut file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(error.to_string())),
    };
    let about = file.metadata().map_err(|error| wrong(error.to_string()))?;
    if !about.is_file() {
        return Err(wrong("it is not a file".to_owned()));
    }
    if about.uid() != nix::unistd::geteuid().as_raw() {
        return Err(wrong("it belongs to another user".to_owned()));
    }
    if about.mode() & 0o077 != 0 {
        return Err(wrong("others can read it; take their rights away with chmod 600".to_owned()));
    }
    let mut content = Vec::new();
    (&mut file).take(most).read_to_end(&mut content).map_err(|error| wrong(error.to_string()))?;
    Ok(Some(content))
}

/// Writes a temporary file and renames it, so that the file is always complete. Returns the content of the file: another
/// process may have created it first.
fn make(path: &Path, content: Vec<u8>) -> Result<Vec<u8>, SecretFileError> {
    let wrong = |error: io::Error| SecretFileError { path: path.to_owned(), message: error.to_string() };
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".seal-").tempfile_in(folder).map_err(wrong)?;
    file.write_all(&content).and_then(|()| file.as_file().sync_all()).map_err(wrong)?;
    match file.persist_noclobber(path) {
        Ok(_) => {
            fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(wrong)?;
            Ok(content)
        }
        Err(lost) if lost.error.kind() == io::ErrorKind::AlreadyExists => {
            read(path, MAX_BYTES)?.ok_or_else(|| wrong(lost.error))
        }
        Err(lost) => Err(wrong(lost.error)),
    }
}
