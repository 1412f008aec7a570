//! The audit trail: who did what, in a chain that shows when something of it was changed.
//!
//! Whoever does something that belongs there builds an [`AuditEntry`] and hands it to [`Engine::audit`], which costs a
//! place in the writer's queue, or to [`Engine::audit_now`], which waits until it is on the disk.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::Engine;
use crate::record::to_value;
use ostler_private_files::secret_file::{self, SecretFileError};
use ostler_protocol::methods::{ListAuditParams, ListAuditResult, PruneAuditParams, PruneAuditResult};
use ostler_protocol::{Actor, ApiError, AuditKind, AuditVerdict, RunId};
use ostler_storage::{AuditFilter, AuditKey, Durability, NewAudit};
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
    /// A record of something that somebody did.
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

/// What the engine keeps of the trail.
pub(crate) struct AuditTrail {
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

impl AuditTrail {
    /// Reads the key, or makes one.
    ///
    /// # Errors
    /// If the key cannot be read or made.
    pub(crate) fn open(data_dir: &Path) -> Result<Self, SecretFileError> {
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
        Ok(Self { key: AuditKey::new(key), new_key, refusals })
    }
}

impl Engine {
    /// Appends a record to the audit trail, in the order of the calls. Does not wait for it.
    pub fn audit(&self, entry: AuditEntry) {
        let (key, record) = (self.audit.key.clone(), self.audit_record(entry));
        drop(self.storage.write_urgent(Durability::Batched, move |tx| tx.append_audit(&key, &record)));
    }

    /// The same, and waits until it is on the disk: for what a client must not be told before it is on record.
    ///
    /// # Errors
    /// If it cannot be stored.
    pub fn audit_now(&self, entry: AuditEntry) -> Result<(), ApiError> {
        let (key, record) = (self.audit.key.clone(), self.audit_record(entry));
        Ok(self.storage.write_urgent(Durability::Full, move |tx| tx.append_audit(&key, &record)).wait()?)
    }

    /// The same for something that was refused: a caller who goes on all the same gets no record for each try, but a count
    /// in the next one.
    pub fn audit_refusal(&self, entry: AuditEntry) {
        let admitted = self.audit.refusals.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now());
        if let Some(left_out) = admitted {
            self.audit(entry.fact("leftOut", Some(left_out).filter(|count| *count > 0)));
        }
    }

    fn audit_record(&self, entry: AuditEntry) -> NewAudit {
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
    pub(crate) fn begin_audit(&self) -> Result<(), ApiError> {
        let (key, new_key, now) = (self.audit.key.clone(), self.audit.new_key, clock::now());
        Ok(self.storage.write(Durability::Full, move |tx| tx.begin_audit(&key, new_key, now)).wait()?)
    }

    /// Lets the status of the host tell that the trail is not intact, if so.
    pub(crate) fn report_audit(&self) {
        match self.verify_audit() {
            Ok(AuditVerdict { problem: Some(problem), broken_at, .. }) => {
                let at = broken_at.unwrap_or_default();
                tracing::error!(record = at, problem, "the audit trail is not intact");
                self.reloading.report(format!(
                    "the audit trail is not intact (record {at}: {problem}); `verify_audit` checks it again"
                ));
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "the audit trail could not be verified"),
        }
    }

    /// Records of the trail, in their order: the newest, or those after a number.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn list_audit(&self, params: &ListAuditParams) -> Result<ListAuditResult, ApiError> {
        let filter = AuditFilter { kind: params.kind, run_id: params.run_id, after: params.after };
        let limit = u64::from(params.limit.unwrap_or(DEFAULT_PAGE));
        let (records, more) = self.storage.read(|reader| reader.audit(&filter, limit))?;
        Ok(ListAuditResult { records, more })
    }

    /// Goes through the whole trail.
    ///
    /// # Errors
    /// If the database cannot be read. What does not fit is the verdict and no error.
    pub fn verify_audit(&self) -> Result<AuditVerdict, ApiError> {
        Ok(self.storage.read(|reader| reader.verify_audit(&self.audit.key))?)
    }

    /// Deletes the oldest records of an intact trail. What is left still proves itself.
    ///
    /// # Errors
    /// `CONFLICT` for a trail that is not intact: what would be deleted may be what shows it.
    pub fn prune_audit(&self, params: &PruneAuditParams, actor: &Actor) -> Result<PruneAuditResult, ApiError> {
        let verdict = self.verify_audit()?;
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
        let key = self.audit.key.clone();
        let deleted = self.storage.write_urgent(Durability::Full, move |tx| tx.prune_audit(&key, until)).wait()?;
        let entry = AuditEntry::new(AuditKind::Audit, actor).fact("pruned", deleted).fact("until", until);
        self.audit_now(entry)?;
        Ok(PruneAuditResult { deleted, first: until + 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
