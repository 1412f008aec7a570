//! Helpers for text: word edges, entropy, placeholders, escapes.

use std::ops::Range;

/// The start of every placeholder.
pub const PLACEHOLDER: &str = "[REDACTED:";
/// Longest name in a placeholder.
pub(super) const MAX_NAME: usize = 64;
/// Name of the placeholder for text that could not be examined.
pub(super) const WITHHELD: &str = "withheld";
/// Name of the placeholder for a known value without a name of its own.
pub(super) const KNOWN_VALUE: &str = "known-value";

/// A valid name for a placeholder: lower-case letters, digits and hyphens.
pub(super) fn kebab(name: &str) -> String {
    let mut out = String::with_capacity(name.len().min(MAX_NAME));
    for c in name.chars() {
        if out.len() >= MAX_NAME {
            break;
        }
        if c.is_ascii_alphanumeric() {
            out.push(c.to_ascii_lowercase());
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    out.truncate(out.trim_end_matches('-').len());
    out
}

/// The placeholder that begins at `start`, if there is one with a name that `known` accepts.
pub(super) fn placeholder_at(text: &str, start: usize, known: impl Fn(&str) -> bool) -> Option<Range<usize>> {
    let name = text.get(start..)?.strip_prefix(PLACEHOLDER)?;
    let window = name.as_bytes().get(..name.len().min(MAX_NAME + 1))?;
    let length = memchr::memchr(b']', window)?;
    let name = name.get(..length)?;
    known(name).then_some(start..start + PLACEHOLDER.len() + length + 1)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether a word may start at `at`: it is preceded by the start of the text, a non-word character, or the end of an
/// escape.
pub(super) fn is_left_edge(text: &[u8], at: usize) -> bool {
    let before = text.get(..at).unwrap_or_default();
    match before.last() {
        None => true,
        Some(&last) if !is_word(last) => true,
        Some(&last) => {
            ends_percent_escape(before) || ends_string_escape(before) || (last == b'm' && ends_colour_code(before))
        }
    }
}

/// Whether a word may end at `at`.
pub(super) fn is_right_edge(text: &[u8], at: usize) -> bool {
    text.get(at).is_none_or(|&next| !is_word(next))
}

fn ends_percent_escape(before: &[u8]) -> bool {
    let Some((head, [a, b])) = before.split_last_chunk::<2>() else { return false };
    a.is_ascii_hexdigit() && b.is_ascii_hexdigit() && (head.ends_with(b"%") || head.ends_with(b"%25"))
}

fn ends_string_escape(before: &[u8]) -> bool {
    if let Some((head, [letter])) = before.split_last_chunk::<1>()
        && matches!(letter, b'n' | b'r' | b't' | b'b' | b'f')
        && head.ends_with(b"\\")
    {
        return true;
    }
    before.split_last_chunk::<4>().is_some_and(|(head, digits)| {
        digits.iter().all(u8::is_ascii_hexdigit) && (head.ends_with(b"\\u") || head.ends_with(b"\\U"))
    })
}

fn ends_colour_code(before: &[u8]) -> bool {
    let Some(rest) = before.strip_suffix(b"m") else { return false };
    let digits = rest.iter().rev().take(MAX_SEQUENCE).take_while(|b| b.is_ascii_digit() || **b == b';').count();
    let Some(rest) = rest.get(..rest.len() - digits).and_then(|rest| rest.strip_suffix(b"[")) else { return false };
    rest.ends_with(b"\x1b")
        || [&b"\\u001b"[..], b"\\u001B", b"\\x1b", b"\\x1B", b"\\033", b"\\e"].iter().any(|esc| rest.ends_with(esc))
}

/// Characters of zero width: zero-width spaces and joiners, a soft hyphen, a byte order mark.
pub(super) const ZERO_WIDTH: &[&str] = &["\u{ad}", "\u{200b}", "\u{200c}", "\u{200d}", "\u{2060}", "\u{feff}"];

/// The length of the zero-width character that ends at `at`; 0 if there is none.
pub(super) fn zero_width_before(text: &[u8], at: usize) -> usize {
    let before = text.get(..at).unwrap_or_default();
    ZERO_WIDTH.iter().find(|mark| before.ends_with(mark.as_bytes())).map_or(0, |mark| mark.len())
}

/// The length of an invisible sequence at `at`: a zero-width character, or a terminal's control sequence (`ESC [ …
/// letter`). 0 if there is none.
pub(super) fn invisible(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    if let Some(mark) = ZERO_WIDTH.iter().find(|mark| rest.starts_with(mark.as_bytes())) {
        return mark.len();
    }
    let Some(sequence) = rest.strip_prefix(b"\x1b[") else { return 0 };
    let parameters = sequence.iter().take(MAX_SEQUENCE).take_while(|byte| matches!(byte, b' '..=b'?')).count();
    match sequence.get(parameters) {
        Some(b'@'..=b'~') => 2 + parameters + 1,
        _ => 0,
    }
}

/// Bytes of the parameters of a control sequence. Two colors of 24 bits, of text and background, take 33.
const MAX_SEQUENCE: usize = 64;

/// Shannon entropy in bits per character.
pub(super) fn entropy(text: &str) -> f32 {
    let mut counts = [0u32; 256];
    for byte in text.bytes() {
        if let Some(count) = counts.get_mut(usize::from(byte)) {
            *count += 1;
        }
    }
    let total = text.len() as f32;
    counts.iter().filter(|count| **count > 0).map(|&count| count as f32 / total).map(|p| -p * p.log2()).sum()
}

/// Adjusts a range so that it does not split an escape at either end, and leaves no lone backslash.
pub(super) fn whole_escapes(text: &[u8], range: Range<usize>) -> Range<usize> {
    let Range { mut start, mut end } = range;
    if odd_backslashes_before(text, start) {
        start += match text.get(start) {
            Some(b'u') if text.get(start + 1..start + 5).is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit)) => 5,
            Some(b'n' | b'r' | b't' | b'b' | b'f' | b'"' | b'\'' | b'\\' | b'/') => 1,
            _ => 0,
        };
    }
    if end > start && odd_backslashes_before(text, end) && text.get(end).is_some() {
        end -= 1;
    }
    start.min(end)..end
}

pub(super) fn odd_backslashes_before(text: &[u8], at: usize) -> bool {
    text.get(..at).unwrap_or_default().iter().rev().take_while(|b| **b == b'\\').count() % 2 == 1
}

/// The greatest character boundary that is not after `at`.
pub(super) fn floor_boundary(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn word_may_start_after_an_escape() {
        let colors = "\x1b[38;2;255;255;255;48;2;255;255;255m";
        for before in
            ["", " ", "=", "\x1b[33m", colors, "\\u001b[1;33m", "%3D", "%253D", "\\n", "\\\\n", "\\u0026", "é"]
        {
            assert!(is_left_edge(before.as_bytes(), before.len()), "{before:?}");
        }
        for before in ["m", "a", "3D", "_", "[33m", "n", "u0026"] {
            assert!(!is_left_edge(before.as_bytes(), before.len()), "{before:?}");
        }
    }

    #[test]
    fn no_lone_backslash_is_left() {
        let text = br"a\nSECRET\tb";
        assert_eq!(whole_escapes(text, 2..9), 3..9);
        assert_eq!(whole_escapes(text, 3..10), 3..9);
        assert_eq!(whole_escapes(br"\\nX", 2..4), 2..4);
        assert_eq!(whole_escapes(br"\u0026x", 1..7), 6..7);
    }

    #[test]
    fn names_are_converted_to_kebab_case() {
        assert_eq!(kebab("GH_TOKEN"), "gh-token");
        assert_eq!(kebab("a\"]\\b"), "a-b");
        assert_eq!(kebab("--"), "");
    }
}
