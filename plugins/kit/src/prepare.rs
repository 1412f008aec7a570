//! Parts of a launch that are the same for all CLIs.

use ostler_plugin::provider::{PrivateFile, RunMode, RunRequest};
use ostler_plugin::{DroppedOptions, Error, Problems};

use crate::argument::argument_problem;
use crate::payload::Harness;
use crate::prompt;

/// Refuses interactive runs.
///
/// # Errors
/// If the request is interactive.
pub fn non_interactive(request: &RunRequest, cli: &str) -> Result<(), Error> {
    if request.mode == RunMode::Interactive {
        return Err(Error::Unsupported(format!(
            "{cli} only supports non-interactive runs in this version of the plugin; leave out `mode`"
        )));
    }
    Ok(())
}

/// `--flag=value`, so that the value cannot be parsed as a flag. Problems are reported with `pointer`.
#[must_use]
pub fn joined(flag: &str, value: &str, pointer: &str, problems: &mut Problems) -> String {
    let argument = format!("{flag}={value}");
    if value.is_empty() {
        problems.push(pointer, "is empty");
    } else if let Some(reason) = argument_problem(&argument) {
        problems.push(pointer, reason);
    }
    argument
}

/// Adds a file to the private folder and returns its absolute path.
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

/// Whether the run continues the newest session of its folder. If a session id is given as well, that one is resumed.
pub fn continues(request: &RunRequest, harness: &Harness, dropped: &mut DroppedOptions) -> bool {
    let continues = harness.continue_session == Some(true);
    if request.resume_session.is_some() && continues {
        dropped.convenience("/harness/continueSession", "`resumeSessionId` overrides it");
    }
    continues
}

/// Warns that an MCP server with a URL uses the network although `networkAccess` is false.
pub fn warn_of_network(harness: &Harness, pointer: &str, dropped: &mut DroppedOptions) {
    if harness.permissions.network_access == Some(false) {
        dropped.convenience(pointer, "this server is used over the network although `networkAccess` is false");
    }
}

/// The text for standard input: the prompt, files as `(name, media type, path)`, and piped content.
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
    fn values_are_joined_with_their_flags() {
        let mut problems = Problems::default();
        assert_eq!(joined("--model", "--x", "/model", &mut problems), "--model=--x");
        joined("--model", "", "/a", &mut problems).clear();
        joined("--model", "a\0", "/b", &mut problems).clear();
        let Err(Error::Invalid(problems)) = problems.into_result() else { panic!("accepted") };
        assert_eq!(problems.iter().map(|problem| problem.pointer.as_str()).collect::<Vec<_>>(), ["/a", "/b"]);
    }

    #[test]
    fn private_file_returns_its_absolute_path() {
        let mut files = Vec::new();
        let request = RunRequest { private_dir: "/private/".to_owned(), ..RunRequest::default() };
        assert_eq!(private_file(&mut files, &request, "a.sh", "x", true), "/private/a.sh");
        assert!(files[0].path == "a.sh" && files[0].contents == b"x" && files[0].executable);
    }

    #[test]
    fn session_id_overrides_continue_session() {
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
    fn rejects_blank_prompts_and_interactive_runs() {
        let mut problems = Problems::default();
        let request = RunRequest { prompt: " ".to_owned(), ..RunRequest::default() };
        assert_eq!(input(&request, &Harness::default(), &[], &mut problems), " ");
        assert!(problems.into_result().is_err());
        assert!(non_interactive(&request, "x").is_ok());
        let terminal = RunRequest { mode: RunMode::Interactive, ..request };
        assert!(matches!(non_interactive(&terminal, "x"), Err(Error::Unsupported(_))));
    }
}
