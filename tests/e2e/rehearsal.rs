//! The rehearsal itself, as a program.

use std::{
    fs,
    io::Write,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

struct RehearsalFixture {
    folder: tempfile::TempDir,
}

impl RehearsalFixture {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(crate::support::binary());
        command
            .arg("__rehearse")
            .args(args)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("REHEARSAL_HOME", self.folder.path().join("sessions"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, prompt: &str, args: &[&str]) -> Output {
        let mut child = self.command(args).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A refused command line leaves its input unread.
        let _ = stdin.write_all(prompt.as_bytes());
        drop(stdin);
        child.wait_with_output().unwrap()
    }
}

const SESSION: &str = "--session-id=5eed0000-0000-4000-8000-000000000001";

/// The tests of the plugin read these captures, so that they must match the current output of the rehearsal.
#[test]
fn captures_match_the_current_output() {
    let fixture = RehearsalFixture::new();
    let captures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../plugins/rehearsal/tests/captures");
    let schema = fixture.folder.path().join("schema.json");
    fs::write(&schema, r#"{"type":"object"}"#).unwrap();
    let schema = format!("--schema={}", schema.display());
    let cases: Vec<(&str, &str, Vec<&str>)> = vec![
        ("say", "SAY hello there", vec![SESSION]),
        ("resume", "TURNS", vec!["--resume=5eed0000-0000-4000-8000-000000000001"]),
        ("resume-invalid", "TURNS", vec!["--resume=5eed0000-0000-4000-8000-00000000dead"]),
        ("run", "RUN echo out; echo err >&2; exit 3", vec![SESSION]),
        ("run-refused", "RUN touch x", vec![SESSION, "--sandbox=read-only"]),
        ("think", "THINK so", vec![SESSION]),
        ("json", "JSON {\"answer\": 42}", vec![SESSION, &schema]),
        ("usage", "USAGE 120 7", vec![SESSION]),
        ("max-turns", "RUN true", vec![SESSION, "--max-turns=1"]),
        ("fail-unknown", "FAIL unknown", vec![SESSION]),
        ("fail-authentication", "FAIL authentication", vec![SESSION]),
        ("fail-transient", "FAIL transient", vec![SESSION]),
        ("fail-rate-limited", "FAIL rate-limited 1500", vec![SESSION]),
        ("fail-resume-invalid", "FAIL resume-invalid", vec![SESSION]),
        ("fail-usage", "FAIL usage", vec![SESSION]),
        ("fail-limit", "FAIL limit", vec![SESSION]),
        ("fail-incomplete", "FAIL incomplete", vec![SESSION]),
        ("failonce-second", "FAILONCE transient", vec![SESSION, "--attempt=2"]),
        ("format-json", "SAY hello", vec![SESSION, "--format=json"]),
        ("format-text", "SAY hello there", vec![SESSION, "--format=text"]),
        ("format-text-failed", "FAIL authentication", vec![SESSION, "--format=text"]),
        ("raw", "RAW", vec![SESSION]),
        ("bad-option", "x", vec!["--nope"]),
    ];
    let here = fixture.folder.path().canonicalize().unwrap();
    let captured = |name: &str, extension: &str| {
        String::from_utf8_lossy(&fs::read(captures.join(format!("{name}.{extension}"))).unwrap_or_default())
            .into_owned()
    };
    // The output of a command arrives in random chunks, so that only its result is compared.
    let without_deltas = |text: &str| {
        let lines: Vec<&str> = text.lines().filter(|line| !line.contains("\"tool.delta\"")).collect();
        lines.join("\n")
    };
    for (name, prompt, args) in cases {
        let output = fixture.run(prompt, &args);
        let version = format!("\"version\":\"{}\"", env!("CARGO_PKG_VERSION"));
        let own = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes)
                .replace(here.to_str().unwrap(), "/work")
                .replace(&version, "\"version\":\"0.1.0\"")
        };
        assert_eq!(without_deltas(&own(&output.stdout)), without_deltas(&captured(name, "stdout")), "{name}");
        assert_eq!(own(&output.stderr), captured(name, "stderr"), "{name}");
        assert_eq!(output.status.code().unwrap().to_string(), captured(name, "exit").trim(), "{name}");
    }
}

#[test]
fn rehearsal_identifies_itself() {
    let fixture = RehearsalFixture::new();
    let help = String::from_utf8(fixture.run("", &["--help"]).stdout).unwrap();
    assert!(help.contains("rehearsal") && help.contains("No model answers here"), "{help}");
    let version = String::from_utf8(fixture.run("", &["--version"]).stdout).unwrap();
    assert_eq!(version, format!("ostler rehearsal {}\n", env!("CARGO_PKG_VERSION")));
    let answer = String::from_utf8(fixture.run("hello", &[]).stdout).unwrap();
    assert!(answer.lines().next().unwrap().contains(r#""model":"rehearsal""#), "{answer}");
}

#[test]
fn interrupt_ends_the_rehearsal_with_a_last_line() {
    let fixture = RehearsalFixture::new();
    let mut child = fixture.command(&[]).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"RUN echo up; sleep 600").unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    lines.find(|line| line.as_ref().unwrap().contains("tool.delta")).unwrap().unwrap();
    crate::support::signal(i32::try_from(child.id()).unwrap(), nix::sys::signal::Signal::SIGINT);
    let last = lines.map(Result::unwrap).last().unwrap();
    assert!(last.contains(r#""status":"interrupted""#), "{last}");
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn invalid_prompts_are_refused() {
    let fixture = RehearsalFixture::new();
    for (prompt, part) in [("", "no prompt"), ("SLOW soon", "how many chunks"), ("FAIL loudly", "'loudly'")] {
        let output = fixture.run(prompt, &[]);
        assert_eq!(output.status.code(), Some(2), "{prompt}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(part), "{prompt}");
        assert!(output.stdout.is_empty());
    }
}
