//! Writes `runs`, `run_bodies` and `scheduler_jobs`: runs, their payloads, and their state in the queue.

use rusqlite::params;

use ostler_protocol::{EndReason, EventType, JobState, NewEvent, RunId, RunStatus, Usage};

use super::retention::{EVENT_BYTES, RUN_BYTES};
use super::rows::{micros, mode_name, number, path_text, text, unsigned};
use super::run_reads::run_status;
use super::tx::{RunMemory, WriteTx};
use super::{
    NewJob, NewRun, Outcome, Requeued, SnapshotKey, Started, StorageError, StorageErrorKind, Written, answers,
};

impl WriteTx<'_> {
    /// Inserts a queued run with its effective payload. Returns its arrival number, which grows from run to run and
    /// stays valid across restarts, see [`Recovery::arrival`](super::Recovery::arrival).
    ///
    /// # Errors
    /// `Exists` if the id is taken, `Invalid` for a folder that is not UTF-8.
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

    /// Inserts the job of a run.
    ///
    /// # Errors
    /// `NotFound` for an unknown run, `Exists` if it has a job, `Invalid` for a job that is not waiting.
    pub fn insert_job(&mut self, job: &NewJob) -> Result<(), StorageError> {
        check_waiting(job.state)?;
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

    /// Stores the original values of a run's payload, encrypted by the caller. Replaces an earlier seal.
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
        self.delete_seal(num)
    }

    /// Deletes a seal so that its bytes are gone from the file, and soon from the write-ahead log.
    fn delete_seal(&mut self, run: i64) -> Result<(), StorageError> {
        let exists =
            self.conn.prepare_cached("SELECT 1 FROM run_bodies WHERE run = ?1 AND kind = 'seal'")?.exists([run])?;
        if !exists {
            return Ok(());
        }
        // Without `erasing`, the pages of a long seal would keep its bytes until they are reused.
        self.erasing(|tx| tx.execute("DELETE FROM run_bodies WHERE run = ?1 AND kind = 'seal'", [run])).map(drop)
    }

    /// The status of a run, including the effect of earlier writes of this transaction.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn run_status(&self, run_id: RunId) -> Result<Option<RunStatus>, StorageError> {
        run_status(self.conn, run_id)
    }

    /// Changes the priority of a run. Returns false if the run has ended.
    ///
    /// # Errors
    /// `NotFound` for an unknown run.
    pub fn set_priority(&mut self, run_id: RunId, priority: i32) -> Result<bool, StorageError> {
        let num = self.run_num(run_id)?;
        let changed = self.execute(
            "UPDATE scheduler_jobs SET priority = ?2 WHERE run = ?1 AND state <> 'done'",
            params![num, priority],
        )?;
        if changed > 0 {
            self.execute("UPDATE runs SET priority = ?2 WHERE num = ?1", params![num, priority])?;
        }
        Ok(changed > 0)
    }

    /// Marks the start of an attempt. Returns false if the run has ended meanwhile and must not be started.
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

    /// Records the identity of the processes of a running attempt. Returns whether the run is running.
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

    /// Puts a run back into the queue. Returns false if it has ended meanwhile.
    ///
    /// # Errors
    /// `NotFound` for an unknown run, `Invalid` for a state that is not a waiting one.
    pub fn set_requeued(&mut self, run_id: RunId, back: &Requeued) -> Result<bool, StorageError> {
        check_waiting(back.state)?;
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

    /// Replaces the data that the engine keeps for a run between attempts.
    ///
    /// # Errors
    /// `NotFound` for an unknown run.
    pub fn set_carry(&mut self, run_id: RunId, carry: &str) -> Result<(), StorageError> {
        let num = self.run_num(run_id)?;
        self.execute("UPDATE scheduler_jobs SET carry = ?2 WHERE run = ?1", params![num, carry])?;
        Ok(())
    }

    /// Ends a run: sets its status, writes its terminal event, closes its job and deletes its seal. Returns the
    /// position of the terminal event, or None if the run had ended before: only the first end counts.
    ///
    /// # Errors
    /// `NotFound` for an unknown run, `Invalid` for a status that is not an end.
    pub fn finish_run(&mut self, run_id: RunId, outcome: &Outcome) -> Result<Option<Written>, StorageError> {
        let kind = match outcome.status {
            RunStatus::Completed => EventType::RunCompleted,
            RunStatus::Canceled => EventType::RunCanceled,
            RunStatus::Failed | RunStatus::Interrupted => EventType::RunFailed,
            RunStatus::Queued | RunStatus::Running => {
                return Err(StorageError::new(
                    StorageErrorKind::Invalid,
                    format!("{} is not the end of a run", outcome.status),
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
        if matches!(outcome.status, RunStatus::Failed | RunStatus::Interrupted) {
            self.execute("INSERT INTO open_failures (run) VALUES (?1)", [before.num])?;
        }
        self.delete_seal(before.num)?;
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

    /// Sets the provider's session of a run, or clears it.
    ///
    /// # Errors
    /// `NotFound` for an unknown run.
    pub fn set_session(&mut self, run_id: RunId, session: Option<&str>) -> Result<(), StorageError> {
        let num = self.run_num(run_id)?;
        self.execute("UPDATE runs SET session_id = ?2 WHERE num = ?1", params![num, session])?;
        Ok(())
    }

    /// Sets the usage of a run so far, of all attempts together.
    ///
    /// # Errors
    /// `NotFound` for an unknown run.
    pub fn set_usage(&mut self, run_id: RunId, usage: &Usage) -> Result<(), StorageError> {
        let num = self.run_num(run_id)?;
        self.execute("UPDATE runs SET usage = ?2 WHERE num = ?1", params![num, text(usage)?])?;
        Ok(())
    }

    /// Sets the capability snapshot with which a run's newest attempt was prepared.
    ///
    /// # Errors
    /// `NotFound` for an unknown run.
    pub fn set_snapshot(&mut self, run_id: RunId, key: SnapshotKey) -> Result<(), StorageError> {
        let num = self.run_num(run_id)?;
        self.execute("UPDATE runs SET snapshot = ?2 WHERE num = ?1", params![num, key.0])?;
        Ok(())
    }
}

/// Rejects states in which a stored job is not waiting.
fn check_waiting(state: JobState) -> Result<(), StorageError> {
    match state {
        JobState::Ready | JobState::Scheduled | JobState::Retrying => Ok(()),
        JobState::Held | JobState::Running | JobState::Done => {
            Err(StorageError::new(StorageErrorKind::Invalid, format!("a waiting job cannot be stored as {state}")))
        }
    }
}
