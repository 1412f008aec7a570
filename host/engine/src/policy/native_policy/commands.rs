//! Checks commands in a request: MCP servers, which the CLI starts outside of its sandbox, and the prelude that its shells
//! run first.

use super::{NativeChecks, deny};
use ostler_config::CommandRule;
use ostler_protocol::{Finding, SandboxMode};

pub(super) fn check(checks: &NativeChecks<'_>, findings: &mut Vec<Finding>) {
    let Some(harness) = &checks.payload.harness else { return };
    let mode = harness.permissions.as_ref().and_then(|permissions| permissions.sandbox_mode);
    let servers = harness.mcp.as_ref().map_or(&[][..], |mcp| &mcp.servers);
    let commands = servers.iter().enumerate().filter(|(_, server)| server.command.is_some());
    for (index, _) in commands.filter(|_| !may_run(checks.policy.mcp_commands, checks.contained, mode)) {
        let pointer = format!("/harness/mcp/servers/{index}/command");
        findings.push(refusal("mcp-command", pointer, checks.policy.mcp_commands, "an MCP server", "mcp_commands"));
    }
    if harness.shell_prelude.is_some() && !may_run(checks.policy.shell_preludes, checks.contained, mode) {
        let pointer = "/harness/shellPrelude".to_owned();
        let rule = checks.policy.shell_preludes;
        findings.push(refusal("shell-prelude", pointer, rule, "a shell prelude", "shell_preludes"));
    }
}

/// Whether a run may contain commands of its own. They run outside of the CLI's own sandbox: only the host's containment
/// limits them, so that a run that must not write needs it.
pub(super) fn may_run(rule: CommandRule, contained: bool, mode: Option<SandboxMode>) -> bool {
    match rule {
        CommandRule::Always => true,
        CommandRule::Never => false,
        CommandRule::Sandboxed => contained || mode != Some(SandboxMode::ReadOnly),
    }
}

fn refusal(check: &str, pointer: String, rule: CommandRule, what: &str, setting: &str) -> Finding {
    if rule == CommandRule::Never {
        let message = format!("the operator does not allow a run to bring {what} of its own");
        return deny(check, pointer, message, &format!("leave it out; [policy] {setting} of config.toml decides"));
    }
    let message = format!("{what} is a command that the CLI's read-only sandbox does not bound");
    let hint =
        format!("leave it out, or use another sandboxMode; [policy] {setting} = \"always\" in config.toml allows it");
    deny(check, pointer, message, &hint)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::json;

    use ostler_schema::validate_document;

    use super::*;
    use ostler_config::PolicyConfig;
    use ostler_plugin_host::Containment;
    use ostler_protocol::StartPayload;

    #[test]
    fn read_only_run_needs_containment_for_commands() {
        let modes =
            [None, Some(SandboxMode::ReadOnly), Some(SandboxMode::WorkspaceWrite), Some(SandboxMode::FullAccess)];
        for mode in modes {
            for contained in [false, true] {
                assert!(may_run(CommandRule::Always, contained, mode));
                assert!(!may_run(CommandRule::Never, contained, mode));
                let expected = contained || mode != Some(SandboxMode::ReadOnly);
                assert_eq!(may_run(CommandRule::Sandboxed, contained, mode), expected, "{mode:?} {contained}");
            }
        }
    }

    #[test]
    fn names_every_command_and_the_setting_that_decides() {
        let payload = validate_document::<StartPayload>(json!({"provider": "p", "prompt": "x", "cwd": "/w", "harness": {
            "permissions": {"sandboxMode": "read-only"},
            "mcp": {"servers": [
                {"name": "a", "command": "/bin/a"}, {"name": "b", "url": "http://h"}, {"name": "c", "command": "/bin/c"}
            ]},
            "shellPrelude": {"content": "x=1"},
        }}))
        .unwrap();
        let (policy, needs) = (PolicyConfig::default(), Containment::default());
        let checks = NativeChecks { policy: &policy, needs: &needs, payload: &payload, contained: false, token: None };
        let mut found = Vec::new();
        check(&checks, &mut found);
        let pointers: Vec<_> = found.iter().filter_map(|finding| finding.pointer.as_deref()).collect();
        let expected = ["/harness/mcp/servers/0/command", "/harness/mcp/servers/2/command", "/harness/shellPrelude"];
        assert_eq!(pointers, expected);
        assert!(
            found[0].hint.as_ref().unwrap().contains("mcp_commands")
                && found[2].hint.as_ref().unwrap().contains("shell_preludes")
        );
        let mut found = Vec::new();
        check(&NativeChecks { contained: true, ..checks }, &mut found);
        assert_eq!(found, []);
    }
}
