//! Which waiting job runs next.
//!
//! A pure data structure: no I/O, no timer, no task. The caller says what happened and what the clock shows, and asks
//! what may start. It keeps four promises:
//!
//! 1. **Slots.** At most `global` jobs run at a time, and at most the lane's own limit in each lane (a lane is a
//!    provider instance). A busy, parked or paused lane never holds back a free slot from another.
//! 2. **Order.** The effective priority of a waiting job is `priority + waited / aging`. It grows at the same rate for
//!    all jobs, so the order of two waiting jobs never changes, and the static key `since − priority × aging` stands
//!    for it: each lane is a B-tree on that key, and the next job is the least key among the lanes that have a slot.
//!    Nothing is recomputed as time passes, and every operation costs O(log n) (listing and ranking cost O(n)). Equal
//!    jobs leave in the order of their arrival, as the caller counts it. Because every step of priority is worth a fixed time, no
//!    job starves: after `20 × aging` the lowest priority leads every newcomer.
//! 3. **Series.** Jobs of one series run one after another, in the order in which they came, a retry before those that
//!    came after its job. One that is held by its series takes no slot and stands in nobody's way; it has waited since
//!    it came, and joins the others of its lane with that.
//!    A job that is *blocked* waits for something that only the caller knows, and in the meantime as one that is held.
//! 4. **Admission.** At most `capacity` jobs are pending, scheduled and held ones included; what the host has acknowledged
//!    before (retries, jobs from storage after a restart) is always admitted.
//!
//! # Time
//!
//! The caller passes the wall clock, because its times are stored and outlive the process. Wall clocks are set, so keys,
//! delays and parks are measured in *queue time*: the wall clock, made never to run backwards and not to jump (see
//! [`QueueClock`]). In ordinary conditions the two are the same number. Beside the wall clock the caller reads one that
//! nobody can set ([`Scheduler::notice_clock`]): so a clock that was set, in whichever direction, neither stops nor ends
//! a retry's delay or a park, and neither halts nor hastens aging, while a machine that was suspended has really let the
//! time pass. Only [`Start::At`] follows the wall clock itself, because the user named a time of day.

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
pub use self::view::{Counts, JobView, LaneView, Place, Snapshot, Wait};
