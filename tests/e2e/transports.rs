//! Transports that the command line does not use: standard input and output, WebSocket, and TCP.

use crate::support::duplex::{Duplex, Peer, Stdio, Web};
use crate::support::{TIMEOUT, TestHost, check_run_events};
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
};

/// A host on TCP, its address and its token.
fn on_tcp(more: &str) -> (TestHost, String, String) {
    let host = TestHost::granted(&format!("[http]\nlisten = \"127.0.0.1:0\"\n{more}"));
    let status = host.call("get_status", &json!({})).unwrap();
    let address = status["http"]["url"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
    let token = std::fs::read_to_string(status["http"]["tokenFile"].as_str().unwrap()).unwrap().trim().to_owned();
    (host, address, token)
}

/// Sends a request as it stands and gives the status and the whole answer.
fn raw(address: &str, head: &[&str], body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut request = head.join("\r\n");
    if !body.is_empty() {
        request.push_str(&format!("\r\ncontent-length: {}", body.len()));
    }
    write!(stream, "{request}\r\nconnection: close\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

/// Starts and follows a run over one connection, as every transport with open connections must support.
fn a_run_over<D: Duplex>(peer: &mut Peer<D>, host: &TestHost) {
    let everything = peer.call("subscribe", json!({}));
    let started = peer.call("start_run", json!({"provider": "rehearsal", "prompt": "SAY over it", "cwd": host.work()}));
    let run = started["runId"].clone();
    let of_all = peer.events_until("run.completed");
    check_run_events(&of_all);
    assert!(of_all.iter().all(|event| event["subscriptionId"] == everything["subscriptionId"]), "{of_all:#?}");
    assert!(of_all.iter().all(|event| event["cursor"].as_u64() > everything["cursor"].as_u64()));
    peer.call("unsubscribe", json!([everything["subscriptionId"]]));
    let gone = peer.refused("unsubscribe", json!([everything["subscriptionId"]]));
    assert_eq!(gone["data"]["kind"], "NOT_FOUND");

    // Again from storage: the same events, each once.
    let again = peer.call("subscribe", json!({"runId": run}));
    let repeated = peer.events_until("run.completed");
    let cursors = |events: &[Value]| events.iter().map(|event| event["cursor"].clone()).collect::<Vec<_>>();
    assert_eq!(cursors(&repeated), cursors(&of_all));
    let middle = of_all[of_all.len() / 2]["cursor"].as_u64().unwrap();
    peer.call("subscribe", json!({"runId": run, "after": middle, "types": ["run.completed"]}));
    let rest = peer.events_until("run.completed");
    assert_eq!(rest.len(), 1);
    peer.call("unsubscribe", json!({"subscriptionId": again["subscriptionId"]}));

    let never = peer.refused("subscribe", json!({"after": 9_000_000_000_u64}));
    assert_eq!(never["data"]["kind"], "CONFLICT");
    let nobody = peer.refused("subscribe", json!({"runId": "0199c0de-0000-7000-8000-000000000000"}));
    assert_eq!(nobody["data"]["kind"], "NOT_FOUND");
}

/// A slow call does not delay a fast one.
fn calls_overtake<D: Duplex>(peer: &mut Peer<D>, host: &TestHost) {
    let slow = json!({"provider": "rehearsal", "prompt": "SLOW 300", "cwd": host.work()});
    let run = peer.call("start_run", slow)["runId"].clone();
    peer.call("subscribe", json!({"runId": run}));
    peer.events_until("run.started");
    let cancel = peer.begin("cancel_run", json!([run]));
    let status = peer.begin("get_status", json!({}));
    assert_eq!(peer.answer(status)["result"]["running"], 1);
    assert_eq!(peer.answer(cancel)["result"]["status"], "canceled");
    peer.events_until("run.canceled");
}

#[test]
fn run_works_over_standard_input_and_output() {
    let host = TestHost::granted("");
    let mut peer = Stdio::open(&host);
    a_run_over(&mut peer, &host);
    calls_overtake(&mut peer, &host);
    assert_eq!(peer.call("rpc.discover", json!({}))["openrpc"], "1.2.6");

    // A call before the end of the input is answered after it.
    let last = peer.begin("list_runs", json!({"limit": 1}));
    peer.connection.close();
    assert_eq!(peer.answer(last)["result"]["total"], 2);
    assert_eq!(peer.event(), None);
    assert!(peer.connection.wait().success());
}

#[test]
fn invalid_request_is_answered_and_the_connection_continues() {
    let host = TestHost::new();
    let input = b"nonsense\n\n[]\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"get_state\"}\r\n\xff\xfe\n\
        [{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"get_status\"},{\"jsonrpc\":\"2.0\",\"method\":\"get_status\"}]";
    let done = host.run_with_input(&["rpc", "--stdio"], input).ok();
    let answers = done.json_lines();
    let codes: Vec<i64> = answers.iter().filter_map(|answer| answer["error"]["code"].as_i64()).collect();
    assert_eq!(codes.iter().filter(|code| **code == -32700).count(), 2, "{answers:#?}");
    assert!(codes.contains(&-32600) && codes.contains(&-32601), "{codes:?}");
    let batch = answers.iter().find(|answer| answer.is_array()).unwrap();
    assert_eq!(batch.as_array().unwrap().len(), 1, "a notification is not answered");
}

#[test]
fn clients_see_the_end_of_the_host() {
    let host = TestHost::granted("");
    let mut peer = Stdio::open(&host);
    peer.call("subscribe", json!({}));
    let mut web = Web::over_socket(&host);
    web.call("get_status", json!({}));
    host.run(&["stop"]).ok();
    while peer.event().is_some() {}
    assert_eq!(peer.connection.wait().code(), Some(74));
    assert_eq!(web.event(), None);
}

#[test]
fn run_works_over_a_websocket_on_the_socket() {
    let host = TestHost::granted("");
    host.ensure_running();
    let mut peer = Web::over_socket(&host);
    a_run_over(&mut peer, &host);
    calls_overtake(&mut peer, &host);
    // Many connections at once, each with its own subscription numbers.
    let mut others: Vec<_> = (0..20).map(|_| Web::over_socket(&host)).collect();
    for other in &mut others {
        assert_eq!(other.call("subscribe", json!({}))["subscriptionId"], 1);
    }
    assert_eq!(host.call("get_status", &json!({})).unwrap()["subscribers"], 22);
    drop(others);
    crate::support::wait_until("the streams of closed connections end", TIMEOUT, || {
        (host.call("get_status", &json!({})).unwrap()["subscribers"] == 2).then_some(())
    });
}

#[test]
fn number_of_streams_per_connection_is_bounded() {
    let host = TestHost::new();
    host.ensure_running();
    let mut peer = Web::over_socket(&host);
    for _ in 0..64 {
        peer.call("subscribe", json!({}));
    }
    assert_eq!(peer.refused("subscribe", json!({}))["data"]["kind"], "CONFLICT");
    peer.call("unsubscribe", json!([1]));
    peer.call("subscribe", json!({}));
}

#[test]
fn subscribe_over_a_single_request_is_refused() {
    let host = TestHost::new();
    host.ensure_running();
    let error = host.call("subscribe", &json!({})).unwrap_err();
    assert_eq!(error.kind(), "CONFLICT");
    assert!(error.text().contains("/events"), "{}", error.text());
}

#[test]
fn too_long_websocket_message_is_refused_unread() {
    let host = TestHost::new();
    host.ensure_running();
    // The header of a masked text frame of 100 MiB, without its payload.
    let mut frame = vec![0x81, 0x80 | 127];
    frame.extend_from_slice(&(100_u64 << 20).to_be_bytes());
    frame.extend_from_slice(&[1, 2, 3, 4]);
    let answer = after_upgrade(&host, "/ws", WEBSOCKET, &frame);
    assert_eq!(answer.first(), Some(&0x88), "a close frame: {answer:?}");
    assert_eq!(answer.get(2..4), Some(1009_u16.to_be_bytes().as_slice()), "{answer:?}");
    host.call("get_status", &json!({})).unwrap();
}

/// A frame as a client sends it: short, and masked with zeros.
fn client_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    frame
}

const TEXT: u8 = 1;
const CLOSE: u8 = 8;

/// Reads one short frame of the host: its opcode and its payload.
fn host_frame(stream: &mut impl Read) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    assert!(head[1] < 126, "a short frame: {head:?}");
    let mut payload = vec![0; head[1].into()];
    stream.read_exact(&mut payload).unwrap();
    (head[0] & 0x0f, payload)
}

/// The test process writes the lock file of a starting host.
#[test]
fn status_shows_a_starting_host_and_clients_wait_for_it() {
    let host = TestHost::new();
    let data = host.home().join("data");
    std::fs::create_dir_all(&data).unwrap();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let ticks: u64 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap();
    let lock = data.join("host.lock");
    let write_lock = |starting: Value| {
        let holder = json!({"pid": std::process::id(), "version": "0", "start_ticks": ticks, "starting": starting});
        std::fs::write(&lock, format!("{holder}\n")).unwrap();
    };
    write_lock(json!("compiling plugins (3 of 6)"));
    let done = host.run(&["status"]).code(5);
    assert!(done.stdout.contains("a host is starting") && done.stdout.contains("(3 of 6)"), "{}", done.stdout);
    let status: Value = serde_json::from_str(&host.run(&["--json", "status"]).code(5).stdout).unwrap();
    assert_eq!((&status["state"], &status["running"]), (&json!("starting"), &json!(false)));
    // Meanwhile no command starts another host; as soon as the host is not starting any more, a waiting command does.
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| host.run(&["runs"]).ok());
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(!host.socket().exists());
        write_lock(Value::Null);
        waiting.join().unwrap();
    });
    host.run(&["status"]).ok();
}

/// A cron job has no runtime folder, a login session has one: both find the same host.
#[test]
fn host_of_a_home_with_a_long_path_is_found_from_any_environment() {
    let host = TestHost::new();
    let home = host.root().join("h".repeat(120));
    let status = |variables: &[(&str, &str)]| {
        let mut command = host.command(&["status", "--json"]);
        command.env("OSTLER_HOME", &home).envs(variables.iter().copied());
        let done = host.finish(command).ok();
        serde_json::from_str::<Value>(&done.stdout).unwrap()
    };
    let mut start = host.command(&["runs"]);
    start.env("OSTLER_HOME", &home).env("XDG_RUNTIME_DIR", host.root());
    host.finish(start).ok();
    let session = status(&[("XDG_RUNTIME_DIR", "/run/elsewhere")]);
    let cron = status(&[]);
    assert_eq!(session["pid"], cron["pid"]);
    let socket = std::path::Path::new(cron["socket"].as_str().unwrap());
    assert_eq!(socket, home.join("data/host.sock"));
    assert!(socket.exists());
    // Another program reaches the socket from its folder.
    let script = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('host.sock')";
    let mut python = std::process::Command::new("python3");
    python.args(["-c", script]).current_dir(socket.parent().unwrap());
    host.finish(python).ok();
    let mut stop = host.command(&["stop"]);
    stop.env("OSTLER_HOME", &home);
    host.finish(stop).ok();
    assert!(!socket.exists());
}

/// The code of the first block in this language on the page about clients.
fn example(language: &str) -> String {
    let page = include_str!("../../docs/clients.md");
    let (_, code) = page.split_once(&format!("```{language}\n")).unwrap();
    code.split_once("```").unwrap().0.to_owned()
}

#[test]
fn examples_of_the_page_about_clients_run_unchanged() {
    let host = TestHost::new();
    let mut folders = vec![std::path::Path::new(env!("CARGO_BIN_EXE_ostler")).parent().unwrap().to_owned()];
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    let has = |program: &str| folders.iter().any(|folder| folder.join(program).is_file());
    let path = std::env::join_paths(&folders).unwrap();
    for (language, file, program, needed) in [
        ("bash", "client.sh", "bash", &["curl", "jq"][..]),
        ("python", "client.py", "python3", &[]),
        ("js", "client.mjs", "node", &[]),
    ] {
        if let Some(missing) = needed.iter().chain([&program]).find(|program| !has(program)) {
            crate::support::print_skipped(&format!("the example in {language} needs {missing}"));
            continue;
        }
        let code = example(language);
        assert!((15..=32).contains(&code.lines().count()), "{language}: {} lines", code.lines().count());
        // Without these options, a shell continues after an error.
        host.file(file, &if language == "bash" { format!("set -euo pipefail\n{code}") } else { code });
        let like = host.command(&[]);
        let mut command = std::process::Command::new(program);
        command.arg(file).current_dir(host.work()).env_clear();
        command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("PATH", &path);
        let done = host.finish(command).ok();
        assert_eq!(done.stdout.trim(), "hello", "{language}: {}", done.stderr);
    }
}

#[test]
fn close_frame_of_a_client_is_answered_with_its_code() {
    let (host, address, token) = on_tcp("");
    let bearer = format!("host: {address}\r\nauthorization: Bearer {token}\r\n{WEBSOCKET}");
    for subscribed in [false, true] {
        for (sent, answered) in [
            (&[0x03, 0xe8][..], &[0x03, 0xe8][..]),
            (&[0x0f, 0xa0, b'b', b'y', b'e'], &[0x0f, 0xa0, b'b', b'y', b'e']),
            (&[], &[]),
        ] {
            let close = |mut stream: &mut dyn ByteStream| {
                if subscribed {
                    let call = br#"{"jsonrpc":"2.0","id":1,"method":"subscribe"}"#;
                    stream.write_all(&client_frame(TEXT, call)).unwrap();
                    assert_eq!(host_frame(&mut stream).0, TEXT);
                }
                stream.write_all(&client_frame(CLOSE, sent)).unwrap();
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).unwrap();
                let mut expected = vec![0x88, u8::try_from(answered.len()).unwrap()];
                expected.extend_from_slice(answered);
                assert_eq!(rest, expected, "subscribed: {subscribed}");
            };
            close(&mut upgraded(UnixStream::connect(host.socket()).unwrap(), "/ws", WEBSOCKET));
            close(&mut upgraded(TcpStream::connect(&address).unwrap(), "/ws", &bearer));
        }
    }
    // A close code that must not be sent.
    let rest = after_upgrade(&host, "/ws", WEBSOCKET, &client_frame(CLOSE, &1005_u16.to_be_bytes()));
    assert_eq!(rest.get(2..4), Some(1002_u16.to_be_bytes().as_slice()), "{rest:?}");
    // A frame that is not masked.
    let rest = after_upgrade(&host, "/ws", WEBSOCKET, &[0x81, 1, b'x']);
    assert_eq!(rest.get(2..4), Some(1002_u16.to_be_bytes().as_slice()), "{rest:?}");
}

#[test]
fn stopping_host_closes_a_websocket_with_code_1001() {
    let host = TestHost::granted("");
    host.ensure_running();
    let mut stream = upgraded(UnixStream::connect(host.socket()).unwrap(), "/ws", WEBSOCKET);
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| host.run(&["stop"]).ok());
        let (opcode, payload) = host_frame(&mut stream);
        assert_eq!((opcode, payload.get(..2)), (CLOSE, Some(1001_u16.to_be_bytes().as_slice())));
        stream.write_all(&client_frame(CLOSE, &payload)).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "{rest:?}");
        stopping.join().unwrap();
    });
}

/// A stream of either kind.
trait ByteStream: Read + Write {}

impl<S: Read + Write> ByteStream for S {}

/// Upgrades a connection, sends `more`, and reads the answer to the end of the connection.
fn after_upgrade(host: &TestHost, target: &str, headers: &str, more: &[u8]) -> Vec<u8> {
    let mut stream = upgraded(UnixStream::connect(host.socket()).unwrap(), target, headers);
    // A host that refuses the input may close the connection before it has read everything.
    let _ = stream.write_all(more);
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    rest
}

/// A connection after the answer to an upgrade request.
fn upgraded<S: Read + Write + SetTimeout>(mut stream: S, target: &str, headers: &str) -> S {
    stream.set_timeout();
    let host = if headers.starts_with("host: ") { "" } else { "host: ostler\r\n" };
    let head = format!("GET {target} HTTP/1.1\r\n{host}connection: upgrade\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    stream
}

trait SetTimeout {
    fn set_timeout(&self);
}

impl SetTimeout for UnixStream {
    fn set_timeout(&self) {
        self.set_read_timeout(Some(TIMEOUT)).unwrap();
    }
}

impl SetTimeout for TcpStream {
    fn set_timeout(&self) {
        self.set_read_timeout(Some(TIMEOUT)).unwrap();
    }
}

const WEBSOCKET: &str = "upgrade: websocket\r\nsec-websocket-version: 13\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

const LINES: &str = "upgrade: ostler-lines\r\n";

#[test]
fn unfinished_requests_are_closed_after_a_timeout() {
    if !crate::support::steerable() {
        return;
    }
    let mut host = TestHost::new();
    host.set("OSTLER_TEST_CLIENT_LIMIT_MS", "300");
    host.ensure_running();
    // Half a body, a part of a text frame, and half a line.
    let mut stream = UnixStream::connect(host.socket()).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.write_all(b"POST /rpc HTTP/1.1\r\nhost: ostler\r\ncontent-length: 100\r\n\r\n{\"jsonrpc\":").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    let rest = after_upgrade(&host, "/ws", WEBSOCKET, &[0x81, 0x80 | 10, 1, 2, 3, 4, 0x7a, 0x7a]);
    assert_eq!(rest.first(), Some(&0x88), "a close frame: {rest:?}");
    let rest = after_upgrade(&host, "/lines", LINES, b"{\"jsonrpc\": \"2.0\", ");
    let answer: Value = serde_json::from_slice(&rest).unwrap();
    assert_eq!(answer["error"]["code"], -32700, "{answer}");
    host.call("get_status", &json!({})).unwrap();
}

#[test]
fn invalid_frames_on_open_connections_get_the_right_error_code() {
    let host = TestHost::new();
    host.ensure_running();
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"get_status"}"#;
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let many = format!("[{}]", vec![call; 10_000].join(","));
    let mut web = Web::over_socket(&host);
    for (frame, code) in [("{", -32700), (deep.as_str(), -32700), (many.as_str(), -32600), ("7", -32600)] {
        web.connection.0.send(tungstenite::Message::text(frame)).unwrap();
        let answer = web.connection.receive().unwrap();
        assert_eq!(answer["error"]["code"], code, "{answer}");
    }
    web.call("get_status", json!({}));
    let input = format!("{{\n{deep}\n{many}\n7\n{call}\n");
    let answers = host.run_with_input(&["rpc", "--stdio"], input.as_bytes()).ok().json_lines();
    let mut codes: Vec<i64> = answers.iter().filter_map(|answer| answer["error"]["code"].as_i64()).collect();
    codes.sort_unstable();
    assert_eq!((codes, answers.len()), (vec![-32700, -32700, -32600, -32600], 5), "{answers:#?}");

    // A masked text that is not valid UTF-8, and a line that never ends.
    let rest = after_upgrade(&host, "/ws", WEBSOCKET, &[0x81, 0x80 | 2, 0, 0, 0, 0, 0xff, 0xfe]);
    assert_eq!(rest.first(), Some(&0x88), "a close frame: {rest:?}");
    let host_pid = host.ensure_running();
    let before = crate::support::peak_memory(host_pid);
    let rest = after_upgrade(&host, "/lines", LINES, &vec![b'x'; 100 << 20]);
    assert!(String::from_utf8_lossy(&rest).contains("MiB"), "{}", String::from_utf8_lossy(&rest));
    // A frame has at most 48 MiB, and a buffer grows by doubling.
    let grown = crate::support::peak_memory(host_pid) - before;
    assert!(grown < 80 << 20, "the host grew by {grown} bytes");
}

#[test]
fn tcp_requires_the_token_and_an_allowed_origin() {
    let (host, address, token) = on_tcp("allowed_origins = [\"http://localhost:5173\"]\n");
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"get_status"}"#;
    let host_header = format!("host: {address}");
    let bearer = format!("authorization: Bearer {token}");
    let post = "POST /rpc HTTP/1.1";

    let (status, answer) = raw(&address, &[post, &host_header, &bearer], call);
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains("\"socket\""), "{answer}");
    let (status, answer) = raw(&address, &[post, &host_header], call);
    assert_eq!(status, 401, "{answer}");
    assert!(answer.to_ascii_lowercase().contains("www-authenticate: bearer"), "{answer}");
    for path in ["/healthz", "/events", "/ws", "/lines", "/nothing"] {
        assert_eq!(raw(&address, &[&format!("GET {path} HTTP/1.1"), &host_header], "").0, 401, "{path}");
    }
    assert_eq!(raw(&address, &[post, &host_header, "authorization: Bearer 0123"], call).0, 401);
    assert_eq!(raw(&address, &[post, "host: evil.example", &bearer], call).0, 403);
    assert_eq!(raw(&address, &[post, &host_header, &bearer, "origin: https://evil.example"], call).0, 403);
    let (status, answer) = raw(&address, &[post, &host_header, &bearer, "origin: http://localhost:5173"], call);
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains("access-control-allow-origin: http://localhost:5173"), "{answer}");
    let asks =
        ["OPTIONS /rpc HTTP/1.1", &host_header, "origin: http://localhost:5173", "access-control-request-method: POST"];
    let (status, answer) = raw(&address, &asks, "");
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains("access-control-allow-headers"), "{answer}");

    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(host.home().join("data/http.token")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    // A client on TCP cannot claim to be the command line.
    let run = json!({"jsonrpc": "2.0", "id": 1, "method": "start_run",
        "params": {"provider": "rehearsal", "prompt": "SAY hi", "cwd": host.work()}});
    let (_, answer) = raw(&address, &[post, &host_header, &bearer, "x-ostler-origin: cli"], &run.to_string());
    let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let run = body["result"]["runId"].as_str().unwrap().to_owned();
    host.wait_for_end(&run);
    assert_eq!(host.record(&run)["origin"], "http");
    let log = std::fs::read_dir(host.home().join("log")).unwrap();
    for file in log.filter_map(Result::ok) {
        assert!(!std::fs::read_to_string(file.path()).unwrap().contains(&token), "the token is in the log");
    }
}

#[test]
fn run_works_over_a_websocket_on_tcp() {
    let (host, address, token) = on_tcp("");
    let mut peer = Web::over_tcp(&address, &token);
    a_run_over(&mut peer, &host);
    calls_overtake(&mut peer, &host);
    let (mut stream, request) = (TcpStream::connect(&address).unwrap(), format!("ws://{address}/ws"));
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    assert!(tungstenite::client(request.as_str(), &mut stream).is_err(), "without the token");
}

#[test]
fn event_stream_works_over_tcp() {
    let (host, address, token) = on_tcp("");
    let run = host.detach(&["rehearsal", "SAY streamed"]);
    host.wait_for_end(&run);
    let get = format!("GET /events?runId={run}&follow=0 HTTP/1.1");
    let (status, answer) =
        raw(&address, &[&get, &format!("host: {address}"), &format!("authorization: Bearer {token}")], "");
    assert_eq!(status, 200);
    assert_eq!(answer.matches("event: run_event").count(), host.run_events(&run).len(), "{answer}");
}

#[test]
fn occupied_port_is_reported_and_the_socket_works() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let host = TestHost::granted(&format!("[http]\nlisten = \"{address}\"\n"));
    let status = host.call("get_status", &json!({})).unwrap();
    assert!(status["http"].is_null());
    let problems = status["problems"].to_string();
    assert!(problems.contains(&address.to_string()), "{problems}");
    assert_eq!(host.run(&["run", "rehearsal", "SAY still"]).ok().stdout, "still\n");
}

#[test]
fn public_address_requires_allow_remote() {
    let host = TestHost::with_config("[http]\nlisten = \"0.0.0.0:0\"\n");
    let done = host.run(&["status"]);
    assert_ne!(done.code, 0);
    let refused = host.run(&["runs"]).code(2);
    assert!(refused.stderr.contains("allow_remote"), "{}", refused.stderr);
    host.configure("[http]\nlisten = \"0.0.0.0:0\"\nallow_remote = true\n");
    let status = host.run(&["runs"]).ok();
    assert_eq!(status.code, 0);
}

#[test]
fn python_client_works_over_every_transport() {
    let Some(python) = crate::support::agent_cli("python3", "OSTLER_TEST_PYTHON") else { return };
    let (host, address, _) = on_tcp("");
    let client = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/smoke_client.py");
    // With the environment of a command of the test host: the client starts the host itself.
    let mut command = std::process::Command::new(python);
    for (name, value) in host.command(&[]).get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let done = command
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(client)
        .args([host.socket(), host.work()])
        .args(["--http", &format!("http://{address}"), "--token-file"])
        .arg(host.home().join("data/http.token"))
        .arg("--stdio")
        .arg(crate::support::binary())
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{stdout}{stderr}");
    assert_eq!(stdout.lines().count(), 5, "{stdout}");
}
