//! The host itself: its plugins, its settings, how it is, and its end.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{Problem, SandboxSupport};

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
    /// Variables of the caller, `PATH` above all: what is installed depends on them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub client_environment: BTreeMap<String, String>,
}

/// `list_plugins`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListPluginsResult {
    /// Every plugin that was found, refused ones included.
    pub plugins: Vec<PluginInfo>,
    /// The provider instances that they make.
    pub providers: Vec<ProviderInfo>,
}

/// One plugin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginInfo {
    /// Its name; for a file that could not be read, the file's.
    pub name: String,
    /// `provider`, `redactor` or `policy`; null where it could not be told.
    pub kind: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// One line.
    pub summary: Option<String>,
    /// SHA-256 of the component, in hex.
    pub digest: String,
    /// `bundled`, or the path of its file.
    pub source: String,
    /// `ready`; `failed` where it could not be put to use with its settings; `set-aside` or `refused`; `waiting` for a
    /// provider whose digest nobody has approved.
    pub state: String,
    /// Why it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why what its file holds now is not in force: it cannot be used, so what the file held before stays.
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
    /// Its digest, as an answer without one has it. Approves the plugin; without it nothing changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// `trust_plugin`: what a provider plugin runs and sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrustPluginResult {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the component, in hex.
    pub digest: String,
    /// The programs that it runs, by name or path; the first that is found.
    pub executables: Vec<String>,
    /// Commands that it runs with the program to learn what it can do, before any run.
    pub probes: Vec<PluginProbe>,
    /// Variables that the program gets from the caller or the host; a `*` at the end stands for anything.
    pub inherit_environment: Vec<String>,
    /// The variable that carries a stored token, if it takes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_variable: Option<String>,
    /// Paths outside of the work folder that its runs may change, as the plugin writes them.
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

/// One command that a provider plugin runs to learn what its program can do.
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
    /// Variables that its CLI takes from the caller; a `*` at the end stands for anything.
    pub inherit_environment: Vec<String>,
    /// Model where the payload names none.
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
    /// Only if nothing runs or waits; otherwise `CONFLICT`.
    pub if_idle: bool,
}

/// `stop`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StopResult {
    /// The host ends now; running runs are interrupted, waiting ones go on after its next start.
    pub stopping: bool,
    /// Runs that were running.
    pub running: u64,
    /// Runs that wait.
    pub waiting: u64,
}

/// `get_status`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Package version of the host.
    pub version: String,
    /// Version of the wire protocol.
    pub protocol: u32,
    /// Process id of the host.
    pub pid: u32,
    /// When it was started.
    #[schemars(with = "String")]
    pub started_at: Timestamp,
    /// Whether it ends itself when idle.
    pub background: bool,
    /// Folder of the database.
    pub data_folder: PathBuf,
    /// The socket.
    pub socket: PathBuf,
    /// The API over TCP, where it is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpStatus>,
    /// The host's own log.
    pub log_file: PathBuf,
    /// The configuration file, whether or not it exists.
    pub config_file: PathBuf,
    /// Runs with a slot.
    pub running: u64,
    /// Runs that wait for a slot.
    pub ready: u64,
    /// Runs that wait for their time.
    pub scheduled: u64,
    /// Runs that wait for the messages before them in their conversation.
    pub held: u64,
    /// Runs with a slot at one time, at most.
    pub global_limit: u32,
    /// Runs that may wait, at most.
    pub capacity: u32,
    /// Open event streams.
    pub subscribers: u64,
    /// Newest cursor.
    pub cursor: u64,
    /// How secrets of waiting payloads are sealed: where the key lies.
    pub seal_key: String,
    /// Where tokens of providers that are saved now will lie: `secret-service`, `keyutils` or `file` and what that means,
    /// or `none` and why.
    pub token_store: String,
    /// What this machine can hold of the containment of runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxSupport>,
    /// What is wrong at present: configuration, plugins, storage.
    pub problems: Vec<String>,
    /// The last reloads of configuration, plugins and settings, newest first; ten at most.
    pub reloads: Vec<Reload>,
}

/// What made the host look at its configuration and its plugins again.
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

/// `reload`: one look at configuration and plugins, and what it has changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reload {
    /// When it came in force.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// What it was made for.
    pub trigger: ReloadTrigger,
    /// Whether the configuration could be taken over. If not, what was in force before stays; changed plugins are in
    /// force all the same.
    pub ok: bool,
    /// Keys of the configuration with another value than before, as the file has them; 50 at most.
    pub changed: Vec<String>,
    /// Changed keys that are not named.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_changed: u64,
    /// Those of the changed keys that come in force when the host starts again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restart: Vec<String>,
    /// Plugins that are not what they were.
    pub plugins: Vec<PluginChangeInfo>,
    /// What is wrong with the configuration; 50 at most.
    pub problems: Vec<ReloadProblem>,
}

/// What became of a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginChangeInfo {
    /// Its name; for a file that is no plugin, the file's.
    pub name: String,
    /// `provider`, `redactor` or `policy`; null where it could not be told.
    pub kind: Option<String>,
    /// `added`, `removed`, `replaced`, `kept` (its file holds something that cannot be used, and what was in force before
    /// stays) or `refused` (the file holds no plugin that can be used, and none was in force before).
    pub change: String,
    /// Why it was kept or refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Something that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReloadProblem {
    /// JSON pointer into the settings as `get_settings` gives them; empty for the file as a whole.
    pub pointer: String,
    /// The key as the file has it; empty for the file as a whole.
    pub key: String,
    /// Line of the file, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Character of the line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u64>,
    /// What is wrong there, and what would be right.
    pub message: String,
}

impl ReloadProblem {
    /// As a problem of a request.
    #[must_use]
    pub fn to_problem(&self) -> Problem {
        let place = self.place().map(|place| format!("{place}: ")).unwrap_or_default();
        Problem { pointer: self.pointer.clone(), message: format!("{place}{}", self.message) }
    }

    fn place(&self) -> Option<String> {
        Some(format!("line {}, column {}", self.line?, self.column?))
    }
}

impl std::fmt::Display for ReloadProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("config.toml, ")?;
        if let Some(place) = self.place() {
            write!(f, "{place}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// Where the host is reached over TCP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpStatus {
    /// `http://127.0.0.1:7787`
    pub url: String,
    /// The file that holds the token.
    pub token_file: PathBuf,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}
