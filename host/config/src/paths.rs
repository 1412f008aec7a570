//! Where everything lies.
//!
//! `OSTLER_HOME` moves everything into one folder; otherwise the XDG folders hold it. The socket is always in the data
//! folder, not in the runtime folder: whoever shares the data finds the host, whether or not a login session has set
//! `XDG_RUNTIME_DIR` (a cron job has none). A path that is longer than a socket address can hold is reached through a
//! descriptor of the folder, see [`SocketAddress`](ostler_private_files::SocketAddress).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use ostler_private_files::{FolderError, create_private_dir};

/// Name of a link in the log folder that leads to the newest file.
pub const LOG_FILE: &str = "host.log";

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
    /// The host's socket, in the data folder. Use it through [`SocketAddress`](ostler_private_files::SocketAddress).
    pub socket: PathBuf,
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
        Self::resolve(&|name| std::env::var_os(name), etcetera::home_dir().ok().as_deref())
    }

    /// The places that an environment names. `home` is the user's home folder.
    ///
    /// # Errors
    /// As [`Paths::from_environment`].
    pub fn resolve(variable: &dyn Fn(&str) -> Option<OsString>, home: Option<&Path>) -> Result<Self, PathsError> {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        match given("OSTLER_HOME") {
            Some(home) => {
                let home =
                    std::path::absolute(&home).map_err(|source| PathsError::Relative { home: home.clone(), source })?;
                Ok(Self::under(home))
            }
            None => Self::xdg(&given, home),
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
        })
    }

    /// The folders in which nobody but the host writes.
    #[must_use]
    pub const fn own_folders(&self) -> [&PathBuf; 3] {
        [&self.data_dir, &self.cache_dir, &self.log_dir]
    }

    /// The host's log: a link to its newest file.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.log_dir.join(LOG_FILE)
    }

    /// Makes the folders that the host writes to (data, cache, log), each for the user alone, and checks those
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
        Ok(())
    }
}
