//! Cancels a run, wherever it is.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ostler_protocol::methods::CancelResult;
use ostler_protocol::{ApiError, RunId};
use ostler_storage::Storage;

use crate::attempt::conclude::RunFinalizer;
use crate::queue::dispatch::{CancelTarget, Dispatcher};

/// Longest time for which a run may be in no state of the dispatcher, and the pause between two look-ups.
const LONGEST_MOVE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Cancels runs.
pub struct Canceler {
    pub(crate) storage: Storage,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) finalizer: Arc<RunFinalizer>,
}

impl fmt::Debug for Canceler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canceler").finish_non_exhaustive()
    }
}

impl Canceler {
    /// Ends a run, and returns when it has ended.
    ///
    /// # Errors
    /// `NOT_FOUND`, and `INTERNAL` if the database says that the run has not ended but the dispatcher does not know it.
    pub fn cancel(&self, run: RunId) -> Result<CancelResult, ApiError> {
        let mut had_ended = true;
        let mut last_found = Instant::now();
        loop {
            let found = self.dispatcher.cancel(run);
            let lost = matches!(found, CancelTarget::Nowhere);
            had_ended &= lost;
            match found {
                CancelTarget::Waiting(active_run) => self.finalizer.end_waiting(&active_run),
                CancelTarget::Active(active_run) => _ = active_run.wait(),
                // Its acknowledgement is being written at this moment, and it ends right after.
                CancelTarget::Reserved => std::thread::yield_now(),
                CancelTarget::Nowhere => {}
            }
            let status = self.storage.read(|reader| reader.run_status(run))?;
            let status = status.ok_or_else(|| ApiError::not_found("run", run))?;
            if status.ended() {
                return Ok(CancelResult { status, already_ended: had_ended });
            }
            // It changed its state between the look-ups, for example from running to waiting for its next attempt.
            if lost {
                if last_found.elapsed() > LONGEST_MOVE {
                    let message = format!("run {run} is recorded as {status:?}, but the queue does not know it");
                    return Err(ApiError::internal(message).hint("the next start of the host settles it"));
                }
                std::thread::sleep(LOOK_AGAIN);
            } else {
                last_found = Instant::now();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::test_support::{Fixture, Services, enqueue};
    use ostler_protocol::{EndReason, ErrorKind, RunStatus, StartAfter};

    fn canceler(fixture: &Fixture, services: &Services) -> Canceler {
        Canceler {
            storage: fixture.storage.clone(),
            dispatcher: Arc::clone(&services.dispatcher),
            finalizer: Arc::clone(&services.finalizer),
        }
    }

    #[test]
    fn waiting_run_is_canceled_and_with_it_the_runs_that_wait_for_it() {
        let fixture = Fixture::new();
        let services = Services::new(&fixture);
        let canceler = canceler(&fixture, &services);
        let [first, second] = [(); 2].map(|()| fixture.insert_run("codex"));
        enqueue(&services.dispatcher, first, None);
        enqueue(&services.dispatcher, second, Some(&StartAfter { run_ids: vec![first], even_if_failed: false }));
        let canceled = CancelResult { status: RunStatus::Canceled, already_ended: false };
        assert_eq!(canceler.cancel(first).unwrap(), canceled);
        assert_eq!(canceler.cancel(first).unwrap(), CancelResult { already_ended: true, ..canceled });
        assert_eq!(fixture.end_reason_of(second), Some(EndReason::DependencyFailed));
        assert!(services.dispatcher.close_if_idle());
    }

    #[test]
    fn active_run_is_asked_to_stop_and_waited_for() {
        let fixture = Fixture::new();
        let services = Services::new(&fixture);
        let run = fixture.insert_run("codex");
        enqueue(&services.dispatcher, run, None);
        let (dispatcher, finalizer) = (Arc::clone(&services.dispatcher), Arc::clone(&services.finalizer));
        let (started, starts) = std::sync::mpsc::channel();
        let dispatch = std::thread::spawn(move || {
            dispatcher.run(|active_run| {
                started.send(()).unwrap();
                let finalizer = Arc::clone(&finalizer);
                std::thread::spawn(move || {
                    while active_run.stop_cause().is_none() {
                        std::thread::yield_now();
                    }
                    finalizer.end_waiting(&active_run);
                });
            });
        });
        starts.recv().unwrap();
        let canceled = canceler(&fixture, &services).cancel(run).unwrap();
        assert_eq!(canceled, CancelResult { status: RunStatus::Canceled, already_ended: false });
        services.dispatcher.shut_down();
        dispatch.join().unwrap();
    }

    #[test]
    fn unknown_run_is_not_found() {
        let fixture = Fixture::new();
        let error = canceler(&fixture, &Services::new(&fixture)).cancel(RunId::generate()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound);
    }
}
