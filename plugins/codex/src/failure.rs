//! Classifies failures by the messages of codex.

use ostler_plugin::provider::{Failure, FailureKind, RetryTime};
use ostler_plugin::vocabulary::failures as code;
use ostler_provider_kit::failure::{failure, http_status, mentions, unknown, unprefixed, wait_ms};
use serde_json::Value;

/// codex recommends one of its own options, which a run does not have.
const NO_REPOSITORY: &str = "codex refuses to work in this folder, which is not inside a Git repository that it trusts";
const CONNECT: &str = "check the network connection, proxies and the login";
const LOG_IN: &str = "log in with `codex login`, or set CODEX_API_KEY";

/// The failure of a turn, from the reason that codex gave.
pub(crate) fn turn(message: &str) -> Failure {
    let body = error_body(message);
    let (message, detail) = body.as_ref().map_or((message, ""), |body| (body.message.as_str(), body.code.as_str()));
    let mut failure = classify(message, detail, body.is_some());
    if matches!(failure.kind, FailureKind::RateLimited | FailureKind::Transient | FailureKind::Limit) {
        failure.retry = wait_ms(message).map(RetryTime::AfterMs);
    }
    failure
}

/// The failure of a turn, from the reason and the word that `app-server` adds to it. The word counts if the reason says less.
pub(crate) fn turn_error(message: &str, info: &Value) -> Failure {
    let mut failure = turn(message);
    if failure.kind != FailureKind::Unknown {
        return failure;
    }
    let word = info.as_str().or_else(|| Some(info.as_object()?.keys().next()?.as_str())).unwrap_or_default();
    let known = match (word, status(Some(info))) {
        ("usageLimitExceeded" | "sessionBudgetExceeded", _) => Some((FailureKind::Limit, code::QUOTA)),
        ("contextWindowExceeded", _) => Some((FailureKind::Limit, code::CONTEXT_LENGTH)),
        ("cyberPolicy" | "bioPolicy" | "misalignmentPolicyViolation", _) => Some((FailureKind::Limit, code::REFUSED)),
        ("rateLimitExceeded", _) | (_, Some(429)) => Some((FailureKind::RateLimited, code::TOO_MANY_REQUESTS)),
        ("unauthorized", _) | (_, Some(401)) => Some((FailureKind::Authentication, code::CREDENTIAL_REFUSED)),
        ("modelNotFound", _) => Some((FailureKind::Usage, code::MODEL_UNKNOWN)),
        ("badRequest", _) => Some((FailureKind::Usage, code::BAD_REQUEST)),
        ("serverOverloaded" | "flexUnavailable" | "policyCapacityUnavailable", _) => {
            Some((FailureKind::Transient, code::OVERLOADED))
        }
        ("internalServerError", _) => Some((FailureKind::Transient, code::SERVER_ERROR)),
        ("httpConnectionFailed" | "responseStreamConnectionFailed" | "responseStreamDisconnected", None) => {
            Some((FailureKind::Transient, code::CONNECTION))
        }
        _ => None,
    };
    if let Some((kind, code)) = known {
        failure.kind = kind;
        failure.code = Some(code.to_owned());
    }
    failure
}

/// The HTTP status in the additional information of `app-server`.
pub(crate) fn status(info: Option<&Value>) -> Option<u16> {
    let (_, facts) = info?.as_object()?.iter().next()?;
    u16::try_from(facts.get("httpStatusCode")?.as_u64()?).ok()
}

fn classify(message: &str, detail: &str, refused_request: bool) -> Failure {
    let contains = |phrases: &[&str]| mentions(message, phrases) || phrases.contains(&detail);
    let status = http_status(message);
    if let Some(name) =
        message.split_once("Missing environment variable: `").and_then(|(_, rest)| rest.split('`').next())
    {
        let hint = format!(
            "set {name} and pass it on with harness.processEnv, or for all runs list it in `settings.environment` of the provider"
        );
        return failure(FailureKind::Authentication, code::NOT_LOGGED_IN, message, Some(&hint));
    }
    if contains(&["context_length_exceeded", "context window", "maximum context length"]) {
        return failure(
            FailureKind::Limit,
            code::CONTEXT_LENGTH,
            message,
            Some("start a new session, or use a shorter prompt"),
        );
    }
    if contains(&[
        "usage limit",
        "insufficient_quota",
        "usage_limit_reached",
        "usage_not_included",
        "exceeded your current quota",
        "out of credits",
        "billing_hard_limit_reached",
        "spend limit",
    ]) {
        return failure(
            FailureKind::Limit,
            code::QUOTA,
            message,
            Some("wait until the quota is renewed, or use another account"),
        );
    }
    if contains(&["not logged in", "please log in", "log in again", "sign in again", "codex login"]) {
        return failure(FailureKind::Authentication, code::NOT_LOGGED_IN, message, Some(LOG_IN));
    }
    if status == Some(401)
        || contains(&[
            "401 unauthorized",
            "invalid_api_key",
            "incorrect api key",
            "token_expired",
            "refresh token",
            "access token could not be refreshed",
        ])
    {
        return failure(FailureKind::Authentication, code::CREDENTIAL_REFUSED, message, Some(LOG_IN));
    }
    if status == Some(403) {
        return failure(
            FailureKind::Authentication,
            code::ACCOUNT,
            message,
            Some("check the permissions of the account"),
        );
    }
    if status == Some(429)
        || contains(&["429 too many requests", "rate_limit_exceeded", "rate limit reached", "too many requests"])
    {
        return failure(FailureKind::RateLimited, code::TOO_MANY_REQUESTS, message, None);
    }
    if contains(&[
        "model_not_found",
        "model not found",
        "model is not supported",
        "not supported when using codex",
        "does not exist or you do not have access",
    ]) {
        return failure(FailureKind::Usage, code::MODEL_UNKNOWN, message, Some("use another model"));
    }
    if contains(&["content_policy", "safety", "cyber_policy", "flagged for"]) {
        return failure(FailureKind::Limit, code::REFUSED, message, None);
    }
    if status.is_some_and(|status| status >= 500)
        || contains(&["server_is_overloaded", "slow_down", "high demand", "overloaded", "at capacity"])
    {
        let code = if status.is_some_and(|status| status != 503 && status != 529) {
            code::SERVER_ERROR
        } else {
            code::OVERLOADED
        };
        return failure(FailureKind::Transient, code, message, None);
    }
    if contains(&[
        "stream disconnected",
        "connection failed",
        "error sending request",
        "failed to lookup address",
        "network error",
        "connection refused",
        "connection reset",
        "connection closed",
        "timed out",
        "timeout waiting",
        "stream closed before",
        "retry limit",
    ]) {
        return failure(FailureKind::Transient, code::CONNECTION, message, Some(CONNECT));
    }
    if refused_request || status.is_some_and(|status| (400..500).contains(&status)) {
        return failure(FailureKind::Usage, code::BAD_REQUEST, message, None);
    }
    unknown(message)
}

/// The message for people: the text in an error document instead of the document.
pub(crate) fn readable(message: &str) -> String {
    error_body(message).map_or_else(|| message.to_owned(), |body| body.message)
}

struct ErrorBody {
    message: String,
    code: String,
}

/// codex passes on the body of an HTTP 400 unchanged, for example `{"error": {"message": …, "type": …, "code": …}}`.
fn error_body(message: &str) -> Option<ErrorBody> {
    let start = message.find('{')?;
    let body: Value = serde_json::from_str(message.get(start..)?).ok()?;
    let error = body.get("error").unwrap_or(&body);
    let text = error.get("message").or_else(|| body.get("detail"))?.as_str()?;
    let code = error.get("code").and_then(Value::as_str).or_else(|| error.get("type").and_then(Value::as_str));
    Some(ErrorBody { message: text.to_owned(), code: code.unwrap_or_default().to_owned() })
}

/// The failure of a process that did not report the end of its turn, from its standard error. None if that does not explain
/// it.
pub(crate) fn from_stderr(lines: &[String], resumed: bool) -> Option<Failure> {
    let holds = |line: &&String, phrases: &[&str]| phrases.iter().any(|phrase| line.contains(phrase));
    // codex logs an error with a timestamp, and then prints it without one.
    let find = |phrases: &[&str]| {
        let plain = lines.iter().filter(|line| !line.starts_with(|c: char| c.is_ascii_digit()));
        plain.chain(lines).find(|line| holds(line, phrases))
    };
    if let Some(line) = find(&["no rollout found for thread", "thread/resume failed"]) {
        let kind = if resumed { FailureKind::ResumeInvalid } else { FailureKind::Usage };
        return Some(failure(kind, code::SESSION_NOT_FOUND, unprefixed(line), Some("start a new session")));
    }
    if find(&["Not inside a trusted directory"]).is_some() {
        return Some(failure(
            FailureKind::Usage,
            code::NOT_A_GIT_REPOSITORY,
            NO_REPOSITORY,
            Some("run `git init` in the folder, or set `settings.skipGitRepoCheck` of the provider"),
        ));
    }
    if let Some(line) = find(&["required MCP servers failed to initialize"]) {
        return Some(failure(FailureKind::Usage, code::MCP_SERVER_FAILED, unprefixed(line), None));
    }
    if let Some(line) = find(&["Failed to read output schema file", "Output schema file "]) {
        return Some(failure(FailureKind::Usage, code::STRUCTURED_OUTPUT, line, None));
    }
    if let Some(line) = find(&["No prompt provided"]) {
        return Some(failure(FailureKind::Usage, code::BAD_REQUEST, line, None));
    }
    if let Some(index) = lines.iter().position(|line| line.starts_with("Error loading config")) {
        // The second line contains the location: "in `model_reasoning_effort`".
        let location = lines.get(index + 1).filter(|line| line.starts_with("in `")).map_or("", String::as_str);
        let message = format!("{} {location}", lines.get(index).map_or("", String::as_str));
        return Some(failure(
            FailureKind::Usage,
            code::CONFIG_INVALID,
            &message,
            Some("correct codex's own configuration, or the provider's `settings.config`"),
        ));
    }
    if let Some(index) = lines.windows(2).position(|pair| pair[0].starts_with("Error: ") && pair[1].starts_with("in `"))
    {
        // `app-server` prints the same without the first words.
        let message = format!("{} {}", unprefixed(&lines[index]), lines[index + 1]);
        return Some(failure(
            FailureKind::Usage,
            code::CONFIG_INVALID,
            &message,
            Some("correct codex's own configuration, or the provider's `settings.config`"),
        ));
    }
    if let Some(line) = find(&["Error: Model provider `", "is no longer supported; remove this setting"]) {
        return Some(failure(FailureKind::Usage, code::CONFIG_INVALID, unprefixed(line), None));
    }
    if let Some(line) = lines.iter().find(|line| line.starts_with("error: ")) {
        return Some(failure(FailureKind::Usage, code::UNKNOWN_OPTION, unprefixed(line), None));
    }
    if let Some(line) =
        lines.iter().rev().find(|line| line.contains(" panicked at ") || line.starts_with("fatal runtime error"))
    {
        return Some(failure(FailureKind::Unknown, code::CRASHED, line, None));
    }
    lines.iter().rev().find(|line| line.starts_with("Error: ")).map(|line| turn(unprefixed(line)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_of_codex_are_classified() {
        let high = "We’re currently experiencing high demand, which may cause temporary errors.";
        for (message, kind, code) in [
            ("Missing environment variable: `FAKE_API_KEY`.", FailureKind::Authentication, code::NOT_LOGGED_IN),
            (
                "unexpected status 401 Unauthorized: x, url: http://h/v1",
                FailureKind::Authentication,
                code::CREDENTIAL_REFUSED,
            ),
            ("unexpected status 403 Forbidden: x", FailureKind::Authentication, code::ACCOUNT),
            (
                "exceeded retry limit, last status: 429 Too Many Requests",
                FailureKind::RateLimited,
                code::TOO_MANY_REQUESTS,
            ),
            (high, FailureKind::Transient, code::OVERLOADED),
            ("exceeded retry limit, last status: 502 Bad Gateway", FailureKind::Transient, code::SERVER_ERROR),
            ("stream disconnected before completion: Transport error", FailureKind::Transient, code::CONNECTION),
            ("Connection failed: error sending request", FailureKind::Transient, code::CONNECTION),
            ("You've hit your usage limit. Try again in 2 hours.", FailureKind::Limit, code::QUOTA),
            ("Codex ran out of room in the model's context window.", FailureKind::Limit, code::CONTEXT_LENGTH),
            (
                r#"{"error":{"message":"bad schema","code":"invalid_json_schema"}}"#,
                FailureKind::Usage,
                code::BAD_REQUEST,
            ),
            (
                r#"{"error":{"message":"too long","code":"context_length_exceeded"}}"#,
                FailureKind::Limit,
                code::CONTEXT_LENGTH,
            ),
            (
                r#"{"detail":"The 'x' model is not supported when using Codex with a ChatGPT account."}"#,
                FailureKind::Usage,
                code::MODEL_UNKNOWN,
            ),
            ("unexpected status 404 Not Found: nothing here", FailureKind::Usage, code::BAD_REQUEST),
        ] {
            let failure = turn(message);
            assert_eq!((failure.kind, failure.code.as_deref()), (kind, Some(code)), "{message}");
        }
        assert_eq!(turn("something new").kind, FailureKind::Unknown);
        assert_eq!(
            turn("You've hit your usage limit. Try again in 2 hours.").retry,
            Some(RetryTime::AfterMs(7_200_000))
        );
        assert_eq!(turn(r#"{"error":{"message":"inner"}}"#).message, "inner");
    }

    proptest! {
        #[test]
        fn arbitrary_messages_do_not_panic(message in "\\PC{0,120}", lines in prop::collection::vec("(Error: |error: )?\\PC{0,60}", 0..4)) {
            let _ = (turn(&message), from_stderr(&lines, true));
        }
    }
}
