//! Exit codes: the outcome for scripts. They never are the exit code of the agent CLI.

use std::process::ExitCode;

use ostler_protocol::{EndReason, ErrorKind, EventType, RunStatus};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Success.
    Done,
    /// The run failed.
    RunFailed,
    /// The command line or the payload is invalid.
    Usage,
    /// The run exceeded its time limit.
    Timeout,
    /// A policy denied the request, or a restriction cannot be enforced.
    Denied,
    /// Something that was named does not exist.
    NotFound,
    /// The provider or the folder is missing or cannot be used.
    Unavailable,
    /// The queue is full, or the request conflicts with the current state.
    Conflict,
    /// The run succeeded, but its answer was printed incompletely, or mixed with the output of earlier attempts.
    Undelivered,
    /// A defect, or a plugin that failed.
    Internal,
    /// Reading or writing failed.
    Io,
    /// The time limit of `wait` expired before all runs ended.
    StillRunning,
    /// The run or the command was canceled.
    Canceled,
    /// The user detached from a run, which continues.
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

    /// The outcome of a run with this status. `None` if the run has not ended.
    #[must_use]
    pub const fn of_status(status: RunStatus, reason: EndReason) -> Option<Self> {
        match status {
            RunStatus::Queued | RunStatus::Running => None,
            RunStatus::Completed => Self::of_run(EventType::RunCompleted, reason),
            RunStatus::Canceled => Self::of_run(EventType::RunCanceled, reason),
            RunStatus::Failed | RunStatus::Interrupted => Self::of_run(EventType::RunFailed, reason),
        }
    }

    /// The outcome for the terminal event of a run. `None` for other events.
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
    fn error_kinds_map_to_documented_codes() {
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
    fn run_ends_map_to_codes() {
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
