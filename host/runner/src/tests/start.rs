//! What can go wrong before a program runs.

use super::*;

/// What a start fails with. Not transiently: a process that another test forks meanwhile holds our files open for
/// writing until it executes its program.
fn lasting_kind(zygote: &Zygote, spec: &SpawnSpec) -> SpawnErrorKind {
    let kinds = std::iter::repeat_with(|| kind(zygote, spec)).take(1000);
    kinds.into_iter().find(|kind| *kind != SpawnErrorKind::Transient).unwrap()
}

fn kind(zygote: &Zygote, spec: &SpawnSpec) -> SpawnErrorKind {
    let error = zygote.prepare(spec).and_then(Prepared::start).unwrap_err();
    assert!(error.message.starts_with("failed to"), "{error}");
    expect_none(&spec.marker, Duration::ZERO);
    error.kind
}

#[test]
fn failures_have_their_kinds() {
    let zygote = zygote();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let program = |path: PathBuf| SpawnSpec { executable: path, args: Vec::new(), ..shell("") };
    write_file(&at("plain"), "#!/bin/sh\n", 0o644);
    write_file(&at("text"), "echo hello\n", 0o755);
    write_file(&at("orphan"), "#!/no/such/interpreter\n", 0o755);
    write_file(&at("busy"), "", 0o755);
    std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();

    assert_eq!(kind(&zygote, &program("/no/such/program".into())), SpawnErrorKind::NotFound);
    assert_eq!(kind(&zygote, &program(at("dangling"))), SpawnErrorKind::NotFound);
    for name in ["plain", "text", "orphan", ""] {
        assert_eq!(lasting_kind(&zygote, &program(at(name))), SpawnErrorKind::NotExecutable, "{name:?}");
    }
    for cwd in ["/no/such/folder", "/bin/sh"] {
        assert_eq!(kind(&zygote, &SpawnSpec { cwd: cwd.into(), ..shell("") }), SpawnErrorKind::BadCwd);
    }
    let writer = std::fs::OpenOptions::new().write(true).open(at("busy")).unwrap();
    assert_eq!(kind(&zygote, &program(at("busy"))), SpawnErrorKind::Transient);
    drop(writer);
    let long = SpawnSpec { args: vec!["x".repeat(200 * 1024).into()], ..shell("") };
    assert_eq!(kind(&zygote, &long), SpawnErrorKind::TooLarge);
    let huge = SpawnSpec { args: vec!["x".repeat(100 * 1024).into(); 200], ..shell("") };
    assert_eq!(kind(&zygote, &huge), SpawnErrorKind::TooLarge);
    // And it still works.
    assert_eq!(run(&zygote, "echo fine").stdout, b"fine\n");
}

#[test]
fn wrong_specifications_are_refused() {
    let zygote = zygote();
    for spec in [
        SpawnSpec { executable: "sh".into(), ..shell("") },
        SpawnSpec { cwd: "tmp".into(), ..shell("") },
        SpawnSpec { marker: String::new(), ..shell("") },
        SpawnSpec { args: vec!["a\0b".into()], ..shell("") },
        SpawnSpec { environment: vec![("A=B".into(), "".into())], ..shell("") },
        SpawnSpec { environment: vec![("".into(), "".into())], ..shell("") },
        SpawnSpec { environment: vec![("A".into(), "\0".into())], ..shell("") },
    ] {
        assert_eq!(zygote.prepare(&spec).unwrap_err().kind, SpawnErrorKind::Invalid, "{spec:?}");
    }
}

#[test]
fn large_arguments_and_environments_arrive() {
    let zygote = zygote();
    let mut spec = shell("shift; echo $#; env | wc -c");
    spec.args.push("sh".into());
    spec.args.extend(vec![OsString::from("x".repeat(100 * 1024)); 4]);
    spec.environment.extend((0..4).map(|i| (format!("BIG{i}").into(), "y".repeat(100 * 1024).into())));
    let text = String::from_utf8(follow(&mut start(&zygote, &spec)).stdout).unwrap();
    let (count, size) = text.split_once('\n').unwrap();
    assert_eq!(count, "3");
    assert!(size.trim().parse::<usize>().unwrap() > 400 * 1024);
}

#[test]
fn a_prepared_child_waits_and_can_be_recognized() {
    let zygote = zygote();
    let dir = tempfile::tempdir().unwrap();
    let spec = SpawnSpec { cwd: dir.path().to_owned(), ..shell("touch ran") };
    let prepared = zygote.prepare(&spec).unwrap();
    let identity = prepared.identity().clone();
    assert_eq!((identity.marker.as_str(), identity.boot_id.as_str()), (spec.marker.as_str(), linux::boot_id()));
    let child = linux::process(identity.pid).unwrap();
    assert_eq!((child.start_ticks, child.parent), (identity.start_ticks, identity.keeper_pid));
    let text = serde_json::to_string(&identity).unwrap();
    assert_eq!(serde_json::from_str::<ProcessIdentity>(&text).unwrap(), identity);
    drop(prepared);
    assert!(linux::process(identity.pid).is_none_or(|process| !process.alive));
    assert!(!dir.path().join("ran").exists());
    let mut child = start(&zygote, &spec);
    follow(&mut child);
    assert!(dir.path().join("ran").exists());
}

#[test]
fn a_dead_zygote_is_told_or_replaced() {
    let program = std::env::current_exe().unwrap();
    let kill_it = |zygote: &Zygote| {
        // Its only trace outside: the parent of a keeper.
        let prepared = zygote.prepare(&shell("")).unwrap();
        let process = linux::process(prepared.identity().keeper_pid).unwrap().parent;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(process), nix::sys::signal::Signal::SIGKILL).unwrap();
        prepared
    };
    let plain = zygote();
    assert!(plain.is_alive());
    let mut child = start(&plain, &shell("read x; echo on"));
    let prepared = kill_it(&plain);
    while plain.is_alive() {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(plain.prepare(&shell("")).unwrap_err().kind, SpawnErrorKind::ZygoteGone);
    // Those that have keepers go on.
    assert_eq!(follow(&mut child).stdout, b"on\n");
    assert_eq!(follow(&mut prepared.start().unwrap()).status(), ExitStatus::Code(0));

    let tended = zygote().respawn_with(program, vec![SERVE.into()]);
    drop(kill_it(&tended));
    let deadline = Instant::now() + Duration::from_secs(5);
    while tended.is_alive() {
        assert!(Instant::now() < deadline);
    }
    assert_eq!(run(&tended, "echo again").stdout, b"again\n");
}

#[test]
fn a_fork_with_threads_is_refused() {
    let thread = std::thread::spawn(std::thread::park);
    assert!(matches!(start_zygote(), Err(RunnerError::Threads(count)) if count >= 2));
    thread.thread().unpark();
    thread.join().unwrap();
}

/// Has one thread, as a host at the start of `main` has.
pub(super) fn be_a_forking_host() {
    let zygote = start_zygote().unwrap();
    let told = run(&zygote, "echo hello; setsid sleep 100 >/dev/null 2>&1 & exit 1");
    assert_eq!((told.stdout.as_slice(), told.status()), (&b"hello\n"[..], ExitStatus::Code(1)));
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(run(&zygote, "echo in a thread").stdout, b"in a thread\n"));
    });
    println!("forked");
}

#[test]
fn a_zygote_can_be_forked_before_there_are_threads() {
    let program = std::env::current_exe().unwrap();
    // All output is read to its end: the zygote must hold none of it open.
    let output = std::process::Command::new(program).arg(FORK).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "forked\n", "{output:?}");
}

#[test]
fn a_zygote_without_a_host_ends() {
    let mut program = std::process::Command::new(std::env::current_exe().unwrap());
    let output = program.arg(SERVE).stdin(std::process::Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn many_threads_may_start_children() {
    let zygote = zygote();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let zygote = &zygote;
            scope.spawn(move || {
                for _ in 0..10 {
                    assert_eq!(run(zygote, &format!("echo {number}")).stdout, format!("{number}\n").as_bytes());
                }
            });
        }
    });
}

/// Children that the test harness itself runs meanwhile open descriptors, too: so in a process of its own.
#[test]
#[ignore = "not a test: the process whose descriptors are counted"]
fn counting_process() {
    let count = |pid: i32| std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let zygote = zygote();
    let own = std::process::id() as i32;
    let round = || {
        run(&zygote, "echo hello; (setsid sleep 100 &)");
        let prepared = zygote.prepare(&shell("")).unwrap();
        let parent = linux::process(prepared.identity().keeper_pid).unwrap().parent;
        drop(prepared);
        drop(start(&zygote, &shell("sleep 100")));
        kind(&zygote, &SpawnSpec { executable: "/no/such/program".into(), ..shell("") });
        kind(&zygote, &SpawnSpec { cwd: "/no/such/folder".into(), ..shell("") });
        parent
    };
    let helper = round();
    let before = (count(own), count(helper));
    for _ in 0..20 {
        round();
    }
    assert_eq!((count(own), count(helper)), before);
    println!("counted");
}

#[test]
fn no_descriptor_leaks() {
    let program = std::env::current_exe().unwrap();
    let output = std::process::Command::new(program).args(only("start::counting_process")).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("counted"), "{output:?}");
}

#[test]
#[ignore = "not a test: the process that runs out of descriptors"]
fn starving_process() {
    let zygote = zygote();
    if nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap().0 > 64 {
        return;
    }
    let mut held: Vec<std::fs::File> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    // Each of the descriptors that a start needs is the one that is missing.
    for spare in 0..8 {
        let error = zygote.prepare(&shell("")).and_then(Prepared::start).unwrap_err();
        assert_eq!(error.kind, SpawnErrorKind::Transient, "{error} with {spare} to spare");
        held.pop();
    }
    drop(held);
    assert_eq!(run(&zygote, "echo fed").stdout, b"fed\n");
    println!("starved");
}

#[test]
fn want_of_descriptors_passes() {
    let program = std::env::current_exe().unwrap();
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", "ulimit -n 64; exec \"$@\"", "sh"]).arg(program).args(only("start::starving_process"));
    let output = command.output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("starved"), "{output:?}");
}

#[test]
fn zygote_that_somebody_stopped_is_replaced() {
    use nix::sys::signal::{Signal, kill};
    let program = std::env::current_exe().unwrap();
    let zygote = Zygote::launch(&program, &[SERVE.into()]).unwrap().respawn_with(program, vec![SERVE.into()]);
    let child = start(&zygote, &shell("sleep 60"));
    let keeper = child.identity().keeper_pid;
    let stopped = linux::process(keeper).unwrap().parent;
    drop(child);
    kill(nix::unistd::Pid::from_raw(stopped), Signal::SIGSTOP).unwrap();
    let Err(error) = zygote.prepare(&shell("true")) else { panic!("a stopped zygote made a keeper") };
    assert!(error.is_transient(), "{error}");
    assert_eq!(run(&zygote, "echo again").stdout, b"again\n");
}
