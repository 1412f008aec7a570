//! Redaction on one thread, compared with the `regex` crate on the same text.

use std::sync::Arc;
use std::time::Duration;

use ostler_config::Config;
use ostler_plugin_host::{Registry, RegistryOptions};
use ostler_redaction::{IgnoreFaults, Masks, Redactor, RunRedactor};
use regex::{Regex, RegexSetBuilder};
use serde_json::json;

use crate::report::{Report, Target, median, rate, show, thread_time};
use crate::{Scale, home, logs};

/// Bytes of one push, as a pipe gives them.
const PIECE: usize = 64 << 10;
/// Bytes of a line in which a rule may match at every position.
const HOSTILE: usize = 4 << 20;

pub(crate) fn measure(scale: Scale, report: &mut Report) {
    let options = RegistryOptions { cache: Some(home::plugin_cache()), ..RegistryOptions::default() };
    let (registry, _) = Registry::open(&options).unwrap();
    let begun = thread_time();
    let redactor = ostler_engine::load_redactor(&Config::builtin().unwrap(), &registry).unwrap();
    println!("rules asked for and compiled in {}", show(thread_time() - begun));

    let rules = registry.redactor("secrets", &json!({})).unwrap();
    let patterns = rules.rules().rules.iter().map(|rule| rule.pattern.as_str());
    let all = RegexSetBuilder::new(patterns).size_limit(1 << 30).build().unwrap();
    let one = Regex::new("ghp_[0-9A-Za-z]{36}").unwrap();

    let megabytes = scale.of(64, 2);
    let logs = [
        ("plain build log", logs::build_log(megabytes * 1_000_000), 100.0),
        ("agent JSON lines", logs::agent_log(megabytes * 1_000_000), 50.0),
    ];
    for (name, log, least) in &logs {
        let mut rounds: [Vec<f64>; 3] = Default::default();
        let mut found = 0;
        for _ in 0..scale.of(5, 1) {
            let begun = thread_time();
            found = redact(&redactor, log.as_bytes());
            rounds[0].push(rate(log.len(), thread_time() - begun));

            let begun = thread_time();
            std::hint::black_box(one.find_iter(log).count());
            rounds[1].push(rate(log.len(), thread_time() - begun));

            // Only a hundredth of the log, because the set is slow.
            let part = log.get(..log.floor_char_boundary(log.len() / 100)).unwrap_or_default();
            let begun = thread_time();
            std::hint::black_box(part.lines().filter(|line| all.is_match(line)).count());
            rounds[2].push(rate(part.len(), thread_time() - begun));
        }
        let [ours, one, set] = rounds.map(median);
        println!("{name}, {megabytes} MB, {found} redactions, one thread, MB/s: {ours:.0}");
        println!("  beside it, the regex crate: one pattern {one:.0}, the {} patterns as a set {set:.1}", all.len());
        let beside =
            format!("regex, all {} patterns {set:.1} MB/s ({:.0} ×), one pattern {one:.0} MB/s", all.len(), ours / set);
        report.figure(&format!("redact, {name}"), ours, "MB/s", Target::AtLeast(*least), beside);
    }
    hostile(scale, &redactor);
}

/// Redacts bytes as they come from a pipe; returns the number of secrets.
fn redact(redactor: &Arc<Redactor>, bytes: &[u8]) -> u64 {
    let run = RunRedactor::new(Arc::clone(redactor), Arc::new(Masks::none()), Arc::new(IgnoreFaults));
    let mut stream = run.stream();
    let mut out = String::new();
    for piece in bytes.chunks(PIECE) {
        stream.push_bytes(piece, &mut out);
        std::hint::black_box(out.as_str());
        out.clear();
    }
    stream.finish(&mut out);
    stream.count()
}

/// The worst case: one long line in which a rule may match at every position.
fn hostile(scale: Scale, redactor: &Arc<Redactor>) {
    let size = scale.of(HOSTILE, HOSTILE / 64);
    println!("one line of {:.1} MB that repeats", size as f64 / 1e6);
    let mut slowest = (Duration::ZERO, "");
    for unit in [
        "password=",
        "token: ",
        "api_key=\"",
        "AKIA",
        "eyJ",
        "eyJhbGciOi",
        "-----BEGIN ",
        "://a:",
        "%41%42",
        "\\u0041",
        "QUtJQQ",
        "Bearer ",
        "sk-",
        "ghp_",
        "a",
    ] {
        let text = unit.repeat(size / unit.len());
        let begun = thread_time();
        redact(redactor, text.as_bytes());
        let time = thread_time() - begun;
        println!("  {unit:14} {:>8}  {:.1} MB/s", show(time), rate(text.len(), time));
        if time > slowest.0 {
            slowest = (time, unit);
        }
    }
}
