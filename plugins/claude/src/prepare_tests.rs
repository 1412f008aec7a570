#![allow(clippy::unwrap_used, clippy::panic)]

use ostler_plugin::provider::RunMode;
use ostler_provider_kit_testing::launches::{self, attachment, dropped, file, has, request};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::detect::tests::installed;
use crate::settings::Source;

fn launch(request: &RunRequest) -> Launch {
    prepare(&Settings::default(), request, &installed()).unwrap()
}

fn of(harness: &Value) -> Launch {
    launch(&request(&json!({ "harness": harness })))
}

fn with(settings: &Value, harness: &Value) -> Launch {
    let settings: Settings = serde_json::from_value(settings.clone()).unwrap();
    prepare(&settings, &request(&json!({ "harness": harness })), &installed()).unwrap()
}

fn problems(request: &RunRequest) -> Vec<String> {
    launches::problems(prepare(&Settings::default(), request, &installed()))
}

fn json_file(launch: &Launch, path: &str) -> Value {
    serde_json::from_str(file(launch, path)).unwrap()
}

/// The argument after the last occurrence of a flag.
fn after(launch: &Launch, flag: &str) -> Option<String> {
    let position = launch.args.iter().rposition(|arg| arg == flag)?;
    launch.args.get(position + 1).cloned()
}

/// Rules in the private settings.
fn rules(launch: &Launch, list: &str) -> Vec<String> {
    if !launch.files.iter().any(|file| file.path == "settings.json") {
        return Vec::new();
    }
    assert_eq!(after(launch, "--settings").as_deref(), Some("/private/settings.json"));
    let rules = json_file(launch, "settings.json")["permissions"][list].clone();
    serde_json::from_value::<Option<Vec<String>>>(rules).unwrap().unwrap_or_default()
}

fn variable<'a>(launch: &'a Launch, name: &str) -> Option<&'a str> {
    launch.environment.iter().find(|entry| entry.name == name).map(|entry| entry.value.as_str())
}

const BASE: [&str; 4] = ["--print", "--output-format=stream-json", "--verbose", "--include-partial-messages"];

#[test]
fn minimal_request_has_the_default_arguments() {
    let launch = of(&json!({}));
    let mut args = BASE.to_vec();
    args.extend(["--setting-sources", "user", "--add-dir=/work"]);
    args.push("--session-id=00000000-0000-4000-8000-000000000000");
    args.extend(["--settings", "/private/settings.json"]);
    assert_eq!(launch.args, args);
    assert_eq!(launch.stdin.as_deref(), Some(&b"do it"[..]));
    assert!(launch.dropped.is_empty());
    // No model decides instead of the user.
    assert_eq!(json_file(&launch, "settings.json"), json!({"permissions": {"disableAutoMode": "disable"}}));
    assert_eq!(launch.stop, StopSignal::Interrupt);
    for (name, value) in [
        ("DISABLE_AUTOUPDATER", "1"),
        ("CLAUDE_CODE_MAX_RETRIES", "2"),
        ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
        ("DISABLE_TELEMETRY", "1"),
        ("DISABLE_ERROR_REPORTING", "1"),
    ] {
        assert_eq!(variable(&launch, name), Some(value), "{name}");
    }
}

#[test]
fn instructions_of_a_resumed_message_replace_the_first_ones() {
    let newer = Capabilities {
        extra: installed()
            .extra
            .map(|extra| extra.replace("\"--resume\"", "\"--resume\",\"--system-prompt-snapshot\"")),
        ..installed()
    };
    let off = |capabilities: &Capabilities, harness: Value, resume: bool| {
        let resume_session = resume.then(|| "00000000-0000-4000-8000-000000000001".to_owned());
        let request = RunRequest { resume_session, ..request(&json!({ "harness": harness })) };
        has(&prepare(&Settings::default(), &request, capabilities).unwrap(), "--system-prompt-snapshot=off")
    };
    for harness in [json!({"systemPrompt": "x"}), json!({"appendSystemPrompt": "x"}), json!({"tools": ["shell"]})] {
        assert!(off(&newer, harness.clone(), true), "{harness}");
        assert!(!off(&newer, harness.clone(), false) && !off(&installed(), harness, true));
    }
    assert!(off(&newer, json!({"continueSession": true, "systemPrompt": "x"}), false));
    assert!(!off(&newer, json!({}), true));
}

#[test]
fn prompts_are_passed_on_standard_input() {
    for prompt in ["--help", "-", "x\u{0}y", &"long ".repeat(60 * 1024)] {
        let launch = launch(&RunRequest { prompt: prompt.to_owned(), ..request(&json!({})) });
        assert_eq!(launch.stdin.unwrap(), prompt.as_bytes());
        assert!(!launch.args.iter().any(|arg| arg == prompt));
    }
    assert_eq!(problems(&RunRequest { prompt: " \n".to_owned(), ..request(&json!({})) }), ["/prompt"]);
    let framed = of(&json!({"inputFormat": "stream-json", "pipedContent": "a\nb"}));
    assert!(has(&framed, "--input-format=stream-json") && dropped(&framed).is_empty());
    let input = String::from_utf8(framed.stdin.unwrap()).unwrap();
    assert_eq!(input.lines().count(), 1);
    let message: Value = serde_json::from_str(&input).unwrap();
    assert_eq!(message["message"]["content"][0]["text"], "do it\n\n<stdin>\na\nb\n</stdin>");
}

#[test]
fn permissions_select_the_permission_mode() {
    let permissions = |permissions: Value| of(&json!({ "permissions": permissions }));
    let mode = |launch: &Launch| {
        let mut modes = launch.args.iter().filter_map(|arg| arg.strip_prefix("--permission-mode="));
        let mode = modes.next().map(str::to_owned);
        assert!(modes.next().is_none());
        mode
    };
    for (harness, expected, options) in [
        (json!({}), None, &[][..]),
        (json!({"autoApprove": false}), Some("default"), &[]),
        (json!({"autoApprove": true}), Some("bypassPermissions"), &[]),
        (json!({"sandboxMode": "read-only"}), Some("dontAsk"), &[]),
        (json!({"sandboxMode": "workspace-write"}), Some("acceptEdits"), &[]),
        (json!({"sandboxMode": "workspace-write", "autoApprove": false}), Some("acceptEdits"), &[]),
        (
            json!({"sandboxMode": "workspace-write", "autoApprove": true}),
            Some("acceptEdits"),
            &[("/harness/permissions/autoApprove", false)],
        ),
        (
            json!({"sandboxMode": "read-only", "autoApprove": true}),
            Some("dontAsk"),
            &[("/harness/permissions/autoApprove", false)],
        ),
        (json!({"sandboxMode": "full-access"}), Some("acceptEdits"), &[("/harness/permissions/sandboxMode", false)]),
        (json!({"sandboxMode": "full-access", "autoApprove": true}), Some("bypassPermissions"), &[]),
        (json!({"approvalPolicy": "never"}), None, &[]),
        (json!({"approvalPolicy": "on-request"}), None, &[("/harness/permissions/approvalPolicy", true)]),
        (json!({"approvalPolicy": "untrusted"}), None, &[("/harness/permissions/approvalPolicy", true)]),
    ] {
        let launch = permissions(harness.clone());
        assert_eq!(mode(&launch).as_deref(), expected, "{harness}");
        assert_eq!(dropped(&launch), options, "{harness}");
    }
    let launch = permissions(json!({"sandboxMode": "read-only"}));
    for tool in ["Edit", "Write", "NotebookEdit"] {
        assert!(rules(&launch, "deny").contains(&tool.to_owned()), "{tool}");
    }
    let sandboxed = with(
        &json!({"sandbox": true}),
        &json!({"permissions": {"sandboxMode": "workspace-write", "autoApprove": true}}),
    );
    assert!(dropped(&sandboxed).is_empty());
    let sandbox = json_file(&sandboxed, "settings.json")["sandbox"].clone();
    assert_eq!(
        sandbox,
        json!({"enabled": true, "failIfUnavailable": true, "allowUnsandboxedCommands": false, "autoAllowBashIfSandboxed": true})
    );
    let read_only =
        with(&json!({"sandbox": true}), &json!({"permissions": {"sandboxMode": "read-only", "autoApprove": true}}));
    assert_eq!(json_file(&read_only, "settings.json")["sandbox"]["autoAllowBashIfSandboxed"], false);
}

#[test]
fn permissions_are_not_skipped_as_root() {
    let as_root = |payload: &Value, names: &[&str]| {
        let mut request = request(payload);
        request.host.root = true;
        request.host.environment_names = names.iter().map(|name| (*name).to_owned()).collect();
        request
    };
    let auto = json!({"harness": {"permissions": {"autoApprove": true}}});
    let Err(Error::Invalid(refused)) = prepare(&Settings::default(), &as_root(&auto, &[]), &installed()) else {
        panic!("accepted")
    };
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].pointer, "/harness/permissions/autoApprove");
    assert!(refused[0].message.contains("as root") && refused[0].message.contains("another user"));
    for (flags, pointer) in [
        (json!({"--dangerously-skip-permissions": true}), "/optionalFlags/--dangerously-skip-permissions"),
        (json!({"--permission-mode": "bypassPermissions"}), "/optionalFlags/--permission-mode"),
    ] {
        assert_eq!(problems(&as_root(&json!({"optionalFlags": flags}), &[])), [pointer]);
        launch(&request(&json!({"optionalFlags": flags})));
    }
    launch(&as_root(&auto, &["IS_SANDBOX"]));
    let reported =
        |value: &str| json!({"harness": {"permissions": {"autoApprove": true}, "processEnv": {"IS_SANDBOX": value}}});
    launch(&as_root(&reported("1"), &[]));
    assert_eq!(problems(&as_root(&reported("0"), &["IS_SANDBOX"])), ["/harness/permissions/autoApprove"]);
    launch(&as_root(
        &json!({"harness": {"permissions": {"sandboxMode": "workspace-write", "autoApprove": true}}}),
        &[],
    ));
    launch(&as_root(&json!({"optionalFlags": {"--dangerously-skip-permissions": false}}), &[]));
}

#[test]
fn flags_do_not_override_restrictions_of_the_run() {
    for permissions in
        [json!({"sandboxMode": "read-only"}), json!({"sandboxMode": "workspace-write"}), json!({"autoApprove": false})]
    {
        let payload =
            json!({"optionalFlags": {"--dangerously-skip-permissions": true}, "harness": {"permissions": permissions}});
        assert_eq!(problems(&request(&payload)), ["/optionalFlags/--dangerously-skip-permissions"], "{permissions}");
    }
    let payload = json!({"optionalFlags": {"--permission-mode": "bypassPermissions"}, "harness": {"permissions": {"sandboxMode": "read-only"}}});
    let launch = launch(&request(&payload));
    let modes: Vec<_> = launch.args.iter().filter(|arg| arg.starts_with("--permission-mode=")).collect();
    assert_eq!(modes, ["--permission-mode=bypassPermissions", "--permission-mode=dontAsk"], "the later one counts");
    assert_eq!(dropped(&launch), [("/optionalFlags/--permission-mode", false)]);
}

#[test]
fn network_is_restricted_or_refused() {
    let network = "/harness/permissions/networkAccess";
    let launch = of(&json!({"permissions": {"networkAccess": false}}));
    assert_eq!(dropped(&launch), [(network, true)]);
    assert_eq!(rules(&launch, "deny"), ["WebFetch", "WebSearch"]);
    assert!(has(&launch, "--strict-mcp-config"), "no servers of claude's own configuration");
    let launch = of(&json!({"permissions": {"networkAccess": false}, "tools": ["file_read", "file_edit"]}));
    assert!(dropped(&launch).is_empty());
    let sandbox = json!({"sandbox": true});
    let launch = with(&sandbox, &json!({"permissions": {"networkAccess": false}}));
    assert!(dropped(&launch).is_empty(), "the sandbox keeps the shell from the network");
    for open in [json!({"network": {"allowedDomains": ["a.example"]}}), json!({"excludedCommands": ["curl"]})] {
        let launch = with(
            &json!({"sandbox": true, "config": {"sandbox": open}}),
            &json!({"permissions": {"networkAccess": false}}),
        );
        assert_eq!(dropped(&launch), [(network, true)], "{open}");
    }
    let launch = of(&json!({"permissions": {"networkAccess": true, "sandboxMode": "workspace-write"}}));
    assert_eq!(rules(&launch, "allow"), ["WebFetch", "WebSearch"]);
    let launch = of(&json!({"permissions": {"networkAccess": true}, "tools": ["web_fetch"]}));
    assert_eq!(rules(&launch, "allow"), ["WebFetch"]);
    let launch = with(&sandbox, &json!({"permissions": {"networkAccess": true}}));
    assert_eq!(dropped(&launch), [(network, false)]);
}

#[test]
fn settings_of_a_folder_apply_only_if_its_grant_trusts_them() {
    let sources = |settings: &Value, extra: Option<&str>, harness: Value, flags: Value| {
        let mut request = request(&json!({"harness": harness, "optionalFlags": flags}));
        request.host.extra = extra.map(str::to_owned);
        let settings: Settings = serde_json::from_value(settings.clone()).unwrap();
        let launch = prepare(&settings, &request, &installed()).unwrap();
        after(&launch, "--setting-sources")
    };
    let trusted = Some(r#"{"trustedSettings": true}"#);
    let (plain, project) = (json!({}), json!({"trustedSources": ["user", "project"]}));
    let auto = json!({"permissions": {"autoApprove": true}});
    for extra in [None, Some("{}"), Some(r#"{"trustedSettings": false, "sandboxed": true}"#), Some("damaged")] {
        assert_eq!(sources(&plain, extra, json!({}), json!({})).as_deref(), Some("user"), "{extra:?}");
        assert_eq!(sources(&plain, extra, auto.clone(), json!({})).as_deref(), Some("user"), "{extra:?}");
        assert_eq!(sources(&project, extra, json!({}), json!({})).as_deref(), Some("user,project"), "{extra:?}");
        // A flag of the payload does not change that.
        let flag = json!({"--setting-sources": "user,project,local"});
        assert_eq!(sources(&plain, extra, json!({}), flag).as_deref(), Some("user"), "{extra:?}");
    }
    assert_eq!(sources(&plain, trusted, json!({}), json!({})), None, "claude reads all");
    let restricted = json!({"permissions": {"sandboxMode": "workspace-write"}});
    assert_eq!(sources(&plain, trusted, restricted, json!({})).as_deref(), Some(""), "what restricts is not widened");
}

#[test]
fn restricted_run_does_not_read_settings_that_could_weaken_it() {
    let sources = |launch: &Launch| after(launch, "--setting-sources");
    for harness in [
        json!({"permissions": {"sandboxMode": "read-only"}}),
        json!({"permissions": {"sandboxMode": "workspace-write"}}),
        json!({"permissions": {"networkAccess": false}}),
        json!({"permissions": {"autoApprove": false}}),
        json!({"tools": ["shell"]}),
        json!({"mcp": {"servers": [{"name": "a", "command": "x", "enabledTools": ["t"]}]}}),
    ] {
        let launch = of(&harness);
        assert_eq!(sources(&launch).as_deref(), Some(""), "{harness}");
        assert!(has(&launch, "--add-dir=/work"), "CLAUDE.md is read all the same");
        assert_eq!(variable(&launch, "CLAUDE_CODE_ADDITIONAL_DIRECTORIES_CLAUDE_MD"), Some("1"));
        let launch = with(&json!({"trustedSources": ["user", "project"], "projectMemory": true}), &harness);
        assert_eq!(sources(&launch).as_deref(), Some("user,project"));
        assert!(!has(&launch, "--add-dir=/work"));
        let launch = with(&json!({"projectMemory": false}), &harness);
        assert!(!has(&launch, "--add-dir=/work"));
    }
    for harness in [
        json!({}),
        json!({"permissions": {"sandboxMode": "full-access", "autoApprove": true}}),
        json!({"permissions": {"networkAccess": true}}),
    ] {
        assert_eq!(sources(&of(&harness)).as_deref(), Some("user"), "{harness}");
    }
    assert_eq!(Source::Local.word(), "local");
}

#[test]
fn list_of_tools_is_enforced() {
    let tools = |launch: &Launch| launch.args.iter().find_map(|arg| arg.strip_prefix("--tools=").map(str::to_owned));
    let launch = of(
        &json!({"tools": ["file_read", "file_write", "file_edit", "file_search", "content_search", "shell", "web_fetch", "web_search", "mcp", "task"]}),
    );
    assert_eq!(
        tools(&launch).as_deref(),
        Some("Read,Write,Edit,NotebookEdit,Glob,Grep,Bash,TaskOutput,TaskStop,WebFetch,WebSearch,Task")
    );
    assert!(dropped(&launch).is_empty() && !has(&launch, "--strict-mcp-config"));
    let launch = of(&json!({"tools": []}));
    assert_eq!(tools(&launch).as_deref(), Some(""));
    assert!(has(&launch, "--strict-mcp-config"), "no servers of claude's own configuration");
    let launch = of(&json!({"tools": ["shell"], "mcp": {"servers": [{"name": "a", "command": "x"}]}}));
    assert_eq!(dropped(&launch), [("/harness/mcp/servers", false)]);
    assert!(!launch.args.iter().any(|arg| arg.starts_with("--mcp-config")));
    let launch = of(&json!({"tools": ["file_write"], "permissions": {"sandboxMode": "read-only"}}));
    assert_eq!(dropped(&launch), [("/harness/permissions", false)]);
    assert_eq!(tools(&of(&json!({}))), None);
}

#[test]
fn secrets_of_mcp_servers_are_not_in_arguments_and_not_changed() {
    let launch = of(&json!({"mcp": {"servers": [
        {"name": "files", "command": "serve", "args": ["--root", "a b"], "env": {"TOKEN": "s3cret'; rm -rf /\n", "REF": "a${HOME}b"}, "enabledTools": ["read"]},
        {"name": "web", "url": "https://mcp.example/x", "headers": {"Authorization": "Bearer s3cret"}, "disabledTools": ["w"]},
        {"name": "off", "command": "/bin/plain", "enabled": false},
        {"name": "old", "type": "sse", "url": "https://mcp.example/sse"},
    ]}}));
    assert!(!launch.args.iter().any(|arg| arg.contains("s3cret")));
    assert!(has(&launch, "--mcp-config=/private/mcp.json") && has(&launch, "--strict-mcp-config"));
    assert_eq!(
        json_file(&launch, "mcp.json"),
        json!({"mcpServers": {
            "files": {"type": "stdio", "command": "serve", "args": ["--root", "a b"],
                "env": {"REF": "a${OSTLER_DOLLAR}{HOME}b", "TOKEN": "s3cret'; rm -rf /\n"}},
            "web": {"type": "http", "url": "https://mcp.example/x", "headers": {"Authorization": "Bearer s3cret"}},
            "old": {"type": "sse", "url": "https://mcp.example/sse", "headers": {}},
        }})
    );
    assert_eq!(variable(&launch, "OSTLER_DOLLAR"), Some("$"));
    assert_eq!(rules(&launch, "allow"), ["mcp__files__read", "mcp__web", "mcp__old"]);
    assert_eq!(rules(&launch, "deny"), ["mcp__web__w"]);
    assert!(dropped(&launch).is_empty() && launch.files.iter().all(|file| !file.executable));
    let plain = of(&json!({"mcp": {"servers": [{"name": "a", "command": "x"}]}}));
    assert_eq!(variable(&plain, "OSTLER_DOLLAR"), None);
}

#[test]
fn invalid_mcp_servers_are_reported() {
    let bad = request(&json!({"harness": {"mcp": {"servers": [
        {"name": "a.b", "command": "x"},
        {"name": "c"},
        {"name": "d", "type": "http"},
        {"name": "e", "command": "x", "url": "http://h"},
        {"name": "f", "url": "http://h", "args": ["x"], "disabledTools": ["a,b"]},
    ]}}}));
    assert_eq!(
        problems(&bad),
        [
            "/harness/mcp/servers/0/name",
            "/harness/mcp/servers/1/command",
            "/harness/mcp/servers/2/url",
            "/harness/mcp/servers/3/url",
            "/harness/mcp/servers/4/args",
            "/harness/mcp/servers/4/disabledTools/0",
        ]
    );
    let servers = json!([{"name": "a", "command": "x", "enabledTools": ["t"]}]);
    let launch = of(&json!({"permissions": {"autoApprove": false}, "mcp": {"servers": servers}}));
    assert!(rules(&launch, "allow").is_empty());
    assert_eq!(dropped(&launch), [("/harness/mcp/servers", false)]);
    let launch = of(&json!({"permissions": {"autoApprove": true}, "mcp": {"servers": servers}}));
    assert_eq!(dropped(&launch), [("/harness/mcp/servers/0/enabledTools", true)]);
}

#[test]
fn limits_instructions_schema_and_directories_are_passed() {
    let launch = of(&json!({
        "limits": {"maxTurns": 3, "maxBudgetUsd": 0.25, "timeoutMs": 5000, "maxToolResultLines": 5},
        "systemPrompt": "Be \"brief\"", "appendSystemPrompt": "--x\n", "additionalDirectories": ["/a b", "-c"],
        "structuredOutput": {"schema": {"type": "object", "x": null}, "strict": true},
    }));
    for argument in [
        "--max-turns=3",
        "--max-budget-usd=0.25",
        "--system-prompt-file=/private/system-prompt.md",
        "--append-system-prompt-file=/private/append-system-prompt.md",
        "--add-dir=/a b",
        "--add-dir=-c",
        r#"--json-schema={"type":"object","x":null}"#,
    ] {
        assert!(has(&launch, argument), "{argument}: {:?}", launch.args);
    }
    assert_eq!(file(&launch, "system-prompt.md"), "Be \"brief\"");
    assert_eq!(file(&launch, "append-system-prompt.md"), "--x\n");
    assert!(dropped(&launch).is_empty());
    assert_eq!(dropped(&of(&json!({"systemPrompt": " "}))), [("/harness/systemPrompt", false)]);
    let bad = json!({"harness": {"limits": {"maxTurns": 0, "maxBudgetUsd": 0.0}, "structuredOutput": {"schema": {"title": "x".repeat(140_000)}}}});
    assert_eq!(
        problems(&request(&bad)),
        ["/harness/limits/maxTurns", "/harness/limits/maxBudgetUsd", "/harness/structuredOutput/schema"]
    );
    assert_eq!(dropped(&self::launch(&request(&json!({"outputFormat": "json"})))), [("/outputFormat", false)]);
    let interactive = RunRequest { mode: RunMode::Interactive, ..request(&json!({})) };
    assert!(matches!(prepare(&Settings::default(), &interactive, &installed()), Err(Error::Unsupported(_))));
}

#[test]
fn sessions_are_resumed_or_started() {
    let launch_with = |resume: Option<&str>, payload: Value| {
        launch(&RunRequest { resume_session: resume.map(str::to_owned), ..request(&payload) })
    };
    let id = "--session-id=00000000-0000-4000-8000-000000000000";
    let launch = launch_with(Some("--last"), json!({}));
    assert!(has(&launch, "--resume=--last") && !has(&launch, id));
    let launch = launch_with(Some("a"), json!({"optionalFlags": {"--fork-session": true}}));
    assert!(has(&launch, "--resume=a") && has(&launch, "--fork-session") && has(&launch, id));
    let launch = launch_with(None, json!({"harness": {"continueSession": true}}));
    assert!(has(&launch, "--continue") && !has(&launch, id));
    assert!(json_file(&launch, "settings.json")["hooks"]["SessionStart"][0]["hooks"][0]["command"] == "true");
    let launch = launch_with(Some("a"), json!({"harness": {"continueSession": true}}));
    assert!(has(&launch, "--resume=a") && !has(&launch, "--continue"));
    assert_eq!(dropped(&launch), [("/harness/continueSession", false)]);
    assert_eq!(
        problems(&RunRequest { resume_session: Some(String::new()), ..request(&json!({})) }),
        ["/harness/resumeSessionId"]
    );
}

#[test]
fn attachments_are_listed_and_may_be_read() {
    let payload = json!({"harness": {
        "images": [{"name": "a.png", "mimeType": "image/png"}, {"name": "b.svg", "mimeType": "image/svg+xml"}],
        "files": [{"name": "n.txt", "mimeType": "text/plain"}, {"name": "o(1).txt", "mimeType": "text/plain"}],
        "pipedContent": "log line",
    }});
    let attachments = vec![
        attachment("a.png", "image/png", "/private/images/a.png"),
        attachment("b.svg", "image/svg+xml", "/private/images/b.svg"),
        attachment("n.txt", "text/plain", "/data/my notes/n.txt"),
        attachment("o(1).txt", "text/plain", "/data/o(1).txt"),
    ];
    let request = RunRequest { attachments, ..request(&payload) };
    let launch = launch(&request);
    assert_eq!(rules(&launch, "allow"), ["Read(//private/images/a.png)", "Read(//data/my notes/n.txt)"]);
    assert_eq!(dropped(&launch), [("/harness/images/1", false), ("/harness/files/1", false)]);
    assert_eq!(
        String::from_utf8(launch.stdin.unwrap()).unwrap(),
        "do it\n\n<files>\na.png (image/png): /private/images/a.png\nn.txt (text/plain): /data/my notes/n.txt\n</files>\n\n<stdin>\nlog line\n</stdin>"
    );
    let mut unread = payload.clone();
    unread["harness"]["tools"] = json!(["shell"]);
    let launch = self::launch(&RunRequest { payload: unread.to_string(), ..request });
    assert_eq!(dropped(&launch).len(), 4);
    assert!(rules(&launch, "allow").is_empty());
}

#[test]
fn shells_do_not_inherit_the_token() {
    let mut request =
        request(&json!({"harness": {"processEnv": {"CLAUDE_ENV_FILE": "/w/it's.sh", "A": "secret-value"}}}));
    let hides = |launch: &Launch| launch.files.iter().any(|file| file.path == "shell-environment.sh");
    assert!(!hides(&launch(&request)), "no token, nothing to hide");
    request.host.environment_names = vec!["ANTHROPIC_API_KEY".to_owned()];
    let launch = launch(&request);
    assert_eq!(variable(&launch, "CLAUDE_ENV_FILE"), Some("/private/shell-environment.sh"));
    assert_eq!(
        file(&launch, "shell-environment.sh"),
        "[ ! -r '/w/it'\\''s.sh' ] || . '/w/it'\\''s.sh'\nunset ANTHROPIC_API_KEY\n"
    );
    assert!(!launch.args.iter().any(|arg| arg.contains("secret-value")));
    assert!(dropped(&launch).is_empty(), "the user's file is read, too");
}

#[test]
fn path_and_prelude_of_the_host_are_set_after_the_shell_snapshot() {
    let script = |harness: &Value| file(&of(harness), "shell-environment.sh").to_owned();
    assert!(script(&json!({"shellPrelude": {"content": "x"}})).ends_with(" . \"$BASH_ENV\"\n"));
    let allowlist = json!({"entries": [{"name": "ls", "path": "/bin/ls"}]});
    assert_eq!(script(&json!({"cliAllowlist": allowlist})), "unset -f find grep rg 2>/dev/null || :\n");
}

#[test]
fn overridden_variables_are_reported() {
    let launch = of(&json!({"processEnv": {"CLAUDE_CODE_MAX_RETRIES": "9", "DISABLE_TELEMETRY": "1", "A": "b"}}));
    assert_eq!(dropped(&launch), [("/harness/processEnv/CLAUDE_CODE_MAX_RETRIES", false)]);
    assert_eq!(variable(&launch, "CLAUDE_CODE_MAX_RETRIES"), Some("2"));
}

#[test]
fn settings_of_the_instance_are_applied() {
    let settings = json!({
        "maxRetries": 0, "nonessentialTraffic": true, "tokenVariable": "CLAUDE_CODE_OAUTH_TOKEN",
        "config": {"effortLevel": "high", "permissions": {"allow": ["Bash(ls:*)"], "deny": ["Bash(rm:*)"]}, "hooks": {"SessionStart": [{"hooks": []}]}},
    });
    let launch = with(
        &settings,
        &json!({"permissions": {"sandboxMode": "read-only", "networkAccess": true}, "continueSession": true}),
    );
    assert_eq!(variable(&launch, "CLAUDE_CODE_MAX_RETRIES"), Some("0"));
    assert_eq!(variable(&launch, "DISABLE_TELEMETRY"), None);
    let document = json_file(&launch, "settings.json");
    assert_eq!(document["effortLevel"], "high");
    assert_eq!(document["permissions"]["allow"], json!(["Bash(ls:*)", "WebFetch", "WebSearch"]));
    assert_eq!(document["permissions"]["deny"][0], "Bash(rm:*)");
    assert_eq!(document["hooks"]["SessionStart"].as_array().unwrap().len(), 2);
}

#[test]
fn auto_mode_is_used_only_if_requested() {
    let auto_mode = |launch: &Launch| {
        let known = launch.files.iter().any(|file| file.path == "settings.json");
        known.then(|| json_file(launch, "settings.json")["permissions"]["disableAutoMode"].clone())
    };
    assert_eq!(auto_mode(&of(&json!({}))), Some(json!("disable")));
    let wanted = json!({"config": {"permissions": {"defaultMode": "auto"}}});
    assert_eq!(auto_mode(&with(&wanted, &json!({}))), Some(Value::Null));
    let launch = launch(&request(&json!({"optionalFlags": {"--permission-mode": "auto"}})));
    assert_eq!(auto_mode(&launch), None);
    let mut older = installed();
    let mut detected = Detected::of(&older).unwrap();
    detected.modes.remove("auto");
    older.extra = serde_json::to_string(&detected).ok();
    let launch = prepare(&Settings::default(), &request(&json!({})), &older).unwrap();
    assert_eq!(auto_mode(&launch), None, "there is none");
}

#[test]
fn shell_that_can_write_by_redirection_is_disabled_in_read_only_runs() {
    let mut capabilities = installed();
    let mut request = request(&json!({"harness": {"permissions": {"sandboxMode": "read-only"}}}));
    let shell = |launch: &Launch| !rules(launch, "deny").iter().any(|rule| rule == "Bash");
    assert!(shell(&launch(&request)));
    let mut detected = Detected::of(&capabilities).unwrap();
    detected.options.remove("--debug-file");
    capabilities.extra = serde_json::to_string(&detected).ok();
    let older = prepare(&Settings::default(), &request, &capabilities).unwrap();
    assert!(!shell(&older));
    assert_eq!(dropped(&older), [("/harness/permissions", false)]);
    // The host's sandbox prevents writes.
    request.host.extra = Some(r#"{"sandboxed": true}"#.to_owned());
    assert!(shell(&prepare(&Settings::default(), &request, &capabilities).unwrap()));
}

#[test]
fn read_only_run_cannot_schedule_prompts() {
    let denied = rules(&of(&json!({"permissions": {"sandboxMode": "read-only"}})), "deny");
    for tool in ["CronCreate", "CronDelete", "ScheduleWakeup", "Write"] {
        assert!(denied.iter().any(|rule| rule == tool), "{tool}: {denied:?}");
    }
}

#[test]
fn remote_mcp_server_is_reported_if_network_access_is_false() {
    let harness = json!({
        "permissions": {"networkAccess": false}, "tools": ["mcp"],
        "mcp": {"servers": [{"name": "a", "command": "x"}, {"name": "b", "url": "https://b.example"}]},
    });
    assert_eq!(dropped(&of(&harness)), [("/harness/mcp/servers/1", false)]);
}

#[test]
fn missing_options_of_the_version_do_not_enforce_restrictions() {
    let mut capabilities = installed();
    let mut detected = Detected::of(&capabilities).unwrap();
    detected.options.clear();
    detected.modes.clear();
    detected.prompt_files = false;
    capabilities.extra = serde_json::to_string(&detected).ok();
    let payload = json!({"harness": {
        "tools": ["file_read"], "additionalDirectories": ["/d"], "structuredOutput": {"schema": {}}, "systemPrompt": "x",
        "permissions": {"sandboxMode": "read-only"}, "limits": {"maxBudgetUsd": 1.0}, "inputFormat": "stream-json", "continueSession": true,
    }});
    let request = RunRequest { model: Some("m".to_owned()), ..request(&payload) };
    let launch = prepare(&Settings::default(), &request, &capabilities).unwrap();
    let dropped = dropped(&launch);
    for (pointer, restricts) in [
        ("/model", false),
        ("/harness/permissions/sandboxMode", true),
        ("/harness/tools", true),
        ("/harness/additionalDirectories/0", false),
        ("/harness/limits/maxBudgetUsd", true),
        ("/harness/systemPrompt", false),
        ("/harness/structuredOutput", false),
        ("/harness/inputFormat", false),
        ("/harness/continueSession", false),
    ] {
        assert!(dropped.contains(&(pointer, restricts)), "{pointer}: {dropped:?}");
    }
    let mut detected = Detected::of(&installed()).unwrap();
    detected.prompt_files = false;
    capabilities.extra = serde_json::to_string(&detected).ok();
    let launch = prepare(&Settings::default(), &request, &capabilities).unwrap();
    assert!(has(&launch, "--system-prompt=x"));
}

#[test]
fn all_problems_are_reported_at_once() {
    let request = RunRequest {
        prompt: String::new(),
        model: Some(String::new()),
        ..request(
            &json!({"optionalFlags": {"--nope": true}, "harness": {"permissions": {"sandboxMode": "none"}, "additionalDirectories": ["a\u{0}"]}}),
        )
    };
    assert_eq!(
        problems(&request),
        [
            "/optionalFlags/--nope",
            "/model",
            "/harness/permissions/sandboxMode",
            "/harness/additionalDirectories/0",
            "/prompt"
        ]
    );
    let foreign = Capabilities::default();
    assert!(matches!(prepare(&Settings::default(), &request, &foreign), Err(Error::Internal(_))));
}

/// Expands references to variables like claude, with only the plugin's own variable set.
fn expand(text: &str) -> String {
    let Some((head, (name, tail))) = text.split_once("${").and_then(|(head, rest)| Some((head, rest.split_once('}')?)))
    else {
        return text.to_owned();
    };
    let value = if name == "OSTLER_DOLLAR" { "$" } else { "<expanded>" };
    format!("{head}{value}{}", expand(tail))
}

proptest! {
    /// With arbitrary texts, each argument is a word of this plugin, or a value joined to its flag.
    #[test]
    fn arbitrary_texts_are_not_parsed_as_flags(
        prompt in "-{0,2}\\PC{1,20}x", model in "-{0,2}\\PC{1,20}", append in any::<String>(), directory in "-{0,2}\\PC{1,20}",
        session in "-{0,2}\\PC{2,20}", argument in any::<String>(), value in "(\\$|\\{|\\}|HOME|\\PC){0,12}",
    ) {
        let payload = json!({"harness": {
            "appendSystemPrompt": append, "additionalDirectories": [directory], "structuredOutput": {"schema": {"title": append}},
            "permissions": {"sandboxMode": "read-only"},
            "mcp": {"servers": [{"name": "s", "command": "c", "args": [argument], "env": {"A": value}}]},
        }});
        let request = RunRequest { prompt: prompt.clone(), model: Some(model.clone()), resume_session: Some(session.clone()), ..request(&payload) };
        // Of texts of this length, only those with NUL are rejected.
        let Ok(launch) = prepare(&Settings::default(), &request, &installed()) else {
            prop_assert!([&model, &directory, &session].iter().any(|text| text.contains('\0')));
            return Ok(());
        };
        let stdin = launch.stdin.clone().unwrap();
        prop_assert_eq!(stdin, prompt.into_bytes());
        let joined = [format!("--model={model}"), format!("--add-dir={directory}"), format!("--resume={session}")];
        prop_assert!(joined.iter().all(|argument| has(&launch, argument)));
        let server = json_file(&launch, "mcp.json")["mcpServers"]["s"].clone();
        for (given, written) in [(&argument, &server["args"][0]), (&value, &server["env"]["A"])] {
            prop_assert_eq!(&expand(written.as_str().unwrap()), given);
        }
        for (index, argument) in launch.args.iter().enumerate() {
            let before = index.checked_sub(1).map_or("", |index| launch.args[index].as_str());
            let own = APART.contains(&argument.as_str());
            prop_assert!(!own || launch.args.get(index + 1).is_some_and(|value| !value.starts_with('-')));
            if own || APART.contains(&before) {
                continue;
            }
            let bare = ["--print", "--verbose", "--include-partial-messages", "--strict-mcp-config"].contains(&argument.as_str());
            prop_assert!(bare || argument.split_once('=').is_some_and(|(flag, _)| flag.starts_with("--") && flag.len() < 32), "{}", argument);
        }
    }
}
