//! `guardrails`: the bundled policy, with checks that apply to every run of every provider.
//!
//! Before a run is queued, it checks the start payload: ranges, contradictions, control characters, folders outside grants,
//! unknown flags, invalid blocks. Before the command line is spawned, it checks the launch: the program must be the verified
//! program of the provider, and neither an argument nor a settings file may give the agent more than the payload's
//! permissions do. It reports all problems, not only the first. What cannot be checked (an unreadable document, a path that
//! the host has not resolved) is denied.
//!
//! It does not check tool uses; that is left to other policies.

mod blocks;
mod document;
mod findings;
mod flags;
mod paths;
mod permissions;
mod ranges;
mod settings;
mod spawn;
mod text;
mod widening;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod spawn_tests;
#[cfg(test)]
mod start_tests;

use ostler_plugin::policy::{Action, Context, Finding};
use ostler_plugin::vocabulary::facts;
use ostler_plugin::{Error, Plugin, Policy};
use serde_json::Value;

use crate::findings::Findings;
use crate::permissions::Permissions;
pub use crate::settings::Settings;

/// The policy with its settings.
#[derive(Debug)]
pub struct Guardrails {
    settings: Settings,
}

impl Plugin for Guardrails {
    const NAME: &'static str = "guardrails";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "restricts runs to their grants, ranges and permissions";
    type Settings = Settings;

    fn settings_schema() -> Option<String> {
        Some(settings::SCHEMA.to_owned())
    }

    fn configure(settings: Settings) -> Result<Self, Error> {
        Ok(Self { settings })
    }
}

impl Policy for Guardrails {
    fn wants(&self) -> Vec<String> {
        [facts::PAYLOAD, facts::SANDBOX, facts::NO_TOOLS].map(str::to_owned).to_vec()
    }

    fn evaluate(&self, action: Action, context: Context) -> Vec<Finding> {
        let mut findings = Findings::default();
        match action {
            Action::Start(payload) => self.start(&payload, &context, &mut findings),
            Action::Spawn(launch) => spawn::check(&launch, &context, &mut findings),
            Action::Input(input) => text::check_input(&input, &mut findings),
            Action::Tool(_) | Action::Other(_) => {}
        }
        findings.into_vec()
    }
}

impl Guardrails {
    fn start(&self, payload: &str, context: &Context, findings: &mut Findings) {
        let payload = match serde_json::from_str::<Value>(payload) {
            Ok(payload) if payload.is_object() => payload,
            _ => {
                findings.deny("payload-readable", "", "the start payload is not a JSON object", "send an object");
                return;
            }
        };
        let permissions = Permissions::read(&payload, findings);
        text::check(&payload, findings);
        ranges::check(&payload, &self.settings, findings);
        permissions.check(&self.settings, findings);
        paths::check(&payload, context, findings);
        flags::check(&payload, &permissions, context, findings);
        blocks::check(&payload, &self.settings, findings);
    }
}

ostler_plugin::export_policy!(Guardrails);
