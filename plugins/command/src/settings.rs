//! Settings of one instance.

use ostler_plugin::{Error, Problems};
use ostler_provider_kit::argument::{is_variable_name, unfit};
use serde::Deserialize;

use crate::template::{Group, Placeholder, Template};

/// `[providers.NAME.settings]` of a command instance.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Arguments. Each is one argument, or a list of arguments that stand or fall together: an element with a
    /// placeholder that has no value in a run (no model, no session) is left out of its command line.
    /// Placeholders: `{prompt}`, `{model}`, `{cwd}`, `{session}`; `{{` and `}}` are braces.
    pub args: Vec<OneOrMany>,
    /// How the prompt comes: `stdin` or `argument`. Without it, as an argument if `args` has `{prompt}`.
    pub prompt: Option<PromptBy>,
    /// Variables of the host's environment that the program needs; `*` at the end is allowed.
    pub environment: Vec<String>,
    /// Exit codes that mean success.
    pub success_codes: Vec<i32>,
    /// What it means that the program succeeds without printing anything.
    pub silence: Silence,
    /// Arguments that make the program print its version. Without them it is not asked.
    pub version_args: Option<Vec<String>>,
    /// First signal of a stop.
    pub stop: StopBy,
    /// Model where a run names none.
    pub default_model: Option<String>,
    /// Variable in which the program gets the stored provider token.
    pub token_variable: Option<String>,
    /// Shown where the program is named to people.
    pub display_name: String,
    /// Shown when the program is not there.
    pub install_hint: String,
}

/// One argument, or several that belong together.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One argument.
    One(String),
    /// Arguments that stand or fall together.
    Many(Vec<String>),
}

/// How the prompt comes to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PromptBy {
    /// On standard input, of any length.
    Stdin,
    /// As an argument, up to 128 KiB.
    Argument,
}

/// What it means that a program succeeds without printing anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Silence {
    /// There is no answer: the run has failed.
    #[default]
    Fails,
    /// The answer is empty.
    Fine,
}

/// First signal of a stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StopBy {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    #[default]
    Terminate,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            args: Vec::new(),
            prompt: None,
            environment: Vec::new(),
            success_codes: vec![0],
            silence: Silence::default(),
            version_args: None,
            stop: StopBy::default(),
            default_model: None,
            token_variable: None,
            display_name: "Command".to_owned(),
            install_hint: "set `executable` of this provider in the configuration to the program's path or name"
                .to_owned(),
        }
    }
}

/// JSON Schema of [`Settings`].
pub(crate) const SCHEMA: &str = r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "args": {
      "type": "array", "maxItems": 256,
      "items": {"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "maxItems": 64, "items": {"type": "string"}}]},
      "description": "arguments, with the placeholders {prompt}, {model}, {cwd} and {session}; a list in the list is left out as a whole where one of its placeholders has no value"
    },
    "prompt": {"enum": ["stdin", "argument"], "description": "how the prompt comes to the program"},
    "environment": {
      "type": "array", "maxItems": 128, "items": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*\\*?$"},
      "description": "variables that the program inherits; `*` at the end is allowed"
    },
    "successCodes": {
      "type": "array", "minItems": 1, "maxItems": 256, "items": {"type": "integer", "minimum": 0, "maximum": 255}, "default": [0]
    },
    "silence": {
      "enum": ["fails", "fine"], "default": "fails",
      "description": "what it means that the program succeeds without printing anything: it gave no answer, or an empty one"
    },
    "versionArgs": {
      "type": ["array", "null"], "maxItems": 16, "items": {"type": "string"},
      "description": "arguments that make the program print its version; without them it is not asked"
    },
    "stop": {"enum": ["interrupt", "terminate"], "default": "terminate", "description": "first signal of a stop"},
    "defaultModel": {"type": "string", "minLength": 1, "maxLength": 256},
    "tokenVariable": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
    "displayName": {"type": "string", "minLength": 1, "maxLength": 64},
    "installHint": {"type": "string", "minLength": 1, "maxLength": 500}
  }
}"#;

impl Settings {
    /// What the schema cannot say; gives the arguments, read.
    pub(crate) fn check(&self) -> Result<Vec<Group>, Error> {
        let mut problems = Problems::default();
        let mut groups = Vec::new();
        for (index, entry) in self.args.iter().enumerate() {
            let (texts, many) = match entry {
                OneOrMany::One(text) => (std::slice::from_ref(text), false),
                OneOrMany::Many(texts) => (texts.as_slice(), true),
            };
            let mut group = Vec::new();
            for (inner, text) in texts.iter().enumerate() {
                let pointer = if many { format!("/args/{index}/{inner}") } else { format!("/args/{index}") };
                match Template::parse(text) {
                    Ok(template) => group.push(template),
                    Err(reason) => problems.push(&pointer, reason),
                }
                if let Some(reason) = unfit(text) {
                    problems.push(pointer, reason);
                }
            }
            groups.push(group);
        }
        let prompts: usize = groups.iter().flatten().map(|template| template.count(Placeholder::Prompt)).sum();
        match (self.prompt, prompts) {
            (Some(PromptBy::Argument), 0) => {
                problems.push("/args", "has no `{prompt}`, and `prompt` says that it comes as an argument");
            }
            (Some(PromptBy::Stdin), 1..) => {
                problems.push("/args", "has `{prompt}`, and `prompt` says that it comes by standard input");
            }
            (_, 2..) => problems.push("/args", "has `{prompt}` more than once"),
            _ => {}
        }
        for (index, name) in self.environment.iter().enumerate() {
            if !is_variable_name(name.strip_suffix('*').unwrap_or(name)) {
                problems.push(format!("/environment/{index}"), "is not the name of a variable");
            }
        }
        if self.token_variable.as_ref().is_some_and(|name| !is_variable_name(name)) {
            problems.push("/tokenVariable", "is not the name of a variable");
        }
        for (index, argument) in self.version_args.iter().flatten().enumerate() {
            if let Some(reason) = unfit(argument) {
                problems.push(format!("/versionArgs/{index}"), reason);
            }
        }
        problems.into_result()?;
        Ok(groups)
    }
}
