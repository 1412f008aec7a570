//! The question before something is done that cannot be undone.

use std::io::{self, BufRead, IsTerminal, Write};

use nix::sys::termios::{FlushArg, tcflush};

use super::clean;
use crate::model::{ApiError, ErrorKind};

/// Asks, unless the user has said yes in the command line. `Ok(false)` where the answer is no.
///
/// # Errors
/// `INVALID_PARAMS` where nobody can be asked.
pub(super) async fn confirm(yes: bool, question: String) -> Result<bool, ApiError> {
    if yes {
        return Ok(true);
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let message = "cannot ask for confirmation: standard input or standard error is not a terminal";
        return Err(ApiError::new(ErrorKind::InvalidParams, message).at("--yes").hint("add --yes"));
    }
    let asked = tokio::task::spawn_blocking(move || ask(&question)).await;
    Ok(asked.unwrap_or(false))
}

/// Blocks until a line was typed; the end of input is a no.
fn ask(question: &str) -> bool {
    let lines: Vec<String> = question.lines().map(clean::line).collect();
    // What was typed before the question was seen is not an answer to it.
    let _ = tcflush(io::stdin(), FlushArg::TCIFLUSH);
    let asked = write!(io::stderr(), "{} [y/N] ", lines.join("\n")).and_then(|()| io::stderr().flush());
    let mut line = String::new();
    asked.is_ok() && io::stdin().lock().read_line(&mut line).is_ok() && is_yes(&line)
}

fn is_yes(line: &str) -> bool {
    matches!(line.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_a_yes() {
        assert!(["y\n", "Yes\r\n", " YES "].into_iter().all(is_yes));
        assert!(!["", "\n", "n", "yep", "ja"].into_iter().any(is_yes));
    }
}
