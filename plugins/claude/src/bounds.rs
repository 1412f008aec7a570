//! Limits that not every version of claude enforces. The host ends a run that exceeds them.

use ostler_plugin::provider::{Failure, FailureKind};
use ostler_plugin::vocabulary::failures;
use ostler_provider_kit::failure::failure;

/// Maximum number of consecutive answers that do not match the schema. Newer versions of claude have the same limit.
const MISSES: u32 = 12;

/// Hint for a run that reached the limit on turns.
pub(crate) const MORE_TURNS: &str = "increase limits.maxTurns, or resume the session";

/// Counts the messages of the main agent.
#[derive(Debug, Default)]
pub(crate) struct Bounds {
    max_turns: Option<u64>,
    wants_structure: bool,
    turns: u64,
    misses: u32,
    /// Whether the current message uses a tool that has an effect.
    works: bool,
    reached: Option<Limit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    Turns(u64),
    Form,
}

impl Bounds {
    pub(crate) fn new(max_turns: Option<u64>, wants_structure: bool) -> Self {
        Self { max_turns, wants_structure, ..Self::default() }
    }

    /// A message begins. Returns whether it exceeds a limit.
    pub(crate) fn begin(&mut self) -> bool {
        self.works = false;
        if let Some(most) = self.max_turns.filter(|most| self.turns >= *most) {
            self.reached = Some(Limit::Turns(most));
        } else if self.wants_structure && self.misses >= MISSES {
            self.reached = Some(Limit::Form);
        }
        self.reached.is_some()
    }

    /// The message uses a tool that has an effect.
    pub(crate) fn works(&mut self) {
        self.works = true;
    }

    /// The message is complete. A message that broke off is requested again, and does not count.
    pub(crate) fn end(&mut self) {
        self.turns = self.turns.saturating_add(1);
        self.misses = if self.works { 0 } else { self.misses.saturating_add(1) };
    }

    /// The turn of the run is over. Another turn has its own limits.
    pub(crate) fn turn_over(&mut self) {
        (self.turns, self.misses) = (0, 0);
    }

    /// Why the run was ended, if it exceeded a limit.
    pub(crate) fn failure(&self) -> Option<Failure> {
        let (code, message, hint) = match self.reached? {
            Limit::Turns(most) => {
                (failures::MAX_TURNS, format!("the limit of {most} turns was reached"), Some(MORE_TURNS))
            }
            Limit::Form => (
                failures::STRUCTURED_OUTPUT,
                format!("the model did not match the schema {MISSES} times in a row"),
                None,
            ),
        };
        Some(failure(FailureKind::Limit, code, &message, hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bounds: &mut Bounds, works: bool) -> bool {
        let stop = bounds.begin();
        if works {
            bounds.works();
        }
        bounds.end();
        stop
    }

    fn code(bounds: &Bounds) -> Option<String> {
        bounds.failure().and_then(|failure| failure.code)
    }

    #[test]
    fn message_after_the_last_allowed_turn_exceeds_the_limit() {
        let mut bounds = Bounds::new(Some(2), false);
        // A message that broke off.
        assert!(!bounds.begin());
        assert!(!message(&mut bounds, true) && !message(&mut bounds, true));
        assert_eq!(code(&bounds), None);
        assert!(bounds.begin());
        assert_eq!(code(&bounds).as_deref(), Some(failures::MAX_TURNS));
    }

    #[test]
    fn answers_that_miss_the_schema_are_limited_and_work_is_not() {
        let mut bounds = Bounds::new(None, true);
        for _ in 0..1000 {
            assert!(!message(&mut bounds, true));
        }
        for _ in 0..MISSES {
            assert!(!message(&mut bounds, false));
        }
        assert!(bounds.begin());
        assert_eq!(code(&bounds).as_deref(), Some(failures::STRUCTURED_OUTPUT));
    }

    #[test]
    fn another_turn_has_its_own_limits() {
        let mut bounds = Bounds::new(Some(1), false);
        assert!(!message(&mut bounds, true));
        bounds.turn_over();
        assert!(!bounds.begin());
    }

    #[test]
    fn run_without_limits_is_not_stopped() {
        let mut bounds = Bounds::new(None, false);
        for _ in 0..1000 {
            assert!(!message(&mut bounds, false));
        }
    }
}
