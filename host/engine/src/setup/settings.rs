//! Settings: the active configuration, and its changes at run time.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::redactors::Redactors;
use crate::setup::CurrentConfig;
use crate::setup::decide::decide;
use crate::setup::reload::{Change, Reloader};
use ostler_config::{ConfigError, HIDDEN, Overrides, Paths};
use ostler_protocol::methods::{ReloadTrigger, Settings};
use ostler_protocol::{ApiError, Problem, escape_pointer, pointer_names, secret_like};
use ostler_redaction::RunRedactor;
use ostler_storage::{Durability, Storage};

/// The pointer of the patch in the parameters.
const PATCH: &str = "/patch";

/// Reads and changes the settings.
pub struct SettingsService {
    pub(crate) storage: Storage,
    pub(crate) config: CurrentConfig,
    pub(crate) redactors: Redactors,
    pub(crate) paths: Paths,
    pub(crate) reloader: Arc<Reloader>,
}

impl fmt::Debug for SettingsService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SettingsService").finish_non_exhaustive()
    }
}

impl SettingsService {
    /// The active settings without secrets; with `origins`, also the origin of each value.
    pub fn get(&self, origins: bool) -> Settings {
        let active = self.config.load();
        let mut sections = Value::Object(active.config.shown());
        self.redactors.redact_document(&mut sections);
        let Value::Object(sections) = sections else { return Settings::default() };
        let origins = origins
            .then(|| active.config.shown_values().into_iter().map(|value| (value.pointer, value.origin)).collect());
        Settings { sections, origins }
    }

    /// Sets the values of a patch, which override defaults and file, and resets those that are null. The patch is activated
    /// and stored as a whole, or not at all.
    ///
    /// # Errors
    /// `INVALID_PARAMS` with every problem: unknown settings, wrong types, values out of range, values that a plugin refuses,
    /// secrets, and settings that only the file can set. `IO` if it cannot be stored.
    pub fn update(&self, patch: &Value, origins: bool) -> Result<Settings, ApiError> {
        let mut sources = self.reloader.begin();
        let current = self.config.load();
        let (set, mut problems) = sources.set.patched(patch);
        refuse_secrets(patch, "", None, &self.redactors.for_diagnostics(), &mut problems);
        let (config, unfit) = sources
            .source
            .config_with_fitting(&set)
            .map_err(|errors| ApiError::internal(format!("the active configuration cannot be read again: {errors}")))?;
        // Settings that are no longer valid but not in this patch stay stored.
        let mine = unfit.iter().filter(|error| touches(patch, &error.pointer));
        problems.extend(mine.map(ConfigError::to_problem));
        let mut decision = None;
        if problems.is_empty() {
            let decided = decide(&current, &config, &self.paths, &sources.approved);
            problems.extend(decided.faults.iter().cloned());
            decision = Some(decided);
        }
        let Some(decision) = decision.filter(|_| problems.is_empty()) else {
            problems.sort_by(|left, right| left.pointer.cmp(&right.pointer));
            problems.dedup_by(|left, right| left.pointer == right.pointer);
            for problem in &mut problems {
                problem.pointer.insert_str(0, PATCH);
            }
            return Err(ApiError::invalid(problems));
        };
        self.store_settings(&sources.set, &set)?;
        sources.set = set;
        self.reloader.activate(&current, Change { decision, trigger: ReloadTrigger::Settings, file: None });
        self.reloader.set_inactive_settings(&unfit);
        drop(sources);
        Ok(self.get(origins))
    }

    /// Stores the changes in one transaction.
    fn store_settings(&self, before: &Overrides, after: &Overrides) -> Result<(), ApiError> {
        let (old, new) = (before.rows(), after.rows());
        if old == new {
            return Ok(());
        }
        let now = ostler_test_hooks::clock::now();
        let write = self.storage.write_urgent(Durability::Full, move |tx| {
            for gone in old.keys().filter(|key| !new.contains_key(*key)) {
                tx.delete_setting(gone)?;
            }
            for (key, value) in new.iter().filter(|(key, value)| old.get(*key) != Some(value)) {
                tx.put_setting(key, value, now)?;
            }
            Ok(())
        });
        Ok(write.wait()?)
    }
}

/// Refuses secrets, because settings are stored without redaction.
fn refuse_secrets(
    value: &Value,
    pointer: &str,
    name: Option<&str>,
    redactor: &RunRedactor,
    problems: &mut Vec<Problem>,
) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let pointer = format!("{pointer}/{}", escape_pointer(name));
                refuse_secrets(value, &pointer, Some(name), redactor, problems);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                refuse_secrets(item, &format!("{pointer}/{index}"), name, redactor, problems);
            }
        }
        Value::String(text) if text == HIDDEN => {
            let message = "this is the placeholder of a hidden value; leave it out to keep the value".to_owned();
            problems.push(Problem { pointer: pointer.to_owned(), message });
        }
        Value::String(text) => {
            let why = if name.is_some_and(secret_like) {
                "has the name of a secret"
            } else if redactor.redact(text).count > 0 {
                "holds a secret"
            } else {
                return;
            };
            let message = format!(
                "{why}, and settings are stored as they are: set it in config.toml, which you alone can read, or let the agent CLI take it from its own environment"
            );
            problems.push(Problem { pointer: pointer.to_owned(), message });
        }
        _ => {}
    }
}

/// Whether a patch sets something at, above or below a pointer.
fn touches(patch: &Value, pointer: &str) -> bool {
    let mut at = patch;
    for name in pointer_names(pointer) {
        match at {
            Value::Object(members) => match members.get(&name) {
                Some(inner) => at = inner,
                None => return false,
            },
            _ => break,
        }
    }
    !at.is_null()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::json;

    use super::*;
    use crate::test_support::{Fixture, SECRET, Services};
    use ostler_protocol::ErrorKind;

    fn settings(fixture: &Fixture) -> SettingsService {
        SettingsService {
            storage: fixture.storage.clone(),
            config: fixture.config.clone(),
            redactors: fixture.redactors.clone(),
            paths: fixture.paths(),
            reloader: Arc::new(Services::new(fixture).reloader(fixture)),
        }
    }

    #[test]
    fn patch_is_active_and_stored_and_null_resets_it() {
        let fixture = Fixture::new();
        let settings = settings(&fixture);
        let default = settings.get(false).sections["scheduler"]["global"].clone();
        let changed = settings.update(&json!({"scheduler": {"global": 9}}), true).unwrap();
        assert_eq!(changed.sections["scheduler"]["global"], 9);
        assert!(changed.origins.is_some());
        assert_eq!(fixture.config.load().config.scheduler.global, 9);
        let stored = || fixture.storage.read(ostler_storage::Reader::settings).unwrap();
        assert_eq!(stored().len(), 1);
        let reset = settings.update(&json!({"scheduler": {"global": null}}), false).unwrap();
        assert_eq!(reset.sections["scheduler"]["global"], default);
        assert!(stored().is_empty());
    }

    #[test]
    fn patch_with_problems_changes_nothing_and_names_all_of_them() {
        let fixture = Fixture::new();
        let settings = settings(&fixture);
        let before = settings.get(false).sections;
        let patch = json!({"scheduler": {"global": -1, "unheardOf": 1}, "log": {"level": SECRET}});
        let error = settings.update(&patch, false).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidParams);
        let pointers: Vec<&str> = error.problems.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(pointers, ["/patch/log/level", "/patch/scheduler/global", "/patch/scheduler/unheardOf"]);
        assert_eq!(settings.get(false).sections, before);
    }

    #[test]
    fn patch_touches_values_at_above_and_below_a_pointer() {
        let patch =
            json!({"redaction": {"rules": [{"id": "x"}]}, "scheduler": {"global": 1, "capacity": null}, "a/b": 1});
        for pointer in ["/redaction/rules/0/pattern", "/redaction", "/scheduler/global", "", "/a~1b"] {
            assert!(touches(&patch, pointer), "{pointer}");
        }
        for pointer in ["/scheduler/capacity", "/scheduler/perProvider", "/log/level", "/log"] {
            assert!(!touches(&patch, pointer), "{pointer}");
        }
    }
}
