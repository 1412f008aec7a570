//! The errors that a client sees.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What kind of error it is; decides the exit code of the command line and the JSON-RPC code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorKind {
    /// A parameter is missing, unknown, of the wrong type or out of range.
    InvalidParams,
    /// A policy denied it; `findings` contains the reasons.
    PolicyDenied,
    /// It restricts the agent in a way that neither the CLI nor the host can enforce.
    Unenforceable,
    /// The object does not exist.
    NotFound,
    /// The queue has reached its capacity.
    QueueFull,
    /// The provider's executable is not installed.
    CliMissing,
    /// The work folder does not exist or is not a folder.
    CwdMissing,
    /// The provider's CLI is installed but cannot be used.
    ProviderBlocked,
    /// A plugin trapped, exceeded its limits or could not be loaded.
    PluginFailed,
    /// It conflicts with the current state.
    Conflict,
    /// Reading or writing failed.
    Io,
    /// A defect in the host.
    Internal,
}

impl ErrorKind {
    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidParams => "INVALID_PARAMS",
            Self::PolicyDenied => "POLICY_DENIED",
            Self::Unenforceable => "UNENFORCEABLE",
            Self::NotFound => "NOT_FOUND",
            Self::QueueFull => "QUEUE_FULL",
            Self::CliMissing => "CLI_MISSING",
            Self::CwdMissing => "CWD_MISSING",
            Self::ProviderBlocked => "PROVIDER_BLOCKED",
            Self::PluginFailed => "PLUGIN_FAILED",
            Self::Conflict => "CONFLICT",
            Self::Io => "IO",
            Self::Internal => "INTERNAL",
        }
    }
}

/// One problem in a document that a client sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// JSON Pointer (RFC 6901) into the document; empty for the whole.
    pub pointer: String,
    /// What is wrong there, and what is expected.
    pub message: String,
}

/// How strict a policy's finding is, mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// No objection.
    Allow,
    /// Continue with a warning.
    Warn,
    /// A person must approve; if nobody can be asked, this denies.
    Ask,
    /// Refused.
    Deny,
}

/// One finding of one policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Name of the policy plugin.
    pub policy: String,
    /// SHA-256 of the plugin's component, in hex.
    pub digest: String,
    /// Kebab name of the check.
    pub check: String,
    /// How strict the finding is.
    pub verdict: Verdict,
    /// JSON Pointer into the start payload, if one field caused the finding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// What was found.
    pub message: String,
    /// What the user can do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// An error as a client sees it: the `data` of a JSON-RPC error.
///
/// Its texts are redacted when it leaves the host, not when it is created.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiError {
    /// What kind of error it is.
    pub kind: ErrorKind,
    /// What is wrong.
    pub message: String,
    /// What the user can do about it, a sentence or a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Whether the same call may succeed later.
    #[serde(default)]
    pub retryable: bool,
    /// The field that caused the error, if it is a single one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// All problems of the document, if there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
    /// Findings of the policies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

impl ApiError {
    /// An error of a kind, with a message.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
            retryable: matches!(kind, ErrorKind::QueueFull),
            pointer: None,
            problems: Vec::new(),
            findings: Vec::new(),
        }
    }

    /// All problems of a document as one error.
    #[must_use]
    pub fn invalid(problems: Vec<Problem>) -> Self {
        let message = match problems.as_slice() {
            [] => "the parameters are not valid".to_owned(),
            [one] => describe(one),
            several => {
                let list: Vec<String> = several.iter().map(describe).collect();
                format!("{} problems: {}", several.len(), list.join("; "))
            }
        };
        let pointer = problems.first().map(|problem| problem.pointer.clone());
        Self { pointer, problems, ..Self::new(ErrorKind::InvalidParams, message) }
    }

    /// An internal error: a defect in the host.
    #[must_use]
    pub fn internal(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Internal, message.to_string())
    }

    /// The object does not exist.
    #[must_use]
    pub fn not_found(what: &str, id: impl fmt::Display) -> Self {
        Self::new(ErrorKind::NotFound, format!("there is no {what} {id}"))
    }

    /// Sets the hint: what the user can do about the error.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Sets the field that caused the error.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }

    /// Sets whether the same call may succeed later.
    #[must_use]
    pub const fn retryable(mut self, retryable: bool) -> Self {
        self.retryable = retryable;
        self
    }
}

fn describe(problem: &Problem) -> String {
    if problem.pointer.is_empty() {
        problem.message.clone()
    } else {
        format!("{}: {}", problem.pointer, problem.message)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}
