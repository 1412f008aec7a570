//! Retention deletes runs that are too old or use too much space, on request and when the host starts, but no active
//! run.

use crate::support::{TIMEOUT, TestHost, wait_until};
use serde_json::{Value, json};

/// Makes all stored runs and events older by this number of days.
fn age(host: &TestHost, days: i64) {
    host.stop();
    let database = rusqlite::Connection::open(host.home().join("data/ostler.db")).unwrap();
    let past = days * 86_400_000_000;
    database.execute("UPDATE runs SET created_us = created_us - ?1, ended_us = ended_us - ?1", [past]).unwrap();
    database.execute("UPDATE run_events SET at_us = at_us - ?1", [past]).unwrap();
}

fn runs(host: &TestHost) -> Vec<String> {
    let listed = host.call("list_runs", &json!({})).unwrap();
    listed["items"].as_array().unwrap().iter().map(|run| run["runId"].as_str().unwrap().to_owned()).collect()
}

fn apply(host: &TestHost, dry_run: bool) -> Value {
    host.call("apply_retention", &json!({"dryRun": dry_run})).unwrap()
}

#[track_caller]
fn run(host: &TestHost, prompt: &str) -> String {
    let done = host.run(&["run", "--json", "rehearsal", prompt]);
    done.json_lines()[0]["runId"].as_str().unwrap().to_owned()
}

#[test]
fn dry_run_lists_what_apply_deletes() {
    let host = TestHost::granted("[retention.providers.rehearsal]\nmegabytes = 1\n");
    let first = run(&host, "SAY one");
    let big = run(&host, "BIG 700");
    let newest = run(&host, "SAY two");
    let dry = apply(&host, true);
    assert_eq!((&dry["dryRun"], &dry["runs"], &dry["complete"]), (&json!(true), &json!(0), &json!(true)), "{dry}");

    let set = host.run(&["retention", "set", "--provider", "rehearsal", "--megabytes", "1", "--json"]).ok().json();
    assert_eq!(set["megabytes"], json!({"value": 1, "origin": "override"}));
    let another = run(&host, "BIG 700");
    let dry = apply(&host, true);
    let gone: Vec<&str> = dry["items"].as_array().unwrap().iter().map(|item| item["runId"].as_str().unwrap()).collect();
    assert_eq!(gone, [first.as_str(), big.as_str()], "the oldest runs first, until the rest fits: {dry}");
    assert_eq!((&dry["items"][1]["rule"], &dry["items"][1]["name"]), (&json!("megabytes"), &json!("rehearsal")));
    assert_eq!(runs(&host).len(), 4, "a dry run deletes nothing");

    let cursor = host.run_events(&big)[0]["cursor"].as_u64().unwrap();
    let text = host.run(&["retention", "apply"]).ok().stdout;
    assert!(text.contains("2 runs deleted"), "{text}");
    assert_eq!(runs(&host), [another.clone(), newest]);
    let error = host.call("get_run", &json!({"runId": big})).unwrap_err();
    assert_eq!(error.kind(), "NOT_FOUND");
    // A subscriber with an old cursor is told that events are missing; one that follows an existing run is not.
    assert!(crate::support::events(&host.socket(), &format!("after={cursor}&follow=0")).contains("event: truncated"));
    let own = crate::support::events(&host.socket(), &format!("after={cursor}&follow=0&runId={another}"));
    assert!(!own.contains("truncated") && own.contains("run.completed"), "{own}");
    let state = host.call("get_retention", &json!({})).unwrap();
    assert_eq!((&state["last"]["runs"], &state["last"]["items"]), (&json!(2), &json!([])));
    assert!(state["policies"][1]["bytes"].as_u64().unwrap() < 1_000_000, "{state}");
}

#[test]
fn starting_host_deletes_expired_runs() {
    let host = TestHost::granted("");
    let refused = host.call("start_run", &json!({"provider": "rehearsal", "prompt": "SAY x", "cwd": "/"})).unwrap_err();
    assert_eq!(refused.kind(), "POLICY_DENIED");
    let old = run(&host, "SAY old");
    let file = host.root().join("kept.txt");
    std::fs::write(&file, "an export").unwrap();
    age(&host, 91);
    let database = rusqlite::Connection::open(host.home().join("data/ostler.db")).unwrap();
    database
        .execute(
            "INSERT INTO run_artifacts (artifact_id, run, kind, path, bytes, created_us, kept)
             SELECT randomblob(16), num, 'txt', ?1, 9, 0, 1 FROM runs",
            [file.to_str().unwrap()],
        )
        .unwrap();
    drop(database);
    host.ensure_running();
    wait_until("the retention of the starting host", TIMEOUT, || {
        let state = host.call("get_retention", &json!({})).unwrap();
        state.get("last").map(|last| assert_eq!((&last["runs"], &last["events"]), (&json!(1), &json!(1)), "{last}"))
    });
    assert_eq!(host.call("get_run", &json!({"runId": old})).unwrap_err().kind(), "NOT_FOUND");
    assert!(!file.exists(), "the exported file is deleted, too");
    // Nothing is left in the database, either.
    host.stop();
    let database = rusqlite::Connection::open(host.home().join("data/ostler.db")).unwrap();
    for table in ["runs", "run_bodies", "run_events", "run_artifacts", "scheduler_jobs"] {
        let rows: i64 = database.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 0, "{table}");
    }
}

#[test]
fn active_run_is_never_deleted() {
    let host = TestHost::granted("[retention]\ndays = 1\n[scheduler]\nglobal = 1\n");
    let live = host.detach(&["rehearsal", "SLOW 600"]);
    let waiting = host.detach(&["rehearsal", "SAY later"]);
    let mut follower = host.follow(&["logs", "--json", "-f", &live]);
    follower.wait_for("the first word", |event| event["payload"]["kind"] == "text_delta");
    host.run(&["retention", "set", "--megabytes", "1", "--workspace", host.work().to_str().unwrap()]).ok();
    assert_eq!(apply(&host, false)["runs"], 0);
    assert_eq!(runs(&host), [waiting, live]);
}

#[test]
fn limits_are_set_unset_and_validated() {
    let host = TestHost::granted("[retention]\ndays = 60\n");
    let shown = host.run(&["retention", "show", "--json"]).ok().json();
    assert_eq!(shown["policies"][0]["days"], json!({"value": 60, "origin": "file"}));
    assert_eq!(shown["policies"][0]["megabytes"], json!({"value": 1024, "origin": "default"}));
    host.run(&["retention", "set", "--days", "0"]).ok();
    host.run(&["retention", "set", "--megabytes", "7"]).ok();
    let global = host.call("get_retention", &json!({})).unwrap()["policies"][0].take();
    assert_eq!(
        (&global["days"]["value"], &global["megabytes"]["value"]),
        (&json!(0), &json!(7)),
        "both calls took effect"
    );
    let text = host.run(&["retention", "show"]).ok().stdout;
    assert!(text.contains("forever (set)") && text.contains("7 (set)"), "{text}");
    let back = host.run(&["retention", "unset", "--json"]).ok().json();
    assert_eq!(back["policies"][0]["days"]["origin"], "file");

    host.run(&["retention", "unset"]).code(5);
    host.run(&["retention", "set"]).code(2);
    host.run(&["retention", "set", "--days", "36501"]).code(2);
    host.run(&["retention", "set", "--provider", "nobody", "--days", "1"]).code(5);
    let both = host.call("set_retention", &json!({"scope": "global", "name": "x"})).unwrap_err();
    let text = both.text();
    assert!(text.contains("the global scope has no name") && text.contains("give days or megabytes"), "{text}");
    for (wrong, pointer) in [
        (json!({"scope": "workspace", "name": "here", "days": 1}), "/name"),
        (json!({"scope": "provider", "days": 1}), "/name"),
        (json!({"scope": "planet", "days": 1}), "/scope"),
        (json!({"scope": "global", "days": -1}), "/days"),
        (json!({"scope": "global", "megabytes": 1_000_000_001}), "/megabytes"),
        (json!({"scope": "global", "weeks": 1}), "/weeks"),
    ] {
        let error = host.call("set_retention", &wrong).unwrap_err();
        assert_eq!((error.kind(), &error.data()["pointer"]), ("INVALID_PARAMS", &json!(pointer)), "{wrong}");
    }
}
