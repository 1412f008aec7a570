//! Configured redactor plugins.

use super::bindings::redactor::RedactorPlugin;
use super::error::PluginError;
use super::plugin::{Configured, Warm};
use super::provider::PluginIdentity;
use super::registry::Registry;
use super::types::{Candidate, Find, RuleSet};

/// A redactor plugin with settings. Every method blocks; do not call them from an async worker.
pub struct RedactorInstance {
    warm: Warm<RedactorPlugin>,
    rules: RuleSet,
}

impl std::fmt::Debug for RedactorInstance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedactorInstance").finish_non_exhaustive()
    }
}

impl RedactorInstance {
    pub(super) fn new(configured: Configured) -> Result<Self, PluginError> {
        let warm = Warm::<RedactorPlugin>::new(configured)?;
        let rules = warm.call(|world, store| world.ostler_plugin_redactor().call_rules(store))?;
        Ok(Self { warm, rules })
    }

    /// The rules that the host matches natively. Read once.
    #[must_use]
    pub fn rules(&self) -> &RuleSet {
        &self.rules
    }

    /// Whether it uses the plugin that the registry has now, with the same code and limits.
    #[must_use]
    pub fn is_of(&self, registry: &Registry) -> bool {
        registry.has(&self.warm.configured.plugin)
    }

    /// Name, version and digest of the plugin behind it.
    #[must_use]
    pub fn plugin(&self) -> PluginIdentity {
        PluginIdentity::of(&self.warm.configured.plugin)
    }

    /// For each candidate, whether it is a secret: as many answers as candidates.
    ///
    /// # Errors
    /// If the plugin is disabled or faults. The caller then treats every candidate as a secret.
    pub fn verify(&self, candidates: &[Candidate]) -> Result<Vec<bool>, PluginError> {
        self.warm.call_checked(
            |world, store| world.ostler_plugin_redactor().call_verify(store, candidates),
            |answers| {
                let (given, expected) = (answers.len(), candidates.len());
                (given != expected).then(|| format!("it gave {given} answers for {expected} candidates"))
            },
        )
    }

    /// The secrets that the plugin finds in a text, as substrings of it.
    ///
    /// # Errors
    /// If the plugin is disabled or faults. The caller then withholds the text.
    pub fn scan(&self, text: &str) -> Result<Vec<Find>, PluginError> {
        self.warm.call(|world, store| world.ostler_plugin_redactor().call_scan(store, text))
    }
}
