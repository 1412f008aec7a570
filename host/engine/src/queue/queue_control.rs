//! The changes that users make to the queue: pauses, and the priority of waiting runs.

use std::sync::Arc;

use serde_json::json;

use crate::queries::RunQueries;
use crate::queue::dispatch::Dispatcher;
use crate::record::Recorder;
use crate::redactors::Redactors;
use crate::setup::CurrentConfig;
use ostler_protocol::methods::{PauseParams, QueuePauses, SetQueuePriorityParams};
use ostler_protocol::{ApiError, ErrorKind, JobRecord, ProgressStage, RunId};
use ostler_scheduler::State;
use ostler_storage::{Durability, Storage, StorageErrorKind, StoredPauses};

/// Changes the pauses of the queue, and the priority of waiting runs.
#[derive(Debug)]
pub struct QueueControl {
    storage: Storage,
    config: CurrentConfig,
    redactors: Redactors,
    dispatcher: Arc<Dispatcher>,
    runs: RunQueries,
}

impl QueueControl {
    pub(crate) const fn new(
        storage: Storage,
        config: CurrentConfig,
        redactors: Redactors,
        dispatcher: Arc<Dispatcher>,
        runs: RunQueries,
    ) -> Self {
        Self { storage, config, redactors, dispatcher, runs }
    }

    /// Starts no more runs, of one provider or at all, until they are resumed. Active runs continue. The pause is stored, so
    /// that a later host has it, too.
    ///
    /// # Errors
    /// `NOT_FOUND` for an unknown provider.
    pub fn pause(&self, params: &PauseParams) -> Result<QueuePauses, ApiError> {
        if let Some(name) = &params.provider {
            self.config.load().provider(name).map_err(|error| error.at("/provider"))?;
        }
        self.set_paused(params, true)
    }

    /// Removes a pause. It is not an error if there is none.
    ///
    /// # Errors
    /// `NOT_FOUND` for an unknown provider that is not paused.
    pub fn resume(&self, params: &PauseParams) -> Result<QueuePauses, ApiError> {
        if let Some(name) = params.provider.as_ref().filter(|name| !self.dispatcher.pauses().lanes.contains(*name)) {
            self.config.load().provider(name).map_err(|error| error.at("/provider"))?;
        }
        self.set_paused(params, false)
    }

    fn set_paused(&self, params: &PauseParams, paused: bool) -> Result<QueuePauses, ApiError> {
        let provider = params.provider.clone();
        let write = self.storage.write_urgent(Durability::Full, move |tx| tx.set_paused(provider.as_deref(), paused));
        let pauses = write.wait()?;
        self.dispatcher.set_pauses(&pauses);
        Ok(shown(&pauses))
    }

    /// Restores the stored pauses.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub(crate) fn recover_pauses(&self) -> Result<(), ApiError> {
        let pauses = self.storage.read(ostler_storage::Reader::pauses)?;
        self.dispatcher.set_pauses(&pauses);
        Ok(())
    }

    /// Sets the priority of a waiting run.
    ///
    /// # Errors
    /// `NOT_FOUND`, and `CONFLICT` for a run that is not waiting.
    pub fn set_priority(&self, params: &SetQueuePriorityParams) -> Result<JobRecord, ApiError> {
        let (run, priority) = (params.run_id, params.priority);
        let before = self.dispatcher.view(run).map(|view| view.priority);
        match self.dispatcher.set_priority(run, priority) {
            Some(State::Running) | None => return Err(self.does_not_wait(run)?),
            Some(State::Ready | State::Scheduled | State::Held) => {}
        }
        let position = self.dispatcher.view(run).and_then(|view| view.position).map(|position| position.overall);
        let recorder = Recorder::new(Some(run), None, self.redactors.for_data());
        let event =
            recorder.progress(ProgressStage::PriorityChanged, json!({"priority": priority, "position": position}));
        let write = self.storage.write_urgent(Durability::Full, move |tx| {
            let waits = tx.set_priority(run, priority)?;
            if waits {
                tx.append_event(&event)?;
            }
            Ok(waits)
        });
        let waits = match write.wait() {
            Ok(waits) => waits,
            Err(error) if error.kind() == StorageErrorKind::NotFound => false,
            Err(error) => {
                // The queue must not differ from what is stored.
                if let Some(before) = before {
                    self.dispatcher.set_priority(run, before);
                }
                return Err(error.into());
            }
        };
        let job = if waits { self.runs.get(run)?.job } else { None };
        match job {
            Some(job) => Ok(job),
            None => Err(self.does_not_wait(run)?),
        }
    }

    fn does_not_wait(&self, run: RunId) -> Result<ApiError, ApiError> {
        let status = self.storage.read(|reader| reader.run_status(run))?;
        let Some(status) = status else {
            return Ok(ApiError::not_found("run", run).hint("`list_queue_jobs` lists the runs that wait"));
        };
        let message = format!("the run {run} is {status}: only waiting runs can be moved");
        Ok(ApiError::new(ErrorKind::Conflict, message).hint("`list_queue_jobs` lists the runs that wait"))
    }
}

fn shown(pauses: &StoredPauses) -> QueuePauses {
    QueuePauses { paused: pauses.all, paused_providers: pauses.providers.iter().cloned().collect() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::record::now;
    use crate::session::approvals::Approvals;
    use crate::test_support::{Fixture, dispatcher, enqueue};

    fn control(fixture: &Fixture) -> QueueControl {
        let (storage, dispatcher) = (fixture.storage.clone(), Arc::new(dispatcher()));
        let runs = RunQueries::new(storage.clone(), Arc::clone(&dispatcher), Approvals::default());
        QueueControl::new(storage, fixture.config.clone(), fixture.redactors.clone(), dispatcher, runs)
    }

    fn of(provider: &str) -> PauseParams {
        PauseParams { provider: Some(provider.to_owned()) }
    }

    #[test]
    fn pauses_are_active_at_once_and_after_a_restart() {
        let fixture = Fixture::new();
        let queue = control(&fixture);
        queue.pause(&of("codex")).unwrap();
        let paused = queue.pause(&PauseParams::default()).unwrap();
        assert_eq!(paused, QueuePauses { paused: true, paused_providers: vec!["codex".to_owned()] });
        queue.resume(&PauseParams::default()).unwrap();
        let restarted = control(&fixture);
        assert!(restarted.dispatcher.pauses().lanes.is_empty());
        restarted.recover_pauses().unwrap();
        for queue in [&queue, &restarted] {
            let pauses = queue.dispatcher.pauses();
            assert_eq!((pauses.all, pauses.lanes.into_iter().collect()), (false, vec!["codex".to_owned()]));
        }
    }

    #[test]
    fn provider_that_was_removed_can_be_resumed_and_not_paused() {
        let fixture = Fixture::new();
        let queue = control(&fixture);
        queue.pause(&of("codex")).unwrap();
        fixture.change_config(|active| _ = active.providers.remove("codex"));
        let none = QueuePauses { paused: false, paused_providers: Vec::new() };
        let error = queue.pause(&of("codex")).unwrap_err();
        assert_eq!((error.kind, error.pointer.as_deref()), (ErrorKind::NotFound, Some("/provider")));
        assert_eq!(queue.resume(&of("codex")).unwrap(), none);
        assert_eq!(queue.resume(&of("codex")).unwrap_err().kind, ErrorKind::NotFound, "it is not paused any more");
    }

    #[test]
    fn waiting_run_moves_up_and_has_an_event() {
        let fixture = Fixture::new();
        let queue = control(&fixture);
        let [first, second] = [(); 2].map(|()| fixture.insert_run("codex"));
        [first, second].iter().for_each(|run| enqueue(&queue.dispatcher, *run, None));
        let job = queue.set_priority(&SetQueuePriorityParams { run_id: second, priority: 7 }).unwrap();
        assert_eq!((job.priority, job.position), (7, Some(1)));
        let events = fixture.events_of(second);
        let event = &events.last().unwrap().payload;
        assert_eq!((&event["priority"], &event["position"]), (&json!(7), &json!(1)));
    }

    #[test]
    fn priority_of_a_run_that_does_not_wait_is_a_conflict() {
        let fixture = Fixture::new();
        let queue = control(&fixture);
        let set = |run_id| queue.set_priority(&SetQueuePriorityParams { run_id, priority: 1 }).unwrap_err().kind;
        assert_eq!(set(RunId::generate()), ErrorKind::NotFound);
        let run = fixture.insert_run("codex");
        fixture.end_run(run, now(), None);
        let before = fixture.events_of(run).len();
        assert_eq!(set(run), ErrorKind::Conflict);
        // It has ended, but the queue does not know that yet.
        enqueue(&queue.dispatcher, run, None);
        assert_eq!(set(run), ErrorKind::Conflict);
        assert_eq!(fixture.events_of(run).len(), before);
    }
}
