//! The transports: a unix socket for this user, and loopback TCP where the configuration asks for it.

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
use ostler_engine::{AuditEntry, Engine};
use ostler_private_files::SocketAddress;
use ostler_protocol::{Actor, ApiError, AuditKind, ErrorKind};
use ostler_runner::{Standing, standing_of_peer};

/// How long a client may take over its headers.
const HEADER_TIME: Duration = Duration::from_secs(10);

/// Bytes that a client's headers may have, and how many headers.
const MAX_HEAD: usize = 64 << 10;
const MAX_HEADERS: usize = 64;

/// Refused connections on the unix socket that are told why, at a time. Others are closed.
const MAX_REFUSED: usize = 8;

/// How long it may take to see who connects.
const IDENTIFY_TIME: Duration = Duration::from_secs(5);

/// How long a refused connection may take to hear why.
const REFUSED_TIME: Duration = Duration::from_secs(5);

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

/// Serves until `closing` turns true, then lets open requests finish for a moment.
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
    let door = Arc::new(Door {
        engine,
        budgets,
        refused: Refusals::new(),
        answering: Arc::new(tokio::sync::Semaphore::new(MAX_REFUSED)),
    });
    accept_unix(unix, router(shared), door, connections, closing).await;
    let mut open = open;
    let _ = tokio::time::timeout(DRAIN_TIME, open.wait_for(|open| *open == 0)).await;
}

/// Who is let in on the unix socket.
struct Door {
    engine: Arc<Engine>,
    budgets: Arc<Budgets>,
    refused: Refusals,
    /// Refused connections that are being told why.
    answering: Arc<tokio::sync::Semaphore>,
}

impl Door {
    /// Who connects, or why they are refused; None where that cannot be told in time. A process can make others wait that
    /// look at it in `/proc`, so nothing that serves connections does.
    async fn identify(self: &Arc<Self>, stream: UnixStream) -> Option<(UnixStream, Result<Peer, Refused>)> {
        let door = Arc::clone(self);
        let looked = tokio::task::spawn_blocking(move || {
            let peer = door.peer(&stream);
            (stream, peer)
        });
        tokio::time::timeout(IDENTIFY_TIME, looked).await.ok()?.ok()
    }

    /// The same. Blocks. The socket's folder and mode keep other users out; this keeps them out
    /// where those were changed. What belongs to a run is refused whoever owns it: a run gets what it was given, and the
    /// host is not part of that.
    fn peer(&self, stream: &UnixStream) -> Result<Peer, Refused> {
        let user = nix::unistd::geteuid().as_raw();
        let Ok(credentials) = stream.peer_cred() else { return Err(Refused::Unknown) };
        if credentials.uid() != user && credentials.uid() != 0 {
            return Err(Refused::AnotherUser(credentials.uid()));
        }
        let pid = credentials.pid();
        match standing_of_peer(stream, pid) {
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
            Self::Unknown => {
                "it cannot be told which process connects: it has ended, or lives in another PID namespace"
            }
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
    door: Arc<Door>,
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
                let (router, door) = (router.clone(), Arc::clone(&door));
                let (open, closing) = (connections.enter(), closing.clone());
                tokio::spawn(async move {
                    match door.identify(stream).await {
                        Some((stream, Ok(peer))) => {
                            connection(stream, identified(router, Arc::new(peer)), open, closing).await;
                        }
                        Some((stream, Err(refused))) => {
                            // It must not keep the host from ending when idle.
                            drop(open);
                            door.note(refused);
                            refuse(stream, refused, &door).await;
                        }
                        None => door.note(Refused::Unknown),
                    }
                });
            }
            Err(error) => cannot_accept(&error).await,
        }
    }
}

/// Tells a client why it is refused. Nothing that it sends reaches a method.
async fn refuse(stream: UnixStream, refused: Refused, door: &Door) {
    let Ok(_place) = Arc::clone(&door.answering).try_acquire_owned() else { return };
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

/// A router whose requests carry who sends them, as far as the connection tells.
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
