//! Code that the bundled provider plugins share: reading the start payload, parsing help pages and shell command lines,
//! detecting features, building arguments and input, and creating events and failures. It does not depend on any particular
//! CLI.

pub mod answer;
pub mod argument;
pub mod detect;
pub mod duplex;
pub mod events;
pub mod failure;
pub mod flags;
pub mod help;
mod host_extra;
pub mod json_lines;
pub mod payload;
mod plugin;
pub mod prepare;
pub mod prompt;
pub mod session;
pub mod shell;
pub mod terminal;
pub mod transcript;
pub mod variables;
