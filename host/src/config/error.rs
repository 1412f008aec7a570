//! What is wrong with a configuration file.

use std::fmt;
use std::path::{Path, PathBuf};

/// A place in a file. Both count from 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where it is; none where the file as a whole is at fault.
    pub position: Option<Position>,
    /// The key as it would be written in dotted form: `scheduler.global`. Empty where there is none.
    pub key: String,
    /// What is wrong: lower case, without key and position.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The line of the file, at most 160 characters of it, without control characters. It may hold a secret: redact it
    /// before it is stored or logged. Empty where there is no position.
    pub line_text: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Position { line, column }) = self.position {
            write!(f, "line {line}, column {column}: ")?;
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

    /// The file; none for a text that is no file.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The problems; at least one.
    #[must_use]
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }

    /// For a terminal: each problem with its line and a mark under the column.
    #[must_use]
    pub fn report(&self) -> String {
        let mut report = String::new();
        for error in &self.errors {
            report.push_str(&self.location(error));
            let ConfigError { key, message, hint, line_text, position } = error;
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

    /// `path:line:column: `, as far as known: the form that editors follow.
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
