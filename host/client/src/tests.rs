#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::fake::{FakeHost, ReceivedRequest, Reply, refusal};
use super::*;
use ostler_protocol::methods::{METHODS, SubscribeParams};
use ostler_protocol::{ApiError, ErrorKind, Event, EventId, EventType, RunId};

const VERSION: &str = "1.2.3";

struct TestFolder {
    folder: tempfile::TempDir,
}

impl TestFolder {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("host.sock")
    }

    fn config(&self) -> ClientConfig {
        ClientConfig::new(self.socket(), VERSION)
    }

    /// A configuration whose host is a shell script.
    fn config_with_start(&self, script: &str) -> ClientConfig {
        let start = HostCommand {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            environment: vec![("FOLDER".into(), self.folder.path().into())],
        };
        ClientConfig { start: Some(start), ..self.config() }
    }
}

fn health_of(version: &str) -> Reply {
    Reply::Json(200, json!({"version": version, "pid": 77, "protocol": ostler_protocol::methods::PROTOCOL}))
}

/// Answers `/healthz`, and everything else with `others`.
fn healthy(
    others: impl Fn(&ReceivedRequest) -> Reply + Send + Sync + 'static,
) -> impl Fn(&ReceivedRequest) -> Reply + Send + Sync {
    move |seen| if seen.target == "/healthz" { health_of(VERSION) } else { others(seen) }
}

fn event(cursor: u64, kind: EventType) -> Event {
    Event {
        cursor,
        event_id: EventId::generate(),
        run_id: None,
        conversation_id: None,
        seq: Some(cursor),
        kind,
        payload: json!({"text": "line\nline", "redactions": 0}),
        timestamp: "2026-03-05T12:00:00Z".parse().unwrap(),
    }
}

fn frame(cursor: u64) -> String {
    let data = serde_json::to_string(&event(cursor, EventType::ChunkStdout)).unwrap();
    format!("id: {cursor}\nevent: run_event\ndata: {data}\n\n")
}

fn of_run() -> SubscribeParams {
    SubscribeParams { run_id: Some(RunId::generate()), ..SubscribeParams::default() }
}

/// The cursors of a stream, with `0` for each interruption, until it ends with an error.
async fn cursors(stream: &mut EventStream, at_most: usize) -> (Vec<u64>, Option<ClientError>) {
    let mut cursors = Vec::new();
    while cursors.len() < at_most {
        match stream.next().await {
            Ok(StreamItem::Event(event)) => cursors.push(event.cursor),
            Ok(StreamItem::Interrupted(_)) => cursors.push(0),
            Err(error) => return (cursors, Some(error)),
        }
    }
    (cursors, None)
}

#[tokio::test]
async fn requests_carry_version_and_origin() {
    let test_folder = TestFolder::new();
    let host = FakeHost::start(&test_folder.socket(), healthy(|_| Reply::Result(json!([]))));
    let client = Client::connect(test_folder.config()).await.unwrap();
    assert_eq!(client.host().pid, 77);
    assert!(client.list_workspace_grants().await.unwrap().is_empty());
    let requests = host.requests();
    assert_eq!(requests.len(), 2);
    for request in requests {
        assert_eq!(request.headers["x-ostler-origin"], "cli");
        assert_eq!(request.headers["x-ostler-version"], VERSION);
    }
}

#[tokio::test]
async fn returns_complete_errors_of_the_host() {
    let test_folder = TestFolder::new();
    let _host = FakeHost::start(
        &test_folder.socket(),
        healthy(|seen| match seen.what() {
            "list_runs" => refusal("NOT_FOUND", "there is no such thing"),
            "list_plugins" => Reply::Json(200, json!({"id": 1, "error": {"code": -32601, "message": "no method"}})),
            "get_status" => Reply::Json(413, json!({"error": {"kind": "INVALID_PARAMS", "message": "too large"}})),
            _ => Reply::Json(500, json!("what?")),
        }),
    );
    let client = Client::connect(test_folder.config()).await.unwrap();
    let error = |error: ClientError| ApiError::from(error);
    let missing = error(client.list_runs(&Default::default()).await.unwrap_err());
    assert_eq!((missing.kind, missing.message.as_str()), (ErrorKind::NotFound, "there is no such thing"));
    assert_eq!(error(client.list_plugins().await.unwrap_err()).message, "no method");
    assert_eq!(error(client.get_status().await.unwrap_err()).kind, ErrorKind::InvalidParams);
    let odd = error(client.list_workspace_grants().await.unwrap_err());
    assert!(odd.message.contains("500") && odd.kind == ErrorKind::Internal, "{odd:?}");
}

/// For every method: a connection that breaks after the request, and one that breaks within the answer.
#[tokio::test]
async fn broken_connection_repeats_only_idempotent_calls() {
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"jsonrpc\"".to_vec();
    for answer in [Vec::new(), half] {
        let test_folder = TestFolder::new();
        let host = FakeHost::start(&test_folder.socket(), healthy(move |_| Reply::Bytes(answer.clone())));
        let client = Client::connect(test_folder.config()).await.unwrap();
        let mut expected = Vec::new();
        for method in METHODS {
            let error = client.call::<_, Value>(method.name, &json!({})).await.unwrap_err();
            assert!(
                matches!(error, ClientError::Broken { uncertain, .. } if uncertain != method.idempotent),
                "{method:?}: {error:?}"
            );
            assert_eq!(ApiError::from(error).retryable, method.idempotent, "{method:?}");
            expected.extend(std::iter::repeat_n(method.name, if method.idempotent { 2 } else { 1 }));
        }
        assert_eq!(host.asked(), expected);
    }
}

#[tokio::test]
async fn broken_submit_is_uncertain() {
    let test_folder = TestFolder::new();
    let _host = FakeHost::start(&test_folder.socket(), healthy(|_| Reply::Bytes(Vec::new())));
    let client = Client::connect(test_folder.config()).await.unwrap();
    let error = ApiError::from(client.start_run(&json!({})).await.unwrap_err());
    assert!(error.message.contains("not known whether the host did what was asked"), "{error:?}");
    assert!(!error.retryable && error.hint.unwrap().contains("list_runs"));
}

#[tokio::test]
async fn reports_invalid_answers() {
    let test_folder = TestFolder::new();
    let count = AtomicUsize::new(0);
    let _host = FakeHost::start(
        &test_folder.socket(),
        healthy(move |_| match count.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::Json(200, json!({"jsonrpc": "2.0", "id": 1})),
            1 => Reply::Result(json!({"plugins": 7})),
            2 => Reply::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnope".to_vec()),
            _ => Reply::Bytes(b"220 mail ready\r\n".to_vec()),
        }),
    );
    let client = Client::connect(test_folder.config()).await.unwrap();
    for _ in 0..3 {
        let error = client.list_plugins().await.unwrap_err();
        assert!(matches!(error, ClientError::Protocol(_)), "{error:?}");
    }
    assert!(matches!(client.list_plugins().await.unwrap_err(), ClientError::Broken { .. }));
}

#[tokio::test]
async fn connect_without_start_command_starts_nothing() {
    let test_folder = TestFolder::new();
    let error = Client::connect(test_folder.config()).await.unwrap_err();
    assert!(matches!(error, ClientError::NotRunning { .. }), "{error:?}");
    // The same for the socket of a dead host.
    drop(std::os::unix::net::UnixListener::bind(test_folder.socket()).unwrap());
    let error = Client::connect(test_folder.config()).await.unwrap_err();
    assert!(matches!(error, ClientError::NotRunning { .. }), "{error:?}");
    assert_eq!(ApiError::from(error).kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn reports_busy_host_of_another_version() {
    let test_folder = TestFolder::new();
    let host = FakeHost::start(&test_folder.socket(), |seen| match seen.what() {
        "/healthz" => health_of("9.9.9"),
        _ => refusal("CONFLICT", "two runs are running"),
    });
    let error = Client::connect(test_folder.config_with_start("exit 1")).await.unwrap_err();
    assert_eq!(host.asked(), ["stop"]);
    assert_eq!(host.requests()[1].body["params"], json!({"ifIdle": true}));
    let api_error = ApiError::from(error);
    assert_eq!(api_error.kind, ErrorKind::Conflict);
    assert_eq!(api_error.message, "a host of version 9.9.9 (pid 77) is running and busy; this is ostler 1.2.3");

    // If none may be started, the other host is not asked to end.
    let error = Client::connect(test_folder.config()).await.unwrap_err();
    assert!(matches!(error, ClientError::OtherVersion { .. }), "{error:?}");
    assert_eq!(host.asked(), ["stop"]);
    // A client that accepts any version can connect.
    let client = Client::connect(ClientConfig { any_version: true, ..test_folder.config() }).await.unwrap();
    assert_eq!(client.host().version, "9.9.9");
}

/// Script that requests the start of a host; see [`successor`].
const START_SUCCESSOR: &str = "touch $FOLDER/started; while ! [ -e $FOLDER/started.ready ]; do sleep 0.01; done; \
                               echo 'ostler: ready' >&2; exec sleep 20";

/// Starts a fake host when [`START_SUCCESSOR`] runs. It answers every call with `answer`.
fn successor(test_folder: &TestFolder, answer: Value) -> tokio::task::JoinHandle<FakeHost> {
    let (socket, started) = (test_folder.socket(), test_folder.folder.path().join("started"));
    tokio::spawn(async move {
        while !started.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let host = FakeHost::start(&socket, healthy(move |_| Reply::Result(answer.clone())));
        std::fs::write(started.with_extension("ready"), "").unwrap();
        host
    })
}

#[tokio::test]
async fn replaces_idle_host_of_another_version() {
    let test_folder = TestFolder::new();
    let old = FakeHost::start(&test_folder.socket(), |seen| match seen.what() {
        "/healthz" => health_of("9.9.9"),
        _ => Reply::AndDie(Box::new(Reply::Result(json!({"stopping": true, "running": 0, "waiting": 0})))),
    });
    let successor = successor(&test_folder, json!([]));
    let client = Client::connect(test_folder.config_with_start(START_SUCCESSOR)).await.unwrap();
    assert_eq!(client.host().version, VERSION);
    assert_eq!(old.asked(), ["stop"]);
    drop(successor.await.unwrap());
}

/// A host that accepts no runs, and ends after the third request for `/healthz`.
fn ending_host(test_folder: &TestFolder) -> FakeHost {
    let health_requests = AtomicUsize::new(0);
    let refusal = json!({"kind": "CONFLICT", "message": "the host is about to end", "retryable": true});
    FakeHost::start(&test_folder.socket(), move |seen| match seen.what() {
        "/healthz" => {
            let count = health_requests.fetch_add(1, Ordering::Relaxed);
            let health = json!({
                "version": VERSION, "protocol": ostler_protocol::methods::PROTOCOL, "pid": 77, "ending": count > 0,
            });
            let reply = Reply::Json(200, health);
            if count < 3 { reply } else { Reply::AndDie(Box::new(reply)) }
        }
        _ => Reply::Json(200, json!({"id": 1, "error": {"code": -32010, "message": "no", "data": refusal}})),
    })
}

#[tokio::test]
async fn submit_waits_for_the_successor_of_an_ending_host() {
    let test_folder = TestFolder::new();
    let ending = ending_host(&test_folder);
    let run = RunId::generate();
    let successor = successor(&test_folder, json!({"runId": run}));
    let client = Client::connect(test_folder.config_with_start(START_SUCCESSOR)).await.unwrap();
    assert_eq!(client.start_run(&json!({"prompt": "again"})).await.unwrap().run_id, run);
    assert_eq!(ending.asked(), ["start_run"]);
    let successor = successor.await.unwrap();
    assert_eq!(successor.asked(), ["start_run"]);
    let submitted = successor.requests().into_iter().find(|seen| seen.what() == "start_run").unwrap();
    assert_eq!(submitted.body["params"], json!({"prompt": "again"}));
}

#[tokio::test]
async fn returns_refusal_of_ending_host_if_none_may_be_started() {
    let test_folder = TestFolder::new();
    let ending = ending_host(&test_folder);
    let client = Client::connect(test_folder.config()).await.unwrap();
    let api_error = ApiError::from(client.start_run(&json!({})).await.unwrap_err());
    assert_eq!((api_error.kind, api_error.message.as_str()), (ErrorKind::Conflict, "the host is about to end"));
    assert_eq!(ending.asked(), ["start_run"]);
}

#[tokio::test]
async fn returns_conflict_of_a_host_that_is_not_ending_at_once() {
    let test_folder = TestFolder::new();
    let refusal = json!({"kind": "CONFLICT", "message": "it is busy with that", "retryable": true});
    let answer = json!({"id": 1, "error": {"code": -32010, "message": "no", "data": refusal}});
    let host = FakeHost::start(&test_folder.socket(), healthy(move |_| Reply::Json(200, answer.clone())));
    let client = Client::connect(test_folder.config_with_start("exit 1")).await.unwrap();
    let api_error = ApiError::from(client.start_run(&json!({})).await.unwrap_err());
    assert_eq!(api_error.message, "it is busy with that");
    assert_eq!(host.asked(), ["start_run"]);
}

#[tokio::test]
async fn reports_why_a_host_did_not_start() {
    let test_folder = TestFolder::new();
    let script = r#"echo starting >&2; echo '{"error":{"kind":"IO","message":"the data folder is read-only","hint":"make it writable"}}' >&2; exit 74"#;
    let api_error = ApiError::from(Client::connect(test_folder.config_with_start(script)).await.unwrap_err());
    assert_eq!(api_error.kind, ErrorKind::Io);
    assert_eq!(api_error.message, "failed to start the host: the data folder is read-only");
    assert_eq!(api_error.hint.as_deref(), Some("make it writable"));

    let api_error = ApiError::from(
        Client::connect(test_folder.config_with_start("echo 'segfault' >&2; kill -9 $$")).await.unwrap_err(),
    );
    assert!(api_error.message.contains("signal: 9") && api_error.message.contains("segfault"), "{api_error:?}");

    let mut config = test_folder.config_with_start("");
    config.start.as_mut().unwrap().program = Path::new("/nowhere/ostler").into();
    let api_error = ApiError::from(Client::connect(config).await.unwrap_err());
    assert_eq!(api_error.kind, ErrorKind::Io);
    assert!(api_error.message.contains("/nowhere/ostler"), "{api_error:?}");
}

#[tokio::test]
async fn start_limit_counts_from_the_last_step_of_the_host() {
    static SEEN: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());
    let test_folder = TestFolder::new();
    let limit = std::time::Duration::from_millis(700);
    let steps = "for step in 1 2 3 4; do echo \"ostler: starting: step $step\" >&2; sleep 0.4; done;";
    let mut config = test_folder.config_with_start(&format!("{steps} {START_SUCCESSOR}"));
    config.start_limit = limit;
    config.progress = Some(|step| SEEN.lock().unwrap().push(step.to_owned()));
    let successor = successor(&test_folder, json!([]));
    let began = std::time::Instant::now();
    Client::connect(config).await.unwrap();
    assert!(began.elapsed() > 2 * limit, "{:?}", began.elapsed());
    assert_eq!(*SEEN.lock().unwrap(), ["step 1", "step 2", "step 3", "step 4"]);
    drop(successor.await.unwrap());

    let test_folder = TestFolder::new();
    let mut config = test_folder.config_with_start("echo 'ostler: starting: step 1' >&2; exec sleep 60");
    config.start_limit = std::time::Duration::from_millis(100);
    let api_error = ApiError::from(Client::connect(config).await.unwrap_err());
    assert!(api_error.message.contains("not ready in time"), "{api_error:?}");
    assert!(api_error.hint.unwrap().contains("try again"));
}

#[tokio::test]
async fn detects_end_of_host_while_its_pipe_stays_open() {
    let test_folder = TestFolder::new();
    // A process that outlives the host keeps its standard error open.
    let script =
        r#"sleep 30 & echo $! > $FOLDER/pid; echo '{"error":{"kind":"PLUGIN_FAILED","message":"no"}}' >&2; exit 70"#;
    let api_error = ApiError::from(Client::connect(test_folder.config_with_start(script)).await.unwrap_err());
    assert_eq!(api_error.kind, ErrorKind::PluginFailed);
    let pid = std::fs::read_to_string(test_folder.folder.path().join("pid")).unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn connects_to_the_host_that_won_the_lock() {
    let test_folder = TestFolder::new();
    let socket = test_folder.socket();
    let winner = test_folder.folder.path().join("lost");
    let host = tokio::spawn(async move {
        while !winner.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        FakeHost::start(&socket, healthy(|_| Reply::Result(json!([]))))
    });
    let script = r#"touch $FOLDER/lost; echo '{"error":{"kind":"CONFLICT","message":"another host holds the lock"}}' >&2; exit 7"#;
    let client = Client::connect(test_folder.config_with_start(script)).await.unwrap();
    assert_eq!(client.host().version, VERSION);
    drop(host.await.unwrap());
}

#[tokio::test]
async fn broken_stream_continues_after_the_last_event() {
    let test_folder = TestFolder::new();
    let count = AtomicUsize::new(0);
    let host = FakeHost::start(
        &test_folder.socket(),
        healthy(move |_| match count.fetch_add(1, Ordering::Relaxed) {
            // Ends within an event.
            0 => Reply::EventsThenBreak(vec![frame(5), frame(7), "id: 9\nevent: run_ev".to_owned()]),
            // A host that ignores the header repeats events.
            1 => Reply::EventsThenBreak(vec![": alive\n\n".to_owned(), frame(7), frame(9)]),
            _ => Reply::EventsThenWait(vec![frame(11)]),
        }),
    );
    let client = Client::connect(test_folder.config()).await.unwrap();
    let params = of_run();
    let mut stream = client.follow(params.clone());
    let (cursors, error) = cursors(&mut stream, 6).await;
    assert!(error.is_none());
    assert_eq!(cursors, [5, 7, 0, 9, 0, 11]);
    let seen: Vec<ReceivedRequest> =
        host.requests().into_iter().filter(|seen| seen.target.starts_with("/events")).collect();
    assert_eq!(seen[0].target, format!("/events?runId={}", params.run_id.unwrap()));
    let ids: Vec<Option<&str>> =
        seen.iter().map(|seen| seen.headers.get("last-event-id").map(String::as_str)).collect();
    assert_eq!(ids, [None, Some("7"), Some("9")]);
}

#[tokio::test]
async fn event_payload_arrives_unchanged() {
    let test_folder = TestFolder::new();
    let _host = FakeHost::start(&test_folder.socket(), healthy(|_| Reply::EventsThenWait(vec![frame(3)])));
    let client = Client::connect(test_folder.config()).await.unwrap();
    let Ok(StreamItem::Event(got)) = client.follow(of_run()).next().await else { panic!("no event") };
    assert_eq!(got.payload, event(3, EventType::ChunkStdout).payload);
    assert_eq!(got.kind, EventType::ChunkStdout);
}

#[tokio::test]
async fn restarts_a_host_that_died() {
    let test_folder = TestFolder::new();
    let first = FakeHost::start(
        &test_folder.socket(),
        healthy(|_| Reply::AndDie(Box::new(Reply::EventsThenBreak(vec![frame(1)])))),
    );
    let client = Client::connect(test_folder.config_with_start(
        "touch $FOLDER/started; while ! [ -e $FOLDER/started.ready ]; do sleep 0.01; done; echo 'ostler: ready' >&2; exec sleep 20",
    ))
    .await
    .unwrap();
    let (socket, started) = (test_folder.socket(), test_folder.folder.path().join("started"));
    let second = tokio::spawn(async move {
        while !started.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let host = FakeHost::start(&socket, healthy(|_| Reply::EventsThenWait(vec![frame(1), frame(2)])));
        std::fs::write(started.with_extension("ready"), "").unwrap();
        host
    });
    let mut stream = client.follow(of_run());
    assert_eq!(cursors(&mut stream, 3).await.0, [1, 0, 2]);
    drop(first);
    drop(second.await.unwrap());
}

#[tokio::test]
async fn does_not_restart_a_host_that_was_stopped() {
    let test_folder = TestFolder::new();
    let _host =
        FakeHost::start(&test_folder.socket(), healthy(|_| Reply::AndDie(Box::new(Reply::Events(vec![frame(1)])))));
    let client = Client::connect(test_folder.config_with_start("touch $FOLDER/started; exit 1")).await.unwrap();
    let (cursors, error) = cursors(&mut client.follow(of_run()), 9).await;
    assert_eq!(cursors, [1]);
    assert!(matches!(error, Some(ClientError::Lost { .. })), "{error:?}");
    assert!(!test_folder.folder.path().join("started").exists());
}

#[tokio::test]
async fn try_list_queue_starts_no_host() {
    let test_folder = TestFolder::new();
    let reply = |_: &_| Reply::AndDie(Box::new(Reply::Json(200, json!({"result": []}))));
    let _host = FakeHost::start(&test_folder.socket(), healthy(reply));
    let client = Client::connect(test_folder.config_with_start("touch $FOLDER/started; exit 1")).await.unwrap();
    assert!(client.try_list_queue().await.unwrap().is_empty());
    assert!(client.try_list_queue().await.is_err());
    assert!(!test_folder.folder.path().join("started").exists());
}

#[tokio::test]
async fn gives_up_after_repeated_broken_connections() {
    let test_folder = TestFolder::new();
    let _host = FakeHost::start(&test_folder.socket(), healthy(|_| Reply::EventsThenBreak(vec![])));
    let client = Client::connect(test_folder.config()).await.unwrap();
    let (cursors, error) = cursors(&mut client.follow(of_run()), 99).await;
    assert!(cursors.len() < 10, "{cursors:?}");
    let api_error = ApiError::from(error.unwrap());
    assert!(api_error.message.starts_with("lost the host") && api_error.kind == ErrorKind::Io, "{api_error:?}");
}

#[tokio::test]
async fn refused_subscription_and_invalid_event_end_the_stream() {
    let test_folder = TestFolder::new();
    let count = AtomicUsize::new(0);
    let _host = FakeHost::start(
        &test_folder.socket(),
        healthy(move |_| match count.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::Json(404, json!({"error": {"kind": "NOT_FOUND", "message": "there is no run"}})),
            1 => Reply::EventsThenWait(vec!["event: run_event\ndata: {\"cursor\":\"x\"}\n\n".to_owned()]),
            _ => {
                Reply::EventsThenWait(vec!["event: error\ndata: {\"kind\":\"IO\",\"message\":\"disk\"}\n\n".to_owned()])
            }
        }),
    );
    let client = Client::connect(test_folder.config()).await.unwrap();
    let mut ends = Vec::new();
    for _ in 0..3 {
        let (cursors, error) = cursors(&mut client.follow(of_run()), 9).await;
        assert!(cursors.is_empty());
        ends.push(ApiError::from(error.unwrap()).kind);
    }
    assert_eq!(ends, [ErrorKind::NotFound, ErrorKind::Internal, ErrorKind::Io]);
}

#[tokio::test]
async fn more_events_than_are_buffered_arrive_in_order() {
    let test_folder = TestFolder::new();
    let many: Vec<String> = (1..=500).map(frame).collect();
    let _host = FakeHost::start(&test_folder.socket(), healthy(move |_| Reply::EventsThenWait(many.clone())));
    let client = Client::connect(test_folder.config()).await.unwrap();
    let mut stream = client.follow(of_run());
    let (read, _) = cursors(&mut stream, 500).await;
    assert_eq!(read, (1..=500).collect::<Vec<u64>>());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn started_host_inherits_no_descriptors() {
    let test_folder = TestFolder::new();
    // Without close-on-exec, like the pipes that a build tool leaves open in its children.
    let file = std::fs::File::create(test_folder.folder.path().join("left-open")).unwrap();
    let descriptor = nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_DUPFD(100)).unwrap();
    let script = format!(
        r#"[ -e /proc/self/fd/{descriptor} ] && kind=INTERNAL || kind=IO
        echo "{{\"error\":{{\"kind\":\"$kind\",\"message\":\"seen\"}}}}" >&2; exit 1"#
    );
    let api_error = ApiError::from(Client::connect(test_folder.config_with_start(&script)).await.unwrap_err());
    nix::unistd::close(descriptor).unwrap();
    assert_eq!(api_error.kind, ErrorKind::Io, "the descriptor is open in the host");
}

/// The targets and methods of all requests to a host.
fn all_asked(host: &FakeHost) -> Vec<String> {
    host.requests().iter().map(|request| request.what().to_owned()).collect()
}

#[test]
fn greeting_is_written_before_the_runtime_runs_again() {
    use std::io::Read;
    let files = TestFolder::new();
    let listener = std::os::unix::net::UnixListener::bind(files.socket()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let greeting = runtime.block_on(Greeting::send(&files.socket(), VERSION));
    assert!(greeting.is_some());
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut request = [0; 12];
    stream.read_exact(&mut request).unwrap();
    assert_eq!(&request, b"GET /healthz");
}

#[tokio::test]
async fn answer_to_a_greeting_is_used_once_and_its_connection_is_kept() {
    let files = TestFolder::new();
    let host = FakeHost::start(&files.socket(), healthy(|_| Reply::Result(json!({}))));
    let greeting = Greeting::send(&files.socket(), VERSION).await;
    let client = Client::connect_greeted(files.config(), greeting).await.unwrap();
    client.call::<_, Value>("get_status", &json!({})).await.unwrap();
    assert_eq!((client.host().pid, all_asked(&host)), (77, vec!["/healthz".to_owned(), "get_status".to_owned()]));
}

#[tokio::test]
async fn greeting_to_another_host_or_one_that_has_ended_has_no_effect() {
    let (files, others) = (TestFolder::new(), TestFolder::new());
    assert!(Greeting::send(&files.socket(), VERSION).await.is_none(), "no host");
    let _other = FakeHost::start(&others.socket(), |_| health_of("9.9.9"));
    let host = FakeHost::start(&files.socket(), healthy(|_| Reply::Result(json!({}))));
    let greeting = Greeting::send(&others.socket(), VERSION).await;
    Client::connect_greeted(files.config(), greeting).await.unwrap();
    assert_eq!(all_asked(&host), ["/healthz"]);
    drop(host);

    let _ended = FakeHost::start(&files.socket(), |_| Reply::AndDie(Box::new(Reply::Bytes(Vec::new()))));
    let greeting = Greeting::send(&files.socket(), VERSION).await;
    let _next = FakeHost::start(&files.socket(), healthy(|_| Reply::Result(json!({}))));
    assert_eq!(Client::connect_greeted(files.config(), greeting).await.unwrap().host().pid, 77);
}
