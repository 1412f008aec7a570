//! The lock that allows one host for each data folder.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Name of the lock's file in the data folder.
const FILE: &str = "host.lock";

/// The lock on a data folder. The operating system releases it when the process dies in any way, so that a lock never
/// outlives its host.
///
/// The lock belongs to the open file: a process that is *forked* without `exec` keeps it too. Acquire it after such
/// processes were forked.
#[derive(Debug)]
pub struct DataLock {
    file: File,
    path: PathBuf,
}

/// The host that holds a data folder, as it describes itself in the lock file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// When it was started, in the kernel's clock ticks since boot: another process may have its id later.
    #[serde(default)]
    pub start_ticks: u64,
    /// What it does before it accepts connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starting: Option<String>,
}

impl Holder {
    /// The host that holds a data folder, if it lives. Does not take the lock, which would make a host fail that starts
    /// at the same moment.
    #[must_use]
    pub fn of(folder: &Path) -> Option<Self> {
        let holder = read_holder(&mut File::open(folder.join(FILE)).ok()?)?;
        (start_ticks(holder.pid)? == holder.start_ticks).then_some(holder)
    }
}

/// The start time of a living process.
fn start_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may contain any character.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    if fields.next() == Some("Z") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Why a data folder cannot be locked.
#[derive(Debug)]
pub enum LockError {
    /// Another host holds it.
    Held {
        /// The data folder.
        folder: PathBuf,
        /// The host; None if it has not written its description yet.
        holder: Option<Holder>,
    },
    /// The lock's file cannot be made, opened or locked.
    Io {
        /// The lock's file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { folder, holder: Some(holder) } => write!(
                f,
                "failed to take the data folder {}: a host of version {} holds it (process {}); use that one, or end it with `stop()`",
                folder.display(),
                holder.version,
                holder.pid
            ),
            Self::Held { folder, holder: None } => write!(
                f,
                "failed to take the data folder {}: another host holds it; use that one, or end it with `stop()`",
                folder.display()
            ),
            Self::Io { path, source } => write!(
                f,
                "failed to take the lock {}: {source}; make its folder writable, or set OSTLER_HOME to another",
                path.display()
            ),
        }
    }
}

impl std::error::Error for LockError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Held { .. } => None,
            Self::Io { source, .. } => Some(source),
        }
    }
}

impl DataLock {
    /// Locks the folder for this process, and writes its description into the lock file. Does not wait.
    ///
    /// # Errors
    /// [`LockError::Held`] with the holder, or [`LockError::Io`].
    pub fn acquire(folder: &Path) -> Result<Self, LockError> {
        let path = folder.join(FILE);
        let io_error = |source| LockError::Io { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io_error)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Held { folder: folder.to_owned(), holder: read_holder(&mut file) });
            }
            Err(TryLockError::Error(source)) => return Err(io_error(source)),
        }
        let lock = Self { file, path: path.clone() };
        lock.note(Some("starting")).map_err(io_error)?;
        Ok(lock)
    }

    /// Records what this host does before it accepts connections; None once it does.
    ///
    /// # Errors
    /// An error of the file system.
    pub fn note(&self, starting: Option<&str>) -> io::Result<()> {
        let pid = std::process::id();
        let holder = Holder {
            pid,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            start_ticks: start_ticks(pid).unwrap_or_default(),
            starting: starting.map(str::to_owned),
        };
        let text = serde_json::to_string(&holder)? + "\n";
        let mut file = &self.file;
        file.rewind()?;
        file.write_all(text.as_bytes())?;
        // Truncate after writing, so that a reader in between finds a complete description.
        file.set_len(text.len() as u64)
    }

    /// The lock's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for DataLock {
    fn drop(&mut self) {
        // The file must not name a host any more. Closing would release the lock, but not if a child inherited the file.
        let _ = self.file.set_len(0);
        let _ = self.file.unlock();
    }
}

fn read_holder(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.take(4096).read_to_string(&mut text).ok()?;
    // Bytes after the document are left from a longer description.
    serde_json::from_str(text.lines().next()?).ok()
}
