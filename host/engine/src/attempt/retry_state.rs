//! The state of a run that is kept from attempt to attempt.

use serde::{Deserialize, Serialize};

use ostler_protocol::StartAfter;

/// Stored as JSON with the job of the run, and deleted when the run ends. Contains no secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RetryState {
    /// Number of retries so far, without the automatic restart.
    pub(crate) retries: u32,
    /// The session to resume is no longer known: the run starts a new one.
    pub(crate) without_resume: bool,
    /// For a run of a conversation that was started: its starting point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) base: Option<Base>,
    /// The runs after which it starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) after: Option<StartAfter>,
}

/// The session of the conversation when the first attempt of a run started. Later attempts start from it again, not from
/// where the attempt before stopped: that session has the prompt already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Base {
    /// The session that the run resumes.
    pub(crate) session: Option<String>,
}

impl RetryState {
    /// Reads a stored state. A state that cannot be read counts as the default.
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
    fn state_of_an_earlier_version_is_read() {
        let read = RetryState::read(Some(r#"{"retries": 2, "withoutResume": true}"#));
        assert_eq!(read, RetryState { retries: 2, without_resume: true, base: None, after: None });
        assert_eq!(RetryState::read(None), RetryState::default());
        assert_eq!(RetryState::read(Some("?")), RetryState::default());
        let kept = RetryState { base: Some(Base { session: None }), ..read };
        assert_eq!(RetryState::read(kept.to_text().as_deref()), kept);
    }
}
