//! The scheduler itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::clock::{QueueClock, Time};
use super::lane::{Arrival, Key, Lane};
use super::series::SeriesMap;

/// Limits of running and waiting jobs. All can change while jobs wait and run, see [`Scheduler::set_limits`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The total number of jobs that run at a time. With 0, nothing starts.
    pub global: usize,
    /// The number of jobs that run at a time in one lane, unless `lanes` has another limit.
    pub per_lane: usize,
    /// Limits of single lanes.
    pub lanes: BTreeMap<String, usize>,
    /// Jobs that may be pending (ready and scheduled together) for a fresh one to be admitted.
    pub capacity: usize,
    /// Waiting time that raises a job's effective priority by one. Less than a millisecond counts as one.
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

/// The parts of the queue that the operator has paused. They start nothing until they are resumed.
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
    /// Not before this wall-clock time: `scheduledAt`. If the clock is set, the job follows it.
    At(Time),
    /// Not before this queue time: the delay before a retry. It is [`Scheduler::queue_time`] plus the delay. Setting
    /// the wall clock does not change the delay.
    After(Time),
}

/// Whether the capacity applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admit {
    /// A new job: refused if the queue is full.
    Fresh,
    /// A job that was acknowledged before (a retry, or a job from storage after a restart): never refused.
    Readmitted,
}

/// A job to schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job<J> {
    /// Unique among the jobs in the scheduler.
    pub id: J,
    /// The provider instance.
    pub lane: String,
    /// Jobs of one series run one after another, in the order of submission.
    pub series: Option<Uuid>,
    /// Higher goes first; -10 to 10 in the interface, any number here.
    pub priority: i32,
    /// The queue time from which its waiting time counts: [`Scheduler::queue_time`] for a new job, the stored time
    /// after a restart, so that it keeps its position. If `start` is later, waiting counts from there.
    pub enqueued_at: Time,
    /// Among otherwise equal jobs, the one with the lower number starts first, then the one that was submitted first.
    /// The caller assigns it, so that it can outlive the process.
    pub arrival: u64,
    /// When it may start.
    pub start: Start,
    /// Whether it must wait for an event that the caller knows, until [`Scheduler::unblock`].
    pub blocked: bool,
    /// Whether the capacity applies.
    pub admit: Admit,
}

/// The state of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits for a slot.
    Ready,
    /// It waits for a time.
    Scheduled,
    /// It waits for earlier jobs of its series, or until it is unblocked, even if a slot is free.
    Held,
    /// It holds a slot.
    Running,
}

/// Why a job was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The capacity is reached.
    #[error("the queue is full: {pending} of at most {capacity} runs are waiting")]
    QueueFull {
        /// Jobs that wait, scheduled ones included.
        pending: usize,
        /// The limit.
        capacity: usize,
    },
    /// The scheduler has a job with this id already.
    #[error("the job is in the queue already")]
    Duplicate,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) lane: Arc<str>,
    series: Option<Uuid>,
    pub(super) priority: i32,
    pub(super) arrival: Arrival,
    /// The queue time from which waiting counts.
    pub(super) since: Time,
    pub(super) phase: Phase,
    pub(super) blocked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Ready,
    /// Waits until a wall-clock time.
    At(Time),
    /// Waits until a queue time.
    After(Time),
    /// Waits until it leads its series and is not blocked; then it starts as given.
    Held(Start),
    Running,
}

/// The queue; see the [crate](super) for its guarantees. `J` identifies a job.
#[derive(Debug)]
pub struct Scheduler<J> {
    pub(super) limits: Limits,
    pub(super) clock: QueueClock,
    pub(super) jobs: HashMap<J, Entry>,
    pub(super) lanes: BTreeMap<Arc<str>, Lane<J>>,
    /// Jobs that wait for a wall-clock time; by that time, then in order of arrival.
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

    /// Takes readings of the wall clock and the steady clock, made together and before the wall-clock reading is used
    /// elsewhere. Returns whether the wall clock was set since the last readings: then queue time does not follow it.
    pub fn notice_clock(&mut self, wall: Time, steady: Duration) -> bool {
        self.clock.notice(wall, steady)
    }

    /// Advances the queue time to a later one from storage, as [`Scheduler::submit`] does with the job's.
    pub fn catch_up(&mut self, stored: Time, now: Time) {
        self.clock.catch_up(now, stored);
    }

    /// The queue time at `now`, which never runs backwards. Store it as the time at which a job was enqueued.
    pub fn queue_time(&mut self, now: Time) -> Time {
        self.clock.observe(now)
    }

    /// Checks whether a fresh job would be admitted if `reserved` others are about to be submitted.
    ///
    /// # Errors
    /// [`SubmitError::QueueFull`] if it would not.
    pub fn check_capacity(&self, reserved: usize) -> Result<(), SubmitError> {
        let (pending, capacity) = (self.pending().saturating_add(reserved), self.limits.capacity);
        if pending < capacity { Ok(()) } else { Err(SubmitError::QueueFull { pending, capacity }) }
    }

    /// Adds a job.
    ///
    /// # Errors
    /// If the queue is full (fresh jobs only) or has the job already. Nothing changes then.
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

    /// Reserves the next position in a series for a job that is not submitted yet: jobs that join the series later
    /// start after it. [`Scheduler::submit`] uses the reservation, [`Scheduler::release`] cancels it.
    pub fn reserve(&mut self, series: Uuid, id: &J) {
        self.series.join(series, id);
    }

    /// Cancels a reservation that no job has used. Returns whether another job may start because of that.
    pub fn release(&mut self, series: Uuid, id: &J, now: Time) -> bool {
        if self.jobs.contains_key(id) {
            return false;
        }
        self.clock.observe(now);
        self.leave(series, id)
    }

    /// Puts a running job back into the queue: frees its slot and keeps its position in its series and in the order of
    /// arrival. Returns false, and changes nothing, if the job is not running.
    pub fn requeue(&mut self, job: Job<J>, now: Time) -> bool {
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
            self.enqueue(job.id, job.start);
        }
    }

    /// Makes a job that its series does not hold ready or scheduled.
    fn enqueue(&mut self, id: J, start: Start) {
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

    /// Takes the next job that can start now, if any; it has a slot until [`Scheduler::finished`]. Call it again until
    /// it returns None.
    pub fn take_ready(&mut self, now: Time) -> Option<J> {
        let queue_now = self.clock.observe(now);
        self.promote(now, queue_now);
        if self.running >= self.limits.global || self.pauses.all {
            return None;
        }
        let name = self
            .lanes
            .iter()
            .filter(|(name, lane)| lane.running < self.limits.of_lane(name) && !lane.is_paused(queue_now))
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

    /// Frees the slot of a job that has ended or could not be started. Returns whether it had one. For a retry, see
    /// [`Scheduler::requeue`].
    pub fn finished(&mut self, id: &J, now: Time) -> bool {
        if self.jobs.get(id).is_none_or(|entry| entry.phase != Phase::Running) {
            return false;
        }
        self.remove(id, now);
        true
    }

    /// Removes a waiting job. A running one keeps its slot until the caller has ended it and calls
    /// [`Scheduler::finished`]. Returns the job's state before, None if there is no such job.
    pub fn cancel(&mut self, id: &J, now: Time) -> Option<State> {
        let state = self.state(id)?;
        if state != State::Running {
            self.remove(id, now);
        }
        Some(state)
    }

    /// Ends the wait of a blocked job. Returns whether it was blocked.
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
            self.enqueue(id.clone(), start);
        }
        true
    }

    /// Changes the priority of a waiting job. Returns the job's state (a running job is not changed), None if there is
    /// no such job.
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

    /// The paused parts of the queue.
    #[must_use]
    pub const fn pauses(&self) -> &Pauses {
        &self.pauses
    }

    /// Pauses these parts of the queue and resumes the others; running jobs continue.
    pub fn set_pauses(&mut self, pauses: Pauses) {
        self.pauses = pauses;
    }

    /// Starts nothing in the lane until the wall-clock time `until`; running jobs and other lanes continue. Of several
    /// timed pauses the one that ends last counts.
    pub fn pause_lane_until(&mut self, lane: &str, until: Time, now: Time) {
        let queue_now = self.clock.observe(now);
        let until = self.clock.queue_time(until);
        if until <= queue_now {
            return;
        }
        let lane = match self.lanes.get_mut(lane) {
            Some(lane) => lane,
            None => self.lanes.entry(Arc::from(lane)).or_default(),
        };
        lane.paused_until = lane.paused_until.max(Some(until));
    }

    /// Ends a timed pause early.
    pub fn resume_lane(&mut self, lane: &str, now: Time) {
        let queue_now = self.clock.observe(now);
        if let Some(found) = self.lanes.get_mut(lane) {
            found.paused_until = None;
            if found.is_unused(queue_now) {
                self.lanes.remove(lane);
            }
        }
    }

    /// Changes the limits. Jobs that run beyond a lower limit continue, those that wait beyond a lower capacity stay;
    /// with another aging time the waiting jobs are sorted again.
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

    /// The arrival number of a job; None if there is no such job.
    #[must_use]
    pub fn arrival(&self, id: &J) -> Option<u64> {
        self.jobs.get(id).map(|entry| entry.arrival.0)
    }

    /// The state of a job; None if there is no such job.
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

    /// Whether no job waits or runs.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.jobs.is_empty()
    }

    /// How long a job has waited, or did wait, for its slot; None if it waits for a time, or there is no such job.
    pub fn waited(&mut self, id: &J, now: Time) -> Option<Duration> {
        let queue_now = self.clock.observe(now);
        let entry = self.jobs.get(id).filter(|entry| matches!(entry.phase, Phase::Ready | Phase::Running))?;
        Some(queue_now.since(entry.since))
    }

    /// The wall-clock time at which the next scheduled job becomes ready, or the timed pause of a lane with ready jobs
    /// ends; None if only other events can change anything. A time in the past means now. The wall clock may be set
    /// while the caller sleeps, so it should call this again after a minute at the latest.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Time> {
        let pauses = self.lanes.values().filter(|lane| !lane.ready.is_empty()).filter_map(|lane| lane.paused_until);
        let delayed = self.after.first_key_value().map(|((time, _), _)| *time);
        let queue = pauses.chain(delayed).min().map(|time| self.clock.wall_time(time));
        let wall = self.at.first_key_value().map(|((time, _), _)| *time);
        queue.into_iter().chain(wall).min()
    }

    /// Moves the scheduled jobs that are due to their lanes, and clears timed pauses that are over.
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
            if !lane.is_paused(queue_now) {
                lane.paused_until = None;
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

    /// Removes a job; the next one of its series may start.
    fn remove(&mut self, id: &J, now: Time) {
        if let Some(series) = self.take_out(id, now) {
            self.leave(series, id);
        }
    }

    fn leave(&mut self, series: Uuid, id: &J) -> bool {
        let Some(leader) = self.series.leave(series, id) else {
            return false;
        };
        // A reservation keeps the lead until its job is submitted, and so does a blocked job.
        let leader_entry = self.jobs.get(&leader).filter(|entry| !entry.blocked);
        let Some(Phase::Held(start)) = leader_entry.map(|entry| entry.phase) else {
            return false;
        };
        self.held = self.held.saturating_sub(1);
        self.enqueue(leader, start);
        true
    }

    /// Removes a job from everything except its series, which it returns.
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
