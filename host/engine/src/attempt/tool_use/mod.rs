//! Tool uses that a CLI reports without asking for permission. Each is evaluated by the policies once, afterwards: the CLI
//! may have done it already, so that a denial prevents nothing. It causes a warning, or ends the run.
//!
//! Uses that a CLI neither asks about nor reports are not seen here; only a sandbox limits them.

mod denials;
mod duplicates;
mod size_limit;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::attempt::outcome::Denial;
use crate::lookup::Lookups;
use crate::policy::policy_request::PolicyRequest;
use crate::policy::policy_set::{Grants, PolicyDecision, PolicySet};
use crate::record::Recorder;
use ostler_config::ReportedTools;
use ostler_plugin_host::types::{Action, CheckedPath, Semantic, ToolCall, ToolOutput};
use ostler_protocol::{NewEvent, PolicyAudit};

use denials::{Denials, ENDING, LONG_LINE, not_judged};
use duplicates::{Known, call_of};
use size_limit::shorten;

pub(crate) use duplicates::unknown_tool;

/// The kind of an unknown tool, and of kinds beyond [`MAX_KINDS`].
const OTHER: &str = "other";

/// Maximum number of kinds that are counted separately. The plugin guide has a dozen; a plugin may report any.
const MAX_KINDS: usize = 64;

/// Maximum number of files of one use that are looked up, and the maximum length and depth of a path. A policy does not get
/// others.
const MAX_FILES: usize = 256;
const MAX_PATH: usize = 4096;
const MAX_DEPTH: usize = 128;

/// Reported uses that wait for the CLI to ask about them. Beyond this, a use is evaluated when it is reported.
const MAX_UNDECIDED: usize = 1000;

/// Maximum number of failures of a policy in an attempt. After them, the policy is no longer called, and counts as denying.
const MAX_FAULTS: u32 = 5;

/// Tool uses of an attempt, for the policies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tally {
    total: u64,
    by_kind: BTreeMap<String, u64>,
    /// Number of failures of each policy.
    #[serde(skip)]
    faults: BTreeMap<String, u32>,
}

impl Tally {
    /// Whether a policy is no longer called.
    pub(crate) fn is_given_up(&self, policy: &str) -> bool {
        self.faults.get(policy).is_some_and(|count| *count >= MAX_FAULTS)
    }

    fn note_faults(&mut self, policies: &[String]) {
        for policy in policies {
            *self.faults.entry(policy.clone()).or_default() += 1;
        }
    }

    fn count(&mut self, kind: &str) {
        self.total += 1;
        let known = self.by_kind.contains_key(kind) || self.by_kind.len() < MAX_KINDS;
        *self.by_kind.entry(if known { kind } else { OTHER }.to_owned()).or_default() += 1;
    }
}

/// Passes the tool uses of an attempt to the policies.
#[derive(Debug)]
pub(crate) struct ToolUses<'a> {
    gate: &'a PolicySet,
    question: PolicyRequest<'a>,
    /// The payload for the policies: serialized once, because an agent uses many tools.
    payload: Option<Box<RawValue>>,
    /// Whether any policy evaluates tool uses.
    judges: bool,
    lookups: Lookups,
    known: Known,
    /// Whether the CLI asks about tool uses. Then a use that it reports may not have happened yet.
    asks: bool,
    /// Uses that were reported and about which the CLI has not asked so far, by their ids.
    undecided: HashMap<String, ToolUse>,
    tally: Tally,
    denials: Denials<'a>,
}

/// The result of the evaluation of a tool use.
#[derive(Debug)]
pub(crate) enum ToolDecision {
    /// There are no findings.
    NoFindings,
    /// There are findings and none denies: the record of them.
    Recorded(NewEvent),
    /// It was denied.
    Denied {
        /// The events about it.
        events: Vec<NewEvent>,
        /// Why the run ends, if it does.
        end: Option<Denial>,
    },
}

impl<'a> ToolUses<'a> {
    /// For the attempt that `question` describes.
    pub(crate) fn new(
        gate: &'a PolicySet,
        question: PolicyRequest<'a>,
        recorder: &'a Recorder,
        rule: ReportedTools,
        asks: bool,
    ) -> Self {
        let judges = gate.judges_tools();
        let payload = judges.then(|| question.payload_fact(gate)).flatten();
        Self {
            gate,
            question,
            payload,
            judges,
            lookups: Lookups::new(),
            known: Known::default(),
            asks,
            undecided: HashMap::new(),
            tally: Tally::default(),
            denials: Denials::new(recorder, rule),
        }
    }

    /// The uses in a step that must be evaluated now. If the CLI asks about tool uses, those are evaluated when it asks, and
    /// the others when their results are reported.
    pub(crate) fn new_uses(&mut self, events: &[Semantic]) -> Vec<ToolUse> {
        if !self.judges {
            return Vec::new();
        }
        let mut uses = Vec::new();
        for event in events {
            if let Semantic::ToolResult(result) = event
                && let Some(tool_use) = self.undecided.remove(&result.id)
            {
                uses.push(tool_use);
            }
            let Some(tool_use) = self.known.take(event) else { continue };
            let waits = self.asks && matches!(event, Semantic::ToolStart(_)) && !tool_use.call.id.is_empty();
            if waits && self.undecided.len() < MAX_UNDECIDED {
                uses.extend(self.undecided.insert(tool_use.call.id.clone(), tool_use));
            } else {
                uses.push(tool_use);
            }
        }
        uses
    }

    /// The uses about which the CLI has neither asked nor reported a result.
    pub(crate) fn undecided(&mut self) -> Vec<ToolUse> {
        self.undecided.drain().map(|(_, tool_use)| tool_use).collect()
    }

    /// Asks the policies about a use before it happens. What the CLI reports about it later is not evaluated again. Without
    /// time for that, it is denied. Blocks; calls plugins.
    pub(crate) fn decide(&mut self, call: &ToolCall, in_time: bool) -> (PolicyDecision, PolicyAudit) {
        let reported = self.undecided.remove(&call.id).is_some();
        let is_new = self.known.take(&Semantic::ToolStart(call.clone())).is_some_and(|tool_use| tool_use.is_new);
        let (action, decision) = self.judge(call.clone(), self.judges, in_time);
        self.tally.note_faults(&decision.failed);
        if is_new || reported {
            self.tally.count(&call.kind);
        }
        let audit = self.question.audit(&action, &decision);
        (decision, audit)
    }

    /// Asks the policies about a message of the user. Blocks; calls plugins.
    pub(crate) fn judge_input(&mut self, text: &str) -> (PolicyDecision, PolicyAudit) {
        let action = Action::Input(text.to_owned());
        let payload = self.question.payload_fact(self.gate);
        let decision = self.question.judge(self.gate, &action, Vec::new(), payload.as_deref(), &self.tally);
        let audit = self.question.audit(&action, &decision);
        (decision, audit)
    }

    /// The record of a decision that no policy was asked about.
    pub(crate) fn no_findings(&self) -> PolicyAudit {
        let audit = self.question.audit(&Action::Tool(unknown_tool()), &PolicyDecision::default());
        PolicyAudit { tool: None, ..audit }
    }

    fn judge(&mut self, call: ToolCall, judges: bool, in_time: bool) -> (Action, PolicyDecision) {
        let call = shorten(call);
        if !judges {
            return (Action::Tool(call), PolicyDecision::default());
        }
        if !in_time {
            return (Action::Tool(call), not_judged(ENDING));
        }
        let paths = checked_paths(&call, self.question.cwd, self.question.grants, &mut self.lookups);
        let action = Action::Tool(call);
        let decision = self.question.judge(self.gate, &action, paths, self.payload.as_deref(), &self.tally);
        (action, decision)
    }

    /// Asks the policies about a use. If no time is left, it counts as denied. Blocks; calls plugins.
    pub(crate) fn evaluate(&mut self, tool_use: ToolUse, in_time: bool) -> ToolDecision {
        let ToolUse { call, is_new } = tool_use;
        let kind = call.kind.clone();
        let (action, ruling) = self.judge(call, true, in_time);
        self.tally.note_faults(&ruling.failed);
        if is_new {
            self.tally.count(&kind);
        }
        if ruling.findings.is_empty() {
            return ToolDecision::NoFindings;
        }
        self.denials.follow(self.question.audit(&action, &ruling))
    }

    /// Handles a line of the CLI's protocol that was too long to be read: it could report a use. `None` if no policy evaluates
    /// uses.
    pub(crate) fn unread_line(&mut self) -> Option<ToolDecision> {
        let nothing =
            ToolOutput { id: String::new(), output: String::new(), is_error: false, exit_code: None, extra: None };
        let action = Action::Tool(ToolCall { input: String::new(), extra: None, ..call_of(&nothing) });
        self.judges.then(|| self.denials.follow(self.question.audit(&action, &not_judged(LONG_LINE))))
    }

    /// Whether the run must end when its tool uses can no longer be read.
    pub(crate) fn end_unseen(&self) -> bool {
        self.denials.rule == ReportedTools::End
    }

    /// The number of denied uses without a record, if any.
    pub(crate) fn left_out(&self) -> Option<NewEvent> {
        self.denials.left_out()
    }
}

/// A tool use that must be evaluated.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ToolUse {
    call: ToolCall,
    /// Whether it was not reported before.
    is_new: bool,
}

/// The paths of a use: its folder, and its files relative to the folder, as the host finds them now.
fn checked_paths(call: &ToolCall, cwd: &Path, grants: &Grants, lookups: &mut Lookups) -> Vec<CheckedPath> {
    let folder = call.cwd.as_ref().map_or_else(|| cwd.to_owned(), |folder| cwd.join(folder));
    let own_folder = call.cwd.iter().map(|given| ("/cwd".to_owned(), given, folder.clone()));
    let files = call.files.iter().take(MAX_FILES).enumerate();
    let files = files.map(|(index, file)| (format!("/files/{index}"), &file.path, folder.join(&file.path)));
    let bounded = |path: &Path| path.as_os_str().len() <= MAX_PATH && path.components().count() <= MAX_DEPTH;
    let (names, paths): (Vec<_>, Vec<_>) = own_folder
        .chain(files)
        .filter(|(_, _, path)| bounded(path))
        .map(|(pointer, given, path)| ((pointer, given), path))
        .unzip();
    let found = names.into_iter().zip(lookups.look_up(paths));
    found.filter_map(|((pointer, given), path)| Some(grants.checked(pointer, given.clone(), &path?))).collect()
}

#[cfg(test)]
mod tests;
