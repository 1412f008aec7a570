//! The answer of a run is stored once, and every reader gets it.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn semantic(run_id: RunId, payload: &Value) -> NewEvent {
    event(Some(run_id), EventType::Semantic, &payload.to_string())
}

fn append(storage: &Storage, event: NewEvent) -> u64 {
    storage.write(Durability::Batched, move |tx| tx.append_event(&event)).wait().unwrap().cursor
}

fn end_with(storage: &Storage, run_id: RunId, answer: &str) {
    let mut outcome = outcome(RunStatus::Completed);
    outcome.end.final_text = Some(answer.to_owned());
    storage.write(Durability::Full, move |tx| tx.finish_run(run_id, &outcome)).wait().unwrap().unwrap();
}

/// The stored row of the terminal event, and what readers get from it.
fn ends(storage: &Storage, run_id: RunId) -> (String, Value, Option<String>) {
    let row = storage
        .read(|reader| {
            let sql = "SELECT payload FROM run_events WHERE type = 'run.completed' AND cursor =
                (SELECT terminal_cursor FROM runs WHERE run_id = ?1)";
            let id = run_id.as_uuid().as_bytes().as_slice();
            Ok(reader.conn.query_row(sql, [id], |row| row.get::<_, String>(0))?)
        })
        .unwrap();
    let events = storage.read(|reader| reader.run_events(run_id, 0, ReadLimit::default())).unwrap();
    let shown = events.last().unwrap().payload.clone();
    let filter = EventFilter { types: vec![EventType::RunCompleted], run_id: Some(run_id), ..EventFilter::default() };
    let followed = all_events(storage, &filter, ReadLimit::default());
    assert_eq!(followed.last().unwrap().payload, shown);
    (row, shown, storage.read(|reader| reader.run(run_id)).unwrap().unwrap().final_text)
}

fn long(seed: &str) -> String {
    (0..60).map(|number| format!("{seed} {number} \"ä\"\n")).collect()
}

#[test]
fn answer_in_earlier_events_is_not_stored_again() {
    let (_home, storage) = home();
    let answer = long("line");
    let (deltas, text, output) = (submit(&storage), submit(&storage), submit(&storage));
    let (mut from, mut to) = (0, 0);
    for piece in answer.split_inclusive('\n') {
        let delta = |text: &str, message: &str| json!({"kind": "text_delta", "message": message, "text": text});
        to = append(&storage, semantic(deltas, &delta(piece, "m")));
        from = if from == 0 { to } else { from };
        // Events of another run in between, and another message of the same run.
        append(&storage, semantic(text, &delta("something else", "m")));
        append(&storage, semantic(deltas, &delta("aside", "n")));
        append(&storage, chunk(output, piece));
    }
    let whole = json!({"kind": "text", "message": "m", "fromCursor": from, "toCursor": to});
    append(&storage, semantic(deltas, &whole));
    append(&storage, semantic(deltas, &json!({"kind": "text", "message": "s", "parent": "t", "text": "a sub-agent"})));
    append(&storage, semantic(text, &json!({"kind": "text", "message": "m", "text": answer})));
    append(&storage, semantic(text, &json!({"kind": "usage", "inputTokens": 1})));
    for run in [deltas, text, output] {
        end_with(&storage, run, &answer);
        let (row, shown, record) = ends(&storage, run);
        assert!(!row.contains("line 1") && row.len() < 200, "{row}");
        assert_eq!(shown["finalText"], answer.as_str());
        assert_eq!(shown.get("finalTextIn"), None);
        assert_eq!(shown.as_object().unwrap().keys().next_back().unwrap(), "finalText");
        assert_eq!(record.as_deref(), Some(answer.as_str()));
    }
}

#[test]
fn answer_that_is_not_in_earlier_events_is_stored_whole() {
    let (_home, storage) = home();
    let answer = long("line");
    let runs = [submit(&storage), submit(&storage), submit(&storage)];
    append(&storage, semantic(runs[0], &json!({"kind": "text", "message": "m", "text": long("other")})));
    append(&storage, chunk(runs[1], &answer[..100]));
    for run in runs {
        end_with(&storage, run, &answer);
        let (row, shown, record) = ends(&storage, run);
        assert!(row.contains("line 1"), "{row}");
        assert_eq!((shown["finalText"].as_str(), record.as_deref()), (Some(answer.as_str()), Some(answer.as_str())));
    }
    let short = submit(&storage);
    append(&storage, semantic(short, &json!({"kind": "text", "message": "m", "text": "yes"})));
    end_with(&storage, short, "yes");
    assert!(ends(&storage, short).0.contains("\"finalText\":\"yes\""));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn readers_get_the_answer_for_any_events(
        pieces in prop::collection::vec((0_u8..4, "\\PC{0,60}|\u{0}x|\n{1,3}"), 0..24), answered in 0_u8..4, trims in any::<bool>(),
    ) {
        let (_home, storage) = home();
        let run = submit(&storage);
        let mut said = [(); 4].map(|()| (String::new(), None, 0));
        for (channel, text) in &pieces {
            let new = match channel {
                0 => chunk(run, text),
                _ => semantic(run, &json!({"kind": "text_delta", "message": channel.to_string(), "text": text})),
            };
            let cursor = append(&storage, new);
            let (all, from, to) = &mut said[usize::from(*channel)];
            all.push_str(text);
            from.get_or_insert(cursor);
            *to = cursor;
        }
        for (channel, (_, from, to)) in said.iter().enumerate().skip(1) {
            let whole = json!({"kind": "text", "message": channel.to_string(), "fromCursor": from, "toCursor": to});
            append(&storage, semantic(run, &whole));
        }
        let answer = said[usize::from(answered)].0.repeat(if trims { 1 } else { 2 });
        end_with(&storage, run, &answer);
        let (_, shown, record) = ends(&storage, run);
        prop_assert_eq!(shown["finalText"].as_str(), Some(answer.as_str()));
        prop_assert_eq!(record.as_deref(), Some(answer.as_str()));
    }
}
