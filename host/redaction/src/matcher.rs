//! Finds secrets in a text. Literals are searched first, in one pass; a rule is tried only at its literals.

use std::ops::Range;

use memchr::{memchr, memrchr};
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::{Anchored, Input};

use super::compile::{CompiledRule, Finder, Redactor, Target};
use super::masks::Masks;
use super::rules::{AllowTarget, Candidate};
use super::text::{entropy, floor_boundary, is_left_edge, is_right_edge, placeholder_at, whole_escapes};
use super::views::{
    Base64Runs, MIN_RUN, View, WINDOW, WINDOW_STEP, after_invisible, base64_text, escape_view, padding, percent_run,
    percent_view, visible_view,
};

/// Bytes to either side of a match that `verify` and line exceptions see.
pub(super) const CONTEXT: usize = 256;
/// Levels of encoding that are undone.
const MAX_DEPTH: u8 = 3;
/// Bytes of text around an escaped character that are decoded.
pub(super) const ESCAPE_REACH: usize = 512;
/// The most overlapping candidates of one rule; more of them do not occur in ordinary text.
const MAX_OVERLAPPING: u32 = 8;
/// How often finds of one rule may overlap on average before the overlap counts.
const DENSE: usize = 3;
/// How often a search is repeated around one keyword.
const MAX_TRIES: usize = 64;

/// A find before the plugin has verified it.
pub(super) struct Pending {
    pub(super) rule: u32,
    pub(super) secret: Range<usize>,
    /// The match around it.
    pub(super) whole: Range<usize>,
    /// The match has the maximum length of the rule; the secret may be longer.
    pub(super) clipped: bool,
    /// It starts a block, whose lines follow in the text.
    pub(super) header: bool,
    pub(super) question: Option<Candidate>,
    /// It was found in base64 that may continue on further lines.
    pub(super) base64: bool,
}

/// Working memory, kept between calls.
pub(super) struct Scratch {
    caches: Vec<Option<Cache>>,
    slots: Vec<Option<NonMaxUsize>>,
    pub(super) pending: Vec<Pending>,
    pub(super) placeholders: Vec<Range<usize>>,
    /// Base64 that contains a known value, with the value's name.
    pub(super) known: Vec<(Range<usize>, u32)>,
}

impl Scratch {
    pub(super) fn new(rules: usize) -> Self {
        Self {
            caches: (0..rules).map(|_| None).collect(),
            slots: Vec::new(),
            pending: Vec::new(),
            placeholders: Vec::new(),
            known: Vec::new(),
        }
    }

    /// Clears the text; automata are kept.
    pub(super) fn clear(&mut self) {
        self.pending.clear();
        self.placeholders.clear();
        self.known.clear();
    }
}

/// The result of following a pattern from a fixed position.
pub(super) struct Walk {
    /// No continuation of the text can change the outcome: the automaton died here.
    pub(super) dead: Option<usize>,
    /// End of the match, if there is one.
    pub(super) matched: Option<usize>,
}

/// Follows a pattern from `start` to `end`, or until it cannot match any more.
pub(super) fn walk(dfa: &DFA, cache: &mut Cache, text: &[u8], start: usize, end: usize) -> Option<Walk> {
    let input = Input::new(text).span(start..end).anchored(Anchored::Yes);
    let mut state = dfa.start_state_forward(cache, &input).ok()?;
    let mut matched = None;
    for (at, &byte) in text.get(start..end)?.iter().enumerate() {
        state = dfa.next_state(cache, state, byte).ok()?;
        if state.is_tagged() {
            if state.is_match() {
                matched = Some(start + at);
            } else if state.is_dead() {
                return Some(Walk { dead: Some(start + at), matched });
            } else if state.is_quit() {
                return None;
            }
        }
    }
    state = match text.get(end) {
        Some(&byte) => dfa.next_state(cache, state, byte).ok()?,
        None => dfa.next_eoi_state(cache, state).ok()?,
    };
    if state.is_match() {
        matched = Some(end);
    } else if state.is_quit() {
        return None;
    }
    Some(Walk { dead: None, matched })
}

impl Scratch {
    /// [`walk`] with the rule's own cache.
    pub(super) fn walk(&mut self, index: u32, dfa: &DFA, text: &[u8], start: usize, end: usize) -> Option<Walk> {
        let cache = self.caches.get_mut(index as usize)?.get_or_insert_with(|| dfa.create_cache());
        walk(dfa, cache, text, start, end)
    }
}

/// The line around a position, remembered from one keyword to the next.
pub(super) struct Line {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Line {
    pub(super) fn none() -> Self {
        Self { start: 0, end: 0 }
    }

    pub(super) fn seek(&mut self, text: &[u8], at: usize) {
        if at >= self.start && at < self.end {
            return;
        }
        self.start = memrchr(b'\n', text.get(..at).unwrap_or_default()).map_or(0, |newline| newline + 1);
        self.end = memchr(b'\n', text.get(at..).unwrap_or_default()).map_or(text.len(), |newline| at + newline);
    }
}

/// The range that the finds of one rule cover.
struct Cover {
    rule: u32,
    start: usize,
    end: usize,
    /// The start of the current group of overlapping finds, and their total length.
    first: usize,
    bytes: usize,
    /// The number of finds in a dense group. Adjacent finds do not count: a list of names looks like that.
    finds: u32,
}

/// One search of a text, with the finds so far.
struct Search<'a> {
    redactor: &'a Redactor,
    masks: &'a Masks,
    scratch: &'a mut Scratch,
    text: &'a str,
    /// Finds start here; the text before is context.
    start: usize,
    /// Only rules that apply to decoded text.
    decoded: bool,
    depth: u8,
    known: &'a dyn Fn(&str) -> bool,
    placeholders: Vec<Range<usize>>,
    /// The last finds by rule: literals inside a find need no second look.
    covered: Vec<Cover>,
    out: Vec<Pending>,
}

/// Stores in `scratch` the finds of the rules in `text` from `start` on, and the known values in decoded text. `known`
/// says whether a name is that of a placeholder.
pub(super) fn search(
    redactor: &Redactor,
    masks: &Masks,
    scratch: &mut Scratch,
    text: &str,
    start: usize,
    known: &dyn Fn(&str) -> bool,
) {
    scratch.known.clear();
    let mut search = Search {
        redactor,
        masks,
        placeholders: std::mem::take(&mut scratch.placeholders),
        out: std::mem::take(&mut scratch.pending),
        scratch,
        text,
        start,
        decoded: false,
        depth: 0,
        known,
        covered: Vec::new(),
    };
    search.placeholders.clear();
    search.out.clear();
    search.run();
    let Search { placeholders, out, scratch, .. } = search;
    scratch.placeholders = placeholders;
    scratch.pending = out;
}

/// Adds the finds of the rules in a view whose first `before` bytes are context from elsewhere.
pub(super) fn search_view(
    redactor: &Redactor,
    masks: &Masks,
    scratch: &mut Scratch,
    view: &View,
    before: usize,
    known: &dyn Fn(&str) -> bool,
) {
    let mut search = Search {
        redactor,
        masks,
        scratch: &mut *scratch,
        text: &view.text,
        start: 0,
        decoded: false,
        depth: 1,
        known,
        placeholders: Vec::new(),
        covered: Vec::new(),
        out: Vec::new(),
    };
    search.run();
    let finds = search.out;
    for find in finds.into_iter().filter(|find| find.secret.start >= before) {
        let secret = view.original(&find.secret);
        let whole = secret.clone();
        if !scratch.placeholders.iter().any(|placeholder| overlap(placeholder, &whole)) {
            scratch.pending.push(Pending { secret, whole, ..find });
        }
    }
}

impl Search<'_> {
    fn run(&mut self) {
        let bytes = self.text.as_bytes();
        let mut line = Line::none();
        let (mut escapes, mut invisibles): (Option<Range<usize>>, Option<Range<usize>>) = (None, None);
        let mut percent_end = 0;
        let redactor = self.redactor;
        for hit in redactor.literals.all(bytes.get(self.start..).unwrap_or_default()) {
            let (from, to) = (self.start + hit.range.start, self.start + hit.range.end);
            for target in redactor.targets.get(hit.literal).map_or(&[][..], Vec::as_slice) {
                match *target {
                    Target::Begins { rule, offset } => {
                        if let Some(from) = from.checked_sub(offset as usize) {
                            self.begins(rule, from, &mut line);
                        }
                    }
                    Target::Around { rule } => {
                        line.seek(bytes, from);
                        self.around(rule, from..to, &line);
                    }
                    Target::Escape => {
                        line.seek(bytes, from);
                        if let Some(done) = self.extend(&mut escapes, from..to, &line) {
                            self.escaped(&done);
                        }
                    }
                    Target::Invisible => {
                        if self.depth < MAX_DEPTH && splits_a_word(bytes, from) {
                            line.seek(bytes, from);
                            if let Some(done) = self.extend(&mut invisibles, from..to, &line) {
                                self.without_invisible(&done);
                            }
                        }
                    }
                    Target::Percent => {
                        if from >= percent_end && bytes.get(to).is_some_and(u8::is_ascii_hexdigit) {
                            let run = percent_run(bytes, from, self.start);
                            percent_end = run.end;
                            if self.depth < MAX_DEPTH
                                && let Some(view) = percent_view(bytes, &run)
                            {
                                self.read_view(&view);
                            }
                        }
                    }
                    Target::Placeholder => {
                        if self.depth == 0
                            && let Some(range) = placeholder_at(self.text, from, self.known)
                        {
                            self.placeholders.push(range);
                        }
                    }
                }
            }
        }
        if let Some(done) = escapes {
            self.escaped(&done);
        }
        if let Some(done) = invisibles {
            self.without_invisible(&done);
        }
        for &rule in &redactor.everywhere {
            self.everywhere(rule);
        }
        if self.depth < MAX_DEPTH {
            self.base64();
        }
        if !self.placeholders.is_empty() {
            self.drop_finds_in_placeholders();
        }
    }

    /// Tries a rule from one fixed position.
    fn begins(&mut self, index: u32, start: usize, line: &mut Line) {
        let redactor = self.redactor;
        let bytes = self.text.as_bytes();
        let Some(rule) = redactor.rules.get(index as usize) else { return };
        let Finder::Anchored { dfa, captures } = &rule.finder else { return };
        if start < self.start
            || self.skips(rule)
            || (rule.whole_word && !is_left_edge(bytes, start))
            || self
                .covered
                .iter()
                .any(|cover| cover.rule == index && start < cover.end && cover.finds >= MAX_OVERLAPPING)
        {
            return;
        }
        line.seek(bytes, start);
        // The pattern sees only the line, so that `^` and `$` mean its ends.
        let base = line.start;
        let Some(shown) = self.text.get(base..line.end) else { return };
        let span = start - base..(start - base + rule.max_length).min(shown.len());
        let walk = self.scratch.walk(index, dfa, shown.as_bytes(), span.start, span.end);
        let matched = match &walk {
            Some(walk) => walk.matched,
            None => captures.as_ref().and_then(|regex| {
                regex.find(Input::new(shown).span(span.clone()).anchored(Anchored::Yes)).map(|found| found.end())
            }),
        };
        let Some(matched) = matched else { return };
        let clipped = matched == span.end && span.end < shown.len() && walk.is_none_or(|walk| walk.dead.is_none());
        let Some(captures) = captures.as_ref().filter(|_| !rule.groups.is_empty()) else {
            self.candidate(index, rule, start..base + matched, start..base + matched, clipped, line);
            return;
        };
        // Only as far as the match reaches: working memory is cleared for each byte of the span.
        let input = Input::new(shown).span(span.start..matched).anchored(Anchored::Yes);
        self.groups(index, rule, captures, &input, clipped, line);
    }

    /// Reads the groups of the match that `input` begins with, and proposes each as a secret.
    fn groups(
        &mut self,
        index: u32,
        rule: &CompiledRule,
        regex: &regex_automata::meta::Regex,
        input: &Input<'_>,
        clipped: bool,
        line: &Line,
    ) {
        let mut slots = std::mem::take(&mut self.scratch.slots);
        slots.clear();
        slots.resize(2 * (rule.groups.iter().max().copied().unwrap_or_default() + 1), None);
        if regex.search_slots(input, &mut slots).is_some() {
            let range = |group: usize| {
                // The input is the line.
                let [Some(start), Some(end)] =
                    [slots.get(2 * group)?, slots.get(2 * group + 1)?].map(|slot| slot.map(NonMaxUsize::get))
                else {
                    return None;
                };
                Some(line.start + start..line.start + end)
            };
            if let Some(whole) = range(0) {
                for secret in rule.groups.iter().filter_map(|group| range(*group)) {
                    let clipped = clipped && secret.end == whole.end;
                    self.candidate(index, rule, whole.clone(), secret, clipped, line);
                }
            }
        }
        self.scratch.slots = slots;
    }

    /// Searches for a rule around one of its keywords.
    fn around(&mut self, index: u32, keyword: Range<usize>, line: &Line) {
        let redactor = self.redactor;
        let Some(rule) = redactor.rules.get(index as usize) else { return };
        let Finder::Search(regex) = &rule.finder else { return };
        if self.skips(rule) {
            return;
        }
        let base = line.start;
        let Some(shown) = self.text.get(base..line.end) else { return };
        let keyword = keyword.start - base..keyword.end - base;
        let mut from =
            shown.ceil_char_boundary(keyword.end.saturating_sub(rule.max_length).max(self.start.saturating_sub(base)));
        let to = floor_boundary(shown, keyword.start + rule.max_length);
        for _ in 0..MAX_TRIES {
            if from > keyword.start || from >= to {
                return;
            }
            let Some(found) = regex.find(Input::new(shown).span(from..to)) else { return };
            if found.start() > keyword.start {
                return;
            }
            let clipped = found.end() == to && to < shown.len();
            let range = base + found.start()..base + found.end();
            if found.end() >= keyword.end && self.found(index, rule, regex, range, clipped, line) {
                return;
            }
            from = shown.ceil_char_boundary(found.start() + 1);
        }
    }

    /// Searches for a rule without keywords in every line.
    fn everywhere(&mut self, index: u32) {
        let redactor = self.redactor;
        let Some(rule) = redactor.rules.get(index as usize) else { return };
        let Finder::Search(regex) = &rule.finder else { return };
        if self.skips(rule) {
            return;
        }
        let mut line = Line::none();
        let mut at = self.start;
        while at < self.text.len() {
            line.seek(self.text.as_bytes(), at);
            while at < line.end {
                let base = line.start;
                let Some(shown) = self.text.get(base..line.end) else { break };
                let Some(found) = regex.find(Input::new(shown).span(at - base..shown.len())) else { break };
                let range = base + found.start()..base + found.end();
                let accepted = self.found(index, rule, regex, range.clone(), false, &line);
                at = self.text.ceil_char_boundary(if accepted { range.end } else { range.start + 1 });
            }
            at = line.end + 1;
        }
    }

    /// Proposes a match that a search has found. Returns whether it was accepted as a candidate.
    fn found(
        &mut self,
        index: u32,
        rule: &CompiledRule,
        regex: &regex_automata::meta::Regex,
        whole: Range<usize>,
        clipped: bool,
        line: &Line,
    ) -> bool {
        if rule.whole_word && !is_left_edge(self.text.as_bytes(), whole.start) {
            return false;
        }
        let before = self.out.len();
        if rule.groups.is_empty() {
            self.candidate(index, rule, whole.clone(), whole, clipped, line);
        } else {
            let Some(shown) = self.text.get(line.start..line.end) else { return false };
            let input =
                Input::new(shown).span(whole.start - line.start..whole.end - line.start).anchored(Anchored::Yes);
            self.groups(index, rule, regex, &input, clipped, line);
        }
        self.out.len() > before
    }

    fn skips(&self, rule: &CompiledRule) -> bool {
        (self.decoded && !rule.decoded) || (self.depth > 0 && !self.decoded && rule.block.is_some())
    }

    /// Applies all checks of a rule except the plugin's verification.
    fn candidate(
        &mut self,
        index: u32,
        rule: &CompiledRule,
        whole: Range<usize>,
        mut secret: Range<usize>,
        clipped: bool,
        line: &Line,
    ) {
        let text = self.text;
        if secret.is_empty() || (rule.whole_word && !clipped && !is_right_edge(text.as_bytes(), whole.end)) {
            return;
        }
        let Some(value) = text.get(secret.clone()) else { return };
        if rule.min_entropy.is_some_and(|least| entropy(value) < least) {
            return;
        }
        let low = text.ceil_char_boundary(whole.start.saturating_sub(CONTEXT).max(line.start));
        let high = floor_boundary(text, (whole.end + CONTEXT).min(line.end)).max(whole.end);
        let allowed = rule.allow.iter().any(|(target, regex)| {
            let target = match target {
                AllowTarget::Secret => Some(value),
                AllowTarget::Match => text.get(whole.clone()),
                AllowTarget::Line => text.get(low..high),
            };
            target.is_some_and(|target| regex.is_match(target))
        });
        if allowed {
            return;
        }
        // Such a repetition is redacted without asking the plugin, to save time.
        let asks = self.cover(index, &whole, rule.verify.is_none()) < MAX_OVERLAPPING;
        let around = |from: usize, to: usize| {
            text.get(text.ceil_char_boundary(from)..floor_boundary(text, to)).unwrap_or_default().to_owned()
        };
        let question = asks.then(|| Candidate {
            rule: rule.id.clone(),
            secret: value.to_owned(),
            before: around(secret.start.saturating_sub(CONTEXT).max(line.start), secret.start),
            after: around(secret.end, (secret.end + CONTEXT).min(line.end)),
        });
        let header = rule.block.is_some() && self.depth == 0;
        if rule.block.is_some() && self.depth > 0 {
            secret.end = text.len();
        }
        self.out.push(Pending { rule: index, secret, whole, clipped, header, question, base64: false });
    }

    /// Records a find and returns how many others of its rule it overlaps.
    fn cover(&mut self, index: u32, whole: &Range<usize>, settled: bool) -> u32 {
        let finds = if settled { MAX_OVERLAPPING } else { 0 };
        let Some(cover) = self.covered.iter_mut().find(|cover| cover.rule == index) else {
            let Range { start, end } = *whole;
            self.covered.push(Cover { rule: index, start, end, first: start, bytes: whole.len(), finds });
            return finds;
        };
        if whole.start == cover.start {
            // Another group of the same match.
            return cover.finds;
        }
        cover.start = whole.start;
        if whole.start >= cover.end {
            *cover = Cover { first: whole.start, bytes: 0, finds, ..*cover };
        }
        cover.end = cover.end.max(whole.end);
        cover.bytes += whole.len();
        if cover.bytes > DENSE * (cover.end - cover.first) {
            cover.finds = (cover.finds + 1).max(finds);
        }
        cover.finds
    }

    fn base64(&mut self) {
        let bytes = self.text.as_bytes();
        for mut run in Base64Runs::new(bytes, self.start) {
            run.start = whole_escapes(bytes, run.clone()).start;
            while run.len() >= MIN_RUN {
                let mut window = run.start..run.end.min(run.start + WINDOW);
                let text = bytes.get(window.clone()).and_then(base64_text);
                run.start = if window.end == run.end { run.end } else { run.start + WINDOW_STEP };
                let Some(text) = text else { continue };
                if window.end == run.end {
                    window.end += padding(bytes, run.end);
                }
                // A known value that is encoded once is found directly, without the rest of the run.
                if self.depth == 0
                    && let Some(name) = self.masks.in_text(&text)
                    && self.text.get(window.clone()).is_some_and(|run| self.masks.in_text(run).is_none())
                {
                    self.scratch.known.push((window.clone(), name));
                }
                for find in self.nested(&text, true) {
                    self.out.push(Pending {
                        secret: window.clone(),
                        whole: window.clone(),
                        clipped: false,
                        base64: true,
                        ..find
                    });
                }
            }
        }
    }

    /// Extends the stretch of the line to decode by the text around a position; returns the previous one if it is
    /// complete.
    fn extend(&self, stretch: &mut Option<Range<usize>>, position: Range<usize>, line: &Line) -> Option<Range<usize>> {
        // The context of a find may be before `start`.
        let low = floor_boundary(self.text, position.start.saturating_sub(ESCAPE_REACH)).max(line.start);
        let high = floor_boundary(self.text, (position.end + ESCAPE_REACH).min(line.end));
        match stretch {
            Some(stretch) if low <= stretch.end && high - stretch.start <= WINDOW => {
                stretch.end = high;
                None
            }
            _ => stretch.replace(low..high),
        }
    }

    /// Searches a stretch without its invisible characters.
    fn without_invisible(&mut self, stretch: &Range<usize>) {
        let Some(view) = visible_view(self.text, stretch) else { return };
        for find in self.nested(&view.text, false) {
            let (secret, whole) = (view.original_of_bytes(&find.secret), view.original_of_bytes(&find.whole));
            if whole.len() != find.whole.len() && whole.start >= self.start {
                self.out.push(Pending { secret, whole, ..find });
            }
        }
    }

    fn escaped(&mut self, stretch: &Range<usize>) {
        let Some(view) = escape_view(self.text, stretch) else { return };
        for find in self.nested(&view.text, false) {
            let (secret, whole) = (view.original(&find.secret), view.original(&find.whole));
            // Without an escape inside, the original text gives the same result, with all of its context.
            if whole.len() != find.whole.len() && whole.start >= self.start {
                self.out.push(Pending { secret, whole, ..find });
            }
        }
    }

    fn read_view(&mut self, view: &View) {
        for find in self.nested(&view.text, true) {
            let (secret, whole) = (view.original(&find.secret), view.original(&find.whole));
            self.out.push(Pending { secret, whole, ..find });
        }
    }

    fn nested(&mut self, text: &str, decoded: bool) -> Vec<Pending> {
        if self.depth >= MAX_DEPTH {
            return Vec::new();
        }
        let mut inner = Search {
            redactor: self.redactor,
            masks: self.masks,
            scratch: &mut *self.scratch,
            text,
            start: 0,
            decoded: self.decoded || decoded,
            depth: self.depth + 1,
            known: self.known,
            placeholders: Vec::new(),
            covered: Vec::new(),
            out: Vec::new(),
        };
        inner.run();
        inner.out
    }

    /// Drops finds that touch a placeholder, which replaces a secret already.
    fn drop_finds_in_placeholders(&mut self) {
        let rules = &self.redactor.rules;
        let placeholders = &self.placeholders;
        self.out.retain(|find| {
            // Some rules depend on the text around a find, which was different before the redaction.
            let weighs = rules.get(find.rule as usize).is_some_and(|rule| rule.whole_word || rule.verify.is_some());
            !placeholders.iter().any(|placeholder| {
                overlap(placeholder, &find.whole)
                    || (weighs && (placeholder.end == find.whole.start || find.whole.end == placeholder.start))
            })
        });
    }
}

/// Whether an invisible sequence is in the middle of a word: colours are usually around words.
fn splits_a_word(text: &[u8], at: usize) -> bool {
    let word = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    let end = after_invisible(text, at);
    end > at && word(at.checked_sub(1).and_then(|before| text.get(before))) && word(text.get(end))
}

pub(super) fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}
