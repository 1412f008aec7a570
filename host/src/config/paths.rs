//! Where everything lies.
//!
//! `OSTLER_HOME` moves everything into one folder; otherwise the XDG folders hold it. The socket lies in the data
//! folder, not in the runtime folder: whoever shares the data then finds the host, whether or not a login session has
//! set `XDG_RUNTIME_DIR` (a cron job has not). Only where that path would be longer than a socket address can hold
//! does it move to a runtime folder, under a name that is made from the data folder's.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::Uid;
use sha2::{Digest, Sha256};

use super::folders::{FolderError, create_in_shared_place, create_private_dir};
use crate::hex::hex;

/// The longest path that the address of a unix socket can hold, in bytes.
pub const MAX_SOCKET_PATH: usize = 107;

/// The folders and files of one Ostler. All paths are absolute; nothing exists before [`Paths::create`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// What `OSTLER_HOME` named; none with XDG folders.
    pub home: Option<PathBuf>,
    /// The user's configuration.
    pub config_file: PathBuf,
    /// Database, lock, seals, exports.
    pub data_dir: PathBuf,
    /// The operator's plugins, where the configuration names no other folder.
    pub plugins_dir: PathBuf,
    /// Compiled plugins: can be deleted at any time.
    pub cache_dir: PathBuf,
    /// The host's log.
    pub log_dir: PathBuf,
    /// The host's socket. At most [`MAX_SOCKET_PATH`] bytes.
    pub socket: PathBuf,
    /// The folder of the socket, where it is not the data folder.
    runtime: Option<Runtime>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Runtime {
    /// One that the login session made.
    Session(PathBuf),
    /// One in `/tmp`, where everybody can lay traps.
    Shared(PathBuf),
}

/// Why there is no place.
#[derive(Debug, thiserror::Error)]
pub enum PathsError {
    /// Neither `OSTLER_HOME` nor a home folder.
    #[error("there is no home folder; set OSTLER_HOME to the folder where ostler is to keep its files")]
    NoHome,
    /// `OSTLER_HOME` is relative and there is no current folder.
    #[error("failed to find the folder that OSTLER_HOME={} means: {source}; write the whole path", home.display())]
    Relative {
        /// What it says.
        home: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Paths {
    /// The places that this process's environment names.
    ///
    /// # Errors
    /// Where it names none and there is no home folder.
    pub fn from_environment() -> Result<Self, PathsError> {
        Self::resolve(&|name| std::env::var_os(name), etcetera::home_dir().ok().as_deref(), Uid::effective().as_raw())
    }

    /// The places that an environment names, for a user. `home` is the user's home folder.
    ///
    /// # Errors
    /// As [`Paths::from_environment`].
    pub fn resolve(
        variable: &dyn Fn(&str) -> Option<OsString>,
        home: Option<&Path>,
        user: u32,
    ) -> Result<Self, PathsError> {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let mut paths = match given("OSTLER_HOME") {
            Some(home) => {
                let home =
                    std::path::absolute(&home).map_err(|source| PathsError::Relative { home: home.clone(), source })?;
                Self::under(home)
            }
            None => Self::xdg(&given, home)?,
        };
        if paths.socket.as_os_str().len() > MAX_SOCKET_PATH {
            let session = given("XDG_RUNTIME_DIR").filter(|folder| folder.is_absolute());
            paths.move_socket(session, user);
        }
        Ok(paths)
    }

    fn under(home: PathBuf) -> Self {
        let data_dir = home.join("data");
        Self {
            config_file: home.join("config.toml"),
            plugins_dir: home.join("plugins"),
            cache_dir: home.join("cache"),
            log_dir: home.join("log"),
            socket: data_dir.join("host.sock"),
            data_dir,
            home: Some(home),
            runtime: None,
        }
    }

    fn xdg(given: &dyn Fn(&str) -> Option<PathBuf>, home: Option<&Path>) -> Result<Self, PathsError> {
        // The XDG specification wants relative values passed over.
        let base = |name: &str, below_home: &str| {
            let given = given(name).filter(|path| path.is_absolute());
            let folder = given.or_else(|| Some(home?.join(below_home)))?;
            Some(folder.join("ostler"))
        };
        let data_dir = base("XDG_DATA_HOME", ".local/share").ok_or(PathsError::NoHome)?;
        let config_dir = base("XDG_CONFIG_HOME", ".config").ok_or(PathsError::NoHome)?;
        let state_dir = base("XDG_STATE_HOME", ".local/state").ok_or(PathsError::NoHome)?;
        Ok(Self {
            home: None,
            config_file: config_dir.join("config.toml"),
            plugins_dir: data_dir.join("plugins"),
            cache_dir: base("XDG_CACHE_HOME", ".cache").ok_or(PathsError::NoHome)?,
            log_dir: state_dir.join("log"),
            socket: data_dir.join("host.sock"),
            data_dir,
            runtime: None,
        })
    }

    /// Gives the socket a short path: in the session's runtime folder, else in one of the user's own below `/tmp`.
    fn move_socket(&mut self, session: Option<PathBuf>, user: u32) {
        let digest = Sha256::digest(canonical(&self.data_dir).as_os_str().as_bytes());
        let name = format!("{}.sock", hex(digest.get(..8).unwrap_or_default()));
        // The folder that a login session makes is found without the variable too.
        let usual = || {
            let folder = PathBuf::from(format!("/run/user/{user}"));
            std::fs::metadata(&folder).is_ok_and(|data| data.is_dir() && data.uid() == user).then_some(folder)
        };
        let session = session.or_else(usual).map(|folder| folder.join("ostler"));
        let fits = |folder: &PathBuf| folder.join(&name).as_os_str().len() <= MAX_SOCKET_PATH;
        let (folder, runtime) = match session.filter(fits) {
            Some(folder) => (folder.clone(), Runtime::Session(folder)),
            None => {
                let folder = PathBuf::from(format!("/tmp/ostler-{user}"));
                (folder.clone(), Runtime::Shared(folder))
            }
        };
        self.socket = folder.join(name);
        self.runtime = Some(runtime);
    }

    /// The folders in which nobody but the host writes.
    #[must_use]
    pub const fn own_folders(&self) -> [&PathBuf; 3] {
        [&self.data_dir, &self.cache_dir, &self.log_dir]
    }

    /// Makes the folders that the host writes to (data, cache, log, runtime), each for the user alone, and checks those
    /// that exist. The plugin folder, which is the user's, is made where it is missing and otherwise left as it is.
    ///
    /// # Errors
    /// Where one cannot be made, belongs to another user or cannot be written to.
    pub fn create(&self) -> Result<(), FolderError> {
        for folder in self.own_folders() {
            create_private_dir(folder)?;
        }
        if !self.plugins_dir.exists() && !self.plugins_dir.is_symlink() {
            // A host works without it.
            let _ = create_private_dir(&self.plugins_dir);
        }
        self.create_runtime()
    }

    /// Makes and checks the folder of the socket alone. A client does this before it trusts a socket there.
    ///
    /// # Errors
    /// As [`Paths::create`].
    pub fn create_runtime(&self) -> Result<(), FolderError> {
        match &self.runtime {
            None => Ok(()),
            Some(Runtime::Session(folder)) => create_private_dir(folder),
            Some(Runtime::Shared(folder)) => create_in_shared_place(folder),
        }
    }
}

/// The path with links resolved as far as it exists, so that two names of one folder, before and after it is made,
/// give one digest.
fn canonical(path: &Path) -> PathBuf {
    let mut rest = Vec::new();
    for ancestor in path.ancestors() {
        if let Ok(resolved) = ancestor.canonicalize() {
            return rest.iter().rev().fold(resolved, |folder, name| folder.join(name));
        }
        rest.extend(ancestor.file_name());
    }
    path.to_path_buf()
}
