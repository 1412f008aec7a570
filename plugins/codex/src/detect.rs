//! What the installed codex can do, judged by what its help says.

use std::collections::BTreeSet;

use ostler_plugin::provider::{Capabilities, Probe, ProbeOutcome, ProbeOutput, ProbeResult, RunMode, Support};
use ostler_plugin::vocabulary::features as f;
use ostler_plugin::{Error, strip_ansi};
use ostler_provider_kit::failure::shorten;
use ostler_provider_kit::help;
use serde::{Deserialize, Serialize};

use crate::flags;

const VERSION: &str = "version";
const EXEC: &str = "exec-help";
const RESUME: &str = "resume-help";
const FEATURES: &str = "features";
const MCP: &str = "mcp-servers";

/// Without these `exec` cannot be driven at all: its output not read, its sandbox not set.
const REQUIRED: [&str; 3] = ["--json", "--sandbox", "--config"];

/// What [`crate::prepare`] needs to know of the installed version; travels in `capabilities.extra`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Detected {
    /// Long options of `codex exec`.
    pub options: BTreeSet<String>,
    /// Whether `codex exec resume` is there.
    pub resume: bool,
    /// Features that `-c features.NAME=false` turns off. None: codex did not tell.
    pub features: Option<BTreeSet<String>>,
    /// MCP servers of codex's own configuration. None: codex did not tell.
    pub mcp_servers: Option<Vec<String>>,
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
    [
        (VERSION, &["--version"][..]),
        (EXEC, &["exec", "--help"]),
        (RESUME, &["exec", "resume", "--help"]),
        (FEATURES, &["features", "list"]),
        (MCP, &["mcp", "list", "--json"]),
    ]
    .into_iter()
    .map(|(id, args)| Probe {
        id: id.to_owned(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        environment: Vec::new(),
        timeout_ms: 15_000,
    })
    .collect()
}

pub(crate) fn detect(results: &[ProbeResult]) -> Capabilities {
    let mut reasons = Vec::new();
    let version_output = match output(results, VERSION) {
        Ok(output) => output,
        Err(reason) => return blocked(format!("`codex --version` {reason}"), None),
    };
    let version = help::version(&strip_ansi(&version_output.stdout));
    if version_output.code != 0 {
        let said = said(version_output);
        return blocked(format!("`codex --version` failed with exit code {}{said}", version_output.code), version);
    }
    if version.is_none() {
        reasons.push("`codex --version` prints no version".to_owned());
    }
    let exec = match page(results, EXEC) {
        Ok(page) => page,
        Err(reason) => return blocked(format!("`codex exec --help` {reason}"), version),
    };
    let options = help::long_options(&exec);
    let missing: Vec<&str> = REQUIRED.into_iter().filter(|option| !options.contains(*option)).collect();
    if !missing.is_empty() {
        return blocked(
            format!("`codex exec` has no {}, which Ostler needs; install a current codex", missing.join(", ")),
            version,
        );
    }
    let resume = match page(results, RESUME) {
        Ok(page) => help::long_options(&page).contains("--last"),
        Err(reason) => {
            reasons.push(format!("sessions cannot be resumed: `codex exec resume --help` {reason}"));
            false
        }
    };
    let features = page(results, FEATURES).map(|list| feature_names(&list));
    if let Err(reason) = &features {
        reasons.push(format!("tools cannot be restricted: `codex features list` {reason}"));
    }
    let servers = page(results, MCP).and_then(|list| server_names(&list));
    if let Err(reason) = &servers {
        reasons.push(format!(
            "the MCP servers of codex's own configuration are not known: `codex mcp list --json` {reason}"
        ));
    }
    let detected = Detected { options, resume, features: features.ok(), mcp_servers: servers.ok() };
    finish(version, &detected, reasons)
}

fn finish(version: Option<String>, detected: &Detected, mut reasons: Vec<String>) -> Capabilities {
    let mut features = vec![
        f::SANDBOX,
        f::NETWORK_ACCESS,
        f::AUTO_APPROVE,
        f::MCP,
        f::MCP_HTTP,
        f::MCP_TOOL_FILTER,
        f::SYSTEM_PROMPT,
        f::APPEND_SYSTEM_PROMPT,
        f::PIPED_CONTENT,
        f::FILES,
        f::THINKING,
        f::TOOL_EVENTS,
        f::USAGE,
    ];
    if detected.features.is_some() {
        features.push(f::TOOLS);
    }
    if detected.resume {
        features.extend([f::RESUME, f::CONTINUE]);
    }
    for (option, feature) in [
        ("--model", f::MODEL),
        ("--add-dir", f::ADDITIONAL_DIRECTORIES),
        ("--output-schema", f::STRUCTURED_OUTPUT),
        ("--image", f::IMAGES),
    ] {
        if detected.has(option) {
            features.push(feature);
        } else {
            reasons.push(format!("`codex exec` has no {option}, so `{feature}` is not available"));
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

/// `name   stage   on`, a feature a line. Removed ones can no longer be turned off.
fn feature_names(list: &str) -> BTreeSet<String> {
    list.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next()?;
            let rest: Vec<&str> = words.collect();
            let named = name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'.'));
            (named && rest.len() >= 2 && !rest.contains(&"removed")).then(|| name.to_owned())
        })
        .collect()
}

/// Only the names: the rest of the list can hold secrets.
fn server_names(list: &str) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    struct Server {
        name: String,
    }
    serde_json::from_str::<Vec<Server>>(list)
        .map(|servers| servers.into_iter().map(|server| server.name).collect())
        .map_err(|error| format!("printed something else than a list of servers: {error}"))
}

#[cfg(test)]
#[path = "detect_tests.rs"]
pub(crate) mod tests;
