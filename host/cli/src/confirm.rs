//! Confirmation before an action that cannot be undone.

use super::{ask, clean};
use ostler_protocol::{ApiError, ErrorKind};

/// Asks the question unless `yes` was given on the command line. Returns whether the answer is yes.
///
/// # Errors
/// `INVALID_PARAMS` if there is no terminal to ask on.
pub(super) async fn confirm(yes: bool, question: String) -> Result<bool, ApiError> {
    if yes {
        return Ok(true);
    }
    if !ask::can_ask() {
        let message = "cannot ask for confirmation: standard input or standard error is not a terminal";
        return Err(ApiError::new(ErrorKind::InvalidParams, message).at("--yes").hint("add --yes"));
    }
    let lines: Vec<String> = question.lines().map(clean::line).collect();
    let asked = tokio::task::spawn_blocking(move || ask::confirm(&lines.join("\n"))).await;
    Ok(asked.unwrap_or(false))
}
