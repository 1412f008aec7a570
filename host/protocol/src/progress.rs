//! Stages in the life of a run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::open_names::open_names;

open_names! {
    /// Stages of `run.progress`.
    ProgressStage {
        /// The run is in the queue. Facts: `position`, `priority`, and `held`, `startAfter` or `scheduledAt` if it waits for
        /// something other than a slot.
        Queued = "queued",
        /// The priority of the waiting run was changed. Facts: `priority`, `position`.
        PriorityChanged = "priority_changed",
        /// The programs that the run may start are prepared. Facts: those of `harness.cliAllowlist`.
        CliAllowlistPrepared = "cli_allowlist_prepared",
        /// The shell prelude is prepared. Fact: `variables`.
        ShellPreludePrepared = "shell_prelude_prepared",
        /// The child is about to start. Fact: `attempt`.
        SpawnPreparing = "spawn_preparing",
        /// The attempt failed and is repeated. Facts: `attempt`, `reason`, `nextRunAt`.
        RetryScheduled = "retry_scheduled",
        /// A client continues to read the events of an open session. Fact: `after`, the cursor of the last event that it has.
        SessionReplayed = "session_replayed",
    }
}

/// `run.progress`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// The stage that the run has reached.
    pub stage: ProgressStage,
    /// Facts of the stage.
    #[serde(flatten)]
    pub facts: Map<String, Value>,
}
