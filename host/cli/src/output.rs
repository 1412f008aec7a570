//! Standard output and standard error, and the properties of the terminal.

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

/// Style of less important text.
pub(super) const DIM: Style = Style::new().dimmed();
/// Style of headings.
pub(super) const BOLD: Style = Style::new().bold();
/// Style of success.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// Style of work in progress.
pub(super) const BUSY: Style = AnsiColor::Cyan.on_default();
/// Style of warnings.
pub(super) const WARN: Style = AnsiColor::Yellow.on_default();
/// Style of errors.
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();

/// Kind of standard output. It decides what progress may be shown on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StdoutKind {
    /// The same terminal as standard error.
    Terminal,
    /// Another program reads it, and can write to the terminal at any time: `| tee log`.
    Pipe,
    /// A file or a device: nothing of it is visible on the terminal.
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

/// The output streams. A reader that closes standard output is not an error: the rest is not printed.
#[derive(Debug)]
pub(super) struct Output {
    /// Standard output is a terminal.
    pub(super) stdout_terminal: bool,
    /// Standard error is a terminal.
    pub(super) stderr_terminal: bool,
    /// Standard output supports colors.
    pub(super) color: bool,
    /// Standard error supports colors.
    pub(super) stderr_color: bool,
    /// Kind of standard output.
    pub(super) stdout_kind: StdoutKind,
    /// Standard error is a terminal whose cursor can be moved: a line can be redrawn.
    pub(super) cursor: bool,
    /// Width in columns, if standard output is a terminal.
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

    /// Output without a terminal.
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

    /// Waits until the program that reads standard output has ended. Never returns if standard output is not a pipe.
    pub(super) fn reader_gone(&self) -> impl Future<Output = ()> + use<> {
        let is_pipe = self.stdout_kind == StdoutKind::Pipe;
        async move {
            let stdout = io::stdout().as_fd().try_clone_to_owned().ok().filter(|_| is_pipe);
            // The checked function would make the descriptor non-blocking for all programs that share it.
            match stdout.and_then(|stdout| pipe::Sender::from_owned_fd_unchecked(stdout).ok()) {
                // A pipe without readers reports an error, even if nothing is written.
                Some(pipe) => drop(pipe.ready(Interest::ERROR).await),
                None => std::future::pending().await,
            }
        }
    }

    /// Writes a line.
    pub(super) fn line(&mut self, text: impl Display) -> Result<(), ApiError> {
        self.write(&format!("{text}\n"))
    }

    /// Writes a result as JSON: on several lines for a terminal, else on one line.
    pub(super) fn document(&mut self, document: &impl Serialize) -> Result<(), ApiError> {
        let text =
            if self.stdout_terminal { serde_json::to_string_pretty(document) } else { serde_json::to_string(document) };
        self.json_text(text)
    }

    /// Writes a result as JSON on one line, also on a terminal.
    pub(super) fn json_line(&mut self, document: &impl Serialize) -> Result<(), ApiError> {
        self.json_text(serde_json::to_string(document))
    }

    fn json_text(&mut self, text: serde_json::Result<String>) -> Result<(), ApiError> {
        let text = text.map_err(|error| ApiError::internal(format!("failed to write JSON: {error}")))?;
        let text = if self.stdout_terminal { clean::json(&text) } else { text };
        self.line(text)
    }

    /// Notes on a terminal that a list is incomplete, and which options show the rest.
    pub(super) fn note_incomplete_list(&self, shown: usize, total: u64, what: &str, options: &str) {
        if self.stderr_terminal && total > shown as u64 {
            complain(&format!("{shown} of {} {what}; {options}", format::count(total)));
        }
    }

    /// Whether the reader has closed standard output.
    pub(super) const fn closed(&self) -> bool {
        self.closed
    }

    /// The text in a style, if standard output supports colors.
    pub(super) fn styled(&self, style: Style, text: &str) -> String {
        paint(self.color, style, text)
    }
}

/// Whether a stream supports colors: by `--color`, NO_COLOR, CLICOLOR_FORCE, TERM, and whether it is a terminal.
pub(super) fn colored(stream: &impl RawStream) -> bool {
    AutoStream::choice(stream) != ColorChoice::Never
}

/// Whether a terminal of this kind can move its cursor.
fn moves_cursor(term: Option<&OsStr>) -> bool {
    term.is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// The text in a style, if `color` is set.
pub(super) fn paint(color: bool, style: Style, text: &str) -> String {
    if color { format!("{style}{text}{style:#}") } else { text.to_owned() }
}

/// Prints a line to standard error. An error is ignored, because it could not be reported anywhere.
pub(super) fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dumb_or_unknown_terminal_cannot_move_cursor() {
        assert!(moves_cursor(Some(OsStr::new("xterm-256color"))));
        for term in [None, Some(""), Some("dumb")] {
            assert!(!moves_cursor(term.map(OsStr::new)), "{term:?}");
        }
    }
}
