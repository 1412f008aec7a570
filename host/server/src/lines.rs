//! `GET /lines`: JSON-RPC over a connection that is upgraded to plain lines, one frame per line. `ostler rpc --stdio`
//! connects it to standard input and output.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::budget::ReadPermit;
use super::duplex::{self, Session};
use super::http::{FRAME_TIME, FrameError, MAX_FRAME, Shared, failure, origin, part};
use super::peer::Peer;
use super::rpc::Answer;
use ostler_protocol::methods::LINES_PROTOCOL;
use ostler_protocol::{ApiError, ErrorKind};
use ostler_test_hooks::clock::client_time_limit;

pub(super) async fn upgrade(
    State(shared): State<Shared>,
    Extension(peer): Extension<Arc<Peer>>,
    mut request: Request,
) -> Response {
    let protocol = request.headers().get(header::UPGRADE).and_then(|value| value.to_str().ok());
    if !protocol.is_some_and(|protocol| protocol.eq_ignore_ascii_case(LINES_PROTOCOL)) {
        let message = format!("ask for it with `Connection: upgrade` and `Upgrade: {LINES_PROTOCOL}`");
        let mut response = failure(StatusCode::UPGRADE_REQUIRED, &ApiError::new(ErrorKind::InvalidParams, message));
        response.headers_mut().insert(header::UPGRADE, header::HeaderValue::from_static(LINES_PROTOCOL));
        return response;
    }
    let origin = origin(&peer, request.headers());
    let open = shared.connections.enter();
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgraded.await {
            Ok(connection) => serve(TokioIo::new(connection), &shared, origin, peer).await,
            Err(error) => tracing::debug!(%error, "a connection was not upgraded"),
        }
        drop(open);
    });
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, LINES_PROTOCOL)];
    (StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response()
}

async fn serve<S: AsyncRead + AsyncWrite + Send + 'static>(
    connection: S,
    shared: &Shared,
    origin: String,
    peer: Arc<Peer>,
) {
    let (reader, writer) = tokio::io::split(connection);
    let (session, waiting) = Session::open(shared, origin, Arc::clone(&peer));
    let writer = tokio::spawn(write(writer, waiting));
    let mut closing = shared.closing.clone();
    let stopping = tokio::select! {
        () = read(BufReader::new(reader), &session, &peer) => false,
        _ = closing.wait_for(|closing| *closing) => true,
        () = peer.ended() => true,
    };
    // A client that has closed its side may still wait for answers: that of a cancel takes as long as the run. A host
    // that is ending does not wait.
    if stopping {
        drop(session);
    } else {
        let mut closing = shared.closing.clone();
        tokio::select! {
            () = session.finish() => {}
            _ = closing.wait_for(|closing| *closing) => {}
        }
    }
    duplex::finish_writing(writer).await;
}

/// Reads and processes lines until the connection ends.
async fn read<R: AsyncRead + Unpin>(mut reader: BufReader<R>, session: &Session, peer: &Peer) {
    loop {
        // There is no time limit between lines, only within a line.
        match reader.fill_buf().await {
            Ok([]) | Err(_) => return,
            Ok(_) => {}
        }
        match timeout(client_time_limit(FRAME_TIME), line(&mut reader, peer)).await {
            Ok(Ok((line, reading))) => {
                if line.iter().any(|byte| !byte.is_ascii_whitespace()) {
                    let work = match reading {
                        None => None,
                        Some(reading) => reading.finish().await,
                    };
                    session.take(line, work).await;
                }
            }
            Ok(Err(FrameError::TooLarge)) => {
                session.refuse(&format!("a line has at most {} MiB", MAX_FRAME >> 20)).await;
                return;
            }
            Ok(Err(FrameError::Broken)) => return,
            Ok(Err(FrameError::Exhausted)) => {
                session.refuse("too many large frames are on their way").await;
                return;
            }
            Ok(Err(FrameError::Stalled)) | Err(_) => {
                session.refuse("the rest of a line did not come in time").await;
                return;
            }
        }
    }
}

/// Reads one line. The last line needs no line end.
async fn line<R: AsyncRead + Unpin>(
    reader: &mut BufReader<R>,
    peer: &Peer,
) -> Result<(Vec<u8>, Option<ReadPermit>), FrameError> {
    let (mut line, mut reading) = (Vec::new(), None);
    loop {
        let read = part(reading.as_ref(), reader.fill_buf()).await?.map_err(|_| FrameError::Broken)?;
        if read.is_empty() {
            return Ok((line, reading));
        }
        let end = memchr::memchr(b'\n', read);
        let part = read.get(..end.unwrap_or(read.len())).unwrap_or_default();
        if line.len() + part.len() > MAX_FRAME {
            return Err(FrameError::TooLarge);
        }
        line.extend_from_slice(part);
        let used = part.len() + usize::from(end.is_some());
        reader.consume(used);
        if end.is_some() {
            return Ok((line, reading));
        }
        if reading.is_none() {
            reading = peer.budget().read(line.len()).await?;
        }
    }
}

async fn write<W: AsyncWrite + Unpin>(mut writer: W, mut waiting: mpsc::Receiver<Answer>) {
    while let Some(Answer { mut text, permits }) = waiting.recv().await {
        text.push('\n');
        if writer.write_all(text.as_bytes()).await.is_err() {
            return;
        }
        drop(permits);
        if waiting.is_empty() && writer.flush().await.is_err() {
            return;
        }
    }
    let _ = writer.shutdown().await;
}
