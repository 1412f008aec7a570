//! Decides whether a failed attempt is retried, and when.
//!
//! A pure function: the caller passes the random number.

use std::time::Duration;

use ostler_protocol::EndReason;

/// The longest delay before a retry.
pub(crate) const MAX_DELAY: Duration = Duration::from_millis(600_000);

/// What the decision depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed {
    /// Why the attempt failed.
    pub(crate) reason: EndReason,
    /// The child's exit code was not zero, or it died by a signal.
    pub(crate) non_zero_exit: bool,
    /// Number of retries so far, without the automatic restart without resume.
    pub(crate) retries_made: u32,
    /// `maxRetries` of the payload.
    pub(crate) max_retries: u32,
    /// `retryBackoffMs` of the payload.
    pub(crate) backoff: Duration,
    /// The delay that the provider demands.
    pub(crate) retry_after: Option<Duration>,
    /// Whether the attempt resumed a session.
    pub(crate) resumed: bool,
    /// Whether the caller named the session, so that no other one may replace it.
    pub(crate) named_session: bool,
    /// Whether the run was restarted without resume already.
    pub(crate) restarted_without_resume: bool,
}

/// What follows from a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The run has failed.
    End,
    /// Another attempt after a delay. Counts as a retry.
    Retry(Duration),
    /// Another attempt at once, without the session, which is no longer known. Does not count as a retry.
    RestartWithoutResume,
}

/// Decides. `random` is between 0 and 1 and spreads the delay (full jitter), so that runs that failed together are not
/// retried together. It never shortens the delay that the provider demands.
pub(crate) fn decide(failed: Failed, random: f64) -> Decision {
    if failed.reason == EndReason::ResumeInvalid {
        return if failed.resumed && !failed.named_session && !failed.restarted_without_resume {
            Decision::RestartWithoutResume
        } else {
            Decision::End
        };
    }
    let worth_it = match failed.reason {
        EndReason::SpawnFailed | EndReason::Timeout | EndReason::Transient | EndReason::RateLimited => true,
        EndReason::Unknown => failed.non_zero_exit,
        _ => false,
    };
    if !worth_it || failed.retries_made >= failed.max_retries {
        return Decision::End;
    }
    let ceiling = failed
        .backoff
        .checked_mul(1_u32.checked_shl(failed.retries_made).unwrap_or(u32::MAX))
        .unwrap_or(MAX_DELAY)
        .min(MAX_DELAY);
    let jittered = ceiling.mul_f64(random.clamp(0.0, 1.0));
    Decision::Retry(failed.retry_after.map_or(jittered, |after| after.max(jittered)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn failed(reason: EndReason) -> Failed {
        Failed {
            reason,
            non_zero_exit: true,
            retries_made: 0,
            max_retries: 3,
            backoff: Duration::from_secs(1),
            retry_after: None,
            resumed: false,
            named_session: false,
            restarted_without_resume: false,
        }
    }

    #[test]
    fn only_transient_failures_are_retried() {
        for reason in EndReason::ALL {
            let expected = matches!(
                reason,
                EndReason::SpawnFailed
                    | EndReason::Timeout
                    | EndReason::Transient
                    | EndReason::RateLimited
                    | EndReason::Unknown
            );
            let retried = matches!(decide(failed(*reason), 0.5), Decision::Retry(_));
            assert_eq!(retried, expected, "{reason}");
        }
        let exit_zero = Failed { non_zero_exit: false, ..failed(EndReason::Unknown) };
        assert_eq!(decide(exit_zero, 0.5), Decision::End);
    }

    #[test]
    fn invalid_resume_restarts_the_run_exactly_once() {
        let first = Failed { resumed: true, max_retries: 0, ..failed(EndReason::ResumeInvalid) };
        assert_eq!(decide(first, 0.5), Decision::RestartWithoutResume);
        let again = Failed { restarted_without_resume: true, ..first };
        assert_eq!(decide(again, 0.5), Decision::End);
    }

    #[test]
    fn session_that_the_caller_named_is_not_replaced_by_a_new_one() {
        let named = Failed { resumed: true, named_session: true, ..failed(EndReason::ResumeInvalid) };
        assert_eq!(decide(named, 0.5), Decision::End);
    }

    #[test]
    fn delay_that_the_provider_demands_is_not_shortened() {
        let limited = Failed { retry_after: Some(Duration::from_secs(90)), ..failed(EndReason::RateLimited) };
        assert_eq!(decide(limited, 1.0), Decision::Retry(Duration::from_secs(90)));
    }

    proptest! {
        #[test]
        fn delays_double_and_are_bounded(made in 0_u32..10, backoff in 100_u64..600_000, random in 0.0_f64..=1.0) {
            let failed = Failed {
                retries_made: made,
                max_retries: 10,
                backoff: Duration::from_millis(backoff),
                ..failed(EndReason::Transient)
            };
            let ceiling = Duration::from_millis((backoff << made).min(600_000));
            match decide(failed, random) {
                Decision::Retry(delay) => prop_assert!(delay <= ceiling),
                other => prop_assert!(false, "{:?}", other),
            }
            prop_assert_eq!(decide(failed, 1.0), Decision::Retry(ceiling));
        }
    }
}
