//! Handles denials of tool uses: with a warning, or with the end of the run.

use serde_json::json;

use super::{OTHER, ToolDecision};
use crate::attempt::outcome::Denial;
use crate::policy::native_policy::{POLICY as HOST, deny};
use crate::policy::policy_set::{self, PolicyDecision};
use crate::record::Recorder;
use ostler_config::ReportedTools;
use ostler_protocol::{AuditedTool, Finding, NewEvent, Payload, PolicyAudit, Verdict, WarningCode};

/// Maximum number of denied uses of an attempt that are recorded one by one, and of their bytes. They do not count towards
/// the quota of the run, so that a flood of output cannot hide them.
pub(super) const MAX_RECORDED: u64 = 1000;
pub(super) const MAX_RECORDED_BYTES: usize = 16 << 20;

/// Length of a tool's name in a message, in bytes; the rest is cut off.
pub(super) const MAX_NAME: usize = 100;

/// Handles denials.
#[derive(Debug)]
pub(super) struct Denials<'a> {
    pub(super) recorder: &'a Recorder,
    pub(super) rule: ReportedTools,
    pub(super) recorded: u64,
    /// Bytes that are left for records.
    pub(super) room: usize,
    pub(super) left_out: u64,
}

impl<'a> Denials<'a> {
    pub(super) const fn new(recorder: &'a Recorder, rule: ReportedTools) -> Self {
        Self { recorder, rule, recorded: 0, room: MAX_RECORDED_BYTES, left_out: 0 }
    }

    /// Handles the findings about a use. The strictest comes first.
    pub(super) fn follow(&mut self, audit: PolicyAudit) -> ToolDecision {
        let denial = audit.findings.first().filter(|finding| finding.verdict >= Verdict::Ask).cloned();
        let tool = audit.tool.clone().unwrap_or_default();
        let record = self.recorder.event(&Payload::PolicyAudit(audit));
        let Some(denial) = denial else { return ToolDecision::Recorded(record) };
        let message = self.message(&tool, &denial);
        let mut events = vec![record];
        let end = match self.rule {
            ReportedTools::Warn => {
                let AuditedTool { id, tool, name } = tool;
                let facts =
                    json!({"id": id, "tool": tool, "name": name, "policy": denial.policy, "check": denial.check});
                events.push(self.recorder.warning(WarningCode::ToolDenied, message, facts));
                None
            }
            ReportedTools::End => Some(Denial { message, hint: denial.hint }),
        };
        let size = events.iter().map(|event| event.payload.len()).sum();
        match self.room.checked_sub(size).filter(|_| self.recorded < MAX_RECORDED) {
            Some(room) => (self.room, self.recorded) = (room, self.recorded + 1),
            None => {
                self.left_out += 1;
                events.clear();
            }
        }
        ToolDecision::Denied { events, end }
    }

    pub(super) fn left_out(&self) -> Option<NewEvent> {
        let count = Some(self.left_out).filter(|count| *count > 0)?;
        let message = format!("{count} further tool uses were denied, and have no record of their own");
        Some(self.recorder.warning(WarningCode::ToolDenied, message, json!({"count": count})))
    }

    pub(super) fn message(&self, tool: &AuditedTool, finding: &Finding) -> String {
        let (policy, found) = (&finding.policy, &finding.message);
        if *policy == HOST && finding.check == NOT_JUDGED && finding.message == LONG_LINE {
            return format!("the CLI may have used a tool about which no policy was asked: {found}");
        }
        // Redaction first: a cut could remove the part by which a key is recognized.
        let cut = |text: &str| {
            let mut text = self.recorder.clean(text);
            text.truncate(text.floor_char_boundary(MAX_NAME));
            text
        };
        let tool = match (tool.name.as_str(), tool.tool.as_str()) {
            ("", "" | OTHER) => "a tool that it did not name".to_owned(),
            ("", kind) => format!("a tool of the kind {}", cut(kind)),
            (name, _) => format!("the tool {}", cut(name)),
        };
        let reason = found
            .strip_prefix(&policy_set::failure_begins(policy))
            .filter(|_| finding.check == policy_set::POLICY_FAILED);
        let judgement = match (finding.verdict, reason) {
            (_, Some(reason)) => format!("about which the policy {policy} could not be asked: {reason}"),
            _ if *policy == HOST && finding.check == NOT_JUDGED => format!("about which no policy was asked: {found}"),
            (Verdict::Ask, _) => {
                format!("for which the policy {policy} wants a person's consent, and nobody can be asked: {found}")
            }
            _ => format!("which the policy {policy} denies: {found}"),
        };
        format!("the CLI has used {tool}, {judgement}")
    }
}

/// Name of the check in the host's findings about uses that no policy has evaluated.
pub(super) const NOT_JUDGED: &str = "tool-not-judged";

/// Why no policy was asked.
pub(super) const ENDING: &str = "the run was being ended";
pub(super) const LONG_LINE: &str = "a line of its output was too long to be read";

/// What the host says where no policy was asked.
pub(super) fn not_judged(reason: &str) -> PolicyDecision {
    let finding = Finding { pointer: None, hint: None, ..deny(NOT_JUDGED, String::new(), reason.to_owned(), "") };
    PolicyDecision { findings: vec![finding], failed: Vec::new() }
}
