//! Input and output.

use super::*;

#[test]
fn large_input_goes_in_while_output_comes_out() {
    let zygote = zygote();
    let input: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    let mut spec = shell("exec cat");
    spec.stdin = Stdin::Bytes(input.clone());
    let told = follow(&mut start(&zygote, &spec));
    assert_eq!(told.stdin, [Event::StdinClosed]);
    assert!(told.stdout == input);
}

#[test]
fn three_hundred_kibibytes_arrive() {
    let zygote = zygote();
    let mut spec = shell("wc -c");
    spec.stdin = Stdin::Bytes(vec![b'x'; 300 * 1024]);
    let told = follow(&mut start(&zygote, &spec));
    assert_eq!(String::from_utf8(told.stdout).unwrap().trim(), (300 * 1024).to_string());
}

#[test]
fn input_that_is_never_read_hinders_nothing() {
    let zygote = zygote();
    let mut spec = shell("exec sleep 0.1");
    spec.stdin = Stdin::Bytes(vec![b'x'; 10 << 20]);
    let told = follow(&mut start(&zygote, &spec));
    assert_eq!(told.status(), ExitStatus::Code(0));
    assert!(matches!(told.stdin.as_slice(), [Event::StdinFailed { unwritten }] if *unwritten > 9 << 20), "{told:?}");
    // Closed by the child while it lives on.
    spec = shell("exec <&-; echo closed; exec sleep 0.1");
    spec.stdin = Stdin::Open;
    let mut child = start(&zygote, &spec);
    let told = follow(&mut child);
    assert_eq!(told.stdin, [Event::StdinFailed { unwritten: 0 }]);
    assert_eq!(child.write(b"x".to_vec()), Err(WriteRefused::Closed));
}

#[test]
fn a_conversation_goes_on_until_the_input_is_closed() {
    let zygote = zygote();
    let mut spec = shell("while read line; do echo \"got $line\"; done; echo end");
    spec.stdin = Stdin::Open;
    let mut child = start(&zygote, &spec);
    for word in ["one", "two"] {
        child.write(format!("{word}\n").into_bytes()).unwrap();
        assert_eq!(lines(&mut child, 1), [format!("got {word}")]);
    }
    child.close_stdin();
    assert_eq!(child.write(b"x".to_vec()), Err(WriteRefused::Closed));
    let told = follow(&mut child);
    assert_eq!((told.stdout.as_slice(), told.stdin.as_slice()), (&b"end\n"[..], &[Event::StdinClosed][..]));
}

#[test]
fn input_waits_within_a_limit() {
    let zygote = zygote();
    let mut spec = shell("exec sleep 100");
    spec.stdin = Stdin::Open;
    spec.limits.stdin_queue = 10;
    let mut child = start(&zygote, &spec);
    child.write(vec![b'x'; 8]).unwrap();
    assert_eq!(child.write(vec![b'x'; 3]), Err(WriteRefused::Full { waiting: 8, limit: 10 }));
    child.write(vec![b'x'; 2]).unwrap();
    assert_eq!(child.input_waiting(), 10);
}

#[test]
fn a_child_that_closes_its_output_lives_on() {
    let zygote = zygote();
    let mut child = start(&zygote, &shell("exec >&- 2>&-; sleep 0.1; exit 5"));
    let mut order = Vec::new();
    loop {
        match child.next(None) {
            Event::EndOfStream(stream) => order.push(format!("{stream:?}")),
            Event::Exited(exit) => order.push(format!("{:?}", exit.status)),
            Event::Contained(_) => break,
            _ => {}
        }
    }
    order[..2].sort();
    assert_eq!(order, ["Stderr", "Stdout", "Code(5)"]);
}

#[test]
fn much_output_arrives_whole() {
    let zygote = zygote();
    let told = run(&zygote, "head -c 20000000 /dev/zero; head -c 3000000 /dev/zero >&2");
    assert_eq!((told.stdout.len(), told.stderr.len()), (20_000_000, 3_000_000));
}

#[test]
fn output_that_the_host_takes_late_is_not_lost() {
    let zygote = zygote();
    let mut spec = shell("head -c 60000 /dev/zero");
    spec.limits.linger = Duration::ZERO;
    let mut child = start(&zygote, &spec);
    // The child's whole end passes before anybody looks.
    expect_none(&spec.marker, Duration::from_secs(5));
    assert_eq!(follow(&mut child).stdout.len(), 60_000);
}
