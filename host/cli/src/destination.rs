//! Files that the user names for output: `run --output`, `export --output`, `audit export`.
//!
//! What is there decides how it is written. A plain file is replaced when its successor is complete, and keeps its mode
//! and owner. What cannot be replaced without a loss is written to as it is: a device, a FIFO, a descriptor
//! (`/dev/stdout`, `/dev/fd/3`), a file that has other names, and one whose owner or access list a new file would not
//! have. A symbolic link stays, and what it leads to is written. Everything that can be refused is refused by
//! [`Destination::prepare`], before any work is done for the output.
//!
//! What was found then is held open: whoever changes names in the folder afterwards, as an agent can while it works,
//! does not lead the output to another place.

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

/// Beginning of the name of a file that is not complete.
const UNFINISHED: &str = ".ostler-";
/// Links that are followed, as the kernel does.
const MAX_LINKS: usize = 40;
/// Longest list of a file's extended attributes, in bytes.
const MAX_ATTRIBUTES: usize = 64 * 1024;

/// A place for output that the user named and that can be written to.
#[derive(Debug)]
pub(super) struct Destination {
    /// Its name in messages.
    shown: String,
    place: Place,
    /// Mode of a file that is new, less what the umask takes away.
    new_mode: u32,
}

#[derive(Debug)]
enum Place {
    Stdout,
    /// Written to as it is.
    Stream(File),
    /// A plain file that is emptied and written again.
    Over(File),
    /// A plain file that appears when it is complete.
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
enum Found {
    /// A descriptor of this process.
    Descriptor(RawFd),
    /// Something that is no plain file.
    Special(PathBuf, Metadata),
    /// A plain file, or none yet, in a folder whose path has no links.
    Plain { folder: PathBuf, name: OsString, metadata: Option<Metadata> },
}

/// Why a path is refused.
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
    /// Looks at what a path names; `-` is standard output. With `force`, a read-only file is replaced, too. For a FIFO that
    /// nobody reads it waits, after it has said so, until somebody does.
    ///
    /// # Errors
    /// `INVALID_PARAMS` where nothing can be written there.
    pub(super) fn prepare(path: &Path, force: bool) -> Result<Self, ApiError> {
        let shown = clean::line(&path.display().to_string());
        let place = Place::find(path, force, &shown).map_err(|refusal| {
            let message = format!("the output cannot be written to {shown:?}: {}", refusal.reason);
            let error = ApiError::new(ErrorKind::InvalidParams, message);
            match refusal.hint {
                Some(hint) => error.hint(hint),
                None => error,
            }
        })?;
        Ok(Self { shown, place, new_mode: 0o666 })
    }

    /// The same; a file that is new is readable by the user alone.
    pub(super) fn private(mut self) -> Self {
        self.new_mode = 0o600;
        self
    }

    /// Whether it is this program's standard output, by whatever name.
    pub(super) const fn is_stdout(&self) -> bool {
        matches!(self.place, Place::Stdout)
    }

    /// Begins to write. Nothing changes before [`Draft::finish`] where a plain file is replaced.
    pub(super) fn begin(self) -> Result<Draft, ApiError> {
        let sink = self.place.open(self.new_mode).map_err(|error| failed(&self.shown, &error))?;
        let terminal = matches!(&sink, Sink::Stream(file) if file.is_terminal());
        Ok(Draft { shown: self.shown, sink, held: terminal.then(Vec::new), closed: false })
    }
}

fn failed(shown: &str, error: &io::Error) -> ApiError {
    ApiError::new(ErrorKind::Io, format!("failed to write to {shown:?}: {error}"))
}

impl Place {
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
            Found::Descriptor(number) => Self::descriptor(number),
            Found::Special(path, metadata) => Self::special(&path, &metadata, shown),
            Found::Plain { folder, name, metadata: None } => match probe(&folder) {
                Ok(folder) => Ok(Self::Whole(Whole { folder, name, replaces: None })),
                Err(error) => Err(format!("no file can be made in its folder: {error}").into()),
            },
            Found::Plain { folder, name, metadata: Some(metadata) } => Self::plain(&folder, &name, &metadata, force),
        }
    }

    fn plain(folder: &Path, name: &OsStr, metadata: &Metadata, force: bool) -> Result<Self, Refusal> {
        let path = folder.join(name);
        // Root may write to everything. Whoever took the right to write away meant that, too.
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
                // Only a new file can be had.
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

    /// A descriptor that this process has from whoever started it. It is not opened again by its name: that would begin at
    /// the start of a file, and is not possible for a socket.
    fn descriptor(number: RawFd) -> Result<Self, Refusal> {
        if number == 1 {
            return Ok(Self::Stdout);
        }
        let ask = |command| {
            // SAFETY: neither question changes anything; of a number that is not open, the answer is an error.
            unsafe { libc::fcntl(number, command) }
        };
        let flags = ask(libc::F_GETFD);
        // What this process has opened by itself is closed in programs that it starts; what it was given is not.
        if flags == -1 || (number > 2 && flags & libc::FD_CLOEXEC != 0) {
            return Err("there is no such descriptor".into());
        }
        let flags = ask(libc::F_GETFL);
        if flags == -1 || flags & libc::O_PATH != 0 || flags & libc::O_ACCMODE == libc::O_RDONLY {
            return Err("the descriptor is not open for writing".into());
        }
        // SAFETY: it makes a descriptor, or fails.
        let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
        if copy == -1 {
            return Err(io::Error::last_os_error().into());
        }
        // SAFETY: it was just made, and nothing else has it.
        let copy = unsafe { OwnedFd::from_raw_fd(copy) };
        Ok(Self::stream(copy.into()))
    }

    /// What is written to as it is. Another name of standard output is standard output.
    fn stream(file: File) -> Self {
        let stdout = io::stdout().as_fd().try_clone_to_owned().map(File::from);
        let both = (file.metadata(), stdout.and_then(|stdout| stdout.metadata()));
        let (Ok(metadata), Ok(stdout)) = both else { return Self::Stream(file) };
        let telling = metadata.file_type().is_fifo() || file.is_terminal();
        if telling && same_file(&metadata, &stdout) { Self::Stdout } else { Self::Stream(file) }
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
        // A rename follows no link that somebody has laid meanwhile.
        let Err(error) = file.persist(fd_path(&self.folder).join(&self.name)) else { return Ok(()) };
        // A file that is mounted by itself, as containers do, cannot be replaced.
        let Some(mut old) = self.replaces.and_then(|replaced| replaced.reopen().ok()) else { return Err(error.error) };
        io::copy(&mut File::open(error.file.path())?, &mut old)?;
        old.sync_all()
    }
}

impl Replaced {
    /// Gives another file the owner and the mode of this one.
    fn hand_on(&self, to: &File) -> io::Result<()> {
        let given = to.metadata()?;
        if (given.uid(), given.gid()) != self.owner {
            fchown(to, Some(self.owner.0), Some(self.owner.1))?;
        }
        to.set_permissions(Permissions::from_mode(self.mode))
    }

    /// Opens the file to write it again, whatever has its name now.
    fn reopen(&self) -> io::Result<File> {
        OpenOptions::new().write(true).truncate(true).open(fd_path(&self.file))
    }
}

/// Output on its way to its place.
#[derive(Debug)]
pub(super) struct Draft {
    shown: String,
    sink: Sink,
    /// What goes to a terminal, until all of it is there.
    held: Option<Vec<u8>>,
    /// The reader of a pipe has gone away.
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
    /// Whether whoever reads has gone away: what is left need not be written.
    pub(super) const fn closed(&self) -> bool {
        self.closed
    }

    /// Writes what is left, and lets a file appear in its place.
    pub(super) fn finish(mut self) -> Result<(), ApiError> {
        if let Some(held) = self.held.take() {
            let text = clean::text(&String::from_utf8_lossy(&held));
            self.write_all(text.as_bytes()).map_err(|error| failed(&self.shown, &error))?;
        }
        let finished = match self.sink {
            Sink::Stream(_) => Ok(()),
            Sink::Over(file) => file.sync_all(),
            Sink::Whole(file, whole) => whole.finish(file),
        };
        finished.map_err(|error| failed(&self.shown, &error))
    }

    /// An error of writing, with the name of the place.
    pub(super) fn failed(&self, error: &io::Error) -> ApiError {
        failed(&self.shown, error)
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(held) = &mut self.held {
            return held.write(bytes);
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

/// Follows a path to its end: symbolic links one by one, because those of `/proc` that stand for descriptors are none.
fn find(path: &Path) -> Result<Found, Refusal> {
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
            Some(metadata) if !metadata.is_file() => return Ok(Found::Special(here, metadata)),
            metadata => return Ok(Found::Plain { folder, name: name.to_owned(), metadata }),
        }
    }
    Err("it leads through too many links".into())
}

/// What has a name in a folder of descriptors.
fn descriptor(path: &Path, folder: &Path, name: &OsStr) -> Result<Found, Refusal> {
    if folder.starts_with(format!("/proc/{}", std::process::id())) {
        let number = name.to_str().and_then(|name| name.parse().ok()).filter(|number| *number >= 0);
        return number.map(Found::Descriptor).ok_or_else(|| "there is no such descriptor".into());
    }
    let metadata = path.metadata()?;
    Ok(Found::Special(path.to_owned(), metadata))
}

/// Opens a folder after a test that files can be made in it. Its permissions alone do not say so, for root least of all.
fn probe(folder: &Path) -> io::Result<OwnedFd> {
    tempfile::tempfile_in(folder)?;
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    Ok(OpenOptions::new().read(true).custom_flags(flags).open(folder)?.into())
}

/// Whether a file has an access list, or attributes that its user gave it: a new file would not have them.
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

/// A path that leads to what is open, whatever has its name.
fn fd_path(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

#[cfg(test)]
mod tests;
