//! Secrets of several lines: redacted line by line from a header on, so that nothing is held back for an end that may be
//! missing.

use std::ops::Range;

use memchr::memchr3;

use super::compile::CompiledBlock;
use super::text::invisible;

/// Longest line that can be part of a block, in bytes.
const MAX_LINE: usize = 8 * 1024;
/// The longest text before a header that is also expected before the next lines.
const MAX_PREFIX: usize = 128;
/// A token of this length belongs to a block even if unknown text precedes it.
const LONG_TOKEN: usize = 40;
/// A token of this length belongs to a block that was folded into one line with blanks.
const FOLDED_TOKEN: usize = 16;

/// A block that has not ended yet.
#[derive(Clone)]
pub(super) struct OpenBlock {
    pub(super) rule: u32,
    lines: u32,
    /// The text before the header on its line: indentation, a diff mark, a file name.
    prefix: String,
}

impl OpenBlock {
    /// A block whose header starts at `header` in a line that starts at `line`.
    pub(super) fn new(rule: u32, text: &str, line: usize, header: usize) -> Self {
        let prefix = text.get(line..header).filter(|prefix| prefix.len() <= MAX_PREFIX).unwrap_or_default();
        Self { rule, lines: 0, prefix: prefix.to_owned() }
    }
}

enum Verdict {
    /// Redact this and continue.
    Body(Range<usize>),
    /// Redact this and continue after it, on the same line.
    Part(Range<usize>),
    /// Redact this; the block ends.
    End(Range<usize>),
    Blank,
    Foreign,
}

/// Redacts the lines of an open block from `start` on that start before `stop`. Returns where the block ends so far, and
/// whether it is complete.
pub(super) fn follow(
    open: &mut OpenBlock,
    block: &CompiledBlock,
    text: &str,
    start: usize,
    stop: usize,
    mut redact: impl FnMut(Range<usize>),
) -> (usize, bool) {
    let mut at = start;
    while at < stop {
        let (end, next) = logical_line(text.as_bytes(), at);
        if open.lines >= block.max_lines {
            return (at, true);
        }
        match classify(open, block, text, at..end) {
            Verdict::Body(range) => {
                redact(range.clone());
                // Text after the quote that ends a string is not part of the key.
                if text.get(range.end..end).unwrap_or_default().bytes().any(|b| b.is_ascii_alphanumeric()) {
                    return (range.end, true);
                }
                at = next;
                open.lines += 1;
            }
            Verdict::Part(range) => {
                redact(range.clone());
                at = range.end;
                open.lines += 1;
            }
            Verdict::End(range) => {
                redact(range.clone());
                return (range.end, true);
            }
            Verdict::Blank => {
                at = next;
                open.lines += 1;
            }
            Verdict::Foreign => return (at, true),
        }
    }
    (at, false)
}

/// The end of the line that starts at `start`, and the start of the next. A CR also ends a line, and so do the two
/// characters `\n`, however often the backslash was escaped.
fn logical_line(text: &[u8], start: usize) -> (usize, usize) {
    let mut at = start;
    while let Some(found) = memchr3(b'\n', b'\r', b'\\', text.get(at..).unwrap_or_default()) {
        let end = at + found;
        match text.get(end..) {
            Some([b'\r', b'\n', ..]) => return (end + 1, end + 2),
            Some([b'\n' | b'\r', ..]) => return (end, end + 1),
            _ => {}
        }
        let backslashes = text.get(end..).unwrap_or_default().iter().take_while(|b| **b == b'\\').count();
        at = end + backslashes;
        if matches!(text.get(at), Some(b'n' | b'r')) {
            return (end, at + 1);
        }
    }
    (text.len(), text.len())
}

fn classify(open: &OpenBlock, block: &CompiledBlock, text: &str, line: Range<usize>) -> Verdict {
    let Some(content) = text.get(line.clone()) else { return Verdict::Foreign };
    let blank = |from: usize| content.get(from..).is_some_and(is_blank);
    // An empty line may also have a line number or a log prefix.
    if blank(0) || blank(skip_marks(content, 0)) || same_shape(content, &open.prefix).is_some_and(blank) {
        return Verdict::Blank;
    }
    if content.len() > MAX_LINE {
        return Verdict::Foreign;
    }
    let mut starts = Vec::with_capacity(4);
    starts.extend(same_shape(content, &open.prefix));
    let bare = skip_marks(content, 0);
    starts.push(bare);
    if matches!(content.as_bytes().get(bare), Some(b'+' | b'-')) {
        starts.push(skip_marks(content, bare + 1));
    }
    for start in starts {
        let start = start + content.get(start..).map_or(0, |rest| rest.len() - rest.trim_start().len());
        let core = core(content, start);
        let Some(candidate) = content.get(core.clone()).filter(|c| !c.is_empty()) else { continue };
        let range = line.start + core.start..line.start + core.end;
        let plain = candidate.replace("\\/", "/");
        if block.end.is_match(&plain) {
            return Verdict::End(range);
        }
        if block.body.is_match(&plain) {
            return Verdict::Body(range);
        }
        if let Some(blank) = candidate.find(' ').filter(|blank| *blank >= FOLDED_TOKEN)
            && plain.get(..blank).is_some_and(|token| block.body.is_match(token))
        {
            return Verdict::Part(range.start..range.start + blank);
        }
    }
    let token =
        content.trim_end().rfind([' ', '\t', '|', ':', '→', '>']).map_or(0, |at| content.ceil_char_boundary(at + 1));
    let core = core(content, token);
    if core.len() >= LONG_TOKEN && content.get(core.clone()).is_some_and(|token| block.body.is_match(token)) {
        return Verdict::Body(line.start + core.start..line.start + core.end);
    }
    Verdict::Foreign
}

/// Where a line continues after a prefix like that of the header: equal except for digits, as in times and numbers.
fn same_shape(content: &str, prefix: &str) -> Option<usize> {
    let head = content.as_bytes().get(..prefix.len())?;
    let alike = head.iter().zip(prefix.as_bytes()).all(|(a, b)| a == b || (a.is_ascii_digit() && b.is_ascii_digit()));
    (alike && content.is_char_boundary(prefix.len())).then_some(prefix.len())
}

/// Whether a text shows no letter and no digit.
fn is_blank(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c == '\u{1b}' || c.is_ascii_alphanumeric()) {
        rest = rest.get(at..).unwrap_or_default();
        match invisible(rest.as_bytes(), 0) {
            0 if rest.starts_with('\u{1b}') => rest = rest.get(1..).unwrap_or_default(),
            0 => return false,
            length => rest = rest.get(length..).unwrap_or_default(),
        }
    }
    true
}

/// Skips indentation, quotes, margins, a line number, and control sequences: a shell shows some before each line that is
/// typed.
fn skip_marks(content: &str, start: usize) -> usize {
    let margin = |c: char| c.is_whitespace() || matches!(c, '|' | '>' | '→' | '"' | '\'' | '`' | '│' | '*' | '#');
    let skip = |mut from: usize| {
        loop {
            let rest = content.get(from..).unwrap_or_default();
            let next = content.len() - rest.trim_start_matches(margin).len();
            let next = next + invisible(content.as_bytes(), next);
            if next == from {
                return from;
            }
            from = next;
        }
    };
    let at = skip(start);
    let digits = content.get(at..).unwrap_or_default().bytes().take_while(u8::is_ascii_digit).count();
    match content.get(at + digits..).and_then(|rest| rest.chars().next()) {
        Some(c) if digits > 0 && digits <= 7 && (margin(c) || matches!(c, ':' | '.' | ')')) => {
            skip(at + digits + c.len_utf8())
        }
        _ => at,
    }
}

/// The rest of a line from `start` on, without a closing quote, a comma and blanks.
fn core(content: &str, start: usize) -> Range<usize> {
    let rest = content.get(start..).unwrap_or_default();
    let bytes = rest.as_bytes();
    let end = bytes
        .iter()
        .enumerate()
        .position(|(at, b)| {
            matches!(b, b'"' | b'\'' | b'`' | b'<' | b';') || (*b == b'\\' && bytes.get(at + 1) != Some(&b'/'))
        })
        .unwrap_or(bytes.len());
    let trimmed = rest.get(..end).unwrap_or_default().trim_end_matches([' ', '\t', '\r', ',']);
    start..start + trimmed.len()
}
