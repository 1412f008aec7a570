//! What goes: decided run by run, from the last ended back, so that the newest stay where not all have room.

use jiff::{SignedDuration, Timestamp};

use super::policy::{Holding, Policies};
use ostler_protocol::{RetentionRule, RunId};
use ostler_storage::{BackwardPage, EndedRun, LooseEvent, PageStart, Storage, StorageError};

/// Rows that are read at a time: some milliseconds, so that no reader holds the write-ahead log for long.
const PAGE: u32 = 2000;

/// A run that goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Victim {
    pub(super) run_id: RunId,
    pub(super) bytes: u64,
    pub(super) rule: RetentionRule,
    /// The scope whose limit it is.
    pub(super) scope: usize,
}

/// Events without a run that go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Loose {
    /// All up to this time.
    pub(super) through: Timestamp,
    pub(super) events: u64,
    pub(super) bytes: u64,
}

/// What counts against the megabytes of a scope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) runs: u64,
    pub(super) bytes: u64,
}

/// What goes, and what there is.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The longest ended first.
    pub(super) victims: Vec<Victim>,
    pub(super) loose: Option<Loose>,
    /// For each scope, all that is there now.
    pub(super) usage: Vec<Usage>,
}

/// A budget while it is being filled, the newest first.
#[derive(Clone, Copy, Debug, Default)]
struct Budget {
    kept: u64,
    /// The first that found no room: everything older goes as well, however small it is.
    full: bool,
}

/// Decides, fed from the newest back.
struct Planner<'a> {
    policies: &'a Policies,
    now: Timestamp,
    budgets: Vec<Budget>,
    plan: Plan,
}

impl<'a> Planner<'a> {
    fn new(policies: &'a Policies, now: Timestamp) -> Self {
        let scopes = policies.scopes.len();
        let plan = Plan { usage: vec![Usage::default(); scopes], ..Plan::default() };
        Self { policies, now, budgets: vec![Budget::default(); scopes], plan }
    }

    fn run(&mut self, run: &EndedRun) {
        let holding = self.policies.of(&run.provider, &run.cwd);
        if let Some(usage) = self.plan.usage.get_mut(holding.megabytes.scope) {
            usage.runs += 1;
            usage.bytes += run.bytes;
        }
        if let Some((rule, scope)) = self.judge(&holding, run.ended_at, run.bytes) {
            self.plan.victims.push(Victim { run_id: run.run_id, bytes: run.bytes, rule, scope });
        }
    }

    fn loose(&mut self, event: LooseEvent) {
        let holding = self.policies.global();
        if let Some(usage) = self.plan.usage.get_mut(holding.megabytes.scope) {
            usage.bytes += event.bytes;
        }
        // What is older than one that goes, goes with it.
        if self.plan.loose.is_some() || self.judge(&holding, event.at, event.bytes).is_some() {
            let loose = self.plan.loose.get_or_insert(Loose { through: event.at, events: 0, bytes: 0 });
            loose.events += 1;
            loose.bytes += event.bytes;
        }
    }

    fn judge(&mut self, holding: &Holding, at: Timestamp, bytes: u64) -> Option<(RetentionRule, usize)> {
        if holding.days.value.is_some_and(|days| at < before(self.now, days)) {
            return Some((RetentionRule::Days, holding.days.scope));
        }
        let budget = self.budgets.get_mut(holding.megabytes.scope)?;
        let most = holding.megabytes.value?.saturating_mul(1_000_000);
        budget.full |= budget.kept.saturating_add(bytes) > most;
        if budget.full {
            return Some((RetentionRule::Megabytes, holding.megabytes.scope));
        }
        budget.kept += bytes;
        None
    }

    fn finish(mut self) -> Plan {
        self.plan.victims.reverse();
        self.plan
    }
}

/// So many days ago.
pub(super) fn before(now: Timestamp, days: u64) -> Timestamp {
    let hours = i64::try_from(days).unwrap_or(i64::MAX).saturating_mul(24);
    now.checked_sub(SignedDuration::from_hours(hours)).unwrap_or(Timestamp::MIN)
}

/// Looks through all that has ended. Memory is bounded by what goes: some dozens of bytes for each run.
///
/// # Errors
/// If the database cannot be read.
pub(super) fn survey(storage: &Storage, policies: &Policies, now: Timestamp) -> Result<Plan, StorageError> {
    let mut planner = Planner::new(policies, now);
    let mut runs = Pages::new(|from| storage.read(|reader| reader.ended_runs(from, PAGE)));
    let mut loose = Pages::new(|from| storage.read(|reader| reader.loose_events(from, PAGE)));
    // Both in one order of time: they share the global budget.
    let (mut run, mut event) = (runs.next()?, loose.next()?);
    loop {
        match (&run, &event) {
            (Some(one), other) if other.is_none_or(|event| event.at <= one.ended_at) => {
                planner.run(one);
                run = runs.next()?;
            }
            (_, Some(one)) => {
                planner.loose(*one);
                event = loose.next()?;
            }
            (_, None) => return Ok(planner.finish()),
        }
    }
}

/// A list that is read from the newest back, a page at a time.
struct Pages<T, F> {
    read: F,
    items: std::vec::IntoIter<T>,
    /// Where the next page begins: None before the first, Some(None) after the last.
    next: Option<Option<PageStart>>,
}

impl<T, F: FnMut(Option<PageStart>) -> Result<BackwardPage<T>, StorageError>> Pages<T, F> {
    fn new(read: F) -> Self {
        Self { read, items: Vec::new().into_iter(), next: None }
    }

    fn next(&mut self) -> Result<Option<T>, StorageError> {
        loop {
            if let Some(item) = self.items.next() {
                return Ok(Some(item));
            }
            let from = match self.next {
                None => None,
                Some(Some(place)) => Some(place),
                Some(None) => return Ok(None),
            };
            let page = (self.read)(from)?;
            self.next = Some(page.next);
            self.items = page.items.into_iter();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;
    use ostler_config::Config;

    const NOW: i64 = 1_800_000_000;

    fn ago(hours: i64) -> Timestamp {
        Timestamp::from_second(NOW - hours * 3600).unwrap()
    }

    fn ended(provider: &str, cwd: &str, hours: i64, bytes: u64) -> EndedRun {
        EndedRun {
            run_id: RunId::generate(),
            provider: provider.to_owned(),
            cwd: PathBuf::from(cwd),
            ended_at: ago(hours),
            bytes,
        }
    }

    /// What goes of runs (newest first) and of events (the hours of their age, 500 kB each).
    fn plan(config: &str, runs: &[EndedRun], events: &[i64]) -> Plan {
        let policies = Policies::new(&Config::parse(config).unwrap(), &[]);
        let mut planner = Planner::new(&policies, ago(0));
        for hours in events {
            planner.loose(LooseEvent { at: ago(*hours), bytes: 500_000 });
        }
        runs.iter().for_each(|run| planner.run(run));
        planner.finish()
    }

    fn rules(plan: &Plan) -> Vec<(RunId, RetentionRule)> {
        plan.victims.iter().map(|victim| (victim.run_id, victim.rule)).collect()
    }

    #[test]
    fn a_run_goes_when_its_days_are_over() {
        let runs = [ended("codex", "/w", 47, 1), ended("codex", "/w", 49, 1), ended("codex", "/w", 5000, 1)];
        let plan = plan("retention.days = 2", &runs, &[47, 49, 50]);
        let gone = [(runs[2].run_id, RetentionRule::Days), (runs[1].run_id, RetentionRule::Days)];
        assert_eq!(rules(&plan), gone, "the longest ended first");
        assert_eq!(plan.loose, Some(Loose { through: ago(49), events: 2, bytes: 1_000_000 }));
        assert_eq!(plan.usage[0], Usage { runs: 3, bytes: 1_500_003 });
    }

    #[test]
    fn the_oldest_go_until_the_rest_has_room() {
        let sizes = [400_000, 400_000, 900_000, 10, 10];
        let runs: Vec<EndedRun> =
            sizes.iter().zip(1..).map(|(bytes, hours)| ended("codex", "/w", hours, *bytes)).collect();
        let plan = plan("retention.megabytes = 1", &runs, &[]);
        let gone: Vec<RunId> = [4, 3, 2].map(|index: usize| runs[index].run_id).to_vec();
        assert_eq!(plan.victims.iter().map(|victim| victim.run_id).collect::<Vec<_>>(), gone);
        assert!(plan.victims.iter().all(|victim| victim.rule == RetentionRule::Megabytes));
    }

    #[test]
    fn what_has_limits_of_its_own_counts_there_alone() {
        let config = "[retention]\nmegabytes = 1\n[retention.providers.loud]\nmegabytes = 2\n\
                      [retention.workspaces.\"/dear\"]\ndays = 0\nmegabytes = 0\n";
        let runs = [
            ended("loud", "/w", 1, 1_900_000),
            ended("codex", "/w", 2, 900_000),
            ended("loud", "/dear/one", 3, 50_000_000),
            ended("loud", "/w", 4, 200_000),
            ended("codex", "/w", 5, 200_000),
            ended("codex", "/dear", 24 * 5000, 50_000_000),
        ];
        let plan = plan(config, &runs, &[]);
        let gone = [(runs[4].run_id, RetentionRule::Megabytes), (runs[3].run_id, RetentionRule::Megabytes)];
        assert_eq!(rules(&plan), gone);
        assert_ne!(plan.victims[0].scope, plan.victims[1].scope);
    }

    #[test]
    fn nothing_goes_without_limits() {
        let runs = [ended("codex", "/w", 24 * 30_000, u64::MAX / 4)];
        let plan = plan("retention = { days = 0, megabytes = 0 }", &runs, &[24 * 30_000]);
        assert!(plan.victims.is_empty() && plan.loose.is_none(), "{plan:?}");
    }

    proptest! {
        /// Whatever there is: what stays fits, what goes is older than what stays, and no more goes than must.
        #[test]
        fn the_newest_that_fit_stay(sizes in proptest::collection::vec(0_u64..700_000, 0..20), most in 1_u64..4) {
            let runs: Vec<EndedRun> =
                sizes.iter().zip(1..).map(|(bytes, hours)| ended("codex", "/w", hours, *bytes)).collect();
            let plan = plan(&format!("retention.megabytes = {most}"), &runs, &[]);
            let stays = runs.len() - plan.victims.len();
            let gone: Vec<RunId> = runs[stays..].iter().rev().map(|run| run.run_id).collect();
            prop_assert_eq!(plan.victims.iter().map(|victim| victim.run_id).collect::<Vec<_>>(), gone);
            let kept: u64 = sizes[..stays].iter().sum();
            prop_assert!(kept <= most * 1_000_000);
            prop_assert!(sizes.get(stays).is_none_or(|next| kept + next > most * 1_000_000));
        }
    }
}
