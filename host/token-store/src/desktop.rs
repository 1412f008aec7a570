//! The desktop's Secret Service (GNOME Keyring, KWallet, KeePassXC), over the session bus.

use std::path::{Path, PathBuf};

use super::TokenError;
use super::keyring::Keyring;

const HINT: &str =
    "is the desktop's keyring running and unlocked? [tokens] store = \"keyutils\" or \"file\" does without it";

/// Whether there is a session bus. Without this check, a connection attempt could start one.
pub(super) fn has_session_bus() -> bool {
    let named = std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_some_and(|address| !address.is_empty());
    let usual = || std::env::var_os("XDG_RUNTIME_DIR").is_some_and(|folder| PathBuf::from(folder).join("bus").exists());
    named || usual()
}

/// Opens the Secret Service for a data folder. Blocks while the user is asked to unlock it.
///
/// # Errors
/// If no service answers.
pub(super) fn open(data_dir: &Path) -> Result<Keyring, TokenError> {
    if !has_session_bus() {
        return Err(TokenError::new("failed to use the Secret Service: this host has no session bus", HINT));
    }
    let store = dbus_secret_service_keyring_store::Store::new()
        .map_err(|error| TokenError::new(format!("failed to use the Secret Service: {error}"), HINT))?;
    let (name, data_dir) = ("the Secret Service", data_dir.to_owned());
    Ok(Keyring { name, hint: HINT, store, data_dir, labels: true })
}
