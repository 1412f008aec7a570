//! Event streams.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{ConversationId, EventType, RunId};

/// `subscribe`, and the query of `GET /events`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SubscribeParams {
    /// Only events after this cursor; without it, from now on, or for one run from its start.
    pub after: Option<u64>,
    /// Only events of this run.
    pub run_id: Option<RunId>,
    /// Only events of this conversation.
    pub conversation_id: Option<ConversationId>,
    /// Only events of these types.
    pub types: Option<Vec<EventType>>,
}

/// `subscribe`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubscribeResult {
    /// Stands in every `run_event` of this stream, for `unsubscribe`.
    pub subscription_id: u64,
    /// The stream begins after this cursor.
    pub cursor: u64,
    /// Cursor of the first event that is kept, where retention has taken some that were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncated: Option<u64>,
}

/// `unsubscribe`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UnsubscribeParams {
    /// What `subscribe` gave.
    pub subscription_id: u64,
}

/// `unsubscribe`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnsubscribeResult {
    /// The stream has ended; what is on its way may still arrive.
    pub subscription_id: u64,
}
