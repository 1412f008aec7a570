//! The dependencies between waiting runs.
//!
//! A run can depend only on runs that exist, and its dependencies never change: there are no cycles.

use std::collections::{BTreeSet, HashMap};

use ostler_protocol::{RunId, StartAfter};

/// The waiting runs that start after others.
#[derive(Debug, Default)]
pub(crate) struct Dependencies {
    waiting: HashMap<RunId, Waiting>,
    /// The runs that wait for a run. May name runs that no longer wait.
    dependents: HashMap<RunId, Vec<RunId>>,
}

#[derive(Debug)]
struct Waiting {
    left: BTreeSet<RunId>,
    even_if_failed: bool,
}

impl Dependencies {
    /// Adds the dependencies of a run. Returns whether there are any.
    pub(crate) fn add(&mut self, run: RunId, after: &StartAfter) -> bool {
        let left: BTreeSet<RunId> = after.run_ids.iter().copied().collect();
        if left.is_empty() {
            return false;
        }
        for dependency in &left {
            self.dependents.entry(*dependency).or_default().push(run);
        }
        self.waiting.insert(run, Waiting { left, even_if_failed: after.even_if_failed });
        true
    }

    /// Removes a run that no longer waits.
    pub(crate) fn forget(&mut self, run: RunId) {
        let Some(waiting) = self.waiting.remove(&run) else { return };
        for dependency in waiting.left {
            if let Some(dependents) = self.dependents.get_mut(&dependency) {
                dependents.retain(|dependent| *dependent != run);
                if dependents.is_empty() {
                    self.dependents.remove(&dependency);
                }
            }
        }
    }

    /// A run has ended. Returns the runs that no longer wait for any other, and whether they can start now.
    pub(crate) fn settle(&mut self, ended: RunId, completed: bool) -> Vec<(RunId, bool)> {
        let mut settled = Vec::new();
        for run in self.dependents.remove(&ended).unwrap_or_default() {
            let Some(waiting) = self.waiting.get_mut(&run) else { continue };
            waiting.left.remove(&ended);
            let can_start = completed || waiting.even_if_failed;
            if !can_start || waiting.left.is_empty() {
                settled.push((run, can_start));
            }
        }
        for (run, _) in &settled {
            self.forget(*run);
        }
        settled
    }

    /// The runs that a run still waits for.
    pub(crate) fn of(&self, run: RunId) -> Vec<RunId> {
        self.waiting.get(&run).map(|waiting| waiting.left.iter().copied().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(run_ids: &[RunId], even_if_failed: bool) -> StartAfter {
        StartAfter { run_ids: run_ids.to_vec(), even_if_failed }
    }

    fn ids<const N: usize>() -> [RunId; N] {
        std::array::from_fn(|_| RunId::generate())
    }

    #[test]
    fn run_can_start_when_its_last_dependency_has_completed() {
        let [one, two, run] = ids();
        let mut dependencies = Dependencies::default();
        assert!(dependencies.add(run, &after(&[one, two, one], false)));
        assert_eq!(dependencies.settle(two, true), []);
        assert_eq!(dependencies.of(run), [one]);
        assert_eq!(dependencies.settle(one, true), [(run, true)]);
        assert_eq!(dependencies.settle(one, true), [], "it is settled once");
        assert!(dependencies.waiting.is_empty() && dependencies.dependents.is_empty());
    }

    #[test]
    fn first_failure_settles_a_run_unless_it_starts_after_failures() {
        let [one, two, strict, lenient] = ids();
        let mut dependencies = Dependencies::default();
        dependencies.add(strict, &after(&[one, two], false));
        dependencies.add(lenient, &after(&[one, two], true));
        assert_eq!(dependencies.settle(one, false), [(strict, false)]);
        assert_eq!(dependencies.settle(two, false), [(lenient, true)]);
        assert!(dependencies.waiting.is_empty() && dependencies.dependents.is_empty());
    }

    #[test]
    fn removed_run_leaves_no_entries() {
        let [one, run] = ids();
        let mut dependencies = Dependencies::default();
        dependencies.add(run, &after(&[one], false));
        dependencies.forget(run);
        assert!(dependencies.waiting.is_empty() && dependencies.dependents.is_empty());
        assert!(!dependencies.add(run, &after(&[], false)));
    }
}
