//! Submits while many runs wait.

use std::thread;
use std::time::Instant;

use serde_json::json;

use crate::Scale;
use crate::client::{events_until, subscribe};
use crate::disk;
use crate::home::Home;
use crate::report::{Report, Sample, show};

/// The default configuration with a larger queue.
const CONFIG: &str = r#"
[scheduler]
capacity = 20000

[providers.hold]
plugin = "command"
executable = "/bin/sleep"
concurrency = 2
settings = { args = ["{prompt}"], silence = "fine" }
"#;

/// Clients that fill the queue.
const CLIENTS: usize = 4;

pub(crate) fn measure(scale: Scale, report: &mut Report) {
    let home = Home::new("queue", CONFIG);
    let host = home.start();
    let events = subscribe(host.socket(), "?types=run.started");
    let mut connection = host.connect();
    for _ in 0..2 {
        connection.submit("hold", "3600", home.work());
    }
    let mut started = 0;
    events_until(&events, |_| {
        started += 1;
        started == 2
    });

    let few = submits(&mut connection, &home, scale.of(300, 20));
    let many = scale.of(10_000, 200);
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut connection = host.connect();
                submits(&mut connection, &home, many / CLIENTS);
            });
        }
    });
    let filling = begun.elapsed();
    let full = submits(&mut connection, &home, scale.of(1000, 20));
    let begun = Instant::now();
    let jobs = connection.call("list_queue_jobs", &json!({}));
    let waiting = jobs.as_array().map_or(0, Vec::len);
    println!("a submit with few waiting:    {}", few.show());
    println!("{many} more from {CLIENTS} clients:   {}", show(filling));
    println!("a submit with {many} waiting: {}", full.show());
    println!("a list of the {waiting} jobs:   {}", show(begun.elapsed()));
    assert!(waiting >= many, "only {waiting} wait");
    let durable = disk::durable_inserts(scale.of(1000, 20), &home.database().with_extension("raw"));
    println!("beside it, a durable row:     {}", durable.show());
    let beside = format!("p50 {}; a durable row, p99 {}", show(full.median()), show(durable.percentile(99)));
    report.millis(&format!("submit with {many} waiting, p99"), full.percentile(99), 20.0, beside);
    host.stop();
}

fn submits(connection: &mut crate::client::Connection, home: &Home, count: usize) -> Sample {
    let submit = |_| {
        let begun = Instant::now();
        connection.submit("hold", "3600", home.work());
        begun.elapsed()
    };
    (0..count).map(submit).collect()
}
