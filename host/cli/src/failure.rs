//! Error messages for the user.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind as ClapKind};
use serde_json::json;

use super::exit::Exit;
use super::output::{BAD, WARN, colored, complain, paint};
use super::{Cli, clean, option_names};
use ostler_protocol::{ApiError, ErrorKind, Verdict, nearest};

/// Prints an error to standard error: as text, or as `{"error": …}` on one line.
pub(super) fn report(error: &ApiError, json: bool) {
    let stderr = io::stderr();
    if json {
        let text = json!({"error": error}).to_string();
        complain(&if stderr.is_terminal() { clean::json(&text) } else { text });
    } else {
        complain(render(&option_names::of_error(error.clone()), colored(&stderr)).trim_end());
    }
}

/// Prints an error of the command line, or the help or version if requested.
pub(super) fn report_usage(mut error: clap::Error, args: &[OsString]) -> ExitCode {
    let hint = better_hint(&mut error, args);
    let requested = matches!(error.kind(), ClapKind::DisplayHelp | ClapKind::DisplayVersion);
    let json = args.iter().take_while(|argument| *argument != "--").any(|argument| {
        argument.to_str().is_some_and(|argument| argument == "--json" || argument.starts_with("--json="))
    });
    if json && !requested {
        let text = error.render().to_string();
        let first = text.lines().next().unwrap_or_default();
        let message = first.strip_prefix("error: ").unwrap_or(first);
        let hint = hint.unwrap_or_else(|| "see `ostler help`".to_owned());
        report(&ApiError::new(ErrorKind::InvalidParams, message).hint(hint), true);
    } else {
        if requested {
            let _ = error.print();
        } else {
            // A suggestion that was taken out leaves an empty line behind.
            let text = error.render().ansi().to_string().replace("\n\n\n", "\n\n");
            let _ = io::Write::write_all(&mut anstream::stderr(), format!("{}\n", text.trim_end()).as_bytes());
        }
        if let Some(hint) = hint {
            complain(&format!("hint: {hint}"));
        }
    }
    if requested { Exit::Done.into() } else { Exit::Usage.into() }
}

/// Corrects the suggestions of an error of the command line. Returns a hint that fits better, if there is one.
fn better_hint(error: &mut clap::Error, args: &[OsString]) -> Option<String> {
    let text = |error: &clap::Error, kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    match error.kind() {
        ClapKind::InvalidSubcommand => {
            let wrong = text(error, ContextKind::InvalidSubcommand)?;
            error.remove(ContextKind::SuggestedSubcommand);
            let typed = typed_commands(args);
            if typed.len() == 1
                && let Some((_, command)) = OTHER_WORDS.iter().find(|(word, _)| *word == wrong)
            {
                return Some(format!("`ostler {command}` does that"));
            }
            let known = known_commands(&typed);
            let near = nearest(&wrong, known.iter().map(String::as_str))?;
            error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![near.to_owned()]));
            None
        }
        ClapKind::UnknownArgument => {
            let wrong = text(error, ContextKind::InvalidArg)?;
            // The tip "to pass it as a value" does not help after a mistyped option.
            error.remove(ContextKind::Suggested);
            if wrong.starts_with('-') {
                let suggested = text(error, ContextKind::SuggestedArg);
                if suggested.is_some_and(|near| nearest(&wrong, [near.as_str()]).is_none()) {
                    error.remove(ContextKind::SuggestedArg);
                }
                return None;
            }
            takes_prompt(args).then(|| "put the prompt in quotation marks if it has several words".to_owned())
        }
        _ => None,
    }
}

/// Command names of other programs, each with the command to use here.
const OTHER_WORDS: [(&str, &str); 26] = [
    ("abort", "cancel"),
    ("ack", "inbox ack"),
    ("allow", "approvals allow"),
    ("approve", "approvals allow"),
    ("daemon", "serve"),
    ("deny", "approvals deny"),
    ("down", "stop"),
    ("enqueue", "run --detach"),
    ("exec", "run"),
    ("follow", "attach"),
    ("history", "runs"),
    ("info", "show"),
    ("init", "config init"),
    ("jobs", "queue"),
    ("login", "doctor"),
    ("pause", "queue pause"),
    ("prune", "retention apply"),
    ("reload", "config reload"),
    ("restart", "rerun"),
    ("resume", "queue resume"),
    ("retry", "rerun"),
    ("send", "chat send"),
    ("server", "serve"),
    ("start", "run"),
    ("submit", "run --detach"),
    ("tail", "logs -f"),
];

/// The known commands among the arguments: `chat`, `send`.
fn typed_commands(args: &[OsString]) -> Vec<clap::Command> {
    let mut found = vec![Cli::command()];
    for argument in args.iter().skip(1).filter_map(|argument| argument.to_str()) {
        let next = found.last().and_then(|command| command.find_subcommand(argument)).cloned();
        found.extend(next);
    }
    found
}

fn known_commands(typed: &[clap::Command]) -> Vec<String> {
    let visible =
        typed.last().into_iter().flat_map(clap::Command::get_subcommands).filter(|command| !command.is_hide_set());
    visible.flat_map(|command| command.get_name_and_visible_aliases()).map(str::to_owned).collect()
}

/// Whether the typed command takes a prompt.
fn takes_prompt(args: &[OsString]) -> bool {
    let typed = typed_commands(args);
    typed.last().is_some_and(|command| command.get_positionals().any(|argument| argument.get_id() == "prompt"))
}

/// Formats an error on several lines: the message, each problem with its pointer, each finding, the hint.
pub(super) fn render(error: &ApiError, color: bool) -> String {
    let mut text = paint(color, BAD, "error:");
    let listed = ApiError::invalid(error.problems.clone()).message;
    // A message that only joins the problems is replaced by their list.
    let head = match error.message.strip_suffix(&listed) {
        Some(before) if error.problems.len() > 1 => format!("{before}{} problems", error.problems.len()),
        _ => error.message.clone(),
    };
    let _ = writeln!(text, " {}", indent(&head));
    if error.problems.len() > 1 || !error.message.ends_with(&listed) {
        for problem in &error.problems {
            let pointer = if problem.pointer.is_empty() { "(the whole)" } else { &problem.pointer };
            let _ = writeln!(text, "  {}: {}", clean::line(pointer), indent(&problem.message));
        }
    }
    for finding in &error.findings {
        let word = match finding.verdict {
            Verdict::Allow => continue,
            Verdict::Warn => paint(color, WARN, "warning"),
            Verdict::Ask => paint(color, BAD, "needs consent"),
            Verdict::Deny => paint(color, BAD, "denied"),
        };
        let location =
            finding.pointer.as_deref().map(|pointer| format!(" {}", clean::line(pointer))).unwrap_or_default();
        let _ = write!(text, "  {word} by {}/{}{location}", clean::line(&finding.policy), clean::line(&finding.check));
        // The error often has the message of its only finding.
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

/// Indents the lines of a message after the first.
fn indent(message: &str) -> String {
    clean::text(message.trim_end()).replace('\n', "\n    ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use ostler_protocol::{Finding, Problem};

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
    fn renders_findings_and_hint() {
        let mut error = ApiError::new(ErrorKind::PolicyDenied, "a policy denied the run").hint("ostler grant add /x");
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
        hint: ostler grant add /x
        ");
    }

    #[test]
    fn omits_finding_message_that_the_error_contains() {
        let mut error = ApiError::new(ErrorKind::PolicyDenied, "denied by policy: /x is in no grant").hint("grant it");
        error.findings = vec![finding(Verdict::Deny, Some("/cwd"), Some("grant it"))];
        insta::assert_snapshot!(render(&error, false), @r"
        error: denied by policy: /x is in no grant
          denied by guardrails/cwd-in-grant /cwd
        hint: grant it
        ");
    }

    #[test]
    fn lists_each_problem_on_its_own_line() {
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
    fn prints_own_message_before_problems() {
        let problem = |message: &str| Problem { pointer: "--env A".to_owned(), message: message.to_owned() };
        let mut error = ApiError::new(ErrorKind::Conflict, "the values are gone");
        error.problems = vec![problem("pass it again")];
        assert_eq!(render(&error, false), "error: the values are gone\n  --env A: pass it again\n");
        let problems = vec![problem("one"), problem("two")];
        let mut error = ApiError::invalid(problems);
        error.message = format!("config.toml: {}", error.message);
        assert_eq!(render(&error, false), "error: config.toml: 2 problems\n  --env A: one\n  --env A: two\n");
    }

    #[test]
    fn suggested_commands_exist() {
        let root = Cli::command();
        for (word, command) in OTHER_WORDS {
            assert!(root.find_subcommand(word).is_none(), "{word} is a command");
            let mut at = &root;
            for name in command.split(' ').filter(|name| !name.starts_with('-')) {
                at = at.find_subcommand(name).unwrap_or_else(|| panic!("{command}"));
            }
        }
    }

    #[test]
    fn extra_words_after_prompt_get_quoting_hint() {
        let hint = |args: &[&str]| {
            let args: Vec<OsString> = args.iter().map(OsString::from).collect();
            let mut error = <Cli as clap::Parser>::try_parse_from(&args).unwrap_err();
            (better_hint(&mut error, &args), error.to_string())
        };
        let (quote, _) = hint(&["ostler", "run", "codex", "explain", "this", "repository"]);
        assert!(quote.unwrap().contains("quotation marks"));
        assert_eq!(hint(&["ostler", "show", "1a2b", "3c4d"]).0, None);
        assert_eq!(hint(&["ostler", "pause"]).0.unwrap(), "`ostler queue pause` does that");
        let (_, message) = hint(&["ostler", "cahpabilities"]);
        assert!(message.contains("'capabilities'"), "{message}");
        let (_, message) = hint(&["ostler", "run", "codex", "x", "--zat", "17:00"]);
        assert!(!message.contains("auto-approve"), "{message}");
        let (_, message) = hint(&["ostler", "run", "codex", "x", "--timout", "5m"]);
        assert!(message.contains("'--timeout'"), "{message}");
    }

    #[test]
    fn shows_escape_sequences_as_symbols() {
        let error = ApiError::new(ErrorKind::Io, "bad \u{1b}[2Jname");
        assert_eq!(render(&error, false), "error: bad ␛[2Jname\n");
        assert!(render(&error, true).starts_with('\u{1b}'), "its own colours stay");
    }
}
