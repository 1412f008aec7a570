//! Checks of documents from outside.

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use jsonschema::error::ValidationErrorKind;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use ostler_protocol::{ApiError, Problem, escape_pointer, nearest, strip_nulls, unescape_pointer};

/// Compiled validators by type: the schema of a type never changes, and compiling one costs a millisecond.
static VALIDATORS: LazyLock<Mutex<HashMap<TypeId, Arc<Checked>>>> = LazyLock::new(Mutex::default);

struct Checked {
    schema: Value,
    validator: jsonschema::Validator,
}

fn checked<T: JsonSchema + 'static>() -> Result<Arc<Checked>, ApiError> {
    let mut known = VALIDATORS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = known.get(&TypeId::of::<T>()) {
        return Ok(Arc::clone(found));
    }
    let schema = schemars::schema_for!(T).to_value();
    let validator = jsonschema::options()
        .should_validate_formats(false)
        .build(&schema)
        .map_err(|error| ApiError::internal(format!("the schema of the parameters does not compile: {error}")))?;
    let made = Arc::new(Checked { schema, validator });
    known.insert(TypeId::of::<T>(), Arc::clone(&made));
    Ok(made)
}

/// Reads a document of type `T`; members that are null count as missing.
///
/// # Errors
/// `INVALID_PARAMS` with every problem at once, each with its pointer; for unknown members the nearest known name. The
/// messages do not repeat values of the document, which may be secret.
pub fn validate_document<T>(mut document: Value) -> Result<T, ApiError>
where
    T: DeserializeOwned + JsonSchema + 'static,
{
    strip_nulls(&mut document);
    let checked = checked::<T>()?;
    let mut problems: Vec<Problem> = Vec::new();
    for error in checked.validator.iter_errors(&document) {
        explain(&checked.schema, &document, &error, &mut problems);
    }
    if !problems.is_empty() {
        problems.dedup();
        return Err(ApiError::invalid(problems));
    }
    serde_path_to_error::deserialize(&document).map_err(|error| {
        // Rules beyond the schema, for example for times. Serde's messages contain the value, so only the kind is
        // reported.
        let pointer = pointer_of(error.path());
        let message = error.into_inner().to_string();
        let message = message.split_once(": ").map_or(message.as_str(), |(_, rest)| rest);
        ApiError::invalid(vec![Problem { pointer, message: format!("cannot be read: {message}") }])
    })
}

fn pointer_of(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter().fold(String::new(), |pointer, segment| match segment {
        Segment::Seq { index } => format!("{pointer}/{index}"),
        Segment::Map { key } => format!("{pointer}/{}", escape_pointer(key)),
        // The name of a variant is not a member of the document, and unknown parts have no name.
        Segment::Enum { .. } | Segment::Unknown => pointer,
    })
}

fn explain(schema: &Value, document: &Value, error: &jsonschema::ValidationError<'_>, problems: &mut Vec<Problem>) {
    let pointer = error.instance_path().to_string();
    match error.kind() {
        // If no member is known at all, the validator names none.
        ValidationErrorKind::FalseSchema => {
            let members = document.pointer(&pointer).and_then(Value::as_object);
            problems.extend(members.into_iter().flat_map(|members| members.keys()).map(|name| Problem {
                pointer: format!("{pointer}/{}", escape_pointer(name)),
                message: "unknown field; none is known here".to_owned(),
            }));
        }
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let known = sibling_properties(schema, error);
            problems.extend(unexpected.iter().map(|name| unknown_member(&pointer, name, &known)));
        }
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            let known = sibling_properties(schema, error);
            let given = document.pointer(&pointer).and_then(Value::as_object);
            let mut unknown = given.into_iter().flat_map(|members| members.keys()).filter(|name| !known.contains(name));
            // A member with a misspelled name is one problem, not two.
            if unknown.any(|given| nearest(given, known.iter().map(String::as_str)).is_some_and(|near| near == name)) {
                return;
            }
            problems.push(Problem {
                pointer: format!("{pointer}/{}", escape_pointer(name)),
                message: "is required".to_owned(),
            });
        }
        ValidationErrorKind::Pattern { .. } if matches!(pointer.as_str(), "/prompt" | "/title") => {
            problems.push(Problem { pointer, message: "must not be blank".to_owned() });
        }
        ValidationErrorKind::Minimum { .. } | ValidationErrorKind::Maximum { .. } => {
            let message = bounds(schema, error, ["minimum", "maximum"], "");
            problems.push(Problem { pointer, message });
        }
        ValidationErrorKind::MinLength { .. } | ValidationErrorKind::MaxLength { .. } => {
            let message = bounds(schema, error, ["minLength", "maxLength"], " characters");
            problems.push(Problem { pointer, message });
        }
        ValidationErrorKind::MinItems { .. } | ValidationErrorKind::MaxItems { .. } => {
            let message = bounds(schema, error, ["minItems", "maxItems"], " items");
            problems.push(Problem { pointer, message });
        }
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            // An optional field is 'this or null', and null never gets here: so the other branch applies.
            let branches: Vec<_> = context.iter().filter(|errors| !errors.iter().any(expects_null)).collect();
            match branches.as_slice() {
                [errors] => errors.iter().for_each(|inner| explain(schema, document, inner, problems)),
                _ => problems.push(Problem { pointer, message: allowed_values(schema, error) }),
            }
        }
        ValidationErrorKind::Enum { .. } | ValidationErrorKind::Constant { .. } => {
            problems.push(Problem { pointer, message: allowed_values(schema, error) });
        }
        ValidationErrorKind::Type { .. } => {
            let message = error.masked_with("the value").to_string();
            problems.push(Problem { pointer, message: message.replace("\"null\", ", "") });
        }
        _ => problems.push(Problem { pointer, message: error.masked_with("the value").to_string() }),
    }
}

/// Unknown members of a part of a document of type `T` that are null. A null clears a field, so [`validate_document`]
/// never sees it.
///
/// # Errors
/// If the schema of the type does not compile.
pub fn unknown_nulls<T>(part: &Value) -> Result<Vec<Problem>, ApiError>
where
    T: JsonSchema + 'static,
{
    let checked = checked::<T>()?;
    let mut problems = Vec::new();
    find_unknown_nulls(&checked.schema, &checked.schema, part, "", &mut problems);
    Ok(problems)
}

fn find_unknown_nulls(root: &Value, schema: &Value, part: &Value, pointer: &str, problems: &mut Vec<Problem>) {
    let Value::Object(members) = part else { return };
    let objects = object_schemas(root, schema);
    if objects.is_empty() {
        return;
    }
    let known: Vec<String> = objects
        .iter()
        .filter_map(|object| object.get("properties")?.as_object())
        .flat_map(|properties| properties.keys().cloned())
        .collect();
    let open = objects.iter().any(|object| object.get("additionalProperties") != Some(&Value::Bool(false)));
    for (name, value) in members {
        let inner = objects.iter().find_map(|object| object.get("properties")?.get(name));
        match inner {
            Some(inner) => {
                let at = format!("{pointer}/{}", escape_pointer(name));
                find_unknown_nulls(root, inner, value, &at, problems);
            }
            None if value.is_null() && !open => problems.push(unknown_member(pointer, name, &known)),
            None => {}
        }
    }
}

/// The object schemas of a schema, through references and choices.
fn object_schemas<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    if let Some(target) = schema.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix('#')) {
        return root.pointer(target).map(|schema| object_schemas(root, schema)).unwrap_or_default();
    }
    if let Some(choices) = schema.get("anyOf").and_then(Value::as_array) {
        return choices.iter().flat_map(|choice| object_schemas(root, choice)).collect();
    }
    let is_object = schema.get("properties").is_some() || schema.get("additionalProperties").is_some();
    if is_object { vec![schema] } else { Vec::new() }
}

/// Both ends of the violated range, from the schema.
fn bounds(schema: &Value, error: &jsonschema::ValidationError<'_>, names: [&str; 2], unit: &str) -> String {
    let at = parent_schema(schema, error);
    let limits = names.map(|name| at.and_then(|at| at.get(name)));
    let verb = if unit.is_empty() { "be" } else { "have" };
    match limits {
        [Some(least), Some(most)] => format!("must {verb} from {} to {}{unit}", plain(least), plain(most)),
        [Some(least), None] if least == 1 && !unit.is_empty() => "must not be empty".to_owned(),
        [Some(least), None] => format!("must {verb} at least {}{unit}", plain(least)),
        [None, Some(most)] => format!("must {verb} at most {}{unit}", plain(most)),
        [None, None] => error.masked_with("the value").to_string(),
    }
}

/// A limit as people write it: `0`, not `0.0`.
fn plain(limit: &Value) -> String {
    match limit.as_f64() {
        Some(number) if limit.is_f64() => format!("{number}"),
        _ => limit.to_string(),
    }
}

fn expects_null(error: &jsonschema::ValidationError<'_>) -> bool {
    matches!(error.kind(), ValidationErrorKind::Type { .. }) && error.to_string().ends_with("\"null\"")
}

/// The allowed values of a violated enumeration or choice of types, from the schema: the validator's error shortens long
/// lists.
fn allowed_values(schema: &Value, error: &jsonschema::ValidationError<'_>) -> String {
    let mut values = Vec::new();
    if let Some(at) = parent_schema(schema, error) {
        collect_values(at, &mut values);
    }
    match values.as_slice() {
        [] => "is of none of the allowed types".to_owned(),
        values => format!("must be one of {}", values.join(", ")),
    }
}

/// The constants of a schema: `const`, `enum`, and those of `oneOf`, which variants with documentation use.
fn collect_values(schema: &Value, values: &mut Vec<String>) {
    values.extend(schema.get("const").map(ToString::to_string));
    values.extend(schema.get("enum").and_then(Value::as_array).into_iter().flatten().map(ToString::to_string));
    let choices = ["oneOf", "anyOf"].into_iter().filter_map(|name| schema.get(name)?.as_array());
    choices.flatten().for_each(|choice| collect_values(choice, values));
}

/// The problem of a member that the object at `pointer` cannot have.
fn unknown_member(pointer: &str, name: &str, known: &[String]) -> Problem {
    let message = match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("unknown field; did you mean {near:?}?"),
        None => format!("unknown field; known are {}", known.join(", ")),
    };
    Problem { pointer: format!("{pointer}/{}", escape_pointer(name)), message }
}

/// Names of the properties next to `…/additionalProperties` or `…/required` in the schema.
fn sibling_properties(schema: &Value, error: &jsonschema::ValidationError<'_>) -> Vec<String> {
    parent_schema(schema, error)
        .and_then(|object| object.get("properties"))
        .and_then(Value::as_object)
        .map(|properties| properties.keys().cloned().collect())
        .unwrap_or_default()
}

/// The schema that contains the keyword that a document violates.
fn parent_schema<'a>(schema: &'a Value, error: &jsonschema::ValidationError<'_>) -> Option<&'a Value> {
    let path = error.schema_path().to_string();
    resolve(schema, path.rsplit_once('/').map_or("", |(parent, _)| parent))
}

/// Follows a schema path, `$ref` steps included.
fn resolve<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    let mut at = schema;
    for step in path.split('/').filter(|step| !step.is_empty()) {
        if step == "$ref" {
            let target = at.get("$ref")?.as_str()?.strip_prefix('#')?;
            at = schema.pointer(target)?;
        } else {
            let step = unescape_pointer(step);
            at = match at {
                Value::Array(items) => items.get(step.parse::<usize>().ok()?)?,
                other => other.get(&step)?,
            };
        }
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::json;

    use super::*;
    use ostler_protocol::StartPayload;

    fn problems(document: Value) -> Vec<(String, String)> {
        let error = validate_document::<StartPayload>(document).expect_err("the payload is wrong");
        error.problems.into_iter().map(|problem| (problem.pointer, problem.message)).collect()
    }

    #[test]
    fn nulls_count_as_missing() {
        let payload = validate_document::<StartPayload>(json!({
            "provider": "codex", "prompt": "hi", "model": null,
            "harness": {"limits": {"maxTurns": null}, "structuredOutput": {"schema": {"default": null}}}
        }))
        .unwrap();
        assert_eq!(payload.model, None);
        let schema = payload.harness().structured_output.unwrap().schema;
        assert_eq!(schema, json!({"default": null}));
    }

    #[test]
    fn all_problems_are_reported_at_once_with_pointers() {
        let found = problems(json!({
            "prompt": "  ",
            "timeoutSecond": 7,
            "queuePriority": 11,
            "maxRetries": "two",
            "mode": "batch",
            "harness": {"permissions": {"sandboxmode": "read-only"}, "tools": ["file_read", "cook"], "limits": {"timeoutMs": 1}}
        }));
        let at = |pointer: &str| found.iter().find(|(at, _)| at == pointer).map(|(_, message)| message.as_str());
        assert_eq!(at("/provider"), Some("is required"), "{found:?}");
        assert_eq!(at("/prompt"), Some("must not be blank"), "{found:?}");
        assert_eq!(at("/timeoutSecond"), Some("unknown field; did you mean \"timeoutSeconds\"?"), "{found:?}");
        assert_eq!(at("/queuePriority"), Some("must be from -10 to 10"), "{found:?}");
        assert!(at("/maxRetries").unwrap().contains("integer"), "{found:?}");
        assert!(at("/mode").unwrap().contains("\"non-interactive\", \"interactive\""), "{found:?}");
        assert!(at("/harness/permissions/sandboxmode").unwrap().contains("\"sandboxMode\""), "{found:?}");
        assert!(at("/harness/tools/1").unwrap().contains("\"file_read\""), "{found:?}");
        assert!(at("/harness/limits/timeoutMs").unwrap().contains("5000"), "{found:?}");
        assert_eq!(found.len(), 9, "{found:?}");
    }

    #[test]
    fn misspelled_required_field_is_one_problem() {
        let found = problems(json!({"provider": "codex", "promt": "x"}));
        assert_eq!(found, [("/promt".to_owned(), "unknown field; did you mean \"prompt\"?".to_owned())]);
    }

    #[test]
    fn messages_do_not_repeat_values() {
        let found = problems(json!({"provider": "codex", "prompt": "x", "timeoutSeconds": "hunter2-hunter2"}));
        assert!(!format!("{found:?}").contains("hunter2"), "{found:?}");
    }

    #[test]
    fn both_ends_of_a_range_are_reported() {
        let base = json!({"provider": "codex", "prompt": "x"});
        for (more, pointer, message) in [
            (json!({"timeoutSeconds": 4}), "/timeoutSeconds", "must be from 5 to 604800"),
            (
                json!({"harness": {"limits": {"maxBudgetUsd": -1}}}),
                "/harness/limits/maxBudgetUsd",
                "must be from 0 to 1000000",
            ),
            (json!({"model": ""}), "/model", "must have from 1 to 256 characters"),
            (json!({"title": " "}), "/title", "must not be blank"),
        ] {
            let mut document = base.clone();
            document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            assert_eq!(problems(document), [(pointer.to_owned(), message.to_owned())]);
        }
    }

    #[test]
    fn only_known_fields_can_be_cleared() {
        let part = json!({
            "model": null, "nope": null, "harness": {"limits": {"maxTurns": null, "maxTurn": null}, "processEnv": {"A": null},
            "mcp": {"servers": null}, "structuredOutput": {"schema": {"x": null}}, "tools": null}, "optionalFlags": {"-x": null}
        });
        let mut found = unknown_nulls::<StartPayload>(&part).unwrap();
        found.sort_by(|one, other| one.pointer.cmp(&other.pointer));
        let pointers: Vec<&str> = found.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(pointers, ["/harness/limits/maxTurn", "/nope"]);
        assert!(found[0].message.contains("\"maxTurns\""), "{found:?}");
    }

    #[test]
    fn invalid_time_is_reported() {
        let found = problems(json!({"provider": "codex", "prompt": "x", "scheduledAt": "soon"}));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, "/scheduledAt");
    }

    #[test]
    fn every_member_of_an_empty_type_is_unknown() {
        #[derive(Debug, serde::Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}

        let error = validate_document::<Nothing>(json!({"a": 1, "b/c": 2})).unwrap_err();
        let pointers: Vec<&str> = error.problems.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(pointers, ["/a", "/b~1c"]);
        validate_document::<Nothing>(json!({})).unwrap();
    }
}
