//! Containment of a child: what it may see, change and reach, enforced by the kernel before the program starts.
//!
//! The runner owns the mechanism and knows nothing of providers. [`Sandbox`] says what holds for one child; the
//! engine builds it from the payload, the configuration and the plugin's declaration.
//!
//! # Layers
//! ```text
//! privileges   no_new_privs, no capabilities, resource limits, a session keyring of its own      every child
//! namespaces   user, PID, IPC, mount (and network): `init`, `view`, `network`; or by `bwrap`      where the kernel allows it
//! Landlock     writes, once more; alone where namespaces are refused: `landlock`                  from Linux 5.13
//! seccomp      no mounts, no new user namespaces, no kernel keyrings: `filter`                   by mode
//! ```
//!
//! # Processes in a PID namespace
//! ```text
//! keeper ──▶ init (process 1 of the namespace) ──▶ program
//! ```
//! The keeper stays outside. `init` builds the view, starts the program, collects every orphan, and reports the
//! program's end. When `init` ends, the kernel ends everything in the namespace, including processes that forked,
//! changed their session or cleared their environment. `init` itself ends with the keeper (`PR_SET_PDEATHSIG`), so that
//! nothing outlives a keeper that was killed.
//!
//! # The view
//! The mount namespace starts as a copy of the host's. Everything becomes read-only, folders that must not be seen are
//! covered, and the folders of the run are mounted on their own paths again, writable. A folder that was checked is
//! identified by its device and inode as well: if the path leads to another folder by then, the child is not started.
//!
//! # Terminals
//! Processes of one user may open each other's terminals, read what is typed there, and print. A run whose writes are
//! bounded must not: in a minimal `/dev` it finds a `/dev/pts` with its own terminals only, and in the host's `/dev`,
//! Landlock opens no terminal but its own. With the user's permissions (full access), a run reaches the terminals that
//! the user reaches. The requests that put input into a terminal (TIOCSTI) are refused to every child.

mod bwrap;
mod filter;
mod init;
mod landlock;
mod mounts;
mod network;
mod privileges;
mod probe;
mod view;

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

pub use super::placeholders::Placeholder;
pub use ostler_protocol::SandboxBackend as Backend;

pub use self::probe::{ProbeReport, RefusedBackend, available, run_probe_child};

pub(super) use self::bwrap::{Handover, start as start_bwrap, take_over};
pub(super) use self::init::{Init, InitReport, KILLED, serve_made, start as start_init};
pub use self::privileges::be_opaque;
pub(super) use self::view::enter;

/// The restrictions of one child. The default only removes the privileges that no child gets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// Namespaces of its own. None leaves the child in the host's.
    pub namespaces: Option<Namespaces>,
    /// A Landlock domain.
    pub landlock: Option<Landlock>,
    /// Missing files and folders that the child must not make: each is replaced by an empty one, read-only, until the
    /// child has ended.
    pub placeholders: Vec<Placeholder>,
    /// System calls that are refused.
    pub filter: Filter,
    /// Resource limits.
    pub limits: ResourceLimits,
}

/// Namespaces of a child. PID, IPC and user namespaces come with every one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Which program makes them.
    pub maker: Maker,
    /// What it sees of the file system. None means all that the host sees.
    pub view: Option<View>,
    /// Its network. None means the host's.
    pub network: Option<Network>,
}

/// Which program makes the namespaces of a child.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Maker {
    /// This program.
    #[default]
    Own,
    /// The system's `bwrap`. Process 1 is this program again, with [`INIT_VERB`], until it executes the reaper.
    Bwrap,
}

/// The hidden verb upon which `main` must call [`serve_as_init`](super::serve_as_init).
pub const INIT_VERB: &str = "__sandbox_init";

/// What a child sees of the file system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Whether the rest of the disk is read-only.
    pub read_only: bool,
    /// Files and folders that stay visible, or writable, on their own paths.
    pub open: Vec<OpenPath>,
    /// Files and folders below writable ones that are read-only. Missing ones are passed over.
    pub protect: Vec<PathBuf>,
    /// Files and folders that look empty. Missing ones are passed over. What is open below them stays open.
    pub hide: Vec<PathBuf>,
    /// A private folder of the host that the child sees, writable, as [`TEMPORARY_FOLDERS`].
    pub tmp: Option<PathBuf>,
    /// A `/dev` with the few devices that every program expects, in place of the host's.
    pub minimal_dev: bool,
}

/// A file or folder that stays open to the child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenPath {
    /// Absolute, links resolved.
    pub path: PathBuf,
    /// Whether the child may change it.
    pub write: bool,
    /// The file that was checked: if the path leads to another one by then, the start fails.
    pub identity: Option<FileIdentity>,
    /// Whether the start fails if the path is missing.
    pub required: bool,
}

/// Device and inode of a file or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// Number of the device.
    pub device: u64,
    /// Number of the inode. The host keeps the file open, so that the number is not reused.
    pub inode: u64,
}

impl FileIdentity {
    /// The identity of an open file.
    ///
    /// # Errors
    /// The error of the system.
    pub fn of(fd: impl std::os::fd::AsFd) -> Result<Self, Errno> {
        let found = nix::sys::stat::fstat(fd)?;
        Ok(Self { device: found.st_dev, inode: found.st_ino })
    }
}

/// A network without a route: loopback, and sockets on it whose other side is the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Port of the proxy on the child's loopback.
    pub proxy_port: u16,
    /// Ports of the host's loopback that the child finds on its own.
    pub forwards: Vec<u16>,
}

/// Rules of a Landlock domain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Landlock {
    /// Files and folders that may be read and executed. Empty leaves reading unbounded.
    pub read: Vec<PathBuf>,
    /// Files and folders that may be changed as well.
    pub write: Vec<PathBuf>,
    /// Whether changes are bounded at all.
    pub bound_writes: bool,
    /// TCP ports to which the child may connect. None leaves connections unbounded.
    pub connect: Option<Vec<u16>>,
}

/// System calls that are refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Filter {
    /// Calls that access the kernel's keyrings or change the kernel itself.
    #[default]
    Basic,
    /// Also calls that mount, and calls that make user namespaces.
    Strict,
    /// Also unix sockets: if nothing else keeps a child from the system's sockets.
    StrictWithoutUnix,
    /// Also sockets of any kind except TCP: if no network namespace contains them.
    StrictWithoutSockets,
}

/// Resource limits of each process of a child. None means no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimits {
    /// Processes and threads of the user, all runs together.
    pub processes: Option<u64>,
    /// Bytes of address space of one process.
    pub memory: Option<u64>,
    /// Open descriptors of one process.
    pub open_files: Option<u64>,
    /// Bytes of the largest file that a process may write.
    pub file_size: Option<u64>,
}

/// The paths at which a child sees its private folder for temporary files.
pub const TEMPORARY_FOLDERS: [&str; 2] = ["/tmp", "/var/tmp"];

/// Sockets of one child's network, at most: the proxy's and those of the forwarded ports.
pub(super) const MAX_SOCKETS: usize = 64;

/// A step of the containment that failed. The program was not started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SetupError {
    /// What was tried, for people: `mount /work`.
    pub(super) step: String,
    pub(super) errno: Errno,
}

impl SetupError {
    pub(super) fn at(step: impl Into<String>) -> impl FnOnce(Errno) -> Self {
        let step = step.into();
        move |errno| Self { step, errno }
    }

    pub(super) fn on(step: &'static str, path: &Path) -> impl FnOnce(Errno) -> Self {
        let step = format!("{step} {}", path.display());
        move |errno| Self { step, errno }
    }
}

type Setup<T = ()> = Result<T, SetupError>;

/// Applies the restrictions of the sandbox to this process, as the last step before it executes the program.
/// `terminal` says whether its standard streams are a terminal of its own.
pub(super) fn restrict(sandbox: &Sandbox, terminal: bool) -> Setup {
    privileges::restrict(&sandbox.limits, sandbox.namespaces.is_some() || sandbox.landlock.is_some())?;
    if let Some(rules) = &sandbox.landlock {
        let view = sandbox.namespaces.as_ref().and_then(|namespaces| namespaces.view.as_ref());
        // In a `/dev` of its own, a run finds its own terminals only.
        let shared = !view.is_some_and(|view| view.minimal_dev);
        landlock::restrict(rules, shared && rules.bound_writes, terminal)?;
    }
    filter::apply(sandbox.filter)
}
