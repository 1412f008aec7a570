//! Deleted runs and conversations are in no list, no search result, and no byte of the files of the host.

use crate::support::terminal::Terminal;
use crate::support::{TIMEOUT, TestHost, check_database, wait_until};
use serde_json::json;
use std::fs;

/// The files in the data folder and the log folder of the host that contain this word.
fn files_with(host: &TestHost, word: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![host.home().join("data"), host.home().join("log")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            } else if let Ok(bytes) = fs::read(entry.path()) {
                // The search index contains words in lower case.
                let text = String::from_utf8_lossy(&bytes).to_lowercase();
                if text.contains(&word.to_lowercase()) {
                    found.push(entry.path().display().to_string());
                }
            }
        }
    }
    found
}

/// A long prompt with the word in every line, so that it fills whole pages of the database.
fn long_prompt(word: &str) -> String {
    let lines: Vec<String> = (0..400).map(|number| format!("{word} in line {number} of the text")).collect();
    format!("SAY {}", lines.join("\n"))
}

#[test]
fn deleted_run_leaves_no_text_in_any_file() {
    let host = TestHost::granted("");
    let word = "Quetzalcoatlus";
    for round in 0..3 {
        // Between other runs, whose words share pages and parts of the index with it.
        for number in 0..5 {
            host.run(&["run", "rehearsal", &format!("SAY other words {round} {number}")]).ok();
        }
        host.file("prompt", long_prompt(word));
        host.run(&["run", "rehearsal", "--file", "prompt"]).ok();
        host.run(&["run", "rehearsal", &format!("RUN echo {word}; echo {word} >&2; exit 3")]);
        // The index is built in parts, which SQLite merges from time to time.
        assert_eq!(host.call("list_runs", &json!({"search": word})).unwrap()["total"], 2 + 2 * round);
    }
    let kept = host.run(&["export", "@", "--format", "json"]).ok().stdout;
    let own = host.root().join("own.json");
    host.run(&["export", "@", "--output", own.to_str().unwrap()]).ok();
    assert_ne!(files_with(&host, word), [""; 0]);

    let found = host.call("list_runs", &json!({"search": word})).unwrap();
    let ids: Vec<&str> = found["items"].as_array().unwrap().iter().map(|run| run["runId"].as_str().unwrap()).collect();
    let mut args = vec!["rm", "--yes"];
    args.extend(&ids);
    let done = host.run(&args).ok();
    assert_eq!(done.stdout.lines().count(), 6, "{}", done.stdout);
    assert_eq!(files_with(&host, word), [""; 0], "while the host runs");
    assert!(!fs::exists(kept.trim()).unwrap(), "the file in the folder of the host is deleted, too");
    assert!(fs::read_to_string(own).unwrap().contains(word), "the file of the user stays");

    for id in &ids {
        host.run(&["show", id]).code(5);
        let audited = host.call("list_audit", &json!({"runId": id, "kind": "delete"})).unwrap();
        assert_eq!(audited["records"][0]["facts"], json!({"what": "run"}), "{audited}");
    }
    assert_eq!(host.call("list_runs", &json!({"search": word})).unwrap()["total"], 0);
    assert_eq!(host.call("list_runs", &json!({"search": "words"})).unwrap()["total"], 15, "the other runs stay");
    assert_eq!(host.call("verify_audit", &json!({})).unwrap()["intact"], true);
    check_database(&host);
    host.stop();
    assert_eq!(files_with(&host, word), [""; 0], "after the host has ended");
}

#[test]
fn deletion_that_a_crash_interrupts_is_completed_by_the_next_host() {
    let mut host = TestHost::granted("");
    let (of_run, of_chat) = ("Therizinosaurus", "Carcharodontosaurus");
    host.file("prompt", long_prompt(of_run));
    host.run(&["run", "rehearsal", "SAY other words"]).ok();
    host.run(&["run", "rehearsal", "--file", "prompt"]).ok();
    let run = host.call("list_runs", &json!({})).unwrap()["items"][0]["runId"].as_str().unwrap().to_owned();
    let chat = host.run(&["chat", "new", "rehearsal", "--title", of_chat]).ok().stdout.trim().to_owned();
    host.run(&["chat", "send", &chat, &format!("SAY {of_chat}")]).ok();
    let delete: [(&str, &[&str]); 2] =
        [(of_run, &["rm", "--yes", &run]), (of_chat, &["chat", "delete", "--yes", &chat])];
    for (word, args) in delete {
        host.stop();
        host.set("OSTLER_FAILPOINT", "erase.deleted");
        let died = host.run(args);
        assert_ne!(died.code, 0, "{}", died.stdout);
        host.unset("OSTLER_FAILPOINT");
        host.ensure_running();
        wait_until("files without the word", TIMEOUT, || files_with(&host, word).is_empty().then_some(()));
    }
    host.run(&["show", &run]).code(5);
    host.run(&["chat", "show", &chat]).code(5);
    assert_eq!(host.call("list_runs", &json!({})).unwrap()["total"], 1);
    check_database(&host);
}

#[test]
fn deleted_conversation_leaves_no_text_in_any_file() {
    let host = TestHost::granted("");
    let word = "Pachycephalosaurus";
    let chat =
        host.run(&["chat", "new", "rehearsal", "--title", &format!("about {word}"), "--meta", &format!("of={word}")]);
    let chat = chat.ok().stdout.trim().to_owned();
    host.run(&["chat", "send", &chat, &format!("SAY {word} one")]).ok();
    host.run(&["chat", "send", &chat, &format!("SAY {word} two")]).ok();
    host.run(&["chat", "rename", &chat, &format!("more about {word}")]).ok();
    host.run(&["run", "rehearsal", "SAY beside it"]).ok();
    assert_eq!(host.call("list_conversations", &json!({"search": word})).unwrap()["total"], 1);

    let deleted = host.run(&["chat", "delete", "--yes", "--json", &chat]).ok().json();
    assert_eq!(deleted, json!([{"conversationId": chat, "runs": 2}]));
    assert_eq!(files_with(&host, word), [""; 0]);
    host.run(&["chat", "show", &chat]).code(5);
    host.run(&["chat", "send", &chat, "SAY x"]).code(5);
    host.run(&["chat", "delete", "--yes", &chat]).code(5);
    assert_eq!(host.call("list_runs", &json!({})).unwrap()["total"], 1);
    let audited = host.call("list_audit", &json!({"kind": "delete"})).unwrap();
    let facts = &audited["records"][0]["facts"];
    assert_eq!(*facts, json!({"what": "conversation", "conversationId": chat, "runs": 2}));
    check_database(&host);
}

#[test]
fn deletion_of_active_runs_is_refused_as_a_whole() {
    let host = TestHost::granted("[scheduler]\nglobal = 1\n");
    host.run(&["run", "rehearsal", "SAY done"]).ok();
    let done = host.call("list_runs", &json!({})).unwrap()["items"][0]["runId"].as_str().unwrap().to_owned();
    let chat = host.run(&["chat", "new", "rehearsal"]).ok().stdout.trim().to_owned();
    host.run(&["chat", "send", &chat, "SAY hello"]).ok();
    let live = host.detach(&["rehearsal", "SLEEP 600"]);
    wait_until("a run with status running", TIMEOUT, || (host.record(&live)["status"] == "running").then_some(()));
    let waiting = host.run(&["chat", "send", "--detach", &chat, "SAY waits"]).ok().stdout.trim().to_owned();

    let refused = host.run(&["rm", "--yes", &done, &live, &waiting]).code(7);
    for part in [&live[28..], &waiting[28..], "running", "queued", "ostler cancel", "nothing was deleted"] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    assert_eq!(host.record(&done)["status"], "completed");
    for run in [&live, &waiting] {
        let error = host.call("delete_run", &json!({"runId": run})).unwrap_err();
        assert_eq!(error.kind(), "CONFLICT", "{}", error.text());
    }
    let refused = host.run(&["rm", "--chat", "--yes", &chat]).code(7);
    assert!(refused.stderr.contains("has not ended"), "{}", refused.stderr);
    let unchanged = host.call("get_conversation", &json!({"conversationId": chat})).unwrap();
    assert_eq!((&unchanged["totalRuns"], unchanged["conversation"].get("archivedAt")), (&json!(2), None));

    host.run(&["cancel", "--all", "--yes"]).ok();
    host.run(&["rm", "--yes", &done, &live]).ok();
    host.run(&["rm", "--chat", "--yes", &chat]).ok();
    assert_eq!(host.call("list_runs", &json!({})).unwrap()["total"], 0);
}

#[test]
fn deletion_asks_on_a_terminal_and_requires_yes_elsewhere() {
    let host = TestHost::granted("");
    host.run(&["run", "rehearsal", "SAY one"]).ok();
    let refused = host.run(&["rm", "@"]).code(2);
    assert!(refused.stderr.contains("--yes"), "{}", refused.stderr);
    for (answer, left, code) in [("n\n", 1, 130), ("\n", 1, 130), ("y\n", 0, 0)] {
        let mut terminal = Terminal::start(host.command(&["rm", "@"]));
        let question = terminal.wait_for("permanently? [y/N]");
        assert!(question.contains("SAY one"), "{question}");
        terminal.type_keys(answer);
        assert_eq!(terminal.finish().0, code, "{answer:?}");
        assert_eq!(host.call("list_runs", &json!({})).unwrap()["total"], left, "{answer:?}");
    }
    host.run(&["rm", "--yes", "@"]).code(5);
}

#[test]
fn subscriber_and_search_continue_after_a_deletion() {
    let host = TestHost::granted("");
    host.run(&["run", "rehearsal", "SAY one"]).ok();
    let mut stream = host.follow(&["logs", "-f", "--json", &host.detach(&["rehearsal", "SLOW 600"])]);
    stream.wait_for("its first words", |event| event["payload"]["kind"] == "text_delta");
    host.run(&["rm", "--yes", "@2"]).ok();
    stream.wait_for("more of it", |event| event["payload"]["kind"] == "text_delta");
    assert_eq!(host.call("list_runs", &json!({"search": "one"})).unwrap()["total"], 0);
    host.run(&["cancel", "@"]).ok();
    wait_until("the end of the stream", TIMEOUT, || host.run_processes().is_empty().then_some(()));
}
