//! Input that waits to be written to a child.

use std::collections::VecDeque;

/// Blocks of input, in their order.
#[derive(Debug, Default)]
pub(super) struct Input {
    blocks: VecDeque<Vec<u8>>,
    /// How much of the first block has been written.
    written: usize,
    waiting: usize,
    /// The last byte that was added.
    last: Option<u8>,
    /// No more input follows.
    pub(super) closed: bool,
}

impl Input {
    pub(super) fn push(&mut self, bytes: Vec<u8>) {
        if let Some(last) = bytes.last() {
            self.last = Some(*last);
            self.waiting += bytes.len();
            self.blocks.push_back(bytes);
        }
    }

    /// What is to be written next; None if nothing waits.
    pub(super) fn next(&self) -> Option<&[u8]> {
        self.blocks.front().map(|block| block.get(self.written..).unwrap_or_default())
    }

    /// Removes bytes of [`Self::next`] that were written.
    pub(super) fn advance(&mut self, count: usize) {
        self.written += count;
        self.waiting = self.waiting.saturating_sub(count);
        if self.blocks.front().is_some_and(|block| self.written >= block.len()) {
            self.blocks.pop_front();
            self.written = 0;
        }
    }

    /// How many bytes wait.
    pub(super) const fn waiting(&self) -> usize {
        self.waiting
    }

    /// The last byte that was added; None if there was none.
    pub(super) const fn last(&self) -> Option<u8> {
        self.last
    }

    /// Discards what waits and takes no more. Returns how many bytes were discarded.
    pub(super) fn discard(&mut self) -> usize {
        let unwritten = self.waiting;
        *self = Self { closed: true, ..Self::default() };
        unwritten
    }
}
