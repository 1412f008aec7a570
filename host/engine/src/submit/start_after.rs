//! Runs that start after others: which may be asked for, and what becomes of them when those end.

use crate::Engine;
use crate::attempt::outcome::AttemptOutcome;
use crate::record::Recorder;
use ostler_protocol::{ApiError, EndReason, ErrorKind, Problem, RunId, RunStatus, StartAfter};
use ostler_storage::{StorageError, WriteTx};

/// Whether a run may wait for these, as they are now. Writes nothing.
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

impl Engine {
    /// Runs that start after others are in the queue now: settles with those that had ended before. What
    /// ends later settles itself.
    pub(crate) fn settle_ended(&self, after: &StartAfter) {
        for run in &after.run_ids {
            match self.storage.read(|reader| reader.run_status(*run)) {
                Ok(Some(status)) if status.ended() => self.settle_dependents(*run, status == RunStatus::Completed),
                Ok(Some(_)) => {}
                // Only ended runs are deleted, and runs that waited for it were settled before: it can only have completed.
                Ok(None) => self.settle_dependents(*run, true),
                Err(error) => tracing::error!(%run, %error, "it is not known whether a run has ended"),
            }
        }
    }

    /// A run has ended: those that were to start after it may start, or are canceled, and with them those that were to
    /// start after them.
    pub(crate) fn settle_dependents(&self, run: RunId, completed: bool) {
        let mut ended = vec![(run, completed)];
        while let Some((run, completed)) = ended.pop() {
            for live in self.dispatcher.settle(run, completed) {
                let message = format!("the run {run}, which it was to start after, did not complete");
                let recorder = Recorder::new(Some(live.run()), None, self.redactors.for_data());
                self.end_alone(&live, &recorder, &AttemptOutcome::new(EndReason::DependencyFailed, message));
                ended.push((live.run(), false));
            }
        }
    }
}
