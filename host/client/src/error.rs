//! Errors of the client.

use std::io;
use std::path::PathBuf;

use ostler_protocol::{ApiError, ErrorKind};

/// The reason why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The host refused the call.
    #[error("{0}")]
    Api(Box<ApiError>),
    /// Nothing listens on the socket.
    #[error("no host is running: nothing answers on {}", socket.display())]
    NotRunning {
        /// The socket.
        socket: PathBuf,
    },
    /// The socket exists, but no host of this user can be reached on it.
    #[error("failed to reach the host on {}: {reason}", socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// Why.
        reason: String,
    },
    /// The host could not be started.
    #[error("failed to start the host: {}", .0.message)]
    Start(Box<ApiError>),
    /// A host of another version is running and cannot be replaced now.
    #[error("a host of version {theirs} (pid {pid}) is running and {state}; this is ostler {ours}")]
    OtherVersion {
        /// The host's version.
        theirs: String,
        /// This binary's version.
        ours: String,
        /// The host's process id.
        pid: u32,
        /// Why it was not replaced.
        state: &'static str,
    },
    /// The connection broke before the answer was complete.
    #[error("the connection to the host broke before it answered{}: {reason}", if *.uncertain { ", so it is not known whether the host did what was asked" } else { "" })]
    Broken {
        /// The error of the connection.
        reason: String,
        /// Whether the host may have executed the call, so that it must not simply be repeated.
        uncertain: bool,
    },
    /// The answer violates the protocol.
    #[error("the host's answer cannot be understood: {0}")]
    Protocol(String),
    /// The event stream has ended and cannot be restored.
    #[error("lost the host: {reason}")]
    Lost {
        /// The last error.
        reason: String,
    },
}

impl ClientError {
    /// The error for a failed connect: there is no host, or it cannot be reached.
    pub(super) fn from_connect(socket: PathBuf, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => {
                Self::Unreachable { socket, reason: format!("{error}; choose a place of your own with OSTLER_HOME") }
            }
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory => {
                Self::NotRunning { socket }
            }
            _ => Self::Unreachable { socket, reason: error.to_string() },
        }
    }
}

impl From<ApiError> for ClientError {
    fn from(error: ApiError) -> Self {
        Self::Api(Box::new(error))
    }
}

impl From<ClientError> for ApiError {
    fn from(error: ClientError) -> Self {
        let message = error.to_string();
        match error {
            ClientError::Api(inner) => *inner,
            ClientError::Start(inner) => {
                let mut inner = *inner;
                inner.message = message;
                inner
            }
            ClientError::NotRunning { .. } => Self::new(ErrorKind::NotFound, message).hint("start a host"),
            ClientError::Unreachable { .. } => Self::new(ErrorKind::Io, message),
            ClientError::OtherVersion { .. } => Self::new(ErrorKind::Conflict, message)
                .retryable(true)
                .hint("wait until its runs have ended, or end it with `stop()`"),
            ClientError::Broken { uncertain, .. } => {
                let error = Self::new(ErrorKind::Io, message).retryable(!uncertain);
                if uncertain {
                    error.hint("check whether it was done before you try again; `list_runs` lists the runs")
                } else {
                    error
                }
            }
            ClientError::Protocol(_) => Self::new(ErrorKind::Internal, message),
            ClientError::Lost { .. } => Self::new(ErrorKind::Io, message)
                .retryable(true)
                .hint("the next call starts the host again; `get_run` shows what became of the run"),
        }
    }
}
