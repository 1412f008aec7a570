//! The main commands, through every layer, with the rehearsal: what a new user sees on a machine without an agent CLI.

use crate::support::{
    TestHost, answer, check_run_events, end_of, kinds, of_type, semantics, tool_outputs, warning_codes,
};
use serde_json::{Value, json};
use std::time::Duration;

const SESSION_THAT_NEVER_WAS: &str = "5eed0000-0000-4000-8000-00000000dead";

#[test]
fn first_run_works_in_an_empty_home() {
    let host = TestHost::new();
    let done = host.run(&["run", "rehearsal", "--grant", "SAY hello from the rehearsal"]).ok();
    assert_eq!(done.stdout, "hello from the rehearsal\n");
    assert!(done.stderr.contains(host.work().to_str().unwrap()), "the grant is reported: {}", done.stderr);

    let runs = host.run(&["runs", "--json"]).ok().json();
    assert_eq!(runs["total"], 1);
    assert_eq!(runs["items"][0]["status"], "completed");
    assert_eq!(runs["items"][0]["provider"], "rehearsal");
    let listed = host.run(&["runs"]).ok().stdout;
    assert!(listed.contains("rehearsal") && listed.contains("completed"), "{listed}");

    let id = runs["items"][0]["runId"].as_str().unwrap().to_owned();
    let shown = host.run(&["show", &id]).ok().stdout;
    assert!(shown.contains("hello from the rehearsal"), "{shown}");
    assert_eq!(host.run(&["show", "--json", &id]).ok().json()["finalText"], "hello from the rehearsal");
    let logs = host.run(&["logs", &id]).ok().stdout;
    assert!(logs.contains("hello from the rehearsal"), "{logs}");

    // The second run needs no grant.
    host.run(&["run", "rehearsal", "SAY again"]).ok();
    host.assert_nothing_runs(Duration::from_secs(2));
}

#[test]
fn first_start_compiles_no_bundled_plugin() {
    let host = TestHost::new();
    let cache = host.home().join("cache");
    let _ = std::fs::remove_dir_all(&cache);
    let host_pid = host.ensure_running();
    host.run(&["run", "rehearsal", "SAY hello"]).code(4);
    // The cache would contain compiled plugins.
    assert_eq!(std::fs::read_dir(cache.join("plugins")).map_or(0, Iterator::count), 0);
    let tasks = std::fs::read_dir(format!("/proc/{host_pid}/task")).unwrap().flatten();
    let threads: Vec<String> =
        tasks.map(|task| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default()).collect();
    // The threads of the compiler have this name.
    assert!(!threads.iter().any(|name| name.trim() == "plugin-compiler"), "{threads:?}");
}

#[test]
fn run_without_a_grant_is_refused_with_a_hint() {
    let host = TestHost::new();
    let done = host.run(&["run", "rehearsal", "SAY no"]).code(4);
    assert!(done.stderr.contains("ostler grant add"), "{}", done.stderr);
    assert_eq!(done.stdout, "");
    let error = host.run(&["run", "--json", "rehearsal", "SAY no"]).code(4).error();
    assert_eq!(error["kind"], "POLICY_DENIED");
    assert_eq!(host.run(&["runs", "--json"]).ok().json()["total"], 0, "a refused submit makes no run");
}

#[test]
fn events_of_a_run_are_complete_and_ordered() {
    let host = TestHost::granted("");
    let events = host.events_of(&["rehearsal", "SAY one two three"]);
    check_run_events(&events);
    let kinds = kinds(&events);
    let index_of =
        |kind: &str| kinds.iter().position(|found| *found == kind).unwrap_or_else(|| panic!("no {kind} in {kinds:?}"));
    assert!(index_of("run.policy_audit") < index_of("run.started"), "{kinds:?}");
    assert!(index_of("run.started") < index_of("run.semantic"), "{kinds:?}");
    assert!(index_of("run.semantic") < index_of("run.cli_exit"), "{kinds:?}");
    assert!(index_of("run.cli_exit") < index_of("run.completed"), "{kinds:?}");
    assert!(kinds.contains(&"run.runner_metrics"));
    assert_eq!(answer(&events), "one two three");

    let session = semantics(&events, "session");
    assert_eq!(session.len(), 1);
    let notice = semantics(&events, "progress");
    assert!(notice.iter().any(|notice| notice["code"] == "rehearsal"), "the rehearsal identifies itself: {notice:?}");
    assert!(!semantics(&events, "usage").is_empty());
    assert!(of_type(&events, "run.chunk.stdout").is_empty(), "protocol lines are not repeated as output");

    let id = events[0]["runId"].as_str().unwrap();
    let stored = host.run_events(id);
    check_run_events(&stored);
    assert_eq!(crate::support::kinds(&stored), crate::support::kinds(&events));
    let record = host.record(id);
    assert_eq!(record["status"], "completed");
    assert_eq!(record["sessionId"], session[0]["sessionId"]);
    assert_eq!(record["capabilities"]["support"], "supported");
}

#[test]
fn a_command_and_its_output_are_events() {
    let host = TestHost::granted("");
    let events = host.events_of(&["rehearsal", "RUN echo to-stdout; echo to-stderr >&2; pwd"]);
    let starts = semantics(&events, "tool_start");
    assert_eq!(starts.len(), 1);
    assert_eq!(starts[0]["commands"][0], "echo to-stdout; echo to-stderr >&2; pwd");
    let output = tool_outputs(&events);
    assert!(output.contains("to-stdout\nto-stderr\n"), "{output}");
    assert!(output.contains(host.work().canonicalize().unwrap().to_str().unwrap()), "{output}");
    assert_eq!(semantics(&events, "tool_result").len(), 1);
    assert_eq!(end_of(&events).unwrap()["type"], "run.completed");
}

#[test]
fn prompt_is_read_from_arguments_files_and_standard_input() {
    let host = TestHost::granted("");
    assert_eq!(
        host.run_with_input(&["run", "rehearsal", "-"], b"SAY from standard input").ok().stdout,
        "from standard input\n"
    );
    host.file("prompt.md", "SAY from a file\nwith two lines");
    let done = host.run(&["run", "rehearsal", "--file", "prompt.md"]).ok();
    assert_eq!(done.stdout, "from a file\nwith two lines\n");
    assert_eq!(host.run(&["run", "rehearsal", "--", "--dashes first"]).ok().stdout, "--dashes first\n");
    let payload = json!({ "provider": "rehearsal", "prompt": "MODEL", "model": "mine", "cwd": host.work() });
    host.file("payload.json", payload.to_string());
    assert_eq!(host.run(&["run", "--payload", "payload.json"]).ok().stdout, "mine\n");
    assert_eq!(host.run(&["run", "rehearsal", "--model", "other", "MODEL"]).ok().stdout, "other\n");

    let long = format!("SAY {}", "x".repeat(300 * 1024));
    let done = host.run_with_input(&["run", "rehearsal", "-"], long.as_bytes()).ok();
    assert_eq!(done.stdout.len(), 300 * 1024 + 1);
}

#[test]
fn sessions_are_resumed_and_an_invalid_one_fails_the_run() {
    let host = TestHost::granted("");
    let first = host.events_of(&["rehearsal", "TURNS"]);
    let session = semantics(&first, "session")[0]["sessionId"].as_str().unwrap().to_owned();
    let second = host.events_of(&["rehearsal", "--resume", &session, "TURNS"]);
    assert_eq!(answer(&second), "2");
    assert_eq!(semantics(&second, "session")[0]["origin"], "resumed");

    // A session continues in its own folder, with any or no folder in the payload.
    let other = host.root().join("other");
    std::fs::create_dir(&other).unwrap();
    host.run(&["grants", "add", other.to_str().unwrap()]).ok();
    let work = host.work().canonicalize().unwrap();
    let mut payload =
        json!({ "provider": "rehearsal", "prompt": "RUN pwd", "harness": { "resumeSessionId": session } });
    for (cwd, warnings) in [(Value::Null, 0), (json!(host.work()), 0), (json!(other), 1)] {
        payload["cwd"] = cwd;
        let run = host.call("start_run", &payload).unwrap()["runId"].as_str().unwrap().to_owned();
        let events = host.wait_for_end(&run);
        assert_eq!(answer(&events), work.to_str().unwrap());
        assert_eq!(of_type(&events, "run.compatibility_warning").len(), warnings, "{events:#?}");
        assert_eq!(host.record(&run)["cwd"], work.to_str().unwrap());
    }

    let events = host.events_of(&["rehearsal", "--resume", SESSION_THAT_NEVER_WAS, "TURNS"]);
    check_run_events(&events);
    assert_eq!(end_of(&events).unwrap()["payload"]["reason"], "resume_invalid", "{events:#?}");
    assert_eq!(of_type(&events, "run.started").len(), 1, "a session that the user named is not replaced by a new one");
}

#[test]
fn only_temporary_failures_are_retried() {
    let host = TestHost::granted("");
    let attempts = |events: &[Value]| of_type(events, "run.started").len();
    for (class, reason, tries) in [
        ("authentication", "authentication", 1),
        ("usage", "usage", 1),
        ("limit", "limit", 1),
        ("transient", "transient", 2),
        ("rate-limited 50", "rate_limited", 2),
        ("unknown", "unknown", 2),
    ] {
        let prompt = format!("FAIL {class}");
        let payload = json!({
            "provider": "rehearsal", "prompt": prompt, "cwd": host.work(), "maxRetries": 1, "retryBackoffMs": 100
        });
        host.file("payload.json", payload.to_string());
        let events = host.events_of(&["--payload", "payload.json"]);
        check_run_events(&events);
        let end = end_of(&events).unwrap();
        assert_eq!(end["type"], "run.failed", "{class}");
        assert_eq!(end["payload"]["reason"], reason, "{class}: {end}");
        assert_eq!(attempts(&events), tries, "{class}");
    }
    // A run whose output has no end is incomplete, even with exit code 0.
    let events = host.events_of(&["rehearsal", "FAIL incomplete"]);
    assert_eq!(end_of(&events).unwrap()["payload"]["reason"], "incomplete");
    host.run(&["run", "rehearsal", "FAIL authentication"]).code(1);

    let payload = json!({
        "provider": "rehearsal", "prompt": "FAILONCE transient", "cwd": host.work(), "maxRetries": 2, "retryBackoffMs": 100
    });
    host.file("payload.json", payload.to_string());
    let events = host.events_of(&["--payload", "payload.json"]);
    check_run_events(&events);
    assert_eq!(answer(&events), "attempt 2 succeeds");
    let scheduled =
        of_type(&events, "run.progress").into_iter().any(|event| event["payload"]["stage"] == "retry_scheduled");
    assert!(scheduled, "{events:#?}");
}

#[test]
fn structured_output_is_validated() {
    let host = TestHost::granted("");
    let schema = json!({
        "type": "object", "properties": { "answer": { "type": "integer" } },
        "required": ["answer"], "additionalProperties": false
    });
    host.file("schema.json", schema.to_string());
    let events = host.events_of(&["rehearsal", "--schema", "schema.json", r#"JSON {"answer": 42}"#]);
    assert_eq!(of_type(&events, "run.structured_output")[0]["payload"]["result"], json!({ "answer": 42 }));
    assert_eq!(end_of(&events).unwrap()["type"], "run.completed");

    let events = host.events_of(&["rehearsal", "--schema", "schema.json", r#"JSON {"answer": "no"}"#]);
    let invalid = of_type(&events, "run.structured_output_invalid");
    assert_eq!(invalid[0]["payload"]["errors"][0]["pointer"], "/answer");
    assert_eq!(end_of(&events).unwrap()["payload"]["reason"], "structured_output");

    let events = host.events_of(&["rehearsal", "--schema", "schema.json", "SAY no object at all"]);
    assert_eq!(of_type(&events, "run.structured_output_invalid").len(), 1);
    assert_eq!(end_of(&events).unwrap()["type"], "run.failed");
    check_run_events(&events);
}

#[test]
fn queue_lists_runs_and_cancel_ends_them() {
    let host = TestHost::granted("");
    let mut first = host.follow(&["run", "--json", "rehearsal", "SLOW 600"]);
    first.wait_for("the first word", |event| event["payload"]["kind"] == "text_delta");
    let running = first.run_id();
    let waiting = host.detach(&["rehearsal", "SAY second"]);
    let urgent = host.detach(&["rehearsal", "--priority", "5", "SAY third"]);

    let queue = host.run(&["queue", "--json"]).ok().json();
    let items = queue.as_array().or_else(|| queue["items"].as_array()).unwrap().clone();
    let state = |id: &str| items.iter().find(|job| job["runId"] == id).map(|job| job["state"].clone());
    assert_eq!(state(&running), Some(json!("running")), "{queue}");
    assert_eq!(state(&waiting), Some(json!("ready")), "{queue}");
    let position = |id: &str| items.iter().find(|job| job["runId"] == id).and_then(|job| job["position"].as_u64());
    assert!(position(&urgent) < position(&waiting), "{queue}");
    let shown = host.run(&["queue"]).ok().stdout;
    assert!(shown.contains(&waiting), "{shown}");

    // A waiting run ends at once, a running one with all its processes, and an ended one is reported as such.
    host.run(&["cancel", &waiting]).ok();
    assert_eq!(host.record(&waiting)["status"], "canceled");
    host.run(&["cancel", &running]).ok();
    assert_eq!(host.record(&running)["status"], "canceled");
    let again = host.call("cancel_run", &json!({ "runId": running })).unwrap();
    assert_eq!(again["alreadyEnded"], true);
    let (code, _, _) = first.finish();
    assert_eq!(code, 130);

    let events = host.wait_for_end(&urgent);
    assert_eq!(answer(&events), "third");
    for run in [&running, &waiting, &urgent] {
        check_run_events(&host.run_events(run));
    }
    host.assert_nothing_runs(Duration::from_secs(2));
    host.run(&["cancel", "018f0000-0000-7000-8000-000000000000"]).code(5);
}

#[test]
fn time_limits_end_a_run() {
    let host = TestHost::granted("");
    let done = host.run(&["run", "--json", "rehearsal", "--timeout", "5", "SLEEP 600"]).code(3);
    let events = done.json_lines();
    check_run_events(&events);
    let end = end_of(&events).unwrap();
    assert_eq!((&end["type"], &end["payload"]["reason"]), (&json!("run.failed"), &json!("timeout")));
    host.assert_nothing_runs(Duration::from_secs(2));
}

#[test]
fn restrictions_are_enforced_or_refused() {
    // With the sandbox of the host, the program runs, but cannot write.
    let host = TestHost::granted("");
    let events = host.events_of(&["rehearsal", "--sandbox", "read-only", "RUN touch made || echo cannot"]);
    assert!(tool_outputs(&events).contains("cannot"), "{events:#?}");
    assert!(!host.work().join("made").exists());
    // Without a sandbox, the restriction is refused.
    let host = TestHost::granted("[sandbox]\nbackends = []\n");

    let payload = |permissions: Value| json!({ "provider": "rehearsal", "prompt": "RUN true", "cwd": host.work(), "harness": { "permissions": permissions } });
    for (asked, pointer) in [
        (json!({ "networkAccess": false }), "/harness/permissions/networkAccess"),
        (json!({ "sandboxMode": "read-only" }), "/harness/permissions/sandboxMode"),
    ] {
        let refused = host.call("start_run", &payload(asked)).unwrap_err();
        assert_eq!(refused.kind(), "UNENFORCEABLE", "{}", refused.text());
        assert!(refused.text().contains(pointer), "{}", refused.text());
    }
    let denied =
        host.call("start_run", &payload(json!({ "autoApprove": true, "sandboxMode": "full-access" }))).unwrap_err();
    assert_eq!(denied.kind(), "POLICY_DENIED", "{}", denied.text());
    let flag =
        json!({ "provider": "rehearsal", "prompt": "x", "cwd": host.work(), "optionalFlags": { "--allow-run": true } });
    let denied = host.call("start_run", &flag).unwrap_err();
    assert_eq!(denied.kind(), "POLICY_DENIED", "{}", denied.text());

    // An unsupported option that restricts nothing is dropped with a warning.
    let mcp = json!({
        "provider": "rehearsal", "prompt": "SAY x", "cwd": host.work(),
        "harness": { "mcp": { "servers": [{ "name": "m", "command": "true" }] } }
    });
    host.file("payload.json", mcp.to_string());
    let events = host.events_of(&["--payload", "payload.json"]);
    let warnings = of_type(&events, "run.compatibility_warning");
    assert!(warnings.iter().any(|event| event["payload"]["pointer"].as_str().unwrap().starts_with("/harness/mcp")));
}

#[test]
fn harness_fields_reach_the_agent() {
    let host = TestHost::granted("policy.allow_environment = [\"GREETING\"]\n");
    let ask = |prompt: &str, harness: Value| {
        let payload = json!({ "provider": "rehearsal", "prompt": prompt, "cwd": host.work(), "harness": harness });
        host.file("payload.json", payload.to_string());
        answer(&host.events_of(&["--payload", "payload.json"])).to_owned()
    };
    assert_eq!(
        ask("SYSTEM", json!({ "systemPrompt": "be brief", "appendSystemPrompt": "be kind" })),
        "be brief\n\nbe kind"
    );
    assert_eq!(ask("ENV GREETING", json!({ "processEnv": { "GREETING": "good day" } })), "good day");
    assert_eq!(ask("TOOLS", json!({ "tools": ["shell"] })), "shell");
    let files = ask(
        "FILES",
        json!({ "files": [{ "name": "a.txt", "mimeType": "text/plain", "dataUrl": "data:text/plain;base64,aGVsbG8=" }] }),
    );
    assert!(files.contains("5 bytes"), "{files}");
    let prelude = ask("RUN greet", json!({ "shellPrelude": { "content": "greet() { echo prelude-ran; }" } }));
    assert_eq!(prelude, "prelude-ran");
    let listed = ask(
        "RUN command -v mytool",
        json!({ "cliAllowlist": { "entries": [{ "name": "mytool", "path": "/bin/true" }] } }),
    );
    assert!(listed.ends_with("mytool"), "{listed}");
    let trimmed = json!({
        "provider": "rehearsal", "prompt": "RUN seq 100", "cwd": host.work(),
        "harness": { "limits": { "maxToolResultLines": 3 } }
    });
    host.file("payload.json", trimmed.to_string());
    let events = host.events_of(&["--payload", "payload.json"]);
    assert!(warning_codes(&events).contains(&"TOOL_RESULT_TRIMMED"), "{events:#?}");
    let left: Vec<_> =
        std::fs::read_dir(host.root().join("tmp")).unwrap().flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "private files left behind: {left:?}");
}

#[test]
fn environment_of_the_caller_is_not_inherited() {
    let mut host = TestHost::granted("policy.allow_environment = [\"UNRELATED_*\"]\n");
    host.set("UNRELATED_VARIABLE", "unrelated value");
    let events = host.events_of(&["rehearsal", "ENV UNRELATED_VARIABLE"]);
    assert_eq!(answer(&events), "(not set)");
    let events = host.events_of(&["rehearsal", "--env", "UNRELATED_VARIABLE", "ENV UNRELATED_VARIABLE"]);
    assert_eq!(answer(&events), "unrelated value");
}

#[test]
fn grants_are_added_and_revoked() {
    let host = TestHost::new();
    let folder = host.work();
    let folder = folder.to_str().unwrap();
    host.run(&["grants", "add", folder]).ok();
    assert!(host.run(&["grants", "list"]).ok().stdout.contains("work"));
    host.run(&["run", "--quiet", "rehearsal", "SAY x"]).ok();
    host.run(&["grants", "revoke", folder]).ok();
    assert!(!host.run(&["grants", "list"]).ok().stdout.contains("work"));
    host.run(&["run", "rehearsal", "SAY x"]).code(4);
    host.run(&["grants", "add", "/no/such/folder"]).code(6);
}

#[test]
fn redact_is_a_filter() {
    let host = TestHost::new();
    let secret = format!("{}{}", ["gh", "p_"].concat(), "R7mZ2kQ9xT4vB8nL1cW6yH3jD5fS0gPaUeIo");
    let input = format!("a token {secret} in a line\nand an innocent one\n");
    let done = host.run_with_input(&["redact"], input.as_bytes()).ok();
    assert_eq!(done.stdout, "a token [REDACTED:github-pat] in a line\nand an innocent one\n");
}

#[test]
fn plugins_providers_and_configuration_are_shown() {
    let host = TestHost::new();
    let plugins = host.run(&["plugin", "list"]).ok().stdout;
    for name in ["claude", "codex", "rehearsal", "command", "secrets", "guardrails", "tools"] {
        assert!(plugins.contains(name), "{name}: {plugins}");
    }
    let listed = host.call("list_plugins", &json!({})).unwrap();
    let states: Vec<_> = listed["plugins"].as_array().unwrap().iter().map(|plugin| &plugin["state"]).collect();
    assert!(states.iter().all(|state| **state == "ready"), "{listed:#}");

    let capabilities = host.run(&["capabilities", "--json"]).ok().stdout;
    assert!(capabilities.contains("rehearsal") && capabilities.contains("supported"), "{capabilities}");

    let path = host.run(&["config", "path"]).ok().stdout;
    assert_eq!(path.trim(), host.home().join("config.toml").to_str().unwrap());
    host.run(&["config", "init"]).ok();
    assert!(host.home().join("config.toml").exists());
    host.run(&["config", "check"]).ok();
    assert!(host.run(&["config", "show"]).ok().stdout.contains("per_provider"));
}

#[test]
fn host_starts_and_stops() {
    let host = TestHost::new();
    let pid = host.ensure_running();
    let status = host.run(&["status", "--json"]).ok().json();
    assert_eq!(status["pid"], pid);
    assert!(host.run(&["status"]).ok().stdout.contains(&pid.to_string()));
    host.run(&["stop"]).ok();
    crate::support::wait_until("the end of the host", crate::support::TIMEOUT, || {
        crate::support::carrying(host.root()).is_empty().then_some(())
    });
    assert!(host.call("get_status", &json!({})).is_err());

    // `serve` stays in the foreground, and a second host is refused.
    let mut serve = host.command(&["serve"]).spawn().unwrap();
    crate::support::wait_until("the socket", crate::support::TIMEOUT, || host.call("get_status", &json!({})).ok());
    let second = host.run(&["serve"]);
    assert_eq!(second.code, 7, "{}", second.stderr);
    let status = host.call("get_status", &json!({})).unwrap();
    assert_eq!(status["pid"], serve.id());
    host.run(&["stop"]).ok();
    assert!(serve.wait().unwrap().success());
}

#[test]
fn idle_background_host_ends_itself() {
    let host = TestHost::with_config("[host]\nidle_seconds = 1\n");
    host.run(&["run", "rehearsal", "--grant", "SAY x"]).ok();
    crate::support::wait_until("the end of the host", crate::support::TIMEOUT, || {
        crate::support::carrying(host.root()).is_empty().then_some(())
    });
    assert!(!host.socket().exists(), "the socket is left behind");
}

#[test]
fn command_plugin_makes_any_program_a_provider() {
    let host = TestHost::granted(
        "[providers.shout]\nplugin = \"command\"\nexecutable = \"tr\"\n[providers.shout.settings]\nargs = [\"a-z\", \"A-Z\"]\n",
    );
    let done = host.run(&["run", "shout", "hello there"]).ok();
    assert_eq!(done.stdout.trim_end(), "HELLO THERE");
}

#[test]
fn two_instances_of_one_plugin_are_independent() {
    let host =
        TestHost::granted("[providers.understudy]\nplugin = \"rehearsal\"\nenvironment = { STAGE = \"left\" }\n");
    assert_eq!(host.run(&["run", "understudy", "ENV STAGE"]).ok().stdout, "left\n");
    assert_eq!(host.run(&["run", "rehearsal", "ENV STAGE"]).ok().stdout, "(not set)\n");
}
