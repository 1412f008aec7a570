//! What codex reports.

use ostler_plugin::provider::{RateLimit, RetryTime, Semantic, Usage};
use ostler_plugin::vocabulary::notices;
use ostler_provider_kit::events::{self, notice, notice_with, piece};
use ostler_provider_kit::failure::{http_status, shorten, wait_ms};
use ostler_provider_kit::transcript::{KEPT_BYTES, Unread};
use serde_json::{Map, Value, json};

use super::items::Origin;
use super::output::Output;
use super::turns::{LastTurn, Turn, TurnError};
use super::{AppServerTranscript, setup};
use crate::failure;
use crate::items::{self, Phase};

/// Maximum number of different warnings that are remembered, so that each is shown once.
const WARNINGS: usize = 256;

/// The reports of codex that a folder's own settings do not apply, which the launch has arranged.
const UNTRUSTED: &str = "Project-local config, hooks, and exec policies are disabled";

fn text<'a>(object: &'a Map<String, Value>, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

impl AppServerTranscript {
    /// Reads a notification. Returns whether the events contain its complete content, or it has none.
    pub(super) fn notified(
        &mut self,
        method: &str,
        params: &Map<String, Value>,
        partial: Option<Unread>,
        out: &mut Output,
    ) -> bool {
        let thread = text(params, "threadId");
        let parent = self.parent(thread);
        let main = parent.is_none();
        let turn = text(params, "turnId").to_owned();
        let cwd = self.setup.cwd.clone();
        let origin = Origin { thread, turn: &turn, parent: parent.as_deref(), cwd: &cwd };
        match method {
            "turn/started" => self.turn_started(params, origin, out),
            "turn/completed" => self.turn_completed(params, origin, partial, out),
            "item/started" => self.item(params, Phase::Started, origin, None, out),
            "item/completed" => self.item(params, Phase::Completed, origin, partial, out),
            "item/agentMessage/delta" | "item/plan/delta" => {
                let delta = piece(text(params, "itemId"), text(params, "delta"), origin.parent);
                out.emit(Semantic::TextDelta(delta));
            }
            "item/reasoning/summaryTextDelta" | "item/reasoning/textDelta" => {
                let delta = piece(text(params, "itemId"), text(params, "delta"), origin.parent);
                out.emit(Semantic::ThinkingDelta(delta));
            }
            "item/reasoning/summaryPartAdded" => {
                if params.get("summaryIndex").and_then(Value::as_u64).is_some_and(|index| index > 0) {
                    out.emit(Semantic::ThinkingDelta(piece(text(params, "itemId"), "\n\n", origin.parent)));
                }
            }
            "item/commandExecution/outputDelta" => {
                self.items.output(text(params, "itemId"), text(params, "delta"), out);
            }
            "item/mcpToolCall/progress" => {
                self.items.output(text(params, "itemId"), &format!("{}\n", text(params, "message")), out);
            }
            "item/commandExecution/terminalInteraction" => {
                self.items.typed(text(params, "itemId"), params, origin, out);
            }
            "item/fileChange/patchUpdated" => {
                self.items.changes(text(params, "itemId"), params.get("changes").unwrap_or(&Value::Null));
            }
            "serverRequest/resolved" => {
                self.asks.resolved(params.get("requestId").unwrap_or(&Value::Null), out);
            }
            "thread/started" => self.thread_started(params),
            "thread/status/changed" | "thread/closed" => {
                let status = params.get("status").and_then(|status| status.get("type")).and_then(Value::as_str);
                if !main && status != Some("active") {
                    self.agents.remove(thread);
                }
            }
            "thread/tokenUsage/updated" => {
                if main {
                    usage(params, out);
                }
            }
            "account/rateLimits/updated" => self.rate_limits(params, out),
            "turn/plan/updated" => plan(params, out),
            "error" => self.error(params, main, out),
            _ => return self.remark(method, params, out),
        }
        true
    }

    /// Notifications that are not about the progress of a turn.
    fn remark(&mut self, method: &str, params: &Map<String, Value>, out: &mut Output) -> bool {
        match method {
            "warning" | "guardianWarning" => {
                let message = text(params, "message").to_owned();
                self.warn_once(items::warning(&message), out);
            }
            "configWarning" => {
                let summary = text(params, "summary");
                if !summary.starts_with(UNTRUSTED) {
                    let details = Some(text(params, "details")).filter(|details| !details.is_empty());
                    let message =
                        details.map_or_else(|| summary.to_owned(), |details| format!("{summary} ({details})"));
                    self.warn_once(notice(notices::CONFIG, &message), out);
                }
            }
            "deprecationNotice" => self.warn_once(notice(notices::DEPRECATED, text(params, "summary")), out),
            "model/rerouted" => {
                let (from, to) = (text(params, "fromModel"), text(params, "toModel"));
                let facts = json!({ "from": from, "to": to });
                let message = format!("the model {to} answers instead of {from}");
                out.warn(notice_with(notices::MODEL_REROUTED, &message, &facts));
            }
            "mcpServer/startupStatus/updated" => mcp_server(params, out),
            "hook/completed" => {
                let run = params.get("run").and_then(Value::as_object);
                let status = run.map(|run| text(run, "status")).unwrap_or_default();
                if let Some(run) = run.filter(|_| status != "completed") {
                    let message = format!("the hook `{}` of codex ended as {status}", text(run, "eventName"));
                    let facts = json!({ "hook": run.get("id") });
                    out.emit(Semantic::Progress(notice_with(notices::HOOK, &message, &facts)));
                }
            }
            "thread/compacted" => {
                out.emit(Semantic::Progress(notice(notices::COMPACTED, "the history of the session was summarized")));
            }
            "hook/started" => {}
            method if setup::is_unused(method) => {}
            _ => out.emit(items::other(method, params)),
        }
        true
    }

    fn warn_once(&mut self, notice: ostler_plugin::provider::Notice, out: &mut Output) {
        let key = shorten(&notice.message, KEPT_BYTES);
        if self.warned.contains(&key) {
            return;
        }
        if self.warned.len() < WARNINGS {
            self.warned.insert(key);
        }
        out.warn(notice);
    }

    fn thread_started(&mut self, params: &Map<String, Value>) {
        let id = params.get("thread").and_then(|thread| thread.get("id")).and_then(Value::as_str).unwrap_or_default();
        if !self.thread.is_empty() {
            // Finds the tool use that has started it.
            self.parent(id);
        }
    }

    fn turn_started(&mut self, params: &Map<String, Value>, origin: Origin<'_>, out: &mut Output) {
        let id = params.get("turn").and_then(|turn| turn.get("id")).and_then(Value::as_str).unwrap_or_default();
        if origin.parent.is_some() {
            if self.agents.len() < super::AGENTS {
                self.agents.insert(origin.thread.to_owned(), id.to_owned());
            }
            return;
        }
        self.turns.began(id, true);
        out.emit(Semantic::Progress(notice(notices::TURN_STARTED, "the turn has started")));
        if self.turns.interrupt && self.turns.id().is_some() {
            self.turns.interrupt = false;
            self.interrupt_turns(out);
        }
        self.flush_new(out);
    }

    /// Messages wait during a turn only if codex has refused to add them, or if its id was not known.
    fn flush_new(&mut self, out: &mut Output) {
        if !self.requests.has(|request| matches!(request, super::Request::Turn)) {
            self.flush(out);
        }
    }

    fn turn_completed(
        &mut self,
        params: &Map<String, Value>,
        origin: Origin<'_>,
        partial: Option<Unread>,
        out: &mut Output,
    ) {
        let empty = Map::new();
        let turn = params.get("turn").and_then(Value::as_object).unwrap_or(&empty);
        let id = text(turn, "id");
        let interrupted = text(turn, "status") == "interrupted";
        if origin.parent.is_some() {
            self.agents.remove(origin.thread);
            self.items.end_turn(Origin { turn: id, ..origin }, interrupted, out);
            self.asks.end_turn(origin.thread, id, out);
            return;
        }
        if !self.turns.is_current(id) {
            return;
        }
        if let Turn::Starting = self.turns.turn {
            self.turns.began(id, true);
        }
        let last = match text(turn, "status") {
            "failed" => LastTurn::Failed(self.turn_error(turn)),
            "interrupted" => LastTurn::Interrupted,
            _ => LastTurn::Completed,
        };
        if let Some(why) = partial.filter(|_| self.answer.is_none()) {
            self.unread = Some(why);
        }
        self.ended_turn(last, Some(id), out);
    }

    fn turn_error(&self, turn: &Map<String, Value>) -> TurnError {
        let error = turn.get("error").and_then(Value::as_object);
        let message = error.map(|error| text(error, "message")).filter(|message| !message.is_empty());
        TurnError {
            message: message
                .map_or_else(|| self.error.clone().unwrap_or_else(|| "the turn failed".to_owned()), str::to_owned),
            info: error.and_then(|error| error.get("codexErrorInfo")).cloned().unwrap_or_default(),
        }
    }

    fn item(
        &mut self,
        params: &Map<String, Value>,
        phase: Phase,
        origin: Origin<'_>,
        partial: Option<Unread>,
        out: &mut Output,
    ) {
        let Some(item) = params.get("item").and_then(Value::as_object) else { return };
        if text(item, "type") == "collabAgentToolCall" {
            let started = item.get("receiverThreadIds").and_then(Value::as_array).into_iter().flatten();
            let started: Vec<&str> = started.filter_map(Value::as_str).collect();
            if text(item, "tool") == "spawnAgent" {
                started.iter().for_each(|thread| self.adopt(thread, text(item, "id")));
            }
        }
        self.retrying = None;
        let Some(message) = self.items.read(item, phase, origin, out) else { return };
        if origin.parent.is_none() {
            self.answer = Some(message);
            self.unread_message = partial;
        }
    }

    fn error(&mut self, params: &Map<String, Value>, main: bool, out: &mut Output) {
        let Some(error) = params.get("error").and_then(Value::as_object) else { return };
        let message = text(error, "message");
        if params.get("willRetry").and_then(Value::as_bool) != Some(true) {
            if main {
                self.error = Some(message.to_owned());
            }
            return out.emit(Semantic::Error(notice(notices::REQUEST_FAILED, &failure::readable(message))));
        }
        let details = text(error, "additionalDetails");
        let all = if details.is_empty() { message.to_owned() } else { format!("{message} ({details})") };
        self.retrying = Some(shorten(&all, KEPT_BYTES));
        let status = failure::status(error.get("codexErrorInfo")).or_else(|| http_status(&all));
        let mut numbers = message.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
        let mut number = || numbers.next().and_then(|digits| digits.parse::<u32>().ok());
        let facts = json!({ "attempt": number(), "maxAttempts": number(), "status": status });
        out.emit(Semantic::Progress(notice_with(notices::RECONNECTING, &all, &facts)));
        if status == Some(429) {
            let retry = wait_ms(&all).map(RetryTime::AfterMs);
            out.emit(Semantic::RateLimited(RateLimit { message: all, retry }));
        }
    }

    /// A snapshot of the account's limits. It is reported only if one of them is exhausted.
    fn rate_limits(&mut self, params: &Map<String, Value>, out: &mut Output) {
        let Some(limits) = params.get("rateLimits").and_then(Value::as_object) else { return };
        let exhausted =
            |window: &&Value| window.get("usedPercent").and_then(Value::as_f64).is_some_and(|used| used >= 100.0);
        let renewal = ["primary", "secondary"]
            .iter()
            .filter_map(|key| limits.get(*key))
            .filter(exhausted)
            .filter_map(|window| window.get("resetsAt")?.as_u64())
            .max()
            .map(|seconds| seconds.saturating_mul(1000));
        self.quota_renewal = renewal;
        let reached = text(limits, "rateLimitReachedType");
        if renewal.is_some() || !reached.is_empty() {
            let message = "a usage limit of the account is exhausted".to_owned();
            out.emit(Semantic::RateLimited(RateLimit { message, retry: renewal.map(RetryTime::AtUnixMs) }));
        }
    }
}

fn usage(params: &Map<String, Value>, out: &mut Output) {
    let Some(total) = params.get("tokenUsage").and_then(|usage| usage.get("total")) else { return };
    let count = |key: &str| total.get(key).and_then(Value::as_u64);
    out.emit(Semantic::Usage(Usage {
        whole_session: true,
        input_tokens: count("inputTokens"),
        cached_input_tokens: count("cachedInputTokens"),
        cache_write_tokens: count("cacheWriteInputTokens"),
        output_tokens: count("outputTokens"),
        reasoning_tokens: count("reasoningOutputTokens"),
        ..Usage::default()
    }));
}

fn plan(params: &Map<String, Value>, out: &mut Output) {
    let steps = params.get("plan").and_then(Value::as_array).into_iter().flatten();
    let steps: Vec<Value> = steps
        .map(|step| {
            let status = match step.get("status").and_then(Value::as_str) {
                Some("inProgress") => "in_progress",
                Some("completed") => "completed",
                _ => "pending",
            };
            json!({ "text": step.get("step").unwrap_or(&Value::Null), "status": status })
        })
        .collect();
    out.emit(events::plan(&steps));
}

fn mcp_server(params: &Map<String, Value>, out: &mut Output) {
    let name = text(params, "name");
    let facts = json!({ "server": name });
    match text(params, "status") {
        "ready" => {
            let message = format!("the MCP server {name} has started");
            out.emit(Semantic::Progress(notice_with(notices::MCP_SERVER_READY, &message, &facts)));
        }
        "failed" => {
            let message = format!("the MCP server {name} did not start: {}", text(params, "error"));
            out.warn(notice_with(notices::MCP_SERVER_FAILED, &message, &facts));
        }
        _ => {}
    }
}
