//! The cost of a run: many short runs compared with bare processes, and the steps of one run.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::Scale;
use crate::client::{events_until, subscribe};
use crate::disk;
use crate::home::{Home, Host};
use crate::report::{Report, Sample, Target, median, show};

/// Slots of the host, and bare processes at a time.
const AT_A_TIME: usize = 2;

/// The default configuration, with a program to run and both slots for it.
const CONFIG: &str = r#"
[providers.true]
plugin = "command"
executable = "/bin/true"
concurrency = 2
settings = { args = ["{prompt}"], silence = "fine" }

[providers.date]
plugin = "command"
executable = "/bin/date"
settings = { args = ["{prompt}"] }
"#;

pub(crate) fn measure(scale: Scale, report: &mut Report) {
    let home = Home::new("runs", CONFIG);
    let host = home.start();
    many(scale, report, &home, &host);
    steps(scale, report, &home, &host);
    host.stop();
}

/// Starts the program this number of times, two at a time, and waits for each.
fn bare(count: usize) -> Duration {
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                for _ in 0..count / AT_A_TIME {
                    let mut command = Command::new("/bin/true");
                    command.arg("now").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                    assert!(command.status().unwrap().success());
                }
            });
        }
    });
    begun.elapsed()
}

/// Submits this number of runs at once, and waits for the end of the last one.
fn queued(host: &Host, work: &Path, count: usize) -> Duration {
    let events = subscribe(host.socket(), "?types=run.completed,run.failed,run.canceled");
    let mut connection = host.connect();
    let begun = Instant::now();
    for _ in 0..count {
        connection.submit("true", "now", work);
    }
    let mut ended = 0;
    let seen = events_until(&events, |_| {
        ended += 1;
        ended == count
    });
    assert!(seen.iter().all(|event| event.is("run.completed")), "a run failed");
    begun.elapsed()
}

/// Two clients, each of which submits a run, waits for its end, and submits the next.
fn in_turns(host: &Host, work: &Path, count: usize) -> Duration {
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                let events = subscribe(host.socket(), "?types=run.completed,run.failed,run.canceled");
                let mut connection = host.connect();
                for _ in 0..count / AT_A_TIME {
                    let run = connection.submit("true", "now", work);
                    events_until(&events, |event| event.run() == run);
                }
            });
        }
    });
    begun.elapsed()
}

fn many(scale: Scale, report: &mut Report, home: &Home, host: &Host) {
    let count = scale.of(500, 20);
    let mut rounds: [Vec<f64>; 3] = Default::default();
    for _ in 0..scale.of(5, 1) {
        for (round, time) in
            rounds.iter_mut().zip([bare(count), queued(host, home.work(), count), in_turns(host, home.work(), count)])
        {
            round.push(time.as_secs_f64() * 1e3 / count as f64);
        }
    }
    println!("{count} × /bin/true, {AT_A_TIME} at a time, ms for each, by round:");
    for (name, round) in ["spawn and wait", "queued at once", "two clients in turns"].iter().zip(&rounds) {
        let list: Vec<String> = round.iter().map(|time| format!("{time:.2}")).collect();
        println!("  {name:22} {}", list.join("  "));
    }
    let ratio = |ours: &[f64]| median(ours.iter().zip(&rounds[0]).map(|(ours, bare)| ours / bare).collect());
    let limit = median(rounds[0].clone());
    for (name, ours) in [("queued at once", &rounds[1]), ("two clients in turns", &rounds[2])] {
        let beside = format!("{:.2} ms a run, bare {limit:.2} ms", median(ours.clone()));
        let name = format!("{count} runs of /bin/true, {name}");
        report.figure(&name, ratio(ours), "× bare", Target::AtMost(5.0), beside);
    }
}

fn steps(scale: Scale, report: &mut Report, home: &Home, host: &Host) {
    let mut connection = host.connect();
    let events = subscribe(host.socket(), "");
    let mut steps: [Sample; 5] = Default::default();
    for _ in 0..scale.of(200, 10) {
        let (clock, begun) = (SystemTime::now(), Instant::now());
        let run = connection.submit("date", "+%s%N", home.work());
        let acknowledged = begun.elapsed();
        let seen = events_until(&events, |event| event.run() == run && event.ends());
        let at = |kind: &str| seen.iter().find(|event| event.run() == run && event.is(kind)).unwrap();
        let text = at("run.chunk.stdout").event["payload"]["text"].as_str().unwrap().trim().to_owned();
        let child = UNIX_EPOCH + Duration::from_nanos(text.parse().unwrap());
        let since_child = |kind: &str| at(kind).clock.duration_since(child).unwrap_or_default();
        steps[0].push(acknowledged);
        steps[1].push(child.duration_since(clock).unwrap_or_default());
        steps[2].push(at("run.started").at.duration_since(begun));
        steps[3].push(since_child("run.cli_exit"));
        steps[4].push(since_child("run.completed"));
    }
    let names = [
        "submit until acknowledged",
        "submit until the child says the time",
        "submit until run.started is seen",
        "the child's word until run.cli_exit is seen",
        "the child's word until run.completed is seen",
    ];
    println!("one run of /bin/date at a time:");
    for (name, sample) in names.iter().zip(&steps) {
        println!("  {name:45} {}", sample.show());
    }
    let durable = disk::durable_inserts(scale.of(300, 20), &home.database().with_extension("raw"));
    println!("  {:45} {}", "beside it: a row into SQLite, durable", durable.show());
    let row = format!("a durable row: {}", show(durable.median()));
    report.millis("submit acknowledged, p50", steps[0].median(), 3.0, &row);
    report.millis("child started after submit, p50", steps[1].median(), 6.0, "its own start included");
    report.millis("exit visible, p50", steps[3].median(), 3.0, "its own end included");
    report.millis("end of the run visible after the exit, p50", steps[4].median(), 6.0, row);
}
