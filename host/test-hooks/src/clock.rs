//! What the machine's clocks show.
//!
//! [`now`] is the wall clock: it says when something happened, and anybody may set it at any time. How much time has
//! passed is told by [`uptime`], which nobody can set.
//!
//! In builds with debug assertions a test can set both for one host: `OSTLER_TEST_CLOCK` names a file with two numbers,
//! by how many milliseconds the wall clock and the uptime are ahead of the machine's. `OSTLER_TEST_PATIENCE_MS` makes a
//! host less patient with slow clients.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// The wall clock.
#[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    now.checked_add(SignedDuration::from_millis(shift().0)).unwrap_or(now)
}

/// Time since the machine was started, suspended or not.
pub fn uptime() -> Duration {
    #[cfg(target_os = "linux")]
    const CLOCK: nix::time::ClockId = nix::time::ClockId::CLOCK_BOOTTIME;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: nix::time::ClockId = nix::time::ClockId::CLOCK_MONOTONIC;
    // The clock is there on every system that the host runs on; without it, every hour would count as none.
    let uptime = nix::time::clock_gettime(CLOCK).map(Duration::from).unwrap_or_default();
    uptime.saturating_add(Duration::from_millis(u64::try_from(shift().1).unwrap_or(0)))
}

/// How long a client may take for what it has begun: usually so long.
#[cfg(debug_assertions)]
pub fn patience(usual: Duration) -> Duration {
    use std::sync::LazyLock;

    static TOLD: LazyLock<Option<Duration>> =
        LazyLock::new(|| Some(Duration::from_millis(std::env::var("OSTLER_TEST_PATIENCE_MS").ok()?.parse().ok()?)));
    TOLD.unwrap_or(usual)
}

/// How long a client may take for what it has begun: so long.
#[cfg(not(debug_assertions))]
pub const fn patience(usual: Duration) -> Duration {
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
