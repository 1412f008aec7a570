//! Provider plugin for any program that takes a prompt, as an argument or on standard input, and prints text.
//!
//! The program is the `executable` of a provider instance. The settings define its command line:
//!
//! ```toml
//! [providers.llm]
//! plugin = "command"
//! executable = "/usr/local/bin/llm"
//! settings = { args = [["--model", "{model}"], "--", "{prompt}"], versionArgs = ["--version"] }
//! ```
//!
//! With `terminalArgs`, the program has sessions as well: it then runs in a terminal.
//!
//! The plugin has no other information about the program and cannot make it enforce a restriction. Restrictions that the
//! host does not enforce either are reported, and the run is refused.

mod detect;
mod dropped;
mod prepare;
mod settings;
mod template;
mod transcript;

use ostler_plugin::provider::{Capabilities, Launch, Probe, ProbeResult, ProviderInfo, RunMode, RunRequest};
use ostler_plugin::{Containment, Error, Plugin, Provider};
use ostler_provider_kit::terminal::{TerminalOr, TerminalTranscript};

pub use settings::Settings;
pub use transcript::CommandTranscript;

/// The plugin, configured for one instance.
#[derive(Debug)]
pub struct Command {
    settings: Settings,
    args: Vec<template::Group>,
    /// The arguments of a session, if the program has sessions.
    terminal_args: Option<Vec<template::Group>>,
}

impl Plugin for Command {
    const NAME: &'static str = "command";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "runs any program that takes a prompt and prints text";

    type Settings = Settings;

    fn settings_schema() -> Option<String> {
        Some(settings::SCHEMA.to_owned())
    }

    fn configure(settings: Settings) -> Result<Self, Error> {
        let (args, terminal_args) = settings.check()?;
        Ok(Self { settings, args, terminal_args })
    }
}

impl Command {
    /// The program can use only what its settings list.
    fn containment(&self) -> Containment {
        Containment { settable: self.settings.environment.clone(), ..Containment::default() }
    }
}

impl Provider for Command {
    type Transcript = TerminalOr<CommandTranscript>;

    fn describe(&self) -> ProviderInfo {
        let settings = &self.settings;
        ProviderInfo {
            id: "command".to_owned(),
            display_name: settings.display_name.clone(),
            // The configuration of the instance sets the program.
            executables: Vec::new(),
            install_hint: settings.install_hint.clone(),
            default_model: settings.default_model.clone(),
            token_variable: settings.token_variable.clone(),
            inherit_environment: settings.environment.clone(),
            extra: Some(self.containment().to_extra()),
        }
    }

    fn probes(&self) -> Vec<Probe> {
        detect::probes(&self.settings)
    }

    fn detect(&self, results: Vec<ProbeResult>) -> Capabilities {
        detect::detect(&self.settings, &self.args, self.terminal_args.as_deref(), &results)
    }

    fn prepare(&self, request: RunRequest, _capabilities: Capabilities) -> Result<Launch, Error> {
        match (request.mode, &self.terminal_args) {
            (RunMode::NonInteractive, _) => prepare::prepare(&self.settings, &self.args, &request),
            (RunMode::Interactive, Some(args)) => prepare::session(&self.settings, args, &request),
            (RunMode::Interactive, None) => Err(Error::Unsupported(
                "the settings of this provider have no `terminalArgs`, with which the program starts a session"
                    .to_owned(),
            )),
        }
    }

    fn transcript(&self, request: RunRequest, _capabilities: Capabilities) -> TerminalOr<CommandTranscript> {
        let success = self.settings.success_codes.clone();
        match &self.terminal_args {
            Some(args) if request.mode == RunMode::Interactive => {
                let is_argument = prepare::mentions(args, template::Placeholder::Prompt);
                let typed = if is_argument { String::new() } else { request.prompt.clone() };
                TerminalOr::Terminal(TerminalTranscript::new(&request, request.resume_session.clone(), typed, success))
            }
            _ => TerminalOr::Other(Box::new(CommandTranscript::new(success, self.settings.silence))),
        }
    }
}

ostler_plugin::export_provider!(Command);

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
