//! Loads a run from the database when it gets its slot.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::attempt::environment;
use crate::attempt::retry_state::{Base, RetryState};
use crate::seal::Sealer;
use crate::setup::ActiveConfig;
use crate::submit::message;
use crate::tokens::{ProviderTokens, TokenVariable};
use ostler_protocol::{ApiError, ErrorKind, JobRecord, RunId, RunRecord, StartPayload};
use ostler_redaction::KnownSecret;
use ostler_storage::Storage;

/// A run as it is stored when it gets its slot.
pub(crate) struct LoadedRun {
    pub(crate) record: RunRecord,
    pub(crate) job: JobRecord,
    pub(crate) carry: RetryState,
    pub(crate) payload: StartPayload,
    pub(crate) caller: Option<BTreeMap<String, String>>,
    /// The stored token of its provider, or why it cannot be read.
    pub(crate) token: Result<Option<TokenVariable>, ApiError>,
    /// Every token that the host knows. All are masked.
    pub(crate) known_tokens: Vec<KnownSecret>,
    /// What redaction removed from the stored payload. It is masked wherever it occurs.
    pub(crate) removed: Vec<KnownSecret>,
    /// Whether it follows other messages of its conversation whose session is not known.
    pub(crate) lacks_session: bool,
}

impl LoadedRun {
    /// The variable of the token, and its value.
    pub(crate) fn token(&self) -> Option<(&str, &str)> {
        let variable = self.token.as_ref().ok()?.as_ref()?;
        Some((&variable.name, variable.token.reveal()))
    }

    pub(crate) fn run(&self) -> RunId {
        self.record.summary.run_id
    }

    /// The session to resume, unless it has turned out to be invalid.
    pub(crate) fn resume(&self) -> Option<&str> {
        let harness = self.payload.harness.as_ref().filter(|_| !self.carry.without_resume)?;
        harness.resume_session_id.as_deref()
    }

    /// Whether the caller named the session to resume. The host chooses that of a conversation.
    pub(crate) fn names_session(&self) -> bool {
        let harness = self.record.payload.get("harness");
        let field = |name: &str| harness.and_then(|harness| harness.get(name));
        field("resumeSessionId").is_some_and(|session| !session.is_null())
            || field("continueSession") == Some(&true.into())
    }

    /// The payload for the plugin: it does not name a session that is known to be invalid.
    pub(crate) fn effective(&self) -> StartPayload {
        let mut payload = self.payload.clone();
        if let Some(harness) = payload.harness.as_mut().filter(|_| self.carry.without_resume) {
            harness.resume_session_id = None;
            harness.continue_session = None;
        }
        payload
    }

    pub(crate) fn resumes(&self) -> bool {
        let continues = self.payload.harness.as_ref().and_then(|harness| harness.continue_session) == Some(true);
        !self.carry.without_resume && (continues || self.resume().is_some())
    }
}

/// Loads runs that have got a slot.
pub(crate) struct RunLoader {
    pub(crate) storage: Storage,
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) tokens: Arc<ProviderTokens>,
}

impl RunLoader {
    /// A run with its original payload, and with the session of its conversation.
    ///
    /// # Errors
    /// If it cannot be read, or its sealed values no longer exist.
    pub(crate) fn load(&self, run: RunId, active: &ActiveConfig) -> Result<LoadedRun, ApiError> {
        let gone = || ApiError::not_found("run", run);
        let (record, job, carry, seal) = self
            .storage
            .read(|reader| Ok((reader.run(run)?, reader.job(run)?, reader.carry(run)?, reader.seal(run)?)))?;
        let (record, job) = (record.ok_or_else(gone)?, job.ok_or_else(gone)?);
        let mut carry = RetryState::read(carry.as_deref());
        let (document, caller) = match seal {
            Some(seal) => {
                let sealed = self.sealer.unseal(run, &seal).map_err(|error| ApiError::internal(error.to_string()))?;
                (sealed.payload, sealed.client_environment)
            }
            None if record.sealed_pointers.is_empty() => (record.payload.clone(), None),
            None => {
                let message = format!("the sealed values are gone: {}", record.sealed_pointers.join(", "));
                return Err(ApiError::new(ErrorKind::Conflict, message));
            }
        };
        let removed = environment::removed(&document, &record.payload);
        // It was validated when the run was accepted. A resumed session may have an empty prompt, which the schema excludes.
        let mut payload: StartPayload = serde_json::from_value(document)
            .map_err(|error| ApiError::internal(format!("its payload cannot be read: {error}")))?;
        let mut lacks_session = false;
        if let Some(id) = record.summary.conversation_id {
            let (conversation, place) =
                self.storage.read(|reader| Ok((reader.conversation(id)?, reader.position_in_conversation(run)?)))?;
            let first = carry.base.is_none();
            let found = || Base { session: conversation.and_then(|conversation| conversation.session_id) };
            if let Some(session) = &carry.base.get_or_insert_with(found).session {
                message::resume(&mut payload, session);
            }
            lacks_session = first && place > Some(1) && !message::brings_session(&payload);
        }
        self.tokens.load();
        let token = self.tokens.for_run(active, &record.summary.provider);
        let known_tokens = self.tokens.seen().known();
        Ok(LoadedRun { record, job, carry, payload, caller, token, known_tokens, removed, lacks_session })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::json;

    use super::*;
    use crate::seal::Sealed;
    use crate::test_support::{Fixture, Services, insert_run_with};

    #[test]
    fn sealed_payload_is_restored_and_its_values_are_known_secrets() {
        let fixture = Fixture::new();
        let services = Services::new(&fixture);
        let run = insert_run_with(&fixture, "codex", json!({"prompt": "use [REDACTED:test-key]"}));
        let payload = json!({"provider": "codex", "prompt": "use hunter2-original"});
        let caller = BTreeMap::from([("KEY".to_owned(), "value".to_owned())]);
        let contents = Sealed { payload, client_environment: Some(caller.clone()) };
        let seal = services.sealer.seal(run, &contents).unwrap();
        fixture.write(move |tx| tx.put_seal(run, &seal));
        let loaded = services.loader(&fixture).load(run, &fixture.config.load()).unwrap();
        assert_eq!((loaded.payload.prompt.as_str(), loaded.caller.as_ref()), ("use hunter2-original", Some(&caller)));
        assert!(!loaded.removed.is_empty());
    }

    #[test]
    fn run_without_its_sealed_values_is_a_conflict_and_an_unknown_one_is_not_found() {
        let fixture = Fixture::new();
        let loader = Services::new(&fixture).loader(&fixture);
        let mut run = crate::test_support::new_run("codex", &fixture.folder());
        run.sealed_pointers = vec!["/prompt".to_owned()];
        let run = fixture.insert(run);
        let kind = |run| loader.load(run, &fixture.config.load()).err().map(|error| error.kind);
        assert_eq!(kind(run), Some(ErrorKind::Conflict));
        assert_eq!(kind(RunId::generate()), Some(ErrorKind::NotFound));
    }
}
