//! Settings of the plugin.

use ostler_plugin::redactor::AllowTarget;
use serde::Deserialize;

/// The settings that an operator can change.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Ids of disabled rules.
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
    /// Rules to which it applies; empty means all.
    #[serde(default)]
    pub rules: Vec<String>,
    /// The text that the pattern is matched against.
    #[serde(default)]
    pub target: Target,
}

/// The text that an exception is matched against.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// The secret itself.
    #[default]
    Secret,
    /// The whole match.
    Match,
    /// The line of the match.
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
      "description": "ids of rules to disable",
      "type": "array",
      "items": {"type": "string", "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$"},
      "uniqueItems": true
    },
    "allow": {
      "description": "exceptions: text that matches one is not redacted",
      "type": "array",
      "items": {
        "type": "object",
        "additionalProperties": false,
        "required": ["pattern"],
        "properties": {
          "pattern": {"description": "regular expression; use anchors", "type": "string", "minLength": 1},
          "rules": {"description": "rules to which it applies; empty means all", "type": "array", "items": {"type": "string"}},
          "target": {"description": "the text that the pattern is matched against", "enum": ["secret", "match", "line"]}
        }
      }
    }
  }
}"#;
