//! Reads the configuration file, with a size limit.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::error::ConfigError;
use ostler_private_files::ownership;

/// Maximum size of the file: 1 MiB.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// The text of the file, or `None` if it does not exist. The file must belong to the user and not be writable for
/// others.
pub(super) fn read_if_present(path: &Path) -> Result<Option<String>, ConfigError> {
    match std::fs::metadata(path) {
        // A dangling symbolic link is an error, not a missing file.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => Ok(None),
        _ => {
            // The file decides which programs run and which code is loaded.
            ownership::check(path).map_err(|untrusted| {
                let hint = format!("run `{}`", untrusted.remedy);
                ConfigError::whole(format!("it is not trusted: {}", untrusted.message), Some(hint))
            })?;
            read(path).map(Some)
        }
    }
}

/// The text of the file.
pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(&error))?;
    // Opening a pipe would wait for its writer; reading a device may never end.
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "a folder" } else { "not a regular file" };
        return Err(whole_file(format!("it is {what}"), "name a file in TOML format"));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(whole_file(
            format!("it is longer than {MAX_FILE_BYTES} bytes"),
            "is this the right file? a configuration is a few kilobytes long",
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes().iter().take(valid).filter(|byte| **byte == b'\n').count() + 1;
        whole_file(format!("line {line} holds a byte that is not UTF-8"), "save the file as UTF-8")
    })
}

fn unreadable(error: &io::Error) -> ConfigError {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "name a file that exists",
        io::ErrorKind::PermissionDenied => "make it readable for the user who runs ostler",
        _ => "check the path and the disk",
    };
    whole_file(error.to_string(), hint)
}

fn whole_file(message: String, hint: &str) -> ConfigError {
    ConfigError::whole(message, Some(hint.to_owned()))
}
