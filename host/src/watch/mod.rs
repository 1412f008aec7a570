//! Notices changes of the configuration and of the plugins, and has them put in force.
//!
//! Nothing is polled: a host without anything to do sleeps. What the system tells is filtered where it arrives, and one
//! thread takes up what has settled; however much happens, no more is kept than what is to be done.

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
use self::settle::{Happening, Settling};
use ostler_config::{Overrides, Source};
use ostler_engine::{Engine, Files};

/// A configuration that is gone, or empty, is believed to be so after this: some programs make a file anew in two steps.
const BLANK: Duration = Duration::from_millis(400);

/// The watch over files; it ends when this is dropped.
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
    /// The configuration is complete at this moment: worth a look, before the next change comes.
    look: bool,
    /// Folders may have come or gone.
    trace: bool,
    problem: Option<String>,
    stop: bool,
}

/// What there is to do.
#[derive(Debug, Default)]
struct Work {
    look: bool,
    trace: bool,
    config: bool,
    plugins: bool,
    problem: Option<String>,
}

impl Watch {
    /// A watch over nothing yet.
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// Has the folders looked for again: another configuration may name others.
    pub(super) fn tracer(&self) -> impl Fn() + Send + Sync + use<> {
        let shared = Arc::clone(&self.0);
        move || {
            shared.lock().trace = true;
            shared.wake.notify_one();
        }
    }

    /// Begins. What has changed since the engine read it is taken up at once.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub(super) fn start(&self, engine: &Arc<Engine>) -> std::io::Result<()> {
        let shared = Arc::clone(&self.0);
        {
            let mut state = shared.lock();
            state.trace = true;
            let now = Instant::now();
            state.config.note(Happening::Complete, now);
            state.plugins.note(Happening::Complete, now);
        }
        let watcher =
            Keeper { engine: Arc::downgrade(engine), shared, watcher: None, watched: BTreeSet::new(), seen: None };
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

    /// Takes down what the system tells.
    fn hear(&self, told: notify::Result<Event>) {
        let event = match told {
            Ok(event) => event,
            Err(error) => {
                self.lock().problem = Some(error.to_string());
                self.wake.notify_one();
                return;
            }
        };
        let Some(happening) = happening(&event) else { return };
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
            state.config.note(happening, now);
            state.look |= happening == Happening::Complete;
        }
        if plugins {
            state.plugins.note(happening, now);
        }
        state.trace |= all || !matches!(event.kind, EventKind::Access(_) | EventKind::Modify(ModifyKind::Data(_)));
        drop(state);
        self.wake.notify_one();
    }

    /// Sleeps until there is something to do. None at the end.
    fn wait(&self) -> Option<Work> {
        let mut state = self.lock();
        loop {
            if state.stop {
                return None;
            }
            let now = Instant::now();
            let work = Work {
                look: std::mem::take(&mut state.look),
                trace: std::mem::take(&mut state.trace),
                config: state.config.take(now),
                plugins: state.plugins.take(now),
                problem: state.problem.take(),
            };
            if work.look || work.trace || work.config || work.plugins || work.problem.is_some() {
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

/// What an event means for a file; none if nothing has changed.
fn happening(event: &Event) -> Option<Happening> {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(Happening::Complete),
        EventKind::Access(_) => None,
        EventKind::Modify(ModifyKind::Data(_)) => Some(Happening::Writing),
        // A new file is about to be written, which ends with its being closed. A link is complete at once.
        EventKind::Create(_) if event.paths.iter().any(|path| is_plain_file(path)) => Some(Happening::Writing),
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => {
            Some(Happening::Complete)
        }
    }
}

fn is_plain_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_file() && metadata.nlink() == 1)
}

/// The thread that does what there is to do.
struct Keeper {
    engine: Weak<Engine>,
    shared: Arc<Shared>,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<Folder>,
    /// The last valid configuration that was there for a moment since the last reload.
    seen: Option<Source>,
}

impl Keeper {
    fn run(mut self) {
        // Whether the file was found gone or empty just now.
        let mut blank = false;
        while let Some(work) = self.shared.wait() {
            let Some(engine) = self.engine.upgrade() else { return };
            if let Some(problem) = work.problem {
                engine.watching(Some(problem));
                // Everything is set up anew.
                self.watcher = None;
            }
            if work.trace || self.watcher.is_none() {
                self.trace(&engine);
            }
            if work.look && !work.config {
                self.look(&engine);
            }
            let mut config = work.config;
            if config && !std::mem::take(&mut blank) && is_blank(&engine) {
                (config, blank) = (false, true);
                self.shared.lock().config.again(BLANK, Instant::now());
            }
            if !config && !work.plugins {
                continue;
            }
            let seen = if config { self.seen.take() } else { None };
            // What is wrong is on record.
            let _ = engine.reload_changed(Files { config, seen });
        }
    }

    /// Keeps in mind what the file says at this moment, in case that the next thing it says is wrong.
    fn look(&mut self, engine: &Engine) {
        let Ok(source) = Source::read(engine.config_file()) else { return };
        // Between being emptied and being written anew, a file is empty for a moment.
        if !source.is_blank() && self.seen.as_ref() != Some(&source) && source.config(&Overrides::default()).is_ok() {
            self.seen = Some(source);
        }
    }

    /// Watches the folders that matter now.
    fn trace(&mut self, engine: &Engine) {
        // A folder that appears while this one looks is found by the next look.
        for _ in 0..8 {
            let points = Points::of(engine.config_file(), &engine.plugin_folder());
            if self.watcher.is_some() && points == **self.shared.points.load() {
                return;
            }
            self.shared.points.store(Arc::new(points.clone()));
            match self.watch(&points) {
                Ok(()) => engine.watching(None),
                Err(error) => {
                    engine.watching(Some(error.to_string()));
                    // The next time that somebody asks for a reload, it is tried again.
                    self.watcher = None;
                    return;
                }
            }
            let now = Instant::now();
            let mut state = self.shared.lock();
            state.config.note(Happening::Complete, now);
            state.plugins.note(Happening::Complete, now);
        }
    }

    fn watch(&mut self, points: &Points) -> notify::Result<()> {
        if self.watcher.is_none() {
            self.watched.clear();
            let shared = Arc::clone(&self.shared);
            self.watcher = Some(notify::recommended_watcher(move |event| shared.hear(event))?);
        }
        let Some(watcher) = &mut self.watcher else { return Ok(()) };
        for gone in self.watched.difference(&points.folders) {
            // It may be gone altogether, and its watch with it.
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
        // Gone since it was found: the next look finds what is there instead.
        Err(notify::Error { kind: notify::ErrorKind::PathNotFound, .. }) => Ok(()),
        other => other,
    }
}

/// Whether the configuration is not there or says nothing, while what is in force says something.
fn is_blank(engine: &Engine) -> bool {
    let now = Source::read(engine.config_file());
    now.is_ok_and(|now| now.is_blank()) && !engine.config_source().is_blank()
}
