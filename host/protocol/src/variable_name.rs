//! Patterns for names of environment variables.

/// The environment variable that holds `SpawnSpec::marker` in every process of a run.
pub const MARKER_VARIABLE: &str = "OSTLER_RUN_MARKER";

/// Whether `name` is what `pattern` says; a `*` at its end stands for anything. Alone it stands for nothing: the whole
/// environment is never passed on.
#[must_use]
pub fn matches_name(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some("") => false,
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}

/// Variables that tell how the one who submits a run works: in what language and time, and by which way into the
/// network. The host's own are those of whoever happened to start it.
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

/// Whether a variable is the caller's to say.
#[must_use]
pub fn is_of_caller(name: &str) -> bool {
    OF_CALLER.iter().any(|pattern| matches_name(pattern, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_of_a_plugin_never_means_the_whole_environment() {
        assert!(matches_name("A_*", "A_B") && matches_name("A", "A"));
        assert!(!matches_name("*", "A") && !matches_name("", "A") && !matches_name("*_B", "A_B"));
    }
}
