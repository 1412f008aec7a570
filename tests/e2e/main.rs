//! End-to-end tests of the real binary: each module is a suite, which starts hosts in private homes.
//!
//! The suites of the real CLIs (`codex`, `claude`) print SKIPPED to standard error if the CLI is missing, or fail if
//! `OSTLER_REQUIRE_CLIS=1`.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::needless_pass_by_value,
    reason = "a test may panic, and `json!` reads best in place"
)]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod adapters;
mod agent_sessions;
mod answers;
mod bad_input;
mod callers;
mod capacity;
mod checked;
mod claude;
mod clock;
mod codex;
mod commands;
mod completions;
mod contract;
mod conversations;
mod crash;
mod deletion;
mod escape;
mod export;
mod failpoints;
mod hostile_children;
mod hostile_plugins;
mod leaks;
mod limits;
mod machines;
mod output;
mod piped;
mod plugins_closed;
mod policy_tools;
mod profiles;
mod queue;
mod rehearsal;
mod reload;
mod retention;
mod sessions;
mod sessions_cli;
mod stop;
mod storage_faults;
mod streams;
mod terminal_sessions;
mod thread;
mod tokens;
mod tools;
mod transports;
mod upgrade;
mod usability;
