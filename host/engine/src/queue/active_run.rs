//! A run that has a slot: it can be asked to stop, and waited for.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::session::command::{RunCommand, no_cli, run_ended};
use ostler_protocol::{ApiError, ErrorKind, RunId, RunStatus};

/// Requests of clients that wait for the thread of a run at a time.
const MAX_COMMANDS: usize = 256;

/// Why a run is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopCause {
    /// It was canceled.
    Canceled,
    /// The host ends.
    HostStops,
}

/// Wakes the thread that drives the child of a run.
type Wake = Arc<dyn Fn() + Send + Sync>;

/// One run with a slot.
#[derive(Debug)]
pub(crate) struct ActiveRun {
    run: RunId,
    /// How long it waited for its slot.
    waited: Duration,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    stop: Option<StopCause>,
    wake: Option<Wake>,
    /// Whether its CLI has run and ended.
    cli_ended: bool,
    /// Requests of clients that its thread has not carried out yet.
    commands: Vec<RunCommand>,
    /// Whether its CLI has opened a session.
    opened: bool,
    /// The id of that session, if the CLI has ids.
    session: Option<String>,
    /// Its status after its thread has released it; set once.
    released: Option<RunStatus>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("stop", &self.stop).field("released", &self.released).finish_non_exhaustive()
    }
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
        if let Some(wake) = &state.wake {
            wake();
        }
    }

    /// Why it was asked to stop, if it was.
    pub(crate) fn stop_cause(&self) -> Option<StopCause> {
        self.lock().stop
    }

    /// From now on a stop wakes the thread that drives the child. If a stop was requested before, the thread is woken at once.
    pub(crate) fn attach(&self, wake: impl Fn() + Send + Sync + 'static) {
        let mut state = self.lock();
        if state.stop.is_some() {
            wake();
        }
        state.wake = Some(Arc::new(wake));
        state.cli_ended = false;
    }

    /// Its child has ended; a stop no longer wakes the thread.
    pub(crate) fn detach(&self) {
        let mut state = self.lock();
        state.wake = None;
        state.cli_ended = true;
        // Whoever waits for one learns that the run has ended.
        state.commands.clear();
    }

    /// Passes a request to the thread that drives the child, and wakes it.
    ///
    /// # Errors
    /// `CONFLICT` if no child runs, or too many requests wait.
    pub(crate) fn send(&self, command: RunCommand) -> Result<(), ApiError> {
        let mut state = self.lock();
        let Some(wake) = state.wake.clone() else {
            return Err(if state.cli_ended || state.released.is_some() { run_ended() } else { no_cli() });
        };
        if state.commands.len() >= MAX_COMMANDS {
            let message = "too many requests to this run wait to be carried out";
            return Err(ApiError::new(ErrorKind::Conflict, message).retryable(true));
        }
        state.commands.push(command);
        drop(state);
        wake();
        Ok(())
    }

    /// Whether its CLI has ended, so that the run is about to end.
    pub(crate) fn is_ending(&self) -> bool {
        let state = self.lock();
        state.cli_ended || state.released.is_some()
    }

    /// The requests that have arrived, in their order.
    pub(crate) fn take_commands(&self) -> Vec<RunCommand> {
        std::mem::take(&mut self.lock().commands)
    }

    /// Its CLI has opened the session.
    pub(crate) fn open_session(&self, session: Option<String>) {
        let mut state = self.lock();
        state.opened = true;
        state.session = session;
        drop(state);
        self.ended.notify_all();
    }

    /// Waits at most `limit` until the CLI has opened the session or the run has ended. Returns the session.
    pub(crate) fn wait_for_session(&self, limit: Duration) -> Option<String> {
        let waiting = |state: &mut State| !state.opened && state.released.is_none();
        let waited = self.ended.wait_timeout_while(self.lock(), limit, waiting);
        waited.unwrap_or_else(PoisonError::into_inner).0.session.clone()
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
