//! What listings show of the queue.

use std::sync::Arc;

use super::clock::Time;
use super::core::State;

/// The place of a ready job, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Among the ready jobs of its lane. With one slot in the lane, this many runs of the provider begin up to and
    /// including this one.
    pub in_lane: usize,
    /// Among the ready jobs of all lanes, busy and parked ones included.
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
    /// As submitted.
    pub priority: i32,
    /// `priority + waited / aging` for a ready job; the plain priority for the others.
    pub effective_priority: f64,
    /// Ready jobs only.
    pub place: Option<Place>,
    /// Scheduled jobs only: what the wall clock will show when it becomes ready.
    pub due: Option<Time>,
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
    /// How many may hold one.
    pub limit: usize,
    /// What the wall clock will show when the lane takes part again, if it is parked.
    pub parked_until: Option<Time>,
}

/// The whole queue at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot<J> {
    /// Running jobs (in the order of their arrival), then ready ones (next first), then scheduled ones (earliest
    /// first).
    pub jobs: Vec<JobView<J>>,
    /// Lanes with jobs or a park, by name.
    pub lanes: Vec<LaneView>,
}
