//! Configured provider plugins, and the transcripts of their runs.

use wasmtime::Store;
use wasmtime::component::ResourceAny;

use super::bindings::provider::ProviderPlugin;
use super::containment::Containment;
use super::error::{PluginError, PluginErrorKind};
use super::plugin::{Configured, Live, Plugin, Warm};
use super::registry::Registry;
use super::runtime::HostState;
use super::types::{
    Capabilities, CollectedFile, Decision, ExitStatus, Launch, Line, Outcome, Probe, ProbeResult, ProviderInfo,
    RunRequest, Step,
};

/// A provider plugin with settings: `codex`, or `codex-work`. Every method blocks; do not call them from an async
/// worker.
pub struct ProviderInstance {
    warm: Warm<ProviderPlugin>,
    info: ProviderInfo,
    containment: Containment,
}

impl std::fmt::Debug for ProviderInstance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProviderInstance").finish_non_exhaustive()
    }
}

impl ProviderInstance {
    pub(super) fn new(configured: Configured) -> Result<Self, PluginError> {
        let warm = Warm::<ProviderPlugin>::new(configured)?;
        let info = warm.call(|world, store| world.ostler_plugin_provider().call_describe(store))?;
        if info.inherit_environment.iter().any(|name| name == "*") {
            let message = "it asks for the whole environment (`*` in inherit-environment), which is never passed on; it must name variables";
            return Err(warm.configured.error(PluginErrorKind::Refused, message));
        }
        let containment = Containment::read(info.extra.as_deref()).map_err(|reason| warm.configured.broken(reason))?;
        Ok(Self { warm, info, containment })
    }

    /// The plugin's description of the CLI with these settings. Read once.
    #[must_use]
    pub fn describe(&self) -> &ProviderInfo {
        &self.info
    }

    /// What a run of the CLI needs inside of the host's containment. Read once.
    #[must_use]
    pub fn containment(&self) -> &Containment {
        &self.containment
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

    /// Commands that find out about the installed CLI.
    ///
    /// # Errors
    /// If the plugin is disabled or faults.
    pub fn probes(&self) -> Result<Vec<Probe>, PluginError> {
        self.warm.call(|world, store| world.ostler_plugin_provider().call_probes(store))
    }

    /// What the installed CLI can do.
    ///
    /// # Errors
    /// If the plugin is disabled or faults.
    pub fn detect(&self, results: &[ProbeResult]) -> Result<Capabilities, PluginError> {
        self.warm.call(|world, store| world.ostler_plugin_provider().call_detect(store, results))
    }

    /// How to start the CLI for a run.
    ///
    /// # Errors
    /// [`PluginErrorKind::Guest`] if the payload is not possible, with all problems; else if the plugin is
    /// disabled or faults.
    pub fn prepare(&self, request: &RunRequest, capabilities: &Capabilities) -> Result<Launch, PluginError> {
        let answer =
            self.warm.call(|world, store| world.ostler_plugin_provider().call_prepare(store, request, capabilities))?;
        answer.map_err(|error| self.warm.configured.guest_error(error))
    }

    /// Starts a transcript of an attempt, in an instance of its own.
    ///
    /// # Errors
    /// If the plugin is disabled or faults.
    pub fn transcript(&self, request: &RunRequest, capabilities: &Capabilities) -> Result<Transcript, PluginError> {
        let configured = self.warm.configured.clone();
        let mut live = configured.start::<ProviderPlugin>()?;
        let handle = configured.call(&mut live, |world, store| {
            world.ostler_plugin_provider().transcript().call_constructor(store, request, capabilities)
        })?;
        Ok(Transcript { configured, live: Some((live, handle)) })
    }
}

/// Name, version and digest of a plugin, for events and records.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PluginIdentity {
    /// Kebab name.
    pub name: String,
    /// Semantic version.
    pub version: String,
    /// SHA-256 of the component, in hexadecimal digits.
    pub digest: String,
}

impl PluginIdentity {
    pub(super) fn of(plugin: &Plugin) -> Self {
        Self {
            name: plugin.identity.name.clone(),
            version: plugin.identity.version.clone(),
            digest: plugin.digest.clone(),
        }
    }
}

/// Follows one attempt. It keeps its code even if the plugin's file changes.
///
/// After a fault the guest and its state are gone: every later call is [`PluginErrorKind::Gone`]. Every method
/// blocks; do not call them from an async worker.
pub struct Transcript {
    configured: Configured,
    live: Option<(Live<ProviderPlugin>, ResourceAny)>,
}

impl Transcript {
    /// Call this as soon as the child runs (duplex and pty).
    ///
    /// # Errors
    /// If the guest faults now, or did before.
    pub fn open(&mut self) -> Result<Step, PluginError> {
        self.call(|world, store, handle| world.ostler_plugin_provider().transcript().call_open(store, handle))
    }

    /// Passes lines in the order in which they arrived. `covered` of the answer holds indexes of `lines`, each once,
    /// ascending.
    ///
    /// # Errors
    /// If the guest faults now, or did before; an index in `covered` outside of `lines` is a fault.
    pub fn read(&mut self, lines: &[Line]) -> Result<Step, PluginError> {
        let mut step = self
            .call(|world, store, handle| world.ostler_plugin_provider().transcript().call_read(store, handle, lines))?;
        if step.covered.iter().any(|index| usize::try_from(*index).is_ok_and(|index| index >= lines.len())) {
            self.live = None;
            return Err(self
                .configured
                .broken(format!("it covered a line that it was not given ({} lines)", lines.len())));
        }
        step.covered.sort_unstable();
        step.covered.dedup();
        Ok(step)
    }

    /// Passes one user message.
    ///
    /// # Errors
    /// [`PluginErrorKind::Guest`] if the CLI does not accept one; else if the guest faults now, or did before.
    pub fn input(&mut self, message: &str) -> Result<Step, PluginError> {
        self.call(|world, store, handle| {
            world.ostler_plugin_provider().transcript().call_input(store, handle, message)
        })?
        .map_err(|error| self.configured.guest_error(error))
    }

    /// Passes the answer to an approval request.
    ///
    /// # Errors
    /// [`PluginErrorKind::Guest`] if the CLI cannot accept it; else if the guest faults now, or did before.
    pub fn decide(&mut self, request_id: &str, decision: &Decision) -> Result<Step, PluginError> {
        self.call(|world, store, handle| {
            world.ostler_plugin_provider().transcript().call_decide(store, handle, request_id, decision)
        })?
        .map_err(|error| self.configured.guest_error(error))
    }

    /// Interrupts the current turn and keeps the session.
    ///
    /// # Errors
    /// [`PluginErrorKind::Guest`] if only a signal can interrupt it; else if the guest faults now, or did before.
    pub fn interrupt(&mut self) -> Result<Step, PluginError> {
        self.call(|world, store, handle| world.ostler_plugin_provider().transcript().call_interrupt(store, handle))?
            .map_err(|error| self.configured.guest_error(error))
    }

    /// Call this once, after the child has exited and its output has been read.
    ///
    /// # Errors
    /// If the guest faults now, or did before.
    pub fn finish(&mut self, exit: ExitStatus, files: &[CollectedFile]) -> Result<Outcome, PluginError> {
        self.call(|world, store, handle| {
            world.ostler_plugin_provider().transcript().call_finish(store, handle, exit, files)
        })
    }

    fn call<T>(
        &mut self,
        call: impl FnOnce(&ProviderPlugin, &mut Store<HostState>, ResourceAny) -> wasmtime::Result<T>,
    ) -> Result<T, PluginError> {
        let Some((live, handle)) = &mut self.live else {
            return Err(self
                .configured
                .error(PluginErrorKind::Gone, "it failed earlier in this run and follows it no longer"));
        };
        let handle = *handle;
        let answer = self.configured.call(live, |world, store| call(world, store, handle));
        if answer.is_err() {
            self.live = None;
        }
        answer
    }
}
