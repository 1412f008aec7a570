//! Generated logs to redact: the output of a build, and JSON lines of an agent CLI. They are the same each time,
//! contain a secret in some lines, and much that looks like one.

use std::fmt::Write as _;

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap_or(0)
    }

    pub(crate) fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn text(&mut self, alphabet: &[u8], length: usize) -> String {
        (0..length).map(|_| char::from(alphabet[self.below(alphabet.len())])).collect()
    }
}

const HEX: &[u8] = b"0123456789abcdef";
const ALNUM: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// The parts of names. One in ten is a keyword of a rule.
const WORDS: &[&str] = &[
    "parser", "session", "worker", "token", "buffer", "index", "schema", "client", "router", "cache", "driver",
    "header", "layout", "metric", "password", "replica", "secret", "socket", "storage", "stream", "target", "config",
    "key", "api", "archive", "batch", "border", "branch", "bridge", "canvas", "channel", "cluster", "column",
    "command", "compiler", "counter", "cursor", "decoder", "device", "dialog", "engine", "filter", "folder", "handler",
    "image", "journal", "kernel", "ledger", "loader", "locale", "marker", "matrix", "module", "object", "option",
    "packet", "panel", "query",
];
const FOLDERS: &[&str] = &["src", "src/core", "src/http", "lib/internal", "packages/app/src", "crates/engine/src"];

/// One of this number of lines contains a secret.
const LINES_PER_SECRET: usize = 1000;

/// A made-up token. It is built here, so that this file contains none.
fn secret(random: &mut Random) -> String {
    let body = random.text(ALNUM, 36);
    match random.below(3) {
        0 => format!("{}{body}", ["gh", "p_"].concat()),
        1 => format!("{}{}", ["AK", "IA"].concat(), random.text(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16)),
        _ => format!("{}{}", ["npm", "_"].concat(), body),
    }
}

fn path(random: &mut Random) -> String {
    format!("{}/{}_{}.rs", random.pick(FOLDERS), random.pick(WORDS), random.pick(WORDS))
}

/// One line of a build.
fn build_line(random: &mut Random, out: &mut String) {
    let (a, b) = (random.pick(WORDS), random.pick(WORDS));
    let (x, y) = (random.below(90), random.below(999));
    let _ = match random.below(12) {
        0 => writeln!(out, "   Compiling {a}-{b} v{x}.{}.{y} (registry+https://example.com/index)", x % 7),
        1 => writeln!(out, "warning: unused variable: `{a}_{b}`"),
        2 => writeln!(out, "   --> {}:{y}:{x}", path(random)),
        3 => {
            writeln!(out, "    |         ^^^^^^^^^ help: if this is intentional, prefix it with an underscore: `_{a}`")
        }
        4 => writeln!(out, "test {a}::tests::{b}_is_read_back_{x} ... ok"),
        5 => writeln!(out, "[{x:02}:{:02}:{:02}] INFO {a}.{b} request finished in {y} ms status=200", y % 60, x % 60),
        6 => writeln!(out, "npm http fetch GET 200 https://registry.example.com/{a}-{b} {y}ms (cache hit)"),
        7 => writeln!(out, "added {y} packages, and audited {} packages in {x}s", y * 3),
        8 => writeln!(out, "commit {} merged {a}/{b} into main", random.text(HEX, 40)),
        9 => writeln!(out, "gcc -O2 -g -Wall -I./include -DVERSION=\\\"{x}.{y}\\\" -c {a}.c -o build/{b}.o"),
        10 => writeln!(out, "  \"integrity\": \"sha512-{}==\",", random.text(BASE64, 86)),
        _ => writeln!(out, "{x:>3}% building [{a}] {}: {y} modules transformed, {b} emitted", path(random)),
    };
}

/// The output of a build, with at least this number of bytes.
pub(crate) fn build_log(bytes: usize) -> String {
    let mut random = Random(1);
    let mut log = String::with_capacity(bytes + 256);
    let mut lines = 0_usize;
    while log.len() < bytes {
        lines += 1;
        if lines.is_multiple_of(LINES_PER_SECRET) {
            let _ = writeln!(log, "export DEPLOY_TOKEN={}", secret(&mut random));
        } else {
            build_line(&mut random, &mut log);
        }
    }
    log
}

/// JSON lines of an agent CLI, with at least this number of bytes: deltas, tool calls, and results that quote output.
pub(crate) fn agent_log(bytes: usize) -> String {
    let mut random = Random(2);
    let mut log = String::with_capacity(bytes + 4096);
    let mut lines = 0_usize;
    while log.len() < bytes {
        lines += 1;
        let id = format!("toolu_{}", random.text(ALNUM, 24));
        let uuid = format!("{}-{}-4{}", random.text(HEX, 8), random.text(HEX, 4), random.text(HEX, 3));
        let event = match random.below(4) {
            0 => {
                serde_json::json!({"type": "stream_event", "session_id": uuid, "event": {"type": "content_block_delta",
                "index": 0, "delta": {"type": "text_delta", "text": prose(&mut random, 12)}}})
            }
            1 => {
                serde_json::json!({"type": "assistant", "session_id": uuid, "message": {"role": "assistant", "content":
                [{"type": "tool_use", "id": id, "name": "Bash", "input": {"command": format!("cargo test -p {} 2>&1 | tail -{}",
                random.pick(WORDS), random.below(90)), "description": prose(&mut random, 6)}}]}})
            }
            2 => {
                serde_json::json!({"type": "assistant", "session_id": uuid, "message": {"role": "assistant", "content":
                [{"type": "text", "text": prose(&mut random, 60)}], "usage": {"input_tokens": random.below(9999),
                "cache_read_input_tokens": random.below(99_999), "output_tokens": random.below(999)}}})
            }
            _ => {
                let mut output = String::new();
                for _ in 0..random.below(40) {
                    build_line(&mut random, &mut output);
                }
                if lines.is_multiple_of(LINES_PER_SECRET / 10) {
                    let _ = writeln!(output, "DEPLOY_TOKEN={}", secret(&mut random));
                }
                serde_json::json!({"type": "user", "session_id": uuid, "message": {"role": "user", "content":
                    [{"type": "tool_result", "tool_use_id": id, "content": output, "is_error": false}]}})
            }
        };
        let _ = writeln!(log, "{event}");
    }
    log
}

fn prose(random: &mut Random, words: usize) -> String {
    let mut text = String::new();
    for _ in 0..words {
        match random.below(9) {
            0 => text.push_str("the `"),
            1 => text.push_str("in "),
            2 => text.push_str("reads:\n\n- "),
            _ => {}
        }
        text.push_str(random.pick(WORDS));
        text.push(' ');
    }
    text
}
