//! HTTP requests over the unix socket.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use super::ClientError;
use ostler_private_files::SocketAddress;
use ostler_protocol::methods::{ORIGIN_HEADER, VERSION_HEADER};
use ostler_protocol::{ApiError, ErrorKind};

/// Maximum size of an answer, in bytes. Event streams have their own limit.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Why a request failed. A request that the host may have received must not always be repeated.
#[derive(Debug)]
pub(super) enum SendError {
    /// No byte was sent.
    Unsent(ClientError),
    /// The connection broke; the host may have received the request.
    Broken(String),
}

impl SendError {
    pub(super) fn into_client_error(self, uncertain: bool) -> ClientError {
        match self {
            Self::Unsent(error) => error,
            Self::Broken(reason) => ClientError::Broken { reason, uncertain },
        }
    }
}

/// Sends a request on a new connection and waits for the headers of the answer.
pub(super) async fn send(
    socket: &Path,
    version: &str,
    method: &str,
    target: &str,
    headers: &[(&str, String)],
    body: Bytes,
) -> Result<Response<Incoming>, SendError> {
    let stream = open(socket).await.map_err(SendError::Unsent)?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| SendError::Broken(error.to_string()))?;
    // The task ends with the answer, when its body is dropped, or with the upgraded connection.
    tokio::spawn(async move {
        let _ = connection.with_upgrades().await;
    });
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .header(hyper::header::HOST, "ostler")
        .header(VERSION_HEADER, version)
        .header(ORIGIN_HEADER, "cli");
    if !body.is_empty() {
        request = request.header(hyper::header::CONTENT_TYPE, "application/json");
    }
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let request = request
        .body(Full::new(body))
        .map_err(|error| SendError::Unsent(ClientError::Protocol(format!("the request cannot be written: {error}"))))?;
    sender.send_request(request).await.map_err(|error| SendError::Broken(describe(&error)))
}

/// Connects, and checks that the listener belongs to this user, because it gets prompts and variables.
async fn open(socket: &Path) -> Result<UnixStream, ClientError> {
    let address = SocketAddress::of(socket).map_err(|error| ClientError::from_connect(socket.to_owned(), &error))?;
    let stream = match tokio::time::timeout(Duration::from_secs(5), UnixStream::connect(address.path())).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(ClientError::from_connect(socket.to_owned(), &error)),
        Err(_) => {
            let reason = "it accepts no connection".to_owned();
            return Err(ClientError::Unreachable { socket: socket.to_owned(), reason });
        }
    };
    let own = nix::unistd::geteuid().as_raw();
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == own => Ok(stream),
        Ok(peer) => Err(ClientError::Unreachable {
            socket: socket.to_owned(),
            reason: format!("user {} listens there, not you (user {own}); nothing was sent", peer.uid()),
        }),
        Err(error) => Err(ClientError::Unreachable {
            socket: socket.to_owned(),
            reason: format!("it cannot be told who listens there: {error}"),
        }),
    }
}

/// Reads the body of an answer as JSON. An error status becomes the error in the body.
pub(super) async fn read_json(response: Response<Incoming>) -> Result<Value, SendError> {
    let status = response.status();
    let collected = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            return SendError::Unsent(ClientError::Protocol(format!("it is longer than {} MiB", MAX_ANSWER >> 20)));
        }
        SendError::Broken(error.to_string())
    })?;
    let bytes = collected.to_bytes();
    let parsed = serde_json::from_slice::<Value>(&bytes);
    if status.is_success() {
        let value = parsed.map_err(|error| SendError::Unsent(ClientError::Protocol(format!("no JSON: {error}"))))?;
        return Ok(value);
    }
    let refused = parsed.ok().and_then(|value| api_error(&value)).unwrap_or_else(|| {
        let text = String::from_utf8_lossy(bytes.get(..bytes.len().min(300)).unwrap_or_default()).trim().to_owned();
        ApiError::new(ErrorKind::Internal, format!("the host answered with status {status}: {text}"))
    });
    Err(SendError::Unsent(refused.into()))
}

/// The error in a document: in a JSON-RPC response, in `{"error": …}`, or the document itself.
pub(super) fn api_error(document: &Value) -> Option<ApiError> {
    let error = document.get("error").unwrap_or(document);
    if let Some(found) = error.get("data").and_then(|data| serde_json::from_value(data.clone()).ok()) {
        return Some(found);
    }
    if let Ok(found) = serde_json::from_value::<ApiError>(error.clone()) {
        return Some(found);
    }
    let message = error.get("message")?.as_str()?;
    let kind = match error.get("code").and_then(Value::as_i64) {
        Some(-32600 | -32602 | -32700) => ErrorKind::InvalidParams,
        _ => ErrorKind::Internal,
    };
    Some(ApiError::new(kind, message))
}

/// A transport error with its cause.
pub(super) fn describe(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
