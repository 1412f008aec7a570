//! Whether a session runs in a terminal.

use crate::features::{APPROVALS, TERMINAL, TERMINAL_ONLY, TOOL_EVENTS};
use crate::setup::ActiveConfig;
use ostler_protocol::{ApiError, ErrorKind, RunMode, StartPayload};

/// Where the payload asks for a terminal.
const POINTER: &str = "/terminal";

/// Gives the session of a CLI without a protocol a terminal, and checks that a requested one is possible.
///
/// # Errors
/// `INVALID_PARAMS` if the CLI cannot run in a terminal; `UNENFORCEABLE` if a policy judges tool uses that the CLI would show
/// without a terminal, and the operator has not allowed that.
pub(super) fn decide(
    payload: &mut StartPayload,
    provider: &str,
    features: &[String],
    active: &ActiveConfig,
) -> Result<(), ApiError> {
    let has = |word: &str| features.iter().any(|feature| feature == word);
    if payload.mode == Some(RunMode::Interactive) && has(TERMINAL_ONLY) {
        payload.terminal.get_or_insert_default();
    }
    if payload.terminal.is_none() {
        return Ok(());
    }
    if !has(TERMINAL) && !has(TERMINAL_ONLY) {
        let message = format!("the installed CLI of provider {provider} cannot run in a terminal");
        return Err(ApiError::new(ErrorKind::InvalidParams, message)
            .at(POINTER)
            .hint("leave it out, or use a provider with the feature `terminal`; `list_capabilities` shows it"));
    }
    let shows_tools = has(APPROVALS) || has(TOOL_EVENTS);
    if shows_tools && active.gate.judges_tools() && !active.config.policy.allows_unenforced(POINTER) {
        let message = "a policy judges tool uses, and a CLI in a terminal does not show them to the host";
        return Err(ApiError::new(ErrorKind::Unenforceable, message)
            .at(POINTER)
            .hint("leave it out, or let the operator name it in [policy] allow_unenforced"));
    }
    Ok(())
}
