//! MCP servers. Their environment and headers may be secret, so they go into a private file.

use ostler_provider_kit::payload::McpServer;
use ostler_provider_kit::prepare;
use serde_json::{Map, Value, json};

use super::Builder;
use super::permissions::Rights;

/// Holds a dollar sign, see [`literal`].
const DOLLAR: &str = "OSTLER_DOLLAR";

/// Whether this can stand in a rule of permission, and in the name of a tool.
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
        // No servers of claude's own configuration beside those of the payload.
        if launch.detected.has("--strict-mcp-config") {
            launch.args.push("--strict-mcp-config".to_owned());
        } else {
            let reason = "the installed claude cannot be kept from its own MCP servers";
            for (pointer, asked) in [("/harness/tools", !listed), ("/harness/permissions/networkAccess", offline)] {
                if asked {
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
    // There is nobody to ask, and claude refuses every call of a tool that is not allowed. Whoever names a server in the
    // payload, past the policies, has approved it, unless the same payload says that nothing is approved.
    if !rights.approved && !rights.bypass {
        launch.dropped.convenience(
            "/harness/mcp/servers",
            "claude refuses the calls of MCP tools: `autoApprove` is false, and there is nobody to ask",
        );
    }
    let mut document = Map::new();
    for (index, server) in servers.iter().enumerate() {
        let pointer = format!("/harness/mcp/servers/{index}");
        if !is_name(&server.name) {
            launch.problems.push(format!("{pointer}/name"), "claude takes letters, digits, `_` and `-` only");
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

/// Which tools of a server may be used.
fn rules(launch: &mut Builder<'_>, server: &McpServer, pointer: &str, rights: Rights) {
    for (field, tools) in [("enabledTools", &server.enabled_tools), ("disabledTools", &server.disabled_tools)] {
        for (index, tool) in tools.iter().flatten().enumerate() {
            if !is_name(tool) {
                launch.problems.push(
                    format!("{pointer}/{field}/{index}"),
                    "claude's rules can name letters, digits, `_` and `-` only",
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
            "claude skips permissions in this run, so other tools of the server could be used too; list `disabledTools`, or leave out `autoApprove`",
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

/// A text that claude does not take for a reference to a variable: it replaces every `${NAME}` in these files.
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
    for (name, given) in [("url", server.url.is_some()), ("headers", !server.headers.is_empty())] {
        if given {
            let problem = "a stdio server has none; say `type: http` or leave it out";
            launch.problems.push(format!("{pointer}/{name}"), problem);
        }
    }
    let Some(command) = server.command.as_ref().filter(|command| !command.is_empty()) else {
        launch.problems.push(format!("{pointer}/command"), "is missing; a stdio server is a program");
        return None;
    };
    let command = literal(launch, command);
    let args: Vec<String> = server.args.iter().map(|arg| literal(launch, arg)).collect();
    let env: Map<String, Value> =
        server.env.iter().map(|(name, value)| (name.clone(), literal(launch, value).into())).collect();
    Some(json!({ "type": "stdio", "command": command, "args": args, "env": env }))
}

fn remote(launch: &mut Builder<'_>, kind: &str, server: &McpServer, pointer: &str) -> Option<Value> {
    let given =
        [("command", server.command.is_some()), ("args", !server.args.is_empty()), ("env", !server.env.is_empty())];
    for (name, given) in given {
        if given {
            let problem = format!("a server of type {kind} has none; say `type: stdio` or leave it out");
            launch.problems.push(format!("{pointer}/{name}"), problem);
        }
    }
    let Some(url) = server.url.as_ref().filter(|url| !url.is_empty()) else {
        launch.problems.push(format!("{pointer}/url"), format!("is missing; a server of type {kind} is an address"));
        return None;
    };
    prepare::warn_of_network(launch.harness, pointer, &mut launch.dropped);
    let url = literal(launch, url);
    let headers: Map<String, Value> =
        server.headers.iter().map(|(name, value)| (name.clone(), literal(launch, value).into())).collect();
    Some(json!({ "type": kind, "url": url, "headers": headers }))
}
