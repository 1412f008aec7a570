//! `runs`, `run_bodies` and `scheduler_jobs`: what is asked for, and how far it is.

use rusqlite::types::Value as Sql;
use rusqlite::{OptionalExtension, Row, params, params_from_iter};
use serde_json::Value;

use crate::model::{
    ConversationId, EndReason, EventType, JobRecord, JobState, NewEvent, Page, RunId, RunRecord, RunStatus, RunSummary,
    Usage,
};

use super::reader::Reader;
use super::retention::{EVENT_BYTES, RUN_BYTES};
use super::rows::{
    count_of, id_of, json, json_of, micros, mode_from_name, mode_name, name_of, number, optional_id_of,
    optional_json_of, optional_name_of, optional_time_of, path_of, path_text, text, time_of, unsigned,
};
use super::tx::{RunMemory, WriteTx};
use super::{
    NewJob, NewRun, Outcome, Recovery, Requeued, RunFilter, SessionUsage, SnapshotKey, Started, StorageError,
    StorageErrorKind, Written,
};
use super::{answers, search};

/// Columns of a list, in the names that [`summary`] reads.
pub(super) const SUMMARY: &str = "r.run_id, r.provider, r.model, r.mode, r.status, r.title, r.cwd, r.priority, r.attempt, r.reason, \
     r.message, r.exit_code, r.created_us, r.started_us, r.ended_us, \
     (SELECT c.conversation_id FROM conversation_runs l JOIN conversations c ON c.num = l.conversation \
      WHERE l.run = r.num) AS conversation_id";

/// Columns of a job, in the names that [`job`] reads.
const JOB: &str = "r.run_id, j.provider, j.state, j.attempt, j.priority, j.enqueued_us, j.not_before_us";

impl WriteTx<'_> {
    /// Makes a run, queued, with its effective payload. Returns its place in the order of arrival: it grows from run to
    /// run, and outlives the host, see [`Recovery::arrival`].
    ///
    /// # Errors
    /// `Exists` where the id is taken, `Invalid` for a folder that is no UTF-8.
    pub fn insert_run(&mut self, run: &NewRun) -> Result<u64, StorageError> {
        let cwd = path_text(&run.cwd)?;
        self.execute(
            "INSERT INTO runs (run_id, provider, status, created_us, priority, mode, model, title, cwd, origin,
                 session_id, sealed_pointers, snapshot)
             VALUES (?1, ?2, 'queued', ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            params![
                run.run_id.as_uuid().as_bytes().as_slice(),
                run.provider,
                micros(run.created_at),
                run.priority,
                mode_name(run.mode),
                run.model,
                run.title,
                cwd,
                run.origin,
                run.session_id,
                text(&run.sealed_pointers)?,
                run.snapshot.map(|key| key.0),
            ],
        )?;
        let num = self.conn.last_insert_rowid();
        let bytes = Some(run.payload.len() as u64 + RUN_BYTES);
        self.memory.put(run.run_id, RunMemory { num, conversation: None, last_seq: 0, bytes, ended: false });
        self.execute("INSERT INTO run_bodies (run, kind, body) VALUES (?1, 'payload', ?2)", params![num, run.payload])?;
        Ok(unsigned(num))
    }

    /// Makes the job of a run.
    ///
    /// # Errors
    /// `NotFound` for an unknown run, `Exists` where it has a job, `Invalid` for a job that does not wait.
    pub fn insert_job(&mut self, job: &NewJob) -> Result<(), StorageError> {
        waits(job.state)?;
        let num = self.run_num(job.run_id)?;
        self.execute(
            "INSERT INTO scheduler_jobs (run, provider, state, attempt, priority, enqueued_us, not_before_us, carry)
             VALUES (?1, ?2, ?3, 1, ?4, ?5, ?6, ?7)",
            params![
                num,
                job.provider,
                job.state.name(),
                job.priority,
                micros(job.enqueued_at),
                job.not_before.map(micros),
                job.carry,
            ],
        )?;
        Ok(())
    }

    /// Keeps the true values of a run's payload, encrypted by the caller. Replaces what is there.
    ///
    /// # Errors
    /// `NotFound` for an unknown run, `Ended` for one that has ended.
    pub fn put_seal(&mut self, run_id: RunId, sealed: &[u8]) -> Result<(), StorageError> {
        let run = self.run_memory(run_id)?;
        if run.ended {
            return Err(super::tx::ended(run_id));
        }
        self.execute(
            "INSERT INTO run_bodies (run, kind, body) VALUES (?1, 'seal', ?2)
             ON CONFLICT (run, kind) DO UPDATE SET body = excluded.body",
            params![run.num, sealed],
        )?;
        Ok(())
    }

    /// Deletes a run's seal, if it has one.
    ///
    /// # Errors
    /// `NotFound` for an unknown run.
    pub fn clear_seal(&mut self, run_id: RunId) -> Result<(), StorageError> {
        let num = self.run_num(run_id)?;
        self.execute("DELETE FROM run_bodies WHERE run = ?1 AND kind = 'seal'", [num])?;
        Ok(())
    }

    /// An attempt begins: the run works, its job has a slot. Returns whether it does: false where the run has ended
    /// meanwhile, and nothing may be started.
    ///
    /// # Errors
    /// `NotFound` for an unknown run.
    pub fn set_running(&mut self, run_id: RunId, start: &Started) -> Result<bool, StorageError> {
        let num = self.run_num(run_id)?;
        let changed = self.execute(
            "UPDATE runs SET status = 'running', attempt = ?2, started_us = max(?3, created_us), reason = NULL,
                 message = NULL, exit_code = NULL
             WHERE num = ?1 AND status IN ('queued', 'running')",
            params![num, start.attempt, micros(start.at)],
        )?;
        if changed == 0 {
            return Ok(false);
        }
        self.execute(
            "UPDATE scheduler_jobs SET state = 'running', attempt = ?2, not_before_us = NULL, process = ?3
             WHERE run = ?1",
            params![num, start.attempt, start.process],
        )?;
        Ok(true)
    }

    /// Records by what the processes of a running attempt are known. Returns whether the run is running.
    ///
    /// # Errors
    /// `NotFound` for an unknown run.
    pub fn set_process(&mut self, run_id: RunId, process: Option<&str>) -> Result<bool, StorageError> {
        let num = self.run_num(run_id)?;
        let changed = self.execute(
            "UPDATE scheduler_jobs SET process = ?2 WHERE run = ?1 AND state = 'running'",
            params![num, process],
        )?;
        Ok(changed > 0)
    }

    /// The run goes back to the queue. Returns whether it does: false where it has ended meanwhile.
    ///
    /// # Errors
    /// `NotFound` for an unknown run, `Invalid` for a state that does not wait.
    pub fn set_requeued(&mut self, run_id: RunId, back: &Requeued) -> Result<bool, StorageError> {
        waits(back.state)?;
        let num = self.run_num(run_id)?;
        let changed = self.execute(
            "UPDATE runs SET status = 'queued', reason = ?2, message = ?3
             WHERE num = ?1 AND status IN ('queued', 'running')",
            params![num, back.reason.map(EndReason::name), back.message],
        )?;
        if changed == 0 {
            return Ok(false);
        }
        self.execute(
            "UPDATE scheduler_jobs SET state = ?2, attempt = ?3, enqueued_us = coalesce(?4, enqueued_us),
                 not_before_us = ?5, process = NULL, carry = coalesce(?6, carry)
             WHERE run = ?1",
            params![
                num,
                back.state.name(),
                back.attempt,
                back.enqueued_at.map(micros),
                back.not_before.map(micros),
                back.carry,
            ],
        )?;
        Ok(true)
    }

    /// Replaces what the engine remembers of a run from attempt to attempt.
    ///
    /// # Errors
    /// `NotFound` for an unknown run.
    pub fn set_carry(&mut self, run_id: RunId, carry: &str) -> Result<(), StorageError> {
        let num = self.run_num(run_id)?;
        self.execute("UPDATE scheduler_jobs SET carry = ?2 WHERE run = ?1", params![num, carry])?;
        Ok(())
    }

    /// Ends a run: its status, its terminal event, its job, its seal, all at once. Returns where the terminal event was
    /// written, or None where the run had ended before: only the first end counts.
    ///
    /// # Errors
    /// `NotFound` for an unknown run, `Invalid` for a status that is no end.
    pub fn finish_run(&mut self, run_id: RunId, outcome: &Outcome) -> Result<Option<Written>, StorageError> {
        let kind = match outcome.status {
            RunStatus::Completed => EventType::RunCompleted,
            RunStatus::Canceled => EventType::RunCanceled,
            RunStatus::Failed | RunStatus::Interrupted => EventType::RunFailed,
            RunStatus::Queued | RunStatus::Running => {
                return Err(StorageError::new(
                    StorageErrorKind::Invalid,
                    format!("{} is no end of a run", outcome.status),
                ));
            }
        };
        let before = self.run_memory(run_id)?;
        if before.ended {
            return Ok(None);
        }
        let written = self.store(&NewEvent {
            run_id: Some(run_id),
            conversation_id: None,
            kind,
            payload: answers::stored(self.conn, before.num, &outcome.end)?,
            timestamp: outcome.at,
        })?;
        let bytes = match self.run_memory(run_id)?.bytes {
            Some(bytes) => bytes,
            None => self.count_bytes(before.num)?,
        };
        let usage = outcome.usage.as_ref().map(text).transpose()?;
        self.execute(
            "UPDATE runs SET status = ?2, ended_us = max(?3, coalesce(started_us, created_us)), reason = ?4, message = ?5, exit_code = ?6,
                 usage = coalesce(?7, usage), terminal_cursor = ?8, stored_bytes = ?9, indexed = 0
             WHERE num = ?1",
            params![
                before.num,
                outcome.status.name(),
                micros(outcome.at),
                outcome.end.reason.name(),
                outcome.end.message,
                outcome.end.exit_code,
                usage,
                number(written.cursor)?,
                number(bytes)?,
            ],
        )?;
        self.execute(
            "UPDATE scheduler_jobs SET state = 'done', not_before_us = NULL, process = NULL, carry = NULL
             WHERE run = ?1",
            [before.num],
        )?;
        self.execute("DELETE FROM run_bodies WHERE run = ?1 AND kind = 'seal'", [before.num])?;
        self.memory.drop_run(run_id);
        Ok(Some(written))
    }

    fn count_bytes(&self, run: i64) -> Result<u64, StorageError> {
        let bytes = self
            .conn
            .prepare_cached(
                "SELECT (SELECT coalesce(sum(octet_length(payload) + ?2), 0) FROM run_events WHERE run = ?1)
                     + (SELECT coalesce(sum(octet_length(body)), 0) FROM run_bodies WHERE run = ?1 AND kind = 'payload')",
            )?
            .query_row(params![run, number(EVENT_BYTES)?], |row| row.get(0))?;
        Ok(unsigned(bytes) + RUN_BYTES)
    }

    /// The provider's session of a run, or that it has none.
    ///
    /// # Errors
    /// `NotFound` for an unknown run.
    pub fn set_session(&mut self, run_id: RunId, session: Option<&str>) -> Result<(), StorageError> {
        let num = self.run_num(run_id)?;
        self.execute("UPDATE runs SET session_id = ?2 WHERE num = ?1", params![num, session])?;
        Ok(())
    }

    /// What a run has used so far, all attempts together.
    ///
    /// # Errors
    /// `NotFound` for an unknown run.
    pub fn set_usage(&mut self, run_id: RunId, usage: &Usage) -> Result<(), StorageError> {
        let num = self.run_num(run_id)?;
        self.execute("UPDATE runs SET usage = ?2 WHERE num = ?1", params![num, text(usage)?])?;
        Ok(())
    }

    /// The capability snapshot that a run's newest attempt was prepared with.
    ///
    /// # Errors
    /// `NotFound` for an unknown run.
    pub fn set_snapshot(&mut self, run_id: RunId, key: SnapshotKey) -> Result<(), StorageError> {
        let num = self.run_num(run_id)?;
        self.execute("UPDATE runs SET snapshot = ?2 WHERE num = ?1", params![num, key.0])?;
        Ok(())
    }
}

fn waits(state: JobState) -> Result<(), StorageError> {
    match state {
        JobState::Ready | JobState::Scheduled | JobState::Retrying => Ok(()),
        JobState::Held | JobState::Running | JobState::Done => {
            Err(StorageError::new(StorageErrorKind::Invalid, format!("a job that waits is not stored as {state}")))
        }
    }
}

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
    })
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
    /// Where the database cannot be read.
    pub fn run_summary(&self, run_id: RunId) -> Result<Option<RunSummary>, StorageError> {
        let found = self
            .conn
            .prepare_cached(&format!("SELECT {SUMMARY} FROM runs r WHERE r.run_id = ?1"))?
            .query_row([run_id.as_uuid().as_bytes().as_slice()], summary)
            .optional()?;
        Ok(found)
    }

    /// Where a run stands.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn run_status(&self, run_id: RunId) -> Result<Option<RunStatus>, StorageError> {
        let found = self
            .conn
            .prepare_cached("SELECT status FROM runs WHERE run_id = ?1")?
            .query_row([run_id.as_uuid().as_bytes().as_slice()], |row| name_of(row, "status", RunStatus::from_name))
            .optional()?;
        Ok(found)
    }

    /// A run with everything that is known of it. Its job has neither position nor effective priority: the scheduler
    /// knows those.
    ///
    /// # Errors
    /// Where the database cannot be read.
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
                    payload: optional_json_of(row, "payload")?.unwrap_or(Value::Null),
                    sealed_pointers: json_of(row, "sealed_pointers")?,
                    session_id: row.get("session_id")?,
                    final_text: None,
                    structured_output: None,
                    usage: optional_json_of(row, "usage")?,
                    warnings: Vec::new(),
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
        record.final_text = terminal.map(|end| answers::of_end(&self.conn, num, end)).transpose()?.flatten();
        self.notable(num, &mut record)?;
        record.capabilities = snapshot.map(|key| self.snapshot(SnapshotKey(key))).transpose()?.flatten();
        record.artifacts = self.artifacts_of(num)?;
        record.job = self.job(run_id)?;
        Ok(Some(record))
    }

    /// Warnings and structured output of a run.
    fn notable(&self, num: i64, record: &mut RunRecord) -> Result<(), StorageError> {
        // The condition on the type is word for word the index's.
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

    /// The effective start payload of a run, redacted.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn payload(&self, run_id: RunId) -> Result<Option<Value>, StorageError> {
        let body: Option<String> = self.body(run_id, "payload")?;
        Ok(body.map(|body| json(&body)).transpose()?)
    }

    /// The sealed payload of a run, as it was put. None once the run has ended.
    ///
    /// # Errors
    /// Where the database cannot be read.
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
    /// Where the database cannot be read.
    pub fn runs(&self, filter: &RunFilter, limit: u64, offset: u64) -> Result<Page<RunSummary>, StorageError> {
        let (condition, mut values) = self.run_condition(filter)?;
        let dated = filter.from.is_some() || filter.until.is_some();
        let listed = if values.is_empty() || filter.conversation_id.is_some() || filter.search.is_some() {
            ""
        } else if dated {
            "INDEXED BY runs_by_creation"
        } else {
            // Left to itself, SQLite would walk the rows where only some of the index's columns are asked for.
            "INDEXED BY runs_listed"
        };
        let total = self
            .conn
            .prepare_cached(&format!("SELECT count(*) AS total FROM runs f {listed} WHERE {condition}"))?
            .query_row(params_from_iter(&values), |row| count_of(row, "total"))?;
        // Where most runs fit, the newest that do are found soon among the newest; where few do, the index has them all. Those
        // of a time lie together, anywhere.
        let newest: Option<i64> =
            self.conn.prepare_cached("SELECT max(num) FROM runs")?.query_row([], |row| row.get(0))?;
        let walk = offset.saturating_add(limit).saturating_mul(unsigned(newest.unwrap_or(0))) / total.max(1);
        let way = if walk < total && !dated { "NOT INDEXED" } else { listed };
        values.push(Sql::Integer(i64::try_from(limit).unwrap_or(i64::MAX)));
        values.push(Sql::Integer(i64::try_from(offset).unwrap_or(i64::MAX)));
        // First which, by keys alone; then the rows of those few.
        let items = self
            .conn
            .prepare_cached(&format!(
                "SELECT {SUMMARY} FROM runs r
                 WHERE r.num IN (SELECT f.num FROM runs f {way} WHERE {condition} ORDER BY f.num DESC LIMIT ? OFFSET ?)
                 ORDER BY r.num DESC"
            ))?
            .query_map(params_from_iter(&values), summary)?
            .collect::<rusqlite::Result<_>>()?;
        Ok(Page { items, total })
    }

    /// Which runs `f` a filter leaves, and the values of the condition's parameters.
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
        if let Some(search) = &filter.search {
            parts.push("f.num IN (SELECT rowid FROM run_texts WHERE run_texts MATCH ?)");
            values.push(Sql::Text(search::expression(search)));
        }
        Ok((parts.join(" AND "), values))
    }

    /// The job of a run.
    ///
    /// # Errors
    /// Where the database cannot be read.
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

    /// What the engine remembers of a run, as it was stored; None where it stored nothing, or the run has ended.
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
    /// Where the database cannot be read.
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

    /// What a host that starts takes up again: all jobs that have not ended, in the order of their submission.
    ///
    /// # Errors
    /// Where the database cannot be read.
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

    /// What the runs of a provider session are known to have used, oldest first, one run left out.
    ///
    /// # Errors
    /// Where the database cannot be read.
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

    /// The runs that resumed or made a provider session, newest first: their folders tell where it can be resumed.
    ///
    /// # Errors
    /// Where the database cannot be read.
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
