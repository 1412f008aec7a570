//! Keeps secrets out of everything that is stored or shown.
//!
//! Plugins declare rules ([`RuleSet`]); [`Redactor::compile`] makes one matcher of all of them. A run binds it to the
//! values that it knows to be secret ([`Masks`]) and gets a [`RunRedactor`], which redacts whole texts, JSON documents
//! and, as [`StreamRedactor`], text that arrives in pieces.

mod apply;
mod blocks;
mod bytes;
mod compile;
mod credentials;
mod cut;
mod json;
mod literals;
mod masks;
mod matcher;
mod measure;
mod parts;
mod rules;
mod run;
mod spread;
mod stream;
mod syntax;
mod text;
mod views;

pub use bytes::ByteRedactor;
pub use compile::{CompileError, CompileErrors, Redactor};
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
