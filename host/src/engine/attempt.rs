//! One attempt of a run, from its slot to its end: straight-line code on a thread of its own.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Engine;
use super::check;
use super::environment::{known_secrets, open_values};
use super::launch::Ready;
use super::live::{Live, StopCause};
use super::load::Loaded;
use super::prepare;
use super::pump::{self, Pumped};
use super::record::Recorder;
use super::setup::{Provider, Setup};
use super::tool_use::ToolUses;
use super::verdict::{self, Ending, HostSide};
use crate::model::{
    ApiError, CliMissing, CwdMissing, EndReason, ErrorKind, Metrics, NewEvent, Payload, Usage, warning_code,
};
use crate::plugins::types as plugin;
use crate::redaction::{FaultSink, Masks, RunRedactor};
use crate::runner::{self, StopSignal};
use crate::storage::StorageError;

/// Most bytes of a file that the child left for the plugin.
const MAX_COLLECTED: usize = 8 << 20;

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
        let setup = self.setup();
        let loaded = match self.load(live.run(), &setup) {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::error!(run = %live.run(), %error, "a run could not be loaded");
                let ending = Ending::new(EndReason::HostFailed, format!("the run could not be loaded: {error}"));
                self.end_unloaded(live, &ending);
                return;
            }
        };
        // One for all that redacts for this attempt, so that a fault is told once.
        let faults = self.faults(Some(loaded.run()));
        let recorder = recorder(&setup, &loaded, &self.inherited(&setup, &loaded), &faults);
        let (widened, began) = (OnceCell::new(), Instant::now());
        let stage = Stage {
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
            Attempted::early(Ending::new(
                EndReason::HostFailed,
                "a defect in the host ended the attempt; its log says more",
            ))
        });
        // What the child could say must be told by one that knows all that the child was given.
        let recorder = widened.get().unwrap_or(&recorder);
        let concluded = catch_unwind(AssertUnwindSafe(|| self.conclude(live, &loaded, recorder, attempted)));
        if concluded.is_err() {
            // The slot must come back, and whoever cancels must not wait for ever.
            tracing::error!(run = %live.run(), "the end of an attempt panicked");
            let ending = Ending::new(EndReason::HostFailed, "a defect in the host ended the run; its log says more");
            self.end_unloaded(live, &ending);
        }
    }

    /// What the child of a run inherits. Nothing where there is no such provider any more: then there is no child.
    fn inherited(&self, setup: &Setup, loaded: &Loaded) -> BTreeMap<String, String> {
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
    setup: &Setup,
    loaded: &Loaded,
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

pub(super) enum Stopped {
    Ending(Ending),
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
pub(super) struct Stage<'a> {
    pub(super) engine: &'a Arc<Engine>,
    pub(super) setup: &'a Arc<Setup>,
    live: &'a Arc<Live>,
    pub(super) loaded: &'a Loaded,
    /// Knows what the child inherits.
    pub(super) recorder: &'a Recorder,
    /// Knows besides what the plugin gives the child, once that is known.
    widened: &'a OnceCell<Recorder>,
    faults: &'a Arc<dyn FaultSink>,
    began: Instant,
}

impl Stage<'_> {
    /// The recorder that knows all that the child is given; the first call says what that is.
    pub(super) fn widen(&self, environment: &BTreeMap<String, String>) -> Recorder {
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
            let ending = Ending::new(EndReason::Authentication, error.message.clone());
            return Err(Stopped::Ending(Ending { hint: error.hint.clone(), ..ending }));
        }
        let cwd = self.working_folder()?;
        let installed = self.installed(provider)?;
        let snapshot = Arc::clone(&installed.known.snapshot);
        let folders =
            self.engine.check_folders(&self.loaded.payload, &cwd).inspect_err(|error| self.say_missing(&cwd, error))?;
        let ready = self.prepare(provider, instance, &snapshot, folders, &installed.executable.path)?;
        let grants = self.engine.grants()?;
        let question = self.judge(self.question(provider, &snapshot, &cwd, &ready, &grants)?, &ready)?;
        self.check_stop()?;
        let (child, proxy) = self.spawn(provider, instance, &snapshot, &cwd, &ready)?;
        let spawned = self.began.elapsed();
        let transcript = instance.transcript(&ready.prepared.request, &super::capabilities::for_plugin(&snapshot));
        let harness = self.loaded.payload.harness();
        let pumped = pump::pump(pump::Parts {
            run: self.loaded.run(),
            child,
            live: self.live,
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
        self.tell_of_made_files(&ready);
        Ok(self.finish(pumped, &ready, spawned))
    }

    pub(super) fn check_stop(&self) -> Result<(), Stopped> {
        let (reason, message) = match self.live.stop_cause() {
            None => return Ok(()),
            Some(StopCause::Canceled) => (EndReason::Canceled, "the run was canceled before its child was started"),
            Some(StopCause::HostStops) => (EndReason::Interrupted, "the host was stopped"),
        };
        Err(Stopped::Ending(Ending::new(reason, message)))
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
    fn tell_of_made_files(&self, ready: &Ready) {
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
            ready.recorder.warning(warning_code::PROTECTED_FILE_MADE, message, json!({"path": path}))
        });
        self.output(events.collect());
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

    /// What the plugin and the host make of it.
    fn finish(&self, pumped: Pumped, ready: &Ready, spawned: Duration) -> Attempted {
        let exit = pumped.exit.status;
        let outcome = pumped.transcript.and_then(|mut transcript| {
            let files = self.collect(ready);
            transcript
                .finish(exit_status(exit, &pumped.side, pumped.cut_short), &files)
                .map_err(|error| error.to_string())
        });
        let harness = self.loaded.payload.harness();
        let (ended, limit) = (Instant::now(), Duration::from_millis(self.loaded.payload.timeout_ms()));
        // Work that was done in time is not late because its CLI was waited for.
        let ran = if pumped.side == HostSide::WorkDone { Duration::ZERO } else { pumped.ran };
        let interrupted = || {
            let late = || (ran + ended.elapsed() > limit).then_some(HostSide::TimedOut);
            self.live.stop_cause().map(HostSide::from).or_else(late)
        };
        let on_stdout = pumped.printed.is_some();
        let mut ending = verdict::conclude(
            pumped.side,
            exit,
            outcome,
            harness.structured_output.as_ref(),
            pumped.printed,
            pumped.narrator.rate_limit(),
            &interrupted,
        );
        let session = pumped.narrator.session().cloned();
        if session.as_ref().is_some_and(|session| session.origin == plugin::SessionOrigin::Replaced) {
            let message = "the CLI started a new session instead of resuming the given one";
            self.output(vec![ready.recorder.warning(warning_code::SESSION_REPLACED, message, Value::Null)]);
            if ending.reason == EndReason::Completed && self.loaded.names_session() {
                ending = Ending { reason: EndReason::ResumeInvalid, message: message.to_owned(), ..ending };
            }
        }
        if ending.reason == EndReason::Timeout {
            ending.message = format!("time limit of {} s exceeded", limit.as_secs_f64());
        }
        let usage = pumped.narrator.usage().map(|total| self.own_usage(total, session.as_ref()));
        let millis = |duration: Duration| duration.as_secs_f64() * 1000.0;
        let metrics = Metrics {
            attempt: self.loaded.job.attempt,
            stdout: pumped.stdout,
            stderr: pumped.stderr,
            events: pumped.events,
            tool_calls: pumped.narrator.tool_calls(),
            usage: usage.clone(),
            queue_ms: millis(self.live.waited()),
            spawn_ms: millis(spawned),
            first_byte_ms: pumped.first_byte.map(millis),
            run_ms: millis(pumped.ran),
            peak_memory_bytes: Some(pumped.exit.usage.peak_rss).filter(|bytes| *bytes > 0),
            cpu_ms: Some(millis(pumped.exit.usage.user + pumped.exit.usage.system)),
        };
        // Where standard output is the answer, the verdict has looked whether nothing there is right.
        let told_text = on_stdout
            || pumped.narrator.text_told()
            || ending.final_text.as_ref().is_some_and(|text| !text.trim().is_empty());
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
            let id =
                self.loaded.resume().filter(|_| session.origin == plugin::SessionOrigin::Forked).unwrap_or(&session.id);
            self.engine.storage.read(|reader| reader.session_usage(provider, id, Some(self.loaded.run())))
        });
        verdict::own_usage(total, resumed, &earlier.and_then(Result::ok).unwrap_or_default())
    }

    /// An event of the time before the plugin has prepared anything.
    pub(super) fn say(&self, payload: &Payload) {
        self.output(vec![self.recorder.event(payload)]);
    }

    pub(super) fn output(&self, events: Vec<NewEvent>) {
        if !events.is_empty() {
            drop(self.engine.storage.append(events));
        }
    }
}

/// `cut_short` says that the host has ended the child.
const fn exit_status(status: runner::ExitStatus, side: &HostSide, cut_short: bool) -> plugin::ExitStatus {
    let (code, signal) = match status {
        // The host has ended it, which says nothing about the work.
        _ if matches!(side, HostSide::WorkDone) => (None, None),
        runner::ExitStatus::Code(code) => (Some(code), None),
        runner::ExitStatus::Signal(signal) => (None, Some(signal)),
        runner::ExitStatus::Unknown => (None, None),
    };
    plugin::ExitStatus {
        code,
        signal,
        timed_out: matches!(side, HostSide::TimedOut),
        canceled: match side {
            HostSide::Canceled | HostSide::HostStops => true,
            HostSide::Denied(_) | HostSide::Unreadable => cut_short,
            HostSide::Nothing | HostSide::TimedOut | HostSide::StorageFailed | HostSide::WorkDone => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::verdict::Denial;

    #[test]
    fn plugin_is_told_of_a_denial_as_a_cancel_only_where_the_host_has_ended_the_child() {
        let denied = HostSide::Denied(Denial { message: String::new(), hint: None });
        let canceled = |side: &HostSide, cut_short| exit_status(runner::ExitStatus::Code(0), side, cut_short).canceled;
        assert!(canceled(&denied, true) && !canceled(&denied, false));
        assert!(canceled(&HostSide::Canceled, true) && !canceled(&HostSide::Nothing, false));
    }
}
