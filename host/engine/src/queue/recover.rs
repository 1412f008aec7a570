//! What the host does at its start with the runs of an earlier host: runs that waited are queued again, and runs that were
//! running are queued again or end as interrupted.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::attempt::conclude::RunFinalizer;
use crate::attempt::hold::{self, was_held};
use crate::attempt::private_folders::PrivateFolders;
use crate::attempt::retry_state::RetryState;
use crate::queue::dispatch::Dispatcher;
use crate::record::Recorder;
use crate::redactors::Redactors;
use crate::setup::CurrentConfig;
use crate::submit::message::series;
use crate::submit::{time, timestamp};
use ostler_protocol::{ApiError, EndReason, JobState, ProgressStage, RunId, StartPayload};
use ostler_runner::{ProcessIdentity, end_leftovers, sweep};
use ostler_scheduler::{Admit, Job, Start};
use ostler_storage::{Durability, Reader, Recovery as UnendedJob, Requeued, Storage};
use ostler_test_hooks::clock;
use ostler_test_hooks::failpoint;

/// Continues the work of a host that has ended.
pub(crate) struct Recovery {
    pub(crate) storage: Storage,
    pub(crate) config: CurrentConfig,
    pub(crate) redactors: Redactors,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) finalizer: Arc<RunFinalizer>,
    pub(crate) private_folders: PrivateFolders,
}

impl Recovery {
    /// Ends leftover processes, settles runs that were running, and queues the waiting ones in their old order.
    ///
    /// # Errors
    /// If the database cannot be read or written.
    pub(crate) fn run(&self) -> Result<(), ApiError> {
        let unended = self.storage.read(Reader::recovery)?;
        failpoint::reach("recover.before");
        self.end_processes(&unended);
        self.private_folders.check_parent()?;
        let private = self.private_folders.parent();
        let held: HashSet<RunId> = unended
            .iter()
            .filter(|UnendedJob { job, process, .. }| {
                job.state == JobState::Running && was_held(private, job.run_id, job.attempt, process.as_deref())
            })
            .map(|entry| entry.job.run_id)
            .collect();
        let swept = sweep(private, |name: &OsStr| !name.to_str().is_some_and(PrivateFolders::is_name_of_attempt));
        for (folder, error) in &swept.failed {
            tracing::warn!(folder = %folder.display(), error, "a private folder of a dead run was not removed");
        }
        // First: the delays of requeued runs count from this time.
        self.dispatcher.catch_up(unended.iter().map(|entry| time(entry.job.enqueued_at)));
        let requeue = self.config.load().config.scheduler.requeue_interrupted;
        let mut settled = HashSet::new();
        for entry in unended.iter().filter(|entry| entry.job.state == JobState::Running) {
            let run = entry.job.run_id;
            let requeued =
                if held.contains(&run) { self.requeue_held(entry) } else { requeue && self.requeue_interrupted(entry) };
            if requeued {
                continue;
            }
            settled.insert(run);
            self.finalizer.end_interrupted(run, "the host died while the run was running")?;
            failpoint::reach("recover.settled");
        }
        // Not earlier: if this host dies meanwhile, the next one needs the notes.
        hold::forget_all(private);
        for entry in unended.iter().filter(|entry| !settled.contains(&entry.job.run_id)) {
            self.queue_again(entry);
        }
        failpoint::reach("recover.after");
        Ok(())
    }

    fn end_processes(&self, unended: &[UnendedJob]) {
        let identities: Vec<ProcessIdentity> =
            unended.iter().filter_map(|entry| serde_json::from_str(entry.process.as_deref()?).ok()).collect();
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

    /// Requeues an interrupted run, if it has retries left.
    fn requeue_interrupted(&self, entry: &UnendedJob) -> bool {
        let run = entry.job.run_id;
        let carry = RetryState::read(entry.carry.as_deref());
        let payload = self.storage.read(|reader| reader.payload(run)).ok().flatten();
        let retries = payload.as_ref().and_then(|payload| payload.get("maxRetries")?.as_u64()).unwrap_or(0);
        if u64::from(carry.retries) >= retries {
            return false;
        }
        let backoff = payload.as_ref().and_then(|payload| payload.get("retryBackoffMs")?.as_u64());
        let delay = Duration::from_millis(backoff.unwrap_or(StartPayload::DEFAULT_RETRY_BACKOFF_MS));
        self.store_requeue(entry, delay, &RetryState { retries: carry.retries + 1, ..carry })
    }

    /// Requeues a run whose child was not started. It did nothing, so that this is not one of its retries.
    fn requeue_held(&self, entry: &UnendedJob) -> bool {
        self.store_requeue(entry, Duration::ZERO, &RetryState::read(entry.carry.as_deref()))
    }

    /// Stores the next attempt. It has another number, because the interrupted one was recorded.
    fn store_requeue(&self, entry: &UnendedJob, delay: Duration, carry: &RetryState) -> bool {
        let run = entry.job.run_id;
        let (now, attempt) = (clock::now(), entry.job.attempt + 1);
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

    fn queue_again(&self, entry: &UnendedJob) {
        let job = &entry.job;
        let ran = job.state == JobState::Running;
        let start = match job.state {
            // It was requeued just now: its stored delay is the new one.
            JobState::Running => {
                let requeued = self.storage.read(|reader| reader.job(job.run_id)).ok().flatten();
                requeued.and_then(|job| job.not_before).map_or(Start::Now, |due| Start::After(time(due)))
            }
            // A delay is a duration, `scheduledAt` a time of day.
            JobState::Retrying => job.not_before.map_or(Start::Now, |due| Start::After(time(due))),
            _ => job.not_before.map_or(Start::Now, |due| Start::At(time(due))),
        };
        let job = Job {
            id: job.run_id,
            lane: job.provider.clone(),
            series: entry.conversation_id.map(series),
            priority: job.priority,
            enqueued_at: time(job.enqueued_at),
            arrival: entry.arrival,
            start,
            blocked: false,
            admit: Admit::Readmitted,
        };
        // A run that was started has waited for its dependencies already.
        let after = RetryState::read(entry.carry.as_deref()).after.filter(|_| entry.job.attempt <= 1 && !ran);
        let queued = self.dispatcher.admit(job, after.as_ref(), |_, _| ());
        if let Err(active_run) = queued {
            self.finalizer.end_waiting(&active_run);
        }
        if let Some(after) = &after {
            self.finalizer.settle_ended(after);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::test_support::{Fixture, Services, insert_run_with};
    use ostler_protocol::RunStatus;
    use ostler_storage::Started;

    fn recover(fixture: &Fixture) -> Services {
        let services = Services::new(fixture);
        let recovery = Recovery {
            storage: fixture.storage.clone(),
            config: fixture.config.clone(),
            redactors: fixture.redactors.clone(),
            dispatcher: Arc::clone(&services.dispatcher),
            finalizer: Arc::clone(&services.finalizer),
            private_folders: services.private_folders.clone(),
        };
        recovery.run().unwrap();
        services
    }

    /// A run that was running when its host died.
    fn interrupted(fixture: &Fixture, payload: serde_json::Value) -> RunId {
        let run = insert_run_with(fixture, "codex", payload);
        let start = Started { attempt: 1, at: clock::now(), process: None };
        assert!(fixture.write(move |tx| tx.set_running(run, &start)));
        run
    }

    #[test]
    fn waiting_runs_keep_their_order_and_running_ones_end_as_interrupted() {
        let fixture = Fixture::new();
        let (first, running) = (fixture.insert_run("codex"), interrupted(&fixture, json!({"maxRetries": 1})));
        let second = fixture.insert_run("codex");
        let services = recover(&fixture);
        let position = |run| services.dispatcher.view(run).and_then(|view| Some(view.position?.overall));
        assert_eq!((position(first), position(running), position(second)), (Some(1), None, Some(2)));
        assert_eq!(fixture.end_reason_of(running), Some(EndReason::Interrupted));
    }

    #[test]
    fn interrupted_run_with_a_retry_left_is_queued_again_if_configured() {
        let fixture = Fixture::with_config("[scheduler]\nrequeue_interrupted = true\n");
        let retried = interrupted(&fixture, json!({"maxRetries": 1}));
        let ended = interrupted(&fixture, json!({"maxRetries": 0}));
        let services = recover(&fixture);
        let job = fixture.storage.read(|reader| reader.job(retried)).unwrap().unwrap();
        assert_eq!((job.state, job.attempt), (JobState::Retrying, 2));
        assert_eq!(fixture.status_of(retried), Some(RunStatus::Queued));
        assert_eq!(fixture.end_reason_of(ended), Some(EndReason::Interrupted));
        assert_eq!(services.dispatcher.counts().scheduled, 1);
    }
}
