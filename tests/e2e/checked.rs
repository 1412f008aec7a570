//! The host runs exactly what it has checked: variables and commands of a request, interpreters, stored tokens, and the
//! settings in a repository.

use crate::support::{CallError, TestHost, answer, end_of, of_type};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// The sorted pointers of the findings that deny a request.
fn denied(error: &CallError) -> Vec<String> {
    assert_eq!(error.kind(), "POLICY_DENIED", "{}", error.text());
    let findings = error.data()["findings"].as_array().unwrap();
    let against = findings.iter().filter(|finding| finding["policy"] == "host" && finding["verdict"] == "deny");
    let mut pointers: Vec<String> =
        against.map(|finding| finding["pointer"].as_str().unwrap_or_default().to_owned()).collect();
    pointers.sort();
    pointers
}

fn with_variables(variables: &Value) -> Value {
    json!({ "harness": { "processEnv": variables } })
}

#[test]
fn all_variables_that_no_list_allows_are_refused_at_once() {
    let host = TestHost::granted("");
    let variables = json!({
        "NODE_OPTIONS": "--require=/tmp/x", "LD_LIBRARY_PATH": "/tmp", "PATH": "/tmp", "NOVEL": "1",
        "DEPLOY_TOKEN": "fine-and-not-a-secret", "LANG": "C"
    });
    let error = host.submit("SAY never", &with_variables(&variables)).unwrap_err();
    let names = ["LD_LIBRARY_PATH", "NODE_OPTIONS", "NOVEL", "PATH"];
    assert_eq!(denied(&error), names.map(|name| format!("/harness/processEnv/{name}")));
    for name in names {
        assert!(error.text().contains(name), "{name}: {}", error.text());
    }
    assert!(error.data()["hint"].as_str().unwrap().contains("allow_environment"), "{}", error.text());
    // The refusal is stored, like that of any policy.
    let sql = "SELECT count(*) FROM run_events WHERE run IS NULL AND type = 'run.policy_audit'
               AND payload LIKE '%\"verdict\":\"deny\"%' AND payload LIKE '%environment-allowed%'";
    let audits: u32 = crate::support::database(&host).query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(audits, 1);

    let fine = with_variables(&json!({ "DEPLOY_TOKEN": "a-b-c-d-e-f", "LANG": "C", "REHEARSAL_NOTE": "good day" }));
    let events = host.wait_for_end(&host.submit("ENV REHEARSAL_NOTE", &fine).unwrap());
    assert_eq!(answer(&events), "good day");
}

#[test]
fn only_exact_names_allow_variables_that_load_code() {
    let host = TestHost::granted("[policy]\nallow_environment = [\"NO*\", \"NODE_PATH\", \"LD_*\"]\n");
    let variables = json!({ "NOVEL": "1", "NODE_PATH": "/x" });
    host.wait_for_end(&host.submit("SAY fine", &with_variables(&variables)).unwrap());
    let variables = json!({ "NODE_OPTIONS": "x", "LD_PRELOAD": "x", "DEPLOY_TOKEN": "x" });
    let error = host.submit("SAY never", &with_variables(&variables)).unwrap_err();
    let names = ["DEPLOY_TOKEN", "LD_PRELOAD", "NODE_OPTIONS"];
    assert_eq!(denied(&error), names.map(|name| format!("/harness/processEnv/{name}")));

    // Settings cannot change that: the list is only in the file.
    for patch in [
        json!({ "policy": { "allowEnvironment": ["NODE_OPTIONS"] } }),
        json!({ "policy": { "mcpCommands": "always" } }),
        json!({ "policy": { "shellPreludes": "always" } }),
    ] {
        let error = host.call("update_settings", &json!({ "patch": patch })).unwrap_err();
        assert!(error.text().contains("config.toml"), "{}", error.text());
    }
}

#[test]
fn read_only_runs_refuse_uncontained_commands() {
    let harness = json!({
        "permissions": { "sandboxMode": "read-only" },
        "mcp": { "servers": [{ "name": "files", "command": "/bin/true" }, { "name": "web", "url": "http://127.0.0.1:9" }] },
        "shellPrelude": { "content": "x=1" }
    });
    let payload = json!({ "harness": harness });
    let uncontained = "[sandbox]\nbackends = []\n[policy]\nallow_unenforced = [\"/harness/permissions\"]\n";
    let host = TestHost::granted(uncontained);
    let error = host.submit("SAY never", &payload).unwrap_err();
    assert_eq!(denied(&error), ["/harness/mcp/servers/0/command", "/harness/shellPrelude"]);

    let always = "mcp_commands = \"always\"\nshell_preludes = \"always\"\n";
    let host = TestHost::granted(&format!("{uncontained}{always}"));
    let events = host.wait_for_end(&host.submit("SAY fine", &payload).unwrap());
    assert_eq!(answer(&events), "fine");

    let host = TestHost::granted("[policy]\nmcp_commands = \"never\"\nshell_preludes = \"never\"\n");
    let mut payload = payload;
    payload["harness"].as_object_mut().unwrap().remove("permissions");
    assert_eq!(denied(&host.submit("SAY never", &payload).unwrap_err()).len(), 2);
}

/// A program that is found if it is looked up by its name, and prints that it ran. Gives a `PATH` that begins with it.
fn impostor(host: &TestHost, name: &str) -> String {
    let folder = host.work().join("impostors");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    fs::write(&path, "#!/bin/sh\necho impostor\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:/usr/bin:/bin", folder.display())
}

#[test]
fn interpreter_of_an_env_script_is_found_on_the_operators_path() {
    let host = TestHost::new();
    let program = host.file("program", "#!/usr/bin/env bash\necho \"the true one, and $(tool)\"\n");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    // The operator allows runs to set PATH for the commands of the agent.
    host.configure(&format!(
        "[policy]\nallow_environment = [\"PATH\"]\n[providers.script]\nplugin = \"command\"\nexecutable = \"{}\"\n",
        program.display()
    ));
    host.run(&["grants", "add", host.work().to_str().unwrap()]).ok();
    impostor(&host, "tool");
    let path = impostor(&host, "bash");
    let payload = json!({ "provider": "script", "harness": { "processEnv": { "PATH": path } } });
    let events = host.wait_for_end(&host.submit("x", &payload).unwrap());
    assert_eq!(answer(&events).trim(), "the true one, and impostor", "{events:#?}");
}

/// Tokens in a file, which works everywhere.
const TOKENS: &str = "[tokens]\nstore = \"file\"\n[policy]\nallow_environment = [\"HTTPS_PROXY\", \"NOVEL\"]\n";

fn set_token(host: &TestHost) {
    host.run_with_input(&["token", "set", "rehearsal"], b"plain-looking-words-of-a-token\n").ok();
}

#[test]
fn variables_that_redirect_a_stored_token_are_refused() {
    let mut host = TestHost::granted(TOKENS);
    let moving = with_variables(&json!({ "HTTPS_PROXY": "http://127.0.0.1:9", "NOVEL": "1" }));
    // Without a stored token, the permission of the operator is enough.
    host.wait_for_end(&host.submit("SAY fine", &moving).unwrap());
    set_token(&host);
    let error = host.submit("SAY never", &moving).unwrap_err();
    assert_eq!(denied(&error), ["/harness/processEnv/HTTPS_PROXY"]);
    let hint = error.data()["hint"].as_str().unwrap();
    assert!(hint.contains("clear_provider_token(rehearsal)") && hint.contains("[providers.rehearsal]"), "{hint}");

    // A variable of the caller is refused only if its value differs from that of the host.
    host.run(&["run", "rehearsal", "SAY fine"]).ok();
    let elsewhere = host.root().join("elsewhere");
    host.set("XDG_STATE_HOME", &elsewhere);
    let refused = host.run(&["run", "--json", "rehearsal", "SAY never"]).code(4).error();
    assert_eq!(refused["pointer"], "/clientEnvironment/XDG_STATE_HOME", "{refused}");
    // A variable in the configuration of the provider wins over that of the caller.
    host.stop();
    host.configure(&format!("{TOKENS}[providers.rehearsal]\nenvironment = {{ XDG_STATE_HOME = \"/tmp\", HTTPS_PROXY = \"http://127.0.0.1:9\" }}\n"));
    host.run(&["run", "rehearsal", "SAY fine"]).ok();
    host.unset("XDG_STATE_HOME");
    host.run(&["token", "clear", "rehearsal"]).ok();
    host.wait_for_end(&host.submit("SAY fine", &moving).unwrap());
}

#[test]
fn token_stored_while_a_run_waits_is_not_redirected() {
    let host = TestHost::granted(TOKENS);
    host.ensure_running();
    let blocker = host.submit("RUN until [ -e go ]; do sleep 0.02; done", &json!({})).unwrap();
    let waiting = host.submit("SAY never", &with_variables(&json!({ "HTTPS_PROXY": "http://127.0.0.1:9" }))).unwrap();
    set_token(&host);
    host.file("go", "");
    host.wait_for_end(&blocker);
    let events = host.wait_for_end(&waiting);
    let end = &end_of(&events).unwrap()["payload"];
    assert_eq!(end["reason"], "policy_denied", "{end}");
    assert!(of_type(&events, "run.started").is_empty(), "{events:#?}");
    let audits = of_type(&events, "run.policy_audit");
    assert!(audits.iter().any(|audit| audit["payload"]["stage"] == "spawn" && audit["payload"]["verdict"] == "deny"));
}

#[test]
fn trust_in_settings_changes_only_on_request() {
    let host = TestHost::granted("");
    let work = host.work();
    let folder = work.to_str().unwrap();
    let trusts = |host: &TestHost| host.call("list_workspace_grants", &json!({})).unwrap()[0]["trustSettings"].clone();
    assert_eq!(trusts(&host), false);
    let done = host.run(&["grants", "add", "--trust-settings", folder]).ok();
    assert!(done.stdout.contains("settings are used"), "{}", done.stdout);
    assert_eq!(trusts(&host), true);
    assert!(host.run(&["grants", "list"]).ok().stdout.contains("trusted"));
    host.run(&["grants", "add", folder]).ok();
    assert_eq!(trusts(&host), true, "granting again does not remove the trust");
    host.run(&["grants", "add", "--no-trust-settings", folder]).ok();
    assert_eq!(trusts(&host), false);
    let granted = host.call("grant_workspace", &json!({ "path": work, "trustSettings": true })).unwrap();
    assert_eq!(granted["trustSettings"], true);
    let events = host.events_of(&["rehearsal", "SAY fine"]);
    let audits = of_type(&events, "run.policy_audit");
    assert!(audits.iter().all(|audit| audit["payload"]["trustSettings"] == true), "{audits:#?}");
    host.run(&["grants", "add", "--trust-settings", "--no-trust-settings", folder]).code(2);
}
