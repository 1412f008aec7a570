//! Bytes that are no UTF-8, as text: so that they go through redaction, which knows text alone, and come out unchanged.
//!
//! Each such byte becomes one of 128 characters at the end of the last private plane, which mean nothing to any rule.
//! Where one of these characters itself is in the input, its four bytes are taken for such bytes; so nothing is lost, in
//! whatever pieces it comes.

use std::borrow::Cow;

use memchr::{memchr, memmem};

/// What a byte above 0x7f is added to.
const BASE: u32 = 0x0010_ff00;
/// How the characters that stand for bytes begin.
const LEAD: u8 = 0xf4;

/// Makes text of bytes that arrive in pieces.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// The beginning of a character whose end has not come.
    partial: Vec<u8>,
}

impl Decoder {
    /// Takes further bytes and appends to `out` what is complete.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut String) {
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
            if ends_here && may_go_on(invalid) {
                self.partial = invalid.to_vec();
            } else {
                push_bytes(invalid, out);
            }
        }
    }

    /// Ends the input: a character that was not complete is told as bytes.
    pub(crate) fn finish(&mut self, out: &mut String) {
        push_bytes(&std::mem::take(&mut self.partial), out);
    }
}

/// A whole input as text.
pub(crate) fn text_of(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    let mut decoder = Decoder::default();
    decoder.push(bytes, &mut out);
    decoder.finish(&mut out);
    out
}

/// The bytes that such a text stands for.
pub(crate) fn bytes_of(text: &str) -> Cow<'_, [u8]> {
    if !has_stand_ins(text) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut buffer = [0; 4];
    for character in text.chars() {
        match stands_for(character) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes()),
        }
    }
    Cow::Owned(bytes)
}

/// Whether bytes that are no character can become one when more come.
fn may_go_on(bytes: &[u8]) -> bool {
    !bytes.is_empty() && std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

fn push_text(text: &str, out: &mut String) {
    if !has_stand_ins(text) {
        out.push_str(text);
        return;
    }
    let mut buffer = [0; 4];
    for character in text.chars() {
        match stands_for(character) {
            Some(_) => push_bytes(character.encode_utf8(&mut buffer).as_bytes(), out),
            None => out.push(character),
        }
    }
}

fn push_bytes(bytes: &[u8], out: &mut String) {
    out.extend(bytes.iter().filter_map(|byte| char::from_u32(BASE + u32::from(*byte))));
}

fn stands_for(character: char) -> Option<u8> {
    u32::from(character).checked_sub(BASE).and_then(|byte| u8::try_from(byte).ok()).filter(|byte| *byte > 0x7f)
}

fn has_stand_ins(text: &str) -> bool {
    let bytes = text.as_bytes();
    memchr(LEAD, bytes).is_some()
        && [&b"\xf4\x8f\xbe"[..], b"\xf4\x8f\xbf"].iter().any(|lead| memmem::find(bytes, lead).is_some())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_stays_text() {
        for text in ["", "plain\r\n", "\u{fffd} €\u{10fffd}x"] {
            assert_eq!(bytes_of(&text_of(text.as_bytes())), text.as_bytes());
        }
        assert_eq!(text_of("€ 😀".as_bytes()), "€ 😀");
        assert_eq!(text_of(b"a\xffb").chars().count(), 3);
    }

    proptest! {
        #[test]
        fn any_bytes_come_back_however_they_are_cut(
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
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let (mut decoder, mut text) = (Decoder::default(), String::new());
            for pair in cuts.windows(2) {
                decoder.push(bytes.get(pair[0]..pair[1]).unwrap_or_default(), &mut text);
            }
            decoder.finish(&mut text);
            prop_assert_eq!(&text, &text_of(&bytes));
            prop_assert_eq!(bytes_of(&text).into_owned(), bytes);
        }
    }
}
