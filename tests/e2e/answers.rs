//! The answer of a run is delivered whole, on standard output and in files; otherwise the exit code is not 0.

use crate::support::{SecretProbe, TestHost, warning_codes};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

/// `sh` runs the prompt, `quiet` does the same and may print nothing, `reader` runs the file `script`, `cat` prints the
/// prompt.
const CONFIG: &str = r#"
[providers.cat]
plugin = "command"
executable = "cat"
[providers.sh]
plugin = "command"
executable = "sh"
settings = { args = ["-c", "{prompt}"] }
[providers.quiet]
plugin = "command"
executable = "sh"
settings = { args = ["-c", "{prompt}"], silence = "fine" }
[providers.reader]
plugin = "command"
executable = "sh"
settings = { args = ["script"] }
"#;

/// The result of a command, as bytes.
struct Output {
    code: i32,
    stdout: Vec<u8>,
    stderr: String,
}

fn finish(mut command: Command) -> Output {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Output { code: output.status.code().unwrap(), stdout: output.stdout, stderr }
}

/// The newest run.
fn newest(host: &TestHost) -> Value {
    let id = host.call("list_runs", &json!({})).unwrap()["items"][0]["runId"].as_str().unwrap().to_owned();
    host.record(&id)
}

fn id(record: &Value) -> &str {
    record["runId"].as_str().unwrap()
}

fn exported(host: &TestHost, run: &str) -> Output {
    finish(host.command(&["export", run, "--format", "txt", "--output", "-"]))
}

#[track_caller]
fn assert_same(what: &str, found: &[u8], wanted: &[u8]) {
    let differs = found.iter().zip(wanted).position(|(found, wanted)| found != wanted);
    assert!(found == wanted, "{what}: {} bytes, not {}; they differ at {differs:?}", found.len(), wanted.len());
}

/// Runs a program that prints this, and checks that standard output, `--output` and the export are the same to the
/// byte.
#[track_caller]
fn assert_unchanged(host: &TestHost, what: &str, document: &[u8]) -> Value {
    host.file("document", document);
    let done = finish(host.command(&["run", "-q", "--output", "out", "sh", "cat document"]));
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{what}");
    assert_same(what, &done.stdout, document);
    assert_same(what, &fs::read(host.work().join("out")).unwrap(), document);
    let record = newest(host);
    let text = exported(host, id(&record));
    assert_eq!(text.code, 0, "{what}: {}", text.stderr);
    assert_same(what, &text.stdout, document);
    record
}

#[test]
fn line_of_five_mebibytes_is_delivered_whole() {
    let host = TestHost::granted(CONFIG);
    let document = format!("{{\"a\":\"{}\"}}\n", "x".repeat(5 << 20));
    host.file("big.json", &document);
    let done = finish(host.command(&["run", "-q", "--output", "o.json", "cat", "--file", "big.json"]));
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    assert_same("standard output", &done.stdout, &fs::read(host.work().join("o.json")).unwrap());
    assert_same(
        "the document",
        String::from_utf8_lossy(&done.stdout).trim_end().as_bytes(),
        document.trim_end().as_bytes(),
    );

    let record = assert_unchanged(&host, "one line", document.as_bytes());
    assert_eq!(record["answer"]["bytes"], document.len());
    let beginning = record["finalText"].as_str().unwrap();
    assert!(beginning.len() == 1 << 20 && document.starts_with(beginning));
    let shown = host.run(&["show", id(&record)]).ok().stdout;
    assert!(shown.contains(&document), "{} bytes are shown", shown.len());
    let events = host.run_events(id(&record));
    assert!(warning_codes(&events).is_empty(), "{:?}", warning_codes(&events));
}

#[test]
fn all_kinds_of_bytes_are_delivered_unchanged() {
    let host = TestHost::granted(CONFIG);
    let all: Vec<u8> = (0..=255).collect();
    let cases: [(&str, &[u8]); 8] = [
        ("lines that end with CRLF", b"one\r\ntwo\r\n"),
        ("lines that end with CR", b"one\rtwo\r"),
        ("a last line without an end", b"one\ntwo"),
        ("empty lines", b"\n\n\r\n\nx\n\n"),
        ("Latin-1", b"sch\xf6n\nund gut\n"),
        ("a character that is cut short", b"x\xe2\x82"),
        ("characters of the last plane", "a\u{10ffff}\u{10ff80}\u{fffd}".as_bytes()),
        ("every byte", &all),
    ];
    for (what, document) in cases {
        let record = assert_unchanged(&host, what, document);
        assert_eq!(record["finalText"].as_str().unwrap(), String::from_utf8_lossy(document), "{what}");
    }
    let noise: Vec<u8> = (0_u32..300_000).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    assert_unchanged(&host, "noise", &noise);
}

#[test]
fn secrets_are_redacted_in_lines_of_any_length() {
    let host = TestHost::granted(CONFIG);
    let secret = ["gh", "p_", "K3wQ8zT1xV6bN9mR4cL7yJ2hF5dS0gPaUeIo"].concat();
    let probe = SecretProbe::new(std::slice::from_ref(&secret));
    // Across the borders of chunks, and far beyond the part of a line that a log shows.
    let offsets = [0, 65_520, 65_536, 99_990, 131_060, 1_048_560, 5_000_000];
    let (mut document, mut wanted) = (String::new(), String::new());
    for offset in offsets {
        let padding = "x ".repeat((offset - document.len().min(offset)) / 2);
        document.push_str(&format!("{padding}{secret} "));
        wanted.push_str(&padding);
        wanted.push_str("[REDACTED:");
    }
    host.file("document", &document);
    // Only the file that the program prints may contain the secrets.
    let done = finish(host.command(&["run", "-q", "--output", "out", "sh", "cat document"]));
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    let shown = String::from_utf8(done.stdout).unwrap();
    probe.assert_not_in("standard output", &shown);
    assert_eq!(shown.matches("[REDACTED:").count(), offsets.len());
    assert!(shown.len() > 4_900_000, "{} bytes", shown.len());
    assert_same("the file", &fs::read(host.work().join("out")).unwrap(), shown.as_bytes());
    let record = newest(&host);
    assert_same("the export", &exported(&host, id(&record)).stdout, shown.as_bytes());
    probe.assert_not_below(&host.home(), &[]);
}

#[test]
fn private_key_is_redacted_with_any_line_ending() {
    let host = TestHost::granted(CONFIG);
    let lines: Vec<String> =
        (0..20_u64).map(|line| format!("{:x}", (line + 3).wrapping_mul(0x9e37_79b9_7f4a_7c15)).repeat(4)).collect();
    let probe = SecretProbe::new(&lines);
    let (begin, end) =
        (["-----BEGIN RSA PRIVATE", " KEY-----"].concat(), ["-----END RSA PRIVATE", " KEY-----"].concat());
    for ends in ["\n", "\r\n", "\r"] {
        let key = lines.join(ends);
        host.file("document", format!("before{ends}{begin}{ends}{key}{ends}{end}{ends}after{ends}"));
        let done = host.run(&["run", "-q", "sh", "cat document"]).ok();
        probe.assert_not_in("standard output", &done.stdout);
        assert!(done.stdout.starts_with(&format!("before{ends}[REDACTED:")), "{:?}", done.stdout);
        assert!(done.stdout.ends_with(&format!("]{ends}after{ends}")), "{:?}", done.stdout);
    }
    probe.assert_not_below(&host.home(), &[]);
}

#[test]
fn agent_answer_of_three_mebibytes_is_delivered_whole() {
    let host = TestHost::granted("");
    let done = finish(host.command(&["run", "-q", "--output", "out", "rehearsal", "BIG 3072"]));
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    assert!(done.stdout.len() >= 3 << 20, "{} bytes", done.stdout.len());
    assert_same("the file", &fs::read(host.work().join("out")).unwrap(), &done.stdout);
    let record = newest(&host);
    assert_same("the export", &exported(&host, id(&record)).stdout, &done.stdout);
    let shown = host.run(&["show", id(&record)]).ok().stdout;
    let answer = String::from_utf8(done.stdout).unwrap();
    assert!(shown.contains(answer.trim_end()), "{} bytes are shown", shown.len());
    let beginning = record["finalText"].as_str().unwrap();
    assert!(beginning.len() <= 1 << 20 && answer.starts_with(beginning));
    assert!(record["answer"]["bytes"].as_u64().unwrap() >= 3 << 20, "{}", record["answer"]);
    let page = host.run(&["export", id(&record), "--format", "md", "--output", "-"]).ok().stdout;
    assert!(page.contains(answer.trim_end()));
}

#[test]
fn answer_above_the_storage_limit_fails_the_run() {
    let host = TestHost::granted(&format!("{CONFIG}[storage]\nmax_stored_mib = 1\n"));
    let document = "0123456789abcdef\n".repeat(200_000);
    host.file("document", &document);
    let done = finish(host.command(&["run", "-q", "--output", "out", "sh", "cat document"]));
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(done.stderr.contains("answer-too-long") && done.stderr.contains("max_stored_mib"), "{}", done.stderr);
    assert!(!done.stdout.is_empty() && document.as_bytes().starts_with(&done.stdout));
    assert!(!host.work().join("out").exists());
    let record = newest(&host);
    assert_eq!((&record["status"], &record["reason"]), (&json!("failed"), &json!("limit")));
    let lost = record["answer"]["lostBytes"].as_u64().unwrap();
    assert_eq!(record["answer"]["bytes"].as_u64().unwrap() + lost, document.len() as u64);
    let export = exported(&host, id(&record));
    assert_eq!((export.code, export.stdout.len()), (7, 0), "{}", export.stderr);
    assert_eq!(host.run(&["show", id(&record)]).code, 74, "the shown answer is not complete");

    // The answer of an agent is stored separately from its output.
    let done = finish(host.command(&["run", "-q", "--output", "out", "rehearsal", "BIG 3072"]));
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stdout.len() >= 3 << 20, "{} bytes", done.stdout.len());
    assert_same("the file", &fs::read(host.work().join("out")).unwrap(), &done.stdout);
    assert_same("the export", &exported(&host, id(&newest(&host))).stdout, &done.stdout);
}

#[test]
fn program_without_output_fails_unless_settings_allow_it() {
    let host = TestHost::granted(CONFIG);
    for script in ["true", "echo", "echo trouble >&2"] {
        let done = finish(host.command(&["run", "-q", "--output", "out", "sh", script]));
        assert_eq!(done.code, 1, "{script}: {}", done.stderr);
        assert!(done.stderr.contains("no-output") && done.stderr.contains("silence"), "{script}: {}", done.stderr);
        assert!(!host.work().join("out").exists());
        assert_eq!(newest(&host)["reason"], "incomplete");
    }
    let done = finish(host.command(&["run", "-q", "--output", "out", "quiet", "true"]));
    assert_eq!((done.code, done.stdout.len(), done.stderr.as_str()), (0, 0, ""));
    assert_eq!(fs::read(host.work().join("out")).unwrap(), b"");
    let record = newest(&host);
    assert_eq!((&record["status"], &record["warnings"]), (&json!("completed"), &json!([])));
    let export = exported(&host, id(&record));
    assert_eq!((export.code, export.stdout.len()), (0, 0), "{}", export.stderr);
    let done = finish(host.command(&["run", "-q", "quiet", "printf x"]));
    assert_eq!((done.code, done.stdout.as_slice()), (0, &b"x"[..]));
}

#[test]
fn unread_input_is_reported_even_with_quiet() {
    let host = TestHost::granted(CONFIG);
    host.file("script", "echo over");
    host.file("prompt", "never read ".repeat(100_000));
    let done = finish(host.command(&["run", "-q", "reader", "--file", "prompt"]));
    assert_eq!((done.code, done.stdout.as_slice()), (0, &b"over\n"[..]), "{}", done.stderr);
    assert!(done.stderr.starts_with("warning:") && done.stderr.contains("did not read"), "{}", done.stderr);
}

#[test]
fn output_of_an_earlier_attempt_on_stdout_sets_exit_code_8() {
    let host = TestHost::granted(CONFIG);
    let script = |mark: &str| format!("if [ -e {mark} ]; then echo whole; else touch {mark}; echo half; exit 1; fi");
    let run = |mark: &str, more: &[&str]| {
        let script = script(mark);
        let mut args = vec!["run", "-q", "--retries", "1"];
        args.extend(more);
        args.extend(["sh", &script]);
        finish(host.command(&args))
    };
    let done = run("one", &[]);
    assert_eq!((done.code, done.stdout.as_slice()), (8, &b"half\nwhole\n"[..]), "{}", done.stderr);
    assert!(done.stderr.contains("ostler export"), "{}", done.stderr);
    assert_same("the export", &exported(&host, id(&newest(&host))).stdout, b"whole\n");
    let done = run("two", &["--output", "out"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_same("the file", &fs::read(host.work().join("out")).unwrap(), b"whole\n");
}
