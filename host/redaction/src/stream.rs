//! Redaction of text that arrives in pieces.

use std::fmt;

use memchr::{memchr, memrchr};

use super::apply::{LIMIT, PieceEnd, State, process};
use super::cut::safe_cut;
use super::matcher::CONTEXT;
use super::run::RunRedactor;
use super::spread;
use super::text::floor_boundary;

/// Up to this many bytes, an unfinished line is looked at whenever it grows; beyond, whenever it has grown by an eighth.
const EAGER: usize = 4 * 1024;

/// Redacts one stream. The same bytes cut at any places give the same output.
///
/// A finished line goes out at once; of an unfinished one, all that no rule can claim any more. What is held is bounded
/// (64 KiB). Dropping it releases nothing: call [`finish`](Self::finish) at the end of input, and on a kill.
pub struct StreamRedactor {
    run: RunRedactor,
    state: State,
    /// The end of what was released of the current line, and what was not released yet.
    text: String,
    /// Length of the former.
    released: usize,
    /// Length of the latter at which it is looked at again.
    next_look: usize,
    /// It has lines that are finished: a known value may go on in the next one, or a value find its name there.
    wrapped: bool,
    /// The beginning of a character whose end has not come yet.
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

    /// Takes further text and appends to `out` what is ready.
    pub fn push(&mut self, text: &str, out: &mut String) {
        if !self.partial.is_empty() {
            self.partial.clear();
            self.take("\u{fffd}", out);
        }
        self.take(text, out);
        self.release(out);
    }

    /// Takes further bytes, which may end inside a character; what is no UTF-8 becomes U+FFFD.
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

    /// Ends the stream: what was held back is redacted and appended. Afterwards a new stream may begin.
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

    /// How many placeholders were put in so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Bytes that wait for more text.
    pub fn held(&self) -> usize {
        self.text.len() - self.released + self.partial.len()
    }

    /// Takes text without looking whether the unfinished line at its end can be parted.
    pub(super) fn take(&mut self, mut text: &str, out: &mut String) {
        while !text.is_empty() {
            if self.text.is_empty() {
                let window = text.as_bytes().get(..text.len().min(LIMIT)).unwrap_or_default();
                if let Some(newline) = memrchr(b'\n', window) {
                    let (lines, rest) = text.split_at(newline + 1);
                    let held = self.held_lines(lines);
                    let (lines, held) = lines.split_at(held);
                    if !lines.is_empty() {
                        self.count += process(&self.run.shared, &mut self.state, lines, 0, PieceEnd::Clean, out).1;
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

    /// The beginning of the lines that wait for the next one: a known value begins there that may go on in it, or there is
    /// a value of which it may have the name.
    fn held_lines(&self, lines: &str) -> usize {
        let line_of =
            |at: usize| memrchr(b'\n', lines.as_bytes().get(..at).unwrap_or_default()).map_or(0, |newline| newline + 1);
        let last = line_of(lines.len().saturating_sub(1));
        let unnamed = lines.get(last..).is_some_and(spread::awaits_name);
        let held = if unnamed { last } else { lines.len() };
        let wrapped = self.run.shared.masks.wrapped_before(lines.as_bytes());
        wrapped.map_or(held, |begins| line_of(begins).min(held))
    }

    /// Lets go of a finished line, with those that waited for it, as far as no known value goes on in the next one.
    fn end_line(&mut self, out: &mut String) {
        let held = self.held_lines(self.text.get(self.released..).unwrap_or_default()) + self.released;
        let rest = self.text.get(held..).unwrap_or_default().to_owned();
        if held > self.released {
            self.process(held, PieceEnd::Clean, out);
        } else if self.released > 0 && !rest.is_empty() {
            // The line's beginning is out already; it stays as context.
            self.wrapped = true;
            return;
        }
        self.start_line();
        self.wrapped = !rest.is_empty();
        self.text.push_str(&rest);
    }

    /// Makes room in a line that is longer than what may be held.
    fn reduce(&mut self, out: &mut String) {
        let cut = if self.state.block.is_some() || self.wrapped {
            self.released
        } else {
            safe_cut(&self.run.shared, &self.text, self.released)
        };
        if cut - self.released >= LIMIT / 4 {
            self.process(cut, PieceEnd::Clean, out);
        } else {
            self.process(self.text.len(), PieceEnd::Forced, out);
        }
        self.next_look = 0;
    }

    /// Lets go of what no rule can claim any more.
    fn release(&mut self, out: &mut String) {
        let held = self.text.len() - self.released;
        if held == 0 || held < self.next_look || self.state.block.is_some() || self.wrapped {
            return;
        }
        if self.released == 0 && spread::may_be_value(self.state.named.as_ref(), &self.text) {
            return;
        }
        let cut = safe_cut(&self.run.shared, &self.text, self.released);
        if cut > self.released {
            self.process(cut, PieceEnd::Clean, out);
        }
        let held = self.text.len() - self.released;
        self.next_look = if held > EAGER { held + held / 8 } else { 0 };
    }

    /// Redacts and releases the text up to `end`, and keeps the end of that as context.
    fn process(&mut self, end: usize, piece: PieceEnd, out: &mut String) {
        let text = self.text.get(..end).unwrap_or_default();
        let (reached, count) = process(&self.run.shared, &mut self.state, text, self.released, piece, out);
        self.count += count;
        let context = floor_boundary(&self.text, reached.saturating_sub(CONTEXT + 4));
        self.text.drain(..context);
        self.released = reached - context;
    }

    fn start_line(&mut self) {
        self.text.clear();
        // One long line must not cost its memory for the rest of the stream.
        self.text.shrink_to(EAGER);
        self.released = 0;
        self.next_look = 0;
        self.wrapped = false;
    }
}
