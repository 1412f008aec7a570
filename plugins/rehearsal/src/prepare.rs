//! The stand-in's command line for a run.

use crate::{ALLOW_RUN_FLAG, DELAY_FLAG, Settings, VERB};
use ostler_plugin::{
    DroppedOptions, Error, HostContainment, Problems, escape_pointer,
    provider::{Channel, Launch, OutputForm, PrivateFile, RunRequest},
};
use ostler_provider_kit::duplex::Duplex;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The fields of the start payload that the stand-in uses. The host has validated their types.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Payload {
    output_format: Option<String>,
    optional_flags: Option<Map<String, Value>>,
    harness: Option<Harness>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Harness {
    continue_session: Option<bool>,
    input_format: Option<String>,
    additional_directories: Option<Vec<String>>,
    tools: Option<Vec<String>>,
    permissions: Option<Permissions>,
    limits: Option<Limits>,
    mcp: Option<Mcp>,
    structured_output: Option<StructuredOutput>,
    system_prompt: Option<String>,
    append_system_prompt: Option<String>,
    piped_content: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Permissions {
    sandbox_mode: Option<String>,
    network_access: Option<bool>,
    auto_approve: Option<bool>,
    approval_policy: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Limits {
    max_turns: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Mcp {
    servers: Option<Vec<Value>>,
}

#[derive(Debug, Deserialize)]
struct StructuredOutput {
    schema: Value,
}

/// Arguments and files of the launch.
#[derive(Default)]
struct Draft {
    args: Vec<String>,
    files: Vec<PrivateFile>,
}

impl Draft {
    /// Joins name and value in one argument, so that the value cannot be parsed as a flag.
    fn option(&mut self, name: &str, value: &str) {
        self.args.push(format!("{name}={value}"));
    }

    /// Writes a text to a private file and passes its path as an option.
    fn file(&mut self, private_dir: &str, option: &str, name: &str, contents: &str) {
        self.option(option, &format!("{private_dir}/{name}"));
        self.files.push(PrivateFile {
            path: name.to_owned(),
            contents: contents.as_bytes().to_vec(),
            executable: false,
        });
    }
}

pub(crate) fn prepare(settings: &Settings, request: &RunRequest) -> Result<Launch, Error> {
    let payload: Payload = serde_json::from_str(&request.payload).map_err(|error| {
        let mut problems = Problems::default();
        problems.push("", format!("failed to read the start payload: {error}"));
        problems.into_result().err().unwrap_or(Error::Internal(String::new()))
    })?;
    let harness = payload.harness.unwrap_or_default();
    let mut draft = Draft::default();
    draft.args.push(VERB.to_owned());
    let duplex = Duplex::of(request);
    let text = duplex.is_none() && payload.output_format.as_deref() == Some("text");
    match duplex {
        Some(duplex) => talk(&mut draft, duplex, &request.prompt, harness.permissions.as_ref()),
        None => draft.option("--format", payload.output_format.as_deref().unwrap_or("stream-json")),
    }
    if let Some(model) = &request.model {
        draft.option("--model", model);
    }
    session(&mut draft, request, &harness);
    if let Some(folder) = &settings.sessions {
        draft.option("--sessions", folder);
    }
    draft.option("--attempt", &request.attempt.to_string());
    texts(&mut draft, &request.private_dir, &harness);
    for attachment in &request.attachments {
        draft.option("--attach", &attachment.path);
    }
    let flags = flags(&mut draft, settings, payload.optional_flags.as_ref())?;
    let host = HostContainment::read(request.host.extra.as_deref());
    let dropped = restrictions(&mut draft, &harness, flags.allow_run, host, duplex.is_some());

    Ok(Launch {
        args: draft.args,
        stdin: duplex.is_none().then(|| with_piped(&request.prompt, harness.piped_content.as_deref()).into_bytes()),
        channel: if duplex.is_some() { Channel::Duplex } else { Channel::Pipes },
        files: draft.files,
        output: if text { OutputForm::Text } else { OutputForm::Lines },
        dropped: dropped.into_vec(),
        ..Launch::default()
    })
}

/// The prompt with the piped content.
pub(crate) fn whole_prompt(request: &RunRequest) -> String {
    let payload: Payload = serde_json::from_str(&request.payload).unwrap_or_default();
    with_piped(&request.prompt, payload.harness.unwrap_or_default().piped_content.as_deref())
}

fn with_piped(prompt: &str, piped: Option<&str>) -> String {
    match piped {
        Some(piped) => format!("{prompt}\n\n<stdin>\n{piped}\n</stdin>\n"),
        None => prompt.to_owned(),
    }
}

/// The options of a conversation.
fn talk(draft: &mut Draft, duplex: Duplex, prompt: &str, permissions: Option<&Permissions>) {
    draft.args.push("--talk".to_owned());
    let policy = permissions.and_then(|permissions| permissions.approval_policy.as_deref());
    let approves = permissions.is_some_and(|permissions| permissions.auto_approve == Some(true));
    let asks = match policy {
        Some("never") => false,
        Some(_) => true,
        None => duplex.interactive,
    };
    if asks || (duplex.approvals && approves) {
        draft.args.push("--ask".to_owned());
    }
    if duplex.every_tool {
        draft.args.push("--show-uses".to_owned());
    }
    // The only word that must be known before the first message.
    if let Some(how) = prompt.trim().strip_prefix("HANDSHAKE ").filter(|how| matches!(*how, "none" | "garbage")) {
        draft.option("--handshake", how);
    }
}

fn session(draft: &mut Draft, request: &RunRequest, harness: &Harness) {
    match &request.resume_session {
        Some(id) => draft.option("--resume", id),
        None if harness.continue_session == Some(true) => draft.args.push("--continue".to_owned()),
        None => draft.option("--session-id", &request.fresh_id),
    }
}

fn texts(draft: &mut Draft, private_dir: &str, harness: &Harness) {
    if let Some(prompt) = &harness.system_prompt {
        draft.file(private_dir, "--system-file", "system-prompt.txt", prompt);
    }
    if let Some(prompt) = &harness.append_system_prompt {
        draft.file(private_dir, "--append-system-file", "append-system-prompt.txt", prompt);
    }
    if let Some(output) = &harness.structured_output {
        draft.file(private_dir, "--schema", "schema.json", &output.schema.to_string());
    }
}

struct Flags {
    allow_run: bool,
}

fn flags(draft: &mut Draft, settings: &Settings, given: Option<&Map<String, Value>>) -> Result<Flags, Error> {
    let mut problems = Problems::default();
    let mut delay = settings.delay.map(u64::from);
    let mut allow_run = false;
    for (name, value) in given.into_iter().flatten() {
        let pointer = format!("/optionalFlags/{}", escape_pointer(name));
        match name.as_str() {
            DELAY_FLAG => match milliseconds(value) {
                Some(ms) => delay = Some(ms),
                None => problems.push(pointer, "must be a number of milliseconds from 0 to 60000"),
            },
            ALLOW_RUN_FLAG => match value {
                Value::Null | Value::Bool(true) => allow_run = true,
                Value::Bool(false) => {}
                Value::String(text) if text.is_empty() => allow_run = true,
                Value::Array(values) if values.is_empty() => allow_run = true,
                _ => problems.push(pointer, "takes no value: use true"),
            },
            _ => problems
                .push(pointer, format!("is not a flag of the rehearsal; available: {DELAY_FLAG} and {ALLOW_RUN_FLAG}")),
        }
    }
    problems.into_result()?;
    if let Some(delay) = delay {
        draft.option(DELAY_FLAG, &delay.to_string());
    }
    if allow_run {
        draft.args.push(ALLOW_RUN_FLAG.to_owned());
    }
    Ok(Flags { allow_run })
}

/// The value as a number, a string, or a list of one of these.
fn milliseconds(value: &Value) -> Option<u64> {
    let value = match value {
        Value::Array(values) if values.len() == 1 => values.first()?,
        value => value,
    };
    let number = value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()))?;
    (number <= 60_000).then_some(number)
}

/// Sets the restrictions, and returns those that cannot be enforced.
fn restrictions(
    draft: &mut Draft,
    harness: &Harness,
    allow_run: bool,
    host: HostContainment,
    asks: bool,
) -> DroppedOptions {
    let mut dropped = DroppedOptions::default();
    let none = Permissions::default();
    let permissions = harness.permissions.as_ref().unwrap_or(&none);
    // If the host restricts the commands, the stand-in does not have to refuse them.
    if let Some(mode) = permissions.sandbox_mode.as_ref().filter(|_| !host.sandboxed) {
        draft.option("--sandbox", mode);
    }
    if let Some(tools) = &harness.tools {
        draft.option("--tools", &tools.join(","));
        for (index, tool) in tools.iter().enumerate().filter(|(_, tool)| *tool != "shell") {
            dropped.convenience(
                format!("/harness/tools/{index}"),
                format!("the rehearsal has no tool {tool}, only shell"),
            );
        }
    }
    if let Some(turns) = harness.limits.as_ref().and_then(|limits| limits.max_turns) {
        draft.option("--max-turns", &turns.to_string());
    }
    if permissions.network_access == Some(false) && !host.network && may_run(harness, permissions, allow_run) {
        dropped.restriction(
            "/harness/permissions/networkAccess",
            "the rehearsal cannot keep a command off the network; without the tool shell, or in the sandbox modes \
             read-only and workspace-write, it runs none",
        );
    }
    if !asks && permissions.approval_policy.as_deref().is_some_and(|policy| policy != "never") {
        dropped.restriction("/harness/permissions/approvalPolicy", "the rehearsal never asks before it runs a command");
    }
    if harness.mcp.as_ref().and_then(|mcp| mcp.servers.as_ref()).is_some_and(|all| !all.is_empty()) {
        dropped.convenience("/harness/mcp/servers", "the rehearsal does not support MCP servers");
    }
    if harness.additional_directories.as_ref().is_some_and(|all| !all.is_empty()) {
        dropped
            .convenience("/harness/additionalDirectories", "the rehearsal does not restrict its commands to a folder");
    }
    if harness.input_format.as_deref().is_some_and(|format| format != "text") {
        dropped.convenience("/harness/inputFormat", "the rehearsal reads its prompt as text");
    }
    dropped
}

/// Whether the stand-in would run a command.
fn may_run(harness: &Harness, permissions: &Permissions, allow_run: bool) -> bool {
    let tool = harness.tools.as_ref().is_none_or(|tools| tools.iter().any(|tool| tool == "shell"));
    let sandbox = matches!(permissions.sandbox_mode.as_deref(), None | Some("full-access"));
    allow_run || (tool && sandbox)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use ostler_plugin::provider::{Attachment, RunMode};
    use serde_json::json;

    fn launch(payload: &Value) -> Launch {
        prepare(&Settings::default(), &request(payload)).unwrap()
    }

    fn request(payload: &Value) -> RunRequest {
        RunRequest { prompt: "--SAY hi".to_owned(), payload: payload.to_string(), ..RunRequest::default() }
    }

    fn dropped(payload: &Value) -> Vec<(String, bool)> {
        launch(payload).dropped.into_iter().map(|option| (option.pointer, option.restricts)).collect()
    }

    #[test]
    fn prompt_is_passed_on_standard_input() {
        let launch = launch(&json!({}));
        assert_eq!(
            launch.args,
            ["__rehearse", "--format=stream-json", "--session-id=00000000-0000-4000-8000-000000000000", "--attempt=1"]
        );
        assert_eq!(launch.stdin.as_deref(), Some("--SAY hi".as_bytes()));
        assert!(launch.dropped.is_empty() && launch.files.is_empty());
    }

    #[test]
    fn supported_fields_are_passed_on_the_command_line() {
        let payload = json!({
            "outputFormat": "text",
            "optionalFlags": { "--delay-ms": "5", "--allow-run": true },
            "harness": {
                "tools": ["shell"],
                "permissions": { "sandboxMode": "read-only", "autoApprove": true },
                "limits": { "maxTurns": 3, "maxBudgetUsd": 0.5 },
                "structuredOutput": { "schema": { "type": "object" } },
                "systemPrompt": "be brief",
                "appendSystemPrompt": "be kind",
                "pipedContent": "a log"
            }
        });
        let mut request = request(&payload);
        request.model = Some("-m".to_owned());
        request.resume_session = Some("--help".to_owned());
        request.attachments = vec![Attachment {
            name: "a.png".into(),
            mime_type: "image/png".into(),
            path: "/private/a.png".into(),
            size: 3,
        }];
        let settings = Settings { sessions: Some("/s".into()), delay: Some(9) };
        let launch = prepare(&settings, &request).unwrap();
        for arg in [
            "--format=text",
            "--model=-m",
            "--resume=--help",
            "--sessions=/s",
            "--system-file=/private/system-prompt.txt",
            "--append-system-file=/private/append-system-prompt.txt",
            "--schema=/private/schema.json",
            "--attach=/private/a.png",
            "--delay-ms=5",
            "--allow-run",
            "--sandbox=read-only",
            "--tools=shell",
            "--max-turns=3",
        ] {
            assert!(launch.args.iter().any(|given| given == arg), "{arg} in {:?}", launch.args);
        }
        assert!(!launch.args.iter().any(|arg| arg.starts_with("--session-id")));
        assert_eq!(launch.output, OutputForm::Text);
        let stdin = String::from_utf8(launch.stdin.unwrap()).unwrap();
        assert_eq!(stdin, "--SAY hi\n\n<stdin>\na log\n</stdin>\n");
        assert_eq!(launch.files.len(), 3);
        assert_eq!(launch.files[2].contents, br#"{"type":"object"}"#);
        assert!(launch.dropped.is_empty(), "{:?}", launch.dropped);
    }

    #[test]
    fn session_is_continued_only_without_a_session_id() {
        let launch = launch(&json!({ "harness": { "continueSession": true } }));
        assert!(launch.args.iter().any(|arg| arg == "--continue"));
    }

    #[test]
    fn unsupported_options_are_reported() {
        assert_eq!(
            dropped(&json!({ "harness": {
                "inputFormat": "stream-json",
                "additionalDirectories": ["/a"],
                "tools": ["file_read", "shell"],
                "permissions": { "networkAccess": false, "approvalPolicy": "on-request" },
                "mcp": { "servers": [{ "name": "x", "command": "y" }] }
            } })),
            [
                ("/harness/tools/0".to_owned(), false),
                ("/harness/permissions/networkAccess".to_owned(), true),
                ("/harness/permissions/approvalPolicy".to_owned(), true),
                ("/harness/mcp/servers".to_owned(), false),
                ("/harness/additionalDirectories".to_owned(), false),
                ("/harness/inputFormat".to_owned(), false),
            ]
        );
    }

    #[test]
    fn network_restriction_is_met_if_commands_are_refused() {
        for harness in [
            json!({ "tools": [], "permissions": { "networkAccess": false } }),
            json!({ "permissions": { "networkAccess": false, "sandboxMode": "read-only" } }),
            json!({ "permissions": { "networkAccess": true } }),
        ] {
            assert_eq!(dropped(&json!({ "harness": harness })), []);
        }
        let smuggled = json!({
            "optionalFlags": { "--allow-run": true },
            "harness": { "permissions": { "networkAccess": false, "sandboxMode": "read-only" } }
        });
        assert_eq!(dropped(&smuggled), [("/harness/permissions/networkAccess".to_owned(), true)]);
    }

    #[test]
    fn all_invalid_flags_are_reported_with_their_pointers() {
        let payload = json!({ "optionalFlags": { "--delay-ms": "soon", "--allow-run": 3, "--x/y": 1 } });
        let Err(Error::Invalid(problems)) = prepare(&Settings::default(), &request(&payload)) else {
            panic!("accepted")
        };
        let pointers: Vec<_> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(pointers, ["/optionalFlags/--delay-ms", "/optionalFlags/--allow-run", "/optionalFlags/--x~1y"]);
    }

    #[test]
    fn conversation_has_no_standard_input_and_asks_as_the_payload_says() {
        let talk = |mode: RunMode, extra: &str, payload: &Value| {
            let mut request = RunRequest { mode, ..request(payload) };
            request.host.extra = Some(extra.to_owned());
            let launch = prepare(&Settings::default(), &request).unwrap();
            assert_eq!((launch.channel, launch.stdin, launch.dropped.len()), (Channel::Duplex, None, 0));
            launch.args.into_iter().filter(|arg| matches!(arg.as_str(), "--ask" | "--show-uses")).collect::<Vec<_>>()
        };
        let policy = |word: &str| json!({ "harness": { "permissions": { "approvalPolicy": word } } });
        let (session, run) = (RunMode::Interactive, RunMode::NonInteractive);
        let (asks, all) = (r#"{"approvals": true}"#, r#"{"approvals": true, "everyTool": true}"#);
        assert_eq!(talk(session, "{}", &json!({})), ["--ask"]);
        assert!(talk(session, "{}", &policy("never")).is_empty());
        assert_eq!(talk(session, all, &policy("never")), ["--show-uses"]);
        assert_eq!(talk(run, asks, &policy("on-failure")), ["--ask"]);
        assert_eq!(talk(run, all, &policy("untrusted")), ["--ask", "--show-uses"]);
        let auto = json!({ "outputFormat": "text", "harness": { "permissions": { "autoApprove": true } } });
        assert_eq!(talk(run, asks, &auto), ["--ask"]);
    }

    #[test]
    fn handshake_is_spoiled_on_request() {
        let mut request = RunRequest { mode: RunMode::Interactive, ..RunRequest::default() };
        "HANDSHAKE none".clone_into(&mut request.prompt);
        let launch = prepare(&Settings::default(), &request).unwrap();
        assert!(launch.args.iter().any(|arg| arg == "--handshake=none"));
    }
}
