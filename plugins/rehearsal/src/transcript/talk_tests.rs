//! Tests of the two-way protocol.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use ostler_plugin::{Transcript as _, provider::RunMode};
use serde_json::json;

fn transcript(mode: RunMode, prompt: &str) -> Transcript {
    let mut request = RunRequest { mode, prompt: prompt.to_owned(), ..RunRequest::default() };
    request.host.extra = Some(r#"{"approvals": true, "everyTool": true}"#.to_owned());
    Transcript::new(&request)
}

fn line(value: &Value) -> Line {
    Line { stream: OutputStream::Stdout, text: value.to_string(), truncated: false }
}

fn say(transcript: &mut Transcript, value: &Value) -> Step {
    transcript.read(vec![line(value)])
}

fn written(step: &Step) -> Vec<Value> {
    String::from_utf8_lossy(&step.write).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn greeted(prompt: &str) -> Transcript {
    let mut transcript = transcript(RunMode::Interactive, prompt);
    transcript.open();
    say(&mut transcript, &json!({ "type": "answer", "request": "hello" }));
    transcript
}

fn ask(id: &str, command: &str) -> Value {
    json!({
        "type": "ask", "ask": id, "phase": "ask", "kind": "command", "tool": "t", "name": "shell", "command": command,
        "editable": true, "reason": "why",
    })
}

fn decision(allow: bool) -> Decision {
    Decision { allow, message: (!allow).then(|| "no".to_owned()), input: None, stop_turn: !allow }
}

#[test]
fn messages_wait_for_the_handshake() {
    let mut transcript = transcript(RunMode::Interactive, "one");
    let step = transcript.open();
    assert_eq!(written(&step), [json!({ "type": "hello", "request": "hello" })]);
    assert!(matches!(&step.events[..], [Semantic::Other(event)] if event.kind == "protocol-request"));
    assert!(transcript.input("two".to_owned()).unwrap().write.is_empty());
    let step = say(&mut transcript, &json!({ "type": "answer", "request": "hello" }));
    let texts: Vec<Value> = written(&step).into_iter().map(|message| message["text"].clone()).collect();
    assert_eq!(texts, ["one", "two"]);
}

#[test]
fn session_without_a_prompt_is_idle_after_the_handshake() {
    let mut transcript = transcript(RunMode::Interactive, "");
    transcript.open();
    let step = say(&mut transcript, &json!({ "type": "answer", "request": "hello" }));
    assert!(step.write.is_empty());
    assert!(matches!(&step.events[..], [_, Semantic::Other(event)] if event.kind == "session-state"));
}

#[test]
fn question_is_answered_once() {
    let mut transcript = greeted("x");
    let step = say(&mut transcript, &ask("1", "ls"));
    let [Semantic::ApprovalRequested(request)] = &step.events[..] else { panic!("{:?}", step.events) };
    assert_eq!((request.call.commands.as_slice(), request.reason.as_deref()), (&["ls".to_owned()][..], Some("why")));
    let extra: Value = serde_json::from_str(request.extra.as_deref().unwrap()).unwrap();
    assert_eq!(extra, json!({ "kind": "command", "phase": "ask", "editable": true }));
    let step = transcript.decide("1".to_owned(), decision(false)).unwrap();
    let answer = written(&step);
    assert_eq!((answer[0]["allow"].clone(), answer[0]["stopTurn"].clone()), (json!(false), json!(true)));
    assert!(transcript.decide("1".to_owned(), decision(true)).unwrap().write.is_empty());
    assert!(transcript.decide("other".to_owned(), decision(true)).unwrap().write.is_empty());
}

#[test]
fn edited_input_is_refused_where_it_is_not_supported() {
    let mut transcript = greeted("x");
    let mut question = ask("1", "ls");
    question["editable"] = false.into();
    say(&mut transcript, &question);
    let edit = Decision { input: Some("{}".to_owned()), ..decision(true) };
    assert!(matches!(transcript.decide("1".to_owned(), edit), Err(Error::Unsupported(_))));
    assert_eq!(written(&transcript.decide("1".to_owned(), decision(true)).unwrap()).len(), 1, "it is still open");
}

#[test]
fn second_question_with_one_id_is_denied_and_the_first_withdrawn() {
    let mut transcript = greeted("x");
    say(&mut transcript, &ask("1", "ls"));
    let step = say(&mut transcript, &ask("1", "rm -rf /"));
    assert!(matches!(&step.events[..], [Semantic::ApprovalWithdrawn(id), Semantic::Warning(_)] if id == "1"));
    assert_eq!(written(&step)[0]["allow"], json!(false));
    assert!(transcript.decide("1".to_owned(), decision(true)).unwrap().write.is_empty());
}

#[test]
fn unknown_request_and_question_that_was_cut_are_refused_at_once() {
    let mut transcript = greeted("x");
    let step = say(&mut transcript, &json!({ "type": "request", "request": "r", "what": "dance" }));
    assert_eq!(written(&step)[0]["type"], "refused");
    let mut cut = line(&ask("1", "ls"));
    cut.text.truncate(cut.text.len() - 30);
    cut.truncated = true;
    let step = transcript.read(vec![cut]);
    assert_eq!(
        written(&step),
        [json!({
            "type": "decision", "ask": "1", "allow": false, "message": "the question could not be read",
        })]
    );
}

#[test]
fn turn_that_ends_withdraws_what_is_open() {
    let mut transcript = greeted("x");
    say(&mut transcript, &json!({ "type": "state", "state": "running", "background": 0 }));
    say(&mut transcript, &ask("1", "ls"));
    let step = transcript.interrupt().unwrap();
    assert_eq!(written(&step), [json!({ "type": "interrupt", "request": "interrupt-1" })]);
    let step = say(&mut transcript, &json!({ "type": "turn", "session": "s", "status": "interrupted" }));
    assert!(matches!(&step.events[..], [Semantic::ApprovalWithdrawn(_), Semantic::TurnComplete(end)]
        if end.status == TurnStatus::Interrupted));
}

#[test]
fn session_ends_in_order_only_between_turns() {
    let exit = |code: i32| ExitStatus { code: Some(code), ..ExitStatus::default() };
    let turn = json!({ "type": "turn", "session": "s", "status": "completed", "text": "last" });
    let running = json!({ "type": "state", "state": "running", "background": 0 });
    let idle = json!({ "type": "state", "state": "idle", "background": 0 });
    let ended = |lines: &[&Value], code| {
        let mut transcript = greeted("x");
        lines.iter().for_each(|value| drop(say(&mut transcript, value)));
        transcript.finish(exit(code), Vec::new())
    };
    let outcome = ended(&[&running, &turn, &idle], 0);
    assert_eq!((outcome.final_text.as_deref(), outcome.failure), (Some("last"), None));
    let failure = ended(&[&running, &turn, &idle, &running], 0).failure.unwrap();
    assert_eq!(failure.kind, FailureKind::Incomplete);
    assert!(ended(&[&idle], 3).failure.is_some());
    assert_eq!(ended(&[&idle], 0).final_text.as_deref(), Some(""));
}

#[test]
fn run_closes_the_input_after_its_last_turn_and_background_task() {
    let mut transcript = transcript(RunMode::NonInteractive, "x");
    transcript.open();
    say(&mut transcript, &json!({ "type": "answer", "request": "hello" }));
    let turn = json!({ "type": "turn", "session": "s", "status": "completed", "text": "a" });
    assert!(!say(&mut transcript, &turn).end_input);
    assert!(!say(&mut transcript, &json!({ "type": "state", "state": "idle", "background": 1 })).end_input);
    assert!(say(&mut transcript, &json!({ "type": "state", "state": "idle", "background": 0 })).end_input);
    let exit = ExitStatus { code: Some(0), ..ExitStatus::default() };
    assert_eq!(transcript.finish(exit, Vec::new()).final_text.as_deref(), Some("a"));
}
