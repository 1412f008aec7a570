//! Configured policy plugins.

use super::bindings::policy::PolicyPlugin;
use super::error::PluginError;
use super::plugin::Configured;
use super::provider::PluginIdentity;
use super::registry::Registry;
use super::types::{Action, Context, Finding};

/// A policy plugin with settings. Every method blocks; do not call them from an async worker.
pub struct PolicyInstance {
    configured: Configured,
    /// For tool uses: a run must not be able to disable a policy for other runs.
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

    /// Groups of facts that it needs in `context.facts`. Read once.
    #[must_use]
    pub fn wants(&self) -> &[String] {
        &self.wants
    }

    /// Whether it uses the plugin that the registry has now, with the same code and limits.
    #[must_use]
    pub fn is_of(&self, registry: &Registry) -> bool {
        registry.has(&self.configured.plugin)
    }

    /// Name, version and digest of the plugin behind it.
    #[must_use]
    pub fn plugin(&self) -> PluginIdentity {
        PluginIdentity::of(&self.configured.plugin)
    }

    /// Returns all findings. Each evaluation has a new instance, so that none can influence another. Faults for tool
    /// uses do not count towards disabling the plugin.
    ///
    /// # Errors
    /// If the plugin is disabled or faults. The caller treats that as a denial.
    pub fn evaluate(&self, action: &Action, context: &Context) -> Result<Vec<Finding>, PluginError> {
        let configured = if matches!(action, Action::Tool(_)) { &self.for_tools } else { &self.configured };
        let mut live = configured.start::<PolicyPlugin>()?;
        configured.call(&mut live, |world, store| world.ostler_plugin_policy().call_evaluate(store, action, context))
    }
}
