//! The list of plugins, and the approval of provider plugins. A provider plugin determines which programs the host runs
//! with which variables, so that a new one is not used before the operator has reviewed that and approved its digest.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::redactors::Redactors;
use crate::setup::decide::decide;
use crate::setup::reload::{Change, Reloader};
use crate::setup::{CurrentConfig, Provider, plugin_info};
use ostler_config::Paths;
use ostler_plugin_host::{Kind, ProviderInstance, Registry};
use ostler_protocol::methods::{ListPluginsResult, PluginProbe, ReloadTrigger, TrustPluginParams, TrustPluginResult};
use ostler_protocol::{ApiError, ErrorKind};
use ostler_storage::{Durability, Storage};
use ostler_test_hooks::clock;

/// Programs that run any code: a plugin that names one could run any code.
const INTERPRETERS: [&str; 24] = [
    "ash",
    "awk",
    "bash",
    "bun",
    "busybox",
    "csh",
    "dash",
    "deno",
    "env",
    "fish",
    "gawk",
    "ksh",
    "lua",
    "make",
    "node",
    "nodejs",
    "npx",
    "osascript",
    "perl",
    "php",
    "powershell",
    "pwsh",
    "sh",
    "zsh",
];

/// Whether a program of this name runs any code that it gets: `python3.12`, `/bin/sh`.
pub(crate) fn is_interpreter(executable: &str) -> bool {
    let name = executable.rsplit('/').next().unwrap_or(executable).to_ascii_lowercase();
    let versioned = ["python", "ruby", "pypy", "tclsh"].iter().any(|known| {
        name.strip_prefix(known).is_some_and(|rest| rest.chars().all(|digit| digit.is_ascii_digit() || digit == '.'))
    });
    versioned || INTERPRETERS.contains(&name.as_str())
}

/// The plugins, and the approval of provider plugins.
pub struct PluginCatalog {
    pub(crate) storage: Storage,
    pub(crate) config: CurrentConfig,
    pub(crate) redactors: Redactors,
    pub(crate) paths: Paths,
    pub(crate) reloader: Arc<Reloader>,
}

impl fmt::Debug for PluginCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginCatalog").finish_non_exhaustive()
    }
}

impl PluginCatalog {
    /// The plugins and the provider instances that they make.
    pub fn list(&self) -> ListPluginsResult {
        let redactor = self.redactors.for_diagnostics();
        let clean = |text: Option<String>| text.map(|text| redactor.redact(&text).text.into_owned());
        let active = self.config.load();
        let plugins = active.registry.list().into_iter().map(|plugin| {
            let failure = plugin.kind.and_then(|kind| active.failure(kind, &plugin.name));
            let mut plugin = plugin_info(plugin, failure);
            plugin.reason = clean(plugin.reason);
            plugin.displaced = clean(plugin.displaced);
            plugin
        });
        let providers = active.providers.values().map(|provider| provider.describe()).map(|mut provider| {
            provider.problem = clean(provider.problem);
            provider
        });
        ListPluginsResult { plugins: plugins.collect(), providers: providers.collect() }
    }

    /// The variables of the caller that the CLI of each provider instance needs; a `*` at the end stands for anything.
    pub fn inherited_variables(&self) -> BTreeMap<String, Vec<String>> {
        let active = self.config.load();
        let of = |provider: &Arc<Provider>| (provider.name.clone(), provider.inherit_environment().to_vec());
        active.providers.values().map(of).collect()
    }

    /// Describes what a provider plugin that waits for approval runs and reads. With its digest, approves and activates it.
    ///
    /// # Errors
    /// `NOT_FOUND` if no provider plugin of this name waits; `CONFLICT` if its file has another digest now; `PLUGIN_FAILED`
    /// if it cannot be described.
    pub fn trust(&self, params: &TrustPluginParams) -> Result<TrustPluginResult, ApiError> {
        let mut sources = self.reloader.begin();
        let current = self.config.load();
        let configured = current.config.providers.get(&params.name).map(|provider| provider.settings.clone());
        let settings = Value::Object(configured.unwrap_or_default());
        let instance = current.registry.waiting_provider(&params.name, &settings).map_err(|error| {
            if current.registry.contains(Kind::Provider, &params.name) {
                let message = format!("the provider plugin {} does not wait for approval", params.name);
                return ApiError::new(ErrorKind::NotFound, message).hint("`list_plugins` shows its state");
            }
            match crate::plugin_error(&error) {
                ApiError { message, .. } if matches!(error.kind, ostler_plugin_host::PluginErrorKind::NotFound) => {
                    ApiError::new(ErrorKind::NotFound, message).hint("`list_plugins` lists the plugins")
                }
                failed => failed,
            }
        })?;
        let mut described = describe(&instance)?;
        let Some(digest) = &params.digest else { return Ok(described) };
        if !digest.eq_ignore_ascii_case(&described.digest) {
            let message = format!("the plugin {} has the digest {} now, not {digest}", params.name, described.digest);
            return Err(ApiError::new(ErrorKind::Conflict, message).hint("look at it again before you approve it"));
        }
        let (digest, name, now) = (described.digest.clone(), params.name.clone(), clock::now());
        let write = self.storage.write_urgent(Durability::Full, move |tx| tx.put_plugin_trust(&digest, &name, now));
        write.wait()?;
        sources.approved.insert(described.digest.clone());
        let decision = decide(&current, &current.config, &self.paths, &sources.approved);
        self.reloader.activate(&current, Change { decision, trigger: ReloadTrigger::Request, file: None });
        tracing::info!(plugin = params.name, digest = described.digest, "a provider plugin was approved");
        described.approved = true;
        Ok(described)
    }
}

/// Records the contents of the files of the plugin folder for later hosts.
pub(crate) fn store_plugin_files(storage: &Storage, registry: &Registry) {
    let files = registry.known_files().iter();
    let files: Vec<_> =
        files.map(|file| (file.path.clone(), file.kind.as_str().to_owned(), file.name.clone())).collect();
    drop(storage.write(Durability::Batched, move |tx| tx.put_plugin_files(&files)));
}

fn describe(instance: &ProviderInstance) -> Result<TrustPluginResult, ApiError> {
    let (plugin, info) = (instance.plugin(), instance.describe());
    let probes = instance.probes().map_err(|error| crate::plugin_error(&error))?.into_iter();
    let probes = probes.map(|probe| PluginProbe {
        args: probe.args,
        environment: probe.environment.into_iter().map(|variable| variable.name).collect(),
    });
    Ok(TrustPluginResult {
        name: plugin.name,
        version: plugin.version,
        digest: plugin.digest,
        executables: info.executables.clone(),
        probes: probes.collect(),
        inherit_environment: info.inherit_environment.clone(),
        token_variable: info.token_variable.clone(),
        writes: instance.containment().write.clone(),
        reads: instance.containment().read.clone(),
        hosts: instance.containment().hosts.clone(),
        approved: false,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::test_support::{Fixture, Services};

    fn catalog(fixture: &Fixture) -> PluginCatalog {
        PluginCatalog {
            storage: fixture.storage.clone(),
            config: fixture.config.clone(),
            redactors: fixture.redactors.clone(),
            paths: fixture.paths(),
            reloader: Arc::new(Services::new(fixture).reloader(fixture)),
        }
    }

    #[test]
    fn list_has_the_plugins_and_the_providers_that_they_make() {
        let listed = catalog(&Fixture::with_program("")).list();
        assert!(listed.plugins.iter().any(|plugin| plugin.name == "rehearsal"));
        let mine = listed.providers.iter().find(|provider| provider.name == "mine").unwrap();
        assert_eq!((mine.plugin.as_str(), mine.problem.as_deref()), ("rehearsal", None));
    }

    #[test]
    fn only_a_plugin_that_waits_for_approval_can_be_approved() {
        let fixture = Fixture::with_bundled_plugins("");
        let catalog = catalog(&fixture);
        let trust = |name: &str| {
            let params = TrustPluginParams { name: name.to_owned(), digest: None };
            catalog.trust(&params).unwrap_err()
        };
        let known = trust("codex");
        assert_eq!((known.kind, known.hint.as_deref()), (ErrorKind::NotFound, Some("`list_plugins` shows its state")));
        assert_eq!(trust("unknown").kind, ErrorKind::NotFound);
    }

    #[test]
    fn interpreters_are_known_by_name_path_and_version() {
        for name in ["sh", "/bin/bash", "python", "python3", "python3.12", "Node", "/usr/bin/env", "ruby3.3", "busybox"]
        {
            assert!(is_interpreter(name), "{name}");
        }
        for name in ["codex", "claude", "pythonic", "shell-agent", "@host", "nodeadmin", ""] {
            assert!(!is_interpreter(name), "{name}");
        }
    }
}
