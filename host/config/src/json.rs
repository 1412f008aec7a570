//! Converts TOML values to JSON, for the settings of plugins.

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::document::SourceSpan;
use super::key::KeyPath;
use super::reader::Reader;

/// The value of an integer. `None` if it does not fit into 64 bits.
pub(super) fn integer(value: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(value.as_str(), value.radix()).ok()
}

/// Merges a table into a JSON object: tables are merged recursively, other values are replaced. A value that JSON
/// cannot represent is reported and omitted.
pub(super) fn merge(
    into: &mut Map<String, Value>,
    table: &DeTable<'_>,
    layer: usize,
    path: &KeyPath,
    reader: &mut Reader<'_>,
) {
    for (key, value) in table {
        let key: &Spanned<std::borrow::Cow<'_, str>> = key;
        let name: &std::borrow::Cow<'_, str> = key.get_ref();
        let path = path.name(name);
        if let DeValue::Table(members) = value.get_ref() {
            let inner = into.entry(name.as_ref()).or_insert_with(|| Value::Object(Map::new()));
            if !inner.is_object() {
                *inner = Value::Object(Map::new());
            }
            if let Value::Object(inner) = inner {
                merge(inner, members, layer, &path, reader);
            }
            continue;
        }
        if let Some(json) = self::value(value, layer, &path, reader) {
            reader.set.insert(path.pointer(), SourceSpan { layer, range: value.span() });
            into.insert(name.to_string(), json);
        }
    }
}

fn value(value: &Spanned<DeValue<'_>>, layer: usize, path: &KeyPath, reader: &mut Reader<'_>) -> Option<Value> {
    let mut refuse = |message: &str| {
        reader.problems.note(&SourceSpan { layer, range: value.span() }, path, message.to_owned(), None);
        None
    };
    match value.get_ref() {
        DeValue::String(text) => Some(Value::String(text.to_string())),
        DeValue::Integer(number) => match integer(number) {
            Some(number) => Some(Value::Number(number.into())),
            None => refuse("the number does not fit 64 bits"),
        },
        DeValue::Float(number) => match number.as_str().parse().ok().and_then(Number::from_f64) {
            Some(number) => Some(Value::Number(number)),
            None => refuse("settings cannot hold a number that is not finite"),
        },
        DeValue::Boolean(flag) => Some(Value::Bool(*flag)),
        DeValue::Datetime(time) => Some(Value::String(time.to_string())),
        DeValue::Array(items) => Some(
            items
                .iter()
                .enumerate()
                .filter_map(|(index, item)| self::value(item, layer, &path.index(index), reader))
                .collect(),
        ),
        DeValue::Table(table) => {
            let mut object = Map::new();
            merge(&mut object, table, layer, path, reader);
            Some(Value::Object(object))
        }
    }
}
