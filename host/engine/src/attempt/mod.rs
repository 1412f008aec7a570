//! One attempt of a run, from its slot to its end: straight-line code on a thread of its own.

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
pub(crate) mod retry;
pub(crate) mod retry_state;
pub(crate) mod tool_use;
pub(crate) mod work;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Engine;
use crate::attempt::environment::{known_secrets, open_values};
use crate::attempt::launch::PreparedLaunch;
use crate::attempt::load::LoadedRun;
use crate::attempt::outcome::{AttemptOutcome, StopReason};
use crate::attempt::output_loop::{OutputLoopParts, OutputResult};
use crate::attempt::tool_use::ToolUses;
use crate::queue::active_run::{ActiveRun, StopCause};
use crate::record::Recorder;
use crate::setup::{ActiveConfig, Provider};
use crate::submit::check;
use ostler_plugin_host::types as plugin;
use ostler_protocol::{
    ApiError, CliMissing, CwdMissing, EndReason, ErrorKind, Metrics, NewEvent, Payload, Usage, WarningCode,
};
use ostler_redaction::{FaultSink, Masks, RunRedactor};
use ostler_runner::StopSignal;
use ostler_storage::StorageError;

/// Most bytes of a file that the child left for the plugin.
const MAX_COLLECTED: usize = 8 << 20;

/// What is known of an attempt when it has ended.
pub(crate) struct Attempted {
    pub(crate) ending: AttemptOutcome,
    pub(crate) metrics: Option<Metrics>,
    /// Of this attempt alone.
    pub(crate) usage: Option<Usage>,
    /// The CLI's session at the end.
    pub(crate) session: Option<String>,
    /// Whether the agent said anything.
    pub(crate) has_text: bool,
}

impl Attempted {
    fn early(ending: AttemptOutcome) -> Self {
        Self { ending, metrics: None, usage: None, session: None, has_text: false }
    }
}

impl Engine {
    /// Runs one attempt and puts its end on record. Called on the attempt's own thread.
    pub(crate) fn attempt(self: &Arc<Self>, live: &Arc<ActiveRun>) {
        let setup = self.config.load();
        let loaded = match self.load(live.run(), &setup) {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::error!(run = %live.run(), %error, "a run could not be loaded");
                let ending =
                    AttemptOutcome::new(EndReason::HostFailed, format!("the run could not be loaded: {error}"));
                self.end_unloaded(live, &ending);
                return;
            }
        };
        // One for everything that redacts for this attempt, so that a fault is reported once.
        let faults = self.redactors.faults(Some(loaded.run()));
        let recorder = recorder(&setup, &loaded, &self.inherited(&setup, &loaded), &faults);
        let (widened, began) = (OnceCell::new(), Instant::now());
        let stage = AttemptContext {
            engine: self,
            setup: &setup,
            live,
            loaded: &loaded,
            recorder: &recorder,
            widened: &widened,
            faults: &faults,
            began,
        };
        let attempted = catch_unwind(AssertUnwindSafe(|| stage.perform()));
        let attempted = attempted.unwrap_or_else(|_| {
            tracing::error!(run = %live.run(), "an attempt panicked");
            Attempted::early(AttemptOutcome::new(
                EndReason::HostFailed,
                "a defect in the host ended the attempt; its log says more",
            ))
        });
        // This recorder masks every value that the child was given, so its output must go through it.
        let recorder = widened.get().unwrap_or(&recorder);
        let concluded = catch_unwind(AssertUnwindSafe(|| self.conclude(live, &loaded, recorder, attempted)));
        if concluded.is_err() {
            // The slot must come back, and whoever cancels must not wait for ever.
            tracing::error!(run = %live.run(), "the end of an attempt panicked");
            let ending =
                AttemptOutcome::new(EndReason::HostFailed, "a defect in the host ended the run; its log says more");
            self.end_unloaded(live, &ending);
        }
    }

    /// What the child of a run inherits. Nothing where there is no such provider any more: then there is no child.
    fn inherited(&self, setup: &ActiveConfig, loaded: &LoadedRun) -> BTreeMap<String, String> {
        let provider = setup.provider(&loaded.record.summary.provider);
        provider.map_or_else(
            |_| BTreeMap::new(),
            |provider| {
                let caller = loaded.caller.as_ref();
                prepare::inherited(setup, provider, &self.environment, caller, loaded.token(), &loaded.payload)
            },
        )
    }
}

/// The recorder of a run whose child gets those variables.
fn recorder(
    setup: &ActiveConfig,
    loaded: &LoadedRun,
    variables: &BTreeMap<String, String>,
    faults: &Arc<dyn FaultSink>,
) -> Recorder {
    let mut known = known_secrets(variables, &loaded.payload);
    known.extend(known_secrets(loaded.caller.as_ref().unwrap_or(&BTreeMap::new()), &loaded.payload));
    known.extend(loaded.known_tokens.iter().cloned());
    known.extend(loaded.removed.iter().cloned());
    let masks = Arc::new(Masks::with_open(known, &open_values(variables)));
    let redactor = RunRedactor::new(Arc::clone(&setup.redactor), masks, Arc::clone(faults));
    let conversation = loaded.record.summary.conversation_id;
    Recorder::new(Some(loaded.run()), conversation, redactor)
}

/// How an attempt ends that never came to run a child, as the error says it.
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

/// One attempt under way.
pub(crate) struct AttemptContext<'a> {
    pub(crate) engine: &'a Arc<Engine>,
    pub(crate) setup: &'a Arc<ActiveConfig>,
    live: &'a Arc<ActiveRun>,
    pub(crate) loaded: &'a LoadedRun,
    /// Knows what the child inherits.
    pub(crate) recorder: &'a Recorder,
    /// Knows besides what the plugin gives the child, once that is known.
    widened: &'a OnceCell<Recorder>,
    faults: &'a Arc<dyn FaultSink>,
    began: Instant,
}

impl AttemptContext<'_> {
    /// The recorder that knows all that the child is given; the first call says what that is.
    pub(crate) fn widen(&self, environment: &BTreeMap<String, String>) -> Recorder {
        self.widened.get_or_init(|| recorder(self.setup, self.loaded, environment, self.faults)).clone()
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
        self.setup.check_redactors()?;
        let provider = self.setup.provider(&self.loaded.record.summary.provider)?;
        let instance = provider.instance()?;
        if let Err(error) = &self.loaded.token {
            // Without it the CLI might take another login.
            let ending = AttemptOutcome::new(EndReason::Authentication, error.message.clone());
            return Err(Stopped::Ending(AttemptOutcome { hint: error.hint.clone(), ..ending }));
        }
        let cwd = self.working_folder()?;
        let installed = self.installed(provider)?;
        let snapshot = Arc::clone(&installed.known.snapshot);
        let folders =
            self.engine.check_folders(&self.loaded.payload, &cwd).inspect_err(|error| self.say_missing(&cwd, error))?;
        let ready = self.prepare(provider, instance, &snapshot, folders, &installed.executable.path)?;
        let grants = self.engine.grants.for_policies()?;
        let question = self.judge(self.question(provider, &snapshot, &cwd, &ready, &grants)?, &ready)?;
        self.check_stop()?;
        let (child, proxy) = self.spawn(provider, instance, &snapshot, &cwd, &ready)?;
        let spawned = self.began.elapsed();
        let transcript = instance.transcript(&ready.prepared.request, &crate::capabilities::for_plugin(&snapshot));
        let harness = self.loaded.payload.harness();
        let output = output_loop::run(OutputLoopParts {
            run: self.loaded.run(),
            child,
            active_run: self.live,
            recorder: &ready.recorder,
            storage: &self.engine.storage,
            config: &self.setup.config,
            transcript,
            tools: ToolUses::new(&self.setup.gate, question, &ready.recorder, self.setup.config.policy.reported_tools),
            form: ready.prepared.launch.output,
            duplex: ready.prepared.launch.channel == plugin::Channel::Duplex,
            stop: match ready.prepared.launch.stop {
                plugin::StopSignal::Interrupt => StopSignal::Interrupt,
                plugin::StopSignal::Terminate => StopSignal::Terminate,
            },
            max_tool_lines: harness.limits.and_then(|limits| limits.max_tool_result_lines).unwrap_or(0),
            time_limit: Duration::from_millis(self.loaded.payload.timeout_ms()),
        });
        // Its last events belong before the run's end.
        if let Some(proxy) = proxy {
            proxy.close();
        }
        self.report_created_files(&ready);
        Ok(self.finish(output, &ready, spawned))
    }

    pub(crate) fn check_stop(&self) -> Result<(), Stopped> {
        let (reason, message) = match self.live.stop_cause() {
            None => return Ok(()),
            Some(StopCause::Canceled) => (EndReason::Canceled, "the run was canceled before its child was started"),
            Some(StopCause::HostStops) => (EndReason::Interrupted, "the host was stopped"),
        };
        Err(Stopped::Ending(AttemptOutcome::new(reason, message)))
    }

    /// The folder that was checked when the run was submitted, if it is still that.
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
            self.say_missing(wanted, &error);
            error.into()
        })
    }

    fn say_missing(&self, folder: &Path, error: &ApiError) {
        if error.kind == ErrorKind::CwdMissing {
            let path = folder.to_owned();
            self.say(&Payload::CwdMissing(CwdMissing { path, message: error.message.clone() }));
        }
    }

    /// Protected files that the run has made: nothing can be mounted where nothing is.
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
        self.output(events.collect());
    }

    fn installed(&self, provider: &Arc<Provider>) -> Result<crate::capabilities::Installed, Stopped> {
        self.engine.capabilities.installed(self.setup, provider, self.loaded.caller.as_ref()).map_err(|error| {
            if error.kind == ErrorKind::CliMissing {
                let install_hint = error.hint.clone().unwrap_or_default();
                self.say(&Payload::CliMissing(CliMissing { path: error.message.clone(), install_hint }));
            }
            error.into()
        })
    }

    /// What the plugin and the host make of it.
    fn finish(&self, output: OutputResult, ready: &PreparedLaunch, spawned: Duration) -> Attempted {
        let exit = output.exit.status;
        let outcome = output.transcript.and_then(|mut transcript| {
            let files = self.collect(ready);
            transcript
                .finish(exit_status(exit, &output.stop_reason, output.cut_short), &files)
                .map_err(|error| error.to_string())
        });
        let harness = self.loaded.payload.harness();
        let (ended, limit) = (Instant::now(), Duration::from_millis(self.loaded.payload.timeout_ms()));
        // Work that was done in time is not late because its CLI was waited for.
        let ran = if output.stop_reason == StopReason::WorkDone { Duration::ZERO } else { output.ran };
        let interrupted = || {
            let late = || (ran + ended.elapsed() > limit).then_some(StopReason::TimedOut);
            self.live.stop_cause().map(StopReason::from).or_else(late)
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
            self.output(vec![ready.recorder.warning(WarningCode::SessionReplaced, message, Value::Null)]);
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
            queue_ms: millis(self.live.waited()),
            spawn_ms: millis(spawned),
            first_byte_ms: output.first_byte.map(millis),
            run_ms: millis(output.ran),
            peak_memory_bytes: Some(output.exit.usage.peak_rss).filter(|bytes| *bytes > 0),
            cpu_ms: Some(millis(output.exit.usage.user + output.exit.usage.system)),
        };
        // If standard output is the answer, the outcome already says whether no text is acceptable.
        let has_text = on_stdout
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
            self.engine.storage.read(|reader| reader.session_usage(provider, id, Some(self.loaded.run())))
        });
        outcome::own_usage(total, resumed, &earlier.and_then(Result::ok).unwrap_or_default())
    }

    /// An event of the time before the plugin has prepared anything.
    pub(crate) fn say(&self, payload: &Payload) {
        self.output(vec![self.recorder.event(payload)]);
    }

    pub(crate) fn output(&self, events: Vec<NewEvent>) {
        if !events.is_empty() {
            drop(self.engine.storage.append(events));
        }
    }
}

/// `cut_short` says that the host has ended the child.
const fn exit_status(status: ostler_runner::ExitStatus, reason: &StopReason, cut_short: bool) -> plugin::ExitStatus {
    let (code, signal) = match status {
        // The host has ended it, which says nothing about the work.
        _ if matches!(reason, StopReason::WorkDone) => (None, None),
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
            StopReason::Denied(_) | StopReason::Unreadable => cut_short,
            StopReason::Nothing | StopReason::TimedOut | StopReason::StorageFailed | StopReason::WorkDone => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempt::outcome::Denial;

    #[test]
    fn plugin_is_told_of_a_denial_as_a_cancel_only_where_the_host_has_ended_the_child() {
        let denied = StopReason::Denied(Denial { message: String::new(), hint: None });
        let canceled = |reason: &StopReason, cut_short| {
            exit_status(ostler_runner::ExitStatus::Code(0), reason, cut_short).canceled
        };
        assert!(canceled(&denied, true) && !canceled(&denied, false));
        assert!(canceled(&StopReason::Canceled, true) && !canceled(&StopReason::Nothing, false));
    }
}
