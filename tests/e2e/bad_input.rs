//! Invalid input, one problem at a time: each gets one clear error with the right kind, hint and exit code, and leaves
//! nothing behind.

use crate::support::duplex::Stdio;
use crate::support::{Dice, TestHost, post};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::Path,
    time::{Duration, Instant},
};

fn payload(host: &TestHost, more: Value) -> Value {
    let mut payload = json!({ "provider": "rehearsal", "prompt": "SAY x", "cwd": host.work() });
    for (name, value) in more.as_object().unwrap() {
        payload[name] = value.clone();
    }
    payload
}

/// Checks that a submit is refused and makes no run; gives the error's `data`.
#[track_caller]
fn refused(host: &TestHost, payload: &Value, kind: &str) -> Value {
    let before = host.call("list_runs", &json!({})).unwrap()["total"].clone();
    let error = host.call("start_run", payload).unwrap_err();
    assert_eq!(error.kind(), kind, "{payload}: {}", error.text());
    assert_eq!(host.call("list_runs", &json!({})).unwrap()["total"], before, "a refused submit made a run");
    error.data().clone()
}

#[test]
fn fields_with_invalid_values_or_unknown_names_are_refused() {
    let host = TestHost::granted("");
    for (more, pointer) in [
        (json!({ "timeoutSeconds": 4 }), "/timeoutSeconds"),
        (json!({ "timeoutSeconds": 604_801 }), "/timeoutSeconds"),
        (json!({ "timeoutSeconds": "30" }), "/timeoutSeconds"),
        (json!({ "queuePriority": 11 }), "/queuePriority"),
        (json!({ "queuePriority": -11 }), "/queuePriority"),
        (json!({ "maxRetries": 11 }), "/maxRetries"),
        (json!({ "maxRetries": -1 }), "/maxRetries"),
        (json!({ "retryBackoffMs": 99 }), "/retryBackoffMs"),
        (json!({ "prompt": "  \n " }), "/prompt"),
        (json!({ "prompt": 7 }), "/prompt"),
        (json!({ "prompt": null }), "/prompt"),
        (json!({ "mode": "sometimes" }), "/mode"),
        (json!({ "outputFormat": "xml" }), "/outputFormat"),
        (json!({ "scheduledAt": "tomorrow" }), "/scheduledAt"),
        (json!({ "harness": { "tools": ["hammer"] } }), "/harness/tools/0"),
        (json!({ "harness": { "permissions": { "sandboxMode": "none" } } }), "/harness/permissions/sandboxMode"),
        (json!({ "harness": { "limits": { "timeoutMs": 1 } } }), "/harness/limits/timeoutMs"),
        (json!({ "harness": [] }), "/harness"),
    ] {
        let data = refused(&host, &payload(&host, more.clone()), "INVALID_PARAMS");
        assert!(data.to_string().contains(pointer), "{more}: {data}");
    }
    let data = refused(&host, &payload(&host, json!({ "timeoutSecond": 9 })), "INVALID_PARAMS");
    assert!(data.to_string().contains("/timeoutSecond") && data.to_string().contains("timeoutSeconds"), "{data}");
    let nested = json!({ "harness": { "permissions": { "sandbox_mode": "read-only" } } });
    let data = refused(&host, &payload(&host, nested), "INVALID_PARAMS");
    assert!(data.to_string().contains("sandboxMode"), "{data}");

    // All problems are reported at once.
    let all = json!({ "timeoutSeconds": 1, "queuePriority": 99, "colour": "red", "maxRetries": "many" });
    let data = refused(&host, &payload(&host, all), "INVALID_PARAMS");
    for pointer in ["/timeoutSeconds", "/queuePriority", "/colour", "/maxRetries"] {
        assert!(data["problems"].to_string().contains(pointer), "{data}");
    }
}

#[test]
fn contradicting_fields_are_refused() {
    let host = TestHost::granted("");
    let both =
        json!({ "harness": { "resumeSessionId": "5eed0000-0000-4000-8000-000000000001", "continueSession": true } });
    let data = refused(&host, &payload(&host, both), "INVALID_PARAMS");
    assert!(data.to_string().contains("/harness/"), "{data}");
    refused(&host, &payload(&host, json!({ "prompt": "nul \u{0} inside" })), "POLICY_DENIED");
    let retried = payload(&host, json!({ "mode": "interactive", "maxRetries": 1 }));
    let error = host.call("start_run", &retried).unwrap_err();
    assert_eq!((error.kind(), &error.data()["pointer"]), ("INVALID_PARAMS", &json!("/maxRetries")), "{}", error.text());
    let closed = json!({ "allowHosts": ["api.example.com"], "networkAccess": false });
    let data = refused(&host, &payload(&host, json!({ "harness": { "permissions": closed } })), "INVALID_PARAMS");
    assert!(data.to_string().contains("/harness/permissions/allowHosts"), "{data}");
    let flags = json!({ "optionalFlags": { "--delay-ms": "soon" } });
    let data = refused(&host, &payload(&host, flags), "INVALID_PARAMS");
    assert!(data.to_string().contains("/optionalFlags/--delay-ms"), "{data}");
    refused(&host, &payload(&host, json!({ "optionalFlags": { "--no-such-flag": true } })), "POLICY_DENIED");
    let unknown = refused(&host, &payload(&host, json!({ "provider": "rehersal" })), "NOT_FOUND");
    assert!(unknown.to_string().contains("rehearsal"), "the nearest name is suggested: {unknown}");
}

#[test]
fn invalid_command_lines_exit_with_their_code_and_an_error() {
    let host = TestHost::granted("");
    for (args, code) in [
        (vec!["run"], 2),
        (vec!["run", "rehearsal"], 2),
        (vec!["run", "rehearsal", "SAY x", "--no-such-flag"], 2),
        (vec!["run", "rehearsal", "SAY x", "--priority", "99"], 2),
        (vec!["run", "rehearsal", "SAY x", "--timeout", "soon"], 2),
        (vec!["run", "nobody", "SAY x"], 5),
        (vec!["run", "rehearsal", "--file", "no-such-file"], 74),
        (vec!["run", "--payload", "no-such-file"], 74),
        (vec!["run", "rehearsal", "SAY x", "--schema", "no-such-file"], 74),
        (vec!["run", "rehearsal", "SAY x", "--cwd", "/no/such/folder"], 6),
        (vec!["show", "018f0000-0000-7000-8000-000000000000"], 5),
        (vec!["show", "not-an-id"], 2),
        (vec!["logs", "018f0000-0000-7000-8000-000000000000"], 5),
        (vec!["no-such-verb"], 2),
    ] {
        let done = host.run(&args);
        assert_eq!(done.code, code, "{args:?}: {}", done.stderr);
        assert!(!done.stderr.trim().is_empty() && done.stdout.is_empty(), "{args:?}: {}", done.stdout);
    }
    host.file("broken.json", "{\"provider\": ");
    let done = host.run(&["run", "--payload", "broken.json"]).code(2);
    assert!(done.stderr.contains("line 1"), "{}", done.stderr);
    host.file("schema.json", "{\"type\": \"no-such-type\"}");
    let done = host.run(&["run", "--json", "rehearsal", "SAY x", "--schema", "schema.json"]).code(2);
    assert!(done.error().to_string().contains("/harness/structuredOutput"), "{}", done.stderr);
    assert_eq!(host.run(&["runs", "--json"]).ok().json()["total"], 0);
}

#[test]
fn invalid_working_folders_are_refused() {
    let host = TestHost::granted("");
    let file = host.file("file", "");
    let link = host.work().join("dangling");
    symlink(host.work().join("nowhere"), &link).unwrap();
    let way_out = host.work().join("way-out");
    symlink(host.user(), &way_out).unwrap();
    refused(&host, &payload(&host, json!({ "cwd": host.work().join("missing") })), "CWD_MISSING");
    refused(&host, &payload(&host, json!({ "cwd": file })), "CWD_MISSING");
    refused(&host, &payload(&host, json!({ "cwd": link })), "CWD_MISSING");
    let outside = refused(&host, &payload(&host, json!({ "cwd": host.user() })), "POLICY_DENIED");
    assert!(outside["findings"].to_string().contains("/cwd"), "{outside}");
    refused(&host, &payload(&host, json!({ "cwd": way_out })), "POLICY_DENIED");
    refused(&host, &payload(&host, json!({ "cwd": "relative" })), "INVALID_PARAMS");
    let beside = json!({ "harness": { "additionalDirectories": [host.user()] } });
    let data = refused(&host, &payload(&host, beside), "POLICY_DENIED");
    assert!(data.to_string().contains("/harness/additionalDirectories/0"), "{data}");

    // A grant of a link is a grant of its target at that time.
    let (one, other, named) = (host.root().join("one"), host.root().join("other"), host.root().join("named"));
    fs::create_dir(&one).unwrap();
    fs::create_dir(&other).unwrap();
    symlink(&one, &named).unwrap();
    host.run(&["grants", "add", named.to_str().unwrap()]).ok();
    host.run(&["run", "rehearsal", "--cwd", named.to_str().unwrap(), "SAY x"]).ok();
    fs::remove_file(&named).unwrap();
    symlink(&other, &named).unwrap();
    refused(&host, &payload(&host, json!({ "cwd": named })), "POLICY_DENIED");

    // If the folder is removed while the run waits, the run fails at its start.
    let gone = host.work().join("gone");
    fs::create_dir(&gone).unwrap();
    let blocker = host.detach(&["rehearsal", "SLOW 600"]);
    let waiting =
        host.call("start_run", &payload(&host, json!({ "cwd": gone }))).unwrap()["runId"].as_str().unwrap().to_owned();
    fs::remove_dir(&gone).unwrap();
    host.run(&["cancel", &blocker]).ok();
    let events = host.wait_for_end(&waiting);
    crate::support::check_run_events(&events);
    assert_eq!(crate::support::of_type(&events, "run.cwd_missing").len(), 1);
    assert_eq!(crate::support::end_of(&events).unwrap()["payload"]["reason"], "cwd_missing");
}

#[test]
fn unusable_agent_clis_are_refused() {
    let host = TestHost::new();
    let script = |name: &str, text: &str, mode: u32| {
        let path = host.root().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let plain = script("plain", "#!/bin/sh\necho 'codex-cli 0.169.0'\n", 0o644);
    let silent = script("silent", "#!/bin/sh\nexit 0\n", 0o755);
    let hanging = script("hanging", "#!/bin/sh\nexec sleep 600\n", 0o755);
    let missing = host.root().join("missing");
    let section = |name: &str, path: &Path| {
        format!("[providers.{name}]\nplugin = \"codex\"\nexecutable = \"{}\"\n", path.display())
    };
    host.configure(
        &[
            section("missing", &missing),
            section("plain", &plain),
            section("silent", &silent),
            section("hanging", &hanging),
        ]
        .concat(),
    );
    host.run(&["grants", "add", host.work().to_str().unwrap()]).ok();

    let data = refused(&host, &payload(&host, json!({ "provider": "missing" })), "CLI_MISSING");
    assert!(data["hint"].as_str().is_some_and(|hint| hint.contains("npm")), "{data}");
    host.run(&["run", "missing", "x"]).code(6);
    let unusable = host.call("start_run", &payload(&host, json!({ "provider": "plain" }))).unwrap_err();
    assert!(["CLI_MISSING", "PROVIDER_BLOCKED"].contains(&unusable.kind()), "{}", unusable.text());
    assert!(unusable.text().contains("execut"), "the error says that the file is not executable: {}", unusable.text());
    refused(&host, &payload(&host, json!({ "provider": "silent" })), "PROVIDER_BLOCKED");
    host.run(&["run", "silent", "x"]).code(6);
    let start = Instant::now();
    refused(&host, &payload(&host, json!({ "provider": "hanging" })), "PROVIDER_BLOCKED");
    assert!(start.elapsed() < Duration::from_secs(30), "a hanging CLI delayed the submit for {:?}", start.elapsed());
    let left = crate::support::carrying(host.root())
        .into_iter()
        .filter(|process| process.command.contains("sleep 600"))
        .count();
    assert_eq!(left, 0, "the hanging CLI is still alive");

    let listed = host.call("list_capabilities", &json!({})).unwrap().to_string();
    assert!(listed.contains("blocked") && listed.contains("installHint"), "{listed}");
}

#[test]
fn invalid_configurations_are_reported_with_their_line() {
    for (text, part) in [
        ("[scheduler\nglobal = 2\n", "line 1"),
        ("[scheduler]\nglobal = 2\nglobl = 3\n", "line 3"),
        ("[scheduler]\nglobal = \"two\"\n", "line 2"),
        ("[scheduler]\nglobal = 0\n", "line 2"),
        ("[no_such_section]\n", "line 1"),
        // Problems that only the plugins find.
        ("\n[providers.x]\nplugin = \"no-such-plugin\"\n", "line 3"),
        ("[providers.codex.settings]\nrequestMaxRetries = 2\nrequestMaxRetry = 2\n", "line 3"),
        ("[providers.claude]\nsettings = { maxRetries = \"many\" }\n", "line 2"),
        ("[plugins.policy.guardrails.settings]\nx = 1\n", "line 2"),
        ("[plugins.redactor.secret]\n", "line 1"),
    ] {
        let host = TestHost::with_config(text);
        let done = host.run(&["config", "check"]);
        assert!(done.code == 2, "{text}: {} {}", done.code, done.all());
        let output = done.all();
        assert!(output.contains(part) || output.contains(&part.replace("line ", ":")), "{text}: {output}");
    }
    let host = TestHost::with_config("[scheduler]\ngloball = 2\n");
    assert!(host.run(&["config", "check"]).code(2).all().contains("global"), "the nearest name is suggested");
    // A host starts without a provider that has no plugin, and reports the problem.
    let host = TestHost::granted("[providers.x]\nplugin = \"no-such-plugin\"\n");
    let status = host.run(&["status", "--json"]).ok().json();
    assert!(status["problems"].to_string().contains("no-such-plugin"), "{status}");
    let error = host.run(&["run", "--json", "x", "SAY x"]).code(70).error();
    assert_eq!(error["kind"], "PLUGIN_FAILED");
    assert!(error.to_string().contains("no-such-plugin"), "{error}");
    host.run(&["run", "rehearsal", "SAY x"]).ok();

    let host = TestHost::with_config("[scheduler]\ngloball = 2\n");
    // A host does not start with this configuration, and the command that needed one prints the reason.
    let done = host.run(&["runs"]);
    assert_ne!(done.code, 0);
    assert!(done.stderr.contains("globall"), "{}", done.stderr);
    assert!(crate::support::carrying(host.root()).is_empty(), "something was left behind");
}

#[test]
fn unusable_data_folders_are_reported() {
    // A path at which nobody can create a folder.
    let mut host = TestHost::new();
    host.set("OSTLER_HOME", "/proc/ostler");
    let done = host.run(&["runs"]).code(74);
    assert!(done.stderr.contains("OSTLER_HOME"), "{}", done.stderr);

    let host = TestHost::new();
    fs::remove_dir_all(host.home().join("data")).unwrap();
    fs::write(host.home().join("data"), "a file").unwrap();
    let done = host.run(&["runs"]).code(74);
    assert!(done.stderr.contains("not a folder"), "{}", done.stderr);

    let root = nix::unistd::geteuid().is_root();
    let host = TestHost::new();
    let data = host.home().join("data");
    if root {
        chown(&data, Some(54_321), None).unwrap();
        let done = host.run(&["runs"]).code(74);
        assert!(done.stderr.contains("belongs to user 54321"), "{}", done.stderr);
        chown(&data, Some(0), None).unwrap();
    } else {
        fs::set_permissions(&data, fs::Permissions::from_mode(0o500)).unwrap();
        let done = host.run(&["runs"]).code(74);
        assert!(done.stderr.contains("read-only"), "{}", done.stderr);
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    }
    host.run(&["runs"]).ok();
}

#[test]
fn newer_or_damaged_database_is_refused_and_unchanged() {
    let newer = |path: &Path| {
        let database = rusqlite::Connection::open(path).unwrap();
        database.pragma_update(None, "user_version", 9_999).unwrap();
    };
    let damaged = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        bytes.iter_mut().take(4_096).for_each(|byte| *byte = 0x55);
        fs::write(path, bytes).unwrap();
    };
    for (what, spoil) in [("newer", &newer as &dyn Fn(&Path)), ("damaged", &damaged)] {
        let host = TestHost::granted("");
        host.run(&["run", "rehearsal", "SAY x"]).ok();
        host.stop();
        let path = fs::read_dir(host.home().join("data"))
            .unwrap()
            .flatten()
            .map(|entry| entry.path())
            .find(|path| fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3\0")))
            .expect("no database");
        spoil(&path);
        let before = fs::read(&path).unwrap();
        let done = host.run(&["runs"]);
        assert!([7, 74].contains(&done.code), "{what}: {} {}", done.code, done.stderr);
        assert!(done.stderr.contains(path.file_name().unwrap().to_str().unwrap()), "{what}: {}", done.stderr);
        assert_eq!(fs::read(&path).unwrap(), before, "{what}: the file was changed");
        assert!(crate::support::carrying(host.root()).is_empty(), "{what}: something was left behind");
    }
}

#[test]
fn socket_of_a_dead_host_is_replaced_and_other_files_are_not() {
    let host = TestHost::new();
    let host_pid = host.ensure_running();
    crate::support::signal(host_pid, nix::sys::signal::Signal::SIGKILL);
    crate::support::wait_until("the end of the host", crate::support::TIMEOUT, || {
        host.call("get_status", &json!({})).is_err().then_some(())
    });
    assert!(host.socket().exists());
    host.run(&["run", "rehearsal", "--grant", "SAY x"]).ok();
    host.stop();

    let host = TestHost::new();
    fs::write(host.socket(), "no socket").unwrap();
    let done = host.run(&["runs"]).code(74);
    assert!(done.stderr.contains("host.sock"), "{}", done.stderr);
    assert_eq!(fs::read(host.socket()).unwrap(), b"no socket");
}

/// A random value, usually not a valid parameter.
fn anything(dice: &mut Dice, depth: u32) -> Value {
    match dice.below(if depth == 0 { 12 } else { 15 }) {
        0 => Value::Null,
        1 => json!(dice.below(2) == 0),
        2 => json!(dice.below(5)),
        3 => json!(-1),
        4 => json!(u64::MAX),
        5 => json!(1.5e300),
        6 => json!(""),
        7 => json!("rehearsal"),
        8 => json!("\u{0}\u{1b}[31m\u{202e}/../\u{1f980}"),
        9 => json!("x".repeat(usize::try_from(dice.below(70_000)).unwrap())),
        10 => json!("0199c0de-0000-7000-8000-000000000000"),
        11 => json!("/no/such/place"),
        12 => (0..dice.below(4)).map(|_| anything(dice, depth - 1)).collect(),
        _ => json!({ "name": anything(dice, depth - 1), "harness": anything(dice, depth - 1) }),
    }
}

#[test]
fn random_parameters_never_cause_an_internal_error() {
    let host = TestHost::granted("[tokens]\nstore = \"file\"\n");
    let mut peer = Stdio::open(&host);
    let document = peer.call("rpc.discover", json!({}));
    let mut dice = Dice::new(3);
    let mut refusals = 0;
    for method in document["methods"].as_array().unwrap() {
        let name = method["name"].as_str().unwrap();
        let params = method["params"].as_array().unwrap();
        for round in 0..40 {
            let given: Value = match round % 4 {
                0 => anything(&mut dice, 2),
                1 => params.iter().map(|_| anything(&mut dice, 2)).collect(),
                _ => {
                    let some = params.iter().filter(|_| dice.below(3) > 0).collect::<Vec<_>>();
                    let named = some.iter().map(|param| (param["name"].as_str().unwrap(), anything(&mut dice, 2)));
                    named.map(|(name, value)| (name.to_owned(), value)).collect::<serde_json::Map<_, _>>().into()
                }
            };
            // Every method may be called for real, except for `stop`.
            if name == "stop"
                && given.as_object().is_none_or(|given| given.values().all(|v| v.is_boolean() || v.is_null()))
            {
                continue;
            }
            let id = peer.begin(name, given.clone());
            let answer = peer.answer(id);
            let error = &answer["error"];
            if error.is_null() {
                continue;
            }
            refusals += 1;
            assert_ne!(error["data"]["kind"], "INTERNAL", "{name} {given}: {error}");
            assert!(error["code"].is_i64() && error["message"].is_string(), "{name} {given}: {answer}");
        }
    }
    assert!(refusals > 500, "only {refusals} refusals");
    assert_eq!(peer.call("get_status", json!({}))["pid"], host.ensure_running());
    drop(peer);
    let log = host.log();
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn invalid_frames_get_the_right_error_code() {
    let host = TestHost::new();
    host.ensure_running();
    let answer = |frame: &[u8]| {
        let (status, body) = post(&host.socket(), frame).unwrap();
        (status, serde_json::from_slice::<Value>(&body).unwrap_or_default())
    };
    let code = |frame: &str| answer(frame.as_bytes()).1["error"]["code"].clone();
    assert_eq!(code("{"), -32700);
    assert_eq!(code("not JSON"), -32700);
    assert_eq!(code("[]"), -32600);
    assert_eq!(code("7"), -32600);
    assert_eq!(code(r#"{"jsonrpc":"1.0","id":1,"method":"get_status"}"#), -32600);
    assert_eq!(code(r#"{"jsonrpc":"2.0","id":1,"method":"no_such_method"}"#), -32601);
    assert_eq!(code(r#"{"jsonrpc":"2.0","id":1,"method":"get_run"}"#), -32602);
    assert_eq!(code(r#"{"jsonrpc":"2.0","id":1,"method":"get_run","params":{"runId":7}}"#), -32602);
    assert_eq!(answer(b"\xff\xfe{}").1["error"]["code"], -32700);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(code(&deep), -32700);
    let batch = r#"[{"jsonrpc":"2.0","id":1,"method":"get_status"},{"jsonrpc":"2.0","id":2,"method":"nope"}]"#;
    let (_, both) = answer(batch.as_bytes());
    assert_eq!(both.as_array().map(Vec::len), Some(2), "{both}");
    let many = format!("[{}]", vec![r#"{"jsonrpc":"2.0","id":1,"method":"get_status"}"#; 10_000].join(","));
    assert_eq!(code(&many), -32600);
    let (status, _) = answer(&vec![b' '; 100 << 20]);
    assert_eq!(status, 413);
    // The host still works.
    host.call("get_status", &json!({})).unwrap();
}
