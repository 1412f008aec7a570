//! The machine's clocks.
//!
//! [`now`] is the wall clock: it says when something happened, and can be set at any time. [`uptime`] measures how much
//! time has passed, and cannot be set.
//!
//! In builds with debug assertions a test can set both for one host: `OSTLER_TEST_CLOCK` names a file with two numbers,
//! the milliseconds by which the wall clock and the uptime are ahead of the machine's. `OSTLER_TEST_CLIENT_LIMIT_MS`
//! shortens the time that a host waits for slow clients.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// The wall clock, in microseconds: as precise as storage keeps times, so that an answer has the time that is read later.
#[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    let now = now.checked_add(SignedDuration::from_millis(shift().0)).unwrap_or(now);
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

/// Time since the machine was started, suspended or not.
pub fn uptime() -> Duration {
    #[cfg(target_os = "linux")]
    const CLOCK: nix::time::ClockId = nix::time::ClockId::CLOCK_BOOTTIME;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: nix::time::ClockId = nix::time::ClockId::CLOCK_MONOTONIC;
    // The clock exists on every supported system; without it, no time would pass.
    let uptime = nix::time::clock_gettime(CLOCK).map(Duration::from).unwrap_or_default();
    uptime.saturating_add(Duration::from_millis(u64::try_from(shift().1).unwrap_or(0)))
}

/// The time limit for a client that sends a request or reads an answer: `usual`, unless a test overrides it.
#[cfg(debug_assertions)]
pub fn client_time_limit(usual: Duration) -> Duration {
    use std::sync::LazyLock;

    static OVERRIDE: LazyLock<Option<Duration>> =
        LazyLock::new(|| Some(Duration::from_millis(std::env::var("OSTLER_TEST_CLIENT_LIMIT_MS").ok()?.parse().ok()?)));
    OVERRIDE.unwrap_or(usual)
}

/// The time limit for a client that sends a request or reads an answer.
#[cfg(not(debug_assertions))]
pub const fn client_time_limit(usual: Duration) -> Duration {
    usual
}

#[cfg(debug_assertions)]
fn shift() -> (i64, i64) {
    use std::path::PathBuf;
    use std::sync::LazyLock;

    static FILE: LazyLock<Option<PathBuf>> = LazyLock::new(|| Some(std::env::var_os("OSTLER_TEST_CLOCK")?.into()));
    let read = || {
        let text = std::fs::read_to_string(FILE.as_ref()?).ok()?;
        let (wall, uptime) = text.trim().split_once(' ')?;
        Some((wall.parse().ok()?, uptime.parse().ok()?))
    };
    read().unwrap_or_default()
}

#[cfg(not(debug_assertions))]
const fn shift() -> (i64, i64) {
    (0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes() {
        let (wall, up) = (now(), uptime());
        assert!(up > Duration::ZERO);
        while uptime() == up {
            std::thread::yield_now();
        }
        assert!(now() >= wall);
    }
}
