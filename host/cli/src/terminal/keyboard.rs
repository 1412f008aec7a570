//! Reads keys from the controlling terminal.
//!
//! The terminal is opened a second time: it can be read without blocking, although other programs use its first
//! descriptor, and it can be read if standard input is a pipe. Line editing and echo of the terminal are off while keys are
//! read. Its signals stay on: Ctrl-C, Ctrl-\ and Ctrl-Z arrive as signals.
//!
//! The terminal is restored when the keyboard is closed or dropped, before this program stops for Ctrl-Z, and when it
//! panics.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Mutex, Once, PoisonError};

use nix::libc;
use nix::sys::signal;
use nix::sys::termios::{self, InputFlags, LocalFlags, SetArg, SpecialCharacterIndices, Termios};
use nix::unistd::{getpgrp, tcgetpgrp};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::keys::{Decoder, Key};

/// Size of the terminal if it does not report it.
const USUAL_SIZE: TerminalSize = TerminalSize { columns: 80, rows: 24 };

/// Switches bracketed paste on: the terminal marks the start and end of a paste.
const PASTE_ON: &[u8] = b"\x1b[?2004h";
/// Switches bracketed paste off.
const PASTE_OFF: &[u8] = b"\x1b[?2004l";

/// The terminal whose mode was changed, and its mode before.
static CHANGED: Mutex<Option<(File, Termios)>> = Mutex::new(None);

/// The keyboard of the controlling terminal.
#[derive(Debug)]
pub(crate) struct Keyboard {
    terminal: AsyncFd<File>,
    decoder: Decoder,
    /// Keys are read.
    reading: bool,
    resized: Signal,
    suspended: Signal,
    hangup: Signal,
}

/// What the user did at the terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Keys(Vec<Key>),
    /// The terminal has another size.
    Resized,
    /// Ctrl-Z: call [`Keyboard::suspend`].
    Suspended,
    /// The terminal is gone.
    Gone,
}

/// What happened at a terminal whose keys are passed on as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RawInput {
    Bytes(Vec<u8>),
    /// The terminal has another size.
    Resized,
    /// Ctrl-Z, while keys are not read.
    Suspended,
    /// The terminal is gone.
    Gone,
}

/// Size of the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TerminalSize {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
}

impl Keyboard {
    /// Opens the controlling terminal. `None` if there is none, or if this program runs in the background. Keys are not
    /// read yet.
    pub(crate) fn open() -> Option<Self> {
        let file = open_terminal().ok()?;
        if !is_in_foreground(&file) {
            return None;
        }
        let signal = |kind| signal(kind).ok();
        // SAFETY: the file stays open as long as it is registered, because nothing takes it out of the `AsyncFd`.
        let terminal = unsafe { AsyncFd::register_with_interest(file, Interest::READABLE) };
        Some(Self {
            decoder: Decoder::default(),
            reading: false,
            resized: signal(SignalKind::window_change())?,
            suspended: signal(SignalKind::from_raw(libc::SIGTSTP))?,
            hangup: signal(SignalKind::hangup())?,
            terminal: terminal.ok()?,
        })
    }

    /// Whether [`open`](Self::open) would find a terminal.
    pub(crate) fn is_available() -> bool {
        open_terminal().is_ok_and(|file| is_in_foreground(&file))
    }

    /// Begins to read keys. `discard`: not what was typed before.
    pub(crate) fn start(&mut self, discard: bool) -> io::Result<()> {
        if !self.reading {
            change_mode(self.terminal.get_ref(), Mode::Keys, discard)?;
            self.decoder = Decoder::default();
            self.reading = true;
        }
        Ok(())
    }

    /// Begins to pass keys on as bytes, also Ctrl-C and Ctrl-Z. Output is not changed by the terminal either.
    pub(crate) fn start_raw(&mut self) -> io::Result<()> {
        if !self.reading {
            change_mode(self.terminal.get_ref(), Mode::Raw, false)?;
            self.reading = true;
        }
        Ok(())
    }

    /// Stops to read keys, and restores the terminal.
    pub(crate) fn stop(&mut self) {
        if std::mem::take(&mut self.reading) {
            restore();
        }
    }

    /// The next input. Without [`start`](Self::start), only signals. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Input {
        loop {
            match self.next_raw().await {
                RawInput::Resized => return Input::Resized,
                RawInput::Suspended => return Input::Suspended,
                RawInput::Gone => return Input::Gone,
                RawInput::Bytes(bytes) => {
                    let keys = self.decoder.feed(&bytes);
                    if !keys.is_empty() {
                        return Input::Keys(keys);
                    }
                }
            }
        }
    }

    /// The next input, after [`start_raw`](Self::start_raw). Cancel-safe.
    pub(crate) async fn next_raw(&mut self) -> RawInput {
        loop {
            tokio::select! {
                _ = self.resized.recv() => return RawInput::Resized,
                _ = self.suspended.recv() => return RawInput::Suspended,
                _ = self.hangup.recv() => return RawInput::Gone,
                ready = self.terminal.readable(), if self.reading => {
                    let Ok(mut ready) = ready else { return RawInput::Gone };
                    let mut bytes = [0; 4096];
                    let read = ready.try_io(|terminal| terminal.get_ref().read(&mut bytes));
                    match read {
                        Ok(Ok(0)) => return RawInput::Gone,
                        Ok(Ok(count)) => return RawInput::Bytes(bytes.get(..count).unwrap_or_default().to_vec()),
                        Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                        Ok(Err(_)) => return RawInput::Gone,
                        // It was not ready.
                        Err(_) => {}
                    }
                }
            }
        }
    }

    /// Stops this program for Ctrl-Z, with the terminal restored. Returns when the program continues.
    pub(crate) fn suspend(&mut self) {
        let reading = self.reading;
        self.stop();
        let _ = signal::raise(signal::Signal::SIGSTOP);
        if reading && self.start(false).is_err() {
            self.reading = false;
        }
    }

    /// Size of the terminal.
    pub(crate) fn size(&self) -> TerminalSize {
        let found = terminal_size::terminal_size_of(self.terminal.get_ref());
        found.filter(|(columns, rows)| columns.0 > 0 && rows.0 > 0).map_or(USUAL_SIZE, |(columns, rows)| TerminalSize {
            columns: usize::from(columns.0),
            rows: usize::from(rows.0),
        })
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whether this program may change the mode of the terminal. It would be stopped in the background.
fn is_in_foreground(terminal: &File) -> bool {
    tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp())
}

fn open_terminal() -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/tty")?;
    if file.is_terminal() { Ok(file) } else { Err(io::ErrorKind::Unsupported.into()) }
}

/// A mode of the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Line editing and echo are off.
    Keys,
    /// The terminal changes nothing.
    Raw,
}

/// Changes the mode of the terminal.
fn change_mode(terminal: &File, to: Mode, discard: bool) -> io::Result<()> {
    restore_on_panic();
    let before = termios::tcgetattr(terminal)?;
    let mut mode = before.clone();
    if to == Mode::Raw {
        termios::cfmakeraw(&mut mode);
    } else {
        // The terminal would discard output that it has not shown when Ctrl-C is pressed.
        mode.local_flags.insert(LocalFlags::NOFLSH);
        mode.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ECHONL | LocalFlags::IEXTEN);
        mode.input_flags.remove(InputFlags::ICRNL | InputFlags::INLCR | InputFlags::IGNCR | InputFlags::IXON);
    }
    for (index, value) in [(SpecialCharacterIndices::VMIN, 1), (SpecialCharacterIndices::VTIME, 0)] {
        if let Some(entry) = mode.control_chars.get_mut(index as usize) {
            *entry = value;
        }
    }
    let kept = terminal.try_clone()?;
    *CHANGED.lock().unwrap_or_else(PoisonError::into_inner) = Some((kept, before));
    let how = if discard { SetArg::TCSAFLUSH } else { SetArg::TCSANOW };
    termios::tcsetattr(terminal, how, &mode)?;
    if to == Mode::Keys {
        let mut terminal = terminal;
        let _ = terminal.write_all(PASTE_ON);
    }
    Ok(())
}

/// Restores the terminal if its mode was changed.
fn restore() {
    let changed = CHANGED.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some((mut terminal, before)) = changed {
        let _ = terminal.write_all(PASTE_OFF);
        let _ = termios::tcsetattr(&terminal, SetArg::TCSANOW, &before);
    }
}

/// Restores the terminal before the message of a panic is printed.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let earlier = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let changed = CHANGED.try_lock().ok().and_then(|mut changed| changed.take());
            if let Some((mut terminal, before)) = changed {
                // The footer may be drawn below the cursor.
                let _ = terminal.write_all(b"\r\x1b[J").and_then(|()| terminal.write_all(PASTE_OFF));
                let _ = termios::tcsetattr(&terminal, SetArg::TCSANOW, &before);
            }
            earlier(info);
        }));
    });
}
