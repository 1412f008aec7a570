//! HTTP over the unix socket: `POST /rpc`, `GET /events`, `GET /healthz`.

use std::convert::Infallible;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body_util::BodyExt;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use super::rpc::{self, Caller};
use super::stream;
use super::types::{ORIGIN_HEADER, PROTOCOL, VERSION_HEADER};
use crate::engine::Engine;
use crate::model::{ApiError, ErrorKind};

/// Largest frame: a prompt of 8 MiB and its attachments fit well.
const MAX_FRAME: usize = 48 << 20;

/// How long a client may take over its headers, and over the whole of a frame.
const HEADER_TIME: Duration = Duration::from_secs(10);
const FRAME_TIME: Duration = Duration::from_secs(60);

/// A frame of more than so many bytes is large, and so many large ones are taken at a time: others wait for their turn.
const LARGE_FRAME: usize = 256 << 10;
const LARGE_FRAMES: usize = 3;

/// How long open connections get to finish when the host ends.
const DRAIN_TIME: Duration = Duration::from_secs(3);

/// What the handlers share.
#[derive(Clone)]
struct Shared {
    engine: Arc<Engine>,
    closing: watch::Receiver<bool>,
    subscribers: Arc<AtomicUsize>,
    large: Arc<Semaphore>,
}

/// Open connections, for whoever wants to know whether the host is idle.
#[derive(Clone, Debug)]
pub struct Connections {
    open: watch::Sender<usize>,
}

impl Default for Connections {
    fn default() -> Self {
        Self { open: watch::channel(0).0 }
    }
}

impl Connections {
    /// How many there are, and word of each change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<usize> {
        self.open.subscribe()
    }

    fn enter(&self) -> Open {
        self.open.send_modify(|open| *open += 1);
        Open(self.clone())
    }
}

/// One open connection.
struct Open(Connections);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open = open.saturating_sub(1));
    }
}

/// Makes the socket (0600), in the place of one that a dead host left behind. The caller holds the data folder's lock,
/// so no living host listens there.
///
/// # Errors
/// If the place is taken by something that is no socket, or the socket cannot be made.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => std::fs::remove_file(path)?,
        Ok(_) => {
            let message = format!("{} exists and is no socket; move it away", path.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves until `closing` turns true, then lets open requests finish for a moment.
pub async fn serve(
    listener: UnixListener,
    engine: Arc<Engine>,
    connections: Connections,
    mut closing: watch::Receiver<bool>,
) {
    let subscribers = engine.subscriber_count();
    let large = Arc::new(Semaphore::new(LARGE_FRAMES));
    let shared = Shared { engine, closing: closing.clone(), subscribers, large };
    let service = TowerToHyperService::new(router(shared));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closing.wait_for(|closing| *closing) => break,
        };
        match accepted {
            Ok((stream, _)) if of_this_user(&stream) => {
                tokio::spawn(connection(stream, service.clone(), connections.enter(), closing.clone()));
            }
            Ok(_) => tracing::warn!("another user's connection was refused"),
            Err(error) => {
                // Out of descriptors, for instance: others will be closed.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    let mut open = connections.watch();
    let _ = tokio::time::timeout(DRAIN_TIME, open.wait_for(|open| *open == 0)).await;
}

async fn connection(
    stream: UnixStream,
    service: TowerToHyperService<Router>,
    open: Open,
    mut closing: watch::Receiver<bool>,
) {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME).max_headers(64);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let closed = async move {
        // The guard that it returns must not live over the next await.
        let _ = closing.wait_for(|closing| *closing).await.is_ok();
    };
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = closed => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
    drop(open);
}

/// The socket's folder and mode keep others out; this keeps them out where those were changed.
fn of_this_user(stream: &UnixStream) -> bool {
    let user = nix::unistd::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == user || peer.uid() == 0)
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/rpc", post(call))
        .route("/events", get(events))
        .route("/healthz", get(health))
        .fallback(|| async {
            failure(StatusCode::NOT_FOUND, &ApiError::new(ErrorKind::NotFound, "there are /rpc, /events and /healthz"))
        })
        .method_not_allowed_fallback(|| async {
            let error = ApiError::new(ErrorKind::InvalidParams, "POST /rpc, GET /events, GET /healthz");
            failure(StatusCode::METHOD_NOT_ALLOWED, &error)
        })
        .with_state(shared)
}

async fn call(State(shared): State<Shared>, request: Request) -> Response {
    let caller = Caller { origin: origin(request.headers()) };
    let read = tokio::time::timeout(FRAME_TIME, read_frame(request.into_body(), &shared.large)).await;
    let refused = |status, message: &str| failure(status, &ApiError::new(ErrorKind::InvalidParams, message));
    // A large frame keeps its place until it is answered: what it is read into takes more room than itself.
    let (frame, _place) = match read {
        Ok(Ok(read)) => read,
        Ok(Err(FrameError::TooLarge)) => {
            let message = format!("a frame is at most {} MiB", MAX_FRAME >> 20);
            return refused(StatusCode::PAYLOAD_TOO_LARGE, &message);
        }
        Ok(Err(FrameError::Broken)) => return refused(StatusCode::BAD_REQUEST, "the frame ended too early"),
        Err(_) => return refused(StatusCode::REQUEST_TIMEOUT, "the frame did not come in time"),
    };
    match rpc::answer(&shared.engine, &caller, &frame).await {
        Some(answer) => json_response(StatusCode::OK, &answer),
        None => with_version(StatusCode::NO_CONTENT.into_response()),
    }
}

enum FrameError {
    TooLarge,
    Broken,
}

/// Reads a frame. One that is large, or becomes so, goes on when there is a place for it.
async fn read_frame(mut body: Body, large: &Semaphore) -> Result<(Vec<u8>, Option<SemaphorePermit<'_>>), FrameError> {
    // What the client says of its length, if it says anything.
    let said = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if said > MAX_FRAME {
        return Err(FrameError::TooLarge);
    }
    let mut place = None;
    let mut frame = Vec::new();
    while let Some(piece) = body.frame().await {
        let Ok(piece) = piece.map_err(|_| FrameError::Broken)?.into_data() else { continue };
        if frame.len() + piece.len() > MAX_FRAME {
            return Err(FrameError::TooLarge);
        }
        if place.is_none() && frame.len() + piece.len() > LARGE_FRAME {
            // It is closed by nobody.
            place = large.acquire().await.ok();
            frame.reserve_exact(said.saturating_sub(frame.len()));
        }
        frame.extend_from_slice(&piece);
    }
    Ok((frame, place))
}

async fn events(
    State(shared): State<Shared>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    let seen = headers.get("last-event-id").map(|value| value.to_str().unwrap_or("?").to_owned());
    let (engine, closing) = (Arc::clone(&shared.engine), shared.closing.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let request = stream::Request::parse(&query, seen.as_deref())?;
        stream::open(&engine, request, closing)
    });
    let opened = opened.await.unwrap_or_else(|_| Err(ApiError::internal("a defect in the host ended the stream")));
    match opened {
        Ok(stream) => {
            let counted = Counted::new(stream, &shared.subscribers);
            let mut response = with_version(Body::from_stream(counted).into_response());
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Err(error) => {
            let status = match error.kind {
                ErrorKind::InvalidParams => StatusCode::BAD_REQUEST,
                ErrorKind::NotFound => StatusCode::NOT_FOUND,
                ErrorKind::Conflict => StatusCode::CONFLICT,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            failure(status, &error)
        }
    }
}

async fn health(State(shared): State<Shared>) -> Response {
    let health = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "protocol": PROTOCOL,
        "pid": std::process::id(),
        "ending": shared.engine.is_ending(),
    });
    json_response(StatusCode::OK, &health)
}

/// Who asks, as they say; anything else is `rpc`.
fn origin(headers: &HeaderMap) -> String {
    let named = headers.get(ORIGIN_HEADER).and_then(|value| value.to_str().ok());
    named.filter(|name| matches!(*name, "cli" | "rpc" | "http" | "mcp")).unwrap_or("rpc").to_owned()
}

fn json_response(status: StatusCode, body: &Value) -> Response {
    let mut response = with_version((status, body.to_string()).into_response());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn failure(status: StatusCode, error: &ApiError) -> Response {
    json_response(status, &json!({"error": error}))
}

fn with_version(mut response: Response) -> Response {
    response.headers_mut().insert(VERSION_HEADER, HeaderValue::from_static(env!("CARGO_PKG_VERSION")));
    response
}

/// A stream that is counted as long as it is open.
struct Counted<S> {
    stream: std::pin::Pin<Box<S>>,
    count: Arc<AtomicUsize>,
}

impl<S> Counted<S> {
    fn new(stream: S, count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self { stream: Box::pin(stream), count: Arc::clone(count) }
    }
}

impl<S> Drop for Counted<S> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S: futures_util::Stream<Item = Result<bytes::Bytes, Infallible>>> futures_util::Stream for Counted<S> {
    type Item = Result<bytes::Bytes, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.stream.as_mut().poll_next(context)
    }
}
