//! Grants: the folders in which runs may work, as the operator has allowed them.

use std::path::Path;

use ostler_protocol::{ApiError, ErrorKind, Grant};
use ostler_storage::Durability;
use ostler_test_hooks::clock;

use crate::Engine;

impl Engine {
    /// The folders in which runs may work.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn list_grants(&self) -> Result<Vec<Grant>, ApiError> {
        Ok(self.storage.read(ostler_storage::Reader::grants)?)
    }

    /// Lets runs work in a folder and below. `trust_settings` says whether the folder's own settings of agent CLIs count;
    /// without it that stays as it is.
    ///
    /// # Errors
    /// `CWD_MISSING` if it is not a folder, `INVALID_PARAMS` if it is not named absolutely or is the root.
    pub fn grant(&self, path: &Path, trust_settings: Option<bool>) -> Result<Grant, ApiError> {
        let wrong = |message: &str| ApiError::new(ErrorKind::InvalidParams, message).at("/path");
        if !path.is_absolute() {
            return Err(wrong("the folder must be named by an absolute path"));
        }
        let resolved = crate::submit::check::working_folder(path).map_err(|error| error.at("/path"))?;
        if resolved.parent().is_none() {
            return Err(wrong("the root folder cannot be granted: it would allow everything"));
        }
        if resolved.to_str().is_none() {
            return Err(wrong("the folder's name is not valid UTF-8"));
        }
        let now = clock::now();
        Ok(self
            .storage
            .write_urgent(Durability::Full, move |tx| tx.add_grant(&resolved, trust_settings, now))
            .wait()?)
    }

    /// Takes a grant back. Runs that are running go on.
    ///
    /// # Errors
    /// `NOT_FOUND` with the grants that there are.
    pub fn revoke(&self, path: &Path) -> Result<Grant, ApiError> {
        let grants = self.list_grants()?;
        let resolved = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let found = grants.iter().find(|grant| grant.path == path || grant.path == resolved);
        let Some(grant) = found.cloned() else {
            let covering = grants.iter().find(|grant| resolved.starts_with(&grant.path));
            let hint = covering.map_or_else(
                || "`list_workspace_grants` lists the grants".to_owned(),
                |grant| format!("it is covered by the grant of {}", grant.path.display()),
            );
            return Err(ApiError::not_found("grant of", path.display()).at("/path").hint(hint));
        };
        let gone = grant.path.clone();
        self.storage.write_urgent(Durability::Full, move |tx| tx.revoke_grant(&gone)).wait()?;
        Ok(grant)
    }
}
