//! Settings of one instance.

use ostler_plugin::{Error, Problems};
use ostler_provider_kit::variables;
use serde::Deserialize;
use serde_json::{Map, Value};

/// `[providers.NAME.settings]` of a claude instance.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Further variables of the host's environment that claude needs, such as those of a cloud account.
    pub environment: Vec<String>,
    /// Variable for the stored provider token: `ANTHROPIC_API_KEY` for an API key, `CLAUDE_CODE_OAUTH_TOKEN` for a token of
    /// `claude setup-token`, `ANTHROPIC_AUTH_TOKEN` for the bearer token of a gateway.
    pub token_variable: String,
    /// The default model; without it, claude's own default applies.
    pub default_model: Option<String>,
    /// How often claude repeats a failed request.
    pub max_retries: u32,
    /// Settings files of claude that apply in every run. They can allow tools and run hooks: a run that restricts the agent
    /// (sandbox, network, tools, or no automatic approval) reads only the files in this list, and a run without restrictions
    /// also reads the user's. The latter also reads those of the project, if the grant of the folder trusts them.
    pub trusted_sources: Vec<Source>,
    /// Whether a run that does not read project settings still gets the instructions of `CLAUDE.md` in its folder.
    pub project_memory: bool,
    /// Whether claude runs shell commands in the sandbox of the operating system (on Linux it requires `bwrap` and `socat`).
    /// If it cannot be set up, claude refuses to start.
    pub sandbox: bool,
    /// Whether claude may send telemetry and error reports, and fetch news.
    pub nonessential_traffic: bool,
    /// Further keys of claude's `settings.json`, passed in a private file. Options of the run override them.
    pub config: Map<String, Value>,
}

/// A settings file of claude.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// `settings.json` in claude's own folder.
    User,
    /// `.claude/settings.json` of the project.
    Project,
    /// `.claude/settings.local.json` of the project.
    Local,
}

impl Source {
    /// The name that claude uses.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Project => "project",
            Self::Local => "local",
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            environment: Vec::new(),
            token_variable: "ANTHROPIC_API_KEY".to_owned(),
            default_model: None,
            max_retries: 2,
            trusted_sources: Vec::new(),
            project_memory: true,
            sandbox: false,
            nonessential_traffic: false,
            config: Map::new(),
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
      "description": "further variables that claude inherits, such as those of a cloud account; a name may end with `*`"
    },
    "tokenVariable": {
      "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "default": "ANTHROPIC_API_KEY",
      "description": "variable for the stored provider token; CLAUDE_CODE_OAUTH_TOKEN for one of `claude setup-token`"
    },
    "defaultModel": {"type": "string", "minLength": 1, "maxLength": 256, "description": "default model"},
    "maxRetries": {
      "type": "integer", "minimum": 0, "maximum": 100, "default": 2, "description": "how often claude repeats a failed request"
    },
    "trustedSources": {
      "type": "array", "uniqueItems": true, "items": {"enum": ["user", "project", "local"]}, "default": [],
      "description": "settings files of claude that a run reads even if it restricts the agent; they can allow tools and run hooks"
    },
    "projectMemory": {
      "type": "boolean", "default": true, "description": "read CLAUDE.md of the run's folder if project settings are not read"
    },
    "sandbox": {
      "type": "boolean", "default": false,
      "description": "run shell commands in the operating system's sandbox (Linux: bwrap and socat); claude does not start without it"
    },
    "nonessentialTraffic": {
      "type": "boolean", "default": false, "description": "let claude send telemetry and error reports"
    },
    "config": {"type": "object", "maxProperties": 64, "description": "further keys of claude's settings.json"}
  }
}"#;

impl Settings {
    /// Checks what the schema cannot express.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let mut problems = Problems::default();
        variables::check(&self.environment, &self.token_variable, &mut problems);
        // The plugin adds to these values.
        for (pointer, is_list) in [
            ("/permissions", false),
            ("/permissions/allow", true),
            ("/permissions/deny", true),
            ("/hooks", false),
            ("/hooks/SessionStart", true),
            ("/sandbox", false),
        ] {
            let fits = |value: &Value| if is_list { value.is_array() } else { value.is_object() };
            if pointed(&self.config, pointer).is_some_and(|value| !fits(value)) {
                let what = if is_list { "is not a list" } else { "is not an object" };
                problems.push(format!("/config{pointer}"), what);
            }
        }
        problems.into_result()
    }
}

fn pointed<'a>(map: &'a Map<String, Value>, pointer: &str) -> Option<&'a Value> {
    let mut names = pointer.split('/').skip(1);
    let first = map.get(names.next()?)?;
    names.try_fold(first, |value, name| value.get(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    #[test]
    fn schema_describes_every_setting() {
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        let all = serde_json::json!({
            "environment": ["AWS_*"], "tokenVariable": "CLAUDE_CODE_OAUTH_TOKEN", "defaultModel": "opus", "maxRetries": 0,
            "trustedSources": ["user", "project", "local"], "projectMemory": false, "sandbox": true,
            "nonessentialTraffic": true, "config": {"effortLevel": "high"},
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
            "environment": ["A B"], "tokenVariable": "1",
            "config": {"permissions": {"allow": "Bash"}, "hooks": [], "sandbox": true},
        }))
        .unwrap();
        let Err(Error::Invalid(problems)) = settings.check() else { panic!("accepted") };
        let pointers: Vec<_> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(
            pointers,
            ["/environment/0", "/tokenVariable", "/config/permissions/allow", "/config/hooks", "/config/sandbox"]
        );
    }
}
