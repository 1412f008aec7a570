#![allow(clippy::unwrap_used, clippy::panic)]

use ostler_plugin::provider::{ProbeOutcome, Support};
use ostler_provider_kit_testing::probes::{self, assert_blocked, exited};
use proptest::prelude::*;

use super::*;
use crate::transcript::tests::captures;

/// The probe results of claude 2.1.197, with some results replaced.
fn answers(replaced: &[(&str, ProbeOutcome)]) -> Vec<ProbeResult> {
    let probes = [(VERSION, "version"), (HELP, "help")];
    probes::answers(&captures(), &probes, replaced)
}

/// Capabilities of claude 2.1.197, for other tests.
pub(crate) fn installed() -> Capabilities {
    detect(&answers(&[]))
}

/// Capabilities of claude 2.1.332, which has the control protocol.
pub(crate) fn newest() -> Capabilities {
    let captures = ostler_provider_kit_testing::captures::Captures::of("claude-2.1.332-control");
    detect(&probes::answers(&captures, &[(VERSION, "version"), (HELP, "help")], &[]))
}

#[test]
fn sessions_and_approvals_need_the_control_protocol() {
    let capabilities = newest();
    assert_eq!(capabilities.support, Support::Supported, "{:?}", capabilities.reasons);
    assert_eq!(capabilities.cli_version.as_deref(), Some("2.1.332"));
    assert_eq!(capabilities.modes, [RunMode::NonInteractive, RunMode::Interactive]);
    for feature in f::ALL.iter().filter(|feature| **feature != f::TERMINAL_ONLY) {
        assert!(capabilities.features.iter().any(|known| known == feature), "{feature}");
    }
    // Older versions keep what they have.
    assert_eq!(installed().modes, [RunMode::NonInteractive]);
    assert!(!Detected::of(&installed()).unwrap().control());
}

#[test]
fn captured_version_is_supported() {
    let capabilities = installed();
    assert_eq!(capabilities.support, Support::Supported, "{:?}", capabilities.reasons);
    assert_eq!(capabilities.cli_version.as_deref(), Some("2.1.197"));
    assert!(capabilities.reasons.is_empty());
    let features: Vec<&str> = capabilities.features.iter().map(String::as_str).collect();
    for feature in f::ALL {
        // Nobody can be asked, and only a signal interrupts a turn.
        let missing = [f::APPROVALS, f::INTERRUPT, f::STEER, f::TERMINAL_ONLY].contains(feature);
        assert_eq!(features.contains(feature), !missing, "{feature}");
    }
    let flags: Vec<_> = capabilities.optional_flags.iter().map(|flag| flag.name.as_str()).collect();
    assert_eq!(flags.len(), 28, "every known flag is one that this version has");
    assert!(flags.contains(&"--fork-session") && !flags.contains(&"--settings"));
    let detected = Detected::of(&capabilities).unwrap();
    assert!(detected.prompt_files);
    assert_eq!(detected.modes.len(), MODES.len() + 1, "{:?}", detected.modes);
}

#[test]
fn detect_reads_every_probe() {
    let ids: Vec<String> = probes().into_iter().map(|probe| probe.id).collect();
    assert_eq!(ids, answers(&[]).into_iter().map(|result| result.id).collect::<Vec<_>>());
    assert!(probes().iter().all(|probe| probe.environment.iter().any(|entry| entry.name == "DISABLE_AUTOUPDATER")));
}

#[test]
fn mode_is_supported_only_if_the_option_lists_it() {
    let modes = |page: &str| {
        let found = detect(&answers(&[(HELP, exited(page, 0))]));
        Detected::of(&found).unwrap().modes.into_iter().collect::<Vec<_>>()
    };
    let page = captures().part("help", "stdout");
    let newer = page.replace("\"default\",", "\"manual\",");
    assert_ne!(newer, page);
    assert_eq!(modes(&newer), ["acceptEdits", "auto", "bypassPermissions", "default", "dontAsk"]);
    let without = page.replace("\"default\",", "");
    assert_eq!(modes(&without), ["acceptEdits", "auto", "bypassPermissions", "dontAsk"], "said elsewhere in the help");
}

#[test]
fn request_beyond_the_retries_degrades() {
    let older = captures().part("help", "stdout").replace("--debug-file ", "--debug ");
    let capabilities = detect(&answers(&[(HELP, exited(&older, 0))]));
    assert_eq!(capabilities.support, Support::Degraded);
    assert!(capabilities.reasons.iter().any(|reason| reason.contains("`maxRetries`")), "{:?}", capabilities.reasons);
}

#[test]
fn newer_version_is_judged_by_its_help() {
    let capabilities = detect(&answers(&[(VERSION, exited("7.0.0-beta.2 (Claude Code)\n", 0))]));
    assert_eq!((capabilities.support, capabilities.cli_version.as_deref()), (Support::Supported, Some("7.0.0-beta.2")));
    let page = captures().part("help", "stdout");
    let without = page.replace("--json-schema ", "--as-schema ").replace("\"dontAsk\"", "\"silent\"");
    let capabilities = detect(&answers(&[(HELP, exited(&without, 0))]));
    assert_eq!(capabilities.support, Support::Degraded);
    assert!(capabilities.reasons.iter().any(|reason| reason.contains("--json-schema")), "{:?}", capabilities.reasons);
    assert!(capabilities.reasons.iter().any(|reason| reason.contains("dontAsk")));
    assert!(!capabilities.features.iter().any(|feature| feature == f::STRUCTURED_OUTPUT));
    let without = page.replace("--setting-sources ", "--sources ").replace("--verbose ", "--loud ");
    let capabilities = detect(&answers(&[(HELP, exited(&without, 0))]));
    assert_eq!(capabilities.support, Support::Blocked);
    assert!(capabilities.reasons[0].contains("--verbose, --setting-sources"), "{:?}", capabilities.reasons);
}

#[test]
fn unusable_version_is_blocked_with_a_reason() {
    for (id, outcome, word) in [
        (VERSION, ProbeOutcome::NotFound, "not found"),
        (VERSION, ProbeOutcome::TimedOut, "in time"),
        (VERSION, ProbeOutcome::Failed("permission denied".to_owned()), "permission denied"),
        (VERSION, exited("native binary not installed", 1), "exit code 1: native binary not installed"),
        (HELP, ProbeOutcome::TimedOut, "in time"),
        (HELP, exited("hello", 0), "--print"),
        (HELP, exited("", 2), "exit code 2"),
    ] {
        assert_blocked(&detect(&answers(&[(id, outcome)])), word);
    }
    assert_eq!(detect(&[]).support, Support::Blocked);
    let capabilities = detect(&answers(&[(VERSION, exited("hello\n", 0))]));
    assert_eq!(capabilities.support, Support::Degraded);
    assert!(capabilities.reasons[0].contains("prints no version"));
}

proptest! {
    #[test]
    fn arbitrary_output_does_not_panic(pages in prop::collection::vec("(-|--print|--verbose|--settings|\n| |\\PC){0,30}", 2), code in -1..3) {
        let replaced: Vec<_> = [VERSION, HELP].iter().zip(&pages).map(|(id, page)| (*id, exited(page, code))).collect();
        let capabilities = detect(&answers(&replaced));
        prop_assert!(capabilities.support == Support::Supported || !capabilities.reasons.is_empty());
    }
}
