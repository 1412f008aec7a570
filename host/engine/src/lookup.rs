//! Looks up paths that a CLI has named, within a time limit: a file system may not answer, and nothing can end a look-up that
//! waits for one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::policy::policy_set;
use crate::queue::threads::Threads;

/// How long all paths of one look-up may take together.
const TIME: Duration = Duration::from_millis(500);

/// Maximum number of concurrent look-ups of the whole host, including those that get no answer.
const MOST: usize = 32;

/// A path with links resolved as far as it exists, and whether all of it does.
pub(crate) type Resolved = (PathBuf, bool);

type Resolve = dyn Fn(&Path) -> Resolved + Send + Sync;

/// The look-ups of an attempt. While one of them gets no answer, there is no other.
pub(crate) struct Lookups {
    helpers: Arc<Helpers>,
    resolve: Arc<Resolve>,
    /// The look-up that did not end in time.
    late: Weak<Place>,
}

impl fmt::Debug for Lookups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookups").finish_non_exhaustive()
    }
}

impl Lookups {
    pub(crate) fn new() -> Self {
        static HELPERS: LazyLock<Arc<Helpers>> = LazyLock::new(|| Helpers::new(MOST));
        Self::with(Arc::clone(&HELPERS), Arc::new(policy_set::resolve))
    }

    fn with(helpers: Arc<Helpers>, resolve: Arc<Resolve>) -> Self {
        Self { helpers, resolve, late: Weak::new() }
    }

    /// What each path leads to; none where that is not known in time.
    pub(crate) fn look_up(&mut self, paths: Vec<PathBuf>) -> Vec<Option<Resolved>> {
        let mut found = vec![None; paths.len()];
        if paths.is_empty() || self.late.strong_count() > 0 {
            return found;
        }
        let until = Instant::now() + TIME;
        let Some(place) = self.helpers.place(until) else { return found };
        let late = Arc::downgrade(&place);
        let (sender, receiver) = channel();
        let resolve = Arc::clone(&self.resolve);
        let work = move || {
            let _place = place;
            for path in paths {
                if sender.send(resolve(&path)).is_err() {
                    return;
                }
            }
        };
        if self.helpers.threads.run(work).is_err() {
            return found;
        }
        for slot in &mut found {
            match receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(resolved) => *slot = Some(resolved),
                Err(_) => {
                    self.late = late;
                    break;
                }
            }
        }
        found
    }
}

/// The threads that look up.
struct Helpers {
    threads: Arc<Threads>,
    most: usize,
    busy: Mutex<usize>,
    freed: Condvar,
}

/// The right to one of the threads.
struct Place(Arc<Helpers>);

impl Helpers {
    fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { threads: Threads::new("look-up"), most, busy: Mutex::default(), freed: Condvar::new() })
    }

    /// None where no thread becomes free in time.
    fn place(self: &Arc<Self>, until: Instant) -> Option<Arc<Place>> {
        let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = until.saturating_duration_since(Instant::now());
        let waited = self.freed.wait_timeout_while(busy, rest, |busy| *busy >= self.most);
        let (mut busy, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if *busy >= self.most {
            return None;
        }
        *busy += 1;
        Some(Arc::new(Place(Arc::clone(self))))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.busy.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::sync::RwLock;

    use super::*;

    /// Look-ups by such helpers, where paths in `/hung` get no answer while the lock is held.
    fn lookups(helpers: &Arc<Helpers>, hung: &Arc<RwLock<()>>) -> Lookups {
        let hung = Arc::clone(hung);
        let resolve = move |path: &Path| {
            if path.starts_with("/hung") {
                drop(hung.read());
            }
            (path.to_owned(), true)
        };
        Lookups::with(Arc::clone(helpers), Arc::new(resolve))
    }

    /// Which of the paths were found, and whether that took less than is allowed.
    fn look(lookups: &mut Lookups, paths: &[&str]) -> (Vec<bool>, bool) {
        let begin = Instant::now();
        let found = lookups.look_up(paths.iter().map(PathBuf::from).collect());
        (found.iter().map(Option::is_some).collect(), begin.elapsed() < TIME)
    }

    fn until_free(helpers: &Helpers) {
        while *helpers.busy.lock().unwrap() > 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn path_without_an_answer_is_not_found_and_holds_nobody_for_longer_than_is_allowed() {
        let (helpers, hung) = (Helpers::new(8), Arc::default());
        let mut lookups = lookups(&helpers, &hung);
        assert_eq!(look(&mut lookups, &["/a", "/hung/b"]).0, [true, true]);
        let held = hung.write().unwrap();
        let begin = Instant::now();
        assert_eq!(look(&mut lookups, &["/a", "/hung/b", "/c"]).0, [true, false, false]);
        assert!(begin.elapsed() < 20 * TIME, "{:?}", begin.elapsed());
        assert_eq!(look(&mut lookups, &["/a"]), (vec![false], true), "nothing else is looked up meanwhile");
        drop(held);
        until_free(&helpers);
        assert_eq!(look(&mut lookups, &["/a", "/hung/b"]).0, [true, true], "the file system answers again");
    }

    #[test]
    fn threads_are_bounded_for_all_attempts_and_are_used_again() {
        let (helpers, hung) = (Helpers::new(2), Arc::default());
        let mut all: Vec<Lookups> = (0..3).map(|_| lookups(&helpers, &hung)).collect();
        let held = hung.write().unwrap();
        for lookups in &mut all[..2] {
            assert_eq!(look(lookups, &["/hung"]).0, [false]);
        }
        assert_eq!(look(&mut all[2], &["/a"]).0, [false], "no thread is free");
        assert_eq!(*helpers.busy.lock().unwrap(), 2);
        drop(held);
        until_free(&helpers);
        for _ in 0..10 {
            assert_eq!(look(&mut all[2], &["/a"]).0, [true]);
        }
    }

    #[test]
    fn attempt_whose_look_up_hangs_holds_no_other_attempt() {
        let (helpers, hung) = (Helpers::new(2), Arc::default());
        let (mut one, mut other) = (lookups(&helpers, &hung), lookups(&helpers, &hung));
        let _held = hung.write().unwrap();
        for _ in 0..5 {
            assert_eq!(look(&mut one, &["/hung"]).0, [false]);
        }
        assert_eq!(look(&mut other, &["/a"]).0, [true]);
    }
}
