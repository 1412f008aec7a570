//! The runtime against real components: small guests written as text, well-behaved and hostile, and the bundled plugins.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod admission;
mod bundled;
mod cache;
#[path = "../../../../tests/guests/mod.rs"]
mod guests;
mod hostile;
mod loading;
mod reloading;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;

use super::types::{Action, Context};
use super::{
    Admission, CODE_KEY_BYTES, CacheOptions, CallLimits, Level, Limits, LogEntry, PluginLog, PluginProblem, Registry,
    RegistryOptions,
};

/// A plugin folder, a cache folder and a log.
struct Fixture {
    folder: TempDir,
    log: Arc<CollectedLog>,
    limits: Limits,
}

/// Collects log messages of plugins.
#[derive(Default)]
struct CollectedLog(Mutex<Vec<(String, Level, String)>>);

impl PluginLog for CollectedLog {
    fn record(&self, entry: LogEntry<'_>) {
        self.0.lock().unwrap().push((entry.plugin.to_owned(), entry.level, entry.message.to_owned()));
    }
}

impl CollectedLog {
    fn messages(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().map(|(_, _, message)| message.clone()).collect()
    }
}

/// Low limits, so that a guest exceeds them soon.
fn tight() -> Limits {
    let call = CallLimits { time: Duration::from_millis(150), memory: 16 << 20, table_elements: 1000, output: 1 << 20 };
    Limits { provider: call, redactor: call, policy: call, ..Limits::default() }
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("plugins")).unwrap();
        Self { folder, log: Arc::default(), limits: tight() }
    }

    fn with(files: &[(&str, &[u8])]) -> Self {
        let fixture = Self::new();
        for (name, bytes) in files {
            fixture.put(name, bytes);
        }
        fixture
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.folder.path().join("plugins").join(name), bytes).unwrap();
    }

    fn cache(&self) -> std::path::PathBuf {
        self.folder.path().join("cache")
    }

    fn open(&self) -> (Registry, Vec<PluginProblem>) {
        let log: Arc<dyn PluginLog> = Arc::clone(&self.log) as _;
        Registry::open(&RegistryOptions {
            cache: Some(cache_options(&self.cache())),
            plugin_dir: Some(self.folder.path().join("plugins")),
            bundled: &[],
            limits: self.limits.clone(),
            log,
            admission: trusting(),
            known_files: Vec::new(),
            progress: Arc::new(|_| ()),
        })
        .unwrap()
    }

    /// Opens and expects that every plugin loads.
    fn registry(&self) -> Registry {
        let (registry, problems) = self.open();
        assert_eq!(problems, []);
        registry
    }
}

/// Every provider of the folder counts as approved.
fn trusting() -> Admission {
    Admission { trust_folder: true, ..Admission::default() }
}

/// A cache in that folder, with a key that all tests share.
fn cache_options(folder: &Path) -> CacheOptions {
    CacheOptions { folder: folder.to_owned(), key: [7; CODE_KEY_BYTES] }
}

fn files_of(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn start() -> Action {
    Action::Start("{}".to_owned())
}

fn context() -> Context {
    Context {
        run_id: None,
        attempt: 0,
        provider: "codex".to_owned(),
        plugin: "codex".to_owned(),
        origin: "cli".to_owned(),
        user: "user".to_owned(),
        cwd: "/work".to_owned(),
        workspace_grant: None,
        paths: Vec::new(),
        profile: None,
        capabilities: "{}".to_owned(),
        advanced: false,
        now_rfc3339: "2026-01-01T12:00:00+00:00".to_owned(),
        facts: "{}".to_owned(),
    }
}
