//! Checks of names.

/// Maximum length of a kebab-case name, in bytes.
const MAX_NAME: usize = 64;

/// Whether it is a kebab-case name: `codex-work`.
pub(super) fn is_kebab(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name
            .split('-')
            .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()))
}

/// Whether it can be the name of an environment variable.
pub(super) fn is_variable(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Whether it is the name of an environment variable, or the first part of one followed by `*`.
pub(super) fn is_variable_glob(name: &str) -> bool {
    is_variable(name.strip_suffix('*').unwrap_or(name))
}

/// Whether it is the name of an environment variable, or the first or last part of one with `*` at the other end.
pub(super) fn is_variable_pattern(name: &str) -> bool {
    match name.strip_prefix('*') {
        // The last part of a name may begin with a digit.
        Some(rest) => !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'),
        None => is_variable_glob(name),
    }
}

/// A key in TOML syntax, quoted if necessary.
pub(super) fn written(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if bare {
        return key.to_owned();
    }
    let shown: String = key.chars().take(MAX_NAME).collect();
    format!("{shown:?}")
}
