//! The user's editor.

use std::fs::{self, File};
use std::io::{self, IsTerminal};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::clean;
use ostler_protocol::{ApiError, ErrorKind};

/// Editors to try, in this order, if neither VISUAL nor EDITOR is set.
const EDITORS: [&str; 4] = ["sensible-editor", "editor", "vi", "nano"];

/// Runs the user's editor on a file, and waits for its end. A shell splits the arguments of the editor. `consequence`: what
/// it means if the editor fails.
///
/// # Errors
/// `NOT_FOUND` if there is no editor, `IO` if it cannot be started or fails.
pub(super) fn run(file: &Path, consequence: &str) -> Result<(), ApiError> {
    let named = ["VISUAL", "EDITOR"].into_iter().filter_map(std::env::var_os).find(|editor| !editor.is_empty());
    let Some(editor) = named.or_else(|| EDITORS.into_iter().find(|name| on_path(name)).map(Into::into)) else {
        return Err(
            ApiError::new(ErrorKind::NotFound, "no editor was found").hint("set VISUAL or EDITOR to the editor to use")
        );
    };
    let mut script = editor.clone();
    script.push(" \"$@\"");
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script).arg("ostler").arg(file);
    // Standard input may be a pipe that was read before.
    if !io::stdin().is_terminal()
        && let Ok(terminal) = File::open("/dev/tty")
    {
        command.stdin(terminal);
    }
    let status = command.status();
    let name = clean::line(&editor.to_string_lossy());
    let status =
        status.map_err(|error| ApiError::new(ErrorKind::Io, format!("failed to start the editor {name}: {error}")))?;
    if status.success() {
        return Ok(());
    }
    let message = format!("the editor {name} ended with {status}, so {consequence}");
    Err(ApiError::new(ErrorKind::Io, message).hint("VISUAL or EDITOR names the editor"))
}

fn on_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| {
        fs::metadata(folder.join(name)).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    })
}
