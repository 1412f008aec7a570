//! Collecting findings.

use ostler_plugin::policy::{Finding, Verdict};

/// Maximum number of findings. More are not useful, and the host limits them.
const MAX_FINDINGS: usize = 200;

/// The findings collected so far.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    list: Vec<Finding>,
    omitted: usize,
}

impl Findings {
    /// Adds a denial. An empty pointer means that it is not about one field.
    pub(crate) fn deny(&mut self, check: &str, pointer: impl Into<String>, message: impl Into<String>, hint: &str) {
        self.add(Verdict::Deny, check, pointer.into(), message.into(), hint);
    }

    /// Adds a warning.
    pub(crate) fn warn(&mut self, check: &str, pointer: impl Into<String>, message: impl Into<String>, hint: &str) {
        self.add(Verdict::Warn, check, pointer.into(), message.into(), hint);
    }

    fn add(&mut self, verdict: Verdict, check: &str, pointer: String, message: String, hint: &str) {
        // The first denial is never omitted: either all later findings are denials, or the list already contains one.
        if self.list.len() >= MAX_FINDINGS && (verdict != Verdict::Deny || self.denies()) {
            self.omitted += 1;
            return;
        }
        self.list.push(Finding {
            check: check.to_owned(),
            verdict,
            pointer: (!pointer.is_empty()).then_some(pointer),
            message,
            hint: (!hint.is_empty()).then(|| hint.to_owned()),
        });
    }

    fn denies(&self) -> bool {
        self.list.iter().any(|finding| finding.verdict == Verdict::Deny)
    }

    pub(crate) fn into_vec(mut self) -> Vec<Finding> {
        if self.omitted > 0 {
            self.list.push(Finding {
                check: "findings-omitted".to_owned(),
                verdict: Verdict::Warn,
                pointer: None,
                message: format!("{} further findings are not listed", self.omitted),
                hint: None,
            });
        }
        self.list
    }
}
