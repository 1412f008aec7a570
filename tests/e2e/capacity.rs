//! Many runs at once: how many are accepted, how many are refused, and in which order they run.

use crate::support::{TIMEOUT, TestHost, answer, check_run_events, of_type, post};
use serde_json::{Value, json};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

/// A second instance of the stand-in, in a lane of its own.
const TWO_LANES: &str = "[providers.second]\nplugin = \"rehearsal\"\n";
const LANES: [&str; 2] = ["rehearsal", "second"];

/// Clients that submit at a time.
const CLIENTS: usize = 8;

/// A prompt that occupies its slot until this file exists in the working folder.
fn prompt_until_file(name: &str) -> String {
    format!("RUN while ! [ -e {name} ]; do sleep 0.05; done; echo released")
}

/// Occupies the only slot of each lane until the file `go` exists.
fn block_all_lanes(host: &TestHost) -> Vec<String> {
    host.ensure_running();
    let block = |lane: &&str| host.submit(&prompt_until_file("go"), &json!({ "provider": lane })).unwrap();
    let blockers = LANES.iter().map(block).collect();
    host.wait_for_count("running", 2);
    blockers
}

#[test]
fn of_600_runs_512_are_accepted_and_88_are_refused_as_retryable() {
    let host = TestHost::granted(TWO_LANES);
    let blockers = block_all_lanes(&host);
    let next = AtomicUsize::new(0);
    let answers: Vec<Result<String, crate::support::CallError>> = thread::scope(|scope| {
        let submit = || {
            let mut answers = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= 600 {
                    return answers;
                }
                let more = json!({ "provider": LANES[number % 2], "queuePriority": number as i64 % 21 - 10 });
                answers.push(host.submit(&format!("SAY {number}"), &more));
            }
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(submit)).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let (taken, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((taken.len(), refused.len()), (512, 88));
    for refusal in refused.into_iter().map(Result::unwrap_err) {
        assert_eq!(refusal.kind(), "QUEUE_FULL", "{}", refusal.text());
        assert_eq!(refusal.data()["retryable"], true);
        assert!(refusal.data()["hint"].as_str().unwrap().contains("capacity"), "{}", refusal.text());
        assert!(refusal.data()["message"].as_str().unwrap().contains("512"), "{}", refusal.text());
    }
    // A refused submit leaves nothing.
    assert_eq!(host.call("list_runs", &json!({ "limit": 1 })).unwrap()["total"], 514);
    let jobs = host.call("list_queue_jobs", &json!({ "state": "ready" })).unwrap();
    assert_eq!(jobs.as_array().unwrap().len(), 512);
    let refused = host.run(&["run", "--json", "rehearsal", "SAY one more"]).code(7).error();
    assert_eq!(refused["kind"], "QUEUE_FULL");

    // A canceled run makes room for exactly one other.
    let first = taken[0].as_ref().unwrap();
    assert_eq!(host.call("cancel_run", &json!({ "runId": first })).unwrap()["status"], "canceled");
    let next = host.submit("SAY in its place", &json!({})).unwrap();
    assert_eq!(host.submit("SAY too many", &json!({})).unwrap_err().kind(), "QUEUE_FULL");
    assert_eq!(host.record(&next)["status"], "queued");
    for blocker in blockers {
        assert_eq!(host.record(&blocker)["status"], "running", "the submits have disturbed a running run");
    }
}

#[test]
fn two_providers_never_wait_for_each_other() {
    let host = TestHost::granted(TWO_LANES);
    host.ensure_running();
    for (busy, free) in [(LANES[0], LANES[1]), (LANES[1], LANES[0])] {
        let go = format!("go-{busy}");
        let blocker = host.submit(&prompt_until_file(&go), &json!({ "provider": busy })).unwrap();
        host.wait_for_count("running", 1);
        let crowd: Vec<String> = (0..40)
            .map(|number| {
                let more = json!({ "provider": busy, "queuePriority": 10 });
                host.submit(&format!("SAY crowd {number}"), &more).unwrap()
            })
            .collect();
        for number in 0..10 {
            let more = json!({ "provider": free, "queuePriority": -10 });
            let run = host.submit(&format!("SAY free {number}"), &more).unwrap();
            assert_eq!(answer(&host.wait_for_end(&run)), format!("free {number}"));
        }
        assert_eq!(host.record(&blocker)["status"], "running");
        for run in &crowd {
            assert_eq!(host.record(run)["status"], "queued");
            host.call("cancel_run", &json!({ "runId": run })).unwrap();
        }
        host.file(&go, "");
        check_run_events(&host.wait_for_end(&blocker));
    }
}

/// A newer run of priority 10 always waits. With the lowest `aging_seconds`, a run of priority -10 is ahead of every
/// new run after 20 s.
#[test]
fn lowest_priority_is_not_starved() {
    let host = TestHost::granted("[scheduler]\naging_seconds = 1\n");
    host.ensure_running();
    let work = "RUN sleep 0.3";
    let feed = || host.submit(work, &json!({ "queuePriority": 10 })).unwrap();
    let mut fed = vec![feed(), feed()];
    host.wait_for_count("running", 1);
    let low = host.submit("SAY my turn", &json!({ "queuePriority": -10 })).unwrap();
    let start = Instant::now();
    let mut passed = 0;
    while host.record(&low)["status"] == "queued" {
        assert!(start.elapsed() < TIMEOUT, "{passed} runs have overtaken it");
        // At any time, one run is running and one is waiting.
        let (at_work, rest) = fed.split_first().unwrap();
        assert_eq!(rest.len(), 1);
        host.wait_for_end(at_work);
        passed += 1;
        fed.remove(0);
        fed.push(feed());
    }
    let waited = start.elapsed();
    let events = host.wait_for_end(&low);
    assert_eq!(answer(&events), "my turn");
    let queued = of_type(&events, "run.runner_metrics")[0]["payload"]["queueMs"].as_f64().unwrap();
    assert!(queued >= 19_000.0, "it started after only {queued} ms");
    assert!(passed > 10, "only {passed} runs have overtaken it in {waited:?}");
}

/// The test prints its measurements: `cargo test -p ostler --test e2e -- ten_thousand --nocapture`.
#[test]
fn ten_thousand_waiting_runs_survive_a_killed_host() {
    const WAITING: usize = 10_000;
    const MORE: usize = 200;
    let host = TestHost::granted(&format!("[scheduler]\ncapacity = {}\n{TWO_LANES}", WAITING + MORE));
    block_all_lanes(&host);
    let begin = Instant::now();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < WAITING / 100 {
                    submit_batch(&host, 100);
                }
            });
        }
    });
    eprintln!("{WAITING} submits in batches of 100 by {CLIENTS} clients: {:?}", begin.elapsed());
    host.wait_for_count("ready", WAITING as u64);

    let mut times: Vec<Duration> = (0..MORE)
        .map(|number| {
            let begin = Instant::now();
            host.submit(&format!("SAY more {number}"), &json!({ "provider": LANES[number % 2] })).unwrap();
            begin.elapsed()
        })
        .collect();
    times.sort();
    eprintln!("a submit with {WAITING} waiting: p50 {:?}, p99 {:?}", times[MORE / 2], times[MORE * 99 / 100]);
    assert_eq!(host.submit("SAY too many", &json!({})).unwrap_err().kind(), "QUEUE_FULL");

    let before = waiting_runs(&host);
    assert_eq!(before.len(), WAITING + MORE);
    crate::support::signal(host.ensure_running(), nix::sys::signal::Signal::SIGKILL);
    host.assert_nothing_runs(Duration::from_secs(2));
    let begin = Instant::now();
    host.ensure_running();
    eprintln!("a host with {} waiting runs answers after {:?}", before.len(), begin.elapsed());
    // The first runs of each lane have started. All others wait in the same order as before.
    let after = waiting_runs(&host);
    let mut rest = before.iter();
    let lost = after.iter().find(|run| !rest.any(|before| before == *run));
    assert_eq!(lost, None, "a run is not in its old position");
    assert!(after.len() > WAITING, "{} of {} are left", after.len(), before.len());
}

/// Waiting runs, the next one first.
fn waiting_runs(host: &TestHost) -> Vec<String> {
    let jobs = host.call("list_queue_jobs", &json!({ "state": "ready" })).unwrap();
    let id = |job: &Value| job["runId"].as_str().unwrap().to_owned();
    jobs.as_array().unwrap().iter().map(id).collect()
}

/// Submits many runs with one request.
fn submit_batch(host: &TestHost, count: usize) {
    let call = |number: usize| {
        let params = host.payload(&format!("SAY {number}"), &json!({ "provider": LANES[number % 2] }));
        json!({ "jsonrpc": "2.0", "id": number, "method": "start_run", "params": params })
    };
    let frame = Value::from((0..count).map(call).collect::<Vec<_>>()).to_string();
    let (_, body) = post(&host.socket(), frame.as_bytes()).unwrap();
    let answers: Value = serde_json::from_slice(&body).unwrap();
    for answer in answers.as_array().unwrap() {
        assert!(answer["error"].is_null(), "{answer}");
    }
}
