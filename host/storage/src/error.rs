//! Errors of the database, distinguished by what the user can do about them.

use std::fmt;
use std::path::Path;

use rusqlite::ErrorCode;

use ostler_protocol::{ApiError, ErrorKind};

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageErrorKind {
    /// The database was written by a later version.
    Newer,
    /// The file is not a database of this program.
    Foreign,
    /// The database is damaged.
    Damaged,
    /// The file, its folder or its file system is read-only.
    ReadOnly,
    /// The file or its folder belongs to another user, is accessible to others, or may not be opened.
    Permission,
    /// There is no space left.
    DiskFull,
    /// Another program has the database locked.
    Busy,
    /// Reading or writing failed otherwise.
    Io,
    /// The run, conversation or other row does not exist.
    NotFound,
    /// The run has ended; nothing more is written for it.
    Ended,
    /// A row with that key exists already.
    Exists,
    /// A value cannot be stored: a path that is not UTF-8, a number beyond 63 bits.
    Invalid,
    /// The storage was closed.
    Closed,
    /// A defect in the host.
    Internal,
}

/// An error of the storage, with a hint if the user can do something.
///
/// It never contains the contents of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageError {
    kind: StorageErrorKind,
    message: String,
    hint: Option<String>,
}

impl StorageError {
    /// An error of a kind, with a message.
    #[must_use]
    pub fn new(kind: StorageErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// The error for a row that does not exist.
    #[must_use]
    pub fn not_found(what: &str, id: impl fmt::Display) -> Self {
        Self::new(StorageErrorKind::NotFound, format!("there is no {what} {id}"))
    }

    /// Adds a hint: what the user can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What kind of failure it is.
    #[must_use]
    pub const fn kind(&self) -> StorageErrorKind {
        self.kind
    }

    /// What is wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What the user can do about it.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Whether the cause is the file or the disk, and not the call.
    #[must_use]
    pub const fn of_the_file(&self) -> bool {
        matches!(
            self.kind,
            StorageErrorKind::Newer
                | StorageErrorKind::Foreign
                | StorageErrorKind::Damaged
                | StorageErrorKind::ReadOnly
                | StorageErrorKind::Permission
                | StorageErrorKind::DiskFull
                | StorageErrorKind::Busy
                | StorageErrorKind::Io
        )
    }

    /// Adds the path and the hint of its kind, if the cause is the file.
    #[must_use]
    pub(super) fn at(mut self, action: &str, path: &Path) -> Self {
        if !self.of_the_file() || self.hint.is_some() {
            return self;
        }
        self.message = format!("failed to {action} the database {}: {}", path.display(), self.message);
        self.hint = match self.kind {
            StorageErrorKind::Damaged => Some(damaged_hint(path)),
            StorageErrorKind::ReadOnly => {
                Some(format!("make {} writable, or set OSTLER_HOME to a folder that is", folder_of(path).display()))
            }
            StorageErrorKind::Permission => Some(format!(
                "give {} to the user who runs the host, or set OSTLER_HOME to a folder of your own",
                folder_of(path).display()
            )),
            StorageErrorKind::DiskFull => {
                Some(format!("make room on the file system of {}", folder_of(path).display()))
            }
            StorageErrorKind::Io => Some(format!(
                "look whether the disk of {} is full or fails, and whether a limit on the size of files (ulimit -f) is in force",
                folder_of(path).display()
            )),
            StorageErrorKind::Busy => {
                Some("close the other program that has the database open, and try again".to_owned())
            }
            _ => None,
        };
        self
    }
}

/// The folder of a file, for messages.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// What to do with a damaged database.
pub(super) fn damaged_hint(path: &Path) -> String {
    format!(
        "nothing was changed; move {0} and the files {0}-wal and {0}-shm away to start with an empty one, or put a copy in their place",
        path.display()
    )
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StorageError {}

impl From<rusqlite::Error> for StorageError {
    fn from(error: rusqlite::Error) -> Self {
        use StorageErrorKind as Kind;
        let (code, detail) = match &error {
            rusqlite::Error::SqliteFailure(failure, detail) => (failure.code, detail.clone()),
            rusqlite::Error::SqlInputError { error, msg, .. } => (error.code, Some(msg.clone())),
            // A column has an invalid value: strict tables make that impossible in an intact file.
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::Utf8Error(..) => {
                return Self::new(Kind::Damaged, "a row does not hold what it must");
            }
            rusqlite::Error::QueryReturnedNoRows => {
                return Self::new(Kind::NotFound, "there is no such row");
            }
            other => return Self::new(Kind::Internal, format!("failed to use the database: {other}")),
        };
        match code {
            ErrorCode::DatabaseCorrupt => Self::new(Kind::Damaged, "it is damaged"),
            ErrorCode::NotADatabase => Self::new(Kind::Damaged, "it is not an SQLite database"),
            ErrorCode::ReadOnly => Self::new(Kind::ReadOnly, "it is read-only"),
            ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied => {
                Self::new(Kind::Permission, "access was denied")
            }
            ErrorCode::CannotOpen => Self::new(Kind::Permission, "it cannot be opened"),
            ErrorCode::DiskFull => Self::new(Kind::DiskFull, "there is no space left"),
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => {
                Self::new(Kind::Busy, "another program holds a lock on it")
            }
            ErrorCode::SystemIoFailure => Self::new(
                Kind::Io,
                detail.unwrap_or_else(|| "the operating system reports an input/output error".to_owned()),
            ),
            ErrorCode::ConstraintViolation => Self::new(
                Kind::Exists,
                format!("the row contradicts another: {}", detail.as_deref().unwrap_or("constraint failed")),
            ),
            ErrorCode::TooBig => Self::new(Kind::Invalid, "a value is larger than a row may be (1 GB)"),
            // All statements are fixed: if one is invalid, the file's header or its schema is damaged.
            ErrorCode::Unknown
                if detail.as_deref().is_some_and(|detail| {
                    [
                        "unsupported file format",
                        "no such column",
                        "no such table",
                        "no such index",
                        "no query solution",
                        "malformed database schema",
                        "malformed JSON",
                        "foreign key mismatch",
                    ]
                    .iter()
                    .any(|text| detail.starts_with(text))
                }) =>
            {
                Self::new(Kind::Damaged, "its tables or rows are not what they must be")
            }
            _ => Self::new(
                Kind::Internal,
                format!("failed to use the database: {}", detail.unwrap_or_else(|| error.to_string())),
            ),
        }
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        let kind = match error.kind {
            StorageErrorKind::NotFound => ErrorKind::NotFound,
            StorageErrorKind::Ended | StorageErrorKind::Exists => ErrorKind::Conflict,
            StorageErrorKind::Invalid => ErrorKind::InvalidParams,
            StorageErrorKind::Internal => ErrorKind::Internal,
            _ => ErrorKind::Io,
        };
        let retryable =
            matches!(error.kind, StorageErrorKind::DiskFull | StorageErrorKind::Busy | StorageErrorKind::Closed);
        let mut api = Self::new(kind, error.message).retryable(retryable);
        api.hint = error.hint;
        api
    }
}
