//! Interactive sessions, approvals, and the inbox: what clients do with a run while it runs.
//!
//! The CLI of a run belongs to the thread of its attempt. A client's request goes there as a [`command`], and the client
//! waits for the result. [`approvals`] are shared by all runs: the attempt opens and closes them, clients list and answer
//! them.

pub(crate) mod answer;
pub(crate) mod approvals;
pub(crate) mod command;
mod inbox;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::audit::{AuditEntry, AuditLog};
use crate::queue::active_run::ActiveRun;
use crate::queue::dispatch::Dispatcher;
use crate::submit::Submitter;
use approvals::Approvals;
use command::{Client, RunCommand, no_cli, reply};
use ostler_protocol::methods::{
    AnswerApprovalParams, EndSessionResult, InterruptResult, ListApprovalsParams, ResizeTerminalParams,
    ResumeSessionParams, SessionInputParams, SessionInputResult, SessionResult,
};
use ostler_protocol::{
    Actor, ApiError, Approval, ApprovalDecision, AuditKind, ErrorKind, NewEvent, Payload, Progress, ProgressStage,
    RunId, RunMode, RunRecord, RunStatus, TerminalSize,
};
use ostler_storage::{Durability, Storage};

pub use inbox::InboxService;

/// How long the start of a session waits for the CLI to open it.
const OPEN_LIMIT: Duration = Duration::from_secs(30);

/// Pause between two looks at a run that has no slot yet.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Starts sessions, passes on what clients say in them, and answers what agents wait for.
pub struct Sessions {
    pub(crate) storage: Storage,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) submitter: Arc<Submitter>,
    pub(crate) approvals: Approvals,
    pub(crate) audit: Arc<AuditLog>,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

impl Sessions {
    /// Starts a session, and waits until the CLI has opened it or it is clear that the run must wait for a slot.
    ///
    /// # Errors
    /// As for `start_run`; `INVALID_PARAMS` for another mode.
    pub fn start(&self, mut params: Value, origin: &str) -> Result<SessionResult, ApiError> {
        if let Some(members) = params.as_object_mut() {
            let mode = members.entry("mode").or_insert(Value::Null);
            if mode.is_null() {
                *mode = json!(RunMode::Interactive);
            } else if *mode != json!(RunMode::Interactive) {
                let message = "a session has the mode `interactive`; `start_run` starts other runs";
                return Err(ApiError::new(ErrorKind::InvalidParams, message).at("/mode"));
            }
        }
        let run_id = self.submitter.start_run(params, origin)?.run_id;
        Ok(SessionResult { run_id, session_id: self.wait_for_session(run_id), attached: false })
    }

    /// Passes a message of the user to the CLI of a session.
    ///
    /// # Errors
    /// `NOT_FOUND`; `CONFLICT` if the run has ended, does not run yet, or is no session; `POLICY_DENIED`.
    pub fn send_input(
        &self,
        params: &SessionInputParams,
        actor: &Actor,
        origin: &str,
    ) -> Result<SessionInputResult, ApiError> {
        let run = self.session(params.run_id)?;
        let (reply, result) = reply();
        let (text, client) = (params.data.clone(), client(actor, origin));
        run.send(if params.keys {
            RunCommand::Keys { keys: text, client, reply }
        } else {
            RunCommand::Input { text, client, reply }
        })?;
        Ok(SessionInputResult { accepted: result.wait()? })
    }

    /// Changes the size of the terminal of a session.
    ///
    /// # Errors
    /// As for [`send_input`](Self::send_input); `CONFLICT` if the session has no terminal.
    pub fn resize_terminal(&self, params: &ResizeTerminalParams) -> Result<TerminalSize, ApiError> {
        let run = self.session(params.run_id)?;
        let size = TerminalSize { rows: params.rows, columns: params.columns };
        let (reply, result) = reply();
        run.send(RunCommand::Resize { size, reply })?;
        result.wait().map(|()| size)
    }

    /// Interrupts the current turn of a session, which stays open.
    ///
    /// # Errors
    /// As for [`send_input`](Self::send_input); `INVALID_PARAMS` if the CLI cannot be interrupted.
    pub fn interrupt(&self, run: RunId) -> Result<InterruptResult, ApiError> {
        let active_run = self.session(run)?;
        let (reply, result) = reply();
        active_run.send(RunCommand::Interrupt { reply })?;
        Ok(InterruptResult { interrupting: result.wait()? })
    }

    /// Ends a session in order: interrupts a turn that runs, closes the input of the CLI, and stops a CLI that stays.
    /// Returns when the run has ended. It is not an error if it had ended before.
    ///
    /// # Errors
    /// `NOT_FOUND`; `CONFLICT` if the run is no session or does not run yet.
    pub fn end(&self, run: RunId) -> Result<EndSessionResult, ApiError> {
        let record = self.record(run)?;
        if record.summary.status.ended() {
            return Ok(EndSessionResult { status: record.summary.status });
        }
        let active_run = match self.session(run) {
            Ok(active_run) => active_run,
            Err(error) => {
                // It may have ended in the meantime.
                let status = self.status(run)?;
                return if status.ended() { Ok(EndSessionResult { status }) } else { Err(error) };
            }
        };
        let (reply, result) = reply();
        let sent = active_run.send(RunCommand::EndSession { reply });
        match sent.and_then(|()| result.wait()) {
            Ok(()) => {}
            // It ends by itself.
            Err(error) if error.kind == ErrorKind::Conflict && active_run.is_ending() => {}
            Err(error) => return Err(error),
        }
        active_run.wait();
        Ok(EndSessionResult { status: self.status(run)? })
    }

    /// Attaches to a session that is open, or starts a new run that resumes the session of an ended one.
    ///
    /// # Errors
    /// `NOT_FOUND`; `CONFLICT` if the session of an ended run is not known; as for `rerun`.
    pub fn resume(&self, params: &ResumeSessionParams, origin: &str) -> Result<SessionResult, ApiError> {
        let record = self.record(params.run_id)?;
        if !record.summary.status.ended() {
            if record.summary.mode != RunMode::Interactive {
                let message = "the run is not a session, and it has not ended";
                return Err(ApiError::new(ErrorKind::Conflict, message).at("/runId"));
            }
            if params.prompt.as_ref().is_some_and(|prompt| !prompt.is_empty()) {
                let message = "the session is open: send the message with `send_session_input`";
                return Err(ApiError::new(ErrorKind::Conflict, message).at("/prompt"));
            }
            self.record_replay(params);
            let session_id = self.wait_for_session(params.run_id);
            return Ok(SessionResult { run_id: params.run_id, session_id, attached: true });
        }
        let Some(session) = record.session_id else {
            let message = "the session of the run is not known, so it cannot be resumed";
            return Err(ApiError::new(ErrorKind::Conflict, message)
                .at("/runId")
                .hint("`rerun` starts it again from the beginning"));
        };
        let prompt = params.prompt.clone().unwrap_or_default();
        let environment = Some(&params.client_environment).filter(|variables| !variables.is_empty());
        let environment = environment.cloned();
        let run_id = self.submitter.resume_session(params.run_id, &session, &prompt, environment, origin)?.run_id;
        Ok(SessionResult { run_id, session_id: self.wait_for_session(run_id), attached: false })
    }

    /// The open approvals, oldest first.
    ///
    /// # Errors
    /// `NOT_FOUND` for an unknown run.
    pub fn list_approvals(&self, params: &ListApprovalsParams) -> Result<Vec<Approval>, ApiError> {
        if let Some(run) = params.run_id {
            self.status(run)?;
        }
        Ok(self.approvals.list(params.run_id))
    }

    /// Answers an approval.
    ///
    /// # Errors
    /// `NOT_FOUND`; `CONFLICT` if it is closed, with who has decided it; `INVALID_PARAMS` for an answer that does not fit.
    pub fn answer(
        &self,
        params: &AnswerApprovalParams,
        actor: &Actor,
        origin: &str,
    ) -> Result<ApprovalDecision, ApiError> {
        self.status(params.run_id)?;
        let decided = self.approvals.answer(params, &client(actor, origin))?;
        let entry = AuditEntry::new(AuditKind::Approval, actor)
            .run(params.run_id)
            .fact("approval", params.request_id.to_string())
            .fact("decision", decided.decision.name())
            .fact("by", decided.decided_by.name())
            .fact("client", origin)
            .fact("edited", decided.edited.then_some(true))
            .fact("stopTurn", decided.stop_turn.then_some(true));
        self.audit.append_durably(entry)?;
        Ok(decided)
    }

    /// The run of a session whose CLI runs.
    fn session(&self, run: RunId) -> Result<Arc<ActiveRun>, ApiError> {
        if let Some(active_run) = self.dispatcher.active(run) {
            return Ok(active_run);
        }
        let conflict = |message: String| ApiError::new(ErrorKind::Conflict, message);
        let error = match self.status(run)? {
            RunStatus::Queued => {
                conflict("the run has not started: its session is not open yet".to_owned()).retryable(true)
            }
            status if status.ended() => {
                conflict(format!("the run has ended ({status})")).hint("`resume_session` continues it in a new run")
            }
            _ => no_cli(),
        };
        Err(error.at("/runId"))
    }

    fn record(&self, run: RunId) -> Result<RunRecord, ApiError> {
        self.storage.read(|reader| reader.run(run))?.ok_or_else(|| ApiError::not_found("run", run).at("/runId"))
    }

    fn status(&self, run: RunId) -> Result<RunStatus, ApiError> {
        let status = self.storage.read(|reader| reader.run_status(run))?;
        status.ok_or_else(|| ApiError::not_found("run", run).at("/runId"))
    }

    /// Waits until the CLI of a run has opened its session, the run has ended, or it must wait for a slot.
    fn wait_for_session(&self, run: RunId) -> Option<String> {
        let until = Instant::now() + OPEN_LIMIT;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if let Some(active_run) = self.dispatcher.active(run) {
                return active_run.wait_for_session(left);
            }
            // Without a reason to wait, it starts at once.
            let view = self.dispatcher.view(run)?;
            if view.wait.is_some() || left.is_zero() {
                return None;
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Records that a client continues to read the events of an open session.
    fn record_replay(&self, params: &ResumeSessionParams) {
        let facts = json!({"after": params.after.unwrap_or(0)});
        let Value::Object(facts) = facts else { return };
        let progress = Payload::Progress(Progress { stage: ProgressStage::SessionReplayed, facts });
        let event = NewEvent {
            run_id: Some(params.run_id),
            conversation_id: None,
            kind: progress.kind(),
            payload: crate::record::to_value(&progress).to_string(),
            timestamp: crate::record::now(),
        };
        // A run that has just ended takes no events.
        let written = self.storage.write(Durability::Batched, move |tx| tx.append_event(&event)).wait();
        if let Err(error) = written {
            tracing::debug!(run = %params.run_id, %error, "a replay was not recorded");
        }
    }
}

fn client(actor: &Actor, origin: &str) -> Client {
    Client { actor: actor.to_string(), interface: origin.to_owned() }
}
