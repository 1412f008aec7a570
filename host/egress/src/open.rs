//! Opens a connection to a host: decides, resolves the name, checks the address, connects.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::address::check_address;
use super::allow::{Route, decide};
use super::metered::Metered;
use super::proxy::Shared;
use super::record::{Connected, Meter};
use ostler_protocol::{Host, Network, NetworkReason, NetworkVerdict};

/// The time for the look-up and all attempts to connect together.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// The time for the attempt to connect to one of several addresses.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
/// The most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// Resolves names and makes connections: with the system, or in a test.
pub trait Dial: Send + Sync {
    /// The addresses of a name, the preferred one first.
    fn look_up<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;

    /// A connection to exactly this address.
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>>;
}

/// The system's resolver and network.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDial;

impl Dial for SystemDial {
    fn look_up<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.map(|found| found.ip()).collect()) })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(address))
    }
}

/// The host and port that a client wants to reach.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) host: Host,
    pub(super) port: u16,
}

impl Target {
    /// The host as events name it.
    pub(super) fn name(&self) -> String {
        self.host.to_string()
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) struct Denial {
    pub(super) verdict: NetworkVerdict,
    pub(super) reason: NetworkReason,
    pub(super) detail: Option<String>,
}

impl Denial {
    pub(super) fn refused(reason: NetworkReason) -> Self {
        Self { verdict: NetworkVerdict::Refused, reason, detail: None }
    }

    fn failed(reason: NetworkReason, detail: &dyn ToString) -> Self {
        Self { verdict: NetworkVerdict::Failed, reason, detail: Some(detail.to_string()) }
    }
}

impl Shared {
    /// Connects to an allowed host. Each call causes exactly one event: here on failure, else at the end of the
    /// connection.
    pub(super) async fn open(&self, target: &Target) -> Result<(Metered, Connected), Denial> {
        match self.reach(target).await {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                let meter = Arc::new(Meter::default());
                let recorder = Arc::clone(&self.recorder);
                let connected = Connected::new(recorder, Arc::clone(&meter), target.name(), target.port);
                Ok((Metered::new(stream, meter), connected))
            }
            Err(denial) => {
                self.record(target, &denial);
                Err(denial)
            }
        }
    }

    /// Records that there is no connection.
    pub(super) fn record(&self, target: &Target, denial: &Denial) {
        self.recorder.record(Network {
            host: target.name(),
            port: target.port,
            verdict: denial.verdict,
            reason: Some(denial.reason),
            detail: denial.detail.clone(),
            bytes_up: 0,
            bytes_down: 0,
            connections: 1,
        });
    }

    async fn reach(&self, target: &Target) -> Result<TcpStream, Denial> {
        let end = Instant::now() + OPEN_TIMEOUT;
        let addresses = match decide(&target.host, target.port, &self.allowed).map_err(Denial::refused)? {
            Route::Addresses(addresses) => addresses,
            Route::LookUp(name, scope) => {
                let found = timeout_at(end, self.dial.look_up(&name)).await;
                let found = found
                    .map_err(|_| Denial::failed(NetworkReason::TimedOut, &"the look-up of the name took too long"))?
                    .map_err(|error| Denial::failed(NetworkReason::Unresolvable, &error))?;
                let mut refusal = None;
                let check = |address: &IpAddr| match check_address(*address, scope) {
                    Ok(()) => true,
                    Err(reason) => {
                        refusal.get_or_insert((reason, *address));
                        false
                    }
                };
                let permitted: Vec<IpAddr> = found.into_iter().filter(check).take(MAX_ADDRESSES).collect();
                match (permitted.is_empty(), refusal) {
                    (false, _) => permitted,
                    (true, Some((reason, address))) => {
                        let detail = Some(format!("{name} is {address}"));
                        return Err(Denial { detail, ..Denial::refused(reason) });
                    }
                    (true, None) => {
                        return Err(Denial::failed(NetworkReason::Unresolvable, &"the name has no address"));
                    }
                }
            }
        };
        self.connect(&addresses, target.port, end).await
    }

    async fn connect(&self, addresses: &[IpAddr], port: u16, end: Instant) -> Result<TcpStream, Denial> {
        let mut failure = Denial::failed(NetworkReason::Unreachable, &"there is no address to connect to");
        for (index, address) in addresses.iter().enumerate() {
            let last = index + 1 == addresses.len();
            let until = if last { end } else { end.min(Instant::now() + ATTEMPT_TIMEOUT) };
            failure = match timeout_at(until, self.dial.connect(SocketAddr::new(*address, port))).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => Denial::failed(NetworkReason::Unreachable, &error),
                Err(_) => Denial::failed(NetworkReason::TimedOut, &"the connection took too long"),
            };
            if Instant::now() >= end {
                break;
            }
        }
        Err(failure)
    }
}
