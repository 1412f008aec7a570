//! The texts that make one configuration, their lines, and the problems found in them.

use std::ops::Range;

use toml::de::DeTable;

use super::error::{ConfigError, Position};
use super::key::{KeyPath, Spelling};
use ostler_protocol::Origin;

/// More problems than these are not listed: by then it is the wrong file.
const MAX_ERRORS: usize = 50;
/// Characters of a line that an error shows.
const MAX_LINE_TEXT: usize = 160;

/// One text. What a later one says goes before what an earlier one says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layer<'t> {
    pub(super) origin: Origin,
    pub(super) text: &'t str,
}

impl Layer<'_> {
    /// How the keys are written in it.
    pub(super) const fn spelling(&self) -> Spelling {
        match self.origin {
            Origin::Default | Origin::File => Spelling::File,
            Origin::Override => Spelling::Wire,
        }
    }

    /// Line and column of a byte, and the line as it may be shown.
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

/// A place in one of the texts.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Index of the layer.
    pub(super) layer: usize,
    pub(super) span: Range<usize>,
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

    /// How the keys of a layer are written.
    pub(super) fn spelling(&self, layer: usize) -> Spelling {
        self.layers.get(layer).map_or(Spelling::File, Layer::spelling)
    }

    /// Where a layer comes from.
    pub(super) fn origin(&self, layer: usize) -> Origin {
        self.layers.get(layer).map_or(Origin::Default, |layer| layer.origin)
    }

    /// The tables of each layer. Where one is not TOML, every place that is not is noted and there are no tables.
    pub(super) fn parse(&mut self) -> Option<Vec<DeTable<'t>>> {
        let mut tables = Vec::with_capacity(self.layers.len());
        for (index, layer) in self.layers.clone().into_iter().enumerate() {
            let (table, errors) = DeTable::parse_recoverable(layer.text);
            for error in errors {
                let message = error.message().lines().collect::<Vec<_>>().join(", ");
                let end = layer.text.len();
                let place = Place { layer: index, span: error.span().unwrap_or(end..end) };
                self.note(&place, &KeyPath::root(), format!("not valid TOML: {message}"), None);
            }
            tables.push(table.into_inner());
        }
        self.errors.is_empty().then_some(tables)
    }

    /// Notes a problem of the key at a place.
    pub(super) fn note(&mut self, place: &Place, path: &KeyPath, message: String, hint: Option<String>) {
        if self.errors.len() >= MAX_ERRORS {
            self.omitted += 1;
            return;
        }
        let origin = self.origin(place.layer);
        let (position, line_text) = self.locate(place);
        self.errors.push(ConfigError {
            position,
            key: path.dotted(self.spelling(place.layer)),
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
            let (position, line_text) = self.locate(&Place { layer, span: end..end });
            let origin = self.origin(layer);
            self.errors.push(ConfigError { position, origin, line_text, ..ConfigError::whole(message, None) });
        }
        self.errors
    }

    /// Line, column and line of a place. What the user has set at run time has none: its text is the host's own.
    fn locate(&self, place: &Place) -> (Option<Position>, String) {
        match self.layers.get(place.layer) {
            Some(layer) if layer.origin != Origin::Override => {
                let (position, line) = layer.locate(place.span.start);
                (Some(position), line)
            }
            _ => (None, String::new()),
        }
    }
}
