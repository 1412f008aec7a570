//! The parameters of a request in addition to the start payload.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::attempt::environment::unusable;
use ostler_protocol::{ApiError, Problem, RunMode, StartPayload};
use ostler_schema::validate_document;

/// The member of the parameters that holds the caller's variables.
const VARIABLES: &str = "clientEnvironment";

/// Removes the caller's variables from the parameters of a request that starts a run, and returns them.
///
/// # Errors
/// `INVALID_PARAMS` with every problem.
pub(crate) fn take_variables(params: &mut Value) -> Result<Option<BTreeMap<String, String>>, ApiError> {
    let Some(variables) = take(params, VARIABLES) else { return Ok(None) };
    let at = format!("/{VARIABLES}");
    let Ok(variables) = serde_json::from_value::<BTreeMap<String, String>>(variables) else {
        let message = "must be an object with a string for each variable".to_owned();
        return Err(ApiError::invalid(vec![Problem { pointer: at, message }]));
    };
    let wrong = unusable(&at, &variables);
    if wrong.is_empty() { Ok(Some(variables)) } else { Err(ApiError::invalid(wrong)) }
}

/// Validates a start payload. A session needs no prompt: it then waits for input.
///
/// # Errors
/// `INVALID_PARAMS` with every problem.
pub(crate) fn validate(mut params: Value) -> Result<StartPayload, ApiError> {
    let is_session = params.get("mode") == Some(&json!(RunMode::Interactive));
    let has_prompt = params.get("prompt").is_some_and(|prompt| !prompt.is_null() && prompt != "");
    let waits_for_input = is_session && !has_prompt;
    if let Some(members) = params.as_object_mut().filter(|_| waits_for_input) {
        // The schema requires one.
        members.insert("prompt".to_owned(), "none".into());
    }
    let mut payload = validate_document::<StartPayload>(params)?;
    if waits_for_input {
        payload.prompt.clear();
    }
    Ok(payload)
}

/// Removes a member of an object and returns it; null counts as missing.
pub(crate) fn take(params: &mut Value, name: &str) -> Option<Value> {
    params.as_object_mut()?.shift_remove(name).filter(|value| !value.is_null())
}

/// Removes an id from the parameters and returns it.
///
/// # Errors
/// The problem of its field.
pub(crate) fn take_id<T: std::str::FromStr>(params: &mut Value, name: &str) -> Result<T, Problem> {
    let message = match take(params, name) {
        None => "is required".to_owned(),
        Some(Value::String(text)) => match text.parse() {
            Ok(id) => return Ok(id),
            Err(_) => "is not a valid id".to_owned(),
        },
        Some(_) => "must be a string".to_owned(),
    };
    Err(Problem { pointer: format!("/{name}"), message })
}
