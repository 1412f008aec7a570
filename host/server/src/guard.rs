//! Access control for TCP: a request needs a valid token, a known `Host` header, and no foreign `Origin`.
//!
//! A web page in a browser can send requests to local ports, also through a DNS name of its own that points to this
//! machine (DNS rebinding). The token protects against that. The checks of `Host` and `Origin` reject such requests
//! before the token is checked.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use tower_http::cors::CorsLayer;

use super::budget::{Budgets, PeerKey};
use super::http::failure;
use super::peer::Peer;
use super::refusals::Refusals;
use super::slots::Slot;
use super::websocket::PROTOCOL_TOKEN;
use base16ct::lower::encode_string as hex;
use ostler_config::HttpConfig;
use ostler_engine::{ClientToken, ClientTokens, Engine};
use ostler_private_files::secret_file::{self, SecretFileError};
use ostler_protocol::{ApiError, ErrorKind};

/// Random bytes of a token, written as twice as many hexadecimal digits.
const TOKEN_BYTES: usize = 32;

/// Checks the requests over TCP.
#[derive(Clone)]
pub struct Guard {
    tokens: Arc<ClientTokens>,
    hosts: Arc<[String]>,
    origins: Arc<[String]>,
    budgets: Arc<Budgets>,
    refused: Refusals,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("hosts", &self.hosts).field("origins", &self.origins).finish_non_exhaustive()
    }
}

/// Result of a successful check.
#[derive(Debug)]
enum Passed {
    /// A request with a valid token.
    Holder(Arc<ClientToken>),
    /// A CORS preflight request of an allowed origin, which has no token.
    Preflight,
}

impl Guard {
    /// A guard for the address that the host listens on. The token in `token_file` becomes the access token `default`.
    /// The file is created with mode 0600 if it does not exist.
    ///
    /// # Errors
    /// If the token can be neither read nor created.
    pub fn new(
        config: &HttpConfig,
        address: SocketAddr,
        token_file: &Path,
        engine: &Engine,
    ) -> Result<Self, SecretFileError> {
        let token = secret_file::read_or_make::<TOKEN_BYTES, _>(token_file, in_hex, parse_token)?;
        engine.access_tokens().tokens().set_default(&token, token_file.to_owned());
        Ok(Self::with(config, address, Arc::clone(engine.access_tokens().tokens())))
    }

    fn with(config: &HttpConfig, address: SocketAddr, tokens: Arc<ClientTokens>) -> Self {
        let mut hosts: Vec<String> = config.allowed_hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        hosts.push(address.to_string());
        if address.ip().is_loopback() {
            hosts.push(format!("localhost:{}", address.port()));
        }
        let origins = config.allowed_origins.clone().into();
        Self { tokens, hosts: hosts.into(), origins, budgets: Arc::default(), refused: Refusals::new() }
    }

    /// Sets the budgets that all transports share.
    pub(super) fn sharing(mut self, budgets: Arc<Budgets>) -> Self {
        self.budgets = budgets;
        self
    }

    /// Checks a request. Returns the token of its sender, or the error response.
    fn check(&self, method: &Method, headers: &HeaderMap) -> Result<Passed, (StatusCode, ApiError)> {
        let refused = |status, message: &str| Err((status, ApiError::new(ErrorKind::PolicyDenied, message)));
        let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let count = |name: HeaderName| headers.get_all(name).iter().count();
        let host = text(header::HOST).unwrap_or_default().to_ascii_lowercase();
        if count(header::HOST) != 1 || !self.hosts.contains(&host) {
            return refused(StatusCode::FORBIDDEN, "the Host header names no host that is served here");
        }
        // Only the first of two headers would be checked.
        for name in [header::ORIGIN, header::AUTHORIZATION] {
            if count(name.clone()) > 1 {
                return refused(StatusCode::FORBIDDEN, &format!("a request has at most one header {name}"));
            }
        }
        if let Some(origin) = text(header::ORIGIN)
            && !self.origins.iter().any(|allowed| allowed == origin)
        {
            return refused(StatusCode::FORBIDDEN, "pages of this origin may not call; see [http] allowed_origins");
        }
        // The answer contains only what an allowed origin may send.
        if method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
            return Ok(Passed::Preflight);
        }
        let bearer = text(header::AUTHORIZATION).and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        // A script in a browser cannot set `Authorization` for a WebSocket, but it can name a subprotocol.
        let protocols = text(header::SEC_WEBSOCKET_PROTOCOL).unwrap_or_default();
        let protocol = protocols.split(',').find_map(|name| name.trim().strip_prefix(PROTOCOL_TOKEN));
        if let Some(token) = bearer.or(protocol).and_then(|token| self.tokens.authenticate(token)) {
            return Ok(Passed::Holder(token));
        }
        let error = ApiError::new(ErrorKind::PolicyDenied, "the token is missing, wrong, expired or revoked").hint(
            "send `Authorization: Bearer TOKEN`; `ostler status` names the file of the default token, and `ostler access \
             add NAME` creates another",
        );
        Err((StatusCode::UNAUTHORIZED, error))
    }
}

/// The file of the default token.
#[must_use]
pub fn token_file(data_dir: &Path) -> PathBuf {
    data_dir.join("http.token")
}

/// Puts the guard in front of a router.
pub(super) fn protect(router: Router, guard: Guard) -> Router {
    let origins: Vec<HeaderValue> = guard.origins.iter().filter_map(|origin| origin.parse().ok()).collect();
    let cors = CorsLayer::new().allow_origin(origins).allow_methods([Method::GET, Method::POST]).allow_headers([
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        HeaderName::from_static("last-event-id"),
    ]);
    router.layer(cors).layer(middleware::from_fn_with_state(guard, pass))
}

async fn pass(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let slot = request.extensions().get::<Arc<Slot>>().cloned();
    match guard.check(request.method(), request.headers()) {
        Ok(Passed::Preflight) => next.run(request).await,
        Ok(Passed::Holder(token)) => {
            if slot.as_ref().is_some_and(|slot| !slot.authenticated(token.name())) {
                let message = format!("the access token {} has too many connections", token.name());
                let error = ApiError::new(ErrorKind::Conflict, message).hint("close some of them").retryable(true);
                return failure(StatusCode::SERVICE_UNAVAILABLE, &error);
            }
            let budget = guard.budgets.of(PeerKey::Token(token.name().to_owned()));
            request.extensions_mut().insert(Arc::new(Peer::holder(token, budget, slot)));
            next.run(request).await
        }
        Err((status, error)) => {
            let reason = error.message.clone();
            guard.refused.count(move |count| {
                tracing::warn!(count, reason, "requests over TCP were refused");
            });
            let mut response = failure(status, &error);
            if status == StatusCode::UNAUTHORIZED {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            response
        }
    }
}

fn in_hex(random: &[u8; TOKEN_BYTES]) -> Vec<u8> {
    format!("{}\n", hex(random)).into_bytes()
}

fn parse_token(content: &[u8]) -> Result<String, String> {
    let token = std::str::from_utf8(content).unwrap_or_default().trim_end();
    let plain = token.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~'));
    if !plain || token.len() < TOKEN_BYTES {
        let wanted = format!("it must hold one line of at least {TOKEN_BYTES} letters and digits");
        return Err(format!("{wanted}; delete it, and the next start makes a new one"));
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn guard() -> Guard {
        let tokens = ClientTokens::default();
        tokens.set_default(TOKEN, PathBuf::from("/none"));
        let config = HttpConfig { allowed_origins: vec!["http://localhost:5173".to_owned()], ..HttpConfig::default() };
        Guard::with(&config, "127.0.0.1:7787".parse().unwrap(), Arc::new(tokens))
    }

    fn status(method: &Method, headers: &[(&str, &str)]) -> u16 {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        guard().check(method, &map).map_or_else(|(status, _)| status.as_u16(), |_| 200)
    }

    #[test]
    fn rejects_requests_without_a_valid_token() {
        let host = ("host", "127.0.0.1:7787");
        let bearer = format!("Bearer {TOKEN}");
        assert_eq!(status(&Method::POST, &[host, ("authorization", &bearer)]), 200);
        assert_eq!(status(&Method::POST, &[host, ("authorization", &bearer.to_lowercase())]), 200);
        assert_eq!(status(&Method::POST, &[host]), 401);
        assert_eq!(status(&Method::POST, &[host, ("authorization", TOKEN)]), 401);
        for wrong in ["Bearer ", "Bearer 0123", &bearer[..bearer.len() - 1], &format!("{bearer}0")] {
            assert_eq!(status(&Method::POST, &[host, ("authorization", wrong)]), 401, "{wrong}");
        }
        let protocol = format!("ostler, {PROTOCOL_TOKEN}{TOKEN}");
        assert_eq!(status(&Method::GET, &[host, ("sec-websocket-protocol", &protocol)]), 200);
    }

    #[test]
    fn rejects_unknown_host_headers() {
        let bearer = ("authorization", format!("Bearer {TOKEN}"));
        for (host, wanted) in [
            ("localhost:7787", 200),
            ("LOCALHOST:7787", 200),
            ("evil.example:7787", 403),
            ("127.0.0.1", 403),
            ("127.0.0.1:80", 403),
        ] {
            assert_eq!(status(&Method::POST, &[("host", host), (bearer.0, &bearer.1)]), wanted, "{host}");
        }
        assert_eq!(status(&Method::POST, &[(bearer.0, &bearer.1)]), 403);
        let twice = [("host", "localhost:7787"), ("host", "localhost:7787"), (bearer.0, bearer.1.as_str())];
        assert_eq!(status(&Method::POST, &twice), 403);
    }

    #[test]
    fn rejects_foreign_origins_even_with_a_token() {
        let (host, bearer) = (("host", "localhost:7787"), format!("Bearer {TOKEN}"));
        let from = |origin| status(&Method::POST, &[host, ("authorization", &bearer), ("origin", origin)]);
        assert_eq!(from("http://localhost:5173"), 200);
        for foreign in ["https://evil.example", "null", "http://localhost:7787", "http://localhost:5173.evil.example"] {
            assert_eq!(from(foreign), 403, "{foreign}");
        }
        // With two headers, one of them would not be checked.
        let allowed = ("origin", "http://localhost:5173");
        let bearer = ("authorization", bearer.as_str());
        for foreign in [("origin", "https://evil.example"), allowed] {
            assert_eq!(status(&Method::POST, &[host, bearer, allowed, foreign]), 403);
            assert_eq!(status(&Method::POST, &[host, bearer, foreign, allowed]), 403);
        }
        assert_eq!(status(&Method::POST, &[host, bearer, bearer]), 403);
        let asks = ("access-control-request-method", "POST");
        assert_eq!(status(&Method::OPTIONS, &[host, asks, ("origin", "http://localhost:5173")]), 200);
        assert_eq!(status(&Method::OPTIONS, &[host, asks, ("origin", "http://evil.example")]), 403);
    }

    #[test]
    fn creates_token_once_and_rejects_weak_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = token_file(folder.path());
        let read = || secret_file::read_or_make::<TOKEN_BYTES, _>(&path, in_hex, parse_token);
        let first = read().unwrap();
        assert_eq!(first.len(), 2 * TOKEN_BYTES);
        assert_eq!(read().unwrap(), first);
        std::fs::write(&path, "short\n").unwrap();
        let error = read().unwrap_err().to_string();
        assert!(error.contains("delete it"), "{error}");
    }
}
