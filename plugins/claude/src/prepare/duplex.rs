//! The command line of sessions, and of runs whose tool uses are decided by the host.
//!
//! claude asks the host instead of denying what it would ask about. Its own rules stay in force: what the user's settings allow
//! is not asked, unless each tool use has to be decided, for which the transcript installs a hook. The settings of a repository
//! apply only if the grant trusts them, as in every run: its hooks could replace a command that the host has allowed, and its
//! `env` could redirect the model's address.

use ostler_plugin::Problems;
use ostler_plugin::provider::RunRequest;
use ostler_provider_kit::duplex::Duplex;
use ostler_provider_kit::payload::{Harness, PayloadAttachment, Permissions, attachments};
use ostler_provider_kit::prepare as kit;

use super::{Builder, INPUT, unreadable};
use crate::detect::{Detected, PROMPTS};
use crate::flags::{self, BARE};

/// What claude asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asking {
    /// Nothing: it denies what it would ask about.
    Nobody,
    /// What its mode and its rules do not allow.
    OnRequest,
    /// Everything that is not plainly harmless.
    Everything,
}

/// How a run uses the control protocol.
#[derive(Clone, Copy, Debug)]
pub(super) struct Control {
    pub(super) duplex: Duplex,
    asking: Asking,
}

impl Control {
    pub(super) fn of(duplex: Duplex, permissions: &Permissions) -> Self {
        let asking = match permissions.approval_policy.as_deref() {
            // The host approves by itself, and has to see what.
            _ if permissions.auto_approve == Some(true) && duplex.approvals => Asking::Everything,
            Some("never") => Asking::Nobody,
            Some("untrusted") => Asking::Everything,
            Some(_) => Asking::OnRequest,
            // What the host's policies allow must not be denied by claude because it cannot ask.
            None if duplex.interactive || duplex.every_tool => Asking::OnRequest,
            None => Asking::Nobody,
        };
        Self { duplex, asking }
    }
}

/// Whether, and how, this run uses the control protocol. Older versions do not have it.
pub(crate) fn control(request: &RunRequest, detected: &Detected) -> Option<Duplex> {
    Duplex::of(request).filter(|_| detected.control())
}

/// The first message of the user: the prompt with its attachments.
pub(crate) fn first_message(request: &RunRequest, harness: &Harness) -> String {
    let readable: Vec<PayloadAttachment<'_>> = attachments(request, harness)
        .into_iter()
        .filter(|PayloadAttachment { image, attachment, .. }| unreadable(harness, *image, attachment).is_none())
        .collect();
    let files: Vec<(&str, &str, &str)> = readable
        .iter()
        .map(|PayloadAttachment { attachment, .. }| {
            (attachment.name.as_str(), attachment.mime_type.as_str(), attachment.path.as_str())
        })
        .collect();
    // `prepare` has reported the problems.
    kit::input(request, harness, &files, &mut Problems::default())
}

impl Builder<'_> {
    pub(super) fn asking(&self) -> Asking {
        if self.terminal {
            // The user answers on claude's own screen.
            return match self.harness.permissions.approval_policy.as_deref() {
                Some("never") => Asking::Nobody,
                Some("untrusted") => Asking::Everything,
                _ => Asking::OnRequest,
            };
        }
        self.control.map_or(Asking::Nobody, |control| control.asking)
    }

    /// The options of the control protocol.
    pub(super) fn converse(&mut self) {
        if self.control.is_some() || self.terminal {
            self.replace_on_failure();
        }
        let Some(control) = self.control else { return };
        self.args.push(INPUT.to_owned());
        self.args.push(match control.asking {
            Asking::Nobody => format!("{PROMPTS}=none"),
            Asking::OnRequest | Asking::Everything => "--permission-prompt-tool=stdio".to_owned(),
        });
        if control.duplex.every_tool && flags::is_on(&self.payload.optional_flags, BARE) {
            // claude confirms the hook even so.
            self.problems.push(
                format!("/optionalFlags/{BARE}"),
                "claude runs no hooks with it, so a policy cannot decide about each tool use; remove it",
            );
        }
        // Otherwise claude does not say when it is idle.
        self.set("CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS", "1");
    }

    fn replace_on_failure(&mut self) {
        if self.harness.permissions.approval_policy.as_deref() == Some("on-failure") {
            self.dropped.convenience(
                "/harness/permissions/approvalPolicy",
                "claude has no policy `on-failure`; it asks as with `on-request`",
            );
        }
    }
}
