//! Decodes the bytes of a terminal to keys.

/// A key, or text that was pasted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Char(char),
    /// Text that was pasted, with line feeds.
    Paste(String),
    Enter,
    /// A line end inside a message: Alt-Enter or Ctrl-J.
    LineBreak,
    Backspace,
    Delete,
    Left,
    Right,
    Up,
    Down,
    Home,
    End,
    /// To the start of the word before the cursor.
    WordLeft,
    /// To the end of the word after the cursor.
    WordRight,
    Escape,
    /// Ctrl with a letter.
    Ctrl(char),
}

/// The start of a bracketed paste, and its end.
const PASTE_START: &[u8] = b"\x1b[200~";
const PASTE_END: &[u8] = b"\x1b[201~";

/// Longest escape sequence that is waited for, in bytes.
const MAX_SEQUENCE: usize = 32;
/// Longest paste, in bytes. The limit of a message is the same.
const MAX_PASTE: usize = 8 << 20;

/// Decodes keys. The bytes can be cut anywhere.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    pending: Vec<u8>,
    /// The text of a paste whose end has not arrived.
    paste: Option<Vec<u8>>,
}

impl Decoder {
    /// The keys of the bytes of one read.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<Key> {
        self.pending.extend_from_slice(bytes);
        let mut keys = Vec::new();
        loop {
            let pending = std::mem::take(&mut self.pending);
            let (used, key) = if self.paste.is_some() { self.pasted(&pending) } else { next(&pending) };
            self.pending = pending.get(used..).unwrap_or_default().to_vec();
            match key {
                Found::Key(key) => keys.push(key),
                Found::PasteStart => self.paste = Some(Vec::new()),
                Found::Nothing if used > 0 => {}
                Found::Nothing => break,
            }
            if self.pending.is_empty() {
                break;
            }
        }
        // An escape sequence arrives in one read, so a lone escape character is the key.
        if self.paste.is_none() && self.pending == [0x1b] {
            self.pending.clear();
            keys.push(Key::Escape);
        }
        join_lines(keys)
    }

    /// Takes the next part of a paste.
    fn pasted(&mut self, bytes: &[u8]) -> (usize, Found) {
        let end = bytes.windows(PASTE_END.len()).position(|window| window == PASTE_END);
        let text = self.paste.get_or_insert_default();
        // The end marker may be cut.
        let taken = end.unwrap_or_else(|| bytes.len().saturating_sub(PASTE_END.len() - 1));
        let room = MAX_PASTE.saturating_sub(text.len());
        text.extend(bytes.iter().take(taken).take(room));
        if end.is_none() {
            return (taken, Found::Nothing);
        }
        let text = self.paste.take().unwrap_or_default();
        let text = String::from_utf8_lossy(&text).replace("\r\n", "\n").replace('\r', "\n");
        (taken + PASTE_END.len(), Found::Key(Key::Paste(text)))
    }
}

/// A terminal without bracketed paste sends a paste as keys, in one read. Its line ends do not send the message: Enter
/// before other text becomes a line break.
fn join_lines(mut keys: Vec<Key>) -> Vec<Key> {
    let is_text = |key: &Key| matches!(key, Key::Char(_) | Key::Enter | Key::LineBreak);
    if keys.len() < 4 || !keys.iter().all(is_text) {
        return keys;
    }
    let last = keys.len() - 1;
    for key in keys.iter_mut().take(last).filter(|key| **key == Key::Enter) {
        *key = Key::LineBreak;
    }
    keys
}

enum Found {
    Key(Key),
    PasteStart,
    Nothing,
}

/// The first key and its number of bytes. No bytes are used if more must arrive.
fn next(bytes: &[u8]) -> (usize, Found) {
    let Some(first) = bytes.first().copied() else { return (0, Found::Nothing) };
    let key = match first {
        b'\r' => Key::Enter,
        b'\n' => Key::LineBreak,
        b'\t' => Key::Char('\t'),
        0x7f | 0x08 => Key::Backspace,
        0x1b => return escape(bytes),
        0x01..=0x1a => Key::Ctrl(char::from(first - 1 + b'a')),
        0x00 | 0x1c..=0x1f => return (1, Found::Nothing),
        _ => return character(bytes),
    };
    (1, Found::Key(key))
}

/// A UTF-8 character. Invalid bytes are ignored.
fn character(bytes: &[u8]) -> (usize, Found) {
    let head = bytes.get(..bytes.len().min(4)).unwrap_or_default();
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) => {
            if error.valid_up_to() == 0 {
                // Without a length, the character is cut.
                return (error.error_len().unwrap_or(0), Found::Nothing);
            }
            std::str::from_utf8(head.get(..error.valid_up_to()).unwrap_or_default()).unwrap_or_default()
        }
    };
    match valid.chars().next() {
        Some(character) if character.is_control() => (character.len_utf8(), Found::Nothing),
        Some(character) => (character.len_utf8(), Found::Key(Key::Char(character))),
        None => (0, Found::Nothing),
    }
}

fn escape(bytes: &[u8]) -> (usize, Found) {
    if bytes.starts_with(PASTE_START) {
        return (PASTE_START.len(), Found::PasteStart);
    }
    match bytes.get(1) {
        None => (0, Found::Nothing),
        Some(b'[' | b'O') => sequence(bytes),
        Some(b'\r' | b'\n') => (2, Found::Key(Key::LineBreak)),
        Some(b'b') => (2, Found::Key(Key::WordLeft)),
        Some(b'f') => (2, Found::Key(Key::WordRight)),
        Some(0x7f | 0x08) => (2, Found::Key(Key::Ctrl('w'))),
        Some(0x1b) => (1, Found::Key(Key::Escape)),
        // Alt with another key.
        Some(_) => (2, Found::Nothing),
    }
}

/// A sequence that begins with `ESC [` or `ESC O`. Unknown ones are ignored.
fn sequence(bytes: &[u8]) -> (usize, Found) {
    let end = bytes.iter().skip(2).take(MAX_SEQUENCE).position(|byte| (0x40..=0x7e).contains(byte));
    let Some(end) = end.map(|end| end + 2) else {
        return if bytes.len() > MAX_SEQUENCE { (bytes.len(), Found::Nothing) } else { (0, Found::Nothing) };
    };
    let parameters = bytes.get(2..end).unwrap_or_default();
    // Modifier 5 is Ctrl, 3 is Alt.
    let by_word = parameters.ends_with(b";5") || parameters.ends_with(b";3");
    let key = match (bytes.get(end).copied().unwrap_or_default(), parameters) {
        (b'A', _) => Key::Up,
        (b'B', _) => Key::Down,
        (b'C', _) if by_word => Key::WordRight,
        (b'D', _) if by_word => Key::WordLeft,
        (b'C', _) => Key::Right,
        (b'D', _) => Key::Left,
        (b'H', _) | (b'~', b"1" | b"7") => Key::Home,
        (b'F', _) | (b'~', b"4" | b"8") => Key::End,
        (b'~', b"3") => Key::Delete,
        // Enter with Shift or Alt, in terminals that distinguish it.
        (b'u', b"13;2" | b"13;3") => Key::LineBreak,
        _ => return (end + 1, Found::Nothing),
    };
    (end + 1, Found::Key(key))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(bytes: &str) -> Vec<Key> {
        Decoder::default().feed(bytes.as_bytes())
    }

    #[test]
    fn decodes_keys() {
        for (bytes, key) in [
            ("a", Key::Char('a')),
            ("ü", Key::Char('ü')),
            ("😀", Key::Char('😀')),
            ("\r", Key::Enter),
            ("\n", Key::LineBreak),
            ("\u{1b}\r", Key::LineBreak),
            ("\u{7f}", Key::Backspace),
            ("\u{1b}[A", Key::Up),
            ("\u{1b}OB", Key::Down),
            ("\u{1b}[1;5C", Key::WordRight),
            ("\u{1b}b", Key::WordLeft),
            ("\u{1b}[3~", Key::Delete),
            ("\u{1b}[H", Key::Home),
            ("\u{1b}[4~", Key::End),
            ("\u{1b}", Key::Escape),
            ("\u{4}", Key::Ctrl('d')),
        ] {
            assert_eq!(keys(bytes), [key], "{bytes:?}");
        }
        assert!(keys("\u{1b}[?1;2c\u{1b}x\u{0}").is_empty(), "answers of the terminal and unknown keys");
        assert_eq!(keys("\u{1b}\u{1b}[D"), [Key::Escape, Key::Left]);
    }

    #[test]
    fn paste_is_one_key_with_line_feeds() {
        let paste = |text: &str| format!("\u{1b}[200~{text}\u{1b}[201~");
        assert_eq!(keys(&paste("a\r\nb\rc\nd")), [Key::Paste("a\nb\nc\nd".to_owned())]);
        assert_eq!(keys(&format!("x{}\r", paste(""))), [Key::Char('x'), Key::Paste(String::new()), Key::Enter]);
        assert_eq!(keys(&paste("\u{1b}[A")), [Key::Paste("\u{1b}[A".to_owned())]);
    }

    #[test]
    fn lines_in_one_read_are_a_paste() {
        let breaks = |bytes| keys(bytes).iter().filter(|key| **key == Key::LineBreak).count();
        assert_eq!(breaks("one\rtwo\rthree"), 2);
        assert_eq!(breaks("one\rtwo\r"), 1);
        assert_eq!(keys("one\rtwo\r").last(), Some(&Key::Enter));
        assert_eq!(keys("y\r"), [Key::Char('y'), Key::Enter]);
    }

    proptest! {
        #[test]
        fn keys_do_not_depend_on_chunk_boundaries(parts in prop::collection::vec("[aü😀]{1,3}|\u{1b}\\[200~[a\r]{0,4}\u{1b}\\[201~", 0..6), cut in any::<prop::sample::Index>()) {
            let bytes = parts.concat().into_bytes();
            let cut = if bytes.is_empty() { 0 } else { cut.index(bytes.len()) };
            // A lone escape character at the end of a read is a key of its own.
            prop_assume!(cut == 0 || bytes[cut - 1] != 0x1b);
            let mut decoder = Decoder::default();
            let mut found = decoder.feed(&bytes[..cut]);
            found.extend(decoder.feed(&bytes[cut..]));
            prop_assert_eq!(found, keys(&parts.concat()));
        }

        #[test]
        fn any_bytes_are_decoded(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut decoder = Decoder::default();
            decoder.feed(&bytes);
            prop_assert!(decoder.pending.len() <= bytes.len());
        }
    }
}
