//! A run that has a slot: it can be asked to stop, and waited for.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ostler_protocol::{RunId, RunStatus};
use ostler_runner::Waker;

/// Why a run is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopCause {
    /// It was canceled.
    Canceled,
    /// The host ends.
    HostStops,
}

/// One run with a slot.
#[derive(Debug)]
pub(crate) struct ActiveRun {
    run: RunId,
    /// How long it waited for its slot.
    waited: Duration,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stop: Option<StopCause>,
    waker: Option<Waker>,
    /// Its status after its thread has released it; set once.
    released: Option<RunStatus>,
}

impl ActiveRun {
    /// A run that ends without a slot.
    pub(crate) fn new(run: RunId) -> Arc<Self> {
        Self::begin(run, Duration::ZERO)
    }

    /// A run that has waited this long for its slot.
    pub(crate) fn begin(run: RunId, waited: Duration) -> Arc<Self> {
        Arc::new(Self { run, waited, state: Mutex::default(), ended: Condvar::new() })
    }

    pub(crate) const fn waited(&self) -> Duration {
        self.waited
    }

    pub(crate) const fn run(&self) -> RunId {
        self.run
    }

    /// Asks it to stop. The first cause counts.
    pub(crate) fn stop(&self, cause: StopCause) {
        let mut state = self.lock();
        state.stop.get_or_insert(cause);
        if let Some(waker) = &state.waker {
            waker.wake();
        }
    }

    /// Why it was asked to stop, if it was.
    pub(crate) fn stop_cause(&self) -> Option<StopCause> {
        self.lock().stop
    }

    /// From now on a stop wakes the thread that drives the child. If a stop was requested before, the thread is woken at once.
    pub(crate) fn attach(&self, waker: Waker) {
        let mut state = self.lock();
        if state.stop.is_some() {
            waker.wake();
        }
        state.waker = Some(waker);
    }

    /// Its child has ended; a stop no longer wakes the thread.
    pub(crate) fn detach(&self) {
        self.lock().waker = None;
    }

    /// Its thread has released it. `status` is `Queued` if another attempt follows.
    pub(crate) fn release(&self, status: RunStatus) {
        self.lock().released = Some(status);
        self.ended.notify_all();
    }

    /// Waits until its thread has released it.
    pub(crate) fn wait(&self) -> RunStatus {
        let mut state = self.lock();
        loop {
            if let Some(status) = state.released {
                return status;
            }
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
