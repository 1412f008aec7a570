//! In which folder a session is resumed.

use std::path::{Path, PathBuf};

use ostler_protocol::{ApiError, CompatibilityWarning, StartPayload};
use ostler_storage::Storage;

/// The folder in which the session began that a payload resumes, if this host has recorded it and it still exists.
/// A run that resumes a session starts in this folder: some CLIs find their sessions only there, and earlier messages of
/// the session refer to its files.
///
/// # Errors
/// `IO` if the record cannot be read.
pub(crate) fn folder_of_session(
    storage: &Storage,
    provider: &str,
    payload: &StartPayload,
) -> Result<Option<PathBuf>, ApiError> {
    let harness = payload.harness.as_ref();
    let Some(session) = harness.and_then(|harness| harness.resume_session_id.as_deref()) else { return Ok(None) };
    let runs = storage.read(|reader| reader.runs_of_session(provider, session))?;
    Ok(runs.into_iter().rev().map(|run| run.cwd).find(|folder| folder.is_dir()))
}

/// Reports that a run starts in another folder than the requested one.
pub(crate) fn moved(requested: &Path, began: &Path) -> Option<CompatibilityWarning> {
    (requested != began).then(|| CompatibilityWarning {
        pointer: "/cwd".to_owned(),
        reason: format!("the session began in {}, and a run that resumes it starts there", began.display()),
    })
}
