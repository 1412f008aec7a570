//! From a request to an acknowledged run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Engine;
use super::capabilities::{Installed, for_plugin};
use super::check;
use super::dispatch::Refused;
use super::environment::{known_secrets, unusable};
use super::gate::Ruling;
use super::prepare::{self, Attempt};
use super::question::Question;
use super::record::{Recorder, to_value};
use super::resume;
use super::seal::Sealed;
use super::setup::{Provider, Setup};
use crate::api::types::StartRunResult;
use crate::clock;
use crate::failpoint;
use crate::model::{
    ApiError, CompatibilityWarning, ErrorKind, JobState, NewEvent, Payload, PolicyAudit, Problem, RunId, RunMode,
    StartPayload,
};
use crate::plugins::types::Action;
use crate::redaction::{Masks, RunRedactor};
use crate::scheduler::{Admit, Job, Start, Time};
use crate::storage::{Durability, NewJob, NewRun};

/// Characters of a run's title.
const MAX_TITLE: usize = 80;

/// What the engine must remember of a run from attempt to attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Carry {
    /// Retries so far, the automatic new start not counted.
    pub(crate) retries: u32,
    /// The session to resume is not known any more: the run starts anew.
    pub(crate) without_resume: bool,
}

/// A request whose form is right.
struct Request {
    payload: StartPayload,
    caller: Option<BTreeMap<String, String>>,
}

impl Request {
    /// Takes the caller's variables out of the parameters; the rest is the payload.
    fn parse(mut params: Value) -> Result<Self, ApiError> {
        let caller = params.as_object_mut().and_then(|members| members.shift_remove("clientEnvironment"));
        let invalid = |problems: Vec<Problem>| Err(ApiError::invalid(problems));
        let caller = match caller {
            None | Some(Value::Null) => None,
            Some(variables) => match serde_json::from_value::<BTreeMap<String, String>>(variables) {
                Ok(variables) => Some(variables),
                Err(_) => {
                    let message = "must be an object with a text for each variable".to_owned();
                    return invalid(vec![Problem { pointer: "/clientEnvironment".to_owned(), message }]);
                }
            },
        };
        let wrong: Vec<Problem> =
            caller.iter().flat_map(|variables| unusable("/clientEnvironment", variables)).collect();
        if !wrong.is_empty() {
            return invalid(wrong);
        }
        Ok(Self { payload: StartPayload::parse(params)?, caller })
    }
}

impl Engine {
    /// Checks a request through every layer, stores it and queues it.
    ///
    /// # Errors
    /// Whatever is wrong with it; nothing is stored then but the audit record of a policy's refusal.
    pub(crate) fn start_run(self: &Arc<Self>, params: Value, origin: &str) -> Result<StartRunResult, ApiError> {
        let Request { mut payload, caller } = Request::parse(params)?;
        let setup = self.setup();
        if let Some(profile) = &payload.profile_id {
            return Err(ApiError::not_found("profile", format_args!("{profile:?}")).at("/profileId"));
        }
        let provider = Arc::clone(setup.provider(&payload.provider)?);
        let instance = provider.instance()?;
        let began = self.folder_of_session(&provider.name, &payload)?;
        if payload.cwd.is_none() {
            payload.cwd.clone_from(&began);
        }
        check::check(&payload)?;
        if payload.model.is_none() {
            payload.model.clone_from(&instance.describe().default_model);
        }
        let asked = check::working_folder(payload.cwd.as_deref().unwrap_or(Path::new("")))?;
        let cwd = began.unwrap_or_else(|| asked.clone());
        let moved = resume::moved(&asked, &cwd);
        payload.cwd = Some(cwd.clone());
        let installed = self.installed(&setup, &provider, caller.as_ref())?;
        let modes = &installed.known.snapshot.modes;
        if !modes.contains(&payload.mode.unwrap_or_default()) {
            let message = format!("provider {} has no such mode", provider.name);
            return Err(ApiError::new(ErrorKind::InvalidParams, message).at("/mode"));
        }

        let run = RunId::generate();
        self.load_tokens();
        let token = self.expected_token(&provider)?;
        let token = token.as_deref().map(|name| (name, ""));
        let inherited = prepare::inherited(&setup, &provider, &self.environment, caller.as_ref(), token, &payload);
        let known = known_secrets(&inherited, &payload).into_iter().chain(self.tokens.known());
        let masks = Arc::new(Masks::new(known));
        let redactor = RunRedactor::new(Arc::clone(&setup.redactor), masks, self.faults(None));
        let recorder = Recorder::new(Some(run), None, redactor);
        let submission = Submission {
            engine: self,
            setup: &setup,
            provider: &provider,
            installed: &installed,
            payload: &payload,
            cwd: &cwd,
            caller: caller.as_ref(),
            inherited: &inherited,
            recorder: &recorder,
            origin,
            moved,
            run,
        };
        submission.accept().map_err(|error| super::clean_error(recorder.redactor(), &error))
    }
}

/// One request on its way through the layers.
struct Submission<'a> {
    engine: &'a Arc<Engine>,
    setup: &'a Arc<Setup>,
    provider: &'a Arc<Provider>,
    installed: &'a Installed,
    payload: &'a StartPayload,
    cwd: &'a Path,
    caller: Option<&'a BTreeMap<String, String>>,
    inherited: &'a BTreeMap<String, String>,
    recorder: &'a Recorder,
    origin: &'a str,
    /// That it starts elsewhere than was asked.
    moved: Option<CompatibilityWarning>,
    run: RunId,
}

impl Submission<'_> {
    fn accept(&self) -> Result<StartRunResult, ApiError> {
        let (ruling, audit) = self.ask()?;
        if let Err(denied) = ruling.permit() {
            self.record_refusal(audit);
            return Err(denied);
        }
        let mut warnings = self.try_to_prepare()?;
        warnings.extend(self.moved.clone());
        let audit = self.recorder.event(&Payload::PolicyAudit(audit));
        let warnings =
            warnings.iter().map(|warning| self.recorder.event(&Payload::CompatibilityWarning(warning.clone())));
        let events: Vec<NewEvent> = std::iter::once(audit).chain(warnings).collect();

        self.engine.dispatcher.reserve(self.run).map_err(|refused| match refused {
            Refused::Full(full) => ApiError::new(ErrorKind::QueueFull, full.to_string())
                .hint("wait until some have ended, or raise [scheduler] capacity"),
            Refused::Stopping => {
                ApiError::new(ErrorKind::Conflict, "the host is about to end").hint("ask again").retryable(true)
            }
        })?;
        let enqueued_at = self.engine.dispatcher.queue_time();
        let arrival = self.store(events, enqueued_at).inspect_err(|_| self.engine.dispatcher.forget(self.run))?;
        self.enqueue(enqueued_at, arrival);
        failpoint::reach("acknowledge.before");
        Ok(StartRunResult { run_id: self.run })
    }

    fn ask(&self) -> Result<(Ruling, PolicyAudit), ApiError> {
        let question = Question {
            run: None,
            attempt: 0,
            provider: self.provider,
            origin: self.origin,
            executable: &self.installed.executable.path,
            cwd: self.cwd,
            payload: self.payload,
            snapshot: &self.installed.known.snapshot,
            grants: &self.engine.grants()?,
        };
        Ok(question.ask(&self.setup.gate, &Action::Start(to_value(self.payload).to_string())))
    }

    /// What an attempt will do first is tried now, so that the user hears at once what would fail.
    fn try_to_prepare(&self) -> Result<Vec<CompatibilityWarning>, ApiError> {
        let private_dir = self.engine.private_dir_of(self.run, 1);
        let attempt = Attempt {
            run: self.run,
            number: 1,
            payload: self.payload,
            cwd: self.cwd,
            resume: self.payload.harness.as_ref().and_then(|harness| harness.resume_session_id.as_deref()),
            private_dir: &private_dir,
            inherited: self.inherited,
        };
        let instance = self.provider.instance()?;
        let capabilities = for_plugin(&self.installed.known.snapshot);
        let prepared = prepare::prepare(&self.setup.config.policy, instance, &capabilities, &attempt)?;
        Ok(prepared.warnings)
    }

    /// A refused submit leaves an audit record without a run.
    fn record_refusal(&self, audit: PolicyAudit) {
        let recorder = Recorder::new(None, None, self.recorder.redactor().clone());
        let event = recorder.event(&Payload::PolicyAudit(audit));
        let write = self.engine.storage.write_urgent(Durability::Full, move |tx| tx.append_event(&event));
        if let Err(error) = write.wait() {
            tracing::error!(%error, "the audit record of a refused submit was not stored");
        }
    }

    /// Puts the run on record; returns its place in the order of arrival.
    fn store(&self, events: Vec<NewEvent>, enqueued_at: Time) -> Result<u64, ApiError> {
        let truth = to_value(self.payload);
        let mut shown = truth.clone();
        self.recorder.redactor().redact_json(&mut shown);
        let mut sealed_pointers = Vec::new();
        differences(&truth, &shown, "", &mut sealed_pointers);
        let seal = if sealed_pointers.is_empty() && self.caller.is_none() {
            None
        } else {
            let contents = Sealed { payload: truth, client_environment: self.caller.cloned() };
            Some(self.engine.sealer.seal(self.run, &contents).map_err(ApiError::internal)?)
        };
        let now = clock::now();
        let harness = self.payload.harness.as_ref();
        let new_run = NewRun {
            run_id: self.run,
            provider: self.provider.name.clone(),
            model: self.payload.model.as_deref().map(|model| self.recorder.clean(model)),
            mode: self.payload.mode.unwrap_or(RunMode::NonInteractive),
            title: title(&self.recorder.clean(&self.payload.prompt)),
            // Shown and listed; the attempt takes the true one from the payload.
            cwd: PathBuf::from(self.recorder.clean(&self.cwd.display().to_string())),
            priority: self.payload.queue_priority.unwrap_or(0),
            origin: self.origin.to_owned(),
            payload: shown.to_string(),
            sealed_pointers,
            snapshot: self.installed.known.key,
            session_id: harness
                .and_then(|harness| harness.resume_session_id.as_deref())
                .map(|session| self.recorder.clean(session)),
            created_at: now,
        };
        let waits = self.payload.scheduled_at.filter(|at| *at > now);
        let new_job = NewJob {
            run_id: self.run,
            provider: self.provider.name.clone(),
            state: if waits.is_some() { JobState::Scheduled } else { JobState::Ready },
            priority: new_run.priority,
            enqueued_at: timestamp(enqueued_at),
            not_before: waits,
            carry: None,
        };
        let run = self.run;
        failpoint::reach("insert.before");
        let write = self.engine.storage.write_urgent(Durability::Full, move |tx| {
            let arrival = tx.insert_run(&new_run)?;
            tx.insert_job(&new_job)?;
            if let Some(seal) = &seal {
                tx.put_seal(run, seal)?;
            }
            tx.append_events(&events)?;
            Ok(arrival)
        });
        let arrival = write.wait()?;
        failpoint::reach("insert.after");
        Ok(arrival)
    }

    /// From here on the run is acknowledged, whatever happens. It waits as a later host would find it.
    fn enqueue(&self, enqueued_at: Time, arrival: u64) {
        let scheduled = self.payload.scheduled_at;
        let job = Job {
            id: self.run,
            lane: self.provider.name.clone(),
            priority: self.payload.queue_priority.unwrap_or(0),
            enqueued_at,
            arrival,
            start: scheduled.filter(|at| *at > clock::now()).map_or(Start::Now, |at| Start::At(time(at))),
            admit: Admit::Readmitted,
        };
        let queued = self.engine.dispatcher.admit(job, |place| {
            let facts = json!({"position": place(), "scheduledAt": self.payload.scheduled_at});
            let event = self.recorder.progress("queued", facts);
            // Handed to the writer and not waited for: the run is acknowledged already.
            drop(self.engine.storage.write(Durability::Batched, move |tx| tx.append_event(&event)));
        });
        if let Err(live) = queued {
            self.engine.end_waiting(&live);
        }
    }
}

/// First line of a prompt, at most 80 characters.
fn title(prompt: &str) -> String {
    let line = prompt.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let plain: String = line.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    match plain.char_indices().nth(MAX_TITLE) {
        None => plain,
        Some(_) => plain.chars().take(MAX_TITLE - 1).chain(['…']).collect(),
    }
}

/// Pointers at which two documents of the same shape differ; where the shape differs, the pointer of what contains it.
fn differences(left: &Value, right: &Value, at: &str, pointers: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) if left.len() == right.len() => {
            if left.keys().any(|name| !right.contains_key(name)) {
                pointers.push(at.to_owned());
                return;
            }
            for (name, value) in left {
                let pointer = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
                differences(value, right.get(name).unwrap_or(&Value::Null), &pointer, pointers);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                differences(left, right, &format!("{at}/{index}"), pointers);
            }
        }
        _ if left == right => {}
        _ => pointers.push(at.to_owned()),
    }
}

pub(crate) fn timestamp(time: Time) -> Timestamp {
    Timestamp::from_millisecond(time.as_ms()).unwrap_or(Timestamp::UNIX_EPOCH)
}

pub(crate) fn time(timestamp: Timestamp) -> Time {
    Time::from_ms(timestamp.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_one_short_line() {
        assert_eq!(title("\n  fix\tthe build \nand more"), "fix the build");
        let long = title(&"ä".repeat(100));
        assert_eq!(long.chars().count(), 80);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn differences_are_named_by_pointer() {
        let left = json!({"a": "x", "b/c": [1, "y"], "d": {"k": 1}});
        let right = json!({"a": "z", "b/c": [1, "-"], "d": {"j": 1}});
        let mut found = Vec::new();
        differences(&left, &right, "", &mut found);
        assert_eq!(found, ["/a", "/b~1c/1", "/d"]);
    }
}
