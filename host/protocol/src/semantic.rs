//! The meaning of a CLI's output: the payload of `run.semantic`, the same for every CLI.
//!
//! A provider plugin translates the CLI's own protocol to these events; the host redacts and stores them. A text that
//! arrives in pieces is stored once: the complete text refers to its pieces by their cursors ([`PieceRange`]).

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::open_names::open_names;
use super::{Approval, ApprovalDecision, Usage};

/// `run.semantic`: what a piece of output means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Semantic {
    /// The CLI's session is known.
    Session(Session),
    /// A piece of a text of the agent.
    TextDelta(TextPiece),
    /// A whole text of the agent.
    Text(WholeText),
    /// A piece of the model's reasoning.
    ThinkingDelta(TextPiece),
    /// The model's reasoning, or a summary of it.
    Thinking(WholeText),
    /// The agent uses a tool.
    ToolStart(ToolUse),
    /// A piece of a tool's output.
    ToolDelta(ToolPiece),
    /// A tool has ended.
    ToolResult(ToolResult),
    /// The CLI asks whether it may use a tool.
    ApprovalRequested(ApprovalRequest),
    /// It was decided whether the CLI may use a tool.
    ApprovalDecided(ApprovalDecision),
    /// The CLI no longer waits for an answer.
    ApprovalWithdrawn(ApprovalWithdrawal),
    /// The running total of tokens and cost.
    Usage(UsageReport),
    /// A turn of the agent has ended.
    TurnComplete(TurnEnd),
    /// The CLI reports what it is doing.
    Progress(Notice),
    /// The CLI reports a problem and continues.
    Warning(Notice),
    /// The CLI reports an error.
    Error(Notice),
    /// The provider refuses requests for a while.
    RateLimited(RateLimit),
    /// A kind that is specific to the plugin or of a later version.
    #[serde(untagged)]
    Other(OtherSemantic),
}

impl JsonSchema for Semantic {
    fn schema_name() -> Cow<'static, str> {
        "Semantic".into()
    }

    /// One object with the members of all kinds. Client generators create a class from it; for a choice of objects,
    /// they create no usable type.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        /// The descriptions of a member, each with its kinds.
        type Texts<'a> = Vec<(String, Vec<&'a str>)>;
        let mut members: BTreeMap<String, (Value, Texts<'_>)> = BTreeMap::new();
        let all = kinds(generator);
        for (kind, schema) in &all {
            for (name, member) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
                let text = member.get("description").and_then(Value::as_str).unwrap_or_default();
                let (_, texts) = members.entry(name.clone()).or_insert_with(|| (member.clone(), Vec::new()));
                match texts.iter_mut().find(|(known, _)| known == text) {
                    Some((_, kinds)) => kinds.push(kind),
                    None => texts.push((text.to_owned(), vec![kind])),
                }
            }
        }
        let mut properties = Map::new();
        for (name, (mut member, texts)) in members {
            let texts: Vec<String> =
                texts.into_iter().map(|(text, kinds)| format!("{text} ({})", kinds.join(", "))).collect();
            member["description"] = texts.join(" ").into();
            properties.insert(name, member);
        }
        let names: Vec<&str> = all.iter().map(|(kind, _)| *kind).collect();
        let about = "What it means, which decides what members there are; or a kind that is specific to the plugin.";
        let kind = json!({"type": "string", "description": about, "examples": names});
        properties.insert("kind".to_owned(), kind);
        properties.sort_keys();
        json_schema!({
            "description": "`run.semantic`: the meaning of a piece of output. After the text of a member stand its kinds.",
            "type": "object",
            "properties": properties,
            "required": ["kind"],
            "additionalProperties": true,
        })
    }
}

/// Each known kind with the schema of its members.
fn kinds(generator: &mut SchemaGenerator) -> Vec<(&'static str, Schema)> {
    vec![
        ("session", Session::json_schema(generator)),
        ("text_delta", TextPiece::json_schema(generator)),
        ("text", WholeText::json_schema(generator)),
        ("thinking_delta", TextPiece::json_schema(generator)),
        ("thinking", WholeText::json_schema(generator)),
        ("tool_start", ToolUse::json_schema(generator)),
        ("tool_delta", ToolPiece::json_schema(generator)),
        ("tool_result", ToolResult::json_schema(generator)),
        ("approval_requested", ApprovalRequest::json_schema(generator)),
        ("approval_decided", ApprovalDecision::json_schema(generator)),
        ("approval_withdrawn", ApprovalWithdrawal::json_schema(generator)),
        ("usage", UsageReport::json_schema(generator)),
        ("turn_complete", TurnEnd::json_schema(generator)),
        ("progress", Notice::json_schema(generator)),
        ("warning", Notice::json_schema(generator)),
        ("error", Notice::json_schema(generator)),
        ("rate_limited", RateLimit::json_schema(generator)),
    ]
}

/// The CLI's session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// The CLI's id of the session.
    pub session_id: String,
    /// How it began.
    pub origin: SessionOrigin,
}

open_names! {
    /// How a session began.
    SessionOrigin {
        /// It is new.
        Fresh = "fresh",
        /// It is the one that the run asked for.
        Resumed = "resumed",
        /// It is a copy of the one that the run asked for.
        Forked = "forked",
        /// It is new, although the run asked for another one.
        Replaced = "replaced",
    }
}

/// A piece of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TextPiece {
    /// Id of the text that it belongs to.
    pub message: String,
    /// The piece, redacted.
    pub text: String,
    /// The tool use of the sub-agent that said it; absent for the main agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
}

/// A whole text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WholeText {
    /// Its id.
    pub message: String,
    /// The tool use of the sub-agent that said it; absent for the main agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The text, redacted; absent if it is that of its pieces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Its pieces.
    #[serde(flatten)]
    pub pieces: PieceRange,
}

/// The events with the pieces of a text. Both cursors are absent if the event itself contains the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PieceRange {
    /// Cursor of the first piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_cursor: Option<u64>,
    /// Cursor of the last piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_cursor: Option<u64>,
}

/// A use of a tool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ToolUse {
    /// The CLI's id of this use.
    pub id: String,
    /// Kind of the tool, from the vocabulary of the plugin guide: `shell`, `file_write`.
    pub tool: String,
    /// The CLI's own name of the tool.
    pub name: String,
    /// Its input as the CLI reported it.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub input: Value,
    /// Shell commands that it runs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
    /// Files that it reads or changes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileUse>,
    /// Addresses that it requests.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// The tool of an MCP server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcp: Option<McpTool>,
    /// Its working folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// The tool use of the sub-agent that uses it; absent for the main agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Further data of the plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra: Option<Value>,
}

/// A file that a tool uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileUse {
    /// Its path, as the CLI reported it.
    pub path: String,
    /// What the tool does with it.
    pub effect: FileEffect,
    /// The change, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
}

open_names! {
    /// What a tool does with a file.
    FileEffect {
        /// It reads it.
        Read = "read",
        /// It creates it.
        Create = "create",
        /// It changes it.
        Modify = "modify",
        /// It deletes it.
        Delete = "delete",
    }
}

/// A tool of an MCP server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct McpTool {
    /// Name of the server.
    pub server: String,
    /// Name of the tool.
    pub tool: String,
}

/// A piece of a tool's output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ToolPiece {
    /// Id of the tool use.
    pub id: String,
    /// The piece, redacted.
    pub text: String,
}

/// The end of a tool use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ToolResult {
    /// Id of the tool use.
    pub id: String,
    /// Whether it failed.
    pub is_error: bool,
    /// Exit code of the command that it ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Further data of the plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra: Option<Value>,
    /// Its output, redacted; absent if it is that of its pieces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// The pieces of its output.
    #[serde(flatten)]
    pub pieces: PieceRange,
}

/// A request of the CLI for approval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalRequest {
    /// Id of the approval, for `answer_approval`. In runs of older versions, the CLI's id of the request.
    pub request_id: String,
    /// The tool use that it asks for.
    pub call: ToolUse,
    /// Why it asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What `list_approvals` returns for it. Missing in runs of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Box<Approval>>,
}

/// The end of a request for approval without an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalWithdrawal {
    /// Id of the approval.
    pub request_id: String,
}

/// A running total of tokens and cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct UsageReport {
    /// Whether the numbers are those of the whole session, earlier runs included.
    pub whole_session: bool,
    /// Input tokens, including cached ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    /// Input tokens that were read from a cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_input_tokens: Option<u64>,
    /// Input tokens that were written to a cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write_tokens: Option<u64>,
    /// Output tokens, including reasoning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    /// Output tokens for reasoning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_tokens: Option<u64>,
    /// Millionths of a US dollar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_micro_usd: Option<u64>,
    /// Further counters of the CLI.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub others: Map<String, Value>,
}

impl From<UsageReport> for Usage {
    fn from(report: UsageReport) -> Self {
        Self {
            input_tokens: report.input_tokens,
            cached_input_tokens: report.cached_input_tokens,
            cache_write_tokens: report.cache_write_tokens,
            output_tokens: report.output_tokens,
            reasoning_tokens: report.reasoning_tokens,
            cost_micro_usd: report.cost_micro_usd,
            whole_session: report.whole_session,
        }
    }
}

/// The end of a turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TurnEnd {
    /// How it ended.
    pub status: TurnStatus,
    /// Why, if the CLI says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

open_names! {
    /// How a turn ended.
    TurnStatus {
        /// It is complete.
        Completed = "completed",
        /// It was interrupted.
        Interrupted = "interrupted",
        /// It failed.
        Failed = "failed",
    }
}

/// A message of the CLI about itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Notice {
    /// Its code, from the vocabulary of the plugin guide: `cli-retry`, `mcp-server-failed`.
    pub code: String,
    /// The message.
    pub message: String,
    /// Facts of the code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facts: Option<Value>,
}

/// A limit of the provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RateLimit {
    /// What the CLI said.
    pub message: String,
    /// Milliseconds until requests are accepted again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Time when requests are accepted again, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_at_unix_ms: Option<u64>,
}

/// An event of a kind that this version does not define.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OtherSemantic {
    /// Its kind.
    pub kind: String,
    /// Its fields.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    /// Each event as it was stored by versions without these types.
    fn stored() -> Vec<Value> {
        vec![
            json!({"kind": "session", "sessionId": "s", "origin": "resumed"}),
            json!({"kind": "text_delta", "message": "m", "text": "Hel", "parent": "t"}),
            json!({"kind": "text", "message": "m", "fromCursor": 1, "toCursor": 2}),
            json!({"kind": "text", "message": "m", "parent": "t", "text": "Hello"}),
            json!({"kind": "thinking_delta", "message": "m", "text": "hm"}),
            json!({"kind": "thinking", "message": "m", "text": "hm"}),
            json!({"kind": "tool_start", "id": "t", "tool": "shell", "name": "Bash", "input": {"command": "ls"},
                "commands": ["ls"], "files": [{"path": "a", "effect": "modify", "change": "+b"}], "urls": ["http://x"],
                "mcp": {"server": "s", "tool": "t"}, "cwd": "/w", "parent": "p", "extra": {"a": 1}}),
            json!({"kind": "tool_start", "id": "t", "tool": "other", "name": "X", "input": "text"}),
            json!({"kind": "tool_delta", "id": "t", "text": "a.rs"}),
            json!({"kind": "tool_result", "id": "t", "isError": false, "exitCode": 0, "extra": 1, "output": "a.rs"}),
            json!({"kind": "tool_result", "id": "t", "isError": true, "fromCursor": 3, "toCursor": 3}),
            json!({"kind": "approval_requested", "requestId": "r",
                "call": {"id": "t", "tool": "shell", "name": "Bash", "input": {}}, "reason": "why"}),
            json!({"kind": "approval_decided", "requestId": "01920000-0000-7000-8000-000000000000", "callId": "c",
                "decision": "deny", "decidedBy": "user", "actor": "unix pid=1 uid=2", "client": "cli", "message": "m",
                "edited": true, "stopTurn": true}),
            json!({"kind": "approval_withdrawn", "requestId": "r"}),
            json!({"kind": "usage", "wholeSession": true, "inputTokens": 1, "costMicroUsd": 2, "others": {"web": 3.5}}),
            json!({"kind": "turn_complete", "status": "interrupted", "message": "x"}),
            json!({"kind": "progress", "code": "plan", "message": "", "facts": {"steps": []}}),
            json!({"kind": "warning", "code": "config", "message": "x"}),
            json!({"kind": "error", "code": "other", "message": "x", "facts": "text"}),
            json!({"kind": "rate_limited", "message": "x", "retryAfterMs": 5}),
            json!({"kind": "codex.item.new", "a": {"b": [1]}}),
        ]
    }

    #[test]
    fn stored_events_round_trip_unchanged() {
        for document in stored() {
            let event: Semantic = serde_json::from_value(document.clone()).unwrap();
            let known = document["kind"] != "codex.item.new";
            assert_eq!(matches!(event, Semantic::Other(_)), !known, "{document}");
            assert_eq!(json!(event).to_string(), document.to_string());
        }
    }

    #[test]
    fn schema_has_every_member_of_every_kind() {
        let mut generator = SchemaGenerator::default();
        let known: Vec<&str> = kinds(&mut generator).into_iter().map(|(kind, _)| kind).collect();
        let schema = json!(Semantic::json_schema(&mut generator));
        for document in stored() {
            let event: Semantic = serde_json::from_value(document.clone()).unwrap();
            let kind = document["kind"].as_str().unwrap();
            assert_eq!(known.contains(&kind), !matches!(event, Semantic::Other(_)), "{kind}");
            let members = document.as_object().unwrap().keys().filter(|_| known.contains(&kind));
            members.for_each(|name| assert!(schema["properties"].get(name).is_some(), "{kind}: {name}"));
        }
        assert_eq!(schema["properties"]["cwd"]["description"], "Its working folder. (tool_start)");
        let message = schema["properties"]["toCursor"]["description"].as_str().unwrap();
        assert_eq!(message, "Cursor of the last piece. (text, thinking, tool_result)");
    }

    #[test]
    fn names_of_later_versions_do_not_hide_the_event() {
        let document = json!({"kind": "tool_start", "name": "X", "files": [{"path": "a", "effect": "rename"}]});
        let event: Semantic = serde_json::from_value(document).unwrap();
        assert!(matches!(&event, Semantic::ToolStart(call) if call.files[0].effect.name() == "rename"), "{event:?}");
        let usage = json!({"kind": "usage", "inputTokens": 1, "others": {"x": null}});
        assert!(matches!(
            serde_json::from_value(usage).unwrap(),
            Semantic::Usage(UsageReport { input_tokens: Some(1), .. })
        ));
    }

    #[test]
    fn event_of_a_known_kind_with_unreadable_fields_is_kept_as_other() {
        let document = json!({"kind": "session", "sessionId": 5});
        let event: Semantic = serde_json::from_value(document.clone()).unwrap();
        assert!(matches!(&event, Semantic::Other(other) if other.kind == "session"), "{event:?}");
        assert_eq!(json!(event), document);
    }
}
