//! Requests of codex, and what a faulty codex could do.

#![allow(clippy::unwrap_used, clippy::panic)]

use ostler_plugin::provider::ApprovalRequest;
use ostler_plugin::types::ToolCall;
use ostler_provider_kit_testing::random_lines;
use proptest::prelude::*;

use super::replay_tests::captures;
use super::turn_tests::Driver;
use super::*;

fn request(id: &Value, method: &str, params: &Value) -> Value {
    let mut all = json!({ "threadId": "t", "turnId": "1", "itemId": "i" });
    all.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
    json!({ "method": method, "id": id, "params": all })
}

fn asked(driver: &Driver) -> Vec<&ApprovalRequest> {
    let events = driver.events.iter();
    events
        .filter_map(|event| match event {
            Semantic::ApprovalRequested(ask) => Some(ask),
            _ => None,
        })
        .collect()
}

fn withdrawn(driver: &Driver) -> Vec<&str> {
    let events = driver.events.iter();
    events
        .filter_map(|event| match event {
            Semantic::ApprovalWithdrawn(id) => Some(id.as_str()),
            _ => None,
        })
        .collect()
}

/// What was asked, as a call and its additional facts.
fn question(method: &str, params: &Value) -> (Driver, ToolCall, Value) {
    let mut driver = Driver::run();
    driver.read(&request(&json!(0), method, params));
    let ask = asked(&driver).first().map(|ask| (ask.call.clone(), ask.extra.clone().unwrap()));
    let (call, extra) = ask.unwrap_or_else(|| panic!("{method} was not asked: {:?}", driver.sent));
    (driver, call, serde_json::from_str(&extra).unwrap())
}

fn decide(driver: &mut Driver, id: &str, decision: Decision) -> Result<(), Error> {
    let step = driver.transcript.decide(id.to_owned(), decision)?;
    driver.take(step);
    Ok(())
}

fn yes(input: Option<&str>) -> Decision {
    Decision { allow: true, message: None, input: input.map(str::to_owned), stop_turn: false }
}

fn no(message: Option<&str>, stop_turn: bool) -> Decision {
    Decision { allow: false, message: message.map(str::to_owned), input: None, stop_turn }
}

const COMMAND: &str = "item/commandExecution/requestApproval";

fn touch() -> Value {
    json!({ "command": "/bin/bash -lc 'touch a'", "cwd": "/work" })
}

#[test]
fn command_is_allowed_denied_with_a_reason_or_cancelled() {
    for (decision, sent) in [(yes(None), "accept"), (no(None, false), "decline"), (no(Some("why"), true), "cancel")] {
        let (mut driver, call, extra) = question(COMMAND, &touch());
        assert_eq!(
            (call.kind.as_str(), call.commands.as_slice(), call.cwd),
            ("shell", &["touch a".to_owned()][..], None)
        );
        assert_eq!(extra, json!({ "kind": "command", "phase": "use", "editable": false, "title": "touch a" }));
        decide(&mut driver, "0", decision).unwrap();
        assert_eq!(driver.sent, [json!({ "id": 0, "result": { "decision": sent } })]);
    }
    let (mut driver, ..) = question(COMMAND, &touch());
    decide(&mut driver, "0", no(Some(" not on fridays "), false)).unwrap();
    assert_eq!(driver.sent[0]["result"]["decision"], "decline");
    assert_eq!(driver.sent[1]["method"], "turn/steer");
    assert_eq!(driver.sent[1]["params"]["expectedTurnId"], "1");
    let text = "The command `touch a` was denied. Reason: not on fridays";
    assert_eq!(driver.sent[1]["params"]["input"], json!([{ "type": "text", "text": text }]));
    // The turn has just ended: the reason is of no use any more.
    driver.refuse("no active turn to steer");
    assert!(driver.sent.is_empty());
}

#[test]
fn changed_input_is_refused_and_the_request_stays_open() {
    let (mut driver, ..) = question(COMMAND, &touch());
    let edit = yes(Some(r#"{"command": "ls"}"#));
    assert!(matches!(decide(&mut driver, "0", edit), Err(Error::Unsupported(_))));
    decide(&mut driver, "0", yes(None)).unwrap();
    assert_eq!(driver.sent[0]["result"]["decision"], "accept");
    // It is closed now, and other ids do not exist.
    for id in ["0", "7", "", "\"0\""] {
        decide(&mut driver, id, yes(None)).unwrap();
        assert!(driver.sent.is_empty(), "{id}");
    }
}

#[test]
fn command_names_the_network_and_permissions_that_it_would_get() {
    let context = json!({ "host": "example.com", "protocol": "https" });
    let (_, call, extra) = question(COMMAND, &json!({ "networkApprovalContext": context, "command": null }));
    assert_eq!((extra["kind"].as_str(), call.kind.as_str()), (Some("network"), "web_fetch"));
    assert_eq!(call.urls, ["https://example.com"]);
    let more =
        json!({ "command": "ls", "additionalPermissions": { "network": { "enabled": true } }, "cwd": "/elsewhere" });
    let (_, call, _) = question(COMMAND, &more);
    assert!(call.input.contains("additionalPermissions") && call.cwd.as_deref() == Some("/elsewhere"));
    let typed = json!({ "command": "rm -rf /", "kind": "writeStdin" });
    assert_eq!(question(COMMAND, &typed).1.name, "write_stdin");
}

#[test]
fn permissions_are_granted_for_the_turn() {
    let asked = json!({ "fileSystem": { "read": null, "write": ["/data"], "entries": [{"access": "read", "path": {"type": "path", "path": "/etc"}}] }, "network": null });
    let (mut driver, call, extra) = question(
        "item/permissions/requestApproval",
        &json!({ "permissions": asked, "reason": "to build", "cwd": "/work" }),
    );
    assert_eq!(extra["kind"], "permissions");
    assert_eq!(call.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["/data", "/etc"]);
    decide(&mut driver, "0", yes(None)).unwrap();
    assert_eq!(driver.sent[0]["result"]["permissions"]["fileSystem"]["write"], json!(["/data"]));
    assert_eq!(driver.sent[0]["result"]["scope"], "turn");
    let network = json!({ "permissions": { "network": { "enabled": true } } });
    let (mut driver, _, extra) = question("item/permissions/requestApproval", &network);
    assert_eq!(extra["kind"], "network");
    decide(&mut driver, "0", no(None, false)).unwrap();
    assert_eq!(driver.sent[0]["result"], json!({ "permissions": {}, "scope": "turn" }));
}

#[test]
fn questions_are_shown_with_options_and_answered_by_id() {
    let questions = json!([
        { "id": "a", "header": "H", "question": "Which?", "isOther": true, "options": [{ "label": "x", "description": "d" }] },
        { "id": "b", "header": "", "question": "Password?", "isSecret": true, "options": null },
    ]);
    let (mut driver, call, extra) = question("item/tool/requestUserInput", &json!({ "questions": questions }));
    assert_eq!(
        (extra["kind"].as_str(), call.kind.as_str(), &extra["editable"]),
        (Some("question"), "question", &json!(true))
    );
    assert_eq!(extra["questions"][0]["other"], true);
    assert_eq!((&extra["questions"][1]["secret"], extra["questions"][1].get("options")), (&json!(true), None));
    for wrong in [None, Some("x"), Some("{}"), Some(r#"{"answers": {"c": ["x"]}}"#), Some(r#"{"answers": {"a": [1]}}"#)]
    {
        assert!(matches!(decide(&mut driver, "0", yes(wrong)), Err(Error::Invalid(_))), "{wrong:?}");
    }
    decide(&mut driver, "0", yes(Some(r#"{"answers": {"a": ["x"], "b": ["s"]}}"#))).unwrap();
    assert_eq!(
        driver.sent[0]["result"],
        json!({ "answers": { "a": { "answers": ["x"] }, "b": { "answers": ["s"] } } })
    );
    let (mut driver, ..) = question("item/tool/requestUserInput", &json!({ "questions": questions }));
    decide(&mut driver, "0", no(None, true)).unwrap();
    assert_eq!(driver.sent[0]["result"], json!({ "answers": {} }));
    assert_eq!(driver.sent[1]["method"], "turn/interrupt", "the answer itself does not end the turn");
}

#[test]
fn elicitations_are_forms_urls_or_tool_uses() {
    const METHOD: &str = "mcpServer/elicitation/request";
    let schema = json!({ "type": "object", "properties": {}, "required": ["colour"] });
    let form = json!({ "serverName": "s", "mode": "form", "_meta": null, "message": "Which?", "requestedSchema": schema, "turnId": null });
    let (mut driver, _, extra) = question(METHOD, &form);
    assert_eq!((&extra["kind"], &extra["schema"]), (&json!("elicitation"), &schema));
    assert!(matches!(decide(&mut driver, "0", yes(None)), Err(Error::Invalid(_))));
    decide(&mut driver, "0", yes(Some(r#"{"colour": "red"}"#))).unwrap();
    assert_eq!(driver.sent[0]["result"], json!({ "action": "accept", "content": { "colour": "red" } }));
    let url = json!({ "serverName": "s", "mode": "url", "message": "Log in", "url": "https://example.com", "elicitationId": "e" });
    let (mut driver, call, _) = question(METHOD, &url);
    assert_eq!(call.urls, ["https://example.com"]);
    decide(&mut driver, "0", no(Some("no"), false)).unwrap();
    assert_eq!(driver.sent[0]["result"], json!({ "action": "decline" }));
    assert_eq!(driver.sent[1]["method"], "turn/steer");
    let meta = json!({ "codex_approval_kind": "mcp_tool_call", "tool_name": "rm", "tool_params": { "a": 1 } });
    let (_, call, extra) =
        question(METHOD, &json!({ "serverName": "s", "mode": "form", "_meta": meta, "message": "Allow?" }));
    assert_eq!((&extra["kind"], call.kind.as_str(), call.input.as_str()), (&json!("tool"), "mcp", r#"{"a":1}"#));
}

#[test]
fn requests_of_the_first_protocol_are_answered_in_its_words() {
    let old = |method: &str, params: Value| {
        let mut driver = Driver::run();
        driver.read(&json!({ "method": method, "id": "x", "params": params }));
        assert_eq!(asked(&driver)[0].id, "\"x\"");
        driver
    };
    let command =
        json!({ "conversationId": "t", "callId": "c", "command": ["bash", "-lc", "ls; pwd"], "cwd": "/work" });
    let mut driver = old("execCommandApproval", command.clone());
    assert_eq!(asked(&driver)[0].call.commands, ["ls; pwd"]);
    decide(&mut driver, "\"x\"", yes(None)).unwrap();
    assert_eq!(driver.sent, [json!({ "id": "x", "result": { "decision": "approved" } })]);
    let mut driver = old("execCommandApproval", command);
    decide(&mut driver, "\"x\"", no(Some("why"), false)).unwrap();
    assert_eq!(driver.sent, [json!({ "id": "x", "result": { "decision": { "denied": { "rejection": "why" } } } })]);
    let changes = json!({ "/a": { "type": "add", "content": "x" }, "/b": { "type": "update", "unified_diff": "@@", "move_path": "/c" } });
    let mut driver = old("applyPatchApproval", json!({ "conversationId": "t", "callId": "c", "fileChanges": changes }));
    let files = &asked(&driver)[0].call.files;
    assert_eq!(files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["/a", "/b", "/c"]);
    decide(&mut driver, "\"x\"", no(None, true)).unwrap();
    assert_eq!(driver.sent[0]["result"]["decision"], "abort");
}

#[test]
fn what_cannot_be_decided_is_declined_at_once() {
    let mut driver = Driver::run();
    for (method, params) in [
        ("attestation/generate", json!({})),
        ("item/tool/call", json!({ "tool": "x" })),
        ("something/new", json!({})),
        (COMMAND, json!({})),
        ("item/fileChange/requestApproval", json!({ "itemId": "never-started" })),
        ("mcpServer/elicitation/request", json!({ "serverName": "s", "mode": "openai/userVerification" })),
        ("item/tool/requestUserInput", json!({ "questions": "x" })),
    ] {
        driver.read(&request(&json!(5), method, &params));
        assert!(asked(&driver).is_empty(), "{method}");
        assert_eq!(
            (driver.sent.len(), &driver.sent[0]["id"], &driver.sent[0]["error"]["code"]),
            (1, &json!(5), &json!(-32601))
        );
        assert!(matches!(driver.events[0], Semantic::Warning(_)));
    }
    // The id is known, but not what is asked.
    let line = Line {
        stream: OutputStream::Stdout,
        text: format!(r#"{{"method":"{COMMAND}","id":6,"params":{{"command":"ls"#),
        truncated: true,
    };
    let step = driver.transcript.read(vec![line]);
    driver.take(step);
    assert!(asked(&driver).is_empty());
    assert_eq!(driver.sent[0]["id"], 6);
}

#[test]
fn id_that_is_used_twice_is_not_answered_for_the_wrong_request() {
    let mut driver = Driver::run();
    driver.read(&request(&json!(0), COMMAND, &touch()));
    driver.read(&request(&json!(0), COMMAND, &touch()));
    assert!(asked(&driver).is_empty() && driver.sent.is_empty(), "it was only repeated");
    driver.read(&request(&json!(0), COMMAND, &json!({ "command": "rm -rf /" })));
    assert!(asked(&driver).is_empty());
    assert_eq!(withdrawn(&driver), ["0"]);
    assert_eq!((driver.sent.len(), &driver.sent[0]["id"]), (1, &json!(0)));
    decide(&mut driver, "0", yes(None)).unwrap();
    assert!(driver.sent.is_empty());
    // After that, it is another request.
    driver.read(&request(&json!(0), COMMAND, &touch()));
    assert_eq!(asked(&driver)[0].id, "0#2");
    decide(&mut driver, "0#2", yes(None)).unwrap();
    assert_eq!(driver.sent, [json!({ "id": 0, "result": { "decision": "accept" } })]);
}

#[test]
fn request_is_withdrawn_when_codex_resolves_it_or_its_turn_ends() {
    let mut driver = Driver::run();
    driver.read(&request(&json!(0), COMMAND, &touch()));
    driver.read(&request(&json!(1), COMMAND, &touch()));
    driver.read(&json!({ "method": "serverRequest/resolved", "params": { "threadId": "t", "requestId": 0 } }));
    assert_eq!(withdrawn(&driver), ["0"]);
    driver.end("1", "interrupted");
    assert_eq!(withdrawn(&driver), ["1"]);
    assert_eq!(driver.sent[0], json!({ "id": 1, "error": { "code": -32601, "message": "the turn has ended" } }));
    // The answer to an answer: nothing is open any more.
    driver.read(&json!({ "method": "serverRequest/resolved", "params": { "threadId": "t", "requestId": 1 } }));
    assert!(withdrawn(&driver).is_empty());
}

#[test]
fn sub_agents_ask_with_the_tool_use_that_started_them() {
    let mut driver = Driver::run();
    let item = json!({ "type": "collabAgentToolCall", "id": "spawn", "tool": "spawnAgent", "status": "completed", "receiverThreadIds": ["sub"] });
    driver.read(&json!({ "method": "item/completed", "params": { "threadId": "t", "turnId": "1", "item": item } }));
    driver.read(&json!({ "method": "turn/started", "params": { "threadId": "sub", "turn": { "id": "s1" } } }));
    let mut ask = request(&json!(0), COMMAND, &touch());
    ask["params"]["threadId"] = "sub".into();
    ask["params"]["turnId"] = "s1".into();
    driver.read(&ask);
    assert_eq!(asked(&driver)[0].call.parent.as_deref(), Some("spawn"));
    decide(&mut driver, "0", no(Some("why"), false)).unwrap();
    assert_eq!(
        (&driver.sent[1]["params"]["threadId"], &driver.sent[1]["params"]["expectedTurnId"]),
        (&json!("sub"), &json!("s1"))
    );
    // Its text is not the answer of the run.
    let item = json!({ "type": "agentMessage", "id": "m", "text": "from the sub-agent" });
    driver.read(&json!({ "method": "item/completed", "params": { "threadId": "sub", "turnId": "s1", "item": item } }));
    assert!(matches!(&driver.events[0], Semantic::Text(piece) if piece.parent.as_deref() == Some("spawn")));
    assert_eq!(driver.transcript.finish(ExitStatus::default(), Vec::new()).final_text, None);
}

#[test]
fn number_of_open_requests_is_limited() {
    let mut driver = Driver::run();
    for id in 0..256 {
        driver.read(&request(&json!(id), COMMAND, &touch()));
        assert_eq!(asked(&driver).len(), 1);
    }
    driver.read(&request(&json!(256), COMMAND, &touch()));
    assert!(asked(&driver).is_empty() && driver.sent[0].get("error").is_some());
}

#[test]
fn answer_that_could_not_be_read_is_a_failure() {
    let mut driver = Driver::run();
    let text = r#"{"method":"item/completed","params":{"threadId":"t","turnId":"1","item":{"type":"agentMessage","id":"m","text":"the beginning"#;
    let step =
        driver.transcript.read(vec![Line { stream: OutputStream::Stdout, text: text.to_owned(), truncated: true }]);
    driver.take(step);
    // The line with the end of the turn repeats the message before the status.
    let text =
        r#"{"method":"turn/completed","params":{"threadId":"t","turn":{"id":"1","items":[{"text":"the beginning"#;
    let step =
        driver.transcript.read(vec![Line { stream: OutputStream::Stdout, text: text.to_owned(), truncated: true }]);
    driver.take(step);
    assert!(driver.ended);
    let outcome = driver.transcript.finish(ExitStatus { code: Some(0), ..ExitStatus::default() }, Vec::new());
    assert_eq!(outcome.final_text.as_deref(), Some("the beginning"));
    assert_eq!(outcome.failure.unwrap().code.as_deref(), Some("protocol"));
}

/// What happens to a transcript.
#[derive(Clone, Debug)]
enum Call {
    Read(Vec<Line>),
    Input,
    Interrupt,
    Decide(bool, bool),
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let corpus = captures().corpus(&captures().cases());
    let words = "(\\{\"method\":\"|\\{\"id\":[0-9],\"(result|error)\":\\{|\"params\":\\{|item/started|turn/completed|\"\\}|x|\\PC){0,12}";
    let call = prop_oneof![
        5 => random_lines::lines(corpus, words).prop_map(Call::Read),
        1 => Just(Call::Input),
        1 => Just(Call::Interrupt),
        2 => (any::<bool>(), any::<bool>()).prop_map(|(allow, stop)| Call::Decide(allow, stop)),
    ];
    prop::collection::vec(call, 0..12)
}

proptest! {
    /// Lines in any order, damaged and repeated, between calls of the host: nothing panics, all that is written is one
    /// message on each line, and each request of codex gets one answer, or remains open.
    #[test]
    fn requests_are_answered_at_most_once(calls in calls(), code in prop::option::of(-1..3)) {
        let mut driver = Driver::run();
        let mut open: Vec<String> = Vec::new();
        let (mut asked, mut answered) = (0_usize, 0_usize);
        for call in calls {
            let step = match call {
                Call::Read(lines) => {
                    let count = lines.len();
                    let step = driver.transcript.read(lines);
                    prop_assert!(step.covered.iter().all(|index| (*index as usize) < count));
                    step
                }
                Call::Input => driver.transcript.input("x".to_owned()).unwrap_or_default(),
                Call::Interrupt => driver.transcript.interrupt().unwrap(),
                Call::Decide(allow, stop_turn) => {
                    let Some(id) = open.first().cloned() else { continue };
                    let decision = if allow { yes(None) } else { no(Some("why"), stop_turn) };
                    match driver.transcript.decide(id, decision) {
                        Ok(step) => {
                            open.remove(0);
                            step
                        }
                        Err(_) => continue,
                    }
                }
            };
            for event in &step.events {
                match event {
                    Semantic::ApprovalRequested(ask) => {
                        prop_assert!(!open.contains(&ask.id));
                        asked += 1;
                        open.push(ask.id.clone());
                    }
                    Semantic::ApprovalWithdrawn(id) => {
                        let before = open.len();
                        open.retain(|known| known != id);
                        prop_assert_eq!(open.len() + 1, before, "{}", id);
                    }
                    _ => {}
                }
            }
            for line in String::from_utf8(step.write).unwrap().lines() {
                let message: Value = serde_json::from_str(line).unwrap();
                answered += usize::from(message.get("result").is_some());
            }
        }
        prop_assert!(answered <= asked);
        driver.transcript.finish(ExitStatus { code, ..ExitStatus::default() }, Vec::new());
    }
}
