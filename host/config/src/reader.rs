//! Reads tables key by key. The caller asks for each key by name and type; keys that were not asked for are unknown.
//!
//! A table combines the tables of several layers: the defaults, the file, and the runtime settings. A key has the value
//! of the last layer that contains it. Tables are merged; lists and other values are replaced as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::{Problems, SourceSpan};
use super::json;
use super::key::{KeyPath, Spelling};
use ostler_protocol::nearest;

/// State shared by all tables of one configuration.
pub(super) struct Reader<'t> {
    pub(super) problems: Problems<'t>,
    /// Source spans of the active values, by pointer.
    pub(super) set: BTreeMap<String, SourceSpan>,
    /// Time spent on compiling patterns.
    pub(super) compiling: Duration,
}

impl Reader<'_> {
    /// Records a problem of the key `path` at a source span.
    fn note(&mut self, span: &SourceSpan, path: &KeyPath, message: impl Into<String>, hint: Option<String>) {
        self.problems.note(span, path, message.into(), hint);
    }
}

/// One table in every layer that has it, and the keys that were asked for.
pub(super) struct Table<'d, 't> {
    /// The tables, in the order of the layers.
    layers: Vec<(usize, &'d DeTable<'t>)>,
    path: KeyPath,
    asked: Vec<&'static str>,
}

/// One value in every layer that has it.
pub(super) struct LayeredValue<'d, 't> {
    /// Layer of the active value.
    layer: usize,
    value: &'d Spanned<DeValue<'t>>,
    /// The values that it overrides, last layer first.
    under: Vec<(usize, &'d Spanned<DeValue<'t>>)>,
    path: KeyPath,
}

fn source_span(layer: usize, value: &Spanned<DeValue<'_>>) -> SourceSpan {
    SourceSpan { layer, range: value.span() }
}

impl<'d, 't> LayeredValue<'d, 't> {
    fn of(values: impl DoubleEndedIterator<Item = (usize, &'d Spanned<DeValue<'t>>)>, path: KeyPath) -> Option<Self> {
        let mut values = values.rev();
        let (layer, value) = values.next()?;
        Some(Self { layer, value, under: values.collect(), path })
    }

    fn source_span(&self) -> SourceSpan {
        source_span(self.layer, self.value)
    }

    /// Records that the value is active.
    pub(super) fn set(&self, reader: &mut Reader<'_>) {
        reader.set.insert(self.path.pointer(), self.source_span());
    }

    /// Reports that the value is invalid.
    pub(super) fn refuse(&self, reader: &mut Reader<'_>, message: impl Into<String>, hint: Option<String>) {
        reader.note(&self.source_span(), &self.path, message, hint);
    }

    fn wrong_type(&self, reader: &mut Reader<'_>, wanted: impl Display) {
        wrong_type(&self.source_span(), self.value, &self.path, reader, wanted);
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
        let item =
            |(index, value)| LayeredValue { layer: self.layer, value, under: Vec::new(), path: self.path.index(index) };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// The value as a table, merged with the tables that it overrides.
    pub(super) fn table(&self, reader: &mut Reader<'_>) -> Option<Table<'d, 't>> {
        let mut layers = Vec::with_capacity(1 + self.under.len());
        for (layer, value) in self.under.iter().rev().copied().chain([(self.layer, self.value)]) {
            match value.get_ref() {
                DeValue::Table(table) => layers.push((layer, table)),
                _ => wrong_type(&source_span(layer, value), value, &self.path, reader, "a table"),
            }
        }
        (layers.len() == 1 + self.under.len()).then(|| Table { layers, path: self.path.clone(), asked: Vec::new() })
    }
}

fn wrong_type(
    span: &SourceSpan,
    value: &Spanned<DeValue<'_>>,
    path: &KeyPath,
    r: &mut Reader<'_>,
    wanted: impl Display,
) {
    let found = match value.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    r.note(span, path, format!("must be {wanted}, not {found}"), None);
}

impl<'d, 't> Table<'d, 't> {
    /// The root table, from the tables of all layers in order.
    pub(super) fn root(layers: &'d [DeTable<'t>]) -> Self {
        Self { layers: layers.iter().enumerate().collect(), path: KeyPath::root(), asked: Vec::new() }
    }

    /// Asks for a key, and records its value as active.
    pub(super) fn get(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<LayeredValue<'d, 't>> {
        let found = self.peek(reader, key)?;
        found.set(reader);
        Some(found)
    }

    fn peek(&mut self, reader: &Reader<'_>, key: &'static str) -> Option<LayeredValue<'d, 't>> {
        self.asked.push(key);
        let values = self.layers.iter().filter_map(|(layer, table)| {
            let name = reader.problems.spelling(*layer).write(key);
            Some((*layer, table.get(name.as_str())?))
        });
        LayeredValue::of(values, self.path.key(key))
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

    /// A string, parsed by `read`, which reports problems itself.
    pub(super) fn text<T>(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        read: impl FnOnce(&str, &LayeredValue<'d, 't>, &mut Reader<'_>) -> Option<T>,
    ) -> Option<T> {
        let found = self.get(reader, key)?;
        let text = found.text(reader)?;
        read(text, &found, reader)
    }

    /// One of the names in `choices`.
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

    /// A list of strings. `check` checks each and reports problems itself.
    pub(super) fn texts(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        mut check: impl FnMut(&str, &LayeredValue<'d, 't>, &mut Reader<'_>),
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

    /// A table with fixed keys. Only its values are recorded as active.
    pub(super) fn section(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<Table<'d, 't>> {
        self.peek(reader, key)?.table(reader)
    }

    /// A list of tables, recorded as active as a whole.
    pub(super) fn tables(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<Vec<Table<'d, 't>>> {
        let items = self.get(reader, key)?.list(reader)?;
        Some(items.iter().filter_map(|item| item.table(reader)).collect())
    }

    /// A table with free keys. Only its values are recorded as active.
    pub(super) fn named(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Vec<(&'d str, LayeredValue<'d, 't>)> {
        let Some(table) = self.section(reader, key) else {
            return Vec::new();
        };
        let names: BTreeSet<&'d str> = table.layers.iter().flat_map(|(_, table)| table.keys().map(name_of)).collect();
        let entry = |name: &'d str| {
            let values = table.layers.iter().filter_map(|(layer, table)| Some((*layer, table.get(name)?)));
            Some((name, LayeredValue::of(values, table.path.name(name))?))
        };
        names.into_iter().filter_map(entry).collect()
    }

    /// A table of arbitrary values as JSON, merged member by member. Each value is recorded as active.
    pub(super) fn settings(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<Map<String, Value>> {
        let found = self.get(reader, key)?;
        let table = found.table(reader)?;
        let mut merged = Map::new();
        for (layer, table) in table.layers {
            json::merge(&mut merged, table, layer, &found.path, reader);
        }
        Some(merged)
    }

    /// Reports the keys that were not asked for.
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
                    // An API call has no section header, so name the whole key.
                    (Some(near), Spelling::Wire) => {
                        format!("did you mean {}?", self.path.name(near).dotted(spelling))
                    }
                    (None, _) => format!("known are {}", known.join(", ")),
                };
                let span = SourceSpan { layer: *layer, range: key.span() };
                reader.note(&span, &self.path.name(name), what, Some(hint));
            }
        }
    }

    /// Reports a problem of the whole table.
    pub(super) fn refuse(&self, reader: &mut Reader<'_>, message: impl Into<String>, hint: Option<String>) {
        reader.note(&self.source_span(), &self.path, message, hint);
    }

    /// Reports that a required key is missing.
    pub(super) fn missing(&self, reader: &mut Reader<'_>, span: &SourceSpan, key: &'static str) {
        let key = reader.problems.spelling(span.layer).write(key);
        reader.note(span, &self.path, format!("{key} is missing"), Some(format!("add {key}")));
    }

    /// The source span of the table's first key, for problems of the whole table.
    pub(super) fn source_span(&self) -> SourceSpan {
        let (layer, range) = self.layers.last().map_or((0, None), |(layer, table)| {
            (*layer, table.keys().map(Spanned::span).min_by_key(|span| span.start))
        });
        SourceSpan { layer, range: range.unwrap_or(0..0) }
    }
}

fn name_of<'d>(key: &'d Spanned<std::borrow::Cow<'_, str>>) -> &'d str {
    let name: &std::borrow::Cow<'_, str> = key.get_ref();
    name.as_ref()
}
