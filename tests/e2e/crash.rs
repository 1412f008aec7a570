//! The host is killed at random moments under load. Afterwards the record tells the truth, nothing is alive, and what
//! waited goes on with its true payload.

use crate::support::{Dice, PATIENCE, TestHost, check_story, end_of, of_type, tool_outputs};
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
fn kill_the_host_at_random_moments() {
    let seed = number("OSTLER_CRASH_SEED", 20);
    let rounds = number("OSTLER_CRASH_ROUNDS", 25);
    eprintln!("seed {seed}, {rounds} rounds");
    let mut dice = Dice::new(seed);
    let bed = TestHost::granted("[scheduler]\nglobal = 3\nper_provider = 3\n");
    let talks = [(); 2].map(|()| bed.run(&["chat", "new", "rehearsal"]).ok().stdout.trim().to_owned());
    for round in 0..rounds {
        let host = bed.host();
        let mut runs: Vec<String> = (0..6).map(|_| bed.detach(&["rehearsal", prompt(&mut dice)])).collect();
        for talk in talks.iter().chain(&talks) {
            let prompt = ["SAY quick", "SLOW 3", "FAILONCE transient"][usize::try_from(dice.below(3)).unwrap()];
            let message = json!({
                "conversationId": talk, "prompt": prompt, "cwd": bed.work(), "maxRetries": 1, "retryBackoffMs": 100
            });
            let sent = bed.call("send_conversation_message", &message).unwrap();
            runs.push(sent["runId"].as_str().unwrap().to_owned());
        }
        // The moment is the point of this test; nothing is waited for.
        thread::sleep(Duration::from_millis(dice.below(1_200)));
        crate::support::signal(host, Signal::SIGKILL);
        bed.assert_nothing_runs(Duration::from_secs(2));
        assert!(bed.call("get_status", &json!({})).is_err(), "the host is still there");

        bed.host();
        for run in &runs {
            let place = format!("seed {seed} round {round}");
            let start = Instant::now();
            let story = loop {
                let story = bed.story(run);
                if end_of(&story).is_some() {
                    break story;
                }
                let record = || bed.record(run);
                assert!(start.elapsed() < PATIENCE, "{place}: {run} does not end: {:#}\n{story:#?}", record());
                thread::sleep(Duration::from_millis(10));
            };
            check(&bed, run, &story, &place);
        }
    }
    for talk in &talks {
        check_order(&bed, talk, usize::try_from(2 * rounds).unwrap());
    }
    bed.assert_nothing_runs(Duration::from_secs(2));
}

/// Short ones: what still waited at the kill runs to its end afterwards.
fn prompt(dice: &mut Dice) -> &'static str {
    ["SAY quick", "SLOW 3", "RUN seq 2000", "TREE 8 2", "STUBBORN 2", "RUN setsid sleep 600 & sleep 1", "BIG 200"]
        [usize::try_from(dice.below(7)).unwrap()]
}

fn check(bed: &TestHost, run: &str, story: &[Value], place: &str) {
    check_story(story);
    let end = end_of(story).unwrap();
    let record = bed.record(run);
    let expected = match end["type"].as_str().unwrap() {
        "run.completed" => "completed",
        "run.failed" if end["payload"]["reason"] == "interrupted" => "interrupted",
        other => panic!("{place}: {run} ended with {other}: {end}"),
    };
    assert_eq!(record["status"], expected, "{place}");
    // A run that was never started cannot have been interrupted: it was queued again.
    if of_type(story, "run.started").is_empty() {
        assert_eq!(expected, "interrupted", "{place}: completed without a start");
    }
}

/// Every message of a conversation is there, none began before those before it had ended, and none began twice in one
/// attempt.
fn check_order(bed: &TestHost, talk: &str, sent: usize) {
    let found = bed.call("get_conversation", &json!({ "conversationId": talk })).unwrap();
    let runs = found["runs"].as_array().unwrap();
    assert_eq!(runs.len(), sent);
    let mut before = 0;
    for run in runs {
        let story = bed.story(run["runId"].as_str().unwrap());
        let started = of_type(&story, "run.started");
        let attempts: Vec<u64> = started.iter().map(|event| event["payload"]["attempt"].as_u64().unwrap()).collect();
        assert!(attempts.windows(2).all(|pair| pair[0] < pair[1]), "an attempt began twice: {attempts:?}");
        if let Some(first) = started.first() {
            assert!(first["cursor"].as_u64().unwrap() > before, "{run} began before the one before it had ended");
        }
        before = end_of(&story).unwrap()["cursor"].as_u64().unwrap();
    }
}

#[test]
fn what_waited_goes_on_with_its_true_payload() {
    let bed = TestHost::granted("");
    let secret = format!("{}{}", ["gh", "p_"].concat(), "K3wQ8zT1xV6bN9mR4cL7yJ2hF5dS0gPaUeIo");
    let mut busy = bed.follow(&["run", "--json", "rehearsal", "SLOW 600"]);
    busy.wait_for("the first word", |event| event["payload"]["kind"] == "text_delta");
    let holder = busy.run_id();
    let host = bed.host();
    // The prompt comes by standard input, so that the secret is in no command line.
    let prompt = format!("RUN printf %s {secret} | sha256sum");
    let waiting =
        bed.run_with_input(&["run", "--detach", "rehearsal", "-"], prompt.as_bytes()).ok().stdout.trim().to_owned();
    let last = bed.detach(&["rehearsal", "SAY the last one"]);
    assert!(!bed.record(&waiting).to_string().contains(&secret), "the record shows the secret");

    crate::support::signal(host, Signal::SIGKILL);
    bed.assert_nothing_runs(Duration::from_secs(2));
    drop(busy);
    bed.host();

    let first = bed.wait_for_end(&waiting);
    let second = bed.wait_for_end(&last);
    let expected = crate::support::sha256(&secret);
    assert!(tool_outputs(&first).contains(&expected), "the payload was not the true one: {}", tool_outputs(&first));
    assert_eq!(crate::support::answer(&second), "the last one");
    let order = |events: &[Value]| of_type(events, "run.started")[0]["cursor"].as_u64().unwrap();
    assert!(order(&first) < order(&second), "the order of the queue is lost");
    let interrupted = bed.story(&holder);
    check_story(&interrupted);
    assert_eq!(bed.record(&holder)["status"], "interrupted");
}
