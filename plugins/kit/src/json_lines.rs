//! A lenient parser for protocols with one JSON document per line.
//!
//! A line that `serde_json` accepts is parsed by `serde_json`. Only if it is rejected, it is repaired and parsed again:
//!
//! - an unpaired surrogate (JavaScript writes one if it cuts a string inside an emoji) becomes U+FFFD,
//! - a number beyond the range of a 64-bit float becomes 1e308 with its sign; `NaN` (Python) becomes `null`,
//! - control characters and unknown escapes in strings are taken literally,
//! - values that are nested too deeply become strings,
//! - several documents on one line are parsed one after another,
//! - of an incomplete or invalid document, the part before the cut or the error is parsed.

use serde_json::{Number, Value};

/// Maximum nesting depth; what is nested more deeply becomes a string. `serde_json` accepts 127 levels, but results become
/// parts of other documents.
const MAX_DEPTH: usize = 100;

/// Replaces a number that is too large: the largest power of ten that a 64-bit float can represent.
const GREATEST: &str = "1e308";

/// The result of parsing a line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// The complete documents, in order. Empty if the line is not JSON.
    pub documents: Vec<Value>,
    /// The known part of an incomplete document, which can only be the last one; `Null` if nothing is known. None if all
    /// documents are complete.
    pub broken: Option<Value>,
}

/// Parses a line. A line that is not a document and does not look like the beginning of an object is not part of the
/// protocol.
#[must_use]
pub fn read(line: &str) -> Reading {
    let line = line.trim().trim_start_matches('\u{feff}');
    match serde_json::from_str(line) {
        Ok(document) => Reading { documents: vec![document], broken: None },
        Err(_) if begins_object(line) => repair(line),
        Err(_) => Reading::default(),
    }
}

/// Whether this can be the beginning of an object, in contrast to other text in braces.
fn begins_object(line: &str) -> bool {
    line.strip_prefix('{').is_some_and(|rest| matches!(rest.trim_start().chars().next(), None | Some('"' | '}')))
}

/// Whether this is the last member of an object. If the object was cut, the value of its last member may be incomplete.
#[must_use]
pub fn ends_with_member(object: &serde_json::Map<String, Value>, name: &str) -> bool {
    object.keys().next_back().is_some_and(|last| last == name)
}

fn repair(line: &str) -> Reading {
    let mut reading = Reading::default();
    let mut rest = line;
    while !rest.is_empty() {
        if !rest.starts_with(['{', '[']) {
            reading.broken = Some(Value::Null);
            break;
        }
        let mut repairer = Repairer::new(rest);
        let whole = repairer.document();
        let at = repairer.at;
        match repairer.read() {
            Ok(document) if whole => reading.documents.push(document),
            Ok(known) | Err(known) => {
                reading.broken = Some(known);
                break;
            }
        }
        rest = rest.get(at..).unwrap_or_default().trim_start();
    }
    reading
}

/// Writes a repaired copy of one document.
struct Repairer<'a> {
    text: &'a str,
    /// Position up to which the text has been read.
    at: usize,
    output: String,
    /// The open brackets: the closing bracket of each, and whether the name of a member comes next.
    open: Vec<(char, bool)>,
    /// Length of the output up to which it is complete, except for closing brackets.
    safe: usize,
}

/// Whether a part of a document is complete.
#[derive(PartialEq)]
enum Part {
    Whole,
    /// The text ends, or is not JSON from here on.
    Broken,
}

impl<'a> Repairer<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0, output: String::with_capacity(text.len()), open: Vec::new(), safe: 0 }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn next(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self, c: char) {
        self.output.push(c);
        self.at += c.len_utf8();
    }

    /// Reads to the end of the document. If there is none, returns false and closes the output after its last complete part.
    fn document(&mut self) -> bool {
        while let Some(c) = self.next() {
            let part = match c {
                '{' | '[' if self.open.len() >= MAX_DEPTH => self.deep(),
                '{' | '[' => {
                    self.take(c);
                    self.open.push(if c == '{' { ('}', true) } else { (']', false) });
                    self.safe = self.output.len();
                    Part::Whole
                }
                '}' | ']' => {
                    if self.open.last().is_none_or(|(close, _)| *close != c) {
                        break;
                    }
                    self.open.pop();
                    self.take(c);
                    if self.open.is_empty() {
                        return true;
                    }
                    self.safe = self.output.len();
                    Part::Whole
                }
                ',' | ':' => {
                    if let Some((close, name)) = self.open.last_mut() {
                        *name = c == ',' && *close == '}';
                    }
                    self.take(c);
                    Part::Whole
                }
                '"' => self.string(),
                _ if c.is_ascii_whitespace() => {
                    self.take(c);
                    Part::Whole
                }
                _ => self.scalar(),
            };
            if part == Part::Broken {
                break;
            }
        }
        self.close();
        false
    }

    /// Truncates the output after its last complete part and closes all brackets.
    fn close(&mut self) {
        self.output.truncate(self.safe);
        self.output.extend(self.open.iter().rev().map(|(close, _)| *close));
    }

    /// Reads a string that begins at its quote. The beginning of an incomplete string is kept, unless it is the name of a
    /// member.
    fn string(&mut self) -> Part {
        let name = self.open.last().is_some_and(|(_, name)| *name);
        self.take('"');
        loop {
            let rest = self.rest();
            let plain = rest.find(|c: char| c == '"' || c == '\\' || c < ' ').unwrap_or(rest.len());
            self.output.push_str(rest.get(..plain).unwrap_or_default());
            self.at += plain;
            match self.next() {
                Some('"') => {
                    self.take('"');
                    if !name {
                        self.safe = self.output.len();
                    }
                    return Part::Whole;
                }
                Some('\\') if self.escape() => {}
                Some(c) if c < ' ' => {
                    self.at += c.len_utf8();
                    self.output.push_str(&format!("\\u{:04x}", u32::from(c)));
                }
                _ => {
                    if !name {
                        self.output.push('"');
                        self.safe = self.output.len();
                    }
                    return Part::Broken;
                }
            }
        }
    }

    /// Reads an escape that begins at its backslash. False if the text ends in it.
    fn escape(&mut self) -> bool {
        let rest = self.rest();
        let Some(kind) = rest.chars().nth(1) else { return false };
        if kind != 'u' {
            if "\"\\/bfnrt".contains(kind) {
                self.output.push('\\');
                self.output.push(kind);
                self.at += 2;
            } else {
                self.output.push_str("\\\\");
                self.at += 1;
            }
            return true;
        }
        let (escape, length) = match code_unit(rest) {
            Some(0xd800..=0xdbff) if matches!(rest.get(6..).and_then(code_unit), Some(0xdc00..=0xdfff)) => {
                (rest.get(..12).unwrap_or_default(), 12)
            }
            Some(0xd800..=0xdfff) => ("\\ufffd", 6),
            Some(_) => (rest.get(..6).unwrap_or_default(), 6),
            None if rest.len() < 6 && !rest.contains('"') => return false,
            None => ("\\\\", 1),
        };
        self.output.push_str(escape);
        self.at += length;
        true
    }

    /// Reads a number or a word.
    fn scalar(&mut self) -> Part {
        let rest = self.rest();
        let ends = |c: char| c.is_ascii_whitespace() || ",:{}[]\"".contains(c);
        // At the end of the text, it may be incomplete.
        let Some(length) = rest.find(ends) else { return Part::Broken };
        let word = rest.get(..length).unwrap_or_default();
        let Some(normalize_scalar) = normalize_scalar(word) else { return Part::Broken };
        self.output.push_str(&normalize_scalar);
        self.at += length;
        self.safe = self.output.len();
        Part::Whole
    }

    /// Reads a value that is nested too deeply and writes it as a string.
    fn deep(&mut self) -> Part {
        let rest = self.rest();
        let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
        let end = rest.bytes().position(|byte| {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b'{' | b'[' if !quoted => depth += 1,
                b'}' | b']' if !quoted => depth -= 1,
                _ => {}
            }
            depth == 0
        });
        let length = end.map_or(rest.len(), |last| last + 1);
        let text = rest.get(..length).unwrap_or_default();
        self.output.push_str(&Value::from(text).to_string());
        self.at += length;
        self.safe = self.output.len();
        if end.is_some() { Part::Whole } else { Part::Broken }
    }

    /// Parses the output. If that fails, returns what can be parsed of the part before the error.
    fn read(self) -> Result<Value, Value> {
        serde_json::from_str(&self.output).map_err(|error| {
            let fault = self.output.floor_char_boundary(error.column().saturating_sub(1));
            let mut before = Repairer::new(self.output.get(..fault).unwrap_or_default());
            before.document();
            serde_json::from_str(&before.output).unwrap_or_default()
        })
    }
}

/// The code unit of an escape `\uXXXX` at the beginning of the text.
fn code_unit(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) { u32::from_str_radix(digits, 16).ok() } else { None }
}

/// A number or word as valid JSON; none if it is neither.
fn normalize_scalar(word: &str) -> Option<String> {
    match word {
        "true" | "false" | "null" => return Some(word.to_owned()),
        "NaN" => return Some("null".to_owned()),
        "Infinity" => return Some(GREATEST.to_owned()),
        "-Infinity" => return Some(format!("-{GREATEST}")),
        _ => {}
    }
    if serde_json::from_str::<Number>(word).is_ok() {
        return Some(word.to_owned());
    }
    if !word.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
        return None;
    }
    let number: f64 = word.parse().ok()?;
    match Number::from_f64(number) {
        Some(number) => Some(number.to_string()),
        None if number.is_nan() => None,
        None => Some(format!("{}{GREATEST}", if number < 0.0 { "-" } else { "" })),
    }
}

#[cfg(test)]
#[path = "json_lines_tests.rs"]
mod tests;
