//! Why a plugin, or a call of one, failed.

use std::fmt;

use super::types::{Error as GuestError, Problem};

/// Kind of a plugin, which is the WIT world that it implements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Drives an agent CLI.
    Provider,
    /// Finds secrets, which must not be stored or shown.
    Redactor,
    /// Decides whether the host may do something.
    Policy,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Provider, Self::Redactor, Self::Policy];

    /// The name in messages, listings and interface names.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Redactor => "redactor",
            Self::Policy => "policy",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failure that belongs to one plugin. [`Display`](fmt::Display) names the plugin and says what happened; the text may
/// hold words of the plugin, so it goes through redaction before it is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginError {
    /// Name of the plugin, or of its file if it is not loaded.
    pub plugin: String,
    /// What kind of failure it is.
    pub kind: PluginErrorKind,
    /// Completes 'failed to …'; without the plugin's name.
    pub message: String,
}

/// The kind of a plugin failure.
#[derive(Debug, Clone, PartialEq)]
pub enum PluginErrorKind {
    /// No plugin of that kind has this name.
    NotFound,
    /// The file is not a plugin for this host.
    Refused,
    /// The settings do not match the plugin's schema, or its `configure` refused them. All problems.
    Settings(Vec<Problem>),
    /// The plugin failed too often and is disabled.
    Disabled,
    /// The guest trapped: a panic, an overflow of its stack, a broken answer.
    Trap,
    /// The guest was stopped because it ran too long.
    Timeout,
    /// The guest requested more memory, tables or handles than it may have.
    Memory,
    /// The guest's answer was longer than it may be.
    Output,
    /// The instance that held the state of the call is gone after an earlier failure.
    Gone,
    /// The plugin answered with an error of its own. `Invalid` holds all problems of the payload.
    Guest(GuestError),
    /// The host could not load, compile or start the plugin for reasons of its own.
    Host,
}

impl PluginErrorKind {
    /// Whether it is a fault of the plugin, which counts towards disabling it. An error answer is not a fault.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::Trap | Self::Timeout | Self::Memory | Self::Output)
    }
}

impl PluginError {
    pub(super) fn new(plugin: impl Into<String>, kind: PluginErrorKind, message: impl Into<String>) -> Self {
        Self { plugin: plugin.into(), kind, message: message.into() }
    }

    /// The problems that go with the error, with their pointers: of the settings or of the payload.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        match &self.kind {
            PluginErrorKind::Settings(problems) | PluginErrorKind::Guest(GuestError::Invalid(problems)) => problems,
            _ => &[],
        }
    }

    /// The error for an `error` answer of the plugin.
    pub(super) fn guest(plugin: &str, error: GuestError) -> Self {
        let message = match &error {
            GuestError::Invalid(problems) => describe_problems(problems),
            GuestError::Unsupported(message) => format!("not supported: {message}"),
            GuestError::Internal(message) => format!("internal error: {message}"),
        };
        Self::new(plugin, PluginErrorKind::Guest(error), message)
    }

    /// The error for settings that the schema or the plugin refused.
    pub(super) fn settings(plugin: &str, problems: Vec<Problem>) -> Self {
        let message = format!("its settings are not valid: {}", describe_problems(&problems));
        Self::new(plugin, PluginErrorKind::Settings(problems), message)
    }
}

fn describe_problems(problems: &[Problem]) -> String {
    let describe = |problem: &Problem| match problem.pointer.as_str() {
        "" => problem.message.clone(),
        pointer => format!("{pointer}: {}", problem.message),
    };
    problems.iter().map(describe).collect::<Vec<_>>().join("; ")
}

impl fmt::Display for PluginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plugin {}: {}", self.plugin, self.message)
    }
}

impl std::error::Error for PluginError {}
