//! Counts a plugin's faults, and disables the plugin after too many.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::limits::Limits;

/// The fault history of one plugin with one set of settings.
#[derive(Debug)]
pub(super) struct Health {
    consecutive_limit: u32,
    in_window_limit: usize,
    window: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    consecutive: u32,
    recent: VecDeque<Instant>,
    disabled: Option<String>,
}

impl Health {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            consecutive_limit: limits.faults_in_a_row.max(1),
            in_window_limit: usize::try_from(limits.faults_in_window.max(1)).unwrap_or(usize::MAX),
            window: limits.fault_window,
            state: Mutex::default(),
        }
    }

    /// Why the plugin is disabled, if it is.
    pub(super) fn disabled(&self) -> Option<String> {
        self.lock().disabled.clone()
    }

    /// Records a call that returned, whatever its answer.
    pub(super) fn success(&self) {
        self.lock().consecutive = 0;
    }

    /// Records a call that ended in a fault.
    pub(super) fn fault(&self, message: &str) {
        self.fault_at(message, Instant::now());
    }

    fn fault_at(&self, message: &str, now: Instant) {
        let mut state = self.lock();
        state.consecutive += 1;
        state.recent.push_back(now);
        while state.recent.front().is_some_and(|first| now.saturating_duration_since(*first) > self.window) {
            state.recent.pop_front();
        }
        if state.disabled.is_none()
            && (state.consecutive >= self.consecutive_limit || state.recent.len() >= self.in_window_limit)
        {
            let count = state.recent.len();
            state.disabled = Some(format!(
                "it failed {count} times within {} minutes, at last: {message}",
                self.window.as_secs().div_ceil(60)
            ));
        }
    }

    /// Enables the plugin again and clears its history.
    pub(super) fn reset(&self) {
        *self.lock() = State::default();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugin_is_disabled_after_consecutive_or_frequent_faults() {
        let health = Health::new(&Limits::default());
        health.fault("a");
        health.fault("b");
        health.success();
        health.fault("c");
        health.fault("d");
        assert_eq!(health.disabled(), None);
        health.success();
        assert_eq!(health.disabled(), None);
        health.fault("e");
        assert!(health.disabled().is_some_and(|reason| reason.contains("5 times") && reason.ends_with("e")));
        health.success();
        assert!(health.disabled().is_some());
        health.reset();
        assert_eq!(health.disabled(), None);
    }

    #[test]
    fn faults_outside_of_the_window_do_not_count() {
        let health = Health::new(&Limits::default());
        let start = Instant::now();
        for minute in [0, 1, 2, 3, 30, 31, 32, 33] {
            health.fault_at("x", start + Duration::from_secs(60 * minute));
            health.success();
        }
        assert_eq!(health.disabled(), None);
        health.fault_at("x", start + Duration::from_secs(60 * 34));
        assert!(health.disabled().is_some());
    }
}
