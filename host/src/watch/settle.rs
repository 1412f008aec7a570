//! When a file that has changed can be read: not while it is being written, and once for many changes.

use std::time::{Duration, Instant};

/// Nothing must happen for so long after a change was complete.
const QUIET: Duration = Duration::from_millis(60);

/// Where change follows on change, one is taken up after so long at the latest.
const LONGEST_UNREST: Duration = Duration::from_secs(1);

/// A file that somebody writes to and does not close is read after so long at the latest.
const LONGEST_WRITE: Duration = Duration::from_secs(10);

/// What has happened to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happening {
    /// It was closed after writing, replaced, made, taken away.
    Complete,
    /// Somebody writes to it.
    Writing,
}

/// Changes of one subject that nobody has taken up yet.
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
    /// Something has happened.
    pub(super) fn note(&mut self, happening: Happening, now: Instant) {
        let first = self.pending.map_or(now, |pending| pending.first);
        let due = match happening {
            Happening::Complete => (now + QUIET).min((first + LONGEST_UNREST).max(now)),
            Happening::Writing => first + LONGEST_WRITE,
        };
        self.pending = Some(Pending { first, due: due.max(now) });
    }

    /// To be looked at again after a pause, whether or not anything happens.
    pub(super) fn again(&mut self, pause: Duration, now: Instant) {
        self.pending = Some(Pending { first: now, due: now + pause });
    }

    /// When it can be read.
    pub(super) fn due(&self) -> Option<Instant> {
        self.pending.map(|pending| pending.due)
    }

    /// Whether it can be read now; nothing is pending after that.
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
    fn one_change_is_taken_up_once_and_soon() {
        let start = Instant::now();
        let mut settling = Settling::default();
        assert_eq!(settling.due(), None);
        settling.note(Happening::Complete, start);
        assert!(!settling.take(start));
        assert!(settling.take(start + QUIET));
        assert!(!settling.take(start + QUIET), "once");
    }

    #[test]
    fn what_is_being_written_is_not_read_until_it_is_closed() {
        let start = Instant::now();
        let mut settling = Settling::default();
        for step in 0..30 {
            settling.note(Happening::Writing, start + 200 * MS * step);
            assert!(!settling.take(start + 200 * MS * step));
        }
        let closed = start + 200 * MS * 29;
        settling.note(Happening::Complete, closed);
        assert!(settling.take(closed), "it has waited long enough");

        settling.note(Happening::Writing, start);
        assert!(!settling.take(start + LONGEST_WRITE - MS));
        assert!(settling.take(start + LONGEST_WRITE), "not for ever");
    }

    proptest! {
        /// However changes follow on each other, the last is taken up, soon, and few of them are taken up at all.
        #[test]
        fn the_last_change_is_taken_up(gaps in prop::collection::vec(0_u32..40, 1..400)) {
            let start = Instant::now();
            let (mut settling, mut now, mut taken) = (Settling::default(), start, 0_u32);
            for gap in gaps {
                // Each rewrite: truncated, written, closed.
                settling.note(Happening::Writing, now);
                settling.note(Happening::Complete, now);
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
