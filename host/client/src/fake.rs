//! A fake host for tests. A script determines its answers, which may be invalid.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// A request to the fake host.
#[derive(Clone, Debug)]
pub(super) struct ReceivedRequest {
    pub(super) target: String,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: Value,
}

impl ReceivedRequest {
    /// The JSON-RPC method, or the path.
    pub(super) fn what(&self) -> &str {
        self.body.get("method").and_then(Value::as_str).unwrap_or(&self.target)
    }
}

/// The reaction of the fake host to a request.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// A JSON document with this status.
    Json(u16, Value),
    /// The result of a JSON-RPC call.
    Result(Value),
    /// These pieces as an event stream, then its normal end.
    Events(Vec<String>),
    /// These pieces as an event stream, then the connection breaks.
    EventsThenBreak(Vec<String>),
    /// These pieces as an event stream, which then stays open.
    EventsThenWait(Vec<String>),
    /// These raw bytes, then the end of the connection.
    Bytes(Vec<u8>),
    /// This reply. Then the host ends and leaves its socket behind.
    AndDie(Box<Reply>),
}

/// An API error as a JSON-RPC response.
pub(super) fn refusal(kind: &str, message: &str) -> Reply {
    let data = json!({"kind": kind, "message": message});
    Reply::Json(200, json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": message, "data": data}}))
}

type Script = dyn Fn(&ReceivedRequest) -> Reply + Send + Sync;

/// A host that runs until it is dropped, or until its script ends it.
pub(super) struct FakeHost {
    seen: Arc<Mutex<Vec<ReceivedRequest>>>,
    task: JoinHandle<()>,
}

impl FakeHost {
    pub(super) fn start(socket: &Path, script: impl Fn(&ReceivedRequest) -> Reply + Send + Sync + 'static) -> Self {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).expect("the socket can be created");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Script> = Arc::new(script);
        let task = tokio::spawn(accept(listener, script, Arc::clone(&seen)));
        Self { seen, task }
    }

    /// Methods and paths of the requests so far, without `/healthz`.
    pub(super) fn asked(&self) -> Vec<String> {
        self.requests().iter().map(|seen| seen.what().to_owned()).filter(|what| what != "/healthz").collect()
    }

    pub(super) fn requests(&self) -> Vec<ReceivedRequest> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for FakeHost {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: UnixListener, script: Arc<Script>, seen: Arc<Mutex<Vec<ReceivedRequest>>>) {
    let death = Arc::new(Notify::new());
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { return };
                let (script, seen, death) = (Arc::clone(&script), Arc::clone(&seen), Arc::clone(&death));
                tokio::spawn(async move {
                    if serve(stream, &*script, &seen).await {
                        death.notify_one();
                    }
                });
            }
            () = death.notified() => return,
        }
    }
}

/// Answers the requests of a connection. Returns whether the host must end now.
async fn serve(stream: UnixStream, script: &Script, seen: &Mutex<Vec<ReceivedRequest>>) -> bool {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream).await {
        match answer(request, stream.get_mut(), script, seen).await {
            After::Next => {}
            After::Close => return false,
            After::Die => return true,
        }
    }
    false
}

/// What happens after an answer.
enum After {
    /// The connection waits for the next request.
    Next,
    /// The connection is closed.
    Close,
    /// The host ends.
    Die,
}

/// Answers a request.
async fn answer(
    request: ReceivedRequest,
    stream: &mut UnixStream,
    script: &Script,
    seen: &Mutex<Vec<ReceivedRequest>>,
) -> After {
    let mut reply = script(&request);
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    let mut after = match reply {
        Reply::Json(..) | Reply::Result(_) => After::Next,
        _ => After::Close,
    };
    if let Reply::AndDie(inner) = reply {
        reply = *inner;
        after = After::Die;
    }
    let head = |kind: &str| format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n");
    let (bytes, wait) = match reply {
        Reply::Result(result) => (json_reply(200, &json!({"jsonrpc": "2.0", "id": 1, "result": result})), false),
        Reply::Json(status, document) => (json_reply(status, &document), false),
        Reply::Bytes(bytes) => (bytes, false),
        Reply::Events(pieces) => {
            ([head("text/event-stream"), chunks(&pieces), "0\r\n\r\n".to_owned()].concat().into(), false)
        }
        Reply::EventsThenBreak(pieces) => ([head("text/event-stream"), chunks(&pieces)].concat().into(), false),
        Reply::EventsThenWait(pieces) => ([head("text/event-stream"), chunks(&pieces)].concat().into(), true),
        Reply::AndDie(_) => return After::Die,
    };
    let _ = stream.write_all(&bytes).await;
    if wait {
        // Wait until the client closes the connection.
        let _ = stream.read(&mut [0]).await;
    }
    after
}

fn chunks(pieces: &[String]) -> String {
    pieces.iter().map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len())).collect()
}

fn json_reply(status: u16, document: &Value) -> Vec<u8> {
    let body = document.to_string();
    format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .into()
}

async fn read_request(stream: &mut BufReader<UnixStream>) -> Option<ReceivedRequest> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    let target = line.split_whitespace().nth(1)?.to_owned();
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => _ = headers.insert(name.to_lowercase(), value.trim().to_owned()),
            None => break,
        }
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(ReceivedRequest { target, headers, body: serde_json::from_slice(&body).unwrap_or_default() })
}
