//! The schema of the settings, generated from the built-in configuration.

use schemars::Schema;
use serde_json::{Map, Value, json};

use ostler_config::Config;

/// Adds the sections to the schema, with the types and defaults of the built-in configuration.
pub(super) fn add_sections(schema: &mut Schema) {
    let Ok(config) = Config::builtin() else { return };
    let Some(Value::Object(properties)) = schema.get_mut("properties") else { return };
    for (name, section) in config.shown() {
        let mut described = schema_of(&name, &section);
        if let (Value::Object(members), Some(keys)) = (&mut described, keys_of(&section)) {
            members.insert("description".to_owned(), keys.into());
        }
        properties.insert(name, described);
    }
}

/// A description of a section: its keys with their defaults.
fn keys_of(section: &Value) -> Option<String> {
    let keys = section.as_object().filter(|members| !members.is_empty())?.iter();
    let keys = keys.map(|(key, value)| match value {
        Value::Null | Value::Object(_) => format!("`{key}`"),
        Value::Array(items) if items.len() > 3 => format!("`{key}` (a list)"),
        value => format!("`{key}` ({value})"),
    });
    Some(keys.collect::<Vec<_>>().join(", "))
}

/// The schema for a setting with this default. A setting without a default allows any value.
fn schema_of(name: &str, value: &Value) -> Value {
    match value {
        Value::Null => json!({}),
        Value::Bool(_) => json!({"type": "boolean", "default": value}),
        Value::Number(number) if number.is_f64() => json!({"type": "number", "default": value}),
        Value::Number(_) => json!({"type": "integer", "default": value}),
        Value::String(_) => json!({"type": "string", "default": value}),
        // An empty default does not show the type of the items: strings, except for rules.
        Value::Array(_) if name == "rules" => json!({"type": "array", "items": {"type": "object"}, "default": value}),
        Value::Array(_) => json!({"type": "array", "items": {"type": "string"}, "default": value}),
        Value::Object(members) => {
            let properties: Map<String, Value> =
                members.iter().map(|(name, value)| (name.clone(), schema_of(name, value))).collect();
            json!({"type": "object", "properties": properties})
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use ostler_protocol::methods::Settings;

    #[test]
    fn document_lists_every_setting() {
        let mut schema = schemars::schema_for!(Settings);
        add_sections(&mut schema);
        assert_eq!(schema.pointer("/properties/scheduler/properties/global/type"), Some(&json!("integer")));
        assert!(schema.pointer("/properties/origins").is_some());
        let config = Config::builtin().unwrap();
        let stated = &crate::document::openrpc()["components"]["schemas"]["Settings"]["properties"];
        for (section, _) in config.shown() {
            assert!(stated.get(&section).is_some(), "{section}: {stated}");
        }
        for shown in config.shown_values() {
            let at: String = shown.pointer.split('/').skip(1).map(|name| format!("/properties/{name}")).collect();
            let schema =
                schema.pointer(&at).unwrap_or_else(|| panic!("{at}: the document does not know {}", shown.key));
            assert!(schema.get("default").is_none_or(|default| *default == shown.value), "{at}");
        }
    }
}
