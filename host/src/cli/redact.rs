//! `ostler redact`

use std::io::{self, Write};

use clap::Args;
use serde_json::json;

use super::context::Context;
use super::exit::Exit;
use crate::model::{ApiError, ErrorKind};

/// With `--json` the text has to be held as a whole.
const MAX_DOCUMENT: usize = 64 * 1024 * 1024;

const EXAMPLES: &str = "\
Examples:
  ostler redact < build.log > build.redacted.log
  kubectl logs web | ostler redact

The same rules as for runs: the redactor plugins and [redaction] of the configuration. It needs no host.";

/// Copy standard input to standard output without its secrets
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {}

pub(super) fn execute(context: &mut Context<'_>, _: &Arguments) -> Result<Exit, ApiError> {
    let mut input = io::stdin().lock();
    if context.json {
        let mut output = Bounded::default();
        let redactions = context.local.redact(&context.paths, &mut input, &mut output)?;
        let text = String::from_utf8_lossy(&output.bytes);
        context.out.document(&json!({"text": text, "redactions": redactions}))?;
        return Ok(Exit::Done);
    }
    let mut output = Watched { inner: io::stdout().lock(), closed: false };
    match context.local.redact(&context.paths, &mut input, &mut output) {
        Ok(_) => Ok(Exit::Done),
        // Whoever read has seen enough.
        Err(_) if output.closed => Ok(Exit::Done),
        Err(error) => Err(error),
    }
}

/// Standard output, remembering whether its reader went away.
struct Watched<W> {
    inner: W,
    closed: bool,
}

impl<W: Write> Watched<W> {
    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            self.closed |= error.kind() == io::ErrorKind::BrokenPipe;
        }
        result
    }
}

impl<W: Write> Write for Watched<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.inner.write(bytes);
        self.note(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.inner.flush();
        self.note(result)
    }
}

/// Text that is held as a whole, up to a bound.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_DOCUMENT {
            let error = ApiError::new(ErrorKind::InvalidParams, "more than 64 MiB; leave --json out");
            return Err(io::Error::other(error));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn a_reader_that_left_is_noticed() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut output = Watched { inner: writer, closed: false };
        assert!(output.write_all(b"x").is_err());
        assert!(output.closed);
    }

    #[test]
    fn a_document_is_bounded() {
        let mut output = Bounded::default();
        output.write_all(&vec![0; MAX_DOCUMENT]).unwrap();
        assert!(output.write_all(b"x").is_err());
    }
}
