//! The OpenRPC document: methods and events, generated from the method table and the types of the events.
//!
//! Code generators build clients from it. [`portable`] converts the schemas to the form that they support.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema as _, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::methods::{COMMON_ERRORS, METHODS, Method};
use super::portable::{Presence, pascal, portable};
use super::rpc;
use super::settings_schema::add_sections;
use ostler_protocol::methods::{MethodDescriptor, PROTOCOL, Settings};
use ostler_protocol::{ApiError, ErrorKind, Event, EventType};

/// Version of the OpenRPC specification. The document needs nothing newer, and this is the newest version that the
/// types of the generated TypeScript client allow.
const OPENRPC: &str = "1.2.6";

/// Path of the schemas of named types in the document.
const SCHEMAS: &str = "/components/schemas";

/// Example calls with their results, by method.
const EXAMPLES: &str = include_str!("examples.json");

/// Built once, because it depends only on the program.
static DOCUMENT: LazyLock<Value> = LazyLock::new(make);

/// The document.
pub(crate) fn openrpc() -> &'static Value {
    &DOCUMENT
}

/// A generator whose schemas refer to each other within the document.
pub(crate) fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = SCHEMAS.into()).into_generator()
}

/// The methods that the document lists. Names that begin with `rpc.` are reserved by JSON-RPC, and are not valid names
/// of the functions that generators create: every OpenRPC client knows `rpc.discover`.
fn listed() -> impl Iterator<Item = &'static Method> {
    METHODS.iter().filter(|method| !method.name.starts_with("rpc."))
}

fn make() -> Value {
    let mut generator = generator();
    let mut methods: Vec<Value> = listed().map(|method| describe(method, &mut generator)).collect();
    methods.sort_by(|left, right| left["name"].as_str().cmp(&right["name"].as_str()));
    let events: Vec<Value> = EventType::schemas(&mut generator)
        .into_iter()
        .map(|(kind, payload)| {
            let mut payload = payload.to_value();
            portable(&mut payload, &format!("{}Payload", pascal(kind.name())), Presence::Required);
            json!({"type": kind.name(), "summary": kind.about(), "payload": payload})
        })
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
        "servers": [{
            "name": "host",
            "url": "http://localhost/rpc",
            "summary": "HTTP over the unix socket",
            "description": "`ostler status` names the socket and, with `[http] listen`, the URL for TCP, where each request \
                needs `Authorization: Bearer TOKEN`. See docs/clients.md.",
        }],
        "methods": methods,
        "x-events": {"envelope": envelope, "types": events},
        "x-common-errors": COMMON_ERRORS.iter().map(|kind| error_of(*kind)).collect::<Vec<_>>(),
        "components": {"schemas": definitions(&mut generator), "x-error-data": error},
    })
}

fn definitions(generator: &mut SchemaGenerator) -> Map<String, Value> {
    let mut schemas = generator.take_definitions(true);
    schemas.sort_keys();
    if let Some(settings) = schemas.get_mut(Settings::schema_name().as_ref())
        && let Ok(settings) = settings.try_into()
    {
        add_sections(settings);
    }
    for (name, schema) in &mut schemas {
        portable(schema, name, Presence::Required);
    }
    schemas
}

fn describe(method: &Method, generator: &mut SchemaGenerator) -> Value {
    let (params, result) = (method.schemas)(generator);
    let title = pascal(method.name);
    let (result_name, mut result) = (format!("{title}Result"), result.to_value());
    portable(&mut result, &result_name, Presence::Required);
    let about = method.about.trim();
    let summary = about.split_inclusive(". ").next().unwrap_or(about).trim();
    let mut described = json!({
        "name": method.name,
        "summary": summary.split('\n').map(str::trim).collect::<Vec<_>>().join(" "),
        "description": about.split('\n').map(str::trim).collect::<Vec<_>>().join(" "),
        "paramStructure": "either",
        "params": parameters(method, &params),
        "result": {"name": result_name, "schema": result},
        "x-class": method.class,
        "x-idempotent": MethodDescriptor::of(method.name).is_some_and(|method| method.idempotent),
        "errors": method.errors.iter().map(|kind| error_of(*kind)).collect::<Vec<_>>(),
    });
    if let Some(examples) = examples(method, &result_name) {
        described["examples"] = examples;
    }
    described
}

/// The examples of a method in the form of the document.
fn examples(method: &Method, result_name: &str) -> Option<Value> {
    let mut all: Map<String, Value> = serde_json::from_str(EXAMPLES).ok()?;
    let Value::Array(mut examples) = all.remove(method.name)? else { return None };
    for example in &mut examples {
        let params = example["params"].as_object().cloned().unwrap_or_default();
        let named: Vec<Value> = params.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        example["params"] = named.into();
        let value = example["result"].take();
        example["result"] = json!({"name": result_name, "value": value});
    }
    Some(examples.into())
}

/// The parameters of a method, in the order of the table. Required ones come first, as the specification requires.
fn parameters(method: &Method, schema: &Schema) -> Vec<Value> {
    let members = |name: &str| schema.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
    let properties = members("properties");
    let required: Vec<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let title = pascal(method.name);
    method
        .params
        .iter()
        .map(|name| {
            let mut schema = properties.get(*name).cloned().unwrap_or(Value::Bool(true));
            let presence = if required.contains(name) { Presence::Required } else { Presence::Optional };
            portable(&mut schema, &format!("{title}{}", pascal(name)), presence);
            let about = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            let mut parameter = json!({"name": name, "required": presence == Presence::Required, "schema": schema});
            if let Some(about) = about {
                parameter["description"] = about;
            }
            parameter
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

    /// Every `$ref` of the document.
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

    /// Every schema of the document with its location.
    fn schemas() -> Vec<(String, &'static Value)> {
        fn walk(at: &str, schema: &'static Value, found: &mut Vec<(String, &'static Value)>) {
            found.push((at.to_owned(), schema));
            for name in ["items", "additionalProperties"] {
                if let Some(part @ Value::Object(_)) = schema.get(name) {
                    walk(&format!("{at}/{name}"), part, found);
                }
            }
            for (name, part) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
                walk(&format!("{at}/{name}"), part, found);
            }
            for name in ["anyOf", "oneOf", "allOf"] {
                for (index, part) in schema.get(name).and_then(Value::as_array).into_iter().flatten().enumerate() {
                    walk(&format!("{at}/{name}/{index}"), part, found);
                }
            }
        }
        let mut found = Vec::new();
        for (name, schema) in openrpc()["components"]["schemas"].as_object().unwrap() {
            walk(name, schema, &mut found);
        }
        for method in openrpc()["methods"].as_array().unwrap() {
            for parameter in method["params"].as_array().unwrap() {
                walk(&format!("{} {}", method["name"], parameter["name"]), &parameter["schema"], &mut found);
            }
            walk(&format!("{} result", method["name"]), &method["result"]["schema"], &mut found);
        }
        for event in openrpc()["x-events"]["types"].as_array().unwrap() {
            walk(&event["type"].to_string(), &event["payload"], &mut found);
        }
        found
    }

    #[test]
    fn schemas_use_only_what_generators_support() {
        let mut titles = std::collections::BTreeMap::new();
        for (at, schema) in schemas() {
            assert!(schema.is_object(), "{at}: {schema}");
            for name in ["anyOf", "oneOf"] {
                let choices = schema[name].as_array().map_or(&[][..], Vec::as_slice);
                let constant = |choice: &Value| choice.get("const").or_else(|| choice.get("enum")).is_some();
                assert!(choices.is_empty() || !choices.iter().all(constant), "{at}: constants in {name}: {schema}");
            }
            let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
            for (name, member) in schema["properties"].as_object().into_iter().flatten() {
                let optional = !required.iter().any(|required| required == name);
                assert!(!optional || member.get("default").is_some(), "{at}/{name}: optional without a default");
            }
            assert!(!schema["type"].is_array(), "{at}: several types: {schema}");
            assert!(schema["type"] != "array" || schema.get("items").is_some(), "{at}: no items: {schema}");
            if schema.get("$ref").is_some() {
                continue;
            }
            let title = schema["title"].as_str().unwrap_or_else(|| panic!("{at}: no title: {schema}"));
            assert!(title.chars().all(|character| character.is_ascii_alphanumeric()), "{at}: {title}");
            if let Some(other) = titles.insert(title, (at.clone(), schema)) {
                assert!(other.1 == schema, "{at} and {} have the title {title}", other.0);
            }
        }
        // TypeScript clients have a type for each function, besides the types of its parameters and its result.
        for method in METHODS {
            assert!(
                !titles.contains_key(pascal(method.name).as_str()),
                "{} is a method and a type",
                pascal(method.name)
            );
        }
        assert!(titles.len() > 300, "{}", titles.len());
        for name in ["ConversationSummaryPage", "RunSummaryPage"] {
            assert!(titles.contains_key(name), "{name}");
        }
    }

    /// Generators create a class for each component, but support only these two kinds.
    #[test]
    fn every_component_is_an_enum_or_an_object_with_members() {
        for (name, schema) in openrpc()["components"]["schemas"].as_object().unwrap() {
            let members = schema["properties"].as_object().is_some_and(|members| !members.is_empty());
            assert!(members || schema["enum"].is_array(), "{name}: {schema}");
            assert_eq!(*name, pascal(name), "{name} is not the name of a class");
        }
    }

    #[test]
    fn document_lists_parameters_in_positional_order() {
        let methods = openrpc()["methods"].as_array().unwrap();
        assert_eq!(methods.len(), METHODS.len() - 1, "only rpc.discover is not listed");
        for described in methods {
            let method = super::super::methods::find(described["name"].as_str().unwrap()).unwrap();
            assert_eq!(described["paramStructure"], "either", "{}", method.name);
            let identifier = method.name.chars().all(|character| character.is_ascii_lowercase() || character == '_');
            assert!(identifier, "{} is not the name of a function", method.name);
            let names: Vec<&str> =
                described["params"].as_array().unwrap().iter().map(|param| param["name"].as_str().unwrap()).collect();
            assert_eq!(names, method.params, "{}", method.name);
        }
    }

    #[test]
    fn parameters_are_valid_for_generated_functions() {
        const KEYWORDS: &[&str] = &[
            "as", "async", "await", "class", "default", "def", "enum", "fn", "for", "from", "function", "global", "if",
            "import", "in", "is", "lambda", "match", "new", "pass", "raise", "return", "self", "super", "this", "try",
            "type", "var", "while", "with", "yield",
        ];
        for method in openrpc()["methods"].as_array().unwrap() {
            let params = method["params"].as_array().unwrap();
            let required: Vec<bool> = params.iter().map(|param| param["required"] == true).collect();
            assert!(required.is_sorted_by_key(|required| !required), "{}: an optional one is first", method["name"]);
            for param in params {
                let name = param["name"].as_str().unwrap();
                assert!(!KEYWORDS.contains(&name), "{}: {name} is a keyword", method["name"]);
            }
        }
    }

    #[test]
    fn examples_match_the_schemas() {
        let check = |schema: &Value, value: &Value, at: &str| {
            let whole = json!({"components": openrpc()["components"], "allOf": [schema]});
            let validator = jsonschema::draft202012::new(&whole).unwrap();
            let wrong: Vec<String> = validator.iter_errors(value).map(|error| error.to_string()).collect();
            assert!(wrong.is_empty(), "{at}: {wrong:?}");
        };
        let mut examples: Map<String, Value> = serde_json::from_str(EXAMPLES).unwrap();
        for method in openrpc()["methods"].as_array().unwrap() {
            let name = method["name"].as_str().unwrap();
            let count = examples.remove(name).map_or(0, |examples| examples.as_array().unwrap().len());
            let described = method["examples"].as_array().map_or(&[][..], Vec::as_slice);
            assert_eq!(described.len(), count, "{name}");
            let params = method["params"].as_array().unwrap();
            for example in described {
                let args = example["params"].as_array().unwrap();
                for value in args {
                    let param = params.iter().find(|param| param["name"] == value["name"]);
                    let param = param.unwrap_or_else(|| panic!("{name} has no parameter {}", value["name"]));
                    check(&param["schema"], &value["value"], &format!("{name} {}", value["name"]));
                }
                for param in params.iter().filter(|param| param["required"] == true) {
                    assert!(args.iter().any(|value| value["name"] == param["name"]), "{name} lacks {}", param["name"]);
                }
                check(&method["result"]["schema"], &example["result"]["value"], name);
            }
        }
        assert!(examples.is_empty(), "there is no such method: {:?}", examples.keys());
    }

    #[test]
    fn references_resolve() {
        let mut found = Vec::new();
        references(openrpc(), &mut found);
        assert!(found.len() > 20);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(openrpc().pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn start_run_lists_the_fields_of_the_payload() {
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
