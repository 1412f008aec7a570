//! The code that the two stores with `keyring-core` share.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keyring_core::api::CredentialStoreApi;
use keyring_core::{Entry, Error};

use super::sealed::{StoredToken, TokenSealer};
use super::{Store, Token, TokenError};

/// A store of the `keyring-core` family, for one data folder.
pub(super) struct Keyring {
    /// Its name in errors: `the kernel's keyring`.
    pub(super) name: &'static str,
    /// What the user can do about an error.
    pub(super) hint: &'static str,
    pub(super) store: Arc<dyn CredentialStoreApi + Send + Sync>,
    pub(super) data_dir: PathBuf,
    /// Whether entries can have a label.
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
        // Two kinds of errors contain the stored bytes, so their text is not used.
        let reason = match error {
            Error::BadEncoding(_) | Error::BadDataFormat(..) => "the stored value is not text".to_owned(),
            Error::Ambiguous(_) => "it holds several entries for the same provider".to_owned(),
            other => other.to_string(),
        };
        TokenError::new(format!("failed to use {}: {reason}", self.name), self.hint)
    }
}

/// The service name, which distinguishes the entries of different data folders.
fn service(data_dir: &Path) -> String {
    format!("ostler:{}", data_dir.display())
}

impl Store for Keyring {
    fn put(&self, provider: &str, token: &Token) -> Result<(), TokenError> {
        let sealed = TokenSealer::open(&self.data_dir)?.seal(provider, token)?;
        self.entry(provider)?.set_password(&sealed).map_err(|error| self.failed(&error))
    }

    fn get(&self, provider: &str) -> Result<Option<Token>, TokenError> {
        let stored = match self.entry(provider)?.get_password() {
            Ok(text) => text,
            Err(Error::NoEntry) => return Ok(None),
            Err(error) => return Err(self.failed(&error)),
        };
        let found = TokenSealer::open(&self.data_dir)?.read(provider, stored).map_err(|error| TokenError {
            message: format!("failed to read the token of {provider} in {}: {}", self.name, error.message),
            ..error
        })?;
        match found {
            StoredToken::Sealed(token) => Ok(Some(token)),
            StoredToken::Plain(token) => {
                // The token can be used. That it stays unsealed until the next read is not a reason to refuse the run.
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
