//! Generates `docs/api.md` from the OpenRPC document. A test checks that the file is up to date.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;

use serde_json::Value;

use super::document::openrpc;
use super::portable::ENUM_DESCRIPTIONS;

/// If this variable is set, the test writes the page instead of comparing it.
const UPDATE: &str = "OSTLER_UPDATE_DOCS";

const HEAD: &str = "# API

<!-- Generated from the method table and the types; `OSTLER_UPDATE_DOCS=1 cargo test -p ostler-server reference` writes it. -->

JSON-RPC 2.0. Parameters are passed by name, or as an array in the order of the tables below, with null for parameters that are
left out. The method `rpc.discover` (class `read`, no parameters) returns the same as an OpenRPC document, with all schemas. See
[clients.md](clients.md) for how to connect.

Each method requires a class: `read`, `run` or `operate`. Each class includes the ones before it.
[clients.md](clients.md) lists the classes of clients.

Malformed calls have the standard JSON-RPC error codes; errors of the host have their own codes. In both cases `data` is an object
with `kind` and `message`, and optionally `hint`, `retryable`, `pointer`, `problems` and `findings`.
";

fn page() -> String {
    let document = openrpc();
    let mut out = HEAD.to_owned();
    let common: Vec<String> = list(document, "x-common-errors").iter().map(error).collect();
    writeln!(out, "Any method may answer {}.\n", common.join(", ")).unwrap();
    out.push_str("## Methods\n");
    for method in list(document, "methods") {
        writeln!(out, "\n### {}\n\n{}\n", text(method, "name"), text(method, "description")).unwrap();
        let params = list(method, "params");
        if !params.is_empty() {
            out.push_str("| parameter | type | |\n|---|---|---|\n");
            for param in params {
                let required = if param["required"] == true { "required. " } else { "" };
                let about = format!("{required}{}", text(param, "description"));
                writeln!(out, "| `{}` | {} | {} |", text(param, "name"), kind(&param["schema"]), cell(&about)).unwrap();
            }
            out.push('\n');
        }
        writeln!(out, "Result: {}\n", kind(&method["result"]["schema"])).unwrap();
        writeln!(out, "Class: `{}`", text(method, "x-class")).unwrap();
        let errors: Vec<String> = list(method, "errors").iter().map(error).collect();
        if !errors.is_empty() {
            writeln!(out, "\nErrors: {}", errors.join(", ")).unwrap();
        }
    }
    out.push_str("\n## Events\n\n");
    writeln!(out, "Each comes in the envelope {}.\n", kind(&document["x-events"]["envelope"])).unwrap();
    out.push_str("| event | payload | |\n|---|---|---|\n");
    for event in list(&document["x-events"], "types") {
        let (name, about) = (text(event, "type"), text(event, "summary"));
        writeln!(out, "| `{name}` | {} | {about} |", kind(&event["payload"])).unwrap();
    }
    out.push_str("\n## Types\n");
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        writeln!(out, "\n### {name}\n").unwrap();
        describe(&mut out, schema);
    }
    out
}

fn describe(out: &mut String, schema: &Value) {
    if let Some(about) = schema["description"].as_str() {
        writeln!(out, "{}\n", about.replace('\n', " ")).unwrap();
    }
    let required = list(schema, "required");
    if let Some(properties) = schema["properties"].as_object() {
        out.push_str("| member | type | |\n|---|---|---|\n");
        for (name, property) in properties {
            let always = if required.iter().any(|one| one == name) { "" } else { "optional. " };
            let about = format!("{always}{}", text(property, "description"));
            writeln!(out, "| `{name}` | {} | {} |", kind(property), cell(&about)).unwrap();
        }
        for (name, property) in properties {
            describe_open_names(out, name, property);
        }
        return;
    }
    if let Some(descriptions) = schema[ENUM_DESCRIPTIONS].as_object() {
        for value in list(schema, "enum") {
            let about = value.as_str().and_then(|value| descriptions.get(value)?.as_str());
            let about = about.map_or(String::new(), |about| format!(": {}", about.replace('\n', " ")));
            writeln!(out, "- `{value}`{about}").unwrap();
        }
        return;
    }
    let choices = [list(schema, "oneOf"), list(schema, "anyOf")].concat();
    if choices.is_empty() {
        writeln!(out, "{}", kind(schema)).unwrap();
    }
    for choice in choices {
        let about = text(&choice, "description").replace('\n', " ");
        let about = if about.is_empty() { String::new() } else { format!(": {about}") };
        writeln!(out, "- {}{about}", kind(&choice)).unwrap();
    }
}

/// The known values of a member to which later versions may add values.
fn describe_open_names(out: &mut String, member: &str, schema: &Value) {
    let Some(names) = schema["examples"].as_array().filter(|_| schema["type"] == "string") else { return };
    writeln!(out, "\nValues of `{member}`; later versions may add others:\n").unwrap();
    for name in names.iter().filter_map(Value::as_str) {
        let about = schema[ENUM_DESCRIPTIONS][name].as_str().map(|about| format!(": {about}")).unwrap_or_default();
        writeln!(out, "- `{name}`{}", about.replace('\n', " ")).unwrap();
    }
}

/// A short description of the type of a schema.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(value) = schema.get("const") {
        return format!("`{value}`");
    }
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
        return values.join(", ");
    }
    for choice in ["anyOf", "oneOf", "allOf"] {
        if let Some(choices) = schema[choice].as_array() {
            let kinds: Vec<String> = choices.iter().filter(|choice| choice["type"] != "null").map(kind).collect();
            return kinds.join(" or ");
        }
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).filter(|one| *one != "null").collect(),
        _ => return "any JSON".to_owned(),
    };
    let plain = types.join(" or ");
    let bounds = match (schema.get("minimum"), schema.get("maximum")) {
        (Some(least), Some(most)) => format!(" {least}..={most}"),
        (Some(least), None) if least != 0 => format!(" from {least}"),
        (None, Some(most)) => format!(" up to {most}"),
        _ => String::new(),
    };
    match plain.as_str() {
        "array" => format!("array of {}", kind(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("object of {}", kind(&schema["additionalProperties"]))
        }
        _ => format!("{plain}{bounds}"),
    }
}

fn error(error: &Value) -> String {
    format!("`{}` ({})", text(error, "message"), error["code"])
}

fn list<'a>(at: &'a Value, name: &str) -> &'a [Value] {
    at[name].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(at: &'a Value, name: &str) -> &'a str {
    at[name].as_str().unwrap_or_default()
}

fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|").trim().to_owned()
}

#[test]
fn api_page_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/api.md");
    let page = page();
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == page, "docs/api.md is not up to date; {UPDATE}=1 writes it again");
}
