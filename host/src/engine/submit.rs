//! From a request to an acknowledged run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Engine;
use super::capabilities::Installed;
use super::check;
use super::dispatch::Refused;
use super::environment::{known_secrets, unusable};
use super::gate::{Circumstances, Grants, Ruling};
use super::prepare::{self, Attempt};
use super::record::{Recorder, to_value};
use super::seal::Sealed;
use super::setup::{Provider, Setup};
use crate::api::types::StartRunResult;
use crate::model::{
    ApiError, ErrorKind, JobState, NewEvent, Payload, PolicyAudit, Problem, RunId, RunMode, StartPayload, Verdict,
};
use crate::plugins::types::{Action, CheckedPath};
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
        check::check(&payload)?;
        if payload.model.is_none() {
            payload.model.clone_from(&instance.describe().default_model);
        }
        let cwd = check::working_folder(payload.cwd.as_deref().unwrap_or(Path::new("")))?;
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
    run: RunId,
}

impl Submission<'_> {
    fn accept(&self) -> Result<StartRunResult, ApiError> {
        let grants = self.engine.grants()?;
        let ruling = self.judge(&grants);
        if let Err(denied) = ruling.permit() {
            self.record_refusal(&ruling, &grants);
            return Err(denied);
        }
        let warnings = self.try_to_prepare()?;
        let audit = self.recorder.event(&Payload::PolicyAudit(self.audit(&ruling, &grants)));
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
        let stored = self.store(events);
        if let Err(error) = stored {
            self.engine.dispatcher.forget(self.run);
            return Err(error);
        }
        self.enqueue();
        Ok(StartRunResult { run_id: self.run })
    }

    fn judge(&self, grants: &Grants) -> Ruling {
        let document = to_value(self.payload);
        let circumstances = Circumstances {
            run: None,
            attempt: 0,
            provider: &self.provider.name,
            plugin: &self.provider.plugin,
            origin: self.origin,
            cwd: self.cwd,
            grants,
            paths: checked_paths(self.payload, grants),
            profile: self.payload.profile_id.as_deref(),
            capabilities: &self.installed.known.snapshot,
            payload: None,
            tool_calls: 0,
            earlier: &[],
        };
        self.setup.gate.judge(&Action::Start(document.to_string()), &circumstances)
    }

    /// What an attempt will do first is tried now, so that the user hears at once what would fail.
    fn try_to_prepare(&self) -> Result<Vec<crate::model::CompatibilityWarning>, ApiError> {
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
        let prepared = prepare::prepare(self.setup, instance, &self.installed.known.snapshot, &attempt)?;
        Ok(prepared.warnings)
    }

    fn audit(&self, ruling: &Ruling, grants: &Grants) -> PolicyAudit {
        let snapshot = &self.installed.known.snapshot;
        PolicyAudit {
            stage: "start".to_owned(),
            verdict: verdict_name(ruling.verdict()).to_owned(),
            provider: self.provider.name.clone(),
            executable: Some(self.installed.executable.path.clone()),
            cwd: Some(self.cwd.to_owned()),
            args: Vec::new(),
            environment_names: Vec::new(),
            origin: self.origin.to_owned(),
            grant: grants.containing(self.cwd).map(Path::to_owned),
            profile: self.payload.profile_id.clone(),
            capabilities: Some(snapshot_facts(snapshot)),
            findings: ruling.findings.clone(),
        }
    }

    /// A refused submit leaves an audit record without a run.
    fn record_refusal(&self, ruling: &Ruling, grants: &Grants) {
        let recorder = Recorder::new(None, None, self.recorder.redactor().clone());
        let event = recorder.event(&Payload::PolicyAudit(self.audit(ruling, grants)));
        let write = self.engine.storage.write_urgent(Durability::Full, move |tx| tx.append_event(&event));
        if let Err(error) = write.wait() {
            tracing::error!(%error, "the audit record of a refused submit was not stored");
        }
    }

    fn store(&self, events: Vec<NewEvent>) -> Result<(), ApiError> {
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
        let now = Timestamp::now();
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
            enqueued_at: timestamp(self.engine.dispatcher.queue_time()),
            not_before: waits,
            carry: None,
        };
        let run = self.run;
        let write = self.engine.storage.write_urgent(Durability::Full, move |tx| {
            tx.insert_run(&new_run)?;
            tx.insert_job(&new_job)?;
            if let Some(seal) = &seal {
                tx.put_seal(run, seal)?;
            }
            tx.append_events(&events).map(|_| ())
        });
        write.wait().map_err(ApiError::from)
    }

    /// From here on the run is acknowledged, whatever happens.
    fn enqueue(&self) {
        let scheduled = self.payload.scheduled_at.map(time);
        let job = Job {
            id: self.run,
            lane: self.provider.name.clone(),
            priority: self.payload.queue_priority.unwrap_or(0),
            enqueued_at: self.engine.dispatcher.queue_time(),
            start: scheduled.filter(|at| *at > Time::now()).map_or(Start::Now, Start::At),
            admit: Admit::Readmitted,
        };
        let queued = self.engine.dispatcher.admit(job, |place| {
            let facts = json!({"position": place, "scheduledAt": self.payload.scheduled_at});
            let event = self.recorder.progress("queued", facts);
            // Handed to the writer and not waited for: the run is acknowledged already.
            drop(self.engine.storage.write(Durability::Batched, move |tx| tx.append_event(&event)));
        });
        if let Err(live) = queued {
            self.engine.end_waiting(&live);
        }
    }
}

/// Every path of the payload, as the policies see it.
pub(crate) fn checked_paths(payload: &StartPayload, grants: &Grants) -> Vec<CheckedPath> {
    let mut paths = Vec::new();
    if let Some(cwd) = &payload.cwd {
        paths.push(grants.check("/cwd", cwd));
    }
    let Some(harness) = &payload.harness else { return paths };
    for (index, folder) in harness.additional_directories.iter().enumerate() {
        paths.push(grants.check(format!("/harness/additionalDirectories/{index}"), folder));
    }
    for (block, list) in [("images", &harness.images), ("files", &harness.files)] {
        for (index, path) in list.iter().enumerate().filter_map(|(index, one)| Some((index, one.path.as_ref()?))) {
            paths.push(grants.check(format!("/harness/{block}/{index}/path"), path));
        }
    }
    if let Some(folder) = harness.cli_allowlist.as_ref().and_then(|allowlist| allowlist.bin_dir.as_ref()) {
        paths.push(grants.check("/harness/cliAllowlist/binDir", folder));
    }
    paths
}

/// The part of a snapshot that belongs into an audit record.
pub(crate) fn snapshot_facts(snapshot: &crate::model::CapabilitySnapshot) -> Value {
    json!({
        "support": snapshot.support,
        "cliVersion": snapshot.cli_version,
        "features": snapshot.features,
        "detectedAt": snapshot.detected_at,
    })
}

pub(crate) const fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Warn => "warn",
        Verdict::Ask => "ask",
        Verdict::Deny => "deny",
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
