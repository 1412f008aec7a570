//! Settings of the plugin.

use ostler_plugin::redactor::AllowTarget;
use serde::Deserialize;

/// What the operator can change.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Rules that are left out, by id.
    pub disable: Vec<String>,
    /// Further exceptions.
    pub allow: Vec<AllowEntry>,
}

/// An exception.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowEntry {
    /// Regular expression.
    pub pattern: String,
    /// Rules that it belongs to; empty means all.
    #[serde(default)]
    pub rules: Vec<String>,
    /// What the pattern is compared with.
    #[serde(default)]
    pub target: Target,
}

/// What an exception is compared with.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// The secret itself.
    #[default]
    Secret,
    /// The match around it.
    Match,
    /// The line around that.
    Line,
}

impl From<Target> for AllowTarget {
    fn from(target: Target) -> Self {
        match target {
            Target::Secret => Self::Secret,
            Target::Match => Self::Match,
            Target::Line => Self::Line,
        }
    }
}

/// JSON Schema of [`Settings`].
pub(crate) const SCHEMA: &str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "disable": {
      "description": "rules to leave out, by id",
      "type": "array",
      "items": {"type": "string", "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$"},
      "uniqueItems": true
    },
    "allow": {
      "description": "exceptions: text that fits one is left alone",
      "type": "array",
      "items": {
        "type": "object",
        "additionalProperties": false,
        "required": ["pattern"],
        "properties": {
          "pattern": {"description": "regular expression; anchor it", "type": "string", "minLength": 1},
          "rules": {"description": "rules it belongs to; none means all", "type": "array", "items": {"type": "string"}},
          "target": {"description": "what is compared", "enum": ["secret", "match", "line"]}
        }
      }
    }
  }
}"#;
