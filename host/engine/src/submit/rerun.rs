//! Runs a run again: starts a new run with its stored payload and the overrides of the caller.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::submit::pointers::{remove, replaceable, sets};
use crate::submit::profile::explained;
use crate::submit::request;
use crate::submit::{SubmitRequest, Submitter};
use ostler_protocol::methods::StartRunResult;
use ostler_protocol::{
    ApiError, ConversationId, ErrorKind, Nulls, Problem, RunId, RunMode, StartPayload, escape_pointer, merge,
};
use ostler_schema::unknown_nulls;

/// The member of the parameters that holds the changes.
const OVERRIDES: &str = "overrides";

impl Submitter {
    /// Starts a run with the effective payload of another, overrides merged over it. A run of a conversation becomes its
    /// next message.
    ///
    /// # Errors
    /// As for [`Self::start_run`]; `NOT_FOUND` for the run, and `CONFLICT` with the pointers that the overrides must
    /// supply because the sealed values no longer exist.
    pub fn rerun(&self, mut params: Value, origin: &str) -> Result<StartRunResult, ApiError> {
        let mut caller = request::take_variables(&mut params)?;
        let mut problems = Vec::new();
        let run = request::take_id::<RunId>(&mut params, "runId").map_err(|problem| problems.push(problem)).ok();
        let overrides = request::take(&mut params, OVERRIDES).unwrap_or_else(|| Value::Object(Map::new()));
        if !overrides.is_object() {
            let message = "must be an object: a part of a start payload".to_owned();
            problems.push(Problem { pointer: format!("/{OVERRIDES}"), message });
        }
        let others = params.as_object().into_iter().flat_map(Map::keys);
        problems.extend(others.map(|name| Problem {
            pointer: format!("/{}", escape_pointer(name)),
            message: format!("unknown field; put changes into `{OVERRIDES}`"),
        }));
        problems.extend(
            unknown_nulls::<StartPayload>(&overrides)?.into_iter().map(|problem| Problem {
                pointer: format!("/{OVERRIDES}{}", problem.pointer),
                message: problem.message,
            }),
        );
        let (Some(run), true) = (run, problems.is_empty()) else { return Err(ApiError::invalid(problems)) };

        let source = self.source(run)?;
        if caller.is_none() {
            caller = source.caller;
        }
        let mut payload = source.payload;
        // The runs for which it waited have ended.
        remove(&mut payload, "/startAfter");
        replace_lost(run, &mut payload, &source.lost, &overrides)?;
        let profile = overrides.get("profileId").cloned();
        merge(&mut payload, overrides.clone(), Nulls::Clear);
        // The stored payload contains its profile already: only a profile in the overrides is merged now.
        let profile = match profile {
            Some(Value::String(_)) => self.profiles.apply(&mut payload)?,
            _ => None,
        };
        let named = |error| at_overrides(explained(profile.as_ref(), error), &overrides);
        let payload = request::validate(payload).map_err(named)?;
        let conversation = source.conversation.map(|id| self.conversations.find(id)).transpose()?;
        let request = SubmitRequest { payload, profile: profile.clone(), caller, conversation };
        self.submit(request, origin).map_err(|error| at_overrides(error, &overrides))
    }

    /// Starts a session that resumes the provider's session of an ended run, with that run's payload. `prompt` may be empty:
    /// then the session waits for input.
    ///
    /// # Errors
    /// As for [`Self::rerun`].
    pub(crate) fn resume_session(
        &self,
        run: RunId,
        session: &str,
        prompt: &str,
        environment: Option<BTreeMap<String, String>>,
        origin: &str,
    ) -> Result<StartRunResult, ApiError> {
        let source = self.source(run)?;
        let mut payload = source.payload;
        remove(&mut payload, "/startAfter");
        remove(&mut payload, "/scheduledAt");
        remove(&mut payload, "/maxRetries");
        remove(&mut payload, "/harness/continueSession");
        let overrides = json!({
            "mode": RunMode::Interactive,
            "prompt": prompt,
            "harness": {"resumeSessionId": session},
        });
        replace_lost(run, &mut payload, &source.lost, &overrides)?;
        merge(&mut payload, overrides, Nulls::Clear);
        let payload = request::validate(payload)?;
        let caller = environment.or(source.caller);
        self.submit(SubmitRequest { payload, profile: None, caller, conversation: None }, origin)
    }

    /// The stored request of a run.
    fn source(&self, run: RunId) -> Result<Source, ApiError> {
        let (record, seal) = self.storage.read(|reader| Ok((reader.run(run)?, reader.seal(run)?)))?;
        let record =
            record.ok_or_else(|| ApiError::not_found("run", run).at("/runId").hint("`list_runs` lists the runs"))?;
        let conversation = record.summary.conversation_id;
        let Some(seal) = seal else {
            return Ok(Source { payload: record.payload, lost: record.sealed_pointers, caller: None, conversation });
        };
        let sealed = self.sealer.unseal(run, &seal).map_err(|error| ApiError::internal(error.to_string()))?;
        Ok(Source { payload: sealed.payload, lost: Vec::new(), caller: sealed.client_environment, conversation })
    }
}

/// The request of a run, as far as it is stored.
struct Source {
    payload: Value,
    /// Pointers of redacted values whose originals no longer exist.
    lost: Vec<String>,
    caller: Option<BTreeMap<String, String>>,
    conversation: Option<ConversationId>,
}

/// Removes the redacted values whose originals no longer exist. The overrides must supply or clear all of them.
fn replace_lost(run: RunId, payload: &mut Value, lost: &[String], overrides: &Value) -> Result<(), ApiError> {
    let fields: BTreeSet<&str> = lost.iter().map(|pointer| replaceable(payload, pointer)).collect();
    let missing: Vec<&str> = fields.iter().copied().filter(|pointer| !sets(overrides, pointer)).collect();
    if missing.is_empty() {
        fields.into_iter().for_each(|pointer| remove(payload, pointer));
        return Ok(());
    }
    let message = match missing.as_slice() {
        ["/prompt"] => "the prompt contained secrets, which are not kept; pass the prompt again".to_owned(),
        _ => format!("run {run} contained secrets, which are not kept; pass these fields again"),
    };
    let mut error = ApiError::new(ErrorKind::Conflict, message).hint("to rerun without one of these fields, clear it");
    error.problems = missing
        .iter()
        .map(|pointer| Problem {
            pointer: format!("/{OVERRIDES}{pointer}"),
            message: "contained a secret: pass it again".to_owned(),
        })
        .collect();
    error.pointer = error.problems.first().map(|problem| problem.pointer.clone());
    Err(error)
}

/// Points at the overrides in the errors that they have caused.
fn at_overrides(mut error: ApiError, overrides: &Value) -> ApiError {
    let lead = |pointer: &mut String| {
        if pointer.len() > 1 && sets(overrides, pointer) {
            pointer.insert_str(0, &format!("/{OVERRIDES}"));
        }
    };
    error.problems.iter_mut().for_each(|problem| lead(&mut problem.pointer));
    if error.kind == ErrorKind::InvalidParams && !error.problems.is_empty() {
        return ApiError { hint: error.hint, ..ApiError::invalid(error.problems) };
    }
    if let Some(pointer) = &mut error.pointer {
        lead(pointer);
    }
    error
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::json;

    use super::*;

    #[test]
    fn lost_values_must_be_supplied_or_cleared() {
        let payload = json!({
            "prompt": "[REDACTED:x]",
            "harness": {"mcp": {"servers": [{"name": "a", "env": {"T": "[REDACTED:x]", "U": "[REDACTED:x]"}}]}}
        });
        let lost: Vec<String> =
            ["/prompt", "/harness/mcp/servers/0/env/T", "/harness/mcp/servers/0/env/U"].map(str::to_owned).to_vec();
        let missing = |overrides: Value| match replace_lost(RunId::generate(), &mut payload.clone(), &lost, &overrides)
        {
            Ok(()) => Vec::new(),
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::Conflict);
                error.problems.into_iter().map(|problem| problem.pointer).collect()
            }
        };
        assert_eq!(missing(json!({})), ["/overrides/harness/mcp/servers", "/overrides/prompt"]);
        assert_eq!(missing(json!({"prompt": "p"})), ["/overrides/harness/mcp/servers"]);
        assert_eq!(missing(json!({"prompt": "p", "harness": {"mcp": {}}})), ["/overrides/harness/mcp/servers"]);
        for supplied in [json!({"mcp": {"servers": []}}), json!({"mcp": null}), Value::Null] {
            assert!(missing(json!({"prompt": "p", "harness": supplied})).is_empty());
        }
    }

    #[test]
    fn redacted_values_do_not_remain() {
        let mut payload = json!({"model": "m", "harness": {"processEnv": {"[REDACTED:x]": "1", "A": "2"}}});
        let overrides = json!({"harness": {"processEnv": {"B": "3"}}});
        replace_lost(RunId::generate(), &mut payload, &["/harness/processEnv".to_owned()], &overrides).unwrap();
        merge(&mut payload, overrides, Nulls::Clear);
        assert_eq!(payload, json!({"model": "m", "harness": {"processEnv": {"B": "3"}}}));
    }

    #[test]
    fn only_problems_of_overridden_fields_point_at_the_overrides() {
        let problem = |pointer: &str| Problem { pointer: pointer.to_owned(), message: "is wrong".to_owned() };
        let error =
            ApiError::invalid(vec![problem("/timeoutSeconds"), problem("/harness/limits/maxTurns"), problem("")]);
        let error = at_overrides(error, &json!({"timeoutSeconds": 1, "harness": {"tools": []}}));
        let pointers: Vec<&str> = error.problems.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(pointers, ["/overrides/timeoutSeconds", "/harness/limits/maxTurns", ""]);
        assert_eq!(error.pointer.as_deref(), Some("/overrides/timeoutSeconds"));
    }
}
