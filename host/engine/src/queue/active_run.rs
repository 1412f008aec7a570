//! A run that has a slot, as the rest of the host sees it: something that can be asked to stop and waited for.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ostler_protocol::{RunId, RunStatus};
use ostler_runner::Waker;

/// Why a run is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopCause {
    /// Somebody cancelled it.
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
    /// What became of it; set once, when its thread has let go of it.
    released: Option<RunStatus>,
}

impl ActiveRun {
    /// One that is to end without having had its turn.
    pub(crate) fn new(run: RunId) -> Arc<Self> {
        Self::begin(run, Duration::ZERO)
    }

    /// One that has its slot after so much time.
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

    /// Whether and why it was asked to stop.
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

    /// Its child is gone; a stop wakes nobody any more.
    pub(crate) fn detach(&self) {
        self.lock().waker = None;
    }

    /// Its thread has let go of it. `status` is `Queued` where another attempt follows.
    pub(crate) fn release(&self, status: RunStatus) {
        self.lock().released = Some(status);
        self.ended.notify_all();
    }

    /// Waits until its thread has let go of it.
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
