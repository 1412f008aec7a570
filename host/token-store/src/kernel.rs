//! The kernel's keyring (`keyutils`). Entries are in the session's keyring and in the user's persistent one, which every
//! session can use, but which removes entries that are not used for three days. A reboot removes both.

use std::path::Path;

use linux_keyutils::{KeyRing, KeyRingIdentifier};

use super::TokenError;
use super::keyring::Keyring;

const HINT: &str = "set [tokens] store to another: secret-service, or file for one that only you can read";

/// Opens the keyring for a data folder.
///
/// # Errors
/// If this system has none.
pub(super) fn open(data_dir: &Path) -> Result<Keyring, TokenError> {
    let failed =
        |error: &dyn std::fmt::Display| TokenError::new(format!("failed to use the kernel's keyring: {error}"), HINT);
    // A process without a session keyring (a service, a container) falls back to one that its user owns but the process
    // does not possess: it could add a key there, but neither read nor delete it.
    KeyRing::from_special_id(KeyRingIdentifier::Session, true).map_err(|error| failed(&error))?;
    let store = linux_keyutils_keyring_store::Store::new().map_err(|error| failed(&error))?;
    let (name, data_dir) = ("the kernel's keyring", data_dir.to_owned());
    Ok(Keyring { name, hint: HINT, store, data_dir, labels: false })
}

/// Checks whether the keyring works here: containers often forbid it.
///
/// # Errors
/// The error of the kernel.
pub(super) fn check(data_dir: &Path) -> Result<(), TokenError> {
    use super::{Store, Token};
    const NAME: &str = "probe of the store";
    let keyring = open(data_dir)?;
    let works = Token::parse("works".to_owned()).map_err(|what| TokenError::new(what, HINT))?;
    keyring.put(NAME, &works)?;
    let found = keyring.get(NAME)?;
    keyring.delete(NAME)?;
    if found == Some(works) { Ok(()) } else { Err(TokenError::new("the kernel's keyring does not keep entries", HINT)) }
}
