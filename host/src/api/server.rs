//! The transports: a unix socket for this user, and loopback TCP where the configuration asks for it.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::watch;

use super::guard::{self, Guard};
use super::http::{Shared, router};
use crate::engine::Engine;

/// How long a client may take over its headers.
const HEADER_TIME: Duration = Duration::from_secs(10);

/// Bytes that a client's headers may have, and how many headers.
const MAX_HEAD: usize = 64 << 10;
const MAX_HEADERS: usize = 64;

/// Open connections over TCP, at most: whoever has no token can hold nothing but these.
const MAX_TCP: usize = 256;

/// How long open connections get to finish when the host ends.
const DRAIN_TIME: Duration = Duration::from_secs(3);

/// Before the next try where a connection could not be taken: others will be closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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

    pub(super) fn enter(&self) -> Open {
        self.open.send_modify(|open| *open += 1);
        Open(self.clone())
    }
}

/// One open connection.
pub(super) struct Open(Connections);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open = open.saturating_sub(1));
    }
}

/// Where the host listens over TCP.
#[derive(Debug)]
pub struct Tcp {
    /// The socket, listening.
    pub listener: TcpListener,
    /// Who is let in.
    pub guard: Guard,
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
    unix: UnixListener,
    tcp: Option<Tcp>,
    engine: Arc<Engine>,
    connections: Connections,
    closing: watch::Receiver<bool>,
) {
    let shared = Shared::new(engine, connections.clone(), closing.clone());
    let open = connections.watch();
    if let Some(tcp) = tcp {
        let service = TowerToHyperService::new(guard::protect(router(shared.over_tcp()), tcp.guard));
        tokio::spawn(accept_tcp(tcp.listener, service, connections.clone(), closing.clone()));
    }
    accept_unix(unix, TowerToHyperService::new(router(shared)), connections, closing).await;
    let mut open = open;
    let _ = tokio::time::timeout(DRAIN_TIME, open.wait_for(|open| *open == 0)).await;
}

async fn accept_unix(
    listener: UnixListener,
    service: TowerToHyperService<Router>,
    connections: Connections,
    mut closing: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closing.wait_for(|closing| *closing) => return,
        };
        match accepted {
            Ok((stream, _)) if of_this_user(&stream) => {
                tokio::spawn(connection(stream, service.clone(), connections.enter(), closing.clone()));
            }
            Ok(_) => tracing::warn!("another user's connection was refused"),
            Err(error) => cannot_accept(&error).await,
        }
    }
}

async fn accept_tcp(
    listener: TcpListener,
    service: TowerToHyperService<Router>,
    connections: Connections,
    mut closing: watch::Receiver<bool>,
) {
    let places = Arc::new(tokio::sync::Semaphore::new(MAX_TCP));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closing.wait_for(|closing| *closing) => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                    tracing::warn!(%peer, "a connection was refused: {MAX_TCP} are open");
                    continue;
                };
                let _ = stream.set_nodelay(true);
                let connection = connection(stream, service.clone(), connections.enter(), closing.clone());
                tokio::spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => cannot_accept(&error).await,
        }
    }
}

async fn cannot_accept(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

async fn connection<S>(stream: S, service: TowerToHyperService<Router>, open: Open, mut closing: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME).max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD);
    let connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
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
