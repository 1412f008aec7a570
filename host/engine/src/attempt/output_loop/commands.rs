//! Carries out what clients request of a running attempt: input, interrupts, answers, the end of a session.

use std::time::Instant;

use super::OutputLoop;
use super::session_state::{INTERRUPT_LIMIT, SessionAction, SessionState};
use crate::attempt::outcome::StopReason;
use crate::plugin_error;
use crate::session::command::{Client, RunCommand, run_ended};
use ostler_plugin_host::{PluginError, PluginErrorKind, Transcript};
use ostler_protocol::{ApiError, ApprovalDecider, ErrorKind, Payload, SessionClosed, SessionEnd, SessionInput};

/// Bytes of input that may wait for the CLI of a two-way protocol to read them.
pub(crate) const INPUT_QUEUE: usize = 32 << 20;

/// Bytes that a protocol adds to a message of the user.
const ENVELOPE: usize = 4096;

impl OutputLoop<'_> {
    /// Carries out the requests that have arrived.
    pub(super) fn on_commands(&mut self) {
        for command in self.active_run.take_commands() {
            // A client that no longer waits for the result has gone away.
            match command {
                RunCommand::Input { text, client, reply } => _ = reply.send(self.on_input(&text, &client)),
                RunCommand::Keys { keys, client, reply } => _ = reply.send(self.on_keys(&keys, &client)),
                RunCommand::Resize { size, reply } => _ = reply.send(self.on_resize(size)),
                RunCommand::Interrupt { reply } => _ = reply.send(self.on_interrupt()),
                RunCommand::EndSession { reply } => _ = reply.send(self.on_end_session()),
                RunCommand::Answer { id, decision, secrets, client, reply } => {
                    if !secrets.is_empty() {
                        self.recorder.redactor().add(&secrets);
                    }
                    let result = self
                        .check_running()
                        .and_then(|()| self.answer(id, &decision, ApprovalDecider::User, Some(&client)));
                    let _ = reply.send(result);
                }
            }
        }
    }

    fn check_running(&self) -> Result<(), ApiError> {
        if self.stop_reason == StopReason::Nothing && self.exit.is_none() { Ok(()) } else { Err(run_ended()) }
    }

    pub(super) fn check_session(&self) -> Result<(), ApiError> {
        self.check_running()?;
        let Some(session) = &self.session else {
            let message = "the run is not a session: it takes no input";
            return Err(ApiError::new(ErrorKind::Conflict, message).at("/runId"));
        };
        match session.ending() {
            None => Ok(()),
            Some(_) => Err(ApiError::new(ErrorKind::Conflict, "the session is being closed")),
        }
    }

    fn on_input(&mut self, text: &str, client: &Client) -> Result<u64, ApiError> {
        self.check_session()?;
        let (decision, audit) = self.tools.judge_input(text);
        if !decision.findings.is_empty() {
            self.sink.store_within_quota(self.recorder.event(&Payload::PolicyAudit(audit)));
        }
        decision.permit()?;
        self.check_space(serde_json::to_string(text).map_or(usize::MAX, |text| text.len().saturating_add(ENVELOPE)))?;
        let step = self.try_guest(|transcript| transcript.input(text))?;
        self.finish_record();
        let bytes = text.len() as u64;
        let input = SessionInput { bytes, text: text.to_owned(), keys: false, actor: client.actor.clone() };
        self.sink.store(self.recorder.event(&Payload::SessionInputAccepted(input)));
        if let Some(session) = &mut self.session {
            session.on_input(Instant::now());
        }
        self.take(Some(step));
        Ok(bytes)
    }

    /// Checks that there is space for input of this size.
    pub(super) fn check_space(&self, size: usize) -> Result<(), ApiError> {
        if self.child.input_waiting().saturating_add(size) > INPUT_QUEUE {
            let message = "the CLI does not read its input fast enough: earlier messages still wait";
            return Err(ApiError::new(ErrorKind::Conflict, message).retryable(true));
        }
        Ok(())
    }

    fn on_interrupt(&mut self) -> Result<bool, ApiError> {
        self.check_session()?;
        if self.terminal.is_some() {
            return self.interrupt_terminal().map(|()| true);
        }
        if !self.session.as_ref().is_some_and(SessionState::is_running) {
            return Ok(false);
        }
        self.interrupt()?;
        Ok(true)
    }

    fn interrupt(&mut self) -> Result<(), ApiError> {
        let step = self.try_guest(Transcript::interrupt)?;
        if let Some(session) = &mut self.session {
            session.on_interrupt(Instant::now());
        }
        self.take(Some(step));
        Ok(())
    }

    fn on_end_session(&mut self) -> Result<(), ApiError> {
        if self.session.is_none() {
            let message = "the run is not a session";
            return Err(ApiError::new(ErrorKind::Conflict, message).at("/runId").hint("`cancel_run` ends it"));
        }
        // Otherwise it ends already.
        if self.check_running().is_ok() {
            self.end_session(SessionEnd::Ended);
        }
        Ok(())
    }

    /// Begins the end of the session.
    pub(super) fn end_session(&mut self, reason: SessionEnd) {
        if let Some(session) = &mut self.session {
            session.end(reason, Instant::now());
        }
        self.advance_session();
    }

    /// Takes the steps of the session that are due.
    pub(super) fn advance_session(&mut self) {
        while self.stop_reason == StopReason::Nothing && self.exit.is_none() {
            let Some(session) = &mut self.session else { return };
            match session.advance(Instant::now(), self.linger) {
                None => return,
                Some(SessionAction::Interrupt) => {
                    // If the CLI can be interrupted only by a signal, it is stopped after the time limit.
                    if self.interrupt().is_err()
                        && let Some(session) = &mut self.session
                    {
                        session.on_interrupt(Instant::now());
                    }
                }
                Some(SessionAction::CloseInput) => self.child.close_stdin(),
                Some(SessionAction::Stop) => self.end_child(StopReason::SessionEnded),
                Some(SessionAction::Unresponsive) => {
                    let seconds = INTERRUPT_LIMIT.as_secs();
                    let message = format!("the CLI did not end its turn within {seconds} s after it was interrupted");
                    self.end_child(StopReason::Unresponsive(message));
                }
            }
        }
    }

    /// Calls the plugin for a request of a client. A refusal of the plugin is the answer; the transcript goes on.
    pub(super) fn try_guest<T>(
        &mut self,
        call: impl FnOnce(&mut Transcript) -> Result<T, PluginError>,
    ) -> Result<T, ApiError> {
        let transcript = self.transcript.as_mut().map_err(|reason| {
            ApiError::new(ErrorKind::PluginFailed, format!("the plugin of the run has failed: {reason}"))
        })?;
        match call(transcript) {
            Ok(value) => Ok(value),
            Err(error) => {
                let answer = plugin_error(&error);
                if !matches!(error.kind, PluginErrorKind::Guest(_)) {
                    self.give_up("the output cannot be understood any more", &error);
                }
                Err(answer)
            }
        }
    }

    /// Reports the end of the session, when the child has ended.
    pub(super) fn close_session(&mut self) {
        self.finish_record();
        let Some(session) = &self.session else { return };
        let reason = match (&self.stop_reason, session.ending()) {
            (StopReason::Canceled, _) => SessionEnd::Canceled,
            (StopReason::HostStops, _) => SessionEnd::HostStops,
            (StopReason::TimedOut, _) => SessionEnd::TimeLimit,
            (StopReason::Nothing | StopReason::SessionEnded, Some(reason)) => reason,
            (StopReason::Nothing, None) => SessionEnd::Exited,
            _ => SessionEnd::Failed,
        };
        let session_id = self.translator.session().map(|session| session.id.clone());
        self.sink.store(self.recorder.event(&Payload::SessionClosed(SessionClosed { session_id, reason })));
    }
}
