//! A redactor with the known values of one run.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};

use super::compile::Redactor;
use super::json::redact_value;
use super::masks::{KnownSecret, Masks};
use super::rules::FaultSink;
use super::stream::StreamRedactor;
use super::text::{KNOWN_VALUE, WITHHELD};

/// Redacts all text of one run. Cheap to clone.
#[derive(Clone)]
pub struct RunRedactor {
    /// Replaced when values are added.
    shared: Arc<ArcSwap<Shared>>,
}

pub(super) struct Shared {
    pub(super) redactor: Arc<Redactor>,
    pub(super) masks: Arc<Masks>,
    pub(super) faults: Arc<dyn FaultSink>,
    /// Names that plugins gave to finds of `scan`.
    learned: Arc<Mutex<HashSet<String>>>,
    pub(super) unscanned: Unscanned,
}

/// How a text is treated if a plugin's `scan` of it failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unscanned {
    /// It is replaced by `[REDACTED:withheld]`: the scan might have found secrets in it.
    #[default]
    Withheld,
    /// It is redacted by the rules alone. For the host's own messages, which must be readable if a plugin fails.
    ByRules,
}

impl Shared {
    /// Whether a placeholder can have this name.
    pub(super) fn knows(&self, name: &str) -> bool {
        name == KNOWN_VALUE
            || name == WITHHELD
            || self.redactor.rules.iter().any(|rule| rule.id == name)
            || self.masks.has_name(name)
            || (self.redactor.scans && self.learned.lock().unwrap_or_else(PoisonError::into_inner).contains(name))
    }

    pub(super) fn learn(&self, name: &str) {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
    }
}

impl fmt::Debug for RunRedactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunRedactor").finish_non_exhaustive()
    }
}

impl fmt::Debug for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redacted").field("text", &self.text).field("count", &self.count).finish()
    }
}

/// A text without its secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Redacted<'t> {
    /// Borrowed if nothing was found.
    pub text: Cow<'t, str>,
    /// The number of placeholders.
    pub count: u64,
}

impl RunRedactor {
    /// Combines a redactor with a run's secret values and a receiver of plugin faults.
    pub fn new(redactor: Arc<Redactor>, masks: Arc<Masks>, faults: Arc<dyn FaultSink>) -> Self {
        Self::with(redactor, masks, faults, Unscanned::Withheld)
    }

    /// The same, with a choice for texts whose scan fails.
    pub fn with(redactor: Arc<Redactor>, masks: Arc<Masks>, faults: Arc<dyn FaultSink>, unscanned: Unscanned) -> Self {
        let shared = Shared { redactor, masks, faults, learned: Arc::default(), unscanned };
        Self { shared: Arc::new(ArcSwap::from_pointee(shared)) }
    }

    /// What it needs at this moment. One call must use one of them: indexes of names refer to it.
    pub(super) fn shared(&self) -> Guard<Arc<Shared>> {
        self.shared.load()
    }

    /// Adds secret values that became known during the run. All clones, and streams that have begun, mask them from now on.
    pub fn add(&self, secrets: &[KnownSecret]) {
        self.shared.rcu(|shared| {
            let Shared { redactor, masks, faults, learned, unscanned } = &**shared;
            Shared {
                redactor: Arc::clone(redactor),
                masks: Arc::new(masks.with(secrets.iter().cloned())),
                faults: Arc::clone(faults),
                learned: Arc::clone(learned),
                unscanned: *unscanned,
            }
        });
    }

    /// The same redactor for the host's own messages, such as errors, which must be readable without rules.
    #[must_use]
    pub fn for_own_words(&self) -> Self {
        let shared = self.shared();
        if !shared.redactor.withhold {
            return self.clone();
        }
        let Shared { redactor, masks, faults, .. } = &**shared;
        Self::with(Arc::clone(redactor), Arc::clone(masks), Arc::clone(faults), Unscanned::ByRules)
    }

    /// Redacts a whole text.
    pub fn redact<'t>(&self, text: &'t str) -> Redacted<'t> {
        let mut stream = self.stream();
        let mut out = String::with_capacity(text.len());
        stream.take(text, &mut out);
        stream.finish(&mut out);
        let count = stream.count();
        Redacted { text: if count == 0 { Cow::Borrowed(text) } else { Cow::Owned(out) }, count }
    }

    /// Redacts every string of a JSON document, keys too; a key's name counts as context of its value.
    /// Returns the number of placeholders.
    pub fn redact_json(&self, document: &mut serde_json::Value) -> u64 {
        redact_value(self, document)
    }

    /// A redactor for one stream: a pipe of a process, or the deltas of one text.
    pub fn stream(&self) -> StreamRedactor {
        StreamRedactor::new(self.clone())
    }
}
