//! Conversations with the rehearsal: each message continues the session, even if the host was stopped or killed in
//! between.

use crate::support::{
    TIMEOUT, TestHost, answer, check_run_events, end_of, kinds, of_type, semantics, wait_until, warning_codes,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{fs, path::Path, time::Duration};

fn new_conversation(host: &TestHost) -> String {
    host.run(&["chat", "new", "rehearsal"]).ok().stdout.trim().to_owned()
}

fn conversation(host: &TestHost, id: &str) -> Value {
    host.call("get_conversation", &json!({ "conversationId": id })).unwrap()
}

/// Sends a message that nobody follows, and gives its run.
#[track_caller]
fn send(host: &TestHost, id: &str, prompt: &str) -> String {
    send_with(host, id, prompt, json!({}))
}

#[track_caller]
fn send_with(host: &TestHost, id: &str, prompt: &str, more: Value) -> String {
    let sent = host.call("send_conversation_message", &message(host, id, prompt, more)).unwrap();
    sent["runId"].as_str().unwrap().to_owned()
}

/// A message. The first one of a conversation names its working folder.
fn message(host: &TestHost, id: &str, prompt: &str, more: Value) -> Value {
    let mut message = json!({ "conversationId": id, "prompt": prompt });
    if conversation(host, id)["conversation"]["cwd"].is_null() {
        message["cwd"] = json!(host.work());
    }
    for (name, value) in more.as_object().unwrap() {
        message[name] = value.clone();
    }
    message
}

/// The cursors of a run's first start and of its end.
fn span(events: &[Value]) -> (u64, u64) {
    let started = of_type(events, "run.started")[0]["cursor"].as_u64().unwrap();
    (started, end_of(events).unwrap()["cursor"].as_u64().unwrap())
}

fn session(events: &[Value]) -> &str {
    semantics(events, "session")[0]["sessionId"].as_str().unwrap()
}

#[test]
fn second_message_continues_the_session_after_a_restart() {
    let host = TestHost::granted("");
    let id = new_conversation(&host);
    assert_eq!(host.run(&["chat", "send", &id, "TURNS"]).ok().stdout, "1\n");
    host.stop();
    // A suffix of the id is enough, and the run works in the folder of the conversation.
    let done = host.run_in(host.root(), &["chat", "send", &id[id.len() - 8..], "TURNS"]).ok();
    assert_eq!(done.stdout, "2\n");

    let found = conversation(&host, &id);
    let (talk, runs) = (&found["conversation"], found["runs"].as_array().unwrap());
    assert_eq!((talk["provider"].as_str(), talk["title"].as_str()), (Some("rehearsal"), Some("TURNS")));
    assert_eq!(talk["cwd"], json!(host.work().canonicalize().unwrap()));
    assert_eq!((runs.len(), found["totalRuns"].as_u64()), (2, Some(2)));
    for run in runs {
        assert_eq!(run["conversationId"], talk["conversationId"]);
        assert_eq!(host.record(run["runId"].as_str().unwrap())["sessionId"], talk["sessionId"]);
    }
    // The stored payload does not contain the session: the conversation adds it.
    assert_eq!(host.record(runs[1]["runId"].as_str().unwrap())["payload"]["harness"], Value::Null);

    let events = host.stored_events(&format!("conversationId={id}"));
    let own: Vec<&str> = kinds(&events).into_iter().filter(|kind| kind.starts_with("conversation.")).collect();
    assert_eq!(
        own,
        [
            "conversation.created",
            "conversation.message_sent",
            "conversation.renamed",
            "conversation.session_updated",
            "conversation.updated",
            "conversation.message_sent",
            "conversation.updated"
        ]
    );
    assert_eq!(of_type(&events, "run.completed").len(), 2, "the events of the conversation include those of its runs");
    assert!(events.iter().all(|event| event["conversationId"] == *id));
    assert_eq!(of_type(&events, "conversation.session_updated")[0]["payload"]["sessionId"], talk["sessionId"]);
    let sent = of_type(&events, "conversation.message_sent");
    assert_eq!(sent[1]["payload"], json!({ "runId": runs[1]["runId"], "provider": "rehearsal" }));
    assert_eq!(of_type(&events, "conversation.updated")[1]["payload"], *talk);

    let listed = host.run(&["chat", "list"]).ok().stdout;
    assert!(listed.contains("TURNS") && listed.contains("completed"), "{listed}");
    let shown = host.run(&["chat", "show", &id, "--text"]).ok().stdout;
    assert!(shown.contains("> TURNS\n1\n") && shown.contains("> TURNS\n2\n"), "{shown}");
    let shown = host.run(&["show", runs[0]["runId"].as_str().unwrap()]).ok().stdout;
    assert!(shown.contains(&id), "{shown}");
}

#[test]
fn messages_run_in_order_and_do_not_block_other_runs() {
    let host = TestHost::granted("[scheduler]\nglobal = 3\nper_provider = 2\n");
    let (id, other) = (new_conversation(&host), new_conversation(&host));
    let first = send(&host, &id, "RUN until [ -e go ]; do sleep 0.02; done");
    let more: Vec<String> = (0..3).map(|_| send(&host, &id, "TURNS")).collect();
    // One slot is free: messages that wait for the first one do not occupy it.
    let beside = send(&host, &other, "TURNS");
    assert_eq!(answer(&host.wait_for_end(&beside)), "1");
    assert_eq!(host.run(&["run", "rehearsal", "SAY beside"]).ok().stdout, "beside\n");

    let blocked = host.run(&["queue", "--state", "held", "--json"]).ok().json();
    let blocked: Vec<&str> = blocked.as_array().unwrap().iter().map(|job| job["runId"].as_str().unwrap()).collect();
    assert_eq!(blocked, more);
    let status = host.call("get_status", &json!({})).unwrap();
    assert_eq!(
        (status["running"].as_u64(), status["ready"].as_u64(), status["held"].as_u64()),
        (Some(1), Some(0), Some(3))
    );
    // A message in the middle is canceled; the others run one after another.
    host.run(&["cancel", &more[1]]).ok();
    host.file("go", "");
    let stories: Vec<Vec<Value>> = [&first, &more[0], &more[2]].map(|run| host.wait_for_end(run)).to_vec();
    for events in &stories {
        check_run_events(events);
    }
    assert_eq!((answer(&stories[1]), answer(&stories[2])), ("2", "3"));
    let spans: Vec<(u64, u64)> = stories.iter().map(|events| span(events)).collect();
    assert!(spans.windows(2).all(|pair| pair[0].1 < pair[1].0), "they overlap: {spans:?}");
    let canceled = host.run_events(&more[1]);
    check_run_events(&canceled);
    assert_eq!(kinds(&canceled).last(), Some(&"run.canceled"));
    assert!(of_type(&canceled, "run.started").is_empty());
    assert_eq!(end_of(&canceled).unwrap()["conversationId"], *id);
}

#[test]
fn concurrent_messages_are_all_accepted_and_run_in_order() {
    let host = TestHost::granted("[scheduler]\nglobal = 4\nper_provider = 4\n");
    let id = new_conversation(&host);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| send(&host, &id, "TURNS"));
        }
    });
    let runs = conversation(&host, &id)["runs"].clone();
    let answers: Vec<String> = runs
        .as_array()
        .unwrap()
        .iter()
        .map(|run| answer(&host.wait_for_end(run["runId"].as_str().unwrap())).to_owned())
        .collect();
    assert_eq!(answers, ["1", "2", "3", "4", "5", "6", "7", "8"], "they ran in the order in which they are listed");
}

#[test]
fn retry_runs_before_the_next_message_and_resumes_the_same_session() {
    let host = TestHost::granted("[scheduler]\nglobal = 2\nper_provider = 2\n");
    let id = new_conversation(&host);
    assert_eq!(answer(&host.wait_for_end(&send(&host, &id, "TURNS"))), "1");
    let first = send_with(&host, &id, "FAILONCE transient", json!({ "maxRetries": 1, "retryBackoffMs": 100 }));
    let second = send(&host, &id, "TURNS");
    let (first, second) = (host.wait_for_end(&first), host.wait_for_end(&second));
    assert_eq!(of_type(&first, "run.started").len(), 2);
    assert!(span(&first).1 < span(&second).0, "the next message started between the attempts");
    // Both attempts resumed the same session, which counts both of them.
    assert_eq!(answer(&second), "4");
    assert_eq!(session(&first), session(&second));

    // A first message has no session to resume: its second attempt starts a new session.
    let id = new_conversation(&host);
    let first = send_with(&host, &id, "FAILONCE transient", json!({ "maxRetries": 1, "retryBackoffMs": 100 }));
    let second = send(&host, &id, "TURNS");
    let (first, second) = (host.wait_for_end(&first), host.wait_for_end(&second));
    let sessions = semantics(&first, "session");
    assert_ne!(sessions[0]["sessionId"], sessions[1]["sessionId"]);
    assert_eq!((session(&second), answer(&second)), (sessions[1]["sessionId"].as_str().unwrap(), "2"));
}

#[test]
fn archived_conversations_refuse_messages() {
    let host = TestHost::granted("");
    let id = new_conversation(&host);
    // Messages that were accepted before are still answered.
    let first = send(&host, &id, "RUN until [ -e go ]; do sleep 0.02; done");
    let second = send(&host, &id, "TURNS");
    host.run(&["chat", "archive", &id]).ok();
    let error = host.call("send_conversation_message", &json!({ "conversationId": id, "prompt": "x" })).unwrap_err();
    assert_eq!(error.kind(), "CONFLICT", "{}", error.text());
    let done = host.run(&["chat", "send", &id, "x"]).code(7);
    assert!(done.stderr.contains(&format!("ostler chat archive --undo {id}")), "{}", done.stderr);
    assert_eq!(conversation(&host, &id)["totalRuns"], 2, "a refused message makes no run");
    host.file("go", "");
    host.wait_for_end(&first);
    assert_eq!(answer(&host.wait_for_end(&second)), "2");

    assert_eq!(host.run(&["chat", "list", "--json"]).ok().json()["total"], 0);
    assert_eq!(host.run(&["chat", "list", "--archived", "--json"]).ok().json()["total"], 1);
    let since = conversation(&host, &id)["conversation"]["archivedAt"].clone();
    host.run(&["chat", "archive", &id]).ok();
    assert_eq!(conversation(&host, &id)["conversation"]["archivedAt"], since, "archiving again changes nothing");
    let back = host.run(&["chat", "archive", "--undo", &id, "--json"]).ok().json();
    assert_eq!(back["archivedAt"], Value::Null);
    assert_eq!(host.run(&["chat", "send", &id, "TURNS"]).ok().stdout, "3\n");
    let events = host.stored_events(&format!("conversationId={id}&types=conversation.archived"));
    let changes: Vec<bool> = events.iter().map(|event| event["payload"]["archivedAt"].is_string()).collect();
    assert_eq!(changes, [true, false], "one event for each change");
}

#[test]
fn missing_session_is_replaced_once_with_a_warning() {
    let host = TestHost::granted("");
    let id = new_conversation(&host);
    assert_eq!(answer(&host.wait_for_end(&send(&host, &id, "TURNS"))), "1");
    let before = conversation(&host, &id)["conversation"]["sessionId"].as_str().unwrap().to_owned();
    fs::remove_file(host.home().join(format!("rehearsal/{before}.json"))).unwrap();
    let stored = host.wait_for_end(&send(&host, &id, "TURNS"));
    check_run_events(&stored);
    assert_eq!(answer(&stored), "1");
    assert_eq!(of_type(&stored, "run.started").len(), 2, "exactly one retry");
    assert_eq!(warning_codes(&stored).iter().filter(|code| **code == "SESSION_RESUME_INVALID").count(), 1);
    let after = conversation(&host, &id)["conversation"]["sessionId"].as_str().unwrap().to_owned();
    assert_ne!(before, after);
    let events = host.stored_events(&format!("conversationId={id}&types=conversation.session_updated"));
    let changes: Vec<&Value> = events.iter().map(|event| &event["payload"]["sessionId"]).collect();
    assert_eq!(changes, [&json!(before), &Value::Null, &json!(after)], "the session was cleared in between");
    assert_eq!(answer(&host.wait_for_end(&send(&host, &id, "TURNS"))), "2");
}

#[test]
fn message_without_a_session_to_resume_gets_a_warning() {
    let host = TestHost::granted("[providers.plain]\nplugin = \"command\"\nexecutable = \"cat\"\n");
    let id = host.run(&["chat", "new", "plain"]).ok().stdout.trim().to_owned();
    let first = host.wait_for_end(&send(&host, &id, "one"));
    assert!(!warning_codes(&first).contains(&"SESSION_ABSENT"), "the first message has no session to resume");
    let second = host.wait_for_end(&send(&host, &id, "two"));
    assert!(warning_codes(&second).contains(&"SESSION_ABSENT"), "{second:#?}");
    assert_eq!(answer(&second).trim(), "two");
}

#[test]
fn conversation_stays_in_its_folder() {
    let host = TestHost::granted("");
    let create_folder = |name: &str| {
        let folder = host.work().join(name);
        fs::create_dir_all(&folder).unwrap();
        folder.canonicalize().unwrap()
    };
    let (home, elsewhere) = (create_folder("home"), create_folder("elsewhere"));
    let id = new_conversation(&host);
    let folder_of = |run: &str| Path::new(host.record(run)["cwd"].as_str().unwrap()).to_owned();
    let first = send_with(&host, &id, "TURNS", json!({ "cwd": home }));
    host.wait_for_end(&first);
    assert_eq!(folder_of(&first), home);
    let second = send(&host, &id, "TURNS");
    host.wait_for_end(&second);
    assert_eq!(folder_of(&second), home, "the folder of the last message is the default");

    let moved = message(&host, &id, "TURNS", json!({ "cwd": elsewhere }));
    let error = host.call("send_conversation_message", &moved).unwrap_err();
    assert_eq!((error.kind(), error.data()["pointer"].as_str()), ("INVALID_PARAMS", Some("/cwd")), "{}", error.text());
    assert!(error.text().contains(home.to_str().unwrap()), "{}", error.text());
    assert_eq!(conversation(&host, &id)["totalRuns"], 2);

    // If the folder is removed, its session cannot be resumed: a message in another folder starts a new session.
    fs::remove_dir(&home).unwrap();
    let error = host.call("send_conversation_message", &message(&host, &id, "TURNS", json!({}))).unwrap_err();
    assert_eq!(error.kind(), "CWD_MISSING", "{}", error.text());
    let third = host.wait_for_end(&send_with(&host, &id, "TURNS", json!({ "cwd": elsewhere })));
    check_run_events(&third);
    assert_eq!(answer(&third), "1");
    assert!(warning_codes(&third).contains(&"SESSION_RESUME_INVALID"), "{third:#?}");
    assert_eq!(of_type(&third, "run.started").len(), 1, "no attempt tried to resume the session");
    assert_eq!(answer(&host.wait_for_end(&send(&host, &id, "TURNS"))), "2");

    // A run that resumes a session starts in the folder of the session.
    let known = conversation(&host, &id)["conversation"]["sessionId"].as_str().unwrap().to_owned();
    let events = host.events_of(&["rehearsal", "--resume", &known, "RUN pwd"]);
    assert!(crate::support::tool_outputs(&events).contains(elsewhere.to_str().unwrap()), "{events:#?}");
    let warned = of_type(&events, "run.compatibility_warning");
    assert_eq!(warned[0]["payload"]["pointer"], "/cwd", "{warned:?}");
}

#[test]
fn titles_and_metadata_are_changed_and_redacted() {
    let host = TestHost::granted("");
    let secret = format!("{}{}", ["gh", "p_"].concat(), "K3wQ8zT1xV6bN9mR4cL7yJ2hF5dS0gPaUeIo");
    let made =
        host.run(&["chat", "new", "rehearsal", "--title", "the parser", "--meta", "ticket=12", "--json"]).ok().json();
    let id = made["conversationId"].as_str().unwrap().to_owned();
    assert_eq!((made["title"].as_str(), &made["metadata"]), (Some("the parser"), &json!({ "ticket": "12" })));
    host.wait_for_end(&send(&host, &id, "SAY x"));
    assert_eq!(conversation(&host, &id)["conversation"]["title"], "the parser", "a given title is not replaced");

    host.run(&["chat", "rename", &id, &format!("about {secret} \u{2014}")]).ok();
    let patch = json!({ "ticket": null, "owner": { "name": "me", "note": format!("uses {secret}") } });
    let changed = host.call("update_conversation", &json!({ "conversationId": id, "metadata": patch })).unwrap();
    assert!(changed["title"].as_str().unwrap().contains("[REDACTED:"), "{changed}");
    assert_eq!(changed["metadata"]["owner"]["name"], "me");
    assert!(changed["metadata"].get("ticket").is_none(), "{changed}");
    host.run(&["chat", "update", &id, "--meta", "a=b", "--unset", "owner"]).ok();
    assert_eq!(conversation(&host, &id)["conversation"]["metadata"], json!({ "a": "b" }));
    // The same update again changes nothing.
    let before = conversation(&host, &id);
    host.run(&["chat", "update", &id, "--meta", "a=b"]).ok();
    assert_eq!(conversation(&host, &id), before);
    let events = host.stored_events(&format!("conversationId={id}"));
    let count = |kind: &str| of_type(&events, kind).len();
    assert_eq!((count("conversation.renamed"), count("conversation.updated")), (1, 3));
    // A title from a prompt is redacted and shortened, too.
    let untitled = new_conversation(&host);
    host.wait_for_end(&send(&host, &untitled, &format!("SAY {secret} {}\nmore", "x".repeat(100))));
    let title = conversation(&host, &untitled)["conversation"]["title"].as_str().unwrap().to_owned();
    assert!(title.contains("[REDACTED:") && title.chars().count() == 80, "{title}");
    crate::support::SecretProbe::new(&[secret]).assert_not_below(host.root(), &[]);
}

#[test]
fn invalid_conversation_calls_are_refused_with_all_problems() {
    let host = TestHost::granted("");
    host.ensure_running();
    let refuse = |method: &str, params: Value| {
        let error = host.call(method, &params).unwrap_err();
        let problems = error.data()["problems"].as_array().cloned().unwrap_or_default();
        let mut pointers: Vec<String> =
            problems.iter().map(|problem| problem["pointer"].as_str().unwrap().to_owned()).collect();
        pointers.sort();
        (error.kind().to_owned(), pointers)
    };
    let invalid = |pointers: &[&str]| ("INVALID_PARAMS".to_owned(), pointers.iter().map(|p| (*p).to_owned()).collect());
    let missing = ("NOT_FOUND".to_owned(), Vec::<String>::new());
    let never = "01999999-8888-7777-8666-123456789abc";
    let big = "x".repeat(17 << 10);
    let long = "x".repeat(201);
    for (method, params, expected) in [
        ("create_conversation", json!({ "provider": "nobody" }), missing.clone()),
        (
            "create_conversation",
            json!({ "provider": "rehearsal", "title": "a\nb", "metadata": { "a": big } }),
            invalid(&["/metadata", "/title"]),
        ),
        ("create_conversation", json!({ "provider": "rehearsal", "title": " " }), invalid(&["/title"])),
        (
            "create_conversation",
            json!({ "title": 7, "metadata": [], "more": 1 }),
            invalid(&["/metadata", "/more", "/provider", "/title"]),
        ),
        ("get_conversation", json!({ "conversationId": never }), missing.clone()),
        ("get_conversation", json!({ "conversationId": "x" }), invalid(&["/conversationId"])),
        ("rename_conversation", json!({ "conversationId": never, "title": "x" }), missing.clone()),
        ("archive_conversation", json!({ "conversationId": never }), missing.clone()),
        ("update_conversation", json!({ "metadata": [], "title": "" }), invalid(&["/conversationId", "/metadata"])),
        ("update_conversation", json!({ "conversationId": never, "metadata": {} }), missing.clone()),
        ("send_conversation_message", json!({ "conversationId": never, "prompt": "x" }), missing.clone()),
        (
            "send_conversation_message",
            json!({ "conversationId": 7, "provider": "rehearsal", "mode": "interactive", "prompt": " ", "timeoutSecond": 9 }),
            invalid(&["/conversationId", "/mode", "/prompt", "/provider", "/timeoutSecond"]),
        ),
    ] {
        assert_eq!(refuse(method, params.clone()), expected, "{method} {params}");
    }
    let id = new_conversation(&host);
    for (params, pointers) in [
        (json!({ "conversationId": id, "title": long }), vec!["/title"]),
        (json!({ "conversationId": id, "metadata": { "a": big } }), vec!["/metadata"]),
    ] {
        assert_eq!(refuse("update_conversation", params), invalid(&pointers));
    }
    let first = json!({ "conversationId": id, "prompt": "x" });
    assert_eq!(refuse("send_conversation_message", first), invalid(&["/cwd"]), "the first message must name a folder");
    let profile = json!({ "conversationId": id, "prompt": "x", "cwd": host.work(), "profileId": "none" });
    assert_eq!(refuse("send_conversation_message", profile), missing);
    assert_eq!(conversation(&host, &id)["totalRuns"], 0, "a refused message made a run");
    host.run(&["chat", "show", "0000ffff"]).code(5);
    host.run(&["chat", "send", "zz", "x"]).code(2);
    host.run(&["chat", "new", "nobody"]).code(5);
}

#[test]
fn queued_messages_run_after_the_host_was_killed() {
    let host = TestHost::granted("[scheduler]\nglobal = 3\nper_provider = 3\n");
    let id = new_conversation(&host);
    let first = send(&host, &id, "RUN touch begun; sleep 600");
    let more: Vec<String> = (0..2).map(|_| send(&host, &id, "TURNS")).collect();
    let begun = host.work().join("begun");
    wait_until("the first message", TIMEOUT, || begun.exists().then_some(()));
    wait_until("its session", TIMEOUT, || conversation(&host, &id)["conversation"]["sessionId"].as_str().map(drop));
    crate::support::signal(host.ensure_running(), Signal::SIGKILL);
    host.assert_nothing_runs(Duration::from_secs(2));

    host.ensure_running();
    let stories: Vec<Vec<Value>> = more.iter().map(|run| host.wait_for_end(run)).collect();
    let interrupted = host.run_events(&first);
    check_run_events(&interrupted);
    assert_eq!(end_of(&interrupted).unwrap()["payload"]["reason"], "interrupted");
    // The session was stored before the host died: the next message resumes it.
    assert_eq!((answer(&stories[0]), answer(&stories[1])), ("2", "3"), "{stories:#?}");
    assert!(span(&stories[0]).1 < span(&stories[1]).0);
    let events = host.stored_events(&format!("conversationId={id}&types=conversation.updated"));
    assert_eq!(events.len(), 3, "one event for each ended run, including the interrupted one");
    assert!(events[0]["cursor"].as_u64() > end_of(&interrupted).unwrap()["cursor"].as_u64());
}

#[test]
fn search_finds_messages_but_not_secrets() {
    let secret = format!("{}{}", ["gh", "p_"].concat(), "K3wQ8zT1xV6bN9mR4cL7yJ2hF5dS0gPaUeIo");
    let host = TestHost::granted("");
    let chat = new_conversation(&host);
    host.wait_for_end(&send(&host, &chat, &format!("SAY the walrus said {secret} to nobody")));
    let alone = host.detach(&["rehearsal", "RUN echo an-orange-penguin"]);
    host.wait_for_end(&alone);

    // A new host finds what an earlier host stored.
    host.stop();
    let search = |words: &[&str]| {
        let args = [&["search", "--json"], words].concat();
        let found = host.run(&args).ok().json();
        let ids = |of: &str, id: &str| {
            let items = found[of]["items"].as_array().unwrap();
            items.iter().map(|item| item[id].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        (ids("runs", "runId").len(), ids("conversations", "conversationId"))
    };
    assert_eq!(search(&["walr"]), (1, vec![chat.clone()]));
    assert_eq!(search(&["walrus", "NOBODY"]), (1, vec![chat]));
    assert_eq!(search(&["\"orange penguin\""]), (1, vec![]));
    assert_eq!(search(&["walrus", "penguin"]), (0, vec![]));
    assert_eq!(search(&[&secret]), (0, vec![]));

    let shown = host.run(&["search", "penguin"]).ok();
    assert!(shown.stdout.contains(&alone) && shown.stdout.lines().count() == 2, "{}", shown.stdout);
    assert_eq!(host.run(&["runs", "--search", "walrus"]).ok().stdout.lines().count(), 2);
    assert!(host.run(&["chat", "list", "--search", "walrus"]).ok().stdout.contains("walrus"));
    let nothing = host.run(&["search", "?!"]).ok();
    assert!(nothing.stdout.is_empty() && nothing.stderr.contains("nothing found"), "{}", nothing.stderr);
    host.run(&["search"]).code(2);
    assert_eq!(
        host.call("list_runs", &json!({ "search": "" })).unwrap_err().data()["problems"][0]["pointer"],
        "/search"
    );
}
