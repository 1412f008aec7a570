//! The permissions that arguments and settings files give to an agent, and whether the payload allows them.
//!
//! The provider plugin lists which of its flags can weaken the permissions. This check is independent of that list: it
//! parses the values of flags in the payload, and the finished command line. It knows the options of the common agent CLIs.
//! An unknown option that looks like a permission is treated as the strongest permission that it could be.

mod arguments;
mod config;

use serde::Deserialize;
use std::collections::BTreeSet;

use ostler_plugin::policy::Context;
use serde_json::Value;

pub(crate) use self::arguments::of_arguments;
pub(crate) use self::config::{of_json, of_toml};
use crate::document::shown;
use crate::findings::Findings;
use crate::paths::{contains, is_granted};
use crate::permissions::{Permissions, SandboxMode};

/// A permission that is given to the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gives {
    /// No sandbox.
    FullAccess,
    /// Files can be changed.
    Writes,
    /// Tools run without approval.
    AutoApprove,
    /// Tools can use the network.
    Network,
    /// The CLI uses this approval policy.
    Approval(String),
    /// The agent may work in this folder.
    Directory(String),
    /// It changes the permissions in a way that cannot be parsed.
    Unreadable,
}

/// The argument or key that gives it, without its value, which may be secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Effect {
    pub(crate) gives: Gives,
    pub(crate) source: String,
}

impl Effect {
    fn new(gives: Gives, source: &str) -> Self {
        Self { gives, source: shown(source) }
    }
}

/// The context in which effects are checked.
#[derive(Debug)]
pub(crate) struct CheckContext<'a> {
    /// None if the payload is unknown: then nothing is allowed that a payload must request.
    pub(crate) permissions: Option<&'a Permissions>,
    context: &'a Context,
    /// The field of the payload that is reported.
    pointer: &'a str,
    /// The private folders of the run.
    own_folders: Vec<&'a str>,
    /// The restrictions that the host enforces: the CLI's own sandbox may then be off.
    host_sandbox: HostSandbox,
}

/// The fact `sandbox`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct HostSandbox {
    files: bool,
    network: bool,
}

impl<'a> CheckContext<'a> {
    /// For values of flags, before the run is queued.
    pub(crate) fn start(permissions: &'a Permissions, context: &'a Context, pointer: &'a str) -> Self {
        // Whether the host enforces restrictions is only known before the spawn: the payload is checked without it.
        Self {
            permissions: Some(permissions),
            context,
            pointer,
            own_folders: Vec::new(),
            host_sandbox: HostSandbox::default(),
        }
    }

    /// For a command line. `sandbox` is the fact of that name; without it, the host enforces nothing. `own_folders` are
    /// those with the run's private files.
    pub(crate) fn spawn(
        permissions: Option<&'a Permissions>,
        context: &'a Context,
        sandbox: &Value,
        own_folders: Vec<&'a str>,
    ) -> Self {
        let host_sandbox = HostSandbox::deserialize(sandbox).unwrap_or_default();
        Self { permissions, context, pointer: "", own_folders, host_sandbox }
    }

    fn is_granted(&self, folder: &str) -> bool {
        let grants = self.context.paths.iter().filter(|path| is_granted(path)).filter_map(|path| path.grant.as_deref());
        let resolved = self.context.paths.iter().any(|path| path.path == folder && is_granted(path));
        let own = self.own_folders.iter().copied().any(|own| contains(own, folder));
        // A link inside a grant could lead out of it. Links that the host has resolved to a target outside are not accepted
        // here.
        let refused = self.context.paths.iter().any(|path| path.path == folder && !is_granted(path));
        let inside = grants.chain(self.context.workspace_grant.as_deref()).any(|grant| contains(grant, folder));
        resolved || own || (inside && !refused)
    }
}

/// Reports every effect that the permissions do not allow, once for each source.
pub(crate) fn check(effects: &[Effect], checked: &CheckContext<'_>, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for effect in effects {
        let source = &effect.source;
        let Some((check, what, hint)) = violation(&effect.gives, checked) else { continue };
        let message = format!("{source} {what}");
        if !seen.insert(message.clone()) {
            continue;
        }
        if check == "network-unasked" {
            findings.warn(check, checked.pointer, message, hint);
        } else {
            findings.deny(check, checked.pointer, message, hint);
        }
    }
}

/// The check, the message and the hint; none if the permission is allowed.
fn violation(gives: &Gives, checked: &CheckContext<'_>) -> Option<(&'static str, String, &'static str)> {
    let nothing = Permissions::default();
    let given = checked.permissions.unwrap_or(&nothing);
    let full = given.sandbox == Some(SandboxMode::FullAccess);
    let (check, what, hint) = match gives {
        Gives::FullAccess if !full && !checked.host_sandbox.files => {
            let hint = "remove it, or set sandboxMode to full-access for a run without a sandbox";
            ("sandbox-widened", "disables the sandbox, which the payload does not request".to_owned(), hint)
        }
        Gives::Writes if given.sandbox == Some(SandboxMode::ReadOnly) && !checked.host_sandbox.files => {
            let hint = "remove it, or set sandboxMode to workspace-write";
            ("sandbox-widened", "allows changes of files, but the payload is read-only".to_owned(), hint)
        }
        Gives::AutoApprove if given.auto_approve != Some(true) => {
            let hint = "remove it, or set autoApprove for a run without approval";
            ("approval-widened", "lets tools run without approval, which the payload does not request".to_owned(), hint)
        }
        Gives::Network if given.network == Some(false) && !checked.host_sandbox.network => {
            let hint = "remove it, or set networkAccess to true";
            ("network-widened", "gives tools network access, which the payload forbids".to_owned(), hint)
        }
        Gives::Network if given.network.is_none() && !full => {
            let hint = "set networkAccess to true or false in the payload";
            (
                "network-unasked",
                "gives tools network access, but the payload does not set networkAccess".to_owned(),
                hint,
            )
        }
        Gives::Approval(policy) if given.approval.as_ref().is_some_and(|asked| asked != policy) => {
            let hint = "remove it, or set the same approvalPolicy";
            ("approval-widened", "sets an approval policy other than that of the payload".to_owned(), hint)
        }
        Gives::Directory(folder) if !checked.is_granted(folder) => {
            let what = format!("adds the folder {}, which is not known to be inside a grant", shown(folder));
            ("directory-widened", what, "add it to additionalDirectories, and grant it")
        }
        Gives::Unreadable if !full => {
            let hint = "remove it, and set the required permissions in the harness";
            ("permissions-unreadable", "changes the permissions in a way that cannot be checked".to_owned(), hint)
        }
        _ => return None,
    };
    Some((check, what, hint))
}
