//! `tools`: the bundled policy for the tools of agents, driven by settings.
//!
//! It judges each tool use before it runs: the tool, shell commands, files, and hosts. Commands are parsed as bash and followed
//! into pipelines, substitutions, `sh -c`, `env`, `xargs` and the like; nothing is matched as a substring of a script. What
//! cannot be judged is asked about.
//!
//! Without settings it is inactive, and the host does not call it for tool uses.
//!
//! How a use is judged: [`shell`] turns each script into [`act::Act`]s, simple commands with their files and hosts; [`command`]
//! knows programs; [`rule`] and [`pattern`] match; [`evaluate`] decides. The built-in rules are tables in [`defaults`].

mod act;
mod command;
mod defaults;
mod evaluate;
mod findings;
mod glob;
mod paths;
mod pattern;
mod rule;
mod settings;
mod shell;
mod text;

#[cfg(test)]
mod tests;

use ostler_plugin::policy::{Action, Context, Finding};
use ostler_plugin::vocabulary::facts;
use ostler_plugin::{Error, Plugin, Policy};

pub use crate::settings::Settings;

/// The policy with its compiled settings; none if it is inactive.
#[derive(Debug)]
pub struct Tools {
    rules: Option<settings::Compiled>,
}

impl Plugin for Tools {
    const NAME: &'static str = "tools";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "decides by rules which tools, commands, files and hosts agents may use";
    type Settings = Settings;

    fn settings_schema() -> Option<String> {
        Some(settings::SCHEMA.to_owned())
    }

    fn configure(settings: Settings) -> Result<Self, Error> {
        if !settings.is_active() {
            return Ok(Self { rules: None });
        }
        let rules = settings.compile()?;
        Ok(Self { rules: Some(rules).filter(evaluate::can_match) })
    }
}

impl Policy for Tools {
    fn wants(&self) -> Vec<String> {
        let word = if self.rules.is_some() { facts::TOOL_DECISIONS } else { facts::NO_TOOLS };
        vec![word.to_owned()]
    }

    fn evaluate(&self, action: Action, context: Context) -> Vec<Finding> {
        match (&self.rules, action) {
            (Some(rules), Action::Tool(call)) => evaluate::evaluate(rules, &call, &context),
            _ => Vec::new(),
        }
    }
}

ostler_plugin::export_policy!(Tools);
