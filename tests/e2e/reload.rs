//! Changes of the configuration, plugins and settings while the host and its runs are running.

use crate::support::{TIMEOUT, TestHost, answer, end_of, of_type, signal, wait_until};
use nix::sys::signal::Signal;
use ostler_plugin_host::BUNDLED;
use serde_json::{Value, json};
use std::{
    fs,
    io::Write,
    os::unix::fs::symlink,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

fn status(host: &TestHost) -> Value {
    host.call("get_status", &json!({})).unwrap()
}

fn list<'v>(value: &'v Value, name: &str) -> &'v Vec<Value> {
    value[name].as_array().unwrap_or_else(|| panic!("no {name}: {value}"))
}

/// Waits for a reload that matches, and gives it.
#[track_caller]
fn reloaded(host: &TestHost, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    wait_until(what, TIMEOUT, || list(&status(host), "reloads").iter().find(|reload| wanted(reload)).cloned())
}

/// Waits until a reload has changed a key.
#[track_caller]
fn changed(host: &TestHost, key: &str) -> Value {
    reloaded(host, key, |reload| list(reload, "changed").iter().any(|changed| changed == key))
}

#[track_caller]
fn limit_becomes(host: &TestHost, limit: u64) {
    wait_until(&format!("a limit of {limit}"), TIMEOUT, || (status(host)["globalLimit"] == limit).then_some(()));
}

/// The component of the bundled rehearsal, made different by a mark.
fn rehearsal(mark: &str) -> Vec<u8> {
    let bundled = BUNDLED.iter().find(|bundled| bundled.name == "rehearsal").unwrap();
    let mut bytes = bundled.component.to_vec();
    let name = format!("mark-{mark}");
    // A custom section without meaning: its kind, its length, the length of its name, its name.
    bytes.extend([0, u8::try_from(name.len() + 1).unwrap(), u8::try_from(name.len()).unwrap()]);
    bytes.extend(name.as_bytes());
    bytes
}

fn plugin_folder(host: &TestHost) -> PathBuf {
    host.home().join("plugins")
}

/// The entry of the rehearsal plugin in the plugin list.
fn listed(host: &TestHost) -> Value {
    let plugins = host.call("list_plugins", &json!({})).unwrap();
    list(&plugins, "plugins").iter().find(|plugin| plugin["name"] == "rehearsal").unwrap().clone()
}

#[track_caller]
fn listed_as(host: &TestHost, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    wait_until(what, TIMEOUT, || Some(listed(host)).filter(|plugin| wanted(plugin)))
}

fn adapter(events: &[Value]) -> String {
    of_type(events, "run.started")[0]["payload"]["adapter"]["digest"].as_str().unwrap().to_owned()
}

#[test]
fn limits_change_on_a_live_queue() {
    let host = TestHost::granted("[scheduler]\nglobal = 1\n");
    let runs: Vec<String> = (0..4).map(|_| host.detach(&["rehearsal", "SLEEP 120"])).collect();
    wait_until("one run", TIMEOUT, || (status(&host)["running"] == 1).then_some(()));
    assert_eq!(status(&host)["ready"], 3);
    host.configure("[scheduler]\nglobal = 3\nper_provider = 3\n");
    wait_until("three runs", TIMEOUT, || (status(&host)["running"] == 3).then_some(()));
    assert_eq!(status(&host)["ready"], 1);
    let reload = changed(&host, "scheduler.global");
    assert_eq!((&reload["ok"], &reload["trigger"]), (&json!(true), &json!("file")));
    assert_eq!(reload["changed"], json!(["scheduler.global", "scheduler.per_provider"]));
    // A lower limit ends nothing.
    host.configure("[scheduler]\nglobal = 1\ncapacity = 1\n");
    limit_becomes(&host, 1);
    assert_eq!(status(&host)["running"], 3);
    let refused = host.run(&["run", "--detach", "--json", "rehearsal", "SAY no"]).code(7).error();
    assert_eq!(refused["kind"], "QUEUE_FULL", "the capacity has changed, too");
    for run in &runs {
        host.run(&["cancel", run]).ok();
    }
}

#[test]
fn redaction_policies_and_providers_follow_the_configuration() {
    let host = TestHost::granted("");
    let say = &["rehearsal", "SAY the code is ACMEX-1234, is it not"][..];
    assert_eq!(answer(&host.events_of(say)), "the code is ACMEX-1234, is it not");

    host.configure("[[redaction.rules]]\nid = \"acme\"\npattern = 'ACMEX-[0-9]{4}'\n");
    changed(&host, "redaction.rules");
    assert_eq!(answer(&host.events_of(say)), "the code is [REDACTED:acme], is it not");

    host.configure("[plugins.policy.guardrails.settings]\nmaxTimeoutSeconds = 600\n");
    changed(&host, "plugins.policy.guardrails.settings.maxTimeoutSeconds");
    assert!(answer(&host.events_of(say)).contains("ACMEX-1234"), "the rule was removed from the configuration");
    let denied = host.run(&["run", "--json", "--timeout", "20m", "rehearsal", "SAY no"]).code(4).error();
    assert_eq!(denied["kind"], "POLICY_DENIED");

    host.run(&["run", "second", "SAY no"]).code(5);
    host.configure("[providers.second]\nplugin = \"rehearsal\"\nenvironment = { TASTE = \"sour\" }\n");
    changed(&host, "providers.second.plugin");
    assert_eq!(host.run(&["run", "--timeout", "20m", "second", "ENV TASTE"]).ok().stdout, "sour\n");
    let known = host.run(&["capabilities", "--json"]).ok().json();
    assert!(known.as_array().unwrap().iter().any(|one| one["provider"] == "second" && one["support"] == "supported"));
}

#[test]
fn invalid_configuration_changes_nothing_and_is_reported_with_its_position() {
    let host = TestHost::granted("[scheduler]\nglobal = 4\n[providers.second]\nplugin = \"rehearsal\"\n");
    host.ensure_running();
    for (text, line, column, key) in [
        ("[scheduler]\nglobal = 5\n[log]\nlevel = \"loud\"\n", 4, 9, "log.level"),
        ("[scheduler]\nglobal = = 5\n", 2, 10, ""),
        ("[scheduler]\nglobl = 5\n", 2, 1, "scheduler.globl"),
        // The plugin rejects its settings.
        (
            "[scheduler]\nglobal = 5\n[providers.second]\nplugin = \"rehearsal\"\n[providers.second.settings]\ndelay = -1\n",
            6,
            9,
            "providers.second.settings.delay",
        ),
        ("[scheduler]\nglobal = 5\n[providers.second]\nplugin = \"nobody\"\n", 4, 10, "providers.second"),
        // No plugin can run with this limit.
        ("[plugins]\nmemory_mib = 1\n", 0, 0, "bytes of memory"),
        ("[plugins.policy.nobody]\nsettings = { x = 1 }\n", 2, 12, "plugins.policy.nobody"),
    ] {
        host.configure(text);
        let reload = reloaded(&host, key, |reload| {
            reload["ok"] == false
                && list(reload, "problems").iter().any(|problem| match line {
                    0 => problem["message"].as_str().unwrap().contains(key),
                    _ => problem["line"] == line && problem["column"] == column && problem["key"] == key,
                })
        });
        assert_eq!(reload["changed"], json!([]), "{text}: {reload}");
        let now = status(&host);
        assert_eq!(now["globalLimit"], 4, "{text}");
        if line > 0 {
            let position = format!("line {line}, column {column}");
            assert!(
                list(&now, "problems").iter().any(|problem| problem.as_str().unwrap().contains(&position)),
                "{now}"
            );
            let log = fs::read_to_string(now["logFile"].as_str().unwrap()).unwrap();
            assert!(log.contains(&position), "{log}");
        }
        host.run(&["run", "second", "SAY as before"]).ok();
        host.configure("[scheduler]\nglobal = 4\n[providers.second]\nplugin = \"rehearsal\"\n");
        wait_until("no problem", TIMEOUT, || list(&status(&host), "problems").is_empty().then_some(()));
    }
}

#[test]
fn plugin_file_changes_affect_new_runs_but_not_active_ones() {
    let host = TestHost::granted("[plugins]\ntrust = \"folder\"\n[scheduler]\nglobal = 8\nper_provider = 8\n");
    let under_way = host.detach(&["--timeout", "10m", "rehearsal", "SLEEP 600"]);
    wait_until("a run", TIMEOUT, || (status(&host)["running"] == 1).then_some(()));
    let bundled = listed(&host);
    assert_eq!(bundled["source"], "bundled");

    // Whether or not the host has created the folder already, it finds a new file there.
    fs::create_dir_all(plugin_folder(&host)).unwrap();
    let path = plugin_folder(&host).join("mine.wasm");
    fs::write(&path, rehearsal("one")).unwrap();
    let one = listed_as(&host, "the first file", |plugin| plugin["source"] != "bundled");
    assert_ne!(one["digest"], bundled["digest"]);
    assert_eq!(adapter(&host.events_of(&["rehearsal", "SAY one"])), one["digest"]);

    // Another file by rename, as many tools replace files.
    let draft = host.root().join("draft");
    fs::write(&draft, rehearsal("two")).unwrap();
    fs::rename(&draft, &path).unwrap();
    let two = listed_as(&host, "the second file", |plugin| plugin["digest"] != one["digest"]);
    assert_eq!(adapter(&host.events_of(&["rehearsal", "SAY two"])), two["digest"]);

    // A broken file leaves the plugin in use, and the listing shows the reason.
    let good = rehearsal("three");
    for broken in [&b"broken"[..], &good[..good.len() / 2], &[]] {
        fs::write(&path, broken).unwrap();
        let kept = listed_as(&host, "the broken file", |plugin| plugin["displaced"].is_string());
        assert_eq!((&kept["digest"], &kept["state"]), (&two["digest"], &json!("ready")));
        let shown = host.run(&["plugin", "list"]).ok().stdout;
        assert!(shown.contains(&*kept["displaced"].as_str().unwrap().chars().take(40).collect::<String>()), "{shown}");
        assert_eq!(adapter(&host.events_of(&["rehearsal", "SAY two"])), two["digest"]);
        fs::write(&path, rehearsal("two")).unwrap();
        listed_as(&host, "the second file again", |plugin| plugin["displaced"].is_null());
    }
    assert!(list(&status(&host), "reloads").iter().any(|reload| {
        list(reload, "plugins").iter().any(|plugin| plugin["name"] == "rehearsal" && plugin["change"] == "kept")
    }));

    fs::remove_file(&path).unwrap();
    listed_as(&host, "the bundled one", |plugin| plugin["digest"] == bundled["digest"]);
    assert_eq!(adapter(&host.events_of(&["rehearsal", "SAY back"])), bundled["digest"]);

    // The active run kept its plugin all the time.
    assert_eq!(host.record(&under_way)["status"], "running");
    host.run(&["cancel", &under_way]).ok();
    let events = host.run_events(&under_way);
    assert_eq!(adapter(&events), bundled["digest"]);
    assert_eq!(end_of(&events).unwrap()["type"], "run.canceled");
}

#[test]
fn file_that_is_being_written_is_not_read() {
    let host = TestHost::granted("[scheduler]\nglobal = 4\n");
    host.ensure_running();
    // The first part of the file is a valid configuration, too.
    let mut file = fs::File::create(host.home().join("config.toml")).unwrap();
    file.write_all(b"[scheduler]\nglobal = 7\n").unwrap();
    file.flush().unwrap();
    // Another change in the meantime is noticed.
    fs::create_dir_all(plugin_folder(&host)).unwrap();
    fs::write(plugin_folder(&host).join("x.wasm"), b"broken").unwrap();
    reloaded(&host, "the plugin", |reload| list(reload, "plugins").iter().any(|plugin| plugin["name"] == "x"));
    assert_eq!(status(&host)["globalLimit"], 4);
    file.write_all(b"capacity = 9\n").unwrap();
    drop(file);
    let reload = changed(&host, "scheduler.capacity");
    assert_eq!(
        reload["changed"],
        json!(["scheduler.capacity", "scheduler.global"]),
        "both changes come from one reload"
    );
}

#[test]
fn renamed_linked_and_rewritten_files_are_noticed() {
    let host = TestHost::new();
    host.ensure_running();
    let path = host.home().join("config.toml");
    let put = |text: &str| {
        let draft = host.home().join(".config.toml.swp");
        fs::write(&draft, text).unwrap();
        fs::rename(&draft, &path).unwrap();
    };
    // A new file by rename, a replacement by rename, and a removal.
    put("[scheduler]\nglobal = 5\n");
    limit_becomes(&host, 5);
    put("[scheduler]\nglobal = 6\n");
    limit_becomes(&host, 6);
    fs::remove_file(&path).unwrap();
    limit_becomes(&host, 2);
    // As an orchestrator mounts it: the file is reached through a link, which is swapped.
    let mount = host.root().join("mount");
    for (version, limit) in [("..one", 7), ("..two", 8)] {
        fs::create_dir_all(mount.join(version)).unwrap();
        fs::write(mount.join(version).join("config.toml"), format!("[scheduler]\nglobal = {limit}\n")).unwrap();
    }
    symlink("..one", mount.join("..data")).unwrap();
    symlink("..data/config.toml", mount.join("config.toml")).unwrap();
    symlink(mount.join("config.toml"), &path).unwrap();
    limit_becomes(&host, 7);
    symlink("..two", mount.join("..new")).unwrap();
    fs::rename(mount.join("..new"), mount.join("..data")).unwrap();
    limit_becomes(&host, 8);
    fs::write(mount.join("..two/config.toml"), "[scheduler]\nglobal = 9\n").unwrap();
    limit_becomes(&host, 9);
    // A dangling link is an error; it does not mean the default configuration.
    fs::rename(&mount, host.root().join("unmounted")).unwrap();
    fs::remove_file(&path).unwrap();
    symlink(mount.join("config.toml"), &path).unwrap();
    reloaded(&host, "the dangling link", |reload| reload["ok"] == false);
    assert_eq!(status(&host)["globalLimit"], 9);
    fs::rename(host.root().join("unmounted"), &mount).unwrap();
    wait_until("no problem", TIMEOUT, || list(&status(&host), "problems").is_empty().then_some(()));
}

#[test]
fn reload_can_be_requested_by_call_command_and_signal() {
    let host = TestHost::new();
    host.run(&["config", "reload"]).code(5);
    let pid = host.ensure_running();
    host.configure("[scheduler]\nglobal = 5\n");
    host.call("reload", &json!({})).unwrap();
    assert_eq!(status(&host)["globalLimit"], 5, "the change is active when the answer arrives");
    host.configure("[scheduler]\nglobal = 0\ncapacity = []\n");
    let error = host.call("reload", &json!({})).unwrap_err();
    assert_eq!(error.kind(), "INVALID_PARAMS");
    let problems: Vec<(&str, &str)> = error.data()["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| (problem["pointer"].as_str().unwrap(), problem["message"].as_str().unwrap()))
        .collect();
    assert_eq!(problems[0].0, "/scheduler/global");
    assert!(problems[0].1.starts_with("line 2, column 10: must be an integer"), "{problems:?}");
    assert_eq!((problems[1].0, problems.len()), ("/scheduler/capacity", 2));
    assert!(host.run(&["config", "reload"]).code(2).stderr.contains("line 3, column 12"));

    host.configure("[scheduler]\nglobal = 6\n");
    signal(pid, Signal::SIGHUP);
    reloaded(&host, "the signal", |reload| reload["trigger"] == "signal");
    assert_eq!(
        (status(&host)["globalLimit"].as_u64(), host.ensure_running()),
        (Some(6), pid),
        "the host continues with the new limit"
    );
    assert_eq!(host.run(&["config", "reload"]).ok().stdout, "nothing changed\n");
    assert!(host.run(&["status"]).ok().stdout.contains("reloaded"));
}

#[test]
fn settings_override_the_file_and_survive_a_restart() {
    let host = TestHost::with_config("[scheduler]\nglobal = 3\n");
    host.ensure_running();
    let settings = |params: Value| host.call("get_settings", &params).unwrap();
    let update = |patch: Value| host.call("update_settings", &json!({ "patch": patch, "origins": true }));
    let before = settings(json!({}));
    assert_eq!((&before["scheduler"]["global"], &before["origins"]), (&json!(3), &Value::Null));

    let after = update(json!({"scheduler": {"global": 9}, "providers": {"rehearsal": {"concurrency": 3}}})).unwrap();
    assert_eq!(
        (&after["scheduler"]["global"], &after["providers"]["rehearsal"]["concurrency"]),
        (&json!(9), &json!(3))
    );
    let origin = |of: &Value, pointer: &str| of["origins"][pointer].clone();
    assert_eq!(origin(&after, "/scheduler/global"), "override");
    assert_eq!(origin(&after, "/scheduler/capacity"), "default");
    assert_eq!(status(&host)["globalLimit"], 9, "the setting is active at once");
    // A change of the file does not change the setting.
    host.configure("[scheduler]\nglobal = 4\ncapacity = 7\n");
    changed(&host, "scheduler.capacity");
    let now = settings(json!({"origins": true}));
    assert_eq!((&now["scheduler"]["global"], &now["scheduler"]["capacity"]), (&json!(9), &json!(7)));
    assert_eq!(origin(&now, "/scheduler/capacity"), "file");
    host.stop();
    assert!(host.run(&["config", "show"]).ok().stdout.contains("scheduler.global = 9"), "without a host, too");
    host.ensure_running();
    assert_eq!(status(&host)["globalLimit"], 9);
    let back = update(json!({"scheduler": {"global": null}, "providers": null})).unwrap();
    assert_eq!((&back["scheduler"]["global"], &origin(&back, "/scheduler/global")), (&json!(4), &json!("file")));
    assert!(back["providers"]["rehearsal"].is_null(), "{back}");
}

#[test]
fn invalid_patch_is_refused_as_a_whole_with_all_problems() {
    let host = TestHost::new();
    host.ensure_running();
    // Built here, so that secret scanners do not report this file.
    let token = format!("ghp_{}", "a1B2c3D4e5F6".repeat(3));
    let patch = json!({
        "scheduler": {"global": 7, "perProvider": 0, "globl": 1},
        "plugins": {"folder": "/tmp/code", "policy": {"guardrails": {"settings": {"maxTimeoutSeconds": 60}}}},
        "providers": {"rehearsal": {"environment": {"API_KEY": "hunter2hunter2", "HINT": token, "PLAIN": "fine"}}},
        "redaction": {"rules": [{"id": "x", "pattern": "("}]},
    });
    let error = host.call("update_settings", &json!({ "patch": patch })).unwrap_err();
    assert_eq!(error.kind(), "INVALID_PARAMS");
    let problems = error.data()["problems"].as_array().unwrap();
    let mut pointers: Vec<&str> = problems.iter().map(|problem| problem["pointer"].as_str().unwrap()).collect();
    pointers.sort_unstable();
    assert_eq!(
        pointers,
        [
            "/patch/plugins/folder",
            "/patch/plugins/policy/guardrails/settings/maxTimeoutSeconds",
            "/patch/providers/rehearsal/environment/API_KEY",
            "/patch/providers/rehearsal/environment/HINT",
            "/patch/providers/rehearsal/environment/PLAIN",
            "/patch/redaction/rules",
            "/patch/scheduler/globl",
            "/patch/scheduler/perProvider",
        ]
    );
    assert!(!error.text().contains("hunter2"), "{}", error.text());
    assert_eq!(status(&host)["globalLimit"], 2, "no part of the patch was applied");
    // A setting that only the configuration file may contain.
    let patch = json!({"scheduler": {"global": 7}, "providers": {"rehearsal": {"settings": {"delay": -1}}}});
    let error = host.call("update_settings", &json!({ "patch": patch })).unwrap_err();
    let problem = &error.data()["problems"][0];
    assert_eq!(problem["pointer"], "/patch/providers/rehearsal/settings/delay");
    assert!(problem["message"].as_str().unwrap().contains("config.toml only"), "{problem}");
    for params in [json!({}), json!({"patch": 3}), json!({"patch": {}, "more": 1}), json!({"patch": [1]})] {
        assert_eq!(host.call("update_settings", &params).unwrap_err().kind(), "INVALID_PARAMS", "{params}");
    }
    assert_eq!(status(&host)["globalLimit"], 2);
    let kept = host.call("get_settings", &json!({"origins": true})).unwrap();
    assert!(kept["origins"].as_object().unwrap().values().all(|origin| origin == "default"), "{kept}");
    // Only accepted patches are stored.
    host.call("update_settings", &json!({"patch": {"log": {"level": "debug"}}})).unwrap();
    host.stop();
    for file in ["ostler.db", "ostler.db-wal"] {
        let bytes = fs::read(host.home().join("data").join(file)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("hunter2") && !text.contains(&token), "{file}");
    }
}

#[test]
fn settings_can_be_changed_on_the_command_line() {
    let host = TestHost::with_config("[scheduler]\ncapacity = 7\n");
    assert_eq!(host.run(&["settings", "get", "scheduler.capacity"]).ok().stdout, "7\n");
    assert_eq!(
        host.run(&["settings", "set", "scheduler.per_provider", "3"]).ok().stdout,
        "scheduler.per_provider = 3\n"
    );
    assert_eq!(host.run(&["settings", "set", "log.level", "debug"]).ok().stdout, "log.level = \"debug\"\n");
    assert_eq!(host.run(&["settings", "get", "log.level"]).ok().stdout, "debug\n");
    let listed = host.run(&["settings", "list", "scheduler"]).ok().stdout;
    let row = |key: &str| listed.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{listed}"));
    assert!(
        row("scheduler.per_provider").contains("  set ") && row("scheduler.capacity").contains("  file "),
        "{listed}"
    );
    assert!(row("scheduler.global").contains("  default ") && !listed.contains("log.level"), "{listed}");
    let set = host.run(&["settings", "list", "--set", "--json"]).ok().json();
    assert_eq!(set["scheduler"], json!({"perProvider": 3}));
    assert_eq!(set["origins"], json!({"/log/level": "override", "/scheduler/perProvider": "override"}));
    let unset = host.run(&["settings", "unset", "log", "scheduler.per_provider"]).ok().stdout;
    assert!(unset.contains("scheduler.per_provider = 1  (default)"), "{unset}");
    let list = "[\"HOME\", \"PATH\"]";
    host.run(&["settings", "set", "runner.inherit_environment", list]).ok();
    assert_eq!(host.run(&["settings", "get", "runner"]).ok().json()["inheritEnvironment"], json!(["HOME", "PATH"]));

    let wrong = host.run(&["settings", "set", "scheduler.globl", "3"]).code(2);
    assert!(wrong.stderr.contains("scheduler.globl: unknown key (did you mean scheduler.global?)"), "{}", wrong.stderr);
    let wrong = host.run(&["settings", "set", "scheduler.global", "many"]).code(2);
    assert!(wrong.stderr.contains("scheduler.global: must be an integer"), "{}", wrong.stderr);
    assert!(host.run(&["settings", "set", "scheduler.global", "null"]).code(2).stderr.contains("settings unset"));
    let wrong = host.run(&["settings", "get", "scheduler.globl"]).code(5);
    assert!(wrong.stderr.contains("did you mean scheduler.global?"), "{}", wrong.stderr);
    host.run(&["settings", "get", "a..b"]).code(2);
    host.run(&["settings", "list", "nothing"]).code(5);
    let error = host.run(&["--json", "settings", "set", "plugins.folder", "/tmp"]).code(2).error();
    assert_eq!(error["problems"][0]["pointer"], "/patch/plugins/folder");
}

/// A setting that an earlier version stored is not used, and is reported.
#[test]
fn ignores_a_stored_setting_that_only_the_file_can_have() {
    let host = TestHost::with_config("");
    host.run(&["settings", "set", "scheduler.global", "7"]).ok();
    host.stop();
    let database = rusqlite::Connection::open(host.home().join("data/ostler.db")).unwrap();
    for (key, value) in [("/policy/allowAdvanced", "true"), ("/providers/evil/plugin", "\"command\"")] {
        database.execute("INSERT INTO settings (key, value, updated_us) VALUES (?1, ?2, 0)", [key, value]).unwrap();
    }
    drop(database);
    host.ensure_running();
    let settings = host.call("get_settings", &json!({})).unwrap();
    assert_eq!((&settings["policy"]["allowAdvanced"], &settings["scheduler"]["global"]), (&json!(false), &json!(7)));
    assert!(settings["providers"]["evil"].is_null(), "{settings}");
    let problems = status(&host)["problems"].to_string();
    for part in ["policy.allow_advanced", "providers.evil.plugin", "config.toml only", "update_settings"] {
        assert!(problems.contains(part), "{part}: {problems}");
    }
    host.run(&["settings", "unset", "policy.allow_advanced", "providers.evil"]).ok();
    assert!(!status(&host)["problems"].to_string().contains("config.toml only"), "the stored settings were removed");
}

/// Seconds of processor time that a process has used.
fn used(pid: i32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

#[test]
fn after_a_thousand_rewrites_the_last_valid_one_is_in_force() {
    let host = TestHost::new();
    let pid = host.ensure_running();
    let path = host.home().join("config.toml");
    let rewrite = |number: u64, last: bool| {
        let limit = number % 200 + 1;
        let text = format!("[scheduler]\nglobal = {limit}\n# {}\n", "x".repeat(500));
        match number % 5 {
            // In turn: invalid TOML, an invalid value, a valid file in two writes, one by rename, and one in a single
            // write.
            0 if !last => fs::write(&path, "[scheduler]\nglobal = \n"),
            1 if !last => fs::write(&path, "[scheduler]\nglobal = 0\n"),
            2 => fs::File::create(&path).and_then(|mut file| {
                file.write_all(&text.as_bytes()[..20])?;
                file.write_all(&text.as_bytes()[20..])
            }),
            3 => {
                fs::write(host.home().join("draft"), &text).and_then(|()| fs::rename(host.home().join("draft"), &path))
            }
            _ => fs::write(&path, &text),
        }
        .unwrap();
        limit
    };
    let (start, before) = (Instant::now(), used(pid));
    let pace = Duration::from_millis(10);
    for number in 0..1000_u32 {
        rewrite(u64::from(number), false);
        // Keep the pace, however long a single step takes.
        thread::sleep((start + pace * (number + 1)).saturating_duration_since(Instant::now()));
    }
    let limit = rewrite(1003, true);
    let written = Instant::now();
    limit_becomes(&host, limit);
    let (late, took) = (written.elapsed(), start.elapsed());
    assert!(late < Duration::from_secs(2), "{late:?}");
    let load = (used(pid) - before) / took.as_secs_f64();
    assert!(load < 0.6, "{load:.2} of a processor for superseded rewrites");

    // If the last file is invalid, the one before it is active if the host had time to read it; no other.
    fs::write(&path, "[scheduler]\nglobal = 41\n").unwrap();
    thread::sleep(pace);
    fs::write(&path, "[scheduler]\nglobal = 0\n").unwrap();
    wait_until("the last is refused", TIMEOUT, || {
        let problems = status(&host)["problems"].clone();
        problems.as_array().unwrap().iter().any(|problem| problem.as_str().unwrap().contains("line 2")).then_some(())
    });
    let now = status(&host)["globalLimit"].as_u64().unwrap();
    assert!(now == 41 || now == limit, "{now}");
}
