//! The redactors of the host: for data that belongs to no run, for messages to people, and for its log.
//!
//! All of them use the rules that are active now and mask every provider token that the host has seen.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::record;
use crate::setup::CurrentConfig;
use crate::tokens::SeenTokens;
use ostler_protocol::{ApiError, Payload, RunId, WarningCode};
use ostler_redaction::{Fault, FaultSink, IgnoreFaults, RunRedactor, Unscanned};
use ostler_storage::{Durability, Storage};

/// Makes redactors from the active configuration.
#[derive(Clone)]
pub struct Redactors {
    config: CurrentConfig,
    storage: Storage,
    tokens: Arc<SeenTokens>,
}

impl fmt::Debug for Redactors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactors").finish_non_exhaustive()
    }
}

impl Redactors {
    pub(crate) const fn new(config: CurrentConfig, storage: Storage, tokens: Arc<SeenTokens>) -> Self {
        Self { config, storage, tokens }
    }

    /// The same error without secrets.
    pub fn redact_error(&self, error: &ApiError) -> ApiError {
        clean_error(&self.for_diagnostics(), error)
    }

    /// Redacts all texts of a document.
    pub fn redact_document(&self, document: &mut serde_json::Value) {
        self.for_diagnostics().redact_json(document);
    }

    /// For data that belongs to no run.
    pub(crate) fn for_data(&self) -> RunRedactor {
        RunRedactor::new(Arc::clone(&self.config.load().redactor), self.tokens.masks(), self.faults(None))
    }

    /// For the host's messages to people: problems, reasons, errors. They stay readable if a redactor plugin fails, because
    /// they report that.
    pub(crate) fn for_diagnostics(&self) -> RunRedactor {
        let redactor = Arc::clone(&self.config.load().redactor);
        RunRedactor::with(redactor, self.tokens.masks(), self.faults(None), Unscanned::ByRules)
    }

    /// For the host's own log.
    pub(crate) fn for_log(&self) -> RunRedactor {
        // To log a fault of this redactor would redact again and recurse. The redactors of runs report the same faults.
        let redactor = Arc::clone(&self.config.load().redactor);
        RunRedactor::with(redactor, self.tokens.masks(), Arc::new(IgnoreFaults), Unscanned::ByRules)
    }

    /// Reports faults of redactor plugins: in the log, and as a warning of `run`.
    pub(crate) fn faults(&self, run: Option<RunId>) -> Arc<dyn FaultSink> {
        Arc::new(Faults { storage: self.storage.clone(), run, reported: AtomicBool::new(false) })
    }
}

/// The same error without secrets, in all its texts.
pub(crate) fn clean_error(redactor: &RunRedactor, error: &ApiError) -> ApiError {
    let mut document = record::to_value(error);
    redactor.for_own_words().redact_json(&mut document);
    serde_json::from_value(document).unwrap_or_else(|_| ApiError::new(error.kind, "the error's text was withheld"))
}

/// Reports faults of redactor plugins in the log, and once in the run.
struct Faults {
    storage: Storage,
    run: Option<RunId>,
    /// Whether the run has its warning.
    reported: AtomicBool,
}

impl FaultSink for Faults {
    fn fault(&self, plugin: &str, fault: &Fault) {
        if should_log(plugin) {
            tracing::error!(plugin, %fault, "a redactor plugin failed; the text that it did not check is withheld");
        }
        let Some(run) = self.run.filter(|_| !self.reported.swap(true, Ordering::Relaxed)) else { return };
        // The message of the fault comes from the plugin and is omitted: the redactor that has just failed cannot redact it.
        let message = format!(
            "the redactor plugin {plugin} failed; the text that it did not check is withheld (`list_plugins` has the reason)"
        );
        let warning = record::warning(WarningCode::PluginFailed, message, serde_json::json!({"plugin": plugin}));
        let event = record::event_of_run(run, &Payload::Warning(warning));
        drop(self.storage.write_urgent(Durability::Batched, move |tx| tx.append_event(&event)));
    }
}

/// Whether to log a fault of this plugin: at most once a minute, because a plugin that fails does so for each text.
fn should_log(plugin: &str) -> bool {
    const QUIET: Duration = Duration::from_secs(60);
    static LAST_LOGGED: Mutex<BTreeMap<String, Instant>> = Mutex::new(BTreeMap::new());
    let mut last_logged = LAST_LOGGED.lock().unwrap_or_else(PoisonError::into_inner);
    let due = last_logged.get(plugin).is_none_or(|last| last.elapsed() > QUIET);
    if due {
        last_logged.insert(plugin.to_owned(), Instant::now());
    }
    due
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::sync::Arc;

    use super::*;
    use crate::test_support::{Fixture, SECRET};
    use ostler_protocol::ErrorKind;
    use ostler_redaction::Redactor;

    #[test]
    fn error_loses_its_secrets_and_keeps_the_rest() {
        let fixture = Fixture::new();
        let error = ApiError::new(ErrorKind::Conflict, format!("not {SECRET}")).hint(format!("use {SECRET}")).at("/a");
        let clean = fixture.redactors.redact_error(&error);
        assert_eq!(clean.message, "not [REDACTED:test-key]");
        assert_eq!(clean.hint.as_deref(), Some("use [REDACTED:test-key]"));
        assert_eq!((clean.kind, clean.pointer.as_deref()), (ErrorKind::Conflict, Some("/a")));
    }

    #[test]
    fn without_rules_data_is_withheld_and_errors_stay_readable() {
        let fixture = Fixture::new();
        fixture.change_config(|config| config.redactor = Arc::new(Redactor::withholding()));
        assert!(!fixture.redactors.for_data().redact("words").text.contains("words"));
        let error = fixture.redactors.redact_error(&ApiError::new(ErrorKind::Io, "the disk is full"));
        assert_eq!(error.message, "the disk is full");
    }

    #[test]
    fn fault_of_a_plugin_is_reported_once_for_each_run_and_without_its_words() {
        let fixture = Fixture::new();
        let run = fixture.insert_run("codex");
        let faults = fixture.redactors.faults(Some(run));
        for _ in 0..2 {
            faults.fault("secrets", &Fault::new(format!("failed at {SECRET}")));
        }
        let events = fixture.events_of(run);
        let warnings: Vec<_> = events.iter().filter(|event| event.payload["code"] == "PLUGIN_FAILED").collect();
        assert_eq!(warnings.len(), 1, "{events:?}");
        assert!(!warnings[0].payload.to_string().contains(SECRET));
    }
}
