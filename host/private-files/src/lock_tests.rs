#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use tempfile::TempDir;

use super::*;

#[test]
fn second_host_gets_the_holder_of_the_folder() {
    let home = TempDir::new().unwrap();
    let lock = DataLock::acquire(home.path()).unwrap();
    let Err(LockError::Held { holder: Some(holder), folder }) = DataLock::acquire(home.path()) else {
        panic!("the folder is held");
    };
    assert_eq!(holder.pid, std::process::id());
    assert_eq!(holder.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(folder, home.path());
    drop(lock);
    DataLock::acquire(home.path()).unwrap();
}

#[test]
fn holder_describes_its_start_while_it_lives() {
    let home = TempDir::new().unwrap();
    let folder = home.path();
    assert_eq!(Holder::of(folder), None);
    let lock = DataLock::acquire(folder).unwrap();
    assert_eq!(Holder::of(folder).unwrap().starting.as_deref(), Some("starting"));
    lock.note(Some("compiling plugins (3 of 6)")).unwrap();
    assert_eq!(Holder::of(folder).unwrap().starting.as_deref(), Some("compiling plugins (3 of 6)"));
    lock.note(None).unwrap();
    let holder = Holder::of(folder).unwrap();
    assert_eq!((holder.pid, holder.starting.clone()), (std::process::id(), None));
    // Another process with the id of a dead host.
    let other = Holder { start_ticks: holder.start_ticks + 1, ..holder };
    std::fs::write(folder.join("host.lock"), serde_json::to_string(&other).unwrap()).unwrap();
    assert_eq!(Holder::of(folder), None);
    drop(lock);
    assert_eq!(Holder::of(folder), None);
}

#[test]
fn lock_of_a_dead_host_is_released() {
    let home = TempDir::new().unwrap();
    std::fs::write(home.path().join("host.lock"), "{\"pid\":1,\"version\":\"0\"}\n").unwrap();
    let lock = DataLock::acquire(home.path()).unwrap();
    let text = std::fs::read_to_string(lock.path()).unwrap();
    assert!(text.contains(&std::process::id().to_string()), "{text}");
}

#[test]
fn missing_folder_is_reported() {
    let home = TempDir::new().unwrap();
    let missing = home.path().join("none");
    let error = DataLock::acquire(&missing).unwrap_err();
    assert!(matches!(error, LockError::Io { .. }));
    assert!(error.to_string().contains("none/host.lock"), "{error}");
}
