use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use rusqlite::Connection;

use super::*;

/// The schema of a database: every object's statement without comments and white space.
fn shape(conn: &Connection) -> BTreeMap<String, String> {
    conn.prepare("SELECT type || ' ' || name, coalesce(sql, '') FROM sqlite_schema")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))
        .unwrap()
        .map(|row| {
            let (name, sql): (String, String) = row.unwrap();
            let bare: String =
                sql.lines().map(|line| line.split("--").next().unwrap().trim()).collect::<Vec<_>>().join(" ");
            let bare = bare.split_whitespace().collect::<Vec<_>>().join(" ");
            (name, bare.replace("( ", "(").replace(" )", ")").replace(" ,", ","))
        })
        .collect()
}

#[test]
fn migrations_produce_the_schema() {
    let (home, storage) = home();
    drop(storage);
    let whole = Connection::open_in_memory().unwrap();
    whole.execute_batch(include_str!("../schema.sql")).unwrap();
    let migrated = Connection::open(home.path()).unwrap();
    assert_eq!(shape(&migrated), shape(&whole));
    let version: u32 = migrated.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, open::latest_version());
}

#[test]
fn pauses_and_deleted_events_of_an_older_database_are_kept() {
    let home = Home::new();
    drop(home.open());
    let conn = Connection::open(home.path()).unwrap();
    conn.execute_batch(
        r#"DROP TABLE queue_state; DROP TABLE paused_providers; DROP TABLE deleted_events; DROP TABLE last_boot;
        DROP TABLE open_failures; DROP TABLE pending_erasures;
        PRAGMA user_version = 8;
        INSERT INTO settings VALUES ('.queue_paused', '{"all": true, "providers": ["codex", "x"], "change": 7}', 1),
            ('.deleted_through', '42', 1), ('.boot', '"a boot"', 1), ('/scheduler/global', '3', 1);"#,
    )
    .unwrap();
    drop(conn);
    let storage = home.open();
    let pauses = storage.read(Reader::pauses).unwrap();
    assert_eq!((pauses.all, pauses.change), (true, 7));
    assert_eq!(pauses.providers.iter().collect::<Vec<_>>(), ["codex", "x"]);
    assert_eq!(storage.read(Reader::bounds).unwrap().deleted_through, 42);
    assert_eq!(storage.read(Reader::settings).unwrap(), [("/scheduler/global".to_owned(), 3.into())]);
}

#[test]
fn database_files_are_private() {
    let (home, storage) = home();
    submit(&storage);
    for suffix in ["", "-wal", "-shm"] {
        let mode = fs::metadata(home.beside(suffix)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{suffix}");
    }
    drop(storage);
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o644)).unwrap();
    drop(home.open());
    assert_eq!(fs::metadata(home.path()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn folder_accessible_to_others_is_rejected() {
    let home = Home::new();
    fs::set_permissions(home.folder.path(), fs::Permissions::from_mode(0o750)).unwrap();
    let error = home.try_open().unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Permission);
    assert!(error.advice().unwrap().starts_with("chmod 700 "), "{error:?}");
    assert!(!home.path().exists());
}

#[test]
fn missing_folder_or_file_in_its_place_is_reported() {
    let home = Home::new();
    let missing = home.folder.path().join("none").join("ostler.db");
    let error = Storage::open(&missing, &Options::default()).unwrap_err();
    assert!(error.message().contains("none"), "{error}");
    let file = home.folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Storage::open(&file.join("ostler.db"), &Options::default()).unwrap_err();
    assert!(error.message().contains("it is not a folder"), "{error}");
}

/// Only root can give files away.
#[test]
fn folder_or_file_of_another_user_is_rejected() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let (home, storage) = home();
    drop(storage);
    std::os::unix::fs::chown(home.path(), Some(12345), None).unwrap();
    let error = home.try_open().unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Permission);
    assert!(error.message().contains("belongs to user 12345"), "{error}");
    std::os::unix::fs::chown(home.path(), Some(0), None).unwrap();
    std::os::unix::fs::chown(home.folder.path(), Some(12345), None).unwrap();
    assert_eq!(home.try_open().unwrap_err().kind(), StorageErrorKind::Permission);
    std::os::unix::fs::chown(home.folder.path(), Some(0), None).unwrap();
    drop(home.open());
}

/// Opens the database, expects an error, and checks that no file was changed.
fn refused(home: &Home) -> StorageError {
    let files = || ["", "-wal"].map(|suffix| fs::read(home.beside(suffix)).ok());
    let before = files();
    let error = home.try_open().unwrap_err();
    assert!(files() == before, "a refused database is left as it was");
    assert!(error.message().contains(home.path().to_str().unwrap()), "{error}");
    assert!(error.advice().is_some(), "{error}");
    error
}

#[test]
fn newer_database_is_rejected() {
    let (home, storage) = home();
    submit(&storage);
    drop(storage);
    let newer = open::latest_version() + 1;
    let conn = Connection::open(home.path()).unwrap();
    conn.pragma_update(None, "user_version", newer).unwrap();
    drop(conn);
    let error = refused(&home);
    assert_eq!(error.kind(), StorageErrorKind::Newer);
    assert!(error.message().contains("a later version of ostler"), "{error}");
}

#[test]
fn newer_version_in_the_log_only_is_rejected() {
    let (home, storage) = home();
    drop(storage);
    let conn = Connection::open(home.path()).unwrap();
    conn.execute_batch("PRAGMA wal_autocheckpoint = 0").unwrap();
    conn.pragma_update(None, "user_version", open::latest_version() + 1).unwrap();
    // As a killed host leaves it: a copy of the files while they are open.
    let copy = Home::new();
    for suffix in ["", "-wal"] {
        fs::copy(home.beside(suffix), copy.beside(suffix)).unwrap();
    }
    drop(conn);
    assert_eq!(refused(&copy).kind(), StorageErrorKind::Newer);
}

#[test]
fn files_of_other_formats_are_rejected() {
    for garbage in [b"hello".to_vec(), vec![0xFF; 5000], b"SQLite format 3\0".to_vec(), vec![0; 4096]] {
        let home = Home::new();
        fs::write(home.path(), garbage).unwrap();
        assert_eq!(refused(&home).kind(), StorageErrorKind::Damaged);
    }
    let foreign = Home::new();
    let conn = Connection::open(foreign.path()).unwrap();
    conn.execute_batch("CREATE TABLE t (a)").unwrap();
    drop(conn);
    assert_eq!(refused(&foreign).kind(), StorageErrorKind::Foreign);
    let named = Home::new();
    let conn = Connection::open(named.path()).unwrap();
    conn.execute_batch("PRAGMA application_id = 7; CREATE TABLE t (a)").unwrap();
    drop(conn);
    assert_eq!(refused(&named).kind(), StorageErrorKind::Foreign);
    let folder = Home::new();
    fs::create_dir(folder.path()).unwrap();
    assert_eq!(folder.try_open().unwrap_err().kind(), StorageErrorKind::Foreign);
}

#[test]
fn database_without_one_of_its_tables_is_rejected() {
    let (home, storage) = home();
    drop(storage);
    let conn = Connection::open(home.path()).unwrap();
    conn.execute_batch("DROP TABLE settings").unwrap();
    drop(conn);
    let error = home.try_open().unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Damaged);
    assert!(error.message().contains("settings"), "{error}");
}

#[test]
fn empty_file_becomes_a_new_database() {
    let home = Home::new();
    fs::write(home.path(), "").unwrap();
    let storage = home.open();
    submit(&storage);
}

#[test]
fn locked_database_is_reported() {
    let error: StorageError =
        rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY), None).into();
    assert_eq!(error.kind(), StorageErrorKind::Busy);
    let error: StorageError =
        rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY), None).into();
    assert_eq!(error.kind(), StorageErrorKind::ReadOnly);
}
