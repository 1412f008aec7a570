//! Signals that the stand-in handles or ignores.
//!
//! Like other agent CLIs it treats SIGINT as a request to stop: it ends its tool and reports its progress. SIGTERM
//! keeps its default action.

use nix::{
    libc,
    sys::{
        resource::{Resource, setrlimit},
        signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction},
    },
};
use std::{
    io::{self, Read},
    os::fd::AsRawFd,
    sync::atomic::{AtomicI32, Ordering},
    thread,
};

/// The descriptor to which the handler writes; negative before it is installed.
static WAKE: AtomicI32 = AtomicI32::new(-1);

extern "C" fn wake(_: libc::c_int) {
    let fd = WAKE.load(Ordering::Relaxed);
    // SAFETY: write(2) is async-signal-safe, and the pipe behind `fd` is never closed.
    unsafe { libc::write(fd, [0_u8].as_ptr().cast(), 1) };
}

/// Calls `stop` on a separate thread on SIGINT. The handler itself only wakes that thread.
pub(super) fn on_interrupt(stop: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let (mut reader, writer) = io::pipe()?;
    WAKE.store(writer.as_raw_fd(), Ordering::Relaxed);
    // The handler may run at any later moment: the writing end stays open for as long as the process lives.
    std::mem::forget(writer);
    let action = SigAction::new(SigHandler::Handler(wake), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler does nothing but write one byte into a pipe.
    unsafe { sigaction(Signal::SIGINT, &action) }?;
    thread::Builder::new().name("interrupt".to_owned()).spawn(move || {
        if reader.read_exact(&mut [0]).is_ok() {
            stop();
        }
    })?;
    Ok(())
}

/// Ignores the usual termination signals from now on.
pub(super) fn ignore_stops() -> io::Result<()> {
    let action = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: ignoring a signal installs no handler.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// Dies by `signal`, without a core file. Returns only for signals that do not kill.
pub(super) fn die_by(signal: Signal) -> io::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    let action = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    if !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP) {
        // SAFETY: the default action installs no handler.
        unsafe { sigaction(signal, &action) }?;
    }
    raise(signal)?;
    Ok(())
}
