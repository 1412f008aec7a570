//! The types of rules, equal to the records of a redactor plugin, and the callbacks through which the matcher calls a
//! plugin. Nothing here depends on how plugins are run.

use std::fmt;
use std::sync::Arc;

/// A secret that continues on further lines, like a PEM key. The rule's pattern finds the first line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Regular expression for a line that belongs to the secret; compared with the whole line, after indentation,
    /// diff marks, line numbers and a CR were taken off. The first line that does not match ends the block.
    pub body: String,
    /// Regular expression for the last line, which is redacted too.
    pub end: String,
    /// Lines after the first that may be redacted.
    pub max_lines: u32,
}

/// One kind of secret and how it is found.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Kebab name, which is also in the placeholder: `github-pat` gives `[REDACTED:github-pat]`.
    pub id: String,
    /// For listings.
    pub description: String,
    /// Regular expression in the syntax of the `regex` crate.
    pub pattern: String,
    /// Capture groups with the secret, as far as they matched; empty means the whole match.
    pub secret_groups: Vec<u32>,
    /// Literals of which one is inside every match, compared without regard to ASCII case. Empty: tried everywhere.
    pub keywords: Vec<String>,
    /// The match must not continue a word to its left or right.
    pub whole_word: bool,
    /// Least Shannon entropy of the secret, in bits per character.
    pub min_entropy: Option<f32>,
    /// Longest match in bytes, its context included.
    pub max_length: u32,
    /// The lines that follow, for secrets of several lines.
    pub block: Option<Block>,
    /// Try it on decoded base64 and percent-encoded runs too.
    pub decoded: bool,
    /// Ask the plugin about each candidate.
    pub verify: bool,
}

impl Rule {
    /// A rule with only a name and a pattern: the whole match is the secret, at most 1024 bytes long, also searched in
    /// decoded runs, not verified.
    pub fn new(id: impl Into<String>, pattern: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            description: String::new(),
            pattern: pattern.into(),
            secret_groups: Vec::new(),
            keywords: Vec::new(),
            whole_word: false,
            min_entropy: None,
            max_length: 1024,
            block: None,
            decoded: true,
            verify: false,
        }
    }
}

/// What an exception's pattern is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllowTarget {
    /// The secret.
    Secret,
    /// The whole match.
    Match,
    /// The line, at most 256 bytes to either side of the match.
    Line,
}

/// An exception: a matching candidate is not redacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allow {
    /// Rules to which it applies. Empty: every rule of the same rule set; in the operator's own list, every rule.
    pub rules: Vec<String>,
    /// What the pattern is compared with.
    pub target: AllowTarget,
    /// Regular expression, found anywhere in the target.
    pub pattern: String,
}

/// The rules and exceptions that one plugin declares.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RuleSet {
    /// Where finds overlap, the earliest rule gives the name.
    pub rules: Vec<Rule>,
    /// Exceptions, for this rule set only.
    pub allow: Vec<Allow>,
    /// `None`: the plugin's `scan` is never called. Else how many bytes at the end of one text are repeated at the
    /// start of the next.
    pub scan_overlap: Option<u32>,
}

/// The operator's rules in the configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OperatorRules {
    /// Additional rules. They take precedence over those of plugins and are not verified.
    pub rules: Vec<Rule>,
    /// Exceptions; without rule names they apply to every rule of every plugin.
    pub allow: Vec<Allow>,
}

/// A match that the plugin verifies.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// Id of the rule that matched.
    pub rule: String,
    /// The text that would be redacted.
    pub secret: String,
    /// Up to 256 bytes of the line before the secret.
    pub before: String,
    /// Up to 256 bytes of the line after the secret.
    pub after: String,
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate").field("rule", &self.rule).finish_non_exhaustive()
    }
}

/// A find of a plugin's `scan`.
#[derive(Clone, PartialEq, Eq)]
pub struct Find {
    /// Name for the placeholder.
    pub rule: String,
    /// Every occurrence of this string in the text is redacted.
    pub secret: String,
}

impl fmt::Debug for Find {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Find").field("rule", &self.rule).finish_non_exhaustive()
    }
}

/// Why a plugin call failed. The message must not contain any of the examined text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// What happened, for the run's record.
    pub message: String,
}

impl Fault {
    /// A fault with this message.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

/// The part of a redactor plugin that is code.
pub trait RedactorPlugin: Send + Sync {
    /// One answer for each candidate: whether it is a secret.
    ///
    /// # Errors
    /// When the plugin failed; then all candidates count as secrets.
    fn verify(&self, candidates: &[Candidate]) -> Result<Vec<bool>, Fault>;

    /// Secrets that no declared rule describes. Called only if the rule set has `scan_overlap`.
    ///
    /// # Errors
    /// When the plugin failed; the text is withheld then.
    fn scan(&self, text: &str) -> Result<Vec<Find>, Fault>;
}

/// A plugin's name, its rules and its code.
#[derive(Clone)]
pub struct PluginRules {
    /// Its name, for messages.
    pub name: String,
    /// Its rules.
    pub rules: RuleSet,
    /// Its code.
    pub plugin: Arc<dyn RedactorPlugin>,
}

impl fmt::Debug for PluginRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginRules").field("name", &self.name).field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// Receives the faults of plugins while a run's text is redacted.
pub trait FaultSink: Send + Sync {
    /// `plugin` failed. It may be called often, from any thread, while text is being redacted, so it must be quick.
    fn fault(&self, plugin: &str, fault: &Fault);
}

/// Ignores faults; for tests and one-off texts.
#[derive(Debug, Clone, Copy, Default)]
pub struct IgnoreFaults;

impl FaultSink for IgnoreFaults {
    fn fault(&self, _plugin: &str, _fault: &Fault) {}
}
