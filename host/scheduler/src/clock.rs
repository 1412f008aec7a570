//! Wall-clock times, and the clock that never runs backwards.

use std::time::Duration;

/// A point of time: milliseconds since the Unix epoch. Arithmetic saturates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

impl Time {
    /// The time at this many milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_ms(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_ms(self) -> i64 {
        self.0
    }

    /// This time plus `duration` (whole milliseconds).
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long it is from `earlier` to this time; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(i128::from(self.0) - i128::from(earlier.0)).unwrap_or(0))
    }

    const fn shifted(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

/// Derives *queue time* from wall-clock readings: it runs at the same rate and never backwards.
///
/// If the wall clock was set, in either direction, [`QueueClock::notice`] keeps the queue time unchanged. Without it,
/// when the wall clock goes back, the difference is added to every later reading, and when it jumps forward, queue time
/// jumps, too. A stored queue time ahead of the clock (the machine's clock was set back while no host ran) advances the
/// queue time to it, see [`QueueClock::catch_up`].
#[derive(Clone, Copy, Debug, Default)]
pub struct QueueClock {
    last: Option<Time>,
    offset_ms: i64,
    /// The wall clock and the steady one when they were last read together.
    together: Option<(Time, Duration)>,
}

impl QueueClock {
    /// The largest lead of a stored time that is accepted (ten years). A time further ahead is taken as damaged and
    /// counts as now, so that it cannot stop aging at the end of the range.
    const MAX_LEAD: Duration = Duration::from_secs(10 * 366 * 86_400);

    /// Up to this difference in milliseconds between the two clocks, the wall clock does not count as set: a time server
    /// adjusts it, and the two are not read in the same instant.
    const TOLERANCE_MS: i64 = 1000;

    /// Takes readings of the wall clock and the steady clock, made together. If the wall clock was set since the last
    /// readings, queue time does not follow it; returns whether it was. Call this before the wall clock's reading is
    /// used for anything else.
    pub fn notice(&mut self, wall: Time, steady: Duration) -> bool {
        let Some((wall_before, steady_before)) = self.together.replace((wall, steady)) else { return false };
        let passed = i64::try_from(steady.saturating_sub(steady_before).as_millis()).unwrap_or(i64::MAX);
        let set_by = wall.0.saturating_sub(wall_before.0).saturating_sub(passed);
        if set_by.saturating_abs() <= Self::TOLERANCE_MS {
            return false;
        }
        self.offset_ms = self.offset_ms.saturating_sub(set_by);
        true
    }

    /// Takes a reading of the wall clock and returns the queue time, which never decreases.
    pub fn observe(&mut self, wall: Time) -> Time {
        let time = wall.shifted(self.offset_ms);
        match self.last {
            Some(last) if time < last => {
                self.offset_ms = self.offset_ms.saturating_add(last.0.saturating_sub(time.0));
                last
            }
            _ => {
                self.last = Some(time);
                time
            }
        }
    }

    /// Takes a queue time from storage: if it is ahead of the queue time at `wall`, the queue time advances to it.
    /// Returns the time to use.
    pub fn catch_up(&mut self, wall: Time, stored: Time) -> Time {
        let now = self.observe(wall);
        if stored <= now {
            return stored;
        }
        if stored.since(now) > Self::MAX_LEAD {
            return now;
        }
        self.offset_ms = self.offset_ms.saturating_add(stored.0.saturating_sub(now.0));
        self.last = Some(stored);
        stored
    }

    /// The queue time at which the wall clock shows `wall`, if the clock does not jump until then.
    #[must_use]
    pub const fn queue_time(&self, wall: Time) -> Time {
        wall.shifted(self.offset_ms)
    }

    /// The wall-clock time at the queue time `time`, if the clock does not jump until then.
    #[must_use]
    pub const fn wall_time(&self, time: Time) -> Time {
        time.shifted(self.offset_ms.saturating_neg())
    }
}
