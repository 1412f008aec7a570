//! Assignments that are spread over lines: a name on one, its value on another, as JSON, YAML and code are printed.
//!
//! Rules see one line at a time. If the name of a secret and its value are on different lines, they are passed to the
//! rules joined, as on one line. Only the name is remembered, for a few lines; the lines themselves are released at
//! once. Only a line with a value is held back until the next one, which may have the name.
//!
//! All decisions use whole lines, so that the result does not depend on cuts: [`may_be_value`] says which lines a
//! stream must have completely.

use std::ops::Range;

use super::text::PLACEHOLDER;
use ostler_protocol::secret_like;

/// The longest line that can have a name, or be between a name and its value, in bytes. A stream keeps more than that
/// of an unfinished line.
const MAX_LINE: usize = 200;
/// Longest line with a value.
pub(super) const MAX_VALUE: usize = 2 * 1024;
/// Lines after a name in which the value of the same object may be.
const PAIR_LINES: u8 = 4;
/// The same for the object that is the value of the name.
const NESTED_LINES: u8 = 6;
/// Lines of a block of text that are examined.
const BLOCK_LINES: u8 = 16;
/// Bytes of marks before a line that are skipped: indentation, a number, a diff mark, brackets.
const MAX_MARKS: usize = 96;
/// Names before an operator that are considered: a type can be between.
const NEAR_NAMES: usize = 5;

/// Keys whose value is a name.
const NAME_KEYS: &[&str] = &["name", "key", "variable", "parameterkey", "optionname", "parameter_key"];
/// Keys whose value belongs to the name next to it.
const VALUE_KEYS: &[&str] = &["value", "parametervalue", "parameter_value", "stringvalue", "secretvalue", "plaintext"];
/// Keys of an object that is the value of the name.
const NESTED_KEYS: &[&str] = &["default", "secret", "string"];

/// A name whose value was not found yet.
#[derive(Clone)]
pub(super) struct Named {
    /// The text before the value, as on one line.
    before: String,
    kind: Kind,
    /// Where the name begins in its line.
    column: usize,
    /// Remaining lines in which the value may be.
    left: u8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `"name": "TOKEN",` and on another line `"value": "…"`.
    Pair,
    /// `"password": {` and on another line `"value": "…"`.
    Nested,
    /// `password =` and the value on the next line.
    Next,
    /// `password: |` and the value on indented lines.
    Block,
}

/// A value, and the text before it, as on one line.
pub(super) struct Beside {
    pub(super) before: String,
    /// From the value to the end of its line.
    pub(super) value: Range<usize>,
}

/// Goes through whole lines of a text.
pub(super) struct Lines<'a> {
    open: &'a mut Option<Named>,
    /// The value of the previous line, if it has no name yet.
    value_before: Option<Range<usize>>,
}

impl<'a> Lines<'a> {
    /// Starts with a name from earlier text.
    pub(super) fn new(open: &'a mut Option<Named>) -> Self {
        Self { open, value_before: None }
    }

    /// Takes the next line, which starts at `start`, without its end. Returns a value whose name is on another line.
    pub(super) fn line(&mut self, line: &str, start: usize) -> Option<Beside> {
        let value_before = self.value_before.take();
        // A quick check: most lines have neither a name nor a value.
        if self.open.is_none() && !is_relevant(line.as_bytes()) {
            return None;
        }
        let found = self.value_of_open(line, start);
        if found.is_some() {
            return found;
        }
        if line.len() <= MAX_VALUE
            && let Some(parsed) = Parsed::new(line)
            && parsed.has_key(VALUE_KEYS)
            && !parsed.ends_object()
            && !line.contains(PLACEHOLDER)
        {
            self.value_before = Some(start + parsed.value..start + line.len());
        }
        let named = opening(line)?;
        let begins_object = Parsed::new(line).is_some_and(|parsed| parsed.begins);
        let found = value_before
            .filter(|_| named.kind == Kind::Pair && !begins_object)
            .map(|value| Beside { before: named.before.clone(), value });
        *self.open = Some(named).filter(|_| found.is_none());
        found
    }

    /// The value of the open name, if this line has it. Closes the name if this line ends its object.
    fn value_of_open(&mut self, line: &str, start: usize) -> Option<Beside> {
        let open = self.open.as_mut()?;
        let blank = line.bytes().all(|byte| byte.is_ascii_whitespace());
        if blank && open.kind != Kind::Next && open.left > 0 {
            open.left -= 1;
            return None;
        }
        let named = self
            .open
            .take()
            .filter(|named| !blank && named.left > 0 && line.len() <= MAX_VALUE && !line.contains(PLACEHOLDER))?;
        let left = named.left - 1;
        match named.kind {
            Kind::Next | Kind::Block => {
                let column = line.len() - line.trim_start().len();
                if named.kind == Kind::Block && column <= named.column {
                    return None;
                }
                let value = lone_value(line).map(|at| start + at..start + line.len());
                let before = named.before.clone();
                if named.kind == Kind::Block && !line.contains("-----BEGIN") {
                    *self.open = Some(Named { left, ..named });
                }
                Some(Beside { before, value: value? })
            }
            Kind::Pair | Kind::Nested => {
                let parsed = Parsed::new(line);
                let nested = named.kind == Kind::Nested;
                if let Some(parsed) = parsed.as_ref().filter(|parsed| {
                    (!parsed.begins || nested)
                        && (parsed.has_key(VALUE_KEYS)
                            || (nested && parsed.has_key(NESTED_KEYS))
                            || parsed.is_tag("string"))
                }) {
                    let rest = line.get(parsed.value..).unwrap_or_default();
                    if let Some(kind) = continuation(rest) {
                        let left = if kind == Kind::Block { BLOCK_LINES } else { 1 };
                        *self.open = Some(Named { before: named.before, kind, column: parsed.column, left });
                        return None;
                    }
                    return Some(Beside { before: named.before, value: start + parsed.value..start + line.len() });
                }
                let over = line.len() > MAX_LINE
                    || line.trim_start().starts_with(['}', ']'])
                    || parsed.is_some_and(|parsed| parsed.begins || (!parsed.quoted && parsed.column < named.column));
                if !over {
                    *self.open = Some(Named { left, ..named });
                }
                None
            }
        }
    }
}

/// Whether an unfinished line may contain a value whose name is on another line.
pub(super) fn may_be_value(open: Option<&Named>, line: &str) -> bool {
    if line.len() > MAX_VALUE {
        return false;
    }
    let marks = |c: char| c.is_ascii_digit() || " \t\r|:→│+-{\"'`<([".contains(c);
    let word = line.trim_start_matches(marks);
    if word.is_empty() {
        return line.len() <= MAX_MARKS;
    }
    if open.is_some_and(|named| matches!(named.kind, Kind::Next | Kind::Block)) {
        let shown = line.trim_start();
        let rest = shown.trim_end();
        return lone_value(line).is_some() || rest.len() <= 2 || !rest.contains([' ', '\t']);
    }
    let key = word.get(..word.bytes().take_while(|byte| is_name(*byte)).count()).unwrap_or_default();
    let keys = VALUE_KEYS.iter().chain(NESTED_KEYS.iter().filter(|_| open.is_some()));
    if key.len() == word.len() {
        return keys.into_iter().any(|value| starts_with_ignoring_case(value, key));
    }
    let operator = word.get(key.len()..).unwrap_or_default().trim_start_matches(['"', '\'', '`', ' ', '\t']);
    keys.into_iter().any(|value| value.eq_ignore_ascii_case(key))
        && (operator.is_empty() || operator.starts_with([':', '=', '>']))
}

/// Whether the last of these whole lines has a value whose name may be on the next line.
pub(super) fn awaits_name(line: &str) -> bool {
    let line = line.trim_end_matches(['\n', '\r']);
    line.len() <= MAX_VALUE
        && is_relevant(line.as_bytes())
        && Parsed::new(line).is_some_and(|parsed| parsed.has_key(VALUE_KEYS) && !parsed.ends_object())
}

/// A quick check: whether a line starts like a relevant key or ends like a name without its value.
fn is_relevant(line: &[u8]) -> bool {
    let end = line.iter().rev().position(|byte| !matches!(byte, b' ' | b'\t' | b'\r'));
    let Some(last) = end.and_then(|blanks| line.get(line.len() - blanks - 1)) else { return false };
    if matches!(last, b':' | b'=' | b'{' | b'|' | b'>' | b'+' | b'-' | b'\\') {
        return true;
    }
    let marks = |byte: &u8| byte.is_ascii_digit() || b" \t|:+-{\"'<".contains(byte);
    let first = line.iter().take(MAX_MARKS).position(|byte| !marks(byte) && *byte < 0x80);
    let Some(rest) = first.and_then(|first| line.get(first..)) else { return false };
    let Some([a, b]) = rest.first_chunk::<2>() else { return false };
    // `name`, `key`, `variable`, `value`, `parameter…`, `option…`, `string…`, `secret…`, `plaintext`.
    matches!(
        [a.to_ascii_lowercase(), b.to_ascii_lowercase()],
        [b'n', b'a'] | [b'k', b'e'] | [b'v', b'a'] | [b'p', b'a' | b'l'] | [b'o', b'p'] | [b's', b't' | b'e']
    )
}

/// The name in a line that has no value there.
fn opening(line: &str) -> Option<Named> {
    let shown = line.trim_end_matches([' ', '\t', '\r']);
    if shown.len() > MAX_LINE || shown.contains(PLACEHOLDER) {
        return None;
    }
    let named = |before: String, kind, column| {
        let left = match kind {
            Kind::Pair => PAIR_LINES,
            Kind::Nested => NESTED_LINES,
            Kind::Next => 1,
            Kind::Block => BLOCK_LINES,
        };
        Some(Named { before, kind, column, left })
    };
    let content = Content::new(shown);
    let text = content.text;
    if let Some(parsed) = Parsed::new(shown).filter(|parsed| parsed.has_key(NAME_KEYS)) {
        let value = shown.get(parsed.value..)?.trim_end_matches([',', ';', ' ', '}']);
        let value = value.split_once("</").map_or(value, |(value, _)| value);
        let name = value.trim_matches(['"', '\'', '`']);
        if is_path_of_names(name) && secret_like(name.rsplit('/').next()?) {
            return named(format!("{}: ", name.rsplit('/').next()?), Kind::Pair, parsed.column);
        }
    }
    if let Some(left) = text.strip_suffix('{') {
        let left = left.trim_end_matches([' ', '\t', '(']);
        let block = left.strip_prefix("variable ").or_else(|| left.strip_prefix("output "));
        let assigned = left.strip_suffix([':', '=']).or(block)?;
        let name = last_name(assigned)?;
        return named(format!("{name}: "), Kind::Nested, content.column).filter(|_| secret_like(name));
    }
    match continuation_at_end(text)? {
        (Kind::Block, left) => {
            let name = last_name(left)?;
            named(format!("{name}: "), Kind::Block, content.column).filter(|_| secret_like(name))
        }
        (_, left) => {
            let names = left.rsplit(|c: char| !(c.is_ascii() && is_name(c as u8))).filter(|name| !name.is_empty());
            let telling = names.take(NEAR_NAMES).any(secret_like);
            let text = text.trim_end_matches(['\\', ' ', '\t']);
            named(format!("{text} "), Kind::Next, content.column).filter(|_| telling)
        }
    }
}

/// How the value of a key continues on the next line, if it does not start on this one.
fn continuation(value: &str) -> Option<Kind> {
    let value = value.trim();
    if value.is_empty() || value == "\\" {
        return Some(Kind::Next);
    }
    let scalar = value.strip_prefix(['|', '>'])?;
    scalar.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-')).then_some(Kind::Block)
}

/// The same for a line that ends with an operator, with the text before the operator.
fn continuation_at_end(text: &str) -> Option<(Kind, &str)> {
    let scalar = text.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-'));
    if text.len() - scalar.len() <= 2
        && let Some(left) = scalar.strip_suffix(['|', '>'])
        && let Some(left) = left.strip_suffix([' ', '\t']).and_then(|left| left.trim_end().strip_suffix(':'))
    {
        return Some((Kind::Block, left));
    }
    let text = text.strip_suffix('\\').map_or(text, str::trim_end);
    let left = text.strip_suffix([':', '='])?;
    Some((Kind::Next, left.trim_end_matches([':', '=', '+', '?', ' ', '\t'])))
}

/// The name at the end of a text, without closing characters.
fn last_name(text: &str) -> Option<&str> {
    let text = text.trim_end_matches(['"', '\'', '`', ' ', '\t', ']', ')']);
    let length = text.bytes().rev().take_while(|byte| is_name(*byte)).count();
    text.get(text.len() - length..).filter(|name| !name.is_empty())
}

/// Where the value starts in a line that has only a value: one word, or a string.
fn lone_value(line: &str) -> Option<usize> {
    let content = Content::new(line);
    let text = content.text.trim_end_matches([' ', '\t', '\r']);
    let unquoted = text.trim_start_matches(['b', 'r', 'f', 'u']);
    if unquoted.starts_with(['"', '\'', '`']) {
        return Some(content.at);
    }
    // `NAME=…` is an assignment of its own; equals signs at the end are those of base64.
    let assigns = text.trim_end_matches('=').contains('=');
    let lone = !text.is_empty() && !text.contains([' ', '\t']) && !text.ends_with([':', '{', '(', '[']) && !assigns;
    lone.then_some(content.at)
}

/// A line without the prefix of a tool or a list.
struct Content<'t> {
    text: &'t str,
    /// Where the text starts in the line.
    at: usize,
    /// The same, without a line number.
    column: usize,
    /// An item of a list, or an object, starts here.
    begins: bool,
}

impl<'t> Content<'t> {
    fn new(line: &'t str) -> Self {
        let after_number = after_number(line);
        let mut text = line.get(after_number..).unwrap_or_default();
        let mut begins = false;
        loop {
            text = text.trim_start_matches([' ', '\t']);
            let Some(rest) = text.strip_prefix(['+', '-', '{', '[', '(']) else { break };
            // A dash without a blank after it belongs to a value.
            if text.starts_with('-') && !rest.starts_with([' ', '\t']) {
                break;
            }
            begins |= !text.starts_with('+');
            text = rest;
        }
        let at = line.len() - text.len();
        Self { text, at, column: at - after_number, begins }
    }
}

/// Where a line continues after a line number.
fn after_number(line: &str) -> usize {
    let blanks = line.bytes().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let rest = line.get(blanks..).unwrap_or_default();
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let rest = rest.get(digits..).unwrap_or_default();
    let mark = ["\t", "→", "│", "|", ": "].into_iter().find(|mark| rest.starts_with(mark));
    mark.filter(|_| (1..=6).contains(&digits)).map_or(0, |mark| blanks + digits + mark.len())
}

/// A line that starts with a key: `"key": `, `key = `, `<key>`.
struct Parsed<'t> {
    key: &'t str,
    /// Where its value starts in the line.
    value: usize,
    column: usize,
    begins: bool,
    quoted: bool,
    tag: bool,
    line: &'t str,
}

impl<'t> Parsed<'t> {
    fn new(line: &'t str) -> Option<Self> {
        let content = Content::new(line);
        let tag = content.text.strip_prefix('<');
        let bare = tag.unwrap_or(content.text).trim_start_matches(['"', '\'', '`']);
        let length = bare.bytes().take_while(|byte| is_name(*byte)).count();
        let (key, rest) = bare.split_at_checked(length).filter(|(key, _)| !key.is_empty())?;
        let quoted = tag.is_none() && bare.len() < content.text.len();
        let rest = if tag.is_some() {
            rest.strip_prefix('>')?
        } else {
            rest.trim_start_matches(['"', '\'', '`', ' ', '\t']).strip_prefix([':', '='])?
        };
        let value = line.len() - rest.trim_start_matches([' ', '\t']).len();
        let Content { column, begins, .. } = content;
        Some(Self { key, value, column, begins, quoted, tag: tag.is_some(), line })
    }

    fn has_key(&self, keys: &[&str]) -> bool {
        keys.iter().any(|key| self.key.eq_ignore_ascii_case(key)) && (!self.tag || self.is_pair_of_tags())
    }

    fn is_tag(&self, name: &str) -> bool {
        self.tag && self.key == name
    }

    /// `<key>` and `</key>` on one line.
    fn is_pair_of_tags(&self) -> bool {
        self.line.get(self.value..).is_some_and(|rest| rest.contains("</"))
    }

    /// Whether the object that the key belongs to ends on this line, too.
    fn ends_object(&self) -> bool {
        self.line.trim_end_matches([' ', '\t', '\r', ',', ';']).ends_with(['}', ')'])
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// `TOKEN`, `/app/db/password`.
fn is_path_of_names(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| is_name(byte) || byte == b'/')
}

fn starts_with_ignoring_case(text: &str, start: &str) -> bool {
    text.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
}
