//! Plugins that are new, missing, damaged or dishonest, in the plugin folder of a real host: nothing of them runs unseen,
//! and what they were to watch over is not let through.

use std::fs;

use crate::support::guests::hostile::{self, Fault, ProviderStage, RedactorStage};
use crate::support::guests::{Guest, TRAP};
use crate::support::{TestHost, until};
use serde_json::{Value, json};

const FOLDER: &str = "[plugins]\ntrust = \"folder\"\n";

fn bed(config: &str, plugins: &[(&str, Vec<u8>)]) -> TestHost {
    let bed = TestHost::with_config(config);
    fs::create_dir(bed.home().join("plugins")).unwrap();
    for (name, component) in plugins {
        put(&bed, name, component);
    }
    bed.run(&["grants", "add", bed.work().to_str().unwrap()]).ok();
    bed
}

/// Puts a file into the plugin folder, as a whole.
fn put(bed: &TestHost, name: &str, bytes: &[u8]) {
    let draft = bed.root().join("draft");
    fs::write(&draft, bytes).unwrap();
    fs::rename(&draft, bed.home().join(format!("plugins/{name}.wasm"))).unwrap();
}

#[track_caller]
fn listed(bed: &TestHost, name: &str) -> Value {
    let list = bed.run(&["plugin", "list", "--json"]).ok().json();
    let found = list["plugins"].as_array().unwrap().iter().find(|plugin| plugin["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is not listed: {list}")).clone()
}

fn problems(bed: &TestHost) -> String {
    bed.run(&["status", "--json"]).ok().json()["problems"].to_string()
}

fn start(bed: &TestHost, provider: &str, harness: Value) -> Result<Value, crate::support::CallError> {
    let payload = json!({"provider": provider, "prompt": "hello", "cwd": bed.work(), "harness": harness});
    bed.call("start_run", &payload)
}

#[test]
fn options_that_a_plugin_does_not_claim_are_reported_or_refused() {
    // It claims no feature and drops nothing, and the host, which could hold some of them, may not.
    let bed = bed(
        &format!("{FOLDER}[sandbox]\nbackends = []\n"),
        &[("mini", hostile::provider("mini", ProviderStage::Begin, Fault::Trap))],
    );
    bed.file("script", "echo fine");
    bed.run(&["run", "mini", "hello"]).ok();
    for (harness, pointer) in [
        (json!({"permissions": {"sandboxMode": "read-only"}}), "/harness/permissions/sandboxMode"),
        (json!({"permissions": {"networkAccess": false}}), "/harness/permissions/networkAccess"),
        (json!({"permissions": {"autoApprove": false}}), "/harness/permissions/autoApprove"),
        (json!({"permissions": {"approvalPolicy": "untrusted"}}), "/harness/permissions/approvalPolicy"),
        (json!({"tools": []}), "/harness/tools"),
        (json!({"limits": {"maxTurns": 3}}), "/harness/limits/maxTurns"),
        (json!({"limits": {"maxBudgetUsd": 1.0}}), "/harness/limits/maxBudgetUsd"),
    ] {
        let error = start(&bed, "mini", harness).unwrap_err();
        assert_eq!(error.kind(), "UNENFORCEABLE", "{pointer}: {}", error.text());
        assert!(error.text().contains(pointer), "{}", error.text());
    }
    // A run without what it is about is no run.
    let error = start(&bed, "mini", json!({"pipedContent": "a log"})).unwrap_err();
    assert_eq!((error.kind(), &error.data()["pointer"]), ("INVALID_PARAMS", &json!("/harness/pipedContent")));
    let piped = bed.run_with_input(&["run", "mini", "hello"], b"a log").code(2);
    assert!(piped.stderr.contains("the agent would not get what was piped"), "{}", piped.stderr);
    let run = start(&bed, "mini", json!({"systemPrompt": "be brief", "resumeSessionId": "x"})).unwrap();
    let events = bed.wait_for_end(run["runId"].as_str().unwrap());
    let warned: Vec<&Value> = crate::support::of_type(&events, "run.compatibility_warning")
        .into_iter()
        .map(|event| &event["payload"]["pointer"])
        .collect();
    // The last one: of the mode that every run has, which nothing can hold here.
    let expected = ["/harness/resumeSessionId", "/harness/systemPrompt", "/harness/permissions/sandboxMode"];
    assert_eq!(warned, expected);
}

#[test]
fn runs_are_refused_while_a_named_redactor_cannot_be_used() {
    let section = "[plugins.redactor.evil]\n";
    let redactor = || hostile::redactor("evil", RedactorStage::Verify, Fault::Trap);
    let bed = bed(section, &[("evil", redactor())]);
    bed.run(&["run", "rehearsal", "SAY hello"]).ok();
    // Missing.
    fs::remove_file(bed.home().join("plugins/evil.wasm")).unwrap();
    for _ in 0..2 {
        until("the change", crate::support::PATIENCE, || problems(&bed).contains("redactor evil").then_some(()));
        let refused = bed.run(&["run", "--json", "rehearsal", "SAY hello"]).code(70).error();
        assert_eq!(refused["kind"], "PLUGIN_FAILED", "{refused}");
        assert!(refused["message"].as_str().unwrap().contains("redactor evil"), "{refused}");
        bed.run_with_input(&["redact"], b"x").code(70);
        bed.stop();
        bed.run(&["runs"]).ok();
    }
    bed.stop();
    // Damaged when the host starts.
    put(&bed, "evil", b"damaged");
    let refused = bed.run(&["run", "--json", "rehearsal", "SAY hello"]).code(70).error();
    assert_eq!(refused["kind"], "PLUGIN_FAILED", "{refused}");
    // Nothing else of the configuration waits for it.
    bed.configure(&format!("{section}[scheduler]\nglobal = 7\n"));
    bed.run(&["config", "reload"]);
    let limit = bed.call("get_status", &json!({})).unwrap()["globalLimit"].clone();
    assert_eq!(limit, 7);
    put(&bed, "evil", &redactor());
    bed.run(&["config", "reload"]).ok();
    bed.run(&["run", "rehearsal", "SAY hello"]).ok();
}

#[test]
fn redactor_that_was_in_use_is_missed_when_its_file_is_damaged() {
    let bed = bed("", &[("evil", hostile::redactor("evil", RedactorStage::Verify, Fault::Trap))]);
    bed.run(&["run", "rehearsal", "SAY hello"]).ok();
    bed.stop();
    put(&bed, "evil", b"damaged");
    let refused = bed.run(&["run", "--json", "rehearsal", "SAY hello"]).code(70).error();
    assert_eq!(refused["kind"], "PLUGIN_FAILED", "{refused}");
    // Who takes it away wants it so.
    fs::remove_file(bed.home().join("plugins/evil.wasm")).unwrap();
    bed.run(&["config", "reload"]).ok();
    bed.run(&["run", "rehearsal", "SAY hello"]).ok();
}

#[test]
fn settings_that_were_corrected_take_effect_after_a_scan_had_failed() {
    let section = |word: &str| format!("[plugins.redactor.evil.settings]\nat = \"{word}\"\n");
    let bed = bed(&section("first"), &[("evil", hostile::redactor("evil", RedactorStage::Scan, Fault::Trap))]);
    for _ in 0..3 {
        bed.run_with_input(&["run", "rehearsal", "-"], format!("SAY {}", hostile::WORD).as_bytes()).ok();
    }
    assert_eq!(listed(&bed, "evil")["state"], "set-aside");
    bed.configure(&format!("{}[scheduler]\nglobal = 6\n", section("second")));
    until("the change", crate::support::PATIENCE, || {
        (bed.call("get_status", &json!({})).unwrap()["globalLimit"] == 6).then_some(())
    });
    assert_eq!(listed(&bed, "evil")["state"], "ready");
    assert_eq!(bed.run(&["run", "rehearsal", "SAY hello"]).ok().stdout.trim(), "hello");
}

#[test]
fn disabled_redactor_holds_up_no_change_of_the_configuration() {
    let section = "[plugins.redactor.evil.settings]\nat = \"first\"\n";
    for stage in [RedactorStage::Verify, RedactorStage::Scan] {
        let redactor = || hostile::redactor("evil", stage, Fault::Trap);
        let bed = bed(section, &[("evil", redactor())]);
        let prompt = format!("SAY {} hostile-z9y8x7w6v5u4", hostile::WORD);
        until("the plugin is disabled", crate::support::PATIENCE, || {
            bed.run_with_input(&["run", "rehearsal", "-"], prompt.as_bytes()).ok();
            (listed(&bed, "evil")["state"] == "set-aside").then_some(())
        });
        // Whatever is changed is in force without a word from anybody: another key, the section itself, and its return.
        for (limit, more) in [(6, section), (7, ""), (8, section)] {
            bed.configure(&format!("{more}[scheduler]\nglobal = {limit}\n"));
            until(&format!("{stage:?}: the change to {limit}"), crate::support::PATIENCE, || {
                (bed.call("get_status", &json!({})).unwrap()["globalLimit"] == limit).then_some(())
            });
        }
        // It is named, and has failed too often with these settings.
        assert!(problems(&bed).contains("evil"), "{}", problems(&bed));
        let refused = bed.run(&["run", "--json", "rehearsal", "SAY hello"]).code(70).error();
        assert!(refused["message"].as_str().unwrap().contains("ostler config reload"), "{refused}");
        // On demand it is tried again.
        bed.run(&["config", "reload"]).ok();
        assert_eq!(listed(&bed, "evil")["state"], "ready");
        assert_eq!(bed.run(&["run", "rehearsal", "SAY hello"]).ok().stdout.trim(), "hello", "{stage:?}");
    }
}

#[test]
fn policy_that_cannot_be_configured_denies_at_once_and_after_a_start() {
    let bed = bed("", &[]);
    bed.run(&["run", "rehearsal", "SAY hello"]).ok();
    put(&bed, "broken", &Guest { name: "broken", configure: TRAP, ..Guest::default() }.policy());
    for _ in 0..2 {
        until("the change", crate::support::PATIENCE, || problems(&bed).contains("everything is denied").then_some(()));
        let denied = bed.run(&["run", "--json", "rehearsal", "SAY hello"]).code(4).error();
        assert_eq!(denied["kind"], "POLICY_DENIED", "{denied}");
        assert!(denied["message"].as_str().unwrap().contains("policy broken"), "{denied}");
        bed.stop();
        bed.run(&["runs"]).ok();
    }
    fs::remove_file(bed.home().join("plugins/broken.wasm")).unwrap();
    bed.run(&["config", "reload"]).ok();
    bed.run(&["run", "rehearsal", "SAY hello"]).ok();
}

#[test]
fn policy_file_that_is_damaged_when_the_host_starts_denies() {
    let bed = bed("", &[("strict", Guest { name: "strict", ..Guest::default() }.policy())]);
    bed.run(&["run", "rehearsal", "SAY hello"]).ok();
    bed.stop();
    put(&bed, "strict", b"damaged");
    let denied = bed.run(&["run", "--json", "rehearsal", "SAY hello"]).code(4).error();
    assert!(denied["message"].as_str().unwrap().contains("policy strict"), "{denied}");
}

#[test]
fn file_called_as_a_bundled_policy_replaces_it_only_where_the_configuration_says_so() {
    // It allows everything.
    let lax = Guest { name: "guardrails", ..Guest::default() }.policy();
    let bed = bed("", &[("guardrails", lax)]);
    let elsewhere = bed.root().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let run = |bed: &TestHost| bed.run_in(&elsewhere, &["run", "--json", "rehearsal", "SAY hello"]);
    assert!(problems(&bed).contains("replace = true"), "{}", problems(&bed));
    let denied = run(&bed).code(4).error();
    assert!(denied.to_string().contains("guardrails"), "{denied}");
    // Even where it does replace it, the host holds to the grants.
    bed.configure("[plugins.policy.guardrails]\nreplace = true\n");
    until("the change", crate::support::PATIENCE, || {
        problems(&bed).contains("replaces the bundled policy").then_some(())
    });
    let denied = run(&bed).code(4).error();
    assert_eq!(denied["findings"][0]["policy"], "host", "{denied}");
    bed.run(&["run", "rehearsal", "SAY hello"]).ok();
}

#[test]
fn nothing_of_a_new_provider_runs_before_its_digest_is_approved() {
    let bed = bed("", &[]);
    bed.run(&["run", "rehearsal", "SAY hello"]).ok();
    let proof = bed.root().join("proof");
    let script = format!("date >> {}", proof.display());
    let sneaky = || hostile::prober("sneaky", "sh", &["-c", &script]);
    put(&bed, "sneaky", &sneaky());
    until("the plugin", crate::support::PATIENCE, || {
        problems(&bed).contains("ostler plugin trust sneaky").then_some(())
    });
    assert_eq!(listed(&bed, "sneaky")["state"], "waiting");
    assert!(start(&bed, "sneaky", json!({})).is_err());
    bed.run(&["capabilities", "--refresh"]).ok();
    bed.stop();
    bed.run(&["runs"]).ok();
    assert!(!proof.exists(), "it ran a probe");

    let shown = bed.run(&["plugin", "trust", "sneaky", "--dry-run"]).ok().stdout;
    for part in ["runs       sh", "-c", &script, "not approved"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let error = bed.call("trust_plugin", &json!({"name": "sneaky", "digest": "00"})).unwrap_err();
    assert_eq!(error.kind(), "CONFLICT", "{}", error.text());
    let shown = bed.run(&["plugin", "trust", "sneaky"]).ok().stdout;
    assert!(shown.contains("\napproved"), "{shown}");
    // An interpreter runs anything: that takes a word of the configuration.
    let plugin = listed(&bed, "sneaky");
    assert_eq!(plugin["state"], "failed", "{plugin}");
    assert!(plugin["reason"].as_str().unwrap().contains("executable = \"sh\""), "{plugin}");
    assert!(!proof.exists(), "it ran a probe");
    bed.configure("[providers.sneaky]\nexecutable = \"sh\"\n");
    until("the probe", crate::support::PATIENCE, || proof.exists().then_some(()));
    assert_eq!(bed.run(&["plugin", "trust", "sneaky"]).code(5).stdout, "");
    // The approval outlasts the host; another component waits again, and the one before goes on.
    bed.stop();
    bed.run(&["runs"]).ok();
    assert_eq!(listed(&bed, "sneaky")["state"], "ready");
    put(&bed, "sneaky", &hostile::prober("sneaky", "sh", &["-c", "exit 3"]));
    until("the successor", crate::support::PATIENCE, || {
        listed(&bed, "sneaky")["displaced"].as_str().is_some_and(|why| why.contains("plugin trust")).then_some(())
    });
    bed.stop();
    assert_eq!(listed(&bed, "sneaky")["state"], "waiting");
}
