//! Threads that do one piece of work after another.
//!
//! A thread for each run would be made and unmade with its stack, its signal stack and its share of the allocator, each
//! of which makes the other processors forget what they know of the address space.

use std::sync::mpsc::{RecvTimeoutError, SendError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use crate::spawn;
use ostler_protocol::ApiError;

/// How long a thread waits for its next work before it ends.
const KEPT: Duration = Duration::from_secs(5);
/// Threads that wait at once; more than there are slots on most machines.
const MOST_IDLE: usize = 16;

type Work = Box<dyn FnOnce() + Send>;

/// The threads of one name.
#[derive(Debug)]
pub(crate) struct Threads {
    name: &'static str,
    /// The way to each thread that waits, the last that began to wait at the end.
    idle: Mutex<Vec<(ThreadId, Sender<Work>)>>,
}

impl Threads {
    pub(crate) fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self { name, idle: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(ThreadId, Sender<Work>)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does the work on a thread that waits, or on a new one.
    ///
    /// # Errors
    /// If there is no thread to be had. The work is dropped then.
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

    /// Does the work, and then what comes. Work that panics ends the thread.
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
                    // Somebody has taken the way here just now, and work is on it.
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

    /// The thread on which some work is done.
    fn thread_of(threads: &Arc<Threads>) -> ThreadId {
        let (sender, receiver) = channel();
        threads.run(move || sender.send(thread::current().id()).unwrap()).unwrap();
        receiver.recv().unwrap()
    }

    /// Returns when so many threads wait.
    fn until_idle(threads: &Threads, count: usize) {
        while threads.lock().len() != count {
            thread::yield_now();
        }
    }

    #[test]
    fn one_thread_does_what_comes_one_after_another() {
        let threads = Threads::new("test");
        let first = thread_of(&threads);
        for _ in 0..10 {
            until_idle(&threads, 1);
            assert_eq!(thread_of(&threads), first);
        }
    }

    #[test]
    fn what_comes_at_once_is_done_at_once_and_few_threads_stay() {
        let threads = Threads::new("test");
        let barrier = Arc::new(std::sync::Barrier::new(41));
        for _ in 0..40 {
            let barrier = Arc::clone(&barrier);
            threads.run(move || _ = barrier.wait()).unwrap();
        }
        // Nobody gets here before all forty have.
        barrier.wait();
        until_idle(&threads, MOST_IDLE);
        let seen: BTreeSet<String> = (0..100).map(|_| format!("{:?}", thread_of(&threads))).collect();
        assert!(!seen.is_empty());
    }

    #[test]
    fn work_that_panics_takes_its_thread_alone() {
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
