//! All keywords of all rules, found in one pass.

use std::ops::Range;

use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::dfa::DFA;
use aho_corasick::{Anchored, MatchKind};

/// Literals, compared without regard to ASCII case.
pub(super) struct Literals {
    dfa: DFA,
    start: StateID,
}

impl Literals {
    /// # Errors
    /// There are too many literals.
    pub(super) fn new(literals: &[String]) -> Result<Self, String> {
        let dfa = DFA::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .build(literals)
            .map_err(|error| error.to_string())?;
        let start = dfa.start_state(Anchored::No).map_err(|error| error.to_string())?;
        Ok(Self { dfa, start })
    }

    /// Every literal in the text, including overlapping ones, in the order of their ends.
    pub(super) fn all<'a>(&'a self, text: &'a [u8]) -> Hits<'a> {
        Hits { dfa: &self.dfa, state: self.start, text, at: 0, returned: 0, count: 0 }
    }

    pub(super) fn any(&self, text: &[u8]) -> bool {
        self.all(text).next().is_some()
    }
}

/// A literal in a text.
pub(super) struct Hit {
    /// Its index.
    pub(super) literal: usize,
    /// Its range.
    pub(super) range: Range<usize>,
}

/// See [`Literals::all`]. Does the same as `AhoCorasick::find_overlapping_iter`, which saves its state at each byte, in
/// half of the time.
pub(super) struct Hits<'a> {
    dfa: &'a DFA,
    state: StateID,
    text: &'a [u8],
    /// The number of bytes that were read.
    at: usize,
    /// Of the literals that end here: how many were returned, and how many there are.
    returned: usize,
    count: usize,
}

impl Iterator for Hits<'_> {
    type Item = Hit;

    fn next(&mut self) -> Option<Hit> {
        if self.returned == self.count {
            let mut state = self.state;
            let read = self.text.get(self.at..)?.iter().position(|&byte| {
                state = self.dfa.next_state(Anchored::No, state, byte);
                self.dfa.is_special(state) && self.dfa.is_match(state)
            });
            self.state = state;
            // At the end of the text.
            self.at = read.map_or(usize::MAX, |read| self.at + read + 1);
            read?;
            (self.returned, self.count) = (0, self.dfa.match_len(state));
        }
        let literal = self.dfa.match_pattern(self.state, self.returned);
        self.returned += 1;
        Some(Hit { literal: literal.as_usize(), range: self.at - self.dfa.pattern_len(literal)..self.at })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use aho_corasick::AhoCorasick;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn finds_the_same_as_the_library(
            literals in prop::collection::vec("[abAB]{1,4}", 1..8),
            text in "[abABx]{0,60}",
        ) {
            let library = AhoCorasick::builder().ascii_case_insensitive(true).build(&literals).unwrap();
            let expected: Vec<_> =
                library.find_overlapping_iter(&text).map(|hit| (hit.pattern().as_usize(), hit.range())).collect();
            let ours = Literals::new(&literals).unwrap();
            let found: Vec<_> = ours.all(text.as_bytes()).map(|hit| (hit.literal, hit.range)).collect();
            prop_assert_eq!(ours.any(text.as_bytes()), !found.is_empty());
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn empty_set_of_literals_finds_nothing() {
        assert!(!Literals::new(&[]).unwrap().any(b"text"));
    }
}
