//! Retention: how long and how much is kept of ended runs, and the deletion of the rest.
//!
//! Looked after when the host starts and every hour, by a thread that sleeps in between. What goes is decided first
//! ([`plan`]), then deleted in slices of a few milliseconds, one write at a time, so that everybody else's writes come
//! in between; the file is made shorter in slices as well. An interruption leaves nothing that the next look would not
//! take: the plan is made again from what is there.

mod erase;
mod plan;
mod policy;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::setup::CurrentConfig;
use crate::spawn;
use ostler_protocol::methods::{RetentionState, SetRetentionParams, UnsetRetentionParams};
use ostler_protocol::{
    ApiError, ConversationId, ErrorKind, Problem, RetentionItem, RetentionPolicy, RetentionReport, RetentionScopeKind,
    RunId,
};
use ostler_storage::{
    Durability, PendingErasure, Reader, RetentionRow, RetentionScope, RunFilter, Slice, Storage, StorageError,
};
use ostler_test_hooks::clock;

use plan::{Plan, Usage, before, survey};
use policy::{Policies, ScopePolicy};

/// From one look to the next.
const PERIOD: Duration = Duration::from_secs(3600);
/// What one write deletes at most: a few milliseconds of the writer's time.
const SLICE: Slice = Slice { events: 500, bytes: 1 << 20 };
/// Runs, conversations or events without a run in one write.
const BATCH: usize = 64;
/// Pages of 4 KiB of each search index that one write rebuilds.
const INDEX_PAGES: u32 = 256;
/// Pages of 4 KiB that one write gives back to the file system.
const VACUUM_PAGES: u32 = 256;
/// Less free room in the file (bytes) is left for what comes.
const WORTH_VACUUM: u64 = 1 << 20;
/// Runs that a report lists.
const LISTED: usize = 1000;
/// Quiet conversations that one look goes through.
const CONVERSATIONS: u32 = 10_000;

/// Deletes runs: those beyond the limits of age and size, and those that a client deletes.
#[derive(Debug)]
pub struct RetentionService {
    storage: Storage,
    config: CurrentConfig,
    /// Held while something is deleted: one at a time.
    applying: Mutex<()>,
    results: Mutex<Results>,
    schedule: Arc<Schedule>,
}

/// What was found and done last.
#[derive(Debug, Default)]
struct Results {
    report: Option<RetentionReport>,
    /// What was counted last. It takes a look at every run that has ended.
    counted: Option<Counted>,
}

/// When the thread works, and whether there is one.
#[derive(Debug, Default)]
struct Schedule {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    running: bool,
    stop: bool,
}

/// What each scope held, and what it was counted from.
#[derive(Debug)]
struct Counted {
    version: u64,
    scopes: Vec<ScopePolicy>,
    usage: Vec<Usage>,
}

/// How rows are deleted.
#[derive(Clone, Copy, Debug)]
enum Deletion {
    /// What they said may stand in free pages until these are used again.
    Plain,
    /// Nothing of them stays.
    Erasing,
}

/// A conversation that goes if none of its runs is left.
#[derive(Debug)]
struct Quiet {
    id: ConversationId,
    /// It must not have changed since.
    before: Timestamp,
}

impl Schedule {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until the next look is due. `false` when the host ends.
    fn sleep(&self) -> bool {
        let state = self.lock();
        let (state, _) =
            self.changed.wait_timeout_while(state, PERIOD, |state| !state.stop).unwrap_or_else(PoisonError::into_inner);
        !state.stop
    }

    /// Ends the thread, and returns when it has ended.
    fn stop(&self) {
        let mut state = self.lock();
        state.stop = true;
        self.changed.notify_all();
        while state.running {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn stopping(&self) -> bool {
        self.lock().stop
    }
}

/// There is a thread, however it ends.
struct Running(Arc<Schedule>);

impl Running {
    fn new(schedule: &Arc<Schedule>) -> Self {
        schedule.lock().running = true;
        Self(Arc::clone(schedule))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.lock().running = false;
        self.0.changed.notify_all();
    }
}

impl RetentionService {
    pub(crate) fn new(storage: Storage, config: CurrentConfig) -> Self {
        Self { storage, config, applying: Mutex::default(), results: Mutex::default(), schedule: Arc::default() }
    }

    fn results(&self) -> MutexGuard<'_, Results> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the thread that enforces the limits.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(crate) fn start(self: &Arc<Self>) -> Result<(), ApiError> {
        let running = Running::new(&self.schedule);
        let service = Arc::clone(self);
        spawn("retention", move || {
            service.keep();
            // A caller that waits for the end of the thread needs the storage to be released.
            drop(service);
            drop(running);
        })
    }

    /// Ends the thread, and returns when it has released the storage: after its current write, at the latest.
    pub(crate) fn stop(&self) {
        self.schedule.stop();
    }

    fn keep(&self) {
        loop {
            // Once an hour, so that a search has little left to read before it can answer.
            if let Err(error) = self.until_done(|| self.storage.index_some()) {
                tracing::warn!(%error, "failed to read new texts for search; the next search tries again");
            }
            if let Err(error) = self.finish_erasing() {
                tracing::warn!(%error, "what was deleted is not erased from the files yet; the next try is in an hour");
            }
            match self.apply_limits(false, 0) {
                Ok(report) if report.runs + report.events + report.conversations > 0 => tracing::info!(
                    runs = report.runs,
                    bytes = report.bytes,
                    events = report.events,
                    conversations = report.conversations,
                    "retention has deleted what is too old or too much"
                ),
                Ok(_) => {}
                Err(error) => tracing::error!(%error, "retention could not be enforced; the next try is in an hour"),
            }
            if !self.schedule.sleep() {
                return;
            }
        }
    }

    /// What counts against each scope's megabytes; counted again when anything was written since.
    fn usage(&self, policies: &Policies) -> Result<Vec<Usage>, ApiError> {
        // Before the count: what is written meanwhile makes it old at once.
        let version = self.storage.version();
        let same = |counted: &&Counted| counted.version == version && counted.scopes == policies.scopes;
        if let Some(counted) = self.results().counted.as_ref().filter(same) {
            return Ok(counted.usage.clone());
        }
        let usage = survey(&self.storage, policies, clock::now())?.usage;
        let scopes = policies.scopes.clone();
        self.results().counted = Some(Counted { version, scopes, usage: usage.clone() });
        Ok(usage)
    }

    /// Every policy with what counts there, the global one first, and what was deleted last.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn get(&self) -> Result<RetentionState, ApiError> {
        let policies = self.policies()?;
        let usage = self.usage(&policies)?;
        let shown = policies.scopes.iter().zip(usage).map(|(policy, usage)| {
            let (scope, name) = named(&policy.scope);
            let ScopePolicy { days, megabytes, .. } = *policy;
            RetentionPolicy { scope, name, days, megabytes, runs: usage.runs, bytes: usage.bytes }
        });
        Ok(RetentionState { policies: shown.collect(), last: self.results().report.clone() })
    }

    /// Sets limits of a scope over those of the configuration's file; what is not given stays as it was. Takes effect at
    /// the next look.
    ///
    /// # Errors
    /// `INVALID_PARAMS` where no limit or no such scope is given, `NOT_FOUND` for a provider that neither the
    /// configuration nor any run knows.
    pub fn set(&self, params: &SetRetentionParams) -> Result<RetentionPolicy, ApiError> {
        let (days, megabytes) = (params.days, params.megabytes);
        let mut problems = Vec::new();
        let scope = scope_of(params.scope, params.name.as_deref(), &mut problems);
        if days.is_none() && megabytes.is_none() {
            let message = "give days or megabytes, or both; 0 is without limit".to_owned();
            problems.push(Problem { pointer: String::new(), message });
        }
        let Some(scope) = scope.filter(|_| problems.is_empty()) else {
            return Err(ApiError::invalid(problems));
        };
        if let RetentionScope::Provider(name) = &scope {
            self.known_provider(name)?;
        }
        let now = clock::now();
        let wanted = scope.clone();
        let write = self.storage.write_urgent(Durability::Full, move |tx| {
            let old = tx.retention_of(&wanted)?;
            let row = RetentionRow {
                scope: wanted.clone(),
                days: days.or(old.as_ref().and_then(|old| old.days)),
                megabytes: megabytes.or(old.and_then(|old| old.megabytes)),
                updated_at: now,
            };
            tx.put_retention(&row)
        });
        write.wait()?;
        let (kind, name) = named(&scope);
        let found = self.get()?.policies.into_iter().find(|policy| policy.scope == kind && policy.name == name);
        found.ok_or_else(|| ApiError::internal("the policy that was just set is not there"))
    }

    /// Takes back what was set for a scope: the configuration's file and the wider scopes hold.
    ///
    /// # Errors
    /// `INVALID_PARAMS` where no such scope can be, `NOT_FOUND` where nothing was set.
    pub fn unset(&self, params: &UnsetRetentionParams) -> Result<RetentionState, ApiError> {
        let mut problems = Vec::new();
        let Some(scope) = scope_of(params.scope, params.name.as_deref(), &mut problems) else {
            return Err(ApiError::invalid(problems));
        };
        let gone = scope.clone();
        if self.storage.write_urgent(Durability::Full, move |tx| tx.delete_retention(&gone)).wait()? {
            return self.get();
        }
        let what = match &scope {
            RetentionScope::Global => "all runs".to_owned(),
            RetentionScope::Provider(name) => format!("the provider {name}"),
            RetentionScope::Workspace(path) => path.display().to_string(),
        };
        Err(ApiError::new(ErrorKind::NotFound, format!("no retention policy was set for {what}"))
            .hint("limits of config.toml can be changed only there; `get_retention` shows all limits"))
    }

    /// Deletes what is too old or too much now, or says what would go.
    ///
    /// # Errors
    /// If the database cannot be read or written; what was deleted until then is gone.
    pub fn apply(&self, dry_run: bool) -> Result<RetentionReport, ApiError> {
        self.apply_limits(dry_run, LISTED)
    }

    fn apply_limits(&self, dry_run: bool, listed: usize) -> Result<RetentionReport, ApiError> {
        let _one = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::now();
        let policies = self.policies()?;
        let plan = survey(&self.storage, &policies, now)?;
        let quiet = self.quiet_conversations(&policies, &plan, now)?;
        let mut report = RetentionReport {
            dry_run,
            at: now,
            runs: plan.victims.len() as u64,
            bytes: plan.victims.iter().map(|victim| victim.bytes).sum::<u64>()
                + plan.loose.map_or(0, |loose| loose.bytes),
            events: plan.loose.map_or(0, |loose| loose.events),
            conversations: quiet.len() as u64,
            items: self.items(&policies, &plan, listed)?,
            files_left: Vec::new(),
            complete: true,
        };
        if dry_run {
            return Ok(report);
        }
        report.complete = self.delete(&plan, &quiet, &mut report.files_left)?;
        self.results().report = Some(RetentionReport { items: Vec::new(), ..report.clone() });
        Ok(report)
    }

    fn policies(&self) -> Result<Policies, ApiError> {
        let rows = self.storage.read(Reader::retention)?;
        Ok(Policies::new(&self.config.load().config, &rows))
    }

    fn known_provider(&self, name: &str) -> Result<(), ApiError> {
        let active = self.config.load();
        let Err(unknown) = active.provider(name) else { return Ok(()) };
        let filter = RunFilter { provider: Some(name.to_owned()), ..RunFilter::default() };
        let runs = self.storage.read(|reader| reader.runs(&filter, 1, 0))?;
        if runs.total > 0 { Ok(()) } else { Err(unknown.at("/name")) }
    }

    /// Conversations in which nothing is left and nothing has happened for as long as their runs are kept.
    fn quiet_conversations(&self, policies: &Policies, plan: &Plan, now: Timestamp) -> Result<Vec<Quiet>, ApiError> {
        let Some(shortest) = policies.shortest_days() else { return Ok(Vec::new()) };
        let latest = before(now, shortest);
        let found = self.storage.read(|reader| reader.quiet_conversations(latest, CONVERSATIONS))?;
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let gone: std::collections::HashSet<RunId> = plan.victims.iter().map(|victim| victim.run_id).collect();
        let quiet = found.into_iter().filter_map(|found| {
            let folder = found.cwd.as_deref().unwrap_or(Path::new("/"));
            let before = before(now, policies.of(&found.provider, folder).days.value?);
            let empty = found.runs.iter().all(|run| gone.contains(run));
            (empty && found.updated_at < before).then_some(Quiet { id: found.conversation_id, before })
        });
        Ok(quiet.collect())
    }

    fn items(&self, policies: &Policies, plan: &Plan, listed: usize) -> Result<Vec<RetentionItem>, ApiError> {
        let mut items = Vec::new();
        for victims in plan.victims.get(..listed.min(plan.victims.len())).unwrap_or_default().chunks(BATCH) {
            let summaries = self.storage.read(|reader| {
                victims.iter().map(|victim| reader.run_summary(victim.run_id)).collect::<Result<Vec<_>, _>>()
            })?;
            for (victim, summary) in victims.iter().zip(summaries) {
                let (Some(summary), Some(policy)) = (summary, policies.scopes.get(victim.scope)) else { continue };
                let (scope, name) = named(&policy.scope);
                items.push(RetentionItem {
                    run_id: victim.run_id,
                    provider: summary.provider,
                    title: summary.title,
                    cwd: summary.cwd,
                    ended_at: summary.ended_at.unwrap_or(summary.created_at),
                    bytes: victim.bytes,
                    rule: victim.rule,
                    scope,
                    name,
                });
            }
        }
        Ok(items)
    }

    /// Deletes what was decided. `false` where the host's end came first.
    fn delete(&self, plan: &Plan, quiet: &[Quiet], files_left: &mut Vec<PathBuf>) -> Result<bool, StorageError> {
        for victims in plan.victims.chunks(BATCH) {
            let runs: Vec<RunId> = victims.iter().map(|victim| victim.run_id).collect();
            if !self.delete_runs(&runs, Deletion::Plain, files_left)? {
                return Ok(false);
            }
        }
        if let Some(loose) = plan.loose {
            let limit = u32::try_from(BATCH).unwrap_or(u32::MAX);
            let done = self.until_done(|| {
                let write =
                    self.storage.write(Durability::Batched, move |tx| tx.delete_loose_events(loose.through, limit));
                Ok(write.wait()? < BATCH)
            })?;
            if !done {
                return Ok(false);
            }
        }
        for conversations in quiet.chunks(BATCH) {
            if self.schedule.stopping() {
                return Ok(false);
            }
            let conversations: Vec<_> = conversations.iter().map(|quiet| (quiet.id, quiet.before)).collect();
            let write = self.storage.write(Durability::Batched, move |tx| {
                conversations.iter().try_for_each(|(id, before)| tx.delete_quiet_conversation(*id, *before).map(drop))
            });
            write.wait()?;
        }
        // Until then the words of what was deleted stay in the search index.
        let had_words = !plan.victims.is_empty() || !quiet.is_empty();
        let purge = || self.storage.write(Durability::Batched, |tx| tx.purge_texts(INDEX_PAGES)).wait();
        if had_words && !self.until_done(purge)? {
            return Ok(false);
        }
        self.give_room_back()
    }

    /// Repeats a short write until it says that it is done. `false` where the host's end came first.
    fn until_done(&self, mut write: impl FnMut() -> Result<bool, StorageError>) -> Result<bool, StorageError> {
        loop {
            if self.schedule.stopping() {
                return Ok(false);
            }
            if write()? {
                return Ok(true);
            }
        }
    }

    /// Deletes ended runs with their files in the host's folders. `false` where the host's end came first.
    fn delete_runs(&self, runs: &[RunId], how: Deletion, files_left: &mut Vec<PathBuf>) -> Result<bool, StorageError> {
        // Files first: a run that is still on record after an interruption is deleted by the next look, a file that
        // nothing names would stay.
        for run in runs {
            for file in self.storage.read(|reader| reader.kept_files(*run))? {
                match std::fs::remove_file(&file) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        tracing::warn!(file = %file.display(), %error, "a file of a deleted run was left");
                        files_left.push(file);
                    }
                    _ => {}
                }
            }
        }
        let mut left = runs.to_vec();
        while !left.is_empty() {
            if self.schedule.stopping() {
                return Ok(false);
            }
            let runs = left.clone();
            let write = self.storage.write(Durability::Batched, move |tx| match how {
                Deletion::Plain => tx.delete_runs(&runs, SLICE),
                Deletion::Erasing => tx.erasing(|tx| {
                    for run in &runs {
                        tx.begin_erasure(PendingErasure::Run(*run))?;
                    }
                    tx.delete_runs(&runs, SLICE)
                }),
            });
            let gone = write.wait()?;
            left.drain(..gone.min(left.len()));
        }
        Ok(true)
    }

    /// Makes the file shorter by what is free in it.
    fn give_room_back(&self) -> Result<bool, StorageError> {
        if self.storage.read(Reader::sizes)?.free < WORTH_VACUUM {
            return Ok(true);
        }
        self.until_done(|| Ok(self.storage.write(Durability::Batched, |tx| tx.vacuum(VACUUM_PAGES)).wait()? == 0))
    }
}

/// A scope as the interface names it.
fn named(scope: &RetentionScope) -> (RetentionScopeKind, Option<String>) {
    match scope {
        RetentionScope::Global => (RetentionScopeKind::Global, None),
        RetentionScope::Provider(name) => (RetentionScopeKind::Provider, Some(name.clone())),
        RetentionScope::Workspace(path) => (RetentionScopeKind::Workspace, Some(path.display().to_string())),
    }
}

/// The scope that the interface names; notes what is wrong with it.
fn scope_of(kind: RetentionScopeKind, name: Option<&str>, problems: &mut Vec<Problem>) -> Option<RetentionScope> {
    let mut wrong = |message: &str| {
        problems.push(Problem { pointer: "/name".to_owned(), message: message.to_owned() });
        None
    };
    match (kind, name) {
        (RetentionScopeKind::Global, None) => Some(RetentionScope::Global),
        (RetentionScopeKind::Global, Some(_)) => wrong("the global scope has no name"),
        (RetentionScopeKind::Provider, Some(name)) if !name.is_empty() => {
            Some(RetentionScope::Provider(name.to_owned()))
        }
        (RetentionScopeKind::Provider, _) => wrong("must name a provider"),
        (RetentionScopeKind::Workspace, Some(name)) if Path::new(name).is_absolute() && !name.contains('\0') => {
            // Runs work in folders whose links were resolved. One that is gone may still have runs.
            let path = Path::new(name);
            let plain = || path.components().collect();
            Some(RetentionScope::Workspace(path.canonicalize().unwrap_or_else(|_| plain())))
        }
        (RetentionScopeKind::Workspace, _) => wrong("must name a folder by its absolute path"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::test_support::Fixture;

    #[test]
    fn scopes_are_named_as_they_are_meant() {
        let scope = |kind, name| {
            let mut problems = Vec::new();
            let scope = scope_of(kind, name, &mut problems);
            assert_eq!(scope.is_none(), !problems.is_empty());
            scope
        };
        use RetentionScopeKind::{Global, Provider, Workspace};
        assert_eq!(scope(Global, None), Some(RetentionScope::Global));
        assert_eq!(scope(Global, Some("codex")), None);
        assert_eq!(scope(Provider, None), None);
        assert_eq!(scope(Provider, Some("")), None);
        assert_eq!(scope(Workspace, Some("here")), None);
        let gone = scope(Workspace, Some("/no/such/./folder/"));
        assert_eq!(gone, Some(RetentionScope::Workspace(PathBuf::from("/no/such/folder"))));
        for (kind, name) in [(Global, None), (Provider, Some("codex")), (Workspace, Some("/"))] {
            let (back, called) = named(&scope(kind, name).unwrap());
            assert_eq!((back, called.as_deref()), (kind, name));
        }
    }

    #[test]
    fn the_sleep_ends_when_the_host_does() {
        let schedule = Arc::new(Schedule::default());
        let running = Running::new(&schedule);
        let thread = std::thread::spawn(move || running.0.sleep());
        schedule.stop();
        assert!(!thread.join().unwrap());
    }

    fn service(fixture: &Fixture) -> RetentionService {
        RetentionService::new(fixture.storage.clone(), fixture.config.clone())
    }

    /// A run that ended so many days ago.
    fn ended_run(fixture: &Fixture, days: i64) -> RunId {
        let run = fixture.insert_run("codex");
        fixture.end_run(run, clock::now() - jiff::SignedDuration::from_hours(24 * days), Some("the answer"));
        run
    }

    fn is_kept(fixture: &Fixture, run: RunId) -> bool {
        fixture.storage.read(|reader| reader.run_status(run)).unwrap().is_some()
    }

    #[test]
    fn dry_run_lists_what_is_too_old_and_deletes_nothing() {
        let fixture = Fixture::with_config("[retention]\ndays = 2\n");
        let (service, old, new) = (service(&fixture), ended_run(&fixture, 3), ended_run(&fixture, 1));
        let report = service.apply(true).unwrap();
        assert_eq!(report.items.iter().map(|item| item.run_id).collect::<Vec<_>>(), [old]);
        assert!(is_kept(&fixture, old) && service.get().unwrap().last.is_none());
        assert_eq!(service.apply(false).unwrap().runs, 1);
        assert!(!is_kept(&fixture, old) && is_kept(&fixture, new));
        assert_eq!(service.get().unwrap().last.map(|report| report.runs), Some(1));
    }

    #[test]
    fn limit_that_was_set_holds_until_it_is_unset() {
        let fixture = Fixture::with_config("[retention]\ndays = 2\n");
        let (service, old) = (service(&fixture), ended_run(&fixture, 3));
        let scope = RetentionScopeKind::Global;
        let params = SetRetentionParams { scope, name: None, days: Some(0), megabytes: None };
        let policy = service.set(&params).unwrap();
        assert_eq!(policy.days.map(|limit| limit.value), Some(0), "no limit");
        assert_eq!(service.apply(true).unwrap().runs, 0);
        let params = UnsetRetentionParams { scope, name: None };
        service.unset(&params).unwrap();
        assert_eq!(service.apply(true).unwrap().items[0].run_id, old);
        assert_eq!(service.unset(&params).unwrap_err().kind, ErrorKind::NotFound);
    }

    #[test]
    fn limits_of_a_provider_need_one_that_is_configured_or_has_runs() {
        let fixture = Fixture::new();
        let service = service(&fixture);
        let set = |provider: &str| {
            let (scope, name) = (RetentionScopeKind::Provider, Some(provider.to_owned()));
            service.set(&SetRetentionParams { scope, name, days: Some(1), megabytes: None })
        };
        assert_eq!(set("codex").unwrap().name.as_deref(), Some("codex"));
        let error = set("former").unwrap_err();
        assert_eq!((error.kind, error.pointer.as_deref()), (ErrorKind::NotFound, Some("/name")));
        fixture.insert_run("former");
        assert_eq!(set("former").unwrap().name.as_deref(), Some("former"));
    }

    #[test]
    fn usage_is_counted_anew_when_a_run_has_ended_since() {
        let fixture = Fixture::new();
        let service = service(&fixture);
        let runs = || service.get().unwrap().policies[0].runs;
        assert_eq!(runs(), 0);
        ended_run(&fixture, 1);
        assert_eq!(runs(), 1);
    }

    #[test]
    fn nothing_is_deleted_once_the_host_ends() {
        let fixture = Fixture::with_config("[retention]\ndays = 2\n");
        let (service, old) = (service(&fixture), ended_run(&fixture, 3));
        service.stop();
        assert!(!service.apply(false).unwrap().complete);
        assert_eq!(service.delete_run(old).unwrap_err().kind, ErrorKind::Conflict);
        assert!(is_kept(&fixture, old));
    }
}
