//! Seals the values that a waiting run needs and that must not be readable.
//!
//! The stored payload is redacted. If redaction changed it, the original is stored with it, encrypted (XChaCha20-Poly1305)
//! and bound to its run, until the run has ended. The key is a file of its own, readable for its owner only, so that a
//! copy of the database alone opens nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use ostler_private_files::secret_file::{self, SecretFileError};
use ostler_protocol::RunId;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// What is sealed.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sealed {
    /// The effective start payload with its true values.
    pub(crate) payload: Value,
    /// Variables that the caller sent with the request.
    pub(crate) client_environment: Option<BTreeMap<String, String>>,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed").finish_non_exhaustive()
    }
}

/// Why a seal could not be made, kept or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key file cannot be used.
    #[error(transparent)]
    Key(#[from] SecretFileError),
    /// The system gave no randomness.
    #[error("failed to get random bytes from the system: {0}")]
    Random(String),
    /// The sealed bytes were not made with this key for this run, or are damaged.
    #[error("failed to open the sealed payload of run {0}: it was sealed with another key or is damaged")]
    Open(RunId),
    /// The contents could not be written as JSON.
    #[error("failed to seal the payload: {0}")]
    Encode(String),
}

/// Seals and opens.
pub(crate) struct Sealer {
    cipher: XChaCha20Poly1305,
    path: PathBuf,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Sealer {
    /// With the key of that file, which is made (0600) if it does not exist.
    ///
    /// # Errors
    /// If the file is readable for others, belongs to another, has the wrong length, or cannot be read or made.
    pub(crate) fn open(path: &Path) -> Result<Self, SealError> {
        let key = secret_file::read_or_make_key::<KEY_BYTES>(path)?;
        Ok(Self { cipher: XChaCha20Poly1305::new(&key.into()), path: path.to_owned() })
    }

    /// Where the key lies.
    pub(crate) fn key_file(&self) -> &Path {
        &self.path
    }

    /// Seals for one run.
    ///
    /// # Errors
    /// If there is no randomness.
    pub(crate) fn seal(&self, run: RunId, contents: &Sealed) -> Result<Vec<u8>, SealError> {
        let plain = serde_json::to_vec(contents).map_err(|error| SealError::Encode(error.to_string()))?;
        let mut nonce = [0_u8; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|error| SealError::Random(error.to_string()))?;
        let bound = Payload { msg: &plain, aad: run.as_uuid().as_bytes() };
        let sealed =
            self.cipher.encrypt(&XNonce::from(nonce), bound).map_err(|error| SealError::Encode(error.to_string()))?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Opens what was sealed for that run.
    ///
    /// # Errors
    /// If it was made for another run or with another key, or is damaged.
    pub(crate) fn unseal(&self, run: RunId, sealed: &[u8]) -> Result<Sealed, SealError> {
        let (nonce, body) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(SealError::Open(run))?;
        let bound = Payload { msg: body, aad: run.as_uuid().as_bytes() };
        let plain = self.cipher.decrypt(&XNonce::from(*nonce), bound).map_err(|_| SealError::Open(run))?;
        serde_json::from_slice(&plain).map_err(|_| SealError::Open(run))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;

    use super::*;

    fn contents() -> Sealed {
        Sealed {
            payload: json!({"prompt": "the password is swordfish"}),
            client_environment: Some(BTreeMap::from([("PATH".to_owned(), "/bin".to_owned())])),
        }
    }

    #[test]
    fn what_was_sealed_comes_back_with_the_same_key_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seal.key");
        let run = RunId::generate();
        let sealed = Sealer::open(&path).unwrap().seal(run, &contents()).unwrap();
        assert!(!sealed.windows(9).any(|part| part == b"swordfish"));
        assert_eq!(Sealer::open(&path).unwrap().unseal(run, &sealed).unwrap(), contents());
        let other = Sealer::open(&folder.path().join("other.key")).unwrap();
        assert!(other.unseal(run, &sealed).is_err());
    }

    #[test]
    fn a_seal_belongs_to_its_run_and_notices_damage() {
        let folder = tempfile::tempdir().unwrap();
        let sealer = Sealer::open(&folder.path().join("seal.key")).unwrap();
        let run = RunId::generate();
        let mut sealed = sealer.seal(run, &contents()).unwrap();
        assert!(sealer.unseal(RunId::generate(), &sealed).is_err());
        assert!(sealer.unseal(run, &sealed[..10]).is_err());
        *sealed.last_mut().unwrap() ^= 1;
        assert!(sealer.unseal(run, &sealed).is_err());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seal.key");
        Sealer::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = Sealer::open(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_pipe_in_the_place_of_the_key_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seal.key");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        let error = Sealer::open(&path).unwrap_err().to_string();
        assert!(error.contains("not a file"), "{error}");
    }
}
