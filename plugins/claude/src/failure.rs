//! Classifies failures by the messages of claude.

use ostler_plugin::provider::{Failure, FailureKind, RetryTime};
use ostler_plugin::vocabulary::failures as code;
use ostler_provider_kit::failure::{failure, http_status, mentions, unknown, unprefixed, wait_ms};

const LOG_IN: &str =
    "log in with `claude`, or set ANTHROPIC_API_KEY (for a token of `claude setup-token`: CLAUDE_CODE_OAUTH_TOKEN)";

/// A request that failed permanently, as claude reports it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Request<'a> {
    /// The text instead of an answer.
    pub message: &'a str,
    /// HTTP status, if there was one.
    pub status: Option<u16>,
    /// The error code of claude: `authentication_failed`, `rate_limit`, `server_error` and so on.
    pub word: &'a str,
    /// The error type of the API, such as `overloaded_error`. Newer versions report it.
    pub kind: &'a str,
    /// When a limit of the account is reset, in milliseconds since 1970.
    pub resets_at_ms: Option<u64>,
}

/// The failure of a request that failed permanently.
pub(crate) fn request(request: Request<'_>) -> Failure {
    let mut failure = classify(request);
    if matches!(failure.kind, FailureKind::RateLimited | FailureKind::Transient | FailureKind::Limit) {
        let at = request.resets_at_ms.or_else(|| stamp_ms(request.message)).map(RetryTime::AtUnixMs);
        failure.retry = at.or_else(|| wait_ms(request.message).map(RetryTime::AfterMs));
    }
    failure
}

/// The failure of a prompt that claude treated as an unknown command.
pub(crate) fn command(message: &str) -> Failure {
    let hint = "claude treats a prompt that begins with `/` as one of its commands; put a word before it";
    failure(FailureKind::Usage, code::BAD_REQUEST, message, Some(hint))
}

fn classify(Request { message, status, word, kind, .. }: Request<'_>) -> Failure {
    let contains = |phrases: &[&str]| mentions(message, phrases);
    let status = status.or_else(|| http_status(message));
    if contains(&["not logged in", "please run /login", "run `claude /login`", "invalid api key", "no api key"]) {
        let refused = status.is_some() || contains(&["invalid api key"]);
        let code = if refused { code::CREDENTIAL_REFUSED } else { code::NOT_LOGGED_IN };
        return failure(FailureKind::Authentication, code, message, Some(LOG_IN));
    }
    if contains(&["prompt is too long", "context window", "maximum context length", "conversation too long"]) {
        let hint = "start a new session, or use a shorter prompt";
        return failure(FailureKind::Limit, code::CONTEXT_LENGTH, message, Some(hint));
    }
    if word == "billing_error"
        || kind == "billing_error"
        || contains(&[
            "usage limit",
            "hit your limit",
            "limit reached",
            "credit balance",
            "out of extra usage",
            "spend limit",
        ])
    {
        let hint = "wait until the limit is reset, or use another account";
        return failure(FailureKind::Limit, code::QUOTA, message, Some(hint));
    }
    if status == Some(401) || contains(&["token has expired", "oauth token revoked", "oauth token has been revoked"]) {
        return failure(FailureKind::Authentication, code::CREDENTIAL_REFUSED, message, Some(LOG_IN));
    }
    if status == Some(403) || contains(&["organization has been disabled", "does not have access to claude"]) {
        return failure(
            FailureKind::Authentication,
            code::ACCOUNT,
            message,
            Some("check the permissions of the account"),
        );
    }
    if status == Some(429) || word == "rate_limit" || kind == "rate_limit_error" {
        return failure(FailureKind::RateLimited, code::TOO_MANY_REQUESTS, message, None);
    }
    if word == "model_not_found" || contains(&["issue with the selected model", "model not found"]) {
        return failure(FailureKind::Usage, code::MODEL_UNKNOWN, message, Some("use another model"));
    }
    if word == "max_output_tokens" || contains(&["output token maximum"]) {
        let hint = "request less at a time, or set CLAUDE_CODE_MAX_OUTPUT_TOKENS";
        return failure(FailureKind::Limit, code::OUTPUT_LENGTH, message, Some(hint));
    }
    if contains(&["usage policy", "unable to respond to this request", "safeguards"]) {
        return failure(FailureKind::Limit, code::REFUSED, message, None);
    }
    if status.is_some_and(|status| status >= 500) || kind == "overloaded_error" || contains(&["overloaded"]) {
        let overloaded = kind == "overloaded_error" || matches!(status, None | Some(503 | 529));
        let code = if overloaded { code::OVERLOADED } else { code::SERVER_ERROR };
        return failure(FailureKind::Transient, code, message, None);
    }
    if status == Some(408)
        || kind == "timeout_error"
        || contains(&[
            "connection error",
            "unable to connect",
            "request timed out",
            "fetch failed",
            "socket",
            "econnre",
            "enotfound",
            "etimedout",
            "stream ended",
        ])
    {
        let hint = "check the network connection, proxies and the login";
        return failure(FailureKind::Transient, code::CONNECTION, message, Some(hint));
    }
    if word == "server_error" || kind == "api_error" {
        return failure(FailureKind::Transient, code::SERVER_ERROR, message, None);
    }
    if word == "authentication_failed" || kind == "authentication_error" {
        return failure(FailureKind::Authentication, code::CREDENTIAL_REFUSED, message, Some(LOG_IN));
    }
    if word == "invalid_request"
        || kind == "invalid_request_error"
        || status.is_some_and(|status| (400..500).contains(&status))
    {
        return failure(FailureKind::Usage, code::BAD_REQUEST, message, None);
    }
    unknown(message)
}

/// Parses `usage limit reached|1760000000`, with seconds since 1970.
fn stamp_ms(message: &str) -> Option<u64> {
    let (_, stamp) = message.rsplit_once('|')?;
    let seconds: u64 = stamp.trim().parse().ok()?;
    (1_000_000_000..100_000_000_000).contains(&seconds).then_some(seconds * 1000)
}

/// The failure of a run that claude reports as an error, from `errors` or its standard error. `resumes`: whether a session
/// was to be resumed and nothing has started. None if the lines do not explain it.
pub(crate) fn from_lines(lines: &[String], resumes: bool) -> Option<Failure> {
    let find = |phrases: &[&str]| lines.iter().find(|line| phrases.iter().any(|phrase| line.contains(phrase)));
    let usage =
        |code: &str, line: &str, hint: Option<&str>| Some(failure(FailureKind::Usage, code, unprefixed(line), hint));
    if let Some(line) = find(&[
        "No conversation found",
        "--resume requires a valid session",
        "is not a UUID and does not match any session",
    ]) {
        let kind = if resumes { FailureKind::ResumeInvalid } else { FailureKind::Usage };
        let hint = "claude finds a session only in the folder in which it was started; start a new one";
        return Some(failure(kind, code::SESSION_NOT_FOUND, unprefixed(line), Some(hint)));
    }
    if let Some(line) = find(&["cannot be used with root/sudo privileges"]) {
        return usage(code::ROOT_REFUSED, line, Some("run the host as another user, or do not skip permissions"));
    }
    if let Some(line) = find(&["Sandbox required but unavailable", "sandbox required but unavailable"]) {
        return usage(
            code::CONFIG_INVALID,
            line,
            Some("install what the message lists, or disable `settings.sandbox` of the provider"),
        );
    }
    if let Some(index) = lines.iter().position(|line| line.contains("Invalid MCP configuration")) {
        // The second line contains the problem.
        let message: Vec<&str> = lines.iter().skip(index).take(2).map(|line| unprefixed(line)).collect();
        return usage(code::CONFIG_INVALID, &message.join(" "), None);
    }
    if let Some(line) = find(&["--json-schema is not valid JSON", "--json-schema"]) {
        return usage(code::STRUCTURED_OUTPUT, line, None);
    }
    if let Some(line) = find(&["Input must be provided either through stdin", "Error parsing streaming input line"]) {
        return usage(code::BAD_REQUEST, line, None);
    }
    if let Some(line) = find(&["Invalid session ID", "is already in use"]) {
        return usage(code::BAD_REQUEST, line, None);
    }
    if let Some(line) =
        find(&["Settings file not found", "Invalid JSON provided to --settings", "Error processing settings"])
    {
        return usage(code::CONFIG_INVALID, line, None);
    }
    if let Some(line) = lines.iter().find(|line| line.starts_with("error: ")) {
        return usage(code::UNKNOWN_OPTION, line, None);
    }
    if let Some(line) = find(&["requires --verbose", "requires output-format", "native binary not installed"]) {
        return usage(code::CONFIG_INVALID, line, None);
    }
    if let Some(line) = find(&["panic: ", "Segmentation fault", "Illegal instruction", "Bun has crashed"]) {
        return Some(failure(FailureKind::Unknown, code::CRASHED, line, None));
    }
    let last = lines.iter().rev().find(|line| line.starts_with("Error: "))?;
    Some(request(Request { message: unprefixed(last), ..Request::default() }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_of_claude_are_classified() {
        use FailureKind::{Authentication, Limit, RateLimited, Transient, Usage};
        for (message, status, word, kind, code) in [
            ("Not logged in · Please run /login", None, "authentication_failed", Authentication, code::NOT_LOGGED_IN),
            (
                "Invalid API key · Please run /login",
                Some(401),
                "authentication_failed",
                Authentication,
                code::CREDENTIAL_REFUSED,
            ),
            ("Failed to authenticate. API Error: 401 x", Some(401), "", Authentication, code::CREDENTIAL_REFUSED),
            ("API Error: 403 forbidden", None, "", Authentication, code::ACCOUNT),
            ("API Error: Request rejected (429) · x", Some(429), "rate_limit", RateLimited, code::TOO_MANY_REQUESTS),
            ("You've hit your limit · resets 3am", Some(429), "rate_limit", Limit, code::QUOTA),
            ("Credit balance is too low", Some(400), "billing_error", Limit, code::QUOTA),
            ("API Error: 500 x", Some(500), "server_error", Transient, code::SERVER_ERROR),
            ("API Error: 529 overloaded", Some(529), "server_error", Transient, code::OVERLOADED),
            ("API Error: Connection error.", None, "unknown", Transient, code::CONNECTION),
            ("API Error: Request timed out", None, "unknown", Transient, code::CONNECTION),
            ("Unable to connect to API (ConnectionRefused)", None, "unknown", Transient, code::CONNECTION),
            ("There's an issue with the selected model (x)", Some(404), "model_not_found", Usage, code::MODEL_UNKNOWN),
            ("API Error: 404 nothing here", Some(404), "", Usage, code::BAD_REQUEST),
            ("API Error: 400 bad", Some(400), "unknown", Usage, code::BAD_REQUEST),
            ("Prompt is too long", Some(400), "invalid_request", Limit, code::CONTEXT_LENGTH),
            (
                "API Error: Claude's response exceeded the 64000 output token maximum",
                None,
                "max_output_tokens",
                Limit,
                code::OUTPUT_LENGTH,
            ),
            ("API Error: … appears to violate our Usage Policy", None, "", Limit, code::REFUSED),
        ] {
            let failure = request(Request { message, status, word, ..Request::default() });
            assert_eq!((failure.kind, failure.code.as_deref()), (kind, Some(code)), "{message}");
        }
        assert_eq!(request(Request { message: "something new", ..Request::default() }).kind, FailureKind::Unknown);
    }

    #[test]
    fn error_type_decides_if_claude_has_no_code_for_it() {
        use FailureKind::{Authentication, Limit, RateLimited, Transient, Usage};
        for (kind, expected, code) in [
            ("rate_limit_error", RateLimited, code::TOO_MANY_REQUESTS),
            ("overloaded_error", Transient, code::OVERLOADED),
            ("api_error", Transient, code::SERVER_ERROR),
            ("timeout_error", Transient, code::CONNECTION),
            ("authentication_error", Authentication, code::CREDENTIAL_REFUSED),
            ("billing_error", Limit, code::QUOTA),
            ("invalid_request_error", Usage, code::BAD_REQUEST),
        ] {
            let failure = request(Request { message: "no", word: "unknown", kind, ..Request::default() });
            assert_eq!((failure.kind, failure.code.as_deref()), (expected, Some(code)), "{kind}");
        }
    }

    #[test]
    fn retry_time_is_read_from_messages() {
        let of = |message: &str, resets_at_ms: Option<u64>| {
            request(Request { message, status: Some(429), resets_at_ms, ..Request::default() }).retry
        };
        assert_eq!(of("Claude AI usage limit reached|1760000000", None), Some(RetryTime::AtUnixMs(1_760_000_000_000)));
        assert_eq!(of("API Error: Request rejected (429) · try again in 3s", None), Some(RetryTime::AfterMs(3000)));
        assert_eq!(of("API Error: Request rejected (429)", Some(7)), Some(RetryTime::AtUnixMs(7)));
        assert_eq!(of("API Error: Request rejected (429)", None), None);
    }

    proptest! {
        #[test]
        fn arbitrary_messages_do_not_panic(
            message in "(API Error: |\\||[0-9]{0,12}|\\PC){0,12}", word in "[a-z_]{0,8}",
            lines in prop::collection::vec("(Error: |error: )?\\PC{0,60}", 0..4),
        ) {
            let _ = request(Request { message: &message, word: &word, kind: &word, ..Request::default() });
            let _ = from_lines(&lines, true);
        }
    }
}
