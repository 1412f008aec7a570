//! How the host ends: on request, when it is idle, or with its process.

use std::sync::atomic::Ordering;

use ostler_protocol::methods::StopResult;
use ostler_protocol::{ApiError, ErrorKind};
use tokio::sync::watch;

use crate::Engine;

impl Engine {
    /// Asks the host to end.
    ///
    /// # Errors
    /// `CONFLICT` if it is to end only when idle and is not.
    pub fn request_stop(&self, if_idle: bool) -> Result<StopResult, ApiError> {
        let counts = self.dispatcher.counts();
        let (running, waiting) = (counts.running as u64, (counts.ready + counts.scheduled + counts.held) as u64);
        // From here on nothing is taken: whoever was told that the host ends is not told afterwards that it took a run.
        let closed = if if_idle { self.dispatcher.close_if_idle() } else { self.dispatcher.close() };
        if !closed {
            let message = format!("the host is busy: {running} running, {waiting} waiting");
            return Err(ApiError::new(ErrorKind::Conflict, message)
                .retryable(true)
                .hint("`list_queue_jobs` lists them"));
        }
        self.stop.send_replace(true);
        Ok(StopResult { stopping: true, running, waiting })
    }

    /// Takes no runs any more, if there are none. `false` where there are: the host is not idle.
    pub fn close_if_idle(&self) -> bool {
        self.dispatcher.close_if_idle()
    }

    /// Whether the host takes no runs any more, because it is about to end.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.dispatcher.is_stopping()
    }

    /// Ends every live run as interrupted, and hands out no more slots. Blocks until all have ended.
    pub fn shut_down(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.retention.stop();
        for live in self.dispatcher.shut_down() {
            live.wait();
        }
    }

    /// Jobs that wait or run, and word of each change.
    #[must_use]
    pub fn busy(&self) -> watch::Receiver<usize> {
        self.dispatcher.busy()
    }

    /// Word of somebody's wish that the host ends.
    #[must_use]
    pub fn stop_wanted(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// How long a background host waits for something to do, as the configuration says now.
    #[must_use]
    pub fn idle_limit(&self) -> std::time::Duration {
        self.config.load().config.host.idle()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}
