//! All plugins that the host has: bundled ones and those of the plugin folder.
//!
//! A registry is immutable. When files or limits change, a new one is made from it, which has the changes and shares the
//! rest. The old one, and instances from it, stay usable.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::admission::{Admission, KnownFile, Verdict};
use super::bundled::{self, BUNDLED, Bundled};
use super::cache::CacheOptions;
use super::error::{Kind, PluginError, PluginErrorKind};
use super::folder::{FileLoader, PluginFile, component_files, label};
use super::limits::Limits;
use super::log::{NoLog, PluginLog};
use super::plugin::{Configured, Plugin};
use super::policy::PolicyInstance;
use super::provider::ProviderInstance;
use super::redactor::RedactorInstance;
use super::runtime::{Progress, Runtime};

/// How long compiled code of removed plugins is kept.
const CACHE_AGE: Duration = Duration::from_secs(14 * 24 * 3600);
/// The most bytes of such code.
const CACHE_SIZE: u64 = 256 << 20;

/// The options of a registry.
#[derive(Clone)]
pub struct RegistryOptions {
    /// The cache of compiled code. None: everything is compiled at each start.
    pub cache: Option<CacheOptions>,
    /// Folder with further plugins, `*.wasm`. It need not exist.
    pub plugin_dir: Option<PathBuf>,
    /// Plugins that come with the host.
    pub bundled: &'static [Bundled],
    /// Resource limits of guests.
    pub limits: Limits,
    /// Receives log messages of plugins.
    pub log: Arc<dyn PluginLog>,
    /// The operator's decisions about plugins.
    pub admission: Admission,
    /// The files of the folder that an earlier registry knew: [`Registry::known_files`].
    pub known_files: Vec<KnownFile>,
    /// Called while plugins are compiled.
    pub progress: Progress,
}

impl Default for RegistryOptions {
    /// The bundled plugins, the usual limits; no folders, no log.
    fn default() -> Self {
        Self {
            cache: None,
            plugin_dir: None,
            bundled: BUNDLED,
            limits: Limits::default(),
            log: Arc::new(NoLog),
            admission: Admission::default(),
            known_files: Vec::new(),
            progress: Arc::new(|_| ()),
        }
    }
}

/// Where a plugin comes from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PluginSource {
    /// Built into the host.
    Bundled,
    /// A file of the plugin folder.
    File(PathBuf),
}

impl fmt::Display for PluginSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bundled => f.write_str("bundled"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Whether a plugin can be used.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum PluginState {
    /// It can be used.
    Ready,
    /// It is disabled because it failed too often.
    #[serde(rename = "set-aside")]
    Disabled {
        /// What happened.
        reason: String,
    },
    /// It is not a plugin for this host, or its name is taken.
    Refused {
        /// Why.
        reason: String,
    },
    /// A provider that is not approved yet: it does not run.
    Waiting {
        /// How to approve it.
        reason: String,
    },
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginDescription {
    /// Name of the plugin; of its file, if it has been refused.
    pub name: String,
    /// None if the file is not a plugin.
    pub kind: Option<Kind>,
    /// Semantic version; none if it has been refused.
    pub version: Option<String>,
    /// One line; empty if it has been refused.
    pub summary: String,
    /// SHA-256 of the component, in hexadecimal digits; none if it has been refused.
    pub digest: Option<String>,
    /// Where it comes from.
    pub source: PluginSource,
    /// Whether it can be used.
    #[serde(flatten)]
    pub state: PluginState,
    /// Why the current content of its file is not in use, but an earlier one.
    pub displaced: Option<String>,
    /// JSON Schema of its settings, if it states one.
    pub settings_schema: Option<Value>,
}

impl PluginDescription {
    /// The description of a plugin that cannot be used.
    fn unusable(name: String, kind: Option<Kind>, source: PluginSource, state: PluginState) -> Self {
        let (version, summary, digest) = (None, String::new(), None);
        Self { name, kind, version, summary, digest, source, state, displaced: None, settings_schema: None }
    }
}

/// A problem or notice from loading the plugins. None of them prevents the host from running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginProblem {
    /// The source of the plugin; None if it is about the cache or the folder.
    pub source: Option<PluginSource>,
    /// False for a notice: a bundled plugin was replaced by a file.
    pub is_error: bool,
    /// Completes 'failed to …' or stands alone; names the plugin.
    pub message: String,
}

impl fmt::Display for PluginProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// All plugins. Instances keep their code.
pub struct Registry {
    runtime: Arc<Runtime>,
    limits: Arc<Limits>,
    log: Arc<dyn PluginLog>,
    folder: Option<PathBuf>,
    /// Why compiled code is not cached.
    cache_problem: Option<String>,
    /// The bundled plugins, also those that a file replaces: they are used again if it is removed.
    bundled: Vec<(&'static Bundled, Result<Arc<Plugin>, String>)>,
    files: Vec<PluginFile>,
    admission: Admission,
    /// The plugins of the files when these were last usable.
    known: Vec<KnownFile>,
    /// The plugins in use, by kind and name.
    plugins: BTreeMap<(Kind, String), Entry>,
    refused: Vec<PluginDescription>,
    /// Providers that are not approved yet.
    waiting: Vec<Arc<Plugin>>,
}

#[derive(Clone)]
struct Entry {
    plugin: Arc<Plugin>,
    source: PluginSource,
    displaced: Option<String>,
}

/// How a plugin has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PluginChangeKind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Another component has replaced it.
    Replaced,
    /// Its file cannot be used now; the earlier plugin stays in use.
    Kept,
    /// A file without a usable plugin.
    Refused,
    /// A provider that is not approved yet.
    Waiting,
}

/// A difference between two registries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginChange {
    /// None if the file is not a plugin.
    pub kind: Option<Kind>,
    /// Name of the plugin; of its file, if it has been refused.
    pub name: String,
    /// What changed.
    pub change: PluginChangeKind,
    /// Why it was kept or refused.
    pub reason: Option<String>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

impl Registry {
    /// Loads the bundled plugins and those of the folder. A plugin that cannot be loaded is a problem, not an error, and
    /// is in [`list`](Self::list) as refused. A file replaces the bundled plugin of its kind and name; of two files
    /// with one name, the one in use is loaded, else the first in alphabetical order.
    ///
    /// Blocks: plugins that are not in the cache are compiled, which takes a fraction of a second each.
    ///
    /// # Errors
    /// If the engine cannot be set up on this machine.
    pub fn open(options: &RegistryOptions) -> Result<(Self, Vec<PluginProblem>), PluginError> {
        let (runtime, cache_problem) = Runtime::new(options.cache.as_ref(), Arc::clone(&options.progress))
            .map_err(|message| PluginError::new("engine", PluginErrorKind::Host, message))?;
        let limits = Arc::new(options.limits.clone());
        let bundled = options.bundled.iter().map(|bundled| {
            let component = Arc::from(bundled.component);
            let loaded = Plugin::load(&runtime, &limits, bundled.name, &component, bundled.code, &options.log);
            (bundled, loaded.map(Arc::new))
        });
        let bundled = bundled.collect();
        bundled::release_memory();
        let empty = Self {
            bundled,
            runtime,
            limits: Arc::clone(&limits),
            log: Arc::clone(&options.log),
            folder: None,
            cache_problem: cache_problem.map(|problem| {
                format!("compiled plugins are not kept, so that each start compiles them again: {problem}")
            }),
            files: Vec::new(),
            admission: Admission::default(),
            known: options.known_files.clone(),
            plugins: BTreeMap::new(),
            refused: Vec::new(),
            waiting: Vec::new(),
        };
        let (opened, problems) = empty.reloaded(options.plugin_dir.as_deref(), &options.limits, &options.admission);
        if let Some(cache) = &opened.runtime.cache {
            let bundled = opened.bundled.iter().filter_map(|(_, plugin)| plugin.as_ref().ok());
            let plugins = opened.plugins.values().map(|entry| &entry.plugin).chain(bundled);
            let digests: Vec<_> = plugins.map(|plugin| plugin.digest.as_str()).collect();
            cache.prune(&digests, CACHE_AGE, CACHE_SIZE);
        }
        Ok((opened, problems))
    }

    /// A new registry with the current files and these limits. Unchanged files are not read again, and unchanged
    /// plugins are shared. A file whose plugin cannot be used any more is a problem, and its earlier plugin stays in
    /// use.
    ///
    /// Blocks as [`open`](Self::open) does.
    #[must_use]
    pub fn reloaded(
        &self,
        folder: Option<&Path>,
        limits: &Limits,
        admission: &Admission,
    ) -> (Self, Vec<PluginProblem>) {
        let same_limits = *self.limits == *limits;
        let limits = if same_limits { Arc::clone(&self.limits) } else { Arc::new(limits.clone()) };
        let loader = FileLoader { runtime: &self.runtime, limits: &limits, same_limits, log: &self.log };
        let bundled = self.bundled.iter().map(|(bundled, plugin)| match plugin {
            Ok(plugin) => (*bundled, loader.adapt(plugin)),
            Err(reason) if same_limits => (*bundled, Err(reason.clone())),
            Err(_) => {
                let component = Arc::from(bundled.component);
                let loaded = Plugin::load(&self.runtime, &limits, bundled.name, &component, bundled.code, &self.log);
                (*bundled, loaded.map(Arc::new))
            }
        });
        let mut problems = Vec::new();
        let mut files = Vec::new();
        let mut unread = false;
        if let Some(folder) = folder {
            let (paths, problem) = component_files(folder);
            unread = problem.is_some();
            problems.extend(problem.map(|message| PluginProblem { source: None, is_error: true, message }));
            let before = |path: &Path| self.files.iter().find(|file| file.path == path);
            files.extend(paths.iter().filter_map(|path| loader.load(path, before(path))));
        }
        let bundled = bundled.collect();
        let mut registry = self.with(folder, limits, bundled, files, admission.clone(), &mut problems);
        if unread {
            // The folder could not be read: keep the files that were known.
            registry
                .known
                .extend(self.known.iter().filter(|known| !registry.knows(&known.path)).cloned().collect::<Vec<_>>());
        }
        (registry, problems)
    }

    /// A new registry in which the plugin of that kind and name is the one of `previous`, because the content of its
    /// file cannot be used for `reason`. None if no file has changed it.
    #[must_use]
    pub fn restored(
        &self,
        previous: &Self,
        kind: Kind,
        name: &str,
        reason: &str,
    ) -> Option<(Self, Vec<PluginProblem>)> {
        let key = (kind, name.to_owned());
        let now = self.plugins.get(&key)?;
        let before = previous.plugins.get(&key);
        let PluginSource::File(path) = &now.source else { return None };
        if before.is_some_and(|before| before.plugin.digest == now.plugin.digest) {
            return None;
        }
        let loader = FileLoader { runtime: &self.runtime, limits: &self.limits, same_limits: true, log: &self.log };
        let same_file = before.filter(|before| before.source == now.source);
        let kept = same_file.and_then(|before| loader.adapt(&before.plugin).ok());
        let mut files = self.files.clone();
        let file = files.iter_mut().find(|file| file.path == *path)?;
        file.displaced = kept.is_some().then(|| reason.to_owned());
        file.plugin = kept.ok_or_else(|| reason.to_owned());
        let mut problems = Vec::new();
        let bundled = self.bundled.clone();
        let (limits, admission) = (Arc::clone(&self.limits), self.admission.clone());
        let registry = self.with(self.folder.as_deref(), limits, bundled, files, admission, &mut problems);
        Some((registry, problems))
    }

    fn with(
        &self,
        folder: Option<&Path>,
        limits: Arc<Limits>,
        bundled: Vec<(&'static Bundled, Result<Arc<Plugin>, String>)>,
        files: Vec<PluginFile>,
        admission: Admission,
        problems: &mut Vec<PluginProblem>,
    ) -> Self {
        let known = files.iter().filter_map(|file| match &file.plugin {
            Ok(plugin) => {
                let (kind, name) = (plugin.kind, plugin.identity.name.clone());
                Some(KnownFile { path: file.path.clone(), kind, name })
            }
            Err(_) => self.known.iter().find(|known| known.path == file.path).cloned(),
        });
        let mut made = Self {
            known: known.collect(),
            admission,
            waiting: Vec::new(),
            runtime: Arc::clone(&self.runtime),
            limits,
            log: Arc::clone(&self.log),
            folder: folder.map(Path::to_owned),
            cache_problem: self.cache_problem.clone(),
            bundled,
            files,
            plugins: BTreeMap::new(),
            refused: Vec::new(),
        };
        problems.extend(made.cache_problem.clone().map(|message| PluginProblem {
            source: None,
            is_error: true,
            message,
        }));
        for (bundled, plugin) in made.bundled.clone() {
            if let Err(reason) = plugin {
                made.refuse(bundled.name, Some(bundled.kind), PluginSource::Bundled, reason, problems);
                continue;
            }
            made.add(bundled.name, PluginSource::Bundled, plugin, None, problems);
        }
        let mut files = made.files.clone();
        // Of two files with one name, the one that is in use stays.
        files.sort_by_key(|file| !self.uses(file));
        for PluginFile { path, plugin, displaced, kind, .. } in files {
            made.add_file(self, path, plugin, displaced, kind, problems);
        }
        made
    }

    /// Whether the plugin of that file is in use.
    fn uses(&self, file: &PluginFile) -> bool {
        file.plugin.as_ref().is_ok_and(|plugin| {
            let entry = self.plugins.get(&(plugin.kind, plugin.identity.name.clone()));
            entry.is_some_and(|entry| matches!(&entry.source, PluginSource::File(path) if *path == file.path))
        })
    }

    fn knows(&self, path: &Path) -> bool {
        self.known.iter().any(|known| known.path == path)
    }

    fn add_file(
        &mut self,
        before: &Self,
        path: PathBuf,
        loaded: Result<Arc<Plugin>, String>,
        displaced: Option<String>,
        kind: Option<Kind>,
        problems: &mut Vec<PluginProblem>,
    ) {
        let label = label(&path);
        let known = self.known.iter().find(|known| known.path == path).cloned();
        let source = PluginSource::File(path);
        let plugin = match loaded {
            Ok(plugin) => plugin,
            Err(reason) => {
                // The kind and name from when it was last usable are the most helpful.
                let (name, kind) = known.map_or((label, kind), |known| (known.name, Some(known.kind)));
                return self.refuse(&name, kind, source, reason, problems);
            }
        };
        let (kind, name) = (plugin.kind, plugin.identity.name.clone());
        let bundled = self.bundled.iter().any(|(bundled, _)| bundled.kind == kind && bundled.name == name);
        match self.admission.check(kind, &name, &plugin.digest, bundled) {
            Verdict::Admitted => self.add(&label, source, Ok(plugin), displaced, problems),
            Verdict::Refused(reason) => self.refuse(&name, Some(kind), source, reason, problems),
            Verdict::NotReplaced(reason) => self.refuse(&label, None, source, reason, problems),
            Verdict::Waiting(reason) => {
                self.waiting.push(Arc::clone(&plugin));
                // An approved plugin stays in use until its successor is approved.
                let approved = before.plugins.get(&(kind, name.clone())).filter(|entry| {
                    entry.source == source
                        && entry.plugin.limits == self.limits
                        && self.admission.approved.contains(&entry.plugin.digest)
                });
                if let Some(entry) = approved {
                    let plugin = Ok(Arc::clone(&entry.plugin));
                    return self.add(&label, source, plugin, Some(reason), problems);
                }
                problems.push(PluginProblem {
                    source: Some(source.clone()),
                    is_error: false,
                    message: format!("the provider plugin {name} waits: {reason}"),
                });
                self.refused.push(PluginDescription {
                    version: Some(plugin.identity.version.clone()),
                    summary: plugin.identity.summary.clone(),
                    digest: Some(plugin.digest.clone()),
                    ..PluginDescription::unusable(name, Some(kind), source, PluginState::Waiting { reason })
                });
            }
        }
    }

    /// The provider of that name that waits for approval, with these settings. It runs only inside the sandbox.
    ///
    /// # Errors
    /// If none waits; if it refuses the settings or faults.
    pub fn waiting_provider(&self, name: &str, settings: &Value) -> Result<Arc<ProviderInstance>, PluginError> {
        match self.waiting.iter().find(|plugin| plugin.identity.name == name) {
            Some(plugin) => ProviderInstance::new(Configured::new(plugin, settings)?).map(Arc::new),
            None => {
                Err(PluginError::new(name, PluginErrorKind::NotFound, "no provider of that name waits for approval"))
            }
        }
    }

    /// The known files of the folder, for a later registry.
    #[must_use]
    pub fn known_files(&self) -> &[KnownFile] {
        &self.known
    }

    /// Whether a file that cannot be used now contained the plugin of that kind and name earlier.
    #[must_use]
    pub fn was_used(&self, kind: Kind, name: &str) -> bool {
        !self.contains(kind, name) && self.known.iter().any(|known| known.kind == kind && known.name == name)
    }

    /// Whether the plugin of that kind and name is built in, and not replaced.
    #[must_use]
    pub fn is_bundled(&self, kind: Kind, name: &str) -> bool {
        self.plugins.get(&(kind, name.to_owned())).is_some_and(|entry| entry.source == PluginSource::Bundled)
    }

    /// The differences from an earlier registry.
    #[must_use]
    pub fn changes_since(&self, before: &Self) -> Vec<PluginChange> {
        let mut changes = Vec::new();
        let mut add = |key: &(Kind, String), change, reason: Option<&String>| {
            changes.push(PluginChange { kind: Some(key.0), name: key.1.clone(), change, reason: reason.cloned() });
        };
        for (key, now) in &self.plugins {
            match before.plugins.get(key) {
                None => add(key, PluginChangeKind::Added, None),
                Some(then) if then.plugin.digest != now.plugin.digest => add(key, PluginChangeKind::Replaced, None),
                Some(then) if now.displaced.is_some() && then.displaced != now.displaced => {
                    add(key, PluginChangeKind::Kept, now.displaced.as_ref());
                }
                Some(_) => {}
            }
        }
        for key in before.plugins.keys().filter(|key| !self.plugins.contains_key(*key)) {
            add(key, PluginChangeKind::Removed, None);
        }
        for refused in self.refused.iter().filter(|refused| !before.refused.contains(refused)) {
            let (change, reason) = match &refused.state {
                PluginState::Refused { reason } => (PluginChangeKind::Refused, Some(reason.clone())),
                PluginState::Waiting { reason } => (PluginChangeKind::Waiting, Some(reason.clone())),
                _ => (PluginChangeKind::Refused, None),
            };
            let (kind, name) = (refused.kind, refused.name.clone());
            changes.push(PluginChange { kind, name, change, reason });
        }
        changes
    }

    /// Whether there is a plugin of that kind and name, disabled or not.
    #[must_use]
    pub fn contains(&self, kind: Kind, name: &str) -> bool {
        self.plugins.contains_key(&(kind, name.to_owned()))
    }

    /// The plugin folder.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Whether this plugin, and no other of its name, is in use.
    pub(super) fn has(&self, plugin: &Arc<Plugin>) -> bool {
        let entry = self.plugins.get(&(plugin.kind, plugin.identity.name.clone()));
        entry.is_some_and(|entry| Arc::ptr_eq(&entry.plugin, plugin))
    }

    /// Every plugin, refused ones too, by kind and name.
    #[must_use]
    pub fn list(&self) -> Vec<PluginDescription> {
        let usable = self.plugins.values().map(|Entry { plugin, source, displaced }| PluginDescription {
            name: plugin.identity.name.clone(),
            kind: Some(plugin.kind),
            version: Some(plugin.identity.version.clone()),
            summary: plugin.identity.summary.clone(),
            digest: Some(plugin.digest.clone()),
            source: source.clone(),
            state: plugin.disabled().map_or(PluginState::Ready, |reason| PluginState::Disabled { reason }),
            displaced: displaced.clone(),
            settings_schema: plugin.schema.as_ref().map(|schema| schema.document.clone()),
        });
        usable.chain(self.refused.iter().cloned()).collect()
    }

    /// The provider plugin with these settings, checked against its schema first. Null means no settings.
    ///
    /// # Errors
    /// If there is no such plugin, or it is disabled, refuses the settings or faults.
    pub fn provider(&self, name: &str, settings: &Value) -> Result<Arc<ProviderInstance>, PluginError> {
        ProviderInstance::new(self.configured(Kind::Provider, name, settings)?).map(Arc::new)
    }

    /// The redactor plugin with these settings.
    ///
    /// # Errors
    /// As [`provider`](Self::provider).
    pub fn redactor(&self, name: &str, settings: &Value) -> Result<Arc<RedactorInstance>, PluginError> {
        RedactorInstance::new(self.configured(Kind::Redactor, name, settings)?).map(Arc::new)
    }

    /// The policy plugin with these settings.
    ///
    /// # Errors
    /// As [`provider`](Self::provider). The caller refuses runs while a configured policy is missing.
    pub fn policy(&self, name: &str, settings: &Value) -> Result<Arc<PolicyInstance>, PluginError> {
        PolicyInstance::new(self.configured(Kind::Policy, name, settings)?).map(Arc::new)
    }

    /// Enables every disabled plugin again, and clears its faults. Returns their names.
    pub fn reinstate(&self) -> Vec<String> {
        let enable = |(plugin, _): (&Plugin, String)| {
            plugin.clear_faults();
            plugin.identity.name.clone()
        };
        self.disabled_plugins().map(enable).collect()
    }

    /// The disabled plugins: kind, name, and why.
    pub fn disabled(&self) -> impl Iterator<Item = (Kind, &str, String)> {
        self.disabled_plugins().map(|(plugin, reason)| (plugin.kind, plugin.identity.name.as_str(), reason))
    }

    fn disabled_plugins(&self) -> impl Iterator<Item = (&Plugin, String)> {
        self.plugins.values().filter_map(|entry| Some((entry.plugin.as_ref(), entry.plugin.disabled()?)))
    }

    /// How many components have been compiled since the registry was opened; those from the cache do not count.
    #[must_use]
    pub fn compiled(&self) -> u64 {
        self.runtime.compiled()
    }

    fn configured(&self, kind: Kind, name: &str, settings: &Value) -> Result<Configured, PluginError> {
        match self.plugins.get(&(kind, name.to_owned())) {
            Some(entry) => Configured::new(&entry.plugin, settings),
            None => Err(self.missing(kind, name)),
        }
    }

    #[cfg(test)]
    pub(super) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    fn add(
        &mut self,
        label: &str,
        source: PluginSource,
        loaded: Result<Arc<Plugin>, String>,
        displaced: Option<String>,
        problems: &mut Vec<PluginProblem>,
    ) {
        let plugin = match loaded {
            Ok(plugin) => plugin,
            Err(reason) => return self.refuse(label, None, source, reason, problems),
        };
        let key = (plugin.kind, plugin.identity.name.clone());
        match self.plugins.get(&key).map(|entry| entry.source.clone()) {
            Some(other @ PluginSource::File(_)) => {
                let reason = format!("{other} is a {} of the same name; remove one of them", key.0);
                self.refuse(label, Some(key.0), source, reason, problems);
                return;
            }
            Some(PluginSource::Bundled) => problems.push(PluginProblem {
                source: Some(source.clone()),
                is_error: false,
                message: format!("{source} replaces the bundled {} {}", key.0, key.1),
            }),
            None => {}
        }
        if let Some(reason) = &displaced {
            problems.push(PluginProblem {
                source: Some(source.clone()),
                is_error: true,
                message: format!(
                    "{source} cannot be used as it is now, so the {} {} of before stays: {reason}",
                    key.0, key.1
                ),
            });
        }
        self.plugins.insert(key, Entry { plugin, source, displaced });
    }

    fn refuse(
        &mut self,
        label: &str,
        kind: Option<Kind>,
        source: PluginSource,
        reason: String,
        problems: &mut Vec<PluginProblem>,
    ) {
        let origin =
            if source == PluginSource::Bundled { format!("the bundled plugin {label}") } else { source.to_string() };
        problems.push(PluginProblem {
            source: Some(source.clone()),
            is_error: true,
            message: format!("failed to load {origin}: {reason}"),
        });
        let state = PluginState::Refused { reason };
        self.refused.push(PluginDescription::unusable(label.to_owned(), kind, source, state));
    }

    /// The error for a missing plugin: the reason if a file of that name was refused, else a list of the others.
    fn missing(&self, kind: Kind, name: &str) -> PluginError {
        let refused =
            self.refused.iter().find(|refused| refused.name == name && refused.kind.is_none_or(|of| of == kind));
        match refused.map(|refused| &refused.state) {
            Some(PluginState::Refused { reason }) => {
                return PluginError::new(name, PluginErrorKind::Refused, format!("it could not be loaded: {reason}"));
            }
            Some(PluginState::Waiting { reason }) => {
                return PluginError::new(name, PluginErrorKind::Refused, reason.clone());
            }
            _ => {}
        }
        let known: Vec<_> = self.plugins.keys().filter(|key| key.0 == kind).map(|key| key.1.as_str()).collect();
        PluginError::new(
            name,
            PluginErrorKind::NotFound,
            format!("there is no such {kind} plugin; there are: {}", known.join(", ")),
        )
    }
}
