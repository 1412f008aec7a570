//! Putting another configuration, other plugins or other settings in force while the host runs.
//!
//! One change at a time, and as a whole: what a run takes when it begins is either all old or all new. Nothing waits for
//! a change but another change: plugins are compiled and rules are read before anything is swapped.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::Engine;
use crate::audit::AuditEntry;
use crate::redactors::Redactors;
use crate::setup::decide::{Decision, decide, plugin_folder};
use crate::setup::{ActiveConfig, CurrentConfig};
use ostler_config::{Config, ConfigError, ConfigErrors, Overrides, Source, file_key, needs_restart};
use ostler_plugin_host::{PluginChange, PluginChangeKind};
use ostler_protocol::methods::{PluginChangeInfo, Reload, ReloadProblem, ReloadTrigger};
use ostler_protocol::{ApiError, AuditKind, Problem};
use ostler_redaction::RunRedactor;

/// Reloads that `get_status` lists.
const MAX_LISTED: usize = 10;

/// Keys and problems that one reload lists.
const MOST_NAMED: usize = 50;

/// Called with what is in force now. Says what of it could not be followed.
pub type Follow = Box<dyn Fn(&Config, RunRedactor) -> Vec<String> + Send + Sync>;

/// What is in force, as far as it is not in [`ActiveConfig`], and how it came to be.
pub(crate) struct Reloading {
    /// Held while something is put in force.
    basis: Mutex<AppliedSources>,
    reports: Mutex<Reports>,
    follow: Follow,
    /// Counts what was put in force.
    generation: watch::Sender<u64>,
}

/// What the configuration in force was made of.
pub(crate) struct AppliedSources {
    pub(crate) source: Source,
    pub(crate) set: Overrides,
    /// Digests of the provider plugins that somebody has approved.
    pub(crate) approved: BTreeSet<String>,
}

/// What is to come in force.
pub(crate) struct Change {
    pub(crate) decision: Decision,
    pub(crate) trigger: ReloadTrigger,
    /// What is wrong with the file as it is now; none if it was not read.
    pub(crate) file: Option<Vec<ReloadProblem>>,
}

/// Which files have changed.
#[derive(Debug, Default)]
pub struct Files {
    /// Whether the configuration is among them. If not, it is not read: it may be being written at this moment.
    pub config: bool,
    /// A valid configuration that was there for a moment meanwhile. It comes in force where the one that is there now is
    /// at fault.
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
    /// Why the file as it is now is not in force.
    file: Vec<ReloadProblem>,
    /// What was set and is not in force.
    set: Vec<String>,
    plugins: Vec<String>,
    follow: Vec<String>,
    /// Why changes of files are not noticed.
    watch: Option<String>,
    /// What somebody else has reported.
    reported: Vec<String>,
}

/// What an engine begins with.
pub(crate) struct InitialState {
    pub(crate) source: Source,
    pub(crate) set: Overrides,
    pub(crate) approved: BTreeSet<String>,
    pub(crate) unfit: Vec<ConfigError>,
    pub(crate) problems: Vec<String>,
    pub(crate) follow: Follow,
}

impl Reloading {
    pub(crate) fn new(beginning: InitialState) -> Self {
        let InitialState { source, set, approved, unfit, problems, follow } = beginning;
        let reports = Reports { plugins: problems, set: unfit_texts(&unfit), ..Reports::default() };
        Self {
            basis: Mutex::new(AppliedSources { source, set, approved }),
            reports: Mutex::new(reports),
            follow,
            generation: watch::channel(0).0,
        }
    }

    /// Waits until nobody else changes what is in force.
    pub(crate) fn begin(&self) -> MutexGuard<'_, AppliedSources> {
        self.basis.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reports(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something that is wrong until the host ends.
    pub(crate) fn report(&self, problem: String) {
        self.reports().reported.push(problem);
    }

    /// Passes the active configuration to those outside of the engine.
    pub(crate) fn follow(&self, config: &CurrentConfig, redactors: &Redactors) {
        let unfollowed = (self.follow)(&config.load().config, redactors.for_log());
        self.reports().follow = unfollowed;
    }

    /// Names what was set and is not in force.
    pub(crate) fn tell_unfit(&self, unfit: &[ConfigError]) {
        self.reports().set = unfit_texts(unfit);
    }

    /// The last reloads, newest first.
    pub(crate) fn reloads(&self) -> Vec<Reload> {
        self.reports().reloads.iter().cloned().collect()
    }

    /// What is wrong at present, for people.
    pub(crate) fn problems(&self, setup: &ActiveConfig) -> Vec<String> {
        let reports = self.reports();
        let file = |problem: &ReloadProblem| format!("{problem}; the last valid configuration stays active");
        let mut problems: Vec<String> = reports.file.iter().map(file).collect();
        problems.extend(reports.set.iter().cloned());
        problems.extend(reports.plugins.iter().cloned());
        problems.extend(setup.failures.iter().map(|failure| failure.message.clone()));
        problems.extend(setup.registry.disabled().map(|(kind, name, reason)| {
            let kind = kind.as_str();
            format!("the {kind} {name} is disabled: {reason}; `reload()` tries it again")
        }));
        problems.extend(reports.follow.iter().cloned());
        problems.extend(reports.watch.iter().cloned());
        problems.extend(reports.reported.iter().cloned());
        problems
    }
}

impl Engine {
    /// Reads the configuration and looks at the plugin folder again, and puts in force what has changed. What begins
    /// after this returns has it; what runs keeps what it began with. Plugins that were set aside are tried again.
    ///
    /// # Errors
    /// Where the configuration could not be taken over: `INVALID_PARAMS` with every problem and its place, or `IO` where
    /// it cannot be read. Plugins that have changed are in force all the same.
    pub fn reload(self: &Arc<Self>, trigger: ReloadTrigger) -> Result<Reload, ApiError> {
        for plugin in self.config.load().registry.reinstate() {
            tracing::info!(plugin, "a plugin that was set aside is tried again");
        }
        self.reload_from(trigger, Files { config: true, seen: None })
    }

    /// The same because files have changed.
    ///
    /// # Errors
    /// As [`reload`](Self::reload).
    pub fn reload_changed(self: &Arc<Self>, files: Files) -> Result<Reload, ApiError> {
        self.reload_from(ReloadTrigger::File, files)
    }

    fn reload_from(self: &Arc<Self>, trigger: ReloadTrigger, files: Files) -> Result<Reload, ApiError> {
        let Files { config: again, seen } = files;
        let mut basis = self.reloading.begin();
        let current = self.config.load();
        let mut read = |source: Source| {
            let (config, unfit) = source.config_with_fitting(&basis.set)?;
            Ok(Candidate { source, config, unfit })
        };
        let source = if again { Source::read(&self.paths.config_file) } else { Ok(basis.source.clone()) };
        let (wanted, mut error) = match source.and_then(&mut read) {
            Ok(candidate) => (Some(candidate), None),
            Err(errors) => {
                (seen.and_then(|seen| read(seen).ok()), Some((file_problems(&errors), errors.to_api_error())))
            }
        };
        let config = wanted.as_ref().map_or(&current.config, |wanted| &wanted.config);
        let decision = decide(&current, config, &self.paths, &basis.approved);
        if !decision.faults.is_empty() {
            let problems: Vec<_> = decision.faults.iter().map(|fault| placed(fault, config)).collect();
            let listed = problems.iter().map(ReloadProblem::to_problem).collect();
            let refused = ApiError::invalid(listed).hint("the previous configuration stays active");
            error.get_or_insert((problems, refused));
        }
        let (problems, error) = error.map_or_else(|| (Vec::new(), None), |(problems, error)| (problems, Some(error)));
        let taken = decision.faults.is_empty();
        let reload = self.put_in_force(&current, Change { decision, trigger, file: again.then_some(problems) });
        if let Some(Candidate { source, unfit, .. }) = wanted.filter(|_| taken) {
            self.reloading.tell_unfit(&unfit);
            basis.source = source;
        }
        match error {
            None => Ok(reload),
            Some(error) => Err(error),
        }
    }

    /// Activates a configuration, notifies everything that depends on it, and records the change.
    pub(crate) fn put_in_force(self: &Arc<Self>, before: &Arc<ActiveConfig>, change: Change) -> Reload {
        let Change { decision: Decision { setup, plugins, .. }, trigger, file } = change;
        let setup = Arc::new(setup);
        let changes = setup.registry.changes_since(&before.registry);
        let mut changed = setup.config.changed_keys(&before.config);
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
        self.config.store(Arc::clone(&setup));
        if setup.registry.known_files() != before.registry.known_files() {
            self.remember_plugin_files(&setup);
        }
        self.dispatcher.set_limits(setup.limits());
        self.reloading.follow(&self.config, &self.redactors);
        let mended = {
            let mut reports = self.reloading.reports();
            let mended = file.as_ref().is_some_and(Vec::is_empty) && !reports.file.is_empty();
            if let Some(problems) = file {
                reports.file = problems;
            }
            reports.plugins = plugins.iter().map(ToString::to_string).collect();
            if !nothing_new || mended || trigger != ReloadTrigger::File {
                reports.reloads.push_front(reload.clone());
                reports.reloads.truncate(MAX_LISTED);
            }
            mended
        };
        if nothing_new && !mended && trigger == ReloadTrigger::File {
            return reload;
        }
        log(&reload);
        self.audit_reload(&reload);
        if !nothing_new {
            self.capabilities.forget();
            self.reloading.generation.send_modify(|count| *count += 1);
            self.capabilities.look_at_clis();
        }
        reload
    }

    /// Puts on record what is in force by another way than a request, and which plugins are not what they were.
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

    /// The same without secrets: plugins say why they were kept or refused in words of their own.
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

    /// Word of each change of what is in force.
    #[must_use]
    pub fn in_force(&self) -> watch::Receiver<u64> {
        self.reloading.generation.subscribe()
    }

    /// The configuration file, whether or not it exists.
    #[must_use]
    pub fn config_file(&self) -> &Path {
        &self.paths.config_file
    }

    /// The folder of the operator's plugins that is in force, whether or not it exists.
    #[must_use]
    pub fn plugin_folder(&self) -> PathBuf {
        plugin_folder(&self.config.load().config.plugins, &self.paths).to_owned()
    }

    /// The file as it was when it came in force.
    #[must_use]
    pub fn config_source(&self) -> Source {
        self.reloading.begin().source.clone()
    }

    /// Sets why changes of files are not noticed; `None` if they are.
    pub fn watching(&self, problem: Option<String>) {
        if let Some(problem) = &problem {
            tracing::warn!(problem, "changes of files are not noticed");
        }
        let hint = "changes of the configuration and of plugins are not noticed until `reload()`";
        self.reloading.reports().watch = problem.map(|problem| format!("{hint}: {problem}"));
    }
}

/// The problems of a file, with their places.
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

/// A problem of what a file says, with the place where it says so.
fn placed(fault: &Problem, config: &Config) -> ReloadProblem {
    let position = config.sources().position(&fault.pointer).map(|(position, _)| position);
    ReloadProblem {
        pointer: fault.pointer.clone(),
        key: file_key(&fault.pointer),
        line: position.map(|at| at.line as u64),
        column: position.map(|at| at.column as u64),
        message: fault.message.clone(),
    }
}

/// What was set and does not fit any more.
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

/// A line for the reload, and one for each problem.
fn log(reload: &Reload) {
    let plugins: Vec<String> =
        reload.plugins.iter().map(|plugin| format!("{} {}", plugin.name, plugin.change)).collect();
    let (changed, plugins) = (reload.changed.join(" "), plugins.join(", "));
    let trigger = reload.trigger.name();
    if !reload.restart.is_empty() {
        tracing::warn!(keys = reload.restart.join(" "), "in force when the host starts again");
    }
    if reload.ok {
        tracing::info!(trigger, changed, plugins, "reloaded");
    } else {
        tracing::warn!(trigger, changed, plugins, "the configuration is not taken over; what was in force stays");
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
