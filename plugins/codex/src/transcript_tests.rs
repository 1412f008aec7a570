#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use ostler_plugin::provider::{FailureKind, RetryTime};
use ostler_provider_kit::transcript::KEPT_LINES;
use ostler_provider_kit_testing::captures::{Captures, read_one};
use ostler_provider_kit_testing::golden::{self, Golden};
use ostler_provider_kit_testing::random_lines;
use proptest::prelude::*;

use super::*;

pub(crate) fn captures() -> Captures {
    Captures::of("codex-0.169.0")
}

/// Every capture of a run, in order, in any output format. Captures of probes, which `detect` reads, are omitted, and so are
/// those of `app-server`, a protocol that this plugin does not use.
fn cases() -> Vec<String> {
    const NO_RUNS: [&str; 3] = ["features-list", "mcp-list", "version"];
    let mut cases = captures().cases();
    cases.retain(|case| !NO_RUNS.contains(&case.as_str()) && !captures().command(case).contains("codex app-server"));
    cases
}

/// The request for the command of a capture.
fn request(case: &str) -> RunRequest {
    let command = captures().command(case);
    let words: Vec<String> = ostler_provider_kit::shell::split(&command).unwrap();
    let resume = words.iter().position(|word| word == "resume");
    let requested = resume.and_then(|at| {
        words[at + 1..].iter().find(|word| word.len() > 10 && !word.starts_with('-') && !word.contains('='))
    });
    let mut payload = json!({ "harness": {} });
    if words.contains(&"--last".to_owned()) {
        payload["harness"]["continueSession"] = true.into();
    }
    if words.contains(&"--output-schema".to_owned()) {
        payload["harness"]["structuredOutput"] = json!({ "schema": { "type": "object" } });
    }
    RunRequest {
        // Between the first turn of the resumed thread and the runs that silently started a new one.
        fresh_id: "01a201fd-f000-7000-8000-000000000000".to_owned(),
        resume_session: requested.filter(|_| payload["harness"].get("continueSession").is_none()).cloned(),
        payload: payload.to_string(),
        ..RunRequest::default()
    }
}

fn replay(case: &str) -> (Step, Outcome) {
    captures().replay(case, ExecTranscript::new(&request(case)))
}

fn describe(event: &Semantic) -> String {
    match event {
        Semantic::ToolStart(call) => {
            let mcp = call
                .mcp
                .as_ref()
                .map_or_else(String::new, |mcp| format!(" {}/{} {}", mcp.server, mcp.tool, call.input));
            format!("tool-start {} {} {:?}{mcp}", call.id, call.kind, call.commands)
        }
        Semantic::Usage(usage) => format!(
            "usage whole={} in={:?} cached={:?} out={:?}",
            usage.whole_session, usage.input_tokens, usage.cached_input_tokens, usage.output_tokens
        ),
        other => golden::describe(other),
    }
}

/// Compares the events of all captures with a reviewed file. `UPDATE_GOLDEN=1` writes the file.
#[test]
fn captures_match_the_reviewed_events() {
    let approved = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden.txt");
    let cases = cases();
    golden::check(
        &approved,
        Golden { captures: &captures(), cases: &cases, command_bytes: usize::MAX },
        replay,
        describe,
    );
    assert!(cases.len() >= 88, "captures are missing");
}

fn failure_of(case: &str) -> (FailureKind, String) {
    let failure = replay(case).1.failure.unwrap_or_else(|| panic!("{case} did not fail"));
    (failure.kind, failure.code.unwrap_or_default())
}

#[test]
fn captured_failures_are_classified() {
    for (case, kind, code) in [
        ("auth-missing-env-key", FailureKind::Authentication, "not-logged-in"),
        ("http-401", FailureKind::Authentication, "credential-refused"),
        ("http-429", FailureKind::RateLimited, "too-many-requests"),
        ("http-500-noretry", FailureKind::Transient, "overloaded"),
        ("stream-drop", FailureKind::Transient, "connection"),
        ("http-400", FailureKind::Usage, "bad-request"),
        ("flag-bad", FailureKind::Usage, "unknown-option"),
        ("flag-bad-value", FailureKind::Usage, "unknown-option"),
        ("prompt-dash-unguarded", FailureKind::Usage, "unknown-option"),
        ("config-bad-value", FailureKind::Usage, "config-invalid"),
        ("config-bad-key-strict", FailureKind::Usage, "config-invalid"),
        ("provider-unknown", FailureKind::Usage, "config-invalid"),
        ("not-a-git-repo", FailureKind::Usage, "not-a-git-repository"),
        ("schema-file-missing", FailureKind::Usage, "structured-output"),
        ("schema-file-invalid", FailureKind::Usage, "structured-output"),
        ("mcp-broken-required", FailureKind::Usage, "mcp-server-failed"),
        ("no-prompt", FailureKind::Usage, "bad-request"),
        ("resume-invalid-uuid", FailureKind::ResumeInvalid, "session-not-found"),
        ("ephemeral-resume", FailureKind::ResumeInvalid, "session-not-found"),
        ("sigint-slow", FailureKind::Unknown, "ended-early"),
        ("sigterm-slow", FailureKind::Unknown, "crashed"),
    ] {
        assert_eq!(failure_of(case), (kind, code.to_owned()), "{case}");
    }
    let (_, outcome) = replay("config-bad-value");
    assert!(outcome.failure.unwrap().message.ends_with("in `model_reasoning_effort`"));
}

#[test]
fn warnings_and_retries_do_not_fail_the_run() {
    for case in [
        "json",
        "mcp-broken",
        "mcp-call",
        "unknown-tool",
        "failonce-500",
        "run-bypass",
        "run-sandbox-mixed-1",
        "schema-violated",
    ] {
        let (step, outcome) = replay(case);
        assert!(outcome.failure.is_none(), "{case}");
        assert!(outcome.final_text.is_some(), "{case}");
        assert!(step.events.iter().any(|event| matches!(event, Semantic::Warning(_))), "{case}");
    }
    let (step, _) = replay("http-401");
    let retries =
        step.events.iter().filter(|event| matches!(event, Semantic::Progress(notice) if notice.code == "reconnecting"));
    assert_eq!(retries.count(), 5);
}

#[test]
fn resumed_and_replaced_sessions_are_reported() {
    let origin = |case: &str| {
        replay(case).0.events.into_iter().find_map(|event| match event {
            Semantic::Session(session) => Some((session.id, session.origin)),
            _ => None,
        })
    };
    let thread = "01a201fd-e403-7082-ac62-b4de0273e428".to_owned();
    assert_eq!(origin("turns-first"), Some((thread.clone(), SessionOrigin::Fresh)));
    for case in ["resume", "resume-last", "resume-flags-after-exec", "resume-other-cwd-skip"] {
        assert_eq!(origin(case), Some((thread.clone(), SessionOrigin::Resumed)), "{case}");
    }
    assert_eq!(origin("resume-invalid-name").unwrap().1, SessionOrigin::Replaced);
    assert_eq!(origin("resume-last-none").unwrap().1, SessionOrigin::Replaced);
    assert_eq!(origin("resume-invalid-uuid"), None);
}

#[test]
fn session_name_is_resumed_if_the_thread_is_older() {
    let mut transcript =
        ExecTranscript::new(&RunRequest { resume_session: Some("my thread".to_owned()), ..request("json") });
    let step = transcript.read(captures().lines("turns-first"));
    assert!(step.events.contains(&Semantic::Session(SessionInfo {
        id: "01a201fd-e403-7082-ac62-b4de0273e428".to_owned(),
        origin: SessionOrigin::Resumed
    })));
}

#[test]
fn structured_output_is_read_from_the_answer() {
    assert_eq!(replay("schema").1.structured_output.as_deref(), Some(r#"{"verdict":"pass","score":7}"#));
    assert_eq!(replay("schema-violated").1.structured_output, None);
    assert_eq!(replay("json").1.structured_output, None, "no schema was requested");
}

#[test]
fn items_without_a_capture_are_read() {
    let mut transcript = ExecTranscript::new(&RunRequest::default());
    let mut read = |text: &str| {
        let step = read_one(&mut transcript, OutputStream::Stdout, text);
        assert_eq!(step.covered, [0], "{text}");
        step.events
    };
    let change = r#"{"type":"item.completed","item":{"id":"f","type":"file_change","changes":[{"path":"/w/a","kind":"add"},{"path":"/w/b","kind":"delete"},{"path":"c","kind":"update"}],"status":"completed"}}"#;
    let events = read(change);
    let [Semantic::ToolStart(call), Semantic::ToolResult(result)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((call.kind.as_str(), call.files.len(), result.is_error), ("file_edit", 3, false));
    let search = r#"{"type":"item.started","item":{"id":"w","type":"web_search","query":"rust","action":{"type":"open_page","url":"https://a.example/x"}}}"#;
    let events = read(search);
    assert!(
        matches!(&events[0], Semantic::ToolStart(call) if call.kind == "web_fetch" && call.urls == ["https://a.example/x"])
    );
    let empty = r#"{"type":"item.started","item":{"id":"e","type":"web_search","query":"","action":{"type":"other"}}}"#;
    assert_eq!(read(empty), [], "what was searched for comes at the end");
    let searched = r#"{"type":"item.completed","item":{"id":"e","type":"web_search","query":"rust","action":{"type":"search","query":"rust"}}}"#;
    let events = read(searched);
    let [Semantic::ToolStart(call), Semantic::ToolResult(_)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((call.kind.as_str(), call.input.contains("rust")), ("web_search", true));
    let todo = r#"{"type":"item.updated","item":{"id":"t","type":"todo_list","items":[{"text":"a","completed":true},{"text":"b","completed":false}]}}"#;
    assert!(
        matches!(&read(todo)[0], Semantic::Progress(notice) if notice.code == "plan" && notice.message == "1 of 2 steps done")
    );
    let agent = r#"{"type":"item.started","item":{"id":"s","type":"collab_tool_call","tool":"spawn_agent","prompt":"go","status":"in_progress"}}"#;
    assert!(matches!(&read(agent)[0], Semantic::ToolStart(call) if call.kind == "task" && call.name == "spawn_agent"));
    let unknown = r#"{"type":"item.completed","item":{"id":"x","type":"hologram","y":1}}"#;
    assert!(
        matches!(&read(unknown)[0], Semantic::Other(event) if event.kind == "codex.item.hologram" && event.fields.contains("\"y\":1"))
    );
    assert!(matches!(&read(r#"{"type":"weather"}"#)[0], Semantic::Other(event) if event.kind == "codex.weather"));
    let limited = r#"{"type":"error","message":"Reconnecting... 2/5 (exceeded retry limit, last status: 429 Too Many Requests, try again in 3s)"}"#;
    let events = read(limited);
    assert!(matches!(&events[1], Semantic::RateLimited(limit) if limit.retry == Some(RetryTime::AfterMs(3000))));
    assert!(
        matches!(&events[0], Semantic::Progress(notice) if notice.facts.as_deref() == Some(r#"{"attempt":2,"maxAttempts":5,"status":429}"#))
    );
}

#[test]
fn output_of_a_running_tool_is_emitted_as_deltas() {
    let mut transcript = ExecTranscript::new(&RunRequest::default());
    let line = |phase: &str, output: &str| {
        format!(
            r#"{{"type":"item.{phase}","item":{{"id":"c","type":"command_execution","command":"ls","aggregated_output":"{output}","exit_code":null,"status":"in_progress"}}}}"#
        )
    };
    let mut deltas = String::new();
    let mut starts = 0;
    for text in [line("started", ""), line("updated", "ä"), line("updated", "äb"), line("completed", "äbc")] {
        for event in read_one(&mut transcript, OutputStream::Stdout, &text).events {
            match event {
                Semantic::ToolDelta(piece) => deltas.push_str(&piece.text),
                Semantic::ToolStart(_) => starts += 1,
                _ => {}
            }
        }
    }
    assert_eq!((deltas.as_str(), starts), ("äb", 1));
}

#[test]
fn outcome_depends_on_the_last_event_and_the_exit() {
    let end = |lines: &[&str], exit: ExitStatus| {
        let mut transcript = ExecTranscript::new(&RunRequest::default());
        for line in lines {
            read_one(&mut transcript, OutputStream::Stdout, line);
        }
        transcript.finish(exit, Vec::new()).failure
    };
    let done = r#"{"type":"turn.completed","usage":{}}"#;
    let code = |code: i32| ExitStatus { code: Some(code), ..ExitStatus::default() };
    assert_eq!(end(&[], code(0)).unwrap().kind, FailureKind::Incomplete);
    assert_eq!(end(&[done], code(0)), None);
    assert_eq!(end(&[done], code(3)), None);
    let overloaded = r#"{"type":"error","message":"overloaded"}"#;
    assert_eq!(end(&[overloaded], code(0)).unwrap().kind, FailureKind::Transient);
    assert_eq!(end(&[overloaded, done], code(0)), None);
    assert_eq!(end(&[], ExitStatus { canceled: true, ..code(0) }), None);
    assert_eq!(end(&[], ExitStatus { timed_out: true, signal: Some(9), ..ExitStatus::default() }), None);
}

#[test]
fn cut_message_is_not_an_answer() {
    let mut transcript = ExecTranscript::new(&RunRequest::default());
    let text = r#"{"type":"item.completed","item":{"id":"i","type":"agent_message","text":"aaaa"#.to_owned();
    let step = transcript.read(vec![Line { stream: OutputStream::Stdout, text, truncated: true }]);
    assert!(step.covered.is_empty());
    read_one(&mut transcript, OutputStream::Stdout, r#"{"type":"turn.completed"}"#);
    let failure = transcript.finish(ExitStatus { code: Some(0), ..ExitStatus::default() }, Vec::new()).failure.unwrap();
    assert_eq!(failure.kind, FailureKind::Incomplete);
}

#[test]
fn repaired_lines_keep_answer_and_usage() {
    let mut transcript = ExecTranscript::new(&RunRequest::default());
    let text = r#"{"type":"item.completed","item":{"id":"i","type":"agent_message","text":"party \ud83c"}}{"type":"turn.completed","usage":{"output_tokens":3,"input_tokens":1e400}}"#;
    let step = read_one(&mut transcript, OutputStream::Stdout, text);
    assert_eq!(step.covered, [0]);
    assert!(step.events.iter().any(|event| matches!(event, Semantic::Usage(usage) if usage.output_tokens == Some(3))));
    let outcome = transcript.finish(ExitStatus { code: Some(0), ..ExitStatus::default() }, Vec::new());
    assert_eq!((outcome.failure, outcome.final_text.as_deref()), (None, Some("party \u{fffd}")));
}

#[test]
fn cut_last_line_is_the_end() {
    let answered = r#"{"type":"item.completed","item":{"id":"i","type":"agent_message","text":"x"}}"#;
    let outcome = |last: &str| {
        let mut transcript = ExecTranscript::new(&RunRequest::default());
        read_one(&mut transcript, OutputStream::Stdout, answered);
        read_one(&mut transcript, OutputStream::Stdout, last);
        transcript.finish(ExitStatus { code: Some(0), ..ExitStatus::default() }, Vec::new())
    };
    assert_eq!(outcome(r#"{"type":"turn.completed","usage":{"inp"#).failure, None);
    let failed = outcome(r#"{"type":"turn.failed","error":{"message":"unexpected status 401 Unauthorized","mo"#);
    assert_eq!(failed.failure.unwrap().kind, FailureKind::Authentication);
    let unread = outcome(r#"{"usage":{"inp"#);
    assert_eq!(unread.failure.unwrap().code.as_deref(), Some("protocol"));
    assert_eq!(unread.final_text.as_deref(), Some("x"));
}

#[test]
fn work_is_complete_at_the_end_of_the_turn() {
    for last in [r#"{"type":"turn.completed","usage":{}}"#, r#"{"type":"turn.failed","error":{"message":"x"}}"#] {
        let mut transcript = ExecTranscript::new(&RunRequest::default());
        let events = read_one(&mut transcript, OutputStream::Stdout, last).events;
        assert!(
            matches!(events.last(), Some(Semantic::Progress(notice)) if notice.code == "work-done"),
            "{last}: {events:?}"
        );
    }
}

#[test]
fn run_succeeds_if_the_host_ends_codex_after_its_turn() {
    let mut transcript = ExecTranscript::new(&RunRequest::default());
    read_one(&mut transcript, OutputStream::Stdout, r#"{"type":"error","message":"overloaded"}"#);
    read_one(&mut transcript, OutputStream::Stdout, r#"{"type":"turn.completed"}"#);
    assert_eq!(transcript.finish(ExitStatus::default(), Vec::new()).failure, None);
}

#[test]
fn notice_about_the_untrusted_folder_is_dropped_and_other_warnings_are_kept() {
    let mut transcript = ExecTranscript::new(&RunRequest::default());
    let mut warnings = |line: &str| read_one(&mut transcript, OutputStream::Stderr, line).events.len();
    assert_eq!(warnings("warning: Untrusted project-local configuration is disabled. Run `codex exec --trust`."), 0);
    assert_eq!(warnings("warning: Ignored unsupported project-local config keys in /x: y"), 1);
}

#[test]
fn kept_standard_error_is_bounded() {
    let mut transcript = ExecTranscript::new(&RunRequest::default());
    for number in 0..10_000 {
        read_one(&mut transcript, OutputStream::Stderr, &format!("{number} {}", "x".repeat(5000)));
    }
    assert!(
        transcript.stderr.lines().len() <= KEPT_LINES
            && transcript.stderr.lines().iter().all(|line| line.len() <= KEPT_BYTES)
    );
    assert!(transcript.stderr.lines()[0].starts_with("0 ") && transcript.stderr.last().unwrap().starts_with("9999 "));
}

fn lines() -> impl Strategy<Value = Vec<Line>> {
    let words = r#"(\{|\}|"type"|:|"item"|"item.completed"|"id"|"x"|,|"thread.started"|"error"|"message"|null|[0-9]|\[|\]|\PC){0,24}"#;
    random_lines::lines(captures().corpus(&cases()), words)
}

proptest! {
    #[test]
    fn arbitrary_lines_do_not_panic(lines in lines(), code in prop::option::of(0..3_i32)) {
        random_lines::survives(ExecTranscript::new(&RunRequest::default()), lines, code)?;
    }

    #[test]
    fn batches_make_no_difference(lines in lines(), cut in 0_usize..24) {
        random_lines::batches_make_no_difference(|| ExecTranscript::new(&RunRequest::default()), &lines, cut)?;
    }
}
