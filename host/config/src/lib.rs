//! The configuration of Ostler, and the paths of its files.
//!
//! **Layers.** A configuration has up to three layers: the commented default text that is built into the binary
//! ([`DEFAULT_TEXT`]), the user's `config.toml`, and the runtime settings ([`Overrides`]). Later layers override
//! earlier ones. Tables are merged key by key; every other value, also a list, is replaced as a whole. The built-in
//! text is the only source of defaults. [`Config::sources`] has the origin and the position of every value.
//!
//! **Reading.** `reader` asks the parsed tables for keys by name and type, and `sections` has every key with its range.
//! A key that was not asked for is unknown and rejected, with a suggestion; no key is accepted and ignored. All
//! problems are collected, with line, column and key ([`ConfigErrors`]). A file with a problem has no effect at all.
//!
//! **Runtime settings.** They are stored as rows of JSON pointers and values, and read as TOML like the file, with the
//! camelCase keys of the API. Settings that decide trust, or which programs run, can only be set in the file.
//!
//! **Output.** [`Config::shown`] is the configuration without values that may be secret. Plugins check their own
//! settings; [`Config::locate`] adds lines and columns to their diagnostics.
//!
//! **Paths.** [`Paths`] are the folders and files of one installation, from `OSTLER_HOME` or the XDG variables.

mod diagnostic;
mod document;
mod error;
mod file;
mod json;
mod key;
mod names;
mod overrides;
mod paths;
mod reader;
mod sections;
mod shown;
mod source;
mod sources;
mod types;

#[cfg(test)]
mod layers_tests;
#[cfg(test)]
mod paths_tests;
#[cfg(test)]
mod tests;

use std::path::Path;

pub use self::diagnostic::ConfigDiagnostic;
pub use self::error::{ConfigError, ConfigErrors, Position};
pub use self::file::MAX_FILE_BYTES;
pub use self::overrides::{Overrides, is_settable, needs_restart};
pub use self::paths::{LOG_FILE, Paths, PathsError};
pub use self::shown::{HIDDEN, ShownValue, file_key, wire_names};
pub use self::source::Source;
pub use self::sources::Sources;
pub use self::types::{
    AllowTarget, CommandRule, Config, Executable, HostConfig, HttpConfig, LogConfig, LogLevel, PluginConfig, PluginPin,
    PluginTrust, PluginsConfig, PolicyConfig, ProviderConfig, RedactionAllow, RedactionConfig, RedactionRule,
    ReportedTools, ResourceLimits, RetentionConfig, RetentionLimits, RunnerConfig, SandboxConfig, SchedulerConfig,
    StorageConfig, TokenStoreChoice, TokensConfig,
};

/// The commented default configuration. It is active without a file, and `ostler config init` writes it.
pub const DEFAULT_TEXT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../config.toml"));

impl Config {
    /// The built-in defaults.
    ///
    /// # Errors
    /// Only if the built-in text is invalid, which is a defect.
    pub fn builtin() -> Result<Self, ConfigErrors> {
        Source::default().config(&Overrides::default())
    }

    /// The defaults, overridden by the file at `path`. Without a path, or if the file does not exist, the defaults.
    ///
    /// # Errors
    /// Every problem of the file at once: unreadable, longer than [`MAX_FILE_BYTES`], not TOML, unknown keys, wrong
    /// types, values out of range.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigErrors> {
        path.map_or_else(|| Ok(Source::default()), Source::read)?.config(&Overrides::default())
    }

    /// As [`Config::load`], but a missing file is an error: for `config check FILE`.
    ///
    /// # Errors
    /// Those of [`Config::load`], and if the file does not exist.
    pub fn load_existing(path: &Path) -> Result<Self, ConfigErrors> {
        Source::read_existing(path)?.config(&Overrides::default())
    }

    /// The defaults, overridden by `text`.
    ///
    /// # Errors
    /// All problems of the text.
    pub fn parse(text: &str) -> Result<Self, ConfigErrors> {
        Source::of_text(text).config(&Overrides::default())
    }
}
