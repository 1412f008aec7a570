//! Messages: the runs of a conversation.
//!
//! A message is an ordinary run with four differences. It is linked to its conversation in the transaction that
//! acknowledges it. It starts only when the messages before it have ended: its conversation is a series of the scheduler.
//! It resumes the session that the conversation has at that moment. The session that its CLI reports is stored at once, so
//! that the next message resumes it even if the host was killed.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::record::{Recorder, event_of};
use crate::submit::profile::explained;
use crate::submit::request;
use crate::submit::{SubmitRequest, Submitter, title};
use ostler_protocol::methods::{OF_THE_CONVERSATION, StartRunResult};
use ostler_protocol::{
    ApiError, Conversation, ConversationId, ConversationSession, ErrorKind, MessageSent, NewEvent, Payload, Problem,
    RunId, RunMode, StartPayload, WarningCode,
};
use ostler_schema::validate_document;
use ostler_storage::{StorageError, WriteTx};

/// The scheduler's series of a conversation.
pub(crate) fn series(conversation: ConversationId) -> Uuid {
    *conversation.as_uuid()
}

impl Submitter {
    /// Starts a run as the next message of a conversation.
    ///
    /// # Errors
    /// As for [`Self::start_run`]; `NOT_FOUND` for the conversation, and `CONFLICT` if it is archived.
    pub fn send_message(&self, mut params: Value, origin: &str) -> Result<StartRunResult, ApiError> {
        let caller = request::take_variables(&mut params)?;
        let mut problems = Vec::new();
        let id = request::take_id::<ConversationId>(&mut params, "conversationId")
            .map_err(|problem| problems.push(problem))
            .ok();
        for name in OF_THE_CONVERSATION {
            if request::take(&mut params, name).is_some() {
                let message = "belongs to the conversation; leave it out".to_owned();
                problems.push(Problem { pointer: format!("/{name}"), message });
            }
        }
        let conversation = id.map(|id| self.conversations.find(id)).transpose()?;
        if let (Some(conversation), Some(members)) = (&conversation, params.as_object_mut()) {
            members.insert("provider".to_owned(), conversation.provider.clone().into());
            if let Some(cwd) = conversation.cwd.as_ref().filter(|_| members.get("cwd").is_none_or(Value::is_null)) {
                members.insert("cwd".to_owned(), json!(cwd));
            }
        }
        let profile = if conversation.is_some() { self.profiles.apply(&mut params)? } else { None };
        let parsed = validate_document::<StartPayload>(params).map_err(|error| explained(profile.as_ref(), error));
        if let Err(error) = &parsed {
            // Without a conversation, the provider is not known.
            let known = |problem: &&Problem| conversation.is_some() || problem.pointer != "/provider";
            problems.extend(error.problems.iter().filter(known).cloned());
        }
        if !problems.is_empty() {
            return Err(ApiError::invalid(problems));
        }
        let (payload, Some(conversation)) = (parsed?, conversation) else {
            return Err(ApiError::internal("a message without a conversation"));
        };
        self.config.load().provider(&conversation.provider).map_err(|error| error.at("/conversationId"))?;
        self.submit(SubmitRequest { payload, profile, caller, conversation: Some(conversation) }, origin)
    }
}

/// A run that is about to join its conversation.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// The conversation when the message was checked.
    conversation: Conversation,
    /// The title for a conversation that has none.
    title: String,
    /// The working folder of the run, redacted.
    cwd: PathBuf,
    /// Whether the payload names a session to resume.
    brings_session: bool,
    /// Whether the folder of the conversation no longer exists.
    folder_gone: bool,
    /// The warning that the session cannot be resumed because its folder no longer exists.
    left_behind: NewEvent,
}

/// How a message joins its conversation.
#[derive(Debug)]
pub(crate) struct Joins {
    /// The conversation in the transaction.
    conversation: Conversation,
    /// Whether the session cannot be resumed in the folder of the message.
    leaves_session: bool,
}

impl Message {
    /// A payload that has been checked as a message.
    pub(crate) fn new(conversation: Conversation, payload: &StartPayload, cwd: &Path, recorder: &Recorder) -> Self {
        let folder = conversation.cwd.clone();
        let text = "the folder of the conversation's session is gone; a new session is begun in another";
        Self {
            title: title(&recorder.clean(payload.title.as_deref().unwrap_or(&payload.prompt))),
            cwd: PathBuf::from(recorder.clean(&cwd.display().to_string())),
            brings_session: brings_session(payload),
            folder_gone: folder.as_ref().is_some_and(|folder| !folder.is_dir()),
            left_behind: recorder.warning(WarningCode::SessionResumeInvalid, text, json!({"folder": folder})),
            conversation,
        }
    }

    pub(crate) const fn conversation_id(&self) -> ConversationId {
        self.conversation.conversation_id
    }

    /// The payload that an attempt would use if it started now.
    pub(crate) fn resuming(&self, payload: &StartPayload) -> StartPayload {
        let mut payload = payload.clone();
        if let Some(session) = self.conversation.session_id.as_deref().filter(|_| !self.folder_gone) {
            resume(&mut payload, session);
        }
        payload
    }

    /// Whether the conversation accepts the message. Writes nothing.
    pub(crate) fn admit(&self, tx: &mut WriteTx<'_>) -> Result<Result<Joins, ApiError>, StorageError> {
        let conversation = tx.conversation(self.conversation_id())?;
        if let Err(refused) = refuse_archived(&conversation) {
            return Ok(Err(refused));
        }
        let works = tx.conversation_works(self.conversation_id())?;
        Ok(self.check_folder(&conversation, works).map(|leaves_session| Joins { conversation, leaves_session }))
    }

    /// Checks the folder of the message: some CLIs find a session only in its folder. Returns whether the message abandons
    /// the session.
    fn check_folder(&self, conversation: &Conversation, works: bool) -> Result<bool, ApiError> {
        let Some(folder) = conversation.cwd.as_ref().filter(|folder| **folder != self.cwd) else { return Ok(false) };
        // Without a session, and without a run that may start one, the conversation is not bound to its folder.
        if self.brings_session || (conversation.session_id.is_none() && !works) {
            return Ok(false);
        }
        if self.folder_gone && !works && conversation.cwd == self.conversation.cwd {
            return Ok(true);
        }
        let message = format!("the conversation works in {}, where its session lives", folder.display());
        let problem = Problem { pointer: "/cwd".to_owned(), message };
        Err(ApiError::invalid(vec![problem]).hint("leave `cwd` out, or begin a conversation for the other folder"))
    }

    /// Links the run, which was inserted in the same transaction.
    pub(crate) fn join(
        &self,
        tx: &mut WriteTx<'_>,
        run: RunId,
        joins: Joins,
        at: Timestamp,
    ) -> Result<(), StorageError> {
        let Joins { mut conversation, leaves_session } = joins;
        let id = conversation.conversation_id;
        tx.link_conversation(id, run, at)?;
        let sent = MessageSent { run_id: run, provider: conversation.provider.clone() };
        tx.append_event(&event_of(id, &Payload::ConversationMessageSent(sent), at))?;
        conversation.cwd = Some(self.cwd.clone());
        conversation.updated_at = at;
        if leaves_session {
            set_session(tx, &mut conversation, None, at)?;
            tx.append_event(&self.left_behind)?;
        }
        if conversation.title.is_none() {
            conversation.title = Some(self.title.clone());
            tx.update_conversation(&conversation)?;
            tx.append_event(&event_of(id, &Payload::ConversationRenamed(conversation), at))?;
        }
        Ok(())
    }
}

/// Checks a payload as a message of a conversation.
///
/// # Errors
/// `INVALID_PARAMS` for a payload that is not a message of this conversation, `CONFLICT` if the conversation is archived.
pub(crate) fn check(conversation: &Conversation, payload: &StartPayload) -> Result<(), ApiError> {
    let mut problems = Vec::new();
    if payload.provider != conversation.provider {
        let message = format!("the conversation is one of provider {}", conversation.provider);
        problems.push(Problem { pointer: "/provider".to_owned(), message });
    }
    if payload.mode == Some(RunMode::Interactive) {
        let message = "the messages of a conversation are not interactive".to_owned();
        problems.push(Problem { pointer: "/mode".to_owned(), message });
    }
    if problems.is_empty() { refuse_archived(conversation) } else { Err(ApiError::invalid(problems)) }
}

/// Refuses messages for an archived conversation.
fn refuse_archived(conversation: &Conversation) -> Result<(), ApiError> {
    if conversation.archived_at.is_none() {
        return Ok(());
    }
    let message = format!("the conversation {} is archived and takes no messages", conversation.conversation_id);
    let hint = format!("`archive_conversation({}, false)` unarchives it", conversation.conversation_id);
    Err(ApiError::new(ErrorKind::Conflict, message).hint(hint))
}

/// Whether a payload names a session to resume.
pub(crate) fn brings_session(payload: &StartPayload) -> bool {
    let harness = payload.harness.as_ref();
    harness.is_some_and(|harness| harness.resume_session_id.is_some() || harness.continue_session == Some(true))
}

/// Sets the session that a payload resumes, unless it names one.
pub(crate) fn resume(payload: &mut StartPayload, session: &str) {
    if !brings_session(payload) {
        payload.harness.get_or_insert_default().resume_session_id = Some(session.to_owned());
    }
}

/// Stores the session of a run, also with its conversation. `session` is redacted; `usable` is true if redaction did not
/// change it.
pub(crate) fn store_session(
    tx: &mut WriteTx<'_>,
    run: RunId,
    session: &str,
    usable: bool,
    at: Timestamp,
) -> Result<(), StorageError> {
    tx.set_session(run, Some(session))?;
    match tx.conversation_of(run)? {
        Some(mut conversation) => set_session(tx, &mut conversation, Some(session).filter(|_| usable), at),
        None => Ok(()),
    }
}

/// Removes the session that a run resumed: the provider no longer knows it.
pub(crate) fn forget_session(
    tx: &mut WriteTx<'_>,
    run: RunId,
    resumed: Option<&str>,
    at: Timestamp,
) -> Result<(), StorageError> {
    tx.set_session(run, None)?;
    match tx.conversation_of(run)? {
        Some(mut conversation) if conversation.session_id.as_deref() == resumed => {
            set_session(tx, &mut conversation, None, at)
        }
        _ => Ok(()),
    }
}

fn set_session(
    tx: &mut WriteTx<'_>,
    conversation: &mut Conversation,
    session: Option<&str>,
    at: Timestamp,
) -> Result<(), StorageError> {
    if conversation.session_id.as_deref() == session {
        return Ok(());
    }
    conversation.session_id = session.map(str::to_owned);
    conversation.updated_at = at;
    tx.update_conversation(conversation)?;
    let payload = Payload::ConversationSessionUpdated(ConversationSession { session_id: session.map(str::to_owned) });
    tx.append_event(&event_of(conversation.conversation_id, &payload, at)).map(drop)
}

/// Updates the conversation of a run that has ended in this transaction.
pub(crate) fn run_ended(tx: &mut WriteTx<'_>, run: RunId, at: Timestamp) -> Result<(), StorageError> {
    let Some(mut conversation) = tx.conversation_of(run)? else { return Ok(()) };
    conversation.updated_at = at;
    tx.update_conversation(&conversation)?;
    let id = conversation.conversation_id;
    tx.append_event(&event_of(id, &Payload::ConversationUpdated(conversation), at)).map(drop)
}
