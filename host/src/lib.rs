//! Ostler runs coding-agent CLIs as queued, supervised, redacted and audited jobs.
//!
//! The arrows between the modules point one way: [`cli`] → [`api`] → [`engine`] → [`scheduler`], [`runner`],
//! [`redaction`], [`plugins`], [`storage`], [`config`], [`egress`]. Those last ones do not know each other; [`model`] is
//! the data that all may use, as they may [`clock`], [`failpoint`] and [`ownership`]. [`host`] is the process that puts them together, and
//! [`rehearsal`] the stand-in agent.

pub mod api;
pub mod cli;
mod clock;
pub mod config;
pub mod egress;
pub mod engine;
mod failpoint;
mod hex;
pub mod host;
pub mod model;
mod ownership;
pub mod plugins;
pub mod redaction;
pub mod rehearsal;
pub mod runner;
pub mod scheduler;
pub mod storage;
pub mod tokens;

use std::ffi::OsString;
use std::process::ExitCode;

/// The program: the command line, or one of the hidden verbs under which the binary starts itself.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    match args.get(1).and_then(|verb| verb.to_str()) {
        Some(rehearsal::VERB) => rehearsal::main(args.into_iter().skip(2)),
        Some(runner::INIT_VERB) => runner::serve_as_init(args.into_iter().skip(2)),
        Some(host::ZYGOTE_VERB) => runner::serve_zygote(),
        Some(engine::PROBE_VERB) => engine::probe_sandbox(args.into_iter().skip(2)),
        Some(host::COMPILE_VERB) => host::compile(args.into_iter().skip(2)),
        Some(cli::COMPLETE_VERB) => cli::complete(args.into_iter().skip(2), &host::Local),
        _ => cli::main(args, &host::Local),
    }
}
