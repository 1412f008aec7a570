//! The configuration for display: without the values of variables, which are often secret, and without settings of
//! plugins whose names are those of secrets.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::key::camel;
use super::names::written;
use super::types::Config;
use ostler_protocol::Origin;
use ostler_protocol::{leaves, pointer_names, secret_like};

/// Replacement for a hidden value.
pub const HIDDEN: &str = "(hidden)";

/// Tables whose members have free names, which are the same in the file and in the API. In `settings`, this also
/// applies to all nested tables.
const FREE: &[&str] = &["environment", "providers", "settings", "workspaces"];

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub struct ShownValue {
    /// JSON pointer into the document: `/scheduler/perProvider`.
    pub pointer: String,
    /// The key as in the file: `scheduler.per_provider`.
    pub key: String,
    /// The value: anything but an object with members.
    pub value: Value,
    /// Origin of the value.
    pub origin: Origin,
}

impl Config {
    /// The configuration as one document, with the keys of the API. Possible secrets are replaced by [`HIDDEN`]: the
    /// values of variables, and strings in the settings of plugins whose names are those of secrets.
    #[must_use]
    pub fn shown(&self) -> Map<String, Value> {
        let mut document = document(self);
        hide(&mut document, Secrecy::Open);
        document
    }

    /// The keys, as in the file, of the values that differ from another configuration.
    #[must_use]
    pub fn changed_keys(&self, other: &Self) -> Vec<String> {
        let (mine, others) = (document(self), document(other));
        let present = |document| -> BTreeMap<String, &Value> { present(document).collect() };
        let (mine, others) = (present(&mine), present(&others));
        let changed = mine.iter().filter(|(pointer, value)| others.get(*pointer) != Some(value));
        let gone = others.keys().filter(|pointer| !mine.contains_key(*pointer));
        let pointers: BTreeSet<&String> = changed.map(|(pointer, _)| pointer).chain(gone).collect();
        pointers.into_iter().map(|pointer| file_key(pointer)).collect()
    }

    /// Every value of [`shown`](Self::shown) with its origin, in the order of the sections. Unset values are omitted.
    #[must_use]
    pub fn shown_values(&self) -> Vec<ShownValue> {
        let shown = |(pointer, value): (String, &Value)| ShownValue {
            key: file_key(&pointer),
            value: value.clone(),
            origin: self.sources().origin(&pointer),
            pointer,
        };
        present(&self.shown()).map(shown).collect()
    }
}

fn document(config: &Config) -> Map<String, Value> {
    match serde_json::to_value(config) {
        Ok(Value::Object(document)) => document,
        _ => Map::new(),
    }
}

/// The values of a document without null and empty objects.
fn present(document: &Map<String, Value>) -> impl Iterator<Item = (String, &Value)> {
    leaves(document).into_iter().filter(|(_, value)| !value.is_null() && !value.is_object())
}

/// Which values of a table may be secret.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Secrecy {
    /// None: the keys are those of the configuration.
    Open,
    /// Values whose names are those of secrets.
    Named,
    /// All values.
    All,
}

fn hide(members: &mut Map<String, Value>, secrecy: Secrecy) {
    for (name, value) in members {
        let secret = secrecy == Secrecy::All || (secrecy == Secrecy::Named && secret_like(name));
        let below = match (secrecy, name.as_str()) {
            _ if secret => Secrecy::All,
            (Secrecy::Open, "environment") => Secrecy::All,
            (Secrecy::Open, "settings") => Secrecy::Named,
            _ => secrecy,
        };
        hide_in(value, secret, below);
    }
}

fn hide_in(value: &mut Value, secret: bool, below: Secrecy) {
    match value {
        Value::String(text) if secret => HIDDEN.clone_into(text),
        Value::Array(items) => items.iter_mut().for_each(|item| hide_in(item, secret, below)),
        Value::Object(members) => hide(members, below),
        _ => {}
    }
}

/// The key of the file for a pointer into the document of the API: `scheduler.per_provider` for
/// `/scheduler/perProvider`.
#[must_use]
pub fn file_key(pointer: &str) -> String {
    let names = respelled(pointer_names(pointer), |own| snake(&own));
    names.iter().map(|name| written(name)).collect::<Vec<_>>().join(".")
}

/// The member names of a key in the document of the API: `scheduler`, `perProvider` for `scheduler.per_provider`.
/// Accepts both spellings. `None` if `key` is not a valid key.
#[must_use]
pub fn wire_names(key: &str) -> Option<Vec<String>> {
    // The TOML parser handles quoted names.
    let mut table: toml::Table = toml::from_str(&format!("{key} = 0")).ok()?;
    let mut names = Vec::new();
    loop {
        let (name, value) = table.into_iter().next()?;
        names.push(name);
        match value {
            toml::Value::Table(inner) => table = inner,
            _ => return Some(respelled(names.into_iter(), |own| camel(&own))),
        }
    }
}

/// Changes the spelling of the names that are keys of the configuration.
fn respelled(names: impl Iterator<Item = String>, spell: impl Fn(String) -> String) -> Vec<String> {
    let (mut own, mut own_below) = (true, true);
    let step = |name: String| {
        let free_below = own && FREE.contains(&name.as_str());
        own_below &= !(free_below && name == "settings");
        let name = if own { spell(name) } else { name };
        own = own_below && !free_below;
        name
    };
    names.map(step).collect()
}

fn snake(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for character in name.chars() {
        if character.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(character.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn spells_keys_as_in_the_file() {
        for (pointer, key) in [
            ("/scheduler/perProvider", "scheduler.per_provider"),
            ("/providers/my-codex/environment/MY_Key", "providers.my-codex.environment.MY_Key"),
            ("/providers/llm/settings/maxTokens/aB", "providers.llm.settings.maxTokens.aB"),
            ("/plugins/policy/guardrails/settings/maxRuns", "plugins.policy.guardrails.settings.maxRuns"),
            ("/retention/workspaces/~1home~1me~1mySrc/maxDays", "retention.workspaces.\"/home/me/mySrc\".max_days"),
        ] {
            assert_eq!(file_key(pointer), key);
            let names = wire_names(key).unwrap();
            assert_eq!(ostler_protocol::pointer_along(&names), pointer);
        }
        assert_eq!(wire_names("scheduler.perProvider").unwrap(), ["scheduler", "perProvider"]);
        for wrong in ["", "a..b", "a b", "\"a", "a\nb = 1\nc"] {
            assert_eq!(wire_names(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn shows_values_with_origin_and_hides_variables() {
        let text = "[scheduler]\nper_provider = 3\n[providers.my-codex]\nplugin = \"codex\"\n\
                    environment = { MY_Key = \"hunter2\" }\n\
                    settings = { api_key = \"hunter2\", maxTokens = 5, args = [{ password = \"hunter2\", n = \"x\" }] }\n";
        let config = Config::parse(text).unwrap();
        let values = config.shown_values();
        let of =
            |key: &str| values.iter().find(|value| value.key == key).unwrap_or_else(|| panic!("{key}: {values:?}"));
        assert_eq!(
            (&of("scheduler.per_provider").value, of("scheduler.per_provider").origin),
            (&3.into(), Origin::File)
        );
        assert_eq!(of("scheduler.aging_seconds").origin, Origin::Default);
        assert_eq!(of("providers.my-codex.environment.MY_Key").value, HIDDEN);
        assert_eq!(of("providers.my-codex.settings.maxTokens").value, 5);
        assert_eq!(of("providers.my-codex.settings.args").value, serde_json::json!([{"password": HIDDEN, "n": "x"}]));
        assert!(!format!("{values:?}").contains("hunter2"));
        // Each key of the default text is found under its own name.
        for line in super::super::DEFAULT_TEXT.lines().filter(|line| !line.starts_with(['#', '['])) {
            if let Some((key, _)) = line.split_once(" = ") {
                assert!(values.iter().any(|value| value.key.ends_with(&format!(".{key}"))), "{key}");
            }
        }
    }
}
