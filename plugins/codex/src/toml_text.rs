//! Values of `-c key=value`, which codex parses as TOML. Each is on one line.

use std::fmt::Write as _;

use serde_json::Value;

/// A basic string with escaped control characters.
pub(crate) fn string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A key, without quotes if possible.
pub(crate) fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if bare { name.to_owned() } else { string(name) }
}

/// An array of strings.
pub(crate) fn strings<S: AsRef<str>>(items: &[S]) -> String {
    let items: Vec<String> = items.iter().map(|item| string(item.as_ref())).collect();
    format!("[{}]", items.join(","))
}

/// An inline table of values that are already TOML.
pub(crate) fn table<K: AsRef<str>>(entries: &[(K, String)]) -> String {
    let entries: Vec<String> = entries.iter().map(|(name, value)| format!("{}={value}", key(name.as_ref()))).collect();
    format!("{{{}}}", entries.join(","))
}

/// A JSON value. None if it contains null, which TOML does not have, or a number outside TOML's range.
pub(crate) fn value(json: &Value) -> Option<String> {
    Some(match json {
        Value::Null => return None,
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => whole.to_string(),
            (None, Some(float)) if number.is_f64() => format!("{float:?}"),
            _ => return None,
        },
        Value::String(text) => string(text),
        Value::Array(items) => format!("[{}]", items.iter().map(value).collect::<Option<Vec<_>>>()?.join(",")),
        Value::Object(map) => {
            table(&map.iter().map(|(name, item)| Some((name, value(item)?))).collect::<Option<Vec<_>>>()?)
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> toml::Value {
        toml::from_str::<toml::Table>(&format!("x = {text}")).unwrap().remove("x").unwrap()
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1.0e300_f64..1.0e300).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn text_is_parsed_back_and_stays_on_one_line(text in any::<String>()) {
            let quoted = string(&text);
            let back = read(&quoted);
            prop_assert_eq!(back.as_str(), Some(text.as_str()));
            prop_assert!(!quoted.contains(['\n', '\r', '\0']));
        }

        #[test]
        fn json_is_parsed_back(json in any_json()) {
            let text = value(&json).unwrap();
            prop_assert_eq!(serde_json::to_value(read(&text)).unwrap(), json);
        }
    }

    #[test]
    fn null_is_rejected() {
        assert!(value(&serde_json::json!({"a": [null]})).is_none());
        assert!(value(&serde_json::json!(u64::MAX)).is_none());
    }
}
