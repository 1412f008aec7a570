use ostler_protocol::{Artifact, ArtifactId};

use super::*;

/// A run of a provider that ended this many seconds after the epoch, with events of `text`.
fn ended(storage: &Storage, provider: &str, seconds: i64, events: usize, text: &str) -> RunId {
    let run = NewRun { provider: provider.to_owned(), ..new_run() };
    let run_id = run.run_id;
    let end = Outcome { at: at(seconds), ..outcome(RunStatus::Completed) };
    storage
        .write(Durability::Batched, move |tx| {
            tx.insert_run(&run)?;
            tx.insert_job(&new_job(run_id))
        })
        .wait()
        .unwrap();
    for _ in 0..events.div_ceil(500) {
        storage.append((0..events.min(500)).map(|_| chunk(run_id, text)).collect()).wait().unwrap();
    }
    storage.write(Durability::Batched, move |tx| tx.finish_run(run_id, &end)).wait().unwrap();
    run_id
}

fn delete(storage: &Storage, runs: &[RunId], slice: Slice) -> Result<usize, StorageError> {
    let runs = runs.to_vec();
    storage.write(Durability::Batched, move |tx| tx.delete_runs(&runs, slice)).wait()
}

fn events_of(storage: &Storage, run_id: RunId) -> Vec<Event> {
    let filter = EventFilter { run_id: Some(run_id), ..EventFilter::default() };
    all_events(storage, &filter, ReadLimit::default())
}

/// All ended runs, the last ended first, read in small pages.
fn listed(storage: &Storage) -> Vec<EndedRun> {
    let (mut runs, mut from) = (Vec::new(), None);
    loop {
        let page = storage.read(|r| r.ended_runs(from, 2)).unwrap();
        assert!(page.items.len() <= 2);
        runs.extend(page.items);
        from = page.next;
        if from.is_none() {
            return runs;
        }
    }
}

#[test]
fn runs_are_deleted_in_slices() {
    let (_home, storage) = home();
    let kept = ended(&storage, "codex", 1, 500, "k");
    let (long, short) = (ended(&storage, "codex", 2, 1000, "l"), ended(&storage, "codex", 3, 1, "s"));
    let slice = Slice { events: 400, bytes: 1 << 20 };
    for deleted in [400, 800] {
        assert_eq!(delete(&storage, &[long, short], slice).unwrap(), 0);
        let events = events_of(&storage, long);
        assert_eq!((events.len() as u64, events[0].seq), (1001 - deleted, Some(deleted + 1)));
        // A reader that returns with a cursor in this run is notified; for a complete run, nothing is missing.
        let check = |run| storage.read(|r| r.check_cursor(1, run)).unwrap();
        assert!(matches!(check(Some(long)), CursorCheck::Truncated { .. }));
        assert!(matches!(check(None), CursorCheck::Truncated { .. }));
        assert_eq!(check(Some(kept)), CursorCheck::Complete);
    }
    assert_eq!(
        delete(&storage, &[long, short], slice).unwrap(),
        2,
        "the rest of the first run and the second one fit into one slice"
    );
    assert_eq!(delete(&storage, &[long, short], slice).unwrap(), 2, "deleted runs are counted again");
    for gone in [long, short] {
        assert_eq!(storage.read(|r| r.run_status(gone)).unwrap(), None);
    }
    assert_eq!(events_of(&storage, kept).len(), 501);
    assert_eq!(all_events(&storage, &EventFilter::default(), ReadLimit::default()).len(), 501);
}

#[test]
fn slice_is_limited_by_bytes_and_takes_at_least_one_event() {
    let (_home, storage) = home();
    let run_id = ended(&storage, "codex", 1, 10, &"x".repeat(10_000));
    let slice = Slice { events: 100, bytes: 25_000 };
    assert_eq!(delete(&storage, &[run_id], slice).unwrap(), 0);
    assert_eq!(events_of(&storage, run_id).len(), 8);
    assert_eq!(delete(&storage, &[run_id], Slice { events: 100, bytes: 1 }).unwrap(), 0);
    assert_eq!(events_of(&storage, run_id).len(), 7);
}

#[test]
fn run_that_has_not_ended_is_not_deleted() {
    let (_home, storage) = home();
    let (old, live) = (ended(&storage, "codex", 1, 3, "x"), submit(&storage));
    let error = delete(&storage, &[old, live], Slice { events: 1000, bytes: 1 << 20 }).unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Invalid);
    assert_eq!(events_of(&storage, old).len(), 4, "the write was undone as a whole");
    assert!(listed(&storage).iter().all(|run| run.run_id != live));
}

#[test]
fn ended_runs_are_listed_newest_first() {
    let (_home, storage) = home();
    let runs: Vec<RunId> = [5, 9, 9, 2, 9].iter().map(|seconds| ended(&storage, "codex", *seconds, 1, "x")).collect();
    let order: Vec<RunId> = [4, 2, 1, 0, 3].map(|index: usize| runs[index]).to_vec();
    assert_eq!(listed(&storage).iter().map(|run| run.run_id).collect::<Vec<_>>(), order);
    assert_eq!(listed(&storage)[0].ended_at, at(9));
}

#[test]
fn counted_size_of_runs_matches_the_growth_of_the_file() {
    let (home, storage) = home();
    storage.write(Durability::Batched, |tx| tx.vacuum(0)).wait().unwrap();
    let before = storage.read(Reader::sizes).unwrap().database;
    for (events, text) in [(4000, "a few words, as a delta brings them"), (100, &"x".repeat(8000)), (0, "")] {
        for _ in 0..4 {
            ended(&storage, "codex", 1, events, text);
        }
    }
    let sizes = storage.read(Reader::sizes).unwrap();
    let grown = sizes.database - sizes.free - before;
    let counted: u64 = listed(&storage).iter().map(|run| run.bytes).sum();
    let ratio = counted as f64 / grown as f64;
    assert!((0.85..1.15).contains(&ratio), "{counted} counted, the file has grown by {grown}");
    // A writer without cached counts gets the same result.
    let run = new_run();
    let run_id = run.run_id;
    storage.write(Durability::Batched, move |tx| tx.insert_run(&run)).wait().unwrap();
    storage.append(vec![chunk(run_id, "x")]).wait().unwrap();
    drop(storage);
    let storage = home.open();
    let end = outcome(RunStatus::Completed);
    storage.write(Durability::Batched, move |tx| tx.finish_run(run_id, &end)).wait().unwrap();
    let remembered = ended(&storage, "codex", 9, 1, "x");
    let bytes = |id| listed(&storage).iter().find(|run| run.run_id == id).unwrap().bytes;
    assert_eq!(bytes(run_id), bytes(remembered));
}

#[test]
fn kept_files_are_counted_and_listed() {
    let (_home, storage) = home();
    let run_id = ended(&storage, "codex", 1, 1, "x");
    let before = listed(&storage)[0].bytes;
    let record = |path: &str, bytes, kept| {
        let artifact = Artifact {
            artifact_id: ArtifactId::generate(),
            kind: "md".to_owned(),
            path: PathBuf::from(path),
            bytes,
            created_at: at(2),
        };
        storage.write(Durability::Full, move |tx| tx.insert_artifact(run_id, &artifact, kept)).wait().unwrap();
    };
    record("/exports/a.md", 300, true);
    record("/home/me/a.md", 5000, false);
    record("/exports/a.md", 700, true);
    assert_eq!(listed(&storage)[0].bytes, before + 700, "written again, it has one record");
    assert_eq!(storage.read(|r| r.kept_files(run_id)).unwrap(), [PathBuf::from("/exports/a.md")]);
    assert_eq!(storage.read(|r| r.run(run_id)).unwrap().unwrap().artifacts.len(), 2);
}

#[test]
fn events_without_a_run_are_deleted_by_time() {
    let (_home, storage) = home();
    let run_id = submit(&storage);
    let audit = |seconds| NewEvent { timestamp: at(seconds), ..event(None, EventType::PolicyAudit, "{}") };
    storage.append(vec![audit(1), chunk(run_id, "x"), audit(3), audit(2), audit(9)]).wait().unwrap();
    let (first, rest) = {
        let page = storage.read(|r| r.loose_events(None, 3)).unwrap();
        (page.items.clone(), storage.read(|r| r.loose_events(page.next, 3)).unwrap())
    };
    assert_eq!(first.iter().map(|event| event.at).collect::<Vec<_>>(), [at(9), at(3), at(2)]);
    assert_eq!((rest.items[0].at, rest.next), (at(1), None));
    let delete =
        |limit| storage.write(Durability::Batched, move |tx| tx.delete_loose_events(at(3), limit)).wait().unwrap();
    assert_eq!((delete(2), delete(2), delete(2)), (2, 1, 0));
    let left = all_events(&storage, &EventFilter::default(), ReadLimit::default());
    assert_eq!(left.iter().map(|event| event.cursor).collect::<Vec<_>>(), [2, 5]);
    assert_eq!(storage.read(|r| r.check_cursor(1, None)).unwrap(), CursorCheck::Truncated { first: 2 });
}

#[test]
fn empty_and_unchanged_conversation_is_deleted() {
    let (_home, storage) = home();
    let row = new_conversation();
    let id = row.conversation_id;
    let run_id = ended(&storage, "codex", 1, 1, "x");
    storage
        .write(Durability::Batched, move |tx| {
            tx.insert_conversation(&row)?;
            let created = NewEvent { conversation_id: Some(id), ..event(None, EventType::ConversationCreated, "{}") };
            tx.append_event(&created)?;
            tx.link_conversation(id, run_id, at(5))
        })
        .wait()
        .unwrap();
    let delete = |seconds| {
        storage.write(Durability::Batched, move |tx| tx.delete_quiet_conversation(id, at(seconds))).wait().unwrap()
    };
    assert!(storage.read(|r| r.quiet_conversations(at(5), 10)).unwrap().is_empty());
    let quiet = storage.read(|r| r.quiet_conversations(at(6), 10)).unwrap();
    assert_eq!((quiet[0].conversation_id, quiet[0].runs.as_slice()), (id, &[run_id][..]));
    assert!(!delete(6), "it holds a run");
    storage.write(Durability::Batched, move |tx| tx.delete_run(run_id)).wait().unwrap();
    assert!(!delete(5), "it has changed since");
    assert!(delete(6));
    assert!(delete(6), "it is gone");
    assert!(storage.read(|r| r.conversation(id)).unwrap().is_none());
    assert!(all_events(&storage, &EventFilter::default(), ReadLimit::default()).is_empty());
    let late = NewEvent { conversation_id: Some(id), ..event(None, EventType::ConversationRenamed, "{}") };
    assert_eq!(storage.append(vec![late]).wait().unwrap_err().kind(), StorageErrorKind::NotFound);
}

#[test]
fn file_shrinks_after_deletion() {
    let (home, storage) = home();
    let run_id = ended(&storage, "codex", 1, 500, &"x".repeat(20_000));
    storage.write(Durability::Full, |_| Ok(())).wait().unwrap();
    assert_eq!(delete(&storage, &[run_id], Slice { events: u32::MAX, bytes: u64::MAX }).unwrap(), 1);
    let mut writes = 0;
    while storage.write(Durability::Batched, |tx| tx.vacuum(256)).wait().unwrap() > 0 {
        writes += 1;
        assert!(writes < 100);
    }
    assert!(writes > 5, "a slice at a time: {writes}");
    // This write comes after the log was moved into the file.
    storage.write(Durability::Batched, |_| Ok(())).wait().unwrap();
    let length = std::fs::metadata(home.path()).unwrap().len();
    assert!(length < 1 << 20, "{length}");
}
