//! What the installed codex can do, judged by what its help says.

use std::collections::BTreeSet;

use ostler_plugin::Error;
use ostler_plugin::provider::{Capabilities, Probe, ProbeResult};
use ostler_plugin::vocabulary::features as f;
use ostler_provider_kit::detect as kit;
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
        kit::detected(capabilities)
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
    let version = match kit::version(results, VERSION, "codex --version", &mut reasons) {
        Ok(version) => version,
        Err(blocked) => return blocked,
    };
    let exec = match kit::page(results, EXEC) {
        Ok(page) => page,
        Err(reason) => return kit::blocked(format!("`codex exec --help` {reason}"), version),
    };
    let options = help::long_options(&exec);
    if let Some(reason) = kit::missing(&options, &REQUIRED, "codex exec", "codex") {
        return kit::blocked(reason, version);
    }
    let resume = match kit::page(results, RESUME) {
        Ok(page) => help::long_options(&page).contains("--last"),
        Err(reason) => {
            reasons.push(format!("sessions cannot be resumed: `codex exec resume --help` {reason}"));
            false
        }
    };
    let features = kit::page(results, FEATURES).map(|list| feature_names(&list));
    if let Err(reason) = &features {
        reasons.push(format!("tools cannot be restricted: `codex features list` {reason}"));
    }
    let servers = kit::page(results, MCP).and_then(|list| server_names(&list));
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
    let table: [(&str, &[&str]); 4] = [
        ("--model", &[f::MODEL]),
        ("--add-dir", &[f::ADDITIONAL_DIRECTORIES]),
        ("--output-schema", &[f::STRUCTURED_OUTPUT]),
        ("--image", &[f::IMAGES]),
    ];
    features.extend(kit::offered(&detected.options, "codex exec", &table, &mut reasons));
    kit::usable(version, &features, flags::installed(&detected.options), reasons, detected)
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
