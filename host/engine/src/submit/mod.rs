//! From a request to an acknowledged run.

pub(crate) mod check;
pub(crate) mod message;
pub(crate) mod pointers;
pub(crate) mod profile;
pub(crate) mod request;
pub(crate) mod rerun;
pub(crate) mod resume;
pub(crate) mod start_after;
mod terminal;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::attempt::conclude::RunFinalizer;
use crate::attempt::environment::{known_secrets, open_values};
use crate::attempt::prepare::{self, Attempt};
use crate::attempt::private_folders::PrivateFolders;
use crate::attempt::retry_state::RetryState;
use crate::capabilities::{Capabilities, Installed, for_plugin};
use crate::conversation::Conversations;
use crate::grants::GrantStore;
use crate::policy::native_policy::NativeChecks;
use crate::policy::policy_request::PolicyRequest;
use crate::policy::policy_set::{Grants, PolicyDecision};
use crate::queue::dispatch::{Dispatcher, Refused};
use crate::record::{self, Recorder, to_value};
use crate::redactors::Redactors;
use crate::sandbox::{Containment, SandboxService};
use crate::seal::{Sealed, Sealer};
use crate::setup::{ActiveConfig, CurrentConfig, Provider};
use crate::submit::message::{Message, series};
use crate::submit::pointers::differences;
use crate::submit::profile::{Applied, Profiles, explained};
use crate::tokens::ProviderTokens;
use ostler_plugin_host::types::Action;
use ostler_protocol::methods::StartRunResult;
use ostler_protocol::{
    ApiError, CompatibilityWarning, Conversation, ErrorKind, JobState, NewEvent, Payload, PolicyAudit, ProgressStage,
    RunId, RunMode, StartPayload,
};
use ostler_redaction::{Masks, RunRedactor};
use ostler_scheduler::{Admit, Job, Start, Time};
use ostler_storage::{Durability, NewJob, NewRun, Storage, WriteTx};
use ostler_test_hooks::clock;
use ostler_test_hooks::failpoint;

/// Characters of a run's title.
const MAX_TITLE: usize = 80;

/// A request whose payload matches the schema.
pub(crate) struct SubmitRequest {
    pub(crate) payload: StartPayload,
    /// The profile that was merged into the payload.
    pub(crate) profile: Option<Applied>,
    pub(crate) caller: Option<BTreeMap<String, String>>,
    /// The conversation, if the run is a message.
    pub(crate) conversation: Option<Conversation>,
}

/// Checks, stores and queues runs.
pub struct Submitter {
    pub(crate) storage: Storage,
    pub(crate) config: CurrentConfig,
    pub(crate) redactors: Redactors,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) finalizer: Arc<RunFinalizer>,
    pub(crate) grants: GrantStore,
    pub(crate) conversations: Conversations,
    pub(crate) profiles: Profiles,
    pub(crate) capabilities: Arc<Capabilities>,
    pub(crate) tokens: Arc<ProviderTokens>,
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) sandbox: Arc<SandboxService>,
    pub(crate) private_folders: PrivateFolders,
    /// The environment of the host.
    pub(crate) environment: Arc<BTreeMap<String, String>>,
}

impl fmt::Debug for Submitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submitter").finish_non_exhaustive()
    }
}

impl Submitter {
    /// Checks a request, stores it as a run and queues it.
    ///
    /// # Errors
    /// Every problem of the request. Then nothing is stored, except the audit record if a policy denied it.
    pub fn start_run(&self, mut params: Value, origin: &str) -> Result<StartRunResult, ApiError> {
        let caller = request::take_variables(&mut params)?;
        let profile = self.profiles.apply(&mut params)?;
        let payload = request::validate(params).map_err(|error| explained(profile.as_ref(), error))?;
        self.submit(SubmitRequest { payload, profile, caller, conversation: None }, origin)
    }

    /// The same for a payload that matches the schema.
    ///
    /// # Errors
    /// As for [`Self::start_run`].
    pub(crate) fn submit(&self, request: SubmitRequest, origin: &str) -> Result<StartRunResult, ApiError> {
        let profile = request.profile.clone();
        self.accept(request, origin).map_err(|error| explained(profile.as_ref(), error))
    }

    fn accept(&self, request: SubmitRequest, origin: &str) -> Result<StartRunResult, ApiError> {
        let SubmitRequest { mut payload, profile, caller, conversation } = request;
        let active = self.config.load();
        active.check_redactors()?;
        if let Some(conversation) = &conversation {
            message::check(conversation, &payload)?;
        }
        let provider = Arc::clone(active.provider(&payload.provider)?);
        let instance = provider.instance()?;
        let began = resume::folder_of_session(&self.storage, &provider.name, &payload)?;
        if payload.cwd.is_none() {
            payload.cwd.clone_from(&began);
        }
        check::check(&payload)?;
        if payload.model.is_none() {
            payload.model.clone_from(&instance.describe().default_model);
        }
        let runner = &active.config.runner;
        payload.timeout_seconds.get_or_insert(match payload.mode {
            Some(RunMode::Interactive) => runner.session_idle_seconds,
            _ => runner.timeout_seconds,
        });
        if let Some(profile) = profile {
            // Readers of the record understand the name, also when the profile no longer exists.
            payload.profile_id = Some(profile.name);
        }
        let requested = check::working_folder(payload.cwd.as_deref().unwrap_or(Path::new("")))?;
        let cwd = began.unwrap_or_else(|| requested.clone());
        let moved = resume::moved(&requested, &cwd);
        payload.cwd = Some(cwd.clone());
        let installed = self.capabilities.installed(&active, &provider, caller.as_ref())?;
        let snapshot = &installed.known.snapshot;
        terminal::decide(&mut payload, &provider.name, &snapshot.features, &active)?;
        // In a terminal, a CLI without a protocol has sessions as well.
        if payload.terminal.is_none() && !snapshot.modes.contains(&payload.mode.unwrap_or_default()) {
            let message = match payload.mode.unwrap_or_default() {
                RunMode::Interactive => format!("the installed CLI of provider {} has no sessions", provider.name),
                RunMode::NonInteractive => format!("provider {} has sessions only", provider.name),
            };
            let hint = "`list_capabilities` lists the modes of each provider";
            return Err(ApiError::new(ErrorKind::InvalidParams, message).at("/mode").hint(hint));
        }

        let run = RunId::generate();
        self.tokens.load();
        let token = self.tokens.expected_variable(&provider)?;
        let takes_token = token.is_some();
        let token = token.as_deref().map(|name| (name, ""));
        let inherited = prepare::inherited(&active, &provider, &self.environment, caller.as_ref(), token, &payload);
        let known = known_secrets(&inherited, &payload).into_iter().chain(self.tokens.seen().known());
        let masks = Arc::new(Masks::with_open(known, &open_values(&inherited)));
        let redactor = RunRedactor::new(Arc::clone(&active.redactor), masks, self.redactors.faults(None));
        let recorder = Recorder::new(Some(run), None, redactor);
        let message = conversation.map(|conversation| Message::new(conversation, &payload, &cwd, &recorder));
        let effective = message.as_ref().map_or_else(|| payload.clone(), |message| message.resuming(&payload));
        let submission = Submission {
            services: self,
            active: &active,
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

/// One request and what was found out about it.
struct Submission<'a> {
    services: &'a Submitter,
    active: &'a Arc<ActiveConfig>,
    provider: &'a Arc<Provider>,
    installed: &'a Installed,
    /// The payload that is stored.
    payload: &'a StartPayload,
    /// The same with the session that the run would resume if it started now.
    effective: &'a StartPayload,
    message: Option<&'a Message>,
    cwd: &'a Path,
    caller: Option<&'a BTreeMap<String, String>>,
    inherited: &'a BTreeMap<String, String>,
    /// Whether the run gets a stored token.
    takes_token: bool,
    grants: Grants,
    recorder: &'a Recorder,
    origin: &'a str,
    /// The warning that the run starts in another folder than the requested one.
    moved: Option<CompatibilityWarning>,
    run: RunId,
}

impl Submission<'_> {
    fn accept(&self) -> Result<StartRunResult, ApiError> {
        let contained = self.services.sandbox.contain(self.active, self.effective);
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

        let enqueued_at = self.services.dispatcher.queue_time();
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
        Ok(question.ask(&self.active.gate, &Action::Start(to_value(self.effective).to_string())))
    }

    fn native_checks(&self, contained: bool) -> Result<NativeChecks<'_>, ApiError> {
        Ok(NativeChecks {
            policy: &self.active.config.policy,
            needs: self.provider.instance()?.containment(),
            payload: self.payload,
            contained,
            token: self.takes_token.then(|| self.provider.token_checks(self.caller, &self.services.environment)),
        })
    }

    /// Prepares the command line as an attempt would, so that the user learns of problems at once.
    fn try_to_prepare(&self, containment: &Containment) -> Result<Vec<CompatibilityWarning>, ApiError> {
        let private_dir = self.services.private_folders.path_of(self.run, 1);
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
            every_tool: self.active.gate.decides_tools(),
        };
        let instance = self.provider.instance()?;
        let capabilities = for_plugin(&self.installed.known.snapshot);
        let prepared = prepare::prepare(&self.active.config.policy, instance, &capabilities, &attempt)?;
        Ok(prepared.warnings)
    }

    /// Stores the audit record of a denied submit, which has no run.
    fn record_refusal(&self, audit: PolicyAudit) {
        let recorder = Recorder::new(None, None, self.recorder.redactor().clone());
        let event = recorder.event(&Payload::PolicyAudit(audit));
        let write = self.services.storage.write_urgent(Durability::Full, move |tx| tx.append_event(&event));
        if let Err(error) = write.wait() {
            tracing::error!(%error, "the audit record of a refused submit was not stored");
        }
    }

    /// Reserves capacity in the queue and stores the run, which acknowledges it. Returns its number in the order of arrival.
    fn store(&self, events: Vec<NewEvent>, enqueued_at: Time) -> Result<u64, ApiError> {
        let truth = to_value(self.payload);
        let mut shown = truth.clone();
        self.recorder.redactor().redact_json(&mut shown);
        let sealed_pointers = differences(&truth, &shown);
        let seal = if sealed_pointers.is_empty() && self.caller.is_none() {
            None
        } else {
            let contents = Sealed { payload: truth, client_environment: self.caller.cloned() };
            Some(self.services.sealer.seal(self.run, &contents).map_err(ApiError::internal)?)
        };
        let now = record::now();
        let harness = self.payload.harness.as_ref();
        let new_run = NewRun {
            run_id: self.run,
            provider: self.provider.name.clone(),
            model: self.payload.model.as_deref().map(|model| self.recorder.clean(model)),
            mode: self.payload.mode.unwrap_or(RunMode::NonInteractive),
            title: title(&self.recorder.clean(self.payload.title.as_deref().unwrap_or(&self.payload.prompt))),
            // For readers; the attempt uses the original one from the payload.
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
        let dispatcher = &self.services.dispatcher;
        let writing = dispatcher
            .reserve(run, self.series(), || self.services.storage.write_urgent(Durability::Full, write))
            .map_err(refusal)?;
        let arrival = writing.wait().map_err(ApiError::from).flatten().inspect_err(|_| dispatcher.forget(run))?;
        failpoint::reach("insert.after");
        Ok(arrival)
    }

    /// The series of the run: messages of a conversation run one after another.
    fn series(&self) -> Option<Uuid> {
        self.message.map(|message| series(message.conversation_id()))
    }

    /// Queues the acknowledged run, with the values with which a later host would queue it.
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
        let queued = self.services.dispatcher.admit(job, after, |place, held| {
            let held = held.then_some(true);
            let facts = json!({
                "position": place(), "held": held, "scheduledAt": self.payload.scheduled_at, "startAfter": after,
            });
            let event = self.recorder.progress(ProgressStage::Queued, facts);
            // Not waited for: the run is acknowledged already.
            drop(self.services.storage.write(Durability::Batched, move |tx| tx.append_event(&event)));
        });
        if let Err(active_run) = queued {
            self.services.finalizer.end_waiting(&active_run);
        }
        if let Some(after) = after {
            self.services.finalizer.settle_ended(after);
        }
    }
}

fn refusal(refused: Refused) -> ApiError {
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
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::test_support::{Fixture, SECRET, Services, with_fields};
    use ostler_protocol::EventType;
    use ostler_protocol::methods::CreateConversationParams;
    use ostler_storage::EventFilter;

    /// A host whose provider `mine` can run in a granted folder.
    struct Host {
        fixture: Fixture,
        services: Services,
        submitter: Submitter,
        folder: PathBuf,
    }

    fn host() -> Host {
        let fixture = Fixture::with_program("");
        let services = Services::new(&fixture);
        let (submitter, folder) = (services.submitter(&fixture), fixture.make_folder("work"));
        services.grants.grant(&folder, None).unwrap();
        Host { fixture, services, submitter, folder }
    }

    impl Host {
        /// A request with these fields.
        fn request(&self, fields: Value) -> Value {
            with_fields(json!({"provider": "mine", "prompt": "do it", "cwd": self.folder}), fields)
        }

        fn start(&self, fields: Value) -> Result<RunId, ApiError> {
            self.submitter.start_run(self.request(fields), "test").map(|started| started.run_id)
        }

        fn payload_of(&self, run: RunId) -> Value {
            self.fixture.storage.read(|reader| reader.run(run)).unwrap().unwrap().payload
        }
    }

    #[test]
    fn accepted_run_is_stored_queued_and_has_its_audit_record() {
        let host = host();
        let run = host.start(json!({"queuePriority": 3})).unwrap();
        let view = host.services.dispatcher.view(run).unwrap();
        assert_eq!(view.position.map(|position| position.overall), Some(1));
        let job = host.fixture.storage.read(|reader| reader.job(run)).unwrap().unwrap();
        assert_eq!((job.state, job.priority), (JobState::Ready, 3));
        let kinds: Vec<EventType> = host.fixture.events_of(run).into_iter().map(|event| event.kind).collect();
        assert!(kinds.contains(&EventType::PolicyAudit) && kinds.contains(&EventType::Progress), "{kinds:?}");
    }

    #[test]
    fn secret_of_a_prompt_is_sealed_and_not_in_the_record() {
        let host = host();
        let run = host.start(json!({"prompt": format!("use {SECRET}")})).unwrap();
        assert_eq!(host.payload_of(run)["prompt"], "use [REDACTED:test-key]");
        let loaded = host.services.loader(&host.fixture).load(run, &host.fixture.config.load()).unwrap();
        assert_eq!(loaded.payload.prompt, format!("use {SECRET}"));
    }

    #[test]
    fn run_in_a_folder_that_is_not_granted_leaves_an_audit_record_and_no_run() {
        let host = host();
        let elsewhere = host.fixture.make_folder("elsewhere");
        let error = host.start(json!({"cwd": elsewhere})).unwrap_err();
        assert_eq!(error.kind, ErrorKind::PolicyDenied);
        let filter = EventFilter { types: vec![EventType::PolicyAudit], ..EventFilter::default() };
        let audits = host.fixture.events(&filter);
        assert_eq!(audits.iter().map(|event| event.run_id).collect::<Vec<_>>(), [None]);
        assert!(host.services.dispatcher.close_if_idle());
    }

    #[test]
    fn request_with_problems_is_refused_and_nothing_is_queued() {
        let host = host();
        let error = host.start(json!({"prompt": 1, "unheardOf": true})).unwrap_err();
        assert_eq!((error.kind, error.problems.len()), (ErrorKind::InvalidParams, 2));
        assert_eq!(host.start(json!({"provider": "nobody"})).unwrap_err().kind, ErrorKind::NotFound);
        let missing = host.folder.join("missing");
        assert_eq!(host.start(json!({"cwd": missing})).unwrap_err().kind, ErrorKind::CwdMissing);
        assert!(host.services.dispatcher.close_if_idle());
    }

    #[test]
    fn host_that_is_about_to_end_accepts_no_run() {
        let host = host();
        assert!(host.services.dispatcher.close());
        let error = host.start(json!({})).unwrap_err();
        assert_eq!((error.kind, error.retryable), (ErrorKind::Conflict, true));
        assert_eq!(host.fixture.storage.read(|reader| reader.open_jobs(None)).unwrap(), []);
    }

    #[test]
    fn rerun_merges_overrides_over_the_payload_of_the_first_run() {
        let host = host();
        let first = host.start(json!({"title": "first", "timeoutSeconds": 60})).unwrap();
        let params = json!({"runId": first, "overrides": {"title": "again"}});
        let again = host.submitter.rerun(params, "test").unwrap().run_id;
        let (first, again) = (host.payload_of(first), host.payload_of(again));
        assert_eq!((again["title"].as_str(), &again["timeoutSeconds"]), (Some("again"), &first["timeoutSeconds"]));
        let unknown = json!({"runId": RunId::generate()});
        assert_eq!(host.submitter.rerun(unknown, "test").unwrap_err().kind, ErrorKind::NotFound);
    }

    #[test]
    fn messages_of_a_conversation_wait_for_each_other() {
        let host = host();
        let params = CreateConversationParams { provider: "mine".to_owned(), title: None, metadata: None };
        let conversation = host.submitter.conversations.create(&params).unwrap().conversation_id;
        let send = |fields: Value| {
            let params = json!({"conversationId": conversation, "prompt": "hello", "cwd": host.folder});
            host.submitter.send_message(with_fields(params, fields), "test")
        };
        let [first, second] = [(); 2].map(|()| send(json!({})).unwrap().run_id);
        let counts = host.services.dispatcher.counts();
        assert_eq!((counts.ready, counts.held), (1, 1));
        let runs = host.fixture.storage.read(|reader| reader.conversation_runs(conversation)).unwrap();
        assert_eq!(runs, [first, second]);
        let error = send(json!({"provider": "codex"})).unwrap_err();
        assert_eq!(error.pointer.as_deref(), Some("/provider"));
    }

    #[test]
    fn title_is_one_short_line() {
        assert_eq!(title("\n  fix\tthe build \nand more"), "fix the build");
        let long = title(&"ä".repeat(100));
        assert_eq!(long.chars().count(), 80);
        assert!(long.ends_with('…'));
    }
}
