#![allow(clippy::unwrap_used, clippy::panic, clippy::unnecessary_wraps)]

use ostler_plugin::provider::{Channel, RunMode, StopSignal};
use ostler_provider_kit_testing::captures::read_one;
use ostler_provider_kit_testing::launches::{self, attachment, dropped, file, has, request};
use serde_json::{Value, json};

use super::*;
use crate::codex_transcript::CodexTranscript;
use crate::detect::Detected;
use crate::detect::tests::installed;
use ostler_plugin::Transcript;
use ostler_plugin::provider::{NameValue, OutputStream, RunRequest};

/// What the host says about itself.
const ASKS: &str = r#"{"approvals": true}"#;
const ASKS_ALWAYS: &str = r#"{"approvals": true, "everyTool": true}"#;

fn with(extra: &str, payload: &Value) -> RunRequest {
    let mut request = request(payload);
    request.host.extra = Some(extra.to_owned());
    request
}

fn session(payload: &Value) -> RunRequest {
    RunRequest { mode: RunMode::Interactive, ..with(ASKS, payload) }
}

fn launch(request: &RunRequest) -> Launch {
    crate::prepare::prepare(&Settings::default(), request, &installed()).unwrap()
}

fn of(extra: &str, harness: &Value) -> Launch {
    launch(&with(extra, &json!({ "harness": harness })))
}

fn problems(request: &RunRequest) -> Vec<String> {
    launches::problems(crate::prepare::prepare(&Settings::default(), request, &installed()))
}

/// The value of the last `-c key=value`, parsed as TOML.
fn config(launch: &Launch, key: &str) -> Option<toml::Value> {
    let prefix = format!("{key}=");
    launch.args.windows(2).rev().find(|pair| pair[0] == "-c" && pair[1].starts_with(&prefix)).map(|pair| {
        let text = format!("x = {}", &pair[1][prefix.len()..]);
        toml::from_str::<toml::Table>(&text).unwrap().remove("x").unwrap()
    })
}

fn text(value: &str) -> Option<toml::Value> {
    Some(toml::Value::String(value.to_owned()))
}

/// The parameters of the requests that start the thread and its first turn.
fn started(request: &RunRequest) -> (Value, Option<Value>) {
    let mut transcript = CodexTranscript::new(request, &installed());
    transcript.open();
    let mut answer = |line: Value| -> Option<Value> {
        let written = read_one(&mut transcript, OutputStream::Stdout, &line.to_string()).write;
        let last = String::from_utf8(written).unwrap();
        last.lines().last().map(|line| serde_json::from_str(line).unwrap())
    };
    let thread = answer(json!({ "id": 1, "result": {} })).unwrap();
    let turn = answer(json!({ "id": 2, "result": { "thread": { "id": "t" } } }));
    (thread, turn.map(|turn| turn["params"].clone()))
}

#[test]
fn sessions_and_runs_that_ask_use_app_server() {
    for request in [session(&json!({})), with(ASKS, &json!({})), with(ASKS_ALWAYS, &json!({}))] {
        let launch = launch(&request);
        assert_eq!(launch.args[..2], ["app-server", "--stdio"]);
        assert_eq!((launch.channel, launch.stop, &launch.stdin), (Channel::Duplex, StopSignal::Terminate, &None));
        assert!(launch.files.is_empty() && launch.environment.is_empty() && dropped(&launch).is_empty());
        // Nothing is written to the user's configuration.
        assert_eq!(config(&launch, "projects").unwrap()["/work"]["trust_level"].as_str(), Some("untrusted"));
        assert!(!has(&launch, "exec") && !has(&launch, "do it"));
        assert!(matches!(CodexTranscript::new(&request, &installed()), CodexTranscript::AppServer(_)));
    }
    for extra in ["{}", r#"{"approvals": false, "everyTool": true}"#] {
        let request = with(extra, &json!({}));
        let launch = launch(&request);
        assert_eq!((launch.args[0].as_str(), launch.channel), ("exec", Channel::Pipes));
        assert!(matches!(CodexTranscript::new(&request, &installed()), CodexTranscript::Exec(_)));
    }
}

#[test]
fn version_without_app_server_keeps_exec_and_has_no_sessions() {
    let mut capabilities = installed();
    let mut detected = Detected::of(&capabilities).unwrap();
    detected.app_server = None;
    capabilities.extra = serde_json::to_string(&detected).ok();
    let of = |request: &RunRequest| crate::prepare::prepare(&Settings::default(), request, &capabilities);
    assert!(matches!(of(&session(&json!({}))), Err(Error::Unsupported(_))));
    let launch = of(&with(ASKS_ALWAYS, &json!({}))).unwrap();
    assert_eq!(
        (launch.args[0].as_str(), dropped(&launch)),
        ("exec", vec![("/harness/permissions/approvalPolicy", true)])
    );
    let asks = json!({"harness": {"permissions": {"approvalPolicy": "untrusted"}}});
    assert_eq!(dropped(&of(&with(ASKS, &asks)).unwrap()), [("/harness/permissions/approvalPolicy", true)]);
    assert!(matches!(CodexTranscript::new(&with(ASKS, &asks), &capabilities), CodexTranscript::Exec(_)));
    assert_eq!(of(&with("{}", &json!({}))).unwrap().args[0], "exec");
}

#[test]
fn approval_policy_is_a_field_of_the_thread() {
    let policy = |extra: &str, permissions: Value| {
        let request = with(extra, &json!({ "harness": { "permissions": permissions } }));
        assert_eq!(config(&launch(&request), "approval_policy"), None, "codex refuses it as a key");
        let (thread, _) = started(&request);
        assert_eq!(thread["params"]["approvalsReviewer"], "user");
        thread["params"]["approvalPolicy"].as_str().unwrap().to_owned()
    };
    for (asked, used) in
        [("untrusted", "untrusted"), ("on-request", "on-request"), ("on-failure", "on-request"), ("never", "never")]
    {
        assert_eq!(policy(ASKS, json!({ "approvalPolicy": asked })), used);
        assert_eq!(policy(ASKS_ALWAYS, json!({ "approvalPolicy": asked })), "untrusted");
    }
    assert_eq!(policy(ASKS, json!({})), "on-request");
    assert_eq!(policy(ASKS, json!({ "autoApprove": true })), "on-request");
    assert_eq!(policy(ASKS, json!({ "autoApprove": false })), "untrusted");
    // The pointer of the field itself would count as a restriction that is not kept.
    assert_eq!(
        dropped(&of(ASKS, &json!({"permissions": {"approvalPolicy": "on-failure"}}))),
        [("/harness/permissions", false)]
    );
    assert_eq!(dropped(&of(ASKS_ALWAYS, &json!({"permissions": {"approvalPolicy": "on-failure"}}))), []);
    let wrong = with(ASKS, &json!({"harness": {"permissions": {"approvalPolicy": "sometimes"}}}));
    assert_eq!(problems(&wrong), ["/harness/permissions/approvalPolicy"]);
}

#[test]
fn sandbox_network_and_directories_are_keys() {
    let permissions = |permissions: Value| of(ASKS, &json!({ "permissions": permissions }));
    for (mode, word) in
        [("read-only", "read-only"), ("workspace-write", "workspace-write"), ("full-access", "danger-full-access")]
    {
        assert_eq!(config(&permissions(json!({ "sandboxMode": mode })), "sandbox_mode"), text(word));
    }
    assert_eq!(config(&permissions(json!({})), "sandbox_mode"), None);
    let launch = of(
        ASKS,
        &json!({"permissions": {"sandboxMode": "workspace-write", "networkAccess": true}, "additionalDirectories": ["/a b", "-c"]}),
    );
    assert_eq!(config(&launch, "sandbox_workspace_write.network_access"), Some(toml::Value::Boolean(true)));
    let roots = config(&launch, "sandbox_workspace_write.writable_roots").unwrap();
    assert_eq!(roots.as_array().unwrap().iter().map(|root| root.as_str().unwrap()).collect::<Vec<_>>(), ["/a b", "-c"]);
    assert_eq!(dropped(&launch), []);
    let launch = permissions(json!({ "networkAccess": false }));
    assert_eq!((config(&launch, "sandbox_mode"), config(&launch, "web_search")), (text("read-only"), text("disabled")));
    let launch = of(ASKS, &json!({"permissions": {"sandboxMode": "read-only"}, "additionalDirectories": ["/a"]}));
    assert_eq!(dropped(&launch), [("/harness/additionalDirectories/0", false)]);
}

/// With `untrusted`, codex repeats an allowed command without the sandbox if the sandbox has stopped it.
#[test]
fn sandbox_of_codex_does_not_hold_commands_that_were_allowed() {
    let restricted = json!({"permissions": {"sandboxMode": "workspace-write", "networkAccess": false}});
    assert_eq!(
        dropped(&of(ASKS_ALWAYS, &restricted)),
        [("/harness/permissions/sandboxMode", true), ("/harness/permissions/networkAccess", true)]
    );
    assert_eq!(dropped(&of(ASKS, &restricted)), []);
    let sandboxed = r#"{"approvals": true, "everyTool": true, "sandboxed": true}"#;
    let launch = of(sandboxed, &restricted);
    assert_eq!((config(&launch, "sandbox_mode"), dropped(&launch)), (text("danger-full-access"), vec![]));
    assert_eq!(dropped(&of(ASKS_ALWAYS, &json!({"permissions": {"sandboxMode": "full-access"}}))), []);
}

#[test]
fn settings_of_the_folder_are_used_only_if_its_grant_trusts_them() {
    let trust = |extra: &str| {
        let launch = of(extra, &json!({}));
        let level = config(&launch, "projects").unwrap()["/work"]["trust_level"].as_str().unwrap().to_owned();
        (level, dropped(&launch).into_iter().map(|(pointer, _)| pointer.to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(trust(ASKS), ("untrusted".to_owned(), vec![]));
    assert_eq!(trust(r#"{"approvals": true, "trustedSettings": true}"#), ("trusted".to_owned(), vec![]));
    // Rules of the folder could allow commands, about which codex then does not ask.
    let every = r#"{"approvals": true, "everyTool": true, "trustedSettings": true}"#;
    assert_eq!(trust(every), ("untrusted".to_owned(), vec!["/cwd".to_owned()]));
    let flags = json!({"optionalFlags": {"--config": ["projects={\"/work\"={trust_level=\"trusted\"}}"]}});
    let projects = config(&launch(&with(ASKS, &flags)), "projects").unwrap();
    assert_eq!(projects["/work"]["trust_level"].as_str(), Some("untrusted"), "the last value applies");
}

#[test]
fn tools_of_mcp_servers_are_asked_about() {
    let servers = json!({"mcp": {"servers": [{"name": "files", "command": "serve", "env": {"TOKEN": "s3cret"}}]}});
    let mode = |extra: &str, permissions: Value| {
        let mut harness = servers.clone();
        harness["permissions"] = permissions;
        let launch = of(extra, &harness);
        assert!(!launch.args.iter().any(|argument| argument.contains("s3cret")));
        assert!(file(&launch, "mcp-0-files.sh").contains("s3cret"));
        let table = config(&launch, "mcp_servers.files").unwrap();
        (table.get("default_tools_approval_mode").map(|mode| mode.as_str().unwrap().to_owned()), dropped(&launch).len())
    };
    assert_eq!(mode(ASKS, json!({})), (None, 0));
    assert_eq!(mode(ASKS, json!({"approvalPolicy": "untrusted"})), (Some("prompt".to_owned()), 0));
    assert_eq!(mode(ASKS, json!({"approvalPolicy": "never"})), (Some("approve".to_owned()), 0));
    assert_eq!(mode(ASKS, json!({"autoApprove": false})), (Some("prompt".to_owned()), 0));
    assert_eq!(mode(ASKS_ALWAYS, json!({"approvalPolicy": "never"})), (Some("prompt".to_owned()), 0));
    // So are those of the user's own configuration.
    let launch = of(ASKS_ALWAYS, &json!({}));
    assert_eq!(config(&launch, "mcp_servers.docs.default_tools_approval_mode"), text("prompt"));
    assert_eq!(config(&of(ASKS, &json!({})), "mcp_servers.docs.default_tools_approval_mode"), None);
    let web =
        json!({"mcp": {"servers": [{"name": "web", "url": "https://h", "headers": {"Authorization": "s3cret"}}]}});
    let launch = of(ASKS, &web);
    assert_eq!(launch.environment, [NameValue { name: "OSTLER_MCP_0_0".to_owned(), value: "s3cret".to_owned() }]);
}

#[test]
fn servers_that_are_unknown_cannot_be_made_to_ask() {
    let mut capabilities = installed();
    let mut detected = Detected::of(&capabilities).unwrap();
    let mut of = |servers: Option<Vec<String>>| {
        detected.mcp_servers = servers;
        capabilities.extra = serde_json::to_string(&detected).ok();
        let request = with(ASKS_ALWAYS, &json!({}));
        let launch = crate::prepare::prepare(&Settings::default(), &request, &capabilities).unwrap();
        launch.dropped.into_iter().map(|dropped| (dropped.pointer, dropped.restricts)).collect::<Vec<_>>()
    };
    let policy = || vec![("/harness/permissions/approvalPolicy".to_owned(), true)];
    assert_eq!(of(None), policy());
    assert_eq!(of(Some(vec!["a.b".to_owned()])), policy());
    assert_eq!(of(Some(Vec::new())), []);
}

#[test]
fn model_prompt_images_and_schema_are_fields() {
    let payload = json!({"harness": {
        "images": [{"name": "a.png", "mimeType": "image/png"}, {"name": "b.svg", "mimeType": "image/svg+xml"}, {"name": "c,d.png", "mimeType": "image/png"}],
        "files": [{"name": "n.txt", "mimeType": "text/plain"}],
        "pipedContent": "log line",
        "structuredOutput": {"schema": {"type": "object", "x": null}},
    }});
    let attachments = vec![
        attachment("a.png", "image/png", "/private/a.png"),
        attachment("b.svg", "image/svg+xml", "/private/b.svg"),
        attachment("c,d.png", "image/png", "/private/c,d.png"),
        attachment("n.txt", "text/plain", "/w/n.txt"),
    ];
    let request = RunRequest { model: Some("--m".to_owned()), attachments, ..with(ASKS, &payload) };
    let launch = launch(&request);
    assert_eq!(dropped(&launch), [("/harness/images/1", false)]);
    assert!(
        launch.files.is_empty()
            && !launch.args.iter().any(|argument| argument.contains("--m") || argument.contains("log"))
    );
    let (thread, turn) = started(&request);
    assert_eq!((&thread["params"]["model"], &thread["params"]["cwd"]), (&json!("--m"), &json!("/work")));
    let turn = turn.unwrap();
    let prompt = "do it\n\n<files>\nn.txt (text/plain): /w/n.txt\n</files>\n\n<stdin>\nlog line\n</stdin>";
    let image = |path: &str| json!({ "type": "localImage", "path": path });
    assert_eq!(
        turn["input"],
        json!([{ "type": "text", "text": prompt }, image("/private/a.png"), image("/private/c,d.png")])
    );
    assert_eq!(turn["outputSchema"], json!({"type": "object", "x": null}));
}

#[test]
fn session_may_begin_without_a_prompt() {
    let blank = |request: RunRequest| RunRequest { prompt: " ".to_owned(), ..request };
    let request = blank(session(&json!({})));
    launch(&request);
    assert_eq!(started(&request).1, None);
    assert_eq!(problems(&blank(with(ASKS, &json!({})))), ["/prompt"]);
}

#[test]
fn sessions_are_resumed_by_id_or_continued() {
    let id = "01a22d5e-7e26-7043-b1be-e1eb9bd8fa66";
    let of = |resume: Option<&str>, harness: Value| {
        let request = with(ASKS, &json!({ "harness": harness }));
        RunRequest { resume_session: resume.map(str::to_owned), ..request }
    };
    let (thread, _) = started(&of(Some(id), json!({})));
    assert_eq!((&thread["method"], &thread["params"]["threadId"]), (&json!("thread/resume"), &json!(id)));
    assert_eq!(
        (&thread["params"]["approvalsReviewer"], &thread["params"]["excludeTurns"]),
        (&json!("user"), &json!(true))
    );
    let request = of(None, json!({"continueSession": true}));
    let (list, _) = started(&request);
    assert_eq!((&list["method"], &list["params"]["cwd"]), (&json!("thread/list"), &json!("/work")));
    assert_eq!(dropped(&launch(&request)), []);
    let both = of(Some(id), json!({"continueSession": true}));
    assert_eq!(dropped(&launch(&both)), [("/harness/continueSession", false)]);
    assert_eq!(problems(&of(Some("my session"), json!({}))), ["/harness/resumeSessionId"]);
    let text = of(Some(id), json!({"appendSystemPrompt": "more"}));
    assert_eq!(dropped(&launch(&text)), [("/harness/appendSystemPrompt", false)]);
}

#[test]
fn instructions_tools_and_environment_are_those_of_exec() {
    let harness = json!({
        "systemPrompt": "Be \"brief\"", "appendSystemPrompt": "--x\n", "tools": ["file_read", "file_write", "file_edit"],
        "processEnv": {"PATH": "/x"}, "limits": {"maxTurns": 3, "maxBudgetUsd": 1.5}, "inputFormat": "stream-json",
    });
    let mut request = with(ASKS, &json!({ "harness": harness, "outputFormat": "json" }));
    request.host.environment_names = vec!["CODEX_API_KEY".to_owned()];
    let launch = launch(&request);
    assert_eq!(file(&launch, "system-prompt.md"), "Be \"brief\"");
    assert_eq!(config(&launch, "model_instructions_file"), text("/private/system-prompt.md"));
    assert_eq!(config(&launch, "developer_instructions"), text("--x\n"));
    assert_eq!(config(&launch, "features.shell_tool"), Some(toml::Value::Boolean(false)));
    assert_eq!(config(&launch, "allow_login_shell"), Some(toml::Value::Boolean(false)));
    assert_eq!(config(&launch, "shell_environment_policy.set.CODEX_API_KEY"), text(""));
    assert_eq!(config(&launch, "mcp_servers.docs.enabled"), Some(toml::Value::Boolean(false)));
    assert_eq!(
        dropped(&launch),
        [
            ("/harness/tools/0", false),
            ("/harness/limits/maxTurns", true),
            ("/harness/limits/maxBudgetUsd", true),
            ("/outputFormat", false),
            ("/harness/inputFormat", false),
        ]
    );
}

#[test]
fn flags_without_an_equivalent_are_dropped() {
    let flags = json!({"optionalFlags": {
        "--config": ["a=1"], "--enable": ["x"], "--disable": ["y"], "--strict-config": true,
        "--ephemeral": true, "--thread-source": "tests",
        "--profile": "p", "--ignore-rules": true, "--ignore-user-config": true, "--oss": true, "--local-provider": "ollama",
        "--worktree": true, "--approve-for-me": true, "--dangerously-bypass-approvals-and-sandbox": true,
        "--dangerously-bypass-hook-trust": true,
    }});
    let request = with(ASKS, &flags);
    let launch = launch(&request);
    for argument in ["--config=a=1", "--enable=x", "--disable=y", "--strict-config"] {
        assert!(has(&launch, argument), "{argument}: {:?}", launch.args);
    }
    assert_eq!(launch.args.iter().filter(|argument| argument.starts_with("--")).count(), 5, "{:?}", launch.args);
    let (thread, _) = started(&request);
    assert_eq!((&thread["params"]["ephemeral"], &thread["params"]["threadSource"]), (&json!(true), &json!("tests")));
    let mut dropped = dropped(&launch);
    dropped.sort_unstable();
    let names = [
        ("--approve-for-me", false),
        ("--dangerously-bypass-approvals-and-sandbox", false),
        ("--dangerously-bypass-hook-trust", false),
        ("--ignore-rules", true),
        ("--ignore-user-config", true),
        ("--local-provider", true),
        ("--oss", true),
        ("--profile", true),
        ("--worktree", true),
    ];
    let expected: Vec<(String, bool)> =
        names.iter().map(|(name, restricts)| (format!("/optionalFlags/{name}"), *restricts)).collect();
    assert_eq!(
        dropped.iter().map(|(pointer, restricts)| ((*pointer).to_owned(), *restricts)).collect::<Vec<_>>(),
        expected
    );
    let trusted = json!({"optionalFlags": {"--trust": true}});
    assert_eq!(problems(&with(ASKS, &trusted)), ["/optionalFlags/--trust"]);
    let grant = r#"{"approvals": true, "trustedSettings": true}"#;
    assert_eq!(launches::dropped(&self::launch(&with(grant, &trusted))), [("/optionalFlags/--trust", false)]);
}
