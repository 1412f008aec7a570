//! Tools: calls of them, lists of them, and MCP servers.

use crate::scene::{Held, Scene, Told, Verdict};
use crate::support::{Studio, of_type, semantics, tool_outputs};
use serde_json::{Value, json};
use std::fs;

const TOOLS: &str = "/harness/tools";

pub(super) fn call(scene: &Scene<'_>) -> Verdict {
    let studio = scene.studio(Held::ByHost);
    let folder = scene.folder(studio, "a");
    let harness = (studio.cli.free_shell)();
    let told = scene.run(studio, &folder, "RUN echo from-the-tool; echo made > made.txt", &harness);
    let starts = semantics(&told.events, "tool_start");
    let told_of = starts.iter().any(|start| {
        start["tool"] == "shell"
            && start["commands"][0].as_str().is_some_and(|command| command.contains("from-the-tool"))
    });
    let output = tool_outputs(&told.events).contains("from-the-tool");
    let made = folder.join("made.txt").exists();
    let seen = format!("event {told_of}, output {output}, effect {made}, answer {:?}, {}", told.answer(), told.end());
    told.asked("/harness/permissions", told_of && output && made && told.answer().contains("from-the-tool"), seen)
}

/// What no list takes away, as it touches nothing but the conversation, or what the run's own servers offer.
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

/// What a list may leave of these kinds, by the names of the CLIs.
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

/// codex has no way to take its tool for patches away: the sandbox keeps it from writing.
const HELD_BY_SANDBOX: [&str; 1] = ["apply_patch"];

fn listed(told: &Told, list: &[&str]) -> Verdict {
    let fits = |name: &String| {
        let name = name.as_str();
        HARMLESS.contains(&name)
            || HELD_BY_SANDBOX.contains(&name)
            || list.iter().any(|kind| allowed(kind).contains(&name))
    };
    let beyond: Vec<String> = told.tools().into_iter().filter(|name| !fits(name)).collect();
    told.restricted(
        TOOLS,
        beyond.is_empty() && told.completed(),
        format!("offered beyond the list: {}; {}", beyond.join(" "), told.end()),
    )
}

fn with_list(scene: &Scene<'_>, list: &[&str], resumed: bool) -> Verdict {
    let studio = scene.studio(Held::ByHost);
    let folder = scene.folder(studio, "a");
    let mut harness = json!({ "tools": list });
    if resumed {
        let first = scene.run(studio, &folder, "SAY begun", &json!({}));
        harness["resumeSessionId"] = json!(first.session());
    }
    let told = scene.run(studio, &folder, "TOOLS", &harness);
    let verdict = listed(&told, list);
    let shell = scene.run(studio, &folder, "RUN echo by-a-shell", &harness);
    let may = list.contains(&"shell");
    let ran = tool_outputs(&shell.events).contains("by-a-shell") || shell.answer().contains("by-a-shell");
    verdict.and(shell.restricted(TOOLS, ran == may, format!("the shell: {}", shell.answer())))
}

pub(super) fn none(scene: &Scene<'_>) -> Verdict {
    with_list(scene, &[], false)
}

pub(super) fn none_resumed(scene: &Scene<'_>) -> Verdict {
    with_list(scene, &[], true)
}

pub(super) fn shell(scene: &Scene<'_>) -> Verdict {
    with_list(scene, &["shell", "file_read"], true)
}

/// What reads without a shell: a CLI without such tools warns, and does not call it a restriction that is lost.
pub(super) fn reading(scene: &Scene<'_>) -> Verdict {
    let studio = scene.studio(Held::ByHost);
    let list = ["file_read", "content_search"];
    let told = scene.run(studio, &scene.folder(studio, "a"), "TOOLS", &json!({ "tools": list }));
    let verdict = listed(&told, &list);
    let has = told.tools().iter().any(|name| ["Read", "Grep"].contains(&name.as_str()));
    verdict.and(told.asked(&format!("{TOOLS}/1"), has, format!("offered: {}", told.tools().join(" "))))
}

fn server(more: &Value) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/mcp_server.py");
    let mut server =
        json!({ "name": "probe", "command": "python3", "args": [script], "env": { "PROBE_WORD": "open sesame" } });
    server.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "mcp": { "servers": [server] } })
}

pub(super) fn mcp(scene: &Scene<'_>) -> Verdict {
    let studio = scene.studio(Held::ByHost);
    let folder = scene.folder(studio, "a");
    let told = scene.run(studio, &folder, "TOOL ping", &server(&json!({})));
    let about = |told: &Told| format!("{}; {}", told.answer(), told.end());
    let holds = told.answer().contains("pong open sesame");
    let verdict = told.asked("/harness/mcp/servers/0", holds, about(&told));
    let mut again = server(&json!({}));
    again["resumeSessionId"] = json!(told.session());
    let second = scene.run(studio, &folder, "TOOL ping", &again);
    let holds = second.answer().contains("pong open sesame");
    verdict.and(second.asked("/harness/mcp/servers/0", holds, about(&second)).on("resumed"))
}

pub(super) fn mcp_filters(scene: &Scene<'_>) -> Verdict {
    let studio = scene.studio(Held::ByHost);
    let folder = scene.folder(studio, "a");
    let mut verdict = Verdict::works();
    for (pointer, more) in [
        ("disabledTools", json!({ "disabledTools": ["ping"] })),
        ("enabledTools", json!({ "enabledTools": [] })),
        ("enabled", json!({ "enabled": false })),
    ] {
        let told = scene.run(studio, &folder, "TOOL ping", &server(&more));
        let called = told.answer().contains("pong");
        let at = format!("/harness/mcp/servers/0/{pointer}");
        verdict = verdict.and(told.restricted(&at, !called, format!("{pointer}: it is called all the same")));
    }
    verdict
}

/// Somebody has to be told: by a failure, or by a warning.
pub(super) fn mcp_broken(scene: &Scene<'_>) -> Verdict {
    let studio = scene.studio(Held::ByHost);
    let harness = server(&json!({ "command": "/bin/false", "args": [] }));
    let told = scene.run(studio, &scene.folder(studio, "a"), "SAY anyway", &harness);
    let names = |text: &str| text.contains("probe");
    let warned = semantics(&told.events, "warning").iter().any(|warning| names(&warning.to_string()));
    let failed = !told.completed() && names(&told.end());
    told.asked("/harness/mcp/servers/0", warned || failed, format!("nothing names it; {}", told.end()))
}

/// The list of the CLI's own servers is that of now, in the home that the run has.
pub(super) fn mcp_added_later(scene: &Scene<'_>) -> Verdict {
    let studio = scene.studio(Held::ByHost);
    let folder = scene.folder(studio, "a");
    let harness = json!({ "tools": ["shell", "file_read"] });
    let before = scene.run(studio, &folder, "SAY begun", &harness);
    if before.refused.is_some() {
        return before.restricted(TOOLS, false, "");
    }
    let proof = folder.join("proof");
    add_server(studio, &format!("touch {}", proof.display()));
    let told = scene.run(studio, &folder, "SAY with a server", &harness);
    let verdict = told.restricted(TOOLS, !proof.exists(), "the server was started");
    // One that is gone again is no reason to fail.
    remove_server(studio);
    let told = scene.run(studio, &folder, "SAY without", &harness);
    let failed = of_type(&told.events, "run.failed").len();
    verdict.and(told.restricted(TOOLS, failed == 0, told.end()).on("removed again"))
}

fn add_server(studio: &Studio, command: &str) {
    let own = studio.own_folder();
    let file = own.join("config.toml");
    let config = fs::read_to_string(&file).unwrap();
    let server = format!("[mcp_servers.later]\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"{command}\"]\n");
    fs::write(own.join("config.toml.before"), &config).unwrap();
    fs::write(file, format!("{config}{server}")).unwrap();
}

fn remove_server(studio: &Studio) {
    let own = studio.own_folder();
    fs::rename(own.join("config.toml.before"), own.join("config.toml")).unwrap();
}
