//! Items of a thread. Those that `exec --json` has as well are translated to its spelling and read by [`crate::items`].

use std::collections::{BTreeMap, BTreeSet};

use ostler_plugin::provider::{FileAccess, FileEffect, Semantic, ToolCall, ToolOutput};
use ostler_plugin::vocabulary::{notices, tools};
use ostler_provider_kit::events::{notice, piece};
use serde_json::{Map, Value, json};

use super::output::Output;
use crate::items::{self, Meaning, Phase};

/// Maximum number of running tools that are followed.
const OPEN_TOOLS: usize = 256;
/// Maximum number of bytes of a running tool's output that are kept, for tools whose result does not contain it.
const KEPT_OUTPUT: usize = 256 * 1024;
/// Maximum number of ids of tools whose end was reported before codex did.
const CLOSED_TOOLS: usize = 1024;

/// A tool that is running.
#[derive(Clone, Debug)]
pub(super) struct OpenTool {
    pub thread: String,
    turn: String,
    /// The item as codex reported it.
    pub item: Map<String, Value>,
    output: String,
    /// Number of inputs that were typed into it.
    inputs: u32,
}

impl OpenTool {
    fn is_command(&self) -> bool {
        self.item.get("type").and_then(Value::as_str) == Some("commandExecution")
    }
}

/// The thread and turn of a notification, and the tool use that started the sub-agent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin<'a> {
    pub thread: &'a str,
    pub turn: &'a str,
    pub parent: Option<&'a str>,
    /// The run's working folder.
    pub cwd: &'a str,
}

/// The tools that run, in all threads.
#[derive(Debug, Default)]
pub(super) struct Items {
    open: BTreeMap<String, OpenTool>,
    closed: BTreeSet<String>,
}

impl Items {
    /// Reads an item and returns the message if it is a complete one of the agent.
    pub(super) fn read(
        &mut self,
        item: &Map<String, Value>,
        phase: Phase,
        origin: Origin<'_>,
        out: &mut Output,
    ) -> Option<String> {
        let (id, kind) = (text(item, "id"), text(item, "type"));
        if self.closed.contains(&id) {
            return None;
        }
        match meaning(&id, &kind, item, phase) {
            Meaning::Message(text) => {
                out.emit(Semantic::Text(piece(&id, &text, origin.parent)));
                return Some(text);
            }
            Meaning::Thinking(text) => {
                if !text.is_empty() {
                    out.emit(Semantic::Thinking(piece(&id, &text, origin.parent)));
                }
            }
            Meaning::Tool { mut call, result, .. } => {
                place(&mut call, item, origin);
                self.tool(call, item, result, origin, out);
            }
            Meaning::Event(event) => out.emit(event),
            Meaning::Nothing => {}
        }
        None
    }

    fn tool(
        &mut self,
        call: ToolCall,
        item: &Map<String, Value>,
        result: Option<ToolOutput>,
        origin: Origin<'_>,
        out: &mut Output,
    ) {
        let id = call.id.clone();
        let known = self.open.remove(&id);
        if known.is_none() {
            out.emit(Semantic::ToolStart(call));
        }
        if let Some(mut result) = result {
            if result.output.is_empty() {
                result.output = known.map(|known| known.output).unwrap_or_default();
            }
            out.emit(Semantic::ToolResult(result));
        } else if self.open.len() < OPEN_TOOLS {
            let (output, inputs) = known.map(|known| (known.output, known.inputs)).unwrap_or_default();
            let (thread, turn) = (origin.thread.to_owned(), origin.turn.to_owned());
            self.open.insert(id, OpenTool { thread, turn, item: item.clone(), output, inputs });
        }
    }

    /// The running tool with this id.
    pub(super) fn get(&self, id: &str) -> Option<&OpenTool> {
        self.open.get(id)
    }

    /// The newest running tool for which `matches` holds.
    pub(super) fn find(&self, matches: impl Fn(&OpenTool) -> bool) -> Option<&str> {
        self.open.iter().rev().find(|(_, tool)| matches(tool)).map(|(id, _)| id.as_str())
    }

    /// The next piece of a tool's output.
    pub(super) fn output(&mut self, id: &str, delta: &str, out: &mut Output) {
        if delta.is_empty() || self.closed.contains(id) {
            return;
        }
        if let Some(tool) = self.open.get_mut(id)
            && tool.output.len() + delta.len() <= KEPT_OUTPUT
        {
            tool.output.push_str(delta);
        }
        out.emit(items::delta(id, delta));
    }

    /// The changes of a patch that codex is still receiving.
    pub(super) fn changes(&mut self, id: &str, changes: &Value) {
        if let Some(tool) = self.open.get_mut(id) {
            tool.item.insert("changes".to_owned(), changes.clone());
        }
    }

    /// The agent types into a running command. codex does not ask about it and has no item for it.
    pub(super) fn typed(&mut self, id: &str, params: &Map<String, Value>, origin: Origin<'_>, out: &mut Output) {
        let typed = text(params, "stdin");
        if typed.is_empty() {
            // It only waits for more output.
            return;
        }
        let number = self.open.get_mut(id).map_or(0, |tool| {
            tool.inputs += 1;
            tool.inputs
        });
        let input = format!("{id}/stdin-{number}");
        out.emit(Semantic::ToolStart(ToolCall {
            id: input.clone(),
            kind: tools::SHELL.to_owned(),
            name: "write_stdin".to_owned(),
            input: json!({ "itemId": id, "processId": params.get("processId"), "stdin": typed }).to_string(),
            commands: vec![typed.trim_end().to_owned()],
            parent: origin.parent.map(str::to_owned),
            ..ToolCall::default()
        }));
        out.emit(Semantic::ToolResult(ToolOutput {
            id: input,
            output: String::new(),
            is_error: false,
            exit_code: None,
            extra: None,
        }));
    }

    /// Closes the tools of a turn that has ended: codex does not report the end of a patch or a command that was interrupted.
    /// Commands of a complete turn go on in the background. Returns the commands that may still run although their turn was
    /// interrupted.
    pub(super) fn end_turn(&mut self, origin: Origin<'_>, interrupted: bool, out: &mut Output) -> Vec<String> {
        let ended: Vec<String> = self
            .open
            .iter()
            .filter(|(_, tool)| {
                tool.thread == origin.thread && tool.turn == origin.turn && (interrupted || !tool.is_command())
            })
            .map(|(id, _)| id.clone())
            .collect();
        let mut commands = Vec::new();
        for id in ended {
            let Some(tool) = self.open.remove(&id) else { continue };
            if tool.is_command() {
                commands.push(id.clone());
            }
            let why = if interrupted { "the turn was interrupted" } else { "the turn ended before the tool did" };
            let output = if tool.output.is_empty() { why.to_owned() } else { tool.output };
            if self.closed.len() < CLOSED_TOOLS {
                self.closed.insert(id.clone());
            }
            out.emit(Semantic::ToolResult(ToolOutput { id, output, is_error: true, exit_code: None, extra: None }));
        }
        commands
    }
}

fn text(item: &Map<String, Value>, key: &str) -> String {
    item.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Adds to a tool use what only this protocol reports.
pub(super) fn place(call: &mut ToolCall, item: &Map<String, Value>, origin: Origin<'_>) {
    call.parent = origin.parent.map(str::to_owned);
    call.cwd = item.get("cwd").and_then(Value::as_str).filter(|cwd| *cwd != origin.cwd).map(str::to_owned);
}

/// The tool use that an item describes, if it is one.
pub(super) fn tool_call(item: &Map<String, Value>, origin: Origin<'_>) -> Option<ToolCall> {
    match meaning(&text(item, "id"), &text(item, "type"), item, Phase::Started) {
        Meaning::Tool { mut call, .. } => {
            place(&mut call, item, origin);
            Some(call)
        }
        _ => None,
    }
}

fn meaning(id: &str, kind: &str, item: &Map<String, Value>, phase: Phase) -> Meaning {
    let done = phase == Phase::Completed;
    let renamed = |kind: &str, names: &[(&str, &str)]| items::read(id, kind, &rename(item, names), phase);
    match kind {
        "agentMessage" => renamed("agent_message", &[]),
        "plan" if done => Meaning::Message(text(item, "text")),
        "reasoning" if done => Meaning::Thinking(reasoning(item)),
        "commandExecution" => {
            renamed("command_execution", &[("aggregatedOutput", "aggregated_output"), ("exitCode", "exit_code")])
        }
        "fileChange" => renamed("file_change", &[]),
        "mcpToolCall" => {
            let mut item = item.clone();
            if let Some(Value::Object(result)) = item.get_mut("result")
                && let Some(content) = result.remove("structuredContent")
            {
                result.insert("structured_content".to_owned(), content);
            }
            items::read(id, "mcp_tool_call", &item, phase)
        }
        "webSearch" => {
            let mut item = item.clone();
            if let Some(Value::Object(action)) = item.get_mut("action") {
                let word = match action.get("type").and_then(Value::as_str) {
                    Some("openPage") => "open_page",
                    Some("findInPage") => "find_in_page",
                    _ => "search",
                };
                action.insert("type".to_owned(), word.into());
            }
            items::read(id, "web_search", &item, phase)
        }
        "collabAgentToolCall" => renamed(
            "collab_tool_call",
            &[("receiverThreadIds", "receiver_thread_ids"), ("agentsStates", "agents_states")],
        ),
        "imageView" => simple(id, "view_image", tools::FILE_READ, item, &[text(item, "path")], done),
        "imageGeneration" => simple(id, "image_generation", tools::OTHER, item, &[], done),
        "dynamicToolCall" => simple(id, &text(item, "tool"), tools::OTHER, item, &[], done),
        "contextCompaction" if done => {
            Meaning::Event(Semantic::Progress(notice(notices::COMPACTED, "the history of the session was summarized")))
        }
        // The input of the turn, and items that are reported once more when they end.
        "userMessage" | "sleep" | "subAgentActivity" | "reasoning" | "plan" | "contextCompaction" => Meaning::Nothing,
        _ => Meaning::Event(items::other(&format!("item.{kind}"), item)),
    }
}

fn rename(item: &Map<String, Value>, names: &[(&str, &str)]) -> Map<String, Value> {
    let name = |key: &String| {
        names.iter().find(|(from, _)| from == key).map_or_else(|| key.clone(), |(_, to)| (*to).to_owned())
    };
    item.iter().map(|(key, value)| (name(key), value.clone())).collect()
}

/// The summary of the model's reasoning. Models that are run locally show the reasoning itself.
fn reasoning(item: &Map<String, Value>) -> String {
    let of = |key: &str| {
        let parts = item.get(key).and_then(Value::as_array).into_iter().flatten();
        parts.filter_map(Value::as_str).collect::<Vec<_>>().join("\n\n")
    };
    let summary = of("summary");
    if summary.is_empty() { of("content") } else { summary }
}

/// A tool that needs no further translation.
fn simple(id: &str, name: &str, kind: &str, item: &Map<String, Value>, paths: &[String], done: bool) -> Meaning {
    let files = paths.iter().map(|path| FileAccess { path: path.clone(), effect: FileEffect::Read, change: None });
    let known = ["id", "type", "status", "result", "contentItems", "startedAtMs", "completedAtMs", "durationMs"];
    let input: Map<String, Value> = item
        .iter()
        .filter(|(key, _)| !known.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let call = ToolCall {
        id: id.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        input: Value::Object(input).to_string(),
        files: files.collect(),
        ..ToolCall::default()
    };
    let is_error = item.get("success").and_then(Value::as_bool) == Some(false) || text(item, "status") == "failed";
    let result =
        done.then(|| ToolOutput { id: id.to_owned(), output: String::new(), is_error, exit_code: None, extra: None });
    Meaning::Tool { call, progress: String::new(), result }
}
