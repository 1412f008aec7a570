//! The transports: a unix socket for this user, and TCP if configured.

use std::convert::Infallible;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::watch;
use tower::Service;

use super::budget::{Budgets, PeerKey};
use super::guard::{self, Guard};
use super::http::{Shared, failure, router};
use super::peer::Peer;
use super::refusals::Refusals;
use super::slots::Slots;
use ostler_engine::{AuditEntry, Engine, Peers, Standing};
use ostler_private_files::SocketAddress;
use ostler_protocol::{Actor, ApiError, AuditKind, ErrorKind};

/// Time limit for the headers of a request.
const HEADER_TIME: Duration = Duration::from_secs(10);

/// Maximum size of the headers of a request, in bytes.
const MAX_HEAD: usize = 64 << 10;
/// Maximum number of headers of a request.
const MAX_HEADERS: usize = 64;

/// Maximum number of refused connections on the unix socket that get an error response at a time. Others are closed.
const MAX_REFUSED: usize = 8;

/// Time limit to identify the process that connects.
const IDENTIFY_TIME: Duration = Duration::from_secs(5);

/// Time limit to send the error response to a refused connection.
const REFUSED_TIME: Duration = Duration::from_secs(5);

/// Time limit for open connections to finish when the host ends.
const DRAIN_TIME: Duration = Duration::from_secs(3);

/// Pause after a failed accept. Meanwhile, other connections can close and free descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The number of open connections. A host with open connections is not idle.
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
    /// The current number, with notification of changes.
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

/// The TCP transport.
#[derive(Debug)]
pub struct Tcp {
    /// The listening socket.
    pub listener: TcpListener,
    /// Checks the requests.
    pub guard: Guard,
}

/// Creates the unix socket with mode 0600. Replaces a socket that a dead host has left: the caller has the lock of the
/// data folder, so no running host listens there.
///
/// # Errors
/// If the path exists and is not a socket, or the socket cannot be created.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => std::fs::remove_file(path)?,
        Ok(_) => {
            let message = format!("{} exists and is not a socket; move it away", path.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(SocketAddress::of(path)?.path())?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves until `closing` is true. Then open requests have up to 3 s to finish.
pub async fn serve(
    unix: UnixListener,
    tcp: Option<Tcp>,
    engine: Arc<Engine>,
    connections: Connections,
    closing: watch::Receiver<bool>,
) {
    let shared = Shared { engine: Arc::clone(&engine), closing: closing.clone(), connections: connections.clone() };
    let budgets = Arc::new(Budgets::default());
    let open = connections.watch();
    if let Some(tcp) = tcp {
        let router = guard::protect(router(shared.clone()), tcp.guard.sharing(Arc::clone(&budgets)));
        tokio::spawn(accept_tcp(tcp.listener, router, connections.clone(), closing.clone()));
    }
    let guard = Arc::new(UnixGuard {
        engine,
        budgets,
        peers: Peers::default(),
        refused: Refusals::new(),
        answering: Arc::new(tokio::sync::Semaphore::new(MAX_REFUSED)),
    });
    accept_unix(unix, router(shared), guard, connections, closing).await;
    let mut open = open;
    let _ = tokio::time::timeout(DRAIN_TIME, open.wait_for(|open| *open == 0)).await;
}

/// Access control for the unix socket.
struct UnixGuard {
    engine: Arc<Engine>,
    budgets: Arc<Budgets>,
    peers: Peers,
    refused: Refusals,
    /// Limits the error responses to refused connections.
    answering: Arc<tokio::sync::Semaphore>,
}

impl UnixGuard {
    /// Identifies the process that connects, or the reason to refuse it. `None` after [`IDENTIFY_TIME`]. Runs in a
    /// blocking task, because a process can delay readers of its files in `/proc`.
    async fn identify(self: &Arc<Self>, stream: UnixStream) -> Option<(UnixStream, Result<Peer, Refused>)> {
        let guard = Arc::clone(self);
        let looked = tokio::task::spawn_blocking(move || {
            let peer = guard.peer(&stream);
            (stream, peer)
        });
        tokio::time::timeout(IDENTIFY_TIME, looked).await.ok()?.ok()
    }

    /// Identifies the process that connects. Blocks. The folder and mode of the socket already exclude other users;
    /// this check remains if they were changed. A process of a run is always refused, because a run must not call the
    /// host.
    fn peer(&self, stream: &UnixStream) -> Result<Peer, Refused> {
        let user = nix::unistd::geteuid().as_raw();
        let Ok(credentials) = stream.peer_cred() else { return Err(Refused::Unknown) };
        if credentials.uid() != user && credentials.uid() != 0 {
            return Err(Refused::AnotherUser(credentials.uid()));
        }
        let pid = credentials.pid();
        match self.peers.standing(stream, pid) {
            Standing::Outside => {
                let pid = pid.unwrap_or_default();
                Ok(Peer::unix(pid, credentials.uid(), self.budgets.of(PeerKey::Process(pid))))
            }
            Standing::OfRun => Err(Refused::OfRun { pid: pid.unwrap_or_default() }),
            Standing::Unknown => Err(Refused::Unknown),
        }
    }

    fn note(&self, refused: Refused) {
        let engine = Arc::clone(&self.engine);
        self.refused.count(move |count| {
            tracing::warn!(count, reason = refused.reason(), "connections on the unix socket were refused");
            let entry = AuditEntry::new(AuditKind::Refused, &refused.actor());
            engine
                .audit()
                .append(entry.fact("transport", "unix").fact("reason", refused.reason()).fact("count", count));
        });
    }
}

/// Why a connection on the unix socket is refused.
#[derive(Clone, Copy, Debug)]
enum Refused {
    AnotherUser(u32),
    OfRun { pid: i32 },
    Unknown,
}

impl Refused {
    const fn reason(self) -> &'static str {
        match self {
            Self::AnotherUser(_) => "it is another user's",
            Self::OfRun { .. } => "a process of a run may not call the host",
            Self::Unknown => "the process that connects is unknown: it has ended, or lives in another PID namespace",
        }
    }

    fn actor(self) -> Actor {
        match self {
            Self::AnotherUser(uid) => Actor::Unix { pid: 0, uid },
            Self::OfRun { pid } => Actor::Unix { pid, uid: nix::unistd::geteuid().as_raw() },
            Self::Unknown => Actor::Unknown,
        }
    }

    fn response(self) -> Response {
        let error = ApiError::new(ErrorKind::PolicyDenied, format!("the connection was refused: {}", self.reason()))
            .hint("call from outside of the run; see docs/security.md");
        failure(StatusCode::FORBIDDEN, &error)
    }
}

async fn accept_unix(
    listener: UnixListener,
    router: Router,
    guard: Arc<UnixGuard>,
    connections: Connections,
    mut closing: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closing.wait_for(|closing| *closing) => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, guard) = (router.clone(), Arc::clone(&guard));
                let (open, closing) = (connections.enter(), closing.clone());
                tokio::spawn(async move {
                    match guard.identify(stream).await {
                        Some((stream, Ok(peer))) => {
                            connection(stream, identified(router, Arc::new(peer)), open, closing).await;
                        }
                        Some((stream, Err(refused))) => {
                            // A refused connection must not keep an idle host alive.
                            drop(open);
                            guard.note(refused);
                            refuse(stream, refused, &guard).await;
                        }
                        None => guard.note(Refused::Unknown),
                    }
                });
            }
            Err(error) => cannot_accept(&error).await,
        }
    }
}

/// Sends the reason for a refusal to the client. None of its requests reaches a method.
async fn refuse(stream: UnixStream, refused: Refused, guard: &UnixGuard) {
    let Ok(_permit) = Arc::clone(&guard.answering).try_acquire_owned() else { return };
    let service =
        hyper::service::service_fn(move |_: Request<Incoming>| async move { Ok::<_, Infallible>(refused.response()) });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(REFUSED_TIME).keep_alive(false);
    let _ = tokio::time::timeout(REFUSED_TIME, builder.serve_connection(TokioIo::new(stream), service)).await;
}

async fn accept_tcp(
    listener: TcpListener,
    router: Router,
    connections: Connections,
    mut closing: watch::Receiver<bool>,
) {
    let (slots, crowded) = (Arc::new(Slots::default()), Refusals::new());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closing.wait_for(|closing| *closing) => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let (slot, dropped) = slots.enter();
                if dropped {
                    crowded.count(|count| {
                        tracing::warn!(count, "connections over TCP without a token were closed for newer ones");
                    });
                }
                let _ = stream.set_nodelay(true);
                let service = identified(router.clone(), Arc::clone(&slot));
                let connection = connection(stream, service, connections.enter(), closing.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = connection => {}
                        () = slot.closed() => {}
                    }
                });
            }
            Err(error) => cannot_accept(&error).await,
        }
    }
}

/// A router that adds the sender, as far as the connection shows it, to each request.
fn identified<T: Clone + Send + Sync + 'static>(router: Router, who: T) -> TowerToHyperService<Identified<T>> {
    TowerToHyperService::new(Identified { router, who })
}

#[derive(Clone)]
struct Identified<T> {
    router: Router,
    who: T,
}

impl<T: Clone + Send + Sync + 'static> Service<Request<Incoming>> for Identified<T> {
    type Response = Response;
    type Error = Infallible;
    type Future = axum::routing::future::RouteFuture<Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::<Request<Incoming>>::poll_ready(&mut self.router, context)
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.who.clone());
        self.router.call(request)
    }
}

async fn cannot_accept(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

async fn connection<S, T>(
    stream: S,
    service: TowerToHyperService<Identified<T>>,
    open: Open,
    mut closing: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME).max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD);
    let connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::pin!(connection);
    let closed = async move {
        // Drop the guard that it returns before the next await.
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
