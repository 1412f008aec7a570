//! Standard output that is the answer: kept as it came, line ends, a last line without one and all other bytes
//! included, but for its secrets.

use std::borrow::Cow;

use memchr::memrchr2;

use ostler_protocol::{AnswerRange, Chunk, MAX_FINAL_TEXT, Output, chunk_members};
use ostler_redaction::{ByteRedactor, RunRedactor};
use ostler_storage::{Pending, Written};

/// What comes without the end of a line waits up to so many bytes before it goes on as a piece of its line.
const PIECE: usize = 64 * 1024;

/// An answer on its way.
#[derive(Debug)]
pub(crate) struct Document {
    redactor: ByteRedactor,
    reported_redactions: u64,
    /// What waits for the end of its line.
    waiting: Vec<u8>,
    /// The last read ended with a CR: a LF that comes next ends no other line.
    after_cr: bool,
    lines: u64,
    unfinished: bool,
    printed: Printed,
    /// Bytes that were kept.
    bytes: u64,
    /// The head of what was printed takes no more.
    full: bool,
    first: Option<Pending<Vec<Written>>>,
    newest: Option<Pending<Vec<Written>>>,
}

/// A piece of an answer, redacted.
#[derive(Debug)]
pub(crate) struct Piece {
    /// As it is stored.
    pub(crate) chunk: Chunk,
    /// How many bytes of the answer it is.
    size: usize,
}

/// What standard output said in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Printed {
    /// Its beginning, up to [`MAX_FINAL_TEXT`].
    pub(crate) head: String,
    /// Nothing but white space was printed.
    pub(crate) blank: bool,
    /// Where it is stored; `None` where nothing of it is.
    pub(crate) place: Option<AnswerRange>,
    /// Bytes that were not kept.
    pub(crate) lost: u64,
}

impl Document {
    /// One of which nothing has come.
    pub(crate) fn new(redactor: &RunRedactor) -> Self {
        Self {
            redactor: ByteRedactor::new(redactor),
            reported_redactions: 0,
            waiting: Vec::new(),
            after_cr: false,
            lines: 0,
            unfinished: false,
            printed: Printed { blank: true, ..Printed::default() },
            bytes: 0,
            full: false,
            first: None,
            newest: None,
        }
    }

    /// Takes what one read brought. Gives what is ready, redacted: whole lines, or a piece of a long one.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Option<Piece> {
        let piece = self.collect(bytes)?;
        let ready = self.redactor.push(&piece);
        self.piece(ready)
    }

    /// The stream has ended: gives what waited.
    pub(crate) fn finish(&mut self) -> Option<Piece> {
        self.lines += u64::from(std::mem::take(&mut self.unfinished));
        if self.printed.lost > 0 {
            return None;
        }
        let waiting = std::mem::take(&mut self.waiting);
        let mut ready = self.redactor.push(&waiting);
        ready.extend(self.redactor.finish());
        self.piece(ready)
    }

    fn collect(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.count_lines(bytes);
        if self.printed.lost > 0 {
            // It is not stored, so that it needs no redaction.
            self.printed.lost += bytes.len() as u64;
            return None;
        }
        let seen = self.waiting.len();
        self.waiting.extend_from_slice(bytes);
        let end = match memrchr2(b'\r', b'\n', bytes) {
            Some(last) => seen + last + 1,
            None if self.waiting.len() >= PIECE => self.waiting.len(),
            None => return None,
        };
        let rest = self.waiting.split_off(end);
        Some(std::mem::replace(&mut self.waiting, rest))
    }

    fn piece(&mut self, ready: Vec<u8>) -> Option<Piece> {
        if ready.is_empty() {
            return None;
        }
        let size = ready.len();
        let count = self.redactor.count();
        let redactions = count - std::mem::replace(&mut self.reported_redactions, count);
        let (text, base64) = chunk_members(Cow::Owned(ready));
        self.printed.blank &= text.trim().is_empty();
        Some(Piece { chunk: Chunk { text, redactions, truncated: false, lossy: base64.is_some(), base64 }, size })
    }

    /// Lines so far. CR, LF and CRLF end lines.
    pub(crate) const fn lines(&self) -> u64 {
        self.lines
    }

    /// A piece has been handed to the storage.
    pub(crate) fn kept(&mut self, piece: &Piece, written: Pending<Vec<Written>>) {
        self.take(&piece.chunk.text, piece.size);
        if self.first.is_none() {
            self.first = Some(written);
        } else {
            self.newest = Some(written);
        }
    }

    /// There was no room for a piece: nor is there for anything after it.
    pub(crate) fn lost(&mut self, piece: &Piece) {
        let behind = self.redactor.held() + std::mem::take(&mut self.waiting).len();
        self.printed.lost += (piece.size + behind) as u64;
    }

    /// All of it, with its place in the storage: waits for it.
    pub(crate) fn into_printed(self) -> Printed {
        let cursor = |written: Pending<Vec<Written>>| Some(written.wait().ok()?.first()?.cursor);
        let mut printed = self.printed;
        // That something is missing must be on record even if nothing is there.
        let nowhere = (printed.lost > 0).then_some(0);
        let from = self.first.map_or(nowhere, cursor);
        let to = self.newest.map_or(from, cursor);
        if let (Some(from_cursor), Some(to_cursor)) = (from, to) {
            let (bytes, lost_bytes) = (self.bytes, printed.lost);
            printed.place =
                Some(AnswerRange { output: Output::Text, bytes, from_cursor, to_cursor, message: None, lost_bytes });
        }
        printed
    }

    fn take(&mut self, text: &str, size: usize) {
        self.bytes += size as u64;
        if self.full {
            return;
        }
        let end = text.floor_char_boundary(MAX_FINAL_TEXT - self.printed.head.len());
        self.full = end < text.len();
        self.printed.head.push_str(text.get(..end).unwrap_or_default());
    }

    fn count_lines(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        if let (true, [b'\n', after @ ..]) = (self.after_cr, rest) {
            rest = after;
        }
        let ends = memchr::memchr2_iter(b'\r', b'\n', rest).count() - memchr::memmem::find_iter(rest, b"\r\n").count();
        self.lines += ends as u64;
        if let Some(last) = bytes.last() {
            self.after_cr = *last == b'\r';
            self.unfinished = !matches!(last, b'\r' | b'\n');
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::test_support::redactor_masking;
    use ostler_protocol::chunk_bytes;

    fn pieces(reads: &[&[u8]]) -> (Vec<Vec<u8>>, u64) {
        let mut document = Document::new(&redactor_masking(&[]));
        let mut pieces: Vec<Piece> = reads.iter().filter_map(|read| document.push(read)).collect();
        pieces.extend(document.finish());
        let bytes = |piece: Piece| chunk_bytes(&json!(piece.chunk)).into_owned();
        (pieces.into_iter().map(bytes).collect(), document.lines())
    }

    #[test]
    fn pieces_are_whole_lines_and_keep_their_ends() {
        let (pieces, lines) = pieces(&[b"a\r", b"\nb\nc", b"d\r\n\r\n", b"e"]);
        assert_eq!(pieces, [&b"a\r\nb\n"[..], b"cd\r\n\r\n", b"e"]);
        assert_eq!(lines, 5);
    }

    #[test]
    fn a_line_without_an_end_comes_in_pieces_of_bounded_size() {
        let mut document = Document::new(&redactor_masking(&[]));
        let read = vec![b'x'; 10_000];
        let mut come = 0;
        for _ in 0..1000 {
            come += document.push(&read).map_or(0, |piece| piece.size);
            assert!(document.waiting.len() < PIECE && document.redactor.held() < 4 * PIECE);
        }
        assert_eq!(come + document.finish().map_or(0, |piece| piece.size), 10_000_000);
        assert_eq!(document.lines(), 1);
    }

    #[test]
    fn the_head_of_a_long_answer_ends_between_characters() {
        let mut document = Document::new(&redactor_masking(&[]));
        for _ in 0..4 {
            let text = "xä€".repeat(60_000);
            document.take(&text, text.len());
        }
        let length = document.printed.head.len();
        assert!(length <= MAX_FINAL_TEXT && length > MAX_FINAL_TEXT - 4);
        assert_eq!(document.bytes, 4 * 6 * 60_000);
    }

    proptest! {
        #[test]
        fn the_same_document_comes_however_it_is_cut(
            bytes in prop_oneof!["[ab\r\né€😀]{0,60}".prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..60)],
            cuts in prop::collection::vec(0_usize..200, 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let reads: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let (parts, lines) = pieces(&reads);
            prop_assert_eq!(parts.concat(), bytes.clone());
            prop_assert_eq!(lines, pieces(&[&bytes]).1);
        }
    }
}
