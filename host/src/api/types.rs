//! Parameters and results of the methods, where they are not data of the model itself.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::Origin;
use crate::model::{
    ArtifactId, ConversationId, Event, EventType, ExportFormat, JobState, Problem, RetentionPolicy, RetentionReport,
    RetentionScopeKind, RunId, RunStatus, StartPayload,
};

mod conversations;
mod profiles;

pub use conversations::*;
pub use profiles::*;

/// Version of the wire protocol. Client and host must agree on it and on the package version.
pub const PROTOCOL: u32 = 1;

/// Header that carries the package version in every request and response.
pub const VERSION_HEADER: &str = "x-ostler-version";

/// Header that says who asks: `cli`, `rpc`, `http` or `mcp`.
pub const ORIGIN_HEADER: &str = "x-ostler-origin";

/// `start_run`: the start payload, and what a client sends beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = as_a_profile_may_complete_it)]
pub struct StartRunParams {
    /// What to start.
    #[serde(flatten)]
    pub payload: StartPayload,
    /// Variables of the caller that the CLI may get: `PATH`, and those that the provider names. Sealed, never stored as
    /// they are. Without them the CLI gets the host's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub client_environment: BTreeMap<String, String>,
}

/// A profile supplies the provider where the payload does not name it.
fn as_a_profile_may_complete_it(schema: &mut Schema) {
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|name| name != "provider");
    }
    if let Some(Value::String(text)) = schema.pointer_mut("/properties/provider/description") {
        text.push_str(" Required where no profile is given.");
    }
}

/// `start_run`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StartRunResult {
    /// The run that was acknowledged.
    pub run_id: RunId,
}

/// Parameters of methods that take a run and nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunParams {
    /// The run.
    pub run_id: RunId,
}

/// `cancel_run`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CancelResult {
    /// Where the run stands now; it has ended.
    pub status: RunStatus,
    /// True if it had ended before it was asked to.
    pub already_ended: bool,
}

/// `list_runs`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ListRunsParams {
    /// Only runs of this provider instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Only runs that stand there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<RunStatus>,
    /// Only runs of this conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<ConversationId>,
    /// Only runs with these words in the prompt or the answer, in the first 256 KiB of each. All words count, in any
    /// order, and may go on: `auth` finds `authentication`; what stands in quotation marks must occur as it is, but for
    /// case, accents and punctuation. Redacted values are not found.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1000))]
    pub search: Option<String>,
    /// Only runs acknowledged at or after this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub date_from: Option<Timestamp>,
    /// Only runs acknowledged before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub date_to: Option<Timestamp>,
    /// At most so many; 50 where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub limit: Option<u32>,
    /// So many are left out first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
}

/// `get_run_events`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunEventsParams {
    /// The run.
    pub run_id: RunId,
    /// Only events after this cursor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// At most so many; 500 where nothing is said. Fewer come where they are large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 5000))]
    pub limit: Option<u32>,
}

/// `get_run_events`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunEventsResult {
    /// The events, oldest first.
    pub events: Vec<Event>,
    /// Whether the run has more of them after the last one.
    pub more: bool,
}

/// `list_queue_jobs`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ListJobsParams {
    /// Only jobs that stand there; without it, all that have not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<JobState>,
}

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

/// `grant_workspace`, `revoke_workspace`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkspaceParams {
    /// The folder, absolute.
    pub path: PathBuf,
}

/// Parameters of methods that take none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoParams {}

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
    /// `ready`; `failed` where it could not be put to use with its settings; `set-aside` or `refused`.
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// `get_settings`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GetSettingsParams {
    /// Tell where each value comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origins: Option<bool>,
}

/// `update_settings`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateSettingsParams {
    /// What to set, in the shape of the settings: members are merged, lists are taken whole, null takes back what was set
    /// there and below.
    pub patch: Map<String, Value>,
    /// Tell where each value comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origins: Option<bool>,
}

/// `get_settings`, `update_settings`: the settings in force. They are the configuration, section by section, with the
/// names of its keys in camel case. What may be secret is `(hidden)`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// The sections.
    #[serde(flatten)]
    pub sections: Map<String, Value>,
    /// Where each value comes from, by its JSON pointer, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origins: Option<BTreeMap<String, Origin>>,
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

/// `subscribe`, and the query of `GET /events`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SubscribeParams {
    /// Only events after this cursor; without it, from now on, or for one run from its start.
    pub after: Option<u64>,
    /// Only events of this run.
    pub run_id: Option<RunId>,
    /// Only events of this conversation.
    pub conversation_id: Option<ConversationId>,
    /// Only events of these types.
    pub types: Option<Vec<EventType>>,
}

/// `subscribe`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubscribeResult {
    /// Stands in every `run_event` of this stream, for `unsubscribe`.
    pub subscription_id: u64,
    /// The stream begins after this cursor.
    pub cursor: u64,
    /// Cursor of the first event that is kept, where retention has taken some that were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncated: Option<u64>,
}

/// `unsubscribe`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UnsubscribeParams {
    /// What `subscribe` gave.
    pub subscription_id: u64,
}

/// `unsubscribe`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnsubscribeResult {
    /// The stream has ended; what is on its way may still arrive.
    pub subscription_id: u64,
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

/// `get_retention`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionState {
    /// Every scope that has limits of its own, `global` first. Each limit of a run is the one of the narrowest scope that
    /// states it: the innermost folder's, then the provider's, then the global one.
    pub policies: Vec<RetentionPolicy>,
    /// What was deleted when the limits were enforced last, since the host's start; its list of runs is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<RetentionReport>,
}

/// `set_retention`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetRetentionParams {
    /// What the limits are for.
    pub scope: RetentionScopeKind,
    /// Provider instance, or absolute path of a folder; not for `global`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Days after a run's end; 0 keeps it for ever. Where it is missing, what was set before stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 36_500))]
    pub days: Option<u32>,
    /// Megabytes (10^6 bytes) of all runs that count here; 0 is without limit. Where it is missing, what was set before
    /// stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1_000_000_000))]
    pub megabytes: Option<u64>,
}

/// `unset_retention`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UnsetRetentionParams {
    /// What the limits are for.
    pub scope: RetentionScopeKind,
    /// Provider instance, or absolute path of a folder; not for `global`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// `apply_retention`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ApplyRetentionParams {
    /// Only say what would go.
    pub dry_run: bool,
}

/// `export_run`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExportRunParams {
    /// The run. Of one that has not ended, what there is so far is written.
    pub run_id: RunId,
    /// The form.
    pub format: ExportFormat,
    /// Absolute path of the file, in a folder that exists. Without it, the file goes to the folder of exports, takes the
    /// place of an earlier one of the same form there, and is deleted with the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Whether a file at `path` may be replaced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overwrite: bool,
}

/// `export_run`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExportRunResult {
    /// The file, readable for its owner alone.
    pub path: PathBuf,
    /// The artifact that the run's record names it by.
    pub artifact_id: ArtifactId,
    /// Its size in bytes.
    pub bytes: u64,
}

/// `save_provider_token`
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProviderTokenParams {
    /// Provider instance.
    pub provider: String,
    /// The token: at most 16 KiB, without control characters. It goes to the token store and nowhere else.
    pub token: String,
}

impl std::fmt::Debug for ProviderTokenParams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProviderTokenParams").field("provider", &self.provider).finish_non_exhaustive()
    }
}

/// `clear_provider_token`, `has_provider_token`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProviderParams {
    /// Provider instance.
    pub provider: String,
}

/// `save_provider_token`, `clear_provider_token`, `has_provider_token`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenState {
    /// Whether the provider has a token that its runs can get.
    pub stored: bool,
    /// The store in which it lies, or should: `secret-service`, `keyutils` or `file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// The variable in which runs get it. Without one, the provider takes no token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variable: Option<String>,
    /// Why a token that should be there cannot be had. Runs of the provider fail until it is set or cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}
