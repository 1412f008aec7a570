//! The bytes of a seal are erased after its run has ended.

use std::time::{Duration, Instant};

use super::*;

const MARKER: &[u8] = b"sealed-bytes-of-a-run";

/// A seal that fills several pages.
fn seal() -> Vec<u8> {
    MARKER.repeat(1000)
}

/// Whether one of the files contains the marker.
fn files_contain_marker(home: &Home) -> bool {
    [home.path(), home.beside("-wal")].iter().any(|path| {
        let bytes = std::fs::read(path).unwrap_or_default();
        memchr::memmem::find(&bytes, MARKER).is_some()
    })
}

fn gone_within(home: &Home, timeout: Duration) -> bool {
    let end = Instant::now() + timeout;
    while files_contain_marker(home) {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

#[test]
fn no_file_contains_the_bytes_of_a_deleted_seal() {
    let (home, storage) = home();
    let run_id = submit(&storage);
    write(&storage, move |tx| tx.put_seal(run_id, &seal())).unwrap();
    assert!(files_contain_marker(&home));
    // First moved into the file itself, as happens after a while.
    write(&storage, |tx| tx.vacuum(0)).unwrap();
    write(&storage, move |tx| tx.clear_seal(run_id)).unwrap();
    assert!(gone_within(&home, Duration::from_secs(20)));
    assert_eq!(storage.read(|r| r.seal(run_id)).unwrap(), None);
}

#[test]
fn seal_is_erased_although_the_writer_is_never_idle() {
    let (home, storage) = home();
    let run_id = submit(&storage);
    write(&storage, move |tx| tx.put_seal(run_id, &seal())).unwrap();
    write(&storage, move |tx| tx.clear_seal(run_id)).unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    while files_contain_marker(&home) {
        assert!(Instant::now() < end, "the bytes are still there");
        storage.append(vec![event(None, EventType::PolicyAudit, "{}")]).wait().unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
}
