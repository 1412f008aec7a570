//! The environment of a child: built from an allowlist, never the whole of anyone's.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Problem, StartPayload, secret_like};
use crate::redaction::KnownSecret;

/// Where variables come from, weakest first.
#[derive(Debug)]
pub(crate) struct Sources<'a> {
    /// The host's own environment.
    pub(crate) host: &'a BTreeMap<String, String>,
    /// What the caller sent; where it is there, it alone answers for `PATH` and for the plugin's names.
    pub(crate) caller: Option<&'a BTreeMap<String, String>>,
    /// Names of the base variables, which every child gets.
    pub(crate) base: &'a [String],
    /// Names that the provider plugin lists; a `*` at the end stands for anything.
    pub(crate) inherit: &'a [String],
    /// The provider instance's own variables.
    pub(crate) configured: &'a BTreeMap<String, String>,
    /// The stored token, and the variable that carries it.
    pub(crate) token: Option<(&'a str, &'a str)>,
    /// `harness.processEnv`.
    pub(crate) payload: &'a BTreeMap<String, String>,
}

impl Sources<'_> {
    /// What the child inherits, before the plugin's launch adds to it.
    pub(crate) fn inherited(&self) -> BTreeMap<String, String> {
        let mut variables: BTreeMap<String, String> = self
            .host
            .iter()
            .filter(|(name, _)| self.base.iter().any(|pattern| matches_name(pattern, name)))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let named = |name: &str| name == "PATH" || self.inherit.iter().any(|pattern| matches_name(pattern, name));
        let answering = self.caller.unwrap_or(self.host);
        if self.caller.is_some() {
            variables.retain(|name, _| !named(name));
        }
        variables.extend(
            answering.iter().filter(|(name, _)| named(name)).map(|(name, value)| (name.clone(), value.clone())),
        );
        variables.extend(self.configured.clone());
        variables.extend(self.token.map(|(name, value)| (name.to_owned(), value.to_owned())));
        variables.extend(self.payload.clone());
        variables
    }
}

/// The search path that counts for a request.
pub(crate) fn search_path<'a>(
    host: &'a BTreeMap<String, String>,
    caller: Option<&'a BTreeMap<String, String>>,
    configured: &'a BTreeMap<String, String>,
) -> &'a str {
    configured.get("PATH").or_else(|| caller.unwrap_or(host).get("PATH")).map_or("", String::as_str)
}

/// Whether `name` is what `pattern` says; a `*` at its end stands for anything. Alone it stands for nothing: the whole
/// environment is never passed on.
pub(crate) fn matches_name(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some("") => false,
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}

/// What no process can be given: names that are empty or hold `=` or NUL, and values that hold NUL.
pub(crate) fn unusable(at: &str, variables: &BTreeMap<String, String>) -> Vec<Problem> {
    let wrong = variables.iter().filter_map(|(name, value)| {
        let message = if name.is_empty() || name.contains(['=', '\0']) {
            "is no name of a variable"
        } else if value.contains('\0') {
            "must not contain NUL"
        } else {
            return None;
        };
        let pointer = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
        Some(Problem { pointer, message: message.to_owned() })
    });
    wrong.collect()
}

/// The values that the host knows to be secret for a run: variables of the child, and headers and variables of MCP
/// servers, with names of secrets.
pub(crate) fn known_secrets(variables: &BTreeMap<String, String>, payload: &StartPayload) -> Vec<KnownSecret> {
    let harness = payload.harness.as_ref();
    let servers = harness.and_then(|harness| harness.mcp.as_ref()).map_or(&[][..], |mcp| &mcp.servers);
    let headers = servers.iter().flat_map(|server| server.headers.iter().map(header_secret));
    let named = variables
        .iter()
        .chain(harness.into_iter().flat_map(|harness| &harness.process_env))
        .chain(servers.iter().flat_map(|server| &server.env))
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let mut seen = BTreeSet::new();
    named
        .chain(headers)
        .filter(|(name, value)| secret_like(name) && seen.insert(*value))
        .map(|(name, value)| KnownSecret { name: name.to_owned(), value: value.to_owned() })
        .collect()
}

/// `Authorization: Bearer x` keeps its scheme: only what follows is the secret.
fn header_secret<'a>((name, value): (&'a String, &'a String)) -> (&'a str, &'a str) {
    let secret = match value.split_once(' ') {
        Some((scheme, rest)) if !rest.contains(' ') && scheme.chars().all(|c| c.is_ascii_alphabetic()) => rest,
        _ => value,
    };
    (name, secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_caller_alone_answers_for_path_and_for_the_plugins_names() {
        let host = map(&[("PATH", "/host"), ("HOME", "/home/a"), ("CODEX_HOME", "/old"), ("OTHER", "x")]);
        let caller = map(&[("PATH", "/caller"), ("OPENAI_API_KEY", "k"), ("HOME", "/evil"), ("OTHER", "y")]);
        let (base, inherit) =
            (vec!["HOME".to_owned(), "PATH".to_owned()], vec!["CODEX_*".to_owned(), "OPENAI_API_KEY".to_owned()]);
        let empty = BTreeMap::new();
        let sources = Sources {
            host: &host,
            caller: Some(&caller),
            base: &base,
            inherit: &inherit,
            configured: &empty,
            token: None,
            payload: &empty,
        };
        let expected = map(&[("PATH", "/caller"), ("HOME", "/home/a"), ("OPENAI_API_KEY", "k")]);
        assert_eq!(sources.inherited(), expected);
        let expected = map(&[("PATH", "/host"), ("HOME", "/home/a"), ("CODEX_HOME", "/old")]);
        assert_eq!(Sources { caller: None, ..sources }.inherited(), expected);
    }

    #[test]
    fn pattern_of_a_plugin_never_means_the_whole_environment() {
        assert!(matches_name("A_*", "A_B") && matches_name("A", "A"));
        assert!(!matches_name("*", "A") && !matches_name("", "A") && !matches_name("*_B", "A_B"));
    }

    #[test]
    fn a_stored_token_goes_before_what_is_inherited_and_a_payload_before_it() {
        let host = map(&[("OPENAI_API_KEY", "host"), ("PATH", "/host")]);
        let (base, inherit) = (vec!["PATH".to_owned()], vec!["OPENAI_*".to_owned()]);
        let (configured, payload) = (map(&[("OPENAI_API_KEY", "configured")]), map(&[("OPENAI_API_KEY", "payload")]));
        let empty = BTreeMap::new();
        let sources = Sources {
            host: &host,
            caller: None,
            base: &base,
            inherit: &inherit,
            configured: &configured,
            token: Some(("OPENAI_API_KEY", "token")),
            payload: &empty,
        };
        assert_eq!(sources.inherited()["OPENAI_API_KEY"], "token");
        assert_eq!(Sources { payload: &payload, ..sources }.inherited()["OPENAI_API_KEY"], "payload");
    }

    #[test]
    fn what_no_process_can_be_given_is_named() {
        let found = unusable("/e", &map(&[("A=B", "1"), ("", "2"), ("PATH", "x\0y"), ("a/b", "fine")]));
        let pointers: Vec<&str> = found.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(pointers, ["/e/", "/e/A=B", "/e/PATH"]);
    }

    #[test]
    fn only_the_credential_of_a_header_is_the_secret() {
        let header = ("Authorization".to_owned(), "Bearer abcdef".to_owned());
        assert_eq!(header_secret((&header.0, &header.1)), ("Authorization", "abcdef"));
    }
}
