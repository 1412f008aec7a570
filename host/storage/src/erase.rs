//! Deleting so that nothing of what was deleted is left in a file.
//!
//! SQLite overwrites what it deletes, and pages that become free (`secure_delete = ON` in `open.rs`). It leaves two kinds of
//! copies. When it moves rows from one page to another, because their page has become too full or too empty, the rows stay
//! behind in the unused part of the page between its index and its content. And the write-ahead log keeps pages as they were
//! before. Erasing therefore takes four steps: the deletion itself ([`WriteTx::erasing`]), the words in the search index
//! ([`WriteTx::purge_texts`]), the unused parts of pages ([`WriteTx::clear_unused`]), and the log
//! ([`Storage::empty_log`](super::Storage::empty_log)).
//!
//! A host that dies between these steps leaves a row in `pending_erasures`, which the transaction that begins the deletion
//! has written. The next host completes the deletion.

use rusqlite::{OptionalExtension, params};

use ostler_protocol::{ConversationId, RunId};

use super::StorageError;
use super::reader::Reader;
use super::rows::{damaged, id_of};
use super::tx::WriteTx;

/// A deletion on request whose data is not erased from the files yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PendingErasure {
    /// Of a run.
    Run(RunId),
    /// Of a conversation with all its runs.
    Conversation(ConversationId),
}

impl PendingErasure {
    const fn kind(self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::Conversation(_) => "conversation",
        }
    }

    fn id(&self) -> &[u8] {
        match self {
            Self::Run(id) => id.as_uuid().as_bytes(),
            Self::Conversation(id) => id.as_uuid().as_bytes(),
        }
    }
}

impl Reader {
    /// The deletions that are not complete.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn pending_erasures(&self) -> Result<Vec<PendingErasure>, StorageError> {
        let pending = self
            .conn
            .prepare_cached("SELECT kind, id FROM pending_erasures")?
            .query_map([], |row| match row.get_ref("kind")?.as_str().map_err(|_| damaged("a kind"))? {
                "run" => id_of(row, "id").map(PendingErasure::Run),
                "conversation" => id_of(row, "id").map(PendingErasure::Conversation),
                _ => Err(damaged("a kind")),
            })?
            .collect::<rusqlite::Result<_>>()?;
        Ok(pending)
    }
}

impl WriteTx<'_> {
    /// Records that a deletion has begun. Call it in the transaction that begins it.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn begin_erasure(&mut self, erasure: PendingErasure) -> Result<(), StorageError> {
        self.execute(
            "INSERT OR IGNORE INTO pending_erasures (kind, id) VALUES (?1, ?2)",
            params![erasure.kind(), erasure.id()],
        )?;
        Ok(())
    }

    /// Records that all deletions are complete.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn end_erasures(&mut self) -> Result<(), StorageError> {
        self.execute("DELETE FROM pending_erasures", [])?;
        Ok(())
    }

    /// Deletes, and makes the writer truncate the log soon after the transaction.
    ///
    /// # Errors
    /// The error of `delete`.
    pub fn erasing<T>(&mut self, delete: impl FnOnce(&mut Self) -> Result<T, StorageError>) -> Result<T, StorageError> {
        self.memory.scrub = true;
        delete(self)
    }

    /// Overwrites the unused part of up to `count` pages that follow page `after` (0: from the first one). Returns the last
    /// page that was looked at; `None` after the last page of the file. Between two calls, other writes
    /// can give a page a number that was passed: go over the file twice.
    ///
    /// # Errors
    /// Where the database cannot be written.
    pub fn clear_unused(&mut self, after: u32, count: u32) -> Result<Option<u32>, StorageError> {
        let pages: u32 = self.conn.pragma_query_value(None, "page_count", |row| row.get(0))?;
        let last = after.saturating_add(count).min(pages);
        let mut read = self.conn.prepare_cached("SELECT data FROM sqlite_dbpage WHERE pgno = ?1")?;
        let mut write = self.conn.prepare_cached("UPDATE sqlite_dbpage SET data = ?2 WHERE pgno = ?1")?;
        for number in after + 1..=last {
            let page: Option<Vec<u8>> = read.query_row([number], |row| row.get(0)).optional()?;
            let Some(mut page) = page else { continue };
            if clear_gap(&mut page, number) {
                write.execute(rusqlite::params![number, page])?;
            }
        }
        Ok((last < pages).then_some(last))
    }
}

/// Zeroes the gap between the index of a b-tree page and its content. Returns whether that changed anything. All other pages
/// stay as they are. Source: "The SQLite database file format", sections 1.6 and 1.8.
fn clear_gap(page: &mut [u8], number: u32) -> bool {
    gap(page, number).is_some_and(|gap| {
        let gap = page.get_mut(gap).unwrap_or_default();
        let dirty = gap.iter().any(|byte| *byte != 0);
        gap.fill(0);
        dirty
    })
}

fn gap(page: &[u8], number: u32) -> Option<std::ops::Range<usize>> {
    // A pointer map looks like a b-tree page: its first byte is a kind of page, too.
    let entries = u32::try_from(page.len() / 5).ok()?;
    if number >= 2 && (number - 2).is_multiple_of(entries + 1) {
        return None;
    }
    // The first page begins with the header of the file.
    let header = if number == 1 { 100 } else { 0 };
    let index = header
        + match page.get(header)? {
            2 | 5 => 12,
            10 | 13 => 8,
            // An overflow page or a free one: it begins with a page number, which is less than 2^25.
            _ => return None,
        };
    let two = |at: usize| Some(usize::from(u16::from_be_bytes([*page.get(at)?, *page.get(at + 1)?])));
    let start = index + 2 * two(header + 3)?;
    let end = match two(header + 5)? {
        0 => 65_536,
        end => end,
    };
    (start <= end && end <= page.len()).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::{clear_gap, gap};

    /// A leaf page with two cells.
    fn leaf() -> Vec<u8> {
        let mut page = vec![0xaa; 512];
        page[..8].copy_from_slice(&[13, 0, 0, 0, 2, 0x01, 0x00, 0]);
        page
    }

    #[test]
    fn gap_lies_between_the_index_and_the_content() {
        let mut page = leaf();
        assert_eq!(gap(&page, 3), Some(12..256));
        assert!(clear_gap(&mut page, 3));
        assert!(page[12..256].iter().all(|byte| *byte == 0) && page[256..].iter().all(|byte| *byte == 0xaa));
        assert!(!clear_gap(&mut page, 3), "it is clear now");
    }

    #[test]
    fn other_pages_are_left_alone() {
        // The second page is a pointer map, as is one page in each 103 of this size; the others are no b-tree pages.
        for (number, first) in [(2, 13), (2 + 103, 13), (3, 0), (3, 1), (3, 255)] {
            let mut page = leaf();
            page[0] = first;
            let before = page.clone();
            assert!(!clear_gap(&mut page, number), "{number} {first}");
            assert_eq!(page, before);
        }
        // A page whose header contradicts itself, and pages that are too short.
        let mut page = leaf();
        page[3..5].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(gap(&page, 3), None);
        for length in [0, 1, 7] {
            assert_eq!(gap(&leaf()[..length], 3), None);
        }
    }
}
