//! What comes in force of a configuration and plugins that somebody wants, where some of it may be at fault.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::setup::{ActiveConfig, Failure};
use ostler_config::{Config, Paths, PluginConfig, PluginTrust, PluginsConfig};
use ostler_plugin_host::{Admission, Kind, Limits, PluginProblem};
use ostler_protocol::Problem;

/// What comes in force.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) active: ActiveConfig,
    /// Why it is not the configuration that was wanted; empty where it is.
    pub(crate) faults: Vec<Problem>,
    /// What is to be said of the plugins that are there.
    pub(crate) plugins: Vec<PluginProblem>,
}

/// Bounds of guests, as the configuration says.
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

/// What the operator has said about plugins: in the configuration, and by approving them.
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

/// Makes a setup of the wanted configuration and the plugins that are there now. The last that was good stays where
/// something is at fault: a plugin whose file has changed for one that does not take its settings, or the configuration
/// as a whole where a part of it cannot be put in force. What was not in force before can fail without being at fault.
///
/// Blocks: compiles and asks plugins.
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
    let mut back = Attempt::new(current, &current.config, paths, approved);
    back.restore();
    // What fails with the configuration of before as well is a plugin's fault, which must not keep the rest of the wanted
    // one from taking effect.
    let plugins: BTreeSet<&str> = back.faults().iter().map(|failure| failure.pointer.as_str()).collect();
    let faults = attempt.faults().into_iter().filter(|failure| !plugins.contains(failure.pointer.as_str()));
    let faults: Vec<Problem> = faults.flat_map(Failure::problems).collect();
    if faults.is_empty() {
        return attempt.decided(faults);
    }
    back.decided(faults)
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

    /// What fails now, did not before, and is not about a plugin that somebody has taken away. A plugin that was set aside
    /// with these settings keeps nothing else from taking effect: it withholds or denies until it is tried again.
    fn faults(&self) -> Vec<&Failure> {
        let known: BTreeSet<&str> = self.current.failures.iter().map(|failure| failure.pointer.as_str()).collect();
        let taken_away = |failure: &Failure| {
            failure.plugin.as_ref().is_some_and(|(kind, name)| {
                self.current.registry.contains(*kind, name) && !self.active.registry.contains(*kind, name)
            })
        };
        let failures = self.active.failures.iter();
        let new = |failure: &&Failure| !failure.set_aside && !known.contains(failure.pointer.as_str());
        failures.filter(|failure| new(failure) && !taken_away(failure)).collect()
    }

    /// Takes back the plugins that have changed and are at fault. One that was not there before stays as it is: a policy
    /// denies, as it would after a start of the host, and anything else may do with other settings.
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
