//! Counts the lines of ordinary text that are changed, by rule. A tool rather than a test: it reads given folders, such
//! as the sources of published packages, and prints the changes for review.
//!
//! ```console
//! $ OSTLER_TEXTS=~/.cargo/registry/src:/tmp/node_modules \
//!     cargo nextest run -p ostler --lib redaction::tests::ordinary --run-ignored only --no-capture
//! ```
//!
//! `OSTLER_SAMPLES` says how many lines are shown for each rule (20), `OSTLER_RULE` shows those of one rule alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::redactor;

/// Larger files are usually generated, and one of them would dominate the result.
const MAX_FILE: u64 = 8 << 20;
/// Characters of a line that are shown to either side of a change.
const AROUND: usize = 100;

#[derive(Default)]
struct Rule {
    lines: u64,
    samples: Vec<String>,
}

#[derive(Default)]
struct Count {
    files: u64,
    bytes: u64,
    lines: u64,
    changed: u64,
    rules: BTreeMap<String, Rule>,
}

impl Count {
    fn take(&mut self, path: &Path, text: &str) {
        let output = redactor().redact(text);
        self.files += 1;
        self.bytes += text.len() as u64;
        self.lines += text.lines().count() as u64;
        if output.count == 0 {
            return;
        }
        for (number, (before, after)) in text.lines().zip(output.text.lines()).enumerate() {
            if before == after {
                continue;
            }
            self.changed += 1;
            let names: BTreeSet<&str> =
                after.split("[REDACTED:").skip(1).filter_map(|rest| Some(rest.split_once(']')?.0)).collect();
            for name in names {
                let rule = self.rules.entry(name.to_owned()).or_default();
                rule.lines += 1;
                rule.samples.push(format!("{}:{}: {}", path.display(), number + 1, difference(before, after)));
            }
        }
    }

    fn print(&self, most: usize, only: Option<&str>) {
        let of_a_million = |lines: u64| lines as f64 * 1e6 / self.lines.max(1) as f64;
        println!(
            "{} files, {:.1} MB, {} lines: {} changed, {:.2} in a million",
            self.files,
            self.bytes as f64 / 1e6,
            self.lines,
            self.changed,
            of_a_million(self.changed)
        );
        let mut rules: Vec<_> = self.rules.iter().collect();
        rules.sort_by_key(|(_, rule)| std::cmp::Reverse(rule.lines));
        for (name, rule) in &rules {
            println!("{:>8} {:>8.2}  {name}", rule.lines, of_a_million(rule.lines));
        }
        for (name, rule) in rules.iter().filter(|(name, _)| only.is_none_or(|only| only == *name)) {
            println!("\n{name}");
            // Spread over all, because the first ones are often of one file.
            let step = rule.samples.len().div_ceil(most).max(1);
            rule.samples.iter().step_by(step).for_each(|sample| println!("  {sample}"));
        }
    }
}

/// The part of a line that was changed, with a little around it, before and after.
fn difference(before: &str, after: &str) -> String {
    let same = before.bytes().zip(after.bytes()).take_while(|(a, b)| a == b).count();
    let room = before.len().min(after.len()) - same;
    let end = before.bytes().rev().zip(after.bytes().rev()).take(room).take_while(|(a, b)| a == b).count();
    let part = |line: &str| {
        let from = line.floor_char_boundary(same.saturating_sub(AROUND));
        let to = line.ceil_char_boundary((line.len() - end + AROUND).min(line.len()));
        line[from..to].chars().take(5 * AROUND).collect::<String>()
    };
    format!("{:?}\n      {:?}", part(before), part(after))
}

/// All files below a folder, links not followed.
fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut entries: Vec<_> = entries.filter_map(Result::ok).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&entry.path(), out),
            Ok(kind) if kind.is_file() => out.push(entry.path()),
            _ => {}
        }
    }
}

#[test]
#[ignore = "a measure, of the folders that OSTLER_TEXTS names"]
fn changed_lines_of_folders_by_rule() {
    let folders = std::env::var_os("OSTLER_TEXTS").expect("OSTLER_TEXTS names folders");
    let most = std::env::var("OSTLER_SAMPLES").map_or(20, |most| most.parse().expect("OSTLER_SAMPLES is a number"));
    let only = std::env::var("OSTLER_RULE").ok();
    let mut all = Vec::new();
    std::env::split_paths(&folders).for_each(|folder| files(&folder, &mut all));
    let parts = std::thread::available_parallelism().map_or(1, usize::from);
    let counts: Vec<Count> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..parts)
            .map(|part| {
                let all = &all;
                scope.spawn(move || {
                    let mut count = Count::default();
                    for path in all.iter().skip(part).step_by(parts) {
                        if fs::metadata(path).is_ok_and(|file| file.len() <= MAX_FILE)
                            && let Ok(bytes) = fs::read(path)
                            && let Ok(text) = String::from_utf8(bytes)
                        {
                            count.take(path, &text);
                        }
                    }
                    count
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut sum = Count::default();
    for count in counts {
        sum.files += count.files;
        sum.bytes += count.bytes;
        sum.lines += count.lines;
        sum.changed += count.changed;
        for (name, rule) in count.rules {
            let entry = sum.rules.entry(name).or_default();
            entry.lines += rule.lines;
            entry.samples.extend(rule.samples);
        }
    }
    sum.rules.values_mut().for_each(|rule| rule.samples.sort());
    sum.print(most, only.as_deref());
}
