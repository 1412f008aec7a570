//! Event streams.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ConversationId, EventType, RunId};

/// `subscribe`, and the query of `GET /events`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SubscribeParams {
    /// Only events after this cursor. Without it, only new events, or for a run or conversation all events.
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
    /// Included in every `run_event` of this stream; used for `unsubscribe`.
    pub subscription_id: u64,
    /// The stream begins after this cursor.
    pub cursor: u64,
    /// Cursor of the first available event, if requested events were deleted by retention.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncated: Option<u64>,
}

/// `unsubscribe`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UnsubscribeParams {
    /// The value that `subscribe` returned.
    pub subscription_id: u64,
}

/// `unsubscribe`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnsubscribeResult {
    /// The stream has ended; events that were already sent may still arrive.
    pub subscription_id: u64,
}
