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
    let slice = Slice { events: 150, bytes: 1 << 20 };
    let mut left = runs;
    while !left.is_empty() {
        let gone = left.clone();
        let gone = storage.write(Durability::Batched, move |tx| tx.erasing(|tx| tx.delete_runs(&gone, slice)));
        left.drain(..gone.wait().unwrap());
    }
    while !storage.write(Durability::Batched, |tx| tx.erasing(|tx| tx.purge_texts(64))).wait().unwrap() {}
    while storage.write(Durability::Batched, |tx| tx.vacuum(64)).wait().unwrap() > 0 {}
    assert!(storage.empty_log(std::time::Duration::from_secs(30)).unwrap());
    assert!(!files_contain_word(&home));
}

#[test]
fn pauses_are_counted_and_survive_a_restart() {
    let (home, storage) = home();
    let none = storage.read(Reader::pauses).unwrap();
    assert_eq!((none.all, none.providers.len(), none.change), (false, 0, 0));
    let set = |provider: Option<&'static str>, paused| {
        storage.write(Durability::Full, move |tx| tx.set_paused(provider, paused, at(1))).wait().unwrap()
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
