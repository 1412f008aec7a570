//! Plugins that loop, allocate, trap, recurse and flood, in the plugin folder of a real host. In every case there is
//! one clear record that names the plugin; nothing runs without the permission of a policy, no secret leaks, and no
//! other run is affected.

use crate::support::guests::hostile::{self, Fault, ProviderStage, RedactorStage, WORD};
use crate::support::{
    BackgroundRun, ResourceBaseline, SecretProbe, Session, TestHost, check_run_events, database, end_of, of_type,
    wait_until, warning_codes,
};
use serde_json::{Value, json};
use std::{fs, path::Path};

/// A short time limit, so that a loop ends soon, but far longer than a call of a working plugin on a busy machine.
const LIMITS: &str =
    "[plugins]\ncall_timeout_ms = 500\ntrust = \"folder\"\n[scheduler]\nglobal = 4\nper_provider = 4\n";

/// `hostile-` and twelve characters: the pattern of the hostile redactors.
const CANDIDATE: &str = "hostile-a1b2c3d4e5f6";

/// A host with these plugins.
fn test_host(plugins: &[(&str, Vec<u8>)], more: &str) -> TestHost {
    let host = TestHost::with_config(&format!("{LIMITS}{more}"));
    let folder = host.home().join("plugins");
    fs::create_dir(&folder).unwrap();
    for (name, component) in plugins {
        fs::write(folder.join(format!("{name}.wasm")), component).unwrap();
    }
    host.run(&["grants", "add", host.work().to_str().unwrap()]).ok();
    host
}

/// How `ostler plugin list` shows a plugin.
#[track_caller]
fn listed(host: &TestHost, name: &str) -> Value {
    let list = host.run(&["plugin", "list", "--json"]).ok().json();
    let found = list["plugins"].as_array().unwrap().iter().find(|plugin| plugin["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is not listed: {list}")).clone()
}

/// Checks that a plugin was disabled, and that both forms of `plugin list` say so with this reason.
#[track_caller]
fn assert_disabled(host: &TestHost, name: &str, reason: &str) {
    let plugin = listed(host, name);
    assert_eq!(plugin["state"], "set-aside", "{plugin}");
    assert!(plugin["reason"].as_str().unwrap().contains(reason), "{plugin}");
    let text = host.run(&["plugin", "list"]).ok().stdout;
    let line = text.lines().find(|line| line.starts_with(&format!("{name}: ")));
    assert!(line.is_some_and(|line| line.contains(reason)), "{text}");
}

fn payload(host: &TestHost, provider: &str, prompt: &str) -> Value {
    json!({ "provider": provider, "prompt": prompt, "cwd": host.work() })
}

/// How many runs there are.
fn runs(host: &TestHost) -> Value {
    host.call("list_runs", &json!({})).unwrap()["total"].clone()
}

#[test]
fn misbehaving_policies_deny_and_are_disabled() {
    for fault in Fault::ALL {
        let host = test_host(&[("evil", hostile::policy("evil", fault))], "");
        host.run(&["run", "rehearsal", "SAY hello"]).ok();
        let baseline = ResourceBaseline::of(&host);
        let background = BackgroundRun::start(&host);
        let before = runs(&host);

        let denied = host.run(&["run", "--json", "rehearsal", &format!("SAY {WORD}")]).code(4).error();
        assert_eq!(denied["kind"], "POLICY_DENIED", "{denied}");
        let message = denied["message"].as_str().unwrap();
        assert!(message.contains("policy evil") && message.contains(fault.message_part()), "{message}");
        // A prompt without the word is still allowed.
        host.run(&["run", "rehearsal", "SAY hello"]).ok();
        for _ in 0..4 {
            let error = host.call("start_run", &payload(&host, "rehearsal", WORD)).unwrap_err();
            assert_eq!(error.kind(), "POLICY_DENIED", "{}", error.text());
        }
        assert_disabled(&host, "evil", fault.message_part());
        // The policy is disabled: everything is denied.
        let error = host.call("start_run", &payload(&host, "rehearsal", "SAY hello")).unwrap_err();
        assert_eq!(error.kind(), "POLICY_DENIED", "{}", error.text());
        assert!(error.text().contains("evil") && error.text().contains("disabled"), "{}", error.text());

        background.finish(&host);
        baseline.check(&host);
        assert_eq!(runs(&host).as_u64(), before.as_u64().map(|before| before + 1), "a refused submit made a run");
        let audits: u32 = database(&host)
            .query_row(
                "SELECT count(*) FROM run_events WHERE run IS NULL AND type = 'run.policy_audit'
                 AND payload LIKE '%\"policy\":\"evil\"%' AND payload LIKE '%policy-failed%'",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(audits, 6, "each refusal is stored");
        assert!(host.log().len() < 256 << 10, "{} bytes of log", host.log().len());
    }
}

#[test]
fn policy_that_fails_on_a_command_line_fails_the_run() {
    let host = test_host(&[("evil", hostile::policy_at_spawn("evil", Fault::Trap))], SH);
    host.run(&["run", "sh", "echo hello"]).ok();
    let baseline = ResourceBaseline::of(&host);
    let background = BackgroundRun::start(&host);
    let done = host.run(&["run", "--json", "sh", &format!("touch ran; echo {WORD}")]).code(4);
    let events = done.json_lines();
    check_run_events(&events);
    let end = &end_of(&events).unwrap()["payload"];
    assert_eq!(end["reason"], "policy_denied");
    let message = end["message"].as_str().unwrap();
    assert!(message.contains("policy evil") && message.contains(Fault::Trap.message_part()), "{message}");
    let audits = of_type(&events, "run.policy_audit");
    assert_eq!(audits.iter().map(|audit| &audit["payload"]["verdict"]).collect::<Vec<_>>(), ["allow", "deny"]);
    assert!(of_type(&events, "run.started").is_empty() && !host.work().join("ran").exists());
    background.finish(&host);
    baseline.check(&host);
}

/// Makes a provider of `sh` that takes its script from the prompt.
const SH: &str = r#"
[providers.sh]
plugin = "command"
executable = "sh"
[providers.sh.settings]
args = ["-c", "{prompt}"]
"#;

/// Folders with a `script` for the hostile providers to run.
struct Scripts<'a>(&'a TestHost);

impl Scripts<'_> {
    fn put(&self, folder: &str, script: &str) {
        let folder = self.0.work().join(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("script"), script).unwrap();
    }

    /// A run in one of the folders.
    #[track_caller]
    fn run(&self, folder: &str, provider: &str, more: &[&str]) -> crate::support::Done {
        let mut args = vec!["run", "--json", provider, "hello"];
        args.extend(more);
        self.0.run_in(&self.0.work().join(folder), &args)
    }
}

/// Checks the record of a run that its provider has failed, and gives its events.
#[track_caller]
fn failed_by(done: crate::support::Done, name: &str, fault: Fault) -> Vec<Value> {
    let events = done.code(70).json_lines();
    check_run_events(&events);
    let end = &end_of(&events).unwrap()["payload"];
    assert_eq!(end["reason"], "plugin_failed", "{end}");
    let message = end["message"].as_str().unwrap();
    assert!(message.contains(name) && message.contains(fault.message_part()), "{message}");
    events
}

#[test]
fn provider_that_fails_on_output_ends_only_its_run() {
    let plugins = Fault::ALL.map(|fault| format!("read-{}", fault.name()));
    let made: Vec<(&str, Vec<u8>)> = plugins
        .iter()
        .zip(Fault::ALL)
        .map(|(name, fault)| (name.as_str(), hostile::provider(name, ProviderStage::Read, fault)))
        .collect();
    let host = test_host(&made, "");
    let secret = ["gh", "p_", "K3wQ8zT1xV6bN9mR4cL7yJ2hF5dS0gPaUeIo"].concat();
    let scripts = Scripts(&host);
    scripts.put("good", "echo fine");
    scripts.put("long", "while [ ! -e gate ]; do sleep 0.02; done; echo fine");
    scripts.put("bad", &format!("echo begun {secret}; echo {WORD}; echo over {secret} >&2"));
    for name in &plugins {
        scripts.run("good", name, &[]).ok();
    }
    let baseline = ResourceBaseline::of(&host);
    let background = BackgroundRun::start(&host);
    for (name, fault) in plugins.iter().zip(Fault::ALL) {
        // Another run of the same plugin is running.
        let long = host.work().join("long");
        let other = host.run_in(&long, &["run", "--detach", name, "hello"]).ok().stdout.trim().to_owned();
        wait_until("the other run", crate::support::TIMEOUT, || {
            (host.record(&other)["status"] == "running").then_some(())
        });

        let events = failed_by(scripts.run("bad", name, &[]), name, fault);
        assert_eq!(warning_codes(&events), ["PLUGIN_FAILED"]);
        assert_eq!(of_type(&events, "run.cli_exit")[0]["payload"]["code"], 0, "the child ended normally");
        let output: String = ["run.chunk.stdout", "run.chunk.stderr"]
            .iter()
            .flat_map(|kind| of_type(&events, kind))
            .map(|event| event["payload"]["text"].as_str().unwrap())
            .collect();
        assert!(output.contains("begun [REDACTED:") && output.contains("over [REDACTED:"), "{output}");

        fs::write(long.join("gate"), "").unwrap();
        let events = host.wait_for_end(&other);
        assert_eq!(end_of(&events).unwrap()["type"], "run.completed");
        fs::remove_file(long.join("gate")).unwrap();
    }
    let (name, fault) = (&plugins[2], Fault::Trap);
    for _ in 0..4 {
        failed_by(scripts.run("bad", name, &[]), name, fault);
    }
    assert_disabled(&host, name, fault.message_part());
    let refused = scripts.run("good", name, &[]).code(70).error();
    assert_eq!(refused["kind"], "PLUGIN_FAILED", "{refused}");
    assert!(refused["message"].as_str().unwrap().contains(&format!("plugin {name}: it is disabled")), "{refused}");
    scripts.run("good", &plugins[3], &[]).ok();
    background.finish(&host);
    baseline.check(&host);
    SecretProbe::new(&[secret]).assert_not_below(&host.home(), &[]);
    assert!(host.log().len() < 256 << 10, "{} bytes of log", host.log().len());
}

#[test]
fn providers_cannot_set_undeclared_variables_or_ones_that_load_code() {
    let made = [
        ("loader", hostile::provider_that_sets("loader", "LD_PRELOAD", "/tmp/none.so")),
        ("silent", hostile::provider_that_sets("silent", "UNDECLARED", "told")),
    ];
    let host = test_host(&made, "");
    let scripts = Scripts(&host);
    scripts.put("good", "echo \"$UNDECLARED\"");
    let before = runs(&host);
    for (name, variable) in [("loader", "LD_PRELOAD"), ("silent", "UNDECLARED")] {
        let error = host.call("start_run", &payload(&host, name, "hello")).unwrap_err();
        assert_eq!(error.kind(), "PLUGIN_FAILED", "{}", error.text());
        assert!(error.text().contains(name) && error.text().contains(variable), "{}", error.text());
    }
    assert_eq!(runs(&host), before, "a refused submit made a run");
    host.stop();
    host.configure(&format!("{LIMITS}[policy]\nallow_environment = [\"UNDECLARED\"]\n"));
    assert!(scripts.run("good", "silent", &[]).ok().stdout.contains("told"));
}

#[test]
fn probes_cannot_set_undeclared_variables_or_ones_that_load_code() {
    let touch = |name: &str| format!("touch {name}");
    let made = [
        ("plain", hostile::prober("plain", "sh", &["-c", &touch("plain")])),
        (
            "loader",
            hostile::prober_that_sets("loader", "sh", &["-c", &touch("loader")], ("LD_PRELOAD", "/tmp/none.so")),
        ),
        ("silent", hostile::prober_that_sets("silent", "sh", &["-c", &touch("silent")], ("UNDECLARED", "told"))),
    ];
    let host = test_host(&made, "");
    // Probes run in the data folder.
    let ran = |name: &str| host.home().join("data").join(name).exists();
    for (name, variable) in [("loader", "LD_PRELOAD"), ("silent", "UNDECLARED")] {
        let found = host.call("list_capabilities", &json!({ "refresh": true, "provider": name })).unwrap();
        assert_eq!(found[0]["support"], "blocked", "{found}");
        assert!(found[0]["reasons"].to_string().contains(variable), "{found}");
        assert!(!ran(name), "the probe of {name} ran");
    }
    let found = host.call("list_capabilities", &json!({ "refresh": true, "provider": "plain" })).unwrap();
    assert!(found[0]["support"] == "supported" && ran("plain"), "{found}");
}

#[test]
fn provider_inherits_only_the_variables_that_it_names() {
    let made = [
        ("greedy", hostile::provider_that_inherits("greedy", "*")),
        ("modest", hostile::provider_that_inherits("modest", "PRIVATE_*")),
        ("silent", hostile::provider_that_inherits("silent", "OTHER_*")),
    ];
    let mut host = test_host(&made, "");
    host.stop();
    host.set("PRIVATE_NOTE", "nobody's business");
    host.ensure_running();
    host.file("script", "env");
    // Submitted without the variables of a caller, as by a front end, and with them.
    for (name, may) in [("modest", true), ("silent", false)] {
        let run = host.submit("hello", &json!({ "provider": name })).unwrap();
        for events in [host.wait_for_end(&run), host.events_of(&[name, "hello"])] {
            let chunks = of_type(&events, "run.chunk.stdout").into_iter();
            let output: String = chunks.map(|event| event["payload"]["text"].as_str().unwrap()).collect();
            assert_eq!(output.contains("nobody's business"), may, "{name}: {output}");
            assert!(output.contains("PATH=") && output.contains("HOME="), "{name}: {output}");
        }
    }
    let error = host.call("start_run", &payload(&host, "greedy", "hello")).unwrap_err();
    assert_eq!(error.kind(), "PLUGIN_FAILED", "{}", error.text());
    assert!(error.text().contains("inherit-environment"), "{}", error.text());
}

#[test]
fn submits_to_misbehaving_providers_are_refused_by_name() {
    let stages = [ProviderStage::Prepare, ProviderStage::Detect];
    let cases: Vec<(String, ProviderStage, Fault)> = stages
        .into_iter()
        .flat_map(|stage| Fault::ALL.map(|fault| (format!("{}-{}", stage.name(), fault.name()), stage, fault)))
        .collect();
    let mut made: Vec<(&str, Vec<u8>)> =
        cases.iter().map(|(name, stage, fault)| (name.as_str(), hostile::provider(name, *stage, *fault))).collect();
    made.push(("configured", hostile::provider("configured", ProviderStage::Configure, Fault::Recurse)));
    let host =
        test_host(&made, &format!("[providers.wrong]\nplugin = \"configured\"\nsettings = {{ word = \"{WORD}\" }}\n"));
    let scripts = Scripts(&host);
    scripts.put("good", "echo fine");
    scripts.run("good", "configured", &[]).ok();
    let baseline = ResourceBaseline::of(&host);
    let background = BackgroundRun::start(&host);
    let before = runs(&host);
    let refused = |provider: &str, name: &str, fault: Fault| {
        let error = host.call("start_run", &payload(&host, provider, WORD)).unwrap_err();
        assert_eq!(error.kind(), "PLUGIN_FAILED", "{}", error.text());
        let message = error.data()["message"].as_str().unwrap();
        assert!(message.contains(&format!("plugin {name}: ")) && message.contains(fault.message_part()), "{message}");
    };
    for (name, _, fault) in &cases {
        refused(name, name, *fault);
    }
    // With settings that make it fail, the provider does not exist; without them it does.
    refused("wrong", "configured", Fault::Recurse);
    scripts.run("good", "configured", &[]).ok();
    let list = host.run(&["plugin", "list"]).ok().stdout;
    let line = list.lines().find(|line| line.starts_with("wrong: ")).unwrap_or_else(|| panic!("{list}"));
    assert!(line.contains(Fault::Recurse.message_part()), "{line}");

    let capabilities = host.call("list_capabilities", &json!({ "provider": "detect-trap" })).unwrap();
    assert_eq!(capabilities[0]["support"], "blocked", "{capabilities}");
    assert!(capabilities[0]["reasons"].to_string().contains(Fault::Trap.message_part()), "{capabilities}");
    for _ in 0..5 {
        let _ = host.call("start_run", &payload(&host, "prepare-trap", WORD)).unwrap_err();
        let _ = host.call("start_run", &payload(&host, "detect-trap", "hello")).unwrap_err();
    }
    for name in ["prepare-trap", "detect-trap"] {
        assert_disabled(&host, name, Fault::Trap.message_part());
        refused(name, name, Fault::Trap);
    }
    background.finish(&host);
    baseline.check(&host);
    assert_eq!(runs(&host).as_u64(), before.as_u64().map(|before| before + 1), "a refused submit made a run");
}

#[test]
fn provider_that_fails_within_an_attempt_ends_it() {
    let cases = [
        (ProviderStage::Begin, Fault::Trap),
        (ProviderStage::Begin, Fault::Loop),
        (ProviderStage::Finish, Fault::Recurse),
        (ProviderStage::Finish, Fault::Loop),
        (ProviderStage::Finish, Fault::FloodOutput),
        (ProviderStage::PrepareAgain, Fault::Allocate),
    ]
    .map(|(stage, fault)| (format!("{}-{}", stage.name(), fault.name()), stage, fault));
    let made: Vec<(&str, Vec<u8>)> =
        cases.iter().map(|(name, stage, fault)| (name.as_str(), hostile::provider(name, *stage, *fault))).collect();
    let host = test_host(&made, "");
    host.run(&["run", "rehearsal", "SAY hello"]).ok();
    let baseline = ResourceBaseline::of(&host);
    let background = BackgroundRun::start(&host);
    host.file("script", "echo begun; sleep 0.1; echo over");
    for (name, stage, fault) in &cases {
        let prompt = if *stage == ProviderStage::Begin { WORD } else { "hello" };
        let events = failed_by(host.run(&["run", "--json", "--retries", "1", name, prompt]), name, *fault);
        let progress = of_type(&events, "run.progress");
        let retries = progress.iter().filter(|event| event["payload"]["stage"] == "retry_scheduled").count();
        assert_eq!(retries, usize::from(*stage == ProviderStage::PrepareAgain), "{name}");
        let output: String =
            of_type(&events, "run.chunk.stdout").iter().map(|e| e["payload"]["text"].as_str().unwrap()).collect();
        assert_eq!(output, "begun\nover\n", "{name}");
    }
    background.finish(&host);
    baseline.check(&host);
}

/// Starts a session, whose CLI is `sh` with a script.
fn session<'a>(host: &'a TestHost, provider: &str, script: &str) -> Session<'a> {
    host.file("script", script);
    Session::of(host, &json!({ "provider": provider, "cwd": host.work() }))
}

#[test]
fn provider_that_fails_on_a_decision_ends_its_session_or_run_instead_of_letting_the_cli_wait() {
    let faults = [Fault::Trap, Fault::Loop, Fault::FloodOutput];
    let made = faults.map(|fault| (fault.name(), hostile::provider_that_asks(fault.name(), fault)));
    let host = test_host(&made, "");
    host.run(&["run", "rehearsal", "SAY hello"]).ok();
    let baseline = ResourceBaseline::of(&host);
    let background = BackgroundRun::start(&host);
    for fault in faults {
        let session = session(&host, fault.name(), &format!(": >taken; echo {WORD}; cat >>taken"));
        let approval = session.approvals(1).remove(0);
        let refused = session.answer(&approval, &json!({ "allow": true })).unwrap_err();
        assert_eq!(refused.kind(), "PLUGIN_FAILED", "{}", refused.text());
        let events = host.wait_for_end(&session.run);
        let end = &end_of(&events).unwrap()["payload"];
        assert_eq!(end["reason"], "plugin_failed", "{end}");
        let message = end["message"].as_str().unwrap();
        assert!(message.contains(fault.name()) && message.contains(fault.message_part()), "{message}");
        assert_eq!(warning_codes(&events), ["PLUGIN_FAILED"]);
        assert_eq!(session.decisions(), Vec::<String>::new(), "the CLI got none");
        assert_eq!(session.approvals(0), Vec::<Value>::new());
        assert_eq!(fs::read_to_string(host.work().join("taken")).unwrap(), "");

        // In a run, the host denies by itself.
        failed_by(host.run(&["run", "--json", fault.name(), "hello"]), fault.name(), fault);
    }
    background.finish(&host);
    baseline.check(&host);
}

#[test]
fn provider_that_fails_on_a_message_leaves_the_terminal_to_the_user() {
    let host = test_host(&[("evil", hostile::provider_in_terminal("evil", Fault::Trap))], "");
    host.run(&["run", "rehearsal", "SAY hello"]).ok();
    let baseline = ResourceBaseline::of(&host);
    let session = session(&host, "evil", "read line; echo \"got:$line\"; read line");
    for _ in 0..2 {
        let refused = session.send(&format!("say {WORD}")).unwrap_err();
        assert_eq!(refused.kind(), "PLUGIN_FAILED", "{}", refused.text());
        assert!(refused.text().contains(Fault::Trap.message_part()), "{}", refused.text());
    }
    session.type_keys("hello\r");
    session.wait_for_screen("got:hello");
    assert_eq!(session.end(), "failed", "nothing has read how the CLI ended");
    let events = session.events();
    assert_eq!(end_of(&events).unwrap()["payload"]["reason"], "plugin_failed");
    assert_eq!(warning_codes(&events), ["PLUGIN_FAILED"]);
    baseline.check(&host);
}

/// Texts that no file of a host may contain.
#[track_caller]
fn assert_in_no_file(host: &TestHost, secrets: &[String]) {
    let plugins = host.home().join("plugins");
    let cache = host.home().join("cache");
    SecretProbe::new(secrets).assert_not_below(&host.home(), &[Path::new(&plugins), Path::new(&cache)]);
}

#[test]
fn failing_redactor_redacts_all_candidates() {
    for fault in Fault::ALL {
        let host = test_host(&[("evil", hostile::redactor("evil", RedactorStage::Verify, fault))], "");
        // A million answers have few bytes, but are too many for one question.
        let reason = if fault == Fault::FloodOutput { "1000000 answers for" } else { fault.message_part() };
        // While the redactor works, a candidate that it rejects is shown.
        let sound = host.run(&["run", "rehearsal", &format!("SAY it is {CANDIDATE}")]).ok();
        assert_eq!(sound.stdout.trim(), format!("it is {CANDIDATE}"));
        let baseline = ResourceBaseline::of(&host);
        let background = BackgroundRun::start(&host);
        let native = ["gh", "p_", "K3wQ8zT1xV6bN9mR4cL7yJ2hF5dS0gPaUeIo"].concat();
        let other = "hostile-z9y8x7w6v5u4".to_owned();
        let prompt = format!("SAY {WORD} {other} {native}");
        let done = host.run_with_input(&["run", "--json", "rehearsal", "-"], prompt.as_bytes()).ok();
        let events = done.json_lines();
        check_run_events(&events);
        let answer = crate::support::answer(&events);
        assert!(answer.starts_with(&format!("{WORD} [REDACTED:hostile-token] [REDACTED:")), "{answer}");
        let warnings = of_type(&events, "run.warning");
        assert_eq!(warnings.len(), 1, "{warnings:#?}");
        assert_eq!(
            (&warnings[0]["payload"]["code"], &warnings[0]["payload"]["plugin"]),
            (&json!("PLUGIN_FAILED"), &json!("evil"))
        );
        for _ in 0..2 {
            host.run_with_input(&["run", "rehearsal", "-"], prompt.as_bytes()).ok();
        }
        assert_disabled(&host, "evil", reason);
        // The redactor is disabled: every candidate counts as a secret.
        let strict = host.run(&["run", "rehearsal", "SAY it is hostile-0a0b0c0d0e0f"]).ok();
        assert_eq!(strict.stdout.trim(), "it is [REDACTED:hostile-token]");
        background.finish(&host);
        baseline.check(&host);
        assert_in_no_file(&host, &[native, other]);
        assert!(host.log().len() < 256 << 10, "{} bytes of log", host.log().len());
    }
}

#[test]
fn redactor_without_rules_leaves_others_and_text_is_withheld_without_any() {
    let secret = ["gh", "p_", "K3wQ8zT1xV6bN9mR4cL7yJ2hF5dS0gPaUeIo"].concat();
    let prompt = format!("SAY the token is {secret}");
    for fault in [Fault::Trap, Fault::Loop, Fault::FloodOutput] {
        // In addition to the bundled redactor.
        let other_host = test_host(&[("evil", hostile::redactor("evil", RedactorStage::Rules, fault))], "");
        other_host.run(&["run", "rehearsal", "SAY hello"]).ok();
        let baseline = ResourceBaseline::of(&other_host);
        let done = other_host.run_with_input(&["run", "rehearsal", "-"], prompt.as_bytes()).ok();
        assert!(done.stdout.starts_with("the token is [REDACTED:"), "{}", done.stdout);
        baseline.check(&other_host);
        assert_in_no_file(&other_host, std::slice::from_ref(&secret));
        let plugin = listed(&other_host, "evil");
        assert_ne!(plugin["state"], "ready", "{plugin}");
        assert!(plugin["reason"].as_str().is_some_and(|reason| reason.contains(fault.message_part())), "{plugin}");

        // Instead of the bundled redactor.
        let host = test_host(&[("secrets", hostile::redactor("secrets", RedactorStage::Rules, fault))], "");
        host.run(&["run", "rehearsal", "SAY hello"]).ok();
        let baseline = ResourceBaseline::of(&host);
        let done = host.run_with_input(&["run", "--json", "rehearsal", "-"], prompt.as_bytes()).ok();
        let events = done.json_lines();
        check_run_events(&events);
        assert!(!done.stdout.contains("the token"), "{}", done.stdout);
        assert_eq!(crate::support::answer(&events), "[REDACTED:withheld]");
        baseline.check(&host);
        assert_in_no_file(&host, &[secret.clone(), "the token is".to_owned()]);
        let plugin = listed(&host, "secrets");
        assert_ne!(plugin["state"], "ready", "{plugin}");
        let status = host.run(&["status", "--json"]).ok().json();
        assert!(status["problems"].to_string().contains("withheld"), "{status}");
    }
}

#[test]
fn text_is_withheld_if_a_scan_fails() {
    let secret = ["gh", "p_", "K3wQ8zT1xV6bN9mR4cL7yJ2hF5dS0gPaUeIo"].concat();
    for fault in Fault::ALL {
        let host = test_host(&[("evil", hostile::redactor("evil", RedactorStage::Scan, fault))], "");
        host.run(&["run", "rehearsal", "SAY hello"]).ok();
        let baseline = ResourceBaseline::of(&host);
        let prompt = format!("SAY {WORD} {secret}");
        let done = host.run_with_input(&["run", "--json", "rehearsal", "-"], prompt.as_bytes()).ok();
        let events = done.json_lines();
        check_run_events(&events);
        assert_eq!(crate::support::answer(&events), "[REDACTED:withheld]");
        assert_eq!(warning_codes(&events), ["PLUGIN_FAILED"]);
        host.run_with_input(&["run", "rehearsal", "-"], prompt.as_bytes()).ok();
        assert_disabled(&host, "evil", fault.message_part());
        // The disabled redactor does not block configuration changes.
        let problems = host.run(&["status", "--json"]).ok().json()["problems"].to_string();
        assert!(problems.contains("redactor evil is disabled"), "{problems}");
        host.configure(&format!("{LIMITS}[log]\nlevel = \"debug\"\n"));
        let reload = host.run(&["config", "reload", "--json"]).ok().json();
        assert!(reload.to_string().contains("log.level") || log_level(&host) == "debug", "{reload}");
        baseline.check(&host);
        assert_in_no_file(&host, std::slice::from_ref(&secret));
    }
}

fn log_level(host: &TestHost) -> Value {
    host.call("get_settings", &json!({})).unwrap()["log"]["level"].clone()
}

#[test]
fn redact_withholds_text_and_reports_a_failed_scan() {
    let host = test_host(&[("evil", hostile::redactor("evil", RedactorStage::Scan, Fault::Trap))], "");
    let sound = host.run_with_input(&["redact"], b"one line\n").ok();
    assert_eq!(sound.stdout, "one line\n");
    let text = format!("first {WORD} line\nanother line\n");
    let failed = host.run_with_input(&["redact"], text.as_bytes()).code(70);
    assert!(!failed.stdout.contains("first") && failed.stdout.contains("[REDACTED:withheld]"), "{}", failed.stdout);
    assert!(failed.stderr.contains("redactor plugin evil failed"), "{}", failed.stderr);
}

#[test]
fn redactor_that_logs_candidates_neither_leaks_nor_recurs() {
    let host = test_host(&[("chatty", hostile::redactor_that_logs("chatty", CANDIDATE))], "");
    host.run(&["run", "rehearsal", "SAY hello"]).ok();
    let baseline = ResourceBaseline::of(&host);
    for _ in 0..20 {
        host.run(&["run", "rehearsal", &format!("SAY {CANDIDATE}")]).ok();
    }
    baseline.check(&host);
    assert_eq!(listed(&host, "chatty")["state"], "ready");
    // The redactor rejects each candidate, but is not asked about its own log messages.
    let log = host.log();
    assert!(log.contains("[REDACTED:hostile-token] plugin=\"chatty\"") && !log.contains(CANDIDATE), "{log}");
    assert!(log.len() < 256 << 10, "{} bytes of log", log.len());
}
