//! The active configuration, and what was made of it.
//!
//! It is one immutable snapshot. A run takes the current one when it starts and keeps it until it ends.

pub(crate) mod decide;
pub(crate) mod diagnostics;
pub(crate) mod reload;
pub(crate) mod rules;
pub(crate) mod settings;
pub(crate) mod trust;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::Value;

use crate::policy::native_policy::TokenChecks;
use crate::policy::policy_set::PolicySet;
use crate::sandbox::resolve;
use crate::setup::rules::Redaction;
use crate::setup::trust::is_interpreter;
use ostler_config::{Config, Executable as Configured, PluginTrust, ProviderConfig};
use ostler_plugin_host::{Kind, PluginError, PluginErrorKind, PluginState, ProviderInstance, Registry};
use ostler_protocol::methods::{PluginInfo, ProviderInfo};
use ostler_protocol::{ApiError, Problem, nearest};
use ostler_redaction::Redactor;
use ostler_runner::{Executable, Lookup, find_executable, inspect_executable};
use ostler_scheduler::Limits;

/// The name in a plugin's `executables` that stands for the host's own binary.
const HOST_BINARY: &str = "@host";

/// Everything that follows from the configuration and the plugins.
#[derive(Debug)]
pub(crate) struct ActiveConfig {
    pub(crate) config: Config,
    pub(crate) registry: Arc<Registry>,
    pub(crate) providers: BTreeMap<String, Arc<Provider>>,
    pub(crate) gate: PolicySet,
    pub(crate) redactor: Arc<Redactor>,
    redaction: Redaction,
    /// The parts that could not be activated.
    pub(crate) failures: Vec<Failure>,
}

/// A handle to the active configuration. A change replaces it as a whole; a snapshot that was loaded does not change.
#[derive(Clone, Debug)]
pub(crate) struct CurrentConfig(Arc<ArcSwap<ActiveConfig>>);

impl CurrentConfig {
    pub(crate) fn new(active: ActiveConfig) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(active)))
    }

    pub(crate) fn load(&self) -> Arc<ActiveConfig> {
        self.0.load_full()
    }

    pub(crate) fn store(&self, active: Arc<ActiveConfig>) {
        self.0.store(active);
    }
}

/// A part of the configuration that could not be activated.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// JSON pointer of its section in the configuration: `/providers/codex-work`.
    pub(crate) pointer: String,
    /// The plugin, if the part is one.
    pub(crate) plugin: Option<(Kind, String)>,
    /// The reason.
    pub(crate) reason: String,
    /// The reason for people; names the part.
    pub(crate) message: String,
    /// The problems of its settings, with pointers into the configuration.
    pub(crate) settings: Vec<Problem>,
    /// Whether the plugin is disabled because it has failed too often with these settings.
    pub(crate) disabled: bool,
}

impl Failure {
    /// The error of a plugin that was to be activated as `piece`.
    pub(crate) fn new(pointer: String, plugin: (Kind, String), piece: &str, error: &PluginError) -> Self {
        let mut settings = Vec::new();
        if let PluginErrorKind::Settings(problems) = &error.kind {
            settings.extend(problems.iter().map(|problem| Problem {
                pointer: format!("{pointer}/settings{}", problem.pointer),
                message: problem.message.clone(),
            }));
        }
        let (reason, disabled) = (error.to_string(), matches!(error.kind, PluginErrorKind::Disabled));
        Self { pointer, plugin: Some(plugin), message: format!("{piece}: {reason}"), reason, settings, disabled }
    }

    /// A failure that is not about settings.
    pub(crate) fn plain(pointer: String, plugin: Option<(Kind, String)>, piece: &str, reason: &str) -> Self {
        let message = format!("{piece}: {reason}");
        Self { pointer, plugin, reason: reason.to_owned(), message, settings: Vec::new(), disabled: false }
    }

    /// As problems of the configuration.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        match self.settings.as_slice() {
            [] => vec![Problem { pointer: self.pointer.clone(), message: self.message.clone() }],
            settings => settings.to_vec(),
        }
    }
}

/// One provider instance.
#[derive(Debug)]
pub(crate) struct Provider {
    /// Its name: `codex-work`.
    pub(crate) name: String,
    /// Name of the plugin behind it.
    pub(crate) plugin: String,
    pub(crate) config: ProviderConfig,
    /// The configured plugin, or why it cannot be used.
    instance: Result<Arc<ProviderInstance>, String>,
}

impl Provider {
    /// The configured plugin.
    ///
    /// # Errors
    /// `PLUGIN_FAILED` with the reason.
    pub(crate) fn instance(&self) -> Result<&Arc<ProviderInstance>, ApiError> {
        self.instance.as_ref().map_err(|reason| {
            let message = format!("provider {} cannot be used: {reason}", self.name);
            ApiError::new(ostler_protocol::ErrorKind::PluginFailed, message).hint("`list_plugins` has the reason")
        })
    }

    /// Names of the variables that its CLI takes from the caller or the host.
    pub(crate) fn inherit_environment(&self) -> &[String] {
        self.instance.as_ref().map_or(&[], |instance| &instance.describe().inherit_environment)
    }

    /// The variable that carries a stored token, if the CLI takes one.
    ///
    /// # Errors
    /// `PLUGIN_FAILED` if the plugin cannot be used.
    pub(crate) fn token_variable(&self) -> Result<Option<String>, ApiError> {
        Ok(self.instance()?.describe().token_variable.clone())
    }

    /// The inputs of the host's checks for a run with a stored token.
    pub(crate) fn token_checks<'a>(
        &'a self,
        caller: Option<&'a BTreeMap<String, String>>,
        host: &'a BTreeMap<String, String>,
    ) -> TokenChecks<'a> {
        TokenChecks {
            provider: &self.name,
            caller,
            host,
            inherit: self.inherit_environment(),
            configured: &self.config.environment,
        }
    }

    /// Looks up the program on `search_path`. Returns also the name that was looked up.
    pub(crate) fn find(&self, instance: &ProviderInstance, search_path: &str) -> (Lookup, String) {
        let names = &instance.describe().executables;
        match &self.config.executable {
            Some(Configured::Path(path)) => (inspect_executable(path), path.display().to_string()),
            Some(Configured::Name(name)) => (find_executable(&[name], search_path.as_ref()), name.clone()),
            None if names.iter().any(|name| name == HOST_BINARY) => match own_binary() {
                Some(path) => (inspect_executable(&path), path.display().to_string()),
                None => (Lookup::NotFound, "ostler itself".to_owned()),
            },
            None => (find_executable(names, search_path.as_ref()), names.join(", ")),
        }
    }

    pub(crate) fn describe(&self) -> ProviderInfo {
        let info = self.instance.as_ref().ok().map(|instance| instance.describe());
        ProviderInfo {
            name: self.name.clone(),
            plugin: self.plugin.clone(),
            display_name: info.map_or_else(|| self.name.clone(), |info| info.display_name.clone()),
            inherit_environment: self.inherit_environment().to_vec(),
            default_model: info.and_then(|info| info.default_model.clone()),
            problem: self.instance.as_ref().err().cloned(),
        }
    }

    /// Identifies what a capability snapshot depends on: this program, this plugin, these settings, and the CLI's own
    /// settings for a child with these variables.
    pub(crate) fn fingerprint(
        &self,
        instance: &ProviderInstance,
        executable: &Executable,
        variables: &BTreeMap<String, String>,
    ) -> String {
        let modified = executable.modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let settings = Value::Object(self.config.settings.clone());
        format!(
            "{} {} {modified} {} {settings} {:?}{}",
            executable.path.display(),
            executable.size,
            instance.plugin().digest,
            self.config.environment.keys(),
            own_settings(&instance.containment().detection, variables),
        )
    }
}

/// The current state of the CLI's files that its probes depend on. A file that cannot be read counts as missing.
fn own_settings(paths: &[String], variables: &BTreeMap<String, String>) -> String {
    let mut found = String::new();
    for path in paths.iter().filter_map(|text| resolve(text, variables)) {
        let state = std::fs::metadata(&path).ok().map(|file| {
            let modified = file.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
            (file.len(), modified.unwrap_or_default().as_nanos())
        });
        let _ = write!(found, " {} {state:?}", path.display());
    }
    found
}

/// The host's own binary. If it was replaced while the host runs, it is opened through the process itself.
fn own_binary() -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?;
    if path.exists() { Some(path) } else { Some(PathBuf::from(format!("/proc/{}/exe", std::process::id()))) }
}

impl ActiveConfig {
    /// Builds it from a configuration and the plugins. A part that fails is listed in `failures`, and the rest stays
    /// available; redactors and policies fail closed. Parts of `before` with the same plugin and the same settings are
    /// reused. Blocks: calls plugins, compiles rules.
    pub(crate) fn build(config: Config, registry: &Arc<Registry>, before: Option<&Self>) -> Self {
        let mut failures = Vec::new();
        let providers = providers(&config, registry, before, &mut failures);
        let gate =
            PolicySet::load(&config, registry, before.map(|before| (&before.gate, &before.config)), &mut failures);
        let kept = before.map(|before| (&before.redaction, &before.config));
        let (redaction, redactor) = rules::redaction(&config, registry, kept, &mut failures);
        Self { config, registry: Arc::clone(registry), providers, gate, redactor, redaction, failures }
    }

    /// Refuses to run anything if a redactor plugin cannot be used that is named in the configuration or was in use before.
    ///
    /// # Errors
    /// `PLUGIN_FAILED` with every reason.
    pub(crate) fn check_redactors(&self) -> Result<(), ApiError> {
        let required = |name: &str| {
            self.config.plugins.redactor.contains_key(name) || self.registry.was_used(Kind::Redactor, name)
        };
        let reasons: Vec<&str> = self
            .failures
            .iter()
            .filter(|failure| {
                failure.plugin.as_ref().is_some_and(|(kind, name)| *kind == Kind::Redactor && required(name))
            })
            .map(|failure| failure.message.as_str())
            .collect();
        if reasons.is_empty() {
            return Ok(());
        }
        let message = format!("no run starts while a redactor cannot be used: {}", reasons.join("; "));
        let hint =
            "repair or replace the plugin, or remove its section from config.toml; `list_plugins` has the reason";
        Err(ApiError::new(ostler_protocol::ErrorKind::PluginFailed, message).hint(hint))
    }

    /// Why a loaded plugin cannot be used. A provider plugin cannot be used if none of its providers can.
    pub(crate) fn failure(&self, kind: Kind, name: &str) -> Option<&str> {
        if kind != Kind::Provider {
            let about =
                |failure: &&Failure| failure.plugin.as_ref().is_some_and(|(of, called)| *of == kind && called == name);
            return self.failures.iter().find(about).map(|failure| failure.reason.as_str());
        }
        let mut made = self.providers.values().filter(|provider| provider.plugin == name).peekable();
        let first = made.peek()?.instance.as_ref().err()?;
        made.all(|provider| provider.instance.is_err()).then_some(first.as_str())
    }

    /// The provider instance of that name.
    ///
    /// # Errors
    /// `NOT_FOUND` with the available names.
    pub(crate) fn provider(&self, name: &str) -> Result<&Arc<Provider>, ApiError> {
        self.providers.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.providers.keys().map(String::as_str).collect();
            let near =
                nearest(name, known.iter().copied()).map(|near| format!("did you mean {near:?}? ")).unwrap_or_default();
            ApiError::not_found("provider", format_args!("{:?}", name.chars().take(64).collect::<String>()))
                .at("/provider")
                .hint(format!("{near}available providers: {}", known.join(", ")))
        })
    }

    /// The limits of the queue.
    pub(crate) fn limits(&self) -> Limits {
        let scheduler = &self.config.scheduler;
        let own = |(name, provider): (&String, &ProviderConfig)| Some((name.clone(), provider.concurrency?));
        Limits {
            global: scheduler.global,
            per_lane: scheduler.per_provider,
            lanes: self.config.providers.iter().filter_map(own).collect(),
            capacity: scheduler.capacity,
            aging: scheduler.aging(),
        }
    }
}

/// Every plugin that knows its CLI makes one instance with its own name. The configuration changes these and adds others.
fn providers(
    config: &Config,
    registry: &Registry,
    before: Option<&ActiveConfig>,
    failures: &mut Vec<Failure>,
) -> BTreeMap<String, Arc<Provider>> {
    let usable = |state: &PluginState| matches!(state, PluginState::Ready | PluginState::Disabled { .. });
    let mut wanted: BTreeMap<String, ProviderConfig> = registry
        .list()
        .into_iter()
        .filter(|plugin| plugin.kind == Some(Kind::Provider) && usable(&plugin.state))
        .map(|plugin| (plugin.name.clone(), ProviderConfig { plugin: plugin.name, ..ProviderConfig::default() }))
        .collect();
    wanted.extend(config.providers.clone());
    let mut made = BTreeMap::new();
    for (name, provider) in wanted {
        if let Some(kept) = before.and_then(|before| before.providers.get(&name)).filter(|kept| {
            kept.config == provider && kept.instance.as_ref().is_ok_and(|instance| instance.is_of(registry))
        }) {
            made.insert(name, Arc::clone(kept));
            continue;
        }
        let settings = Value::Object(provider.settings.clone());
        let instance = registry.provider(&provider.plugin, &settings);
        let instance = instance.and_then(|instance| refuse_interpreters(config, registry, &provider, instance));
        let homeless = instance.as_ref().is_ok_and(|instance| instance.describe().executables.is_empty());
        if homeless && !config.providers.contains_key(&name) {
            // A plugin for any program (`command`) without a configured program.
            continue;
        }
        let plugin = provider.plugin.clone();
        if let Err(error) = &instance {
            let (pointer, piece) = (format!("/providers/{name}"), format!("provider {name}"));
            failures.push(Failure::new(pointer, (Kind::Provider, plugin.clone()), &piece, error));
        }
        let instance = instance.map_err(|error| error.to_string());
        made.insert(name.clone(), Arc::new(Provider { name, plugin, config: provider, instance }));
    }
    made
}

/// Refuses interpreters: a plugin of the folder that runs an interpreter could run any code. Only the configuration can
/// allow that.
fn refuse_interpreters(
    config: &Config,
    registry: &Registry,
    provider: &ProviderConfig,
    instance: Arc<ProviderInstance>,
) -> Result<Arc<ProviderInstance>, PluginError> {
    let plugin = &provider.plugin;
    let exempt = config.plugins.trust == PluginTrust::Folder || registry.is_bundled(Kind::Provider, plugin);
    let executables = &instance.describe().executables;
    let found =
        executables.iter().find(|name| is_interpreter(name)).filter(|_| !exempt && provider.executable.is_none());
    match found {
        None => Ok(instance),
        Some(found) => Err(PluginError {
            plugin: plugin.clone(),
            kind: PluginErrorKind::Refused,
            message: format!(
                "it runs {found}, which runs anything; if you want that, set `executable = \"{found}\"` in [providers.{plugin}]"
            ),
        }),
    }
}

/// A plugin for the list of plugins; `failure` is the reason why a loaded plugin cannot be used.
pub(crate) fn plugin_info(plugin: ostler_plugin_host::PluginDescription, failure: Option<&str>) -> PluginInfo {
    let (state, reason) = match plugin.state {
        PluginState::Ready => match failure {
            None => ("ready", None),
            Some(reason) => ("failed", Some(reason.to_owned())),
        },
        PluginState::Disabled { reason } => ("set-aside", Some(reason)),
        PluginState::Refused { reason } => ("refused", Some(reason)),
        PluginState::Waiting { reason } => ("waiting", Some(reason)),
    };
    PluginInfo {
        name: plugin.name,
        kind: plugin.kind.map(|kind| kind.as_str().to_owned()),
        version: plugin.version,
        summary: Some(plugin.summary).filter(|summary| !summary.is_empty()),
        digest: plugin.digest.unwrap_or_default(),
        source: plugin.source.to_string(),
        state: state.to_owned(),
        reason,
        displaced: plugin.displaced,
        settings_schema: plugin.settings_schema,
    }
}
