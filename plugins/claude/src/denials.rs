//! Tool uses that claude denies. Newer versions report each one when it happens; the last line lists all.

use std::collections::VecDeque;

use ostler_plugin::provider::{Notice, ToolCall};
use ostler_plugin::vocabulary::notices;
use ostler_provider_kit::events::notice_with;
use ostler_provider_kit::failure::shorten;
use serde_json::{Map, Value, json};

use crate::items;

/// Maximum number of tool uses and of reported denials that are kept.
const KEPT: usize = 256;

/// Reports each denial once.
#[derive(Debug, Default)]
pub(crate) struct Denials {
    /// Ids of the newest tool uses, with the subject of each.
    uses: VecDeque<(String, String)>,
    /// Ids of the newest denials.
    reported: VecDeque<String>,
}

impl Denials {
    /// The agent uses a tool, which may be denied.
    pub(crate) fn used(&mut self, call: &ToolCall) {
        if let Some(subject) = subject(call) {
            keep(&mut self.uses, (call.id.clone(), subject));
        }
    }

    /// A `system` line of subtype `permission_denied`.
    pub(crate) fn event(&mut self, event: &Map<String, Value>) -> Option<Notice> {
        let word = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default();
        let (id, name) = (word("tool_use_id"), word("tool_name"));
        let subject = self.uses.iter().find(|(known, _)| known == id).map(|(_, subject)| subject.clone());
        // claude's text is meant for the model.
        let reason = match word("decision_reason") {
            "" => word("decision_reason_type"),
            reason => reason,
        };
        self.report(id, name, subject, Some(reason).filter(|reason| !reason.is_empty()))
    }

    /// An entry of `permission_denials` in the last line.
    pub(crate) fn listed(&mut self, denial: &Value) -> Option<Notice> {
        let (id, name) = (items::text(denial, "tool_use_id"), items::text(denial, "tool_name"));
        let input = denial.get("tool_input").unwrap_or(&Value::Null);
        self.report(id, name, subject(&items::call(id, name, input, None)), None)
    }

    /// The host has denied a tool use itself.
    pub(crate) fn known(&mut self, id: String) {
        keep(&mut self.reported, id);
    }

    fn report(&mut self, id: &str, name: &str, subject: Option<String>, reason: Option<&str>) -> Option<Notice> {
        if self.reported.iter().any(|known| known == id) {
            return None;
        }
        if !id.is_empty() {
            keep(&mut self.reported, id.to_owned());
        }
        let subject = subject.map_or_else(String::new, |subject| format!(": {subject}"));
        let mut facts = json!({ "tool": name, "id": id });
        if let Some(reason) = reason {
            facts["reason"] = shorten(reason, 500).into();
        }
        Some(notice_with(notices::TOOL_DENIED, &format!("claude refused {name}{subject}"), &facts))
    }
}

fn keep<T>(list: &mut VecDeque<T>, entry: T) {
    if list.len() >= KEPT {
        list.pop_front();
    }
    list.push_back(entry);
}

/// The command, URL or file of a tool use.
fn subject(call: &ToolCall) -> Option<String> {
    let first = call.commands.first().or(call.urls.first()).or(call.files.first().map(|file| &file.path));
    first.map(|subject| shorten(subject, 500))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(id: &str, more: &Value) -> Map<String, Value> {
        let mut event =
            json!({"type": "system", "subtype": "permission_denied", "tool_name": "Bash", "tool_use_id": id});
        if let (Some(event), Some(more)) = (event.as_object_mut(), more.as_object()) {
            event.extend(more.clone());
        }
        event.as_object().cloned().unwrap_or_default()
    }

    fn reported(notice: Option<Notice>) -> Option<(String, Value)> {
        notice
            .map(|notice| (notice.message, serde_json::from_str(&notice.facts.unwrap_or_default()).unwrap_or_default()))
    }

    #[test]
    fn denial_is_reported_as_it_happens_and_not_again_in_the_last_line() {
        let mut denials = Denials::default();
        let input = json!({"command": "touch made"});
        denials.used(&items::call("t1", "Bash", &input, None));
        assert_eq!(
            reported(denials.event(&denied("t1", &json!({"decision_reason_type": "mode"})))),
            Some(("claude refused Bash: touch made".to_owned(), json!({"tool": "Bash", "id": "t1", "reason": "mode"})))
        );
        let listed = json!({"tool_name": "Bash", "tool_use_id": "t1", "tool_input": input});
        assert_eq!(reported(denials.listed(&listed)), None);
        // A denial that only the last line reports.
        let other = json!({"tool_name": "WebFetch", "tool_use_id": "t2", "tool_input": {"url": "https://a.example/"}});
        assert_eq!(
            reported(denials.listed(&other)),
            Some(("claude refused WebFetch: https://a.example/".to_owned(), json!({"tool": "WebFetch", "id": "t2"})))
        );
    }

    #[test]
    fn denial_of_an_unknown_use_is_reported_without_its_subject() {
        let event = denied("t9", &json!({"decision_reason_type": "rule", "decision_reason": "a deny rule"}));
        assert_eq!(
            reported(Denials::default().event(&event)),
            Some(("claude refused Bash".to_owned(), json!({"tool": "Bash", "id": "t9", "reason": "a deny rule"})))
        );
    }

    #[test]
    fn kept_state_is_bounded() {
        let mut denials = Denials::default();
        for number in 0..2000 {
            let id = number.to_string();
            denials.used(&items::call(&id, "Bash", &json!({"command": "x".repeat(5000)}), None));
            assert!(denials.event(&denied(&id, &json!({}))).is_some());
        }
        assert!(denials.uses.len() <= KEPT && denials.reported.len() <= KEPT);
        assert!(denials.uses.iter().all(|(_, subject)| subject.len() <= 500));
    }
}
