//! Exit codes: the outcome for scripts. They are never the child's own.

use std::process::ExitCode;

use ostler_protocol::{EndReason, ErrorKind, EventType, RunStatus};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It did what was asked.
    Done,
    /// The run failed.
    RunFailed,
    /// The command line or the payload is not right.
    Usage,
    /// The run's time was up.
    Timeout,
    /// A policy denied it, or it cannot be enforced.
    Denied,
    /// There is no such thing.
    NotFound,
    /// The provider or the folder is not there, or cannot be used.
    Unavailable,
    /// The queue is full, or it contradicts the present state.
    Conflict,
    /// The run did what was asked, but not all of its answer could be delivered, or not it alone.
    Undelivered,
    /// A defect, or a plugin that failed.
    Internal,
    /// Reading or writing failed.
    Io,
    /// `wait` has waited as long as it was to wait, and a run has not ended.
    StillRunning,
    /// Somebody ended it.
    Canceled,
    /// The user has left a run that goes on.
    Detached,
}

impl Exit {
    /// The number that the shell sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::RunFailed => 1,
            Self::Usage => 2,
            Self::Timeout => 3,
            Self::Denied => 4,
            Self::NotFound => 5,
            Self::Unavailable => 6,
            Self::Conflict => 7,
            Self::Undelivered => 8,
            Self::Internal => 70,
            Self::Io => 74,
            Self::StillRunning => 124,
            Self::Canceled => 130,
            Self::Detached => 131,
        }
    }

    /// The outcome of a run that stands there; `None` where it has not ended.
    #[must_use]
    pub const fn of_status(status: RunStatus, reason: EndReason) -> Option<Self> {
        match status {
            RunStatus::Queued | RunStatus::Running => None,
            RunStatus::Completed => Self::of_run(EventType::RunCompleted, reason),
            RunStatus::Canceled => Self::of_run(EventType::RunCanceled, reason),
            RunStatus::Failed | RunStatus::Interrupted => Self::of_run(EventType::RunFailed, reason),
        }
    }

    /// The outcome that a run's last event stands for; `None` where the event is not a last one.
    #[must_use]
    pub const fn of_run(event: EventType, reason: EndReason) -> Option<Self> {
        match event {
            EventType::RunCompleted => Some(Self::Done),
            EventType::RunCanceled => Some(Self::Canceled),
            EventType::RunFailed => Some(match reason {
                EndReason::Timeout => Self::Timeout,
                EndReason::PolicyDenied | EndReason::Unenforceable => Self::Denied,
                EndReason::CliMissing | EndReason::CwdMissing => Self::Unavailable,
                EndReason::PluginFailed | EndReason::HostFailed => Self::Internal,
                _ => Self::RunFailed,
            }),
            _ => None,
        }
    }
}

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidParams => Self::Usage,
            ErrorKind::PolicyDenied | ErrorKind::Unenforceable => Self::Denied,
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::CliMissing | ErrorKind::CwdMissing | ErrorKind::ProviderBlocked => Self::Unavailable,
            ErrorKind::QueueFull | ErrorKind::Conflict => Self::Conflict,
            ErrorKind::PluginFailed | ErrorKind::Internal => Self::Internal,
            ErrorKind::Io => Self::Io,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn every_kind_of_error_has_the_code_of_the_contract() {
        let table = [
            (ErrorKind::InvalidParams, 2),
            (ErrorKind::PolicyDenied, 4),
            (ErrorKind::Unenforceable, 4),
            (ErrorKind::NotFound, 5),
            (ErrorKind::CliMissing, 6),
            (ErrorKind::CwdMissing, 6),
            (ErrorKind::ProviderBlocked, 6),
            (ErrorKind::QueueFull, 7),
            (ErrorKind::Conflict, 7),
            (ErrorKind::Internal, 70),
            (ErrorKind::PluginFailed, 70),
            (ErrorKind::Io, 74),
        ];
        for (kind, code) in table {
            assert_eq!(Exit::from(kind).code(), code, "{}", kind.name());
        }
    }

    #[test]
    fn every_end_of_a_run_has_a_code() {
        for reason in EndReason::ALL {
            assert_eq!(Exit::of_run(EventType::RunCompleted, *reason), Some(Exit::Done));
            assert_eq!(Exit::of_run(EventType::RunCanceled, *reason), Some(Exit::Canceled));
            assert_eq!(Exit::of_run(EventType::RunStarted, *reason), None);
            let code = Exit::of_run(EventType::RunFailed, *reason).map(Exit::code);
            let expected = match reason {
                EndReason::Timeout => 3,
                EndReason::PolicyDenied | EndReason::Unenforceable => 4,
                EndReason::CliMissing | EndReason::CwdMissing => 6,
                EndReason::PluginFailed | EndReason::HostFailed => 70,
                _ => 1,
            };
            assert_eq!(code, Some(expected), "{reason}");
            let by_status = |status| Exit::of_status(status, *reason).map(Exit::code);
            assert_eq!(by_status(RunStatus::Failed), Some(expected), "{reason}");
            assert_eq!((by_status(RunStatus::Queued), by_status(RunStatus::Running)), (None, None));
            assert_eq!((by_status(RunStatus::Completed), by_status(RunStatus::Canceled)), (Some(0), Some(130)));
        }
    }
}
