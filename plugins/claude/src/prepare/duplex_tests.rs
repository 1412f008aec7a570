//! The command line with the control protocol.
#![allow(clippy::unwrap_used, clippy::panic)]

use ostler_plugin::provider::RunMode;
use ostler_provider_kit_testing::launches::{self, attachment, dropped, has, request};
use serde_json::Value;

use super::*;
use crate::detect::tests::{installed, newest};

const CONTROL: [&str; 2] = ["--input-format=stream-json", "--permission-prompt-tool=stdio"];
const NOBODY: &str = "--permission-prompts=none";

fn request_of(mode: RunMode, extra: &Value, payload: &Value) -> RunRequest {
    let mut request = RunRequest { mode, ..request(payload) };
    request.host.extra = Some(extra.to_string());
    request
}

fn launch(request: &RunRequest) -> Launch {
    prepare(&Settings::default(), request, &newest()).unwrap()
}

/// The launch of a session in which each tool use is decided.
fn session(payload: &Value) -> Launch {
    launch(&request_of(RunMode::Interactive, &all(), payload))
}

fn all() -> Value {
    json!({"approvals": true, "everyTool": true})
}

fn permissions(permissions: &Value) -> Value {
    json!({"harness": {"permissions": permissions}})
}

fn mode(launch: &Launch) -> Option<&str> {
    launch.args.iter().rev().find_map(|arg| arg.strip_prefix("--permission-mode="))
}

#[test]
fn session_talks_over_both_streams() {
    let launch = session(&json!({}));
    assert!(CONTROL.iter().all(|arg| has(&launch, arg)), "{:?}", launch.args);
    assert_eq!((launch.channel, &launch.stdin, mode(&launch)), (Channel::Duplex, &None, Some("default")));
    let variable = launch.environment.iter().find(|entry| entry.name == "CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS");
    assert_eq!(variable.map(|entry| entry.value.as_str()), Some("1"));
    // The settings of the folder do not apply, those of the user do.
    let at = launch.args.iter().position(|arg| arg == "--setting-sources").unwrap();
    assert_eq!(launch.args[at + 1], "user");
    assert!(has(&launch, "--add-dir=/work"), "the folder's CLAUDE.md is still read");
}

#[test]
fn repository_settings_apply_only_if_the_grant_trusts_them() {
    let trusted = json!({"approvals": true, "everyTool": true, "trustedSettings": true});
    let launch = launch(&request_of(RunMode::Interactive, &trusted, &json!({})));
    assert!(!launch.args.iter().any(|arg| arg == "--setting-sources"));
}

#[test]
fn run_without_approvals_is_as_before() {
    let payload = json!({"harness": {"permissions": {"approvalPolicy": "on-request"}}});
    for extra in [json!({}), json!({"approvals": false, "everyTool": true})] {
        let launch = launch(&request_of(RunMode::NonInteractive, &extra, &payload));
        assert_eq!((launch.channel, launch.stdin.as_deref()), (Channel::Pipes, Some(&b"do it"[..])));
        assert!(!CONTROL.iter().any(|arg| has(&launch, arg)) && !has(&launch, NOBODY));
        assert_eq!(dropped(&launch), [("/harness/permissions/approvalPolicy", true)]);
    }
}

#[test]
fn versions_without_the_protocol_refuse_sessions_and_run_as_before() {
    let session = request_of(RunMode::Interactive, &all(), &json!({}));
    assert!(matches!(prepare(&Settings::default(), &session, &installed()), Err(Error::Unsupported(_))));
    let run = request_of(RunMode::NonInteractive, &all(), &json!({}));
    assert_eq!(prepare(&Settings::default(), &run, &installed()).unwrap().channel, Channel::Pipes);
}

/// Everything that is not about permissions is passed on as without the protocol.
#[test]
fn every_other_field_is_passed_on_as_without_the_protocol() {
    let server = json!({"name": "db", "command": "db", "env": {"KEY": "x"}, "disabledTools": ["drop"]});
    let schema = json!({"schema": {"type": "object"}});
    for payload in [
        json!({"harness": {"additionalDirectories": ["/a", "/b"]}}),
        json!({"harness": {"tools": ["shell", "file_read"]}}),
        json!({"harness": {"limits": {"maxTurns": 3, "maxBudgetUsd": 0.5}}}),
        json!({"harness": {"mcp": {"servers": [server]}}}),
        json!({"harness": {"structuredOutput": schema}}),
        json!({"harness": {"systemPrompt": "be brief", "appendSystemPrompt": "be kind"}}),
        json!({"harness": {"pipedContent": "a log"}}),
        json!({"harness": {"continueSession": true}}),
        json!({"harness": {"processEnv": {"MAX_THINKING_TOKENS": "1"}}}),
        json!({"harness": {"shellPrelude": "true", "cliAllowlist": ["ls"]}}),
        json!({"harness": {"permissions": {"networkAccess": false}}}),
        json!({"harness": {"permissions": {"networkAccess": true}}}),
        json!({"harness": {"permissions": {"sandboxMode": "read-only"}}}),
        json!({"harness": {"permissions": {"sandboxMode": "workspace-write"}}}),
        json!({"harness": {"permissions": {"autoApprove": false}}}),
        json!({"harness": {"files": [{"name": "a.txt", "mimeType": "text/plain"}]}}),
        json!({"outputFormat": "json"}),
        json!({"optionalFlags": {"--effort": "high", "--fork-session": true}}),
    ] {
        let mut print = request_of(RunMode::NonInteractive, &json!({}), &payload);
        print.model = Some("opus".to_owned());
        print.attachments = vec![attachment("a.txt", "text/plain", "/private/a.txt")];
        for resume in [None, Some("11111111-2222-4333-8444-555555555555")] {
            print.resume_session = resume.map(str::to_owned);
            let mut session = RunRequest { mode: RunMode::Interactive, ..print.clone() };
            session.host.extra = Some(all().to_string());
            let (before, after) = (launch(&print), launch(&session));
            let args = |launch: &Launch| {
                let mut args = launch.args.clone();
                args.retain(|arg| !CONTROL.contains(&arg.as_str()) && arg != "--permission-mode=default");
                args
            };
            assert_eq!(args(&before), args(&after), "{payload}");
            assert_eq!(before.files, after.files, "{payload}");
            assert_eq!(before.dropped, after.dropped, "{payload}");
            assert_eq!(before.environment.len() + 1, after.environment.len(), "{payload}");
            // The message is that of standard input.
            let payload = Payload::parse(&session.payload).unwrap();
            let message = first_message(&session, &payload.harness);
            assert_eq!(before.stdin.as_deref(), Some(message.as_bytes()));
        }
    }
}

#[test]
fn approval_policy_decides_who_is_asked() {
    let (session, run) = (RunMode::Interactive, RunMode::NonInteractive);
    let asked = json!({"approvals": true});
    for (run_mode, extra, policy, expected, permission_mode) in [
        (session, json!({}), None, true, Some("default")),
        (session, json!({}), Some("never"), false, None),
        (session, all(), Some("untrusted"), true, Some("default")),
        (run, asked.clone(), Some("on-request"), true, Some("default")),
        (run, asked.clone(), None, false, None),
        // What a policy allows is not denied because claude cannot ask.
        (run, all(), None, true, Some("default")),
        (run, all(), Some("never"), false, None),
    ] {
        let payload = policy.map_or(json!({}), |policy| permissions(&json!({"approvalPolicy": policy})));
        let launch = launch(&request_of(run_mode, &extra, &payload));
        assert_eq!(has(&launch, CONTROL[1]), expected, "{run_mode:?} {extra} {policy:?}");
        assert_eq!(has(&launch, NOBODY), !expected);
        assert_eq!(mode(&launch), permission_mode, "{run_mode:?} {extra} {policy:?}");
        assert!(launch.dropped.is_empty(), "{:?}", launch.dropped);
    }
    let launch = launch(&request_of(run, &asked, &permissions(&json!({"approvalPolicy": "on-failure"}))));
    assert_eq!(dropped(&launch), [("/harness/permissions/approvalPolicy", false)]);
}

#[test]
fn sandbox_mode_and_policy_select_the_permission_mode() {
    for (sandbox, policy, sandboxed, expected) in [
        ("read-only", "on-request", false, "dontAsk"),
        ("read-only", "untrusted", false, "dontAsk"),
        // The host's sandbox holds what is allowed.
        ("read-only", "on-request", true, "default"),
        ("workspace-write", "on-request", false, "acceptEdits"),
        ("workspace-write", "untrusted", false, "default"),
        ("full-access", "on-request", false, "acceptEdits"),
        ("full-access", "untrusted", false, "default"),
    ] {
        let extra = json!({"approvals": true, "sandboxed": sandboxed});
        let payload = permissions(&json!({"sandboxMode": sandbox, "approvalPolicy": policy}));
        let launch = launch(&request_of(RunMode::Interactive, &extra, &payload));
        assert_eq!(mode(&launch), Some(expected), "{sandbox} {policy} {sandboxed}");
        assert!(launch.dropped.is_empty(), "{sandbox} {policy}: {:?}", launch.dropped);
    }
}

#[test]
fn automatic_approval_is_left_to_the_host_if_it_wants_to_see_what_is_approved() {
    let payload = permissions(&json!({"autoApprove": true}));
    let seen = session(&payload);
    assert_eq!((mode(&seen), has(&seen, CONTROL[1])), (Some("default"), true));
    let unseen = launch(&request_of(RunMode::Interactive, &json!({}), &payload));
    assert_eq!(mode(&unseen), Some("bypassPermissions"));
    // Not even its own rules approve a server's tools.
    let payload = json!({"harness": {
        "permissions": {"autoApprove": true}, "mcp": {"servers": [{"name": "db", "command": "db"}]},
    }});
    assert!(!launches::file(&session(&payload), "settings.json").contains("mcp__db"));
}

#[test]
fn flag_that_skips_permissions_contradicts_being_asked_about_everything() {
    let payload = json!({
        "optionalFlags": {"--dangerously-skip-permissions": true},
        "harness": {"permissions": {"approvalPolicy": "untrusted"}},
    });
    let mut request = request_of(RunMode::Interactive, &all(), &payload);
    request.host.root = false;
    let problems = launches::problems(prepare(&Settings::default(), &request, &newest()));
    assert_eq!(problems, ["/optionalFlags/--dangerously-skip-permissions"]);
}

#[test]
fn flag_that_disables_hooks_contradicts_deciding_about_each_use() {
    let bare = json!({"optionalFlags": {"--bare": true}});
    let refused = prepare(&Settings::default(), &request_of(RunMode::Interactive, &all(), &bare), &newest());
    assert_eq!(launches::problems(refused), ["/optionalFlags/--bare"]);
    let asked = launch(&request_of(RunMode::Interactive, &json!({"approvals": true}), &bare));
    assert!(has(&asked, "--bare"));
}

#[test]
fn session_may_begin_without_a_message_and_a_run_may_not() {
    let blank = |mode: RunMode| {
        let mut request = request_of(mode, &all(), &json!({}));
        request.prompt = " ".to_owned();
        prepare(&Settings::default(), &request, &newest())
    };
    assert!(blank(RunMode::Interactive).is_ok());
    assert_eq!(launches::problems(blank(RunMode::NonInteractive)), ["/prompt"]);
}
