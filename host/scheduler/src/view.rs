//! Views of the queue for listings.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use super::clock::Time;
use super::core::{Entry, Phase, Scheduler, State, state_of};
use super::lane::Key;

/// The position of a ready job, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuePosition {
    /// Among the ready jobs of its lane. With one slot in the lane, it is the number of the provider's runs
    /// that start up to and including this one.
    pub in_lane: usize,
    /// Among the ready jobs of all lanes, busy and paused ones included.
    pub overall: usize,
}

/// How many jobs there are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Jobs that hold a slot.
    pub running: usize,
    /// Jobs that wait for a slot.
    pub ready: usize,
    /// Jobs that wait for a time.
    pub scheduled: usize,
    /// Jobs that wait for earlier jobs of their series.
    pub held: usize,
}

/// One job as a listing shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct JobView<J> {
    /// The job.
    pub id: J,
    /// The provider instance.
    pub lane: Arc<str>,
    /// Whether it waits for a slot, waits for a time, or runs.
    pub state: State,
    /// The submitted priority.
    pub priority: i32,
    /// `priority + waited / aging` for a ready job; the plain priority for the others.
    pub effective_priority: f64,
    /// Ready jobs only.
    pub position: Option<QueuePosition>,
    /// Scheduled jobs only: the wall-clock time at which it becomes ready.
    pub due: Option<Time>,
    /// Why it does not run; None if it runs or can start now.
    pub wait: Option<Wait>,
}

/// Why a job waits. If there are several reasons, the one that is expected to end last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// For a time of the wall clock.
    Time,
    /// For the end of a delay: a retry.
    Delay,
    /// For other jobs, until it is unblocked.
    Blocked,
    /// For earlier jobs of its series.
    Series,
    /// The whole queue is paused.
    Paused,
    /// The operator has paused its lane.
    LanePaused,
    /// Its lane is paused until a time.
    LanePausedUntil,
    /// The limit of its lane is reached.
    LaneFull,
    /// The global limit is reached.
    Full,
}

/// One lane as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneView {
    /// The provider instance.
    pub name: Arc<str>,
    /// Jobs that wait for a slot.
    pub ready: usize,
    /// Jobs that hold a slot.
    pub running: usize,
    /// The lane's limit of slots.
    pub limit: usize,
    /// The wall-clock time at which a timed pause of the lane ends, if there is one.
    pub paused_until: Option<Time>,
}

/// The whole queue at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot<J> {
    /// Running jobs (in the order of their arrival), then ready ones (next first), then scheduled ones (earliest
    /// first), then those held by their series (in the order of their arrival).
    pub jobs: Vec<JobView<J>>,
    /// Lanes with jobs or a timed pause, by name.
    pub lanes: Vec<LaneView>,
}

impl<J: Clone + Eq + Hash> Scheduler<J> {
    /// The position of a ready job; None for others. O(n).
    #[must_use]
    pub fn position(&self, id: &J) -> Option<QueuePosition> {
        let (entry, key) = self.ready_entry(id)?;
        let mut position = QueuePosition { in_lane: 1, overall: 1 };
        for (name, lane) in &self.lanes {
            let ahead = lane.ready.range(..key).count();
            position.overall += ahead;
            if *name == entry.lane {
                position.in_lane += ahead;
            }
        }
        Some(position)
    }

    /// `priority + waited / aging` at `now` for a ready job, the plain priority for others; None if there is no
    /// such job.
    #[must_use]
    pub fn effective_priority(&self, id: &J, now: Time) -> Option<f64> {
        let entry = self.jobs.get(id)?;
        Some(self.effective(entry, self.clock.queue_time(now)))
    }

    /// How many jobs there are in each state.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let (scheduled, held) = (self.at.len().saturating_add(self.after.len()), self.held);
        let ready = self.pending().saturating_sub(scheduled).saturating_sub(held);
        Counts { running: self.running, ready, scheduled, held }
    }

    /// One job as a listing shows it; None if there is no such job. O(n) for a ready one, because of its position.
    #[must_use]
    pub fn view(&self, id: &J, now: Time) -> Option<JobView<J>> {
        let view = self.view_of(id, self.jobs.get(id)?, self.clock.queue_time(now));
        Some(JobView { position: self.position(id), ..view })
    }

    /// The view of a job without its position.
    fn view_of(&self, id: &J, entry: &Entry, queue_now: Time) -> JobView<J> {
        JobView {
            id: id.clone(),
            lane: Arc::clone(&entry.lane),
            state: state_of(entry.phase),
            priority: entry.priority,
            effective_priority: self.effective(entry, queue_now),
            position: None,
            due: match entry.phase {
                Phase::At(time) => Some(time),
                Phase::After(time) => Some(self.clock.wall_time(time)),
                Phase::Ready | Phase::Held(_) | Phase::Running => None,
            },
            wait: match entry.phase {
                Phase::Running => None,
                Phase::At(_) => Some(Wait::Time),
                Phase::After(_) => Some(Wait::Delay),
                Phase::Held(_) if entry.blocked => Some(Wait::Blocked),
                Phase::Held(_) => Some(Wait::Series),
                Phase::Ready => self.wait_of_lane(&entry.lane, queue_now),
            },
        }
    }

    /// Why the ready jobs of a lane do not run.
    fn wait_of_lane(&self, name: &str, queue_now: Time) -> Option<Wait> {
        let lane = self.lanes.get(name);
        if self.pauses.all {
            Some(Wait::Paused)
        } else if self.pauses.lanes.contains(name) {
            Some(Wait::LanePaused)
        } else if lane.is_some_and(|lane| lane.is_paused(queue_now)) {
            Some(Wait::LanePausedUntil)
        } else if lane.map_or(0, |lane| lane.running) >= self.limits.of_lane(name) {
            Some(Wait::LaneFull)
        } else {
            (self.running >= self.limits.global).then_some(Wait::Full)
        }
    }

    /// The whole queue, for listings. O(n log n).
    #[must_use]
    pub fn snapshot(&self, now: Time) -> Snapshot<J> {
        let queue_now = self.clock.queue_time(now);
        let aging = self.limits.aging_ms();
        let mut running = BTreeMap::new();
        let mut ready = BTreeMap::new();
        let mut scheduled = BTreeMap::new();
        let mut held = BTreeMap::new();
        for (id, entry) in &self.jobs {
            let view = self.view_of(id, entry, queue_now);
            match entry.phase {
                Phase::Running => _ = running.insert(entry.arrival, view),
                Phase::Ready => {
                    _ = ready.insert(Key::new(entry.since, entry.priority, aging, entry.arrival), view);
                }
                Phase::At(_) | Phase::After(_) => {
                    _ = scheduled.insert((view.due, entry.arrival), view);
                }
                Phase::Held(_) => _ = held.insert(entry.arrival, view),
            }
        }
        let mut ahead: HashMap<Arc<str>, usize> = HashMap::new();
        for (index, view) in ready.values_mut().enumerate() {
            let in_lane = ahead.entry(Arc::clone(&view.lane)).or_default();
            *in_lane += 1;
            view.position = Some(QueuePosition { in_lane: *in_lane, overall: index + 1 });
        }
        let waiting = ready.into_values().chain(scheduled.into_values()).chain(held.into_values());
        let jobs = running.into_values().chain(waiting).collect();
        let lanes = self
            .lanes
            .iter()
            .filter(|(_, lane)| !lane.is_unused(queue_now))
            .map(|(name, lane)| LaneView {
                name: Arc::clone(name),
                ready: lane.ready.len(),
                running: lane.running,
                limit: self.limits.of_lane(name),
                paused_until: lane.paused_until.filter(|until| queue_now < *until).map(|t| self.clock.wall_time(t)),
            })
            .collect();
        Snapshot { jobs, lanes }
    }

    fn ready_entry(&self, id: &J) -> Option<(&Entry, Key)> {
        let entry = self.jobs.get(id).filter(|entry| entry.phase == Phase::Ready)?;
        Some((entry, Key::new(entry.since, entry.priority, self.limits.aging_ms(), entry.arrival)))
    }

    #[expect(clippy::cast_precision_loss, reason = "shown to people; a fraction of a millisecond does not matter")]
    fn effective(&self, entry: &Entry, queue_now: Time) -> f64 {
        let waited = match entry.phase {
            Phase::Ready => queue_now.since(entry.since),
            _ => Duration::ZERO,
        };
        f64::from(entry.priority) + waited.as_millis() as f64 / self.limits.aging_ms() as f64
    }
}
