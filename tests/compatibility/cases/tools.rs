//! Tool calls, tool lists and MCP servers.

use crate::fixture::{Fixture, RunReport, SandboxedBy, Verdict};
use crate::support::{AgentFixture, of_type, semantics, tool_outputs};
use serde_json::{Value, json};
use std::fs;

const TOOLS: &str = "/harness/tools";

pub(super) fn call(fixture: &Fixture<'_>) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Host);
    let folder = fixture.folder(agent, "a");
    let harness = (agent.cli.free_shell)();
    let run = fixture.run(agent, &folder, "RUN echo from-the-tool; echo made > made.txt", &harness);
    let starts = semantics(&run.events, "tool_start");
    let reported = starts.iter().any(|start| {
        start["tool"] == "shell"
            && start["commands"][0].as_str().is_some_and(|command| command.contains("from-the-tool"))
    });
    let output = tool_outputs(&run.events).contains("from-the-tool");
    let made = folder.join("made.txt").exists();
    let seen = format!("event {reported}, output {output}, effect {made}, answer {:?}, {}", run.answer(), run.end());
    run.check_option("/harness/permissions", reported && output && made && run.answer().contains("from-the-tool"), seen)
}

/// Tools that no list removes: they affect only the conversation, or belong to the servers of the run.
const HARMLESS: [&str; 8] = [
    "update_plan",
    "request_user_input",
    "StructuredOutput",
    "ToolSearch",
    "DeferredToolPlaceholder",
    "list_mcp_resources",
    "list_mcp_resource_templates",
    "read_mcp_resource",
];

/// The tools that a kind allows, by their names in the CLIs.
fn allowed(kind: &str) -> &'static [&'static str] {
    match kind {
        "file_read" => &["Read", "view_image"],
        "file_search" => &["Glob"],
        "content_search" => &["Grep"],
        "shell" => &[
            "Bash",
            "TaskOutput",
            "TaskStop",
            "BashOutput",
            "KillShell",
            "KillBash",
            "shell",
            "shell_command",
            "exec_command",
            "write_stdin",
            "local_shell",
        ],
        _ => &[],
    }
}

/// codex cannot remove its patch tool; the sandbox keeps it from writing.
const HELD_BY_SANDBOX: [&str; 1] = ["apply_patch"];

fn listed(run: &RunReport, list: &[&str]) -> Verdict {
    let fits = |name: &String| {
        let name = name.as_str();
        HARMLESS.contains(&name)
            || HELD_BY_SANDBOX.contains(&name)
            || list.iter().any(|kind| allowed(kind).contains(&name))
    };
    let beyond: Vec<String> = run.tools().into_iter().filter(|name| !fits(name)).collect();
    run.check_restriction(
        TOOLS,
        beyond.is_empty() && run.completed(),
        format!("offered beyond the list: {}; {}", beyond.join(" "), run.end()),
    )
}

fn with_list(fixture: &Fixture<'_>, list: &[&str], resumed: bool) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Host);
    let folder = fixture.folder(agent, "a");
    let mut harness = json!({ "tools": list });
    if resumed {
        let first = fixture.run(agent, &folder, "SAY begun", &json!({}));
        harness["resumeSessionId"] = json!(first.session());
    }
    let run = fixture.run(agent, &folder, "TOOLS", &harness);
    let verdict = listed(&run, list);
    let shell = fixture.run(agent, &folder, "RUN echo by-a-shell", &harness);
    let may = list.contains(&"shell");
    let ran = tool_outputs(&shell.events).contains("by-a-shell") || shell.answer().contains("by-a-shell");
    verdict.and(shell.check_restriction(TOOLS, ran == may, format!("the shell: {}", shell.answer())))
}

pub(super) fn none(fixture: &Fixture<'_>) -> Verdict {
    with_list(fixture, &[], false)
}

pub(super) fn none_resumed(fixture: &Fixture<'_>) -> Verdict {
    with_list(fixture, &[], true)
}

pub(super) fn shell(fixture: &Fixture<'_>) -> Verdict {
    with_list(fixture, &["shell", "file_read"], true)
}

/// Reading without a shell. A CLI without such tools warns; no restriction is lost.
pub(super) fn reading(fixture: &Fixture<'_>) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Host);
    let list = ["file_read", "content_search"];
    let run = fixture.run(agent, &fixture.folder(agent, "a"), "TOOLS", &json!({ "tools": list }));
    let verdict = listed(&run, &list);
    let has = run.tools().iter().any(|name| ["Read", "Grep"].contains(&name.as_str()));
    verdict.and(run.check_option(&format!("{TOOLS}/1"), has, format!("offered: {}", run.tools().join(" "))))
}

fn server(more: &Value) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/mcp_server.py");
    let mut server =
        json!({ "name": "probe", "command": "python3", "args": [script], "env": { "PROBE_WORD": "open sesame" } });
    server.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "mcp": { "servers": [server] } })
}

pub(super) fn mcp(fixture: &Fixture<'_>) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Host);
    let folder = fixture.folder(agent, "a");
    let run = fixture.run(agent, &folder, "TOOL ping", &server(&json!({})));
    let about = |run: &RunReport| format!("{}; {}", run.answer(), run.end());
    let has_effect = run.answer().contains("pong open sesame");
    let verdict = run.check_option("/harness/mcp/servers/0", has_effect, about(&run));
    let mut again = server(&json!({}));
    again["resumeSessionId"] = json!(run.session());
    let second = fixture.run(agent, &folder, "TOOL ping", &again);
    let has_effect = second.answer().contains("pong open sesame");
    verdict.and(second.check_option("/harness/mcp/servers/0", has_effect, about(&second)).on("resumed"))
}

pub(super) fn mcp_filters(fixture: &Fixture<'_>) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Host);
    let folder = fixture.folder(agent, "a");
    let mut verdict = Verdict::works();
    for (pointer, more) in [
        ("disabledTools", json!({ "disabledTools": ["ping"] })),
        ("enabledTools", json!({ "enabledTools": [] })),
        ("enabled", json!({ "enabled": false })),
    ] {
        let run = fixture.run(agent, &folder, "TOOL ping", &server(&more));
        let called = run.answer().contains("pong");
        let at = format!("/harness/mcp/servers/0/{pointer}");
        verdict = verdict.and(run.check_restriction(&at, !called, format!("{pointer}: it is called all the same")));
    }
    verdict
}

/// The run reports it: by a failure, or by a warning.
pub(super) fn mcp_broken(fixture: &Fixture<'_>) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Host);
    let harness = server(&json!({ "command": "/bin/false", "args": [] }));
    let run = fixture.run(agent, &fixture.folder(agent, "a"), "SAY anyway", &harness);
    let names = |text: &str| text.contains("probe");
    let warned = semantics(&run.events, "warning").iter().any(|warning| names(&warning.to_string()));
    let failed = !run.completed() && names(&run.end());
    run.check_option("/harness/mcp/servers/0", warned || failed, format!("nothing names it; {}", run.end()))
}

/// The list of the CLI's own servers is current, and that of the run's own home.
pub(super) fn mcp_added_later(fixture: &Fixture<'_>) -> Verdict {
    let agent = fixture.agent(SandboxedBy::Host);
    let folder = fixture.folder(agent, "a");
    let harness = json!({ "tools": ["shell", "file_read"] });
    let before = fixture.run(agent, &folder, "SAY begun", &harness);
    if before.refused.is_some() {
        return before.check_restriction(TOOLS, false, "");
    }
    let proof = folder.join("proof");
    add_server(agent, &format!("touch {}", proof.display()));
    let run = fixture.run(agent, &folder, "SAY with a server", &harness);
    let verdict = run.check_restriction(TOOLS, !proof.exists(), "the server was started");
    // A server that was removed is no reason to fail.
    remove_server(agent);
    let run = fixture.run(agent, &folder, "SAY without", &harness);
    let failed = of_type(&run.events, "run.failed").len();
    verdict.and(run.check_restriction(TOOLS, failed == 0, run.end()).on("removed again"))
}

fn add_server(agent: &AgentFixture, command: &str) {
    let own = agent.own_folder();
    let file = own.join("config.toml");
    let config = fs::read_to_string(&file).unwrap();
    let server = format!("[mcp_servers.later]\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"{command}\"]\n");
    fs::write(own.join("config.toml.before"), &config).unwrap();
    fs::write(file, format!("{config}{server}")).unwrap();
}

fn remove_server(agent: &AgentFixture) {
    let own = agent.own_folder();
    fs::rename(own.join("config.toml.before"), own.join("config.toml")).unwrap();
}
