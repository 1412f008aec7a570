//! Ends what a host that died left behind, keepers failing too: at the start of the next host.

use super::event::Leftover;
use super::identity::ProcessIdentity;

/// What was found and done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LeftoverReport {
    /// For each identity that still had processes: its marker and those that were ended.
    pub ended: Vec<(String, Vec<Leftover>)>,
    /// Processes that are ours and would not die within two seconds.
    pub survivors: Vec<(String, Vec<Leftover>)>,
}

/// Ends every process that provably belongs to one of the recorded attempts: the recorded child or keeper (same boot,
/// process id and start time), everything below them, and every process that carries the marker. Others that merely
/// have a recorded process id are left alone. Takes up to about two seconds where something is alive, otherwise
/// milliseconds.
pub fn end_leftovers(recorded: &[ProcessIdentity]) -> LeftoverReport {
    todo!()
}
