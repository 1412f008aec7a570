//! `ostler redact`

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::context::Context;
use super::exit::Exit;
use ostler_protocol::{ApiError, ErrorKind};

/// Maximum size of the text with `--json`, in bytes: it is buffered in memory.
const MAX_DOCUMENT: usize = 64 * 1024 * 1024;

const EXAMPLES: &str = "\
Examples:
  kubectl logs web | ostler redact
  ostler redact build.log deploy.log > shared.log

It uses the same rules as runs: the redactor plugins and [redaction] in config.toml. All other bytes are unchanged. \
It needs no host.";

/// Print files, or standard input, without secrets
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Files to print, one after the other; - is standard input (the default)
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

pub(super) fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    let mut inputs = inputs(&arguments.files)?;
    if context.json {
        let mut output = Bounded::default();
        let redactions = context.local.redact(&context.paths, &mut inputs, &mut output)?;
        let text = String::from_utf8_lossy(&output.bytes);
        context.out.document(&json!({"text": text, "redactions": redactions}))?;
        return Ok(Exit::Done);
    }
    let mut output = Watched { inner: io::stdout().lock(), closed: false };
    match context.local.redact(&context.paths, &mut inputs, &mut output) {
        Ok(_) => Ok(Exit::Done),
        // The reader closed standard output: this is not an error.
        Err(_) if output.closed => Ok(Exit::Done),
        Err(error) => Err(error),
    }
}

/// The inputs. Fails if one of the files cannot be read, before anything is printed.
fn inputs(files: &[PathBuf]) -> Result<Vec<Box<dyn Read>>, ApiError> {
    if files.is_empty() {
        return Ok(vec![Box::new(io::stdin().lock())]);
    }
    let problems: Vec<String> = files
        .iter()
        .filter(|path| !is_stdin(path))
        .filter_map(|path| Some(format!("{}: {}", path.display(), unreadable(path)?)))
        .collect();
    if !problems.is_empty() {
        let message = format!("failed to read {}", problems.join("; "));
        return Err(ApiError::new(ErrorKind::Io, message).hint("nothing was printed; name files that can be read"));
    }
    let input = |path: &PathBuf| -> Box<dyn Read> {
        if is_stdin(path) { Box::new(io::stdin().lock()) } else { Box::new(Input { path: path.clone(), file: None }) }
    };
    Ok(files.iter().map(input).collect())
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// The reason why a file cannot be read. A pipe is not opened, because its writer would notice.
fn unreadable(path: &Path) -> Option<String> {
    match fs::metadata(path) {
        Err(error) => Some(error.to_string()),
        Ok(file) if file.is_dir() => Some("is a folder".to_owned()),
        Ok(file) if file.is_file() => File::open(path).err().map(|error| error.to_string()),
        Ok(_) => None,
    }
}

/// A file that is opened at the first read. Its errors contain its path.
struct Input {
    path: PathBuf,
    file: Option<File>,
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", self.path.display()));
        if self.file.is_none() {
            self.file = Some(File::open(&self.path).map_err(named)?);
        }
        self.file.as_mut().map_or(Ok(0), |file| file.read(buffer)).map_err(named)
    }
}

/// Standard output that records whether its reader closed it.
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

/// A buffer of at most [`MAX_DOCUMENT`] bytes.
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
    fn notices_closed_reader() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut output = Watched { inner: writer, closed: false };
        assert!(output.write_all(b"x").is_err());
        assert!(output.closed);
    }

    #[test]
    fn rejects_document_above_limit() {
        let mut output = Bounded::default();
        output.write_all(&vec![0; MAX_DOCUMENT]).unwrap();
        assert!(output.write_all(b"x").is_err());
    }
}
