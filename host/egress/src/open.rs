//! From a host that a run wants to a connection: the decision, the look-up, the check, the connection.

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

/// For the look-up and all tries to connect together.
const OPEN_TIME: Duration = Duration::from_secs(10);
/// For the try to connect to one of several addresses.
const TRY_TIME: Duration = Duration::from_secs(3);
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// How names are looked up and connections are made: by the system, or by a test.
pub trait Dial: Send + Sync {
    /// The addresses of a name, the best first.
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

/// What a client wants to reach.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) host: Host,
    pub(super) port: u16,
}

impl Target {
    /// The host as it stands in events.
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
    /// Connects to an allowed host. Each call makes exactly one event: here where it fails, else at the connection's end.
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
                self.note(target, &denial);
                Err(denial)
            }
        }
    }

    /// Tells that there is no connection.
    pub(super) fn note(&self, target: &Target, denial: &Denial) {
        self.recorder.note(Network {
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
        let end = Instant::now() + OPEN_TIME;
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
                let good: Vec<IpAddr> = found.into_iter().filter(check).take(MAX_ADDRESSES).collect();
                match (good.is_empty(), refusal) {
                    (false, _) => good,
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
            let until = if last { end } else { end.min(Instant::now() + TRY_TIME) };
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
