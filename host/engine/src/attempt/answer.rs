//! Validates the answer of a run against the schema of its payload, on a thread that the attempt can abandon.
//!
//! The work of a check is counted before it is done ([`BoundedSchema`]), so that a check is short. If a check takes longer
//! nevertheless, a cancel, a time limit and the end of the host do not wait for it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::attempt::outcome::{StopReason, Structured};
use crate::spawn;
use ostler_protocol::{Problem, StructuredOutputSpec};
use ostler_schema::BoundedSchema;

/// Longest time for one check.
const LONGEST: Duration = Duration::from_secs(10);
/// Interval at which the check looks whether the run was interrupted.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// Maximum number of concurrent checks, abandoned ones included.
const MOST_CHECKS: usize = 300;
/// Abandoned checks that still run. At the maximum, no other check starts.
const MOST_ABANDONED: usize = 4;

static CHECKS: Counter = Counter(AtomicUsize::new(0));
static ABANDONED: Counter = Counter(AtomicUsize::new(0));

/// Number of existing [`Counted`] values.
#[derive(Debug)]
struct Counter(AtomicUsize);

#[derive(Debug)]
struct Counted(&'static Counter);

impl Counter {
    /// `None` if the maximum is reached.
    fn take(&'static self, most: usize) -> Option<Counted> {
        let counted = Counted(self);
        (self.0.fetch_add(1, Ordering::SeqCst) < most).then_some(counted)
    }

    fn is_full(&self, most: usize) -> bool {
        self.0.load(Ordering::SeqCst) >= most
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The result of the request for structured output.
///
/// # Errors
/// What `interrupted` returned before the check had ended.
pub(crate) fn check(
    wanted: &StructuredOutputSpec,
    output: Option<&str>,
    interrupted: &dyn Fn() -> Option<StopReason>,
) -> Result<Structured, StopReason> {
    let Some(text) = output else {
        return Ok(invalid("no structured output came", Value::Null));
    };
    let unchecked = |message: &str| Ok(invalid(message, Value::String(text.to_owned())));
    let counted = CHECKS.take(MOST_CHECKS).filter(|_| !ABANDONED.is_full(MOST_ABANDONED));
    let Some(counted) = counted else {
        return unchecked("it could not be checked: too many checks are under way");
    };
    let (sender, receiver) = sync_channel(1);
    let (schema, owned) = (wanted.schema.clone(), text.to_owned());
    // The receiver is dropped when the attempt abandons the check.
    let (abandon, abandoned) = sync_channel::<Counted>(1);
    let started = spawn("answer", move || {
        let checked = check_now(&schema, &owned);
        // The send fails if the attempt has abandoned the check.
        _ = sender.send(checked);
        drop((counted, abandoned));
    });
    if let Err(error) = started {
        return unchecked(&format!("it could not be checked: {}", error.message));
    }
    let began = Instant::now();
    let leave = || {
        if let Some(counted) = ABANDONED.take(usize::MAX) {
            _ = abandon.try_send(counted);
        }
    };
    loop {
        match receiver.recv_timeout(ASK_AGAIN) {
            Ok(checked) => return Ok(checked),
            Err(RecvTimeoutError::Disconnected) => return unchecked("a defect in the host ended its check"),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Some(side) = interrupted() {
            leave();
            return Err(side);
        }
        if began.elapsed() > LONGEST {
            leave();
            let seconds = LONGEST.as_secs();
            return unchecked(&format!("it could not be checked within {seconds} seconds; simplify the schema"));
        }
    }
}

fn invalid(message: &str, value: Value) -> Structured {
    Structured::Invalid { errors: vec![Problem { pointer: String::new(), message: message.to_owned() }], value }
}

fn check_now(schema: &Value, text: &str) -> Structured {
    let value = match serde_json::from_str::<Value>(text) {
        Ok(value) => value,
        Err(error) => return invalid(&format!("not JSON: {error}"), Value::String(text.to_owned())),
    };
    let explain = |error: &jsonschema::ValidationError<'_>| {
        vec![Problem { pointer: error.instance_path().to_string(), message: error.to_string() }]
    };
    let checked = BoundedSchema::compile(schema).and_then(|schema| schema.problems(&value, &explain));
    match checked {
        Ok(errors) if errors.is_empty() => Structured::Valid(value),
        Ok(errors) => Structured::Invalid { errors, value },
        Err(error) => invalid(&format!("it could not be checked: {error}"), value),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::json;

    use super::*;

    /// References that double at each level: more work than the time limit allows.
    fn endless() -> StructuredOutputSpec {
        let mut definitions = serde_json::Map::new();
        for level in 0..40 {
            let next = json!({"$ref": format!("#/$defs/d{}", level + 1)});
            definitions.insert(format!("d{level}"), json!({"allOf": [next, next]}));
        }
        definitions.insert("d40".to_owned(), json!({}));
        StructuredOutputSpec { schema: json!({"$defs": definitions, "$ref": "#/$defs/d0"}), strict: None }
    }

    #[test]
    fn schema_of_an_earlier_version_beyond_the_limits_ends_the_check() {
        let began = Instant::now();
        let Ok(Structured::Invalid { errors, .. }) = check(&endless(), Some("{}"), &|| None) else {
            panic!("taken");
        };
        assert!(errors[0].message.contains("could not be checked"), "{errors:?}");
        assert!(began.elapsed() < LONGEST);
    }

    #[test]
    fn interruption_ends_the_wait() {
        // A document that takes longer to parse than the interval.
        let long = format!("[{}0]", "0,".repeat(8 << 20));
        let wanted = StructuredOutputSpec { schema: json!({"type": "array"}), strict: None };
        let side = check(&wanted, Some(&long), &|| Some(StopReason::Canceled));
        assert_eq!(side, Err(StopReason::Canceled));
    }
}
