//! The files of the log: one per day, and a further one when a file becomes large. The oldest files are deleted.
//!
//! The total size is bounded by the number of files to keep, times [`MAX_BYTES`].

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::civil::Date;
use jiff::tz::TimeZone;

use ostler_config::LOG_FILE;

/// Maximum size of a file, in bytes.
const MAX_BYTES: u64 = 16 << 20;

const PREFIX: &str = "host.";
const SUFFIX: &str = ".log";

/// The files of one folder.
#[derive(Debug)]
pub(super) struct LogFiles {
    folder: PathBuf,
    keep: usize,
    max_bytes: u64,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    name: Name,
    bytes: u64,
}

/// Day of a file, and its number on that day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    day: Date,
    number: u32,
}

impl Name {
    fn parse(name: &str) -> Option<Self> {
        let middle = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
        let (day, number) = match middle.split_once('.') {
            None => (middle, 0),
            Some((day, number)) => (day, number.parse().ok()?),
        };
        Some(Self { day: day.parse().ok()?, number })
    }

    fn file_name(self) -> String {
        match self.number {
            0 => format!("{PREFIX}{}{SUFFIX}", self.day),
            number => format!("{PREFIX}{}.{number}{SUFFIX}", self.day),
        }
    }
}

impl LogFiles {
    /// Opens the file of today. At least one file is kept.
    ///
    /// # Errors
    /// If the folder cannot be read or the file cannot be opened.
    pub(super) fn open(folder: &Path, keep: usize) -> io::Result<Self> {
        Self::with(folder, keep, MAX_BYTES, today())
    }

    fn with(folder: &Path, keep: usize, max_bytes: u64, day: Date) -> io::Result<Self> {
        let newest = names(folder)?.into_iter().filter(|name| name.day == day).max();
        let mut open = open(folder, newest.unwrap_or(Name { day, number: 0 }))?;
        if open.bytes >= max_bytes {
            open = self::open(folder, Name { day, number: open.name.number + 1 })?;
        }
        let files = Self { folder: folder.to_owned(), keep: keep.max(1), max_bytes, open: Mutex::new(open) };
        files.tidy();
        Ok(files)
    }

    /// Writes one line.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn write(&self, line: &[u8]) -> io::Result<()> {
        self.write_on(line, today())
    }

    fn write_on(&self, line: &[u8], day: Date) -> io::Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let length = line.len() as u64;
        let full = open.bytes > 0 && open.bytes + length > self.max_bytes;
        let next = match (day > open.name.day, full) {
            (true, _) => Some(Name { day, number: 0 }),
            (false, true) => Some(Name { number: open.name.number + 1, ..open.name }),
            (false, false) => None,
        };
        if let Some(next) = next {
            // If no other file can be opened, exceed the limit instead of losing the line.
            if let Ok(next) = self::open(&self.folder, next) {
                *open = next;
                self.tidy();
            }
        }
        open.file.write_all(line)?;
        open.bytes += length;
        Ok(())
    }

    /// Deletes the oldest files, and updates the link to the newest one.
    fn tidy(&self) {
        let Ok(mut found) = names(&self.folder) else { return };
        found.sort_unstable();
        let gone = found.len().saturating_sub(self.keep);
        for name in found.iter().take(gone) {
            let _ = fs::remove_file(self.folder.join(name.file_name()));
        }
        let Some(newest) = found.last() else { return };
        let draft = self.folder.join(format!(".{LOG_FILE}.{}", std::process::id()));
        let _ = fs::remove_file(&draft);
        // The log also works without the link.
        let _ = symlink(newest.file_name(), &draft).and_then(|()| fs::rename(&draft, self.folder.join(LOG_FILE)));
    }
}

fn open(folder: &Path, name: Name) -> io::Result<Open> {
    let path = folder.join(name.file_name());
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let about = file.metadata()?;
    // An earlier version created files that only the mode of the folder protected.
    if about.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(Open { file, name, bytes: about.len() })
}

fn names(folder: &Path) -> io::Result<Vec<Name>> {
    let entries = fs::read_dir(folder)?.filter_map(Result::ok);
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    Ok(files.filter_map(|entry| Name::parse(entry.file_name().to_str()?)).collect())
}

/// The current day for names of files, in UTC, so that no day occurs twice.
fn today() -> Date {
    #[expect(clippy::disallowed_methods, reason = "a log is named after the day of the machine")]
    let now = jiff::Timestamp::now();
    now.to_zoned(TimeZone::UTC).date()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use jiff::ToSpan;

    use super::*;

    const DAY: Date = Date::constant(2026, 11, 29);

    fn listed(folder: &Path) -> Vec<String> {
        let mut found: Vec<Name> = names(folder).unwrap();
        found.sort_unstable();
        found.into_iter().map(Name::file_name).collect()
    }

    #[test]
    fn starts_new_file_when_large_and_each_day() {
        let folder = tempfile::tempdir().unwrap();
        let files = LogFiles::with(folder.path(), 10, 25, DAY).unwrap();
        for _ in 0..5 {
            files.write_on(b"ten bytes\n", DAY).unwrap();
        }
        let first = ["host.2026-11-29.log", "host.2026-11-29.1.log", "host.2026-11-29.2.log"];
        assert_eq!(listed(folder.path()), first);
        files.write_on(b"x", DAY + 1.day()).unwrap();
        assert_eq!(listed(folder.path()).last().unwrap(), "host.2026-11-30.log");
        assert_eq!(fs::read_to_string(folder.path().join(LOG_FILE)).unwrap(), "x");
        // A clock that was set back does not start an older file.
        files.write_on(b"y", DAY).unwrap();
        assert_eq!(fs::read_to_string(folder.path().join(LOG_FILE)).unwrap(), "xy");
        // The next host continues the last file.
        drop(files);
        let files = LogFiles::with(folder.path(), 10, 25, DAY + 1.day()).unwrap();
        files.write_on(b"z", DAY + 1.day()).unwrap();
        assert_eq!(fs::read_to_string(folder.path().join(LOG_FILE)).unwrap(), "xyz");
    }

    #[test]
    fn total_size_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("notes.log"), "mine").unwrap();
        let files = LogFiles::with(folder.path(), 3, 100, DAY).unwrap();
        for _ in 0..1000 {
            files.write_on(b"ten bytes\n", DAY).unwrap();
        }
        let sizes: Vec<u64> =
            listed(folder.path()).iter().map(|name| fs::metadata(folder.path().join(name)).unwrap().len()).collect();
        assert_eq!(sizes, [100, 100, 100]);
        assert!(folder.path().join("notes.log").exists());
    }

    #[test]
    fn files_are_readable_only_by_the_owner() {
        let folder = tempfile::tempdir().unwrap();
        let old = folder.path().join("host.2026-11-29.log");
        fs::write(&old, "old\n").unwrap();
        fs::set_permissions(&old, Permissions::from_mode(0o644)).unwrap();
        let files = LogFiles::with(folder.path(), 3, 10, DAY).unwrap();
        files.write_on(b"long enough\n", DAY).unwrap();
        for name in listed(folder.path()) {
            let mode = fs::metadata(folder.path().join(&name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }
}
