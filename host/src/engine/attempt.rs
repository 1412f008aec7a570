//! One attempt of a run, from its slot to its end: straight-line code on a thread of its own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Engine;
use super::check;
use super::environment::{known_secrets, search_path};
use super::gate::Circumstances;
use super::live::{Live, StopCause};
use super::prepare::{self, Prepared};
use super::pump::{self, Pumped};
use super::record::{Recorder, to_value};
use super::setup::{Provider, Setup};
use super::submit::{Carry, checked_paths, snapshot_facts, verdict_name};
use super::verdict::{self, Ending, HostSide};
use crate::model::{
    AdapterInfo, ApiError, CapabilitySnapshot, CliMissing, CwdMissing, EndReason, ErrorKind, JobRecord, Metrics,
    NewEvent, Output, Payload, PolicyAudit, RunId, RunRecord, RunStarted, StartPayload, Usage, warning_code,
};
use crate::plugins::ProviderInstance;
use crate::plugins::types as ask;
use crate::plugins::types as plugin;
use crate::redaction::{KnownSecret, Masks, RunRedactor};
use crate::runner::{
    self, Access, Child, PrivateDir, SpawnError, SpawnErrorKind, SpawnLimits, SpawnSpec, Stdin, StopSignal,
};
use crate::storage::{Durability, Started};

/// Delays between tries of a spawn that failed for a reason that passes.
const SPAWN_DELAYS: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(400)];

/// Most bytes of a file that the child left for the plugin.
const MAX_COLLECTED: usize = 8 << 20;

/// A run as storage knows it when its turn comes.
pub(crate) struct Loaded {
    pub(crate) record: RunRecord,
    pub(crate) job: JobRecord,
    pub(crate) carry: Carry,
    pub(crate) payload: StartPayload,
    pub(crate) caller: Option<BTreeMap<String, String>>,
}

impl Loaded {
    pub(crate) fn run(&self) -> RunId {
        self.record.summary.run_id
    }

    /// The session to resume, unless it has turned out to be invalid.
    fn resume(&self) -> Option<&str> {
        let harness = self.payload.harness.as_ref().filter(|_| !self.carry.without_resume)?;
        harness.resume_session_id.as_deref()
    }

    /// What the plugin is to prepare: once the session is known to be gone, the payload does not ask for it any more.
    fn effective(&self) -> StartPayload {
        let mut payload = self.payload.clone();
        if let Some(harness) = payload.harness.as_mut().filter(|_| self.carry.without_resume) {
            harness.resume_session_id = None;
            harness.continue_session = None;
        }
        payload
    }

    pub(crate) fn resumes(&self) -> bool {
        let continues = self.payload.harness.as_ref().and_then(|harness| harness.continue_session) == Some(true);
        !self.carry.without_resume && (continues || self.resume().is_some())
    }
}

/// What is known of an attempt when it has ended.
pub(crate) struct Attempted {
    pub(crate) ending: Ending,
    pub(crate) metrics: Option<Metrics>,
    /// Of this attempt alone.
    pub(crate) usage: Option<Usage>,
    /// The CLI's session at the end.
    pub(crate) session: Option<String>,
    pub(crate) text_told: bool,
}

impl Attempted {
    fn early(ending: Ending) -> Self {
        Self { ending, metrics: None, usage: None, session: None, text_told: false }
    }
}

impl Engine {
    /// Runs one attempt and puts its end on record. Called on the attempt's own thread.
    pub(crate) fn attempt(self: &Arc<Self>, live: &Arc<Live>) {
        let loaded = match self.load(live.run()) {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::error!(run = %live.run(), %error, "a run could not be loaded");
                let ending = Ending::new(EndReason::HostFailed, format!("the run could not be loaded: {error}"));
                self.end_unloaded(live, &ending);
                return;
            }
        };
        let setup = self.setup();
        let recorder = self.recorder(&setup, &loaded, &BTreeMap::new());
        let attempted = catch_unwind(AssertUnwindSafe(|| self.perform(&setup, live, &loaded)));
        let attempted = attempted.unwrap_or_else(|_| {
            tracing::error!(run = %live.run(), "an attempt panicked");
            Attempted::early(Ending::new(EndReason::HostFailed, "a defect in the host ended the attempt; its log says more"))
        });
        self.conclude(live, &loaded, &recorder, attempted);
    }

    fn load(&self, run: RunId) -> Result<Loaded, ApiError> {
        let gone = || ApiError::not_found("run", run);
        let (record, job, carry, seal) = self.storage.read(|reader| {
            Ok((reader.run(run)?, reader.job(run)?, reader.carry(run)?, reader.seal(run)?))
        })?;
        let (record, job) = (record.ok_or_else(gone)?, job.ok_or_else(gone)?);
        let carry = carry.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let (document, caller) = match seal {
            Some(seal) => {
                let sealed = self.sealer.unseal(run, &seal).map_err(|error| ApiError::internal(error.to_string()))?;
                (sealed.payload, sealed.client_environment)
            }
            None if record.sealed_pointers.is_empty() => (record.payload.clone(), None),
            None => {
                let message = format!("the sealed values are gone: {}", record.sealed_pointers.join(", "));
                return Err(ApiError::new(ErrorKind::Conflict, message));
            }
        };
        let payload = StartPayload::parse(document)?;
        Ok(Loaded { record, job, carry, payload, caller })
    }

    /// The recorder of a run whose child gets those variables.
    fn recorder(self: &Arc<Self>, setup: &Setup, loaded: &Loaded, variables: &BTreeMap<String, String>) -> Recorder {
        let mut known = known_secrets(variables, &loaded.payload);
        known.extend(known_secrets(loaded.caller.as_ref().unwrap_or(&BTreeMap::new()), &loaded.payload));
        let masks = Arc::new(Masks::new(known));
        let redactor = RunRedactor::new(Arc::clone(&setup.redactor), masks, self.faults(Some(loaded.run())));
        let conversation = loaded.record.summary.conversation_id;
        Recorder::new(Some(loaded.run()), conversation, redactor)
    }

    fn perform(self: &Arc<Self>, setup: &Arc<Setup>, live: &Arc<Live>, loaded: &Loaded) -> Attempted {
        let began = Instant::now();
        let stage = Stage { engine: self, setup, live, loaded, began };
        match stage.run() {
            Ok(attempted) => attempted,
            Err(Stopped::Ending(ending)) => Attempted::early(ending),
            Err(Stopped::Error(error)) => Attempted::early(ending_of(error)),
        }
    }
}

/// How an attempt ends that never came to run a child, as the error says it.
fn ending_of(error: ApiError) -> Ending {
    let reason = match error.kind {
        ErrorKind::CliMissing => EndReason::CliMissing,
        ErrorKind::CwdMissing => EndReason::CwdMissing,
        ErrorKind::PolicyDenied => EndReason::PolicyDenied,
        ErrorKind::Unenforceable => EndReason::Unenforceable,
        ErrorKind::PluginFailed => EndReason::PluginFailed,
        ErrorKind::InvalidParams => EndReason::Usage,
        ErrorKind::Io | ErrorKind::Internal => EndReason::HostFailed,
        _ => EndReason::Unknown,
    };
    Ending { hint: error.hint, ..Ending::new(reason, error.message) }
}

enum Stopped {
    Ending(Ending),
    Error(ApiError),
}

impl From<ApiError> for Stopped {
    fn from(error: ApiError) -> Self {
        Self::Error(error)
    }
}

impl From<crate::storage::StorageError> for Stopped {
    fn from(error: crate::storage::StorageError) -> Self {
        Self::Error(error.into())
    }
}

/// One attempt under way.
struct Stage<'a> {
    engine: &'a Arc<Engine>,
    setup: &'a Arc<Setup>,
    live: &'a Arc<Live>,
    loaded: &'a Loaded,
    began: Instant,
}

/// All that a spawn needs.
struct Ready {
    prepared: Prepared,
    executable: PathBuf,
    args: Vec<String>,
    environment: BTreeMap<String, String>,
    recorder: Recorder,
    /// Removed with the attempt, and before the private folder, which knows what belongs to them.
    _shims: Option<runner::Shims>,
    private: PrivateDir,
}

impl Stage<'_> {
    fn run(&self) -> Result<Attempted, Stopped> {
        self.check_stop()?;
        let provider = self.setup.provider(&self.loaded.record.summary.provider)?;
        let instance = provider.instance()?;
        let cwd = self.working_folder()?;
        let installed = self.installed(provider)?;
        let snapshot = Arc::clone(&installed.known.snapshot);
        let ready = self.prepare(provider, instance, &snapshot, &cwd, &installed.executable.path)?;
        self.judge(provider, &snapshot, &cwd, &ready)?;
        self.check_stop()?;
        let child = self.spawn(provider, instance, &snapshot, &cwd, &ready)?;
        let spawned = self.began.elapsed();
        let transcript = instance.transcript(&ready.prepared.request, &super::capabilities::for_plugin(&snapshot));
        let transcript = transcript.inspect_err(|error| {
            tracing::error!(run = %self.loaded.run(), %error, "the plugin has no transcript");
        });
        let harness = self.loaded.payload.harness();
        let pumped = pump::pump(pump::Parts {
            run: self.loaded.run(),
            child,
            live: self.live,
            recorder: &ready.recorder,
            storage: &self.engine.storage,
            config: &self.setup.config,
            transcript: transcript.ok(),
            form: ready.prepared.launch.output,
            duplex: ready.prepared.launch.channel == plugin::Channel::Duplex,
            stop: match ready.prepared.launch.stop {
                plugin::StopSignal::Interrupt => StopSignal::Interrupt,
                plugin::StopSignal::Terminate => StopSignal::Terminate,
            },
            max_tool_lines: harness.limits.and_then(|limits| limits.max_tool_result_lines).unwrap_or(0),
            time_limit: Duration::from_millis(self.loaded.payload.timeout_ms()),
        });
        Ok(self.finish(pumped, &ready, spawned))
    }

    fn check_stop(&self) -> Result<(), Stopped> {
        let (reason, message) = match self.live.stop_cause() {
            None => return Ok(()),
            Some(StopCause::Canceled) => (EndReason::Canceled, "the run was canceled before its child was started"),
            Some(StopCause::HostStops) => (EndReason::Interrupted, "the host was stopped"),
        };
        Err(Stopped::Ending(Ending::new(reason, message)))
    }

    /// The folder that was checked when the run was submitted, if it is still that.
    fn working_folder(&self) -> Result<PathBuf, Stopped> {
        let wanted = &self.loaded.record.summary.cwd;
        let found = check::working_folder(wanted).and_then(|found| {
            if found == *wanted {
                return Ok(found);
            }
            let message = format!("the working folder {} leads elsewhere now: {}", wanted.display(), found.display());
            Err(ApiError::new(ErrorKind::CwdMissing, message))
        });
        found.map_err(|error| {
            let path = wanted.clone();
            self.say(&Payload::CwdMissing(CwdMissing { path, message: error.message.clone() }));
            error.into()
        })
    }

    fn installed(&self, provider: &Arc<Provider>) -> Result<super::capabilities::Installed, Stopped> {
        self.engine.installed(self.setup, provider, self.loaded.caller.as_ref()).map_err(|error| {
            if error.kind == ErrorKind::CliMissing {
                let install_hint = error.hint.clone().unwrap_or_default();
                self.say(&Payload::CliMissing(CliMissing { path: error.message.clone(), install_hint }));
            }
            error.into()
        })
    }

    /// Everything short of asking the policies and starting the child.
    fn prepare(
        &self,
        provider: &Provider,
        instance: &ProviderInstance,
        snapshot: &CapabilitySnapshot,
        cwd: &Path,
        executable: &Path,
    ) -> Result<Ready, Stopped> {
        let (engine, loaded, number) = (self.engine, self.loaded, self.loaded.job.attempt);
        let payload = loaded.effective();
        let caller = loaded.caller.as_ref();
        let inherited = prepare::inherited(self.setup, provider, &engine.environment, caller, &payload);
        let recorder = engine.recorder(self.setup, loaded, &inherited);
        let folder = engine.private_dir_of(loaded.run(), number);
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let private = PrivateDir::create(&engine.private_parent(), name).map_err(io_error)?;
        let files = prepare::attachments(&payload).map_err(|message| ApiError::new(ErrorKind::InvalidParams, message))?;
        for (path, bytes) in files {
            private.write(&path, &bytes, Access::Data).map_err(io_error)?;
        }
        let attempt = prepare::Attempt {
            run: loaded.run(),
            number,
            payload: &payload,
            cwd,
            resume: loaded.resume(),
            private_dir: private.path(),
            inherited: &inherited,
        };
        let prepared = prepare::prepare(self.setup, instance, snapshot, &attempt)?;
        self.tell_new_warnings(&recorder, &prepared);

        let mut environment = inherited;
        environment
            .extend(prepared.launch.environment.iter().map(|variable| (variable.name.clone(), variable.value.clone())));
        let path = search_path(&engine.environment, caller, &provider.config.environment).to_owned();
        let (shims, extra) = self.lay_out_shell(&recorder, &payload, &private)?;
        environment.extend(extra);
        let (executable, leading) = match &shims {
            // The child's PATH is a folder of shims: the CLI's own interpreter has to be found before that.
            Some(_) => {
                let launch = runner::resolve_launch(executable, path.as_ref())
                    .map_err(|error| ApiError::new(ErrorKind::CliMissing, error.to_string()))?;
                (launch.executable, launch.leading_args)
            }
            None => (executable.to_owned(), Vec::new()),
        };
        for file in &prepared.launch.files {
            let access = if file.executable { Access::Executable } else { Access::Data };
            private.write(&file.path, &file.contents, access).map_err(io_error)?;
        }
        // The launch's own variables may be secret too.
        let recorder = engine.recorder(self.setup, loaded, &environment);
        let args = leading
            .iter()
            .map(|argument| argument.to_string_lossy().into_owned())
            .chain(prepared.launch.args.iter().cloned())
            .collect();
        refuse_visible_secrets(&args, &known_secrets(&environment, &payload))?;
        Ok(Ready { prepared, executable, args, environment, recorder, _shims: shims, private })
    }

    /// The folder of allowed programs and the script that every shell runs first.
    fn lay_out_shell(
        &self,
        recorder: &Recorder,
        payload: &StartPayload,
        private: &PrivateDir,
    ) -> Result<(Option<runner::Shims>, BTreeMap<String, String>), Stopped> {
        let harness = payload.harness();
        let mut variables = BTreeMap::new();
        let wrong = |block: &str, problems: Vec<runner::ShellProblem>| {
            let problems = problems.into_iter().map(|problem| crate::model::Problem {
                pointer: format!("/harness/{block}{}", problem.pointer),
                message: problem.message,
            });
            ApiError::invalid(problems.collect())
        };
        let shims = match &harness.cli_allowlist {
            Some(allowlist) => {
                let plan = runner::plan_shims(&check::shims(allowlist)).map_err(|found| wrong("cliAllowlist", found))?;
                let shims = plan.write(private).map_err(io_error)?;
                variables.insert("PATH".to_owned(), shims.dir().display().to_string());
                let facts = json!({"folder": shims.dir(), "programs": shims.names()});
                self.output(vec![recorder.progress("cli_allowlist_prepared", facts)]);
                Some(shims)
            }
            None => None,
        };
        let block = harness.shell_prelude.as_ref().map(check::prelude);
        let plan = runner::plan_prelude(block.as_ref(), shims.as_ref().map(runner::Shims::dir))
            .map_err(|found| wrong("shellPrelude", found))?;
        if !plan.is_empty() {
            for (name, value) in plan.write(private).map_err(io_error)? {
                variables.insert(name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned());
            }
            if block.is_some() {
                let names: Vec<&str> = plan.variables().collect();
                self.output(vec![recorder.progress("shell_prelude_prepared", json!({"variables": names}))]);
            }
        }
        Ok((shims, variables))
    }

    /// Warnings that the submit has not told already: the installed CLI may be another by now.
    fn tell_new_warnings(&self, recorder: &Recorder, prepared: &Prepared) {
        let told = &self.loaded.record.warnings;
        let new = prepared.warnings.iter().filter(|warning| {
            !told.iter().any(|known| known.get("pointer").and_then(Value::as_str) == Some(warning.pointer.as_str()))
        });
        self.output(new.map(|warning| recorder.event(&Payload::CompatibilityWarning(warning.clone()))).collect());
    }

    fn judge(&self, provider: &Provider, snapshot: &CapabilitySnapshot, cwd: &Path, ready: &Ready) -> Result<(), Stopped> {
        let launch = &ready.prepared.launch;
        let grants = self.engine.grants()?;
        let document = to_value(&self.loaded.payload);
        let summary = ask::LaunchSummary {
            executable: ready.executable.display().to_string(),
            args: ready.args.clone(),
            environment_names: ready.environment.keys().cloned().collect(),
            cwd: cwd.display().to_string(),
            files: launch
                .files
                .iter()
                .map(|file| ask::LaunchFile {
                    path: ready.private.path().join(&file.path).display().to_string(),
                    text: (file.contents.len() <= 256 << 10)
                        .then(|| String::from_utf8(file.contents.clone()).ok())
                        .flatten(),
                })
                .collect(),
        };
        let origin = self.loaded.record.origin.clone();
        let circumstances = Circumstances {
            run: Some(self.loaded.run()),
            attempt: self.loaded.job.attempt,
            provider: &provider.name,
            plugin: &provider.plugin,
            origin: &origin,
            cwd,
            grants: &grants,
            paths: checked_paths(&self.loaded.payload, &grants),
            profile: self.loaded.payload.profile_id.as_deref(),
            capabilities: snapshot,
            payload: Some(&document),
            tool_calls: 0,
            earlier: &[],
        };
        let ruling = self.setup.gate.judge(&ask::Action::Spawn(summary.clone()), &circumstances);
        let audit = PolicyAudit {
            stage: "spawn".to_owned(),
            verdict: verdict_name(ruling.verdict()).to_owned(),
            provider: provider.name.clone(),
            executable: Some(ready.executable.clone()),
            cwd: Some(cwd.to_owned()),
            args: summary.args,
            environment_names: summary.environment_names,
            origin,
            grant: grants.containing(cwd).map(Path::to_owned),
            profile: self.loaded.payload.profile_id.clone(),
            capabilities: Some(snapshot_facts(snapshot)),
            findings: ruling.findings.clone(),
        };
        self.output(vec![ready.recorder.event(&Payload::PolicyAudit(audit))]);
        ruling.permit().map_err(Stopped::from)
    }

    /// Starts the child. Its identity is on the disk before it runs, so that a later host can find it.
    fn spawn(
        &self,
        provider: &Provider,
        instance: &ProviderInstance,
        snapshot: &CapabilitySnapshot,
        cwd: &Path,
        ready: &Ready,
    ) -> Result<Child, Stopped> {
        let launch = &ready.prepared.launch;
        let stdin = match launch.channel {
            plugin::Channel::Pipes => Stdin::Bytes(launch.stdin.clone().unwrap_or_default()),
            plugin::Channel::Duplex => Stdin::Open,
            plugin::Channel::Pty => {
                let message = format!("plugin {} wants a terminal, which this version has not", provider.plugin);
                return Err(ApiError::new(ErrorKind::PluginFailed, message).into());
            }
        };
        let number = self.loaded.job.attempt;
        let spec = SpawnSpec {
            executable: ready.executable.clone(),
            args: ready.args.iter().map(OsString::from).collect(),
            environment: ready.environment.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            cwd: cwd.to_owned(),
            marker: format!("{}-{number}", self.loaded.run()),
            stdin,
            limits: SpawnLimits { linger: self.setup.config.runner.exit_grace(), ..SpawnLimits::default() },
        };
        let started = RunStarted {
            provider: provider.name.clone(),
            attempt: number,
            pid: 0,
            adapter: AdapterInfo {
                name: provider.plugin.clone(),
                version: instance.plugin().version,
                digest: instance.plugin().digest,
            },
            cli_version: snapshot.cli_version.clone(),
            output: match launch.output {
                plugin::OutputForm::Lines => Output::Lines,
                plugin::OutputForm::Text => Output::Text,
            },
        };
        self.output(vec![ready.recorder.progress("spawn_preparing", json!({"attempt": number}))]);
        let mut delays = SPAWN_DELAYS.iter();
        let mut told = false;
        loop {
            let spawned = self.try_to_spawn(&spec, &started, ready, &mut told);
            let error = match spawned {
                Ok(child) => return Ok(child),
                Err(SpawnFailure::Stopped(stopped)) => return Err(stopped),
                Err(SpawnFailure::Spawn(error)) => error,
            };
            let Some(delay) = delays.next().filter(|_| error.is_transient()) else {
                return Err(self.spawn_failed(&error, cwd, ready));
            };
            let facts = json!({"delayMs": u64::try_from(delay.as_millis()).unwrap_or(0)});
            self.output(vec![ready.recorder.warning(warning_code::SPAWN_RETRY, error.message, facts)]);
            std::thread::sleep(*delay);
            self.check_stop()?;
        }
    }

    fn try_to_spawn(
        &self,
        spec: &SpawnSpec,
        started: &RunStarted,
        ready: &Ready,
        told: &mut bool,
    ) -> Result<Child, SpawnFailure> {
        let prepared = self.engine.zygote.prepare(spec).map_err(SpawnFailure::Spawn)?;
        let identity = prepared.identity();
        let pid = u32::try_from(identity.pid).unwrap_or_default();
        let event = ready.recorder.event(&Payload::RunStarted(RunStarted { pid, ..started.clone() }));
        let event = (!std::mem::replace(told, true)).then_some(event);
        let start = Started { attempt: started.attempt, at: Timestamp::now(), process: serde_json::to_string(identity).ok() };
        let run = self.loaded.run();
        // Not urgent: what was told before must come before it.
        let write = self.engine.storage.write(Durability::Full, move |tx| {
            let goes_on = tx.set_running(run, &start)?;
            if goes_on && let Some(event) = &event {
                tx.append_event(event)?;
            }
            Ok(goes_on)
        });
        let goes_on = write.wait().map_err(|error| SpawnFailure::Stopped(error.into()))?;
        if !goes_on {
            let ending = Ending::new(EndReason::Canceled, "the run had ended before its child was started");
            return Err(SpawnFailure::Stopped(Stopped::Ending(ending)));
        }
        prepared.start().map_err(SpawnFailure::Spawn)
    }

    fn spawn_failed(&self, error: &SpawnError, cwd: &Path, ready: &Ready) -> Stopped {
        let message = format!("the child could not be started: {error}");
        match error.kind {
            SpawnErrorKind::NotFound => {
                let path = ready.executable.display().to_string();
                self.say(&Payload::CliMissing(CliMissing { path, install_hint: error.message.clone() }));
                Stopped::Ending(Ending::new(EndReason::CliMissing, message))
            }
            SpawnErrorKind::BadCwd => {
                self.say(&Payload::CwdMissing(CwdMissing { path: cwd.to_owned(), message: error.message.clone() }));
                Stopped::Ending(Ending::new(EndReason::CwdMissing, message))
            }
            SpawnErrorKind::NotExecutable => Stopped::Ending(Ending::new(EndReason::CliMissing, message)),
            _ => Stopped::Ending(Ending::new(EndReason::SpawnFailed, message)),
        }
    }

    /// What the plugin and the host make of it.
    fn finish(&self, pumped: Pumped, ready: &Ready, spawned: Duration) -> Attempted {
        let exit = pumped.exit.status;
        let outcome = pumped.transcript.and_then(|mut transcript| {
            let files = self.collect(ready);
            transcript.finish(exit_status(exit, pumped.side), &files).map_err(|error| error.to_string())
        });
        let harness = self.loaded.payload.harness();
        let ending = verdict::conclude(
            pumped.side,
            exit,
            outcome,
            harness.structured_output.as_ref(),
            pumped.kept_text,
            pumped.narrator.rate_limit(),
        );
        let session = pumped.narrator.session().cloned();
        if session.as_ref().is_some_and(|session| session.origin == plugin::SessionOrigin::Replaced) {
            let message = "the CLI began a new session in place of the one that was to be resumed";
            self.output(vec![ready.recorder.warning(warning_code::SESSION_REPLACED, message, Value::Null)]);
        }
        let usage = pumped.narrator.usage().map(|total| self.own_usage(total, session.as_ref()));
        let millis = |duration: Duration| duration.as_secs_f64() * 1000.0;
        let queued_at = self.loaded.job.not_before.unwrap_or(self.loaded.job.enqueued_at);
        let queue_ms = Timestamp::now().duration_since(queued_at).as_secs_f64() * 1000.0 - millis(self.began.elapsed());
        let metrics = Metrics {
            attempt: self.loaded.job.attempt,
            stdout: pumped.stdout,
            stderr: pumped.stderr,
            events: pumped.events,
            tool_calls: pumped.narrator.tool_calls(),
            usage: usage.clone(),
            queue_ms: queue_ms.max(0.0),
            spawn_ms: millis(spawned),
            first_byte_ms: pumped.first_byte.map(millis),
            run_ms: millis(pumped.ran),
            peak_memory_bytes: Some(pumped.exit.usage.peak_rss).filter(|bytes| *bytes > 0),
            cpu_ms: Some(millis(pumped.exit.usage.user + pumped.exit.usage.system)),
        };
        let told_text = pumped.narrator.text_told() || ending.final_text.as_ref().is_some_and(|text| !text.trim().is_empty());
        Attempted {
            ending,
            metrics: Some(metrics),
            usage,
            session: session.map(|session| session.id),
            text_told: told_text,
        }
    }

    fn collect(&self, ready: &Ready) -> Vec<plugin::CollectedFile> {
        let collected = ready.prepared.launch.collect.iter().map(|path| {
            let found = ready.private.collect(path, MAX_COLLECTED).unwrap_or_else(|error| {
                tracing::warn!(run = %self.loaded.run(), path, %error, "a file of the child was not read");
                None
            });
            let truncated = found.as_ref().is_some_and(|found| found.truncated);
            plugin::CollectedFile { path: path.clone(), contents: found.map(|found| found.content), truncated }
        });
        collected.collect()
    }

    fn own_usage(&self, total: &plugin::Usage, session: Option<&plugin::SessionInfo>) -> Usage {
        let resumed = session.is_some_and(|session| {
            matches!(session.origin, plugin::SessionOrigin::Resumed | plugin::SessionOrigin::Forked)
        });
        let earlier = session.filter(|_| resumed && total.whole_session).map(|session| {
            let provider = &self.loaded.record.summary.provider;
            // A fork has a new id; its history is that of the session that was asked for.
            let id = self.loaded.resume().filter(|_| session.origin == plugin::SessionOrigin::Forked).unwrap_or(&session.id);
            self.engine.storage.read(|reader| reader.session_usage(provider, id, Some(self.loaded.run())))
        });
        verdict::own_usage(total, resumed, &earlier.and_then(Result::ok).unwrap_or_default())
    }

    /// An event that no child's variables can show up in.
    fn say(&self, payload: &Payload) {
        let recorder = self.engine.recorder(self.setup, self.loaded, &BTreeMap::new());
        self.output(vec![recorder.event(payload)]);
    }

    fn output(&self, events: Vec<NewEvent>) {
        if !events.is_empty() {
            drop(self.engine.storage.append(events));
        }
    }
}

enum SpawnFailure {
    Spawn(SpawnError),
    Stopped(Stopped),
}

fn io_error(error: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorKind::Io, error.to_string())
}

const fn exit_status(status: runner::ExitStatus, side: HostSide) -> plugin::ExitStatus {
    let (code, signal) = match status {
        runner::ExitStatus::Code(code) => (Some(code), None),
        runner::ExitStatus::Signal(signal) => (None, Some(signal)),
        runner::ExitStatus::Unknown => (None, None),
    };
    plugin::ExitStatus {
        code,
        signal,
        timed_out: matches!(side, HostSide::TimedOut),
        canceled: matches!(side, HostSide::Canceled | HostSide::HostStops),
    }
}

/// Arguments can be read by every process of the machine: a value that the host knows to be secret must not be there.
fn refuse_visible_secrets(args: &Vec<String>, known: &[KnownSecret]) -> Result<(), ApiError> {
    let shows = |secret: &&KnownSecret| {
        secret.value.len() >= crate::redaction::MIN_KNOWN_LENGTH
            && args.iter().any(|argument| argument.contains(secret.value.as_str()))
    };
    let Some(secret) = known.iter().find(shows) else { return Ok(()) };
    let message = format!("the command line would show the value of {} to every process of the machine", secret.name);
    Err(ApiError::new(ErrorKind::PolicyDenied, message).hint("hand it over in the prompt or in a variable instead"))
}
