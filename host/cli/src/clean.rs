//! Makes text of agents and hosts safe for a terminal.
//!
//! The output of an agent is untrusted: escape sequences can change the window title, answer questions on the user's
//! behalf, or hide text. Color sequences are dropped. Every other control character, and every character that reorders
//! text, is replaced by a visible symbol.

/// Longest color sequence that is buffered until its end arrives, in bytes.
const MAX_PENDING: usize = 48;

/// Cleans a stream of text. The text can be cut anywhere, also within an escape sequence.
#[derive(Debug, Default)]
pub(super) struct Cleaner {
    /// The start of a possible color sequence, or a CR that may belong to a line end.
    pending: String,
}

impl Cleaner {
    /// Adds text and returns the part that can be shown now.
    pub(super) fn push(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for character in text.chars() {
            self.step(character, &mut out);
        }
        out
    }

    /// Ends the stream. Returns the buffered rest.
    pub(super) fn finish(&mut self) -> String {
        let mut out = String::new();
        self.release(&mut out);
        out
    }

    fn step(&mut self, character: char, out: &mut String) {
        match (self.pending.as_str(), character) {
            ("", '\u{1b}' | '\r') => self.pending.push(character),
            ("", _) => show(character, out),
            ("\r", '\n') => {
                self.pending.clear();
                out.push('\n');
            }
            ("\u{1b}", '[') => self.pending.push('['),
            (pending, '0'..='9' | ';' | ':') if pending.starts_with("\u{1b}[") && pending.len() < MAX_PENDING => {
                self.pending.push(character);
            }
            // A complete color sequence is dropped.
            (pending, 'm') if pending.starts_with("\u{1b}[") => self.pending.clear(),
            _ => {
                self.release(out);
                self.step(character, out);
            }
        }
    }

    fn release(&mut self, out: &mut String) {
        for character in std::mem::take(&mut self.pending).chars() {
            show(character, out);
        }
    }
}

fn show(character: char, out: &mut String) {
    match character {
        '\n' | '\t' => out.push(character),
        '\0'..='\u{1f}' => out.push(char::from_u32(0x2400 + u32::from(character)).unwrap_or('\u{fffd}')),
        '\u{7f}' => out.push('\u{2421}'),
        _ if reorders_or_controls(character) => out.push_str(&format!("<U+{:04X}>", u32::from(character))),
        _ => out.push(character),
    }
}

/// C1 control characters, which some terminals interpret, and characters that change the reading order of text.
const fn reorders_or_controls(character: char) -> bool {
    matches!(character, '\u{80}'..='\u{9f}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Cleans a complete text for a terminal.
pub(super) fn text(text: &str) -> String {
    let mut cleaner = Cleaner::default();
    let mut out = cleaner.push(text);
    out.push_str(&cleaner.finish());
    out
}

/// Cleans a text for a single line: line ends and tabs become spaces.
pub(super) fn line(source: &str) -> String {
    let cleaned = text(source);
    let words: Vec<&str> = cleaned.split(['\n', '\t']).map(str::trim).filter(|part| !part.is_empty()).collect();
    words.join(" ")
}

/// Cleans a JSON text for a terminal. Unsafe characters occur only inside strings and are replaced by JSON escapes.
pub(super) fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character == '\u{7f}' || reorders_or_controls(character) {
            out.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn drops_color_sequences_and_shows_other_controls() {
        assert_eq!(text("\u{1b}[1;31mred\u{1b}[0m\n\tplain"), "red\n\tplain");
        assert_eq!(text("\u{1b}]0;owned\u{7}x"), "␛]0;owned␇x");
        assert_eq!(text("\u{1b}[2J"), "␛[2J");
        assert_eq!(text("a\r\nb\rc\u{7f}"), "a\nb␍c␡");
        assert_eq!(text("\u{9b}31m"), "<U+009B>31m");
        assert_eq!(text("if admin \u{202e}// x"), "if admin <U+202E>// x");
        assert_eq!(text("ends in \u{1b}["), "ends in ␛[");
        assert_eq!(text("Grüße 👋🏽\u{200d}"), "Grüße 👋🏽\u{200d}");
        assert_eq!(line("one\n\n two\tthree \r\n"), "one two three");
    }

    #[test]
    fn cleaned_json_parses_to_same_value() {
        let value = serde_json::json!({"a": "\u{1b}[31m \u{9b} \u{7f} \u{202e} ü"});
        let shown = json(&value.to_string());
        assert!(!shown.chars().any(char::is_control), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }

    proptest! {
        #[test]
        fn no_control_character_passes_at_any_chunk_boundary(parts in proptest::collection::vec("[\u{1b}\\[0-9;mJ\r\n\ta\u{7}\u{9b}]{0,6}", 0..6)) {
            let mut cleaner = Cleaner::default();
            let mut shown: String = parts.iter().map(|part| cleaner.push(part)).collect();
            shown.push_str(&cleaner.finish());
            prop_assert!(shown.chars().all(|character| !character.is_control() || matches!(character, '\n' | '\t')));
            prop_assert_eq!(shown, text(&parts.concat()));
        }
    }
}
