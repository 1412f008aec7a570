//! Named places at which a test lets the host die in the midst of its work, as `kill -9` would.
//!
//! A host with `OSTLER_FAILPOINT=exit.before@2` in its environment kills itself when it comes to `exit.before` for the
//! second time; without a number, for the first. Only builds with debug assertions have any of this: in a release build
//! [`reach`] is empty, and neither the names nor the variable are in the binary.
//!
//! | name | before / after |
//! |---|---|
//! | `insert` | the transaction that makes a run |
//! | `acknowledge.before` | the answer that names the new run; after it, a test kills the host itself |
//! | `claim` | a job gets a slot |
//! | `spawn` | the child is made; `spawn.prepared`: it is, and waits; `spawn.recorded`: its identity is on record, too |
//! | `chunk` | the first output of an attempt is handed to storage |
//! | `exit` | the exit of the child is handed to storage |
//! | `end` | the transaction that ends a run |
//! | `requeue` | the transaction that puts a run back for its next attempt |
//! | `recover` | what an earlier host left is taken up; `recover.settled`: once for each run that has ended under it |
//! | `commit` | any transaction of the one writer; after it, nobody has been told yet |

/// The host comes to a place of this name.
#[cfg(debug_assertions)]
pub fn reach(name: &str) {
    use std::sync::LazyLock;

    static ARMED: LazyLock<Option<Armed>> =
        LazyLock::new(|| Some(Armed::parse(&std::env::var("OSTLER_FAILPOINT").ok()?)));

    if ARMED.as_ref().is_some_and(|armed| armed.is_due(name)) {
        use nix::sys::signal::{Signal, kill};
        let _ = kill(nix::unistd::getpid(), Signal::SIGKILL);
        // The signal is on its way; this thread must not get any further.
        loop {
            std::thread::park();
        }
    }
}

/// The host comes to a place of this name: without a meaning in this build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn reach(_: &str) {}

/// The place at which this host is to die.
#[cfg(debug_assertions)]
#[derive(Debug)]
struct Armed {
    name: String,
    /// How often the host comes there and lives on.
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

    /// Counts a visit; true for the one that is not to be survived.
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
    fn the_counted_visit_is_due_and_no_other_place() {
        let armed = Armed::parse("exit.before@3");
        let visits: Vec<bool> = (0..4).map(|_| armed.is_due("exit.before")).collect();
        assert_eq!(visits, [false, false, true, true]);
        let armed = Armed::parse("exit.before");
        assert!(!armed.is_due("exit.after"));
        assert!(armed.is_due("exit.before"));
    }
}
