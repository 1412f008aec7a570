//! Tokens of provider instances: kept in a store outside of the database, given to the child alone, masked everywhere.
//!
//! The database knows only which provider has a token, and in which store it lies. A run of such a provider takes it at
//! dispatch and does not start without it: a store that is locked, or that has forgotten it, must not make the CLI fall
//! back to another login.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use crate::setup::{ActiveConfig, CurrentConfig, Provider};
use ostler_config::TokenStoreChoice;
use ostler_protocol::methods::{ProviderParams, ProviderTokenParams, TokenState};
use ostler_protocol::{ApiError, ErrorKind, Problem};
use ostler_redaction::{KnownSecret, Masks};
use ostler_storage::{Durability, Reader, Storage};
use ostler_test_hooks::clock;
use ostler_token_store::{StoreKind, Token, TokenError, TokenStore};

/// The tokens of the provider instances of this host.
pub struct ProviderTokens {
    storage: Storage,
    config: CurrentConfig,
    store: TokenStore,
    /// Held while one is changed: one at a time.
    changing: Mutex<()>,
    /// Whether what an earlier host was given was looked at.
    loaded: Mutex<bool>,
    seen: Arc<SeenTokens>,
    /// Called when a token was seen for the first time, so that masks are updated.
    seen_new: Box<dyn Fn() + Send + Sync>,
    /// The store of each token, as the database has it. None before it was read, and after a failed write.
    marks: Mutex<Option<BTreeMap<String, String>>>,
    /// Tokens that could not be read, and so cannot be masked.
    problems: Mutex<Vec<String>>,
}

impl fmt::Debug for ProviderTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderTokens").field("store", &self.store).finish_non_exhaustive()
    }
}

/// Every token that this host has seen, to be masked wherever it shows. What is replaced or deleted stays a secret.
pub(crate) struct SeenTokens {
    /// By token, the name of its placeholder.
    names: Mutex<BTreeMap<String, String>>,
    masks: ArcSwap<Masks>,
}

impl Default for SeenTokens {
    fn default() -> Self {
        Self { names: Mutex::default(), masks: ArcSwap::from_pointee(Masks::none()) }
    }
}

impl fmt::Debug for SeenTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeenTokens").finish_non_exhaustive()
    }
}

impl SeenTokens {
    /// Masks of all of them.
    pub(crate) fn masks(&self) -> Arc<Masks> {
        self.masks.load_full()
    }

    /// The same as values, to be masked together with others.
    pub(crate) fn known(&self) -> Vec<KnownSecret> {
        let names = lock(&self.names);
        names.iter().map(|(value, name)| KnownSecret { name: name.clone(), value: value.clone() }).collect()
    }

    /// Remembers a token, so that it is masked from now on. Returns whether it was new.
    fn remember(&self, provider: &str, token: &Token) -> bool {
        let mut names = lock(&self.names);
        let new = names.insert(token.reveal().to_owned(), format!("{provider}-token")).is_none();
        if new {
            let known = names.iter().map(|(value, name)| KnownSecret { name: name.clone(), value: value.clone() });
            self.masks.store(Arc::new(Masks::new(known)));
        }
        new
    }
}

/// A token and the variable in which the child gets it.
#[derive(Clone, Debug)]
pub(crate) struct TokenVariable {
    pub(crate) name: String,
    pub(crate) token: Token,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// None leaves the choice to what there is.
const fn wanted(choice: TokenStoreChoice) -> Option<StoreKind> {
    match choice {
        TokenStoreChoice::Auto => None,
        TokenStoreChoice::SecretService => Some(StoreKind::SecretService),
        TokenStoreChoice::Keyutils => Some(StoreKind::Keyutils),
        TokenStoreChoice::File => Some(StoreKind::File),
    }
}

fn failed(error: &TokenError) -> ApiError {
    ApiError::new(ErrorKind::Io, error.message.clone()).hint(error.hint)
}

/// The store of a mark. One that this version does not know cannot be used.
fn kind_of(provider: &str, store: &str) -> Result<StoreKind, ApiError> {
    StoreKind::from_name(store).ok_or_else(|| {
        let message = format!("the token of {provider} lies in a store that this version does not know: {store}");
        ApiError::new(ErrorKind::Io, message).hint(format!("`save_provider_token({provider})` stores it again"))
    })
}

/// A token that must be there and is not.
fn gone(provider: &str, kind: StoreKind) -> ApiError {
    let why = match kind {
        StoreKind::Keyutils => "; the kernel's keyring forgets at a reboot",
        StoreKind::SecretService | StoreKind::File => "",
    };
    ApiError::new(ErrorKind::Io, format!("the token of {provider} is no longer in its store ({kind}){why}")).hint(
        format!(
            "`save_provider_token({provider})` stores it again, `clear_provider_token({provider})` lets runs start without one"
        ),
    )
}

impl ProviderTokens {
    pub(crate) fn new(
        storage: Storage,
        config: CurrentConfig,
        store: TokenStore,
        seen: Arc<SeenTokens>,
        seen_new: Box<dyn Fn() + Send + Sync>,
    ) -> Self {
        Self {
            storage,
            config,
            store,
            changing: Mutex::default(),
            loaded: Mutex::default(),
            marks: Mutex::default(),
            seen,
            seen_new,
            problems: Mutex::default(),
        }
    }

    /// The store of new tokens, for people.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn describe(&self, choice: TokenStoreChoice) -> Result<String, TokenError> {
        self.store.in_use(wanted(choice)).map(|kind| self.store.describe(kind))
    }

    pub(crate) fn seen(&self) -> &SeenTokens {
        &self.seen
    }

    pub(crate) fn problems(&self) -> Vec<String> {
        lock(&self.problems).clone()
    }

    /// Keeps a token for a provider instance, in place of an earlier one. Runs that wait take the new one.
    ///
    /// # Errors
    /// `NOT_FOUND` for a provider that there is not, `INVALID_PARAMS` for one that takes no token or a token that cannot
    /// be one, `IO` where the store cannot be used; then everything is as before.
    pub fn save(&self, params: &ProviderTokenParams) -> Result<TokenState, ApiError> {
        let active = self.config.load();
        let provider = Arc::clone(active.provider(&params.provider)?);
        let mut problems = Vec::new();
        let mut wrong =
            |pointer: &str, message: String| problems.push(Problem { pointer: pointer.to_owned(), message });
        let variable = provider.token_variable()?;
        if variable.is_none() {
            let message = format!("{} takes no token: its plugin names no variable for one", provider.name);
            wrong("/provider", message);
        }
        let token = Token::parse(params.token.clone());
        if let Err(what) = &token {
            wrong("/token", (*what).to_owned());
        }
        let (Ok(token), []) = (token, problems.as_slice()) else { return Err(ApiError::invalid(problems)) };

        let _one = lock(&self.changing);
        let kind = self.store.in_use(wanted(active.config.tokens.store)).map_err(|error| failed(&error))?;
        let before = self.mark(&provider.name)?;
        // It is masked from here on, even if it cannot be stored.
        self.learn(&provider.name, &token);
        self.store.put(kind, &provider.name, &token).map_err(|error| failed(&error))?;
        let (name, now) = (provider.name.clone(), clock::now());
        let write =
            self.storage.write_urgent(Durability::Full, move |tx| tx.put_token_mark(&name, kind.name(), now)).wait();
        self.note_mark(&provider.name, Some(kind), write.is_ok());
        if let Err(error) = write {
            if before.as_deref() != Some(kind.name()) {
                // Without its mark it would never be found.
                let _ = self.store.delete(kind, &provider.name);
            }
            return Err(error.into());
        }
        if let Some(other) = before.and_then(|name| StoreKind::from_name(&name)).filter(|other| *other != kind)
            && let Err(error) = self.store.delete(other, &provider.name)
        {
            tracing::warn!(provider = provider.name, store = %other, %error, "an earlier token was left in its store");
        }
        lock(&self.problems).retain(|problem| !problem.starts_with(&problem_of(&provider.name)));
        tracing::info!(provider = provider.name, store = %kind, "a token was kept");
        Ok(TokenState { stored: true, store: Some(kind.name().to_owned()), variable, problem: None })
    }

    /// Deletes the token of a provider. Runs that wait start without one; that there is none is no error.
    ///
    /// # Errors
    /// `IO` where the store cannot be used; the token then counts as kept.
    pub fn clear(&self, params: &ProviderParams) -> Result<TokenState, ApiError> {
        let _one = lock(&self.changing);
        let name = &params.provider;
        let variable =
            self.config.load().provider(name).ok().and_then(|provider| provider.token_variable().ok()).flatten();
        let Some(store) = self.mark(name)? else {
            // A name that is no provider's is a mistake, unless it was one's once.
            self.config.load().provider(name)?;
            return Ok(TokenState { stored: false, store: None, variable, problem: None });
        };
        let kind = kind_of(name, &store)?;
        self.store.delete(kind, name).map_err(|error| failed(&error))?;
        let gone = name.clone();
        let write = self.storage.write_urgent(Durability::Full, move |tx| tx.delete_token_mark(&gone)).wait();
        self.note_mark(name, None, write.is_ok());
        write?;
        tracing::info!(provider = name, store = %kind, "a token was deleted");
        Ok(TokenState { stored: false, store: None, variable, problem: None })
    }

    /// Whether a provider has a token, and whether it can be had now.
    ///
    /// # Errors
    /// `NOT_FOUND` for a provider that there is not.
    pub fn state(&self, params: &ProviderParams) -> Result<TokenState, ApiError> {
        let name = &params.provider;
        let variable = self.config.load().provider(name)?.token_variable()?;
        let Some(store) = self.mark(name)? else {
            return Ok(TokenState { stored: false, store: None, variable, problem: None });
        };
        let found = self.stored(name, &store);
        let problem = found.as_ref().err().map(|error| error.message.clone());
        Ok(TokenState { stored: found.is_ok(), store: Some(store), variable, problem })
    }

    /// The token that a run of this provider is to get, and the variable for it. None where it has none.
    ///
    /// # Errors
    /// Where it has one that cannot be had: the run must not start without it.
    pub(crate) fn for_run(&self, active: &ActiveConfig, provider: &str) -> Result<Option<TokenVariable>, ApiError> {
        let Some(store) = self.mark(provider)? else { return Ok(None) };
        let token = self.stored(provider, &store)?;
        let name = active.provider(provider)?.token_variable()?.ok_or_else(|| {
            let message = format!("{provider} has a token, but its plugin names no variable for it any more");
            ApiError::new(ErrorKind::Conflict, message)
                .hint(format!("`clear_provider_token({provider})` lets runs start without one"))
        })?;
        Ok(Some(TokenVariable { name, token }))
    }

    fn stored(&self, provider: &str, store: &str) -> Result<Token, ApiError> {
        let kind = kind_of(provider, store)?;
        let found = self.store.get(kind, provider).map_err(|error| failed(&error))?;
        let token = found.ok_or_else(|| gone(provider, kind))?;
        self.learn(provider, &token);
        Ok(token)
    }

    /// Reads every token that an earlier host was given, so that all of them are masked. Does it once; a caller that comes
    /// meanwhile waits.
    pub(crate) fn load(&self) {
        let mut loaded = lock(&self.loaded);
        if *loaded {
            return;
        }
        *loaded = true;
        let read = {
            // A change is noted after it was stored, and so after this.
            let mut known = lock(&self.marks);
            let read = self.storage.read(Reader::token_marks);
            *known = read.as_ref().ok().map(|marks| marks.iter().cloned().collect());
            read
        };
        let marks = read.unwrap_or_else(|error| {
            tracing::error!(%error, "it could not be read which providers have a token");
            Vec::new()
        });
        for (provider, store) in marks {
            if let Err(error) = self.stored(&provider, &store) {
                tracing::warn!(provider, %error, "a token could not be read");
                lock(&self.problems).push(format!("{}{}", problem_of(&provider), error.message));
            }
        }
    }

    /// The store with the token of a provider, if it has one.
    fn mark(&self, provider: &str) -> Result<Option<String>, ApiError> {
        if let Some(marks) = &*lock(&self.marks) {
            return Ok(marks.get(provider).cloned());
        }
        Ok(self.storage.read(|reader| reader.token_mark(provider))?)
    }

    /// Remembers what was stored about a provider. After a failed write, the database has to say what is there.
    fn note_mark(&self, provider: &str, kind: Option<StoreKind>, is_stored: bool) {
        let mut known = lock(&self.marks);
        match (&mut *known, kind) {
            _ if !is_stored => *known = None,
            (Some(marks), Some(kind)) => _ = marks.insert(provider.to_owned(), kind.name().to_owned()),
            (Some(marks), None) => _ = marks.remove(provider),
            (None, _) => {}
        }
    }

    /// The variable of a provider's token, if it has one: its value is taken at dispatch.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub(crate) fn expected_variable(&self, provider: &Provider) -> Result<Option<String>, ApiError> {
        if self.mark(&provider.name)?.is_some() { provider.token_variable() } else { Ok(None) }
    }

    fn learn(&self, provider: &str, token: &Token) {
        if self.seen.remember(provider, token) {
            (self.seen_new)();
        }
    }
}

/// How a problem of a provider's token begins.
fn problem_of(provider: &str) -> String {
    format!("token of {provider}: ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::test_support::Fixture;

    const TOKEN: &str = "sk-q8Zr51vLw0xN";

    /// Tokens in a file, of the bundled providers, and how often new ones were seen.
    fn tokens(fixture: &Fixture) -> (ProviderTokens, Arc<AtomicUsize>) {
        let seen = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&seen);
        let seen_new = Box::new(move || _ = count.fetch_add(1, Ordering::Relaxed));
        let store = TokenStore::new(&fixture.folder());
        let (storage, config) = (fixture.storage.clone(), fixture.config.clone());
        (ProviderTokens::new(storage, config, store, Arc::default(), seen_new), seen)
    }

    fn fixture() -> Fixture {
        Fixture::with_bundled_plugins("[tokens]\nstore = \"file\"\n")
    }

    fn save(tokens: &ProviderTokens, provider: &str, token: &str) -> Result<TokenState, ApiError> {
        tokens.save(&ProviderTokenParams { provider: provider.to_owned(), token: token.to_owned() })
    }

    fn of(provider: &str) -> ProviderParams {
        ProviderParams { provider: provider.to_owned() }
    }

    #[test]
    fn saved_token_is_masked_at_once_and_after_a_restart() {
        let fixture = fixture();
        let (saving, seen) = tokens(&fixture);
        assert!(save(&saving, "claude", TOKEN).unwrap().stored);
        save(&saving, "claude", TOKEN).unwrap();
        assert_eq!((seen.load(Ordering::Relaxed), saving.seen().known().len()), (1, 1), "the same token is not new");
        let (restarted, seen) = tokens(&fixture);
        assert!(restarted.seen().known().is_empty());
        restarted.load();
        let known = restarted.seen().known();
        assert_eq!((known[0].name.as_str(), known[0].value.as_str()), ("claude-token", TOKEN));
        assert_eq!((seen.load(Ordering::Relaxed), restarted.problems()), (1, Vec::new()));
    }

    #[test]
    fn run_gets_the_newest_token_and_the_old_one_stays_masked() {
        let fixture = fixture();
        let (tokens, _) = tokens(&fixture);
        let for_run = || tokens.for_run(&fixture.config.load(), "claude");
        assert!(for_run().unwrap().is_none());
        save(&tokens, "claude", "sk-oldq8Zr51vLw0").unwrap();
        save(&tokens, "claude", TOKEN).unwrap();
        let given = for_run().unwrap().unwrap();
        let state = tokens.state(&of("claude")).unwrap();
        assert_eq!((given.token.reveal(), Some(&given.name)), (TOKEN, state.variable.as_ref()));
        assert_eq!(tokens.seen().known().len(), 2);
        assert!(!tokens.clear(&of("claude")).unwrap().stored);
        assert!(for_run().unwrap().is_none());
    }

    #[test]
    fn run_does_not_start_without_a_token_that_its_store_has_lost() {
        let fixture = fixture();
        let (tokens, _) = tokens(&fixture);
        save(&tokens, "claude", TOKEN).unwrap();
        tokens.store.delete(StoreKind::File, "claude").unwrap();
        let error = tokens.for_run(&fixture.config.load(), "claude").unwrap_err();
        assert!(error.message.contains("no longer in its store"), "{error:?}");
        let state = tokens.state(&of("claude")).unwrap();
        assert_eq!((state.stored, state.problem), (false, Some(error.message.clone())));
        tokens.load();
        assert_eq!(tokens.problems(), [format!("token of claude: {}", error.message)]);
        save(&tokens, "claude", TOKEN).unwrap();
        assert_eq!(tokens.problems(), [""; 0]);
    }

    #[test]
    fn token_that_cannot_be_one_and_provider_that_takes_none_are_named_at_once() {
        let fixture = Fixture::with_bundled_plugins("[providers.mine]\nplugin = \"command\"\nexecutable = \"mine\"\n");
        let (tokens, seen) = tokens(&fixture);
        let error = save(&tokens, "mine", "a\nb").unwrap_err();
        let pointers: Vec<_> = error.problems.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(pointers, ["/provider", "/token"]);
        assert_eq!(save(&tokens, "other", TOKEN).unwrap_err().kind, ErrorKind::NotFound);
        assert_eq!(tokens.clear(&of("other")).unwrap_err().kind, ErrorKind::NotFound);
        assert_eq!(seen.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn stores_of_tokens_are_known_from_memory_and_from_the_database_after_a_failed_write() {
        let fixture = fixture();
        let (tokens, _) = tokens(&fixture);
        tokens.load();
        save(&tokens, "claude", TOKEN).unwrap();
        let in_memory = || lock(&tokens.marks).clone();
        let one = BTreeMap::from([("claude".to_owned(), "file".to_owned())]);
        assert_eq!(in_memory(), Some(one));
        tokens.note_mark("claude", None, false);
        assert_eq!((in_memory(), tokens.mark("claude").unwrap().as_deref()), (None, Some("file")));
        tokens.clear(&of("claude")).unwrap();
        assert_eq!(tokens.mark("claude").unwrap(), None);

        let (restarted, _) = self::tokens(&fixture);
        restarted.load();
        assert_eq!(*lock(&restarted.marks), Some(BTreeMap::new()));
        save(&restarted, "claude", TOKEN).unwrap();
        restarted.clear(&of("claude")).unwrap();
        assert_eq!(*lock(&restarted.marks), Some(BTreeMap::new()));
    }
}
