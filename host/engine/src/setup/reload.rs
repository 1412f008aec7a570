//! Activates another configuration, other plugins or other settings while the host runs.
//!
//! There is one change at a time, and it is atomic: a run that starts uses either the old configuration or the new one.
//! Only other changes wait for a change: plugins are compiled and rules are read before anything is replaced.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::audit::{AuditEntry, AuditLog};
use crate::capabilities::Capabilities;
use crate::queue::dispatch::Dispatcher;
use crate::redactors::Redactors;
use crate::setup::decide::{Decision, decide, plugin_folder};
use crate::setup::trust::store_plugin_files;
use crate::setup::{ActiveConfig, CurrentConfig};
use ostler_config::{Config, ConfigError, ConfigErrors, Overrides, Paths, Source, file_key, needs_restart};
use ostler_plugin_host::{PluginChange, PluginChangeKind};
use ostler_protocol::methods::{PluginChangeInfo, Reload, ReloadProblem, ReloadTrigger};
use ostler_protocol::{ApiError, AuditKind, Problem};
use ostler_redaction::RunRedactor;
use ostler_storage::Storage;

/// Reloads that `get_status` lists.
const MAX_LISTED: usize = 10;

/// Keys and problems that one reload lists.
const MOST_NAMED: usize = 50;

/// Applies the active configuration to what is outside of the engine. Returns the problems.
pub type Follow = Box<dyn Fn(&Config, RunRedactor) -> Vec<String> + Send + Sync>;

/// The sources of the active configuration, and the reports of its changes.
pub(crate) struct ReloadState {
    /// Locked during a change.
    sources: Mutex<AppliedSources>,
    reports: Mutex<Reports>,
    follow: Follow,
    /// Number of changes.
    generation: watch::Sender<u64>,
}

/// What the active configuration was made of.
pub(crate) struct AppliedSources {
    pub(crate) source: Source,
    pub(crate) set: Overrides,
    /// Digests of the approved provider plugins.
    pub(crate) approved: BTreeSet<String>,
}

/// What is to be activated.
pub(crate) struct Change {
    pub(crate) decision: Decision,
    pub(crate) trigger: ReloadTrigger,
    /// The problems of the current file; `None` if it was not read.
    pub(crate) file: Option<Vec<ReloadProblem>>,
}

/// Which files have changed.
#[derive(Debug, Default)]
pub struct Files {
    /// Whether the configuration is among them. If not, it is not read: it may be incomplete at this moment.
    pub config: bool,
    /// A valid version of the configuration that existed for a moment. It is activated if the current one is invalid.
    pub seen: Option<Source>,
}

/// A configuration that is valid by itself.
struct Candidate {
    source: Source,
    config: Config,
    unfit: Vec<ConfigError>,
}

/// What `get_status` reports.
#[derive(Default)]
struct Reports {
    /// Newest first.
    reloads: VecDeque<Reload>,
    /// Why the current file is not active.
    file: Vec<ReloadProblem>,
    /// Settings that are stored but not active.
    set: Vec<String>,
    plugins: Vec<String>,
    follow: Vec<String>,
    /// Why changes of files are not noticed.
    watch: Option<String>,
    /// Problems that other parts of the host have reported.
    reported: Vec<String>,
}

/// The state at the start of the host.
pub(crate) struct InitialState {
    pub(crate) source: Source,
    pub(crate) set: Overrides,
    pub(crate) approved: BTreeSet<String>,
    pub(crate) unfit: Vec<ConfigError>,
    pub(crate) problems: Vec<String>,
    pub(crate) follow: Follow,
}

impl ReloadState {
    pub(crate) fn new(initial: InitialState) -> Self {
        let InitialState { source, set, approved, unfit, problems, follow } = initial;
        let reports = Reports { plugins: problems, set: unfit_texts(&unfit), ..Reports::default() };
        Self {
            sources: Mutex::new(AppliedSources { source, set, approved }),
            reports: Mutex::new(reports),
            follow,
            generation: watch::channel(0).0,
        }
    }

    /// Begins a change: waits until no other change is in progress.
    fn begin(&self) -> MutexGuard<'_, AppliedSources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reports(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a problem that exists until the host ends.
    pub(crate) fn report(&self, problem: String) {
        self.reports().reported.push(problem);
    }

    /// Passes the active configuration to those outside of the engine.
    pub(crate) fn follow(&self, config: &CurrentConfig, redactors: &Redactors) {
        let unfollowed = (self.follow)(&config.load().config, redactors.for_log());
        self.reports().follow = unfollowed;
    }

    /// Replaces the settings that are stored but not active.
    fn set_inactive_settings(&self, unfit: &[ConfigError]) {
        self.reports().set = unfit_texts(unfit);
    }

    /// The last reloads, newest first.
    pub(crate) fn reloads(&self) -> Vec<Reload> {
        self.reports().reloads.iter().cloned().collect()
    }

    /// The current problems, for people.
    pub(crate) fn problems(&self, active: &ActiveConfig) -> Vec<String> {
        let reports = self.reports();
        let file = |problem: &ReloadProblem| format!("{problem}; the last valid configuration stays active");
        let mut problems: Vec<String> = reports.file.iter().map(file).collect();
        problems.extend(reports.set.iter().cloned());
        problems.extend(reports.plugins.iter().cloned());
        problems.extend(active.failures.iter().map(|failure| failure.message.clone()));
        problems.extend(active.registry.disabled().map(|(kind, name, reason)| {
            let kind = kind.as_str();
            format!("the {kind} {name} is disabled: {reason}; `reload()` tries it again")
        }));
        problems.extend(reports.follow.iter().cloned());
        problems.extend(reports.watch.iter().cloned());
        problems.extend(reports.reported.iter().cloned());
        problems
    }
}

/// Replaces the active configuration when files or settings change.
pub struct Reloader {
    pub(crate) state: Arc<ReloadState>,
    pub(crate) storage: Storage,
    pub(crate) config: CurrentConfig,
    pub(crate) redactors: Redactors,
    pub(crate) paths: Paths,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) capabilities: Arc<Capabilities>,
    pub(crate) audit: Arc<AuditLog>,
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").finish_non_exhaustive()
    }
}

impl Reloader {
    /// Reads the configuration and the plugin folder again, and activates what has changed. Runs that start after this
    /// call use it; active runs keep the configuration with which they started. Disabled plugins are tried again.
    ///
    /// # Errors
    /// If the configuration could not be activated: `INVALID_PARAMS` with every problem and its position, or `IO` if it
    /// cannot be read. Changed plugins are activated nevertheless.
    pub fn reload(&self, trigger: ReloadTrigger) -> Result<Reload, ApiError> {
        for plugin in self.config.load().registry.reinstate() {
            tracing::info!(plugin, "a disabled plugin is tried again");
        }
        self.reload_from(trigger, Files { config: true, seen: None })
    }

    /// Reloads because files have changed.
    ///
    /// # Errors
    /// As [`reload`](Self::reload).
    pub fn reload_changed(&self, files: Files) -> Result<Reload, ApiError> {
        self.reload_from(ReloadTrigger::File, files)
    }

    fn reload_from(&self, trigger: ReloadTrigger, files: Files) -> Result<Reload, ApiError> {
        let Files { config: read_config, seen } = files;
        let mut sources = self.state.begin();
        let current = self.config.load();
        let mut read = |source: Source| {
            let (config, unfit) = source.config_with_fitting(&sources.set)?;
            Ok(Candidate { source, config, unfit })
        };
        let source = if read_config { Source::read(&self.paths.config_file) } else { Ok(sources.source.clone()) };
        let (candidate, mut error) = match source.and_then(&mut read) {
            Ok(candidate) => (Some(candidate), None),
            Err(errors) => {
                (seen.and_then(|seen| read(seen).ok()), Some((file_problems(&errors), errors.to_api_error())))
            }
        };
        let config = candidate.as_ref().map_or(&current.config, |candidate| &candidate.config);
        let decision = decide(&current, config, &self.paths, &sources.approved);
        if !decision.faults.is_empty() {
            let problems: Vec<_> = decision.faults.iter().map(|fault| positioned(fault, config)).collect();
            let listed = problems.iter().map(ReloadProblem::to_problem).collect();
            let refused = ApiError::invalid(listed).hint("the previous configuration stays active");
            error.get_or_insert((problems, refused));
        }
        let (problems, error) = error.map_or_else(|| (Vec::new(), None), |(problems, error)| (problems, Some(error)));
        let activated = decision.faults.is_empty();
        let reload = self.activate(&current, Change { decision, trigger, file: read_config.then_some(problems) });
        if let Some(Candidate { source, unfit, .. }) = candidate.filter(|_| activated) {
            self.state.set_inactive_settings(&unfit);
            sources.source = source;
        }
        match error {
            None => Ok(reload),
            Some(error) => Err(error),
        }
    }

    /// Activates a configuration, notifies everything that depends on it, and records the change.
    pub(crate) fn activate(&self, before: &Arc<ActiveConfig>, change: Change) -> Reload {
        let Change { decision: Decision { active, plugins, .. }, trigger, file } = change;
        let active = Arc::new(active);
        let changes = active.registry.changes_since(&before.registry);
        let mut changed = active.config.changed_keys(&before.config);
        let restart: Vec<String> = changed.iter().filter(|key| needs_restart(key)).cloned().collect();
        let more = changed.len().saturating_sub(MOST_NAMED);
        changed.truncate(MOST_NAMED);
        let reload = self.clean_reload(Reload {
            at: ostler_test_hooks::clock::now(),
            trigger,
            ok: file.as_ref().is_none_or(Vec::is_empty),
            changed,
            more_changed: more as u64,
            restart,
            plugins: changes.iter().map(change_info).collect(),
            problems: file.iter().flatten().take(MOST_NAMED).cloned().collect(),
        });
        let nothing_new = reload.changed.is_empty() && reload.plugins.is_empty() && reload.ok;
        self.config.store(Arc::clone(&active));
        if active.registry.known_files() != before.registry.known_files() {
            store_plugin_files(&self.storage, &active.registry);
        }
        self.dispatcher.set_limits(active.limits());
        self.state.follow(&self.config, &self.redactors);
        let repaired = {
            let mut reports = self.state.reports();
            let repaired = file.as_ref().is_some_and(Vec::is_empty) && !reports.file.is_empty();
            if let Some(problems) = file {
                reports.file = problems;
            }
            reports.plugins = plugins.iter().map(ToString::to_string).collect();
            if !nothing_new || repaired || trigger != ReloadTrigger::File {
                reports.reloads.push_front(reload.clone());
                reports.reloads.truncate(MAX_LISTED);
            }
            repaired
        };
        if nothing_new && !repaired && trigger == ReloadTrigger::File {
            return reload;
        }
        log(&reload);
        self.audit_reload(&reload);
        if !nothing_new {
            self.capabilities.forget();
            self.state.generation.send_modify(|count| *count += 1);
            self.capabilities.look_at_clis();
        }
        reload
    }

    /// Records in the audit trail which settings were changed without a request, and which plugins have changed.
    fn audit_reload(&self, reload: &Reload) {
        if reload.trigger != ReloadTrigger::Settings && !reload.changed.is_empty() {
            let entry = AuditEntry::by_host(AuditKind::Settings).fact("trigger", reload.trigger);
            self.audit.append(entry.fact("changed", &reload.changed));
        }
        for plugin in &reload.plugins {
            let entry = AuditEntry::by_host(AuditKind::Plugin).fact("name", &plugin.name).fact("kind", &plugin.kind);
            self.audit.append(entry.fact("change", &plugin.change).fact("trigger", reload.trigger));
        }
    }

    /// The same without secrets: the reasons come from plugins.
    fn clean_reload(&self, mut reload: Reload) -> Reload {
        let redactor = self.redactors.for_diagnostics();
        let clean = |text: &mut String| *text = redactor.redact(text).text.into_owned();
        reload.changed.iter_mut().for_each(clean);
        reload.plugins.iter_mut().filter_map(|plugin| plugin.reason.as_mut()).for_each(clean);
        reload.problems.iter_mut().for_each(|problem| {
            clean(&mut problem.message);
            clean(&mut problem.pointer);
            clean(&mut problem.key);
        });
        reload
    }

    /// Begins a change of the sources: waits until no other change is in progress.
    pub(crate) fn begin(&self) -> MutexGuard<'_, AppliedSources> {
        self.state.begin()
    }

    /// Replaces the settings that are stored but not active, as the status reports them.
    pub(crate) fn set_inactive_settings(&self, unfit: &[ConfigError]) {
        self.state.set_inactive_settings(unfit);
    }

    /// The number of changes of the active configuration.
    #[must_use]
    pub fn generation(&self) -> watch::Receiver<u64> {
        self.state.generation.subscribe()
    }

    /// The configuration file, whether or not it exists.
    #[must_use]
    pub fn config_file(&self) -> &Path {
        &self.paths.config_file
    }

    /// The folder of the operator's plugins, whether or not it exists.
    #[must_use]
    pub fn plugin_folder(&self) -> PathBuf {
        plugin_folder(&self.config.load().config.plugins, &self.paths).to_owned()
    }

    /// The configuration file as it was when it was activated.
    #[must_use]
    pub fn config_source(&self) -> Source {
        self.state.begin().source.clone()
    }

    /// Sets why changes of files are not noticed; `None` if they are.
    pub fn set_watch_problem(&self, problem: Option<String>) {
        if let Some(problem) = &problem {
            tracing::warn!(problem, "changes of files are not noticed");
        }
        let hint = "changes of the configuration and of plugins are not noticed until `reload()`";
        self.state.reports().watch = problem.map(|problem| format!("{hint}: {problem}"));
    }
}

/// The problems of a file, with their positions.
fn file_problems(errors: &ConfigErrors) -> Vec<ReloadProblem> {
    let problem = |error: &ConfigError| {
        let hint = error.hint.as_deref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        ReloadProblem {
            pointer: error.pointer.clone(),
            key: error.key.clone(),
            line: error.position.map(|at| at.line as u64),
            column: error.position.map(|at| at.column as u64),
            message: format!("{}{hint}", error.message),
        }
    };
    errors.errors().iter().map(problem).collect()
}

/// A problem of a file, with its position.
fn positioned(fault: &Problem, config: &Config) -> ReloadProblem {
    let position = config.sources().position(&fault.pointer).map(|(position, _)| position);
    ReloadProblem {
        pointer: fault.pointer.clone(),
        key: file_key(&fault.pointer),
        line: position.map(|at| at.line as u64),
        column: position.map(|at| at.column as u64),
        message: fault.message.clone(),
    }
}

/// The settings that are stored but not active, for people.
fn unfit_texts(unfit: &[ConfigError]) -> Vec<String> {
    let text = |error: &ConfigError| {
        let key = file_key(&error.pointer);
        format!("the setting {key} is not active: {}; `update_settings({key})` resets it", error.message)
    };
    unfit.iter().map(text).collect()
}

fn change_info(change: &PluginChange) -> PluginChangeInfo {
    PluginChangeInfo {
        name: change.name.clone(),
        kind: change.kind.map(|kind| kind.as_str().to_owned()),
        change: match change.change {
            PluginChangeKind::Added => "added",
            PluginChangeKind::Removed => "removed",
            PluginChangeKind::Replaced => "replaced",
            PluginChangeKind::Kept => "kept",
            PluginChangeKind::Refused => "refused",
            PluginChangeKind::Waiting => "waiting",
        }
        .to_owned(),
        reason: change.reason.clone(),
    }
}

/// Logs a line for the reload, and one for each problem.
fn log(reload: &Reload) {
    let plugins: Vec<String> =
        reload.plugins.iter().map(|plugin| format!("{} {}", plugin.name, plugin.change)).collect();
    let (changed, plugins) = (reload.changed.join(" "), plugins.join(", "));
    let trigger = reload.trigger.name();
    if !reload.restart.is_empty() {
        tracing::warn!(keys = reload.restart.join(" "), "active after the next start of the host");
    }
    if reload.ok {
        tracing::info!(trigger, changed, plugins, "reloaded");
    } else {
        tracing::warn!(trigger, changed, plugins, "the configuration is not activated; the previous one stays active");
    }
    for problem in &reload.problems {
        tracing::warn!(%problem, "configuration");
    }
    for plugin in &reload.plugins {
        if let Some(reason) = &plugin.reason {
            tracing::warn!(plugin = plugin.name, change = plugin.change, reason, "plugin");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::test_support::{Fixture, Services};
    use ostler_protocol::ErrorKind;

    fn write_config(fixture: &Fixture, text: &str) {
        let file = fixture.paths().config_file;
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn global_limit(fixture: &Fixture) -> usize {
        fixture.config.load().config.scheduler.global
    }

    #[test]
    fn valid_file_is_activated_and_an_invalid_one_keeps_the_previous_configuration() {
        let fixture = Fixture::new();
        let reloader = Services::new(&fixture).reloader(&fixture);
        let generation = reloader.generation();
        write_config(&fixture, "[scheduler]\nglobal = 7\n");
        let reload = reloader.reload(ReloadTrigger::Request).unwrap();
        assert!(reload.ok && reload.changed.contains(&"scheduler.global".to_owned()), "{:?}", reload.changed);
        assert_eq!((global_limit(&fixture), *generation.borrow()), (7, 1));
        write_config(&fixture, "[scheduler]\nglobal = \"many\"\n");
        let error = reloader.reload(ReloadTrigger::Request).unwrap_err();
        assert_eq!((error.kind, global_limit(&fixture)), (ErrorKind::InvalidParams, 7));
        let problems = reloader.state.problems(&fixture.config.load());
        assert!(problems.iter().any(|problem| problem.contains("scheduler.global")), "{problems:?}");
        assert_eq!(reloader.state.reloads().iter().map(|reload| reload.ok).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn valid_file_that_existed_for_a_moment_replaces_an_invalid_one() {
        let fixture = Fixture::new();
        let reloader = Services::new(&fixture).reloader(&fixture);
        write_config(&fixture, "[scheduler]\nglobal = 5\n");
        let seen = Source::read(reloader.config_file()).unwrap();
        write_config(&fixture, "[scheduler]\nglobal = -5\n");
        assert!(reloader.reload_changed(Files { config: true, seen: Some(seen.clone()) }).is_err());
        assert_eq!((global_limit(&fixture), reloader.config_source()), (5, seen));
    }

    #[test]
    fn change_of_a_file_that_changes_nothing_is_not_listed() {
        let fixture = Fixture::new();
        let reloader = Services::new(&fixture).reloader(&fixture);
        reloader.reload(ReloadTrigger::Request).unwrap();
        let listed = reloader.state.reloads().len();
        reloader.reload_changed(Files { config: true, seen: None }).unwrap();
        assert_eq!(reloader.state.reloads().len(), listed);
    }
}
