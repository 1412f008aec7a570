//! Provider plugin for the claude CLI.
//!
//! Runs are `claude --print` with `stream-json` output and partial messages, the prompt on standard input. There is
//! nobody to ask in such a run: claude refuses what it would ask about. What it cannot be held to is reported in
//! `launch.dropped`.

mod detect;
mod failure;
mod flags;
mod info;
mod items;
mod prepare;
mod settings;
mod system;
mod transcript;
mod usage;

use ostler_plugin::provider::{Capabilities, Launch, Probe, ProbeResult, ProviderInfo, RunRequest};
use ostler_plugin::{Error, Plugin, Provider};

pub use settings::{Settings, Source};
pub use transcript::PrintTranscript;

/// The plugin, configured for one instance.
#[derive(Debug)]
pub struct Claude {
    settings: Settings,
}

impl Plugin for Claude {
    const NAME: &'static str = "claude";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "runs the claude CLI (Claude Code by Anthropic) through `claude --print`";

    type Settings = Settings;

    fn settings_schema() -> Option<String> {
        Some(settings::SCHEMA.to_owned())
    }

    fn configure(settings: Settings) -> Result<Self, Error> {
        settings.check()?;
        Ok(Self { settings })
    }
}

impl Provider for Claude {
    type Transcript = PrintTranscript;

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

    fn transcript(&self, request: RunRequest, _capabilities: Capabilities) -> PrintTranscript {
        PrintTranscript::new(&request)
    }
}

ostler_plugin::export_provider!(Claude);
