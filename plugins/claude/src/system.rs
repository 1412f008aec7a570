//! Lines of type `system` and others about claude itself: its start, its retries, its limits.

use ostler_plugin::provider::{RateLimit, RetryTime, Semantic};
use ostler_plugin::vocabulary::notices;
use ostler_provider_kit::events::{notice, notice_with};
use serde_json::{Map, Value, json};

use crate::items::other;

fn word<'a>(event: &'a Map<String, Value>, key: &str) -> &'a str {
    event.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Reads a line of type `system`, except for the session in `init`. Returns false if it is unknown and remains raw output.
pub(crate) fn read(event: &Map<String, Value>, events: &mut Vec<Semantic>) -> bool {
    match word(event, "subtype") {
        "init" => init(event, events),
        "api_retry" => retry(event, events),
        // Sent every few tokens, and implied by all other events.
        "thinking_tokens" => {}
        "status" if word(event, "status") == "compacting" => {
            events.push(Semantic::Progress(notice(notices::COMPACTED, "the history is being summarized")));
        }
        // Start and end of background tasks also have their own lines. `Denials` reads denied tool uses.
        "status" | "hook_started" | "background_tasks_changed" | "permission_denied" => {}
        "compact_boundary" => {
            let facts = event.get("compact_metadata").unwrap_or(&Value::Null);
            events.push(Semantic::Progress(notice_with(notices::COMPACTED, "the history was summarized", facts)));
        }
        "hook_response" => hook(event, events),
        "task_started" | "task_progress" | "task_updated" | "task_notification" => task(event, events),
        "" => return false,
        subtype => events.push(other(&format!("system.{subtype}"), event)),
    }
    true
}

fn init(event: &Map<String, Value>, events: &mut Vec<Semantic>) {
    let model = word(event, "model");
    let facts = json!({
        "model": model,
        "version": word(event, "claude_code_version"),
        "permissionMode": word(event, "permissionMode"),
        "credential": word(event, "apiKeySource"),
        "tools": event.get("tools").unwrap_or(&Value::Null),
    });
    let message = format!("claude works with the model {model}");
    events.push(Semantic::Progress(notice_with(notices::TURN_STARTED, &message, &facts)));
    let servers = event.get("mcp_servers").and_then(Value::as_array);
    for server in servers.into_iter().flatten() {
        let name = server.get("name").and_then(Value::as_str).unwrap_or_default();
        let status = server.get("status").and_then(Value::as_str).unwrap_or_default();
        let facts = json!({ "server": name, "status": status });
        events.push(match status {
            "connected" => {
                let message = format!("the MCP server `{name}` is connected");
                Semantic::Progress(notice_with(notices::MCP_SERVER_READY, &message, &facts))
            }
            "pending" => {
                let message = format!("the MCP server `{name}` is starting");
                Semantic::Progress(notice_with(notices::STARTING, &message, &facts))
            }
            _ => {
                let message = format!("the MCP server `{name}` cannot be used: {status}");
                Semantic::Warning(notice_with(notices::MCP_SERVER_FAILED, &message, &facts))
            }
        });
    }
}

fn retry(event: &Map<String, Value>, events: &mut Vec<Semantic>) {
    let number = |key: &str| event.get(key).and_then(Value::as_u64);
    let delay = event.get("retry_delay_ms").and_then(Value::as_f64).filter(|delay| (0.0..1.0e10).contains(delay));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 10^10")]
    let delay = delay.map(|delay| delay.round() as u64);
    let status = number("error_status");
    let what = match (status, word(event, "error")) {
        (Some(status), "") => format!("status {status}"),
        (Some(status), error) => format!("status {status}, {error}"),
        (None, error) => error.to_owned(),
    };
    let facts = json!({
        "attempt": number("attempt"), "maxAttempts": number("max_retries"), "status": status, "delayMs": delay,
    });
    let message = format!("a request to the model failed ({what}) and is retried");
    events.push(Semantic::Progress(notice_with(notices::CLI_RETRY, &message, &facts)));
    if status == Some(429) {
        events.push(Semantic::RateLimited(RateLimit { message, retry: delay.map(RetryTime::AfterMs) }));
    }
}

fn hook(event: &Map<String, Value>, events: &mut Vec<Semantic>) {
    let (name, outcome) = (word(event, "hook_name"), word(event, "outcome"));
    let facts = json!({ "hook": name, "outcome": outcome, "exitCode": event.get("exit_code").unwrap_or(&Value::Null) });
    if outcome == "success" || outcome.is_empty() {
        events.push(Semantic::Progress(notice_with(notices::HOOK, &format!("the hook {name} has run"), &facts)));
    } else {
        let message = format!("the hook {name} ended with {outcome}: {}", word(event, "stderr").trim());
        events.push(Semantic::Warning(notice_with(notices::HOOK, &message, &facts)));
    }
}

/// Sub-agents and shells in the background.
fn task(event: &Map<String, Value>, events: &mut Vec<Semantic>) {
    let text = ["summary", "description"].into_iter().map(|key| word(event, key)).find(|text| !text.is_empty());
    let status = event.get("patch").and_then(|patch| patch.get("status")).and_then(Value::as_str);
    let status = status.unwrap_or_else(|| match word(event, "subtype") {
        "task_started" => "started",
        "task_progress" => "running",
        _ => word(event, "status"),
    });
    let facts = json!({
        "task": word(event, "task_id"), "tool": word(event, "tool_use_id"), "status": status,
        "usage": event.get("usage").unwrap_or(&Value::Null),
    });
    let message = format!("task {status}: {}", text.unwrap_or_else(|| word(event, "task_id")));
    events.push(Semantic::Progress(notice_with(notices::OTHER, &message, &facts)));
}

/// Reads a `rate_limit_event`, the usage of the account's limits. Returns when a limit that was reached is reset, in
/// milliseconds since 1970.
pub(crate) fn limits(event: &Map<String, Value>, events: &mut Vec<Semantic>) -> Option<u64> {
    let info = event.get("rate_limit_info").unwrap_or(&Value::Null);
    let field = |key: &str| info.get(key).and_then(Value::as_str).unwrap_or_default();
    let resets = info.get("resetsAt").and_then(Value::as_u64).and_then(|seconds| seconds.checked_mul(1000));
    let window = match field("rateLimitType") {
        "" => "the account",
        window => window,
    };
    match field("status") {
        "rejected" => {
            let message = format!("the limit of {window} was reached");
            events.push(Semantic::RateLimited(RateLimit { message, retry: resets.map(RetryTime::AtUnixMs) }));
            return resets;
        }
        "allowed_warning" => {
            let message = format!("the limit of {window} is almost reached");
            events.push(Semantic::Warning(notice_with(notices::OTHER, &message, info)));
        }
        _ => events.push(other("rate_limit_event", event)),
    }
    None
}
