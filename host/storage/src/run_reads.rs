//! Reads `runs`, `run_bodies` and `scheduler_jobs`: single runs, lists of runs, and the jobs that a host resumes.

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use serde_json::Value;

use ostler_protocol::{
    ConversationId, EndReason, EventType, JobRecord, JobState, Page, RunId, RunRecord, RunStatus, RunSummary,
    SandboxRecord,
};

use super::reader::Reader;
use super::rows::{
    count_of, id_of, json, json_of, micros, mode_from_name, name_of, optional_id_of, optional_json_of,
    optional_name_of, optional_time_of, path_of, path_text, time_of, unsigned,
};
use super::{Recovery, RunFilter, SessionUsage, SnapshotKey, StorageError, answers, search};

/// Columns of a list, in the names that [`summary`] reads.
pub(super) const SUMMARY: &str = "r.run_id, r.provider, r.model, r.mode, r.status, r.title, r.cwd, r.priority, r.attempt, r.reason, \
     r.message, r.exit_code, r.created_us, r.started_us, r.ended_us, \
     (SELECT c.conversation_id FROM conversation_runs l JOIN conversations c ON c.num = l.conversation \
      WHERE l.run = r.num) AS conversation_id";

/// Columns of a job, in the names that [`job`] reads.
const JOB: &str = "r.run_id, j.provider, j.state, j.attempt, j.priority, j.enqueued_us, j.not_before_us, \
     r.title";

pub(super) fn summary(row: &Row<'_>) -> rusqlite::Result<RunSummary> {
    Ok(RunSummary {
        run_id: id_of(row, "run_id")?,
        conversation_id: optional_id_of::<ConversationId>(row, "conversation_id")?,
        provider: row.get("provider")?,
        model: row.get("model")?,
        mode: name_of(row, "mode", mode_from_name)?,
        status: name_of(row, "status", RunStatus::from_name)?,
        title: row.get("title")?,
        cwd: path_of(row, "cwd")?,
        queue_priority: row.get("priority")?,
        attempt: row.get("attempt")?,
        reason: optional_name_of(row, "reason", EndReason::from_name)?,
        message: row.get("message")?,
        exit_code: row.get("exit_code")?,
        created_at: time_of(row, "created_us")?,
        started_at: optional_time_of(row, "started_us")?,
        ended_at: optional_time_of(row, "ended_us")?,
        waiting_for: None,
        waiting_since: None,
    })
}

fn job(row: &Row<'_>) -> rusqlite::Result<JobRecord> {
    Ok(JobRecord {
        run_id: id_of(row, "run_id")?,
        provider: row.get("provider")?,
        state: name_of(row, "state", JobState::from_name)?,
        attempt: row.get("attempt")?,
        priority: row.get("priority")?,
        effective_priority: None,
        position: None,
        enqueued_at: time_of(row, "enqueued_us")?,
        not_before: optional_time_of(row, "not_before_us")?,
        title: row.get("title")?,
        reason: None,
        waits_for: Vec::new(),
    })
}

/// The status of a run.
pub(super) fn run_status(conn: &Connection, run_id: RunId) -> Result<Option<RunStatus>, StorageError> {
    let found = conn
        .prepare_cached("SELECT status FROM runs WHERE run_id = ?1")?
        .query_row([run_id.as_uuid().as_bytes().as_slice()], |row| name_of(row, "status", RunStatus::from_name))
        .optional()?;
    Ok(found)
}

impl Reader {
    pub(super) fn run_num(&self, run_id: RunId) -> Result<Option<i64>, StorageError> {
        let num = self
            .conn
            .prepare_cached("SELECT num FROM runs WHERE run_id = ?1")?
            .query_row([run_id.as_uuid().as_bytes().as_slice()], |row| row.get(0))
            .optional()?;
        Ok(num)
    }

    /// A run as a list shows it.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn run_summary(&self, run_id: RunId) -> Result<Option<RunSummary>, StorageError> {
        let found = self
            .conn
            .prepare_cached(&format!("SELECT {SUMMARY} FROM runs r WHERE r.run_id = ?1"))?
            .query_row([run_id.as_uuid().as_bytes().as_slice()], summary)
            .optional()?;
        Ok(found)
    }

    /// The status of a run.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn run_status(&self, run_id: RunId) -> Result<Option<RunStatus>, StorageError> {
        run_status(&self.conn, run_id)
    }

    /// A run with all its data. Its job has neither position nor effective priority: the scheduler
    /// knows those.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn run(&self, run_id: RunId) -> Result<Option<RunRecord>, StorageError> {
        let id = run_id.as_uuid().as_bytes().as_slice();
        let found = self
            .conn
            .prepare_cached(&format!(
                "SELECT {SUMMARY}, r.num, r.origin, r.session_id, r.usage, r.sealed_pointers, r.snapshot,
                     (SELECT body FROM run_bodies WHERE run = r.num AND kind = 'payload') AS payload,
                     (SELECT payload FROM run_events WHERE cursor = r.terminal_cursor) AS terminal
                 FROM runs r WHERE r.run_id = ?1"
            ))?
            .query_row([id], |row| {
                let terminal: Option<Value> = optional_json_of(row, "terminal")?;
                let record = RunRecord {
                    summary: summary(row)?,
                    code: None,
                    hint: None,
                    payload: optional_json_of(row, "payload")?.unwrap_or(Value::Null),
                    sealed_pointers: json_of(row, "sealed_pointers")?,
                    session_id: row.get("session_id")?,
                    answer: None,
                    final_text: None,
                    structured_output: None,
                    usage: optional_json_of(row, "usage")?,
                    warnings: Vec::new(),
                    sandbox: None,
                    capabilities: None,
                    artifacts: Vec::new(),
                    job: None,
                    origin: row.get("origin")?,
                };
                Ok((record, row.get::<_, i64>("num")?, row.get::<_, Option<i64>>("snapshot")?, terminal))
            })
            .optional()?;
        let Some((mut record, num, snapshot, terminal)) = found else {
            return Ok(None);
        };
        if let Some(mut end) = terminal {
            let mut text = |name| end.get_mut(name).map(Value::take).and_then(|text| text.as_str().map(str::to_owned));
            (record.code, record.hint) = (text("code"), text("hint"));
            (record.final_text, record.answer) = answers::of_end(&self.conn, num, end)?;
        }
        self.notable(num, &mut record)?;
        record.sandbox = self.sandbox_of(num)?;
        record.capabilities = snapshot.map(|key| self.snapshot(SnapshotKey(key))).transpose()?.flatten();
        record.artifacts = self.artifacts_of(num)?;
        record.job = self.job(run_id)?;
        Ok(Some(record))
    }

    /// Warnings and structured output of a run.
    fn notable(&self, num: i64, record: &mut RunRecord) -> Result<(), StorageError> {
        // The condition on the type must be exactly that of the index.
        let mut statement = self.conn.prepare_cached(
            "SELECT type, payload FROM run_events INDEXED BY run_events_notable
             WHERE run = ?1 AND type IN ('run.warning', 'run.compatibility_warning', 'run.structured_output')
             ORDER BY cursor",
        )?;
        let mut rows = statement.query([num])?;
        while let Some(row) = rows.next()? {
            let mut payload: Value = json_of(row, "payload")?;
            if row.get_ref("type")?.as_str().ok() == Some(EventType::StructuredOutput.name()) {
                record.structured_output = payload.get_mut("result").map(Value::take);
            } else {
                record.warnings.push(payload);
            }
        }
        Ok(())
    }

    /// The containment of the first attempt of a run, from its `run.started` event.
    fn sandbox_of(&self, num: i64) -> Result<Option<SandboxRecord>, StorageError> {
        let mut started: Option<Value> = self
            .conn
            .prepare_cached(
                "SELECT payload FROM run_events WHERE run = ?1 AND type = 'run.started' ORDER BY seq LIMIT 1",
            )?
            .query_row([num], |row| json_of(row, "payload"))
            .optional()?;
        let sandbox = started.as_mut().and_then(|started| started.get_mut("sandbox")).map(Value::take);
        // A record of a later version that this one cannot read must not hide the run.
        Ok(sandbox.and_then(|sandbox| serde_json::from_value(sandbox).ok()))
    }

    /// The effective start payload of a run, redacted.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn payload(&self, run_id: RunId) -> Result<Option<Value>, StorageError> {
        let body: Option<String> = self.body(run_id, "payload")?;
        Ok(body.map(|body| json(&body)).transpose()?)
    }

    /// The sealed payload of a run, as it was stored. None once the run has ended.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn seal(&self, run_id: RunId) -> Result<Option<Vec<u8>>, StorageError> {
        self.body(run_id, "seal")
    }

    fn body<T: rusqlite::types::FromSql>(&self, run_id: RunId, kind: &str) -> Result<Option<T>, StorageError> {
        let body = self
            .conn
            .prepare_cached(
                "SELECT b.body FROM runs r JOIN run_bodies b ON b.run = r.num WHERE r.run_id = ?1 AND b.kind = ?2",
            )?
            .query_row(params![run_id.as_uuid().as_bytes().as_slice(), kind], |row| row.get(0))
            .optional()?;
        Ok(body)
    }

    /// Runs, newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn runs(&self, filter: &RunFilter, limit: u64, offset: u64) -> Result<Page<RunSummary>, StorageError> {
        let (condition, mut values) = self.run_condition(filter)?;
        let dated = filter.from.is_some() || filter.until.is_some();
        let others = filter.conversation_id.is_some() || filter.search.is_some() || filter.cwd.is_some();
        let listed = if values.is_empty() || others {
            ""
        } else if dated {
            "INDEXED BY runs_by_creation"
        } else {
            // Without this, SQLite would scan the rows if only some of the index's columns are in the condition.
            "INDEXED BY runs_listed"
        };
        let total = self
            .conn
            .prepare_cached(&format!("SELECT count(*) AS total FROM runs f {listed} WHERE {condition}"))?
            .query_row(params_from_iter(&values), |row| count_of(row, "total"))?;
        // If most runs match, a walk from the newest finds enough of them soon; if few do, the index is faster. Runs of
        // a time range are adjacent but can be anywhere, so the walk is not used for them.
        let newest: Option<i64> =
            self.conn.prepare_cached("SELECT max(num) FROM runs")?.query_row([], |row| row.get(0))?;
        let walk = offset.saturating_add(limit).saturating_mul(unsigned(newest.unwrap_or(0))) / total.max(1);
        let index = if walk < total && !dated { "NOT INDEXED" } else { listed };
        values.push(Sql::Integer(i64::try_from(limit).unwrap_or(i64::MAX)));
        values.push(Sql::Integer(i64::try_from(offset).unwrap_or(i64::MAX)));
        // First select by keys alone; then read the rows of those few.
        let items = self
            .conn
            .prepare_cached(&format!(
                "SELECT {SUMMARY} FROM runs r
                 WHERE r.num IN (SELECT f.num FROM runs f {index} WHERE {condition} ORDER BY f.num DESC LIMIT ? OFFSET ?)
                 ORDER BY r.num DESC"
            ))?
            .query_map(params_from_iter(&values), summary)?
            .collect::<rusqlite::Result<_>>()?;
        Ok(Page { items, total })
    }

    /// The SQL condition of a filter on runs `f`, and the values of its parameters.
    fn run_condition(&self, filter: &RunFilter) -> Result<(String, Vec<Sql>), StorageError> {
        let mut parts = vec!["1"];
        let mut values = Vec::new();
        if let Some(provider) = &filter.provider {
            parts.push("f.provider = ?");
            values.push(Sql::Text(provider.clone()));
        }
        if let Some(status) = filter.status {
            parts.push("f.status = ?");
            values.push(Sql::Text(status.name().to_owned()));
        }
        if let Some(from) = filter.from {
            parts.push("f.created_us >= ?");
            values.push(Sql::Integer(micros(from)));
        }
        if let Some(until) = filter.until {
            parts.push("f.created_us < ?");
            values.push(Sql::Integer(micros(until)));
        }
        if let Some(id) = filter.conversation_id {
            parts.push("f.num IN (SELECT run FROM conversation_runs WHERE conversation = ?)");
            values.push(Sql::Integer(self.conversation_num(id)?.unwrap_or(0)));
        }
        if let Some(cwd) = &filter.cwd {
            // '0' comes right after '/': everything below the folder sorts between.
            let folder = path_text(cwd)?.trim_end_matches('/');
            parts.push("(f.cwd = ? OR (f.cwd >= ? AND f.cwd < ?))");
            let whole = if folder.is_empty() { "/" } else { folder };
            values.extend([whole.to_owned(), format!("{folder}/"), format!("{folder}0")].map(Sql::Text));
        }
        if let Some(search) = &filter.search {
            parts.push("f.num IN (SELECT rowid FROM run_texts WHERE run_texts MATCH ?)");
            values.push(Sql::Text(search::expression(search)));
        }
        Ok((parts.join(" AND "), values))
    }

    /// The job of a run.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn job(&self, run_id: RunId) -> Result<Option<JobRecord>, StorageError> {
        let found = self
            .conn
            .prepare_cached(&format!(
                "SELECT {JOB} FROM runs r JOIN scheduler_jobs j ON j.run = r.num WHERE r.run_id = ?1"
            ))?
            .query_row([run_id.as_uuid().as_bytes().as_slice()], job)
            .optional()?;
        Ok(found)
    }

    /// The data that the engine keeps for a run between attempts; None if there is none, or if the run has ended.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn carry(&self, run_id: RunId) -> Result<Option<String>, StorageError> {
        let found: Option<Option<String>> = self
            .conn
            .prepare_cached("SELECT j.carry FROM runs r JOIN scheduler_jobs j ON j.run = r.num WHERE r.run_id = ?1")?
            .query_row([run_id.as_uuid().as_bytes().as_slice()], |row| row.get(0))
            .optional()?;
        Ok(found.flatten())
    }

    /// The jobs that have not ended, of one state or of all, in the order of their submission.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn open_jobs(&self, state: Option<JobState>) -> Result<Vec<JobRecord>, StorageError> {
        let jobs = self
            .conn
            .prepare_cached(&format!(
                "SELECT {JOB} FROM scheduler_jobs j INDEXED BY scheduler_jobs_open CROSS JOIN runs r ON r.num = j.run
                 WHERE j.state <> 'done' AND (?1 IS NULL OR j.state = ?1) ORDER BY j.run"
            ))?
            .query_map([state.map(JobState::name)], job)?
            .collect::<rusqlite::Result<_>>()?;
        Ok(jobs)
    }

    /// The jobs that a starting host resumes: all that have not ended, in the order of their submission.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn recovery(&self) -> Result<Vec<Recovery>, StorageError> {
        let found = self
            .conn
            .prepare_cached(&format!(
                "SELECT {JOB}, j.run, j.process, j.carry,
                     (SELECT c.conversation_id FROM conversation_runs l
                      JOIN conversations c ON c.num = l.conversation WHERE l.run = r.num) AS conversation_id
                 FROM scheduler_jobs j INDEXED BY scheduler_jobs_open CROSS JOIN runs r ON r.num = j.run
                 WHERE j.state <> 'done' ORDER BY j.run"
            ))?
            .query_map([], |row| {
                Ok(Recovery {
                    job: job(row)?,
                    arrival: unsigned(row.get("run")?),
                    conversation_id: optional_id_of(row, "conversation_id")?,
                    process: row.get("process")?,
                    carry: row.get("carry")?,
                })
            })?
            .collect::<rusqlite::Result<_>>()?;
        Ok(found)
    }

    /// The known usage of the runs of a provider session, oldest first, without the run `except`.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn session_usage(
        &self,
        provider: &str,
        session: &str,
        except: Option<RunId>,
    ) -> Result<Vec<SessionUsage>, StorageError> {
        let found = self
            .conn
            .prepare_cached(
                "SELECT run_id, usage FROM runs WHERE session_id = ?1 AND provider = ?2 AND run_id IS NOT ?3
                 ORDER BY num",
            )?
            .query_map(params![session, provider, except.map(|id| id.as_uuid().as_bytes().to_vec())], |row| {
                Ok(SessionUsage { run_id: id_of(row, "run_id")?, usage: optional_json_of(row, "usage")? })
            })?
            .collect::<rusqlite::Result<_>>()?;
        Ok(found)
    }

    /// The runs that created or resumed a provider session, newest first: it can be resumed in their folders.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn runs_of_session(&self, provider: &str, session: &str) -> Result<Vec<RunSummary>, StorageError> {
        let found = self
            .conn
            .prepare_cached(&format!(
                "SELECT {SUMMARY} FROM runs r WHERE r.session_id = ?1 AND r.provider = ?2 ORDER BY r.num DESC"
            ))?
            .query_map([session, provider], summary)?
            .collect::<rusqlite::Result<_>>()?;
        Ok(found)
    }
}
