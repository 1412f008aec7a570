//! Watches the configuration and the plugins for changes, and reloads them.
//!
//! There is no polling: an idle host sleeps. Events of the system are filtered when they arrive, and one thread handles
//! changes that have settled. The pending state has a fixed size, for any number of events.

mod points;
mod settle;

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use self::points::{Folder, Points, Subject};
use self::settle::{Change, Settling};
use ostler_config::{Overrides, Source};
use ostler_engine::{Engine, Files};

/// Time after which a missing or empty configuration counts as such. Some programs rewrite a file in two steps.
const BLANK: Duration = Duration::from_millis(400);

/// The watch over the files. Ends when it is dropped.
#[derive(Debug)]
pub(super) struct Watch(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    points: ArcSwap<Points>,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    config: Settling,
    plugins: Settling,
    /// The configuration is complete now, so read it before the next change.
    read_now: bool,
    /// Folders may have appeared or disappeared.
    trace: bool,
    problem: Option<String>,
    stop: bool,
}

/// The pending work.
#[derive(Debug, Default)]
struct Work {
    read_now: bool,
    trace: bool,
    config: bool,
    plugins: bool,
    problem: Option<String>,
}

impl Watch {
    /// A watch that is not started.
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// A callback that searches the folders to watch again, because a new configuration may name other folders.
    pub(super) fn tracer(&self) -> impl Fn() + Send + Sync + use<> {
        let shared = Arc::clone(&self.0);
        move || {
            shared.lock().trace = true;
            shared.wake.notify_one();
        }
    }

    /// Starts the watch. Changes since the engine read the files are handled at once.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(super) fn start(&self, engine: &Arc<Engine>) -> std::io::Result<()> {
        let shared = Arc::clone(&self.0);
        {
            let mut state = shared.lock();
            state.trace = true;
            let now = Instant::now();
            state.config.note(Change::Complete, now);
            state.plugins.note(Change::Complete, now);
        }
        let watcher =
            Worker { engine: Arc::downgrade(engine), shared, watcher: None, watched: BTreeSet::new(), seen: None };
        std::thread::Builder::new().name("watch".to_owned()).spawn(move || watcher.run()).map(drop)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.lock().stop = true;
        self.0.wake.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records an event of the system.
    fn record(&self, event: notify::Result<Event>) {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                self.lock().problem = Some(error.to_string());
                self.wake.notify_one();
                return;
            }
        };
        let Some(change) = change(&event) else { return };
        let points = self.points.load();
        let lost = event.need_rescan();
        let folder = event.paths.iter().any(|path| points.is_folder(path));
        let about = |subject| event.paths.iter().any(|path| points.subject(path) == Some(subject));
        let all = lost || folder;
        let (config, plugins) = (all || about(Subject::Config), all || about(Subject::Plugins));
        if !config && !plugins {
            return;
        }
        let now = Instant::now();
        let mut state = self.lock();
        if config {
            state.config.note(change, now);
            state.read_now |= change == Change::Complete;
        }
        if plugins {
            state.plugins.note(change, now);
        }
        state.trace |= all || !matches!(event.kind, EventKind::Access(_) | EventKind::Modify(ModifyKind::Data(_)));
        drop(state);
        self.wake.notify_one();
    }

    /// Sleeps until there is work. `None` when the watch ends.
    fn wait(&self) -> Option<Work> {
        let mut state = self.lock();
        loop {
            if state.stop {
                return None;
            }
            let now = Instant::now();
            let work = Work {
                read_now: std::mem::take(&mut state.read_now),
                trace: std::mem::take(&mut state.trace),
                config: state.config.take(now),
                plugins: state.plugins.take(now),
                problem: state.problem.take(),
            };
            if work.read_now || work.trace || work.config || work.plugins || work.problem.is_some() {
                return Some(work);
            }
            let due = [state.config.due(), state.plugins.due()].into_iter().flatten().min();
            state = match due {
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(due) => {
                    let nap = due.saturating_duration_since(now);
                    self.wake.wait_timeout(state, nap).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// The change of a file that an event reports; `None` if there is none.
fn change(event: &Event) -> Option<Change> {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(Change::Complete),
        EventKind::Access(_) => None,
        EventKind::Modify(ModifyKind::Data(_)) => Some(Change::Writing),
        // A new file will be written and then closed. A link is complete at once.
        EventKind::Create(_) if event.paths.iter().any(|path| is_plain_file(path)) => Some(Change::Writing),
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => {
            Some(Change::Complete)
        }
    }
}

fn is_plain_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_file() && metadata.nlink() == 1)
}

/// The thread that does the work.
struct Worker {
    engine: Weak<Engine>,
    shared: Arc<Shared>,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<Folder>,
    /// The last valid configuration that the file contained since the last reload.
    seen: Option<Source>,
}

impl Worker {
    fn run(mut self) {
        // Whether the file was missing or empty at the last check.
        let mut blank = false;
        while let Some(work) = self.shared.wait() {
            let Some(engine) = self.engine.upgrade() else { return };
            if let Some(problem) = work.problem {
                engine.reloader().set_watch_problem(Some(problem));
                // Set up all watches again.
                self.watcher = None;
            }
            if work.trace || self.watcher.is_none() {
                self.trace(&engine);
            }
            if work.read_now && !work.config {
                self.remember_valid_config(&engine);
            }
            let mut config = work.config;
            if config && !std::mem::take(&mut blank) && is_blank(&engine) {
                (config, blank) = (false, true);
                self.shared.lock().config.retry_after(BLANK, Instant::now());
            }
            if !config && !work.plugins {
                continue;
            }
            let seen = if config { self.seen.take() } else { None };
            // The engine records errors.
            let _ = engine.reloader().reload_changed(Files { config, seen });
        }
    }

    /// Remembers the current configuration if it is valid, in case that the next change makes it invalid.
    fn remember_valid_config(&mut self, engine: &Engine) {
        let Ok(source) = Source::read(engine.reloader().config_file()) else { return };
        // A file that is truncated and rewritten is empty for a moment.
        if !source.is_blank() && self.seen.as_ref() != Some(&source) && source.config(&Overrides::default()).is_ok() {
            self.seen = Some(source);
        }
    }

    /// Updates the watched folders.
    fn trace(&mut self, engine: &Engine) {
        // A folder that appears during the search is found by the next iteration.
        for _ in 0..8 {
            let points = Points::of(engine.reloader().config_file(), &engine.reloader().plugin_folder());
            if self.watcher.is_some() && points == **self.shared.points.load() {
                return;
            }
            self.shared.points.store(Arc::new(points.clone()));
            match self.watch(&points) {
                Ok(()) => engine.reloader().set_watch_problem(None),
                Err(error) => {
                    engine.reloader().set_watch_problem(Some(error.to_string()));
                    // The next requested reload tries again.
                    self.watcher = None;
                    return;
                }
            }
            let now = Instant::now();
            let mut state = self.shared.lock();
            state.config.note(Change::Complete, now);
            state.plugins.note(Change::Complete, now);
        }
    }

    fn watch(&mut self, points: &Points) -> notify::Result<()> {
        if self.watcher.is_none() {
            self.watched.clear();
            let shared = Arc::clone(&self.shared);
            self.watcher = Some(notify::recommended_watcher(move |event| shared.record(event))?);
        }
        let Some(watcher) = &mut self.watcher else { return Ok(()) };
        for gone in self.watched.difference(&points.folders) {
            // The folder may have been deleted, and its watch with it.
            let _ = watcher.unwatch(&gone.path);
        }
        self.watched.retain(|folder| points.folders.contains(folder));
        for new in &points.folders {
            if !self.watched.contains(new) {
                watch_folder(watcher, &new.path)?;
                self.watched.insert(new.clone());
            }
        }
        Ok(())
    }
}

fn watch_folder(watcher: &mut RecommendedWatcher, folder: &Path) -> notify::Result<()> {
    match watcher.watch(folder, RecursiveMode::NonRecursive) {
        // The folder was deleted meanwhile: the next search finds its replacement.
        Err(notify::Error { kind: notify::ErrorKind::PathNotFound, .. }) => Ok(()),
        other => other,
    }
}

/// Whether the configuration file is missing or empty while the active one is not.
fn is_blank(engine: &Engine) -> bool {
    let now = Source::read(engine.reloader().config_file());
    now.is_ok_and(|now| now.is_blank()) && !engine.reloader().config_source().is_blank()
}
