//! Sessions and approvals of the real CLIs over their own protocols: codex `app-server`, claude `stream-json`.

use crate::support::session_cases as cases;
use crate::support::{AgentFixture, CLAUDE, CODEX, KEY};
use serde_json::{Value, json};
use std::fs;

/// Payload fields with which codex asks about every command. The host contains the run, so that the CLI's own sandbox is
/// off.
fn codex_asks() -> Value {
    json!({"harness": {"permissions": {"approvalPolicy": "untrusted"}}})
}

/// Payload fields with which claude asks about commands that change something.
fn claude_asks() -> Value {
    json!({"harness": {"permissions": {"approvalPolicy": "on-request"}}})
}

const SHORT: &str = "[policy]\napproval_timeout_seconds = 5\n";

#[test]
fn turns_of_codex_are_interrupted_and_remembered() {
    let Some(fixture) = AgentFixture::open(&CODEX) else { return };
    cases::turns_are_interrupted_and_remembered(&fixture);
}

#[test]
fn turns_of_claude_are_interrupted_and_remembered() {
    let Some(fixture) = AgentFixture::open(&CLAUDE) else { return };
    cases::turns_are_interrupted_and_remembered(&fixture);
}

#[test]
fn user_allows_and_denies_commands_of_codex() {
    let Some(fixture) = AgentFixture::open(&CODEX) else { return };
    cases::user_allows_and_denies_commands(&fixture, &codex_asks());
}

#[test]
fn user_allows_and_denies_commands_of_claude() {
    let Some(fixture) = AgentFixture::open(&CLAUDE) else { return };
    cases::user_allows_and_denies_commands(&fixture, &claude_asks());
}

#[test]
fn user_edits_a_command_of_claude() {
    let Some(fixture) = AgentFixture::open(&CLAUDE) else { return };
    cases::user_edits_a_command(&fixture, &claude_asks());
}

#[test]
fn unanswered_approval_of_codex_is_denied() {
    let Some(fixture) = AgentFixture::open_with(&CODEX, SHORT) else { return };
    cases::unanswered_approval_is_denied(&fixture, &codex_asks());
}

#[test]
fn unanswered_approval_of_claude_is_denied() {
    let Some(fixture) = AgentFixture::open_with(&CLAUDE, SHORT) else { return };
    cases::unanswered_approval_is_denied(&fixture, &claude_asks());
}

#[test]
fn policy_decides_before_a_tool_of_codex_runs() {
    let Some(fixture) = AgentFixture::open(&CODEX) else { return };
    cases::policy_decides_before_the_tool_runs(&fixture, &json!({}));
}

#[test]
fn policy_decides_before_a_tool_of_claude_runs() {
    let Some(fixture) = AgentFixture::open(&CLAUDE) else { return };
    // The payload allows everything, and the policy denies nevertheless.
    cases::policy_decides_before_the_tool_runs(&fixture, &fixture.free_shell());
}

#[test]
fn session_of_codex_is_resumed_after_a_crash_of_the_host() {
    let Some(fixture) = AgentFixture::open(&CODEX) else { return };
    cases::session_is_resumed_after_a_crash_of_the_host(&fixture);
}

#[test]
fn session_of_claude_is_resumed_after_a_crash_of_the_host() {
    let Some(fixture) = AgentFixture::open(&CLAUDE) else { return };
    cases::session_is_resumed_after_a_crash_of_the_host(&fixture);
}

#[test]
fn codex_runs_in_a_terminal() {
    let Some(fixture) = AgentFixture::open(&CODEX) else { return };
    // The grant of the folder does not trust its settings.
    cases::terminal_shows_the_own_screen(&fixture, &[("Open restricted", "\r")]);
}

#[test]
fn claude_runs_in_a_terminal() {
    let Some(fixture) = AgentFixture::open(&CLAUDE) else { return };
    // Otherwise claude first asks for a theme, a login, and about the folder.
    let used = json!({
        "hasCompletedOnboarding": true, "theme": "dark",
        "customApiKeyResponses": {"approved": [&KEY[KEY.len() - 20..]]},
        "projects": {fixture.host.work().to_str().unwrap(): {"hasTrustDialogAccepted": true}},
    });
    fs::write(fixture.own_folder().join(".claude.json"), used.to_string()).unwrap();
    cases::terminal_shows_the_own_screen(&fixture, &[]);
}

#[test]
fn one_of_two_terminals_that_answer_codex_at_once_wins() {
    let Some(fixture) = AgentFixture::open(&CODEX) else { return };
    cases::one_of_two_terminals_wins(&fixture, &codex_asks());
}

#[test]
fn one_of_two_terminals_that_answer_claude_at_once_wins() {
    let Some(fixture) = AgentFixture::open(&CLAUDE) else { return };
    cases::one_of_two_terminals_wins(&fixture, &claude_asks());
}
