//! Probes, shims and preludes, as a child sees them.

use std::collections::BTreeMap;

use super::*;

fn probe(script: &str) -> ProbeSpec {
    let SpawnSpec { executable, args, environment, cwd, marker, sandbox, .. } = shell(script);
    ProbeSpec { executable, args, environment, cwd, marker, timeout: Duration::from_secs(5), max_output: 100, sandbox }
}

#[test]
fn probe_returns_status_and_output() {
    let zygote = zygote();
    let outcome = run_probe(&zygote, &probe("echo 1.2.3; echo warning >&2; cat; exit 2"));
    let finished = |stdout: &[u8], stderr: &[u8], truncated| ProbeOutcome::Finished {
        status: ExitStatus::Code(2),
        stdout: stdout.to_vec(),
        stderr: stderr.to_vec(),
        truncated,
    };
    assert_eq!(outcome, finished(b"1.2.3\n", b"warning\n", false));
    let outcome = run_probe(&zygote, &probe("head -c 1000000 /dev/zero; exit 2"));
    assert_eq!(outcome, finished(&[0; 100], b"", true));
    let absent = ProbeSpec { executable: "/no/such".into(), ..probe("") };
    assert_eq!(run_probe(&zygote, &absent), ProbeOutcome::NotFound);
    let folder = ProbeSpec { executable: "/".into(), ..probe("") };
    assert!(matches!(run_probe(&zygote, &folder), ProbeOutcome::Failed(_)));
}

#[test]
fn hanging_probe_times_out_and_leaves_no_process() {
    let zygote = zygote();
    let mut spec = probe("trap '' TERM INT; echo begun; setsid sleep 100 & cat /dev/zero >/dev/null");
    spec.timeout = Duration::from_millis(300);
    let outcome = run_probe(&zygote, &spec);
    assert_eq!(outcome, ProbeOutcome::TimedOut { stdout: b"begun\n".to_vec(), stderr: Vec::new() });
    expect_none(&spec.marker, Duration::ZERO);
}

fn entry(name: &str, path: &str) -> ShimEntry {
    ShimEntry { name: name.to_owned(), path: path.into(), ..ShimEntry::default() }
}

/// Runs a script whose whole `PATH` is the shims' folder, with the prelude's variables.
fn run_with(zygote: &Zygote, shims: &Shims, variables: &[(OsString, OsString)], program: &[&str]) -> String {
    let mut spec = shell("");
    spec.executable = program[0].into();
    spec.args = program[1..].iter().map(OsString::from).collect();
    spec.environment = vec![("PATH".into(), shims.dir().into()), ("HOME".into(), "/nonexistent".into())];
    spec.environment.extend(variables.iter().cloned());
    String::from_utf8(follow(&mut start(zygote, &spec)).stdout).unwrap()
}

#[test]
fn child_finds_only_the_shims_by_name() {
    let zygote = zygote();
    let parent = tempfile::tempdir().unwrap();
    let private = PrivateDir::create(parent.path(), "it's one").unwrap();
    let mut say = entry("say", "/bin/echo");
    say.args = vec!["it's".to_owned(), "$HOME `x`".to_owned()];
    let mut show = entry("show", "/bin/sh");
    show.args = vec!["-c".to_owned(), "echo \"$V\" \"$@\"".to_owned(), "sh".to_owned()];
    show.env = BTreeMap::from([("V".to_owned(), "a 'b' \"c\" $d".to_owned())]);
    let mut allowlist = CliAllowlist { entries: vec![say, show], ..CliAllowlist::default() };
    let script = "say 'two  words' '' x; show 'y z'; ls 2>/dev/null || echo none; ostler-tools show w 2>/dev/null";

    let shims = plan_shims(&allowlist).unwrap().write(&private).unwrap();
    assert_eq!(shims.names(), ["say", "show"]);
    let expected = "it's $HOME `x` two  words  x\na 'b' \"c\" $d y z\nnone\n";
    assert_eq!(run_with(&zygote, &shims, &[], &["/bin/sh", "-c", script]), expected);

    allowlist.mode = ShimMode::Wrapper;
    let private = PrivateDir::create(parent.path(), "two").unwrap();
    let shims = plan_shims(&allowlist).unwrap().write(&private).unwrap();
    let script =
        "ostler-tools say x ''; ostler-tools show w; ostler-tools; ostler-tools ls; echo $?; say x || echo none";
    let text = run_with(&zygote, &shims, &[], &["/bin/sh", "-c", script]);
    let usage = "usage: ostler-tools PROGRAM [ARGUMENT...]; allowed programs: say show\n";
    assert_eq!(text, format!("it's $HOME `x` x \na 'b' \"c\" $d w\n{usage}127\nnone\n"));
}

#[test]
fn login_shell_keeps_the_path_of_the_allowlist() {
    let zygote = zygote();
    let parent = tempfile::tempdir().unwrap();
    let private = PrivateDir::create(parent.path(), "run").unwrap();
    let allowlist = CliAllowlist { entries: vec![entry("say", "/bin/echo")], ..CliAllowlist::default() };
    let plan = plan_shims(&allowlist).unwrap();
    let prelude = ShellPrelude { content: "HELLO=there; PATH=/bin".to_owned(), bash_env: true, sh_env: false };
    let prelude = plan_prelude(Some(&prelude), Some(&plan.dir(&private))).unwrap();
    let shims = plan.write(&private).unwrap();
    let variables = prelude.write(&private).unwrap();
    assert_eq!(prelude.variables().collect::<Vec<_>>(), ["BASH_ENV", "ENV", "ZDOTDIR"]);
    for flags in ["-c", "-lc"] {
        let text = run_with(&zygote, &shims, &variables, &["/bin/bash", flags, "say $HELLO; ls / || say none"]);
        assert_eq!(text, "there\nnone\n", "{flags}");
    }
}

#[test]
fn prelude_without_allowlist_leaves_the_path_alone() {
    let parent = tempfile::tempdir().unwrap();
    let private = PrivateDir::create(parent.path(), "run").unwrap();
    let prelude = ShellPrelude { content: "x=1".to_owned(), bash_env: true, sh_env: false };
    let variables = plan_prelude(Some(&prelude), None).unwrap().write(&private).unwrap();
    let script = private.path().join("shell/bash").into_os_string();
    let zsh = private.path().join("shell").into_os_string();
    assert_eq!(variables, [("BASH_ENV".into(), script), ("ZDOTDIR".into(), zsh), ("SHLVL".into(), "1".into())]);
    assert_eq!(std::fs::read_to_string(private.path().join("shell/bash")).unwrap(), "x=1\n");
    assert!(plan_prelude(None, None).unwrap().is_empty());
    let useless = ShellPrelude { content: "\0".to_owned(), bash_env: false, sh_env: false };
    assert_eq!(plan_prelude(Some(&useless), None).unwrap_err().len(), 2);
}

/// zsh reads other files than bash, and the user's own file may name another folder.
#[test]
fn zsh_runs_the_prelude_and_the_user_s_files() {
    if !Path::new("/usr/bin/zsh").exists() {
        eprintln!("SKIPPED: zsh is not installed");
        return;
    }
    let parent = tempfile::tempdir().unwrap();
    let home = parent.path().join("home");
    std::fs::create_dir_all(home.join("elsewhere")).unwrap();
    std::fs::write(home.join(".zshenv"), "ZDOTDIR=$HOME/elsewhere\nOWN=env\n").unwrap();
    std::fs::write(home.join("elsewhere/.zprofile"), "OWN=$OWN-profile\nPATH=/of-the-profile\n").unwrap();
    let content = "HELLO=there; PATH=/first:$PATH; greet() { echo hi; }".to_owned();
    let prelude = ShellPrelude { content, bash_env: true, sh_env: false };
    let ask = |fixed: Option<&Path>, name: &str, args: &[&str]| {
        let private = PrivateDir::create(parent.path(), name).unwrap();
        let variables = plan_prelude(Some(&prelude), fixed).unwrap().write(&private).unwrap();
        let mut command = std::process::Command::new("/usr/bin/zsh");
        command.args(args).env_clear().env("HOME", &home).env("PATH", "/usr/bin").envs(variables);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let say = "greet; echo $HELLO $OWN $PATH; ";
    assert_eq!(ask(None, "one", &["-c", say]), "hi\nthere env /first:/usr/bin\n");
    assert_eq!(ask(None, "two", &["-lc", say]), "hi\nthere env-profile /first:/of-the-profile\n");
    // A nested shell runs the prelude, too; and the allowlist's PATH wins.
    let nested = format!("/usr/bin/zsh -c '{say}'");
    let twice = "hi\nthere env /first:/first:/usr/bin\n";
    assert_eq!(ask(None, "three", &["-c", &nested]), twice);
    for (name, flags) in [("four", "-c"), ("five", "-lc")] {
        let output = ask(Some(Path::new("/fixed")), name, &[flags, say]);
        assert!(output.starts_with("hi\nthere env") && output.ends_with(" /fixed\n"), "{output}");
    }
}

/// Node.js and Bun give their children sockets, and bash then checks whether a remote-shell daemon started it.
#[test]
fn shell_whose_input_is_a_socket_runs_the_prelude() {
    let parent = tempfile::tempdir().unwrap();
    let private = PrivateDir::create(parent.path(), "run").unwrap();
    let prelude = ShellPrelude { content: "HELLO=there".to_owned(), bash_env: true, sh_env: false };
    let variables = plan_prelude(Some(&prelude), None).unwrap().write(&private).unwrap();
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut command = std::process::Command::new("/bin/bash");
    command.args(["-c", "echo \"$HELLO\""]).env_clear().envs(variables).stdin(std::os::fd::OwnedFd::from(theirs));
    let output = command.output().unwrap();
    drop(ours);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "there\n");
}

#[test]
fn all_problems_of_an_allowlist_are_reported_at_once() {
    let mut bad = entry("../x", "relative");
    bad.args = vec!["\0".to_owned()];
    bad.env = BTreeMap::from([("A=/".to_owned(), "\0".to_owned())]);
    let twice = entry("ok", "/bin/../sh");
    let allowlist = CliAllowlist {
        entries: vec![bad, twice.clone(), ShimEntry { path: "/bin/sh".into(), ..twice }],
        mode: ShimMode::Shims,
        wrapper_name: Some("w".to_owned()),
        bin_dir: Some("/a:b".into()),
        keep_bin_dir: true,
    };
    let pointers: Vec<String> =
        plan_shims(&allowlist).unwrap_err().into_iter().map(|problem| problem.pointer).collect();
    let expected = [
        "/entries/0/name",
        "/entries/0/path",
        "/entries/0/args/0",
        "/entries/0/env/A=~1",
        "/entries/0/env/A=~1",
        "/entries/1/path",
        "/entries/2/name",
        "/wrapperName",
        "/binDir",
    ];
    assert_eq!(pointers, expected);
    assert_eq!(plan_shims(&CliAllowlist { keep_bin_dir: true, ..CliAllowlist::default() }).unwrap_err().len(), 2);
}

#[test]
fn missing_programs_are_reported() {
    let entries = vec![entry("sh", "/bin/sh"), entry("gone", "/no/such"), entry("folder", "/tmp")];
    let plan = plan_shims(&CliAllowlist { entries, ..CliAllowlist::default() }).unwrap();
    let pointers: Vec<String> = plan.missing_programs().into_iter().map(|problem| problem.pointer).collect();
    assert_eq!(pointers, ["/entries/1/path", "/entries/2/path"]);
}

#[test]
fn bin_dir_is_cleaned_or_kept() {
    let parent = tempfile::tempdir().unwrap();
    let bin = parent.path().join("work/bin");
    let mut allowlist = CliAllowlist {
        entries: vec![entry("a", "/bin/sh"), entry("b", "/bin/sh")],
        bin_dir: Some(bin.clone()),
        ..CliAllowlist::default()
    };
    let write = |allowlist: &CliAllowlist, name: &str| {
        let private = PrivateDir::create(&parent.path().join("private"), name).unwrap();
        let shims = plan_shims(allowlist).unwrap().write(&private);
        (private, shims)
    };
    // Our files are removed, and no others.
    let (_private, shims) = write(&allowlist, "1");
    assert_eq!(plan_shims(&allowlist).unwrap().dir(&_private), bin);
    std::fs::write(bin.join("b"), "the user's own now").unwrap();
    drop(shims);
    assert!(!bin.join("a").exists() && bin.join("b").exists());
    // An existing file stays, and no partly written shims are left.
    let (_private, shims) = write(&allowlist, "2");
    assert!(matches!(shims, Err(ShimError::Write { path, .. }) if path == bin.join("b")));
    assert!(!bin.join("a").exists() && bin.join("b").exists());
    std::fs::remove_dir_all(&bin).unwrap();
    // A host that died: the sweep finds them.
    let (private, shims) = write(&allowlist, "3");
    std::mem::forget((private, shims));
    assert!(bin.join("a").exists());
    assert!(sweep(&parent.path().join("private"), |_| false).failed.is_empty());
    assert!(!bin.exists());
    // Kept with `keep_bin_dir`.
    allowlist.keep_bin_dir = true;
    drop(write(&allowlist, "4"));
    assert!(bin.join("a").exists() && bin.join("b").exists());
}
