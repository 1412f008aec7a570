//! Errors before a program runs, and the life of the zygote.

use super::*;

/// The kind of error of a start, repeated while it is transient: a process that another test forks meanwhile has our
/// files open for writing until it executes its program.
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
fn each_start_failure_has_its_kind() {
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
fn invalid_specification_is_rejected() {
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
fn large_arguments_and_environment_reach_the_child() {
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
fn prepared_child_waits_and_matches_its_identity() {
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
fn dead_zygote_is_reported_or_replaced() {
    let program = std::env::current_exe().unwrap();
    let kill_it = |zygote: &Zygote| {
        // The zygote is the parent of a keeper.
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
    // Children that have keepers continue.
    assert_eq!(follow(&mut child).stdout, b"on\n");
    assert_eq!(follow(&mut prepared.start().unwrap()).status(), ExitStatus::Code(0));

    let respawned = zygote().respawn_with(program, vec![SERVE.into()]);
    drop(kill_it(&respawned));
    let deadline = Instant::now() + Duration::from_secs(5);
    while respawned.is_alive() {
        assert!(Instant::now() < deadline);
    }
    assert_eq!(run(&respawned, "echo again").stdout, b"again\n");
}

#[test]
fn fork_with_threads_is_rejected() {
    let thread = std::thread::spawn(std::thread::park);
    assert!(matches!(start_zygote(), Err(RunnerError::Threads(count)) if count >= 2));
    thread.thread().unpark();
    thread.join().unwrap();
}

/// Runs with one thread, like a host at the start of `main`.
pub(super) fn run_forking_host() {
    let zygote = start_zygote().unwrap();
    let reported = run(&zygote, "echo hello; setsid sleep 100 >/dev/null 2>&1 & exit 1");
    assert_eq!((reported.stdout.as_slice(), reported.status()), (&b"hello\n"[..], ExitStatus::Code(1)));
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(run(&zygote, "echo in a thread").stdout, b"in a thread\n"));
    });
    println!("forked");
}

#[test]
fn zygote_forks_before_there_are_threads() {
    let program = std::env::current_exe().unwrap();
    // `output` waits for the end of both streams: the zygote must not keep them open.
    let output = std::process::Command::new(program).arg(FORK).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "forked\n", "{output:?}");
}

#[test]
fn zygote_without_a_host_exits() {
    let mut program = std::process::Command::new(std::env::current_exe().unwrap());
    let output = program.arg(SERVE).stdin(std::process::Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn several_threads_start_children_at_once() {
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

/// Runs in a process of its own, because other tests of the harness open descriptors meanwhile.
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
        drop(zygote.prepare(&terminal::in_terminal("")).unwrap());
        drop(start(&zygote, &terminal::in_terminal("sleep 100")));
        terminal::follow_terminal(&mut start(&zygote, &terminal::in_terminal("echo hello; (setsid sleep 100 &)")));
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
fn starts_leak_no_descriptors() {
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
    // In each round, another of the descriptors that a start needs is missing.
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
fn start_without_free_descriptors_fails_as_transient() {
    let program = std::env::current_exe().unwrap();
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", "ulimit -n 64; exec \"$@\"", "sh"]).arg(program).args(only("start::starving_process"));
    let output = command.output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("starved"), "{output:?}");
}

#[test]
fn stopped_zygote_is_replaced() {
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
