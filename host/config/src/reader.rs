//! Reads tables key by key: each key is asked for by name and type, and what nobody asked for is unknown.
//!
//! A table is one in several layers at once: the default's, the file's, what was set at run time. A key has the value of
//! the last layer that has it; tables are merged; lists and everything else are taken whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::{Place, Problems};
use super::json;
use super::key::{KeyPath, Spelling};
use ostler_protocol::nearest;

/// What all tables of one configuration share.
pub(super) struct Reader<'t> {
    pub(super) problems: Problems<'t>,
    /// The places of the values that are in force, by pointer.
    pub(super) set: BTreeMap<String, Place>,
    /// Time that went into compiling patterns.
    pub(super) compiling: Duration,
}

impl Reader<'_> {
    /// Notes a problem of the key at a place.
    fn note(&mut self, place: &Place, path: &KeyPath, message: impl Into<String>, hint: Option<String>) {
        self.problems.note(place, path, message.into(), hint);
    }
}

/// One table in every layer that has it, and the keys that were asked of it.
pub(super) struct Table<'d, 't> {
    /// In the order of the layers.
    layers: Vec<(usize, &'d DeTable<'t>)>,
    path: KeyPath,
    asked: Vec<&'static str>,
}

/// One value in every layer that has it, with its places.
pub(super) struct Found<'d, 't> {
    /// The one that counts.
    layer: usize,
    value: &'d Spanned<DeValue<'t>>,
    /// Those that it goes before, the last first.
    under: Vec<(usize, &'d Spanned<DeValue<'t>>)>,
    path: KeyPath,
}

fn place(layer: usize, value: &Spanned<DeValue<'_>>) -> Place {
    Place { layer, span: value.span() }
}

impl<'d, 't> Found<'d, 't> {
    fn of(values: impl DoubleEndedIterator<Item = (usize, &'d Spanned<DeValue<'t>>)>, path: KeyPath) -> Option<Self> {
        let mut values = values.rev();
        let (layer, value) = values.next()?;
        Some(Self { layer, value, under: values.collect(), path })
    }

    fn place(&self) -> Place {
        place(self.layer, self.value)
    }

    /// Notes that the value is in force.
    pub(super) fn set(&self, reader: &mut Reader<'_>) {
        reader.set.insert(self.path.pointer(), self.place());
    }

    /// Notes that the value is not what was wanted.
    pub(super) fn refuse(&self, reader: &mut Reader<'_>, message: impl Into<String>, hint: Option<String>) {
        reader.note(&self.place(), &self.path, message, hint);
    }

    fn wrong_type(&self, reader: &mut Reader<'_>, wanted: impl Display) {
        wrong_type(&self.place(), self.value, &self.path, reader, wanted);
    }

    pub(super) fn text(&self, reader: &mut Reader<'_>) -> Option<&'d str> {
        let text = self.value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(reader, "a string");
        }
        text
    }

    fn number<N: TryFrom<i64>>(&self, reader: &mut Reader<'_>, range: &RangeInclusive<i64>) -> Option<N> {
        let (low, high) = (range.start(), range.end());
        let wanted = format!("an integer from {low} to {high}");
        let DeValue::Integer(number) = self.value.get_ref() else {
            self.wrong_type(reader, wanted);
            return None;
        };
        let value = json::integer(number).filter(|number| range.contains(number)).and_then(|n| N::try_from(n).ok());
        if value.is_none() {
            self.refuse(reader, format!("must be {wanted}, not {number}"), None);
        }
        value
    }

    fn list(&self, reader: &mut Reader<'_>) -> Option<Vec<Self>> {
        let DeValue::Array(items) = self.value.get_ref() else {
            self.wrong_type(reader, "a list");
            return None;
        };
        let item = |(index, value)| Found { layer: self.layer, value, under: Vec::new(), path: self.path.index(index) };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// The value as a table of its own, merged with those that it goes before.
    pub(super) fn table(&self, reader: &mut Reader<'_>) -> Option<Table<'d, 't>> {
        let mut layers = Vec::with_capacity(1 + self.under.len());
        for (layer, value) in self.under.iter().rev().copied().chain([(self.layer, self.value)]) {
            match value.get_ref() {
                DeValue::Table(table) => layers.push((layer, table)),
                _ => wrong_type(&place(layer, value), value, &self.path, reader, "a table"),
            }
        }
        (layers.len() == 1 + self.under.len()).then(|| Table { layers, path: self.path.clone(), asked: Vec::new() })
    }
}

fn wrong_type(place: &Place, value: &Spanned<DeValue<'_>>, path: &KeyPath, r: &mut Reader<'_>, wanted: impl Display) {
    let found = match value.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    r.note(place, path, format!("must be {wanted}, not {found}"), None);
}

impl<'d, 't> Table<'d, 't> {
    /// The configuration itself, of the tables of all layers in their order.
    pub(super) fn root(layers: &'d [DeTable<'t>]) -> Self {
        Self { layers: layers.iter().enumerate().collect(), path: KeyPath::root(), asked: Vec::new() }
    }

    /// Asks for a key; it counts as set then.
    pub(super) fn get(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<Found<'d, 't>> {
        let found = self.peek(reader, key)?;
        found.set(reader);
        Some(found)
    }

    fn peek(&mut self, reader: &Reader<'_>, key: &'static str) -> Option<Found<'d, 't>> {
        self.asked.push(key);
        let values = self.layers.iter().filter_map(|(layer, table)| {
            let name = reader.problems.spelling(*layer).write(key);
            Some((*layer, table.get(name.as_str())?))
        });
        Found::of(values, self.path.key(key))
    }

    pub(super) fn number<N: TryFrom<i64>>(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        range: RangeInclusive<i64>,
        into: &mut N,
    ) {
        if let Some(value) = self.get(reader, key).and_then(|found| found.number(reader, &range)) {
            *into = value;
        }
    }

    pub(super) fn optional_number<N: TryFrom<i64>>(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        range: RangeInclusive<i64>,
        into: &mut Option<N>,
    ) {
        if let Some(value) = self.get(reader, key).and_then(|found| found.number(reader, &range)) {
            *into = Some(value);
        }
    }

    pub(super) fn numbers<N: TryFrom<i64>>(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        range: RangeInclusive<i64>,
    ) -> Option<Vec<N>> {
        let items = self.get(reader, key)?.list(reader)?;
        Some(items.iter().filter_map(|item| item.number(reader, &range)).collect())
    }

    /// A number with or without a fraction.
    pub(super) fn real(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        range: RangeInclusive<f32>,
        into: &mut Option<f32>,
    ) {
        let Some(found) = self.get(reader, key) else {
            return;
        };
        let text = match found.value.get_ref() {
            DeValue::Float(number) => number.as_str(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
            _ => {
                found.wrong_type(reader, format!("a number from {} to {}", range.start(), range.end()));
                return;
            }
        };
        match text.parse::<f32>().ok().filter(|number| range.contains(number)) {
            Some(number) => *into = Some(number),
            None => {
                let message = format!("must be a number from {} to {}, not {text}", range.start(), range.end());
                found.refuse(reader, message, None);
            }
        }
    }

    pub(super) fn flag(&mut self, reader: &mut Reader<'_>, key: &'static str, into: &mut bool) {
        let Some(found) = self.get(reader, key) else {
            return;
        };
        match found.value.get_ref().as_bool() {
            Some(flag) => *into = flag,
            None => found.wrong_type(reader, "true or false"),
        }
    }

    /// A text that `read` accepts; it notes what it does not.
    pub(super) fn text<T>(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        read: impl FnOnce(&str, &Found<'d, 't>, &mut Reader<'_>) -> Option<T>,
    ) -> Option<T> {
        let found = self.get(reader, key)?;
        let text = found.text(reader)?;
        read(text, &found, reader)
    }

    /// One of the given words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        choices: &[(&'static str, T)],
        into: &mut T,
    ) {
        let Some(found) = self.get(reader, key) else {
            return;
        };
        let Some(text) = found.text(reader) else {
            return;
        };
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
            *into = *value;
            return;
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let hint = nearest(text, names.iter().copied()).map(|name| format!("did you mean {name:?}?"));
        found.refuse(reader, format!("must be one of {}", names.join(", ")), hint);
    }

    /// A list of texts, each of which `check` accepts; it notes what it does not.
    pub(super) fn texts(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        mut check: impl FnMut(&str, &Found<'d, 't>, &mut Reader<'_>),
    ) -> Option<Vec<String>> {
        let items = self.get(reader, key)?.list(reader)?;
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            if let Some(text) = item.text(reader) {
                check(text, &item, reader);
                texts.push(text.to_owned());
            }
        }
        Some(texts)
    }

    /// A table with fixed keys. Only what it holds counts as set.
    pub(super) fn section(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<Table<'d, 't>> {
        self.peek(reader, key)?.table(reader)
    }

    /// A list of tables; it counts as set as a whole.
    pub(super) fn tables(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<Vec<Table<'d, 't>>> {
        let items = self.get(reader, key)?.list(reader)?;
        Some(items.iter().filter_map(|item| item.table(reader)).collect())
    }

    /// A table whose keys are free; only its values count as set.
    pub(super) fn named(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Vec<(&'d str, Found<'d, 't>)> {
        let Some(table) = self.section(reader, key) else {
            return Vec::new();
        };
        let names: BTreeSet<&'d str> = table.layers.iter().flat_map(|(_, table)| table.keys().map(name_of)).collect();
        let entry = |name: &'d str| {
            let values = table.layers.iter().filter_map(|(layer, table)| Some((*layer, table.get(name)?)));
            Some((name, Found::of(values, table.path.name(name))?))
        };
        names.into_iter().filter_map(entry).collect()
    }

    /// A table of any values, as JSON, merged member by member; each value counts as set.
    pub(super) fn settings(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<Map<String, Value>> {
        let found = self.get(reader, key)?;
        let table = found.table(reader)?;
        let mut merged = Map::new();
        for (layer, table) in table.layers {
            json::merge(&mut merged, table, layer, &found.path, reader);
        }
        Some(merged)
    }

    /// Notes the keys that nobody asked for.
    pub(super) fn finish(self, reader: &mut Reader<'_>) {
        for (layer, table) in &self.layers {
            let spelling = reader.problems.spelling(*layer);
            let known: Vec<String> = self.asked.iter().map(|key| spelling.write(key)).collect();
            for key in table.keys() {
                let name = name_of(key);
                if known.iter().any(|known| known == name) {
                    continue;
                }
                let what = match (self.path.is_root(), spelling) {
                    (true, Spelling::File) => "unknown section or key",
                    (true, Spelling::Wire) => "unknown section",
                    (false, _) => "unknown key",
                };
                let hint = match (nearest(name, known.iter().map(String::as_str)), spelling) {
                    (Some(near), Spelling::File) => format!("did you mean {near}?"),
                    // A call has no section that the key stands in.
                    (Some(near), Spelling::Wire) => {
                        format!("did you mean {}?", self.path.name(near).dotted(spelling))
                    }
                    (None, _) => format!("known are {}", known.join(", ")),
                };
                let place = Place { layer: *layer, span: key.span() };
                reader.note(&place, &self.path.name(name), what, Some(hint));
            }
        }
    }

    /// Refuses the table as a whole.
    pub(super) fn refuse(&self, reader: &mut Reader<'_>, message: impl Into<String>, hint: Option<String>) {
        reader.note(&self.place(), &self.path, message, hint);
    }

    /// Notes that a key which must be there is not.
    pub(super) fn missing(&self, reader: &mut Reader<'_>, place: &Place, key: &'static str) {
        let key = reader.problems.spelling(place.layer).write(key);
        reader.note(place, &self.path, format!("{key} is missing"), Some(format!("add {key}")));
    }

    /// The place of the table's first key, for what concerns the table as a whole.
    pub(super) fn place(&self) -> Place {
        let (layer, span) = self.layers.last().map_or((0, None), |(layer, table)| {
            (*layer, table.keys().map(Spanned::span).min_by_key(|span| span.start))
        });
        Place { layer, span: span.unwrap_or(0..0) }
    }
}

fn name_of<'d>(key: &'d Spanned<std::borrow::Cow<'_, str>>) -> &'d str {
    let name: &std::borrow::Cow<'_, str> = key.get_ref();
    name.as_ref()
}
