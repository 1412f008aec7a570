//! Translates tools of claude to tool uses.

use ostler_plugin::provider::{FileAccess, FileEffect, McpTool, Semantic, ToolCall, ToolOutput};
use ostler_plugin::vocabulary::tools;
use ostler_provider_kit::events;
use serde_json::{Map, Value, json};

/// The tool with which the model returns a structured answer. It has no effect.
pub(crate) const STRUCTURED_OUTPUT: &str = "StructuredOutput";

pub(crate) fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// `mcp__SERVER__TOOL`.
fn mcp(name: &str) -> Option<McpTool> {
    let (server, tool) = name.strip_prefix("mcp__")?.split_once("__")?;
    Some(McpTool { server: server.to_owned(), tool: tool.to_owned() })
}

/// A `tool_use` block.
pub(crate) fn call(id: &str, name: &str, input: &Value, parent: Option<&str>) -> ToolCall {
    let word = |key: &str| Some(text(input, key)).filter(|word| !word.is_empty()).map(str::to_owned);
    let file = |key: &str, effect: FileEffect, change: Option<String>| {
        word(key).map(|path| FileAccess { path, effect, change }).into_iter().collect::<Vec<_>>()
    };
    let mut call = ToolCall {
        id: id.to_owned(),
        name: name.to_owned(),
        input: input.to_string(),
        parent: parent.map(str::to_owned),
        ..ToolCall::default()
    };
    let kind = match name {
        "Bash" | "PowerShell" => {
            call.commands = word("command").into_iter().collect();
            tools::SHELL
        }
        // A command in the background, whose output lines the model gets.
        "Monitor" if word("command").is_some() => {
            call.commands = word("command").into_iter().collect();
            tools::SHELL
        }
        // Output and end of background shells and sub-agents.
        "BashOutput" | "KillShell" | "KillBash" => tools::SHELL,
        "TaskOutput" | "TaskStop" | "AgentOutputTool" | "Task" | "Agent" | "SendMessage" => tools::TASK,
        "Read" | "NotebookRead" => {
            call.files = file(if name == "Read" { "file_path" } else { "notebook_path" }, FileEffect::Read, None);
            tools::FILE_READ
        }
        "Write" => {
            call.files = file("file_path", FileEffect::Create, word("content"));
            tools::FILE_WRITE
        }
        "Edit" | "MultiEdit" => {
            call.files = file("file_path", FileEffect::Modify, None);
            tools::FILE_EDIT
        }
        "NotebookEdit" => {
            call.files = file("notebook_path", FileEffect::Modify, None);
            tools::FILE_EDIT
        }
        "Glob" | "LS" => {
            call.files = file("path", FileEffect::Read, None);
            tools::FILE_SEARCH
        }
        "Grep" => {
            call.files = file("path", FileEffect::Read, None);
            tools::CONTENT_SEARCH
        }
        "WebFetch" => {
            call.urls = word("url").into_iter().collect();
            tools::WEB_FETCH
        }
        "WebSearch" => {
            let domains = input.get("allowed_domains").and_then(Value::as_array);
            call.urls = domains.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
            tools::WEB_SEARCH
        }
        "ListMcpResourcesTool" | "ReadMcpResourceTool" | "ReadMcpResourceDirTool" => {
            call.mcp = word("server").map(|server| McpTool { server, tool: name.to_owned() });
            tools::MCP
        }
        "AskUserQuestion" => tools::QUESTION,
        _ => {
            call.mcp = mcp(name);
            if call.mcp.is_some() { tools::MCP } else { tools::OTHER }
        }
    };
    call.kind = kind.to_owned();
    call
}

/// A `tool_result` block, with the result in the line itself.
pub(crate) fn result(block: &Value, beside: &Value) -> ToolOutput {
    let output = match block.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().map(part).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    };
    let is_error = block.get("is_error").and_then(Value::as_bool) == Some(true);
    // The shell's own result separates the streams; a failure begins with its exit code.
    let ran = beside.get("stdout").is_some() && beside.get("interrupted").and_then(Value::as_bool) != Some(true);
    let in_background = beside.get("backgroundTaskId").is_some_and(|id| !id.is_null());
    let exit_code = if is_error { exit_code(&output) } else { (ran && !in_background).then_some(0) };
    ToolOutput { id: text(block, "tool_use_id").to_owned(), output, is_error, exit_code, extra: None }
}

fn exit_code(output: &str) -> Option<i32> {
    let rest = output.strip_prefix("Error: ").unwrap_or(output);
    rest.strip_prefix("Exit code ")?.lines().next()?.trim().parse().ok()
}

fn part(part: &Value) -> String {
    match part.get("text").and_then(Value::as_str) {
        Some(text) => text.to_owned(),
        None => format!("[{}]", part.get("type").and_then(Value::as_str).unwrap_or("content")),
    }
}

/// The plan, if a tool use sets one.
pub(crate) fn plan(name: &str, input: &Value) -> Option<Semantic> {
    if name != "TodoWrite" {
        return None;
    }
    let steps: Vec<Value> = input
        .get("todos")?
        .as_array()?
        .iter()
        .map(|step| json!({ "text": step.get("content").unwrap_or(&Value::Null), "status": step.get("status").unwrap_or(&Value::Null) }))
        .collect();
    Some(events::plan(&steps))
}

pub(crate) fn other(kind: &str, fields: &Map<String, Value>) -> Semantic {
    events::other("claude", kind, fields)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn tools_are_mapped_to_kinds() {
        let of = |name: &str, input: Value| call("t", name, &input, None);
        for (name, input, kind) in [
            ("Bash", json!({"command": "ls"}), tools::SHELL),
            ("Monitor", json!({"command": "tail -f x"}), tools::SHELL),
            ("Monitor", json!({"ws": {}}), tools::OTHER),
            ("Read", json!({"file_path": "/a"}), tools::FILE_READ),
            ("Write", json!({"file_path": "/a", "content": "x"}), tools::FILE_WRITE),
            ("Edit", json!({"file_path": "/a"}), tools::FILE_EDIT),
            ("NotebookEdit", json!({"notebook_path": "/a"}), tools::FILE_EDIT),
            ("Glob", json!({"pattern": "*"}), tools::FILE_SEARCH),
            ("Grep", json!({"pattern": "x", "path": "/a"}), tools::CONTENT_SEARCH),
            ("WebFetch", json!({"url": "https://a.example/x"}), tools::WEB_FETCH),
            ("WebSearch", json!({"query": "x", "allowed_domains": ["a.example"]}), tools::WEB_SEARCH),
            ("Task", json!({}), tools::TASK),
            ("Agent", json!({}), tools::TASK),
            ("AskUserQuestion", json!({}), tools::QUESTION),
            ("mcp__probe__a__b", json!({}), tools::MCP),
            ("mcp__probe", json!({}), tools::OTHER),
            ("Hologram", json!({}), tools::OTHER),
        ] {
            assert_eq!(of(name, input).kind, kind, "{name}");
        }
        assert_eq!(of("Bash", json!({"command": "ls; pwd"})).commands, ["ls; pwd"]);
        let write = of("Write", json!({"file_path": "/a", "content": "x"}));
        assert_eq!((write.files[0].effect, write.files[0].change.as_deref()), (FileEffect::Create, Some("x")));
        assert_eq!(of("Grep", json!({"path": "/a"})).files[0].path, "/a");
        assert!(of("Glob", json!({})).files.is_empty());
        assert_eq!(of("WebFetch", json!({"url": "https://a.example/x"})).urls, ["https://a.example/x"]);
        let tool = of("mcp__probe__a__b", json!({})).mcp.unwrap();
        assert_eq!((tool.server.as_str(), tool.tool.as_str()), ("probe", "a__b"));
        assert_eq!(call("t", "Read", &json!({}), Some("p")).parent.as_deref(), Some("p"));
    }

    #[test]
    fn exit_codes_are_read_from_results() {
        let bash = json!({"stdout": "a", "stderr": "", "interrupted": false});
        let of = |block: Value, beside: &Value| result(&block, beside);
        let done = of(json!({"tool_use_id": "t", "content": "a", "is_error": false}), &bash);
        assert_eq!((done.output.as_str(), done.exit_code, done.is_error), ("a", Some(0), false));
        let failed =
            of(json!({"content": "Exit code 2\nno such file", "is_error": true}), &json!("Error: Exit code 2"));
        assert_eq!((failed.exit_code, failed.is_error), (Some(2), true));
        let background = json!({"stdout": "", "interrupted": false, "backgroundTaskId": "b1"});
        assert_eq!(of(json!({"content": "running"}), &background).exit_code, None);
        let parts =
            of(json!({"content": [{"type": "text", "text": "a"}, {"type": "image", "source": {}}]}), &Value::Null);
        assert_eq!((parts.output.as_str(), parts.exit_code), ("a\n[image]", None));
        assert_eq!(of(json!({"content": "Permission denied", "is_error": true}), &bash).exit_code, None);
    }

    #[test]
    fn to_do_list_becomes_a_plan() {
        let input = json!({"todos": [{"content": "a", "status": "completed"}, {"content": "b", "status": "pending"}]});
        let event = plan("TodoWrite", &input).unwrap();
        assert!(
            matches!(event, Semantic::Progress(notice) if notice.code == "plan" && notice.message == "1 of 2 steps done")
        );
        assert!(plan("Bash", &input).is_none() && plan("TodoWrite", &json!({"todos": 1})).is_none());
    }
}
