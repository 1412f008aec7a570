//! Lines in the log for what is refused, few enough that nobody can fill the disk with them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines about the same.
const PERIOD: Duration = Duration::from_secs(60);

/// Counts refusals of one kind. The first one is told at once, those of the next minute together.
#[derive(Clone, Debug)]
pub(super) struct Refusals(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    told: Option<Instant>,
    untold: u64,
}

impl Refusals {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// Counts one. Calls `tell` with the number of refusals that are to be told of now, and later with those that came
    /// meanwhile. Needs a runtime.
    pub(super) fn count(&self, tell: impl Fn(u64) + Send + 'static) {
        let Some(told) = self.note(Instant::now()) else { return };
        tell(told);
        let refusals = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(PERIOD).await;
            let untold = std::mem::take(&mut refusals.lock().untold);
            if untold > 0 {
                tell(untold);
            }
        });
    }

    /// How many are to be told of now.
    fn note(&self, now: Instant) -> Option<u64> {
        let mut state = self.lock();
        if state.told.is_some_and(|told| now.duration_since(told) < PERIOD) {
            state.untold += 1;
            return None;
        }
        state.told = Some(now);
        Some(std::mem::take(&mut state.untold) + 1)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_refusals_make_one_line_a_minute() {
        let refusals = Refusals::new();
        let begin = Instant::now();
        assert_eq!(refusals.note(begin), Some(1));
        for second in 1..60 {
            assert_eq!(refusals.note(begin + Duration::from_secs(second)), None);
        }
        assert_eq!(refusals.note(begin + Duration::from_secs(60)), Some(60));
    }
}
