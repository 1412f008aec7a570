//! Schemas in a form that code generators understand.
//!
//! schemars writes valid JSON Schema, but generators do not support all of it: `"type": ["string", "null"]`, constants
//! as `oneOf`, arrays without `items`, schemas without a name. Here, each schema gets a `title` that is unique in the
//! document and names its location, constants become `enum`, and a choice of types becomes `anyOf`. Optional members
//! are left out instead of being null, and have a default: without one, the classes of a generated Python client
//! require them.

use serde_json::{Map, Value, json};

/// The descriptions of the values of an `enum`, by value.
pub(super) const ENUM_DESCRIPTIONS: &str = "x-enumDescriptions";

/// Whether the described value can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// It is always present and may be null.
    Required,
    /// It is left out if it has no value.
    Optional,
}

/// Converts a schema to this form. `title` becomes its title; the titles of its parts begin with it.
pub(super) fn portable(schema: &mut Value, title: &str, presence: Presence) {
    if *schema == Value::Bool(true) {
        *schema = json!({});
    }
    let Some(members) = schema.as_object_mut() else { return };
    name_types(members, presence);
    choose(members, title, presence);
    let Some(members) = schema.as_object_mut() else { return };
    match presence {
        Presence::Required if members.get("default") == Some(&Value::Null) => drop(members.remove("default")),
        Presence::Required => {}
        Presence::Optional => drop(members.entry("default").or_insert(Value::Null)),
    }
    if members.get("type").is_some_and(|kind| kind == "array") {
        portable(members.entry("items").or_insert_with(|| json!({})), &format!("{title}Item"), Presence::Required);
    }
    if let Some(values @ Value::Object(_)) = members.get_mut("additionalProperties") {
        portable(values, &format!("{title}Value"), Presence::Required);
    }
    let required: Vec<String> = members
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect();
    if let Some(Value::Object(properties)) = members.get_mut("properties") {
        for (name, property) in properties {
            let presence = if required.contains(name) { Presence::Required } else { Presence::Optional };
            portable(property, &format!("{title}{}", pascal(name)), presence);
        }
    }
    // Older drafts of JSON Schema ignore all members beside `$ref`.
    if !members.contains_key("$ref") {
        members.insert("title".to_owned(), title.into());
    }
}

/// Replaces a list of types by a single `type`, or by `anyOf` with one type in each choice.
fn name_types(members: &mut Map<String, Value>, presence: Presence) {
    let Some(Value::Array(types)) = members.get("type") else { return };
    let nullable = types.iter().any(|kind| kind == "null");
    let types: Vec<Value> = types.iter().filter(|kind| *kind != "null").cloned().collect();
    let keeps_null = nullable && presence == Presence::Required;
    if !keeps_null && let Some(Value::Array(values)) = members.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    if let ([only], false) = (types.as_slice(), keeps_null) {
        members.insert("type".to_owned(), only.clone());
        return;
    }
    members.remove("type");
    let (mut shared, mut own) = (Map::new(), Map::new());
    for (name, value) in std::mem::take(members) {
        let of_all = matches!(name.as_str(), "description" | "default");
        let part = if of_all { &mut shared } else { &mut own };
        part.insert(name, value);
    }
    let mut choices: Vec<Value> = types
        .into_iter()
        .map(|kind| {
            let mut choice = own.clone();
            choice.insert("type".to_owned(), kind);
            Value::Object(choice)
        })
        .collect();
    if keeps_null {
        choices.push(json!({"type": "null"}));
    }
    shared.insert("anyOf".to_owned(), choices.into());
    *members = shared;
}

/// Converts the choices of a schema: removes null if the value is optional, and replaces a single choice by its
/// content.
fn choose(members: &mut Map<String, Value>, title: &str, presence: Presence) {
    for name in ["anyOf", "oneOf", "allOf"] {
        let Some(Value::Array(choices)) = members.get_mut(name) else { continue };
        if presence == Presence::Optional {
            choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
        }
        if name != "allOf"
            && let Some(mut constants) = enumeration(choices)
        {
            members.remove(name);
            members.append(&mut constants);
            continue;
        }
        if let [Value::Object(only)] = choices.as_slice() {
            let mut only = only.clone();
            members.remove(name);
            if only.contains_key("$ref") {
                members.retain(|name, _| matches!(name.as_str(), "description" | "default"));
            }
            members.append(&mut only);
            continue;
        }
        let several = choices.len() > 1;
        for (index, choice) in choices.iter_mut().enumerate().filter(|_| several) {
            let title = format!("{title}{}", name_of(choice, index));
            portable(choice, &title, Presence::Required);
        }
    }
}

/// The choices as one `enum`, if all are constants of one type. Generators support `enum`, but not constants in
/// `oneOf`.
fn enumeration(choices: &[Value]) -> Option<Map<String, Value>> {
    let kind = choices.first()?.get("type").filter(|kind| kind.is_string())?;
    if choices.iter().all(|choice| choice.get("const").is_none()) {
        return None;
    }
    let (mut values, mut descriptions) = (Vec::new(), Map::new());
    for choice in choices {
        if choice.get("type") != Some(kind) {
            return None;
        }
        match (choice.get("const"), choice.get("enum").and_then(Value::as_array)) {
            (Some(value), None) => {
                if let (Some(name), Some(description)) = (value.as_str(), choice.get("description")) {
                    descriptions.insert(name.to_owned(), description.clone());
                }
                values.push(value.clone());
            }
            (None, Some(several)) => values.extend_from_slice(several),
            _ => return None,
        }
    }
    let mut members = Map::new();
    members.insert("type".to_owned(), kind.clone());
    members.insert("enum".to_owned(), values.into());
    if !descriptions.is_empty() {
        members.insert(ENUM_DESCRIPTIONS.to_owned(), descriptions.into());
    }
    Some(members)
}

/// The part of a title that distinguishes a choice from the others.
fn name_of(choice: &Value, index: usize) -> String {
    let constant =
        |schema: &Value| schema.get("const").map(|value| value.as_str().map_or_else(|| value.to_string(), pascal));
    let properties = choice.get("properties").and_then(Value::as_object);
    let by_property = || {
        let properties = properties?;
        let only = || properties.keys().next().filter(|_| properties.len() == 1).map(|name| pascal(name));
        properties.values().find_map(constant).or_else(only)
    };
    let by_type = || choice.get("type").and_then(Value::as_str).map(pascal);
    constant(choice).or_else(by_property).or_else(by_type).unwrap_or_else(|| (index + 1).to_string())
}

/// Converts `get_run`, `runId` or `read-only` to the name of a type: `GetRun`, `RunId`, `ReadOnly`.
pub(super) fn pascal(name: &str) -> String {
    let words = name.split(|character: char| !character.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words
        .map(|word| {
            let (first, rest) = word.split_at(1);
            first.to_ascii_uppercase() + rest
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn made(mut schema: Value, presence: Presence) -> Value {
        portable(&mut schema, "T", presence);
        schema
    }

    #[test]
    fn optional_member_has_one_type_and_no_null() {
        let nullable = json!({"type": ["string", "null"], "default": null, "description": "d"});
        assert_eq!(
            made(nullable.clone(), Presence::Optional),
            json!({"type": "string", "description": "d", "default": null, "title": "T"})
        );
        assert_eq!(
            made(nullable, Presence::Required),
            json!({"description": "d", "anyOf": [{"type": "string", "title": "TString"}, {"type": "null", "title": "TNull"}],
                "title": "T"})
        );
        let reference = json!({"anyOf": [{"$ref": "#/x"}, {"type": "null"}], "description": "d", "default": null});
        assert_eq!(made(reference, Presence::Optional), json!({"description": "d", "default": null, "$ref": "#/x"}));
        let constants = json!({"type": ["string", "null"], "enum": ["a", null], "default": "a"});
        assert_eq!(
            made(constants, Presence::Optional),
            json!({"type": "string", "enum": ["a"], "default": "a", "title": "T"})
        );
    }

    #[test]
    fn constants_of_one_type_become_an_enum() {
        let constants = json!([
            {"type": "string", "enum": ["a", "b"]}, {"type": "string", "const": "c", "description": "The third."}]);
        let expected = json!({
            "description": "d", "title": "T", "type": "string", "enum": ["a", "b", "c"],
            "x-enumDescriptions": {"c": "The third."}});
        assert_eq!(made(json!({"description": "d", "oneOf": constants}), Presence::Required), expected);
        let nullable = json!({"anyOf": [{"description": "d", "oneOf": constants}, {"type": "null"}]});
        let mut optional = expected;
        optional["default"] = Value::Null;
        assert_eq!(made(nullable, Presence::Optional), optional);
        let single = json!({"oneOf": [{"type": "string", "const": "a"}]});
        assert_eq!(made(single, Presence::Required), json!({"type": "string", "enum": ["a"], "title": "T"}));
        let mixed = json!({"oneOf": [{"type": "string", "const": "a"}, {"type": "integer", "const": 1}]});
        assert_eq!(made(mixed, Presence::Required)["oneOf"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn arrays_have_items_and_parts_have_titles() {
        let schema = json!({"type": "object", "required": ["a", "b-c", "d"], "properties": {
            "a": {"type": "array"}, "b-c": true, "d": {"type": "object", "additionalProperties": {"type": ["integer", "string"]}}}});
        assert_eq!(
            made(schema, Presence::Required),
            json!({"type": "object", "required": ["a", "b-c", "d"], "title": "T", "properties": {
                "a": {"type": "array", "items": {"title": "TAItem"}, "title": "TA"},
                "b-c": {"title": "TBC"},
                "d": {"type": "object", "title": "TD", "additionalProperties": {"title": "TDValue", "anyOf": [
                    {"type": "integer", "title": "TDValueInteger"}, {"type": "string", "title": "TDValueString"}]}}}})
        );
    }
}
