//! The origin of each value of a configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::document::{Layer, Problems, SourceSpan};
use super::error::Position;
use ostler_protocol::Origin;

/// The origins of the values that are not defaults, by JSON pointer into the document of the API. Two are equal if the
/// same values have the same origins; their positions in the file do not matter.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The user's file.
    file: Option<Arc<str>>,
    set: BTreeMap<String, Source>,
}

#[derive(Clone, Copy, Debug)]
struct Source {
    origin: Origin,
    /// Byte offset of the value in its text.
    offset: usize,
}

impl PartialEq for Sources {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Sources {
    pub(super) fn new(problems: &Problems<'_>, set: &BTreeMap<String, SourceSpan>) -> Self {
        let file = problems.layers().iter().find(|layer| layer.origin == Origin::File);
        let source = |span: &SourceSpan| Source { origin: problems.origin(span.layer), offset: span.range.start };
        let set = set.iter().map(|(pointer, span)| (pointer.clone(), source(span)));
        Self {
            file: file.map(|layer| Arc::from(layer.text)),
            set: set.filter(|(_, source)| source.origin != Origin::Default).collect(),
        }
    }

    /// The origin of a value: its own, or that of the table or list that contains it.
    #[must_use]
    pub fn origin(&self, pointer: &str) -> Origin {
        self.nearest(pointer).map_or(Origin::Default, |source| source.origin)
    }

    /// Every pointer whose value is not a default, with its origin.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Origin)> {
        self.set.iter().map(|(pointer, source)| (pointer.as_str(), source.origin))
    }

    /// Position and line of a value in the file, or of the table or list that contains it, or for a table of its first
    /// value. For the line see [`line_text`](super::ConfigError::line_text). `None` if none of these is in the file.
    #[must_use]
    pub fn position(&self, pointer: &str) -> Option<(Position, String)> {
        let below = format!("{pointer}/");
        let inside = self.set.range(below.clone()..).take_while(|(at, _)| at.starts_with(&below)).map(|(_, at)| *at);
        let inside = inside.filter(|source| source.origin == Origin::File).min_by_key(|source| source.offset);
        let source = self.nearest(pointer).or(inside).filter(|source| source.origin == Origin::File)?;
        Some(Layer { origin: Origin::File, text: self.file.as_deref()? }.locate(source.offset))
    }

    fn nearest(&self, pointer: &str) -> Option<Source> {
        let mut pointer = pointer;
        loop {
            if let Some(source) = self.set.get(pointer) {
                return Some(*source);
            }
            pointer = pointer.rsplit_once('/')?.0;
        }
    }
}
