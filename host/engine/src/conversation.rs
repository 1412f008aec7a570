//! Conversations: making, finding and changing them. What is said in them is [`crate::submit::message`]'s.

use serde_json::{Map, Value};

use crate::Engine;
use crate::record::{event_of, now};
use crate::submit::request;
use ostler_protocol::methods::{
    ArchiveConversationParams, ConversationResult, CreateConversationParams, GetConversationParams,
    ListConversationsParams, RenameConversationParams, UpdateConversationParams,
};
use ostler_protocol::{
    ApiError, Conversation, ConversationId, ConversationSummary, Page, Payload, Problem, merge_patch,
};
use ostler_schema::validate_document;
use ostler_storage::{ConversationFilter, Durability, StorageErrorKind, WriteTx};

/// Conversations on a page, and runs of one, where nothing is said.
const DEFAULT_PAGE: u32 = 50;
const DEFAULT_RUNS: u32 = 200;

/// Characters of a title that is given.
const MAX_TITLE: usize = 200;

/// Bytes of metadata as JSON: every event of the conversation's fields carries them.
const MAX_METADATA: usize = 16 << 10;

impl Engine {
    /// Creates a conversation.
    ///
    /// # Errors
    /// `NOT_FOUND` for the provider, `INVALID_PARAMS` for a title or metadata that cannot be kept.
    pub fn create_conversation(&self, params: &CreateConversationParams) -> Result<Conversation, ApiError> {
        let CreateConversationParams { provider, title, metadata } = params;
        let mut problems = Vec::new();
        let title = title.as_deref().map(|title| self.clean_title(title, &mut problems));
        let mut metadata = Value::Object(metadata.clone().unwrap_or_default());
        check_metadata(&metadata, &mut problems);
        refuse(problems)?;
        self.redactors.for_data().redact_json(&mut metadata);
        let provider = self.config.load().provider(provider)?.name.clone();
        let now = now();
        let conversation = Conversation {
            conversation_id: ConversationId::generate(),
            provider,
            title,
            metadata,
            session_id: None,
            cwd: None,
            archived_at: None,
            created_at: now,
            updated_at: now,
        };
        let made = conversation.clone();
        let write = self.storage.write_urgent(Durability::Full, move |tx| {
            tx.insert_conversation(&made)?;
            tx.append_event(&event_of(made.conversation_id, &Payload::ConversationCreated(made.clone()), now))
        });
        write.wait()?;
        Ok(conversation)
    }

    /// Conversations, the last changed first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn list_conversations(&self, params: &ListConversationsParams) -> Result<Page<ConversationSummary>, ApiError> {
        let filter = ConversationFilter {
            provider: params.provider.clone(),
            include_archived: params.include_archived.unwrap_or(false),
            search: params.search.clone(),
        };
        self.make_ready_for(filter.search.as_deref())?;
        let limit = u64::from(params.limit.unwrap_or(DEFAULT_PAGE));
        Ok(self.storage.read(|reader| reader.conversations(&filter, limit, params.offset.unwrap_or(0)))?)
    }

    /// A conversation with its runs.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub fn get_conversation(&self, params: &GetConversationParams) -> Result<ConversationResult, ApiError> {
        let (id, limit) = (params.conversation_id, u64::from(params.limit.unwrap_or(DEFAULT_RUNS)));
        let (found, runs) = self.storage.read(|reader| {
            Ok((reader.conversation(id)?, reader.runs_of_conversation(id, limit, params.offset.unwrap_or(0))?))
        })?;
        let conversation = found.ok_or_else(|| unknown(id))?;
        Ok(ConversationResult { conversation, runs: runs.items, total_runs: runs.total })
    }

    /// A conversation.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(crate) fn conversation(&self, id: ConversationId) -> Result<Conversation, ApiError> {
        self.storage.read(|reader| reader.conversation(id))?.ok_or_else(|| unknown(id))
    }

    /// Gives a conversation another title.
    ///
    /// # Errors
    /// `NOT_FOUND`, and `INVALID_PARAMS` for a title that cannot be kept.
    pub fn rename_conversation(&self, params: &RenameConversationParams) -> Result<Conversation, ApiError> {
        let mut problems = Vec::new();
        let title = self.clean_title(&params.title, &mut problems);
        refuse(problems)?;
        self.change(params.conversation_id, move |conversation| {
            conversation.title = Some(title.clone());
            Ok(())
        })
    }

    /// Changes what the client keeps with a conversation: metadata as a JSON merge patch (RFC 7396), and the title.
    ///
    /// # Errors
    /// `NOT_FOUND`, and `INVALID_PARAMS` for a title or metadata that cannot be kept.
    pub fn update_conversation(&self, mut params: Value) -> Result<Conversation, ApiError> {
        // Null means something in a patch; everywhere else it is taken for a missing member.
        let patch = request::take(&mut params, "metadata");
        let mut problems = Vec::new();
        if patch.as_ref().is_some_and(|patch| !patch.is_object()) {
            problems.push(at_metadata("must be an object".to_owned()));
        }
        let parsed = validate_document::<UpdateConversationParams>(params);
        if let Err(error) = &parsed {
            problems.extend(error.problems.clone());
        }
        let title = parsed.as_ref().ok().and_then(|params| params.title.as_deref());
        let title = title.map(|title| self.clean_title(title, &mut problems));
        refuse(problems)?;
        let mut patch = patch.unwrap_or_else(|| Value::Object(Map::new()));
        self.redactors.for_data().redact_json(&mut patch);
        self.change(parsed?.conversation_id, move |conversation| {
            merge_patch(&mut conversation.metadata, patch.clone());
            if let Some(title) = &title {
                conversation.title = Some(title.clone());
            }
            let mut problems = Vec::new();
            check_metadata(&conversation.metadata, &mut problems);
            refuse(problems)
        })
    }

    /// Archives or unarchives a conversation. Messages that it has taken are still answered.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub fn archive_conversation(&self, params: &ArchiveConversationParams) -> Result<Conversation, ApiError> {
        let (archived, now) = (params.archived.unwrap_or(true), now());
        self.change(params.conversation_id, move |conversation| {
            conversation.archived_at = archived.then(|| conversation.archived_at.unwrap_or(now));
            Ok(())
        })
    }

    /// Changes a conversation, and tells what has changed. Where nothing has, nothing is told.
    fn change(
        &self,
        id: ConversationId,
        change: impl Fn(&mut Conversation) -> Result<(), ApiError> + Send + 'static,
    ) -> Result<Conversation, ApiError> {
        let now = now();
        let write = self.storage.write_urgent(Durability::Full, move |tx: &mut WriteTx<'_>| {
            let before = tx.conversation(id)?;
            let mut after = before.clone();
            if let Err(refused) = change(&mut after) {
                return Ok(Err(refused));
            }
            if after == before {
                return Ok(Ok(after));
            }
            after.updated_at = now;
            tx.update_conversation(&after)?;
            let told = |payload: fn(Conversation) -> Payload| event_of(id, &payload(after.clone()), now);
            if after.title != before.title {
                tx.append_event(&told(Payload::ConversationRenamed))?;
            }
            if after.metadata != before.metadata {
                tx.append_event(&told(Payload::ConversationUpdated))?;
            }
            if after.archived_at != before.archived_at {
                tx.append_event(&told(Payload::ConversationArchived))?;
            }
            Ok(Ok(after))
        });
        match write.wait() {
            Ok(changed) => changed,
            Err(error) if error.kind() == StorageErrorKind::NotFound => Err(unknown(id)),
            Err(error) => Err(error.into()),
        }
    }

    fn clean_title(&self, title: &str, problems: &mut Vec<Problem>) -> String {
        let wrong = if title.trim().is_empty() {
            Some("must not be blank".to_owned())
        } else if title.chars().any(char::is_control) {
            Some("must be one line without control characters".to_owned())
        } else if title.chars().count() > MAX_TITLE {
            Some(format!("must have at most {MAX_TITLE} characters"))
        } else {
            None
        };
        problems.extend(wrong.map(|message| Problem { pointer: "/title".to_owned(), message }));
        self.redactors.for_data().redact(title.trim()).text.into_owned()
    }
}

fn at_metadata(message: String) -> Problem {
    Problem { pointer: "/metadata".to_owned(), message }
}

fn check_metadata(metadata: &Value, problems: &mut Vec<Problem>) {
    let size = metadata.to_string().len();
    if size > MAX_METADATA {
        problems.push(at_metadata(format!("is too large: {size} bytes as JSON, and at most {MAX_METADATA} are kept")));
    }
}

fn unknown(id: ConversationId) -> ApiError {
    ApiError::not_found("conversation", id).hint("`list_conversations` lists the conversations")
}

fn refuse(problems: Vec<Problem>) -> Result<(), ApiError> {
    if problems.is_empty() { Ok(()) } else { Err(ApiError::invalid(problems)) }
}
