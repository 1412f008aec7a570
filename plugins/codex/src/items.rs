//! Translates items to events. The spelling is that of `exec --json`; [`crate::app_server`] renames what it spells differently.

use ostler_plugin::provider::{FileAccess, FileEffect, McpTool, Notice, Semantic, ToolCall, ToolOutput, ToolPiece};
use ostler_plugin::vocabulary::{notices, tools};
use ostler_provider_kit::{events, shell};
use serde_json::{Map, Value, json};

/// The progress of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Started,
    Updated,
    Completed,
}

/// The meaning of an item.
pub(crate) enum Meaning {
    /// The agent's answer so far.
    Message(String),
    Thinking(String),
    /// A tool, with its result if it has ended, otherwise with its output so far.
    Tool {
        call: ToolCall,
        progress: String,
        result: Option<ToolOutput>,
    },
    Event(Semantic),
    /// Nothing that a later event does not contain.
    Nothing,
}

fn text(item: &Map<String, Value>, key: &str) -> String {
    item.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Reads an item. Its type may be unknown.
pub(crate) fn read(id: &str, kind: &str, item: &Map<String, Value>, phase: Phase) -> Meaning {
    let done = phase == Phase::Completed;
    match kind {
        "agent_message" if done => Meaning::Message(text(item, "text")),
        "reasoning" if done => Meaning::Thinking(text(item, "text")),
        "agent_message" | "reasoning" => Meaning::Nothing,
        "command_execution" => command(id, item, done),
        "mcp_tool_call" => mcp(id, item, done),
        "file_change" => file_change(id, item, done),
        "web_search" => web_search(id, item, done),
        "collab_tool_call" => sub_agent(id, item, done),
        "todo_list" => Meaning::Event(todo_list(item)),
        "error" => Meaning::Event(Semantic::Warning(warning(&text(item, "message")))),
        _ => Meaning::Event(other(&format!("item.{kind}"), item)),
    }
}

fn failed(item: &Map<String, Value>) -> bool {
    matches!(item.get("status").and_then(Value::as_str), Some("failed" | "declined"))
}

fn result(id: &str, output: String, is_error: bool) -> ToolOutput {
    ToolOutput { id: id.to_owned(), output, is_error, exit_code: None, extra: None }
}

fn command(id: &str, item: &Map<String, Value>, done: bool) -> Meaning {
    let line = text(item, "command");
    let output = text(item, "aggregated_output");
    let exit_code = item.get("exit_code").and_then(Value::as_i64).and_then(|code| i32::try_from(code).ok());
    let is_error = failed(item) || exit_code.is_some_and(|code| code != 0);
    let call = ToolCall {
        id: id.to_owned(),
        kind: tools::SHELL.to_owned(),
        name: "command_execution".to_owned(),
        input: json!({ "command": line }).to_string(),
        commands: vec![shell::unwrap(&line)],
        ..ToolCall::default()
    };
    let result = done.then(|| ToolOutput { exit_code, ..result(id, output.clone(), is_error) });
    Meaning::Tool { call, progress: output, result }
}

fn mcp(id: &str, item: &Map<String, Value>, done: bool) -> Meaning {
    let (server, tool) = (text(item, "server"), text(item, "tool"));
    let call = ToolCall {
        id: id.to_owned(),
        kind: tools::MCP.to_owned(),
        name: tool.clone(),
        input: item.get("arguments").unwrap_or(&Value::Null).to_string(),
        mcp: Some(McpTool { server, tool }),
        ..ToolCall::default()
    };
    let output = done.then(|| {
        let error = item.get("error").and_then(|error| error.get("message")).and_then(Value::as_str);
        let reply = item.get("result").filter(|reply| !reply.is_null());
        let content = reply.and_then(|reply| reply.get("content")).and_then(Value::as_array);
        let parts: Vec<String> = content.into_iter().flatten().map(content_text).collect();
        let output = error.map_or_else(|| parts.join("\n"), str::to_owned);
        // Content that is not text: images, structured content.
        let structured = reply.and_then(|reply| reply.get("structured_content")).filter(|value| !value.is_null());
        ToolOutput {
            extra: structured.map(|value| json!({ "structuredContent": value }).to_string()),
            ..result(id, output, failed(item) || error.is_some())
        }
    });
    Meaning::Tool { call, progress: String::new(), result: output }
}

fn content_text(part: &Value) -> String {
    match part.get("text").and_then(Value::as_str) {
        Some(text) => text.to_owned(),
        None => format!("[{}]", part.get("type").and_then(Value::as_str).unwrap_or("content")),
    }
}

fn file_change(id: &str, item: &Map<String, Value>, done: bool) -> Meaning {
    let changes = item.get("changes").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let files: Vec<FileAccess> = changes.iter().flat_map(changed_files).collect();
    let creates = !files.is_empty() && files.iter().all(|file| file.effect == FileEffect::Create);
    let call = ToolCall {
        id: id.to_owned(),
        kind: if creates { tools::FILE_WRITE } else { tools::FILE_EDIT }.to_owned(),
        name: "file_change".to_owned(),
        input: json!({ "changes": changes }).to_string(),
        files,
        ..ToolCall::default()
    };
    Meaning::Tool { call, progress: String::new(), result: done.then(|| result(id, String::new(), failed(item))) }
}

/// The files of one change. Its kind is a word in `exec`, and an object in `app-server`, which also reports moves.
fn changed_files(change: &Value) -> Vec<FileAccess> {
    let Some(path) = change.get("path").and_then(Value::as_str) else { return Vec::new() };
    let kind = change.get("kind").unwrap_or(&Value::Null);
    let diff = change.get("diff").and_then(Value::as_str).map(str::to_owned);
    let file =
        |path: &str, effect: FileEffect, change: Option<String>| FileAccess { path: path.to_owned(), effect, change };
    if let Some(target) = kind.get("move_path").and_then(Value::as_str) {
        return vec![file(path, FileEffect::Delete, None), file(target, FileEffect::Create, diff)];
    }
    let effect = match kind.as_str().or_else(|| kind.get("type")?.as_str()) {
        Some("add") => FileEffect::Create,
        Some("delete") => FileEffect::Delete,
        _ => FileEffect::Modify,
    };
    vec![file(path, effect, diff)]
}

fn web_search(id: &str, item: &Map<String, Value>, done: bool) -> Meaning {
    let action = item.get("action").unwrap_or(&Value::Null);
    let url = action.get("url").and_then(Value::as_str);
    // codex reports the query at the end.
    if !done && url.is_none() && text(item, "query").is_empty() {
        return Meaning::Nothing;
    }
    let opens = matches!(action.get("type").and_then(Value::as_str), Some("open_page" | "find_in_page"));
    let call = ToolCall {
        id: id.to_owned(),
        kind: if opens { tools::WEB_FETCH } else { tools::WEB_SEARCH }.to_owned(),
        name: "web_search".to_owned(),
        input: json!({ "query": text(item, "query"), "action": action }).to_string(),
        urls: url.map(str::to_owned).into_iter().collect(),
        ..ToolCall::default()
    };
    Meaning::Tool { call, progress: String::new(), result: done.then(|| result(id, String::new(), failed(item))) }
}

fn sub_agent(id: &str, item: &Map<String, Value>, done: bool) -> Meaning {
    let input: Map<String, Value> = ["prompt", "receiver_thread_ids"]
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), item.get(key)?.clone())))
        .collect();
    let call = ToolCall {
        id: id.to_owned(),
        kind: tools::TASK.to_owned(),
        name: text(item, "tool"),
        input: Value::Object(input).to_string(),
        ..ToolCall::default()
    };
    let states = item.get("agents_states").and_then(Value::as_object);
    let messages: Vec<&str> = states
        .into_iter()
        .flat_map(Map::values)
        .filter_map(|state| state.get("message").and_then(Value::as_str))
        .collect();
    Meaning::Tool { call, progress: String::new(), result: done.then(|| result(id, messages.join("\n"), failed(item))) }
}

fn todo_list(item: &Map<String, Value>) -> Semantic {
    let items = item.get("items").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let steps: Vec<Value> = items
        .iter()
        .map(|step| {
            let done = step.get("completed").and_then(Value::as_bool).unwrap_or_default();
            json!({ "text": step.get("text").unwrap_or(&Value::Null), "status": if done { "completed" } else { "pending" } })
        })
        .collect();
    events::plan(&steps)
}

/// An `error` item: codex reports a problem and continues.
pub(crate) fn warning(message: &str) -> Notice {
    let code = if message.starts_with("Model metadata for ") {
        notices::MODEL_UNKNOWN
    } else if message.starts_with("Falling back from WebSockets") {
        notices::RECONNECTING
    } else if message.contains("unrecognized configuration") || message.contains("project-local config") {
        notices::CONFIG
    } else if message.contains("deprecated") {
        notices::DEPRECATED
    } else if message.contains("MCP ") {
        notices::MCP_SERVER_FAILED
    } else if message.starts_with("This session was recorded with model") {
        notices::MODEL_REROUTED
    } else {
        notices::OTHER
    };
    events::notice(code, message)
}

pub(crate) fn delta(id: &str, text: &str) -> Semantic {
    Semantic::ToolDelta(ToolPiece { id: id.to_owned(), text: text.to_owned() })
}

pub(crate) fn other(kind: &str, fields: &Map<String, Value>) -> Semantic {
    events::other("codex", kind, fields)
}
