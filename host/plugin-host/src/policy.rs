//! Configured policy plugins.

use super::bindings::policy::PolicyPlugin;
use super::error::PluginError;
use super::plugin::Configured;
use super::provider::PluginIdentity;
use super::registry::Registry;
use super::types::{Action, Context, Finding};

/// A policy plugin with settings. Every method blocks; call them from no async worker.
pub struct PolicyInstance {
    configured: Configured,
    /// For tool uses: what a run does must not set a policy aside for other runs.
    for_tools: Configured,
    wants: Vec<String>,
}

impl std::fmt::Debug for PolicyInstance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyInstance").finish_non_exhaustive()
    }
}

impl PolicyInstance {
    pub(super) fn new(configured: Configured) -> Result<Self, PluginError> {
        let mut live = configured.start::<PolicyPlugin>()?;
        let wants = configured.call(&mut live, |world, store| world.ostler_plugin_policy().call_wants(store))?;
        Ok(Self { for_tools: configured.uncounted(), configured, wants })
    }

    /// Groups of facts for `context.facts` that it needs. Asked once.
    #[must_use]
    pub fn wants(&self) -> &[String] {
        &self.wants
    }

    /// Whether it was made of the very plugin that the registry has now, code and limits alike.
    #[must_use]
    pub fn is_of(&self, registry: &Registry) -> bool {
        registry.has(&self.configured.plugin)
    }

    /// Name, version and digest of the plugin behind it.
    #[must_use]
    pub fn plugin(&self) -> PluginIdentity {
        PluginIdentity::of(&self.configured.plugin)
    }

    /// Every finding, from a fresh instance: nothing of one evaluation can reach another. Faults over tool uses do not count
    /// towards setting the plugin aside.
    ///
    /// # Errors
    /// If the plugin is set aside or faults. The caller takes that for a denial.
    pub fn evaluate(&self, action: &Action, context: &Context) -> Result<Vec<Finding>, PluginError> {
        let configured = if matches!(action, Action::Tool(_)) { &self.for_tools } else { &self.configured };
        let mut live = configured.start::<PolicyPlugin>()?;
        configured.call(&mut live, |world, store| world.ostler_plugin_policy().call_evaluate(store, action, context))
    }
}
