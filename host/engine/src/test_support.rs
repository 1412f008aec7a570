//! What the unit tests of the services share: a real storage in a private folder, and an active configuration without
//! plugins.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;

use crate::attempt::conclude::RunFinalizer;
use crate::attempt::load::RunLoader;
use crate::attempt::private_folders::PrivateFolders;
use crate::audit::AuditLog;
use crate::capabilities::Capabilities;
use crate::conversation::Conversations;
use crate::grants::GrantStore;
use crate::queue::active_run::ActiveRun;
use crate::queue::dispatch::Dispatcher;
use crate::redactors::Redactors;
use crate::sandbox::SandboxService;
use crate::seal::Sealer;
use crate::setup::reload::{InitialState, ReloadState, Reloader};
use crate::setup::{ActiveConfig, CurrentConfig};
use crate::submit::Submitter;
use crate::submit::profile::Profiles;
use crate::tokens::ProviderTokens;
use ostler_config::{Config, Overrides, Paths, Source};
use ostler_plugin_host::{BUNDLED, Bundled, Registry, RegistryOptions};
use ostler_protocol::{EndReason, Event, JobState, RunEnd, RunId, RunMode, RunStatus, StartAfter};
use ostler_redaction::{IgnoreFaults, KnownSecret, Masks, OperatorRules, Redactor, Rule, RunRedactor};
use ostler_runner::{ExitStatus, ProbeOutcome, ProbeReport};
use ostler_scheduler::{Admit, Job, Limits, Start};
use ostler_storage::{
    Durability, EventFilter, NewJob, NewRun, Options, Outcome, ReadLimit, Storage, StorageError, WriteTx,
};
use ostler_token_store::TokenStore;

/// What the redactor of a [`Fixture`] takes for a secret, under the name `test-key`.
pub(crate) const SECRET: &str = "key-abcdef";

/// Two providers whose plugin does not exist: known by name, and of no other use.
const CONFIG: &str = "[providers.codex]\nplugin = \"codex\"\n[providers.claude]\nplugin = \"claude\"\n";

/// What most services are made of.
pub(crate) struct Fixture {
    folder: TempDir,
    pub(crate) storage: Storage,
    pub(crate) config: CurrentConfig,
    pub(crate) redactors: Redactors,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with_config("")
    }

    /// With further sections in the file of the configuration.
    pub(crate) fn with_config(sections: &str) -> Self {
        Self::of(active_config(sections))
    }

    /// The same with the bundled plugins: the providers can be asked.
    pub(crate) fn with_bundled_plugins(sections: &str) -> Self {
        Self::of(active_config_of(sections, BUNDLED))
    }

    /// With the bundled plugins and a provider `mine`, whose executable file is in the private folder.
    pub(crate) fn with_program(sections: &str) -> Self {
        let fixture = Self::with_bundled_plugins("");
        let program = fixture.folder().join("mine");
        std::fs::write(&program, "").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        let provider = format!("[providers.mine]\nplugin = \"rehearsal\"\nexecutable = {program:?}\n");
        fixture.use_bundled_plugins(&format!("{provider}{sections}"));
        fixture
    }

    fn of(active: ActiveConfig) -> Self {
        Self::with_parts(active, &Options::default())
    }

    /// With these options of the storage.
    pub(crate) fn with_storage(options: &Options) -> Self {
        Self::with_parts(active_config(""), options)
    }

    fn with_parts(active: ActiveConfig, options: &Options) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let storage = Storage::open(&folder.path().join("ostler.db"), options).unwrap();
        let config = CurrentConfig::new(active);
        let redactors = Redactors::new(config.clone(), storage.clone(), Arc::default());
        Self { folder, storage, config, redactors }
    }

    /// The private folder, without links.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap()
    }

    /// A new folder in the private one.
    pub(crate) fn make_folder(&self, name: &str) -> PathBuf {
        let path = self.folder().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// The paths of a host in a folder of the private one.
    pub(crate) fn paths(&self) -> Paths {
        let home = self.folder().join("home");
        Paths::resolve(&|name| (name == "OSTLER_HOME").then(|| home.clone().into_os_string()), None).unwrap()
    }

    /// Replaces the active configuration.
    pub(crate) fn change_config(&self, change: impl FnOnce(&mut ActiveConfig)) {
        let mut active = active_config("");
        change(&mut active);
        self.config.store(Arc::new(active));
    }

    /// The same by one with the bundled plugins and these sections.
    pub(crate) fn use_bundled_plugins(&self, sections: &str) {
        self.config.store(Arc::new(active_config_of(sections, BUNDLED)));
    }

    pub(crate) fn write<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut WriteTx<'_>) -> Result<T, StorageError> + Send + 'static,
    ) -> T {
        self.storage.write(Durability::Full, work).wait().unwrap()
    }

    /// A run that waits in the queue, as far as the storage knows.
    pub(crate) fn insert_run(&self, provider: &str) -> RunId {
        self.insert(new_run(provider, &self.folder()))
    }

    pub(crate) fn insert(&self, run: NewRun) -> RunId {
        let run_id = run.run_id;
        self.write(move |tx| {
            tx.insert_run(&run)?;
            tx.insert_job(&NewJob {
                run_id,
                provider: run.provider.clone(),
                state: JobState::Ready,
                priority: 0,
                enqueued_at: run.created_at,
                not_before: None,
                carry: None,
            })
        });
        run_id
    }

    /// Ends a run with this answer.
    pub(crate) fn end_run(&self, run: RunId, at: Timestamp, answer: Option<&str>) {
        let outcome = Outcome {
            status: RunStatus::Completed,
            end: RunEnd {
                exit_code: Some(0),
                reason: EndReason::Completed,
                code: None,
                message: "it ended".to_owned(),
                hint: None,
                answer: None,
                final_text: answer.map(ToOwned::to_owned),
            },
            usage: None,
            at,
        };
        self.write(move |tx| tx.finish_run(run, &outcome));
    }

    pub(crate) fn events_of(&self, run: RunId) -> Vec<Event> {
        self.events(&EventFilter { run_id: Some(run), ..EventFilter::default() })
    }

    pub(crate) fn status_of(&self, run: RunId) -> Option<RunStatus> {
        self.storage.read(|reader| reader.run_status(run)).unwrap()
    }

    /// Why a run has ended.
    pub(crate) fn end_reason_of(&self, run: RunId) -> Option<EndReason> {
        self.storage.read(|reader| reader.run(run)).unwrap()?.summary.reason
    }

    /// Every event that was submitted to the storage before.
    pub(crate) fn events(&self, filter: &EventFilter) -> Vec<Event> {
        // Writes are made in the order of the calls.
        self.write(|_| Ok(()));
        self.storage.read(|reader| reader.events_after(0, filter, ReadLimit::default())).unwrap().events
    }
}

/// The services over a fixture. What would start a process is a fake: every probe of a CLI answers with a version, and
/// no back end of the sandbox works.
pub(crate) struct Services {
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) finalizer: Arc<RunFinalizer>,
    pub(crate) grants: GrantStore,
    pub(crate) tokens: Arc<ProviderTokens>,
    pub(crate) audit: Arc<AuditLog>,
    pub(crate) capabilities: Arc<Capabilities>,
    pub(crate) sandbox: Arc<SandboxService>,
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) reloads: Arc<ReloadState>,
    pub(crate) private_folders: PrivateFolders,
}

impl Services {
    pub(crate) fn new(fixture: &Fixture) -> Self {
        let (storage, config, redactors) = (fixture.storage.clone(), fixture.config.clone(), fixture.redactors.clone());
        let dispatcher = Arc::new(dispatcher());
        let grants = GrantStore::new(storage.clone());
        let audit = AuditLog::open(&fixture.folder(), storage.clone(), redactors.clone()).unwrap();
        let audit = Arc::new(audit);
        let capabilities = Capabilities::new(
            storage.clone(),
            config.clone(),
            redactors.clone(),
            Arc::clone(&audit),
            Arc::default(),
            fixture.folder(),
            Box::new(|_| ProbeOutcome::Finished {
                status: ExitStatus::Code(0),
                stdout: b"ostler rehearsal 1.0.0\n".to_vec(),
                stderr: Vec::new(),
                truncated: false,
            }),
        );
        let no_backend = Box::new(|_: &[_]| ProbeReport { backend: None, refused: Vec::new(), gaps: Vec::new() });
        let store = TokenStore::new(&fixture.folder());
        let tokens = ProviderTokens::new(storage.clone(), config.clone(), store, Arc::default(), Box::new(|| ()));
        let state = InitialState {
            source: Source::read(&fixture.paths().config_file).unwrap(),
            set: Overrides::default(),
            approved: BTreeSet::new(),
            unfit: Vec::new(),
            problems: Vec::new(),
            follow: Box::new(|_, _| Vec::new()),
        };
        Self {
            finalizer: Arc::new(RunFinalizer::new(storage, redactors, Arc::clone(&dispatcher))),
            sandbox: Arc::new(SandboxService::new(config, grants.clone(), fixture.paths(), no_backend)),
            sealer: Arc::new(Sealer::open(&fixture.folder().join("seal.key")).unwrap()),
            private_folders: PrivateFolders::new(&fixture.paths()),
            reloads: Arc::new(ReloadState::new(state)),
            capabilities: Arc::new(capabilities),
            tokens: Arc::new(tokens),
            dispatcher,
            grants,
            audit,
        }
    }

    pub(crate) fn loader(&self, fixture: &Fixture) -> RunLoader {
        let storage = fixture.storage.clone();
        RunLoader { storage, sealer: Arc::clone(&self.sealer), tokens: Arc::clone(&self.tokens) }
    }

    pub(crate) fn submitter(&self, fixture: &Fixture) -> Submitter {
        let (storage, config, redactors) = (fixture.storage.clone(), fixture.config.clone(), fixture.redactors.clone());
        Submitter {
            conversations: Conversations::new(storage.clone(), config.clone(), redactors.clone()),
            profiles: Profiles::new(storage.clone(), config.clone(), redactors.clone()),
            storage,
            config,
            redactors,
            dispatcher: Arc::clone(&self.dispatcher),
            finalizer: Arc::clone(&self.finalizer),
            grants: self.grants.clone(),
            capabilities: Arc::clone(&self.capabilities),
            tokens: Arc::clone(&self.tokens),
            sealer: Arc::clone(&self.sealer),
            sandbox: Arc::clone(&self.sandbox),
            private_folders: self.private_folders.clone(),
            environment: Arc::default(),
        }
    }

    pub(crate) fn reloader(&self, fixture: &Fixture) -> Reloader {
        Reloader {
            state: Arc::clone(&self.reloads),
            storage: fixture.storage.clone(),
            config: fixture.config.clone(),
            redactors: fixture.redactors.clone(),
            paths: fixture.paths(),
            dispatcher: Arc::clone(&self.dispatcher),
            capabilities: Arc::clone(&self.capabilities),
            audit: Arc::clone(&self.audit),
        }
    }
}

/// A queue without limits that matter, whose thread does not run.
pub(crate) fn dispatcher() -> Dispatcher {
    let aging = Duration::from_secs(3600);
    Dispatcher::new(Limits { global: 1, per_lane: 1, lanes: BTreeMap::new(), capacity: 100, aging })
}

/// Starts the thread that hands out slots, and returns the first run that gets one.
pub(crate) fn start_next_run(dispatcher: &Arc<Dispatcher>) -> Arc<ActiveRun> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let dispatcher = Arc::clone(dispatcher);
    std::thread::spawn(move || dispatcher.run(|active_run| drop(sender.send(active_run))));
    receiver.recv().unwrap()
}

/// Puts a run into the queue, behind those that are there.
pub(crate) fn enqueue(dispatcher: &Dispatcher, run: RunId, after: Option<&StartAfter>) {
    let job = Job {
        id: run,
        lane: "codex".to_owned(),
        series: None,
        priority: 0,
        enqueued_at: dispatcher.queue_time(),
        arrival: 0,
        start: Start::Now,
        blocked: false,
        admit: Admit::Readmitted,
    };
    dispatcher.admit(job, after, |_, _| ()).unwrap();
}

/// A redactor without rules that masks these values under the name `thing`.
pub(crate) fn redactor_masking(secrets: &[&str]) -> RunRedactor {
    let secret = |value: &&str| KnownSecret { name: "thing".to_owned(), value: (*value).to_owned() };
    let redactor = Redactor::compile(Vec::new(), OperatorRules::default()).unwrap();
    RunRedactor::new(Arc::new(redactor), Arc::new(Masks::new(secrets.iter().map(secret))), Arc::new(IgnoreFaults))
}

/// The object with further fields.
pub(crate) fn with_fields(mut object: Value, fields: Value) -> Value {
    let (Value::Object(members), Value::Object(fields)) = (&mut object, fields) else { panic!("not an object") };
    members.extend(fields);
    object
}

/// A run that waits in the queue, as far as the storage knows, with these fields in its payload.
pub(crate) fn insert_run_with(fixture: &Fixture, provider: &str, fields: Value) -> RunId {
    let mut run = new_run(provider, &fixture.folder());
    run.payload = with_fields(serde_json::from_str(&run.payload).unwrap(), fields).to_string();
    fixture.insert(run)
}

pub(crate) fn new_run(provider: &str, cwd: &Path) -> NewRun {
    NewRun {
        run_id: RunId::generate(),
        provider: provider.to_owned(),
        model: None,
        mode: RunMode::NonInteractive,
        title: "do it".to_owned(),
        cwd: cwd.to_owned(),
        priority: 0,
        origin: "cli".to_owned(),
        payload: serde_json::json!({"provider": provider, "prompt": "do it"}).to_string(),
        sealed_pointers: Vec::new(),
        snapshot: None,
        session_id: None,
        // Long ago: it can have ended at any time since.
        created_at: Timestamp::UNIX_EPOCH,
    }
}

fn active_config(sections: &str) -> ActiveConfig {
    active_config_of(sections, &[])
}

fn active_config_of(sections: &str, bundled: &'static [Bundled]) -> ActiveConfig {
    let config = Config::parse(&format!("{CONFIG}{sections}")).unwrap();
    let (registry, _) = Registry::open(&RegistryOptions { bundled, ..RegistryOptions::default() }).unwrap();
    let mut active = ActiveConfig::build(config, &Arc::new(registry), None);
    // Without a redactor plugin everything would be withheld.
    let rules = OperatorRules { rules: vec![Rule::new("test-key", "key-[a-f]{6}")], allow: Vec::new() };
    active.redactor = Arc::new(Redactor::compile(Vec::new(), rules).unwrap());
    active
}
