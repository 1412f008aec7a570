//! Reads text that is piped to a command in addition to its prompt: `git diff | ostler run claude "review this"`.
//!
//! Standard input is often inherited by accident. In a loop `while read line; do ostler run …; done`, and in a script
//! that a shell reads from a pipe, every command inherits the standard input of the shell and must not read it. So
//! without an option, it is read only if it is a pipe or a file for this command alone, that is, if the parent process
//! has another standard input. Everything else needs `--stdin`.

use std::fs::{self, File, Metadata};
use std::io::{self, IsTerminal, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::Args;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::input;
use super::output::complain;
use ostler_protocol::{ApiError, ErrorKind};

/// Time after which a message says that the command waits for the end of the input.
const NOTICE_DELAY: Duration = Duration::from_secs(2);

/// Whether standard input goes to the agent with the prompt.
#[derive(Debug, Args)]
pub(super) struct PipedArguments {
    /// Send standard input to the agent with the prompt [default: if it is a pipe or file for this command only]
    #[arg(long)]
    stdin: bool,
    /// Do not read standard input
    #[arg(long, conflicts_with = "stdin")]
    no_stdin: bool,
}

/// What the rest of the command line implies for standard input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation<'a> {
    /// Name of the input that already uses it: the prompt or the payload.
    pub(super) taken: Option<&'a str>,
    /// The run has or may have a prompt, and has no other piped text.
    pub(super) fits: bool,
    /// Only the answer and errors are shown.
    pub(super) quiet: bool,
}

/// Kind of standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// A pipe or a file for this command alone.
    Ours,
    /// A pipe or file that the parent process also has, or a socket.
    Shared,
    /// Not read by default: a terminal, a device, an empty file, or a file that another program has partly read.
    Nothing,
}

impl PipedArguments {
    /// Reads standard input if the options or its kind say so. `None` if it is empty or not read.
    ///
    /// # Errors
    /// If it is not UTF-8, is too long, or is already used for something else.
    pub(super) fn read(&self, situation: Situation<'_>) -> Result<Option<String>, ApiError> {
        if self.no_stdin {
            return Ok(None);
        }
        if self.stdin {
            if let Some(other) = situation.taken {
                let message = format!("the {other} and the piped text cannot both come from standard input");
                return Err(ApiError::new(ErrorKind::InvalidParams, message).at("--stdin"));
            }
            let text = read_to_end()?;
            if text.is_empty() && !situation.quiet {
                complain("warning: standard input is empty");
            }
            return Ok(Some(text).filter(|text| !text.is_empty()));
        }
        if situation.taken.is_some() || !situation.fits {
            return Ok(None);
        }
        match source()? {
            Source::Ours => Ok(Some(read_to_end()?).filter(|text| !text.is_empty())),
            Source::Shared => {
                if !situation.quiet && has_input() {
                    complain(
                        "warning: standard input is not read, because other programs share it; \
                         use --stdin to read it or --no-stdin to hide this warning",
                    );
                }
                Ok(None)
            }
            Source::Nothing => Ok(None),
        }
    }
}

/// Determines the kind of standard input. A closed one is a null device, which the standard library opens instead.
fn source() -> Result<Source, ApiError> {
    let failed = |error: io::Error| ApiError::new(ErrorKind::Io, format!("failed to look at standard input: {error}"));
    let mut file = File::from(io::stdin().as_fd().try_clone_to_owned().map_err(failed)?);
    let metadata = file.metadata().map_err(failed)?;
    let begun = metadata.is_file() && (metadata.len() == 0 || file.stream_position().map_err(failed)? > 0);
    let parent = nix::unistd::getppid();
    Ok(classify(&metadata, begun, fs::metadata(format!("/proc/{parent}/fd/0"))))
}

/// `begun`: the file is empty, or a program has read a part of it, such as a shell its script or a loop its list.
/// `of_parent`: the standard input of the parent process.
fn classify(own: &Metadata, begun: bool, of_parent: io::Result<Metadata>) -> Source {
    let kind = own.file_type();
    // A program that uses sockets for its children may keep them open, so that the input never ends.
    if kind.is_socket() {
        return Source::Shared;
    }
    if begun || !(kind.is_fifo() || kind.is_file()) {
        return Source::Nothing;
    }
    match of_parent {
        Ok(parent) if (parent.dev(), parent.ino()) == (own.dev(), own.ino()) => Source::Shared,
        Ok(_) => Source::Ours,
        // The parent has no standard input, has ended, or is outside of the container.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Source::Ours,
        Err(_) => Source::Shared,
    }
}

/// Whether standard input has data now.
fn has_input() -> bool {
    let stdin = io::stdin();
    let mut polled = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO)
        .is_ok_and(|_| polled[0].revents().is_some_and(|events| events.contains(PollFlags::POLLIN)))
}

/// Reads all of standard input. Prints a message after [`NOTICE_DELAY`]. Ctrl-C ends the program.
fn read_to_end() -> Result<String, ApiError> {
    let (sender, receiver) = mpsc::channel();
    let reader = thread::Builder::new().name("stdin".to_owned());
    reader.spawn(move || sender.send(input::stdin_text("piped text"))).map_err(ApiError::internal)?;
    let gone = |error| ApiError::internal(format!("the reader of standard input ended: {error}"));
    match receiver.recv_timeout(NOTICE_DELAY) {
        Err(mpsc::RecvTimeoutError::Timeout) => {
            let end = if io::stdin().is_terminal() { "Ctrl-D ends it" } else { "use --no-stdin to skip it" };
            complain(&format!("waiting for the end of standard input ({end})"));
            receiver.recv().map_err(|error| gone(error.to_string()))?
        }
        read => read.map_err(|error| gone(error.to_string()))?,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn metadata(fd: impl Into<OwnedFd>) -> Metadata {
        File::from(fd.into()).metadata().unwrap()
    }

    #[test]
    fn reads_only_pipe_or_file_not_shared_with_parent() {
        let pipe = || metadata(io::pipe().unwrap().0);
        let file = metadata(tempfile::tempfile().unwrap());
        let (own, other, null) = (pipe(), pipe(), fs::metadata("/dev/null").unwrap());
        let socket = metadata(UnixStream::pair().unwrap().0);
        let error = |kind: io::ErrorKind| Err(io::Error::from(kind));
        for (own, begun, parent, expected) in [
            (&own, false, Ok(null.clone()), Source::Ours),
            (&own, false, Ok(other), Source::Ours),
            (&own, false, Ok(own.clone()), Source::Shared),
            (&own, false, error(io::ErrorKind::NotFound), Source::Ours),
            (&own, false, error(io::ErrorKind::PermissionDenied), Source::Shared),
            (&file, false, Ok(null.clone()), Source::Ours),
            (&file, false, Ok(file.clone()), Source::Shared),
            (&file, true, Ok(file.clone()), Source::Nothing),
            (&file, true, Ok(null.clone()), Source::Nothing),
            (&socket, false, Ok(null.clone()), Source::Shared),
            (&null, false, Ok(own.clone()), Source::Nothing),
        ] {
            let shown = format!("{own:?} {begun} {parent:?}");
            assert_eq!(classify(own, begun, parent), expected, "{shown}");
        }
    }
}
