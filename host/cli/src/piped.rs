//! What is piped to a command beside its prompt: `git diff | ostler run claude "review this"`.
//!
//! Standard input is often there by accident: a loop `while read line; do ostler run …; done` and a script that a shell
//! reads from a pipe lend theirs to every command in them, which must not read it. So without an option it is read only
//! where it is a pipe or a file that was put there for this command alone, that is where the program that started this
//! one has another standard input. Everything else needs `--stdin`.

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

/// After so long without the end of the input, a word says that it is waited for.
const SILENCE: Duration = Duration::from_secs(2);

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

/// What the rest of the command line says about standard input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation<'a> {
    /// What is read from it already: the prompt, the payload.
    pub(super) taken: Option<&'a str>,
    /// There is a prompt, or may be, and no other piped text.
    pub(super) fits: bool,
    /// Only the answer and errors are shown.
    pub(super) quiet: bool,
}

/// What standard input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// A pipe or a file for this command alone.
    Ours,
    /// One that the program that started this one has, too, or a socket.
    Shared,
    /// Nothing to read without being asked: a terminal, a device, what was begun by somebody else.
    Nothing,
}

impl PipedArguments {
    /// Reads it, if it is to be read. Empty input is none.
    ///
    /// # Errors
    /// Where it is no text, or too long, or goes somewhere else already.
    pub(super) fn read(&self, situation: Situation<'_>) -> Result<Option<String>, ApiError> {
        if self.no_stdin {
            return Ok(None);
        }
        if self.stdin {
            if let Some(other) = situation.taken {
                let message = format!("the {other} and the piped text cannot both come from standard input");
                return Err(ApiError::new(ErrorKind::InvalidParams, message).at("--stdin"));
            }
            let text = patiently()?;
            if text.is_empty() && !situation.quiet {
                complain("warning: standard input is empty");
            }
            return Ok(Some(text).filter(|text| !text.is_empty()));
        }
        if situation.taken.is_some() || !situation.fits {
            return Ok(None);
        }
        match source()? {
            Source::Ours => Ok(Some(patiently()?).filter(|text| !text.is_empty())),
            Source::Shared => {
                if !situation.quiet && waits() {
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

/// What standard input is. One that was closed is a null device, which the standard library puts there.
fn source() -> Result<Source, ApiError> {
    let failed = |error: io::Error| ApiError::new(ErrorKind::Io, format!("failed to look at standard input: {error}"));
    let mut file = File::from(io::stdin().as_fd().try_clone_to_owned().map_err(failed)?);
    let metadata = file.metadata().map_err(failed)?;
    let begun = metadata.is_file() && (metadata.len() == 0 || file.stream_position().map_err(failed)? > 0);
    let parent = nix::unistd::getppid();
    Ok(classify(&metadata, begun, fs::metadata(format!("/proc/{parent}/fd/0"))))
}

/// `begun`: of a file nothing is there, or somebody has read a part, a shell of its script or a loop of its list. `of_parent` is the standard input
/// of whoever started this program.
fn classify(own: &Metadata, begun: bool, of_parent: io::Result<Metadata>) -> Source {
    let kind = own.file_type();
    // A program that talks to its children through sockets keeps them open: their end may never come.
    if kind.is_socket() {
        return Source::Shared;
    }
    if begun || !(kind.is_fifo() || kind.is_file()) {
        return Source::Nothing;
    }
    match of_parent {
        Ok(parent) if (parent.dev(), parent.ino()) == (own.dev(), own.ino()) => Source::Shared,
        Ok(_) => Source::Ours,
        // It has none, has gone, or is outside of the container.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Source::Ours,
        Err(_) => Source::Shared,
    }
}

/// Whether there is something to read at this moment.
fn waits() -> bool {
    let stdin = io::stdin();
    let mut asked = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    poll(&mut asked, PollTimeout::ZERO)
        .is_ok_and(|_| asked[0].revents().is_some_and(|events| events.contains(PollFlags::POLLIN)))
}

/// Reads all of standard input, and says that it waits if that takes long. Ctrl-C ends the program.
fn patiently() -> Result<String, ApiError> {
    let (sender, receiver) = mpsc::channel();
    let reader = thread::Builder::new().name("stdin".to_owned());
    reader.spawn(move || sender.send(input::stdin_text("piped text"))).map_err(ApiError::internal)?;
    let gone = |error| ApiError::internal(format!("the reader of standard input ended: {error}"));
    match receiver.recv_timeout(SILENCE) {
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
    fn only_a_pipe_or_a_file_that_the_parent_has_not_is_read_unasked() {
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
