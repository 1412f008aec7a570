//! What a contained run can reach: tested from inside, for each mode and back end, and with the real CLIs.

use crate::support::escape::{BACK_ENDS, EscapeScript, is_contained_by};
use crate::support::guests::hostile::{self, Fault, ProviderStage};
use crate::support::{Process, TIMEOUT, TestHost, end_of, of_type, tool_outputs, wait_until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

/// Runs a script as the agent of a run, and gives its events.
#[track_caller]
fn agent(host: &TestHost, permissions: &Value, script: &str) -> Vec<Value> {
    host.file("script.sh", script);
    let payload = json!({ "harness": { "permissions": permissions } });
    let run = host.submit("RUN sh ./script.sh", &payload).unwrap_or_else(|error| panic!("{}", error.text()));
    host.wait_for_end(&run)
}

fn sandbox(events: &[Value]) -> &Value {
    &of_type(events, "run.started")[0]["payload"]["sandbox"]
}

#[test]
fn every_escape_fails_in_every_contained_mode_and_back_end() {
    for backend in BACK_ENDS {
        let host = TestHost::outside_of_temporary_folders(&format!("[sandbox]\nbackends = [\"{backend}\"]\n"));
        host.ensure_running();
        if !is_contained_by(&host, backend) {
            continue;
        }
        for mode in ["read-only", "workspace-write"] {
            let escape_script = EscapeScript::prepare(&host, "rehearsal", backend != "landlock");
            let events = agent(&host, &json!({ "sandboxMode": mode }), &escape_script.text());
            let record = sandbox(&events);
            assert_eq!((record["backend"].as_str(), record["egress"].as_str()), (Some(backend), Some("allow-list")));
            escape_script.assert_contained(&host, &tool_outputs(&events), mode, &format!("{backend}, {mode}"));
        }
    }
}

#[test]
fn full_access_hides_files_of_the_host() {
    let host = TestHost::granted("");
    host.ensure_running();
    if !is_contained_by(&host, "namespaces") {
        return;
    }
    let outside = host.root().join("outside");
    let script = format!(
        "for file in config.toml data/seal.key data/code.key data/ostler.db; do grep -q . {home}/$file 2>/dev/null && echo read; done; \
         ls {home}/data; echo x > {outside} && echo wrote; pwd",
        home = host.home().display(),
        outside = outside.display()
    );
    host.configure("# nobody's business\n");
    let output = tool_outputs(&agent(&host, &json!({ "sandboxMode": "full-access" }), &script));
    assert!(!output.contains("read") && !output.contains("seal.key"), "{output}");
    assert!(output.contains("wrote") && outside.exists(), "{output}");
}

#[test]
fn run_without_a_mode_gets_the_configured_mode() {
    let host = TestHost::outside_of_temporary_folders("");
    host.ensure_running();
    if !is_contained_by(&host, "namespaces") {
        return;
    }
    let outside = host.root().join("outside");
    let script = format!("echo x > inside && echo fine; echo x > {}", outside.display());
    let events = agent(&host, &json!({}), &script);
    assert!(tool_outputs(&events).contains("fine"));
    assert_eq!(sandbox(&events)["mode"], "workspace-write");
    assert!(!outside.exists());
    let run = of_type(&events, "run.started")[0]["runId"].as_str().unwrap();
    assert_eq!(host.record(run)["sandbox"]["backend"], "namespaces");
}

#[test]
fn without_back_ends_requested_modes_are_refused_and_others_warn() {
    let host = TestHost::granted("[sandbox]\nbackends = []\n");
    let asked = json!({ "harness": { "permissions": { "sandboxMode": "read-only" } } });
    let error = host.submit("SAY never", &asked).unwrap_err();
    assert_eq!(error.kind(), "UNENFORCEABLE");
    assert!(error.text().contains("user namespaces"), "{}", error.text());
    let run = host.submit("SAY fine", &json!({})).unwrap();
    let events = host.wait_for_end(&run);
    assert_eq!(end_of(&events).unwrap()["type"], "run.completed");
    let warning = of_type(&events, "run.compatibility_warning");
    assert!(warning[0]["payload"]["reason"].as_str().unwrap().contains("not contained"), "{warning:?}");
    assert!(sandbox(&events)["backend"].is_null());

    let host = TestHost::granted("[sandbox]\nbackends = []\nrequire = true\n");
    assert_eq!(host.submit("SAY never", &json!({})).unwrap_err().kind(), "UNENFORCEABLE");
}

#[test]
fn git_and_local_servers_work_inside_the_sandbox() {
    let host = TestHost::granted("");
    host.ensure_running();
    if !is_contained_by(&host, "namespaces") {
        return;
    }
    // A commit in a linked worktree, whose repository is outside the folder of the run.
    let main = host.root().join("main");
    let tree = host.work().join("tree");
    let git = |folder: &Path, args: &[&str]| {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"];
        let mut command = host.program("git");
        command.current_dir(folder).args(identity).args(args).env("HOME", host.user());
        host.finish(command)
    };
    fs::create_dir(&main).unwrap();
    git(&main, &["init", "-q"]).ok();
    git(&main, &["commit", "-q", "--allow-empty", "-m", "first"]).ok();
    git(&main, &["worktree", "add", "-q", tree.to_str().unwrap()]).ok();
    let script = "git -c user.name=a -c user.email=a@example.com commit -q --allow-empty -m second && \
                  git log --format=%s; git config core.hooksPath /tmp || echo configuration held; \
                  echo x > $(git rev-parse --git-common-dir)/hooks/pre-commit || echo hooks held";
    host.file("tree/script.sh", script);
    let payload = json!({ "cwd": tree, "harness": {} });
    let run = host.submit("RUN sh ./script.sh", &payload).unwrap();
    let output = tool_outputs(&host.wait_for_end(&run));
    for part in ["second\nfirst", "configuration held", "hooks held"] {
        assert!(output.contains(part), "{part}: {output}");
    }

    // A local server that the run starts, and a private temporary folder.
    let script = "python3 - <<'END'\nimport http.server, threading, urllib.request\n\
                  server = http.server.HTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)\n\
                  threading.Thread(target=server.serve_forever, daemon=True).start()\n\
                  print(urllib.request.urlopen('http://127.0.0.1:%d/' % server.server_port).status)\nEND\n\
                  echo $TMPDIR; mktemp >/dev/null && echo made";
    let output = tool_outputs(&agent(&host, &json!({}), script));
    assert!(output.contains("200") && output.contains("/tmp") && output.contains("made"), "{output}");
    assert_eq!(
        fs::read_dir(host.work())
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with('.'))
            .count(),
        0,
        "placeholder files were left behind"
    );
}

#[test]
fn payload_cannot_reveal_hidden_files() {
    let host = TestHost::granted("[policy]\nmcp_commands = \"always\"\n");
    host.ensure_running();
    if !is_contained_by(&host, "namespaces") {
        return;
    }
    let secret = host.user().join(".ssh/id");
    fs::create_dir_all(secret.parent().unwrap()).unwrap();
    fs::write(&secret, "PLANTED-SECRET").unwrap();
    let args = json!([secret, host.user().join(".ssh"), host.user(), host.home().join("config.toml"), "/tmp", "/"]);
    let servers = json!([{ "name": "a", "command": "/bin/true", "args": args }]);
    host.file("script.sh", format!("cat {}; ls {}; echo done", secret.display(), host.user().join(".ssh").display()));
    let payload = json!({ "harness": { "mcp": { "servers": servers } } });
    let run = host.submit("RUN sh ./script.sh", &payload).unwrap_or_else(|error| panic!("{}", error.text()));
    let output = tool_outputs(&host.wait_for_end(&run));
    assert!(output.contains("done") && !output.contains("PLANTED") && !output.contains("id\n"), "{output}");
}

#[test]
fn npm_and_cargo_work_inside_the_sandbox() {
    let host = TestHost::granted("");
    host.ensure_running();
    if !is_contained_by(&host, "namespaces") {
        return;
    }
    let output_of = |program: &str, args: &[&str]| {
        let output =
            std::process::Command::new(program).args(args).output().ok().filter(|output| output.status.success());
        output.map(|output| String::from_utf8(output.stdout).unwrap().trim().to_owned())
    };
    if output_of("npm", &["--version"]).is_some() {
        host.file("package.json", r#"{"name": "x", "version": "1.0.0", "scripts": {"test": "node test.js"}}"#);
        host.file("test.js", "require('fs').writeFileSync('tested', ''); console.log('the tests pass')");
        let output = tool_outputs(&agent(&host, &json!({}), "npm test 2>&1"));
        assert!(output.contains("the tests pass") && host.work().join("tested").exists(), "{output}");
    } else {
        crate::support::print_skipped("there is no npm");
    }
    // The toolchain itself: the proxy of rustup needs the home folder of the user.
    let Some(toolchain) = output_of("rustc", &["--print", "sysroot"]) else {
        crate::support::print_skipped("there is no rustc");
        return;
    };
    fs::create_dir_all(host.work().join("crate/src")).unwrap();
    host.file("crate/Cargo.toml", "[package]\nname = \"small\"\nversion = \"0.1.0\"\n[workspace]\n");
    host.file("crate/src/main.rs", "fn main() { println!(\"it was built\"); }");
    let script = format!("PATH={toolchain}/bin:$PATH cargo run --offline -q --manifest-path crate/Cargo.toml 2>&1");
    let output = tool_outputs(&agent(&host, &json!({}), &script));
    assert!(output.contains("it was built"), "{output}");
}

#[test]
fn allowed_loopback_port_is_forwarded_and_refused_hosts_are_reported() {
    let host = TestHost::granted("");
    host.ensure_running();
    if !is_contained_by(&host, "namespaces") {
        return;
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = [0; 1024];
        let _ = stream.read(&mut bytes);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nfine").unwrap();
    });
    let script = format!(
        "python3 - <<'END'\nimport urllib.error, urllib.request\n\
         for url in ['http://127.0.0.1:{port}/', 'http://model.invalid/', 'https://gateway.invalid/']:\n    \
         try: print(urllib.request.urlopen(url, timeout=10).read().decode())\n    \
         except urllib.error.HTTPError as error: print(error.read().decode())\n    \
         except OSError as error: print('closed', error)\nEND"
    );
    let permissions = json!({ "allowHosts": [format!("127.0.0.1:{port}")] });
    let events = agent(&host, &permissions, &script);
    serve.join().unwrap();
    let output = tool_outputs(&events);
    assert!(output.contains("fine") && output.contains("allowHosts") && output.contains("closed"), "{output}");
    let refused: Vec<&Value> =
        of_type(&events, "run.network").into_iter().filter(|event| event["payload"]["verdict"] == "refused").collect();
    assert!(refused.iter().any(|event| event["payload"]["host"] == "gateway.invalid"), "{refused:?}");
    let warnings = crate::support::warning_codes(&events);
    assert!(warnings.contains(&"NETWORK_REFUSED"), "{warnings:?}");
}

#[test]
fn folder_that_is_swapped_after_the_check_is_not_entered() {
    // Without a sandbox, only the check keeps the run in its folder.
    let host = TestHost::granted("[sandbox]\nbackends = []\n");
    let (work, outside) = (host.work(), host.root().join("outside"));
    fs::create_dir(&outside).unwrap();
    let run = host.submit("SLOW 3", &json!({})).unwrap();
    let waiting = host.submit("RUN pwd; touch marker", &json!({})).unwrap();
    host.wait_for_count("ready", 1);
    fs::rename(&work, host.root().join("moved")).unwrap();
    symlink(&outside, &work).unwrap();
    host.wait_for_end(&run);
    let events = host.wait_for_end(&waiting);
    assert_eq!(end_of(&events).unwrap()["type"], "run.failed", "{events:#?}");
    assert!(!outside.join("marker").exists());
}

/// The folder can always change between the check and the start.
#[test]
fn run_never_leaves_a_folder_that_is_exchanged_repeatedly() {
    // Without a sandbox, only the check keeps the run in its folder.
    let program = "executable = \"sh\"\nsettings = { args = [\"-c\", \"touch marker\"] }\n";
    let config = format!("[sandbox]\nbackends = []\n[providers.mark]\nplugin = \"command\"\n{program}");
    let host = TestHost::granted(&config);
    host.ensure_running();
    let (inside, outside, link) = (host.work().join("inside"), host.root().join("outside"), host.work().join("link"));
    fs::create_dir(&inside).unwrap();
    fs::create_dir(&outside).unwrap();
    symlink(&outside, &link).unwrap();
    let (stop, stopped) = mpsc::channel::<()>();
    let started = std::thread::scope(|scope| {
        let (one, other) = (&inside, &link);
        scope.spawn(move || {
            use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
            // Often enough for an exchange between any two steps of the host.
            while stopped.recv_timeout(Duration::from_millis(3)) == Err(mpsc::RecvTimeoutError::Timeout) {
                renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE).unwrap();
            }
        });
        let mut started = 0;
        for _ in 0..300 {
            // Refused whenever the path is the link.
            let Ok(run) = host.submit("x", &json!({ "provider": "mark", "cwd": inside })) else { continue };
            wait_until("the end of the run", TIMEOUT, || {
                let status = host.record(&run)["status"].as_str().unwrap().to_owned();
                ["completed", "failed"].contains(&status.as_str()).then_some(())
            });
            started += of_type(&host.run_events(&run), "run.started").len();
            if started >= 15 || outside.join("marker").exists() {
                break;
            }
        }
        drop(stop);
        started
    });
    assert!(!outside.join("marker").exists(), "a run worked outside the granted folder");
    assert!(started > 0, "no run was started, so that the test shows nothing");
}

#[test]
fn additional_folder_swapped_during_a_run_gives_no_other_access() {
    for backend in BACK_ENDS {
        let host = TestHost::granted(&format!("[sandbox]\nbackends = [\"{backend}\"]\n"));
        host.ensure_running();
        if !is_contained_by(&host, backend) {
            continue;
        }
        let (more, moved, outside) = (host.root().join("more"), host.root().join("moved"), host.root().join("outside"));
        fs::create_dir(&more).unwrap();
        fs::create_dir(&outside).unwrap();
        host.run(&["grants", "add", more.to_str().unwrap()]).ok();
        let script = "echo x > ../more/before; touch begun; until [ -e go ]; do sleep 0.02; done; \
                      echo x > ../more/after; echo over";
        host.file("script.sh", script);
        let harness = json!({ "additionalDirectories": [more], "permissions": { "sandboxMode": "workspace-write" } });
        let run = host.submit("RUN sh ./script.sh", &json!({ "harness": harness })).unwrap();
        wait_until("the script", TIMEOUT, || host.work().join("begun").exists().then_some(()));
        fs::rename(&more, &moved).unwrap();
        symlink(&outside, &more).unwrap();
        host.file("go", "");
        let output = tool_outputs(&host.wait_for_end(&run));
        assert!(output.contains("over") && moved.join("before").exists(), "{backend}: {output}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{backend}: {output}");
    }
}

#[test]
fn providers_of_every_kind_are_contained_alike() {
    for backend in BACK_ENDS {
        let host = TestHost::outside_of_temporary_folders(&format!(
            "[plugins]\ntrust = \"folder\"\n[sandbox]\nbackends = [\"{backend}\"]\n\
             [providers.shell]\nplugin = \"command\"\nexecutable = \"sh\"\nsettings = {{ args = [\"script\"] }}\n"
        ));
        host.stop();
        // This plugin claims no feature, and runs the same script.
        let foreign = hostile::provider("foreign", ProviderStage::Begin, Fault::Trap);
        fs::write(host.home().join("plugins/foreign.wasm"), foreign).unwrap();
        host.ensure_running();
        if !is_contained_by(&host, backend) {
            continue;
        }
        let (outside, secret) = (host.root().join("outside"), host.user().join(".ssh/id"));
        fs::create_dir_all(secret.parent().unwrap()).unwrap();
        fs::write(&secret, "PLANTED-SECRET").unwrap();
        host.file(
            "script",
            format!(
                "echo x > inside && echo wrote; echo x > {}; cat {}; echo over",
                outside.display(),
                secret.display()
            ),
        );
        for provider in ["shell", "foreign"] {
            for (mode, may_write) in [("read-only", false), ("workspace-write", true)] {
                let _ = fs::remove_file(host.work().join("inside"));
                let harness = json!({ "permissions": { "sandboxMode": mode } });
                let run = host.submit("hello", &json!({ "provider": provider, "harness": harness })).unwrap();
                let events = host.wait_for_end(&run);
                let chunks = of_type(&events, "run.chunk.stdout").into_iter();
                let output: String = chunks.map(|event| event["payload"]["text"].as_str().unwrap()).collect();
                let about = format!("{backend}, {provider}, {mode}: {output}");
                assert_eq!(sandbox(&events)["backend"], backend, "{about}");
                assert!(output.contains("over") && !output.contains("PLANTED"), "{about}");
                assert_eq!(output.contains("wrote"), may_write, "{about}");
                assert!(!outside.exists(), "{about}");
            }
        }
    }
}

#[test]
fn protected_file_created_by_a_run_gets_a_warning() {
    let host = TestHost::granted("");
    host.ensure_running();
    if !is_contained_by(&host, "namespaces") {
        return;
    }
    let events = agent(
        &host,
        &json!({}),
        "echo '{}' > .mcp.json; mkdir .claude 2>/dev/null; echo x > .claude/settings.json || echo held",
    );
    assert!(tool_outputs(&events).contains("held"));
    assert!(crate::support::warning_codes(&events).contains(&"PROTECTED_FILE_MADE"));
    assert!(host.work().join(".mcp.json").exists() && !host.work().join(".claude").exists());
}

/// The process below the host that runs `sleep` with this argument, in its own session and without its environment.
fn daemon(host_pid: i32, seconds: &str) -> Option<Process> {
    let line = format!("sleep\0{seconds}\0");
    crate::support::below(host_pid)
        .into_iter()
        .find(|process| fs::read(format!("/proc/{}/cmdline", process.pid)).is_ok_and(|found| found == line.as_bytes()))
}

/// Waits until this process has ended.
#[track_caller]
fn gone(process: &Process, seconds: &str) {
    let line = format!("sleep\0{seconds}\0");
    wait_until("the daemon is gone", TIMEOUT, || {
        let found = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
        (found != line.as_bytes()).then_some(())
    });
}

fn of_name(host_pid: i32, name: &str) -> Vec<Process> {
    crate::support::below(host_pid).into_iter().filter(|process| process.command == name).collect()
}

#[test]
fn killed_keeper_and_zygote_leave_no_process() {
    for backend in ["namespaces", "bwrap"] {
        let host = TestHost::granted(&format!("[sandbox]\nbackends = [\"{backend}\"]\n"));
        let host_pid = host.ensure_running();
        if !is_contained_by(&host, backend) {
            continue;
        }
        // Its parent ends at once, so that only the namespace can end it.
        let run = host.submit("RUN (env -i setsid sleep 4321 &); sleep 300", &json!({})).unwrap();
        let left = wait_until("the daemon runs", TIMEOUT, || daemon(host_pid, "4321"));
        for process in of_name(host_pid, "ostler-keeper").into_iter().chain(of_name(host_pid, "ostler-zygote")) {
            crate::support::signal(process.pid, Signal::SIGKILL);
        }
        gone(&left, "4321");
        host.wait_for_end(&run);
        assert_eq!(host.run(&["run", "rehearsal", "SAY again"]).ok().stdout, "again\n");
    }
}

#[test]
fn stopped_zygote_blocks_no_run_and_leaves_no_process() {
    for (config, prompt) in [
        ("", "RUN (env -i setsid sleep 4322 &); sleep 300"),
        // Without a namespace, only the descendants of the program are found.
        ("[sandbox]\nbackends = []\n", "RUN env -i setsid sleep 4322 & sleep 300"),
    ] {
        let host = TestHost::granted(config);
        let host_pid = host.ensure_running();
        if config.is_empty() && !is_contained_by(&host, "namespaces") {
            continue;
        }
        let run = host.submit(prompt, &json!({})).unwrap();
        let left = wait_until("the daemon runs", TIMEOUT, || daemon(host_pid, "4322"));
        for process in of_name(host_pid, "ostler-zygote") {
            crate::support::signal(process.pid, Signal::SIGSTOP);
        }
        for process in of_name(host_pid, "ostler-keeper") {
            crate::support::signal(process.pid, Signal::SIGKILL);
        }
        gone(&left, "4322");
        host.wait_for_end(&run);
        // The first run after the stop may need a retry.
        let noticed = host.run(&["run", "--retries", "1", "rehearsal", "SAY on"]).ok();
        assert_eq!(noticed.stdout, "on\n", "{config}");
        assert_eq!(host.run(&["run", "rehearsal", "SAY again"]).ok().stdout, "again\n", "{config}");
    }
}

#[test]
fn environment_of_the_host_is_invisible_to_runs() {
    let configurations = ["", "[sandbox]\nbackends = [\"landlock\"]\n", "[sandbox]\nbackends = []\n"];
    for config in configurations {
        let mut host = TestHost::with_config(config);
        let environment = |process: i32| fs::read(format!("/proc/{process}/environ"));
        let root = nix::unistd::geteuid().is_root();
        if root {
            // An uncontained run of root can read everything, so that this test needs an ordinary user.
            host.run_as_user(54_324);
        }
        // The first command starts the host, which inherits the variable. Later commands do not have it.
        host.set("PRIVATE_NOTE", "nobody's business");
        host.run(&["grants", "add", host.work().to_str().unwrap()]).ok();
        let host_pid = host.ensure_running();
        host.unset("PRIVATE_NOTE");
        if root {
            let found = environment(host_pid).unwrap();
            assert!(
                String::from_utf8_lossy(&found).contains("nobody's business"),
                "the host does not have the variable"
            );
        } else {
            assert!(environment(host_pid).is_err(), "another process of the user can read the environment");
        }
        let script = format!(
            "for process in {host_pid} $PPID $(ls /proc | grep '^[0-9]'); do cat /proc/$process/environ; done 2>/dev/null | \
             tr '\\0' '\\n'; echo end"
        );
        for permissions in [json!({}), json!({ "sandboxMode": "full-access" })] {
            let output = tool_outputs(&agent(&host, &permissions, &script));
            assert!(output.contains("end") && !output.contains("nobody's business"), "{config}{permissions}: {output}");
        }
        let mode = fs::metadata(host.home().join("data")).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700);
    }
}

#[test]
fn kernel_keyrings_are_unreachable_for_runs() {
    for config in ["", "[sandbox]\nbackends = []\n"] {
        let host = TestHost::granted(config);
        host.ensure_running();
        // keyctl(KEYCTL_GET_PERSISTENT, -1, KEY_SPEC_PROCESS_KEYRING)
        let script = "python3 -c 'import ctypes, os\nnumber = {\"x86_64\": 250, \"aarch64\": 219}[os.uname().machine]\n\
                      print(\"reached\" if ctypes.CDLL(None).syscall(number, 22, -1, -2) > 0 else \"refused\")'";
        for permissions in [json!({}), json!({ "sandboxMode": "full-access" })] {
            let output = tool_outputs(&agent(&host, &permissions, script));
            assert_eq!(output.trim(), "refused", "{config}{permissions}");
        }
    }
}

/// The mounts, processes, namespaces and files of a run are removed, however it ends.
#[test]
fn ended_runs_leave_no_mounts_processes_or_files() {
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let entries = |folder: &Path| {
        let found = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut found: Vec<String> = found.collect();
        found.sort();
        found
    };
    for backend in BACK_ENDS {
        let host = TestHost::granted(&format!(
            "[sandbox]\nbackends = [\"{backend}\"]\nhide = [\"~/none\", \"/none\", \"$NONE/x\"]\n"
        ));
        let host_pid = host.ensure_running();
        if !is_contained_by(&host, backend) {
            continue;
        }
        let submit = |prompt: &str, more: Value| host.submit(prompt, &more).unwrap();
        host.wait_for_end(&submit("SAY first", json!({})));
        let (work, private) = (entries(&host.work()), host.home().join("data/private"));
        let (before, kept) = (mounts(), entries(&private));
        host.wait_for_end(&submit("RUN exit 3", json!({})));
        host.wait_for_end(&submit("RUN mkdir -p $TMPDIR/a/b; env -i setsid sleep 300 &", json!({})));
        host.wait_for_end(&submit("SLOW 600", json!({ "timeoutSeconds": 5 })));
        let cancelled = submit("RUN touch begun; sleep 300", json!({}));
        wait_until("the script", TIMEOUT, || host.work().join("begun").exists().then_some(()));
        fs::remove_file(host.work().join("begun")).unwrap();
        host.call("cancel_run", &json!({ "runId": cancelled })).unwrap();
        host.wait_for_end(&cancelled);
        host.assert_nothing_runs(TIMEOUT);
        wait_until("the end of all keepers", TIMEOUT, || of_name(host_pid, "ostler-keeper").is_empty().then_some(()));
        wait_until("the removal of the private folders", TIMEOUT, || (entries(&private) == kept).then_some(()));
        assert_eq!(entries(&host.work()), work, "{backend}");
        assert_eq!(entries(&host.root().join("tmp")), Vec::<String>::new(), "{backend}");
        assert_eq!(mounts(), before, "{backend}");
    }
}

#[test]
fn machine_without_user_namespaces_falls_back_to_landlock_and_reports_it() {
    let host = TestHost::granted("");
    host.ensure_running();
    if !is_contained_by(&host, "namespaces") {
        return;
    }
    host.stop();
    // The host starts in a user namespace in which it cannot create further ones.
    let serve = host.command(&["serve"]);
    let mut outer = host.program("unshare");
    outer.args(["-Ur", "sh", "-c", "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"", "sh"]);
    outer.arg(serve.get_program()).args(serve.get_args()).current_dir(host.work()).env_clear();
    outer.envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut host_process = outer.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the host", TIMEOUT, || host.health().ok());
    let status = host.call("get_status", &json!({})).unwrap();
    assert_eq!(status["sandbox"]["backend"], "landlock", "{}", status["sandbox"]);
    assert!(status["sandbox"]["refused"][0].as_str().unwrap().starts_with("namespaces: "), "{}", status["sandbox"]);
    let outside = host.root().join("outside");
    let script = format!("echo x > inside && echo fine; echo x > {} || echo held", outside.display());
    let events = agent(&host, &json!({ "sandboxMode": "workspace-write" }), &script);
    assert_eq!(sandbox(&events)["backend"], "landlock");
    let output = tool_outputs(&events);
    assert!(output.contains("fine") && output.contains("held") && !outside.exists(), "{output}");
    host.stop();
    host_process.wait().unwrap();
}
