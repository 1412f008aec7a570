//! Helpers for the tests of the commands, and tests of the whole command line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use clap::CommandFactory;
use serde_json::Value;

use super::Cli;
use ostler_protocol::{Event, EventId, EventType};

/// An event of a run with this payload.
pub(super) fn event(kind: EventType, payload: Value) -> Event {
    Event {
        cursor: 1,
        event_id: EventId::generate(),
        run_id: None,
        conversation_id: None,
        seq: Some(1),
        kind,
        payload,
        timestamp: "2026-03-05T12:00:00Z".parse().unwrap(),
    }
}

#[test]
fn command_line_definition_is_valid() {
    Cli::command().debug_assert();
}

/// Snapshot of every help page. Every command has an example.
#[test]
fn help() {
    let mut pages = String::new();
    collect(&mut Cli::command().term_width(100), &mut pages);
    insta::assert_snapshot!(pages);
}

/// The terminal wraps lines. A line break in the source would add a second break.
#[test]
fn help_paragraphs_have_no_line_breaks() {
    fn check(command: &clap::Command) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let lines: Vec<&str> = help.lines().collect();
        for pair in lines.windows(2) {
            let is_text = |line: &str| !line.is_empty() && !line.starts_with(' ');
            let heading = pair[0].ends_with(':');
            assert!(!(is_text(pair[0]) && is_text(pair[1])) || heading, "{}: {pair:?}", command.get_name());
        }
        command.get_subcommands().for_each(check);
    }
    check(&Cli::command());
}

fn collect(command: &mut clap::Command, pages: &mut String) {
    command.build();
    let page = command.render_help().to_string();
    assert!(page.contains("Examples:"), "no example in the help of {}", command.get_name());
    pages.push_str(&format!("{}\n{page}\n", "=".repeat(80)));
    for verb in command.get_subcommands_mut().filter(|verb| verb.get_name() != "help") {
        collect(verb, pages);
    }
}
