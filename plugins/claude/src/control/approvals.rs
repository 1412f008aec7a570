//! What claude asks the host: to decide about a tool use that its hook shows, to allow one, or to ask the user a question.

use std::collections::{BTreeMap, VecDeque};

use ostler_plugin::provider::{ApprovalRequest, Decision, McpTool, Semantic, ToolCall};
use ostler_plugin::vocabulary::{notices, tools};
use ostler_plugin::{Error, strip_ansi};
use ostler_provider_kit::events::notice;
use ostler_provider_kit::failure::shorten;
use ostler_provider_kit::payload::Mcp;
use ostler_provider_kit::transcript::KEPT_BYTES;
use serde_json::{Map, Value, json};

use super::edits;
use super::requests::{HOOK, Outbox};
use crate::items::{self, text};

/// Maximum number of open requests. More are refused.
const OPEN: usize = 256;

/// Maximum number of sub-agents that are remembered.
const PARENTS: usize = 256;

/// Maximum number of tool uses that are remembered; their results follow before long.
const SHOWN: usize = 4096;

/// The tool by which claude asks whether a command in its sandbox may reach a host.
const NETWORK: &str = "SandboxNetworkAccess";

/// The message for the agent about a denial without one.
const DENIED: &str = "This was denied.";

/// A request that waits for a decision.
#[derive(Debug)]
struct Open {
    form: Form,
    /// The id of the tool use.
    tool_use: String,
    /// The input as claude shows it.
    input: Value,
}

/// How a request is answered.
#[derive(Debug)]
enum Form {
    /// A tool use before it happens: `hook_callback`.
    Use,
    /// A tool use that needs a permission: `can_use_tool`.
    Ask,
    /// A question for the user, which is a tool use as well. The texts of the questions, in order.
    Question(Vec<String>),
    /// A question of an MCP server.
    Elicitation,
}

/// What a decision leaves to do.
#[derive(Debug, Default)]
pub(super) struct Decided {
    /// The id of the tool use that was denied.
    pub(super) denied: Option<String>,
    /// Whether the turn is to be interrupted.
    pub(super) stop: bool,
}

/// The tools of MCP servers that may be used at all. Where claude asks, its rules cannot express that.
#[derive(Debug, Default)]
pub(super) struct ToolFilter {
    enabled: BTreeMap<String, Vec<String>>,
}

impl ToolFilter {
    pub(super) fn new(mcp: &Mcp) -> Self {
        let listed = |server: &ostler_provider_kit::payload::McpServer| {
            server.enabled_tools.clone().map(|tools| (server.name.clone(), tools))
        };
        Self { enabled: mcp.servers.iter().filter_map(listed).collect() }
    }

    fn refuses(&self, mcp: Option<&McpTool>) -> bool {
        mcp.is_some_and(|mcp| self.enabled.get(&mcp.server).is_some_and(|tools| !tools.contains(&mcp.tool)))
    }
}

/// The open requests.
#[derive(Debug)]
pub(super) struct Approvals {
    open: BTreeMap<String, Open>,
    /// Sub-agents, and the tool uses that started them.
    parents: VecDeque<(String, String)>,
    /// The newest tool uses that the hook has shown.
    shown: VecDeque<String>,
    filter: ToolFilter,
}

impl Approvals {
    pub(super) fn new(filter: ToolFilter) -> Self {
        Self { open: BTreeMap::new(), parents: VecDeque::new(), shown: VecDeque::new(), filter }
    }

    /// Whether the hook has shown this tool use before it happened.
    pub(super) fn has_shown(&self, tool_use: &str) -> bool {
        self.shown.iter().any(|shown| shown == tool_use)
    }

    /// A line of type `system` can tell which tool use started a sub-agent.
    pub(super) fn task_started(&mut self, agent: &str, tool_use: &str) {
        if self.parents.len() >= PARENTS {
            self.parents.pop_front();
        }
        self.parents.push_back((agent.to_owned(), tool_use.to_owned()));
    }

    /// Reads a request of claude. One that is not known is refused at once.
    pub(super) fn asked(&mut self, id: &str, request: &Value, out: &mut Outbox) -> Vec<Semantic> {
        if self.open.remove(id).is_some() {
            // An answer could be meant for either of them.
            out.refuse(id, "there are two requests with this id");
            let warning = notice(notices::PROTOCOL, "claude sent two requests with one id; both are denied");
            return vec![Semantic::ApprovalWithdrawn(id.to_owned()), Semantic::Warning(warning)];
        }
        if self.open.len() >= OPEN {
            out.refuse(id, "too many requests are open");
            return vec![Semantic::Warning(notice(notices::PROTOCOL, "claude has too many open requests"))];
        }
        let known = match text(request, "subtype") {
            "can_use_tool" => self.can_use_tool(request),
            "hook_callback" => self.hook_callback(request),
            "elicitation" => Some(elicitation(id, request)),
            _ => None,
        };
        let Some((open, call, reason, extra)) = known else {
            let subtype = shorten(text(request, "subtype"), 200);
            out.refuse(id, "the host does not support this request");
            let message = format!("claude sent a request that is not supported: {subtype}");
            return vec![Semantic::Warning(notice(notices::PROTOCOL, &message))];
        };
        if matches!(open.form, Form::Use) {
            if self.shown.len() >= SHOWN {
                self.shown.pop_front();
            }
            self.shown.push_back(open.tool_use.clone());
        }
        if call.name == items::STRUCTURED_OUTPUT {
            // It returns the answer of the run, and has no other effect.
            respond(id, &open, &Decision { allow: true, ..denial() }, None, out);
            return Vec::new();
        }
        if call.kind == tools::MCP && self.filter.refuses(call.mcp.as_ref()) {
            respond(id, &open, &Decision { message: Some(NOT_ENABLED.to_owned()), ..denial() }, None, out);
            return Vec::new();
        }
        self.open.insert(id.to_owned(), open);
        vec![Semantic::ApprovalRequested(ApprovalRequest {
            id: id.to_owned(),
            call,
            reason,
            extra: Some(extra.to_string()),
        })]
    }

    /// The tool use, with its change and the sub-agent that makes it.
    fn call(&self, name: &str, tool_use: &str, input: &Value, agent: &str) -> ToolCall {
        let parent = self.parents.iter().find(|(id, _)| id == agent).map(|(_, parent)| parent.as_str());
        let mut call = items::call(tool_use, name, input, parent);
        if let (Some(diff), Some(file)) = (edits::diff(name, input), call.files.first_mut()) {
            file.change = Some(diff);
        }
        if name == NETWORK {
            call.urls = [text(input, "host")].into_iter().filter(|host| !host.is_empty()).map(str::to_owned).collect();
        }
        call
    }

    fn can_use_tool(&self, request: &Value) -> Option<(Open, ToolCall, Option<String>, Value)> {
        let (name, tool_use) = (text(request, "tool_name"), text(request, "tool_use_id"));
        let input = request.get("input").filter(|input| input.is_object())?.clone();
        let call = self.call(name, tool_use, &input, text(request, "agent_id"));
        let mut extra = json!({ "kind": kind(&call), "phase": "ask", "editable": true });
        let form = if call.kind == tools::QUESTION {
            let (texts, questions) = questions(&input);
            extra["kind"] = "question".into();
            extra["questions"] = questions;
            Form::Question(texts)
        } else {
            Form::Ask
        };
        let title = ["title", "description"].into_iter().find_map(|key| plain(request, key));
        if let Some(title) = title {
            extra["title"] = title.into();
        }
        let reason = plain(request, "decision_reason");
        Some((Open { form, tool_use: tool_use.to_owned(), input }, call, reason, extra))
    }

    fn hook_callback(&self, request: &Value) -> Option<(Open, ToolCall, Option<String>, Value)> {
        let shown = request.get("input")?;
        if text(request, "callback_id") != HOOK || text(shown, "hook_event_name") != "PreToolUse" {
            return None;
        }
        let input = shown.get("tool_input").filter(|input| input.is_object())?.clone();
        let tool_use = [text(request, "tool_use_id"), text(shown, "tool_use_id")].into_iter().find(|id| !id.is_empty());
        let tool_use = tool_use.unwrap_or_default();
        let call = self.call(text(shown, "tool_name"), tool_use, &input, text(shown, "agent_id"));
        let extra = json!({ "kind": kind(&call), "phase": "use", "editable": true });
        Some((Open { form: Form::Use, tool_use: tool_use.to_owned(), input }, call, None, extra))
    }

    /// claude does not wait for the answer any more.
    pub(super) fn canceled(&mut self, id: &str) -> Option<Semantic> {
        self.open.remove(id).map(|_| Semantic::ApprovalWithdrawn(id.to_owned()))
    }

    /// Withdraws and denies all requests.
    pub(super) fn withdraw_all(&mut self, out: &mut Outbox) -> Vec<Semantic> {
        let open = std::mem::take(&mut self.open);
        open.into_keys()
            .map(|id| {
                out.refuse(&id, "the turn has ended");
                Semantic::ApprovalWithdrawn(id)
            })
            .collect()
    }

    /// Answers a request. Does nothing if it is not open.
    pub(super) fn decide(&mut self, id: &str, decision: &Decision, out: &mut Outbox) -> Result<Decided, Error> {
        let Some(open) = self.open.get(id) else { return Ok(Decided::default()) };
        let input = decision.input.as_deref().filter(|_| decision.allow).map(object).transpose()?;
        let input = match (&open.form, input) {
            (Form::Question(texts), Some(given)) => Some(answers(texts, &given, &open.input)?),
            (_, input) => input.map(Value::Object),
        };
        let Some(open) = self.open.remove(id) else { return Ok(Decided::default()) };
        respond(id, &open, decision, input, out);
        let denied = (!decision.allow).then(|| open.tool_use.clone()).filter(|id| !id.is_empty());
        // A permission has a field for that.
        let stop = !decision.allow && decision.stop_turn && matches!(open.form, Form::Use | Form::Elicitation);
        Ok(Decided { denied, stop })
    }
}

const NOT_ENABLED: &str = "This tool of the MCP server is not enabled.";

fn denial() -> Decision {
    Decision { allow: false, message: None, input: None, stop_turn: false }
}

/// Writes the answer. No permission is stored: a later use is asked again.
fn respond(id: &str, open: &Open, decision: &Decision, input: Option<Value>, out: &mut Outbox) {
    let message = decision.message.as_deref().filter(|message| !message.trim().is_empty()).unwrap_or(DENIED);
    let body = match (&open.form, decision.allow) {
        // An allowance would also override the rules of claude that ask.
        (Form::Use, true) => match input {
            None => json!({}),
            Some(input) => json!({ "hookSpecificOutput": { "hookEventName": "PreToolUse", "updatedInput": input } }),
        },
        (Form::Use, false) => json!({ "hookSpecificOutput": {
            "hookEventName": "PreToolUse", "permissionDecision": "deny", "permissionDecisionReason": message,
        } }),
        (Form::Ask | Form::Question(_), true) => {
            json!({ "behavior": "allow", "updatedInput": input.unwrap_or_else(|| open.input.clone()) })
        }
        (Form::Ask | Form::Question(_), false) => {
            let mut body = json!({ "behavior": "deny", "message": message });
            if decision.stop_turn {
                body["interrupt"] = true.into();
            }
            body
        }
        (Form::Elicitation, true) => json!({ "action": "accept", "content": input.unwrap_or_else(|| json!({})) }),
        (Form::Elicitation, false) => json!({ "action": "decline" }),
    };
    out.respond(id, &body);
}

fn object(text: &str) -> Result<Map<String, Value>, Error> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Error::Unsupported("the edited input is not an object".to_owned())),
        Err(error) => Err(Error::Unsupported(format!("the edited input is not JSON: {error}"))),
    }
}

/// The kind of an approval.
fn kind(call: &ToolCall) -> &'static str {
    match call.kind.as_str() {
        tools::SHELL => "command",
        tools::FILE_WRITE | tools::FILE_EDIT => "patch",
        _ if call.name == NETWORK => "network",
        _ => "tool",
    }
}

/// The texts of the questions, and the questions in the host's form. claude has no ids for them.
fn questions(input: &Value) -> (Vec<String>, Value) {
    let asked = input.get("questions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let texts = asked.iter().map(|question| text(question, "question").to_owned()).collect();
    let questions: Vec<Value> = (1_u32..)
        .zip(asked)
        .map(|(number, question)| {
            let mut shown = json!({ "id": format!("q{number}"), "question": text(question, "question") });
            if let Some(header) = plain(question, "header") {
                shown["header"] = header.into();
            }
            if let Some(options) = question.get("options").and_then(Value::as_array) {
                let option = |option: &Value| {
                    let mut shown = json!({ "label": text(option, "label") });
                    if let Some(description) = plain(option, "description") {
                        shown["description"] = description.into();
                    }
                    shown
                };
                shown["options"] = options.iter().map(option).collect();
            }
            if question.get("multiSelect").and_then(Value::as_bool) == Some(true) {
                shown["multiSelect"] = true.into();
            }
            shown
        })
        .collect();
    (texts, questions.into())
}

/// The input of the tool with the answers: claude expects them by the text of the question, several in one text.
fn answers(texts: &[String], given: &Map<String, Value>, input: &Value) -> Result<Value, Error> {
    let Some(given) = given.get("answers").and_then(Value::as_object) else {
        return Err(Error::Unsupported("a question is answered with `answers`".to_owned()));
    };
    let mut answers = Map::new();
    for (number, text) in (1_u32..).zip(texts) {
        let parts: Vec<&str> = match given.get(&format!("q{number}")) {
            Some(Value::Array(parts)) => parts.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(part)) => vec![part],
            _ => continue,
        };
        if !parts.is_empty() {
            answers.insert(text.clone(), parts.join(", ").into());
        }
    }
    let mut input = input.clone();
    input["answers"] = answers.into();
    Ok(input)
}

/// A question of an MCP server.
fn elicitation(id: &str, request: &Value) -> (Open, ToolCall, Option<String>, Value) {
    let server = text(request, "mcp_server_name");
    let call = ToolCall {
        id: id.to_owned(),
        kind: tools::QUESTION.to_owned(),
        name: "elicitation".to_owned(),
        input: request.to_string(),
        urls: [text(request, "url")].into_iter().filter(|url| !url.is_empty()).map(str::to_owned).collect(),
        mcp: Some(McpTool { server: server.to_owned(), tool: "elicitation".to_owned() }),
        ..ToolCall::default()
    };
    let mut extra = json!({ "kind": "elicitation", "phase": "ask", "editable": true });
    if let Some(title) = plain(request, "message") {
        extra["title"] = title.into();
    }
    if let Some(schema) = request.get("requested_schema") {
        extra["schema"] = schema.clone();
    }
    (Open { form: Form::Elicitation, tool_use: String::new(), input: Value::Null }, call, None, extra)
}

/// A text for people: without control sequences, and cut.
fn plain(object: &Value, key: &str) -> Option<String> {
    let text = strip_ansi(text(object, key));
    let text = text.trim();
    (!text.is_empty()).then(|| shorten(text, KEPT_BYTES))
}
