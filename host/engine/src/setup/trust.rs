//! The plugins that there are, and the approval of provider plugins: a provider says which programs the host runs, with which variables, so that nothing of a
//! new one runs before somebody has seen that and approved its digest.

use std::sync::Arc;

use serde_json::Value;

use crate::Engine;
use crate::setup::decide::decide;
use crate::setup::reload::Change;
use crate::setup::{ActiveConfig, plugin_info};
use ostler_plugin_host::{Kind, ProviderInstance};
use ostler_protocol::methods::{ListPluginsResult, PluginProbe, ReloadTrigger, TrustPluginParams, TrustPluginResult};
use ostler_protocol::{ApiError, ErrorKind};
use ostler_storage::Durability;
use ostler_test_hooks::clock;

/// Programs that run whatever they are given: a plugin that names one may run anything.
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

/// Whether a program of this name runs whatever it is given: `python3.12`, `/bin/sh`.
pub(crate) fn is_interpreter(executable: &str) -> bool {
    let name = executable.rsplit('/').next().unwrap_or(executable).to_ascii_lowercase();
    let versioned = ["python", "ruby", "pypy", "tclsh"].iter().any(|known| {
        name.strip_prefix(known).is_some_and(|rest| rest.chars().all(|digit| digit.is_ascii_digit() || digit == '.'))
    });
    versioned || INTERPRETERS.contains(&name.as_str())
}

impl Engine {
    /// The plugins and the provider instances that they make.
    pub fn list_plugins(&self) -> ListPluginsResult {
        let redactor = self.redactors.for_diagnostics();
        let clean = |text: Option<String>| text.map(|text| redactor.redact(&text).text.into_owned());
        let setup = self.config.load();
        let plugins = setup.registry.list().into_iter().map(|plugin| {
            let failure = plugin.kind.and_then(|kind| setup.failure(kind, &plugin.name));
            let mut plugin = plugin_info(plugin, failure);
            plugin.reason = clean(plugin.reason);
            plugin.displaced = clean(plugin.displaced);
            plugin
        });
        let providers = setup.providers.values().map(|provider| provider.describe()).map(|mut provider| {
            provider.problem = clean(provider.problem);
            provider
        });
        ListPluginsResult { plugins: plugins.collect(), providers: providers.collect() }
    }

    /// What a provider plugin that waits for approval runs and sees; with its digest, approves it and puts it in force.
    ///
    /// # Errors
    /// `NOT_FOUND` where no provider of that name waits; `CONFLICT` where its file holds something else by now;
    /// `PLUGIN_FAILED` where it cannot say what it runs.
    pub fn trust_plugin(self: &Arc<Self>, params: &TrustPluginParams) -> Result<TrustPluginResult, ApiError> {
        let mut basis = self.reloading.begin();
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
        basis.approved.insert(described.digest.clone());
        let decision = decide(&current, &current.config, &self.paths, &basis.approved);
        self.put_in_force(&current, Change { decision, trigger: ReloadTrigger::Request, file: None });
        tracing::info!(plugin = params.name, digest = described.digest, "a provider plugin was approved");
        described.approved = true;
        Ok(described)
    }

    /// Keeps what the files of the plugin folder hold, for the hosts to come.
    pub(crate) fn remember_plugin_files(&self, setup: &ActiveConfig) {
        let files = setup.registry.known_files().iter();
        let files: Vec<_> =
            files.map(|file| (file.path.clone(), file.kind.as_str().to_owned(), file.name.clone())).collect();
        drop(self.storage.write(Durability::Batched, move |tx| tx.put_plugin_files(&files)));
    }
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
    use super::*;

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
