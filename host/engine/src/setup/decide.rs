//! Decides which configuration and plugins are activated if some of the new ones are faulty.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::setup::{ActiveConfig, Failure};
use ostler_config::{Config, Paths, PluginConfig, PluginTrust, PluginsConfig};
use ostler_plugin_host::{Admission, Kind, Limits, PluginProblem};
use ostler_protocol::Problem;

/// The configuration that is activated.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) active: ActiveConfig,
    /// Why it is not the requested configuration; empty if it is.
    pub(crate) faults: Vec<Problem>,
    /// The problems of the plugins.
    pub(crate) plugins: Vec<PluginProblem>,
}

/// The limits of plugins, from the configuration.
pub fn limits(plugins: &PluginsConfig) -> Limits {
    let mut limits = Limits { component_size: plugins.max_component_bytes() as u64, ..Limits::default() };
    for call in [&mut limits.provider, &mut limits.redactor, &mut limits.policy] {
        call.memory = plugins.memory_bytes();
        call.time = plugins.call_timeout();
    }
    limits
}

/// The folder of the operator's plugins.
pub fn plugin_folder<'a>(plugins: &'a PluginsConfig, paths: &'a Paths) -> &'a Path {
    plugins.folder.as_deref().unwrap_or(&paths.plugins_dir)
}

/// The plugins that the operator admits: by the configuration, and by approval.
pub fn admission(plugins: &PluginsConfig, approved: &BTreeSet<String>) -> Admission {
    let pins = |kind: Kind, named: &BTreeMap<String, PluginConfig>| {
        let pinned = named.iter().filter_map(|(name, plugin)| Some((name.clone(), plugin.sha256.clone()?)));
        pinned.map(|(name, digest)| ((kind, name), digest)).collect::<Vec<_>>()
    };
    let providers = plugins.provider.iter().filter_map(|(name, pin)| Some((name.clone(), pin.sha256.clone()?)));
    Admission {
        trust_folder: plugins.trust == PluginTrust::Folder,
        approved: approved.clone(),
        pins: pins(Kind::Redactor, &plugins.redactor)
            .into_iter()
            .chain(pins(Kind::Policy, &plugins.policy))
            .chain(providers.map(|(name, digest)| ((Kind::Provider, name), digest)))
            .collect(),
        replace: plugins.policy.iter().filter(|(_, plugin)| plugin.replace).map(|(name, _)| name.clone()).collect(),
    }
}

/// Builds an active configuration from the requested configuration and the current plugins. If something is faulty, the
/// last valid one stays: the previous version of a plugin whose new file does not accept its settings, or the whole
/// previous configuration if a part of the new one cannot be activated. A part that was not active before can fail without
/// being a fault.
///
/// Blocks: compiles and calls plugins.
pub(crate) fn decide(current: &ActiveConfig, wanted: &Config, paths: &Paths, approved: &BTreeSet<String>) -> Decision {
    let mut attempt = Attempt::new(current, wanted, paths, approved);
    if *wanted == current.config {
        attempt.restore();
        return attempt.decided(Vec::new());
    }
    if attempt.faults().is_empty() {
        return attempt.decided(Vec::new());
    }
    attempt.restore();
    if attempt.faults().is_empty() {
        return attempt.decided(Vec::new());
    }
    let mut previous = Attempt::new(current, &current.config, paths, approved);
    previous.restore();
    // Parts that fail with the previous configuration as well are faults of plugins, which must not prevent the rest of the
    // requested one from being activated.
    let plugins: BTreeSet<&str> = previous.faults().iter().map(|failure| failure.pointer.as_str()).collect();
    let faults = attempt.faults().into_iter().filter(|failure| !plugins.contains(failure.pointer.as_str()));
    let faults: Vec<Problem> = faults.flat_map(Failure::problems).collect();
    if faults.is_empty() {
        return attempt.decided(faults);
    }
    previous.decided(faults)
}

struct Attempt<'a> {
    current: &'a ActiveConfig,
    active: ActiveConfig,
    plugins: Vec<PluginProblem>,
}

impl<'a> Attempt<'a> {
    fn new(current: &'a ActiveConfig, config: &Config, paths: &Paths, approved: &BTreeSet<String>) -> Self {
        let folder = plugin_folder(&config.plugins, paths);
        let admission = admission(&config.plugins, approved);
        let (registry, plugins) = current.registry.reloaded(Some(folder), &limits(&config.plugins), &admission);
        Self { current, active: ActiveConfig::build(config.clone(), &Arc::new(registry), Some(current)), plugins }
    }

    /// The failures that are new and not about a removed plugin. A disabled plugin does not prevent the rest from being
    /// activated: it withholds or denies until it is tried again.
    fn faults(&self) -> Vec<&Failure> {
        let known: BTreeSet<&str> = self.current.failures.iter().map(|failure| failure.pointer.as_str()).collect();
        let removed = |failure: &Failure| {
            failure.plugin.as_ref().is_some_and(|(kind, name)| {
                self.current.registry.contains(*kind, name) && !self.active.registry.contains(*kind, name)
            })
        };
        let failures = self.active.failures.iter();
        let new = |failure: &&Failure| !failure.disabled && !known.contains(failure.pointer.as_str());
        failures.filter(|failure| new(failure) && !removed(failure)).collect()
    }

    /// Restores the previous versions of plugins that have changed and are faulty. A plugin that is new stays: a policy
    /// denies, as it would after a start of the host, and any other plugin may work with other settings.
    fn restore(&mut self) {
        loop {
            let restored = self.faults().into_iter().find_map(|failure| {
                let (kind, name) = failure.plugin.as_ref()?;
                if !self.current.registry.contains(*kind, name) {
                    return None;
                }
                self.active.registry.restored(&self.current.registry, *kind, name, &failure.message)
            });
            let Some((registry, plugins)) = restored else { return };
            self.active = ActiveConfig::build(self.active.config.clone(), &Arc::new(registry), Some(self.current));
            self.plugins = plugins;
        }
    }

    fn decided(self, faults: Vec<Problem>) -> Decision {
        Decision { active: self.active, faults, plugins: self.plugins }
    }
}
