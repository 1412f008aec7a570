//! What the host tells about a run in `host.extra`, as far as a plugin chooses the channel by it.

use ostler_plugin::provider::{RunMode, RunRequest};
use serde::Deserialize;

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct HostExtra {
    /// A session runs in a terminal.
    pub(crate) terminal: bool,
    /// The host decides about tool uses.
    pub(crate) approvals: bool,
    /// It decides about each of them, also about those that the CLI would allow by itself.
    pub(crate) every_tool: bool,
}

impl HostExtra {
    /// An older host sends less of it, or nothing.
    pub(crate) fn of(request: &RunRequest) -> Self {
        request.host.extra.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// Whether the run is a session in a terminal. Other runs never have one.
    pub(crate) fn in_terminal(self, request: &RunRequest) -> bool {
        request.mode == RunMode::Interactive && self.terminal
    }
}
