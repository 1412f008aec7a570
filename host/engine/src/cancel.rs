//! Cancels a run, wherever it is.

use std::time::{Duration, Instant};

use ostler_protocol::methods::CancelResult;
use ostler_protocol::{ApiError, RunId};

use crate::Engine;
use crate::queue::dispatch::CancelTarget;

/// How long a run may be nowhere, and the pause between two looks.
const LONGEST_MOVE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

impl Engine {
    /// Ends a run, and returns when it has ended.
    ///
    /// # Errors
    /// `NOT_FOUND`, and `INTERNAL` for a run that is on record as going on while nobody has it.
    pub fn cancel_run(&self, run: RunId) -> Result<CancelResult, ApiError> {
        let mut had_ended = true;
        let mut last_found = Instant::now();
        loop {
            let found = self.dispatcher.cancel(run);
            let lost = matches!(found, CancelTarget::Nowhere);
            had_ended &= lost;
            match found {
                CancelTarget::Waiting(live) => self.end_waiting(&live),
                CancelTarget::Live(live) => _ = live.wait(),
                // Its acknowledgement is being written at this moment, and it ends right after.
                CancelTarget::Reserved => std::thread::yield_now(),
                CancelTarget::Nowhere => {}
            }
            let status = self.storage.read(|reader| reader.run_status(run))?;
            let status = status.ok_or_else(|| ApiError::not_found("run", run))?;
            if status.ended() {
                return Ok(CancelResult { status, already_ended: had_ended });
            }
            // It went from one place to another between the look-ups: from running to waiting for its next attempt,
            // for instance.
            if lost {
                if last_found.elapsed() > LONGEST_MOVE {
                    let message = format!("run {run} is on record as {status:?}, but nobody has it");
                    return Err(ApiError::internal(message).hint("the next start of the host settles it"));
                }
                std::thread::sleep(LOOK_AGAIN);
            } else {
                last_found = Instant::now();
            }
        }
    }
}
