//! Redaction of text that somebody watches while it is written: the output of a terminal.
//!
//! A [`StreamRedactor`] holds back an unfinished word, which may be the start of a secret. A user who types it would not
//! see it. So what is held can be shown when nothing has followed for a while; it stays held for the redaction. What has
//! the keyword of a secret is not shown before its end; of another word that turns out to be one, only the rest is replaced.

use super::run::RunRedactor;
use super::stream::StreamRedactor;

/// Redacts a stream of which the held part can be shown early.
#[derive(Debug)]
pub struct LiveRedactor {
    stream: StreamRedactor,
    /// The output for the held part that was shown already, and the placeholders in it.
    shown_early: String,
    early_count: u64,
    /// Whether everything that is held was looked at since the last input.
    previewed: bool,
}

/// What a [`LiveRedactor`] holds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Nothing that could be shown.
    Nothing,
    /// An unfinished line.
    Line,
    /// Text of which a later line can tell that it is a secret.
    Uncertain,
}

impl LiveRedactor {
    /// A redactor for one stream.
    pub fn new(redactor: &RunRedactor) -> Self {
        Self { stream: redactor.stream(), shown_early: String::new(), early_count: 0, previewed: true }
    }

    /// Takes further bytes, as [`StreamRedactor::push_bytes`] does.
    pub fn push_bytes(&mut self, bytes: &[u8], out: &mut String) {
        let mut ready = String::new();
        self.stream.push_bytes(bytes, &mut ready);
        self.previewed = false;
        self.emit(&ready, out);
    }

    /// Ends the stream: the rest is redacted and appended.
    pub fn finish(&mut self, out: &mut String) {
        let mut ready = String::new();
        self.stream.finish(&mut ready);
        self.previewed = true;
        self.emit(&ready, out);
        self.shown_early.clear();
    }

    /// What is held back and was not looked at.
    pub fn held(&self) -> Held {
        if self.previewed || self.stream.held() == 0 {
            return Held::Nothing;
        }
        if self.stream.awaits_line() { Held::Uncertain } else { Held::Line }
    }

    /// Appends what is held back, redacted as if nothing followed, without what may be the start of a secret.
    pub fn show_held(&mut self, out: &mut String) {
        let mut preview = String::new();
        let count = self.stream.preview(&mut preview);
        self.previewed = true;
        let shown = common_prefix(&self.shown_early, &preview);
        // A preview that is only shorter takes nothing back.
        if shown < preview.len() {
            out.push_str(preview.get(shown..).unwrap_or_default());
            (self.shown_early, self.early_count) = (preview, count);
        }
    }

    /// The number of placeholders so far. It can shrink when text that was shown early is redacted in another way.
    pub fn count(&self) -> u64 {
        self.stream.count() + self.early_count
    }

    /// Appends final output, without what was shown of it already.
    fn emit(&mut self, ready: &str, out: &mut String) {
        if self.shown_early.is_empty() {
            out.push_str(ready);
            return;
        }
        let shown = common_prefix(&self.shown_early, ready);
        if shown == ready.len() {
            self.shown_early.drain(..shown);
        } else {
            out.push_str(ready.get(shown..).unwrap_or_default());
            self.shown_early.clear();
        }
        if self.shown_early.is_empty() {
            self.early_count = 0;
        }
    }
}

/// Length of the longest common start, at a boundary of characters.
fn common_prefix(one: &str, other: &str) -> usize {
    one.char_indices()
        .zip(other.chars())
        .find(|((_, a), b)| a != b)
        .map_or(one.len().min(other.len()), |((at, _), _)| at)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;
    use crate::tests::{bind, redactor};
    use crate::{KnownSecret, Masks};

    const TOKEN: &str = "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";

    /// What is shown of a text that is typed key by key, with a long pause after each.
    fn typed(text: &str, redactor: &RunRedactor) -> String {
        let mut live = LiveRedactor::new(redactor);
        let mut out = String::new();
        for character in text.chars() {
            live.push_bytes(character.to_string().as_bytes(), &mut out);
            live.show_held(&mut out);
        }
        live.finish(&mut out);
        out
    }

    /// The longest part of a secret that a text contains.
    fn longest_part<'s>(secret: &'s str, text: &str) -> &'s str {
        let parts = (0..secret.len()).flat_map(|from| (from + 1..=secret.len()).map(move |to| &secret[from..to]));
        parts.filter(|part| text.contains(part)).max_by_key(|part| part.len()).unwrap_or_default()
    }

    #[test]
    fn unfinished_line_is_shown_and_not_repeated() {
        let redactor = redactor();
        let mut live = LiveRedactor::new(&redactor);
        let mut out = String::new();
        live.push_bytes(b"$ l", &mut out);
        assert_eq!((out.as_str(), live.held()), ("$ ", Held::Line));
        live.show_held(&mut out);
        assert_eq!((out.as_str(), live.held()), ("$ l", Held::Nothing));
        live.push_bytes(b"s\r\nfile\r\n", &mut out);
        assert_eq!(out, "$ ls\r\nfile\r\n");
    }

    #[test]
    fn prompts_and_screens_without_a_blank_are_shown_whole() {
        let redactor = redactor();
        for text in [
            "Continue?",
            "Password:",
            "\u{1b}[?2004h$ internationalization",
            "user@host:/a/long/path$",
            "\u{1b}[12;3HZQ\u{1b}[39m\u{1b}[0m\u{1b}[?25h\u{1b}[12;4H",
        ] {
            let mut live = LiveRedactor::new(&redactor);
            let mut out = String::new();
            live.push_bytes(text.as_bytes(), &mut out);
            live.show_held(&mut out);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn token_that_is_typed_slowly_is_hidden_from_its_keyword_on() {
        let shown = typed(&format!("export T {TOKEN} x\r\n"), &redactor());
        assert!(longest_part(TOKEN, &shown).len() <= 4, "{shown}");
        assert!(shown.ends_with("[REDACTED:github-pat] x\r\n"), "{shown}");
    }

    #[test]
    fn at_most_seven_bytes_of_a_named_value_that_is_typed_slowly_are_shown() {
        let value = "Zx81kfPq0wLLm2Qr7t";
        let shown = typed(&format!("export DB_PASSWORD={value}\r\n"), &redactor());
        assert!(longest_part(value, &shown).len() <= 7, "{shown}");
        assert!(shown.contains("[REDACTED:"), "{shown}");
    }

    #[test]
    fn at_most_two_bytes_of_a_known_value_are_shown_however_long_nothing_follows() {
        // The second half of each is the start of the value again.
        for value in ["hunter2-hunter2", "Zx81kfPq0w-Zx81kfPq0w", "k3!vW9#tQ2zZk3!vW9#tQ2zZ"] {
            let known = KnownSecret { name: "PASSWORD".to_owned(), value: value.to_owned() };
            let shown = typed(&format!("say {value} now\r\n"), &bind(Masks::new([known])));
            assert!(longest_part(value, &shown).len() <= 2, "{shown}");
            assert!(shown.ends_with("] now\r\n"), "{shown}");
        }
    }

    #[test]
    fn placeholders_that_are_shown_early_count_once() {
        let redactor = redactor();
        let mut live = LiveRedactor::new(&redactor);
        let mut out = String::new();
        live.push_bytes(format!("{TOKEN} token:").as_bytes(), &mut out);
        live.show_held(&mut out);
        assert_eq!((out.as_str(), live.count()), ("[REDACTED:github-pat] token:", 1));
        live.push_bytes(b"\r\n", &mut out);
        live.finish(&mut out);
        assert_eq!((out.as_str(), live.count()), ("[REDACTED:github-pat] token:\r\n", 1));
    }

    proptest! {
        #[test]
        fn text_without_secrets_is_complete_and_in_order(
            text in "[a-z0-9 \\r\\n\u{1b}äé\\[;m=:\"]{0,80}",
            cuts in prop::collection::vec(any::<(prop::sample::Index, bool)>(), 0..12),
        ) {
            let redactor = redactor();
            let expected = redactor.redact(&text).text.into_owned();
            prop_assume!(expected == text);
            let mut at: Vec<(usize, bool)> = cuts.iter().map(|(at, show)| (at.index(text.len() + 1), *show)).collect();
            at.sort_unstable();
            let mut live = LiveRedactor::new(&redactor);
            let (mut out, mut from) = (String::new(), 0);
            for (to, show) in at {
                live.push_bytes(&text.as_bytes()[from..to], &mut out);
                from = to;
                if show {
                    live.show_held(&mut out);
                }
            }
            live.push_bytes(&text.as_bytes()[from..], &mut out);
            live.finish(&mut out);
            prop_assert_eq!(out, text);
        }
    }
}
