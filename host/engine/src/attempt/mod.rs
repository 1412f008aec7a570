//! One attempt of a run, from its slot to its end: sequential code on a thread of its own.

pub(crate) mod answer;
pub(crate) mod conclude;
pub(crate) mod environment;
pub(crate) mod event_sink;
pub(crate) mod event_translator;
pub(crate) mod hold;
pub(crate) mod launch;
pub(crate) mod line_decoder;
pub(crate) mod load;
pub(crate) mod outcome;
pub(crate) mod output_loop;
pub(crate) mod prepare;
pub(crate) mod private_folders;
pub(crate) mod retry;
pub(crate) mod retry_state;
pub(crate) mod terminal_output;
mod thread_class;
pub(crate) mod tool_use;
pub(crate) mod work;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::attempt::conclude::RunFinalizer;
use crate::attempt::environment::{known_secrets, open_values};
use crate::attempt::launch::PreparedLaunch;
use crate::attempt::load::{LoadedRun, RunLoader};
use crate::attempt::outcome::{AttemptOutcome, StopReason};
use crate::attempt::output_loop::{Fallback, Interaction, OutputLoopParts, OutputResult};
use crate::attempt::private_folders::PrivateFolders;
use crate::attempt::tool_use::ToolUses;
use crate::audit::AuditLog;
use crate::capabilities::{Capabilities, Installed, for_plugin};
use crate::grants::GrantStore;
use crate::queue::active_run::{ActiveRun, StopCause};
use crate::record::Recorder;
use crate::redactors::Redactors;
use crate::sandbox::SandboxService;
use crate::session::approvals::Approvals;
use crate::setup::{ActiveConfig, CurrentConfig, Provider};
use crate::submit::check;
use ostler_config::Paths;
use ostler_plugin_host::types as plugin;
use ostler_protocol::{
    ApiError, ApprovalPolicy, CliMissing, CwdMissing, EndReason, ErrorKind, Metrics, NewEvent, Payload, RunMode,
    StartPayload, Usage, WarningCode,
};
use ostler_redaction::{FaultSink, Masks, RunRedactor};
use ostler_runner::{Prepared, SpawnError, SpawnSpec, StopSignal};
use ostler_storage::{Storage, StorageError};

/// Maximum size of a file that the child wrote for the plugin.
const MAX_COLLECTED: usize = 8 << 20;

/// The result of an attempt.
pub(crate) struct Attempted {
    pub(crate) ending: AttemptOutcome,
    pub(crate) metrics: Option<Metrics>,
    /// The usage of this attempt alone.
    pub(crate) usage: Option<Usage>,
    /// The CLI's session at the end.
    pub(crate) session: Option<String>,
    /// Whether the agent has printed any text.
    pub(crate) has_text: bool,
}

impl Attempted {
    fn early(ending: AttemptOutcome) -> Self {
        Self { ending, metrics: None, usage: None, session: None, has_text: false }
    }
}

/// Creates a child that waits for its start.
pub(crate) type PrepareChild = dyn Fn(&SpawnSpec) -> Result<Prepared, SpawnError> + Send + Sync;

/// What an attempt uses between its load and its end.
pub(crate) struct AttemptServices {
    pub(crate) storage: Storage,
    pub(crate) paths: Paths,
    pub(crate) private_folders: PrivateFolders,
    pub(crate) grants: GrantStore,
    pub(crate) capabilities: Arc<Capabilities>,
    pub(crate) sandbox: Arc<SandboxService>,
    pub(crate) audit: Arc<AuditLog>,
    pub(crate) approvals: Approvals,
    /// The environment of the host.
    pub(crate) environment: Arc<BTreeMap<String, String>>,
    pub(crate) prepare_child: Box<PrepareChild>,
}

/// Runs attempts.
pub(crate) struct AttemptRunner {
    pub(crate) config: CurrentConfig,
    pub(crate) redactors: Redactors,
    pub(crate) loader: RunLoader,
    pub(crate) finalizer: Arc<RunFinalizer>,
    pub(crate) services: AttemptServices,
}

impl AttemptRunner {
    /// Runs one attempt and records its end. Called on the attempt's own thread.
    pub(crate) fn run(&self, active_run: &Arc<ActiveRun>) {
        thread_class::restore();
        self.attempt(active_run);
        thread_class::give_way();
    }

    fn attempt(&self, active_run: &Arc<ActiveRun>) {
        let active = self.config.load();
        let loaded = match self.loader.load(active_run.run(), &active) {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::error!(run = %active_run.run(), %error, "a run could not be loaded");
                let ending =
                    AttemptOutcome::new(EndReason::HostFailed, format!("the run could not be loaded: {error}"));
                self.finalizer.end_unloaded(active_run, &ending);
                return;
            }
        };
        // One sink for all redactors of this attempt, so that a fault is reported once.
        let faults = self.redactors.faults(Some(loaded.run()));
        let recorder = recorder(&active, &loaded, &self.inherited(&active, &loaded), &faults);
        let (child_recorder, began) = (OnceCell::new(), Instant::now());
        let stage = AttemptContext {
            services: &self.services,
            active: &active,
            active_run,
            loaded: &loaded,
            recorder: &recorder,
            child_recorder: &child_recorder,
            faults: &faults,
            began,
        };
        let attempted = catch_unwind(AssertUnwindSafe(|| stage.perform()));
        let attempted = attempted.unwrap_or_else(|_| {
            tracing::error!(run = %active_run.run(), "an attempt panicked");
            Attempted::early(AttemptOutcome::new(
                EndReason::HostFailed,
                "a defect in the host ended the attempt; its log says more",
            ))
        });
        // This recorder masks every value that the child was given, so its output must go through it.
        let recorder = child_recorder.get().unwrap_or(&recorder);
        let concluded =
            catch_unwind(AssertUnwindSafe(|| self.finalizer.conclude(active_run, &loaded, recorder, attempted)));
        if concluded.is_err() {
            // The slot must be released, and a caller that cancels the run must not wait for ever.
            tracing::error!(run = %active_run.run(), "the end of an attempt panicked");
            let ending =
                AttemptOutcome::new(EndReason::HostFailed, "a defect in the host ended the run; its log says more");
            self.finalizer.end_unloaded(active_run, &ending);
        }
    }

    /// The variables that the child of a run inherits. None if its provider no longer exists: then there is no child.
    fn inherited(&self, active: &ActiveConfig, loaded: &LoadedRun) -> BTreeMap<String, String> {
        let provider = active.provider(&loaded.record.summary.provider);
        provider.map_or_else(
            |_| BTreeMap::new(),
            |provider| {
                let caller = loaded.caller.as_ref();
                prepare::inherited(
                    active,
                    provider,
                    &self.services.environment,
                    caller,
                    loaded.token(),
                    &loaded.payload,
                )
            },
        )
    }
}

/// The recorder of a run whose child gets those variables.
fn recorder(
    active: &ActiveConfig,
    loaded: &LoadedRun,
    variables: &BTreeMap<String, String>,
    faults: &Arc<dyn FaultSink>,
) -> Recorder {
    let mut known = known_secrets(variables, &loaded.payload);
    known.extend(known_secrets(loaded.caller.as_ref().unwrap_or(&BTreeMap::new()), &loaded.payload));
    known.extend(loaded.known_tokens.iter().cloned());
    known.extend(loaded.removed.iter().cloned());
    let masks = Arc::new(Masks::with_open(known, &open_values(variables)));
    let redactor = RunRedactor::new(Arc::clone(&active.redactor), masks, Arc::clone(faults));
    let conversation = loaded.record.summary.conversation_id;
    Recorder::new(Some(loaded.run()), conversation, redactor)
}

/// The outcome of an attempt that failed with this error before its child was started.
fn ending_of(error: ApiError) -> AttemptOutcome {
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
    AttemptOutcome { hint: error.hint, ..AttemptOutcome::new(reason, error.message) }
}

pub(crate) enum Stopped {
    Ending(AttemptOutcome),
    Error(ApiError),
}

impl From<ApiError> for Stopped {
    fn from(error: ApiError) -> Self {
        Self::Error(error)
    }
}

impl From<StorageError> for Stopped {
    fn from(error: StorageError) -> Self {
        Self::Error(error.into())
    }
}

/// One attempt in progress.
pub(crate) struct AttemptContext<'a> {
    pub(crate) services: &'a AttemptServices,
    pub(crate) active: &'a Arc<ActiveConfig>,
    active_run: &'a Arc<ActiveRun>,
    pub(crate) loaded: &'a LoadedRun,
    /// Masks the variables that the child inherits.
    pub(crate) recorder: &'a Recorder,
    /// Masks also the variables that the plugin adds, once they are known.
    child_recorder: &'a OnceCell<Recorder>,
    faults: &'a Arc<dyn FaultSink>,
    began: Instant,
}

impl AttemptContext<'_> {
    /// The recorder that masks all variables of the child. The first call sets the variables.
    pub(crate) fn recorder_of_child(&self, environment: &BTreeMap<String, String>) -> Recorder {
        self.child_recorder.get_or_init(|| recorder(self.active, self.loaded, environment, self.faults)).clone()
    }

    fn perform(&self) -> Attempted {
        match self.run() {
            Ok(attempted) => attempted,
            Err(Stopped::Ending(ending)) => Attempted::early(ending),
            Err(Stopped::Error(error)) => Attempted::early(ending_of(error)),
        }
    }

    fn run(&self) -> Result<Attempted, Stopped> {
        self.check_stop()?;
        self.active.check_redactors()?;
        let provider = self.active.provider(&self.loaded.record.summary.provider)?;
        let instance = provider.instance()?;
        if let Err(error) = &self.loaded.token {
            // Without the token, the CLI might use another login.
            let ending = AttemptOutcome::new(EndReason::Authentication, error.message.clone());
            return Err(Stopped::Ending(AttemptOutcome { hint: error.hint.clone(), ..ending }));
        }
        let cwd = self.working_folder()?;
        let installed = self.installed(provider)?;
        let snapshot = Arc::clone(&installed.known.snapshot);
        let folders = self
            .services
            .sandbox
            .check_folders(&self.loaded.payload, &cwd)
            .inspect_err(|error| self.report_missing(&cwd, error))?;
        let ready = self.prepare(provider, instance, &snapshot, folders, &installed.executable.path)?;
        let grants = self.services.grants.for_policies()?;
        let question = self.judge(self.question(provider, &snapshot, &cwd, &ready, &grants)?, &ready)?;
        self.check_stop()?;
        let (child, proxy) = self.spawn(provider, instance, &snapshot, &cwd, &ready)?;
        let spawned = self.began.elapsed();
        let transcript = instance.transcript(&ready.prepared.request, &for_plugin(&snapshot));
        let harness = self.loaded.payload.harness();
        let channel = ready.prepared.launch.channel;
        let is_session = self.is_session();
        let asks = channel == plugin::Channel::Duplex && (is_session || ready.prepared.asks);
        let output = output_loop::run(OutputLoopParts {
            run: self.loaded.run(),
            child,
            active_run: self.active_run,
            recorder: &ready.recorder,
            storage: &self.services.storage,
            config: &self.active.config,
            transcript,
            tools: ToolUses::new(
                &self.active.gate,
                question,
                &ready.recorder,
                self.active.config.policy.reported_tools,
                asks,
            ),
            form: ready.prepared.launch.output,
            channel,
            stop: match ready.prepared.launch.stop {
                plugin::StopSignal::Interrupt => StopSignal::Interrupt,
                plugin::StopSignal::Terminate => StopSignal::Terminate,
            },
            max_tool_lines: harness.limits.and_then(|limits| limits.max_tool_result_lines).unwrap_or(0),
            time_limit: self.time_limit(),
            interaction: Interaction {
                approvals: &self.services.approvals,
                audit: &self.services.audit,
                provider: &provider.name,
                cwd: &cwd,
                fallback: if asks { fallback(&self.loaded.payload) } else { Fallback::Deny },
                approval_limit: Duration::from_secs(self.active.config.policy.approval_timeout_seconds),
                idle_limit: is_session.then(|| self.idle_limit()),
            },
        });
        // Its last events must come before the end of the run.
        if let Some(proxy) = proxy {
            proxy.close();
        }
        self.report_created_files(&ready);
        Ok(self.finish(output, &ready, spawned))
    }

    fn is_session(&self) -> bool {
        self.loaded.payload.mode == Some(RunMode::Interactive)
    }

    /// How long the attempt may take. The time limit of the payload of a session is that of its idle time.
    fn time_limit(&self) -> Duration {
        if !self.is_session() {
            return Duration::from_millis(self.loaded.payload.timeout_ms());
        }
        let limits = self.loaded.payload.harness().limits;
        let given = limits.and_then(|limits| limits.timeout_ms).map(Duration::from_millis);
        given.unwrap_or_else(|| Duration::from_secs(self.active.config.runner.session_seconds))
    }

    /// How long a session may be idle.
    fn idle_limit(&self) -> Duration {
        let given = self.loaded.payload.timeout_seconds;
        Duration::from_secs(given.unwrap_or(self.active.config.runner.session_idle_seconds))
    }

    pub(crate) fn check_stop(&self) -> Result<(), Stopped> {
        let (reason, message) = match self.active_run.stop_cause() {
            None => return Ok(()),
            Some(StopCause::Canceled) => (EndReason::Canceled, "the run was canceled before its child was started"),
            Some(StopCause::HostStops) => (EndReason::Interrupted, "the host was stopped"),
        };
        Err(Stopped::Ending(AttemptOutcome::new(reason, message)))
    }

    /// The folder that was checked when the run was submitted, if it still resolves to the same path.
    fn working_folder(&self) -> Result<PathBuf, Stopped> {
        let wanted = self.loaded.payload.cwd.as_ref().unwrap_or(&self.loaded.record.summary.cwd);
        let found = check::working_folder(wanted).and_then(|found| {
            if found == *wanted {
                return Ok(found);
            }
            let message = format!("the working folder {} leads elsewhere now: {}", wanted.display(), found.display());
            Err(ApiError::new(ErrorKind::CwdMissing, message))
        });
        found.map_err(|error| {
            self.report_missing(wanted, &error);
            error.into()
        })
    }

    fn report_missing(&self, folder: &Path, error: &ApiError) {
        if error.kind == ErrorKind::CwdMissing {
            let path = folder.to_owned();
            self.store(&Payload::CwdMissing(CwdMissing { path, message: error.message.clone() }));
        }
    }

    /// Reports protected files that the run has created: a file that does not exist cannot be protected by a mount.
    fn report_created_files(&self, ready: &PreparedLaunch) {
        let now = |path: &Path| std::fs::symlink_metadata(path).ok().map(|_| std::fs::read_link(path).ok());
        let made = ready
            .unprotected
            .iter()
            .filter(|(path, before)| now(path).is_some_and(|now| now.is_none() || now != *before));
        let events = made.map(|(path, _)| {
            let message = format!(
                "the run made or replaced {}, which other programs may obey: look at it before you start them here",
                path.display()
            );
            ready.recorder.warning(WarningCode::ProtectedFileMade, message, json!({"path": path}))
        });
        self.store_all(events.collect());
    }

    fn installed(&self, provider: &Arc<Provider>) -> Result<Installed, Stopped> {
        self.services.capabilities.installed(self.active, provider, self.loaded.caller.as_ref()).map_err(|error| {
            if error.kind == ErrorKind::CliMissing {
                let install_hint = error.hint.clone().unwrap_or_default();
                self.store(&Payload::CliMissing(CliMissing { path: error.message.clone(), install_hint }));
            }
            error.into()
        })
    }

    /// The result of the attempt, according to the plugin and the host.
    fn finish(&self, output: OutputResult, ready: &PreparedLaunch, spawned: Duration) -> Attempted {
        let exit = output.exit.status;
        let known_exit = if output.ended_on_request { ostler_runner::ExitStatus::Unknown } else { exit };
        let outcome = output.transcript.and_then(|mut transcript| {
            let files = self.collect(ready);
            transcript
                .finish(exit_status(known_exit, &output.stop_reason, output.cut_short), &files)
                .map_err(|error| error.to_string())
        });
        let harness = self.loaded.payload.harness();
        let (ended, limit) = (Instant::now(), self.time_limit());
        // Work that was complete in time is not late if its CLI was waited for, or if a user was asked.
        let in_time = self.is_session() || output.stop_reason == StopReason::WorkDone || output.user_asked;
        let ran = if in_time { Duration::ZERO } else { output.ran };
        let interrupted = || {
            let late = || (ran + ended.elapsed() > limit).then_some(StopReason::TimedOut);
            self.active_run.stop_cause().map(StopReason::from).or_else(late)
        };
        let on_stdout = output.printed.is_some();
        let mut ending = outcome::conclude(
            output.stop_reason,
            exit,
            outcome,
            harness.structured_output.as_ref(),
            output.printed,
            output.translator.rate_limit(),
            &interrupted,
        );
        let session = output.translator.session().cloned();
        if session.as_ref().is_some_and(|session| session.origin == plugin::SessionOrigin::Replaced) {
            let message = "the CLI started a new session instead of resuming the given one";
            self.store_all(vec![ready.recorder.warning(WarningCode::SessionReplaced, message, Value::Null)]);
            if ending.reason == EndReason::Completed && self.loaded.names_session() {
                ending = AttemptOutcome { reason: EndReason::ResumeInvalid, message: message.to_owned(), ..ending };
            }
        }
        if ending.reason == EndReason::Timeout {
            ending.message = format!("time limit of {} s exceeded", limit.as_secs_f64());
        }
        let usage = output.translator.usage().map(|total| self.own_usage(total, session.as_ref()));
        let millis = |duration: Duration| duration.as_secs_f64() * 1000.0;
        let metrics = Metrics {
            attempt: self.loaded.job.attempt,
            stdout: output.stdout,
            stderr: output.stderr,
            events: output.events,
            tool_calls: output.translator.tool_calls(),
            usage: usage.clone(),
            queue_ms: millis(self.active_run.waited()),
            spawn_ms: millis(spawned),
            first_byte_ms: output.first_byte.map(millis),
            run_ms: millis(output.ran),
            peak_memory_bytes: Some(output.exit.usage.peak_rss).filter(|bytes| *bytes > 0),
            cpu_ms: Some(millis(output.exit.usage.user + output.exit.usage.system)),
        };
        // If standard output is the answer, the outcome already says whether no text is acceptable. In a terminal, there is no
        // answer.
        let has_text = on_stdout
            || ready.prepared.launch.channel == plugin::Channel::Pty
            || output.translator.has_text()
            || ending.final_text.as_ref().is_some_and(|text| !text.trim().is_empty());
        Attempted { ending, metrics: Some(metrics), usage, session: session.map(|session| session.id), has_text }
    }

    fn collect(&self, ready: &PreparedLaunch) -> Vec<plugin::CollectedFile> {
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
            let id =
                self.loaded.resume().filter(|_| session.origin == plugin::SessionOrigin::Forked).unwrap_or(&session.id);
            self.services.storage.read(|reader| reader.session_usage(provider, id, Some(self.loaded.run())))
        });
        outcome::own_usage(total, resumed, &earlier.and_then(Result::ok).unwrap_or_default())
    }

    /// Stores an event before the plugin has prepared the launch.
    pub(crate) fn store(&self, payload: &Payload) {
        self.store_all(vec![self.recorder.event(payload)]);
    }

    pub(crate) fn store_all(&self, events: Vec<NewEvent>) {
        if !events.is_empty() {
            drop(self.services.storage.append(events));
        }
    }
}

/// What is decided about requests of the CLI that no policy has decided.
fn fallback(payload: &StartPayload) -> Fallback {
    let interactive = payload.mode == Some(RunMode::Interactive);
    let permissions = payload.harness().permissions.unwrap_or_default();
    if permissions.auto_approve == Some(true) {
        return Fallback::Allow { interactive };
    }
    match permissions.approval_policy {
        Some(ApprovalPolicy::Never) => Fallback::NoQuestions,
        Some(ApprovalPolicy::Untrusted | ApprovalPolicy::OnFailure | ApprovalPolicy::OnRequest) => Fallback::AskUser,
        None if interactive => Fallback::AskUser,
        None => Fallback::NoQuestions,
    }
}

/// The exit status for the plugin. `cut_short` is true if the host has ended the child.
const fn exit_status(status: ostler_runner::ExitStatus, reason: &StopReason, cut_short: bool) -> plugin::ExitStatus {
    let (code, signal) = match status {
        // The host has ended the child: its status is not that of the work.
        _ if matches!(reason, StopReason::WorkDone | StopReason::SessionEnded) => (None, None),
        ostler_runner::ExitStatus::Code(code) => (Some(code), None),
        ostler_runner::ExitStatus::Signal(signal) => (None, Some(signal)),
        ostler_runner::ExitStatus::Unknown => (None, None),
    };
    plugin::ExitStatus {
        code,
        signal,
        timed_out: matches!(reason, StopReason::TimedOut),
        canceled: match reason {
            StopReason::Canceled | StopReason::HostStops => true,
            StopReason::Denied(_) | StopReason::Unreadable | StopReason::Unresponsive(_) => cut_short,
            StopReason::Nothing
            | StopReason::TimedOut
            | StopReason::StorageFailed
            | StopReason::WorkDone
            | StopReason::SessionEnded => false,
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::attempt::outcome::Denial;
    use crate::test_support::{Fixture, Services, start_next_run};
    use ostler_protocol::{EventType, RunId, RunStatus};
    use ostler_runner::SpawnErrorKind;

    /// A queued run of the provider `mine`, and what runs its attempts. No child is ever created: `kind` is the error.
    struct Attempt {
        fixture: Fixture,
        services: Services,
        runner: AttemptRunner,
        run: RunId,
    }

    fn attempt(kind: SpawnErrorKind) -> Attempt {
        let fixture = Fixture::with_program("");
        let services = Services::new(&fixture);
        let folder = fixture.make_folder("work");
        services.grants.grant(&folder, None).unwrap();
        let request = json!({"provider": "mine", "prompt": "do it", "cwd": folder});
        let run = services.submitter(&fixture).start_run(request, "test").unwrap().run_id;
        std::fs::create_dir_all(fixture.paths().data_dir).unwrap();
        let runner = AttemptRunner {
            config: fixture.config.clone(),
            redactors: fixture.redactors.clone(),
            loader: services.loader(&fixture),
            finalizer: Arc::clone(&services.finalizer),
            services: AttemptServices {
                storage: fixture.storage.clone(),
                paths: fixture.paths(),
                private_folders: services.private_folders.clone(),
                grants: services.grants.clone(),
                capabilities: Arc::clone(&services.capabilities),
                sandbox: Arc::clone(&services.sandbox),
                audit: Arc::clone(&services.audit),
                approvals: Approvals::default(),
                environment: Arc::default(),
                prepare_child: Box::new(move |_| Err(SpawnError { kind, message: "no child".to_owned() })),
            },
        };
        Attempt { fixture, services, runner, run }
    }

    impl Attempt {
        /// Runs the attempt, and returns why the run has ended.
        fn end(&self) -> Option<EndReason> {
            let active_run = start_next_run(&self.services.dispatcher);
            assert_eq!(active_run.run(), self.run);
            self.runner.run(&active_run);
            self.fixture.end_reason_of(self.run)
        }

        fn events(&self) -> Vec<EventType> {
            self.fixture.events_of(self.run).into_iter().map(|event| event.kind).collect()
        }
    }

    #[test]
    fn program_that_is_missing_at_the_spawn_ends_the_run_and_leaves_no_private_folder() {
        let attempt = attempt(SpawnErrorKind::NotFound);
        assert_eq!(attempt.end(), Some(EndReason::CliMissing));
        assert!(attempt.events().contains(&EventType::CliMissing), "{:?}", attempt.events());
        assert!(!attempt.services.private_folders.path_of(attempt.run, 1).exists());
        assert!(attempt.services.dispatcher.close_if_idle());
    }

    #[test]
    fn sandbox_that_cannot_be_created_ends_the_run_as_unenforceable() {
        assert_eq!(attempt(SpawnErrorKind::SandboxUnavailable).end(), Some(EndReason::Unenforceable));
    }

    #[test]
    fn working_folder_that_has_disappeared_ends_the_run_before_the_spawn() {
        let attempt = attempt(SpawnErrorKind::Other);
        std::fs::remove_dir(attempt.fixture.folder().join("work")).unwrap();
        assert_eq!(attempt.end(), Some(EndReason::CwdMissing));
        assert!(attempt.events().contains(&EventType::CwdMissing), "{:?}", attempt.events());
    }

    #[test]
    fn grant_that_was_revoked_while_the_run_waited_denies_it() {
        let attempt = attempt(SpawnErrorKind::Other);
        attempt.services.grants.revoke(&attempt.fixture.folder().join("work")).unwrap();
        assert_eq!(attempt.end(), Some(EndReason::PolicyDenied));
    }

    #[test]
    fn run_that_was_canceled_before_its_attempt_is_not_prepared() {
        let attempt = attempt(SpawnErrorKind::Other);
        let active_run = start_next_run(&attempt.services.dispatcher);
        active_run.stop(StopCause::Canceled);
        attempt.runner.run(&active_run);
        assert_eq!(active_run.wait(), RunStatus::Canceled);
        assert_eq!(attempt.fixture.end_reason_of(attempt.run), Some(EndReason::Canceled));
    }

    #[test]
    fn run_whose_sealed_values_cannot_be_read_ends_as_a_failure_of_the_host() {
        let attempt = attempt(SpawnErrorKind::Other);
        let run = attempt.run;
        attempt.fixture.write(move |tx| tx.put_seal(run, b"damaged"));
        assert_eq!(attempt.end(), Some(EndReason::HostFailed));
    }

    #[test]
    fn denial_is_a_cancel_for_the_plugin_only_if_the_host_has_ended_the_child() {
        let denied = StopReason::Denied(Denial { message: String::new(), hint: None });
        let canceled = |reason: &StopReason, cut_short| {
            exit_status(ostler_runner::ExitStatus::Code(0), reason, cut_short).canceled
        };
        assert!(canceled(&denied, true) && !canceled(&denied, false));
        assert!(canceled(&StopReason::Canceled, true) && !canceled(&StopReason::Nothing, false));
    }
}
