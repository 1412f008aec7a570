//! Compares the scheduler with a model that keeps a plain list and computes everything from the definitions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

use super::{Admit, Counts, Job, Limits, Pauses, QueuePosition, Scheduler, Start, State, SubmitError, Time};

const LANES: [&str; 3] = ["alpha", "beta", "gamma"];
const SERIES: u128 = 3;
const DAY_MS: i64 = 86_400_000;

#[derive(Clone, Debug)]
enum Step {
    /// `enqueued` is relative to the queue time, `start` to the wall clock or the queue time.
    Submit {
        lane: usize,
        series: Option<u128>,
        priority: i32,
        enqueued: i64,
        start: Begin,
        blocked: bool,
        admit: Admit,
    },
    Unblock(usize),
    Reprioritize {
        job: usize,
        priority: i32,
    },
    Pause {
        all: bool,
        lane: Option<usize>,
    },
    /// Reserves a position in a series.
    Reserve(u128),
    /// Submits the job of a reservation.
    Fill {
        reservation: usize,
        lane: usize,
        start: Begin,
    },
    Release(usize),
    Duplicate(usize),
    Take,
    TakeAll,
    Finish(usize),
    Retry {
        running: usize,
        delay: i64,
    },
    Cancel(usize),
    PauseLaneUntil {
        lane: usize,
        for_ms: i64,
    },
    ResumeLane(usize),
    Limit(Limits),
    Pass(i64),
    Jump(i64),
}

#[derive(Clone, Copy, Debug)]
enum Begin {
    Now,
    At(i64),
    After(i64),
}

#[derive(Clone, Debug)]
struct Known {
    id: u32,
    lane: usize,
    /// The series, and the job's turn in it, which a retry keeps.
    series: Option<(u128, u64)>,
    priority: i32,
    enqueued: i64,
    start: Start,
    /// It waits until it is unblocked.
    blocked: bool,
    /// Set when the job is due (at once if it has no time), not blocked, and not held by its series.
    since: Option<i64>,
    running: bool,
}

/// A larger jump of the wall clock is noticed if both clocks are read.
const NOTICED_MS: i64 = 1000;

/// Jobs in the order of their arrival.
struct Model {
    limits: Limits,
    jobs: Vec<Known>,
    /// Reservations in series: id, series, turn.
    reservations: Vec<(u32, u128, u64)>,
    next_turn: u64,
    paused_until: BTreeMap<usize, i64>,
    pauses: Pauses,
    wall: i64,
    queue: i64,
    /// The steady clock, if the scheduler gets its readings.
    steady: Option<i64>,
}

impl Model {
    fn new(limits: Limits, noticing: bool) -> Self {
        let steady = noticing.then_some(0);
        let pauses = Pauses::default();
        let (jobs, reservations, paused_until) = (vec![], vec![], BTreeMap::new());
        Self { limits, jobs, reservations, next_turn: 0, paused_until, pauses, wall: 0, queue: 0, steady }
    }

    fn turn(&mut self) -> u64 {
        self.next_turn += 1;
        self.next_turn
    }

    /// Whether an earlier job or reservation of its series exists.
    fn held(&self, series: Option<(u128, u64)>) -> bool {
        let Some((series, turn)) = series else { return false };
        let jobs = self.jobs.iter().filter_map(|job| job.series);
        let reservations = self.reservations.iter().map(|(_, series, turn)| (*series, *turn));
        jobs.chain(reservations).any(|(other, earlier)| other == series && earlier < turn)
    }

    /// Whether it is held, whatever its time is.
    fn waits(&self, job: &Known) -> bool {
        job.blocked || self.held(job.series)
    }

    /// Removes a job; those that only waited for it become ready at once.
    fn remove(&mut self, id: u32) {
        self.jobs.retain(|job| job.id != id);
        self.release_held();
    }

    fn release_held(&mut self) {
        let free: Vec<bool> = self.jobs.iter().map(|job| !self.waits(job)).collect();
        for (job, _) in self.jobs.iter_mut().zip(free).filter(|(job, free)| *free && job.start == Start::Now) {
            job.since = job.since.or(Some(job.enqueued));
        }
    }

    fn pass(&mut self, ms: i64) {
        self.wall += ms;
        self.queue += ms;
        self.steady = self.steady.map(|steady| steady + ms);
    }

    fn jump(&mut self, ms: i64) {
        self.wall += ms;
        if self.steady.is_none() || ms.abs() <= NOTICED_MS {
            self.queue += ms.max(0);
        }
    }

    fn limit(&self, lane: usize) -> usize {
        *self.limits.lanes.get(LANES[lane]).unwrap_or(&self.limits.per_lane)
    }

    fn running(&self, lane: Option<usize>) -> usize {
        self.jobs.iter().filter(|job| job.running && lane.is_none_or(|lane| job.lane == lane)).count()
    }

    fn pending(&self) -> usize {
        self.jobs.iter().filter(|job| !job.running).count()
    }

    fn is_paused(&self, lane: usize) -> bool {
        self.paused_until.get(&lane).is_some_and(|until| self.queue < *until)
    }

    /// The definition of the effective priority, multiplied by `aging` so that it is exact.
    fn effective(&self, job: &Known) -> i128 {
        let aging = self.limits.aging.as_millis() as i128;
        i128::from(job.priority) * aging + i128::from(self.queue - job.since.unwrap())
    }

    /// The ready jobs, the next one first.
    fn ready(&self) -> Vec<&Known> {
        let mut ready: Vec<&Known> = self.jobs.iter().filter(|job| job.since.is_some() && !job.running).collect();
        ready.sort_by_key(|job| -self.effective(job));
        ready
    }

    fn promote(&mut self) {
        let offset = self.queue - self.wall;
        let held: Vec<bool> = self.jobs.iter().map(|job| self.waits(job)).collect();
        let waiting = self.jobs.iter_mut().zip(held).filter(|(job, held)| job.since.is_none() && !held);
        for (job, _) in waiting {
            let due = match job.start {
                Start::Now => Some(job.enqueued),
                Start::At(time) => (time.as_ms() <= self.wall).then_some((time.as_ms() + offset).min(self.queue)),
                Start::After(time) => (time.as_ms() <= self.queue).then_some(time.as_ms()),
            };
            job.since = due.map(|due| due.max(job.enqueued));
        }
    }

    fn take(&mut self) -> Option<u32> {
        self.promote();
        if self.running(None) >= self.limits.global || self.pauses.all {
            return None;
        }
        let paused = |lane: usize| self.pauses.lanes.contains(LANES[lane]);
        let stands = |lane: usize| self.is_paused(lane) || paused(lane);
        let free = |job: &&Known| self.running(Some(job.lane)) < self.limit(job.lane) && !stands(job.lane);
        let id = self.ready().into_iter().find(free)?.id;
        self.jobs.iter_mut().find(|job| job.id == id)?.running = true;
        Some(id)
    }

    fn submit(&mut self, job: &Known, admit: Admit) -> Result<(), SubmitError> {
        let (pending, capacity) = (self.pending(), self.limits.capacity);
        if admit == Admit::Fresh && pending >= capacity {
            return Err(SubmitError::QueueFull { pending, capacity });
        }
        self.queue = self.queue.max(job.enqueued);
        let since = (job.start == Start::Now && !self.waits(job)).then_some(job.enqueued);
        self.jobs.push(Known { since, ..job.clone() });
        Ok(())
    }

    fn state_of(&self, job: &Known) -> State {
        match (job.running, job.since) {
            (true, _) => State::Running,
            (false, Some(_)) => State::Ready,
            (false, None) if self.waits(job) => State::Held,
            (false, None) => State::Scheduled,
        }
    }

    /// The next wake-up, and whether it may also be any time that is over: a timed pause that has ended
    /// counts until the scheduler next looks for work, or removes the lane.
    fn next_wakeup(&self) -> (Option<i64>, bool) {
        let offset = self.queue - self.wall;
        let ready = self.ready();
        let waiting = self.jobs.iter().filter(|job| job.since.is_none() && !self.waits(job));
        let scheduled = waiting.map(|job| match job.start {
            Start::At(time) => time.as_ms(),
            Start::After(time) => time.as_ms() - offset,
            Start::Now => unreachable!("ready at once"),
        });
        let held = self.paused_until.iter().filter(|(lane, _)| ready.iter().any(|job| job.lane == **lane));
        let (over, open): (Vec<i64>, Vec<i64>) = held.map(|(_, until)| *until).partition(|until| *until <= self.queue);
        let next = scheduled.chain(open.into_iter().map(|until| until - offset)).min();
        (next, !over.is_empty())
    }
}

fn limits() -> impl Strategy<Value = Limits> {
    let lanes = prop::collection::btree_map(prop::sample::select(&LANES[..]), 0_usize..4, 0..3);
    (0_usize..5, 0_usize..4, lanes, 0_usize..12, 1_u64..3000).prop_map(|(global, per_lane, lanes, capacity, aging)| {
        let lanes = lanes.into_iter().map(|(name, limit)| (name.to_owned(), limit)).collect();
        Limits { global, per_lane, lanes, capacity, aging: Duration::from_millis(aging) }
    })
}

fn step() -> impl Strategy<Value = Step> {
    let start = prop_oneof![
        4 => Just(Begin::Now),
        1 => (-500_i64..3000).prop_map(Begin::At),
        1 => (-500_i64..3000).prop_map(Begin::After),
    ];
    let admit = prop_oneof![3 => Just(Admit::Fresh), 1 => Just(Admit::Readmitted)];
    // Coarse steps of time, so that equal keys are common.
    let enqueued = prop_oneof![6 => Just(0_i64), 2 => (-20_i64..1).prop_map(|n| n * 100), 1 => 1_i64..2000];
    let series = prop_oneof![1 => Just(None), 2 => (0..SERIES).prop_map(Some)];
    prop_oneof![
        8 => (0..LANES.len(), series, -10..=10_i32, enqueued, start.clone(), prop::bool::weighted(0.2), admit).prop_map(
            |(lane, series, priority, enqueued, start, blocked, admit)| {
                Step::Submit { lane, series, priority, enqueued, start, blocked, admit }
            }
        ),
        2 => any::<usize>().prop_map(Step::Unblock),
        2 => (any::<usize>(), -10..=10_i32).prop_map(|(job, priority)| Step::Reprioritize { job, priority }),
        1 => (prop::bool::weighted(0.3), prop::option::of(0..LANES.len()))
            .prop_map(|(all, lane)| Step::Pause { all, lane }),
        2 => (0..SERIES).prop_map(Step::Reserve),
        2 => (any::<usize>(), 0..LANES.len(), start).prop_map(|(reservation, lane, start)| Step::Fill { reservation, lane, start }),
        1 => any::<usize>().prop_map(Step::Release),
        1 => any::<usize>().prop_map(Step::Duplicate),
        4 => Just(Step::Take),
        2 => Just(Step::TakeAll),
        4 => any::<usize>().prop_map(Step::Finish),
        1 => (any::<usize>(), 0_i64..2000).prop_map(|(running, delay)| Step::Retry { running, delay }),
        2 => any::<usize>().prop_map(Step::Cancel),
        1 => (0..LANES.len(), -100_i64..2000).prop_map(|(lane, for_ms)| Step::PauseLaneUntil { lane, for_ms }),
        1 => (0..LANES.len()).prop_map(Step::ResumeLane),
        1 => limits().prop_map(Step::Limit),
        4 => (0_i64..12).prop_map(|n| Step::Pass(n * 100)),
        1 => prop_oneof![Just(-DAY_MS), Just(DAY_MS), -50_i64..0].prop_map(Step::Jump),
    ]
}

fn nth<T>(items: &[T], index: usize) -> Option<&T> {
    if items.is_empty() { None } else { items.get(index % items.len()) }
}

struct Pair {
    real: Scheduler<u32>,
    model: Model,
    next_id: u32,
}

impl Pair {
    fn new(limits: Limits, noticing: bool) -> Self {
        let model = Model::new(limits.clone(), noticing);
        let mut pair = Self { real: Scheduler::new(limits), model, next_id: 0 };
        pair.read_clocks();
        pair
    }

    fn now(&self) -> Time {
        Time::from_ms(self.model.wall)
    }

    fn read_clocks(&mut self) {
        let now = self.now();
        if let Some(steady) = self.model.steady {
            self.real.notice_clock(now, Duration::from_millis(u64::try_from(steady).unwrap()));
        }
        assert_eq!(self.real.queue_time(now).as_ms(), self.model.queue);
    }

    fn submit(&mut self, known: &Known, admit: Admit) {
        assert_eq!(self.real.submit(job(known, admit), self.now()), self.model.submit(known, admit));
    }

    fn start(&self, begin: Begin) -> Start {
        match begin {
            Begin::Now => Start::Now,
            Begin::At(ms) => Start::At(Time::from_ms(self.model.wall + ms)),
            Begin::After(ms) => Start::After(Time::from_ms(self.model.queue + ms)),
        }
    }

    fn run(&mut self, step: &Step) {
        self.read_clocks();
        let now = self.now();
        match step {
            Step::Submit { lane, series, priority, enqueued, start, blocked, admit } => {
                let start = self.start(*start);
                self.next_id += 1;
                let series = series.map(|series| (series, self.model.turn()));
                let (id, enqueued) = (self.next_id, self.model.queue + enqueued);
                let (lane, priority, blocked) = (*lane, *priority, *blocked);
                let known = Known { id, lane, series, priority, enqueued, start, blocked, since: None, running: false };
                self.submit(&known, *admit);
            }
            Step::Unblock(index) => {
                let blocked: Vec<u32> = self.model.jobs.iter().filter(|job| job.blocked).map(|job| job.id).collect();
                if let Some(id) = nth(&blocked, *index).copied() {
                    assert!(self.real.unblock(&id, now));
                    assert!(!self.real.unblock(&id, now), "it is not blocked any more");
                    self.model.jobs.iter_mut().find(|job| job.id == id).unwrap().blocked = false;
                    self.model.release_held();
                }
            }
            Step::Reprioritize { job, priority } => {
                assert_eq!(self.real.set_priority(&u32::MAX, 0), None);
                if let Some(known) = nth(&self.model.jobs, *job).cloned() {
                    assert_eq!(self.real.set_priority(&known.id, *priority), Some(self.model.state_of(&known)));
                    let changed = self.model.jobs.iter_mut().find(|job| job.id == known.id && !job.running);
                    changed.into_iter().for_each(|job| job.priority = *priority);
                }
            }
            Step::Pause { all, lane } => {
                let lanes = lane.iter().map(|lane| LANES[*lane].to_owned()).collect();
                let pauses = Pauses { all: *all, lanes };
                self.real.set_pauses(pauses.clone());
                self.model.pauses = pauses;
            }
            Step::Reserve(series) => {
                self.next_id += 1;
                self.real.reserve(Uuid::from_u128(*series), &self.next_id);
                let turn = self.model.turn();
                self.model.reservations.push((self.next_id, *series, turn));
            }
            Step::Fill { reservation, lane, start } => {
                if let Some((id, series, turn)) = nth(&self.model.reservations, *reservation).copied() {
                    self.model.reservations.retain(|reservation| reservation.0 != id);
                    let (series, start) = (Some((series, turn)), self.start(*start));
                    let (lane, enqueued, blocked) = (*lane, self.model.queue, false);
                    let (priority, since, running) = (0, None, false);
                    let known = Known { id, lane, series, priority, enqueued, start, blocked, since, running };
                    self.submit(&known, Admit::Readmitted);
                }
            }
            Step::Release(index) => {
                if let Some((id, series, _)) = nth(&self.model.reservations, *index).copied() {
                    let free = |model: &Model| model.jobs.iter().filter(|job| !model.waits(job)).count();
                    let before = free(&self.model);
                    self.model.reservations.retain(|reservation| reservation.0 != id);
                    self.model.release_held();
                    let others_start = free(&self.model) > before;
                    assert_eq!(self.real.release(Uuid::from_u128(series), &id, now), others_start);
                }
            }
            Step::Duplicate(index) => {
                if let Some(known) = nth(&self.model.jobs, *index) {
                    let twice = job(known, Admit::Readmitted);
                    assert_eq!(self.real.submit(twice, now), Err(SubmitError::Duplicate));
                    assert!(!self.real.release(Uuid::nil(), &known.id, now), "its reservation is used");
                }
            }
            Step::Take => assert_eq!(self.real.take_ready(now), self.model.take()),
            Step::TakeAll => loop {
                let taken = self.real.take_ready(now);
                assert_eq!(taken, self.model.take());
                if taken.is_none() {
                    break;
                }
            },
            Step::Finish(index) => {
                if let Some(id) = self.nth_running(*index) {
                    assert!(self.real.finished(&id, now));
                    assert!(!self.real.finished(&id, now), "a slot is freed once");
                    self.model.remove(id);
                }
            }
            Step::Retry { running, delay } => {
                if let Some(id) = self.nth_running(*running) {
                    let known = self.model.jobs.iter().find(|job| job.id == id).unwrap().clone();
                    let start = Start::After(Time::from_ms(self.model.queue + delay));
                    let again = Known { start, since: None, running: false, blocked: false, ..known };
                    // Its series is known to the scheduler.
                    assert!(self.real.requeue(Job { series: None, ..job(&again, Admit::Readmitted) }, now));
                    assert!(!self.real.requeue(job(&again, Admit::Readmitted), now), "it holds no slot any more");
                    self.model.jobs.retain(|job| job.id != id);
                    self.model.submit(&again, Admit::Readmitted).unwrap();
                }
            }
            Step::Cancel(index) => {
                assert_eq!(self.real.cancel(&u32::MAX, now), None);
                if let Some(job) = nth(&self.model.jobs, *index).cloned() {
                    let state = self.real.cancel(&job.id, now);
                    assert_eq!(state, Some(self.model.state_of(&job)));
                    if !job.running {
                        self.model.remove(job.id);
                        assert!(!self.real.finished(&job.id, now), "a job that waited holds no slot");
                    }
                }
            }
            Step::PauseLaneUntil { lane, for_ms } => {
                self.real.pause_lane_until(LANES[*lane], Time::from_ms(self.model.wall + for_ms), now);
                if *for_ms > 0 {
                    let until = self.model.paused_until.entry(*lane).or_insert(i64::MIN);
                    *until = (*until).max(self.model.queue + for_ms);
                }
            }
            Step::ResumeLane(lane) => {
                self.real.resume_lane(LANES[*lane], now);
                self.model.paused_until.remove(lane);
            }
            Step::Limit(limits) => {
                self.real.set_limits(limits.clone());
                self.model.limits = limits.clone();
            }
            Step::Pass(ms) => self.model.pass(*ms),
            Step::Jump(ms) => self.model.jump(*ms),
        }
        // Timed pauses that are over have no effect; the scheduler clears them when it next looks for work.
        if matches!(step, Step::Take | Step::TakeAll) {
            let queue = self.model.queue;
            self.model.paused_until.retain(|_, until| queue < *until);
        }
        self.compare();
    }

    /// Running jobs of each lane, as the scheduler says.
    fn running(&self) -> BTreeMap<String, usize> {
        let lanes = self.real.snapshot(self.now()).lanes;
        lanes.into_iter().map(|lane| (lane.name.to_string(), lane.running)).collect()
    }

    fn nth_running(&self, index: usize) -> Option<u32> {
        let running: Vec<u32> = self.model.jobs.iter().filter(|job| job.running).map(|job| job.id).collect();
        nth(&running, index).copied()
    }

    fn compare(&mut self) {
        self.read_clocks();
        let now = self.now();
        let (real, model) = (&mut self.real, &self.model);
        assert_eq!(real.pending(), model.pending());
        assert_eq!(real.running(), model.running(None));
        assert_eq!(real.is_idle(), model.jobs.is_empty());
        for job in &model.jobs {
            assert_eq!(real.state(&job.id), Some(model.state_of(job)));
            assert!(!job.running || !model.waits(job), "it runs beside one of its series, or is blocked");
        }
        let wakeup = real.next_wakeup().map(Time::as_ms);
        let (expected, or_over) = model.next_wakeup();
        let over = or_over && wakeup.is_some_and(|time| time <= model.wall);
        assert!(wakeup == expected || over, "{wakeup:?} instead of {expected:?}");

        let snapshot = real.snapshot(now);
        assert_eq!(snapshot.jobs.len(), model.jobs.len());
        let in_state = |state| model.jobs.iter().filter(|job| model.state_of(job) == state).count();
        let counts = Counts {
            running: in_state(State::Running),
            ready: in_state(State::Ready),
            scheduled: in_state(State::Scheduled),
            held: in_state(State::Held),
        };
        assert_eq!(real.counts(), counts);
        for view in &snapshot.jobs {
            assert_eq!(real.view(&view.id, now).as_ref(), Some(view));
        }
        let ready: Vec<_> = snapshot.jobs.iter().filter(|view| view.state == State::Ready).collect();
        let expected = model.ready();
        assert_eq!(ready.len(), expected.len());
        let mut in_lane = [0; LANES.len()];
        for (index, (view, job)) in ready.iter().zip(&expected).enumerate() {
            assert_eq!(view.id, job.id);
            in_lane[job.lane] += 1;
            let position = Some(QueuePosition { in_lane: in_lane[job.lane], overall: index + 1 });
            assert_eq!((view.position, real.position(&job.id)), (position, position));
            let effective = model.effective(job) as f64 / model.limits.aging.as_millis() as f64;
            assert!((view.effective_priority - effective).abs() < 1e-6);
            assert_eq!(real.effective_priority(&job.id, now), Some(view.effective_priority));
        }
        for (index, name) in LANES.iter().enumerate() {
            let view = snapshot.lanes.iter().find(|lane| *lane.name == **name);
            let count = |state| snapshot.jobs.iter().filter(|v| *v.lane == **name && v.state == state).count();
            let shown = view.map_or((0, 0), |lane| (lane.ready, lane.running));
            assert_eq!(shown, (count(State::Ready), count(State::Running)));
            assert_eq!(shown.1, model.running(Some(index)));
            assert_eq!(view.is_some_and(|lane| lane.paused_until.is_some()), model.is_paused(index));
        }
    }
}

fn job(known: &Known, admit: Admit) -> Job<u32> {
    Job {
        id: known.id,
        lane: LANES[known.lane].to_owned(),
        series: known.series.map(|(series, _)| Uuid::from_u128(series)),
        priority: known.priority,
        enqueued_at: Time::from_ms(known.enqueued),
        arrival: 0,
        start: known.start,
        blocked: known.blocked,
        admit,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_model(
        limits in limits(),
        noticing in any::<bool>(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut pair = Pair::new(limits, noticing);
        for step in &steps {
            pair.run(step);
        }
    }

    /// No job starts beyond the limits that are in force at that moment.
    #[test]
    fn running_jobs_never_exceed_the_limits(
        limits in limits(),
        noticing in any::<bool>(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut pair = Pair::new(limits, noticing);
        for step in &steps {
            let before = pair.running();
            pair.run(step);
            let after = pair.running();
            let limits = pair.real.limits();
            if after.values().sum::<usize>() > before.values().sum() {
                prop_assert!(after.values().sum::<usize>() <= limits.global);
            }
            for (lane, running) in after {
                let limit = limits.lanes.get(&lane).copied().unwrap_or(limits.per_lane);
                prop_assert!(running <= before.get(&lane).copied().unwrap_or(0).max(limit));
            }
        }
    }
}
