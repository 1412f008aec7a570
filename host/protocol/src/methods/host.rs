//! The host itself: plugins, status, reload, stop.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Problem, SandboxSupport};

/// `list_capabilities`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ListCapabilitiesParams {
    /// Run the probes again now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh: Option<bool>,
    /// Only this provider instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Environment of the caller, in particular `PATH`: it determines which CLIs are found.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub client_environment: BTreeMap<String, String>,
}

/// `list_plugins`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListPluginsResult {
    /// Every plugin that was found, refused ones included.
    pub plugins: Vec<PluginInfo>,
    /// The provider instances of these plugins.
    pub providers: Vec<ProviderInfo>,
}

/// One plugin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginInfo {
    /// Its name; for a file that could not be read, the name of the file.
    pub name: String,
    /// `provider`, `redactor` or `policy`; null if it is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// One line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// SHA-256 of the component, in hex.
    pub digest: String,
    /// `bundled`, or the path of its file.
    pub source: String,
    /// `ready`; `failed` if it cannot be used with its settings; `set-aside` (disabled after failures) or `refused`;
    /// `waiting` for a provider whose digest is not approved.
    pub state: String,
    /// Why it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why the current content of its file is not active: it cannot be used, so the previous content stays active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub displaced: Option<String>,
    /// JSON Schema of its settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings_schema: Option<Value>,
}

/// `trust_plugin`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustPluginParams {
    /// Name of a provider plugin that waits for approval.
    pub name: String,
    /// Its digest, as returned by a call without one. Approves the plugin; without it nothing changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// `trust_plugin`: what a provider plugin runs and reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrustPluginResult {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the component, in hex.
    pub digest: String,
    /// The programs that it runs, by name or path; the first one that exists is used.
    pub executables: Vec<String>,
    /// Commands that detect the features of the program before any run.
    pub probes: Vec<PluginProbe>,
    /// Variables that the program inherits from the caller or the host; a trailing `*` matches anything.
    pub inherit_environment: Vec<String>,
    /// The variable for a stored token, if it supports one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_variable: Option<String>,
    /// Paths outside of the work folder that its runs may change, as written by the plugin.
    #[serde(default)]
    pub writes: Vec<String>,
    /// Paths that its runs may read although they are hidden by default.
    #[serde(default)]
    pub reads: Vec<String>,
    /// Hosts that its runs may reach.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Whether it is approved now.
    pub approved: bool,
}

/// One command that a provider plugin runs to detect the features of its program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginProbe {
    /// Its arguments.
    pub args: Vec<String>,
    /// Names of the variables that it sets.
    pub environment: Vec<String>,
}

/// One provider instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderInfo {
    /// Its name: `codex-work`.
    pub name: String,
    /// The plugin behind it: `codex`.
    pub plugin: String,
    /// For people.
    pub display_name: String,
    /// Variables that its CLI inherits from the caller; a trailing `*` matches anything.
    pub inherit_environment: Vec<String>,
    /// Model if the payload does not name one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_model: Option<String>,
    /// Why it cannot be used, if it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// `stop`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StopParams {
    /// Only if no run is running or queued; otherwise `CONFLICT`.
    pub if_idle: bool,
}

/// `stop`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StopResult {
    /// The host is stopping; running runs are interrupted, queued ones continue after its next start.
    pub stopping: bool,
    /// Runs that were running.
    pub running: u64,
    /// Queued runs.
    pub waiting: u64,
}

/// `get_status`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Package version of the host.
    pub version: String,
    /// Version of the API protocol.
    pub protocol: u32,
    /// Process id of the host.
    pub pid: u32,
    /// When it was started.
    #[schemars(with = "String")]
    pub started_at: Timestamp,
    /// Whether it exits when idle.
    pub background: bool,
    /// Folder of the database.
    pub data_folder: PathBuf,
    /// The socket.
    pub socket: PathBuf,
    /// The API over TCP, if enabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpStatus>,
    /// The log of the host.
    pub log_file: PathBuf,
    /// The configuration file, whether or not it exists.
    pub config_file: PathBuf,
    /// Runs with a slot.
    pub running: u64,
    /// Queued runs that wait for a slot.
    pub ready: u64,
    /// Queued runs that wait for their scheduled time.
    pub scheduled: u64,
    /// Queued runs that wait for other runs: for earlier messages of their conversation, or for the runs in
    /// `startAfter`.
    pub held: u64,
    /// Whether the queue is paused, so that no runs start.
    #[serde(default)]
    pub queue_paused: bool,
    /// Provider instances that were paused individually.
    #[serde(default)]
    pub paused_providers: Vec<String>,
    /// Maximum number of concurrent runs.
    pub global_limit: u32,
    /// Maximum number of queued runs.
    pub capacity: u32,
    /// Open event streams.
    pub subscribers: u64,
    /// Newest cursor.
    pub cursor: u64,
    /// Location of the key that encrypts secrets of queued payloads.
    pub seal_key: String,
    /// The store for new tokens of providers: `secret-service`, `keyutils` or `file` with an explanation, or `none`
    /// with the reason.
    pub token_store: String,
    /// Whether there is a store for new tokens.
    #[serde(default)]
    pub tokens_storable: bool,
    /// The sandbox that this machine supports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxSupport>,
    /// Current problems: configuration, plugins, storage.
    pub problems: Vec<String>,
    /// The last reloads of configuration, plugins and settings, newest first; at most ten.
    pub reloads: Vec<Reload>,
}

/// What triggered a reload of configuration and plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReloadTrigger {
    /// A file has changed.
    File,
    /// SIGHUP.
    Signal,
    /// `reload`.
    Request,
    /// `update_settings`.
    Settings,
}

impl ReloadTrigger {
    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Signal => "signal",
            Self::Request => "request",
            Self::Settings => "settings",
        }
    }
}

/// `reload`: a reload of configuration and plugins, and its changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ReloadResult")]
pub struct Reload {
    /// When it took effect.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// What triggered it.
    pub trigger: ReloadTrigger,
    /// Whether the configuration could be applied. If not, the previous one stays active; changed plugins are active
    /// anyway.
    pub ok: bool,
    /// Changed keys of the configuration, as written in the file; at most 50.
    pub changed: Vec<String>,
    /// Number of changed keys that are not listed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_changed: u64,
    /// Changed keys that take effect when the host restarts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restart: Vec<String>,
    /// Plugins that have changed.
    pub plugins: Vec<PluginChangeInfo>,
    /// Problems of the configuration; at most 50.
    pub problems: Vec<ReloadProblem>,
}

/// What happened to a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginChangeInfo {
    /// Its name; for a file that is not a plugin, the name of the file.
    pub name: String,
    /// `provider`, `redactor` or `policy`; null if it is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// `added`, `removed`, `replaced`, `kept` (its file cannot be used, and the previous plugin stays active) or
    /// `refused` (its file cannot be used, and there was no plugin before).
    pub change: String,
    /// Why it was kept or refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A problem of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReloadProblem {
    /// JSON pointer into the result of `get_settings`; empty for the file as a whole.
    pub pointer: String,
    /// The key as written in the file; empty for the file as a whole.
    pub key: String,
    /// Line of the file, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Character of the line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u64>,
    /// What is wrong there, and what is expected.
    pub message: String,
}

impl ReloadProblem {
    /// The problem as a problem of a request.
    #[must_use]
    pub fn to_problem(&self) -> Problem {
        let position = self.position().map(|position| format!("{position}: ")).unwrap_or_default();
        Problem { pointer: self.pointer.clone(), message: format!("{position}{}", self.message) }
    }

    fn position(&self) -> Option<String> {
        Some(format!("line {}, column {}", self.line?, self.column?))
    }
}

impl std::fmt::Display for ReloadProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("config.toml, ")?;
        if let Some(position) = self.position() {
            write!(f, "{position}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// The address of the host over TCP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpStatus {
    /// `http://127.0.0.1:7787`
    pub url: String,
    /// The file with the token.
    pub token_file: PathBuf,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}
