//! Schemas in a form that code generators understand.
//!
//! What schemars writes is valid JSON Schema, and generators stumble over parts of it: `"type": ["string", "null"]`, arrays
//! without `items`, schemas without a name. Here, each schema gets a `title` that is unique in the document and says where it
//! is, optional members lose their `null` (they are left out instead), and what may be of several types becomes `anyOf`.

use serde_json::{Map, Value, json};

/// What a schema describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// It is always there: null is a value.
    Required,
    /// It may be left out: so it is where there is no value.
    Optional,
}

/// Puts a schema into that form. `title` names it; the titles of its parts begin with it.
pub(super) fn portable(schema: &mut Value, title: &str, presence: Presence) {
    if *schema == Value::Bool(true) {
        *schema = json!({});
    }
    let Some(members) = schema.as_object_mut() else { return };
    name_types(members, presence);
    choose(members, title, presence);
    let Some(members) = schema.as_object_mut() else { return };
    if members.get("default") == Some(&Value::Null) {
        members.remove("default");
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
    // Beside a reference, older drafts ignore everything.
    if !members.contains_key("$ref") {
        members.insert("title".to_owned(), title.into());
    }
}

/// One type in `type`, or one in each choice of `anyOf`.
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

/// The choices of a schema, without null where a value may be left out; a single one takes the place of the choice.
fn choose(members: &mut Map<String, Value>, title: &str, presence: Presence) {
    for name in ["anyOf", "oneOf", "allOf"] {
        let Some(Value::Array(choices)) = members.get_mut(name) else { continue };
        if presence == Presence::Optional {
            choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
        }
        if let [Value::Object(only)] = choices.as_slice() {
            let mut only = only.clone();
            members.remove(name);
            if only.contains_key("$ref") {
                members.retain(|name, _| name == "description");
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

/// What tells a choice from the others.
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

/// `get_run`, `runId`, `read-only` as names of types.
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
            json!({"type": "string", "description": "d", "title": "T"})
        );
        assert_eq!(
            made(nullable, Presence::Required),
            json!({"description": "d", "anyOf": [{"type": "string", "title": "TString"}, {"type": "null", "title": "TNull"}],
                "title": "T"})
        );
        let reference = json!({"anyOf": [{"$ref": "#/x"}, {"type": "null"}], "description": "d", "default": null});
        assert_eq!(made(reference, Presence::Optional), json!({"description": "d", "$ref": "#/x"}));
        let constants = json!({"type": ["string", "null"], "enum": ["a", null]});
        assert_eq!(made(constants, Presence::Optional), json!({"type": "string", "enum": ["a"], "title": "T"}));
    }

    #[test]
    fn arrays_have_items_and_parts_have_titles() {
        let schema = json!({"type": "object", "required": ["a"], "properties": {
            "a": {"type": "array"}, "b-c": true, "d": {"type": "object", "additionalProperties": {"type": ["integer", "string"]}}}});
        assert_eq!(
            made(schema, Presence::Required),
            json!({"type": "object", "required": ["a"], "title": "T", "properties": {
                "a": {"type": "array", "items": {"title": "TAItem"}, "title": "TA"},
                "b-c": {"title": "TBC"},
                "d": {"type": "object", "title": "TD", "additionalProperties": {"title": "TDValue", "anyOf": [
                    {"type": "integer", "title": "TDValueInteger"}, {"type": "string", "title": "TDValueString"}]}}}})
        );
    }
}
