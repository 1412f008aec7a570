//! A full disk, a damaged or truncated database, and a link instead of a folder, under a real host.

use crate::support::{Dice, ResourceBaseline, TestHost, check_run_events, end_of, of_type, wait_until};
use nix::sys::signal::Signal;
use serde_json::json;
use std::{fs, os::unix::fs::symlink, path::PathBuf, process::Command};

/// Sets the maximum file size of a running process, in bytes.
fn limit_files(pid: i32, bytes: &str) {
    let mut command = Command::new("prlimit");
    let done = command.args(["--pid", &pid.to_string(), &format!("--fsize={bytes}:")]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Starts a command with a maximum file size.
fn limited(host: &TestHost, bytes: u64, args: &[&str]) -> crate::support::Done {
    let inner = host.command(args);
    let mut outer = Command::new("prlimit");
    outer.arg(format!("--fsize={bytes}:")).arg(inner.get_program()).args(inner.get_args());
    outer.current_dir(host.work()).env_clear().stdin(std::process::Stdio::null());
    outer.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    host.finish(outer)
}

/// A small file system that is mounted over the data folder of a host. Only root can mount one, and not everywhere.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(host: &TestHost, size: &str) -> Option<Self> {
        let folder = host.home().join("data");
        fs::create_dir_all(&folder).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("mode=700,size={size}"), "tmpfs"]).arg(&folder);
        if command.output().is_ok_and(|done| done.status.success()) {
            return Some(Self(folder));
        }
        crate::support::print_skipped("no file system can be mounted here");
        None
    }

    fn resize(&self, size: &str) {
        let mut command = Command::new("mount");
        let done = command.args(["-o", &format!("remount,size={size}")]).arg(&self.0).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

/// Lets a run write more than fits, checks the errors, makes room, and checks that the host recovers.
fn overflow(host: &TestHost, expected: &str, hint: &str, make_room: impl FnOnce()) {
    // The run is stopped, and its end is stored as soon as there is room.
    let flood = host.detach(&["rehearsal", "FLOOD 32"]);
    let problem = wait_until("a problem in the status", crate::support::TIMEOUT, || {
        let status = host.call("get_status", &json!({})).unwrap();
        let problems = status["problems"].as_array().unwrap();
        problems.iter().find(|problem| problem.as_str().unwrap().contains("ostler.db")).cloned()
    });
    assert!(problem.as_str().unwrap().contains(expected), "{problem}");
    host.assert_nothing_runs(crate::support::TIMEOUT);
    // A submit is acknowledged only if it is stored.
    let prompt = format!("SLEEP 0\n{}", "x".repeat(1 << 20));
    let submit = || host.call("start_run", &json!({ "provider": "rehearsal", "prompt": prompt, "cwd": host.work() }));
    let refused = (0..16).find_map(|_| submit().err()).expect("every submit fits");
    assert_eq!(refused.kind(), "IO", "{}", refused.text());
    assert!(refused.data()["hint"].as_str().is_some_and(|text| text.contains(hint)), "{}", refused.text());
    // Stored data can be read, and is correct.
    let ended = end_of(&host.run_events(&flood)).is_some();
    assert!(ended || host.record(&flood)["status"] == "running");

    make_room();
    let events = host.wait_for_end(&flood);
    check_run_events(&events);
    let end = &end_of(&events).unwrap()["payload"];
    assert_eq!(end["reason"], "host_failed", "{end}");
    assert!(end["message"].as_str().unwrap().contains("could not be stored"), "{end}");
    let text: String =
        of_type(&events, "run.chunk.stdout").iter().map(|event| event["payload"]["text"].as_str().unwrap()).collect();
    let lines: Vec<u64> =
        text.lines().filter_map(|line| line.strip_prefix("line ")?.split(' ').next()?.parse().ok()).collect();
    assert!(lines.len() > 1000, "{} lines are stored", lines.len());
    assert!(lines.iter().zip(1..).all(|(line, number)| *line == number), "a line is missing");
    host.run(&["run", "rehearsal", "SAY hello"]).ok();
    let status = host.call("get_status", &json!({})).unwrap();
    assert_eq!(status["problems"], json!([]));
}

#[test]
fn run_at_the_file_size_limit_fails_and_the_host_recovers() {
    let host = TestHost::granted("");
    host.run(&["run", "rehearsal", "SAY hello"]).ok();
    let baseline = ResourceBaseline::of(&host);
    let host_pid = host.ensure_running();
    limit_files(host_pid, "2000000");
    overflow(&host, "disk I/O error", "ulimit", || limit_files(host_pid, "unlimited"));
    baseline.check(&host);
}

#[test]
fn run_on_a_full_disk_fails_and_the_host_recovers() {
    let host = TestHost::new();
    let Some(disk) = SmallDisk::mount(&host, "4m") else { return };
    host.run(&["grants", "add", host.work().to_str().unwrap()]).ok();
    host.run(&["run", "rehearsal", "SAY hello"]).ok();
    let baseline = ResourceBaseline::of(&host);
    overflow(&host, "no space left", "make room", || disk.resize("64m"));
    baseline.check(&host);
    host.stop();
}

/// Checks that the host has started, or that the command has printed one error. Stops the host, and gives whether it
/// started.
fn starts_or_reports_why(host: &TestHost, done: &crate::support::Done, what: &str) -> bool {
    if done.code == 0 {
        host.stop();
        return true;
    }
    assert_eq!(done.code, 74, "{what}: {}", done.all());
    let errors: Vec<&str> = done.stderr.lines().filter(|line| line.starts_with("error")).collect();
    assert_eq!(errors.len(), 1, "{what}: {}", done.stderr);
    assert!(crate::support::carrying(host.root()).is_empty(), "{what}: something was left behind");
    false
}

#[test]
fn start_on_a_full_disk_succeeds_or_reports_why() {
    // With any amount of space, the host starts or reports an error, and a later start finds a consistent database.
    let mut starts = [0, 0];
    for kib in [0, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512] {
        let host = TestHost::new();
        let what = format!("{kib} KiB");
        let started = starts_or_reports_why(&host, &limited(&host, kib << 10, &["runs"]), &what);
        starts[usize::from(started)] += 1;
        host.run(&["run", "rehearsal", "--grant", "SAY hello"]).ok();
        check_database_and_log(&host);
        host.stop();
        // The same with an existing database.
        let before = host.home().join("data/ostler.db").metadata().unwrap().len();
        starts_or_reports_why(&host, &limited(&host, kib << 10, &["runs"]), &what);
        assert!(host.home().join("data/ostler.db").metadata().unwrap().len() >= before);
        assert_eq!(host.run(&["runs", "--json"]).ok().json()["total"], 1, "{what}");
        check_database_and_log(&host);
    }
    assert!(starts.iter().all(|count| *count > 0), "{starts:?}");

    let host = TestHost::new();
    let Some(disk) = SmallDisk::mount(&host, "16k") else { return };
    let done = host.run(&["runs"]);
    assert!(!starts_or_reports_why(&host, &done, "a disk of 16 KiB"));
    assert!(done.stderr.contains("full") || done.stderr.contains("no space left"), "{}", done.stderr);
    disk.resize("16m");
    host.run(&["run", "rehearsal", "--grant", "SAY hello"]).ok();
    check_database_and_log(&host);
    host.stop();
}

/// Checks the database and the log of an idle host.
#[track_caller]
fn check_database_and_log(host: &TestHost) {
    crate::support::check_database(host);
    crate::support::check_log(host);
}

/// The files of a database.
struct Files {
    folder: PathBuf,
    database: Vec<u8>,
    log: Vec<u8>,
}

impl Files {
    fn of(host: &TestHost) -> Self {
        let folder = host.home().join("data");
        let read = |name: &str| fs::read(folder.join(name)).unwrap_or_default();
        Self { database: read("ostler.db"), log: read("ostler.db-wal"), folder }
    }

    fn put(&self, database: &[u8], log: &[u8]) {
        let _ = fs::remove_file(self.folder.join("ostler.db-shm"));
        fs::write(self.folder.join("ostler.db"), database).unwrap();
        fs::write(self.folder.join("ostler.db-wal"), log).unwrap();
    }
}

/// The number of runs in a database without its log: 0, unless a checkpoint has emptied the log to erase deleted seals.
fn runs_without_log(database: &[u8]) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ostler.db");
    fs::write(&path, database).unwrap();
    let database = rusqlite::Connection::open(&path).unwrap();
    // The table itself may exist only in the log.
    let count = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let runs = match count("SELECT count(*) FROM sqlite_schema WHERE name = 'runs'") {
        0 => 0,
        _ => count("SELECT count(*) FROM runs"),
    };
    runs.try_into().unwrap()
}

#[test]
fn host_recovers_from_a_truncated_write_ahead_log() {
    const HEADER: usize = 32;
    const FRAME: usize = 24 + 4096;
    let host = TestHost::granted("[scheduler]\nglobal = 2\nper_provider = 2\n");
    let host_pid = host.ensure_running();
    host.run(&["run", "rehearsal", "SAY one"]).ok();
    host.run(&["run", "rehearsal", "FAIL transient"]).code(1);
    // If the truncated log shows these runs as waiting, they start again, and end at once because the gate exists.
    let gate = host.work().join("gate");
    let script = format!("RUN echo up; while [ ! -e {} ]; do sleep 0.02; done", gate.display());
    let running = [host.detach(&["rehearsal", &script]), host.detach(&["rehearsal", &script])];
    let waiting = host.detach(&["rehearsal", "SAY two"]);
    for run in &running {
        wait_until("its output", crate::support::TIMEOUT, || {
            crate::support::tool_outputs(&host.run_events(run)).contains("up").then_some(())
        });
    }
    fs::write(&gate, "").unwrap();
    crate::support::signal(host_pid, Signal::SIGKILL);
    host.assert_nothing_runs(crate::support::TIMEOUT);
    wait_until("the end of the host", crate::support::TIMEOUT, || {
        crate::support::carrying(host.root()).is_empty().then_some(())
    });
    let files = Files::of(&host);
    let frames = (files.log.len() - HEADER) / FRAME;
    assert!(frames > 30, "{frames} frames");

    // The log is truncated at thirteen lengths, from empty to complete, at frame borders and within frames.
    let mut known = Vec::new();
    for part in 0..=12 {
        let cut = frames * part / 12;
        let length = HEADER + cut * FRAME + if part % 3 == 1 { FRAME / 2 } else { 0 };
        files.put(&files.database, &files.log[..length.min(files.log.len())]);
        host.ensure_running();
        wait_until("what waited", crate::support::TIMEOUT, || {
            let status = host.call("get_status", &json!({})).unwrap();
            (status["running"] == 0 && status["ready"] == 0).then_some(())
        });
        check_database_and_log(&host);
        let runs = host.call("list_runs", &json!({})).unwrap()["total"].as_u64().unwrap();
        known.push(runs);
        for run in running.iter().chain([&waiting]) {
            match host.call("get_run", &json!({ "runId": run })) {
                Ok(record) if *run == waiting => assert_eq!(record["status"], "completed", "frame {cut}"),
                Ok(record) => {
                    let status = record["status"].as_str().unwrap();
                    assert!(["interrupted", "completed"].contains(&status), "frame {cut}: {status}");
                }
                Err(error) => assert_eq!(error.kind(), "NOT_FOUND", "frame {cut}"),
            }
        }
        host.stop();
    }
    assert!(known.windows(2).all(|pair| pair[0] <= pair[1]), "{known:?}");
    assert_eq!(known[0], runs_without_log(&files.database), "{known:?}");
    assert_eq!(*known.last().unwrap(), 5, "{known:?}");
}

#[test]
fn damaged_database_is_refused_or_reported() {
    let host = TestHost::granted("");
    let ids: Vec<String> = ["SAY one", "BIG 400", "RUN seq 3000", "FAIL transient"]
        .iter()
        .map(|prompt| host.events_of(&["rehearsal", prompt])[0]["runId"].as_str().unwrap().to_owned())
        .collect();
    host.stop();
    // A host that ends while something still reads leaves the log as it is.
    let database = rusqlite::Connection::open(host.home().join("data/ostler.db")).unwrap();
    database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(database);
    let files = Files::of(&host);
    let mut dice = Dice::new(7);
    let mut refused = 0;
    for round in 0..16 {
        let mut damaged = files.database.clone();
        // The first page is read most often; every other round leaves it intact.
        let from = if round % 2 == 0 { 0 } else { 4096 };
        for _ in 0..1 + dice.below(6) {
            let at = from + dice.below((damaged.len() - from) as u64) as usize;
            damaged[at] ^= 1 + dice.below(255) as u8;
        }
        if from == 0 {
            // The other bytes may be free space, so that the header is damaged, too.
            damaged[dice.below(16) as usize] ^= 0xff;
        }
        files.put(&damaged, b"");
        let what = format!("round {round}");
        let done = host.run(&["runs", "--json"]);
        if !crate::support::carrying(host.root()).is_empty() {
            // The host started: it reports an error for unreadable data, and never panics.
            for id in &ids {
                for args in [["show", "--json", id], ["logs", "--json", id]] {
                    let done = host.run(&args);
                    assert!([0, 5, 74].contains(&done.code), "{what}: {args:?} {} {}", done.code, done.all());
                    assert!(done.code == 0 || done.error()["message"].as_str().is_some_and(|text| !text.is_empty()));
                }
            }
            let done = host.run(&["run", "rehearsal", "SAY hello"]);
            assert!([0, 1, 4, 74].contains(&done.code), "{what}: {} {}", done.code, done.all());
            crate::support::check_log(&host);
            host.stop();
        } else {
            refused += 1;
            assert_eq!(done.code, 74, "{what}: {}", done.all());
            assert!(done.stderr.contains("ostler.db"), "{what}: {}", done.stderr);
            assert!(fs::read(files.folder.join("ostler.db")).unwrap() == damaged, "{what}: the file was changed");
        }
    }
    assert!(refused > 0, "no damage was detected");
}

#[test]
fn link_at_the_private_folder_is_refused() {
    let host = TestHost::granted("");
    host.run(&["run", "rehearsal", "SAY hello"]).ok();
    let victim = host.root().join("victim");
    let own = victim.join("018f0000-0000-7000-8000-000000000000-1");
    fs::create_dir_all(&own).unwrap();
    fs::write(own.join("photo"), "dear").unwrap();
    let private = host.home().join("data/private");
    let untouched = || {
        let names: Vec<_> = fs::read_dir(&victim).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(names, std::slice::from_ref(&own));
        assert_eq!(fs::read(own.join("photo")).unwrap(), b"dear");
    };

    // While the host runs, no file of a run is written there.
    fs::remove_dir(&private).unwrap();
    symlink(&victim, &private).unwrap();
    let events = host.events_of(&["rehearsal", "SAY hello"]);
    check_run_events(&events);
    let end = &end_of(&events).unwrap()["payload"];
    assert_eq!(end["reason"], "host_failed", "{end}");
    assert!(end["message"].as_str().unwrap().contains("link"), "{end}");
    untouched();
    host.stop();

    // A starting host refuses the link, and deletes nothing behind it.
    let done = host.run(&["runs"]);
    assert!(!starts_or_reports_why(&host, &done, "a link"));
    assert!(done.stderr.contains(private.to_str().unwrap()) && done.stderr.contains("link"), "{}", done.stderr);
    untouched();
    fs::remove_file(&private).unwrap();
    host.run(&["run", "rehearsal", "SAY hello"]).ok();
    check_database_and_log(&host);
}
