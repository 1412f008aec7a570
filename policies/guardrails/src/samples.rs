//! Payloads, contexts and command lines for the tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ostler_plugin::policy::{Action, CheckedPath, Context, Finding, LaunchSummary, Verdict};
use ostler_plugin::{Plugin, Policy};
use serde_json::{Value, json};

use crate::{Guardrails, Settings};

pub(crate) const CODEX: &str = "/usr/local/bin/codex";

pub(crate) fn path(pointer: &str, path: &str, grant: Option<&str>) -> CheckedPath {
    CheckedPath {
        pointer: pointer.to_owned(),
        path: path.to_owned(),
        resolved: path.to_owned(),
        exists: true,
        grant: grant.map(str::to_owned),
    }
}

/// A run in a granted folder, with a codex that has a few flags.
pub(crate) fn context() -> Context {
    let flag = |name: &str, values: &str, advanced: bool, widens: &[&str]| {
        json!({
            "name": name, "summary": "", "values": values, "advanced": advanced, "widens": widens
        })
    };
    let all =
        ["sandboxMode", "autoApprove", "networkAccess", "approvalPolicy", "tools", "additionalDirectories", "mcp"];
    let capabilities = json!({
        "provider": "codex", "plugin": "codex", "support": "supported", "cliVersion": "0.169.0", "executable": CODEX,
        "features": ["sandbox"], "modes": ["non-interactive"], "reasons": [],
        "optionalFlags": [
            flag("--ephemeral", "none", false, &[]),
            flag("--local-provider", "one", false, &[]),
            flag("--config", "many", true, &all),
            flag("--worktree", "none", true, &["additionalDirectories"]),
            flag("--trust", "none", true, &["mcp", "approvalPolicy"]),
            flag("--dangerously-bypass-approvals-and-sandbox", "none", true, &all),
            flag("--odd", "none", false, &["something-new"]),
        ]
    });
    Context {
        cwd: "/projects/project".to_owned(),
        workspace_grant: Some("/projects".to_owned()),
        paths: vec![path("/cwd", "/projects/project", Some("/projects"))],
        capabilities: capabilities.to_string(),
        ..Context::default()
    }
}

/// A valid payload with changes.
pub(crate) fn payload(changes: &Value) -> Value {
    let mut payload = json!({"provider": "codex", "prompt": "say hello", "cwd": "/projects/project"});
    merge(&mut payload, changes);
    payload
}

fn merge(into: &mut Value, changes: &Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (name, change) in changes {
                merge(into.entry(name.clone()).or_insert(Value::Null), change);
            }
        }
        (into, changes) => *into = changes.clone(),
    }
}

pub(crate) fn evaluate(settings: &Value, action: Action, context: Context) -> Vec<Finding> {
    let settings: Settings = serde_json::from_value(settings.clone()).unwrap();
    let findings = Guardrails::configure(settings).unwrap().evaluate(action, context);
    for finding in &findings {
        let kebab = finding.check.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        assert!(kebab && !finding.check.is_empty(), "{finding:?}");
        assert!(!finding.message.is_empty(), "{finding:?}");
        assert!(finding.verdict != Verdict::Deny || finding.hint.is_some(), "a denial has a hint: {finding:?}");
    }
    findings
}

/// `check pointer` of each denial.
pub(crate) fn denials(findings: &[Finding]) -> Vec<String> {
    let denied = findings.iter().filter(|finding| finding.verdict == Verdict::Deny);
    denied.map(|found| format!("{} {}", found.check, found.pointer.as_deref().unwrap_or("-"))).collect()
}

pub(crate) fn start_with(settings: &Value, context: Context, changes: &Value) -> Vec<String> {
    denials(&evaluate(settings, Action::Start(payload(changes).to_string()), context))
}

pub(crate) fn start(changes: &Value) -> Vec<String> {
    start_with(&json!({}), context(), changes)
}

pub(crate) fn launch(args: &[&str]) -> LaunchSummary {
    LaunchSummary {
        executable: CODEX.to_owned(),
        args: args.iter().map(|argument| (*argument).to_owned()).collect(),
        environment_names: vec!["HOME".to_owned(), "PATH".to_owned()],
        cwd: "/projects/project".to_owned(),
        files: Vec::new(),
    }
}

/// The context of a spawn with this harness.
pub(crate) fn spawn_context(harness: &Value) -> Context {
    let payload = payload(&json!({"harness": harness}));
    Context { run_id: Some("run".to_owned()), attempt: 1, facts: json!({"payload": payload}).to_string(), ..context() }
}
