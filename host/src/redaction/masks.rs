//! Values that the host itself knows to be secret, looked for in every form in which a program might print them.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::syntax::is_breaker;
use super::text::{KNOWN_VALUE, kebab};
use super::views::is_base64;

/// Shortest value that is masked, in bytes; anything shorter would redact ordinary words.
pub const MIN_KNOWN_LENGTH: usize = 6;
/// Longest value that is masked, in bytes; of a longer one, its lines and its beginning.
const MAX_KNOWN_LENGTH: usize = 8 * 1024;
/// Bytes of a form that the automaton looks for; the rest is compared.
const KEY: usize = 8;
/// A long form that is cut off is redacted all the same if this much of it is there.
const MIN_PART: usize = 32;
/// Most forms for which the fast automaton is built.
const MAX_FAST: usize = 2000;

/// A value that must not appear, and the name that its placeholder bears.
#[derive(Clone)]
pub struct KnownSecret {
    /// Stands in the placeholder; brought to kebab form. Empty gives `known-value`.
    pub name: String,
    /// The value as it is.
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
    /// Beginnings of forms, up to a byte at which text is parted.
    openings: Vec<Vec<u8>>,
}

struct Form {
    bytes: Vec<u8>,
    name: u32,
    base64: bool,
}

impl fmt::Debug for Masks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masks").field("values", &self.names.len()).finish_non_exhaustive()
    }
}

impl Masks {
    /// Compiles `values`; those shorter than [`MIN_KNOWN_LENGTH`] are passed over.
    pub fn new(values: impl IntoIterator<Item = KnownSecret>) -> Self {
        let mut masks = Self::default();
        let mut forms: HashMap<Vec<u8>, (u32, bool)> = HashMap::new();
        for known in values {
            let name =
                Some(kebab(&known.name)).filter(|name| !name.is_empty()).unwrap_or_else(|| KNOWN_VALUE.to_owned());
            let index = masks.names.iter().position(|n| *n == name).unwrap_or_else(|| {
                masks.names.push(name);
                masks.names.len() - 1
            }) as u32;
            for (form, base64) in all_forms(&known.value) {
                forms.entry(form).or_insert((index, base64));
            }
        }
        let mut sorted: Vec<_> = forms.into_iter().collect();
        sorted.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.0.cmp(&b.0)));
        let mut keys: Vec<Vec<u8>> = Vec::new();
        for (bytes, (name, base64)) in sorted {
            let key = bytes.get(..KEY).unwrap_or(&bytes).to_vec();
            masks.openings.extend(
                bytes
                    .iter()
                    .enumerate()
                    .filter(|(_, b)| is_breaker(**b))
                    .filter_map(|(at, _)| Some(bytes.get(..=at)?.to_vec())),
            );
            let at = keys.iter().position(|known| *known == key).unwrap_or_else(|| {
                keys.push(key);
                masks.forms.push(Vec::new());
                keys.len() - 1
            });
            if let Some(forms) = masks.forms.get_mut(at) {
                forms.push(Form { bytes, name, base64 });
            }
        }
        let kind = if keys.len() <= MAX_FAST { AhoCorasickKind::DFA } else { AhoCorasickKind::ContiguousNFA };
        if !keys.is_empty() {
            masks.keys = AhoCorasick::builder().match_kind(MatchKind::Standard).kind(Some(kind)).build(&keys).ok();
            debug_assert!(masks.keys.is_some());
        }
        masks
    }

    /// No known values.
    pub fn none() -> Self {
        Self::default()
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.keys.is_none()
    }

    pub(super) fn has_name(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    pub(super) fn name(&self, index: u32) -> &str {
        self.names.get(index as usize).map_or(KNOWN_VALUE, String::as_str)
    }

    /// Every place from `start` on where a known value stands. `find` gets the stretch, the index of its name and
    /// whether the text ended before the form did, so that more of it may follow.
    pub(super) fn each(&self, text: &[u8], start: usize, mut find: impl FnMut(Range<usize>, u32, bool)) {
        let Some(keys) = &self.keys else { return };
        for hit in keys.find_overlapping_iter(text.get(start..).unwrap_or_default()) {
            let at = start + hit.start();
            let rest = text.get(at..).unwrap_or_default();
            for form in self.forms.get(hit.pattern().as_usize()).map_or(&[][..], Vec::as_slice) {
                let common = rest.iter().zip(&form.bytes).take_while(|(a, b)| a == b).count();
                let open = common == rest.len() && common < form.bytes.len();
                if common == form.bytes.len() || common >= MIN_PART.max(form.bytes.len() / 2) {
                    let range = if form.base64 { widen(text, at..at + common, start) } else { at..at + common };
                    find(range, form.name, open);
                } else if open {
                    find(at..at, form.name, true);
                }
            }
        }
    }

    /// Where a known value may have begun if `text` is to be parted at its end; `None` if nowhere.
    pub(super) fn opening_before(&self, text: &[u8]) -> Option<usize> {
        self.openings.iter().filter(|opening| text.ends_with(opening)).map(|opening| text.len() - opening.len()).min()
    }
}

/// Takes in the characters at both ends of a base64 form that hold only a part of the value, and the padding.
fn widen(text: &[u8], range: Range<usize>, start: usize) -> Range<usize> {
    let before =
        text.get(start..range.start).unwrap_or_default().iter().rev().take(2).take_while(|b| is_base64(**b)).count();
    let rest = text.get(range.end..).unwrap_or_default();
    let after = rest.iter().take(2).take_while(|b| is_base64(**b)).count();
    let padding = rest.iter().skip(after).take(2).take_while(|b| **b == b'=').count();
    range.start - before..range.end + after + padding
}

fn all_forms(value: &str) -> Vec<(Vec<u8>, bool)> {
    let mut forms = Vec::new();
    let whole = value.get(..value.floor_char_boundary(MAX_KNOWN_LENGTH)).unwrap_or(value);
    let trimmed = whole.trim();
    let multi_line = trimmed.contains(['\n', '\r']);
    add_forms(trimmed, !multi_line, &mut forms);
    if trimmed.len() != whole.len() {
        add_forms(whole, false, &mut forms);
    }
    if multi_line || value.len() > whole.len() {
        for line in value.lines().map(str::trim).filter(|line| !line.starts_with("-----")) {
            add_forms(line.get(..line.floor_char_boundary(MAX_KNOWN_LENGTH)).unwrap_or(line), true, &mut forms);
        }
    }
    forms.retain(|(form, _)| form.len() >= MIN_KNOWN_LENGTH && !form.contains(&b'\n'));
    forms
}

const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// What form encoders and `encodeURIComponent` leave besides.
const LENIENT: &AsciiSet = &COMPONENT.remove(b'!').remove(b'*').remove(b'\'').remove(b'(').remove(b')');
/// What `encodeURI` leaves: everything with a meaning in a URL.
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

fn add_forms(value: &str, plain: bool, forms: &mut Vec<(Vec<u8>, bool)>) {
    if value.len() < MIN_KNOWN_LENGTH {
        return;
    }
    let mut text = |form: String| forms.push((form.into_bytes(), false));
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
        let upper = utf8_percent_encode(value, set).to_string();
        text(lower_escapes(&upper));
        text(lower_escapes(&upper.replace("%20", "+")));
        text(upper.replace("%20", "+"));
        text(upper.replace('%', "%25"));
        text(upper);
    }
    let bytes = value.as_bytes();
    for offset in 0..3 {
        let mut padded = vec![0u8; offset];
        padded.extend_from_slice(bytes);
        // Characters that hold bits of the value only.
        let first = (offset * 8).div_ceil(6);
        let last = padded.len() * 8 / 6;
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            if let Some(form) = engine.encode(&padded).as_bytes().get(first..last) {
                forms.push((form.to_vec(), true));
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

fn json_escape(value: &str) -> String {
    let quoted = serde_json::Value::String(value.to_owned()).to_string();
    quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned()
}

/// Hex digits of percent escapes in lower case, everything else as it was.
fn lower_escapes(encoded: &str) -> String {
    let mut out = String::with_capacity(encoded.len());
    let mut digits = 0;
    for c in encoded.chars() {
        out.push(if digits > 0 { c.to_ascii_lowercase() } else { c });
        digits = if c == '%' { 2 } else { i32::max(digits - 1, 0) };
    }
    out
}
