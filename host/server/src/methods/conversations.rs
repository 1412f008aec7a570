//! Conversations.

use std::sync::Arc;

use serde_json::Value;

use super::super::rpc::Caller;
use super::{Answer, result, runs};
use ostler_engine::{AuditEntry, Engine};
use ostler_protocol::methods::{
    ArchiveConversationParams, ConversationParams, ConversationResult, CreateConversationParams, DeletedConversation,
    GetConversationParams, ListConversationsParams, RenameConversationParams,
};
use ostler_protocol::{ApiError, AuditKind, Conversation, ConversationSummary, Page};

pub(super) fn create(
    engine: &Arc<Engine>,
    _: &Caller,
    params: &CreateConversationParams,
) -> Result<Conversation, ApiError> {
    engine.conversations().create(params)
}

pub(super) fn list(
    engine: &Arc<Engine>,
    _: &Caller,
    params: &ListConversationsParams,
) -> Result<Page<ConversationSummary>, ApiError> {
    engine.conversations().list(params)
}

pub(super) fn get(
    engine: &Arc<Engine>,
    _: &Caller,
    params: &GetConversationParams,
) -> Result<ConversationResult, ApiError> {
    engine.conversations().get(params)
}

/// Passes the raw payload on: the engine checks its form together with its content.
pub(super) fn send(engine: &Arc<Engine>, caller: &Caller, params: Value) -> Answer {
    let facts = runs::audit_facts(&params);
    runs::record_submit(
        engine,
        caller,
        "send_conversation_message",
        &facts,
        engine.submitter().send_message(params, &caller.origin),
    )
}

pub(super) fn rename(
    engine: &Arc<Engine>,
    _: &Caller,
    params: &RenameConversationParams,
) -> Result<Conversation, ApiError> {
    engine.conversations().rename(params)
}

/// Passes the raw metadata on, because null removes a member in a patch.
pub(super) fn update(engine: &Arc<Engine>, _: &Caller, params: Value) -> Answer {
    result(&engine.conversations().update(params)?)
}

pub(super) fn delete(
    engine: &Arc<Engine>,
    caller: &Caller,
    params: &ConversationParams,
) -> Result<DeletedConversation, ApiError> {
    let deleted = engine.retention().delete_conversation(params.conversation_id)?;
    let entry = AuditEntry::new(AuditKind::Delete, caller.peer.actor()).fact("what", "conversation");
    engine.audit().append_durably(entry.fact("conversationId", deleted.conversation_id).fact("runs", deleted.runs))?;
    Ok(deleted)
}

pub(super) fn archive(
    engine: &Arc<Engine>,
    _: &Caller,
    params: &ArchiveConversationParams,
) -> Result<Conversation, ApiError> {
    engine.conversations().archive(params)
}
