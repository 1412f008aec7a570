//! Access to the payload; null counts as missing.

use ostler_plugin::escape_pointer;
use serde_json::{Map, Value};

/// The value at the pointer, unless it is missing or null.
pub(crate) fn at<'v>(value: &'v Value, pointer: &str) -> Option<&'v Value> {
    value.pointer(pointer).filter(|found| !found.is_null())
}

/// The members of the object at the pointer; none if it is not an object.
pub(crate) fn members<'v>(value: &'v Value, pointer: &str) -> impl Iterator<Item = (&'v String, &'v Value)> {
    at(value, pointer)
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(Map::iter)
        .filter(|(_, member)| !member.is_null())
}

/// The items of the list at the pointer, with their pointers.
pub(crate) fn items<'v>(value: &'v Value, pointer: &str) -> impl Iterator<Item = (String, &'v Value)> {
    let list = at(value, pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().enumerate().map(move |(index, item)| (format!("{pointer}/{index}"), item))
}

/// The pointer of a member.
pub(crate) fn member(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", escape_pointer(name))
}

/// A text for use in a message: short, and without control characters.
pub(crate) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(80).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if shown.len() < text.len() && text.chars().nth(80).is_some() {
        shown.push('…');
    }
    shown
}
