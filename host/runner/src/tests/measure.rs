//! Measures a start through the zygote against a direct one. Prints figures; asserts nothing about them.

use super::*;

#[test]
#[ignore = "a measurement: run it by hand, with --nocapture and in release"]
fn cost_of_a_start() {
    const RUNS: u32 = 250;
    let zygote = zygote();
    let spec = SpawnSpec { executable: "/bin/true".into(), args: Vec::new(), ..shell("") };
    let two_at_a_time = |work: &(dyn Fn() + Sync)| {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..RUNS).for_each(|_| work()));
            }
        });
        begun.elapsed() / (2 * RUNS)
    };
    let bare = || {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut child = std::process::Command::new("/bin/true");
        child.stdin(std::process::Stdio::null()).stdout(writer).stderr(std::process::Stdio::null());
        let status = child.status().unwrap();
        drop(child);
        assert_eq!(std::io::read_to_string(reader).unwrap(), "");
        assert!(status.success());
    };
    let kept = || {
        follow(&mut start(&zygote, &spec));
    };
    for round in 0..3 {
        let (bare, kept) = (two_at_a_time(&bare), two_at_a_time(&kept));
        println!("round {round}: bare {bare:?}, kept {kept:?}, ratio {:.2}", kept.as_secs_f64() / bare.as_secs_f64());
    }
    let mut stages: [Vec<Duration>; 3] = Default::default();
    for _ in 0..RUNS {
        let begun = Instant::now();
        let prepared = zygote.prepare(&spec).unwrap();
        stages[0].push(begun.elapsed());
        let mut child = prepared.start().unwrap();
        stages[1].push(begun.elapsed());
        follow(&mut child);
        drop(child);
        stages[2].push(begun.elapsed());
    }
    let sandboxes = [
        ("bare", Sandbox::default()),
        ("namespaces", super::sandbox::workspace(Maker::Own, false)),
        ("namespaces and network", super::sandbox::workspace(Maker::Own, true)),
        ("bwrap", super::sandbox::workspace(Maker::Bwrap, false)),
        ("bwrap and network", super::sandbox::workspace(Maker::Bwrap, true)),
        ("landlock", super::sandbox::landlock()),
    ];
    for (name, sandbox) in sandboxes {
        let spec = SpawnSpec { sandbox, ..spec.clone() };
        let mut times: Vec<Duration> = (0..RUNS)
            .map(|_| {
                let begun = Instant::now();
                let mut child = start(&zygote, &spec);
                let started = begun.elapsed();
                follow(&mut child);
                started
            })
            .collect();
        times.sort_unstable();
        println!("started, {name}: p50 {:?}, p99 {:?}", times[times.len() / 2], times[times.len() * 99 / 100]);
    }
    for (name, times) in ["prepared", "started", "contained"].iter().zip(&mut stages) {
        times.sort_unstable();
        println!("{name}: p50 {:?}, p99 {:?}", times[times.len() / 2], times[times.len() * 99 / 100]);
    }
    let mut spec = shell("exec head -c 1000000000 /dev/zero");
    spec.limits.linger = Duration::from_secs(1);
    let begun = Instant::now();
    let mut child = start(&zygote, &spec);
    while !matches!(child.next(None), Event::Contained(_)) {}
    println!("1 GB through the pipe: {:.0} MB/s", 1000.0 / begun.elapsed().as_secs_f64());
    let log = "the quick brown fox jumps over the lazy dog, once more, with feeling and a number 12345\n".repeat(3000);
    let begun = Instant::now();
    let mut splitter = LineSplitter::new(LineCaps::default());
    let mut count = 0;
    for _ in 0..2000 {
        count += splitter.push(log.as_bytes()).map_or(0, |batch| batch.lines().len());
    }
    let megabytes = log.len() as f64 * 2000.0 / 1e6;
    println!("{count} lines: {:.0} MB/s", megabytes / begun.elapsed().as_secs_f64());
}
