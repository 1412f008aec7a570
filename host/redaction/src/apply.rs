//! Turns finds into redacted text: verifies them with the plugins, adds known values and blocks, merges overlaps,
//! writes.

use std::collections::BTreeMap;
use std::ops::Range;

use memchr::{memchr, memmem, memrchr};

use super::blocks::{OpenBlock, follow};
use super::credentials::Before;
use super::matcher::{Line, Scratch, overlap, search, search_view};
use super::name_and_value::{Beside, Lines, Named};
use super::rules::{Candidate, Fault};
use super::run::{Shared, Unscanned};
use super::text::{KNOWN_VALUE, WITHHELD, floor_boundary, kebab, odd_backslashes_before, whole_escapes};
use super::views::{View, WINDOW_STEP, is_base64, lines_with_invisibles, padding, visible_view};

/// Longest stretch of one line that is examined at once, in bytes.
pub(super) const LIMIT: usize = 64 * 1024;
/// How much of such a stretch is examined again with the next one: more than any rule's longest match and more than a
/// window of decoded text.
const OVERLAP: usize = 24 * 1024;

/// Candidates in one call of a plugin.
const BATCH: usize = 256;

/// The state from one piece of a stream to the next.
#[derive(Clone, Default)]
pub(super) struct State {
    pub(super) block: Option<OpenBlock>,
    /// A secret whose end is not known was redacted; its continuation is dropped.
    swallow: bool,
    /// The current line is JSON.
    json: bool,
    /// The end of the text that was last passed to `scan`.
    scanned: String,
    /// The previous line was base64 of a usual line width with a secret: following lines of the same width continue it.
    base64: Option<Continued>,
    /// A name whose value may be on a later line.
    pub(super) named: Option<Named>,
}

/// A base64 text that continues.
#[derive(Clone, Copy)]
struct Continued {
    rule: u32,
    width: usize,
    /// The text ended after the carriage return of a line break.
    half: bool,
}

/// How a piece of text ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PieceEnd {
    /// At the end of a line or of the text, or where no find can cross.
    Clean,
    /// At the end of the whole text, perhaps in the middle of a line.
    Last,
    /// In the middle of a long line: its last part is held back and examined again.
    Forced,
}

struct Span {
    range: Range<usize>,
    /// Index of a rule, or one of those below.
    name: u32,
    /// The secret may continue after the range.
    clipped: bool,
}

/// Names from this number on are those of known values, from the next number on those from `scan`.
const KNOWN: u32 = 1 << 30;
const SCANNED: u32 = 1 << 31;

/// Redacts `text` from `start` on and appends it to `out`; the text before `start` is context. Returns where it
/// stopped, and the number of placeholders.
pub(super) fn process(
    shared: &Shared,
    state: &mut State,
    text: &str,
    start: usize,
    piece: PieceEnd,
    out: &mut String,
) -> (usize, u64) {
    if shared.redactor.withhold {
        if shared.unscanned == Unscanned::Withheld {
            return (text.len(), withhold(text, start, out));
        }
        let mut masked = String::new();
        let (end, count) = shared.redactor.with_scratch(|scratch| {
            Applier { shared, state, scratch, text, names: Vec::new() }.run(start, piece, &mut masked)
        });
        return (end, count + withhold_unusual(&masked, out));
    }
    shared
        .redactor
        .with_scratch(|scratch| Applier { shared, state, scratch, text, names: Vec::new() }.run(start, piece, out))
}

struct Applier<'a> {
    shared: &'a Shared,
    state: &'a mut State,
    scratch: &'a mut Scratch,
    text: &'a str,
    /// Names from `scan`.
    names: Vec<String>,
}

impl Applier<'_> {
    fn run(&mut self, mut start: usize, piece: PieceEnd, out: &mut String) -> (usize, u64) {
        if self.state.swallow {
            start += self.text.as_bytes().get(start..).unwrap_or_default().iter().take_while(|b| is_token(**b)).count();
            self.state.swallow = start == self.text.len();
        }
        let shared = self.shared;
        search(&shared.redactor, &shared.masks, self.scratch, self.text, start, &|name| shared.knows(name));
        self.spread(start, piece);
        self.verify();
        let mut spans = Vec::new();
        let mut headers = Vec::new();
        let encoded = self.take_finds(&mut spans, &mut headers);
        self.follow_base64(start, encoded, &mut spans);
        self.known_values(start, &mut spans);
        if shared.redactor.scans {
            self.scan(start, &mut spans);
        }
        let mut end = self.text.len();
        if piece == PieceEnd::Forced {
            spans = merge(spans);
            end = self.forced_end(start, &spans);
        }
        if !headers.is_empty() || self.state.block.is_some() {
            end = self.blocks(start, end, headers, &mut spans);
        }
        let spans = merge(spans);
        let count = self.write(start, end, &spans, out);
        (end, count)
    }

    /// Passes values whose names are on other lines to the rules.
    fn spread(&mut self, start: usize, piece: PieceEnd) {
        let shared = self.shared;
        let mut lines = Lines::new(&mut self.state.named);
        let mut take = |line: Range<usize>| {
            let found = self.text.get(line.clone()).and_then(|text| lines.line(text, line.start));
            let Some(Beside { before, value }) = found else { return };
            let Some(view) = View::beside(&before, self.text, &value) else { return };
            let known = |name: &str| shared.knows(name);
            search_view(&shared.redactor, &shared.masks, self.scratch, &view, before.len(), &known);
            let finds = &mut self.scratch.known;
            shared.masks.each_credential(view.text.as_bytes(), before.len(), Before::Line, |range, name| {
                finds.push((view.original(&range), name));
            });
        };
        let mut at = start;
        let mut line = memrchr(b'\n', self.text.as_bytes().get(..start).unwrap_or_default()).map_or(0, |end| end + 1);
        while let Some(length) = memchr(b'\n', self.text.as_bytes().get(at..).unwrap_or_default()) {
            take(line..at + length);
            at += length + 1;
            line = at;
        }
        if piece == PieceEnd::Last && line < self.text.len() {
            take(line..self.text.len());
        }
    }

    /// Verifies candidates with their plugins and drops those that are not secrets.
    fn verify(&mut self) {
        let redactor = &self.shared.redactor;
        if !self.scratch.pending.iter().any(|find| find.question.is_some()) {
            return;
        }
        for (index, plugin) in redactor.plugins.iter().enumerate() {
            // Equal candidates of a repetitive text are verified once.
            let mut distinct = BTreeMap::<Candidate, Vec<usize>>::new();
            for (at, find) in self.scratch.pending.iter_mut().enumerate() {
                let verify = redactor.rules.get(find.rule as usize).and_then(|rule| rule.verify);
                if verify == Some(index)
                    && let Some(question) = find.question.take()
                {
                    distinct.entry(question).or_default().push(at);
                }
            }
            if distinct.is_empty() {
                continue;
            }
            let (questions, finds): (Vec<_>, Vec<_>) = distinct.into_iter().unzip();
            let mut denied: Vec<usize> = Vec::new();
            for (finds, questions) in finds.chunks(BATCH).zip(questions.chunks(BATCH)) {
                let fault = match plugin.plugin.verify(questions) {
                    Ok(answers) if answers.len() == questions.len() => {
                        denied.extend(
                            finds.iter().zip(answers).filter(|(_, yes)| !yes).flat_map(|(finds, _)| finds).copied(),
                        );
                        continue;
                    }
                    Ok(answers) => Fault::new(format!("answered {} of {} candidates", answers.len(), questions.len())),
                    Err(fault) => fault,
                };
                self.shared.faults.fault(&plugin.name, &fault);
            }
            denied.sort_unstable();
            let mut denied = denied.into_iter().peekable();
            let mut at = 0;
            self.scratch.pending.retain(|_| {
                at += 1;
                denied.next_if_eq(&(at - 1)).is_none()
            });
        }
    }

    /// Returns rule and end of the finds in base64.
    fn take_finds(&mut self, spans: &mut Vec<Span>, headers: &mut Vec<(u32, Range<usize>)>) -> Vec<(u32, usize)> {
        let bytes = self.text.as_bytes();
        let mut encoded = Vec::new();
        for find in self.scratch.pending.drain(..) {
            if find.base64 {
                encoded.push((find.rule, find.secret.end));
            }
            if find.header {
                headers.push((find.rule, find.whole.clone()));
            }
            let mut range = whole_escapes(bytes, find.secret);
            if find.clipped {
                range.end += bytes.get(range.end..).unwrap_or_default().iter().take_while(|b| is_token(**b)).count();
            }
            if !range.is_empty() {
                spans.push(Span { range, name: find.rule, clipped: find.clipped });
            }
        }
        encoded
    }

    /// Redacts the lines that continue a base64 text with a secret: those of its line width, and the shorter last one.
    fn follow_base64(&mut self, start: usize, mut encoded: Vec<(u32, usize)>, spans: &mut Vec<Span>) {
        let bytes = self.text.as_bytes();
        let mut begun = self.state.base64.take().map(|text| {
            let half = text.half && bytes.get(start) == Some(&b'\n');
            (Continued { half: false, ..text }, start + usize::from(half))
        });
        // Of several rules the earliest gives the name, as for overlapping spans.
        encoded.sort_unstable_by_key(|(rule, end)| (*end, *rule));
        encoded.dedup_by_key(|(_, end)| *end);
        let mut encoded = encoded.into_iter();
        let mut followed = (0, u32::MAX);
        loop {
            let next = begun.take().or_else(|| encoded.by_ref().find_map(|(rule, end)| broken(bytes, rule, end)));
            let Some((text, at)) = next else { return };
            if at < followed.0 && followed.1 <= text.rule {
                continue;
            }
            if at >= bytes.len() {
                let earlier = self.state.base64.filter(|other| other.rule <= text.rule);
                self.state.base64 = Some(earlier.unwrap_or(text));
                continue;
            }
            let rest = bytes.get(at..).unwrap_or_default();
            let indent = rest.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
            let run = rest.iter().skip(indent).take(text.width + 1).take_while(|b| is_base64(**b)).count();
            let end = at + indent + run;
            let end = end + padding(bytes, end);
            let Some((next, half)) = line_break(bytes, end) else { continue };
            if run == 0 || run > text.width {
                continue;
            }
            spans.push(Span { range: at + indent..end, name: text.rule, clipped: false });
            followed = (end, text.rule);
            if run == text.width {
                begun = Some((Continued { half, ..text }, next));
            }
        }
    }

    fn known_values(&mut self, start: usize, spans: &mut Vec<Span>) {
        let Scratch { placeholders, known, .. } = &mut *self.scratch;
        let bytes = self.text.as_bytes();
        let placeholders = placeholders.as_slice();
        // A credential depends on the text before it, which a placeholder has replaced.
        let stands = |range: &Range<usize>| !placeholders.iter().any(|placeholder| placeholder.end == range.start);
        let mut take = |range: Range<usize>, name| {
            if !range.is_empty() && !placeholders.iter().any(|placeholder| overlap(placeholder, &range)) {
                spans.push(Span { range, name: KNOWN | name, clipped: false });
            }
        };
        let masks = &self.shared.masks;
        masks.each(bytes, start, |range, name, _, _| take(range, name));
        masks.each_credential(bytes, start, Before::Line, |range, name| {
            if stands(&range) {
                take(range, name);
            }
        });
        known.drain(..).for_each(|(range, name)| take(range, name));
        if masks.is_empty() {
            return;
        }
        // A value may contain invisible sequences, for example from `grep --color`.
        for line in lines_with_invisibles(bytes, start) {
            let Some(view) = visible_view(self.text, &line) else { continue };
            masks.each(view.text.as_bytes(), 0, |range, name, _, _| {
                let original = view.original_of_bytes(&range);
                if original.len() != range.len() && !range.is_empty() {
                    take(original, name);
                }
            });
            // Only the line from `start` on is available, but its words are complete.
            masks.each_credential(view.text.as_bytes(), 0, Before::Word, |range, name| {
                let original = view.original_of_bytes(&range);
                if stands(&original) {
                    take(original, name);
                }
            });
        }
    }

    /// Passes every line, with the end of the text before it, to the plugins with `scan`.
    fn scan(&mut self, start: usize, spans: &mut Vec<Span>) {
        let most = self.shared.redactor.plugins.iter().filter_map(|plugin| plugin.scan_overlap).max().unwrap_or(0);
        let mut at = start;
        while at < self.text.len() {
            let rest = self.text.get(at..).unwrap_or_default();
            let line = rest.split_inclusive('\n').next().unwrap_or_default();
            for plugin in &self.shared.redactor.plugins {
                let Some(overlap_size) = plugin.scan_overlap else { continue };
                let tail = self.state.scanned.get(
                    self.state.scanned.ceil_char_boundary(self.state.scanned.len().saturating_sub(overlap_size))..,
                );
                let shown = format!("{}{line}", tail.unwrap_or_default());
                let skipped = shown.len() - line.len();
                match plugin.plugin.scan(&shown) {
                    Ok(finds) => {
                        for find in finds.iter().filter(|find| !find.secret.trim().is_empty()) {
                            let name = self.scan_name(&find.rule);
                            for found in memmem::find_iter(shown.as_bytes(), &find.secret) {
                                let end = (found + find.secret.len()).saturating_sub(skipped);
                                let range = at + found.saturating_sub(skipped)..at + end;
                                let range = range.start..range.end.min(at + line.trim_end_matches(['\n', '\r']).len());
                                if !range.is_empty() && !self.scratch.placeholders.iter().any(|p| overlap(p, &range)) {
                                    spans.push(Span {
                                        range: whole_escapes(self.text.as_bytes(), range),
                                        name,
                                        clipped: false,
                                    });
                                }
                            }
                        }
                    }
                    Err(fault) => {
                        self.shared.faults.fault(&plugin.name, &fault);
                        if self.shared.unscanned == Unscanned::Withheld {
                            // The scan might have found secrets.
                            let content = line.trim();
                            let begin = at + (line.len() - line.trim_start().len());
                            if !content.is_empty() {
                                let name = self.scan_name(WITHHELD);
                                let end = begin + content.len();
                                spans.retain(|span| span.range.start < begin || span.range.end > end);
                                spans.push(Span { range: begin..end, name, clipped: false });
                            }
                        }
                    }
                }
            }
            self.state.scanned.push_str(line);
            let keep = self.state.scanned.ceil_char_boundary(self.state.scanned.len().saturating_sub(most));
            self.state.scanned.drain(..keep);
            at += line.len();
        }
    }

    fn scan_name(&mut self, name: &str) -> u32 {
        if let Some(index) = self.shared.redactor.rules.iter().position(|rule| rule.id == name) {
            return index as u32;
        }
        let name = Some(kebab(name)).filter(|name| !name.is_empty()).unwrap_or_else(|| KNOWN_VALUE.to_owned());
        self.shared.learn(&name);
        let index = self.names.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.names.push(name);
            self.names.len() - 1
        });
        SCANNED | index as u32
    }

    /// Where to split a long line: not inside a find, and inside a base64 run only where one of its windows starts.
    fn forced_end(&mut self, start: usize, spans: &[Span]) -> usize {
        let bytes = self.text.as_bytes();
        let mut end = floor_boundary(self.text, self.text.len().saturating_sub(OVERLAP)).max(start);
        let run = bytes.get(start..end).unwrap_or_default().iter().rev().take_while(|b| is_base64(**b)).count();
        if run >= WINDOW_STEP {
            end -= run % WINDOW_STEP;
        }
        if let Some(across) = spans.iter().find(|span| span.range.start < end && span.range.end > end) {
            end = across.range.end;
            self.state.swallow = across.clipped && end == self.text.len();
        }
        end
    }

    /// Follows an open block from `start`, then each header that is not inside one. Returns where the piece ends.
    fn blocks(
        &mut self,
        start: usize,
        mut end: usize,
        mut headers: Vec<(u32, Range<usize>)>,
        spans: &mut Vec<Span>,
    ) -> usize {
        headers.sort_by_key(|(_, range)| range.start);
        let mut at = start;
        let mut open = self.state.block.take();
        let mut headers = headers.into_iter();
        loop {
            if let Some(mut block) = open.take() {
                let rule = block.rule;
                let Some(compiled) = self.shared.redactor.rules.get(rule as usize).and_then(|rule| rule.block.as_ref())
                else {
                    continue;
                };
                let (reached, over) = follow(&mut block, compiled, self.text, at, end, |range| {
                    spans.push(Span { range, name: rule, clipped: false });
                });
                at = reached;
                end = end.max(reached);
                if !over {
                    self.state.block = Some(block);
                    return end;
                }
            }
            let Some((rule, header)) = headers.by_ref().find(|(_, header)| header.start >= at && header.start < end)
            else {
                return end;
            };
            let mut line = Line::none();
            line.seek(self.text.as_bytes(), header.start);
            let before = self.text.as_bytes().get(line.start..header.start).unwrap_or_default();
            let begin = memrchr(b'\r', before).map_or(line.start, |cr| line.start + cr + 1);
            open = Some(OpenBlock::new(rule, self.text, begin, header.start));
            at = header.end;
        }
    }

    fn write(&mut self, start: usize, end: usize, spans: &[Span], out: &mut String) -> u64 {
        let mut count = 0;
        let mut at = start;
        let mut line = Line::none();
        for span in spans.iter().filter(|span| span.range.start >= start && span.range.start < end) {
            line.seek(self.text.as_bytes(), span.range.start);
            let json =
                if line.start == 0 && start > 0 { self.state.json } else { looks_like_json(self.text, line.start) };
            for range in pieces(self.text, &span.range, json) {
                out.push_str(self.text.get(at..range.start).unwrap_or_default());
                out.push_str("[REDACTED:");
                out.push_str(self.name(span.name));
                out.push(']');
                count += 1;
                at = range.end;
            }
        }
        out.push_str(self.text.get(at..end).unwrap_or_default());
        if line_continues(self.text, end) {
            line.seek(self.text.as_bytes(), end.saturating_sub(1));
            if !(line.start == 0 && start > 0) {
                self.state.json = looks_like_json(self.text, line.start);
            }
        }
        count
    }

    fn name(&self, name: u32) -> &str {
        if name & SCANNED != 0 {
            self.names.get((name & !SCANNED) as usize).map_or(KNOWN_VALUE, String::as_str)
        } else if name & KNOWN != 0 {
            self.shared.masks.name(name & !KNOWN)
        } else {
            self.shared.redactor.rules.get(name as usize).map_or(KNOWN_VALUE, |rule| rule.id.as_str())
        }
    }
}

/// Widths at which programs break base64 into lines.
const BASE64_WIDTHS: [usize; 5] = [60, 64, 70, 72, 76];

/// Where a base64 text continues whose line of such a width ends at `end`.
fn broken(text: &[u8], rule: u32, end: usize) -> Option<(Continued, usize)> {
    let (next, half) = line_break(text, end)?;
    let longest = BASE64_WIDTHS.iter().max()? + 1;
    let width = text.get(..end)?.iter().rev().take(longest).take_while(|b| is_base64(**b)).count();
    BASE64_WIDTHS.contains(&width).then_some((Continued { rule, width, half }, next))
}

/// The end of a line break, and whether only its carriage return is there. The end of the text counts as one.
fn line_break(text: &[u8], at: usize) -> Option<(usize, bool)> {
    match text.get(at..)? {
        [] => Some((at, false)),
        [b'\r'] => Some((at + 1, true)),
        [b'\n', ..] => Some((at + 1, false)),
        [b'\r', b'\n', ..] => Some((at + 2, false)),
        [b'\r', ..] => Some((at + 1, false)),
        _ => None,
    }
}

fn line_continues(text: &str, end: usize) -> bool {
    end > 0 && text.as_bytes().get(end - 1) != Some(&b'\n')
}

/// Characters that continue a secret which is longer than its rule expects.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'_' | b'.' | b'~' | b'%' | b'-')
}

/// Sorts spans and merges overlapping ones, with the name of the earliest rule.
fn merge(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_by_key(|span| (span.range.start, span.range.end));
    let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match merged.last_mut() {
            Some(last) if span.range.start < last.range.end => {
                if span.range.end >= last.range.end {
                    last.clipped = span.clipped;
                    last.range.end = span.range.end;
                }
                last.name = last.name.min(span.name);
            }
            _ => merged.push(span),
        }
    }
    merged
}

fn looks_like_json(text: &str, line: usize) -> bool {
    let start = text.get(line..).unwrap_or_default().trim_start_matches([' ', '\t']).as_bytes();
    match start {
        [b'{', next, ..] => matches!(next, b'"' | b'}' | b' '),
        [b'[', next, ..] => matches!(next, b'"' | b'{' | b'['),
        _ => false,
    }
}

/// The parts of a range that are replaced: all of it, except quotes that are part of a JSON document.
fn pieces(text: &str, range: &Range<usize>, json: bool) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let secret = bytes.get(range.clone()).unwrap_or_default();
    if !json || !secret.contains(&b'"') {
        return vec![range.clone()];
    }
    let mut parts = Vec::new();
    let mut start = range.start;
    for at in range.clone().chain(std::iter::once(range.end)) {
        let quote = at < range.end && bytes.get(at) == Some(&b'"') && !odd_backslashes_before(bytes, at);
        if quote || at == range.end {
            if bytes.get(start..at).is_some_and(|part| part.iter().any(u8::is_ascii_alphanumeric)) {
                parts.push(start..at);
            }
            start = at + 1;
        }
    }
    parts
}

/// The most letters of an ordinary word, and digits of an ordinary number.
const WORD: usize = 16;
/// The most letters and digits of an ordinary word that has both.
const MIXED: usize = 6;

/// Redacts the host's own messages without rules: they must stay readable, so only words that are not ordinary words or
/// numbers are replaced.
fn withhold_unusual(text: &str, out: &mut String) -> u64 {
    let mut count = 0;
    for piece in text.split_inclusive(char::is_whitespace) {
        let word = piece.trim_end();
        if word.split(|character: char| !character.is_alphanumeric()).all(is_usual) {
            out.push_str(piece);
            continue;
        }
        out.push_str("[REDACTED:");
        out.push_str(WITHHELD);
        out.push(']');
        out.push_str(piece.get(word.len()..).unwrap_or_default());
        count += 1;
    }
    count
}

fn is_usual(part: &str) -> bool {
    let is = |kind: fn(char) -> bool| part.chars().all(kind);
    let most = if is(char::is_alphabetic) || is(|character| character.is_ascii_digit()) { WORD } else { MIXED };
    let address = part.strip_prefix("0x").is_some_and(|digits| digits.chars().all(|c| c.is_ascii_hexdigit()));
    part.chars().count() <= if address { 2 + WORD } else { most }
}

/// Replaces everything except white space, line by line.
fn withhold(text: &str, start: usize, out: &mut String) -> u64 {
    let mut count = 0;
    for line in text.get(start..).unwrap_or_default().split_inclusive('\n') {
        let content = line.trim();
        if content.is_empty() {
            out.push_str(line);
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        out.push_str(line.get(..indent).unwrap_or_default());
        out.push_str("[REDACTED:");
        out.push_str(WITHHELD);
        out.push(']');
        out.push_str(line.get(indent + content.len()..).unwrap_or_default());
        count += 1;
    }
    count
}
