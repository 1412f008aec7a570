//! Redaction of text that somebody watches while it is written: the output of a terminal.
//!
//! A [`StreamRedactor`] holds back an unfinished word, which may be the start of a secret. A user who types it would not
//! see it. So what is held can be shown when nothing has followed for a while; it stays held for the redaction. If the
//! word then turns out to be a secret, only its rest is replaced.

use super::run::RunRedactor;
use super::stream::StreamRedactor;

/// Length in bytes from which an unfinished word may be enough of a secret to matter.
const LONG_WORD: usize = 8;

/// Redacts a stream of which the held part can be shown early.
#[derive(Debug)]
pub struct LiveRedactor {
    stream: StreamRedactor,
    /// The output for the held part that was shown already.
    ahead: String,
    /// Whether everything that is held was looked at since the last input.
    looked: bool,
}

/// What a [`LiveRedactor`] holds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Nothing that could be shown.
    Nothing,
    /// The start of a word, too short to be much of a secret.
    ShortWord,
    /// More: a long unfinished word, or text of which a later line can tell that it is a secret.
    More,
}

impl LiveRedactor {
    /// A redactor for one stream.
    pub fn new(redactor: &RunRedactor) -> Self {
        Self { stream: redactor.stream(), ahead: String::new(), looked: true }
    }

    /// Takes further bytes, as [`StreamRedactor::push_bytes`] does.
    pub fn push_bytes(&mut self, bytes: &[u8], out: &mut String) {
        let mut ready = String::new();
        self.stream.push_bytes(bytes, &mut ready);
        self.looked = false;
        self.emit(&ready, out);
    }

    /// Ends the stream: the rest is redacted and appended.
    pub fn finish(&mut self, out: &mut String) {
        let mut ready = String::new();
        self.stream.finish(&mut ready);
        self.looked = true;
        self.emit(&ready, out);
        self.ahead.clear();
    }

    /// What is held back and was not shown.
    pub fn held(&self) -> Held {
        if self.looked || self.stream.held() == 0 {
            return Held::Nothing;
        }
        if self.stream.holds_short_word(LONG_WORD) { Held::ShortWord } else { Held::More }
    }

    /// Appends what is held back, redacted as if nothing followed. The start of a known value stays hidden, but for two bytes.
    pub fn show_held(&mut self, out: &mut String) {
        let mut preview = String::new();
        self.stream.preview(&mut preview);
        self.looked = true;
        let shown = common_prefix(&self.ahead, &preview);
        // A preview that is only shorter takes nothing back.
        if shown < preview.len() {
            out.push_str(preview.get(shown..).unwrap_or_default());
            self.ahead = preview;
        }
    }

    /// The number of placeholders so far.
    pub fn count(&self) -> u64 {
        self.stream.count()
    }

    /// Appends final output, without what was shown of it already.
    fn emit(&mut self, ready: &str, out: &mut String) {
        if self.ahead.is_empty() {
            out.push_str(ready);
            return;
        }
        let shown = common_prefix(&self.ahead, ready);
        if shown == ready.len() {
            self.ahead.drain(..shown);
            return;
        }
        out.push_str(ready.get(shown..).unwrap_or_default());
        self.ahead.clear();
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

    fn typed(text: &str, redactor: &RunRedactor, always: bool) -> String {
        let mut live = LiveRedactor::new(redactor);
        let mut out = String::new();
        for character in text.chars() {
            live.push_bytes(character.to_string().as_bytes(), &mut out);
            match live.held() {
                Held::ShortWord => live.show_held(&mut out),
                Held::More if always => live.show_held(&mut out),
                _ => {}
            }
        }
        live.finish(&mut out);
        out
    }

    #[test]
    fn short_word_is_shown_before_it_ends_and_not_repeated() {
        let redactor = redactor();
        let mut live = LiveRedactor::new(&redactor);
        let mut out = String::new();
        live.push_bytes(b"$ l", &mut out);
        assert_eq!((out.as_str(), live.held()), ("$ ", Held::ShortWord));
        live.show_held(&mut out);
        assert_eq!((out.as_str(), live.held()), ("$ l", Held::Nothing));
        live.push_bytes(b"s\r\nfile\r\n", &mut out);
        assert_eq!(out, "$ ls\r\nfile\r\n");
    }

    #[test]
    fn typed_token_shows_at_most_the_start_of_the_word() {
        let shown = typed(&format!("export T {TOKEN} x\r\n"), &redactor(), false);
        let start = &TOKEN[..LONG_WORD - 1];
        assert_eq!(shown, format!("export T {start}[REDACTED:github-pat] x\r\n"));
    }

    #[test]
    fn at_most_two_bytes_of_a_known_value_are_shown_however_long_nothing_follows() {
        let known = KnownSecret { name: "PASSWORD".to_owned(), value: "hunter2-hunter2".to_owned() };
        let shown = typed("say hunter2-hunter2 now\r\n", &bind(Masks::new([known])), true);
        assert!(!shown.contains("hun"), "{shown}");
        assert!(shown.ends_with("] now\r\n"), "{shown}");
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
