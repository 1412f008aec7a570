//! Runs methods, which block: storage, plugins and processes do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;

/// Methods that usually wait for the database alone, and that somebody waits for.
const QUICK: [&str; 14] = [
    "answer_approval",
    "get_conversation",
    "get_inbox",
    "get_run",
    "get_run_events",
    "get_status",
    "list_approvals",
    "list_conversations",
    "list_queue_jobs",
    "list_runs",
    "rerun",
    "send_conversation_message",
    "send_session_input",
    "start_run",
];

/// Number of methods that may block a thread that serves connections.
const IN_PLACE: usize = 8;

/// Number of methods on threads of their own, above which none blocks a thread that serves connections. The runtime takes
/// the thread that replaces it from the same pool, and without one it serves nobody.
const CROWD: usize = 64;

static POOL: Pool = Pool::new(IN_PLACE);

/// The methods that are running.
struct Pool {
    /// Permits to block a thread that serves connections.
    in_place: Semaphore,
    /// Number of methods on threads of their own.
    elsewhere: AtomicUsize,
}

/// The method panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Panicked;

/// Runs the method `name`. Nothing else of the calling task continues meanwhile.
///
/// A quick method runs on the thread of the task, if possible: to change the thread takes longer than most of them, above
/// all on a busy machine.
pub(super) async fn run<R: Send + 'static>(
    name: &str,
    method: impl FnOnce() -> R + Send + 'static,
) -> Result<R, Panicked> {
    POOL.run(QUICK.contains(&name), method).await
}

impl Pool {
    const fn new(in_place: usize) -> Self {
        Self { in_place: Semaphore::const_new(in_place), elsewhere: AtomicUsize::new(0) }
    }

    async fn run<R: Send + 'static>(
        &self,
        is_quick: bool,
        method: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, Panicked> {
        let may_block = is_quick && self.elsewhere.load(Ordering::Relaxed) < CROWD && can_block();
        if let Some(_permit) = may_block.then(|| self.in_place.try_acquire().ok()).flatten() {
            // A panic must not end the connection without an answer.
            return tokio::task::block_in_place(|| catch_unwind(AssertUnwindSafe(method))).map_err(|_| Panicked);
        }
        let _counted = Counted::new(&self.elsewhere);
        tokio::task::spawn_blocking(method).await.map_err(|_| Panicked)
    }
}

/// Counts a method while it exists.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A runtime with a single thread cannot replace it.
fn can_block() -> bool {
    Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::sync::{Arc, Mutex, mpsc};
    use std::thread;

    use super::*;
    use crate::methods::METHODS;

    /// Runs a quick method in a task of its own.
    async fn in_task<R: Send + 'static>(
        pool: &Arc<Pool>,
        method: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, Panicked> {
        let pool = Arc::clone(pool);
        tokio::spawn(async move { pool.run(true, method).await }).await.unwrap()
    }

    /// Whether a method runs on the thread of its task.
    async fn is_in_place(pool: &Arc<Pool>, is_quick: bool) -> bool {
        let pool = Arc::clone(pool);
        let task = async move {
            let own = thread::current().id();
            pool.run(is_quick, move || thread::current().id()).await.unwrap() == own
        };
        tokio::spawn(task).await.unwrap()
    }

    #[test]
    fn quick_methods_exist() {
        for name in QUICK {
            assert!(METHODS.iter().any(|method| method.name == name), "{name}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn quick_method_runs_on_the_thread_of_its_task_unless_many_methods_are_running() {
        let pool = Arc::new(Pool::new(1));
        assert!(is_in_place(&pool, true).await);
        assert!(!is_in_place(&pool, false).await);
        pool.elsewhere.fetch_add(CROWD, Ordering::Relaxed);
        assert!(!is_in_place(&pool, true).await);
        assert_eq!(pool.elsewhere.load(Ordering::Relaxed), CROWD);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn flood_of_slow_methods_does_not_keep_others_waiting() {
        let pool = Arc::new(Pool::new(3));
        let (release, waiting) = mpsc::channel::<()>();
        let waiting = Arc::new(Mutex::new(waiting));
        let slow: Vec<_> = (0..12)
            .map(|_| {
                let (pool, waiting) = (Arc::clone(&pool), Arc::clone(&waiting));
                tokio::spawn(async move { in_task(&pool, move || waiting.lock().unwrap().recv().unwrap()).await })
            })
            .collect();
        while pool.in_place.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(in_task(&pool, || 7).await, Ok(7));
        for _ in &slow {
            release.send(()).unwrap();
        }
        for method in slow {
            method.await.unwrap().unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn panic_is_an_error_in_place_and_elsewhere() {
        for permits in [1, 0] {
            let pool = Arc::new(Pool::new(permits));
            assert_eq!(in_task(&pool, || panic!("on purpose")).await, Err::<(), _>(Panicked), "{permits}");
            assert_eq!(pool.in_place.available_permits(), permits);
        }
    }

    #[tokio::test]
    async fn runtime_with_a_single_thread_runs_methods_elsewhere() {
        assert!(!is_in_place(&Arc::new(Pool::new(1)), true).await);
    }
}
