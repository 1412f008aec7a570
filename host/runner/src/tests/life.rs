//! Exit, stop, wake, deadline.

use super::*;
use ostler_protocol::MARKER_VARIABLE;

#[test]
fn a_child_runs_and_everything_is_told_once() {
    let zygote = zygote();
    let told = run(&zygote, "echo out; echo err >&2; exit 3");
    assert_eq!((told.stdout.as_slice(), told.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(told.status(), ExitStatus::Code(3));
    assert_eq!(told.stdin, [Event::StdinClosed]);
    assert_eq!(told.contained, Contained::default());
    let usage = told.exits[0].usage;
    assert!(usage.peak_rss > 100_000 && usage.user < Duration::from_secs(5), "{usage:?}");
}

#[test]
fn the_last_event_stays() {
    let zygote = zygote();
    let mut child = start(&zygote, &shell("true"));
    follow(&mut child);
    assert_eq!(child.next(None), Event::Contained(Contained::default()));
}

#[test]
fn death_by_each_signal_is_told() {
    let zygote = zygote();
    for signal in nix::sys::signal::Signal::iterator() {
        use nix::sys::signal::Signal::{SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH};
        if [SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH].contains(&signal) {
            continue;
        }
        let number = signal as i32;
        // SIGPIPE above all: what the host ignores, the child must not inherit as ignored.
        let told = run(&zygote, &format!("ulimit -c 0; kill -{number} $$; echo survived"));
        assert_eq!(told.status(), ExitStatus::Signal(number), "{signal}");
        assert_eq!(told.stdout, b"");
    }
}

#[test]
fn a_child_has_a_session_and_nothing_else_of_ours() {
    let zygote = zygote();
    let mut spec =
        shell("read p n s pp pg sid rest </proc/self/stat; echo $pg $sid $$; ls /proc/self/fd | wc -l; env; pwd");
    spec.environment.push(("A".into(), "b c".into()));
    spec.environment.push((MARKER_VARIABLE.into(), "forged".into()));
    spec.cwd = "/tmp".into();
    let mut child = start(&zygote, &spec);
    let pid = child.identity().pid;
    let told = follow(&mut child);
    let text = String::from_utf8(told.stdout).unwrap();
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
fn first_an_interrupt_then_a_termination_then_the_end() {
    let zygote = zygote();
    let mut child =
        start(&zygote, &shell("trap 'echo int' INT; trap 'echo term' TERM; echo ready; while :; do sleep 0.02; done"));
    lines(&mut child, 1);
    child.stop(StopSignal::Interrupt, Duration::from_millis(600));
    child.stop(StopSignal::Interrupt, Duration::from_secs(600));
    let begun = Instant::now();
    let told = follow(&mut child);
    assert_eq!(String::from_utf8_lossy(&told.stdout), "int\nterm\n");
    assert_eq!(told.status(), ExitStatus::Signal(9));
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(590) && took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn a_child_that_ends_at_the_first_signal_is_not_waited_for() {
    let zygote = zygote();
    let mut child = start(&zygote, &shell("trap 'echo bye; exit 7' INT; echo ready; while :; do sleep 0.02; done"));
    lines(&mut child, 1);
    child.stop(StopSignal::Interrupt, Duration::from_secs(60));
    let told = follow(&mut child);
    assert_eq!((told.stdout.as_slice(), told.status()), (&b"bye\n"[..], ExitStatus::Code(7)));
}

#[test]
fn a_stop_without_grace_kills_at_once_even_after_another() {
    let zygote = zygote();
    let mut child = start(&zygote, &shell("trap '' INT TERM; echo ready; while :; do sleep 1; done"));
    lines(&mut child, 1);
    child.stop(StopSignal::Terminate, Duration::from_secs(600));
    child.stop(StopSignal::Terminate, Duration::ZERO);
    assert_eq!(follow(&mut child).status(), ExitStatus::Signal(9));
    expect_none(&child.identity().marker.clone(), Duration::ZERO);
}

#[test]
fn others_can_wake_the_thread() {
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
fn a_time_that_has_come_is_told_whatever_else_there_is() {
    let zygote = zygote();
    let mut child = start(&zygote, &shell("exec cat /dev/zero"));
    let past = Instant::now();
    assert_eq!(child.next(Some(past)), Event::Deadline);
    // Told once; then the rest.
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
fn a_dropped_child_leaves_nothing() {
    let zygote = zygote();
    let mut child = start(&zygote, &shell("trap '' TERM; sleep 100 & setsid sleep 100 & echo ready; wait"));
    lines(&mut child, 1);
    let marker = child.identity().marker.clone();
    assert!(marked(&marker).len() >= 2);
    drop(child);
    expect_none(&marker, Duration::ZERO);
}
