#![allow(clippy::unwrap_used, clippy::panic)]

use ostler_plugin::provider::{
    Channel, ExitStatus, FailureKind, Line, Outcome, OutputForm, OutputStream, ProbeOutcome, ProbeOutput, RunMode,
    StopSignal, Support,
};
use ostler_plugin::{Transcript, types::Problem};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn configured(settings: &Value) -> Result<Command, Vec<Problem>> {
    match Command::configure(serde_json::from_value(settings.clone()).unwrap()) {
        Ok(plugin) => Ok(plugin),
        Err(Error::Invalid(problems)) => Err(problems),
        Err(other) => panic!("{other:?}"),
    }
}

fn plugin(settings: &Value) -> Command {
    configured(settings).unwrap()
}

fn request(prompt: &str, payload: &Value) -> RunRequest {
    RunRequest { prompt: prompt.to_owned(), payload: payload.to_string(), ..RunRequest::default() }
}

fn prepare(plugin: &Command, request: RunRequest) -> Result<Launch, Error> {
    plugin.prepare(request, Capabilities::default())
}

fn refused(plugin: &Command, request: RunRequest) -> Vec<(String, String)> {
    match prepare(plugin, request) {
        Err(Error::Invalid(problems)) => {
            problems.into_iter().map(|problem| (problem.pointer, problem.message)).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn schema_describes_every_setting() {
    let all = json!({
        "args": ["a", ["b", "{model}"]], "terminalArgs": ["-i"], "prompt": "stdin", "environment": ["A"], "successCodes": [0, 3], "versionArgs": ["-V"],
        "silence": "fine",
        "stop": "interrupt", "defaultModel": "m", "tokenVariable": "T", "displayName": "D", "installHint": "H",
    });
    let schema: Value = serde_json::from_str(&Command::settings_schema().unwrap()).unwrap();
    let known: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
    let mut given: Vec<_> = all.as_object().unwrap().keys().collect();
    assert!(given.iter().all(|key| known.contains(key)) && known.len() == given.len());
    given.sort();
    let info = plugin(&all).describe();
    assert_eq!((info.display_name.as_str(), info.install_hint.as_str()), ("D", "H"));
    assert_eq!((info.default_model.as_deref(), info.token_variable.as_deref()), (Some("m"), Some("T")));
    assert_eq!(info.inherit_environment, ["A"]);
    assert!(info.executables.is_empty());
    assert_eq!(prepare(&plugin(&all), request("x", &json!({}))).unwrap().stop, StopSignal::Interrupt);
}

#[test]
fn all_invalid_settings_are_reported() {
    let pointers = |settings: Value| {
        configured(&settings).unwrap_err().into_iter().map(|problem| problem.pointer).collect::<Vec<_>>()
    };
    assert_eq!(
        pointers(
            json!({"args": ["{promt}", ["x", "{"], "a}b"], "environment": ["A-B"], "tokenVariable": "", "versionArgs": ["a\u{0}"]})
        ),
        ["/args/0", "/args/1/1", "/args/2", "/environment/0", "/tokenVariable", "/versionArgs/0"]
    );
    assert_eq!(pointers(json!({"prompt": "argument"})), ["/args"]);
    assert_eq!(pointers(json!({"prompt": "stdin", "args": ["{prompt}"]})), ["/args"]);
    assert_eq!(pointers(json!({"args": ["{prompt}", "{prompt}"]})), ["/args"]);
}

#[test]
fn prompt_on_standard_input_can_be_any_text() {
    let plugin = plugin(&json!({"args": ["run"]}));
    for prompt in ["--help", "-", &"long ".repeat(60 * 1024)] {
        let launch = prepare(&plugin, request(prompt, &json!({}))).unwrap();
        assert_eq!((launch.args, launch.stdin), (vec!["run".to_owned()], Some(prompt.as_bytes().to_vec())));
        assert_eq!((launch.output, launch.stop), (OutputForm::Text, StopSignal::Terminate));
        assert!(launch.dropped.is_empty());
    }
    let launch = prepare(&plugin, request("sum", &json!({"harness": {"pipedContent": "1\n2"}}))).unwrap();
    assert_eq!(launch.stdin.unwrap(), b"sum\n\n<stdin>\n1\n2\n</stdin>");
    assert_eq!(refused(&plugin, request(" ", &json!({})))[0].0, "/prompt");
}

#[test]
fn prompt_as_argument_has_a_maximum_length_and_cannot_be_a_flag() {
    let bare = plugin(&json!({"args": ["ask", "{prompt}"]}));
    let launch = prepare(&bare, request("hi; rm", &json!({"harness": {"pipedContent": "p"}}))).unwrap();
    assert_eq!((launch.args, launch.stdin), (vec!["ask".to_owned(), "hi; rm".to_owned()], Some(b"p".to_vec())));
    assert_eq!(prepare(&bare, request("x", &json!({}))).unwrap().stdin, None);
    let (pointer, message) = refused(&bare, request("--help", &json!({}))).remove(0);
    assert!(pointer == "/prompt" && message.contains("`--`"), "{message}");
    let guarded = plugin(&json!({"args": ["ask", "--", "{prompt}"]}));
    assert_eq!(prepare(&guarded, request("--help", &json!({}))).unwrap().args, ["ask", "--", "--help"]);
    let joined = plugin(&json!({"args": ["--prompt={prompt}"]}));
    assert_eq!(prepare(&joined, request("-x", &json!({}))).unwrap().args, ["--prompt=-x"]);
    let fits = "x".repeat(128 * 1024 - 1);
    assert_eq!(prepare(&guarded, request(&fits, &json!({}))).unwrap().args[2].len(), fits.len());
    let (pointer, message) = refused(&guarded, request(&format!("{fits}x"), &json!({}))).remove(0);
    assert!(pointer == "/prompt" && message.contains("131072 bytes"), "{message}");
    assert_eq!(refused(&guarded, request("a\0b", &json!({})))[0].0, "/prompt");
}

#[test]
fn group_with_a_placeholder_without_value_is_omitted() {
    let plugin = plugin(
        &json!({"args": [["--model", "{model}"], ["--resume", "{session}"], "--cwd={cwd}", "{{x}}", "--", "{prompt}"]}),
    );
    assert_eq!(prepare(&plugin, request("p", &json!({}))).unwrap().args, ["--cwd=/work", "{x}", "--", "p"]);
    let full =
        RunRequest { model: Some("m".to_owned()), resume_session: Some("s".to_owned()), ..request("p", &json!({})) };
    let launch = prepare(&plugin, full).unwrap();
    assert_eq!(launch.args, ["--model", "m", "--resume", "s", "--cwd=/work", "{x}", "--", "p"]);
    assert!(launch.dropped.is_empty());
    let flag = RunRequest { model: Some("--evil".to_owned()), ..request("p", &json!({})) };
    assert_eq!(refused(&plugin, flag)[0].0, "/model");
}

#[test]
fn unsupported_options_are_reported() {
    let plain = plugin(&json!({}));
    let payload = json!({"outputFormat": "json", "optionalFlags": {"--x": true}, "harness": {
        "continueSession": true, "inputFormat": "stream-json", "additionalDirectories": ["/d"], "tools": ["shell"],
        "permissions": {"sandboxMode": "read-only", "autoApprove": false, "networkAccess": false, "approvalPolicy": "never"},
        "limits": {"maxBudgetUsd": 1, "maxTurns": 1, "timeoutMs": 5000, "maxToolResultLines": 10},
        "mcp": {"servers": [{"name": "a", "command": "b"}]}, "structuredOutput": {"schema": {}}, "systemPrompt": "s",
        "appendSystemPrompt": "a", "images": [{"name": "i"}], "files": [{"name": "f"}], "processEnv": {"A": "b"},
        "cliAllowlist": {"entries": []}, "shellPrelude": {"content": "x"},
    }});
    let request =
        RunRequest { model: Some("m".to_owned()), resume_session: Some("s".to_owned()), ..request("p", &payload) };
    let dropped = prepare(&plain, request).unwrap().dropped;
    let of = |restricts: bool| {
        let chosen = dropped.iter().filter(|option| option.restricts == restricts);
        chosen.map(|option| option.pointer.trim_start_matches("/harness").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        of(true),
        [
            "/tools",
            "/permissions/sandboxMode",
            "/permissions/networkAccess",
            "/permissions/autoApprove",
            "/permissions/approvalPolicy",
            "/limits/maxTurns",
            "/limits/maxBudgetUsd",
        ]
    );
    assert_eq!(
        of(false),
        [
            "/model",
            "/resumeSessionId",
            "/continueSession",
            "/outputFormat",
            "/inputFormat",
            "/optionalFlags",
            "/additionalDirectories",
            "/mcp",
            "/structuredOutput",
            "/systemPrompt",
            "/appendSystemPrompt",
            "/images",
            "/files",
            "/limits/maxToolResultLines",
        ]
    );
    let wide = json!({"outputFormat": "text", "harness": {"permissions": {"sandboxMode": "full-access", "autoApprove": true, "networkAccess": true}}});
    let dropped = prepare(&plain, self::request("p", &wide)).unwrap().dropped;
    assert!(dropped.len() == 3 && dropped.iter().all(|option| !option.restricts));
    let interactive = RunRequest { mode: RunMode::Interactive, ..self::request("p", &json!({})) };
    assert!(matches!(prepare(&plain, interactive), Err(Error::Unsupported(_))));
}

#[test]
fn program_with_terminal_arguments_has_sessions_in_a_terminal() {
    let shell = plugin(&json!({"terminalArgs": ["-i", ["--model", "{model}"]]}));
    let capabilities = shell.detect(Vec::new());
    assert_eq!(capabilities.modes, [RunMode::NonInteractive, RunMode::Interactive]);
    assert_eq!(capabilities.features, ["piped-content", "model", "terminal", "terminal-only"]);
    let session = |prompt: &str| RunRequest { mode: RunMode::Interactive, ..request(prompt, &json!({})) };
    let launch = prepare(&shell, session(" ")).unwrap();
    assert_eq!((launch.channel, launch.args, launch.stdin), (Channel::Pty, vec!["-i".to_owned()], None));
    let typed = |plugin: &Command, prompt| plugin.transcript(session(prompt), Capabilities::default()).open().write;
    assert_eq!(typed(&shell, "ls"), b"ls\r");
    let once = plugin(&json!({"terminalArgs": ["-c", "{prompt}"]}));
    assert_eq!(prepare(&once, session("ls")).unwrap().args, ["-c", "ls"]);
    assert!(typed(&once, "ls").is_empty(), "the prompt is an argument");
    assert_eq!(prepare(&once, session("")).unwrap().args, ["-c"]);
    let piped = RunRequest { mode: RunMode::Interactive, ..request("x", &json!({"harness": {"pipedContent": "p"}})) };
    assert_eq!(refused(&once, piped)[0].0, "/harness/pipedContent");
    let twice = json!({"terminalArgs": ["{prompt}", "{prompt}", "{x"]});
    let pointers: Vec<_> = configured(&twice).unwrap_err().into_iter().map(|problem| problem.pointer).collect();
    assert_eq!(pointers, ["/terminalArgs/2", "/terminalArgs"]);
}

#[test]
fn version_probe_decides_support() {
    let silent = plugin(&json!({"args": [["-m", "{model}"]]}));
    assert!(silent.probes().is_empty());
    let capabilities = silent.detect(Vec::new());
    assert_eq!((capabilities.support, capabilities.cli_version), (Support::Supported, None));
    assert_eq!(capabilities.features, ["piped-content", "model"]);
    let asked = plugin(&json!({"versionArgs": ["--version"]}));
    assert_eq!(asked.probes()[0].args, ["--version"]);
    let detect = |outcome: ProbeOutcome| asked.detect(vec![ProbeResult { id: "version".to_owned(), outcome }]);
    let exited = |code, stdout: &str, stderr: &str| {
        ProbeOutcome::Exited(ProbeOutput { code, stdout: stdout.to_owned(), stderr: stderr.to_owned() })
    };
    assert_eq!(detect(exited(0, "tool 1.2.3\n", "")).cli_version.as_deref(), Some("1.2.3"));
    assert_eq!(detect(exited(0, "", "tool 1.2.3\n")).cli_version.as_deref(), Some("1.2.3"));
    assert_eq!(detect(exited(0, "hello", "")).support, Support::Degraded);
    let failed = detect(exited(1, "", "\nunknown flag\n"));
    assert!(
        failed.support == Support::Degraded && failed.reasons[0].ends_with("exits with code 1: unknown flag"),
        "{:?}",
        failed.reasons
    );
    for outcome in [ProbeOutcome::TimedOut, ProbeOutcome::NotFound, ProbeOutcome::Failed("no".to_owned())] {
        let blocked = detect(outcome);
        assert!(blocked.support == Support::Blocked && blocked.reasons.len() == 1 && blocked.modes.is_empty());
    }
    assert_eq!(asked.detect(Vec::new()).support, Support::Blocked);
}

#[test]
fn exit_code_decides_success() {
    let plugin = plugin(&json!({"successCodes": [0, 3]}));
    let end = |errors: &[&str], exit: ExitStatus| {
        let mut transcript = plugin.transcript(RunRequest::default(), Capabilities::default());
        for text in errors {
            let step = transcript.read(vec![Line {
                stream: OutputStream::Stderr,
                text: (*text).to_owned(),
                truncated: false,
            }]);
            assert!(step.events.is_empty() && step.covered.is_empty());
        }
        let outcome = transcript.finish(exit, Vec::new());
        assert!(outcome.final_text.is_none(), "the host has the answer");
        outcome.failure
    };
    let code = |code: i32| ExitStatus { code: Some(code), ..ExitStatus::default() };
    assert_eq!(end(&["warning"], code(0)), None);
    assert_eq!(end(&[], code(3)), None);
    let failure = end(&["first", "\u{1b}[31mlast\u{1b}[0m", " "], code(2)).unwrap();
    assert_eq!(
        (failure.kind, failure.code.as_deref(), failure.message.as_str()),
        (FailureKind::Unknown, Some("exit-2"), "last")
    );
    assert_eq!(end(&[], code(2)).unwrap().message, "the program exited with code 2");
    let killed = ExitStatus { signal: Some(9), ..ExitStatus::default() };
    assert_eq!(end(&[], killed).unwrap().code.as_deref(), Some("signal-9"));
    assert_eq!(end(&["x"], ExitStatus { canceled: true, ..killed }), None);
    assert_eq!(end(&["x"], ExitStatus { timed_out: true, ..killed }), None);
}

#[test]
fn empty_output_is_success_only_if_the_settings_allow_it() {
    let ends = |settings: Value, code: i32| {
        let mut transcript = plugin(&settings).transcript(RunRequest::default(), Capabilities::default());
        transcript.finish(ExitStatus { code: Some(code), ..ExitStatus::default() }, Vec::new())
    };
    assert_eq!(ends(json!({}), 0), Outcome::default());
    assert_eq!(ends(json!({"silence": "fails"}), 0).final_text, None);
    assert_eq!(ends(json!({"silence": "fine"}), 0).final_text.as_deref(), Some(""));
    assert_eq!(ends(json!({"silence": "fine"}), 1).final_text, None);
}

proptest! {
    #[test]
    fn values_are_never_parsed_as_flags(prompt in any::<String>(), model in any::<String>()) {
        let plugin = plugin(&json!({"args": [["-m", "{model}"], "x{prompt}"]}));
        let request = RunRequest { model: Some(model.clone()), ..request(&prompt, &json!({})) };
        if let Ok(launch) = prepare(&plugin, request) {
            let wanted = ["-m".to_owned(), model.clone(), format!("x{prompt}")];
            prop_assert_eq!(launch.args, wanted);
            prop_assert!(!model.starts_with('-'));
        }
    }

    #[test]
    fn arbitrary_templates_do_not_panic(text in "[{}a-z]{0,16}|\\{(prompt|model|cwd)\\}") {
        let _ = configured(&json!({"args": [text]}));
    }
}
