//! Lets a contained run reach only the hosts that it is allowed to.
//!
//! A run's child lives in a network namespace without a route. On that namespace's loopback there is one listening
//! socket, whose descriptor the host has; the child's proxy variables name its address. So all network traffic of the
//! run goes through a [`Proxy`], which
//!
//! - takes `CONNECT host:port` and requests for `http://` URLs,
//! - decides by the run's [`AllowList`] ([`decide`]),
//! - resolves names itself, refuses addresses that a name must not resolve to ([`check_address`]), and connects to
//!   exactly the address that it checked,
//! - compares the name in the TLS handshake with the allowed one,
//! - reports each decision to an [`EgressSink`].
//!
//! It sees no content of encrypted connections. Two gaps follow from that: on a server with several names, a request
//! *inside* of TLS can name another one (domain fronting), and an encrypted ClientHello shows only its outer name.
//!
//! The crate knows neither runs nor storage. All proxies share one thread ([`Egress`]), so that neither a slow resolver
//! nor a busy run takes threads from the API.
//!
//! ```text
//! accept ─ hyper ─┬─ CONNECT ── open ── 200 ── first bytes ── copy both ways
//!                 └─ http://… ─ open ── one request over a connection of its own
//!                               └ decide → look up → check → connect
//! ```

mod address;
mod allow;
mod forward;
mod hello;
mod metered;
mod open;
mod proxy;
mod record;
mod tunnel;

#[cfg(test)]
mod tests;

use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::resource::{Resource, getrlimit};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

pub use self::address::{AddressScope, check_address};
pub use self::allow::{AllowList, InvalidEntry, Route, RuleSource, decide};
pub use self::open::{Dial, SystemDial};
pub use self::proxy::Proxy;

use ostler_protocol::{Network, NetworkReason, NetworkVerdict, Warning, WarningCode};

/// Threads that resolve names: the system's resolver blocks.
const LOOKUP_THREADS: usize = 16;
/// The most connections of one run at a time; further ones wait until one ends.
const MAX_CONNECTIONS: usize = 256;
/// The most connections of all runs at a time.
const MAX_ALL_CONNECTIONS: usize = 8192;

/// Receives the decisions of one run's proxy.
///
/// Its methods are called on the thread that all proxies share, and must not block.
pub trait EgressSink: Send + Sync {
    /// A decision, or several equal ones. Host and detail come from the run: redact them before they are stored or
    /// shown.
    fn event(&self, event: Network);
}

/// How a refused host can be allowed. None if that is not possible.
fn remedy(reason: NetworkReason, host: &str, port: u16) -> Option<String> {
    matches!(reason, NetworkReason::NotAllowed | NetworkReason::PrivateAddress)
        .then(|| format!("to allow it, add \"{host}:{port}\" to allowHosts of the run, or to allow_hosts in [sandbox]"))
}

/// The warning for a refusal: `run.warning` with the code `NETWORK_REFUSED`. `None` for other decisions, and for the
/// event that summarizes repeated refusals.
#[must_use]
pub fn warning(event: &Network) -> Option<Warning> {
    let reason = event.reason.filter(|_| event.verdict == NetworkVerdict::Refused)?;
    let (host, port) = (&event.host, event.port);
    let message = match remedy(reason, host, port) {
        Some(remedy) => format!("the run may not reach {host}:{port}; {remedy}"),
        None => format!("the run may not reach {host}:{port}: {}", reason.about().to_lowercase()),
    };
    let facts = [("host", host.as_str().into()), ("port", port.into()), ("reason", reason.name().into())];
    let facts = facts.into_iter().map(|(name, value): (&str, serde_json::Value)| (name.to_owned(), value)).collect();
    Some(Warning { code: WarningCode::NetworkRefused, message, facts })
}

/// Runs the proxies of all runs. Its thread starts with the first proxy.
pub struct Egress {
    runtime: Mutex<Option<Runtime>>,
    dial: Arc<dyn Dial>,
    connections: Arc<Semaphore>,
    per_run: usize,
}

impl std::fmt::Debug for Egress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Egress").finish_non_exhaustive()
    }
}

impl Default for Egress {
    fn default() -> Self {
        Self::with_dial(Arc::new(SystemDial))
    }
}

impl Egress {
    /// Makes an egress with its own resolver and connections, instead of the system's.
    #[must_use]
    pub fn with_dial(dial: Arc<dyn Dial>) -> Self {
        // Two descriptors for each connection, and half of all descriptors for the rest of the host.
        let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
        let all = usize::try_from(descriptors / 4).unwrap_or(MAX_ALL_CONNECTIONS).clamp(32, MAX_ALL_CONNECTIONS);
        // A single run must not use up the connections of all others.
        let per_run = (all / 4).min(MAX_CONNECTIONS);
        Self { runtime: Mutex::new(None), dial, connections: Arc::new(Semaphore::new(all)), per_run }
    }

    /// Serves one run until the proxy is closed or dropped. The sockets must be listening: `listener` for requests to a
    /// proxy, each of `ports` for connections to that port of this machine, if `allowed` permits it.
    ///
    /// # Errors
    /// If the thread cannot be started, or a socket cannot be used.
    pub fn proxy(
        &self,
        listener: TcpListener,
        ports: Vec<(u16, TcpListener)>,
        allowed: AllowList,
        sink: Arc<dyn EgressSink>,
    ) -> io::Result<Proxy> {
        let ports = ports.into_iter().map(|(port, listener)| (listener, proxy::Entry::Port(port)));
        let listeners: Vec<_> = std::iter::once((listener, proxy::Entry::Proxy)).chain(ports).collect();
        for (listener, _) in &listeners {
            listener.set_nonblocking(true)?;
        }
        let mut runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        let runtime = match &mut *runtime {
            Some(runtime) => runtime,
            none => none.insert(start()?),
        };
        let shared = proxy::Shared::new(allowed, sink, Arc::clone(&self.dial));
        Proxy::start(runtime.handle(), listeners, shared, self.per_run, Arc::clone(&self.connections))
    }
}

fn start() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(LOOKUP_THREADS)
        .thread_name("egress")
        .enable_all()
        .build()
}

impl Drop for Egress {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A look-up that hangs must not delay the shutdown of the host.
            runtime.shutdown_background();
        }
    }
}
