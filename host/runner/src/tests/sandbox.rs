//! Containment, against the real kernel. If this machine refuses a back end, its tests print SKIPPED.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

/// The zygote, and a folder for a test with `work`, `other` and `secret` in it.
pub(super) struct Fixture {
    pub(super) maker: Maker,
    pub(super) zygote: Zygote,
    root: tempfile::TempDir,
}

impl Fixture {
    /// One fixture for each maker of namespaces that works on this machine.
    pub(super) fn each() -> impl Iterator<Item = Self> {
        let makers = [Maker::Own, Maker::Bwrap].into_iter().filter(|maker| {
            let works = namespaces_work(*maker);
            if !works {
                eprintln!("SKIPPED: {maker:?} makes no namespaces here");
            }
            works
        });
        makers.map(Self::new)
    }

    pub(super) fn new(maker: Maker) -> Self {
        let root = tempfile::tempdir_in("/var/tmp").unwrap();
        for name in ["work", "other", "secret", "tmp"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        fs::write(root.path().join("other/file"), "other").unwrap();
        fs::write(root.path().join("secret/key"), "the key").unwrap();
        Self { maker, zygote: zygote(), root }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.path().canonicalize().unwrap().join(name)
    }

    pub(super) fn view(&self) -> View {
        View {
            read_only: true,
            open: vec![open(&self.path("work"), true)],
            hide: vec![self.path("secret")],
            minimal_dev: true,
            ..View::default()
        }
    }

    pub(super) fn spec(&self, view: View, script: &str) -> SpawnSpec {
        SpawnSpec {
            cwd: self.path("work"),
            sandbox: Sandbox {
                namespaces: Some(Namespaces { maker: self.maker, view: Some(view), network: None }),
                filter: Filter::Strict,
                ..Sandbox::default()
            },
            ..shell(script)
        }
    }

    /// Runs a script in namespaces.
    #[track_caller]
    fn run(&self, view: View, script: &str) -> Reported {
        self.follow(&self.spec(view, script))
    }

    #[track_caller]
    fn follow(&self, spec: &SpawnSpec) -> Reported {
        let mut child = self.zygote.prepare(spec).and_then(Prepared::start).unwrap_or_else(|error| panic!("{error}"));
        follow(&mut child)
    }
}

/// The namespaces of an ordinary run, with a few hidden and protected paths, for measurements.
pub(super) fn workspace(maker: Maker, network: bool) -> Sandbox {
    let home = PathBuf::from("/root");
    let hide = [".ssh", ".gnupg", ".aws", ".kube", ".docker", ".netrc"].map(|name| home.join(name));
    let view = View {
        read_only: true,
        open: vec![open(&std::env::current_dir().unwrap(), true)],
        hide: hide.into_iter().chain(["/var/log".into(), "/etc/shadow".into()]).collect(),
        tmp: Some("/var/tmp".into()),
        minimal_dev: true,
        ..View::default()
    };
    let network = network.then(|| Network { proxy_port: 1080, forwards: Vec::new() });
    Sandbox {
        namespaces: Some(Namespaces { maker, view: Some(view), network }),
        landlock: Some(Landlock {
            write: vec!["/tmp".into(), "/dev".into()],
            bound_writes: true,
            ..Landlock::default()
        }),
        filter: Filter::Strict,
        ..Sandbox::default()
    }
}

/// Landlock and seccomp alone, for measurements.
pub(super) fn landlock() -> Sandbox {
    let read = ["/usr", "/lib", "/lib64", "/bin", "/etc", "/dev", "/proc"].map(PathBuf::from).to_vec();
    let write = vec![std::env::current_dir().unwrap(), "/dev".into()];
    let rules = Landlock { read, write, bound_writes: true, connect: Some(vec![1080]) };
    Sandbox { landlock: Some(rules), filter: Filter::StrictWithoutSockets, ..Sandbox::default() }
}

fn open(path: &Path, write: bool) -> OpenPath {
    OpenPath { path: path.to_owned(), write, identity: None, required: true }
}

/// Does not use the code under test, so that a defect there does not skip its tests.
fn namespaces_work(maker: Maker) -> bool {
    let (program, args): (&str, &[&str]) = match maker {
        Maker::Own => ("unshare", &["-Urmpf", "true"]),
        Maker::Bwrap => ("bwrap", &["--unshare-pid", "--ro-bind", "/", "/", "--proc", "/proc", "true"]),
    };
    std::process::Command::new(program).args(args).status().is_ok_and(|status| status.success())
}

pub(super) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap().trim()
}

#[test]
fn contained_child_writes_only_its_folder() {
    for fixture in Fixture::each() {
        let other = fixture.path("other");
        let script = format!(
            "echo a > inside && echo wrote; echo b > {o}/new; cat {o}/file; rm {o}/file; echo c > /etc/ostler-test; \
         ln -s {o} link; echo d > link/new",
            o = other.display()
        );
        let reported = fixture.run(fixture.view(), &script);
        assert_eq!(text(&reported.stdout), "wrote\nother", "{}", text(&reported.stderr));
        assert!(fixture.path("work/inside").exists());
        assert!(other.join("file").exists() && !other.join("new").exists());
        assert!(!Path::new("/etc/ostler-test").exists());
    }
}

#[test]
fn hidden_paths_look_empty_and_open_paths_below_them_stay() {
    for fixture in Fixture::each() {
        fs::create_dir_all(fixture.path("secret/open/deep")).unwrap();
        fs::write(fixture.path("secret/open/deep/file"), "visible").unwrap();
        fs::write(fixture.path("token"), "the token").unwrap();
        let mut view = fixture.view();
        view.hide.push(fixture.path("token"));
        view.hide.push(fixture.path("missing"));
        view.open.push(open(&fixture.path("secret/open/deep"), true));
        let script = format!(
            "cd {r}; ls secret; cat secret/key token; cat secret/open/deep/file; echo x > secret/open/deep/new; \
         echo x > secret/new; echo x > secret/open/new",
            r = fixture.path("").display()
        );
        let reported = fixture.run(view, &script);
        assert_eq!(text(&reported.stdout), "open\nvisible", "{}", text(&reported.stderr));
        assert!(fixture.path("secret/open/deep/new").exists());
        assert!(!fixture.path("secret/new").exists() && !fixture.path("secret/open/new").exists());
    }
}

#[test]
fn protected_files_of_a_writable_folder_are_read_only() {
    for fixture in Fixture::each() {
        fs::create_dir_all(fixture.path("work/.git/hooks")).unwrap();
        fs::write(fixture.path("work/.git/config"), "[core]").unwrap();
        fs::write(fixture.path("work/.git/HEAD"), "ref").unwrap();
        let mut view = fixture.view();
        view.protect =
            vec![fixture.path("work/.git/hooks"), fixture.path("work/.git/config"), fixture.path("work/absent")];
        let script = "echo x > .git/hooks/pre-commit; echo x > .git/config; mv .git/hooks .git/h; rm -rf .git/hooks; \
                  mv .git git; mv .git/HEAD .git/H && echo x > .git/HEAD && echo ok";
        let reported = fixture.run(view, script);
        assert_eq!(text(&reported.stdout), "ok", "{}", text(&reported.stderr));
        assert_eq!(fs::read_to_string(fixture.path("work/.git/config")).unwrap(), "[core]");
        assert_eq!(fs::read_dir(fixture.path("work/.git/hooks")).unwrap().count(), 0);
    }
}

#[test]
fn open_folder_below_a_protected_one_is_read_only() {
    for fixture in Fixture::each() {
        fs::create_dir_all(fixture.path("work/.vscode/a/b/secret")).unwrap();
        fs::create_dir_all(fixture.path("work/.vscode/ext")).unwrap();
        let mut view = fixture.view();
        view.protect = vec![fixture.path("work/.vscode")];
        view.hide.push(fixture.path("work/.vscode/a/b/secret"));
        view.open.push(open(&fixture.path("work/.vscode/ext"), true));
        let script = "for folder in . a a/b ext; do echo x > .vscode/$folder/made && echo made $folder; done; echo end";
        let reported = fixture.run(view, script);
        assert_eq!(text(&reported.stdout), "end", "{:?}", fixture.maker);
    }
}

#[test]
fn folders_above_a_nested_open_folder_cannot_be_renamed() {
    for fixture in Fixture::each() {
        fs::create_dir_all(fixture.path("work/p/q/a/.vscode")).unwrap();
        let mut view = fixture.view();
        view.open.push(open(&fixture.path("work/p/q/a"), true));
        view.protect = vec![fixture.path("work/p/q/a/.vscode")];
        let script = "mv p p2; mv p/q p/q2; mv p/q/a p/q/a2; mkdir -p p/q/a/.vscode; echo x > p/q/a/.vscode/made; \
                      echo x > p/q/a/fine && echo end";
        let reported = fixture.run(view, script);
        assert_eq!(text(&reported.stdout), "end", "{:?}: {}", fixture.maker, text(&reported.stderr));
        assert!(!fixture.path("work/p/q/a/.vscode/made").exists(), "{:?}", fixture.maker);
    }
}

/// The `bwrap` among the processes below a keeper.
fn monitor_below(root: i32) -> Option<i32> {
    containment::descendants(&[root], &|_| false).iter().find(|found| found.name == "bwrap").map(|found| found.pid)
}

/// The process id of a zygote: the parent of a keeper.
fn pid_of(zygote: &Zygote) -> i32 {
    let mut child = start(zygote, &SpawnSpec { stdin: Stdin::Open, ..shell("read line") });
    let keeper = child.identity().keeper_pid;
    let parent = linux::process(keeper).unwrap().parent;
    child.close_stdin();
    follow(&mut child);
    parent
}

fn kill_hard(pid: i32) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
}

#[test]
fn killed_bwrap_ends_the_run_and_its_processes() {
    for fixture in Fixture::each().filter(|fixture| fixture.maker == Maker::Bwrap) {
        let mut child = start(&fixture.zygote, &fixture.spec(fixture.view(), "echo up; sleep 300"));
        lines(&mut child, 1);
        let keeper = child.identity().keeper_pid;
        let below = containment::descendants(&[keeper], &|_| false);
        kill_hard(monitor_below(keeper).unwrap());
        let reported = follow(&mut child);
        assert_eq!(reported.status(), ExitStatus::Signal(9));
        for process in below {
            let now = linux::process(process.pid).filter(|now| now.start_ticks == process.start_ticks && now.alive);
            assert!(now.is_none(), "still alive: {now:?}");
        }
    }
}

#[test]
fn bwrap_killed_during_a_start_leaves_no_process() {
    for fixture in Fixture::each().filter(|fixture| fixture.maker == Maker::Bwrap) {
        // Many mounts, so that the start takes long enough.
        let mut view = fixture.view();
        for number in 0..300 {
            let path = fixture.path(&format!("secret-{number}"));
            fs::create_dir(&path).unwrap();
            view.hide.push(path);
        }
        let spec = fixture.spec(view, "true");
        let zygote = pid_of(&fixture.zygote);
        for _ in 0..5 {
            let begun = Instant::now();
            let ended = std::sync::atomic::AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !ended.load(Ordering::Relaxed) {
                        if let Some(monitor) = monitor_below(zygote) {
                            kill_hard(monitor);
                            break;
                        }
                    }
                });
                if let Ok(mut child) = fixture.zygote.prepare(&spec).and_then(Prepared::start) {
                    follow(&mut child);
                }
                ended.store(true, Ordering::Relaxed);
            });
            assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
        }
        let left = || containment::descendants(&[zygote], &|_| false);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !left().is_empty() {
            assert!(Instant::now() < deadline, "left: {:?}", left());
            std::thread::yield_now();
        }
    }
}

#[test]
fn private_temporary_folder_replaces_the_shared_one() {
    for fixture in Fixture::each() {
        let marker = tempfile::NamedTempFile::new_in("/tmp").unwrap();
        let below_tmp = tempfile::tempdir_in("/tmp").unwrap();
        let work = below_tmp.path().canonicalize().unwrap();
        let mut view = fixture.view();
        view.tmp = Some(fixture.path("tmp"));
        view.open.push(open(&work, true));
        let script = format!(
            "ls -A /tmp; echo x > /tmp/own; ls /var/tmp; test -e {} || echo gone; echo y > {}/file",
            marker.path().display(),
            work.display()
        );
        let reported = fixture.run(view, &script);
        let name = work.file_name().unwrap().to_str().unwrap();
        assert!(text(&reported.stdout).lines().any(|line| line == name), "{}", text(&reported.stdout));
        assert!(text(&reported.stdout).ends_with("gone"), "{} {}", text(&reported.stdout), text(&reported.stderr));
        assert!(fixture.path("tmp/own").exists() && work.join("file").exists());
    }
}

#[test]
fn start_fails_if_a_checked_folder_was_replaced() {
    for fixture in Fixture::each() {
        let checked = FileIdentity::of(fs::File::open(fixture.path("work")).unwrap()).unwrap();
        fs::rename(fixture.path("work"), fixture.path("moved")).unwrap();
        symlink(fixture.path("other"), fixture.path("work")).unwrap();
        let mut contained = fixture.spec(fixture.view(), "touch made");
        contained.cwd_identity = Some(checked);
        if let Some(namespaces) = &mut contained.sandbox.namespaces
            && let Some(view) = &mut namespaces.view
        {
            view.open[0].identity = Some(checked);
        }
        let bare = SpawnSpec { sandbox: Sandbox::default(), ..contained.clone() };
        for spec in [contained, bare] {
            let refused = fixture.zygote.prepare(&spec).and_then(Prepared::start);
            let Err(error) = refused else { panic!("it started") };
            assert_eq!(error.kind, SpawnErrorKind::BadCwd, "{error}");
        }
        assert!(!fixture.path("other/made").exists());
    }
}

#[test]
fn no_process_of_a_namespace_survives_its_program_or_keeper() {
    for fixture in Fixture::each() {
        // Daemons without the marker, in sessions of their own.
        let script = "for i in 1 2 3; do env -i setsid sleep 300 & done; sleep 0.1; echo up; wait";
        let spec = fixture.spec(fixture.view(), script);
        let prepared = fixture.zygote.prepare(&spec).unwrap();
        let mut child = prepared.start().unwrap();
        lines(&mut child, 1);
        let own = i32::try_from(std::process::id()).unwrap();
        let identity = child.identity().clone();
        let below = containment::descendants(&[identity.keeper_pid], &|_| false);
        assert!(below.iter().filter(|process| process.name == "sleep").count() >= 3, "{own}: {below:?}");
        // The keeper alone is killed, with SIGKILL.
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(identity.keeper_pid), nix::sys::signal::Signal::SIGKILL)
            .unwrap();
        let reported = follow(&mut child);
        assert!(reported.contained.keeper_lost);
        for process in below {
            let now = linux::process(process.pid).filter(|now| now.start_ticks == process.start_ticks && now.alive);
            assert!(now.is_none(), "still alive: {now:?}");
        }

        let reported = fixture.run(fixture.view(), "env -i setsid sleep 300 & echo left");
        assert_eq!(reported.status(), ExitStatus::Code(0));
        assert_eq!(reported.contained.killed_total, 1, "{:?}", reported.contained);
    }
}

#[test]
fn contained_child_sees_its_own_processes_and_not_the_host() {
    for fixture in Fixture::each() {
        let script = "ls /proc | grep -c '^[0-9]'; cat /proc/$PPID/environ /proc/1/environ; ls -l /proc/1/root/; \
                  kill -9 1; kill -STOP 1; echo alive";
        let reported = fixture.run(fixture.view(), script);
        let out = text(&reported.stdout);
        let count: u32 = out.lines().next().unwrap().parse().unwrap();
        assert!(count < 8, "{out}");
        assert!(out.ends_with("alive"), "{out}");
    }
}

#[test]
fn process_one_exposes_only_its_name_to_a_run() {
    for fixture in Fixture::each() {
        let script = "cat /proc/1/comm; readlink /proc/1/exe || echo no exe; readlink /proc/1/fd/* || echo no fd; \
                  (exec 3</proc/1/mem) 2>/dev/null || echo no mem; cat /proc/1/environ 2>/dev/null || echo no environ";
        let reported = fixture.run(fixture.view(), script);
        let out: Vec<&str> =
            text(&reported.stdout).lines().filter(|line| line.starts_with("no ") || *line == "ostler-init").collect();
        assert_eq!(out, ["ostler-init", "no exe", "no fd", "no mem", "no environ"], "{}", text(&reported.stdout));
    }
}

#[test]
fn process_one_that_bwrap_started_is_the_reaper_and_takes_under_a_mebibyte() {
    for fixture in Fixture::each().filter(|fixture| fixture.maker == Maker::Bwrap) {
        let mut child = start(&fixture.zygote, &fixture.spec(fixture.view(), "echo up; sleep 300"));
        lines(&mut child, 1);
        let below = containment::descendants(&[child.identity().keeper_pid], &|_| false);
        let first = below.iter().find(|found| found.name == "ostler-init").unwrap();
        let exe = fs::read_link(format!("/proc/{}/exe", first.pid));
        let memory = fs::read_to_string(format!("/proc/{}/smaps_rollup", first.pid));
        child.stop(StopSignal::Terminate, Duration::from_secs(5));
        follow(&mut child);
        let (Ok(exe), Ok(memory)) = (exe, memory) else {
            eprintln!("SKIPPED: only root may inspect process 1");
            return;
        };
        assert_eq!(exe, Path::new("/memfd:ostler-reaper (deleted)"));
        let private = memory
            .lines()
            .filter(|line| line.starts_with("Private_"))
            .map(|line| line.split_ascii_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok()).unwrap());
        assert!(private.sum::<u64>() < 1024, "{memory}");
    }
}

#[test]
fn signals_exit_codes_and_usage_reach_the_host_through_process_one() {
    for fixture in Fixture::each() {
        for (script, status) in [("exit 7", ExitStatus::Code(7)), ("kill -TERM $$", ExitStatus::Signal(15))] {
            let reported = fixture.run(fixture.view(), script);
            assert_eq!(reported.status(), status);
            assert!(reported.exits[0].usage.peak_rss > 0);
        }
        for (first, name) in [(StopSignal::Interrupt, "INT"), (StopSignal::Terminate, "TERM")] {
            let script = format!("trap 'echo caught; exit 3' {name}; echo up; while :; do sleep 0.02; done");
            let mut child = start(&fixture.zygote, &fixture.spec(fixture.view(), &script));
            lines(&mut child, 1);
            child.stop(first, Duration::from_secs(5));
            let reported = follow(&mut child);
            assert_eq!((text(&reported.stdout), reported.status()), ("caught", ExitStatus::Code(3)), "{name}");
        }
    }
}

#[test]
fn child_without_network_reaches_only_the_proxy() {
    for fixture in Fixture::each() {
        let mut spec = fixture.spec(
        fixture.view(),
        "exec 3<>/dev/tcp/127.0.0.1/1080 && head -c 2 <&3; (exec 4<>/dev/tcp/127.0.0.1/22) 2>/dev/null || echo refused",
    );
        spec.executable = "/bin/bash".into();
        if let Some(namespaces) = &mut spec.sandbox.namespaces {
            namespaces.network = Some(Network { proxy_port: 1080, forwards: vec![4000] });
        }
        let mut prepared = fixture.zygote.prepare(&spec).unwrap();
        let sockets = prepared.take_sockets();
        assert_eq!(sockets.len(), 2);
        let listener = std::net::TcpListener::from(sockets.into_iter().next().unwrap());
        assert_eq!(listener.local_addr().unwrap().port(), 1080);
        let serve = std::thread::spawn(move || {
            use std::io::Write;
            listener.accept().unwrap().0.write_all(b"hi").unwrap();
        });
        let reported = follow(&mut prepared.start().unwrap());
        serve.join().unwrap();
        assert_eq!(text(&reported.stdout), "hirefused", "{}", text(&reported.stderr));
    }
}

#[test]
fn no_child_has_new_privileges_core_files_or_the_host_s_keyrings() {
    let zygote = zygote();
    let reported = run(&zygote, "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status; ulimit -c; cat /proc/$PPID/environ");
    assert_eq!(text(&reported.stdout), "NoNewPrivs:\t1\nSeccomp:\t2\n0", "{}", text(&reported.stderr));
    for fixture in Fixture::each() {
        let reported = fixture.run(fixture.view(), "grep -E '^Cap(Eff|Bnd)' /proc/self/status; unshare -Ur true");
        let expected = if nix::unistd::geteuid().is_root() { "00000000000004ff" } else { "0000000000000000" };
        assert!(text(&reported.stdout).lines().all(|line| line.ends_with(expected)), "{}", text(&reported.stdout));
        assert_ne!(reported.status(), ExitStatus::Code(0));
    }
}

#[test]
fn resource_limits_apply_to_the_child() {
    let zygote = zygote();
    let limits = ResourceLimits { open_files: Some(33), file_size: Some(1024), ..ResourceLimits::default() };
    let spec = SpawnSpec { sandbox: Sandbox { limits, ..Sandbox::default() }, ..shell("ulimit -n; ulimit -f") };
    let reported = follow(&mut start(&zygote, &spec));
    assert_eq!(text(&reported.stdout), "33\n2");
}

#[test]
fn landlock_bounds_writes_signals_and_connections_without_namespaces() {
    let fixture = Fixture::new(Maker::Own);
    let rules = Landlock {
        read: ["/usr", "/lib", "/lib64", "/bin", "/etc", "/dev", "/proc"].map(PathBuf::from).to_vec(),
        write: vec![fixture.path("work"), "/dev/null".into()],
        bound_writes: true,
        connect: Some(Vec::new()),
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!(
        "echo a > inside && echo wrote; echo b > {o}/new; cat {o}/file; kill -0 {pid} || echo unreachable; \
         (exec 3<>/dev/tcp/127.0.0.1/{port}) || echo closed",
        o = fixture.path("other").display(),
        pid = std::process::id(),
    );
    let mut spec = fixture.spec(fixture.view(), &script);
    spec.executable = "/bin/bash".into();
    spec.sandbox.namespaces = None;
    spec.sandbox.landlock = Some(rules);
    spec.sandbox.filter = Filter::StrictWithoutSockets;
    let reported = follow(&mut start(&fixture.zygote, &spec));
    assert_eq!(text(&reported.stdout), "wrote\nunreachable\nclosed", "{}", text(&reported.stderr));
    assert!(!fixture.path("other/new").exists());
}

#[test]
fn failed_setup_names_the_step_and_leaves_no_process() {
    for fixture in Fixture::each() {
        let mut view = fixture.view();
        view.open.push(open(&fixture.path("absent"), true));
        let spec = fixture.spec(view, "true");
        let Err(error) = fixture.zygote.prepare(&spec) else { panic!("it started") };
        assert_eq!(error.kind, SpawnErrorKind::SandboxUnavailable);
        assert!(error.message.contains("open") && error.message.contains("absent"), "{error}");
        expect_none(&spec.marker, Duration::from_secs(5));
    }
}
