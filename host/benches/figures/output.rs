//! The throughput and the latency of a child's output.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::Scale;
use crate::client::{events_until, subscribe};
use crate::disk;
use crate::home::{Home, Host, field, resident};
use crate::logs;
use crate::report::{Report, Sample, Target, median, rate};

/// The argument with which this program is its own child, which prints the time repeatedly.
pub(crate) const DRIP: &str = "__drip";

/// The pause between two lines.
const PAUSE: Duration = Duration::from_millis(7);

/// Prints the time in nanoseconds, this number of times.
pub(crate) fn drip(args: &[String]) {
    let count: usize = args.first().and_then(|count| count.parse().ok()).unwrap_or(1);
    let mut out = std::io::stdout().lock();
    for _ in 0..count {
        std::thread::sleep(PAUSE);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let _ = writeln!(out, "{}", now.as_nanos()).and_then(|()| out.flush());
    }
}

pub(crate) fn measure(scale: Scale, report: &mut Report) {
    let own = std::env::current_exe().unwrap();
    let config = format!(
        r#"
[providers.cat]
plugin = "command"
executable = "/bin/cat"
settings = {{ args = ["{{prompt}}"] }}

[providers.drip]
plugin = "command"
executable = "{}"
settings = {{ args = ["{DRIP}", "{{prompt}}"] }}
"#,
        own.display()
    );
    let home = Home::new("output", &config);
    let host = home.start();
    lines(scale, report, &home, &host);
    flood(scale, report, &home, &host);
    host.stop();
}

fn lines(scale: Scale, report: &mut Report, home: &Home, host: &Host) {
    let events = subscribe(host.socket(), "");
    let count = scale.of(500, 20);
    let run = host.connect().submit("drip", &count.to_string(), home.work());
    let seen = events_until(&events, |event| event.run() == run && event.ends());
    let mut delays = Sample::default();
    for chunk in seen.iter().filter(|event| event.is("run.chunk.stdout")) {
        for line in chunk.event["payload"]["text"].as_str().unwrap().lines() {
            let written = UNIX_EPOCH + Duration::from_nanos(line.parse().unwrap());
            delays.push(chunk.clock.duration_since(written).unwrap_or_default());
        }
    }
    println!("a written line until a subscriber has it: {}", delays.show());
    report.millis("written line at a subscriber, p50", delays.median(), 5.0, "");
    report.millis("written line at a subscriber, p99", delays.percentile(99), 25.0, "");
}

fn flood(scale: Scale, report: &mut Report, home: &Home, host: &Host) {
    let log = logs::build_log(scale.of(200_000_000, 5_000_000));
    let path = home.work().join("build.log");
    fs::write(&path, &log).unwrap();
    let mut rounds: [Vec<f64>; 4] = Default::default();
    let mut last = String::new();
    let before = resident(host.pid());
    fs::write(format!("/proc/{}/clear_refs", host.pid()), "5").unwrap();
    for _ in 0..scale.of(3, 1) {
        let pipe = disk::pipe_to_file(&path, &home.work().join("copy.log"));
        let raw = disk::raw_inserts(&log, &home.database().with_extension("raw"));
        let ours = captured(home, host, &path, log.len());
        for (round, time) in rounds.iter_mut().zip([pipe, raw, ours.ran, ours.whole]) {
            round.push(rate(log.len(), time));
        }
        last = ours.run;
    }
    let peak = field(&format!("/proc/{}/status", host.pid()), "VmHWM") as f64 / 1024.0;
    println!("{} MB of lines from one child, MB/s by round:", log.len() / 1_000_000);
    let names = ["a pipe into a file", "raw inserts into SQLite", "ours, from start to exit", "ours, submit to end"];
    for (name, round) in names.iter().zip(&rounds) {
        let list: Vec<String> = round.iter().map(|rate| format!("{rate:.0}")).collect();
        println!("  {name:26} {}", list.join("  "));
    }
    println!("  memory of the host: {before:.1} MiB before, {peak:.1} MiB at most");
    check(home, host, &last, &path);
    let share = |other: &[f64]| median(rounds[3].iter().zip(other).map(|(ours, other)| ours / other).collect());
    let beside = format!("{:.2} of a pipe to a file, {:.2} of raw inserts", share(&rounds[0]), share(&rounds[1]));
    report.figure(
        "output captured, redacted, stored",
        median(rounds[3].clone()),
        "MB/s",
        Target::AtLeast(40.0),
        beside,
    );
    let beside = format!("{before:.1} MiB before");
    report.figure("growth of the host's memory meanwhile", peak - before, "MiB", Target::AtMost(64.0), beside);
}

struct Captured {
    run: String,
    /// From the child's start to its exit, as the host measured it.
    ran: Duration,
    /// From the submit to the end of the run, as a client sees it.
    whole: Duration,
}

fn captured(home: &Home, host: &Host, path: &Path, expected: usize) -> Captured {
    let events = subscribe(host.socket(), "?types=run.runner_metrics,run.completed,run.failed,run.canceled");
    let mut connection = host.connect();
    let begun = Instant::now();
    let run = connection.submit("cat", &path.display().to_string(), home.work());
    let seen = events_until(&events, |event| event.run() == run && event.ends());
    let whole = begun.elapsed();
    assert!(seen.last().is_some_and(|event| event.is("run.completed")), "{seen:?}");
    let metrics = seen.iter().find(|event| event.run() == run && event.is("run.runner_metrics")).unwrap();
    let metrics = &metrics.event["payload"];
    assert_eq!(metrics["stdout"]["bytes"], expected, "not all of the output was read");
    Captured { run, ran: Duration::from_secs_f64(metrics["runMs"].as_f64().unwrap() / 1e3), whole }
}

/// Compares the stored output of a run with the output of `ostler redact` for the same file.
fn check(home: &Home, host: &Host, run: &str, path: &Path) {
    let mut connection = host.connect();
    let mut stored = String::new();
    let mut after = json!(0);
    loop {
        let page = connection.call("get_run_events", &json!({"runId": run, "after": after}));
        for event in page["events"].as_array().unwrap() {
            if event["type"] == "run.chunk.stdout" {
                stored.push_str(event["payload"]["text"].as_str().unwrap());
            }
            after = event["cursor"].clone();
        }
        if page["more"] != true {
            break;
        }
    }
    let begun = Instant::now();
    let input = fs::File::open(path).unwrap();
    let redacted = home.command(&["redact"]).stdin(input).stdout(Stdio::piped()).output().unwrap();
    let time = begun.elapsed();
    assert!(redacted.stdout == stored.as_bytes(), "the stored output differs from that of `ostler redact`");
    let secrets = stored.matches("[REDACTED:").count();
    println!("  stored as `ostler redact` prints it, with {secrets} secrets redacted");
    println!("  `ostler redact` itself, its start included: {:.0} MB/s", rate(stored.len(), time));
}
