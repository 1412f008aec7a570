//! Rate limit for reports about refused requests, so that they cannot fill the disk.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Minimum time between two reports of one kind.
const PERIOD: Duration = Duration::from_secs(60);

/// Counts refusals of one kind. Reports the first at once, and those of the following [`PERIOD`] together.
#[derive(Clone, Debug)]
pub(super) struct Refusals(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    last_report: Option<Instant>,
    unreported: u64,
}

impl Refusals {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// Counts a refusal. Calls `report` with the number of refusals to report now, and after [`PERIOD`] with the number
    /// since then. Must be called inside a tokio runtime.
    pub(super) fn count(&self, report: impl Fn(u64) + Send + 'static) {
        let Some(count) = self.note(Instant::now()) else { return };
        report(count);
        let refusals = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(PERIOD).await;
            let unreported = std::mem::take(&mut refusals.lock().unreported);
            if unreported > 0 {
                report(unreported);
            }
        });
    }

    /// Counts a refusal. Returns the number to report now; `None` within [`PERIOD`] of the last report.
    fn note(&self, now: Instant) -> Option<u64> {
        let mut state = self.lock();
        if state.last_report.is_some_and(|last| now.duration_since(last) < PERIOD) {
            state.unreported += 1;
            return None;
        }
        state.last_report = Some(now);
        Some(std::mem::take(&mut state.unreported) + 1)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_refusals_at_most_once_a_minute() {
        let refusals = Refusals::new();
        let begin = Instant::now();
        assert_eq!(refusals.note(begin), Some(1));
        for second in 1..60 {
            assert_eq!(refusals.note(begin + Duration::from_secs(second)), None);
        }
        assert_eq!(refusals.note(begin + Duration::from_secs(60)), Some(60));
    }
}
