//! Grants for a run that is being submitted: with `--grant`, or after a question on a terminal.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use nix::sys::termios::{FlushArg, tcflush};

use super::clean;
use super::output::complain;
use ostler_protocol::{ApiError, ErrorKind, Verdict};

/// Name of the guardrails' check that a run works inside a grant, as in findings.
const GRANT_CHECK: &str = "cwd-in-grant";

/// Whether a missing grant is the only reason why a run was denied.
pub(super) fn lacks_only_grant(error: &ApiError) -> bool {
    if error.kind != ErrorKind::PolicyDenied {
        return false;
    }
    let mut denials = error.findings.iter().filter(|finding| finding.verdict >= Verdict::Ask).peekable();
    if denials.peek().is_none() {
        return error.pointer.as_deref() == Some("/cwd");
    }
    denials.all(|finding| finding.check == GRANT_CHECK)
}

/// Replaces the general hints of a denial by one that names the folder.
pub(super) fn with_hint(mut error: ApiError, hint: String) -> ApiError {
    for finding in error.findings.iter_mut().filter(|finding| finding.check == GRANT_CHECK) {
        finding.hint = None;
    }
    error.hint(hint)
}

/// Whether a question can be asked: standard input and standard error are terminals.
pub(super) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks whether agents may work in a folder. Blocks until a line is typed. End of input means no.
pub(super) fn may_work_in(folder: &Path) -> bool {
    if let Some(warning) = too_broad(folder) {
        complain(&format!("warning: {warning}"));
    }
    let folder = clean::line(&folder.display().to_string());
    confirm(&format!("Allow agents to work in {folder}, now and later?"))
}

/// A warning if the folder is too broad for a grant: the home folder, or one that contains it.
pub(super) fn too_broad(folder: &Path) -> Option<String> {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let home = home.map(|home| home.canonicalize().unwrap_or(home));
    breadth(folder, home.as_deref())
}

fn breadth(folder: &Path, home: Option<&Path>) -> Option<String> {
    let advice = "grant the folder of a project instead";
    if folder.parent().is_none() {
        return Some(format!("this grant covers the whole file system; {advice}"));
    }
    let home = home.filter(|home| home.parent().is_some())?;
    let shown = clean::line(&folder.display().to_string());
    if folder == home {
        return Some(format!("{shown} is your home folder: agents may change almost everything in it; {advice}"));
    }
    home.starts_with(folder).then(|| format!("{shown} contains your home folder; {advice}"))
}

/// Asks a question. Only `y` or `yes` means yes. Input that was typed before the question is discarded.
pub(super) fn confirm(question: &str) -> bool {
    let question = format!("{question} [y/N] ");
    // Flush before the question appears, so that a fast answer is not discarded.
    let _ = tcflush(io::stdin(), FlushArg::TCIFLUSH);
    // Do not hold the lock of standard error while waiting: the handler of an interrupt prints to it.
    let asked = io::stderr().write_all(question.as_bytes()).and_then(|()| io::stderr().flush());
    let mut line = String::new();
    asked.is_ok() && io::stdin().lock().read_line(&mut line).is_ok() && is_yes(&line)
}

/// Asks for a line on standard error, and reads it from standard input. Blocks until it is typed.
pub(super) fn line(question: &str) -> io::Result<String> {
    io::stderr().write_all(question.as_bytes()).and_then(|()| io::stderr().flush())?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map(|_| line)
}

fn is_yes(line: &str) -> bool {
    matches!(line.trim().to_lowercase().as_str(), "y" | "yes")
}

/// The command that grants a folder, quoted for a shell.
pub(super) fn grant_command(folder: &Path) -> String {
    format!("ostler grant add {}", quoted(folder))
}

/// The command that revokes a grant, quoted for a shell.
pub(super) fn revoke_command(folder: &Path) -> String {
    format!("ostler grant revoke {}", quoted(folder))
}

fn quoted(folder: &Path) -> String {
    let text = folder.display().to_string();
    let plain = text.chars().all(|character| character.is_alphanumeric() || "/._-+@%:,".contains(character));
    if plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use ostler_protocol::Finding;

    fn denied(findings: &[(&str, Verdict)]) -> ApiError {
        let mut error = ApiError::new(ErrorKind::PolicyDenied, "denied");
        error.findings = findings
            .iter()
            .map(|(check, verdict)| Finding {
                policy: "guardrails".to_owned(),
                digest: String::new(),
                check: (*check).to_owned(),
                verdict: *verdict,
                pointer: None,
                message: String::new(),
                hint: None,
            })
            .collect();
        error
    }

    #[test]
    fn asks_for_grant_only_if_nothing_else_is_denied() {
        assert!(lacks_only_grant(&denied(&[("cwd-in-grant", Verdict::Deny), ("x", Verdict::Warn)])));
        assert!(!lacks_only_grant(&denied(&[("cwd-in-grant", Verdict::Deny), ("full-access", Verdict::Deny)])));
        assert!(!lacks_only_grant(&denied(&[("full-access", Verdict::Deny)])));
        assert!(!lacks_only_grant(&denied(&[])));
        assert!(lacks_only_grant(&denied(&[]).at("/cwd")));
        assert!(!lacks_only_grant(&ApiError::new(ErrorKind::CwdMissing, "gone").at("/cwd")));
    }

    #[test]
    fn accepts_only_y_and_yes() {
        assert!(["y\n", "Yes\r\n", " YES "].into_iter().all(is_yes));
        assert!(!["", "\n", "n", "yep", "ja"].into_iter().any(is_yes));
    }

    #[test]
    fn quotes_grant_command_for_the_shell() {
        assert_eq!(grant_command(Path::new("/home/me/a_b.c")), "ostler grant add /home/me/a_b.c");
        assert_eq!(grant_command(Path::new("/it's $HOME")), r"ostler grant add '/it'\''s $HOME'");
    }

    #[test]
    fn warns_of_a_grant_that_covers_the_home_folder() {
        let home = Some(Path::new("/home/me"));
        for folder in ["/", "/home", "/home/me"] {
            assert!(breadth(Path::new(folder), home).is_some(), "{folder}");
        }
        for folder in ["/home/me/src", "/home/you", "/srv"] {
            assert!(breadth(Path::new(folder), home).is_none(), "{folder}");
        }
        assert!(breadth(Path::new("/srv"), None).is_none());
        assert!(breadth(Path::new("/srv"), Some(Path::new("/"))).is_none(), "an account without a home");
    }
}
