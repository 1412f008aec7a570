//! What arguments and settings files give an agent, and whether the payload's permissions allow it.
//!
//! A provider plugin says which of its flags can widen the permissions. This is the second look, at the words
//! themselves: at the values of flags in the payload, and at the finished command line, whoever put them there. It knows
//! the spellings of the agent CLIs that are in use; what sounds dangerous and is not known counts as the most that it
//! could mean.

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

/// Something that the agent is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gives {
    /// No sandbox.
    FullAccess,
    /// Files can be changed.
    Writes,
    /// Tools run without questions.
    AutoApprove,
    /// Tools reach the network.
    Network,
    /// The CLI asks by this policy.
    Approval(String),
    /// The agent may work in this folder.
    Directory(String),
    /// It touches the permissions in a way that cannot be read.
    Unreadable,
}

/// What gives it: an argument or a key, without its value, which may be secret.
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

/// Against what effects are judged.
#[derive(Debug)]
pub(crate) struct Reading<'a> {
    /// None where the payload is not known: then nothing is allowed that has to be asked for.
    pub(crate) permissions: Option<&'a Permissions>,
    context: &'a Context,
    /// The field of the payload to blame.
    pointer: &'a str,
    /// Folders that belong to the run itself.
    own_folders: Vec<&'a str>,
    /// What the host bounds by itself: the CLI's own sandbox may be off then.
    held: Held,
}

/// The fact `sandbox`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct Held {
    files: bool,
    network: bool,
}

impl<'a> Reading<'a> {
    /// Of a flag's values, before the run is queued.
    pub(crate) fn start(permissions: &'a Permissions, context: &'a Context, pointer: &'a str) -> Self {
        // What a payload asks of the CLI is judged for itself: where the run starts may hold nothing.
        Self { permissions: Some(permissions), context, pointer, own_folders: Vec::new(), held: Held::default() }
    }

    /// Of a command line. `sandbox` is the fact of that name: a host that says nothing bounds nothing. `own_folders` are
    /// those of the run's private files.
    pub(crate) fn spawn(
        permissions: Option<&'a Permissions>,
        context: &'a Context,
        sandbox: &Value,
        own_folders: Vec<&'a str>,
    ) -> Self {
        let held = Held::deserialize(sandbox).unwrap_or_default();
        Self { permissions, context, pointer: "", own_folders, held }
    }

    fn is_granted(&self, folder: &str) -> bool {
        let grants = self.context.paths.iter().filter(|path| is_granted(path)).filter_map(|path| path.grant.as_deref());
        let looked_up = self.context.paths.iter().any(|path| path.path == folder && is_granted(path));
        let own = self.own_folders.iter().copied().any(|own| contains(own, folder));
        // Below a grant a link could lead out again; what the host has looked up as leading out is not passed here.
        let refused = self.context.paths.iter().any(|path| path.path == folder && !is_granted(path));
        let inside = grants.chain(self.context.workspace_grant.as_deref()).any(|grant| contains(grant, folder));
        looked_up || own || (inside && !refused)
    }
}

/// Names every effect that the permissions do not allow, once for each source.
pub(crate) fn judge(effects: &[Effect], reading: &Reading<'_>, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for effect in effects {
        let source = &effect.source;
        let Some((check, what, hint)) = against(&effect.gives, reading) else { continue };
        let message = format!("{source} {what}");
        if !seen.insert(message.clone()) {
            continue;
        }
        if check == "network-unasked" {
            findings.warn(check, reading.pointer, message, hint);
        } else {
            findings.deny(check, reading.pointer, message, hint);
        }
    }
}

/// The check, what is wrong and what to do; none where it is allowed.
fn against(gives: &Gives, reading: &Reading<'_>) -> Option<(&'static str, String, &'static str)> {
    let nothing = Permissions::default();
    let given = reading.permissions.unwrap_or(&nothing);
    let full = given.sandbox == Some(SandboxMode::FullAccess);
    let (check, what, hint) = match gives {
        Gives::FullAccess if !full && !reading.held.files => {
            let hint = "take it out; a run without a sandbox has to say sandboxMode full-access";
            ("sandbox-widened", "takes the sandbox away, and the payload does not ask for that".to_owned(), hint)
        }
        Gives::Writes if given.sandbox == Some(SandboxMode::ReadOnly) && !reading.held.files => {
            let hint = "take it out, or set sandboxMode to workspace-write";
            ("sandbox-widened", "lets files be changed, and the payload says read-only".to_owned(), hint)
        }
        Gives::AutoApprove if given.auto_approve != Some(true) => {
            let hint = "take it out; a run whose tools ask nothing has to say autoApprove";
            (
                "approval-widened",
                "lets tools run without questions, and the payload does not ask for that".to_owned(),
                hint,
            )
        }
        Gives::Network if given.network == Some(false) && !reading.held.network => {
            let hint = "take it out, or set networkAccess to true";
            ("network-widened", "gives tools the network, and the payload forbids that".to_owned(), hint)
        }
        Gives::Network if given.network.is_none() && !full => {
            let hint = "say networkAccess true or false in the payload";
            ("network-unasked", "gives tools the network, of which the payload says nothing".to_owned(), hint)
        }
        Gives::Approval(policy) if given.approval.as_ref().is_some_and(|asked| asked != policy) => {
            let hint = "take it out, or set approvalPolicy to the same";
            ("approval-widened", "sets another approval policy than the payload".to_owned(), hint)
        }
        Gives::Directory(folder) if !reading.is_granted(folder) => {
            let what = format!("adds the folder {}, which is not known to be inside a grant", shown(folder));
            ("directory-widened", what, "name it in additionalDirectories, and grant it")
        }
        Gives::Unreadable if !full => {
            let hint = "take it out, and say in the harness what the run needs";
            ("permissions-unreadable", "touches the permissions in a way that cannot be judged".to_owned(), hint)
        }
        _ => return None,
    };
    Some((check, what, hint))
}
