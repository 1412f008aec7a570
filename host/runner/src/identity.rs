//! How a later host recognizes a process of an earlier one.

use serde::{Deserialize, Serialize};

use super::linux;

/// Identifies a child uniquely among all processes, past and future. Recorded before the child starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessIdentity {
    /// The child's process id, which is also its session and process group.
    pub pid: i32,
    /// When the child was forked, in the kernel's clock ticks since boot.
    pub start_ticks: u64,
    /// The keeper's process id.
    pub keeper_pid: i32,
    /// When the keeper was forked, in the same ticks.
    pub keeper_start_ticks: u64,
    /// The boot during which the ids are valid.
    pub boot_id: String,
    /// The value of [`MARKER_VARIABLE`](ostler_protocol::MARKER_VARIABLE).
    pub marker: String,
}

impl ProcessIdentity {
    /// Whether the machine has not been rebooted since.
    #[must_use]
    pub fn is_of_this_boot(&self) -> bool {
        !self.boot_id.is_empty() && self.boot_id == linux::boot_id()
    }
}
