//! Checks that a fault leaves nothing behind but its record.
//!
//! A [`ResourceBaseline`] records the resources of an idle host. [`ResourceBaseline::check`] waits until the host uses
//! no more than that: no additional process, thread, descriptor or file. In the database, every run has ended exactly
//! once.

use super::{TIMEOUT, TestHost, processes, wait_until};
use rusqlite::{Connection, OpenFlags};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// The most descriptors that the host opens on demand and keeps: the database and its log for a few idle readers, and
/// the initial memory of each plugin.
const KEPT_DESCRIPTORS: usize = 80;

/// The resources of an idle host.
#[derive(Debug)]
pub struct ResourceBaseline {
    host_pid: i32,
    resources: Resources,
}

/// The resources of the processes of a host, and its files.
#[derive(Debug, PartialEq, Eq)]
struct Resources {
    /// Processes below the host, by name.
    processes: Vec<String>,
    /// Numbers of descriptors of the host and the processes below it, by target.
    descriptors: BTreeMap<String, usize>,
    /// Threads that belong to a run.
    attempts: usize,
    /// Files of the home and the temporary folder.
    files: BTreeSet<PathBuf>,
}

impl Resources {
    /// One line for each difference: `-` for what is missing, `+` for what is new.
    fn difference(&self, now: &Self) -> Vec<String> {
        let lines = |resources: &Self| {
            let mut lines = BTreeSet::from([format!("{} threads of attempts", resources.attempts)]);
            lines.extend(resources.processes.iter().map(|name| format!("process {name}")));
            lines
                .extend(resources.descriptors.iter().map(|(target, count)| format!("{count} descriptors of {target}")));
            lines.extend(resources.files.iter().map(|path| path.display().to_string()));
            lines
        };
        let (before, now) = (lines(self), lines(now));
        let gone = before.difference(&now).map(|line| format!("- {line}"));
        gone.chain(now.difference(&before).map(|line| format!("+ {line}"))).collect()
    }
}

impl Resources {
    /// Whether `now` has no more than these resources. A connection that was open before may be closed.
    fn covers(&self, now: &Self) -> bool {
        now.processes == self.processes
            && now.attempts <= self.attempts
            && now.files.is_subset(&self.files)
            && now
                .descriptors
                .iter()
                .all(|(target, count)| self.descriptors.get(target).is_some_and(|had| count <= had))
    }
}

impl ResourceBaseline {
    /// Takes the baseline of the host, which is started if it is not running. At least one run must have ended before:
    /// the host has then opened everything that it opens once and keeps.
    #[track_caller]
    pub fn of(host: &TestHost) -> Self {
        let host_pid = host.ensure_running();
        wait_until("an idle host", TIMEOUT, || idle(host).then_some(()));
        // Probes of a starting host (of the CLIs and the sandbox) are not part of the baseline.
        let at_work = |resources: &Resources| resources.processes.iter().any(|name| name == "ostler-keeper");
        // The host may not have noticed a closed connection yet, so that two equal results in a row are needed.
        let mut resources = current_resources(host, host_pid);
        wait_until("stable resources of the host", TIMEOUT, || {
            let before = std::mem::replace(&mut resources, current_resources(host, host_pid));
            (before == resources && !at_work(&resources)).then_some(())
        });
        Self { host_pid, resources }
    }

    /// Waits until nothing is left of the runs since the baseline.
    ///
    /// # Panics
    /// If something is left, or if a run has not ended exactly once.
    #[track_caller]
    pub fn check(&self, host: &TestHost) {
        let status = host.call("get_status", &json!({})).expect("the host is gone");
        assert_eq!(status["pid"], self.host_pid, "this is another host");
        let start = Instant::now();
        loop {
            let (now, processes) = (current_resources(host, self.host_pid), host.run_processes());
            if self.resources.covers(&now) && processes.is_empty() && idle(host) {
                break;
            }
            let difference = self.resources.difference(&now);
            assert!(start.elapsed() < TIMEOUT, "something was left behind: {difference:#?} {processes:#?}");
            thread::sleep(Duration::from_millis(10));
        }
        check_database(host);
        check_log(host);
    }
}

fn idle(host: &TestHost) -> bool {
    let status = host.call("get_status", &json!({})).unwrap();
    ["running", "ready", "scheduled", "subscribers"].iter().all(|count| status[count] == 0)
}

fn current_resources(host: &TestHost, host_pid: i32) -> Resources {
    let below = processes::below(host_pid);
    let mut descriptors = BTreeMap::new();
    let mut kept = 0;
    for pid in std::iter::once(host_pid).chain(below.iter().map(|process| process.pid)) {
        for target in processes::descriptors(pid) {
            if target.contains("/ostler.db") || target.contains("wasm-memory-image") {
                kept += 1;
            } else {
                *descriptors.entry(target).or_default() += 1;
            }
        }
    }
    assert!(kept <= KEPT_DESCRIPTORS, "{kept} descriptors of the database and of plugins");
    let mut files = BTreeSet::new();
    for folder in [host.home(), host.root().join("tmp")] {
        list(&folder, &mut files);
    }
    Resources {
        processes: below.into_iter().map(|process| process.command).collect(),
        descriptors,
        attempts: processes::threads(host_pid).iter().filter(|name| *name == "attempt").count(),
        files,
    }
}

/// Everything below a folder except for files that may come and go: compiled plugins, the log, auxiliary files of the
/// database, and the sessions of the rehearsal.
fn list(folder: &Path, files: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if ["cache", "log", "rehearsal"].contains(&&*name) || name.starts_with("ostler.db-") {
            continue;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(&path, files);
        }
        // The host creates this folder for the first run, and keeps it.
        if name != "private" {
            files.insert(path);
        }
    }
}

/// Checks that every run in the database has ended exactly once, with its last event, and that no reference dangles.
///
/// # Panics
/// If not.
#[track_caller]
pub fn check_database(host: &TestHost) {
    let database = database(host);
    let wrong = |what: &str, sql: &str| {
        let mut statement = database.prepare(sql).unwrap();
        let rows: Vec<String> =
            statement.query_map([], |row| row.get::<_, String>(0)).unwrap().map(Result::unwrap).collect();
        assert!(rows.is_empty(), "{what}: {rows:#?}");
    };
    const ENDS: &str = "('run.completed', 'run.failed', 'run.canceled')";
    wrong(
        "runs that have not ended",
        "SELECT num || ' ' || status || ' ' || title FROM runs
         WHERE status NOT IN ('completed', 'failed', 'canceled', 'interrupted') OR ended_us IS NULL",
    );
    wrong(
        "runs without exactly one terminal event, at the end, to which their row refers",
        &format!(
            "SELECT runs.num || ' ' || runs.title || ' ' || coalesce(group_concat(type, ' '), 'without events')
             FROM runs LEFT JOIN run_events ON run_events.run = runs.num
             GROUP BY runs.num
             HAVING coalesce(sum(type IN {ENDS}), 0) <> 1
                 OR max(CASE WHEN type IN {ENDS} THEN seq END) <> max(seq)
                 OR max(CASE WHEN type IN {ENDS} THEN cursor END) IS NOT runs.terminal_cursor
                 OR count(*) <> max(seq)"
        ),
    );
    wrong(
        "jobs that are not done",
        "SELECT run || ' ' || state FROM scheduler_jobs
         WHERE state <> 'done' OR process IS NOT NULL OR carry IS NOT NULL OR not_before_us IS NOT NULL",
    );
    wrong("seals of runs that have ended", "SELECT run || ' ' || kind FROM run_bodies WHERE kind = 'seal'");
    wrong("rows that refer to nothing", "SELECT \"table\" || ' ' || rowid FROM pragma_foreign_key_check");
    wrong("damage", "SELECT quick_check FROM pragma_quick_check WHERE quick_check <> 'ok'");
}

/// Opens the database of the host for reading while the host runs.
pub fn database(host: &TestHost) -> Connection {
    let path = host.home().join("data/ostler.db");
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    database.busy_timeout(TIMEOUT).unwrap();
    database
}

/// Checks that the host has not panicked.
///
/// # Panics
/// If the log contains a panic.
#[track_caller]
pub fn check_log(host: &TestHost) {
    let log = host.log();
    let panicked: Vec<&str> = log.lines().filter(|line| line.contains("panicked")).collect();
    assert!(panicked.is_empty(), "{panicked:#?}");
}
