//! The bundled policy `tools`: its verdicts on tool uses, with the real host and the compiled plugin.

use crate::support::{TestHost, check_run_events, end_of, of_type, semantics, warning_codes};
use serde_json::{Value, json};

/// The policy with its built-in rules. Nobody answers what it asks.
const ACTIVE: &str = "[policy]\napproval_timeout_seconds = 5\n[plugins.policy.tools.settings]\ndefaults = true\n";

fn test_host(config: &str) -> TestHost {
    let host = TestHost::with_config(config);
    host.run(&["grants", "add", host.work().to_str().unwrap()]).ok();
    host
}

/// Runs a command as a tool of the rehearsal.
fn use_tool(host: &TestHost, command: &str) -> Vec<Value> {
    let events = host.wait_for_end(&host.submit(&format!("RUN {command}"), &json!({})).unwrap());
    check_run_events(&events);
    events
}

/// `verdict check` of each finding about tool uses.
fn findings(events: &[Value]) -> Vec<String> {
    let audits = of_type(events, "run.policy_audit").into_iter().map(|event| &event["payload"]);
    let tools = audits.filter(|audit| audit["stage"] == "tool");
    let findings = tools.flat_map(|audit| audit["findings"].as_array().unwrap());
    let findings = findings.inspect(|finding| assert_eq!(finding["policy"], "tools", "{finding}"));
    findings.map(|finding| format!("{} {}", finding["verdict"], finding["check"]).replace('"', "")).collect()
}

#[test]
fn denied_command_is_recorded_and_does_not_run() {
    let host = test_host(ACTIVE);
    // The commands do no harm: the files do not exist.
    for (command, expected, decided_by) in [
        ("touch made; cat ~/.ssh/id_none", "deny key-material", "policy"),
        ("touch made; sh -c \"rm -rf /nowhere/at/all\"", "deny destructive-files", "policy"),
        ("touch made; git push", "ask publishing", "timeout"),
        ("touch made; $(echo x)", "ask unclear-command", "timeout"),
    ] {
        let events = use_tool(&host, command);
        assert_eq!(findings(&events).first().map(String::as_str), Some(expected), "{command}: {events:#?}");
        let [decided] = semantics(&events, "approval_decided")[..] else { panic!("{command}: {events:#?}") };
        assert_eq!((&decided["decision"], &decided["decidedBy"]), (&json!("deny"), &json!(decided_by)), "{command}");
        assert!(!host.work().join("made").exists(), "{command}");
        assert_eq!(end_of(&events).unwrap()["type"], "run.completed", "the agent is told and goes on");
    }
    let events = use_tool(&host, "echo fine > file; cat file | wc -l");
    assert_eq!((findings(&events), end_of(&events).unwrap()["type"].as_str()), (Vec::new(), Some("run.completed")));
    assert!(host.work().join("file").exists());
}

#[test]
fn policy_is_inactive_without_settings() {
    for config in ["", "[plugins.policy.tools]\n"] {
        let host = test_host(config);
        let events = use_tool(&host, "false && rm -rf /nowhere");
        assert_eq!(findings(&events), [""; 0], "{events:#?}");
        assert_eq!(warning_codes(&events), [""; 0]);
    }
}

#[test]
fn complex_commands_do_not_break_the_plugin() {
    let host = test_host(ACTIVE);
    let deep = |depth: usize| format!("false && {}rm -rf /nowhere{}", "( ".repeat(depth), ")".repeat(depth));
    let substitutions = format!("false && echo {}rm -rf /nowhere{}", "$( ".repeat(11), ")".repeat(11));
    for (command, expected) in [
        (deep(59), "deny destructive-files"),
        (substitutions, "deny destructive-files"),
        (deep(70), "ask too-complex"),
        (format!("true; {}", "x=a; ".repeat(900)), "none"),
        (format!("false && {}", "sh -c ".repeat(500)), "none"),
        (format!("false && cat {}", "~/.ssh/x $y ".repeat(900)), "deny key-material"),
    ] {
        let found = findings(&use_tool(&host, &command));
        assert_eq!(found.first().map_or("none", String::as_str), expected, "{}", &command[..40]);
    }
}

#[test]
fn wrong_settings_are_named_with_their_place() {
    let rule = "[[plugins.policy.tools.settings.rules]]\n";
    let host = TestHost::with_config(&format!(
        "{ACTIVE}disabledChecks = [\"publish\"]\n{rule}name = \"a\"\ndecision = \"deny\"\nmcp = [\"github\"]\n"
    ));
    let shown = host.run(&["plugin", "list"]).all();
    for part in ["did you mean `publishing`?", "every tool of the server is `github/*`"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}
