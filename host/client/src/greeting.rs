//! The first request to a host, sent before it is known what will be asked of it.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;
use tokio::task::JoinHandle;

use super::ClientError;
use super::connect::KEEP_LIMIT;
use super::http::{self, Connection, SendError};

/// A request to a host to identify itself, whose answer nobody has read yet.
///
/// For a program that has other work to do before its first call, such as reading its arguments: the host identifies the
/// program meanwhile, and answers. [`Client::connect_greeted`](super::Client::connect_greeted) takes the answer.
#[derive(Debug)]
pub struct Greeting {
    socket: PathBuf,
    version: String,
    sent: Instant,
    answer: JoinHandle<Result<(Value, Connection), SendError>>,
}

impl Greeting {
    /// Sends the request to the host that listens on a socket; `version` is that of this program. Does not wait for the
    /// answer. `None` if no host can be reached. Must be called within a Tokio runtime, which reads the answer.
    pub async fn send(socket: &Path, version: &str) -> Option<Self> {
        let request = http::health_request(version).ok()?;
        let connection = Connection::open(socket).await.ok()?;
        let socket = socket.to_owned();
        let answer = tokio::spawn({
            let socket = socket.clone();
            async move {
                let (response, connection) = http::send(&socket, Some(connection), request).await?;
                Ok((http::read_json(response).await?, connection))
            }
        });
        // The new task hands the request to that of the connection, which writes it.
        for _ in 0..2 {
            tokio::task::yield_now().await;
        }
        Some(Self { socket, version: version.to_owned(), sent: Instant::now(), answer })
    }

    /// The answer with the connection and the time of the request. `None` if it was sent to another host, by another
    /// version, or long ago, and if the host has ended meanwhile.
    pub(super) async fn answer(
        self,
        socket: &Path,
        version: &str,
    ) -> Option<Result<(Value, Connection, Instant), SendError>> {
        let fits = self.socket == socket && self.version == version && self.sent.elapsed() < KEEP_LIMIT;
        let answered = if fits { self.answer.await.ok()? } else { return None };
        match answered {
            Ok((answer, connection)) => Some(Ok((answer, connection, self.sent))),
            Err(refused @ SendError::Unsent(ClientError::Api(_))) => Some(Err(refused)),
            Err(_) => None,
        }
    }
}
