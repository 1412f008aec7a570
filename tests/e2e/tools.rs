//! Tool uses that a CLI reports without asking are shown to the policies afterwards: findings are stored, and a denial
//! warns or ends the run.

use crate::support::guests::hostile::{self, Fault, ProviderStage, WORD};
use crate::support::guests::tools::{self, CHECK, Verdict};
use crate::support::{SecretProbe, TestHost, check_run_events, end_of, of_type, semantics, warning_codes};
use serde_json::{Value, json};
use std::fs;
use std::time::{Duration, Instant};

/// With this setting, a denied use ends the run.
const END: &str = "[policy]\nreported_tools = \"end\"\n";

/// A host with these plugins and a granted working folder.
fn test_host(config: &str, plugins: &[(&str, Vec<u8>)]) -> TestHost {
    let host = TestHost::with_config(&format!("{config}[plugins]\ntrust = \"folder\"\ncall_timeout_ms = 1000\n"));
    fs::create_dir(host.home().join("plugins")).unwrap();
    for (name, component) in plugins {
        fs::write(host.home().join(format!("plugins/{name}.wasm")), component).unwrap();
    }
    host.run(&["grants", "add", host.work().to_str().unwrap()]).ok();
    host
}

/// A host with a policy that gives this verdict on each tool use that contains the word.
fn host_with_verdict(config: &str, verdict: Verdict) -> TestHost {
    test_host(config, &[("strict", tools::policy("strict", WORD, verdict, "not with this word"))])
}

/// The same with a provider that reports only results of tools, if its script prints the word.
fn host_with_result_reporter(config: &str) -> TestHost {
    let strict = tools::policy("strict", WORD, Verdict::Deny, "not with this word");
    test_host(config, &[("reporter", tools::reporter_of_results("reporter", WORD)), ("strict", strict)])
}

/// A command that prints the word.
fn say_word() -> String {
    format!("echo {WORD}")
}

/// The stored policy decisions on tool uses.
fn records(events: &[Value]) -> Vec<&Value> {
    let audits = of_type(events, "run.policy_audit").into_iter().map(|event| &event["payload"]);
    audits.filter(|audit| audit["stage"] == "tool").collect()
}

/// Runs a command as a tool of the rehearsal; `more` is added to the payload.
fn use_tool(host: &TestHost, command: &str, more: Value) -> Vec<Value> {
    let events = host.wait_for_end(&host.submit(&format!("RUN {command}"), &more).unwrap());
    check_run_events(&events);
    events
}

#[test]
fn denied_use_warns_once_and_the_run_continues() {
    let host = host_with_verdict("", Verdict::Deny);
    let events = use_tool(&host, &say_word(), json!({}));
    assert_eq!(end_of(&events).unwrap()["type"], "run.completed", "{events:#?}");
    // Start and result are one use.
    assert_eq!((semantics(&events, "tool_start").len(), semantics(&events, "tool_result").len()), (1, 1));
    let [record] = records(&events)[..] else { panic!("{events:#?}") };
    let tool = &semantics(&events, "tool_start")[0];
    assert_eq!(record["tool"], json!({ "id": tool["id"], "tool": "shell", "name": tool["name"] }));
    assert_eq!((&record["verdict"], &record["provider"]), (&json!("deny"), &json!("rehearsal")));
    let finding = &record["findings"][0];
    assert_eq!((&finding["policy"], &finding["check"]), (&json!("strict"), &json!(CHECK)));
    assert_eq!(finding["digest"].as_str().unwrap().len(), 64);

    assert_eq!(warning_codes(&events), ["TOOL_DENIED"]);
    let warning = &of_type(&events, "run.warning")[0]["payload"];
    for (fact, value) in [("id", &tool["id"]), ("name", &tool["name"]), ("policy", &json!("strict"))] {
        assert_eq!(&warning[fact], value, "{warning}");
    }
    let message = warning["message"].as_str().unwrap();
    let name = tool["name"].as_str().unwrap();
    for part in [&format!("the tool {name},"), "the policy strict denies", "not with this word"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    // The decision is shown in the log and in exports, like that on a command line.
    let run = events[0]["runId"].as_str().unwrap();
    let log = host.run(&["logs", run]).ok().stdout;
    assert!(log.contains(&format!("tool {name}: deny (1 findings)")) && log.contains("TOOL_DENIED"), "{log}");
    let exported = host.run(&["export", run, "--format", "jsonl", "--output", "-"]);
    assert!(exported.all().contains(CHECK) && exported.all().contains("TOOL_DENIED"), "{}", exported.all());
    let shown = host.run(&["run", "rehearsal", &format!("RUN echo {WORD}")]).ok().stderr;
    assert_eq!(shown.matches("not with this word").count(), 1, "{shown}");
}

#[test]
fn use_without_findings_leaves_no_record() {
    let host = host_with_verdict("", Verdict::Deny);
    let events = use_tool(&host, "echo fine", json!({}));
    assert_eq!(semantics(&events, "tool_start").len(), 1);
    let stages: Vec<&Value> =
        of_type(&events, "run.policy_audit").into_iter().map(|event| &event["payload"]["stage"]).collect();
    assert_eq!(stages, ["start", "spawn"]);
    assert_eq!(warning_codes(&events), [""; 0]);
}

#[test]
fn denied_use_ends_the_run_if_configured() {
    let host = host_with_verdict(END, Verdict::Deny);
    let prompt = format!("RUN echo {WORD}; sleep 600");
    let done = host.run(&["run", "--json", "--retries", "2", "rehearsal", &prompt]).code(4);
    let events = done.json_lines();
    check_run_events(&events);
    let end = end_of(&events).unwrap();
    assert_eq!((&end["type"], &end["payload"]["reason"]), (&json!("run.failed"), &json!("policy_denied")), "{end}");
    let message = end["payload"]["message"].as_str().unwrap();
    let name = semantics(&events, "tool_start")[0]["name"].as_str().unwrap();
    for part in [&format!("the tool {name},"), "the policy strict denies", "not with this word"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!(records(&events).len(), 1);
    assert_eq!(warning_codes(&events), [""; 0], "the terminal event contains the reason");
    assert_eq!(of_type(&events, "run.started").len(), 1, "the run was retried");
    host.assert_nothing_runs(Duration::from_secs(2));
    let record = host.record(events[0]["runId"].as_str().unwrap());
    assert_eq!((&record["status"], &record["reason"]), (&json!("failed"), &json!("policy_denied")), "{record}");
    assert!(use_tool(&host, "echo fine", json!({})).iter().any(|event| event["type"] == "run.completed"));
}

#[test]
fn denial_after_the_end_of_the_cli_fails_the_run() {
    // The policy takes longer than the CLI.
    let host = test_host(END, &[("evil", hostile::policy_at_tool("evil", Fault::Loop))]);
    let events = use_tool(&host, &say_word(), json!({}));
    let end = &end_of(&events).unwrap()["payload"];
    assert_eq!(end["reason"], "policy_denied", "{events:#?}");
    let message = end["message"].as_str().unwrap();
    assert!(message.contains("policy evil") && message.contains(Fault::Loop.message_part()), "{message}");

    // A process that the CLI has left behind reports the use.
    let host = host_with_result_reporter(&format!("{END}[runner]\nexit_grace_ms = 20000\n"));
    host.file("script", format!("(sleep 1; {}) & exit 0", say_word()));
    let events = host.events_of(&["reporter", "hello"]);
    check_run_events(&events);
    let index_of = |kind: &str| events.iter().position(|event| event["type"] == kind).unwrap();
    assert!(index_of("run.cli_exit") < index_of("run.semantic"), "{events:#?}");
    assert_eq!(end_of(&events).unwrap()["payload"]["reason"], "policy_denied", "{events:#?}");
}

/// A provider component that was built against the first version of the plugin interface. It is kept as it was built then.
#[test]
fn component_of_the_first_interface_version_still_runs() {
    let component = include_bytes!("../plugins/provider-0.1.0.wasm");
    let host = test_host("", &[("reporter", component.to_vec())]);
    host.file("script", say_word());
    let events = host.events_of(&["reporter", "hello"]);
    check_run_events(&events);
    assert_eq!(end_of(&events).unwrap()["type"], "run.completed", "{events:#?}");
    assert_eq!(semantics(&events, "tool_result").len(), 2, "{events:#?}");
    // It has no sessions, and says so.
    let payload = host.payload("hello", &json!({"provider": "reporter"}));
    let error = host.call("start_interactive_session", &payload).unwrap_err();
    assert_eq!((error.kind(), &error.data()["pointer"]), ("INVALID_PARAMS", &json!("/mode")), "{}", error.text());
}

#[test]
fn ask_verdict_denies_and_other_findings_are_only_recorded() {
    for (verdict, name, codes) in
        [(Verdict::Ask, "ask", vec!["TOOL_DENIED"]), (Verdict::Warn, "warn", vec![]), (Verdict::Allow, "allow", vec![])]
    {
        for config in ["", END] {
            let host = host_with_verdict(config, verdict);
            let events = use_tool(&host, &say_word(), json!({}));
            assert_eq!(records(&events)[0]["verdict"], name, "{events:#?}");
            let ends = config == END && verdict == Verdict::Ask;
            let reason = if ends { "policy_denied" } else { "completed" };
            assert_eq!(end_of(&events).unwrap()["payload"]["reason"], reason, "{name}");
            assert_eq!(warning_codes(&events), if ends { vec![] } else { codes.clone() }, "{name}");
        }
    }
}

#[test]
fn failing_policy_denies_a_use_within_its_time_limit() {
    for fault in [Fault::Loop, Fault::Trap] {
        let host = test_host("", &[("evil", hostile::policy_at_tool("evil", fault))]);
        let begin = Instant::now();
        let events = use_tool(&host, &say_word(), json!({}));
        assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
        assert_eq!(end_of(&events).unwrap()["type"], "run.completed", "{events:#?}");
        assert_eq!(records(&events)[0]["findings"][0]["check"], "policy-failed", "{events:#?}");
        assert_eq!(warning_codes(&events), ["TOOL_DENIED"]);
        let message = of_type(&events, "run.warning")[0]["payload"]["message"].as_str().unwrap();
        assert!(message.contains("policy evil") && message.contains(fault.message_part()), "{message}");
        assert_eq!(message.matches("evil").count(), 1, "{message}");
    }
}

#[test]
fn policy_that_fails_on_many_uses_is_not_disabled_for_other_runs() {
    let host = test_host("", &[("evil", hostile::policy_at_tool("evil", Fault::Trap))]);
    for _ in 0..6 {
        let events = use_tool(&host, &say_word(), json!({}));
        assert_eq!(records(&events)[0]["findings"][0]["check"], "policy-failed", "{events:#?}");
        let message = of_type(&events, "run.warning")[0]["payload"]["message"].as_str().unwrap();
        assert!(message.contains(Fault::Trap.message_part()), "{message}");
    }
    let events = use_tool(&host, "echo fine", json!({}));
    assert_eq!(end_of(&events).unwrap()["type"], "run.completed", "{events:#?}");
    assert_eq!(warning_codes(&events), [""; 0]);
}

#[test]
fn failing_provider_ends_the_run_if_denials_end_it() {
    for (config, ends) in [(END, true), ("", false)] {
        let host = test_host(config, &[("evil", hostile::provider("evil", ProviderStage::Read, Fault::Trap))]);
        host.file("script", format!("{}; sleep {}; touch done", say_word(), if ends { 600 } else { 1 }));
        let events = host.events_of(&["evil", "hello"]);
        check_run_events(&events);
        assert_eq!(end_of(&events).unwrap()["payload"]["reason"], "plugin_failed", "{events:#?}");
        assert_eq!(warning_codes(&events).iter().filter(|code| **code == "PLUGIN_FAILED").count(), 1);
        assert_eq!(host.work().join("done").exists(), !ends);
        host.assert_nothing_runs(Duration::from_secs(2));
    }
}

#[test]
fn too_long_line_counts_as_an_unchecked_use() {
    const SHORT: &str = "[runner]\nmax_transcript_line_mib = 1\n";
    let long = "head -c 2000000 /dev/zero | tr '\\0' x; echo";
    for (config, reason) in [("", "completed"), (END, "policy_denied")] {
        let host = host_with_result_reporter(&format!("{config}{SHORT}"));
        host.file("script", long);
        let events = host.events_of(&["reporter", "hello"]);
        check_run_events(&events);
        let [record] = records(&events)[..] else { panic!("{events:#?}") };
        assert_eq!(record["findings"][0]["check"], "tool-not-judged", "{record}");
        let denied = warning_codes(&events).iter().filter(|code| **code == "TOOL_DENIED").count();
        assert_eq!(denied, usize::from(config.is_empty()));
        assert_eq!(end_of(&events).unwrap()["payload"]["reason"], reason, "{config}");
    }
    // Without a policy for tool uses, the line has no effect.
    let host = test_host(&format!("{END}{SHORT}"), &[("reporter", tools::reporter_of_results("reporter", WORD))]);
    host.file("script", long);
    let events = host.events_of(&["reporter", "hello"]);
    assert_eq!((records(&events).len(), &end_of(&events).unwrap()["payload"]["reason"]), (0, &json!("completed")));
}

#[test]
fn policy_gets_only_the_facts_that_it_requests() {
    let spotter =
        || tools::policy_that_wants(&[], hostile::SPAWN, "spotter", "rehearse", Verdict::Allow, "it is the stand-in");
    for (group, word) in [("tools", "byKind\":"), ("payload", "\"prompt\""), ("findings", "spotter\"")] {
        for wanted in [true, false] {
            let wants = if wanted { &[group][..] } else { &[] };
            let strict = tools::policy_that_wants(wants, hostile::TOOL, "strict", word, Verdict::Warn, "seen");
            let host = test_host("", &[("spotter", spotter()), ("strict", strict)]);
            let events = use_tool(&host, "echo fine", json!({}));
            assert_eq!(records(&events).len(), usize::from(wanted), "{group}: {events:#?}");
        }
    }
}

#[test]
fn secrets_in_a_denied_use_stay_hidden() {
    // Only this test uses this secret: tests share compiled policies, and the policy contains it.
    let secret = "plain-words-that-a-tool-used".to_owned();
    let variables = json!({ "harness": { "processEnv": { "DEPLOY_TOKEN": secret } } });
    for config in ["", END] {
        let policy = tools::policy("strict", WORD, Verdict::Deny, &format!("not with {secret}"));
        let host = test_host(config, &[("strict", policy)]);
        let events = use_tool(&host, &format!("echo {WORD} {secret}"), variables.clone());
        let text = serde_json::to_string(&events).unwrap();
        assert!(text.contains("not with [REDACTED:") && !text.contains(&secret), "{text}");
        let (plugins, cache) = (host.home().join("plugins"), host.home().join("cache"));
        SecretProbe::new(std::slice::from_ref(&secret)).assert_not_below(&host.home(), &[&plugins, &cache]);
    }
}

#[test]
fn use_with_only_a_result_is_checked_once() {
    let host = host_with_result_reporter("");
    host.file("script", say_word());
    let events = host.events_of(&["reporter", "hello"]);
    check_run_events(&events);
    assert_eq!((semantics(&events, "tool_start").len(), semantics(&events, "tool_result").len()), (0, 2));
    let [record] = records(&events)[..] else { panic!("{events:#?}") };
    assert_eq!(record["tool"], json!({ "id": "use-1", "tool": "other", "name": "" }));
    assert_eq!(warning_codes(&events).iter().filter(|code| **code == "TOOL_DENIED").count(), 1);
}

#[test]
fn each_attempt_is_checked_separately() {
    let host = host_with_verdict("", Verdict::Deny);
    // The tool kills the rehearsal, so that the attempt fails.
    let command = format!("echo {WORD}; kill -9 $PPID");
    let events = use_tool(&host, &command, json!({ "maxRetries": 1, "retryBackoffMs": 100 }));
    assert_eq!(of_type(&events, "run.started").len(), 2, "{events:#?}");
    assert_eq!(records(&events).len(), 2, "one decision for each attempt");
}
