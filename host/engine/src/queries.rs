//! What clients ask about runs and the queue.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::queue::dispatch::Dispatcher;
use crate::session::approvals::Approvals;
use crate::submit::timestamp;
use ostler_protocol::methods::{ListJobsParams, ListRunsParams, RunEventsParams, RunEventsResult};
use ostler_protocol::{
    ApiError, ErrorKind, JobRecord, JobState, Page, RunId, RunRecord, RunStatus, RunSummary, WaitReason, WaitingFor,
};
use ostler_scheduler::{JobView, State, Wait};
use ostler_storage::{EventFilter, ReadLimit, RunFilter, Storage};

/// Runs on a page where nothing is said.
const DEFAULT_PAGE: u32 = 50;

/// Finds runs, their events and their jobs. What only the queue knows of a waiting run is added to what is stored.
#[derive(Clone, Debug)]
pub struct RunQueries {
    storage: Storage,
    dispatcher: Arc<Dispatcher>,
    approvals: Approvals,
}

impl RunQueries {
    pub(crate) const fn new(storage: Storage, dispatcher: Arc<Dispatcher>, approvals: Approvals) -> Self {
        Self { storage, dispatcher, approvals }
    }

    /// A run with everything that is known of it.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub fn get(&self, run: RunId) -> Result<RunRecord, ApiError> {
        let record = self.storage.read(|reader| reader.run(run))?;
        let mut record = record.ok_or_else(|| ApiError::not_found("run", run))?;
        if let Some(job) = record.job.as_mut().filter(|job| job.state != JobState::Done)
            && let Some(view) = self.dispatcher.view(run)
        {
            place(job, &view);
            self.add_dependencies(job);
        }
        self.add_waiting(&mut record.summary);
        Ok(record)
    }

    /// Runs, newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn list(&self, params: &ListRunsParams) -> Result<Page<RunSummary>, ApiError> {
        let cwd = params.cwd.as_deref().map(folder_of_filter).transpose()?;
        let filter = RunFilter {
            provider: params.provider.clone(),
            status: params.status,
            conversation_id: params.conversation_id,
            cwd,
            from: params.date_from,
            until: params.date_to,
            search: params.search.clone(),
        };
        index_before_search(&self.storage, filter.search.as_deref())?;
        let limit = u64::from(params.limit.unwrap_or(DEFAULT_PAGE));
        let mut page = self.storage.read(|reader| reader.runs(&filter, limit, params.offset.unwrap_or(0)))?;
        page.items.iter_mut().for_each(|run| self.add_waiting(run));
        Ok(page)
    }

    /// Adds what a run waits for, which only the queue and the open approvals know.
    fn add_waiting(&self, run: &mut RunSummary) {
        let waiting = match run.status {
            RunStatus::Running => self.approvals.waiting(run.run_id),
            RunStatus::Queued => self.dispatcher.view(run.run_id).and_then(|view| view.wait).map(|wait| {
                let what = match wait {
                    Wait::LanePausedUntil => WaitingFor::Quota,
                    _ => WaitingFor::Slot,
                };
                // A further attempt waits since the earlier one has ended, which is not recorded.
                (what, run.started_at.unwrap_or(run.created_at))
            }),
            _ => None,
        };
        (run.waiting_for, run.waiting_since) = waiting.unzip();
    }

    /// Events of a run.
    ///
    /// # Errors
    /// `NOT_FOUND`, or `INVALID_PARAMS` if both `after` and `before` are given.
    pub fn events(&self, params: &RunEventsParams) -> Result<RunEventsResult, ApiError> {
        if params.after.is_some() && params.before.is_some() {
            let message = "cannot be combined with `after`: a page begins after a cursor or ends before one";
            return Err(ApiError::new(ErrorKind::InvalidParams, message).at("/before"));
        }
        let filter = EventFilter { run_id: Some(params.run_id), ..EventFilter::default() };
        let limit = ReadLimit {
            events: params.limit.map_or(500, |limit| usize::try_from(limit).unwrap_or(500)),
            ..ReadLimit::default()
        };
        let page = self.storage.read(|reader| {
            let known = reader.run_status(params.run_id)?.is_some();
            if !known {
                return Ok(None);
            }
            match params.before {
                Some(before) => reader.run_events_before(params.run_id, before, limit),
                None => reader.events_after(params.after.unwrap_or(0), &filter, limit),
            }
            .map(Some)
        })?;
        let page = page.ok_or_else(|| ApiError::not_found("run", params.run_id))?;
        Ok(RunEventsResult { events: page.events, more: page.more })
    }

    /// Jobs that have not ended, in the order in which they leave.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn jobs(&self, params: &ListJobsParams) -> Result<Vec<JobRecord>, ApiError> {
        // The queue first: what has left it since is on record as ended by then, and is not shown as waiting.
        let snapshot = self.dispatcher.snapshot();
        let mut jobs = self.storage.read(|reader| reader.open_jobs(None))?;
        let views: HashMap<RunId, &JobView<RunId>> = snapshot.jobs.iter().map(|view| (view.id, view)).collect();
        for job in &mut jobs {
            if let Some(view) = views.get(&job.run_id) {
                place(job, view);
                self.add_dependencies(job);
            }
        }
        jobs.retain(|job| params.state.is_none_or(|state| state == job.state));
        let rank = |job: &JobRecord| match job.state {
            JobState::Running => 0,
            JobState::Ready => 1,
            JobState::Scheduled | JobState::Retrying => 2,
            JobState::Held => 3,
            JobState::Done => 4,
        };
        jobs.sort_by_key(|job| {
            // One without a place has come since.
            let position = job.position.unwrap_or(u64::MAX);
            (rank(job), position, job.not_before.unwrap_or(job.enqueued_at))
        });
        Ok(jobs)
    }

    fn add_dependencies(&self, job: &mut JobRecord) {
        if job.reason == Some(WaitReason::Dependency) {
            job.waits_for = self.dispatcher.waits_for(job.run_id);
        }
    }
}

/// Before a search: reads what it would not find yet.
///
/// # Errors
/// If the database cannot be read or written.
pub(crate) fn index_before_search(storage: &Storage, search: Option<&str>) -> Result<(), ApiError> {
    if search.is_some() {
        storage.index_texts()?;
    }
    Ok(())
}

/// A folder as runs have it: links resolved. One that is gone may still have runs.
fn folder_of_filter(path: &Path) -> Result<PathBuf, ApiError> {
    if !path.is_absolute() || path.to_str().is_none_or(|path| path.contains('\0')) {
        let message = "must be an absolute path";
        return Err(ApiError::new(ErrorKind::InvalidParams, message).at("/cwd"));
    }
    Ok(path.canonicalize().unwrap_or_else(|_| path.components().collect()))
}

/// Adds to the record of a job what only the queue knows.
fn place(job: &mut JobRecord, view: &JobView<RunId>) {
    job.position = view.position.map(|position| position.overall as u64);
    job.reason = view.wait.map(|wait| match wait {
        Wait::Time => WaitReason::Scheduled,
        Wait::Delay => WaitReason::Retry,
        Wait::Blocked => WaitReason::Dependency,
        Wait::Series => WaitReason::Conversation,
        Wait::Paused => WaitReason::Paused,
        Wait::LanePaused => WaitReason::ProviderPaused,
        Wait::LanePausedUntil => WaitReason::RateLimited,
        Wait::LaneFull => WaitReason::ProviderLimit,
        Wait::Full => WaitReason::GlobalLimit,
    });
    job.effective_priority = (view.state == State::Ready).then_some(view.effective_priority);
    match view.state {
        State::Running => job.state = JobState::Running,
        // Its time has come since it was stored.
        State::Ready => job.state = JobState::Ready,
        State::Held => job.state = JobState::Held,
        State::Scheduled => job.not_before = view.due.map(timestamp).or(job.not_before),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::test_support::{Fixture, dispatcher, enqueue};
    use ostler_protocol::StartAfter;
    use ostler_storage::StoredPauses;

    fn queries(fixture: &Fixture) -> RunQueries {
        RunQueries::new(fixture.storage.clone(), Arc::new(dispatcher()), Approvals::default())
    }

    #[test]
    fn waiting_run_is_shown_with_its_position_and_what_it_waits_for() {
        let fixture = Fixture::new();
        let queries = queries(&fixture);
        let [first, second] = [(); 2].map(|()| fixture.insert_run("codex"));
        let after = StartAfter { run_ids: vec![first], even_if_failed: false };
        enqueue(&queries.dispatcher, first, None);
        enqueue(&queries.dispatcher, second, Some(&after));
        let job = |run| queries.get(run).unwrap().job.unwrap();
        assert_eq!((job(first).position, job(first).state), (Some(1), JobState::Ready));
        let blocked = job(second);
        assert_eq!((blocked.reason, blocked.waits_for), (Some(WaitReason::Dependency), vec![first]));
        queries.dispatcher.set_pauses(&StoredPauses { all: true, change: 1, ..StoredPauses::default() });
        assert_eq!(job(first).reason, Some(WaitReason::Paused));
    }

    #[test]
    fn jobs_are_listed_in_the_order_in_which_they_leave_the_queue() {
        let fixture = Fixture::new();
        let queries = queries(&fixture);
        let [first, second, third] = [(); 3].map(|()| fixture.insert_run("codex"));
        [first, second, third].iter().for_each(|run| enqueue(&queries.dispatcher, *run, None));
        queries.dispatcher.set_priority(third, 5);
        let listed = |state| {
            let jobs = queries.jobs(&ListJobsParams { state }).unwrap();
            jobs.into_iter().map(|job| job.run_id).collect::<Vec<_>>()
        };
        assert_eq!(listed(None), [third, first, second]);
        assert_eq!(listed(Some(JobState::Running)), []);
    }

    #[test]
    fn events_of_an_unknown_run_are_not_found_and_those_of_a_quiet_one_are_empty() {
        let fixture = Fixture::new();
        let queries = queries(&fixture);
        let events = |run_id| queries.events(&RunEventsParams { run_id, after: None, before: None, limit: None });
        let error = events(RunId::generate()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound);
        let run = fixture.insert_run("codex");
        let before = events(run).unwrap().events.len();
        fixture.end_run(run, jiff::Timestamp::UNIX_EPOCH, None);
        let after = events(run).unwrap();
        assert_eq!((after.events.len(), after.more), (before + 1, false));
    }

    #[test]
    fn folder_of_a_filter_is_resolved_and_must_be_absolute() {
        let fixture = Fixture::new();
        let queries = queries(&fixture);
        let run = fixture.insert_run("codex");
        let link = fixture.folder().join("link");
        std::os::unix::fs::symlink(fixture.folder(), &link).unwrap();
        let list =
            |cwd: &Path| queries.list(&ListRunsParams { cwd: Some(cwd.to_owned()), ..ListRunsParams::default() });
        assert_eq!(list(&link).unwrap().items.iter().map(|found| found.run_id).collect::<Vec<_>>(), [run]);
        assert_eq!(list(&fixture.make_folder("other")).unwrap().total, 0);
        assert_eq!(list(Path::new("link")).unwrap_err().pointer.as_deref(), Some("/cwd"));
    }
}
