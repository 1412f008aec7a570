//! Forwards requests for `http://` URLs, each over its own connection.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Either;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;

use super::open::{Denial, Target};
use super::proxy::{Body, MAX_HEAD, Shared, deny, text};
use super::record::Connected;
use super::tunnel::TLS_PORT;
use ostler_protocol::NetworkReason;

/// Headers that concern one connection and not the request (RFC 9110, 7.6.1).
const HOP_BY_HOP: &[HeaderName] = &[
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    // The server side of this proxy has handled it.
    header::EXPECT,
];
/// Further ones, for which the library has no constant.
const HOP_BY_HOP_NAMES: &[&str] = &["keep-alive", "proxy-connection"];

/// The body of a response, with its connection.
pub(super) struct Forwarded {
    body: Incoming,
    _driver: Driver,
    _connected: Connected,
}

/// Drives a connection until its response is read.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl HttpBody for Forwarded {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Forwards a request to the host of its URL.
pub(super) async fn forward(mut request: Request<Incoming>, target: Target, shared: &Shared) -> Response<Body> {
    if target.port == TLS_PORT {
        // A TLS server cannot use it, and the name cannot be checked.
        let denial = Denial::refused(NetworkReason::NotTls);
        shared.record(&target, &denial);
        return deny(&target, &denial);
    }
    if let Err(message) = rewrite(&mut request) {
        return text(StatusCode::BAD_REQUEST, format!("ostler: {message}\n"));
    }
    let (stream, connected) = match shared.open(&target).await {
        Ok(opened) => opened,
        Err(denial) => return deny(&target, &denial),
    };
    let failed = |error: &hyper::Error| {
        text(StatusCode::BAD_GATEWAY, format!("ostler: host {}:{} failed: {error}\n", target.host, target.port))
    };
    let client = http1::Builder::new()
        .preserve_header_case(true)
        .max_buf_size(MAX_HEAD)
        .handshake::<_, Incoming>(TokioIo::new(stream))
        .await;
    let (mut sender, connection) = match client {
        Ok(made) => made,
        Err(error) => return failed(&error),
    };
    let driver = Driver(tokio::spawn(async move {
        let _ = connection.await;
    }));
    match sender.send_request(request).await {
        Ok(response) => {
            let mut response = response;
            strip_hop_by_hop(response.headers_mut());
            response.map(|body| Either::Right(Forwarded { body, _driver: driver, _connected: connected }))
        }
        Err(error) => failed(&error),
    }
}

/// Rewrites the request to a proxy as one to the server.
fn rewrite(request: &mut Request<Incoming>) -> Result<(), &'static str> {
    let uri = request.uri();
    let authority = uri.authority().ok_or("the URL has no host")?;
    // Ignore the client's own header: this is the host that was checked.
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| "the host is not valid")?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let path: Uri = path.parse().map_err(|_| "the path is not valid")?;
    strip_hop_by_hop(request.headers_mut());
    request.headers_mut().insert(header::HOST, host);
    request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    *request.uri_mut() = path;
    *request.version_mut() = Version::HTTP_11;
    Ok(())
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // Keep headers that the request needs.
        .filter(|name| *name != header::CONTENT_LENGTH && *name != header::HOST)
        .collect();
    for name in named.iter().chain(HOP_BY_HOP) {
        headers.remove(name);
    }
    for name in HOP_BY_HOP_NAMES {
        headers.remove(*name);
    }
}
