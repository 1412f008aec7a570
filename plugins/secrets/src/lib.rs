//! The default redactor: rules for the secrets that occur in the output of coding agents, and the checks that a pattern
//! cannot express: whether a value with a telling name is random text, or a call, a path, a type or a placeholder.

mod families;
mod judge;
mod settings;
mod spec;
mod words;

use ostler_plugin::redactor::{Allow, AllowTarget, Candidate, RuleSet};
use ostler_plugin::{Error, Plugin, Problem, Redactor};

pub use settings::{AllowEntry, Settings, Target};

/// The plugin.
#[derive(Debug)]
pub struct Secrets {
    settings: Settings,
}

impl Plugin for Secrets {
    const NAME: &'static str = "secrets";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "finds keys, tokens, passwords and other credentials";
    type Settings = Settings;

    fn settings_schema() -> Option<String> {
        Some(settings::SCHEMA.to_owned())
    }

    fn configure(settings: Settings) -> Result<Self, Error> {
        let known: Vec<&str> = families::all().iter().map(spec::Spec::id).collect();
        let unknown = |id: &String| !known.contains(&id.as_str());
        let disabled = settings.disable.iter().enumerate().map(|(at, id)| (format!("/disable/{at}"), id));
        let allowed = settings.allow.iter().enumerate().flat_map(|(at, entry)| {
            entry.rules.iter().enumerate().map(move |(nth, id)| (format!("/allow/{at}/rules/{nth}"), id))
        });
        let problems: Vec<Problem> = disabled
            .chain(allowed)
            .filter(|(_, id)| unknown(id))
            .map(|(pointer, id)| Problem { pointer, message: format!("there is no rule `{id}`") })
            .collect();
        if problems.is_empty() { Ok(Self { settings }) } else { Err(Error::Invalid(problems)) }
    }
}

impl Redactor for Secrets {
    fn rules(&self) -> RuleSet {
        let enabled = |id: &str| !self.settings.disable.iter().any(|disabled| disabled == id);
        let rules: Vec<_> =
            families::all().into_iter().filter(|spec| enabled(spec.id())).map(spec::Spec::into_rule).collect();
        let mut allow: Vec<Allow> = judge::EXAMPLES
            .iter()
            .map(|pattern| Allow { rules: Vec::new(), target: AllowTarget::Secret, pattern: (*pattern).to_owned() })
            .collect();
        for entry in &self.settings.allow {
            // An exception that applies only to disabled rules must not become one that applies to all rules.
            let rules: Vec<String> = entry.rules.iter().filter(|id| enabled(id)).cloned().collect();
            if entry.rules.is_empty() || !rules.is_empty() {
                allow.push(Allow { rules, target: entry.target.into(), pattern: entry.pattern.clone() });
            }
        }
        RuleSet { rules, allow, scan_overlap: None, extra: None }
    }

    fn verify(&self, candidates: Vec<Candidate>) -> Vec<bool> {
        candidates.iter().map(judge::is_secret).collect()
    }
}

ostler_plugin::export_redactor!(Secrets);
