//! The host's client: everything that a program needs to talk to the host.
//!
//! [`Client::connect`] finds the host behind its unix socket, compares versions, and starts one in the background
//! where none answers. [`Client`] has a method for each call; [`Client::follow`] gives the events of a run and goes on
//! by itself where the connection broke.

mod connect;
mod error;
mod events;
mod http;
mod launch;
mod methods;
mod sse;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

pub use error::ClientError;
pub use events::{EventStream, StreamItem};
pub use launch::{HostCommand, PROGRESS, READY_LINE};

use connect::Connector;

/// Where the host is and what to do if it is not there.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The host's socket.
    pub socket: PathBuf,
    /// How to start a host where none answers; `None` never starts one.
    pub start: Option<HostCommand>,
    /// The version that the host must have; this binary's.
    pub version: String,
    /// Talk to a host of any version: for asking and stopping.
    pub any_version: bool,
    /// How long a host that starts may do the same thing.
    pub start_limit: Duration,
    /// Told what a host that starts does, where that takes longer than a moment.
    pub progress: Option<fn(&str)>,
}

impl ClientConfig {
    /// A client of the host of this version that is running at a socket.
    #[must_use]
    pub fn new(socket: PathBuf, version: impl Into<String>) -> Self {
        let (version, start_limit) = (version.into(), Duration::from_secs(30));
        Self { socket, start: None, version, any_version: false, start_limit, progress: None }
    }
}

/// What `GET /healthz` answers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Package version of the host.
    pub version: String,
    /// Process id of the host.
    pub pid: u32,
    /// Version of the API protocol.
    pub protocol: u32,
    /// Whether it takes no runs any more, because it is about to end.
    #[serde(default)]
    pub ending: bool,
}

/// A client of one host.
#[derive(Clone, Debug)]
pub struct Client {
    connector: Arc<Connector>,
    host: Health,
}

impl Client {
    /// Finds the host, or starts it where `config` says how.
    ///
    /// # Errors
    /// [`ClientError::NotRunning`] where there is none and none may be started, [`ClientError::Start`] where it could
    /// not be started, [`ClientError::OtherVersion`] where a busy host of another version is there.
    pub async fn connect(config: ClientConfig) -> Result<Self, ClientError> {
        let connector = Arc::new(Connector::new(config));
        let host = connector.ensure().await?;
        Ok(Self { connector, host })
    }

    /// The host that answered.
    #[must_use]
    pub const fn host(&self) -> &Health {
        &self.host
    }
}
