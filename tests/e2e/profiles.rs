//! Profiles, and reruns of earlier runs.

use crate::support::{TestHost, answer, check_run_events, of_type, tool_outputs};
use serde_json::{Value, json};
use std::fs;

fn secret() -> String {
    format!("{}{}", ["gh", "p_"].concat(), "K3wQ8zT1xV6bN9mR4cL7yJ2hF5dS0gPaUeIo")
}

#[track_caller]
fn rerun(host: &TestHost, run: &str, overrides: Value) -> Vec<Value> {
    let again = host.call("rerun", &json!({ "runId": run, "overrides": overrides })).unwrap();
    host.wait_for_end(again["runId"].as_str().unwrap())
}

fn pointers(problems: &Value) -> Vec<String> {
    let problems = problems["problems"].as_array().unwrap();
    let mut pointers: Vec<String> =
        problems.iter().map(|problem| problem["pointer"].as_str().unwrap().to_owned()).collect();
    pointers.sort();
    pointers
}

#[test]
fn run_with_a_profile_needs_no_provider() {
    let host = TestHost::granted("");
    host.run(&["profiles", "save", "careful", "--provider", "rehearsal", "--model", "mine"]).ok();
    host.run(&["profiles", "save", "whole", "--provider", "rehearsal", "SAY of the profile"]).ok();
    assert_eq!(host.run(&["run", "--profile", "careful", "SAY x"]).ok().stdout, "x\n");
    assert_eq!(host.run_with_input(&["run", "--profile", "careful", "-"], b"SAY x").ok().stdout, "x\n");
    host.file("t.md", "MODEL");
    assert_eq!(host.run(&["run", "--profile", "careful", "--file", "t.md"]).ok().stdout, "mine\n");
    assert_eq!(host.run(&["run", "--profile", "whole"]).ok().stdout, "of the profile\n");
    // A single argument that is the name of a provider is the provider, not the prompt.
    assert_eq!(host.run(&["run", "--profile", "whole", "rehearsal"]).ok().stdout, "of the profile\n");
    assert_eq!(host.run(&["run", "--profile", "careful", "rehearsal", "MODEL"]).ok().stdout, "mine\n");
    host.run(&["run", "--profile", "careful", "codex", "SAY x"]).code(2);
    host.run(&["run", "--profile", "nobody", "SAY x"]).code(5);
    host.run(&["run"]).code(2);
}

#[test]
fn profile_fills_fields_that_the_payload_omits() {
    let host =
        TestHost::granted("policy.allow_environment = [\"A\", \"B\"]\n[providers.other]\nplugin = \"rehearsal\"\n");
    let folder = host.work().join("of-the-profile");
    fs::create_dir(&folder).unwrap();
    let config = json!({
        "model": "of the profile", "cwd": folder, "timeoutSeconds": 77, "queuePriority": 3,
        "harness": { "systemPrompt": "be brief", "processEnv": { "A": "profile", "B": "profile" } }
    });
    host.file("careful.json", config.to_string());
    let save = ["profiles", "save", "careful", "--provider", "rehearsal", "--config", "careful.json", "--retries", "2"];
    host.run(&save).ok();
    let listed = host.run(&["profiles", "list"]).ok().stdout;
    assert!(listed.contains("careful") && listed.contains("systemPrompt"), "{listed}");
    let shown = host.run(&["profiles", "show", "careful", "--json"]).ok().json();
    assert_eq!((shown["config"]["maxRetries"].as_u64(), &shown["config"]["cwd"]), (Some(2), &json!(folder)));

    // The folder of the profile wins over the current one, and fields of the payload win over the profile.
    assert_eq!(host.run(&["run", "rehearsal", "--profile", "careful", "MODEL"]).ok().stdout, "of the profile\n");
    assert_eq!(host.run(&["run", "rehearsal", "--profile", "careful", "SYSTEM"]).ok().stdout, "be brief\n");
    let payload = json!({
        "prompt": "RUN echo $A $B; pwd", "profileId": shown["profileId"], "model": null,
        "harness": { "systemPrompt": null, "processEnv": { "A": "payload" } }
    });
    let run = host.call("start_run", &payload).unwrap()["runId"].as_str().unwrap().to_owned();
    let events = host.wait_for_end(&run);
    check_run_events(&events);
    let expected = format!("payload profile\n{}\n", folder.canonicalize().unwrap().display());
    assert!(tool_outputs(&events).contains(&expected), "{events:#?}");
    let record = host.record(&run);
    let stored = &record["payload"];
    assert_eq!((stored["provider"].as_str(), stored["model"].as_str()), (Some("rehearsal"), Some("of the profile")));
    assert_eq!((stored["timeoutSeconds"].as_u64(), record["queuePriority"].as_i64()), (Some(77), Some(3)));
    assert_eq!(stored["harness"]["systemPrompt"], "be brief");
    let audits = of_type(&events, "run.policy_audit");
    assert_eq!(audits.len(), 2);
    assert!(audits.iter().all(|audit| audit["payload"]["profile"] == "careful"), "{audits:#?}");

    // A profile of another provider is refused, and so is one that does not exist.
    let wrong = json!({ "provider": "other", "prompt": "x", "cwd": host.work(), "profileId": "careful" });
    let error = host.call("start_run", &wrong).unwrap_err();
    assert_eq!((error.kind(), error.data()["pointer"].as_str()), ("INVALID_PARAMS", Some("/profileId")));
    let done = host.run(&["run", "--json", "rehearsal", "--profile", "caerful", "x"]).code(5);
    assert_eq!(done.error()["pointer"], "/profileId");

    // `--replace` replaces the whole profile. Earlier runs keep their stored payload.
    host.run(&["profiles", "save", "careful", "--replace", "--model", "new"]).ok();
    assert_eq!(host.run(&["profiles", "show", "careful", "--json"]).ok().json()["config"], json!({ "model": "new" }));
    let again = rerun(&host, &run, json!({ "prompt": "MODEL" }));
    assert_eq!(answer(&again), "of the profile", "a rerun uses the stored payload, not the current profile");
    let named = rerun(&host, &run, json!({ "prompt": "MODEL", "model": null, "profileId": "careful" }));
    assert_eq!(answer(&named), "new", "a profile in the overrides is merged");
    host.run(&["profiles", "delete", "careful"]).ok();
    assert_eq!(answer(&rerun(&host, &run, json!({ "prompt": "SYSTEM" }))), "be brief");
    host.run(&["profiles", "delete", "careful"]).code(5);
}

#[test]
fn invalid_profiles_are_refused_with_all_problems() {
    let host = TestHost::granted("");
    host.ensure_running();
    let save = |more: Value| {
        let mut params = json!({ "name": "p", "provider": "rehearsal", "config": {} });
        for (name, value) in more.as_object().unwrap() {
            params[name] = value.clone();
        }
        host.call("save_profile", &params)
    };
    let kept = save(json!({})).unwrap();
    let token = secret();
    let config = json!({
        "provider": "rehearsal", "profileId": "x", "timeoutSeconds": 1, "modl": "m", "prompt": " ",
        "harness": { "limits": { "maxTurn": 3 } }
    });
    let error = save(json!({ "name": "q", "config": config })).unwrap_err();
    assert_eq!(error.kind(), "INVALID_PARAMS");
    assert_eq!(
        pointers(error.data()),
        [
            "/config/harness/limits/maxTurn",
            "/config/modl",
            "/config/profileId",
            "/config/prompt",
            "/config/provider",
            "/config/timeoutSeconds"
        ]
    );
    assert!(error.text().contains("maxTurns"), "the nearest name is suggested: {}", error.text());

    let config = json!({
        "harness": {
            "appendSystemPrompt": format!("use {token}"),
            "processEnv": { "DEPLOY_TOKEN": "not-like-any-pattern", "PLAIN": "x" },
            "mcp": { "servers": [{ "name": "s", "url": "http://localhost:1/", "headers": { "Authorization": "Bearer abcdefgh-1234" } }] }
        }
    });
    let error = save(json!({ "name": "q", "config": config })).unwrap_err();
    assert_eq!(error.kind(), "INVALID_PARAMS");
    assert_eq!(
        pointers(error.data()),
        [
            "/config/harness/appendSystemPrompt",
            "/config/harness/mcp/servers/0/headers/Authorization",
            "/config/harness/processEnv/DEPLOY_TOKEN"
        ]
    );
    assert!(error.data()["hint"].as_str().unwrap().contains("save_provider_token"), "{}", error.text());
    for (more, kind) in [
        (json!({ "name": "" }), "INVALID_PARAMS"),
        (json!({ "name": " p" }), "INVALID_PARAMS"),
        (json!({ "name": "a\nb" }), "INVALID_PARAMS"),
        (json!({ "name": "x".repeat(65) }), "INVALID_PARAMS"),
        (json!({ "name": "01999999-8888-7777-8666-123456789abc" }), "INVALID_PARAMS"),
        (json!({ "name": token }), "INVALID_PARAMS"),
        (json!({ "name": "q", "provider": "nobody" }), "NOT_FOUND"),
        (json!({ "name": "q", "config": null }), "INVALID_PARAMS"),
        (json!({ "id": "01999999-8888-7777-8666-123456789abc" }), "NOT_FOUND"),
        (json!({}), "CONFLICT"),
    ] {
        let error = save(more.clone()).unwrap_err();
        assert_eq!(error.kind(), kind, "{more}: {}", error.text());
        assert!(!error.text().contains(&token), "{}", error.text());
    }
    let renamed = save(json!({ "id": kept["profileId"], "name": "renamed" })).unwrap();
    assert_eq!((&renamed["profileId"], &renamed["createdAt"]), (&kept["profileId"], &kept["createdAt"]));
    let listed = host.call("list_profiles", &json!({})).unwrap();
    assert_eq!(listed, json!([renamed]), "another profile was saved");
    assert_eq!(host.call("list_profiles", &json!({ "provider": "codex" })).unwrap(), json!([]));

    // A problem that shows only when the profile is used names the profile.
    let config = json!({ "harness": { "mcp": { "servers": [{ "name": "s" }] } } });
    save(json!({ "name": "q", "config": config })).unwrap();
    let payload = json!({ "prompt": "x", "cwd": host.work(), "profileId": "q" });
    let error = host.call("start_run", &payload).unwrap_err();
    assert!(error.data()["hint"].as_str().unwrap().contains("the profile \"q\""), "{}", error.text());
    crate::support::SecretProbe::new(&[token]).assert_not_below(host.root(), &[]);
}

#[test]
fn rerun_after_a_restart_applies_overrides() {
    let host = TestHost::granted("");
    let payload = json!({
        "provider": "rehearsal", "prompt": "MODEL", "model": "first", "cwd": host.work(), "maxRetries": 1,
        "harness": { "systemPrompt": "be brief", "limits": { "maxTurns": 7, "timeoutMs": 60_000 } }
    });
    let run = host.call("start_run", &payload).unwrap()["runId"].as_str().unwrap().to_owned();
    assert_eq!(answer(&host.wait_for_end(&run)), "first");
    host.stop();
    assert_eq!(host.run(&["rerun", &run[run.len() - 8..]]).ok().stdout, "first\n");
    assert_eq!(host.run(&["rerun", &run, "--model", "second"]).ok().stdout, "second\n");
    assert_eq!(host.run(&["rerun", &run, "SYSTEM"]).ok().stdout, "be brief\n");
    let args = ["rerun", &run, "--detach", "--clear", "harness.limits.maxTurns", "--clear", "harness.systemPrompt"];
    let again = host.run(&args).ok().stdout.trim().to_owned();
    host.wait_for_end(&again);
    let stored = host.record(&again)["payload"].clone();
    assert_eq!(stored["harness"], json!({ "limits": { "timeoutMs": 60_000 } }), "{stored}");
    assert_eq!((stored["maxRetries"].as_u64(), stored["model"].as_str()), (Some(1), Some("first")));

    for (params, expected) in [
        (json!({}), vec!["/runId"]),
        (json!({ "runId": run, "overrides": 7, "model": "x" }), vec!["/model", "/overrides"]),
        (
            json!({ "runId": run, "overrides": { "timeoutSeconds": 1, "modl": "x" } }),
            vec!["/overrides/modl", "/overrides/timeoutSeconds"],
        ),
        (json!({ "runId": run, "overrides": { "prompt": null } }), vec!["/overrides/prompt"]),
    ] {
        let error = host.call("rerun", &params).unwrap_err();
        assert_eq!(
            (error.kind(), pointers(error.data())),
            ("INVALID_PARAMS", expected.iter().map(|p| (*p).to_owned()).collect()),
            "{params}: {}",
            error.text()
        );
    }
    let error = host.call("rerun", &json!({ "runId": "01999999-8888-7777-8666-123456789abc" })).unwrap_err();
    assert_eq!(error.kind(), "NOT_FOUND");
    host.run(&["rerun", "zz"]).code(2);
}

#[test]
fn rerun_of_an_ended_run_requires_its_secrets_again() {
    let host = TestHost::granted("policy.allow_environment = [\"*_TOKEN\", \"PLAIN\"]\n");
    let token = secret();
    let prompt = "RUN printf %s \"$DEPLOY_TOKEN\" | sha256sum; until [ -e go ]; do sleep 0.02; done";
    let payload = json!({
        "provider": "rehearsal", "prompt": prompt, "cwd": host.work(),
        "harness": { "processEnv": { "DEPLOY_TOKEN": token, "PLAIN": "x" } }
    });
    host.ensure_running();
    let first = host.call("start_run", &payload).unwrap()["runId"].as_str().unwrap().to_owned();
    // Until the run ends, its secrets are still available.
    let second = host.call("rerun", &json!({ "runId": first })).unwrap()["runId"].as_str().unwrap().to_owned();
    host.file("go", "");
    for run in [&first, &second] {
        assert!(
            tool_outputs(&host.wait_for_end(run)).contains(&crate::support::sha256(&token)),
            "the original value was not used"
        );
    }

    let error = host.call("rerun", &json!({ "runId": first })).unwrap_err();
    assert_eq!(error.kind(), "CONFLICT", "{}", error.text());
    assert_eq!(pointers(error.data()), ["/overrides/harness/processEnv/DEPLOY_TOKEN"]);
    let done = host.run(&["rerun", "--json", &first]).code(7);
    assert!(done.stderr.contains("DEPLOY_TOKEN"), "{}", done.stderr);

    let given = |value: Value| json!({ "harness": { "processEnv": { "DEPLOY_TOKEN": value } } });
    let again = rerun(&host, &first, given(json!("another-value-of-it")));
    assert!(tool_outputs(&again).contains(&crate::support::sha256("another-value-of-it")));
    let without = rerun(&host, &first, given(Value::Null));
    assert!(tool_outputs(&without).contains(&crate::support::sha256("")), "null removes the variable");
    crate::support::SecretProbe::new(&[token, "another-value-of-it".to_owned()]).assert_not_below(host.root(), &[]);
}

#[test]
fn rerun_of_a_message_becomes_the_next_message() {
    let host = TestHost::granted("");
    let id = host.run(&["chat", "new", "rehearsal"]).ok().stdout.trim().to_owned();
    assert_eq!(host.run(&["chat", "send", &id, "TURNS"]).ok().stdout, "1\n");
    let first = host.run(&["chat", "show", &id, "--json"]).ok().json()["runs"][0]["runId"].as_str().unwrap().to_owned();
    host.stop();
    assert_eq!(host.run(&["rerun", &first]).ok().stdout, "2\n");
    let found = host.call("get_conversation", &json!({ "conversationId": id })).unwrap();
    assert_eq!(found["totalRuns"], 2);
    assert_eq!(found["runs"][1]["conversationId"], *id);
    let events = host.stored_events(&format!("conversationId={id}&types=conversation.message_sent"));
    assert_eq!(events.len(), 2);
    let error = host.call("rerun", &json!({ "runId": first, "overrides": { "provider": "codex" } })).unwrap_err();
    assert_eq!(
        (error.kind(), error.data()["pointer"].as_str()),
        ("INVALID_PARAMS", Some("/overrides/provider")),
        "{}",
        error.text()
    );
    host.run(&["chat", "archive", &id]).ok();
    host.run(&["rerun", &first]).code(7);
}

#[test]
fn options_of_the_command_line_reach_the_payload() {
    let host = TestHost::granted("");
    host.file("mcp.json", r#"[{"name": "notes", "command": "true"}]"#);
    let run = host.detach(&[
        "rehearsal",
        "--tool",
        "shell",
        "--auto-approve",
        "--mcp",
        "mcp.json",
        "--append-system-prompt",
        "be brief",
        "SAY with options",
    ]);
    host.wait_for_end(&run);
    let harness = host.record(&run)["payload"]["harness"].clone();
    assert_eq!(harness["tools"], json!(["shell"]));
    assert_eq!(harness["permissions"]["autoApprove"], true);
    assert_eq!(harness["mcp"]["servers"][0]["name"], "notes");
    assert_eq!(harness["appendSystemPrompt"], "be brief");
    let refused = host.run(&["run", "--json", "rehearsal", "--tool", "hammer", "SAY x"]).code(2).error();
    assert!(refused.to_string().contains("/harness/tools/0"), "{refused}");
    let missing = host.run(&["run", "rehearsal", "--mcp", "none.json", "SAY x"]).code(74);
    assert!(missing.stderr.contains("none.json"), "{}", missing.stderr);
}
