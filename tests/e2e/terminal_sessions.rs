//! Sessions that run in a terminal: a program without a protocol, with its own screen.

use crate::support::terminal::CTRL_BACKSLASH;
use crate::support::{SecretProbe, Session, TIMEOUT, Terminal, TestHost, end_of, of_type, screen, warning_codes};
use serde_json::{Value, json};

/// `bash` is an interactive shell, `once` runs the prompt in a terminal, `rehearsal` has sessions without a terminal.
const CONFIG: &str = r#"
[providers.bash]
plugin = "command"
executable = "bash"
settings = { terminalArgs = ["--norc", "--noprofile", "-i"] }
[providers.once]
plugin = "command"
executable = "bash"
settings = { terminalArgs = ["-c", "{prompt}"] }
[providers.plain]
plugin = "command"
executable = "bash"
settings = { args = ["-c", "{prompt}"] }
"#;

fn running() -> TestHost {
    let host = TestHost::granted(CONFIG);
    host.ensure_running();
    host
}

fn start<'a>(host: &'a TestHost, provider: &str, more: &Value) -> Session<'a> {
    let mut payload = json!({"provider": provider, "cwd": host.work()});
    payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Session::of(host, &payload)
}

#[test]
fn session_without_a_protocol_runs_in_a_terminal_takes_keys_and_messages_and_ends_in_order() {
    let host = running();
    let session = start(&host, "bash", &json!({}));
    assert!(session.started["sessionId"].is_null(), "{}", session.started);
    assert_eq!(host.record(&session.run)["payload"]["terminal"], json!({"rows": 30, "columns": 120}));
    session.type_keys("stty size; tty; echo $TERM\r");
    session.wait_for_screen("30 120\r\n/dev/pts/");
    session.wait_for_screen("xterm-256color\r\n");
    let size = json!({"runId": session.run, "rows": 50, "columns": 101});
    assert_eq!(host.call("resize_terminal", &size).unwrap(), json!({"rows": 50, "columns": 101}));
    session.send("stty size").unwrap();
    session.wait_for_screen("50 101\r\n");
    // One process from the first line to the last: a shell that changes between two can miss the signal.
    session.type_keys("sh -c 'echo begin; exec sleep 600'\r");
    session.wait_for_screen("begin\r\n");
    assert!(session.interrupt());
    session.wait_for_screen("^C");
    session.type_keys("false\rhalf a line");
    assert_eq!(session.end(), "completed", "the exit code of a shell that is left says nothing");

    let events = session.events();
    assert_eq!(of_type(&events, "run.started")[0]["payload"]["output"], "terminal");
    assert_eq!(of_type(&events, "session.opened").len(), 1);
    let closed = of_type(&events, "session.closed");
    assert_eq!((closed.len(), &closed[0]["payload"]["reason"]), (1, &json!("ended")));
    let inputs = of_type(&events, "session.input_accepted");
    let texts: Vec<_> = inputs.iter().map(|input| input["payload"]["text"].as_str().unwrap()).collect();
    assert!(texts.contains(&"stty size") && texts.iter().all(|text| matches!(*text, "" | "stty size")), "{texts:?}");
    assert!(inputs.iter().all(|input| input["payload"]["keys"] == json!(true) || input["payload"]["bytes"] == 9));
    assert_eq!(warning_codes(&events), Vec::<&str>::new());
    host.assert_nothing_runs(TIMEOUT);
}

#[test]
fn last_line_without_an_end_is_stored_and_the_exit_of_the_program_ends_the_session() {
    let host = running();
    let session = start(&host, "once", &json!({"prompt": "printf 'first\\nlast'", "terminal": {"rows": 5}}));
    let events = host.wait_for_end(&session.run);
    assert_eq!(end_of(&events).unwrap()["type"], "run.completed", "{:#}", end_of(&events).unwrap());
    assert_eq!(screen(&events), "first\r\nlast");
    let session = start(&host, "once", &json!({"prompt": "stty size; exit 3", "terminal": {"rows": 5, "columns": 7}}));
    let events = host.wait_for_end(&session.run);
    assert_eq!(screen(&events), "5 7\r\n");
    assert_eq!(end_of(&events).unwrap()["payload"]["code"], "exit-3", "{:#}", end_of(&events).unwrap());
}

#[test]
fn unfinished_line_is_stored_while_the_program_waits() {
    let host = running();
    let ask = "read -p Continue? answer; echo got:$answer";
    let session = start(&host, "once", &json!({"prompt": ask}));
    session.wait_for_screen("Continue?");
    session.send("yes").unwrap();
    let events = host.wait_for_end(&session.run);
    assert!(screen(&events).ends_with("got:yes\r\n"), "{:?}", screen(&events));
}

#[test]
fn terminal_where_it_cannot_be_is_refused_and_names_the_field() {
    let host = running();
    let refused = |method: &str, payload: Value| {
        let error = host.call(method, &payload).unwrap_err();
        (error.kind().to_owned(), error.text())
    };
    let payload = |provider: &str, more: Value| {
        let mut payload = json!({"provider": provider, "cwd": host.work(), "prompt": "x"});
        payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        payload
    };
    for (method, payload, kind, part) in [
        ("start_run", payload("once", json!({"terminal": {}})), "INVALID_PARAMS", "is only for sessions"),
        (
            "start_interactive_session",
            payload("rehearsal", json!({"terminal": {}})),
            "INVALID_PARAMS",
            "cannot run in a terminal",
        ),
        ("start_interactive_session", payload("plain", json!({})), "INVALID_PARAMS", "has no sessions"),
        (
            "start_interactive_session",
            payload("bash", json!({"terminal": {"rows": 0}})),
            "INVALID_PARAMS",
            "/terminal/rows",
        ),
        (
            "start_interactive_session",
            payload("bash", json!({"terminal": {"lines": 3}})),
            "INVALID_PARAMS",
            "/terminal",
        ),
    ] {
        let (found, text) = refused(method, payload);
        assert!(found == kind && text.contains(part), "{method}: {found}: {text}");
    }
    let spoken = Session::start(&host, "SAY hello", &json!({}));
    let keys = json!({"runId": spoken.run, "data": "x", "keys": true});
    let (kind, text) = refused("send_session_input", keys);
    assert!(kind == "CONFLICT" && text.contains("has no terminal"), "{kind}: {text}");
    let size = |run: &str| json!({"runId": run, "rows": 3, "columns": 4});
    assert_eq!(refused("resize_terminal", size(&spoken.run)).0, "CONFLICT");
    spoken.end();
    assert_eq!(refused("resize_terminal", size(&spoken.run)).0, "CONFLICT");
    assert_eq!(refused("resize_terminal", json!({"runId": spoken.run, "rows": 0, "columns": 1})).0, "INVALID_PARAMS");
}

/// A made-up private key. It is built here, so that no file contains anything that looks like one.
fn private_key() -> String {
    let letters: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').collect();
    let line = |number: usize| (0..64).map(|n| letters[(n * n * 7 + number * 13 + n * 5) % letters.len()]).collect();
    let lines: Vec<String> = (0..12).map(line).collect();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
}

#[test]
fn secrets_that_are_typed_or_shown_are_redacted_everywhere() {
    let host = running();
    let (token, known) = ("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", "correct-horse-battery-42");
    let more = json!({"harness": {"processEnv": {"DEPLOY_TOKEN": known}}});
    let session = start(&host, "bash", &more);
    // A paste, single keys, output of the program, and a prompt that shows nothing.
    session.type_keys(&format!("echo pasted {token}\r"));
    for key in format!("echo typed {known}\r").chars() {
        session.type_keys(&key.to_string());
    }
    session.type_keys("printf %s ${DEPLOY_TOKEN:0:9}; sleep 0.1; echo ${DEPLOY_TOKEN:9}\r");
    // What is typed ahead would be echoed between the two parts.
    session.wait_for_screen("\r[REDACTED:deploy-token]\r\n");
    session.type_keys("read -s word; echo read ${#word}\r");
    session.wait_for_screen("${#word}\r\n\u{1b}[?2004l");
    session.type_keys(&format!("{known}\r"));
    session.wait_for_screen(&format!("read {}", known.len()));
    // A key that a shell reads line by line.
    let key = private_key();
    session.type_keys(&format!("wc -l <<EOF\r{}EOF\r", key.replace('\n', "\r")));
    session.wait_for_screen("\r14\r\n");
    session.end();
    let screen = session.screen();
    assert!(screen.contains("pasted [REDACTED:github-pat]"), "{screen:?}");
    let secrets = [token, known].into_iter().chain(key.lines().filter(|line| !line.starts_with("-----")));
    let probe = SecretProbe::new(&secrets.map(str::to_owned).collect::<Vec<_>>());
    for event in session.events() {
        probe.assert_not_in("an event", event.to_string());
    }
    probe.assert_not_below(host.root(), &[]);
}

#[test]
fn flood_on_a_terminal_is_stored_up_to_the_limit_and_ends_the_session() {
    let host = TestHost::granted(&format!("{CONFIG}\n[storage]\nmax_stored_mib = 1\n"));
    host.ensure_running();
    let session = start(&host, "once", &json!({"prompt": "yes 0123456789 0123456789"}));
    let events = host.wait_for_end(&session.run);
    assert!(warning_codes(&events).contains(&"BUFFER_TRIMMED"));
    assert_eq!(of_type(&events, "session.closed")[0]["payload"]["reason"], "storage_limit");
    assert_eq!(end_of(&events).unwrap()["type"], "run.completed", "{:#}", end_of(&events).unwrap());
    host.assert_nothing_runs(TIMEOUT);
}

#[test]
fn idle_session_in_a_terminal_is_ended_and_a_canceled_one_leaves_nothing() {
    let host = running();
    let idle = start(&host, "bash", &json!({"timeoutSeconds": 5}));
    let canceled = start(&host, "once", &json!({"prompt": "trap '' INT TERM HUP; echo deaf; read; sleep 600"}));
    canceled.wait_for_screen("deaf");
    host.call("cancel_run", &json!({"runId": canceled.run})).unwrap();
    assert_eq!(end_of(&host.wait_for_end(&canceled.run)).unwrap()["type"], "run.canceled");
    let events = host.wait_for_end(&idle.run);
    assert_eq!(of_type(&events, "session.closed")[0]["payload"]["reason"], "idle");
    assert_eq!(end_of(&events).unwrap()["type"], "run.completed", "{:#}", end_of(&events).unwrap());
    host.assert_nothing_runs(TIMEOUT);
}

#[test]
fn session_without_a_prompt_is_run_again_and_one_without_an_id_is_not_resumed() {
    let host = running();
    for provider in ["bash", "rehearsal"] {
        let session = start(&host, provider, &json!({}));
        assert_eq!(session.end(), "completed");
        let again = host.call("rerun", &json!({"runId": session.run})).unwrap();
        let again = Session::attach(&host, again["runId"].as_str().unwrap());
        again.wait_for("an open session", |event| event["type"] == "session.opened");
        assert_eq!(again.end(), "completed");
        let resumed = host.call("resume_session", &json!({"runId": session.run}));
        match (provider, resumed) {
            ("bash", Err(error)) => assert_eq!(error.kind(), "CONFLICT"),
            ("rehearsal", Ok(resumed)) => {
                Session::attach(&host, resumed["runId"].as_str().unwrap()).end();
            }
            (provider, other) => panic!("{provider}: {other:?}"),
        }
    }
}

#[test]
fn terminal_with_much_output_shows_its_end_to_whom_attaches() {
    let host = running();
    let more =
        json!({"prompt": "for i in $(seq 400); do echo line $i; sleep 0.002; done; printf '\\033[6nready '; cat"});
    let session = start(&host, "once", &more);
    session.wait_for_screen("ready ");
    assert!(session.events().len() > 350, "{}", session.events().len());
    let mut terminal = Terminal::start(host.command(&["session", "attach", &session.run]));
    let before = terminal.wait_for("ready ");
    assert!(before.contains("line 400\r\n") && !before.contains("\u{1b}[6n"), "{before:?}");
    terminal.type_keys("typed\r");
    terminal.wait_for("typed\r\ntyped\r\n");
    terminal.type_keys("\u{1b}[92;5u");
    terminal.wait_for("which stays open");
    assert_eq!(terminal.finish().0, 131);
    session.end();
}

#[test]
fn terminal_session_is_attached_left_and_attached_again_on_a_terminal() {
    let host = running();
    let mut terminal = Terminal::start(host.command(&["session", "start", "--terminal", "bash"]));
    terminal.wait_for("in a terminal; Ctrl-\\ leaves");
    terminal.type_keys("echo $((6 * 7)); stty size\r");
    terminal.wait_for("42\r\n24 100\r\n");
    terminal.type_keys(CTRL_BACKSLASH);
    terminal.wait_for("which stays open; `ostler session attach");
    assert_eq!(terminal.finish().0, 131);
    let listed = host.run(&["session", "list", "--json"]).ok().json();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["state"]), (1, &json!("open")), "{listed}");

    let run = listed[0]["runId"].as_str().unwrap().to_owned();
    host.run(&["session", "send", &run, "--keys", "echo from elsewhere\r"]).ok();
    let waits = host.run(&["session", "send", &run, "--wait", "x"]);
    assert!(waits.code == 2 && waits.stderr.contains("runs in a terminal"), "{}", waits.stderr);
    let mut terminal = Terminal::with(host.command(&["attach", &run]), 80, "xterm");
    terminal.wait_for("42\r\n24 100\r\n");
    terminal.wait_for("\rfrom elsewhere\r\n");
    terminal.type_keys("stty size\r");
    terminal.wait_for("24 80\r\n");
    // Ctrl-C and Ctrl-Z belong to the program.
    terminal.type_keys("sh -c 'echo begin; exec sleep 600'\r");
    terminal.wait_for("\rbegin\r\n");
    terminal.type_keys("\u{3}");
    terminal.type_keys("exit 0\r");
    terminal.wait_for("has ended");
    assert_eq!(terminal.finish().0, 0);
    assert_eq!(host.record(&run)["status"], "completed");
    host.assert_nothing_runs(TIMEOUT);
}
