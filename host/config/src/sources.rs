//! Where each value of a configuration comes from.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::document::{Layer, Place, Problems};
use super::error::Position;
use ostler_protocol::Origin;

/// Where the values come from that are not the built-in ones, by JSON pointer into the configuration as it is on the
/// wire. Two are equal if the same values come from the same places, wherever those stand in the file.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The user's file.
    file: Option<Arc<str>>,
    set: BTreeMap<String, Source>,
}

#[derive(Clone, Copy, Debug)]
struct Source {
    origin: Origin,
    /// Byte of the text at which the value begins.
    offset: usize,
}

impl PartialEq for Sources {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Sources {
    pub(super) fn new(problems: &Problems<'_>, set: &BTreeMap<String, Place>) -> Self {
        let file = problems.layers().iter().find(|layer| layer.origin == Origin::File);
        let source = |place: &Place| Source { origin: problems.origin(place.layer), offset: place.span.start };
        let set = set.iter().map(|(pointer, place)| (pointer.clone(), source(place)));
        Self {
            file: file.map(|layer| Arc::from(layer.text)),
            set: set.filter(|(_, source)| source.origin != Origin::Default).collect(),
        }
    }

    /// The origin of a value: its own, or that of the table or list that holds it.
    #[must_use]
    pub fn origin(&self, pointer: &str) -> Origin {
        self.nearest(pointer).map_or(Origin::Default, |source| source.origin)
    }

    /// Every pointer that something other than the default set, with its origin.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Origin)> {
        self.set.iter().map(|(pointer, source)| (pointer.as_str(), source.origin))
    }

    /// Where in the file a value stands, or the table or list that holds it, or for a table the first that is in it, with
    /// the line: see [`line_text`](super::ConfigError::line_text). None where nothing of that comes from the file.
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
