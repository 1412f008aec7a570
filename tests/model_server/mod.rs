//! A scripted model server: the other end of a real agent CLI, on loopback.
//!
//! It speaks the OpenAI Responses protocol (`POST /v1/responses`, for codex) and the Anthropic Messages protocol
//! (`POST /v1/messages`, for claude), streamed and not. The prompt contains the answer of the model, as for the
//! rehearsal; see [`script`]. It runs on threads of the test that starts it, so that the test sees every request, and
//! it ends with the test. Connections, sizes and times are bounded.

mod anthropic;
mod http;
mod openai;
mod script;

pub use script::Secrets;

use http::{Request, Response};
use serde_json::{Value, json};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Connections at one time; further ones are closed.
const MAX_CONNECTIONS: usize = 64;
/// Requests that are remembered.
const MAX_SEEN: usize = 10_000;

/// A server that runs until it is dropped.
pub struct ModelServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

/// One request to a model, with the parts that tests need.
#[derive(Debug, Clone)]
#[allow(dead_code, reason = "the compatibility runs and the end-to-end suites read different fields")]
pub struct Seen {
    /// `responses` or `messages`.
    pub protocol: &'static str,
    /// The requested model.
    pub model: String,
    /// The newest prompt, without what the CLI put around it.
    pub prompt: String,
    /// Prompts in the conversation.
    pub turns: usize,
    /// The credential, as it was sent.
    pub credential: Option<String>,
    /// The system prompt, the CLI's own and what was added.
    pub system: String,
    /// Names of the tools that the model may use; the kind of those without a name.
    pub tools: Vec<String>,
    /// Images in the conversation.
    pub images: usize,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    arrived: Condvar,
    stopping: AtomicBool,
    connections: AtomicUsize,
    script: script::Script,
}

impl ModelServer {
    /// Starts on a free port of the loopback interface.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let acceptor = thread::Builder::new().name("model-server".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        })?;
        Ok(Self { address, shared, acceptor: Some(acceptor) })
    }

    /// `http://127.0.0.1:PORT`, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request to a model so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen().clone()
    }

    /// Requests whose prompt contains `part`.
    pub fn count(&self, part: &str) -> usize {
        self.shared.seen().iter().filter(|seen| seen.prompt.contains(part)).count()
    }

    /// Waits until `count` requests with `part` in their prompt have come. False when the time is over.
    pub fn wait_for(&self, part: &str, count: usize, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut seen = self.shared.seen();
        loop {
            if seen.iter().filter(|seen| seen.prompt.contains(part)).count() >= count {
                return true;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            seen = self.shared.arrived.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // A last connection wakes up the accepting thread.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, seen: Seen) {
        let mut all = self.seen();
        if all.len() < MAX_SEEN {
            all.push(seen);
        }
        drop(all);
        self.arrived.notify_all();
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        if shared.connections.fetch_add(1, Ordering::SeqCst) >= MAX_CONNECTIONS {
            shared.connections.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let of_thread = Arc::clone(shared);
        let spawned = thread::Builder::new().spawn(move || {
            // A client may close the connection at any time.
            let _ = serve(stream, &of_thread);
            of_thread.connections.fetch_sub(1, Ordering::SeqCst);
        });
        if spawned.is_err() {
            shared.connections.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// One request, one response: each connection is closed after its answer.
fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let (request, mut response) = http::receive(stream)?;
    let path = request.path.split('?').next().unwrap_or_default();
    match (request.method.as_str(), path) {
        ("POST", path) if path.ends_with("/responses") => openai::answer(shared, &request, &mut response),
        ("POST", path) if path.ends_with("/messages") => anthropic::answer(shared, &request, &mut response),
        ("POST", path) if path.ends_with("/messages/count_tokens") => {
            response.json(200, &json!({ "input_tokens": request.body.len() / 4 + 1 }))
        }
        ("GET", path) if path.ends_with("/models") => response.json(
            200,
            &json!({ "object": "list", "data": [{ "id": "scripted", "object": "model", "type": "model" }], "models": [] }),
        ),
        ("GET" | "HEAD", _) => response.json(200, &json!({})),
        _ => response.json(404, &json!({ "error": { "message": "the scripted model server has nothing here" } })),
    }
}

/// Objects of this `type` anywhere in a document.
fn count_of_type(document: &Value, kind: &str) -> usize {
    match document {
        Value::Object(members) => {
            let own = usize::from(members.get("type").is_some_and(|found| found == kind));
            own + members.values().map(|member| count_of_type(member, kind)).sum::<usize>()
        }
        Value::Array(items) => items.iter().map(|item| count_of_type(item, kind)).sum(),
        _ => 0,
    }
}

/// The body as JSON; a request with an invalid body is answered at once.
fn body(request: &Request, response: &mut Response) -> io::Result<Option<Value>> {
    match serde_json::from_slice(&request.body) {
        Ok(value) => Ok(Some(value)),
        Err(error) => {
            response.json(400, &json!({ "error": { "message": format!("the request is not JSON: {error}") } }))?;
            Ok(None)
        }
    }
}

/// The credential that the client sent, by either name.
fn credential(request: &Request) -> Option<String> {
    request
        .header("x-api-key")
        .or_else(|| request.header("authorization").map(|value| value.trim_start_matches("Bearer ")))
        .map(str::to_owned)
}

/// A new id in the form that the protocols use.
fn new_id(prefix: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    format!("{prefix}_{:024x}", NEXT.fetch_add(1, Ordering::Relaxed))
}
