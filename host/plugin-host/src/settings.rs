//! Checks settings against the plugin's schema.

use jsonschema::ValidationError;
use serde_json::Value;

use super::types::Problem;
use ostler_protocol::escape_pointer;
use ostler_schema::{BoundedSchema, unexpected_members};

/// A plugin's settings schema, ready to validate.
#[derive(Debug)]
pub(super) struct SettingsSchema {
    /// The schema document of the plugin.
    pub(super) document: Value,
    schema: BoundedSchema,
}

impl SettingsSchema {
    /// Reads a schema (2020-12 unless it says otherwise). It can refer only to itself: nothing is fetched.
    ///
    /// # Errors
    /// If it is too long, not JSON, not a schema, or too expensive to evaluate.
    pub(super) fn new(text: &str, max_size: usize) -> Result<Self, String> {
        if text.len() > max_size {
            return Err(format!("its settings schema is longer than {max_size} bytes"));
        }
        let document: Value =
            serde_json::from_str(text).map_err(|error| format!("its settings schema is not JSON: {error}"))?;
        let schema = BoundedSchema::compile_linear(&document)
            .map_err(|error| format!("its settings schema cannot be used: {error}"))?;
        Ok(Self { document, schema })
    }

    /// The problems of the settings, up to a limit. Values are not repeated, because some are secrets.
    pub(super) fn problems(&self, settings: &Value) -> Vec<Problem> {
        match self.schema.problems(settings, &explain) {
            Ok(problems) => problems
                .into_iter()
                .map(|ostler_protocol::Problem { pointer, message }| Problem { pointer, message })
                .collect(),
            Err(error) => vec![Problem { pointer: error.pointer, message: error.message }],
        }
    }
}

fn explain(error: &ValidationError<'_>) -> Vec<ostler_protocol::Problem> {
    let pointer = error.instance_path().as_str();
    match unexpected_members(error) {
        Some(unexpected) => unexpected
            .iter()
            .map(|name| ostler_protocol::Problem {
                pointer: format!("{pointer}/{}", escape_pointer(name)),
                message: "the plugin has no such setting".to_owned(),
            })
            .collect(),
        None => vec![ostler_protocol::Problem { pointer: pointer.to_owned(), message: error.masked().to_string() }],
    }
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
    fn rejects_unusable_schemas() {
        for (schema, reason) in [
            ("{", "not JSON"),
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
    fn rejects_references_that_double_at_each_level() {
        let mut levels: Vec<String> = (0..31)
            .map(|level| {
                let next = format!("{{\"$ref\": \"#/$defs/d{}\"}}", level + 1);
                format!("\"d{level}\": {{\"allOf\": [{next}, {next}]}}")
            })
            .collect();
        levels.push("\"d31\": {}".to_owned());
        let text = format!("{{\"$defs\": {{{}}}, \"$ref\": \"#/$defs/d0\"}}", levels.join(","));
        let began = std::time::Instant::now();
        let error = SettingsSchema::new(&text, 10_000).unwrap_err();
        assert!(error.contains("expand to more"), "{error}");
        assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    }

    #[test]
    fn accepts_a_recursive_schema() {
        let schema = SettingsSchema::new(
            r##"{"type": "object", "properties": {"children": {"items": {"$ref": "#"}}}}"##,
            10_000,
        )
        .unwrap();
        assert_eq!(schema.problems(&json!({"children": [{"children": [7]}]})).len(), 1);
    }
}
