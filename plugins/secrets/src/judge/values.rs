//! What a value is by itself.

use crate::words::{is_wordy, randomness};

const NOTHING: [&str; 44] = [
    "none",
    "null",
    "nil",
    "undefined",
    "true",
    "false",
    "string",
    "str",
    "required",
    "optional",
    "password",
    "passwd",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "your_api_key",
    "hidden",
    "masked",
    "redacted",
    "sensitive",
    "empty",
    "unset",
    "default",
    "dummy",
    "sample",
    "example",
    "test",
    "testing",
    "foobar",
    "foo",
    "bar",
    "admin",
    "todo",
    "tbd",
    "n/a",
    "value",
    "prompt",
    "env",
    "boolean",
    "number",
    "object",
    "any",
];

/// Text that stands where a secret would be.
pub(super) fn is_placeholder(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let trimmed = lower.trim_matches(['<', '>', '[', ']', '{', '}', '(', ')', '"', '\'', '*', '.', '_', '-']);
    trimmed.is_empty()
        || NOTHING.contains(&trimmed)
        || (lower.starts_with('<') && lower.ends_with('>'))
        || lower.starts_with("[redacted")
        || value.contains("${")
        || value.contains("$(")
        || value.contains("{{")
        || value.contains("%(")
        || value.contains("#{")
        || is_variable(value)
        || [
            "your-",
            "your_",
            "yourtoken",
            "yourkey",
            "changeme",
            "change-me",
            "change_me",
            "placeholder",
            "xxxxx",
            "*****",
            "example",
            "insert-",
            "paste-",
            "replace-",
            "replace_",
            "...",
            "…",
            "dummy",
            "redacted",
        ]
        .iter()
        .any(|word| marks_placeholder(&lower, value, word))
        || one_character(&lower)
        || is_sequence(&lower)
}

/// Whether a value is a placeholder for that word in it: a whole key that somebody has put it behind is none.
fn marks_placeholder(lower: &str, value: &str, word: &str) -> bool {
    let Some(at) = lower.find(word) else { return false };
    let real = |part: Option<&str>| {
        part.is_some_and(|part| part.len() >= 20 && !is_wordy(part) && randomness(part) >= 0.25 && !one_character(part))
    };
    // ASCII alone changed its case, so that positions are the same.
    !real(value.get(..at)) && !real(value.get(at + word.len()..))
}

/// `$NAME`, `$env:NAME`, `%NAME%`, `@name`, `:name`.
fn is_variable(value: &str) -> bool {
    let name = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':'))
    };
    let upper = |text: &str| name(text) && !text.chars().any(|c| c.is_ascii_lowercase());
    value.strip_prefix('$').is_some_and(|rest| name(rest) && (upper(rest) || is_wordy(rest)))
        || value.strip_prefix('%').and_then(|rest| rest.strip_suffix('%')).is_some_and(name)
}

fn one_character(value: &str) -> bool {
    let mut bytes = value.bytes();
    let first = bytes.next();
    let rest = value.trim_matches(|c: char| !c.is_alphanumeric());
    bytes.all(|b| Some(b) == first) || rest.bytes().all(|b| Some(b) == rest.bytes().next())
}

/// `12345678`, `abcdefgh`, `0123456789abcdef`.
fn is_sequence(value: &str) -> bool {
    let steps = value
        .as_bytes()
        .windows(2)
        .filter(|pair| matches!(pair, [a, b] if *b == a.wrapping_add(1) || (*a == b'9' && matches!(b, b'0' | b'a'))))
        .count();
    value.len() >= 6 && steps * 100 >= (value.len() - 1) * 70
}

/// Passwords of examples and of local databases.
pub(super) fn is_common_password(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    [
        "pass", "password", "passwd", "pwd", "secret", "user", "username", "guest", "root", "admin", "postgres",
        "mysql", "test", "changeme", "example", "token", "pw", "xxx", "***",
    ]
    .contains(&lower.as_str())
        || is_placeholder(value)
}

/// A call, a path, a URL, a chain of names: something that a program works out, not the secret itself.
pub(super) fn is_code(value: &str) -> bool {
    let wordy = is_wordy(value);
    value.contains("://")
        || value.contains("()")
        || value.contains("->")
        || value.contains("=>")
        || (value.contains("::") && wordy)
        || value.starts_with("./")
        || value.starts_with("../")
        || value.starts_with("~/")
        || (value.starts_with('/') && wordy)
        || (value.starts_with(['&', '*', '@']) && wordy)
        || (value.contains(['.', '/', '[', '(', '<']) && wordy && !value.chars().any(|c| "!@#$%^&*".contains(c)))
        || [
            "process.env",
            "os.environ",
            "os.getenv",
            "env.",
            "secrets.",
            "vars.",
            "config.",
            "self.",
            "this.",
            "settings.",
            "args.",
            "options.",
            "std::",
            "ENV[",
        ]
        .iter()
        .any(|start| value.starts_with(start))
}

pub(super) fn is_digits(value: &str) -> bool {
    value.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b':' | b'-' | b',' | b'/' | b'_' | b'%'))
}

pub(super) fn is_uuid(value: &str) -> bool {
    let parts: Vec<usize> = value.split('-').map(str::len).collect();
    parts == [8, 4, 4, 4, 12] && value.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

/// As long as a digest, in hex, or one in base64 with its prefix.
pub(super) fn is_digest(value: &str) -> bool {
    (matches!(value.len(), 32 | 40 | 56 | 64 | 96 | 128) && value.bytes().all(|b| b.is_ascii_hexdigit()))
        || ["sha1-", "sha256-", "sha384-", "sha512-", "sha256:", "SHA256:"]
            .iter()
            .any(|prefix| value.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_known() {
        for value in [
            "<paste-your-token>",
            "${ACCESS_TOKEN}",
            "$TOKEN",
            "{{ token }}",
            "xxxxxxxx",
            "****",
            "changeme",
            "your-api-key",
            "12345678",
            "0123456789abcdef",
            "%TOKEN%",
            "$password",
        ] {
            assert!(is_placeholder(value), "{value}");
        }
        for value in ["Cbgrr2664$pikfCYY", "$2b$12$KIXQx7q2m9k4v1z8", "hunter2", "a1rpXhc1ANCirV"] {
            assert!(!is_placeholder(value), "{value}");
        }
    }
}
