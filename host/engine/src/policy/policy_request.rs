//! The request to the policies about a run, and the record of their decision. They are built in the same way at every
//! stage.

use std::path::Path;

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use crate::attempt::tool_use::Tally;
use crate::policy::policy_set::{EarlierFinding, Grants, PolicyContext, PolicyDecision, PolicySet};
use crate::sandbox::Containment;
use crate::setup::Provider;
use ostler_plugin_host::types::{Action, CheckedPath};
use ostler_protocol::{AuditedTool, CapabilitySnapshot, Finding, PolicyAudit, RunId, StartPayload, Verdict};

/// A run that is about to do something.
#[derive(Debug)]
pub(crate) struct PolicyRequest<'a> {
    /// None before the run is acknowledged.
    pub(crate) run: Option<RunId>,
    /// 0 before the first attempt.
    pub(crate) attempt: u32,
    pub(crate) provider: &'a Provider,
    /// The origin of the run.
    pub(crate) origin: &'a str,
    /// The provider's program.
    pub(crate) executable: &'a Path,
    pub(crate) cwd: &'a Path,
    pub(crate) payload: &'a StartPayload,
    pub(crate) snapshot: &'a CapabilitySnapshot,
    pub(crate) grants: &'a Grants,
    /// The findings of the host itself.
    pub(crate) own: Vec<Finding>,
    /// The containment of the run. `None` if it could not be decided.
    pub(crate) containment: Option<&'a Containment>,
    /// The findings of earlier stages. Empty if no policy asks for them.
    pub(crate) earlier: Vec<EarlierFinding>,
}

impl PolicyRequest<'_> {
    /// Asks every policy. Returns the decision of the policies and the host, and its audit record. Blocks; calls plugins.
    pub(crate) fn ask(&self, gate: &PolicySet, action: &Action) -> (PolicyDecision, PolicyAudit) {
        let payload = match action {
            // The action is the document.
            Action::Start(_) => None,
            _ => self.payload_fact(gate),
        };
        let paths = checked_paths(self.payload, self.grants);
        let ruling = self.judge(gate, action, paths, payload.as_deref(), &Tally::default());
        let audit = self.audit(action, &ruling);
        (ruling, audit)
    }

    /// The request of a later stage, for which the host has no findings.
    pub(crate) fn after(mut self, stage: &str, found: Vec<Finding>) -> Self {
        self.own.clear();
        self.earlier.extend(found.into_iter().map(|finding| EarlierFinding { stage: stage.to_owned(), finding }));
        self
    }

    /// The payload for a policy. `None` if no policy asks for it, because it may be long.
    pub(crate) fn payload_fact(&self, gate: &PolicySet) -> Option<Box<RawValue>> {
        gate.wants("payload").then(|| to_raw_value(self.payload).ok()).flatten()
    }

    /// Asks every policy, and adds the findings of the host.
    pub(crate) fn judge(
        &self,
        gate: &PolicySet,
        action: &Action,
        paths: Vec<CheckedPath>,
        payload: Option<&RawValue>,
        tools: &Tally,
    ) -> PolicyDecision {
        let circumstances = PolicyContext {
            run: self.run,
            attempt: self.attempt,
            provider: &self.provider.name,
            plugin: &self.provider.plugin,
            origin: self.origin,
            cwd: self.cwd,
            grants: self.grants,
            paths,
            profile: self.payload.profile_id.as_deref(),
            capabilities: self.snapshot,
            payload,
            held: self.containment.map_or((false, false), Containment::holds),
            tools,
            earlier: &self.earlier,
        };
        let mut ruling = gate.judge(action, &circumstances);
        ruling.add(&self.own);
        ruling
    }

    /// The record of the findings. Only the records of `start` and `spawn` contain the capabilities of the run: it may use many
    /// tools.
    pub(crate) fn audit(&self, action: &Action, ruling: &PolicyDecision) -> PolicyAudit {
        let tool = match action {
            Action::Tool(call) => {
                Some(AuditedTool { id: call.id.clone(), tool: call.kind.clone(), name: call.name.clone() })
            }
            _ => None,
        };
        let (stage, args, environment_names) = match action {
            Action::Start(_) => ("start", Vec::new(), Vec::new()),
            Action::Spawn(summary) => ("spawn", summary.args.clone(), summary.environment_names.clone()),
            Action::Input(_) => ("input", Vec::new(), Vec::new()),
            Action::Tool(_) => ("tool", Vec::new(), Vec::new()),
            Action::Other(other) => (other.kind.as_str(), Vec::new(), Vec::new()),
        };
        PolicyAudit {
            stage: stage.to_owned(),
            verdict: verdict_name(ruling.verdict()).to_owned(),
            provider: self.provider.name.clone(),
            executable: Some(self.executable.to_owned()),
            cwd: Some(self.cwd.to_owned()),
            args,
            environment_names,
            origin: self.origin.to_owned(),
            grant: self.grants.containing(self.cwd).map(Path::to_owned),
            trust_settings: self.grants.trusts_settings_of(self.cwd),
            profile: self.payload.profile_id.clone(),
            capabilities: tool.is_none().then(|| snapshot_facts(self.snapshot)),
            tool,
            findings: ruling.findings.clone(),
            decision: None,
        }
    }
}

/// Every path of the payload, as the policies get it.
fn checked_paths(payload: &StartPayload, grants: &Grants) -> Vec<CheckedPath> {
    let mut paths = Vec::new();
    if let Some(cwd) = &payload.cwd {
        paths.push(grants.check("/cwd", cwd));
    }
    let Some(harness) = &payload.harness else { return paths };
    for (index, folder) in harness.additional_directories.iter().enumerate() {
        paths.push(grants.check(format!("/harness/additionalDirectories/{index}"), folder));
    }
    for (block, list) in [("images", &harness.images), ("files", &harness.files)] {
        for (index, path) in list.iter().enumerate().filter_map(|(index, one)| Some((index, one.path.as_ref()?))) {
            paths.push(grants.check(format!("/harness/{block}/{index}/path"), path));
        }
    }
    if let Some(folder) = harness.cli_allowlist.as_ref().and_then(|allowlist| allowlist.bin_dir.as_ref()) {
        paths.push(grants.check("/harness/cliAllowlist/binDir", folder));
    }
    paths
}

/// The part of a snapshot that an audit record contains.
fn snapshot_facts(snapshot: &CapabilitySnapshot) -> Value {
    json!({
        "support": snapshot.support,
        "cliVersion": snapshot.cli_version,
        "features": snapshot.features,
        "detectedAt": snapshot.detected_at,
    })
}

const fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Warn => "warn",
        Verdict::Ask => "ask",
        Verdict::Deny => "deny",
    }
}
