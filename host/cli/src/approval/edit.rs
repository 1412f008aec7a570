//! Edits a JSON object with the user's editor.

use std::io::Write;

use serde_json::Value;

use super::super::editor;
use ostler_protocol::{ApiError, ErrorKind};

/// Runs the user's editor on a text. Blocks until it has ended. Returns the new text.
///
/// # Errors
/// If there is no editor, or if it fails.
pub(crate) fn run_editor(text: &str) -> Result<String, ApiError> {
    let failed = |error: std::io::Error| ApiError::new(ErrorKind::Io, format!("failed to edit the input: {error}"));
    // Others cannot read it.
    let mut file = tempfile::Builder::new().prefix("ostler-input-").suffix(".json").tempfile().map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.flush()).map_err(failed)?;
    editor::run(file.path(), "nothing was sent")?;
    // An editor may have replaced the file.
    std::fs::read_to_string(file.path()).map_err(failed)
}

/// The object that an edited text means.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err("the input must be a JSON object".to_owned()),
        Err(error) => Err(format!("the input is not valid JSON: {error}")),
    }
}
