//! What the installed claude can do, judged by what its help says.

use std::collections::BTreeSet;

use ostler_plugin::provider::{
    Capabilities, NameValue, Probe, ProbeOutcome, ProbeOutput, ProbeResult, RunMode, Support,
};
use ostler_plugin::vocabulary::features as f;
use ostler_plugin::{Error, strip_ansi};
use ostler_provider_kit::failure::shorten;
use ostler_provider_kit::help;
use serde::{Deserialize, Serialize};

use crate::flags;

const VERSION: &str = "version";
const HELP: &str = "help";

/// Without these a run cannot be driven at all, or cannot be held to anything.
const REQUIRED: [&str; 7] = [
    "--print",
    "--output-format",
    "--verbose",
    "--permission-mode",
    "--settings",
    "--setting-sources",
    "--include-partial-messages",
];

/// Modes of `--permission-mode` that runs need.
const MODES: [&str; 3] = ["acceptEdits", "bypassPermissions", "dontAsk"];

/// What [`crate::prepare`] needs to know of the installed version; travels in `capabilities.extra`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Detected {
    /// Long options of `claude`.
    pub options: BTreeSet<String>,
    /// Those of [`MODES`] that it has.
    pub modes: BTreeSet<String>,
    /// Whether system prompts can come from files.
    pub prompt_files: bool,
}

impl Detected {
    /// What [`detect`] stored.
    pub(crate) fn of(capabilities: &Capabilities) -> Result<Self, Error> {
        let extra = capabilities.extra.as_deref().unwrap_or("null");
        serde_json::from_str(extra).map_err(|error| {
            Error::Internal(format!("the capabilities do not come from this plugin's detection: {error}"))
        })
    }

    pub(crate) fn has(&self, option: &str) -> bool {
        self.options.contains(option)
    }
}

pub(crate) fn probes() -> Vec<Probe> {
    [(VERSION, "--version"), (HELP, "--help")]
        .into_iter()
        .map(|(id, arg)| Probe {
            id: id.to_owned(),
            args: vec![arg.to_owned()],
            environment: vec![NameValue { name: "DISABLE_AUTOUPDATER".to_owned(), value: "1".to_owned() }],
            timeout_ms: 30_000,
        })
        .collect()
}

pub(crate) fn detect(results: &[ProbeResult]) -> Capabilities {
    let mut reasons = Vec::new();
    let printed = match output(results, VERSION) {
        Ok(output) => output,
        Err(reason) => return blocked(format!("`claude --version` {reason}"), None),
    };
    let version = help::version(&strip_ansi(&printed.stdout));
    if printed.code != 0 {
        let said = said(printed);
        return blocked(format!("`claude --version` failed with exit code {}{said}", printed.code), version);
    }
    if version.is_none() {
        reasons.push("`claude --version` prints no version".to_owned());
    }
    let page = match page(results, HELP) {
        Ok(page) => page,
        Err(reason) => return blocked(format!("`claude --help` {reason}"), version),
    };
    let options = help::long_options(&page);
    let missing: Vec<&str> = REQUIRED.into_iter().filter(|option| !options.contains(*option)).collect();
    if !missing.is_empty() {
        return blocked(
            format!("`claude` has no {}, which Ostler needs; install a current claude", missing.join(", ")),
            version,
        );
    }
    let modes: BTreeSet<String> =
        MODES.into_iter().filter(|mode| page.contains(&format!("\"{mode}\""))).map(str::to_owned).collect();
    for mode in MODES.into_iter().filter(|mode| !modes.contains(*mode)) {
        reasons.push(format!("`claude --permission-mode` has no {mode}, so permissions can be set in part only"));
    }
    // Said in the description of --bare only.
    let prompt_files = page.contains("--system-prompt[-file]") || options.contains("--system-prompt-file");
    let detected = Detected { options, modes, prompt_files };
    finish(version, &detected, reasons)
}

fn finish(version: Option<String>, detected: &Detected, mut reasons: Vec<String>) -> Capabilities {
    let mut features = vec![
        f::SANDBOX,
        f::AUTO_APPROVE,
        f::NETWORK_ACCESS,
        f::MAX_TURNS,
        f::PIPED_CONTENT,
        f::FILES,
        f::IMAGES,
        f::TEXT_DELTAS,
        f::THINKING,
        f::TOOL_EVENTS,
        f::USAGE,
        f::COST,
    ];
    for (option, offered) in [
        ("--model", &[f::MODEL][..]),
        ("--resume", &[f::RESUME]),
        ("--continue", &[f::CONTINUE]),
        ("--input-format", &[f::INPUT_FORMAT]),
        ("--add-dir", &[f::ADDITIONAL_DIRECTORIES]),
        ("--tools", &[f::TOOLS]),
        ("--max-budget-usd", &[f::MAX_BUDGET]),
        ("--mcp-config", &[f::MCP, f::MCP_HTTP, f::MCP_SSE, f::MCP_TOOL_FILTER]),
        ("--json-schema", &[f::STRUCTURED_OUTPUT]),
        ("--system-prompt", &[f::SYSTEM_PROMPT]),
        ("--append-system-prompt", &[f::APPEND_SYSTEM_PROMPT]),
    ] {
        if detected.has(option) {
            features.extend(offered);
        } else {
            reasons.push(format!("`claude` has no {option}, so `{}` is not available", offered.join("`, `")));
        }
    }
    for option in ["--session-id", "--strict-mcp-config"] {
        if !detected.has(option) {
            reasons.push(format!("`claude` has no {option}"));
        }
    }
    Capabilities {
        support: if reasons.is_empty() { Support::Supported } else { Support::Degraded },
        cli_version: version,
        features: features.into_iter().map(str::to_owned).collect(),
        modes: vec![RunMode::NonInteractive],
        optional_flags: flags::installed(&detected.options),
        reasons,
        extra: serde_json::to_string(detected).ok(),
    }
}

fn blocked(reason: String, cli_version: Option<String>) -> Capabilities {
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

/// What a probe printed, or why it printed nothing, as the end of a sentence that begins with the command.
fn output<'a>(results: &'a [ProbeResult], id: &str) -> Result<&'a ProbeOutput, String> {
    match results.iter().find(|result| result.id == id).map(|result| &result.outcome) {
        Some(ProbeOutcome::Exited(output)) => Ok(output),
        Some(ProbeOutcome::TimedOut) => Err("did not answer in time".to_owned()),
        Some(ProbeOutcome::NotFound) => Err("was not found".to_owned()),
        Some(ProbeOutcome::Failed(reason)) => Err(format!("could not be run: {}", shorten(reason, 300))),
        None => Err("was not run".to_owned()),
    }
}

/// The standard output of a probe that succeeded.
fn page(results: &[ProbeResult], id: &str) -> Result<String, String> {
    let output = output(results, id)?;
    if output.code == 0 {
        Ok(strip_ansi(&output.stdout).into_owned())
    } else {
        Err(format!("failed with exit code {}{}", output.code, said(output)))
    }
}

fn said(output: &ProbeOutput) -> String {
    let text = strip_ansi(if output.stderr.trim().is_empty() { &output.stdout } else { &output.stderr }).into_owned();
    match text.lines().find(|line| !line.trim().is_empty()) {
        Some(line) => format!(": {}", shorten(line.trim(), 300)),
        None => String::new(),
    }
}

#[cfg(test)]
#[path = "detect_tests.rs"]
pub(crate) mod tests;
