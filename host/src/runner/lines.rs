//! Splits a stream of bytes into lines of text, with bounded memory whatever comes.

/// How long a line may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineCaps {
    /// Bytes of a line that are kept at all, for a plugin's transcript.
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
pub struct LineSplitter {}

/// The lines that one read completed, in one text: each followed by a line feed, whatever ended it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {}

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

impl LineSplitter {
    /// A splitter at the beginning of a stream.
    pub fn new(caps: LineCaps) -> Self {
        todo!()
    }

    /// Takes what one read brought and returns the lines that it completed, `None` where it completed none.
    pub fn push(&mut self, bytes: &[u8]) -> Option<Batch> {
        todo!()
    }

    /// The stream has ended: the last line, if it had no end of its own.
    pub fn finish(&mut self) -> Option<Batch> {
        todo!()
    }

    /// Bytes that wait for the end of their line.
    pub fn pending(&self) -> usize {
        todo!()
    }
}

impl Batch {
    /// The lines, in order.
    pub fn lines(&self) -> impl ExactSizeIterator<Item = Line<'_>> {
        [].into_iter()
    }

    /// All lines in one text, each followed by a line feed.
    pub fn text(&self) -> &str {
        todo!()
    }

    /// As [`Batch::text`] without a copy.
    pub fn into_text(self) -> String {
        todo!()
    }

    /// Whether a line is longer than the shown cap, so that [`Batch::text`] is not what is to be shown.
    pub fn exceeds_shown(&self) -> bool {
        todo!()
    }

    /// Whether invalid UTF-8 was replaced in any line.
    pub fn lossy(&self) -> bool {
        todo!()
    }
}
