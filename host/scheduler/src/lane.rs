//! One lane: the ready jobs of one provider instance, in order.

use std::collections::BTreeMap;

use super::clock::Time;

/// The order of arrival of equal jobs: the caller's number, then the order of submission.
pub(super) type Arrival = (u64, u64);

/// The sort key of a ready job; the least starts first. The static form of its effective priority, then the order of
/// arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// `since − priority × aging` in milliseconds. Wider than its parts, so that nothing overflows.
    static_order: i128,
    pub(super) arrival: Arrival,
}

impl Key {
    pub(super) fn new(since: Time, priority: i32, aging_ms: u64, arrival: Arrival) -> Self {
        let static_order = i128::from(since.as_ms()) - i128::from(priority) * i128::from(aging_ms);
        Self { static_order, arrival }
    }
}

#[derive(Debug)]
pub(super) struct Lane<J> {
    pub(super) ready: BTreeMap<Key, J>,
    pub(super) running: usize,
    /// The end of a timed pause, in queue time.
    pub(super) paused_until: Option<Time>,
}

impl<J> Default for Lane<J> {
    fn default() -> Self {
        Self { ready: BTreeMap::new(), running: 0, paused_until: None }
    }
}

impl<J> Lane<J> {
    pub(super) fn is_paused(&self, now: Time) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    /// Whether the lane has no state and can be removed.
    pub(super) fn is_unused(&self, now: Time) -> bool {
        self.ready.is_empty() && self.running == 0 && !self.is_paused(now)
    }
}
