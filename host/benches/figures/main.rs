//! Measures every figure of `docs/performance.md` in one run, together with the limits of the machine.
//!
//! ```console
//! $ cargo bench --bench figures                     # all of them, about five minutes
//! $ cargo bench --bench figures -- runs output      # some
//! $ cargo bench --bench figures -- --quick          # small amounts, to see that it works
//! $ cargo bench --bench figures -- --record         # all, written to docs/performance.md and docs/performance/
//! ```
//!
//! The host is the release binary on a private home below the target folder, driven over its unix socket, with the
//! default configuration and the bundled plugins. Compared values are measured alternately, in rounds, so that a
//! disturbance affects both; the result is the median of the rounds. Work of a single thread is measured by its
//! processor time. The figures are not asserted: this is not a test.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed measurement should stop with an error"
)]

mod archive;
mod client;
mod disk;
mod home;
mod life;
mod logs;
mod machine;
mod output;
mod plugins;
mod queue;
mod record;
mod redaction;
mod report;
mod runs;
mod sessions;
mod stand_in;

use report::Report;

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    /// Small amounts.
    pub(crate) quick: bool,
}

impl Scale {
    /// The first value, or the second for `--quick`.
    pub(crate) fn of<T>(self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

type Section = (&'static str, fn(Scale, &mut Report));

const SECTIONS: &[Section] = &[
    ("life", life::measure),
    ("plugins", plugins::measure),
    ("redaction", redaction::measure),
    ("runs", runs::measure),
    ("sessions", sessions::measure),
    ("output", output::measure),
    ("queue", queue::measure),
    ("archive", archive::measure),
];

fn main() {
    let mut args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [verb, rest @ ..] = args.as_slice()
        && verb == output::DRIP
    {
        return output::drip(rest);
    }
    let mut given = |option: &str| {
        let before = args.len();
        args.retain(|arg| arg != option);
        args.len() < before
    };
    let (quick, record) = (given("--quick"), given("--record"));
    if let Some(unknown) = args.iter().find(|arg| !SECTIONS.iter().any(|(name, _)| name == arg)) {
        let names: Vec<&str> = SECTIONS.iter().map(|(name, _)| *name).collect();
        eprintln!("there is no section {unknown:?}; there are {}", names.join(", "));
        std::process::exit(2);
    }
    if record && (quick || !args.is_empty()) {
        eprintln!("--record measures everything: leave out --quick and the sections");
        std::process::exit(2);
    }
    if record {
        return record::run();
    }
    let folder = home::Root;
    let mut report = Report::default();
    machine::describe();
    for (name, measure) in SECTIONS {
        if args.is_empty() || args.iter().any(|arg| arg == name) {
            println!("\n== {name}");
            measure(Scale { quick }, &mut report);
        }
    }
    report.print();
    drop(folder);
}
