//! Determines what an installed CLI supports from the output of its probes.

use std::collections::BTreeSet;

use ostler_plugin::provider::{Capabilities, OptionalFlag, ProbeOutcome, ProbeOutput, ProbeResult, RunMode, Support};
use ostler_plugin::{Error, strip_ansi};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::shorten;
use crate::help;

/// Maximum number of bytes of a CLI's output in a reason.
const MAX_QUOTE: usize = 300;

/// The output of a probe. The error is the end of a sentence that begins with the command.
///
/// # Errors
/// If the probe did not complete.
pub fn output<'a>(results: &'a [ProbeResult], id: &str) -> Result<&'a ProbeOutput, String> {
    match results.iter().find(|result| result.id == id).map(|result| &result.outcome) {
        Some(ProbeOutcome::Exited(output)) => Ok(output),
        Some(ProbeOutcome::TimedOut) => Err("did not answer in time".to_owned()),
        Some(ProbeOutcome::NotFound) => Err("was not found".to_owned()),
        Some(ProbeOutcome::Failed(reason)) => Err(format!("could not be run: {}", shorten(reason, MAX_QUOTE))),
        None => Err("was not run".to_owned()),
    }
}

/// The standard output of a probe that succeeded.
///
/// # Errors
/// If the probe did not succeed; the error is the end of a sentence as with [`output`].
pub fn page(results: &[ProbeResult], id: &str) -> Result<String, String> {
    let output = output(results, id)?;
    if output.code == 0 { Ok(strip_ansi(&output.stdout).into_owned()) } else { Err(exit(output)) }
}

/// Describes how a probe failed, as the end of a sentence.
fn exit(output: &ProbeOutput) -> String {
    let text = strip_ansi(if output.stderr.trim().is_empty() { &output.stdout } else { &output.stderr }).into_owned();
    let quote = match text.lines().find(|line| !line.trim().is_empty()) {
        Some(line) => format!(": {}", shorten(line.trim(), MAX_QUOTE)),
        None => String::new(),
    };
    format!("failed with exit code {}{quote}", output.code)
}

/// The version that the probe `id` (the command line `command`) printed. If there is none, a reason is added.
///
/// # Errors
/// [`blocked`] if the command cannot be run.
pub fn version(
    results: &[ProbeResult],
    id: &str,
    command: &str,
    reasons: &mut Vec<String>,
) -> Result<Option<String>, Capabilities> {
    let printed = output(results, id).map_err(|reason| blocked(format!("`{command}` {reason}"), None))?;
    let version = help::version(&strip_ansi(&printed.stdout));
    if printed.code != 0 {
        return Err(blocked(format!("`{command}` {}", exit(printed)), version));
    }
    if version.is_none() {
        reasons.push(format!("`{command}` prints no version"));
    }
    Ok(version)
}

/// The reason why `command` of the CLI `cli` cannot be used: the options of `required` that are missing. None if it has them
/// all.
#[must_use]
pub fn missing(options: &BTreeSet<String>, required: &[&str], command: &str, cli: &str) -> Option<String> {
    let missing: Vec<&str> = required.iter().copied().filter(|option| !options.contains(*option)).collect();
    (!missing.is_empty())
        .then(|| format!("`{command}` has no {}, which Ostler needs; install a current {cli}", missing.join(", ")))
}

/// The features that `command` supports because it has the options in `table`. A reason is added for each missing option.
pub fn optional_features<'a>(
    options: &BTreeSet<String>,
    command: &str,
    table: &[(&str, &[&'a str])],
    reasons: &mut Vec<String>,
) -> Vec<&'a str> {
    let mut features = Vec::new();
    for (option, offered) in table {
        if options.contains(*option) {
            features.extend_from_slice(offered);
        } else {
            reasons.push(format!("`{command}` has no {option}, so `{}` is not available", offered.join("`, `")));
        }
    }
    features
}

/// The capabilities of a CLI that cannot be used.
#[must_use]
pub fn blocked(reason: String, cli_version: Option<String>) -> Capabilities {
    Capabilities {
        support: Support::Blocked,
        cli_version,
        features: Vec::new(),
        modes: Vec::new(),
        optional_flags: Vec::new(),
        reasons: vec![reason],
        extra: None,
    }
}

/// The capabilities of a CLI that can be used: supported if there are no reasons, otherwise degraded. [`detected`] returns
/// `detected`.
#[must_use]
pub fn usable(
    cli_version: Option<String>,
    features: &[&str],
    optional_flags: Vec<OptionalFlag>,
    reasons: Vec<String>,
    detected: &impl Serialize,
) -> Capabilities {
    Capabilities {
        support: if reasons.is_empty() { Support::Supported } else { Support::Degraded },
        cli_version,
        features: features.iter().map(|feature| (*feature).to_owned()).collect(),
        modes: vec![RunMode::NonInteractive],
        optional_flags,
        reasons,
        extra: serde_json::to_string(detected).ok(),
    }
}

/// What [`usable`] has stored in `capabilities.extra`.
///
/// # Errors
/// If the capabilities do not come from this plugin.
pub fn detected<T: DeserializeOwned>(capabilities: &Capabilities) -> Result<T, Error> {
    serde_json::from_str(capabilities.extra.as_deref().unwrap_or("null"))
        .map_err(|error| Error::Internal(format!("the capabilities do not come from this plugin's detection: {error}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn result(code: i32, stdout: &str, stderr: &str) -> Vec<ProbeResult> {
        let output = ProbeOutput { code, stdout: stdout.to_owned(), stderr: stderr.to_owned() };
        vec![ProbeResult { id: "v".to_owned(), outcome: ProbeOutcome::Exited(output) }]
    }

    #[test]
    fn missing_version_is_a_reason_and_failed_probe_blocks() {
        let of = |results: &[ProbeResult]| {
            let mut reasons = Vec::new();
            version(results, "v", "x --version", &mut reasons).map(|version| (version, reasons))
        };
        assert_eq!(of(&result(0, "x \u{1b}[1m1.2.3\u{1b}[0m\n", "")).unwrap(), (Some("1.2.3".to_owned()), vec![]));
        assert_eq!(of(&result(0, "hello", "")).unwrap(), (None, vec!["`x --version` prints no version".to_owned()]));
        let refused = of(&result(3, "x 1.2.3", "\n broken \n")).unwrap_err();
        assert_eq!((refused.support, refused.cli_version.as_deref()), (Support::Blocked, Some("1.2.3")));
        assert_eq!(refused.reasons, ["`x --version` failed with exit code 3: broken"]);
        assert_eq!(of(&[]).unwrap_err().reasons, ["`x --version` was not run"]);
    }

    #[test]
    fn missing_options_are_listed() {
        let options = BTreeSet::from(["--a".to_owned()]);
        assert_eq!(missing(&options, &["--a"], "x run", "x"), None);
        assert_eq!(
            missing(&options, &["--b", "--a", "--c"], "x run", "x").unwrap(),
            "`x run` has no --b, --c, which Ostler needs; install a current x"
        );
        let mut reasons = Vec::new();
        let table: [(&str, &[&str]); 2] = [("--a", &["one", "two"]), ("--d", &["three", "four"])];
        assert_eq!(optional_features(&options, "x run", &table, &mut reasons), ["one", "two"]);
        assert_eq!(reasons, ["`x run` has no --d, so `three`, `four` is not available"]);
    }

    #[test]
    fn detected_data_is_restored_from_capabilities() {
        let capabilities = usable(None, &["f"], Vec::new(), vec!["why".to_owned()], &options());
        assert_eq!(
            (capabilities.support, capabilities.features.as_slice()),
            (Support::Degraded, &["f".to_owned()][..])
        );
        assert_eq!(detected::<BTreeSet<String>>(&capabilities).unwrap(), options());
        assert!(matches!(detected::<BTreeSet<String>>(&Capabilities::default()), Err(Error::Internal(_))));
    }

    fn options() -> BTreeSet<String> {
        BTreeSet::from(["--a".to_owned()])
    }
}
