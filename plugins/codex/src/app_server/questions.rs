//! Reads the requests of codex that need a decision.

use ostler_plugin::provider::{FileAccess, FileEffect, McpTool, ToolCall};
use ostler_plugin::vocabulary::tools;
use ostler_provider_kit::failure::shorten;
use ostler_provider_kit::shell;
use serde_json::{Map, Value, json};

use super::approvals::{Ask, Form};
use super::items::{self, Items, Origin};

/// Maximum number of bytes of a title or of what was denied.
const TITLE: usize = 200;

/// Reads a request. None if it is not one that a user or a policy can decide, or if it is incomplete.
pub(super) fn read(method: &str, params: &Map<String, Value>, tools: &Items, origin: Origin<'_>) -> Option<Ask> {
    match method {
        "item/commandExecution/requestApproval" => command(params, tools, origin),
        "item/fileChange/requestApproval" => patch(params, tools, origin),
        "item/permissions/requestApproval" => permissions(params, origin),
        "item/tool/requestUserInput" => questions(params, origin),
        "mcpServer/elicitation/request" => elicitation(params, tools, origin),
        "execCommandApproval" => old_command(params, origin),
        "applyPatchApproval" => old_patch(params, origin),
        _ => None,
    }
}

fn text(object: &Map<String, Value>, key: &str) -> String {
    object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The thread that a request belongs to.
pub(super) fn thread(params: &Map<String, Value>) -> &str {
    ["threadId", "conversationId"].iter().find_map(|key| params.get(*key)?.as_str()).unwrap_or_default()
}

struct Question {
    kind: &'static str,
    form: Form,
    call: ToolCall,
    title: String,
    subject: String,
}

fn ask(question: Question, params: &Map<String, Value>, origin: Origin<'_>) -> Ask {
    let Question { kind, form, mut call, title, subject } = question;
    call.parent = origin.parent.map(str::to_owned);
    let editable = matches!(form, Form::Questions(_) | Form::Content { .. });
    let mut extra = Map::new();
    extra.insert("kind".to_owned(), kind.into());
    extra.insert("phase".to_owned(), "ask".into());
    extra.insert("editable".to_owned(), editable.into());
    if !title.is_empty() {
        let line = title.lines().next().unwrap_or_default();
        extra.insert("title".to_owned(), shorten(line, TITLE).into());
    }
    Ask {
        thread: origin.thread.to_owned(),
        turn: params.get("turnId").and_then(Value::as_str).map(str::to_owned),
        form,
        call,
        reason: params.get("reason").and_then(Value::as_str).map(str::to_owned),
        extra,
        subject: shorten(&subject, TITLE),
    }
}

fn command(params: &Map<String, Value>, tools: &Items, origin: Origin<'_>) -> Option<Ask> {
    let id = text(params, "itemId");
    let mut item = tools.get(&id).map(|tool| tool.item.clone()).unwrap_or_default();
    item.insert("type".to_owned(), "commandExecution".into());
    item.insert("id".to_owned(), id.into());
    for key in ["command", "cwd"] {
        if let Some(value @ Value::String(_)) = params.get(key) {
            item.insert(key.to_owned(), value.clone());
        }
    }
    let mut call = items::tool_call(&item, origin)?;
    let line = call.commands.first().cloned().unwrap_or_default();
    // Everything that the command gets in addition is part of the decision.
    let mut input = json!({ "command": text(&item, "command") });
    for key in ["additionalPermissions", "networkApprovalContext"] {
        if let Some(value) = params.get(key).filter(|value| !value.is_null()) {
            input[key] = value.clone();
        }
    }
    call.input = input.to_string();
    let network = params.get("networkApprovalContext").and_then(Value::as_object);
    let (kind, title) = if let Some(network) = network {
        let host = text(network, "host");
        call.urls = vec![format!("{}://{host}", text(network, "protocol"))];
        if line.is_empty() {
            call.kind = tools::WEB_FETCH.to_owned();
            "network".clone_into(&mut call.name);
            call.commands = Vec::new();
        }
        ("network", format!("connect to {host}"))
    } else if text(params, "kind") == "writeStdin" {
        "write_stdin".clone_into(&mut call.name);
        ("command", line.clone())
    } else {
        ("command", line.clone())
    };
    if network.is_none() && line.is_empty() {
        return None;
    }
    let subject = match network {
        Some(network) => format!("The connection to {}", text(network, "host")),
        None => format!("The command `{line}`"),
    };
    Some(ask(Question { kind, form: Form::Decision, call, title, subject }, params, origin))
}

/// The request has no diff: the item that it names has it.
fn patch(params: &Map<String, Value>, tools: &Items, origin: Origin<'_>) -> Option<Ask> {
    let id = text(params, "itemId");
    let mut item = tools.get(&id).map(|tool| tool.item.clone()).unwrap_or_default();
    item.insert("type".to_owned(), "fileChange".into());
    item.insert("id".to_owned(), id.into());
    let mut call = items::tool_call(&item, origin)?;
    if call.files.is_empty() {
        // Nobody can decide about changes that were not reported.
        return None;
    }
    let root = params.get("grantRoot").and_then(Value::as_str);
    if let Some(root) = root {
        // The rest of the session could write there.
        call.files.push(FileAccess { path: root.to_owned(), effect: FileEffect::Modify, change: None });
    }
    Some(ask(patch_question(Form::Decision, call), params, origin))
}

fn patch_question(form: Form, call: ToolCall) -> Question {
    let paths: Vec<&str> = call.files.iter().map(|file| file.path.as_str()).collect();
    let title = match paths.as_slice() {
        [] => "change files".to_owned(),
        [path] => format!("change {path}"),
        [path, rest @ ..] => format!("change {path} and {} more", rest.len()),
    };
    let subject = format!("The patch of {}", paths.join(", "));
    Question { kind: "patch", form, call, title, subject }
}

fn permissions(params: &Map<String, Value>, origin: Origin<'_>) -> Option<Ask> {
    let mut requested = params.get("permissions")?.clone();
    drop_nulls(&mut requested);
    let requested_map = requested.as_object()?;
    let files = requested_map.get("fileSystem").and_then(Value::as_object);
    let list = |key: &str, effect: FileEffect| {
        let paths = files.and_then(|files| files.get(key)).and_then(Value::as_array).into_iter().flatten();
        paths
            .filter_map(Value::as_str)
            .map(|path| FileAccess { path: path.to_owned(), effect, change: None })
            .collect::<Vec<_>>()
    };
    let mut accesses = list("read", FileEffect::Read);
    accesses.extend(list("write", FileEffect::Modify));
    accesses.extend(entries(files));
    let only_network = files.is_none() && requested_map.contains_key("network");
    let call = ToolCall {
        id: text(params, "itemId"),
        kind: tools::OTHER.to_owned(),
        name: "request_permissions".to_owned(),
        input: requested.to_string(),
        cwd: Some(text(params, "cwd")).filter(|cwd| !cwd.is_empty() && cwd != origin.cwd),
        files: accesses,
        ..ToolCall::default()
    };
    let (kind, title) = if only_network {
        ("network", "network access for this turn")
    } else {
        ("permissions", "more permissions for this turn")
    };
    let subject = "The request for more permissions".to_owned();
    let form = Form::Permissions(requested);
    Some(ask(Question { kind, form, call, title: title.to_owned(), subject }, params, origin))
}

/// Paths, patterns, and folders that codex names by their use.
fn entries(files: Option<&Map<String, Value>>) -> Vec<FileAccess> {
    let entries = files.and_then(|files| files.get("entries")).and_then(Value::as_array).into_iter().flatten();
    let of = |entry: &Value| {
        let effect = match entry.get("access")?.as_str()? {
            "read" => FileEffect::Read,
            "write" => FileEffect::Modify,
            _ => return None,
        };
        let path = entry.get("path")?;
        let named = ["path", "pattern"].iter().find_map(|key| path.get(*key)?.as_str()).map(str::to_owned);
        Some(FileAccess { path: named.unwrap_or_else(|| path.to_string()), effect, change: None })
    };
    entries.filter_map(of).collect()
}

fn questions(params: &Map<String, Value>, origin: Origin<'_>) -> Option<Ask> {
    let asked = params.get("questions")?.as_array()?;
    let (mut ids, mut shown) = (Vec::new(), Vec::new());
    for question in asked {
        let question = question.as_object()?;
        let flag = |key: &str| question.get(key).and_then(Value::as_bool) == Some(true);
        let id = text(question, "id");
        let mut entry = json!({
            "id": id,
            "question": text(question, "question"),
            "multiSelect": false,
            "secret": flag("isSecret"),
        });
        let header = text(question, "header");
        if !header.is_empty() {
            entry["header"] = header.into();
        }
        if let Some(options @ Value::Array(_)) = question.get("options") {
            entry["options"] = options.clone();
            // An answer that is none of the options.
            entry["other"] = flag("isOther").into();
        }
        ids.push(id);
        shown.push(entry);
    }
    let title = asked.first().and_then(|question| question.get("question")?.as_str()).unwrap_or_default().to_owned();
    let call = ToolCall {
        id: text(params, "itemId"),
        kind: tools::QUESTION.to_owned(),
        name: "request_user_input".to_owned(),
        input: json!({ "questions": asked }).to_string(),
        ..ToolCall::default()
    };
    let subject = "The question to the user".to_owned();
    let question = Question { kind: "question", form: Form::Questions(ids), call, title, subject };
    let mut ask = ask(question, params, origin);
    ask.extra.insert("questions".to_owned(), shown.into());
    Some(ask)
}

/// A question of an MCP server, or of codex about a tool of one.
fn elicitation(params: &Map<String, Value>, tools: &Items, origin: Origin<'_>) -> Option<Ask> {
    let server = text(params, "serverName");
    let message = text(params, "message");
    let meta = params.get("_meta").and_then(Value::as_object);
    if let Some(meta) = meta.filter(|meta| meta.contains_key("codex_approval_kind")) {
        return Some(mcp_tool(params, meta, &server, tools, origin));
    }
    let mut call = ToolCall {
        id: format!("{server}/elicitation"),
        kind: tools::QUESTION.to_owned(),
        name: "elicitation".to_owned(),
        input: json!({ "server": server, "message": message }).to_string(),
        mcp: Some(McpTool { server: server.clone(), tool: String::new() }),
        ..ToolCall::default()
    };
    let subject = format!("The question of the MCP server {server}");
    match text(params, "mode").as_str() {
        "form" => {
            let schema = params.get("requestedSchema").cloned().unwrap_or_else(|| json!({ "type": "object" }));
            let required = schema.get("required").and_then(Value::as_array).is_some_and(|names| !names.is_empty());
            let form = Form::Content { required };
            let mut ask = ask(Question { kind: "elicitation", form, call, title: message, subject }, params, origin);
            ask.extra.insert("schema".to_owned(), schema);
            Some(ask)
        }
        "url" => {
            call.urls = vec![text(params, "url")];
            Some(ask(
                Question { kind: "elicitation", form: Form::Action, call, title: message, subject },
                params,
                origin,
            ))
        }
        _ => None,
    }
}

fn mcp_tool(
    params: &Map<String, Value>,
    meta: &Map<String, Value>,
    server: &str,
    tools: &Items,
    origin: Origin<'_>,
) -> Ask {
    let tool = text(meta, "tool_name");
    let running = tools.find(|open| {
        open.thread == origin.thread && text(&open.item, "server") == server && text(&open.item, "tool") == tool
    });
    let call = ToolCall {
        id: running.map_or_else(|| format!("{server}/{tool}"), str::to_owned),
        kind: if tool.is_empty() { tools::OTHER } else { tools::MCP }.to_owned(),
        name: if tool.is_empty() { text(meta, "codex_approval_kind") } else { tool.clone() },
        input: meta.get("tool_params").unwrap_or(&Value::Null).to_string(),
        mcp: Some(McpTool { server: server.to_owned(), tool: tool.clone() }),
        ..ToolCall::default()
    };
    let subject = format!("The tool `{tool}` of the MCP server {server}");
    ask(Question { kind: "tool", form: Form::Action, call, title: text(params, "message"), subject }, params, origin)
}

fn old_command(params: &Map<String, Value>, origin: Origin<'_>) -> Option<Ask> {
    let words: Vec<&str> = params.get("command")?.as_array()?.iter().filter_map(Value::as_str).collect();
    let line = words.iter().map(|word| ostler_provider_kit::argument::shell_quote(word)).collect::<Vec<_>>().join(" ");
    let command = shell::unwrap(&line);
    let call = ToolCall {
        id: text(params, "callId"),
        kind: tools::SHELL.to_owned(),
        name: "command_execution".to_owned(),
        input: json!({ "command": words }).to_string(),
        commands: vec![command.clone()],
        cwd: Some(text(params, "cwd")).filter(|cwd| !cwd.is_empty() && cwd != origin.cwd),
        ..ToolCall::default()
    };
    let subject = format!("The command `{command}`");
    Some(ask(Question { kind: "command", form: Form::OldDecision, call, title: command, subject }, params, origin))
}

fn old_patch(params: &Map<String, Value>, origin: Origin<'_>) -> Option<Ask> {
    let changes = params.get("fileChanges")?.as_object()?;
    let mut list = Vec::new();
    for (path, change) in changes {
        let diff = ["unified_diff", "content"].iter().find_map(|key| change.get(*key)?.as_str()).unwrap_or_default();
        list.push(json!({ "path": path, "kind": change, "diff": diff }));
    }
    let mut item = Map::new();
    item.insert("type".to_owned(), "fileChange".into());
    item.insert("id".to_owned(), text(params, "callId").into());
    item.insert("changes".to_owned(), list.into());
    let call = items::tool_call(&item, origin)?;
    Some(ask(patch_question(Form::OldDecision, call), params, origin))
}

fn drop_nulls(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, value| !value.is_null());
        map.values_mut().for_each(drop_nulls);
    }
}
