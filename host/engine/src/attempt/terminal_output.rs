//! The output of a CLI that runs in a terminal: stored as it came, escape sequences included, but for its secrets.
//!
//! Somebody watches it while it is written, so that unfinished words must be shown as well, although they could become
//! secrets; see [`LiveRedactor`].

use std::time::{Duration, Instant};

use ostler_protocol::{Chunk, TerminalSize};
use ostler_redaction::{Held, LiveRedactor, RunRedactor};

/// How long nothing must follow before the start of a word is shown. An echo is not noticeably late, and what a program
/// writes in one go is not split.
const SHORT_PAUSE: Duration = Duration::from_millis(25);
/// The same for text that is more likely to become a secret. Longer than the pauses of somebody who types.
const LONG_PAUSE: Duration = Duration::from_secs(2);

/// Decodes what a terminal shows.
#[derive(Debug)]
pub(crate) struct TerminalOutput {
    redactor: LiveRedactor,
    reported_redactions: u64,
    /// When text that is held back is shown, if nothing follows.
    due: Option<Instant>,
}

impl TerminalOutput {
    pub(crate) fn new(redactor: &RunRedactor) -> Self {
        Self { redactor: LiveRedactor::new(redactor), reported_redactions: 0, due: None }
    }

    /// Takes the bytes of one read, and returns what can be stored.
    pub(crate) fn push(&mut self, bytes: &[u8], now: Instant) -> Option<Chunk> {
        let mut ready = String::new();
        self.redactor.push_bytes(bytes, &mut ready);
        self.due = match self.redactor.held() {
            Held::Nothing => None,
            Held::ShortWord => Some(now + SHORT_PAUSE),
            Held::More => Some(now + LONG_PAUSE),
        };
        self.chunk(ready)
    }

    /// When [`show_held`](Self::show_held) has something to do although nothing happens.
    pub(crate) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Returns the text that has been held back for long enough.
    pub(crate) fn show_held(&mut self, now: Instant) -> Option<Chunk> {
        self.due.take_if(|due| now >= *due)?;
        let mut ready = String::new();
        self.redactor.show_held(&mut ready);
        self.chunk(ready)
    }

    /// Returns the rest.
    pub(crate) fn finish(&mut self) -> Option<Chunk> {
        self.due = None;
        let mut rest = String::new();
        self.redactor.finish(&mut rest);
        self.chunk(rest)
    }

    fn chunk(&mut self, text: String) -> Option<Chunk> {
        if text.is_empty() {
            return None;
        }
        let count = self.redactor.count();
        let redactions = count - std::mem::replace(&mut self.reported_redactions, count);
        Some(Chunk { text, redactions, truncated: false, lossy: false, base64: None })
    }
}

/// The size as the runner takes it.
pub(crate) fn runner_size(size: TerminalSize) -> ostler_runner::TerminalSize {
    ostler_runner::TerminalSize::new(size.rows, size.columns).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::test_support::redactor_masking;

    const SECRET: &str = "hunter2-hunter2";

    #[test]
    fn echo_of_a_key_is_shown_after_a_short_pause() {
        let mut terminal = TerminalOutput::new(&redactor_masking(&[SECRET]));
        let now = Instant::now();
        assert_eq!(terminal.push(b"$ ", now).unwrap().text, "$ ");
        assert_eq!(terminal.due(), None);
        assert_eq!(terminal.push(b"l", now), None);
        assert_eq!(terminal.due(), Some(now + SHORT_PAUSE));
        assert_eq!(terminal.show_held(now), None, "too early");
        assert_eq!(terminal.show_held(now + SHORT_PAUSE).unwrap().text, "l");
        assert_eq!((terminal.due(), terminal.finish()), (None, None));
    }

    #[test]
    fn secret_in_two_reads_is_redacted_and_a_long_word_waits_longer() {
        let mut terminal = TerminalOutput::new(&redactor_masking(&[SECRET]));
        let now = Instant::now();
        assert_eq!(terminal.push(b"hunter2-", now), None);
        assert_eq!(terminal.due(), Some(now + LONG_PAUSE));
        let chunk = terminal.push(b"hunter2\r\n", now).unwrap();
        assert!(!chunk.text.contains("hunter2") && chunk.text.ends_with("]\r\n"), "{}", chunk.text);
        assert_eq!(chunk.redactions, 1);
    }

    #[test]
    fn bytes_that_are_not_text_are_replaced_and_the_last_line_needs_no_end() {
        let mut terminal = TerminalOutput::new(&redactor_masking(&[SECRET]));
        let now = Instant::now();
        let mut text = terminal.push(b"a\xff \xc3", now).unwrap().text;
        text.push_str(&terminal.push(b"\xa4 end", now).unwrap().text);
        text.push_str(&terminal.finish().unwrap().text);
        assert_eq!(text, "a\u{fffd} ä end");
    }
}
