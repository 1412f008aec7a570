//! Provider plugin for the codex CLI.
//!
//! Runs are `codex exec --json`, with the prompt on standard input. Options that codex cannot apply are listed in
//! `launch.dropped`. `exec` never asks for approval, so options that require it are refused as restrictions.

mod detect;
mod failure;
mod flags;
mod info;
mod items;
mod prepare;
mod settings;
mod toml_text;
mod transcript;

pub use settings::Settings;
pub use transcript::ExecTranscript;

ostler_provider_kit::agent_cli!(
    /// The plugin, configured for one instance.
    Codex,
    "codex",
    "runs the codex CLI (OpenAI) through `codex exec`",
    ExecTranscript
);
