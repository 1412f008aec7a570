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
/// How many bytes of what may be a named value are shown while its word is unfinished: too few to be much of a secret.
const SHOWN_OF_VALUE: usize = 7;
/// The same for a known value. One byte or two are the start of many words.
const SHOWN_OF_KNOWN: usize = 2;

/// A part of the text that a find may cover when more text follows.
struct Claim {
    from: usize,
    /// [`OPEN`] if it may continue after the end of the text.
    to: usize,
    kind: ClaimKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ClaimKind {
    /// All of it may be a secret.
    Secret,
    /// The secret is only a part of it, and comes after a name or the like.
    Named,
    /// Escape sequences, which may be inside of a secret.
    Escapes,
}

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
    let mut claims: Vec<(usize, usize)> = Vec::new();
    each_claim(shared, text, start, |claim| claims.push((word(claim.from), claim.to)));
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

/// Calls `take` with each part of the text from `start` on that a find may cover.
fn each_claim(shared: &Shared, text: &str, start: usize, mut take: impl FnMut(Claim)) {
    let redactor = &shared.redactor;
    let bytes = text.as_bytes();
    let mut take = |claim: Claim| take(Claim { to: if claim.to > bytes.len() { OPEN } else { claim.to }, ..claim });
    let mut escapes: Option<Claim> = None;
    redactor.with_scratch(|scratch| {
        for hit in redactor.literals.all(bytes.get(start..).unwrap_or_default()) {
            let (from, to) = (start + hit.range.start, start + hit.range.end);
            for target in redactor.targets.get(hit.literal).map_or(&[][..], Vec::as_slice) {
                take(match *target {
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
                        let to = match scratch.walk(index, dfa, bytes, from, end) {
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
                        // With groups, the match begins with something else: a name, a scheme.
                        let kind = if rule.groups.is_empty() { ClaimKind::Secret } else { ClaimKind::Named };
                        Claim { from, to, kind }
                    }
                    Target::Around { rule } => {
                        let reach = redactor.rules.get(rule as usize).map_or(0, |rule| rule.max_length);
                        Claim { from, to: from + reach + CONTEXT, kind: ClaimKind::Named }
                    }
                    Target::Escape | Target::Invisible => {
                        // Of sequences in a row, only the first start matters.
                        match &mut escapes {
                            Some(open) if from <= open.to => open.to = to + ESCAPE_REACH,
                            open => {
                                let next = Claim { from, to: to + ESCAPE_REACH, kind: ClaimKind::Escapes };
                                open.replace(next).into_iter().for_each(&mut take);
                            }
                        }
                        continue;
                    }
                    Target::Percent | Target::Placeholder => continue,
                });
            }
        }
    });
    escapes.into_iter().for_each(&mut take);
    shared.masks.each(bytes, start, |range, _, open, end| {
        take(Claim { from: range.start, to: if open { OPEN } else { end }, kind: ClaimKind::Secret });
    });
}

/// Where the held part of a text ends that can be shown while its line is unfinished: before what may be the start of a secret
/// with a keyword of its own or of a known value, and a few bytes after the start of what may be a named value.
pub(super) fn shown_end(shared: &Shared, text: &str, start: usize) -> usize {
    let bytes = text.as_bytes();
    let (mut end, mut named) = (bytes.len(), false);
    each_claim(shared, text, start, |claim| match claim.kind {
        ClaimKind::Secret if claim.to == OPEN => end = end.min(claim.from),
        ClaimKind::Named if claim.to == OPEN => named = true,
        ClaimKind::Secret | ClaimKind::Named | ClaimKind::Escapes => {}
    });
    if named {
        let separates = |byte: &u8| is_breaker(*byte) || matches!(byte, b'=' | b':' | b'"' | b'\'' | b'`' | b';');
        let value =
            bytes.get(start..end).unwrap_or_default().iter().rposition(separates).map_or(start, |at| start + at + 1);
        end = end.min(value + SHOWN_OF_VALUE);
    }
    let held = bytes.get(start..end).unwrap_or_default();
    let known = shared.masks.start_at_end(held, SHOWN_OF_KNOWN + 1).map(|at| start + at);
    // What is found as a whole is redacted, also if its end is the start of another value.
    let mut covered = false;
    if let Some(known) = known {
        shared.masks.each(bytes, start, |range, _, _, _| covered |= range.start < known && known < range.end);
    }
    known.filter(|_| !covered).unwrap_or(end)
}
