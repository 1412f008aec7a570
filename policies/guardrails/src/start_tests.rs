#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ostler_plugin::policy::{Action, Context};
use ostler_plugin::{Plugin, Policy};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::samples::{context, denials, evaluate, path, start, start_with};
use crate::{Guardrails, Settings};

fn advanced() -> Context {
    Context { advanced: true, ..context() }
}

#[test]
fn valid_payload_has_no_findings() {
    assert!(start(&json!({})).is_empty());
    let full = json!({
        "model": "m", "mode": "non-interactive", "queuePriority": -10, "timeoutSeconds": 604_800, "maxRetries": 10,
        "retryBackoffMs": 600_000, "optionalFlags": {"--ephemeral": true, "--local-provider": "ollama"},
        "prompt": "two\nlines\tand ünïcödé",
        "harness": {
            "permissions": {"sandboxMode": "workspace-write", "autoApprove": true, "networkAccess": false},
            "limits": {"timeoutMs": 5000, "maxTurns": 1, "maxBudgetUsd": 0.5, "maxToolResultLines": 0},
            "pipedContent": "\u{1b}[31mred\u{1b}[0m",
            "processEnv": {"CERT": "a\nb"},
            "cliAllowlist": {"entries": [{"name": "git", "path": "/usr/bin/git", "args": ["-c", "x"], "env": {"A": "b"}}]},
            "shellPrelude": {"content": "set -e\n", "shEnv": false},
            "structuredOutput": {"schema": {"description": "two\nlines"}}
        }
    });
    assert_eq!(start(&full), [""; 0]);
}

#[test]
fn all_problems_are_reported_at_once() {
    let changes = json!({
        "prompt": " \n", "queuePriority": 11, "timeoutSeconds": 4, "maxRetries": -1, "retryBackoffMs": 99,
        "harness": {"limits": {"timeoutMs": 4999, "maxToolResultLines": 20_001, "maxTurns": 0, "maxBudgetUsd": -1}}
    });
    assert_eq!(
        start(&changes),
        [
            "priority-range /queuePriority",
            "timeout-range /timeoutSeconds",
            "retries-range /maxRetries",
            "backoff-range /retryBackoffMs",
            "limit-timeout-range /harness/limits/timeoutMs",
            "tool-result-lines-range /harness/limits/maxToolResultLines",
            "turns-range /harness/limits/maxTurns",
            "budget-range /harness/limits/maxBudgetUsd",
            "prompt-blank /prompt",
        ]
    );
    assert_eq!(start(&json!({"timeoutSeconds": "300", "queuePriority": 1.5})).len(), 2, "wrong types are denied, too");
    assert!(start(&json!({"timeoutSeconds": null, "harness": null})).is_empty(), "null is missing");
}

#[test]
fn document_that_is_not_a_payload_is_denied() {
    for text in ["", "[]", "{", "null"] {
        let findings = evaluate(&json!({}), Action::Start(text.to_owned()), context());
        assert_eq!(denials(&findings), ["payload-readable -"], "{text:?}");
    }
}

#[test]
fn auto_approve_without_a_sandbox_is_denied() {
    let permissions = |value: Value| json!({"harness": {"permissions": value}});
    let both = permissions(json!({"sandboxMode": "full-access", "autoApprove": true}));
    assert_eq!(start(&both), ["auto-approve-full-access /harness/permissions/autoApprove"]);
    for fine in [
        json!({"sandboxMode": "full-access", "autoApprove": false}),
        json!({"sandboxMode": "full-access"}),
        json!({"sandboxMode": "workspace-write", "autoApprove": true}),
        json!({"autoApprove": true}),
    ] {
        assert!(start(&permissions(fine.clone())).is_empty(), "{fine}");
    }
    let odd = permissions(json!({"sandboxMode": "none", "autoApprove": "yes", "approvalPolicy": "sometimes"}));
    assert_eq!(
        start(&odd),
        [
            "sandbox-mode-known /harness/permissions/sandboxMode",
            "permission-readable /harness/permissions/autoApprove",
            "approval-policy-known /harness/permissions/approvalPolicy",
        ]
    );
}

#[test]
fn folders_outside_a_grant_after_resolving_links_are_denied() {
    let mut outside = context();
    outside.paths[0].grant = None;
    assert_eq!(start_with(&json!({}), outside, &json!({})), ["cwd-in-grant /cwd"]);

    let mut link = context();
    "/etc".clone_into(&mut link.paths[0].resolved);
    assert_eq!(
        start_with(&json!({}), link, &json!({})),
        ["cwd-in-grant /cwd"],
        "the grant must contain the resolved path"
    );

    let unseen = Context { paths: Vec::new(), ..context() };
    assert_eq!(start_with(&json!({}), unseen, &json!({})), ["cwd-in-grant /cwd"], "a path that was not resolved");
    assert_eq!(start(&json!({"cwd": "/projects/other"})), ["cwd-in-grant /cwd"], "another path was resolved");
    assert_eq!(start(&json!({"cwd": null})), ["cwd-in-grant /cwd"]);
    assert_eq!(start(&json!({"cwd": "project"})), ["cwd-in-grant /cwd"]);

    let mut several = context();
    several.paths.push(path("/harness/additionalDirectories/0", "/projects/lib", Some("/projects")));
    several.paths.push(path("/harness/additionalDirectories/1", "/etc", None));
    several.paths.push(path("/harness/images/0/path", "/home/me/.ssh/id", None));
    several.paths.push(path("/harness/cliAllowlist/binDir", "/usr/bin", None));
    let changes = json!({"harness": {
        "additionalDirectories": ["/projects/lib", "/etc", "/never-looked-up", 7],
        "images": [{"name": "a", "mimeType": "image/png", "path": "/home/me/.ssh/id"}],
        "files": [{"name": "b", "mimeType": "text/plain", "dataUrl": "data:,x"}],
        "cliAllowlist": {"entries": [{"name": "ls", "path": "/bin/ls"}], "binDir": "/usr/bin"}
    }});
    assert_eq!(
        start_with(&json!({}), several, &changes),
        [
            "directory-in-grant /harness/additionalDirectories/1",
            "directory-in-grant /harness/additionalDirectories/2",
            "directory-in-grant /harness/additionalDirectories/3",
            "attachment-in-grant /harness/images/0/path",
            "allowlist-folder-in-grant /harness/cliAllowlist/binDir",
        ]
    );
}

#[test]
fn unlisted_flags_and_disabled_advanced_flags_are_denied() {
    let flags = |value: Value| json!({"optionalFlags": value});
    assert_eq!(start(&flags(json!({"--nope": true}))), ["flag-unlisted /optionalFlags/--nope"]);
    assert_eq!(start(&flags(json!({"--a/b": false}))), ["flag-unlisted /optionalFlags/--a~1b"]);
    assert_eq!(start(&flags(json!({"--worktree": true}))), ["flag-advanced /optionalFlags/--worktree"]);
    assert!(start(&flags(json!({"--worktree": false}))).is_empty(), "a flag that is off has no effect");
    assert!(start_with(&json!({}), advanced(), &flags(json!({"--worktree": true}))).is_empty());
    for wrong in [json!({"--ephemeral": "yes"}), json!({"--local-provider": true}), json!({"--local-provider": ["a"]})]
    {
        let name = wrong.as_object().unwrap().keys().next().unwrap().clone();
        assert_eq!(start(&flags(wrong)), [format!("flag-value /optionalFlags/{name}")]);
    }
    for capabilities in ["", "{\"optionalFlags\": 3}"] {
        let unknown = Context { capabilities: capabilities.to_owned(), ..context() };
        assert_eq!(
            start_with(&json!({}), unknown, &flags(json!({"--ephemeral": true}))),
            ["flag-unlisted /optionalFlags"]
        );
    }
}

#[test]
fn flags_that_weaken_a_restriction_are_denied() {
    let run = |flags: Value, harness: Value| {
        start_with(&json!({}), advanced(), &json!({"optionalFlags": flags, "harness": harness}))
    };
    let widened = ["flag-widens /optionalFlags/--config"];
    let config = || json!({"--config": ["model_reasoning_effort=high"]});
    for restricting in [
        json!({"permissions": {"sandboxMode": "read-only"}}),
        json!({"permissions": {"sandboxMode": "workspace-write"}}),
        json!({"permissions": {"autoApprove": false}}),
        json!({"permissions": {"networkAccess": false}}),
        json!({"permissions": {"approvalPolicy": "untrusted"}}),
        json!({"tools": []}),
        json!({"mcp": {"servers": []}}),
    ] {
        assert_eq!(run(config(), restricting.clone()), widened, "{restricting}");
    }
    assert!(run(config(), json!({})).is_empty(), "nothing is restricted");
    assert_eq!(run(json!({"--trust": true}), json!({"mcp": {}})), ["flag-widens /optionalFlags/--trust"]);
    assert!(run(json!({"--trust": true}), json!({"permissions": {"networkAccess": false}})).is_empty());
    assert_eq!(
        run(json!({"--odd": true}), json!({"permissions": {"networkAccess": false}})),
        ["flag-widens /optionalFlags/--odd"],
        "an unknown field counts as restricted"
    );
}

#[test]
fn flags_that_complete_a_forbidden_combination_are_denied() {
    let run = |flags: Value, permissions: Value| {
        let changes = json!({"optionalFlags": flags, "harness": {"permissions": permissions}});
        start_with(&json!({}), advanced(), &changes)
    };
    let bypass = || json!({"--dangerously-bypass-approvals-and-sandbox": true});
    let at = "/optionalFlags/--dangerously-bypass-approvals-and-sandbox";
    for permissions in [json!({"sandboxMode": "full-access"}), json!({"autoApprove": true})] {
        let found = run(bypass(), permissions.clone());
        assert!(found.contains(&format!("auto-approve-full-access {at}")), "{permissions}: {found:?}");
    }
    assert_eq!(run(bypass(), json!({})), [format!("sandbox-widened {at}"), format!("approval-widened {at}")]);
    let config = |setting: &str| json!({"--config": [setting]});
    for (setting, check) in [
        ("sandbox_mode=\"danger-full-access\"", Some("sandbox-widened")),
        (" 'sandbox_mode' = danger-full-access", Some("sandbox-widened")),
        ("permissions.all.write=[\"/\"]", Some("permissions-unreadable")),
        ("sandbox_workspace_write={network_access=true}", Some("permissions-unreadable")),
        ("sandbox_workspace_write.writable_roots=[\"/etc\"]", Some("directory-widened")),
        ("sandbox_workspace_write.writable_roots=[\"/projects/x\"]", None),
        ("sandbox_mode=\"read-only\"", None),
        ("model=\"sandbox_mode=danger-full-access\"", None),
    ] {
        let expected: Vec<String> = check.map(|check| format!("{check} /optionalFlags/--config")).into_iter().collect();
        assert_eq!(run(config(setting), json!({})), expected, "{setting}");
    }
}

#[test]
fn control_characters_and_nul_are_denied() {
    let cases = [
        (json!({"prompt": "a\u{0}b"}), "/prompt"),
        (json!({"prompt": "a\u{1b}[2Jb"}), "/prompt"),
        (json!({"prompt": "a\u{9b}b"}), "/prompt"),
        (json!({"model": "a\nb"}), "/model"),
        (json!({"harness": {"pipedContent": "a\u{0}"}}), "/harness/pipedContent"),
        (json!({"harness": {"systemPrompt": "a\u{7f}"}}), "/harness/systemPrompt"),
        (json!({"harness": {"resumeSessionId": "a\tb"}}), "/harness/resumeSessionId"),
        (json!({"harness": {"processEnv": {"A": "\u{7}"}}}), "/harness/processEnv/A"),
        (json!({"harness": {"shellPrelude": {"content": "a\u{0}"}}}), "/harness/shellPrelude/content"),
        (
            json!({"harness": {"structuredOutput": {"schema": {"title": "\u{0}"}}}}),
            "/harness/structuredOutput/schema/title",
        ),
        (json!({"harness": {"mcp": {"servers": [{"url": "http://a\r\nb"}]}}}), "/harness/mcp/servers/0/url"),
        (json!({"harness": {"tools": ["shell\n"]}}), "/harness/tools/0"),
        (json!({"unknown": {"deep": ["\u{1}"]}}), "/unknown/deep/0"),
    ];
    for (changes, pointer) in cases {
        assert_eq!(start(&changes), [format!("control-characters {pointer}")]);
    }
    let name = json!({"unknown": {"a\nb": 1}});
    assert_eq!(start(&name), ["control-characters /unknown/a\nb"], "names are checked, too");
    let input = |text: &str| denials(&evaluate(&json!({}), Action::Input(text.to_owned()), context()));
    assert_eq!(input("a\u{0}"), ["control-characters -"]);
    assert!(input("two\nlines").is_empty());
}

#[test]
fn invalid_allowlists_and_preludes_are_denied() {
    let changes = json!({"harness": {
        "cliAllowlist": {
            "entries": [
                {"name": "git", "path": "/usr/bin/git"},
                {"name": "git", "path": "usr/bin/git"},
                {"name": "../sh", "path": "/bin/../bin/sh"},
                {"name": "-x", "path": "/bin/", "env": {"1": "a", "LD_PRELOAD": "/tmp/x.so", "B": 1}},
                {}
            ],
            "wrapperName": "run", "keepBinDir": true
        },
        "shellPrelude": {"bashEnv": false, "shEnv": false},
        "processEnv": {"A B": "x", "LD_AUDIT": "x"}
    }});
    assert_eq!(
        start(&changes),
        [
            "allowlist-name /harness/cliAllowlist/entries/1/name",
            "allowlist-path /harness/cliAllowlist/entries/1/path",
            "allowlist-name /harness/cliAllowlist/entries/2/name",
            "allowlist-path /harness/cliAllowlist/entries/2/path",
            "allowlist-name /harness/cliAllowlist/entries/3/name",
            "allowlist-path /harness/cliAllowlist/entries/3/path",
            "environment-name /harness/cliAllowlist/entries/3/env/1",
            "environment-forbidden /harness/cliAllowlist/entries/3/env/LD_PRELOAD",
            "environment-value /harness/cliAllowlist/entries/3/env/B",
            "allowlist-name /harness/cliAllowlist/entries/4/name",
            "allowlist-path /harness/cliAllowlist/entries/4/path",
            "allowlist-wrapper /harness/cliAllowlist/wrapperName",
            "allowlist-folder /harness/cliAllowlist/keepBinDir",
            "prelude-content /harness/shellPrelude/content",
            "prelude-target /harness/shellPrelude",
            "environment-name /harness/processEnv/A B",
            "environment-forbidden /harness/processEnv/LD_AUDIT",
        ]
    );
    let empty = json!({"harness": {"cliAllowlist": {"entries": []}}});
    assert_eq!(start(&empty), ["allowlist-entries /harness/cliAllowlist/entries"]);
    let wrapper = json!({"harness": {"cliAllowlist": {
        "entries": [{"name": "[", "path": "/usr/bin/["}], "mode": "wrapper", "wrapperName": "a/b"
    }}});
    assert_eq!(start(&wrapper), ["allowlist-name /harness/cliAllowlist/wrapperName"]);
    let long = json!({"harness": {"shellPrelude": {"content": "x".repeat((1 << 20) + 1)}}});
    assert_eq!(start(&long), ["prelude-content /harness/shellPrelude/content"]);
}

#[test]
fn settings_restrict_modes_and_time() {
    let modes = json!({"sandboxModes": ["read-only"]});
    let sandbox = |mode: &str| json!({"harness": {"permissions": {"sandboxMode": mode}}});
    let denied = ["sandbox-mode-allowed /harness/permissions/sandboxMode"];
    assert!(start_with(&modes, context(), &sandbox("read-only")).is_empty());
    assert_eq!(start_with(&modes, context(), &sandbox("workspace-write")), denied);
    assert_eq!(start_with(&modes, context(), &json!({})), denied, "the CLI's default mode is unknown");

    let time = json!({"maxTimeoutSeconds": 60});
    assert_eq!(
        start_with(&time, context(), &json!({})),
        ["timeout-allowed /timeoutSeconds"],
        "the default time limit is longer"
    );
    assert!(start_with(&time, context(), &json!({"timeoutSeconds": 60})).is_empty());
    assert!(start_with(&time, context(), &json!({"harness": {"limits": {"timeoutMs": 60_000}}})).is_empty());

    let variables = json!({"forbiddenEnvironment": ["NODE_*", "X"]});
    let changes = json!({"harness": {"processEnv": {"NODE_OPTIONS": "a", "X": "b", "XY": "c", "LD_PRELOAD": "d"}}});
    assert_eq!(start_with(&variables, context(), &changes).len(), 2);
}

#[test]
fn schema_describes_the_settings() {
    let schema: Value = serde_json::from_str(&Guardrails::settings_schema().unwrap()).unwrap();
    let defaults: serde_json::Map<_, _> = schema["properties"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, field)| (name.clone(), field["default"].clone()))
        .collect();
    let stated: Settings = serde_json::from_value(Value::Object(defaults)).unwrap();
    assert_eq!(format!("{stated:?}"), format!("{:?}", Settings::default()));
    assert!(serde_json::from_value::<Settings>(json!({"unknown": 1})).is_err());
}

#[test]
fn number_of_findings_is_limited_without_losing_a_denial() {
    let names: serde_json::Map<_, _> = (0..5000).map(|n| (format!("{n}"), json!("x"))).collect();
    let payload = crate::samples::payload(&json!({"harness": {"processEnv": names}}));
    let findings = evaluate(&json!({}), Action::Start(payload.to_string()), context());
    assert_eq!(findings.len(), 201);
    assert_eq!(findings[200].check, "findings-omitted");
    assert!(!denials(&findings).is_empty());
}

#[test]
fn other_actions_have_no_findings() {
    let other = ostler_plugin::policy::OtherAction { kind: "something".to_owned(), payload: "{}".to_owned() };
    assert!(evaluate(&json!({}), Action::Other(other), context()).is_empty());
    let guardrails = Guardrails::configure(Settings::default()).unwrap();
    assert_eq!(guardrails.wants(), ["payload", "sandbox", "no-tools"]);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,6}".prop_map(Value::from),
        Just(json!("full-access")),
    ];
    leaf.prop_recursive(3, 20, 5, |inner| {
        let name = prop_oneof![
            "[a-z/~]{0,6}",
            prop::sample::select(
                &["entries", "servers", "permissions", "sandboxMode", "limits", "env", "name", "path", "--config"][..]
            )
            .prop_map(str::to_owned),
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(name, inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Arbitrary values do not cause a panic, and every finding has a name.
    #[test]
    fn arbitrary_documents_do_not_panic(
        field in prop::sample::select(&[
            "harness", "optionalFlags", "prompt", "cwd", "timeoutSeconds", "provider", "other",
        ][..]),
        value in any_json(),
        inner in prop::sample::select(&[
            "permissions", "cliAllowlist", "shellPrelude", "processEnv", "mcp", "limits", "additionalDirectories", "files",
        ][..]),
        advanced in any::<bool>(),
    ) {
        let at = Context { advanced, ..context() };
        start_with(&json!({}), at.clone(), &json!({field: value.clone()}));
        start_with(&json!({}), at, &json!({"harness": {inner: value}}));
    }

    /// A number is accepted exactly if it is in the range.
    #[test]
    fn range_limits_are_exact(priority in -15_i64..15, timeout in prop_oneof![0_i64..20, 604_000_i64..606_000]) {
        let found = start(&json!({"queuePriority": priority, "timeoutSeconds": timeout}));
        prop_assert_eq!(found.iter().any(|one| one.starts_with("priority")), !(-10..=10).contains(&priority));
        prop_assert_eq!(found.iter().any(|one| one.starts_with("timeout-range")), !(5..=604_800).contains(&timeout));
    }
}
