//! Redaction of bytes: all bytes that are not secret are preserved.
//!
//! Redaction works on text, with lines that end with LF. A byte that is not UTF-8 is replaced by one of 128 characters
//! at the end of the last private-use plane, which no rule matches. If the input contains one of these characters
//! itself, its four bytes are treated as such bytes; so nothing is lost, however the input is cut. A CR without a LF is
//! passed to redaction as a line end, and restored.

use std::borrow::Cow;
use std::collections::VecDeque;

use memchr::{memchr, memchr_iter, memmem};

use super::run::RunRedactor;
use super::stream::StreamRedactor;

/// A byte above 0x7f is added to this to get its replacement character.
const BASE: u32 = 0x0010_ff00;
/// The first byte of the replacement characters.
const LEAD: u8 = 0xf4;

/// Redacts a stream of bytes.
#[derive(Debug)]
pub struct ByteRedactor {
    decoder: Decoder,
    redactor: StreamRedactor,
    /// The last byte was a CR; the next one is not known yet.
    after_cr: bool,
    /// Line ends that redaction got, and returned.
    given: u64,
    returned: u64,
    /// Which of the outstanding line ends are CR.
    crs: VecDeque<u64>,
}

impl ByteRedactor {
    /// A redactor for one stream of bytes.
    pub fn new(redactor: &RunRedactor) -> Self {
        Self {
            decoder: Decoder::default(),
            redactor: redactor.stream(),
            after_cr: false,
            given: 0,
            returned: 0,
            crs: VecDeque::new(),
        }
    }

    /// Takes further bytes and returns the output that is ready.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut text = String::with_capacity(bytes.len() + 1);
        if self.after_cr && !bytes.is_empty() {
            text.push('\r');
        }
        self.decoder.push(bytes, &mut text);
        if text.ends_with('\r') {
            text.pop();
            self.after_cr = true;
        } else if !text.is_empty() {
            self.after_cr = false;
        }
        let mut ready = String::with_capacity(text.len());
        let text = self.with_line_ends(text);
        self.redactor.push(&text, &mut ready);
        self.restore(ready)
    }

    /// Ends the stream and returns the rest of the output.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut text = String::from(if std::mem::take(&mut self.after_cr) { "\r" } else { "" });
        self.decoder.finish(&mut text);
        let mut ready = String::new();
        let text = self.with_line_ends(text);
        self.redactor.push(&text, &mut ready);
        self.redactor.finish(&mut ready);
        self.restore(ready)
    }

    /// The number of placeholders so far.
    pub fn count(&self) -> u64 {
        self.redactor.count()
    }

    /// The number of bytes that are held back.
    pub fn held(&self) -> usize {
        self.redactor.held() + self.decoder.partial.len() + usize::from(self.after_cr)
    }

    /// Replaces each CR without a LF by LF.
    fn with_line_ends(&mut self, text: String) -> String {
        let ends = memchr_iter(b'\n', text.as_bytes()).count() as u64;
        if memchr(b'\r', text.as_bytes()).is_none() {
            self.given += ends;
            return text;
        }
        let mut out = String::with_capacity(text.len());
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '\r' if characters.peek() != Some(&'\n') => {
                    self.crs.push_back(self.given);
                    self.given += 1;
                    out.push('\n');
                }
                '\n' => {
                    self.given += 1;
                    out.push('\n');
                }
                other => out.push(other),
            }
        }
        out
    }

    fn restore(&mut self, text: String) -> Vec<u8> {
        let mut bytes = match bytes_of(&text) {
            Cow::Borrowed(_) => text.into_bytes(),
            Cow::Owned(bytes) => bytes,
        };
        if self.crs.is_empty() {
            self.returned += memchr_iter(b'\n', &bytes).count() as u64;
        } else {
            for byte in bytes.iter_mut().filter(|byte| **byte == b'\n') {
                while self.crs.front().is_some_and(|cr| *cr < self.returned) {
                    self.crs.pop_front();
                }
                if self.crs.front() == Some(&self.returned) {
                    *byte = b'\r';
                }
                self.returned += 1;
            }
        }
        // A secret of several lines removes their ends. When nothing is held back, the two counts are equal again.
        if self.redactor.held() == 0 {
            self.returned = self.given;
            self.crs.clear();
        }
        bytes
    }
}

/// Decodes bytes that arrive in pieces.
#[derive(Debug, Default)]
struct Decoder {
    /// The start of an incomplete character.
    partial: Vec<u8>,
}

impl Decoder {
    /// Decodes further bytes and appends the complete characters to `out`.
    fn push(&mut self, bytes: &[u8], out: &mut String) {
        let joined;
        let mut rest = bytes;
        if !self.partial.is_empty() {
            self.partial.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.partial);
            rest = &joined;
        }
        for chunk in rest.utf8_chunks() {
            push_text(chunk.valid(), out);
            let invalid = chunk.invalid();
            let ends_here = std::ptr::eq(invalid.as_ptr_range().end, rest.as_ptr_range().end);
            if ends_here && is_incomplete(invalid) {
                self.partial = invalid.to_vec();
            } else {
                push_bytes(invalid, out);
            }
        }
    }

    /// Ends the input: an incomplete character is appended as bytes.
    fn finish(&mut self, out: &mut String) {
        push_bytes(&std::mem::take(&mut self.partial), out);
    }
}

/// The bytes that a decoded text represents.
fn bytes_of(text: &str) -> Cow<'_, [u8]> {
    if !has_replacements(text) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut buffer = [0; 4];
    for character in text.chars() {
        match replaced_byte(character) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes()),
        }
    }
    Cow::Owned(bytes)
}

/// Whether an incomplete character can become complete with more bytes.
fn is_incomplete(bytes: &[u8]) -> bool {
    !bytes.is_empty() && std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

fn push_text(text: &str, out: &mut String) {
    if !has_replacements(text) {
        out.push_str(text);
        return;
    }
    let mut buffer = [0; 4];
    for character in text.chars() {
        match replaced_byte(character) {
            Some(_) => push_bytes(character.encode_utf8(&mut buffer).as_bytes(), out),
            None => out.push(character),
        }
    }
}

fn push_bytes(bytes: &[u8], out: &mut String) {
    out.extend(bytes.iter().filter_map(|byte| char::from_u32(BASE + u32::from(*byte))));
}

fn replaced_byte(character: char) -> Option<u8> {
    u32::from(character).checked_sub(BASE).and_then(|byte| u8::try_from(byte).ok()).filter(|byte| *byte > 0x7f)
}

fn has_replacements(text: &str) -> bool {
    let bytes = text.as_bytes();
    memchr(LEAD, bytes).is_some()
        && [&b"\xf4\x8f\xbe"[..], b"\xf4\x8f\xbf"].iter().any(|lead| memmem::find(bytes, lead).is_some())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::{IgnoreFaults, KnownSecret, Masks, OperatorRules, Redactor};

    const SECRET: &str = "xq7-plain-words-of-a-secret";

    fn redactor() -> RunRedactor {
        let secret = |name: &str, value: &str| KnownSecret { name: name.to_owned(), value: value.to_owned() };
        let redactor = Redactor::compile(Vec::new(), OperatorRules::default()).unwrap();
        let masks = Masks::new([secret("thing", SECRET), secret("lines", "first of two-lines-7Kq\nsecond-of-two-9Xv")]);
        RunRedactor::new(Arc::new(redactor), Arc::new(masks), Arc::new(IgnoreFaults))
    }

    fn redact(reads: &[&[u8]]) -> Vec<u8> {
        let mut stream = ByteRedactor::new(&redactor());
        let mut out: Vec<u8> = reads.iter().flat_map(|read| stream.push(read)).collect();
        out.extend(stream.finish());
        assert_eq!(stream.held(), 0);
        out
    }

    fn text_of(bytes: &[u8]) -> String {
        let (mut decoder, mut out) = (Decoder::default(), String::new());
        decoder.push(bytes, &mut out);
        decoder.finish(&mut out);
        out
    }

    /// The pieces between these positions.
    fn cut<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| *cut.min(&bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        cuts.windows(2).map(|pair| bytes.get(pair[0]..pair[1]).unwrap()).collect()
    }

    #[test]
    fn plain_text_is_unchanged() {
        for text in ["", "plain\r\n", "\u{fffd} €\u{10fffd}x"] {
            assert_eq!(bytes_of(&text_of(text.as_bytes())), text.as_bytes());
        }
        assert_eq!(text_of("€ 😀".as_bytes()), "€ 😀");
        assert_eq!(text_of(b"a\xffb").chars().count(), 3);
    }

    #[test]
    fn secrets_are_removed_and_other_bytes_are_kept() {
        let input = [b"\xff\r", SECRET.as_bytes(), b"\r\n\xe2\x82\r"].concat();
        assert_eq!(redact(&[&input]), b"\xff\r[REDACTED:thing]\r\n\xe2\x82\r");
    }

    #[test]
    fn secret_with_cr_line_ends_is_found() {
        let input = b"a\rfirst of two-lines-7Kq\rsecond-of-two-9Xv\rb\rc\n";
        let out = String::from_utf8(redact(&[input])).unwrap();
        assert!(!out.contains("7Kq") && !out.contains("9Xv"), "{out:?}");
        assert!(out.starts_with("a\r[REDACTED:lines]") && out.ends_with("c\n"), "{out:?}");
        assert_eq!(redact(&[b"next\r", b"x\n"]), b"next\rx\n");
    }

    proptest! {
        #[test]
        fn bytes_without_secrets_are_unchanged_for_any_cut(
            parts in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..6),
                    "[a\r\n€😀\u{10ff80}\u{10ffff}\u{fffd}]{0,4}".prop_map(String::into_bytes),
                ],
                0..12,
            ),
            cuts in prop::collection::vec(0_usize..80, 0..6),
        ) {
            let bytes = parts.concat();
            prop_assert_eq!(redact(&cut(&bytes, &cuts)), bytes);
        }

        #[test]
        fn secret_is_found_for_any_cut(
            before in "[ab\r\n]{0,8}", after in "[\r\n]{1,2}[ab\r\n]{0,8}", cuts in prop::collection::vec(0_usize..60, 0..6),
        ) {
            let input = format!("{before} {SECRET}{after}");
            let expected = format!("{before} [REDACTED:thing]{after}");
            prop_assert_eq!(redact(&cut(input.as_bytes(), &cuts)), expected.into_bytes());
        }
    }
}
