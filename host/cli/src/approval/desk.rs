//! The open approvals of a run at a terminal: one dialog after the other.

use std::collections::{HashSet, VecDeque};
use std::time::Instant;

use jiff::Timestamp;
use serde::Deserialize;
use tokio::task::JoinSet;

use super::super::terminal::{FooterText, Key, Keyboard};
use super::super::{actors, option_names};
use super::edit::run_editor;
use super::prompt::{Prompt, PromptAction};
use super::render::{self, Look};
use ostler_client::Client;
use ostler_protocol::semantic::ApprovalRequest;
use ostler_protocol::{
    ApiError, Approval, ApprovalDecider, ApprovalDecision, ApprovalId, ApprovalKind, ApprovalVerdict, ErrorKind, Event,
    EventType, Semantic,
};

/// A change of the approvals of a run, from its events.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    Opened(Box<Approval>),
    Decided(Box<ApprovalDecision>),
    Withdrawn(String),
}

impl Change {
    /// The change that an event reports, if any.
    pub(crate) fn of_event(event: &Event) -> Option<Self> {
        let kind = event.payload.get("kind")?.as_str()?;
        let is_change = event.kind == EventType::Semantic && kind.starts_with("approval_");
        if !is_change {
            return None;
        }
        Self::of(&Semantic::deserialize(&event.payload).ok()?)
    }

    /// The change that the meaning of an output reports, if any.
    fn of(semantic: &Semantic) -> Option<Self> {
        match semantic {
            Semantic::ApprovalRequested(ApprovalRequest { approval: Some(approval), .. }) => {
                Some(Self::Opened(approval.clone()))
            }
            Semantic::ApprovalDecided(decision) => Some(Self::Decided(Box::new(decision.clone()))),
            Semantic::ApprovalWithdrawn(withdrawal) => Some(Self::Withdrawn(withdrawal.request_id.clone())),
            _ => None,
        }
    }
}

/// The open approvals of a run, oldest first, and the dialog about the first one.
#[derive(Debug)]
pub(crate) struct Desk {
    client: Client,
    color: bool,
    open: VecDeque<Approval>,
    /// Open approvals that get no dialog.
    announced: HashSet<ApprovalId>,
    prompt: Option<Prompt>,
    calls: JoinSet<Answered>,
}

/// The result of an answer that was sent to the host.
#[derive(Debug)]
pub(crate) struct Answered {
    id: ApprovalId,
    result: Result<ApprovalDecision, ApiError>,
}

/// What a dialog needs from its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DeskRequest {
    Nothing,
    /// Call [`Desk::edit`] with this text. The terminal shows an editor meanwhile.
    Edit(String),
}

impl Desk {
    pub(crate) fn new(client: Client, color: bool) -> Self {
        Self { client, color, open: VecDeque::new(), announced: HashSet::new(), prompt: None, calls: JoinSet::new() }
    }

    /// Takes a change. Returns a line about it, if there is something to say.
    pub(crate) fn take(&mut self, change: &Change) -> Option<String> {
        match change {
            Change::Opened(approval) => {
                if self.open.iter().all(|open| open.id != approval.id) {
                    self.open.push_back(approval.as_ref().clone());
                }
                None
            }
            Change::Decided(decision) => match self.close(decision.request_id) {
                Some(approval) => Some(self.about(&approval, decision)),
                None => self.about_unasked(decision),
            },
            Change::Withdrawn(id) => {
                let approval = self.close(id.parse().ok()?)?;
                let title = super::super::clean::line(&approval.title);
                Some(format!("the agent no longer waits for an answer: {title}"))
            }
        }
    }

    /// Removes an approval, and its dialog.
    fn close(&mut self, id: ApprovalId) -> Option<Approval> {
        let index = self.open.iter().position(|open| open.id == id)?;
        if self.prompt.as_ref().is_some_and(|prompt| prompt.approval().id == id) {
            self.prompt = None;
        }
        self.open.remove(index)
    }

    fn about(&self, approval: &Approval, decision: &ApprovalDecision) -> String {
        let own = decision.decided_by == ApprovalDecider::User && decision.actor.as_deref().is_some_and(actors::is_own);
        render::decided(&approval.title, approval.kind, decision, own, self.color)
    }

    /// A line about a denial without a question.
    fn about_unasked(&self, decision: &ApprovalDecision) -> Option<String> {
        let unasked = matches!(decision.decided_by, ApprovalDecider::Policy | ApprovalDecider::Host);
        let denied = decision.decision == ApprovalVerdict::Deny && unasked;
        denied.then(|| render::decided("a tool use", ApprovalKind::Tool, decision, false, self.color))
    }

    /// Whether an approval waits for a dialog.
    pub(crate) fn waits(&self) -> bool {
        self.prompt.is_none() && self.open.iter().any(|open| !self.announced.contains(&open.id))
    }

    /// The approvals that wait for a dialog. They get none any more: a note says how to answer them elsewhere.
    pub(crate) fn announce(&mut self) -> Vec<Approval> {
        let waiting: Vec<Approval> =
            self.open.iter().filter(|open| !self.announced.contains(&open.id)).cloned().collect();
        self.announced.extend(waiting.iter().map(|approval| approval.id));
        waiting
    }

    /// Whether a dialog is open.
    pub(crate) const fn is_asking(&self) -> bool {
        self.prompt.is_some()
    }

    /// Whether a text is being typed in the dialog.
    pub(crate) fn is_typing(&self) -> bool {
        self.prompt.as_ref().is_some_and(Prompt::is_typing)
    }

    /// Opens the dialog about the first approval, unless one is open. `typing`: when the user typed the last key of
    /// something else.
    pub(crate) fn ask(&mut self, look: Look, typing: Option<Instant>) {
        if self.prompt.is_none()
            && let Some(approval) = self.open.iter().find(|open| !self.announced.contains(&open.id))
        {
            self.prompt = Some(Prompt::new(approval.clone(), look, typing));
        }
    }

    /// Removes and returns the text to print above the dialog.
    pub(crate) fn take_output(&mut self) -> String {
        self.prompt.as_mut().map(Prompt::take_output).unwrap_or_default()
    }

    /// The lines of the dialog.
    pub(crate) fn footer(&self, look: Look, now: Timestamp) -> FooterText {
        let others = self.open.len().saturating_sub(1);
        self.prompt.as_ref().map(|prompt| prompt.footer(look, now, others)).unwrap_or_default()
    }

    /// Processes a key. Without a dialog, it has no effect.
    pub(crate) fn key(&mut self, key: &Key, look: Look) -> DeskRequest {
        let Some(prompt) = &mut self.prompt else { return DeskRequest::Nothing };
        let action = prompt.key(key, look, Instant::now());
        self.carry_out(action)
    }

    fn carry_out(&mut self, action: PromptAction) -> DeskRequest {
        match action {
            PromptAction::Nothing => DeskRequest::Nothing,
            PromptAction::Edit(text) => DeskRequest::Edit(text),
            PromptAction::Send(answer) => {
                let client = self.client.clone();
                self.calls.spawn(async move {
                    let result = client.answer_approval(&answer).await.map_err(ApiError::from);
                    Answered { id: answer.request_id, result }
                });
                DeskRequest::Nothing
            }
        }
    }

    /// Runs the user's editor on the input of the approval, and sends the edited input. The terminal belongs to the
    /// editor meanwhile.
    pub(crate) async fn edit(&mut self, keyboard: &mut Keyboard, text: String) {
        keyboard.stop();
        let before = text.clone();
        let edited = tokio::task::spawn_blocking(move || run_editor(&text)).await;
        let _ = keyboard.start(true);
        let Some(prompt) = &mut self.prompt else { return };
        match edited {
            Ok(Ok(text)) => {
                let action = prompt.edited(&before, text);
                self.carry_out(action);
            }
            Ok(Err(error)) => prompt.rejected(error.message),
            Err(_) => prompt.rejected("the editor could not be started".to_owned()),
        }
    }

    /// The result of the next answer. Never returns if none is on its way. Cancel-safe.
    pub(crate) async fn answered(&mut self) -> Answered {
        loop {
            match self.calls.join_next().await {
                Some(Ok(answered)) => return answered,
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Takes the result of an answer. Returns a line about it, if there is something to say.
    pub(crate) fn finish(&mut self, answered: Answered) -> Option<String> {
        let Answered { id, result } = answered;
        match result {
            Ok(decision) => {
                let approval = self.close(id)?;
                Some(self.about(&approval, &decision))
            }
            Err(error) => {
                let error = option_names::of_error(error);
                // It was decided by another. The event about that says who, and closes the dialog.
                let closed = error.kind == ErrorKind::Conflict || error.kind == ErrorKind::NotFound;
                let message = error.message;
                match self.prompt.as_mut().filter(|prompt| prompt.approval().id == id) {
                    Some(prompt) => {
                        prompt.rejected(message);
                        None
                    }
                    None if closed => None,
                    None => Some(message),
                }
            }
        }
    }
}
