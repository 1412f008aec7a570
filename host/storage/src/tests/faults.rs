use std::fs;

use proptest::prelude::*;

use super::*;

/// The files of a database as a killed host leaves them: all committed data is in the log.
fn killed() -> (Vec<u8>, Vec<u8>, RunId) {
    let (home, storage) = home();
    drop(storage);
    let storage = home.open();
    let run_id = submit(&storage);
    for n in 0..40 {
        storage.append((0..3).map(|_| chunk(run_id, &"k".repeat(n * 20))).collect()).wait().unwrap();
    }
    finish(&storage, run_id, RunStatus::Completed);
    let files = (fs::read(home.path()).unwrap(), fs::read(home.beside("-wal")).unwrap(), run_id);
    assert!(files.1.len() > 100_000, "the log holds it all");
    files
}

/// Opens the files. If that succeeds, their content must be consistent and they must be writable.
fn open_and_check(home: &Home, run_id: RunId) -> Result<u64, StorageErrorKind> {
    let storage = home.try_open().map_err(|error| error.kind())?;
    let page = storage
        .read(|r| {
            let mut events = Vec::new();
            let mut after = 0;
            loop {
                let page = r.events_after(after, &EventFilter::default(), ReadLimit::default())?;
                events.extend(page.events);
                after = page.next;
                if !page.more {
                    return Ok(events);
                }
            }
        })
        .map_err(|error| error.kind())?;
    assert!(page.iter().zip(1..).all(|(event, seq)| event.seq == Some(seq)), "no gaps");
    let record = storage.read(|r| r.run(run_id)).map_err(|error| error.kind())?;
    let ended = record.as_ref().is_some_and(|record| record.summary.status.ended());
    assert_eq!(ended, page.iter().any(|event| event.kind.terminal()), "the record and the events agree");
    assert!(record.is_some() || page.is_empty());
    let open = storage.read(Reader::recovery).map_err(|error| error.kind())?;
    assert_eq!(open.len(), usize::from(record.is_some() && !ended));
    let event = event(None, EventType::PolicyAudit, "{}");
    storage.append(vec![event]).wait().map_err(|error| error.kind())?;
    Ok(page.len() as u64)
}

#[test]
fn killed_host_loses_no_committed_write() {
    let (database, log, run_id) = killed();
    let home = Home::new();
    fs::write(home.path(), &database).unwrap();
    fs::write(home.beside("-wal"), &log).unwrap();
    assert_eq!(open_and_check(&home, run_id), Ok(121));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// A log cut anywhere gives the database of an earlier commit.
    #[test]
    fn truncated_log_gives_an_earlier_commit(cut in 0.0..1.0_f64, frame in any::<bool>()) {
        let (database, log, run_id) = killed();
        let mut length = (log.len() as f64 * cut) as usize;
        if frame {
            length = 32 + length / (4096 + 24) * (4096 + 24);
        }
        let home = Home::new();
        fs::write(home.path(), &database).unwrap();
        fs::write(home.beside("-wal"), &log[..length]).unwrap();
        prop_assert!(open_and_check(&home, run_id).is_ok());
    }

    /// Flipped bytes in the log end it there; flipped bytes in the file are found when it is opened or read.
    #[test]
    fn flipped_bytes_cause_no_panic(
        positions in proptest::collection::vec((0.0..1.0_f64, 1..=255_u8), 1..8),
        in_log in any::<bool>(),
    ) {
        let (mut database, mut log, run_id) = killed();
        if !in_log {
            database = checkpointed(&database, &log);
            log.clear();
        }
        let target = if in_log { &mut log } else { &mut database };
        for (position, mask) in positions {
            let position = (target.len() as f64 * position) as usize;
            target[position] ^= mask;
        }
        let home = Home::new();
        fs::write(home.path(), &database).unwrap();
        fs::write(home.beside("-wal"), &log).unwrap();
        let before = fs::read(home.path()).unwrap();
        if in_log {
            prop_assert!(open_and_check(&home, run_id).is_ok());
        } else if let Err(error) = home.try_open() {
            prop_assert!(error.of_the_file(), "{error:?}");
            prop_assert!(fs::read(home.path()).unwrap() == before, "left as it was");
        } else {
            for error in errors_in_use(&home.open(), run_id) {
                prop_assert!(matches!(error.kind(), StorageErrorKind::Damaged | StorageErrorKind::NotFound), "{error:?}");
            }
        }
    }
}

/// The database file after all of the log was moved into it.
fn checkpointed(database: &[u8], log: &[u8]) -> Vec<u8> {
    let home = Home::new();
    fs::write(home.path(), database).unwrap();
    fs::write(home.beside("-wal"), log).unwrap();
    drop(home.open());
    fs::read(home.path()).unwrap()
}

/// The errors when a database is read and written.
fn errors_in_use(storage: &Storage, run_id: RunId) -> Vec<StorageError> {
    let results = [
        storage.read(|r| r.run(run_id).map(drop)),
        storage.read(|r| r.runs(&RunFilter::default(), 10, 0).map(drop)),
        storage.read(|r| r.run_events(run_id, 0, ReadLimit { events: 1000, bytes: 1 << 30 }).map(drop)),
        storage.append(vec![event(None, EventType::PolicyAudit, "{}")]).wait().map(drop),
    ];
    results.into_iter().filter_map(Result::err).collect()
}

#[test]
fn damaged_header_byte_is_an_error_of_the_file() {
    let (database, log, run_id) = killed();
    let database = checkpointed(&database, &log);
    let home = Home::new();
    for position in 0..100 {
        for mask in [0x01, 0x08, 0xff] {
            let mut damaged = database.clone();
            damaged[position] ^= mask;
            fs::write(home.path(), &damaged).unwrap();
            let errors = match home.try_open() {
                Err(error) => vec![error],
                Ok(storage) => errors_in_use(&storage, run_id),
            };
            for error in errors {
                assert!(
                    error.of_the_file() || error.kind() == StorageErrorKind::NotFound,
                    "byte {position}: {error:?}"
                );
            }
            let _ = fs::remove_file(home.beside("-wal"));
            let _ = fs::remove_file(home.beside("-shm"));
        }
    }
}

#[test]
fn full_disk_is_reported_and_recovers() {
    let home = Home::new();
    let limited = Options { max_pages: Some(600), ..Options::default() };
    let storage = Storage::open(&home.path(), &limited).unwrap();
    let run_id = submit(&storage);
    let output = storage.output();
    let text = "f".repeat(30_000);
    let error = loop {
        if let Err(error) = output.append(vec![chunk(run_id, &text)]) {
            break error;
        }
    };
    assert_eq!(error.kind(), StorageErrorKind::DiskFull);
    assert!(error.message().contains("no space left"), "{error}");
    assert!(error.advice().unwrap().contains("make room"), "{error:?}");
    assert_eq!(output.finish().wait().unwrap_err(), error);
    assert_eq!(
        storage
            .write(Durability::Batched, move |tx| {
                for _ in 0..100 {
                    tx.append_event(&chunk(run_id, &"g".repeat(30_000)))?;
                }
                Ok(())
            })
            .wait()
            .unwrap_err()
            .kind(),
        StorageErrorKind::DiskFull
    );
    assert_eq!(storage.trouble().unwrap().kind(), StorageErrorKind::DiskFull);
    // The stored output has no gap, and small writes may still succeed.
    let before = all_events(&storage, &EventFilter::default(), ReadLimit::default());
    assert!(before.iter().zip(1..).all(|(event, seq)| event.seq == Some(seq)));
    assert!(before.len() > 10);
    drop(storage);
    // There is free space again.
    let storage = home.open();
    let written = storage.append(vec![chunk(run_id, &text)]).wait().unwrap();
    assert_eq!(written[0].seq, Some(before.len() as u64 + 1));
    assert!(finish(&storage, run_id, RunStatus::Failed).is_some());
    assert_eq!(storage.trouble(), None);
}

/// Locks the database as another program would, until it is dropped.
fn lock(home: &Home) -> rusqlite::Connection {
    let other = rusqlite::Connection::open(home.path()).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    other
}

#[test]
fn write_waits_while_another_program_locks_the_database() {
    let home = Home::new();
    let busy_timeout = std::time::Duration::from_millis(20);
    let options = Options { queue_bytes: 1000, busy_timeout, ..Options::default() };
    let storage = Storage::open(&home.path(), &options).unwrap();
    let run_id = submit(&storage);
    let other = lock(&home);
    let output = storage.output();
    // More than the queue takes, so that the writing thread blocks.
    let writing = std::thread::spawn(move || {
        (0..20)
            .try_for_each(|_| output.append(vec![chunk(run_id, &"w".repeat(500))]))
            .and_then(|()| output.finish().wait())
    });
    let trouble = std::iter::repeat_with(|| storage.trouble()).find_map(|trouble| {
        std::thread::sleep(std::time::Duration::from_millis(2));
        trouble
    });
    assert_eq!(trouble.unwrap().kind(), StorageErrorKind::Busy);
    // After several attempts.
    std::thread::sleep(10 * busy_timeout);
    assert!(!writing.is_finished(), "the write still waits");
    drop(other);
    writing.join().unwrap().unwrap();
    assert_eq!(all_events(&storage, &EventFilter::default(), ReadLimit::default()).len(), 20);
    assert_eq!(storage.trouble(), None);
}

#[test]
fn write_fails_if_the_database_stays_locked() {
    let home = Home::new();
    let short = std::time::Duration::from_millis(30);
    let options = Options { busy_timeout: short / 3, busy_limit: short, ..Options::default() };
    let storage = Storage::open(&home.path(), &options).unwrap();
    let _other = lock(&home);
    let error = storage.append(vec![event(None, EventType::PolicyAudit, "{}")]).wait().unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Busy);
    assert!(error.advice().unwrap().contains("other program"), "{error:?}");
}

#[test]
fn too_large_write_fails_alone() {
    let home = Home::new();
    let limited = Options { max_pages: Some(300), ..Options::default() };
    let storage = Storage::open(&home.path(), &limited).unwrap();
    let run_id = submit(&storage);
    // The gate blocks the writer until all three wait, so that they share a transaction.
    let (go, gate) = std::sync::mpsc::channel::<()>();
    drop(storage.write(Durability::Batched, move |_| {
        let _ = gate.recv();
        Ok(())
    }));
    let failing = |tx: &mut WriteTx<'_>, run_id| -> Result<(), StorageError> {
        tx.append_event(&chunk(run_id, "wrong"))?;
        Err(StorageError::new(StorageErrorKind::Invalid, "no"))
    };
    let before = storage.append(vec![chunk(run_id, "before")]);
    let wrong = storage.write(Durability::Batched, move |tx| failing(tx, run_id));
    let large = storage.append(vec![chunk(run_id, &"h".repeat(3_000_000))]);
    let after = storage.append(vec![chunk(run_id, "after")]);
    drop(go);
    assert_eq!(before.wait().unwrap()[0].seq, Some(1));
    assert_eq!(wrong.wait().unwrap_err().message(), "no");
    assert_eq!(large.wait().unwrap_err().kind(), StorageErrorKind::DiskFull);
    assert_eq!(after.wait().unwrap()[0].seq, Some(2));
    let texts: Vec<_> = all_events(&storage, &EventFilter::default(), ReadLimit::default())
        .iter()
        .map(|event| event.payload["text"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(texts, ["before", "after"]);
}

#[test]
fn cursors_skip_ahead_after_a_crash_of_the_machine() {
    let (database, log, run_id) = killed();
    let home = Home::new();
    fs::write(home.path(), &database).unwrap();
    fs::write(home.beside("-wal"), &log).unwrap();
    drop(home.open());
    let conn = rusqlite::Connection::open(home.path()).unwrap();
    conn.execute("UPDATE last_boot SET boot_id = 'another boot'", []).unwrap();
    // A clean shutdown: nothing can be lost.
    drop(conn);
    let storage = home.open();
    assert_eq!(storage.read(Reader::last_cursor).unwrap(), 121);
    drop(storage);
    // An unclean shutdown, and a reboot since.
    let conn = rusqlite::Connection::open(home.path()).unwrap();
    conn.execute("UPDATE last_boot SET boot_id = 'another boot'", []).unwrap();
    let copy = Home::new();
    for suffix in ["", "-wal"] {
        fs::copy(home.beside(suffix), copy.beside(suffix)).unwrap();
    }
    drop(conn);
    let storage = copy.open();
    let last = storage.read(Reader::last_cursor).unwrap();
    assert_eq!(last, 121 + (1 << 20));
    assert_eq!(*storage.events_watch().borrow(), last);
    assert!(storage.read(|r| r.run(run_id)).unwrap().is_some());
    let written = storage.append(vec![event(None, EventType::PolicyAudit, "{}")]).wait().unwrap();
    assert_eq!(written[0].cursor, last + 1);
    assert_eq!(storage.read(|r| r.check_cursor(130, None)).unwrap(), CursorCheck::Complete);
}
