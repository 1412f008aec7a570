//! Tokens in a keyring: encrypted (XChaCha20-Poly1305) with a key of this data folder.
//!
//! Every process of the user can read the kernel's keyring, and every process with access to the session bus can query
//! the Secret Service, including the agents of runs. The key is a file (0600) in the data folder, which runs do not
//! see.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use super::{Token, TokenError};
use ostler_private_files::secret_file;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// The start of a sealed token. No token of a provider starts with it.
const PREFIX: &str = "ostler-sealed-1:";

const HINT: &str = "store it again with `save_provider_token`";

/// The content of an entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StoredToken {
    /// Sealed by this data folder.
    Sealed(Token),
    /// Stored unsealed by an earlier version, readable by every process.
    Plain(Token),
}

/// Seals and opens the tokens of one data folder.
pub(super) struct TokenSealer {
    cipher: XChaCha20Poly1305,
}

impl TokenSealer {
    /// Makes a sealer with the key of that data folder, which is created if it does not exist.
    ///
    /// # Errors
    /// If the key file cannot be used.
    pub(super) fn open(data_dir: &Path) -> Result<Self, TokenError> {
        let key = secret_file::read_or_make_key::<KEY_BYTES>(&data_dir.join("tokens.key")).map_err(|error| {
            TokenError::new(error.to_string(), "correct the file, or remove it and set the tokens again")
        })?;
        Ok(Self { cipher: XChaCha20Poly1305::new(&key.into()) })
    }

    /// Seals a token for one entry.
    ///
    /// # Errors
    /// If the system has no random bytes.
    pub(super) fn seal(&self, entry: &str, token: &Token) -> Result<String, TokenError> {
        let failed = |what: String| TokenError::new(format!("failed to seal the token: {what}"), "try again");
        let mut nonce = [0_u8; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|error| failed(error.to_string()))?;
        let bound = Payload { msg: token.reveal().as_bytes(), aad: entry.as_bytes() };
        let sealed = self.cipher.encrypt(&XNonce::from(nonce), bound).map_err(|error| failed(error.to_string()))?;
        Ok(format!("{PREFIX}{}", STANDARD.encode([nonce.as_slice(), &sealed].concat())))
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// If it was sealed for another entry or with another key, is damaged, or is not a token. Never quotes it.
    pub(super) fn read(&self, entry: &str, kept: String) -> Result<StoredToken, TokenError> {
        let wrong = |what: &str| TokenError::new(format!("the token that is kept there {what}"), HINT);
        let Some(sealed) = kept.strip_prefix(PREFIX) else {
            return Token::parse(kept).map(StoredToken::Plain).map_err(wrong);
        };
        let damaged = || wrong("was sealed with another key or is damaged");
        let sealed = STANDARD.decode(sealed).map_err(|_| damaged())?;
        let (nonce, body) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or_else(damaged)?;
        let bound = Payload { msg: body, aad: entry.as_bytes() };
        let plain = self.cipher.decrypt(&XNonce::from(*nonce), bound).map_err(|_| damaged())?;
        let text = String::from_utf8(plain).map_err(|_| damaged())?;
        Token::parse(text).map(StoredToken::Sealed).map_err(wrong)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::super::MAX_TOKEN;
    use super::*;

    fn token(text: &str) -> Token {
        Token::parse(text.to_owned()).unwrap()
    }

    #[test]
    fn sealed_token_opens_only_with_its_key_and_entry() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let sealer = TokenSealer::open(one.path()).unwrap();
        let kept = sealer.seal("codex", &token("plain words")).unwrap();
        assert!(!kept.contains("plain") && kept.starts_with(PREFIX));
        let again = TokenSealer::open(one.path()).unwrap();
        assert_eq!(again.read("codex", kept.clone()).unwrap(), StoredToken::Sealed(token("plain words")));
        let foreign = TokenSealer::open(other.path()).unwrap();
        let damaged = kept.replace(&kept[PREFIX.len()..PREFIX.len() + 4], "AAAA");
        for (sealer, entry, kept) in
            [(&sealer, "claude", &kept), (&foreign, "codex", &kept), (&sealer, "codex", &damaged)]
        {
            let error = sealer.read(entry, kept.clone()).unwrap_err();
            assert!(error.message.contains("another key or is damaged"), "{error}");
        }
        for short in ["", "!", "AAAA"] {
            assert!(sealer.read("codex", format!("{PREFIX}{short}")).is_err(), "{short:?}");
        }
    }

    #[test]
    fn token_of_an_earlier_version_is_plain() {
        let folder = tempfile::tempdir().unwrap();
        let sealer = TokenSealer::open(folder.path()).unwrap();
        assert_eq!(sealer.read("codex", "sk-old".to_owned()).unwrap(), StoredToken::Plain(token("sk-old")));
        assert!(sealer.read("codex", String::new()).is_err());
    }

    #[test]
    fn longest_token_fits_the_kernels_keyring() {
        let folder = tempfile::tempdir().unwrap();
        let kept = TokenSealer::open(folder.path()).unwrap().seal("codex", &token(&"x".repeat(MAX_TOKEN))).unwrap();
        assert!(kept.len() < 32 * 1024 - 1, "{}", kept.len());
    }

    #[test]
    fn key_that_is_not_private_is_rejected() {
        let folder = tempfile::tempdir().unwrap();
        TokenSealer::open(folder.path()).unwrap();
        let path = folder.path().join("tokens.key");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(TokenSealer::open(folder.path()).err().unwrap().message.contains("chmod 600"));
    }
}
