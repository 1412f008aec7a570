//! Reads tables key by key: each key is asked for by name and type, and what nobody asked for is unknown.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::Problems;
use super::json;
use super::names::{nearest, written};
use super::types::Origin;

/// What all tables of one text share.
pub(super) struct Reader<'t> {
    pub(super) problems: Problems<'t>,
    /// The keys that were set, in dotted form.
    pub(super) set: BTreeMap<String, Origin>,
    pub(super) origin: Origin,
}

/// One table and the keys that were asked of it.
pub(super) struct Table<'d, 't> {
    table: &'d DeTable<'t>,
    /// Dotted; empty for the file itself.
    path: String,
    asked: Vec<&'static str>,
}

/// One value of the file, with its place.
pub(super) struct Found<'d, 't> {
    value: &'d Spanned<DeValue<'t>>,
    pub(super) path: String,
}

impl<'d, 't> Found<'d, 't> {
    pub(super) fn span(&self) -> Range<usize> {
        self.value.span()
    }

    /// Notes that the value is not what was wanted.
    pub(super) fn refuse(&self, reader: &mut Reader<'_>, message: impl Into<String>, hint: Option<String>) {
        reader.problems.note(self.span(), &self.path, message.into(), hint);
    }

    fn wrong_type(&self, reader: &mut Reader<'_>, wanted: impl Display) {
        let found = match self.value.get_ref() {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.refuse(reader, format!("must be {wanted}, not {found}"), None);
    }

    pub(super) fn text(&self, reader: &mut Reader<'_>) -> Option<&'d str> {
        let text = self.value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(reader, "a text");
        }
        text
    }

    fn number<N: TryFrom<i64>>(&self, reader: &mut Reader<'_>, range: &RangeInclusive<i64>) -> Option<N> {
        let (low, high) = (range.start(), range.end());
        let wanted = format!("a whole number from {low} to {high}");
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
        let item = |(index, value)| Found { value, path: format!("{}[{index}]", self.path) };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// The value as a table of its own.
    pub(super) fn table(&self, reader: &mut Reader<'_>) -> Option<Table<'d, 't>> {
        let DeValue::Table(table) = self.value.get_ref() else {
            self.wrong_type(reader, "a table");
            return None;
        };
        Some(Table { table, path: self.path.clone(), asked: Vec::new() })
    }
}

impl<'d, 't> Table<'d, 't> {
    pub(super) fn root(table: &'d DeTable<'t>) -> Self {
        Self { table, path: String::new(), asked: Vec::new() }
    }

    fn join(&self, key: &str) -> String {
        let key = written(key);
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }

    /// Asks for a key; it counts as set then.
    pub(super) fn get(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<Found<'d, 't>> {
        let found = self.peek(key)?;
        reader.set.insert(found.path.clone(), reader.origin);
        Some(found)
    }

    fn peek(&mut self, key: &'static str) -> Option<Found<'d, 't>> {
        self.asked.push(key);
        let value = self.table.get(key)?;
        Some(Found { value, path: self.join(key) })
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
        self.peek(key)?.table(reader)
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
        let entry = |(name, value): (&'d Spanned<_>, &'d Spanned<DeValue<'t>>)| {
            let name: &'d std::borrow::Cow<'t, str> = name.get_ref();
            (name.as_ref(), Found { value, path: table.join(name) })
        };
        table.table.iter().map(entry).collect()
    }

    /// A table of any values, as JSON; it counts as set as a whole.
    pub(super) fn settings(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<Map<String, Value>> {
        let found = self.get(reader, key)?;
        let table = found.table(reader)?;
        Some(json::object(table.table, &found.path, &mut reader.problems))
    }

    /// Notes the keys that nobody asked for.
    pub(super) fn finish(self, reader: &mut Reader<'_>) {
        for key in self.table.keys() {
            let name: &std::borrow::Cow<'_, str> = key.get_ref();
            if self.asked.iter().any(|asked| *asked == name.as_ref()) {
                continue;
            }
            let what = if self.path.is_empty() { "unknown section or key" } else { "unknown key" };
            let hint = match nearest(name, self.asked.iter().copied()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("known are {}", self.asked.join(", ")),
            };
            reader.problems.note(key.span(), &self.join(name), what.to_owned(), Some(hint));
        }
    }

    /// Notes that a key which must be there is not.
    pub(super) fn missing(&self, reader: &mut Reader<'_>, span: Range<usize>, key: &str) {
        reader.problems.note(span, &self.path, format!("{key} is missing"), Some(format!("add {key}")));
    }

    /// The place of the table's first key, for what concerns the table as a whole.
    pub(super) fn span(&self) -> Range<usize> {
        self.table.keys().map(Spanned::span).min_by_key(|span| span.start).unwrap_or(0..0)
    }
}
