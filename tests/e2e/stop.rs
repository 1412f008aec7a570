//! All ways in which a run ends: canceled, timed out, finished with remaining processes, interrupted at the terminal.
//! No process is left.

use crate::support::{
    ResourceBaseline, TIMEOUT, TestHost, answer, carrying, check_run_events, end_of, of_type, wait_until,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How long a stop may take: the grace period of 5 s, the kill, and the load of a busy machine.
const STOP: Duration = Duration::from_secs(12);

/// Starts a run and waits for an event that shows that its agent is at work.
fn start_run(host: &TestHost, prompt: &str, ready: impl Fn(&Value) -> bool) -> (crate::support::Follower, String) {
    let mut follower = host.follow(&["run", "--json", "rehearsal", prompt]);
    follower.wait_for("the agent at work", ready);
    let id = follower.run_id();
    (follower, id)
}

fn text_or_tool(event: &Value) -> bool {
    matches!(event["payload"]["kind"].as_str(), Some("text_delta" | "tool_delta" | "text" | "tool_start"))
}

fn cancel(host: &TestHost, id: &str) {
    let start = Instant::now();
    let ended = host.call("cancel_run", &json!({ "runId": id })).unwrap();
    assert_eq!(ended["status"], "canceled");
    assert!(start.elapsed() < STOP, "the stop took {:?}", start.elapsed());
    host.assert_nothing_runs(Duration::from_secs(2));
    let events = host.run_events(id);
    check_run_events(&events);
    assert_eq!(end_of(&events).unwrap()["type"], "run.canceled");
}

#[test]
fn cancel_ends_every_kind_of_descendant() {
    let host = TestHost::granted("");
    host.run(&["run", "rehearsal", "SAY begin"]).ok();
    let baseline = ResourceBaseline::of(&host);
    for prompt in [
        "SLOW 600",
        "STUBBORN 600",
        "TREE 50",
        "RUN echo up; sleep 600",
        "RUN echo up; setsid sleep 600 & sleep 600",
        "RUN echo up; (setsid sh -c 'trap \"\" TERM INT; sleep 600; sleep 600' &) ; sleep 600",
        "RUN echo up; trap '' TERM INT HUP; while :; do sleep 1; done",
    ] {
        let (follower, id) = start_run(&host, prompt, text_or_tool);
        cancel(&host, &id);
        assert_eq!(follower.finish().0, 130, "{prompt}");
    }
    baseline.check(&host);
}

#[test]
fn run_can_be_canceled_between_queue_and_spawn() {
    let host = TestHost::granted("[scheduler]\nglobal = 4\nper_provider = 4\n");
    host.run(&["run", "rehearsal", "SAY begin"]).ok();
    let baseline = ResourceBaseline::of(&host);
    for round in 0..20 {
        let id = host.detach(&["rehearsal", "SLOW 600"]);
        let ended = host.call("cancel_run", &json!({ "runId": id })).unwrap();
        assert_eq!(ended["status"], "canceled", "round {round}");
        check_run_events(&host.run_events(&id));
    }
    host.assert_nothing_runs(Duration::from_secs(2));
    baseline.check(&host);
}

#[test]
fn time_limit_ends_stubborn_processes_and_their_trees() {
    let host = TestHost::granted("");
    host.run(&["run", "rehearsal", "SAY begin"]).ok();
    let baseline = ResourceBaseline::of(&host);
    for prompt in ["STUBBORN 600", "TREE 20", "RUN setsid sleep 600 & sleep 600"] {
        let done = host.run(&["run", "--json", "rehearsal", "--timeout", "5", prompt]).code(3);
        let events = done.json_lines();
        check_run_events(&events);
        assert_eq!(end_of(&events).unwrap()["payload"]["reason"], "timeout", "{prompt}");
        host.assert_nothing_runs(Duration::from_secs(2));
    }
    baseline.check(&host);
}

#[test]
fn finished_run_leaves_no_process() {
    let host = TestHost::granted("");
    host.run(&["run", "rehearsal", "SAY begin"]).ok();
    let baseline = ResourceBaseline::of(&host);
    for prompt in ["ORPHAN 600", "TREE 20 leave", "RUN (setsid sleep 600 >/dev/null 2>&1 &); echo done"] {
        let start = Instant::now();
        let events = host.events_of(&["rehearsal", prompt]);
        check_run_events(&events);
        assert_eq!(end_of(&events).unwrap()["type"], "run.completed", "{prompt}");
        assert!(start.elapsed() < STOP, "{prompt} hung for {:?}", start.elapsed());
        host.assert_nothing_runs(Duration::from_secs(2));
    }
    baseline.check(&host);
}

#[test]
fn signals_and_unusual_output_are_recorded() {
    let host = TestHost::granted("");
    for (name, number) in [("KILL", 9), ("SEGV", 11), ("TERM", 15)] {
        let events = host.events_of(&["rehearsal", &format!("SIGNAL {name}")]);
        check_run_events(&events);
        assert_eq!(of_type(&events, "run.cli_exit")[0]["payload"]["signal"], number);
        assert_eq!(end_of(&events).unwrap()["type"], "run.failed");
    }
    let events = host.events_of(&["rehearsal", "RAW"]);
    check_run_events(&events);
    assert!(of_type(&events, "run.chunk.stdout").iter().any(|event| event["payload"]["lossy"] == true));
    assert_eq!(end_of(&events).unwrap()["type"], "run.completed");

    // A message of the maximum line length is read. A longer one is not: the run gets a warning and continues.
    let events = host.events_of(&["rehearsal", "LINE 4096"]);
    check_run_events(&events);
    assert_eq!(end_of(&events).unwrap()["type"], "run.completed");
    let events = host.events_of(&["rehearsal", "LINE 40000"]);
    check_run_events(&events);
    assert!(crate::support::warning_codes(&events).contains(&"LINE_TRUNCATED"), "{:?}", crate::support::kinds(&events));

    let id = host.detach(&["rehearsal", "FLOOD 20"]);
    let events = host.wait_for_end(&id);
    check_run_events(&events);
    let stored: usize =
        of_type(&events, "run.chunk.stdout").iter().map(|event| event["payload"]["text"].as_str().unwrap().len()).sum();
    assert!(stored >= 20 * 1024 * 1024, "only {stored} bytes are stored");
}

#[test]
fn ctrl_c_in_a_shell_loop_ends_the_loop() {
    let host = TestHost::granted("");
    let mut shell =
        host.shell("for number in 1 2 3; do \"$OSTLER\" run --json rehearsal 'SLEEP 600'; done; echo went on");
    shell.process_group(0);
    let mut shell = host.follow_command(shell);
    shell.wait_for_type("run.started");
    shell.signal_group(Signal::SIGINT);
    let (code, rest, errors) = shell.finish();
    assert_eq!(code, 128 + Signal::SIGINT as i32, "{errors}");
    assert!(!rest.iter().any(|line| line.contains("went on")), "{rest:?}");
    let runs = host.call("list_runs", &json!({})).unwrap();
    assert_eq!((&runs["total"], &runs["items"][0]["status"]), (&json!(1), &json!("canceled")), "{runs}");
}

#[test]
fn command_in_the_background_of_a_script_ignores_ctrl_c_as_the_shell_wants() {
    let host = TestHost::granted("");
    let shell = host.shell("trap '' INT; exec \"$OSTLER\" run --json rehearsal 'SLEEP 1'");
    let mut command = host.follow_command(shell);
    command.wait_for_type("run.started");
    command.signal(Signal::SIGINT);
    let (code, rest, errors) = command.finish();
    assert_eq!(code, 0, "{errors}");
    assert!(rest.iter().any(|line| line.contains("\"run.completed\"")), "{rest:?}");
}

#[test]
fn canceled_command_dies_by_sigint_and_exits_with_130_on_sigterm() {
    let host = TestHost::granted("");
    host.ensure_running();
    for (signal, ended) in [(Signal::SIGINT, None), (Signal::SIGTERM, Some(130))] {
        let mut command = host.command(&["run", "rehearsal", "SLEEP 600"]);
        command.stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        host.wait_for_count("running", 1);
        crate::support::signal(i32::try_from(child.id()).unwrap(), signal);
        let status = child.wait().unwrap();
        assert_eq!(status.code(), ended, "{status}");
        assert!(ended.is_some() || status.signal() == Some(signal as i32), "{status}");
        host.wait_for_count("running", 0);
    }
}

#[test]
fn interrupt_in_one_terminal_does_not_affect_another() {
    let host = TestHost::granted("[scheduler]\nglobal = 4\nper_provider = 4\n");
    let (one, first) = start_run(&host, "SLOW 600", text_or_tool);
    let (mut two, second) = start_run(&host, "SLOW 15", text_or_tool);
    one.signal(Signal::SIGINT);
    assert_eq!(one.finish().0, 130);
    let events = wait_until("the end of the interrupted run", TIMEOUT, || {
        let events = host.run_events(&first);
        end_of(&events).is_some().then_some(events)
    });
    assert_eq!(end_of(&events).unwrap()["type"], "run.canceled");
    check_run_events(&events);
    let end = two.wait_for_type("run.completed");
    assert!(end["payload"]["finalText"].as_str().unwrap().contains("chunk 15 of 15"));
    assert_eq!(two.finish().0, 0);
    check_run_events(&host.run_events(&second));
    host.assert_nothing_runs(Duration::from_secs(2));
}

#[test]
fn killed_client_does_not_end_its_run() {
    let host = TestHost::granted("");
    let (follower, id) = start_run(&host, "SLOW 8", text_or_tool);
    follower.signal(Signal::SIGKILL);
    let events = host.wait_for_end(&id);
    assert!(answer(&events).contains("chunk 8 of 8"));
    check_run_events(&events);
}

#[test]
fn stop_returns_when_the_host_is_gone_and_the_next_start_is_not_delayed() {
    let host = TestHost::granted("");
    for round in 0..5 {
        let pid = host.ensure_running();
        host.run(&["stop"]).ok();
        let is_left = carrying(host.root()).iter().any(|process| process.pid == pid);
        assert!(!is_left, "round {round}: stop returned before the host {pid} had ended");
        assert_eq!(host.run(&["run", "rehearsal", "SAY again"]).ok().stdout, "again\n");
    }
    // A host that finds the data folder locked by a stopping host would log this error.
    assert!(!host.log().contains("failed to take the data folder"), "{}", host.log());
}

#[test]
fn submit_waits_for_a_stopping_host_and_starts_the_next() {
    let host = TestHost::granted("[runner]\ngrace_seconds = 2\n");
    let (stubborn, id) = start_run(&host, "STUBBORN 600", text_or_tool);
    let first = host.health().unwrap();
    assert_eq!(first["ending"], false);
    host.call("stop", &json!({})).unwrap();
    // The host waits for the stubborn run, and accepts no further run.
    wait_until("a host that is about to end", TIMEOUT, || (host.health().ok()?["ending"] == true).then_some(()));
    let cwd = host.work();
    let payload = json!({ "provider": "rehearsal", "prompt": "SAY too late", "cwd": cwd });
    let refused = host.call("start_run", &payload).unwrap_err();
    assert_eq!(refused.kind(), "CONFLICT", "{}", refused.text());
    assert_eq!(refused.data()["retryable"], true);

    let events = host.events_of(&["rehearsal", "SAY in good time"]);
    assert_eq!(answer(&events), "in good time");
    assert_ne!(host.health().unwrap()["pid"], first["pid"]);
    let interrupted = host.run_events(&id);
    check_run_events(&interrupted);
    assert_eq!(end_of(&interrupted).unwrap()["payload"]["reason"], "interrupted");
    assert_eq!(host.call("list_runs", &json!({})).unwrap()["total"], 2, "the refused submit made a run");
    drop(stubborn);
}
