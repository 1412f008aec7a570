//! Exit, stop, wake, deadline.

use super::*;
use ostler_protocol::MARKER_VARIABLE;

#[test]
fn each_event_of_a_child_is_reported_once() {
    let zygote = zygote();
    let reported = run(&zygote, "echo out; echo err >&2; exit 3");
    assert_eq!((reported.stdout.as_slice(), reported.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(reported.status(), ExitStatus::Code(3));
    assert_eq!(reported.stdin, [Event::StdinClosed]);
    assert_eq!(reported.contained, Contained::default());
    let usage = reported.exits[0].usage;
    assert!(usage.peak_rss > 100_000 && usage.user < Duration::from_secs(5), "{usage:?}");
}

#[test]
fn contained_event_is_returned_again() {
    let zygote = zygote();
    let mut child = start(&zygote, &shell("true"));
    follow(&mut child);
    assert_eq!(child.next(None), Event::Contained(Contained::default()));
}

#[test]
fn death_by_each_signal_is_reported() {
    let zygote = zygote();
    for signal in nix::sys::signal::Signal::iterator() {
        use nix::sys::signal::Signal::{SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH};
        if [SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH].contains(&signal) {
            continue;
        }
        let number = signal as i32;
        // The child must not inherit signals that the host ignores, SIGPIPE above all.
        let reported = run(&zygote, &format!("ulimit -c 0; kill -{number} $$; echo survived"));
        assert_eq!(reported.status(), ExitStatus::Signal(number), "{signal}");
        assert_eq!(reported.stdout, b"");
    }
}

#[test]
fn child_has_its_own_session_and_inherits_nothing() {
    let zygote = zygote();
    let mut spec =
        shell("read p n s pp pg sid rest </proc/self/stat; echo $pg $sid $$; ls /proc/self/fd | wc -l; env; pwd");
    spec.environment.push(("A".into(), "b c".into()));
    spec.environment.push((MARKER_VARIABLE.into(), "forged".into()));
    spec.cwd = "/tmp".into();
    let mut child = start(&zygote, &spec);
    let pid = child.identity().pid;
    let reported = follow(&mut child);
    let text = String::from_utf8(reported.stdout).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next().unwrap(), format!("{pid} {pid} {pid}"));
    // Three streams and the folder that ls itself reads.
    assert_eq!(lines.next().unwrap().trim(), "4");
    let rest: Vec<&str> = lines.collect();
    let marked = format!("{MARKER_VARIABLE}={}", spec.marker);
    assert!(rest.contains(&"A=b c") && rest.contains(&marked.as_str()) && rest.contains(&"/tmp"), "{rest:?}");
    assert!(!text.contains("forged") && !text.contains("CARGO"), "{text}");
}

#[test]
fn stop_sends_interrupt_then_terminate_then_kill() {
    let zygote = zygote();
    let mut child =
        start(&zygote, &shell("trap 'echo int' INT; trap 'echo term' TERM; echo ready; while :; do sleep 0.02; done"));
    lines(&mut child, 1);
    child.stop(StopSignal::Interrupt, Duration::from_millis(600));
    child.stop(StopSignal::Interrupt, Duration::from_secs(600));
    let begun = Instant::now();
    let reported = follow(&mut child);
    assert_eq!(String::from_utf8_lossy(&reported.stdout), "int\nterm\n");
    assert_eq!(reported.status(), ExitStatus::Signal(9));
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(590) && took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn child_that_exits_at_the_first_signal_ends_the_stop_early() {
    let zygote = zygote();
    let mut child = start(&zygote, &shell("trap 'echo bye; exit 7' INT; echo ready; while :; do sleep 0.02; done"));
    lines(&mut child, 1);
    child.stop(StopSignal::Interrupt, Duration::from_secs(60));
    let reported = follow(&mut child);
    assert_eq!((reported.stdout.as_slice(), reported.status()), (&b"bye\n"[..], ExitStatus::Code(7)));
}

#[test]
fn stop_without_grace_kills_at_once_after_an_earlier_stop() {
    let zygote = zygote();
    let mut child = start(&zygote, &shell("trap '' INT TERM; echo ready; while :; do sleep 1; done"));
    lines(&mut child, 1);
    child.stop(StopSignal::Terminate, Duration::from_secs(600));
    child.stop(StopSignal::Terminate, Duration::ZERO);
    assert_eq!(follow(&mut child).status(), ExitStatus::Signal(9));
    expect_none(&child.identity().marker.clone(), Duration::ZERO);
}

#[test]
fn waker_wakes_the_thread_from_another_one() {
    let zygote = zygote();
    let mut child = start(&zygote, &shell("sleep 100"));
    let waker = child.waker();
    let thread = std::thread::spawn(move || {
        waker.wake();
        waker
    });
    assert_eq!(child.next(None), Event::StdinClosed);
    assert_eq!(child.next(None), Event::Woken);
    let waker = thread.join().unwrap();
    drop(child);
    waker.wake();
}

#[test]
fn passed_deadline_is_reported_before_other_events() {
    let zygote = zygote();
    let mut child = start(&zygote, &shell("exec cat /dev/zero"));
    let past = Instant::now();
    assert_eq!(child.next(Some(past)), Event::Deadline);
    // Reported once; then the other events.
    assert_eq!(child.next(Some(past)), Event::StdinClosed);
    let soon = Instant::now() + Duration::from_millis(20);
    while child.next(Some(soon)) != Event::Deadline {}
    assert!(Instant::now() >= soon);
    let mut quiet = start(&zygote, &shell("sleep 100"));
    assert_eq!(quiet.next(None), Event::StdinClosed);
    let soon = Instant::now() + Duration::from_millis(20);
    for _ in 0..3 {
        assert_eq!(quiet.next(Some(soon)), Event::Deadline);
    }
}

#[test]
fn dropped_child_leaves_no_process() {
    let zygote = zygote();
    let mut child = start(&zygote, &shell("trap '' TERM; sleep 100 & setsid sleep 100 & echo ready; wait"));
    lines(&mut child, 1);
    let marker = child.identity().marker.clone();
    assert!(marked(&marker).len() >= 2);
    drop(child);
    expect_none(&marker, Duration::ZERO);
}
