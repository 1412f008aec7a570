//! Many subscribers disconnect and reconnect: each sees every event from its cursor once, in order, across connections
//! and hosts.

use crate::support::duplex::{Duplex, Web};
use crate::support::{Dice, TIMEOUT, TestHost, stored_events};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::thread;
use std::time::Instant;

const SUBSCRIBERS: u64 = 200;
/// The event types of a subscriber with a filter.
const FILTER: [&str; 2] = ["run.completed", "run.semantic"];
/// The answer of the last run.
const LAST: &str = "that was all";

/// A subscriber.
struct Subscriber {
    /// The cursor after which it starts.
    cursor: u64,
    /// Whether it subscribes only to [`FILTER`].
    filtered: bool,
}

/// Listens until the last run has ended. Disconnects at random, and continues at its last cursor.
fn listen(host: &TestHost, mut dice: Dice, &Subscriber { cursor, filtered }: &Subscriber) -> Vec<Value> {
    let start = Instant::now();
    let mut seen: Vec<Value> = Vec::new();
    loop {
        assert!(start.elapsed() < TIMEOUT, "seen {} events after {cursor}, and not the last", seen.len());
        let Some(mut peer) = Web::try_over_socket(host) else {
            // No event announces that the host is running again.
            thread::sleep(std::time::Duration::from_millis(20));
            continue;
        };
        let after = seen.last().map_or(cursor, |event| event["cursor"].as_u64().unwrap());
        let mut params = json!({ "after": after });
        if filtered {
            params["types"] = json!(FILTER);
        }
        peer.connection.send(&json!({ "jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": params }));
        for _ in 0..=dice.below(300) {
            let Some(mut event) = peer.event() else { break };
            event.as_object_mut().unwrap().remove("subscriptionId");
            let last = event["type"] == "run.completed" && event["payload"]["finalText"] == LAST;
            seen.push(event);
            if last {
                return seen;
            }
        }
    }
}

#[test]
fn two_hundred_reconnecting_subscribers_see_every_event_once() {
    let host = TestHost::granted("[scheduler]\nglobal = 2\nper_provider = 2\n");
    let words = |host: &TestHost, count: u32| {
        for number in 0..count {
            let prompt = if number % 5 == 0 { "BIG 40".to_owned() } else { format!("SAY word {number}") };
            host.submit(&prompt, &json!({})).unwrap();
        }
    };
    let host_pid = host.ensure_running();
    words(&host, 10);
    host.wait_for_count("running", 0);
    let there = host.call("get_status", &json!({})).unwrap()["cursor"].as_u64().unwrap();

    let mut dice = Dice::new(4);
    let subscribers: Vec<Subscriber> =
        (0..SUBSCRIBERS).map(|_| Subscriber { cursor: dice.below(there + 1), filtered: dice.below(2) == 0 }).collect();
    let all_seen: Vec<Vec<Value>> = thread::scope(|scope| {
        let host = &host;
        let threads: Vec<_> = subscribers
            .iter()
            .zip(1_000..)
            .map(|(subscriber, seed)| scope.spawn(move || listen(host, Dice::new(seed), subscriber)))
            .collect();
        words(host, 20);
        crate::support::wait_until("half of the runs to start", TIMEOUT, || {
            (host.call("get_status", &json!({})).unwrap()["ready"].as_u64() < Some(10)).then_some(())
        });
        crate::support::signal(host_pid, Signal::SIGKILL);
        host.ensure_running();
        words(host, 10);
        host.wait_for_count("ready", 0);
        host.submit(&format!("SAY {LAST}"), &json!({})).unwrap();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });

    let everything = stored_events(&host.socket(), "after=0");
    let end = everything.iter().position(|event| event["payload"]["finalText"] == LAST).unwrap();
    for (subscriber, seen) in subscribers.iter().zip(all_seen) {
        let expected: Vec<&Value> = everything[..=end]
            .iter()
            .filter(|event| event["cursor"].as_u64().unwrap() > subscriber.cursor)
            .filter(|event| !subscriber.filtered || FILTER.contains(&event["type"].as_str().unwrap()))
            .collect();
        let (cursor, counts) = (subscriber.cursor, (seen.len(), expected.len()));
        assert!(seen.iter().eq(expected), "after {cursor}, seen and expected: {counts:?}");
    }
}
