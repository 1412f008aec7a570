//! Errors of a configuration.

use std::fmt;
use std::path::{Path, PathBuf};

use ostler_protocol::Origin;
use ostler_protocol::{ApiError, ErrorKind, Problem};

/// A position in a file. Lines and columns count from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line number.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Position in the file. `None` for a problem of the whole file, and for runtime settings.
    pub position: Option<Position>,
    /// The dotted key in the spelling of its text: `scheduler.per_provider`. Empty if there is none.
    pub key: String,
    /// The key as a JSON pointer into the settings of the API: `/scheduler/perProvider`. Empty if there is none.
    pub pointer: String,
    /// The layer with the problem: the file, the runtime settings, or the built-in text.
    pub origin: Origin,
    /// The problem, in lower case, without key and position.
    pub message: String,
    /// How to fix it.
    pub hint: Option<String>,
    /// The line of the file: at most 160 characters, without control characters. It may contain a secret: redact it
    /// before it is stored or logged. Empty without a position.
    pub line_text: String,
}

impl ConfigError {
    /// A problem of the whole file.
    pub(super) fn whole(message: String, hint: Option<String>) -> Self {
        let (key, pointer, line_text) = (String::new(), String::new(), String::new());
        Self { position: None, key, pointer, origin: Origin::File, message, hint, line_text }
    }

    /// The error as a problem of a request. Omits the line, which may contain a secret.
    #[must_use]
    pub fn to_problem(&self) -> Problem {
        let position = self.position.map(|at| format!("{at}: ")).unwrap_or_default();
        let hint = self.hint.as_deref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        Problem { pointer: self.pointer.clone(), message: format!("{position}{}{hint}", self.message) }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(position) = self.position {
            write!(f, "{position}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

/// All problems of one file, in the order of the lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    path: Option<PathBuf>,
    errors: Vec<ConfigError>,
}

impl ConfigErrors {
    pub(super) fn new(path: Option<&Path>, mut errors: Vec<ConfigError>) -> Self {
        errors.sort_by_key(|error| error.position);
        Self { path: path.map(Path::to_path_buf), errors }
    }

    /// Path of the file; `None` if the text is not from a file.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The problems. There is at least one.
    #[must_use]
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }

    /// The problems as the error of a request: `IO` if the file cannot be read, else `INVALID_PARAMS`.
    #[must_use]
    pub fn to_api_error(&self) -> ApiError {
        let mut error = ApiError::invalid(self.errors.iter().map(ConfigError::to_problem).collect());
        if self.errors.iter().all(|error| error.position.is_none() && error.pointer.is_empty()) {
            error.kind = ErrorKind::Io;
        }
        match &self.path {
            Some(path) => error.hint(format!("the file is {}", path.display())),
            None => error,
        }
    }

    /// A report for a terminal: each problem with its line and a mark under the column.
    #[must_use]
    pub fn report(&self) -> String {
        let mut report = String::new();
        for error in &self.errors {
            report.push_str(&self.location(error));
            let ConfigError { key, message, hint, line_text, position, .. } = error;
            if !key.is_empty() {
                report.push_str(key);
                report.push_str(": ");
            }
            report.push_str(message);
            report.push('\n');
            if let Some(Position { line, column }) = position {
                let number = line.to_string();
                report.push_str(&format!("  {number} | {line_text}\n"));
                if *column <= line_text.chars().count() + 1 {
                    report.push_str(&format!("  {} | {}^\n", " ".repeat(number.len()), " ".repeat(column - 1)));
                }
            }
            if let Some(hint) = hint {
                report.push_str(&format!("  hint: {hint}\n"));
            }
        }
        report
    }

    /// `path:line:column: `, as far as known. Editors recognize this form.
    fn location(&self, error: &ConfigError) -> String {
        let path = self.path.as_ref().map(|path| path.display().to_string());
        match (path, error.position) {
            (Some(path), Some(Position { line, column })) => format!("{path}:{line}:{column}: "),
            (Some(path), None) => format!("{path}: "),
            (None, Some(Position { line, column })) => format!("{line}:{column}: "),
            (None, None) => String::new(),
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "failed to read the configuration {}: ", path.display())?,
            None => f.write_str("failed to read the configuration: ")?,
        }
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
