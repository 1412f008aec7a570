//! Settings of one instance.

use std::collections::BTreeMap;

use ostler_plugin::{Error, Problems, escape_pointer};
use ostler_provider_kit::argument::unfit;
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
    /// Variable in which codex gets the stored provider token.
    pub token_variable: String,
    /// Model where a run names none; without it, codex's own default.
    pub default_model: Option<String>,
    /// Id of a model provider in codex's own configuration to use. Its retries can then be bounded.
    pub model_provider: Option<String>,
    /// How often codex repeats a request that failed, for a `modelProvider` that is not built into codex.
    pub request_max_retries: u32,
    /// How often codex takes up a stream that broke, for a `modelProvider` that is not built into codex.
    pub stream_max_retries: u32,
    /// Whether codex may work in a folder that is no git repository. What Ostler runs in is trusted by a grant already,
    /// so codex need not look for a second sign of trust.
    pub skip_git_repo_check: bool,
    /// Further keys of codex's configuration, dotted, as `-c key=value`. They are arguments, which every process of the
    /// machine can read: no secrets. What a run asks for wins over them.
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
      "description": "further variables that codex inherits, such as the env_key of its model provider; `*` at the end is allowed"
    },
    "tokenVariable": {
      "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "default": "CODEX_API_KEY",
      "description": "variable in which codex gets the stored provider token"
    },
    "defaultModel": {"type": "string", "minLength": 1, "maxLength": 256, "description": "model where a run names none"},
    "modelProvider": {
      "type": "string", "pattern": "^[A-Za-z0-9_-]+$", "maxLength": 128,
      "description": "id of a model provider in codex's own configuration"
    },
    "requestMaxRetries": {"type": "integer", "minimum": 0, "maximum": 100, "default": 2},
    "streamMaxRetries": {"type": "integer", "minimum": 0, "maximum": 100, "default": 2},
    "skipGitRepoCheck": {"type": "boolean", "default": true, "description": "work in folders that are no git repository"},
    "config": {
      "type": "object", "maxProperties": 64, "propertyNames": {"pattern": "^[A-Za-z0-9_.-]+$"},
      "description": "further keys of codex's configuration, dotted; they are visible to every process, so no secrets"
    }
  }
}"#;

/// Providers that codex defines itself; it refuses to have them changed.
const BUILT_IN_PROVIDERS: [&str; 5] = ["openai", "ollama", "ollama-chat", "lmstudio", "amazon-bedrock"];

impl Settings {
    /// What the schema cannot say.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let mut problems = Problems::default();
        variables::check(&self.environment, &self.token_variable, &mut problems);
        for (key, value) in &self.config {
            let pointer = format!("/config/{}", escape_pointer(key));
            if key.is_empty() || key.split('.').any(str::is_empty) || key.contains('=') {
                problems.push(&pointer, "is not a dotted key such as `model_reasoning_effort`");
            }
            match toml_text::value(value) {
                None => problems.push(pointer, "holds null, which TOML cannot express; leave it out"),
                Some(text) => {
                    if let Some(reason) = unfit(&format!("{key}={text}")) {
                        problems.push(pointer, reason);
                    }
                }
            }
        }
        problems.into_result()
    }

    /// The model provider whose retries codex lets its caller change.
    pub(crate) fn bounded_provider(&self) -> Option<&str> {
        self.model_provider.as_deref().filter(|id| !BUILT_IN_PROVIDERS.contains(id))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    #[test]
    fn every_setting_stands_in_the_schema() {
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
    fn every_problem_at_once() {
        let settings: Settings = serde_json::from_value(serde_json::json!({
            "environment": ["A B"], "tokenVariable": "1", "config": {"a..b": 1, "n": null},
        }))
        .unwrap();
        let Err(Error::Invalid(problems)) = settings.check() else { panic!("accepted") };
        let pointers: Vec<_> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(pointers, ["/environment/0", "/tokenVariable", "/config/a..b", "/config/n"]);
    }
}
