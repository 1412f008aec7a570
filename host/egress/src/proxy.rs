//! Accepts the connections of one run and answers their requests.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;

use super::EgressSink;
use super::allow::AllowList;
use super::forward::{self, Forwarded};
use super::open::{Denial, Dial, Target};
use super::record::Recorder;
use super::remedy;
use super::tunnel::{COPY, Tunnel};
use ostler_protocol::{Host, NetworkReason};

/// How long a client may take for the headers of a request, and stay idle between two requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest size of headers in bytes; also the buffer of one connection for each direction.
pub(super) const MAX_HEAD: usize = 64 << 10;
/// How many headers a request may have.
const MAX_HEADERS: usize = 128;
/// The pause after a connection could not be accepted, until others are closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long [`Proxy::close`] waits for the last event.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) type Body = Either<Full<Bytes>, Forwarded>;

/// The state that all connections of one run share.
pub(super) struct Shared {
    pub(super) allowed: AllowList,
    pub(super) recorder: Arc<Recorder>,
    pub(super) dial: Arc<dyn Dial>,
}

impl Shared {
    pub(super) fn new(allowed: AllowList, sink: Arc<dyn EgressSink>, dial: Arc<dyn Dial>) -> Self {
        Self { allowed, recorder: Arc::new(Recorder::new(sink)), dial }
    }
}

/// The proxy of one run. Dropping it ends its connections.
#[derive(Debug)]
pub struct Proxy {
    stop: Option<oneshot::Sender<()>>,
    ended: Receiver<()>,
}

impl Proxy {
    pub(super) fn start(
        runtime: &Handle,
        listeners: Vec<(TcpListener, Entry)>,
        shared: Shared,
        connections: usize,
        all_connections: Arc<Semaphore>,
    ) -> io::Result<Self> {
        let listeners = {
            let _inside = runtime.enter();
            let opened = listeners
                .into_iter()
                .map(|(listener, entry)| Ok((tokio::net::TcpListener::from_std(listener)?, entry)));
            opened.collect::<io::Result<Vec<_>>>()?
        };
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = channel();
        runtime.spawn(async move {
            let shared = Arc::new(shared);
            let (end_all, ending) = watch::channel(false);
            let mut accepting = JoinSet::new();
            let own = Arc::new(Semaphore::new(connections));
            for (listener, entry) in listeners {
                accepting.spawn(accept(
                    listener,
                    entry,
                    Arc::clone(&shared),
                    Arc::clone(&own),
                    Arc::clone(&all_connections),
                    ending.clone(),
                ));
            }
            // Also returns if the sender is dropped.
            let _ = stopped.await;
            end_all.send_replace(true);
            while accepting.join_next().await.is_some() {}
            shared.recorder.finish();
            let _ = end.send(());
        });
        Ok(Self { stop: Some(stop), ended })
    }

    /// Ends the connections and waits until the last event is reported, for at most two seconds. Must not be called on
    /// the thread of a runtime.
    pub fn close(mut self) {
        drop(self.stop.take());
        let _ = self.ended.recv_timeout(CLOSE_TIMEOUT);
    }
}

/// What a listening socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// Requests to a proxy.
    Proxy,
    /// Connections to that port of this machine.
    Port(u16),
}

async fn accept(
    listener: tokio::net::TcpListener,
    entry: Entry,
    shared: Arc<Shared>,
    own: Arc<Semaphore>,
    all: Arc<Semaphore>,
    mut ending: watch::Receiver<bool>,
) {
    let mut open = JoinSet::new();
    tokio::select! {
        _ = ending.wait_for(|ending| *ending) => {}
        () = accept_all(&listener, entry, &shared, &own, &all, &mut open) => {}
    }
    drop(listener);
    // The bytes of each connection are recorded when it has ended.
    open.shutdown().await;
}

async fn accept_all(
    listener: &tokio::net::TcpListener,
    entry: Entry,
    shared: &Arc<Shared>,
    own: &Arc<Semaphore>,
    all: &Arc<Semaphore>,
    open: &mut JoinSet<()>,
) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "a run's connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Acquire the run's permit first: a run at its limit must not take a shared one. Neither semaphore is closed,
        // so this never fails.
        let (Ok(one), Ok(of_all)) = (Arc::clone(own).acquire_owned().await, Arc::clone(all).acquire_owned().await)
        else {
            return;
        };
        while open.try_join_next().is_some() {}
        let shared = Arc::clone(shared);
        open.spawn(async move {
            let _permits = (one, of_all);
            match entry {
                Entry::Proxy => serve(stream, shared).await,
                Entry::Port(port) => pass(stream, port, &shared).await,
            }
        });
    }
}

/// Passes one connection on to a port of this machine, if the run may reach it.
async fn pass(mut client: TcpStream, port: u16, shared: &Shared) {
    let _ = client.set_nodelay(true);
    let target = Target { host: Host::Address(Ipv4Addr::LOCALHOST.into()), port };
    if let Ok((mut upstream, _connected)) = shared.open(&target).await {
        let _ = copy_bidirectional_with_sizes(&mut client, &mut upstream, COPY, COPY).await;
    }
}

/// Serves one connection to its end, with the tunnel that it may become.
async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let tunnel: Arc<Mutex<Option<Tunnel>>> = Arc::default();
    let service = {
        let tunnel = Arc::clone(&tunnel);
        service_fn(move |request| {
            let (shared, tunnel) = (Arc::clone(&shared), Arc::clone(&tunnel));
            async move { Ok::<_, Infallible>(answer(request, &shared, &tunnel).await) }
        })
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .preserve_header_case(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let _ = connection.await;
    let tunnel = tunnel.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(tunnel) = tunnel {
        tunnel.run().await;
    }
}

async fn answer(request: Request<Incoming>, shared: &Shared, tunnel: &Mutex<Option<Tunnel>>) -> Response<Body> {
    let connect = request.method() == Method::CONNECT;
    let target = match target(request.uri(), connect) {
        Ok(target) => target,
        Err(message) => return text(StatusCode::BAD_REQUEST, format!("ostler: {message}\n")),
    };
    if !connect {
        return forward::forward(request, target, shared).await;
    }
    match shared.open(&target).await {
        Ok((upstream, connected)) => {
            let made = Tunnel::new(hyper::upgrade::on(request), upstream, connected, target);
            *tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
            Response::new(Either::Left(Full::default()))
        }
        Err(denial) => deny(&target, &denial),
    }
}

/// The host and port of a request.
fn target(uri: &Uri, connect: bool) -> Result<Target, String> {
    let authority = uri.authority().ok_or("this is a proxy: it takes CONNECT and requests for whole http:// URLs")?;
    if authority.as_str().contains('@') {
        return Err("the host must not have a user name".to_owned());
    }
    let port = match (connect, uri.scheme_str()) {
        (true, _) => uri.port_u16().ok_or("CONNECT must name a port")?,
        (false, Some("http")) if uri.port().is_none() => 80,
        (false, Some("http")) => uri.port_u16().ok_or("the port is not valid")?,
        (false, _) => return Err("only http:// URLs are forwarded; use CONNECT for others".to_owned()),
    };
    let host = Host::parse(authority.host()).map_err(|error| format!("the host {error}"))?;
    Ok(Target { host, port })
}

/// The response if there is no connection.
pub(super) fn deny(target: &Target, denial: &Denial) -> Response<Body> {
    let (host, port) = (target.name(), target.port);
    let detail = denial.detail.as_deref().map(|detail| format!(" ({detail})")).unwrap_or_default();
    let (status, what) = match denial.reason {
        NetworkReason::NotAllowed => (StatusCode::FORBIDDEN, "is not allowed for this run"),
        NetworkReason::LoopbackAddress => (StatusCode::FORBIDDEN, "leads to this machine, which a name must not"),
        NetworkReason::LinkLocalAddress => (StatusCode::FORBIDDEN, "leads to a link-local address"),
        NetworkReason::MetadataAddress => (StatusCode::FORBIDDEN, "leads to a cloud's metadata service"),
        NetworkReason::PrivateAddress => {
            (StatusCode::FORBIDDEN, "leads to a private network, which only hosts of the configuration may")
        }
        NetworkReason::ReservedAddress => (StatusCode::FORBIDDEN, "leads to an address that no host has"),
        NetworkReason::NotTls => (StatusCode::FORBIDDEN, "is allowed for TLS alone"),
        NetworkReason::NameMissing => (StatusCode::FORBIDDEN, "needs its name in the TLS handshake"),
        NetworkReason::OtherName => (StatusCode::FORBIDDEN, "is not the host of the TLS handshake"),
        NetworkReason::Unresolvable => (StatusCode::BAD_GATEWAY, "is not known"),
        NetworkReason::Unreachable => (StatusCode::BAD_GATEWAY, "cannot be reached"),
        NetworkReason::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "does not answer"),
    };
    let remedy = remedy(denial.reason, &host, port).map(|remedy| format!("{remedy}\n")).unwrap_or_default();
    text(status, format!("ostler: host {host}:{port} {what}{detail}\n{remedy}"))
}

pub(super) fn text(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
