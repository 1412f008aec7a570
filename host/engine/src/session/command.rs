//! Requests of clients to a running attempt. The attempt's thread carries them out between two reads of output.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use ostler_plugin_host::types as plugin;
use ostler_protocol::{ApiError, ApprovalId, ErrorKind, TerminalSize};
use ostler_redaction::KnownSecret;

/// Time limit for an attempt to carry out a request. It may be waiting for a slow policy or for the database.
const REPLY_LIMIT: Duration = Duration::from_secs(30);

/// A request to a running attempt.
#[derive(Debug)]
pub(crate) enum RunCommand {
    /// Passes a message of the user to the CLI.
    Input {
        /// The message.
        text: String,
        /// The client that sends it.
        client: Client,
        /// The number of bytes.
        reply: Reply<u64>,
    },
    /// Types keys into the terminal.
    Keys {
        /// What is typed, control characters included.
        keys: String,
        /// The client that sends it.
        client: Client,
        /// The number of bytes.
        reply: Reply<u64>,
    },
    /// Changes the size of the terminal.
    Resize {
        /// The size.
        size: TerminalSize,
        /// Sent when it is set.
        reply: Reply<()>,
    },
    /// Interrupts the current turn.
    Interrupt {
        /// Whether a turn was running.
        reply: Reply<bool>,
    },
    /// Ends the session in order.
    EndSession {
        /// Sent when the end has begun.
        reply: Reply<()>,
    },
    /// Passes the answer of a user to the CLI.
    Answer {
        /// The approval.
        id: ApprovalId,
        /// The answer.
        decision: plugin::Decision,
        /// Secret values in it, which are masked from now on.
        secrets: Vec<KnownSecret>,
        /// The client that answers.
        client: Client,
        /// Sent when the CLI has the answer.
        reply: Reply<()>,
    },
}

/// A client, as decisions and audit records name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// `unix pid=… uid=…`, `token NAME`.
    pub(crate) actor: String,
    /// Its interface: `cli`, `rpc`, `http`, `mcp`.
    pub(crate) interface: String,
}

/// Sends the result of a request to the client that waits for it. Dropped without a result, it reports the end of the
/// run.
pub(crate) type Reply<T> = SyncSender<Result<T, ApiError>>;

/// The result of a request, which arrives later.
#[derive(Debug)]
pub(crate) struct Pending<T>(Receiver<Result<T, ApiError>>);

/// A reply and where it arrives.
pub(crate) fn reply<T>() -> (Reply<T>, Pending<T>) {
    let (sender, receiver) = sync_channel(1);
    (sender, Pending(receiver))
}

impl<T> Pending<T> {
    /// Waits for the result.
    ///
    /// # Errors
    /// The error of the attempt; `CONFLICT` if the run ended first; `INTERNAL` after 30 s.
    pub(crate) fn wait(self) -> Result<T, ApiError> {
        match self.0.recv_timeout(REPLY_LIMIT) {
            Ok(result) => result,
            Err(RecvTimeoutError::Disconnected) => Err(run_ended()),
            Err(RecvTimeoutError::Timeout) => {
                let message = format!("the run did not react within {} s", REPLY_LIMIT.as_secs());
                Err(ApiError::new(ErrorKind::Internal, message))
            }
        }
    }
}

/// The error for a request to a run whose CLI has not started, or has just ended.
pub(crate) fn no_cli() -> ApiError {
    ApiError::new(ErrorKind::Conflict, "the run is starting or ending").retryable(true)
}

/// The error for a request to a run whose CLI has ended.
pub(crate) fn run_ended() -> ApiError {
    ApiError::new(ErrorKind::Conflict, "the run has ended")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn dropped_reply_reports_the_end_of_the_run() {
        let (sender, pending) = reply::<u64>();
        drop(sender);
        assert_eq!(pending.wait().unwrap_err().kind, ErrorKind::Conflict);
        let (sender, pending) = reply();
        sender.send(Ok(7_u64)).unwrap();
        assert_eq!(pending.wait().unwrap(), 7);
    }
}
