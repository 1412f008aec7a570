//! Holding codex to a list of tools.
//!
//! codex has few tools: a shell, with which it also reads and searches, patches of files, web search, sub-agents, image
//! viewing, and MCP. The shell, sub-agents and web search can be taken away; patches cannot, so only the read-only
//! sandbox keeps the agent from writing.

use super::{Builder, Sandbox};
use crate::toml_text;

const POINTER: &str = "/harness/tools";

/// Applies `harness.tools`; gives the sandbox of the run, if the run has a say in it.
pub(super) fn restrict(launch: &mut Builder<'_>) -> Option<Sandbox> {
    let mode = launch.harness.permissions.sandbox_mode.as_deref();
    let asked = mode.and_then(Sandbox::of);
    if let (Some(mode), None) = (mode, asked) {
        launch.problems.push("/harness/permissions/sandboxMode", format!("`{mode}` is no sandbox mode"));
    }
    let Some(listed) = launch.harness.tools.as_ref() else { return asked };
    let has = |word: &str| listed.iter().any(|tool| tool == word);
    for (index, tool) in listed.iter().enumerate() {
        let pointer = format!("{POINTER}/{index}");
        match tool.as_str() {
            "file_read" | "file_search" | "content_search" if !has("shell") => {
                launch
                    .dropped
                    .convenience(pointer, format!("codex has no `{tool}` beside its shell; list `shell` too"));
            }
            "web_fetch" => launch.dropped.convenience(
                pointer,
                "codex has no tool that fetches addresses; its shell can, where the sandbox has network",
            ),
            _ => {}
        }
    }
    if !has("shell") {
        turn_off(launch, "shell_tool", "the shell", true);
    }
    if !has("task") {
        turn_off(launch, "multi_agent", "sub-agents", false);
        turn_off(launch, "multi_agent_v2", "sub-agents", false);
        turn_off(launch, "goals", "goals that the agent sets itself", false);
        without_agents(launch);
    }
    if !has("file_read") {
        without_images(launch);
    }
    if !has("file_write") {
        turn_off(launch, "image_generation", "image generation", false);
    }
    if !has("web_search") {
        launch.config("web_search", "\"disabled\"", POINTER);
    } else if launch.harness.permissions.network_access != Some(false) {
        launch.config("web_search", "\"live\"", POINTER);
    }
    if !has("mcp") {
        without_mcp(launch);
    }
    writing(launch, asked, has("file_write"), has("file_edit"))
}

/// Which sandbox keeps the list's word on writing.
fn writing(launch: &mut Builder<'_>, asked: Option<Sandbox>, write: bool, edit: bool) -> Option<Sandbox> {
    if (write && edit) || asked == Some(Sandbox::ReadOnly) {
        return asked;
    }
    if !write && !edit {
        if asked.is_none() {
            return Some(Sandbox::ReadOnly);
        }
        launch.dropped.restriction(
            POINTER,
            "without `file_write` and `file_edit` codex may not write, and only the sandboxMode `read-only` keeps it from that",
        );
    } else {
        launch.dropped.restriction(
            POINTER,
            "codex creates and edits files with the same tool; list both `file_write` and `file_edit`, or neither",
        );
    }
    asked
}

/// Sub-agents of a session that was begun with them: the features do not take those away.
fn without_agents(launch: &mut Builder<'_>) {
    if launch.detected.agents_key {
        launch.config("agents.enabled", "false", POINTER);
    } else if launch.goes_on() && launch.feature("multi_agent") == Some(true) {
        launch.dropped.restriction(
            POINTER,
            "the installed codex keeps the sub-agents of a session that goes on; list `task`, or begin a new session",
        );
    }
}

/// Viewing of image files, which versions name in two ways. Some cannot be without it.
fn without_images(launch: &mut Builder<'_>) {
    for feature in ["view_image", "view_image_tool"] {
        if launch.feature(feature) == Some(true) {
            return launch.config(&format!("features.{feature}"), "false", POINTER);
        }
    }
    launch
        .dropped
        .restriction(POINTER, "viewing of image files cannot be turned off in the installed codex; list `file_read`");
}

/// Turns a feature off. Where it must be there and is not, or codex does not tell, the restriction is not kept.
fn turn_off(launch: &mut Builder<'_>, feature: &str, what: &str, must_exist: bool) {
    match launch.feature(feature) {
        Some(true) => launch.config(&format!("features.{feature}"), "false", POINTER),
        Some(false) if !must_exist => {}
        _ => launch.dropped.restriction(POINTER, format!("{what} of the installed codex cannot be turned off")),
    }
}

/// Nothing of what a project brings along (configuration, MCP servers, hooks, rules): codex reads that only where it
/// trusts the folder, whatever the user's own configuration says of it, so it is told that it does not.
pub(super) fn distrust_project(launch: &mut Builder<'_>, pointer: &str) {
    let untrusted = [("trust_level", toml_text::string("untrusted"))];
    let mut folders = Vec::new();
    let mut folder = launch.request.cwd.trim_end_matches('/');
    while !folder.is_empty() {
        folders.push((folder, toml_text::table(&untrusted)));
        folder = folder.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
    folders.push(("/", toml_text::table(&untrusted)));
    launch.config("projects", &toml_text::table(&folders), pointer);
}

/// No tools of MCP servers: neither those of codex's own configuration, nor those of plugins and connected apps, nor those
/// that a project brings along.
fn without_mcp(launch: &mut Builder<'_>) {
    turn_off(launch, "apps", "connected apps", false);
    turn_off(launch, "plugins", "plugins", false);
    if launch.host.trusted_settings {
        // Of any other project nothing is read, whatever the list says.
        distrust_project(launch, POINTER);
    }
    match &launch.detected.mcp_servers {
        None => launch.dropped.restriction(
            POINTER,
            "the MCP servers of codex's own configuration are not known, so they cannot be left out; list `mcp` to accept them",
        ),
        Some(servers) => {
            for server in servers {
                if super::mcp::is_name(server) {
                    launch.config(&format!("mcp_servers.{server}.enabled"), "false", POINTER);
                } else {
                    launch.dropped.restriction(POINTER, format!("the MCP server `{server}` of codex's own configuration cannot be left out"));
                }
            }
        }
    }
}
