//! The host is killed at random moments under load. Afterwards the stored records are correct, no process is left, and
//! waiting runs start with their original payload.

use crate::support::{Dice, TIMEOUT, TestHost, check_run_events, end_of, of_type, tool_outputs};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{
    thread,
    time::{Duration, Instant},
};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn host_killed_at_random_moments_keeps_records_consistent() {
    let seed = number("OSTLER_CRASH_SEED", 20);
    let rounds = number("OSTLER_CRASH_ROUNDS", 25);
    eprintln!("seed {seed}, {rounds} rounds");
    let mut dice = Dice::new(seed);
    let host = TestHost::granted("[scheduler]\nglobal = 3\nper_provider = 3\n");
    let talks = [(); 2].map(|()| host.run(&["chat", "new", "rehearsal"]).ok().stdout.trim().to_owned());
    for round in 0..rounds {
        let host_pid = host.ensure_running();
        let mut runs: Vec<String> = (0..6).map(|_| host.detach(&["rehearsal", prompt(&mut dice)])).collect();
        for talk in talks.iter().chain(&talks) {
            let prompt = ["SAY quick", "SLOW 3", "FAILONCE transient"][usize::try_from(dice.below(3)).unwrap()];
            let message = json!({
                "conversationId": talk, "prompt": prompt, "cwd": host.work(), "maxRetries": 1, "retryBackoffMs": 100
            });
            let sent = host.call("send_conversation_message", &message).unwrap();
            runs.push(sent["runId"].as_str().unwrap().to_owned());
        }
        // The kill comes at a random moment, so that there is no event to wait for.
        thread::sleep(Duration::from_millis(dice.below(1_200)));
        crate::support::signal(host_pid, Signal::SIGKILL);
        host.assert_nothing_runs(Duration::from_secs(2));
        assert!(host.call("get_status", &json!({})).is_err(), "the host is still there");

        host.ensure_running();
        for run in &runs {
            let context = format!("seed {seed} round {round}");
            let start = Instant::now();
            let events = loop {
                let events = host.run_events(run);
                if end_of(&events).is_some() {
                    break events;
                }
                let record = || host.record(run);
                assert!(start.elapsed() < TIMEOUT, "{context}: {run} does not end: {:#}\n{events:#?}", record());
                thread::sleep(Duration::from_millis(10));
            };
            check(&host, run, &events, &context);
        }
    }
    for talk in &talks {
        check_order(&host, talk, usize::try_from(2 * rounds).unwrap());
    }
    host.assert_nothing_runs(Duration::from_secs(2));
}

/// A short prompt: runs that wait at the kill run to their end afterwards.
fn prompt(dice: &mut Dice) -> &'static str {
    ["SAY quick", "SLOW 3", "RUN seq 2000", "TREE 8 2", "STUBBORN 2", "RUN setsid sleep 600 & sleep 1", "BIG 200"]
        [usize::try_from(dice.below(7)).unwrap()]
}

fn check(host: &TestHost, run: &str, events: &[Value], context: &str) {
    check_run_events(events);
    let end = end_of(events).unwrap();
    let record = host.record(run);
    let expected = match end["type"].as_str().unwrap() {
        "run.completed" => "completed",
        "run.failed" if end["payload"]["reason"] == "interrupted" => "interrupted",
        other => panic!("{context}: {run} ended with {other}: {end}"),
    };
    assert_eq!(record["status"], expected, "{context}");
    // A run that was never started cannot have been interrupted: it was queued again.
    if of_type(events, "run.started").is_empty() {
        assert_eq!(expected, "interrupted", "{context}: completed without a start");
    }
}

/// Checks that every message of a conversation is stored, that each started after the end of the one before, and that
/// no attempt started twice.
fn check_order(host: &TestHost, talk: &str, sent: usize) {
    let found = host.call("get_conversation", &json!({ "conversationId": talk })).unwrap();
    let runs = found["runs"].as_array().unwrap();
    assert_eq!(runs.len(), sent);
    let mut before = 0;
    for run in runs {
        let events = host.run_events(run["runId"].as_str().unwrap());
        let started = of_type(&events, "run.started");
        let attempts: Vec<u64> = started.iter().map(|event| event["payload"]["attempt"].as_u64().unwrap()).collect();
        assert!(attempts.windows(2).all(|pair| pair[0] < pair[1]), "an attempt started twice: {attempts:?}");
        if let Some(first) = started.first() {
            assert!(
                first["cursor"].as_u64().unwrap() > before,
                "{run} started before the end of the message before it"
            );
        }
        before = end_of(&events).unwrap()["cursor"].as_u64().unwrap();
    }
}

#[test]
fn waiting_run_keeps_its_secrets_after_the_host_was_killed() {
    let host = TestHost::granted("");
    let secret = format!("{}{}", ["gh", "p_"].concat(), "K3wQ8zT1xV6bN9mR4cL7yJ2hF5dS0gPaUeIo");
    let mut busy = host.follow(&["run", "--json", "rehearsal", "SLOW 600"]);
    busy.wait_for("the first word", |event| event["payload"]["kind"] == "text_delta");
    let blocker = busy.run_id();
    let host_pid = host.ensure_running();
    // The prompt comes from standard input, so that the secret is in no command line.
    let prompt = format!("RUN printf %s {secret} | sha256sum");
    let waiting =
        host.run_with_input(&["run", "--detach", "rehearsal", "-"], prompt.as_bytes()).ok().stdout.trim().to_owned();
    let last = host.detach(&["rehearsal", "SAY the last one"]);
    assert!(!host.record(&waiting).to_string().contains(&secret), "the record shows the secret");

    crate::support::signal(host_pid, Signal::SIGKILL);
    host.assert_nothing_runs(Duration::from_secs(2));
    drop(busy);
    host.ensure_running();

    let first = host.wait_for_end(&waiting);
    let second = host.wait_for_end(&last);
    let expected = crate::support::sha256(&secret);
    assert!(
        tool_outputs(&first).contains(&expected),
        "the secret of the payload was not restored: {}",
        tool_outputs(&first)
    );
    assert_eq!(crate::support::answer(&second), "the last one");
    let order = |events: &[Value]| of_type(events, "run.started")[0]["cursor"].as_u64().unwrap();
    assert!(order(&first) < order(&second), "the order of the queue is lost");
    let interrupted = host.run_events(&blocker);
    check_run_events(&interrupted);
    assert_eq!(host.record(&blocker)["status"], "interrupted");
}
