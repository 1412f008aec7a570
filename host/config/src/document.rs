//! The layers of a configuration: their texts, lines, and problems.

use std::ops::Range;

use toml::de::DeTable;

use super::error::{ConfigError, Position};
use super::key::{KeyPath, Spelling};
use ostler_protocol::Origin;

/// Maximum number of problems that are listed. With more, the file is probably the wrong one.
const MAX_ERRORS: usize = 50;
/// Maximum length of a line in an error, in characters.
const MAX_LINE_TEXT: usize = 160;

/// One text of a configuration. Later layers override earlier ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layer<'t> {
    pub(super) origin: Origin,
    pub(super) text: &'t str,
}

impl Layer<'_> {
    /// The spelling of its keys.
    pub(super) const fn spelling(&self) -> Spelling {
        match self.origin {
            Origin::Default | Origin::File => Spelling::File,
            Origin::Override => Spelling::Wire,
        }
    }

    /// Line and column of a byte offset, and the text of the line, cut and without control characters.
    pub(super) fn locate(&self, offset: usize) -> (Position, String) {
        let before = self.text.get(..self.text.floor_char_boundary(offset)).unwrap_or("");
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let column = before.get(start..).map_or(0, |part| part.chars().count()) + 1;
        let rest = self.text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or("");
        let shown = rest.chars().take(MAX_LINE_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect();
        (Position { line, column }, shown)
    }
}

/// A span of bytes in one of the layers.
#[derive(Clone, Debug)]
pub(super) struct SourceSpan {
    /// Index of the layer.
    pub(super) layer: usize,
    pub(super) range: Range<usize>,
}

/// Collects the problems of the layers.
pub(super) struct Problems<'t> {
    layers: Vec<Layer<'t>>,
    errors: Vec<ConfigError>,
    omitted: usize,
}

impl<'t> Problems<'t> {
    pub(super) fn new(layers: &[Layer<'t>]) -> Self {
        Self { layers: layers.to_vec(), errors: Vec::new(), omitted: 0 }
    }

    pub(super) fn layers(&self) -> &[Layer<'t>] {
        &self.layers
    }

    /// The spelling of the keys of a layer.
    pub(super) fn spelling(&self, layer: usize) -> Spelling {
        self.layers.get(layer).map_or(Spelling::File, Layer::spelling)
    }

    /// The origin of a layer.
    pub(super) fn origin(&self, layer: usize) -> Origin {
        self.layers.get(layer).map_or(Origin::Default, |layer| layer.origin)
    }

    /// Parses each layer. `None` if a layer is not valid TOML; every syntax error is recorded.
    pub(super) fn parse(&mut self) -> Option<Vec<DeTable<'t>>> {
        let mut tables = Vec::with_capacity(self.layers.len());
        for (index, layer) in self.layers.clone().into_iter().enumerate() {
            let (table, errors) = DeTable::parse_recoverable(layer.text);
            for error in errors {
                let message = error.message().lines().collect::<Vec<_>>().join(", ");
                let end = layer.text.len();
                let span = SourceSpan { layer: index, range: error.span().unwrap_or(end..end) };
                self.note(&span, &KeyPath::root(), format!("not valid TOML: {message}"), None);
            }
            tables.push(table.into_inner());
        }
        self.errors.is_empty().then_some(tables)
    }

    /// Records a problem of the key `path` at a source span.
    pub(super) fn note(&mut self, span: &SourceSpan, path: &KeyPath, message: String, hint: Option<String>) {
        if self.errors.len() >= MAX_ERRORS {
            self.omitted += 1;
            return;
        }
        let origin = self.origin(span.layer);
        let (position, line_text) = self.locate(span);
        self.errors.push(ConfigError {
            position,
            key: path.dotted(self.spelling(span.layer)),
            pointer: path.pointer(),
            origin,
            message,
            hint,
            line_text,
        });
    }

    pub(super) fn into_errors(mut self) -> Vec<ConfigError> {
        if self.omitted > 0 {
            let message = format!("{} further problems are not listed", self.omitted);
            let layer = self.layers.len().saturating_sub(1);
            let end = self.layers.get(layer).map_or(0, |layer| layer.text.len());
            let (position, line_text) = self.locate(&SourceSpan { layer, range: end..end });
            let origin = self.origin(layer);
            self.errors.push(ConfigError { position, origin, line_text, ..ConfigError::whole(message, None) });
        }
        self.errors
    }

    /// Position and line of a source span. Runtime settings have no position, because the host generates their text.
    fn locate(&self, span: &SourceSpan) -> (Option<Position>, String) {
        match self.layers.get(span.layer) {
            Some(layer) if layer.origin != Origin::Override => {
                let (position, line) = layer.locate(span.range.start);
                (Some(position), line)
            }
            _ => (None, String::new()),
        }
    }
}
