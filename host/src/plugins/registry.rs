//! All plugins that the host has: bundled ones and those of the plugin folder.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::Value;

use super::bundled::{BUNDLED, Bundled};
use super::error::{Kind, PluginError, PluginErrorKind};
use super::limits::Limits;
use super::log::{NoLog, PluginLog};
use super::plugin::Plugin;
use super::policy::PolicyInstance;
use super::provider::ProviderInstance;
use super::redactor::RedactorInstance;
use super::runtime::Runtime;

/// Files of the plugin folder that are looked at.
const MOST_FILES: usize = 256;

/// How long compiled code is kept of plugins that are not there any more.
const CACHE_AGE: Duration = Duration::from_secs(14 * 24 * 3600);

/// What a registry is made of.
#[derive(Clone)]
pub struct RegistryOptions {
    /// Folder for compiled code, made where it is missing. It must be writable by this user alone. None: everything is
    /// compiled at each start.
    pub cache_dir: Option<PathBuf>,
    /// Folder with further plugins, `*.wasm`. It need not exist.
    pub plugin_dir: Option<PathBuf>,
    /// Plugins that come with the host.
    pub bundled: &'static [Bundled],
    /// What guests may use.
    pub limits: Limits,
    /// Takes what plugins log.
    pub log: Arc<dyn PluginLog>,
}

impl Default for RegistryOptions {
    /// The bundled plugins, the usual limits; no folders, no log.
    fn default() -> Self {
        Self { cache_dir: None, plugin_dir: None, bundled: BUNDLED, limits: Limits::default(), log: Arc::new(NoLog) }
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
    /// It can.
    Ready,
    /// It failed too often.
    SetAside {
        /// What happened.
        reason: String,
    },
    /// It is no plugin for this host, or its name is taken.
    Refused {
        /// Why.
        reason: String,
    },
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginDescription {
    /// Name of the plugin; of its file, if it has been refused.
    pub name: String,
    /// None if the file is no plugin at all.
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
    /// JSON Schema of its settings, if it states one.
    pub settings_schema: Option<Value>,
}

/// Something that went wrong, or is worth knowing, when the plugins were loaded. None of it keeps the host from running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginProblem {
    /// Where the plugin comes from; none if it is about the cache or the folder.
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

/// All plugins. Instances that were handed out keep the code that they were made of.
pub struct Registry {
    runtime: Arc<Runtime>,
    plugins: ArcSwap<Snapshot>,
}

#[derive(Default)]
struct Snapshot {
    plugins: BTreeMap<(Kind, String), Entry>,
    refused: Vec<PluginDescription>,
}

struct Entry {
    plugin: Arc<Plugin>,
    source: PluginSource,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

impl Registry {
    /// Loads the bundled plugins and those of the folder. A plugin that cannot be loaded is a problem, not a failure, and
    /// stands in [`list`](Self::list) as refused. A file replaces the bundled plugin of its kind and name; of two files
    /// with one name the first in alphabetical order counts.
    ///
    /// Blocks: what the cache does not have is compiled, which takes a part of a second for each plugin.
    ///
    /// # Errors
    /// If the engine cannot be set up on this machine.
    pub fn open(options: &RegistryOptions) -> Result<(Self, Vec<PluginProblem>), PluginError> {
        let (runtime, cache_problem) = Runtime::new(options.limits.clone(), options.cache_dir.as_deref())
            .map_err(|message| PluginError::new("engine", PluginErrorKind::Host, message))?;
        let mut problems = Vec::new();
        if let Some(problem) = cache_problem {
            problems.push(PluginProblem {
                source: None,
                is_error: true,
                message: format!("compiled plugins are not kept, so that each start compiles them again: {problem}"),
            });
        }
        let mut snapshot = Snapshot::default();
        for bundled in options.bundled {
            let loaded = Plugin::load(&runtime, bundled.name, &Arc::from(bundled.component), &options.log);
            snapshot.add(bundled.name, PluginSource::Bundled, loaded, &mut problems);
        }
        if let Some(folder) = &options.plugin_dir {
            for path in component_files(folder, &mut problems) {
                let label =
                    path.file_stem().map_or_else(|| "plugin".to_owned(), |name| name.to_string_lossy().into_owned());
                let loaded = read_component(&path, options.limits.component_size)
                    .and_then(|bytes| Plugin::load(&runtime, &label, &bytes.into(), &options.log));
                snapshot.add(&label, PluginSource::File(path), loaded, &mut problems);
            }
        }
        if let Some(cache) = &runtime.cache {
            let digests: Vec<_> = snapshot.plugins.values().map(|entry| entry.plugin.digest.as_str()).collect();
            cache.prune(&digests, CACHE_AGE);
        }
        Ok((Self { runtime, plugins: ArcSwap::from_pointee(snapshot) }, problems))
    }

    /// Every plugin, refused ones too, by kind and name.
    #[must_use]
    pub fn list(&self) -> Vec<PluginDescription> {
        let snapshot = self.plugins.load();
        let usable = snapshot.plugins.values().map(|Entry { plugin, source }| PluginDescription {
            name: plugin.identity.name.clone(),
            kind: Some(plugin.kind),
            version: Some(plugin.identity.version.clone()),
            summary: plugin.identity.summary.clone(),
            digest: Some(plugin.digest.clone()),
            source: source.clone(),
            state: plugin.health.set_aside().map_or(PluginState::Ready, |reason| PluginState::SetAside { reason }),
            settings_schema: plugin.schema.as_ref().map(|schema| schema.document.clone()),
        });
        usable.chain(snapshot.refused.iter().cloned()).collect()
    }

    /// The provider plugin with these settings, checked against its schema first. Null is no settings.
    ///
    /// # Errors
    /// If there is no such plugin, it is set aside, refuses the settings or faults.
    pub fn provider(&self, name: &str, settings: &Value) -> Result<Arc<ProviderInstance>, PluginError> {
        let (plugin, settings) = self.configured(Kind::Provider, name, settings)?;
        ProviderInstance::new(plugin, settings).map(Arc::new)
    }

    /// The redactor plugin with these settings.
    ///
    /// # Errors
    /// As [`provider`](Self::provider).
    pub fn redactor(&self, name: &str, settings: &Value) -> Result<Arc<RedactorInstance>, PluginError> {
        let (plugin, settings) = self.configured(Kind::Redactor, name, settings)?;
        RedactorInstance::new(plugin, settings).map(Arc::new)
    }

    /// The policy plugin with these settings.
    ///
    /// # Errors
    /// As [`provider`](Self::provider). The caller refuses runs while a policy that it is told to ask is missing.
    pub fn policy(&self, name: &str, settings: &Value) -> Result<Arc<PolicyInstance>, PluginError> {
        let (plugin, settings) = self.configured(Kind::Policy, name, settings)?;
        PolicyInstance::new(plugin, settings).map(Arc::new)
    }

    /// Takes a plugin back that was set aside, and forgets its faults. Says whether there is one of that name.
    pub fn reinstate(&self, kind: Kind, name: &str) -> bool {
        let snapshot = self.plugins.load();
        let entry = snapshot.plugins.get(&(kind, name.to_owned()));
        if let Some(entry) = entry {
            entry.plugin.health.reset();
        }
        entry.is_some()
    }

    /// How many components have been compiled since the registry was opened; those from the cache do not count.
    #[must_use]
    pub fn compiled(&self) -> u64 {
        self.runtime.compiled()
    }

    fn configured(&self, kind: Kind, name: &str, settings: &Value) -> Result<(Arc<Plugin>, String), PluginError> {
        let snapshot = self.plugins.load();
        let Some(entry) = snapshot.plugins.get(&(kind, name.to_owned())) else {
            return Err(snapshot.missing(kind, name));
        };
        let plugin = Arc::clone(&entry.plugin);
        plugin.check_health()?;
        let settings = plugin.check_settings(settings)?;
        Ok((plugin, settings))
    }

    #[cfg(test)]
    pub(super) fn runtime(&self) -> &Runtime {
        &self.runtime
    }
}

impl Snapshot {
    fn add(
        &mut self,
        label: &str,
        source: PluginSource,
        loaded: Result<Plugin, String>,
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
        self.plugins.insert(key, Entry { plugin: Arc::new(plugin), source });
    }

    fn refuse(
        &mut self,
        label: &str,
        kind: Option<Kind>,
        source: PluginSource,
        reason: String,
        problems: &mut Vec<PluginProblem>,
    ) {
        let place =
            if source == PluginSource::Bundled { format!("the bundled plugin {label}") } else { source.to_string() };
        problems.push(PluginProblem {
            source: Some(source.clone()),
            is_error: true,
            message: format!("failed to load {place}: {reason}"),
        });
        self.refused.push(PluginDescription {
            name: label.to_owned(),
            kind,
            version: None,
            summary: String::new(),
            digest: None,
            source,
            state: PluginState::Refused { reason },
            settings_schema: None,
        });
    }

    /// Why there is no such plugin: a refused file of that name says more than a list of the others.
    fn missing(&self, kind: Kind, name: &str) -> PluginError {
        let refused =
            self.refused.iter().find(|refused| refused.name == name && refused.kind.is_none_or(|of| of == kind));
        if let Some(PluginDescription { state: PluginState::Refused { reason }, .. }) = refused {
            return PluginError::new(name, PluginErrorKind::Refused, format!("it could not be loaded: {reason}"));
        }
        let known: Vec<_> = self.plugins.keys().filter(|key| key.0 == kind).map(|key| key.1.as_str()).collect();
        PluginError::new(
            name,
            PluginErrorKind::NotFound,
            format!("there is no such {kind}; there are: {}", known.join(", ")),
        )
    }
}

/// The components of the folder in alphabetical order. A folder that does not exist is empty.
fn component_files(folder: &Path, problems: &mut Vec<PluginProblem>) -> Vec<PathBuf> {
    let mut problem = |message: String| problems.push(PluginProblem { source: None, is_error: true, message });
    let entries = match folder.read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            problem(format!("failed to read the plugin folder {}: {error}", folder.display()));
            return Vec::new();
        }
    };
    let mut files: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "wasm"))
        .collect();
    files.sort();
    if files.len() > MOST_FILES {
        problem(format!(
            "the plugin folder {} holds {} components, of which only the first {MOST_FILES} are loaded",
            folder.display(),
            files.len()
        ));
        files.truncate(MOST_FILES);
    }
    files
}

/// Never reads more than one byte past the limit, nor from anything but a file: a pipe would wait for ever.
fn read_component(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("it cannot be read: {error}");
    if !path.metadata().map_err(failed)?.is_file() {
        return Err("it is not a file".to_owned());
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(failed)?.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
