//! Records the end of an attempt: as the end of its run, or as a retry.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::attempt::Attempted;
use crate::attempt::load::LoadedRun;
use crate::attempt::outcome::{self, AttemptOutcome, Structured};
use crate::attempt::retry::{self, Decision, Failed};
use crate::attempt::retry_state::RetryState;
use crate::queue::active_run::{ActiveRun, StopCause};
use crate::queue::dispatch::{Dispatcher, Requeue};
use crate::record::{self, Recorder};
use crate::redactors::Redactors;
use crate::submit::message;
use crate::submit::timestamp;
use ostler_protocol::{
    EndReason, JobState, NewEvent, Payload, ProgressStage, RunEnd, RunId, RunStatus, StartAfter, StartPayload,
    StructuredOutput, StructuredOutputInvalid, Usage, WarningCode,
};
use ostler_storage::{Durability, Outcome, Requeued, Storage, StorageError, StorageErrorKind, WriteTx};
use ostler_test_hooks::clock;
use ostler_test_hooks::failpoint;

/// How often the end of a run is written again after an error that is not one of the file system, and the pause in between.
const WRITE_TRIES: u32 = 30;
const WRITE_PAUSE: Duration = Duration::from_secs(2);

/// Records the ends of attempts and runs, and passes each end to the queue.
#[derive(Debug)]
pub(crate) struct RunFinalizer {
    storage: Storage,
    redactors: Redactors,
    dispatcher: Arc<Dispatcher>,
    /// Whether an end that could not be written is left to the next host.
    stopping: AtomicBool,
}

impl RunFinalizer {
    pub(crate) const fn new(storage: Storage, redactors: Redactors, dispatcher: Arc<Dispatcher>) -> Self {
        Self { storage, redactors, dispatcher, stopping: AtomicBool::new(false) }
    }

    /// The host ends: an end that cannot be written is not tried again.
    pub(crate) fn stop_retrying(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Records the end of an attempt, and ends or requeues its run.
    pub(crate) fn conclude(
        &self,
        active_run: &Arc<ActiveRun>,
        loaded: &LoadedRun,
        recorder: &Recorder,
        attempted: Attempted,
    ) {
        let Attempted { ending, metrics, usage, session, has_text } = attempted;
        let mut events = Vec::new();
        match &ending.structured {
            Structured::NotAsked => {}
            Structured::Valid(value) => {
                events.push(recorder.event(&Payload::StructuredOutput(StructuredOutput { result: value.clone() })));
            }
            Structured::Invalid { errors, value } => {
                let invalid = StructuredOutputInvalid { errors: errors.clone(), value: value.clone() };
                events.push(recorder.event(&Payload::StructuredOutputInvalid(invalid)));
            }
        }
        if ending.reason == EndReason::Completed && !has_text {
            let message = "the agent produced no output";
            events.push(recorder.warning(WarningCode::NoTextEmitted, message, Value::Null));
        }
        events.extend(metrics.map(|metrics| recorder.event(&Payload::RunnerMetrics(metrics))));
        let usage = match (&loaded.record.usage, usage) {
            (Some(before), Some(now)) => Some(outcome::add(before, &now)),
            (None, now) => now,
            (Some(_), None) => None,
        };
        let facts = Facts { usage, session: session.map(|session| KnownSession::new(&session, recorder)) };
        let decision = retry::decide(failed(loaded, &ending), random());
        let mut ending = ending;
        if ending.reason == EndReason::ResumeInvalid && decision == Decision::End && ending.hint.is_none() {
            ending.hint = Some("to start a new session, leave out resumeSessionId and continueSession".to_owned());
        }
        let after = match decision {
            Decision::End => None,
            Decision::Retry(delay) => {
                let carry = RetryState { retries: loaded.carry.retries + 1, ..loaded.carry.clone() };
                Some((delay, carry))
            }
            Decision::RestartWithoutResume => {
                let message = "the session could not be resumed; the run starts again with a new one";
                events.push(recorder.warning(WarningCode::SessionResumeInvalid, message, Value::Null));
                Some((Duration::ZERO, RetryState { without_resume: true, ..loaded.carry.clone() }))
            }
        };
        if ending.reason == EndReason::RateLimited
            && let Some(after) = ending.retry_after
        {
            self.dispatcher.pause_lane(&loaded.record.summary.provider, after);
        }
        match after {
            // A host that stops leaves the retry to the next host.
            Some((delay, carry)) if active_run.stop_cause() != Some(StopCause::Canceled) => {
                self.requeue(active_run, loaded, recorder, &ending, events, facts, delay, &carry);
            }
            _ => self.end(active_run, recorder, &ending, &events, &facts),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "all that a transition writes at once")]
    fn requeue(
        &self,
        active_run: &Arc<ActiveRun>,
        loaded: &LoadedRun,
        recorder: &Recorder,
        ending: &AttemptOutcome,
        mut events: Vec<NewEvent>,
        facts: Facts,
        delay: Duration,
        carry: &RetryState,
    ) {
        let (run, now, queue_time) = (active_run.run(), clock::now(), self.dispatcher.queue_time());
        let next = now.checked_add(delay).unwrap_or(now);
        let attempt = loaded.job.attempt + 1;
        events.push(recorder.progress(
            ProgressStage::RetryScheduled,
            json!({"attempt": attempt, "nextRunAt": next, "reason": ending.reason, "message": ending.message}),
        ));
        let back = Requeued {
            state: if delay.is_zero() { JobState::Ready } else { JobState::Retrying },
            attempt,
            enqueued_at: Some(timestamp(queue_time)),
            not_before: (!delay.is_zero()).then(|| timestamp(queue_time.after(delay))),
            reason: Some(ending.reason),
            message: Some(recorder.clean(&ending.message)),
            carry: carry.to_text(),
        };
        let forget_session = carry.without_resume;
        let resumed = loaded.resume().map(str::to_owned);
        failpoint::reach("requeue.before");
        let written = self.storage.write(Durability::Full, move |tx| {
            tx.append_events(&events)?;
            facts.write(tx, run)?;
            if forget_session {
                message::forget_session(tx, run, resumed.as_deref(), record::now())?;
            }
            tx.set_requeued(run, &back)
        });
        match written.wait() {
            Ok(true) => {
                failpoint::reach("requeue.after");
                let summary = &loaded.record.summary;
                let (lane, priority) = (summary.provider.clone(), summary.queue_priority);
                let again = Requeue { lane, priority, since: queue_time, delay };
                if !self.dispatcher.release(active_run, RunStatus::Queued, Some(again)) {
                    // It was canceled meanwhile.
                    self.end_waiting(active_run);
                }
            }
            Ok(false) => _ = self.dispatcher.release(active_run, RunStatus::Canceled, None),
            Err(error) => {
                tracing::error!(%run, %error, "a retry was not stored");
                let failed =
                    AttemptOutcome::new(EndReason::HostFailed, format!("the retry could not be stored: {error}"));
                self.end(active_run, recorder, &failed, &[], &Facts::default());
            }
        }
    }

    /// Ends a run, releases its slot, and settles the runs that wait for it.
    fn end(
        &self,
        active_run: &Arc<ActiveRun>,
        recorder: &Recorder,
        ending: &AttemptOutcome,
        events: &[NewEvent],
        facts: &Facts,
    ) {
        self.end_one(active_run, recorder, ending, events, facts);
        self.settle_dependents(active_run.run(), ending.status() == RunStatus::Completed);
    }

    fn end_one(
        &self,
        active_run: &Arc<ActiveRun>,
        recorder: &Recorder,
        ending: &AttemptOutcome,
        events: &[NewEvent],
        facts: &Facts,
    ) {
        let outcome = outcome(recorder, ending);
        failpoint::reach("end.before");
        let mut tries = 0;
        while let Err(error) = self.write_end(active_run.run(), &outcome, events.to_vec(), facts) {
            tries += 1;
            tracing::error!(run = %active_run.run(), %error, tries, "the end of a run was not stored");
            // A full disk can have space again. Until then the run keeps its slot, as its row says: no other run could
            // start, and a caller that cancels the run waits for the recorded end.
            if self.stopping.load(Ordering::Relaxed) || (tries >= WRITE_TRIES && !error.of_the_file()) {
                break;
            }
            std::thread::sleep(WRITE_PAUSE);
        }
        failpoint::reach("end.after");
        self.dispatcher.release(active_run, ending.status(), None);
    }

    /// Writes the end of a run, once. It is not an error if the run has ended already.
    fn write_end(
        &self,
        run: RunId,
        outcome: &Outcome,
        events: Vec<NewEvent>,
        facts: &Facts,
    ) -> Result<(), StorageError> {
        let (outcome, facts) = (outcome.clone(), facts.clone());
        let written = self.storage.write(Durability::Full, move |tx| {
            tx.append_events(&events)?;
            facts.write(tx, run)?;
            if tx.finish_run(run, &outcome)?.is_some() {
                message::run_ended(tx, run, outcome.at)?;
            }
            Ok(())
        });
        match written.wait() {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == StorageErrorKind::Ended => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Ends a run that was canceled while it waited. Only the caller has it.
    pub(crate) fn end_waiting(&self, active_run: &Arc<ActiveRun>) {
        if active_run.stop_cause() == Some(StopCause::HostStops) {
            // The next host continues it.
            self.dispatcher.release(active_run, RunStatus::Queued, None);
            return;
        }
        self.end_unloaded(
            active_run,
            &AttemptOutcome::new(EndReason::Canceled, "the run was canceled before it started"),
        );
    }

    /// Ends a run that was not loaded: only its id is known.
    pub(crate) fn end_unloaded(&self, active_run: &Arc<ActiveRun>, ending: &AttemptOutcome) {
        let recorder = Recorder::new(Some(active_run.run()), None, self.redactors.for_data());
        self.end(active_run, &recorder, ending, &[], &Facts::default());
    }

    /// Settles runs that were queued with dependencies that had ended before. Dependencies that end later settle them
    /// themselves.
    pub(crate) fn settle_ended(&self, after: &StartAfter) {
        for run in &after.run_ids {
            match self.storage.read(|reader| reader.run_status(*run)) {
                Ok(Some(status)) if status.ended() => self.settle_dependents(*run, status == RunStatus::Completed),
                Ok(Some(_)) => {}
                // Only ended runs are deleted, and runs that waited for it were settled before: it can only have completed.
                Ok(None) => self.settle_dependents(*run, true),
                Err(error) => tracing::error!(%run, %error, "failed to read whether a run has ended"),
            }
        }
    }

    /// Settles the runs that wait for a run that has ended: they may start, or are canceled. Canceled runs settle those
    /// that wait for them.
    fn settle_dependents(&self, run: RunId, completed: bool) {
        let mut ended = vec![(run, completed)];
        while let Some((run, completed)) = ended.pop() {
            for active_run in self.dispatcher.settle(run, completed) {
                let message = format!("the run {run}, which it was to start after, did not complete");
                let recorder = Recorder::new(Some(active_run.run()), None, self.redactors.for_data());
                let outcome = AttemptOutcome::new(EndReason::DependencyFailed, message);
                self.end_one(&active_run, &recorder, &outcome, &[], &Facts::default());
                ended.push((active_run.run(), false));
            }
        }
    }

    /// Ends a run that was running under a host that died.
    ///
    /// # Errors
    /// If the end cannot be written: the host must not start while a row says that the run is running.
    pub(crate) fn end_interrupted(&self, run: RunId, message: &str) -> Result<(), StorageError> {
        let recorder = Recorder::new(Some(run), None, self.redactors.for_data());
        let ending = AttemptOutcome::new(EndReason::Interrupted, message);
        self.write_end(run, &outcome(&recorder, &ending), Vec::new(), &Facts::default())
    }
}

/// An outcome as it is stored.
fn outcome(recorder: &Recorder, ending: &AttemptOutcome) -> Outcome {
    let end = RunEnd {
        exit_code: ending.exit_code(),
        reason: ending.reason,
        code: ending.code.as_deref().map(|code| recorder.clean(code)),
        message: recorder.clean(&ending.message),
        hint: ending.hint.as_deref().map(|hint| recorder.clean(hint)),
        answer: ending.answer.as_deref().cloned(),
        final_text: ending.final_text.as_deref().map(|text| recorder.clean(text)),
    };
    Outcome { status: ending.status(), end, usage: None, at: record::now() }
}

/// What is written in addition to the events.
#[derive(Clone, Debug, Default)]
struct Facts {
    usage: Option<Usage>,
    session: Option<KnownSession>,
}

/// The provider's session of an attempt, as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct KnownSession {
    id: String,
    /// Whether redaction did not change it, so that it can be resumed.
    usable: bool,
}

impl KnownSession {
    pub(crate) fn new(session: &str, recorder: &Recorder) -> Self {
        let id = recorder.clean(session);
        Self { usable: id == session, id }
    }

    /// Stores it with its run, and with the conversation of the run.
    pub(crate) fn write(&self, tx: &mut WriteTx<'_>, run: RunId) -> Result<(), StorageError> {
        message::store_session(tx, run, &self.id, self.usable, record::now())
    }
}

impl Facts {
    fn write(&self, tx: &mut WriteTx<'_>, run: RunId) -> Result<(), StorageError> {
        if let Some(usage) = &self.usage {
            tx.set_usage(run, usage)?;
        }
        if let Some(session) = &self.session {
            session.write(tx, run)?;
        }
        Ok(())
    }
}

fn failed(loaded: &LoadedRun, ending: &AttemptOutcome) -> Failed {
    let payload = &loaded.payload;
    Failed {
        reason: ending.reason,
        non_zero_exit: ending.non_zero_exit(),
        retries_made: loaded.carry.retries,
        max_retries: payload.max_retries.unwrap_or(0),
        backoff: Duration::from_millis(payload.retry_backoff_ms.unwrap_or(StartPayload::DEFAULT_RETRY_BACKOFF_MS)),
        retry_after: ending.retry_after,
        resumed: loaded.resumes(),
        named_session: loaded.names_session(),
        restarted_without_resume: loaded.carry.without_resume,
    }
}

/// A random number from 0 to 1. If the system has no randomness, it is 1: the longest delay.
fn random() -> f64 {
    getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::test_support::{Fixture, SECRET, Services, enqueue, insert_run_with, start_next_run};
    use ostler_protocol::EventType;

    fn active_run(services: &Services, run: RunId) -> Arc<ActiveRun> {
        enqueue(&services.dispatcher, run, None);
        start_next_run(&services.dispatcher)
    }

    fn recorder(fixture: &Fixture, run: RunId) -> Recorder {
        Recorder::new(Some(run), None, fixture.redactors.for_data())
    }

    /// Concludes an attempt of a run with this payload.
    fn conclude(fixture: &Fixture, services: &Services, payload: Value, ending: AttemptOutcome) -> RunId {
        let run = insert_run_with(fixture, "codex", payload);
        let active_run = active_run(services, run);
        let loaded = services.loader(fixture).load(run, &fixture.config.load()).unwrap();
        services.finalizer.conclude(&active_run, &loaded, &recorder(fixture, run), Attempted::early(ending));
        run
    }

    #[test]
    fn failed_attempt_ends_a_run_without_retries() {
        let fixture = Fixture::new();
        let services = Services::new(&fixture);
        let ending = AttemptOutcome::new(EndReason::SpawnFailed, format!("failed with {SECRET}"));
        let run = conclude(&fixture, &services, json!({}), ending);
        let summary = fixture.storage.read(|reader| reader.run(run)).unwrap().unwrap().summary;
        assert_eq!(summary.reason, Some(EndReason::SpawnFailed));
        assert_eq!(summary.message.as_deref(), Some("failed with [REDACTED:test-key]"));
        assert!(services.dispatcher.close_if_idle());
    }

    #[test]
    fn failed_attempt_of_a_run_with_retries_is_followed_by_another() {
        let fixture = Fixture::new();
        let services = Services::new(&fixture);
        let ending = AttemptOutcome::new(EndReason::RateLimited, "too many requests");
        let run = conclude(&fixture, &services, json!({"maxRetries": 1, "retryBackoffMs": 60_000}), ending);
        let job = fixture.storage.read(|reader| reader.job(run)).unwrap().unwrap();
        assert_eq!((job.state, job.attempt, job.not_before.is_some()), (JobState::Retrying, 2, true));
        let progress: Vec<Value> = fixture.events_of(run).into_iter().map(|event| event.payload).collect();
        assert!(progress.iter().any(|payload| payload["stage"] == "retry_scheduled"), "{progress:?}");
        assert_eq!(services.dispatcher.counts().scheduled, 1);
    }

    #[test]
    fn completed_run_without_text_has_a_warning() {
        let fixture = Fixture::new();
        let services = Services::new(&fixture);
        let run = conclude(&fixture, &services, json!({}), AttemptOutcome::new(EndReason::Completed, "completed"));
        let warnings = fixture.events_of(run).into_iter().filter(|event| event.kind == EventType::Warning);
        let codes: Vec<Value> = warnings.map(|event| event.payload["code"].clone()).collect();
        assert_eq!(codes, ["NO_TEXT_EMITTED"]);
        assert_eq!(fixture.status_of(run), Some(RunStatus::Completed));
    }

    #[test]
    fn waiting_run_stays_queued_when_the_host_stops() {
        let fixture = Fixture::new();
        let services = Services::new(&fixture);
        let run = fixture.insert_run("codex");
        let active_run = active_run(&services, run);
        active_run.stop(StopCause::HostStops);
        services.finalizer.end_waiting(&active_run);
        assert_eq!((active_run.wait(), fixture.status_of(run)), (RunStatus::Queued, Some(RunStatus::Queued)));
    }

    #[test]
    fn run_that_has_ended_keeps_its_end() {
        let fixture = Fixture::new();
        let services = Services::new(&fixture);
        let run = fixture.insert_run("codex");
        let active_run = active_run(&services, run);
        fixture.end_run(run, record::now(), None);
        services.finalizer.end_unloaded(&active_run, &AttemptOutcome::new(EndReason::HostFailed, "too late"));
        assert_eq!(fixture.end_reason_of(run), Some(EndReason::Completed));
        assert!(services.dispatcher.close_if_idle());
    }

    #[test]
    fn dependency_that_ended_before_settles_the_run_that_waits_for_it() {
        let fixture = Fixture::new();
        let services = Services::new(&fixture);
        let [first, second] = [(); 2].map(|()| fixture.insert_run("codex"));
        fixture.end_run(first, record::now(), None);
        let after = StartAfter { run_ids: vec![first], even_if_failed: false };
        enqueue(&services.dispatcher, second, Some(&after));
        assert_eq!(services.dispatcher.counts().held, 1);
        services.finalizer.settle_ended(&after);
        assert_eq!((services.dispatcher.counts().held, services.dispatcher.counts().ready), (0, 1));
    }
}
