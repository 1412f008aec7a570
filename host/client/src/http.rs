//! HTTP requests over the unix socket.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
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

/// A connection that carries one request at a time. It stays open while its sender exists, or its last answer is read.
#[derive(Debug)]
pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// The socket, to see that the host has closed it before a request is written to it.
    socket: OwnedFd,
}

/// A request that a connection did not take, because the host has closed it.
struct NotSent(Request<Full<Bytes>>);

impl Connection {
    /// Connects to the host, and checks that it belongs to this user.
    pub(super) async fn open(socket: &Path) -> Result<Self, SendError> {
        let stream = open(socket).await.map_err(SendError::Unsent)?;
        let socket = stream
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| SendError::Unsent(ClientError::from_connect(socket.to_owned(), &error)))?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| SendError::Broken(error.to_string()))?;
        // The task ends with the connection, upgraded or not.
        tokio::spawn(async move {
            let _ = connection.with_upgrades().await;
        });
        Ok(Self { sender, socket })
    }

    /// Whether the host has closed the connection. Between two answers, it sends nothing.
    fn is_closed(&self) -> bool {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(0))
    }

    /// Sends a request and waits for the headers of the answer. Returns the request if no byte of it was sent.
    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Result<Response<Incoming>, SendError>, NotSent> {
        if self.sender.ready().await.is_err() || self.is_closed() {
            return Err(NotSent(request));
        }
        match self.sender.try_send_request(request).await {
            Ok(response) => Ok(Ok(response)),
            Err(mut error) => match error.take_message() {
                Some(request) => Err(NotSent(request)),
                None => Ok(Err(SendError::Broken(describe(error.error())))),
            },
        }
    }
}

/// Sends a request on the connection that is kept, if the host has not closed it meanwhile, else on a new one. Waits for the
/// headers of the answer, and returns them with the connection, which is free when the body has been read.
pub(super) async fn send(
    socket: &Path,
    kept: Option<Connection>,
    mut request: Request<Full<Bytes>>,
) -> Result<(Response<Incoming>, Connection), SendError> {
    if let Some(mut connection) = kept {
        match connection.send(request).await {
            Ok(answer) => return answer.map(|response| (response, connection)),
            Err(NotSent(unsent)) => request = unsent,
        }
    }
    let mut connection = Connection::open(socket).await?;
    match connection.send(request).await {
        Ok(answer) => answer.map(|response| (response, connection)),
        Err(NotSent(_)) => Err(SendError::Broken("the host closed the connection".to_owned())),
    }
}

/// The request to identify the host.
pub(super) fn health_request(version: &str) -> Result<Request<Full<Bytes>>, SendError> {
    request(version, "GET", "/healthz", &[], Bytes::new())
}

/// Builds a request to the host.
pub(super) fn request(
    version: &str,
    method: &str,
    target: &str,
    headers: &[(&str, String)],
    body: Bytes,
) -> Result<Request<Full<Bytes>>, SendError> {
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
    request
        .body(Full::new(body))
        .map_err(|error| SendError::Unsent(ClientError::Protocol(format!("the request cannot be written: {error}"))))
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
            reason: format!("the user who listens there is unknown: {error}"),
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
