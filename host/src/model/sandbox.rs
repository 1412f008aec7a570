//! The containment of runs, as settings and records name it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SandboxMode;

/// What enforces the containment of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SandboxBackend {
    /// Namespaces that the host makes.
    Namespaces,
    /// Namespaces that the system's `bwrap` makes.
    Bwrap,
    /// Landlock and seccomp.
    Landlock,
}

impl SandboxBackend {
    /// All of them, the best first.
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

/// What bounds a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxRecord {
    /// What the run may change and reach.
    pub mode: SandboxMode,
    /// What enforces it. None where nothing does.
    pub backend: Option<SandboxBackend>,
    /// Its network.
    pub egress: Egress,
    /// What the back end cannot hold, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<String>,
}

/// What a run reaches of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Egress {
    /// Whatever the host reaches.
    Open,
    /// The hosts of an allow list.
    AllowList,
}

/// What this machine can hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxSupport {
    /// The back end in use. None where no back end holds.
    pub backend: Option<SandboxBackend>,
    /// The mode of runs that do not say one.
    pub default_mode: SandboxMode,
    /// What the back end cannot hold, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<String>,
    /// Better back ends that do not hold here, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
}
