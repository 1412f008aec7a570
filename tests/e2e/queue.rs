//! The queue under control: runs that start after others, pauses, priorities, and the picture of it all.

use crate::support::terminal::{CTRL_C, Terminal};
use crate::support::{PATIENCE, TestHost, check_story, end_of, of_type, until};
use serde_json::{Value, json};

/// One run at a time.
const ONE: &str = "[scheduler]\nglobal = 1\n";

/// A run that holds a slot until it is canceled.
fn hold(bed: &TestHost) -> String {
    let run = bed.detach(&["rehearsal", "SLEEP 600"]);
    until("a run on record as running", PATIENCE, || (bed.record(&run)["status"] == "running").then_some(()));
    run
}

fn jobs(bed: &TestHost) -> Vec<Value> {
    bed.call("list_queue_jobs", &json!({})).unwrap().as_array().unwrap().clone()
}

/// The titles of the waiting runs in the order in which they leave, and why they wait.
fn waiting(bed: &TestHost) -> Vec<(String, String)> {
    let text = |job: &Value, name: &str| job[name].as_str().unwrap_or_default().to_owned();
    let jobs = jobs(bed).into_iter().filter(|job| job["state"] != "running");
    jobs.map(|job| (text(&job, "title").replace("SAY ", ""), text(&job, "reason"))).collect()
}

#[test]
fn a_run_starts_after_those_that_it_depends_on() {
    let bed = TestHost::granted("[scheduler]\nglobal = 4\nper_provider = 4\n");
    let first = hold(&bed);
    let second = bed.detach(&["rehearsal", "--after", &first, "--even-if-failed", "SAY second"]);
    let third = bed.detach(&["rehearsal", "--after", &second, "--after", &first, "--even-if-failed", "SAY third"]);
    let listed = jobs(&bed);
    let job = |run: &str| listed.iter().find(|job| job["runId"] == run).unwrap();
    assert_eq!((&job(&second)["state"], &job(&second)["reason"]), (&json!("held"), &json!("dependency")));
    assert_eq!(job(&second)["waitsFor"], json!([first]));
    assert_eq!(job(&third)["waitsFor"].as_array().unwrap().len(), 2);
    let table = bed.run(&["queue"]).ok().stdout;
    assert!(table.contains(&format!("the end of {}", &first[28..])) && table.contains("SAY third"), "{table}");
    // A free slot is not enough.
    bed.run(&["run", "rehearsal", "SAY in between"]).ok();
    assert_eq!(bed.record(&second)["status"], "queued");

    bed.run(&["cancel", &first]).ok();
    bed.run(&["wait", &second, &third]).ok();
    let ended = |run: &str| bed.record(run)["endedAt"].as_str().unwrap().to_owned();
    assert!(ended(&first).as_str() <= bed.record(&second)["startedAt"].as_str().unwrap());
    assert!(ended(&second).as_str() <= bed.record(&third)["startedAt"].as_str().unwrap());
    // One that has completed is no reason to wait.
    bed.run(&["run", "rehearsal", "--after", &second, "SAY at once"]).ok();
    // A rerun does not wait for what is over.
    bed.run(&["rm", "--yes", &first, &second]).ok();
    assert_eq!(bed.run(&["rerun", &third]).ok().stdout, "third\n");
    check_story(&bed.story(&third));
}

#[test]
fn a_run_is_canceled_where_what_it_depends_on_does_not_complete() {
    let bed = TestHost::granted("");
    let first = hold(&bed);
    let second = bed.detach(&["rehearsal", "--after", &first, "SAY second"]);
    let third = bed.detach(&["rehearsal", "--after", &second, "SAY third"]);
    let lenient = bed.detach(&["rehearsal", "--after", &third, "--even-if-failed", "SAY lenient"]);
    let follower = bed.follow(&["run", "rehearsal", "--after", &third, "SAY never"]);
    until("five runs", PATIENCE, || (jobs(&bed).len() == 5).then_some(()));
    bed.run(&["cancel", &first]).ok();
    for (run, cause) in [(&second, &first), (&third, &second)] {
        let story = bed.wait_for_end(run);
        check_story(&story);
        let end = end_of(&story).unwrap();
        assert_eq!((&end["type"], &end["payload"]["reason"]), (&json!("run.canceled"), &json!("dependency_failed")));
        assert!(end["payload"]["message"].as_str().unwrap().contains(cause.as_str()), "{end}");
        assert_eq!(of_type(&story, "run.started").len(), 0);
    }
    bed.run(&["wait", &third]).code(130);
    bed.run(&["wait", &lenient]).ok();
    assert_eq!(follower.finish().0, 130);

    // What cannot be waited for is refused, and nothing stays.
    let before = bed.call("list_runs", &json!({})).unwrap()["total"].clone();
    let refused = bed.run(&["run", "rehearsal", "--after", &third, "SAY x"]).code(7);
    assert!(
        refused.stderr.contains("has not completed") && refused.stderr.contains("--even-if-failed"),
        "{}",
        refused.stderr
    );
    let unknown = json!({"startAfter": {"runIds": ["0199c0de-0000-7000-8000-000000000000"]}});
    let error = bed.submit("SAY x", &unknown).unwrap_err();
    assert_eq!((error.kind(), &error.data()["pointer"]), ("NOT_FOUND", &json!("/startAfter/runIds/0")));
    for wrong in [json!({"runIds": []}), json!({"runIds": ["x"]}), json!({}), json!({"runIds": [first], "when": 1})] {
        let error = bed.submit("SAY x", &json!({"startAfter": wrong})).unwrap_err();
        assert_eq!(error.kind(), "INVALID_PARAMS", "{wrong}");
    }
    bed.run(&["run", "rehearsal", "--after", "abcd", "SAY x"]).code(5);
    bed.run(&["run", "rehearsal", "--even-if-failed", "SAY x"]).code(2);
    assert_eq!(bed.call("list_runs", &json!({})).unwrap()["total"], before);
    assert_eq!(jobs(&bed), Vec::<Value>::new());
}

#[test]
fn a_dependency_that_is_tried_again_has_not_ended() {
    let bed = TestHost::granted("");
    let more = json!({"maxRetries": 1, "retryBackoffMs": 100});
    bed.host();
    let paused = bed.run(&["queue", "pause"]).ok().stdout;
    assert!(paused.contains("paused"), "{paused}");
    let first = bed.submit("FAILONCE transient", &more).unwrap();
    let second = bed.detach(&["rehearsal", "--after", &first, "SAY after the retry"]);
    bed.run(&["queue", "resume"]).ok();
    bed.run(&["wait", &first, &second]).ok();
    assert_eq!(bed.record(&first)["attempt"], 2);
}

#[test]
fn dependencies_outlast_the_host() {
    let bed = TestHost::granted(ONE);
    let first = hold(&bed);
    let after_first = bed.detach(&["rehearsal", "--after", &first, "--even-if-failed", "SAY after the first"]);
    let strict = bed.detach(&["rehearsal", "--after", &first, "SAY strict"]);
    let scheduled = bed.detach(&["rehearsal", "--in", "1h", "SAY scheduled"]);
    let after_scheduled = bed.detach(&["rehearsal", "--after", &scheduled, "SAY after the scheduled one"]);
    // The next host finds that the first run was running when this one died.
    crate::support::signal(bed.host(), nix::sys::signal::Signal::SIGKILL);
    until("the end of the host", PATIENCE, || bed.health().is_err().then_some(()));
    bed.host();
    bed.run(&["wait", &after_first]).ok();
    bed.run(&["wait", &strict]).code(130);
    assert_eq!(bed.record(&first)["status"], "interrupted");
    assert_eq!(bed.record(&strict)["reason"], "dependency_failed");
    // And once more after a host that has ended by itself.
    bed.stop();
    bed.host();
    let shown = bed.run(&["show", &after_scheduled]).ok().stdout;
    assert!(shown.contains(&format!("the end of {}", &scheduled[28..])), "{shown}");
    let record = bed.record(&after_scheduled);
    assert_eq!((&record["status"], &record["job"]["reason"]), (&json!("queued"), &json!("dependency")), "{record}");
    assert_eq!(record["job"]["waitsFor"], json!([scheduled]));
    bed.run(&["cancel", &scheduled]).ok();
    bed.run(&["wait", &after_scheduled]).code(130);
}

#[test]
fn a_message_that_depends_on_a_run_holds_back_those_behind_it() {
    let bed = TestHost::granted("");
    let first = hold(&bed);
    let chat = bed.run(&["chat", "new", "rehearsal"]).ok().stdout.trim().to_owned();
    let send = |args: &[&str]| {
        let all: Vec<&str> = ["chat", "send", "--detach", &chat].iter().chain(args).copied().collect();
        bed.run(&all).ok().stdout.trim().to_owned()
    };
    let one = send(&["--after", &first, "--even-if-failed", "SAY one"]);
    let two = send(&["SAY two"]);
    let reasons: Vec<String> = waiting(&bed).into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(reasons, ["dependency", "conversation"]);
    bed.run(&["cancel", &first]).ok();
    bed.run(&["wait", &one, &two]).ok();
    assert!(bed.record(&one)["endedAt"].as_str() <= bed.record(&two)["startedAt"].as_str());
}

#[test]
fn a_paused_queue_starts_nothing_until_it_is_resumed_and_outlasts_the_host() {
    let bed = TestHost::granted("[providers.other]\nplugin = \"rehearsal\"\n");
    let going = hold(&bed);
    assert_eq!(bed.run(&["queue", "pause", "--json"]).ok().json(), json!({"paused": true, "pausedProviders": []}));
    let run = bed.detach(&["rehearsal", "SAY one"]);
    assert_eq!(waiting(&bed), [("one".to_owned(), "paused".to_owned())]);
    assert_eq!(bed.record(&going)["status"], "running", "what runs goes on");
    let shown = bed.run(&["queue"]).ok();
    assert!(
        shown.stdout.contains("the queue (paused)") && shown.stderr.contains("ostler queue resume"),
        "{}",
        shown.all()
    );
    assert!(bed.run(&["status"]).ok().stdout.contains("the queue is paused"));
    // Whoever follows a run is told why nothing happens.
    let mut terminal = Terminal::start(bed.command(&["run", "rehearsal", "SAY two"]));
    terminal.wait_for("the queue is paused");
    bed.run(&["cancel", &going]).ok();
    bed.stop();

    bed.host();
    drop(terminal);
    let status = bed.call("get_status", &json!({})).unwrap();
    assert_eq!((&status["queuePaused"], &status["ready"]), (&json!(true), &json!(2)), "{status}");
    assert_eq!(bed.record(&run)["status"], "queued");
    assert_eq!(bed.run(&["queue", "resume"]).ok().stdout, "the queue is running: nothing is paused\n");
    bed.run(&["wait", &run]).ok();

    // One provider alone.
    let paused = bed.run(&["queue", "pause", "rehearsal"]).ok().stdout;
    assert!(paused.contains("rehearsal"), "{paused}");
    let run = bed.detach(&["rehearsal", "SAY three"]);
    bed.run(&["run", "other", "SAY meanwhile"]).ok();
    assert_eq!(waiting(&bed), [("three".to_owned(), "provider_paused".to_owned())]);
    bed.run(&["queue", "resume"]).ok();
    assert_eq!(bed.record(&run)["status"], "queued", "it was paused by name");
    bed.run(&["queue", "resume", "rehearsal"]).ok();
    bed.run(&["wait", &run]).ok();
    bed.run(&["queue", "pause", "nobody"]).code(5);
    let audited = bed.call("list_audit", &json!({"kind": "queue"})).unwrap();
    let what: Vec<&Value> =
        audited["records"].as_array().unwrap().iter().map(|record| &record["facts"]["what"]).collect();
    assert_eq!(what, ["pause", "resume", "pause", "resume", "resume"]);
}

#[test]
fn a_waiting_run_is_moved_by_its_priority() {
    let bed = TestHost::granted(ONE);
    let going = hold(&bed);
    let runs = ["one", "two", "three"].map(|name| bed.detach(&["rehearsal", &format!("SAY {name}")]));
    let order = |bed: &TestHost| waiting(bed).into_iter().map(|(title, _)| title).collect::<Vec<_>>();
    assert_eq!(order(&bed), ["one", "two", "three"]);
    assert_eq!(waiting(&bed)[0].1, "provider_limit");
    let moved = bed.run(&["queue", "move", &runs[2], "--priority", "5"]).ok().stdout;
    assert_eq!(moved, format!("{} has priority 5, place 1\n", &runs[2][28..]));
    bed.run(&["queue", "move", &runs[0], "--priority", "-5", "--json"]).ok().json();
    assert_eq!(order(&bed), ["three", "two", "one"]);
    assert_eq!(bed.record(&runs[2])["queuePriority"], 5);
    let changed = of_type(&bed.story(&runs[2]), "run.progress").last().unwrap()["payload"].clone();
    assert_eq!((&changed["stage"], &changed["priority"]), (&json!("priority_changed"), &json!(5)));
    // What does not wait cannot be moved.
    let refused = bed.run(&["queue", "move", &going, "--priority", "1"]).code(7);
    assert!(refused.stderr.contains("running"), "{}", refused.stderr);
    bed.run(&["queue", "move", &runs[1], "--priority", "11"]).code(2);
    bed.run(&["queue", "move", &runs[1]]).code(2);
    // It holds after a restart.
    bed.run(&["queue", "pause"]).ok();
    bed.stop();
    bed.host();
    assert_eq!(order(&bed), ["three", "two", "one"]);
    bed.run(&["queue", "resume"]).ok();
    bed.run(&["wait", &runs[0], &runs[1], &runs[2]]).ok();
    let start = |run: &String| bed.record(run)["startedAt"].as_str().unwrap().to_owned();
    assert!(start(&runs[2]) < start(&runs[1]) && start(&runs[1]) < start(&runs[0]));
    bed.run(&["queue", "move", &runs[0], "--priority", "1"]).code(7);
}

#[test]
fn cancel_all_asks_and_cancels_what_waits_before_what_runs() {
    let bed = TestHost::granted(ONE);
    assert!(bed.run(&["cancel", "--all", "--yes"]).ok().stderr.contains("the queue is empty"));
    let going = hold(&bed);
    let waiting: Vec<String> =
        (0..40).map(|number| bed.submit(&format!("SAY {number}"), &json!({})).unwrap()).collect();
    bed.run(&["cancel", "--all"]).code(2);
    bed.run(&["cancel", "--all", &going]).code(2);
    let mut terminal = Terminal::start(bed.command(&["cancel", "--all"]));
    terminal.wait_for("Cancel 1 running and 40 waiting runs? [y/N]");
    terminal.type_keys("n\n");
    terminal.wait_for("nothing was canceled");
    assert_eq!(terminal.finish().0, 130);
    assert_eq!(jobs(&bed).len(), 41);
    let canceled = bed.run(&["cancel", "--all", "--yes", "--json"]).ok().json();
    assert_eq!(canceled.as_array().unwrap().len(), 41);
    for run in waiting.iter().chain([&going]) {
        assert_eq!(bed.record(run)["status"], "canceled");
    }
    assert!(waiting.iter().all(|run| bed.record(run).get("startedAt").is_none()), "none of them got the free slot");
}

#[test]
fn the_queue_is_shown_anew_when_it_changes() {
    let bed = TestHost::granted(ONE);
    let going = hold(&bed);
    let mut watching = bed.follow(&["queue", "--watch", "--json"]);
    let one = |count: usize| move |line: &Value| line.as_array().is_some_and(|jobs| jobs.len() == count);
    watching.wait_for("one job", one(1));
    bed.detach(&["rehearsal", "SAY another"]);
    watching.wait_for("two jobs", one(2));
    watching.kill();

    let mut terminal = Terminal::start(bed.command(&["queue", "--watch"]));
    terminal.wait_for("SAY another");
    bed.run(&["queue", "pause"]).ok();
    terminal.wait_for("the queue is paused");
    bed.run(&["cancel", "--all", "--yes"]).ok();
    terminal.wait_for("the queue is empty");
    terminal.type_keys(CTRL_C);
    assert_eq!(terminal.finish().0, 130);
    assert_eq!(bed.record(&going)["status"], "canceled");
}
