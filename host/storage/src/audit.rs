//! `audit_log` and `audit_marks`: the audit trail, a hash chain in which changes are detected.
//!
//! The hash of a row covers the hash of the row before it and all of its own columns. The newest row and the last
//! deleted row, if any, are signed with a key that is not in the database: a chain that was recomputed, truncated or
//! restarted does not match its marks.

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row, params};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use base16ct::lower::encode_string as hex;
use ostler_protocol::{AuditKind, AuditRecord, AuditVerdict, RunId};

use super::StorageError;
use super::reader::Reader;
use super::rows::{count_of, json_of, micros, name_of, number, optional_id_of, text, time_of, unsigned};
use super::tx::WriteTx;

/// Bytes of a hash and of a key.
const BYTES: usize = 32;

/// The predecessor of the first row's hash.
const GENESIS: [u8; BYTES] = [0; BYTES];

/// Distinguishes these hashes from any others.
const ROW_DOMAIN: &[u8] = b"ostler audit row 1";
const MARK_DOMAIN: &[u8] = b"ostler audit mark 1";

/// Names of the marks.
const HEAD: &str = "head";
const ANCHOR: &str = "anchor";

/// In a record about the trail itself, the member of the facts that says what is wrong with the earlier records.
const GAP: &str = "gap";

/// Largest facts of a record in bytes.
const MAX_FACTS: usize = 64 << 10;

/// The key that signs both ends of the chain.
#[derive(Clone)]
pub struct AuditKey([u8; BYTES]);

impl std::fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuditKey")
    }
}

impl AuditKey {
    /// Makes a key of these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; BYTES]) -> Self {
        Self(bytes)
    }

    fn hmac(&self, name: &str, end: &ChainEnd) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(MARK_DOMAIN);
        mac.update(&[u8::try_from(name.len()).unwrap_or(u8::MAX)]);
        mac.update(name.as_bytes());
        mac.update(&end.seq.to_be_bytes());
        mac.update(&end.hash);
        Some(mac)
    }

    fn sign(&self, name: &str, end: &ChainEnd) -> Vec<u8> {
        self.hmac(name, end).map(|mac| mac.finalize().into_bytes().to_vec()).unwrap_or_default()
    }

    fn signed(&self, name: &str, mark: &Mark) -> bool {
        self.hmac(name, &mark.end).is_some_and(|mac| mac.verify_slice(&mark.mac).is_ok())
    }
}

/// The number and hash of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChainEnd {
    seq: i64,
    hash: [u8; BYTES],
}

impl ChainEnd {
    const START: Self = Self { seq: 0, hash: GENESIS };
}

struct Mark {
    end: ChainEnd,
    mac: Vec<u8>,
}

/// A record to append. Its facts are redacted already.
#[derive(Clone, Debug)]
pub struct NewAudit {
    /// When it happened.
    pub at: Timestamp,
    /// What it is about.
    pub kind: AuditKind,
    /// Who did it.
    pub actor: String,
    /// The run that it concerns.
    pub run_id: Option<RunId>,
    /// What happened.
    pub facts: Map<String, Value>,
}

/// Which records are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuditFilter {
    /// Only of this kind.
    pub kind: Option<AuditKind>,
    /// Only about this run.
    pub run_id: Option<RunId>,
    /// Only those after this number, oldest first. Without it, the newest.
    pub after: Option<u64>,
}

/// The columns of a row that its hash covers.
struct Columns<'a> {
    seq: i64,
    at_us: i64,
    kind: &'a str,
    actor: &'a str,
    run_id: Option<&'a [u8]>,
    facts: &'a str,
}

impl Columns<'_> {
    /// Each column with its length before it, so that no two rows have the same bytes.
    fn hash(&self, before: &[u8; BYTES]) -> [u8; BYTES] {
        let mut hash = Sha256::new();
        hash.update(ROW_DOMAIN);
        hash.update(before);
        hash.update(self.seq.to_be_bytes());
        hash.update(self.at_us.to_be_bytes());
        hash.update([u8::from(self.run_id.is_some())]);
        for part in
            [self.kind.as_bytes(), self.actor.as_bytes(), self.run_id.unwrap_or_default(), self.facts.as_bytes()]
        {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

impl WriteTx<'_> {
    /// Checks the newest mark when a host starts. `new_key` says that the key was created just now. If the trail is not
    /// as the earlier host left it, a record is appended, which [`Reader::verify_audit`] finds.
    ///
    /// # Errors
    /// If the database cannot be read or written.
    pub fn begin_audit(&mut self, key: &AuditKey, new_key: bool, at: Timestamp) -> Result<(), StorageError> {
        let gap = match (mark(self.conn, HEAD)?, new_key) {
            (None, true) if last_row(self.conn)? == ChainEnd::START => {
                return self.put_mark(key, HEAD, ChainEnd::START);
            }
            (None, _) => "the mark of the newest record is missing: records may be missing with it",
            (Some(_), true) => "the key that signs the trail was lost: what lies before cannot be checked",
            (Some(head), false) if !key.signed(HEAD, &head) => "the mark of the newest record has a wrong signature",
            (Some(head), false) if head.end != last_row(self.conn)? => {
                "the newest record is not the one that was signed: records may be missing"
            }
            (Some(_), false) => return Ok(()),
        };
        self.append_gap(key, gap, at)
    }

    /// Appends a record.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn append_audit(&mut self, key: &AuditKey, record: &NewAudit) -> Result<(), StorageError> {
        let stored = mark(self.conn, HEAD)?.map(|head| head.end);
        // Only this thread writes marks: a different mark was changed by another program.
        if self.memory.audit_head.is_some() && self.memory.audit_head != stored {
            self.append_gap(key, "the mark of the newest record was changed while the host was running", record.at)?;
        }
        self.append_row(key, record)
    }

    /// Deletes the oldest records up to a number, and signs the new start of the trail. Returns how many were deleted.
    ///
    /// # Errors
    /// If the database cannot be read or written.
    pub fn prune_audit(&mut self, key: &AuditKey, until: u64) -> Result<u64, StorageError> {
        let row = self
            .conn
            .prepare_cached("SELECT seq, hash FROM audit_log WHERE seq <= ?1 ORDER BY seq DESC LIMIT 1")?
            .query_row([number(until)?], chain_end)
            .optional()?;
        let Some(end) = row else { return Ok(0) };
        self.put_mark(key, ANCHOR, end)?;
        let deleted = self.execute("DELETE FROM audit_log WHERE seq <= ?1", [end.seq])?;
        Ok(deleted as u64)
    }

    fn append_gap(&mut self, key: &AuditKey, gap: &str, at: Timestamp) -> Result<(), StorageError> {
        tracing::error!(gap, "the audit trail is not what this host wrote");
        let facts = [(GAP.to_owned(), Value::from(gap))].into_iter().collect();
        let record = NewAudit { at, kind: AuditKind::Audit, actor: "host".to_owned(), run_id: None, facts };
        self.memory.audit_head = None;
        // The chain continues from the newest row that is there; this record keeps the loss on file.
        let end = last_row(self.conn)?;
        self.put_mark(key, HEAD, end)?;
        self.append_row(key, &record)
    }

    fn append_row(&mut self, key: &AuditKey, record: &NewAudit) -> Result<(), StorageError> {
        let before = match self.memory.audit_head {
            Some(head) => head,
            None => mark(self.conn, HEAD)?.map_or(ChainEnd::START, |head| head.end),
        };
        let mut facts = text(&record.facts)?;
        if facts.len() > MAX_FACTS {
            facts = format!("{{\"tooLarge\":{}}}", facts.len());
        }
        let run = record.run_id.map(|run| run.as_uuid().into_bytes());
        let columns = Columns {
            seq: before.seq + 1,
            at_us: micros(record.at),
            kind: record.kind.name(),
            actor: &record.actor,
            run_id: run.as_ref().map(<[u8; 16]>::as_slice),
            facts: &facts,
        };
        let end = ChainEnd { seq: columns.seq, hash: columns.hash(&before.hash) };
        self.execute(
            "INSERT INTO audit_log (seq, at_us, kind, actor, run_id, facts, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                columns.seq,
                columns.at_us,
                columns.kind,
                columns.actor,
                columns.run_id,
                columns.facts,
                end.hash.as_slice()
            ],
        )?;
        self.put_mark(key, HEAD, end)?;
        self.memory.audit_head = Some(end);
        Ok(())
    }

    fn put_mark(&self, key: &AuditKey, name: &str, end: ChainEnd) -> Result<(), StorageError> {
        let mac = key.sign(name, &end);
        self.execute(
            "INSERT INTO audit_marks (name, seq, hash, mac) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (name) DO UPDATE SET seq = excluded.seq, hash = excluded.hash, mac = excluded.mac",
            params![name, end.seq, end.hash.as_slice(), mac],
        )?;
        Ok(())
    }
}

impl Reader {
    /// At most `limit` records, oldest first, and whether there are more.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn audit(&self, filter: &AuditFilter, limit: u64) -> Result<(Vec<AuditRecord>, bool), StorageError> {
        let order = if filter.after.is_some() { "ASC" } else { "DESC" };
        let mut conditions = vec!["seq > ?1"];
        let run = filter.run_id.map(|run| run.as_uuid().into_bytes());
        if filter.kind.is_some() {
            conditions.push("kind = ?2");
        }
        if run.is_some() {
            conditions.push("run_id = ?3");
        }
        // Every parameter is named, whether or not a condition needs it.
        let sql = format!(
            "SELECT *, ?2 AS kind_wanted, ?3 AS run_wanted FROM audit_log WHERE {} ORDER BY seq {order} LIMIT ?4",
            conditions.join(" AND ")
        );
        let mut statement = self.conn.prepare_cached(&sql)?;
        let wanted = params![
            number(filter.after.unwrap_or(0))?,
            filter.kind.map(AuditKind::name),
            run.as_ref().map(<[u8; 16]>::as_slice),
            number(limit.saturating_add(1))?
        ];
        let mut records: Vec<AuditRecord> = statement.query_map(wanted, record)?.collect::<rusqlite::Result<_>>()?;
        let more = records.len() as u64 > limit;
        records.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        if filter.after.is_none() {
            records.reverse();
        }
        Ok((records, more))
    }

    /// The number of the newest record that is older than a time; None if there is none.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn audit_before(&self, time: Timestamp) -> Result<Option<u64>, StorageError> {
        // Clocks can be set back: nothing after the first record that is young enough may be deleted.
        let seq: Option<i64> = self.conn.query_row(
            "SELECT coalesce((SELECT min(seq) - 1 FROM audit_log WHERE at_us >= ?1), (SELECT max(seq) FROM audit_log))",
            [micros(time)],
            |row| row.get(0),
        )?;
        Ok(seq.filter(|seq| *seq > 0).map(unsigned))
    }

    /// Verifies the whole trail.
    ///
    /// # Errors
    /// If the database cannot be read. A changed trail is not an error; the verdict reports it.
    pub fn verify_audit(&self, key: &AuditKey) -> Result<AuditVerdict, StorageError> {
        let (anchor, head) = (mark(&self.conn, ANCHOR)?, mark(&self.conn, HEAD)?);
        let mut problem: Option<(i64, String)> = None;
        let mut report = |seq: i64, message: &str| {
            problem.get_or_insert_with(|| (seq, message.to_owned()));
        };
        if let Some(anchor) = anchor.as_ref().filter(|anchor| !key.signed(ANCHOR, anchor)) {
            report(anchor.end.seq + 1, "the mark of where the trail begins has a wrong signature");
        }
        let start = anchor.map_or(ChainEnd::START, |anchor| anchor.end);
        let (mut last, mut records) = (start, 0_u64);
        let mut statement = self.conn.prepare_cached("SELECT * FROM audit_log ORDER BY seq")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            records += 1;
            let seq: i64 = row.get("seq")?;
            if seq != last.seq + 1 {
                report(last.seq + 1, "it is missing");
            }
            let stored = chain_end(row);
            match row_hash(row, seq, &last.hash) {
                Some(hash) if stored.as_ref().is_ok_and(|stored| stored.hash == hash) => {}
                _ => report(seq, "its contents or its order were changed"),
            }
            if let Some(gap) = gap_of(row) {
                report(seq, &gap);
            }
            // Continue with the stored hash, so that only the first problem is reported.
            last = stored.unwrap_or(ChainEnd { seq, hash: GENESIS });
        }
        match head {
            None => report(last.seq + 1, "the mark of the newest record is missing"),
            Some(head) if !key.signed(HEAD, &head) => {
                report(last.seq, "the mark of the newest record has a wrong signature");
            }
            Some(head) if head.end.seq > last.seq => report(last.seq + 1, "it is missing, with all after it"),
            Some(head) if head.end != last => report(last.seq, "it is not the record that was signed"),
            Some(_) => {}
        }
        let (broken_at, problem) = problem.map(|(seq, message)| (unsigned(seq), message)).unzip();
        Ok(AuditVerdict {
            intact: problem.is_none(),
            records,
            first: unsigned(start.seq + 1),
            last: unsigned(last.seq),
            head: hex(&last.hash),
            broken_at,
            problem,
        })
    }
}

fn mark(conn: &rusqlite::Connection, name: &str) -> Result<Option<Mark>, StorageError> {
    let found = conn
        .prepare_cached("SELECT seq, hash, mac FROM audit_marks WHERE name = ?1")?
        .query_row([name], |row| Ok(Mark { end: chain_end(row)?, mac: row.get("mac")? }))
        .optional()?;
    Ok(found)
}

/// The newest row; if there is none, the predecessor of the first one.
fn last_row(conn: &rusqlite::Connection) -> Result<ChainEnd, StorageError> {
    let found = conn
        .prepare_cached("SELECT seq, hash FROM audit_log ORDER BY seq DESC LIMIT 1")?
        .query_row([], chain_end)
        .optional()?;
    match found {
        Some(end) => Ok(end),
        None => Ok(mark(conn, ANCHOR)?.map_or(ChainEnd::START, |anchor| anchor.end)),
    }
}

fn chain_end(row: &Row<'_>) -> rusqlite::Result<ChainEnd> {
    let hash = row.get_ref("hash")?.as_blob().ok().and_then(|hash| hash.try_into().ok());
    Ok(ChainEnd { seq: row.get("seq")?, hash: hash.unwrap_or([0xff; BYTES]) })
}

/// The hash that a row must have; None if a column has another type than the host writes.
fn row_hash(row: &Row<'_>, seq: i64, before: &[u8; BYTES]) -> Option<[u8; BYTES]> {
    let column = |name: &str| row.get_ref(name).ok();
    let columns = Columns {
        seq,
        at_us: row.get("at_us").ok()?,
        kind: column("kind")?.as_str().ok()?,
        actor: column("actor")?.as_str().ok()?,
        run_id: column("run_id")?.as_blob_or_null().ok()?,
        facts: column("facts")?.as_str().ok()?,
    };
    Some(columns.hash(before))
}

/// What a record says is wrong with the records before it.
fn gap_of(row: &Row<'_>) -> Option<String> {
    let kind = row.get_ref("kind").ok()?.as_str().ok()?;
    if kind != AuditKind::Audit.name() {
        return None;
    }
    let facts: Map<String, Value> = json_of(row, "facts").ok()?;
    facts.get(GAP)?.as_str().map(str::to_owned)
}

fn record(row: &Row<'_>) -> rusqlite::Result<AuditRecord> {
    Ok(AuditRecord {
        seq: count_of(row, "seq")?,
        at: time_of(row, "at_us")?,
        kind: name_of(row, "kind", AuditKind::from_name)?,
        actor: row.get("actor")?,
        run_id: optional_id_of(row, "run_id")?,
        facts: json_of(row, "facts")?,
        hash: hex(&chain_end(row)?.hash),
    })
}
