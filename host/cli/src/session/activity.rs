//! Whether the agent of a session works, from the events of its run.

use jiff::Timestamp;
use serde::Deserialize;

use ostler_protocol::{Event, EventType, Semantic};

/// What a session does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    /// The CLI starts.
    Starting,
    /// A turn runs.
    Working,
    /// The agent waits for a message.
    Idle,
}

/// What an event says about the activity. `prompted`: the run has a prompt, so its first turn begins at once. `None` if it
/// says nothing.
pub(super) fn of_event(event: &Event, prompted: bool) -> Option<Activity> {
    let begun = if prompted { Activity::Working } else { Activity::Idle };
    match event.kind {
        EventType::RunStarted | EventType::SessionOpened => Some(begun),
        EventType::SessionInputAccepted => Some(Activity::Working),
        EventType::Semantic => match Semantic::deserialize(&event.payload).ok()? {
            Semantic::TurnComplete(_) => Some(Activity::Idle),
            Semantic::TextDelta(_)
            | Semantic::Text(_)
            | Semantic::ThinkingDelta(_)
            | Semantic::Thinking(_)
            | Semantic::ToolStart(_)
            | Semantic::ToolDelta(_)
            | Semantic::ToolResult(_)
            | Semantic::ApprovalRequested(_) => Some(Activity::Working),
            _ => None,
        },
        _ => None,
    }
}

/// The activity after these events, the oldest first, and since when.
pub(super) fn after(events: &[Event], prompted: bool) -> Option<(Activity, Timestamp)> {
    let mut found: Option<(Activity, Timestamp)> = None;
    for event in events {
        let Some(activity) = of_event(event, prompted) else { continue };
        // The time of an activity is that of its first event.
        if found.is_none_or(|(before, _)| before != activity) {
            found = Some((activity, event.timestamp));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::tests::event;

    fn last(events: &[(EventType, Value)], prompted: bool) -> Option<Activity> {
        let events: Vec<Event> = events.iter().map(|(kind, payload)| event(*kind, payload.clone())).collect();
        after(&events, prompted).map(|(activity, _)| activity)
    }

    #[test]
    fn input_begins_a_turn_and_its_end_makes_the_session_idle() {
        let opened = (EventType::SessionOpened, json!({"sessionId": "s", "origin": "fresh"}));
        let input = (EventType::SessionInputAccepted, json!({"bytes": 1, "text": "x", "actor": "a"}));
        let delta = (EventType::Semantic, json!({"kind": "text_delta", "message": "m", "text": "x"}));
        let end = (EventType::Semantic, json!({"kind": "turn_complete", "status": "completed"}));
        let usage = (EventType::Semantic, json!({"kind": "usage", "inputTokens": 1}));
        assert_eq!(last(&[], true), None);
        assert_eq!(last(std::slice::from_ref(&opened), false), Some(Activity::Idle));
        assert_eq!(last(std::slice::from_ref(&opened), true), Some(Activity::Working));
        assert_eq!(last(&[opened.clone(), input.clone()], false), Some(Activity::Working));
        assert_eq!(last(&[input.clone(), delta.clone(), end.clone(), usage.clone()], true), Some(Activity::Idle));
        assert_eq!(last(&[end, usage, delta], true), Some(Activity::Working), "a queued message");
    }
}
