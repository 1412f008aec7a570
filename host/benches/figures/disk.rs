//! The speed of the disk and of SQLite without a host.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::report::Sample;

/// Bytes of one row of output, and how many rows make a transaction.
const ROW: usize = 64 << 10;
const ROWS: usize = 8;
/// The capacity that the host sets for a pipe.
const PIPE: i32 = 256 << 10;

/// Copies a file through `cat` and a pipe into another file.
pub(crate) fn pipe_to_file(from: &Path, to: &Path) -> Duration {
    let mut buffer = vec![0; PIPE as usize];
    let mut file = File::create(to).unwrap();
    let begun = Instant::now();
    let mut child = Command::new("/bin/cat").arg(from).stdout(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdout.take().unwrap();
    let _ = nix::fcntl::fcntl(pipe.as_fd(), nix::fcntl::FcntlArg::F_SETPIPE_SZ(PIPE));
    loop {
        let count = pipe.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        file.write_all(&buffer[..count]).unwrap();
    }
    child.wait().unwrap();
    let time = begun.elapsed();
    drop(file);
    std::fs::remove_file(to).unwrap();
    time
}

fn database(path: &Path, synchronous: &str) -> Connection {
    let _ = std::fs::remove_file(path);
    let conn = Connection::open(path).unwrap();
    conn.pragma_update(None, "journal_mode", "WAL").unwrap();
    conn.pragma_update(None, "synchronous", synchronous).unwrap();
    conn.execute_batch("CREATE TABLE events (cursor INTEGER PRIMARY KEY, at INTEGER NOT NULL, payload TEXT NOT NULL)")
        .unwrap();
    conn
}

/// Inserts a text in rows of 64 KiB, 8 to a transaction, in a write-ahead log that is synchronized only at checkpoints,
/// like the host stores output.
pub(crate) fn raw_inserts(text: &str, path: &Path) -> Duration {
    let conn = database(path, "NORMAL");
    let begun = Instant::now();
    let mut insert = conn.prepare("INSERT INTO events (at, payload) VALUES (?1, ?2)").unwrap();
    let mut rest = text;
    while !rest.is_empty() {
        conn.execute_batch("BEGIN IMMEDIATE").unwrap();
        for _ in 0..ROWS {
            let (row, after) = rest.split_at(rest.floor_char_boundary(ROW));
            if !row.is_empty() {
                insert.execute(rusqlite::params![1, row]).unwrap();
            }
            rest = after;
        }
        conn.execute_batch("COMMIT").unwrap();
    }
    let time = begun.elapsed();
    drop(insert);
    drop(conn);
    std::fs::remove_file(path).unwrap();
    time
}

/// Inserts small rows, each in a durable transaction, like an acknowledged submit.
pub(crate) fn durable_inserts(count: usize, path: &Path) -> Sample {
    let conn = database(path, "FULL");
    let payload = "x".repeat(500);
    let mut insert = conn.prepare("INSERT INTO events (at, payload) VALUES (?1, ?2)").unwrap();
    let times = (0..count)
        .map(|_| {
            let begun = Instant::now();
            insert.execute(rusqlite::params![1, payload]).unwrap();
            begun.elapsed()
        })
        .collect();
    drop(insert);
    drop(conn);
    std::fs::remove_file(path).unwrap();
    times
}
