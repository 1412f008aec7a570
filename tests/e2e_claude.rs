//! The real claude CLI through the host, against the scripted model server on loopback.
//!
//! `OSTLER_TEST_CLAUDE` names the executable; otherwise it is looked for on `PATH`. Without one the suite says so and
//! passes, unless `OSTLER_REQUIRE_CLIS=1`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod support;

use serde_json::{Value, json};
use support::{Cli, KEY, Studio, answer, cases, end_of, of_type, semantics, tool_outputs};

static CLAUDE: Cli = Cli {
    name: "claude",
    variable: "OSTLER_TEST_CLAUDE",
    protocol: "messages",
    // As root, claude skips permissions only where it is told that it is in a sandbox.
    free_shell: || json!({ "permissions": { "autoApprove": true }, "processEnv": { "IS_SANDBOX": "1" } }),
    absent_session: "019a0000-0000-7000-8000-00000000dead",
    settle: |home, server| {
        format!(
            "{{ CLAUDE_CONFIG_DIR = \"{}\", ANTHROPIC_BASE_URL = \"{}\", ANTHROPIC_API_KEY = \"{KEY}\" }}\n\
             settings = {{ maxRetries = 0 }}",
            home.display(),
            server.url()
        )
    },
};

/// Nothing, said on standard error, where there is no claude.
fn studio() -> Option<Studio> {
    Studio::open(&CLAUDE)
}

#[test]
fn a_plain_message_with_its_deltas_and_its_text_told_once() {
    let Some(studio) = studio() else { return };
    cases::a_plain_message(&studio);
    let events = studio.events(&["SAY one two three"]);
    let deltas = semantics(&events, "text_delta");
    assert!(deltas.len() > 1, "{deltas:?}");
    let told: String = deltas.iter().map(|delta| delta["text"].as_str().unwrap()).collect();
    assert_eq!(told, "one two three");
    // The whole text refers to the deltas and does not repeat them.
    let [whole] = semantics(&events, "text")[..] else { panic!("{events:#?}") };
    assert_eq!(whole.get("text"), None, "{whole}");
    let cursors: Vec<_> =
        events.iter().filter(|event| event["payload"]["kind"] == "text_delta").map(|event| &event["cursor"]).collect();
    assert_eq!((&whole["fromCursor"], &whole["toCursor"]), (cursors[0], cursors[cursors.len() - 1]));
    assert_eq!(answer(&events), "one two three");
}

#[test]
fn a_tool_call_with_its_command_and_output() {
    let Some(studio) = studio() else { return };
    let events = cases::a_tool_call(&studio);
    assert_eq!(semantics(&events, "tool_result")[0]["exitCode"], 0);
    // claude needs its key, and the model's shell does not.
    let events = studio.events_with("RUN echo \"the key: ${ANTHROPIC_API_KEY-none}\"", &studio.free_shell());
    assert!(tool_outputs(&events).contains("the key: none"), "{events:#?}");
}

#[test]
fn permissions_decide_what_the_shell_may_do() {
    let Some(studio) = studio() else { return };
    let made = studio.bed.work().join("made");
    // Nobody can be asked, so that what claude would ask about is refused, and the run says so.
    for (permissions, may) in [
        (json!({}), false),
        (json!({ "sandboxMode": "read-only" }), false),
        (json!({ "sandboxMode": "workspace-write" }), true),
    ] {
        let events = studio.events_with("RUN touch made", &json!({ "harness": { "permissions": permissions } }));
        assert_eq!(end_of(&events).unwrap()["type"], "run.completed", "{permissions}: {events:#?}");
        assert_eq!(made.exists(), may, "{permissions}: {events:#?}");
        assert_eq!(semantics(&events, "tool_result")[0]["isError"], !may, "{permissions}: {events:#?}");
        let denied = semantics(&events, "warning").into_iter().filter(|warning| warning["code"] == "tool-denied");
        assert_eq!(denied.count(), usize::from(!may), "{permissions}: {events:#?}");
    }
}

#[test]
fn permissions_are_not_skipped_as_root() {
    let Some(studio) = studio() else { return };
    let harness = json!({ "permissions": { "autoApprove": true } });
    let payload = studio.payload("RUN touch made", &json!({ "harness": harness }));
    let done = studio.bed.run(&["run", "--json", "--payload", payload.to_str().unwrap()]);
    let made = studio.bed.work().join("made").exists();
    if nix::unistd::geteuid().is_root() {
        let error = done.code(2).error();
        assert_eq!(error["pointer"], "/harness/permissions/autoApprove");
        assert!(error["message"].as_str().unwrap().contains("as root"), "{error}");
        assert!(!made && studio.server.seen().is_empty(), "claude was started");
    } else {
        done.ok();
        assert!(made);
    }
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
fn sessions_are_resumed_and_an_invalid_one_is_begun_anew_once() {
    let Some(studio) = studio() else { return };
    cases::sessions(&studio);
}

#[test]
fn cost_and_usage_are_those_of_the_attempt() {
    let Some(studio) = studio() else { return };
    let counted = |events: &[Value]| {
        let metrics = of_type(events, "run.runner_metrics");
        metrics.last().unwrap()["payload"]["usage"].clone()
    };
    let first = studio.events(&["USAGE 120 7"]);
    let usage = counted(&first);
    assert_eq!((&usage["inputTokens"], &usage["outputTokens"]), (&json!(120), &json!(7)));
    assert!(usage["costMicroUsd"].as_u64().unwrap() > 0, "{usage}");
    // Those of the turn before stay with the run that had it.
    let session = semantics(&first, "session")[0]["sessionId"].as_str().unwrap();
    let second = studio.events(&["--resume", session, "USAGE 120 7"]);
    assert_eq!(semantics(&second, "session")[0]["origin"], "resumed");
    assert_eq!(counted(&second), usage);
    let record = studio.bed.record(second[0]["runId"].as_str().unwrap());
    assert_eq!(record["usage"], usage);
}

#[test]
fn prompts_that_are_long_or_look_like_flags() {
    let Some(studio) = studio() else { return };
    cases::prompts(&studio, "--dangerously-skip-permissions");
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
