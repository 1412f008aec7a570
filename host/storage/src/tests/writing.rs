use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use super::*;

#[test]
fn each_of_many_threads_gets_its_own_result() {
    let (_home, storage) = home();
    let runs: Vec<RunId> = (0..8).map(|_| submit(&storage)).collect();
    thread::scope(|scope| {
        for run_id in &runs {
            let storage = storage.clone();
            scope.spawn(move || {
                for round in 0..50_u64 {
                    let event = chunk(*run_id, &round.to_string());
                    let durability = if round % 7 == 0 { Durability::Full } else { Durability::Batched };
                    let written = storage.write(durability, move |tx| tx.append_event(&event)).wait().unwrap();
                    assert_eq!(written.seq, Some(round + 1));
                    assert!(*storage.events_watch().borrow() >= written.cursor, "announced before it is acknowledged");
                    let seen = storage.read(Reader::last_cursor).unwrap();
                    assert!(seen >= written.cursor, "what is acknowledged can be read");
                }
            });
        }
    });
    let events = all_events(&storage, &EventFilter::default(), ReadLimit::default());
    assert_eq!(events.len(), 400);
    assert!(events.windows(2).all(|pair| pair[0].cursor < pair[1].cursor));
    for run_id in runs {
        let filter = EventFilter { run_id: Some(run_id), ..EventFilter::default() };
        let mine = all_events(&storage, &filter, ReadLimit { events: 7, bytes: 1 << 20 });
        assert!(mine.iter().zip(1..).all(|(event, seq)| event.seq == Some(seq)));
        assert_eq!(mine.len(), 50);
    }
}

/// Blocks the writer until the sender is dropped, so that the next writes share one transaction.
fn block_writer(storage: &Storage) -> mpsc::Sender<()> {
    let (go, gate) = mpsc::channel::<()>();
    let (entered, inside) = mpsc::channel();
    drop(storage.write_urgent(Durability::Batched, move |_| {
        let _ = entered.send(());
        let _ = gate.recv();
        Ok(())
    }));
    inside.recv().unwrap();
    go
}

#[test]
fn failing_write_undoes_only_itself() {
    let (_home, storage) = home();
    let run_id = submit(&storage);
    let gate = block_writer(&storage);
    let write = |text: &str, fails: bool| {
        let event = chunk(run_id, text);
        storage.write(Durability::Batched, move |tx| {
            let written = tx.append_event(&event)?;
            if fails { Err(StorageError::new(StorageErrorKind::Invalid, "no")) } else { Ok(written) }
        })
    };
    let (first, second, third) = (write("a", false), write("b", true), write("c", false));
    let panics = {
        let event = chunk(run_id, "d");
        storage.write(Durability::Full, move |tx| -> Result<(), StorageError> {
            tx.append_event(&event)?;
            panic!("on purpose");
        })
    };
    let last = write("e", false);
    drop(gate);
    assert_eq!(first.wait().unwrap().seq, Some(1));
    assert_eq!(second.wait().unwrap_err().message(), "no");
    assert_eq!(third.wait().unwrap().seq, Some(2));
    assert_eq!(panics.wait().unwrap_err().kind(), StorageErrorKind::Internal);
    assert_eq!(last.wait().unwrap().seq, Some(3));
    let events = all_events(&storage, &EventFilter::default(), ReadLimit::default());
    let texts: Vec<_> = events.iter().map(|event| event.payload["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["a", "c", "e"]);
    assert_eq!(storage.trouble(), None);
}

#[test]
fn urgent_write_runs_first_and_others_keep_their_order() {
    let (_home, storage) = home();
    let run_id = submit(&storage);
    let gate = block_writer(&storage);
    let output = storage.append(vec![chunk(run_id, "a"), chunk(run_id, "b")]);
    let after = {
        let event = chunk(run_id, "c");
        storage.write(Durability::Full, move |tx| tx.append_event(&event))
    };
    let urgent = {
        let event = event(None, EventType::PolicyAudit, "{}");
        storage.write_urgent(Durability::Full, move |tx| tx.append_event(&event))
    };
    drop(gate);
    let output = output.wait().unwrap();
    assert!(urgent.wait().unwrap().cursor < output[0].cursor);
    assert_eq!(after.wait().unwrap().seq, Some(3));
}

#[test]
fn append_blocks_while_the_queue_is_full() {
    let home = Home::new();
    let storage = Storage::open(&home.path(), &Options { queue_bytes: 10_000, ..Options::default() }).unwrap();
    let run_id = submit(&storage);
    let gate = block_writer(&storage);
    let text = "x".repeat(6_000);
    let first = storage.append(vec![chunk(run_id, &text)]);
    let (done, blocked) = mpsc::channel();
    let second = thread::spawn({
        let storage = storage.clone();
        move || {
            let pending = storage.append(vec![chunk(run_id, &text)]);
            done.send(()).unwrap();
            pending.wait().unwrap()
        }
    });
    assert!(blocked.recv_timeout(Duration::from_millis(100)).is_err(), "the queue has no room for the second");
    // Urgent writes are not blocked.
    drop(storage.write_urgent(Durability::Batched, |_| Ok(())));
    drop(gate);
    blocked.recv_timeout(Duration::from_secs(20)).unwrap();
    first.wait().unwrap();
    assert_eq!(second.join().unwrap()[0].seq, Some(2));
    // A batch beyond the limit is accepted when nothing else waits.
    let large = "y".repeat(50_000);
    assert_eq!(storage.append(vec![chunk(run_id, &large)]).wait().unwrap()[0].seq, Some(3));
}

struct Unpark(Thread, AtomicU32);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Arc::new(Unpark(thread::current(), AtomicU32::new(0)));
    let task = Waker::from(Arc::clone(&waker));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&task)) {
            return value;
        }
        thread::park();
    }
}

#[test]
fn tasks_await_writes_and_new_events() {
    let (_home, storage) = home();
    let run_id = submit(&storage);
    let mut watch = storage.events_watch();
    let start = *watch.borrow_and_update();
    let gate = block_writer(&storage);
    let pending = storage.append(vec![chunk(run_id, "a")]);
    let opener = thread::spawn(move || drop(gate));
    let written = block_on(pending).unwrap();
    opener.join().unwrap();
    block_on(watch.changed()).unwrap();
    assert_eq!(*watch.borrow_and_update(), written[0].cursor);
    assert!(written[0].cursor > start);
    // A write without events does not notify.
    storage.write(Durability::Full, |_| Ok(())).wait().unwrap();
    assert!(!watch.has_changed().unwrap());
}

#[test]
fn drop_completes_pending_writes() {
    let home = Home::new();
    let storage = home.open();
    let run_id = submit(&storage);
    let gate = block_writer(&storage);
    let pending: Vec<_> = (0..100).map(|n| storage.append(vec![chunk(run_id, &n.to_string())])).collect();
    let watch = storage.events_watch();
    let closer = thread::spawn(move || drop(storage));
    drop(gate);
    closer.join().unwrap();
    for pending in pending {
        pending.wait().unwrap();
    }
    assert!(watch.has_changed().is_err(), "subscribers see that the host is gone");
    assert!(!home.beside("-wal").exists(), "the log was folded in");
    let storage = home.open();
    assert_eq!(all_events(&storage, &EventFilter::default(), ReadLimit::default()).len(), 100);
}

#[test]
fn write_may_own_the_last_handle() {
    let (home, storage) = home();
    let inner = storage.clone();
    let pending = storage.write(Durability::Full, move |_| {
        let _ = inner.path();
        Ok(())
    });
    drop(storage);
    pending.wait().unwrap();
    drop(home);
}

#[test]
fn log_stays_short_under_load() {
    let (home, storage) = home();
    let run_id = submit(&storage);
    let text = "z".repeat(60_000);
    for _ in 0..1_000 {
        drop(storage.append(vec![chunk(run_id, &text)]));
        // Readers come and go meanwhile.
        storage.read(Reader::last_cursor).unwrap();
    }
    storage.write(Durability::Batched, |_| Ok(())).wait().unwrap();
    let wal = std::fs::metadata(home.beside("-wal")).unwrap().len();
    assert!(wal < 70 << 20, "{wal}");
}
