//! Grants on the way to a run: given with `--grant`, or asked for on a terminal.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use nix::sys::termios::{FlushArg, tcflush};

use super::clean;
use super::output::complain;
use ostler_protocol::{ApiError, ErrorKind, Verdict};

/// The guardrails' check that a run works inside a grant, by the name that their findings bear.
const GRANT_CHECK: &str = "cwd-in-grant";

/// Whether a run was refused for want of a grant, and for nothing else.
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

/// The refusal with a hint that names the folder, in place of the general ones.
pub(super) fn with_hint(mut error: ApiError, hint: String) -> ApiError {
    for finding in error.findings.iter_mut().filter(|finding| finding.check == GRANT_CHECK) {
        finding.hint = None;
    }
    error.hint(hint)
}

/// Whether there is a person to ask: one who sees standard error and can answer.
pub(super) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks whether agents may work in a folder. Blocks until a line was typed; the end of input is a no.
pub(super) fn may_work_in(folder: &Path) -> bool {
    if let Some(warning) = too_broad(folder) {
        complain(&format!("warning: {warning}"));
    }
    let folder = clean::line(&folder.display().to_string());
    confirm(&format!("Allow agents to work in {folder}, now and later?"))
}

/// Why a folder is more than an agent should get, if it is.
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

/// Asks a question that only a typed yes answers with yes. What was typed before it was asked is no answer.
pub(super) fn confirm(question: &str) -> bool {
    let question = format!("{question} [y/N] ");
    // Before the question appears: an answer to it must not be dropped, however fast it is typed.
    let _ = tcflush(io::stdin(), FlushArg::TCIFLUSH);
    // The lock must not be held while waiting: whoever interrupts the question wants to say so.
    let asked = io::stderr().write_all(question.as_bytes()).and_then(|()| io::stderr().flush());
    let mut line = String::new();
    asked.is_ok() && io::stdin().lock().read_line(&mut line).is_ok() && is_yes(&line)
}

fn is_yes(line: &str) -> bool {
    matches!(line.trim().to_lowercase().as_str(), "y" | "yes")
}

/// The command that grants a folder, as a shell takes it.
pub(super) fn grant_command(folder: &Path) -> String {
    format!("ostler grant add {}", quoted(folder))
}

/// The command that takes a grant back, as a shell takes it.
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
    fn a_question_is_worth_it_only_where_a_grant_is_all_that_lacks() {
        assert!(lacks_only_grant(&denied(&[("cwd-in-grant", Verdict::Deny), ("x", Verdict::Warn)])));
        assert!(!lacks_only_grant(&denied(&[("cwd-in-grant", Verdict::Deny), ("full-access", Verdict::Deny)])));
        assert!(!lacks_only_grant(&denied(&[("full-access", Verdict::Deny)])));
        assert!(!lacks_only_grant(&denied(&[])));
        assert!(lacks_only_grant(&denied(&[]).at("/cwd")));
        assert!(!lacks_only_grant(&ApiError::new(ErrorKind::CwdMissing, "gone").at("/cwd")));
    }

    #[test]
    fn only_a_yes_is_a_yes() {
        assert!(["y\n", "Yes\r\n", " YES "].into_iter().all(is_yes));
        assert!(!["", "\n", "n", "yep", "ja"].into_iter().any(is_yes));
    }

    #[test]
    fn the_command_survives_a_shell() {
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
