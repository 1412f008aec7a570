//! Parts of a launch that every CLI takes in the same way.

use ostler_plugin::provider::{PrivateFile, RunMode, RunRequest};
use ostler_plugin::{DroppedOptions, Error, Problems};

use crate::argument::unfit;
use crate::payload::Harness;
use crate::prompt;

/// Refuses a request for a terminal.
///
/// # Errors
/// Fails where the request is interactive.
pub fn non_interactive(request: &RunRequest, cli: &str) -> Result<(), Error> {
    if request.mode == RunMode::Interactive {
        return Err(Error::Unsupported(format!(
            "{cli} runs non-interactively only in this version of the plugin; leave out `mode`"
        )));
    }
    Ok(())
}

/// `--flag=value`, so that no value can be taken for a flag. The pointer names what it comes from.
#[must_use]
pub fn joined(flag: &str, value: &str, pointer: &str, problems: &mut Problems) -> String {
    let argument = format!("{flag}={value}");
    if value.is_empty() {
        problems.push(pointer, "is empty");
    } else if let Some(reason) = unfit(&argument) {
        problems.push(pointer, reason);
    }
    argument
}

/// Adds a file to those of the private folder; gives its absolute path.
pub fn private_file(
    files: &mut Vec<PrivateFile>,
    request: &RunRequest,
    name: &str,
    contents: &str,
    executable: bool,
) -> String {
    files.push(PrivateFile { path: name.to_owned(), contents: contents.as_bytes().to_vec(), executable });
    format!("{}/{name}", request.private_dir.trim_end_matches('/'))
}

/// Whether the run goes on from the newest session of its folder. An id beside that wins, and is the session.
pub fn continues(request: &RunRequest, harness: &Harness, dropped: &mut DroppedOptions) -> bool {
    let continues = harness.continue_session == Some(true);
    if request.resume_session.is_some() && continues {
        dropped.convenience("/harness/continueSession", "`resumeSessionId` says which session, and wins");
    }
    continues
}

/// Says that an MCP server at an address is network, too. Whoever names it wants it, so it is asked all the same.
pub fn warn_of_network(harness: &Harness, pointer: &str, dropped: &mut DroppedOptions) {
    if harness.permissions.network_access == Some(false) {
        dropped
            .convenience(pointer, "`networkAccess` is false, and this server is asked over the network all the same");
    }
}

/// What goes to standard input as text: the prompt, these files by `(name, media type, path)`, and piped content.
#[must_use]
pub fn input(request: &RunRequest, harness: &Harness, files: &[(&str, &str, &str)], problems: &mut Problems) -> String {
    let input = prompt::compose(&request.prompt, files, harness.piped_content.as_deref());
    if input.trim().is_empty() {
        problems.push("/prompt", "is blank");
    }
    input
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    #[test]
    fn values_stay_with_their_flags() {
        let mut problems = Problems::default();
        assert_eq!(joined("--model", "--x", "/model", &mut problems), "--model=--x");
        joined("--model", "", "/a", &mut problems).clear();
        joined("--model", "a\0", "/b", &mut problems).clear();
        let Err(Error::Invalid(problems)) = problems.into_result() else { panic!("accepted") };
        assert_eq!(problems.iter().map(|problem| problem.pointer.as_str()).collect::<Vec<_>>(), ["/a", "/b"]);
    }

    #[test]
    fn private_files_are_named_by_their_path() {
        let mut files = Vec::new();
        let request = RunRequest { private_dir: "/private/".to_owned(), ..RunRequest::default() };
        assert_eq!(private_file(&mut files, &request, "a.sh", "x", true), "/private/a.sh");
        assert!(files[0].path == "a.sh" && files[0].contents == b"x" && files[0].executable);
    }

    #[test]
    fn a_session_by_id_wins() {
        let harness = Harness { continue_session: Some(true), ..Harness::default() };
        let mut dropped = DroppedOptions::default();
        assert!(continues(&RunRequest::default(), &harness, &mut dropped));
        assert!(!continues(&RunRequest::default(), &Harness::default(), &mut dropped));
        let request = RunRequest { resume_session: Some("s".to_owned()), ..RunRequest::default() };
        assert!(continues(&request, &harness, &mut dropped));
        let dropped = dropped.into_vec();
        assert_eq!(dropped.len(), 1);
        assert_eq!(dropped[0].pointer, "/harness/continueSession");
    }

    #[test]
    fn a_blank_prompt_and_a_terminal_are_refused() {
        let mut problems = Problems::default();
        let request = RunRequest { prompt: " ".to_owned(), ..RunRequest::default() };
        assert_eq!(input(&request, &Harness::default(), &[], &mut problems), " ");
        assert!(problems.into_result().is_err());
        assert!(non_interactive(&request, "x").is_ok());
        let terminal = RunRequest { mode: RunMode::Interactive, ..request };
        assert!(matches!(non_interactive(&terminal, "x"), Err(Error::Unsupported(_))));
    }
}
