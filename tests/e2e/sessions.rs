//! Interactive sessions and approvals, with the stand-in agent.

use crate::support::guests::hostile::{self, WORD};
use crate::support::guests::tools::{self, Verdict};
use crate::support::{
    SecretProbe, Session, TIMEOUT, TestHost, check_run_events, end_of, of_type, semantics, signal, wait_until,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::time::Duration;

/// A host with room for several runs.
fn host(more: &str) -> TestHost {
    TestHost::granted(&format!("[scheduler]\nglobal = 8\nper_provider = 8\n{more}"))
}

fn running(config: &str) -> TestHost {
    let host = host(config);
    host.ensure_running();
    host
}

#[test]
fn session_takes_turns_keeps_its_memory_and_ends_in_order() {
    let host = running("");
    let session = Session::start(&host, "REMEMBER the blue door", &json!({}));
    assert!(session.started["sessionId"].is_string(), "{}", session.started);
    session.wait_for_turns(1);
    assert_eq!(session.send("SAY second").unwrap(), json!({"accepted": 10}));
    session.wait_for_turns(2);
    session.send("RECALL").unwrap();
    assert_eq!(session.wait_for_turns(3), "completed");
    assert!(session.text().contains("the blue door"), "{}", session.text());
    assert_eq!(host.record(&session.run)["status"], "running");
    assert_eq!(session.end(), "completed");
    assert_eq!(session.end(), "completed", "it is not an error to end it twice");

    let events = session.events();
    check_run_events(&events);
    let opened = of_type(&events, "session.opened");
    assert_eq!(opened.len(), 1);
    assert_eq!(opened[0]["payload"]["sessionId"], session.started["sessionId"]);
    let inputs = of_type(&events, "session.input_accepted");
    assert_eq!(inputs.iter().map(|input| input["payload"]["bytes"].as_u64().unwrap()).collect::<Vec<_>>(), [10, 6]);
    let closed = of_type(&events, "session.closed");
    assert_eq!((closed.len(), &closed[0]["payload"]["reason"]), (1, &json!("ended")));
    assert!(end_of(&events).unwrap()["payload"]["finalText"].as_str().unwrap().contains("the blue door"));
    host.assert_nothing_runs(TIMEOUT);
}

#[test]
fn interrupt_ends_the_turn_and_keeps_the_session() {
    let host = running("");
    let session = Session::start(&host, "SLOW 600", &json!({}));
    session.wait_for("a piece of the answer", |event| event["payload"]["kind"] == "text_delta");
    assert!(session.interrupt());
    assert_eq!(session.wait_for_turns(1), "interrupted");
    wait_until("an idle session", TIMEOUT, || (!session.interrupt()).then_some(()));
    session.send("SAY and now").unwrap();
    assert_eq!(session.wait_for_turns(2), "completed");
    session.send("SLOW 600").unwrap();
    // Its turn has not begun yet.
    assert_eq!(session.end(), "completed", "the turn is interrupted as soon as it runs");
}

#[test]
fn approval_is_answered_by_a_user_and_the_agent_is_told() {
    let host = running("");
    let session = Session::start(&host, "ASK shell: touch a", &json!({}));
    let open = session.approvals(1);
    let approval = &open[0];
    assert_eq!((&approval["kind"], &approval["command"]), (&json!("command"), &json!("touch a")), "{approval:#}");
    assert_eq!((&approval["runId"], &approval["provider"]), (&json!(session.run), &json!("rehearsal")));
    let record = host.record(&session.run);
    assert_eq!((&record["waitingFor"], record["waitingSince"].is_string()), (&json!("approval"), true));
    let inbox = host.call("get_inbox", &json!({})).unwrap();
    assert_eq!(inbox["approvals"], json!([approval]));
    let decided = session.answer(approval, &json!({"allow": false, "message": "use make instead"})).unwrap();
    assert_eq!((&decided["decision"], &decided["decidedBy"]), (&json!("deny"), &json!("user")));
    session.wait_for_turns(1);
    assert!(session.text().contains("use make instead"), "{}", session.text());
    assert!(host.record(&session.run)["waitingFor"].is_null());

    session.send("ASK shell: touch b").unwrap();
    let open = session.approvals(1);
    session.answer(&open[0], &json!({"allow": true, "input": {"command": "touch c"}})).unwrap();
    session.wait_for_turns(2);
    assert!(session.text().contains("touch c"), "{}", session.text());
    let late = session.answer(&open[0], &json!({"allow": true})).unwrap_err();
    assert_eq!(late.kind(), "CONFLICT");
    assert!(late.text().contains("already allowed by unix pid="), "{}", late.text());
    session.end();

    let events = session.events();
    let audits: Vec<&Value> = of_type(&events, "run.policy_audit")
        .into_iter()
        .filter(|event| !event["payload"]["decision"].is_null())
        .collect();
    assert_eq!(audits.len(), 2, "{audits:#?}");
    assert_eq!(audits[0]["payload"]["decision"]["client"], "rpc");
    let trail = host.call("list_audit", &json!({"kind": "approval", "runId": session.run})).unwrap();
    assert_eq!(trail["records"].as_array().unwrap().len(), 2, "{trail:#}");
}

#[test]
fn one_of_two_answers_at_once_wins() {
    let host = running("");
    let session = Session::start(&host, "ASK shell: touch a", &json!({}));
    let approval = session.approvals(1).remove(0);
    let answers: Vec<_> = std::thread::scope(|scope| {
        let answer = |allow: bool| {
            let (session, approval) = (&session, &approval);
            scope.spawn(move || session.answer(approval, &json!({ "allow": allow })))
        };
        [answer(true), answer(false)].map(|answer| answer.join().unwrap()).into()
    });
    let won = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(won, 1, "{answers:?}");
    let lost = answers.iter().find_map(|answer| answer.as_ref().err()).unwrap();
    assert_eq!(lost.kind(), "CONFLICT");
    session.wait_for_turns(1);
    assert_eq!(session.decisions().len(), 1);
    session.end();
}

#[test]
fn approval_that_nobody_answers_is_denied_after_its_time_limit() {
    let host = running("[policy]\napproval_timeout_seconds = 5\n");
    // The time of waiting does not count towards the time limit.
    let more = json!({"timeoutSeconds": 5, "harness": {"permissions": {"approvalPolicy": "on-request"}}});
    let run = host.submit("ASK shell: touch a\nSAY done", &more).unwrap();
    let session = Session::attach(&host, &run);
    let approval = session.approvals(1).remove(0);
    let events = host.wait_for_end(&run);
    assert_eq!(end_of(&events).unwrap()["type"], "run.completed", "{:#}", end_of(&events).unwrap());
    assert_eq!(session.decisions(), ["deny by timeout"]);
    assert!(session.text().contains("nobody answered"), "{}", session.text());
    assert_eq!(session.answer(&approval, &json!({"allow": true})).unwrap_err().kind(), "CONFLICT");
}

#[test]
fn questions_are_answered_by_their_ids_and_secret_answers_are_not_stored() {
    let host = running("");
    // No rule knows it, and the agent repeats it.
    let secret = "river-stone-by-the-77th-bridge".to_owned();
    let session = Session::start(&host, "QUESTION Which color? | red | blue || secret: Which token?", &json!({}));
    let approval = session.approvals(1).remove(0);
    assert_eq!(approval["kind"], "question");
    assert_eq!(host.record(&session.run)["waitingFor"], "question");
    let questions = approval["questions"].as_array().unwrap();
    assert_eq!(questions[0]["options"][1]["label"], "blue");
    assert_eq!(questions[1]["secret"], true);
    let ids: Vec<&str> = questions.iter().map(|question| question["id"].as_str().unwrap()).collect();
    for wrong in [json!({"allow": true}), json!({"answers": {"nothing": ["x"]}}), json!({"answers": {ids[0]: ["red"]}})]
    {
        assert_eq!(session.answer(&approval, &wrong).unwrap_err().kind(), "INVALID_PARAMS", "{wrong}");
    }
    session.answer(&approval, &json!({"answers": {ids[0]: ["green"], ids[1]: [secret]}})).unwrap();
    session.wait_for_turns(1);
    assert!(session.text().contains("green"), "{}", session.text());
    assert!(session.text().contains("[REDACTED:secret-answer]"), "{}", session.text());
    session.end();
    host.stop();
    SecretProbe::new(&[secret]).assert_not_below(&host.home(), &[]);
}

#[test]
fn secrets_of_a_session_are_redacted_everywhere() {
    let host = running("");
    let secret = |seed: &str| ["gh", "p_", seed, "wQ8zT1xV6bN9mR4cL7yJ2hF5dS0gPaUeIo"].concat();
    let secrets = ["A1", "B2", "C3", "D4"].map(secret);
    let session = Session::start(&host, &format!("ASK shell: echo {}", secrets[0]), &json!({}));
    let approval = session.approvals(1).remove(0);
    assert!(approval["command"].as_str().unwrap().contains("[REDACTED:"), "{approval:#}");
    let echoed = session.answer(&approval, &json!({"allow": true, "input": approval["input"]})).unwrap_err();
    assert_eq!(echoed.kind(), "INVALID_PARAMS", "a placeholder is not run");
    session.answer(&approval, &json!({"allow": false, "message": format!("not {}", secrets[1])})).unwrap();
    session.wait_for_turns(1);
    session.send(&format!("ASK patch: a.txt {}", secrets[2])).unwrap();
    let approval = session.approvals(1).remove(0);
    assert!(approval["diff"].as_str().unwrap().contains("[REDACTED:"), "{approval:#}");
    session.answer(&approval, &json!({"allow": true})).unwrap();
    session.wait_for_turns(2);
    session.send(&format!("SAY {}", secrets[3])).unwrap();
    session.wait_for_turns(3);
    session.end();
    let probe = SecretProbe::new(&secrets);
    probe.assert_not_in("the events", serde_json::to_string(&session.events()).unwrap());
    host.stop();
    // The stand-in keeps its own sessions, as every CLI does.
    probe.assert_not_below(&host.home().join("data"), &[]);
}

/// Each fault of a protocol ends the run with a clear message, or only the request; nothing hangs.
#[test]
fn faults_of_the_protocol_end_with_a_reason_and_leave_nothing_behind() {
    let host = running("[runner]\ngrace_seconds = 1\n");
    let garbage = Session::start(&host, "GARBAGE", &json!({}));
    garbage.wait_for_turns(1);
    garbage.send("SAY still here").unwrap();
    garbage.wait_for_turns(2);
    garbage.end();

    let died = Session::start(&host, "OPEN shell: rm -rf build\nLISTEN\nDIE 3", &json!({}));
    let approval = died.approvals(1).remove(0);
    died.send("go").unwrap();
    let events = host.wait_for_end(&died.run);
    assert_eq!(end_of(&events).unwrap()["type"], "run.failed");
    assert_eq!(semantics(&events, "approval_withdrawn").len(), 1);
    assert!(host.call("list_approvals", &json!({})).unwrap().as_array().unwrap().is_empty());
    let error = died.answer(&approval, &json!({"allow": true})).unwrap_err();
    assert!(error.kind() == "CONFLICT" && error.text().contains("has ended"), "{}", error.text());

    let twice = Session::start(&host, "ASK-TWICE shell: rm -rf build", &json!({}));
    twice.wait_for_turns(1);
    assert!(twice.approvals(0).is_empty(), "an answer could reach the wrong one: both are declined");
    assert!(twice.decisions().iter().all(|decision| decision.starts_with("deny")), "{:?}", twice.decisions());
    twice.end();

    let withdrawn = Session::start(&host, "WITHDRAW 50 shell: ls", &json!({}));
    withdrawn.wait_for("the withdrawal", |event| event["payload"]["kind"] == "approval_withdrawn");
    withdrawn.wait_for_turns(1);
    assert!(withdrawn.approvals(0).is_empty());
    withdrawn.send("WITHDRAW answered shell: ls").unwrap();
    let open = withdrawn.approvals(1);
    // The CLI withdraws the question while the answer is under way: whichever is first counts, and nothing hangs.
    let _ = withdrawn.answer(&open[0], &json!({"allow": true}));
    withdrawn.wait_for_turns(2);
    withdrawn.end();

    let unknown = Session::start(&host, "UNKNOWN-REQUEST", &json!({}));
    assert_eq!(unknown.wait_for_turns(1), "completed", "it was declined at once");
    unknown.end();

    let big = Session::start(&host, "ASK-BIG 20", &json!({}));
    // A line that is longer than the plugin may read ends with a reason, a shorter one is asked about.
    let seen = wait_until("a reaction", TIMEOUT, || {
        let events = big.events();
        let cut = of_type(&events, "run.warning").iter().any(|warning| warning["payload"]["code"] == "LINE_TRUNCATED");
        let asked = !semantics(&events, "approval_requested").is_empty();
        (cut || asked).then_some(asked)
    });
    assert!(!seen, "the limit of a line is 16 MiB");
    host.call("cancel_run", &json!({"runId": big.run})).unwrap();
    host.assert_nothing_runs(TIMEOUT);
}

#[test]
fn cli_that_does_not_answer_the_handshake_is_ended_with_a_reason() {
    let host = running("[runner]\ngrace_seconds = 1\n");
    let session = Session::start(&host, "HANDSHAKE none", &json!({}));
    let events = host.wait_for_end(&session.run);
    let end = &end_of(&events).unwrap()["payload"];
    assert_eq!(end["reason"], "incomplete", "{end:#}");
    assert!(end["message"].as_str().unwrap().contains("did not answer"), "{end:#}");
    let closed = of_type(&events, "session.closed");
    assert_eq!(closed[0]["payload"]["reason"], "failed");
    host.assert_nothing_runs(TIMEOUT);
}

#[test]
fn idle_session_ends_by_itself_and_one_that_waits_for_a_user_does_not() {
    let host = running("");
    let limit = json!({"timeoutSeconds": 5});
    let waiting = Session::start(&host, "ASK shell: ls", &limit);
    let approval = waiting.approvals(1).remove(0);
    let idle = Session::start(&host, "SAY hello", &limit);
    let events = host.wait_for_end(&idle.run);
    assert_eq!(end_of(&events).unwrap()["type"], "run.completed");
    assert_eq!(of_type(&events, "session.closed")[0]["payload"]["reason"], "idle");
    waiting.answer(&approval, &json!({"allow": true})).unwrap();
    let events = host.wait_for_end(&waiting.run);
    assert_eq!(of_type(&events, "session.closed")[0]["payload"]["reason"], "idle");
}

#[test]
fn session_that_a_host_crash_interrupted_is_resumed_with_its_memory() {
    let host = host("");
    let pid = host.ensure_running();
    let session = Session::start(&host, "REMEMBER the green gate", &json!({}));
    session.wait_for_turns(1);
    signal(pid, Signal::SIGKILL);
    host.ensure_running();
    let record = wait_until("the interrupted run", TIMEOUT, || {
        Some(host.record(&session.run)).filter(|record| record["status"] == "interrupted")
    });
    assert_eq!(record["sessionId"], session.started["sessionId"]);
    let inbox = host.call("get_inbox", &json!({})).unwrap();
    assert_eq!(inbox["failures"][0]["runId"], session.run);
    let resumed = host.call("resume_session", &json!({"runId": session.run, "prompt": "RECALL"})).unwrap();
    assert_eq!(resumed["attached"], false);
    let again = Session::attach(&host, resumed["runId"].as_str().unwrap());
    again.wait_for_turns(1);
    assert!(again.text().contains("the green gate"), "{}", again.text());
    // To attach to the open session starts nothing.
    let attached = host.call("resume_session", &json!({"runId": again.run, "after": 0})).unwrap();
    assert_eq!((&attached["attached"], &attached["runId"]), (&json!(true), &json!(again.run)));
    again.wait_for("the replay", |event| event["payload"]["stage"] == "session_replayed");
    again.end();
    // Without a message, the resumed session waits for input.
    let waiting = host.call("resume_session", &json!({"runId": again.run})).unwrap();
    let third = Session::attach(&host, waiting["runId"].as_str().unwrap());
    third.send("RECALL").unwrap();
    third.wait_for_turns(1);
    assert!(third.text().contains("the green gate"), "{}", third.text());
    third.end();
    assert_eq!(host.call("acknowledge_failures", &json!({})).unwrap()["acknowledged"], 1);
    assert_eq!(host.call("get_inbox", &json!({})).unwrap()["failuresTotal"], 0);
}

#[test]
fn wrong_input_to_a_session_is_refused_with_a_reason() {
    let host = running("");
    let session = Session::start(&host, "SAY hello", &json!({}));
    session.wait_for_turns(1);
    for (data, kind) in
        [(json!("x".repeat(10 << 20)), "INVALID_PARAMS"), (json!(""), "INVALID_PARAMS"), (json!(7), "INVALID_PARAMS")]
    {
        let error = host.call("send_session_input", &json!({"runId": session.run, "data": data})).unwrap_err();
        assert_eq!(error.kind(), kind);
    }
    for binary in ["SAY \u{0}", "SAY \u{1b}[31m"] {
        assert_eq!(session.send(binary).unwrap_err().kind(), "POLICY_DENIED", "{binary:?}");
    }
    // What is no control character, and a large message, arrive as they are.
    assert_eq!(session.send("SAY \u{fffd}\u{202e}").unwrap()["accepted"], 10);
    session.wait_for_turns(2);
    session.send(&format!("SAY {}", "y".repeat(1 << 20))).unwrap();
    session.wait_for_turns(3);
    session.end();
    assert_eq!(session.send("SAY late").unwrap_err().kind(), "CONFLICT");
    let unknown = json!({"runId": "0199c0de-0000-7000-8000-000000000000", "data": "x"});
    assert_eq!(host.call("send_session_input", &unknown).unwrap_err().kind(), "NOT_FOUND");
    let plain = host.submit("SLEEP 60", &json!({})).unwrap();
    let plain = Session::attach(&host, &plain);
    plain.wait_for("its start", |event| event["type"] == "run.started");
    let error = wait_until("a run that runs", TIMEOUT, || {
        let error = plain.send("x").unwrap_err();
        (!error.text().contains("starting")).then_some(error)
    });
    assert!(error.kind() == "CONFLICT" && error.text().contains("not a session"), "{}", error.text());
    let error = host.call("end_session", &json!({"runId": plain.run})).unwrap_err();
    assert_eq!(error.kind(), "CONFLICT");
    host.call("cancel_run", &json!({"runId": plain.run})).unwrap();
    let refused = host.call(
        "start_interactive_session",
        &host.payload("SAY x", &json!({"mode": "non-interactive", "maxRetries": 1})),
    );
    assert_eq!(refused.unwrap_err().kind(), "INVALID_PARAMS");
}

/// A host with this policy plugin.
fn host_with_policy(policy: &[u8]) -> TestHost {
    let host = TestHost::with_config("[scheduler]\nglobal = 8\nper_provider = 8\n");
    let folder = host.home().join("plugins");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("strict.wasm"), policy).unwrap();
    // This starts the host, with the policy.
    host.run(&["grants", "add", host.work().to_str().unwrap()]).ok();
    host
}

#[test]
fn policy_decides_before_a_user_is_asked() {
    let host = host_with_policy(&tools::policy("strict", WORD, Verdict::Deny, "not with this word"));
    let session = Session::start(&host, &format!("ASK shell: echo {WORD}"), &json!({}));
    session.wait_for_turns(1);
    assert_eq!(session.decisions(), ["deny by policy"]);
    assert!(session.text().contains("not with this word"), "the agent is told: {}", session.text());
    // Other uses are left to the user.
    session.send("ASK shell: ls").unwrap();
    let approval = session.approvals(1).remove(0);
    // The policy judges what the user makes of it.
    let edited = json!({"allow": true, "input": {"command": format!("echo {WORD}")}});
    assert_eq!(session.answer(&approval, &edited).unwrap_err().kind(), "POLICY_DENIED");
    session.answer(&approval, &json!({"allow": true})).unwrap();
    session.wait_for_turns(2);
    assert_eq!(session.decisions(), ["deny by policy", "allow by user"]);
    session.end();
}

#[test]
fn policy_that_asks_leaves_the_decision_to_the_user() {
    let host = host_with_policy(&tools::policy("strict", WORD, Verdict::Ask, "a person decides this"));
    let more = json!({"harness": {"permissions": {"autoApprove": true}}});
    let session = Session::start(&host, &format!("ASK shell: ls\nASK shell: echo {WORD}"), &more);
    let approval = session.approvals(1).remove(0);
    assert_eq!(session.decisions(), ["allow by host"], "the payload allows the first one");
    assert_eq!(approval["denyByDefault"], true);
    assert!(approval["reason"].as_str().unwrap().contains("a person decides this"), "{approval:#}");
    session.answer(&approval, &json!({"allow": false})).unwrap();
    session.wait_for_turns(1);
    session.end();
}

#[test]
fn policy_that_allows_spares_the_user_the_question() {
    let host = host_with_policy(&tools::policy("strict", WORD, Verdict::Allow, "this is harmless"));
    let session = Session::start(&host, &format!("ASK shell: echo {WORD}"), &json!({}));
    session.wait_for_turns(1);
    assert_eq!(session.decisions(), ["allow by policy"]);
    session.end();
}

#[test]
fn eight_sessions_at_once_do_not_mix() {
    let host = running("");
    let sessions: Vec<Session<'_>> =
        (0..8).map(|number| Session::start(&host, &format!("REMEMBER number {number}"), &json!({}))).collect();
    for session in &sessions {
        session.wait_for_turns(1);
        session.send("RECALL").unwrap();
    }
    for (number, session) in sessions.iter().enumerate() {
        session.wait_for_turns(2);
        assert!(session.text().contains(&format!("number {number}")), "{}", session.text());
    }
    let ended: Vec<String> = sessions.iter().map(Session::end).collect();
    assert!(ended.iter().all(|status| status == "completed"), "{ended:?}");
    host.assert_nothing_runs(Duration::from_secs(30));
}

#[test]
fn policy_that_traps_while_the_agent_waits_denies_the_use_and_the_session_goes_on() {
    let host = host_with_policy(&hostile::policy_at_tool("strict", hostile::Fault::Trap));
    let session = Session::start(&host, &format!("ASK shell: echo {WORD}"), &json!({}));
    session.wait_for_turns(1);
    assert_eq!(session.decisions(), ["deny by policy"]);
    assert!(session.approvals(0).is_empty());
    session.send("SAY still here").unwrap();
    assert_eq!(session.wait_for_turns(2), "completed");
    assert!(session.text().contains("still here"), "{}", session.text());
    assert_eq!(session.end(), "completed");
    host.assert_nothing_runs(TIMEOUT);
}
