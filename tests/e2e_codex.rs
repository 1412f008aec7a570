//! The real codex CLI through the host, against the scripted model server on loopback.
//!
//! `OSTLER_TEST_CODEX` names the executable; otherwise it is looked for on `PATH`. Without one the suite says so and
//! passes, unless `OSTLER_REQUIRE_CLIS=1`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod support;

use serde_json::json;
use std::fs;
use support::{Cli, KEY, Studio, cases};

static CODEX: Cli = Cli {
    name: "codex",
    variable: "OSTLER_TEST_CODEX",
    protocol: "responses",
    free_shell: || json!({ "permissions": { "sandboxMode": "full-access" } }),
    absent_session: "019a0000-0000-7000-8000-00000000dead",
    settle: |home, server| {
        let config = format!(
            "model = \"scripted\"\nmodel_provider = \"scripted\"\n[model_providers.scripted]\nname = \"scripted\"\n\
             base_url = \"{}/v1\"\nwire_api = \"responses\"\nenv_key = \"SCRIPTED_KEY\"\n\
             request_max_retries = 0\nstream_max_retries = 0\n",
            server.url()
        );
        fs::write(home.join("config.toml"), config).unwrap();
        format!("{{ CODEX_HOME = \"{}\", SCRIPTED_KEY = \"{KEY}\" }}", home.display())
    },
};

/// Nothing, said on standard error, where there is no codex.
fn studio() -> Option<Studio> {
    Studio::open(&CODEX)
}

#[test]
fn a_plain_message() {
    let Some(studio) = studio() else { return };
    cases::a_plain_message(&studio);
}

#[test]
fn a_tool_call_with_its_command_and_output() {
    let Some(studio) = studio() else { return };
    cases::a_tool_call(&studio);
}

#[test]
fn structured_output_valid_invalid_and_missing() {
    let Some(studio) = studio() else { return };
    cases::structured_output(&studio);
}

#[test]
fn a_refused_login_is_named_and_not_tried_again() {
    let Some(studio) = studio() else { return };
    cases::a_refused_login(&studio);
}

#[test]
fn too_many_requests_are_tried_again() {
    let Some(studio) = studio() else { return };
    cases::too_many_requests(&studio);
}

#[test]
fn a_slow_stream_is_cancelled_in_the_middle() {
    let Some(studio) = studio() else { return };
    cases::a_cancel_in_the_stream(&studio);
}

#[test]
fn a_cancel_ends_the_shell_of_a_tool() {
    let Some(studio) = studio() else { return };
    cases::a_cancel_in_a_tool(&studio);
}

#[test]
fn sessions_are_resumed_with_their_sandbox_and_an_invalid_one_is_begun_anew_once() {
    let Some(studio) = studio() else { return };
    cases::sessions(&studio);
}

#[test]
fn prompts_that_are_long_or_look_like_flags() {
    let Some(studio) = studio() else { return };
    cases::prompts(&studio, "--dangerously-bypass-approvals-and-sandbox");
}

#[test]
fn four_runs_at_once() {
    let Some(studio) = studio() else { return };
    cases::four_at_once(&studio);
}

#[test]
fn what_the_model_gives_away_stays_hidden() {
    let Some(studio) = studio() else { return };
    cases::leaks(&studio);
}
