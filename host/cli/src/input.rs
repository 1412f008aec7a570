//! Reads prompts, schemas and payloads from standard input and files, with a size limit.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde_json::Value;

use super::clean;
use ostler_protocol::{ApiError, ErrorKind};

/// Maximum size of an input, in bytes.
const MAX_BYTES: u64 = 8 * 1024 * 1024;

/// Reads UTF-8 text from standard input. `what` names it in errors.
pub(super) fn stdin_text(what: &str) -> Result<String, ApiError> {
    text(what, "standard input", io::stdin().lock())
}

/// Reads UTF-8 text from a file. `what` names it in errors.
pub(super) fn file_text(what: &str, path: &Path) -> Result<String, ApiError> {
    let name = clean::line(&path.display().to_string());
    let file = File::open(path).map_err(|error| failed(what, &name, &error))?;
    text(what, &name, file)
}

/// Whether a path names standard input.
pub(super) fn is_stdin(path: &Path) -> bool {
    ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"].iter().any(|name| path == Path::new(name))
}

/// Reads JSON from a file, or from standard input for `-`.
pub(super) fn json(what: &str, path: &Path) -> Result<Value, ApiError> {
    let (name, text) = if is_stdin(path) {
        ("standard input".to_owned(), stdin_text(what)?)
    } else {
        (clean::line(&path.display().to_string()), file_text(what, path)?)
    };
    serde_json::from_str(&text).map_err(|error| {
        ApiError::new(ErrorKind::InvalidParams, format!("the {what} in {name} is not valid JSON: {error}"))
    })
}

fn text(what: &str, from: &str, reader: impl Read) -> Result<String, ApiError> {
    let mut bytes = Vec::new();
    reader.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| failed(what, from, &error))?;
    if bytes.len() as u64 > MAX_BYTES {
        let message = format!("the {what} in {from} is longer than {} MiB", MAX_BYTES >> 20);
        return Err(ApiError::new(ErrorKind::InvalidParams, message));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        ApiError::new(ErrorKind::InvalidParams, format!("the {what} in {from} is not valid UTF-8 (byte {at})"))
    })
}

fn failed(what: &str, from: &str, error: &io::Error) -> ApiError {
    ApiError::new(ErrorKind::Io, format!("failed to read the {what} from {from}: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn rejects_long_input_and_invalid_utf8() {
        assert_eq!(text("prompt", "standard input", "Grüße\n".as_bytes()).unwrap(), "Grüße\n");
        let error = text("prompt", "standard input", io::repeat(b'x')).unwrap_err();
        assert_eq!(error.message, "the prompt in standard input is longer than 8 MiB");
        let error = text("prompt", "p.txt", &b"ab\xff"[..]).unwrap_err();
        assert_eq!(error.message, "the prompt in p.txt is not valid UTF-8 (byte 2)");
        assert_eq!(error.kind, ErrorKind::InvalidParams);
    }

    #[test]
    fn recognizes_names_of_standard_input() {
        assert!(["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"].into_iter().all(|name| is_stdin(Path::new(name))));
        assert!(!["", "./-", "stdin", "/dev/fd/3"].into_iter().any(|name| is_stdin(Path::new(name))));
    }

    #[test]
    fn error_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let error = file_text("prompt", &folder.path().join("nowhere.md")).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Io);
        assert!(error.message.contains("nowhere.md: No such file"), "{}", error.message);
        let error = file_text("prompt", folder.path()).unwrap_err();
        assert!(error.message.contains("directory"), "{}", error.message);
        let path = folder.path().join("schema.json");
        std::fs::write(&path, "{\n  \"type\": }").unwrap();
        let error = json("schema", &path).unwrap_err();
        assert!(error.message.contains("line 2 column 11"), "{}", error.message);
    }
}
