//! Input and output.

use super::*;

#[test]
fn large_input_is_written_while_output_is_read() {
    let zygote = zygote();
    let input: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    let mut spec = shell("exec cat");
    spec.stdin = Stdin::Bytes(input.clone());
    let reported = follow(&mut start(&zygote, &spec));
    assert_eq!(reported.stdin, [Event::StdinClosed]);
    assert!(reported.stdout == input);
}

#[test]
fn input_larger_than_a_pipe_reaches_the_child() {
    let zygote = zygote();
    let mut spec = shell("wc -c");
    spec.stdin = Stdin::Bytes(vec![b'x'; 300 * 1024]);
    let reported = follow(&mut start(&zygote, &spec));
    assert_eq!(String::from_utf8(reported.stdout).unwrap().trim(), (300 * 1024).to_string());
}

#[test]
fn unread_input_does_not_block_the_exit() {
    let zygote = zygote();
    let mut spec = shell("exec sleep 0.1");
    spec.stdin = Stdin::Bytes(vec![b'x'; 10 << 20]);
    let reported = follow(&mut start(&zygote, &spec));
    assert_eq!(reported.status(), ExitStatus::Code(0));
    assert!(
        matches!(reported.stdin.as_slice(), [Event::StdinFailed { unwritten }] if *unwritten > 9 << 20),
        "{reported:?}"
    );
    // Closed by the child while it lives on.
    spec = shell("exec <&-; echo closed; exec sleep 0.1");
    spec.stdin = Stdin::Open;
    let mut child = start(&zygote, &spec);
    let reported = follow(&mut child);
    assert_eq!(reported.stdin, [Event::StdinFailed { unwritten: 0 }]);
    assert_eq!(child.write(b"x".to_vec()), Err(WriteRefused::Closed));
}

#[test]
fn open_input_takes_writes_until_it_is_closed() {
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
    let reported = follow(&mut child);
    assert_eq!((reported.stdout.as_slice(), reported.stdin.as_slice()), (&b"end\n"[..], &[Event::StdinClosed][..]));
}

#[test]
fn write_beyond_the_queue_limit_is_refused() {
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
fn child_that_closes_its_output_keeps_running() {
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
fn large_output_arrives_complete() {
    let zygote = zygote();
    let reported = run(&zygote, "head -c 20000000 /dev/zero; head -c 3000000 /dev/zero >&2");
    assert_eq!((reported.stdout.len(), reported.stderr.len()), (20_000_000, 3_000_000));
}

#[test]
fn output_read_after_the_exit_is_not_lost() {
    let zygote = zygote();
    let mut spec = shell("head -c 60000 /dev/zero");
    spec.limits.linger = Duration::ZERO;
    let mut child = start(&zygote, &spec);
    // The child has ended before the host reads.
    expect_none(&spec.marker, Duration::from_secs(5));
    assert_eq!(follow(&mut child).stdout.len(), 60_000);
}
