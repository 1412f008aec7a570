//! Which of the caller's variables go to the host with a request.
//!
//! The host may have been started in another environment, but a run must see what the user has set in this terminal.
//! The client sends only `PATH`, the variables for language, time zone and proxies, and those that the provider's CLI
//! needs, never the whole environment.

use std::collections::BTreeMap;
use std::ffi::OsString;

use ostler_protocol::{is_of_caller, matches_name};

/// The variables to send: `PATH`, language, time zone and proxies, and those that match a pattern. A `*` at the end of
/// a pattern matches any rest. Variables that are not UTF-8 are omitted.
pub(super) fn to_send<'a>(
    patterns: impl IntoIterator<Item = &'a str>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> BTreeMap<String, String> {
    let patterns: Vec<&str> = patterns.into_iter().collect();
    variables
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| {
            name == "PATH" || is_of_caller(name) || patterns.iter().any(|pattern| matches_name(pattern, name))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn sends_only_matching_variables() {
        let variable = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
        let mut variables = vec![
            variable("PATH", "/bin"),
            variable("LC_TIME", "C"),
            variable("LCD", "x"),
            variable("https_proxy", "http://p"),
            variable("OPENAI_API_KEY", "k"),
            variable("OPENAI_BASE_URL", "u"),
            variable("CODEX_HOME", "/c"),
            variable("CODEX_HOMER", "/d"),
            variable("AWS_SECRET_ACCESS_KEY", "s"),
        ];
        variables.push(("OPENAI_RAW".into(), OsString::from_vec(vec![0xff])));
        let sent = to_send(["OPENAI_*", "CODEX_HOME", "*"], variables);
        let names: Vec<&str> = sent.keys().map(String::as_str).collect();
        assert_eq!(names, ["CODEX_HOME", "LC_TIME", "OPENAI_API_KEY", "OPENAI_BASE_URL", "PATH", "https_proxy"]);
    }
}
