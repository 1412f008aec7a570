//! The queue: waiting runs, active runs, and the recovery of the runs of an earlier host.

pub(crate) mod active_run;
pub(crate) mod dependencies;
pub(crate) mod dispatch;
pub(crate) mod queue_control;
pub(crate) mod recover;
pub(crate) mod threads;
