//! What an earlier host left: waiting runs go on, running ones have ended under it.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::Engine;
use crate::attempt::hold::{self, was_held};
use crate::attempt::retry_state::RetryState;
use crate::record::Recorder;
use crate::submit::message::series;
use crate::submit::{time, timestamp};
use ostler_protocol::{ApiError, EndReason, ErrorKind, JobState, ProgressStage, RunId, StartPayload};
use ostler_runner::{ProcessIdentity, end_leftovers, sweep};
use ostler_scheduler::{Admit, Job, Start};
use ostler_storage::{Durability, Recovery, Requeued};
use ostler_test_hooks::clock;
use ostler_test_hooks::failpoint;

impl Engine {
    /// Ends leftover processes, settles runs that were running, and queues the waiting ones in their old order.
    ///
    /// # Errors
    /// If the database cannot be read or written.
    pub(crate) fn recover(self: &Arc<Self>) -> Result<(), ApiError> {
        let left = self.storage.read(ostler_storage::Reader::recovery)?;
        failpoint::reach("recover.before");
        self.end_processes(&left);
        let private = self.private_parent();
        own_folder(&private)?;
        let held: HashSet<RunId> = left
            .iter()
            .filter(|Recovery { job, process, .. }| {
                job.state == JobState::Running && was_held(&private, job.run_id, job.attempt, process.as_deref())
            })
            .map(|recovery| recovery.job.run_id)
            .collect();
        let swept = sweep(&private, |name: &OsStr| !name.to_str().is_some_and(of_an_attempt));
        for (folder, error) in &swept.failed {
            tracing::warn!(folder = %folder.display(), error, "a private folder of a dead run was not removed");
        }
        // First of all: what is put back now counts its delay from there.
        self.dispatcher.catch_up(left.iter().map(|recovery| time(recovery.job.enqueued_at)));
        let requeue = self.config.load().config.scheduler.requeue_interrupted;
        let mut settled = HashSet::new();
        for recovery in left.iter().filter(|recovery| recovery.job.state == JobState::Running) {
            let run = recovery.job.run_id;
            let back = if held.contains(&run) {
                self.requeue_held(recovery)
            } else {
                requeue && self.requeue_interrupted(recovery)
            };
            if back {
                continue;
            }
            settled.insert(run);
            self.end_interrupted(run, "the host died while the run was running")?;
            failpoint::reach("recover.settled");
        }
        // Not before: a host that dies meanwhile has another one look again.
        hold::forget_all(&private);
        for recovery in left.iter().filter(|recovery| !settled.contains(&recovery.job.run_id)) {
            self.queue_again(recovery);
        }
        failpoint::reach("recover.after");
        Ok(())
    }

    fn end_processes(&self, left: &[Recovery]) {
        let identities: Vec<ProcessIdentity> =
            left.iter().filter_map(|recovery| serde_json::from_str(recovery.process.as_deref()?).ok()).collect();
        if identities.is_empty() {
            return;
        }
        let report = end_leftovers(&identities);
        for (marker, processes) in &report.ended {
            tracing::warn!(marker, ?processes, "processes of a dead host's run were ended");
        }
        for (marker, processes) in &report.survivors {
            tracing::error!(marker, ?processes, "processes of a dead host's run would not end");
        }
    }

    /// Puts an interrupted run back, if it has retries left.
    fn requeue_interrupted(&self, recovery: &Recovery) -> bool {
        let run = recovery.job.run_id;
        let carry = RetryState::read(recovery.carry.as_deref());
        let payload = self.storage.read(|reader| reader.payload(run)).ok().flatten();
        let retries = payload.as_ref().and_then(|payload| payload.get("maxRetries")?.as_u64()).unwrap_or(0);
        if u64::from(carry.retries) >= retries {
            return false;
        }
        let backoff = payload.as_ref().and_then(|payload| payload.get("retryBackoffMs")?.as_u64());
        let delay = Duration::from_millis(backoff.unwrap_or(StartPayload::DEFAULT_RETRY_BACKOFF_MS));
        self.put_back(recovery, delay, &RetryState { retries: carry.retries + 1, ..carry })
    }

    /// Puts a run back whose child had not been released: nothing has happened, so that this is none of its retries.
    fn requeue_held(&self, recovery: &Recovery) -> bool {
        self.put_back(recovery, Duration::ZERO, &RetryState::read(recovery.carry.as_deref()))
    }

    /// The attempt was recorded, so that the next one has another number.
    fn put_back(&self, recovery: &Recovery, delay: Duration, carry: &RetryState) -> bool {
        let run = recovery.job.run_id;
        let (now, attempt) = (clock::now(), recovery.job.attempt + 1);
        let next = now.checked_add(delay).unwrap_or(now);
        let recorder = Recorder::new(Some(run), None, self.redactors.for_data());
        let event = recorder.progress(
            ProgressStage::RetryScheduled,
            json!({"attempt": attempt, "nextRunAt": next, "reason": EndReason::Interrupted}),
        );
        let back = Requeued {
            state: JobState::Retrying,
            attempt,
            enqueued_at: None,
            not_before: Some(timestamp(self.dispatcher.queue_time().after(delay))),
            reason: Some(EndReason::Interrupted),
            message: None,
            carry: carry.to_text(),
        };
        let write = self.storage.write(Durability::Full, move |tx| {
            tx.append_event(&event)?;
            tx.set_requeued(run, &back)
        });
        write.wait().unwrap_or_else(|error| {
            tracing::error!(%run, %error, "an interrupted run was not queued again");
            false
        })
    }

    fn queue_again(&self, recovery: &Recovery) {
        let job = &recovery.job;
        let ran = job.state == JobState::Running;
        let start = match job.state {
            // It was put back a moment ago; what storage says now counts.
            JobState::Running => {
                let put_back = self.storage.read(|reader| reader.job(job.run_id)).ok().flatten();
                put_back.and_then(|job| job.not_before).map_or(Start::Now, |due| Start::After(time(due)))
            }
            // A delay is a length of time, `scheduledAt` a time of day.
            JobState::Retrying => job.not_before.map_or(Start::Now, |due| Start::After(time(due))),
            _ => job.not_before.map_or(Start::Now, |due| Start::At(time(due))),
        };
        let job = Job {
            id: job.run_id,
            lane: job.provider.clone(),
            series: recovery.conversation_id.map(series),
            priority: job.priority,
            enqueued_at: time(job.enqueued_at),
            arrival: recovery.arrival,
            start,
            blocked: false,
            admit: Admit::Readmitted,
        };
        // One that has run already has waited for the others.
        let after = RetryState::read(recovery.carry.as_deref()).after.filter(|_| recovery.job.attempt <= 1 && !ran);
        let queued = self.dispatcher.admit(job, after.as_ref(), |_, _| ());
        if let Err(live) = queued {
            self.end_waiting(&live);
        }
        if let Some(after) = &after {
            self.settle_ended(after);
        }
    }
}

/// What is in the folder of private folders will be removed: it must be a folder of the host's own.
fn own_folder(path: &Path) -> Result<(), ApiError> {
    let message = match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => return Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Ok(_) => "it is not a folder, or a link to one".to_owned(),
        Err(error) => error.to_string(),
    };
    let message = format!("failed to use {} for the files of runs: {message}", path.display());
    Err(ApiError::new(ErrorKind::Io, message).hint("move it away"))
}

/// Whether a folder is named as those of attempts are: the run's id and a number.
pub(crate) fn of_an_attempt(name: &str) -> bool {
    name.rsplit_once('-').is_some_and(|(run, number)| run.parse::<RunId>().is_ok() && number.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn only_folders_of_attempts_are_taken_for_such() {
        assert!(of_an_attempt(&format!("{}-2", RunId::generate())));
        for name in ["photos", "run-1", "-1", "", "01a205bb-d409-728a-8f30-2ffbf0cb53de"] {
            assert!(!of_an_attempt(name), "{name}");
        }
    }

    #[test]
    fn a_link_in_the_place_of_the_private_folders_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        assert!(own_folder(&real).is_ok());
        std::fs::create_dir(&real).unwrap();
        assert!(own_folder(&real).is_ok());
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert!(own_folder(&link).unwrap_err().message.contains("link"));
    }
}
