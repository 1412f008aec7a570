use rusqlite::Connection;
use serde_json::json;

use super::*;
use ostler_protocol::{AuditKind, AuditVerdict};

const KEY: AuditKey = AuditKey::new([7; 32]);

fn record(kind: AuditKind, word: &str) -> NewAudit {
    let facts = json!({"word": word}).as_object().unwrap().clone();
    NewAudit { at: Timestamp::now(), kind, actor: "unix pid=1 uid=0".to_owned(), run_id: None, facts }
}

fn append(storage: &Storage, words: &[&str]) {
    for word in words {
        let record = record(AuditKind::Grant, word);
        storage.write(Durability::Batched, move |tx| tx.append_audit(&KEY, &record)).wait().unwrap();
    }
}

fn begin(storage: &Storage, key: &AuditKey, new_key: bool) {
    let key = key.clone();
    storage.write(Durability::Full, move |tx| tx.begin_audit(&key, new_key, Timestamp::now())).wait().unwrap();
}

fn verify(storage: &Storage) -> AuditVerdict {
    storage.read(|reader| reader.verify_audit(&KEY)).unwrap()
}

/// A trail of five records.
fn trail() -> (Home, Storage) {
    let (home, storage) = home();
    begin(&storage, &KEY, true);
    append(&storage, &["a", "b", "c", "d", "e"]);
    assert!(verify(&storage).intact);
    (home, storage)
}

/// Changes the file behind the host's back.
fn tamper(home: &Home, sql: &str) {
    let other = Connection::open(home.path()).unwrap();
    other.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    other.execute_batch(sql).unwrap();
}

#[track_caller]
fn assert_broken(verdict: &AuditVerdict, at: u64, word: &str) {
    assert!(!verdict.intact, "{verdict:?}");
    assert_eq!(verdict.broken_at, Some(at), "{verdict:?}");
    assert!(verdict.problem.as_ref().unwrap().contains(word), "{verdict:?}");
}

#[test]
fn verifies_an_unchanged_trail() {
    let (home, storage) = trail();
    let verdict = verify(&storage);
    assert_eq!((verdict.records, verdict.first, verdict.last), (5, 1, 5));
    drop(storage);
    let storage = home.open();
    begin(&storage, &KEY, false);
    append(&storage, &["f"]);
    let verdict = verify(&storage);
    assert!(verdict.intact && verdict.last == 6, "{verdict:?}");
}

#[test]
fn finds_a_changed_row_in_every_column() {
    for change in ["at_us = at_us + 1", "kind = 'revoke'", "actor = 'host'", "facts = '{}'", "run_id = x'00'"] {
        let (home, storage) = trail();
        tamper(&home, &format!("UPDATE audit_log SET {change} WHERE seq = 3"));
        assert_broken(&verify(&storage), 3, "changed");
    }
}

#[test]
fn finds_a_deleted_row() {
    let (home, storage) = trail();
    tamper(&home, "DELETE FROM audit_log WHERE seq = 2");
    assert_broken(&verify(&storage), 2, "missing");
}

#[test]
fn finds_deleted_first_rows() {
    let (home, storage) = trail();
    tamper(&home, "DELETE FROM audit_log WHERE seq <= 2");
    assert_broken(&verify(&storage), 1, "missing");
}

#[test]
fn finds_deleted_last_rows() {
    let (home, storage) = trail();
    tamper(&home, "DELETE FROM audit_log WHERE seq >= 4");
    assert_broken(&verify(&storage), 4, "missing");
    // Also after the host has appended records.
    append(&storage, &["f"]);
    assert_broken(&verify(&storage), 4, "missing");
}

#[test]
fn finds_last_rows_deleted_together_with_their_mark() {
    let (home, storage) = trail();
    tamper(&home, "DELETE FROM audit_log WHERE seq >= 4; DELETE FROM audit_marks WHERE name = 'head'");
    assert_broken(&verify(&storage), 4, "mark");
    append(&storage, &["f"]);
    assert_broken(&verify(&storage), 4, "changed while");
    drop(storage);
    tamper(&home, "DELETE FROM audit_log; DELETE FROM audit_marks");
    let storage = home.open();
    begin(&storage, &KEY, false);
    assert_broken(&verify(&storage), 1, "missing");
}

#[test]
fn finds_swapped_rows() {
    let (home, storage) = trail();
    tamper(
        &home,
        "UPDATE audit_log SET seq = -1 WHERE seq = 2; UPDATE audit_log SET seq = 2 WHERE seq = 3;
         UPDATE audit_log SET seq = 3 WHERE seq = -1",
    );
    assert_broken(&verify(&storage), 2, "order");
}

#[test]
fn finds_a_chain_recomputed_without_the_key() {
    let (home, storage) = trail();
    drop(storage);
    // A program with another key replaces the trail by its own.
    tamper(&home, "DELETE FROM audit_log; DELETE FROM audit_marks");
    let storage = home.open();
    let forger = AuditKey::new([8; 32]);
    begin(&storage, &forger, true);
    for word in ["a", "b", "c", "d", "e"] {
        let (record, key) = (record(AuditKind::Grant, word), forger.clone());
        storage.write(Durability::Batched, move |tx| tx.append_audit(&key, &record)).wait().unwrap();
    }
    assert_broken(&verify(&storage), 5, "signature");
    drop(storage);
    // A host that starts with it records that.
    let storage = home.open();
    begin(&storage, &KEY, false);
    assert_broken(&verify(&storage), 6, "signature");
}

#[test]
fn finds_a_replaced_key() {
    let (home, storage) = trail();
    drop(storage);
    let storage = home.open();
    begin(&storage, &AuditKey::new([9; 32]), true);
    let verdict = storage.read(|reader| reader.verify_audit(&AuditKey::new([9; 32]))).unwrap();
    assert_broken(&verdict, 6, "key");
}

#[test]
fn pruned_trail_starts_at_its_signed_anchor() {
    let (home, storage) = trail();
    let deleted = storage.write(Durability::Full, |tx| tx.prune_audit(&KEY, 3)).wait().unwrap();
    let verdict = verify(&storage);
    assert!(verdict.intact, "{verdict:?}");
    assert_eq!((deleted, verdict.records, verdict.first, verdict.last), (3, 2, 4, 5));
    tamper(&home, "DELETE FROM audit_log WHERE seq = 4");
    assert_broken(&verify(&storage), 4, "missing");
    drop(storage);
    let (home, storage) = trail();
    storage.write(Durability::Full, |tx| tx.prune_audit(&KEY, 3)).wait().unwrap();
    tamper(&home, "UPDATE audit_marks SET seq = 4 WHERE name = 'anchor'");
    assert!(!verify(&storage).intact);
    // All records may be pruned; the next one follows the last one.
    drop(storage);
    let (_home, storage) = trail();
    storage.write(Durability::Full, |tx| tx.prune_audit(&KEY, 99)).wait().unwrap();
    append(&storage, &["f"]);
    let verdict = verify(&storage);
    assert!(verdict.intact && verdict.first == 6 && verdict.last == 6, "{verdict:?}");
}

#[test]
fn lists_the_newest_records_or_those_after_a_number() {
    let (_home, storage) = trail();
    let revoke = record(AuditKind::Revoke, "r");
    storage.write(Durability::Batched, move |tx| tx.append_audit(&KEY, &revoke)).wait().unwrap();
    let seqs = |filter: AuditFilter, limit| {
        let (records, more) = storage.read(|reader| reader.audit(&filter, limit)).unwrap();
        (records.iter().map(|record| record.seq).collect::<Vec<_>>(), more)
    };
    assert_eq!(seqs(AuditFilter::default(), 2), (vec![5, 6], true));
    assert_eq!(seqs(AuditFilter { after: Some(4), ..AuditFilter::default() }, 9), (vec![5, 6], false));
    let revoked = AuditFilter { kind: Some(AuditKind::Revoke), ..AuditFilter::default() };
    assert_eq!(seqs(revoked, 9), (vec![6], false));
    let run = AuditFilter { run_id: Some(RunId::generate()), ..AuditFilter::default() };
    assert_eq!(seqs(run, 9), (vec![], false));
}
