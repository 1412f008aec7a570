//! Opens the database: checks its owner, its version and its integrity, migrates it, and configures the connection.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use rusqlite_migration::{M, Migrations};

use super::error::{damaged_hint, folder_of};
use super::rows::unsigned;
use super::{Options, StorageError, StorageErrorKind};

/// 'OSTL'
pub(super) const APPLICATION_ID: i32 = 0x4F53_544C;

/// The numbered migrations; `user_version` says how many of them were applied to a database.
const MIGRATIONS: &[M<'_>] = &[
    M::up(include_str!("migrations/0001_initial.sql")),
    M::up(include_str!("migrations/0002_retention.sql")),
    M::up(include_str!("migrations/0003_tokens.sql")),
    M::up(include_str!("migrations/0004_search.sql")),
    M::up(include_str!("migrations/0005_access_and_audit.sql")),
    M::up(include_str!("migrations/0006_plugins.sql")),
    M::up(include_str!("migrations/0007_trust_settings.sql")),
    M::up(include_str!("migrations/0008_search_without_spaces.sql")),
    M::up(include_str!("migrations/0009_host_state.sql")),
    M::up(include_str!("migrations/0010_failures.sql")),
    M::up(include_str!("migrations/0011_pending_erasures.sql")),
];

/// Tables without which no run can be resumed: checked at every start, because they are small.
const VITAL: &[&str] = &[
    "scheduler_jobs",
    "settings",
    "queue_state",
    "paused_providers",
    "deleted_events",
    "last_boot",
    "workspace_grants",
    "profiles",
    "retention_policies",
    "capability_snapshots",
    "provider_tokens",
    "access_tokens",
    "plugin_files",
    "plugin_trust",
];

/// A database of at most this size (bytes) is checked as a whole when it is opened.
const FULL_CHECK_BYTES: u64 = 16 << 20;

/// Statements that the writer keeps prepared.
const STATEMENTS: usize = 128;

/// After a crash of the machine, the newest events may be lost although a subscriber has seen them. So the next cursor
/// skips this many: more than one write-ahead log can hold.
const CURSOR_LEAP: i64 = 1 << 20;

/// A database that is ready to be written.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) conn: Connection,
    pub(super) last_cursor: u64,
}

/// The number of the newest migration.
pub(super) fn latest_version() -> u32 {
    u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX)
}

pub(super) fn open(path: &Path, options: &Options) -> Result<Opened, StorageError> {
    check_folder(folder_of(path))?;
    prepare_file(path)?;
    let dirty = fs::metadata(beside(path, "-wal")).is_ok_and(|wal| wal.len() > 0);
    let existing = fs::metadata(path).is_ok_and(|file| file.len() > 0);
    open_checked(path, options, dirty).map_err(|error| match error.kind() {
        // All statements are fixed and tested: one that fails shows that the file differs from what a host wrote.
        StorageErrorKind::Internal if existing => damaged(path, error.message()),
        _ => error.at("open", path),
    })
}

/// A file that SQLite keeps beside the database.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn check_folder(folder: &Path) -> Result<(), StorageError> {
    let shown = folder.display();
    let found = fs::metadata(folder).map_err(|error| io_failure("read the data folder", folder, &error))?;
    if !found.is_dir() {
        return Err(StorageError::new(
            StorageErrorKind::Io,
            format!("failed to use {shown} as the data folder: it is not a folder"),
        )
        .hint("move it away, or set OSTLER_HOME to another folder"));
    }
    check_owner(folder, found.uid())?;
    if found.mode() & 0o077 != 0 {
        return Err(StorageError::new(
            StorageErrorKind::Permission,
            format!(
                "failed to use the data folder {shown}: other users may enter it (mode {:03o})",
                found.mode() & 0o777
            ),
        )
        .hint(format!("chmod 700 {shown}")));
    }
    Ok(())
}

fn check_owner(path: &Path, owner: u32) -> Result<(), StorageError> {
    let user = nix::unistd::geteuid().as_raw();
    if owner == user {
        return Ok(());
    }
    Err(StorageError::new(
        StorageErrorKind::Permission,
        format!("failed to use {}: it belongs to user {owner}, and the host runs as user {user}", path.display()),
    )
    .hint("run the host as its owner, or set OSTLER_HOME to a folder of your own"))
}

/// Makes the file if there is none, so that it is private from the first moment; checks it otherwise, without changing
/// anything but its mode.
fn prepare_file(path: &Path) -> Result<(), StorageError> {
    let failure = |error: io::Error| io_failure("open the database", path, &error);
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match created {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failure(error)),
    }
    let found = fs::symlink_metadata(path).map_err(failure)?;
    if !found.is_file() {
        return Err(StorageError::new(
            StorageErrorKind::Foreign,
            format!("failed to open the database {}: it is not a regular file", path.display()),
        )
        .hint("move it away, or set OSTLER_HOME to another folder"));
    }
    check_owner(path, found.uid())?;
    check_header(path)?;
    // SQLite opens a write-protected file read-only, and fails only at the first write.
    OpenOptions::new().write(true).open(path).map_err(failure)?;
    if found.mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failure)?;
    }
    Ok(())
}

/// Checks the first bytes, before SQLite opens the file.
fn check_header(path: &Path) -> Result<(), StorageError> {
    let failure = |error: io::Error| io_failure("read the database", path, &error);
    let mut header = Vec::with_capacity(100);
    File::open(path).map_err(failure)?.take(100).read_to_end(&mut header).map_err(failure)?;
    // The host died between creating the file and writing to it.
    if header.is_empty() {
        return Ok(());
    }
    let number = |at: usize| header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
    let (Some(version), Some(application), true) = (number(60), number(68), header.starts_with(b"SQLite format 3\0"))
    else {
        return Err(damaged(path, "it is not an SQLite database"));
    };
    check_identity(path, i64::from(application), i64::from(version))
}

fn check_identity(path: &Path, application: i64, version: i64) -> Result<(), StorageError> {
    let latest = i64::from(latest_version());
    if application != i64::from(APPLICATION_ID) && application != 0 {
        return Err(foreign(path));
    }
    if application != 0 && version > latest {
        return Err(StorageError::new(
            StorageErrorKind::Newer,
            format!(
                "failed to open the database {}: a later version of ostler wrote it (schema {version}; this one knows {latest})",
                path.display()
            ),
        )
        .hint("nothing was changed; run that version, or set OSTLER_HOME to another folder"));
    }
    Ok(())
}

fn foreign(path: &Path) -> StorageError {
    StorageError::new(
        StorageErrorKind::Foreign,
        format!("failed to open {}: it is a database of another program", path.display()),
    )
    .hint("nothing was changed; move it away, or set OSTLER_HOME to another folder")
}

fn damaged(path: &Path, what: &str) -> StorageError {
    StorageError::new(StorageErrorKind::Damaged, format!("failed to open the database {}: {what}", path.display()))
        .hint(damaged_hint(path))
}

fn io_failure(action: &str, path: &Path, error: &io::Error) -> StorageError {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => StorageErrorKind::Permission,
        io::ErrorKind::ReadOnlyFilesystem => StorageErrorKind::ReadOnly,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StorageErrorKind::DiskFull,
        _ => StorageErrorKind::Io,
    };
    let folder = folder_of(path).display();
    let failure = StorageError::new(kind, format!("failed to {action} {}: {error}", path.display()));
    match kind {
        StorageErrorKind::DiskFull => failure.hint(format!("make room on the file system of {folder}")),
        _ => failure.hint(format!("make {folder} writable for you, or set OSTLER_HOME to another folder")),
    }
}

fn open_checked(path: &Path, options: &Options, dirty: bool) -> Result<Opened, StorageError> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    // Until it is known to be ours and intact, closing must not move the log into it.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    conn.busy_timeout(options.busy_timeout)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    let value = |name| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (application, version) = (value("application_id")?, value("user_version")?);
    check_identity(path, application, version)?;
    let objects: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application == 0 {
        if objects > 0 || version != 0 {
            return Err(foreign(path));
        }
        // Both must be set before the first table is created.
        conn.execute_batch("PRAGMA page_size = 4096; PRAGMA auto_vacuum = INCREMENTAL;")?;
    } else {
        check_integrity(&conn, path)?;
        check_schema(&conn, path, usize::try_from(version).unwrap_or(0))?;
    }
    conn.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    let mut conn = conn;
    migrate(&mut conn, path)?;
    conn.execute_batch(
        "PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -8192;
         PRAGMA temp_store = MEMORY; PRAGMA secure_delete = ON;",
    )?;
    if let Some(pages) = options.max_pages {
        conn.pragma_update(None, "max_page_count", pages)?;
    }
    let last_cursor = last_cursor(&conn, dirty)?;
    Ok(Opened { conn, last_cursor })
}

fn migrate(conn: &mut Connection, path: &Path) -> Result<(), StorageError> {
    Migrations::from_slice(MIGRATIONS).to_latest(conn).map_err(|error| migration_failed(path, error))
}

fn migration_failed(path: &Path, error: rusqlite_migration::Error) -> StorageError {
    match error {
        rusqlite_migration::Error::RusqliteError { err, .. } => match StorageError::from(err) {
            // A tested migration fails only if its tables exist already or differ.
            error if error.kind() == StorageErrorKind::Internal => {
                damaged(path, "its tables are not those of its version")
            }
            error => error,
        },
        other => StorageError::new(
            StorageErrorKind::Internal,
            format!("failed to bring the database {} up to date: {other}", path.display()),
        ),
    }
}

/// Checks a small database as a whole, and of a large one the tables in [`VITAL`]. Other damage shows when it is read.
fn check_integrity(conn: &Connection, path: &Path) -> Result<(), StorageError> {
    let size = |file: PathBuf| fs::metadata(file).map_or(0, |found| found.len());
    let bytes = size(path.to_owned()) + size(beside(path, "-wal"));
    let checks: Vec<String> = if bytes <= FULL_CHECK_BYTES {
        vec!["PRAGMA quick_check(1)".to_owned()]
    } else {
        let present = |name: &&&str| {
            conn.query_row("SELECT 1 FROM sqlite_schema WHERE name = ?1", [**name], |_| Ok(()))
                .optional()
                .is_ok_and(|found| found.is_some())
        };
        VITAL.iter().filter(present).map(|name| format!("PRAGMA quick_check({name})")).collect()
    };
    for check in checks {
        let result: String = conn.query_row(&check, [], |row| row.get(0))?;
        if result != "ok" {
            return Err(damaged(path, "it is damaged"));
        }
    }
    Ok(())
}

/// Compares the schema in the file with the schema that its migrations make in an empty database. All statements rely
/// on it, and a defect causes errors that are hard to understand: a statement that names an index of another table
/// fails with "no query solution". Additional objects are left alone.
fn check_schema(conn: &Connection, path: &Path, version: usize) -> Result<(), StorageError> {
    let mut model = Connection::open_in_memory()?;
    Migrations::from_slice(MIGRATIONS)
        .to_version(&mut model, version)
        .map_err(|error| migration_failed(path, error))?;
    let present = objects(conn)?;
    for ((kind, name), sql) in objects(&model)? {
        let what = match present.get(&(kind.clone(), name.clone())) {
            None => "missing",
            Some(found) if *found != sql => "not what it must be",
            Some(_) => continue,
        };
        return Err(damaged(path, &format!("its {kind} {name} is {what}")));
    }
    Ok(())
}

/// The tables, indexes and triggers of a database by kind and name, each with the statement that creates it. SQLite's
/// own are left out.
fn objects(conn: &Connection) -> Result<BTreeMap<(String, String), Option<String>>, StorageError> {
    let mut statement =
        conn.prepare("SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'")?;
    let rows = statement.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The last assigned cursor. After a crash of the machine itself it skips ahead, see [`CURSOR_LEAP`].
fn last_cursor(conn: &Connection, dirty: bool) -> Result<u64, StorageError> {
    let transaction = conn.unchecked_transaction()?;
    let booted = boot_id();
    let known: Option<Option<String>> =
        transaction.query_row("SELECT boot_id FROM last_boot", [], |row| row.get(0)).optional()?;
    // Without a boot id, every start counts as a reboot.
    if dirty && known.as_ref().is_some_and(|known| booted.is_none() || booted != *known) {
        transaction.execute("UPDATE sqlite_sequence SET seq = seq + ?1 WHERE name = 'run_events'", [CURSOR_LEAP])?;
    }
    if known.as_ref() != Some(&booted) {
        transaction.execute(
            "INSERT INTO last_boot (id, boot_id) VALUES (1, ?1)
             ON CONFLICT (id) DO UPDATE SET boot_id = excluded.boot_id",
            [&booted],
        )?;
    }
    let last: Option<i64> = transaction
        .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'run_events'", [], |row| row.get(0))
        .optional()?;
    transaction.commit()?;
    Ok(unsigned(last.unwrap_or(0)))
}

/// An id that changes with every boot.
fn boot_id() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}
