//! The OpenRPC document: what a client can ask and what it is told, made of the method table and the events' types.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::methods::{COMMON_ERRORS, METHODS, Method};
use super::rpc;
use super::types::PROTOCOL;
use crate::model::{ApiError, ErrorKind, Event, EventType};

/// Version of the OpenRPC specification that the document keeps to.
const OPENRPC: &str = "1.3.2";

/// Where the schemas of named types stand in the document.
const SCHEMAS: &str = "/components/schemas";

/// Made once: it depends on nothing but the program.
static DOCUMENT: LazyLock<Value> = LazyLock::new(make);

/// The document.
pub(crate) fn openrpc() -> &'static Value {
    &DOCUMENT
}

/// Makes schemas that refer to each other inside the document.
pub(crate) fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = SCHEMAS.into()).into_generator()
}

fn make() -> Value {
    let mut generator = generator();
    let mut methods: Vec<Value> = METHODS.iter().map(|method| describe(method, &mut generator)).collect();
    methods.sort_by(|left, right| left["name"].as_str().cmp(&right["name"].as_str()));
    let events: Vec<Value> = EventType::schemas(&mut generator)
        .into_iter()
        .map(|(kind, payload)| json!({"type": kind.name(), "summary": kind.about(), "payload": payload}))
        .collect();
    let envelope = generator.subschema_for::<Event>();
    let error = generator.subschema_for::<ApiError>();
    json!({
        "openrpc": OPENRPC,
        "info": {
            "title": "Ostler",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Runs coding-agent CLIs as queued, supervised, redacted and audited jobs.",
            "x-protocol": PROTOCOL,
        },
        "methods": methods,
        "x-events": {"envelope": envelope, "types": events},
        "x-common-errors": COMMON_ERRORS.iter().map(|kind| error_of(*kind)).collect::<Vec<_>>(),
        "components": {"schemas": definitions(&mut generator), "x-error-data": error},
    })
}

fn definitions(generator: &mut SchemaGenerator) -> Map<String, Value> {
    let mut schemas = generator.take_definitions(true);
    schemas.sort_keys();
    schemas
}

fn describe(method: &Method, generator: &mut SchemaGenerator) -> Value {
    let (params, result) = (method.schemas)(generator);
    let about = method.about.trim();
    let summary = about.split_inclusive(". ").next().unwrap_or(about).trim();
    json!({
        "name": method.name,
        "summary": summary.split('\n').map(str::trim).collect::<Vec<_>>().join(" "),
        "description": about.split('\n').map(str::trim).collect::<Vec<_>>().join(" "),
        "paramStructure": if method.params.is_empty() { "by-name" } else { "either" },
        "params": parameters(method, &params),
        "result": {"name": "result", "schema": result},
        "x-class": method.class,
        "errors": method.errors.iter().map(|kind| error_of(*kind)).collect::<Vec<_>>(),
    })
}

/// The members of a method's parameters, in the order of the table.
fn parameters(method: &Method, schema: &Schema) -> Vec<Value> {
    let members = |name: &str| schema.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
    let properties = members("properties");
    let required: Vec<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let names: Vec<&str> =
        if method.params.is_empty() { properties.keys().map(String::as_str).collect() } else { method.params.to_vec() };
    names
        .into_iter()
        .map(|name| {
            let mut schema = properties.get(name).cloned().unwrap_or(Value::Bool(true));
            let about = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            json!({"name": name, "description": about, "required": required.contains(&name), "schema": schema})
        })
        .collect()
}

fn error_of(kind: ErrorKind) -> Value {
    json!({"code": rpc::code(kind), "message": kind})
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    /// Every `$ref` of the document, wherever it stands.
    fn references<'a>(at: &'a Value, found: &mut Vec<&'a str>) {
        match at {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let mut found = Vec::new();
        references(openrpc(), &mut found);
        assert!(found.len() > 20);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(openrpc().pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn the_start_payload_stands_in_it_field_by_field() {
        let methods = openrpc()["methods"].as_array().unwrap();
        let start = methods.iter().find(|method| method["name"] == "start_run").unwrap();
        let named = |name: &str| start["params"].as_array().unwrap().iter().find(|param| param["name"] == name);
        assert_eq!(named("prompt").unwrap()["required"], true);
        // A profile may supply it.
        assert_eq!(named("provider").unwrap()["required"], false);
        assert_eq!(named("harness").unwrap()["required"], false);
        assert!(named("clientEnvironment").is_some());
    }
}
