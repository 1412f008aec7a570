//! Conversations and profiles, as the host keeps and shows them.

use std::path::PathBuf;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ConversationId, ProfileId, RunId, RunStatus};

/// A thread of runs of one provider that resume the same provider session. All texts are redacted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Conversation {
    /// Its id.
    pub conversation_id: ConversationId,
    /// Provider instance of all its runs.
    pub provider: String,
    /// Its title. Until the first message sets it to the first line of its prompt, it may have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Metadata of the client: an object.
    pub metadata: Value,
    /// The provider's session that its next message resumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// The folder of its last run, and the default folder of the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<PathBuf>,
    /// When it was archived. An archived conversation accepts no messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub archived_at: Option<Timestamp>,
    /// When it was created.
    #[schemars(with = "String")]
    pub created_at: Timestamp,
    /// When it was last changed, or a run of it ended.
    #[schemars(with = "String")]
    pub updated_at: Timestamp,
}

/// A conversation in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConversationSummary {
    /// The conversation.
    #[serde(flatten)]
    pub conversation: Conversation,
    /// How many runs it has.
    pub runs: u64,
    /// Its newest run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<LastRun>,
}

/// The newest run of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastRun {
    /// The run.
    pub run_id: RunId,
    /// Its status.
    pub status: RunStatus,
}

/// Named defaults for the start payload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// Its id.
    pub profile_id: ProfileId,
    /// Its name, unique.
    pub name: String,
    /// Provider instance of the runs that it is for.
    pub provider: String,
    /// The defaults: a partial start payload.
    pub config: Value,
    /// When it was created.
    #[schemars(with = "String")]
    pub created_at: Timestamp,
    /// When it last changed.
    #[schemars(with = "String")]
    pub updated_at: Timestamp,
}
