//! The configuration: the commented default that is built in, the user's file over it, what was set at run time over
//! both, and where everything lies.
//!
//! A file is read as a whole: every problem in it is found and named with line, column and key before anything takes
//! effect, and a file with a problem takes no effect at all. What is not known is refused, with the nearest name that
//! is; there is no key that is accepted and ignored.

mod document;
mod error;
mod file;
mod json;
mod key;
mod names;
mod overrides;
mod paths;
mod place;
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

pub use self::error::{ConfigError, ConfigErrors, Position};
pub use self::file::MAX_FILE_BYTES;
pub use self::overrides::{Overrides, is_settable, needs_restart};
pub use self::paths::{LOG_FILE, Paths, PathsError};
pub use self::place::ConfigDiagnostic;
pub use self::shown::{HIDDEN, ShownValue, file_key, wire_names};
pub use self::source::Source;
pub use self::sources::Sources;
pub use self::types::{
    AllowTarget, CommandRule, Config, Executable, HostConfig, HttpConfig, LogConfig, LogLevel, PluginConfig, PluginPin,
    PluginTrust, PluginsConfig, PolicyConfig, ProviderConfig, RedactionAllow, RedactionConfig, RedactionRule,
    ReportedTools, ResourceLimits, RetentionConfig, RetentionLimits, RunnerConfig, SandboxConfig, SchedulerConfig,
    StorageConfig, TokenStoreChoice, TokensConfig,
};

/// The commented default configuration: what is in force without a file, and what `ostler config init` writes.
pub const DEFAULT_TEXT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../config.toml"));

impl Config {
    /// The built-in defaults.
    ///
    /// # Errors
    /// Only where the text that is built in is at fault.
    pub fn builtin() -> Result<Self, ConfigErrors> {
        Source::default().config(&Overrides::default())
    }

    /// The defaults with the file over them. Without a path, or where no such file exists, the defaults.
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
    /// As [`Config::load`], and where there is no such file.
    pub fn load_existing(path: &Path) -> Result<Self, ConfigErrors> {
        Source::read_existing(path)?.config(&Overrides::default())
    }

    /// The defaults with `text` over them.
    ///
    /// # Errors
    /// Every problem of the text at once.
    pub fn parse(text: &str) -> Result<Self, ConfigErrors> {
        Source::of_text(text).config(&Overrides::default())
    }
}
