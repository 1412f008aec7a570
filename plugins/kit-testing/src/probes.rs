//! Results of probes.

use ostler_plugin::provider::{Capabilities, ProbeOutcome, ProbeOutput, ProbeResult, Support};

use super::captures::Captures;

/// A probe that exited with this standard output.
#[must_use]
pub fn exited(stdout: &str, code: i32) -> ProbeOutcome {
    ProbeOutcome::Exited(ProbeOutput { code, stdout: stdout.to_owned(), stderr: String::new() })
}

/// The probe results of the captured version, with some results replaced. `probes` maps the id of each probe to a capture.
#[must_use]
pub fn answers(captures: &Captures, probes: &[(&str, &str)], replaced: &[(&str, ProbeOutcome)]) -> Vec<ProbeResult> {
    probes
        .iter()
        .map(|(id, case)| {
            let outcome = replaced.iter().find(|(replaced, _)| replaced == id).map(|(_, outcome)| outcome.clone());
            let outcome = outcome.unwrap_or_else(|| exited(&captures.part(case, "stdout"), 0));
            ProbeResult { id: (*id).to_owned(), outcome }
        })
        .collect()
}

/// Asserts that a CLI cannot be used at all, and that the first reason contains this text.
pub fn assert_blocked(capabilities: &Capabilities, word: &str) {
    assert_eq!(capabilities.support, Support::Blocked, "{word}");
    assert!(capabilities.reasons[0].contains(word), "{:?}", capabilities.reasons);
    assert!(capabilities.modes.is_empty());
}
