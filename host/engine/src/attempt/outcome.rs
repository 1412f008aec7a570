//! The outcome of an attempt, determined from the plugin's result, the exit status, and what the host itself knows.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::attempt::answer;
use crate::document::Printed;
use crate::queue::active_run::StopCause;
use ostler_plugin_host::types as plugin;
use ostler_protocol::{AnswerRange, EndReason, Problem, RunStatus, StructuredOutputSpec, Usage};
use ostler_runner::ExitStatus;
use ostler_storage::SessionUsage;
use ostler_test_hooks::clock;

/// Maximum plausible number of tokens, or millionths of a US dollar, of one run. A larger figure of a plugin is dropped.
const MAX_USAGE: u64 = 1_000_000_000_000;

/// The end of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AttemptOutcome {
    pub(crate) reason: EndReason,
    /// A more precise code, defined by the plugin.
    pub(crate) code: Option<String>,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    pub(crate) exit: Option<ExitStatus>,
    /// The answer, not redacted; or the beginning of the answer that `answer` locates.
    pub(crate) final_text: Option<String>,
    /// The events that contain the answer in pieces.
    pub(crate) answer: Option<Box<AnswerRange>>,
    /// The structured output of the CLI.
    pub(crate) structured: Structured,
    pub(crate) retry_after: Option<Duration>,
}

impl AttemptOutcome {
    pub(crate) fn new(reason: EndReason, message: impl Into<String>) -> Self {
        Self {
            reason,
            code: None,
            message: message.into(),
            hint: None,
            exit: None,
            final_text: None,
            answer: None,
            structured: Structured::NotAsked,
            retry_after: None,
        }
    }

    /// The status of a run that ends with this outcome.
    pub(crate) const fn status(&self) -> RunStatus {
        match self.reason {
            EndReason::Completed => RunStatus::Completed,
            EndReason::Canceled | EndReason::DependencyFailed => RunStatus::Canceled,
            EndReason::Interrupted => RunStatus::Interrupted,
            _ => RunStatus::Failed,
        }
    }

    pub(crate) const fn exit_code(&self) -> Option<i32> {
        match self.exit {
            Some(ExitStatus::Code(code)) => Some(code),
            _ => None,
        }
    }

    pub(crate) fn non_zero_exit(&self) -> bool {
        self.exit.is_some_and(|exit| exit != ExitStatus::Code(0))
    }
}

/// The result of the request for structured output.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Structured {
    /// It was not requested, or the attempt ended before it.
    NotAsked,
    /// It matches the schema.
    Valid(Value),
    /// It does not match, or there is none.
    Invalid { errors: Vec<Problem>, value: Value },
}

/// Why the host has ended the child, if it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// It ended by itself.
    Nothing,
    /// The run was canceled.
    Canceled,
    /// The time limit was exceeded.
    TimedOut,
    /// The host ends.
    HostStops,
    /// The output could not be stored.
    StorageFailed,
    /// The CLI did not exit after its work was complete.
    WorkDone,
    /// A policy denied a tool use, and denials are configured to end runs.
    Denied(Denial),
    /// The session was ended, and the CLI did not end by itself.
    SessionEnded,
    /// The CLI does not react, as the message says.
    Unresponsive(String),
    /// The output can no longer be read: the CLI of a protocol would get no further messages, or no policy would see further
    /// tool uses, and denials are configured to end runs.
    Unreadable,
}

/// Why a policy ended a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Denial {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl From<StopCause> for StopReason {
    fn from(cause: StopCause) -> Self {
        match cause {
            StopCause::Canceled => Self::Canceled,
            StopCause::HostStops => Self::HostStops,
        }
    }
}

/// Determines the outcome. What the host did overrides the result of the CLI: a canceled run stays canceled, even if the
/// CLI then completes its work. If standard output is the answer, `printed` must be complete, and not empty unless the
/// plugin accepts that. `interrupted` is called while an answer is validated.
pub(crate) fn conclude(
    side: StopReason,
    exit: ExitStatus,
    outcome: Result<plugin::Outcome, String>,
    wanted: Option<&StructuredOutputSpec>,
    printed: Option<Printed>,
    limited: Option<plugin::RetryTime>,
    interrupted: &dyn Fn() -> Option<StopReason>,
) -> AttemptOutcome {
    let (outcome, broken) = match outcome {
        Ok(outcome) => (Some(outcome), None),
        Err(reason) => (None, Some(reason)),
    };
    let said = outcome.as_ref().and_then(|outcome| outcome.final_text.as_deref());
    // If standard output is the answer, an empty text of the plugin means that an empty answer is accepted.
    let (may_be_silent, printed) = match said {
        Some("") => (true, printed),
        Some(_) => (true, None),
        None => (false, printed),
    };
    let (place, lost) =
        printed.as_ref().map_or((None, 0), |printed| (printed.place.clone().map(Box::new), printed.lost));
    let silent = printed.as_ref().is_some_and(|printed| printed.blank) && !may_be_silent;
    let final_text = printed.map(|printed| printed.head).or_else(|| said.map(str::to_owned));
    let base = |reason, message: String| AttemptOutcome {
        exit: Some(exit),
        final_text: final_text.clone(),
        answer: place.clone(),
        ..AttemptOutcome::new(reason, message)
    };
    let is_session_end = side == StopReason::SessionEnded;
    let ended_by_host = |side| match side {
        StopReason::Canceled => Some(base(EndReason::Canceled, "the run was canceled".to_owned())),
        StopReason::TimedOut => Some(AttemptOutcome {
            hint: Some("allow more time with timeoutSeconds, or for all runs with `runner.timeout_seconds`".to_owned()),
            ..base(EndReason::Timeout, "the time limit was exceeded".to_owned())
        }),
        StopReason::HostStops => Some(base(EndReason::Interrupted, "the host was stopped".to_owned())),
        StopReason::StorageFailed => Some(base(EndReason::HostFailed, "the output could not be stored".to_owned())),
        StopReason::Denied(denial) => {
            Some(AttemptOutcome { hint: denial.hint, ..base(EndReason::PolicyDenied, denial.message) })
        }
        StopReason::Unresponsive(message) => Some(base(EndReason::Incomplete, message)),
        // Nothing is known about output that could not be read.
        StopReason::Nothing | StopReason::WorkDone | StopReason::SessionEnded | StopReason::Unreadable => None,
    };
    if let Some(ending) = ended_by_host(side) {
        return ending;
    }
    let Some(outcome) = outcome else {
        let reason = broken.unwrap_or_default();
        return base(EndReason::PluginFailed, format!("nothing can read the CLI's output: {reason}"));
    };
    // A turn that did not end in time when the session was ended is no failure of the session.
    let ended_on_purpose =
        |failure: &plugin::Failure| is_session_end && failure.kind == plugin::FailureKind::Incomplete;
    if let Some(failure) = outcome.failure.filter(|failure| !ended_on_purpose(failure)) {
        let reason = failure_reason(failure.kind);
        let retry = failure.retry.or(limited.filter(|_| reason == EndReason::RateLimited));
        return AttemptOutcome {
            code: failure.code,
            hint: failure.hint,
            retry_after: retry.map(|time| delay(time, clock::now())),
            ..base(reason, failure.message)
        };
    }
    if lost > 0 {
        let message = format!("the answer is longer than a run may store: {lost} bytes at its end were not kept");
        return AttemptOutcome {
            code: Some("answer-too-long".to_owned()),
            hint: Some("raise `max_stored_mib` in [storage], or let the program write to a file".to_owned()),
            ..base(EndReason::Limit, message)
        };
    }
    if silent {
        let message = "the program printed nothing, and what it prints is the answer";
        return AttemptOutcome {
            code: Some("no-output".to_owned()),
            hint: Some("where that is right, `silence = \"fine\"` in the provider's settings says so".to_owned()),
            ..base(EndReason::Incomplete, message.to_owned())
        };
    }
    let structured = match wanted {
        None => Structured::NotAsked,
        Some(wanted) => match answer::check(wanted, outcome.structured_output.as_deref(), interrupted) {
            Ok(structured) => structured,
            Err(side) => {
                return ended_by_host(side).unwrap_or_else(|| base(EndReason::HostFailed, String::new()));
            }
        },
    };
    let strict = wanted.is_some_and(|wanted| wanted.strict != Some(false));
    let mut ending = match &structured {
        Structured::Invalid { errors, .. } if strict => {
            let first = errors.first().map(|problem| match problem.pointer.as_str() {
                "" => format!(": {}", problem.message),
                pointer => format!(": {pointer}: {}", problem.message),
            });
            let first = first.unwrap_or_default();
            base(EndReason::StructuredOutput, format!("the answer does not match the schema{first}"))
        }
        _ => base(EndReason::Completed, "completed".to_owned()),
    };
    ending.structured = structured;
    ending
}

const fn failure_reason(kind: plugin::FailureKind) -> EndReason {
    match kind {
        plugin::FailureKind::Unknown => EndReason::Unknown,
        plugin::FailureKind::Authentication => EndReason::Authentication,
        plugin::FailureKind::Transient => EndReason::Transient,
        plugin::FailureKind::RateLimited => EndReason::RateLimited,
        plugin::FailureKind::ResumeInvalid => EndReason::ResumeInvalid,
        plugin::FailureKind::Usage => EndReason::Usage,
        plugin::FailureKind::Limit => EndReason::Limit,
        plugin::FailureKind::Incomplete => EndReason::Incomplete,
    }
}

/// The delay until this time; a day at most.
pub(crate) fn delay(time: plugin::RetryTime, now: Timestamp) -> Duration {
    const LONGEST: Duration = Duration::from_secs(86_400);
    let delay = match time {
        plugin::RetryTime::AfterMs(ms) => Duration::from_millis(ms),
        plugin::RetryTime::AtUnixMs(at) => {
            let now = u64::try_from(now.as_millisecond()).unwrap_or(0);
            Duration::from_millis(at.saturating_sub(now))
        }
    };
    delay.min(LONGEST)
}

/// Tokens and cost of one attempt, from the running total that the CLI reported. If the total counts the whole session,
/// the recorded usage of earlier runs of the session is subtracted; if none is recorded, the figure is marked.
pub(crate) fn own_usage(total: &plugin::Usage, resumed: bool, earlier: &[SessionUsage]) -> Usage {
    let plausible = |reported: Option<u64>| reported.filter(|amount| *amount <= MAX_USAGE);
    let reported = Usage {
        input_tokens: plausible(total.input_tokens),
        cached_input_tokens: plausible(total.cached_input_tokens),
        cache_write_tokens: plausible(total.cache_write_tokens),
        output_tokens: plausible(total.output_tokens),
        reasoning_tokens: plausible(total.reasoning_tokens),
        cost_micro_usd: plausible(total.cost_micro_usd),
        whole_session: false,
    };
    if !total.whole_session || !resumed {
        return reported;
    }
    let mut known = Usage::default();
    let mut complete = !earlier.is_empty();
    for run in earlier {
        match &run.usage {
            Some(usage) => known = add(&known, usage),
            None => complete = false,
        }
    }
    let less = |reported: Option<u64>, known: Option<u64>| {
        reported.map(|reported| reported.saturating_sub(known.unwrap_or(0)))
    };
    Usage {
        input_tokens: less(reported.input_tokens, known.input_tokens),
        cached_input_tokens: less(reported.cached_input_tokens, known.cached_input_tokens),
        cache_write_tokens: less(reported.cache_write_tokens, known.cache_write_tokens),
        output_tokens: less(reported.output_tokens, known.output_tokens),
        reasoning_tokens: less(reported.reasoning_tokens, known.reasoning_tokens),
        cost_micro_usd: less(reported.cost_micro_usd, known.cost_micro_usd),
        whole_session: !complete || known.whole_session,
    }
}

/// The sum of two. A number that is in neither stays unknown.
pub(crate) fn add(left: &Usage, right: &Usage) -> Usage {
    let sum = |left: Option<u64>, right: Option<u64>| match (left, right) {
        (None, None) => None,
        (left, right) => Some(left.unwrap_or(0).saturating_add(right.unwrap_or(0))),
    };
    Usage {
        input_tokens: sum(left.input_tokens, right.input_tokens),
        cached_input_tokens: sum(left.cached_input_tokens, right.cached_input_tokens),
        cache_write_tokens: sum(left.cache_write_tokens, right.cache_write_tokens),
        output_tokens: sum(left.output_tokens, right.output_tokens),
        reasoning_tokens: sum(left.reasoning_tokens, right.reasoning_tokens),
        cost_micro_usd: sum(left.cost_micro_usd, right.cost_micro_usd),
        whole_session: left.whole_session || right.whole_session,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::json;

    use super::*;
    use ostler_protocol::RunId;

    fn outcome(structured: Option<&str>) -> plugin::Outcome {
        plugin::Outcome {
            final_text: Some("done".to_owned()),
            structured_output: structured.map(str::to_owned),
            failure: None,
            extra: None,
        }
    }

    fn wanted(strict: Option<bool>) -> StructuredOutputSpec {
        let schema = json!({"type": "object", "required": ["score"], "properties": {"score": {"type": "integer"}}});
        StructuredOutputSpec { schema, strict }
    }

    #[test]
    fn canceled_run_stays_canceled_if_the_cli_completes() {
        let ending = conclude(StopReason::Canceled, ExitStatus::Code(0), Ok(outcome(None)), None, None, None, &|| None);
        assert_eq!(ending.status(), RunStatus::Canceled);
        let ending = conclude(StopReason::TimedOut, ExitStatus::Code(0), Ok(outcome(None)), None, None, None, &|| None);
        assert_eq!(ending.reason, EndReason::Timeout);
    }

    #[test]
    fn run_that_a_policy_ended_has_failed_if_the_cli_completes() {
        let denial = Denial { message: "no shells".to_owned(), hint: Some("do without".to_owned()) };
        let side = StopReason::Denied(denial);
        let ending = conclude(side, ExitStatus::Code(0), Ok(outcome(None)), None, None, None, &|| None);
        assert_eq!((ending.status(), ending.reason), (RunStatus::Failed, EndReason::PolicyDenied));
        assert_eq!((ending.message.as_str(), ending.hint.as_deref()), ("no shells", Some("do without")));
    }

    #[test]
    fn run_that_was_ended_because_its_output_cannot_be_read_has_failed_as_unreadable() {
        let ending =
            conclude(StopReason::Unreadable, ExitStatus::Code(0), Err("trap".to_owned()), None, None, None, &|| None);
        assert_eq!((ending.status(), ending.reason), (RunStatus::Failed, EndReason::PluginFailed));
    }

    #[test]
    fn run_whose_cli_was_ended_after_its_work_has_the_outcome_of_the_plugin() {
        let ending =
            conclude(StopReason::WorkDone, ExitStatus::Signal(15), Ok(outcome(None)), None, None, None, &|| None);
        assert_eq!((ending.status(), ending.final_text.as_deref()), (RunStatus::Completed, Some("done")));
    }

    #[test]
    fn exit_code_does_not_override_the_outcome_of_the_plugin() {
        let ending = conclude(StopReason::Nothing, ExitStatus::Code(3), Ok(outcome(None)), None, None, None, &|| None);
        assert_eq!(ending.status(), RunStatus::Completed);
        assert!(ending.non_zero_exit());
    }

    #[test]
    fn structured_output_is_checked_by_the_host() {
        let end = |text, strict| {
            let wanted = wanted(strict);
            conclude(StopReason::Nothing, ExitStatus::Code(0), Ok(outcome(text)), Some(&wanted), None, None, &|| None)
        };
        assert_eq!(end(Some("{\"score\":7}"), None).structured, Structured::Valid(json!({"score": 7})));
        for wrong in [None, Some("{\"score\":\"7\"}"), Some("seven")] {
            let ending = end(wrong, None);
            assert_eq!(ending.reason, EndReason::StructuredOutput, "{wrong:?}");
            assert!(matches!(ending.structured, Structured::Invalid { .. }));
            assert_eq!(end(wrong, Some(false)).reason, EndReason::Completed);
        }
    }

    #[test]
    fn earlier_runs_of_the_session_are_taken_off() {
        let total = plugin::Usage {
            whole_session: true,
            input_tokens: Some(300),
            cached_input_tokens: None,
            cache_write_tokens: None,
            output_tokens: Some(9),
            reasoning_tokens: None,
            cost_micro_usd: None,
            others: Vec::new(),
        };
        let earlier = |usage| SessionUsage { run_id: RunId::generate(), usage };
        let known = Usage { input_tokens: Some(100), output_tokens: Some(4), ..Usage::default() };
        let own = own_usage(&total, true, &[earlier(Some(known))]);
        assert_eq!((own.input_tokens, own.output_tokens, own.whole_session), (Some(200), Some(5), false));
        assert!(own_usage(&total, true, &[]).whole_session);
        assert!(own_usage(&total, true, &[earlier(None)]).whole_session);
        assert_eq!(own_usage(&total, false, &[]).input_tokens, Some(300));
        let absurd = plugin::Usage { output_tokens: Some(u64::MAX), ..total };
        assert_eq!(own_usage(&absurd, false, &[]).output_tokens, None);
    }

    #[test]
    fn an_answer_of_which_something_is_missing_fails_the_run() {
        let silent = || Printed { blank: true, ..Printed::default() };
        let cut = || Printed { head: "so far".to_owned(), lost: 7, ..Printed::default() };
        let end = |said: Option<&str>, printed| {
            let outcome = plugin::Outcome { final_text: said.map(str::to_owned), ..outcome(None) };
            conclude(StopReason::Nothing, ExitStatus::Code(0), Ok(outcome), None, Some(printed), None, &|| None)
        };
        let summary = |ending: AttemptOutcome| (ending.reason, ending.code, ending.final_text);
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(summary(end(None, silent())), (EndReason::Incomplete, text("no-output"), text("")));
        assert_eq!(summary(end(Some(""), silent())), (EndReason::Completed, None, text("")));
        assert_eq!(summary(end(Some(""), cut())), (EndReason::Limit, text("answer-too-long"), text("so far")));
        assert_eq!(summary(end(None, cut())), (EndReason::Limit, text("answer-too-long"), text("so far")));
        // A plugin that has the answer from elsewhere needs nothing on standard output.
        assert_eq!(summary(end(Some("mine"), silent())), (EndReason::Completed, None, text("mine")));
    }

    #[test]
    fn a_failure_of_a_silent_program_is_told_in_its_own_words() {
        let failure = plugin::Failure {
            kind: plugin::FailureKind::Unknown,
            code: None,
            message: "exit 1".to_owned(),
            hint: None,
            retry: None,
        };
        let outcome = plugin::Outcome { final_text: None, failure: Some(failure), ..outcome(None) };
        let printed = Printed { blank: true, ..Printed::default() };
        let ending =
            conclude(StopReason::Nothing, ExitStatus::Code(1), Ok(outcome), None, Some(printed), None, &|| None);
        assert_eq!((ending.reason, ending.message.as_str()), (EndReason::Unknown, "exit 1"));
    }
}
