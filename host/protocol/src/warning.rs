//! Problems that do not end a run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::open_names::open_names;

open_names! {
    /// Codes of `run.warning`.
    WarningCode {
        /// A transient error when the child was started; the start is tried again.
        SpawnRetry = "SPAWN_RETRY",
        /// Output beyond the limit of the run is not kept.
        BufferTrimmed = "BUFFER_TRIMMED",
        /// A line was longer than is shown or read. Fact: `stream`.
        LineTruncated = "LINE_TRUNCATED",
        /// The run ended without a text of the agent.
        NoTextEmitted = "NO_TEXT_EMITTED",
        /// The session to resume does not exist; the run starts a new one.
        SessionResumeInvalid = "SESSION_RESUME_INVALID" | "session_resume_invalid",
        /// The CLI started a new session where one was to be resumed.
        SessionReplaced = "SESSION_REPLACED" | "session_replaced",
        /// A later message of a conversation has no session to resume.
        SessionAbsent = "SESSION_ABSENT" | "session_absent",
        /// A plugin failed. Fact: `plugin`.
        PluginFailed = "PLUGIN_FAILED",
        /// Lines of a tool's result were left out. Facts: `id`, `lines`.
        ToolResultTrimmed = "TOOL_RESULT_TRIMMED",
        /// A process survived SIGKILL.
        LeftoverProcess = "LEFTOVER_PROCESS",
        /// The CLI left processes behind, which the host ended.
        ProcessesEnded = "PROCESSES_ENDED",
        /// The CLI was still running when its work was complete, and the host ended it. Facts: `lingeredMs`, and
        /// `background`, the background tasks for which it waited.
        CliEnded = "CLI_ENDED",
        /// Output was withheld because no redactor could run.
        OutputWithheld = "OUTPUT_WITHHELD",
        /// The child did not read its whole input. Fact: `bytes`.
        InputUnread = "INPUT_UNREAD",
        /// The run created a file that other programs obey, such as the configuration of a tool. Fact: `path`.
        ProtectedFileMade = "PROTECTED_FILE_MADE",
        /// The run tried to reach a host that it may not reach. Facts: `host`, `port`, `reason`.
        NetworkRefused = "NETWORK_REFUSED",
        /// A policy denies a tool use that the CLI has reported. Facts: `id`, `tool`, `name`, `policy`, `check`; or
        /// `count`, the number of tool uses that have no record of their own.
        ToolDenied = "TOOL_DENIED",
    }
}

impl WarningCode {
    /// Whether the run may not have done its task. Such a warning is shown even if progress is off.
    #[must_use]
    pub const fn leaves_doubt(&self) -> bool {
        matches!(self, Self::BufferTrimmed | Self::InputUnread | Self::NoTextEmitted | Self::OutputWithheld)
    }
}

/// `run.warning`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Warning {
    /// What happened.
    pub code: WarningCode,
    /// What happened, as text.
    pub message: String,
    /// Facts of the code.
    #[serde(flatten)]
    pub facts: Map<String, Value>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::json;

    use super::*;

    #[test]
    fn reads_old_spellings_of_codes_and_writes_the_current_one() {
        for (code, name, _) in WarningCode::KNOWN {
            assert_eq!((code.name(), &WarningCode::from(*name)), (*name, code));
            let upper = name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
            assert!(upper, "{name}");
        }
        let old: Warning = serde_json::from_value(json!({"code": "session_replaced", "message": "x", "a": 1})).unwrap();
        assert_eq!(old.code, WarningCode::SessionReplaced);
        assert_eq!(json!(old), json!({"code": "SESSION_REPLACED", "message": "x", "a": 1}));
        let later: Warning = serde_json::from_value(json!({"code": "LATER", "message": "x"})).unwrap();
        assert_eq!(later.code, WarningCode::Other("LATER".to_owned()));
        assert_eq!(json!(later)["code"], "LATER");
    }
}
