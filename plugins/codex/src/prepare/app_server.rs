//! The command line of `codex app-server`.

use ostler_plugin::Error;
use ostler_plugin::provider::{Capabilities, Channel, Launch, StopSignal};
use ostler_provider_kit::duplex::Duplex;
use ostler_provider_kit::payload::Payload;
use ostler_provider_kit::{prepare as kit, session};

use super::{Builder, Sandbox, mcp, tools};
use crate::app_server::approval_policy;
use crate::flags;
use crate::settings::Settings;

pub(super) fn prepare(
    mut launch: Builder<'_>,
    settings: &Settings,
    payload: &Payload,
    capabilities: &Capabilities,
) -> Result<Launch, Error> {
    launch.args.extend(["app-server".to_owned(), "--stdio".to_owned()]);
    launch.configure_instance(settings);
    let offered = &capabilities.optional_flags;
    let arguments =
        flags::app_server_arguments(&payload.optional_flags, offered, &mut launch.dropped, &mut launch.problems);
    launch.args.extend(arguments);
    launch.bound_retries(settings);
    launch.guard_shells(settings);
    launch.guard_project(payload);
    let sandbox = tools::restrict(&mut launch);
    launch.permissions(sandbox);
    launch.directories(sandbox);
    mcp::servers(&mut launch);
    launch.instructions();
    launch.unavailable(payload);
    let files = launch.attachments();
    launch.session();
    // A session may begin without a prompt.
    let may_be_blank = launch.app_server.is_some_and(|duplex| duplex.interactive);
    if !may_be_blank || !launch.request.prompt.trim().is_empty() {
        // The transcript sends it.
        let _ = kit::input(launch.request, launch.harness, &files, &mut launch.problems);
    }
    launch.problems.into_result()?;
    Ok(Launch {
        args: launch.args,
        environment: launch.environment,
        files: launch.files,
        channel: Channel::Duplex,
        // It then ends in order, and ends the commands that it runs.
        stop: StopSignal::Terminate,
        dropped: launch.dropped.into_vec(),
        ..Launch::default()
    })
}

impl Builder<'_> {
    /// What codex asks about. The policy itself is a field of the protocol: as a key of the configuration, codex refuses
    /// `untrusted`.
    pub(super) fn decisions(&mut self, duplex: Duplex, sandbox: Option<Sandbox>) {
        let permissions = &self.harness.permissions;
        let pointer = "/harness/permissions/approvalPolicy";
        match permissions.approval_policy.as_deref() {
            None | Some("untrusted" | "on-request" | "never") => {}
            Some("on-failure") if duplex.every_tool => {}
            Some("on-failure") => {
                // The pointer of the field itself would mean that codex does not ask at all.
                let reason = "codex has no approvalPolicy `on-failure` since version 0.143; `on-request` is used: it asks before a command leaves the sandbox, not after the sandbox has stopped it";
                self.dropped.convenience("/harness/permissions", reason);
            }
            Some(other) => self.problems.push(pointer, format!("`{other}` is not a valid approval policy")),
        }
        if duplex.every_tool {
            mcp::ask_for_configured(self);
        }
        if approval_policy(duplex, permissions) != "untrusted" || self.host.sandboxed {
            return;
        }
        let reason = "codex repeats a command that was allowed without its sandbox if the sandbox has stopped it; the host's sandbox holds it";
        if permissions.sandbox_mode.is_some() && sandbox.is_some_and(|sandbox| sandbox != Sandbox::FullAccess) {
            self.dropped.restriction("/harness/permissions/sandboxMode", reason);
        }
        if permissions.network_access == Some(false) && !self.host.network && sandbox != Some(Sandbox::FullAccess) {
            self.dropped.restriction("/harness/permissions/networkAccess", reason);
        }
    }

    /// The session itself is chosen by the protocol.
    fn session(&mut self) {
        kit::continues(self.request, self.harness, &mut self.dropped);
        if self.request.resume_session.as_deref().is_some_and(|id| !session::is_uuid(id)) {
            let reason =
                "is not the id of a codex session; a session that is resumed by its name cannot be interactive or ask";
            self.problems.push("/harness/resumeSessionId", reason);
        }
    }
}

#[cfg(test)]
#[path = "app_server_tests.rs"]
mod tests;
