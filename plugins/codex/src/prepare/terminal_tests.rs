//! The command line of a session in a terminal.
#![allow(clippy::unwrap_used, clippy::panic)]

use ostler_provider_kit_testing::launches::{dropped, has, in_a_terminal};
use serde_json::json;

use super::*;
use crate::detect::tests::installed;

fn launch(request: &RunRequest) -> Launch {
    prepare(&Settings::default(), request, &installed()).unwrap()
}

#[test]
fn session_shows_the_own_screen_with_the_prompt_as_the_last_argument() {
    let request = in_a_terminal("--help me", &json!({}));
    let launch = launch(&RunRequest { model: Some("m".to_owned()), ..request });
    assert_eq!((launch.channel, &launch.stdin), (Channel::Pty, &None));
    for absent in ["exec", "--json", "--skip-git-repo-check", "app-server", "resume"] {
        assert!(!has(&launch, absent), "{:?}", launch.args);
    }
    assert!(has(&launch, "--model=m") && has(&launch, "check_for_update_on_startup=false"));
    assert_eq!(launch.args[launch.args.len() - 2..], ["--", "--help me"]);
}

#[test]
fn session_is_resumed_by_its_id_or_as_the_newest_one() {
    let mut request = in_a_terminal("go on", &json!({}));
    request.resume_session = Some("019a0000-0000-7000-8000-000000000001".to_owned());
    let args = launch(&request).args;
    let at = args.iter().position(|arg| arg == "resume").unwrap();
    assert_eq!(args[at + 1..], ["--", "019a0000-0000-7000-8000-000000000001", "go on"]);
    let newest = in_a_terminal(" ", &json!({"harness": {"continueSession": true}}));
    let args = launch(&newest).args;
    assert_eq!(args[args.len() - 2..], ["resume", "--last"]);
}

#[test]
fn user_at_the_terminal_is_asked_as_the_policy_says() {
    for (policy, value) in [("untrusted", "untrusted"), ("on-failure", "on-request"), ("never", "never")] {
        let payload = json!({"harness": {"permissions": {"approvalPolicy": policy}}});
        let launch = launch(&in_a_terminal("x y", &payload));
        assert!(has(&launch, &format!("approval_policy=\"{value}\"")), "{policy}: {:?}", launch.args);
        assert!(!dropped(&launch).iter().any(|(_, restricts)| *restricts));
    }
}

#[test]
fn what_needs_exec_is_dropped() {
    let payload = json!({"outputFormat": "json", "harness": {"structuredOutput": {"schema": {"type": "object"}}}});
    let launch = launch(&in_a_terminal("x y", &payload));
    assert_eq!(dropped(&launch), [("/harness/structuredOutput", false), ("/outputFormat", false)]);
    assert!(!launch.args.iter().any(|arg| arg.starts_with("--output-schema")));
}
