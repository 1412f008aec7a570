//! Collecting findings.

use ostler_plugin::policy::{Finding, Verdict};

use crate::rule::Decision;

/// Maximum number of findings of one use.
const MAX_FINDINGS: usize = 50;

#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    /// Adds a finding that asks or denies; what is allowed is no finding.
    pub(crate) fn add(
        &mut self,
        check: &str,
        decision: Decision,
        message: String,
        hint: &str,
        pointer: Option<String>,
    ) {
        let verdict = match decision {
            Decision::Allow => return,
            Decision::Ask => Verdict::Ask,
            Decision::Deny => Verdict::Deny,
        };
        let same = |finding: &&mut Finding| finding.check == check && finding.message == message;
        if let Some(known) = self.0.iter_mut().find(same) {
            known.verdict = known.verdict.max(verdict);
            return;
        }
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        self.0.push(Finding { check: check.to_owned(), verdict, pointer, message, hint });
    }

    /// The strictest come first.
    pub(crate) fn into_vec(mut self) -> Vec<Finding> {
        self.0.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
        self.0.truncate(MAX_FINDINGS);
        self.0
    }
}
