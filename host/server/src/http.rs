//! The HTTP routes of all transports: `POST /rpc`, `GET /events`, `GET /ws`, `GET /lines`, `GET /healthz`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, SizeHint};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::budget::{Exhausted, ReadPermit, STALL_TIME, WorkPermit};
use super::peer::Peer;
use super::rpc::{self, Answer, Caller};
use super::server::Connections;
use super::{lines, stream, websocket};
use ostler_engine::Engine;
use ostler_protocol::methods::{ORIGIN_HEADER, PROTOCOL, VERSION_HEADER};
use ostler_protocol::{AccessClass, ApiError, ErrorKind};
use ostler_test_hooks::clock::client_time_limit;

/// Maximum size of a frame, in bytes. Fits a prompt of 8 MiB with its attachments.
pub(super) const MAX_FRAME: usize = 48 << 20;

/// Time limit to receive a complete frame.
pub(super) const FRAME_TIME: Duration = Duration::from_secs(60);

/// State that the handlers share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) engine: Arc<Engine>,
    pub(super) closing: watch::Receiver<bool>,
    pub(super) connections: Connections,
}

/// The origin that a client states in its header, or `rpc` if it is unknown. Over TCP it always is `http`.
pub(super) fn origin(peer: &Peer, headers: &HeaderMap) -> String {
    if peer.is_remote() {
        return "http".to_owned();
    }
    let named = headers.get(ORIGIN_HEADER).and_then(|value| value.to_str().ok());
    named.filter(|name| matches!(*name, "cli" | "rpc" | "http" | "mcp")).unwrap_or("rpc").to_owned()
}

/// The routes of every transport.
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
                &ApiError::new(
                    ErrorKind::NotFound,
                    "no such path; use POST /rpc, GET /events, GET /ws or GET /healthz",
                ),
            )
        })
        .method_not_allowed_fallback(|| async {
            let message = "this method is not allowed here; use POST /rpc, GET /events, GET /ws or GET /healthz";
            let error = ApiError::new(ErrorKind::InvalidParams, message);
            failure(StatusCode::METHOD_NOT_ALLOWED, &error)
        })
        .with_state(shared)
}

async fn call(State(shared): State<Shared>, Extension(peer): Extension<Arc<Peer>>, request: Request) -> Response {
    let caller = Caller { origin: origin(&peer, request.headers()), peer: Arc::clone(&peer), streams: None };
    let read = tokio::time::timeout(client_time_limit(FRAME_TIME), read_frame(request.into_body(), &peer)).await;
    let refused = |status, message: &str| failure(status, &ApiError::new(ErrorKind::InvalidParams, message));
    let (frame, _work) = match read {
        Ok(Ok(read)) => read,
        Ok(Err(FrameError::TooLarge)) => {
            let message = format!("a frame is at most {} MiB", MAX_FRAME >> 20);
            return refused(StatusCode::PAYLOAD_TOO_LARGE, &message);
        }
        Ok(Err(FrameError::Broken)) => return refused(StatusCode::BAD_REQUEST, "the frame ended too early"),
        Ok(Err(FrameError::Exhausted)) => {
            let error = ApiError::new(ErrorKind::Conflict, "too many large frames are on their way").retryable(true);
            return failure(StatusCode::SERVICE_UNAVAILABLE, &error);
        }
        Ok(Err(FrameError::Stalled)) | Err(_) => {
            return refused(StatusCode::REQUEST_TIMEOUT, "the frame did not come in time");
        }
    };
    match rpc::answer(&shared.engine, &caller, &frame).await {
        Some(Answer { text, permits }) if permits.is_empty() => json_response(StatusCode::OK, text),
        Some(Answer { text, permits }) => {
            let body = Body::new(CountedBody { body: Full::from(text), _permits: permits });
            let mut response = with_version((StatusCode::OK, body).into_response());
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        None => with_version(StatusCode::NO_CONTENT.into_response()),
    }
}

/// The body of an answer, with the permits that it occupies until it is written.
struct CountedBody {
    body: Full<Bytes>,
    _permits: Vec<OwnedSemaphorePermit>,
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        HttpBody::size_hint(&self.body)
    }
}

/// Why a frame was not read.
pub(super) enum FrameError {
    /// It is longer than [`MAX_FRAME`].
    TooLarge,
    /// The connection ended before the frame was complete.
    Broken,
    /// It is large, and no permit was free in time.
    Exhausted,
    /// It is large, and its next part did not arrive within [`STALL_TIME`].
    Stalled,
}

impl From<Exhausted> for FrameError {
    fn from(_: Exhausted) -> Self {
        Self::Exhausted
    }
}

/// Waits for the next part of a frame. For a large frame at most [`STALL_TIME`], because it occupies a shared permit.
pub(super) async fn part<T>(reading: Option<&ReadPermit>, part: impl Future<Output = T>) -> Result<T, FrameError> {
    match reading {
        None => Ok(part.await),
        Some(_) => tokio::time::timeout(client_time_limit(STALL_TIME), part).await.map_err(|_| FrameError::Stalled),
    }
}

/// Reads a frame. A large frame waits for a permit.
async fn read_frame(mut body: Body, peer: &Peer) -> Result<(Vec<u8>, Option<WorkPermit>), FrameError> {
    // The length that the client declares, if any.
    let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if declared > MAX_FRAME {
        return Err(FrameError::TooLarge);
    }
    let mut reading = None;
    let mut frame = Vec::new();
    while let Some(piece) = part(reading.as_ref(), body.frame()).await? {
        let Ok(piece) = piece.map_err(|_| FrameError::Broken)?.into_data() else { continue };
        if frame.len() + piece.len() > MAX_FRAME {
            return Err(FrameError::TooLarge);
        }
        if reading.is_none() {
            reading = peer.budget().read(frame.len() + piece.len()).await?;
            if reading.is_some() {
                frame.reserve_exact(declared.saturating_sub(frame.len()));
            }
        }
        frame.extend_from_slice(&piece);
    }
    let work = match reading {
        None => None,
        Some(reading) => reading.finish().await,
    };
    Ok((frame, work))
}

async fn events(
    State(shared): State<Shared>,
    Extension(peer): Extension<Arc<Peer>>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    let seen = headers.get("last-event-id").map(|value| value.to_str().unwrap_or("?").to_owned());
    let (engine, closing) = (Arc::clone(&shared.engine), shared.closing.clone());
    let opened = tokio::task::spawn_blocking(move || {
        peer.require(AccessClass::Read, "an event stream")?;
        let request = stream::Request::parse(&query, seen.as_deref())?;
        stream::open(&engine, &request, closing, peer)
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
                ErrorKind::PolicyDenied => StatusCode::FORBIDDEN,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            failure(status, &error)
        }
    }
}

async fn health(State(shared): State<Shared>, Extension(peer): Extension<Arc<Peer>>) -> Response {
    let mut health = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "protocol": PROTOCOL,
        "pid": std::process::id(),
        "ending": shared.engine.shutdown().is_ending(),
    });
    if !peer.is_remote() {
        // A client needs them for the next request, which starts a run.
        health["inheritEnvironment"] = json!(shared.engine.plugins().inherited_variables());
    }
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
