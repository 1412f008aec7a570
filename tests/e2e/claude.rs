//! The real claude CLI through the host, against the scripted model server on loopback.
//!
//! `OSTLER_TEST_CLAUDE` names the executable; otherwise it is searched in `PATH`. If it is missing, the suite prints
//! SKIPPED and passes, unless `OSTLER_REQUIRE_CLIS=1`.

use crate::support::guests::tools;
use crate::support::{AgentFixture, CLAUDE, answer, cases, end_of, of_type, semantics, tool_outputs, warning_codes};
use serde_json::json;
use std::fs;
use std::path::Path;

cases::suite!(crate::support::CLAUDE);

/// `None` if claude is missing; prints SKIPPED then.
fn open_fixture() -> Option<AgentFixture> {
    AgentFixture::open(&CLAUDE)
}

#[test]
fn message_arrives_in_deltas_without_repetition() {
    let Some(fixture) = open_fixture() else { return };
    let events = fixture.events(&["SAY one two three"]);
    let deltas = semantics(&events, "text_delta");
    assert!(deltas.len() > 1, "{deltas:?}");
    let text: String = deltas.iter().map(|delta| delta["text"].as_str().unwrap()).collect();
    assert_eq!(text, "one two three");
    // The whole text refers to the deltas and does not repeat them.
    let [whole] = semantics(&events, "text")[..] else { panic!("{events:#?}") };
    assert_eq!(whole.get("text"), None, "{whole}");
    let cursors: Vec<_> =
        events.iter().filter(|event| event["payload"]["kind"] == "text_delta").map(|event| &event["cursor"]).collect();
    assert_eq!((&whole["fromCursor"], &whole["toCursor"]), (cursors[0], cursors[cursors.len() - 1]));
    assert_eq!(answer(&events), "one two three");
}

#[test]
fn shell_reports_its_exit_code_and_cannot_see_the_key() {
    let Some(fixture) = open_fixture() else { return };
    let events = fixture.events_with("RUN echo \"the key: ${ANTHROPIC_API_KEY-none}\"", &fixture.free_shell());
    assert_eq!(semantics(&events, "tool_result")[0]["exitCode"], 0);
    assert!(tool_outputs(&events).contains("the key: none"), "{events:#?}");
}

#[test]
fn permissions_decide_what_the_shell_may_do() {
    let Some(fixture) = open_fixture() else { return };
    let made = fixture.host.work().join("made");
    // Nobody can answer a question of claude, so that it refuses the command, and the run reports that.
    for (permissions, may) in [
        (json!({}), false),
        (json!({ "sandboxMode": "read-only" }), false),
        (json!({ "sandboxMode": "workspace-write" }), true),
    ] {
        let events = fixture.events_with("RUN touch made", &json!({ "harness": { "permissions": permissions } }));
        assert_eq!(end_of(&events).unwrap()["type"], "run.completed", "{permissions}: {events:#?}");
        assert_eq!(made.exists(), may, "{permissions}: {events:#?}");
        assert_eq!(semantics(&events, "tool_result")[0]["isError"], !may, "{permissions}: {events:#?}");
        let denied = semantics(&events, "warning").into_iter().filter(|warning| warning["code"] == "tool-denied");
        assert_eq!(denied.count(), usize::from(!may), "{permissions}: {events:#?}");
    }
}

#[test]
fn permissions_are_not_skipped_as_root() {
    let Some(fixture) = open_fixture() else { return };
    let harness = json!({ "permissions": { "autoApprove": true } });
    let payload = fixture.payload("RUN touch made", &json!({ "harness": harness }));
    let done = fixture.host.run(&["run", "--json", "--payload", payload.to_str().unwrap()]);
    let made = fixture.host.work().join("made").exists();
    // In a sandbox of the host, claude skips permissions even as root.
    let contained = fixture.host.call("get_status", &json!({})).unwrap()["sandbox"]["backend"].is_string();
    if nix::unistd::geteuid().is_root() && !contained {
        let error = done.code(2).error();
        assert_eq!(error["pointer"], "/harness/permissions/autoApprove");
        assert!(error["message"].as_str().unwrap().contains("as root"), "{error}");
        assert!(!made && fixture.server.seen().is_empty(), "claude was started");
    } else {
        done.ok();
        assert!(made);
    }
}

/// A prompt that starts a command in the background.
fn in_background(command: &str) -> String {
    let input = json!({ "command": command, "description": "work", "run_in_background": true });
    format!("TOOL Bash {input}")
}

#[test]
fn run_includes_the_turn_after_a_background_command() {
    let Some(fixture) = open_fixture() else { return };
    let events = fixture.events_with(&in_background("sleep 2; echo slept"), &fixture.free_shell());
    assert_eq!(end_of(&events).unwrap()["type"], "run.completed", "{events:#?}");
    assert_eq!(semantics(&events, "turn_complete").len(), 2, "{events:#?}");
    assert!(!warning_codes(&events).contains(&"CLI_ENDED"), "{events:#?}");
}

#[test]
fn endless_background_command_does_not_block_the_run() {
    let Some(fixture) = open_fixture() else { return };
    // Shorter than the time limit of claude itself, if it has one.
    fixture.host.run(&["settings", "set", "runner.background_seconds", "1"]).ok();
    let events = fixture.events_with(&in_background("tail -f /dev/null"), &fixture.free_shell());
    assert_eq!(end_of(&events).unwrap()["type"], "run.completed", "{events:#?}");
    assert!(answer(&events).contains("running in background"), "{events:#?}");
    let warnings = of_type(&events, "run.warning");
    let ended = warnings.iter().find(|warning| warning["payload"]["code"] == "CLI_ENDED").unwrap();
    assert_eq!(ended["payload"]["background"][0]["description"], "work", "{ended}");
    fixture.host.assert_nothing_runs(crate::support::TIMEOUT);
}

#[test]
fn cost_covers_only_the_attempt() {
    let Some(fixture) = open_fixture() else { return };
    let first = fixture.events(&["USAGE 120 7"]);
    let session = semantics(&first, "session")[0]["sessionId"].as_str().unwrap();
    let second = fixture.events(&["--resume", session, "USAGE 120 7"]);
    let [first, second] = [first, second].map(|events| {
        of_type(&events, "run.runner_metrics").last().unwrap()["payload"]["usage"]["costMicroUsd"].as_u64().unwrap()
    });
    assert!(first > 0);
    assert_eq!(first, second);
}

#[test]
fn own_settings_of_claude_do_not_widen_a_restricted_run() {
    let Some(fixture) = open_fixture() else { return };
    fs::write(fixture.own_folder().join("settings.json"), r#"{"permissions":{"allow":["Bash"]}}"#).unwrap();
    let made = fixture.host.work().join("made");
    for (permissions, may) in
        [(json!({ "autoApprove": false }), false), (json!({ "sandboxMode": "read-only" }), false), (json!({}), true)]
    {
        let events = fixture.events_with("RUN touch made", &json!({ "harness": { "permissions": permissions } }));
        assert_eq!(made.exists(), may, "{permissions}: {events:#?}");
    }
}

/// Creates every file with which a repository can make claude run something.
fn plant(fixture: &AgentFixture, proof: &Path) {
    let work = fixture.host.work();
    crate::support::hostile::settings_of_claude(&work, proof);
    let touch = format!("touch {}", proof.join("command").display());
    let command = format!("---\nallowed-tools: Bash(touch:*)\n---\n!`{touch}`\nSAY explained\n");
    fs::write(work.join(".claude/commands/explain.md"), command).unwrap();
}

#[test]
fn hostile_repository_runs_nothing_unless_its_grant_trusts_it() {
    let Some(fixture) = open_fixture() else { return };
    // Inside the folder, because a contained run can write only there.
    let proof = fixture.host.work().join("proof");
    fs::create_dir(&proof).unwrap();
    plant(&fixture, &proof);
    let ran = || {
        let found = fs::read_dir(&proof).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut found: Vec<String> = found.collect();
        found.sort();
        found
    };
    // As root, claude accepts the mode of these settings only with this variable.
    let more = json!({ "harness": { "processEnv": { "IS_SANDBOX": "1" } } });
    let shell = format!("RUN touch {}", proof.join("shell").display());
    for prompt in ["SAY explained", shell.as_str(), "/explain"] {
        fixture.events_with(prompt, &more);
        assert_eq!(ran(), Vec::<String>::new(), "{prompt}");
    }
    fixture.host.run(&["grants", "add", "--trust-settings", fixture.host.work().to_str().unwrap()]).ok();
    fixture.events_with("SAY explained", &more);
    assert!(ran().contains(&"hook".to_owned()) && ran().contains(&"local-hook".to_owned()), "{:?}", ran());
    fixture.host.run(&["grants", "add", "--no-trust-settings", fixture.host.work().to_str().unwrap()]).ok();
    for entry in fs::read_dir(&proof).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    fixture.events_with("SAY explained", &more);
    assert_eq!(ran(), Vec::<String>::new(), "the trust was removed");
}

#[test]
fn variables_that_load_code_or_choose_its_configuration_are_refused() {
    let Some(fixture) = open_fixture() else { return };
    let names = [
        "LD_LIBRARY_PATH",
        "BUN_OPTIONS",
        "BASH_ENV",
        "SHELL",
        "CLAUDE_CODE_SHELL",
        "CLAUDE_CODE_SHELL_PREFIX",
        "CLAUDE_CONFIG_DIR",
        "CLAUDE_ENV_FILE",
        "ANTHROPIC_BASE_URL",
        "PATH",
    ];
    crate::support::cases::assert_variables_refused(&fixture, &names);
}

#[test]
fn stored_token_is_sent_only_to_the_configured_endpoint() {
    let Some(mut fixture) = open_fixture() else { return };
    fixture.host.stop();
    let executable = crate::support::agent_cli(CLAUDE.name, CLAUDE.variable).unwrap();
    let configure = |fixture: &AgentFixture, more: &str| {
        fixture.host.configure(&format!(
            "[tokens]\nstore = \"file\"\n[policy]\nallow_environment = [\"ANTHROPIC_BASE_URL\"]\n[providers.claude]\n\
             executable = \"{}\"\nenvironment = {{ CLAUDE_CONFIG_DIR = \"{}\"{more} }}\n",
            executable.display(),
            fixture.own_folder().display(),
        ));
    };
    configure(&fixture, "");
    let token = "sk-ant-api03-plain-looking-words";
    fixture.host.run_with_input(&["token", "set", "claude"], format!("{token}\n").as_bytes()).ok();
    let url = fixture.server.url();
    // In the payload, although the operator allows payloads to set it, and in the shell of the caller.
    let payload = fixture.payload("SAY never", &json!({ "harness": { "processEnv": { "ANTHROPIC_BASE_URL": url } } }));
    let refused = fixture.host.run(&["run", "--json", "--payload", payload.to_str().unwrap()]).code(4).error();
    assert_eq!(refused["pointer"], "/harness/processEnv/ANTHROPIC_BASE_URL", "{refused}");
    fixture.host.set("ANTHROPIC_BASE_URL", url.clone());
    let refused = fixture.host.run(&["run", "--json", "claude", "SAY never"]).code(4).error();
    assert_eq!(refused["pointer"], "/clientEnvironment/ANTHROPIC_BASE_URL", "{refused}");
    fixture.host.unset("ANTHROPIC_BASE_URL");
    assert!(fixture.server.seen().is_empty(), "the token went to the listener");
    fixture.host.stop();
    configure(&fixture, &format!(", ANTHROPIC_BASE_URL = \"{url}\""));
    fixture.events(&["SAY fine"]);
    let seen = fixture.server.seen();
    let gets_it = |seen: &crate::support::model_server::Seen| seen.credential.as_deref() == Some(token);
    assert!(!seen.is_empty() && seen.iter().all(gets_it), "the operator's own endpoint gets it: {seen:#?}");
}

#[test]
fn file_of_the_payload_is_readable_and_its_neighbor_is_not() {
    let Some(fixture) = open_fixture() else { return };
    let folder = fixture.host.root().join("notes");
    fs::create_dir(&folder).unwrap();
    fixture.host.run(&["grants", "add", folder.to_str().unwrap()]).ok();
    for (name, may) in [("mine.txt", true), ("other.txt", false)] {
        fs::write(folder.join(name), "the content of the file").unwrap();
        let file = json!({ "name": "mine.txt", "mimeType": "text/plain", "path": folder.join("mine.txt") });
        let harness = json!({ "files": [file], "permissions": { "sandboxMode": "read-only" } });
        let prompt = format!("TOOL Read {}", json!({ "file_path": folder.join(name) }));
        let events = fixture.events_with(&prompt, &json!({ "harness": harness }));
        assert_eq!(tool_outputs(&events).contains("the content of the file"), may, "{name}: {events:#?}");
    }
}

#[test]
fn policies_get_the_file_of_a_reported_tool_use() {
    let Some(fixture) = open_fixture() else { return };
    fixture.host.stop();
    // The policy looks for a pointer that only the host adds; claude never prints it.
    let policy = tools::policy("strict", "/files/0", tools::Verdict::Deny, "a file");
    fs::create_dir_all(fixture.host.home().join("plugins")).unwrap();
    fs::write(fixture.host.home().join("plugins/strict.wasm"), policy).unwrap();
    let file = fixture.host.file("notes.txt", "the content of the file");
    let prompt = format!("TOOL Read {}", json!({ "file_path": file }));
    let events = fixture.events_with(&prompt, &json!({}));
    assert!(tool_outputs(&events).contains("the content of the file"), "{events:#?}");
    let denied = of_type(&events, "run.warning");
    let [warning] = denied[..] else { panic!("{events:#?}") };
    assert_eq!(
        (&warning["payload"]["code"], &warning["payload"]["tool"]),
        (&json!("TOOL_DENIED"), &json!("file_read"))
    );
    let events = fixture.events_with("RUN true", &fixture.free_shell());
    assert!(of_type(&events, "run.warning").is_empty(), "the command names no file: {events:#?}");
}

#[test]
fn limits_end_the_run_with_their_code() {
    let Some(fixture) = open_fixture() else { return };
    let mut payload = fixture.free_shell();
    for (limits, code) in
        [(json!({ "maxTurns": 1 }), "max-turns"), (json!({ "maxBudgetUsd": 0.000_001 }), "max-budget")]
    {
        payload["harness"]["limits"] = limits;
        let events = fixture.events_with("RUN true", &payload);
        let end = &end_of(&events).unwrap()["payload"];
        assert_eq!((&end["reason"], &end["code"]), (&json!("limit"), &json!(code)), "{events:#?}");
    }
}

#[test]
fn retries_of_the_cli_are_bounded() {
    let Some(fixture) = open_fixture() else { return };
    fixture.reconfigure("{ maxRetries = 1 }");
    let events = fixture.events(&["FAIL 529"]);
    let end = &end_of(&events).unwrap()["payload"];
    assert_eq!((&end["reason"], &end["code"]), (&json!("transient"), &json!("overloaded")), "{events:#?}");
    assert_eq!(fixture.server.count("FAIL 529"), 2);
    assert!(semantics(&events, "progress").iter().any(|notice| notice["code"] == "cli-retry"), "{events:#?}");
}

#[test]
fn interrupted_cli_with_exit_code_0_fails_the_run() {
    let Some(fixture) = open_fixture() else { return };
    let mut follower = fixture.follow("SLOW 500", &json!({}));
    let started = follower.wait_for_type("run.started");
    follower.wait_for("the first words", |event| event["payload"]["kind"] == "text_delta");
    let pid = i32::try_from(started["payload"]["pid"].as_i64().unwrap()).unwrap();
    crate::support::signal(pid, nix::sys::signal::Signal::SIGINT);
    let exit = follower.wait_for_type("run.cli_exit");
    assert_eq!(exit["payload"]["code"], 0, "{exit}");
    let end = follower.wait_for_type("run.failed");
    // On a busy machine claude exits before it has said that it was interrupted.
    let code = end["payload"]["code"].as_str().unwrap();
    assert!(end["payload"]["reason"] == "incomplete" && ["interrupted", "ended-early"].contains(&code), "{end}");
}

#[test]
fn invalid_session_fails_the_run() {
    let Some(fixture) = open_fixture() else { return };
    let events = fixture.events(&["--resume", "no such title", "SAY anew"]);
    assert_eq!(crate::support::end_of(&events).unwrap()["payload"]["reason"], "resume_invalid", "{events:#?}");
    assert_eq!(of_type(&events, "run.started").len(), 1, "a session that the user named is not replaced by a new one");
}

#[test]
fn unknown_slash_command_is_answered_or_fails_the_run() {
    let Some(fixture) = open_fixture() else { return };
    let events = fixture.events(&["/no-such-command please"]);
    if !fixture.server.seen().is_empty() {
        // Newer versions send an unknown command to the model.
        assert_eq!(answer(&events), "/no-such-command please", "{events:#?}");
        return;
    }
    let end = &end_of(&events).unwrap()["payload"];
    assert_eq!((&end["reason"], &end["exitCode"]), (&json!("usage"), &json!(0)), "{events:#?}");
    assert!(end["hint"].as_str().unwrap().contains("begins with `/`"), "{end}");
}
