//! What the engine must remember of a run from attempt to attempt.

use serde::{Deserialize, Serialize};

use ostler_protocol::StartAfter;

/// Stored with the run's job as JSON, and gone with the run's end. Nothing in it is secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RetryState {
    /// Retries so far, the automatic new start not counted.
    pub(crate) retries: u32,
    /// The session to resume is not known any more: the run starts anew.
    pub(crate) without_resume: bool,
    /// For a run of a conversation, once it has been started: where it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) base: Option<Base>,
    /// The runs that it is to start after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) after: Option<StartAfter>,
}

/// The conversation as a run's first attempt found it. Later attempts begin there again and not where the attempt before
/// broke off: its session has the prompt already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Base {
    /// The session that the run resumes.
    pub(crate) session: Option<String>,
}

impl RetryState {
    /// Reads what was stored. What cannot be read is as good as nothing.
    pub(crate) fn read(text: Option<&str>) -> Self {
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// As it is stored.
    pub(crate) fn to_text(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_version_stored_is_read() {
        let read = RetryState::read(Some(r#"{"retries": 2, "withoutResume": true}"#));
        assert_eq!(read, RetryState { retries: 2, without_resume: true, base: None, after: None });
        assert_eq!(RetryState::read(None), RetryState::default());
        assert_eq!(RetryState::read(Some("?")), RetryState::default());
        let kept = RetryState { base: Some(Base { session: None }), ..read };
        assert_eq!(RetryState::read(kept.to_text().as_deref()), kept);
    }
}
