//! Named points in the code at which a test makes the host die, as `kill -9` would.
//!
//! A host with `OSTLER_FAILPOINT=exit.before@2` in its environment kills itself when it reaches `exit.before` for the
//! second time; without a number, for the first time. Only builds with debug assertions have any of this: in a release
//! build [`reach`] is empty, and neither the names nor the variable are in the binary.
//!
//! | name | before / after |
//! |---|---|
//! | `insert` | the transaction that inserts a run |
//! | `acknowledge.before` | the answer that names the new run; after it, a test kills the host itself |
//! | `claim` | a job gets a slot |
//! | `spawn` | the child is made; `spawn.prepared`: it exists and waits; `spawn.recorded`: its identity is stored |
//! | `chunk` | the first output of an attempt is passed to storage |
//! | `exit` | the exit of the child is passed to storage |
//! | `end` | the transaction that ends a run |
//! | `requeue` | the transaction that puts a run back for its next attempt |
//! | `recover` | the runs of an earlier host are resumed; `recover.settled`: once for each run that ended with it |
//! | `erase.deleted` | the copies of deleted rows are overwritten |
//! | `commit` | any transaction of the writer; after it, before any notification |

/// Marks the point with this name.
#[cfg(debug_assertions)]
pub fn reach(name: &str) {
    use std::sync::LazyLock;

    static ARMED: LazyLock<Option<Armed>> =
        LazyLock::new(|| Some(Armed::parse(&std::env::var("OSTLER_FAILPOINT").ok()?)));

    if ARMED.as_ref().is_some_and(|armed| armed.is_due(name)) {
        use nix::sys::signal::{Signal, kill};
        let _ = kill(nix::unistd::getpid(), Signal::SIGKILL);
        // The signal is pending; this thread must not continue.
        loop {
            std::thread::park();
        }
    }
}

/// Marks the point with this name. Does nothing in this build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn reach(_: &str) {}

/// The point at which this host dies.
#[cfg(debug_assertions)]
#[derive(Debug)]
struct Armed {
    name: String,
    /// How often the host passes the point before.
    spared: std::sync::atomic::AtomicU32,
}

#[cfg(debug_assertions)]
impl Armed {
    /// Reads `name` or `name@count`.
    fn parse(text: &str) -> Self {
        let counted = text.split_once('@').and_then(|(name, count)| Some((name, count.parse::<u32>().ok()?)));
        let (name, count) = counted.unwrap_or((text, 1));
        Self { name: name.to_owned(), spared: count.saturating_sub(1).into() }
    }

    /// Counts a visit; returns true for the one at which the host dies.
    fn is_due(&self, name: &str) -> bool {
        use std::sync::atomic::Ordering;
        let visits = |left: u32| left.checked_sub(1);
        name == self.name && self.spared.fetch_update(Ordering::Relaxed, Ordering::Relaxed, visits).is_err()
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[test]
    fn only_the_counted_visit_of_the_named_point_is_due() {
        let armed = Armed::parse("exit.before@3");
        let visits: Vec<bool> = (0..4).map(|_| armed.is_due("exit.before")).collect();
        assert_eq!(visits, [false, false, true, true]);
        let armed = Armed::parse("exit.before");
        assert!(!armed.is_due("exit.after"));
        assert!(armed.is_due("exit.before"));
    }
}
