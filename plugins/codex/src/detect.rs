//! Determines what the installed codex supports from its help.

use std::collections::BTreeSet;

use ostler_plugin::Error;
use ostler_plugin::provider::{Capabilities, Probe, ProbeResult, RunMode};
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
const APP_SERVER: &str = "app-server-help";
const AGENTS_KEY: &str = "agents-key";
const REQUIRED_KEY: &str = "required-key";
const APPROVAL_KEY: &str = "approval-key";

/// Options without which `exec` cannot be used: its output could not be parsed, or its sandbox not be set.
const REQUIRED: [&str; 3] = ["--json", "--sandbox", "--config"];

/// Options of `codex app-server` without which it is not used. Versions without `--stdio` have an earlier protocol, in which a
/// message cannot be added to a running turn.
const APP_SERVER_REQUIRED: [&str; 2] = ["--config", "--stdio"];

/// Properties of the installed version that [`crate::prepare`] needs, stored in `capabilities.extra`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Detected {
    /// Long options of `codex exec`.
    pub options: BTreeSet<String>,
    /// Whether `codex exec resume` exists.
    pub resume: bool,
    /// Whether `resume --last` is restricted to sessions of the run's folder. It is not up to 0.87, which have more faults.
    pub resume_here: bool,
    /// Whether `resume` itself accepts `--image`. Versions without it take images from `exec`.
    pub resume_images: bool,
    /// Whether `agents.enabled=false` disables sub-agents, also in resumed sessions.
    pub agents_key: bool,
    /// Whether an MCP server can be `required`, so that a failure to start is reported.
    pub required_key: bool,
    /// Features that `-c features.NAME=false` disables. None if codex does not list them.
    pub features: Option<BTreeSet<String>>,
    /// MCP servers in codex's own configuration. None if codex does not list them.
    pub mcp_servers: Option<Vec<String>>,
    /// Long options of `codex app-server`. None if it cannot be used.
    #[serde(default)]
    pub app_server: Option<BTreeSet<String>>,
}

impl Detected {
    /// The data that [`detect`] has stored.
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
        // Help pages do not list configuration keys. codex rejects a value of the wrong type only if it knows the key.
        (AGENTS_KEY, &["mcp", "list", "--json", "-c", "agents.enabled=false"]),
        (REQUIRED_KEY, &["mcp", "list", "--json", "-c", "mcp_servers.ostler={command=\"true\",required=1}"]),
        (
            APPROVAL_KEY,
            &["mcp", "list", "--json", "-c", "mcp_servers.ostler={command=\"true\",default_tools_approval_mode=1}"],
        ),
        (APP_SERVER, &["app-server", "--help"]),
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
    let resume_options = match kit::page(results, RESUME) {
        Ok(page) => help::long_options(&page),
        Err(reason) => {
            reasons.push(format!("sessions cannot be resumed: `codex exec resume --help` {reason}"));
            BTreeSet::new()
        }
    };
    // `--all` disables the filter by folder, so versions without it do not filter.
    let (resume, resume_here) = (resume_options.contains("--last"), resume_options.contains("--all"));
    if resume && !resume_here {
        reasons.push(
            "`codex exec resume --last` also resumes sessions of other folders, so `continue` is not available"
                .to_owned(),
        );
    }
    let features = kit::page(results, FEATURES).map(|list| feature_names(&list));
    if let Err(reason) = &features {
        reasons.push(format!("tools cannot be restricted: `codex features list` {reason}"));
    }
    let servers = kit::page(results, MCP).and_then(|list| server_names(&list));
    if let Err(reason) = &servers {
        reasons.push(format!(
            "the MCP servers of codex's own configuration are unknown: `codex mcp list --json` {reason}"
        ));
    }
    // Versions around 0.120 ask about calls of MCP tools and cannot approve a server in advance. They have a worse fault,
    // too.
    let refuses = |id: &str| servers.is_ok() && kit::output(results, id).is_ok_and(|output| output.code != 0);
    let asks = features.as_ref().is_ok_and(|features| features.contains("tool_call_mcp_elicitation"));
    if asks && kit::page(results, APPROVAL_KEY).is_ok() {
        let reason = "this version of codex notes every folder in which it runs as trusted, whatever it is told; install a current codex";
        return kit::blocked(reason.to_owned(), version);
    }
    let app_server = app_server(results);
    if let Err(reason) = &app_server {
        reasons.push(format!("sessions and approvals are not available: {reason}"));
    }
    let detected = Detected {
        app_server: app_server.ok(),
        options,
        resume,
        resume_here,
        resume_images: resume_options.contains("--image"),
        agents_key: features.as_ref().is_ok_and(|features| features.contains("multi_agent"))
            && kit::page(results, AGENTS_KEY).is_ok(),
        required_key: refuses(REQUIRED_KEY),
        features: features.ok(),
        mcp_servers: servers.ok(),
    };
    finish(version, &detected, reasons)
}

/// The options of `codex app-server`, or why it cannot be used.
fn app_server(results: &[ProbeResult]) -> Result<BTreeSet<String>, String> {
    let page = kit::page(results, APP_SERVER).map_err(|reason| format!("`codex app-server --help` {reason}"))?;
    let options = help::long_options(&page);
    match kit::missing(&options, &APP_SERVER_REQUIRED, "codex app-server", "codex") {
        Some(reason) => Err(reason),
        None => Ok(options),
    }
}

fn finish(version: Option<String>, detected: &Detected, mut reasons: Vec<String>) -> Capabilities {
    let mut features = vec![
        f::SANDBOX,
        f::NETWORK_ACCESS,
        f::AUTO_APPROVE,
        f::MCP,
        f::MCP_HTTP,
        f::SYSTEM_PROMPT,
        f::APPEND_SYSTEM_PROMPT,
        f::TERMINAL,
        f::PIPED_CONTENT,
        f::FILES,
        f::THINKING,
        f::TOOL_EVENTS,
        f::USAGE,
    ];
    if detected.features.is_some() {
        // Versions without the list ignore lists of MCP tools, and do not send images.
        features.extend([f::TOOLS, f::MCP_TOOL_FILTER]);
        if detected.has("--image") {
            features.push(f::IMAGES);
        }
    }
    if detected.resume {
        features.push(f::RESUME);
    }
    if detected.resume_here {
        features.push(f::CONTINUE);
    }
    let table: [(&str, &[&str]); 3] = [
        ("--model", &[f::MODEL]),
        ("--add-dir", &[f::ADDITIONAL_DIRECTORIES]),
        ("--output-schema", &[f::STRUCTURED_OUTPUT]),
    ];
    features.extend(kit::optional_features(&detected.options, "codex exec", &table, &mut reasons));
    if detected.app_server.is_some() {
        features.extend([f::APPROVALS, f::TEXT_DELTAS, f::INTERRUPT, f::STEER]);
    }
    let mut capabilities = kit::usable(version, &features, flags::installed(&detected.options), reasons, detected);
    if detected.app_server.is_some() {
        capabilities.modes.push(RunMode::Interactive);
    }
    capabilities
}

/// Parses `name   stage   on`, one feature per line. Removed features cannot be disabled.
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

/// Returns only the names: the rest of the list can contain secrets.
fn server_names(list: &str) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    struct Server {
        name: String,
    }
    serde_json::from_str::<Vec<Server>>(list)
        .map(|servers| servers.into_iter().map(|server| server.name).collect())
        .map_err(|error| format!("printed something other than a list of servers: {error}"))
}

#[cfg(test)]
#[path = "detect_tests.rs"]
pub(crate) mod tests;
