//! Settings with which an operator restricts runs further.

use serde::Deserialize;

use crate::permissions::SandboxMode;

/// `[plugins.policy.guardrails.settings]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// The sandbox modes that a run may request. If not all modes are listed, a run must set one.
    pub(crate) sandbox_modes: Vec<SandboxMode>,
    /// Maximum time limit of a run in seconds.
    pub(crate) max_timeout_seconds: u64,
    /// Variables that a payload must not set, for the child, for programs of its allowlist or for MCP servers, regardless of
    /// the host's own allow list. A name may end with `*`.
    pub(crate) forbidden_environment: Vec<String>,
}

/// Maximum time limit of the interface in seconds.
pub(crate) const LONGEST_TIMEOUT: u64 = 604_800;

impl Default for Settings {
    fn default() -> Self {
        Self {
            sandbox_modes: SandboxMode::ALL.to_vec(),
            max_timeout_seconds: LONGEST_TIMEOUT,
            // Each of these loads code into the CLI, which would then not be the verified program.
            forbidden_environment: ["LD_PRELOAD", "LD_AUDIT", "DYLD_INSERT_LIBRARIES"].map(str::to_owned).to_vec(),
        }
    }
}

impl Settings {
    /// Whether a payload must not set the variable.
    pub(crate) fn forbids_variable(&self, name: &str) -> bool {
        self.forbidden_environment.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == pattern,
        })
    }
}

/// JSON Schema of [`Settings`].
pub(crate) const SCHEMA: &str = r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "sandboxModes": {
      "type": "array", "minItems": 1, "uniqueItems": true,
      "items": {"enum": ["read-only", "workspace-write", "full-access"]},
      "default": ["read-only", "workspace-write", "full-access"],
      "description": "sandbox modes that a run may request; if not all modes are listed, a run must set one of them"
    },
    "maxTimeoutSeconds": {
      "type": "integer", "minimum": 5, "maximum": 604800, "default": 604800,
      "description": "maximum time limit of a run in seconds"
    },
    "forbiddenEnvironment": {
      "type": "array", "maxItems": 256, "items": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*\\*?$"},
      "default": ["LD_PRELOAD", "LD_AUDIT", "DYLD_INSERT_LIBRARIES"],
      "description": "variables that a payload must not set, regardless of [policy] allow_environment, also for MCP servers and programs of the allowlist; a name may end with `*`"
    }
  }
}"#;
