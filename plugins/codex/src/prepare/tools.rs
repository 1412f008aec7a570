//! Restricts codex to a list of tools.
//!
//! codex has few tools: a shell, with which it also reads and searches, patches of files, web search, sub-agents, image
//! viewing, and MCP. The shell, sub-agents and web search can be disabled. Patches cannot, so only the read-only sandbox
//! prevents the agent from writing.

use super::{Builder, Sandbox};
use crate::toml_text;

const POINTER: &str = "/harness/tools";

/// Applies `harness.tools`, and returns the sandbox of the run, if the run sets one.
pub(super) fn restrict(launch: &mut Builder<'_>) -> Option<Sandbox> {
    let mode = launch.harness.permissions.sandbox_mode.as_deref();
    let requested = mode.and_then(Sandbox::of);
    if let (Some(mode), None) = (mode, requested) {
        launch.problems.push("/harness/permissions/sandboxMode", format!("`{mode}` is not a valid sandbox mode"));
    }
    let Some(listed) = launch.harness.tools.as_ref() else { return requested };
    let has = |word: &str| listed.iter().any(|tool| tool == word);
    for (index, tool) in listed.iter().enumerate() {
        let pointer = format!("{POINTER}/{index}");
        match tool.as_str() {
            "file_read" | "file_search" | "content_search" if !has("shell") => {
                launch
                    .dropped
                    .convenience(pointer, format!("codex has no `{tool}` except its shell; list `shell` as well"));
            }
            "web_fetch" => launch.dropped.convenience(
                pointer,
                "codex has no tool that fetches URLs; its shell can, if the sandbox has network access",
            ),
            _ => {}
        }
    }
    if !has("shell") {
        disable(launch, "shell_tool", "the shell", true);
    }
    if !has("task") {
        disable(launch, "multi_agent", "sub-agents", false);
        disable(launch, "multi_agent_v2", "sub-agents", false);
        disable(launch, "goals", "goals that the agent sets itself", false);
        without_agents(launch);
    }
    if !has("file_read") {
        without_images(launch);
    }
    if !has("file_write") {
        disable(launch, "image_generation", "image generation", false);
    }
    if !has("web_search") {
        launch.config("web_search", "\"disabled\"", POINTER);
    } else if launch.harness.permissions.network_access != Some(false) {
        launch.config("web_search", "\"live\"", POINTER);
    }
    if !has("mcp") {
        without_mcp(launch);
    }
    writing(launch, requested, has("file_write"), has("file_edit"))
}

/// The sandbox that enforces whether the tools may write.
fn writing(launch: &mut Builder<'_>, requested: Option<Sandbox>, write: bool, edit: bool) -> Option<Sandbox> {
    if (write && edit) || requested == Some(Sandbox::ReadOnly) {
        return requested;
    }
    if !write && !edit {
        if requested.is_none() {
            return Some(Sandbox::ReadOnly);
        }
        launch.dropped.restriction(
            POINTER,
            "without `file_write` and `file_edit` codex must not write, and only the sandboxMode `read-only` prevents that",
        );
    } else {
        launch.dropped.restriction(
            POINTER,
            "codex creates and edits files with the same tool; list both `file_write` and `file_edit`, or neither",
        );
    }
    requested
}

/// Disables sub-agents in a session that was started with them, which the features do not.
fn without_agents(launch: &mut Builder<'_>) {
    if launch.detected.agents_key {
        launch.config("agents.enabled", "false", POINTER);
    } else if launch.resumes_session() && launch.feature("multi_agent") == Some(true) {
        launch.dropped.restriction(
            POINTER,
            "the installed codex keeps the sub-agents of a session that goes on; list `task`, or begin a new session",
        );
    }
}

/// Disables viewing of image files, for which versions have two names. Some versions cannot disable it.
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

/// Disables a feature. If it must exist and does not, or codex does not list its features, the restriction is not enforced.
fn disable(launch: &mut Builder<'_>, feature: &str, what: &str, must_exist: bool) {
    match launch.feature(feature) {
        Some(true) => launch.config(&format!("features.{feature}"), "false", POINTER),
        Some(false) if !must_exist => {}
        _ => launch.dropped.restriction(POINTER, format!("{what} of the installed codex cannot be turned off")),
    }
}

/// Disables everything that a project configures: configuration, MCP servers, hooks, rules. codex reads these only if it
/// trusts the folder, so an argument says that it does not, regardless of the user's own configuration.
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

/// Disables all MCP servers: those of codex's own configuration, those of plugins and connected apps, and those of the
/// project.
fn without_mcp(launch: &mut Builder<'_>) {
    disable(launch, "apps", "connected apps", false);
    disable(launch, "plugins", "plugins", false);
    if launch.host.trusted_settings {
        // Nothing is read from other projects, whatever the list contains.
        distrust_project(launch, POINTER);
    }
    match &launch.detected.mcp_servers {
        None => launch.dropped.restriction(
            POINTER,
            "the MCP servers of codex's own configuration are unknown, so they cannot be disabled; list `mcp` to accept them",
        ),
        Some(servers) => {
            for server in servers {
                if super::mcp::is_name(server) {
                    launch.config(&format!("mcp_servers.{server}.enabled"), "false", POINTER);
                } else {
                    launch.dropped.restriction(POINTER, format!("the MCP server `{server}` of codex's own configuration cannot be disabled"));
                }
            }
        }
    }
}
