//! Tests with captured output of the stand-in in `tests/captures`, with the folder `/work`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use ostler_plugin::Transcript as _;
use std::{fs, path::PathBuf};

const SESSION: &str = "5eed0000-0000-4000-8000-000000000001";

struct Reading {
    events: Vec<Semantic>,
    uncovered: Vec<String>,
    outcome: Outcome,
}

fn capture(name: &str, extension: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(format!("{name}.{extension}"));
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

fn lines(text: &str, stream: OutputStream) -> Vec<Line> {
    text.lines().map(|text| Line { stream, text: text.to_owned(), truncated: false }).collect()
}

fn read(name: &str, request: &RunRequest) -> Reading {
    let mut transcript = Transcript::new(request);
    let mut all = lines(&capture(name, "stderr"), OutputStream::Stderr);
    all.extend(lines(&capture(name, "stdout"), OutputStream::Stdout));
    let texts: Vec<String> = all.iter().map(|line| line.text.clone()).collect();
    let step = transcript.read(all);
    let code = capture(name, "exit").trim().parse().unwrap();
    let exit = ExitStatus { code: Some(code), ..ExitStatus::default() };
    Reading {
        uncovered: (0..).zip(texts).filter(|(index, _)| !step.covered.contains(index)).map(|(_, text)| text).collect(),
        events: step.events,
        outcome: transcript.finish(exit, Vec::new()),
    }
}

fn plain(name: &str) -> Reading {
    read(name, &RunRequest::default())
}

fn failure(name: &str) -> Failure {
    let outcome = plain(name).outcome;
    assert_eq!(outcome.final_text, None, "{name}");
    outcome.failure.expect(name)
}

#[test]
fn text_deltas_and_answer_are_read() {
    let reading = plain("say");
    let piece = |text: &str| TextPiece { message: "answer".into(), text: text.into(), parent: None };
    assert_eq!(reading.events.len(), 8);
    assert_eq!(reading.events[0], Semantic::Session(SessionInfo { id: SESSION.into(), origin: SessionOrigin::Fresh }));
    assert!(matches!(&reading.events[1], Semantic::Progress(notice) if notice.code == "rehearsal"));
    assert_eq!(reading.events[2], Semantic::TextDelta(piece("hello ")));
    assert_eq!(reading.events[3], Semantic::TextDelta(piece("there")));
    assert_eq!(reading.events[4], Semantic::Text(piece("hello there")));
    assert!(
        matches!(&reading.events[5], Semantic::Usage(usage) if usage.output_tokens == Some(3) && !usage.whole_session)
    );
    assert!(matches!(&reading.events[6], Semantic::TurnComplete(end) if end.status == TurnStatus::Completed));
    assert!(matches!(&reading.events[7], Semantic::Progress(notice) if notice.code == "work-done"));
    assert!(reading.uncovered.is_empty(), "{:?}", reading.uncovered);
    assert_eq!(reading.outcome.final_text.as_deref(), Some("hello there"));
    assert_eq!(reading.outcome.failure, None);
}

#[test]
fn command_with_output_is_read() {
    let reading = plain("run");
    let start = reading.events.iter().find_map(|event| match event {
        Semantic::ToolStart(call) => Some(call),
        _ => None,
    });
    let start = start.unwrap();
    assert_eq!((start.kind.as_str(), start.id.as_str()), ("shell", "tool-1"));
    assert_eq!(start.commands, ["echo out; echo err >&2; exit 3"]);
    assert_eq!(start.cwd.as_deref(), Some("/work"));
    let result = reading.events.iter().find_map(|event| match event {
        Semantic::ToolResult(result) => Some(result),
        _ => None,
    });
    let result = result.unwrap();
    assert_eq!(result.output, "out\nerr\n");
    assert_eq!((result.is_error, result.exit_code), (true, Some(3)));
    // A command that fails does not make the run fail.
    assert_eq!(reading.outcome.failure, None);
}

#[test]
fn refused_command_is_an_error_of_the_tool() {
    let reading = plain("run-refused");
    assert!(reading.events.iter().any(|event| matches!(
        event,
        Semantic::ToolResult(result) if result.is_error && result.output.contains("read-only")
    )));
    assert_eq!(reading.outcome.failure, None);
}

#[test]
fn thinking_structured_output_and_usage_are_read() {
    let reading = plain("think");
    assert!(reading.events.iter().any(|event| matches!(event, Semantic::Thinking(_))));
    assert_eq!(reading.outcome.final_text.as_deref(), Some("so"));

    let reading = plain("json");
    assert_eq!(reading.outcome.structured_output.as_deref(), Some(r#"{"answer":42}"#));

    let reading = plain("usage");
    assert!(reading.events.iter().any(|event| matches!(
        event,
        Semantic::Usage(usage) if usage.input_tokens == Some(120) && usage.output_tokens == Some(7)
    )));
}

#[test]
fn every_class_of_failure_is_read() {
    for (name, kind, code) in [
        ("fail-unknown", FailureKind::Unknown, None),
        ("fail-authentication", FailureKind::Authentication, Some("http-401")),
        ("fail-transient", FailureKind::Transient, Some("http-503")),
        ("fail-rate-limited", FailureKind::RateLimited, Some("http-429")),
        ("fail-resume-invalid", FailureKind::ResumeInvalid, Some("session-not-found")),
        ("fail-usage", FailureKind::Usage, Some("unknown-option")),
        ("fail-limit", FailureKind::Limit, Some("quota")),
        ("fail-incomplete", FailureKind::Incomplete, Some("ended-early")),
        ("max-turns", FailureKind::Limit, Some("max-turns")),
        ("bad-option", FailureKind::Usage, Some("unknown-option")),
    ] {
        let failure = failure(name);
        assert_eq!(failure.kind, kind, "{name}");
        assert_eq!(failure.code.as_deref(), code, "{name}");
        assert!(!failure.message.is_empty(), "{name}");
    }
    assert_eq!(failure("fail-unknown").message, "something went wrong, as asked");
    assert_eq!(failure("bad-option").message, "unknown option '--nope'");
    assert_eq!(failure("fail-rate-limited").retry, Some(RetryTime::AfterMs(1500)));
    assert_eq!(plain("failonce-second").outcome.failure, None);
}

#[test]
fn resumed_missing_and_replaced_sessions_are_reported() {
    let origin = |reading: &Reading| match &reading.events[0] {
        Semantic::Session(session) => session.origin,
        other => panic!("{other:?}"),
    };
    let resume = |id: &str| RunRequest { resume_session: Some(id.to_owned()), ..RunRequest::default() };
    assert_eq!(origin(&read("resume", &resume(SESSION))), SessionOrigin::Resumed);
    // With `--continue`, no session id is requested.
    assert_eq!(origin(&read("resume", &RunRequest::default())), SessionOrigin::Resumed);
    assert_eq!(origin(&read("say", &resume("another"))), SessionOrigin::Replaced);
    assert_eq!(origin(&read("say", &resume(SESSION))), SessionOrigin::Replaced);

    let invalid = read("resume-invalid", &resume("5eed0000-0000-4000-8000-00000000dead"));
    assert!(invalid.events.is_empty());
    assert_eq!(invalid.outcome.failure.unwrap().kind, FailureKind::ResumeInvalid);
}

#[test]
fn other_output_forms_are_read() {
    let reading = plain("format-json");
    assert!(matches!(reading.events[0], Semantic::Session(_)));
    assert!(matches!(&reading.events[1], Semantic::Text(piece) if piece.text == "hello"));
    assert_eq!(reading.outcome.final_text.as_deref(), Some("hello"));

    let text = RunRequest { payload: r#"{"outputFormat": "text"}"#.to_owned(), ..RunRequest::default() };
    let reading = read("format-text", &text);
    assert!(matches!(&reading.events[..], [Semantic::Session(session)] if session.id == SESSION));
    assert_eq!((reading.outcome.final_text, reading.outcome.failure), (None, None));
    let failed = read("format-text-failed", &text).outcome.failure.unwrap();
    assert_eq!(failed.kind, FailureKind::Authentication);
    assert_eq!(failed.message, "the credentials are refused, as asked");
}

#[test]
fn lines_outside_the_protocol_remain_output() {
    let reading = plain("raw");
    assert_eq!(reading.uncovered.len(), 2, "{:?}", reading.uncovered);
    assert!(reading.uncovered.iter().all(|line| line.starts_with("raw: ")));

    let mut transcript = Transcript::new(&RunRequest::default());
    let mut long = lines("{\"type\":\"text\"", OutputStream::Stdout);
    long[0].truncated = true;
    long.extend(lines("[1]\nnull\n{\"type\":\"new-kind\"}\n", OutputStream::Stdout));
    let step = transcript.read(long);
    assert!(step.covered.is_empty());
    assert!(matches!(&step.events[..], [Semantic::Warning(notice)] if notice.code == "protocol"));
}

#[test]
fn last_line_that_needs_repair_is_the_result() {
    let mut transcript = Transcript::new(&RunRequest::default());
    let text = format!(
        r#"{{"type":"text","message":"m","text":"party"}}{{"type":"result","session":"{SESSION}","status":"completed","text":"party \ud83c"}}"#
    );
    let step = transcript.read(lines(&text, OutputStream::Stdout));
    assert_eq!(step.covered, [0]);
    let outcome = transcript.finish(ExitStatus { code: Some(0), ..ExitStatus::default() }, Vec::new());
    assert_eq!((outcome.failure, outcome.final_text.as_deref()), (None, Some("party \u{fffd}")));
}

#[test]
fn unreadable_line_is_reported_if_there_is_no_last_line() {
    let mut transcript = Transcript::new(&RunRequest::default());
    let step = transcript.read(lines(r#"{"session":"x","text":"some te"#, OutputStream::Stdout));
    assert!(matches!(&step.events[..], [Semantic::Warning(notice)] if notice.code == "protocol"));
    let exit = ExitStatus { code: Some(0), ..ExitStatus::default() };
    assert_eq!(transcript.finish(exit, Vec::new()).failure.unwrap().code.as_deref(), Some("protocol"));
}

#[test]
fn unexpected_ends_are_described() {
    let end = |code, signal| {
        let exit = ExitStatus { code, signal, ..ExitStatus::default() };
        let mut transcript = Transcript::new(&RunRequest::default());
        transcript.finish(exit, Vec::new()).failure.unwrap()
    };
    assert_eq!(end(Some(0), None).kind, FailureKind::Incomplete);
    assert_eq!(end(None, Some(9)).code.as_deref(), Some("crashed"));
    assert_eq!(end(Some(70), None).kind, FailureKind::Unknown);
}
