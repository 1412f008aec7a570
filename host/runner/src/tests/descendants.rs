//! Descendants that try to outlive the run.

use super::*;

/// Follows a child that exits at once while its tree stays; returns what was reported, the marker and the time taken.
fn timed(zygote: &Zygote, script: &str) -> (Reported, String, Duration) {
    let mut child = start(zygote, &shell(script));
    let begun = Instant::now();
    let reported = follow(&mut child);
    (reported, child.identity().marker.clone(), begun.elapsed())
}

#[test]
fn descendant_with_open_pipe_does_not_hang_the_run() {
    let zygote = zygote();
    let (reported, marker, took) = timed(&zygote, "sleep 100 & echo done");
    assert_eq!((reported.stdout.as_slice(), reported.status()), (&b"done\n"[..], ExitStatus::Code(0)));
    assert_eq!((reported.contained.killed_total, reported.contained.killed[0].name.as_str()), (1, "sleep"));
    assert!(reported.contained.survivors.is_empty());
    // The linger, and not much more.
    assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(3), "{took:?}");
    expect_none(&marker, Duration::ZERO);
}

#[test]
fn descendant_without_pipes_is_ended_without_linger() {
    let zygote = zygote();
    let mut spec = shell("setsid sleep 100 >/dev/null 2>&1 </dev/null & echo done");
    spec.limits.linger = Duration::from_secs(60);
    let reported = follow(&mut start(&zygote, &spec));
    assert_eq!(reported.contained.killed_total, 1);
    expect_none(&spec.marker, Duration::ZERO);
}

#[test]
fn daemon_in_its_own_session_is_ended() {
    let zygote = zygote();
    // Forked twice, in a session of its own, ignoring signals, without environment, with the pipe still open.
    let daemon = "(setsid env -i /bin/sh -c 'trap \"\" TERM INT HUP; sleep 100 & wait' &)";
    let (reported, marker, _) = timed(&zygote, &format!("{daemon}; sleep 0.1; echo gone"));
    assert_eq!(reported.stdout, b"gone\n");
    assert!(reported.contained.killed_total >= 2, "{reported:?}");
    for left in &reported.contained.killed {
        assert!(linux::process(left.pid).is_none_or(|process| !process.alive), "{left:?}");
    }
    expect_none(&marker, Duration::ZERO);
}

#[test]
fn tree_of_fifty_processes_is_ended() {
    let zygote = zygote();
    let tree = "i=0; while [ $i -lt 25 ]; do (setsid sh -c 'sleep 100 & wait' &); i=$((i+1)); done; sleep 0.2";
    let (reported, marker, _) = timed(&zygote, tree);
    assert!(reported.contained.killed_total >= 50, "{:?}", reported.contained);
    assert!(reported.contained.survivors.is_empty());
    expect_none(&marker, Duration::ZERO);
}

#[test]
fn tree_that_keeps_forking_is_ended() {
    let zygote = zygote();
    // Each process passes its work on to a new one and ends, for ever.
    let relay = "sh -c \"$RELAY\" & sh -c 'sleep 0.05; exec sleep 0.05' & sleep 0.01";
    let mut spec = shell("i=0; while [ $i -lt 6 ]; do setsid sh -c \"$RELAY\" & i=$((i+1)); done; sleep 0.3");
    spec.environment.push(("RELAY".into(), relay.into()));
    let mut child = start(&zygote, &spec);
    let reported = follow(&mut child);
    assert!(reported.contained.killed_total >= 6, "{:?}", reported.contained);
    expect_none(&spec.marker, Duration::ZERO);
}

#[test]
fn stopped_tree_that_ignores_signals_is_ended() {
    let zygote = zygote();
    let script =
        "trap '' TERM; setsid sh -c 'trap \"\" TERM INT; echo in; while :; do sleep 1; done' & sleep 100 & wait; wait";
    let mut child = start(&zygote, &shell(script));
    lines(&mut child, 1);
    child.stop(StopSignal::Interrupt, Duration::from_millis(200));
    follow(&mut child);
    expect_none(&child.identity().marker.clone(), Duration::ZERO);
}

#[test]
fn termination_reaches_other_sessions() {
    let zygote = zygote();
    let script = "setsid sh -c 'trap \"echo asked; exit\" TERM; echo in; while :; do sleep 0.02; done' & \
                  trap '' TERM; wait; wait; sleep 0.1; exit 4";
    let mut child = start(&zygote, &shell(script));
    lines(&mut child, 1);
    child.stop(StopSignal::Terminate, Duration::from_secs(5));
    let reported = follow(&mut child);
    assert_eq!(String::from_utf8_lossy(&reported.stdout), "asked\n");
    assert_eq!(reported.status(), ExitStatus::Code(4));
}

#[test]
fn child_stopped_by_sigstop_can_be_ended() {
    let zygote = zygote();
    let mut child = start(&zygote, &shell("kill -STOP $$"));
    let stat = format!("/proc/{}/stat", child.identity().pid);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !std::fs::read_to_string(&stat).unwrap().contains(") T ") {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(1));
    }
    child.stop(StopSignal::Interrupt, Duration::from_millis(100));
    assert_eq!(follow(&mut child).status(), ExitStatus::Signal(9));
}

#[test]
fn killed_keeper_is_reported_and_its_tree_is_ended() {
    let zygote = zygote();
    // A process without its marker is found through the zygote, which inherits it.
    let mut child = start(&zygote, &shell("setsid env -i sleep 100 & sleep 0.1; echo $!; exec sleep 100"));
    let hidden: i32 = lines(&mut child, 1)[0].parse().unwrap();
    let keeper = child.identity().keeper_pid;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(keeper), nix::sys::signal::Signal::SIGKILL).unwrap();
    let reported = follow(&mut child);
    assert_eq!(reported.status(), ExitStatus::Unknown);
    assert!(reported.contained.keeper_lost);
    expect_none(&child.identity().marker.clone(), Duration::ZERO);
    let deadline = Instant::now() + Duration::from_secs(2);
    while linux::process(hidden).is_some_and(|process| process.alive) {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(2));
    }
    // The zygote still works.
    assert_eq!(run(&zygote, "echo on").stdout, b"on\n");
}

#[test]
fn hanging_keeper_is_replaced_by_the_host() {
    let zygote = zygote();
    let mut child = start(&zygote, &shell("exec sleep 100"));
    let keeper = nix::unistd::Pid::from_raw(child.identity().keeper_pid);
    nix::sys::signal::kill(keeper, nix::sys::signal::Signal::SIGSTOP).unwrap();
    child.stop(StopSignal::Terminate, Duration::ZERO);
    let reported = follow(&mut child);
    assert!(reported.contained.keeper_lost);
    expect_none(&child.identity().marker.clone(), Duration::ZERO);
}
