//! Decodes one stream of a child: bytes into lines, and lines into redacted text.

use ostler_protocol::{Chunk, StreamMetrics};
use ostler_redaction::{RunRedactor, StreamRedactor};
use ostler_runner::{Batch, LineCaps, LineSplitter};

/// Decodes a stream. A secret that is spread over several reads or lines is found as well, so text can be held back until
/// the next call.
#[derive(Debug)]
pub(crate) struct LineDecoder {
    splitter: LineSplitter,
    redactor: StreamRedactor,
    reported_redactions: u64,
    metrics: StreamMetrics,
}

/// Text of a stream that is ready to be stored.
#[derive(Debug)]
pub(crate) struct DecodedText {
    /// The text, if there is any.
    pub(crate) chunk: Option<Chunk>,
    /// Whether a line is not complete in it, because it is longer than may be shown.
    pub(crate) cut: bool,
}

impl LineDecoder {
    pub(crate) fn new(caps: LineCaps, redactor: &RunRedactor) -> Self {
        Self {
            splitter: LineSplitter::new(caps),
            redactor: redactor.stream(),
            reported_redactions: 0,
            metrics: StreamMetrics::default(),
        }
    }

    /// Number of bytes and lines so far.
    pub(crate) const fn metrics(&self) -> StreamMetrics {
        self.metrics
    }

    /// Counts bytes that something else decodes.
    pub(crate) const fn count_bytes(&mut self, count: u64) {
        self.metrics.bytes += count;
    }

    /// Sets the number of lines, where something else decodes the stream.
    pub(crate) const fn set_lines(&mut self, lines: u64) {
        self.metrics.lines = lines;
    }

    /// Adds the bytes of one read, and returns the lines that they complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Option<Batch> {
        let batch = self.splitter.push(bytes);
        self.count_lines(batch)
    }

    /// Returns the last line, if it has no line end.
    pub(crate) fn finish(&mut self) -> Option<Batch> {
        let batch = self.splitter.finish();
        self.count_lines(batch)
    }

    fn count_lines(&mut self, batch: Option<Batch>) -> Option<Batch> {
        self.metrics.lines += batch.as_ref().map_or(0, |batch| batch.lines().len() as u64);
        batch
    }

    /// Redacts lines. `covered` says which of them an event stands for, so that they are left out; empty means none.
    pub(crate) fn redact(&mut self, batch: &Batch, covered: &[bool]) -> DecodedText {
        let mut ready = String::new();
        let mut cut = false;
        if covered.is_empty() && !batch.exceeds_shown() {
            self.redactor.push(batch.text(), &mut ready);
        } else {
            for (index, line) in batch.lines().enumerate() {
                if covered.get(index).copied().unwrap_or(false) {
                    continue;
                }
                self.redactor.push(line.shown, &mut ready);
                self.redactor.push("\n", &mut ready);
                cut |= line.is_cut();
            }
        }
        DecodedText { chunk: self.chunk(ready, cut, batch.lossy()), cut }
    }

    /// Returns the text that was held back.
    pub(crate) fn flush(&mut self) -> Option<Chunk> {
        let mut rest = String::new();
        self.redactor.finish(&mut rest);
        self.chunk(rest, false, false)
    }

    fn chunk(&mut self, text: String, truncated: bool, lossy: bool) -> Option<Chunk> {
        if text.is_empty() {
            return None;
        }
        let count = self.redactor.count();
        let redactions = count - std::mem::replace(&mut self.reported_redactions, count);
        Some(Chunk { text, redactions, truncated, lossy, base64: None })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::test_support::redactor_masking;

    const SECRET: &str = "hunter2-hunter2";

    fn decoder(shown: usize) -> LineDecoder {
        LineDecoder::new(LineCaps { transcript: 1000, shown }, &redactor_masking(&[SECRET]))
    }

    /// Everything that the decoder returns for these reads, with the number of redactions.
    fn decode(decoder: &mut LineDecoder, reads: &[&str]) -> (String, u64, bool) {
        let (mut text, mut redactions, mut cut) = (String::new(), 0, false);
        let mut take = |chunk: Option<Chunk>| {
            let chunk = chunk.unwrap_or_default();
            text.push_str(&chunk.text);
            redactions += chunk.redactions;
        };
        let mut batches: Vec<Batch> = Vec::new();
        for read in reads {
            batches.extend(decoder.push(read.as_bytes()));
        }
        batches.extend(decoder.finish());
        for batch in batches {
            let decoded = decoder.redact(&batch, &[]);
            cut |= decoded.cut;
            take(decoded.chunk);
        }
        take(decoder.flush());
        (text, redactions, cut)
    }

    #[test]
    fn secret_in_two_reads_is_redacted_once() {
        let mut decoder = decoder(1000);
        let found = decode(&mut decoder, &["a hunter2-", "hunter2 b\nc"]);
        assert_eq!(found, ("a [REDACTED:thing] b\nc\n".to_owned(), 1, false));
        assert_eq!(decoder.metrics().lines, 2);
    }

    #[test]
    fn covered_lines_are_left_out() {
        let mut decoder = decoder(1000);
        let batch = decoder.push(b"one\ntwo\nthree\n").unwrap();
        let first = decoder.redact(&batch, &[true, false, true]).chunk.map(|chunk| chunk.text).unwrap_or_default();
        let rest = decoder.flush().map(|chunk| chunk.text).unwrap_or_default();
        assert_eq!(first + &rest, "two\n");
    }

    #[test]
    fn line_that_is_too_long_to_show_is_cut_and_marked() {
        let (text, _, cut) = decode(&mut decoder(8), &["0123456789 and more\nshort\n"]);
        assert!(cut && text.ends_with("short\n") && !text.contains("more"), "{text}");
    }
}
