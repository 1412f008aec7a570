//! Signals as requests: Ctrl-C and SIGTERM cancel, Ctrl-\ detaches.

use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;
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
    /// `None` if it stays ignored.
    interrupt: Option<Signal>,
    terminate: Signal,
}

impl Signals {
    /// Leaves a Ctrl-C ignored that was ignored when the program started: a shell starts the background jobs of a script
    /// like that, so that the key does not end them.
    pub(super) fn listen() -> Result<Self, ApiError> {
        Ok(Self {
            interrupt: listen_unless_ignored(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// For a program to which a user talks on the terminal: Ctrl-C always counts.
    pub(super) fn listen_on_terminal() -> Result<Self, ApiError> {
        Ok(Self { interrupt: Some(listen(SignalKind::interrupt())?), terminate: listen(SignalKind::terminate())? })
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
            () = receive(&mut self.interrupt) => Request::Interrupt,
        }
    }

    /// Forgets a Ctrl-C that was meant for another program on the same terminal.
    pub(super) fn discard_interrupts(&mut self) {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        while self.interrupt.as_mut().is_some_and(|signal| signal.poll_recv(&mut context).is_ready()) {}
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
pub(super) struct Detach(Option<Signal>);

impl Detach {
    /// As [`Signals::listen`].
    pub(super) fn listen() -> Result<Self, ApiError> {
        listen_unless_ignored(SignalKind::quit()).map(Self)
    }

    /// As [`Signals::listen_on_terminal`].
    pub(super) fn listen_on_terminal() -> Result<Self, ApiError> {
        listen(SignalKind::quit()).map(|signal| Self(Some(signal)))
    }

    /// Waits for the signal. Cancel-safe.
    pub(super) async fn next(&mut self) {
        receive(&mut self.0).await;
    }
}

fn listen(kind: SignalKind) -> Result<Signal, ApiError> {
    unix::signal(kind).map_err(|error| ApiError::new(ErrorKind::Io, format!("failed to listen for signals: {error}")))
}

fn listen_unless_ignored(kind: SignalKind) -> Result<Option<Signal>, ApiError> {
    if is_ignored(kind) { Ok(None) } else { listen(kind).map(Some) }
}

/// Waits for a signal; forever if it is ignored. Cancel-safe.
async fn receive(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => _ = signal.recv().await,
        None => std::future::pending().await,
    }
}

fn is_ignored(kind: SignalKind) -> bool {
    let mut current = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null pointer as the new action changes nothing, and the old one is written to a value that is large enough.
    let asked = unsafe { libc::sigaction(kind.as_raw_value(), std::ptr::null(), current.as_mut_ptr()) };
    // SAFETY: zeros are a valid value, and the call has filled it if it succeeded.
    asked == 0 && unsafe { current.assume_init() }.sa_sigaction == libc::SIG_IGN
}
