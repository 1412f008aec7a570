//! Profiles: named defaults for the start payload, and how they are merged into one.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::attempt::environment::known_secrets;
use crate::record::now;
use crate::redactors::Redactors;
use crate::setup::CurrentConfig;
use crate::submit::pointers::{differences, leaves, sets};
use ostler_protocol::methods::{ListProfilesParams, ProfileParams, SaveProfileParams};
use ostler_protocol::strip_nulls;
use ostler_protocol::{ApiError, ErrorKind, Nulls, Problem, Profile, ProfileId, StartPayload, lies_in, merge};
use ostler_redaction::{Masks, RunRedactor};
use ostler_schema::validate_document;
use ostler_storage::{Durability, Storage, StorageErrorKind};

/// Maximum number of characters of a name.
const MAX_NAME: usize = 64;

/// Maximum size of a profile's configuration as JSON, in bytes.
const MAX_CONFIG: usize = 256 << 10;

/// A profile that has been merged into a payload.
#[derive(Clone, Debug)]
pub(crate) struct Applied {
    pub(crate) name: String,
    /// Pointers of the values that come from the profile.
    given: Vec<String>,
}

/// The stored profiles.
#[derive(Clone, Debug)]
pub struct Profiles {
    storage: Storage,
    config: CurrentConfig,
    redactors: Redactors,
}

impl Profiles {
    pub(crate) const fn new(storage: Storage, config: CurrentConfig, redactors: Redactors) -> Self {
        Self { storage, config, redactors }
    }

    /// Merges the profile that a payload names: values of the payload override it. A payload without a provider gets that of
    /// the profile.
    ///
    /// # Errors
    /// `NOT_FOUND` for an unknown profile, `INVALID_PARAMS` for a profile of another provider.
    pub(crate) fn apply(&self, payload: &mut Value) -> Result<Option<Applied>, ApiError> {
        let Some(wanted) = payload.get("profileId").and_then(Value::as_str) else { return Ok(None) };
        let profile = self.find(wanted)?;
        if let Some(provider) = payload.get("provider").and_then(Value::as_str)
            && provider != profile.provider
        {
            let message = format!("the profile {:?} is for provider {}", profile.name, profile.provider);
            return Err(ApiError::invalid(vec![Problem { pointer: "/profileId".to_owned(), message }]));
        }
        let given = leaves(&profile.config).into_iter().filter(|pointer| !sets(payload, pointer)).collect();
        let mut base = profile.config;
        if let Value::Object(members) = &mut base {
            members.insert("provider".to_owned(), profile.provider.into());
        }
        merge(&mut base, payload.take(), Nulls::Missing);
        *payload = base;
        Ok(Some(Applied { name: profile.name, given }))
    }

    fn find(&self, wanted: &str) -> Result<Profile, ApiError> {
        self.storage.read(|reader| reader.profile(wanted))?.ok_or_else(|| unknown(wanted))
    }

    /// The profiles, by name.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn list(&self, params: &ListProfilesParams) -> Result<Vec<Profile>, ApiError> {
        let mut profiles = self.storage.read(ostler_storage::Reader::profiles)?;
        profiles.retain(|profile| params.provider.as_ref().is_none_or(|provider| profile.provider == *provider));
        Ok(profiles)
    }

    /// Creates a profile, or changes the one with this id.
    ///
    /// # Errors
    /// `INVALID_PARAMS` with every problem, secrets included: a profile is stored without redaction and is not sealed.
    /// `NOT_FOUND` for an unknown id or provider, `CONFLICT` if another profile has the name.
    pub fn save(&self, params: &SaveProfileParams) -> Result<Profile, ApiError> {
        let SaveProfileParams { id, name, provider, config } = params;
        let mut config = Value::Object(config.clone());
        strip_nulls(&mut config);
        let mut problems = Vec::new();
        self.check_name(name, &mut problems);
        let config = self.check_config(provider, config, &mut problems);
        if !problems.is_empty() {
            let secret = problems.iter().any(|problem| problem.message == SECRET);
            let error = ApiError::invalid(problems);
            return Err(if secret { error.hint(SECRET_HINT) } else { error });
        }
        self.config.load().provider(provider)?;
        let now = now();
        let known = id.map(|id| self.find(&id.to_string()).map_err(|error| error.at("/id"))).transpose()?;
        let profile = Profile {
            profile_id: known.as_ref().map_or_else(ProfileId::generate, |known| known.profile_id),
            name: name.clone(),
            provider: provider.clone(),
            config,
            created_at: known.map_or(now, |known| known.created_at),
            updated_at: now,
        };
        let kept = profile.clone();
        match self.storage.write_urgent(Durability::Full, move |tx| tx.put_profile(&kept)).wait() {
            Ok(()) => Ok(profile),
            Err(error) if error.kind() == StorageErrorKind::Exists => {
                let message = format!("there is another profile with the name {:?}", profile.name);
                Err(ApiError::new(ErrorKind::Conflict, message).at("/name").hint("give its `id` to change it"))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes a profile. Runs that were started with it keep what it gave them.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub fn delete(&self, params: &ProfileParams) -> Result<Profile, ApiError> {
        let profile = self.find(&params.profile_id)?;
        let id = profile.profile_id;
        let deleted = self.storage.write_urgent(Durability::Full, move |tx| tx.delete_profile(id)).wait()?;
        if deleted { Ok(profile) } else { Err(unknown(&params.profile_id)) }
    }

    fn check_name(&self, name: &str, problems: &mut Vec<Problem>) {
        let wrong = if name.trim().is_empty() || name.trim() != name {
            "must not be blank, nor begin or end with a space".to_owned()
        } else if name.chars().any(char::is_control) {
            "must be one line without control characters".to_owned()
        } else if name.chars().count() > MAX_NAME {
            format!("must have at most {MAX_NAME} characters")
        } else if name.parse::<ProfileId>().is_ok() {
            "looks like an id; a name must be different from one".to_owned()
        } else if self.redactors.for_data().redact(name).text != name {
            SECRET.to_owned()
        } else {
            return;
        };
        problems.push(Problem { pointer: "/name".to_owned(), message: wrong });
    }

    /// Checks the configuration as a part of a start payload, and returns the form that is stored.
    fn check_config(&self, provider: &str, config: Value, problems: &mut Vec<Problem>) -> Value {
        let mut problem = |pointer: &str, message: String| {
            problems.push(Problem { pointer: format!("/config{pointer}"), message });
        };
        let size = config.to_string().len();
        if size > MAX_CONFIG {
            problem("", format!("is too large: {size} bytes as JSON, and at most {MAX_CONFIG} are kept"));
            return config;
        }
        for (name, message) in
            [("provider", "stands beside `config`, not in it"), ("profileId", "a profile cannot name another")]
        {
            if config.get(name).is_some() {
                problem(&format!("/{name}"), message.to_owned());
            }
        }
        // With the required fields of a payload, the rest is validated as a payload.
        let mut whole = Value::Object(Map::from_iter([
            ("provider".to_owned(), "provider".into()),
            ("prompt".to_owned(), "prompt".into()),
        ]));
        merge(&mut whole, config.clone(), Nulls::Missing);
        if let Value::Object(members) = &mut whole {
            members.insert("provider".to_owned(), provider.into());
            members.shift_remove("profileId");
        }
        let parsed = validate_document::<StartPayload>(whole);
        for pointer in self.secrets_of(&config, parsed.as_ref().ok()) {
            problem(&pointer, SECRET.to_owned());
        }
        if let Err(error) = parsed {
            for wrong in error.problems.into_iter().filter(|wrong| wrong.pointer != "/provider") {
                problem(&wrong.pointer, wrong.message);
            }
        }
        config
    }

    /// Pointers of secrets in a configuration: values that redaction changes and, if it can be read, values of variables
    /// and headers whose names indicate secrets.
    fn secrets_of(&self, config: &Value, payload: Option<&StartPayload>) -> Vec<String> {
        let known = payload.map(|payload| known_secrets(&BTreeMap::new(), payload)).unwrap_or_default();
        let masks = Arc::new(Masks::new(known));
        let redactor = RunRedactor::new(Arc::clone(&self.config.load().redactor), masks, self.redactors.faults(None));
        let mut shown = config.clone();
        redactor.redact_json(&mut shown);
        differences(config, &shown)
    }
}

fn unknown(wanted: &str) -> ApiError {
    let shown: String = wanted.chars().take(MAX_NAME).collect();
    ApiError::not_found("profile", format_args!("{shown:?}"))
        .at("/profileId")
        .hint("`list_profiles` lists the profiles")
}

const SECRET: &str = "holds a secret, and profiles are not sealed";
const SECRET_HINT: &str = "remove it: store the key of a provider with `save_provider_token` or in the environment of the caller, and put any \
     other secret into the payload of each run";

impl Applied {
    /// Names the profile in errors about its values, which are not in the request.
    fn explain(&self, mut error: ApiError) -> ApiError {
        let blamed = error.problems.iter().map(|problem| problem.pointer.as_str()).chain(error.pointer.as_deref());
        let from_here = |pointer: &str| {
            !pointer.is_empty() && self.given.iter().any(|given| lies_in(pointer, given) || lies_in(given, pointer))
        };
        let mut found: Vec<&str> = blamed.filter(|pointer| from_here(pointer)).collect();
        found.dedup();
        if let [first, ..] = found.as_slice() {
            let origin = format!("{first} comes from the profile {:?}", self.name);
            error.hint = Some(error.hint.map_or(origin.clone(), |hint| format!("{hint}; {origin}")));
        }
        error
    }
}

/// The same error, which names the values that come from a profile.
pub(crate) fn explained(profile: Option<&Applied>, error: ApiError) -> ApiError {
    match profile {
        Some(profile) => profile.explain(error),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::json;

    use super::*;
    use crate::test_support::{Fixture, SECRET as KEY};

    fn profiles(fixture: &Fixture) -> Profiles {
        Profiles::new(fixture.storage.clone(), fixture.config.clone(), fixture.redactors.clone())
    }

    fn save(profiles: &Profiles, id: Option<ProfileId>, name: &str, config: Value) -> Result<Profile, ApiError> {
        let Value::Object(config) = config else { panic!("{config}") };
        let (name, provider) = (name.to_owned(), "codex".to_owned());
        profiles.save(&SaveProfileParams { id, name, provider, config })
    }

    #[test]
    fn payload_overrides_the_profile_that_it_names() {
        let fixture = Fixture::new();
        let profiles = profiles(&fixture);
        save(&profiles, None, "fast", json!({"model": "small", "cwd": "/a"})).unwrap();
        let mut payload = json!({"profileId": "fast", "prompt": "do it", "cwd": "/b"});
        let applied = profiles.apply(&mut payload).unwrap().unwrap();
        assert_eq!((applied.name.as_str(), applied.given), ("fast", vec!["/model".to_owned()]));
        assert_eq!(
            payload,
            json!({"provider": "codex", "model": "small", "cwd": "/b", "profileId": "fast", "prompt": "do it"})
        );
        let mut other = json!({"profileId": "fast", "provider": "claude"});
        assert_eq!(profiles.apply(&mut other).unwrap_err().problems[0].pointer, "/profileId");
    }

    #[test]
    fn secrets_are_refused_with_their_pointers_and_nothing_is_stored() {
        let fixture = Fixture::new();
        let profiles = profiles(&fixture);
        let config = json!({"prompt": format!("use {KEY}"), "harness": {"processEnv": {"API_TOKEN": "q8Zr51vLw0xN"}}});
        let error = save(&profiles, None, &format!("with {KEY}"), config).unwrap_err();
        let mut pointers: Vec<_> = error.problems.iter().map(|problem| problem.pointer.as_str()).collect();
        pointers.sort_unstable();
        assert_eq!(pointers, ["/config/harness/processEnv/API_TOKEN", "/config/prompt", "/name"]);
        assert!(error.problems.iter().all(|problem| problem.message == SECRET), "{error:?}");
        assert_eq!(error.hint.as_deref(), Some(SECRET_HINT));
        assert_eq!(profiles.list(&ListProfilesParams::default()).unwrap(), []);
    }

    #[test]
    fn name_of_another_profile_is_a_conflict_and_its_own_name_is_not() {
        let fixture = Fixture::new();
        let profiles = profiles(&fixture);
        let first = save(&profiles, None, "fast", json!({"model": "a"})).unwrap();
        let error = save(&profiles, None, "fast", json!({"model": "b"})).unwrap_err();
        assert_eq!((error.kind, error.pointer.as_deref()), (ErrorKind::Conflict, Some("/name")));
        let changed = save(&profiles, Some(first.profile_id), "fast", json!({"model": "c"})).unwrap();
        assert_eq!((changed.profile_id, changed.created_at), (first.profile_id, first.created_at));
        assert_eq!(profiles.list(&ListProfilesParams::default()).unwrap(), [changed]);
    }

    #[test]
    fn configuration_that_no_payload_could_have_is_refused() {
        let fixture = Fixture::new();
        let profiles = profiles(&fixture);
        for (config, pointer) in [
            (json!({"provider": "codex"}), "/config/provider"),
            (json!({"profileId": "other"}), "/config/profileId"),
            (json!({"timeoutSeconds": "soon"}), "/config/timeoutSeconds"),
            (json!({"prompt": "x".repeat(MAX_CONFIG)}), "/config"),
        ] {
            let error = save(&profiles, None, "fast", config).unwrap_err();
            let pointers: Vec<_> = error.problems.iter().map(|problem| problem.pointer.as_str()).collect();
            assert_eq!(pointers, [pointer]);
        }
    }

    #[test]
    fn deleted_profile_is_not_found() {
        let fixture = Fixture::new();
        let profiles = profiles(&fixture);
        let saved = save(&profiles, None, "fast", json!({})).unwrap();
        let params = ProfileParams { profile_id: "fast".to_owned() };
        assert_eq!(profiles.delete(&params).unwrap(), saved);
        assert_eq!(profiles.delete(&params).unwrap_err().kind, ErrorKind::NotFound);
    }

    #[test]
    fn error_about_a_value_of_the_profile_names_it() {
        let applied = Applied {
            name: "fast".to_owned(),
            given: vec!["/harness/mcp/servers".to_owned(), "/cwd".to_owned(), "/harness/limits/maxTurns".to_owned()],
        };
        let hint = |pointer: &str| {
            let problem = Problem { pointer: pointer.to_owned(), message: "is wrong".to_owned() };
            applied.explain(ApiError::invalid(vec![problem])).hint
        };
        for pointer in ["/cwd", "/harness/mcp/servers/0/command", "/harness/limits"] {
            assert!(hint(pointer).is_some_and(|hint| hint.contains("profile \"fast\"")), "{pointer}");
        }
        for pointer in ["/prompt", "/harness/mcpx", ""] {
            assert_eq!(hint(pointer), None, "{pointer}");
        }
    }
}
