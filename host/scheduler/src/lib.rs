//! Decides which waiting job runs next.
//!
//! A pure data structure: no I/O, no timer, no task. The caller reports events and clock readings, and asks which
//! job may start. It guarantees four properties:
//!
//! 1. **Slots.** At most `global` jobs run at a time, and at most the lane's own limit in each lane (a lane is a
//!    provider instance). A busy or paused lane never blocks a free slot for another.
//! 2. **Order.** The effective priority of a waiting job is `priority + waited / aging`. It grows at the same rate for
//!    all jobs, so the order of two waiting jobs never changes, and the static key `since − priority × aging` replaces
//!    it: each lane is a B-tree on that key, and the next job is the least key among the lanes that have a slot.
//!    Nothing is recomputed as time passes, and every operation costs O(log n) (listing and ranking cost O(n)). Equal
//!    jobs leave in the order of their arrival numbers, which the caller assigns. Because every step of priority is
//!    worth a fixed time, no job starves: after `20 × aging`, a job of the lowest priority is ahead of every new one.
//! 3. **Series.** Jobs of one series run one after another, in the order of submission, a retry before the later jobs. A
//!    job that is *held* by its series takes no slot and delays no other job; its waiting time counts from its
//!    submission. A job that is *blocked* waits for an event that only the caller knows, and is held until then.
//! 4. **Admission.** At most `capacity` jobs are pending, scheduled and held ones included; jobs that the host
//!    acknowledged before (retries, jobs from storage after a restart) are always admitted.
//!
//! # Time
//!
//! The caller passes the wall clock, because its times are stored and outlive the process. A wall clock can be set, so
//! keys, delays and timed pauses are measured in *queue time*: the wall clock, corrected so that it never runs
//! backwards or jumps (see [`QueueClock`]). Normally the two are the same number. Beside the wall clock the caller
//! reads a steady clock, which cannot be set ([`Scheduler::notice_clock`]). So setting the clock, in either direction,
//! neither ends nor extends a retry's delay or a timed pause, and does not change aging; time in suspend counts. Only
//! [`Start::At`] follows the wall clock itself, because the user named a time of day.

mod clock;
mod core;
mod lane;
mod series;
mod view;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

pub use self::clock::{QueueClock, Time};
pub use self::core::{Admit, Job, Limits, Pauses, Scheduler, Start, State, SubmitError};
pub use self::view::{Counts, JobView, LaneView, QueuePosition, Snapshot, Wait};
