//! Problems that only others can see in a file, put at their places in it: a plugin knows its settings, the file does not.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::Layer;
use super::error::{ConfigError, ConfigErrors};
use super::names::written;
use super::{Config, file};
use ostler_protocol::{Origin, nearest, pointer_along};

/// Complaints that are shown.
const MOST: usize = 50;

/// A problem of a value of the configuration, found by whoever the value is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigDiagnostic {
    /// The keys that lead to the value, from the top of the file; a number for an entry of a list. Where the file has
    /// no such key, the nearest one above it that it has is shown.
    pub path: Vec<String>,
    /// What is wrong: lower case, without key and position, without the value, which may be secret.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl ConfigDiagnostic {
    /// A name that is none of those known, with the nearest of them.
    #[must_use]
    pub fn unknown<'n>(
        path: Vec<String>,
        message: String,
        name: &str,
        known: impl IntoIterator<Item = &'n str>,
    ) -> Self {
        let hint = nearest(name, known).map(|near| format!("did you mean {near:?}?"));
        Self { path, message, hint }
    }
}

impl Config {
    /// Complaints about what stands in a file, each with its line and column. The file is read again; where it has
    /// become another meanwhile, the places are those of what is left.
    #[must_use]
    pub fn place(path: &Path, complaints: &[ConfigDiagnostic]) -> ConfigErrors {
        let text = file::read(path).unwrap_or_default();
        ConfigErrors::new(Some(path), place(&text, complaints))
    }
}

fn place(text: &str, complaints: &[ConfigDiagnostic]) -> Vec<ConfigError> {
    let layer = Layer { origin: Origin::File, text };
    let table = DeTable::parse_recoverable(text).0;
    let error = |ConfigDiagnostic { path, message, hint }: &ConfigDiagnostic| {
        let (position, line_text) = layer.locate(span_of(table.get_ref(), path).start);
        let (key, pointer) = (dotted(path), pointer_along(path));
        let whole = ConfigError::whole(message.clone(), hint.clone());
        ConfigError { position: Some(position), key, pointer, line_text, ..whole }
    };
    complaints.iter().take(MOST).map(error).collect()
}

/// Where a key stands, or an entry of a list; of what is not there, the deepest that is.
fn span_of(table: &DeTable<'_>, path: &[String]) -> Range<usize> {
    let mut span = 0..0;
    let mut inside = Inside::Table(table);
    for step in path {
        let (found, value) = match inside {
            Inside::Table(table) => match table.iter().find(|(key, _)| key.get_ref().as_ref() == step) {
                Some((key, value)) => (key.span(), value),
                None => break,
            },
            Inside::List(items) => match step.parse().ok().and_then(|index: usize| items.get(index)) {
                Some(item) => (item.span(), item),
                None => break,
            },
        };
        span = found;
        inside = match value.get_ref() {
            DeValue::Table(table) => Inside::Table(table),
            DeValue::Array(items) => Inside::List(items),
            _ => break,
        };
    }
    span
}

enum Inside<'d, 't> {
    Table(&'d DeTable<'t>),
    List(&'d [Spanned<DeValue<'t>>]),
}

/// `providers.claude.settings.environment[0]`
fn dotted(path: &[String]) -> String {
    let mut key = String::new();
    for step in path {
        if !key.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit()) {
            let _ = write!(key, "[{step}]");
        } else {
            let dot = if key.is_empty() { "" } else { "." };
            let _ = write!(key, "{dot}{}", written(step));
        }
    }
    key
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn complaint(path: &str) -> ConfigDiagnostic {
        ConfigDiagnostic {
            path: path.split('/').map(str::to_owned).collect(),
            message: "is wrong".to_owned(),
            hint: None,
        }
    }

    #[test]
    fn complaints_stand_at_their_keys() {
        let text =
            "[providers.a]\nsettings = { one = 1, list = [\"x\", \"y\"] }\n\n[providers.a.settings.two]\nthree = 3\n";
        let text = text.replace("[providers.a.settings.two]\nthree = 3", "[providers.b.settings]\ntwo.three = 3");
        for (path, line, column, key) in [
            ("providers/a/settings/one", 2, 14, "providers.a.settings.one"),
            ("providers/a/settings/list/1", 2, 36, "providers.a.settings.list[1]"),
            ("providers/b/settings/two/three", 5, 5, "providers.b.settings.two.three"),
            // What is missing is shown where it would be.
            ("providers/a/plugin", 1, 12, "providers.a.plugin"),
            ("providers/a/settings/list/7", 2, 23, "providers.a.settings.list[7]"),
            ("nowhere/at all", 1, 1, "nowhere.\"at all\""),
        ] {
            let [error] = &place(&text, &[complaint(path)])[..] else { panic!("{path}") };
            let position = error.position.unwrap();
            assert_eq!((position.line, position.column, error.key.as_str()), (line, column, key), "{path}");
        }
    }

    #[test]
    fn the_nearest_name_is_offered() {
        let unknown = ConfigDiagnostic::unknown(Vec::new(), "is unknown".to_owned(), "claud", ["codex", "claude"]);
        assert_eq!(unknown.hint.as_deref(), Some("did you mean \"claude\"?"));
    }
}
