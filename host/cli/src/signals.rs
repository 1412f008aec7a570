//! Signals as requests: Ctrl-C and SIGTERM cancel, Ctrl-\ detaches.

use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{self, SaFlags, SigAction, SigHandler, SigSet, sigaction};
use tokio::signal::unix::{self, Signal, SignalKind};

use ostler_protocol::{ApiError, ErrorKind};

/// Ctrl-C was pressed while a [`Signals`] was waiting.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether Ctrl-C was pressed while a [`Signals`] was waiting.
pub(super) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Ends this program by SIGINT, as if it had no handler. The shell, which got the same signal, then ends its loop or
/// script; after a normal exit it would continue. Returns only if that fails.
pub(super) fn die_of_interrupt() {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action installs no handler.
    if unsafe { sigaction(signal::Signal::SIGINT, &default) }.is_ok() {
        let _ = signal::raise(signal::Signal::SIGINT);
    }
}

/// Receives SIGINT and SIGTERM. Once created, neither signal ends the program by default.
#[derive(Debug)]
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, ApiError> {
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Waits for one of the signals. Cancel-safe.
    pub(super) async fn next(&mut self) {
        if self.next_kind().await == Request::Interrupt {
            INTERRUPTED.store(true, Ordering::Relaxed);
        }
    }

    /// Waits for one of the signals, and says which it is. Ctrl-C does not count as an interruption of this program until
    /// [`set_interrupted`]. Cancel-safe.
    pub(super) async fn next_kind(&mut self) -> Request {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Request::Terminate,
            _ = self.interrupt.recv() => Request::Interrupt,
        }
    }

    /// Forgets a Ctrl-C that was meant for another program on the same terminal.
    pub(super) fn discard_interrupts(&mut self) {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        while self.interrupt.poll_recv(&mut context).is_ready() {}
    }
}

/// What a signal requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

/// Lets this program end as if Ctrl-C had ended it.
pub(super) fn set_interrupted() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Receives Ctrl-\ (SIGQUIT). Once created, the signal does not end the program by default.
#[derive(Debug)]
pub(super) struct Detach(Signal);

impl Detach {
    pub(super) fn listen() -> Result<Self, ApiError> {
        listen(SignalKind::quit()).map(Self)
    }

    /// Waits for the signal. Cancel-safe.
    pub(super) async fn next(&mut self) {
        let _ = self.0.recv().await;
    }
}

fn listen(kind: SignalKind) -> Result<Signal, ApiError> {
    unix::signal(kind).map_err(|error| ApiError::new(ErrorKind::Io, format!("failed to listen for signals: {error}")))
}
