//! A host that is killed, and the next one.

use ostler_protocol::MARKER_VARIABLE;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;

const SCRIPT: &str = "HOST_PROCESS_SCRIPT";
/// Set if the child of the host gets a terminal.
const TERMINAL: &str = "HOST_PROCESS_TERMINAL";

/// Runs a child, prints its identity, waits for its first line, and then waits for ever.
#[test]
#[ignore = "not a test: the host that is killed"]
fn host_process() {
    let Ok(script) = std::env::var(SCRIPT) else { return };
    let zygote = zygote();
    let terminal = std::env::var_os(TERMINAL).map(|_| TerminalSize::default());
    let mut child = start(&zygote, &SpawnSpec { terminal, ..shell(&script) });
    println!("\nidentity {}", serde_json::to_string(child.identity()).unwrap());
    lines(&mut child, 1);
    println!("\nready");
    loop {
        child.next(None);
    }
}

/// Starts and ends children as fast as it can, from two threads.
#[test]
#[ignore = "not a test: the busy host that is killed"]
fn busy_process() {
    let Ok(script) = std::env::var(SCRIPT) else { return };
    let zygote = zygote();
    println!("\nready");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    run(&zygote, &script);
                }
            });
        }
    });
}

/// Starts such a host and returns it, with the identity of its child.
fn host(script: &str) -> (std::process::Child, ProcessIdentity) {
    host_with(script, &[])
}

fn host_with(script: &str, variables: &[(&str, &str)]) -> (std::process::Child, ProcessIdentity) {
    let mut host = Command::new(std::env::current_exe().unwrap())
        .args(only("host_death::host_process"))
        .env(SCRIPT, script)
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut identity = None;
    for line in BufReader::new(host.stdout.take().unwrap()).lines().map(Result::unwrap) {
        if let Some(text) = line.strip_prefix("identity ") {
            identity = Some(serde_json::from_str(text).unwrap());
        }
        if line == "ready" {
            break;
        }
    }
    (host, identity.unwrap())
}

const TREE: &str = "trap '' TERM INT HUP; i=0; while [ $i -lt 20 ]; do (setsid sh -c 'sleep 100 & wait' &); i=$((i+1)); done; \
                    sleep 0.2; echo up; sleep 100";

fn is_alive(pid: i32) -> bool {
    linux::process(pid).is_some_and(|process| process.alive)
}

#[test]
fn no_process_outlives_a_killed_host() {
    let (mut host, identity) = host(TREE);
    let zygote = linux::process(identity.keeper_pid).unwrap().parent;
    assert!(marked(&identity.marker).len() >= 40);
    host.kill().unwrap();
    expect_none(&identity.marker, Duration::from_secs(2));
    host.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(1);
    while is_alive(zygote) || is_alive(identity.keeper_pid) {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(end_leftovers(&[identity]), LeftoverReport::default());
}

#[test]
fn no_process_in_a_terminal_outlives_a_killed_host() {
    let (mut host, identity) = host_with(TREE, &[(TERMINAL, "1")]);
    assert!(marked(&identity.marker).len() >= 40);
    host.kill().unwrap();
    expect_none(&identity.marker, Duration::from_secs(2));
    host.wait().unwrap();
    assert_eq!(end_leftovers(&[identity]), LeftoverReport::default());
}

#[test]
fn next_host_ends_the_tree_of_a_killed_zygote_and_keeper() {
    let (mut host, identity) = host(TREE);
    let zygote = linux::process(identity.keeper_pid).unwrap().parent;
    // All three at once: they are stopped first, so that none can react to another's end.
    let stop = [host.id() as i32, zygote, identity.keeper_pid];
    for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
        for pid in stop {
            kill(Pid::from_raw(pid), signal).unwrap();
        }
    }
    host.wait().unwrap();
    assert!(marked(&identity.marker).len() >= 40);

    // A process that only has a recorded id is left alone.
    let stranger =
        ProcessIdentity { marker: marker(), start_ticks: identity.start_ticks + 1, keeper_pid: 0, ..identity.clone() };
    assert_eq!(end_leftovers(&[stranger]), LeftoverReport::default());
    let other_boot = ProcessIdentity { marker: marker(), boot_id: "another".to_owned(), ..identity.clone() };
    assert_eq!(end_leftovers(&[other_boot]), LeftoverReport::default());
    assert!(is_alive(identity.pid));

    let report = end_leftovers(std::slice::from_ref(&identity));
    assert!(report.survivors.is_empty());
    let [(marker, ended)] = report.ended.as_slice() else { panic!("{report:?}") };
    assert_eq!(marker, &identity.marker);
    assert!(ended.len() >= 40);
    expect_none(&identity.marker, Duration::ZERO);
}

#[test]
fn keepers_and_zygote_ignore_terminal_signals() {
    let zygote = zygote();
    let mut child = start(&zygote, &shell("read x; echo in; sleep 0.2; echo still"));
    let keeper = child.identity().keeper_pid;
    let helper = linux::process(keeper).unwrap().parent;
    for pid in [keeper, helper] {
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
            kill(Pid::from_raw(pid), signal).unwrap();
        }
        assert_ne!(nix::unistd::getsid(Some(Pid::from_raw(pid))).unwrap(), nix::unistd::getsid(None).unwrap());
    }
    assert_eq!(follow(&mut child).stdout, b"in\nstill\n");
}

#[test]
fn no_process_outlives_a_busy_host_killed_at_any_moment() {
    for round in 0..12 {
        let mut host = Command::new(std::env::current_exe().unwrap())
            .args(only("host_death::busy_process"))
            .env(SCRIPT, "(setsid sleep 100 >/dev/null 2>&1 &); (sleep 100 >/dev/null 2>&1 &); true")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(host.stdout.take().unwrap());
        assert!(output.lines().any(|line| line.unwrap() == "ready"));
        // In each round, another moment of a start or an end.
        std::thread::sleep(Duration::from_micros(20_000 + round * 1700));
        host.kill().unwrap();
        host.wait().unwrap();
        let begin = format!("{MARKER_VARIABLE}=test-{}-", host.id());
        let left = || {
            let marked = |process: &linux::Process| {
                let environment = std::fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
                process.alive && environment.split(|byte| *byte == 0).any(|text| text.starts_with(begin.as_bytes()))
            };
            linux::all_processes().into_iter().filter(marked).collect::<Vec<_>>()
        };
        let deadline = Instant::now() + Duration::from_secs(2);
        while !left().is_empty() {
            assert!(Instant::now() < deadline, "round {round}: {:?} are left", left());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
