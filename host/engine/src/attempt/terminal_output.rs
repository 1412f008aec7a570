//! The output of a CLI that runs in a terminal: stored unchanged, escape sequences included, except that secrets are redacted.
//!
//! Somebody watches it while it is written, so that unfinished words must be shown as well, although they could become
//! secrets; see [`LiveRedactor`].

use std::time::{Duration, Instant};

use ostler_protocol::{Chunk, TerminalSize};
use ostler_redaction::{Held, LiveRedactor, RunRedactor};

/// After what time an unfinished line is shown. An echo is not noticeably late, and what a program writes in one go is not
/// split.
const SHORT_PAUSE: Duration = Duration::from_millis(25);
/// The same for text of which the next line can tell that it is a secret.
const LONG_PAUSE: Duration = Duration::from_secs(2);

/// Decodes what a terminal shows.
#[derive(Debug)]
pub(crate) struct TerminalOutput {
    redactor: LiveRedactor,
    reported_redactions: u64,
    /// Whether bytes that are not UTF-8 were replaced since the last chunk.
    lossy: bool,
    /// When text that is held back is shown, if nothing follows.
    due: Option<Instant>,
}

impl TerminalOutput {
    pub(crate) fn new(redactor: &RunRedactor) -> Self {
        Self { redactor: LiveRedactor::new(redactor), reported_redactions: 0, lossy: false, due: None }
    }

    /// Takes the bytes of one read, and returns what can be stored.
    pub(crate) fn push(&mut self, bytes: &[u8], now: Instant) -> Option<Chunk> {
        let mut ready = String::new();
        self.redactor.push_bytes(bytes, &mut ready);
        self.lossy |= std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_some());
        let due = match self.redactor.held() {
            Held::Nothing => None,
            Held::Line => Some(now + SHORT_PAUSE),
            Held::Uncertain => Some(now + LONG_PAUSE),
        };
        // What is held already does not wait longer because more follows.
        self.due = due.map(|due| self.due.map_or(due, |earlier| earlier.min(due)));
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
        let redactions = self.redactor.count().saturating_sub(self.reported_redactions);
        self.reported_redactions += redactions;
        let lossy = std::mem::take(&mut self.lossy);
        Some(Chunk { text, redactions, truncated: false, lossy, base64: None })
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
    fn secret_in_two_reads_is_redacted_although_the_first_part_was_due() {
        let mut terminal = TerminalOutput::new(&redactor_masking(&[SECRET]));
        let now = Instant::now();
        assert_eq!(terminal.push(b"hunter2-", now), None);
        assert_eq!(terminal.show_held(now + SHORT_PAUSE), None);
        let chunk = terminal.push(b"hunter2\r\n", now).unwrap();
        assert!(!chunk.text.contains("hunter2") && chunk.text.ends_with("]\r\n"), "{}", chunk.text);
        assert_eq!(chunk.redactions, 1);
    }

    #[test]
    fn screen_that_is_drawn_without_pause_is_shown_while_it_is_drawn() {
        let mut terminal = TerminalOutput::new(&redactor_masking(&[SECRET]));
        let now = Instant::now();
        for step in 0..3 {
            assert_eq!(terminal.push(b"\x1b[2;3Hx", now + step * SHORT_PAUSE / 4), None);
        }
        assert_eq!(terminal.due(), Some(now + SHORT_PAUSE));
        assert_eq!(terminal.show_held(now + SHORT_PAUSE).unwrap().text, "\u{1b}[2;3Hx".repeat(3));
    }

    #[test]
    fn bytes_that_are_not_text_are_replaced_and_the_last_line_needs_no_end() {
        let mut terminal = TerminalOutput::new(&redactor_masking(&[SECRET]));
        let now = Instant::now();
        let first = terminal.push(b"a\xff \xc3", now).unwrap();
        assert!(first.lossy);
        let mut text = first.text;
        text.push_str(&terminal.push(b"\xa4 end", now).unwrap().text);
        text.push_str(&terminal.finish().unwrap().text);
        assert_eq!(text, "a\u{fffd} ä end");
    }
}
