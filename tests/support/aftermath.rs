//! What is left after faults: nothing but the record of them.

use super::{Bed, PATIENCE};
use rusqlite::{Connection, OpenFlags};

/// Checks that every run of a database has ended, once and at last, and that nothing refers to what is not there.
///
/// # Panics
/// If not.
#[track_caller]
pub fn check_database(bed: &Bed) {
    let database = database(bed);
    let wrong = |what: &str, sql: &str| {
        let mut statement = database.prepare(sql).unwrap();
        let rows: Vec<String> =
            statement.query_map([], |row| row.get::<_, String>(0)).unwrap().map(Result::unwrap).collect();
        assert!(rows.is_empty(), "{what}: {rows:#?}");
    };
    const ENDS: &str = "('run.completed', 'run.failed', 'run.canceled')";
    wrong(
        "runs that have not ended",
        "SELECT num || ' ' || status || ' ' || title FROM runs
         WHERE status NOT IN ('completed', 'failed', 'canceled', 'interrupted') OR ended_us IS NULL",
    );
    wrong(
        "runs without exactly one terminal event, at the end, to which their row refers",
        &format!(
            "SELECT runs.num || ' ' || runs.title || ' ' || coalesce(group_concat(type, ' '), 'without events')
             FROM runs LEFT JOIN run_events ON run_events.run = runs.num
             GROUP BY runs.num
             HAVING coalesce(sum(type IN {ENDS}), 0) <> 1
                 OR max(CASE WHEN type IN {ENDS} THEN seq END) <> max(seq)
                 OR max(CASE WHEN type IN {ENDS} THEN cursor END) IS NOT runs.terminal_cursor
                 OR count(*) <> max(seq)"
        ),
    );
    wrong(
        "jobs that are not done",
        "SELECT run || ' ' || state FROM scheduler_jobs
         WHERE state <> 'done' OR process IS NOT NULL OR carry IS NOT NULL OR not_before_us IS NOT NULL",
    );
    wrong("seals of runs that have ended", "SELECT run || ' ' || kind FROM run_bodies WHERE kind = 'seal'");
    wrong("rows that refer to nothing", "SELECT \"table\" || ' ' || rowid FROM pragma_foreign_key_check");
    wrong("damage", "SELECT quick_check FROM pragma_quick_check WHERE quick_check <> 'ok'");
}

/// The bed's database, to be read beside the host.
pub fn database(bed: &Bed) -> Connection {
    let path = bed.home().join("data/ostler.db");
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    database.busy_timeout(PATIENCE).unwrap();
    database
}
