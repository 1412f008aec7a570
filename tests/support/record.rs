//! Checks and queries on the events of a run.

use serde_json::Value;

const TERMINAL: [&str; 3] = ["run.completed", "run.failed", "run.canceled"];

/// The types of events, in order.
pub fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["type"].as_str()).collect()
}

/// All events of one type.
pub fn of_type<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["type"] == kind).collect()
}

/// Payloads of the semantic events of one kind.
pub fn semantics<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    of_type(events, "run.semantic")
        .into_iter()
        .map(|event| &event["payload"])
        .filter(|payload| payload["kind"] == kind)
        .collect()
}

/// What a terminal has shown, according to these events.
pub fn screen(events: &[Value]) -> String {
    of_type(events, "run.chunk.stdout").iter().map(|event| event["payload"]["text"].as_str().unwrap()).collect()
}

/// Codes of the warnings.
pub fn warning_codes(events: &[Value]) -> Vec<&str> {
    of_type(events, "run.warning").into_iter().filter_map(|event| event["payload"]["code"].as_str()).collect()
}

/// The terminal event, if there is one.
pub fn end_of(events: &[Value]) -> Option<&Value> {
    events.iter().find(|event| event["type"].as_str().is_some_and(|kind| TERMINAL.contains(&kind)))
}

/// The answer in the terminal event.
pub fn answer(events: &[Value]) -> &str {
    end_of(events).and_then(|event| event["payload"]["finalText"].as_str()).unwrap_or_default()
}

/// The output of the tools: their deltas and results.
pub fn tool_outputs(events: &[Value]) -> String {
    let mut text = String::new();
    for payload in semantics(events, "tool_delta") {
        text.push_str(payload["text"].as_str().unwrap_or_default());
    }
    for payload in semantics(events, "tool_result") {
        text.push_str(payload["output"].as_str().unwrap_or_default());
    }
    text
}

/// Checks the events of an ended run: numbers from 1 without gaps, growing cursors, one terminal event, and a session that
/// is opened before a turn ends.
///
/// # Panics
/// If a check fails.
#[track_caller]
pub fn check_run_events(events: &[Value]) {
    let numbers: Vec<u64> = events.iter().filter_map(|event| event["seq"].as_u64()).collect();
    let expected: Vec<u64> = (1..=numbers.len() as u64).collect();
    assert_eq!(numbers, expected, "numbers have gaps: {:?}", kinds(events));
    let cursors: Vec<u64> = events.iter().filter_map(|event| event["cursor"].as_u64()).collect();
    assert!(cursors.windows(2).all(|pair| pair[0] < pair[1]), "cursors do not grow: {cursors:?}");
    let ends = events.iter().filter(|event| end_of(std::slice::from_ref(event)).is_some()).count();
    assert_eq!(ends, 1, "terminal events: {:?}", kinds(events));
    let opened = events.iter().position(|event| event["type"] == "session.opened");
    let turn_end = events.iter().position(|event| event["payload"]["kind"] == "turn_complete");
    if let (Some(opened), Some(turn_end)) = (opened, turn_end) {
        assert!(opened < turn_end, "a turn ends before its session is opened: {:?}", kinds(events));
    }
}
