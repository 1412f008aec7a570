//! Builds a configuration from the default text, a file, and runtime settings.

use std::path::{Path, PathBuf};

use super::document::Layer;
use super::error::{ConfigError, ConfigErrors};
use super::overrides::{Overrides, file_only, file_only_message};
use super::types::Config;
use super::{DEFAULT_TEXT, file, sections};
use ostler_protocol::Origin;

/// The content of the user's file when it was read. `Default` means no file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    path: Option<PathBuf>,
    /// `None` if the file does not exist.
    text: Option<String>,
}

impl Source {
    /// Reads a file. A missing file is not an error.
    ///
    /// # Errors
    /// If the file cannot be read, is too long, is not UTF-8, or is writable for other users.
    pub fn read(path: &Path) -> Result<Self, ConfigErrors> {
        match file::read_if_present(path) {
            Ok(text) => Ok(Self { path: Some(path.to_owned()), text }),
            Err(error) => Err(ConfigErrors::new(Some(path), vec![error])),
        }
    }

    /// Reads a file that must exist.
    ///
    /// # Errors
    /// If the file does not exist, cannot be read, is too long, or is not UTF-8.
    pub fn read_existing(path: &Path) -> Result<Self, ConfigErrors> {
        match file::read(path) {
            Ok(text) => Ok(Self { path: Some(path.to_owned()), text: Some(text) }),
            Err(error) => Err(ConfigErrors::new(Some(path), vec![error])),
        }
    }

    /// A text that is not from a file.
    #[must_use]
    pub fn of_text(text: &str) -> Self {
        Self { path: None, text: Some(text.to_owned()) }
    }

    /// Whether the file is missing or empty. A file that is being rewritten is empty for a moment.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.text.as_deref().is_none_or(|text| text.trim().is_empty())
    }

    /// The configuration: defaults, overridden by the file, overridden by runtime settings.
    ///
    /// # Errors
    /// All problems of the file or, if it has none, of the runtime settings.
    pub fn config(&self, set: &Overrides) -> Result<Config, ConfigErrors> {
        let file = self.text.as_deref().map(|text| Layer { origin: Origin::File, text });
        let layers: Vec<Layer<'_>> =
            std::iter::once(Layer { origin: Origin::Default, text: DEFAULT_TEXT }).chain(file).collect();
        // Check the file alone first, because a runtime setting can hide a problem of the file.
        let alone = sections::read(&layers).map_err(|errors| ConfigErrors::new(self.path.as_deref(), errors))?;
        if set.is_empty() {
            return Ok(alone);
        }
        let text = set.to_toml().map_err(|error| {
            let unfit = ConfigError::whole(format!("it cannot be written in TOML: {error}"), None);
            ConfigErrors::new(None, vec![ConfigError { origin: Origin::Override, ..unfit }])
        })?;
        let set = Layer { origin: Origin::Override, text: &text };
        sections::read(&[layers.as_slice(), &[set]].concat()).map_err(|errors| ConfigErrors::new(None, errors))
    }

    /// As [`config`](Self::config), but omits invalid runtime settings, such as those that an earlier version accepted.
    /// Also returns their problems.
    ///
    /// # Errors
    /// All problems of the file.
    pub fn config_with_fitting(&self, set: &Overrides) -> Result<(Config, Vec<ConfigError>), ConfigErrors> {
        let mut left = set.clone();
        let mut dropped = Vec::new();
        for pointer in set.rows().into_keys() {
            if let Some(why) = file_only(&pointer) {
                left = left.without(&pointer);
                let message = file_only_message(&pointer, why);
                let unfit = ConfigError::whole(message, None);
                dropped.push(ConfigError { key: pointer.clone(), pointer, origin: Origin::Override, ..unfit });
            }
        }
        loop {
            let errors = match self.config(&left) {
                Ok(config) => return Ok((config, dropped)),
                Err(errors) if errors.errors().iter().any(|error| error.origin != Origin::Override) => {
                    return Err(errors);
                }
                Err(errors) => errors,
            };
            let before = left.rows().len();
            for error in errors.errors() {
                left = left.without(left.affected_pointer(&error.pointer));
            }
            dropped.extend(errors.errors().iter().cloned());
            if left.rows().len() == before {
                left = Overrides::default();
            }
        }
    }
}
