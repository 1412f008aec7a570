//! Standard output and error, and what is known of the terminal.

use std::ffi::OsStr;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;

use anstream::stream::RawStream;
use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use serde::Serialize;
use tokio::io::Interest;
use tokio::net::unix::pipe;

use super::{clean, format};
use ostler_protocol::{ApiError, ErrorKind};

/// Less important.
pub(super) const DIM: Style = Style::new().dimmed();
/// Headings.
pub(super) const BOLD: Style = Style::new().bold();
/// It went well.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// Under way.
pub(super) const BUSY: Style = AnsiColor::Cyan.on_default();
/// To be looked at.
pub(super) const WARN: Style = AnsiColor::Yellow.on_default();
/// It went wrong.
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();

/// What standard output is, for what may be shown beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StdoutKind {
    /// The answer and what is shown on standard error are on one terminal.
    Terminal,
    /// Another program reads it, and may write to the terminal at any time: `| tee log`.
    Pipe,
    /// A file or a device: nothing of it is seen.
    Other,
}

impl StdoutKind {
    fn of(stream: &impl AsFd) -> Self {
        let kind = stream.as_fd().try_clone_to_owned().and_then(|fd| File::from(fd).metadata());
        match kind.map(|found| found.file_type()) {
            Ok(kind) if kind.is_fifo() || kind.is_socket() => Self::Pipe,
            _ => Self::Other,
        }
    }
}

/// Where output goes. A reader that has gone away is no error: what is left is not printed.
#[derive(Debug)]
pub(super) struct Output {
    /// Standard output is a terminal.
    pub(super) stdout_terminal: bool,
    /// Standard error is a terminal.
    pub(super) stderr_terminal: bool,
    /// Standard output takes colours.
    pub(super) color: bool,
    /// Standard error takes colours.
    pub(super) stderr_color: bool,
    /// What standard output is.
    pub(super) stdout_kind: StdoutKind,
    /// Standard error is a terminal whose cursor can be moved: a line can be redrawn.
    pub(super) cursor: bool,
    /// Columns, where standard output is a terminal.
    pub(super) width: Option<usize>,
    closed: bool,
}

impl Output {
    pub(super) fn detect() -> Self {
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let (stdout_terminal, stderr_terminal) = (stdout.is_terminal(), stderr.is_terminal());
        Self {
            stdout_terminal,
            stdout_kind: if stdout_terminal { StdoutKind::Terminal } else { StdoutKind::of(&stdout) },
            stderr_terminal,
            color: colored(&stdout),
            stderr_color: colored(&stderr),
            cursor: stderr_terminal && moves_cursor(std::env::var_os("TERM").as_deref()),
            width: if stdout_terminal {
                terminal_size::terminal_size().map(|(width, _)| usize::from(width.0))
            } else {
                None
            },
            closed: false,
        }
    }

    /// One that is no terminal.
    #[cfg(test)]
    pub(super) const fn plain() -> Self {
        Self {
            stdout_terminal: false,
            stderr_terminal: false,
            color: false,
            stderr_color: false,
            stdout_kind: StdoutKind::Other,
            cursor: false,
            width: None,
            closed: false,
        }
    }

    /// Writes text to standard output as it is.
    pub(super) fn write(&mut self, text: &str) -> Result<(), ApiError> {
        self.write_bytes(text.as_bytes())
    }

    /// Writes bytes to standard output as they are.
    pub(super) fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), ApiError> {
        if self.closed {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            Err(error) => Err(ApiError::new(ErrorKind::Io, format!("failed to write to standard output: {error}"))),
        }
    }

    /// Waits until the program that reads standard output has ended. Never ends where standard output is no pipe.
    pub(super) fn reader_gone(&self) -> impl Future<Output = ()> + use<> {
        let is_pipe = self.stdout_kind == StdoutKind::Pipe;
        async move {
            let stdout = io::stdout().as_fd().try_clone_to_owned().ok().filter(|_| is_pipe);
            // Unchecked: the other function would make the descriptor non-blocking for all programs that share it.
            match stdout.and_then(|stdout| pipe::Sender::from_owned_fd_unchecked(stdout).ok()) {
                // A pipe without readers is in error, whether or not anything is written.
                Some(pipe) => drop(pipe.ready(Interest::ERROR).await),
                None => std::future::pending().await,
            }
        }
    }

    /// Writes a line of this program's own making.
    pub(super) fn line(&mut self, text: impl Display) -> Result<(), ApiError> {
        self.write(&format!("{text}\n"))
    }

    /// Writes a result: over several lines for a person, on one for a program.
    pub(super) fn document(&mut self, document: &impl Serialize) -> Result<(), ApiError> {
        let text =
            if self.stdout_terminal { serde_json::to_string_pretty(document) } else { serde_json::to_string(document) };
        self.json_text(text)
    }

    /// Writes a document on one line, wherever it goes.
    pub(super) fn json_line(&mut self, document: &impl Serialize) -> Result<(), ApiError> {
        self.json_text(serde_json::to_string(document))
    }

    fn json_text(&mut self, text: serde_json::Result<String>) -> Result<(), ApiError> {
        let text = text.map_err(|error| ApiError::internal(format!("failed to write JSON: {error}")))?;
        let text = if self.stdout_terminal { clean::json(&text) } else { text };
        self.line(text)
    }

    /// Tells a person that a list shows only some of what there is, and which options show the others.
    pub(super) fn tell_of_others(&self, shown: usize, total: u64, what: &str, options: &str) {
        if self.stderr_terminal && total > shown as u64 {
            complain(&format!("{shown} of {} {what}; {options}", format::count(total)));
        }
    }

    /// Whether whoever read standard output has gone away.
    pub(super) const fn closed(&self) -> bool {
        self.closed
    }

    /// The text in a style, where standard output takes colours.
    pub(super) fn styled(&self, style: Style, text: &str) -> String {
        paint(self.color, style, text)
    }
}

/// Whether a stream takes colours, by `--color`, NO_COLOR, CLICOLOR_FORCE, TERM and whether it is a terminal.
pub(super) fn colored(stream: &impl RawStream) -> bool {
    AutoStream::choice(stream) != ColorChoice::Never
}

/// Whether a terminal of this kind understands more than lines of text.
fn moves_cursor(term: Option<&OsStr>) -> bool {
    term.is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// The text in a style, if there are to be colours.
pub(super) fn paint(color: bool, style: Style, text: &str) -> String {
    if color { format!("{style}{text}{style:#}") } else { text.to_owned() }
}

/// Writes a line to standard error. Nobody is told if that fails: there is no place left to tell it.
pub(super) fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dumb_or_unknown_terminal_gets_lines() {
        assert!(moves_cursor(Some(OsStr::new("xterm-256color"))));
        for term in [None, Some(""), Some("dumb")] {
            assert!(!moves_cursor(term.map(OsStr::new)), "{term:?}");
        }
    }
}
