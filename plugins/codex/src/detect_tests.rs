#![allow(clippy::unwrap_used, clippy::panic)]

use ostler_plugin::provider::{ProbeOutcome, RunMode, Support};
use ostler_provider_kit_testing::probes::{self, assert_blocked, exited};
use proptest::prelude::*;

use super::*;
use crate::transcript::tests::captures;

/// The probe results of codex 0.169.0, with some results replaced.
fn answers(replaced: &[(&str, ProbeOutcome)]) -> Vec<ProbeResult> {
    let probes = [
        (VERSION, "version"),
        (EXEC, "help-exec"),
        (RESUME, "help-exec-resume"),
        (FEATURES, "features-list"),
        (MCP, "mcp-list"),
        (AGENTS_KEY, "mcp-list"),
        (REQUIRED_KEY, "mcp-list"),
        (APPROVAL_KEY, "mcp-list"),
        (APP_SERVER, "help-app-server"),
    ];
    // It knows the keys and rejects their values.
    let mut all = replaced.to_vec();
    all.extend([REQUIRED_KEY, APPROVAL_KEY].map(|key| (key, exited("", 1))));
    probes::answers(&captures(), &probes, &all)
}

/// Capabilities of codex 0.169.0, for other tests.
pub(crate) fn installed() -> Capabilities {
    detect(&answers(&[]))
}

#[test]
fn captured_version_is_supported() {
    let capabilities = installed();
    assert_eq!(capabilities.support, Support::Supported, "{:?}", capabilities.reasons);
    assert_eq!(capabilities.cli_version.as_deref(), Some("0.169.0"));
    assert!(capabilities.reasons.is_empty());
    for feature in [f::RESUME, f::CONTINUE, f::STRUCTURED_OUTPUT, f::IMAGES, f::TOOLS, f::SANDBOX, f::MCP, f::MODEL] {
        assert!(capabilities.features.iter().any(|known| known == feature), "{feature}");
    }
    let flags: Vec<_> = capabilities.optional_flags.iter().map(|flag| flag.name.as_str()).collect();
    assert!(flags.contains(&"--ephemeral") && flags.contains(&"--profile") && !flags.contains(&"--search"));
    let detected = Detected::of(&capabilities).unwrap();
    assert_eq!(detected.mcp_servers, Some(vec!["docs".to_owned()]));
    assert!(detected.features.as_ref().unwrap().contains("shell_tool"));
    assert!(!detected.features.as_ref().unwrap().contains("undo"), "removed features cannot be turned off");
    assert!(!capabilities.extra.unwrap().contains("made-up"), "secrets of the servers are not kept");
}

#[test]
fn configuration_keys_are_detected_by_rejected_values() {
    let of = |replaced: &[(&str, ProbeOutcome)]| detect(&answers(replaced));
    let detected = |replaced: &[(&str, ProbeOutcome)]| Detected::of(&of(replaced)).unwrap();
    let captured = detected(&[]);
    assert!(captured.agents_key && captured.required_key && captured.resume_here);
    assert!(!detected(&[(AGENTS_KEY, exited("", 1))]).agents_key);
    assert!(!detected(&[(REQUIRED_KEY, exited("[]", 0))]).required_key);
    // If the list itself fails, a rejection has no meaning.
    assert!(!detected(&[(MCP, exited("", 1))]).required_key);
    assert_blocked(&of(&[(APPROVAL_KEY, exited("[]", 0))]), "trusted");
}

#[test]
fn continue_is_not_available_if_it_resumes_sessions_of_other_folders() {
    let page = captures().part("help-exec-resume", "stdout").replace("--all", "--every");
    let capabilities = detect(&answers(&[(RESUME, exited(&page, 0))]));
    assert_eq!(capabilities.support, Support::Degraded);
    let has = |feature: &str| capabilities.features.iter().any(|known| known == feature);
    assert!(has(f::RESUME) && !has(f::CONTINUE));
}

#[test]
fn images_of_a_resumed_session_need_an_option_of_resume() {
    let page = captures().part("help-exec-resume", "stdout");
    let images = |page: &str| Detected::of(&detect(&answers(&[(RESUME, exited(page, 0))]))).unwrap().resume_images;
    assert!(images(&page));
    assert!(!images(&page.replace("--image <", "--picture <")));
}

#[test]
fn detect_reads_every_probe() {
    let ids: Vec<String> = probes().into_iter().map(|probe| probe.id).collect();
    assert_eq!(ids, answers(&[]).into_iter().map(|result| result.id).collect::<Vec<_>>());
}

#[test]
fn newer_version_is_judged_by_its_help() {
    let capabilities = detect(&answers(&[(VERSION, exited("codex-cli 7.0.0-beta.2\n", 0))]));
    assert_eq!((capabilities.support, capabilities.cli_version.as_deref()), (Support::Supported, Some("7.0.0-beta.2")));
    let bare = "Options:\n  -c, --config <k=v>\n      --json\n  -s, --sandbox <M>\n";
    let capabilities = detect(&answers(&[(VERSION, exited("codex-cli 7.0.0\n", 0)), (EXEC, exited(bare, 0))]));
    assert_eq!(capabilities.support, Support::Degraded);
    assert!(capabilities.reasons.iter().any(|reason| reason.contains("--output-schema")));
    assert_eq!(capabilities.optional_flags.len(), 1, "--config alone is left");
    let capabilities = detect(&answers(&[(EXEC, exited("Options:\n  --config <k=v>\n  --print\n", 0))]));
    assert_eq!(capabilities.support, Support::Blocked);
    assert!(capabilities.reasons[0].contains("--json, --sandbox"), "{:?}", capabilities.reasons);
}

#[test]
fn unusable_version_is_blocked_with_a_reason() {
    for (id, outcome, word) in [
        (VERSION, ProbeOutcome::NotFound, "not found"),
        (VERSION, ProbeOutcome::TimedOut, "in time"),
        (VERSION, ProbeOutcome::Failed("permission denied".to_owned()), "permission denied"),
        (VERSION, exited("cannot load library", 127), "exit code 127: cannot load library"),
        (EXEC, ProbeOutcome::TimedOut, "in time"),
        (EXEC, exited("hello", 0), "--json"),
        (EXEC, exited("", 2), "exit code 2"),
    ] {
        assert_blocked(&detect(&answers(&[(id, outcome)])), word);
    }
    assert_eq!(detect(&[]).support, Support::Blocked);
}

#[test]
fn missing_optional_feature_degrades() {
    for (id, outcome, word) in [
        (VERSION, exited("hello\n", 0), "prints no version"),
        (RESUME, exited("", 2), "resumed"),
        (FEATURES, exited("", 1), "tools cannot be restricted"),
        (MCP, exited("No servers", 0), "something other than a list"),
    ] {
        let capabilities = detect(&answers(&[(id, outcome)]));
        assert_eq!(capabilities.support, Support::Degraded, "{word}");
        assert!(capabilities.reasons[0].contains(word), "{:?}", capabilities.reasons);
        assert_eq!(capabilities.modes, [RunMode::NonInteractive, RunMode::Interactive]);
    }
}

#[test]
fn sessions_and_approvals_need_a_current_app_server() {
    let has = |capabilities: &Capabilities, feature: &str| capabilities.features.iter().any(|known| known == feature);
    let current = installed();
    assert_eq!(current.modes, [RunMode::NonInteractive, RunMode::Interactive]);
    assert!(has(&current, f::APPROVALS) && has(&current, f::INTERRUPT) && has(&current, f::STEER));
    let page = captures().part("help-app-server", "stdout").replace("--stdio", "--pipes");
    for (outcome, word) in [(exited(&page, 0), "has no --stdio"), (exited("unrecognized subcommand", 2), "exit code 2")]
    {
        let capabilities = detect(&answers(&[(APP_SERVER, outcome)]));
        assert_eq!(
            (capabilities.support, capabilities.modes.as_slice()),
            (Support::Degraded, &[RunMode::NonInteractive][..])
        );
        assert!(!has(&capabilities, f::APPROVALS) && has(&capabilities, f::RESUME));
        let reason = &capabilities.reasons[0];
        assert!(reason.starts_with("sessions and approvals are not available") && reason.contains(word), "{reason}");
    }
}

proptest! {
    #[test]
    fn arbitrary_output_does_not_panic(pages in prop::collection::vec("(-|--json|--config|--sandbox|\n| |\\PC){0,30}", 5), code in -1..3) {
        let ids = [VERSION, EXEC, RESUME, FEATURES, MCP];
        let replaced: Vec<_> = ids.iter().zip(&pages).map(|(id, page)| (*id, exited(page, code))).collect();
        let capabilities = detect(&answers(&replaced));
        prop_assert!(capabilities.support == Support::Supported || !capabilities.reasons.is_empty());
    }
}
