//! Access tokens: who may call over TCP, and what.
//!
//! A token is shown once, when it is created. What is stored is its SHA-256; tokens are long and random, so that nothing is
//! gained by trying. The token in the file `http.token` is one among them, under the name `default`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::watch;

use crate::audit::{AuditEntry, AuditLog};
use crate::record::now;
use base16ct::lower::encode_string as hex;
use ostler_protocol::methods::{CreateAccessTokenParams, CreatedAccessToken, RevokeAccessTokenParams};
use ostler_protocol::{AccessClass, AccessToken, Actor, ApiError, AuditKind, ErrorKind, Problem};
use ostler_storage::{Durability, Storage, StorageError, StoredAccessToken};

/// The name of the token in the file `http.token`.
pub(crate) const DEFAULT_TOKEN: &str = "default";

/// Random bytes of a token.
const TOKEN_BYTES: usize = 32;

/// How a token begins, so that people and scanners know what they see.
const PREFIX: &str = "ostler_";

/// Maximum number of tokens in addition to the default one: each has a budget of connections.
const MAX_TOKENS: usize = 64;

/// Characters of a name.
const MAX_NAME: usize = 64;

/// Between two notes of the last use of a token, in microseconds.
const USE_STEP: i64 = 60_000_000;

/// A token that this host knows. Connections that were opened with it hold on to it.
pub struct ClientToken {
    name: String,
    class: AccessClass,
    digest: [u8; 32],
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    /// Microseconds since the epoch; 0 for never.
    used_us: AtomicI64,
    revoked: watch::Sender<bool>,
    /// Where the token itself lies, for the default one.
    file: Option<PathBuf>,
}

impl fmt::Debug for ClientToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientToken").field("name", &self.name).field("class", &self.class).finish_non_exhaustive()
    }
}

impl ClientToken {
    fn new(stored: StoredAccessToken, file: Option<PathBuf>) -> Self {
        let StoredAccessToken { name, class, digest, created_at, expires_at, used_at } = stored;
        let used_us = AtomicI64::new(used_at.map_or(0, Timestamp::as_microsecond));
        Self { name, class, digest, created_at, expires_at, used_us, revoked: watch::channel(false).0, file }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it may do.
    pub const fn class(&self) -> AccessClass {
        self.class
    }

    fn has_expired(&self) -> bool {
        self.expires_at.is_some_and(|at| at <= now())
    }

    /// Whether it may still be used.
    ///
    /// # Errors
    /// `POLICY_DENIED` that says why not.
    pub fn check(&self) -> Result<(), ApiError> {
        let why = if *self.revoked.borrow() {
            "was revoked"
        } else if self.has_expired() {
            "has expired"
        } else {
            return Ok(());
        };
        Err(ApiError::new(ErrorKind::PolicyDenied, format!("the access token {} {why}", self.name))
            .hint("`create_access_token` creates another"))
    }

    /// Returns when it may not be used any more.
    pub async fn ended(&self) {
        let mut revoked = self.revoked.subscribe();
        let expiry = async {
            match self.expires_at {
                None => std::future::pending().await,
                Some(at) => {
                    let left = now().duration_until(at);
                    tokio::time::sleep(Duration::try_from(left).unwrap_or_default()).await;
                }
            }
        };
        tokio::select! {
            _ = revoked.wait_for(|revoked| *revoked) => {}
            () = expiry => {}
        }
    }

    fn shown(&self) -> AccessToken {
        let used = self.used_us.load(Ordering::Relaxed);
        AccessToken {
            name: self.name.clone(),
            class: self.class,
            created_at: self.created_at,
            expires_at: self.expires_at,
            last_used_at: Some(used).filter(|used| *used > 0).and_then(|used| Timestamp::from_microsecond(used).ok()),
            valid: self.check().is_ok(),
        }
    }
}

/// The tokens of one host.
#[derive(Default)]
pub struct ClientTokens {
    /// Where their last use is noted; none in tests.
    storage: Option<Storage>,
    known: RwLock<BTreeMap<String, Arc<ClientToken>>>,
}

impl fmt::Debug for ClientTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTokens").finish_non_exhaustive()
    }
}

impl ClientTokens {
    /// Those that are stored.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub(crate) fn load(storage: &Storage) -> Result<Self, StorageError> {
        let stored = storage.read(ostler_storage::Reader::access_tokens)?;
        let known = stored.into_iter().map(|stored| (stored.name.clone(), Arc::new(ClientToken::new(stored, None))));
        Ok(Self { storage: Some(storage.clone()), known: RwLock::new(known.collect()) })
    }

    /// Takes the token of the file among them.
    pub fn set_default(&self, token: &str, file: PathBuf) {
        let stored = StoredAccessToken {
            name: DEFAULT_TOKEN.to_owned(),
            class: AccessClass::Run,
            digest: digest(token),
            created_at: now(),
            expires_at: None,
            used_at: None,
        };
        self.write().insert(DEFAULT_TOKEN.to_owned(), Arc::new(ClientToken::new(stored, Some(file))));
    }

    /// The token with this secret, if it is valid.
    pub fn authenticate(&self, token: &str) -> Option<Arc<ClientToken>> {
        let shown = digest(token);
        let mut found = None;
        // All of them, and each in a time that does not tell where they differ.
        for known in self.read().values() {
            if bool::from(known.digest.ct_eq(&shown)) {
                found = Some(Arc::clone(known));
            }
        }
        let found = found.filter(|token| token.check().is_ok())?;
        self.note_use(&found);
        Some(found)
    }

    fn note_use(&self, token: &ClientToken) {
        let now = now();
        let before = token.used_us.load(Ordering::Relaxed);
        if now.as_microsecond().saturating_sub(before) < USE_STEP {
            return;
        }
        token.used_us.store(now.as_microsecond(), Ordering::Relaxed);
        if let Some(storage) = self.storage.as_ref().filter(|_| token.file.is_none()) {
            let name = token.name.clone();
            drop(storage.write(Durability::Batched, move |tx| tx.touch_access_token(&name, now)));
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Arc<ClientToken>>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, Arc<ClientToken>>> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Creates, lists and revokes access tokens.
#[derive(Debug)]
pub struct AccessTokenStore {
    storage: Storage,
    audit: Arc<AuditLog>,
    tokens: Arc<ClientTokens>,
}

impl AccessTokenStore {
    /// Loads those that are stored.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub(crate) fn load(storage: Storage, audit: Arc<AuditLog>) -> Result<Self, StorageError> {
        let tokens = Arc::new(ClientTokens::load(&storage)?);
        Ok(Self { storage, audit, tokens })
    }

    /// The tokens by which callers are known.
    pub const fn tokens(&self) -> &Arc<ClientTokens> {
        &self.tokens
    }

    /// Every access token, by name.
    pub fn list(&self) -> Vec<AccessToken> {
        self.tokens.read().values().map(|token| token.shown()).collect()
    }

    /// Creates an access token. It is valid at once.
    ///
    /// # Errors
    /// `INVALID_PARAMS` for a name that cannot be one, `CONFLICT` for one that is taken or where there are too many.
    pub fn create(&self, params: &CreateAccessTokenParams, actor: &Actor) -> Result<CreatedAccessToken, ApiError> {
        let name = &params.name;
        check_name(name)?;
        let conflict = |message: String| ApiError::new(ErrorKind::Conflict, message).at("/name");
        if self.tokens.read().contains_key(name) || name == DEFAULT_TOKEN {
            let message = format!("there is an access token {name} already");
            return Err(
                conflict(message).hint(format!("choose another name, or revoke it with `revoke_access_token({name})`"))
            );
        }
        if self.tokens.read().values().filter(|token| token.file.is_none()).count() >= MAX_TOKENS {
            return Err(conflict(format!("there are {MAX_TOKENS} access tokens, the most there can be"))
                .hint("`list_access_tokens` lists them, `revoke_access_token` deletes one"));
        }
        let token = new_token()?;
        let created_at = now();
        let expires_at = params.expires_in_seconds.map(|seconds| {
            let life = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
            created_at.checked_add(life).unwrap_or(Timestamp::MAX)
        });
        let class = params.class;
        let entry = AuditEntry::new(AuditKind::Access, actor).fact("action", "create").fact("name", name);
        let entry = entry.fact("class", class).fact("expiresAt", expires_at.map(|at| at.to_string()));
        let digest = digest(&token);
        let stored = StoredAccessToken { name: name.clone(), class, digest, created_at, expires_at, used_at: None };
        let row = stored.clone();
        let taken = !self.storage.write_urgent(Durability::Full, move |tx| tx.insert_access_token(&row)).wait()?;
        if taken {
            return Err(conflict(format!("there is an access token {name} already")));
        }
        self.audit.append_durably(entry)?;
        let known = Arc::new(ClientToken::new(stored, None));
        let access_token = known.shown();
        self.tokens.write().insert(name.clone(), known);
        tracing::info!(name, %class, "an access token was created");
        Ok(CreatedAccessToken { token, access_token })
    }

    /// Revokes an access token: its holders are refused from now on, and its connections end.
    ///
    /// # Errors
    /// `NOT_FOUND`; `IO` where it cannot be deleted, upon which it is still valid after the next start.
    pub fn revoke(&self, params: &RevokeAccessTokenParams, actor: &Actor) -> Result<AccessToken, ApiError> {
        let name = &params.name;
        let known = self.tokens.read().get(name).cloned();
        let Some(token) = known else {
            return Err(ApiError::not_found("access token", name).at("/name").hint("`list_access_tokens` lists them"));
        };
        match &token.file {
            Some(file) => match std::fs::remove_file(file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(ApiError::new(ErrorKind::Io, format!("failed to delete {}: {error}", file.display())));
                }
                _ => {}
            },
            None => {
                let name = name.clone();
                self.storage.write_urgent(Durability::Full, move |tx| tx.delete_access_token(&name)).wait()?;
            }
        }
        token.revoked.send_replace(true);
        self.tokens.write().remove(name);
        let entry = AuditEntry::new(AuditKind::Access, actor).fact("action", "revoke").fact("name", name);
        self.audit.append_durably(entry.fact("class", token.class))?;
        tracing::info!(name, "an access token was revoked");
        Ok(token.shown())
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn new_token() -> Result<String, ApiError> {
    let mut random = [0_u8; TOKEN_BYTES];
    getrandom::fill(&mut random)
        .map_err(|error| ApiError::internal(format!("failed to get random bytes from the system: {error}")))?;
    Ok(format!("{PREFIX}{}", hex(&random)))
}

fn check_name(name: &str) -> Result<(), ApiError> {
    let fits = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    if !name.is_empty() && name.len() <= MAX_NAME && name.chars().all(fits) {
        return Ok(());
    }
    let message = format!("must have 1 to {MAX_NAME} letters, digits, hyphens, underscores or dots");
    Err(ApiError::invalid(vec![Problem { pointer: "/name".to_owned(), message }]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::test_support::Fixture;

    #[test]
    fn a_token_is_known_by_its_digest_until_it_is_revoked() {
        let tokens = ClientTokens::default();
        tokens.set_default("0123456789abcdef0123456789abcdef", PathBuf::from("/none"));
        let found = tokens.authenticate("0123456789abcdef0123456789abcdef").unwrap();
        assert_eq!((found.name(), found.class()), (DEFAULT_TOKEN, AccessClass::Run));
        assert!(found.shown().last_used_at.is_some());
        assert!(tokens.authenticate("0123456789abcdef0123456789abcdeF").is_none());
        assert!(tokens.authenticate("").is_none());
        found.revoked.send_replace(true);
        assert!(tokens.authenticate("0123456789abcdef0123456789abcdef").is_none());
        assert!(found.check().unwrap_err().message.contains("revoked"));
    }

    #[test]
    fn refuses_an_expired_token() {
        let tokens = ClientTokens::default();
        let stored = StoredAccessToken {
            name: "old".to_owned(),
            class: AccessClass::Read,
            digest: digest("x"),
            created_at: Timestamp::UNIX_EPOCH,
            expires_at: Some(now() - SignedDuration::from_secs(1)),
            used_at: None,
        };
        tokens.write().insert("old".to_owned(), Arc::new(ClientToken::new(stored, None)));
        assert!(tokens.authenticate("x").is_none());
        assert!(!tokens.read()["old"].shown().valid);
    }

    #[test]
    fn refuses_names_that_cannot_be_shown_on_a_line() {
        for name in ["", "a b", "ä", "a/b", "a\n", &"x".repeat(65)] {
            assert_eq!(check_name(name).unwrap_err().kind, ErrorKind::InvalidParams, "{name:?}");
        }
        assert!(check_name("ci-2.main_x").is_ok());
    }

    #[test]
    fn new_tokens_differ_and_have_the_prefix() {
        let (one, other) = (new_token().unwrap(), new_token().unwrap());
        assert!(one != other && one.starts_with(PREFIX) && one.len() == PREFIX.len() + 64, "{one}");
    }

    fn store(fixture: &Fixture) -> AccessTokenStore {
        let audit = AuditLog::open(&fixture.folder(), fixture.storage.clone(), fixture.redactors.clone()).unwrap();
        AccessTokenStore::load(fixture.storage.clone(), Arc::new(audit)).unwrap()
    }

    fn create(store: &AccessTokenStore, name: &str, expires_in_seconds: Option<u64>) -> Result<String, ApiError> {
        let params = CreateAccessTokenParams { name: name.to_owned(), class: AccessClass::Operate, expires_in_seconds };
        store.create(&params, &Actor::Host).map(|created| created.token)
    }

    fn revoke(store: &AccessTokenStore, name: &str) -> Result<AccessToken, ApiError> {
        store.revoke(&RevokeAccessTokenParams { name: name.to_owned() }, &Actor::Host)
    }

    #[test]
    fn created_token_is_valid_after_a_restart_until_it_is_revoked() {
        let fixture = Fixture::new();
        let token = create(&store(&fixture), "ci", None).unwrap();
        let restarted = store(&fixture);
        let known = restarted.tokens().authenticate(&token).unwrap();
        assert_eq!((known.name(), known.class()), ("ci", AccessClass::Operate));
        assert!(!revoke(&restarted, "ci").unwrap().valid);
        assert!(known.check().is_err(), "an open connection holds the token");
        assert!(restarted.tokens().authenticate(&token).is_none());
        assert_eq!(store(&fixture).list(), []);
    }

    #[test]
    fn name_that_is_taken_or_reserved_is_a_conflict() {
        let fixture = Fixture::new();
        let store = store(&fixture);
        create(&store, "ci", None).unwrap();
        for name in ["ci", DEFAULT_TOKEN] {
            let error = create(&store, name, None).unwrap_err();
            assert_eq!((error.kind, error.pointer.as_deref()), (ErrorKind::Conflict, Some("/name")), "{name}");
        }
        assert_eq!(store.list().len(), 1);
        assert_eq!(revoke(&store, "other").unwrap_err().kind, ErrorKind::NotFound);
    }

    #[test]
    fn creating_more_tokens_than_allowed_is_refused_and_the_default_one_does_not_count() {
        let fixture = Fixture::new();
        let store = store(&fixture);
        store.tokens().set_default("0123456789abcdef0123456789abcdef", PathBuf::from("/none"));
        for number in 0..MAX_TOKENS {
            create(&store, &format!("t{number}"), None).unwrap();
        }
        let error = create(&store, "more", None).unwrap_err();
        assert!(error.message.contains("the most there can be"), "{error:?}");
        revoke(&store, "t0").unwrap();
        create(&store, "more", None).unwrap();
    }

    #[test]
    fn revoking_the_default_token_deletes_its_file() {
        let fixture = Fixture::new();
        let (store, file) = (store(&fixture), fixture.folder().join("http.token"));
        std::fs::write(&file, "0123456789abcdef0123456789abcdef").unwrap();
        store.tokens().set_default("0123456789abcdef0123456789abcdef", file.clone());
        revoke(&store, DEFAULT_TOKEN).unwrap();
        assert!(!file.exists());
        assert!(store.tokens().authenticate("0123456789abcdef0123456789abcdef").is_none());
    }
}
