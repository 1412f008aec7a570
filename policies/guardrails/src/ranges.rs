//! The ranges of fields of the start payload.

use serde_json::Value;

use crate::document::at;
use crate::findings::Findings;
use crate::settings::Settings;

struct Range {
    check: &'static str,
    pointer: &'static str,
    least: i64,
    most: i64,
}

const RANGES: [Range; 7] = [
    Range { check: "priority-range", pointer: "/queuePriority", least: -10, most: 10 },
    Range { check: "timeout-range", pointer: "/timeoutSeconds", least: 5, most: 604_800 },
    Range { check: "retries-range", pointer: "/maxRetries", least: 0, most: 10 },
    Range { check: "backoff-range", pointer: "/retryBackoffMs", least: 100, most: 600_000 },
    Range { check: "limit-timeout-range", pointer: "/harness/limits/timeoutMs", least: 5_000, most: 604_800_000 },
    Range { check: "tool-result-lines-range", pointer: "/harness/limits/maxToolResultLines", least: 0, most: 20_000 },
    Range { check: "turns-range", pointer: "/harness/limits/maxTurns", least: 1, most: 100_000 },
];

/// The time limit in seconds of a payload without one. The host sets one in every payload that it checks.
const DEFAULT_TIMEOUT: i64 = 300;

pub(crate) fn check(payload: &Value, settings: &Settings, findings: &mut Findings) {
    for Range { check, pointer, least, most } in RANGES {
        let Some(value) = at(payload, pointer) else { continue };
        if !value.as_i64().is_some_and(|number| (least..=most).contains(&number)) {
            let message = format!("must be an integer from {least} to {most}");
            findings.deny(check, pointer, message, &format!("use a number from {least} to {most}"));
        }
    }
    let budget = "/harness/limits/maxBudgetUsd";
    if at(payload, budget).is_some_and(|value| !value.as_f64().is_some_and(|usd| usd >= 0.0 && usd.is_finite())) {
        findings.deny("budget-range", budget, "must be an amount of at least 0", "use US dollars, for example 2.5");
    }
    longest_time(payload, settings, findings);
    // A session may wait for its first message.
    let waits = at(payload, "/mode").and_then(Value::as_str) == Some("interactive");
    if !waits && at(payload, "/prompt").and_then(Value::as_str).is_none_or(|prompt| prompt.trim().is_empty()) {
        findings.deny("prompt-blank", "/prompt", "the prompt is blank", "describe the task for the agent");
    }
}

/// The smaller of the two time limits of a payload applies.
fn longest_time(payload: &Value, settings: &Settings, findings: &mut Findings) {
    let most = i64::try_from(settings.max_timeout_seconds).unwrap_or(i64::MAX);
    let seconds = at(payload, "/timeoutSeconds").and_then(Value::as_i64).unwrap_or(DEFAULT_TIMEOUT);
    let limit = at(payload, "/harness/limits/timeoutMs").and_then(Value::as_i64).unwrap_or(i64::MAX);
    if seconds > most && limit > most.saturating_mul(1000) {
        let message = format!("runs may last at most {most} seconds on this host");
        findings.deny("timeout-allowed", "/timeoutSeconds", message, &format!("set timeoutSeconds to at most {most}"));
    }
}
