//! Control of the queue: dependencies, pauses, priorities, and the queue listing.

use crate::support::terminal::{CTRL_C, Terminal};
use crate::support::{TIMEOUT, TestHost, check_run_events, end_of, of_type, wait_until};
use serde_json::{Value, json};

/// One run at a time.
const ONE: &str = "[scheduler]\nglobal = 1\n";

/// Starts a run that occupies a slot until it is canceled.
fn occupy_slot(host: &TestHost) -> String {
    let run = host.detach(&["rehearsal", "SLEEP 600"]);
    wait_until("a run with status running", TIMEOUT, || (host.record(&run)["status"] == "running").then_some(()));
    run
}

fn jobs(host: &TestHost) -> Vec<Value> {
    host.call("list_queue_jobs", &json!({})).unwrap().as_array().unwrap().clone()
}

/// The titles of the waiting runs in the order in which they will start, and why they wait.
fn waiting(host: &TestHost) -> Vec<(String, String)> {
    let text = |job: &Value, name: &str| job[name].as_str().unwrap_or_default().to_owned();
    let jobs = jobs(host).into_iter().filter(|job| job["state"] != "running");
    jobs.map(|job| (text(&job, "title").replace("SAY ", ""), text(&job, "reason"))).collect()
}

#[test]
fn run_starts_after_its_dependencies() {
    let host = TestHost::granted("[scheduler]\nglobal = 4\nper_provider = 4\n");
    let first = occupy_slot(&host);
    let second = host.detach(&["rehearsal", "--after", &first, "--even-if-failed", "SAY second"]);
    let third = host.detach(&["rehearsal", "--after", &second, "--after", &first, "--even-if-failed", "SAY third"]);
    let listed = jobs(&host);
    let job = |run: &str| listed.iter().find(|job| job["runId"] == run).unwrap();
    assert_eq!((&job(&second)["state"], &job(&second)["reason"]), (&json!("held"), &json!("dependency")));
    assert_eq!(job(&second)["waitsFor"], json!([first]));
    assert_eq!(job(&third)["waitsFor"].as_array().unwrap().len(), 2);
    let table = host.run(&["queue"]).ok().stdout;
    assert!(table.contains(&format!("the end of {}", &first[28..])) && table.contains("SAY third"), "{table}");
    // A free slot is not enough.
    host.run(&["run", "rehearsal", "SAY in between"]).ok();
    assert_eq!(host.record(&second)["status"], "queued");

    host.run(&["cancel", &first]).ok();
    host.run(&["wait", &second, &third]).ok();
    let ended = |run: &str| host.record(run)["endedAt"].as_str().unwrap().to_owned();
    assert!(ended(&first).as_str() <= host.record(&second)["startedAt"].as_str().unwrap());
    assert!(ended(&second).as_str() <= host.record(&third)["startedAt"].as_str().unwrap());
    // A completed run is no reason to wait.
    host.run(&["run", "rehearsal", "--after", &second, "SAY at once"]).ok();
    // A rerun does not wait for the dependencies of the original run.
    host.run(&["rm", "--yes", &first, &second]).ok();
    assert_eq!(host.run(&["rerun", &third]).ok().stdout, "third\n");
    check_run_events(&host.run_events(&third));
}

#[test]
fn run_is_canceled_if_its_dependency_does_not_complete() {
    let host = TestHost::granted("");
    let first = occupy_slot(&host);
    let second = host.detach(&["rehearsal", "--after", &first, "SAY second"]);
    let third = host.detach(&["rehearsal", "--after", &second, "SAY third"]);
    let lenient = host.detach(&["rehearsal", "--after", &third, "--even-if-failed", "SAY lenient"]);
    let follower = host.follow(&["run", "rehearsal", "--after", &third, "SAY never"]);
    wait_until("five runs", TIMEOUT, || (jobs(&host).len() == 5).then_some(()));
    host.run(&["cancel", &first]).ok();
    for (run, cause) in [(&second, &first), (&third, &second)] {
        let events = host.wait_for_end(run);
        check_run_events(&events);
        let end = end_of(&events).unwrap();
        assert_eq!((&end["type"], &end["payload"]["reason"]), (&json!("run.canceled"), &json!("dependency_failed")));
        assert!(end["payload"]["message"].as_str().unwrap().contains(cause.as_str()), "{end}");
        assert_eq!(of_type(&events, "run.started").len(), 0);
    }
    host.run(&["wait", &third]).code(130);
    host.run(&["wait", &lenient]).ok();
    assert_eq!(follower.finish().0, 130);

    // An impossible dependency is refused, and no run is stored.
    let before = host.call("list_runs", &json!({})).unwrap()["total"].clone();
    let refused = host.run(&["run", "rehearsal", "--after", &third, "SAY x"]).code(7);
    assert!(
        refused.stderr.contains("has not completed") && refused.stderr.contains("--even-if-failed"),
        "{}",
        refused.stderr
    );
    let unknown = json!({"startAfter": {"runIds": ["0199c0de-0000-7000-8000-000000000000"]}});
    let error = host.submit("SAY x", &unknown).unwrap_err();
    assert_eq!((error.kind(), &error.data()["pointer"]), ("NOT_FOUND", &json!("/startAfter/runIds/0")));
    for wrong in [json!({"runIds": []}), json!({"runIds": ["x"]}), json!({}), json!({"runIds": [first], "when": 1})] {
        let error = host.submit("SAY x", &json!({"startAfter": wrong})).unwrap_err();
        assert_eq!(error.kind(), "INVALID_PARAMS", "{wrong}");
    }
    host.run(&["run", "rehearsal", "--after", "abcd", "SAY x"]).code(5);
    host.run(&["run", "rehearsal", "--even-if-failed", "SAY x"]).code(2);
    assert_eq!(host.call("list_runs", &json!({})).unwrap()["total"], before);
    assert_eq!(jobs(&host), Vec::<Value>::new());
}

#[test]
fn run_waits_for_the_retry_of_its_dependency() {
    let host = TestHost::granted("");
    let more = json!({"maxRetries": 1, "retryBackoffMs": 100});
    host.ensure_running();
    let paused = host.run(&["queue", "pause"]).ok().stdout;
    assert!(paused.contains("paused"), "{paused}");
    let first = host.submit("FAILONCE transient", &more).unwrap();
    let second = host.detach(&["rehearsal", "--after", &first, "SAY after the retry"]);
    host.run(&["queue", "resume"]).ok();
    host.run(&["wait", &first, &second]).ok();
    assert_eq!(host.record(&first)["attempt"], 2);
}

#[test]
fn dependencies_survive_a_restart() {
    let host = TestHost::granted(ONE);
    let first = occupy_slot(&host);
    let after_first = host.detach(&["rehearsal", "--after", &first, "--even-if-failed", "SAY after the first"]);
    let strict = host.detach(&["rehearsal", "--after", &first, "SAY strict"]);
    let scheduled = host.detach(&["rehearsal", "--in", "1h", "SAY scheduled"]);
    let after_scheduled = host.detach(&["rehearsal", "--after", &scheduled, "SAY after the scheduled one"]);
    // The next host finds that the first run was running when the host was killed.
    crate::support::signal(host.ensure_running(), nix::sys::signal::Signal::SIGKILL);
    wait_until("the end of the host", TIMEOUT, || host.health().is_err().then_some(()));
    host.ensure_running();
    host.run(&["wait", &after_first]).ok();
    host.run(&["wait", &strict]).code(130);
    assert_eq!(host.record(&first)["status"], "interrupted");
    assert_eq!(host.record(&strict)["reason"], "dependency_failed");
    // The same after a normal stop.
    host.stop();
    host.ensure_running();
    let shown = host.run(&["show", &after_scheduled]).ok().stdout;
    assert!(shown.contains(&format!("the end of {}", &scheduled[28..])), "{shown}");
    let record = host.record(&after_scheduled);
    assert_eq!((&record["status"], &record["job"]["reason"]), (&json!("queued"), &json!("dependency")), "{record}");
    assert_eq!(record["job"]["waitsFor"], json!([scheduled]));
    host.run(&["cancel", &scheduled]).ok();
    host.run(&["wait", &after_scheduled]).code(130);
}

#[test]
fn message_with_a_dependency_blocks_later_messages() {
    let host = TestHost::granted("");
    let first = occupy_slot(&host);
    let chat = host.run(&["chat", "new", "rehearsal"]).ok().stdout.trim().to_owned();
    let send = |args: &[&str]| {
        let all: Vec<&str> = ["chat", "send", "--detach", &chat].iter().chain(args).copied().collect();
        host.run(&all).ok().stdout.trim().to_owned()
    };
    let one = send(&["--after", &first, "--even-if-failed", "SAY one"]);
    let two = send(&["SAY two"]);
    let reasons: Vec<String> = waiting(&host).into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(reasons, ["dependency", "conversation"]);
    host.run(&["cancel", &first]).ok();
    host.run(&["wait", &one, &two]).ok();
    assert!(host.record(&one)["endedAt"].as_str() <= host.record(&two)["startedAt"].as_str());
}

#[test]
fn paused_queue_starts_nothing_until_resumed_even_after_a_restart() {
    let host = TestHost::granted("[providers.other]\nplugin = \"rehearsal\"\n");
    let running = occupy_slot(&host);
    assert_eq!(host.run(&["queue", "pause", "--json"]).ok().json(), json!({"paused": true, "pausedProviders": []}));
    let run = host.detach(&["rehearsal", "SAY one"]);
    assert_eq!(waiting(&host), [("one".to_owned(), "paused".to_owned())]);
    assert_eq!(host.record(&running)["status"], "running", "a pause does not stop running runs");
    let shown = host.run(&["queue"]).ok();
    assert!(
        shown.stdout.contains("the queue (paused)") && shown.stderr.contains("ostler queue resume"),
        "{}",
        shown.all()
    );
    assert!(host.run(&["status"]).ok().stdout.contains("the queue is paused"));
    // A client that follows a waiting run sees the reason.
    let mut terminal = Terminal::start(host.command(&["run", "rehearsal", "SAY two"]));
    terminal.wait_for("the queue is paused");
    host.run(&["cancel", &running]).ok();
    host.stop();

    host.ensure_running();
    drop(terminal);
    let status = host.call("get_status", &json!({})).unwrap();
    assert_eq!((&status["queuePaused"], &status["ready"]), (&json!(true), &json!(2)), "{status}");
    assert_eq!(host.record(&run)["status"], "queued");
    assert_eq!(host.run(&["queue", "resume"]).ok().stdout, "the queue is running: nothing is paused\n");
    host.run(&["wait", &run]).ok();

    // A pause of one provider.
    let paused = host.run(&["queue", "pause", "rehearsal"]).ok().stdout;
    assert!(paused.contains("rehearsal"), "{paused}");
    let run = host.detach(&["rehearsal", "SAY three"]);
    host.run(&["run", "other", "SAY meanwhile"]).ok();
    assert_eq!(waiting(&host), [("three".to_owned(), "provider_paused".to_owned())]);
    host.run(&["queue", "resume"]).ok();
    assert_eq!(host.record(&run)["status"], "queued", "the provider was paused by name");
    host.run(&["queue", "resume", "rehearsal"]).ok();
    host.run(&["wait", &run]).ok();
    host.run(&["queue", "pause", "nobody"]).code(5);
    let audited = host.call("list_audit", &json!({"kind": "queue"})).unwrap();
    let what: Vec<&Value> =
        audited["records"].as_array().unwrap().iter().map(|record| &record["facts"]["what"]).collect();
    assert_eq!(what, ["pause", "resume", "pause", "resume", "resume"]);
}

#[test]
fn priority_change_moves_a_waiting_run() {
    let host = TestHost::granted(ONE);
    let running = occupy_slot(&host);
    let runs = ["one", "two", "three"].map(|name| host.detach(&["rehearsal", &format!("SAY {name}")]));
    let order = |host: &TestHost| waiting(host).into_iter().map(|(title, _)| title).collect::<Vec<_>>();
    assert_eq!(order(&host), ["one", "two", "three"]);
    assert_eq!(waiting(&host)[0].1, "provider_limit");
    let moved = host.run(&["queue", "move", &runs[2], "--priority", "5"]).ok().stdout;
    assert_eq!(moved, format!("{} has priority 5, place 1\n", &runs[2][28..]));
    host.run(&["queue", "move", &runs[0], "--priority", "-5", "--json"]).ok().json();
    assert_eq!(order(&host), ["three", "two", "one"]);
    assert_eq!(host.record(&runs[2])["queuePriority"], 5);
    let changed = of_type(&host.run_events(&runs[2]), "run.progress").last().unwrap()["payload"].clone();
    assert_eq!((&changed["stage"], &changed["priority"]), (&json!("priority_changed"), &json!(5)));
    // A running run cannot be moved.
    let refused = host.run(&["queue", "move", &running, "--priority", "1"]).code(7);
    assert!(refused.stderr.contains("running"), "{}", refused.stderr);
    host.run(&["queue", "move", &runs[1], "--priority", "11"]).code(2);
    host.run(&["queue", "move", &runs[1]]).code(2);
    // The order survives a restart.
    host.run(&["queue", "pause"]).ok();
    host.stop();
    host.ensure_running();
    assert_eq!(order(&host), ["three", "two", "one"]);
    host.run(&["queue", "resume"]).ok();
    host.run(&["wait", &runs[0], &runs[1], &runs[2]]).ok();
    let start = |run: &String| host.record(run)["startedAt"].as_str().unwrap().to_owned();
    assert!(start(&runs[2]) < start(&runs[1]) && start(&runs[1]) < start(&runs[0]));
    host.run(&["queue", "move", &runs[0], "--priority", "1"]).code(7);
}

#[test]
fn cancel_all_asks_and_cancels_waiting_before_running_runs() {
    let host = TestHost::granted(ONE);
    assert!(host.run(&["cancel", "--all", "--yes"]).ok().stderr.contains("the queue is empty"));
    let running = occupy_slot(&host);
    let waiting: Vec<String> =
        (0..40).map(|number| host.submit(&format!("SAY {number}"), &json!({})).unwrap()).collect();
    host.run(&["cancel", "--all"]).code(2);
    host.run(&["cancel", "--all", &running]).code(2);
    let mut terminal = Terminal::start(host.command(&["cancel", "--all"]));
    terminal.wait_for("Cancel 1 running and 40 waiting runs? [y/N]");
    terminal.type_keys("n\n");
    terminal.wait_for("nothing was canceled");
    assert_eq!(terminal.finish().0, 130);
    assert_eq!(jobs(&host).len(), 41);
    let canceled = host.run(&["cancel", "--all", "--yes", "--json"]).ok().json();
    assert_eq!(canceled.as_array().unwrap().len(), 41);
    for run in waiting.iter().chain([&running]) {
        assert_eq!(host.record(run)["status"], "canceled");
    }
    assert!(
        waiting.iter().all(|run| host.record(run).get("startedAt").is_none()),
        "no waiting run started in the free slot"
    );
}

#[test]
fn queue_watch_updates_on_changes() {
    let host = TestHost::granted(ONE);
    let running = occupy_slot(&host);
    let mut watching = host.follow(&["queue", "--watch", "--json"]);
    let one = |count: usize| move |line: &Value| line.as_array().is_some_and(|jobs| jobs.len() == count);
    watching.wait_for("one job", one(1));
    host.detach(&["rehearsal", "SAY another"]);
    watching.wait_for("two jobs", one(2));
    watching.kill();

    let mut terminal = Terminal::start(host.command(&["queue", "--watch"]));
    terminal.wait_for("SAY another");
    host.run(&["queue", "pause"]).ok();
    terminal.wait_for("the queue is paused");
    host.run(&["cancel", "--all", "--yes"]).ok();
    terminal.wait_for("the queue is empty");
    terminal.type_keys(CTRL_C);
    assert_eq!(terminal.finish().0, 130);
    assert_eq!(host.record(&running)["status"], "canceled");
}
