//! What an operator can draw tighter.

use serde::Deserialize;

use crate::permissions::SandboxMode;

/// `[plugins.policy.guardrails.settings]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// The sandbox modes that a run may ask for. Where not all of them are listed, a run must name one.
    pub(crate) sandbox_modes: Vec<SandboxMode>,
    /// Longest time limit of a run, in seconds.
    pub(crate) max_timeout_seconds: u64,
    /// Variables that a payload may not set, for the child, for programs of its allowlist or for MCP servers, whatever the
    /// host's own allow list says; `*` may stand at the end.
    pub(crate) forbidden_environment: Vec<String>,
}

/// Longest time limit that the interface knows, in seconds.
pub(crate) const LONGEST_TIMEOUT: u64 = 604_800;

impl Default for Settings {
    fn default() -> Self {
        Self {
            sandbox_modes: SandboxMode::ALL.to_vec(),
            max_timeout_seconds: LONGEST_TIMEOUT,
            // Each of these loads code into the CLI itself, and then it is no longer the program that was verified.
            forbidden_environment: ["LD_PRELOAD", "LD_AUDIT", "DYLD_INSERT_LIBRARIES"].map(str::to_owned).to_vec(),
        }
    }
}

impl Settings {
    /// Whether a payload may not set the variable.
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
      "description": "sandbox modes that a run may ask for; where not all are listed, a run must name one of them"
    },
    "maxTimeoutSeconds": {
      "type": "integer", "minimum": 5, "maximum": 604800, "default": 604800,
      "description": "longest time limit that a run may ask for"
    },
    "forbiddenEnvironment": {
      "type": "array", "maxItems": 256, "items": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*\\*?$"},
      "default": ["LD_PRELOAD", "LD_AUDIT", "DYLD_INSERT_LIBRARIES"],
      "description": "variables that a payload may not set, whatever [policy] allow_environment says, also for MCP servers and programs of the allowlist; `*` at the end is allowed"
    }
  }
}"#;
