//! What the unit tests of the services share: a real storage in a private folder, and an active configuration without
//! plugins.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tempfile::TempDir;

use crate::queue::dispatch::Dispatcher;
use crate::redactors::Redactors;
use crate::setup::{ActiveConfig, CurrentConfig};
use ostler_config::{Config, Paths};
use ostler_plugin_host::{BUNDLED, Bundled, Registry, RegistryOptions};
use ostler_protocol::{EndReason, Event, JobState, RunEnd, RunId, RunMode, RunStatus, StartAfter};
use ostler_redaction::{OperatorRules, Redactor, Rule};
use ostler_scheduler::{Admit, Job, Limits, Start};
use ostler_storage::{
    Durability, EventFilter, NewJob, NewRun, Options, Outcome, ReadLimit, Storage, StorageError, WriteTx,
};

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

    fn of(active: ActiveConfig) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let storage = Storage::open(&folder.path().join("ostler.db"), &Options::default()).unwrap();
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
        let run = new_run(provider, &self.folder());
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

    /// Every event that was submitted to the storage before.
    pub(crate) fn events(&self, filter: &EventFilter) -> Vec<Event> {
        // Writes are made in the order of the calls.
        self.write(|_| Ok(()));
        self.storage.read(|reader| reader.events_after(0, filter, ReadLimit::default())).unwrap().events
    }
}

/// A queue without limits that matter, whose thread does not run.
pub(crate) fn dispatcher() -> Dispatcher {
    let aging = Duration::from_secs(3600);
    Dispatcher::new(Limits { global: 1, per_lane: 1, lanes: BTreeMap::new(), capacity: 100, aging })
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
