//! The host itself: the time to its first answer, and its cost while it is idle.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Scale;
use crate::client::TIMEOUT;
use crate::home::{Home, Host, field, proportional, resident, tasks};
use crate::report::{Report, Sample, Target, show};

/// How long an idle host is watched.
const WATCHED: Duration = Duration::from_secs(10);
/// How long a host waits before it counts as idle.
const SETTLED: Duration = Duration::from_secs(2);

pub(crate) fn measure(scale: Scale, report: &mut Report) {
    first_answer(scale, report);
    detached(scale, report);
    idle(scale, report);
}

/// The cost of a command that submits a run without waiting for it, compared with a command that does nothing. The host is
/// idle before each of them.
fn detached(scale: Scale, report: &mut Report) {
    let home = Home::new("detached", "[providers.true]\nplugin = \"command\"\nexecutable = \"/bin/true\"\n");
    let host = home.start();
    let mut connection = host.connect();
    let mut until_idle = || {
        let begun = Instant::now();
        let is_busy = |status: Value| status["running"] != 0 || status["ready"] != 0;
        while is_busy(connection.call("get_status", &json!({}))) {
            assert!(begun.elapsed() < TIMEOUT, "a run does not end");
            thread::sleep(Duration::from_millis(2));
        }
        // What follows the end of a run.
        thread::sleep(Duration::from_millis(20));
    };
    let (mut bare, mut submit) = (Sample::default(), Sample::default());
    let timed = |args: &[&str]| {
        let begun = Instant::now();
        assert!(home.command(args).status().unwrap().success(), "{args:?}");
        begun.elapsed()
    };
    for _ in 0..scale.of(60, 5) {
        until_idle();
        bare.push(timed(&["--version"]));
        submit.push(timed(&["run", "--detach", "true", "x"]));
    }
    println!("ostler run --detach:                     {}", submit.show());
    let beside = format!("in all {}", show(submit.median()));
    let more = submit.median().saturating_sub(bare.median());
    report.millis("`run --detach` more than `--version`", more, 3.0, beside);
    host.stop();
}

fn first_answer(scale: Scale, report: &mut Report) {
    let home = Home::new("first", "");
    // The first start creates the database and detects the installed CLIs.
    home.start().stop();
    let (mut bare, mut serving, mut verb) = (Sample::default(), Sample::default(), Sample::default());
    for _ in 0..scale.of(15, 3) {
        let begun = Instant::now();
        assert!(home.command(&["--version"]).status().unwrap().success());
        bare.push(begun.elapsed());

        let (host, time) = home.serve();
        serving.push(time);
        host.stop();

        let begun = Instant::now();
        assert!(home.command(&["runs"]).status().unwrap().success());
        verb.push(begun.elapsed());
        assert!(home.command(&["stop"]).status().unwrap().success());
    }
    let mut installed = Sample::default();
    for round in 0..scale.of(15, 3) {
        let home = Home::bare(&format!("installed-{round}"), "");
        let begun = Instant::now();
        assert!(home.command(&["runs"]).status().unwrap().success());
        installed.push(begun.elapsed());
        assert!(home.command(&["stop"]).status().unwrap().success());
    }
    println!("ostler runs, the first after installing: {}", installed.show());
    println!("ostler --version:                        {}", bare.show());
    println!("ostler serve, until get_status answers:  {}", serving.show());
    println!("ostler runs, which starts a host first:  {}", verb.show());
    let beside = format!("starting the binary: {}", show(bare.median()));
    report.millis("first answer after an installation", installed.median(), 300.0, &beside);
    report.millis("first answer of a host", serving.median(), 150.0, &beside);
    report.millis("first answer to a verb that starts a host", verb.median(), 150.0, beside);
}

fn idle(scale: Scale, report: &mut Report) {
    let home = Home::new("idle", "");
    let host = home.start();
    std::thread::sleep(SETTLED);
    let before = switches(&host);
    let watched = scale.of(WATCHED, Duration::from_secs(1));
    std::thread::sleep(watched);
    let switched = switched(&before, &switches(&host));
    let memory = memory(&host);
    println!("idle for {}: {switched} context switches; {}", show(watched), describe(&host));
    host.stop();
    let fresh = Home::bare("fresh", "");
    let host = fresh.start();
    std::thread::sleep(SETTLED);
    println!("idle after the first start: {}", describe(&host));
    let name = format!("context switches of an idle host in {}", show(watched));
    report.figure(&name, switched as f64, "", Target::AtMost(19.0), "all threads and helper processes");
    let beside = format!("{:.1} MiB after the first start", self::memory(&host));
    report.figure("memory of an idle host and its helpers", memory, "MiB", Target::AtMost(60.0), beside);
}

/// Resident memory of a host and its descendants, in MiB.
fn memory(host: &Host) -> f64 {
    host.processes().into_iter().map(resident).sum()
}

fn describe(host: &Host) -> String {
    let processes = host.processes();
    let threads: usize = processes.iter().map(|pid| tasks(*pid).len()).sum();
    let parts: f64 = processes.iter().map(|pid| proportional(*pid)).sum();
    format!(
        "{} processes, {threads} threads, {:.1} MiB resident, {parts:.1} MiB where shared pages count in parts",
        processes.len(),
        memory(host)
    )
}

/// The number of context switches of each thread of each process.
fn switches(host: &Host) -> BTreeMap<u32, u64> {
    let of_task = |pid: u32, task: u32| {
        let path = format!("/proc/{pid}/task/{task}/status");
        (task, field(&path, "voluntary_ctxt_switches") + field(&path, "nonvoluntary_ctxt_switches"))
    };
    host.processes().into_iter().flat_map(|pid| tasks(pid).into_iter().map(move |task| of_task(pid, task))).collect()
}

/// The number of context switches in between. The count of an ended thread is lost; it had at least one.
fn switched(before: &BTreeMap<u32, u64>, after: &BTreeMap<u32, u64>) -> u64 {
    let since: u64 = after.iter().map(|(task, count)| count - before.get(task).unwrap_or(&0)).sum();
    let ended = before.keys().filter(|task| !after.contains_key(task)).count();
    since + ended as u64
}
