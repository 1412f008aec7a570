//! The clock that ends calls: one thread advances the engine's epoch while guest calls are in flight.
//!
//! It continues for a while after the last call, so that a burst of calls causes no wake-ups, and parks after that: an
//! idle host has no timer running.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use wasmtime::Engine;

/// Length of one epoch.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// Ticks without a call after which the thread parks.
const IDLE_TICKS: u32 = 50;

#[derive(Debug, Default)]
struct Shared {
    calls: AtomicUsize,
    parked: AtomicBool,
    stop: AtomicBool,
}

/// Owns the thread; dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
    handle: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(super) fn start(engine: Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let handle = thread::Builder::new()
            .name("plugin-ticker".into())
            .stack_size(64 * 1024)
            .spawn(move || run(&engine, &seen))?;
        Ok(Self { shared, thread: handle.thread().clone(), handle: Some(handle) })
    }

    /// Keeps the epoch advancing until the guard is dropped.
    pub(super) fn call(&self) -> InFlight<'_> {
        // Sequentially consistent with the thread's store of `parked` and its later load of `calls`: one of the two
        // sides sees the other.
        self.shared.calls.fetch_add(1, Ordering::SeqCst);
        if self.shared.parked.swap(false, Ordering::SeqCst) {
            self.thread.unpark();
        }
        InFlight { shared: &self.shared }
    }

    /// Whether the thread is parked, without a timer.
    #[cfg(test)]
    pub(super) fn is_parked(&self) -> bool {
        self.shared.parked.load(Ordering::SeqCst)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.thread.unpark();
        if let Some(handle) = self.handle.take() {
            let _ = handle.join();
        }
    }
}

/// Guard of a guest call in progress.
#[derive(Debug)]
pub(super) struct InFlight<'a> {
    shared: &'a Shared,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.shared.calls.fetch_sub(1, Ordering::SeqCst);
    }
}

fn run(engine: &Engine, shared: &Shared) {
    let mut idle = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        if shared.calls.load(Ordering::SeqCst) > 0 {
            idle = 0;
        } else {
            idle += 1;
        }
        if idle <= IDLE_TICKS {
            thread::park_timeout(TICK);
            engine.increment_epoch();
            continue;
        }
        shared.parked.store(true, Ordering::SeqCst);
        while shared.parked.load(Ordering::SeqCst)
            && shared.calls.load(Ordering::SeqCst) == 0
            && !shared.stop.load(Ordering::SeqCst)
        {
            thread::park();
        }
        shared.parked.store(false, Ordering::SeqCst);
        idle = 0;
    }
}
