//! A pool of threads that are reused.
//!
//! A new thread for each run would allocate and free a stack, a signal stack and an arena of the allocator, each of which
//! invalidates the address-space caches (TLB) of the other processors.

use std::sync::mpsc::{RecvTimeoutError, SendError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use crate::spawn;
use ostler_protocol::ApiError;

/// Idle time after which a thread ends.
const KEPT: Duration = Duration::from_secs(5);
/// Maximum number of idle threads; more than the number of slots on most machines.
const MOST_IDLE: usize = 16;

type Work = Box<dyn FnOnce() + Send>;

/// A pool of threads with the same name.
#[derive(Debug)]
pub(crate) struct Threads {
    name: &'static str,
    /// The channel to each idle thread. The thread that became idle last is at the end.
    idle: Mutex<Vec<(ThreadId, Sender<Work>)>>,
}

impl Threads {
    pub(crate) fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self { name, idle: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(ThreadId, Sender<Work>)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does the work on an idle thread, or on a new one.
    ///
    /// # Errors
    /// If no thread can be started. Then the work is dropped.
    pub(crate) fn run(self: &Arc<Self>, work: impl FnOnce() + Send + 'static) -> Result<(), ApiError> {
        let mut work: Work = Box::new(work);
        loop {
            let Some((_, idle)) = self.lock().pop() else { break };
            match idle.send(work) {
                Ok(()) => return Ok(()),
                Err(SendError(back)) => work = back,
            }
        }
        let threads = Arc::clone(self);
        spawn(self.name, move || threads.serve(work))
    }

    /// Does the work, and then further work. Work that panics ends the thread.
    fn serve(&self, mut work: Work) {
        let me = thread::current().id();
        loop {
            work();
            let (sender, receiver) = channel();
            {
                let mut idle = self.lock();
                if idle.len() >= MOST_IDLE {
                    return;
                }
                idle.push((me, sender));
            }
            work = match receiver.recv_timeout(KEPT) {
                Ok(next) => next,
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    let mut idle = self.lock();
                    if let Some(at) = idle.iter().position(|(who, _)| *who == me) {
                        idle.remove(at);
                        return;
                    }
                    drop(idle);
                    // A caller has just taken the channel and sends work.
                    let Ok(next) = receiver.recv() else { return };
                    next
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::collections::BTreeSet;

    use super::*;

    /// The id of the thread that does some work.
    fn thread_of(threads: &Arc<Threads>) -> ThreadId {
        let (sender, receiver) = channel();
        threads.run(move || sender.send(thread::current().id()).unwrap()).unwrap();
        receiver.recv().unwrap()
    }

    /// Waits until this many threads are idle.
    fn until_idle(threads: &Threads, count: usize) {
        while threads.lock().len() != count {
            thread::yield_now();
        }
    }

    #[test]
    fn sequential_work_uses_one_thread() {
        let threads = Threads::new("test");
        let first = thread_of(&threads);
        for _ in 0..10 {
            until_idle(&threads, 1);
            assert_eq!(thread_of(&threads), first);
        }
    }

    #[test]
    fn concurrent_work_runs_concurrently_and_few_idle_threads_remain() {
        let threads = Threads::new("test");
        let barrier = Arc::new(std::sync::Barrier::new(41));
        for _ in 0..40 {
            let barrier = Arc::clone(&barrier);
            threads.run(move || _ = barrier.wait()).unwrap();
        }
        // The barrier opens only when all forty threads have reached it.
        barrier.wait();
        until_idle(&threads, MOST_IDLE);
        let seen: BTreeSet<String> = (0..100).map(|_| format!("{:?}", thread_of(&threads))).collect();
        assert!(!seen.is_empty());
    }

    #[test]
    fn work_that_panics_ends_only_its_thread() {
        let threads = Threads::new("test");
        let first = thread_of(&threads);
        until_idle(&threads, 1);
        let (sender, receiver) = channel::<()>();
        threads
            .run(move || {
                let _held = sender;
                panic!("on purpose");
            })
            .unwrap();
        assert!(receiver.recv().is_err());
        assert_ne!(thread_of(&threads), first);
    }
}
