//! TOML values as JSON, for the settings of plugins.

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::document::Problems;
use super::names::written;

/// The value of an integer; none where it does not fit 64 bits.
pub(super) fn integer(value: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(value.as_str(), value.radix()).ok()
}

/// The table as a JSON object. What JSON does not have is noted and left out.
pub(super) fn object(table: &DeTable<'_>, path: &str, problems: &mut Problems<'_>) -> Map<String, Value> {
    let member = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let name: &std::borrow::Cow<'_, str> = key.get_ref();
        let value = self::value(value, &format!("{path}.{}", written(name)), problems)?;
        Some((name.to_string(), value))
    };
    table.iter().filter_map(member).collect()
}

fn value(value: &Spanned<DeValue<'_>>, path: &str, problems: &mut Problems<'_>) -> Option<Value> {
    let mut refuse = |message: &str| {
        problems.note(value.span(), path, message.to_owned(), None);
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
                .filter_map(|(index, item)| self::value(item, &format!("{path}[{index}]"), problems))
                .collect(),
        ),
        DeValue::Table(table) => Some(Value::Object(object(table, path, problems))),
    }
}
