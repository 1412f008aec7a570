//! From a request to an acknowledged run.

pub(crate) mod check;
pub(crate) mod message;
pub(crate) mod pointers;
pub(crate) mod profile;
pub(crate) mod request;
pub(crate) mod rerun;
pub(crate) mod resume;
pub(crate) mod start_after;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::Engine;
use crate::attempt::environment::{known_secrets, open_values};
use crate::attempt::prepare::{self, Attempt};
use crate::attempt::retry_state::RetryState;
use crate::capabilities::{Installed, for_plugin};
use crate::policy::native_policy::NativeChecks;
use crate::policy::policy_request::PolicyRequest;
use crate::policy::policy_set::{Grants, PolicyDecision};
use crate::queue::dispatch::Refused;
use crate::record::{self, Recorder, to_value};
use crate::sandbox::Containment;
use crate::seal::Sealed;
use crate::setup::{ActiveConfig, Provider};
use crate::submit::message::{Message, series};
use crate::submit::pointers::differences;
use crate::submit::profile::{Applied, explained};
use ostler_plugin_host::types::Action;
use ostler_protocol::methods::StartRunResult;
use ostler_protocol::{
    ApiError, CompatibilityWarning, Conversation, ErrorKind, JobState, NewEvent, Payload, PolicyAudit, ProgressStage,
    RunId, RunMode, StartPayload,
};
use ostler_redaction::{Masks, RunRedactor};
use ostler_scheduler::{Admit, Job, Start, Time};
use ostler_schema::validate_document;
use ostler_storage::{Durability, NewJob, NewRun, WriteTx};
use ostler_test_hooks::clock;
use ostler_test_hooks::failpoint;

/// Characters of a run's title.
const MAX_TITLE: usize = 80;

/// A run that is asked for, its form right.
pub(crate) struct SubmitRequest {
    pub(crate) payload: StartPayload,
    /// The profile that was merged into the payload.
    pub(crate) profile: Option<Applied>,
    pub(crate) caller: Option<BTreeMap<String, String>>,
    /// The conversation whose message it is.
    pub(crate) conversation: Option<Conversation>,
}

impl Engine {
    /// Checks a request through every layer, stores it and queues it.
    ///
    /// # Errors
    /// Whatever is wrong with it; nothing is stored then but the audit record of a policy's refusal.
    pub fn start_run(self: &Arc<Self>, mut params: Value, origin: &str) -> Result<StartRunResult, ApiError> {
        let caller = request::take_variables(&mut params)?;
        let profile = self.profiles.apply(&mut params)?;
        let payload = validate_document::<StartPayload>(params).map_err(|error| explained(profile.as_ref(), error))?;
        self.submit(SubmitRequest { payload, profile, caller, conversation: None }, origin)
    }

    /// The same for a payload whose form is right.
    ///
    /// # Errors
    /// As for [`Self::start_run`].
    pub(crate) fn submit(self: &Arc<Self>, order: SubmitRequest, origin: &str) -> Result<StartRunResult, ApiError> {
        let profile = order.profile.clone();
        self.accept(order, origin).map_err(|error| explained(profile.as_ref(), error))
    }

    fn accept(self: &Arc<Self>, order: SubmitRequest, origin: &str) -> Result<StartRunResult, ApiError> {
        let SubmitRequest { mut payload, profile, caller, conversation } = order;
        let setup = self.config.load();
        setup.check_redactors()?;
        if let Some(conversation) = &conversation {
            message::check(conversation, &payload)?;
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
        payload.timeout_seconds.get_or_insert(setup.config.runner.timeout_seconds);
        if let Some(profile) = profile {
            // The name says more to whoever reads the record, and outlives the profile.
            payload.profile_id = Some(profile.name);
        }
        let asked = check::working_folder(payload.cwd.as_deref().unwrap_or(Path::new("")))?;
        let cwd = began.unwrap_or_else(|| asked.clone());
        let moved = resume::moved(&asked, &cwd);
        payload.cwd = Some(cwd.clone());
        let installed = self.capabilities.installed(&setup, &provider, caller.as_ref())?;
        let modes = &installed.known.snapshot.modes;
        if !modes.contains(&payload.mode.unwrap_or_default()) {
            let message = format!("provider {} has no such mode", provider.name);
            return Err(ApiError::new(ErrorKind::InvalidParams, message).at("/mode"));
        }

        let run = RunId::generate();
        self.tokens.load();
        let token = self.tokens.expected_variable(&provider)?;
        let takes_token = token.is_some();
        let token = token.as_deref().map(|name| (name, ""));
        let inherited = prepare::inherited(&setup, &provider, &self.environment, caller.as_ref(), token, &payload);
        let known = known_secrets(&inherited, &payload).into_iter().chain(self.tokens.seen().known());
        let masks = Arc::new(Masks::with_open(known, &open_values(&inherited)));
        let redactor = RunRedactor::new(Arc::clone(&setup.redactor), masks, self.redactors.faults(None));
        let recorder = Recorder::new(Some(run), None, redactor);
        let message = conversation.map(|conversation| Message::new(conversation, &payload, &cwd, &recorder));
        let effective = message.as_ref().map_or_else(|| payload.clone(), |message| message.resuming(&payload));
        let submission = Submission {
            engine: self,
            setup: &setup,
            provider: &provider,
            installed: &installed,
            payload: &payload,
            effective: &effective,
            message: message.as_ref(),
            cwd: &cwd,
            caller: caller.as_ref(),
            inherited: &inherited,
            takes_token,
            grants: self.grants.for_policies()?,
            recorder: &recorder,
            origin,
            moved,
            run,
        };
        submission.accept().map_err(|error| crate::redactors::clean_error(recorder.redactor(), &error))
    }
}

/// One request on its way through the layers.
struct Submission<'a> {
    engine: &'a Arc<Engine>,
    setup: &'a Arc<ActiveConfig>,
    provider: &'a Arc<Provider>,
    installed: &'a Installed,
    /// What is stored.
    payload: &'a StartPayload,
    /// The same with the session that it would resume if it started now.
    effective: &'a StartPayload,
    message: Option<&'a Message>,
    cwd: &'a Path,
    caller: Option<&'a BTreeMap<String, String>>,
    inherited: &'a BTreeMap<String, String>,
    /// It gets a stored token.
    takes_token: bool,
    grants: Grants,
    recorder: &'a Recorder,
    origin: &'a str,
    /// That it starts elsewhere than was asked.
    moved: Option<CompatibilityWarning>,
    run: RunId,
}

impl Submission<'_> {
    fn accept(&self) -> Result<StartRunResult, ApiError> {
        let contained = self.engine.contain(self.setup, self.effective);
        let (ruling, audit) = self.ask(contained.as_ref().ok().map(|(containment, _)| containment))?;
        if let Err(denied) = ruling.permit() {
            self.record_refusal(audit);
            return Err(denied);
        }
        let (containment, dropped) = contained?;
        let mut warnings = self.try_to_prepare(&containment)?;
        warnings.extend(dropped);
        warnings.extend(self.moved.clone());
        let audit = self.recorder.event(&Payload::PolicyAudit(audit));
        let warnings =
            warnings.iter().map(|warning| self.recorder.event(&Payload::CompatibilityWarning(warning.clone())));
        let events: Vec<NewEvent> = std::iter::once(audit).chain(warnings).collect();

        let enqueued_at = self.engine.dispatcher.queue_time();
        let arrival = self.store(events, enqueued_at)?;
        self.enqueue(enqueued_at, arrival);
        failpoint::reach("acknowledge.before");
        Ok(StartRunResult { run_id: self.run })
    }

    fn ask(&self, containment: Option<&Containment>) -> Result<(PolicyDecision, PolicyAudit), ApiError> {
        let question = PolicyRequest {
            run: None,
            attempt: 0,
            provider: self.provider,
            origin: self.origin,
            executable: &self.installed.executable.path,
            cwd: self.cwd,
            payload: self.effective,
            snapshot: &self.installed.known.snapshot,
            grants: &self.grants,
            own: self.native_checks(containment.is_some_and(Containment::bounds_files))?.findings(),
            containment,
            earlier: Vec::new(),
        };
        Ok(question.ask(&self.setup.gate, &Action::Start(to_value(self.effective).to_string())))
    }

    fn native_checks(&self, contained: bool) -> Result<NativeChecks<'_>, ApiError> {
        Ok(NativeChecks {
            policy: &self.setup.config.policy,
            needs: self.provider.instance()?.containment(),
            payload: self.payload,
            contained,
            token: self.takes_token.then(|| self.provider.token_checks(self.caller, &self.engine.environment)),
        })
    }

    /// What an attempt will do first is tried now, so that the user hears at once what would fail.
    fn try_to_prepare(&self, containment: &Containment) -> Result<Vec<CompatibilityWarning>, ApiError> {
        let private_dir = self.engine.private_dir_of(self.run, 1);
        let attempt = Attempt {
            run: self.run,
            number: 1,
            payload: self.effective,
            cwd: self.cwd,
            resume: self.effective.harness.as_ref().and_then(|harness| harness.resume_session_id.as_deref()),
            private_dir: &private_dir,
            inherited: self.inherited,
            containment,
            trusted_settings: self.grants.trusts_settings_of(self.cwd),
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

    /// Reserves a place and puts the run on record: with that it is acknowledged. Returns its place in the order of
    /// arrival.
    fn store(&self, events: Vec<NewEvent>, enqueued_at: Time) -> Result<u64, ApiError> {
        let truth = to_value(self.payload);
        let mut shown = truth.clone();
        self.recorder.redactor().redact_json(&mut shown);
        let sealed_pointers = differences(&truth, &shown);
        let seal = if sealed_pointers.is_empty() && self.caller.is_none() {
            None
        } else {
            let contents = Sealed { payload: truth, client_environment: self.caller.cloned() };
            Some(self.engine.sealer.seal(self.run, &contents).map_err(ApiError::internal)?)
        };
        let now = record::now();
        let harness = self.payload.harness.as_ref();
        let new_run = NewRun {
            run_id: self.run,
            provider: self.provider.name.clone(),
            model: self.payload.model.as_deref().map(|model| self.recorder.clean(model)),
            mode: self.payload.mode.unwrap_or(RunMode::NonInteractive),
            title: title(&self.recorder.clean(self.payload.title.as_deref().unwrap_or(&self.payload.prompt))),
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
            carry: self.payload.start_after.as_ref().and_then(|after| {
                let carry = RetryState { after: Some(after.clone()), ..RetryState::default() };
                carry.to_text()
            }),
        };
        let after = self.payload.start_after.clone();
        let (run, message) = (self.run, self.message.cloned());
        failpoint::reach("insert.before");
        let write = move |tx: &mut WriteTx<'_>| {
            if let Some(after) = &after
                && let Err(refused) = start_after::check(tx, after)?
            {
                return Ok(Err(refused));
            }
            let joins = match &message {
                None => None,
                Some(message) => match message.admit(tx)? {
                    // Nothing was written.
                    Err(refused) => return Ok(Err(refused)),
                    Ok(joins) => Some((message, joins)),
                },
            };
            let arrival = tx.insert_run(&new_run)?;
            tx.insert_job(&new_job)?;
            if let Some((message, joins)) = joins {
                message.join(tx, run, joins, now)?;
            }
            if let Some(seal) = &seal {
                tx.put_seal(run, seal)?;
            }
            tx.append_events(&events)?;
            Ok(Ok(arrival))
        };
        let dispatcher = &self.engine.dispatcher;
        let writing = dispatcher
            .reserve(run, self.series(), || self.engine.storage.write_urgent(Durability::Full, write))
            .map_err(not_taken)?;
        let arrival = writing.wait().map_err(ApiError::from).flatten().inspect_err(|_| dispatcher.forget(run))?;
        failpoint::reach("insert.after");
        Ok(arrival)
    }

    /// Messages of a conversation run one after another.
    fn series(&self) -> Option<Uuid> {
        self.message.map(|message| series(message.conversation_id()))
    }

    /// From here on the run is acknowledged, whatever happens. It waits as a later host would find it.
    fn enqueue(&self, enqueued_at: Time, arrival: u64) {
        let scheduled = self.payload.scheduled_at;
        let job = Job {
            id: self.run,
            lane: self.provider.name.clone(),
            series: self.series(),
            priority: self.payload.queue_priority.unwrap_or(0),
            enqueued_at,
            arrival,
            start: scheduled.filter(|at| *at > clock::now()).map_or(Start::Now, |at| Start::At(time(at))),
            blocked: false,
            admit: Admit::Readmitted,
        };
        let after = self.payload.start_after.as_ref();
        let queued = self.engine.dispatcher.admit(job, after, |place, held| {
            let held = held.then_some(true);
            let facts = json!({
                "position": place(), "held": held, "scheduledAt": self.payload.scheduled_at, "startAfter": after,
            });
            let event = self.recorder.progress(ProgressStage::Queued, facts);
            // Handed to the writer and not waited for: the run is acknowledged already.
            drop(self.engine.storage.write(Durability::Batched, move |tx| tx.append_event(&event)));
        });
        if let Err(live) = queued {
            self.engine.end_waiting(&live);
        }
        if let Some(after) = after {
            self.engine.settle_ended(after);
        }
    }
}

fn not_taken(refused: Refused) -> ApiError {
    match refused {
        Refused::Full(full) => ApiError::new(ErrorKind::QueueFull, full.to_string())
            .hint("wait until some have ended, or raise [scheduler] capacity"),
        Refused::Stopping => {
            ApiError::new(ErrorKind::Conflict, "the host is about to end").hint("ask again").retryable(true)
        }
    }
}

/// First line of a prompt, at most 80 characters.
pub(crate) fn title(prompt: &str) -> String {
    let line = prompt.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let plain: String = line.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    match plain.char_indices().nth(MAX_TITLE) {
        None => plain,
        Some(_) => plain.chars().take(MAX_TITLE - 1).chain(['…']).collect(),
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
}
