//! Standard input in addition to a prompt: input of a single run reaches its agent, and that of a loop or script is not
//! read.

use crate::support::TestHost;
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};

/// A program that gets the prompt as an argument, and one that reads it from standard input.
const PROGRAMS: &str = r#"
[providers.sh]
plugin = "command"
executable = "sh"
settings = { args = ["-c", "{prompt}"] }
[providers.cat]
plugin = "command"
executable = "cat"
"#;

/// The prompt that an agent gets with piped input.
fn with(prompt: &str, piped: &str) -> String {
    format!("{prompt}\n\n<stdin>\n{piped}\n</stdin>\n")
}

#[test]
fn standard_input_of_a_single_run_reaches_the_agent() {
    let host = TestHost::granted("");
    host.file("diff", "THE DIFF");
    for typed in [
        "printf 'THE DIFF' | \"$OSTLER\" run rehearsal 'review this'",
        "\"$OSTLER\" run rehearsal 'review this' < diff",
        "\"$OSTLER\" run --stdin rehearsal 'review this' < diff",
        "printf 'THE DIFF' | \"$OSTLER\" run rehearsal --file <(printf 'review this')",
        "printf 'THE DIFF' | \"$OSTLER\" run --payload <(printf '{\"provider\":\"rehearsal\",\"prompt\":\"review this\"}')",
    ] {
        let done = host.run_script(typed).ok();
        assert_eq!(done.stdout, with("review this", "THE DIFF"), "{typed}");
    }
    let run = host.call("list_runs", &json!({})).unwrap()["items"][0]["runId"].as_str().unwrap().to_owned();
    let again = host.run_with_input(&["rerun", &run], b"ANOTHER").ok();
    assert_eq!(again.stdout, with("review this", "ANOTHER"));
    let chat = host.run(&["chat", "new", "rehearsal"]).ok().stdout;
    let sent = host.run_with_input(&["chat", "send", chat.trim(), "and this"], b"A LOG").ok();
    assert_eq!(sent.stdout, with("and this", "A LOG"));
}

#[test]
fn empty_or_excluded_standard_input_adds_nothing_to_the_prompt() {
    let host = TestHost::granted("");
    host.file("empty", "");
    for typed in [
        "\"$OSTLER\" run -q rehearsal hello < /dev/null",
        "\"$OSTLER\" run -q rehearsal hello <&-",
        "\"$OSTLER\" run -q rehearsal hello < empty",
        "true | \"$OSTLER\" run -q rehearsal hello",
        "echo text | \"$OSTLER\" run -q --no-stdin rehearsal hello",
        "echo hello | \"$OSTLER\" run -q rehearsal -",
        "echo hello | \"$OSTLER\" run -q rehearsal --file /dev/stdin",
        "echo '{\"provider\":\"rehearsal\",\"prompt\":\"hello\"}' | \"$OSTLER\" run -q --payload -",
    ] {
        let done = host.run_script(typed).ok();
        assert_eq!((done.stdout.trim_end(), done.stderr.as_str()), ("hello", ""), "{typed}");
    }
    let done = host.run_script("\"$OSTLER\" run --stdin rehearsal hello < /dev/null").ok();
    assert!(done.stderr.contains("standard input is empty"), "{}", done.stderr);
}

#[test]
fn run_inside_a_loop_does_not_read_the_input_of_the_loop() {
    let host = TestHost::granted("");
    host.file("list", "one\ntwo\nthree\n");
    let body = "while read -r word; do \"$OSTLER\" run -q rehearsal \"SAY $word\"; done";
    for typed in [
        format!("{body} < list"),
        format!("cat list | {body}"),
        format!("cat list | ({body})"),
        format!("printf '%s\\n' '{body} < list' > script; bash script"),
        format!("printf '%s\\n' '{body} < list' | bash"),
        "printf '%s\\n' '\"$OSTLER\" run -q rehearsal \"SAY one\"' 'echo two' 'echo three' | bash".to_owned(),
    ] {
        let done = host.run_script(&typed).ok();
        assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("one\ntwo\nthree\n", ""), "{typed}");
    }
}

#[test]
fn standard_input_of_a_script_is_left_with_a_warning_and_read_on_demand() {
    let host = TestHost::granted("");
    let script =
        |option: &str| format!("printf 'THE DIFF' | bash -c '\"$OSTLER\" run {option} rehearsal review; true'");
    let done = host.run_script(&script("")).ok();
    assert_eq!(done.stdout, "review\n");
    assert!(done.stderr.contains("use --stdin to read it or --no-stdin to hide this warning"), "{}", done.stderr);
    for quiet in ["-q", "--no-stdin"] {
        let done = host.run_script(&script(quiet)).ok();
        assert!(done.stdout == "review\n" && !done.stderr.contains("standard input"), "{}", done.all());
    }
    assert_eq!(host.run_script(&script("--stdin")).ok().stdout, with("review", "THE DIFF"));
}

#[test]
fn command_plugin_passes_piped_input_to_the_program() {
    let host = TestHost::granted(PROGRAMS);
    let piped =
        |provider: &str, prompt: &str| host.run_with_input(&["run", provider, prompt], b"THE DIFF\n").ok().stdout;
    assert_eq!(piped("sh", "echo got $(cat)"), "got THE DIFF\n");
    assert_eq!(piped("cat", "review this"), "review this\n\n<stdin>\nTHE DIFF\n</stdin>");
    assert!(piped("rehearsal", "RUN echo ran").contains("ran"));
}

#[test]
fn invalid_too_long_or_ambiguous_input_is_refused_before_the_run() {
    let host = TestHost::granted("");
    for (typed, part) in [
        (
            "printf 'a\\377' | \"$OSTLER\" run rehearsal hello",
            "the piped text in standard input is not valid UTF-8 (byte 1)",
        ),
        (
            "head -c 8388609 /dev/zero | tr '\\0' x | \"$OSTLER\" run rehearsal hello",
            "the piped text in standard input is longer than 8 MiB",
        ),
        (
            "echo hello | \"$OSTLER\" run --stdin rehearsal -",
            "the prompt and the piped text cannot both come from standard input",
        ),
        (
            "echo hello | \"$OSTLER\" run rehearsal - --payload /dev/stdin",
            "the prompt and the payload cannot both come from standard input",
        ),
        ("\"$OSTLER\" run --stdin --no-stdin rehearsal hello", "cannot be used with"),
    ] {
        let done = host.run_script(typed).code(2);
        assert!(done.stderr.contains(part), "{typed}: {}", done.stderr);
    }
    assert_eq!(host.call("list_runs", &json!({})).unwrap()["total"], 0);
    let most = vec![b'x'; 8 << 20];
    let done = host.run_with_input(&["run", "-q", "rehearsal", "MODEL"], &most).ok();
    assert!(!done.stdout.is_empty());
}

/// A run whose standard input is a pipe without data, and the first line of its standard error.
fn silent(host: &TestHost) -> (Child, String) {
    let mut command = host.command(&["run", "-q", "rehearsal", "review this"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let line = BufReader::new(child.stderr.take().unwrap()).lines().next().unwrap().unwrap();
    (child, line)
}

#[test]
fn silent_writer_is_waited_for_with_a_notice() {
    let host = TestHost::granted("");
    let (mut child, line) = silent(&host);
    assert_eq!(line, "waiting for the end of standard input (use --no-stdin to skip it)");
    child.stdin.take().unwrap().write_all(b"THE DIFF").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), with("review this", "THE DIFF"));
    assert_eq!(output.status.code(), Some(0));

    let (mut child, _) = silent(&host);
    crate::support::signal(i32::try_from(child.id()).unwrap(), nix::sys::signal::Signal::SIGINT);
    assert_eq!(child.wait().unwrap().signal(), Some(2));
}
