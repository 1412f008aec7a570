//! How the host ends: on request, when it is idle, or with its process.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ostler_protocol::methods::StopResult;
use ostler_protocol::{ApiError, ErrorKind};
use tokio::sync::watch;

use crate::attempt::conclude::RunFinalizer;
use crate::queue::dispatch::Dispatcher;
use crate::retention::RetentionService;
use crate::setup::CurrentConfig;

/// Ends the host.
pub struct Shutdown {
    config: CurrentConfig,
    dispatcher: Arc<Dispatcher>,
    finalizer: Arc<RunFinalizer>,
    retention: Arc<RetentionService>,
    /// Becomes true when a caller asks the host to end.
    requested: watch::Sender<bool>,
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown").finish_non_exhaustive()
    }
}

impl Shutdown {
    pub(crate) fn new(
        config: CurrentConfig,
        dispatcher: Arc<Dispatcher>,
        finalizer: Arc<RunFinalizer>,
        retention: Arc<RetentionService>,
    ) -> Self {
        Self { config, dispatcher, finalizer, retention, requested: watch::channel(false).0 }
    }

    /// Asks the host to end.
    ///
    /// # Errors
    /// `CONFLICT` with `if_idle` if the host is busy.
    pub fn request(&self, if_idle: bool) -> Result<StopResult, ApiError> {
        let counts = self.dispatcher.counts();
        let (running, waiting) = (counts.running as u64, (counts.ready + counts.scheduled + counts.held) as u64);
        // From here on no run is accepted: a caller that knows that the host ends must not have a run accepted afterwards.
        let closed = if if_idle { self.dispatcher.close_if_idle() } else { self.dispatcher.close() };
        if !closed {
            let message = format!("the host is busy: {running} running, {waiting} waiting");
            return Err(ApiError::new(ErrorKind::Conflict, message)
                .retryable(true)
                .hint("`list_queue_jobs` lists them"));
        }
        self.requested.send_replace(true);
        Ok(StopResult { stopping: true, running, waiting })
    }

    /// Accepts no more runs, if there are none. `false` if there are runs: the host is not idle.
    pub fn close_if_idle(&self) -> bool {
        self.dispatcher.close_if_idle()
    }

    /// Whether the host accepts no more runs because it is about to end.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.dispatcher.is_stopping()
    }

    /// Ends every active run as interrupted, and starts no more. Blocks until all have ended.
    pub fn shut_down(&self) {
        self.finalizer.stop_retrying();
        self.retention.stop();
        for active_run in self.dispatcher.shut_down() {
            active_run.wait();
        }
    }

    /// The number of jobs that wait or run.
    #[must_use]
    pub fn busy(&self) -> watch::Receiver<usize> {
        self.dispatcher.busy()
    }

    /// Becomes true when a caller asks the host to end.
    #[must_use]
    pub fn requested(&self) -> watch::Receiver<bool> {
        self.requested.subscribe()
    }

    /// How long a background host waits for work, according to the active configuration.
    #[must_use]
    pub fn idle_limit(&self) -> Duration {
        self.config.load().config.host.idle()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::test_support::{Fixture, Services, enqueue};

    fn shutdown(fixture: &Fixture, services: &Services) -> Shutdown {
        let retention = RetentionService::new(fixture.storage.clone(), fixture.config.clone());
        Shutdown::new(
            fixture.config.clone(),
            Arc::clone(&services.dispatcher),
            Arc::clone(&services.finalizer),
            Arc::new(retention),
        )
    }

    #[test]
    fn request_for_an_idle_host_is_a_conflict_while_a_run_waits() {
        let fixture = Fixture::new();
        let services = Services::new(&fixture);
        let shutdown = shutdown(&fixture, &services);
        let requested = shutdown.requested();
        enqueue(&services.dispatcher, fixture.insert_run("codex"), None);
        let error = shutdown.request(true).unwrap_err();
        assert_eq!((error.kind, error.retryable), (ErrorKind::Conflict, true));
        assert!(!shutdown.is_ending() && !*requested.borrow());
        assert_eq!(shutdown.request(false).unwrap(), StopResult { stopping: true, running: 0, waiting: 1 });
        assert!(shutdown.is_ending() && *requested.borrow());
    }

    #[test]
    fn shut_down_interrupts_active_runs_and_leaves_waiting_ones() {
        let fixture = Fixture::new();
        let services = Services::new(&fixture);
        let shutdown = shutdown(&fixture, &services);
        let [first, second] = [(); 2].map(|()| fixture.insert_run("codex"));
        [first, second].iter().for_each(|run| enqueue(&services.dispatcher, *run, None));
        let (dispatcher, finalizer) = (Arc::clone(&services.dispatcher), Arc::clone(&services.finalizer));
        let (started, starts) = std::sync::mpsc::channel();
        let dispatch = std::thread::spawn(move || {
            dispatcher.run(|active_run| {
                started.send(active_run.run()).unwrap();
                let finalizer = Arc::clone(&finalizer);
                std::thread::spawn(move || {
                    while active_run.stop_cause().is_none() {
                        std::thread::yield_now();
                    }
                    finalizer.end_waiting(&active_run);
                });
            });
        });
        assert_eq!(starts.recv().unwrap(), first);
        shutdown.shut_down();
        dispatch.join().unwrap();
        assert!(starts.recv().is_err(), "no further run was started");
        let unended = fixture.storage.read(|reader| reader.open_jobs(None)).unwrap();
        assert_eq!(unended.len(), 2, "both are continued by the next host");
    }
}
