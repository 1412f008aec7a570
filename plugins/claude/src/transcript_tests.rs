#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use ostler_plugin::provider::RetryTime;
use ostler_provider_kit_testing::captures::{Captures, read_one};
use ostler_provider_kit_testing::golden::{self, Golden};
use ostler_provider_kit_testing::random_lines;
use proptest::prelude::*;
use serde_json::json;

use super::*;

pub(crate) fn captures() -> Captures {
    Captures::of("claude-2.1.197")
}

/// Captures of claude 2.1.332 for what it does differently.
fn newer() -> Captures {
    Captures::of("claude-2.1.332")
}

/// The request for the command of a capture.
fn request(captures: &Captures, case: &str) -> RunRequest {
    let command = captures.command(case);
    let words: Vec<String> = ostler_provider_kit::shell::split(&command).unwrap();
    let has = |word: &str| words.iter().any(|known| known == word);
    let after = |word: &str| words.iter().position(|known| known == word).and_then(|at| words.get(at + 1)).cloned();
    let mut payload = json!({ "harness": {} });
    if has("--continue") {
        payload["harness"]["continueSession"] = true.into();
    }
    if has("--fork-session") {
        payload["optionalFlags"] = json!({ "--fork-session": true });
    }
    if has("--json-schema") {
        payload["harness"]["structuredOutput"] = json!({ "schema": { "type": "object" } });
    }
    RunRequest { resume_session: after("--resume"), payload: payload.to_string(), ..RunRequest::default() }
}

fn replay(case: &str) -> (Step, Outcome) {
    replay_of(&captures(), case)
}

fn replay_of(captures: &Captures, case: &str) -> (Step, Outcome) {
    captures.replay(case, PrintTranscript::new(&request(captures, case)))
}

pub(crate) fn describe(event: &Semantic) -> String {
    match event {
        Semantic::ToolStart(call) => {
            let mcp = call.mcp.as_ref().map_or_else(String::new, |mcp| format!(" {}/{}", mcp.server, mcp.tool));
            let parent = golden::of(call.parent.as_deref());
            format!("tool-start {} {} {} {:?}{mcp}{parent}", call.id, call.kind, call.name, call.commands)
        }
        Semantic::Usage(usage) => {
            let others: Vec<String> =
                usage.others.iter().map(|counter| format!("{}={}", counter.name, counter.value)).collect();
            format!(
                "usage whole={} in={:?} cached={:?} out={:?} cost={:?} {}",
                usage.whole_session,
                usage.input_tokens,
                usage.cached_input_tokens,
                usage.output_tokens,
                usage.cost_micro_usd,
                others.join(" ")
            )
        }
        other => golden::describe(other),
    }
}

/// Compares the events of all captures of each version with a reviewed file. `UPDATE_GOLDEN=1` writes the files.
#[test]
fn captures_match_the_reviewed_events() {
    for (captures, file, least) in [(captures(), "golden.txt", 95), (newer(), "golden-2.1.332.txt", 6)] {
        let approved = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(file);
        let cases = captures.cases();
        let golden = Golden { captures: &captures, cases: &cases, command_bytes: 200 };
        golden::check(&approved, golden, |case| replay_of(&captures, case), describe);
        assert!(cases.len() >= least, "captures are missing");
    }
}

#[test]
fn newer_version_reports_each_denial_once_when_it_happens() {
    let (step, outcome) = replay_of(&newer(), "denied");
    let at = |wanted: &dyn Fn(&Semantic) -> bool| step.events.iter().position(wanted);
    let denied = |event: &Semantic| matches!(event, Semantic::Warning(notice) if notice.code == notices::TOOL_DENIED);
    assert!(at(&denied) < at(&|event| matches!(event, Semantic::ToolResult(_))));
    assert_eq!(step.events.iter().filter(|event| denied(event)).count(), 1);
    assert!(outcome.failure.is_none());
}

#[test]
fn last_of_several_turns_is_the_result() {
    let (step, outcome) = replay_of(&newer(), "background");
    let turns = step.events.iter().filter(|event| matches!(event, Semantic::TurnComplete(_))).count();
    assert_eq!((turns, outcome.failure.is_none()), (2, true));
    // The tokens of both turns, not of one.
    let usage = step.events.iter().rev().find_map(|event| match event {
        Semantic::Usage(usage) => usage.input_tokens,
        _ => None,
    });
    assert_eq!(usage, Some(300));
}

#[test]
fn errors_of_the_newer_version_are_classified() {
    for (case, kind, code) in [
        ("http-429", FailureKind::RateLimited, "too-many-requests"),
        ("stream-rate-limit", FailureKind::RateLimited, "too-many-requests"),
        ("stream-overloaded", FailureKind::Transient, "server-error"),
        ("max-budget", FailureKind::Limit, "max-budget"),
    ] {
        let failure = replay_of(&newer(), case).1.failure.unwrap();
        assert_eq!((failure.kind, failure.code.as_deref()), (kind, Some(code)), "{case}");
    }
}

#[test]
fn text_that_breaks_off_after_a_complete_block_is_reported_each_time() {
    let (step, _) = replay_of(&newer(), "stream-overloaded");
    let broken = |event: &&Semantic| matches!(event, Semantic::Warning(notice) if notice.code == "request-failed");
    let deltas = step.events.iter().filter(|event| matches!(event, Semantic::TextDelta(_))).count();
    assert_eq!(step.events.iter().filter(broken).count(), deltas);
    assert!(deltas > 1);
}

fn failure_of(case: &str) -> (FailureKind, String) {
    let failure = replay(case).1.failure.unwrap_or_else(|| panic!("{case} did not fail"));
    (failure.kind, failure.code.unwrap_or_default())
}

#[test]
fn captured_failures_are_classified() {
    for (case, kind, code) in [
        ("auth-missing", FailureKind::Authentication, "not-logged-in"),
        ("http-401", FailureKind::Authentication, "credential-refused"),
        ("http-429", FailureKind::RateLimited, "too-many-requests"),
        ("http-500", FailureKind::Transient, "server-error"),
        ("http-529", FailureKind::Transient, "overloaded"),
        ("http-404", FailureKind::Usage, "model-unknown"),
        ("http-400", FailureKind::Usage, "bad-request"),
        ("http-500-default-retries", FailureKind::Unknown, "crashed"),
        ("max-turns", FailureKind::Limit, "max-turns"),
        ("max-budget", FailureKind::Limit, "max-budget"),
        ("max-budget-one", FailureKind::Limit, "max-budget"),
        ("resume-invalid-uuid", FailureKind::ResumeInvalid, "session-not-found"),
        ("resume-invalid-uuid-stream", FailureKind::ResumeInvalid, "session-not-found"),
        ("resume-invalid-name", FailureKind::ResumeInvalid, "session-not-found"),
        ("resume-other-cwd", FailureKind::ResumeInvalid, "session-not-found"),
        ("no-persistence-resume", FailureKind::ResumeInvalid, "session-not-found"),
        ("session-id-reused", FailureKind::Usage, "bad-request"),
        ("session-id-not-uuid", FailureKind::Usage, "bad-request"),
        ("bypass-mode-root", FailureKind::Usage, "root-refused"),
        ("skip-permissions-root", FailureKind::Usage, "root-refused"),
        ("flag-bad", FailureKind::Usage, "unknown-option"),
        ("flag-bad-value", FailureKind::Usage, "unknown-option"),
        ("prompt-dash-unguarded", FailureKind::Usage, "unknown-option"),
        ("variadic-swallows-prompt", FailureKind::Usage, "bad-request"),
        ("no-prompt", FailureKind::Usage, "bad-request"),
        ("mcp-config-invalid", FailureKind::Usage, "config-invalid"),
        ("schema-bad", FailureKind::Usage, "structured-output"),
        ("stream-json-no-verbose", FailureKind::Usage, "config-invalid"),
        ("sandbox-unavailable", FailureKind::Usage, "config-invalid"),
        ("command-unknown", FailureKind::Usage, "bad-request"),
        ("command-unavailable", FailureKind::Usage, "bad-request"),
        ("sigint-slow", FailureKind::Incomplete, "interrupted"),
        ("sigint-tool", FailureKind::Incomplete, "interrupted"),
        ("sigterm-slow", FailureKind::Unknown, "interrupted"),
        ("sigterm-group-tool", FailureKind::Unknown, "interrupted"),
        ("sigkill-tool", FailureKind::Unknown, "crashed"),
    ] {
        assert_eq!(failure_of(case), (kind, code.to_owned()), "{case}");
    }
    let (_, outcome) = replay("mcp-config-invalid");
    assert!(outcome.failure.unwrap().message.ends_with("MCP config file not found: /workspace/{nope"));
}

#[test]
fn denials_and_retries_do_not_fail_the_run() {
    for case in [
        "run-write-default",
        "run-write-dontAsk",
        "mcp-call-denied",
        "unknown-tool",
        "failonce-500",
        "stream-drop",
        "mcp-broken",
    ] {
        let (_, outcome) = replay(case);
        assert!(outcome.failure.is_none() && outcome.final_text.is_some(), "{case}");
    }
    let warned = |case: &str, code: &str| {
        replay(case).0.events.iter().any(|event| matches!(event, Semantic::Warning(notice) if notice.code == code))
    };
    assert!(warned("run-write-default", "tool-denied") && warned("mcp-call-denied", "tool-denied"));
    assert!(warned("mcp-broken", "mcp-server-failed"));
    let (step, _) = replay("failonce-500");
    let facts = step.events.iter().find_map(|event| match event {
        Semantic::Progress(notice) if notice.code == "cli-retry" => notice.facts.clone(),
        _ => None,
    });
    assert_eq!(facts.unwrap(), r#"{"attempt":1,"maxAttempts":10,"status":500,"delayMs":557}"#);
    let (step, _) = replay("http-429");
    assert!(
        step.events
            .iter()
            .any(|event| matches!(event, Semantic::RateLimited(limit) if limit.retry == Some(RetryTime::AfterMs(516))))
    );
    // A message of claude instead of an answer is not an answer.
    assert_eq!(replay("http-401").1.final_text, None);
    assert_eq!(replay("command-unknown").1.final_text, None);
}

#[test]
fn resumed_and_replaced_sessions_are_reported() {
    let origin = |case: &str| {
        replay(case).0.events.into_iter().find_map(|event| match event {
            Semantic::Session(session) => Some(session.origin),
            _ => None,
        })
    };
    assert_eq!(origin("stream-json"), Some(SessionOrigin::Fresh));
    assert_eq!(origin("resume-stream"), Some(SessionOrigin::Resumed));
    assert_eq!(origin("continue-hook"), Some(SessionOrigin::Resumed));
    assert_eq!(origin("continue-hook-none"), Some(SessionOrigin::Replaced));
    assert_eq!(origin("resume-invalid-uuid-stream"), None);
    let other =
        RunRequest { resume_session: Some("00000000-0000-4000-8000-000000000000".to_owned()), ..RunRequest::default() };
    let begin = |request: &RunRequest| PrintTranscript::new(request).read(captures().lines("stream-json")).events;
    let has = |events: &[Semantic], origin| {
        events.iter().any(|event| matches!(event, Semantic::Session(session) if session.origin == origin))
    };
    assert!(has(&begin(&other), SessionOrigin::Replaced));
    let forks = RunRequest { payload: r#"{"optionalFlags":{"--fork-session":true}}"#.to_owned(), ..other.clone() };
    assert!(has(&begin(&forks), SessionOrigin::Forked));
    let titled = RunRequest { resume_session: Some("the title".to_owned()), ..other };
    assert!(has(&begin(&titled), SessionOrigin::Resumed));
}

#[test]
fn structured_output_is_read() {
    assert_eq!(replay("schema-stream").1.structured_output.as_deref(), Some(r#"{"verdict":"pass","score":7}"#));
    assert_eq!(replay("schema-json").1.structured_output.as_deref(), Some(r#"{"verdict":"pass","score":7}"#));
    let (_, ignored) = replay("schema-ignored");
    assert_eq!((ignored.structured_output, ignored.failure), (None, None), "the host judges what is missing");
    assert_eq!(ignored.final_text, None, "claude's own words to the model are no answer");
    assert_eq!(replay("stream-json").1.structured_output, None, "no schema was asked for");
    let (step, _) = replay("schema-stream");
    assert!(!step.events.iter().any(|event| matches!(event, Semantic::ToolStart(_) | Semantic::ToolResult(_))));
}

#[test]
fn rejected_structured_answer_is_not_a_tool_use() {
    let mut transcript = PrintTranscript::new(&RunRequest::default());
    let mut read = |line: Value| {
        let line = Line { stream: OutputStream::Stdout, text: line.to_string(), truncated: false };
        transcript.read(vec![line]).events
    };
    let block = json!({ "type": "tool_use", "id": "toolu_1", "name": "StructuredOutput", "input": { "score": "x" } });
    read(json!({ "type": "assistant", "message": { "id": "m", "content": [block] } }));
    let result = json!({ "type": "tool_result", "tool_use_id": "toolu_1", "is_error": true, "content": "no number" });
    let refused = |read: &mut dyn FnMut(Value) -> Vec<Semantic>| {
        read(json!({ "type": "user", "message": { "content": [result.clone()] } }))
    };
    let events = refused(&mut read);
    assert!(
        matches!(&events[..], [Semantic::Other(event)] if event.kind == "claude.structured-output-refused"),
        "{events:?}"
    );
    let events = refused(&mut read);
    assert!(matches!(&events[..], [Semantic::ToolResult(_)]), "it is another's: {events:?}");
}

#[test]
fn tool_result_that_looks_like_an_accepted_structured_answer_is_reported() {
    let mut transcript = PrintTranscript::new(&RunRequest::default());
    let result = json!({ "type": "tool_result", "tool_use_id": "toolu_1", "content": "x" });
    let accepted = "Structured output provided successfully";
    let line = json!({ "type": "user", "message": { "content": [result] }, "tool_use_result": accepted });
    let events = read_one(&mut transcript, OutputStream::Stdout, &line.to_string()).events;
    assert!(matches!(&events[..], [Semantic::ToolResult(result)] if result.id == "toolu_1"), "{events:?}");
}

#[test]
fn structured_answers_above_the_limit_are_tool_uses() {
    let mut transcript = PrintTranscript::new(&RunRequest::default());
    let mut begin = |number: usize| {
        let block =
            json!({ "type": "tool_use", "id": format!("toolu_{number}"), "name": "StructuredOutput", "input": {} });
        let line = json!({ "type": "assistant", "message": { "id": "m", "content": [block] } });
        let events = read_one(&mut transcript, OutputStream::Stdout, &line.to_string()).events;
        events.into_iter().find_map(|event| match event {
            Semantic::ToolStart(call) => Some(call.name),
            _ => None,
        })
    };
    for number in 0..OPEN_AGENTS {
        assert_eq!(begin(number), None, "{number}");
    }
    assert_eq!(begin(OPEN_AGENTS).as_deref(), Some("StructuredOutput"));
}

/// The deltas of a message and the complete message have the same id and the same text.
#[test]
fn deltas_add_up_to_the_message() {
    for (case, texts) in
        [("stream-json-partial", 1), ("thinking-partial", 1), ("subagent-partial", 2), ("stdin-interrupt", 2)]
    {
        let (step, _) = replay(case);
        let mut deltas: BTreeMap<String, String> = BTreeMap::new();
        let mut whole: BTreeMap<String, String> = BTreeMap::new();
        let mut from_main = 0;
        for event in step.events {
            match event {
                Semantic::TextDelta(piece) | Semantic::ThinkingDelta(piece) => {
                    deltas.entry(piece.message).or_default().push_str(&piece.text);
                }
                Semantic::Text(piece) => {
                    from_main += 1;
                    assert!(whole.insert(piece.message, piece.text).is_none());
                }
                Semantic::Thinking(piece) => assert!(whole.insert(piece.message, piece.text).is_none()),
                _ => {}
            }
        }
        assert!(!deltas.is_empty(), "{case}");
        for (message, text) in &deltas {
            assert_eq!(whole.get(message), Some(text), "{case} {message}");
        }
        assert!(from_main >= texts || case == "subagent-partial", "{case}: {from_main}");
    }
}

#[test]
fn events_of_sub_agents_have_their_parent() {
    let (step, outcome) = replay("subagent-partial");
    let calls: Vec<_> = step
        .events
        .iter()
        .filter_map(|event| match event {
            Semantic::ToolStart(call) => Some(call),
            _ => None,
        })
        .collect();
    assert_eq!(calls.iter().map(|call| call.kind.as_str()).collect::<Vec<_>>(), ["task", "shell"]);
    assert_eq!(calls[1].parent.as_deref(), Some(calls[0].id.as_str()));
    assert!(outcome.final_text.unwrap().starts_with("RESULT: RESULT: "), "the main agent has the last word");
}

#[test]
fn events_without_a_capture_are_read() {
    let mut transcript = PrintTranscript::new(&RunRequest::default());
    let mut read = |text: &str| {
        let step = read_one(&mut transcript, OutputStream::Stdout, text);
        assert_eq!(step.covered, [0], "{text}");
        step.events
    };
    let limit = r#"{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":1760000000,"rateLimitType":"five_hour"}}"#;
    assert!(
        matches!(&read(limit)[0], Semantic::RateLimited(limit) if limit.retry == Some(RetryTime::AtUnixMs(1_760_000_000_000)))
    );
    let near =
        r#"{"type":"rate_limit_event","rate_limit_info":{"status":"allowed_warning","rateLimitType":"seven_day"}}"#;
    assert!(matches!(&read(near)[0], Semantic::Warning(notice) if notice.message.contains("seven_day")));
    let compact =
        r#"{"type":"system","subtype":"compact_boundary","compact_metadata":{"trigger":"auto","pre_tokens":9}}"#;
    assert!(matches!(&read(compact)[0], Semantic::Progress(notice) if notice.code == "compacted"));
    let hook = r#"{"type":"system","subtype":"hook_response","hook_name":"Stop","outcome":"error","exit_code":2,"stderr":"no\n"}"#;
    assert!(
        matches!(&read(hook)[0], Semantic::Warning(notice) if notice.code == "hook" && notice.message.ends_with("error: no"))
    );
    assert!(
        matches!(&read(r#"{"type":"system","subtype":"weather"}"#)[0], Semantic::Other(event) if event.kind == "claude.system.weather")
    );
    assert!(matches!(&read(r#"{"type":"weather"}"#)[0], Semantic::Other(event) if event.kind == "claude.weather"));
    let unknown = r#"{"type":"assistant","message":{"id":"m","content":[{"type":"hologram","y":1}]}}"#;
    assert!(matches!(&read(unknown)[0], Semantic::Other(event) if event.kind == "claude.assistant.hologram"));
    let result = r#"{"type":"result","subtype":"success","is_error":true,"api_error_status":429,"result":"You've hit your limit"}"#;
    read(result);
    let failure = transcript.finish(ExitStatus { code: Some(1), ..ExitStatus::default() }, Vec::new()).failure.unwrap();
    assert_eq!((failure.kind, failure.retry), (FailureKind::Limit, Some(RetryTime::AtUnixMs(1_760_000_000_000))));
}

#[test]
fn outcome_depends_on_the_last_line_and_the_exit() {
    let end = |lines: &[&str], exit: ExitStatus| {
        let mut transcript = PrintTranscript::new(&RunRequest::default());
        for line in lines {
            read_one(&mut transcript, OutputStream::Stdout, line);
        }
        transcript.finish(exit, Vec::new()).failure
    };
    let done = r#"{"type":"result","subtype":"success","is_error":false,"result":"x"}"#;
    let code = |code: i32| ExitStatus { code: Some(code), ..ExitStatus::default() };
    assert_eq!(end(&[], code(0)).unwrap().kind, FailureKind::Incomplete);
    assert_eq!(end(&[], code(1)).unwrap().kind, FailureKind::Unknown);
    assert_eq!(end(&[done], code(0)), None);
    assert_eq!(end(&[done], code(3)), None);
    let failed =
        r#"{"type":"result","subtype":"success","is_error":true,"api_error_status":500,"result":"API Error: 500"}"#;
    assert_eq!(end(&[failed], code(0)).unwrap().kind, FailureKind::Transient);
    assert_eq!(end(&[failed, done], code(0)), None);
    let vague = r#"{"type":"result"}"#;
    assert_eq!(end(&[vague], code(0)).unwrap().kind, FailureKind::Unknown, "no word of success is none");
    assert_eq!(end(&[failed], ExitStatus { canceled: true, ..code(1) }), None);
    assert_eq!(end(&[], ExitStatus { timed_out: true, signal: Some(9), ..ExitStatus::default() }), None);
}

#[test]
fn cut_last_line_without_a_result_is_not_the_end() {
    let mut transcript = PrintTranscript::new(&RunRequest::default());
    let text = r#"{"type":"result","subtype":"success","is_error":false,"result":"aaaa"#.to_owned();
    let step = transcript.read(vec![Line { stream: OutputStream::Stdout, text, truncated: true }]);
    assert!(step.covered.is_empty());
    let failure = transcript.finish(ExitStatus { code: Some(0), ..ExitStatus::default() }, Vec::new()).failure.unwrap();
    assert_eq!((failure.kind, failure.code.as_deref()), (FailureKind::Incomplete, Some("protocol")));
}

fn line(text: &str, truncated: bool) -> Line {
    Line { stream: OutputStream::Stdout, text: text.to_owned(), truncated }
}

/// The outcome of a run that exits with code 0 after these lines. `truncated`: whether the host has cut the last one.
fn outcome_of(lines: &[&str], truncated: bool) -> Outcome {
    let mut transcript = PrintTranscript::new(&RunRequest::default());
    for (index, text) in lines.iter().enumerate() {
        transcript.read(vec![line(text, truncated && index + 1 == lines.len())]);
    }
    transcript.finish(ExitStatus { code: Some(0), ..ExitStatus::default() }, Vec::new())
}

/// The members before `type` in the last line of newer versions.
const NEWER: &str = r#""duration_api_ms":1,"total_cost_usd":0.5,"modelUsage":{"m":{"inputTokens":7,"outputTokens":3}},"permission_denials":[],"terminal_reason":"completed","is_error":false,"num_turns":1,"subtype":"success""#;

const MESSAGE: &str = r#"{"type":"assistant","message":{"id":"m","content":[{"type":"text","text":"a long answer"}]}}"#;

#[test]
fn last_line_with_an_unpaired_surrogate_keeps_answer_and_usage() {
    let text = format!(r#"{{{NEWER},"result":"party \ud83c","type":"result","uuid":"u"}}"#);
    let mut transcript = PrintTranscript::new(&RunRequest::default());
    let step = transcript.read(vec![line(&text, false)]);
    assert_eq!(step.covered, [0]);
    assert!(step.events.iter().any(|event| matches!(event,
        Semantic::Usage(usage) if (usage.output_tokens, usage.cost_micro_usd) == (Some(3), Some(500_000)))));
    let outcome = transcript.finish(ExitStatus { code: Some(0), ..ExitStatus::default() }, Vec::new());
    assert_eq!((outcome.failure, outcome.final_text.as_deref()), (None, Some("party \u{fffd}")));
}

#[test]
fn last_line_with_another_document_or_a_large_number_is_the_end() {
    let result = r#"{"type":"result","subtype":"success","is_error":false,"duration_ms":1e400,"result":"x"}"#;
    for text in [result.to_owned(), format!("{MESSAGE}{result}"), format!("{result} {{}}")] {
        let outcome = outcome_of(&[&text], false);
        assert_eq!((outcome.failure, outcome.final_text.as_deref()), (None, Some("x")), "{text}");
    }
}

#[test]
fn last_line_cut_after_the_answer_is_the_end() {
    let cut = r#"{"type":"result","subtype":"success","is_error":false,"result":"x","permission_denials":[{"tool_name":"Write","tool_input":{"content":"aaaa"#;
    let outcome = outcome_of(&[cut], true);
    assert_eq!((outcome.failure, outcome.final_text.as_deref()), (None, Some("x")));
}

#[test]
fn last_line_cut_inside_a_known_answer_is_the_end() {
    let cut = format!(r#"{{{NEWER},"result":"a lon"#);
    let outcome = outcome_of(&[MESSAGE, &cut], true);
    assert_eq!((outcome.failure, outcome.final_text.as_deref()), (None, Some("a long answer")));
}

#[test]
fn last_line_cut_inside_an_unknown_answer_fails_with_its_beginning() {
    for (cut, text) in [
        (format!(r#"{{{NEWER},"result":"another ans"#), "another ans"),
        (r#"{"duration_api_ms":1,"total_cost_usd":0.5,"modelUsage":{"m":{"inp"#.to_owned(), "a long answer"),
    ] {
        let outcome = outcome_of(&[MESSAGE, &cut], true);
        let failure = outcome.failure.unwrap();
        assert_eq!((failure.kind, failure.code.as_deref()), (FailureKind::Incomplete, Some("protocol")), "{cut}");
        assert_eq!(
            failure.message,
            "claude's last line was longer than the line limit and could not be read completely"
        );
        assert_eq!(outcome.final_text.as_deref(), Some(text), "{cut}");
    }
}

#[test]
fn cut_last_line_with_an_error_fails_with_that_error() {
    let cut =
        r#"{"type":"result","subtype":"error_max_turns","is_error":true,"errors":["Reached maximum"],"usage":{"inp"#;
    assert_eq!(outcome_of(&[cut], true).failure.unwrap().code.as_deref(), Some("max-turns"));
}

#[test]
fn unread_line_that_may_have_been_the_last_is_reported() {
    let outcome = outcome_of(&[MESSAGE, r#"{"uuid":"u","session_id"#], false);
    let failure = outcome.failure.unwrap();
    assert_eq!((failure.kind, failure.code.as_deref()), (FailureKind::Incomplete, Some("protocol")));
    assert_eq!(outcome.final_text.as_deref(), Some("a long answer"));
    // A line that is known to be another one explains nothing.
    let outcome = outcome_of(&[r#"{"type":"user","message":{"content":"aaa"#], true);
    assert_eq!(outcome.failure.unwrap().code.as_deref(), Some("ended-early"));
}

#[test]
fn error_in_the_subtype_of_the_last_line_fails_the_run() {
    let outcome = outcome_of(&[r#"{"type":"result","subtype":"error_max_turns","is_error":false}"#], false);
    assert_eq!(outcome.failure.unwrap().code.as_deref(), Some("max-turns"));
}

/// The notices that the work is done, with their background tasks, and the starts of other turns, in order.
fn work(lines: &[&str]) -> Vec<String> {
    let mut transcript = PrintTranscript::new(&RunRequest::default());
    let events = transcript.read(lines.iter().map(|text| line(text, false)).collect()).events;
    let notices = events.iter().filter_map(|event| match event {
        Semantic::Progress(notice) if notice.code == "work-done" => {
            let facts: Value = serde_json::from_str(notice.facts.as_deref().unwrap()).unwrap();
            let ids = facts["background"].as_array().unwrap().iter().map(|task| task["id"].as_str().unwrap());
            Some(format!("done {}", ids.collect::<Vec<_>>().join(" ")).trim_end().to_owned())
        }
        Semantic::Progress(notice) if notice.code == "turn-started" => Some("turn".to_owned()),
        _ => None,
    });
    notices.collect()
}

const DONE: &str = r#"{"type":"result","subtype":"success","is_error":false,"result":"x","queued_turn_count":0}"#;
const INIT: &str = r#"{"type":"system","subtype":"init","session_id":"s"}"#;

#[test]
fn work_is_complete_with_the_last_line() {
    assert_eq!(work(&[INIT, MESSAGE, DONE]), ["turn", "done"]);
    let queued = DONE.replace("count\":0", "count\":1");
    assert_eq!(work(&[INIT, &queued, INIT, DONE]), ["turn", "turn", "done"]);
}

#[test]
fn background_tasks_are_reported_at_the_end_of_the_work_and_when_they_end() {
    let started =
        r#"{"type":"system","subtype":"task_started","task_id":"b1","description":"x","task_type":"local_bash"}"#;
    let running = r#"{"type":"system","subtype":"task_updated","task_id":"b1","patch":{"status":"running"}}"#;
    let updated = r#"{"type":"system","subtype":"task_updated","task_id":"b1","patch":{"status":"completed"}}"#;
    let notified = r#"{"type":"system","subtype":"task_notification","task_id":"b1","status":"stopped"}"#;
    assert_eq!(work(&[started, running, DONE, updated, notified]), ["done b1", "done"]);
    assert_eq!(work(&[started, DONE, notified, INIT, DONE]), ["done b1", "done", "turn", "done"]);
    assert_eq!(work(&[started, updated, DONE]), ["done"]);
    let list = |tasks: &str| format!(r#"{{"type":"system","subtype":"background_tasks_changed","tasks":[{tasks}]}}"#);
    let two = list(r#"{"task_id":"b1","task_type":"local_bash"},{"task_id":"b2"}"#);
    assert_eq!(work(&[started, &two, DONE, &list("")]), ["done b1 b2", "done"]);
    let watched = list(r#"{"task_id":"b1"},{"task_id":"w","ambient":true},{"task_id":"o","off_host":true}"#);
    assert_eq!(work(&[&watched, DONE]), ["done b1"]);
}

#[test]
fn kept_state_is_bounded() {
    let mut transcript = PrintTranscript::new(&RunRequest::default());
    for number in 0..3000 {
        read_one(&mut transcript, OutputStream::Stderr, &format!("{number} {}", "x".repeat(5000)));
        let start = format!(
            r#"{{"type":"stream_event","parent_tool_use_id":"p{number}","event":{{"type":"message_start","message":{{"id":"m"}}}}}}"#
        );
        read_one(&mut transcript, OutputStream::Stdout, &start);
    }
    assert!(
        transcript.stderr.lines().len() <= KEPT_LINES
            && transcript.stderr.lines().iter().all(|line| line.len() <= KEPT_BYTES)
    );
    assert!(transcript.stderr.lines()[0].starts_with("0 ") && transcript.stderr.last().unwrap().starts_with("2999 "));
    assert!(transcript.agents.len() <= OPEN_AGENTS + 1);
}

fn lines() -> impl Strategy<Value = Vec<Line>> {
    let words = r#"(\{|\}|"type"|:|"message"|"assistant"|"content"|"id"|"x"|,|"stream_event"|"event"|"result"|null|[0-9]|\[|\]|\PC){0,24}"#;
    random_lines::lines(captures().corpus(&captures().cases()), words)
}

proptest! {
    #[test]
    fn arbitrary_lines_do_not_panic(lines in lines(), code in prop::option::of(0..3_i32)) {
        let step = random_lines::survives(PrintTranscript::new(&RunRequest::default()), lines, code)?;
        prop_assert!(step.events.iter().filter(|event| matches!(event, Semantic::Session(_))).count() <= 1);
    }

    #[test]
    fn batches_make_no_difference(lines in lines(), cut in 0_usize..24) {
        random_lines::batches_make_no_difference(|| PrintTranscript::new(&RunRequest::default()), &lines, cut)?;
    }
}

/// Lines of the stream of one message, which breaks off or is complete.
fn streamed(id: &str, text: &str, complete: bool) -> Vec<String> {
    let event = |event: Value| json!({ "type": "stream_event", "session_id": "s", "event": event }).to_string();
    let mut lines = vec![
        event(json!({ "type": "message_start", "message": { "id": id } })),
        event(json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text" } })),
        event(json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": text } })),
    ];
    // claude also closes messages that broke off.
    lines.push(event(json!({ "type": "content_block_stop", "index": 0 })));
    if complete {
        lines.push(event(json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" } })));
    }
    lines.push(event(json!({ "type": "message_stop" })));
    lines
}

#[test]
fn repeated_message_is_reported() {
    for (complete, expected) in [(false, 1), (true, 0)] {
        let mut transcript = PrintTranscript::new(&RunRequest::default());
        let mut lines = streamed("m1", "half an", complete);
        let block = json!({ "type": "text", "text": "half an answer" });
        lines.push(json!({ "type": "assistant", "message": { "id": "m2", "content": [block] } }).to_string());
        let events: Vec<Semantic> =
            lines.iter().flat_map(|line| read_one(&mut transcript, OutputStream::Stdout, line).events).collect();
        let warnings = events.iter().filter(|event| matches!(event, Semantic::Warning(_))).count();
        assert_eq!(warnings, expected, "{events:?}");
    }
}

#[test]
fn run_that_exceeds_its_limit_on_turns_is_stopped_and_fails() {
    let payload = json!({ "harness": { "limits": { "maxTurns": 1 } } });
    let mut transcript = PrintTranscript::new(&RunRequest { payload: payload.to_string(), ..RunRequest::default() });
    let mut stops = |lines: Vec<String>| {
        let events = lines.iter().flat_map(|line| read_one(&mut transcript, OutputStream::Stdout, line).events);
        events.filter(|event| matches!(event, Semantic::Progress(notice) if notice.code == notices::STOP)).count()
    };
    assert_eq!(stops(streamed("m1", "a", true)), 0);
    assert_eq!(stops(streamed("m2", "b", false)), 1);
    let failure = transcript.finish(ExitStatus::default(), Vec::new()).failure.unwrap();
    assert_eq!((failure.kind, failure.code.as_deref()), (FailureKind::Limit, Some("max-turns")));
}
