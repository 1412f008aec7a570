//! The wall clock is set by a day, back and forth, while runs wait, retry and run. Only scheduled times follow it;
//! delays, time limits and aging do not.

use crate::support::{TIMEOUT, TestHost, answer, check_run_events, end_of, of_type, steerable, wait_until};
use jiff::Timestamp;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{fs, path::PathBuf, time::Duration};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

/// A second instance of the stand-in, in a lane of its own.
const TWO_LANES: &str = "[providers.second]\nplugin = \"rehearsal\"\n";

/// A host whose clocks can be set.
struct Clockwork {
    host: TestHost,
    file: PathBuf,
}

impl Clockwork {
    fn new(config: &str) -> Self {
        let mut host = TestHost::granted(config);
        host.stop();
        let file = host.root().join("clock");
        host.set("OSTLER_TEST_CLOCK", &file);
        let clockwork = Self { host, file };
        clockwork.set(0, 0);
        clockwork.host.ensure_running();
        clockwork
    }

    /// Sets how far the wall clock and the uptime of the machine are ahead of the real ones, in milliseconds.
    fn set(&self, wall: i64, uptime: i64) {
        let draft = self.file.with_extension("draft");
        fs::write(&draft, format!("{wall} {uptime}")).unwrap();
        fs::rename(draft, &self.file).unwrap();
    }

    /// The same, and waits until the host has started and ended a run in another lane.
    #[track_caller]
    fn set_and_look(&self, wall: i64, uptime: i64, free_lane: &str) {
        self.set(wall, uptime);
        let run = self.host.submit("SAY tick", &json!({ "provider": free_lane, "queuePriority": 10 })).unwrap();
        let events = self.host.wait_for_end(&run);
        assert_eq!(answer(&events), "tick", "{:#?}", end_of(&events));
    }

    fn job(&self, run: &str) -> Value {
        self.host.record(run)["job"].clone()
    }

    #[track_caller]
    fn assert_state(&self, run: &str, state: &str) {
        let job = self.job(run);
        assert_eq!(job["state"], state, "{job}");
    }

    /// How long a job still waits, measured from the real time.
    fn due_in(&self, run: &str) -> Duration {
        let due: Timestamp = self.job(run)["notBefore"].as_str().unwrap().parse().unwrap();
        Duration::try_from(due.duration_since(Timestamp::now())).unwrap_or_default()
    }

    /// Follows a run to its end, and checks its record.
    #[track_caller]
    fn end(&self, run: &str) -> Vec<Value> {
        let events = self.host.wait_for_end(run);
        check_run_events(&events);
        for metrics in of_type(&events, "run.runner_metrics") {
            for time in ["queueMs", "spawnMs", "runMs", "cpuMs"] {
                let ms = metrics["payload"][time].as_f64().unwrap();
                assert!((0.0..HOUR as f64).contains(&ms), "{time} is {ms}");
            }
        }
        for exit in of_type(&events, "run.cli_exit") {
            assert!(exit["payload"]["durationMs"].as_i64().unwrap() < HOUR);
        }
        let record = self.host.record(run);
        let times: Vec<Timestamp> = ["createdAt", "startedAt", "endedAt"]
            .iter()
            .filter_map(|time| record[time].as_str())
            .map(|time| time.parse().unwrap())
            .collect();
        assert!(times.is_sorted(), "the times are not in order: {record:#}");
        events
    }
}

/// In an hour by the real clock, in whole milliseconds.
fn in_an_hour() -> Timestamp {
    Timestamp::from_millisecond(Timestamp::now().as_millisecond() + HOUR).unwrap()
}

/// A prompt that prints the word when this file exists in the working folder.
fn prompt_until_file(file: &str, word: &str) -> String {
    format!("RUN while ! [ -e {file} ]; do sleep 0.02; done; echo {word}")
}

#[test]
fn scheduled_time_follows_the_wall_clock() {
    if !steerable() {
        return;
    }
    let clockwork = Clockwork::new("");
    let at = in_an_hour();
    let run = clockwork.host.submit("SAY at last", &json!({ "scheduledAt": at })).unwrap();
    clockwork.set_and_look(0, 0, "rehearsal");
    clockwork.assert_state(&run, "scheduled");
    clockwork.set_and_look(-DAY, 0, "rehearsal");
    clockwork.assert_state(&run, "scheduled");
    assert_eq!(clockwork.job(&run)["notBefore"], json!(at), "not the scheduled time");
    // To a minute before the scheduled time, and to the day after it.
    clockwork.set_and_look(HOUR - 60_000, 0, "rehearsal");
    clockwork.assert_state(&run, "scheduled");
    clockwork.set_and_look(DAY, 0, "rehearsal");
    let events = clockwork.end(&run);
    assert_eq!(answer(&events), "at last");
    let queued = of_type(&events, "run.runner_metrics")[0]["payload"]["queueMs"].as_f64().unwrap();
    assert!(queued < 60_000.0, "the time before the scheduled time does not count as queue time: {queued}");
}

#[test]
fn retry_delay_ignores_the_wall_clock() {
    if !steerable() {
        return;
    }
    let clockwork = Clockwork::new(TWO_LANES);
    let run = clockwork.host.submit("FAILONCE rate-limited 600000", &json!({ "maxRetries": 1 })).unwrap();
    wait_until("a retry", TIMEOUT, || (clockwork.job(&run)["state"] == "retrying").then_some(()));
    // Its lane is paused for the same time.
    let in_paused_lane = clockwork.host.submit("SAY resumed", &json!({})).unwrap();
    for (wall, uptime) in [(DAY, 0), (0, 0), (-DAY, 0), (DAY, 0), (DAY + 500_000, 500_000)] {
        clockwork.set_and_look(wall, uptime, "second");
        clockwork.assert_state(&run, "retrying");
        clockwork.assert_state(&in_paused_lane, "ready");
        let left = clockwork.due_in(&run);
        let wanted = Duration::from_millis(u64::try_from((wall + 600_000 - uptime).max(0)).unwrap());
        assert!(left <= wanted, "{left:?} are left with the clock set by {wall} ms");
    }
    clockwork.set_and_look(DAY + 600_000, 600_000, "second");
    let events = clockwork.end(&run);
    assert_eq!(end_of(&events).unwrap()["type"], "run.completed");
    assert_eq!(of_type(&events, "run.started").len(), 2);
    assert_eq!(answer(&clockwork.end(&in_paused_lane)), "resumed");
}

#[test]
fn clock_set_back_does_not_delay_a_retry() {
    if !steerable() {
        return;
    }
    let clockwork = Clockwork::new("");
    let run = clockwork.host.submit("FAILONCE rate-limited 2500", &json!({ "maxRetries": 1 })).unwrap();
    wait_until("a retry", TIMEOUT, || (clockwork.job(&run)["state"] == "retrying").then_some(()));
    clockwork.set(-DAY, 0);
    let events = clockwork.end(&run);
    assert_eq!(end_of(&events).unwrap()["type"], "run.completed");
}

#[test]
fn time_limit_ignores_the_wall_clock() {
    if !steerable() {
        return;
    }
    let clockwork = Clockwork::new(TWO_LANES);
    let run = clockwork.host.submit("SLOW 600", &json!({ "timeoutSeconds": 5 })).unwrap();
    clockwork.host.wait_for_count("running", 1);
    for wall in [DAY, -DAY, DAY, -DAY] {
        clockwork.set_and_look(wall, 0, "second");
        clockwork.assert_state(&run, "running");
    }
    let events = clockwork.end(&run);
    assert_eq!(end_of(&events).unwrap()["payload"]["reason"], "timeout");
    let ran = of_type(&events, "run.runner_metrics")[0]["payload"]["runMs"].as_f64().unwrap();
    assert!((5_000.0..60_000.0).contains(&ran), "it ran for {ran} ms");
}

#[test]
fn clock_change_does_not_age_waiting_runs() {
    if !steerable() {
        return;
    }
    let clockwork = Clockwork::new(TWO_LANES);
    let host = &clockwork.host;
    let first_of = |round: &str, wall: i64, uptime: i64| {
        let go = format!("go-{round}");
        let blocker = host.submit(&prompt_until_file(&go, "held"), &json!({})).unwrap();
        host.wait_for_count("running", 1);
        let low = host.submit("SAY low", &json!({ "queuePriority": -10 })).unwrap();
        clockwork.set_and_look(wall, uptime, "second");
        let high = host.submit("SAY high", &json!({ "queuePriority": 10 })).unwrap();
        host.file(&go, "");
        clockwork.end(&blocker);
        let start = |run: &str| of_type(&clockwork.end(run), "run.started")[0]["cursor"].as_u64().unwrap();
        if start(&low) < start(&high) { "low" } else { "high" }
    };
    assert_eq!(first_of("ahead", DAY, 0), "high", "the clock was changed, but no time has passed");
    assert_eq!(first_of("back", -DAY, 0), "high");
    // Ten minutes of suspend count as ten minutes of waiting.
    assert_eq!(first_of("suspended", -DAY + 600_000, 600_000), "low");
}

#[test]
fn clock_set_while_no_host_runs_keeps_order_and_delays() {
    if !steerable() {
        return;
    }
    let clockwork = Clockwork::new(TWO_LANES);
    let host = &clockwork.host;
    let delayed =
        host.submit("FAILONCE rate-limited 600000", &json!({ "provider": "second", "maxRetries": 1 })).unwrap();
    wait_until("a retry", TIMEOUT, || (clockwork.job(&delayed)["state"] == "retrying").then_some(()));
    let blocker = host.submit(&prompt_until_file("go", "held"), &json!({})).unwrap();
    host.wait_for_count("running", 1);
    // A run whose child was not released yet is queued again, not interrupted. This child has already printed
    // something.
    wait_until("output of the blocking run", TIMEOUT, || {
        (!of_type(&host.run_events(&blocker), "run.semantic").is_empty()).then_some(())
    });
    let at = in_an_hour();
    let scheduled = host.submit("SAY on time", &json!({ "scheduledAt": at })).unwrap();
    let waiting: Vec<String> = (0..3).map(|n| host.submit(&format!("SAY {n}"), &json!({})).unwrap()).collect();

    crate::support::signal(host.ensure_running(), Signal::SIGKILL);
    host.assert_nothing_runs(Duration::from_secs(2));
    clockwork.set(-DAY, 0);
    host.ensure_running();
    assert_eq!(end_of(&clockwork.end(&blocker)).unwrap()["payload"]["reason"], "interrupted");
    let starts: Vec<u64> = waiting
        .iter()
        .enumerate()
        .map(|(number, run)| {
            let events = clockwork.end(run);
            assert_eq!(answer(&events), number.to_string());
            of_type(&events, "run.started")[0]["cursor"].as_u64().unwrap()
        })
        .collect();
    assert!(starts.is_sorted(), "the order is lost: {starts:?}");
    clockwork.assert_state(&delayed, "retrying");
    clockwork.assert_state(&scheduled, "scheduled");
    // The clock is a day back, but the delay has not become longer by a day.
    assert_eq!(clockwork.due_in(&delayed), Duration::ZERO, "{}", clockwork.job(&delayed));
    clockwork.set_and_look(-DAY + 600_000, 600_000, "rehearsal");
    assert_eq!(end_of(&clockwork.end(&delayed)).unwrap()["type"], "run.completed");
    clockwork.assert_state(&scheduled, "scheduled");
    clockwork.set_and_look(2 * HOUR, 600_000, "rehearsal");
    assert_eq!(answer(&clockwork.end(&scheduled)), "on time");
}
