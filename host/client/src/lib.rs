//! An async client of an Ostler host, for programs that embed one.
//!
//! # Connecting
//! [`Client::connect`] finds the host behind its unix socket, compares versions, and starts a host in the background if
//! none answers and [`ClientConfig::start`] says how. The library has no runtime of its own: call it from a tokio
//! runtime with the drivers for I/O and time. A [`Client`] is cheap to clone, and any number of calls may be in flight.
//!
//! # Calling
//! [`Client`] has a method for each method of the API, with the types of `ostler-protocol`; [`Client::call`] takes any
//! name. If the connection breaks before the answer is complete, only idempotent calls are repeated. Any other call
//! fails with [`ClientError::Broken`], whose `uncertain` says whether the host may have executed the call: a run is
//! never started twice.
//!
//! # Following
//! [`Client::follow`] returns the events of a run, or of all runs, each once and in order. It reconnects by itself and
//! continues after the last event. A program that stops stores the cursor of its last event, and continues later with
//! [`SubscribeParams::after`](ostler_protocol::methods::SubscribeParams::after).
//!
//! `examples/run_and_follow.rs` submits a run and follows it:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use ostler_client::{Client, ClientConfig, HostCommand, StreamItem};
//! use ostler_protocol::methods::SubscribeParams;
//!
//! let config = ClientConfig::new("/run/ostler/host.sock".into(), "0.1.0");
//! let client = Client::connect(ClientConfig { start: Some(HostCommand::ostler("ostler".into())), ..config }).await?;
//! let payload = serde_json::json!({"provider": "codex", "prompt": "explain this repository", "cwd": "/src/project"});
//! let run = client.start_run(&payload).await?.run_id;
//! let mut events = client.follow(SubscribeParams { run_id: Some(run), ..SubscribeParams::default() });
//! while let StreamItem::Event(event) = events.next().await? {
//!     println!("{}", event.kind);
//!     if event.kind.terminal() {
//!         break;
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod connect;
mod error;
mod events;
mod greeting;
mod http;
mod launch;
mod methods;
mod session_methods;
mod sse;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

pub use error::ClientError;
pub use events::{EventStream, StreamItem};
pub use greeting::Greeting;
pub use launch::{HostCommand, PROGRESS, READY_LINE};

use connect::Connector;

/// How to find the host, and what to do if none is running.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The host's socket.
    pub socket: PathBuf,
    /// How to start a host if none answers; `None` never starts one.
    pub start: Option<HostCommand>,
    /// The version that the host must have: that of this program.
    pub version: String,
    /// Accept a host of any version: for status and stop.
    pub any_version: bool,
    /// Time limit for a starting host to report its next step.
    pub start_limit: Duration,
    /// Callback for the steps of a starting host, if the start takes long.
    pub progress: Option<fn(&str)>,
}

impl ClientConfig {
    /// A configuration for a host of this version at a socket. Never starts a host.
    #[must_use]
    pub fn new(socket: PathBuf, version: impl Into<String>) -> Self {
        let (version, start_limit) = (version.into(), Duration::from_secs(30));
        Self { socket, start: None, version, any_version: false, start_limit, progress: None }
    }
}

/// The answer of `GET /healthz`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Package version of the host.
    pub version: String,
    /// Process id of the host.
    pub pid: u32,
    /// Version of the API protocol.
    pub protocol: u32,
    /// Whether it accepts no more runs because it is ending.
    #[serde(default)]
    pub ending: bool,
    /// The variables of the caller that the CLI of each provider instance needs. A `*` at the end of a name stands for
    /// anything. Empty if the host does not say it.
    #[serde(default)]
    pub inherit_environment: BTreeMap<String, Vec<String>>,
}

/// A client of one host.
#[derive(Clone, Debug)]
pub struct Client {
    connector: Arc<Connector>,
    host: Health,
}

impl Client {
    /// Connects to the host, and starts one if none is running and `config` says how.
    ///
    /// # Errors
    /// [`ClientError::NotRunning`] if no host is running and none may be started, [`ClientError::Start`] if the start
    /// failed, [`ClientError::OtherVersion`] if a host of another version is running and busy.
    pub async fn connect(config: ClientConfig) -> Result<Self, ClientError> {
        Self::connect_greeted(config, None).await
    }

    /// As [`connect`](Self::connect), with the answer to a [`Greeting`]. One to another host has no effect.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_greeted(config: ClientConfig, greeting: Option<Greeting>) -> Result<Self, ClientError> {
        let connector = Arc::new(Connector::new(config));
        let host = connector.ensure_greeted(greeting).await?;
        Ok(Self { connector, host })
    }

    /// The host that answered at [`connect`](Self::connect).
    #[must_use]
    pub const fn host(&self) -> &Health {
        &self.host
    }
}
