//! What a program supports, according to the settings.

use ostler_plugin::provider::{Capabilities, Probe, ProbeOutcome, ProbeResult, RunMode, Support};
use ostler_plugin::strip_ansi;
use ostler_plugin::vocabulary::features;
use ostler_provider_kit::failure::shorten;
use ostler_provider_kit::help;

use crate::prepare::mentions;
use crate::settings::Settings;
use crate::template::{Group, Placeholder};

const VERSION: &str = "version";

pub(crate) fn probes(settings: &Settings) -> Vec<Probe> {
    let version = settings.version_args.as_ref().map(|args| Probe {
        id: VERSION.to_owned(),
        args: args.clone(),
        environment: Vec::new(),
        timeout_ms: 15_000,
    });
    version.into_iter().collect()
}

pub(crate) fn detect(
    settings: &Settings,
    args: &[Group],
    terminal_args: Option<&[Group]>,
    results: &[ProbeResult],
) -> Capabilities {
    let mut known = vec![features::PIPED_CONTENT];
    let mentions =
        |placeholder| [Some(args), terminal_args].into_iter().flatten().any(|args| mentions(args, placeholder));
    if mentions(Placeholder::Model) {
        known.push(features::MODEL);
    }
    if mentions(Placeholder::Session) {
        known.push(features::RESUME);
    }
    let mut modes = vec![RunMode::NonInteractive];
    if terminal_args.is_some() {
        known.extend([features::TERMINAL, features::TERMINAL_ONLY]);
        modes.push(RunMode::Interactive);
    }
    let mut capabilities = Capabilities {
        support: Support::Supported,
        features: known.into_iter().map(str::to_owned).collect(),
        modes,
        ..Capabilities::default()
    };
    let Some(version_args) = &settings.version_args else { return capabilities };
    let command = format!("the program with `{}`", version_args.join(" "));
    let outcome = results.iter().find(|result| result.id == VERSION).map(|result| &result.outcome);
    let (support, reason) = match outcome {
        Some(ProbeOutcome::Exited(output)) if output.code == 0 => {
            let text = if output.stdout.trim().is_empty() { &output.stderr } else { &output.stdout };
            capabilities.cli_version = help::version(&strip_ansi(text));
            match capabilities.cli_version {
                Some(_) => return capabilities,
                None => (Support::Degraded, "prints no version".to_owned()),
            }
        }
        Some(ProbeOutcome::Exited(output)) => {
            let output_line = strip_ansi(&output.stderr)
                .lines()
                .find(|line| !line.trim().is_empty())
                .map(|line| shorten(line.trim(), 300));
            (
                Support::Degraded,
                format!(
                    "exits with code {}{}",
                    output.code,
                    output_line.map_or_else(String::new, |output_line| format!(": {output_line}"))
                ),
            )
        }
        Some(ProbeOutcome::TimedOut) => {
            (Support::Blocked, "did not answer in time; correct `settings.versionArgs` or remove it".to_owned())
        }
        Some(ProbeOutcome::NotFound) => (Support::Blocked, "was not found".to_owned()),
        Some(ProbeOutcome::Failed(reason)) => (Support::Blocked, format!("could not be run: {}", shorten(reason, 300))),
        None => (Support::Blocked, "was not run".to_owned()),
    };
    capabilities.support = support;
    capabilities.reasons.push(format!("{command} {reason}"));
    if support == Support::Blocked {
        capabilities.modes.clear();
        capabilities.features.clear();
    }
    capabilities
}
