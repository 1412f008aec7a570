//! Runtime settings, which override the defaults and the file.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::file::MAX_FILE_BYTES;
use super::shown::file_key;
use ostler_protocol::{Problem, document_of, escape_pointer, leaves, lies_in};

/// Maximum nesting of a value.
const MAX_DEPTH: usize = 32;

/// Pointers of settings that can only be set in the file, with the reason. For providers see [`file_only`].
const FILE_ONLY: &[(&str, &str)] = &[
    ("/policy", "it decides what the policies let through"),
    ("/redaction", "it decides what is taken out as secret"),
    ("/plugins", "it decides which code checks and redacts, and how"),
    ("/storage/exports", "it decides where the host writes files"),
    ("/http", "it decides who can reach the host"),
    ("/sandbox", "it decides what contains the agents"),
    ("/tokens", "it decides where tokens are kept"),
];

/// The section of providers, the only key of a provider that can be set at run time, and the reason.
const PROVIDERS: &str = "providers";
const PROVIDER_SETTABLE: &str = "concurrency";
const PROVIDER_REASON: &str = "it decides which programs the host runs, and with what";

/// Sections of the file that the host reads only when it starts.
const AT_THE_START: &[&str] = &["http."];

/// Whether a changed key of the file takes effect only after a restart of the host.
#[must_use]
pub fn needs_restart(key: &str) -> bool {
    AT_THE_START.iter().any(|section| key.starts_with(section))
}

/// The runtime settings as a document, in the form of the API. It contains only values that were set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides(Map<String, Value>);

impl Overrides {
    /// Builds the settings from [`rows`](Self::rows). A row that contradicts an earlier one is omitted.
    pub fn from_rows(rows: impl IntoIterator<Item = (String, Value)>) -> Self {
        Self(document_of(rows))
    }

    /// Every value that was set, by its pointer: `/scheduler/perProvider`.
    #[must_use]
    pub fn rows(&self) -> BTreeMap<String, Value> {
        leaves(&self.0).into_iter().map(|(pointer, value)| (pointer, value.clone())).collect()
    }

    /// Whether nothing was set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Applies a patch: objects are merged, other values are replaced, and null removes the settings at and below a
    /// pointer, with tables that become empty. Values that a configuration cannot contain, or that can only be set in
    /// the file, are omitted and reported, so that the rest can still be checked.
    #[must_use]
    pub fn patched(&self, patch: &Value) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        let Value::Object(members) = patch else {
            let message = "must be an object with the sections to change".to_owned();
            problems.push(Problem { pointer: String::new(), message });
            return (self.clone(), problems);
        };
        check(patch, "", 0, &mut problems);
        let mut document = self.0.clone();
        merge(&mut document, members);
        let mut patched = Self(document);
        for problem in &problems {
            patched = patched.without(patched.affected_pointer(&problem.pointer));
        }
        let message = match patched.to_toml() {
            Ok(text) if text.len() as u64 <= MAX_FILE_BYTES => return (patched, problems),
            Ok(_) => format!("more than {MAX_FILE_BYTES} bytes would be set"),
            Err(error) => format!("it cannot be written in TOML: {error}"),
        };
        problems.push(Problem { pointer: String::new(), message });
        (self.clone(), problems)
    }

    /// Removes the settings at and below a pointer.
    #[must_use]
    pub fn without(&self, pointer: &str) -> Self {
        let below = format!("{pointer}/");
        Self::from_rows(self.rows().into_iter().filter(|(at, _)| at != pointer && !at.starts_with(&below)))
    }

    /// The nearest pointer at or above `pointer` with settings at or below it. `pointer` itself if there is none.
    pub(super) fn affected_pointer<'p>(&self, pointer: &'p str) -> &'p str {
        let rows = self.rows();
        let mut at = pointer;
        loop {
            let below = format!("{at}/");
            if rows.keys().any(|row| row == at || row.starts_with(&below)) {
                return at;
            }
            match at.rsplit_once('/') {
                Some((above, _)) => at = above,
                None => return pointer,
            }
        }
    }

    /// The settings as TOML, with the keys of the API, for the reader of configurations.
    pub(super) fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(&self.0)
    }
}

/// The reason why a value can only be set in the file, if so. For an object with members, check the members.
#[must_use]
pub(super) fn file_only(pointer: &str) -> Option<&'static str> {
    let mut steps = pointer.split('/').skip(1);
    if steps.next() == Some(PROVIDERS) {
        let settable = steps.next().is_some() && steps.next() == Some(PROVIDER_SETTABLE) && steps.next().is_none();
        return (!settable).then_some(PROVIDER_REASON);
    }
    FILE_ONLY.iter().find(|(above, _)| lies_in(pointer, above)).map(|(_, why)| *why)
}

/// Whether a value can be set at run time.
#[must_use]
pub fn is_settable(pointer: &str) -> bool {
    file_only(pointer).is_none()
}

/// The error message for a value that can only be set in the file.
pub(super) fn file_only_message(pointer: &str, why: &str) -> String {
    let key = file_key(pointer);
    format!("{key} can be set in config.toml only, because {why}")
}

/// Reports values that cannot be set. Messages do not contain the values, which may be secret.
fn check(value: &Value, pointer: &str, depth: usize, problems: &mut Vec<Problem>) {
    let mut refuse = |message: String| problems.push(Problem { pointer: pointer.to_owned(), message });
    // An object with members is checked by its members. Null is allowed, to remove a value that an earlier version
    // accepted.
    let counts = !value.is_null() && value.as_object().is_none_or(Map::is_empty);
    if let Some(why) = file_only(pointer).filter(|_| counts) {
        refuse(file_only_message(pointer, why));
        return;
    }
    if depth > MAX_DEPTH {
        refuse(format!("is nested deeper than {MAX_DEPTH} levels"));
        return;
    }
    match value {
        Value::Number(number) if number.as_u64().is_some_and(|number| i64::try_from(number).is_err()) => {
            refuse("the number does not fit 64 bits".to_owned());
        }
        Value::Object(members) => {
            for (name, value) in members {
                check(value, &format!("{pointer}/{}", escape_pointer(name)), depth + 1, problems);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let pointer = format!("{pointer}/{index}");
                if item.is_null() {
                    problems.push(Problem { pointer, message: "a list cannot hold null".to_owned() });
                } else {
                    check(item, &pointer, depth + 1, problems);
                }
            }
        }
        _ => {}
    }
}

fn merge(base: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (name, change) in patch {
        let members = match change {
            Value::Null => {
                base.shift_remove(name);
                continue;
            }
            Value::Object(members) => members,
            other => {
                base.insert(name.clone(), without_nulls(other));
                continue;
            }
        };
        let inner = base.entry(name.as_str()).or_insert(Value::Null);
        // Keep an empty table that the user wrote, such as a provider without settings. Remove one that became empty.
        let keep_empty = members.is_empty() || inner.as_object().is_some_and(Map::is_empty);
        if !inner.is_object() {
            *inner = Value::Object(Map::new());
        }
        if let Value::Object(inner) = inner {
            merge(inner, members);
            if inner.is_empty() && !keep_empty {
                base.shift_remove(name);
            }
        }
    }
}

/// Removes members that are null, which count as missing in every request.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), without_nulls(value)))
            .collect(),
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn patched(set: &Overrides, patch: &Value) -> Overrides {
        let (patched, problems) = set.patched(patch);
        assert_eq!(problems, []);
        patched
    }

    fn problems(patch: &Value) -> Vec<Problem> {
        Overrides::default().patched(patch).1
    }

    fn set(patches: &[Value]) -> Value {
        Value::Object(patches.iter().fold(Overrides::default(), |set, patch| patched(&set, patch)).0)
    }

    #[test]
    fn patch_is_merged_and_null_removes() {
        let first = json!({"scheduler": {"global": 4, "capacity": 9}, "providers": {"llm": {"concurrency": 2}}});
        assert_eq!(
            set(&[first.clone(), json!({"scheduler": {"global": null, "perProvider": 2}})]),
            json!({"scheduler": {"capacity": 9, "perProvider": 2}, "providers": {"llm": {"concurrency": 2}}})
        );
        assert_eq!(
            set(&[first.clone(), json!({"scheduler": null})]),
            json!({"providers": {"llm": {"concurrency": 2}}})
        );
        // A table that becomes empty is removed; a table that was set empty stays.
        let emptied =
            json!({"providers": {"llm": {"concurrency": null}}, "scheduler": {"global": null, "capacity": null}});
        assert_eq!(set(&[first, emptied]), json!({}));
        let limits = json!({"retention": {"providers": {"codex-2": {}}}});
        assert_eq!(set(std::slice::from_ref(&limits)), limits);
        let taken = json!({"retention": {"providers": {"codex-2": {"days": null}}}});
        assert_eq!(set(&[limits.clone(), taken]), limits);
        assert_eq!(set(&[json!({"storage": {"raw": null}})]), json!({}));
        let names = json!({"runner": {"inheritEnvironment": [{"id": "a", "pattern": "b", "minEntropy": null}]}});
        let without = json!({"runner": {"inheritEnvironment": [{"id": "a", "pattern": "b"}]}});
        assert_eq!(set(&[names]), without);
    }

    #[test]
    fn rejects_values_that_a_configuration_cannot_contain() {
        let deep = (0..40).fold(json!(1), |inner, _| json!({ "x": inner }));
        let patch = json!({
            "plugins": {"folder": "/tmp/mine"},
            "scheduler": {"global": u64::MAX},
            "runner": {"inheritEnvironment": ["HOME", null]},
            "retention": {"providers": {"a/b": {"settings": deep}}},
        });
        let (left, found) = Overrides::default().patched(&patch);
        assert!(left.is_empty(), "{left:?}");
        let pointers: Vec<&str> = found.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(pointers.len(), 4, "{found:?}");
        assert_eq!(pointers[..3], ["/plugins/folder", "/scheduler/global", "/runner/inheritEnvironment/1"]);
        assert!(pointers[3].starts_with("/retention/providers/a~1b/settings/x"), "{found:?}");
        assert!(found[0].message.contains("config.toml only"), "{found:?}");
        assert_eq!(problems(&json!([])).len(), 1);
        assert_eq!(problems(&json!({"plugins": {"folder": null}})), []);
        let (left, found) = Overrides::default().patched(&json!({"plugins": {"folder": "/x"}, "host": {"a": 1}}));
        assert_eq!((left.rows().len(), found.len()), (1, 1), "what is right stays");
        let huge = json!({"runner": {"inheritEnvironment": ["x".repeat(2 << 20)]}});
        assert!(Overrides::default().patched(&huge).1[0].message.contains("bytes"));
    }

    #[test]
    fn rejects_settings_that_decide_trust_and_programs() {
        let patch = json!({
            "policy": {"allowAdvanced": true, "allowUnenforced": ["/harness"]},
            "redaction": {"allow": [{"pattern": "(?s).+", "target": "line"}]},
            "plugins": {"policy": {"guardrails": {"settings": {"forbiddenEnvironment": []}}}},
            "providers": {
                "codex": {"executable": "/bin/sh", "environment": {"LD_PRELOAD": "/x.so"}, "concurrency": 3},
                "evil": {"plugin": "command", "settings": {"versionArgs": ["-c", "id"]}},
                "empty": {},
            },
            "storage": {"exports": "/etc", "raw": true},
            "http": {"listen": "0.0.0.0:1", "allowRemote": true},
            "sandbox": {"require": false},
            "tokens": {"store": "file"},
        });
        let (left, found) = Overrides::default().patched(&patch);
        let kept: Vec<String> = left.rows().into_keys().collect();
        assert_eq!(kept, ["/providers/codex/concurrency", "/storage/raw"]);
        assert_eq!(found.len(), 14, "{found:#?}");
        let about = |pointer: &str| &found.iter().find(|problem| problem.pointer == pointer).unwrap().message;
        let message = about("/policy/allowAdvanced");
        for part in ["policy.allow_advanced", "config.toml only"] {
            assert!(message.contains(part), "{message}");
        }
        assert!(about("/providers/codex/environment/LD_PRELOAD").contains("which programs"), "{found:#?}");
        for set in [json!({"policy": 1}), json!({"providers": []}), json!({"providers": {"x": 1}}), json!({"http": {}})]
        {
            assert_eq!(problems(&set).len(), 1, "{set}");
        }
        // A value that an earlier version accepted can be removed.
        let null = json!({"policy": {"allowAdvanced": null}, "providers": {"evil": null}, "redaction": null});
        assert_eq!(problems(&null), []);
    }

    #[test]
    fn removes_one_value() {
        let set = patched(&Overrides::default(), &json!({"log": {"level": "warn", "keepFiles": 3}, "host": {}}));
        let rows = set.rows();
        assert_eq!(rows.keys().collect::<Vec<_>>(), ["/host", "/log/keepFiles", "/log/level"]);
        let less = set.without("/log/level");
        assert_eq!(less.rows().keys().collect::<Vec<_>>(), ["/host", "/log/keepFiles"]);
        assert!(set.without("/log").without("/host").is_empty());
        // A row that contradicts an earlier one is omitted; the other rows stay.
        let odd = Overrides::from_rows([("/a".to_owned(), json!(1)), ("/a/b".to_owned(), json!(2))]);
        assert_eq!(odd.rows().len(), 1);
    }

    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,6}".prop_map(Value::from),
            prop::collection::vec("[a-z~/]{0,3}", 0..3).prop_map(Value::from),
        ];
        let inner = leaf.prop_recursive(3, 24, 4, |inner| {
            prop::collection::btree_map("[a-c~/_.\\PC]{1,2}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect()))
        });
        prop::collection::btree_map("[a-c]", inner, 0..4)
            .prop_map(|members| Value::Object(members.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn rows_and_toml_round_trip(patch in document()) {
            let set = patched(&Overrides::default(), &patch);
            prop_assert_eq!(&Overrides::from_rows(set.rows()), &set);
            let text = set.to_toml().unwrap();
            let read: Value = toml::from_str(&text).unwrap();
            prop_assert_eq!(read, Value::Object(set.0));
        }

        #[test]
        fn removing_a_value_keeps_the_others(first in document(), second in document()) {
            // Under a separate name, so that the patches do not affect each other.
            let before = patched(&Overrides::default(), &first);
            let after = patched(&before, &json!({ "own": second }));
            let undone = patched(&after, &json!({ "own": null }));
            prop_assert_eq!(undone, before);
        }

        #[test]
        fn applying_a_patch_twice_changes_nothing(first in document(), second in document()) {
            let once = patched(&patched(&Overrides::default(), &first), &second);
            prop_assert_eq!(patched(&once, &second), once);
        }
    }
}
