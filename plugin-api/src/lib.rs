//! Guest SDK for Ostler plugins written in Rust.
//!
//! A plugin is a crate of type `["cdylib", "rlib"]` with one type that implements [`Plugin`] and one of [`Provider`],
//! [`Redactor`] and [`Policy`], and one call of [`export_provider!`], [`export_redactor!`] or [`export_policy!`].
//! Built for `wasm32-unknown-unknown`, it is the module from which a component is made. Built natively, the macro only checks
//! the types, so that tests can call the trait functions of the plugin.
//!
//! ```
//! use ostler_plugin::{Error, Plugin, Policy, policy};
//!
//! struct Curfew {
//!     settings: Settings,
//! }
//!
//! #[derive(Default, serde::Deserialize)]
//! #[serde(default, deny_unknown_fields)]
//! struct Settings {
//!     /// Hours of the day in which no run may start.
//!     closed: Vec<String>,
//! }
//!
//! impl Plugin for Curfew {
//!     const NAME: &'static str = "curfew";
//!     const VERSION: &'static str = env!("CARGO_PKG_VERSION");
//!     const SUMMARY: &'static str = "refuses runs at the hours that the settings list";
//!     type Settings = Settings;
//!
//!     fn settings_schema() -> Option<String> {
//!         Some(
//!             r#"{"type": "object", "additionalProperties": false, "properties": {
//!                 "closed": {"type": "array", "items": {"type": "string", "pattern": "^[0-2][0-9]$"}}
//!             }}"#
//!             .to_owned(),
//!         )
//!     }
//!
//!     fn configure(settings: Settings) -> Result<Self, Error> {
//!         Ok(Self { settings })
//!     }
//! }
//!
//! impl Policy for Curfew {
//!     fn evaluate(&self, action: policy::Action, context: policy::Context) -> Vec<policy::Finding> {
//!         let hour = context.now_rfc3339.get(11..13).unwrap_or_default();
//!         if !matches!(action, policy::Action::Start(_)) || !self.settings.closed.iter().any(|closed| closed == hour) {
//!             return Vec::new();
//!         }
//!         vec![policy::Finding {
//!             check: "curfew".to_owned(),
//!             verdict: policy::Verdict::Deny,
//!             pointer: None,
//!             message: format!("no run may start between {hour}:00 and {hour}:59"),
//!             hint: Some("schedule the run for later".to_owned()),
//!         }]
//!     }
//! }
//!
//! ostler_plugin::export_policy!(Curfew);
//! # fn main() {}
//! ```
//!
//! Every function is pure: it has no clock, no source of randomness and no files. The records and variants are those of the WIT
//! package `ostler:plugin@0.1.0` and documented there.

/// Compiles the examples of the guide.
#[cfg(doctest)]
#[doc = include_str!("../../docs/plugins.md")]
struct Guide;

#[doc(hidden)]
pub mod bindings;
mod containment;
mod defaults;
mod log;
mod plugin;
mod problems;
#[doc(hidden)]
pub mod rt;
mod text;
pub mod vocabulary;

pub use bindings::common::ostler::plugin::types;
pub use containment::{Containment, HostContainment};
pub use log::{Level, write as write_log};
pub use plugin::{Plugin, Policy, Provider, Redactor, Transcript};
pub use problems::{DroppedOptions, Problems, escape_pointer};
pub use text::strip_ansi;
pub use types::{Error, Problem};

/// Records and variants of provider plugins.
pub mod provider {
    pub use crate::bindings::provider::exports::ostler::plugin::provider::{
        ApprovalRequest, Attachment, Capabilities, Channel, CollectedFile, Counter, Decision, DroppedOption,
        ExitStatus, Failure, FailureKind, FlagValues, HostFacts, Launch, Line, Notice, OptionalFlag, OtherEvent,
        Outcome, OutputForm, PrivateFile, Probe, ProbeOutcome, ProbeOutput, ProbeResult, ProviderInfo, RateLimit,
        RetryTime, RunMode, RunRequest, Semantic, SessionInfo, SessionOrigin, Step, StopSignal, Support, TextPiece,
        ToolOutput, ToolPiece, TurnEnd, TurnStatus, Usage,
    };
    pub use crate::types::{FileAccess, FileEffect, McpTool, NameValue, OutputStream, ToolCall};
}

/// Records and variants of redactor plugins.
pub mod redactor {
    pub use crate::bindings::redactor::exports::ostler::plugin::redactor::{
        Allow, AllowTarget, Block, Candidate, Find, Rule, RuleSet,
    };
}

/// Records and variants of policy plugins.
pub mod policy {
    pub use crate::bindings::policy::exports::ostler::plugin::policy::{
        Action, CheckedPath, Context, Finding, LaunchFile, LaunchSummary, OtherAction, Verdict,
    };
    pub use crate::types::{FileAccess, FileEffect, McpTool, ToolCall};
}

/// Makes the crate's WebAssembly module a provider plugin. The type must implement [`Provider`]. Use it once in a crate.
#[macro_export]
macro_rules! export_provider {
    ($plugin:ty) => {
        const _: () = {
            const fn is_a_provider<P: $crate::Provider>() {}
            is_a_provider::<$plugin>();
            #[cfg(target_arch = "wasm32")]
            mod ostler_export {
                use super::*;
                type Component = $crate::rt::Component<$plugin>;
        $crate::bindings::common::export_plugin_world!(Component with_types_in $crate::bindings::common);
        $crate::bindings::provider::export_provider_world!(Component with_types_in $crate::bindings::provider);
            }
        };
    };
}

/// Makes the crate's WebAssembly module a redactor plugin. The type must implement [`Redactor`]. Use it once in a crate.
#[macro_export]
macro_rules! export_redactor {
    ($plugin:ty) => {
        const _: () = {
            const fn is_a_redactor<P: $crate::Redactor>() {}
            is_a_redactor::<$plugin>();
            #[cfg(target_arch = "wasm32")]
            mod ostler_export {
                use super::*;
                type Component = $crate::rt::Component<$plugin>;
        $crate::bindings::common::export_plugin_world!(Component with_types_in $crate::bindings::common);
        $crate::bindings::redactor::export_redactor_world!(Component with_types_in $crate::bindings::redactor);
            }
        };
    };
}

/// Makes the crate's WebAssembly module a policy plugin. The type must implement [`Policy`]. Use it once in a crate.
#[macro_export]
macro_rules! export_policy {
    ($plugin:ty) => {
        const _: () = {
            const fn is_a_policy<P: $crate::Policy>() {}
            is_a_policy::<$plugin>();
            #[cfg(target_arch = "wasm32")]
            mod ostler_export {
                use super::*;
                type Component = $crate::rt::Component<$plugin>;
        $crate::bindings::common::export_plugin_world!(Component with_types_in $crate::bindings::common);
        $crate::bindings::policy::export_policy_world!(Component with_types_in $crate::bindings::policy);
            }
        };
    };
}
