//! Tests of the whole policy.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod commands;
mod evasions;
mod files;
mod properties;
mod settings;

use ostler_plugin::policy::{Action, CheckedPath, Context, FileAccess, FileEffect, Finding, ToolCall, Verdict};
use ostler_plugin::{Plugin, Policy};
use serde_json::{Value, json};

use crate::Tools;

pub(crate) const CWD: &str = "/home/me/src/project";

pub(crate) fn policy(settings: &Value) -> Tools {
    Tools::configure(serde_json::from_value(settings.clone()).unwrap()).unwrap()
}

pub(crate) fn defaults() -> Tools {
    policy(&json!({"defaults": true}))
}

pub(crate) fn context() -> Context {
    Context {
        cwd: CWD.to_owned(),
        workspace_grant: Some(CWD.to_owned()),
        user: "me".to_owned(),
        provider: "codex".to_owned(),
        ..Context::default()
    }
}

pub(crate) fn call(kind: &str, name: &str) -> ToolCall {
    ToolCall {
        id: "1".to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        input: "{}".to_owned(),
        commands: Vec::new(),
        cwd: None,
        files: Vec::new(),
        urls: Vec::new(),
        mcp: None,
        parent: None,
        extra: None,
    }
}

pub(crate) fn shell(command: &str) -> ToolCall {
    ToolCall { commands: vec![command.to_owned()], ..call("shell", "Bash") }
}

/// A use of files, and how the host resolves them.
pub(crate) fn files(kind: &str, uses: &[(&str, FileEffect)]) -> (ToolCall, Context) {
    let mut call = call(kind, "Files");
    let mut at = context();
    for (index, (path, effect)) in uses.iter().enumerate() {
        call.files.push(FileAccess { path: (*path).to_owned(), effect: *effect, change: None });
        let resolved = if path.starts_with('/') { (*path).to_owned() } else { format!("{CWD}/{path}") };
        let grant = resolved.starts_with(CWD).then(|| CWD.to_owned());
        at.paths.push(CheckedPath {
            pointer: format!("/files/{index}"),
            path: (*path).to_owned(),
            resolved,
            exists: true,
            grant,
        });
    }
    (call, at)
}

pub(crate) fn findings_of(policy: &Tools, call: ToolCall, context: Context) -> Vec<Finding> {
    let findings = policy.evaluate(Action::Tool(call), context);
    for finding in &findings {
        assert!(!finding.message.is_empty() && finding.verdict >= Verdict::Ask, "{finding:?}");
        assert!(!finding.message.contains(['\u{f8f0}', '\u{f8f1}', '\u{f8f2}']), "{finding:?}");
    }
    findings
}

pub(crate) fn findings(policy: &Tools, command: &str) -> Vec<Finding> {
    findings_of(policy, shell(command), context())
}

/// The strictest verdict on a command, and its check.
pub(crate) fn verdict(policy: &Tools, command: &str) -> String {
    summary(&findings(policy, command))
}

pub(crate) fn summary(findings: &[Finding]) -> String {
    let Some(first) = findings.first() else { return "allow".to_owned() };
    let verdict = if first.verdict == Verdict::Deny { "deny" } else { "ask" };
    format!("{verdict} {}", first.check)
}

pub(crate) fn strictness(policy: &Tools, command: &str) -> u8 {
    match findings(policy, command).first().map(|finding| finding.verdict) {
        None => 0,
        Some(Verdict::Deny) => 2,
        Some(_) => 1,
    }
}

/// Checks each command of a table, and reports all that differ.
pub(crate) fn check(policy: &Tools, table: &[(&str, &str)]) {
    let wrong: Vec<String> = table
        .iter()
        .map(|(command, expected)| (command, expected, findings(policy, command)))
        .filter(|(_, expected, found)| {
            let found = summary(found);
            found != **expected && found.split(' ').next() != Some(**expected)
        })
        .map(|(command, expected, found)| {
            let messages: Vec<&str> = found.iter().map(|finding| finding.message.as_str()).collect();
            format!("{command:?}: expected {expected}, found {}: {messages:#?}", summary(&found))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn policy_is_inactive_without_settings() {
    let inactive = policy(&json!({}));
    assert_eq!(inactive.wants(), ["no-tools"]);
    assert_eq!(verdict(&inactive, "rm -rf /"), "allow");
    for settings in [json!({"defaults": true}), json!({"unclear": "deny"}), json!({"rules": []})] {
        assert_eq!(policy(&settings).wants(), ["tool-decisions"], "{settings}");
    }
    let nothing = json!({"defaults": false, "unclear": "allow"});
    assert_eq!(policy(&nothing).wants(), ["no-tools"], "nothing can be found");
    let other = defaults().evaluate(Action::Input("rm -rf /".to_owned()), context());
    assert!(other.is_empty());
}

#[test]
fn uses_that_cannot_be_judged_are_asked_about() {
    let policy = defaults();
    let cut = |pointers: Value| ToolCall { extra: Some(json!({"cut": pointers}).to_string()), ..shell("ls") };
    let summary_of = |call: ToolCall| summary(&findings_of(&policy, call, context()));
    assert_eq!(summary_of(cut(json!(["/commands/0"]))), "ask shortened");
    assert_eq!(summary_of(cut(json!("yes"))), "ask shortened");
    assert_eq!(summary_of(cut(json!(["/files/0/change"]))), "allow", "what a file contains does not matter");
    assert_eq!(summary_of(call("shell", "Bash")), "ask unclear-command", "no command");
    assert_eq!(summary_of(call("other", "")), "ask unclear-command", "only a result");
    assert_eq!(summary_of(call("other", "TodoWrite")), "allow");
    let strict = super::tests::policy(&json!({"unclear": "deny"}));
    assert_eq!(summary(&findings_of(&strict, cut(json!(["/input"])), context())), "deny shortened");
    let many = ToolCall { commands: vec!["ls".to_owned(); 101], ..shell("ls") };
    assert_eq!(summary_of(many), "ask too-complex");
}

#[test]
fn messages_name_the_command_and_the_way_out() {
    let policy = defaults();
    for (command, message) in [
        ("git push --force origin main", "`git push --force` overwrites commits of the remote repository"),
        ("cd /etc && rm -rf x", "`rm -r` deletes x, which is outside the workspace and would be deleted"),
        ("cat ~/.ssh/id_rsa", "`cat` reads ~/.ssh/id_rsa, which holds private keys or passwords"),
        (
            "curl http://169.254.169.254/latest",
            "`curl` uses 169.254.169.254, which serves the access data of this machine in a cloud",
        ),
        ("rm -rf \"$X\"", "(perhaps: a part of the command is only known when it runs)"),
        ("$X a", "the program `…` is only known when the command runs"),
        ("if", "the command cannot be parsed as bash: "),
    ] {
        let found = findings(&policy, command);
        assert!(found.iter().any(|finding| finding.message.contains(message)), "{command}: {found:#?}");
        assert!(found.iter().all(|finding| finding.hint.is_some()), "{command}: {found:#?}");
    }
    let secret = "curl -T x -H 'Authorization: Bearer secret' https://u:secret@example.com";
    assert!(findings(&policy, secret).iter().all(|finding| !finding.message.contains("secret")));
}
