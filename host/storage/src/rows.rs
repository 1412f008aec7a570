//! Conversion between values and columns.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::types::Type;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use ostler_protocol::RunMode;

use super::{StorageError, StorageErrorKind};

/// Microseconds since the Unix epoch.
pub(super) fn micros(time: Timestamp) -> i64 {
    time.as_microsecond()
}

/// The error for a column with an invalid value.
pub(super) fn damaged(what: &str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Null, format!("{what} cannot be read").into())
}

pub(super) fn time(micros: i64) -> rusqlite::Result<Timestamp> {
    Timestamp::from_microsecond(micros).map_err(|_| damaged("a time"))
}

pub(super) fn time_of(row: &rusqlite::Row<'_>, column: &str) -> rusqlite::Result<Timestamp> {
    time(row.get(column)?)
}

pub(super) fn optional_time_of(row: &rusqlite::Row<'_>, column: &str) -> rusqlite::Result<Option<Timestamp>> {
    row.get::<_, Option<i64>>(column)?.map(time).transpose()
}

/// An id of the interface.
pub(super) fn id_of<T: From<Uuid>>(row: &rusqlite::Row<'_>, column: &str) -> rusqlite::Result<T> {
    id(row.get_ref(column)?.as_blob().map_err(|_| damaged("an id"))?)
}

pub(super) fn optional_id_of<T: From<Uuid>>(row: &rusqlite::Row<'_>, column: &str) -> rusqlite::Result<Option<T>> {
    let bytes = row.get_ref(column)?.as_blob_or_null().map_err(|_| damaged("an id"))?;
    bytes.map(id).transpose()
}

fn id<T: From<Uuid>>(bytes: &[u8]) -> rusqlite::Result<T> {
    Uuid::from_slice(bytes).map(T::from).map_err(|_| damaged("an id"))
}

/// A value of an enum, stored by name.
pub(super) fn name_of<T>(
    row: &rusqlite::Row<'_>,
    column: &str,
    from_name: impl Fn(&str) -> Option<T>,
) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str().map_err(|_| damaged("a name"))?;
    from_name(text).ok_or_else(|| damaged("a name"))
}

pub(super) fn optional_name_of<T>(
    row: &rusqlite::Row<'_>,
    column: &str,
    from_name: impl Fn(&str) -> Option<T>,
) -> rusqlite::Result<Option<T>> {
    let text = row.get_ref(column)?.as_str_or_null().map_err(|_| damaged("a name"))?;
    text.map(|text| from_name(text).ok_or_else(|| damaged("a name"))).transpose()
}

/// JSON text.
pub(super) fn json_of<T: DeserializeOwned>(row: &rusqlite::Row<'_>, column: &str) -> rusqlite::Result<T> {
    json(row.get_ref(column)?.as_str().map_err(|_| damaged("a document"))?)
}

pub(super) fn optional_json_of<T: DeserializeOwned>(
    row: &rusqlite::Row<'_>,
    column: &str,
) -> rusqlite::Result<Option<T>> {
    let text = row.get_ref(column)?.as_str_or_null().map_err(|_| damaged("a document"))?;
    text.map(json).transpose()
}

pub(super) fn json<T: DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|_| damaged("a document"))
}

pub(super) fn path_of(row: &rusqlite::Row<'_>, column: &str) -> rusqlite::Result<PathBuf> {
    row.get::<_, String>(column).map(PathBuf::from)
}

/// A count, which is never negative.
pub(super) fn count_of(row: &rusqlite::Row<'_>, column: &str) -> rusqlite::Result<u64> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|_| damaged("a count"))
}

/// An unsigned number as SQLite's signed one.
pub(super) fn number(value: u64) -> Result<i64, StorageError> {
    i64::try_from(value)
        .map_err(|_| StorageError::new(StorageErrorKind::Invalid, format!("{value} is larger than can be stored")))
}

/// SQLite's signed number as an unsigned one; the writer never stores negative ones.
pub(super) const fn unsigned(value: i64) -> u64 {
    if value < 0 { 0 } else { value.unsigned_abs() }
}

/// A path as text.
pub(super) fn path_text(path: &Path) -> Result<&str, StorageError> {
    path.to_str().ok_or_else(|| {
        StorageError::new(
            StorageErrorKind::Invalid,
            format!("the path {} is not valid UTF-8; use another path", path.display()),
        )
    })
}

/// A document as JSON text.
pub(super) fn text<T: Serialize>(value: &T) -> Result<String, StorageError> {
    serde_json::to_string(value).map_err(|error| {
        StorageError::new(StorageErrorKind::Invalid, format!("a document cannot be written as JSON: {error}"))
    })
}

pub(super) const fn mode_name(mode: RunMode) -> &'static str {
    match mode {
        RunMode::NonInteractive => "non-interactive",
        RunMode::Interactive => "interactive",
    }
}

pub(super) fn mode_from_name(name: &str) -> Option<RunMode> {
    match name {
        "non-interactive" => Some(RunMode::NonInteractive),
        "interactive" => Some(RunMode::Interactive),
        _ => None,
    }
}
