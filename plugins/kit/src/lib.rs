//! What the bundled provider plugins share: reading the start payload, help pages and shell lines, judging what is
//! installed, writing flags and input, telling events, and one kind of failure from another. Nothing here knows any
//! particular CLI.

pub mod answer;
pub mod argument;
pub mod detect;
pub mod events;
pub mod failure;
pub mod flags;
pub mod help;
pub mod json_lines;
pub mod payload;
mod plugin;
pub mod prepare;
pub mod prompt;
pub mod session;
pub mod shell;
pub mod transcript;
pub mod variables;
