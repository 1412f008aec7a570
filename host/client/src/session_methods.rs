//! The methods of the API for sessions, approvals and the inbox.

use serde_json::Value;

use super::{Client, ClientError};
use ostler_protocol::methods::{
    AcknowledgeParams, AcknowledgeResult, AnswerApprovalParams, EndSessionResult, Inbox, InterruptResult,
    ListApprovalsParams, NoParams, ResizeTerminalParams, ResumeSessionParams, RunParams, SessionInputParams,
    SessionInputResult, SessionResult,
};
use ostler_protocol::{Approval, ApprovalDecision, RunId, TerminalSize};

impl Client {
    /// Starts a session. `payload` is as for [`start_run`](Self::start_run).
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn start_session(&self, payload: &Value) -> Result<SessionResult, ClientError> {
        self.submit("start_interactive_session", payload).await
    }

    /// Attaches to an open session, or resumes the session of an ended run in a new run.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn resume_session(&self, params: &ResumeSessionParams) -> Result<SessionResult, ClientError> {
        self.submit("resume_session", params).await
    }

    /// Sends a message to the agent of a session.
    ///
    /// # Errors
    /// As [`call`](Self::call); `CONFLICT` if the session is not open.
    pub async fn send_session_input(&self, run_id: RunId, data: String) -> Result<SessionInputResult, ClientError> {
        self.call("send_session_input", &SessionInputParams { run_id, data, keys: false }).await
    }

    /// Types keys into the terminal of a session.
    ///
    /// # Errors
    /// As [`call`](Self::call); `CONFLICT` if the session is not open or has no terminal.
    pub async fn send_keys(&self, run_id: RunId, keys: String) -> Result<SessionInputResult, ClientError> {
        self.call("send_session_input", &SessionInputParams { run_id, data: keys, keys: true }).await
    }

    /// Changes the size of the terminal of a session.
    ///
    /// # Errors
    /// As [`call`](Self::call); `CONFLICT` if the session is not open or has no terminal.
    pub async fn resize_terminal(&self, run_id: RunId, size: TerminalSize) -> Result<TerminalSize, ClientError> {
        let TerminalSize { rows, columns } = size;
        self.call("resize_terminal", &ResizeTerminalParams { run_id, rows, columns }).await
    }

    /// Interrupts the current turn of a session.
    ///
    /// # Errors
    /// As [`call`](Self::call); `CONFLICT` if the session is not open.
    pub async fn interrupt_turn(&self, run_id: RunId) -> Result<InterruptResult, ClientError> {
        self.call("interrupt_turn", &RunParams { run_id }).await
    }

    /// Ends a session in order, and waits until its run has ended.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn end_session(&self, run_id: RunId) -> Result<EndSessionResult, ClientError> {
        self.call("end_session", &RunParams { run_id }).await
    }

    /// What agents wait for, of one run or of all.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn list_approvals(&self, run_id: Option<RunId>) -> Result<Vec<Approval>, ClientError> {
        self.call("list_approvals", &ListApprovalsParams { run_id }).await
    }

    /// Answers an approval.
    ///
    /// # Errors
    /// As [`call`](Self::call); `CONFLICT` if it is closed, with who has decided it.
    pub async fn answer_approval(&self, params: &AnswerApprovalParams) -> Result<ApprovalDecision, ClientError> {
        self.call("answer_approval", params).await
    }

    /// What waits for a person.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn get_inbox(&self) -> Result<Inbox, ClientError> {
        self.call("get_inbox", &NoParams {}).await
    }

    /// Removes failed runs from the inbox: these, or all.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn acknowledge_failures(&self, run_ids: Option<Vec<RunId>>) -> Result<AcknowledgeResult, ClientError> {
        self.call("acknowledge_failures", &AcknowledgeParams { run_ids }).await
    }
}
