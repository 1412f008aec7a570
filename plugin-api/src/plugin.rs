//! What a plugin author implements.

use serde::de::DeserializeOwned;

use crate::policy::{Action, Context, Finding};
use crate::provider::{
    Capabilities, CollectedFile, Decision, ExitStatus, Launch, Line, Outcome, Probe, ProbeResult, ProviderInfo,
    RunRequest, Step,
};
use crate::redactor::{Candidate, Find, RuleSet};
use crate::types::Error;

/// Who a plugin is and what settings it takes. Every plugin implements this and one of [`Provider`], [`Redactor`] and
/// [`Policy`].
pub trait Plugin: Sized + 'static {
    /// Lower-case kebab name, unique among the plugins of its kind.
    const NAME: &'static str;
    /// Semantic version; `env!("CARGO_PKG_VERSION")` as a rule.
    const VERSION: &'static str;
    /// One line for listings.
    const SUMMARY: &'static str;

    /// The settings of one configured instance. `{}` must deserialize: put `#[serde(default)]` on the type.
    type Settings: DeserializeOwned + Default;

    /// JSON Schema (2020-12) of the settings. The host validates against it before it calls `configure`, and reports
    /// every problem with its pointer. None takes any object.
    fn settings_schema() -> Option<String> {
        None
    }

    /// Makes an instance with these settings, which already match the schema.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what a schema cannot say; [`Problems`](crate::Problems) collects all of it.
    fn configure(settings: Self::Settings) -> Result<Self, Error>;
}

/// Teaches the host one agent CLI.
pub trait Provider: Plugin {
    /// Follows one attempt from its start to its end.
    type Transcript: Transcript;

    /// Facts about the CLI that do not depend on the installed version.
    fn describe(&self) -> ProviderInfo;

    /// Commands that the host runs to learn about the installed CLI.
    fn probes(&self) -> Vec<Probe>;

    /// What the installed CLI can do, in the light of the probes.
    fn detect(&self, results: Vec<ProbeResult>) -> Capabilities;

    /// How to start the CLI for a run. Called when the run is submitted, and again for each attempt.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every problem of the payload; [`Error::Unsupported`] where the CLI cannot do it at all.
    /// An option that can be left out goes into `launch.dropped` instead.
    fn prepare(&self, request: RunRequest, capabilities: Capabilities) -> Result<Launch, Error>;

    /// Begins to follow an attempt.
    fn transcript(&self, request: RunRequest, capabilities: Capabilities) -> Self::Transcript;
}

/// Follows one attempt. Whatever a protocol needs to remember lives here.
pub trait Transcript: 'static {
    /// As soon as the child runs: a protocol's opening, with or without the prompt (duplex and pty).
    fn open(&mut self) -> Step {
        Step::default()
    }

    /// Lines in the order in which they arrived; between the two streams that order proves nothing.
    fn read(&mut self, lines: Vec<Line>) -> Step;

    /// One user message, at any time, in the middle of a turn too (duplex and pty).
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the channel takes no input.
    fn input(&mut self, message: String) -> Result<Step, Error> {
        let _ = message;
        Err(Error::Unsupported("this provider takes no input while it runs".to_owned()))
    }

    /// The answer to an approval request (duplex). For an id that is not open it does nothing.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the CLI cannot take this decision (an edited input, say).
    fn decide(&mut self, request_id: String, decision: Decision) -> Result<Step, Error> {
        let _ = (request_id, decision);
        Ok(Step::default())
    }

    /// Interrupts the current turn and keeps the session; nothing where no turn is running.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where only a signal can.
    fn interrupt(&mut self) -> Result<Step, Error> {
        Err(Error::Unsupported("this provider can be interrupted by a signal only".to_owned()))
    }

    /// Called once, after the child has gone and its output has been read. `files` are those of `launch.collect`.
    fn finish(&mut self, exit: ExitStatus, files: Vec<CollectedFile>) -> Outcome;
}

/// Finds what must not be stored or shown.
pub trait Redactor: Plugin {
    /// The rules that the host matches natively. Called once for each settings.
    fn rules(&self) -> RuleSet;

    /// For each candidate of a rule with `verify`, whether it is a secret: as many answers as candidates.
    fn verify(&self, candidates: Vec<Candidate>) -> Vec<bool> {
        vec![true; candidates.len()]
    }

    /// What no pattern can describe. Only called if `RuleSet::scan_overlap` is set.
    fn scan(&self, text: String) -> Vec<Find> {
        let _ = text;
        Vec::new()
    }
}

/// Decides whether the host may do something.
pub trait Policy: Plugin {
    /// Groups of facts that `evaluate` needs, see [`vocabulary::facts`](crate::vocabulary::facts).
    fn wants(&self) -> Vec<String> {
        Vec::new()
    }

    /// Every finding, not only the first. The strictest verdict of all policies wins; none is an allow.
    fn evaluate(&self, action: Action, context: Context) -> Vec<Finding>;
}
