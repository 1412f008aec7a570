#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::{Admit, Job, Limits, QueueClock, QueuePosition, Scheduler, Start, State, SubmitError, Time};

const DAY_MS: i64 = 86_400_000;

fn limits(global: usize, per_lane: usize) -> Limits {
    Limits { global, per_lane, lanes: BTreeMap::new(), capacity: 512, aging: Duration::from_secs(30) }
}

fn ms(ms: i64) -> Time {
    Time::from_ms(ms)
}

fn job(id: u64, lane: &str, priority: i32, enqueued_at: Time) -> Job<u64> {
    let (lane, series) = (lane.to_owned(), None);
    Job { id, lane, series, priority, enqueued_at, arrival: 0, start: Start::Now, blocked: false, admit: Admit::Fresh }
}

fn submit(queue: &mut Scheduler<u64>, id: u64, lane: &str, priority: i32, now: Time) {
    let enqueued_at = queue.queue_time(now);
    queue.submit(job(id, lane, priority, enqueued_at), now).unwrap();
}

fn take_all(queue: &mut Scheduler<u64>, now: Time) -> Vec<u64> {
    std::iter::from_fn(|| queue.take_ready(now)).collect()
}

#[test]
fn equal_jobs_start_in_order_of_submission() {
    let mut queue = Scheduler::new(limits(1, 1));
    for id in 0..50 {
        submit(&mut queue, id, "codex", 0, ms(1000));
    }
    for id in 0..50 {
        assert_eq!(queue.take_ready(ms(2000)), Some(id));
        assert!(queue.finished(&id, ms(2000)));
    }
    assert!(queue.is_idle());
}

/// The stored order counts, not the order in which threads submit their jobs.
#[test]
fn equal_jobs_start_in_order_of_arrival_number() {
    let mut queue = Scheduler::new(limits(1, 1));
    for id in [3, 1, 4, 0, 2] {
        let start = if id < 3 { Start::Now } else { Start::At(ms(2000)) };
        queue.submit(Job { arrival: id, start, ..job(id, "codex", 0, ms(2000)) }, ms(1000)).unwrap();
        assert_eq!(queue.arrival(&id), Some(id));
    }
    for id in 0..5 {
        assert_eq!(queue.take_ready(ms(2000)), Some(id));
        assert!(queue.finished(&id, ms(2000)));
    }
}

#[test]
fn lowest_priority_passes_a_fresh_highest_after_ten_minutes() {
    let before = Duration::from_secs(600) - Duration::from_millis(1);
    for (waited, first) in [(before, 2), (Duration::from_secs(600), 1)] {
        let mut queue = Scheduler::new(limits(1, 1));
        submit(&mut queue, 1, "codex", -10, ms(0));
        let now = ms(0).after(waited);
        submit(&mut queue, 2, "codex", 10, now);
        assert_eq!(queue.take_ready(now), Some(first), "after {waited:?}");
    }
}

/// Submits a job of the highest priority each second; each runs for a second.
fn seconds_until_the_lowest_starts(wall: impl Fn(i64) -> Time) -> i64 {
    let mut queue = Scheduler::new(limits(1, 1));
    submit(&mut queue, 0, "codex", -10, wall(0));
    for second in 0..100_000_i64 {
        let now = wall(second);
        submit(&mut queue, u64::try_from(second).unwrap() + 1, "codex", 10, now);
        let id = queue.take_ready(now).expect("the slot is free");
        if id == 0 {
            return second;
        }
        queue.finished(&id, now);
    }
    panic!("it starved");
}

#[test]
fn lowest_priority_starts_in_time_despite_clock_jumps() {
    assert_eq!(seconds_until_the_lowest_starts(|second| ms(second * 1000)), 600);
    let back = |second: i64| ms(second * 1000 - if second > 100 { DAY_MS } else { 0 });
    assert!((600..=602).contains(&seconds_until_the_lowest_starts(back)));
    let to_and_fro = |second: i64| ms(second * 1000 - if (second / 50) % 2 == 1 { DAY_MS } else { 0 });
    assert!(seconds_until_the_lowest_starts(to_and_fro) <= 602);
}

#[test]
fn busy_lane_does_not_block_another() {
    let mut queue = Scheduler::new(limits(2, 1));
    for id in 0..10 {
        submit(&mut queue, id, "codex", 10, ms(0));
    }
    submit(&mut queue, 99, "claude", -10, ms(0));
    assert_eq!(take_all(&mut queue, ms(0)), [0, 99]);
    queue.finished(&99, ms(1));
    assert_eq!(take_all(&mut queue, ms(1)), [0_u64; 0], "the free slot is not codex's");
}

#[test]
fn full_queue_rejects_only_fresh_jobs() {
    let mut queue = Scheduler::new(Limits { capacity: 512, ..limits(2, 2) });
    submit(&mut queue, 10_000, "codex", 0, ms(0));
    submit(&mut queue, 10_001, "codex", 0, ms(0));
    assert_eq!(take_all(&mut queue, ms(0)).len(), 2);
    let later = Start::At(ms(DAY_MS));
    let (mut accepted, mut refused) = (0, 0);
    for id in 0..600 {
        let start = if id % 3 == 0 { later } else { Start::Now };
        match queue.submit(Job { start, ..job(id, "codex", 0, ms(0)) }, ms(0)) {
            Ok(()) => accepted += 1,
            Err(SubmitError::QueueFull { pending, capacity }) => {
                assert_eq!((pending, capacity), (512, 512));
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((accepted, refused), (512, 88));
    assert!(queue.check_capacity(0).is_err());
    queue.submit(Job { admit: Admit::Readmitted, ..job(9999, "codex", 0, ms(0)) }, ms(0)).unwrap();
    assert_eq!(queue.pending(), 513);
    // One below the limit, a job is accepted again.
    assert_eq!(queue.cancel(&0, ms(0)), Some(State::Scheduled));
    assert!(queue.check_capacity(0).is_err());
    assert_eq!(queue.cancel(&1, ms(0)), Some(State::Ready));
    assert!(queue.check_capacity(0).is_ok());
}

#[test]
fn paused_lane_waits_while_others_run() {
    let mut queue = Scheduler::new(limits(2, 2));
    submit(&mut queue, 1, "codex", 10, ms(0));
    submit(&mut queue, 2, "claude", 0, ms(0));
    queue.pause_lane_until("codex", ms(5000), ms(0));
    queue.pause_lane_until("codex", ms(3000), ms(0));
    assert_eq!(take_all(&mut queue, ms(0)), [2]);
    assert_eq!(queue.next_wakeup(), Some(ms(5000)));
    assert_eq!(take_all(&mut queue, ms(4999)), [0_u64; 0]);
    assert_eq!(take_all(&mut queue, ms(5000)), [1]);
    assert_eq!(queue.next_wakeup(), None);
}

#[test]
fn timed_pause_without_jobs_is_kept_without_wakeup() {
    let mut queue = Scheduler::new(limits(2, 2));
    queue.pause_lane_until("codex", ms(5000), ms(0));
    assert_eq!(queue.take_ready(ms(10)), None);
    assert_eq!(queue.next_wakeup(), None);
    submit(&mut queue, 1, "codex", 0, ms(100));
    assert_eq!(queue.take_ready(ms(100)), None);
    assert_eq!(queue.snapshot(ms(100)).lanes[0].paused_until, Some(ms(5000)));
    queue.resume_lane("codex", ms(100));
    assert_eq!(queue.take_ready(ms(100)), Some(1));
}

#[test]
fn clock_set_back_does_not_extend_retry_delay_or_pause() {
    let mut queue = Scheduler::new(limits(2, 2));
    let start = Start::After(queue.queue_time(ms(DAY_MS)).after(Duration::from_secs(1)));
    queue.submit(Job { start, admit: Admit::Readmitted, ..job(1, "codex", 0, ms(DAY_MS)) }, ms(DAY_MS)).unwrap();
    submit(&mut queue, 2, "claude", 0, ms(DAY_MS));
    queue.pause_lane_until("claude", ms(DAY_MS + 2000), ms(DAY_MS));
    // The clock goes back by a day, then a second passes, then another.
    assert_eq!(queue.take_ready(ms(0)), None);
    assert_eq!(queue.next_wakeup(), Some(ms(1000)));
    assert_eq!(take_all(&mut queue, ms(1000)), [1]);
    assert_eq!(take_all(&mut queue, ms(2000)), [2]);
}

#[test]
fn setting_the_clock_changes_neither_delays_nor_aging() {
    for set_to in [ms(-DAY_MS), ms(DAY_MS)] {
        let mut queue = Scheduler::new(limits(2, 1));
        assert!(!queue.notice_clock(ms(0), Duration::from_secs(7)), "there is nothing to compare with");
        let start = Start::After(queue.queue_time(ms(0)).after(Duration::from_secs(10)));
        queue.submit(Job { start, ..job(1, "codex", 0, ms(0)) }, ms(0)).unwrap();
        submit(&mut queue, 2, "claude", -1, ms(0));
        queue.pause_lane_until("claude", ms(20_000), ms(0));
        assert!(!queue.notice_clock(ms(1000), Duration::from_secs(8)));

        assert!(queue.notice_clock(set_to, Duration::from_secs(8)), "it was set");
        assert_eq!(queue.queue_time(set_to), ms(1000), "queue time does not follow");
        assert_eq!(queue.take_ready(set_to), None);
        assert_eq!(queue.next_wakeup(), Some(set_to.after(Duration::from_secs(9))));
        let delayed = set_to.after(Duration::from_secs(9));
        assert!(!queue.notice_clock(delayed, Duration::from_secs(17)));
        assert_eq!(take_all(&mut queue, delayed), [1]);
        let after_the_pause = set_to.after(Duration::from_secs(19));
        // Twenty seconds of waiting are less than a step of priority: the new job goes first.
        submit(&mut queue, 3, "claude", 0, after_the_pause);
        assert_eq!(take_all(&mut queue, after_the_pause), [3]);
        assert_eq!(queue.waited(&2, after_the_pause), Some(Duration::from_secs(20)));
        assert_eq!(queue.waited(&3, after_the_pause), Some(Duration::ZERO));
    }
}

#[test]
fn time_in_suspend_counts() {
    let mut queue = Scheduler::new(limits(1, 1));
    queue.notice_clock(ms(0), Duration::from_secs(7));
    submit(&mut queue, 1, "codex", -10, ms(0));
    let awake = ms(DAY_MS);
    assert!(!queue.notice_clock(awake, Duration::from_secs(7 + 86_400)));
    submit(&mut queue, 2, "codex", 10, awake);
    assert_eq!(queue.take_ready(awake), Some(1));
}

#[test]
fn scheduled_time_follows_the_wall_clock() {
    let mut queue = Scheduler::new(limits(1, 1));
    queue.submit(Job { start: Start::At(ms(5000)), ..job(1, "codex", 0, ms(1000)) }, ms(1000)).unwrap();
    assert_eq!(queue.state(&1), Some(State::Scheduled));
    assert_eq!(queue.position(&1), None);
    // The clock is set back: the job still waits for its time of day.
    assert_eq!(queue.take_ready(ms(-DAY_MS)), None);
    assert_eq!(queue.next_wakeup(), Some(ms(5000)));
    assert_eq!(queue.take_ready(ms(4999)), None);
    assert_eq!(queue.take_ready(ms(5000)), Some(1));
}

#[test]
fn waiting_for_a_time_does_not_age() {
    let mut queue = Scheduler::new(limits(1, 1));
    queue.submit(Job { start: Start::At(ms(DAY_MS)), ..job(1, "codex", 0, ms(0)) }, ms(0)).unwrap();
    submit(&mut queue, 2, "codex", 1, ms(DAY_MS));
    assert_eq!(queue.effective_priority(&1, ms(DAY_MS)), Some(0.0));
    assert_eq!(queue.take_ready(ms(DAY_MS)), Some(2));
    assert_eq!(queue.effective_priority(&1, ms(DAY_MS + 60_000)), Some(2.0));
}

#[test]
fn restart_keeps_the_order() {
    let stored = [(1, 0, 0), (2, 5, 10_000), (3, -3, 20_000), (4, 0, 20_000), (5, 0, 20_000), (6, 10, 400_000)];
    let mut before = Scheduler::new(limits(1, 1));
    for (id, priority, at) in stored {
        submit(&mut before, id, "codex", priority, ms(at));
    }
    // With a correct clock, and with a clock that was set back by a day while no host ran.
    for now in [ms(500_000), ms(500_000 - DAY_MS)] {
        let mut after = Scheduler::new(limits(1, 1));
        for (id, priority, at) in stored {
            let job = Job { admit: Admit::Readmitted, ..job(id, "codex", priority, ms(at)) };
            after.submit(job, now).unwrap();
        }
        let order = |queue: &mut Scheduler<u64>, now: Time| {
            std::iter::from_fn(|| {
                let id = queue.take_ready(now)?;
                queue.finished(&id, now);
                Some(id)
            })
            .collect::<Vec<_>>()
        };
        // A new job of equal priority does not pass those that waited.
        let newcomer = after.queue_time(now);
        after.submit(job(99, "codex", 0, newcomer), now).unwrap();
        let mut expected = order(&mut before, ms(500_000));
        let got = order(&mut after, now);
        if !expected.is_empty() {
            expected.push(99);
            assert_eq!(got, expected);
        } else {
            assert_eq!(got.last(), Some(&99));
        }
    }
}

#[test]
fn limits_change_while_jobs_wait_and_run() {
    let mut queue = Scheduler::new(limits(3, 3));
    for id in 0..6 {
        submit(&mut queue, id, "codex", 0, ms(0));
    }
    assert_eq!(take_all(&mut queue, ms(0)), [0, 1, 2]);
    queue.set_limits(limits(1, 1));
    queue.finished(&0, ms(1));
    queue.finished(&1, ms(1));
    assert_eq!(take_all(&mut queue, ms(1)), [0_u64; 0], "one runs, one may");
    queue.finished(&2, ms(1));
    assert_eq!(take_all(&mut queue, ms(1)), [3]);
    queue.set_limits(Limits { lanes: BTreeMap::from([("codex".to_owned(), 2)]), ..limits(5, 1) });
    assert_eq!(take_all(&mut queue, ms(1)), [4]);
    queue.set_limits(limits(0, 9));
    assert_eq!(take_all(&mut queue, ms(1)), [0_u64; 0]);
}

#[test]
fn changed_aging_time_reorders_waiting_jobs() {
    let mut queue = Scheduler::new(limits(1, 1));
    submit(&mut queue, 1, "codex", 0, ms(0));
    submit(&mut queue, 2, "codex", 2, ms(30_000));
    assert_eq!(queue.position(&2), Some(QueuePosition { in_lane: 1, overall: 1 }));
    queue.set_limits(Limits { aging: Duration::from_secs(10), ..limits(1, 1) });
    assert_eq!(queue.position(&2), Some(QueuePosition { in_lane: 2, overall: 2 }));
    assert_eq!(queue.take_ready(ms(30_000)), Some(1));
}

#[test]
fn cancel_works_in_every_state() {
    let mut queue = Scheduler::new(limits(1, 1));
    submit(&mut queue, 1, "codex", 0, ms(0));
    submit(&mut queue, 2, "codex", 0, ms(0));
    queue.submit(Job { start: Start::At(ms(9000)), ..job(3, "codex", 0, ms(0)) }, ms(0)).unwrap();
    assert_eq!(queue.take_ready(ms(0)), Some(1));
    assert_eq!(queue.cancel(&1, ms(0)), Some(State::Running));
    assert_eq!(queue.take_ready(ms(0)), None, "it holds its slot until it has ended");
    assert_eq!(queue.cancel(&2, ms(0)), Some(State::Ready));
    assert_eq!(queue.cancel(&3, ms(0)), Some(State::Scheduled));
    assert_eq!(queue.cancel(&3, ms(0)), None);
    assert!(queue.finished(&1, ms(0)));
    assert!(queue.is_idle());
    assert_eq!(queue.next_wakeup(), None);
    assert_eq!(queue.snapshot(ms(0)).lanes, [], "lanes do not pile up");
}

#[test]
fn extreme_values_neither_panic_nor_stop_the_clock() {
    let mut queue = Scheduler::new(Limits { aging: Duration::MAX, ..limits(9, 9) });
    let extremes = [i64::MIN, -1, 0, 1, i64::MAX];
    let mut id = 0;
    for at in extremes {
        for priority in [i32::MIN, i32::MAX] {
            for start in [Start::Now, Start::At(ms(at)), Start::After(ms(at))] {
                id += 1;
                queue.submit(Job { start, ..job(id, "codex", priority, ms(at)) }, ms(1000)).unwrap();
            }
        }
    }
    for now in extremes {
        queue.take_ready(ms(now));
        let _ = queue.next_wakeup();
        let _ = queue.snapshot(ms(now));
    }
    let mut queue = Scheduler::new(limits(1, 1));
    queue.submit(Job { admit: Admit::Readmitted, ..job(1, "codex", 0, ms(i64::MAX)) }, ms(1000)).unwrap();
    assert_eq!(queue.queue_time(ms(2000)), ms(2000), "a damaged time is not believed");
}

#[test]
fn queue_clock_never_runs_backwards() {
    let mut clock = QueueClock::default();
    for steady in [Duration::MAX, Duration::ZERO] {
        for wall in [i64::MIN, i64::MAX] {
            let mut extreme = QueueClock::default();
            extreme.notice(ms(0), Duration::from_secs(1));
            extreme.notice(ms(wall), steady);
            extreme.observe(ms(wall));
        }
    }
    let walls = [100, 200, 50, 60, 55, 1000, 10];
    let times: Vec<i64> = walls.iter().map(|wall| clock.observe(ms(*wall)).as_ms()).collect();
    assert_eq!(times, [100, 200, 200, 210, 210, 1155, 1155]);
    assert_eq!(clock.wall_time(clock.queue_time(ms(77))), ms(77));
    assert_eq!(clock.catch_up(ms(10), ms(2000)), ms(2000));
    assert_eq!(clock.observe(ms(11)), ms(2001));
}

/// Compares the cost of one operation with a hundred thousand jobs and with a thousand: it grows with the logarithm.
#[test]
fn operations_stay_fast_in_a_long_queue() {
    let time_for = |waiting: u64| {
        let mut queue = Scheduler::new(Limits { capacity: usize::MAX, ..limits(1, 1) });
        for id in 0..waiting {
            let lane = ["a", "b", "c", "d"][usize::try_from(id % 4).unwrap()];
            let priority = i32::try_from(id % 21).unwrap() - 10;
            submit(&mut queue, id, lane, priority, ms(i64::try_from(id).unwrap()));
        }
        let now = ms(i64::try_from(waiting).unwrap());
        let rounds = 500;
        let begin = Instant::now();
        for round in 0..rounds {
            let id = queue.take_ready(now).unwrap();
            queue.finished(&id, now);
            submit(&mut queue, waiting + round, "a", 0, now);
            queue.cancel(&(waiting + round), now);
        }
        begin.elapsed()
    };
    let (short, long) = (time_for(1000), time_for(100_000));
    assert!(long < short * 50 + Duration::from_millis(200), "{short:?} grew to {long:?}");
}

#[test]
fn series_runs_one_by_one_without_delaying_others() {
    let mut queue = Scheduler::new(limits(3, 2));
    let talk = Some(Uuid::from_u128(1));
    for id in 1..=3 {
        queue.submit(Job { series: talk, ..job(id, "codex", 10, ms(0)) }, ms(0)).unwrap();
    }
    submit(&mut queue, 4, "codex", -10, ms(0));
    submit(&mut queue, 5, "codex", -10, ms(0));
    assert_eq!(queue.state(&2), Some(State::Held));
    assert_eq!((queue.position(&2), queue.next_wakeup()), (None, None));
    assert_eq!(take_all(&mut queue, ms(0)), [1, 4], "the second slot goes to another job");
    // The first is retried: the later ones wait for that.
    let again = Job { start: Start::After(ms(500)), ..job(1, "codex", 10, ms(10)) };
    assert!(queue.requeue(again, ms(10)));
    assert_eq!(take_all(&mut queue, ms(10)), [5]);
    queue.finished(&4, ms(20));
    assert_eq!(take_all(&mut queue, ms(499)), [0_u64; 0]);
    assert_eq!(take_all(&mut queue, ms(500)), [1]);
    // One in the middle is canceled; the last follows the first.
    assert_eq!(queue.cancel(&2, ms(500)), Some(State::Held));
    assert!(queue.finished(&1, ms(600)));
    queue.finished(&5, ms(600));
    assert_eq!(take_all(&mut queue, ms(600)), [3]);
    queue.finished(&3, ms(700));
    assert!(queue.is_idle());
}

#[test]
fn reservation_keeps_the_order_of_a_series() {
    let mut queue = Scheduler::new(limits(3, 3));
    let talk = Uuid::from_u128(1);
    let of_talk = |id| Job { series: Some(talk), ..job(id, "codex", 0, ms(0)) };
    queue.reserve(talk, &1);
    queue.reserve(talk, &2);
    queue.reserve(talk, &3);
    // The second is submitted first.
    queue.submit(of_talk(2), ms(0)).unwrap();
    assert_eq!(take_all(&mut queue, ms(0)), [0_u64; 0]);
    queue.submit(of_talk(3), ms(0)).unwrap();
    assert!(queue.release(talk, &1, ms(0)), "the second may start now");
    assert!(!queue.release(talk, &1, ms(0)));
    assert_eq!(take_all(&mut queue, ms(0)), [2]);
    queue.finished(&2, ms(1));
    assert_eq!(take_all(&mut queue, ms(1)), [3]);
}
