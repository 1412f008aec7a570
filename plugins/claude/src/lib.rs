//! Provider plugin for the claude CLI.
//!
//! Runs are `claude --print` with `stream-json` output and partial messages, with the prompt on standard input. Nobody can
//! be asked in such a run: claude denies what it would ask about. Options that it cannot apply are listed in
//! `launch.dropped`.
//!
//! Sessions, and runs whose tool uses are decided by the host, use claude's control protocol: `stream-json` in both
//! directions.

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

ostler_provider_kit::agent_cli!(
    /// The plugin, configured for one instance.
    Claude,
    "claude",
    "runs the claude CLI (Claude Code by Anthropic) through `claude --print`",
    ClaudeTranscript,
    ClaudeTranscript::new
);
