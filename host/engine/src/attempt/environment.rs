//! The environment of a child. It is built from an allowlist and never copied as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;

use serde_json::Value;

use ostler_protocol::{Problem, StartPayload, is_of_caller, matches_name, secret_like, words};
use ostler_redaction::{KnownSecret, PLACEHOLDER};

/// Maximum number of redacted pieces of a payload that are masked in the output of its run.
const MAX_REMOVED: usize = 256;

/// The sources of variables, lowest precedence first.
#[derive(Debug)]
pub(crate) struct Sources<'a> {
    /// The host's own environment.
    pub(crate) host: &'a BTreeMap<String, String>,
    /// What the caller sent. If present, it is the only source of `PATH`, of the plugin's names, and of the base variables
    /// that describe the caller.
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
    /// The variables of the child before the plugin's launch adds to them.
    pub(crate) fn inherited(&self) -> BTreeMap<String, String> {
        let base = |name: &str| self.base.iter().any(|pattern| matches_name(pattern, name));
        let mut variables: BTreeMap<String, String> = self
            .host
            .iter()
            .filter(|(name, _)| base(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let named = |name: &str| {
            name == "PATH"
                || self.inherit.iter().any(|pattern| matches_name(pattern, name))
                || is_of_caller(name) && base(name)
        };
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

/// The variables of the host that can be passed on. Without `HOME`, it is set to the home folder of the account, in which the host
/// then keeps its own files: agents keep their sessions and logins there, too.
pub(crate) fn of_the_host(
    variables: impl Iterator<Item = (OsString, OsString)>,
    home: Option<PathBuf>,
) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> =
        variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect();
    if all.get("HOME").is_none_or(String::is_empty)
        && let Some(home) =
            home.filter(|home| home.is_absolute()).and_then(|home| home.into_os_string().into_string().ok())
    {
        all.insert("HOME".to_owned(), home);
    }
    all
}

/// The search path of a request.
pub(crate) fn search_path<'a>(
    host: &'a BTreeMap<String, String>,
    caller: Option<&'a BTreeMap<String, String>>,
    configured: &'a BTreeMap<String, String>,
) -> &'a str {
    configured.get("PATH").or_else(|| caller.unwrap_or(host).get("PATH")).map_or("", String::as_str)
}

/// The variables that no process can have: names that are empty or contain `=` or NUL, and values that contain NUL.
pub(crate) fn unusable(at: &str, variables: &BTreeMap<String, String>) -> Vec<Problem> {
    let wrong = variables.iter().filter_map(|(name, value)| {
        let message = if name.is_empty() || name.contains(['=', '\0']) {
            "is not a valid variable name"
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
        .filter(|(name, value)| secret_like(name) && seen.insert((*name, *value)))
        .map(|(name, value)| KnownSecret { name: name.to_owned(), value: value.to_owned() })
        .collect()
}

/// The values that are not secret in a run: names of users, databases, hosts and the like. Other variables may contain a
/// password although their names do not say so.
pub(crate) fn open_values(variables: &BTreeMap<String, String>) -> BTreeSet<String> {
    const OPEN: [&str; 13] = [
        "database", "db", "dbname", "domain", "host", "hostname", "logname", "name", "owner", "project", "schema",
        "user", "username",
    ];
    let is_open = |name: &str| words(name).last().is_some_and(|last| OPEN.contains(&last.as_str()));
    variables
        .iter()
        .filter(|(name, _)| !secret_like(name) && is_open(name))
        .map(|(_, value)| value.trim().to_owned())
        .collect()
}

/// What redaction removed from a document: the pieces of the original that have placeholders in the redacted document.
pub(crate) fn removed(document: &Value, redacted: &Value) -> Vec<KnownSecret> {
    let mut found = Vec::new();
    collect_removed(document, redacted, &mut found);
    found
}

fn collect_removed(document: &Value, redacted: &Value, found: &mut Vec<KnownSecret>) {
    match (document, redacted) {
        (Value::String(text), Value::String(shown)) if text != shown => removed_from_text(text, shown, found),
        (Value::Array(items), Value::Array(shown)) => {
            items.iter().zip(shown).for_each(|(item, shown)| collect_removed(item, shown, found));
        }
        (Value::Object(members), Value::Object(shown)) => {
            for (name, value) in members {
                // A redacted name has no counterpart; its value was redacted for its own content.
                if let Some(shown) = shown.get(name) {
                    collect_removed(value, shown, found);
                }
            }
        }
        _ => {}
    }
}

/// Compares both texts. At the position of a placeholder, the original has the removed piece. Consecutive lines under one
/// name are one piece: a document is masked as a whole.
fn removed_from_text(text: &str, shown: &str, found: &mut Vec<KnownSecret>) {
    let (mut text, mut shown) = (text, shown);
    // The name of the last piece, if no text has followed it.
    let mut last: Option<&str> = None;
    while let Some(at) = shown.find(PLACEHOLDER) {
        let Some((name, after)) = shown.get(at + PLACEHOLDER.len()..).and_then(|rest| rest.split_once(']')) else {
            return;
        };
        // The original may contain the text of a placeholder, which both have.
        let (Some(rest), Some(before)) = (text.get(at..), shown.get(..at)) else { return };
        if !text.starts_with(before) {
            return;
        }
        let own = shown.len() - after.len() - at;
        if rest.get(..own) == shown.get(at..at + own) {
            (text, shown, last) = (rest.get(own..).unwrap_or_default(), after, None);
            continue;
        }
        let next = after.find(PLACEHOLDER).map_or(after, |next| after.get(..next).unwrap_or_default());
        let end = match (next.is_empty(), next.len() == after.len()) {
            // No text separates this placeholder from the next one or the end: the rest belongs to the first.
            (true, _) => Some(rest.len()),
            (false, true) => rest.len().checked_sub(next.len()).filter(|_| rest.ends_with(next)),
            (false, false) => rest.find(next),
        };
        let Some(value) = end.and_then(|end| rest.get(..end)) else { return };
        let follows = last == Some(name) && before.contains('\n') && before.trim().is_empty();
        if let Some(piece) = found.last_mut().filter(|_| follows) {
            piece.value.extend([before, value]);
        } else if !value.is_empty() && found.len() < MAX_REMOVED {
            last = Some(name);
            found.push(KnownSecret { name: name.to_owned(), value: value.to_owned() });
        }
        (text, shown) = (rest.get(value.len()..).unwrap_or_default(), after);
    }
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
    use serde_json::json;

    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn missing_home_is_the_home_folder_of_the_account() {
        let of = |home: Option<&str>, account: &str| {
            let variables = home.map(|home| ("HOME".into(), home.into()));
            of_the_host(variables.into_iter(), Some(account.into())).remove("HOME")
        };
        assert_eq!(of(None, "/home/a").as_deref(), Some("/home/a"));
        assert_eq!(of(Some(""), "/home/a").as_deref(), Some("/home/a"));
        assert_eq!(of(Some("/set"), "/home/a").as_deref(), Some("/set"));
        assert_eq!(of(None, "relative"), None);
    }

    #[test]
    fn pieces_that_redaction_removed_are_found() {
        let pieces = |text: &str, shown: &str| {
            let found = removed(&json!({"a": [text], "b": 1}), &json!({"a": [shown], "b": 1}));
            found.into_iter().map(|secret| format!("{}={}", secret.name, secret.value)).collect::<Vec<_>>()
        };
        assert_eq!(pieces("say swordfish now", "say [REDACTED:pw] now"), ["pw=swordfish"]);
        assert_eq!(pieces("swordfish", "[REDACTED:pw]"), ["pw=swordfish"]);
        assert_eq!(pieces("a=one1 b=two2", "a=[REDACTED:x] b=[REDACTED:y]"), ["x=one1", "y=two2"]);
        assert_eq!(pieces("[REDACTED:own] one1.", "[REDACTED:own] [REDACTED:x]."), ["x=one1"]);
        assert_eq!(pieces("onetwo", "[REDACTED:x][REDACTED:y]"), ["x=onetwo"]);
        assert_eq!(pieces("{\n  one1,\n  two2\n}", "{\n  [REDACTED:x]\n  [REDACTED:x]\n}"), ["x=one1,\n  two2"]);
        assert_eq!(pieces("one1\ntwo2", "[REDACTED:x]\n[REDACTED:y]"), ["x=one1", "y=two2"]);
        assert_eq!(pieces("one1 two2", "[REDACTED:x] [REDACTED:x]"), ["x=one1", "x=two2"]);
        for (text, shown) in [("same", "same"), ("a", "b"), ("", "[REDACTED:x"), ("abc", "x[REDACTED:y]c")] {
            assert!(pieces(text, shown).is_empty(), "{text} {shown}");
        }
        assert!(removed(&json!({"a": "x"}), &json!(["x"])).is_empty());
    }

    #[test]
    fn path_and_names_of_the_plugin_come_from_the_caller_alone() {
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
    fn language_time_zone_and_proxies_come_from_the_caller_alone() {
        let host = map(&[("LANG", "C"), ("TZ", "UTC"), ("https_proxy", "http://old:1"), ("TERM", "dumb")]);
        let caller =
            map(&[("LANG", "de_DE.UTF-8"), ("LC_ALL", "C.UTF-8"), ("TERM", "xterm"), ("HTTP_PROXY", "http://p")]);
        let base = ["LANG", "LC_*", "TZ", "https_proxy", "TERM"].map(str::to_owned);
        let empty = BTreeMap::new();
        let sources = Sources {
            host: &host,
            caller: Some(&caller),
            base: &base,
            inherit: &[],
            configured: &empty,
            token: None,
            payload: &empty,
        };
        let expected = map(&[("LANG", "de_DE.UTF-8"), ("LC_ALL", "C.UTF-8"), ("TERM", "dumb")]);
        assert_eq!(sources.inherited(), expected);
        assert_eq!(Sources { caller: None, ..sources }.inherited(), host);
    }

    #[test]
    fn stored_token_overrides_inherited_variables_and_the_payload_overrides_it() {
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
    fn variables_that_no_process_can_have_are_named() {
        let found = unusable("/e", &map(&[("A=B", "1"), ("", "2"), ("PATH", "x\0y"), ("a/b", "fine")]));
        let pointers: Vec<&str> = found.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(pointers, ["/e/", "/e/A=B", "/e/PATH"]);
    }

    #[test]
    fn scheme_of_a_header_is_not_part_of_the_secret() {
        let header = ("Authorization".to_owned(), "Bearer abcdef".to_owned());
        assert_eq!(header_secret((&header.0, &header.1)), ("Authorization", "abcdef"));
    }
}
