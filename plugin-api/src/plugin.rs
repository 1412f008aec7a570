//! The traits that plugin authors implement.

use serde::de::DeserializeOwned;

use crate::policy::{Action, Context, Finding};
use crate::provider::{
    Capabilities, CollectedFile, Decision, ExitStatus, Launch, Line, Outcome, Probe, ProbeResult, ProviderInfo,
    RunRequest, Step,
};
use crate::redactor::{Candidate, Find, RuleSet};
use crate::types::Error;

/// The identity and the settings of a plugin. Every plugin implements this trait and one of [`Provider`], [`Redactor`] and
/// [`Policy`].
pub trait Plugin: Sized + 'static {
    /// Lower-case kebab-case name, unique among the plugins of its kind.
    const NAME: &'static str;
    /// Semantic version, usually `env!("CARGO_PKG_VERSION")`.
    const VERSION: &'static str;
    /// One line for listings.
    const SUMMARY: &'static str;

    /// The settings of one configured instance. `{}` must deserialize: put `#[serde(default)]` on the type.
    type Settings: DeserializeOwned + Default;

    /// JSON Schema (2020-12) of the settings. The host validates the settings before it calls `configure`, and reports every
    /// problem with its pointer. With none, any object is accepted.
    fn settings_schema() -> Option<String> {
        None
    }

    /// Creates an instance with these settings, which already match the schema.
    ///
    /// # Errors
    /// [`Error::Invalid`] with problems that a schema cannot express; [`Problems`](crate::Problems) collects them.
    fn configure(settings: Self::Settings) -> Result<Self, Error>;
}

/// Describes one agent CLI to the host.
pub trait Provider: Plugin {
    /// Follows one attempt from its start to its end.
    type Transcript: Transcript;

    /// Facts about the CLI that do not depend on the installed version.
    fn describe(&self) -> ProviderInfo;

    /// Commands that the host runs to detect what the installed CLI supports.
    fn probes(&self) -> Vec<Probe>;

    /// What the installed CLI supports, according to the results of the probes.
    fn detect(&self, results: Vec<ProbeResult>) -> Capabilities;

    /// How to start the CLI for a run. Called when the run is submitted, and again for each attempt.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every problem of the payload; [`Error::Unsupported`] if the CLI does not support the run at all.
    /// An option that can be left out is listed in `launch.dropped` instead.
    fn prepare(&self, request: RunRequest, capabilities: Capabilities) -> Result<Launch, Error>;

    /// Starts to follow an attempt.
    fn transcript(&self, request: RunRequest, capabilities: Capabilities) -> Self::Transcript;
}

/// Follows one attempt, and contains the state of the protocol.
pub trait Transcript: 'static {
    /// Called as soon as the child runs. Returns the first messages of the protocol, with or without the prompt (duplex and
    /// pty).
    fn open(&mut self) -> Step {
        Step::default()
    }

    /// Called with lines in the order of their arrival. The order between the two streams is not reliable.
    fn read(&mut self, lines: Vec<Line>) -> Step;

    /// Called with a message of the user, at any time, even during a turn (duplex and pty).
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the channel accepts no input.
    fn input(&mut self, message: String) -> Result<Step, Error> {
        let _ = message;
        Err(Error::Unsupported("this provider does not accept input during a run".to_owned()))
    }

    /// Called with the answer to an approval request (duplex). Does nothing if no request with this id is pending.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the CLI does not support this decision, for example with a changed input.
    fn decide(&mut self, request_id: String, decision: Decision) -> Result<Step, Error> {
        let _ = (request_id, decision);
        Ok(Step::default())
    }

    /// Interrupts the current turn and keeps the session. Does nothing if no turn is running.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if only a signal can interrupt the CLI.
    fn interrupt(&mut self) -> Result<Step, Error> {
        Err(Error::Unsupported("this provider can only be interrupted by a signal".to_owned()))
    }

    /// Called once, after the child has ended and its output has been read, with the files of `launch.collect`.
    fn finish(&mut self, exit: ExitStatus, files: Vec<CollectedFile>) -> Outcome;
}

/// Finds secrets, which must not be stored or shown.
pub trait Redactor: Plugin {
    /// The rules that the host matches natively. Called once for each set of settings.
    fn rules(&self) -> RuleSet;

    /// Whether each candidate of a rule with `verify` is a secret. Returns one value for each candidate.
    fn verify(&self, candidates: Vec<Candidate>) -> Vec<bool> {
        vec![true; candidates.len()]
    }

    /// Finds secrets that no pattern can describe. Only called if `RuleSet::scan_overlap` is set.
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

    /// Returns every finding, not only the first. The strictest verdict of all policies applies; without findings, the action is
    /// allowed.
    fn evaluate(&self, action: Action, context: Context) -> Vec<Finding>;
}
