//! MCP servers. Their environment and headers can be secret, so they are in a private file.

use ostler_provider_kit::payload::McpServer;
use ostler_provider_kit::prepare;
use serde_json::{Map, Value, json};

use super::Builder;
use super::duplex::Asking;
use super::permissions::Rights;

/// A variable that contains a dollar sign, see [`literal`].
const DOLLAR: &str = "OSTLER_DOLLAR";

/// Whether a permission rule and the name of a tool can contain this name.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

pub(super) fn servers(launch: &mut Builder<'_>, rights: Rights) {
    let harness = launch.harness;
    let servers = &harness.mcp.servers;
    let listed = harness.tools.as_ref().is_none_or(|tools| tools.iter().any(|tool| tool == "mcp"));
    if !listed && !servers.is_empty() {
        launch.dropped.convenience("/harness/mcp/servers", "`tools` does not list `mcp`, so no server is started");
    }
    let offline = harness.permissions.network_access == Some(false);
    if !listed || offline || !servers.is_empty() {
        // Servers in claude's own configuration are not started.
        if launch.detected.has("--strict-mcp-config") {
            launch.args.push("--strict-mcp-config".to_owned());
        } else {
            let reason = "the installed claude cannot disable its own MCP servers";
            for (pointer, is_restricted) in
                [("/harness/tools", !listed), ("/harness/permissions/networkAccess", offline)]
            {
                if is_restricted {
                    launch.dropped.restriction(pointer, reason);
                }
            }
        }
    }
    if !listed || servers.is_empty() {
        return;
    }
    if !launch.detected.has("--mcp-config") {
        launch.dropped.convenience("/harness/mcp/servers", "the installed claude has no --mcp-config");
        return;
    }
    // Nobody can be asked, and claude denies calls of tools that are not allowed. A server in the payload was accepted by
    // the policies and counts as approved, unless the payload disables approval.
    if !rights.approved && !rights.bypass && launch.asking() == Asking::Nobody {
        launch.dropped.convenience(
            "/harness/mcp/servers",
            "claude denies calls of MCP tools: `autoApprove` is false, and nobody can be asked",
        );
    }
    let mut document = Map::new();
    for (index, server) in servers.iter().enumerate() {
        let pointer = format!("/harness/mcp/servers/{index}");
        if !is_name(&server.name) {
            launch.problems.push(format!("{pointer}/name"), "claude allows letters, digits, `_` and `-` only");
            continue;
        }
        let entry = match server.transport() {
            "stdio" => stdio(launch, server, &pointer),
            kind => remote(launch, kind, server, &pointer),
        };
        let Some(entry) = entry else { continue };
        if server.enabled == Some(false) {
            continue;
        }
        document.insert(server.name.clone(), entry);
        rules(launch, server, &pointer, rights);
    }
    let path = launch.file("mcp.json", &json!({ "mcpServers": document }).to_string());
    launch.option("--mcp-config", &path, "/harness/mcp");
}

/// Adds the rules for the tools of a server.
fn rules(launch: &mut Builder<'_>, server: &McpServer, pointer: &str, rights: Rights) {
    for (field, tools) in [("enabledTools", &server.enabled_tools), ("disabledTools", &server.disabled_tools)] {
        for (index, tool) in tools.iter().flatten().enumerate() {
            if !is_name(tool) {
                launch.problems.push(
                    format!("{pointer}/{field}/{index}"),
                    "claude's rules can only contain letters, digits, `_` and `-`",
                );
            }
        }
    }
    let name = &server.name;
    for tool in server.disabled_tools.iter().flatten() {
        launch.private.deny(format!("mcp__{name}__{tool}"));
    }
    match &server.enabled_tools {
        Some(_) if rights.bypass => launch.dropped.restriction(
            format!("{pointer}/enabledTools"),
            "claude skips permissions in this run, so other tools of the server could be used too; list `disabledTools`, or remove `autoApprove`",
        ),
        Some(tools) if rights.approved => {
            for tool in tools {
                launch.private.allow(format!("mcp__{name}__{tool}"));
            }
        }
        None if rights.approved => launch.private.allow(format!("mcp__{name}")),
        _ => {}
    }
}

/// Escapes a text for these files, in which claude expands every `${NAME}`.
fn literal(launch: &mut Builder<'_>, text: &str) -> String {
    if !text.contains("${") {
        return text.to_owned();
    }
    if !launch.environment.iter().any(|entry| entry.name == DOLLAR) {
        launch.set(DOLLAR, "$");
    }
    text.replace("${", &format!("${{{DOLLAR}}}{{"))
}

fn stdio(launch: &mut Builder<'_>, server: &McpServer, pointer: &str) -> Option<Value> {
    for (name, is_set) in [("url", server.url.is_some()), ("headers", !server.headers.is_empty())] {
        if is_set {
            let problem = "a stdio server does not use it; set `type` to `http`, or remove it";
            launch.problems.push(format!("{pointer}/{name}"), problem);
        }
    }
    let Some(command) = server.command.as_ref().filter(|command| !command.is_empty()) else {
        launch.problems.push(format!("{pointer}/command"), "is missing; a stdio server requires a program");
        return None;
    };
    let command = literal(launch, command);
    let args: Vec<String> = server.args.iter().map(|arg| literal(launch, arg)).collect();
    let env: Map<String, Value> =
        server.env.iter().map(|(name, value)| (name.clone(), literal(launch, value).into())).collect();
    Some(json!({ "type": "stdio", "command": command, "args": args, "env": env }))
}

fn remote(launch: &mut Builder<'_>, kind: &str, server: &McpServer, pointer: &str) -> Option<Value> {
    let unused =
        [("command", server.command.is_some()), ("args", !server.args.is_empty()), ("env", !server.env.is_empty())];
    for (name, is_set) in unused {
        if is_set {
            let problem = format!("a server of type {kind} does not use it; set `type` to `stdio`, or remove it");
            launch.problems.push(format!("{pointer}/{name}"), problem);
        }
    }
    let Some(url) = server.url.as_ref().filter(|url| !url.is_empty()) else {
        launch.problems.push(format!("{pointer}/url"), format!("is missing; a server of type {kind} requires a URL"));
        return None;
    };
    prepare::warn_of_network(launch.harness, pointer, &mut launch.dropped);
    let url = literal(launch, url);
    let headers: Map<String, Value> =
        server.headers.iter().map(|(name, value)| (name.clone(), literal(launch, value).into())).collect();
    Some(json!({ "type": kind, "url": url, "headers": headers }))
}
