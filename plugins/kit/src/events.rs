//! Events that are the same for several CLIs.

use ostler_plugin::provider::{Notice, OtherEvent, Semantic, TextPiece};
use ostler_plugin::vocabulary::notices;
use serde_json::{Map, Value, json};

/// A notice without facts. `code` is a word of the vocabulary.
#[must_use]
pub fn notice(code: &str, message: &str) -> Notice {
    Notice { code: code.to_owned(), message: message.to_owned(), facts: None }
}

/// A notice with facts, which are a JSON object.
#[must_use]
pub fn notice_with(code: &str, message: &str, facts: &Value) -> Notice {
    Notice { facts: Some(facts.to_string()), ..notice(code, message) }
}

/// A piece of text of a message. `parent` is the tool use whose sub-agent writes it.
#[must_use]
pub fn piece(message: &str, text: &str, parent: Option<&str>) -> TextPiece {
    TextPiece { message: message.to_owned(), text: text.to_owned(), parent: parent.map(str::to_owned) }
}

/// The agent's plan. Each step has a `text` and a `status`; the status of completed steps is `completed`.
#[must_use]
pub fn plan(steps: &[Value]) -> Semantic {
    let done = steps.iter().filter(|step| step["status"] == "completed").count();
    let message = format!("{done} of {} steps done", steps.len());
    Semantic::Progress(notice_with(notices::PLAN, &message, &json!({ "steps": steps })))
}

/// The work is complete, and the CLI should exit. `background` contains the background tasks for which it still waits, each
/// with an `id`, a `kind` and a `description`.
#[must_use]
pub fn work_done(background: &[Value]) -> Semantic {
    Semantic::Progress(notice_with(notices::WORK_DONE, "the work is done", &json!({ "background": background })))
}

/// The CLI has exceeded a limit that it does not enforce. The host ends it immediately, and `finish` reports why the run
/// failed.
#[must_use]
pub fn stop() -> Semantic {
    Semantic::Progress(notice(notices::STOP, "the CLI exceeds a limit of the run"))
}

/// An event that the vocabulary does not cover, with its fields unchanged. Its kind is the name of the CLI and the CLI's own
/// kind.
#[must_use]
pub fn other(cli: &str, kind: &str, fields: &Map<String, Value>) -> Semantic {
    Semantic::Other(OtherEvent { kind: format!("{cli}.{kind}"), fields: Value::Object(fields.clone()).to_string() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]

    use super::*;

    #[test]
    fn plan_counts_completed_steps() {
        let steps = [json!({"text": "a", "status": "completed"}), json!({"text": "b", "status": "pending"})];
        let Semantic::Progress(notice) = plan(&steps) else { panic!("not a progress event") };
        assert_eq!((notice.code.as_str(), notice.message.as_str()), ("plan", "1 of 2 steps done"));
        let facts = r#"{"steps":[{"text":"a","status":"completed"},{"text":"b","status":"pending"}]}"#;
        assert_eq!(notice.facts.as_deref(), Some(facts));
    }
}
