//! Redaction of JSON documents, string by string.

use serde_json::{Map, Value};

use super::run::RunRedactor;

/// Longest string that is read together with its key.
const MAX_IN_CONTEXT: usize = 8 * 1024;

/// Redacts every string and key. Returns the number of placeholders.
pub(super) fn redact_value(run: &RunRedactor, value: &mut Value) -> u64 {
    redact_named(run, None, value)
}

/// The same for the value of a key.
fn redact_named(run: &RunRedactor, key: Option<&str>, value: &mut Value) -> u64 {
    match value {
        Value::String(text) => redact_string(run, key.map(Context::Key), text),
        Value::Array(items) => redact_array(run, items),
        Value::Object(members) => redact_object(run, key, members),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

fn redact_array(run: &RunRedactor, items: &mut [Value]) -> u64 {
    let mut count = 0;
    let mut before: Option<String> = None;
    for item in items {
        // A command line: `["--password", "…"]`.
        let flag = before.take().filter(|text| text.starts_with('-') && !text.contains('='));
        before = item.as_str().filter(|text| text.len() <= 256).map(str::to_owned);
        count += match (item, flag) {
            (Value::String(text), Some(flag)) => redact_string(run, Some(Context::Flag(&flag)), text),
            (item, _) => redact_value(run, item),
        };
    }
    count
}

/// `own` is the key whose value the object is.
fn redact_object(run: &RunRedactor, own: Option<&str>, members: &mut Map<String, Value>) -> u64 {
    let mut count = 0;
    // `{"name": "DB_PASSWORD", "value": "…"}` and `{"DB_PASSWORD": {"value": "…"}}` are treated like `{"DB_PASSWORD":
    // "…"}`.
    let named = ["name", "key", "Name", "Key", "ParameterKey"]
        .into_iter()
        .find_map(|key| members.get(key)?.as_str())
        .or(own)
        .map(str::to_owned);
    let mut renamed = false;
    for (key, value) in members.iter_mut() {
        let is_value = ["value", "ParameterValue"].iter().any(|name| key.eq_ignore_ascii_case(name));
        let context = named.as_deref().filter(|_| is_value).unwrap_or(key);
        count += redact_named(run, Some(context), value);
        renamed |= run.redact(key).count > 0;
    }
    if renamed {
        for (key, value) in std::mem::take(members) {
            let redacted = run.redact(&key);
            count += redacted.count;
            let mut name = redacted.text.into_owned();
            while members.contains_key(&name) {
                name.push('+');
            }
            members.insert(name, value);
        }
    }
    count
}

enum Context<'a> {
    Key(&'a str),
    Flag(&'a str),
}

fn redact_string(run: &RunRedactor, context: Option<Context<'_>>, text: &mut String) -> u64 {
    let mut count = 0;
    if let Some(context) = context
        && text.len() <= MAX_IN_CONTEXT
        && !text.contains('\n')
    {
        let shared = run.shared();
        let decides = |name: &str| shared.masks.reads_names() || shared.redactor.literals.any(name.as_bytes());
        let (before, after) = match context {
            Context::Key(key) if decides(key) => (format!("\"{key}\": \""), "\""),
            Context::Flag(flag) if decides(flag) => (format!("{flag} "), ""),
            _ => (String::new(), ""),
        };
        if !before.is_empty() {
            let whole = format!("{before}{text}{after}");
            let redacted = run.redact(&whole);
            if redacted.count > 0
                && let Some(inner) =
                    redacted.text.strip_prefix(before.as_str()).and_then(|rest| rest.strip_suffix(after))
            {
                *text = inner.to_owned();
                count += redacted.count;
            }
        }
    }
    let redacted = run.redact(text);
    if redacted.count > 0 {
        count += redacted.count;
        *text = redacted.text.into_owned();
    }
    count
}
