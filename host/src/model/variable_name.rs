//! Patterns for names of environment variables.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_of_a_plugin_never_means_the_whole_environment() {
        assert!(matches_name("A_*", "A_B") && matches_name("A", "A"));
        assert!(!matches_name("*", "A") && !matches_name("", "A") && !matches_name("*_B", "A_B"));
    }
}
