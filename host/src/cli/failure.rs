//! Errors as the user sees them.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use anstream::ColorChoice;
use clap::error::ErrorKind as ClapKind;
use serde_json::json;

use super::clean;
use super::exit::Exit;
use super::output::{BAD, WARN, complain, paint};
use crate::model::{ApiError, ErrorKind, Verdict};

/// Writes an error to standard error: for a person, or as `{"error": …}` on one line.
pub(super) fn report(error: &ApiError, json: bool) {
    let stderr = io::stderr();
    let terminal = stderr.is_terminal();
    if json {
        let text = json!({"error": error}).to_string();
        complain(&if terminal { clean::json(&text) } else { text });
    } else {
        let color = terminal && anstream::AutoStream::choice(&stderr) != ColorChoice::Never;
        complain(render(error, color).trim_end());
    }
}

/// Writes what is wrong with the command line, or the help that was asked for.
pub(super) fn report_usage(error: &clap::Error, args: &[OsString]) -> ExitCode {
    let asked = matches!(error.kind(), ClapKind::DisplayHelp | ClapKind::DisplayVersion);
    let json = args.iter().take_while(|argument| *argument != "--").any(|argument| argument == "--json");
    if json && !asked {
        let text = error.render().to_string();
        let first = text.lines().next().unwrap_or_default();
        let message = first.strip_prefix("error: ").unwrap_or(first);
        report(&ApiError::new(ErrorKind::InvalidParams, message).hint("see `ostler help`"), true);
    } else {
        let _ = error.print();
    }
    if asked { Exit::Done.into() } else { Exit::Usage.into() }
}

/// An error over several lines: the message, each problem with its pointer, each finding, the hint.
pub(super) fn render(error: &ApiError, color: bool) -> String {
    let mut text = paint(color, BAD, "error:");
    if error.problems.len() > 1 {
        // The message of such an error strings the problems together; they follow one by one.
        let _ = writeln!(text, " {} problems", error.problems.len());
        for problem in &error.problems {
            let pointer = if problem.pointer.is_empty() { "(the whole)" } else { &problem.pointer };
            let _ = writeln!(text, "  {}: {}", clean::line(pointer), indent(&problem.message));
        }
    } else {
        let _ = writeln!(text, " {}", indent(&error.message));
    }
    for finding in &error.findings {
        let word = match finding.verdict {
            Verdict::Allow => continue,
            Verdict::Warn => paint(color, WARN, "warning"),
            Verdict::Ask => paint(color, BAD, "needs consent"),
            Verdict::Deny => paint(color, BAD, "denied"),
        };
        let place = finding.pointer.as_deref().map(|pointer| format!(" {}", clean::line(pointer))).unwrap_or_default();
        let _ = write!(text, "  {word} by {}/{}{place}", clean::line(&finding.policy), clean::line(&finding.check));
        // The error's message is often that of its only finding.
        if !error.message.ends_with(&finding.message) {
            let _ = write!(text, ": {}", indent(&finding.message));
        }
        text.push('\n');
        if let Some(hint) = finding.hint.as_ref().filter(|hint| error.hint.as_ref() != Some(hint)) {
            let _ = writeln!(text, "    hint: {}", indent(hint));
        }
    }
    if let Some(hint) = &error.hint {
        let _ = writeln!(text, "hint: {}", indent(hint));
    }
    text
}

/// Further lines of a message stand under its first.
fn indent(message: &str) -> String {
    clean::text(message.trim_end()).replace('\n', "\n    ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::model::{Finding, Problem};

    fn finding(verdict: Verdict, pointer: Option<&str>, hint: Option<&str>) -> Finding {
        Finding {
            policy: "guardrails".to_owned(),
            digest: "00".to_owned(),
            check: "cwd-in-grant".to_owned(),
            verdict,
            pointer: pointer.map(str::to_owned),
            message: "/x is in no grant".to_owned(),
            hint: hint.map(str::to_owned),
        }
    }

    #[test]
    fn one_error_with_findings_and_hint() {
        let mut error = ApiError::new(ErrorKind::PolicyDenied, "a policy denied the run").hint("ostler grants add /x");
        error.findings = vec![
            finding(Verdict::Allow, None, None),
            finding(Verdict::Deny, Some("/cwd"), Some("grant it")),
            finding(Verdict::Warn, None, None),
        ];
        insta::assert_snapshot!(render(&error, false), @r"
        error: a policy denied the run
          denied by guardrails/cwd-in-grant /cwd: /x is in no grant
            hint: grant it
          warning by guardrails/cwd-in-grant: /x is in no grant
        hint: ostler grants add /x
        ");
    }

    #[test]
    fn what_the_error_says_its_finding_does_not_repeat() {
        let mut error = ApiError::new(ErrorKind::PolicyDenied, "denied by policy: /x is in no grant").hint("grant it");
        error.findings = vec![finding(Verdict::Deny, Some("/cwd"), Some("grant it"))];
        insta::assert_snapshot!(render(&error, false), @r"
        error: denied by policy: /x is in no grant
          denied by guardrails/cwd-in-grant /cwd
        hint: grant it
        ");
    }

    #[test]
    fn several_problems_stand_one_by_one() {
        let problem =
            |pointer: &str, message: &str| Problem { pointer: pointer.to_owned(), message: message.to_owned() };
        let error =
            ApiError::invalid(vec![problem("/timeoutSeconds", "must be at least 5"), problem("", "is\nno object")]);
        insta::assert_snapshot!(render(&error, false), @r"
        error: 2 problems
          /timeoutSeconds: must be at least 5
          (the whole): is
            no object
        ");
    }

    #[test]
    fn escape_sequences_of_others_are_shown() {
        let error = ApiError::new(ErrorKind::Io, "bad \u{1b}[2Jname");
        assert_eq!(render(&error, false), "error: bad ␛[2Jname\n");
        assert!(render(&error, true).starts_with('\u{1b}'), "its own colours stay");
    }
}
