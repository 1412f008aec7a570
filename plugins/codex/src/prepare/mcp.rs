//! MCP servers. Their environment and headers can be secret and are never arguments: the environment is in a private script
//! that starts the server, headers are in variables that the configuration names.

use std::fmt::Write as _;

use ostler_plugin::escape_pointer;
use ostler_plugin::provider::NameValue;
use ostler_provider_kit::argument::{is_variable_name, shell_quote};
use ostler_provider_kit::payload::McpServer;
use ostler_provider_kit::prepare;

use super::Builder;
use crate::app_server::approval_policy;
use crate::toml_text;

/// Whether codex accepts the name of a server, and a dotted key can contain it.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

pub(super) fn servers(launch: &mut Builder<'_>) {
    let harness = launch.harness;
    let servers = &harness.mcp.servers;
    if servers.is_empty() {
        return;
    }
    if harness.tools.as_ref().is_some_and(|tools| !tools.iter().any(|tool| tool == "mcp")) {
        launch.dropped.convenience("/harness/mcp/servers", "`tools` does not list `mcp`, so no server is started");
        return;
    }
    let approval = approval(launch);
    if approval.is_none() && launch.app_server.is_none() {
        launch.dropped.convenience(
            "/harness/mcp/servers",
            "codex rejects calls of MCP tools: `autoApprove` is false, and `codex exec` cannot ask",
        );
    }
    for (index, server) in servers.iter().enumerate() {
        let pointer = format!("/harness/mcp/servers/{index}");
        if !is_name(&server.name) {
            launch.problems.push(format!("{pointer}/name"), "codex allows letters, digits, `_` and `-` only");
            continue;
        }
        let transport = match server.transport() {
            "stdio" => stdio(launch, index, server, &pointer),
            "http" => http(launch, index, server, &pointer),
            other => {
                launch.dropped.convenience(
                    format!("{pointer}/type"),
                    format!("codex does not support `{other}` MCP servers; the server is omitted (use `http` if it supports that)"),
                );
                continue;
            }
        };
        let Some(mut table) = transport else { continue };
        for (key, tools) in [("enabled_tools", &server.enabled_tools), ("disabled_tools", &server.disabled_tools)] {
            if let Some(tools) = tools {
                table.push((key, toml_text::strings(tools)));
            }
        }
        let enabled = server.enabled != Some(false);
        table.push(("enabled", enabled.to_string()));
        if launch.detected.required_key {
            table.push(("required", enabled.to_string()));
        } else if enabled {
            launch.dropped.convenience(&pointer, "the installed codex does not report a server that fails to start");
        }
        if let Some(mode) = approval {
            table.push(("default_tools_approval_mode", toml_text::string(mode)));
        }
        launch.config(&format!("mcp_servers.{}", server.name), &toml_text::table(&table), &pointer);
    }
}

/// Whether codex asks before it uses a tool. None if its own default applies, or if it rejects the use.
fn approval(launch: &Builder<'_>) -> Option<&'static str> {
    let permissions = &launch.harness.permissions;
    match launch.app_server.map(|duplex| approval_policy(duplex, permissions)) {
        Some("untrusted") => Some("prompt"),
        Some("on-request") => None,
        // `exec` cannot ask, and codex rejects calls of tools that were not approved. A server in the payload was accepted by
        // the policies and counts as approved, unless the payload disables approval.
        _ => (permissions.auto_approve != Some(false)).then_some("approve"),
    }
}

/// Makes codex ask before it uses a tool of a server in its own configuration.
pub(super) fn ask_for_configured(launch: &mut Builder<'_>) {
    match &launch.detected.mcp_servers {
        None => launch.dropped.restriction(
            "/harness/permissions/approvalPolicy",
            "the MCP servers of codex's own configuration are unknown, so it may use their tools without asking",
        ),
        Some(servers) => {
            let taken = |name: &String| launch.harness.mcp.servers.iter().any(|server| server.name == *name);
            for server in servers.iter().filter(|name| !taken(name)) {
                if is_name(server) {
                    let key = format!("mcp_servers.{server}.default_tools_approval_mode");
                    launch.config(&key, "\"prompt\"", "/harness/permissions/approvalPolicy");
                } else {
                    launch.dropped.restriction(
                        "/harness/permissions/approvalPolicy",
                        format!(
                            "codex may use tools of the MCP server `{server}` of its own configuration without asking"
                        ),
                    );
                }
            }
        }
    }
}

type Table = Vec<(&'static str, String)>;

fn stdio(launch: &mut Builder<'_>, index: usize, server: &McpServer, pointer: &str) -> Option<Table> {
    let Some(command) = server.command.as_ref().filter(|command| !command.is_empty()) else {
        launch.problems.push(format!("{pointer}/command"), "is missing; a stdio server requires a program");
        return None;
    };
    for (name, is_set) in [("url", server.url.is_some()), ("headers", !server.headers.is_empty())] {
        if is_set {
            launch.problems.push(
                format!("{pointer}/{name}"),
                "a stdio server does not use it; set `type` to `http`, or remove it",
            );
        }
    }
    let mut program = command.clone();
    if !server.env.is_empty() {
        let mut script = "#!/bin/sh\n".to_owned();
        for (name, value) in &server.env {
            if !is_variable_name(name) || value.contains('\0') {
                let reason = "is not a variable that a shell can set; use letters, digits and `_`, without NUL";
                launch.problems.push(format!("{pointer}/env/{}", escape_pointer(name)), reason);
            }
            let _ = writeln!(script, "export {name}={}", shell_quote(value));
        }
        let _ = writeln!(script, "exec {} \"$@\"", shell_quote(command));
        program = launch.file(&format!("mcp-{index}-{}.sh", server.name), &script, true);
    }
    Some(vec![("command", toml_text::string(&program)), ("args", toml_text::strings(&server.args))])
}

fn http(launch: &mut Builder<'_>, index: usize, server: &McpServer, pointer: &str) -> Option<Table> {
    let Some(url) = server.url.as_ref().filter(|url| !url.is_empty()) else {
        launch.problems.push(format!("{pointer}/url"), "is missing; an http server requires a URL");
        return None;
    };
    let unused =
        [("command", server.command.is_some()), ("args", !server.args.is_empty()), ("env", !server.env.is_empty())];
    for (name, is_set) in unused {
        if is_set {
            launch.problems.push(
                format!("{pointer}/{name}"),
                "an http server does not use it; set `type` to `stdio`, or remove it",
            );
        }
    }
    prepare::warn_of_network(launch.harness, pointer, &mut launch.dropped);
    let mut headers = Vec::new();
    for (number, (name, value)) in server.headers.iter().enumerate() {
        if value.contains(['\0', '\r', '\n']) {
            launch.problems.push(format!("{pointer}/headers/{}", escape_pointer(name)), "contains a line break or NUL");
        }
        let variable = format!("OSTLER_MCP_{index}_{number}");
        launch.environment.push(NameValue { name: variable.clone(), value: value.clone() });
        launch.blank_in_shells(&variable);
        headers.push((name, toml_text::string(&variable)));
    }
    let mut table = vec![("url", toml_text::string(url))];
    if !headers.is_empty() {
        table.push(("env_http_headers", toml_text::table(&headers)));
    }
    Some(table)
}
