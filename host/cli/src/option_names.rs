//! Translates errors of the host to the command line. The host names fields of the payload by JSON Pointer; a user who
//! typed an option needs the name of the option.
//!
//! Only text for people is changed. With `--json`, and for fields of a payload file, pointers stay.

use serde_json::Value;

use super::method_names;
use ostler_config::file_key;
use ostler_protocol::{ApiError, Problem, unescape_pointer};

/// Fields of the start payload and the options that set them.
const FIELDS: [(&str, &str); 41] = [
    ("/provider", "PROVIDER"),
    ("/prompt", "PROMPT"),
    ("/title", "--title"),
    ("/cwd", "--cwd"),
    ("/model", "--model"),
    ("/profileId", "--profile"),
    ("/queuePriority", "--priority"),
    ("/timeoutSeconds", "--timeout"),
    ("/priority", "--priority"),
    ("/scheduledAt", "--at"),
    ("/startAfter/evenIfFailed", "--even-if-failed"),
    ("/startAfter", "--after"),
    ("/trustSettings", "--trust-settings"),
    ("/maxRetries", "--retries"),
    ("/optionalFlags", "--flag"),
    ("/harness/resumeSessionId", "--resume"),
    ("/harness/continueSession", "--continue"),
    ("/harness/additionalDirectories", "--add-dir"),
    ("/harness/tools", "--tool"),
    ("/harness/permissions/sandboxMode", "--sandbox"),
    ("/harness/permissions/networkAccess", "--network"),
    ("/harness/permissions/allowHosts", "--allow-host"),
    ("/harness/permissions/autoApprove", "--auto-approve"),
    ("/terminal", "--terminal"),
    ("/harness/permissions/approvalPolicy", "--ask"),
    ("/harness/limits/maxTurns", "--max-turns"),
    ("/harness/limits/maxBudgetUsd", "--max-budget"),
    ("/harness/mcp", "--mcp"),
    ("/harness/structuredOutput", "--schema"),
    ("/harness/systemPrompt", "--system-prompt"),
    ("/harness/appendSystemPrompt", "--append-system-prompt"),
    ("/harness/pipedContent", "standard input"),
    ("/harness/images", "--image"),
    ("/harness/files", "--attach"),
    ("/harness/processEnv", "--env"),
    // Of sessions and approvals.
    ("/runId", "RUN"),
    ("/data", "TEXT"),
    ("/answers", "TEXT"),
    ("/input", "--input"),
    ("/message", "--message"),
    ("/stopTurn", "--stop-turn"),
];

/// Sections of the configuration. Their keys are shown as in the file.
const SECTIONS: [&str; 13] = [
    "host",
    "scheduler",
    "runner",
    "storage",
    "retention",
    "policy",
    "sandbox",
    "redaction",
    "plugins",
    "providers",
    "http",
    "tokens",
    "log",
];

/// Members of parameters that contain a payload.
const WRAPPERS: [&str; 2] = ["/overrides", "/config"];

/// The name of a field for the user: its option, its key in the configuration, else the pointer itself.
pub(super) fn name(pointer: &str) -> String {
    let inner = WRAPPERS
        .iter()
        .find_map(|wrapper| pointer.strip_prefix(wrapper).filter(|rest| rest.starts_with('/')))
        .unwrap_or(pointer);
    let found = FIELDS.iter().find_map(|(field, option)| {
        let rest = inner.strip_prefix(field)?;
        (rest.is_empty() || rest.starts_with('/')).then_some((*option, rest))
    });
    if let Some((option, rest)) = found {
        return match (option, rest.split('/').nth(1)) {
            // These options name their values: `--env NAME=VALUE`.
            ("--env" | "--flag", Some(name)) => format!("{option} {}", unescape_pointer(name)),
            ("--schema", _) => match rest.strip_prefix("/schema") {
                Some(inside) if !inside.is_empty() => format!("{option}, at {inside}"),
                _ => option.to_owned(),
            },
            ("TEXT", Some(id)) => format!("QUESTION {}", unescape_pointer(id)),
            ("--input", Some(_)) => format!("{option}, at {rest}"),
            ("--mcp", Some(_)) => format!("{option}, at {rest}"),
            // Count from 1.
            (_, Some(index)) if index.parse::<usize>().is_ok_and(|index| index > 0) => {
                format!("{option} (number {})", index.parse::<usize>().map_or(0, |index| index + 1))
            }
            _ => option.to_owned(),
        };
    }
    let section = inner.split('/').nth(1).unwrap_or_default();
    if SECTIONS.contains(&section) { file_key(inner) } else { inner.to_owned() }
}

/// A message with the names of fields replaced by those of their options, and methods by the commands that call them.
pub(super) fn message(text: &str) -> String {
    let text = method_names::to_commands(text);
    let text = text.replace("networkAccess: false", "--network off").replace("networkAccess: true", "--network on");
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(start) = rest.find(|character: char| character.is_ascii_alphabetic()) {
        let (before, word) = rest.split_at(start);
        let end = word.find(|character: char| !(character.is_ascii_alphanumeric() || character == '.'));
        let end = word.get(..end.unwrap_or(word.len())).map_or(0, |word| word.trim_end_matches('.').len());
        let (word, after) = word.split_at(end);
        out.push_str(before);
        out.push_str(option_of_field(word).unwrap_or(word));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The option of a field name. Only for names with an upper-case letter: `prompt` and `model` are also English words.
fn option_of_field(word: &str) -> Option<&'static str> {
    if !word.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let (above, name) = word.rsplit_once('.').unwrap_or(("", word));
    let found = FIELDS.iter().find(|(field, _)| field.rsplit('/').next() == Some(name));
    let (field, option) = found?;
    let inside = field.trim_start_matches('/').replace('/', ".");
    (above.is_empty() || inside == word).then_some(*option)
}

/// Replaces fields by options in all texts of an error.
pub(super) fn of_error(mut error: ApiError) -> ApiError {
    let listed = ApiError::invalid(error.problems.clone()).message;
    for problem in &mut error.problems {
        if !problem.pointer.starts_with(OF_FILE) {
            problem.pointer = name(&problem.pointer);
            problem.message = message(&problem.message);
        }
    }
    error.message = match error.message.strip_suffix(&listed) {
        Some(before) => format!("{before}{}", ApiError::invalid(error.problems.clone()).message),
        None => message(&error.message),
    };
    error.hint = error.hint.map(|hint| message(&hint));
    for finding in &mut error.findings {
        finding.pointer = finding.pointer.as_deref().map(name);
        finding.message = message(&finding.message);
        finding.hint = finding.hint.as_deref().map(message);
    }
    error
}

/// Prefix that marks the pointer of a field of a payload file.
const OF_FILE: &str = "--payload, at ";

/// Marks the problems of fields that come from a payload file, so that they keep their pointers. `base` is the payload
/// file, `built` the payload that was built from the file and the options.
pub(super) fn keep_pointers_of(base: Option<&Value>, built: &Value, mut error: ApiError) -> ApiError {
    let Some(base) = base else { return error };
    let of_file = |pointer: &str| {
        let inner = pointer.strip_prefix("/overrides").unwrap_or(pointer);
        !inner.is_empty() && base.pointer(inner).is_some_and(|value| built.pointer(inner) == Some(value))
    };
    if !error.problems.iter().any(|problem| of_file(&problem.pointer)) {
        return error;
    }
    let hint = error.hint.take();
    let problems = error.problems.into_iter().map(|Problem { pointer, message }| {
        let pointer = if of_file(&pointer) { format!("{OF_FILE}{pointer}") } else { pointer };
        Problem { pointer, message }
    });
    ApiError { kind: error.kind, hint, findings: error.findings, ..ApiError::invalid(problems.collect()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use clap::CommandFactory;
    use serde_json::json;

    use super::super::Cli;
    use super::*;
    use ostler_protocol::ErrorKind;

    #[test]
    fn table_names_existing_options() {
        let command = Cli::command();
        let grant = command.find_subcommand("grant").and_then(|grant| grant.find_subcommand("add")).unwrap();
        let run = command.find_subcommand("run").unwrap();
        let below = |name| command.find_subcommand("approvals").and_then(|one| one.find_subcommand(name)).unwrap();
        let approvals = below("allow").get_arguments().chain(below("deny").get_arguments());
        let session = command.find_subcommand("session").and_then(|session| session.find_subcommand("start")).unwrap();
        let others: Vec<&clap::Arg> = grant.get_arguments().chain(approvals).chain(session.get_arguments()).collect();
        for (field, option) in FIELDS {
            let Some(long) = option.strip_prefix("--") else { continue };
            assert!(
                run.get_arguments().chain(others.iter().copied()).any(|argument| argument.get_long() == Some(long)),
                "{field}: no command has {option}"
            );
        }
    }

    #[test]
    fn maps_pointers_to_options_or_keys() {
        for (pointer, expected) in [
            ("/timeoutSeconds", "--timeout"),
            ("/overrides/timeoutSeconds", "--timeout"),
            ("/config/harness/permissions/sandboxMode", "--sandbox"),
            ("/harness/tools/0", "--tool"),
            ("/harness/tools/1", "--tool (number 2)"),
            ("/harness/processEnv/A B", "--env A B"),
            ("/harness/processEnv", "--env"),
            ("/optionalFlags/--delay-ms", "--flag --delay-ms"),
            ("/harness/structuredOutput/schema/type", "--schema, at /type"),
            ("/prompt", "PROMPT"),
            ("/answers/a~1b", "QUESTION a/b"),
            ("/input/a/0", "--input, at /a/0"),
            ("/harness/cliAllowlist/entries", "/harness/cliAllowlist/entries"),
            ("/timeoutSecondsX", "/timeoutSecondsX"),
            ("/scheduler/perProvider", "scheduler.per_provider"),
            ("--output", "--output"),
            ("", ""),
        ] {
            assert_eq!(name(pointer), expected, "{pointer}");
        }
    }

    #[test]
    fn messages_name_options_and_keep_other_words() {
        for (text, expected) in [
            ("contradicts resumeSessionId: name a session", "contradicts --resume: name a session"),
            ("contradicts networkAccess: false, the model", "contradicts --network off, the model"),
            ("the prompt of the model is /tmp/modelX", "the prompt of the model is /tmp/modelX"),
            ("set timeoutSeconds to at most 60", "set --timeout to at most 60"),
            ("größer äöü", "größer äöü"),
            ("see `harness.processEnv`. Or harness.permissions.autoApprove", "see `--env`. Or --auto-approve"),
            ("example.maxRetries and a.b.c...", "example.maxRetries and a.b.c..."),
        ] {
            assert_eq!(message(text), expected);
        }
    }

    #[test]
    fn error_names_options_and_keeps_pointers_of_payload_file() {
        let problem = |pointer: &str| Problem { pointer: pointer.to_owned(), message: "is wrong".to_owned() };
        let error = ApiError::invalid(vec![problem("/timeoutSeconds"), problem("/queuePriority")]);
        let base = json!({"timeoutSeconds": 1, "queuePriority": 11});
        let built = json!({"timeoutSeconds": 1, "queuePriority": 99});
        let translated = of_error(keep_pointers_of(Some(&base), &built, error.clone()));
        assert_eq!(translated.message, "2 problems: --payload, at /timeoutSeconds: is wrong; --priority: is wrong");
        let base = json!({"x": 1});
        let unknown = ApiError::invalid(vec![Problem {
            pointer: "/x".to_owned(),
            message: "unknown field; known are maxRetries".to_owned(),
        }]);
        let translated = of_error(keep_pointers_of(Some(&base), &base, unknown));
        assert_eq!(translated.message, "--payload, at /x: unknown field; known are maxRetries");
        assert_eq!(of_error(error).message, "2 problems: --timeout: is wrong; --priority: is wrong");
        let other = ApiError::new(ErrorKind::Io, "no maxRetries").hint("set maxRetries");
        let translated = of_error(other);
        assert_eq!((translated.message.as_str(), translated.hint.as_deref()), ("no --retries", Some("set --retries")));
    }
}
