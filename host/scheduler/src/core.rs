//! The scheduler itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::clock::{QueueClock, Time};
use super::lane::{Arrival, Key, Lane};
use super::series::SeriesMap;

/// How much may run and wait. All of it can change while jobs wait and run, see [`Scheduler::set_limits`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Jobs that run at a time, in all. With 0, nothing starts.
    pub global: usize,
    /// Jobs that run at a time in one lane, where `lanes` does not say otherwise.
    pub per_lane: usize,
    /// Limits of single lanes.
    pub lanes: BTreeMap<String, usize>,
    /// Jobs that may be pending (ready and scheduled together) for a fresh one to be admitted.
    pub capacity: usize,
    /// How much waiting is worth one step of priority. Less than a millisecond counts as one.
    pub aging: Duration,
}

impl Limits {
    pub(super) fn of_lane(&self, lane: &str) -> usize {
        self.lanes.get(lane).copied().unwrap_or(self.per_lane)
    }

    pub(super) fn aging_ms(&self) -> u64 {
        u64::try_from(self.aging.as_millis()).unwrap_or(u64::MAX).max(1)
    }
}

/// What starts nothing because somebody has paused it, until it is resumed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pauses {
    /// All lanes.
    pub all: bool,
    /// Single lanes.
    pub lanes: BTreeSet<String>,
}

/// When a job may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// As soon as there is a slot.
    Now,
    /// Not before the wall clock shows this: `scheduledAt`. If the clock is set, the job follows it.
    At(Time),
    /// Not before this queue time: the delay before a retry. [`Scheduler::queue_time`] plus the delay gives it. If the
    /// wall clock is set, the delay stays as long as it was.
    After(Time),
}

/// Whether the capacity applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admit {
    /// A new job: refused where the queue is full.
    Fresh,
    /// One that was acknowledged before (a retry, or a job from storage after a restart): never refused.
    Readmitted,
}

/// A job to wait for its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job<J> {
    /// Unique among the jobs that the scheduler holds.
    pub id: J,
    /// The provider instance.
    pub lane: String,
    /// Jobs of one series run one after another, in the order in which they came.
    pub series: Option<Uuid>,
    /// More goes first; -10 to 10 in the interface, any number here.
    pub priority: i32,
    /// The queue time from which its waiting counts, from [`Scheduler::queue_time`] for a new job; stored and given
    /// back after a restart, so that it keeps its place. Where `start` lies later, waiting counts from there.
    pub enqueued_at: Time,
    /// Of two that are equal in all else, the lesser leaves first. The caller says it, so that it can outlive the
    /// process; where this is equal, too, the one that was submitted first.
    pub arrival: u64,
    /// When it may start.
    pub start: Start,
    /// Whether it waits for other jobs first, which the caller knows: until [`Scheduler::unblock`].
    pub blocked: bool,
    /// Whether the capacity applies.
    pub admit: Admit,
}

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits for a slot.
    Ready,
    /// It waits for a time.
    Scheduled,
    /// It waits for those before it in its series, or until it is unblocked, whatever its time and the slots are.
    Held,
    /// It holds a slot.
    Running,
}

/// Why a job was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// As many jobs wait as may wait.
    #[error("the queue is full: {pending} of at most {capacity} runs are waiting")]
    QueueFull {
        /// Jobs that wait, scheduled ones included.
        pending: usize,
        /// The limit.
        capacity: usize,
    },
    /// The scheduler holds a job with this id already.
    #[error("the job is in the queue already")]
    Duplicate,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) lane: Arc<str>,
    series: Option<Uuid>,
    pub(super) priority: i32,
    pub(super) arrival: Arrival,
    /// Waiting counts from here (queue time).
    pub(super) since: Time,
    pub(super) phase: Phase,
    pub(super) blocked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Ready,
    /// Until a time of the wall clock.
    At(Time),
    /// Until a queue time.
    After(Time),
    /// Until it leads its series and is not blocked; then as this says.
    Held(Start),
    Running,
}

/// The queue: see the [module](super) for what it promises. `J` identifies a job.
#[derive(Debug)]
pub struct Scheduler<J> {
    pub(super) limits: Limits,
    pub(super) clock: QueueClock,
    pub(super) jobs: HashMap<J, Entry>,
    pub(super) lanes: BTreeMap<Arc<str>, Lane<J>>,
    /// Jobs that wait for a time of the wall clock; by that time, then in order of arrival.
    pub(super) at: BTreeMap<(Time, Arrival), J>,
    /// Jobs that wait for a queue time.
    pub(super) after: BTreeMap<(Time, Arrival), J>,
    series: SeriesMap<J>,
    /// Jobs that are held by their series, or blocked.
    pub(super) held: usize,
    pub(super) pauses: Pauses,
    pub(super) running: usize,
    next_sequence: u64,
}

impl<J: Clone + Eq + Hash> Scheduler<J> {
    /// An empty queue.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            clock: QueueClock::default(),
            jobs: HashMap::new(),
            lanes: BTreeMap::new(),
            at: BTreeMap::new(),
            after: BTreeMap::new(),
            series: SeriesMap::default(),
            held: 0,
            pauses: Pauses::default(),
            running: 0,
            next_sequence: 0,
        }
    }

    /// Takes readings of the wall clock and of one that nobody can set, made together and before the former is passed
    /// to anything else. Says whether the wall clock was set since the last ones: then queue time does not follow it.
    pub fn notice_clock(&mut self, wall: Time, steady: Duration) -> bool {
        self.clock.notice(wall, steady)
    }

    /// Moves the queue time up to one from storage that lies ahead of it, as [`Scheduler::submit`] does with the job's.
    pub fn catch_up(&mut self, stored: Time, now: Time) {
        self.clock.catch_up(now, stored);
    }

    /// The queue time at `now`: the wall clock that never runs back. To be stored as the time at which a job was
    /// enqueued.
    pub fn queue_time(&mut self, now: Time) -> Time {
        self.clock.observe(now)
    }

    /// Whether a fresh job would be admitted, if `reserved` others were on their way in.
    ///
    /// # Errors
    /// [`SubmitError::QueueFull`] where it would not.
    pub fn check_capacity(&self, reserved: usize) -> Result<(), SubmitError> {
        let (pending, capacity) = (self.pending().saturating_add(reserved), self.limits.capacity);
        if pending < capacity { Ok(()) } else { Err(SubmitError::QueueFull { pending, capacity }) }
    }

    /// Takes a job in.
    ///
    /// # Errors
    /// Where the queue is full (fresh jobs only) or holds the job already. Nothing has changed then.
    pub fn submit(&mut self, job: Job<J>, now: Time) -> Result<(), SubmitError> {
        if self.jobs.contains_key(&job.id) {
            return Err(SubmitError::Duplicate);
        }
        if job.admit == Admit::Fresh {
            self.check_capacity(0)?;
        }
        self.insert(job, now);
        Ok(())
    }

    /// Takes a place in a series for a job that is still on its way: whatever joins the series later starts after it.
    /// [`Scheduler::submit`] fills the place, [`Scheduler::give_up_place`] gives it up.
    pub fn hold_place(&mut self, series: Uuid, id: &J) {
        self.series.join(series, id);
    }

    /// Gives up a place in a series that no job has filled. Says whether another job may start because of that.
    pub fn give_up_place(&mut self, series: Uuid, id: &J, now: Time) -> bool {
        if self.jobs.contains_key(id) {
            return false;
        }
        self.clock.observe(now);
        self.leave(series, id)
    }

    /// A running job goes back to waiting: its slot is free, and it stays in its series, where it still leads, and in
    /// the order of arrival. Says whether it held a slot; if not, nothing has changed.
    pub fn again(&mut self, job: Job<J>, now: Time) -> bool {
        let Some(entry) = self.jobs.get(&job.id).filter(|entry| entry.phase == Phase::Running) else {
            return false;
        };
        let (series, arrival) = (entry.series, entry.arrival.0);
        self.take_out(&job.id, now);
        self.insert(Job { series, arrival, ..job }, now);
        true
    }

    fn insert(&mut self, job: Job<J>, now: Time) {
        let since = self.clock.catch_up(now, job.enqueued_at);
        let arrival = (job.arrival, self.next_sequence);
        self.next_sequence = self.next_sequence.saturating_add(1);
        let lane: Arc<str> = match self.lanes.get_key_value(job.lane.as_str()) {
            Some((name, _)) => Arc::clone(name),
            None => Arc::from(job.lane),
        };
        let follows = job.series.is_some_and(|series| {
            self.series.join(series, &job.id);
            !self.series.leads(series, &job.id)
        });
        let (blocked, held) = (job.blocked, job.blocked || follows);
        let phase = if held { Phase::Held(job.start) } else { Phase::Ready };
        let entry = Entry { lane, series: job.series, priority: job.priority, arrival, since, phase, blocked };
        self.jobs.insert(job.id.clone(), entry);
        if held {
            self.held += 1;
        } else {
            self.begin_to_wait(job.id, job.start);
        }
    }

    /// Puts a job, which nothing in its series holds back, where its time says.
    fn begin_to_wait(&mut self, id: J, start: Start) {
        let Some(entry) = self.jobs.get_mut(&id) else {
            return;
        };
        match start {
            Start::Now => {
                let due = entry.since;
                self.make_ready(id, due);
            }
            Start::At(time) => {
                entry.phase = Phase::At(time);
                self.at.insert((time, entry.arrival), id);
            }
            Start::After(time) => {
                entry.phase = Phase::After(time);
                self.after.insert((time, entry.arrival), id);
            }
        }
    }

    /// The job that is to start now, if any; it holds a slot from here until [`Scheduler::finished`]. To be called
    /// again until nothing comes.
    pub fn take_ready(&mut self, now: Time) -> Option<J> {
        let queue_now = self.clock.observe(now);
        self.promote(now, queue_now);
        if self.running >= self.limits.global || self.pauses.all {
            return None;
        }
        let name = self
            .lanes
            .iter()
            .filter(|(name, lane)| lane.running < self.limits.of_lane(name) && !lane.is_parked(queue_now))
            .filter(|(name, _)| !self.pauses.lanes.contains(&***name))
            .filter_map(|(name, lane)| lane.ready.first_key_value().map(|(key, _)| (*key, name)))
            .min_by_key(|(key, _)| *key)
            .map(|(_, name)| Arc::clone(name))?;
        let lane = self.lanes.get_mut(&name)?;
        let (_, id) = lane.ready.pop_first()?;
        lane.running += 1;
        self.running += 1;
        if let Some(entry) = self.jobs.get_mut(&id) {
            entry.phase = Phase::Running;
        }
        Some(id)
    }

    /// A running job has ended, or could not be started: its slot is free. Says whether it held one. For one that is
    /// to be tried again, see [`Scheduler::again`].
    pub fn finished(&mut self, id: &J, now: Time) -> bool {
        if self.jobs.get(id).is_none_or(|entry| entry.phase != Phase::Running) {
            return false;
        }
        self.remove(id, now);
        true
    }

    /// Takes a waiting job out. A running one keeps its slot until the caller has ended it and says
    /// [`Scheduler::finished`]. Gives the state in which the job was, none where there is no such job.
    pub fn cancel(&mut self, id: &J, now: Time) -> Option<State> {
        let state = self.state(id)?;
        if state != State::Running {
            self.remove(id, now);
        }
        Some(state)
    }

    /// What a blocked job waited for has happened. Says whether it was blocked.
    pub fn unblock(&mut self, id: &J, now: Time) -> bool {
        self.clock.observe(now);
        let Some(entry) = self.jobs.get_mut(id).filter(|entry| entry.blocked) else {
            return false;
        };
        entry.blocked = false;
        let (series, phase) = (entry.series, entry.phase);
        if let Phase::Held(start) = phase
            && series.is_none_or(|series| self.series.leads(series, id))
        {
            self.held = self.held.saturating_sub(1);
            self.begin_to_wait(id.clone(), start);
        }
        true
    }

    /// Gives a waiting job another priority. Returns the state that it is in, in which nothing has changed if it runs;
    /// none where there is no such job.
    pub fn set_priority(&mut self, id: &J, priority: i32) -> Option<State> {
        let aging = self.limits.aging_ms();
        let entry = self.jobs.get_mut(id)?;
        if entry.phase != Phase::Running {
            let before = std::mem::replace(&mut entry.priority, priority);
            if entry.phase == Phase::Ready
                && let Some(lane) = self.lanes.get_mut(&entry.lane)
                && let Some(id) = lane.ready.remove(&Key::new(entry.since, before, aging, entry.arrival))
            {
                lane.ready.insert(Key::new(entry.since, priority, aging, entry.arrival), id);
            }
        }
        Some(state_of(entry.phase))
    }

    /// What is paused.
    #[must_use]
    pub const fn pauses(&self) -> &Pauses {
        &self.pauses
    }

    /// Starts nothing where these say so; running jobs go on.
    pub fn set_pauses(&mut self, pauses: Pauses) {
        self.pauses = pauses;
    }

    /// Starts nothing in the lane until the wall clock shows `until`; running jobs go on, and other lanes too. Of
    /// several parks the one that ends last counts.
    pub fn park(&mut self, lane: &str, until: Time, now: Time) {
        let queue_now = self.clock.observe(now);
        let until = self.clock.queue_time(until);
        if until <= queue_now {
            return;
        }
        let lane = match self.lanes.get_mut(lane) {
            Some(lane) => lane,
            None => self.lanes.entry(Arc::from(lane)).or_default(),
        };
        lane.parked_until = lane.parked_until.max(Some(until));
    }

    /// Ends a park before its time.
    pub fn unpark(&mut self, lane: &str, now: Time) {
        let queue_now = self.clock.observe(now);
        if let Some(found) = self.lanes.get_mut(lane) {
            found.parked_until = None;
            if found.is_unused(queue_now) {
                self.lanes.remove(lane);
            }
        }
    }

    /// Other limits from now on. Jobs that run beyond a lower limit go on, those that wait beyond a lower capacity
    /// stay; with another aging time the order of the waiting is made anew.
    pub fn set_limits(&mut self, limits: Limits) {
        let rebuild = limits.aging_ms() != self.limits.aging_ms();
        self.limits = limits;
        if !rebuild {
            return;
        }
        let aging = self.limits.aging_ms();
        for lane in self.lanes.values_mut() {
            let ready = std::mem::take(&mut lane.ready);
            lane.ready = ready
                .into_values()
                .filter_map(|id| {
                    let entry = self.jobs.get(&id)?;
                    Some((Key::new(entry.since, entry.priority, aging, entry.arrival), id))
                })
                .collect();
        }
    }

    /// The limits in force.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The arrival that a job was submitted with; none where there is no such job.
    #[must_use]
    pub fn arrival(&self, id: &J) -> Option<u64> {
        self.jobs.get(id).map(|entry| entry.arrival.0)
    }

    /// Where the job is; none where there is no such job.
    #[must_use]
    pub fn state(&self, id: &J) -> Option<State> {
        self.jobs.get(id).map(|entry| state_of(entry.phase))
    }

    /// Jobs that wait, scheduled and held ones included: what the capacity counts.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.jobs.len().saturating_sub(self.running)
    }

    /// Jobs that hold a slot.
    #[must_use]
    pub const fn running(&self) -> usize {
        self.running
    }

    /// Whether nothing waits and nothing runs.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.jobs.is_empty()
    }

    /// How long a job has waited for its slot, or did before it got it; none where it waits for a time, or there is no
    /// such job.
    pub fn waited(&mut self, id: &J, now: Time) -> Option<Duration> {
        let queue_now = self.clock.observe(now);
        let entry = self.jobs.get(id).filter(|entry| matches!(entry.phase, Phase::Ready | Phase::Running))?;
        Some(queue_now.since(entry.since))
    }

    /// What the wall clock will show when the next scheduled job or the park of a lane with ready jobs ends; none
    /// where only other events can change anything. A time in the past means now. As the wall clock may be set while
    /// the caller sleeps, it should ask again after a minute at the latest.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Time> {
        let parks = self.lanes.values().filter(|lane| !lane.ready.is_empty()).filter_map(|lane| lane.parked_until);
        let delayed = self.after.first_key_value().map(|((time, _), _)| *time);
        let queue = parks.chain(delayed).min().map(|time| self.clock.wall_time(time));
        let wall = self.at.first_key_value().map(|((time, _), _)| *time);
        queue.into_iter().chain(wall).min()
    }

    /// Moves the scheduled jobs whose time has come to their lanes, and forgets parks that are over.
    fn promote(&mut self, now: Time, queue_now: Time) {
        while let Some(found) = self.at.first_entry().filter(|found| found.key().0 <= now) {
            let ((time, _), id) = found.remove_entry();
            self.make_ready(id, self.clock.queue_time(time).min(queue_now));
        }
        while let Some(found) = self.after.first_entry().filter(|found| found.key().0 <= queue_now) {
            let ((time, _), id) = found.remove_entry();
            self.make_ready(id, time);
        }
        self.lanes.retain(|_, lane| {
            if !lane.is_parked(queue_now) {
                lane.parked_until = None;
            }
            !lane.is_unused(queue_now)
        });
    }

    fn make_ready(&mut self, id: J, due: Time) {
        let aging = self.limits.aging_ms();
        if let Some(entry) = self.jobs.get_mut(&id) {
            entry.phase = Phase::Ready;
            entry.since = entry.since.max(due);
            let key = Key::new(entry.since, entry.priority, aging, entry.arrival);
            self.lanes.entry(Arc::clone(&entry.lane)).or_default().ready.insert(key, id);
        }
    }

    /// Takes a job out for good; whoever stood behind it in its series may start.
    fn remove(&mut self, id: &J, now: Time) {
        if let Some(series) = self.take_out(id, now) {
            self.leave(series, id);
        }
    }

    fn leave(&mut self, series: Uuid, id: &J) -> bool {
        let Some(leader) = self.series.leave(series, id) else {
            return false;
        };
        // A place that is only held stays in the lead until its job is there, and so does a blocked job.
        let leader_entry = self.jobs.get(&leader).filter(|entry| !entry.blocked);
        let Some(Phase::Held(start)) = leader_entry.map(|entry| entry.phase) else {
            return false;
        };
        self.held = self.held.saturating_sub(1);
        self.begin_to_wait(leader, start);
        true
    }

    /// Takes a job out of everything but its series, which it returns.
    fn take_out(&mut self, id: &J, now: Time) -> Option<Uuid> {
        let queue_now = self.clock.observe(now);
        let entry = self.jobs.remove(id)?;
        match entry.phase {
            Phase::At(time) => _ = self.at.remove(&(time, entry.arrival)),
            Phase::After(time) => _ = self.after.remove(&(time, entry.arrival)),
            Phase::Held(_) => self.held = self.held.saturating_sub(1),
            Phase::Ready | Phase::Running => {
                let Some(lane) = self.lanes.get_mut(&entry.lane) else {
                    return entry.series;
                };
                if entry.phase == Phase::Running {
                    lane.running = lane.running.saturating_sub(1);
                    self.running = self.running.saturating_sub(1);
                } else {
                    let key = Key::new(entry.since, entry.priority, self.limits.aging_ms(), entry.arrival);
                    lane.ready.remove(&key);
                }
                if lane.is_unused(queue_now) {
                    self.lanes.remove(&entry.lane);
                }
            }
        }
        entry.series
    }
}

pub(super) const fn state_of(phase: Phase) -> State {
    match phase {
        Phase::Ready => State::Ready,
        Phase::At(_) | Phase::After(_) => State::Scheduled,
        Phase::Held(_) => State::Held,
        Phase::Running => State::Running,
    }
}
