//! Parameters and results of the methods of conversations.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::StartRunParams;
use crate::{Conversation, ConversationId, RunId, RunSummary};

/// `create_conversation`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateConversationParams {
    /// Provider instance of all its runs.
    #[schemars(length(min = 1, max = 64))]
    pub provider: String,
    /// The title, one line of at most 200 characters. The default is the first line of its first prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Metadata of the client: an object of at most 16 KiB. Members that are null are omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
}

/// `list_conversations`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ListConversationsParams {
    /// Only conversations of this provider instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Include archived conversations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_archived: Option<bool>,
    /// Only conversations that have these words in the title, or in prompt and answer of one run; see `list_runs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1000))]
    pub search: Option<String>,
    /// Maximum number of results (default 50).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub limit: Option<u32>,
    /// Number of results to skip.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
}

/// `get_conversation`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GetConversationParams {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// Maximum number of its newest runs (default 200).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub limit: Option<u32>,
    /// Number of newest runs to skip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
}

/// `get_conversation`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConversationResult {
    /// The conversation.
    pub conversation: Conversation,
    /// Its newest runs, in the order in which they were requested.
    pub runs: Vec<RunSummary>,
    /// Total number of its runs.
    pub total_runs: u64,
}

/// `rename_conversation`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RenameConversationParams {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// Its new title: one line of at most 200 characters.
    pub title: String,
}

/// `update_conversation`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateConversationParams {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// The new title; without it, the title is unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// A JSON merge patch (RFC 7396) for its metadata: null removes a member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
}

/// `delete_conversation`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConversationParams {
    /// The conversation.
    pub conversation_id: ConversationId,
}

/// `delete_conversation`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeletedConversation {
    /// The deleted conversation.
    pub conversation_id: ConversationId,
    /// Number of its runs, which were deleted with it.
    pub runs: u64,
    /// Their files that could not be deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files_left: Vec<PathBuf>,
}

/// `archive_conversation`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ArchiveConversationParams {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// True (the default) archives the conversation, false unarchives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived: Option<bool>,
}

/// `send_conversation_message`: a start payload without provider and mode, which are the conversation's, and what
/// `start_run` takes beside it. It is read as it comes; this is its schema.
#[derive(Clone, Copy, Debug)]
pub struct SendMessageParams;

impl JsonSchema for SendMessageParams {
    fn schema_name() -> Cow<'static, str> {
        "SendMessageParams".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = StartRunParams::json_schema(generator);
        let conversation = generator.subschema_for::<ConversationId>();
        if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            properties.retain(|name, _| !OF_THE_CONVERSATION.contains(&name.as_str()));
            let about = json!("The conversation.");
            let id = Value::Object(Map::from_iter([
                ("description".to_owned(), about),
                ("allOf".to_owned(), json!([conversation])),
            ]));
            properties.shift_insert(0, "conversationId".to_owned(), id);
        }
        if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
            required.retain(|name| name.as_str().is_none_or(|name| !OF_THE_CONVERSATION.contains(&name)));
            required.insert(0, "conversationId".into());
        }
        schema
    }
}

/// Fields of a start payload that a message cannot choose.
pub const OF_THE_CONVERSATION: &[&str] = &["provider", "mode", "terminal"];

/// `rerun`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RerunParams {
    /// The run whose payload is taken.
    pub run_id: RunId,
    /// A partial start payload that overrides it: objects are merged by member, null removes a field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overrides: Option<Map<String, Value>>,
    /// Variables of the caller, as for `start_run`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub client_environment: BTreeMap<String, String>,
}
