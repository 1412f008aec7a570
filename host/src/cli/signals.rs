//! Ctrl-C and SIGTERM, taken as the wish to cancel.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::model::{ApiError, ErrorKind};

/// Both signals. From its making on, neither ends the program by itself.
#[derive(Debug)]
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, ApiError> {
        let listen = |kind| {
            signal(kind).map_err(|error| ApiError::new(ErrorKind::Io, format!("failed to listen for signals: {error}")))
        };
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Waits for one. Cancel-safe.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
