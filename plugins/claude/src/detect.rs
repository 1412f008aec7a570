//! What the installed claude can do, judged by what its help says.

use std::collections::BTreeSet;

use ostler_plugin::Error;
use ostler_plugin::provider::{Capabilities, NameValue, Probe, ProbeResult};
use ostler_plugin::vocabulary::features as f;
use ostler_provider_kit::detect as kit;
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

/// An option that came shortly after the version (2.1.7) from which on a failed request is not repeated without streaming.
/// No help tells of that itself.
const SINCE_ONE_REQUEST: &str = "--debug-file";

/// Modes of `--permission-mode` that runs need.
const MODES: [&str; 4] = ["acceptEdits", "bypassPermissions", ASKING, "dontAsk"];

/// The mode that asks about what is not harmless; newer versions list it by another name and take both.
const ASKING: &str = "default";
const ASKING_NEWER: &str = "manual";

/// A mode in which a model decides instead of asking.
pub(crate) const AUTO: &str = "auto";

/// What [`crate::prepare`] needs to know of the installed version; travels in `capabilities.extra`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Detected {
    /// Long options of `claude`.
    pub options: BTreeSet<String>,
    /// Those of [`MODES`] and [`AUTO`] that it has.
    pub modes: BTreeSet<String>,
    /// Whether system prompts can come from files.
    pub prompt_files: bool,
}

impl Detected {
    /// What [`detect`] stored.
    pub(crate) fn of(capabilities: &Capabilities) -> Result<Self, Error> {
        kit::detected(capabilities)
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
    let version = match kit::version(results, VERSION, "claude --version", &mut reasons) {
        Ok(version) => version,
        Err(blocked) => return blocked,
    };
    let page = match kit::page(results, HELP) {
        Ok(page) => page,
        Err(reason) => return kit::blocked(format!("`claude --help` {reason}"), version),
    };
    let options = help::long_options(&page);
    if let Some(reason) = kit::missing(&options, &REQUIRED, "claude", "claude") {
        return kit::blocked(reason, version);
    }
    let listed = help::choices(&page, "--permission-mode");
    let has = |mode: &str| listed.contains(mode) || (mode == ASKING && listed.contains(ASKING_NEWER));
    let modes: BTreeSet<String> = MODES.into_iter().chain([AUTO]).filter(|mode| has(mode)).map(str::to_owned).collect();
    for mode in MODES.into_iter().filter(|mode| !modes.contains(*mode)) {
        reasons.push(format!("`claude --permission-mode` has no {mode}, so permissions can be set in part only"));
    }
    if !options.contains(SINCE_ONE_REQUEST) {
        reasons.push(
            "the installed claude repeats a failed request once without streaming, also beyond `maxRetries`".to_owned(),
        );
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
    let table: [(&str, &[&str]); 11] = [
        ("--model", &[f::MODEL]),
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
    ];
    features.extend(kit::offered(&detected.options, "claude", &table, &mut reasons));
    for option in ["--session-id", "--strict-mcp-config"] {
        if !detected.has(option) {
            reasons.push(format!("`claude` has no {option}"));
        }
    }
    kit::usable(version, &features, flags::installed(&detected.options), reasons, detected)
}

#[cfg(test)]
#[path = "detect_tests.rs"]
pub(crate) mod tests;
