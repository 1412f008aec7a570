//! What the installed CLIs can do: found out by each plugin's probes, remembered by what they depend on.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::attempt::environment::{Sources, search_path};
use crate::attempt::prepare::check_variables;
use crate::audit::{AuditEntry, AuditLog};
use crate::redactors::Redactors;
use crate::setup::{ActiveConfig, CurrentConfig, Provider};
use crate::spawn;
use ostler_plugin_host::ProviderInstance;
use ostler_plugin_host::types as plugin;
use ostler_protocol::methods::ListCapabilitiesParams;
use ostler_protocol::{ApiError, AuditKind, CapabilitySnapshot, ErrorKind, FlagValues, OptionalFlag, RunMode, Support};
use ostler_runner::{Executable, ExitStatus, Lookup, ProbeOutcome, ProbeSpec, Sandbox};
use ostler_storage::{Durability, SnapshotKey, Storage};
use ostler_test_hooks::clock;

/// After so long a snapshot is made again in the background: a wrapper can stay the same while the real program behind
/// it changes.
const FRESH: Duration = Duration::from_secs(3600);

/// Maximum time limit that a plugin can request for a probe, and maximum after probes that did not answer.
const LONGEST_PROBE: Duration = Duration::from_secs(60);
const MAX_PROBE_TIME_LIMIT: Duration = Duration::from_secs(180);

/// Factor of the time limit of each further try.
const TIME_LIMIT_FACTOR: u32 = 3;

/// Snapshots that are remembered; there are more where settings of the CLIs change often.
const MAX_SLOTS: usize = 64;

/// Most bytes of a probe's output that a plugin gets, for each stream.
const MAX_PROBE_OUTPUT: usize = 1 << 20;

/// A snapshot that is in force.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) snapshot: Arc<CapabilitySnapshot>,
    /// How runs refer to it in storage.
    pub(crate) key: Option<SnapshotKey>,
    /// Whether it only says that the CLI has not answered in time, which is not used for other callers.
    pub(crate) unanswered: bool,
}

/// Runs a probe and waits for it.
type RunProbe = dyn Fn(&ProbeSpec) -> ProbeOutcome + Send + Sync;

/// Knows what the installed CLIs can do, by provider instance and fingerprint.
pub struct Capabilities {
    storage: Storage,
    config: CurrentConfig,
    redactors: Redactors,
    audit: Arc<AuditLog>,
    /// The host's own environment.
    environment: Arc<BTreeMap<String, String>>,
    /// Where probes run.
    folder: PathBuf,
    run_probe: Box<RunProbe>,
    /// One slot for each fingerprint; its lock is held while the probes run, so that they run once for all who wait.
    slots: Mutex<HashMap<String, Arc<Mutex<Slot>>>>,
    /// What is to be said of CLIs that have not answered in time.
    silent: Mutex<HashMap<String, Known>>,
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capabilities").finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Slot {
    known: Option<(Known, Instant)>,
    refreshing: bool,
    /// How often in a row the CLI has not answered in time. That is no verdict: the next to need one asks again.
    unanswered: u32,
    /// When the last probes ended without an answer.
    silent_at: Option<Instant>,
}

/// For what capabilities are asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asking {
    /// For a list: it does not wait for a CLI that has not answered before.
    ForList,
    /// For a run, which needs an answer.
    ForRun,
    /// For an answer of now.
    Anew,
}

/// What came of the probes.
#[derive(Debug)]
struct Probed {
    snapshot: CapabilitySnapshot,
    /// Whether a CLI that has not answered in time is why it cannot be used.
    unanswered: bool,
}

/// A provider whose program was found.
#[derive(Debug)]
pub(crate) struct Installed {
    pub(crate) executable: Executable,
    pub(crate) known: Known,
}

impl Capabilities {
    pub(crate) fn new(
        storage: Storage,
        config: CurrentConfig,
        redactors: Redactors,
        audit: Arc<AuditLog>,
        environment: Arc<BTreeMap<String, String>>,
        folder: PathBuf,
        run_probe: Box<RunProbe>,
    ) -> Self {
        Self {
            storage,
            config,
            redactors,
            audit,
            environment,
            folder,
            run_probe,
            slots: Mutex::default(),
            silent: Mutex::default(),
        }
    }

    /// Empties the cache in memory after a change of configuration. Entries in storage that are still valid serve again.
    pub(crate) fn forget(&self) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.silent.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Looks, on a thread of its own, at what the installed CLIs can do, as far as that is not known.
    pub(crate) fn look_at_clis(self: &Arc<Self>) {
        let capabilities = Arc::clone(self);
        let looked = spawn("probes", move || {
            if let Err(error) = capabilities.snapshots(None, false, None) {
                tracing::warn!(%error, "the installed CLIs could not be looked at");
            }
        });
        if let Err(error) = looked {
            tracing::warn!(%error, "the installed CLIs are not looked at before they are used");
        }
    }

    /// What the installed CLIs can do.
    ///
    /// # Errors
    /// `NOT_FOUND` for a provider that there is not.
    pub fn list(self: &Arc<Self>, params: &ListCapabilitiesParams) -> Result<Vec<CapabilitySnapshot>, ApiError> {
        let caller = Some(&params.client_environment).filter(|variables| !variables.is_empty());
        let mut found = self.snapshots(params.provider.as_deref(), params.refresh.unwrap_or(false), caller)?;
        found.sort_by_key(|snapshot| (snapshot.support == Support::Blocked, snapshot.provider.clone()));
        Ok(found)
    }

    /// The program of a provider for a request, and what it can do. Runs the probes where nothing is known.
    ///
    /// # Errors
    /// `CLI_MISSING` with the install hint; `PROVIDER_BLOCKED` with the reasons; `PLUGIN_FAILED`.
    pub(crate) fn installed(
        self: &Arc<Self>,
        active: &ActiveConfig,
        provider: &Arc<Provider>,
        caller: Option<&BTreeMap<String, String>>,
    ) -> Result<Installed, ApiError> {
        let instance = provider.instance()?;
        let executable = self.executable(provider, instance, caller)?;
        let known = self.known(active, provider, instance, &executable, caller, Asking::ForRun)?;
        if known.snapshot.support == Support::Blocked {
            let reasons = known.snapshot.reasons.join("; ");
            let message = format!("provider {} cannot be used: {reasons}", provider.name);
            let hint = if known.unanswered {
                "try again: a first start can take long".to_owned()
            } else {
                format!("`list_capabilities` asks the CLI again; {}", instance.describe().install_hint)
            };
            return Err(ApiError::new(ErrorKind::ProviderBlocked, message).hint(hint));
        }
        Ok(Installed { executable, known })
    }

    /// The program of a provider.
    ///
    /// # Errors
    /// `CLI_MISSING` with the install hint.
    fn executable(
        &self,
        provider: &Provider,
        instance: &ProviderInstance,
        caller: Option<&BTreeMap<String, String>>,
    ) -> Result<Executable, ApiError> {
        let path = search_path(&self.environment, caller, &provider.config.environment);
        let missing = |message: String| {
            let hint = instance.describe().install_hint.clone();
            ApiError::new(ErrorKind::CliMissing, message).hint(hint).at("/provider")
        };
        match provider.find(instance, path) {
            (Lookup::Found(executable), _) => Ok(executable),
            (Lookup::NotExecutable(found), _) => {
                let found: Vec<String> = found.iter().map(|path| path.display().to_string()).collect();
                Err(missing(format!(
                    "the CLI of provider {} is not an executable file: {}",
                    provider.name,
                    found.join(", ")
                )))
            }
            (Lookup::NotFound, wanted) if wanted.is_empty() => {
                Err(missing(format!("provider {} names no executable", provider.name)))
            }
            (Lookup::NotFound, wanted) => {
                Err(missing(format!("the CLI of provider {} was not found: {wanted}", provider.name)))
            }
        }
    }

    /// The newest snapshot of every provider instance, or of one; missing CLIs are `blocked`.
    ///
    /// # Errors
    /// `NOT_FOUND` for a provider that there is not.
    fn snapshots(
        self: &Arc<Self>,
        only: Option<&str>,
        refresh: bool,
        caller: Option<&BTreeMap<String, String>>,
    ) -> Result<Vec<CapabilitySnapshot>, ApiError> {
        let active = self.config.load();
        let providers: Vec<Arc<Provider>> = match only {
            Some(name) => vec![Arc::clone(active.provider(name)?)],
            None => active.providers.values().cloned().collect(),
        };
        let snapshot = |provider: &Arc<Provider>| {
            let instance = provider.instance()?;
            let executable = self.executable(provider, instance, caller)?;
            let asking = if refresh { Asking::Anew } else { Asking::ForList };
            self.known(&active, provider, instance, &executable, caller, asking)
        };
        let made = providers.iter().map(|provider| match snapshot(provider) {
            Ok(known) => CapabilitySnapshot::clone(&known.snapshot),
            Err(error) => blocked(provider, &error),
        });
        Ok(made.collect())
    }

    fn known(
        self: &Arc<Self>,
        active: &ActiveConfig,
        provider: &Arc<Provider>,
        instance: &Arc<ProviderInstance>,
        executable: &Executable,
        caller: Option<&BTreeMap<String, String>>,
        asking: Asking,
    ) -> Result<Known, ApiError> {
        let asked = Instant::now();
        let variables = self.probe_environment(active, provider, caller);
        let fingerprint = provider.fingerprint(instance, executable, &variables);
        let key = format!("{} {fingerprint}", provider.name);
        let silent = || self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if asking == Asking::ForList
            && let Some(known) = silent().get(&key)
        {
            return Ok(known.clone());
        }
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            if slots.len() >= MAX_SLOTS && !slots.contains_key(&key) {
                // What holds is found in storage, or out again.
                slots.retain(|_, slot| Arc::strong_count(slot) > 1);
            }
            Arc::clone(slots.entry(key.clone()).or_default())
        };
        let mut held = slot.lock().unwrap_or_else(PoisonError::into_inner);
        // Who has waited for the probes of another asker takes their result, even if it is that the CLI does not answer.
        if asking != Asking::Anew
            && held.silent_at.is_some_and(|at| at >= asked || asking == Asking::ForList)
            && let Some(known) = silent().get(&key)
        {
            return Ok(known.clone());
        }
        if held.known.is_none() {
            held.known = self.recall(provider, &fingerprint);
        }
        if let Some((known, made)) = held.known.as_ref().filter(|_| asking != Asking::Anew) {
            let known = known.clone();
            if made.elapsed() > FRESH && !held.refreshing {
                held.refreshing = true;
                drop(held);
                self.refresh_later(provider, executable, caller, &fingerprint, &slot);
            }
            return Ok(known);
        }
        let Probed { snapshot, unanswered } =
            self.probe(active, provider, instance, executable, caller, held.unanswered)?;
        if unanswered {
            held.unanswered = held.unanswered.saturating_add(1);
            held.silent_at = Some(Instant::now());
            let known = Known { snapshot: Arc::new(snapshot), key: None, unanswered };
            silent().insert(key, known.clone());
            return Ok(known);
        }
        (held.unanswered, held.silent_at) = (0, None);
        silent().remove(&key);
        let known = self.remember(snapshot, &fingerprint);
        held.known = Some((known.clone(), Instant::now()));
        Ok(known)
    }

    /// From storage, where an earlier host wrote it down.
    fn recall(&self, provider: &Provider, fingerprint: &str) -> Option<(Known, Instant)> {
        let stored = self.storage.read(|reader| reader.newest_snapshot(&provider.name)).ok().flatten()?;
        if stored.fingerprint != fingerprint {
            return None;
        }
        let age = clock::now().duration_since(stored.snapshot.detected_at);
        let age = Duration::try_from(age).unwrap_or_default();
        let made = Instant::now().checked_sub(age).unwrap_or_else(Instant::now);
        Some((Known { snapshot: Arc::new(stored.snapshot), key: Some(stored.key), unanswered: false }, made))
    }

    fn remember(&self, snapshot: CapabilitySnapshot, fingerprint: &str) -> Known {
        let (stored, fingerprint) = (snapshot.clone(), fingerprint.to_owned());
        let write = self.storage.write_urgent(Durability::Batched, move |tx| tx.put_snapshot(&fingerprint, &stored));
        let key = write.wait().inspect_err(|error| tracing::warn!(%error, "a capability snapshot was not stored")).ok();
        Known { snapshot: Arc::new(snapshot), key, unanswered: false }
    }

    fn refresh_later(
        self: &Arc<Self>,
        provider: &Arc<Provider>,
        executable: &Executable,
        caller: Option<&BTreeMap<String, String>>,
        fingerprint: &str,
        slot: &Arc<Mutex<Slot>>,
    ) {
        let (capabilities, provider, executable) = (Arc::clone(self), Arc::clone(provider), executable.clone());
        let (caller, fingerprint, slot) = (caller.cloned(), fingerprint.to_owned(), Arc::clone(slot));
        let work = move || {
            let active = capabilities.config.load();
            let made = provider
                .instance()
                .and_then(|instance| capabilities.probe(&active, &provider, instance, &executable, caller.as_ref(), 0));
            let known = made.map(|Probed { snapshot, unanswered }| {
                // What was known holds until there is an answer.
                (!unanswered).then(|| (capabilities.remember(snapshot, &fingerprint), Instant::now()))
            });
            let mut held = slot.lock().unwrap_or_else(PoisonError::into_inner);
            held.refreshing = false;
            match known {
                Ok(known) => held.known = known.or(held.known.take()),
                Err(error) => tracing::warn!(provider = provider.name, %error, "capabilities were not refreshed"),
            }
        };
        if let Err(error) = std::thread::Builder::new().name("capabilities".to_owned()).spawn(work) {
            tracing::warn!(%error, "no thread to refresh capabilities");
        }
    }

    /// What probes inherit.
    fn probe_environment(
        &self,
        active: &ActiveConfig,
        provider: &Provider,
        caller: Option<&BTreeMap<String, String>>,
    ) -> BTreeMap<String, String> {
        Sources {
            host: &self.environment,
            caller,
            base: &active.config.runner.inherit_environment,
            inherit: provider.inherit_environment(),
            configured: &provider.config.environment,
            // A probe needs no login.
            token: None,
            payload: &BTreeMap::new(),
        }
        .inherited()
    }

    /// Runs the probes and lets the plugin judge. `unanswered`: how often the CLI has not answered in time before.
    fn probe(
        &self,
        active: &ActiveConfig,
        provider: &Provider,
        instance: &ProviderInstance,
        executable: &Executable,
        caller: Option<&BTreeMap<String, String>>,
        unanswered: u32,
    ) -> Result<Probed, ApiError> {
        let inherited = self.probe_environment(active, provider, caller);
        let run = |probe: plugin::Probe| {
            let entry = AuditEntry::by_host(AuditKind::Probe).fact("provider", &provider.name);
            self.audit.append(entry.fact("executable", &executable.path).fact("args", &probe.args));
            let mut environment = inherited.clone();
            environment.extend(probe.environment.into_iter().map(|variable| (variable.name, variable.value)));
            let spec = ProbeSpec {
                executable: executable.path.clone(),
                args: probe.args.into_iter().map(OsString::from).collect(),
                environment: environment.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
                cwd: self.folder.clone(),
                marker: format!("probe-{}", uuid::Uuid::now_v7()),
                timeout: probe_time_limit(probe.timeout_ms, unanswered),
                max_output: MAX_PROBE_OUTPUT,
                sandbox: Sandbox::default(),
            };
            let outcome = match (self.run_probe)(&spec) {
                ProbeOutcome::Finished { status: ExitStatus::Code(code), stdout, stderr, .. } => {
                    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
                    let (stdout, stderr) = (text(stdout), text(stderr));
                    plugin::ProbeOutcome::Exited(plugin::ProbeOutput { code, stdout, stderr })
                }
                ProbeOutcome::Finished { status: ExitStatus::Signal(signal), .. } => {
                    plugin::ProbeOutcome::Failed(format!("it was ended by signal {signal}"))
                }
                ProbeOutcome::Finished { status: ExitStatus::Unknown, .. } => {
                    plugin::ProbeOutcome::Failed("its exit status is not known".to_owned())
                }
                ProbeOutcome::TimedOut { .. } => plugin::ProbeOutcome::TimedOut,
                ProbeOutcome::NotFound => plugin::ProbeOutcome::NotFound,
                ProbeOutcome::Failed(error) => plugin::ProbeOutcome::Failed(error.message),
            };
            plugin::ProbeResult { id: probe.id, outcome }
        };
        let probes = instance.probes().map_err(|error| crate::plugin_error(&error))?;
        for probe in &probes {
            check_variables(&active.config.policy, instance, &probe.environment)?;
        }
        let mut results: Vec<plugin::ProbeResult> = Vec::new();
        let mut silent = None;
        for probe in probes {
            // A CLI that hangs once would hang each time, and a caller waits for the answer.
            let hangs = results.last().is_some_and(|last| matches!(last.outcome, plugin::ProbeOutcome::TimedOut));
            if hangs {
                results.push(plugin::ProbeResult { id: probe.id, outcome: plugin::ProbeOutcome::TimedOut });
                continue;
            }
            let asked = (probe.args.join(" "), probe.timeout_ms);
            let result = run(probe);
            if matches!(result.outcome, plugin::ProbeOutcome::TimedOut) {
                silent = Some(asked);
            }
            results.push(result);
        }
        let detected = instance.detect(&results).map_err(|error| crate::plugin_error(&error))?;
        let mut snapshot = self.snapshot(provider, instance, executable, detected);
        let silent = silent.filter(|_| snapshot.support == Support::Blocked);
        if let Some((args, limit)) = &silent {
            let [now, next] = [unanswered, unanswered.saturating_add(1)].map(|tries| probe_time_limit(*limit, tries));
            snapshot.reasons.insert(0, no_answer(&executable.path, args, now, next));
        }
        Ok(Probed { snapshot, unanswered: silent.is_some() })
    }

    fn snapshot(
        &self,
        provider: &Provider,
        instance: &ProviderInstance,
        executable: &Executable,
        detected: plugin::Capabilities,
    ) -> CapabilitySnapshot {
        let redactor = self.redactors.for_data();
        // What a CLI prints about itself goes the way of all output.
        let clean = |text: String| redactor.redact(&text).text.into_owned();
        CapabilitySnapshot {
            provider: provider.name.clone(),
            plugin: provider.plugin.clone(),
            plugin_digest: instance.plugin().digest,
            executable: Some(executable.path.clone()),
            support: match detected.support {
                plugin::Support::Supported => Support::Supported,
                plugin::Support::Degraded => Support::Degraded,
                plugin::Support::Blocked => Support::Blocked,
            },
            cli_version: detected.cli_version.map(clean),
            features: detected.features,
            modes: detected
                .modes
                .into_iter()
                .map(|mode| match mode {
                    plugin::RunMode::NonInteractive => RunMode::NonInteractive,
                    plugin::RunMode::Interactive => RunMode::Interactive,
                })
                .collect(),
            optional_flags: detected.optional_flags.into_iter().map(flag).collect(),
            reasons: detected.reasons.into_iter().map(clean).collect(),
            install_hint: None,
            extra: detected.extra.map(clean),
            sandbox: None,
            detected_at: clock::now(),
        }
    }
}

/// The time limit of a probe for which its plugin requests `timeout_ms`, after this many probes that did not answer.
fn probe_time_limit(timeout_ms: u32, unanswered: u32) -> Duration {
    let asked = Duration::from_millis(u64::from(timeout_ms)).clamp(Duration::from_millis(100), LONGEST_PROBE);
    let factor = TIME_LIMIT_FACTOR.saturating_pow(unanswered.min(16));
    asked.saturating_mul(factor).min(MAX_PROBE_TIME_LIMIT)
}

/// What is known of a CLI that did not answer in time.
fn no_answer(executable: &Path, args: &str, limit: Duration, next: Duration) -> String {
    format!(
        "`{} {args}` did not answer within {} s; the next try waits for up to {} s",
        executable.display(),
        limit.as_secs_f64(),
        next.as_secs_f64()
    )
}

fn flag(flag: plugin::OptionalFlag) -> OptionalFlag {
    OptionalFlag {
        name: flag.name,
        summary: flag.summary,
        values: match flag.values {
            plugin::FlagValues::None => FlagValues::None,
            plugin::FlagValues::One => FlagValues::One,
            plugin::FlagValues::Many => FlagValues::Many,
        },
        advanced: flag.advanced,
        widens: flag.widens,
    }
}

/// What a plugin gets back of what it detected.
pub(crate) fn for_plugin(snapshot: &CapabilitySnapshot) -> plugin::Capabilities {
    plugin::Capabilities {
        support: match snapshot.support {
            Support::Supported => plugin::Support::Supported,
            Support::Degraded => plugin::Support::Degraded,
            Support::Blocked => plugin::Support::Blocked,
        },
        cli_version: snapshot.cli_version.clone(),
        features: snapshot.features.clone(),
        modes: snapshot
            .modes
            .iter()
            .map(|mode| match mode {
                RunMode::NonInteractive => plugin::RunMode::NonInteractive,
                RunMode::Interactive => plugin::RunMode::Interactive,
            })
            .collect(),
        optional_flags: snapshot
            .optional_flags
            .iter()
            .map(|flag| plugin::OptionalFlag {
                name: flag.name.clone(),
                summary: flag.summary.clone(),
                values: match flag.values {
                    FlagValues::None => plugin::FlagValues::None,
                    FlagValues::One => plugin::FlagValues::One,
                    FlagValues::Many => plugin::FlagValues::Many,
                },
                advanced: flag.advanced,
                widens: flag.widens.clone(),
            })
            .collect(),
        reasons: snapshot.reasons.clone(),
        extra: snapshot.extra.clone(),
    }
}

/// A provider that cannot be used, as a snapshot.
fn blocked(provider: &Provider, error: &ApiError) -> CapabilitySnapshot {
    let info = provider.instance().ok();
    CapabilitySnapshot {
        provider: provider.name.clone(),
        plugin: provider.plugin.clone(),
        plugin_digest: info.map(|instance| instance.plugin().digest).unwrap_or_default(),
        executable: None,
        support: Support::Blocked,
        cli_version: None,
        features: Vec::new(),
        modes: Vec::new(),
        optional_flags: Vec::new(),
        reasons: vec![error.message.clone()],
        install_hint: info.map(|instance| instance.describe().install_hint.clone()),
        extra: None,
        sandbox: None,
        detected_at: clock::now(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::test_support::{Fixture, SECRET};

    /// A fake in place of the CLI: what it prints as its version, or nothing in time; and how long each probe could take.
    #[derive(Clone, Default)]
    struct Cli {
        version: Arc<Mutex<Option<String>>>,
        asked: Arc<Mutex<Vec<Duration>>>,
    }

    impl Cli {
        fn answers(version: &str) -> Self {
            let cli = Self::default();
            *cli.version.lock().unwrap() = Some(version.to_owned());
            cli
        }

        fn probes(&self) -> usize {
            self.asked.lock().unwrap().len()
        }

        fn run(&self, spec: &ProbeSpec) -> ProbeOutcome {
            self.asked.lock().unwrap().push(spec.timeout);
            match &*self.version.lock().unwrap() {
                Some(version) => ProbeOutcome::Finished {
                    status: ExitStatus::Code(0),
                    stdout: format!("{version}\n").into_bytes(),
                    stderr: Vec::new(),
                    truncated: false,
                },
                None => ProbeOutcome::TimedOut { stdout: Vec::new(), stderr: Vec::new() },
            }
        }
    }

    fn capabilities(fixture: &Fixture, cli: &Cli) -> Arc<Capabilities> {
        let (storage, redactors, cli) = (fixture.storage.clone(), fixture.redactors.clone(), cli.clone());
        let audit = AuditLog::open(&fixture.folder(), storage.clone(), redactors.clone()).unwrap();
        Arc::new(Capabilities::new(
            storage,
            fixture.config.clone(),
            redactors,
            Arc::new(audit),
            Arc::default(),
            fixture.folder(),
            Box::new(move |spec| cli.run(spec)),
        ))
    }

    fn list(capabilities: &Arc<Capabilities>, refresh: bool) -> CapabilitySnapshot {
        let (provider, refresh) = (Some("mine".to_owned()), Some(refresh));
        let params = ListCapabilitiesParams { provider, refresh, ..ListCapabilitiesParams::default() };
        capabilities.list(&params).unwrap().remove(0)
    }

    fn installed(fixture: &Fixture, capabilities: &Arc<Capabilities>) -> Result<Installed, ApiError> {
        let active = fixture.config.load();
        capabilities.installed(&active, active.provider("mine").unwrap(), None)
    }

    #[test]
    fn probes_run_once_and_their_result_outlives_the_host() {
        let (fixture, cli) = (Fixture::with_program(""), Cli::answers("ostler rehearsal 1.0.0"));
        let first = capabilities(&fixture, &cli);
        let snapshot = list(&first, false);
        assert_eq!((snapshot.support, snapshot.cli_version.as_deref()), (Support::Supported, Some("1.0.0")));
        let probes = cli.probes();
        assert!(probes > 0);
        let installed = installed(&fixture, &first).unwrap();
        assert!(installed.known.key.is_some());
        let restarted = capabilities(&fixture, &cli);
        assert_eq!(list(&restarted, false).features, snapshot.features);
        assert_eq!(cli.probes(), probes);
        list(&first, true);
        assert_eq!(cli.probes(), 2 * probes, "a refresh probes again");
    }

    #[test]
    fn probes_run_again_when_the_program_has_changed() {
        let (fixture, cli) = (Fixture::with_program(""), Cli::answers("ostler rehearsal 1.0.0"));
        let capabilities = capabilities(&fixture, &cli);
        list(&capabilities, false);
        *cli.version.lock().unwrap() = Some("ostler rehearsal 1.0.1".to_owned());
        assert_eq!(list(&capabilities, false).cli_version.as_deref(), Some("1.0.0"));
        std::fs::write(fixture.folder().join("mine"), "larger").unwrap();
        assert_eq!(list(&capabilities, false).cli_version.as_deref(), Some("1.0.1"));
    }

    #[test]
    fn silent_cli_is_asked_again_for_a_run_and_gets_more_time() {
        let (fixture, cli) = (Fixture::with_program(""), Cli::default());
        let capabilities = capabilities(&fixture, &cli);
        assert_eq!(list(&capabilities, false).support, Support::Blocked);
        let first = cli.asked.lock().unwrap().clone();
        assert_eq!(list(&capabilities, false).support, Support::Blocked);
        assert_eq!(cli.probes(), first.len(), "a list does not wait for it again");
        let error = installed(&fixture, &capabilities).unwrap_err();
        assert_eq!(error.kind, ErrorKind::ProviderBlocked);
        assert_eq!(cli.asked.lock().unwrap().last(), Some(&(first[0] * TIME_LIMIT_FACTOR)));
        *cli.version.lock().unwrap() = Some("ostler rehearsal 1.0.0".to_owned());
        assert!(installed(&fixture, &capabilities).is_ok());
        assert_eq!(list(&capabilities, false).support, Support::Supported);
    }

    #[test]
    fn what_a_cli_prints_is_redacted() {
        let (fixture, cli) = (Fixture::with_program(""), Cli::answers(&format!("ostler rehearsal {SECRET}")));
        let snapshot = list(&capabilities(&fixture, &cli), false);
        let text = serde_json::to_string(&snapshot).unwrap();
        assert!(text.contains("[REDACTED:test-key]") && !text.contains(SECRET), "{text}");
    }

    #[test]
    fn provider_without_a_program_is_blocked_in_a_list_and_refused_for_a_run() {
        let (fixture, cli) = (Fixture::with_program(""), Cli::answers("ostler rehearsal 1.0.0"));
        let capabilities = capabilities(&fixture, &cli);
        std::fs::remove_file(fixture.folder().join("mine")).unwrap();
        let error = installed(&fixture, &capabilities).unwrap_err();
        assert_eq!((error.kind, error.pointer.as_deref()), (ErrorKind::CliMissing, Some("/provider")));
        let snapshot = list(&capabilities, false);
        assert_eq!((snapshot.support, snapshot.reasons), (Support::Blocked, vec![error.message]));
        assert_eq!(cli.probes(), 0);
    }
}
