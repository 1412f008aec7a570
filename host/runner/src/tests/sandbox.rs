//! Containment, with real kernels' answers. Where this machine refuses a back end, the tests of it say SKIPPED.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

/// The zygote, and a folder for a test with `work`, `other` and `secret` in it.
struct Scene {
    maker: Maker,
    zygote: Zygote,
    root: tempfile::TempDir,
}

impl Scene {
    /// One for each maker of namespaces that this machine lets make them.
    fn each() -> impl Iterator<Item = Self> {
        let makers = [Maker::Own, Maker::Bwrap].into_iter().filter(|maker| {
            let works = namespaces_work(*maker);
            if !works {
                eprintln!("SKIPPED: {maker:?} makes no namespaces here");
            }
            works
        });
        makers.map(Self::new)
    }

    fn new(maker: Maker) -> Self {
        let root = tempfile::tempdir_in("/var/tmp").unwrap();
        for name in ["work", "other", "secret", "tmp"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        fs::write(root.path().join("other/file"), "other").unwrap();
        fs::write(root.path().join("secret/key"), "the key").unwrap();
        Self { maker, zygote: zygote(), root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().canonicalize().unwrap().join(name)
    }

    fn view(&self) -> View {
        View {
            read_only: true,
            open: vec![open(&self.path("work"), true)],
            hide: vec![self.path("secret")],
            minimal_dev: true,
            ..View::default()
        }
    }

    fn spec(&self, view: View, script: &str) -> SpawnSpec {
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
    fn run(&self, view: View, script: &str) -> Told {
        self.follow(&self.spec(view, script))
    }

    #[track_caller]
    fn follow(&self, spec: &SpawnSpec) -> Told {
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

/// Asked without this module's code, so that a defect of it does not skip its tests.
fn namespaces_work(maker: Maker) -> bool {
    let (program, args): (&str, &[&str]) = match maker {
        Maker::Own => ("unshare", &["-Urmpf", "true"]),
        Maker::Bwrap => ("bwrap", &["--unshare-pid", "--ro-bind", "/", "/", "--proc", "/proc", "true"]),
    };
    std::process::Command::new(program).args(args).status().is_ok_and(|status| status.success())
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap().trim()
}

#[test]
fn contained_child_writes_its_folder_and_nothing_else() {
    for scene in Scene::each() {
        let other = scene.path("other");
        let script = format!(
            "echo a > inside && echo wrote; echo b > {o}/new; cat {o}/file; rm {o}/file; echo c > /etc/ostler-test; \
         ln -s {o} link; echo d > link/new",
            o = other.display()
        );
        let told = scene.run(scene.view(), &script);
        assert_eq!(text(&told.stdout), "wrote\nother", "{}", text(&told.stderr));
        assert!(scene.path("work/inside").exists());
        assert!(other.join("file").exists() && !other.join("new").exists());
        assert!(!Path::new("/etc/ostler-test").exists());
    }
}

#[test]
fn hidden_paths_look_empty_and_open_paths_below_them_stay() {
    for scene in Scene::each() {
        fs::create_dir_all(scene.path("secret/open/deep")).unwrap();
        fs::write(scene.path("secret/open/deep/file"), "visible").unwrap();
        fs::write(scene.path("token"), "the token").unwrap();
        let mut view = scene.view();
        view.hide.push(scene.path("token"));
        view.hide.push(scene.path("missing"));
        view.open.push(open(&scene.path("secret/open/deep"), true));
        let script = format!(
            "cd {r}; ls secret; cat secret/key token; cat secret/open/deep/file; echo x > secret/open/deep/new; \
         echo x > secret/new; echo x > secret/open/new",
            r = scene.path("").display()
        );
        let told = scene.run(view, &script);
        assert_eq!(text(&told.stdout), "open\nvisible", "{}", text(&told.stderr));
        assert!(scene.path("secret/open/deep/new").exists());
        assert!(!scene.path("secret/new").exists() && !scene.path("secret/open/new").exists());
    }
}

#[test]
fn protected_files_of_a_writable_folder_are_read_only() {
    for scene in Scene::each() {
        fs::create_dir_all(scene.path("work/.git/hooks")).unwrap();
        fs::write(scene.path("work/.git/config"), "[core]").unwrap();
        fs::write(scene.path("work/.git/HEAD"), "ref").unwrap();
        let mut view = scene.view();
        view.protect = vec![scene.path("work/.git/hooks"), scene.path("work/.git/config"), scene.path("work/absent")];
        let script = "echo x > .git/hooks/pre-commit; echo x > .git/config; mv .git/hooks .git/h; rm -rf .git/hooks; \
                  mv .git git; mv .git/HEAD .git/H && echo x > .git/HEAD && echo ok";
        let told = scene.run(view, script);
        assert_eq!(text(&told.stdout), "ok", "{}", text(&told.stderr));
        assert_eq!(fs::read_to_string(scene.path("work/.git/config")).unwrap(), "[core]");
        assert_eq!(fs::read_dir(scene.path("work/.git/hooks")).unwrap().count(), 0);
    }
}

#[test]
fn folder_below_a_protected_one_is_read_only_although_it_is_open_or_holds_something_hidden() {
    for scene in Scene::each() {
        fs::create_dir_all(scene.path("work/.vscode/a/b/secret")).unwrap();
        fs::create_dir_all(scene.path("work/.vscode/ext")).unwrap();
        let mut view = scene.view();
        view.protect = vec![scene.path("work/.vscode")];
        view.hide.push(scene.path("work/.vscode/a/b/secret"));
        view.open.push(open(&scene.path("work/.vscode/ext"), true));
        let script = "for folder in . a a/b ext; do echo x > .vscode/$folder/made && echo made $folder; done; echo end";
        let told = scene.run(view, script);
        assert_eq!(text(&told.stdout), "end", "{:?}", scene.maker);
    }
}

#[test]
fn folders_above_a_nested_open_folder_cannot_be_moved_aside() {
    for scene in Scene::each() {
        fs::create_dir_all(scene.path("work/p/q/a/.vscode")).unwrap();
        let mut view = scene.view();
        view.open.push(open(&scene.path("work/p/q/a"), true));
        view.protect = vec![scene.path("work/p/q/a/.vscode")];
        let script = "mv p p2; mv p/q p/q2; mv p/q/a p/q/a2; mkdir -p p/q/a/.vscode; echo x > p/q/a/.vscode/made; \
                      echo x > p/q/a/fine && echo end";
        let told = scene.run(view, script);
        assert_eq!(text(&told.stdout), "end", "{:?}: {}", scene.maker, text(&told.stderr));
        assert!(!scene.path("work/p/q/a/.vscode/made").exists(), "{:?}", scene.maker);
    }
}

/// The `bwrap` among the processes below a keeper.
fn monitor_below(root: i32) -> Option<i32> {
    containment::descendants(&[root], &|_| false).iter().find(|found| found.name == "bwrap").map(|found| found.pid)
}

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
fn run_whose_bwrap_is_killed_has_ended_and_leaves_nothing() {
    for scene in Scene::each().filter(|scene| scene.maker == Maker::Bwrap) {
        let mut child = start(&scene.zygote, &scene.spec(scene.view(), "echo up; sleep 300"));
        lines(&mut child, 1);
        let keeper = child.identity().keeper_pid;
        let below = containment::descendants(&[keeper], &|_| false);
        kill_hard(monitor_below(keeper).unwrap());
        let told = follow(&mut child);
        assert_eq!(told.status(), ExitStatus::Signal(9));
        for process in below {
            let now = linux::process(process.pid).filter(|now| now.start_ticks == process.start_ticks && now.alive);
            assert!(now.is_none(), "still alive: {now:?}");
        }
    }
}

#[test]
fn start_whose_bwrap_is_killed_fails_soon_and_leaves_nothing() {
    for scene in Scene::each().filter(|scene| scene.maker == Maker::Bwrap) {
        // Many mounts, so that there is time.
        let mut view = scene.view();
        for number in 0..300 {
            let path = scene.path(&format!("secret-{number}"));
            fs::create_dir(&path).unwrap();
            view.hide.push(path);
        }
        let spec = scene.spec(view, "true");
        let zygote = pid_of(&scene.zygote);
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
                if let Ok(mut child) = scene.zygote.prepare(&spec).and_then(Prepared::start) {
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
fn private_temporary_folder_replaces_the_system_s() {
    for scene in Scene::each() {
        let marker = tempfile::NamedTempFile::new_in("/tmp").unwrap();
        let below_tmp = tempfile::tempdir_in("/tmp").unwrap();
        let work = below_tmp.path().canonicalize().unwrap();
        let mut view = scene.view();
        view.tmp = Some(scene.path("tmp"));
        view.open.push(open(&work, true));
        let script = format!(
            "ls -A /tmp; echo x > /tmp/own; ls /var/tmp; test -e {} || echo gone; echo y > {}/file",
            marker.path().display(),
            work.display()
        );
        let told = scene.run(view, &script);
        let name = work.file_name().unwrap().to_str().unwrap();
        assert!(text(&told.stdout).lines().any(|line| line == name), "{}", text(&told.stdout));
        assert!(text(&told.stdout).ends_with("gone"), "{} {}", text(&told.stdout), text(&told.stderr));
        assert!(scene.path("tmp/own").exists() && work.join("file").exists());
    }
}

#[test]
fn folder_that_was_replaced_after_the_check_refuses_the_start() {
    for scene in Scene::each() {
        let checked = FileIdentity::of(fs::File::open(scene.path("work")).unwrap()).unwrap();
        fs::rename(scene.path("work"), scene.path("moved")).unwrap();
        symlink(scene.path("other"), scene.path("work")).unwrap();
        let mut contained = scene.spec(scene.view(), "touch made");
        contained.cwd_identity = Some(checked);
        if let Some(namespaces) = &mut contained.sandbox.namespaces
            && let Some(view) = &mut namespaces.view
        {
            view.open[0].identity = Some(checked);
        }
        let bare = SpawnSpec { sandbox: Sandbox::default(), ..contained.clone() };
        for spec in [contained, bare] {
            let refused = scene.zygote.prepare(&spec).and_then(Prepared::start);
            let Err(error) = refused else { panic!("it started") };
            assert_eq!(error.kind, SpawnErrorKind::BadCwd, "{error}");
        }
        assert!(!scene.path("other/made").exists());
    }
}

#[test]
fn nothing_of_a_namespace_survives_the_program_the_keeper_or_a_stop() {
    for scene in Scene::each() {
        // Daemons without the marker, in sessions of their own.
        let script = "for i in 1 2 3; do env -i setsid sleep 300 & done; sleep 0.1; echo up; wait";
        let spec = scene.spec(scene.view(), script);
        let prepared = scene.zygote.prepare(&spec).unwrap();
        let mut child = prepared.start().unwrap();
        lines(&mut child, 1);
        let own = i32::try_from(std::process::id()).unwrap();
        let identity = child.identity().clone();
        let below = containment::descendants(&[identity.keeper_pid], &|_| false);
        assert!(below.iter().filter(|process| process.name == "sleep").count() >= 3, "{own}: {below:?}");
        // The keeper alone is killed, with the one signal that it cannot see coming.
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(identity.keeper_pid), nix::sys::signal::Signal::SIGKILL)
            .unwrap();
        let told = follow(&mut child);
        assert!(told.contained.keeper_lost);
        for process in below {
            let now = linux::process(process.pid).filter(|now| now.start_ticks == process.start_ticks && now.alive);
            assert!(now.is_none(), "still alive: {now:?}");
        }

        let told = scene.run(scene.view(), "env -i setsid sleep 300 & echo left");
        assert_eq!(told.status(), ExitStatus::Code(0));
        assert_eq!(told.contained.killed_total, 1, "{:?}", told.contained);
    }
}

#[test]
fn contained_child_sees_its_own_processes_and_not_the_host() {
    for scene in Scene::each() {
        let script = "ls /proc | grep -c '^[0-9]'; cat /proc/$PPID/environ /proc/1/environ; ls -l /proc/1/root/; \
                  kill -9 1; kill -STOP 1; echo alive";
        let told = scene.run(scene.view(), script);
        let out = text(&told.stdout);
        let count: u32 = out.lines().next().unwrap().parse().unwrap();
        assert!(count < 8, "{out}");
        assert!(out.ends_with("alive"), "{out}");
    }
}

#[test]
fn process_one_tells_a_run_nothing_but_its_name() {
    for scene in Scene::each() {
        let script = "cat /proc/1/comm; readlink /proc/1/exe || echo no exe; readlink /proc/1/fd/* || echo no fd; \
                  (exec 3</proc/1/mem) 2>/dev/null || echo no mem; cat /proc/1/environ 2>/dev/null || echo no environ";
        let told = scene.run(scene.view(), script);
        let out: Vec<&str> =
            text(&told.stdout).lines().filter(|line| line.starts_with("no ") || *line == "ostler-init").collect();
        assert_eq!(out, ["ostler-init", "no exe", "no fd", "no mem", "no environ"], "{}", text(&told.stdout));
    }
}

#[test]
fn process_one_that_bwrap_started_is_the_reaper_and_takes_under_a_mebibyte() {
    for scene in Scene::each().filter(|scene| scene.maker == Maker::Bwrap) {
        let mut child = start(&scene.zygote, &scene.spec(scene.view(), "echo up; sleep 300"));
        lines(&mut child, 1);
        let below = containment::descendants(&[child.identity().keeper_pid], &|_| false);
        let first = below.iter().find(|found| found.name == "ostler-init").unwrap();
        let exe = fs::read_link(format!("/proc/{}/exe", first.pid));
        let memory = fs::read_to_string(format!("/proc/{}/smaps_rollup", first.pid));
        child.stop(StopSignal::Terminate, Duration::from_secs(5));
        follow(&mut child);
        let (Ok(exe), Ok(memory)) = (exe, memory) else {
            eprintln!("SKIPPED: only root may look into process 1");
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
    for scene in Scene::each() {
        for (script, status) in [("exit 7", ExitStatus::Code(7)), ("kill -TERM $$", ExitStatus::Signal(15))] {
            let told = scene.run(scene.view(), script);
            assert_eq!(told.status(), status);
            assert!(told.exits[0].usage.peak_rss > 0);
        }
        for (first, name) in [(StopSignal::Interrupt, "INT"), (StopSignal::Terminate, "TERM")] {
            let script = format!("trap 'echo caught; exit 3' {name}; echo up; while :; do sleep 0.02; done");
            let mut child = start(&scene.zygote, &scene.spec(scene.view(), &script));
            lines(&mut child, 1);
            child.stop(first, Duration::from_secs(5));
            let told = follow(&mut child);
            assert_eq!((text(&told.stdout), told.status()), ("caught", ExitStatus::Code(3)), "{name}");
        }
    }
}

#[test]
fn child_without_network_reaches_the_proxy_s_socket_alone() {
    for scene in Scene::each() {
        let mut spec = scene.spec(
        scene.view(),
        "exec 3<>/dev/tcp/127.0.0.1/1080 && head -c 2 <&3; (exec 4<>/dev/tcp/127.0.0.1/22) 2>/dev/null || echo refused",
    );
        spec.executable = "/bin/bash".into();
        if let Some(namespaces) = &mut spec.sandbox.namespaces {
            namespaces.network = Some(Network { proxy_port: 1080, forwards: vec![4000] });
        }
        let mut prepared = scene.zygote.prepare(&spec).unwrap();
        let sockets = prepared.take_sockets();
        assert_eq!(sockets.len(), 2);
        let listener = std::net::TcpListener::from(sockets.into_iter().next().unwrap());
        assert_eq!(listener.local_addr().unwrap().port(), 1080);
        let serve = std::thread::spawn(move || {
            use std::io::Write;
            listener.accept().unwrap().0.write_all(b"hi").unwrap();
        });
        let told = follow(&mut prepared.start().unwrap());
        serve.join().unwrap();
        assert_eq!(text(&told.stdout), "hirefused", "{}", text(&told.stderr));
    }
}

#[test]
fn no_child_has_new_privileges_core_files_or_the_host_s_keyrings() {
    let zygote = zygote();
    let told = run(&zygote, "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status; ulimit -c; cat /proc/$PPID/environ");
    assert_eq!(text(&told.stdout), "NoNewPrivs:\t1\nSeccomp:\t2\n0", "{}", text(&told.stderr));
    for scene in Scene::each() {
        let told = scene.run(scene.view(), "grep -E '^Cap(Eff|Bnd)' /proc/self/status; unshare -Ur true");
        let expected = if nix::unistd::geteuid().is_root() { "00000000000004ff" } else { "0000000000000000" };
        assert!(text(&told.stdout).lines().all(|line| line.ends_with(expected)), "{}", text(&told.stdout));
        assert_ne!(told.status(), ExitStatus::Code(0));
    }
}

#[test]
fn limits_of_resources_hold_for_the_child() {
    let zygote = zygote();
    let limits = ResourceLimits { open_files: Some(33), file_size: Some(1024), ..ResourceLimits::default() };
    let spec = SpawnSpec { sandbox: Sandbox { limits, ..Sandbox::default() }, ..shell("ulimit -n; ulimit -f") };
    let told = follow(&mut start(&zygote, &spec));
    assert_eq!(text(&told.stdout), "33\n2");
}

#[test]
fn landlock_bounds_writes_signals_and_connections_without_namespaces() {
    let scene = Scene::new(Maker::Own);
    let rules = Landlock {
        read: ["/usr", "/lib", "/lib64", "/bin", "/etc", "/dev", "/proc"].map(PathBuf::from).to_vec(),
        write: vec![scene.path("work"), "/dev/null".into()],
        bound_writes: true,
        connect: Some(Vec::new()),
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!(
        "echo a > inside && echo wrote; echo b > {o}/new; cat {o}/file; kill -0 {pid} || echo unreachable; \
         (exec 3<>/dev/tcp/127.0.0.1/{port}) || echo closed",
        o = scene.path("other").display(),
        pid = std::process::id(),
    );
    let mut spec = scene.spec(scene.view(), &script);
    spec.executable = "/bin/bash".into();
    spec.sandbox.namespaces = None;
    spec.sandbox.landlock = Some(rules);
    spec.sandbox.filter = Filter::StrictWithoutSockets;
    let told = follow(&mut start(&scene.zygote, &spec));
    assert_eq!(text(&told.stdout), "wrote\nunreachable\nclosed", "{}", text(&told.stderr));
    assert!(!scene.path("other/new").exists());
}

#[test]
fn setup_that_fails_says_which_step_and_leaves_nothing() {
    for scene in Scene::each() {
        let mut view = scene.view();
        view.open.push(open(&scene.path("absent"), true));
        let spec = scene.spec(view, "true");
        let Err(error) = scene.zygote.prepare(&spec) else { panic!("it started") };
        assert_eq!(error.kind, SpawnErrorKind::SandboxUnavailable);
        assert!(error.message.contains("open") && error.message.contains("absent"), "{error}");
        expect_none(&spec.marker, Duration::from_secs(5));
    }
}
