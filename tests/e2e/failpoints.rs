//! The host is killed at named places of its work, see `host/src/failpoint.rs`, and started again. Whatever was
//! acknowledged comes to its end, once; nothing is started twice; nothing stays behind.

use crate::support::{
    PATIENCE, TestHost, answer, carrying, check_database, check_story, end_of, of_type, steerable, tool_outputs, until,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, time::Duration};

/// The longest that a process of a run may outlive the host.
const SWIFTLY: Duration = Duration::from_secs(2);

/// A made-up token, which is masked in what is stored: only the sealed payload has it.
fn secret() -> String {
    format!("{}{}", ["gh", "p_"].concat(), "K3wQ8zT1xV6bN9mR4cL7yJ2hF5dS0gPaUeIo")
}

/// What has become of the run that the place was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is not there, and nobody was told that it was.
    Unborn,
    /// It waited, and has run after the restart as if nothing had been.
    Done,
    /// It was recorded as begun, and had not: it has run in the attempt after that.
    DoneLater,
    /// It had begun.
    Interrupted,
}

/// A bed on which hosts die.
struct Stage {
    bed: TestHost,
    /// How many scenes there were.
    scenes: u32,
}

/// Runs that were submitted, with their ids where the host still acknowledged them.
struct Cast {
    holder: Option<String>,
    sealed: Option<String>,
    plain: Option<String>,
    /// The run that the place is about: the last to come, and the next to go.
    victim: Option<String>,
}

impl Cast {
    fn acknowledged(&self) -> impl Iterator<Item = &String> {
        [&self.holder, &self.sealed, &self.plain, &self.victim].into_iter().flatten()
    }
}

impl Stage {
    fn new(config: &str) -> Self {
        Self { bed: TestHost::granted(&format!("[scheduler]\nglobal = 1\n{config}")), scenes: 0 }
    }

    /// A new host that dies at this place. Its process id.
    #[track_caller]
    fn host_that_dies_at(&mut self, place: &str) -> i32 {
        self.scenes += 1;
        self.bed.stop();
        self.bed.set("OSTLER_FAILPOINT", place);
        self.bed.host()
    }

    /// The same for a place at which it may come up no more: none then.
    fn host_that_may_die_at(&mut self, place: &str) -> Option<i32> {
        self.bed.stop();
        self.bed.set("OSTLER_FAILPOINT", place);
        let _ = self.bed.run(&["runs"]);
        let status = self.bed.call("get_status", &json!({})).ok()?;
        Some(i32::try_from(status["pid"].as_i64().unwrap()).unwrap())
    }

    fn is_dead(&self, host: i32) -> bool {
        carrying(self.bed.root()).iter().all(|process| process.pid != host)
    }

    /// Waits until the host has died or has nothing to do any more.
    fn dies_before_all_have_ended(&self, host: i32) -> bool {
        until("the death of the host, or the end of its runs", PATIENCE, || {
            if self.is_dead(host) {
                return Some(true);
            }
            let status = self.bed.call("get_status", &json!({})).ok()?;
            ["running", "ready", "scheduled"].iter().all(|count| status[count] == 0).then_some(false)
        })
    }

    /// A prompt that puts on record which attempt it belongs to, then does the rest.
    fn prompt(&self, rest: &str) -> String {
        format!("RUN echo $OSTLER_RUN_MARKER >> started; {rest}")
    }

    /// A prompt whose answer tells whether it was the true one.
    fn sealed_prompt(&self) -> String {
        self.prompt(&format!("printf %s {} | sha256sum", secret()))
    }

    /// One run at work, two behind it, and one that overtakes them. Then the slot becomes free.
    fn perform(&self, victim: &str, more: &Value) -> Cast {
        let go = format!("go-{}", self.scenes);
        let submit = |prompt: &str, more: &Value| self.bed.submit(prompt, more).ok();
        let holder = submit(&self.prompt(&format!("while ! [ -e {go} ]; do sleep 0.02; done; echo held")), &json!({}));
        let sealed = submit(&self.sealed_prompt(), &json!({}));
        let plain = submit(&self.prompt("echo plain"), &json!({}));
        let mut payload = json!({ "queuePriority": 10 });
        for (name, value) in more.as_object().unwrap() {
            payload[name] = value.clone();
        }
        let victim = submit(victim, &payload);
        self.bed.file(&go, "");
        Cast { holder, sealed, plain, victim }
    }

    /// Waits until the host has died, checks that it left no process, and starts one that lives.
    #[track_caller]
    fn revive(&mut self, host: i32, place: &str) {
        until(&format!("the death of the host at {place}"), PATIENCE, || self.is_dead(host).then_some(()));
        self.bed.assert_nothing_runs(SWIFTLY);
        self.bed.unset("OSTLER_FAILPOINT");
        self.bed.host();
    }

    /// All runs of the bed, oldest first.
    fn runs(&self) -> Vec<String> {
        let runs = self.bed.call("list_runs", &json!({ "limit": 1000 })).unwrap();
        let runs = runs["items"].as_array().unwrap().iter().rev();
        runs.map(|run| run["runId"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until everything has ended, and checks all that must be true then. Gives the victim's story.
    #[track_caller]
    fn check(&self, cast: &Cast, place: &str) -> Option<Vec<Value>> {
        let runs = self.runs();
        for run in cast.acknowledged() {
            assert!(runs.contains(run), "{place}: {run} was acknowledged and is lost");
        }
        let mut attempts = BTreeSet::new();
        for run in &runs {
            let story = self.bed.wait_for_end(run);
            check_story(&story);
            for started in of_type(&story, "run.started") {
                let attempt = format!("{run}-{}", started["payload"]["attempt"]);
                assert!(attempts.insert(attempt), "{place}: {run} has begun an attempt twice");
            }
        }
        let told = fs::read_to_string(self.bed.work().join("started")).unwrap_or_default();
        let told: Vec<&str> = told.lines().collect();
        let distinct: BTreeSet<&str> = told.iter().copied().collect();
        assert_eq!(distinct.len(), told.len(), "{place}: an attempt was started twice: {told:?}");
        let unknown: Vec<_> = distinct.iter().filter(|attempt| !attempts.contains(**attempt)).collect();
        assert!(unknown.is_empty(), "{place}: they ran without a record: {unknown:?}");

        if let Some(sealed) = &cast.sealed {
            let expected = crate::support::sha256(&secret());
            let output = tool_outputs(&self.bed.story(sealed));
            assert!(output.contains(&expected), "{place}: the payload was not the true one: {output}");
        }
        if let Some(plain) = &cast.plain {
            assert!(answer(&self.bed.story(plain)).contains("plain"), "{place}");
        }
        self.bed.assert_nothing_runs(SWIFTLY);
        check_database(&self.bed);
        for folder in [self.bed.home().join("data/private"), self.bed.root().join("tmp")] {
            let left: Vec<_> =
                fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
            assert!(left.is_empty(), "{place}: left behind: {left:?}");
        }
        // The last one of its priority, whether or not its client was told.
        let victim = runs.iter().rev().find(|run| self.bed.record(run)["queuePriority"] == 10)?;
        Some(self.bed.story(victim))
    }

    /// Kills the host at a place and checks what has become of everything.
    #[track_caller]
    fn kill_at(&mut self, place: &str, fate: Fate) {
        let known = self.runs_so_far();
        let host = self.host_that_dies_at(place);
        let victim = self.prompt("echo first words; echo last words");
        let cast = self.perform(&victim, &json!({ "maxRetries": 1, "retryBackoffMs": 100 }));
        self.revive(host, place);
        let story = self.check(&cast, place).filter(|_| self.runs().len() == known + 4);
        assert_eq!(story.is_some(), fate != Fate::Unborn, "{place}");
        let Some(story) = story else { return };
        let end = &end_of(&story).unwrap()["payload"];
        match fate {
            Fate::Done => {
                assert!(answer(&story).contains("last words"), "{place}: {end}");
                assert_eq!(of_type(&story, "run.started").len(), 1, "{place}");
            }
            Fate::DoneLater => {
                assert!(answer(&story).contains("last words"), "{place}: {end}");
                assert_eq!(attempts_of(&story), [1, 2], "{place}");
            }
            Fate::Interrupted => assert_eq!(end["reason"], "interrupted", "{place}"),
            Fate::Unborn => {}
        }
    }

    fn runs_so_far(&self) -> usize {
        self.bed.host();
        self.runs().len()
    }
}

fn attempts_of(story: &[Value]) -> Vec<u64> {
    of_type(story, "run.started").iter().filter_map(|event| event["payload"]["attempt"].as_u64()).collect()
}

/// A child that was recorded and not released is no retry: a run without any is queued again.
#[test]
fn killed_before_the_release_of_a_child_without_retries() {
    if !steerable() {
        return;
    }
    let mut stage = Stage::new("");
    let host = stage.host_that_dies_at("spawn.recorded@2");
    let cast = stage.perform(&stage.prompt("echo first words; echo last words"), &json!({ "maxRetries": 0 }));
    stage.revive(host, "spawn.recorded");
    let story = stage.check(&cast, "spawn.recorded").unwrap();
    assert!(answer(&story).contains("last words"));
    assert_eq!(attempts_of(&story), [1, 2]);
    // The first attempt has not run: of the two, one has put itself on record.
    let told = fs::read_to_string(stage.bed.work().join("started")).unwrap();
    let run = story[0]["runId"].as_str().unwrap();
    assert_eq!(told.lines().filter(|line| line.contains(run)).collect::<Vec<_>>(), [format!("{run}-2")]);
}

/// Places on the way of a run that waits for its turn.
#[test]
fn killed_around_insert_acknowledgement_and_claim() {
    if !steerable() {
        return;
    }
    let mut stage = Stage::new("");
    // The victim is the fourth to come and the second to begin.
    stage.kill_at("insert.before@4", Fate::Unborn);
    for place in ["insert.after@4", "acknowledge.before@4", "claim.after@2"] {
        stage.kill_at(place, Fate::Done);
    }
    // The first run ever to wait: nobody else is there.
    let host = stage.host_that_dies_at("claim.before");
    let cast = stage.perform("SAY late", &json!({}));
    stage.revive(host, "claim.before");
    stage.check(&cast, "claim.before");
}

/// The client has its answer, and the host dies before it does anything with the run.
#[test]
fn killed_after_the_acknowledgement() {
    if !steerable() {
        return;
    }
    let mut stage = Stage::new("");
    let host = stage.host_that_dies_at("nowhere");
    // No slot becomes free: the acknowledged ones can only wait.
    let holder = stage.bed.submit(&stage.prompt("sleep 600"), &json!({})).unwrap();
    // Counted as running is not enough: killed before its start, it would be queued again, and sleep then.
    let started = stage.bed.work().join("started");
    until("the child of the holder", PATIENCE, || started.exists().then_some(()));
    let sealed = stage.bed.submit(&stage.sealed_prompt(), &json!({})).unwrap();
    let victim = stage.bed.submit(&stage.prompt("echo last words"), &json!({ "queuePriority": 10 })).unwrap();
    crate::support::signal(host, Signal::SIGKILL);
    stage.revive(host, "acknowledge.after");
    let cast = Cast { holder: Some(holder), sealed: Some(sealed), plain: None, victim: Some(victim) };
    let story = stage.check(&cast, "acknowledge.after").unwrap();
    assert!(answer(&story).contains("last words"));
}

/// Places on the way of an attempt.
#[test]
fn killed_around_spawn_output_exit_and_end() {
    if !steerable() {
        return;
    }
    let mut stage = Stage::new("");
    for place in ["spawn.before@2", "spawn.prepared@2"] {
        stage.kill_at(place, Fate::Done);
    }
    stage.kill_at("spawn.recorded@2", Fate::DoneLater);
    for place in ["spawn.after@2", "chunk.before@2", "chunk.after@2", "exit.before@2", "exit.after@2", "end.before@2"] {
        stage.kill_at(place, Fate::Interrupted);
    }
    stage.kill_at("end.after@2", Fate::Done);
}

/// With the operator's consent, what was interrupted goes on by its next attempt.
#[test]
fn killed_and_queued_again() {
    if !steerable() {
        return;
    }
    let mut stage = Stage::new("requeue_interrupted = true\n");
    for place in ["spawn.recorded@2", "spawn.after@2", "chunk.after@2", "exit.after@2", "end.before@2"] {
        let host = stage.host_that_dies_at(place);
        let victim = stage.prompt("echo first words; echo last words");
        let cast = stage.perform(&victim, &json!({ "maxRetries": 1, "retryBackoffMs": 100 }));
        stage.revive(host, place);
        let story = stage.check(&cast, place).unwrap();
        assert!(answer(&story).contains("last words"), "{place}");
        assert_eq!(attempts_of(&story), [1, 2], "{place}");
    }
}

#[test]
fn killed_around_the_way_back_to_the_queue() {
    if !steerable() {
        return;
    }
    let mut stage = Stage::new("");
    for (place, attempts, reason) in [("requeue.before", 1, "interrupted"), ("requeue.after", 2, "completed")] {
        let host = stage.host_that_dies_at(place);
        let cast = stage.perform("FAILONCE transient", &json!({ "maxRetries": 1, "retryBackoffMs": 100 }));
        stage.revive(host, place);
        let story = stage.check(&cast, place).unwrap();
        assert_eq!(end_of(&story).unwrap()["payload"]["reason"], reason, "{place}");
        assert_eq!(of_type(&story, "run.started").len(), attempts, "{place}");
    }
}

/// The host that takes up what the dead one left dies over it, too.
#[test]
fn killed_while_recovering() {
    if !steerable() {
        return;
    }
    let mut stage = Stage::new("");
    for place in ["recover.before", "recover.settled", "recover.after"] {
        let host = stage.host_that_dies_at("exit.before@2");
        let cast = stage.perform(&stage.prompt("echo last words"), &json!({}));
        until("the death of the host", PATIENCE, || stage.is_dead(host).then_some(()));
        stage.bed.set("OSTLER_FAILPOINT", place);
        let failed = stage.bed.run(&["--json", "runs"]);
        assert_ne!(failed.code, 0, "{place}: the host has come up");
        stage.revive(host, place);
        let story = stage.check(&cast, place).unwrap();
        assert_eq!(end_of(&story).unwrap()["payload"]["reason"], "interrupted", "{place}");
    }
}

/// Every transaction, just before and just after it is committed, from the host's start to the end of its runs.
#[test]
fn killed_at_every_commit() {
    if !steerable() {
        return;
    }
    let most = std::env::var("OSTLER_CRASH_COMMITS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let mut stage = Stage::new("requeue_interrupted = true\n");
    let mut deaths = 0;
    for count in 1..=most {
        for side in ["before", "after"] {
            let place = format!("commit.{side}@{count}");
            let Some(host) = stage.host_that_may_die_at(&place) else {
                // It did not come up; the next one must.
                deaths += 1;
                stage.bed.unset("OSTLER_FAILPOINT");
                stage.bed.host();
                continue;
            };
            let retry = json!({ "maxRetries": 1, "retryBackoffMs": 100 });
            let submit = |prompt: &str| stage.bed.submit(prompt, &retry).ok();
            let cast = Cast {
                holder: submit(&stage.prompt("echo one")),
                sealed: submit(&stage.sealed_prompt()),
                plain: submit(&stage.prompt("echo plain")),
                victim: None,
            };
            if stage.dies_before_all_have_ended(host) {
                deaths += 1;
                stage.revive(host, &place);
            }
            stage.check(&cast, &place);
        }
    }
    // Three runs make more transactions than that, whichever of them go together.
    assert!(deaths >= 2 * most.min(6), "the host has died {deaths} times only");
}
