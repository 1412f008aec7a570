//! Terminals of contained children, with each back end. If this machine refuses one, its tests print SKIPPED.

use super::sandbox::{Fixture, landlock, text};
use super::terminal::{follow_terminal, in_terminal, read_until, words};
use super::*;

/// A script in the namespaces of a fixture, with a terminal.
fn contained(fixture: &Fixture, script: &str) -> SpawnSpec {
    let SpawnSpec { stdin, terminal, .. } = in_terminal("");
    SpawnSpec { stdin, terminal, ..fixture.spec(fixture.view(), script) }
}

fn bounded_by_landlock(script: &str) -> SpawnSpec {
    SpawnSpec { sandbox: landlock(), ..in_terminal(script) }
}

/// The zygote for a test of Landlock; None, with a message, if this kernel does not bound connections by it.
fn zygote_with_landlock() -> Option<Zygote> {
    const VERSION: u32 = 1;
    let no_rules = std::ptr::null::<u8>();
    // SAFETY: asks for a number only, which the null pointer says.
    let version = unsafe { nix::libc::syscall(nix::libc::SYS_landlock_create_ruleset, no_rules, 0_usize, VERSION) };
    if version < 4 {
        eprintln!("SKIPPED: Landlock has version {version} here");
        return None;
    }
    Some(zygote())
}

const LOOK: &str = "test -t 0 && test -t 1 && test -t 2 && echo terminal; stty size; tty; \
                    echo to tty >/dev/tty; echo to name >\"$(tty)\"; echo to fd >/proc/self/fd/1";

#[test]
fn contained_child_has_a_terminal_of_its_own() {
    for fixture in Fixture::each() {
        let script = format!("{LOOK}; ls /dev/pts");
        let mut child = start(&fixture.zygote, &contained(&fixture, &script));
        let reported = follow_terminal(&mut child);
        let expected = "terminal\r\n30 120\r\n/dev/pts/0\r\nto tty\r\nto name\r\nto fd\r\n0  ptmx";
        assert_eq!(text(&reported.stdout), expected, "{:?}", fixture.maker);
    }
}

#[test]
fn contained_programs_can_make_more_terminals() {
    for fixture in Fixture::each() {
        let spec = contained(&fixture, "script -qec tty /dev/null </dev/null");
        let reported = follow_terminal(&mut start(&fixture.zygote, &spec));
        assert_eq!(text(&reported.stdout), "/dev/pts/1", "{:?}", fixture.maker);
    }
}

#[test]
fn contained_child_keeps_its_last_line() {
    for fixture in Fixture::each() {
        for number in 0..30 {
            let spec = contained(&fixture, &format!("printf 'line {number}'"));
            let reported = follow_terminal(&mut start(&fixture.zygote, &spec));
            assert_eq!(text(&reported.stdout), format!("line {number}"));
        }
    }
}

#[test]
fn stop_resize_and_keys_reach_a_contained_child() {
    for fixture in Fixture::each() {
        let script = "trap 'stty size' WINCH; trap 'echo int' INT; trap 'echo bye; exit 3' TERM; echo ready; \
                      while :; do sleep 0.01; done";
        let mut child = start(&fixture.zygote, &contained(&fixture, script));
        read_until(&mut child, "ready");
        child.resize(TerminalSize::new(50, 90).unwrap()).unwrap();
        read_until(&mut child, "50 90");
        child.write(vec![3]).unwrap();
        read_until(&mut child, "int\r\n");
        child.stop(StopSignal::Interrupt, Duration::from_millis(600));
        let reported = follow_terminal(&mut child);
        assert_eq!((words(&reported), reported.status()), (vec!["int", "bye"], ExitStatus::Code(3)));
    }
}

#[test]
fn descendant_that_holds_the_terminal_ends_with_the_linger_in_namespaces() {
    for fixture in Fixture::each() {
        let spec = contained(&fixture, "env -i setsid sleep 300 & sleep 0.1; echo done");
        let reported = follow_terminal(&mut start(&fixture.zygote, &spec));
        assert_eq!(text(&reported.stdout), "done");
        assert_eq!(reported.contained.killed_total, 1, "{:?}", reported.contained);
    }
}

/// Tries to print in, and to read from, every terminal that can be found: those of `/dev/pts`, and the streams of every
/// process. Writes a mark that the owner would see.
const INTRUDE: &str = "own=$(tty); for t in /dev/pts/[0-9]* /proc/[0-9]*/fd/[012]; do \
    test \"$(readlink $t || echo $t)\" = \"$own\" && continue; test \"$t\" = \"$own\" && continue; test -c \"$t\" || continue; \
    (exec 9>\"$t\" && test -t 9 && echo INTRUDER >&9 && echo wrote $t) 2>/dev/null; \
    (exec 8<\"$t\" && test -t 8 && echo opened $t) 2>/dev/null; done; echo tried";

#[test]
fn contained_child_reaches_no_terminal_of_another_run() {
    for fixture in Fixture::each() {
        let mut outside = start(&fixture.zygote, &in_terminal("echo ready; read line; echo \"end $line\""));
        let mut other = start(&fixture.zygote, &contained(&fixture, "echo ready; read line; echo \"end $line\""));
        read_until(&mut outside, "ready");
        read_until(&mut other, "ready");
        let intruder = follow_terminal(&mut start(&fixture.zygote, &contained(&fixture, INTRUDE)));
        assert_eq!(text(&intruder.stdout), "tried", "{:?}", fixture.maker);
        for mut victim in [outside, other] {
            victim.write(b"x\n".to_vec()).unwrap();
            let reported = follow_terminal(&mut victim);
            assert_eq!(text(&reported.stdout), "x\r\nend x");
        }
    }
}

#[test]
fn landlock_opens_no_terminal_but_the_own_one() {
    let Some(zygote) = zygote_with_landlock() else { return };
    let reported = follow_terminal(&mut start(&zygote, &bounded_by_landlock(LOOK)));
    let seen = text(&reported.stdout);
    let own = seen.lines().nth(2).unwrap_or_default();
    assert!(own.starts_with("/dev/pts/"), "{seen}");
    assert_eq!(seen, format!("terminal\r\n30 120\r\n{own}\r\nto tty\r\nto name\r\nto fd"));

    let mut victim = start(&zygote, &bounded_by_landlock("echo ready; read line; echo \"end $line\""));
    read_until(&mut victim, "ready");
    // With pipes, and with a terminal.
    let intruder = follow(&mut start(&zygote, &SpawnSpec { sandbox: landlock(), ..shell(INTRUDE) }));
    assert_eq!(text(&intruder.stdout), "tried", "{}", text(&intruder.stderr));
    let intruder = follow_terminal(&mut start(&zygote, &bounded_by_landlock(INTRUDE)));
    assert_eq!(text(&intruder.stdout), "tried");
    victim.write(b"x\n".to_vec()).unwrap();
    assert_eq!(text(&follow_terminal(&mut victim).stdout), "x\r\nend x");
}

#[test]
fn landlock_keeps_the_other_devices_open() {
    let Some(zygote) = zygote_with_landlock() else { return };
    let script = "echo x >/dev/null; head -c 3 /dev/zero | wc -c; test -r /dev/urandom && ls -d /dev/pts; \
                  echo y >/dev/shm/ostler-$$ && cat /dev/shm/ostler-$$; rm /dev/shm/ostler-$$; \
                  (echo z >/dev/ostler) 2>/dev/null || echo refused";
    let reported = follow(&mut start(&zygote, &SpawnSpec { sandbox: landlock(), ..shell(script) }));
    assert_eq!(text(&reported.stdout), "3\n/dev/pts\ny\nrefused", "{}", text(&reported.stderr));
}

#[test]
fn input_cannot_be_put_into_a_terminal_by_a_child() {
    let zygote = zygote();
    // TIOCSTI, by the only tool that is everywhere.
    let script = "command -v perl >/dev/null || { echo SKIPPED; exit; }; \
                  perl -e 'my $c = \"x\"; print ioctl(STDIN, 0x5412, $c) ? \"put\" : \"refused: $!\"'";
    let mut seen = vec![follow_terminal(&mut start(&zygote, &in_terminal(script)))];
    for fixture in Fixture::each() {
        seen.push(follow_terminal(&mut start(&fixture.zygote, &contained(&fixture, script))));
    }
    for reported in seen {
        if text(&reported.stdout) == "SKIPPED" {
            eprintln!("SKIPPED: there is no perl here");
            continue;
        }
        assert_eq!(text(&reported.stdout), "refused: Operation not permitted");
    }
}
