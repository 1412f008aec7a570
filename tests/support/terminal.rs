//! A command on its own terminal. Keys reach it as if a user typed them, including Ctrl-C.

use super::{TIMEOUT, processes};
use nix::pty::{Winsize, openpty};
use std::{
    fs::File,
    io::{Read, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Instant,
};

/// Ctrl-C, and Ctrl-\.
pub const CTRL_C: &str = "\u{3}";
pub const CTRL_BACKSLASH: &str = "\u{1c}";

/// A running command and its screen. The command is killed when this is dropped.
pub struct Terminal {
    child: Child,
    keyboard: File,
    chunks: Receiver<Vec<u8>>,
    shown: String,
    /// The output before `shown`.
    earlier: String,
}

impl Terminal {
    /// Starts a command that leads a session on a new terminal.
    pub fn start(command: Command) -> Self {
        Self::with(command, 100, "xterm")
    }

    /// The same on a terminal of this type, with this number of columns.
    pub fn with(mut command: Command, columns: u16, term: &str) -> Self {
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        // Otherwise the command would keep its own terminal open, also if the test is killed.
        let close_on_exec = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC);
        nix::fcntl::fcntl(&pty.master, close_on_exec).unwrap();
        let stream = || Stdio::from(pty.slave.try_clone().unwrap());
        command.env("TERM", term).stdin(stream()).stdout(stream()).stderr(stream());
        let name = nix::unistd::ttyname(&pty.slave).unwrap();
        // SAFETY: between fork and exec only system calls are made, on memory that exists already.
        unsafe {
            command.pre_exec(move || {
                nix::unistd::setsid()?;
                // A session leader that opens a terminal gets it as its controlling one.
                nix::fcntl::open(&name, nix::fcntl::OFlag::O_RDWR, nix::sys::stat::Mode::empty())?;
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        // The command also has the other end of the terminal open.
        drop(command);
        drop(pty.slave);
        let keyboard = File::from(pty.master);
        let mut screen = keyboard.try_clone().unwrap();
        let (sender, chunks) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The read fails when no process has the terminal open any more.
            while let Ok(count) = screen.read(&mut buffer) {
                if count == 0 || sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { child, keyboard, chunks, shown: String::new(), earlier: String::new() }
    }

    /// Types keys.
    pub fn type_keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the screen shows this text, after the text of the call before. Gives the output in front of it.
    ///
    /// # Panics
    /// If the text does not appear in time.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) -> String {
        let start = Instant::now();
        loop {
            if let Some(at) = self.shown.find(text) {
                let rest = self.shown.split_off(at + text.len());
                self.earlier.push_str(&self.shown);
                self.shown.truncate(at);
                return std::mem::replace(&mut self.shown, rest);
            }
            match self.chunks.recv_timeout(TIMEOUT.saturating_sub(start.elapsed())) {
                Ok(chunk) => self.shown.push_str(&String::from_utf8_lossy(&chunk)),
                Err(RecvTimeoutError::Disconnected) => panic!("ended without {text:?}: {:?}", self.shown),
                Err(RecvTimeoutError::Timeout) => panic!("not shown: {text:?}, but {:?}", self.shown),
            }
        }
    }

    /// Waits for the end. Gives the exit code (128 and the number for a signal), and the rest of the output.
    #[track_caller]
    pub fn finish(self) -> (i32, String) {
        let (code, _, rest) = self.end();
        (code, rest)
    }

    /// Waits for the end. Gives the whole output since the start.
    #[track_caller]
    pub fn transcript(self) -> String {
        let (_, earlier, rest) = self.end();
        earlier + &rest
    }

    #[track_caller]
    fn end(mut self) -> (i32, String, String) {
        let start = Instant::now();
        loop {
            match self.chunks.recv_timeout(TIMEOUT.saturating_sub(start.elapsed())) {
                Ok(chunk) => self.shown.push_str(&String::from_utf8_lossy(&chunk)),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("the command did not end: {:?}", self.shown),
            }
        }
        let status = self.child.wait().unwrap();
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        (code, std::mem::take(&mut self.earlier), std::mem::take(&mut self.shown))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            processes::signal(i32::try_from(self.child.id()).unwrap(), nix::sys::signal::Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}
