use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Submit,
    Append { run: usize, events: usize, wait: bool },
    Fail { run: usize, events: usize },
    Audit,
    Finish { run: usize },
    Delete { run: usize },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Submit),
        8 => (0..6_usize, 1..5_usize, any::<bool>()).prop_map(|(run, events, wait)| Step::Append { run, events, wait }),
        3 => (0..6_usize, 1..5_usize).prop_map(|(run, events)| Step::Fail { run, events }),
        1 => Just(Step::Audit),
        2 => (0..6_usize).prop_map(|run| Step::Finish { run }),
        1 => (0..6_usize).prop_map(|run| Step::Delete { run }),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Default)]
struct Expected {
    /// Texts of each run, in order, and whether it has ended.
    runs: Vec<(RunId, Vec<String>, bool)>,
    /// Runs that were deleted.
    gone: usize,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// For any order of writes, undone writes, ends, deletions and restarts: numbers have no gaps, cursors grow and are
    /// never reused, every event keeps its position, and each ended run has exactly one terminal event, its last.
    #[test]
    fn events_are_numbered_without_gaps(steps in proptest::collection::vec(step(), 1..60)) {
        let home = Home::new();
        let mut storage = home.open();
        let mut expected = Expected::default();
        let mut highest = 0;
        let mut text = 0;
        for step in steps {
            let pick = |run: usize| (!expected.runs.is_empty()).then(|| run % expected.runs.len());
            match step {
                Step::Submit => expected.runs.push((submit(&storage), Vec::new(), false)),
                Step::Append { run, events, wait } => {
                    let Some(run) = pick(run) else { continue };
                    let (run_id, texts, ended) = &mut expected.runs[run];
                    let mut batch = Vec::new();
                    for _ in 0..events {
                        text += 1;
                        batch.push(chunk(*run_id, &text.to_string()));
                        if !*ended {
                            texts.push(text.to_string());
                        }
                    }
                    let pending = storage.append(batch);
                    if *ended {
                        prop_assert_eq!(pending.wait().unwrap_err().kind(), StorageErrorKind::Ended);
                    } else if wait {
                        let written = pending.wait().unwrap();
                        prop_assert!(written[0].cursor > highest, "a cursor came back");
                        highest = written[events - 1].cursor;
                        prop_assert_eq!(written[events - 1].seq, Some(texts.len() as u64));
                    }
                }
                Step::Fail { run, events } => {
                    let Some(run) = pick(run) else { continue };
                    let run_id = expected.runs[run].0;
                    drop(storage.write(Durability::Batched, move |tx| -> Result<(), StorageError> {
                        for _ in 0..events {
                            tx.append_event(&chunk(run_id, "undone"))?;
                        }
                        Err(StorageError::new(StorageErrorKind::Invalid, "undo"))
                    }));
                }
                Step::Audit => drop(storage.append(vec![event(None, EventType::PolicyAudit, "{}")])),
                Step::Finish { run } => {
                    let Some(run) = pick(run) else { continue };
                    let first = !std::mem::replace(&mut expected.runs[run].2, true);
                    let written = finish(&storage, expected.runs[run].0, RunStatus::Failed);
                    prop_assert_eq!(written.is_some(), first);
                    if let Some(written) = written {
                        prop_assert!(written.cursor > highest);
                        highest = written.cursor;
                    }
                }
                Step::Delete { run } => {
                    let Some(run) = pick(run) else { continue };
                    if expected.runs[run].2 {
                        let (run_id, ..) = expected.runs.remove(run);
                        prop_assert!(storage.write(Durability::Batched, move |tx| tx.delete_run(run_id)).wait().unwrap());
                        expected.gone += 1;
                    }
                }
                Step::Reopen => {
                    drop(storage);
                    storage = home.open();
                }
            }
        }
        storage.write(Durability::Batched, |_| Ok(())).wait().unwrap();
        check(&storage, &expected)?;
        drop(storage);
        check(&home.open(), &expected)?;
    }
}

fn check(storage: &Storage, expected: &Expected) -> Result<(), TestCaseError> {
    let events = all_events(storage, &EventFilter::default(), ReadLimit { events: 3, bytes: 1 << 20 });
    prop_assert!(events.windows(2).all(|pair| pair[0].cursor < pair[1].cursor));
    prop_assert!(*storage.events_watch().borrow() >= events.last().map_or(0, |event| event.cursor));
    let mut by_run: BTreeMap<RunId, Vec<Event>> = BTreeMap::new();
    for event in events {
        match event.run_id {
            Some(run_id) => by_run.entry(run_id).or_default().push(event),
            None => prop_assert_eq!(event.seq, None),
        }
    }
    for (run_id, texts, ended) in &expected.runs {
        let events = by_run.remove(run_id).unwrap_or_default();
        prop_assert!(events.iter().zip(1..).all(|(event, seq)| event.seq == Some(seq)));
        let stored: Vec<&str> = events.iter().filter_map(|event| event.payload["text"].as_str()).collect();
        prop_assert_eq!(&stored, texts);
        let terminal: Vec<usize> =
            events.iter().enumerate().filter(|(_, event)| event.kind.terminal()).map(|(n, _)| n).collect();
        prop_assert_eq!(terminal, if *ended { vec![events.len() - 1] } else { vec![] });
        let own = storage.read(|r| r.run_events(*run_id, 0, ReadLimit::default())).unwrap();
        prop_assert_eq!(own, events);
    }
    prop_assert!(by_run.is_empty(), "events of no run that is there");
    Ok(())
}
