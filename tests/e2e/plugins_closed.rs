//! Plugins that are new, missing, damaged or dishonest, in the plugin folder of a real host: nothing runs without
//! approval, and while a policy or redactor is missing, runs are refused.

use std::fs;

use crate::support::guests::hostile::{self, Fault, ProviderStage, RedactorStage};
use crate::support::guests::{Guest, TRAP};
use crate::support::{TestHost, wait_until};
use serde_json::{Value, json};

const FOLDER: &str = "[plugins]\ntrust = \"folder\"\n";

fn test_host(config: &str, plugins: &[(&str, Vec<u8>)]) -> TestHost {
    let host = TestHost::with_config(config);
    fs::create_dir(host.home().join("plugins")).unwrap();
    for (name, component) in plugins {
        put(&host, name, component);
    }
    host.run(&["grants", "add", host.work().to_str().unwrap()]).ok();
    host
}

/// Puts a file into the plugin folder, as a whole.
fn put(host: &TestHost, name: &str, bytes: &[u8]) {
    let draft = host.root().join("draft");
    fs::write(&draft, bytes).unwrap();
    fs::rename(&draft, host.home().join(format!("plugins/{name}.wasm"))).unwrap();
}

#[track_caller]
fn listed(host: &TestHost, name: &str) -> Value {
    let list = host.run(&["plugin", "list", "--json"]).ok().json();
    let found = list["plugins"].as_array().unwrap().iter().find(|plugin| plugin["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is not listed: {list}")).clone()
}

fn problems(host: &TestHost) -> String {
    host.run(&["status", "--json"]).ok().json()["problems"].to_string()
}

fn start(host: &TestHost, provider: &str, harness: Value) -> Result<Value, crate::support::CallError> {
    let payload = json!({"provider": provider, "prompt": "hello", "cwd": host.work(), "harness": harness});
    host.call("start_run", &payload)
}

#[test]
fn options_that_a_plugin_does_not_claim_are_reported_or_refused() {
    // The plugin claims no feature and drops no option. The host has no back end that could enforce some of them.
    let host = test_host(
        &format!("{FOLDER}[sandbox]\nbackends = []\n"),
        &[("mini", hostile::provider("mini", ProviderStage::Begin, Fault::Trap))],
    );
    host.file("script", "echo fine");
    host.run(&["run", "mini", "hello"]).ok();
    for (harness, pointer) in [
        (json!({"permissions": {"sandboxMode": "read-only"}}), "/harness/permissions/sandboxMode"),
        (json!({"permissions": {"networkAccess": false}}), "/harness/permissions/networkAccess"),
        (json!({"permissions": {"autoApprove": false}}), "/harness/permissions/autoApprove"),
        (json!({"permissions": {"approvalPolicy": "untrusted"}}), "/harness/permissions/approvalPolicy"),
        (json!({"tools": []}), "/harness/tools"),
        (json!({"limits": {"maxTurns": 3}}), "/harness/limits/maxTurns"),
        (json!({"limits": {"maxBudgetUsd": 1.0}}), "/harness/limits/maxBudgetUsd"),
    ] {
        let error = start(&host, "mini", harness).unwrap_err();
        assert_eq!(error.kind(), "UNENFORCEABLE", "{pointer}: {}", error.text());
        assert!(error.text().contains(pointer), "{}", error.text());
    }
    // Piped content is part of the request: a run without it is refused.
    let error = start(&host, "mini", json!({"pipedContent": "a log"})).unwrap_err();
    assert_eq!((error.kind(), &error.data()["pointer"]), ("INVALID_PARAMS", &json!("/harness/pipedContent")));
    let piped = host.run_with_input(&["run", "mini", "hello"], b"a log").code(2);
    assert!(piped.stderr.contains("the agent would not get what was piped"), "{}", piped.stderr);
    let run = start(&host, "mini", json!({"systemPrompt": "be brief", "resumeSessionId": "x"})).unwrap();
    let events = host.wait_for_end(run["runId"].as_str().unwrap());
    let warned: Vec<&Value> = crate::support::of_type(&events, "run.compatibility_warning")
        .into_iter()
        .map(|event| &event["payload"]["pointer"])
        .collect();
    // The last warning is about the default mode, which cannot be enforced here.
    let expected = ["/harness/resumeSessionId", "/harness/systemPrompt", "/harness/permissions/sandboxMode"];
    assert_eq!(warned, expected);
}

#[test]
fn runs_are_refused_while_a_named_redactor_cannot_be_used() {
    let section = "[plugins.redactor.evil]\n";
    let redactor = || hostile::redactor("evil", RedactorStage::Verify, Fault::Trap);
    let host = test_host(section, &[("evil", redactor())]);
    host.run(&["run", "rehearsal", "SAY hello"]).ok();
    // The file is missing.
    fs::remove_file(host.home().join("plugins/evil.wasm")).unwrap();
    for _ in 0..2 {
        wait_until("the change", crate::support::TIMEOUT, || problems(&host).contains("redactor evil").then_some(()));
        let refused = host.run(&["run", "--json", "rehearsal", "SAY hello"]).code(70).error();
        assert_eq!(refused["kind"], "PLUGIN_FAILED", "{refused}");
        assert!(refused["message"].as_str().unwrap().contains("redactor evil"), "{refused}");
        host.run_with_input(&["redact"], b"x").code(70);
        host.stop();
        host.run(&["runs"]).ok();
    }
    host.stop();
    // The file is damaged when the host starts.
    put(&host, "evil", b"damaged");
    let refused = host.run(&["run", "--json", "rehearsal", "SAY hello"]).code(70).error();
    assert_eq!(refused["kind"], "PLUGIN_FAILED", "{refused}");
    // Other configuration changes are still applied.
    host.configure(&format!("{section}[scheduler]\nglobal = 7\n"));
    host.run(&["config", "reload"]);
    let limit = host.call("get_status", &json!({})).unwrap()["globalLimit"].clone();
    assert_eq!(limit, 7);
    put(&host, "evil", &redactor());
    host.run(&["config", "reload"]).ok();
    host.run(&["run", "rehearsal", "SAY hello"]).ok();
}

#[test]
fn damaged_redactor_that_was_in_use_blocks_runs() {
    let host = test_host("", &[("evil", hostile::redactor("evil", RedactorStage::Verify, Fault::Trap))]);
    host.run(&["run", "rehearsal", "SAY hello"]).ok();
    host.stop();
    put(&host, "evil", b"damaged");
    let refused = host.run(&["run", "--json", "rehearsal", "SAY hello"]).code(70).error();
    assert_eq!(refused["kind"], "PLUGIN_FAILED", "{refused}");
    // Removing the file removes the redactor on purpose.
    fs::remove_file(host.home().join("plugins/evil.wasm")).unwrap();
    host.run(&["config", "reload"]).ok();
    host.run(&["run", "rehearsal", "SAY hello"]).ok();
}

#[test]
fn corrected_settings_enable_a_disabled_redactor() {
    let section = |word: &str| format!("[plugins.redactor.evil.settings]\nat = \"{word}\"\n");
    let host = test_host(&section("first"), &[("evil", hostile::redactor("evil", RedactorStage::Scan, Fault::Trap))]);
    for _ in 0..3 {
        host.run_with_input(&["run", "rehearsal", "-"], format!("SAY {}", hostile::WORD).as_bytes()).ok();
    }
    assert_eq!(listed(&host, "evil")["state"], "set-aside");
    host.configure(&format!("{}[scheduler]\nglobal = 6\n", section("second")));
    wait_until("the change", crate::support::TIMEOUT, || {
        (host.call("get_status", &json!({})).unwrap()["globalLimit"] == 6).then_some(())
    });
    assert_eq!(listed(&host, "evil")["state"], "ready");
    assert_eq!(host.run(&["run", "rehearsal", "SAY hello"]).ok().stdout.trim(), "hello");
}

#[test]
fn disabled_redactor_does_not_block_configuration_changes() {
    let section = "[plugins.redactor.evil.settings]\nat = \"first\"\n";
    for stage in [RedactorStage::Verify, RedactorStage::Scan] {
        let redactor = || hostile::redactor("evil", stage, Fault::Trap);
        let host = test_host(section, &[("evil", redactor())]);
        let prompt = format!("SAY {} hostile-z9y8x7w6v5u4", hostile::WORD);
        wait_until("the plugin is disabled", crate::support::TIMEOUT, || {
            host.run_with_input(&["run", "rehearsal", "-"], prompt.as_bytes()).ok();
            (listed(&host, "evil")["state"] == "set-aside").then_some(())
        });
        // Changes are applied without a reload command: another key, the removal of the section, and its return.
        for (limit, more) in [(6, section), (7, ""), (8, section)] {
            host.configure(&format!("{more}[scheduler]\nglobal = {limit}\n"));
            wait_until(&format!("{stage:?}: the change to {limit}"), crate::support::TIMEOUT, || {
                (host.call("get_status", &json!({})).unwrap()["globalLimit"] == limit).then_some(())
            });
        }
        // The redactor is reported, and stays disabled with these settings.
        assert!(problems(&host).contains("evil"), "{}", problems(&host));
        let refused = host.run(&["run", "--json", "rehearsal", "SAY hello"]).code(70).error();
        assert!(refused["message"].as_str().unwrap().contains("`reload()`"), "{refused}");
        // An explicit reload tries it again.
        host.run(&["config", "reload"]).ok();
        assert_eq!(listed(&host, "evil")["state"], "ready");
        assert_eq!(host.run(&["run", "rehearsal", "SAY hello"]).ok().stdout.trim(), "hello", "{stage:?}");
    }
}

#[test]
fn policy_that_cannot_be_configured_denies_at_once_and_after_a_restart() {
    let host = test_host("", &[]);
    host.run(&["run", "rehearsal", "SAY hello"]).ok();
    put(&host, "broken", &Guest { name: "broken", configure: TRAP, ..Guest::default() }.policy());
    for _ in 0..2 {
        wait_until("the change", crate::support::TIMEOUT, || {
            problems(&host).contains("everything is denied").then_some(())
        });
        let denied = host.run(&["run", "--json", "rehearsal", "SAY hello"]).code(4).error();
        assert_eq!(denied["kind"], "POLICY_DENIED", "{denied}");
        assert!(denied["message"].as_str().unwrap().contains("policy broken"), "{denied}");
        host.stop();
        host.run(&["runs"]).ok();
    }
    fs::remove_file(host.home().join("plugins/broken.wasm")).unwrap();
    host.run(&["config", "reload"]).ok();
    host.run(&["run", "rehearsal", "SAY hello"]).ok();
}

#[test]
fn policy_file_damaged_before_the_start_denies() {
    let host = test_host("", &[("strict", Guest { name: "strict", ..Guest::default() }.policy())]);
    host.run(&["run", "rehearsal", "SAY hello"]).ok();
    host.stop();
    put(&host, "strict", b"damaged");
    let denied = host.run(&["run", "--json", "rehearsal", "SAY hello"]).code(4).error();
    assert!(denied["message"].as_str().unwrap().contains("policy strict"), "{denied}");
}

#[test]
fn file_named_like_a_bundled_policy_replaces_it_only_if_configured() {
    // This policy allows everything.
    let lax = Guest { name: "guardrails", ..Guest::default() }.policy();
    let host = test_host("", &[("guardrails", lax)]);
    let elsewhere = host.root().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let run = |host: &TestHost| host.run_in(&elsewhere, &["run", "--json", "rehearsal", "SAY hello"]);
    assert!(problems(&host).contains("replace = true"), "{}", problems(&host));
    let denied = run(&host).code(4).error();
    assert!(denied.to_string().contains("guardrails"), "{denied}");
    // Even if the file replaces the bundled policy, the host enforces the grants.
    host.configure("[plugins.policy.guardrails]\nreplace = true\n");
    wait_until("the change", crate::support::TIMEOUT, || {
        problems(&host).contains("replaces the bundled policy").then_some(())
    });
    let denied = run(&host).code(4).error();
    assert_eq!(denied["findings"][0]["policy"], "host", "{denied}");
    host.run(&["run", "rehearsal", "SAY hello"]).ok();
}

#[test]
fn new_provider_runs_nothing_before_its_digest_is_approved() {
    let host = test_host("", &[]);
    host.run(&["run", "rehearsal", "SAY hello"]).ok();
    let proof = host.root().join("proof");
    let script = format!("date >> {}", proof.display());
    let sneaky = || hostile::prober("sneaky", "sh", &["-c", &script]);
    put(&host, "sneaky", &sneaky());
    wait_until("the plugin", crate::support::TIMEOUT, || {
        problems(&host).contains("trust_plugin(sneaky)").then_some(())
    });
    assert_eq!(listed(&host, "sneaky")["state"], "waiting");
    assert!(start(&host, "sneaky", json!({})).is_err());
    host.run(&["capabilities", "--refresh"]).ok();
    host.stop();
    host.run(&["runs"]).ok();
    assert!(!proof.exists(), "the plugin ran a probe");

    let shown = host.run(&["plugin", "trust", "sneaky", "--dry-run"]).ok().stdout;
    for part in ["runs       sh", "-c", &script, "not approved"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let error = host.call("trust_plugin", &json!({"name": "sneaky", "digest": "00"})).unwrap_err();
    assert_eq!(error.kind(), "CONFLICT", "{}", error.text());
    let shown = host.run(&["plugin", "trust", "sneaky"]).ok().stdout;
    assert!(shown.contains("\napproved"), "{shown}");
    // An interpreter can run anything, so that the configuration must name it.
    let plugin = listed(&host, "sneaky");
    assert_eq!(plugin["state"], "failed", "{plugin}");
    assert!(plugin["reason"].as_str().unwrap().contains("executable = \"sh\""), "{plugin}");
    assert!(!proof.exists(), "the plugin ran a probe");
    host.configure("[providers.sneaky]\nexecutable = \"sh\"\n");
    wait_until("the probe", crate::support::TIMEOUT, || proof.exists().then_some(()));
    assert_eq!(host.run(&["plugin", "trust", "sneaky"]).code(5).stdout, "");
    // The approval survives a restart. A changed file needs a new approval; until then, the approved one stays in use.
    host.stop();
    host.run(&["runs"]).ok();
    assert_eq!(listed(&host, "sneaky")["state"], "ready");
    put(&host, "sneaky", &hostile::prober("sneaky", "sh", &["-c", "exit 3"]));
    wait_until("the successor", crate::support::TIMEOUT, || {
        listed(&host, "sneaky")["displaced"].as_str().is_some_and(|why| why.contains("trust_plugin")).then_some(())
    });
    host.stop();
    assert_eq!(listed(&host, "sneaky")["state"], "waiting");
}
