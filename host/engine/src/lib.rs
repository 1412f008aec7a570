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
//! - [`dispatch`](queue::dispatch) hands out slots. One lock guards the queue and the table of active runs together.
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
mod event_stream;
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
mod session;
mod setup;
mod shutdown;
mod status;
mod submit;
mod tokens;

#[cfg(test)]
mod field_tests;
#[cfg(test)]
mod test_support;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use ostler_config::{Config, ConfigError, HttpConfig, Overrides, Paths, Source};
use ostler_plugin_host::types::Error as GuestError;
use ostler_plugin_host::{PluginError, PluginErrorKind, Registry};
use ostler_protocol::{ApiError, EndReason, ErrorKind, Problem};
use ostler_runner::{Zygote, available_sandbox, run_probe};
use ostler_storage::{Durability, Storage};
use ostler_test_hooks::clock;
use ostler_token_store::TokenStore;

use attempt::conclude::RunFinalizer;
use attempt::load::RunLoader;
use attempt::outcome::AttemptOutcome;
use attempt::private_folders::PrivateFolders;
use attempt::{AttemptRunner, AttemptServices};
use queue::dispatch::Dispatcher;
use queue::recover::Recovery;
use queue::threads::Threads;
use seal::Sealer;
use setup::reload::{InitialState, ReloadState};
use setup::trust::store_plugin_files;
use setup::{ActiveConfig, CurrentConfig};
use tokens::SeenTokens;

pub use access::{AccessTokenStore, ClientToken, ClientTokens};
pub use audit::{AuditEntry, AuditLog};
pub use cancel::Canceler;
pub use capabilities::Capabilities;
pub use conversation::Conversations;
pub use event_stream::{EventStream, EventStreams, PageReader};
pub use export::Exporter;
pub use grants::GrantStore;
pub use queries::RunQueries;
pub use queue::queue_control::QueueControl;
pub use redactors::Redactors;
pub use retention::RetentionService;
pub use sandbox::{PROBE_VERB, SandboxService, probe_sandbox};
pub use seal::SealError;
use session::approvals::Approvals;
pub use session::{InboxService, Sessions};
pub use setup::decide::{admission, limits, plugin_folder};
pub use setup::diagnostics::plugin_diagnostics;
pub use setup::reload::{Files, Follow, Reloader};
pub use setup::rules::load_redactor;
pub use setup::settings::SettingsService;
pub use setup::trust::PluginCatalog;
pub use shutdown::Shutdown;
pub use status::StatusReporter;
pub use submit::Submitter;
pub use submit::profile::Profiles;
pub use tokens::ProviderTokens;

/// Whether a process that connects to the host belongs to a run.
pub use ostler_runner::{Peers, Standing};

/// The parts of an engine.
pub struct Parts {
    /// The paths of the host.
    pub paths: Paths,
    /// The configuration.
    pub config: Config,
    /// The file from which it was read.
    pub source: Source,
    /// The settings that override the file.
    pub set: Overrides,
    /// Digests of the approved provider plugins.
    pub approved: BTreeSet<String>,
    /// Settings that are no longer valid and not in the configuration.
    pub unfit: Vec<ConfigError>,
    /// Called with the active configuration, at the start and after each change.
    pub follow: Follow,
    /// The database.
    pub storage: Storage,
    /// The plugins.
    pub registry: Registry,
    /// Starts children.
    pub zygote: Zygote,
    /// Whether the host ends by itself when it is idle.
    pub background: bool,
    /// Problems of the plugins at their load.
    pub problems: Vec<String>,
}

/// The host's core: everything but the transports. Constructs the services and gives them out.
pub struct Engine {
    storage: Storage,
    config: CurrentConfig,
    redactors: Redactors,
    audit: Arc<AuditLog>,
    grants: GrantStore,
    access_tokens: AccessTokenStore,
    tokens: Arc<ProviderTokens>,
    capabilities: Arc<Capabilities>,
    sandbox: Arc<SandboxService>,
    conversations: Conversations,
    profiles: Profiles,
    submitter: Arc<Submitter>,
    sessions: Sessions,
    inbox: InboxService,
    dispatcher: Arc<Dispatcher>,
    queue: QueueControl,
    recovery: Recovery,
    attempts: Arc<AttemptRunner>,
    canceler: Canceler,
    runs: RunQueries,
    streams: EventStreams,
    exporter: Exporter,
    retention: Arc<RetentionService>,
    reloader: Arc<Reloader>,
    settings: SettingsService,
    plugins: PluginCatalog,
    status: StatusReporter,
    shutdown: Shutdown,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// Constructs the services. No thread runs yet; see [`Engine::start`].
    ///
    /// # Errors
    /// If the key for sealing or for the audit trail cannot be used, or the database cannot be read.
    pub fn new(parts: Parts) -> Result<Arc<Self>, ApiError> {
        let key = |error: &dyn fmt::Display| ApiError::new(ErrorKind::Io, error.to_string());
        let (storage, paths) = (parts.storage, parts.paths);
        let sealer = Arc::new(Sealer::open(&paths.data_dir.join("seal.key")).map_err(|error| key(&error))?);
        let active = ActiveConfig::build(parts.config, &Arc::new(parts.registry), None);
        let reloads = Arc::new(ReloadState::new(InitialState {
            source: parts.source,
            set: parts.set,
            approved: parts.approved,
            unfit: parts.unfit,
            problems: parts.problems,
            follow: parts.follow,
        }));
        for problem in reloads.problems(&active) {
            tracing::warn!(problem);
        }
        let dispatcher = Arc::new(Dispatcher::new(active.limits()));
        let config = CurrentConfig::new(active);
        let seen_tokens = Arc::new(SeenTokens::default());
        let redactors = Redactors::new(config.clone(), storage.clone(), Arc::clone(&seen_tokens));
        let update_log = {
            // The host's own log masks a new token from then on.
            let (reloads, config, redactors) = (Arc::clone(&reloads), config.clone(), redactors.clone());
            move || reloads.follow(&config, &redactors)
        };
        update_log();
        let tokens = Arc::new(ProviderTokens::new(
            storage.clone(),
            config.clone(),
            TokenStore::new(&paths.data_dir),
            seen_tokens,
            Box::new(update_log),
        ));
        let retention = Arc::new(RetentionService::new(storage.clone(), config.clone()));
        let conversations = Conversations::new(storage.clone(), config.clone(), redactors.clone());
        let profiles = Profiles::new(storage.clone(), config.clone(), redactors.clone());
        let grants = GrantStore::new(storage.clone());
        let approvals = Approvals::default();
        let runs = RunQueries::new(storage.clone(), Arc::clone(&dispatcher), approvals.clone());
        let streams = EventStreams::new(storage.clone());
        let audit = AuditLog::open(&paths.data_dir, storage.clone(), redactors.clone());
        let audit = Arc::new(audit.map_err(|error| key(&error))?);
        let environment = attempt::environment::of_the_host(std::env::vars_os(), etcetera::home_dir().ok());
        let environment = Arc::new(environment);
        let zygote = Arc::new(parts.zygote);
        let capabilities = Arc::new(Capabilities::new(
            storage.clone(),
            config.clone(),
            redactors.clone(),
            Arc::clone(&audit),
            Arc::clone(&environment),
            paths.data_dir.clone(),
            {
                let zygote = Arc::clone(&zygote);
                Box::new(move |spec| run_probe(&zygote, spec))
            },
        ));
        let sandbox = Arc::new(SandboxService::new(config.clone(), grants.clone(), paths.clone(), {
            let (zygote, folder) = (Arc::clone(&zygote), paths.data_dir.clone());
            // Through the process itself: the file may have been replaced.
            let program = Path::new("/proc/self/exe");
            Box::new(move |wanted| available_sandbox(&zygote, program, &[PROBE_VERB.into()], &folder, wanted))
        }));
        let private_folders = PrivateFolders::new(&paths);
        let finalizer = RunFinalizer::new(storage.clone(), redactors.clone(), Arc::clone(&dispatcher));
        let finalizer = Arc::new(finalizer);
        let reloader = Arc::new(Reloader {
            state: Arc::clone(&reloads),
            storage: storage.clone(),
            config: config.clone(),
            redactors: redactors.clone(),
            paths: paths.clone(),
            dispatcher: Arc::clone(&dispatcher),
            capabilities: Arc::clone(&capabilities),
            audit: Arc::clone(&audit),
        });
        let attempts = Arc::new(AttemptRunner {
            config: config.clone(),
            redactors: redactors.clone(),
            loader: RunLoader { storage: storage.clone(), sealer: Arc::clone(&sealer), tokens: Arc::clone(&tokens) },
            finalizer: Arc::clone(&finalizer),
            services: AttemptServices {
                storage: storage.clone(),
                paths: paths.clone(),
                private_folders: private_folders.clone(),
                grants: grants.clone(),
                capabilities: Arc::clone(&capabilities),
                sandbox: Arc::clone(&sandbox),
                audit: Arc::clone(&audit),
                approvals: approvals.clone(),
                environment: Arc::clone(&environment),
                prepare_child: Box::new(move |spec| zygote.prepare(spec)),
            },
        });
        let submitter = Arc::new(Submitter {
            storage: storage.clone(),
            config: config.clone(),
            redactors: redactors.clone(),
            dispatcher: Arc::clone(&dispatcher),
            finalizer: Arc::clone(&finalizer),
            grants: grants.clone(),
            conversations: conversations.clone(),
            profiles: profiles.clone(),
            capabilities: Arc::clone(&capabilities),
            tokens: Arc::clone(&tokens),
            sealer: Arc::clone(&sealer),
            sandbox: Arc::clone(&sandbox),
            private_folders: private_folders.clone(),
            environment,
        });
        Ok(Arc::new(Self {
            sessions: Sessions {
                storage: storage.clone(),
                dispatcher: Arc::clone(&dispatcher),
                submitter: Arc::clone(&submitter),
                approvals: approvals.clone(),
                audit: Arc::clone(&audit),
            },
            inbox: InboxService { storage: storage.clone(), dispatcher: Arc::clone(&dispatcher), approvals },
            access_tokens: AccessTokenStore::load(storage.clone(), Arc::clone(&audit))?,
            queue: QueueControl::new(
                storage.clone(),
                config.clone(),
                redactors.clone(),
                Arc::clone(&dispatcher),
                runs.clone(),
            ),
            exporter: Exporter::new(storage.clone(), config.clone(), redactors.clone(), paths.clone()),
            recovery: Recovery {
                storage: storage.clone(),
                config: config.clone(),
                redactors: redactors.clone(),
                dispatcher: Arc::clone(&dispatcher),
                finalizer: Arc::clone(&finalizer),
                private_folders: private_folders.clone(),
            },
            canceler: Canceler {
                storage: storage.clone(),
                dispatcher: Arc::clone(&dispatcher),
                finalizer: Arc::clone(&finalizer),
            },
            settings: SettingsService {
                storage: storage.clone(),
                config: config.clone(),
                redactors: redactors.clone(),
                paths: paths.clone(),
                reloader: Arc::clone(&reloader),
            },
            plugins: PluginCatalog {
                storage: storage.clone(),
                config: config.clone(),
                redactors: redactors.clone(),
                paths: paths.clone(),
                reloader: Arc::clone(&reloader),
            },
            status: StatusReporter {
                paths,
                storage: storage.clone(),
                config: config.clone(),
                redactors: redactors.clone(),
                dispatcher: Arc::clone(&dispatcher),
                reloads,
                tokens: Arc::clone(&tokens),
                sandbox: Arc::clone(&sandbox),
                seal_key: sealer.key_file().to_owned(),
                started_at: clock::now(),
                background: parts.background,
                streams: streams.clone(),
                http: OnceLock::new(),
            },
            shutdown: Shutdown::new(
                config.clone(),
                Arc::clone(&dispatcher),
                Arc::clone(&finalizer),
                Arc::clone(&retention),
            ),
            submitter,
            storage,
            config,
            redactors,
            audit,
            grants,
            tokens,
            capabilities,
            sandbox,
            conversations,
            profiles,
            dispatcher,
            attempts,
            runs,
            streams,
            retention,
            reloader,
        }))
    }

    /// Continues what an earlier host left, and starts the threads of the host.
    ///
    /// # Errors
    /// If the database cannot be read, or a thread cannot be started.
    pub fn start(&self) -> Result<(), ApiError> {
        // First: nothing refers to a snapshot yet.
        self.storage.write(Durability::Batched, |tx| tx.drop_old_snapshots().map(drop)).wait()?;
        store_plugin_files(&self.storage, &self.config.load().registry);
        self.audit.begin()?;
        self.queue.recover_pauses()?;
        self.recovery.run()?;
        self.exporter.sweep();
        self.retention.start()?;
        self.start_dispatch()?;
        let tokens = Arc::clone(&self.tokens);
        spawn("tokens", move || tokens.load())?;
        let (sandbox, config) = (Arc::clone(&self.sandbox), self.config.clone());
        // So that the first run does not wait for the probe.
        spawn("sandbox", move || drop(sandbox.report(&config.load())))?;
        let (audit, reloader) = (Arc::clone(&self.audit), Arc::clone(&self.reloader));
        spawn("audit", move || {
            if let Some(damage) = audit.damage() {
                reloader.state.report(damage);
            }
        })?;
        self.capabilities.look_at_clis();
        Ok(())
    }

    /// Starts the thread that hands out slots. Each attempt runs on a thread of its own.
    fn start_dispatch(&self) -> Result<(), ApiError> {
        let (dispatcher, runner) = (Arc::clone(&self.dispatcher), Arc::clone(&self.attempts));
        let threads = Threads::new("attempt");
        spawn("dispatch", move || {
            dispatcher.run(|active_run| {
                let (attempt, own_run) = (Arc::clone(&runner), Arc::clone(&active_run));
                if let Err(error) = threads.run(move || attempt.run(&own_run)) {
                    tracing::error!(run = %active_run.run(), %error, "no thread for an attempt");
                    let outcome = AttemptOutcome::new(EndReason::HostFailed, error.message);
                    runner.finalizer.end_unloaded(&active_run, &outcome);
                }
            });
        })
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

    /// Redactors for what belongs to no run.
    #[must_use]
    pub const fn redactors(&self) -> &Redactors {
        &self.redactors
    }

    /// Starts runs.
    #[must_use]
    pub fn submitter(&self) -> &Submitter {
        &self.submitter
    }

    /// Interactive sessions and approvals.
    #[must_use]
    pub const fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// What waits for a person.
    #[must_use]
    pub const fn inbox(&self) -> &InboxService {
        &self.inbox
    }

    /// Cancels runs.
    #[must_use]
    pub const fn canceler(&self) -> &Canceler {
        &self.canceler
    }

    /// Runs, their events and jobs.
    #[must_use]
    pub const fn runs(&self) -> &RunQueries {
        &self.runs
    }

    /// Pauses and priorities of the queue.
    #[must_use]
    pub const fn queue(&self) -> &QueueControl {
        &self.queue
    }

    /// The tokens of the providers.
    #[must_use]
    pub fn provider_tokens(&self) -> &ProviderTokens {
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

    /// Event streams.
    #[must_use]
    pub const fn event_streams(&self) -> &EventStreams {
        &self.streams
    }

    /// Activates changed files.
    #[must_use]
    pub fn reloader(&self) -> &Reloader {
        &self.reloader
    }

    /// The settings.
    #[must_use]
    pub const fn settings(&self) -> &SettingsService {
        &self.settings
    }

    /// The plugins.
    #[must_use]
    pub const fn plugins(&self) -> &PluginCatalog {
        &self.plugins
    }

    /// The sandbox of runs.
    #[must_use]
    pub fn sandbox(&self) -> &SandboxService {
        &self.sandbox
    }

    /// The status of the host.
    #[must_use]
    pub const fn status(&self) -> &StatusReporter {
        &self.status
    }

    /// The end of the host.
    #[must_use]
    pub const fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// The active section `[http]`.
    #[must_use]
    pub fn http_config(&self) -> HttpConfig {
        self.config.load().config.http.clone()
    }
}

/// The error of a plugin, for clients.
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
