//! Provider plugin for the codex CLI.
//!
//! Runs are `codex exec --json`, the prompt on standard input. What codex cannot be held to is reported in
//! `launch.dropped`; `exec` never asks for approval, so whatever needs a question is a restriction that is refused.

mod detect;
mod failure;
mod flags;
mod info;
mod items;
mod prepare;
mod settings;
mod toml_text;
mod transcript;

use ostler_plugin::provider::{Capabilities, Launch, Probe, ProbeResult, ProviderInfo, RunRequest};
use ostler_plugin::{Error, Plugin, Provider};

pub use settings::Settings;
pub use transcript::ExecTranscript;

/// The plugin, configured for one instance.
#[derive(Debug)]
pub struct Codex {
    settings: Settings,
}

impl Plugin for Codex {
    const NAME: &'static str = "codex";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "runs the codex CLI (OpenAI) through `codex exec`";

    type Settings = Settings;

    fn settings_schema() -> Option<String> {
        Some(settings::SCHEMA.to_owned())
    }

    fn configure(settings: Settings) -> Result<Self, Error> {
        settings.check()?;
        Ok(Self { settings })
    }
}

impl Provider for Codex {
    type Transcript = ExecTranscript;

    fn describe(&self) -> ProviderInfo {
        info::describe(&self.settings)
    }

    fn probes(&self) -> Vec<Probe> {
        detect::probes()
    }

    fn detect(&self, results: Vec<ProbeResult>) -> Capabilities {
        detect::detect(&results)
    }

    fn prepare(&self, request: RunRequest, capabilities: Capabilities) -> Result<Launch, Error> {
        prepare::prepare(&self.settings, &request, &capabilities)
    }

    fn transcript(&self, request: RunRequest, _capabilities: Capabilities) -> ExecTranscript {
        ExecTranscript::new(&request)
    }
}

ostler_plugin::export_provider!(Codex);
