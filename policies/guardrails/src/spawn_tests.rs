#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ostler_plugin::policy::{Action, Context, LaunchFile, LaunchSummary, Verdict};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::samples::{CODEX, context, denials, evaluate, launch, path, spawn_context};

fn spawn(harness: &Value, args: &[&str]) -> Vec<String> {
    denials(&evaluate(&json!({}), Action::Spawn(launch(args)), spawn_context(harness)))
}

fn spawn_of(plugin: &str, harness: &Value, args: &[&str]) -> Vec<String> {
    let context = Context { plugin: plugin.to_owned(), ..spawn_context(harness) };
    denials(&evaluate(&json!({}), Action::Spawn(launch(args)), context))
}

#[expect(clippy::needless_pass_by_value, reason = "calls are shorter")]
fn permissions(value: Value) -> Value {
    json!({"permissions": value})
}

/// What the codex plugin creates for such payloads.
#[test]
fn command_lines_that_match_the_payload_are_allowed() {
    let read_only = ["exec", "--json", "--skip-git-repo-check", "-c", "allow_login_shell=false", "--model=m"];
    let tail = ["--sandbox=read-only", "-c", "approval_policy=\"never\"", "--", "-"];
    let args: Vec<&str> = read_only.into_iter().chain(tail).collect();
    assert_eq!(spawn(&permissions(json!({"sandboxMode": "read-only", "approvalPolicy": "never"})), &args), [""; 0]);
    assert_eq!(spawn(&json!({}), &args), [""; 0]);
    let write = ["exec", "--sandbox=workspace-write", "-c", "sandbox_workspace_write.network_access=true", "--", "-"];
    assert_eq!(spawn(&permissions(json!({"sandboxMode": "workspace-write", "networkAccess": true})), &write), [""; 0]);
    let full = ["exec", "--sandbox=danger-full-access", "--", "-"];
    assert_eq!(spawn(&permissions(json!({"sandboxMode": "full-access"})), &full), [""; 0]);
    let folder = ["exec", "--sandbox=workspace-write", "--add-dir=/projects/lib", "--", "-"];
    assert_eq!(spawn(&permissions(json!({"sandboxMode": "workspace-write"})), &folder), [""; 0]);
}

#[test]
fn every_spelling_that_disables_the_sandbox_is_denied() {
    let spellings: [&[&str]; 14] = [
        &["--sandbox", "danger-full-access"],
        &["--sandbox=danger-full-access"],
        &["-s", "danger-full-access"],
        &["-sdanger-full-access"],
        &["-s=danger-full-access"],
        &["-c", "sandbox_mode=\"danger-full-access\""],
        &["-csandbox_mode='danger-full-access'"],
        &["--config", "sandbox_mode = danger-full-access"],
        &["--config=\"sandbox_mode\"=\"danger-full-access\""],
        &["-c", "sandbox_mode=\"an unknown mode\""],
        &["--no-sandbox"],
        &["--sandbox=false"],
        &["--dangerously-something-new"],
        &["-c", "default_permissions=\"everything\""],
    ];
    for spelling in spellings {
        for harness in [
            json!({}),
            permissions(json!({"sandboxMode": "read-only"})),
            permissions(json!({"sandboxMode": "workspace-write"})),
        ] {
            let found = spawn(&harness, &[&["exec"], spelling, &["--sandbox=read-only"]].concat());
            assert_eq!(found.len(), 1, "{spelling:?} with {harness}: {found:?}");
        }
        let full = permissions(json!({"sandboxMode": "full-access"}));
        assert_eq!(spawn(&full, &[&["exec"], spelling].concat()), [""; 0], "{spelling:?}");
    }
    let write = permissions(json!({"sandboxMode": "read-only"}));
    assert_eq!(spawn(&write, &["-s", "workspace-write"]), ["sandbox-widened -"]);
}

#[test]
fn every_spelling_that_disables_approval_is_denied() {
    let bypass = ["exec", "--dangerously-bypass-approvals-and-sandbox"];
    assert_eq!(spawn(&json!({}), &bypass), ["sandbox-widened -", "approval-widened -"]);
    assert_eq!(spawn(&permissions(json!({"autoApprove": true})), &bypass), ["sandbox-widened -"]);
    assert_eq!(spawn(&permissions(json!({"sandboxMode": "full-access"})), &bypass), ["approval-widened -"]);
    for spelling in [
        ["--dangerously-skip-permissions", ""],
        ["--permission-mode", "bypassPermissions"],
        ["--permission-mode=bypassPermissions", ""],
        ["--settings", "{\"permissions\": {\"defaultMode\": \"bypassPermissions\"}}"],
    ] {
        assert_eq!(spawn_of("claude", &json!({}), &spelling), ["approval-widened -"], "{spelling:?}");
        assert_eq!(spawn_of("claude", &permissions(json!({"autoApprove": true})), &spelling), [""; 0], "{spelling:?}");
    }
    assert_eq!(spawn_of("gemini", &json!({}), &["-y"]), ["approval-widened -"]);
    assert_eq!(spawn_of("gemini", &json!({}), &["--approval-mode", "yolo"]), ["approval-widened -"]);
    assert_eq!(
        spawn_of("claude", &permissions(json!({"sandboxMode": "read-only"})), &["--permission-mode", "acceptEdits"]),
        ["sandbox-widened -"]
    );
    assert_eq!(spawn_of("claude", &json!({}), &["--permission-mode", "acceptEdits"]), [""; 0]);
    let policy = permissions(json!({"approvalPolicy": "untrusted"}));
    assert_eq!(spawn(&policy, &["-c", "approval_policy=\"never\""]), ["approval-widened -"]);
    assert_eq!(spawn(&policy, &["-a", "untrusted"]), [""; 0]);
}

#[test]
fn network_access_is_denied_unless_requested() {
    let args = ["-c", "sandbox_workspace_write.network_access=true"];
    assert_eq!(spawn(&permissions(json!({"networkAccess": false})), &args), ["network-widened -"]);
    let findings = evaluate(&json!({}), Action::Spawn(launch(&args)), spawn_context(&json!({})));
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].check.as_str(), findings[0].verdict), ("network-unasked", Verdict::Warn));
}

#[test]
fn added_folders_outside_a_grant_are_denied() {
    assert_eq!(spawn(&json!({}), &["--add-dir", "/etc"]), ["directory-widened -"]);
    assert_eq!(spawn(&json!({}), &["--add-dir", "/projects/../etc"]), ["directory-widened -"]);
    assert_eq!(
        spawn_of("claude", &json!({}), &["--add-dir", "/projects/a", "/etc", "--print"]),
        ["directory-widened -"]
    );
    assert_eq!(spawn_of("gemini", &json!({}), &["--include-directories", "/projects/a,/etc"]), ["directory-widened -"]);
    assert_eq!(spawn(&json!({}), &["-C", "/"]), ["directory-widened -"]);
    // A link inside a grant that leads out of it, as resolved by the host.
    let mut context = spawn_context(&json!({}));
    context.paths.push(path("/harness/additionalDirectories/0", "/projects/link", None));
    let found = denials(&evaluate(&json!({}), Action::Spawn(launch(&["--add-dir", "/projects/link"])), context));
    assert_eq!(found, ["directory-in-grant /harness/additionalDirectories/0", "directory-widened -"]);
    // The run's own private folder.
    let mut own = launch(&["--add-dir", "/run/private/x"]);
    own.files.push(LaunchFile { path: "/run/private/x/a.md".to_owned(), text: None });
    assert!(denials(&evaluate(&json!({}), Action::Spawn(own), spawn_context(&json!({})))).is_empty());
}

#[test]
fn arguments_after_the_end_of_flags_are_not_checked_as_flags() {
    assert_eq!(
        spawn(&json!({}), &["exec", "--", "--dangerously-bypass-approvals-and-sandbox", "-s", "danger-full-access"]),
        [""; 0]
    );
    assert_eq!(spawn_of("command", &json!({}), &["-c", "echo sandbox_mode=danger-full-access"]), [""; 0]);
    assert_eq!(spawn_of("command", &json!({}), &["the prompt says --yolo"]), [""; 0]);
    assert_eq!(spawn(&json!({}), &["--yolo=false"]), [""; 0]);
}

#[test]
fn permissions_in_private_files_are_checked() {
    let with_file = |harness: &Value, name: &str, text: Option<&str>| {
        let mut launch = launch(&["exec"]);
        launch.files.push(LaunchFile { path: format!("/private/{name}"), text: text.map(str::to_owned) });
        evaluate(&json!({}), Action::Spawn(launch), spawn_context(harness))
    };
    let toml = "# settings\nmodel = \"m\" # sandbox_mode = \"danger-full-access\"\nsandbox_mode = \"danger-full-access\" # yes\n";
    assert_eq!(denials(&with_file(&json!({}), "config.toml", Some(toml))), ["sandbox-widened -"]);
    let table = "[sandbox_workspace_write]\nnetwork_access = true\n";
    let forbidden = permissions(json!({"networkAccess": false}));
    assert_eq!(denials(&with_file(&forbidden, "config.toml", Some(table))), ["network-widened -"]);
    let lines = "[sandbox_workspace_write]\nwritable_roots = [\n  \"/\",\n]\n";
    assert_eq!(denials(&with_file(&json!({}), "config.toml", Some(lines))), ["permissions-unreadable -"]);
    let settings = json!({"permissions": {"defaultMode": "bypassPermissions", "additionalDirectories": ["/etc"]}});
    let found = with_file(&json!({}), "settings.json", Some(&settings.to_string()));
    assert_eq!(denials(&found), ["approval-widened -", "directory-widened -"]);
    assert_eq!(denials(&with_file(&json!({}), "settings.json", Some("{"))), ["permissions-unreadable -"]);
    let schema = json!({"type": "object", "properties": {"defaultMode": {"type": "string"}}});
    assert!(with_file(&json!({}), "output-schema.json", Some(&schema.to_string())).is_empty());
    assert!(with_file(&json!({}), "system-prompt.md", Some(toml)).is_empty(), "prose is not a setting");
    let unread = with_file(&json!({}), "settings.json", None);
    assert_eq!((unread[0].check.as_str(), unread[0].verdict), ("file-unread", Verdict::Warn));
}

#[test]
fn program_other_than_the_verified_one_is_denied() {
    let run = |executable: &str, capabilities: Option<&str>| {
        let launch = LaunchSummary { executable: executable.to_owned(), ..launch(&[]) };
        let mut context = spawn_context(&json!({}));
        if let Some(capabilities) = capabilities {
            capabilities.clone_into(&mut context.capabilities);
        }
        denials(&evaluate(&json!({}), Action::Spawn(launch), context))
    };
    assert!(run(CODEX, None).is_empty());
    for other in ["codex", "", "./codex", "/usr/local/bin/../bin/codex", "/usr/local/bin/./codex", "/bin/sh"] {
        assert_eq!(run(other, None), ["executable-verified -"], "{other:?}");
    }
    assert_eq!(run(CODEX, Some("{}")), ["executable-verified -"], "nothing was verified");
    assert_eq!(run(CODEX, Some("nonsense")), ["executable-verified -"]);
}

#[test]
fn grant_that_was_revoked_in_the_meantime_is_denied() {
    let revoked = Context { workspace_grant: None, paths: Vec::new(), ..spawn_context(&json!({})) };
    assert_eq!(denials(&evaluate(&json!({}), Action::Spawn(launch(&[])), revoked)), ["cwd-in-grant /cwd"]);
    let elsewhere = LaunchSummary { cwd: "/etc".to_owned(), ..launch(&[]) };
    assert_eq!(
        denials(&evaluate(&json!({}), Action::Spawn(elsewhere), spawn_context(&json!({})))),
        ["cwd-in-grant /cwd"]
    );
    // The target of a link: the run starts in the resolved folder.
    let mut linked = spawn_context(&json!({}));
    linked.paths[0].path = "/home/me/link".to_owned();
    linked.workspace_grant = None;
    assert!(denials(&evaluate(&json!({}), Action::Spawn(launch(&[])), linked)).is_empty());
}

#[test]
fn flags_are_checked_again_before_spawn() {
    let queued = crate::samples::payload(&json!({"optionalFlags": {"--worktree": true, "--gone": true}}));
    let context = Context { facts: json!({"payload": queued}).to_string(), ..spawn_context(&json!({})) };
    let found = denials(&evaluate(&json!({}), Action::Spawn(launch(&["exec", "--worktree"])), context));
    assert_eq!(found, ["flag-advanced /optionalFlags/--worktree", "flag-unlisted /optionalFlags/--gone"]);
}

#[test]
fn dangerous_arguments_are_denied_if_the_payload_is_unknown() {
    let context = Context { facts: "{}".to_owned(), ..context() };
    let check = |args: &[&str]| evaluate(&json!({}), Action::Spawn(launch(args)), context.clone());
    let findings = check(&["exec", "--sandbox=read-only"]);
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].check.as_str(), findings[0].verdict), ("payload-unknown", Verdict::Warn));
    assert_eq!(denials(&check(&["--sandbox=danger-full-access"])), ["sandbox-widened -"]);
}

#[test]
fn control_characters_in_the_command_line_are_denied() {
    let mut odd = launch(&["a\u{0}b", "two\nlines"]);
    odd.environment_names.push("A\nB".to_owned());
    let found = denials(&evaluate(&json!({}), Action::Spawn(odd), spawn_context(&json!({}))));
    assert_eq!(found, ["control-characters -", "control-characters -"]);
}

#[test]
fn messages_do_not_contain_values() {
    let args = ["-c", "sandbox_mode=\"sk-secret-value\"", "-c", "approval_policy=\"sk-secret-value\""];
    let harness = permissions(json!({"approvalPolicy": "never"}));
    let findings = evaluate(&json!({}), Action::Spawn(launch(&args)), spawn_context(&harness));
    assert_eq!(findings.len(), 2);
    assert!(!format!("{findings:?}").contains("sk-secret"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// A bypass is found at any position before the end of flags.
    #[test]
    fn bypass_is_found_among_other_arguments(
        before in prop::collection::vec("(--[a-z]{1,8}(=[a-z]{0,4})?|[a-z]{1,5})", 0..6),
        after in prop::collection::vec("\\PC{0,8}", 0..6),
    ) {
        // A flag that takes a value would consume a word, but never another flag.
        let mut args = before;
        args.push("--dangerously-bypass-approvals-and-sandbox".to_owned());
        args.extend(after);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let found = spawn(&json!({}), &args);
        prop_assert!(found.contains(&"sandbox-widened -".to_owned()), "{:?}", found);
    }

    #[test]
    fn arbitrary_command_lines_do_not_panic(
        args in prop::collection::vec("\\PC{0,12}|-[cs]=?[a-z_.=\"\\[\\]]{0,20}", 0..8),
        plugin in "(codex|claude|gemini|command)",
        name in "[a-z./]{0,12}(json|toml)?",
        text in "\\PC*|[\\[\\]a-z_.=\"\n{}:]{0,80}",
    ) {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut launch = launch(&args);
        launch.files.push(LaunchFile { path: name, text: Some(text) });
        let context = Context { plugin, ..spawn_context(&json!({})) };
        evaluate(&json!({}), Action::Spawn(launch), context);
    }
}

#[test]
fn cli_sandbox_may_be_off_if_the_host_enforces_it() {
    let with_host_sandbox = |harness: &Value, args: &[&str], sandbox: Value| {
        let queued = crate::samples::payload(harness);
        let facts = json!({"payload": queued, "sandbox": sandbox}).to_string();
        denials(&evaluate(&json!({}), Action::Spawn(launch(args)), Context { facts, ..spawn_context(&json!({})) }))
    };
    let read_only = permissions(json!({"sandboxMode": "read-only"}));
    let args = ["exec", "--sandbox=danger-full-access"];
    assert_eq!(with_host_sandbox(&read_only, &args, json!({"files": true, "network": true})), [""; 0]);
    assert_eq!(with_host_sandbox(&read_only, &args, json!({"files": false, "network": true})), ["sandbox-widened -"]);
    assert_eq!(with_host_sandbox(&read_only, &args, json!(7)), ["sandbox-widened -"]);
}
