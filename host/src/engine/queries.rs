//! What clients ask about, and what they ask to be changed besides runs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Engine;
use super::dispatch::Found;
use super::setup::plugin_info;
use super::submit::timestamp;
use crate::api::types::{
    CancelResult, ListCapabilitiesParams, ListJobsParams, ListPluginsResult, ListRunsParams, PROTOCOL, RunEventsParams,
    RunEventsResult, Status, StopResult,
};
use crate::clock;
use crate::model::{
    ApiError, CapabilitySnapshot, ErrorKind, Grant, JobRecord, JobState, Page, RunId, RunRecord, RunSummary, Support,
    WaitReason,
};
use crate::scheduler::{JobView, State, Wait};
use crate::storage::{Durability, EventFilter, ReadLimit, RunFilter};

/// Runs on a page where nothing is said.
const DEFAULT_PAGE: u32 = 50;

/// How long a run may be nowhere, and the pause between two looks.
const LONGEST_MOVE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

impl Engine {
    /// Ends a run, and returns when it has ended.
    ///
    /// # Errors
    /// `NOT_FOUND`, and `INTERNAL` for a run that is on record as going on while nobody has it.
    pub(crate) fn cancel_run(&self, run: RunId) -> Result<CancelResult, ApiError> {
        let mut had_ended = true;
        let mut last_found = Instant::now();
        loop {
            let found = self.dispatcher.cancel(run);
            let lost = matches!(found, Found::Nowhere);
            had_ended &= lost;
            match found {
                Found::Waiting(live) => self.end_waiting(&live),
                Found::Live(live) => _ = live.wait(),
                // Its acknowledgement is being written at this moment, and it ends right after.
                Found::Reserved => std::thread::yield_now(),
                Found::Nowhere => {}
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

    /// A run with everything that is known of it.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(crate) fn get_run(&self, run: RunId) -> Result<RunRecord, ApiError> {
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
    pub(crate) fn list_runs(&self, params: &ListRunsParams) -> Result<Page<RunSummary>, ApiError> {
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
        self.make_ready_for(filter.search.as_deref())?;
        let limit = u64::from(params.limit.unwrap_or(DEFAULT_PAGE));
        Ok(self.storage.read(|reader| reader.runs(&filter, limit, params.offset.unwrap_or(0)))?)
    }

    /// Before a search: reads what it would not find yet.
    ///
    /// # Errors
    /// If the database cannot be read or written.
    pub(super) fn make_ready_for(&self, search: Option<&str>) -> Result<(), ApiError> {
        if search.is_some() {
            self.storage.index_texts()?;
        }
        Ok(())
    }

    /// Events of a run.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(crate) fn run_events(&self, params: &RunEventsParams) -> Result<RunEventsResult, ApiError> {
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
    pub(crate) fn list_jobs(&self, params: &ListJobsParams) -> Result<Vec<JobRecord>, ApiError> {
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
    pub(crate) fn list_capabilities(
        self: &Arc<Self>,
        params: &ListCapabilitiesParams,
    ) -> Result<Vec<CapabilitySnapshot>, ApiError> {
        let caller = Some(&params.client_environment).filter(|variables| !variables.is_empty());
        let mut found = self.snapshots(params.provider.as_deref(), params.refresh.unwrap_or(false), caller)?;
        found.sort_by_key(|snapshot| (snapshot.support == Support::Blocked, snapshot.provider.clone()));
        Ok(found)
    }

    /// The folders in which runs may work.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub(crate) fn list_grants(&self) -> Result<Vec<Grant>, ApiError> {
        Ok(self.storage.read(crate::storage::Reader::grants)?)
    }

    /// Lets runs work in a folder and below. `trust_settings` says whether the folder's own settings of agent CLIs count;
    /// without it that stays as it is.
    ///
    /// # Errors
    /// `CWD_MISSING` if it is not a folder, `INVALID_PARAMS` if it is not named absolutely or is the root.
    pub(crate) fn grant(&self, path: &Path, trust_settings: Option<bool>) -> Result<Grant, ApiError> {
        let wrong = |message: &str| ApiError::new(ErrorKind::InvalidParams, message).at("/path");
        if !path.is_absolute() {
            return Err(wrong("the folder must be named by an absolute path"));
        }
        let resolved = super::check::working_folder(path).map_err(|error| error.at("/path"))?;
        if resolved.parent().is_none() {
            return Err(wrong("the root folder cannot be granted: it would allow everything"));
        }
        if resolved.to_str().is_none() {
            return Err(wrong("the folder's name is not valid UTF-8"));
        }
        let now = clock::now();
        Ok(self
            .storage
            .write_urgent(Durability::Full, move |tx| tx.add_grant(&resolved, trust_settings, now))
            .wait()?)
    }

    /// Takes a grant back. Runs that are running go on.
    ///
    /// # Errors
    /// `NOT_FOUND` with the grants that there are.
    pub(crate) fn revoke(&self, path: &Path) -> Result<Grant, ApiError> {
        let grants = self.list_grants()?;
        let resolved = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let found = grants.iter().find(|grant| grant.path == path || grant.path == resolved);
        let Some(grant) = found.cloned() else {
            let covering = grants.iter().find(|grant| resolved.starts_with(&grant.path));
            let hint = covering.map_or_else(
                || "see `ostler grant list`".to_owned(),
                |grant| format!("it is covered by the grant of {}", grant.path.display()),
            );
            return Err(ApiError::not_found("grant of", path.display()).at("/path").hint(hint));
        };
        let gone = grant.path.clone();
        self.storage.write_urgent(Durability::Full, move |tx| tx.revoke_grant(&gone)).wait()?;
        Ok(grant)
    }

    /// The plugins and the provider instances that they make.
    pub(crate) fn list_plugins(&self) -> ListPluginsResult {
        let redactor = self.diagnostics_redactor();
        let clean = |text: Option<String>| text.map(|text| redactor.redact(&text).text.into_owned());
        let setup = self.setup();
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

    /// How the host is.
    pub(crate) fn status(&self) -> Status {
        let setup = self.setup();
        let (counts, pauses) = (self.dispatcher.counts(), self.dispatcher.pauses());
        let mut problems = self.reloading.problems(&setup);
        problems.extend(self.tokens.problems());
        problems.extend(self.storage.trouble().map(|trouble| trouble.to_string()));
        let redactor = self.diagnostics_redactor();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL,
            pid: std::process::id(),
            started_at: self.started_at,
            background: self.background,
            data_folder: self.paths.data_dir.clone(),
            socket: self.paths.socket.clone(),
            http: self.http.get().cloned(),
            log_file: crate::host::log_file(&self.paths),
            config_file: self.paths.config_file.clone(),
            running: counts.running as u64,
            ready: counts.ready as u64,
            scheduled: counts.scheduled as u64,
            held: counts.held as u64,
            queue_paused: pauses.all,
            paused_providers: pauses.lanes.into_iter().collect(),
            global_limit: u32::try_from(setup.config.scheduler.global).unwrap_or(u32::MAX),
            capacity: u32::try_from(setup.config.scheduler.capacity).unwrap_or(u32::MAX),
            subscribers: self.subscribers.load(Ordering::Relaxed) as u64,
            cursor: *self.storage.events_watch().borrow(),
            token_store: self.tokens.describe(setup.config.tokens.store),
            seal_key: format!("file {}", self.sealer.key_file().display()),
            sandbox: Some(self.sandbox_support()),
            problems: problems.iter().map(|problem| redactor.redact(problem).text.into_owned()).collect(),
            reloads: self.reloading.reloads(),
        }
    }

    /// Asks the host to end.
    ///
    /// # Errors
    /// `CONFLICT` if it is to end only when idle and is not.
    pub(crate) fn request_stop(&self, if_idle: bool) -> Result<StopResult, ApiError> {
        let counts = self.dispatcher.counts();
        let (running, waiting) = (counts.running as u64, (counts.ready + counts.scheduled + counts.held) as u64);
        // From here on nothing is taken: whoever was told that the host ends is not told afterwards that it took a run.
        let closed = if if_idle { self.dispatcher.close_if_idle() } else { self.dispatcher.close() };
        if !closed {
            let message = format!("the host is busy: {running} running, {waiting} waiting");
            return Err(ApiError::new(ErrorKind::Conflict, message)
                .retryable(true)
                .hint("`ostler queue` shows what runs and waits"));
        }
        self.stop.send_replace(true);
        Ok(StopResult { stopping: true, running, waiting })
    }
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
