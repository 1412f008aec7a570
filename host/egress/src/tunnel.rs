//! The tunnel after an allowed CONNECT: checks the client's first bytes, then copies.

use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::time::{Instant, timeout, timeout_at};

use super::hello::{self, Hello, MAX_HELLO};
use super::metered::Metered;
use super::open::Target;
use super::record::Connected;
use ostler_protocol::{Host, NetworkReason};

/// The port on which only TLS is accepted.
pub(super) const TLS_PORT: u16 = 443;
/// How long a client may take to send its ClientHello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a refusal may take to be sent.
const REFUSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes that are copied at a time in each direction.
pub(super) const COPY: usize = 16 << 10;
/// A fatal TLS alert, `access_denied`: clients can distinguish it from a network error.
const ACCESS_DENIED: &[u8] = &[21, 3, 3, 0, 2, 2, 49];

/// An allowed and open connection, which the client knows about.
pub(super) struct Tunnel {
    upgrade: OnUpgrade,
    upstream: Metered,
    connected: Connected,
    target: Target,
}

/// The result of the check of the client's first bytes.
enum Opening {
    /// Send these bytes to the other side.
    Pass(Vec<u8>),
    Refuse(NetworkReason, Option<String>),
    /// The client has disconnected, or took too long.
    Gone,
}

impl Tunnel {
    pub(super) fn new(upgrade: OnUpgrade, upstream: Metered, connected: Connected, target: Target) -> Self {
        Self { upgrade, upstream, connected, target }
    }

    /// Copies in both directions until one side has failed or both have ended.
    pub(super) async fn run(mut self) {
        let Ok(Ok(upgraded)) = timeout(HELLO_TIMEOUT, self.upgrade).await else { return };
        let mut client = TokioIo::new(upgraded);
        match opening(&mut client, &self.upstream, &self.target).await {
            Opening::Pass(bytes) => {
                if self.upstream.write_all(&bytes).await.is_ok() {
                    drop(bytes);
                    let _ = copy_bidirectional_with_sizes(&mut client, &mut self.upstream, COPY, COPY).await;
                }
            }
            Opening::Refuse(reason, detail) => {
                self.connected.refuse(reason, detail);
                let _ = timeout(REFUSE_TIMEOUT, async {
                    client.write_all(ACCESS_DENIED).await?;
                    client.shutdown().await
                })
                .await;
            }
            Opening::Gone => {}
        }
    }
}

/// Reads the client's first bytes. On the TLS port they must be a ClientHello with the target's name. On other ports,
/// the name of a ClientHello is checked, too, and everything else passes.
async fn opening<C>(client: &mut C, upstream: &Metered, target: &Target) -> Opening
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let only_tls = target.port == TLS_PORT;
    let mut bytes = Vec::with_capacity(2048);
    if !only_tls {
        tokio::select! {
            read = client.read_buf(&mut bytes) => if !matches!(read, Ok(1..)) { return Opening::Pass(bytes) },
            // The other side sends first, which no TLS server does.
            _ = upstream.readable() => return Opening::Pass(bytes),
        }
    }
    let end = Instant::now() + HELLO_TIMEOUT;
    loop {
        match hello::read(&bytes) {
            Hello::NotTls if only_tls => return Opening::Refuse(NetworkReason::NotTls, None),
            Hello::NotTls => return Opening::Pass(bytes),
            Hello::Invalid => return Opening::Refuse(NetworkReason::NotTls, None),
            Hello::Complete(name) => return check_name(name.as_deref(), &target.host, bytes),
            Hello::Incomplete if bytes.len() >= MAX_HELLO => return Opening::Refuse(NetworkReason::NotTls, None),
            Hello::Incomplete => {}
        }
        let mut rest = (&mut *client).take((MAX_HELLO - bytes.len()) as u64);
        match timeout_at(end, rest.read_buf(&mut bytes)).await {
            Ok(Ok(1..)) => {}
            // Nothing was sent: the client has disconnected.
            Ok(_) if bytes.is_empty() => return Opening::Gone,
            Err(_) if bytes.is_empty() => return Opening::Gone,
            _ => return Opening::Refuse(NetworkReason::NotTls, None),
        }
    }
}

/// Compares the name of the handshake with the host that was allowed.
fn check_name(name: Option<&str>, host: &Host, bytes: Vec<u8>) -> Opening {
    match (name, host) {
        (None, Host::Name(_)) => Opening::Refuse(NetworkReason::NameMissing, None),
        // An address has no name in a handshake.
        (None, Host::Address(_)) => Opening::Pass(bytes),
        (Some(name), host) if Host::parse(name).as_ref() == Ok(host) => Opening::Pass(bytes),
        (Some(name), _) => {
            Opening::Refuse(NetworkReason::OtherName, Some(format!("the TLS handshake asks for {name:?}")))
        }
    }
}
