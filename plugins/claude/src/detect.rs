//! Determines what the installed claude supports from its help.

use std::collections::BTreeSet;

use ostler_plugin::Error;
use ostler_plugin::provider::{Capabilities, NameValue, Probe, ProbeResult, RunMode};
use ostler_plugin::vocabulary::features as f;
use ostler_provider_kit::detect as kit;
use ostler_provider_kit::help;
use serde::{Deserialize, Serialize};

use crate::flags;

const VERSION: &str = "version";
const HELP: &str = "help";

/// Options without which a run is not possible, or not restricted.
const REQUIRED: [&str; 7] = [
    "--print",
    "--output-format",
    "--verbose",
    "--permission-mode",
    "--settings",
    "--setting-sources",
    "--include-partial-messages",
];

/// An option that was added shortly after version 2.1.7, since which a failed request is not repeated without streaming. The
/// help does not mention that itself.
const SINCE_ONE_REQUEST: &str = "--debug-file";

/// What the control protocol needs. The second option was added after the first version in which the host's hooks can block a
/// tool when they fail; claude confirms that again in the handshake.
const CONTROL: [&str; 2] = ["--input-format", PROMPTS];

/// Selects who answers when claude asks.
pub(crate) const PROMPTS: &str = "--permission-prompts";

/// Modes of `--permission-mode` that runs use.
const MODES: [&str; 4] = ["acceptEdits", "bypassPermissions", ASKING, "dontAsk"];

/// The mode that asks about actions that are not known to be harmless. Newer versions list it by another name and accept
/// both.
const ASKING: &str = "default";
const ASKING_NEWER: &str = "manual";

/// A mode in which a model decides instead of asking.
pub(crate) const AUTO: &str = "auto";

/// Properties of the installed version that [`crate::prepare`] needs, stored in `capabilities.extra`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Detected {
    /// Long options of `claude`.
    pub options: BTreeSet<String>,
    /// Those of [`MODES`] and [`AUTO`] that it supports.
    pub modes: BTreeSet<String>,
    /// Whether system prompts can be read from files.
    pub prompt_files: bool,
}

impl Detected {
    /// The data that [`detect`] has stored.
    pub(crate) fn of(capabilities: &Capabilities) -> Result<Self, Error> {
        kit::detected(capabilities)
    }

    pub(crate) fn has(&self, option: &str) -> bool {
        self.options.contains(option)
    }

    /// Whether sessions are possible, and tool uses can be decided by the host.
    pub(crate) fn control(&self) -> bool {
        CONTROL.iter().all(|option| self.has(option))
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
        reasons.push(format!("`claude --permission-mode` has no {mode}, so permissions can only be set in part"));
    }
    if !options.contains(SINCE_ONE_REQUEST) {
        reasons.push(
            "the installed claude repeats a failed request once without streaming, also beyond `maxRetries`".to_owned(),
        );
    }
    // Only mentioned in the description of --bare.
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
        f::TERMINAL,
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
    features.extend(kit::optional_features(&detected.options, "claude", &table, &mut reasons));
    for option in ["--session-id", "--strict-mcp-config"] {
        if !detected.has(option) {
            reasons.push(format!("`claude` has no {option}"));
        }
    }
    if detected.control() {
        features.extend([f::APPROVALS, f::INTERRUPT, f::STEER]);
    }
    let mut capabilities = kit::usable(version, &features, flags::installed(&detected.options), reasons, detected);
    if detected.control() {
        capabilities.modes.push(RunMode::Interactive);
    }
    capabilities
}

#[cfg(test)]
#[path = "detect_tests.rs"]
pub(crate) mod tests;
