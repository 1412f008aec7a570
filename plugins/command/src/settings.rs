//! Settings of one instance.

use ostler_plugin::{Error, Problems};
use ostler_provider_kit::argument::{argument_problem, is_variable_name};
use serde::Deserialize;

use crate::template::{Group, Placeholder, Template};

/// `[providers.NAME.settings]` of a command instance.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Arguments. Each element is one argument, or a list of arguments that belong together: an element that contains a
    /// placeholder without a value in this run (no model, no session) is omitted. Placeholders: `{prompt}`, `{model}`,
    /// `{cwd}`, `{session}`; `{{` and `}}` are braces.
    pub args: Vec<OneOrMany>,
    /// Arguments of a session, in which the program runs in a terminal. They are as `args`; a prompt without `{prompt}` is
    /// typed. Without them, the program has no sessions.
    pub terminal_args: Option<Vec<OneOrMany>>,
    /// How the prompt is passed: `stdin` or `argument`. The default is `argument` if `args` contains `{prompt}`, otherwise
    /// `stdin`.
    pub prompt: Option<PromptBy>,
    /// Variables of the host's environment that the program needs. A name may end with `*`.
    pub environment: Vec<String>,
    /// Exit codes that mean success.
    pub success_codes: Vec<i32>,
    /// Whether a successful run without output has failed or has an empty answer.
    pub silence: Silence,
    /// Arguments with which the program prints its version. Without them, the version is not detected.
    pub version_args: Option<Vec<String>>,
    /// The first signal that stops the program.
    pub stop: StopBy,
    /// The default model.
    pub default_model: Option<String>,
    /// Variable for the stored provider token.
    pub token_variable: Option<String>,
    /// The name of the program in lists.
    pub display_name: String,
    /// Shown if the program is not installed.
    pub install_hint: String,
}

/// One argument, or several that belong together.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One argument.
    One(String),
    /// Arguments that are used or omitted together.
    Many(Vec<String>),
}

/// How the prompt is passed to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PromptBy {
    /// On standard input, of any length.
    Stdin,
    /// As an argument, up to 128 KiB.
    Argument,
}

/// The meaning of a successful run without output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Silence {
    /// There is no answer: the run has failed.
    #[default]
    Fails,
    /// The answer is empty.
    Fine,
}

/// The first signal of a stop.
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
            terminal_args: None,
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
      "description": "arguments, with the placeholders {prompt}, {model}, {cwd} and {session}; a nested list is omitted as a whole if one of its placeholders has no value"
    },
    "terminalArgs": {
      "type": ["array", "null"], "maxItems": 256,
      "items": {"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "maxItems": 64, "items": {"type": "string"}}]},
      "description": "arguments of a session, in which the program runs in a terminal; without them, it has no sessions"
    },
    "prompt": {"enum": ["stdin", "argument"], "description": "how the prompt is passed to the program"},
    "environment": {
      "type": "array", "maxItems": 128, "items": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*\\*?$"},
      "description": "variables that the program inherits; a name may end with `*`"
    },
    "successCodes": {
      "type": "array", "minItems": 1, "maxItems": 256, "items": {"type": "integer", "minimum": 0, "maximum": 255}, "default": [0]
    },
    "silence": {
      "enum": ["fails", "fine"], "default": "fails",
      "description": "the meaning of a successful run without output: no answer (the run fails), or an empty answer"
    },
    "versionArgs": {
      "type": ["array", "null"], "maxItems": 16, "items": {"type": "string"},
      "description": "arguments with which the program prints its version; without them, the version is not detected"
    },
    "stop": {"enum": ["interrupt", "terminate"], "default": "terminate", "description": "first signal of a stop"},
    "defaultModel": {"type": "string", "minLength": 1, "maxLength": 256},
    "tokenVariable": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
    "displayName": {"type": "string", "minLength": 1, "maxLength": 64},
    "installHint": {"type": "string", "minLength": 1, "maxLength": 500}
  }
}"#;

impl Settings {
    /// Checks what the schema cannot express, and returns the parsed arguments.
    /// The second list is that of a session.
    pub(crate) fn check(&self) -> Result<(Vec<Group>, Option<Vec<Group>>), Error> {
        let mut problems = Problems::default();
        let groups = parse("/args", &self.args, &mut problems);
        let terminal = self.terminal_args.as_ref().map(|args| parse("/terminalArgs", args, &mut problems));
        if terminal.as_ref().is_some_and(|groups| prompts(groups) > 1) {
            problems.push("/terminalArgs", "has `{prompt}` more than once");
        }
        match (self.prompt, prompts(&groups)) {
            (Some(PromptBy::Argument), 0) => {
                problems.push("/args", "has no `{prompt}`, but `prompt` is `argument`");
            }
            (Some(PromptBy::Stdin), 1..) => {
                problems.push("/args", "has `{prompt}`, but `prompt` is `stdin`");
            }
            (_, 2..) => problems.push("/args", "has `{prompt}` more than once"),
            _ => {}
        }
        for (index, name) in self.environment.iter().enumerate() {
            if !is_variable_name(name.strip_suffix('*').unwrap_or(name)) {
                problems.push(format!("/environment/{index}"), "is not a valid variable name");
            }
        }
        if self.token_variable.as_ref().is_some_and(|name| !is_variable_name(name)) {
            problems.push("/tokenVariable", "is not a valid variable name");
        }
        for (index, argument) in self.version_args.iter().flatten().enumerate() {
            if let Some(reason) = argument_problem(argument) {
                problems.push(format!("/versionArgs/{index}"), reason);
            }
        }
        problems.into_result()?;
        Ok((groups, terminal))
    }
}

/// Parses arguments; `at` is the pointer of their list.
fn parse(at: &str, args: &[OneOrMany], problems: &mut Problems) -> Vec<Group> {
    let mut groups = Vec::new();
    for (index, entry) in args.iter().enumerate() {
        let (texts, many) = match entry {
            OneOrMany::One(text) => (std::slice::from_ref(text), false),
            OneOrMany::Many(texts) => (texts.as_slice(), true),
        };
        let mut group = Vec::new();
        for (inner, text) in texts.iter().enumerate() {
            let pointer = if many { format!("{at}/{index}/{inner}") } else { format!("{at}/{index}") };
            match Template::parse(text) {
                Ok(template) => group.push(template),
                Err(reason) => problems.push(&pointer, reason),
            }
            if let Some(reason) = argument_problem(text) {
                problems.push(pointer, reason);
            }
        }
        groups.push(group);
    }
    groups
}

/// How often the prompt is in the arguments.
fn prompts(groups: &[Group]) -> usize {
    groups.iter().flatten().map(|template| template.count(Placeholder::Prompt)).sum()
}
