//! Provider plugin for the codex CLI.
//!
//! Runs are `codex exec --json`, with the prompt on standard input. `exec` never asks for approval, so sessions, and runs
//! whose tool uses have to be decided, use `codex app-server` instead. Options that codex cannot apply are listed in
//! `launch.dropped`.

mod app_server;
mod codex_transcript;
mod detect;
mod failure;
mod flags;
mod info;
mod items;
mod prepare;
mod settings;
mod toml_text;
mod transcript;

pub use app_server::AppServerTranscript;
pub use codex_transcript::CodexTranscript;
pub use settings::Settings;
pub use transcript::ExecTranscript;

ostler_provider_kit::agent_cli!(
    /// The plugin, configured for one instance.
    Codex,
    "codex",
    "runs the codex CLI (OpenAI) through `codex exec` and `codex app-server`",
    CodexTranscript,
    CodexTranscript::new
);
