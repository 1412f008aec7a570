#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use ostler_plugin::provider::{RunMode, SessionOrigin, TurnStatus};
use ostler_provider_kit::failure::shorten;
use ostler_provider_kit_testing::golden;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::detect::tests::newest;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/transcripts/claude-2.1.332-control")
}

/// The recorded conversations: lines of claude (`<`), lines for it (`>`), calls of the transcript (`!`) and the exit code (`=`),
/// after the request (`#`).
fn cases() -> Vec<String> {
    let mut cases: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().unwrap().strip_suffix(".talk").map(str::to_owned))
        .collect();
    cases.sort();
    cases
}

fn recorded(case: &str) -> Vec<(char, String)> {
    let text = std::fs::read_to_string(folder().join(format!("{case}.talk"))).unwrap();
    text.lines().map(|line| (line.chars().next().unwrap(), line.get(2..).unwrap().to_owned())).collect()
}

fn request(mode: RunMode, prompt: &str, extra: &Value, payload: &Value) -> RunRequest {
    let mut request =
        RunRequest { mode, prompt: prompt.to_owned(), payload: payload.to_string(), ..RunRequest::default() };
    request.host.extra = Some(extra.to_string());
    request
}

fn request_of(header: &str) -> RunRequest {
    let header: Value = serde_json::from_str(header).unwrap();
    let mode = if header["mode"] == "interactive" { RunMode::Interactive } else { RunMode::NonInteractive };
    let payload = if header["payload"].is_null() { json!({}) } else { header["payload"].clone() };
    RunRequest {
        resume_session: header["resume"].as_str().map(str::to_owned),
        fresh_id: header["fresh"].as_str().unwrap().to_owned(),
        ..request(mode, header["prompt"].as_str().unwrap(), &header["extra"], &payload)
    }
}

fn line(text: &str) -> Line {
    Line { stream: OutputStream::Stdout, text: text.to_owned(), truncated: false }
}

fn decision(value: &Value) -> Decision {
    let word = |key: &str| value[key].as_str().map(str::to_owned);
    Decision {
        allow: value["allow"] == true,
        message: word("message"),
        input: word("input"),
        stop_turn: value["stopTurn"] == true,
    }
}

/// Events of a conversation, what was written, whether the input was closed, and the outcome.
struct Replay {
    events: Vec<Semantic>,
    written: Vec<String>,
    expected: Vec<String>,
    ended: bool,
    outcome: Outcome,
    raw: Vec<String>,
}

fn replay(case: &str) -> Replay {
    let lines = recorded(case);
    let mut transcript = ClaudeTranscript::new(&request_of(&lines[0].1), &newest());
    let (mut events, mut written, mut expected, mut raw) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut ended, mut outcome) = (false, None);
    for (kind, text) in &lines[1..] {
        let step = match kind {
            '<' => {
                let step = transcript.read(vec![line(text)]);
                raw.extend(step.covered.is_empty().then(|| text.clone()));
                step
            }
            '!' => match text.split_once(' ').unwrap_or((text, "")) {
                ("open", _) => transcript.open(),
                ("interrupt", _) => transcript.interrupt().unwrap(),
                ("input", text) => transcript.input(serde_json::from_str(text).unwrap()).unwrap(),
                ("decide", rest) => {
                    let (id, rest) = rest.split_once(' ').unwrap();
                    transcript.decide(id.to_owned(), decision(&serde_json::from_str(rest).unwrap())).unwrap()
                }
                other => panic!("{other:?}"),
            },
            '>' => {
                expected.push(text.clone());
                continue;
            }
            '=' => {
                let code: i32 = text.parse().unwrap();
                let exit = match code {
                    -1 => ExitStatus { signal: Some(9), ..ExitStatus::default() },
                    code => ExitStatus { code: Some(code), ..ExitStatus::default() },
                };
                outcome = Some(transcript.finish(exit, Vec::new()));
                continue;
            }
            other => panic!("{other}"),
        };
        ended |= step.end_input;
        events.extend(step.events);
        written.extend(String::from_utf8(step.write).unwrap().lines().map(str::to_owned));
    }
    Replay { events, written, expected, ended, outcome: outcome.unwrap(), raw }
}

fn describe(event: &Semantic) -> String {
    match event {
        Semantic::ApprovalRequested(request) => {
            let call = &request.call;
            let files: Vec<_> = call.files.iter().map(|file| (&file.path, &file.change)).collect();
            format!(
                "approval {} of {} {} {} {:?} {files:?}{} reason={:?} {}",
                request.id,
                call.id,
                call.kind,
                call.name,
                call.commands,
                golden::of(call.parent.as_deref()),
                request.reason,
                request.extra.as_deref().unwrap()
            )
        }
        Semantic::Other(event) if matches!(event.kind.as_str(), "session-state" | "protocol-request") => {
            format!("{} {}", event.kind, event.fields)
        }
        other => crate::transcript::tests::describe(other),
    }
}

/// Compares the events of all conversations with a reviewed file. `UPDATE_GOLDEN=1` writes the file.
#[test]
fn recorded_conversations_match_the_reviewed_events() {
    let mut all = String::new();
    let cases = cases();
    for case in &cases {
        let replay = replay(case);
        let _ = writeln!(all, "== {case}");
        for event in &replay.events {
            let _ = writeln!(all, "{}", describe(event));
        }
        for raw in &replay.raw {
            let _ = writeln!(all, "raw {}", shorten(raw, 200));
        }
        let _ = writeln!(all, "-> end-input={} {:?}\n", replay.ended, replay.outcome);
    }
    assert!(cases.len() >= 17, "conversations are missing");
    let approved = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden-control.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&approved, &all).unwrap();
    }
    let text = std::fs::read_to_string(&approved).unwrap();
    for (number, (line, approved)) in all.lines().zip(text.lines()).enumerate() {
        assert_eq!(line, approved, "line {}", number + 1);
    }
    assert_eq!(all.lines().count(), text.lines().count());
}

/// The recorded lines are those with which the real claude did what it did.
#[test]
fn recorded_conversations_are_written_byte_for_byte() {
    for case in cases() {
        let replay = replay(&case);
        assert_eq!(replay.written, replay.expected, "{case}");
    }
}

#[test]
fn every_recorded_request_is_answered_once_or_withdrawn() {
    for case in cases() {
        let mut answers: BTreeMap<String, u32> = BTreeMap::new();
        let lines = recorded(&case);
        for (kind, text) in lines.iter().filter(|(kind, _)| matches!(kind, '<' | '>')) {
            let message: Value = serde_json::from_str(text).unwrap();
            match (kind, message["type"].as_str().unwrap_or_default()) {
                ('<', "control_request") => drop(answers.insert(message["request_id"].to_string(), 0)),
                ('<', "control_cancel_request") => *answers.get_mut(&message["request_id"].to_string()).unwrap() += 1,
                ('>', "control_response") => {
                    *answers.get_mut(&message["response"]["request_id"].to_string()).unwrap() += 1;
                }
                _ => {}
            }
        }
        let killed = lines.last().unwrap().1 == "-1";
        assert!(killed || answers.values().all(|count| *count == 1), "{case}: {answers:?}");
    }
}

#[test]
fn interrupted_turn_leaves_the_session_and_its_memory() {
    let replay = replay("session");
    let turns: Vec<TurnStatus> = replay
        .events
        .iter()
        .filter_map(|event| match event {
            Semantic::TurnComplete(end) => Some(end.status),
            _ => None,
        })
        .collect();
    assert_eq!(turns, [TurnStatus::Completed, TurnStatus::Interrupted, TurnStatus::Completed]);
    assert_eq!((replay.outcome.final_text.as_deref(), replay.outcome.failure), (Some("3"), None));
    assert!(!replay.ended, "the host ends a session");
}

#[test]
fn usage_of_a_session_never_decreases() {
    for case in cases() {
        let mut last = (0, 0);
        for event in replay(&case).events {
            let Semantic::Usage(usage) = event else { continue };
            let now = (usage.input_tokens.unwrap(), usage.output_tokens.unwrap());
            assert!(now.0 >= last.0 && now.1 >= last.1, "{case}: {now:?} after {last:?}");
            last = now;
        }
    }
}

#[test]
fn run_closes_the_input_after_the_turn_that_its_background_task_begins() {
    for case in ["background", "agent"] {
        let replay = replay(case);
        let turns = replay.events.iter().filter(|event| matches!(event, Semantic::TurnComplete(_))).count();
        assert_eq!((turns, replay.ended), (2, true), "{case}");
        let last: Vec<_> = replay.events.iter().rev().take(2).map(describe).collect();
        assert!(last[0].contains("work-done") && last[1].contains(r#""state":"idle","background":0"#), "{last:?}");
    }
}

/// A session that has begun with a message, and waits for claude.
fn begun(extra: &Value) -> ClaudeTranscript {
    let mut transcript = ClaudeTranscript::new(&request(RunMode::Interactive, "do it", extra, &json!({})), &newest());
    transcript.open();
    say(&mut transcript, &initialized(true));
    say(&mut transcript, &state("running"));
    transcript
}

fn initialized(confirmed: bool) -> Value {
    json!({"type": "control_response", "response": {"subtype": "success", "request_id": "initialize", "response": {
        "hooks_applied": confirmed, "hook_on_failure_supported": true,
    }}})
}

fn state(state: &str) -> Value {
    json!({"type": "system", "subtype": "session_state_changed", "state": state})
}

fn say(transcript: &mut ClaudeTranscript, message: &Value) -> Step {
    transcript.read(vec![line(&message.to_string())])
}

fn written(step: &Step) -> Vec<Value> {
    String::from_utf8_lossy(&step.write).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn can_use(id: &str, tool: &str, input: &Value) -> Value {
    json!({"type": "control_request", "request_id": id, "request": {
        "subtype": "can_use_tool", "tool_name": tool, "input": input, "tool_use_id": "toolu_1",
    }})
}

fn all() -> Value {
    json!({"approvals": true, "everyTool": true})
}

#[test]
fn messages_wait_for_the_handshake() {
    let session = request(RunMode::Interactive, "one", &json!({}), &json!({}));
    let mut transcript = ClaudeTranscript::new(&session, &newest());
    let step = transcript.open();
    assert_eq!(written(&step)[0]["request"], json!({"subtype": "initialize"}));
    assert!(transcript.input("two".to_owned()).unwrap().write.is_empty());
    let step = say(&mut transcript, &initialized(false));
    let texts: Vec<Value> =
        written(&step).iter().map(|message| message["message"]["content"][0]["text"].clone()).collect();
    assert_eq!(texts, ["one", "two"]);
    let ids: Vec<Value> = written(&step).iter().map(|message| message["uuid"].clone()).collect();
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn run_ends_if_claude_does_not_confirm_the_hook() {
    let refused = json!({"type": "control_response", "response": {
        "subtype": "error", "request_id": "initialize", "error": "no",
    }});
    for answer in [initialized(false), refused] {
        let mut transcript =
            ClaudeTranscript::new(&request(RunMode::NonInteractive, "do it", &all(), &json!({})), &newest());
        let step = transcript.open();
        let hook = &written(&step)[0]["request"]["hooks"]["PreToolUse"][0];
        assert_eq!((hook["onFailure"].as_str(), hook.get("matcher")), (Some("block"), None));
        let step = say(&mut transcript, &answer);
        assert!(step.write.is_empty(), "the prompt must not be sent");
        assert!(step.events.iter().any(|event| matches!(event, Semantic::Progress(notice) if notice.code == "stop")));
        // What it asks all the same is refused.
        let step = say(&mut transcript, &can_use("1", "Bash", &json!({"command": "ls"})));
        assert_eq!(written(&step)[0]["response"]["subtype"], "error");
        let outcome = transcript.finish(ExitStatus { code: Some(0), ..ExitStatus::default() }, Vec::new());
        assert_eq!(outcome.failure.unwrap().kind, FailureKind::Usage);
    }
}

#[test]
fn tool_that_was_used_without_the_hook_ends_the_run() {
    let result = |is_error: bool| {
        let block = json!({"type": "tool_result", "tool_use_id": "toolu_9", "content": "a", "is_error": is_error});
        json!({"type": "user", "message": {"role": "user", "content": [block]}})
    };
    let stops = |step: &Step| {
        step.events.iter().any(|event| matches!(event, Semantic::Progress(notice) if notice.code == "stop"))
    };
    let mut transcript = begun(&all());
    assert!(!stops(&say(&mut transcript, &result(true))), "refused before the hook");
    assert!(stops(&say(&mut transcript, &result(false))));
    assert!(transcript.finish(ExitStatus::default(), Vec::new()).failure.is_some());
    let mut transcript = begun(&json!({"approvals": true}));
    assert!(!stops(&say(&mut transcript, &result(false))), "the hook is not used");
}

#[test]
fn unknown_requests_are_refused_in_the_same_step() {
    let mut transcript = begun(&all());
    for request in [
        json!({"subtype": "frobnicate"}),
        json!({"subtype": "request_user_dialog", "dialog_kind": "x", "payload": {}}),
        json!({"subtype": "can_use_tool", "tool_name": "Bash", "input": "ls"}),
        json!({"subtype": "hook_callback", "callback_id": "another", "input": {"hook_event_name": "PreToolUse", "tool_input": {}}}),
        json!({"subtype": "hook_callback", "callback_id": "ostler", "input": {"hook_event_name": "Stop"}}),
        json!(null),
    ] {
        let step = say(&mut transcript, &json!({"type": "control_request", "request_id": "x", "request": request}));
        assert_eq!(written(&step)[0]["response"]["subtype"], "error", "{request}");
        assert!(matches!(&step.events[..], [Semantic::Warning(_)]), "{request}");
    }
}

#[test]
fn request_that_was_cut_is_refused() {
    let mut transcript = begun(&all());
    let text = can_use("17", "Bash", &json!({"command": "echo ".repeat(100)})).to_string();
    let cut = Line { truncated: true, ..line(&text[..200]) };
    let step = transcript.read(vec![cut]);
    assert_eq!(
        written(&step)[0]["response"],
        json!({
            "subtype": "error", "request_id": "17", "error": "the request could not be read",
        })
    );
}

#[test]
fn two_requests_with_one_id_are_both_denied() {
    let mut transcript = begun(&all());
    say(&mut transcript, &can_use("1", "Bash", &json!({"command": "ls"})));
    let step = say(&mut transcript, &can_use("1", "Bash", &json!({"command": "rm -rf /"})));
    assert_eq!(written(&step)[0]["response"]["subtype"], "error");
    assert!(matches!(&step.events[..], [Semantic::ApprovalWithdrawn(id), Semantic::Warning(_)] if id == "1"));
    let late = Decision { allow: true, message: None, input: None, stop_turn: false };
    assert!(transcript.decide("1".to_owned(), late).unwrap().write.is_empty());
}

#[test]
fn withdrawn_request_needs_no_answer() {
    let mut transcript = begun(&all());
    say(&mut transcript, &can_use("1", "Bash", &json!({"command": "ls"})));
    let step = say(&mut transcript, &json!({"type": "control_cancel_request", "request_id": "1"}));
    assert!(matches!(&step.events[..], [Semantic::ApprovalWithdrawn(id)] if id == "1"));
    let late = Decision { allow: true, message: None, input: None, stop_turn: false };
    assert!(transcript.decide("1".to_owned(), late).unwrap().write.is_empty());
}

#[test]
fn permission_is_given_with_the_input_and_nothing_is_stored() {
    let mut transcript = begun(&all());
    let mut request = can_use("1", "Bash", &json!({"command": "ls"}));
    request["request"]["permission_suggestions"] = json!([{"type": "addRules", "destination": "localSettings"}]);
    say(&mut transcript, &request);
    let allow = Decision { allow: true, message: None, input: None, stop_turn: false };
    let step = transcript.decide("1".to_owned(), allow.clone()).unwrap();
    let body = json!({"behavior": "allow", "updatedInput": {"command": "ls"}});
    assert_eq!(written(&step)[0]["response"]["response"], body);
    say(&mut transcript, &can_use("2", "Bash", &json!({"command": "ls"})));
    for invalid in ["[]", "ls", ""] {
        let edit = Decision { input: Some(invalid.to_owned()), ..allow.clone() };
        assert!(matches!(transcript.decide("2".to_owned(), edit), Err(Error::Unsupported(_))));
    }
    let edit = Decision { input: Some(r#"{"command": "pwd"}"#.to_owned()), ..allow };
    let step = transcript.decide("2".to_owned(), edit).unwrap();
    assert_eq!(written(&step)[0]["response"]["response"]["updatedInput"]["command"], "pwd");
}

#[test]
fn question_needs_answers_of_the_right_form() {
    let mut transcript = begun(&all());
    let input = json!({"questions": [{"question": "Which?", "options": [{"label": "a"}]}]});
    let step = say(&mut transcript, &can_use("1", "AskUserQuestion", &input));
    let [Semantic::ApprovalRequested(request)] = &step.events[..] else { panic!("{:?}", step.events) };
    let extra: Value = serde_json::from_str(request.extra.as_deref().unwrap()).unwrap();
    assert_eq!((extra["kind"].as_str(), extra["questions"][0]["id"].as_str()), (Some("question"), Some("q1")));
    let answer = |input: &str| Decision { allow: true, message: None, input: Some(input.to_owned()), stop_turn: false };
    assert!(transcript.decide("1".to_owned(), answer(r#"{"q1": ["a"]}"#)).is_err());
    let step = transcript.decide("1".to_owned(), answer(r#"{"answers": {"q1": ["a", "b"], "q9": ["c"]}}"#)).unwrap();
    let body = json!({"questions": input["questions"], "answers": {"Which?": "a, b"}});
    assert_eq!(written(&step)[0]["response"]["response"]["updatedInput"], body);
}

#[test]
fn turn_that_ends_denies_what_is_open() {
    let mut transcript = begun(&all());
    say(&mut transcript, &can_use("1", "Bash", &json!({"command": "ls"})));
    // A message of the user that claude has read, and one that it has not.
    let uuid = "00000000-0000-4000-8000-000000000001";
    say(&mut transcript, &json!({"type": "command_lifecycle", "command_uuid": uuid, "state": "completed"}));
    let step = say(&mut transcript, &state("idle"));
    assert!(matches!(&step.events[..], [Semantic::ApprovalWithdrawn(_), Semantic::Other(_)]), "{:?}", step.events);
    assert_eq!(written(&step)[0]["response"]["subtype"], "error");
}

#[test]
fn session_is_not_idle_while_a_message_is_on_its_way() {
    let mut transcript = begun(&json!({}));
    let uuid = "00000000-0000-4000-8000-000000000001";
    say(&mut transcript, &json!({"type": "command_lifecycle", "command_uuid": uuid, "state": "completed"}));
    transcript.input("more".to_owned()).unwrap();
    // claude had not read it when it wrote this.
    assert!(say(&mut transcript, &state("idle")).events.is_empty());
    assert!(!transcript.interrupt().unwrap().write.is_empty());
    let uuid = "00000000-0000-4000-8000-000000000002";
    say(&mut transcript, &json!({"type": "command_lifecycle", "command_uuid": uuid, "state": "started"}));
    let step = say(&mut transcript, &state("idle"));
    assert!(matches!(&step.events[..], [Semantic::Other(event)] if event.fields.contains("idle")));
    assert!(transcript.interrupt().unwrap().write.is_empty(), "there is nothing to interrupt");
}

#[test]
fn version_that_does_not_report_its_state_is_idle_after_the_result() {
    let mut transcript =
        ClaudeTranscript::new(&request(RunMode::NonInteractive, "do it", &all(), &json!({})), &newest());
    transcript.open();
    say(&mut transcript, &initialized(true));
    say(&mut transcript, &json!({"type": "system", "subtype": "init", "session_id": "s"}));
    let step = say(&mut transcript, &json!({"type": "result", "subtype": "success", "is_error": false, "result": "a"}));
    assert!(step.end_input);
}

#[test]
fn session_without_a_message_is_known_after_the_handshake() {
    let origin = |resume: Option<&str>| {
        let mut session = request(RunMode::Interactive, "", &json!({}), &json!({}));
        session.resume_session = resume.map(str::to_owned);
        let mut transcript = ClaudeTranscript::new(&session, &newest());
        transcript.open();
        let step = say(&mut transcript, &initialized(false));
        step.events.into_iter().find_map(|event| match event {
            Semantic::Session(session) => Some((session.id, session.origin)),
            _ => None,
        })
    };
    let fresh = "00000000-0000-4000-8000-000000000000";
    assert_eq!(origin(None), Some((fresh.to_owned(), SessionOrigin::Fresh)));
    let id = "11111111-2222-4333-8444-555555555555";
    assert_eq!(origin(Some(id)), Some((id.to_owned(), SessionOrigin::Resumed)));
    assert_eq!(origin(Some("a title")), None);
}

#[test]
fn older_versions_are_read_as_before() {
    let session = request(RunMode::NonInteractive, "do it", &all(), &json!({}));
    let mut transcript = ClaudeTranscript::new(&session, &crate::detect::tests::installed());
    assert!(matches!(transcript, ClaudeTranscript::Print(_)));
    assert_eq!(transcript.open(), Step::default());
    assert!(transcript.input("x".to_owned()).is_err());
}

/// Recorded lines of claude, and requests of every kind, in any order and damaged.
fn lines() -> impl Strategy<Value = Vec<Line>> {
    let mut corpus: Vec<String> = cases()
        .iter()
        .flat_map(|case| recorded(case))
        .filter(|(kind, text)| *kind == '<' && text.len() < 3000)
        .map(|(_, text)| text)
        .collect();
    for subtype in ["elicitation", "frobnicate", "hook_callback", "can_use_tool"] {
        corpus.push(json!({"type": "control_request", "request_id": "r", "request": {"subtype": subtype}}).to_string());
    }
    corpus.push(initialized(true).to_string());
    let corpus = corpus.into_iter().map(|text| line(&text)).collect();
    ostler_provider_kit_testing::random_lines::lines(
        corpus,
        "(\\{\"type\":\"(control_request|result|system)\",)?\\PC{0,40}",
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_lines_and_decisions_are_survived_and_each_request_is_answered_at_most_once(
        lines in lines(), interactive in any::<bool>(), every in any::<bool>(), decide in any::<u64>(), code in 0..3_i32,
    ) {
        let mode = if interactive { RunMode::Interactive } else { RunMode::NonInteractive };
        let extra = json!({"approvals": true, "everyTool": every});
        let mut transcript = ClaudeTranscript::new(&request(mode, "do it", &extra, &json!({})), &newest());
        let mut bytes = transcript.open().write;
        let mut open: Vec<String> = Vec::new();
        for (number, line) in lines.into_iter().enumerate() {
            let mut steps = vec![transcript.read(vec![line])];
            for event in &steps[0].events {
                match event {
                    Semantic::ApprovalRequested(request) => open.push(request.id.clone()),
                    Semantic::ApprovalWithdrawn(id) => open.retain(|open| open != id),
                    _ => {}
                }
            }
            match (decide >> (number % 32)) & 3 {
                0 => steps.push(transcript.input("more".to_owned()).unwrap()),
                1 => steps.push(transcript.interrupt().unwrap()),
                bits => if let Some(id) = open.pop() {
                    let decision = Decision { allow: bits == 2, message: None, input: None, stop_turn: true };
                    let step = transcript.decide(id.clone(), decision.clone()).unwrap();
                    // It was open, so it is answered; and only once.
                    prop_assert!(String::from_utf8_lossy(&step.write).contains("control_response"));
                    prop_assert!(transcript.decide(id, decision).unwrap().write.is_empty());
                    steps.push(step);
                },
            }
            for step in steps {
                bytes.extend(step.write);
                prop_assert!(!(interactive && step.end_input));
            }
        }
        // Everything that was written is lines of JSON objects.
        for text in String::from_utf8(bytes).unwrap().lines() {
            prop_assert!(serde_json::from_str::<Map<String, Value>>(text).is_ok(), "{}", text);
        }
        transcript.finish(ExitStatus { code: Some(code), ..ExitStatus::default() }, Vec::new());
    }

    #[test]
    fn every_whole_request_is_shown_or_answered(subtype in "(can_use_tool|hook_callback|elicitation|[a-z_]{0,12})", input in any::<bool>()) {
        let mut transcript = begun(&all());
        let mut body = json!({"subtype": subtype, "tool_name": "Bash", "callback_id": "ostler"});
        if input {
            body["input"] = json!({"hook_event_name": "PreToolUse", "tool_input": {}, "tool_name": "Bash"});
        }
        let step = say(&mut transcript, &json!({"type": "control_request", "request_id": "r", "request": body}));
        let shown = step.events.iter().filter(|event| matches!(event, Semantic::ApprovalRequested(_))).count();
        prop_assert_eq!(shown + written(&step).len(), 1);
    }

    #[test]
    fn batches_of_lines_make_no_difference(lines in lines(), cut in 0..24_usize) {
        let begin = || ClaudeTranscript::new(&request(RunMode::NonInteractive, "do it", &all(), &json!({})), &newest());
        ostler_provider_kit_testing::random_lines::batches_make_no_difference(begin, &lines, cut)?;
    }
}
