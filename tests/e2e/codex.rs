//! The real codex CLI through the host, against the scripted model server on loopback.
//!
//! `OSTLER_TEST_CODEX` names the executable; otherwise it is searched in `PATH`. If it is missing, the suite prints
//! SKIPPED and passes, unless `OSTLER_REQUIRE_CLIS=1`.

use crate::support::{AgentFixture, CODEX, cases, end_of, of_type};
use serde_json::json;
use std::fs;

cases::suite!(crate::support::CODEX);

#[test]
fn hostile_repository_runs_nothing_unless_its_grant_trusts_it() {
    let Some(fixture) = AgentFixture::open(&CODEX) else { return };
    let work = fixture.host.work().canonicalize().unwrap();
    // Inside the folder, because a contained run can write only there.
    let proof = work.join("proof");
    // The user has trusted the folder in codex before.
    let own = fixture.own_folder().join("config.toml");
    let config = fs::read_to_string(&own).unwrap();
    fs::write(&own, format!("{config}[projects.\"{}\"]\ntrust_level = \"trusted\"\n", work.display())).unwrap();
    fs::create_dir(work.join(".codex")).unwrap();
    let server = format!("command = \"/bin/sh\"\nargs = [\"-c\", \"touch {}\"]\n", proof.display());
    fs::write(work.join(".codex/config.toml"), format!("[mcp_servers.helpful]\n{server}")).unwrap();
    for permissions in [json!({}), json!({ "sandboxMode": "read-only" }), json!({ "sandboxMode": "full-access" })] {
        let events = fixture.events_with("SAY explained", &json!({ "harness": { "permissions": permissions } }));
        assert_eq!(of_type(&events, "run.completed").len(), 1, "{events:#?}");
        assert!(!proof.exists(), "{permissions}: the server of the repository ran");
    }
    fixture.host.run(&["grants", "add", "--trust-settings", work.to_str().unwrap()]).ok();
    fixture.events(&["SAY explained"]);
    assert!(proof.exists(), "the server of a trusted folder is started");
}

#[test]
fn variables_that_load_code_or_choose_its_configuration_are_refused() {
    let Some(fixture) = AgentFixture::open(&CODEX) else { return };
    let names = ["NODE_OPTIONS", "PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "CODEX_HOME", "OPENAI_BASE_URL", "HOME"];
    cases::assert_variables_refused(&fixture, &names);
}

#[test]
fn trust_flag_is_refused_in_a_read_only_run() {
    let Some(fixture) = AgentFixture::open(&CODEX) else { return };
    let file = fixture.host.home().join("config.toml");
    let config = fs::read_to_string(&file).unwrap();
    fixture.host.stop();
    fixture.host.configure(&format!("{config}[policy]\nallow_advanced = true\n"));
    fixture.host.ensure_running();
    for trust in ["--no-trust-settings", "--trust-settings"] {
        fixture.host.run(&["grants", "add", trust, fixture.host.work().to_str().unwrap()]).ok();
        let payload = json!({
            "provider": "codex", "prompt": "SAY never", "cwd": fixture.host.work(), "optionalFlags": { "--trust": true },
            "harness": { "permissions": { "sandboxMode": "read-only" } }
        });
        let error = fixture.host.call("start_run", &payload).unwrap_err();
        assert!(error.text().contains("/optionalFlags/--trust"), "{trust}: {}", error.text());
    }
    assert!(fixture.server.seen().is_empty(), "codex was started");
    let own = fs::read_to_string(fixture.own_folder().join("config.toml")).unwrap();
    assert!(!own.contains("trust_level"), "{own}");
}

#[test]
fn retries_of_the_cli_are_bounded() {
    let Some(fixture) = AgentFixture::open(&CODEX) else { return };
    fixture.reconfigure("{ modelProvider = \"scripted\", requestMaxRetries = 1, streamMaxRetries = 0 }");
    let events = fixture.events(&["FAIL 500"]);
    assert_eq!(end_of(&events).unwrap()["payload"]["reason"], "transient");
    assert_eq!(fixture.server.count("FAIL 500"), 2);
}

#[test]
fn limits_that_codex_cannot_enforce_are_refused() {
    let Some(fixture) = AgentFixture::open(&CODEX) else { return };
    for limit in [json!({ "maxTurns": 3 }), json!({ "maxBudgetUsd": 0.5 })] {
        let payload = fixture.payload("SAY x", &json!({ "harness": { "limits": limit } }));
        let error = fixture.host.run(&["run", "--json", "--payload", payload.to_str().unwrap()]).code(4).error();
        assert_eq!(error["kind"], "UNENFORCEABLE", "{error}");
        assert!(error["pointer"].as_str().unwrap().starts_with("/harness/limits/"), "{error}");
    }
    assert!(fixture.server.seen().is_empty(), "codex was started");
}

#[test]
fn sandbox_mode_decides_whether_files_are_written() {
    let Some(fixture) = AgentFixture::open(&CODEX) else { return };
    let made = fixture.host.work().join("made");
    for (mode, may) in [("read-only", false), ("workspace-write", true)] {
        let events =
            fixture.events_with("RUN touch made", &json!({ "harness": { "permissions": { "sandboxMode": mode } } }));
        assert_eq!(of_type(&events, "run.completed").len(), 1, "{events:#?}");
        assert_eq!(made.exists(), may, "{mode}: {events:#?}");
    }
}
