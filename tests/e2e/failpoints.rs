//! The host is killed at failpoints (see `host/test-hooks/src/failpoint.rs`) and started again. Every acknowledged run
//! ends exactly once, no attempt is started twice, and nothing is left behind.

use crate::support::{
    TIMEOUT, TestHost, answer, carrying, check_database, check_run_events, end_of, of_type, steerable, tool_outputs,
    wait_until,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, time::Duration};

/// The longest that a process of a run may outlive the host.
const CLEANUP_LIMIT: Duration = Duration::from_secs(2);

/// A made-up token. It is redacted in the stored payload; only the seal has it.
fn secret() -> String {
    format!("{}{}", ["gh", "p_"].concat(), "K3wQ8zT1xV6bN9mR4cL7yJ2hF5dS0gPaUeIo")
}

/// What must have happened to the run at the failpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExpectedOutcome {
    /// It is not stored, and the submit was not acknowledged.
    NotStored,
    /// It was waiting, and completes after the restart in its first attempt.
    Completed,
    /// It was recorded as started, but was not: it completes in its second attempt.
    CompletedByRetry,
    /// It had started, and ends as interrupted.
    Interrupted,
}

/// A host that is killed at failpoints and started again.
struct CrashFixture {
    host: TestHost,
    /// How many hosts were started with a failpoint.
    crash_count: u32,
}

/// Ids of the submitted runs; `None` where the host died before it acknowledged the submit.
struct SubmittedRuns {
    blocker: Option<String>,
    sealed: Option<String>,
    plain: Option<String>,
    /// The run at the failpoint: submitted last, with the highest priority.
    victim: Option<String>,
}

impl SubmittedRuns {
    fn acknowledged(&self) -> impl Iterator<Item = &String> {
        [&self.blocker, &self.sealed, &self.plain, &self.victim].into_iter().flatten()
    }
}

impl CrashFixture {
    fn new(config: &str) -> Self {
        Self { host: TestHost::granted(&format!("[scheduler]\nglobal = 1\n{config}")), crash_count: 0 }
    }

    /// Starts a host that dies at this failpoint, and gives its process id.
    #[track_caller]
    fn start_host_that_dies_at(&mut self, failpoint: &str) -> i32 {
        self.crash_count += 1;
        self.host.stop();
        self.host.set("OSTLER_FAILPOINT", failpoint);
        self.host.ensure_running()
    }

    /// The same for a failpoint at which the host may die while it starts: `None` then.
    fn start_host_that_may_die_at(&mut self, failpoint: &str) -> Option<i32> {
        self.host.stop();
        self.host.set("OSTLER_FAILPOINT", failpoint);
        let _ = self.host.run(&["runs"]);
        let status = self.host.call("get_status", &json!({})).ok()?;
        Some(i32::try_from(status["pid"].as_i64().unwrap()).unwrap())
    }

    fn is_dead(&self, host_pid: i32) -> bool {
        carrying(self.host.root()).iter().all(|process| process.pid != host_pid)
    }

    /// Waits until the host has died or all runs have ended; true if it has died.
    fn dies_before_all_have_ended(&self, host_pid: i32) -> bool {
        wait_until("the death of the host, or the end of its runs", TIMEOUT, || {
            if self.is_dead(host_pid) {
                return Some(true);
            }
            let status = self.host.call("get_status", &json!({})).ok()?;
            ["running", "ready", "scheduled"].iter().all(|count| status[count] == 0).then_some(false)
        })
    }

    /// A prompt that writes the id of its attempt into the file `started`, then does the rest.
    fn prompt(&self, rest: &str) -> String {
        format!("RUN echo $OSTLER_RUN_MARKER >> started; {rest}")
    }

    /// A prompt with a secret. Its answer shows whether the secret was restored from the seal.
    fn sealed_prompt(&self) -> String {
        self.prompt(&format!("printf %s {} | sha256sum", secret()))
    }

    /// Submits a run that occupies the slot, two behind it, and one with a higher priority. Then frees the slot.
    fn submit_runs(&self, victim: &str, more: &Value) -> SubmittedRuns {
        let go = format!("go-{}", self.crash_count);
        let submit = |prompt: &str, more: &Value| self.host.submit(prompt, more).ok();
        let blocker = submit(&self.prompt(&format!("while ! [ -e {go} ]; do sleep 0.02; done; echo held")), &json!({}));
        let sealed = submit(&self.sealed_prompt(), &json!({}));
        let plain = submit(&self.prompt("echo plain"), &json!({}));
        let mut payload = json!({ "queuePriority": 10 });
        for (name, value) in more.as_object().unwrap() {
            payload[name] = value.clone();
        }
        let victim = submit(victim, &payload);
        self.host.file(&go, "");
        SubmittedRuns { blocker, sealed, plain, victim }
    }

    /// Waits until the host has died, checks that it left no process, and starts a host without a failpoint.
    #[track_caller]
    fn restart_after_crash(&mut self, host_pid: i32, failpoint: &str) {
        wait_until(&format!("the death of the host at {failpoint}"), TIMEOUT, || self.is_dead(host_pid).then_some(()));
        self.host.assert_nothing_runs(CLEANUP_LIMIT);
        self.host.unset("OSTLER_FAILPOINT");
        self.host.ensure_running();
    }

    /// All runs of the host, oldest first.
    fn runs(&self) -> Vec<String> {
        let runs = self.host.call("list_runs", &json!({ "limit": 1000 })).unwrap();
        let runs = runs["items"].as_array().unwrap().iter().rev();
        runs.map(|run| run["runId"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until all runs have ended, and checks all invariants. Gives the events of the run at the failpoint.
    #[track_caller]
    fn check(&self, submitted: &SubmittedRuns, failpoint: &str) -> Option<Vec<Value>> {
        let runs = self.runs();
        for run in submitted.acknowledged() {
            assert!(runs.contains(run), "{failpoint}: {run} was acknowledged, but is lost");
        }
        let mut attempts = BTreeSet::new();
        for run in &runs {
            let events = self.host.wait_for_end(run);
            check_run_events(&events);
            for started in of_type(&events, "run.started") {
                let attempt = format!("{run}-{}", started["payload"]["attempt"]);
                assert!(attempts.insert(attempt), "{failpoint}: {run} has started an attempt twice");
            }
        }
        let attempts_in_file = fs::read_to_string(self.host.work().join("started")).unwrap_or_default();
        let attempts_in_file: Vec<&str> = attempts_in_file.lines().collect();
        let distinct: BTreeSet<&str> = attempts_in_file.iter().copied().collect();
        assert_eq!(
            distinct.len(),
            attempts_in_file.len(),
            "{failpoint}: an attempt was started twice: {attempts_in_file:?}"
        );
        let unknown: Vec<_> = distinct.iter().filter(|attempt| !attempts.contains(**attempt)).collect();
        assert!(unknown.is_empty(), "{failpoint}: attempts without a run.started event: {unknown:?}");

        if let Some(sealed) = &submitted.sealed {
            let expected = crate::support::sha256(&secret());
            let output = tool_outputs(&self.host.run_events(sealed));
            assert!(output.contains(&expected), "{failpoint}: the secret of the payload was not restored: {output}");
        }
        if let Some(plain) = &submitted.plain {
            assert!(answer(&self.host.run_events(plain)).contains("plain"), "{failpoint}");
        }
        self.host.assert_nothing_runs(CLEANUP_LIMIT);
        check_database(&self.host);
        for folder in [self.host.home().join("data/private"), self.host.root().join("tmp")] {
            let left: Vec<_> =
                fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
            assert!(left.is_empty(), "{failpoint}: left behind: {left:?}");
        }
        // The last run with this priority, acknowledged or not.
        let victim = runs.iter().rev().find(|run| self.host.record(run)["queuePriority"] == 10)?;
        Some(self.host.run_events(victim))
    }

    /// Kills the host at a failpoint and checks all runs after the restart.
    #[track_caller]
    fn kill_at(&mut self, failpoint: &str, expected: ExpectedOutcome) {
        let known = self.runs_so_far();
        let host_pid = self.start_host_that_dies_at(failpoint);
        let victim = self.prompt("echo first words; echo last words");
        let submitted = self.submit_runs(&victim, &json!({ "maxRetries": 1, "retryBackoffMs": 100 }));
        self.restart_after_crash(host_pid, failpoint);
        let events = self.check(&submitted, failpoint).filter(|_| self.runs().len() == known + 4);
        assert_eq!(events.is_some(), expected != ExpectedOutcome::NotStored, "{failpoint}");
        let Some(events) = events else { return };
        let end = &end_of(&events).unwrap()["payload"];
        match expected {
            ExpectedOutcome::Completed => {
                assert!(answer(&events).contains("last words"), "{failpoint}: {end}");
                assert_eq!(of_type(&events, "run.started").len(), 1, "{failpoint}");
            }
            ExpectedOutcome::CompletedByRetry => {
                assert!(answer(&events).contains("last words"), "{failpoint}: {end}");
                assert_eq!(attempts_of(&events), [1, 2], "{failpoint}");
            }
            ExpectedOutcome::Interrupted => assert_eq!(end["reason"], "interrupted", "{failpoint}"),
            ExpectedOutcome::NotStored => {}
        }
    }

    fn runs_so_far(&self) -> usize {
        self.host.ensure_running();
        self.runs().len()
    }
}

fn attempts_of(events: &[Value]) -> Vec<u64> {
    of_type(events, "run.started").iter().filter_map(|event| event["payload"]["attempt"].as_u64()).collect()
}

/// A child that was recorded, but not released, does not count as an attempt: the run is queued again without retries.
#[test]
fn host_killed_before_the_release_of_a_child_requeues_the_run() {
    if !steerable() {
        return;
    }
    let mut fixture = CrashFixture::new("");
    let host_pid = fixture.start_host_that_dies_at("spawn.recorded@2");
    let submitted =
        fixture.submit_runs(&fixture.prompt("echo first words; echo last words"), &json!({ "maxRetries": 0 }));
    fixture.restart_after_crash(host_pid, "spawn.recorded");
    let events = fixture.check(&submitted, "spawn.recorded").unwrap();
    assert!(answer(&events).contains("last words"));
    assert_eq!(attempts_of(&events), [1, 2]);
    // The first attempt has not run: only the second one is in the file.
    let attempts_in_file = fs::read_to_string(fixture.host.work().join("started")).unwrap();
    let run = events[0]["runId"].as_str().unwrap();
    assert_eq!(attempts_in_file.lines().filter(|line| line.contains(run)).collect::<Vec<_>>(), [format!("{run}-2")]);
}

/// Failpoints between the submit and the start of a run.
#[test]
fn host_killed_around_insert_acknowledgement_and_claim_keeps_acknowledged_runs() {
    if !steerable() {
        return;
    }
    let mut fixture = CrashFixture::new("");
    // The victim is the fourth run to be submitted and the second to start.
    fixture.kill_at("insert.before@4", ExpectedOutcome::NotStored);
    for failpoint in ["insert.after@4", "acknowledge.before@4", "claim.after@2"] {
        fixture.kill_at(failpoint, ExpectedOutcome::Completed);
    }
    // The first run of this host.
    let host_pid = fixture.start_host_that_dies_at("claim.before");
    let submitted = fixture.submit_runs("SAY late", &json!({}));
    fixture.restart_after_crash(host_pid, "claim.before");
    fixture.check(&submitted, "claim.before");
}

/// The host dies after it has acknowledged the submit, and before it starts the run.
#[test]
fn acknowledged_run_survives_a_killed_host() {
    if !steerable() {
        return;
    }
    let mut fixture = CrashFixture::new("");
    let host_pid = fixture.start_host_that_dies_at("nowhere");
    // No slot becomes free: the acknowledged runs wait.
    let blocker = fixture.host.submit(&fixture.prompt("sleep 600"), &json!({})).unwrap();
    // The status `running` is not enough: a run that is killed before its child starts is queued again, and would then
    // sleep.
    let started = fixture.host.work().join("started");
    wait_until("the child of the blocking run", TIMEOUT, || started.exists().then_some(()));
    let sealed = fixture.host.submit(&fixture.sealed_prompt(), &json!({})).unwrap();
    let victim = fixture.host.submit(&fixture.prompt("echo last words"), &json!({ "queuePriority": 10 })).unwrap();
    crate::support::signal(host_pid, Signal::SIGKILL);
    fixture.restart_after_crash(host_pid, "acknowledge.after");
    let submitted = SubmittedRuns { blocker: Some(blocker), sealed: Some(sealed), plain: None, victim: Some(victim) };
    let events = fixture.check(&submitted, "acknowledge.after").unwrap();
    assert!(answer(&events).contains("last words"));
}

/// Failpoints of an attempt.
#[test]
fn host_killed_during_an_attempt_interrupts_started_runs() {
    if !steerable() {
        return;
    }
    let mut fixture = CrashFixture::new("");
    for failpoint in ["spawn.before@2", "spawn.prepared@2"] {
        fixture.kill_at(failpoint, ExpectedOutcome::Completed);
    }
    fixture.kill_at("spawn.recorded@2", ExpectedOutcome::CompletedByRetry);
    for failpoint in
        ["spawn.after@2", "chunk.before@2", "chunk.after@2", "exit.before@2", "exit.after@2", "end.before@2"]
    {
        fixture.kill_at(failpoint, ExpectedOutcome::Interrupted);
    }
    fixture.kill_at("end.after@2", ExpectedOutcome::Completed);
}

/// If the operator allows it, an interrupted run continues with its next attempt.
#[test]
fn interrupted_runs_are_queued_again_if_configured() {
    if !steerable() {
        return;
    }
    let mut fixture = CrashFixture::new("requeue_interrupted = true\n");
    for failpoint in ["spawn.recorded@2", "spawn.after@2", "chunk.after@2", "exit.after@2", "end.before@2"] {
        let host_pid = fixture.start_host_that_dies_at(failpoint);
        let victim = fixture.prompt("echo first words; echo last words");
        let submitted = fixture.submit_runs(&victim, &json!({ "maxRetries": 1, "retryBackoffMs": 100 }));
        fixture.restart_after_crash(host_pid, failpoint);
        let events = fixture.check(&submitted, failpoint).unwrap();
        assert!(answer(&events).contains("last words"), "{failpoint}");
        assert_eq!(attempts_of(&events), [1, 2], "{failpoint}");
    }
}

#[test]
fn host_killed_around_a_retry_ends_the_run_once() {
    if !steerable() {
        return;
    }
    let mut fixture = CrashFixture::new("");
    for (failpoint, attempts, reason) in [("requeue.before", 1, "interrupted"), ("requeue.after", 2, "completed")] {
        let host_pid = fixture.start_host_that_dies_at(failpoint);
        let submitted = fixture.submit_runs("FAILONCE transient", &json!({ "maxRetries": 1, "retryBackoffMs": 100 }));
        fixture.restart_after_crash(host_pid, failpoint);
        let events = fixture.check(&submitted, failpoint).unwrap();
        assert_eq!(end_of(&events).unwrap()["payload"]["reason"], reason, "{failpoint}");
        assert_eq!(of_type(&events, "run.started").len(), attempts, "{failpoint}");
    }
}

/// The host that recovers the runs of the killed host is killed, too.
#[test]
fn host_killed_during_recovery_recovers_at_the_next_start() {
    if !steerable() {
        return;
    }
    let mut fixture = CrashFixture::new("");
    for failpoint in ["recover.before", "recover.settled", "recover.after"] {
        let host_pid = fixture.start_host_that_dies_at("exit.before@2");
        let submitted = fixture.submit_runs(&fixture.prompt("echo last words"), &json!({}));
        wait_until("the death of the host", TIMEOUT, || fixture.is_dead(host_pid).then_some(()));
        fixture.host.set("OSTLER_FAILPOINT", failpoint);
        let failed = fixture.host.run(&["--json", "runs"]);
        assert_ne!(failed.code, 0, "{failpoint}: the host has started");
        fixture.restart_after_crash(host_pid, failpoint);
        let events = fixture.check(&submitted, failpoint).unwrap();
        assert_eq!(end_of(&events).unwrap()["payload"]["reason"], "interrupted", "{failpoint}");
    }
}

/// Just before and just after each commit, from the start of the host to the end of its runs.
#[test]
fn host_killed_at_any_commit_keeps_acknowledged_runs() {
    if !steerable() {
        return;
    }
    let most = std::env::var("OSTLER_CRASH_COMMITS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let mut fixture = CrashFixture::new("requeue_interrupted = true\n");
    let mut deaths = 0;
    for count in 1..=most {
        for side in ["before", "after"] {
            let failpoint = format!("commit.{side}@{count}");
            let Some(host_pid) = fixture.start_host_that_may_die_at(&failpoint) else {
                // It died while it started; the next host must start.
                deaths += 1;
                fixture.host.unset("OSTLER_FAILPOINT");
                fixture.host.ensure_running();
                continue;
            };
            let retry = json!({ "maxRetries": 1, "retryBackoffMs": 100 });
            let submit = |prompt: &str| fixture.host.submit(prompt, &retry).ok();
            let submitted = SubmittedRuns {
                blocker: submit(&fixture.prompt("echo one")),
                sealed: submit(&fixture.sealed_prompt()),
                plain: submit(&fixture.prompt("echo plain")),
                victim: None,
            };
            if fixture.dies_before_all_have_ended(host_pid) {
                deaths += 1;
                fixture.restart_after_crash(host_pid, &failpoint);
            }
            fixture.check(&submitted, &failpoint);
        }
    }
    // Three runs make more transactions than that, even if several are committed together.
    assert!(deaths >= 2 * most.min(6), "the host has died only {deaths} times");
}
