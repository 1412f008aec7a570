//! Erased data is in no file, and pauses are stored.

use super::*;

/// In lower case, as the search index has it.
const WORD: &str = "archaeopteryx";

fn files_contain_word(home: &Home) -> bool {
    [home.path(), home.beside("-wal")].iter().any(|path| {
        let bytes = std::fs::read(path).unwrap_or_default().to_ascii_lowercase();
        memchr::memmem::find(&bytes, WORD.as_bytes()).is_some()
    })
}

/// An ended run with the word in its prompt, its events and the search index.
fn run_with_word(storage: &Storage) -> RunId {
    let run = NewRun { payload: format!("{{\"prompt\": \"{}\"}}", format!("{WORD} ").repeat(2000)), ..new_run() };
    let run_id = run.run_id;
    write(storage, move |tx| {
        tx.insert_run(&run)?;
        tx.insert_job(&new_job(run_id)).map(drop)
    })
    .unwrap();
    storage.append((0..200).map(|_| chunk(run_id, WORD)).collect()).wait().unwrap();
    write(storage, move |tx| tx.finish_run(run_id, &outcome(RunStatus::Completed)).map(drop)).unwrap();
    storage.index_texts().unwrap();
    run_id
}

/// Deletes runs and erases what they leave behind, as the engine does.
fn erase(storage: &Storage, mut left: Vec<RunId>) {
    let slice = Slice { events: 150, bytes: 1 << 20 };
    while !left.is_empty() {
        let runs = left.clone();
        let deleted = storage.write(Durability::Batched, move |tx| tx.erasing(|tx| tx.delete_runs(&runs, slice)));
        left.drain(..deleted.wait().unwrap());
    }
    while !storage.write(Durability::Batched, |tx| tx.erasing(|tx| tx.purge_texts(64))).wait().unwrap() {}
    while storage.write(Durability::Batched, |tx| tx.vacuum(64)).wait().unwrap() > 0 {}
    let mut cleared = Some(0);
    while let Some(after) = cleared {
        cleared =
            storage.write(Durability::Batched, move |tx| tx.erasing(|tx| tx.clear_unused(after, 7))).wait().unwrap();
    }
    assert!(storage.empty_log(std::time::Duration::from_secs(30)).unwrap());
}

#[test]
fn rows_that_moved_before_their_deletion_leave_no_copy() {
    let (home, storage) = home();
    // Events of three runs on the same pages. When rows between them go, others move; with these sizes, a copy of the word
    // stays behind.
    let runs: Vec<RunId> = (0..3).map(|_| submit(&storage)).collect();
    let mut size = 6_usize;
    for number in 0..1200 {
        size = size * 1_103_515_245 % 2_147_483_647 + 12_345;
        let text = if number % 3 == 0 { format!("{WORD} {}", "x".repeat(size % 900)) } else { "y".repeat(size % 1200) };
        storage.append(vec![chunk(runs[number % 3], &text)]).wait().unwrap();
    }
    for run_id in &runs {
        finish(&storage, *run_id, RunStatus::Completed).unwrap();
    }
    storage.index_texts().unwrap();
    assert!(files_contain_word(&home));
    erase(&storage, vec![runs[1]]);
    erase(&storage, vec![runs[0]]);
    assert!(!files_contain_word(&home));
    let kept = EventFilter { run_id: Some(runs[2]), ..EventFilter::default() };
    assert_eq!(all_events(&storage, &kept, ReadLimit { events: 500, bytes: 1 << 20 }).len(), 400 + 1);
    drop(storage);
    let database = rusqlite::Connection::open(home.path()).unwrap();
    let intact: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(intact, "ok");
}

#[test]
fn no_file_contains_the_words_of_an_erased_run() {
    let (home, storage) = home();
    let runs: Vec<RunId> = (0..4)
        .map(|_| {
            // Other runs are stored in between and keep their pages.
            submit(&storage);
            run_with_word(&storage)
        })
        .collect();
    assert!(files_contain_word(&home));
    erase(&storage, runs);
    assert!(!files_contain_word(&home));
}

#[test]
fn pauses_are_counted_and_survive_a_restart() {
    let (home, storage) = home();
    let none = storage.read(Reader::pauses).unwrap();
    assert_eq!((none.all, none.providers.len(), none.change), (false, 0, 0));
    let set = |provider: Option<&'static str>, paused| {
        storage.write(Durability::Full, move |tx| tx.set_paused(provider, paused)).wait().unwrap()
    };
    set(None, true);
    set(Some("codex"), true);
    set(Some("claude"), true);
    let left = set(Some("codex"), false);
    assert_eq!((left.all, left.change), (true, 4));
    assert_eq!(left.providers.iter().collect::<Vec<_>>(), ["claude"]);
    assert_eq!(storage.read(Reader::settings).unwrap(), [], "it is not a setting of the user");
    drop(storage);
    assert_eq!(home.open().read(Reader::pauses).unwrap(), left);
}
