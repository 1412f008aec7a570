//! Sessions with the real codex: its output and the calls of the host, in their order. `.stdin` contains what the transcript
//! wrote then.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use ostler_plugin::provider::{Decision, FailureKind, FileEffect, OtherEvent, RunMode};
use ostler_provider_kit_testing::captures::{Captures, read_one};
use ostler_provider_kit_testing::golden::{self, Golden};
use proptest::prelude::*;

use super::*;

pub(super) fn captures() -> Captures {
    Captures::of("codex-0.171.0")
}

/// The calls of the host: each after a number of lines of standard output. The first line is the request.
fn script(case: &str) -> (RunRequest, Vec<Value>) {
    let text = captures().part(case, "script");
    let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let first = lines.next().unwrap();
    let given = &first["request"];
    let text = |key: &str| given[key].as_str().map(str::to_owned);
    let attachments = given["harness"]["images"].as_array().into_iter().flatten();
    let mut request = RunRequest {
        mode: if given["interactive"] == true { RunMode::Interactive } else { RunMode::NonInteractive },
        prompt: text("prompt").unwrap_or_default(),
        model: text("model"),
        cwd: "/workspace".to_owned(),
        resume_session: text("resume"),
        fresh_id: text("freshId").unwrap_or_else(|| "01a22d21-0000-7000-8000-000000000000".to_owned()),
        attachments: attachments
            .map(|image| ostler_plugin::provider::Attachment {
                name: image["name"].as_str().unwrap().to_owned(),
                mime_type: image["mimeType"].as_str().unwrap().to_owned(),
                path: "/opt/test/p.png".to_owned(),
                size: 1,
            })
            .collect(),
        payload: json!({ "harness": given["harness"], "optionalFlags": given["flags"] }).to_string(),
        ..RunRequest::default()
    };
    request.host.extra = Some(given["extra"].to_string());
    (request, lines.collect())
}

fn act(transcript: &mut AppServerTranscript, call: &Value) -> Step {
    let text = |key: &str| call[key].as_str().map(str::to_owned);
    match call["do"].as_str().unwrap() {
        "input" => transcript.input(text("text").unwrap()).unwrap(),
        "interrupt" => transcript.interrupt().unwrap(),
        action @ ("allow" | "deny") => {
            let decision = Decision {
                allow: action == "allow",
                message: text("message"),
                input: call.get("input").map(Value::to_string),
                stop_turn: call["stop"] == true,
            };
            transcript.decide(text("id").unwrap(), decision).unwrap()
        }
        other => panic!("{other}"),
    }
}

/// Everything that a step returns, as events: what it writes is shown as well.
fn add(all: &mut Step, step: Step) {
    all.events.extend(step.events);
    for line in String::from_utf8(step.write.clone()).unwrap().lines() {
        all.events.push(Semantic::Other(OtherEvent { kind: ">>".to_owned(), fields: line.to_owned() }));
    }
    if step.end_input {
        all.events.push(Semantic::Other(OtherEvent { kind: "end of input".to_owned(), fields: String::new() }));
    }
    all.write.extend(step.write);
}

fn replay(case: &str) -> (Step, Outcome) {
    let (request, calls) = script(case);
    let mut transcript = AppServerTranscript::new(&request);
    let mut all = Step::default();
    add(&mut all, transcript.open());
    let mut calls = calls.into_iter().peekable();
    let mut seen = 0;
    for (index, line) in (0_u32..).zip(captures().lines(case)) {
        if line.stream == OutputStream::Stdout {
            seen += 1;
        }
        let step = transcript.read(vec![line]);
        if step.covered == [0] {
            all.covered.push(index);
        }
        add(&mut all, step);
        while let Some(call) = calls.next_if(|call| call["after"].as_u64() <= Some(seen)) {
            add(&mut all, act(&mut transcript, &call));
        }
    }
    assert_eq!(calls.next(), None, "{case}");
    (all, transcript.finish(captures().exit(case), Vec::new()))
}

fn describe(event: &Semantic) -> String {
    let call = |call: &ostler_plugin::provider::ToolCall| {
        let files: Vec<String> = call.files.iter().map(|file| format!("{:?} {}", file.effect, file.path)).collect();
        let parent = call.parent.as_ref().map_or_else(String::new, |parent| format!(" of {parent}"));
        format!("{} {} {} {:?} {files:?}{parent}", call.id, call.kind, call.name, call.commands)
    };
    match event {
        Semantic::ToolStart(use_of) => format!("tool-start {}", call(use_of)),
        Semantic::ApprovalRequested(ask) => {
            format!(
                "ask {} {} {} {}",
                ask.id,
                call(&ask.call),
                golden::short(&ask.call.input),
                ask.extra.as_deref().unwrap()
            )
        }
        Semantic::Usage(usage) => format!("usage in={:?} out={:?}", usage.input_tokens, usage.output_tokens),
        Semantic::Other(event) if event.kind == ">>" => format!(">> {}", event.fields),
        Semantic::Other(event) => format!("other {} {}", event.kind, event.fields),
        other => golden::describe(other),
    }
}

/// Compares the events and the written lines of all captures with a reviewed file. `UPDATE_GOLDEN=1` writes the file.
#[test]
fn captures_match_the_reviewed_events() {
    let approved = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden-app-server.txt");
    let cases = captures().cases();
    golden::check(&approved, Golden { captures: &captures(), cases: &cases, command_bytes: 20 }, replay, describe);
    assert!(cases.len() >= 22, "captures are missing");
}

/// codex accepted these bytes.
#[test]
fn captured_input_is_written_again() {
    let version = format!("\"version\":\"{}\"", env!("CARGO_PKG_VERSION"));
    for case in captures().cases() {
        let (all, _) = replay(&case);
        let written = String::from_utf8(all.write).unwrap().replace(&version, "\"version\":\"0.1.0\"");
        let captured = captures().part(&case, "stdin");
        for (written, captured) in written.lines().zip(captured.lines()) {
            assert_eq!(written, captured, "{case}");
        }
        assert_eq!(written.lines().count(), captured.lines().count(), "{case}");
    }
}

#[test]
fn every_request_of_codex_is_answered_in_captures() {
    for case in captures().cases().into_iter().filter(|case| case != "killed") {
        let answered = replay(&case).0.write;
        let answered = String::from_utf8(answered).unwrap();
        for line in captures().part(&case, "stdout").lines() {
            let message: Value = serde_json::from_str(line).unwrap();
            if let (Some(id), Some(method)) = (message.get("id"), message["method"].as_str()) {
                let answers = answered.lines().filter(|line| {
                    let answer: Value = serde_json::from_str(line).unwrap();
                    answer["id"] == *id && answer.get("method").is_none()
                });
                assert_eq!(answers.count(), 1, "{case}: {method} {id}");
            }
        }
    }
}

#[test]
fn captured_failures_are_classified() {
    for (case, kind, code) in [
        ("http-401", FailureKind::Authentication, "credential-refused"),
        ("http-429", FailureKind::RateLimited, "too-many-requests"),
        ("http-500", FailureKind::Transient, "overloaded"),
        ("resume-unknown", FailureKind::ResumeInvalid, "session-not-found"),
        ("config-bad-value", FailureKind::Usage, "config-invalid"),
        ("mcp-broken-required", FailureKind::Usage, "mcp-server-failed"),
        ("command-cancel", FailureKind::Incomplete, "interrupted"),
        ("killed", FailureKind::Incomplete, "crashed"),
    ] {
        let failure = replay(case).1.failure.unwrap_or_else(|| panic!("{case} did not fail"));
        assert_eq!((failure.kind, failure.code.as_deref()), (kind, Some(code)), "{case}");
    }
}

#[test]
fn sessions_are_fresh_or_resumed() {
    let origin = |case: &str| {
        let session = |event: &Semantic| match event {
            Semantic::Session(session) => Some(session.origin),
            _ => None,
        };
        replay(case).0.events.iter().find_map(session)
    };
    assert_eq!(origin("resume-first"), Some(SessionOrigin::Fresh));
    assert_eq!(origin("resume"), Some(SessionOrigin::Resumed));
    assert_eq!(origin("continue"), Some(SessionOrigin::Resumed));
    assert_eq!(origin("resume-unknown"), None);
}

#[test]
fn patch_is_shown_with_its_diffs() {
    let (all, _) = replay("patch");
    let asked: Vec<_> = all
        .events
        .iter()
        .filter_map(|event| match event {
            Semantic::ApprovalRequested(ask) => Some(ask),
            _ => None,
        })
        .collect();
    let files = |index: usize| -> Vec<(&str, FileEffect, Option<&str>)> {
        let files = asked[index].call.files.iter();
        files.map(|file| (file.path.as_str(), file.effect, file.change.as_deref())).collect()
    };
    assert_eq!(
        files(0),
        [
            ("/workspace/hello.txt", FileEffect::Modify, Some("@@ -1,2 +1,2 @@\n hello\n-world\n+moon\n")),
            ("/workspace/new/deep.txt", FileEffect::Create, Some("one\ntwo\n")),
        ]
    );
    // A move is a deletion and a creation.
    assert_eq!(files(1)[0], ("/workspace/hello.txt", FileEffect::Delete, None));
    assert_eq!((files(1)[1].0, files(1)[1].1), ("/workspace/moved.txt", FileEffect::Create));
    assert_eq!(files(2), [("/workspace/new/deep.txt", FileEffect::Delete, Some("one\ntwo\n"))]);
}

#[test]
fn structured_output_is_taken_from_the_answer() {
    assert_eq!(replay("settings").1.structured_output.as_deref(), Some(r#"{"n":1}"#));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whether codex writes its lines one by one or many at once makes no difference.
    #[test]
    fn batches_make_no_difference(case in 0_usize..22, cut in 1_usize..40) {
        let cases = captures().cases();
        let case = &cases[case % cases.len()];
        let (request, _) = script(case);
        let lines = captures().lines(case);
        let mut single = AppServerTranscript::new(&request);
        let mut batched = AppServerTranscript::new(&request);
        let (mut one, mut many) = (Step::default(), Step::default());
        add(&mut one, single.open());
        add(&mut many, batched.open());
        for line in &lines {
            let step = read_one(&mut single, line.stream, &line.text);
            one.events.extend(step.events);
            one.write.extend(step.write);
        }
        for lines in lines.chunks(cut) {
            let step = batched.read(lines.to_vec());
            many.events.extend(step.events);
            many.write.extend(step.write);
        }
        prop_assert_eq!(one.events, many.events);
        prop_assert_eq!(one.write, many.write);
    }
}
