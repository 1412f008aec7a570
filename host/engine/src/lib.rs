//! The life of a run, from the request to its terminal event.
//!
//! ```text
//! start_run ── submit ──▶ queue ── dispatch ──▶ attempt ── conclude ──▶ terminal event
//!                           ▲                                  │
//!                           └────────────── retry ─────────────┘
//! ```
//!
//! - [`submit`] takes a request through every check, asks the policies, tries to prepare the command line, and
//!   stores the run in one transaction. From then on it is acknowledged.
//! - [`dispatch`](queue::dispatch) hands out slots. One lock guards the queue and the table of live runs together.
//! - [`attempt`] is straight-line code on a thread of its own: prepare, policies, spawn, [`output_loop`](attempt::output_loop),
//!   verdict. Guest calls, redaction and the child's pipes all happen on that thread, so that nothing is handed over
//!   between a byte and its event, and a slow disk slows the child instead of filling memory.
//! - [`conclude`](attempt::conclude) writes the end, or the next attempt.
//!
//! Everything else is in services, each of which owns the fields that it needs and knows no [`Engine`]: [`GrantStore`],
//! [`RetentionService`], [`Conversations`] and so on. The engine constructs them and gives them out.
//!
//! Everything here blocks; the API calls it off the threads that serve connections.

mod access;
mod attempt;
mod audit;
mod cancel;
mod capabilities;
mod conversation;
mod document;
mod export;
mod features;
mod grants;
mod lookup;
mod policy;
mod queries;
mod queue;
mod record;
mod redactors;
mod retention;
mod sandbox;
mod seal;
mod setup;
mod shutdown;
mod status;
mod submit;
mod tokens;

#[cfg(test)]
mod field_tests;
#[cfg(test)]
mod test_support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use tokio::sync::watch;

use ostler_config::{Config, ConfigError, HttpConfig, Overrides, Paths, Source};
use ostler_plugin_host::types::Error as GuestError;
use ostler_plugin_host::{PluginError, PluginErrorKind, Registry};
use ostler_protocol::methods::HttpStatus;
use ostler_protocol::{ApiError, ErrorKind, Problem, RunId};
use ostler_runner::{Zygote, run_probe};
use ostler_storage::{Durability, Storage};
use ostler_test_hooks::clock;
use ostler_token_store::TokenStore;

use queue::dispatch::Dispatcher;
use queue::threads::Threads;
use seal::Sealer;
use setup::reload::{InitialState, Reloading};
use setup::{ActiveConfig, CurrentConfig};
use tokens::SeenTokens;

pub use access::{AccessTokenStore, ClientToken, ClientTokens};
pub use audit::{AuditEntry, AuditLog};
pub use capabilities::Capabilities;
pub use conversation::Conversations;
pub use export::Exporter;
pub use grants::GrantStore;
pub use queries::RunQueries;
pub use queue::queue_control::QueueControl;
pub use redactors::Redactors;
pub use retention::RetentionService;
pub use sandbox::{PROBE_VERB, probe_sandbox};
pub use seal::SealError;
pub use setup::complaints::complaints;
pub use setup::decide::{admission, limits, plugin_folder};
pub use setup::reload::{Files, Follow};
pub use setup::rules::load_redactor;
pub use submit::profile::Profiles;
pub use tokens::ProviderTokens;

/// What an engine is made of.
pub struct Parts {
    /// Where everything lies.
    pub paths: Paths,
    /// The configuration.
    pub config: Config,
    /// The file that it was made of.
    pub source: Source,
    /// What was set at run time, over that.
    pub set: Overrides,
    /// Digests of the provider plugins that somebody has approved.
    pub approved: BTreeSet<String>,
    /// What of it does not fit any more and is not in the configuration.
    pub unfit: Vec<ConfigError>,
    /// Called with what is in force, at the beginning and when it has changed.
    pub follow: Follow,
    /// The database.
    pub storage: Storage,
    /// The plugins.
    pub registry: Registry,
    /// Starts children.
    pub zygote: Zygote,
    /// Whether the host ends itself when idle.
    pub background: bool,
    /// What went wrong when the plugins were loaded.
    pub problems: Vec<String>,
}

/// The host's core: everything but the transports. Holds the services, and does itself what needs most of them.
pub struct Engine {
    paths: Paths,
    storage: Storage,
    zygote: Arc<Zygote>,
    config: CurrentConfig,
    redactors: Redactors,
    grants: GrantStore,
    reloading: Arc<Reloading>,
    dispatcher: Arc<Dispatcher>,
    runs: RunQueries,
    queue: QueueControl,
    sealer: Sealer,
    capabilities: Arc<Capabilities>,
    retention: Arc<RetentionService>,
    exporter: Exporter,
    conversations: Conversations,
    profiles: Profiles,
    tokens: ProviderTokens,
    machine: sandbox::Machine,
    access_tokens: AccessTokenStore,
    audit: Arc<AuditLog>,
    /// The host's own environment, as it was at its start. What is no text is left out: no allowlist names it.
    environment: Arc<BTreeMap<String, String>>,
    started_at: Timestamp,
    background: bool,
    subscribers: Arc<AtomicUsize>,
    stopping: AtomicBool,
    /// Turns true when somebody asks the host to end.
    stop: watch::Sender<bool>,
    /// Where the API is served over TCP, once it is.
    http: OnceLock<HttpStatus>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl Engine {
    /// Puts the parts together. Nothing runs yet; see [`Engine::start`].
    ///
    /// # Errors
    /// If the key for sealing or the one for the audit trail cannot be had, or the database cannot be read.
    pub fn new(parts: Parts) -> Result<Arc<Self>, ApiError> {
        let key = |error: &dyn fmt::Display| ApiError::new(ErrorKind::Io, error.to_string());
        let sealer = Sealer::open(&parts.paths.data_dir.join("seal.key")).map_err(|error| key(&error))?;
        let seen_tokens = Arc::new(SeenTokens::default());
        let setup = ActiveConfig::build(parts.config, &Arc::new(parts.registry), None);
        let reloading = Arc::new(Reloading::new(InitialState {
            source: parts.source,
            set: parts.set,
            approved: parts.approved,
            unfit: parts.unfit,
            problems: parts.problems,
            follow: parts.follow,
        }));
        for problem in reloading.problems(&setup) {
            tracing::warn!(problem);
        }
        let dispatcher = Arc::new(Dispatcher::new(setup.limits()));
        let config = CurrentConfig::new(setup);
        let redactors = Redactors::new(config.clone(), parts.storage.clone(), Arc::clone(&seen_tokens));
        let log_follows = {
            // The host's own log masks a new token from then on.
            let (reloading, config, redactors) = (Arc::clone(&reloading), config.clone(), redactors.clone());
            move || reloading.follow(&config, &redactors)
        };
        let tokens = ProviderTokens::new(
            parts.storage.clone(),
            config.clone(),
            TokenStore::new(&parts.paths.data_dir),
            seen_tokens,
            Box::new(log_follows),
        );
        let retention = RetentionService::new(parts.storage.clone(), config.clone());
        let exporter = Exporter::new(parts.storage.clone(), config.clone(), redactors.clone(), parts.paths.clone());
        let conversations = Conversations::new(parts.storage.clone(), config.clone(), redactors.clone());
        let profiles = Profiles::new(parts.storage.clone(), config.clone(), redactors.clone());
        let runs = RunQueries::new(parts.storage.clone(), Arc::clone(&dispatcher));
        let queue = QueueControl::new(
            parts.storage.clone(),
            config.clone(),
            redactors.clone(),
            Arc::clone(&dispatcher),
            runs.clone(),
        );
        let audit = AuditLog::open(&parts.paths.data_dir, parts.storage.clone(), redactors.clone());
        let audit = Arc::new(audit.map_err(|error| key(&error))?);
        let access_tokens = AccessTokenStore::load(parts.storage.clone(), Arc::clone(&audit))?;
        let environment = attempt::environment::of_the_host(std::env::vars_os(), etcetera::home_dir().ok());
        let environment = Arc::new(environment);
        let zygote = Arc::new(parts.zygote);
        let probing = Arc::clone(&zygote);
        let capabilities = Capabilities::new(
            parts.storage.clone(),
            config.clone(),
            redactors.clone(),
            Arc::clone(&audit),
            Arc::clone(&environment),
            parts.paths.data_dir.clone(),
            Box::new(move |spec| run_probe(&probing, spec)),
        );
        let engine = Arc::new(Self {
            dispatcher,
            runs,
            queue,
            config,
            redactors,
            grants: GrantStore::new(parts.storage.clone()),
            paths: parts.paths,
            storage: parts.storage,
            zygote,
            reloading,
            sealer,
            capabilities: Arc::new(capabilities),
            retention: Arc::new(retention),
            exporter,
            conversations,
            profiles,
            tokens,
            machine: sandbox::Machine::default(),
            access_tokens,
            audit,
            environment,
            started_at: clock::now(),
            background: parts.background,
            subscribers: Arc::default(),
            stopping: AtomicBool::new(false),
            stop: watch::channel(false).0,
            http: OnceLock::new(),
        });
        engine.reloading.follow(&engine.config, &engine.redactors);
        Ok(engine)
    }

    /// Takes up what an earlier host left, and begins to hand out slots.
    ///
    /// # Errors
    /// If the database cannot be read, or there is no thread to be had.
    pub fn start(self: &Arc<Self>) -> Result<(), ApiError> {
        // Before anything holds on to one.
        self.storage.write(Durability::Batched, |tx| tx.drop_old_snapshots().map(drop)).wait()?;
        self.remember_plugin_files(&self.config.load());
        self.audit.begin()?;
        self.queue.recover_pauses()?;
        self.recover()?;
        self.exporter.sweep();
        self.retention.start()?;
        let engine = Arc::clone(self);
        let attempts = Threads::new("attempt");
        spawn("dispatch", move || {
            engine.dispatcher.run(|live| {
                let attempt = Arc::clone(&engine);
                let run = live.run();
                let handed_over = Arc::clone(&live);
                if let Err(error) = attempts.run(move || attempt.attempt(&handed_over)) {
                    tracing::error!(%run, %error, "no thread for an attempt");
                    let ending =
                        attempt::outcome::AttemptOutcome::new(ostler_protocol::EndReason::HostFailed, error.message);
                    engine.end_unloaded(&live, &ending);
                }
            });
        })?;
        let engine = Arc::clone(self);
        spawn("tokens", move || engine.tokens.load())?;
        let engine = Arc::clone(self);
        // The first run does not wait for it then.
        spawn("sandbox", move || drop(engine.sandbox_report(&engine.config.load())))?;
        let engine = Arc::clone(self);
        spawn("audit", move || {
            if let Some(damage) = engine.audit.damage() {
                engine.reloading.report(damage);
            }
        })?;
        self.capabilities.look_at_clis();
        Ok(())
    }

    /// The folders in which runs may work.
    #[must_use]
    pub const fn grants(&self) -> &GrantStore {
        &self.grants
    }

    /// The access tokens.
    #[must_use]
    pub const fn access_tokens(&self) -> &AccessTokenStore {
        &self.access_tokens
    }

    /// The audit trail.
    #[must_use]
    pub fn audit(&self) -> &AuditLog {
        &self.audit
    }

    /// The redactors of what belongs to no run.
    #[must_use]
    pub const fn redactors(&self) -> &Redactors {
        &self.redactors
    }

    /// What is known of runs.
    #[must_use]
    pub const fn runs(&self) -> &RunQueries {
        &self.runs
    }

    /// The queue, as people change it.
    #[must_use]
    pub const fn queue(&self) -> &QueueControl {
        &self.queue
    }

    /// The tokens of the providers.
    #[must_use]
    pub const fn provider_tokens(&self) -> &ProviderTokens {
        &self.tokens
    }

    /// What the installed CLIs can do.
    #[must_use]
    pub const fn capabilities(&self) -> &Arc<Capabilities> {
        &self.capabilities
    }

    /// The conversations.
    #[must_use]
    pub const fn conversations(&self) -> &Conversations {
        &self.conversations
    }

    /// The profiles.
    #[must_use]
    pub const fn profiles(&self) -> &Profiles {
        &self.profiles
    }

    /// The export of runs.
    #[must_use]
    pub const fn exporter(&self) -> &Exporter {
        &self.exporter
    }

    /// The deletion of runs.
    #[must_use]
    pub fn retention(&self) -> &RetentionService {
        &self.retention
    }

    /// The database.
    #[must_use]
    pub const fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Lets `get_status` say where the API is served over TCP.
    pub fn served_over_tcp(&self, http: HttpStatus) {
        let _ = self.http.set(http);
    }

    /// Adds to what `get_status` says is wrong, and to the log.
    pub fn report_problem(&self, problem: String) {
        tracing::warn!(problem);
        self.reloading.report(problem);
    }

    /// `[http]` as it was at the start of the host.
    #[must_use]
    pub fn http_config(&self) -> HttpConfig {
        self.config.load().config.http.clone()
    }

    /// Counts open event streams.
    pub fn subscriber_count(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.subscribers)
    }

    /// The folder of the attempts' private folders.
    fn private_parent(&self) -> PathBuf {
        self.paths.data_dir.join("private")
    }

    /// The private folder of one attempt, whether or not it exists.
    fn private_dir_of(&self, run: RunId, attempt: u32) -> PathBuf {
        self.private_parent().join(format!("{run}-{attempt}"))
    }
}

/// A plugin's failure, as a client sees it.
fn plugin_error(error: &PluginError) -> ApiError {
    let problems: Vec<Problem> = error
        .problems()
        .iter()
        .map(|problem| Problem { pointer: problem.pointer.clone(), message: problem.message.clone() })
        .collect();
    match &error.kind {
        PluginErrorKind::Guest(GuestError::Invalid(_)) => ApiError::invalid(problems),
        PluginErrorKind::Guest(GuestError::Unsupported(message)) => {
            ApiError::new(ErrorKind::InvalidParams, message.clone())
        }
        _ => {
            let mut failed =
                ApiError::new(ErrorKind::PluginFailed, error.to_string()).hint("`list_plugins` has the reason");
            failed.problems = problems;
            failed
        }
    }
}

/// Starts a named thread.
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), ApiError> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned
        .map(drop)
        .map_err(|error| ApiError::new(ErrorKind::Io, format!("failed to start a thread: {error}")).retryable(true))
}
