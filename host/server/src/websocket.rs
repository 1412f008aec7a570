//! `GET /ws`: JSON-RPC over a WebSocket, one frame per message.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tungstenite::Error as WsError;
use tungstenite::error::ProtocolError;

use super::budget::Exhausted;
use super::duplex::{self, Session};
use super::http::{FRAME_TIME, MAX_FRAME, Shared, failure, origin};
use super::peer::Peer;
use super::rpc::Answer;
use super::server::Open;
use ostler_protocol::{ApiError, ErrorKind};
use ostler_test_hooks::clock::client_time_limit;

/// The subprotocol of the host, for clients that require one.
const PROTOCOL: &str = "ostler";

/// Prefix of a token in the name of a subprotocol. A script in a browser can send a token only that way.
pub(super) const PROTOCOL_TOKEN: &str = "bearer.";

/// Interval of pings to the client. A client that sends neither an answer to them nor a complete message for
/// [`FRAME_TIME`] counts as gone.
const PING: Duration = Duration::from_secs(20);

/// Time limit for the client's Close frame.
const CLOSE_TIME: Duration = Duration::from_secs(2);

/// Time limit for unfinished answers when the host ends the connection. Shorter than the limit of
/// [`duplex::finish_writing`].
const LAST_ANSWERS: Duration = Duration::from_secs(1);

pub(super) async fn upgrade(
    State(shared): State<Shared>,
    Extension(peer): Extension<Arc<Peer>>,
    headers: HeaderMap,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let socket = match socket {
        Ok(socket) => socket,
        Err(rejection) => {
            let message = format!("not a WebSocket handshake: {rejection}");
            return failure(StatusCode::BAD_REQUEST, &ApiError::new(ErrorKind::InvalidParams, message));
        }
    };
    let origin = origin(&peer, &headers);
    let open = shared.connections.enter();
    socket
        .protocols([PROTOCOL])
        .max_message_size(MAX_FRAME)
        .max_frame_size(MAX_FRAME)
        .on_upgrade(move |socket| serve(socket, shared, origin, peer, open))
}

async fn serve(socket: WebSocket, shared: Shared, origin: String, peer: Arc<Peer>, open: Open) {
    let (sink, mut source) = socket.split();
    let (session, waiting) = Session::open(&shared, origin, Arc::clone(&peer));
    let (close, reason) = watch::channel(None);
    let writer = tokio::spawn(write(sink, waiting, reason));
    let reason = tokio::select! {
        reason = read(&mut source, &session, &shared, &peer) => reason,
        () = peer.ended() => Reason::Revoked,
    };
    close.send_replace(Some(reason));
    drop(session);
    duplex::finish_writing(writer).await;
    finish_handshake(source).await;
    drop(open);
}

/// Waits up to [`CLOSE_TIME`] for the other half of the closing handshake (RFC 6455, 7.1.1): the client's Close frame,
/// if the host closes the connection. Returns at once if the client has closed it. The host then closes the TCP
/// connection.
async fn finish_handshake(mut source: SplitStream<WebSocket>) {
    let ended = async { while let Some(Ok(_)) = source.next().await {} };
    let _ = timeout(client_time_limit(CLOSE_TIME), ended).await;
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// The client closed the connection, or is gone.
    Gone,
    /// The client sent nothing for too long.
    Silent,
    /// A message was longer than [`MAX_FRAME`].
    TooLarge,
    /// A text was not UTF-8.
    NotText,
    /// The client violated the protocol.
    Malformed,
    /// Too many large messages at a time.
    Exhausted,
    /// The client's token was revoked, or has expired.
    Revoked,
    /// The host ends.
    Stopping,
}

impl Reason {
    /// Why the library ended a connection. axum hides the type of its error, but not the error: it is that of
    /// tungstenite, in the version that axum uses.
    fn of_error(error: axum::Error) -> Self {
        match error.into_inner().downcast_ref() {
            Some(WsError::Capacity(_)) => Self::TooLarge,
            Some(WsError::Utf8(_)) => Self::NotText,
            Some(WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => Self::Gone,
            Some(WsError::Protocol(_)) => Self::Malformed,
            _ => Self::Gone,
        }
    }
}

async fn read(source: &mut SplitStream<WebSocket>, session: &Session, shared: &Shared, peer: &Peer) -> Reason {
    let mut closing = shared.closing.clone();
    loop {
        let deadline = Instant::now() + client_time_limit(FRAME_TIME);
        let message = tokio::select! {
            message = timeout_at(deadline, source.next()) => message,
            _ = closing.wait_for(|closing| *closing) => return Reason::Stopping,
        };
        let frame: Vec<u8> = match message {
            Err(_) => return Reason::Silent,
            Ok(Some(Ok(Message::Text(text)))) => text.as_bytes().to_vec(),
            Ok(Some(Ok(Message::Binary(bytes)))) => bytes.to_vec(),
            Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => continue,
            Ok(None | Some(Ok(Message::Close(_)))) => return Reason::Gone,
            Ok(Some(Err(error))) => {
                tracing::debug!(%error, "a WebSocket ended early");
                return Reason::of_error(error);
            }
        };
        // The message is already complete: only the permit to process it is needed.
        let work = match peer.budget().read(frame.len()).await {
            Ok(None) => None,
            Ok(Some(reading)) => reading.finish().await,
            Err(Exhausted) => return Reason::Exhausted,
        };
        session.take(frame, work).await;
    }
}

/// Sends the queued texts until the connection must end, then the Close frame.
async fn write(
    mut sink: SplitSink<WebSocket, Message>,
    mut waiting: mpsc::Receiver<Answer>,
    reason: watch::Receiver<Option<Reason>>,
) {
    let (mut gone, mut closing) = (reason.clone(), reason.clone());
    tokio::select! {
        () = send_all(&mut sink, &mut waiting) => {}
        // Nothing may follow a Close frame, and the client reads nothing more.
        _ = gone.wait_for(|reason| *reason == Some(Reason::Gone)) => {}
        // Give the last answers time to be sent.
        () = last_moment(&mut closing) => {}
    }
    let reason = (*reason.borrow()).unwrap_or(Reason::Gone);
    let (code, text) = match reason {
        Reason::TooLarge => (close_code::SIZE, "a message is too long"),
        Reason::NotText => (close_code::INVALID, "a text is not UTF-8"),
        Reason::Malformed => (close_code::PROTOCOL, "a frame breaks the protocol"),
        Reason::Silent => (close_code::POLICY, "no whole message and no answer to a ping came in time"),
        Reason::Exhausted => (close_code::AGAIN, "too many large messages at a time"),
        Reason::Revoked => (close_code::POLICY, "the access token was revoked or has expired"),
        Reason::Stopping => (close_code::AWAY, "the host ends"),
        Reason::Gone => (close_code::NORMAL, ""),
    };
    if reason != Reason::Gone {
        let _ = sink.send(Message::Close(Some(CloseFrame { code, reason: text.into() }))).await;
    }
    // Sends the frames that are still queued. If the client closed the connection, that is the library's answer to its
    // Close frame.
    let _ = sink.close().await;
}

/// Sends answers and events until all senders are gone or the client accepts no more.
async fn send_all(sink: &mut SplitSink<WebSocket, Message>, waiting: &mut mpsc::Receiver<Answer>) {
    let mut ping = tokio::time::interval_at(Instant::now() + PING, PING);
    loop {
        let (message, permits) = tokio::select! {
            answer = waiting.recv() => match answer {
                Some(Answer { text, permits }) => (Message::Text(text.into()), permits),
                None => return,
            },
            _ = ping.tick() => (Message::Ping(Vec::new().into()), Vec::new()),
        };
        if sink.send(message).await.is_err() {
            return;
        }
        drop(permits);
    }
}

/// Returns [`LAST_ANSWERS`] after the end of the connection was requested.
async fn last_moment(reason: &mut watch::Receiver<Option<Reason>>) {
    if reason.wait_for(Option::is_some).await.is_err() {
        return;
    }
    tokio::time::sleep(LAST_ANSWERS).await;
}
