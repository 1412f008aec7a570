//! Threads for plugin calls, so that no async worker waits for a guest.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;

/// Room for the guest's stack, which is a part of the thread's, and the host around it.
const STACK: usize = 4 * 1024 * 1024;

type Job = Box<dyn FnOnce() + Send>;

/// A small pool of dedicated threads. Jobs start in the order in which they were given. Dropping the pool lets the jobs
/// that were given end, and waits for them.
pub struct CallPool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    queue: Mutex<Queue>,
    waiting: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

/// The job did not come back: it panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("failed to finish a plugin call: its thread panicked")]
pub struct JobLost;

impl CallPool {
    /// Starts `threads` threads, at least one.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { queue: Mutex::default(), waiting: Condvar::new() });
        let mut pool = Self { shared, threads: Vec::new() };
        for number in 0..threads.max(1) {
            let shared = Arc::clone(&pool.shared);
            let thread = thread::Builder::new()
                .name(format!("plugin-{number}"))
                .stack_size(STACK)
                .spawn(move || work(&shared))?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// Runs `job` on a thread of the pool and waits for its answer. A future that is dropped leaves the job running;
    /// its answer is thrown away.
    ///
    /// # Errors
    /// If the job panicked.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, JobLost> {
        let (sender, receiver) = oneshot::channel();
        self.shared.lock().jobs.push_back(Box::new(move || {
            let _ = sender.send(job());
        }));
        self.shared.waiting.notify_one();
        receiver.await.map_err(|_| JobLost)
    }
}

impl Drop for CallPool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.waiting.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn work(shared: &Shared) {
    loop {
        let mut queue = shared.lock();
        let job = loop {
            match queue.jobs.pop_front() {
                Some(job) => break job,
                None if queue.closed => return,
                None => queue = shared.waiting.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(queue);
        // The panic's message is the panic hook's business; whoever waits sees the sender dropped.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn answers_and_panics_come_back() {
        let pool = CallPool::new(2).unwrap();
        let answers = (0..20).map(|number| pool.run(move || number * 2));
        let answers: Vec<_> = futures_util::future::join_all(answers).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers, (0..20).map(|number| number * 2).collect::<Vec<_>>());
        for _ in 0..5 {
            assert_eq!(pool.run(|| -> u32 { panic!("on purpose") }).await, Err(JobLost));
        }
        assert_eq!(pool.run(|| 1).await, Ok(1));
    }
}
