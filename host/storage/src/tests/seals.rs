//! What is left of a seal once its run has ended.

use std::time::{Duration, Instant};

use super::*;

const MARKER: &[u8] = b"sealed-bytes-of-a-run";

/// Bytes that take pages of their own.
fn seal() -> Vec<u8> {
    MARKER.repeat(1000)
}

/// Whether the marker stands in one of the files.
fn left(home: &Home) -> bool {
    [home.path(), home.beside("-wal")].iter().any(|path| {
        let bytes = std::fs::read(path).unwrap_or_default();
        memchr::memmem::find(&bytes, MARKER).is_some()
    })
}

fn gone_within(home: &Home, patience: Duration) -> bool {
    let end = Instant::now() + patience;
    while left(home) {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

#[test]
fn no_file_holds_the_bytes_of_a_deleted_seal() {
    let (home, storage) = home();
    let run_id = submit(&storage);
    write(&storage, move |tx| tx.put_seal(run_id, &seal())).unwrap();
    assert!(left(&home));
    // Once through the file itself, as after a long time.
    write(&storage, |tx| tx.vacuum(0)).unwrap();
    write(&storage, move |tx| tx.clear_seal(run_id)).unwrap();
    assert!(gone_within(&home, Duration::from_secs(20)));
    assert_eq!(storage.read(|r| r.seal(run_id)).unwrap(), None);
}

#[test]
fn a_seal_is_gone_although_something_is_always_written() {
    let (home, storage) = home();
    let run_id = submit(&storage);
    write(&storage, move |tx| tx.put_seal(run_id, &seal())).unwrap();
    write(&storage, move |tx| tx.clear_seal(run_id)).unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    while left(&home) {
        assert!(Instant::now() < end, "the bytes are still there");
        storage.append(vec![event(None, EventType::PolicyAudit, "{}")]).wait().unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
}
