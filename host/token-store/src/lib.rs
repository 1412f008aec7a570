//! The stores of provider tokens: the desktop's Secret Service, the kernel's keyring, or a private file that the
//! operator has chosen. A store that writes plain text is never chosen silently, and no code here logs or shows a
//! token. In the two keyrings, which other processes of the user can read, tokens are sealed with a key of the data
//! folder.
//!
//! Every call blocks, and the Secret Service may wait for its user: [`TokenStore`] sets a deadline. The names of entries
//! contain the data folder and the provider, so that two installations of one user do not share them.

mod desktop;
mod file;
mod kernel;
mod keyring;
mod sealed;

#[cfg(test)]
mod tests;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The longest token, in bytes. The kernel's keyring accepts at most 32 KiB.
pub const MAX_TOKEN: usize = 16 * 1024;

/// The time limit of a call: a locked Secret Service asks its user.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// The time limit for detecting a Secret Service.
const DETECT_TIMEOUT: Duration = Duration::from_secs(4);

/// A secret, which is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// # Errors
    /// What is wrong with the text: empty, too long, or with a character that is not possible in a variable or header.
    pub fn parse(text: String) -> Result<Self, &'static str> {
        if text.trim().is_empty() {
            return Err("is empty");
        }
        if text.len() > MAX_TOKEN {
            return Err("is longer than 16 KiB");
        }
        if text.chars().any(char::is_control) {
            return Err("contains a control character, for example a line break");
        }
        Ok(Self(text))
    }

    /// The secret itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// A kind of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// The desktop's Secret Service, over the session bus.
    SecretService,
    /// The kernel's keyring: entries are lost in a reboot.
    Keyutils,
    /// A file in the data folder, readable only by its owner.
    File,
}

impl StoreKind {
    /// The name in the configuration, in the database and on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SecretService => "secret-service",
            Self::Keyutils => "keyutils",
            Self::File => "file",
        }
    }

    /// The kind with that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::SecretService, Self::Keyutils, Self::File].into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An error of a store. Never contains a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TokenError {
    /// What is wrong.
    pub message: String,
    /// What the user can do about it.
    pub hint: &'static str,
}

impl TokenError {
    fn new(message: impl Into<String>, hint: &'static str) -> Self {
        Self { message: message.into(), hint }
    }
}

/// The interface of all stores.
trait Store: Send + Sync {
    fn put(&self, provider: &str, token: &Token) -> Result<(), TokenError>;
    /// None if there is no such entry.
    fn get(&self, provider: &str) -> Result<Option<Token>, TokenError>;
    /// Returns whether there was an entry.
    fn delete(&self, provider: &str) -> Result<bool, TokenError>;
}

/// The stores of one data folder.
#[derive(Clone)]
pub struct TokenStore {
    shared: Arc<Shared>,
}

struct Shared {
    data_dir: PathBuf,
    /// The store that was detected, once that was tried.
    found: Mutex<Option<Result<StoreKind, TokenError>>>,
    /// Whether a timed-out call still waits for the user.
    waiting: Mutex<bool>,
}

impl fmt::Debug for TokenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenStore").field("data_dir", &self.shared.data_dir).finish_non_exhaustive()
    }
}

impl TokenStore {
    /// The stores of a data folder, which exists. Nothing is opened yet.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        let data_dir = data_dir.canonicalize().unwrap_or_else(|_| data_dir.to_owned());
        Self { shared: Arc::new(Shared { data_dir, found: Mutex::default(), waiting: Mutex::default() }) }
    }

    /// The store for new tokens: the wanted one, else the Secret Service if there is one, else the kernel's keyring. The
    /// detection runs once.
    ///
    /// # Errors
    /// If neither can be used.
    pub fn in_use(&self, wanted: Option<StoreKind>) -> Result<StoreKind, TokenError> {
        match wanted {
            Some(kind) => Ok(kind),
            None => lock(&self.shared.found).get_or_insert_with(|| self.detect()).clone(),
        }
    }

    fn detect(&self) -> Result<StoreKind, TokenError> {
        // Only if there is a session bus: a connection attempt could start one.
        if desktop::has_session_bus()
            && self.bounded(DETECT_TIMEOUT, |shared| desktop::open(&shared.data_dir).map(drop)).is_ok()
        {
            return Ok(StoreKind::SecretService);
        }
        kernel::check(&self.shared.data_dir).map(|()| StoreKind::Keyutils).map_err(|error| {
            TokenError::new(
                format!("there is no store for tokens: no Secret Service answers, and {}", error.message),
                "set [tokens] store = \"file\" to keep them in a file that only you can read",
            )
        })
    }

    /// A description of the store, for people.
    #[must_use]
    pub fn describe(&self, kind: StoreKind) -> String {
        match kind {
            StoreKind::SecretService => "secret-service (the desktop's keyring)".to_owned(),
            StoreKind::Keyutils => "keyutils (the kernel's keyring, until the next reboot)".to_owned(),
            StoreKind::File => format!("file {}", file::path(&self.shared.data_dir).display()),
        }
    }

    /// Stores a token, and replaces an earlier one.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub fn put(&self, kind: StoreKind, provider: &str, token: &Token) -> Result<(), TokenError> {
        let (provider, token) = (provider.to_owned(), token.clone());
        self.bounded(CALL_TIMEOUT, move |shared| {
            if kind == StoreKind::Keyutils {
                // In some containers a key can be created but neither read nor deleted.
                kernel::check(&shared.data_dir)?;
            }
            store(kind, shared)?.put(&provider, &token)
        })
    }

    /// A token; None if there is none.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub fn get(&self, kind: StoreKind, provider: &str) -> Result<Option<Token>, TokenError> {
        let provider = provider.to_owned();
        self.bounded(CALL_TIMEOUT, move |shared| store(kind, shared)?.get(&provider))
    }

    /// Deletes a token. Returns whether there was one.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub fn delete(&self, kind: StoreKind, provider: &str) -> Result<bool, TokenError> {
        let provider = provider.to_owned();
        self.bounded(CALL_TIMEOUT, move |shared| store(kind, shared)?.delete(&provider))
    }

    /// Runs `work` on a separate thread, with a time limit. After a timeout the thread ends when its user has answered;
    /// until then no second one is started.
    fn bounded<T: Send + 'static>(
        &self,
        timeout: Duration,
        work: impl FnOnce(&Shared) -> Result<T, TokenError> + Send + 'static,
    ) -> Result<T, TokenError> {
        if *lock(&self.shared.waiting) {
            return Err(late());
        }
        let call = Arc::new((Mutex::new(Call::Waited), Condvar::new()));
        let (theirs, shared) = (Arc::clone(&call), Arc::clone(&self.shared));
        let thread = std::thread::Builder::new().name("token-store".to_owned()).spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(|| work(&shared)));
            let result =
                result.unwrap_or_else(|_| Err(TokenError::new("a defect in the store for tokens", "try again")));
            let (state, done) = &*theirs;
            let mut state = lock(state);
            match *state {
                Call::Abandoned => *lock(&shared.waiting) = false,
                _ => *state = Call::Done(result),
            }
            done.notify_one();
        });
        thread.map_err(|error| TokenError::new(format!("failed to start a thread: {error}"), "try again"))?;
        let (state, done) = &*call;
        let (mut state, _) = done
            .wait_timeout_while(lock(state), timeout, |state| matches!(state, Call::Waited))
            .unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, Call::Abandoned) {
            Call::Done(result) => result,
            Call::Waited | Call::Abandoned => {
                *lock(&self.shared.waiting) = true;
                Err(late())
            }
        }
    }
}

/// The state of a call.
enum Call<T> {
    /// The caller waits for it.
    Waited,
    /// The caller has stopped waiting.
    Abandoned,
    Done(Result<T, TokenError>),
}

fn late() -> TokenError {
    TokenError::new(
        "the store for tokens does not answer; it may wait for its user to unlock it",
        "unlock the desktop's keyring, or set [tokens] store to another",
    )
}

fn store(kind: StoreKind, shared: &Shared) -> Result<Box<dyn Store>, TokenError> {
    Ok(match kind {
        StoreKind::SecretService => Box::new(desktop::open(&shared.data_dir)?),
        StoreKind::Keyutils => Box::new(kernel::open(&shared.data_dir)?),
        StoreKind::File => Box::new(file::TokenFile::new(&shared.data_dir)),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
