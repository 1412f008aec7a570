//! Sessions and approvals of a real agent CLI: what every CLI must do alike.

use super::guests::hostile::WORD;
use super::guests::tools::{self, Verdict};
use super::{AgentFixture, Session, TIMEOUT, end_of, of_type, signal, wait_until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;

/// Starts a session of the CLI; members of `more` are those of the payload.
#[track_caller]
fn session<'a>(fixture: &'a AgentFixture, prompt: &str, more: &Value) -> Session<'a> {
    fixture.host.ensure_running();
    let mut more = more.clone();
    more["provider"] = json!(fixture.cli.name);
    Session::start(&fixture.host, prompt, &more)
}

/// A session of three turns; the second one is interrupted, and the third knows the others.
pub fn turns_are_interrupted_and_remembered(fixture: &AgentFixture) {
    let session = session(fixture, "SAY the first answer", &json!({}));
    session.wait_for_turns(1);
    session.send("SLOW 600").unwrap();
    session.wait_for("a piece of the second answer", |event| {
        event["payload"]["kind"] == "text_delta"
            && event["payload"]["text"].as_str().is_some_and(|text| text.contains("piece"))
    });
    assert!(session.interrupt());
    assert_eq!(session.wait_for_turns(2), "interrupted");
    session.send("TURNS").unwrap();
    assert_eq!(session.wait_for_turns(3), "completed");
    let text = session.text();
    assert!(text.contains("the first answer") && text.trim_end().ends_with('3'), "{text}");
    assert_eq!(session.end(), "completed");
    let events = session.events();
    assert_eq!(of_type(&events, "session.opened").len(), 1);
    assert_eq!(of_type(&events, "session.closed")[0]["payload"]["reason"], "ended");
    fixture.host.assert_nothing_runs(TIMEOUT);
}

/// A user allows one command and denies another; the agent is told the reason and continues.
pub fn user_allows_and_denies_commands(fixture: &AgentFixture, more: &Value) {
    let session = session(fixture, "RUN touch allowed.txt", more);
    let approval = session.approvals(1).remove(0);
    assert_eq!(approval["kind"], "command", "{approval:#}");
    assert!(approval["command"].as_str().unwrap().contains("touch allowed.txt"), "{approval:#}");
    session.answer(&approval, &json!({"allow": true})).unwrap();
    session.wait_for_turns(1);
    assert!(fixture.host.work().join("allowed.txt").exists());
    session.send("RUN touch denied.txt").unwrap();
    let approval = session.approvals(1).remove(0);
    session.answer(&approval, &json!({"allow": false, "message": "not in this folder"})).unwrap();
    session.wait_for_turns(2);
    assert!(!fixture.host.work().join("denied.txt").exists());
    wait_until("the reason at the agent", TIMEOUT, || session.text().contains("not in this folder").then_some(()));
    session.send("SAY and on").unwrap();
    wait_until("the next answer", TIMEOUT, || session.text().contains("and on").then_some(()));
    session.end();
    assert_eq!(session.decisions(), ["allow by user", "deny by user"]);
}

/// A user replaces the command.
pub fn user_edits_a_command(fixture: &AgentFixture, more: &Value) {
    let session = session(fixture, "RUN touch original.txt", more);
    let approval = session.approvals(1).remove(0);
    assert_eq!(approval["editable"], true, "{approval:#}");
    let mut input = approval["input"].clone();
    input["command"] = json!("touch edited.txt");
    session.answer(&approval, &json!({"allow": true, "input": input})).unwrap();
    session.wait_for_turns(1);
    let exists = |name: &str| fixture.host.work().join(name).exists();
    assert_eq!((exists("edited.txt"), exists("original.txt")), (true, false));
    session.end();
}

/// An approval that nobody answers is denied, and the agent continues.
pub fn unanswered_approval_is_denied(fixture: &AgentFixture, more: &Value) {
    let session = session(fixture, "RUN touch late.txt", more);
    session.approvals(1);
    session.wait_for_turns(1);
    assert_eq!(session.decisions(), ["deny by timeout"]);
    assert!(!fixture.host.work().join("late.txt").exists());
    session.end();
}

/// A policy decides about every tool use before it happens, also in a run without a user: one is denied and the agent is
/// told, the other runs.
pub fn policy_decides_before_the_tool_runs(fixture: &AgentFixture, more: &Value) {
    fixture.host.stop();
    let folder = fixture.host.home().join("plugins");
    fs::create_dir_all(&folder).unwrap();
    let policy = tools::policy_that_wants(
        &["tool-decisions"],
        super::guests::hostile::TOOL,
        "strict",
        WORD,
        Verdict::Deny,
        "not with this word",
    );
    fs::write(folder.join("strict.wasm"), policy).unwrap();
    fixture.host.ensure_running();
    let denied = fixture.events_with(&format!("RUN echo {WORD} > denied.txt"), more);
    assert_eq!(end_of(&denied).unwrap()["type"], "run.completed", "{denied:#?}");
    let answer = end_of(&denied).unwrap()["payload"]["finalText"].as_str().unwrap().to_owned();
    assert!(answer.contains("not with this word"), "the agent is told: {answer}");
    assert!(!fixture.host.work().join("denied.txt").exists());
    let allowed = fixture.events_with("RUN echo fine > allowed.txt", more);
    assert_eq!(end_of(&allowed).unwrap()["type"], "run.completed", "{allowed:#?}");
    assert!(fixture.host.work().join("allowed.txt").exists());
}

/// A host that is killed interrupts the session, and the resumed one remembers.
pub fn session_is_resumed_after_a_crash_of_the_host(fixture: &AgentFixture) {
    let session = session(fixture, "SAY remember this", &json!({}));
    session.wait_for_turns(1);
    let pid = fixture.host.ensure_running();
    signal(pid, Signal::SIGKILL);
    fixture.host.ensure_running();
    wait_until("the interrupted run", TIMEOUT, || {
        (fixture.host.record(&session.run)["status"] == "interrupted").then_some(())
    });
    let resumed = fixture.host.call("resume_session", &json!({"runId": session.run, "prompt": "TURNS"})).unwrap();
    let again = Session::attach(&fixture.host, resumed["runId"].as_str().unwrap());
    again.wait_for_turns(1);
    assert_eq!(again.text().trim(), "2", "the earlier turn is known");
    assert_eq!(again.end(), "completed");
    fixture.host.assert_nothing_runs(TIMEOUT);
}

/// A session in a terminal shows the CLI's own screen, gets its first prompt, and takes keys. `dialogs` are texts that the CLI
/// shows first, each with the keys that confirm it.
pub fn terminal_shows_the_own_screen(fixture: &AgentFixture, dialogs: &[(&str, &str)]) {
    let session = session(fixture, "USAGE 5 7", &json!({"terminal": {"rows": 40, "columns": 100}}));
    for (dialog, keys) in dialogs {
        session.wait_for_screen(dialog);
        session.type_keys(keys);
    }
    // The model's answer to that prompt.
    session.wait_for_screen("counted");
    session.send("SLOW 2").unwrap();
    session.wait_for_screen("piece");
    assert_eq!(session.end(), "completed", "{:#}", end_of(&session.events()).unwrap());
    fixture.host.assert_nothing_runs(TIMEOUT);
}

/// Two users answer the same approval from their own terminals at once: one of them wins, and the other learns it.
pub fn one_of_two_terminals_wins(fixture: &AgentFixture, more: &Value) {
    let session = session(fixture, "RUN touch once.txt", more);
    let approval = session.approvals(1).remove(0);
    let id = approval["id"].as_str().unwrap();
    let answered: Vec<_> = std::thread::scope(|scope| {
        let answer = |verb: &'static str| scope.spawn(move || fixture.host.run(&["approvals", verb, id]));
        ["allow", "deny"].map(answer).map(|answer| answer.join().unwrap()).into()
    });
    let won: Vec<_> = answered.iter().filter(|done| done.code == 0).collect();
    assert_eq!(won.len(), 1, "{} {}", answered[0].all(), answered[1].all());
    session.wait_for_turns(1);
    assert_eq!(session.decisions().len(), 1, "{:?}", session.decisions());
    let allowed = session.decisions() == ["allow by user"];
    assert_eq!(fixture.host.work().join("once.txt").exists(), allowed);
    session.end();
}
