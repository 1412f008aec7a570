//! What people change in the queue: pauses, and the priority of runs that wait.

use serde_json::json;

use crate::Engine;
use crate::record::{Recorder, now};
use ostler_protocol::methods::{PauseParams, QueuePauses, SetQueuePriorityParams};
use ostler_protocol::{ApiError, ErrorKind, JobRecord, ProgressStage, RunId};
use ostler_scheduler::State;
use ostler_storage::{Durability, StorageErrorKind, StoredPauses};

impl Engine {
    /// Starts no more runs, of one provider or at all, until that is taken back. Running ones go on. Outlives the host.
    ///
    /// # Errors
    /// `NOT_FOUND` for a provider that there is not.
    pub fn pause_queue(&self, params: &PauseParams) -> Result<QueuePauses, ApiError> {
        if let Some(name) = &params.provider {
            self.config.load().provider(name).map_err(|error| error.at("/provider"))?;
        }
        self.set_paused(params, true)
    }

    /// Takes a pause back. That there is none is no error.
    ///
    /// # Errors
    /// `NOT_FOUND` for a provider that there is not and that is not paused.
    pub fn resume_queue(&self, params: &PauseParams) -> Result<QueuePauses, ApiError> {
        if let Some(name) = params.provider.as_ref().filter(|name| !self.dispatcher.pauses().lanes.contains(*name)) {
            self.config.load().provider(name).map_err(|error| error.at("/provider"))?;
        }
        self.set_paused(params, false)
    }

    fn set_paused(&self, params: &PauseParams, paused: bool) -> Result<QueuePauses, ApiError> {
        let (provider, at) = (params.provider.clone(), now());
        let write =
            self.storage.write_urgent(Durability::Full, move |tx| tx.set_paused(provider.as_deref(), paused, at));
        let pauses = write.wait()?;
        self.dispatcher.set_pauses(&pauses);
        Ok(shown(&pauses))
    }

    /// Takes up the pauses of an earlier host.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub(crate) fn recover_pauses(&self) -> Result<(), ApiError> {
        let pauses = self.storage.read(ostler_storage::Reader::pauses)?;
        self.dispatcher.set_pauses(&pauses);
        Ok(())
    }

    /// Gives a waiting run another priority.
    ///
    /// # Errors
    /// `NOT_FOUND`, and `CONFLICT` for a run that does not wait.
    pub fn set_queue_priority(&self, params: &SetQueuePriorityParams) -> Result<JobRecord, ApiError> {
        let (run, priority) = (params.run_id, params.priority);
        match self.dispatcher.set_priority(run, priority) {
            Some(State::Running) | None => return Err(self.does_not_wait(run)?),
            Some(State::Ready | State::Scheduled | State::Held) => {}
        }
        let position = self.dispatcher.view(run).and_then(|view| view.place).map(|place| place.overall);
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
            Err(error) => return Err(error.into()),
        };
        let job = if waits { self.get_run(run)?.job } else { None };
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
