//! Events that transcripts of several CLIs tell in the same way.

use ostler_plugin::provider::{Notice, OtherEvent, Semantic, TextPiece};
use ostler_plugin::vocabulary::notices;
use serde_json::{Map, Value, json};

/// A notice without facts. The code is one of the vocabulary's.
#[must_use]
pub fn notice(code: &str, message: &str) -> Notice {
    Notice { code: code.to_owned(), message: message.to_owned(), facts: None }
}

/// A notice with facts, a JSON object.
#[must_use]
pub fn notice_with(code: &str, message: &str, facts: &Value) -> Notice {
    Notice { facts: Some(facts.to_string()), ..notice(code, message) }
}

/// A piece of text of the message with this id. `parent` is the tool use whose sub-agent writes it.
#[must_use]
pub fn piece(message: &str, text: &str, parent: Option<&str>) -> TextPiece {
    TextPiece { message: message.to_owned(), text: text.to_owned(), parent: parent.map(str::to_owned) }
}

/// The agent's plan. Each step has a `text` and a `status`, which is `completed` where it is done.
#[must_use]
pub fn plan(steps: &[Value]) -> Semantic {
    let done = steps.iter().filter(|step| step["status"] == "completed").count();
    let message = format!("{done} of {} steps done", steps.len());
    Semantic::Progress(notice_with(notices::PLAN, &message, &json!({ "steps": steps })))
}

/// All that was asked is done, and the CLI has nothing left to do but to end. `background` is what it still waits for,
/// each with an `id`, a `kind` and a `description`.
#[must_use]
pub fn work_done(background: &[Value]) -> Semantic {
    Semantic::Progress(notice_with(notices::WORK_DONE, "the work is done", &json!({ "background": background })))
}

/// The CLI goes on although it must not: the host ends it at once, and the transcript's `finish` says why it failed.
#[must_use]
pub fn stop() -> Semantic {
    Semantic::Progress(notice(notices::STOP, "the CLI goes past a limit of the run"))
}

/// What the plugin has no word for: its fields as they are, by the CLI's name and its own word for the kind.
#[must_use]
pub fn other(cli: &str, kind: &str, fields: &Map<String, Value>) -> Semantic {
    Semantic::Other(OtherEvent { kind: format!("{cli}.{kind}"), fields: Value::Object(fields.clone()).to_string() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]

    use super::*;

    #[test]
    fn a_plan_counts_what_is_done() {
        let steps = [json!({"text": "a", "status": "completed"}), json!({"text": "b", "status": "pending"})];
        let Semantic::Progress(notice) = plan(&steps) else { panic!("no progress") };
        assert_eq!((notice.code.as_str(), notice.message.as_str()), ("plan", "1 of 2 steps done"));
        let facts = r#"{"steps":[{"text":"a","status":"completed"},{"text":"b","status":"pending"}]}"#;
        assert_eq!(notice.facts.as_deref(), Some(facts));
    }
}
