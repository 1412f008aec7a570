//! Formats an approval for a person.

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use unicode_width::UnicodeWidthStr;

use super::super::output::{BAD, BOLD, BUSY, DIM, WARN, paint};
use super::super::terminal::wrap;
use super::super::{actors, clean, format};
use ostler_protocol::{Approval, ApprovalDecider, ApprovalDecision, ApprovalKind, ApprovalQuestion, ApprovalVerdict};

/// Lines of a command and of a diff in the short form.
const COMMAND_LINES: usize = 20;
const DIFF_LINES: usize = 40;

const ADDED: Style = AnsiColor::Green.on_default();
const REMOVED: Style = AnsiColor::Red.on_default();

/// Columns of the indentation.
const INDENT: usize = 2;

/// How to format.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) width: usize,
    pub(crate) color: bool,
    /// Everything, instead of the first lines.
    pub(crate) whole: bool,
    /// How the rest can be shown: `d shows all`.
    pub(crate) more: &'static str,
}

impl Look {
    fn paint(self, style: Style, text: &str) -> String {
        paint(self.color, style, text)
    }

    /// Appends indented lines, at most `limit` unless the whole is wanted.
    fn block(self, out: &mut String, text: &str, limit: usize, style: impl Fn(&str) -> Style) {
        let text = clean::text(text.trim_end_matches('\n'));
        let width = self.width.saturating_sub(INDENT).max(2);
        let mut lines = text.split('\n').flat_map(|line| {
            let style = style(line);
            wrap(line, width).into_iter().map(move |part| (style, part))
        });
        let shown = if self.whole { usize::MAX } else { limit };
        for (style, line) in lines.by_ref().take(shown) {
            out.push_str(&format!("{:INDENT$}{}\n", "", self.paint(style, &line)));
        }
        let rest = lines.count();
        if rest > 0 {
            let lines = if rest == 1 { "line" } else { "lines" };
            let note = format!("… {} more {lines}; {}", format::count(rest as u64), self.more);
            out.push_str(&format!("{:INDENT$}{}\n", "", self.paint(WARN, &note)));
        }
    }

    fn wrapped(self, out: &mut String, style: Style, text: &str) {
        for line in wrap(text, self.width) {
            out.push_str(&self.paint(style, &line));
            out.push('\n');
        }
    }
}

/// The approval: what it is about, with the command and the diff.
pub(crate) fn panel(approval: &Approval, look: Look) -> String {
    let mut out = String::new();
    let id = format::short_id(approval.id);
    let head = format!("── {} · {} · {id} ", heading(approval.kind), clean::line(&approval.provider));
    let fill = look.width.min(72).saturating_sub(head.width());
    let head: String = format!("{head}{}", "─".repeat(fill));
    out.push_str(&look.paint(BUSY, super::super::table::cut(&head, look.width).as_ref()));
    out.push('\n');
    let command = approval.command.as_deref().filter(|command| !command.trim().is_empty());
    // A title often is the command itself.
    let title = clean::line(&approval.title);
    if command.is_none_or(|command| title.strip_prefix("run ").unwrap_or(&title) != clean::text(command.trim_end())) {
        look.wrapped(&mut out, BOLD, &title);
    }
    if let Some(command) = command {
        look.block(&mut out, command, COMMAND_LINES, |_| Style::new());
    }
    let asks = matches!(approval.kind, ApprovalKind::Question | ApprovalKind::Elicitation);
    if let Some(cwd) = approval.cwd.as_ref().filter(|_| !asks) {
        look.wrapped(&mut out, DIM, &format!("in {}", clean::line(&cwd.display().to_string())));
    }
    if let Some(reason) = approval.reason.as_deref().filter(|reason| !reason.trim().is_empty()) {
        look.wrapped(&mut out, Style::new(), &format!("reason: {}", clean::line(reason)));
    }
    if let Some(diff) = approval.diff.as_deref().filter(|diff| !diff.is_empty()) {
        look.block(&mut out, diff, DIFF_LINES, diff_style);
    }
    // A diff says the same as the input of most tools that change files.
    let shows_input = look.whole && (approval.editable || approval.diff.is_none())
        || (command.is_none() && approval.diff.is_none() && shows_input(approval.kind));
    if let Some(input) = approval.input.as_ref().filter(|_| shows_input) {
        let name = if approval.kind == ApprovalKind::Elicitation { "form" } else { "input" };
        look.wrapped(&mut out, DIM, &format!("{name}:"));
        look.block(&mut out, &format!("{input:#}"), COMMAND_LINES, |_| Style::new());
    }
    out
}

/// A kind of approval as a heading.
const fn heading(kind: ApprovalKind) -> &'static str {
    match kind {
        ApprovalKind::Command => "run a command",
        ApprovalKind::Patch => "change files",
        ApprovalKind::Tool => "use a tool",
        ApprovalKind::Permissions => "get more permissions",
        ApprovalKind::Network => "use the network",
        ApprovalKind::Question => "question",
        ApprovalKind::Elicitation => "form",
    }
}

/// Whether the short form shows the input of a tool, because nothing else says what would happen.
const fn shows_input(kind: ApprovalKind) -> bool {
    matches!(kind, ApprovalKind::Tool | ApprovalKind::Permissions | ApprovalKind::Network)
}

fn diff_style(line: &str) -> Style {
    match line.as_bytes() {
        [b'+', b'+', b'+', ..] | [b'-', b'-', b'-', ..] => BOLD,
        [b'+', ..] => ADDED,
        [b'-', ..] => REMOVED,
        [b'@', b'@', ..] => BUSY,
        _ => Style::new(),
    }
}

/// A question with its numbered options.
pub(crate) fn question(question: &ApprovalQuestion, number: Option<(usize, usize)>, look: Look) -> String {
    let mut out = String::new();
    let number = number.map(|(number, count)| format!("{number}/{count} ")).unwrap_or_default();
    let header = question.header.as_deref().map(clean::line).filter(|header| !header.is_empty());
    let header = header.map(|header| format!("{header}: ")).unwrap_or_default();
    look.wrapped(&mut out, BOLD, &format!("{number}{header}{}", clean::line(&question.question)));
    for (index, option) in question.options.iter().enumerate() {
        let about = option.description.as_deref().map(clean::line).filter(|about| !about.is_empty());
        let about = about.map(|about| format!(": {about}")).unwrap_or_default();
        let text = format!("{}{about}", clean::line(&option.label));
        let indent = 5;
        for (row, line) in wrap(&text, look.width.saturating_sub(indent)).into_iter().enumerate() {
            let lead = if row == 0 { format!("{:>3}. ", index + 1) } else { " ".repeat(indent) };
            out.push_str(&format!("{lead}{line}\n"));
        }
    }
    out
}

/// The whole text of an approval with its questions, for `approvals show`.
pub(crate) fn details(approval: &Approval, look: Look, now: Timestamp) -> String {
    let mut out = panel(approval, look);
    let count = approval.questions.len();
    for (index, one) in approval.questions.iter().enumerate() {
        out.push_str(&question(one, (count > 1).then_some((index + 1, count)), look));
    }
    let mut times = format!("run {}, opened {}", format::short_id(approval.run_id), format::local(approval.opened_at));
    times.push_str(&format!(", denied in {}", format::between(now, approval.expires_at)));
    look.wrapped(&mut out, DIM, &times);
    out
}

/// One line for a run that waits and cannot ask: what for, and how to answer.
pub(crate) fn notice(approval: &Approval) -> String {
    let (run, id) = (format::short_id(approval.run_id), format::short_id(approval.id));
    let title = clean::line(&approval.title);
    match approval.kind {
        ApprovalKind::Question => format!("run {run} asks: {title}; `ostler approvals answer {id} TEXT` answers"),
        ApprovalKind::Elicitation => {
            format!("run {run} asks for a form: {title}; `ostler approvals show {id}` shows it")
        }
        _ => format!(
            "run {run} waits for approval: {title}; `ostler approvals allow {id}` or `ostler approvals deny {id}`"
        ),
    }
}

/// A line about a decision. `own`: it was made in this terminal.
pub(crate) fn decided(title: &str, kind: ApprovalKind, decision: &ApprovalDecision, own: bool, color: bool) -> String {
    let allowed = decision.decision == ApprovalVerdict::Allow;
    let asked = matches!(kind, ApprovalKind::Question | ApprovalKind::Elicitation);
    let word = match (allowed, asked) {
        (true, true) => "answered",
        (true, false) if decision.edited => "allowed with another input",
        (true, false) => "allowed",
        (false, true) => "declined",
        (false, false) => "denied",
    };
    let by = if own { String::new() } else { by(decision) };
    let stop = if decision.stop_turn { ", and the turn stopped" } else { "" };
    let message = decision.message.as_deref().map(clean::line).filter(|message| !allowed && !message.is_empty());
    // Nobody wrote a message about the time limit.
    let message = message.filter(|_| decision.decided_by != ApprovalDecider::Timeout);
    let message = message.map(|message| format!(" ({message})")).unwrap_or_default();
    let text = paint(color, if allowed { super::super::output::GOOD } else { BAD }, &format!("{word}{by}{stop}"));
    format!("{text}: {}{message}", clean::line(title))
}

/// ` by token phone (http)`.
fn by(decision: &ApprovalDecision) -> String {
    let actor = decision.actor.as_deref().unwrap_or_default();
    match decision.decided_by {
        ApprovalDecider::Timeout => ", because nobody answered in time".to_owned(),
        ApprovalDecider::Host => " by the host".to_owned(),
        ApprovalDecider::Policy => format!(" by the policy {}", clean::line(actor)),
        ApprovalDecider::User => {
            let client = decision.client.as_deref().map(|client| format!(" ({})", clean::line(client)));
            format!(" by {}{}", actors::name(actor), client.unwrap_or_default())
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use ostler_protocol::{ApprovalId, RunId};
    use serde_json::json;

    use super::*;

    pub(crate) fn approval(kind: ApprovalKind) -> Approval {
        Approval {
            id: "01999999-8888-7777-8666-1234567890ab".parse::<ApprovalId>().unwrap(),
            run_id: "01999999-8888-7777-8666-123456789abc".parse::<RunId>().unwrap(),
            provider: "codex".to_owned(),
            kind,
            title: "run cargo test --workspace".to_owned(),
            command: None,
            cwd: Some("/src/project".into()),
            diff: None,
            reason: None,
            questions: Vec::new(),
            input: None,
            editable: false,
            opened_at: "2026-03-05T12:00:00Z".parse().unwrap(),
            expires_at: "2026-03-05T12:05:00Z".parse().unwrap(),
            deny_by_default: false,
        }
    }

    fn look(width: usize) -> Look {
        Look { width, color: false, whole: false, more: "d shows all" }
    }

    fn command() -> Approval {
        Approval {
            command: Some(
                "cargo test --workspace --locked --all-targets -- --nocapture\necho \u{1b}[2Jdone".to_owned(),
            ),
            reason: Some("the policy tools asks before tests run".to_owned()),
            ..approval(ApprovalKind::Command)
        }
    }

    #[test]
    fn command_fits_narrow_terminal() {
        insta::assert_snapshot!(panel(&command(), look(40)), @r"
        ── run a command · codex · 567890ab ────
        run cargo test --workspace
          cargo test --workspace --locked
          --all-targets -- --nocapture
          echo ␛[2Jdone
        in /src/project
        reason: the policy tools asks before
        tests run
        ");
    }

    #[test]
    fn command_at_usual_width() {
        insta::assert_snapshot!(panel(&command(), look(80)), @r"
        ── run a command · codex · 567890ab ────────────────────────────────────
        run cargo test --workspace
          cargo test --workspace --locked --all-targets -- --nocapture
          echo ␛[2Jdone
        in /src/project
        reason: the policy tools asks before tests run
        ");
    }

    #[test]
    fn tool_input_at_wide_terminal() {
        let tool = Approval {
            title: "use create_issue of the MCP server tracker".to_owned(),
            input: Some(json!({"title": "x", "labels": ["a"]})),
            ..approval(ApprovalKind::Tool)
        };
        insta::assert_snapshot!(panel(&tool, look(120)), @r#"
        ── use a tool · codex · 567890ab ───────────────────────────────────────
        use create_issue of the MCP server tracker
        in /src/project
        input:
          {
            "title": "x",
            "labels": [
              "a"
            ]
          }
        "#);
    }

    #[test]
    fn long_diff_is_cut_with_a_note() {
        let lines: String = (0..60).map(|line| format!("+line {line}\n")).collect();
        let patch = Approval {
            title: "change a.rs".to_owned(),
            diff: Some(format!("--- a.rs\n+++ a.rs\n@@ -1,2 +1,60 @@\n-old\n{lines}")),
            ..approval(ApprovalKind::Patch)
        };
        let shown = panel(&patch, look(80));
        assert!(shown.ends_with("  +line 35\n  … 24 more lines; d shows all\n"), "{shown}");
        assert!(panel(&patch, Look { whole: true, ..look(80) }).ends_with("  +line 59\n"));
        let colored = panel(&patch, Look { color: true, ..look(80) });
        assert!(colored.contains(&format!("{ADDED}+line 0{ADDED:#}")), "{colored:?}");
        assert!(colored.contains(&format!("{REMOVED}-old{REMOVED:#}")), "{colored:?}");
        assert!(colored.contains(&format!("{BOLD}+++ a.rs{BOLD:#}")), "{colored:?}");
        assert!(!shown.contains('\u{1b}'), "no color without --color");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in [10, 40, 80, 120] {
            for line in panel(&command(), look(width)).lines() {
                assert!(line.width() <= width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn questions_have_numbered_options() {
        let mut one = super::super::answers::tests::question("db", &["SQLite", "Postgres"], false);
        one.header = Some("Storage".to_owned());
        one.options[0].description = Some("one file, no server to install and to keep running".to_owned());
        insta::assert_snapshot!(question(&one, Some((1, 2)), look(40)), @r"
        1/2 Storage: Which?
          1. SQLite: one file, no server to
             install and to keep running
          2. Postgres
        ");
    }

    #[test]
    fn decision_says_who_decided() {
        let decision = ApprovalDecision {
            request_id: approval(ApprovalKind::Command).id,
            call_id: String::new(),
            decision: ApprovalVerdict::Allow,
            decided_by: ApprovalDecider::User,
            actor: Some("token phone".to_owned()),
            client: Some("http".to_owned()),
            message: None,
            edited: false,
            stop_turn: false,
        };
        let say = |decision: &ApprovalDecision, own| decided("run ls", ApprovalKind::Command, decision, own, false);
        assert_eq!(say(&decision, true), "allowed: run ls");
        assert_eq!(say(&decision, false), "allowed by token phone (http): run ls");
        let denied = ApprovalDecision {
            decision: ApprovalVerdict::Deny,
            message: Some("not\nnow".to_owned()),
            stop_turn: true,
            ..decision.clone()
        };
        assert_eq!(say(&denied, true), "denied, and the turn stopped: run ls (not now)");
        let late = ApprovalDecision { decided_by: ApprovalDecider::Timeout, stop_turn: false, ..denied.clone() };
        assert_eq!(say(&late, false), "denied, because nobody answered in time: run ls");
        let policy = ApprovalDecision {
            decided_by: ApprovalDecider::Policy,
            actor: Some("tools".to_owned()),
            stop_turn: false,
            ..denied
        };
        assert_eq!(say(&policy, false), "denied by the policy tools: run ls (not now)");
    }

    #[test]
    fn notice_names_the_commands() {
        insta::assert_snapshot!(notice(&approval(ApprovalKind::Command)), @"run 56789abc waits for approval: run cargo test --workspace; `ostler approvals allow 567890ab` or `ostler approvals deny 567890ab`");
        insta::assert_snapshot!(notice(&approval(ApprovalKind::Question)), @"run 56789abc asks: run cargo test --workspace; `ostler approvals answer 567890ab TEXT` answers");
    }
}
