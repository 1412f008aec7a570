//! The queue, the active runs, and the thread that hands out slots.
//!
//! One lock guards the scheduler and the table of runs with a slot together, so that at every moment a run is in exactly
//! one of three states: reserved (its acknowledgement is being written), queued, or active. Nothing else happens under
//! the lock: no I/O, no plugin.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use uuid::Uuid;

use crate::queue::active_run::{ActiveRun, StopCause};
use crate::queue::dependencies::Dependencies;
use crate::submit::time;
use ostler_protocol::{RunId, RunStatus, StartAfter};
use ostler_scheduler::{
    Admit, Counts, Job, JobView, Limits, Pauses, Scheduler, Snapshot, Start, State as JobPlace, SubmitError, Time,
};
use ostler_storage::StoredPauses;
use ostler_test_hooks::clock;
use ostler_test_hooks::failpoint;

/// The longest sleep while a job waits for a time of day: the wall clock may be set meanwhile.
const LONGEST_NAP: Duration = Duration::from_secs(30);

/// Hands out slots.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    state: Mutex<State>,
    changed: Condvar,
    /// Number of jobs that wait or run. The host is idle at zero.
    busy: watch::Sender<usize>,
}

#[derive(Debug)]
struct State {
    scheduler: Scheduler<RunId>,
    reserved: HashMap<RunId, Reservation>,
    active: HashMap<RunId, Arc<ActiveRun>>,
    dependencies: Dependencies,
    /// Number of the change of the pauses that is active.
    pauses_change: u64,
    stopping: bool,
}

/// A run whose acknowledgement is being written.
#[derive(Debug)]
struct Reservation {
    series: Option<Uuid>,
    /// It was canceled meanwhile.
    canceled: bool,
}

/// The state of a run that is to be canceled.
#[derive(Debug)]
pub(crate) enum CancelTarget {
    /// It waited and was removed from the queue: the caller ends it and then releases it.
    Waiting(Arc<ActiveRun>),
    /// It has a slot and was asked to stop.
    Active(Arc<ActiveRun>),
    /// Its acknowledgement is being written; it ends right after that.
    Reserved,
    /// It neither waits nor runs.
    Nowhere,
}

/// Why a new run is not accepted.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The queue is full.
    Full(SubmitError),
    /// The host ends.
    Stopping,
}

/// How a job enters the queue again.
#[derive(Clone, Debug)]
pub(crate) struct Requeue {
    pub(crate) lane: String,
    pub(crate) priority: i32,
    /// When it began to wait, in queue time.
    pub(crate) since: Time,
    pub(crate) delay: Duration,
}

impl Dispatcher {
    pub(crate) fn new(limits: Limits) -> Self {
        let state = State {
            scheduler: Scheduler::new(limits),
            reserved: HashMap::new(),
            active: HashMap::new(),
            dependencies: Dependencies::default(),
            pauses_change: 0,
            stopping: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), busy: watch::channel(0).0 }
    }

    /// Reserves capacity in the queue for a new run while its acknowledgement is written; in its series, too, so that runs
    /// of a series start in the order in which `write` was called for them. `write` hands the acknowledgement to the
    /// writer; it runs under the lock and must not block. Every reservation is followed by [`Self::admit`] or
    /// [`Self::forget`].
    ///
    /// # Errors
    /// If the queue is full, or if the host ends: no later host might start for a run that was acknowledged then. `write`
    /// was not called.
    pub(crate) fn reserve<T>(&self, run: RunId, series: Option<Uuid>, write: impl FnOnce() -> T) -> Result<T, Refused> {
        let mut state = self.lock();
        if state.stopping {
            return Err(Refused::Stopping);
        }
        state.scheduler.check_capacity(state.reserved.len()).map_err(Refused::Full)?;
        state.reserved.insert(run, Reservation { series, canceled: false });
        if let Some(series) = series {
            state.scheduler.reserve(series, &run);
        }
        self.notify(&state);
        Ok(write())
    }

    /// Releases a reservation.
    pub(crate) fn forget(&self, run: RunId) {
        let mut state = self.lock();
        self.end_reservation(&mut state, run);
        self.notify(&state);
    }

    fn end_reservation(&self, state: &mut State, run: RunId) {
        let series = state.reserved.remove(&run).and_then(|reservation| reservation.series);
        let now = self.now(state);
        if series.is_some_and(|series| state.scheduler.release(series, &run, now)) {
            self.changed.notify_all();
        }
    }

    /// Queues a run that is acknowledged now. `placed` can ask for its position (O(n)) before it can start, and gets
    /// whether it is held by its series, so that its event comes first; it runs under the lock and must not block. A run
    /// that was canceled meanwhile is returned: the caller ends and releases it.
    ///
    /// A job that starts after others is blocked by all of them. The caller then checks which of them have ended already,
    /// and passes those to [`Self::settle`]: runs that end later call it themselves.
    pub(crate) fn admit(
        &self,
        job: Job<RunId>,
        after: Option<&StartAfter>,
        placed: impl FnOnce(&dyn Fn() -> Option<usize>, bool),
    ) -> Result<(), Arc<ActiveRun>> {
        let mut state = self.lock();
        if state.reserved.get(&job.id).is_some_and(|reservation| reservation.canceled) {
            self.end_reservation(&mut state, job.id);
            let active_run = ActiveRun::new(job.id);
            state.active.insert(job.id, Arc::clone(&active_run));
            return Err(active_run);
        }
        let (run, now) = (job.id, self.now(&mut state));
        state.reserved.remove(&run);
        let blocked = after.is_some_and(|after| state.dependencies.add(run, after));
        // There is no duplicate, because ids are unique, and the capacity was reserved.
        let _ = state.scheduler.submit(Job { admit: Admit::Readmitted, blocked, ..job }, now);
        let held = !blocked && state.scheduler.state(&run) == Some(JobPlace::Held);
        placed(&|| state.scheduler.position(&run).map(|place| place.overall), held);
        self.notify(&state);
        self.changed.notify_all();
        Ok(())
    }

    /// The current queue time, which is stored as the time at which a job began to wait.
    pub(crate) fn queue_time(&self) -> Time {
        let mut state = self.lock();
        let now = self.now(&mut state);
        state.scheduler.queue_time(now)
    }

    /// Advances the queue time beyond the times that an earlier host stored.
    pub(crate) fn catch_up(&self, stored: impl Iterator<Item = Time>) {
        let mut state = self.lock();
        let now = self.now(&mut state);
        stored.for_each(|stored| state.scheduler.catch_up(stored, now));
    }

    /// Removes a run from the queue, or asks it to stop.
    pub(crate) fn cancel(&self, run: RunId) -> CancelTarget {
        let mut state = self.lock();
        if let Some(reservation) = state.reserved.get_mut(&run) {
            reservation.canceled = true;
            return CancelTarget::Reserved;
        }
        if let Some(active_run) = state.active.get(&run) {
            active_run.stop(StopCause::Canceled);
            return CancelTarget::Active(Arc::clone(active_run));
        }
        let now = self.now(&mut state);
        match state.scheduler.cancel(&run, now) {
            Some(JobPlace::Ready | JobPlace::Scheduled | JobPlace::Held | JobPlace::Running) => {
                state.dependencies.forget(run);
                let active_run = ActiveRun::new(run);
                active_run.stop(StopCause::Canceled);
                state.active.insert(run, Arc::clone(&active_run));
                self.notify(&state);
                // Another job of its series may have waited only for it.
                self.changed.notify_all();
                CancelTarget::Waiting(active_run)
            }
            None => CancelTarget::Nowhere,
        }
    }

    /// A run has ended: jobs that start after it no longer wait for it. Returns those that can never start because it has
    /// not completed. They were removed from the queue; the caller ends and releases them.
    pub(crate) fn settle(&self, ended: RunId, completed: bool) -> Vec<Arc<ActiveRun>> {
        let mut state = self.lock();
        let settled = state.dependencies.settle(ended, completed);
        if settled.is_empty() {
            return Vec::new();
        }
        let now = self.now(&mut state);
        let mut failed = Vec::new();
        for (run, can_start) in settled {
            if can_start {
                state.scheduler.unblock(&run, now);
            } else if state.scheduler.cancel(&run, now).is_some() {
                let active_run = ActiveRun::new(run);
                state.active.insert(run, Arc::clone(&active_run));
                failed.push(active_run);
            }
        }
        self.notify(&state);
        drop(state);
        self.changed.notify_all();
        failed
    }

    /// The runs that a run still waits for.
    pub(crate) fn waits_for(&self, run: RunId) -> Vec<RunId> {
        self.lock().dependencies.of(run)
    }

    /// Sets the priority of a waiting run. Returns its state; a running one keeps its priority.
    pub(crate) fn set_priority(&self, run: RunId, priority: i32) -> Option<JobPlace> {
        self.lock().scheduler.set_priority(&run, priority)
    }

    /// Activates pauses, unless later ones are active already.
    pub(crate) fn set_pauses(&self, pauses: &StoredPauses) {
        let mut state = self.lock();
        if pauses.change >= state.pauses_change {
            state.pauses_change = pauses.change;
            state.scheduler.set_pauses(Pauses { all: pauses.all, lanes: pauses.providers.clone() });
        }
        drop(state);
        self.changed.notify_all();
    }

    /// What is paused.
    pub(crate) fn pauses(&self) -> Pauses {
        self.lock().scheduler.pauses().clone()
    }

    /// Releases the slot of a run and, if it has a retry, queues it again. A run that was asked to stop is not queued
    /// again; `false` means that the caller must end it.
    pub(crate) fn release(&self, active_run: &Arc<ActiveRun>, status: RunStatus, requeue: Option<Requeue>) -> bool {
        let mut state = self.lock();
        if requeue.is_some() && active_run.stop_cause().is_some() {
            return false;
        }
        let now = self.now(&mut state);
        match requeue {
            None => _ = state.scheduler.finished(&active_run.run(), now),
            Some(requeue) => {
                let start = requeue.since.after(requeue.delay);
                let job = Job {
                    id: active_run.run(),
                    lane: requeue.lane,
                    // It keeps its series and its arrival.
                    series: None,
                    priority: requeue.priority,
                    enqueued_at: requeue.since,
                    arrival: 0,
                    start: if requeue.delay.is_zero() { Start::Now } else { Start::After(start) },
                    blocked: false,
                    admit: Admit::Readmitted,
                };
                state.scheduler.requeue(job, now);
            }
        }
        state.active.remove(&active_run.run());
        self.notify(&state);
        drop(state);
        self.changed.notify_all();
        active_run.release(status);
        true
    }

    /// Pauses a lane for this time. Other lanes continue.
    pub(crate) fn pause_lane(&self, lane: &str, delay: Duration) {
        let mut state = self.lock();
        let now = self.now(&mut state);
        state.scheduler.pause_lane_until(lane, now.after(delay), now);
        drop(state);
        self.changed.notify_all();
    }

    /// Replaces the limits. Runs beyond the new limits continue.
    pub(crate) fn set_limits(&self, limits: Limits) {
        self.lock().scheduler.set_limits(limits);
        self.changed.notify_all();
    }

    /// A run with a slot.
    pub(crate) fn active(&self, run: RunId) -> Option<Arc<ActiveRun>> {
        self.lock().active.get(&run).cloned()
    }

    /// How many runs there are in each state.
    pub(crate) fn counts(&self) -> Counts {
        self.lock().scheduler.counts()
    }

    /// One run in the queue, if it is there.
    pub(crate) fn view(&self, run: RunId) -> Option<JobView<RunId>> {
        let mut state = self.lock();
        let now = self.now(&mut state);
        state.scheduler.view(&run, now)
    }

    /// The queue as it is.
    pub(crate) fn snapshot(&self) -> Snapshot<RunId> {
        let mut state = self.lock();
        let now = self.now(&mut state);
        state.scheduler.snapshot(now)
    }

    /// Number of runs that wait, run or are being acknowledged. The host is idle at zero.
    pub(crate) fn busy(&self) -> watch::Receiver<usize> {
        self.busy.subscribe()
    }

    /// Accepts no more runs, if there are none. Later submits are refused, and no run is acknowledged in between.
    pub(crate) fn close_if_idle(&self) -> bool {
        let mut state = self.lock();
        state.stopping |= Self::jobs(&state) == 0;
        let closed = state.stopping;
        drop(state);
        self.changed.notify_all();
        closed
    }

    /// Accepts no more runs. Returns true.
    pub(crate) fn close(&self) -> bool {
        self.lock().stopping = true;
        self.changed.notify_all();
        true
    }

    /// Whether no more runs are accepted.
    pub(crate) fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Hands out no more slots, and asks every active run to stop. Returns the active runs.
    pub(crate) fn shut_down(&self) -> Vec<Arc<ActiveRun>> {
        let mut state = self.lock();
        state.stopping = true;
        let active: Vec<_> = state.active.values().cloned().collect();
        drop(state);
        active.iter().for_each(|run| run.stop(StopCause::HostStops));
        self.changed.notify_all();
        active
    }

    /// Hands out slots until [`Self::shut_down`]; sleeps while there is nothing to hand out.
    pub(crate) fn run(&self, mut start: impl FnMut(Arc<ActiveRun>)) {
        let mut state = self.lock();
        while !state.stopping {
            let now = self.now(&mut state);
            if state.scheduler.pending() > 0 {
                failpoint::reach("claim.before");
            }
            let mut ready = Vec::new();
            while let Some(run) = state.scheduler.take_ready(now) {
                let active_run = ActiveRun::begin(run, state.scheduler.waited(&run, now).unwrap_or_default());
                state.active.insert(run, Arc::clone(&active_run));
                ready.push(active_run);
            }
            if !ready.is_empty() {
                drop(state);
                failpoint::reach("claim.after");
                ready.into_iter().for_each(&mut start);
                state = self.lock();
                continue;
            }
            state = match state.scheduler.next_wakeup() {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(time) => {
                    let nap = time.since(now).clamp(Duration::from_millis(1), LONGEST_NAP);
                    self.changed.wait_timeout(state, nap).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// The time of the wall clock. If the clock was set, the thread that hands out slots is woken: a scheduled time may have
    /// come.
    fn now(&self, state: &mut State) -> Time {
        let now = time(clock::now());
        if state.scheduler.notice_clock(now, clock::uptime()) {
            self.changed.notify_all();
        }
        now
    }

    fn notify(&self, state: &State) {
        let busy = Self::jobs(state);
        self.busy.send_if_modified(|known| std::mem::replace(known, busy) != busy);
    }

    fn jobs(state: &State) -> usize {
        state.scheduler.pending() + state.reserved.len() + state.active.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn dispatcher() -> Dispatcher {
        Dispatcher::new(Limits {
            global: 1,
            per_lane: 1,
            lanes: Default::default(),
            capacity: 4,
            aging: Duration::from_secs(30),
        })
    }

    fn job(id: RunId) -> Job<RunId> {
        Job {
            id,
            lane: "codex".to_owned(),
            series: None,
            priority: 0,
            enqueued_at: Time::from_ms(0),
            arrival: 0,
            start: Start::Now,
            blocked: false,
            admit: Admit::Readmitted,
        }
    }

    #[test]
    fn pauses_of_an_earlier_change_do_not_replace_later_ones() {
        let dispatcher = dispatcher();
        dispatcher.set_pauses(&StoredPauses { all: true, change: 7, ..StoredPauses::default() });
        dispatcher.set_pauses(&StoredPauses { all: false, change: 6, ..StoredPauses::default() });
        assert!(dispatcher.pauses().all);
        dispatcher.set_pauses(&StoredPauses { all: false, change: 8, ..StoredPauses::default() });
        assert!(!dispatcher.pauses().all);
    }

    #[test]
    fn run_that_was_canceled_while_it_waited_for_another_is_not_settled_again() {
        let dispatcher = dispatcher();
        let (first, second, third) = (RunId::generate(), RunId::generate(), RunId::generate());
        let after = StartAfter { run_ids: vec![first], even_if_failed: false };
        for run in [second, third] {
            dispatcher.admit(job(run), Some(&after), |_, held| assert!(!held, "no series holds it")).unwrap();
        }
        assert_eq!((dispatcher.counts().held, dispatcher.waits_for(second)), (2, vec![first]));
        let CancelTarget::Waiting(active_run) = dispatcher.cancel(second) else { panic!("it waits") };
        dispatcher.release(&active_run, RunStatus::Canceled, None);
        let failed = dispatcher.settle(first, false);
        assert_eq!(failed.iter().map(|active_run| active_run.run()).collect::<Vec<_>>(), [third]);
        assert!(!dispatcher.close_if_idle(), "the caller has not ended it yet");
        failed.iter().for_each(|active_run| assert!(dispatcher.release(active_run, RunStatus::Canceled, None)));
        assert!(dispatcher.settle(first, false).is_empty() && dispatcher.close_if_idle());
    }

    #[test]
    fn idle_host_that_has_closed_accepts_no_run() {
        let dispatcher = dispatcher();
        let (first, second) = (RunId::generate(), RunId::generate());
        dispatcher.reserve(first, None, || ()).unwrap();
        assert!(!dispatcher.close_if_idle(), "an acknowledgement is being written");
        dispatcher.forget(first);
        assert!(dispatcher.close_if_idle());
        assert!(matches!(dispatcher.reserve(second, None, || ()), Err(Refused::Stopping)));
        assert_eq!(*dispatcher.busy().borrow(), 0);
    }
}
