//! Children with a terminal in place of pipes.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;

/// A shell that runs `script` in a terminal, with its input open.
pub(super) fn in_terminal(script: &str) -> SpawnSpec {
    SpawnSpec { stdin: Stdin::Open, terminal: Some(TerminalSize::default()), ..shell(script) }
}

/// Follows a child with a terminal to its end.
pub(super) fn follow_terminal(child: &mut Child) -> Reported {
    let reported = follow_streams(child);
    assert_eq!(reported.ends, [Stream::Stdout], "{reported:?}");
    assert_eq!(reported.stderr, b"");
    reported
}

/// Starts a child, ends its input where that has not been done, and returns what it printed.
fn printed(zygote: &Zygote, spec: &SpawnSpec) -> String {
    let reported = follow_terminal(&mut start(zygote, spec));
    assert_eq!(reported.status(), ExitStatus::Code(0), "{reported:?}");
    String::from_utf8(reported.stdout).unwrap()
}

/// The lines that a script printed, without what its shell says of processes that a signal ended.
pub(super) fn words(reported: &Reported) -> Vec<&str> {
    let text = std::str::from_utf8(&reported.stdout).unwrap().trim();
    text.lines().filter(|line| !["Hangup", "Terminated", ""].contains(line)).collect()
}

/// Reads output until it contains `wanted`, and returns it.
pub(super) fn read_until(child: &mut Child, wanted: &str) -> String {
    let mut text = String::new();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !text.contains(wanted) {
        match child.next(Some(deadline)) {
            Event::Output { stream: Stream::Stdout, bytes } => text.push_str(&String::from_utf8_lossy(&bytes)),
            Event::StdinClosed => {}
            other => panic!("waiting for {wanted:?}, having {text:?}: {other:?}"),
        }
    }
    text
}

#[test]
fn all_three_streams_are_a_terminal_of_the_requested_size() {
    let zygote = zygote();
    let script = "test -t 0 && test -t 1 && test -t 2 && echo terminal; echo to stderr >&2; echo to tty >/dev/tty; \
                  stty size; test \"$(tty)\" = \"$(readlink /proc/self/fd/2)\" && echo named";
    let expected = |size: &str| format!("terminal\r\nto stderr\r\nto tty\r\n{size}\r\nnamed\r\n");
    assert_eq!(printed(&zygote, &in_terminal(script)), expected("30 120"));
    let spec = SpawnSpec { terminal: TerminalSize::new(7, 1000), ..in_terminal(script) };
    assert_eq!(printed(&zygote, &spec), expected("7 1000"));
}

#[test]
fn child_leads_a_session_in_the_foreground_and_has_no_other_descriptor() {
    let zygote = zygote();
    let spec = in_terminal(
        "read p n s pp pg sid tty fg rest </proc/self/stat; echo $((pg - $$)) $((sid - $$)) $((fg - $$)); \
         test $tty != 0 && echo controlled; ls /proc/self/fd | wc -l",
    );
    // Three streams and the folder that ls itself reads.
    assert_eq!(printed(&zygote, &spec), "0 0 0\r\ncontrolled\r\n4\r\n");
}

#[test]
fn new_terminal_has_the_modes_of_a_terminal_emulator() {
    let zygote = zygote();
    let modes = printed(&zygote, &in_terminal("stty -a"));
    let words: Vec<&str> = modes.split([' ', ';', '\r', '\n']).collect();
    for word in ["icanon", "echo", "isig", "icrnl", "onlcr", "opost", "iutf8", "ixon", "-ixoff"] {
        assert!(words.contains(&word), "{word} in {modes}");
    }
}

#[test]
fn typed_line_is_echoed_and_reaches_the_program() {
    let zygote = zygote();
    let mut child = start(&zygote, &in_terminal("read line; echo \"got $line\""));
    child.write(b"hello\r".to_vec()).unwrap();
    let reported = follow_terminal(&mut child);
    assert_eq!(String::from_utf8_lossy(&reported.stdout), "hello\r\ngot hello\r\n");
    // The input was never closed, so that only the end of the terminal is noticed.
    assert_eq!(reported.stdin, [Event::StdinFailed { unwritten: 0 }]);
    assert_eq!(child.write(b"x".to_vec()), Err(WriteRefused::Closed));
}

#[test]
fn resize_reaches_the_child_with_sigwinch() {
    let zygote = zygote();
    let mut child =
        start(&zygote, &in_terminal("trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.01; done"));
    read_until(&mut child, "ready");
    child.resize(TerminalSize::new(41, 101).unwrap()).unwrap();
    let reported = follow_terminal(&mut child);
    assert_eq!(String::from_utf8_lossy(&reported.stdout).trim(), "41 101");
    assert_eq!(child.resize(TerminalSize::default()), Err(ResizeRefused::Closed));
}

#[test]
fn resize_without_a_terminal_is_refused() {
    let zygote = zygote();
    let mut child = start(&zygote, &shell("true"));
    assert_eq!(child.resize(TerminalSize::default()), Err(ResizeRefused::NoTerminal));
}

#[test]
fn every_byte_reaches_a_program_in_raw_mode() {
    let zygote = zygote();
    let mut child = start(&zygote, &in_terminal("stty raw -echo; echo ready; head -c 512 | od -An -v -tx1"));
    read_until(&mut child, "ready");
    let bytes: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
    child.write(bytes.clone()).unwrap();
    let reported = follow_terminal(&mut child);
    let text = String::from_utf8(reported.stdout).unwrap();
    let got: Vec<u8> = text.split_ascii_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    assert_eq!(got, bytes);
}

#[test]
fn large_input_reaches_a_child_that_reads() {
    const SIZE: usize = 10 << 20;
    let zygote = zygote();
    let script = format!("stty raw -echo; echo ready; head -c {SIZE} | cksum");
    let mut child = start(&zygote, &in_terminal(&script));
    read_until(&mut child, "ready");
    let input: Vec<u8> = (0..SIZE).map(|index| (index % 251) as u8).collect();
    child.write(input.clone()).unwrap();
    let reported = follow_terminal(&mut child);
    let mut expected = shell("cksum");
    expected.stdin = Stdin::Bytes(input);
    let expected = String::from_utf8(follow(&mut start(&zygote, &expected)).stdout).unwrap();
    assert_eq!(String::from_utf8_lossy(&reported.stdout).trim(), expected.trim());
}

#[test]
fn unread_input_is_bounded_and_does_not_block_the_exit() {
    let zygote = zygote();
    let mut spec = in_terminal("stty raw -echo; echo ready; exec sleep 0.3");
    spec.limits.stdin_queue = 1 << 20;
    let mut child = start(&zygote, &spec);
    read_until(&mut child, "ready");
    child.write(vec![b'x'; 1 << 20]).unwrap();
    assert_eq!(child.write(vec![b'x'; 1]), Err(WriteRefused::Full { waiting: 1 << 20, limit: 1 << 20 }));
    let reported = follow_terminal(&mut child);
    assert_eq!(reported.status(), ExitStatus::Code(0));
    assert!(
        matches!(reported.stdin.as_slice(), [Event::StdinFailed { unwritten }] if *unwritten > 1 << 19),
        "{reported:?}"
    );
}

#[test]
fn closed_input_ends_a_program_that_reads_lines() {
    let zygote = zygote();
    for (input, shown) in [("", ""), ("one\ntwo\n", "one\r\ntwo\r\n"), ("partial", "partial")] {
        let mut child = start(&zygote, &in_terminal("stty -echo; echo ready; cat; echo end"));
        read_until(&mut child, "ready\r\n");
        child.write(input.into()).unwrap();
        child.close_stdin();
        assert_eq!(child.write(b"x".to_vec()), Err(WriteRefused::Closed));
        let reported = follow_terminal(&mut child);
        assert_eq!(String::from_utf8_lossy(&reported.stdout), format!("{shown}end\r\n"));
        assert_eq!(reported.stdin, [Event::StdinClosed]);
    }
    // Bytes that are given at once end in the same way, and an empty input is at its end.
    for (input, shown) in [("", "0"), ("one\n", "4")] {
        let spec = SpawnSpec { stdin: Stdin::Bytes(input.into()), ..in_terminal("wc -c") };
        assert!(printed(&zygote, &spec).ends_with(&format!("{shown}\r\n")), "{input:?}");
    }
}

#[test]
fn closed_input_is_a_key_for_a_program_that_reads_keys() {
    let zygote = zygote();
    let mut child = start(&zygote, &in_terminal("stty raw -echo; echo ready; head -c 2 | od -An -tx1"));
    read_until(&mut child, "ready");
    child.write(b"a".to_vec()).unwrap();
    child.close_stdin();
    assert_eq!(String::from_utf8_lossy(&follow_terminal(&mut child).stdout).trim(), "61 04");
}

#[test]
fn large_output_arrives_complete() {
    let zygote = zygote();
    let script = "stty -opost; head -c 10000000 /dev/zero; printf 'the end'";
    let reported = follow_terminal(&mut start(&zygote, &in_terminal(script)));
    assert_eq!(reported.stdout.len(), 10_000_000 + 7);
    assert!(reported.stdout.ends_with(b"the end"));
}

#[test]
fn last_line_of_a_thousand_children_is_never_lost() {
    const CHILDREN: usize = 1000;
    const THREADS: usize = 4;
    let zygote = zygote();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let zygote = &zygote;
            scope.spawn(move || {
                for number in (thread..CHILDREN).step_by(THREADS) {
                    let (format, end) = if number % 2 == 0 { ("line %s\n", "\r\n") } else { ("line %s", "") };
                    let mut spec = SpawnSpec {
                        executable: "/usr/bin/printf".into(),
                        args: vec![format.into(), number.to_string().into()],
                        ..in_terminal("")
                    };
                    // Some get no time at all after their exit.
                    if number % 5 == 0 {
                        spec.limits.linger = Duration::ZERO;
                    }
                    let reported = follow_terminal(&mut start(zygote, &spec));
                    assert_eq!(String::from_utf8_lossy(&reported.stdout), format!("line {number}{end}"));
                    assert_eq!(reported.status(), ExitStatus::Code(0));
                }
            });
        }
    });
}

#[test]
fn output_read_after_the_exit_is_not_lost() {
    let zygote = zygote();
    let mut spec = in_terminal("printf '%02000d' 7");
    spec.limits.linger = Duration::ZERO;
    let mut child = start(&zygote, &spec);
    expect_none(&spec.marker, Duration::from_secs(5));
    assert_eq!(follow_terminal(&mut child).stdout.len(), 2000);
}

#[test]
fn child_that_closes_its_streams_can_open_its_terminal_again() {
    let zygote = zygote();
    let spec = in_terminal("exec <&- >&- 2>&-; sleep 0.2; echo again >/dev/tty; exit 5");
    let reported = follow_terminal(&mut start(&zygote, &spec));
    assert_eq!((reported.stdout.as_slice(), reported.status()), (&b"again\r\n"[..], ExitStatus::Code(5)));
}

#[test]
fn descendant_that_holds_the_terminal_ends_with_the_linger() {
    let zygote = zygote();
    let begun = Instant::now();
    let mut child = start(&zygote, &in_terminal("setsid sleep 100 & sleep 0.1; echo done"));
    let reported = follow_terminal(&mut child);
    assert_eq!((reported.stdout.as_slice(), reported.status()), (&b"done\r\n"[..], ExitStatus::Code(0)));
    assert_eq!(reported.contained.killed_total, 1, "{reported:?}");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn exit_of_the_child_hangs_up_on_its_foreground_group() {
    let zygote = zygote();
    let mut spec = in_terminal("(trap 'echo hung up; exit' HUP; echo ready; while :; do sleep 0.01; done) & sleep 0.2");
    spec.limits.linger = Duration::from_secs(5);
    let begun = Instant::now();
    let reported = follow_terminal(&mut start(&zygote, &spec));
    assert_eq!(words(&reported), ["ready", "hung up"]);
    assert_eq!(reported.contained.killed_total, 0, "{reported:?}");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

/// A shell with job control. Its prompt and what it reads are on the terminal.
fn interactive_shell() -> SpawnSpec {
    let mut spec = SpawnSpec { executable: "/bin/bash".into(), ..in_terminal("") };
    spec.args = ["--norc", "--noprofile", "-i"].map(OsString::from).to_vec();
    spec.environment.extend([("PS1".into(), "$ ".into()), ("TERM".into(), "dumb".into())]);
    spec.environment.push(("HISTFILE".into(), "".into()));
    spec
}

#[test]
fn interrupt_key_ends_the_foreground_job_and_not_the_shell() {
    let zygote = zygote();
    let mut child = start(&zygote, &interactive_shell());
    read_until(&mut child, "$ ");
    // Printed by the job, which is in the foreground then.
    child.write(b"sh -c 'echo be''gun; exec sleep 100'; true\r".to_vec()).unwrap();
    read_until(&mut child, "begun\r\n");
    child.write(vec![3]).unwrap();
    read_until(&mut child, "$ ");
    child.write(b"echo status $?; exit 7\r".to_vec()).unwrap();
    let reported = follow_terminal(&mut child);
    assert!(String::from_utf8_lossy(&reported.stdout).contains("status 130"), "{reported:?}");
    assert_eq!(reported.status(), ExitStatus::Code(7));
}

#[test]
fn stop_interrupts_the_foreground_job_too() {
    let zygote = zygote();
    let mut child = start(&zygote, &interactive_shell());
    read_until(&mut child, "$ ");
    let job = "sh -c 'trap \"echo caught''; exit\" INT; echo be''gun; while :; do sleep 0.01; done'; exit 7\r";
    child.write(job.into()).unwrap();
    read_until(&mut child, "begun\r\n");
    child.stop(StopSignal::Interrupt, Duration::from_secs(8));
    let text = read_until(&mut child, "caught\r\n");
    assert_eq!(text.matches("caught").count(), 1, "{text}");
    child.stop(StopSignal::Terminate, Duration::ZERO);
    follow_terminal(&mut child);
    expect_none(&child.identity().marker.clone(), Duration::ZERO);
}

#[test]
fn stop_sends_interrupt_then_terminate_then_kill() {
    let zygote = zygote();
    let script = "trap 'echo int' INT; trap 'echo term' TERM; echo ready; while :; do sleep 0.02; done";
    let mut child = start(&zygote, &in_terminal(script));
    read_until(&mut child, "ready");
    child.stop(StopSignal::Interrupt, Duration::from_millis(600));
    let begun = Instant::now();
    let reported = follow_terminal(&mut child);
    assert_eq!(words(&reported), ["int", "term"]);
    assert_eq!(reported.status(), ExitStatus::Signal(9));
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[test]
fn dropped_child_leaves_no_process() {
    let zygote = zygote();
    let mut child = start(&zygote, &in_terminal("trap '' TERM HUP; sleep 100 & setsid sleep 100 & echo ready; wait"));
    read_until(&mut child, "ready");
    let marker = child.identity().marker.clone();
    assert!(marked(&marker).len() >= 2);
    drop(child);
    expect_none(&marker, Duration::ZERO);
}

#[test]
fn killed_keeper_ends_the_child_and_its_terminal() {
    let zygote = zygote();
    let mut child = start(&zygote, &in_terminal("trap '' HUP TERM; setsid sleep 100 & echo ready; sleep 100"));
    read_until(&mut child, "ready");
    kill(Pid::from_raw(child.identity().keeper_pid), Signal::SIGKILL).unwrap();
    let reported = follow_terminal(&mut child);
    assert!(reported.contained.keeper_lost);
    expect_none(&child.identity().marker.clone(), Duration::from_secs(2));
}

#[test]
fn no_other_child_inherits_a_terminal() {
    let zygote = zygote();
    let mut first = start(&zygote, &in_terminal("echo ready; sleep 100"));
    read_until(&mut first, "ready");
    let list = "readlink /proc/self/fd/* /proc/$$/fd/*; true";
    let seen = run(&zygote, list).stdout;
    assert!(!String::from_utf8_lossy(&seen).contains("pt"), "{}", String::from_utf8_lossy(&seen));
    // Another terminal's child has that terminal only.
    let seen = printed(&zygote, &in_terminal(&format!("tty; {list}")));
    let own = seen.lines().next().unwrap();
    assert!(seen.lines().filter(|line| line.contains("pt")).all(|line| line == own), "{seen}");
    // The helpers hold none either.
    let keeper = first.identity().keeper_pid;
    for pid in [keeper, linux::process(keeper).unwrap().parent] {
        for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            assert!(!target.starts_with("/dev/pt"), "{pid}: {target:?}");
        }
    }
}

#[test]
fn prepared_child_with_a_terminal_can_be_dropped_or_fail() {
    let zygote = zygote();
    let prepared = zygote.prepare(&in_terminal("true")).unwrap();
    let pid = prepared.identity().pid;
    drop(prepared);
    assert!(linux::process(pid).is_none_or(|process| !process.alive));
    let spec = SpawnSpec { executable: "/no/such/program".into(), ..in_terminal("") };
    let error = zygote.prepare(&spec).and_then(Prepared::start).unwrap_err();
    assert_eq!(error.kind, SpawnErrorKind::NotFound);
    let spec = SpawnSpec { cwd: "/no/such/folder".into(), ..in_terminal("") };
    assert_eq!(zygote.prepare(&spec).and_then(Prepared::start).unwrap_err().kind, SpawnErrorKind::BadCwd);
}
