//! The sandbox of runs in settings and records.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SandboxMode;

/// What enforces the sandbox of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SandboxBackend {
    /// Namespaces that the host creates.
    Namespaces,
    /// Namespaces that the system's `bwrap` creates.
    Bwrap,
    /// Landlock and seccomp.
    Landlock,
}

impl SandboxBackend {
    /// All back ends, in order of preference.
    pub const ALL: [Self; 3] = [Self::Namespaces, Self::Bwrap, Self::Landlock];

    /// Its name in settings and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Bwrap => "bwrap",
            Self::Landlock => "landlock",
        }
    }

    /// Whether a run has namespaces of its own.
    #[must_use]
    pub const fn has_namespaces(self) -> bool {
        matches!(self, Self::Namespaces | Self::Bwrap)
    }
}

/// The sandbox of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxRecord {
    /// What the run can change and reach.
    pub mode: SandboxMode,
    /// What enforces it. Missing if nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<SandboxBackend>,
    /// Its network.
    pub egress: Egress,
    /// What the back end cannot enforce, as text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<String>,
}

/// The network that a run can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Egress {
    /// Everything that the host can reach.
    Open,
    /// The hosts of an allow list.
    AllowList,
}

/// The sandbox that this machine supports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxSupport {
    /// The back end in use. Missing if no back end works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<SandboxBackend>,
    /// The mode of runs that do not specify one.
    pub default_mode: SandboxMode,
    /// What the back end cannot enforce, as text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<String>,
    /// Preferred back ends that do not work here, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
}
