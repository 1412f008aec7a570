//! Lines of a protocol that writes JSON, one document a line, read as leniently as their writers write.
//!
//! A line that `serde_json` reads is what `serde_json` makes of it. Only where it reads nothing, the line is mended and
//! read again:
//!
//! - half of a surrogate pair (JavaScript writes one where it cuts a string inside an emoji) becomes U+FFFD,
//! - a number beyond the range of a 64-bit float becomes 1e308 with its sign; `NaN` (Python) becomes `null`,
//! - control characters and unknown escapes in strings stand for themselves,
//! - what is nested deeper than can be read becomes text,
//! - several documents on one line are read one after another,
//! - of a document that is not whole, what comes before the cut or the fault is read.

use serde_json::{Number, Value};

/// Documents inside one another that are read; what is deeper becomes text. `serde_json` takes 127, and what is passed on
/// gets into other documents.
const MAX_DEPTH: usize = 100;

/// Stands for a number that is too great to be one: the greatest power of ten that is.
const GREATEST: &str = "1e308";

/// What a line holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// The documents that are whole, in order. None where the line is no JSON at all.
    pub documents: Vec<Value>,
    /// What is known of a document that is not whole, and could be the last: `Null` is nothing. None where all was read.
    pub broken: Option<Value>,
}

/// Reads a line. One that is no document, and does not begin as an object does, is not of the protocol.
#[must_use]
pub fn read(line: &str) -> Reading {
    let line = line.trim().trim_start_matches('\u{feff}');
    match serde_json::from_str(line) {
        Ok(document) => Reading { documents: vec![document], broken: None },
        Err(_) if begins_object(line) => mend(line),
        Err(_) => Reading::default(),
    }
}

/// Whether this can be the beginning of an object; a text in braces is none.
fn begins_object(line: &str) -> bool {
    line.strip_prefix('{').is_some_and(|rest| matches!(rest.trim_start().chars().next(), None | Some('"' | '}')))
}

/// Whether the last member of an object is this one. Where the object was cut, that member may have been cut, too.
#[must_use]
pub fn ends_with_member(object: &serde_json::Map<String, Value>, name: &str) -> bool {
    object.keys().next_back().is_some_and(|last| last == name)
}

fn mend(line: &str) -> Reading {
    let mut reading = Reading::default();
    let mut rest = line;
    while !rest.is_empty() {
        if !rest.starts_with(['{', '[']) {
            reading.broken = Some(Value::Null);
            break;
        }
        let mut mender = Mender::new(rest);
        let whole = mender.document();
        let at = mender.at;
        match mender.read() {
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

/// Writes one document anew, mended.
struct Mender<'a> {
    text: &'a str,
    /// How far the text has been read.
    at: usize,
    mended: String,
    /// Brackets that are open: the closing one of each, and whether a member's name comes next.
    open: Vec<(char, bool)>,
    /// Up to where what is written is whole, but for the brackets.
    safe: usize,
}

/// How a part of a document ends.
#[derive(PartialEq)]
enum Part {
    Whole,
    /// The text ends, or does not go on as JSON.
    Broken,
}

impl<'a> Mender<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0, mended: String::with_capacity(text.len()), open: Vec::new(), safe: 0 }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn next(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self, c: char) {
        self.mended.push(c);
        self.at += c.len_utf8();
    }

    /// Goes to the end of the document. False where it has none; what is written is then closed behind the last whole part.
    fn document(&mut self) -> bool {
        while let Some(c) = self.next() {
            let part = match c {
                '{' | '[' if self.open.len() >= MAX_DEPTH => self.deep(),
                '{' | '[' => {
                    self.take(c);
                    self.open.push(if c == '{' { ('}', true) } else { (']', false) });
                    self.safe = self.mended.len();
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
                    self.safe = self.mended.len();
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

    /// Ends what is written behind its last whole part.
    fn close(&mut self) {
        self.mended.truncate(self.safe);
        self.mended.extend(self.open.iter().rev().map(|(close, _)| *close));
    }

    /// A string, from its quote on. One that is cut is whole up to there, if it is no name.
    fn string(&mut self) -> Part {
        let name = self.open.last().is_some_and(|(_, name)| *name);
        self.take('"');
        loop {
            let rest = self.rest();
            let plain = rest.find(|c: char| c == '"' || c == '\\' || c < ' ').unwrap_or(rest.len());
            self.mended.push_str(rest.get(..plain).unwrap_or_default());
            self.at += plain;
            match self.next() {
                Some('"') => {
                    self.take('"');
                    if !name {
                        self.safe = self.mended.len();
                    }
                    return Part::Whole;
                }
                Some('\\') if self.escape() => {}
                Some(c) if c < ' ' => {
                    self.at += c.len_utf8();
                    self.mended.push_str(&format!("\\u{:04x}", u32::from(c)));
                }
                _ => {
                    if !name {
                        self.mended.push('"');
                        self.safe = self.mended.len();
                    }
                    return Part::Broken;
                }
            }
        }
    }

    /// An escape, from its backslash on. False where the text ends in it.
    fn escape(&mut self) -> bool {
        let rest = self.rest();
        let Some(kind) = rest.chars().nth(1) else { return false };
        if kind != 'u' {
            if "\"\\/bfnrt".contains(kind) {
                self.mended.push('\\');
                self.mended.push(kind);
                self.at += 2;
            } else {
                self.mended.push_str("\\\\");
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
        self.mended.push_str(escape);
        self.at += length;
        true
    }

    /// A number or a word.
    fn scalar(&mut self) -> Part {
        let rest = self.rest();
        let ends = |c: char| c.is_ascii_whitespace() || ",:{}[]\"".contains(c);
        // The end of the text may have cut it.
        let Some(length) = rest.find(ends) else { return Part::Broken };
        let word = rest.get(..length).unwrap_or_default();
        let Some(written) = written(word) else { return Part::Broken };
        self.mended.push_str(&written);
        self.at += length;
        self.safe = self.mended.len();
        Part::Whole
    }

    /// What is nested too deep, from its bracket on, as text.
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
        self.mended.push_str(&Value::from(text).to_string());
        self.at += length;
        self.safe = self.mended.len();
        if end.is_some() { Part::Whole } else { Part::Broken }
    }

    /// What `serde_json` makes of it; otherwise what it makes of the part before the fault.
    fn read(self) -> Result<Value, Value> {
        serde_json::from_str(&self.mended).map_err(|error| {
            let fault = self.mended.floor_char_boundary(error.column().saturating_sub(1));
            let mut before = Mender::new(self.mended.get(..fault).unwrap_or_default());
            before.document();
            serde_json::from_str(&before.mended).unwrap_or_default()
        })
    }
}

/// The code unit of an escape `\uXXXX` at the beginning of the text.
fn code_unit(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) { u32::from_str_radix(digits, 16).ok() } else { None }
}

/// A number or word as JSON has it; none where it is neither.
fn written(word: &str) -> Option<String> {
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
