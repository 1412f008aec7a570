//! Decoded views of a stretch of text: base64, percent-encoding, string escapes, invisible characters.

use std::ops::Range;

use memchr::{memchr, memchr3, memrchr};

use super::text::invisible;

/// Shortest base64 run worth decoding, in characters.
pub(super) const MIN_RUN: usize = 20;
/// The longest stretch that is decoded at once, in bytes, and the distance to the next one. Longer runs are examined in
/// overlapping windows, counted from the start of the run.
pub(super) const WINDOW: usize = 16 * 1024;
pub(super) const WINDOW_STEP: usize = 8 * 1024;
/// Groups of four characters in a row that must be printable.
const READABLE: usize = 4;

/// Decoded text and where each of its bytes came from.
pub(super) struct View {
    pub(super) text: String,
    /// One entry for each byte of `text` and one for its end.
    origin: Vec<u32>,
    base: usize,
}

impl View {
    /// A text with a prefix from another position.
    pub(super) fn beside(before: &str, text: &str, range: &Range<usize>) -> Option<Self> {
        let shown = text.get(range.clone())?;
        let mut origin = vec![0; before.len()];
        origin.extend(0..=shown.len() as u32);
        Some(Self { text: format!("{before}{shown}"), origin, base: range.start })
    }

    /// The same for bytes that were copied one by one: without text that was left out after the last of them.
    pub(super) fn original_of_bytes(&self, range: &Range<usize>) -> Range<usize> {
        let Some(last) = range.end.checked_sub(1).filter(|last| *last >= range.start) else {
            return self.original(range);
        };
        self.original(range).start..self.original(&(last..last)).start + 1
    }

    /// The stretch of the original from which these bytes were decoded.
    pub(super) fn original(&self, range: &Range<usize>) -> Range<usize> {
        let at = |index: usize| self.origin.get(index).or(self.origin.last()).map_or(0, |&offset| offset as usize);
        self.base + at(range.start)..self.base + at(range.end)
    }
}

const INVALID: u8 = 0xff;
const BASE64: [u8; 256] = {
    let mut table = [INVALID; 256];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut index = 0;
    while index < alphabet.len() {
        table[alphabet[index] as usize] = index as u8;
        index += 1;
    }
    table[b'-' as usize] = 62;
    table[b'_' as usize] = 63;
    table
};

pub(super) fn is_base64(byte: u8) -> bool {
    sextet(byte) != INVALID
}

/// The number of padding characters at `at`, after base64.
pub(super) fn padding(text: &[u8], at: usize) -> usize {
    text.get(at..).unwrap_or_default().iter().take(2).take_while(|byte| **byte == b'=').count()
}

fn sextet(byte: u8) -> u8 {
    BASE64.get(usize::from(byte)).copied().unwrap_or(INVALID)
}

/// Runs of base64 characters, of either alphabet, with at least [`MIN_RUN`] of them.
pub(super) struct Base64Runs<'t> {
    text: &'t [u8],
    at: usize,
}

impl<'t> Base64Runs<'t> {
    pub(super) fn new(text: &'t [u8], start: usize) -> Self {
        Self { text, at: start }
    }
}

impl Iterator for Base64Runs<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        // The probes are so close that every run of the minimum length contains one, so most bytes are not read.
        loop {
            let probe = self.at + MIN_RUN - 1;
            if !is_base64(*self.text.get(probe)?) {
                self.at = probe + 1;
                continue;
            }
            let back = self.text.get(self.at..probe)?.iter().rev().take_while(|b| is_base64(**b)).count();
            let start = probe - back;
            let end = probe + self.text.get(probe..)?.iter().take_while(|b| is_base64(**b)).count();
            self.at = end + 1;
            if end - start >= MIN_RUN {
                return Some(start..end);
            }
        }
    }
}

/// Decodes base64 characters with any end; stops at other characters.
fn decode_base64(run: &[u8], out: &mut Vec<u8>) {
    for chunk in run.chunks(4) {
        let mut bits = 0u32;
        let mut count = 0;
        for &byte in chunk {
            bits = bits << 6 | u32::from(sextet(byte) & 63);
            count += 1;
        }
        bits <<= 6 * (4 - count);
        let [_, a, b, c] = bits.to_be_bytes();
        out.push(a);
        if count > 2 {
            out.push(b);
        }
        if count > 3 {
            out.push(c);
        }
    }
}

fn printable(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\n' | b'\r' | b'\t')
}

/// The readable text in a base64 run, decoded from each of the four offsets: unrelated letters may precede it, and
/// binary data may surround the text.
pub(super) fn base64_text(run: &[u8]) -> Option<String> {
    let mut text = Vec::new();
    // Encoded text has capitals; paths, hex digests and words, which are frequent, often have none.
    if !run.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    for skip in 0..4 {
        let run = run.get(skip..).unwrap_or_default();
        let mut readable = 0;
        for (at, four) in run.chunks_exact(4).enumerate() {
            let bits = four.iter().fold(0u32, |bits, byte| bits << 6 | u32::from(sextet(*byte) & 63));
            let [_, a, b, c] = bits.to_be_bytes();
            if printable(a) && printable(b) && printable(c) {
                readable += 1;
            } else {
                if readable >= READABLE {
                    // One more group on either side: the text may start or end inside it.
                    decode_base64(
                        run.get((at - readable).saturating_sub(1) * 4..(at + 1) * 4).unwrap_or_default(),
                        &mut text,
                    );
                    text.push(b'\n');
                }
                readable = 0;
            }
        }
        if readable >= READABLE {
            decode_base64(run.get((run.len() / 4 - readable).saturating_sub(1) * 4..).unwrap_or_default(), &mut text);
            text.push(b'\n');
        }
    }
    if text.is_empty() {
        return None;
    }
    text.iter_mut().filter(|byte| !printable(**byte)).for_each(|byte| *byte = b'\n');
    String::from_utf8(text).ok()
}

/// The run around a percent sign: printable ASCII without quotes, angle brackets and backslashes.
pub(super) fn percent_run(text: &[u8], at: usize, start: usize) -> Range<usize> {
    let in_run = |b: &&u8| matches!(**b, b'!'..=b'~') && !matches!(**b, b'"' | b'\'' | b'`' | b'<' | b'>' | b'\\');
    let back = text.get(start..at).unwrap_or_default().iter().rev().take(WINDOW_STEP).take_while(in_run).count();
    let ahead = text.get(at..).unwrap_or_default().iter().take(WINDOW_STEP).take_while(in_run).count();
    at - back..at + ahead
}

/// Decodes percent-encoding; `None` if the result is not text or nothing was encoded.
pub(super) fn percent_view(text: &[u8], range: &Range<usize>) -> Option<View> {
    let run = text.get(range.clone())?;
    let mut bytes = Vec::with_capacity(run.len());
    let mut origin = Vec::with_capacity(run.len() + 1);
    let mut at = 0;
    while let Some(&byte) = run.get(at) {
        origin.push(at as u32);
        let decoded = (byte == b'%').then(|| hex_value(run.get(at + 1..at + 3)?)).flatten();
        bytes.push(decoded.map_or(byte, |value| value as u8));
        at += if decoded.is_some() { 3 } else { 1 };
    }
    origin.push(at as u32);
    if bytes.len() == run.len() {
        return None;
    }
    Some(View { text: String::from_utf8(bytes).ok()?, origin, base: range.start })
}

/// The positions of invisible sequences; adjacent ones count as one.
struct Invisibles<'t> {
    text: &'t [u8],
    from: usize,
    /// The next escape character, and the next byte that may start a zero-width character; the end of the text if there
    /// is none.
    escape: usize,
    mark: usize,
}

impl<'t> Invisibles<'t> {
    fn new(text: &'t [u8], from: usize) -> Self {
        Self { text, from, escape: 0, mark: 0 }
    }
}

impl Iterator for Invisibles<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        loop {
            let rest = self.text.get(self.from..)?;
            // Each byte is searched only once for each kind, however many of the other kind there are.
            let next = |found: Option<usize>| found.map_or(self.text.len(), |found| self.from + found);
            if self.escape < self.from || self.from == 0 {
                self.escape = next(memchr(0x1b, rest));
            }
            if self.mark < self.from || self.from == 0 {
                self.mark = next(memchr3(0xc2, 0xe2, 0xef, rest));
            }
            let at = self.escape.min(self.mark);
            if at == self.text.len() {
                return None;
            }
            let end = after_invisible(self.text, at);
            self.from = end.max(at + 1);
            if end > at {
                return Some(at..end);
            }
        }
    }
}

/// The lines from `from` on with an invisible sequence between two visible characters, without their line breaks.
pub(super) fn lines_with_invisibles(text: &[u8], from: usize) -> impl Iterator<Item = Range<usize>> + '_ {
    let visible = |byte: Option<&u8>| byte.is_some_and(|byte| *byte > b' ');
    let mut done = from;
    Invisibles::new(text, from).filter_map(move |hidden| {
        if hidden.start < done.max(from + 1) || !visible(text.get(hidden.start - 1)) || !visible(text.get(hidden.end)) {
            return None;
        }
        let start = memrchr(b'\n', text.get(from..hidden.start)?).map_or(from, |newline| from + newline + 1);
        done = memchr(b'\n', text.get(hidden.end..)?).map_or(text.len(), |length| hidden.end + length);
        Some(start..done)
    })
}

/// Where the text continues after invisible sequences at `at`.
pub(super) fn after_invisible(text: &[u8], mut at: usize) -> usize {
    loop {
        match invisible(text, at) {
            0 => return at,
            length => at += length,
        }
    }
}

/// The text without invisible sequences: colour codes and other control sequences, zero-width characters. `None` if
/// there were none.
pub(super) fn visible_view(text: &str, range: &Range<usize>) -> Option<View> {
    let run = text.get(range.clone())?.as_bytes();
    let first = Invisibles::new(run, 0).next()?.start;
    let mut bytes = Vec::with_capacity(run.len());
    let mut origin = Vec::with_capacity(run.len() + 1);
    bytes.extend_from_slice(run.get(..first)?);
    origin.extend(0..first as u32);
    let mut at = first;
    while let Some(&byte) = run.get(at) {
        match invisible(run, at) {
            0 => {
                bytes.push(byte);
                origin.push(at as u32);
                at += 1;
            }
            length => at += length,
        }
    }
    origin.push(at as u32);
    Some(View { text: String::from_utf8(bytes).ok()?, origin, base: range.start })
}

/// Decodes one level of string escapes; `None` if there were none.
pub(super) fn escape_view(text: &str, range: &Range<usize>) -> Option<View> {
    let run = text.get(range.clone())?;
    let mut decoded = String::with_capacity(run.len());
    let mut origin = Vec::with_capacity(run.len() + 1);
    let mut rest = run;
    while let Some(c) = rest.chars().next() {
        let (value, length) = if c == '\\' { unescape(rest) } else { (c, c.len_utf8()) };
        let at = (run.len() - rest.len()) as u32;
        decoded.push(value);
        origin.extend(std::iter::repeat_n(at, value.len_utf8()));
        rest = rest.get(length..).unwrap_or_default();
    }
    origin.push(run.len() as u32);
    (decoded.len() != run.len()).then_some(View { text: decoded, origin, base: range.start })
}

fn unescape(text: &str) -> (char, usize) {
    let bytes = text.as_bytes();
    let plain = match bytes.get(1) {
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(&c @ (b'"' | b'\'' | b'/' | b'\\')) => char::from(c),
        Some(b'u') => {
            return match bytes.get(2..6).and_then(hex_value).and_then(char::from_u32) {
                Some(c) => (c, 6),
                None => ('\\', 1),
            };
        }
        _ => return ('\\', 1),
    };
    (plain, 2)
}

fn hex_value(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn base64_runs_are_found_at_any_position() {
        for before in 0..45 {
            for length in 15..45 {
                let text = format!("{}{}{}", ".".repeat(before), "a".repeat(length), ".".repeat(30));
                let found: Vec<_> = Base64Runs::new(text.as_bytes(), 0).collect();
                if length >= MIN_RUN {
                    assert_eq!(found, vec![before..before + length]);
                } else {
                    assert!(found.is_empty());
                }
            }
        }
    }

    #[test]
    fn base64_is_decoded_at_any_offset() {
        for before in ["", "x", "xy", "xyz", "name", "prefix", "AAAAAAAAAA"] {
            let run = format!("{before}VE9LRU49YWJjZGVmZ2hpamtsbW5vcA");
            let text = base64_text(run.as_bytes()).unwrap();
            assert!(text.contains("TOKEN=abcdefghijklmnop"), "{before} {text:?}");
        }
        assert!(base64_text(b"R0lGODlhF3H5gOpPBvBAr/Fo2gx84b1iHxYn").is_none());
    }

    #[test]
    fn views_map_their_text_to_the_original() {
        let text = "x=a%2Db%2Dc";
        let view = percent_view(text.as_bytes(), &(0..text.len())).unwrap();
        assert_eq!(view.text, "x=a-b-c");
        assert_eq!(&text[view.original(&(2..7))], "a%2Db%2Dc");
        let text = r"p\u003dab\/c";
        let view = escape_view(text, &(0..text.len())).unwrap();
        assert_eq!(view.text, "p=ab/c");
        assert_eq!(&text[view.original(&(2..6))], r"ab\/c");
    }
}
