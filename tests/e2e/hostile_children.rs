//! Children that flood, stall, die, or cannot be started, under a real host. In every case the run has one clear record
//! and one end, leaves nothing behind, and does not affect other runs. The suite `stop` tests how children are stopped.

use crate::support::{
    BackgroundRun, ResourceBaseline, TestHost, check_run_events, end_of, of_type, peak_memory, wait_until,
    warning_codes,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    time::{Duration, Instant},
};

/// `sh` runs the prompt; `reader` runs the file `script` of its folder and gets the prompt as input.
const CONFIG: &str = r#"
policy.allow_environment = ["LARGE_*"]
[scheduler]
global = 4
per_provider = 4
[providers.sh]
plugin = "command"
executable = "sh"
[providers.sh.settings]
args = ["-c", "{prompt}"]
[providers.reader]
plugin = "command"
executable = "sh"
[providers.reader.settings]
args = ["script"]
"#;

/// How much the memory of the host may grow, whatever its children write.
const MEMORY: u64 = 128 << 20;

/// A host that has run something of each kind and is idle.
fn start_host() -> (TestHost, ResourceBaseline) {
    start_host_with(CONFIG)
}

fn start_host_with(config: &str) -> (TestHost, ResourceBaseline) {
    let host = TestHost::granted(config);
    host.run(&["run", "sh", "echo hello"]).ok();
    host.run(&["run", "rehearsal", "RUN echo hello"]).ok();
    let baseline = ResourceBaseline::of(&host);
    (host, baseline)
}

/// The stored standard output of a run.
fn output(events: &[Value]) -> String {
    of_type(events, "run.chunk.stdout").iter().map(|event| event["payload"]["text"].as_str().unwrap()).collect()
}

fn metrics(events: &[Value]) -> &Value {
    &of_type(events, "run.runner_metrics")[0]["payload"]
}

/// The payload of the terminal event. Checks all other events, too.
#[track_caller]
fn end(events: &[Value]) -> &Value {
    check_run_events(events);
    let end = &end_of(events).unwrap()["payload"];
    assert!(!end["message"].as_str().unwrap().trim().is_empty(), "the terminal event has no message: {end}");
    end
}

#[test]
fn gibibyte_without_a_line_end_is_stored_within_limits() {
    let (host, baseline) = start_host_with(&format!("{CONFIG}[storage]\nmax_stored_mib = 16\n"));
    let background = BackgroundRun::start(&host);
    let (host_pid, before) = (host.ensure_running(), peak_memory(host.ensure_running()));
    // As plain text, which is the answer, and as a line of a protocol. The answer is stored up to the limit, and the
    // run fails because it is not complete.
    let plain = host.detach(&["sh", "head -c 1073741824 /dev/zero | tr '\\0' x"]);
    let message = host.detach(&["rehearsal", "LINE 1048576"]);
    for (run, reason, warning, kept) in [
        (&plain, "limit", "BUFFER_TRIMMED", (15 << 20)..=(16 << 20)),
        (&message, "completed", "LINE_TRUNCATED", 90_000..=100_001),
    ] {
        let events = host.wait_for_end(run);
        assert_eq!(end(&events)["reason"], reason);
        assert!(metrics(&events)["stdout"]["bytes"].as_u64().unwrap() >= 1 << 30, "{reason}: {}", metrics(&events));
        assert!(warning_codes(&events).contains(&warning), "{reason}: {:?}", warning_codes(&events));
        let stored = output(&events);
        assert!(kept.contains(&stored.len()), "{reason}: {} bytes are stored", stored.len());
    }
    let grown = peak_memory(host_pid).saturating_sub(before);
    assert!(grown < MEMORY, "the host has grown by {} MiB", grown >> 20);
    background.finish(&host);
    baseline.check(&host);
}

#[test]
fn huge_lines_slow_output_and_invalid_utf8_are_stored() {
    let (host, baseline) = start_host();
    let background = BackgroundRun::start(&host);
    let events = host.events_of(&[
        "sh",
        "i=0; while [ $i -lt 4 ]; do head -c 5000000 /dev/zero | tr '\\0' x; echo; i=$((i+1)); done; echo over",
    ]);
    assert_eq!(end(&events)["reason"], "completed");
    assert!(warning_codes(&events).is_empty(), "{:?}", warning_codes(&events));
    let stored = output(&events);
    let lengths: Vec<usize> = stored.lines().map(str::len).collect();
    assert_eq!(lengths, [5_000_000, 5_000_000, 5_000_000, 5_000_000, 4]);

    // Byte by byte: each character and each secret arrives in several reads.
    let secret = ["gh", "p_", "K3wQ8zT1xV6bN9mR4cL7yJ2hF5dS0gPaUeIo"].concat();
    host.file(
        "script",
        format!(
            "s='schön {secret} 🎭'; while [ -n \"$s\" ]; do printf %.1s \"$s\"; s=${{s#?}}; sleep 0.005; done; echo"
        ),
    );
    let events = host.events_of(&["reader", "hello"]);
    assert_eq!(end(&events)["reason"], "completed");
    let stored = output(&events);
    assert!(stored.starts_with("schön [REDACTED:") && stored.ends_with("] 🎭\n"), "{stored}");
    assert!(of_type(&events, "run.chunk.stdout").iter().all(|event| event["payload"]["lossy"] != true));
    crate::support::SecretProbe::new(&[secret]).assert_not_below(&host.home(), &[]);

    // A lone byte, a truncated character, an overlong encoding, and a character that is truncated by the end.
    let events = host.events_of(&["sh", "printf 'lone \\377 cut \\342\\202 long \\300\\257 end\\n\\303'"]);
    assert_eq!(end(&events)["reason"], "completed");
    assert!(of_type(&events, "run.chunk.stdout").iter().any(|event| event["payload"]["lossy"] == true));
    let stored = output(&events);
    assert!(
        stored.contains("lone \u{fffd} cut \u{fffd} long \u{fffd}") && stored.contains(" end\n\u{fffd}"),
        "{stored}"
    );
    assert_eq!(crate::support::answer(&events), stored);
    background.finish(&host);
    baseline.check(&host);
}

#[test]
fn unread_input_gets_one_warning() {
    let (host, baseline) = start_host();
    let background = BackgroundRun::start(&host);
    // A prompt of the maximum size, and more than two MiB of piped content.
    let (prompt, piped) = ("never read ".repeat((8 << 20) / 11), "nor this ".repeat((5 << 19) / 9));
    let start = |script: &str| {
        host.file("script", script);
        host.submit(&prompt, &json!({ "provider": "reader", "harness": { "pipedContent": piped } })).unwrap()
    };
    for script in ["sleep 0.2; echo over", "exec <&-; sleep 0.2; echo over", "echo over"] {
        let events = host.wait_for_end(&start(script));
        assert_eq!((&end(&events)["reason"], output(&events).as_str()), (&json!("completed"), "over\n"), "{script}");
        let warnings = of_type(&events, "run.warning");
        assert_eq!(warnings.len(), 1, "{script}: {warnings:#?}");
        assert_eq!(warnings[0]["payload"]["code"], "INPUT_UNREAD");
        let left = warnings[0]["payload"]["bytes"].as_u64().unwrap();
        assert!(left > 10 << 20 && left <= (prompt.len() + piped.len() + 100) as u64, "{script}: {left}");
    }
    // A program that never ends is canceled.
    let run = start("echo up; exec sleep 600");
    wait_until("its output", crate::support::TIMEOUT, || (output(&host.run_events(&run)) == "up\n").then_some(()));
    host.run(&["cancel", &run]).ok();
    assert_eq!(end(&host.run_events(&run))["reason"], "canceled");
    background.finish(&host);
    baseline.check(&host);
}

#[test]
fn closed_outputs_do_not_end_the_run() {
    let (host, baseline) = start_host();
    let events = host.events_of(&["sh", "echo up; exec >&- 2>&-; sleep 0.3; exit 5"]);
    assert_eq!((&end(&events)["exitCode"], output(&events).as_str()), (&json!(5), "up\n"));
    assert!(
        metrics(&events)["runMs"].as_f64().unwrap() >= 290.0,
        "the host did not wait for its end: {}",
        metrics(&events)
    );
    let run = host.detach(&["sh", "echo up; exec >&- 2>&-; exec sleep 600"]);
    wait_until("its output", crate::support::TIMEOUT, || (output(&host.run_events(&run)) == "up\n").then_some(()));
    assert_eq!(host.record(&run)["status"], "running");
    host.run(&["cancel", &run]).ok();
    assert_eq!(end(&host.run_events(&run))["reason"], "canceled");
    baseline.check(&host);
}

#[test]
fn death_by_each_signal_is_recorded() {
    let (host, baseline) = start_host();
    let background = BackgroundRun::start(&host);
    // These signals stop a process or do nothing.
    let harmless = [
        Signal::SIGCHLD,
        Signal::SIGCONT,
        Signal::SIGSTOP,
        Signal::SIGTSTP,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
        Signal::SIGURG,
        Signal::SIGWINCH,
    ];
    let runs: Vec<(Signal, String)> = Signal::iterator()
        .filter(|signal| !harmless.contains(signal))
        .map(|signal| {
            let script = format!("ulimit -c 0; echo up; kill -{} $$; echo survived", signal as i32);
            (signal, host.detach(&["sh", &script]))
        })
        .collect();
    assert!(runs.len() > 20);
    for (signal, run) in runs {
        let events = host.wait_for_end(&run);
        let end = end(&events);
        assert_eq!((&end["reason"], output(&events).as_str()), (&json!("unknown"), "up\n"), "{signal}: {end}");
        assert_eq!(of_type(&events, "run.cli_exit")[0]["payload"]["signal"], signal as i32, "{signal}");
        assert!(end["message"].as_str().unwrap().contains(&(signal as i32).to_string()), "{signal}: {end}");
    }
    background.finish(&host);
    baseline.check(&host);
}

/// A run that occupies the only slot of its provider until it is released, so that a waiting run can be disturbed.
struct BlockingRun {
    run: String,
    gate: PathBuf,
}

impl BlockingRun {
    /// `run` submits a run with this script.
    #[track_caller]
    fn start(host: &TestHost, run: impl FnOnce(&str) -> String) -> Self {
        let gate = host.work().join("holder-gate");
        let _ = fs::remove_file(&gate);
        let run = run(&format!("while [ ! -e {} ]; do sleep 0.02; done; echo let go", gate.display()));
        wait_until("the blocking run", crate::support::TIMEOUT, || {
            (host.record(&run)["status"] == "running").then_some(())
        });
        Self { run, gate }
    }

    fn release(&self) {
        fs::write(&self.gate, "").unwrap();
    }
}

#[test]
fn program_or_folder_removed_while_a_run_waits_fails_the_run() {
    let host = TestHost::new();
    let program = host.root().join("program");
    let set = |text: &str, mode: u32| {
        let _ = fs::remove_file(&program);
        let _ = fs::remove_dir(&program);
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
    };
    const SOUND: &str = "#!/bin/sh\n. ./script\n";
    set(SOUND, 0o755);
    host.configure(&format!(
        "{CONFIG}[providers.tool]\nplugin = \"command\"\nexecutable = \"{}\"\nconcurrency = 1\n",
        program.display()
    ));
    host.run(&["grants", "add", host.work().to_str().unwrap()]).ok();
    let folder = host.work().join("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("script"), "echo fine").unwrap();
    host.file("script", "echo hello");
    host.run(&["run", "tool", "hello"]).ok();
    let baseline = ResourceBaseline::of(&host);
    let background = BackgroundRun::start(&host);

    let elsewhere = host.root().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let spoilers: [(&str, &dyn Fn(), &str, &str); 7] = [
        ("removed", &|| fs::remove_file(&program).unwrap(), "cli_missing", "run.cli_missing"),
        ("not executable", &|| set(SOUND, 0o644), "cli_missing", ""),
        ("without its interpreter", &|| set("#!/no/such/interpreter\n", 0o755), "cli_missing", ""),
        (
            "a folder",
            &|| {
                fs::remove_file(&program).unwrap();
                fs::create_dir(&program).unwrap();
            },
            "cli_missing",
            "",
        ),
        ("without its folder", &|| fs::remove_dir_all(&folder).unwrap(), "cwd_missing", "run.cwd_missing"),
        (
            "in a file",
            &|| {
                fs::remove_dir_all(&folder).unwrap();
                fs::write(&folder, "").unwrap();
            },
            "cwd_missing",
            "run.cwd_missing",
        ),
        (
            "in a folder that leads elsewhere",
            &|| {
                fs::remove_dir_all(&folder).unwrap();
                std::os::unix::fs::symlink(&elsewhere, &folder).unwrap();
            },
            "cwd_missing",
            "run.cwd_missing",
        ),
    ];
    for (what, spoil, reason, event) in spoilers {
        let blocker = BlockingRun::start(&host, |script| {
            host.file("script", script);
            host.detach(&["tool", "hello"])
        });
        let waiting = host.run_in(&folder, &["run", "--detach", "tool", "hello"]).ok().stdout.trim().to_owned();
        spoil();
        blocker.release();
        let events = host.wait_for_end(&waiting);
        let end = end(&events);
        assert_eq!(end["reason"], reason, "{what}: {end}");
        if !event.is_empty() {
            assert_eq!(of_type(&events, event).len(), 1, "{what}: {:?}", crate::support::kinds(&events));
        }
        let named = if reason == "cli_missing" { &program } else { &folder };
        assert!(end["message"].as_str().unwrap().contains(named.to_str().unwrap()), "{what}: {end}");
        assert!(of_type(&events, "run.cli_exit").is_empty(), "{what}");
        check_run_events(&host.wait_for_end(&blocker.run));
        // A run works again as soon as everything is restored.
        set(SOUND, 0o755);
        let _ = fs::remove_dir_all(&folder);
        let _ = fs::remove_file(&folder);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("script"), "echo fine").unwrap();
        let done = host.run_in(&folder, &["run", "tool", "hello"]).ok();
        assert_eq!(done.stdout, "fine\n", "{what}");
    }
    background.finish(&host);
    baseline.check(&host);
}

#[test]
fn too_large_environment_fails_without_retry() {
    let (host, baseline) = start_host();
    let large = "x".repeat(100 << 10);
    let variables: serde_json::Map<String, Value> =
        (0..40).map(|number| (format!("LARGE_{number}"), json!(large))).collect();
    let payload = json!({
        "provider": "sh", "prompt": "echo never", "cwd": host.work(), "maxRetries": 0,
        "harness": { "processEnv": variables },
    });
    let run = host.call("start_run", &payload).unwrap()["runId"].as_str().unwrap().to_owned();
    let events = host.wait_for_end(&run);
    assert_eq!(end(&events)["reason"], "spawn_failed", "{}", end(&events));
    assert!(!warning_codes(&events).contains(&"SPAWN_RETRY"), "a retry cannot help");
    baseline.check(&host);
}

/// Sets a limit of a running process; `value` is `soft:hard`, where an empty part stays as it is.
fn limit(host: &TestHost, pid: i32, resource: &str, value: &str) {
    let mut command = host.program("prlimit");
    let done = command.args(["--pid", &pid.to_string(), &format!("--{resource}={value}")]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// The limit of open files that leaves a process this number of free descriptors.
fn limit_that_leaves(pid: i32, spare: usize) -> usize {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let open: HashSet<usize> = open.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    (0..).filter(|number| !open.contains(number)).nth(spare).unwrap()
}

/// Waits until a run has ended, without asking the host.
fn wait_for_end_in_database(host: &TestHost, run: &str) -> Duration {
    let start = Instant::now();
    let id = uuid::Uuid::parse_str(run).unwrap();
    wait_until("the end of a run", crate::support::TIMEOUT, || {
        let sql = "SELECT ended_us IS NOT NULL FROM runs WHERE run_id = ?1";
        crate::support::database(host)
            .query_row(sql, [id.as_bytes().as_slice()], |row| row.get::<_, bool>(0))
            .unwrap()
            .then_some(())
    });
    start.elapsed()
}

#[test]
fn lack_of_descriptors_fails_only_the_run() {
    let host = TestHost::granted(&CONFIG.replace("global = 4", "global = 1"));
    host.run(&["run", "sh", "echo hello"]).ok();
    let baseline = ResourceBaseline::of(&host);
    let host_pid = host.ensure_running();
    let mut reasons = Vec::new();
    // Each descriptor that an attempt needs is missing once. The descriptors of the blocking run become free again.
    for spare in (0..16).chain([24, 32]) {
        let nofile = limit_that_leaves(host_pid, spare);
        let blocker = BlockingRun::start(&host, |script| host.detach(&["sh", script]));
        let waiting = host.detach(&["sh", "echo fine"]);
        limit(&host, host_pid, "nofile", &format!("{nofile}:"));
        blocker.release();
        let took = wait_for_end_in_database(&host, &waiting);
        limit(&host, host_pid, "nofile", "4096:");
        assert!(took < Duration::from_secs(20), "{spare}: it took {took:?}");
        for run in [&blocker.run, &waiting] {
            check_run_events(&host.run_events(run));
        }
        let events = host.run_events(&waiting);
        let reason = end(&events)["reason"].as_str().unwrap().to_owned();
        assert!(["completed", "spawn_failed", "host_failed"].contains(&reason.as_str()), "{spare}: {}", end(&events));
        let retries = warning_codes(&events).iter().filter(|code| **code == "SPAWN_RETRY").count();
        assert!(reason != "spawn_failed" || retries == 2, "{spare}: {:?}", warning_codes(&events));
        // With enough descriptors, a run works again.
        host.run(&["run", "sh", "echo fine"]).ok();
        let private = host.home().join("data/private");
        wait_until("no private folder", crate::support::TIMEOUT, || {
            fs::read_dir(&private).unwrap().next().is_none().then_some(())
        });
        reasons.push(reason);
    }
    for wanted in ["completed", "spawn_failed"] {
        assert!(reasons.iter().any(|reason| reason == wanted), "no run ended with {wanted}: {reasons:?}");
    }
    baseline.check(&host);
}

#[test]
fn lack_of_processes_or_threads_fails_only_the_run() {
    let mut host = TestHost::with_config(CONFIG);
    if nix::unistd::geteuid().is_root() {
        // The limit does not apply to root.
        host.run_as_user(54_322);
    }
    host.run(&["grants", "add", host.work().to_str().unwrap()]).ok();
    host.run(&["run", "sh", "echo hello"]).ok();
    let baseline = ResourceBaseline::of(&host);
    let host_pid = host.ensure_running();
    let helper = crate::support::below(host_pid)[0].pid;

    limit(&host, helper, "nproc", "1:");
    let events = host.events_of(&["sh", "echo never"]);
    assert_eq!(end(&events)["reason"], "spawn_failed", "{}", end(&events));
    assert_eq!(warning_codes(&events), ["SPAWN_RETRY", "SPAWN_RETRY"]);
    // A run is retried until a process can be created.
    let run = host.detach(&["sh", "--retries", "10", "echo fine"]);
    wait_until("a second attempt", crate::support::TIMEOUT, || {
        let stored = host.run_events(&run);
        let scheduled = |event: &&Value| event["payload"]["stage"] == "retry_scheduled";
        of_type(&stored, "run.progress").iter().any(scheduled).then_some(())
    });
    limit(&host, helper, "nproc", "4096:");
    let events = host.wait_for_end(&run);
    assert_eq!((&end(&events)["reason"], output(&events).as_str()), (&json!("completed"), "fine\n"));

    // The host cannot create the thread that an attempt needs. The scheduled run starts after eight seconds: by then
    // the idle threads of earlier attempts, which live for five seconds, have ended.
    let blocker = BlockingRun::start(&host, |script| host.detach(&["sh", script]));
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(8);
    let more = json!({ "provider": "sh", "scheduledAt": at.to_string() });
    let waiting = host.submit("echo never", &more).unwrap();
    limit(&host, host_pid, "nproc", "1:");
    wait_for_end_in_database(&host, &waiting);
    limit(&host, host_pid, "nproc", "4096:");
    blocker.release();
    let events = host.run_events(&waiting);
    assert_eq!(end(&events)["reason"], "host_failed", "{}", end(&events));
    assert!(end(&events)["message"].as_str().unwrap().contains("thread"), "{}", end(&events));
    assert_eq!(end(&host.wait_for_end(&blocker.run))["reason"], "completed");
    host.run(&["run", "sh", "echo fine"]).ok();
    baseline.check(&host);
}
