//! Grants: the folders in which runs may work, as the operator has allowed them.

use std::path::Path;

use ostler_protocol::{ApiError, ErrorKind, Grant};
use ostler_storage::{Durability, Storage};
use ostler_test_hooks::clock;

use crate::policy::policy_set::Grants;

/// The stored grants.
#[derive(Clone, Debug)]
pub struct GrantStore {
    storage: Storage,
}

impl GrantStore {
    pub(crate) const fn new(storage: Storage) -> Self {
        Self { storage }
    }

    /// The folders in which runs may work.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn list(&self) -> Result<Vec<Grant>, ApiError> {
        Ok(self.storage.read(ostler_storage::Reader::grants)?)
    }

    /// The same as the policies take them.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub(crate) fn for_policies(&self) -> Result<Grants, ApiError> {
        let grants = self.list()?;
        Ok(Grants::new(grants.into_iter().map(|grant| (grant.path, grant.trust_settings))))
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
        let grants = self.list()?;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::path::PathBuf;

    use super::*;
    use crate::test_support::Fixture;

    fn store(fixture: &Fixture) -> GrantStore {
        GrantStore::new(fixture.storage.clone())
    }

    #[test]
    fn granting_a_folder_through_a_link_grants_what_it_leads_to() {
        let fixture = Fixture::new();
        let (grants, real, link) = (store(&fixture), fixture.make_folder("real"), fixture.folder().join("link"));
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert_eq!(grants.grant(&link, None).unwrap().path, real);
        assert_eq!(grants.revoke(&link).unwrap().path, real);
        assert_eq!(grants.list().unwrap(), []);
    }

    #[test]
    fn granting_again_without_trust_keeps_the_trust_that_was_given() {
        let fixture = Fixture::new();
        let (grants, folder) = (store(&fixture), fixture.make_folder("project"));
        assert!(grants.grant(&folder, Some(true)).unwrap().trust_settings);
        assert!(grants.grant(&folder, None).unwrap().trust_settings);
        assert!(grants.for_policies().unwrap().trusts_settings_of(&folder));
        assert!(!grants.grant(&folder, Some(false)).unwrap().trust_settings);
        assert!(!grants.for_policies().unwrap().trusts_settings_of(&folder));
    }

    #[test]
    fn relative_missing_and_root_folders_are_refused_and_nothing_is_granted() {
        let fixture = Fixture::new();
        let grants = store(&fixture);
        let kind = |path: PathBuf| {
            let error = grants.grant(&path, None).unwrap_err();
            assert_eq!(error.pointer.as_deref(), Some("/path"));
            error.kind
        };
        assert_eq!(kind(PathBuf::from("project")), ErrorKind::InvalidParams);
        assert_eq!(kind(PathBuf::from("/")), ErrorKind::InvalidParams);
        assert_eq!(kind(fixture.folder().join("missing")), ErrorKind::CwdMissing);
        assert_eq!(grants.list().unwrap(), []);
    }

    #[test]
    fn revoking_an_unknown_grant_names_the_one_that_covers_it() {
        let fixture = Fixture::new();
        let (grants, outer) = (store(&fixture), fixture.make_folder("outer"));
        grants.grant(&outer, None).unwrap();
        let error = grants.revoke(&fixture.make_folder("outer/inner")).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound);
        assert_eq!(error.hint.unwrap(), format!("it is covered by the grant of {}", outer.display()));
        let error = grants.revoke(&fixture.make_folder("other")).unwrap_err();
        assert_eq!(error.hint.unwrap(), "`list_workspace_grants` lists the grants");
        assert_eq!(grants.list().unwrap().len(), 1);
    }
}
