//! Who may call which methods: access classes, access tokens, processes of a run, limits for each peer, and the audit
//! trail.

use crate::support::duplex::Web;
use crate::support::{Endpoint, TIMEOUT, TestHost, call, post, tool_outputs, wait_until};
use serde_json::{Value, json};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::{
        fs::{PermissionsExt, symlink},
        net::UnixStream,
    },
    path::Path,
    time::{Duration, Instant},
};

/// A host on TCP, its address and its default token.
fn on_tcp() -> (TestHost, String, String) {
    let host = TestHost::granted("[http]\nlisten = \"127.0.0.1:0\"\n");
    let (address, token) = served(&host);
    (host, address, token)
}

fn served(host: &TestHost) -> (String, String) {
    let status = host.call("get_status", &json!({})).unwrap();
    let address = status["http"]["url"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
    let token = fs::read_to_string(status["http"]["tokenFile"].as_str().unwrap()).unwrap().trim().to_owned();
    (address, token)
}

/// A new access token.
fn token(host: &TestHost, name: &str, class: &str) -> String {
    let created = host.call("create_access_token", &json!({"name": name, "accessClass": class})).unwrap();
    created["token"].as_str().unwrap().to_owned()
}

fn at<'a>(address: &'a str, token: &'a str) -> Endpoint<'a> {
    Endpoint::Port { address, token }
}

#[track_caller]
fn denied(endpoint: Endpoint<'_>, method: &str, params: Value, words: &[&str]) {
    let error = call(endpoint, method, &params).unwrap_err();
    assert_eq!(error.kind(), "POLICY_DENIED", "{method}: {}", error.text());
    for word in words {
        assert!(error.text().contains(word), "{method}: {word}: {}", error.text());
    }
}

/// The audit records of this kind.
fn audit(host: &TestHost, kind: &str) -> Vec<Value> {
    let listed = host.call("list_audit", &json!({"kind": kind, "limit": 1000})).unwrap();
    listed["records"].as_array().unwrap().clone()
}

/// A process of a run calls its own host.
#[test]
fn process_of_a_run_is_refused_on_the_socket() {
    // Without a sandbox, so that the process can reach the socket.
    let host = TestHost::granted("[sandbox]\nbackends = []\n");
    host.ensure_running();
    let (ostler, home) = (crate::support::binary(), host.home());
    let call = format!("{} --home {} --no-start grants add /etc", ostler.display(), home.display());
    // As a child, as a child without the environment of the run, and as a daemon in its own session.
    let prompt = format!(
        "RUN {call} > one 2>&1; echo \"code $?\" >> one
         env -i {call} > two 2>&1; echo \"code $?\" >> two
         setsid env -i PATH=\"$PATH\" sh -c '{call} > three 2>&1; echo \"code $?\" >> three' &
         while ! grep -q code three 2>/dev/null; do sleep 0.05; done"
    );
    host.events_of(&["rehearsal", &prompt]);
    for file in ["one", "two", "three"] {
        let output = fs::read_to_string(host.work().join(file)).unwrap();
        assert!(output.contains("a process of a run may not call the host"), "{file}: {output}");
        assert!(output.contains("code 4"), "{file}: {output}");
    }
    let grants = host.call("list_workspace_grants", &json!({})).unwrap();
    assert!(!grants.to_string().contains("/etc"), "{grants}");
    // The user is still served, and the refusal is in the audit trail.
    let refused = audit(&host, "refused");
    assert!(refused[0]["facts"]["reason"].as_str().unwrap().contains("process of a run"), "{refused:?}");
}

#[test]
fn process_of_a_run_cannot_start_a_host() {
    let host = TestHost::granted("");
    host.ensure_running();
    let call = format!("{} --home {} runs", crate::support::binary().display(), host.work().join("other").display());
    let events = host.events_of(&["rehearsal", &format!("RUN {call} > said 2>&1; echo \"code $?\" >> said")]);
    let output = fs::read_to_string(host.work().join("said")).unwrap();
    assert!(output.contains("a process inside a run may not call the host or start one"), "{output}");
    assert!(output.contains("code 4"), "{output}");
    assert!(crate::support::of_type(&events, "run.warning").is_empty(), "{events:?}");
}

/// The same with a request by hand, without the command line.
#[test]
fn process_of_a_run_cannot_call_any_method() {
    let Some(python) = crate::support::agent_cli("python3", "OSTLER_TEST_PYTHON") else { return };
    let host = TestHost::granted("[sandbox]\nbackends = []\n");
    host.ensure_running();
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"update_settings","params":{"patch":{"scheduler":{"global":9}}}}"#;
    let request = format!("POST /rpc HTTP/1.1\\r\\nhost: x\\r\\ncontent-length: {}\\r\\n\\r\\n{body}", body.len());
    let script = host.file(
        "attack.py",
        format!(
            "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect({:?})\ns.sendall(b'''{request}''')\n\
             print(s.recv(65536).decode().splitlines()[0])\n",
            host.socket()
        ),
    );
    let events = host.events_of(&["rehearsal", &format!("RUN {} {}", python.display(), script.display())]);
    let output = tool_outputs(&events);
    assert!(output.contains("HTTP/1.1 403"), "{output}");
    assert_eq!(host.call("get_status", &json!({})).unwrap()["globalLimit"], 2);
}

/// A client with a token is not the operator.
#[test]
fn token_is_limited_to_its_access_class() {
    let (host, address, run_token) = on_tcp();
    let (read_token, operate_token) = (token(&host, "look", "read"), token(&host, "boss", "operate"));
    let start = json!({"provider": "rehearsal", "prompt": "SAY hi", "cwd": host.work()});
    let etc = json!({"path": "/etc"});

    let reader = at(&address, &read_token);
    call(reader, "get_status", &json!({})).unwrap();
    denied(reader, "start_run", start.clone(), &["start_run", "class run", "class read", "ostler access add"]);
    denied(reader, "list_capabilities", json!({"refresh": true}), &["refresh", "class run"]);
    denied(reader, "grant_workspace", etc.clone(), &["class operate"]);

    let runner = at(&address, &run_token);
    let run = call(runner, "start_run", &start).unwrap()["runId"].as_str().unwrap().to_owned();
    host.wait_for_end(&run);
    call(runner, "list_capabilities", &json!({"refresh": true, "provider": "rehearsal"})).unwrap();
    call(runner, "export_run", &json!({"runId": run, "format": "md"})).unwrap();
    let outside = host.work().join("out.md");
    let export = json!({"runId": run, "format": "md", "path": outside});
    denied(runner, "export_run", export.clone(), &["export_run with a path", "class operate"]);
    for (method, params) in [
        ("grant_workspace", etc.clone()),
        ("revoke_workspace", etc.clone()),
        ("update_settings", json!({"patch": {"scheduler": {"global": 9}}})),
        ("save_provider_token", json!({"provider": "codex", "token": "x"})),
        ("set_retention", json!({"scope": "global", "days": 1})),
        ("create_access_token", json!({"name": "more", "accessClass": "operate"})),
        ("list_access_tokens", json!({})),
        ("reload", json!({})),
        ("stop", json!({})),
    ] {
        denied(runner, method, params, &["class operate", "class run"]);
    }
    assert!(!outside.exists());

    let operator = at(&address, &operate_token);
    call(operator, "export_run", &export).unwrap();
    call(operator, "grant_workspace", &json!({"path": host.user()})).unwrap();
    let granted = audit(&host, "grant");
    assert_eq!(granted.last().unwrap()["actor"], "token boss");
    let refused = audit(&host, "refused");
    assert!(refused.iter().any(|record| record["actor"] == "token default" && record["facts"]["method"] == "stop"));

    // The class applies to each call on an open connection, and to each call of a batch.
    let mut peer = Web::over_tcp(&address, &read_token);
    peer.call("get_status", json!({}));
    assert_eq!(peer.refused("start_run", start.clone())["data"]["kind"], "POLICY_DENIED");
    let batch = json!([{"jsonrpc": "2.0", "id": 1, "method": "get_status"},
        {"jsonrpc": "2.0", "id": 2, "method": "cancel_run", "params": {"runId": run}}]);
    let (_, body) = post(reader, batch.to_string().as_bytes()).unwrap();
    let answers: Value = serde_json::from_slice(&body).unwrap();
    assert!(answers[0]["error"].is_null());
    assert_eq!(answers[1]["error"]["data"]["kind"], "POLICY_DENIED");
}

/// A client on TCP must not choose which programs run.
#[test]
fn variables_of_the_client_are_refused_over_tcp() {
    let (host, address, _) = on_tcp();
    let operator = token(&host, "boss", "operate");
    let endpoint = at(&address, &operator);
    let variables = json!({"PATH": host.work()});
    let start =
        json!({"provider": "rehearsal", "prompt": "SAY hi", "cwd": host.work(), "clientEnvironment": variables});
    denied(endpoint, "start_run", start.clone(), &["clientEnvironment", "unix socket"]);
    denied(endpoint, "list_capabilities", json!([true, null, {"PATH": "/tmp"}]), &["clientEnvironment"]);
    let error = call(endpoint, "start_run", &start).unwrap_err();
    assert_eq!(error.data()["pointer"], "/clientEnvironment");
    let mut without = start.clone();
    without["clientEnvironment"] = Value::Null;
    call(endpoint, "start_run", &without).unwrap();
    host.call("start_run", &start).unwrap();
}

#[test]
fn access_tokens_are_created_listed_and_revoked() {
    let (host, address, default) = on_tcp();
    let added = host.run(&["access", "add", "ci", "--class", "read", "--expires", "30d"]).ok();
    let token = added.stdout.trim().to_owned();
    assert!(token.starts_with("ostler_") && added.stderr.contains("not shown again"), "{added:?}");
    call(at(&address, &token), "get_status", &json!({})).unwrap();
    host.run(&["access", "add", "ci"]).code(7);
    host.run(&["access", "add", "a b"]).code(2);
    host.run(&["access", "add", "x", "--expires", "soon"]).code(2);

    let listed = host.run(&["access", "list", "--json"]).ok().json();
    let of = |name: &str| listed.as_array().unwrap().iter().find(|token| token["name"] == name).unwrap().clone();
    assert_eq!((&of("ci")["accessClass"], &of("ci")["valid"]), (&json!("read"), &json!(true)));
    assert!(of("ci")["lastUsedAt"].is_string() && of("ci")["expiresAt"].is_string(), "{listed}");
    assert_eq!(of("default")["accessClass"], "run");
    assert!(host.run(&["access", "list"]).ok().stdout.contains("default"));

    // The host does not store the token itself.
    for file in ["ostler.db", "ostler.db-wal"] {
        let bytes = fs::read(host.home().join("data").join(file)).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&bytes).contains(&token), "{file}");
    }
    assert!(!host.log().contains(&token));

    // The token survives a restart. When it is revoked, its connections are closed.
    host.stop();
    host.ensure_running();
    let (address, _) = served(&host);
    let mut peer = Web::over_tcp(&address, &token);
    peer.call("subscribe", json!({}));
    let mut events = TcpStream::connect(&address).unwrap();
    events.set_read_timeout(Some(TIMEOUT)).unwrap();
    let head = format!("GET /events HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\nconnection: close");
    write!(events, "{head}\r\n\r\n").unwrap();
    host.wait_for_count("subscribers", 2);
    host.run(&["access", "revoke", "ci"]).ok();
    assert_eq!(peer.event(), None, "the WebSocket is closed");
    let mut rest = Vec::new();
    events.read_to_end(&mut rest).unwrap();
    assert!(rest.starts_with(b"HTTP/1.1 200"), "the event stream was open, and has ended");
    assert_eq!(post(at(&address, &token), b"{}").unwrap().0, 401);
    host.run(&["access", "revoke", "ci"]).code(5);

    // The default token: revoked at once, and replaced at the next start.
    call(at(&address, &default), "get_status", &json!({})).unwrap();
    host.run(&["access", "revoke", "default"]).ok();
    assert_eq!(post(at(&address, &default), b"{}").unwrap().0, 401);
    host.stop();
    host.ensure_running();
    let (address, next) = served(&host);
    assert_ne!(next, default);
    call(at(&address, &next), "get_status", &json!({})).unwrap();
}

#[test]
fn expired_token_is_refused() {
    let (host, address, _) = on_tcp();
    let created = host.call("create_access_token", &json!({"name": "brief", "expiresInSeconds": 1})).unwrap();
    let token = created["token"].as_str().unwrap().to_owned();
    wait_until("the token expires", TIMEOUT, || (post(at(&address, &token), b"{}").unwrap().0 == 401).then_some(()));
    let listed = host.call("list_access_tokens", &json!({})).unwrap();
    assert!(listed.as_array().unwrap().iter().any(|token| token["name"] == "brief" && token["valid"] == false));
}

/// An export over TCP overwrites only files that an export has written.
#[test]
fn exports_over_tcp_replace_only_exports_and_follow_no_link() {
    let (host, address, _) = on_tcp();
    let operator = token(&host, "boss", "operate");
    let endpoint = at(&address, &operator);
    let run = host.detach(&["rehearsal", "SAY ssh-ed25519 AAAA"]);
    host.wait_for_end(&run);
    let export = |path: &Path| json!({"runId": run, "format": "txt", "path": path, "overwrite": true});

    let keys = host.file("authorized_keys", "mine");
    denied(endpoint, "export_run", export(&keys), &["not written by an export", "unix socket"]);
    let transient = json!({"runId": run, "format": "txt", "transient": true});
    let error = call(endpoint, "export_run", &transient).unwrap_err();
    assert_eq!((error.kind(), &error.data()["pointer"]), ("INVALID_PARAMS", &json!("/transient")));
    let own = host.work().join("own.txt");
    call(endpoint, "export_run", &export(&own)).unwrap();
    call(endpoint, "export_run", &export(&own)).unwrap();
    symlink(&keys, host.work().join("link.txt")).unwrap();
    symlink(host.user(), host.work().join("folder")).unwrap();
    for path in ["link.txt", "folder/x.txt"] {
        let error = host.call("export_run", &export(&host.work().join(path))).unwrap_err();
        assert_eq!((error.kind(), &error.data()["pointer"]), ("INVALID_PARAMS", &json!("/path")), "{path}");
        assert!(error.text().contains("link"), "{}", error.text());
    }
    for path in ["config.toml", "data/x.txt", "plugins/x.wasm", "log/x.txt"] {
        let error = host.call("export_run", &export(&host.home().join(path))).unwrap_err();
        assert!(error.text().contains("Ostler's own"), "{path}: {}", error.text());
    }
    assert_eq!(fs::read_to_string(&keys).unwrap(), "mine");
    // On the unix socket, the user may overwrite any file.
    host.call("export_run", &export(&keys)).unwrap();
    assert_ne!(fs::read_to_string(&keys).unwrap(), "mine");
    let exports = audit(&host, "export");
    assert_eq!(exports.iter().filter(|record| record["actor"] == "token boss").count(), 2, "{exports:#?}");
}

/// Clients without a token cannot block clients with one.
#[test]
fn idle_connections_without_a_token_do_not_block_others() {
    let (host, address, token) = on_tcp();
    let mut idle: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(&address).unwrap()).collect();
    for _ in 0..6 {
        call(at(&address, &token), "get_status", &json!({})).unwrap();
        idle.extend((0..20).map(|_| TcpStream::connect(&address).unwrap()));
    }
    // The connection with a token stays open while others are opened.
    let mut peer = Web::over_tcp(&address, &token);
    idle.extend((0..300).map(|_| TcpStream::connect(&address).unwrap()));
    peer.call("get_status", json!({}));
    // The oldest ones were closed.
    idle[0].set_read_timeout(Some(TIMEOUT)).unwrap();
    assert_eq!(idle[0].read(&mut [0]).unwrap_or(0), 0);
    let lines = host.log().lines().filter(|line| line.contains("without a token")).count();
    assert!(lines <= 2, "{lines} lines for refused connections");
    for _ in 0..50 {
        assert_eq!(post(at(&address, "wrong"), b"{}").unwrap().0, 401);
    }
    let lines = host.log().lines().filter(|line| line.contains("requests over TCP were refused")).count();
    assert!(lines <= 2, "{lines} lines for refused requests");
}

/// The host does not build an answer to a batch that would fill the memory.
#[test]
fn answer_to_a_batch_is_bounded() {
    let host = TestHost::granted("");
    let run = host.detach(&["rehearsal", "BIG 4096"]);
    host.wait_for_end(&run);
    let calls: Vec<Value> = (0..100)
        .map(|id| json!({"jsonrpc": "2.0", "id": id, "method": "get_run_events", "params": {"runId": run, "limit": 5000}}))
        .collect();
    let (status, body) = post(&host.socket(), Value::from(calls).to_string().as_bytes()).unwrap();
    assert_eq!(status, 200);
    assert!(body.len() < 20 << 20, "{} bytes", body.len());
    let answers: Vec<Value> = serde_json::from_slice(&body).unwrap();
    assert_eq!(answers.len(), 100, "each call is answered");
    let last = &answers[99];
    assert_eq!((&last["id"], &last["error"]["data"]["kind"]), (&json!(99), &json!("CONFLICT")), "{last}");
    assert!(last["error"]["message"].as_str().unwrap().contains("was not made"), "{last}");
    assert!(answers[0]["result"].is_object());
}

/// Large frames that stall do not delay other clients.
#[test]
fn stalled_large_frames_of_one_peer_do_not_delay_others() {
    let (host, address, token) = on_tcp();
    let half = vec![b' '; 300 << 10];
    // More than the host reads at a time from all peers together.
    let stalled: Vec<TcpStream> = (0..12)
        .map(|_| {
            let mut stream = TcpStream::connect(&address).unwrap();
            let head = format!(
                "POST /rpc HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n",
                2 << 20
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&half).unwrap();
            stream
        })
        .collect();
    let large = format!("{}{}", " ".repeat(1 << 20), r#"{"jsonrpc":"2.0","id":1,"method":"get_status"}"#);
    let start = Instant::now();
    let (status, _) = post(&host.socket(), large.as_bytes()).unwrap();
    assert_eq!(status, 200);
    assert!(start.elapsed() < Duration::from_secs(4), "the call waited {:?}", start.elapsed());
    // A stalled frame is refused long before the time limit of a whole frame. The host decides which frames it reads
    // first; the others wait for their turn, and may be refused with another status after that.
    let (sender, first) = std::sync::mpsc::channel();
    for mut stream in stalled {
        let sender = sender.clone();
        std::thread::spawn(move || {
            stream.set_read_timeout(Some(TIMEOUT)).unwrap();
            let mut answer = [0; 12];
            let read = stream.read_exact(&mut answer);
            let _ = sender.send(read.map(|()| answer));
        });
    }
    let answer = first.recv_timeout(TIMEOUT).unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[test]
fn audit_trail_records_actors_and_detects_manipulation() {
    let host = TestHost::granted("");
    let run = host.detach(&["rehearsal", "SAY hello"]);
    host.wait_for_end(&run);
    host.run(&["run", "rehearsal", "--cwd", "/etc", "SAY outside"]).code(4);
    host.run(&["settings", "set", "scheduler.global", "3"]).ok();
    host.run(&["grants", "add", host.user().to_str().unwrap()]).ok();
    host.run(&["grants", "revoke", host.user().to_str().unwrap()]).ok();
    host.run(&["capabilities", "--refresh"]).ok();
    host.run(&["export", &run]).ok();
    host.configure("[scheduler]\nper_provider = 2\n");
    host.run(&["config", "reload"]).ok();

    let about_run = host.run(&["audit", "list", "--run", &run, "--json"]).ok().json();
    let kinds: Vec<&str> =
        about_run.as_array().unwrap().iter().map(|record| record["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["submit", "spawn", "export"], "{about_run:#}");
    let submits = audit(&host, "submit");
    let outcomes: Vec<&str> = submits.iter().map(|record| record["facts"]["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["taken", "refused"], "{submits:#?}");
    assert!(submits[0]["actor"].as_str().unwrap().starts_with("unix pid="), "{submits:#?}");
    assert_eq!(submits[1]["facts"]["error"], "POLICY_DENIED");
    for kind in ["settings", "grant", "revoke"] {
        assert!(!audit(&host, kind).is_empty(), "{kind}");
    }
    // Who has asked to detect the CLIs, and what was run for it.
    let probes: Vec<Value> = audit(&host, "probe").iter().map(|record| record["facts"].clone()).collect();
    assert!(probes.iter().any(|facts| facts["action"] == "refresh"), "{probes:#?}");
    let binary = json!(crate::support::binary());
    let ran = |facts: &&Value| facts["provider"] == "rehearsal" && facts["executable"] == binary;
    assert!(probes.iter().find(ran).is_some_and(|facts| facts["args"].is_array()), "{probes:#?}");
    let changed =
        audit(&host, "settings").iter().any(|record| record["facts"]["changed"][0] == "scheduler.per_provider");
    assert!(changed, "a changed file is in the audit trail");

    assert!(host.run(&["audit", "verify"]).ok().stdout.starts_with("intact: "));
    let exported = host.run(&["audit", "export", "-"]).ok().json_lines();
    let seqs: Vec<u64> = exported.iter().map(|record| record["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    let file = host.work().join("audit.jsonl");
    host.run(&["audit", "export", "audit.jsonl"]).ok();
    assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), exported.len());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    fs::write(&file, "old").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    host.run(&["audit", "export", "audit.jsonl"]).code(2);
    assert_eq!(fs::read_to_string(&file).unwrap(), "old");
    host.run(&["audit", "export", "--force", "audit.jsonl"]).ok();
    assert!(fs::read_to_string(&file).unwrap().lines().count() >= exported.len());

    // Audit records outlive their runs.
    host.run(&["retention", "set", "--megabytes", "1"]).ok();
    host.run(&["run", "rehearsal", "BIG 990"]).ok();
    host.run(&["run", "rehearsal", "SAY newer"]).ok();
    host.run(&["retention", "apply"]).ok();
    assert_eq!(host.call("get_run", &json!({"runId": run})).unwrap_err().kind(), "NOT_FOUND");
    assert_eq!(host.run(&["audit", "list", "--run", &run, "--json"]).ok().json().as_array().unwrap().len(), 3);

    host.stop();
    let database = rusqlite::Connection::open(host.home().join("data/ostler.db")).unwrap();
    database.execute("UPDATE audit_log SET actor = 'host' WHERE seq = 2", []).unwrap();
    drop(database);
    let verdict = host.run(&["audit", "verify"]).code(1);
    assert!(verdict.stdout.contains("NOT intact: record 2: "), "{}", verdict.stdout);
    let verdict = host.run(&["audit", "verify", "--json"]).code(1).json();
    assert_eq!((&verdict["intact"], &verdict["brokenAt"]), (&json!(false), &json!(2)));
    host.run(&["audit", "prune", "--older-than", "0"]).code(7);
}

#[test]
fn intact_audit_trail_is_pruned_and_continues() {
    let host = TestHost::granted("");
    host.ensure_running();
    host.run(&["audit", "prune", "--older-than", "0"]).ok();
    // The host may detect an installed CLI at any time.
    let records = || {
        let mut records = host.run(&["audit", "export", "-"]).ok().json_lines();
        records.retain(|record| record["kind"] != "probe");
        records
    };
    let left = records();
    assert_eq!((left.len(), &left[0]["kind"]), (1, &json!("audit")), "{left:#?}");
    host.run(&["grants", "revoke"]).ok();
    assert_eq!(records().len(), 2);
    assert!(host.run(&["audit", "verify"]).ok().stdout.starts_with("intact: "));
    host.stop();
    host.ensure_running();
    host.run(&["audit", "verify"]).ok();
}

/// Only the owner can read the log, even if the mode of the folder changes later.
#[test]
fn log_is_readable_by_its_owner_only() {
    let host = TestHost::new();
    host.ensure_running();
    let mut files = 0;
    for entry in fs::read_dir(host.home().join("log")).unwrap().flatten() {
        if entry.file_type().unwrap().is_file() {
            files += 1;
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
        }
    }
    assert!(files > 0);
}

/// While processes of a run call again and again, the user is served and the log stays short.
#[test]
fn user_is_served_while_processes_of_runs_are_refused() {
    let host = TestHost::granted("");
    host.ensure_running();
    let run = host.detach(&[
        "rehearsal",
        &format!(
            "RUN while :; do {} --home {} --no-start status >/dev/null 2>&1; done",
            crate::support::binary().display(),
            host.home().display()
        ),
    ]);
    let mut follower = host.follow(&["logs", "--json", "-f", &run]);
    follower.wait_for("the start", |event| event["type"] == "run.started");
    follower.kill();
    for _ in 0..20 {
        host.call("get_status", &json!({})).unwrap();
        let mut stream = UnixStream::connect(host.socket()).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    host.run(&["cancel", &run]).ok();
    assert!(host.log().lines().filter(|line| line.contains("unix socket were refused")).count() <= 2);
    assert!(audit(&host, "refused").len() <= 2);
}
