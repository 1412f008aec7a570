//! Sessions, approvals and the inbox as commands: on a terminal, in a pipe, and from a second terminal.

use crate::support::terminal::{CTRL_BACKSLASH, CTRL_C};
use crate::support::{TIMEOUT, Terminal, TestHost, wait_until};
use serde_json::{Value, json};

const CTRL_D: &str = "\u{4}";

/// A host. The commands print no colors, which would be between the words.
fn test_host() -> TestHost {
    let mut host = TestHost::granted("");
    host.set("NO_COLOR", "1");
    host
}

/// Waits until the agent has said this. The screen shows it in pieces, with other lines drawn in between.
fn wait_for_answer(host: &TestHost, run: &str, answer: &str) {
    wait_until(answer, TIMEOUT, || {
        let events = host.run_events(run);
        let texts = events.iter().filter(|event| event["payload"]["kind"] == "text_delta");
        let text: String = texts.filter_map(|event| event["payload"]["text"].as_str()).collect();
        text.contains(answer).then_some(())
    });
}

/// The only session.
fn only_session(host: &TestHost) -> String {
    wait_until("a session", TIMEOUT, || {
        let listed = host.run(&["session", "list", "--json"]).ok().json();
        listed[0]["runId"].as_str().map(str::to_owned)
    })
}

/// Starts a session with a first message, and waits until its turn has ended: during a turn, Ctrl-C interrupts the turn
/// instead of leaving. Returns the run.
fn start(host: &TestHost, message: &str) -> String {
    let run = host.run(&["session", "start", "rehearsal", "--detach", message]).ok().stdout.trim().to_owned();
    wait_until("an idle session", TIMEOUT, || {
        let listed = host.run(&["session", "list", "--json"]).ok().json();
        let sessions = listed.as_array().unwrap();
        sessions.iter().any(|session| session["runId"] == *run && session["state"] == "idle").then_some(())
    });
    run
}

/// Attaches to a session on a terminal, and waits until it takes keys.
fn attach(host: &TestHost, run: &str) -> Terminal {
    let mut terminal = Terminal::start(host.command(&["session", "attach", run]));
    terminal.wait_for("message for rehearsal");
    terminal
}

/// Waits until an approval of a run is open.
fn open_approval(host: &TestHost, run: &str) -> Value {
    wait_until("an open approval", TIMEOUT, || {
        let open = host.call("list_approvals", &json!({"runId": run})).unwrap();
        open.as_array().unwrap().first().cloned()
    })
}

fn short(id: &Value) -> String {
    let id = id.as_str().unwrap();
    id[id.len() - 8..].to_owned()
}

/// The decisions about approvals of a run, as `decision decidedBy`.
fn decisions(host: &TestHost, run: &str) -> Vec<String> {
    let events = host.run_events(run);
    let decided = events.iter().filter(|event| event["payload"]["kind"] == "approval_decided");
    decided
        .map(|event| {
            let payload = &event["payload"];
            format!("{} {}", payload["decision"].as_str().unwrap(), payload["decidedBy"].as_str().unwrap())
        })
        .collect()
}

#[test]
fn session_on_a_terminal_takes_messages_and_stays_open() {
    let host = test_host();
    let mut terminal = Terminal::start(host.command(&["session", "start", "rehearsal", "REMEMBER the milk"]));
    terminal.wait_for("> REMEMBER the milk");
    terminal.wait_for("message for rehearsal");
    let run = only_session(&host);
    wait_for_answer(&host, &run, "remembered");
    terminal.type_keys("RECALL\r");
    wait_for_answer(&host, &run, "the milk");
    terminal.type_keys("\u{1b}[200~SAY one\nand two\u{1b}[201~");
    terminal.wait_for("> SAY one\r\n  and two");
    terminal.type_keys("\r");
    wait_for_answer(&host, &run, "one\nand two");
    terminal.type_keys("/help\r");
    terminal.wait_for("end the session");
    terminal.type_keys(CTRL_D);
    terminal.wait_for("which stays open; `ostler session attach");
    assert_eq!(terminal.finish().0, 0);

    let listed = host.run(&["session", "list", "--json"]).ok().json();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["state"]), (1, &json!("idle")), "{listed}");
    let run = listed[0]["runId"].as_str().unwrap().to_owned();
    let texts: Vec<Value> = host
        .run_events(&run)
        .iter()
        .filter(|event| event["type"] == "session.input_accepted")
        .map(|event| event["payload"]["text"].clone())
        .collect();
    assert_eq!(texts, ["RECALL", "SAY one\nand two"], "a paste is one message");

    let mut terminal = attach(&host, &run);
    terminal.type_keys("/end\r");
    terminal.wait_for("has ended; `ostler session resume");
    assert_eq!(terminal.finish().0, 0);
    assert_eq!(host.record(&run)["status"], "completed");
    assert_eq!(host.run(&["session", "list"]).ok().stdout, "");
    let resumed = host.run(&["session", "resume", &run, "RECALL", "--detach"]).ok().stdout.trim().to_owned();
    assert_ne!(resumed, run);
    let answer = host.run(&["session", "send", &resumed, "--wait", "RECALL"]).ok();
    assert_eq!(answer.stdout, "the milk\n", "{}", answer.stderr);
    host.run(&["session", "end", &resumed]).ok();
}

#[test]
fn first_message_is_asked_for_on_a_terminal() {
    let host = test_host();
    let mut terminal = Terminal::start(host.command(&["session", "start", "rehearsal"]));
    terminal.wait_for("message for rehearsal");
    terminal.type_keys("SAY good morning\r");
    terminal.wait_for("/help lists the keys");
    wait_for_answer(&host, &only_session(&host), "good morning");
    // The console shows the answer, so that it has the terminal by now.
    terminal.wait_for("good morning");
    terminal.type_keys(CTRL_BACKSLASH);
    terminal.wait_for("stays open");
    assert_eq!(terminal.finish().0, 131);
    let done = host.run(&["session", "start", "rehearsal"]).code(2);
    assert!(done.stderr.contains("the prompt is missing"), "{}", done.stderr);
    host.run(&["session", "end", "@"]).ok();
}

#[test]
fn ctrl_c_interrupts_the_turn_and_leaves_an_idle_session() {
    let host = test_host();
    let run = start(&host, "SAY hello");
    let mut terminal = attach(&host, &run);
    terminal.type_keys("SLEEP 600\r");
    terminal.wait_for("working");
    terminal.type_keys(CTRL_C);
    terminal.wait_for("the turn was interrupted");
    assert_eq!(host.record(&run)["status"], "running");
    // The second one within two seconds leaves, although the turn has ended.
    terminal.type_keys(CTRL_C);
    terminal.wait_for("stays open");
    assert_eq!(terminal.finish().0, 130);
    let mut terminal = attach(&host, &run);
    terminal.type_keys("half a message");
    terminal.wait_for("half a message");
    terminal.type_keys(CTRL_C);
    terminal.wait_for("message for rehearsal");
    terminal.type_keys(CTRL_C);
    terminal.wait_for("stays open");
    assert_eq!(terminal.finish().0, 130);
    let sent = host.run(&["session", "interrupt", &run]).ok();
    assert!(sent.stdout.contains("no turn is running"), "{}", sent.stdout);
    host.run(&["session", "end", &run]).ok();
}

#[test]
fn approval_is_answered_in_place_and_in_a_second_terminal() {
    let host = test_host();
    let run = start(&host, "SAY hello");
    let (mut one, mut two) = (attach(&host, &run), attach(&host, &run));
    one.type_keys("ASK shell: touch a\r");
    one.wait_for("run a command");
    one.wait_for("  touch a\r\n");
    one.wait_for("Allow?");
    two.wait_for("[another client] ASK shell: touch a");
    two.wait_for("Allow?");
    one.type_keys("y");
    one.wait_for("allowed: run touch a");
    two.wait_for("allowed by another client (cli): run touch a");
    wait_for_answer(&host, &run, "allowed: touch a");

    two.type_keys("ASK shell: touch b\r");
    two.wait_for("Allow?");
    two.type_keys("n");
    two.wait_for("reason for the agent");
    two.type_keys("use c\r");
    two.wait_for("denied: run touch b (use c)");
    one.wait_for("denied by another client (cli): run touch b (use c)");
    wait_for_answer(&host, &run, "denied: use c");

    two.type_keys("ASK shell: touch d\r");
    two.wait_for("Allow?");
    let id = short(&open_approval(&host, &run)["id"]);
    let shown = host.run(&["approvals"]).ok().stdout;
    assert!(shown.contains("command") && shown.contains("touch d"), "{shown}");
    assert!(host.run(&["runs"]).ok().stdout.contains("waits for approval"));
    assert!(host.run(&["queue"]).ok().stdout.contains("your approval"));
    assert!(host.run(&["inbox"]).ok().stdout.contains("Waiting for you"));
    assert_eq!(host.run(&["session", "list", "--json"]).ok().json()[0]["state"], "approval");
    assert!(host.run(&["approvals", "show", &id]).ok().stdout.contains("touch d"));
    let denied = host.run(&["approvals", "deny", &id, "--message", "later"]).ok();
    assert!(denied.stdout.starts_with("denied: "), "{}", denied.stdout);
    two.wait_for("denied by another client (cli): run touch d (later)");
    let gone = host.run(&["approvals", "allow", &id]).code(5);
    assert!(gone.stderr.contains("ostler approvals"), "{}", gone.stderr);
    assert_eq!(decisions(&host, &run), ["allow user", "deny user", "deny user"]);
    host.run(&["session", "end", &run]).ok();
}

#[test]
fn input_of_an_approval_is_edited_with_the_editor() {
    let mut host = test_host();
    let editor = host.file("edit.sh", "sed -i s/rm/ls/ \"$1\"\n");
    host.set("EDITOR", format!("sh {}", editor.display()));
    let run = start(&host, "SAY hello");
    let mut terminal = attach(&host, &run);
    terminal.type_keys("ASK shell: rm x\r");
    terminal.wait_for("e edit");
    terminal.type_keys("e");
    terminal.wait_for("allowed with another input: run rm x");
    wait_for_answer(&host, &run, "allowed: ls x");
    terminal.type_keys(CTRL_D);
    assert_eq!(terminal.finish().0, 0);
    host.run(&["session", "end", &run]).ok();
}

#[test]
fn questions_are_answered_with_numbers_and_texts_and_secrets_stay_secret() {
    let host = test_host();
    let run = start(&host, "SAY hello");
    let mut terminal = attach(&host, &run);
    terminal.type_keys("QUESTION Which one? | red | green || many: And which? | a | b\r");
    terminal.wait_for("2. green");
    terminal.type_keys("3\r");
    terminal.wait_for("the choices are 1 to 2");
    terminal.type_keys("2\r");
    terminal.wait_for("answer: green");
    terminal.wait_for("And which?");
    terminal.type_keys("1,2\r");
    terminal.wait_for("answered: ");
    wait_for_answer(&host, &run, "q1=green; q2=a, b");
    terminal.wait_for("message for rehearsal");
    terminal.type_keys("QUESTION secret: Your token?\r");
    terminal.wait_for("is not shown");
    terminal.type_keys("hunter2-hunter2\r");
    let typed = terminal.wait_for("(not shown)");
    assert!(!typed.contains("hunter2"), "a secret is not shown: {typed:?}");
    terminal.wait_for("answered: ");
    terminal.type_keys(CTRL_D);
    assert_eq!(terminal.finish().0, 0);
    let events = host.run_events(&run);
    let about =
        |event: &&Value| matches!(event["payload"]["kind"].as_str(), Some("approval_requested" | "approval_decided"));
    assert!(!events.iter().filter(about).any(|event| event.to_string().contains("hunter2")));

    host.run(&["session", "send", &run, "QUESTION secret: Your token?"]).ok();
    let id = short(&open_approval(&host, &run)["id"]);
    let refused = host.run(&["approvals", "answer", &id, "hunter2"]).code(2);
    assert!(refused.stderr.contains("`-`") && !refused.stderr.contains("hunter2"), "{}", refused.stderr);
    let refused = host.run(&["approvals", "allow", &id]).code(2);
    assert!(refused.stderr.contains("ostler approvals answer"), "{}", refused.stderr);
    host.run_with_input(&["approvals", "answer", &id, "-"], b"hunter2\n").ok();
    host.run(&["session", "end", &run]).ok();
}

#[test]
fn run_asks_on_its_terminal_and_names_the_commands_elsewhere() {
    let host = test_host();
    let args = ["run", "rehearsal", "--ask", "untrusted", "ASK shell: touch a"];
    let mut terminal = Terminal::start(host.command(&args));
    terminal.wait_for("touch a");
    terminal.wait_for("Allow?");
    terminal.type_keys("y");
    terminal.wait_for("allowed: ");
    terminal.wait_for("done in");
    assert_eq!(terminal.finish().0, 0);

    let mut piped = host.follow(&["run", "rehearsal", "--ask", "untrusted", "ASK shell: touch b"]);
    let run = wait_until("a run", TIMEOUT, || {
        let listed = host.call("list_runs", &json!({"status": "running"})).unwrap();
        listed["items"][0]["runId"].as_str().map(str::to_owned)
    });
    let approval = open_approval(&host, &run);
    let id = short(&approval["id"]);
    host.run(&["approvals", "allow", &id]).ok();
    assert_eq!(piped.wait_for_text("allowed"), "allowed: touch b");
    let (code, _, errors) = piped.finish();
    assert_eq!(code, 0);
    assert!(errors.contains(&format!("waits for approval: run touch b; `ostler approvals allow {id}`")), "{errors}");

    let mut terminal = Terminal::start(host.command(&args));
    terminal.wait_for("Allow?");
    terminal.type_keys(CTRL_C);
    terminal.wait_for("canceling run");
    assert_eq!(terminal.finish().0, 130);
}

#[test]
fn terminal_is_restored_after_every_end() {
    let host = test_host();
    let run = start(&host, "SAY hello");
    let attach = format!("{} session attach {run}", crate::support::binary().display());
    let check = "test \"$(stty -g)\" = \"$before\" && echo the same mode";
    for key in [CTRL_D, CTRL_BACKSLASH, CTRL_C] {
        // The shell must survive the signals of the keys.
        let script = format!("trap : INT QUIT; before=$(stty -g); {attach}; {check}");
        let mut terminal = Terminal::start(host.shell(&script));
        terminal.wait_for("message for rehearsal");
        terminal.type_keys(key);
        terminal.wait_for("the same mode");
    }
    let wait = "while ! [ -e stop ]; do sleep 0.02; done; kill -TERM $pid; wait $pid";
    let script = format!("before=$(stty -g); {attach} & pid=$!; {wait}; {check}");
    let mut terminal = Terminal::start(host.shell(&script));
    terminal.wait_for("message for rehearsal");
    host.file("stop", "");
    terminal.wait_for("the same mode");
    host.run(&["session", "end", &run]).ok();
}

#[test]
fn failed_runs_stay_in_the_inbox_until_they_are_acknowledged() {
    let host = test_host();
    let empty = host.run(&["inbox"]).ok();
    assert!(empty.stdout.is_empty() && empty.stderr.contains("the inbox is empty"), "{}", empty.all());
    let run = host.detach(&["rehearsal", "FAIL usage"]);
    host.run(&["wait", &run]).code(1);
    host.run(&["queue", "pause", "rehearsal"]).ok();
    let shown = host.run(&["inbox"]).ok().stdout;
    assert!(shown.contains("Failed") && shown.contains("usage"), "{shown}");
    assert!(shown.contains("rehearsal: paused; `ostler queue resume rehearsal`"), "{shown}");
    assert_eq!(host.run(&["inbox", "ack", &run]).ok().stdout, "removed 1 run from the inbox\n");
    host.run(&["queue", "resume"]).ok();
    host.run(&["queue", "resume", "rehearsal"]).ok();
    assert_eq!(host.run(&["inbox", "--json"]).ok().json()["failures"], json!([]));
    assert_eq!(host.run(&["inbox", "ack", "--all"]).ok().stdout, "removed 0 runs from the inbox\n");
}

#[test]
fn commands_about_sessions_explain_what_does_not_fit() {
    let host = test_host();
    let run = host.detach(&["rehearsal", "SAY x"]);
    host.run(&["wait", &run]).ok();
    let done = host.run(&["session", "attach", &run]).code(7);
    assert!(done.stderr.contains("is not a session") && done.stderr.contains("ostler attach"), "{}", done.stderr);
    let done = host.run(&["session", "send", &run, "hello"]).code(7);
    assert!(!done.stderr.contains("resume_session"), "names the command: {}", done.stderr);
    host.run(&["session", "send", &run, " "]).code(2);
    let done = host.run(&["session", "attach", "@"]).code(5);
    assert!(done.stderr.contains("there are no sessions yet"), "{}", done.stderr);
    assert!(host.run(&["approvals"]).ok().stderr.contains("no agent waits"));
    assert_eq!(host.run(&["approvals", "--json"]).ok().json(), json!([]));
    host.run(&["approvals", "allow", "1a2b3c4d"]).code(5);
    host.run(&["approvals", "allow", "@"]).code(2);
}
