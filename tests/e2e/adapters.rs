//! Agent CLIs that behave as in no captured run: scripts that stand in for codex and claude, print their lines, and
//! then hang, continue, or print malformed lines.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::guests::hostile;
use crate::support::{TestHost, answer, end_of, of_type, semantics, warning_codes};
use serde_json::{Value, json};

/// A host in which this CLI is a script. It answers the probes like a captured version. For a run, it adds a line to
/// the file `starts`, reads its input and runs `script`.
fn test_host(cli: &str, runner: &str, script: &str) -> TestHost {
    let (version, probes) = match cli {
        "claude" => ("claude-2.1.197", "--version) say version;; --help) say help;;"),
        _ => (
            "codex-0.169.0",
            "--version) say version;; 'exec --help') say help-exec;; 'exec resume --help') say help-exec-resume;; \
             'app-server --help') say help-app-server;; \
             'features list') exit 0;; 'mcp list --json'*) echo '[]'; exit 0;;",
        ),
    };
    let captures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/transcripts").join(version);
    let host = TestHost::new();
    let program = host.root().join(cli);
    let text = format!(
        "#!/bin/sh\nsay() {{ cat '{}/'$1.stdout; exit; }}\ncase \"$*\" in\n{probes}\nesac\n\
         echo started >> starts\ncat > /dev/null\n{script}\n",
        captures.display()
    );
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    host.configure(&format!(
        "[runner]\n{runner}\n[sandbox]\nbackends = []\nmode = \"full-access\"\n[providers.{cli}]\nexecutable = \"{}\"\n",
        program.display()
    ));
    host.run(&["grants", "add", host.work().to_str().unwrap()]).ok();
    host
}

/// Shell words that print these lines.
fn print(lines: &[&str]) -> String {
    let quoted: Vec<String> = lines.iter().map(|line| format!("'{line}'")).collect();
    format!("printf '%s\\n' {}", quoted.join(" "))
}

const INIT: &str =
    r#"{"type":"system","subtype":"init","session_id":"5e550000-0000-4000-8000-000000000001","model":"m"}"#;
const SAID: &str = r#"{"type":"assistant","session_id":"5e550000-0000-4000-8000-000000000001","message":{"id":"m1","content":[{"type":"text","text":"the answer"}]}}"#;
const DONE: &str = r#"{"usage":{"input_tokens":7,"output_tokens":3},"total_cost_usd":0.5,"is_error":false,"subtype":"success","result":"the answer","type":"result"}"#;
const CODEX_DONE: [&str; 4] = [
    r#"{"type":"thread.started","thread_id":"01a20200-0000-7000-8000-000000000001"}"#,
    r#"{"type":"turn.started"}"#,
    r#"{"type":"item.completed","item":{"id":"item_0","type":"agent_message","text":"the answer"}}"#,
    r#"{"type":"turn.completed","usage":{"input_tokens":7,"output_tokens":3}}"#,
];

/// Does not end, and ignores every signal but SIGKILL.
const STUBBORN: &str = "trap '' INT TERM HUP\nexec sleep 1000";

/// The events of a run. Checks that it started its CLI once.
#[track_caller]
fn run(host: &TestHost, cli: &str, more: &[&str]) -> Vec<Value> {
    let args: Vec<&str> = [cli, "do it"].into_iter().chain(more.iter().copied()).collect();
    let events = host.events_of(&args);
    let starts = fs::read_to_string(host.work().join("starts")).unwrap();
    assert_eq!(starts.lines().count(), 1, "the CLI was started twice: {events:#?}");
    events
}

#[track_caller]
fn assert_completed(events: &[Value]) {
    assert_eq!(end_of(events).unwrap()["type"], "run.completed", "{events:#?}");
    assert_eq!(answer(events), "the answer", "{events:#?}");
    assert!(semantics(events, "usage").iter().any(|usage| usage["outputTokens"] == 3), "{events:#?}");
}

/// The warning that the CLI was ended.
#[track_caller]
fn ended(events: &[Value]) -> &Value {
    let warnings = of_type(events, "run.warning");
    let found = warnings.into_iter().find(|warning| warning["payload"]["code"] == "CLI_ENDED");
    &found.unwrap_or_else(|| panic!("{events:#?}"))["payload"]
}

#[test]
fn cli_that_hangs_after_its_last_line_is_ended_and_the_run_completes() {
    for (cli, lines) in [("claude", &[INIT, SAID, DONE][..]), ("codex", &CODEX_DONE)] {
        for hang in ["exec sleep 1000", STUBBORN] {
            let host = test_host(cli, "linger_seconds = 1\ngrace_seconds = 1", &format!("{}\n{hang}", print(lines)));
            let events = run(&host, cli, &["--retries", "2"]);
            assert_completed(&events);
            let ended = ended(&events);
            assert_eq!(ended["background"], json!([]), "{cli}");
            assert!(ended["lingeredMs"].as_u64().unwrap() >= 1000, "{ended}");
            host.assert_nothing_runs(crate::support::TIMEOUT);
        }
    }
}

#[test]
fn time_limit_after_the_last_line_ends_the_cli_and_the_run_completes() {
    let host =
        test_host("claude", "linger_seconds = 3600", &format!("{}\nexec sleep 1000", print(&[INIT, SAID, DONE])));
    let events = run(&host, "claude", &["--timeout", "5s"]);
    assert_completed(&events);
    ended(&events);
}

#[test]
fn cli_that_hangs_before_its_last_line_fails_with_timeout() {
    let host = test_host("claude", "linger_seconds = 1", &format!("{}\nexec sleep 1000", print(&[INIT, SAID])));
    let events = run(&host, "claude", &["--timeout", "5s"]);
    let end = end_of(&events).unwrap();
    assert_eq!((&end["type"], &end["payload"]["reason"]), (&json!("run.failed"), &json!("timeout")), "{events:#?}");
}

#[test]
fn output_after_the_last_line_does_not_change_the_outcome() {
    let interrupted =
        r#"{"type":"result","subtype":"error_during_execution","is_error":true,"errors":["interrupted"]}"#;
    let script = format!(
        "ended() {{ {}; exit 3; }}\ntrap ended INT TERM\n{}\nwhile :; do sleep 0.1; done",
        print(&[interrupted]),
        print(&[INIT, SAID, DONE])
    );
    let host = test_host("claude", "linger_seconds = 1", &script);
    let events = run(&host, "claude", &[]);
    assert_completed(&events);
    assert_eq!(of_type(&events, "run.cli_exit")[0]["payload"]["code"], 3, "{events:#?}");
}

const TASK: &str =
    r#"{"type":"system","subtype":"task_started","task_id":"b1","description":"tests","task_type":"local_bash"}"#;
const TASK_ENDED: &str = r#"{"type":"system","subtype":"task_notification","task_id":"b1","status":"completed"}"#;
const FIRST: &str =
    r#"{"type":"result","subtype":"success","is_error":false,"result":"wait for the tests","usage":{}}"#;

#[test]
fn run_waits_for_the_turn_after_a_background_task() {
    // Longer than a CLI without a background task may continue after its last line.
    let script = format!(
        "{}\nsleep 2\n{}\nsleep 2\n{}",
        print(&[INIT, TASK, FIRST]),
        print(&[TASK_ENDED, INIT]),
        print(&[SAID, DONE])
    );
    let host = test_host("claude", "linger_seconds = 1\nbackground_seconds = 60", &script);
    let events = run(&host, "claude", &[]);
    assert_completed(&events);
    assert!(!warning_codes(&events).contains(&"CLI_ENDED"), "{events:#?}");
}

#[test]
fn endless_background_task_is_named_in_the_warning() {
    let script = format!("{}\nexec sleep 1000", print(&[INIT, TASK, SAID, DONE]));
    let host = test_host("claude", "linger_seconds = 60\nbackground_seconds = 1", &script);
    let events = run(&host, "claude", &[]);
    assert_completed(&events);
    assert_eq!(ended(&events)["background"], json!([{"id": "b1", "kind": "local_bash", "description": "tests"}]));
}

#[test]
fn malformed_lines_keep_answer_and_usage() {
    let cut = DONE.replace("\"result\":\"the answer\"", r#""stop":1e400,"result":"the answer \ud83c""#);
    let codex = CODEX_DONE.concat().replace("the answer", r"the answer \ud83c").replace(":7,", ":7,\"cost\":-1e999,");
    for (cli, line) in [("claude", format!("{INIT}{cut}")), ("codex", codex)] {
        let host = test_host(cli, "", &print(&[&line]));
        let events = run(&host, cli, &[]);
        let end = end_of(&events).unwrap();
        assert_eq!(end["type"], "run.completed", "{events:#?}");
        assert_eq!(end["payload"]["finalText"], "the answer \u{fffd}", "{events:#?}");
        assert!(semantics(&events, "usage").iter().any(|usage| usage["outputTokens"] == 3), "{events:#?}");
    }
}

#[test]
fn too_long_last_line_fails_the_run_and_keeps_the_partial_answer() {
    // The type of the line comes after the answer.
    let script = format!(
        "{}\nprintf '{{\"total_cost_usd\":0.5,\"is_error\":false,\"result\":\"an unread answer'\n\
         head -c 2000000 /dev/zero | tr '\\0' a\nprintf '\",\"type\":\"result\"}}\\n'",
        print(&[INIT])
    );
    let host = test_host("claude", "max_transcript_line_mib = 1", &script);
    let events = run(&host, "claude", &[]);
    let end = &end_of(&events).unwrap()["payload"];
    assert_eq!((&end["reason"], &end["code"]), (&json!("incomplete"), &json!("protocol")), "{end}");
    assert!(end["message"].as_str().unwrap().contains("last line was longer than the line limit"), "{end}");
    assert!(end["finalText"].as_str().unwrap().starts_with("an unread answeraaa"));
}

#[test]
fn unanswered_probe_is_repeated_with_a_longer_timeout() {
    let host = TestHost::new();
    // The program answers if the file `awake` exists, and adds a line to `asked` for each probe.
    let program = host.root().join("slow");
    let (asked, awake) = (host.root().join("asked"), host.root().join("awake"));
    let text =
        format!("#!/bin/sh\necho asked >> '{}'\n[ -e '{}' ] || exec sleep 1000\n", asked.display(), awake.display());
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    host.configure(&format!(
        "[plugins]\ntrust = \"folder\"\n[providers.slow]\nexecutable = \"{}\"\n",
        program.display()
    ));
    fs::create_dir(host.home().join("plugins")).unwrap();
    fs::write(host.home().join("plugins/slow.wasm"), hostile::refuser("slow", "slow", &["--version"], 300)).unwrap();
    host.run(&["grants", "add", host.work().to_str().unwrap()]).ok();
    let questions = || fs::read_to_string(&asked).unwrap_or_default().lines().count();
    let capabilities = || host.run(&["capabilities", "slow", "--json"]).code(6).stdout;
    let refused = || host.run(&["run", "slow", "hello"]).all();

    let output = refused();
    assert!(output.contains("did not answer within"), "{output}");
    assert!(output.contains("try again") && !output.contains("--refresh"), "{output}");
    // Each probe may take longer than the one before, and a missing answer is not remembered.
    let before = questions();
    let output = refused();
    assert!(output.contains("did not answer within") && questions() > before, "{output}");
    // The next host does not remember it either.
    host.stop();
    let before = questions();
    let output = capabilities();
    assert!(output.contains("did not answer within") && output.contains("the next try waits for up to"), "{output}");
    assert!(questions() > before);
    // A list does not probe again. A run does, and so does `--refresh`.
    let before = questions();
    assert!(capabilities().contains("did not answer within"));
    assert_eq!(questions(), before);
    fs::write(&awake, "").unwrap();
    let output = host.run(&["capabilities", "slow", "--refresh", "--json"]).code(6).stdout;
    assert!(!output.contains("did not answer"), "{output}");
    // A negative answer is remembered.
    let before = questions();
    let output = refused();
    assert!(output.contains("--refresh"), "{output}");
    assert_eq!(questions(), before);
}
