//! Settings of one instance.

use std::collections::BTreeMap;

use ostler_plugin::{Error, Problems, escape_pointer};
use ostler_provider_kit::argument::argument_problem;
use ostler_provider_kit::variables;
use serde::Deserialize;
use serde_json::Value;

use crate::toml_text;

/// `[providers.NAME.settings]` of a codex instance.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Further variables of the host's environment that codex needs, such as the `env_key` of its model provider.
    pub environment: Vec<String>,
    /// Variable for the stored provider token.
    pub token_variable: String,
    /// The default model; without it, codex's own default applies.
    pub default_model: Option<String>,
    /// Id of a model provider in codex's own configuration. Its number of retries can then be limited.
    pub model_provider: Option<String>,
    /// How often codex repeats a failed request, for a `modelProvider` that is not built into codex.
    pub request_max_retries: u32,
    /// How often codex reconnects to a broken stream, for a `modelProvider` that is not built into codex.
    pub stream_max_retries: u32,
    /// Whether codex may work in a folder that is not a git repository. A grant is already a sign of trust, so codex does
    /// not have to require another one.
    pub skip_git_repo_check: bool,
    /// Further dotted keys of codex's configuration, passed as `-c key=value`. They are arguments, which every process on
    /// the machine can read, so they must not contain secrets. Options of the run override them.
    pub config: BTreeMap<String, Value>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            environment: Vec::new(),
            token_variable: "CODEX_API_KEY".to_owned(),
            default_model: None,
            model_provider: None,
            request_max_retries: 2,
            stream_max_retries: 2,
            skip_git_repo_check: true,
            config: BTreeMap::new(),
        }
    }
}

/// JSON Schema of [`Settings`].
pub(crate) const SCHEMA: &str = r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "environment": {
      "type": "array", "maxItems": 128, "items": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*\\*?$"},
      "description": "further variables that codex inherits, such as the env_key of its model provider; a name may end with `*`"
    },
    "tokenVariable": {
      "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "default": "CODEX_API_KEY",
      "description": "variable for the stored provider token"
    },
    "defaultModel": {"type": "string", "minLength": 1, "maxLength": 256, "description": "default model"},
    "modelProvider": {
      "type": "string", "pattern": "^[A-Za-z0-9_-]+$", "maxLength": 128,
      "description": "id of a model provider in codex's own configuration"
    },
    "requestMaxRetries": {"type": "integer", "minimum": 0, "maximum": 100, "default": 2},
    "streamMaxRetries": {"type": "integer", "minimum": 0, "maximum": 100, "default": 2},
    "skipGitRepoCheck": {"type": "boolean", "default": true, "description": "work in folders that are not git repositories"},
    "config": {
      "type": "object", "maxProperties": 64, "propertyNames": {"pattern": "^[A-Za-z0-9_.-]+$"},
      "description": "further keys of codex's configuration, dotted; they are visible to every process, so no secrets"
    }
  }
}"#;

/// Providers that are built into codex, which rejects changes to them.
const BUILT_IN_PROVIDERS: [&str; 5] = ["openai", "ollama", "ollama-chat", "lmstudio", "amazon-bedrock"];

impl Settings {
    /// Checks what the schema cannot express.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let mut problems = Problems::default();
        variables::check(&self.environment, &self.token_variable, &mut problems);
        for (key, value) in &self.config {
            let pointer = format!("/config/{}", escape_pointer(key));
            if key.is_empty() || key.split('.').any(str::is_empty) || key.contains('=') {
                problems.push(&pointer, "is not a dotted key such as `model_reasoning_effort`");
            }
            match toml_text::value(value) {
                None => problems.push(pointer, "contains null, which TOML does not support; remove it"),
                Some(text) => {
                    if let Some(reason) = argument_problem(&format!("{key}={text}")) {
                        problems.push(pointer, reason);
                    }
                }
            }
        }
        problems.into_result()
    }

    /// The model provider whose number of retries can be set.
    pub(crate) fn bounded_provider(&self) -> Option<&str> {
        self.model_provider.as_deref().filter(|id| !BUILT_IN_PROVIDERS.contains(id))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    #[test]
    fn schema_describes_every_setting() {
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        let all = serde_json::json!({
            "environment": ["A", "B_*"], "tokenVariable": "T", "defaultModel": "m", "modelProvider": "p",
            "requestMaxRetries": 1, "streamMaxRetries": 1, "skipGitRepoCheck": false, "config": {"a.b": [1, {"c": "d"}]},
        });
        for key in all.as_object().unwrap().keys() {
            assert!(schema["properties"].get(key).is_some(), "{key}");
        }
        assert_eq!(schema["properties"].as_object().unwrap().len(), all.as_object().unwrap().len());
        serde_json::from_value::<Settings>(all).unwrap().check().unwrap();
        serde_json::from_str::<Settings>("{}").unwrap().check().unwrap();
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let settings: Settings = serde_json::from_value(serde_json::json!({
            "environment": ["A B"], "tokenVariable": "1", "config": {"a..b": 1, "n": null},
        }))
        .unwrap();
        let Err(Error::Invalid(problems)) = settings.check() else { panic!("accepted") };
        let pointers: Vec<_> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(pointers, ["/environment/0", "/tokenVariable", "/config/a..b", "/config/n"]);
    }
}
