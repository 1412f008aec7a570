//! Releases of the agent CLIs, from npm, each through the host against the scripted model server: what the adapters claim,
//! and whether it holds.
//!
//! It is no test of `cargo test`: it installs programs, and takes a minute or two for each release.
//!
//! ```text
//! cargo test -p ostler --test compatibility -- [OPTIONS] codex@0.171.0 claude@2.1.332 …
//!   --releases DIR    folder of the installed releases, which stay; otherwise they are removed in the end
//!   --results FILE    what earlier runs have found, as JSON; this run's results go into it
//!   --page FILE       write the page with the table of all results
//!   --cases WORDS     only cases whose name holds one of these words, separated by commas
//!   --parallel N      releases at one time, 1 to 4; 2 where nothing is said
//!   --minutes N       begin no case after this time; 180 where nothing is said
//! ```
//!
//! The exit code is 1 where a cell is wrong, 2 where the arguments are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod cases;
mod page;
mod release;
mod scene;
#[path = "../support/mod.rs"]
mod support;

use nix::sys::signal::{SigSet, Signal};
use release::Release;
use scene::{Scene, State, Verdict};
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

/// What was asked for.
struct Plan {
    releases: Vec<Release>,
    folder: Option<PathBuf>,
    results: Option<PathBuf>,
    page: Option<PathBuf>,
    words: Vec<String>,
    parallel: usize,
    limit: Duration,
}

/// Most releases of one run.
const MOST: usize = 64;

impl Plan {
    fn read(args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut plan = Self {
            releases: Vec::new(),
            folder: None,
            results: None,
            page: None,
            words: Vec::new(),
            parallel: 2,
            limit: Duration::from_secs(180 * 60),
        };
        let mut args = args;
        while let Some(arg) = args.next() {
            if !arg.starts_with("--") {
                plan.releases.push(Release::read(&arg)?);
                continue;
            }
            let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
            let number = |most: u64| match value.parse() {
                Ok(number) if (1..=most).contains(&number) => Ok(number),
                _ => Err(format!("{arg}: {value:?} is no number from 1 to {most}")),
            };
            match arg.as_str() {
                "--releases" => plan.folder = Some(PathBuf::from(value)),
                "--results" => plan.results = Some(PathBuf::from(value)),
                "--page" => plan.page = Some(PathBuf::from(value)),
                "--cases" => plan.words = value.split(',').map(str::to_owned).collect(),
                "--parallel" => plan.parallel = usize::try_from(number(4)?).unwrap_or(1),
                "--minutes" => plan.limit = Duration::from_secs(60 * number(24 * 60)?),
                _ => return Err(format!("there is no option {arg}")),
            }
        }
        if plan.releases.len() > MOST {
            return Err(format!("{} releases are too many; {MOST} are the most", plan.releases.len()));
        }
        Ok(plan)
    }

    fn wants(&self, name: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| name.contains(word.as_str()))
    }
}

fn main() -> ExitCode {
    // Test runners ask what tests there are: none.
    if std::env::args().any(|arg| arg == "--list") {
        return ExitCode::SUCCESS;
    }
    let plan = match Plan::read(std::env::args().skip(1)) {
        Ok(plan) => plan,
        Err(problem) => {
            eprintln!("compatibility: {problem}");
            return ExitCode::from(2);
        }
    };
    if plan.releases.is_empty() && plan.results.is_none() {
        eprintln!("SKIPPED: no releases are named, such as codex@0.171.0");
        return ExitCode::SUCCESS;
    }
    scene::keep_quiet_about_panics();
    wait_for_signals();
    let mut results = page::Results::read(plan.results.as_deref());
    let temporary = plan.folder.is_none().then(|| tempfile::tempdir().unwrap());
    let folder = plan.folder.clone().unwrap_or_else(|| temporary.as_ref().unwrap().path().to_owned());
    fs::create_dir_all(&folder).unwrap();
    let end = Instant::now() + plan.limit;
    let waiting = Mutex::new(plan.releases.iter().cloned().collect::<VecDeque<_>>());
    let found = Mutex::new(&mut results);
    std::thread::scope(|threads| {
        for _ in 0..plan.parallel {
            threads.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap().pop_front();
                    let Some(release) = next else { return };
                    try_release(&release, &folder, &plan, end, &|case, verdict| {
                        let mut found = found.lock().unwrap();
                        found.put(&release, case, verdict);
                        if let Some(file) = &plan.results {
                            found.write(file);
                        }
                    });
                }
            });
        }
    });
    if let Some(file) = &plan.page {
        fs::write(file, results.page()).unwrap();
    }
    let wrong = results.count(State::Wrong);
    eprintln!("{} cells, {wrong} wrong", results.cells());
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// Whether somebody has asked to stop. What is under way comes to its end, so that nothing is left behind.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// Takes SIGINT and SIGTERM from now on. Children begin with signals of their own.
fn wait_for_signals() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block().unwrap();
    std::thread::spawn(move || {
        if signals.wait().is_ok() {
            eprintln!("stopping after the cases that are under way");
            STOPPED.store(true, Ordering::SeqCst);
        }
    });
}

fn try_release(release: &Release, folder: &std::path::Path, plan: &Plan, end: Instant, told: &dyn Fn(&str, Verdict)) {
    let tell = |case: &str, verdict: Verdict| {
        eprintln!("{release} {case}: {verdict}");
        told(case, verdict);
    };
    let executable = match release.install(folder) {
        Ok(executable) => executable,
        Err(problem) => {
            tell("installation", Verdict::wrong(problem));
            return;
        }
    };
    let scene = Scene::new(release, executable);
    for case in cases::ALL {
        if !plan.wants(case.name) || !case.is_for(release) {
            continue;
        }
        if Instant::now() > end || STOPPED.load(Ordering::SeqCst) {
            eprintln!("{release} {}: not tried", case.name);
            continue;
        }
        tell(case.name, scene.attempt(case));
    }
}
