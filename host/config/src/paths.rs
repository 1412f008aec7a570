//! The paths of all files and folders.
//!
//! With `OSTLER_HOME`, everything is in one folder; otherwise in the XDG folders. The socket is always in the data
//! folder, not in the runtime folder: every process that uses the data folder finds the host, even if `XDG_RUNTIME_DIR`
//! is not set, as in a cron job. A path that is too long for a socket address is reached through a descriptor of the
//! folder, see [`SocketAddress`](ostler_private_files::SocketAddress).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use ostler_private_files::{FolderError, create_private_dir};

/// Name of the symbolic link to the newest file in the log folder.
pub const LOG_FILE: &str = "host.log";

/// The folders and files of one installation. All paths are absolute. The folders exist after [`Paths::create`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The folder in `OSTLER_HOME`; `None` with XDG folders.
    pub home: Option<PathBuf>,
    /// The user's configuration.
    pub config_file: PathBuf,
    /// Database, lock, seals, exports.
    pub data_dir: PathBuf,
    /// The operator's plugins, unless the configuration names another folder.
    pub plugins_dir: PathBuf,
    /// Compiled plugins. Can be deleted at any time.
    pub cache_dir: PathBuf,
    /// The host's log.
    pub log_dir: PathBuf,
    /// The host's socket, in the data folder. Connect through [`SocketAddress`](ostler_private_files::SocketAddress).
    pub socket: PathBuf,
}

/// Why the paths cannot be determined.
#[derive(Debug, thiserror::Error)]
pub enum PathsError {
    /// There is neither `OSTLER_HOME` nor a home folder.
    #[error("there is no home folder; set OSTLER_HOME to the folder where ostler is to keep its files")]
    NoHome,
    /// `OSTLER_HOME` is relative and there is no current folder.
    #[error("failed to find the folder that OSTLER_HOME={} means: {source}; write the whole path", home.display())]
    Relative {
        /// Value of `OSTLER_HOME`.
        home: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
}

impl Paths {
    /// The paths for the environment of this process.
    ///
    /// # Errors
    /// If there is neither `OSTLER_HOME` nor a home folder, or `OSTLER_HOME` cannot be made absolute.
    pub fn from_environment() -> Result<Self, PathsError> {
        Self::resolve(&|name| std::env::var_os(name), etcetera::home_dir().ok().as_deref())
    }

    /// The paths for an environment. `home` is the user's home folder.
    ///
    /// # Errors
    /// Those of [`Paths::from_environment`].
    pub fn resolve(variable: &dyn Fn(&str) -> Option<OsString>, home: Option<&Path>) -> Result<Self, PathsError> {
        let path_in = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        match path_in("OSTLER_HOME") {
            Some(home) => {
                let home =
                    std::path::absolute(&home).map_err(|source| PathsError::Relative { home: home.clone(), source })?;
                Ok(Self::under(home))
            }
            None => Self::xdg(&path_in, home),
        }
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
        }
    }

    fn xdg(path_in: &dyn Fn(&str) -> Option<PathBuf>, home: Option<&Path>) -> Result<Self, PathsError> {
        // The XDG specification requires that relative values are ignored.
        let base = |name: &str, below_home: &str| {
            let absolute = path_in(name).filter(|path| path.is_absolute());
            let folder = absolute.or_else(|| Some(home?.join(below_home)))?;
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
        })
    }

    /// The folders in which only the host writes.
    #[must_use]
    pub const fn own_folders(&self) -> [&PathBuf; 3] {
        [&self.data_dir, &self.cache_dir, &self.log_dir]
    }

    /// The host's log: a link to its newest file.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.log_dir.join(LOG_FILE)
    }

    /// Creates the folders that the host writes to (data, cache, log), accessible only by the user, and checks existing
    /// ones. The plugin folder belongs to the user: it is created if it is missing, and otherwise not changed.
    ///
    /// # Errors
    /// If a folder cannot be created, belongs to another user, or is not writable.
    pub fn create(&self) -> Result<(), FolderError> {
        for folder in self.own_folders() {
            create_private_dir(folder)?;
        }
        if !self.plugins_dir.exists() && !self.plugins_dir.is_symlink() {
            // The host works without it.
            let _ = create_private_dir(&self.plugins_dir);
        }
        Ok(())
    }
}
