//! Runs releases of the agent CLIs from npm through the host against the scripted model server, and compares what the
//! adapters claim with what happens.
//!
//! `cargo test` skips it, because it installs programs and takes several minutes for each release.
//!
//! ```text
//! cargo test -p ostler --test compatibility -- [OPTIONS] codex@0.171.0 claude@2.1.332 …
//!   --releases DIR    folder in which releases are installed and kept; without it, they are removed at the end
//!   --results FILE    results as JSON; those of this run are merged into it
//!   --page FILE       write the page with the table of all results
//!   --select WHICH    cases by their result: all (default), missing (those without one), or wrong (and those without one)
//!   --cases NAMES     only cases whose name contains one of these texts, separated by commas
//!   --parallel N      number of releases at one time, 1 to 4 (default 2)
//!   --minutes N       start no case after this time (default 180)
//! ```
//!
//! The exit code is 1 if a cell is wrong or was not tried, 2 if the arguments are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod cases;
mod fixture;
mod page;
mod release;
#[allow(dead_code, unused_imports, unused_macros, reason = "the end-to-end suites use the rest")]
#[path = "../support/mod.rs"]
mod support;

use fixture::{Fixture, State, Verdict};
use nix::sys::signal::{SigSet, Signal};
use release::Release;
use std::{
    collections::VecDeque,
    fs,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Which cases to run, by the result of earlier runs.
#[derive(Clone, Copy)]
enum Select {
    All,
    /// Cases without a result, to continue an interrupted run.
    Missing,
    /// Cases without a result, and those that were wrong.
    Wrong,
}

impl Select {
    fn includes(self, before: Option<State>) -> bool {
        match (self, before) {
            (Self::All, _) | (_, None) => true,
            (Self::Wrong, Some(state)) => state == State::Wrong,
            (Self::Missing, Some(_)) => false,
        }
    }
}

/// The command line.
struct Options {
    releases: Vec<Release>,
    folder: Option<PathBuf>,
    results: Option<PathBuf>,
    page: Option<PathBuf>,
    select: Select,
    cases: Vec<String>,
    parallel: usize,
    limit: Duration,
}

/// Most releases of one run.
const MAX_RELEASES: usize = 64;

impl Options {
    fn read(args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            releases: Vec::new(),
            folder: None,
            results: None,
            page: None,
            select: Select::All,
            cases: Vec::new(),
            parallel: 2,
            limit: Duration::from_secs(180 * 60),
        };
        let mut args = args;
        while let Some(arg) = args.next() {
            if !arg.starts_with("--") {
                options.releases.push(Release::read(&arg)?);
                continue;
            }
            let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
            let number = |max: u64| match value.parse() {
                Ok(number) if (1..=max).contains(&number) => Ok(number),
                _ => Err(format!("{arg}: {value:?} is not a number from 1 to {max}")),
            };
            match arg.as_str() {
                "--releases" => options.folder = Some(PathBuf::from(value)),
                "--results" => options.results = Some(PathBuf::from(value)),
                "--page" => options.page = Some(PathBuf::from(value)),
                "--select" => {
                    options.select = match value.as_str() {
                        "all" => Select::All,
                        "missing" => Select::Missing,
                        "wrong" => Select::Wrong,
                        _ => return Err(format!("--select: {value:?} is not all, missing or wrong")),
                    }
                }
                "--cases" => options.cases = value.split(',').map(str::to_owned).collect(),
                "--parallel" => options.parallel = usize::try_from(number(4)?).unwrap_or(1),
                "--minutes" => options.limit = Duration::from_secs(60 * number(24 * 60)?),
                _ => return Err(format!("there is no option {arg}")),
            }
        }
        if options.releases.len() > MAX_RELEASES {
            return Err(format!("{} releases are too many; {MAX_RELEASES} are the most", options.releases.len()));
        }
        Ok(options)
    }

    fn wants(&self, name: &str, before: Option<State>) -> bool {
        let named = self.cases.is_empty() || self.cases.iter().any(|part| name.contains(part.as_str()));
        named && self.select.includes(before)
    }
}

fn main() -> ExitCode {
    // Test runners ask for a list of tests, which is empty.
    if std::env::args().any(|arg| arg == "--list") {
        return ExitCode::SUCCESS;
    }
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("compatibility: {problem}");
            return ExitCode::from(2);
        }
    };
    if options.releases.is_empty() && options.results.is_none() {
        eprintln!("SKIPPED: no releases are named, such as codex@0.171.0");
        return ExitCode::SUCCESS;
    }
    fixture::hide_panics();
    wait_for_signals();
    let mut results = page::Results::read(options.results.as_deref());
    let temporary = options.folder.is_none().then(|| tempfile::tempdir().unwrap());
    let folder = options.folder.clone().unwrap_or_else(|| temporary.as_ref().unwrap().path().to_owned());
    fs::create_dir_all(&folder).unwrap();
    let end = Instant::now() + options.limit;
    let earlier = results.clone();
    let waiting = Mutex::new(options.releases.iter().cloned().collect::<VecDeque<_>>());
    let found = Mutex::new(&mut results);
    std::thread::scope(|threads| {
        for _ in 0..options.parallel {
            threads.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap().pop_front();
                    let Some(release) = next else { return };
                    let wants = |case: &str| options.wants(case, earlier.state(&release, case));
                    try_release(&release, &folder, &wants, end, &|case, verdict| {
                        let mut found = found.lock().unwrap();
                        found.put(&release, case, verdict);
                        if let Some(file) = &options.results {
                            found.write(file);
                        }
                    });
                }
            });
        }
    });
    if let Some(file) = &options.page {
        fs::write(file, results.page()).unwrap();
    }
    let wrong = results.count(State::Wrong);
    // If only some cases are selected, the others may be missing.
    let missing = if options.cases.is_empty() { results.missing() } else { 0 };
    eprintln!("{} cells, {wrong} wrong, {missing} not tried", results.cells());
    if wrong + missing == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// Whether a signal has asked to stop. The cases that are running finish, so that nothing is left behind.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// Handles SIGINT and SIGTERM from now on. Children start with default signal handlers.
fn wait_for_signals() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block().unwrap();
    std::thread::spawn(move || {
        if signals.wait().is_ok() {
            eprintln!("stopping after the cases that are running");
            STOPPED.store(true, Ordering::SeqCst);
        }
    });
}

fn try_release(
    release: &Release,
    folder: &std::path::Path,
    wants: &dyn Fn(&str) -> bool,
    end: Instant,
    record: &dyn Fn(&str, Verdict),
) {
    let report = |case: &str, verdict: Verdict| {
        eprintln!("{release} {case}: {verdict}");
        record(case, verdict);
    };
    let executable = match release.install(folder) {
        Ok(executable) => executable,
        Err(problem) => {
            report(page::INSTALLATION, Verdict::wrong(problem));
            return;
        }
    };
    let fixture = Fixture::new(release, executable);
    for case in cases::of(release.cli).filter(|case| wants(case.name)) {
        if Instant::now() > end || STOPPED.load(Ordering::SeqCst) {
            eprintln!("{release} {}: not tried", case.name);
            continue;
        }
        report(case.name, fixture.check(case));
    }
}
