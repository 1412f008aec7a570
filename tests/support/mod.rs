//! Common code of the end-to-end suites: private hosts, clients, and checks of processes and files.
//!
//! A [`TestHost`] is one `OSTLER_HOME` and a working folder, in a temporary folder. It starts the real binary as
//! a user would, waits for events and never for time, and ends only what was started from it: every process of a test
//! host carries the path of that folder in its environment.
#![allow(
    clippy::disallowed_methods,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "shared by several suites, none of which uses all of it; a test may panic, and `json!` reads best in place"
)]

mod agent_fixture;
mod agents;
mod background_run;
pub mod cases;
mod clis;
mod dice;
pub mod duplex;
pub mod escape;
mod follow;
#[path = "../guests/mod.rs"]
pub mod guests;
pub mod hostile;
mod invariants;
#[path = "../model_server/mod.rs"]
pub mod model_server;
mod processes;
mod record;
mod secret_probe;
mod session;
pub mod session_cases;
pub mod terminal;
mod test_host;
mod wire;

pub use agent_fixture::{AgentFixture, Cli, KEY};
pub use agents::agent_cli;
pub use background_run::BackgroundRun;
pub use clis::{CLAUDE, CODEX};
pub use dice::Dice;
pub use follow::Follower;
pub use invariants::{ResourceBaseline, check_database, check_log, database};
pub use processes::{Process, below, carrying, peak_memory, signal};
pub use record::{answer, check_run_events, end_of, kinds, of_type, screen, semantics, tool_outputs, warning_codes};
pub use secret_probe::SecretProbe;
pub use session::Session;
pub use terminal::Terminal;
pub use test_host::{Done, TestHost};
pub use wire::{CallError, Endpoint, call, events, post, stored_events};

use sha2::{Digest, Sha256};
use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long a test waits before it fails. Far longer than anything takes on a busy machine.
pub const TIMEOUT: Duration = Duration::from_secs(90);

/// The binary under test: the one that was built with the tests, or the one that `OSTLER_TEST_BINARY` names.
pub fn binary() -> PathBuf {
    std::env::var_os("OSTLER_TEST_BINARY").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_ostler")), PathBuf::from)
}

/// Whether a test can control the clocks and failpoints of the binary under test. Only builds with debug assertions
/// support that. Prints SKIPPED if not.
pub fn steerable() -> bool {
    let steerable = cfg!(debug_assertions) && std::env::var_os("OSTLER_TEST_BINARY").is_none();
    if !steerable {
        print_skipped("the binary under test was built without debug assertions");
    }
    steerable
}

/// Prints once for each reason that tests are skipped. Writes past the test harness, which captures what passing tests
/// print.
pub fn print_skipped(reason: &str) {
    static PRINTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let is_new = PRINTED.lock().unwrap_or_else(PoisonError::into_inner).insert(reason.to_owned());
    if is_new {
        let _ = writeln!(io::stderr(), "SKIPPED: {reason}");
    }
}

/// SHA-256 as `sha256sum` prints it.
pub fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Calls `look` until it finds something, for changes that no event announces, such as the end of a process.
///
/// # Panics
/// After `limit`.
pub fn wait_until<T>(what: &str, limit: Duration, look: impl FnMut() -> Option<T>) -> T {
    poll(limit, look).unwrap_or_else(|| panic!("{what}: not within {limit:?}"))
}

/// Calls `look` until it finds something, at most for `limit`.
pub fn poll<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        let found = look();
        if found.is_some() || start.elapsed() >= limit {
            return found;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
