//! Runs that start after others: which dependencies a submit may name.

use ostler_protocol::{ApiError, ErrorKind, Problem, RunStatus, StartAfter};
use ostler_storage::{StorageError, WriteTx};

/// Whether a run may wait for these runs in their current states. Writes nothing.
///
/// # Errors
/// If the database cannot be read.
pub(crate) fn check(tx: &WriteTx<'_>, after: &StartAfter) -> Result<Result<(), ApiError>, StorageError> {
    let mut problems = Vec::new();
    let mut kind = ErrorKind::Conflict;
    for (index, run) in after.run_ids.iter().enumerate() {
        let message = match tx.run_status(*run)? {
            None => {
                kind = ErrorKind::NotFound;
                format!("there is no run {run}")
            }
            Some(status) if status.ended() && status != RunStatus::Completed && !after.even_if_failed => {
                format!("the run {run} has not completed: it is {status}")
            }
            Some(_) => continue,
        };
        problems.push(Problem { pointer: format!("/startAfter/runIds/{index}"), message });
    }
    let Some(first) = problems.first() else { return Ok(Ok(())) };
    let hint = match kind {
        ErrorKind::NotFound => "`list_runs` lists the runs",
        _ => "evenIfFailed starts the run all the same",
    };
    let mut refused = ApiError::new(kind, first.message.clone()).at(first.pointer.clone()).hint(hint);
    if problems.len() > 1 {
        refused.problems = problems;
    }
    Ok(Err(refused))
}
