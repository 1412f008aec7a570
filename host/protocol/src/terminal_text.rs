//! Text with the control sequences of a terminal (ECMA-48, and what xterm adds).

/// Longest sequence that is waited for, in bytes.
const LONGEST: usize = 4096;

/// The length of the control sequence at the start of a text, or that of its first character. A sequence that is cut off
/// extends to the end of the text.
#[must_use]
pub fn control_sequence_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.get(1)) {
        (Some(0x1b), Some(b'[')) => {
            let end = bytes.iter().skip(2).position(|byte| (0x40..=0x7e).contains(byte));
            end.map_or(text.len(), |end| end + 3)
        }
        // A string: it ends with BEL or ST.
        (Some(0x1b), Some(b']' | b'P' | b'_' | b'^' | b'X')) => {
            let bell = text.find('\u{7}').map(|at| at + 1);
            let terminator = text.get(2..).and_then(|rest| rest.find("\u{1b}\\")).map(|at| at + 4);
            [bell, terminator].into_iter().flatten().min().unwrap_or(text.len())
        }
        // Intermediate characters, and the final one: `ESC ( B`.
        (Some(0x1b), Some(0x20..=0x2f)) => {
            let end = bytes.iter().skip(1).position(|byte| (0x30..=0x7e).contains(byte));
            end.map_or(text.len(), |end| end + 2)
        }
        (Some(0x1b), Some(byte)) if byte.is_ascii() => 2,
        (Some(0x1b), _) => 1,
        _ => text.chars().next().map_or(0, char::len_utf8),
    }
}

/// Makes plain text of what a terminal showed: without control sequences and carriage returns. Sequences may be cut anywhere.
#[derive(Clone, Debug, Default)]
pub struct TerminalText {
    /// The start of a sequence, whose rest may follow.
    pending: String,
}

impl TerminalText {
    /// Takes further text, and returns what of it is plain.
    pub fn push(&mut self, text: &str) -> String {
        let text = std::mem::take(&mut self.pending) + text;
        let mut plain = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some(at) = rest.find(['\u{1b}', '\r']) {
            plain.push_str(rest.get(..at).unwrap_or_default());
            let from = rest.get(at..).unwrap_or_default();
            let length = control_sequence_length(from);
            if length == from.len() && from.starts_with('\u{1b}') && length < LONGEST {
                // It may be cut off.
                from.clone_into(&mut self.pending);
                return plain;
            }
            rest = from.get(length..).unwrap_or_default();
        }
        plain.push_str(rest);
        plain
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHOWN: &str =
        "a\u{1b}[1;31mred\u{1b}[0m\u{1b}]0;title\u{7}\u{1b}]8;;x\u{1b}\\link\u{1b}(B\u{1b}>\u{1b}P1$r\u{1b}\\ ä\r\n";

    #[test]
    fn control_sequences_are_removed_and_text_stays() {
        assert_eq!(TerminalText::default().push(SHOWN), "aredlink ä\n");
        assert_eq!(TerminalText::default().push("\u{1b}ä"), "ä");
    }

    #[test]
    fn sequence_without_an_end_is_not_waited_for_without_limit() {
        let mut text = TerminalText::default();
        assert_eq!(text.push("\u{1b}]0;"), "");
        assert_eq!(text.push(&"x".repeat(LONGEST)), "");
        assert_eq!(text.push("shown"), "shown");
    }

    proptest! {
        #[test]
        fn text_does_not_depend_on_where_it_is_cut(cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
            let mut at: Vec<usize> = cuts.iter().map(|cut| SHOWN.floor_char_boundary(cut.index(SHOWN.len()))).collect();
            at.push(SHOWN.len());
            at.sort_unstable();
            let (mut text, mut plain, mut from) = (TerminalText::default(), String::new(), 0);
            for to in at {
                plain.push_str(&text.push(SHOWN.get(from..to).unwrap_or_default()));
                from = to;
            }
            prop_assert_eq!(plain, "aredlink ä\n");
        }
    }
}
