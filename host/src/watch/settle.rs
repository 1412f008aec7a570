//! Decides when a changed file is read: not while it is being written, and once for several changes.

use std::time::{Duration, Instant};

/// Quiet time after a complete change before the file is read.
const QUIET: Duration = Duration::from_millis(60);

/// Maximum delay while changes follow each other.
const MAX_DELAY: Duration = Duration::from_secs(1);

/// Maximum delay while a file is being written and not closed.
const MAX_WRITE_DELAY: Duration = Duration::from_secs(10);

/// A change of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It was closed after writing, replaced, created or deleted.
    Complete,
    /// It is being written.
    Writing,
}

/// Pending changes of one subject.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Settling {
    pending: Option<Pending>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    first: Instant,
    due: Instant,
}

impl Settling {
    /// Records a change.
    pub(super) fn note(&mut self, change: Change, now: Instant) {
        let first = self.pending.map_or(now, |pending| pending.first);
        let due = match change {
            Change::Complete => (now + QUIET).min((first + MAX_DELAY).max(now)),
            Change::Writing => first + MAX_WRITE_DELAY,
        };
        self.pending = Some(Pending { first, due: due.max(now) });
    }

    /// Schedules another check after a pause, even without a change.
    pub(super) fn retry_after(&mut self, pause: Duration, now: Instant) {
        self.pending = Some(Pending { first: now, due: now + pause });
    }

    /// When the file can be read.
    pub(super) fn due(&self) -> Option<Instant> {
        self.pending.map(|pending| pending.due)
    }

    /// Whether the file can be read now. If so, clears the pending changes.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        self.pending.take_if(|pending| pending.due <= now).is_some()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn handles_one_change_once_and_soon() {
        let start = Instant::now();
        let mut settling = Settling::default();
        assert_eq!(settling.due(), None);
        settling.note(Change::Complete, start);
        assert!(!settling.take(start));
        assert!(settling.take(start + QUIET));
        assert!(!settling.take(start + QUIET), "once");
    }

    #[test]
    fn waits_until_a_written_file_is_closed() {
        let start = Instant::now();
        let mut settling = Settling::default();
        for step in 0..30 {
            settling.note(Change::Writing, start + 200 * MS * step);
            assert!(!settling.take(start + 200 * MS * step));
        }
        let closed = start + 200 * MS * 29;
        settling.note(Change::Complete, closed);
        assert!(settling.take(closed), "it has waited long enough");

        settling.note(Change::Writing, start);
        assert!(!settling.take(start + MAX_WRITE_DELAY - MS));
        assert!(settling.take(start + MAX_WRITE_DELAY), "not for ever");
    }

    proptest! {
        /// For any sequence of changes, the last one is handled soon, and only a few are handled at all.
        #[test]
        fn handles_the_last_change(gaps in prop::collection::vec(0_u32..40, 1..400)) {
            let start = Instant::now();
            let (mut settling, mut now, mut taken) = (Settling::default(), start, 0_u32);
            for gap in gaps {
                // Each rewrite: truncate, write, close.
                settling.note(Change::Writing, now);
                settling.note(Change::Complete, now);
                let until = now + MS * gap;
                if settling.due().is_some_and(|due| due <= until) {
                    prop_assert!(settling.take(until));
                    taken += 1;
                }
                now = until;
            }
            if let Some(due) = settling.due() {
                prop_assert!(due <= now + QUIET);
            }
            let seconds = now.duration_since(start).as_secs_f64();
            prop_assert!(f64::from(taken) <= seconds / QUIET.as_secs_f64() + 1.0);
        }
    }
}
