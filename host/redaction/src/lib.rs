//! Removes secrets from everything that is stored or shown.
//!
//! Plugins declare rules ([`RuleSet`]); [`Redactor::compile`] makes one matcher from all of them. A run combines it with
//! its known secret values ([`Masks`]) to a [`RunRedactor`], which redacts whole texts, JSON documents
//! and, as [`StreamRedactor`], text that arrives in pieces.

mod apply;
mod blocks;
mod bytes;
mod compile;
mod credentials;
mod cut;
mod json;
mod literals;
mod live;
mod masks;
mod matcher;
mod measure;
mod name_and_value;
mod parts;
mod rules;
mod run;
mod stream;
mod syntax;
mod text;
mod views;

pub use bytes::ByteRedactor;
pub use compile::{CompileError, CompileErrors, Redactor};
pub use live::{Held, LiveRedactor};
pub use masks::{KnownSecret, Masks};
pub use rules::{
    Allow, AllowTarget, Block, Candidate, Fault, FaultSink, Find, IgnoreFaults, OperatorRules, PluginRules,
    RedactorPlugin, Rule, RuleSet,
};
pub use run::{Redacted, RunRedactor, Unscanned};
pub use stream::StreamRedactor;
pub use text::PLACEHOLDER;

#[cfg(test)]
mod tests;
