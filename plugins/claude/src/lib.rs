//! Provider plugin for the claude CLI.
//!
//! Runs are `claude --print` with `stream-json` output and partial messages, with the prompt on standard input. Nobody can
//! be asked in such a run: claude denies what it would ask about. Options that it cannot apply are listed in
//! `launch.dropped`.
//!
//! Sessions, and runs whose tool uses are decided by the host, use claude's control protocol: `stream-json` in both
//! directions. A session in a terminal is claude's own screen.

mod background;
mod bounds;
mod control;
mod denials;
mod detect;
mod end;
mod failure;
mod flags;
mod info;
mod items;
mod prepare;
mod settings;
mod system;
mod transcript;
mod usage;

pub use control::ClaudeTranscript;
pub use settings::{Settings, Source};

use ostler_plugin::provider::{Capabilities, RunRequest};
use ostler_provider_kit::terminal::TerminalOr;

ostler_provider_kit::agent_cli!(
    /// The plugin, configured for one instance.
    Claude,
    "claude",
    "runs the claude CLI (Claude Code by Anthropic) through `claude --print`",
    TerminalOr<ClaudeTranscript>,
    transcript
);

fn transcript(request: &RunRequest, capabilities: &Capabilities) -> TerminalOr<ClaudeTranscript> {
    TerminalOr::of_agent(
        request,
        || prepare::known_session(request, capabilities),
        || ClaudeTranscript::new(request, capabilities),
    )
}
