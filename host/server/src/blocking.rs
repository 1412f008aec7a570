//! Runs methods, which block: storage, plugins and processes do.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;

/// Number of methods that may block a thread that serves connections. Each of them is replaced by another thread, of which
/// there is a limited number: a flood of slow calls must not occupy all of them.
const IN_PLACE: usize = 8;

static FREE: Semaphore = Semaphore::const_new(IN_PLACE);

/// The method panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Panicked;

/// Runs a method that may block. Must be called in a task of its own: everything else in the task waits as well.
///
/// On the thread of the task, if possible: to change the thread takes longer than many methods, above all on a busy
/// machine.
pub(super) async fn run<R: Send + 'static>(method: impl FnOnce() -> R + Send + 'static) -> Result<R, Panicked> {
    run_within(&FREE, method).await
}

async fn run_within<R: Send + 'static>(
    free: &Semaphore,
    method: impl FnOnce() -> R + Send + 'static,
) -> Result<R, Panicked> {
    match free.try_acquire().ok().filter(|_| can_block()) {
        Some(_permit) => {
            // A panic must not end the connection without an answer.
            tokio::task::block_in_place(|| catch_unwind(AssertUnwindSafe(method))).map_err(|_| Panicked)
        }
        None => tokio::task::spawn_blocking(method).await.map_err(|_| Panicked),
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

    /// Runs a method in a task of its own, as the transports do.
    async fn in_task<R: Send + 'static>(
        free: &Arc<Semaphore>,
        method: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, Panicked> {
        let free = Arc::clone(free);
        tokio::spawn(async move { run_within(&free, method).await }).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn method_runs_on_the_thread_of_its_task() {
        let task = tokio::spawn(async {
            let own = thread::current().id();
            (own, run_within(&Semaphore::new(1), || thread::current().id()).await.unwrap())
        });
        let (own, used) = task.await.unwrap();
        assert_eq!(own, used);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn flood_of_slow_methods_does_not_keep_others_waiting() {
        let free = Arc::new(Semaphore::new(3));
        let (release, waiting) = mpsc::channel::<()>();
        let waiting = Arc::new(Mutex::new(waiting));
        let slow: Vec<_> = (0..12)
            .map(|_| {
                let (free, waiting) = (Arc::clone(&free), Arc::clone(&waiting));
                tokio::spawn(async move { in_task(&free, move || waiting.lock().unwrap().recv().unwrap()).await })
            })
            .collect();
        while free.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(in_task(&free, || 7).await, Ok(7));
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
            let free = Arc::new(Semaphore::new(permits));
            assert_eq!(in_task(&free, || panic!("on purpose")).await, Err::<(), _>(Panicked), "{permits}");
            assert_eq!(free.available_permits(), permits);
        }
    }

    #[tokio::test]
    async fn runtime_with_a_single_thread_runs_methods_elsewhere() {
        let own = thread::current().id();
        assert_ne!(run_within(&Semaphore::new(1), || thread::current().id()).await.unwrap(), own);
    }
}
