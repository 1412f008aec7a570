#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::fake::{FakeHost, Reply, Seen, refusal};
use super::*;
use ostler_protocol::methods::{METHODS, SubscribeParams};
use ostler_protocol::{ApiError, ErrorKind, Event, EventId, EventType, RunId};

const VERSION: &str = "1.2.3";

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("host.sock")
    }

    fn config(&self) -> ClientConfig {
        ClientConfig::new(self.socket(), VERSION)
    }

    /// A host that a shell script stands for.
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

/// Answers questions for health, and everything else as `others` says.
fn healthy(others: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> impl Fn(&Seen) -> Reply + Send + Sync {
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

/// The cursors that a stream gives, `0` for each interruption, until it ends with an error.
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
async fn every_request_says_who_asks() {
    let place = Place::new();
    let host = FakeHost::start(&place.socket(), healthy(|_| Reply::Result(json!([]))));
    let client = Client::connect(place.config()).await.unwrap();
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
async fn the_errors_of_the_host_arrive_whole() {
    let place = Place::new();
    let _host = FakeHost::start(
        &place.socket(),
        healthy(|seen| match seen.what() {
            "list_runs" => refusal("NOT_FOUND", "there is no such thing"),
            "list_plugins" => Reply::Json(200, json!({"id": 1, "error": {"code": -32601, "message": "no method"}})),
            "get_status" => Reply::Json(413, json!({"error": {"kind": "INVALID_PARAMS", "message": "too large"}})),
            _ => Reply::Json(500, json!("what?")),
        }),
    );
    let client = Client::connect(place.config()).await.unwrap();
    let error = |error: ClientError| ApiError::from(error);
    let missing = error(client.list_runs(&Default::default()).await.unwrap_err());
    assert_eq!((missing.kind, missing.message.as_str()), (ErrorKind::NotFound, "there is no such thing"));
    assert_eq!(error(client.list_plugins().await.unwrap_err()).message, "no method");
    assert_eq!(error(client.get_status().await.unwrap_err()).kind, ErrorKind::InvalidParams);
    let odd = error(client.list_workspace_grants().await.unwrap_err());
    assert!(odd.message.contains("500") && odd.kind == ErrorKind::Internal, "{odd:?}");
}

/// A connection that breaks after the request, and in the middle of the answer: for every method that there is.
#[tokio::test]
async fn broken_connection_repeats_only_idempotent_calls() {
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"jsonrpc\"".to_vec();
    for answer in [Vec::new(), half] {
        let place = Place::new();
        let host = FakeHost::start(&place.socket(), healthy(move |_| Reply::Bytes(answer.clone())));
        let client = Client::connect(place.config()).await.unwrap();
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
async fn broken_connection_leaves_open_whether_the_run_was_accepted() {
    let place = Place::new();
    let _host = FakeHost::start(&place.socket(), healthy(|_| Reply::Bytes(Vec::new())));
    let client = Client::connect(place.config()).await.unwrap();
    let error = ApiError::from(client.start_run(&json!({})).await.unwrap_err());
    assert!(error.message.contains("not known whether the host did what was asked"), "{error:?}");
    assert!(!error.retryable && error.hint.unwrap().contains("list_runs"));
}

#[tokio::test]
async fn nonsense_is_told() {
    let place = Place::new();
    let count = AtomicUsize::new(0);
    let _host = FakeHost::start(
        &place.socket(),
        healthy(move |_| match count.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::Json(200, json!({"jsonrpc": "2.0", "id": 1})),
            1 => Reply::Result(json!({"plugins": 7})),
            2 => Reply::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnope".to_vec()),
            _ => Reply::Bytes(b"220 mail ready\r\n".to_vec()),
        }),
    );
    let client = Client::connect(place.config()).await.unwrap();
    for _ in 0..3 {
        let error = client.list_plugins().await.unwrap_err();
        assert!(matches!(error, ClientError::Protocol(_)), "{error:?}");
    }
    assert!(matches!(client.list_plugins().await.unwrap_err(), ClientError::Broken { .. }));
}

#[tokio::test]
async fn without_a_host_nothing_is_started_behind_the_back() {
    let place = Place::new();
    let error = Client::connect(place.config()).await.unwrap_err();
    assert!(matches!(error, ClientError::NotRunning { .. }), "{error:?}");
    // A socket that a dead host left behind is the same.
    drop(std::os::unix::net::UnixListener::bind(place.socket()).unwrap());
    let error = Client::connect(place.config()).await.unwrap_err();
    assert!(matches!(error, ClientError::NotRunning { .. }), "{error:?}");
    assert_eq!(ApiError::from(error).kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn a_busy_host_of_another_version_is_named_and_left_alone() {
    let place = Place::new();
    let host = FakeHost::start(&place.socket(), |seen| match seen.what() {
        "/healthz" => health_of("9.9.9"),
        _ => refusal("CONFLICT", "two runs are running"),
    });
    let error = Client::connect(place.config_with_start("exit 1")).await.unwrap_err();
    assert_eq!(host.asked(), ["stop"]);
    assert_eq!(host.requests()[1].body["params"], json!({"ifIdle": true}));
    let told = ApiError::from(error);
    assert_eq!(told.kind, ErrorKind::Conflict);
    assert_eq!(told.message, "a host of version 9.9.9 (pid 77) is running and busy; this is ostler 1.2.3");

    // Where none may be started, it is not even asked to go.
    let error = Client::connect(place.config()).await.unwrap_err();
    assert!(matches!(error, ClientError::OtherVersion { .. }), "{error:?}");
    assert_eq!(host.asked(), ["stop"]);
    // And whoever wants to talk to any version can.
    let client = Client::connect(ClientConfig { any_version: true, ..place.config() }).await.unwrap();
    assert_eq!(client.host().version, "9.9.9");
}

/// Stands for a program that starts a host; see [`successor`].
const START_SUCCESSOR: &str = "touch $FOLDER/started; while ! [ -e $FOLDER/started.ready ]; do sleep 0.01; done; \
                               echo 'ostler: ready' >&2; exec sleep 20";

/// A fake host that comes up when [`START_SUCCESSOR`] is run, and answers everything with this.
fn successor(place: &Place, answer: Value) -> tokio::task::JoinHandle<FakeHost> {
    let (socket, started) = (place.socket(), place.folder.path().join("started"));
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
async fn an_idle_host_of_another_version_is_replaced() {
    let place = Place::new();
    let old = FakeHost::start(&place.socket(), |seen| match seen.what() {
        "/healthz" => health_of("9.9.9"),
        _ => Reply::AndDie(Box::new(Reply::Result(json!({"stopping": true, "running": 0, "waiting": 0})))),
    });
    let successor = successor(&place, json!([]));
    let client = Client::connect(place.config_with_start(START_SUCCESSOR)).await.unwrap();
    assert_eq!(client.host().version, VERSION);
    assert_eq!(old.asked(), ["stop"]);
    drop(successor.await.unwrap());
}

/// A host that takes no runs any more, and goes when it has been asked how it is for a third time.
fn ending_host(place: &Place) -> FakeHost {
    let looks = AtomicUsize::new(0);
    let refusal = json!({"kind": "CONFLICT", "message": "the host is about to end", "retryable": true});
    FakeHost::start(&place.socket(), move |seen| match seen.what() {
        "/healthz" => {
            let look = looks.fetch_add(1, Ordering::Relaxed);
            let health = json!({
                "version": VERSION, "protocol": ostler_protocol::methods::PROTOCOL, "pid": 77, "ending": look > 0,
            });
            let reply = Reply::Json(200, health);
            if look < 3 { reply } else { Reply::AndDie(Box::new(reply)) }
        }
        _ => Reply::Json(200, json!({"id": 1, "error": {"code": -32010, "message": "no", "data": refusal}})),
    })
}

#[tokio::test]
async fn a_submit_outlasts_a_host_that_is_about_to_end() {
    let place = Place::new();
    let ending = ending_host(&place);
    let run = RunId::generate();
    let successor = successor(&place, json!({"runId": run}));
    let client = Client::connect(place.config_with_start(START_SUCCESSOR)).await.unwrap();
    assert_eq!(client.start_run(&json!({"prompt": "again"})).await.unwrap().run_id, run);
    assert_eq!(ending.asked(), ["start_run"]);
    let successor = successor.await.unwrap();
    assert_eq!(successor.asked(), ["start_run"]);
    let submitted = successor.requests().into_iter().find(|seen| seen.what() == "start_run").unwrap();
    assert_eq!(submitted.body["params"], json!({"prompt": "again"}));
}

#[tokio::test]
async fn where_no_host_may_be_started_the_refusal_of_an_ending_one_is_told() {
    let place = Place::new();
    let ending = ending_host(&place);
    let client = Client::connect(place.config()).await.unwrap();
    let told = ApiError::from(client.start_run(&json!({})).await.unwrap_err());
    assert_eq!((told.kind, told.message.as_str()), (ErrorKind::Conflict, "the host is about to end"));
    assert_eq!(ending.asked(), ["start_run"]);
}

#[tokio::test]
async fn a_contradiction_that_a_host_stays_with_is_told_at_once() {
    let place = Place::new();
    let refusal = json!({"kind": "CONFLICT", "message": "it is busy with that", "retryable": true});
    let answer = json!({"id": 1, "error": {"code": -32010, "message": "no", "data": refusal}});
    let host = FakeHost::start(&place.socket(), healthy(move |_| Reply::Json(200, answer.clone())));
    let client = Client::connect(place.config_with_start("exit 1")).await.unwrap();
    let told = ApiError::from(client.start_run(&json!({})).await.unwrap_err());
    assert_eq!(told.message, "it is busy with that");
    assert_eq!(host.asked(), ["start_run"]);
}

#[tokio::test]
async fn a_host_that_does_not_come_up_says_why() {
    let place = Place::new();
    let script = r#"echo starting >&2; echo '{"error":{"kind":"IO","message":"the data folder is read-only","hint":"make it writable"}}' >&2; exit 74"#;
    let told = ApiError::from(Client::connect(place.config_with_start(script)).await.unwrap_err());
    assert_eq!(told.kind, ErrorKind::Io);
    assert_eq!(told.message, "failed to start the host: the data folder is read-only");
    assert_eq!(told.hint.as_deref(), Some("make it writable"));

    let told =
        ApiError::from(Client::connect(place.config_with_start("echo 'segfault' >&2; kill -9 $$")).await.unwrap_err());
    assert!(told.message.contains("signal: 9") && told.message.contains("segfault"), "{told:?}");

    let mut config = place.config_with_start("");
    config.start.as_mut().unwrap().program = Path::new("/nowhere/ostler").into();
    let told = ApiError::from(Client::connect(config).await.unwrap_err());
    assert_eq!(told.kind, ErrorKind::Io);
    assert!(told.message.contains("/nowhere/ostler"), "{told:?}");
}

#[tokio::test]
async fn start_limit_counts_from_the_last_step_of_the_host() {
    static SEEN: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());
    let place = Place::new();
    let limit = std::time::Duration::from_millis(700);
    let steps = "for step in 1 2 3 4; do echo \"ostler: starting: step $step\" >&2; sleep 0.4; done;";
    let mut config = place.config_with_start(&format!("{steps} {START_SUCCESSOR}"));
    config.start_limit = limit;
    config.progress = Some(|step| SEEN.lock().unwrap().push(step.to_owned()));
    let successor = successor(&place, json!([]));
    let began = std::time::Instant::now();
    Client::connect(config).await.unwrap();
    assert!(began.elapsed() > 2 * limit, "{:?}", began.elapsed());
    assert_eq!(*SEEN.lock().unwrap(), ["step 1", "step 2", "step 3", "step 4"]);
    drop(successor.await.unwrap());

    let place = Place::new();
    let mut config = place.config_with_start("echo 'ostler: starting: step 1' >&2; exec sleep 60");
    config.start_limit = std::time::Duration::from_millis(100);
    let told = ApiError::from(Client::connect(config).await.unwrap_err());
    assert!(told.message.contains("not ready in time"), "{told:?}");
    assert!(told.hint.unwrap().contains("try again"));
}

#[tokio::test]
async fn a_pipe_that_stays_open_does_not_hide_the_end() {
    let place = Place::new();
    // A process that outlives the host holds its standard error.
    let script =
        r#"sleep 30 & echo $! > $FOLDER/pid; echo '{"error":{"kind":"PLUGIN_FAILED","message":"no"}}' >&2; exit 70"#;
    let told = ApiError::from(Client::connect(place.config_with_start(script)).await.unwrap_err());
    assert_eq!(told.kind, ErrorKind::PluginFailed);
    let pid = std::fs::read_to_string(place.folder.path().join("pid")).unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn who_loses_the_race_for_the_lock_connects_to_the_winner() {
    let place = Place::new();
    let socket = place.socket();
    let winner = place.folder.path().join("lost");
    let host = tokio::spawn(async move {
        while !winner.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        FakeHost::start(&socket, healthy(|_| Reply::Result(json!([]))))
    });
    let script = r#"touch $FOLDER/lost; echo '{"error":{"kind":"CONFLICT","message":"another host holds the lock"}}' >&2; exit 7"#;
    let client = Client::connect(place.config_with_start(script)).await.unwrap();
    assert_eq!(client.host().version, VERSION);
    drop(host.await.unwrap());
}

#[tokio::test]
async fn a_broken_stream_goes_on_where_it_was() {
    let place = Place::new();
    let count = AtomicUsize::new(0);
    let host = FakeHost::start(
        &place.socket(),
        healthy(move |_| match count.fetch_add(1, Ordering::Relaxed) {
            // In the middle of an event.
            0 => Reply::EventsThenBreak(vec![frame(5), frame(7), "id: 9\nevent: run_ev".to_owned()]),
            // A host that takes no notice of the header repeats itself.
            1 => Reply::EventsThenBreak(vec![": alive\n\n".to_owned(), frame(7), frame(9)]),
            _ => Reply::EventsThenWait(vec![frame(11)]),
        }),
    );
    let client = Client::connect(place.config()).await.unwrap();
    let params = of_run();
    let mut stream = client.follow(params.clone());
    let (cursors, error) = cursors(&mut stream, 6).await;
    assert!(error.is_none());
    assert_eq!(cursors, [5, 7, 0, 9, 0, 11]);
    let seen: Vec<Seen> = host.requests().into_iter().filter(|seen| seen.target.starts_with("/events")).collect();
    assert_eq!(seen[0].target, format!("/events?runId={}", params.run_id.unwrap()));
    let ids: Vec<Option<&str>> =
        seen.iter().map(|seen| seen.headers.get("last-event-id").map(String::as_str)).collect();
    assert_eq!(ids, [None, Some("7"), Some("9")]);
}

#[tokio::test]
async fn the_payload_of_an_event_arrives_unchanged() {
    let place = Place::new();
    let _host = FakeHost::start(&place.socket(), healthy(|_| Reply::EventsThenWait(vec![frame(3)])));
    let client = Client::connect(place.config()).await.unwrap();
    let Ok(StreamItem::Event(got)) = client.follow(of_run()).next().await else { panic!("no event") };
    assert_eq!(got.payload, event(3, EventType::ChunkStdout).payload);
    assert_eq!(got.kind, EventType::ChunkStdout);
}

#[tokio::test]
async fn a_host_that_died_is_brought_back() {
    let place = Place::new();
    let first =
        FakeHost::start(&place.socket(), healthy(|_| Reply::AndDie(Box::new(Reply::EventsThenBreak(vec![frame(1)])))));
    let client = Client::connect(place.config_with_start(
        "touch $FOLDER/started; while ! [ -e $FOLDER/started.ready ]; do sleep 0.01; done; echo 'ostler: ready' >&2; exec sleep 20",
    ))
    .await
    .unwrap();
    let (socket, started) = (place.socket(), place.folder.path().join("started"));
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
async fn a_host_that_was_stopped_is_not_started_again() {
    let place = Place::new();
    let _host = FakeHost::start(&place.socket(), healthy(|_| Reply::AndDie(Box::new(Reply::Events(vec![frame(1)])))));
    let client = Client::connect(place.config_with_start("touch $FOLDER/started; exit 1")).await.unwrap();
    let (cursors, error) = cursors(&mut client.follow(of_run()), 9).await;
    assert_eq!(cursors, [1]);
    assert!(matches!(error, Some(ClientError::Lost { .. })), "{error:?}");
    assert!(!place.folder.path().join("started").exists());
}

#[tokio::test]
async fn a_glance_at_the_queue_starts_no_host() {
    let place = Place::new();
    let reply = |_: &_| Reply::AndDie(Box::new(Reply::Json(200, json!({"result": []}))));
    let _host = FakeHost::start(&place.socket(), healthy(reply));
    let client = Client::connect(place.config_with_start("touch $FOLDER/started; exit 1")).await.unwrap();
    assert!(client.try_list_queue().await.unwrap().is_empty());
    assert!(client.try_list_queue().await.is_err());
    assert!(!place.folder.path().join("started").exists());
}

#[tokio::test]
async fn a_host_that_breaks_off_again_and_again_is_given_up() {
    let place = Place::new();
    let _host = FakeHost::start(&place.socket(), healthy(|_| Reply::EventsThenBreak(vec![])));
    let client = Client::connect(place.config()).await.unwrap();
    let (cursors, error) = cursors(&mut client.follow(of_run()), 99).await;
    assert!(cursors.len() < 10, "{cursors:?}");
    let told = ApiError::from(error.unwrap());
    assert!(told.message.starts_with("lost the host") && told.kind == ErrorKind::Io, "{told:?}");
}

#[tokio::test]
async fn a_refused_subscription_and_a_bad_event_end_the_stream() {
    let place = Place::new();
    let count = AtomicUsize::new(0);
    let _host = FakeHost::start(
        &place.socket(),
        healthy(move |_| match count.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::Json(404, json!({"error": {"kind": "NOT_FOUND", "message": "there is no run"}})),
            1 => Reply::EventsThenWait(vec!["event: run_event\ndata: {\"cursor\":\"x\"}\n\n".to_owned()]),
            _ => {
                Reply::EventsThenWait(vec!["event: error\ndata: {\"kind\":\"IO\",\"message\":\"disk\"}\n\n".to_owned()])
            }
        }),
    );
    let client = Client::connect(place.config()).await.unwrap();
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
    let place = Place::new();
    let many: Vec<String> = (1..=500).map(frame).collect();
    let _host = FakeHost::start(&place.socket(), healthy(move |_| Reply::EventsThenWait(many.clone())));
    let client = Client::connect(place.config()).await.unwrap();
    let mut stream = client.follow(of_run());
    let (read, _) = cursors(&mut stream, 500).await;
    assert_eq!(read, (1..=500).collect::<Vec<u64>>());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_started_host_keeps_nothing_of_its_starter_open() {
    let place = Place::new();
    // Without close-on-exec, as a build tool leaves its pipes to those that it starts.
    let file = std::fs::File::create(place.folder.path().join("left-open")).unwrap();
    let descriptor = nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_DUPFD(100)).unwrap();
    let script = format!(
        r#"[ -e /proc/self/fd/{descriptor} ] && kind=INTERNAL || kind=IO
        echo "{{\"error\":{{\"kind\":\"$kind\",\"message\":\"seen\"}}}}" >&2; exit 1"#
    );
    let told = ApiError::from(Client::connect(place.config_with_start(&script)).await.unwrap_err());
    nix::unistd::close(descriptor).unwrap();
    assert_eq!(told.kind, ErrorKind::Io, "the descriptor is open in the host");
}
