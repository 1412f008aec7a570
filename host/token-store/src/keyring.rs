//! What the two stores behind `keyring-core` share.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keyring_core::api::CredentialStoreApi;
use keyring_core::{Entry, Error};

use super::sealed::{Found, TokenSealer};
use super::{Store, Token, TokenError};

/// A store of the `keyring-core` family, for one data folder.
pub(super) struct Keyring {
    /// For errors: `the kernel's keyring`.
    pub(super) name: &'static str,
    /// What to do where it fails.
    pub(super) hint: &'static str,
    pub(super) store: Arc<dyn CredentialStoreApi + Send + Sync>,
    pub(super) data_dir: PathBuf,
    /// Whether entries take a label that people see.
    pub(super) labels: bool,
}

impl Keyring {
    pub(super) fn entry(&self, provider: &str) -> Result<Entry, TokenError> {
        let service = service(&self.data_dir);
        let label = format!("Ostler: token of {provider}");
        let labels = HashMap::from([("label", label.as_str())]);
        let modifiers = self.labels.then_some(&labels);
        self.store.build(&service, provider, modifiers).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &Error) -> TokenError {
        // Two kinds hold the stored bytes; none of the others does.
        let reason = match error {
            Error::BadEncoding(_) | Error::BadDataFormat(..) => "what is stored there is no text".to_owned(),
            Error::Ambiguous(_) => "it holds several entries for the same provider".to_owned(),
            other => other.to_string(),
        };
        TokenError::new(format!("failed to use {}: {reason}", self.name), self.hint)
    }
}

/// Entries of two data folders are told apart.
fn service(data_dir: &Path) -> String {
    format!("ostler:{}", data_dir.display())
}

impl Store for Keyring {
    fn put(&self, provider: &str, token: &Token) -> Result<(), TokenError> {
        let sealed = TokenSealer::open(&self.data_dir)?.seal(provider, token)?;
        self.entry(provider)?.set_password(&sealed).map_err(|error| self.failed(&error))
    }

    fn get(&self, provider: &str) -> Result<Option<Token>, TokenError> {
        let kept = match self.entry(provider)?.get_password() {
            Ok(text) => text,
            Err(Error::NoEntry) => return Ok(None),
            Err(error) => return Err(self.failed(&error)),
        };
        let found = TokenSealer::open(&self.data_dir)?.read(provider, kept).map_err(|error| TokenError {
            message: format!("failed to read the token of {provider} in {}: {}", self.name, error.message),
            ..error
        })?;
        match found {
            Found::Sealed(token) => Ok(Some(token)),
            Found::Plain(token) => {
                // The token can be used; that it lies open until the next look is no reason to refuse the run.
                if let Err(error) = self.put(provider, &token) {
                    tracing::warn!(provider, store = self.name, %error, "a token of an earlier version was not sealed");
                }
                Ok(Some(token))
            }
        }
    }

    fn delete(&self, provider: &str) -> Result<bool, TokenError> {
        match self.entry(provider)?.delete_credential() {
            Ok(()) => Ok(true),
            Err(Error::NoEntry) => Ok(false),
            Err(error) => Err(self.failed(&error)),
        }
    }
}
