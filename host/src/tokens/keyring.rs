//! What the two stores behind `keyring-core` share.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keyring_core::api::CredentialStoreApi;
use keyring_core::{Entry, Error};

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
    fn entry(&self, provider: &str) -> Result<Entry, TokenError> {
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
        self.entry(provider)?.set_password(token.reveal()).map_err(|error| self.failed(&error))
    }

    fn get(&self, provider: &str) -> Result<Option<Token>, TokenError> {
        match self.entry(provider)?.get_password() {
            Ok(text) => Token::parse(text).map(Some).map_err(|what| {
                TokenError::new(
                    format!("the token of {provider} in {} {what}", self.name),
                    "`ostler token set` it anew",
                )
            }),
            Err(Error::NoEntry) => Ok(None),
            Err(error) => Err(self.failed(&error)),
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
