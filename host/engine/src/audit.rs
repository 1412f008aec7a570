//! The audit trail: who did what, in a chain that shows when something of it was changed.
//!
//! Code that does something that must be recorded builds an [`AuditEntry`] and passes it to [`AuditLog::append`], which costs a
//! place in the writer's queue, or to [`AuditLog::append_durably`], which waits until it is on the disk.

use std::fmt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::record::to_value;
use crate::redactors::Redactors;
use ostler_private_files::secret_file::{self, SecretFileError};
use ostler_protocol::methods::{ListAuditParams, ListAuditResult, PruneAuditParams, PruneAuditResult};
use ostler_protocol::{Actor, ApiError, AuditKind, AuditVerdict, RunId};
use ostler_storage::{AuditFilter, AuditKey, Durability, NewAudit, Storage};
use ostler_test_hooks::clock;

/// Records on a page where nothing is said.
const DEFAULT_PAGE: u32 = 50;

/// Refusals that get a record of their own, in so much time. Later ones are counted in the next record.
const MAX_REFUSALS: u32 = 120;
const REFUSAL_PERIOD: Duration = Duration::from_secs(60);

const KEY_BYTES: usize = 32;

/// The file of the key that signs the trail, in the data folder.
const KEY_FILE: &str = "audit.key";

/// One record on its way to the trail.
#[derive(Clone, Debug)]
pub struct AuditEntry {
    kind: AuditKind,
    actor: Actor,
    run: Option<RunId>,
    facts: Map<String, Value>,
}

impl AuditEntry {
    /// A record of an action of this actor.
    #[must_use]
    pub fn new(kind: AuditKind, actor: &Actor) -> Self {
        Self { kind, actor: actor.clone(), run: None, facts: Map::new() }
    }

    /// A record of something that the host did by itself.
    #[must_use]
    pub fn by_host(kind: AuditKind) -> Self {
        Self::new(kind, &Actor::Host)
    }

    /// The same about a run.
    #[must_use]
    pub const fn run(mut self, run: RunId) -> Self {
        self.run = Some(run);
        self
    }

    /// The same with a fact. Facts are redacted when the entry is handed over; null is left out.
    #[must_use]
    pub fn fact(mut self, name: &str, value: impl Serialize) -> Self {
        let value = to_value(&value);
        if !value.is_null() {
            self.facts.insert(name.to_owned(), value);
        }
        self
    }
}

/// The audit trail of this host.
pub struct AuditLog {
    storage: Storage,
    redactors: Redactors,
    key: AuditKey,
    /// Whether the key was made just now.
    new_key: bool,
    refusals: Mutex<Refusals>,
}

/// Bounds how fast refused callers make the trail grow.
#[derive(Debug)]
struct Refusals {
    since: Instant,
    recorded: u32,
    /// Those that got no record of their own.
    left_out: u64,
}

impl Refusals {
    /// Whether one more gets a record, and how many before it got none.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if now.duration_since(self.since) >= REFUSAL_PERIOD {
            *self = Self { since: now, recorded: 0, left_out: self.left_out };
        }
        if self.recorded >= MAX_REFUSALS {
            self.left_out += 1;
            return None;
        }
        self.recorded += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLog").finish_non_exhaustive()
    }
}

impl AuditLog {
    /// Reads the key in the data folder, or makes one.
    ///
    /// # Errors
    /// If the key cannot be read or made.
    pub(crate) fn open(data_dir: &Path, storage: Storage, redactors: Redactors) -> Result<Self, SecretFileError> {
        let path = data_dir.join(KEY_FILE);
        let new_key = path.symlink_metadata().is_err();
        let key = secret_file::read_or_make::<KEY_BYTES, _>(
            &path,
            |random| random.to_vec(),
            |content| {
                <[u8; KEY_BYTES]>::try_from(content).map_err(|_| {
                    format!(
                        "it must have {KEY_BYTES} bytes; delete it, and `verify_audit` will report that it was lost"
                    )
                })
            },
        )?;
        let refusals = Mutex::new(Refusals { since: Instant::now(), recorded: 0, left_out: 0 });
        Ok(Self { storage, redactors, key: AuditKey::new(key), new_key, refusals })
    }

    /// Appends a record, in the order of the calls. Does not wait for it.
    pub fn append(&self, entry: AuditEntry) {
        let (key, record) = (self.key.clone(), self.record(entry));
        drop(self.storage.write_urgent(Durability::Batched, move |tx| tx.append_audit(&key, &record)));
    }

    /// The same, and waits until it is on the disk: for what must be on record before a client is answered.
    ///
    /// # Errors
    /// If it cannot be stored.
    pub fn append_durably(&self, entry: AuditEntry) -> Result<(), ApiError> {
        let (key, record) = (self.key.clone(), self.record(entry));
        Ok(self.storage.write_urgent(Durability::Full, move |tx| tx.append_audit(&key, &record)).wait()?)
    }

    /// The same for something that was refused: a caller who goes on all the same gets no record for each try, but a count
    /// in the next one.
    pub fn append_refusal(&self, entry: AuditEntry) {
        let admitted = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now());
        if let Some(left_out) = admitted {
            self.append(entry.fact("leftOut", Some(left_out).filter(|count| *count > 0)));
        }
    }

    fn record(&self, entry: AuditEntry) -> NewAudit {
        let mut facts = Value::Object(entry.facts);
        self.redactors.redact_document(&mut facts);
        let facts = match facts {
            Value::Object(facts) => facts,
            other => Map::from_iter([("withheld".to_owned(), other)]),
        };
        NewAudit { at: clock::now(), kind: entry.kind, actor: entry.actor.to_string(), run_id: entry.run, facts }
    }

    /// Checks at the start of the host that the trail is what the last host left.
    ///
    /// # Errors
    /// If the database cannot be read or written.
    pub(crate) fn begin(&self) -> Result<(), ApiError> {
        let (key, new_key, now) = (self.key.clone(), self.new_key, clock::now());
        Ok(self.storage.write(Durability::Full, move |tx| tx.begin_audit(&key, new_key, now)).wait()?)
    }

    /// What is wrong with the trail, for the status of the host.
    pub(crate) fn damage(&self) -> Option<String> {
        match self.verify() {
            Ok(AuditVerdict { problem: Some(problem), broken_at, .. }) => {
                let at = broken_at.unwrap_or_default();
                tracing::error!(record = at, problem, "the audit trail is not intact");
                Some(format!("the audit trail is not intact (record {at}: {problem}); `verify_audit` checks it again"))
            }
            Ok(_) => None,
            Err(error) => {
                tracing::error!(%error, "the audit trail could not be verified");
                None
            }
        }
    }

    /// Records of the trail, in their order: the newest, or those after a number.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn list(&self, params: &ListAuditParams) -> Result<ListAuditResult, ApiError> {
        let filter = AuditFilter { kind: params.kind, run_id: params.run_id, after: params.after };
        let limit = u64::from(params.limit.unwrap_or(DEFAULT_PAGE));
        let (records, more) = self.storage.read(|reader| reader.audit(&filter, limit))?;
        Ok(ListAuditResult { records, more })
    }

    /// Goes through the whole trail.
    ///
    /// # Errors
    /// If the database cannot be read. What does not fit is the verdict and no error.
    pub fn verify(&self) -> Result<AuditVerdict, ApiError> {
        Ok(self.storage.read(|reader| reader.verify_audit(&self.key))?)
    }

    /// Deletes the oldest records of an intact trail. What is left still proves itself.
    ///
    /// # Errors
    /// `CONFLICT` for a trail that is not intact: what would be deleted may be what shows it.
    pub fn prune(&self, params: &PruneAuditParams, actor: &Actor) -> Result<PruneAuditResult, ApiError> {
        let verdict = self.verify()?;
        if let Some(problem) = &verdict.problem {
            let at = verdict.broken_at.unwrap_or_default();
            let message = format!("the audit trail is not intact, and is kept as it is: record {at}: {problem}");
            return Err(ApiError::new(ostler_protocol::ErrorKind::Conflict, message)
                .hint("`list_audit` reads it; see docs/security.md"));
        }
        let age = jiff::SignedDuration::from_hours(24 * i64::from(params.older_than_days));
        let limit = clock::now().checked_sub(age).unwrap_or(Timestamp::UNIX_EPOCH);
        let Some(until) = self.storage.read(|reader| reader.audit_before(limit))? else {
            return Ok(PruneAuditResult { deleted: 0, first: verdict.first });
        };
        let key = self.key.clone();
        let deleted = self.storage.write_urgent(Durability::Full, move |tx| tx.prune_audit(&key, until)).wait()?;
        let entry = AuditEntry::new(AuditKind::Audit, actor).fact("pruned", deleted).fact("until", until);
        self.append_durably(entry)?;
        Ok(PruneAuditResult { deleted, first: until + 1 })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::test_support::{Fixture, SECRET};
    use ostler_protocol::{AuditRecord, ErrorKind};

    fn open(fixture: &Fixture) -> AuditLog {
        let log = AuditLog::open(&fixture.folder(), fixture.storage.clone(), fixture.redactors.clone()).unwrap();
        log.begin().unwrap();
        log
    }

    fn records(log: &AuditLog) -> Vec<AuditRecord> {
        log.list(&ListAuditParams::default()).unwrap().records
    }

    fn entry() -> AuditEntry {
        AuditEntry::by_host(AuditKind::Queue)
    }

    #[test]
    fn facts_are_redacted_before_they_are_stored() {
        let fixture = Fixture::new();
        let log = open(&fixture);
        log.append_durably(entry().fact("path", format!("/a/{SECRET}")).fact("none", None::<u32>)).unwrap();
        let stored = records(&log).pop().unwrap();
        assert_eq!(serde_json::to_value(&stored.facts).unwrap(), serde_json::json!({"path": "/a/[REDACTED:test-key]"}));
    }

    #[test]
    fn refusals_beyond_the_limit_are_counted_in_the_next_record() {
        let fixture = Fixture::new();
        let log = open(&fixture);
        let before = log.verify().unwrap().records;
        for _ in 0..MAX_REFUSALS + 2 {
            log.append_refusal(entry());
        }
        // The next period begins.
        log.refusals.lock().unwrap().recorded = 0;
        log.append_refusal(entry());
        log.append_durably(entry()).unwrap();
        assert_eq!(log.verify().unwrap().records - before, u64::from(MAX_REFUSALS) + 2);
        let newest = records(&log);
        assert_eq!(newest[newest.len() - 2].facts["leftOut"], 2);
    }

    #[test]
    fn pruning_an_intact_log_leaves_a_log_that_verifies() {
        let fixture = Fixture::new();
        let log = open(&fixture);
        (0..2).for_each(|_| log.append(entry()));
        log.append_durably(entry()).unwrap();
        let pruned = log.prune(&PruneAuditParams { older_than_days: 0 }, &Actor::Host).unwrap();
        assert!(pruned.deleted >= 3, "{pruned:?}");
        let verdict = log.verify().unwrap();
        assert_eq!((verdict.problem, verdict.first), (None, pruned.first));
        assert_eq!(log.damage(), None);
        assert_eq!(records(&log).last().unwrap().facts["pruned"], pruned.deleted);
    }

    #[test]
    fn log_whose_key_was_lost_reports_damage_and_is_not_pruned() {
        let fixture = Fixture::new();
        open(&fixture).append_durably(entry()).unwrap();
        std::fs::remove_file(fixture.folder().join(KEY_FILE)).unwrap();
        let log = open(&fixture);
        assert!(log.damage().unwrap().contains("`verify_audit` checks it again"));
        let before = log.verify().unwrap().records;
        let error = log.prune(&PruneAuditParams { older_than_days: 0 }, &Actor::Host).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Conflict);
        assert_eq!(log.verify().unwrap().records, before);
    }

    #[test]
    fn refusals_are_counted_where_they_get_no_record() {
        let begin = Instant::now();
        let mut refusals = Refusals { since: begin, recorded: 0, left_out: 0 };
        for _ in 0..MAX_REFUSALS {
            assert_eq!(refusals.admit(begin), Some(0));
        }
        assert_eq!(refusals.admit(begin), None);
        assert_eq!(refusals.admit(begin + Duration::from_secs(59)), None);
        assert_eq!(refusals.admit(begin + REFUSAL_PERIOD), Some(2));
    }
}
