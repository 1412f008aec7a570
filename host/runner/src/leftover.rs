//! Ends processes that a dead host left behind because its keepers failed, too. The next host calls this at its start.

use std::collections::BTreeMap;

use super::containment::{self, Proof, descendants};
use super::event::Leftover;
use super::identity::ProcessIdentity;
use super::linux::{self, Process};

/// What was found and done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LeftoverReport {
    /// For each identity that still had processes: its marker and those that were ended.
    pub ended: Vec<(String, Vec<Leftover>)>,
    /// Processes of an attempt that were still alive after two seconds.
    pub survivors: Vec<(String, Vec<Leftover>)>,
}

/// Ends every process that provably belongs to one of the recorded attempts: the recorded child or keeper (same boot,
/// process id and start time), everything below them, and every process that carries the marker. A process that
/// merely has a recorded process id is left alone. Takes up to about two seconds for each attempt where something is
/// alive, otherwise milliseconds.
pub fn end_leftovers(recorded: &[ProcessIdentity]) -> LeftoverReport {
    let mut report = LeftoverReport::default();
    for identity in recorded {
        // A pure look-up first: usually there is nothing.
        if belonging_to(identity).is_empty() {
            continue;
        }
        let ended = containment::end_all(|| belonging_to(identity), || Proof::Unknown);
        if !ended.killed.is_empty() {
            report.ended.push((identity.marker.clone(), ended.killed));
        }
        if !ended.survivors.is_empty() {
            report.survivors.push((identity.marker.clone(), ended.survivors));
        }
    }
    report
}

/// Everything alive that provably belongs to the attempt; never this process or its ancestors.
pub(super) fn belonging_to(identity: &ProcessIdentity) -> Vec<Process> {
    let same_boot = identity.is_of_this_boot();
    let is_recorded = |process: &Process| {
        let is = |pid, ticks| pid != 0 && process.pid == pid && process.start_ticks == ticks;
        same_boot && (is(identity.pid, identity.start_ticks) || is(identity.keeper_pid, identity.keeper_start_ticks))
    };
    // A host that was itself started inside a run carries that run's marker, and so do all its helpers: the marker
    // proves nothing then.
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let marker = (!linux::has_marker(own, &identity.marker)).then_some(identity.marker.as_str());
    let is_marked = |process: &Process| marker.is_some_and(|marker| linux::has_marker(process.pid, marker));
    let is_ours = |process: &Process| process.alive && (is_recorded(process) || is_marked(process));
    let all = linux::all_processes();
    let ancestors = ancestors_of_this_process(&all);
    let mut found: BTreeMap<i32, Process> = all
        .into_iter()
        .filter(|process| is_ours(process) && !ancestors.contains(&process.pid))
        .map(|process| (process.pid, process))
        .collect();
    let roots: Vec<i32> = found.keys().copied().collect();
    if !roots.is_empty() {
        let below = descendants(&roots, &|pid| ancestors.contains(&pid));
        found.extend(below.into_iter().map(|process| (process.pid, process)));
    }
    found.into_values().collect()
}

fn ancestors_of_this_process(all: &[Process]) -> Vec<i32> {
    let parents: BTreeMap<i32, i32> = all.iter().map(|process| (process.pid, process.parent)).collect();
    let mut pid = i32::try_from(std::process::id()).unwrap_or(0);
    let mut line = Vec::new();
    while pid != 0 && !line.contains(&pid) {
        line.push(pid);
        pid = parents.get(&pid).copied().unwrap_or(0);
    }
    line
}
