//! What a Markdown text leaves open: a code fence, a comment, an element.
//!
//! The agent's texts are passed on as they are, and the page goes on after them. [`OpenMarkup`] follows the block structure
//! of CommonMark as far as it can reach beyond the end of the text, line by line and in bounded memory. Quotes and list
//! items end by themselves, and with them the code blocks in them; raw HTML does not, wherever it is.

use std::mem;

/// Bytes of a line that are looked at for its structure. The rest of a longer line is looked at for the end of raw HTML.
const LINE: usize = 16 << 10;
/// Bytes that two parts of such a line share, so that nothing is missed between them: more than any tag's name.
const OVERLAP: usize = 32;
/// Containers and elements that are followed. A text that nests more deeply is not made for reading.
const DEPTH: usize = 256;

/// Elements whose end tag is not optional. Those without an end tag, and those that end with their parent, are left out.
const ELEMENTS: &str = "a abbr address article aside audio b bdi bdo big blockquote button canvas center cite code data datalist del \
    details dfn dialog div dl em fieldset figcaption figure font footer form h1 h2 h3 h4 h5 h6 header i iframe ins \
    kbd label legend main map mark math menu meter nav noembed noframes noscript object ol output picture pre \
    progress q ruby s samp script search section select slot small span strike strong style sub summary sup svg \
    table template textarea time title tt u ul var video xmp";

/// Elements whose tags begin a block of HTML that ends with a blank line (CommonMark 4.6, condition 6).
const BLOCKS: &str = "address article aside base basefont blockquote body caption center col colgroup dd details dialog dir div dl dt \
    fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 h5 h6 head header hr html iframe legend li \
    link main menu menuitem nav noframes ol optgroup option p param search section summary table tbody td tfoot th \
    thead title tr track ul";

/// Elements whose contents are text up to their end tag (condition 1).
const RAW: [(&str, &str); 4] =
    [("script", "</script>"), ("pre", "</pre>"), ("style", "</style>"), ("textarea", "</textarea>")];

/// Elements in which a browser looks for nothing but their end tag.
const TEXTS: &[&str] = &["script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Container {
    Quote,
    /// The columns by which its contents are indented.
    Item(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaf {
    Nothing,
    Paragraph,
    IndentedCode,
    Fence {
        mark: char,
        length: usize,
    },
    /// Raw HTML up to the line with this text.
    Html {
        end: &'static str,
    },
    /// Raw HTML up to a blank line.
    HtmlToBlank,
}

/// Where a browser is in raw HTML, which the renderer passes on as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Raw {
    Text,
    /// In a tag, and in a value with this quotation mark.
    Tag(Option<char>),
    Comment,
    /// `<?` and `<!`: up to the first `>`.
    Bogus,
}

/// Closes a comment, a tag and a value in a tag, whichever is open; where nothing is, it is a comment itself.
const CLOSE_RAW: &str = "<!-- \"'> -->\n";

/// Follows a text and says what closes it.
#[derive(Debug)]
pub(super) struct OpenMarkup {
    containers: Vec<Container>,
    leaf: Leaf,
    /// The innermost container is a list item without anything in it yet.
    empty_item: bool,
    raw: Raw,
    /// Raw HTML may be open that is not followed.
    doubtful: bool,
    /// The paragraph has a mark of a code span.
    ticks: bool,
    /// Open elements of raw HTML, the innermost last.
    elements: Vec<&'static str>,
    line: String,
    /// The structure of the line is known: only its rest is still to come.
    in_rest: bool,
    /// The last character was a carriage return.
    after_return: bool,
}

impl Default for OpenMarkup {
    fn default() -> Self {
        Self {
            containers: Vec::new(),
            leaf: Leaf::Nothing,
            empty_item: false,
            raw: Raw::Text,
            doubtful: false,
            ticks: false,
            elements: Vec::new(),
            line: String::new(),
            in_rest: false,
            after_return: false,
        }
    }
}

impl OpenMarkup {
    /// Takes the next piece of the text.
    pub(super) fn push(&mut self, piece: &str) {
        let mut rest = piece;
        loop {
            if mem::take(&mut self.after_return) {
                rest = rest.strip_prefix('\n').unwrap_or(rest);
            }
            let end = rest.find(['\n', '\r']);
            let (line, next) = end.map_or((rest, None), |end| (&rest[..end], Some(&rest[end..])));
            self.part(line);
            let Some(next) = next else { return };
            self.end_line();
            self.after_return = next.starts_with('\r');
            rest = &next[1..];
        }
    }

    /// What closes everything that the text has left open, to be written right behind it; empty if nothing is. The next piece
    /// begins a new text.
    pub(super) fn close(&mut self) -> String {
        let in_line = !self.line.is_empty() || self.in_rest;
        if in_line {
            self.end_line();
        }
        let mut closing = String::new();
        match self.leaf {
            // In a container it ends with that.
            Leaf::Fence { mark, length } if self.containers.is_empty() => {
                closing.extend(std::iter::repeat_n(mark, length));
                closing.push('\n');
            }
            // The renderer passes it on as it is, the container notwithstanding.
            Leaf::Html { end } => {
                for container in &self.containers {
                    match container {
                        Container::Quote => closing.push_str("> "),
                        Container::Item(columns) => closing.extend(std::iter::repeat_n(' ', *columns)),
                    }
                }
                closing.push_str(end);
                closing.push('\n');
                self.look_into(end);
            }
            _ => {}
        }
        let Self { raw, doubtful, elements, .. } = mem::take(self);
        if doubtful || raw != Raw::Text {
            closing.push_str(CLOSE_RAW);
        }
        if !elements.is_empty() {
            closing.push('\n');
            for name in elements.iter().rev() {
                closing.push_str(&format!("</{name}>"));
            }
            closing.push('\n');
        }
        if in_line && !closing.is_empty() {
            closing.insert(0, '\n');
        }
        closing
    }

    fn part(&mut self, mut part: &str) {
        while self.line.len() + part.len() > LINE {
            let (head, tail) = part.split_at(part.floor_char_boundary(LINE.saturating_sub(self.line.len())));
            self.line.push_str(head);
            let line = mem::take(&mut self.line);
            self.look_at(&line);
            self.in_rest = true;
            self.line = line[line.ceil_char_boundary(line.len().saturating_sub(OVERLAP))..].to_owned();
            part = tail;
        }
        self.line.push_str(part);
    }

    fn end_line(&mut self) {
        let line = mem::take(&mut self.line);
        self.look_at(&line);
        self.in_rest = false;
    }

    fn look_at(&mut self, line: &str) {
        if self.in_rest {
            self.look_into(line);
        } else {
            self.structure(&expanded(line));
        }
    }

    /// A line from its beginning, without tabs.
    fn structure(&mut self, line: &str) {
        // An item whose first two lines are blank is over.
        if mem::take(&mut self.empty_item) && is_blank(line) {
            self.containers.pop();
        }
        let mut rest = line;
        let mut matched = 0;
        for container in &self.containers {
            match container {
                Container::Quote => match after_quote_mark(rest) {
                    Some(inner) => rest = inner,
                    None => break,
                },
                Container::Item(columns) => {
                    if is_blank(rest) {
                        rest = "";
                    } else if indent(rest) >= *columns {
                        rest = &rest[*columns..];
                    } else {
                        break;
                    }
                }
            }
            matched += 1;
        }
        let all = matched == self.containers.len();
        if all {
            match self.leaf {
                Leaf::Fence { mark, length } => {
                    if closes_fence(rest, mark, length) {
                        self.leaf = Leaf::Nothing;
                    }
                    return;
                }
                Leaf::Html { .. } => return self.look_into(rest),
                Leaf::HtmlToBlank if is_blank(rest) => {
                    self.leaf = Leaf::Nothing;
                    return;
                }
                Leaf::HtmlToBlank => return self.look_into(rest),
                Leaf::Nothing | Leaf::Paragraph | Leaf::IndentedCode => {}
            }
        }
        let in_paragraph = self.leaf == Leaf::Paragraph;
        // A paragraph goes on in a line that lacks the marks of its containers.
        let goes_on = in_paragraph && continues_paragraph(rest);
        if !(all || goes_on) {
            self.containers.truncate(matched);
            self.abandon();
        }
        self.begin_blocks(rest, in_paragraph && all);
    }

    /// The renderer writes a tag of its own here, which ends one that is open.
    fn rendered(&mut self) {
        if matches!(self.raw, Raw::Bogus | Raw::Tag(None)) {
            self.raw = Raw::Text;
        }
    }

    /// The innermost block ends with its container. For a browser, raw HTML goes on.
    fn abandon(&mut self) {
        self.rendered();
        if let Leaf::Html { end } = mem::replace(&mut self.leaf, Leaf::Nothing) {
            self.elements.extend(RAW.iter().filter(|(_, raw)| *raw == end).map(|(name, _)| *name));
        }
    }

    fn begin_blocks(&mut self, mut rest: &str, mut in_paragraph: bool) {
        if self.leaf == Leaf::Paragraph && !in_paragraph {
            // A lazy continuation.
            return self.look_into(rest);
        }
        let mut entered = false;
        loop {
            if is_blank(rest) {
                self.empty_item = entered;
                self.leaf = Leaf::Nothing;
                return;
            }
            let indent = indent(rest);
            if indent >= 4 {
                if in_paragraph {
                    return self.look_into(rest);
                }
                self.rendered();
                self.leaf = Leaf::IndentedCode;
                return;
            }
            let text = rest.trim_start();
            if let Some(inner) = after_quote_mark(rest) {
                self.enter(Container::Quote);
                entered = false;
                (rest, in_paragraph) = (inner, false);
                continue;
            }
            if let Some((mark, length)) = opens_fence(text) {
                self.rendered();
                self.leaf = Leaf::Fence { mark, length };
                return;
            }
            if let Some(leaf) = opens_html(text, in_paragraph) {
                self.leaf = leaf;
                return self.look_into(text);
            }
            let setext = in_paragraph && is_setext(text);
            if setext || is_heading(text) || is_break(text) {
                self.leaf = Leaf::Nothing;
                return self.look_into(text);
            }
            if let Some((width, inner)) = after_item_mark(text, in_paragraph) {
                self.enter(Container::Item(indent + width));
                entered = true;
                (rest, in_paragraph) = (inner, false);
                continue;
            }
            if !in_paragraph {
                self.ticks = false;
            }
            self.leaf = Leaf::Paragraph;
            return self.look_into(text);
        }
    }

    fn enter(&mut self, container: Container) {
        self.rendered();
        self.leaf = Leaf::Nothing;
        if self.containers.len() < DEPTH {
            self.containers.push(container);
        }
    }

    /// Text that is no code: whether raw HTML ends in it, and which elements it opens and closes.
    fn look_into(&mut self, text: &str) {
        match self.leaf {
            Leaf::Fence { .. } | Leaf::IndentedCode => {}
            Leaf::Nothing | Leaf::Paragraph => self.look_into_line(text),
            Leaf::HtmlToBlank => self.look_into_html(text),
            Leaf::Html { end } => {
                let found = find_ignoring_case(text, end);
                // In a script, nothing is an element.
                let script = RAW.iter().any(|(_, raw)| *raw == end);
                self.look_into_html(if script { &text[found.unwrap_or(text.len())..] } else { text });
                if found.is_some() {
                    // The line belongs to the block to its end.
                    self.leaf = Leaf::Nothing;
                }
            }
        }
    }

    /// A line of text, in which HTML may stand between words.
    fn look_into_line(&mut self, text: &str) {
        self.rendered();
        // An end tag may be escaped, or in a comment or a code span, which may have begun in a line before. One too many is ignored.
        self.ticks =
            text.contains(['`', '\\']) || text.contains("<!--") || (self.ticks && self.leaf == Leaf::Paragraph);
        // Renderer and browser disagree about the end of these.
        self.doubtful |= text.contains("<?") || text.contains("<![");
        for (at, _) in text.match_indices('<') {
            self.tag(&text[at + 1..], !self.ticks && !self.doubtful && self.raw == Raw::Text);
        }
    }

    /// A part of raw HTML, as a browser reads it.
    fn look_into_html(&mut self, text: &str) {
        let mut rest = text;
        while !rest.is_empty() {
            let (next, taken) = next_state(self.raw, rest);
            // In a comment, or a script that looks like one, only what opens counts.
            if let Some(behind) = rest.strip_prefix('<') {
                self.tag(behind, self.raw == Raw::Text);
            }
            self.raw = next;
            rest = &rest[taken..];
        }
    }

    /// What is behind `<`.
    fn tag(&mut self, text: &str, closes: bool) {
        let closing = text.starts_with('/');
        let name = text.strip_prefix('/').unwrap_or(text);
        let name = &name[..name.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(name.len())];
        let Some(name) = ELEMENTS.split(' ').find(|known| known.eq_ignore_ascii_case(name)) else { return };
        if closing && closes {
            // In a script, the end tag of anything else is text.
            let found = self.elements.iter().rposition(|open| *open == name || TEXTS.contains(open));
            if let Some(open) = found.filter(|open| self.elements.get(*open) == Some(&name)) {
                self.elements.remove(open);
            }
        } else if !closing && self.elements.len() < DEPTH {
            self.elements.push(name);
        }
    }
}

/// Where a browser is behind the next bytes of raw HTML, and how many these are.
fn next_state(raw: Raw, rest: &str) -> (Raw, usize) {
    let Some(character) = rest.chars().next() else { return (raw, rest.len()) };
    let one = character.len_utf8();
    match (raw, character) {
        // A comment may end with what begins it: `<!-->`.
        (Raw::Text, '<') if rest.starts_with("<!--") => (Raw::Comment, 2),
        (Raw::Text, '<') if rest.starts_with("<?") || rest.starts_with("<!") => (Raw::Bogus, one),
        (Raw::Text, '<') => match rest[1..].trim_start_matches('/').chars().next() {
            Some(first) if first.is_ascii_alphabetic() => (Raw::Tag(None), one),
            _ => (Raw::Text, one),
        },
        (Raw::Comment, '-') if rest.starts_with("-->") => (Raw::Text, 3),
        (Raw::Bogus | Raw::Tag(None), '>') => (Raw::Text, one),
        (Raw::Tag(None), '"' | '\'') => (Raw::Tag(Some(character)), one),
        (Raw::Tag(Some(quote)), found) if found == quote => (Raw::Tag(None), one),
        (other, _) => (other, one),
    }
}

/// With spaces in the place of tabs, up to the columns to which they lead.
fn expanded(line: &str) -> String {
    if !line.contains('\t') {
        return line.to_owned();
    }
    let mut out = String::with_capacity(line.len() + 16);
    let mut column = 0;
    for character in line.chars() {
        if character == '\t' {
            let width = 4 - column % 4;
            out.extend(std::iter::repeat_n(' ', width));
            column += width;
        } else {
            out.push(character);
            column += 1;
        }
    }
    out
}

fn indent(text: &str) -> usize {
    text.len() - text.trim_start_matches(' ').len()
}

fn is_blank(text: &str) -> bool {
    text.trim_matches(' ').is_empty()
}

fn after_quote_mark(text: &str) -> Option<&str> {
    let inner = text.trim_start_matches(' ').strip_prefix('>').filter(|_| indent(text) < 4)?;
    Some(inner.strip_prefix(' ').unwrap_or(inner))
}

/// How many of a character a text begins with.
fn run_of(text: &str, mark: char) -> usize {
    text.chars().take_while(|character| *character == mark).count()
}

fn opens_fence(text: &str) -> Option<(char, usize)> {
    let mark = text.chars().next().filter(|mark| matches!(mark, '`' | '~'))?;
    let length = run_of(text, mark);
    let info = &text[length..];
    (length >= 3 && !(mark == '`' && info.contains('`'))).then_some((mark, length))
}

fn closes_fence(text: &str, mark: char, length: usize) -> bool {
    let fence = text.trim_start_matches(' ');
    let found = run_of(fence, mark);
    indent(text) < 4 && found >= length && is_blank(&fence[found..])
}

fn is_heading(text: &str) -> bool {
    let level = run_of(text, '#');
    (1..=6).contains(&level) && text[level..].chars().next().is_none_or(|next| next == ' ')
}

fn is_setext(text: &str) -> bool {
    let text = text.trim_end_matches(' ');
    !text.is_empty() && ['=', '-'].iter().any(|mark| run_of(text, *mark) == text.len())
}

fn is_break(text: &str) -> bool {
    let marks: Vec<char> = text.chars().filter(|character| *character != ' ').take(LINE).collect();
    marks.len() >= 3 && ['-', '_', '*'].iter().any(|mark| marks.iter().all(|found| found == mark))
}

/// What stands behind the mark of a list item, and how wide the mark is with the space that belongs to it.
fn after_item_mark(text: &str, in_paragraph: bool) -> Option<(usize, &str)> {
    let digits = text.chars().take_while(char::is_ascii_digit).count();
    let width = match digits {
        0 => text.starts_with(['-', '+', '*']).then_some(1)?,
        1..=9 => text[digits..].starts_with(['.', ')']).then_some(digits + 1)?,
        _ => return None,
    };
    let inner = &text[width..];
    let spaces = indent(inner);
    let blank = is_blank(inner);
    if !blank && spaces == 0 {
        return None;
    }
    // Only such an item can interrupt a paragraph.
    if in_paragraph && (blank || (digits > 0 && text[..digits].parse() != Ok(1_u32))) {
        return None;
    }
    // A blank first line, and one that begins with code, count one space.
    let taken = if blank || spaces > 4 { 1 } else { spaces };
    Some((width + taken, inner.get(taken..).unwrap_or_default()))
}

fn opens_html(text: &str, in_paragraph: bool) -> Option<Leaf> {
    let inner = text.strip_prefix('<')?;
    if inner.starts_with("!--") {
        return Some(Leaf::Html { end: "-->" });
    }
    if inner.starts_with("![CDATA[") {
        return Some(Leaf::Html { end: "]]>" });
    }
    if inner.starts_with('?') {
        return Some(Leaf::Html { end: "?>" });
    }
    if inner.strip_prefix('!').is_some_and(|inner| inner.starts_with(|c: char| c.is_ascii_alphabetic())) {
        return Some(Leaf::Html { end: ">" });
    }
    let closing = inner.starts_with('/');
    let tag = inner.strip_prefix('/').unwrap_or(inner);
    let length = tag.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(tag.len());
    let (name, rest) = tag.split_at(length);
    let raw = RAW.iter().find(|(raw, _)| raw.eq_ignore_ascii_case(name));
    if let Some((_, end)) = raw.filter(|_| !closing && (rest.is_empty() || rest.starts_with([' ', '>']))) {
        return Some(Leaf::Html { end });
    }
    let known = BLOCKS.split(' ').any(|known| known.eq_ignore_ascii_case(name));
    if known && (rest.is_empty() || rest.starts_with([' ', '>']) || rest.starts_with("/>")) {
        return Some(Leaf::HtmlToBlank);
    }
    let alone = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && rest.find('>').is_some_and(|end| is_blank(&rest[end + 1..]));
    (alone && !in_paragraph).then_some(Leaf::HtmlToBlank)
}

/// Whether a line without the marks of the containers goes on with their paragraph.
fn continues_paragraph(text: &str) -> bool {
    if is_blank(text) {
        return false;
    }
    if indent(text) >= 4 {
        return true;
    }
    let inner = text.trim_start_matches(' ');
    after_quote_mark(text).is_none()
        && opens_fence(inner).is_none()
        && opens_html(inner, true).is_none()
        && !is_heading(inner)
        && !is_break(inner)
        && after_item_mark(inner, false).is_none()
}

fn find_ignoring_case(text: &str, wanted: &str) -> Option<usize> {
    let (text, wanted) = (text.as_bytes(), wanted.as_bytes());
    text.windows(wanted.len()).position(|window| window.eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;
    use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

    use super::*;

    fn closing(text: &str) -> String {
        let mut open = OpenMarkup::default();
        open.push(text);
        open.close()
    }

    /// Whether a renderer sees a heading behind the text, outside of everything, and no comment or element open before it.
    fn heading_survives(text: &str) -> bool {
        let page = format!("{text}{}\n\n## Border\n", closing(text));
        let mut depth = 0;
        let mut html = String::new();
        for event in Parser::new_ext(&page, Options::empty()) {
            match event {
                Event::Start(Tag::Heading { .. }) if depth == 0 => depth += 1,
                Event::Text(text) if text.as_ref() == "Border" && depth == 1 => return nothing_open(&html),
                Event::Start(Tag::HtmlBlock) => depth += 1,
                Event::Start(_) => {
                    depth += 1;
                    html.push('>');
                }
                Event::End(TagEnd::HtmlBlock) => {
                    depth -= 1;
                    html.push('\n');
                }
                Event::End(_) => {
                    depth -= 1;
                    html.push('>');
                }
                Event::Rule => html.push('>'),
                Event::Html(raw) | Event::InlineHtml(raw) => html.push_str(&raw),
                _ => {}
            }
        }
        false
    }

    /// As a browser reads it: comments and scripts first.
    fn nothing_open(html: &str) -> bool {
        let html = html.to_ascii_lowercase();
        let (mut rest, mut seen) = (html.as_str(), String::new());
        loop {
            let hiding = [("<!--", "-->"), ("<script>", "</script>"), ("<?", ">")];
            let next = hiding.into_iter().filter_map(|(start, end)| Some((rest.find(start)?, start, end))).min();
            let Some((at, start, end)) = next else { break };
            seen.push_str(&rest[..at]);
            // A comment may end with what begins it: `<!-->`.
            let inside = &rest[at + if start == "<!--" { 2 } else { start.len() }..];
            let Some(length) = inside.find(end) else { return false };
            rest = &inside[length + end.len()..];
        }
        seen.push_str(rest);
        let count = |tag: &str| seen.matches(tag).count();
        count("</details>") >= count("<details>") && count("</div>") >= count("<div>")
    }

    #[test]
    fn closed_texts_are_left_alone() {
        for text in [
            "",
            "Plain *text*.\n",
            "```rust\nfn main() {}\n```\n",
            "````\n```\n````",
            "- item\n  ```\n  open in a list",
            "> ```\n> open in a quote",
            "- a\n  ```\n  code\nback at the margin\n",
            "a `<!--` in code, a ``` in a line",
            "    ```\nindented code",
            "text\n    ```\nstill text",
            "<!-- closed -->\n",
            "<div>\nclosed by itself\n\n</div>",
            "Vec<String> and a <T>",
            "~~~\n~~~~~   ",
            "| a | b |\n|---|---|\n",
        ] {
            assert_eq!(closing(text), "", "{text:?}");
            assert!(heading_survives(text), "{text:?}");
        }
    }

    #[test]
    fn what_is_open_is_closed_by_its_own_mark() {
        for (text, expected) in [
            ("```python\nprint(1)", "```\n"),
            ("~~~~\n```\n~~~", "~~~~\n"),
            ("  ```\ncode\n", "```\n"),
            ("<!-- a thought\nthat goes on", "-->\n"),
            ("> <!-- quoted", "> -->\n"),
            ("1. <!-- listed", "   -->\n"),
            ("<script>\nlet a = '<b>';", "</script>\n"),
            ("<PRE>\n\ntext", "</pre>\n"),
            ("<?php", "?>\n"),
            ("<![CDATA[", "]]>\n"),
            ("<details>\n<summary>more</summary>\n\ntext", "\n</details>\n"),
            ("a <b>bold <i>word", "\n</i></b>\n"),
            ("<div><!-- a thought\n\ntext", "<!-- \"'> -->\n\n</div>\n"),
            ("<div class=\"wide", "<!-- \"'> -->\n\n</div>\n"),
            ("<details><?", "<!-- \"'> -->\n\n</details>\n"),
            ("```\r\ncode\r\n", "```\n"),
            ("> quote\n```\ncode", "```\n"),
            ("- item\n\n```\ncode", "```\n"),
            ("- item\n```\ncode", "```\n"),
            ("<details>\n\n```\ncode", "```\n\n</details>\n"),
        ] {
            let line = if text.ends_with('\n') { "" } else { "\n" };
            assert_eq!(closing(text), format!("{line}{expected}"), "{text:?}");
            assert!(heading_survives(text), "{text:?}");
        }
    }

    #[test]
    fn pieces_and_long_lines_change_nothing() {
        let text = format!("text\r\n<!-- {}\n", "x".repeat(3 * LINE));
        let (mut by_bytes, mut at_once) = (OpenMarkup::default(), OpenMarkup::default());
        text.chars().for_each(|character| by_bytes.push(character.encode_utf8(&mut [0; 4])));
        at_once.push(&text);
        assert_eq!((by_bytes.close(), at_once.close()), ("-->\n".to_owned(), "-->\n".to_owned()));
        for at in [LINE - 8, LINE - 6, LINE - 3, LINE, 2 * LINE - OVERLAP - 2] {
            let closed = format!("<!-- {} --> {}\n", "x".repeat(at - 6), "y".repeat(LINE));
            assert_eq!(closing(&closed), "", "{at}");
        }
        assert!(OpenMarkup::default().close().is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        /// Made of what the block structure depends on, judged by another implementation.
        #[test]
        fn a_heading_behind_any_text_is_a_heading(parts in prop::collection::vec(prop::sample::select(vec![
            "```", "````", "~~~", "`", "<!--", "-->", "<details>", "</details>", "<div>", "<script>", "</script>",
            "- ", "* ", "1. ", "2) ", "> ", ">", "  ", "    ", "\n", "\n\n", "a", "word word", "# ", "---", "===", "\r\n",
            "| a |", "&", "\\",
        ]), 0..14)) {
            let text = parts.concat();
            prop_assert!(heading_survives(&text), "{:?} closed with {:?}", text, closing(&text));
        }
    }
}
