//! Redaction of text that arrives in pieces.

use std::fmt;

use memchr::{memchr, memrchr};

use super::apply::{LIMIT, PieceEnd, State, process};
use super::cut::{safe_cut, shown_end};
use super::matcher::CONTEXT;
use super::name_and_value;
use super::run::RunRedactor;
use super::text::floor_boundary;

/// Up to this many bytes, an unfinished line is examined whenever it grows; beyond, whenever it has grown by an eighth.
const EAGER: usize = 4 * 1024;

/// Redacts one stream. The same bytes cut at any places give the same output.
///
/// A finished line is released at once; of an unfinished one, the part that no rule can match any more. At most 64 KiB
/// are held back. Dropping it releases nothing: call [`finish`](Self::finish) at the end of input, and on a kill.
pub struct StreamRedactor {
    run: RunRedactor,
    state: State,
    /// The end of the released part of the current line, followed by the part that is held back.
    text: String,
    /// Length of the released part.
    released: usize,
    /// Length of the held part at which it is examined again.
    next_look: usize,
    /// The text contains finished lines: a known value may continue on the next one, or a value have its name there.
    wrapped: bool,
    /// The start of an incomplete character.
    partial: Vec<u8>,
    count: u64,
}

impl fmt::Debug for StreamRedactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamRedactor").field("held", &self.held()).field("count", &self.count).finish_non_exhaustive()
    }
}

impl StreamRedactor {
    pub(super) fn new(run: RunRedactor) -> Self {
        Self {
            run,
            state: State::default(),
            text: String::new(),
            released: 0,
            next_look: 0,
            wrapped: false,
            partial: Vec::new(),
            count: 0,
        }
    }

    /// Takes further text and appends the output that is ready to `out`.
    pub fn push(&mut self, text: &str, out: &mut String) {
        if !self.partial.is_empty() {
            self.partial.clear();
            self.take("\u{fffd}", out);
        }
        self.take(text, out);
        self.release(out);
    }

    /// Takes further bytes, which may end inside a character; invalid UTF-8 becomes U+FFFD.
    pub fn push_bytes(&mut self, bytes: &[u8], out: &mut String) {
        let joined;
        let mut rest = bytes;
        if !self.partial.is_empty() {
            joined = [self.partial.as_slice(), bytes].concat();
            self.partial.clear();
            rest = &joined;
        }
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.take(text, out);
                    break;
                }
                Err(error) => {
                    let (good, bad) = rest.split_at(error.valid_up_to());
                    self.take(std::str::from_utf8(good).unwrap_or_default(), out);
                    let Some(length) = error.error_len() else {
                        self.partial = bad.to_vec();
                        break;
                    };
                    self.take("\u{fffd}", out);
                    rest = bad.get(length..).unwrap_or_default();
                }
            }
        }
        self.release(out);
    }

    /// Ends the stream: the held part is redacted and appended. Afterwards a new stream may start.
    pub fn finish(&mut self, out: &mut String) {
        if !self.partial.is_empty() {
            self.partial.clear();
            self.take("\u{fffd}", out);
        }
        if self.held() > 0 {
            self.process(self.text.len(), PieceEnd::Last, out);
        }
        self.state = State::default();
        self.start_line();
    }

    /// Appends the held part, redacted as if the text ended here, without releasing it. Left out is what may be the start of
    /// a secret; see [`shown_end`]. Returns the number of placeholders.
    pub(super) fn preview(&self, out: &mut String) -> u64 {
        let shared = self.run.shared();
        let end = shown_end(&shared, &self.text, self.released);
        let text = self.text.get(..floor_boundary(&self.text, end)).unwrap_or_default();
        if text.len() <= self.released {
            return 0;
        }
        process(&shared, &mut self.state.clone(), text, self.released, PieceEnd::Last, out).1
    }

    /// Whether a later line can tell whether the held text is a secret.
    pub(super) fn awaits_line(&self) -> bool {
        let shared = self.run.shared();
        let redactor = &shared.redactor;
        self.wrapped
            || self.state.block.is_some()
            || self.state.named.is_some()
            || redactor.lookback > 0
            || redactor.scans
            || redactor.withhold
    }

    /// The number of placeholders so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The number of bytes that are held back.
    pub fn held(&self) -> usize {
        self.text.len() - self.released + self.partial.len()
    }

    /// Takes text without checking whether the unfinished line at its end can be split.
    pub(super) fn take(&mut self, mut text: &str, out: &mut String) {
        while !text.is_empty() {
            if self.text.is_empty() {
                let window = text.as_bytes().get(..text.len().min(LIMIT)).unwrap_or_default();
                if let Some(newline) = memrchr(b'\n', window) {
                    let (lines, rest) = text.split_at(newline + 1);
                    let held = self.held_lines(lines);
                    let (lines, held) = lines.split_at(held);
                    if !lines.is_empty() {
                        self.count += process(&self.run.shared(), &mut self.state, lines, 0, PieceEnd::Clean, out).1;
                    }
                    self.text.push_str(held);
                    self.wrapped = !held.is_empty();
                    text = rest;
                    continue;
                }
            }
            let room = (LIMIT + 4).saturating_sub(self.text.len() - self.released).min(text.len());
            let newline = memchr(b'\n', text.as_bytes().get(..room).unwrap_or_default());
            let end = newline.map_or_else(|| floor_boundary(text, room), |newline| newline + 1);
            let (piece, rest) = text.split_at(end);
            self.text.push_str(piece);
            text = rest;
            if newline.is_some() {
                self.end_line(out);
            } else if self.text.len() - self.released >= LIMIT {
                self.reduce(out);
            }
        }
    }

    /// The start of the lines that are held back for the next one: a known value may continue there, or a value may
    /// have its name there.
    fn held_lines(&self, lines: &str) -> usize {
        let line_of =
            |at: usize| memrchr(b'\n', lines.as_bytes().get(..at).unwrap_or_default()).map_or(0, |newline| newline + 1);
        let last = line_of(lines.len().saturating_sub(1));
        let unnamed = lines.get(last..).is_some_and(name_and_value::awaits_name);
        let held = if unnamed { last } else { lines.len() };
        let wrapped = self.run.shared().masks.wrapped_before(lines.as_bytes());
        wrapped.map_or(held, |begins| line_of(begins).min(held))
    }

    /// Releases a finished line, with the held lines before it, unless a known value may continue on the next one.
    fn end_line(&mut self, out: &mut String) {
        let held = self.held_lines(self.text.get(self.released..).unwrap_or_default()) + self.released;
        let rest = self.text.get(held..).unwrap_or_default().to_owned();
        if held > self.released {
            self.process(held, PieceEnd::Clean, out);
        } else if self.released > 0 && !rest.is_empty() {
            // The start of the line is released already; it stays as context.
            self.wrapped = true;
            return;
        }
        self.start_line();
        self.wrapped = !rest.is_empty();
        self.text.push_str(&rest);
    }

    /// Releases a part of a line that is longer than the limit.
    fn reduce(&mut self, out: &mut String) {
        let cut = if self.state.block.is_some() || self.wrapped {
            self.released
        } else {
            safe_cut(&self.run.shared(), &self.text, self.released)
        };
        if cut - self.released >= LIMIT / 4 {
            self.process(cut, PieceEnd::Clean, out);
        } else {
            self.process(self.text.len(), PieceEnd::Forced, out);
        }
        self.next_look = 0;
    }

    /// Releases the text that no rule can match any more.
    fn release(&mut self, out: &mut String) {
        let held = self.text.len() - self.released;
        if held == 0 || held < self.next_look || self.state.block.is_some() || self.wrapped {
            return;
        }
        if self.released == 0 && name_and_value::may_be_value(self.state.named.as_ref(), &self.text) {
            return;
        }
        let cut = safe_cut(&self.run.shared(), &self.text, self.released);
        if cut > self.released {
            self.process(cut, PieceEnd::Clean, out);
        }
        let held = self.text.len() - self.released;
        self.next_look = if held > EAGER { held + held / 8 } else { 0 };
    }

    /// Redacts and releases the text up to `end`, and keeps its end as context.
    fn process(&mut self, end: usize, piece: PieceEnd, out: &mut String) {
        let text = self.text.get(..end).unwrap_or_default();
        let (reached, count) = process(&self.run.shared(), &mut self.state, text, self.released, piece, out);
        self.count += count;
        let context = floor_boundary(&self.text, reached.saturating_sub(CONTEXT + 4));
        self.text.drain(..context);
        self.released = reached - context;
    }

    fn start_line(&mut self) {
        self.text.clear();
        // Free the memory of a long line.
        self.text.shrink_to(EAGER);
        self.released = 0;
        self.next_look = 0;
        self.wrapped = false;
    }
}
