//! Values that the host knows to be secret, found in every form in which a program might print them.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use memchr::memrchr;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::credentials::{Before, Credentials};
use super::measure::{Weight, is_word_like};
use super::parts::parts;
use super::syntax::is_breaker;
use super::text::{KNOWN_VALUE, kebab, odd_backslashes_before};
use super::views::{is_base64, padding};

/// Shortest value that is masked everywhere, in bytes; anything shorter would redact ordinary words.
pub(super) const MIN_KNOWN_LENGTH: usize = 6;
/// Longest value that is masked, in bytes; of a longer one, its parts and its start.
const MAX_KNOWN_LENGTH: usize = 8 * 1024;
/// Bytes of a form that the automaton looks for; the rest is compared.
const KEY: usize = 8;
/// A truncated long form is still redacted if it has this many bytes.
const MIN_PART: usize = 32;
/// Bytes of a form that must be before a line break within it, and on each further line except the last.
const MIN_BEFORE_BREAK: usize = 8;
const MIN_ON_LINE: usize = 4;
/// Bytes over which a form may be spread by line breaks.
pub(super) const MAX_WRAPPED: usize = 16 * 1024;
/// Blanks that may precede the rest of a form on the next line.
const MAX_INDENT: usize = 64;
/// Empty lines that may be between two lines of a document.
const MAX_EMPTY: usize = 8;
/// Size in bits of the set of text that forms may have before a line break.
const ENDS: usize = 1 << 18;
/// The most forms for which the fast automaton is built.
pub(super) const MAX_FAST: usize = 2000;

/// A secret value, and the name in its placeholder.
#[derive(Clone)]
pub struct KnownSecret {
    /// The name in the placeholder; converted to kebab case. Empty gives `known-value`.
    pub name: String,
    /// The value.
    pub value: String,
}

impl fmt::Debug for KnownSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KnownSecret").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Known secrets in all their encodings, compiled once for each run.
#[derive(Default)]
pub struct Masks {
    names: Vec<String>,
    keys: Option<AhoCorasick>,
    /// The forms that begin with each key.
    forms: Vec<Vec<Form>>,
    /// Starts of forms, up to a byte at which text can be split.
    openings: Vec<Vec<u8>>,
    /// Hashes of all text that can be before a line break inside a form: its stretches of [`MIN_ON_LINE`] bytes.
    ends: Vec<u64>,
    /// Whether any form is a document, whose lines may be of any length.
    documents: bool,
    /// Values that are masked only where they are used as a credential.
    credentials: Credentials,
    /// What it was made from, to add more.
    values: Vec<KnownSecret>,
    open: BTreeSet<String>,
}

struct Form {
    bytes: Vec<u8>,
    name: u32,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Base64,
    /// A text of several lines, without its line breaks and indentation.
    Document,
}

impl fmt::Debug for Masks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masks").field("values", &self.names.len()).finish_non_exhaustive()
    }
}

impl Masks {
    /// Compiles `values`. A distinctive value is masked everywhere and in every encoding, also members and lines of a
    /// document; an ordinary word only where it is used as a credential; a switch (`true`) nowhere.
    pub fn new(values: impl IntoIterator<Item = KnownSecret>) -> Self {
        Self::with_open(values, &BTreeSet::new())
    }

    /// The same for a run with other, open values, whose names do not suggest a secret. A word among them counts as
    /// ordinary: for example, a password that equals the user's name.
    pub fn with_open(values: impl IntoIterator<Item = KnownSecret>, open: &BTreeSet<String>) -> Self {
        let mut masks = Self { values: values.into_iter().collect(), open: open.clone(), ..Self::default() };
        let mut forms: HashMap<Vec<u8>, (u32, Kind)> = HashMap::new();
        for known in masks.values.clone() {
            let name =
                Some(kebab(&known.name)).filter(|name| !name.is_empty()).unwrap_or_else(|| KNOWN_VALUE.to_owned());
            let index = masks.names.iter().position(|n| *n == name).unwrap_or_else(|| {
                masks.names.push(name);
                masks.names.len() - 1
            }) as u32;
            let is_open = |value: &str| open.contains(value) && is_word_like(value);
            for part in parts(&known.name, &known.value) {
                if part.weight == Weight::AsCredential || is_open(part.value.trim()) {
                    masks.credentials.add(part.value.trim(), index);
                    continue;
                }
                for (form, kind) in all_forms(&part.value) {
                    forms.entry(form).or_insert((index, kind));
                }
            }
        }
        masks.credentials.build();
        let mut sorted: Vec<_> = forms.into_iter().collect();
        sorted.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.0.cmp(&b.0)));
        let mut keys: Vec<Vec<u8>> = Vec::new();
        let mut by_key: HashMap<Vec<u8>, usize> = HashMap::new();
        for (bytes, (name, kind)) in sorted {
            let key = bytes.get(..KEY).unwrap_or(&bytes).to_vec();
            masks.add_ends(&bytes);
            masks.documents |= kind == Kind::Document;
            // A longer start is found by its key.
            masks.openings.extend(
                key.iter()
                    .enumerate()
                    .filter(|(_, b)| is_breaker(**b))
                    .filter_map(|(at, _)| Some(bytes.get(..=at)?.to_vec())),
            );
            let at = *by_key.entry(key).or_insert_with_key(|key| {
                keys.push(key.clone());
                masks.forms.push(Vec::new());
                keys.len() - 1
            });
            if let Some(forms) = masks.forms.get_mut(at) {
                forms.push(Form { bytes, name, kind });
            }
        }
        if !keys.is_empty() {
            let kind = if keys.len() <= MAX_FAST { AhoCorasickKind::DFA } else { AhoCorasickKind::ContiguousNFA };
            masks.keys = AhoCorasick::builder().match_kind(MatchKind::Standard).kind(Some(kind)).build(&keys).ok();
            debug_assert!(masks.keys.is_some());
        }
        masks
    }

    /// The same with further values. The indexes of the names stay.
    pub(super) fn with(&self, more: impl IntoIterator<Item = KnownSecret>) -> Self {
        Self::with_open(self.values.iter().cloned().chain(more), &self.open)
    }

    /// No known values.
    pub fn none() -> Self {
        Self::default()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.keys.is_none() && self.credentials.is_empty()
    }

    /// Whether some of the values are masked only as credentials.
    pub(super) fn reads_names(&self) -> bool {
        !self.credentials.is_empty()
    }

    pub(super) fn has_name(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    pub(super) fn name(&self, index: u32) -> &str {
        self.names.get(index as usize).map_or(KNOWN_VALUE, String::as_str)
    }

    /// Finds every known value from `start` on. `find` gets its range, the index of its name, whether the text ended
    /// before the form did, so that more of it may follow, and the end of the form if the range is only one of its
    /// lines.
    pub(super) fn each(&self, text: &[u8], start: usize, mut find: impl FnMut(Range<usize>, u32, bool, usize)) {
        let Some(keys) = &self.keys else { return };
        for hit in keys.find_overlapping_iter(text.get(start..).unwrap_or_default()) {
            let at = start + hit.start();
            let rest = text.get(at..).unwrap_or_default();
            for form in self.forms.get(hit.pattern().as_usize()).map_or(&[][..], Vec::as_slice) {
                let common = common(rest, &form.bytes);
                let open = common == rest.len() && common < form.bytes.len();
                if common < form.bytes.len() && common >= MIN_BEFORE_BREAK && !open {
                    match wrapped(text, at, common, form) {
                        Wrapped::Whole(lines) => {
                            let end = lines.last().map_or(at, |line| line.end);
                            for line in lines {
                                let line = if form.kind == Kind::Base64 { widen(text, line, start) } else { line };
                                let end = end.max(line.end);
                                find(line, form.name, false, end);
                            }
                            continue;
                        }
                        Wrapped::Open => find(at..at, form.name, true, at),
                        Wrapped::No => {}
                    }
                }
                if common == form.bytes.len() || common >= MIN_PART.max(form.bytes.len() / 2) {
                    let range = at..at + common;
                    let range = if form.kind == Kind::Base64 { widen(text, range, start) } else { range };
                    let end = range.end;
                    find(range, form.name, open, end);
                } else if open {
                    find(at..at, form.name, true, at);
                }
            }
        }
    }

    /// Finds every ordinary word from `start` on that is used as its credential, with the index of its name.
    pub(super) fn each_credential(
        &self,
        text: &[u8],
        start: usize,
        known: Before,
        find: impl FnMut(Range<usize>, u32),
    ) {
        self.credentials.each(text, start, known, |name| self.name(name), find);
    }

    /// The name of a known value in a text, if there is one.
    pub(super) fn in_text(&self, text: &str) -> Option<u32> {
        let mut found = None;
        self.each(text.as_bytes(), 0, |range, name, _, _| {
            if !range.is_empty() {
                found.get_or_insert(name);
            }
        });
        if found.is_none() {
            self.each_credential(text.as_bytes(), 0, Before::Line, |_, name| found = Some(name));
        }
        found
    }

    /// Whether a text contains a known value that would be masked there.
    pub fn shows_in(&self, text: &str) -> bool {
        self.in_text(text).is_some()
    }

    /// The start of the first known value that may continue on the line after `text`, which ends with a line break.
    pub(super) fn wrapped_before(&self, text: &[u8]) -> Option<usize> {
        let line = text.strip_suffix(b"\n")?;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (_, last) = line.split_last_chunk::<MIN_ON_LINE>()?;
        let (word, bit) = end_bit(last);
        // The line ends with no part of a form, but it may be a line of a document.
        let own = memrchr(b'\n', line).and_then(|newline| line.get(newline + 1..)).unwrap_or(line);
        let short = own.trim_ascii_start().len() < MIN_ON_LINE;
        if !(self.documents && short) && self.ends.get(word).is_none_or(|bits| bits & bit == 0) {
            return None;
        }
        let from = text.len().saturating_sub(MAX_WRAPPED);
        let mut first: Option<usize> = None;
        // No form contains a line break, which ends the text: an open form continues on the next line.
        self.each(text, from, |range, _, open, _| {
            if open {
                first = Some(first.map_or(range.start, |first| first.min(range.start)));
            }
        });
        first
    }

    fn add_ends(&mut self, form: &[u8]) {
        if self.ends.is_empty() {
            self.ends = vec![0; ENDS / 64];
        }
        for stretch in form.windows(MIN_ON_LINE) {
            let Ok(stretch) = stretch.try_into() else { continue };
            let (word, bit) = end_bit(stretch);
            if let Some(bits) = self.ends.get_mut(word) {
                *bits |= bit;
            }
        }
    }

    /// Where a known value may start that continues after the end of `text`, if at least `least` bytes of it are there.
    pub(super) fn start_at_end(&self, text: &[u8], least: usize) -> Option<usize> {
        let starts = self.forms.iter().flatten().filter_map(|form| {
            let longest = form.bytes.len().saturating_sub(1).min(text.len());
            let found = (least..=longest)
                .rev()
                .find(|length| form.bytes.get(..*length).is_some_and(|start| text.ends_with(start)));
            found.map(|length| text.len() - length)
        });
        starts.min()
    }

    /// Where a known value may have started that would be split at the end of `text`; `None` if nowhere.
    pub(super) fn opening_before(&self, text: &[u8]) -> Option<usize> {
        self.openings.iter().filter(|opening| text.ends_with(opening)).map(|opening| text.len() - opening.len()).min()
    }
}

/// The length of the common prefix of two texts.
fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The position of a stretch in the set of ends.
fn end_bit(stretch: &[u8; MIN_ON_LINE]) -> (usize, u64) {
    let hash = u32::from_le_bytes(*stretch).wrapping_mul(0x9e37_79b1) >> 14;
    (hash as usize / 64, 1 << (hash % 64))
}

/// Whether a form continues after line breaks.
enum Wrapped {
    /// It continues to its end: its part on each line.
    Whole(Vec<Range<usize>>),
    /// It continues to the end of the text.
    Open,
    No,
}

/// Follows a form whose first `matched` bytes are at `at`, over line breaks that a program has inserted: `base64` after
/// 76 characters, `fold` after 80. In the JSON text of a string, they are `\n`.
fn wrapped(text: &[u8], at: usize, matched: usize, form: &Form) -> Wrapped {
    let document = form.kind == Kind::Document;
    let (form, least) = (form.bytes.as_slice(), if document { 1 } else { MIN_ON_LINE });
    let mut lines = Vec::new();
    let (mut start, mut end, mut done) = (at, at + matched, matched);
    loop {
        lines.push(start..end);
        if done == form.len() {
            return Wrapped::Whole(lines);
        }
        let Some(mut next) = next_line(text, end) else { return Wrapped::No };
        let empty = if document { MAX_EMPTY } else { 0 };
        for _ in 0..empty {
            next = next_line(text, next).filter(|_| next < text.len()).unwrap_or(next);
        }
        if next - at > MAX_WRAPPED {
            return Wrapped::No;
        }
        if next == text.len() {
            return Wrapped::Open;
        }
        let rest = form.get(done..).unwrap_or_default();
        let more = common(text.get(next..).unwrap_or_default(), rest);
        (start, end, done) = (next, next + more, done + more);
        if end == text.len() && done < form.len() {
            return Wrapped::Open;
        }
        if more < least.min(rest.len()) {
            return Wrapped::No;
        }
    }
}

/// Where the text continues after a line break and the blanks that follow it.
fn next_line(text: &[u8], at: usize) -> Option<usize> {
    let rest = text.get(at..)?;
    // An incomplete line break.
    if matches!(rest, b"\r" | b"") {
        return Some(text.len());
    }
    let escapes = backslashes(rest);
    let length = match rest.get(escapes..)? {
        [b'\r', b'\n', ..] if escapes == 0 => 2,
        [b'\n', ..] if escapes == 0 => 1,
        [b'n', ..] if escapes > 0 => escapes + 1,
        [b'r', more @ ..] if escapes > 0 && backslashes(more) == escapes && more.get(escapes) == Some(&b'n') => {
            2 * escapes + 2
        }
        _ => 0,
    };
    if length == 0 {
        return None;
    }
    let blanks = rest.get(length..)?.iter().take(MAX_INDENT).take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    Some(at + length + blanks)
}

fn backslashes(text: &[u8]) -> usize {
    text.iter().take_while(|byte| **byte == b'\\').count()
}

/// Extends a base64 form by the characters at both ends that contain only bits of the value, and the padding.
fn widen(text: &[u8], range: Range<usize>, start: usize) -> Range<usize> {
    let mut begin = range.start;
    while begin > start && range.start - begin < 2 && text.get(begin - 1).is_some_and(|b| is_base64(*b)) {
        // The letter of an escape is not part of it.
        if odd_backslashes_before(text, begin - 1) {
            break;
        }
        begin -= 1;
    }
    let rest = text.get(range.end..).unwrap_or_default();
    let after = rest.iter().take(2).take_while(|b| is_base64(**b)).count();
    let padding = padding(text, range.end + after);
    begin..range.end + after + padding
}

fn all_forms(value: &str) -> Vec<(Vec<u8>, Kind)> {
    let mut forms = Vec::new();
    let whole = value.get(..value.floor_char_boundary(MAX_KNOWN_LENGTH)).unwrap_or(value);
    let trimmed = whole.trim();
    let multi_line = trimmed.contains(['\n', '\r']);
    add_forms(trimmed, !multi_line, &mut forms);
    if trimmed.len() != whole.len() {
        add_forms(whole, false, &mut forms);
    }
    forms.extend(document_form(whole).map(|form| (form, Kind::Document)));
    forms.retain(|(form, _)| form.len() >= MIN_KNOWN_LENGTH && !form.contains(&b'\n'));
    forms
}

/// A text of several lines without line breaks, which may be inserted anywhere. Short lines at its start, such as a
/// bracket, are left out: too many other texts start with them.
fn document_form(value: &str) -> Option<Vec<u8>> {
    let mut lines = value.trim().lines().map(str::trim_start).skip_while(|line| line.len() < MIN_BEFORE_BREAK);
    let first = lines.next()?;
    let rest: String = lines.collect();
    (!rest.is_empty()).then(|| [first, &rest].concat().into_bytes())
}

pub(super) const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// Characters that form encoders and `encodeURIComponent` also leave unencoded.
const LENIENT: &AsciiSet = &COMPONENT.remove(b'!').remove(b'*').remove(b'\'').remove(b'(').remove(b')');
/// Characters that `encodeURI` leaves unencoded: everything with a meaning in a URL.
const WHOLE_URL: &AsciiSet = &LENIENT
    .remove(b';')
    .remove(b'/')
    .remove(b'?')
    .remove(b':')
    .remove(b'@')
    .remove(b'&')
    .remove(b'=')
    .remove(b'+')
    .remove(b'$')
    .remove(b',')
    .remove(b'#');

fn add_forms(value: &str, plain: bool, forms: &mut Vec<(Vec<u8>, Kind)>) {
    if value.len() < MIN_KNOWN_LENGTH {
        return;
    }
    let mut text = |form: String| forms.push((form.into_bytes(), Kind::Text));
    if plain {
        text(value.to_owned());
        text(value.replace('\'', r"'\''"));
        text(value.replace('\'', r#"'"'"'"#));
        text(escape(value, |c| matches!(c, '"' | '\\' | '$' | '`')));
        text(escape(value, |c| matches!(c, '\'' | '\\')));
        text(escape(value, |c| {
            !c.is_alphanumeric() && !matches!(c, '_' | '-' | '.' | '/' | ':' | '=' | '@' | '%' | '+' | ',')
        }));
        text(escape(value, |c| c.is_ascii() && !c.is_ascii_alphanumeric()));
        text(value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;"));
    }
    let once = json_escape(value);
    text(json_escape(&once));
    text(json_escape(&json_escape(&once)));
    text(once.replace('/', r"\/"));
    text(once.replace('&', r"\u0026").replace('<', r"\u003c").replace('>', r"\u003e"));
    text(
        once.replace('&', r"\u0026")
            .replace('<', r"\u003c")
            .replace('>', r"\u003e")
            .replace('\'', r"\u0027")
            .replace('=', r"\u003d"),
    );
    text(once);
    for set in [COMPONENT, LENIENT, WHOLE_URL] {
        let upper = percent(value, set);
        text(lower_escapes(&upper));
        text(lower_escapes(&upper.replace("%20", "+")));
        text(upper.replace("%20", "+"));
        text(upper.replace('%', "%25"));
        text(upper);
    }
    let every = |upper: bool| {
        value.bytes().fold(String::with_capacity(value.len() * 3), |mut out, byte| {
            out.push_str(&if upper { format!("%{byte:02X}") } else { format!("%{byte:02x}") });
            out
        })
    };
    text(every(true));
    text(every(false));
    // Values that are encoded more than once are found in the text that the matcher decodes.
    add_base64_forms(value.as_bytes(), forms);
}

/// The base64 characters that contain only bits of the value, for each offset in the encoded data, in both alphabets.
fn add_base64_forms(value: &[u8], forms: &mut Vec<(Vec<u8>, Kind)>) {
    for offset in 0..3 {
        let mut padded = vec![0u8; offset];
        padded.extend_from_slice(value);
        let first = (offset * 8).div_ceil(6);
        let last = padded.len() * 8 / 6;
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            if let Some(form) = engine.encode(&padded).as_bytes().get(first..last) {
                forms.push((form.to_vec(), Kind::Base64));
            }
        }
    }
}

fn escape(value: &str, special: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(value.len() + 8);
    for c in value.chars() {
        if special(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

pub(super) fn percent(value: &str, set: &'static AsciiSet) -> String {
    utf8_percent_encode(value, set).to_string()
}

pub(super) fn json_escape(value: &str) -> String {
    let quoted = serde_json::Value::String(value.to_owned()).to_string();
    quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned()
}

/// Hex digits of percent escapes in lower case, everything else unchanged.
fn lower_escapes(encoded: &str) -> String {
    let mut out = String::with_capacity(encoded.len());
    let mut digits = 0;
    for c in encoded.chars() {
        out.push(if digits > 0 { c.to_ascii_lowercase() } else { c });
        digits = if c == '%' { 2 } else { i32::max(digits - 1, 0) };
    }
    out
}
