//! The last line of a turn.

use ostler_plugin::provider::Failure;
use ostler_provider_kit::transcript::Unread;
use serde_json::Value;

/// The last line.
#[derive(Debug, Default)]
pub(crate) struct End {
    pub(crate) is_error: bool,
    pub(crate) subtype: String,
    pub(crate) terminal_reason: String,
    pub(crate) status: Option<u16>,
    /// The API's type of the error that ended the turn.
    pub(crate) error_type: String,
    /// Turns of the model.
    pub(crate) turns: Option<u64>,
    pub(crate) text: Option<String>,
    pub(crate) structured: Option<Value>,
    pub(crate) errors: Vec<String>,
    /// Why a part of it that decides about the run is unknown.
    pub(crate) unread: Option<Unread>,
}

impl End {
    pub(crate) fn interrupted(&self) -> bool {
        self.terminal_reason.starts_with("aborted")
    }

    /// Whether claude treated the prompt as an unknown command and did not call a model. It reports that as success.
    pub(crate) fn refused_command(&self) -> bool {
        self.turns == Some(0)
            && self.text.as_ref().is_some_and(|text| {
                text.starts_with("Unknown command: /")
                    || (text.starts_with('/') && text.ends_with("isn't available in this environment."))
            })
    }

    /// The failure if the part that decides about the run could not be read.
    pub(crate) fn unread(&self) -> Option<Failure> {
        self.unread.map(|unread| unread.failure("claude's last line"))
    }

    pub(crate) fn message(&self) -> String {
        // Messages of claude for its own developers are omitted.
        let mut errors = self.errors.iter().filter(|error| !error.starts_with("[ede_diagnostic]")).map(String::as_str);
        if let Some(first) = errors.next() {
            return errors.fold(first.to_owned(), |all, error| format!("{all}; {error}"));
        }
        match &self.text {
            Some(text) if !text.is_empty() => text.clone(),
            _ if self.interrupted() => "the turn was interrupted".to_owned(),
            _ => format!("claude ended with {}", self.subtype),
        }
    }
}
