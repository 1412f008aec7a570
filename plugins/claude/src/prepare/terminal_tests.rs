//! The command line of a session in a terminal.
#![allow(clippy::unwrap_used, clippy::panic)]

use ostler_provider_kit_testing::launches::{dropped, has, in_a_terminal};

use super::*;
use crate::detect::tests::{installed, newest};

fn launch(request: &RunRequest) -> Launch {
    prepare(&Settings::default(), request, &newest()).unwrap()
}

#[test]
fn session_shows_the_own_screen_with_the_prompt_as_the_last_argument() {
    let request = in_a_terminal("--help me", &json!({}));
    let launch = launch(&request);
    assert_eq!((launch.channel, &launch.stdin), (Channel::Pty, &None));
    assert!(!launch.args.iter().any(|arg| arg.contains("print") || arg.contains("format")), "{:?}", launch.args);
    assert_eq!(launch.args[launch.args.len() - 2..], ["--", "--help me"]);
    assert!(has(&launch, &format!("--session-id={}", request.fresh_id)));
    assert_eq!(known_session(&request, &newest()), Some(request.fresh_id.clone()));
}

#[test]
fn single_word_is_no_command_of_claude_and_a_blank_prompt_is_no_argument() {
    assert_eq!(launch(&in_a_terminal("mcp", &json!({}))).args.last().map(String::as_str), Some("mcp "));
    assert!(!has(&launch(&in_a_terminal(" ", &json!({}))), "--"));
}

#[test]
fn what_needs_print_is_dropped_and_limits_are_restrictions() {
    let launch = launch(&in_a_terminal(
        "x",
        &json!({"outputFormat": "json", "harness": {
            "inputFormat": "stream-json", "limits": {"maxTurns": 3, "maxBudgetUsd": 1.0},
            "structuredOutput": {"schema": {"type": "object"}}
        }}),
    ));
    assert!(!launch.args.iter().any(|arg| arg.starts_with("--max-") || arg.starts_with("--json-schema")));
    let dropped = dropped(&launch);
    for expected in [
        ("/harness/limits/maxTurns", true),
        ("/harness/limits/maxBudgetUsd", true),
        ("/harness/structuredOutput", false),
        ("/outputFormat", false),
        ("/harness/inputFormat", false),
    ] {
        assert!(dropped.contains(&expected), "{expected:?}: {dropped:?}");
    }
}

#[test]
fn user_at_the_terminal_is_asked_as_the_policy_says() {
    let with = |policy: &str| {
        let payload = json!({"harness": {"permissions": {"approvalPolicy": policy, "sandboxMode": "workspace-write"}}});
        let launch = launch(&in_a_terminal("x", &payload));
        launch.args.iter().find_map(|arg| arg.strip_prefix("--permission-mode=").map(str::to_owned))
    };
    assert_eq!(with("untrusted").as_deref(), Some("default"));
    assert_eq!(with("on-request").as_deref(), Some("acceptEdits"));
}

#[test]
fn version_without_the_control_protocol_runs_in_a_terminal() {
    let launch = prepare(&Settings::default(), &in_a_terminal("x y", &json!({})), &installed()).unwrap();
    assert_eq!(launch.channel, Channel::Pty);
}
