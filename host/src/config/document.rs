//! The text, its lines, and the problems found in it.

use std::ops::Range;

use toml::de::DeTable;

use super::error::{ConfigError, Position};

/// More problems than these are not listed: by then it is the wrong file.
const MAX_ERRORS: usize = 50;
/// Characters of a line that an error shows.
const MAX_LINE_TEXT: usize = 160;

/// Collects the problems of one text.
pub(super) struct Problems<'t> {
    text: &'t str,
    /// Byte offset at which each line begins.
    line_starts: Vec<usize>,
    errors: Vec<ConfigError>,
    omitted: usize,
}

impl<'t> Problems<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let after_breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(index, _)| index + 1);
        let line_starts = std::iter::once(0).chain(after_breaks).collect();
        Self { text, line_starts, errors: Vec::new(), omitted: 0 }
    }

    /// The tables of the text. Where it is not TOML, every place that is not is noted and there are no tables.
    pub(super) fn parse(&mut self) -> Option<DeTable<'t>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        if errors.is_empty() {
            return Some(table.into_inner());
        }
        for error in errors {
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            let span = error.span().unwrap_or(self.text.len()..self.text.len());
            self.note(span, "", format!("not valid TOML: {message}"), None);
        }
        None
    }

    /// Notes a problem of the key at `span`.
    pub(super) fn note(&mut self, span: Range<usize>, key: &str, message: String, hint: Option<String>) {
        if self.errors.len() >= MAX_ERRORS {
            self.omitted += 1;
            return;
        }
        let (position, line_text) = self.locate(span.start);
        self.errors.push(ConfigError { position: Some(position), key: key.to_owned(), message, hint, line_text });
    }

    pub(super) fn into_errors(mut self) -> Vec<ConfigError> {
        if self.omitted > 0 {
            let message = format!("{} further problems are not listed", self.omitted);
            let (position, line_text) = self.locate(self.text.len());
            let (key, hint) = (String::new(), None);
            self.errors.push(ConfigError { position: Some(position), key, message, hint, line_text });
        }
        self.errors
    }

    fn locate(&self, offset: usize) -> (Position, String) {
        let offset = self.text.floor_char_boundary(offset);
        let line = self.line_starts.partition_point(|start| *start <= offset).max(1);
        let start = self.line_starts.get(line - 1).copied().unwrap_or(0);
        let column = self.text.get(start..offset).map_or(0, |before| before.chars().count()) + 1;
        let text = self.text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or("");
        let shown = text.chars().take(MAX_LINE_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect();
        (Position { line, column }, shown)
    }
}
