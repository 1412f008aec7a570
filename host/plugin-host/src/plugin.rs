//! A loaded plugin: its identity, code, settings schema and faults; and live instances of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use wasmtime::Store;

use super::bindings::{
    policy::PolicyPlugin, policy::PolicyPluginPre, provider::ProviderPlugin, provider::ProviderPluginPre,
    redactor::RedactorPlugin, redactor::RedactorPluginPre,
};
use super::cache::sha256_hex;
use super::error::{Kind, PluginError, PluginErrorKind};
use super::health::Health;
use super::inspect;
use super::limits::{CallLimits, Limits};
use super::log::{LogGate, PluginLog, clean};
use super::runtime::{Fault, HostState, Runtime};
use super::settings::SettingsSchema;
use super::types::{Error as GuestError, Problem};

/// The identity of a plugin, after checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) summary: String,
}

/// The answer of `identify`, in any world.
pub(super) struct RawIdentity {
    name: String,
    version: String,
    summary: String,
    settings_schema: Option<String>,
}

/// The functions that the three worlds share.
pub(super) trait World: Sized + Send {
    fn instantiate(code: &Code, store: &mut Store<HostState>) -> wasmtime::Result<Self>;
    fn identify(&self, store: &mut Store<HostState>) -> wasmtime::Result<RawIdentity>;
    fn configure(&self, store: &mut Store<HostState>, settings: &str) -> wasmtime::Result<Result<(), GuestError>>;
}

/// A component whose imports are resolved.
pub(super) enum Code {
    Provider(ProviderPluginPre<HostState>),
    Redactor(RedactorPluginPre<HostState>),
    Policy(PolicyPluginPre<HostState>),
}

macro_rules! world {
    ($world:ty, $kind:ident) => {
        impl World for $world {
            fn instantiate(code: &Code, store: &mut Store<HostState>) -> wasmtime::Result<Self> {
                match code {
                    Code::$kind(code) => code.instantiate(store),
                    _ => Err(wasmtime::Error::msg("a plugin of another kind")),
                }
            }

            fn identify(&self, store: &mut Store<HostState>) -> wasmtime::Result<RawIdentity> {
                let identity = self.ostler_plugin_plugin().call_identify(store)?;
                Ok(RawIdentity {
                    name: identity.name,
                    version: identity.version,
                    summary: identity.summary,
                    settings_schema: identity.settings_schema,
                })
            }

            fn configure(
                &self,
                store: &mut Store<HostState>,
                settings: &str,
            ) -> wasmtime::Result<Result<(), GuestError>> {
                self.ostler_plugin_plugin().call_configure(store, &settings.to_owned())
            }
        }
    };
}

world!(ProviderPlugin, Provider);
world!(RedactorPlugin, Redactor);
world!(PolicyPlugin, Policy);

/// A plugin that can be instantiated.
pub(super) struct Plugin {
    pub(super) identity: Identity,
    pub(super) kind: Kind,
    /// SHA-256 of the component, in hexadecimal digits.
    pub(super) digest: String,
    pub(super) schema: Option<Arc<SettingsSchema>>,
    healths: Mutex<Healths>,
    pub(super) limits: Arc<Limits>,
    runtime: Arc<Runtime>,
    /// Length of the component in bytes.
    size: u64,
    code: Arc<Code>,
    log: Arc<LogGate>,
}

/// A live instance. After a fault it is dropped and never used again.
pub(super) struct Live<W> {
    store: Store<HostState>,
    world: W,
    calls: u32,
}

impl Plugin {
    /// Loads a component and reads its identity. `label` names the plugin until then. `embedded` is its code from the
    /// build script, or empty.
    ///
    /// # Errors
    /// Why it is refused, without the label.
    pub(super) fn load(
        runtime: &Arc<Runtime>,
        limits: &Arc<Limits>,
        label: &str,
        bytes: &Arc<[u8]>,
        embedded: &'static [u8],
        log: &Arc<dyn PluginLog>,
    ) -> Result<Self, String> {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        check_size(size, limits)?;
        let kind = inspect::kind_of(bytes)?;
        let digest = sha256_hex(bytes);
        let component = runtime.load(bytes, embedded, &digest, limits.compile_time, &format!("the plugin {label}"))?;
        let unfit = |error: wasmtime::Error| format!("it does not fit the {kind} interface: {error:#}");
        let pre = runtime.linker.instantiate_pre(&component).map_err(unfit)?;
        let code = match kind {
            Kind::Provider => Code::Provider(ProviderPluginPre::new(pre).map_err(unfit)?),
            Kind::Redactor => Code::Redactor(RedactorPluginPre::new(pre).map_err(unfit)?),
            Kind::Policy => Code::Policy(PolicyPluginPre::new(pre).map_err(unfit)?),
        };
        let gate = Arc::new(LogGate::new(label, kind, Arc::clone(log), limits));
        let call = limits.of(kind);
        let raw = match kind {
            Kind::Provider => identify::<ProviderPlugin>(runtime, &code, call, &gate),
            Kind::Redactor => identify::<RedactorPlugin>(runtime, &code, call, &gate),
            Kind::Policy => identify::<PolicyPlugin>(runtime, &code, call, &gate),
        }
        .map_err(|fault| format!("it could not say who it is: {}", fault.message))?;
        let schema = raw
            .settings_schema
            .as_deref()
            .map(|text| SettingsSchema::new(text, limits.settings_size))
            .transpose()?
            .map(Arc::new);
        let identity = check_identity(raw)?;
        let log = Arc::new(LogGate::new(&identity.name, kind, Arc::clone(log), limits));
        Ok(Self {
            identity,
            kind,
            digest,
            schema,
            healths: Mutex::default(),
            limits: Arc::clone(limits),
            runtime: Arc::clone(runtime),
            size,
            code: Arc::new(code),
            log,
        })
    }

    /// The same code with other limits, and without faults. Instances of this one keep their limits.
    ///
    /// # Errors
    /// If it is larger than they allow.
    pub(super) fn with_limits(&self, limits: &Arc<Limits>) -> Result<Self, String> {
        check_size(self.size, limits)?;
        Ok(Self {
            identity: self.identity.clone(),
            kind: self.kind,
            digest: self.digest.clone(),
            schema: self.schema.clone(),
            healths: Mutex::default(),
            limits: Arc::clone(limits),
            runtime: Arc::clone(&self.runtime),
            size: self.size,
            code: Arc::clone(&self.code),
            log: Arc::new(self.log.with_limits(limits)),
        })
    }

    /// Checks settings against the schema and returns them as text for `configure`. Null is an empty object.
    ///
    /// # Errors
    /// Every problem, with its pointer.
    pub(super) fn check_settings(&self, settings: &Value) -> Result<String, PluginError> {
        let empty = Value::Object(serde_json::Map::new());
        let settings = if settings.is_null() { &empty } else { settings };
        let problem = |message: String| {
            PluginError::settings(&self.identity.name, vec![Problem { pointer: String::new(), message }])
        };
        if !settings.is_object() {
            return Err(problem("they must be a table (an object)".to_owned()));
        }
        let text = settings.to_string();
        if text.len() > self.limits.settings_size {
            return Err(problem(format!("they are longer than {} bytes", self.limits.settings_size)));
        }
        let problems = self.schema.as_ref().map_or_else(Vec::new, |schema| schema.problems(settings));
        if problems.is_empty() { Ok(text) } else { Err(PluginError::settings(&self.identity.name, problems)) }
    }

    /// The fault history with these settings. Histories of settings that are not in use are dropped.
    fn health(&self, settings: &str) -> Arc<Health> {
        let mut healths = self.healths.lock().unwrap_or_else(PoisonError::into_inner);
        healths.known.retain(|known, health| known == settings || Arc::strong_count(health) > 1);
        healths.newest = settings.to_owned();
        let health = healths.known.entry(settings.to_owned()).or_insert_with(|| Arc::new(Health::new(&self.limits)));
        Arc::clone(health)
    }

    /// Why it is disabled. For a redactor or policy, with its newest settings; for a provider, with any settings.
    pub(super) fn disabled(&self) -> Option<String> {
        let healths = self.healths.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = healths.known.get(&healths.newest).filter(|_| self.kind != Kind::Provider);
        if let Some(newest) = newest.filter(|newest| Arc::strong_count(newest) > 1) {
            return newest.disabled();
        }
        healths.known.values().find_map(|health| health.disabled())
    }

    /// Clears all faults.
    pub(super) fn clear_faults(&self) {
        let healths = self.healths.lock().unwrap_or_else(PoisonError::into_inner);
        healths.known.values().for_each(|health| health.reset());
    }

    fn call_limits(&self) -> &CallLimits {
        self.limits.of(self.kind)
    }
}

/// The fault histories of a plugin, by settings: with other settings it may work.
#[derive(Default)]
struct Healths {
    known: HashMap<String, Arc<Health>>,
    /// The settings that were used last.
    newest: String,
}

/// A plugin with the settings of one instance.
#[derive(Clone)]
pub(super) struct Configured {
    pub(super) plugin: Arc<Plugin>,
    settings: Arc<str>,
    health: Arc<Health>,
    /// Whether its faults and successes count towards disabling the plugin.
    counted: bool,
}

impl Configured {
    /// Checks the settings. Null means no settings.
    ///
    /// # Errors
    /// Every problem of the settings; an error if the plugin is disabled with them.
    pub(super) fn new(plugin: &Arc<Plugin>, settings: &Value) -> Result<Self, PluginError> {
        let settings = plugin.check_settings(settings)?;
        let health = plugin.health(&settings);
        let configured = Self { plugin: Arc::clone(plugin), settings: settings.into(), health, counted: true };
        configured.check_health()?;
        Ok(configured)
    }

    /// The same, for calls whose faults do not count.
    pub(super) fn uncounted(&self) -> Self {
        Self { counted: false, ..self.clone() }
    }

    /// A fresh, configured instance.
    ///
    /// # Errors
    /// If the plugin is disabled, faults, or refuses the settings.
    pub(super) fn start<W: World>(&self) -> Result<Live<W>, PluginError> {
        self.check_health()?;
        let limits = self.plugin.call_limits();
        let mut store = self.plugin.runtime.store(limits, &self.plugin.log);
        let started = self.plugin.runtime.enter(&mut store, limits, |store| {
            let world = W::instantiate(&self.plugin.code, store)?;
            let answer = world.configure(store, &self.settings)?;
            Ok((world, answer))
        });
        // A start does not count as a success, only a call does.
        let (world, answer) = self.count_fault(started)?;
        match answer {
            Ok(()) => Ok(Live { store, world, calls: 0 }),
            Err(GuestError::Invalid(problems)) => Err(PluginError::settings(&self.plugin.identity.name, problems)),
            Err(error) => Err(PluginError::guest(&self.plugin.identity.name, error)),
        }
    }

    /// One call of an instance.
    ///
    /// # Errors
    /// If it faults; the instance must be dropped then.
    pub(super) fn call<W, T>(
        &self,
        live: &mut Live<W>,
        call: impl FnOnce(&W, &mut Store<HostState>) -> wasmtime::Result<T>,
    ) -> Result<T, PluginError> {
        live.calls = live.calls.saturating_add(1);
        let world = &live.world;
        let answer = self.plugin.runtime.enter(&mut live.store, self.plugin.call_limits(), |store| call(world, store));
        let answer = self.count_fault(answer)?;
        if self.counted {
            self.health.success();
        }
        Ok(answer)
    }

    /// Fails if the plugin is disabled.
    pub(super) fn check_health(&self) -> Result<(), PluginError> {
        self.health.disabled().map_or(Ok(()), |reason| {
            let message = format!("it is disabled: {reason}. Replace or remove it, or try it again with `reload()`");
            Err(self.error(PluginErrorKind::Disabled, message))
        })
    }

    /// The error for an answer of the right type that violates the interface. Counts as a fault.
    pub(super) fn broken(&self, message: impl Into<String>) -> PluginError {
        let message = message.into();
        if self.counted {
            self.health.fault(&message);
        }
        self.error(PluginErrorKind::Trap, message)
    }

    pub(super) fn error(&self, kind: PluginErrorKind, message: impl Into<String>) -> PluginError {
        PluginError::new(&self.plugin.identity.name, kind, message)
    }

    pub(super) fn guest_error(&self, error: GuestError) -> PluginError {
        PluginError::guest(&self.plugin.identity.name, error)
    }

    /// Counts a fault and turns it into an error.
    fn count_fault<T>(&self, answer: Result<T, Fault>) -> Result<T, PluginError> {
        match answer {
            Ok(answer) => Ok(answer),
            Err(fault) => {
                if self.counted && fault.kind.is_fault() {
                    self.health.fault(&fault.message);
                }
                Err(self.error(fault.kind, fault.message))
            }
        }
    }
}

fn check_size(size: u64, limits: &Limits) -> Result<(), String> {
    if size > limits.component_size {
        return Err(format!("it has {size} bytes, where {} are allowed", limits.component_size));
    }
    Ok(())
}

fn identify<W: World>(
    runtime: &Runtime,
    code: &Code,
    limits: &CallLimits,
    log: &Arc<LogGate>,
) -> Result<RawIdentity, Fault> {
    let mut store = runtime.store(limits, log);
    runtime.enter(&mut store, limits, |store| W::instantiate(code, store)?.identify(store))
}

fn check_identity(raw: RawIdentity) -> Result<Identity, String> {
    let kebab = |name: &str| {
        name.len() <= 64
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && !name.ends_with('-')
            && !name.contains("--")
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    if !kebab(&raw.name) {
        return Err(format!(
            "its name {:?} is not a lower-case kebab word of at most 64 letters",
            clean(&raw.name, 80)
        ));
    }
    if let Err(error) = semver::Version::parse(&raw.version) {
        return Err(format!("its version {:?} is not a semantic version: {error}", clean(&raw.version, 80)));
    }
    let summary = clean(&raw.summary, 200).replace(['\n', '\t'], " ");
    Ok(Identity { name: raw.name, version: raw.version, summary })
}

/// Instances kept between calls. Plugins are pure, so any of them gives the same answer.
pub(super) struct Warm<W> {
    pub(super) configured: Configured,
    idle: Mutex<Vec<Live<W>>>,
}

/// The most idle instances of one configured plugin.
const MAX_IDLE: usize = 2;

impl<W: World> Warm<W> {
    /// Starts one instance, to check that the plugin accepts the settings.
    ///
    /// # Errors
    /// As [`Configured::start`].
    pub(super) fn new(configured: Configured) -> Result<Self, PluginError> {
        let first = configured.start()?;
        Ok(Self { configured, idle: Mutex::new(vec![first]) })
    }

    /// Calls an idle instance, or a new one. An instance is dropped after a fault or after `warm_calls` calls.
    ///
    /// # Errors
    /// If the plugin is disabled or faults.
    pub(super) fn call<T>(
        &self,
        call: impl FnOnce(&W, &mut Store<HostState>) -> wasmtime::Result<T>,
    ) -> Result<T, PluginError> {
        self.call_checked(call, |_| None)
    }

    /// Like [`call`](Self::call). `check` returns what is wrong with an answer, which counts as a fault.
    ///
    /// # Errors
    /// If the plugin is disabled or faults.
    pub(super) fn call_checked<T>(
        &self,
        call: impl FnOnce(&W, &mut Store<HostState>) -> wasmtime::Result<T>,
        check: impl FnOnce(&T) -> Option<String>,
    ) -> Result<T, PluginError> {
        self.configured.check_health()?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut live = match idle {
            Some(live) => live,
            None => self.configured.start()?,
        };
        let answer = self.configured.call(&mut live, call)?;
        if let Some(wrong) = check(&answer) {
            return Err(self.configured.broken(wrong));
        }
        if live.calls < self.configured.plugin.limits.warm_calls {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < MAX_IDLE {
                idle.push(live);
            }
        }
        Ok(answer)
    }
}
