//! HTTP, whatever carries it: `POST /rpc`, `GET /events`, `GET /ws`, `GET /lines`, `GET /healthz`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body_util::BodyExt;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::rpc::{self, Caller};
use super::server::Connections;
use super::types::{ORIGIN_HEADER, PROTOCOL, VERSION_HEADER};
use super::{lines, stream, websocket};
use crate::clock::patience;
use crate::engine::Engine;
use crate::model::{ApiError, ErrorKind};

/// Largest frame: a prompt of 8 MiB and its attachments fit well.
pub(super) const MAX_FRAME: usize = 48 << 20;

/// How long a client may take over the whole of a frame.
pub(super) const FRAME_TIME: Duration = Duration::from_secs(60);

/// A frame of more than so many bytes is large, and so many large ones are taken at a time: others wait for their turn.
const LARGE_FRAME: usize = 256 << 10;
const LARGE_FRAMES: usize = 3;

/// What the handlers share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) engine: Arc<Engine>,
    pub(super) closing: watch::Receiver<bool>,
    pub(super) connections: Connections,
    large: Arc<Semaphore>,
    /// Whether requests come over TCP, where nobody can say that they are the command line.
    tcp: bool,
}

impl Shared {
    pub(super) fn new(engine: Arc<Engine>, connections: Connections, closing: watch::Receiver<bool>) -> Self {
        let large = Arc::new(Semaphore::new(LARGE_FRAMES));
        Self { engine, closing, connections, large, tcp: false }
    }

    /// Waits for the place that a frame of so many bytes needs, if it is large. Whoever holds it keeps it until the frame
    /// is answered: what a frame is read into takes more room than itself.
    pub(super) async fn place_for(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        if bytes <= LARGE_FRAME {
            return None;
        }
        // It is closed by nobody.
        Arc::clone(&self.large).acquire_owned().await.ok()
    }

    /// The same for requests that come over TCP.
    pub(super) fn over_tcp(&self) -> Self {
        Self { tcp: true, ..self.clone() }
    }

    /// Who asks, as they say; anything else is `rpc`.
    pub(super) fn origin(&self, headers: &HeaderMap) -> String {
        if self.tcp {
            return "http".to_owned();
        }
        let named = headers.get(ORIGIN_HEADER).and_then(|value| value.to_str().ok());
        named.filter(|name| matches!(*name, "cli" | "rpc" | "http" | "mcp")).unwrap_or("rpc").to_owned()
    }
}

/// What every transport over HTTP serves.
pub(super) fn router(shared: Shared) -> Router {
    Router::new()
        .route("/rpc", post(call))
        .route("/events", get(events))
        .route("/healthz", get(health))
        .route("/ws", get(websocket::upgrade))
        .route("/lines", get(lines::upgrade))
        .fallback(|| async {
            failure(
                StatusCode::NOT_FOUND,
                &ApiError::new(ErrorKind::NotFound, "there are /rpc, /events, /ws, /lines and /healthz"),
            )
        })
        .method_not_allowed_fallback(|| async {
            let error =
                ApiError::new(ErrorKind::InvalidParams, "POST /rpc, GET /events, GET /ws, GET /lines, GET /healthz");
            failure(StatusCode::METHOD_NOT_ALLOWED, &error)
        })
        .with_state(shared)
}

async fn call(State(shared): State<Shared>, request: Request) -> Response {
    let caller = Caller { origin: shared.origin(request.headers()), streams: None };
    let read = tokio::time::timeout(patience(FRAME_TIME), read_frame(request.into_body(), &shared)).await;
    let refused = |status, message: &str| failure(status, &ApiError::new(ErrorKind::InvalidParams, message));
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
        Some(answer) => json_response(StatusCode::OK, answer),
        None => with_version(StatusCode::NO_CONTENT.into_response()),
    }
}

enum FrameError {
    TooLarge,
    Broken,
}

/// Reads a frame. One that is large, or becomes so, goes on when there is a place for it.
async fn read_frame(mut body: Body, shared: &Shared) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), FrameError> {
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
        if place.is_none() {
            place = shared.place_for(frame.len() + piece.len()).await;
            if place.is_some() {
                frame.reserve_exact(said.saturating_sub(frame.len()));
            }
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
        stream::open(&engine, &request, closing)
    });
    let opened = opened.await.unwrap_or_else(|_| Err(ApiError::internal("a defect in the host ended the stream")));
    match opened {
        Ok(stream) => {
            let mut response = with_version(Body::from_stream(stream).into_response());
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
    json_response(StatusCode::OK, health.to_string())
}

fn json_response(status: StatusCode, body: String) -> Response {
    let mut response = with_version((status, body).into_response());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

pub(super) fn failure(status: StatusCode, error: &ApiError) -> Response {
    json_response(status, json!({"error": error}).to_string())
}

fn with_version(mut response: Response) -> Response {
    response.headers_mut().insert(VERSION_HEADER, HeaderValue::from_static(env!("CARGO_PKG_VERSION")));
    response
}
