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

pub use settings::Settings;
pub use transcript::ExecTranscript;

ostler_provider_kit::agent_cli!(
    /// The plugin, configured for one instance.
    Codex,
    "codex",
    "runs the codex CLI (OpenAI) through `codex exec`",
    ExecTranscript
);
