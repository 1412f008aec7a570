//! Splits a stream of bytes into lines of text, with bounded memory for any input.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter, memchr2, memrchr2};

/// How long a line may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineCaps {
    /// Bytes of a line that are kept, for a plugin's transcript.
    pub transcript: usize,
    /// Bytes of a line's text that are shown and stored.
    pub shown: usize,
}

impl Default for LineCaps {
    /// 16 MiB kept, 100,000 bytes shown.
    fn default() -> Self {
        Self { transcript: 16 * 1024 * 1024, shown: 100_000 }
    }
}

/// Splits one stream. CR, LF and CRLF end lines.
#[derive(Debug)]
pub struct LineSplitter {
    caps: LineCaps,
    /// The start of a line whose end has not arrived, at most the transcript cap.
    begun: Vec<u8>,
    /// Whether that line had more bytes than are kept.
    cut: bool,
    /// The last read ended with a CR: a LF that comes next belongs to it.
    after_cr: bool,
}

/// The lines that one read completed, in one text: each followed by a line feed, whatever its own terminator was.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    text: String,
    lines: Vec<Extent>,
    shown_cap: usize,
}

/// Where a line ends in its batch's text, without the line feed, and what was done to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    end: usize,
    truncated: bool,
    lossy: bool,
}

/// One line, without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// Its text up to the transcript cap; invalid UTF-8 is replaced.
    pub text: &'a str,
    /// Its text up to the shown cap, cut between characters.
    pub shown: &'a str,
    /// Whether `text` was cut: the line had more bytes than the transcript cap.
    pub truncated: bool,
    /// Whether invalid UTF-8 was replaced.
    pub lossy: bool,
}

impl Line<'_> {
    /// Whether `shown` is not the whole line.
    pub fn is_cut(&self) -> bool {
        self.truncated || self.shown.len() < self.text.len()
    }
}

impl LineSplitter {
    /// A splitter at the beginning of a stream.
    pub fn new(caps: LineCaps) -> Self {
        Self { caps, begun: Vec::new(), cut: false, after_cr: false }
    }

    /// Takes the bytes of one read and returns the lines that they complete, `None` if they complete none.
    pub fn push(&mut self, bytes: &[u8]) -> Option<Batch> {
        let bytes = match bytes {
            [] => return None,
            [b'\n', rest @ ..] if self.after_cr => rest,
            bytes => bytes,
        };
        self.after_cr = false;
        let Some(last) = memrchr2(b'\r', b'\n', bytes) else {
            self.keep(bytes);
            return None;
        };
        let (whole, begun) = bytes.split_at(last + 1);
        self.after_cr = begun.is_empty() && whole.last() == Some(&b'\r');
        let batch = self.complete(whole);
        self.keep(begun);
        Some(batch)
    }

    /// The last line, if the stream ended without a line terminator.
    pub fn finish(&mut self) -> Option<Batch> {
        self.after_cr = false;
        if self.begun.is_empty() && !self.cut {
            return None;
        }
        Some(self.complete(b"\n"))
    }

    /// Bytes that wait for the end of their line.
    pub fn pending(&self) -> usize {
        self.begun.len()
    }

    /// Keeps bytes of a line whose end has not arrived, up to the cap.
    fn keep(&mut self, bytes: &[u8]) {
        let room = self.caps.transcript.saturating_sub(self.begun.len());
        self.cut |= bytes.len() > room;
        let bytes = bytes.get(..room).unwrap_or(bytes);
        let wanted = self.begun.len() + bytes.len();
        if wanted > self.begun.capacity() {
            // Doubling, but never beyond the cap.
            let capacity = wanted.max(self.begun.capacity() * 2).min(self.caps.transcript.max(wanted));
            self.begun.reserve_exact(capacity - self.begun.len());
        }
        self.begun.extend_from_slice(bytes);
    }

    /// Makes the batch of the unfinished line and `whole`, which ends with a line terminator.
    fn complete(&mut self, whole: &[u8]) -> Batch {
        let begun = std::mem::take(&mut self.begun);
        let cut = std::mem::take(&mut self.cut);
        // No line can be longer than all of it.
        let within_cap = !cut && begun.len() + whole.len() <= self.caps.transcript;
        if within_cap && memchr(b'\r', whole).is_none() {
            let begun = match self.adopt(begun, whole) {
                Ok(batch) => return batch,
                Err(begun) => begun,
            };
            return self.convert(&begun, cut, whole);
        }
        self.convert(&begun, cut, whole)
    }

    /// Makes a batch without copying line by line, if the bytes are valid text. Otherwise returns the unfinished line.
    fn adopt(&self, begun: Vec<u8>, whole: &[u8]) -> Result<Batch, Vec<u8>> {
        let length = begun.len();
        let mut bytes = begun;
        bytes.reserve_exact(whole.len());
        bytes.extend_from_slice(whole);
        let text = String::from_utf8(bytes).map_err(|error| {
            let mut bytes = error.into_bytes();
            bytes.truncate(length);
            bytes
        })?;
        let extent = |end| Extent { end, truncated: false, lossy: false };
        let lines = memchr_iter(b'\n', text.as_bytes()).map(extent).collect();
        Ok(Batch { text, lines, shown_cap: self.caps.shown })
    }

    /// Converts line by line: for terminators other than LF, lines beyond the cap, invalid UTF-8.
    fn convert(&self, begun: &[u8], cut: bool, whole: &[u8]) -> Batch {
        let mut batch = Batch {
            text: String::with_capacity(begun.len() + whole.len()),
            lines: Vec::new(),
            shown_cap: self.caps.shown,
        };
        let mut rest = whole;
        let mut begun = Some(begun);
        while !rest.is_empty() {
            let end = memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
            let (line, ended) = rest.split_at(end);
            rest = match ended {
                [b'\r', b'\n', rest @ ..] | [_, rest @ ..] => rest,
                [] => ended,
            };
            match begun.take() {
                Some(begun) if !begun.is_empty() || cut => {
                    let room = self.caps.transcript.saturating_sub(begun.len());
                    let kept = if cut { &[] } else { line.get(..room).unwrap_or(line) };
                    let truncated = cut || kept.len() < line.len();
                    batch.add(&[begun, kept].concat(), truncated, self.caps.transcript);
                }
                _ => {
                    let kept = line.get(..self.caps.transcript).unwrap_or(line);
                    batch.add(kept, kept.len() < line.len(), self.caps.transcript);
                }
            }
        }
        batch
    }
}

impl Batch {
    /// The lines, in order.
    pub fn lines(&self) -> impl ExactSizeIterator<Item = Line<'_>> {
        let mut start = 0;
        self.lines.iter().map(move |extent| {
            let text = self.text.get(start..extent.end).unwrap_or_default();
            start = extent.end + 1;
            let shown = text.get(..text.floor_char_boundary(self.shown_cap)).unwrap_or_default();
            Line { text, shown, truncated: extent.truncated, lossy: extent.lossy }
        })
    }

    /// All lines in one text, each followed by a line feed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// As [`Batch::text`] without a copy.
    pub fn into_text(self) -> String {
        self.text
    }

    /// As [`Batch::text`], with each line cut to the shown cap.
    pub fn shown_text(&self) -> Cow<'_, str> {
        if !self.exceeds_shown() {
            return Cow::Borrowed(&self.text);
        }
        let mut text = String::new();
        for line in self.lines() {
            text.push_str(line.shown);
            text.push('\n');
        }
        Cow::Owned(text)
    }

    /// Whether a line's text is longer than the shown cap, so that [`Batch::text`] is not what is to be shown.
    pub fn exceeds_shown(&self) -> bool {
        // The whole text is seldom longer than a single line may be.
        self.text.len() > self.shown_cap && self.lines().any(|line| line.shown.len() < line.text.len())
    }

    /// Whether any line was cut at the transcript cap.
    pub fn truncated(&self) -> bool {
        self.lines.iter().any(|line| line.truncated)
    }

    /// Whether invalid UTF-8 was replaced in any line.
    pub fn lossy(&self) -> bool {
        self.lines.iter().any(|line| line.lossy)
    }

    /// Adds one line. Replacement can make the text longer, so the cap is applied again.
    fn add(&mut self, bytes: &[u8], mut truncated: bool, cap: usize) {
        let start = self.text.len();
        let mut lossy = false;
        let mut left = bytes.len();
        for chunk in bytes.utf8_chunks() {
            left -= chunk.valid().len() + chunk.invalid().len();
            // A character that the cut itself divided is not invalid UTF-8 of the stream.
            let cut_through = truncated && left == 0 && chunk.invalid().len() < 4;
            let replacement = if chunk.invalid().is_empty() || cut_through { "" } else { "\u{fffd}" };
            if self.text.len() - start + chunk.valid().len() + replacement.len() > cap {
                let room = cap.saturating_sub(self.text.len() - start);
                let valid = chunk.valid();
                self.text.push_str(valid.get(..valid.floor_char_boundary(room)).unwrap_or_default());
                truncated = true;
                break;
            }
            self.text.push_str(chunk.valid());
            self.text.push_str(replacement);
            lossy |= !replacement.is_empty();
        }
        self.lines.push(Extent { end: self.text.len(), truncated, lossy });
        self.text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn split(caps: LineCaps, reads: &[&[u8]]) -> Vec<(String, bool, bool)> {
        let mut splitter = LineSplitter::new(caps);
        let mut batches: Vec<Batch> = reads.iter().filter_map(|read| splitter.push(read)).collect();
        batches.extend(splitter.finish());
        assert_eq!(splitter.pending(), 0);
        let mut lines = Vec::new();
        for batch in &batches {
            let joined: String = batch.lines().map(|line| format!("{}\n", line.text)).collect();
            assert_eq!(joined, batch.text());
            lines.extend(batch.lines().map(|line| (line.text.to_owned(), line.truncated, line.lossy)));
        }
        lines
    }

    fn texts(reads: &[&[u8]]) -> Vec<String> {
        split(LineCaps::default(), reads).into_iter().map(|(text, ..)| text).collect()
    }

    /// The reference implementation: one byte at a time.
    fn naive(bytes: &[u8], cap: usize) -> Vec<(Vec<u8>, bool)> {
        let mut lines = Vec::new();
        let mut line: Option<Vec<u8>> = None;
        let mut index = 0;
        let end = |line: &mut Option<Vec<u8>>, lines: &mut Vec<(Vec<u8>, bool)>| {
            let mut whole = line.take().unwrap_or_default();
            let cut = whole.len() > cap;
            whole.truncate(cap);
            lines.push((whole, cut));
        };
        while let Some(byte) = bytes.get(index) {
            match byte {
                b'\n' => end(&mut line, &mut lines),
                b'\r' => {
                    end(&mut line, &mut lines);
                    index += usize::from(bytes.get(index + 1) == Some(&b'\n'));
                }
                byte => line.get_or_insert_default().push(*byte),
            }
            index += 1;
        }
        if line.is_some() {
            end(&mut line, &mut lines);
        }
        lines
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_reads_cut_the_stream(
            text in "[ab\r\né€😀]{0,60}", cuts in prop::collection::vec(0usize..200, 0..6), cap in 1usize..40,
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let reads: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let caps = LineCaps { transcript: cap, shown: 7 };
            let lines = split(caps, &reads);
            let expected = naive(bytes, cap);
            prop_assert_eq!(lines.len(), expected.len());
            for ((text, truncated, lossy), (raw, cut)) in lines.into_iter().zip(expected) {
                prop_assert_eq!(truncated, cut);
                prop_assert!(!lossy);
                let whole = String::from_utf8_lossy(&raw);
                prop_assert_eq!(text.as_str(), if cut { whole.trim_end_matches('\u{fffd}') } else { &whole });
            }
        }

        #[test]
        fn random_bytes_stay_within_the_caps(
            reads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..8), cap in 1usize..60,
        ) {
            let reads: Vec<&[u8]> = reads.iter().map(Vec::as_slice).collect();
            let whole = reads.concat();
            for (text, truncated, _) in split(LineCaps { transcript: cap, shown: 5 }, &reads) {
                prop_assert!(text.len() <= cap);
                prop_assert!(truncated || text.is_empty() || String::from_utf8_lossy(&whole).contains(&text));
            }
        }
    }

    #[test]
    fn lf_cr_and_crlf_end_lines() {
        assert_eq!(texts(&[b"a\nb\rc\r\nd"]), ["a", "b", "c", "d"]);
        assert_eq!(texts(&[b"a\r", b"\nb\r", b"c\n", b"\r\n"]), ["a", "b", "c", ""]);
        assert_eq!(texts(&[b"\n\n", b"\r\r\n"]), ["", "", "", ""]);
        assert_eq!(texts(&[b"", b"a", b"", b"b"]), ["ab"]);
        assert!(texts(&[b"", b""]).is_empty());
    }

    #[test]
    fn split_character_is_joined_and_invalid_utf8_is_replaced() {
        assert_eq!(texts(&[b"\xe2\x82", b"\xac\n"]), ["€"]);
        let lines = split(LineCaps::default(), &[b"ok\n\xff\xfe x\nfine\n"]);
        assert_eq!(lines[1], ("\u{fffd}\u{fffd} x".to_owned(), false, true));
        assert_eq!((lines[0].2, lines[2].2), (false, false));
    }

    #[test]
    fn line_without_terminator_stays_within_the_cap() {
        let caps = LineCaps { transcript: 1 << 20, shown: 100 };
        let mut splitter = LineSplitter::new(caps);
        let read = vec![b'x'; 64 * 1024];
        for _ in 0..16 * 64 {
            assert_eq!(splitter.push(&read), None);
            assert!(splitter.begun.capacity() <= caps.transcript);
        }
        let batch = splitter.finish().unwrap();
        let line = batch.lines().next().unwrap();
        assert_eq!((line.text.len(), line.shown.len(), line.truncated, line.is_cut()), (1 << 20, 100, true, true));
        assert_eq!(batch.shown_text().len(), 101);
        // Invalid bytes grow when they are replaced, and still stay within the cap.
        splitter.push(&vec![0xff; 1 << 20]);
        let batch = splitter.push(b"\nnext\n").unwrap();
        assert!(batch.text().len() < (1 << 20) + 10);
        assert_eq!(batch.lines().nth(1).unwrap().text, "next");
    }
}
