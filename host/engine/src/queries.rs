//! What clients ask about, and what they ask to be changed besides runs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Engine;
use crate::setup::plugin_info;
use crate::submit::timestamp;
use ostler_protocol::methods::{
    ListCapabilitiesParams, ListJobsParams, ListPluginsResult, ListRunsParams, RunEventsParams, RunEventsResult,
};
use ostler_protocol::{
    ApiError, CapabilitySnapshot, ErrorKind, JobRecord, JobState, Page, RunId, RunRecord, RunSummary, Support,
    WaitReason,
};
use ostler_scheduler::{JobView, State, Wait};
use ostler_storage::{EventFilter, ReadLimit, RunFilter, Storage};

/// Runs on a page where nothing is said.
const DEFAULT_PAGE: u32 = 50;

impl Engine {
    /// A run with everything that is known of it.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub fn get_run(&self, run: RunId) -> Result<RunRecord, ApiError> {
        let record = self.storage.read(|reader| reader.run(run))?;
        let mut record = record.ok_or_else(|| ApiError::not_found("run", run))?;
        if let Some(job) = record.job.as_mut().filter(|job| job.state != JobState::Done)
            && let Some(view) = self.dispatcher.view(run)
        {
            place(job, &view);
            self.add_dependencies(job);
        }
        Ok(record)
    }

    /// Runs, newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn list_runs(&self, params: &ListRunsParams) -> Result<Page<RunSummary>, ApiError> {
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
        Ok(self.storage.read(|reader| reader.runs(&filter, limit, params.offset.unwrap_or(0)))?)
    }

    /// Events of a run.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub fn run_events(&self, params: &RunEventsParams) -> Result<RunEventsResult, ApiError> {
        let filter = EventFilter { run_id: Some(params.run_id), ..EventFilter::default() };
        let limit = ReadLimit {
            events: params.limit.map_or(500, |limit| usize::try_from(limit).unwrap_or(500)),
            ..ReadLimit::default()
        };
        let page = self.storage.read(|reader| {
            let known = reader.run_status(params.run_id)?.is_some();
            let page = reader.events_after(params.after.unwrap_or(0), &filter, limit)?;
            Ok(known.then_some(page))
        })?;
        let page = page.ok_or_else(|| ApiError::not_found("run", params.run_id))?;
        Ok(RunEventsResult { events: page.events, more: page.more })
    }

    /// Jobs that have not ended, in the order in which they leave.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn list_jobs(&self, params: &ListJobsParams) -> Result<Vec<JobRecord>, ApiError> {
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

    /// What the installed CLIs can do.
    ///
    /// # Errors
    /// `NOT_FOUND` for a provider that there is not.
    pub fn list_capabilities(
        self: &Arc<Self>,
        params: &ListCapabilitiesParams,
    ) -> Result<Vec<CapabilitySnapshot>, ApiError> {
        let caller = Some(&params.client_environment).filter(|variables| !variables.is_empty());
        let mut found = self.snapshots(params.provider.as_deref(), params.refresh.unwrap_or(false), caller)?;
        found.sort_by_key(|snapshot| (snapshot.support == Support::Blocked, snapshot.provider.clone()));
        Ok(found)
    }

    /// The plugins and the provider instances that they make.
    pub fn list_plugins(&self) -> ListPluginsResult {
        let redactor = self.redactors.for_diagnostics();
        let clean = |text: Option<String>| text.map(|text| redactor.redact(&text).text.into_owned());
        let setup = self.config.load();
        let plugins = setup.registry.list().into_iter().map(|plugin| {
            let failure = plugin.kind.and_then(|kind| setup.failure(kind, &plugin.name));
            let mut plugin = plugin_info(plugin, failure);
            plugin.reason = clean(plugin.reason);
            plugin.displaced = clean(plugin.displaced);
            plugin
        });
        let providers = setup.providers.values().map(|provider| provider.describe()).map(|mut provider| {
            provider.problem = clean(provider.problem);
            provider
        });
        ListPluginsResult { plugins: plugins.collect(), providers: providers.collect() }
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
    job.position = view.place.map(|place| place.overall as u64);
    job.reason = view.wait.map(|wait| match wait {
        Wait::Time => WaitReason::Scheduled,
        Wait::Delay => WaitReason::Retry,
        Wait::Blocked => WaitReason::Dependency,
        Wait::Series => WaitReason::Conversation,
        Wait::Paused => WaitReason::Paused,
        Wait::LanePaused => WaitReason::ProviderPaused,
        Wait::LaneParked => WaitReason::RateLimited,
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
