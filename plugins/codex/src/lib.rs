//! Provider plugin for the codex CLI.
//!
//! Runs are `codex exec --json`, with the prompt on standard input. `exec` never asks for approval, so sessions, and runs
//! whose tool uses have to be decided, use `codex app-server` instead. Options that codex cannot apply are listed in
//! `launch.dropped`. A session in a terminal is codex's own screen.

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

use ostler_plugin::provider::{Capabilities, RunRequest};
use ostler_provider_kit::terminal::TerminalOr;

ostler_provider_kit::agent_cli!(
    /// The plugin, configured for one instance.
    Codex,
    "codex",
    "runs the codex CLI (OpenAI) through `codex exec` and `codex app-server`",
    TerminalOr<CodexTranscript>,
    transcript
);

fn transcript(request: &RunRequest, capabilities: &Capabilities) -> TerminalOr<CodexTranscript> {
    // codex chooses the id of a new session, and does not show it.
    let resumed = || {
        let resumes = detect::Detected::of(capabilities).is_ok_and(|detected| detected.resume);
        request.resume_session.clone().filter(|_| resumes)
    };
    TerminalOr::of_agent(request, resumed, || CodexTranscript::new(request, capabilities))
}
