//! How much of an unfinished line can be released: the text is split where no find can cross, whatever text follows.
//!
//! The position depends only on the text, not on how it was cut into pieces.

use super::compile::{Finder, Target};
use super::matcher::{CONTEXT, ESCAPE_REACH};
use super::run::Shared;
use super::syntax::is_breaker;
use super::text::{is_left_edge, zero_width_before};

/// The end is not known.
const OPEN: usize = usize::MAX;

/// The last position in `text`, not before `start`, at which it can be split. `text` has no newline after `start`.
pub(super) fn safe_cut(shared: &Shared, text: &str, start: usize) -> usize {
    let redactor = &shared.redactor;
    if redactor.lookback > 0 || redactor.scans || redactor.withhold {
        return start;
    }
    let bytes = text.as_bytes();
    let word = |at: usize| {
        let mut at = at;
        loop {
            let before = bytes.get(start..at).unwrap_or_default();
            let Some(breaker) = before.iter().rposition(|b| is_breaker(*b)) else { return start };
            // An invisible character does not split a word.
            match zero_width_before(bytes, start + breaker + 1) {
                0 => return start + breaker + 1,
                length => at = start + breaker + 1 - length,
            }
        }
    };
    let mut cut = word(bytes.len());
    if cut == start {
        return start;
    }
    let mut claims = redactor.with_scratch(|scratch| {
        let mut claims: Vec<(usize, usize)> = Vec::new();
        for hit in redactor.literals.all(bytes.get(start..).unwrap_or_default()) {
            let (from, to) = (start + hit.range.start, start + hit.range.end);
            for target in redactor.targets.get(hit.literal).map_or(&[][..], Vec::as_slice) {
                let (from, to) = match *target {
                    Target::Begins { rule: index, offset } => {
                        let Some(rule) = redactor.rules.get(index as usize) else { continue };
                        let Finder::Anchored { dfa, .. } = &rule.finder else { continue };
                        let Some(from) = from.checked_sub(offset as usize).filter(|from| *from >= start) else {
                            continue;
                        };
                        if rule.whole_word && !is_left_edge(bytes, from) {
                            continue;
                        }
                        let end = (from + rule.max_length).min(bytes.len());
                        let after = if rule.needs_context() { CONTEXT } else { 1 };
                        let claim = match scratch.walk(index, dfa, bytes, from, end) {
                            Some(walk) if walk.matched.is_some() && rule.block.is_some() => OPEN,
                            Some(walk) => match (walk.dead, walk.matched) {
                                // At a split right where it died, the pattern would see an end of line.
                                (Some(dead), Some(matched)) => (matched + after).max(dead + 1),
                                (Some(dead), None) => dead + 1,
                                (None, Some(matched)) if end < bytes.len() => matched + after,
                                (None, None) if end < bytes.len() => end,
                                (None, _) => OPEN,
                            },
                            None => from + rule.max_length + CONTEXT,
                        };
                        (from, claim)
                    }
                    Target::Around { rule } => {
                        let reach = redactor.rules.get(rule as usize).map_or(0, |rule| rule.max_length);
                        (from, from + reach + CONTEXT)
                    }
                    Target::Escape | Target::Invisible => (from, to + ESCAPE_REACH),
                    Target::Percent | Target::Placeholder => continue,
                };
                claims.push((word(from), if to > bytes.len() { OPEN } else { to }));
            }
        }
        claims
    });
    shared
        .masks
        .each(bytes, start, |range, _, open, end| claims.push((word(range.start), if open { OPEN } else { end })));
    claims.sort_unstable_by(|a, b| b.cmp(a));
    loop {
        for &(from, to) in &claims {
            if from < cut && cut < to {
                cut = from;
            }
        }
        let opening = shared.masks.opening_before(bytes.get(start..cut).unwrap_or_default());
        match opening.map(|at| word(start + at)) {
            Some(earlier) if earlier < cut => cut = earlier,
            _ => return cut,
        }
    }
}
