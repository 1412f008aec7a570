#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod answers;
mod audit;
mod erase;
mod faults;
mod invariants;
mod opening;
mod records;
mod retention;
mod seals;
mod search;
mod writing;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use jiff::Timestamp;
use tempfile::TempDir;

use ostler_protocol::{
    Conversation, ConversationId, EndReason, Event, EventType, JobState, NewEvent, RunEnd, RunId, RunMode, RunStatus,
};

use super::*;

/// A private data folder with a database in it.
struct Home {
    folder: TempDir,
}

impl Home {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("ostler.db")
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        self.folder.path().join(format!("ostler.db{suffix}"))
    }

    fn open(&self) -> Storage {
        self.try_open().unwrap()
    }

    fn try_open(&self) -> Result<Storage, StorageError> {
        Storage::open(&self.path(), &Options::default())
    }
}

fn home() -> (Home, Storage) {
    let home = Home::new();
    let storage = home.open();
    (home, storage)
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn new_run() -> NewRun {
    NewRun {
        run_id: RunId::generate(),
        provider: "codex".to_owned(),
        model: Some("m".to_owned()),
        mode: RunMode::NonInteractive,
        title: "do it".to_owned(),
        cwd: PathBuf::from("/projects"),
        priority: 3,
        origin: "cli".to_owned(),
        payload: r#"{"provider":"codex","prompt":"do it"}"#.to_owned(),
        sealed_pointers: vec!["/prompt".to_owned()],
        snapshot: None,
        session_id: None,
        created_at: at(0),
    }
}

fn new_conversation() -> Conversation {
    Conversation {
        conversation_id: ConversationId::generate(),
        provider: "codex".to_owned(),
        title: None,
        metadata: serde_json::json!({}),
        session_id: None,
        cwd: None,
        archived_at: None,
        created_at: at(0),
        updated_at: at(0),
    }
}

fn new_job(run_id: RunId) -> NewJob {
    NewJob {
        run_id,
        provider: "codex".to_owned(),
        state: JobState::Ready,
        priority: 3,
        enqueued_at: at(0),
        not_before: None,
        carry: None,
    }
}

fn write<T: Send + 'static>(
    storage: &Storage,
    work: impl FnMut(&mut WriteTx<'_>) -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    storage.write(Durability::Batched, work).wait()
}

/// Makes a run with its job, as a submit does.
fn submit(storage: &Storage) -> RunId {
    let run = new_run();
    let run_id = run.run_id;
    storage
        .write_urgent(Durability::Full, move |tx| {
            tx.insert_run(&run)?;
            tx.insert_job(&new_job(run.run_id))
        })
        .wait()
        .unwrap();
    run_id
}

fn chunk(run_id: RunId, text: &str) -> NewEvent {
    event(Some(run_id), EventType::ChunkStdout, &serde_json::json!({ "text": text, "redactions": 0 }).to_string())
}

fn event(run_id: Option<RunId>, kind: EventType, payload: &str) -> NewEvent {
    NewEvent { run_id, conversation_id: None, kind, payload: payload.to_owned(), timestamp: at(1) }
}

fn outcome(status: RunStatus) -> Outcome {
    Outcome {
        status,
        end: RunEnd {
            exit_code: Some(0),
            reason: if status == RunStatus::Completed { EndReason::Completed } else { EndReason::Unknown },
            code: None,
            message: "it ended".to_owned(),
            hint: None,
            answer: None,
            final_text: Some("the answer".to_owned()),
        },
        usage: None,
        at: at(9),
    }
}

fn finish(storage: &Storage, run_id: RunId, status: RunStatus) -> Option<Written> {
    let outcome = outcome(status);
    storage.write(Durability::Full, move |tx| tx.finish_run(run_id, &outcome)).wait().unwrap()
}

/// Every stored event, read in pages.
fn all_events(storage: &Storage, filter: &EventFilter, limit: ReadLimit) -> Vec<Event> {
    let (mut events, mut after) = (Vec::new(), 0);
    loop {
        let page = storage.read(|reader| reader.events_after(after, filter, limit)).unwrap();
        assert!(page.next >= after);
        events.extend(page.events);
        after = page.next;
        if !page.more {
            return events;
        }
    }
}
