#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use serde_json::json;

use super::*;

/// Far more than these tests take, far less than the rejected schemas would.
const QUICK: Duration = Duration::from_secs(20);

fn explain(error: &ValidationError<'_>) -> Vec<Problem> {
    vec![Problem { pointer: error.instance_path().to_string(), message: error.to_string() }]
}

#[track_caller]
fn refused(schema: &Value, reason: &str) {
    let began = Instant::now();
    let error = BoundedSchema::compile(schema).err().unwrap_or_else(|| panic!("accepted {schema}"));
    assert!(error.to_string().contains(reason), "{error}");
    assert!(began.elapsed() < QUICK, "{:?} for {error}", began.elapsed());
}

/// Each level refers twice to the next.
fn doubled(levels: usize) -> Value {
    let mut definitions = Map::new();
    for level in 0..levels {
        let next = json!({"$ref": format!("#/$defs/d{}", level + 1)});
        definitions.insert(format!("d{level}"), json!({"allOf": [next, next]}));
    }
    definitions.insert(format!("d{levels}"), json!({"type": "object"}));
    json!({"$defs": definitions, "$ref": "#/$defs/d0"})
}

#[test]
fn refuses_references_that_double_at_each_level() {
    refused(&doubled(40), "more than 64 schemas");
    refused(&doubled(31), "expand to more than");
    assert!(BoundedSchema::compile(&doubled(8)).is_ok());
}

#[test]
fn refuses_many_large_patterns_with_little_memory_and_time() {
    let pattern = |number: usize| format!("^(\\w{{30}}|\\W{{30}}){{10}}x{number}$");
    let different: Map<String, Value> =
        (0..3000).map(|number| (format!("p{number}"), json!({"type": "string", "pattern": pattern(number)}))).collect();
    refused(&json!({"type": "object", "properties": different}), "different patterns");
    let same: Map<String, Value> =
        (0..3000).map(|number| (format!("p{number}"), json!({"pattern": "(\\w{300}|\\W{300}){100}"}))).collect();
    refused(&json!({"properties": same}), "smaller repetitions");
    let hundred: Map<String, Value> =
        (0..100).map(|number| (format!("p{number}"), json!({"pattern": format!("\\W{{900}}{number}")}))).collect();
    refused(&json!({"properties": hundred}), "smaller repetitions");
    refused(&json!({"pattern": "x".repeat(5000)}), "longer than 4096 bytes");
    refused(&json!({"patternProperties": {"(\\W{500}){500}": true}}), "smaller repetitions");
}

#[test]
fn refuses_too_large_or_endless_schemas() {
    refused(&json!({"description": "x".repeat(300 << 10)}), "longer than 256 KiB");
    let deep = (0..101).fold(json!({}), |inner, _| json!({"not": inner}));
    refused(&deep, "levels deep");
    let many: Vec<Value> = (0..5000).map(|_| json!({})).collect();
    refused(&json!({"prefixItems": many}), "more than 4096 schemas");
    let references: Vec<Value> = (0..2000).map(|_| json!({"$ref": "#/$defs/a"})).collect();
    refused(&json!({"$defs": {"a": {}}, "prefixItems": references}), "more than 1024 references");
    refused(&json!({"$ref": "#"}), "without end");
    refused(
        &json!({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {}]}}, "items": {"$ref": "#/$defs/a"}}),
        "without end",
    );
    let chain: Map<String, Value> =
        (0..80).map(|level| (format!("c{level}"), json!({"$ref": format!("#/$defs/c{}", level + 1)}))).collect();
    let mut chain = json!({"$defs": chain, "$ref": "#/$defs/c0"});
    chain["$defs"]["c80"] = json!({});
    refused(&chain, "through more than 64");
}

#[test]
fn refuses_references_that_lead_out_of_the_schema() {
    for reference in ["http://127.0.0.1:1/x", "file:///etc/passwd", "other.json", "#/nowhere", "#nowhere"] {
        refused(&json!({"properties": {"a": {"$ref": reference}}}), "only references inside");
    }
    refused(&json!({"properties": {"a": {"$id": "http://example.com/a", "$ref": "#"}}}), "must not have");
}

#[test]
fn refuses_invalid_schemas() {
    refused(&json!({"type": "wrong"}), "is not valid");
    refused(&json!({"pattern": "("}), "/pattern");
}

#[test]
fn accepts_ordinary_schemas_and_reports_problems_with_pointers() {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": {"name": {"type": "string", "pattern": "^\\p{L}{1,40}$"}, "node": {
            "type": "object", "properties": {"name": {"$ref": "#/$defs/name"}, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}}
        }},
        "$ref": "#/$defs/node"
    });
    let schema = BoundedSchema::compile(&schema).unwrap();
    let good = json!({"name": "Ä", "children": [{"name": "b", "children": []}]});
    assert_eq!(schema.problems(&good, &explain).unwrap(), []);
    let bad = json!({"name": "Ä", "children": [{"name": "1"}, {"children": [{"name": 7}]}]});
    let problems = schema.problems(&bad, &explain).unwrap();
    let pointers: Vec<_> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
    assert_eq!(pointers, ["/children/0/name", "/children/1/children/0/name"]);
}

#[test]
fn accepts_patterns_with_look_around() {
    // The pattern of zod for an email address.
    let schema = json!({"type": "string", "pattern": "^(?!\\.)(?!.*\\.\\.)([A-Za-z0-9_'+\\-\\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\\-]*\\.)+[A-Za-z]{2,}$"});
    let schema = BoundedSchema::compile(&schema).unwrap();
    assert_eq!(schema.problems(&json!("a.b@example.com"), &explain).unwrap(), []);
    assert_eq!(schema.problems(&json!("a..b@example.com"), &explain).unwrap().len(), 1);
}

#[test]
fn accepts_anchors_and_dynamic_references() {
    let schema = json!({"$dynamicAnchor": "node", "type": "object",
        "properties": {"a": {"$ref": "#leaf"}, "b": {"$dynamicRef": "#node"}}, "$defs": {"leaf": {"$anchor": "leaf", "type": "integer"}}});
    let schema = BoundedSchema::compile(&schema).unwrap();
    assert_eq!(schema.problems(&json!({"a": "x", "b": {"a": 1, "b": 2}}), &explain).unwrap().len(), 2);
}

#[test]
fn refuses_checks_whose_work_doubles_with_the_depth_of_the_document() {
    let twice = json!({"properties": {"c": {"$ref": "#"}}});
    let schema = BoundedSchema::compile(&json!({"allOf": [twice, twice]})).unwrap();
    let document = (0..60).fold(json!({}), |inner, _| json!({"c": inner}));
    let began = Instant::now();
    let error = schema.problems(&document, &explain).unwrap_err();
    assert!(error.to_string().contains("more work"), "{error}");
    assert!(began.elapsed() < QUICK);
    let shallow = (0..5).fold(json!({}), |inner, _| json!({"c": inner}));
    assert_eq!(schema.problems(&shallow, &explain).unwrap(), []);
}

#[test]
fn checks_long_documents_quickly() {
    let schema = json!({"type": "array", "items": {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}, "b": {"type": "string", "pattern": "^[a-z]+$"}}}});
    let schema = BoundedSchema::compile(&schema).unwrap();
    let items: Vec<Value> = (0..20_000).map(|number| json!({"a": number, "b": "abc"})).collect();
    assert_eq!(schema.problems(&Value::Array(items), &explain).unwrap(), []);
    let wrong: Vec<Value> = (0..20_000).map(|_| json!({"b": "ABC"})).collect();
    assert_eq!(schema.problems(&Value::Array(wrong), &explain).unwrap().len(), 50);
}

#[test]
fn long_paths_through_definitions_do_not_overflow_the_stack() {
    let steps: Map<String, Value> = (0..1000)
        .map(|step| {
            (format!("s{step}"), json!({"properties": {"n": {"$ref": format!("#/$defs/s{}", (step + 1) % 1000)}}}))
        })
        .collect();
    let schema = BoundedSchema::compile(&json!({"$defs": steps, "$ref": "#/$defs/s0"})).unwrap();
    let document = (0..100).fold(json!({}), |inner, _| json!({"n": inner}));
    assert_eq!(schema.problems(&document, &explain).unwrap(), []);
}
