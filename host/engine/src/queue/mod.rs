//! The queue: what waits, what runs, what was left by an earlier host.

pub(crate) mod active_run;
pub(crate) mod dependencies;
pub(crate) mod dispatch;
pub(crate) mod queue_control;
pub(crate) mod recover;
pub(crate) mod threads;
