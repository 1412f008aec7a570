//! Detects the end of a run's work. A CLI can stay running after it has sent its last event, because it waits for something
//! that never comes.

use std::time::{Duration, Instant};

use serde_json::Value;

use ostler_config::RunnerConfig;
use ostler_plugin_host::types::{Notice, Semantic};

/// Code of the notice with which a transcript reports that the work is complete.
const WORK_DONE: &str = "work-done";
/// Code of the notice with which it reports that the CLI continues although it must not.
const STOP: &str = "stop";
/// Code of the notice with which it reports that more work has begun.
const TURN_STARTED: &str = "turn-started";

/// Whether the work is complete, according to the transcript.
#[derive(Debug)]
pub(crate) struct Work {
    linger: Duration,
    background: Duration,
    done: Option<Done>,
}

#[derive(Clone, Debug)]
struct Done {
    since: Instant,
    /// Number of tasks for which the CLI still waits.
    background: Vec<Value>,
    /// Whether the CLI must be ended at once.
    stop: bool,
}

impl Work {
    pub(crate) const fn new(runner: &RunnerConfig) -> Self {
        Self { linger: runner.linger(), background: runner.background(), done: None }
    }

    /// Removes the notices about the work from the events of a step, and applies them.
    pub(crate) fn hear(&mut self, events: &mut Vec<Semantic>) {
        events.retain(|event| {
            match event {
                Semantic::Progress(notice) if notice.code == STOP => {
                    self.done = Some(Done { since: Instant::now(), background: Vec::new(), stop: true });
                    return false;
                }
                Semantic::Progress(notice) if notice.code == WORK_DONE => {
                    if !self.stopped() {
                        let background = background(notice);
                        self.done = Some(Done { since: Instant::now(), background, stop: false });
                    }
                    return false;
                }
                event if goes_on(event) && !self.stopped() => self.done = None,
                _ => {}
            }
            true
        });
    }

    /// When the CLI must be ended if it has not exited. `None` while there is work.
    pub(crate) fn until(&self) -> Option<Instant> {
        let done = self.done.as_ref()?;
        if done.stop {
            return Some(done.since);
        }
        done.since.checked_add(if done.background.is_empty() { self.linger } else { self.background })
    }

    /// Whether the CLI must be ended at once.
    pub(crate) fn stopped(&self) -> bool {
        self.done.as_ref().is_some_and(|done| done.stop)
    }

    /// For how long the work has been complete, and how many tasks the CLI still waits for.
    pub(crate) fn lingered(&self) -> Option<(Duration, &[Value])> {
        self.done.as_ref().map(|done| (done.since.elapsed(), done.background.as_slice()))
    }
}

/// The fact `background` of a notice.
fn background(notice: &Notice) -> Vec<Value> {
    let facts: Option<Value> = notice.facts.as_deref().and_then(|facts| serde_json::from_str(facts).ok());
    match facts.and_then(|mut facts| facts.get_mut("background").map(Value::take)) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    }
}

/// Whether the agent has continued its work.
fn goes_on(event: &Semantic) -> bool {
    match event {
        Semantic::TextDelta(_)
        | Semantic::Text(_)
        | Semantic::ThinkingDelta(_)
        | Semantic::Thinking(_)
        | Semantic::ToolStart(_)
        | Semantic::ToolDelta(_)
        | Semantic::ToolResult(_)
        | Semantic::ApprovalRequested(_) => true,
        Semantic::Progress(notice) => notice.code == TURN_STARTED,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(code: &str, facts: Option<&str>) -> Semantic {
        let facts = facts.map(str::to_owned);
        Semantic::Progress(Notice { code: code.to_owned(), message: String::new(), facts })
    }

    fn work() -> Work {
        Work { linger: Duration::from_secs(10), background: Duration::from_secs(300), done: None }
    }

    fn left(work: &Work) -> Option<u64> {
        work.until().map(|until| until.saturating_duration_since(Instant::now()).as_secs_f64().round() as u64)
    }

    #[test]
    fn codes_are_listed_in_the_plugin_guide() {
        for code in [WORK_DONE, STOP, TURN_STARTED] {
            assert!(ostler_plugin::vocabulary::notices::ALL.contains(&code), "{code}");
        }
    }

    #[test]
    fn cli_has_a_grace_period_after_its_work() {
        let mut work = work();
        let mut events = vec![notice("plan", None), notice(WORK_DONE, None)];
        assert_eq!(left(&work), None);
        work.hear(&mut events);
        assert_eq!((left(&work), events.len()), (Some(10), 1));
        work.hear(&mut vec![notice("other", None)]);
        assert_eq!(left(&work), Some(10), "nothing was done since");
    }

    #[test]
    fn background_work_extends_the_grace_period_until_it_has_ended() {
        let mut work = work();
        work.hear(&mut vec![notice(WORK_DONE, Some(r#"{"background":[{"id":"1"}]}"#))]);
        assert_eq!(left(&work), Some(300));
        assert_eq!(work.lingered().map(|(_, background)| background.len()), Some(1));
        for facts in [r#"{"background":[]}"#, r#"{"background":7}"#, "no json", "[]"] {
            work.hear(&mut vec![notice(WORK_DONE, Some(facts))]);
            assert_eq!(left(&work), Some(10), "{facts}");
        }
    }

    #[test]
    fn order_to_end_the_cli_cannot_be_revoked() {
        let mut work = work();
        let mut events = vec![notice(STOP, None), notice(TURN_STARTED, None), notice(WORK_DONE, None)];
        work.hear(&mut events);
        assert!(work.stopped());
        assert_eq!((left(&work), events.len()), (Some(0), 1));
    }

    #[test]
    fn another_turn_revokes_that_the_work_is_complete() {
        let mut work = work();
        work.hear(&mut vec![notice(WORK_DONE, None)]);
        work.hear(&mut vec![notice(TURN_STARTED, None)]);
        assert_eq!(left(&work), None);
        work.hear(&mut vec![notice(TURN_STARTED, None), notice(WORK_DONE, None)]);
        assert_eq!(left(&work), Some(10));
    }
}
