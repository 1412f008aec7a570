//! Files that the user names for output: `run --output`, `export --output`, `audit export`.
//!
//! The kind of the existing file decides how it is written. A plain file is replaced when the new content is complete,
//! and keeps its mode and owner. These are written in place, because replacing them would lose something: a device, a
//! FIFO, a descriptor (`/dev/stdout`, `/dev/fd/3`), a file with several hard links, and a file whose owner or access
//! list a new file would not have. A symbolic link stays, and its target is written. [`Destination::prepare`] rejects
//! everything that cannot be written, before any work is done for the output.
//!
//! `prepare` keeps the file or its folder open. Names in the folder can change afterwards, for example by an agent that
//! is at work, without redirecting the output.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::unistd::{AccessFlags, Uid, eaccess};
use tempfile::NamedTempFile;

use super::clean;
use super::context::absolute;
use super::output::complain;
use ostler_protocol::{ApiError, ErrorKind};

/// Prefix of the name of an incomplete file.
const UNFINISHED: &str = ".ostler-";
/// Maximum number of symbolic links to follow; the kernel has the same limit.
const MAX_LINKS: usize = 40;
/// Longest list of a file's extended attributes, in bytes.
const MAX_ATTRIBUTES: usize = 64 * 1024;

/// A writable destination for output that the user named.
#[derive(Debug)]
pub(super) struct Destination {
    /// Its name in messages.
    shown: String,
    target: Target,
    /// Mode of a new file, before the umask is applied.
    new_mode: u32,
}

#[derive(Debug)]
enum Target {
    Stdout,
    /// Written without truncation or replacement.
    Stream(File),
    /// A plain file that is truncated and written in place.
    Over(File),
    /// A plain file that appears or is replaced when its content is complete.
    Whole(Whole),
}

/// A name in a folder.
#[derive(Debug)]
struct Whole {
    folder: OwnedFd,
    name: OsString,
    replaces: Option<Replaced>,
}

/// The file that had the name before.
#[derive(Debug)]
struct Replaced {
    owner: (u32, u32),
    mode: u32,
    /// The file itself, without a right to read or write.
    file: OwnedFd,
}

/// What a path leads to.
enum Resolved {
    /// A descriptor of this process.
    Descriptor(RawFd),
    /// An existing file that is not a plain file.
    Special(PathBuf, Metadata),
    /// A plain file or an unused name. The path of the folder contains no links.
    Plain { folder: PathBuf, name: OsString, metadata: Option<Metadata> },
}

/// Why a path is rejected.
struct Refusal {
    reason: String,
    hint: Option<&'static str>,
}

impl From<&str> for Refusal {
    fn from(reason: &str) -> Self {
        Self { reason: reason.to_owned(), hint: None }
    }
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self { reason, hint: None }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        error.to_string().into()
    }
}

impl Destination {
    /// Checks what a path names; `-` is standard output. With `force`, a read-only file is replaced, too. For a FIFO
    /// without a reader, prints a message and waits for a reader.
    ///
    /// # Errors
    /// `INVALID_PARAMS` if the path cannot be written.
    pub(super) fn prepare(path: &Path, force: bool) -> Result<Self, ApiError> {
        let shown = clean::line(&path.display().to_string());
        let target = Target::find(path, force, &shown).map_err(|refusal| {
            let message = format!("the output cannot be written to {shown:?}: {}", refusal.reason);
            let error = ApiError::new(ErrorKind::InvalidParams, message);
            match refusal.hint {
                Some(hint) => error.hint(hint),
                None => error,
            }
        })?;
        Ok(Self { shown, target, new_mode: 0o666 })
    }

    /// The same, but a new file is readable only by the user.
    pub(super) fn private(mut self) -> Self {
        self.new_mode = 0o600;
        self
    }

    /// Whether it is this program's standard output, under any of its names.
    pub(super) const fn is_stdout(&self) -> bool {
        matches!(self.target, Target::Stdout)
    }

    /// Begins to write. Nothing changes before [`Draft::finish`] where a plain file is replaced.
    pub(super) fn begin(self) -> Result<Draft, ApiError> {
        let sink = self.target.open(self.new_mode).map_err(|error| failed(&self.shown, &error))?;
        let terminal = matches!(&sink, Sink::Stream(file) if file.is_terminal());
        Ok(Draft { shown: self.shown, sink, buffered: terminal.then(Vec::new), closed: false })
    }
}

fn failed(shown: &str, error: &io::Error) -> ApiError {
    ApiError::new(ErrorKind::Io, format!("failed to write to {shown:?}: {error}"))
}

impl Target {
    fn find(path: &Path, force: bool, shown: &str) -> Result<Self, Refusal> {
        if path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        if path.as_os_str().is_empty() {
            return Err("it names no file".into());
        }
        if path.as_os_str().as_bytes().ends_with(b"/") {
            return Err("it names a folder".into());
        }
        match find(&absolute(path).map_err(|error| error.message)?)? {
            Resolved::Descriptor(number) => Self::descriptor(number),
            Resolved::Special(path, metadata) => Self::special(&path, &metadata, shown),
            Resolved::Plain { folder, name, metadata: None } => match probe(&folder) {
                Ok(folder) => Ok(Self::Whole(Whole { folder, name, replaces: None })),
                Err(error) => Err(format!("no file can be made in its folder: {error}").into()),
            },
            Resolved::Plain { folder, name, metadata: Some(metadata) } => Self::plain(&folder, &name, &metadata, force),
        }
    }

    fn plain(folder: &Path, name: &OsStr, metadata: &Metadata, force: bool) -> Result<Self, Refusal> {
        let path = folder.join(name);
        // The mode counts for root, too, although root may write to every file.
        let writable = metadata.mode() & 0o222 != 0 && eaccess(&path, AccessFlags::W_OK).is_ok();
        if !writable && !force {
            return Err(Refusal { reason: "it is read-only".to_owned(), hint: Some("--force replaces it") });
        }
        let user = Uid::effective();
        let kept = (user.is_root() || user.as_raw() == metadata.uid()) && !has_attributes(&path);
        let probed = probe(folder);
        let over = || {
            let file = OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path)?;
            let same = file.metadata().is_ok_and(|opened| same_file(&opened, metadata));
            if same { Ok(file) } else { Err(io::Error::other("it was replaced meanwhile")) }
        };
        if metadata.nlink() > 1 || !kept || probed.is_err() {
            match over() {
                Ok(file) => return Ok(Self::Over(file)),
                Err(error) if writable || probed.is_err() => return Err(error.into()),
                // Only replacing the file is possible.
                Err(_) => {}
            }
        }
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&path)?;
        Ok(Self::Whole(Whole {
            folder: probed?,
            name: name.to_owned(),
            replaces: Some(Replaced {
                owner: (metadata.uid(), metadata.gid()),
                mode: metadata.mode() & 0o777,
                file: file.into(),
            }),
        }))
    }

    fn special(path: &Path, metadata: &Metadata, shown: &str) -> Result<Self, Refusal> {
        let kind = metadata.file_type();
        if kind.is_dir() {
            return Err("it is a folder".into());
        }
        if kind.is_socket() {
            return Err("it is a socket".into());
        }
        let open = |flags| OpenOptions::new().write(true).custom_flags(flags | libc::O_NOCTTY).open(path);
        let file = match open(libc::O_NONBLOCK) {
            Err(error) if kind.is_fifo() && error.raw_os_error() == Some(libc::ENXIO) => {
                complain(&format!("waiting for somebody to read {shown:?}"));
                open(0)?
            }
            opened => {
                let file = opened?;
                let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL).map_err(io::Error::from)?);
                fcntl(&file, FcntlArg::F_SETFL(flags & !OFlag::O_NONBLOCK)).map_err(io::Error::from)?;
                file
            }
        };
        Ok(Self::stream(file))
    }

    /// A descriptor that this process inherited. It is duplicated, not reopened by its name: that would start at the
    /// beginning of a file, and is not possible for a socket.
    fn descriptor(number: RawFd) -> Result<Self, Refusal> {
        if number == 1 {
            return Ok(Self::Stdout);
        }
        let ask = |command| {
            // SAFETY: neither command changes the descriptor. For a number that is not open, the call returns an error.
            unsafe { libc::fcntl(number, command) }
        };
        let flags = ask(libc::F_GETFD);
        // Descriptors that this process opened have the close-on-exec flag; inherited ones do not.
        if flags == -1 || (number > 2 && flags & libc::FD_CLOEXEC != 0) {
            return Err("there is no such descriptor".into());
        }
        let flags = ask(libc::F_GETFL);
        if flags == -1 || flags & libc::O_PATH != 0 || flags & libc::O_ACCMODE == libc::O_RDONLY {
            return Err("the descriptor is not open for writing".into());
        }
        // SAFETY: the call creates a descriptor or fails.
        let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
        if copy == -1 {
            return Err(io::Error::last_os_error().into());
        }
        // SAFETY: the descriptor was just created and has no other owner.
        let copy = unsafe { OwnedFd::from_raw_fd(copy) };
        Ok(Self::stream(copy.into()))
    }

    /// A stream that is written as it is. Another name of standard output counts as standard output.
    fn stream(file: File) -> Self {
        let stdout = io::stdout().as_fd().try_clone_to_owned().map(File::from);
        let both = (file.metadata(), stdout.and_then(|stdout| stdout.metadata()));
        let (Ok(metadata), Ok(stdout)) = both else { return Self::Stream(file) };
        let identifiable = metadata.file_type().is_fifo() || file.is_terminal();
        if identifiable && same_file(&metadata, &stdout) { Self::Stdout } else { Self::Stream(file) }
    }

    fn open(self, new_mode: u32) -> io::Result<Sink> {
        match self {
            Self::Stdout => {
                io::stdout().flush()?;
                Ok(Sink::Stream(io::stdout().as_fd().try_clone_to_owned()?.into()))
            }
            Self::Stream(file) => Ok(Sink::Stream(file)),
            Self::Over(file) => {
                file.set_len(0)?;
                Ok(Sink::Over(file))
            }
            Self::Whole(whole) => whole.begin(new_mode),
        }
    }
}

impl Whole {
    fn begin(self, new_mode: u32) -> io::Result<Sink> {
        let mode = if self.replaces.is_some() { 0o600 } else { new_mode };
        let mut builder = tempfile::Builder::new();
        builder.prefix(UNFINISHED).permissions(Permissions::from_mode(mode));
        let file = builder.tempfile_in(fd_path(&self.folder))?;
        if let Some(replaced) = &self.replaces
            && let Err(error) = replaced.hand_on(file.as_file())
        {
            return replaced.reopen().map(Sink::Over).map_err(|_| error);
        }
        Ok(Sink::Whole(file, self))
    }

    fn finish(self, file: NamedTempFile) -> io::Result<()> {
        file.as_file().sync_all()?;
        // A rename does not follow a symbolic link that was created meanwhile.
        let Err(error) = file.persist(fd_path(&self.folder).join(&self.name)) else { return Ok(()) };
        // A file that is a mount point, as in containers, cannot be replaced.
        let Some(mut old) = self.replaces.and_then(|replaced| replaced.reopen().ok()) else { return Err(error.error) };
        io::copy(&mut File::open(error.file.path())?, &mut old)?;
        old.sync_all()
    }
}

impl Replaced {
    /// Gives another file the owner and the mode of this one.
    fn hand_on(&self, to: &File) -> io::Result<()> {
        let current = to.metadata()?;
        if (current.uid(), current.gid()) != self.owner {
            fchown(to, Some(self.owner.0), Some(self.owner.1))?;
        }
        to.set_permissions(Permissions::from_mode(self.mode))
    }

    /// Opens the file itself for writing, even if its name now belongs to another file.
    fn reopen(&self) -> io::Result<File> {
        OpenOptions::new().write(true).truncate(true).open(fd_path(&self.file))
    }
}

/// Output that is being written.
#[derive(Debug)]
pub(super) struct Draft {
    shown: String,
    sink: Sink,
    /// Buffer for a terminal, which gets the complete text at once.
    buffered: Option<Vec<u8>>,
    /// The reader of the pipe has closed it.
    closed: bool,
}

#[derive(Debug)]
enum Sink {
    Stream(File),
    Over(File),
    Whole(NamedTempFile, Whole),
}

impl Sink {
    fn file(&mut self) -> &mut File {
        match self {
            Self::Stream(file) | Self::Over(file) => file,
            Self::Whole(file, _) => file.as_file_mut(),
        }
    }
}

impl Draft {
    /// Whether the reader has closed the pipe, so that the rest need not be written.
    pub(super) const fn closed(&self) -> bool {
        self.closed
    }

    /// Writes the rest and puts the file in place.
    pub(super) fn finish(mut self) -> Result<(), ApiError> {
        if let Some(buffered) = self.buffered.take() {
            let text = clean::text(&String::from_utf8_lossy(&buffered));
            self.write_all(text.as_bytes()).map_err(|error| failed(&self.shown, &error))?;
        }
        let finished = match self.sink {
            Sink::Stream(_) => Ok(()),
            Sink::Over(file) => file.sync_all(),
            Sink::Whole(file, whole) => whole.finish(file),
        };
        finished.map_err(|error| failed(&self.shown, &error))
    }

    /// A write error that names the destination.
    pub(super) fn failed(&self, error: &io::Error) -> ApiError {
        failed(&self.shown, error)
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(buffered) = &mut self.buffered {
            return buffered.write(bytes);
        }
        if self.closed {
            return Ok(bytes.len());
        }
        match self.sink.file().write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(bytes.len())
            }
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Resolves a path link by link, because the links in `/proc` that stand for descriptors must not be followed.
fn find(path: &Path) -> Result<Resolved, Refusal> {
    let mut at = path.to_owned();
    for _ in 0..MAX_LINKS {
        let (Some(parent), Some(name)) = (at.parent(), at.file_name()) else { return Err("it is a folder".into()) };
        let folder = parent.canonicalize().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Refusal::from("its folder does not exist"),
            _ => format!("its folder cannot be reached: {error}").into(),
        })?;
        if !folder.is_dir() {
            return Err("its folder does not exist".into());
        }
        let here = folder.join(name);
        let metadata = match here.symlink_metadata() {
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        if folder.starts_with("/proc") && folder.ends_with("fd") {
            return descriptor(&here, &folder, name);
        }
        match metadata {
            Some(metadata) if metadata.is_symlink() => at = folder.join(fs::read_link(&here)?),
            Some(metadata) if !metadata.is_file() => return Ok(Resolved::Special(here, metadata)),
            metadata => return Ok(Resolved::Plain { folder, name: name.to_owned(), metadata }),
        }
    }
    Err("it leads through too many links".into())
}

/// Resolves a name in a folder of descriptors.
fn descriptor(path: &Path, folder: &Path, name: &OsStr) -> Result<Resolved, Refusal> {
    if folder.starts_with(format!("/proc/{}", std::process::id())) {
        let number = name.to_str().and_then(|name| name.parse().ok()).filter(|number| *number >= 0);
        return number.map(Resolved::Descriptor).ok_or_else(|| "there is no such descriptor".into());
    }
    let metadata = path.metadata()?;
    Ok(Resolved::Special(path.to_owned(), metadata))
}

/// Opens a folder after a test that files can be created in it. Its permissions alone do not show that, least of all to
/// root.
fn probe(folder: &Path) -> io::Result<OwnedFd> {
    tempfile::tempfile_in(folder)?;
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    Ok(OpenOptions::new().read(true).custom_flags(flags).open(folder)?.into())
}

/// Whether a file has an access list or user attributes, which a new file would not have.
fn has_attributes(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    let mut names = vec![0_u8; MAX_ATTRIBUTES];
    // SAFETY: the path ends with a zero byte, and the length is that of the buffer.
    let length = unsafe { libc::llistxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    let names = names.get(..usize::try_from(length).unwrap_or(0)).unwrap_or_default();
    names.split(|byte| *byte == 0).any(|name| name == b"system.posix_acl_access" || name.starts_with(b"user."))
}

fn same_file(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// A path to an open file that does not depend on its name.
fn fd_path(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

#[cfg(test)]
mod tests;
