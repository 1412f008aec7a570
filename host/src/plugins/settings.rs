//! Checking settings against the schema that the plugin states.

use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use super::types::Problem;

/// Problems that one check reports. A document with more is wrong as a whole.
const MOST: usize = 50;

/// A plugin's settings schema, ready to validate.
#[derive(Debug)]
pub(super) struct SettingsSchema {
    /// As the plugin states it.
    pub(super) document: Value,
    validator: Validator,
}

impl SettingsSchema {
    /// Reads a schema (2020-12 unless it says otherwise). It can refer only to itself: nothing is fetched.
    ///
    /// # Errors
    /// If it is too long, no JSON, or no schema.
    pub(super) fn new(text: &str, max_size: usize) -> Result<Self, String> {
        if text.len() > max_size {
            return Err(format!("its settings schema is longer than {max_size} bytes"));
        }
        let document: Value =
            serde_json::from_str(text).map_err(|error| format!("its settings schema is no JSON: {error}"))?;
        refuse_endless_references(&document)?;
        let validator = jsonschema::options()
            .with_pattern_options(PatternOptions::regex())
            .offline()
            .build(&document)
            .map_err(|error| {
                format!("its settings schema is not valid at {:?}: {}", error.instance_path().as_str(), error.masked())
            })?;
        Ok(Self { document, validator })
    }

    /// Every problem of the settings. Their values are not repeated: some are secrets.
    pub(super) fn problems(&self, settings: &Value) -> Vec<Problem> {
        let mut problems = Vec::new();
        for error in self.validator.iter_errors(settings).take(MOST) {
            let pointer = error.instance_path().as_str().to_owned();
            match error.kind() {
                ValidationErrorKind::AdditionalProperties { unexpected } => {
                    problems.extend(unexpected.iter().map(|name| Problem {
                        pointer: format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1")),
                        message: "the plugin has no such setting".to_owned(),
                    }));
                }
                _ => problems.push(Problem { pointer, message: error.masked().to_string() }),
            }
        }
        problems.truncate(MOST);
        problems
    }
}

/// Keywords that apply a schema to the same value, so that a circle of them would never end.
const IN_PLACE: [&str; 9] = ["$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "not", "if", "then", "else"];
const IN_PLACE_MAPS: [&str; 2] = ["dependentSchemas", "dependencies"];

/// A schema like `{"$ref": "#"}` would overflow the stack, which no limit on the guest prevents. References to the
/// root or by pointer are followed; a circle that descends into members or items is fine, since documents are finite.
fn refuse_endless_references(document: &Value) -> Result<(), String> {
    let mut done = std::collections::HashSet::new();
    let mut pending = vec![document];
    while let Some(schema) = pending.pop() {
        let mut path = Vec::new();
        follow(document, schema, &mut path, &mut done)?;
        match schema {
            Value::Object(members) => pending.extend(members.values()),
            Value::Array(items) => pending.extend(items),
            _ => {}
        }
    }
    Ok(())
}

fn follow<'a>(
    document: &'a Value,
    schema: &'a Value,
    path: &mut Vec<*const Value>,
    done: &mut std::collections::HashSet<*const Value>,
) -> Result<(), String> {
    let address = std::ptr::from_ref(schema);
    if path.contains(&address) {
        return Err("its settings schema refers to itself without end".to_owned());
    }
    if path.len() > 64 {
        return Err("its settings schema is nested too deeply".to_owned());
    }
    let Value::Object(members) = schema else { return Ok(()) };
    if !done.insert(address) && path.is_empty() {
        return Ok(());
    }
    path.push(address);
    for (keyword, value) in members {
        match (keyword.as_str(), value) {
            ("$ref" | "$dynamicRef" | "$recursiveRef", Value::String(reference)) => {
                let Some(target) = reference.strip_prefix('#').and_then(|pointer| resolve(document, pointer)) else {
                    return Err(format!(
                        "its settings schema refers to {reference:?}; only references like \"#/$defs/name\" are followed"
                    ));
                };
                follow(document, target, path, done)?;
            }
            (keyword, Value::Array(schemas)) if IN_PLACE.contains(&keyword) => {
                for schema in schemas {
                    follow(document, schema, path, done)?;
                }
            }
            (keyword, schema @ Value::Object(_)) if IN_PLACE.contains(&keyword) => {
                follow(document, schema, path, done)?;
            }
            (keyword, Value::Object(schemas)) if IN_PLACE_MAPS.contains(&keyword) => {
                for schema in schemas.values() {
                    follow(document, schema, path, done)?;
                }
            }
            _ => {}
        }
    }
    path.pop();
    Ok(())
}

fn resolve<'a>(document: &'a Value, pointer: &str) -> Option<&'a Value> {
    // Pointers in references are percent-encoded; names that need it are refused as unknown, which is what they get.
    document.pointer(pointer)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::json;

    use super::*;

    #[test]
    fn every_problem_has_its_pointer_and_no_value() {
        let schema = SettingsSchema::new(
            r#"{"type": "object", "additionalProperties": false, "required": ["a"], "properties": {
                "a": {"type": "string", "pattern": "^[a-z]+$"}, "list": {"type": "array", "items": {"type": "integer"}}
            }}"#,
            10_000,
        )
        .unwrap();
        assert_eq!(schema.problems(&json!({"a": "x", "list": [1, 2]})), []);
        let problems = schema.problems(&json!({"a": "S3CRET", "list": [1, "S3CRET"], "b/c": 1, "d": 2}));
        let pointers: Vec<_> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
        for pointer in ["/a", "/list/1", "/b~1c", "/d"] {
            assert!(pointers.contains(&pointer), "{problems:?}");
        }
        assert!(!format!("{problems:?}").contains("S3CRET"), "{problems:?}");
        assert_eq!(schema.problems(&json!({})).len(), 1);
    }

    #[test]
    fn schemas_that_cannot_be_used_are_refused() {
        for (schema, reason) in [
            ("{", "no JSON"),
            (r#"{"type": 7}"#, "not valid"),
            (r##"{"$ref": "#"}"##, "without end"),
            (r##"{"allOf": [{"anyOf": [{"$ref": "#"}]}]}"##, "without end"),
            (
                r##"{"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"not": {"$ref": "#/$defs/a"}}}, "properties": {"x": {"$ref": "#/$defs/a"}}}"##,
                "without end",
            ),
            (r#"{"$ref": "http://example.com/schema"}"#, "refers to"),
            (r#"{"properties": {"x": {"$ref": "file:///etc/passwd"}}}"#, "refers to"),
            (r#"{"properties": {"x": {"pattern": "(a)\\1"}}}"#, ""),
        ] {
            let error = SettingsSchema::new(schema, 10_000).err().unwrap_or_else(|| panic!("accepted {schema}"));
            assert!(error.contains(reason), "{schema}: {error}");
        }
        assert!(SettingsSchema::new("{}", 1).is_err());
    }

    #[test]
    fn a_schema_of_a_tree_is_fine() {
        let schema = SettingsSchema::new(
            r##"{"type": "object", "properties": {"children": {"items": {"$ref": "#"}}}}"##,
            10_000,
        )
        .unwrap();
        assert_eq!(schema.problems(&json!({"children": [{"children": [7]}]})).len(), 1);
    }
}
