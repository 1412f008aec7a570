//! `run_events`: the events of runs and conversations.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, params};

use ostler_protocol::{ConversationId, Event, EventId, EventType, NewEvent, RunId};

use super::answers;
use super::reader::Reader;
use super::retention::EVENT_BYTES;
use super::rows::{id_of, json_of, micros, name_of, number, time_of, unsigned};
use super::tx::{WriteTx, ended};
use super::{Bounds, CursorCheck, EventFilter, EventPage, ReadLimit, StorageError, StorageErrorKind, Written};

/// The most rows that one call reads, if most of them do not match the filter.
const SCANNED: usize = 5_000;

impl WriteTx<'_> {
    /// Stores an event and assigns its position. An event of a run in a conversation also belongs to the conversation,
    /// even if it does not name it.
    ///
    /// # Errors
    /// `NotFound` for an unknown run or conversation, `Ended` for a run that has ended, `Invalid` for a terminal event:
    /// [`finish_run`](Self::finish_run) writes those.
    pub fn append_event(&mut self, event: &NewEvent) -> Result<Written, StorageError> {
        if event.kind.terminal() {
            return Err(StorageError::new(
                StorageErrorKind::Invalid,
                format!("{} is written when its run is finished, not by itself", event.kind),
            ));
        }
        self.store(event)
    }

    /// Stores events in their order.
    ///
    /// # Errors
    /// As for a single event. The first error undoes the whole write.
    pub fn append_events(&mut self, events: &[NewEvent]) -> Result<Vec<Written>, StorageError> {
        events.iter().map(|event| self.append_event(event)).collect()
    }

    pub(super) fn store(&mut self, event: &NewEvent) -> Result<Written, StorageError> {
        let mut run = match event.run_id {
            Some(run_id) => {
                let run = self.run_memory(run_id)?;
                if run.ended {
                    return Err(ended(run_id));
                }
                Some((run_id, run))
            }
            None => None,
        };
        let conversation = match event.conversation_id {
            Some(id) => Some(self.conversation_num(id)?),
            None => run.and_then(|(_, run)| run.conversation),
        };
        let cursor = self.memory.last_cursor + 1;
        if let Some((_, run)) = &mut run {
            run.last_seq += 1;
            run.bytes = run.bytes.map(|bytes| bytes + event.payload.len() as u64 + EVENT_BYTES);
        }
        let seq = run.map(|(_, run)| run.last_seq);
        self.conn
            .prepare_cached(
                "INSERT INTO run_events (cursor, run, seq, conversation, at_us, event_id, type, payload)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                cursor,
                run.map(|(_, run)| run.num),
                seq,
                conversation,
                micros(event.timestamp),
                EventId::generate().as_uuid().as_bytes().as_slice(),
                event.kind.name(),
                event.payload,
            ])?;
        self.memory.last_cursor = cursor;
        if let Some((run_id, run)) = run {
            self.memory.put(run_id, run);
        }
        Ok(Written { cursor: unsigned(cursor), seq: seq.map(unsigned) })
    }
}

/// The index that a read uses, and the key in it.
enum Scan {
    All,
    Run(i64),
    Conversation(i64),
    Nothing,
}

/// Ids by their internal keys, each looked up once: a page has many events of few runs.
struct Ids<'a> {
    reader: &'a Reader,
    runs: HashMap<i64, RunId>,
    conversations: HashMap<i64, ConversationId>,
}

impl Ids<'_> {
    fn run(&mut self, num: i64) -> Result<RunId, StorageError> {
        if let Some(id) = self.runs.get(&num) {
            return Ok(*id);
        }
        let mut statement = self.reader.conn.prepare_cached("SELECT run_id FROM runs WHERE num = ?1")?;
        let id = statement.query_row([num], |row| id_of(row, "run_id"))?;
        self.runs.insert(num, id);
        Ok(id)
    }

    fn conversation(&mut self, num: i64) -> Result<ConversationId, StorageError> {
        if let Some(id) = self.conversations.get(&num) {
            return Ok(*id);
        }
        let mut statement =
            self.reader.conn.prepare_cached("SELECT conversation_id FROM conversations WHERE num = ?1")?;
        let id = statement.query_row([num], |row| id_of(row, "conversation_id"))?;
        self.conversations.insert(num, id);
        Ok(id)
    }
}

impl Reader {
    /// Events after a cursor (0 for all), in order, as many as the limit allows. Each call reads the events that it
    /// returns, and at most some thousand others.
    ///
    /// A run or conversation that does not exist has no events.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn events_after(&self, after: u64, filter: &EventFilter, limit: ReadLimit) -> Result<EventPage, StorageError> {
        let after_row = i64::try_from(after).unwrap_or(i64::MAX);
        let scan = match (filter.run_id, filter.conversation_id) {
            (Some(run_id), _) => self.run_num(run_id)?.map_or(Scan::Nothing, Scan::Run),
            (None, Some(id)) => self.conversation_num(id)?.map_or(Scan::Nothing, Scan::Conversation),
            (None, None) => Scan::All,
        };
        let (from, order, key, floor) = match scan {
            Scan::Nothing => (String::new(), "", 0, 0),
            Scan::All => ("e.cursor > ?2 AND ?1 = 0".to_owned(), "e.cursor", 0, after_row),
            Scan::Conversation(num) => ("e.conversation = ?1 AND e.cursor > ?2".to_owned(), "e.cursor", num, after_row),
            Scan::Run(num) => ("e.run = ?1 AND e.seq > ?2".to_owned(), "e.seq", num, self.seq_at(num, after_row)?),
        };
        // If the rows end before a limit is reached, everything up to this cursor was read.
        let last = self.last_cursor()?;
        if from.is_empty() {
            return Ok(EventPage { events: Vec::new(), next: after.max(last), more: false });
        }
        let mut page = self.page(&from, order, key, floor, filter, limit)?;
        page.next = if page.more { page.next.max(after) } else { after.max(last) };
        Ok(page)
    }

    /// The newest events of a run before a cursor, in order, as many as the limit allows. `more` says whether there are
    /// earlier ones.
    ///
    /// # Errors
    /// `NotFound` for an unknown run.
    pub fn run_events_before(&self, run_id: RunId, before: u64, limit: ReadLimit) -> Result<EventPage, StorageError> {
        let num = self.run_num(run_id)?.ok_or_else(|| StorageError::not_found("run", run_id))?;
        let last = i64::try_from(before.saturating_sub(1)).unwrap_or(i64::MAX);
        let from = "e.run = ?1 AND e.seq <= ?2";
        let mut page = self.page(from, "e.seq DESC", num, self.seq_at(num, last)?, &EventFilter::default(), limit)?;
        page.events.reverse();
        Ok(page)
    }

    /// Events of a run after a number (0 for all), in order.
    ///
    /// # Errors
    /// `NotFound` for an unknown run.
    pub fn run_events(&self, run_id: RunId, after_seq: u64, limit: ReadLimit) -> Result<Vec<Event>, StorageError> {
        let num = self.run_num(run_id)?.ok_or_else(|| StorageError::not_found("run", run_id))?;
        let after = i64::try_from(after_seq).unwrap_or(i64::MAX);
        let from = "e.run = ?1 AND e.seq > ?2";
        Ok(self.page(from, "e.seq", num, after, &EventFilter::default(), limit)?.events)
    }

    fn page(
        &self,
        from: &str,
        order: &str,
        key: i64,
        floor: i64,
        filter: &EventFilter,
        limit: ReadLimit,
    ) -> Result<EventPage, StorageError> {
        let mut statement = self.conn.prepare_cached(&format!(
            "SELECT e.cursor, e.run, e.seq, e.conversation, e.at_us, e.event_id, e.type, e.payload FROM run_events e
             WHERE {from} ORDER BY {order}"
        ))?;
        let mut rows = statement.query(params![key, floor])?;
        let mut page = EventPage { events: Vec::new(), next: 0, more: false };
        let (mut bytes, mut scanned) = (0_usize, 0_usize);
        let mut ids = Ids { reader: self, runs: HashMap::new(), conversations: HashMap::new() };
        let conversation = filter.conversation_id.map(|id| self.conversation_num(id)).transpose()?.flatten();
        while let Some(row) = rows.next()? {
            if page.events.len() >= limit.events.max(1)
                || (bytes >= limit.bytes && !page.events.is_empty())
                || scanned >= SCANNED
            {
                page.more = true;
                break;
            }
            scanned += 1;
            let cursor = unsigned(row.get("cursor")?);
            let kind = name_of(row, "type", EventType::from_name)?;
            let wanted = (filter.types.is_empty() || filter.types.contains(&kind))
                && (filter.conversation_id.is_none()
                    || conversation.is_some() && row.get::<_, Option<i64>>("conversation")? == conversation);
            if wanted {
                let length = row.get_ref("payload")?.as_str().map_or(0, str::len);
                if bytes + length > limit.bytes && !page.events.is_empty() {
                    page.more = true;
                    break;
                }
                bytes += length;
                let run: Option<i64> = row.get("run")?;
                let mut payload = json_of(row, "payload")?;
                if let Some(run) = run.filter(|_| kind.terminal()) {
                    bytes += answers::restore(&self.conn, run, &mut payload)?;
                }
                page.events.push(Event {
                    cursor,
                    event_id: id_of(row, "event_id")?,
                    run_id: run.map(|num| ids.run(num)).transpose()?,
                    conversation_id: row
                        .get::<_, Option<i64>>("conversation")?
                        .map(|num| ids.conversation(num))
                        .transpose()?,
                    seq: row.get::<_, Option<i64>>("seq")?.map(unsigned),
                    kind,
                    payload,
                    timestamp: time_of(row, "at_us")?,
                });
            }
            page.next = cursor;
        }
        Ok(page)
    }

    /// The number of a run's last event up to a cursor. Numbers have no gaps and grow with the cursor, so that a few
    /// look-ups in the index find it.
    fn seq_at(&self, run: i64, cursor: i64) -> Result<i64, StorageError> {
        let mut highest = self.conn.prepare_cached("SELECT coalesce(max(seq), 0) FROM run_events WHERE run = ?1")?;
        let mut at = self.conn.prepare_cached("SELECT cursor FROM run_events WHERE run = ?1 AND seq = ?2")?;
        let (mut below, mut above) = (0_i64, highest.query_row([run], |row| row.get::<_, i64>(0))?);
        while below < above {
            let middle = below + (above - below + 1) / 2;
            let found: Option<i64> = at.query_row([run, middle], |row| row.get(0)).optional()?;
            if found.is_some_and(|found| found <= cursor) {
                below = middle;
            } else {
                above = middle - 1;
            }
        }
        Ok(below)
    }

    /// The highest cursor that was ever assigned; 0 if none was.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn last_cursor(&self) -> Result<u64, StorageError> {
        let last: Option<i64> = self
            .conn
            .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'run_events'")?
            .query_row([], |row| row.get(0))
            .optional()?;
        Ok(unsigned(last.unwrap_or(0)))
    }

    /// The range of valid cursors.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn bounds(&self) -> Result<Bounds, StorageError> {
        let last = self.last_cursor()?;
        let first: Option<i64> =
            self.conn.prepare_cached("SELECT min(cursor) FROM run_events")?.query_row([], |row| row.get(0))?;
        let deleted: Option<i64> = self
            .conn
            .prepare_cached("SELECT through_cursor FROM deleted_events")?
            .query_row([], |row| row.get(0))
            .optional()?;
        Ok(Bounds { first: first.map_or(last + 1, unsigned), last, deleted_through: unsigned(deleted.unwrap_or(0)) })
    }

    /// Checks whether a reader that has seen everything up to a cursor can get all later events, or all those of one
    /// run.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn check_cursor(&self, after: u64, run_id: Option<RunId>) -> Result<CursorCheck, StorageError> {
        let bounds = self.bounds()?;
        if after > bounds.last {
            return Ok(CursorCheck::Unknown);
        }
        if after >= bounds.deleted_through {
            return Ok(CursorCheck::Complete);
        }
        // A run is deleted from its oldest event on: if the first event is there, none is missing.
        let run = run_id.map(|run_id| self.run_num(run_id)).transpose()?.flatten();
        if let Some(run) = run
            && self
                .conn
                .prepare_cached("SELECT coalesce(min(seq), 1) = 1 FROM run_events WHERE run = ?1")?
                .query_row([run], |row| row.get(0))?
        {
            return Ok(CursorCheck::Complete);
        }
        let first: Option<i64> = self
            .conn
            .prepare_cached("SELECT min(cursor) FROM run_events WHERE cursor > ?1")?
            .query_row([number(after)?], |row| row.get(0))?;
        Ok(CursorCheck::Truncated { first: first.map_or(bounds.last + 1, unsigned) })
    }
}
