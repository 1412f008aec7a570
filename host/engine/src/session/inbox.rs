//! The inbox: what waits for a person.

use std::fmt;
use std::sync::Arc;

use crate::queue::dispatch::Dispatcher;
use crate::session::approvals::Approvals;
use crate::submit::timestamp;
use ostler_protocol::methods::{AcknowledgeParams, AcknowledgeResult, Inbox, PausedLane};
use ostler_protocol::{ApiError, WaitReason};
use ostler_scheduler::{JobView, Wait};
use ostler_storage::{Durability, Storage};

/// Failures in one answer.
const MAX_FAILURES: u64 = 100;

/// Collects what waits for a person.
pub struct InboxService {
    pub(crate) storage: Storage,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) approvals: Approvals,
}

impl fmt::Debug for InboxService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboxService").finish_non_exhaustive()
    }
}

impl InboxService {
    /// Open approvals, failures that nobody has acknowledged, and providers whose runs do not start.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn get(&self) -> Result<Inbox, ApiError> {
        let failures = self.storage.read(|reader| reader.open_failures(MAX_FAILURES))?;
        Ok(Inbox {
            approvals: self.approvals.list(None),
            failures: failures.items,
            failures_total: failures.total,
            paused: self.paused(),
        })
    }

    /// Removes failures from the inbox.
    ///
    /// # Errors
    /// `NOT_FOUND` for an unknown run; then no failure is removed.
    pub fn acknowledge(&self, params: &AcknowledgeParams) -> Result<AcknowledgeResult, ApiError> {
        let runs = params.run_ids.clone();
        let write = self.storage.write(Durability::Full, move |tx| match &runs {
            None => tx.acknowledge_all_failures(),
            Some(runs) => {
                let mut count = 0;
                for run in runs {
                    count += u64::from(tx.acknowledge_failure(*run)?);
                }
                Ok(count)
            }
        });
        Ok(AcknowledgeResult { acknowledged: write.wait()? })
    }

    /// Paused providers with the number of runs that wait for each.
    fn paused(&self) -> Vec<PausedLane> {
        let (snapshot, pauses) = (self.dispatcher.snapshot(), self.dispatcher.pauses());
        let waiting = |lane: Option<&str>, wait: Wait| {
            let waits = |job: &&JobView<_>| job.wait == Some(wait) && lane.is_none_or(|lane| &*job.lane == lane);
            snapshot.jobs.iter().filter(waits).count() as u64
        };
        let mut paused = Vec::new();
        if pauses.all {
            let waiting = waiting(None, Wait::Paused);
            paused.push(PausedLane { provider: None, reason: WaitReason::Paused, until: None, waiting });
        }
        for provider in &pauses.lanes {
            let lane: &str = provider.as_ref();
            paused.push(PausedLane {
                provider: Some(lane.to_owned()),
                reason: WaitReason::ProviderPaused,
                until: None,
                waiting: waiting(Some(lane), Wait::LanePaused),
            });
        }
        for lane in &snapshot.lanes {
            let Some(until) = lane.paused_until else { continue };
            paused.push(PausedLane {
                provider: Some(lane.name.to_string()),
                reason: WaitReason::RateLimited,
                until: Some(timestamp(until)),
                waiting: waiting(Some(&lane.name), Wait::LanePausedUntil),
            });
        }
        paused
    }
}
