#![allow(clippy::unwrap_used, clippy::panic, clippy::unnecessary_wraps)]

use ostler_provider_kit_testing::launches::{self, attachment, dropped, file, has, request};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::detect::tests::installed;

fn launch(request: &RunRequest) -> Launch {
    prepare(&Settings::default(), request, &installed()).unwrap()
}

fn of(harness: &Value) -> Launch {
    launch(&request(&json!({ "harness": harness })))
}

fn problems(request: &RunRequest) -> Vec<String> {
    launches::problems(prepare(&Settings::default(), request, &installed()))
}

/// The value of a `-c key=value`, parsed as TOML. The last one applies.
fn config(launch: &Launch, key: &str) -> Option<toml::Value> {
    let prefix = format!("{key}=");
    launch.args.windows(2).rev().find(|pair| pair[0] == "-c" && pair[1].starts_with(&prefix)).map(|pair| {
        let text = format!("x = {}", &pair[1][prefix.len()..]);
        toml::from_str::<toml::Table>(&text).unwrap_or_else(|error| panic!("{text}: {error}")).remove("x").unwrap()
    })
}

fn toml_str(text: &str) -> Option<toml::Value> {
    Some(toml::Value::String(text.to_owned()))
}

fn off() -> Option<toml::Value> {
    Some(toml::Value::Boolean(false))
}

#[test]
fn minimal_request_has_the_default_arguments() {
    let launch = of(&json!({}));
    let projects = r#"projects={"/work"={trust_level="untrusted"},"/"={trust_level="untrusted"}}"#;
    let retries = "features.unbounded_connection_retries=false";
    assert_eq!(launch.args, ["exec", "--json", "--skip-git-repo-check", "-c", retries, "-c", projects, "--", "-"]);
    assert_eq!(launch.stdin.as_deref(), Some(&b"do it"[..]));
    assert!(launch.dropped.is_empty() && launch.files.is_empty() && launch.environment.is_empty());
    assert_eq!(launch.stop, StopSignal::Interrupt);
}

#[test]
fn project_is_distrusted_unless_its_grant_trusts_it() {
    let with = |extra: Option<&str>, payload: Value| {
        let mut request = request(&payload);
        request.host.extra = extra.map(str::to_owned);
        request
    };
    let trusted = Some(r#"{"trustedSettings": true}"#);
    for extra in [None, Some("{}"), Some(r#"{"trustedSettings": false}"#)] {
        let launch = launch(&with(extra, json!({})));
        assert_eq!(
            config(&launch, "projects").unwrap()["/work"]["trust_level"].as_str(),
            Some("untrusted"),
            "{extra:?}"
        );
        // Neither a value nor a flag of the payload overrides that.
        let flags = json!({"optionalFlags": {"--config": ["projects={\"/work\"={trust_level=\"trusted\"}}"]}});
        let launch = self::launch(&with(extra, flags));
        let last = launch.args.iter().rev().find(|arg| arg.contains("projects=")).unwrap();
        assert!(last.contains("untrusted"), "{last}");
        let flags = json!({"optionalFlags": {"--trust": true}});
        assert_eq!(problems(&with(extra, flags)), ["/optionalFlags/--trust"]);
    }
    let plain = launch(&with(trusted, json!({})));
    assert!(config(&plain, "projects").is_none());
    assert!(has(&launch(&with(trusted, json!({"optionalFlags": {"--trust": true}}))), "--trust"));
    let listed = launch(&with(trusted, json!({"harness": {"tools": ["shell"]}})));
    assert!(config(&listed, "projects").is_some(), "a list without `mcp` starts no server of the project");
}

#[test]
fn prompts_are_passed_on_standard_input() {
    for prompt in ["--help", "-", "x\u{0}y", &"long ".repeat(60 * 1024)] {
        let launch = launch(&RunRequest { prompt: prompt.to_owned(), ..request(&json!({})) });
        assert_eq!(launch.stdin.unwrap(), prompt.as_bytes());
        assert!(!launch.args.iter().any(|arg| arg == prompt && prompt != "-"));
    }
    assert_eq!(problems(&RunRequest { prompt: " \n".to_owned(), ..request(&json!({})) }), ["/prompt"]);
}

#[test]
fn sandbox_and_network_access_are_set() {
    let permissions = |permissions: Value| of(&json!({ "permissions": permissions }));
    assert!(has(&permissions(json!({"sandboxMode": "read-only"})), "--sandbox=read-only"));
    assert!(has(&permissions(json!({"sandboxMode": "full-access"})), "--sandbox=danger-full-access"));
    let launch = permissions(json!({"sandboxMode": "workspace-write", "networkAccess": false}));
    assert!(has(&launch, "--sandbox=workspace-write") && dropped(&launch).is_empty());
    assert_eq!(config(&launch, "sandbox_workspace_write.network_access"), off());
    let launch = permissions(json!({"sandboxMode": "workspace-write", "networkAccess": true}));
    assert_eq!(config(&launch, "sandbox_workspace_write.network_access"), Some(toml::Value::Boolean(true)));
    assert_eq!(
        dropped(&permissions(json!({"sandboxMode": "full-access", "networkAccess": false}))),
        [("/harness/permissions/networkAccess", true)]
    );
    assert_eq!(
        dropped(&permissions(json!({"sandboxMode": "read-only", "networkAccess": true}))),
        [("/harness/permissions/networkAccess", false)]
    );
    let launch = permissions(json!({"networkAccess": false}));
    assert_eq!(config(&launch, "web_search"), Some(toml::Value::String("disabled".to_owned())));
    assert!(has(&launch, "--sandbox=read-only") && dropped(&launch).is_empty());
    assert_eq!(dropped(&permissions(json!({"networkAccess": true}))), [("/harness/permissions/networkAccess", false)]);
}

#[test]
fn approval_policies_that_ask_are_dropped_restrictions() {
    for policy in ["untrusted", "on-failure", "on-request"] {
        assert_eq!(
            dropped(&of(&json!({"permissions": {"approvalPolicy": policy}}))),
            [("/harness/permissions/approvalPolicy", true)]
        );
    }
    let launch = of(&json!({"permissions": {"approvalPolicy": "never", "autoApprove": true}}));
    assert!(dropped(&launch).is_empty());
    assert_eq!(config(&launch, "approval_policy"), toml_str("never"));
}

#[test]
fn resumed_thread_uses_the_requested_sandbox() {
    let payload = json!({"harness": {"permissions": {"sandboxMode": "workspace-write"}, "images": [{"name": "a.png", "mimeType": "image/png"}]}});
    let image = attachment("a.png", "image/png", "/p/a.png");
    let request =
        RunRequest { resume_session: Some("--last".to_owned()), attachments: vec![image], ..request(&payload) };
    let launch = launch(&request);
    let sandbox = launch.args.iter().position(|arg| arg == "--sandbox=workspace-write").unwrap();
    let resume = launch.args.iter().position(|arg| arg == "resume").unwrap();
    assert!(sandbox < resume, "`resume` has no --sandbox of its own");
    assert_eq!(launch.args[resume..], ["resume", "--image=/p/a.png", "--", "--last", "-"]);
}

#[test]
fn sessions_are_resumed_or_started() {
    let launch_with = |resume: Option<&str>, harness: Value| {
        launch(&RunRequest { resume_session: resume.map(str::to_owned), ..request(&json!({"harness": harness})) })
    };
    let launch = launch_with(None, json!({"continueSession": true}));
    assert_eq!(launch.args[launch.args.len() - 3..], ["resume", "--last", "-"]);
    let launch = launch_with(Some("id"), json!({"continueSession": true}));
    assert_eq!(launch.args[launch.args.len() - 4..], ["resume", "--", "id", "-"]);
    assert_eq!(dropped(&launch), [("/harness/continueSession", false)]);
    assert_eq!(
        problems(&RunRequest { resume_session: Some("-".to_owned()), ..request(&json!({})) }),
        ["/harness/resumeSessionId"]
    );
    let mut capabilities = installed();
    let mut detected = Detected::of(&capabilities).unwrap();
    detected.resume = false;
    capabilities.extra = serde_json::to_string(&detected).ok();
    let request = RunRequest { resume_session: Some("id".to_owned()), ..request(&json!({})) };
    let launch = prepare(&Settings::default(), &request, &capabilities).unwrap();
    assert!(!has(&launch, "resume") && !has(&launch, "id"));
    assert_eq!(dropped(&launch), [("/harness/resumeSessionId", false)]);
}

#[test]
fn secrets_of_mcp_servers_are_not_in_arguments() {
    let launch = of(&json!({"mcp": {"servers": [
        {"name": "files", "command": "serve", "args": ["--root", "a b"], "env": {"TOKEN": "s3cret'; rm -rf /\n"}, "enabledTools": ["read"]},
        {"name": "web", "url": "https://mcp.example/x", "headers": {"Authorization": "Bearer s3cret", "X-A": "1"}, "disabledTools": ["w"]},
        {"name": "plain", "command": "/bin/plain", "enabled": false},
        {"name": "old", "type": "sse", "url": "https://mcp.example/sse"},
    ]}}));
    assert!(!launch.args.iter().any(|arg| arg.contains("s3cret")));
    let files = config(&launch, "mcp_servers.files").unwrap();
    assert_eq!(files["command"].as_str(), Some("/private/mcp-0-files.sh"));
    assert_eq!(files["args"].as_array().unwrap().len(), 2);
    assert_eq!(files["enabled_tools"].as_array().unwrap()[0].as_str(), Some("read"));
    assert_eq!(files["default_tools_approval_mode"].as_str(), Some("approve"));
    assert_eq!(
        file(&launch, "mcp-0-files.sh"),
        "#!/bin/sh\nexport TOKEN='s3cret'\\''; rm -rf /\n'\nexec 'serve' \"$@\"\n"
    );
    assert!(launch.files[0].executable);
    let web = config(&launch, "mcp_servers.web").unwrap();
    assert_eq!(web["env_http_headers"]["Authorization"].as_str(), Some("OSTLER_MCP_1_0"));
    assert_eq!(web["disabled_tools"].as_array().unwrap().len(), 1);
    let variable =
        |name: &str| launch.environment.iter().find(|entry| entry.name == name).map(|entry| entry.value.as_str());
    assert_eq!(variable("OSTLER_MCP_1_0"), Some("Bearer s3cret"));
    assert_eq!(config(&launch, "shell_environment_policy.set.OSTLER_MCP_1_0"), toml_str(""), "tools do not see it");
    let plain = config(&launch, "mcp_servers.plain").unwrap();
    assert_eq!((plain["command"].as_str(), plain["enabled"].as_bool()), (Some("/bin/plain"), Some(false)));
    assert!(config(&launch, "mcp_servers.old").is_none());
    assert_eq!(dropped(&launch), [("/harness/mcp/servers/3/type", false)]);
}

#[test]
fn invalid_mcp_servers_are_reported() {
    let bad = request(&json!({"harness": {"mcp": {"servers": [
        {"name": "a.b", "command": "x"},
        {"name": "c"},
        {"name": "d", "type": "http"},
        {"name": "e", "command": "x", "env": {"A B": "1"}, "url": "http://h"},
        {"name": "f", "url": "http://h", "headers": {"X": "a\nb"}, "args": ["x"]},
    ]}}}));
    assert_eq!(
        problems(&bad),
        [
            "/harness/mcp/servers/0/name",
            "/harness/mcp/servers/1/command",
            "/harness/mcp/servers/2/url",
            "/harness/mcp/servers/3/url",
            "/harness/mcp/servers/3/env/A B",
            "/harness/mcp/servers/4/args",
            "/harness/mcp/servers/4/headers/X",
        ]
    );
    let launch =
        of(&json!({"permissions": {"autoApprove": false}, "mcp": {"servers": [{"name": "a", "command": "x"}]}}));
    assert!(config(&launch, "mcp_servers.a").unwrap().get("default_tools_approval_mode").is_none());
    assert_eq!(dropped(&launch), [("/harness/mcp/servers", false)]);
}

#[test]
fn list_of_tools_is_enforced_or_refused() {
    let launch = of(
        &json!({"tools": ["shell", "file_read", "file_write", "file_edit", "mcp", "task", "web_search", "file_search", "content_search"]}),
    );
    assert!(dropped(&launch).is_empty());
    assert_eq!(config(&launch, "web_search"), toml_str("live"));
    assert!(!launch.args.iter().any(|arg| arg.starts_with("--sandbox")));

    let launch = of(&json!({"tools": []}));
    assert!(dropped(&launch).is_empty(), "{:?}", launch.dropped);
    for feature in ["shell_tool", "multi_agent", "goals", "view_image", "image_generation", "apps", "plugins"] {
        assert_eq!(config(&launch, &format!("features.{feature}")), off(), "{feature}");
    }
    assert_eq!(config(&launch, "web_search"), toml_str("disabled"));
    assert_eq!(config(&launch, "mcp_servers.docs.enabled"), off());
    assert_eq!(config(&launch, "projects").unwrap()["/work"]["trust_level"].as_str(), Some("untrusted"));
    assert_eq!(config(&launch, "projects").unwrap()["/"]["trust_level"].as_str(), Some("untrusted"));
    assert!(has(&launch, "--sandbox=read-only"));

    let launch = of(&json!({"tools": ["shell", "mcp"], "permissions": {"sandboxMode": "workspace-write"}}));
    assert_eq!(dropped(&launch), [("/harness/tools", true)]);
    let launch = of(&json!({"tools": ["shell", "mcp", "file_edit"]}));
    assert_eq!(dropped(&launch), [("/harness/tools", true)]);
    let launch = of(&json!({"tools": ["file_read", "web_fetch", "mcp"]}));
    assert_eq!(dropped(&launch), [("/harness/tools/0", false), ("/harness/tools/1", false)]);
    let launch = of(&json!({"tools": ["web_search", "mcp"], "permissions": {"networkAccess": false}}));
    assert_eq!(config(&launch, "web_search"), Some(toml::Value::String("disabled".to_owned())));
    let launch = of(&json!({"tools": ["shell"], "mcp": {"servers": [{"name": "a", "command": "x"}]}}));
    assert_eq!(dropped(&launch), [("/harness/mcp/servers", false)]);
    assert!(config(&launch, "mcp_servers.a").is_none());
}

#[test]
fn unknown_properties_of_the_version_do_not_enforce_restrictions() {
    let mut capabilities = installed();
    let mut detected = Detected::of(&capabilities).unwrap();
    detected.features = None;
    detected.mcp_servers = None;
    detected.options.retain(|option| matches!(option.as_str(), "--json" | "--sandbox" | "--config"));
    capabilities.extra = serde_json::to_string(&detected).ok();
    let payload = json!({"model": "m", "harness": {
        "tools": ["file_write", "file_edit"], "additionalDirectories": ["/d"], "structuredOutput": {"schema": {}},
        "images": [{"name": "a.png", "mimeType": "image/png"}],
    }});
    let image = attachment("a.png", "image/png", "/p/a.png");
    let request = RunRequest { model: Some("m".to_owned()), attachments: vec![image], ..request(&payload) };
    let launch = prepare(&Settings::default(), &request, &capabilities).unwrap();
    let dropped = dropped(&launch);
    assert!(dropped.contains(&("/harness/tools", true)));
    for pointer in ["/model", "/harness/additionalDirectories/0", "/harness/structuredOutput", "/harness/images/0"] {
        assert!(dropped.contains(&(pointer, false)), "{pointer}: {dropped:?}");
    }
    assert!(!has(&launch, "--skip-git-repo-check"));
}

#[test]
fn instructions_schema_and_directories_are_passed() {
    let launch = of(&json!({
        "systemPrompt": "Be \"brief\"", "appendSystemPrompt": "--x\n\u{7f}\\", "additionalDirectories": ["/a b", "-c"],
        "structuredOutput": {"schema": {"type": "object", "x": null}, "strict": true},
    }));
    // The mode in which they apply is not set.
    assert_eq!(
        dropped(&launch),
        [("/harness/additionalDirectories/0", false), ("/harness/additionalDirectories/1", false)]
    );
    assert_eq!(config(&launch, "model_instructions_file"), toml_str("/private/system-prompt.md"));
    assert_eq!(file(&launch, "system-prompt.md"), "Be \"brief\"");
    assert_eq!(config(&launch, "developer_instructions"), toml_str("--x\n\u{7f}\\"));
    assert!(has(&launch, "--add-dir=/a b") && has(&launch, "--add-dir=-c"));
    assert!(has(&launch, "--output-schema=/private/output-schema.json"));
    assert_eq!(file(&launch, "output-schema.json"), r#"{"type":"object","x":null}"#);
    let launch =
        of(&json!({"additionalDirectories": ["/a"], "permissions": {"sandboxMode": "read-only"}, "systemPrompt": " "}));
    assert_eq!(dropped(&launch), [("/harness/additionalDirectories/0", false), ("/harness/systemPrompt", false)]);
    let long = request(&json!({"harness": {"appendSystemPrompt": "x".repeat(200_000)}}));
    assert_eq!(problems(&long), ["/harness/appendSystemPrompt"]);
}

#[test]
fn attachments_and_piped_content_are_passed() {
    let payload = json!({"harness": {
        "images": [{"name": "a.png", "mimeType": "image/png"}, {"name": "b.svg", "mimeType": "image/svg+xml"}, {"name": "c,d.png", "mimeType": "image/png"}],
        "files": [{"name": "n.txt", "mimeType": "text/plain"}, {"name": "a.png", "mimeType": "image/png"}],
        "pipedContent": "log line",
    }});
    let attachments = vec![
        attachment("a.png", "image/png", "/private/a.png"),
        attachment("b.svg", "image/svg+xml", "/private/b.svg"),
        attachment("c,d.png", "image/png", "/private/c,d.png"),
        attachment("n.txt", "text/plain", "/w/n.txt"),
        attachment("a.png", "image/png", "/w/a.png"),
    ];
    let launch = launch(&RunRequest { attachments, ..request(&payload) });
    let images: Vec<_> = launch.args.iter().filter(|arg| arg.starts_with("--image")).collect();
    assert_eq!(images, ["--image=/private/a.png"]);
    assert_eq!(dropped(&launch), [("/harness/images/1", false), ("/harness/images/2", false)]);
    let stdin = String::from_utf8(launch.stdin.unwrap()).unwrap();
    assert_eq!(
        stdin,
        "do it\n\n<files>\nn.txt (text/plain): /w/n.txt\na.png (image/png): /w/a.png\n</files>\n\n<stdin>\nlog line\n</stdin>"
    );
    assert_eq!(launch.args[launch.args.len() - 2..], ["--", "-"]);
}

#[test]
fn unsupported_options_are_reported() {
    let launch = launch(&request(&json!({"outputFormat": "json", "harness": {
        "limits": {"maxTurns": 3, "maxBudgetUsd": 1.5, "timeoutMs": 5000, "maxToolResultLines": 5}, "inputFormat": "stream-json",
    }})));
    assert_eq!(
        dropped(&launch),
        [
            ("/harness/limits/maxTurns", true),
            ("/harness/limits/maxBudgetUsd", true),
            ("/outputFormat", false),
            ("/harness/inputFormat", false)
        ]
    );
}

#[test]
fn shells_keep_the_path_of_the_host_and_do_not_inherit_the_token() {
    for harness in [
        json!({"cliAllowlist": {"entries": []}}),
        json!({"shellPrelude": {"content": "x"}}),
        json!({"processEnv": {"PATH": "/x"}}),
    ] {
        let launch = of(&harness);
        assert_eq!(config(&launch, "allow_login_shell"), off(), "{harness}");
        assert_eq!(config(&launch, "features.shell_snapshot"), off());
    }
    let mut request = request(&json!({"harness": {"processEnv": {"A": "secret-value"}}}));
    request.host.environment_names = vec!["CODEX_API_KEY".to_owned()];
    let launch = launch(&request);
    assert!(config(&launch, "allow_login_shell").is_none());
    assert_eq!(config(&launch, "shell_environment_policy.set.CODEX_API_KEY"), toml_str(""));
    assert!(!launch.args.iter().any(|arg| arg.contains("secret-value")) && launch.environment.is_empty());
}

#[test]
fn options_of_the_run_override_settings() {
    let settings: Settings = serde_json::from_value(json!({
        "modelProvider": "fake", "requestMaxRetries": 1, "streamMaxRetries": 0, "skipGitRepoCheck": false,
        "config": {"approval_policy": "on-request", "model_reasoning_effort": "high"},
    }))
    .unwrap();
    let request = request(
        &json!({"harness": {"permissions": {"approvalPolicy": "never"}}, "optionalFlags": {"--config": ["web_search=\"live\""]}}),
    );
    let launch = prepare(&settings, &request, &installed()).unwrap();
    assert_eq!(config(&launch, "model_provider"), toml_str("fake"));
    assert_eq!(config(&launch, "model_providers.fake.request_max_retries"), Some(toml::Value::Integer(1)));
    assert_eq!(config(&launch, "model_providers.fake.stream_max_retries"), Some(toml::Value::Integer(0)));
    assert_eq!(config(&launch, "approval_policy"), toml_str("never"));
    assert_eq!(config(&launch, "model_reasoning_effort"), toml_str("high"));
    assert!(!has(&launch, "--skip-git-repo-check") && has(&launch, "--config=web_search=\"live\""));
    let openai = Settings { model_provider: Some("openai".to_owned()), ..Settings::default() };
    let launch = prepare(&openai, &request, &installed()).unwrap();
    assert!(!launch.args.iter().any(|arg| arg.contains("max_retries")), "codex refuses changes of its own providers");
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

proptest! {
    /// Arbitrary texts do not move the other arguments, and are parsed back.
    #[test]
    fn arbitrary_texts_are_not_parsed_as_flags(
        prompt in "-{0,2}\\PC{1,20}x", model in "-{0,2}\\PC{1,20}", append in any::<String>(), directory in "-{0,2}\\PC{1,20}",
        session in "-{0,2}\\PC{2,20}", argument in any::<String>(),
    ) {
        let payload = json!({"harness": {
            "appendSystemPrompt": append, "additionalDirectories": [directory],
            "mcp": {"servers": [{"name": "s", "command": "c", "args": [argument], "env": {"A": "b"}}]},
        }});
        let request = RunRequest { prompt: prompt.clone(), model: Some(model.clone()), resume_session: Some(session.clone()), ..request(&payload) };
        // Of texts of this length, only those with NUL are rejected.
        let Ok(launch) = prepare(&Settings::default(), &request, &installed()) else {
            let texts = [&model, &append, &directory, &session, &argument];
            prop_assert!(texts.iter().any(|text| text.contains('\0')) || session == "-");
            return Ok(());
        };
        let stdin = launch.stdin.clone().unwrap();
        prop_assert_eq!(stdin, prompt.into_bytes());
        let joined = [format!("--model={model}"), format!("--add-dir={directory}")];
        prop_assert!(joined.iter().all(|argument| has(&launch, argument)));
        if !append.is_empty() {
            prop_assert_eq!(config(&launch, "developer_instructions"), toml_str(&append));
        }
        let server = config(&launch, "mcp_servers.s").unwrap();
        prop_assert_eq!(server["args"][0].as_str(), Some(argument.as_str()));
        prop_assert_eq!(&launch.args[launch.args.len() - 4..], ["resume", "--", &session, "-"]);
        // Every argument before that is a word of this plugin, a joined value, or the value of a `-c`.
        let mut args = launch.args[..launch.args.len() - 4].iter();
        while let Some(arg) = args.next() {
            if arg == "-c" {
                prop_assert!(args.next().unwrap().contains('='));
            } else {
                let known = ["exec", "--json", "--skip-git-repo-check"].contains(&arg.as_str());
                let joined = ["--model=", "--add-dir=", "--sandbox="].iter().any(|flag| arg.starts_with(flag));
                prop_assert!(known || joined, "{}", arg);
            }
        }
    }
}

/// The launch of a changed version.
fn of_version(change: impl Fn(&mut Detected), request: &RunRequest) -> Result<Launch, Error> {
    let mut capabilities = installed();
    let mut detected = Detected::of(&capabilities).unwrap();
    change(&mut detected);
    capabilities.extra = serde_json::to_string(&detected).ok();
    prepare(&Settings::default(), request, &capabilities)
}

#[test]
fn tool_lists_apply_to_resumed_sessions_or_are_refused() {
    let request = RunRequest {
        resume_session: Some("019a0000-0000-7000-8000-00000000dead".to_owned()),
        ..request(&json!({"harness": {"tools": ["shell", "file_read"]}}))
    };
    assert_eq!(config(&launch(&request), "agents.enabled"), off());
    let older = of_version(|detected| detected.agents_key = false, &request).unwrap();
    assert_eq!((config(&older, "agents.enabled"), dropped(&older)), (None, vec![("/harness/tools", true)]));
    let without = |detected: &mut Detected| {
        detected.agents_key = false;
        detected.features.as_mut().unwrap().remove("multi_agent");
    };
    assert!(dropped(&of_version(without, &request).unwrap()).is_empty(), "there are none");
}

#[test]
fn image_viewing_without_file_read_is_disabled_or_refused() {
    let request = request(&json!({"harness": {"tools": ["shell"]}}));
    assert_eq!(config(&launch(&request), "features.view_image"), off());
    let named = |name: &'static str| {
        move |detected: &mut Detected| {
            let features = detected.features.as_mut().unwrap();
            features.remove("view_image");
            features.insert(name.to_owned());
        }
    };
    let launch = of_version(named("view_image_tool"), &request).unwrap();
    assert_eq!((config(&launch, "features.view_image_tool"), dropped(&launch).len()), (off(), 0));
    assert_eq!(dropped(&of_version(named("other"), &request).unwrap()), [("/harness/tools", true)]);
}

#[test]
fn images_come_before_resume_if_resume_does_not_accept_them() {
    let payload = json!({"harness": {"images": [{"name": "a.png", "mimeType": "image/png"}]}});
    let attachments = vec![attachment("a.png", "image/png", "/p/a.png")];
    let request = RunRequest { resume_session: Some("name".to_owned()), attachments, ..request(&payload) };
    let older = of_version(|detected| detected.resume_images = false, &request).unwrap();
    assert_eq!(older.args[older.args.len() - 5..], ["--image=/p/a.png", "resume", "--", "name", "-"]);
}

#[test]
fn mcp_server_that_fails_to_start_is_reported() {
    let server = json!({"harness": {"mcp": {"servers": [{"name": "a", "command": "x", "enabledTools": ["t"]}]}}});
    let table = |launch: &Launch| config(launch, "mcp_servers.a").unwrap();
    let launch = launch(&request(&server));
    assert_eq!(table(&launch)["required"].as_bool(), Some(true));
    assert!(dropped(&launch).is_empty());
    let silent = |detected: &mut Detected| detected.required_key = false;
    let launch = of_version(silent, &request(&server)).unwrap();
    assert!(table(&launch).get("required").is_none());
    assert_eq!(dropped(&launch), [("/harness/mcp/servers/0", false)]);
}

#[test]
fn faults_of_older_versions_are_reported_or_refused() {
    let older = |detected: &mut Detected| detected.resume_here = false;
    let continues = request(&json!({"harness": {"continueSession": true}}));
    assert!(has(&launch(&continues), "--last"));
    let mut sandboxed = continues.clone();
    sandboxed.host.extra = Some(r#"{"sandboxed": true}"#.to_owned());
    let launch = of_version(older, &sandboxed).unwrap();
    assert!(!has(&launch, "--last") && !has(&launch, "resume"));
    assert_eq!(dropped(&launch), [("/cwd", false), ("/harness/continueSession", false)]);
    // Nothing prevents the programs of the folder from starting.
    assert_eq!(launches::problems(of_version(older, &continues)), ["/cwd"]);
    let mut trusted = request(&json!({"harness": {
        "systemPrompt": "x", "cliAllowlist": {"entries": []}, "permissions": {"sandboxMode": "read-only"},
    }}));
    trusted.host.extra = Some(r#"{"trustedSettings": true}"#.to_owned());
    let launch = of_version(older, &trusted).unwrap();
    assert_eq!(config(&launch, "experimental_instructions_file"), config(&launch, "model_instructions_file"));
    assert_eq!(dropped(&launch), [("/harness/cliAllowlist", true)]);
}

#[test]
fn appended_prompt_of_a_resumed_session_is_reported() {
    let payload = json!({"harness": {"appendSystemPrompt": "x"}});
    assert!(dropped(&launch(&request(&payload))).is_empty());
    let resumed = RunRequest { resume_session: Some("name".to_owned()), ..request(&payload) };
    assert_eq!(dropped(&launch(&resumed)), [("/harness/appendSystemPrompt", false)]);
}

#[test]
fn mcp_tools_are_not_approved_if_auto_approve_is_false() {
    assert!(has(&of(&json!({"permissions": {"autoApprove": false}})), "--sandbox=read-only"));
    let named = of(&json!({"permissions": {"autoApprove": false, "sandboxMode": "workspace-write"}}));
    assert!(has(&named, "--sandbox=workspace-write"));
}
