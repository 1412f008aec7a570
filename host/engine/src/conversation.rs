//! Conversations: making, finding and changing them. What is said in them is [`crate::submit::message`]'s.

use serde_json::{Map, Value};

use crate::queries::index_before_search;
use crate::record::{event_of, now};
use crate::redactors::Redactors;
use crate::setup::CurrentConfig;
use crate::submit::request;
use ostler_protocol::methods::{
    ArchiveConversationParams, ConversationResult, CreateConversationParams, GetConversationParams,
    ListConversationsParams, RenameConversationParams, UpdateConversationParams,
};
use ostler_protocol::{
    ApiError, Conversation, ConversationId, ConversationSummary, Page, Payload, Problem, merge_patch,
};
use ostler_schema::validate_document;
use ostler_storage::{ConversationFilter, Durability, Storage, StorageErrorKind, WriteTx};

/// Conversations on a page, and runs of one, where nothing is said.
const DEFAULT_PAGE: u32 = 50;
const DEFAULT_RUNS: u32 = 200;

/// Characters of a title that is given.
const MAX_TITLE: usize = 200;

/// Bytes of metadata as JSON: every event of the conversation's fields carries them.
const MAX_METADATA: usize = 16 << 10;

/// The conversations of this host.
#[derive(Clone, Debug)]
pub struct Conversations {
    storage: Storage,
    config: CurrentConfig,
    redactors: Redactors,
}

impl Conversations {
    pub(crate) const fn new(storage: Storage, config: CurrentConfig, redactors: Redactors) -> Self {
        Self { storage, config, redactors }
    }

    /// Creates a conversation.
    ///
    /// # Errors
    /// `NOT_FOUND` for the provider, `INVALID_PARAMS` for a title or metadata that cannot be kept.
    pub fn create(&self, params: &CreateConversationParams) -> Result<Conversation, ApiError> {
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
    pub fn list(&self, params: &ListConversationsParams) -> Result<Page<ConversationSummary>, ApiError> {
        let filter = ConversationFilter {
            provider: params.provider.clone(),
            include_archived: params.include_archived.unwrap_or(false),
            search: params.search.clone(),
        };
        index_before_search(&self.storage, filter.search.as_deref())?;
        let limit = u64::from(params.limit.unwrap_or(DEFAULT_PAGE));
        Ok(self.storage.read(|reader| reader.conversations(&filter, limit, params.offset.unwrap_or(0)))?)
    }

    /// A conversation with its runs.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub fn get(&self, params: &GetConversationParams) -> Result<ConversationResult, ApiError> {
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
    pub(crate) fn find(&self, id: ConversationId) -> Result<Conversation, ApiError> {
        self.storage.read(|reader| reader.conversation(id))?.ok_or_else(|| unknown(id))
    }

    /// Gives a conversation another title.
    ///
    /// # Errors
    /// `NOT_FOUND`, and `INVALID_PARAMS` for a title that cannot be kept.
    pub fn rename(&self, params: &RenameConversationParams) -> Result<Conversation, ApiError> {
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
    pub fn update(&self, mut params: Value) -> Result<Conversation, ApiError> {
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
    pub fn archive(&self, params: &ArchiveConversationParams) -> Result<Conversation, ApiError> {
        let (archived, now) = (params.archived.unwrap_or(true), now());
        self.change(params.conversation_id, move |conversation| {
            conversation.archived_at = archived.then(|| conversation.archived_at.unwrap_or(now));
            Ok(())
        })
    }

    /// Changes a conversation, and stores an event for each change.
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
            let event = |payload: fn(Conversation) -> Payload| event_of(id, &payload(after.clone()), now);
            if after.title != before.title {
                tx.append_event(&event(Payload::ConversationRenamed))?;
            }
            if after.metadata != before.metadata {
                tx.append_event(&event(Payload::ConversationUpdated))?;
            }
            if after.archived_at != before.archived_at {
                tx.append_event(&event(Payload::ConversationArchived))?;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::json;

    use super::*;
    use crate::test_support::{Fixture, SECRET};
    use ostler_protocol::{ErrorKind, EventType};
    use ostler_storage::EventFilter;

    fn conversations(fixture: &Fixture) -> Conversations {
        Conversations::new(fixture.storage.clone(), fixture.config.clone(), fixture.redactors.clone())
    }

    fn create(conversations: &Conversations, title: &str, metadata: Value) -> Result<Conversation, ApiError> {
        let Value::Object(metadata) = metadata else { panic!("{metadata}") };
        conversations.create(&CreateConversationParams {
            provider: "codex".to_owned(),
            title: Some(title.to_owned()),
            metadata: Some(metadata),
        })
    }

    fn kinds(fixture: &Fixture) -> Vec<EventType> {
        fixture.events(&EventFilter::default()).into_iter().map(|event| event.kind).collect()
    }

    #[test]
    fn secrets_in_title_and_metadata_are_stored_nowhere() {
        let fixture = Fixture::new();
        let conversations = conversations(&fixture);
        let made = create(&conversations, &format!(" use {SECRET} "), json!({"note": SECRET})).unwrap();
        assert_eq!(made.title.as_deref(), Some("use [REDACTED:test-key]"));
        assert_eq!(conversations.find(made.conversation_id).unwrap(), made);
        let events = fixture.events(&EventFilter::default());
        assert_eq!(events.iter().map(|event| event.kind).collect::<Vec<_>>(), [EventType::ConversationCreated]);
        assert!(!events[0].payload.to_string().contains(SECRET));
    }

    #[test]
    fn every_problem_is_named_at_once_and_nothing_is_stored() {
        let fixture = Fixture::new();
        let conversations = conversations(&fixture);
        let error = create(&conversations, "a\nb", json!({"note": "x".repeat(MAX_METADATA)})).unwrap_err();
        let pointers: Vec<_> = error.problems.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(pointers, ["/title", "/metadata"]);
        let provider = "other".to_owned();
        let unknown = CreateConversationParams { provider, title: None, metadata: None };
        assert_eq!(conversations.create(&unknown).unwrap_err().kind, ErrorKind::NotFound);
        assert_eq!(conversations.list(&ListConversationsParams::default()).unwrap().total, 0);
        assert_eq!(kinds(&fixture), []);
    }

    #[test]
    fn null_in_a_patch_removes_a_member_and_an_empty_patch_changes_nothing() {
        let fixture = Fixture::new();
        let conversations = conversations(&fixture);
        let id = create(&conversations, "title", json!({"a": 1, "b": 2})).unwrap().conversation_id;
        let patched = conversations.update(json!({"conversationId": id, "metadata": {"a": null, "c": 3}})).unwrap();
        assert_eq!(patched.metadata, json!({"b": 2, "c": 3}));
        assert_eq!(conversations.update(json!({"conversationId": id, "metadata": {}})).unwrap(), patched);
        assert_eq!(kinds(&fixture), [EventType::ConversationCreated, EventType::ConversationUpdated]);
    }

    #[test]
    fn patch_that_makes_the_metadata_too_large_is_refused() {
        let fixture = Fixture::new();
        let conversations = conversations(&fixture);
        let made = create(&conversations, "title", json!({"a": "x".repeat(MAX_METADATA / 2)})).unwrap();
        let id = made.conversation_id;
        let patch = json!({"conversationId": id, "metadata": {"b": "x".repeat(MAX_METADATA / 2)}});
        assert_eq!(conversations.update(patch).unwrap_err().problems[0].pointer, "/metadata");
        assert_eq!(conversations.find(id).unwrap(), made);
    }

    #[test]
    fn archiving_again_keeps_the_first_time_and_emits_nothing() {
        let fixture = Fixture::new();
        let conversations = conversations(&fixture);
        let conversation_id = create(&conversations, "title", json!({})).unwrap().conversation_id;
        let archive = |archived| {
            let params = ArchiveConversationParams { conversation_id, archived: Some(archived) };
            conversations.archive(&params).unwrap().archived_at
        };
        let first = archive(true);
        assert!(first.is_some());
        assert_eq!(archive(true), first);
        assert_eq!(archive(false), None);
        let archived = EventType::ConversationArchived;
        assert_eq!(kinds(&fixture), [EventType::ConversationCreated, archived, archived]);
    }
}
