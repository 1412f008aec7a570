//! Patterns for names of environment variables.

/// The environment variable with `SpawnSpec::marker` in every process of a run.
pub const MARKER_VARIABLE: &str = "OSTLER_RUN_MARKER";

/// Whether `name` matches `pattern`. A `*` at the end matches any rest. The pattern `*` matches nothing, because the
/// whole environment is never passed on.
#[must_use]
pub fn matches_name(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some("") => false,
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}

/// Variables that describe the environment of the client that submits a run: language, time zone and proxies. Those of
/// the host come from the process that happened to start it.
const OF_CALLER: [&str; 12] = [
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TZ",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
];

/// Whether a run takes this variable from its caller.
#[must_use]
pub fn is_of_caller(name: &str) -> bool {
    OF_CALLER.iter().any(|pattern| matches_name(pattern, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_never_matches_the_whole_environment() {
        assert!(matches_name("A_*", "A_B") && matches_name("A", "A"));
        assert!(!matches_name("*", "A") && !matches_name("", "A") && !matches_name("*_B", "A_B"));
    }
}
