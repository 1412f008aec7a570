//! Diagnostics of plugins and other users of a configuration, with the line and column of their values in the file.

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

/// Maximum number of diagnostics that are shown.
const MAX_DIAGNOSTICS: usize = 50;

/// A problem of a value of the configuration that its user found, such as a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigDiagnostic {
    /// Keys of the path from the root of the file to the value; a number for an item of a list. If the file does not
    /// contain the value, the position is that of its nearest parent.
    pub path: Vec<String>,
    /// The problem, in lower case, without key and position, and without the value, which may be secret.
    pub message: String,
    /// How to fix it.
    pub hint: Option<String>,
}

impl ConfigDiagnostic {
    /// A diagnostic for an unknown name. The hint suggests the nearest known name.
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
    /// Adds line and column to diagnostics of a file. The file is read again; if it has changed, the positions may be
    /// those of parents.
    #[must_use]
    pub fn locate(path: &Path, diagnostics: &[ConfigDiagnostic]) -> ConfigErrors {
        let text = file::read(path).unwrap_or_default();
        ConfigErrors::new(Some(path), locate(&text, diagnostics))
    }
}

fn locate(text: &str, diagnostics: &[ConfigDiagnostic]) -> Vec<ConfigError> {
    let layer = Layer { origin: Origin::File, text };
    let table = DeTable::parse_recoverable(text).0;
    let error = |ConfigDiagnostic { path, message, hint }: &ConfigDiagnostic| {
        let (position, line_text) = layer.locate(span_of(table.get_ref(), path).start);
        let (key, pointer) = (dotted(path), pointer_along(path));
        let whole = ConfigError::whole(message.clone(), hint.clone());
        ConfigError { position: Some(position), key, pointer, line_text, ..whole }
    };
    diagnostics.iter().take(MAX_DIAGNOSTICS).map(error).collect()
}

/// The span of a key or list item; if it does not exist, of its nearest parent.
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

    fn diagnostic(path: &str) -> ConfigDiagnostic {
        ConfigDiagnostic {
            path: path.split('/').map(str::to_owned).collect(),
            message: "is wrong".to_owned(),
            hint: None,
        }
    }

    #[test]
    fn diagnostics_have_the_position_of_their_keys() {
        let text =
            "[providers.a]\nsettings = { one = 1, list = [\"x\", \"y\"] }\n\n[providers.a.settings.two]\nthree = 3\n";
        let text = text.replace("[providers.a.settings.two]\nthree = 3", "[providers.b.settings]\ntwo.three = 3");
        for (path, line, column, key) in [
            ("providers/a/settings/one", 2, 14, "providers.a.settings.one"),
            ("providers/a/settings/list/1", 2, 36, "providers.a.settings.list[1]"),
            ("providers/b/settings/two/three", 5, 5, "providers.b.settings.two.three"),
            // A missing value has the position of its parent.
            ("providers/a/plugin", 1, 12, "providers.a.plugin"),
            ("providers/a/settings/list/7", 2, 23, "providers.a.settings.list[7]"),
            ("nowhere/at all", 1, 1, "nowhere.\"at all\""),
        ] {
            let [error] = &locate(&text, &[diagnostic(path)])[..] else { panic!("{path}") };
            let position = error.position.unwrap();
            assert_eq!((position.line, position.column, error.key.as_str()), (line, column, key), "{path}");
        }
    }

    #[test]
    fn suggests_the_nearest_name() {
        let unknown = ConfigDiagnostic::unknown(Vec::new(), "is unknown".to_owned(), "claud", ["codex", "claude"]);
        assert_eq!(unknown.hint.as_deref(), Some("did you mean \"claude\"?"));
    }
}
