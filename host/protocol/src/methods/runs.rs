//! Runs and the queue.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ArtifactId, ConversationId, Event, ExportFormat, JobState, RunId, RunStatus, StartPayload};

/// `start_run`: the start payload, and what a client sends beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = make_provider_optional)]
pub struct StartRunParams {
    /// What to start.
    #[serde(flatten)]
    pub payload: StartPayload,
    /// Environment of the caller for the CLI: `PATH`, and the variables that the provider names. Stored encrypted only.
    /// Without it, the CLI gets the variables of the host.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub client_environment: BTreeMap<String, String>,
}

/// `start_interactive_session`: as for `start_run`. Without a prompt, the session waits for input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = make_prompt_optional)]
pub struct StartSessionParams {
    /// What to start.
    #[serde(flatten)]
    pub start: StartRunParams,
}

/// Makes the provider optional in the schema, because a profile can supply it.
fn make_provider_optional(schema: &mut Schema) {
    make_optional(schema, "provider", " Required unless a profile is given.");
}

/// Makes the prompt optional in the schema.
fn make_prompt_optional(schema: &mut Schema) {
    make_optional(schema, "prompt", " Without it, the session waits for input.");
}

fn make_optional(schema: &mut Schema, field: &str, addition: &str) {
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|name| name != field);
    }
    if let Some(Value::String(text)) = schema.pointer_mut(&format!("/properties/{field}/description")) {
        text.push_str(addition);
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
    /// Current status of the run; it has ended.
    pub status: RunStatus,
    /// True if it had ended before the request.
    pub already_ended: bool,
}

/// `delete_run`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeletedRun {
    /// The deleted run.
    pub run_id: RunId,
    /// Its files that could not be deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files_left: Vec<PathBuf>,
}

/// `list_runs`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ListRunsParams {
    /// Only runs of this provider instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Only runs with this status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<RunStatus>,
    /// Only runs of this conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<ConversationId>,
    /// Only runs that work in this folder or below it. An absolute path.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub cwd: Option<PathBuf>,
    /// Only runs with these words in the prompt or the answer, in the first 256 KiB of each. All words must occur, in
    /// any order, and match as prefixes: `auth` finds `authentication`. Text in quotation marks must occur exactly,
    /// except for case, accents and punctuation. Redacted values are not found.
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
    /// Maximum number of results (default 50).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub limit: Option<u32>,
    /// Number of results to skip.
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
    /// The newest events before this cursor, instead of the oldest after one: for a front end that shows the end of a
    /// run first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Maximum number of events (default 500). The result has fewer if they are large.
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
    /// Whether the run has more events after the last one; with `before`, earlier ones than the first.
    pub more: bool,
}

/// `list_queue_jobs`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ListJobsParams {
    /// Only jobs in this state; without it, all jobs that have not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<JobState>,
}

/// `pause_queue` and `resume_queue`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PauseParams {
    /// The provider instance. Without it, the whole queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
}

/// `pause_queue` and `resume_queue`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueuePauses {
    /// Whether the whole queue is paused.
    pub paused: bool,
    /// Provider instances that were paused individually.
    pub paused_providers: Vec<String>,
}

/// `set_queue_priority`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetQueuePriorityParams {
    /// The run, which must be waiting.
    pub run_id: RunId,
    /// Its new priority: -10 (last) to 10 (first).
    #[schemars(range(min = -10, max = 10))]
    pub priority: i32,
}

/// `export_run`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExportRunParams {
    /// The run. If it has not ended, the file contains what exists so far.
    pub run_id: RunId,
    /// The form.
    pub format: ExportFormat,
    /// Absolute path of the file, in a folder that exists. Without it, the file is written to the folder of exports,
    /// replaces an earlier one of the same format there, and is deleted with the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Whether a file at `path` may be replaced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overwrite: bool,
    /// Whether the caller deletes the file: it gets a unique name in the folder of exports and is not recorded with the
    /// run. Only over the unix socket, and without `path`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub transient: bool,
}

impl ExportRunParams {
    /// An export to the folder of exports.
    #[must_use]
    pub const fn new(run_id: RunId, format: ExportFormat) -> Self {
        Self { run_id, format, path: None, overwrite: false, transient: false }
    }
}

/// `export_run`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExportRunResult {
    /// The file, readable only by its owner.
    pub path: PathBuf,
    /// The artifact of the run; a transient file has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_id: Option<ArtifactId>,
    /// Its size in bytes.
    pub bytes: u64,
}
