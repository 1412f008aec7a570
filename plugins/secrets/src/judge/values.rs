//! Properties of a value itself.

use crate::words::{is_wordy, randomness};

const NOTHING: [&str; 64] = [
    "base64",
    "base64url",
    "latin1",
    "utf8",
    "utf-8",
    "utf16le",
    "ucs2",
    "pbkdf2",
    "scrypt",
    "argon2",
    "argon2id",
    "md5",
    "sha1",
    "sha256",
    "sha384",
    "sha512",
    "hs256",
    "rs256",
    "es256",
    "oauth2",
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

/// Whether a text is a placeholder for a secret.
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
        || is_field(value)
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

/// Whether this word makes a value a placeholder. A complete key after the word does not.
fn marks_placeholder(lower: &str, value: &str, word: &str) -> bool {
    let Some(at) = lower.find(word) else { return false };
    let real = |part: Option<&str>| {
        part.is_some_and(|part| part.len() >= 20 && !is_wordy(part) && randomness(part) >= 0.25 && !one_character(part))
    };
    // Only the case of ASCII letters was changed, so positions are the same.
    !real(value.get(..at)) && !real(value.get(at + word.len()..))
}

/// Whether it is a variable: `$NAME`, `$env:NAME`, `%NAME%`, `@name`, `:name`.
pub(super) fn is_variable(value: &str) -> bool {
    let name = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':'))
    };
    let upper = |text: &str| name(text) && !text.chars().any(|c| c.is_ascii_lowercase());
    value.strip_prefix('$').is_some_and(|rest| name(rest) && (upper(rest) || is_wordy(rest)))
        || value.strip_prefix('%').and_then(|rest| rest.strip_suffix('%')).is_some_and(name)
}

/// Whether it is a field of a format string: `{password}`.
fn is_field(value: &str) -> bool {
    let name = value.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    name.is_some_and(|name| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
    })
}

fn one_character(value: &str) -> bool {
    let mut bytes = value.bytes();
    let first = bytes.next();
    let rest = value.trim_matches(|c: char| !c.is_alphanumeric());
    bytes.all(|b| Some(b) == first) || rest.bytes().all(|b| Some(b) == rest.bytes().next())
}

/// Whether it is a sequence: `12345678`, `abcdefgh`, `0123456789abcdef`.
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

/// Whether it is a call, a path, a URL or a chain of names: an expression, not a secret.
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
        || is_file(value)
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

/// Whether it is the name of a file, with or without folders.
fn is_file(value: &str) -> bool {
    const ENDINGS: [&str; 20] = [
        "html", "htm", "md", "json", "yaml", "yml", "toml", "xml", "txt", "js", "mjs", "ts", "tsx", "py", "rs", "go",
        "pem", "key", "crt", "java",
    ];
    value.rsplit_once('.').is_some_and(|(name, ending)| {
        ENDINGS.contains(&ending) && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-./*~".contains(c))
    })
}

/// Whether it is an unquoted expression: a call, an index, a path of names, a generic type.
pub(super) fn is_expression(value: &str) -> bool {
    if value.starts_with('=') {
        return true;
    }
    let value = value.trim_start_matches(['&', '*', '%', '@', '!', '-']);
    let name = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '$'))
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':' | '$'))
    };
    if value.contains("::") && name(value) {
        return true;
    }
    // A chain of names, or several of them.
    let plain = |part: &str| {
        name(part) && !part.contains([':', '.']) && (part.len() <= 2 || is_wordy(part) || randomness(part) < 0.3)
    };
    let first = value.split(['=', '|', '.']).next().unwrap_or_default();
    if value.contains(['.', '|']) && first.len() < value.len() && value.split(['.', '|', '=']).all(plain) {
        return true;
    }
    let Some((head, inside)) = value.split_once(['(', '[', '{', '<']) else { return false };
    let head = head.trim_end_matches(['!', ':']);
    name(head)
        && (is_wordy(head)
            || head.contains("::")
            || head.contains('$')
            || is_number(inside.trim_end_matches([')', ']', '}']))
            || !head.bytes().any(|b| b.is_ascii_digit())
            || head.contains('.') && head.split('.').all(plain))
}

/// Characters that are frequent in minified scripts.
pub(super) fn is_compressed(value: &str) -> bool {
    const CODE: [&str; 13] = ["}}", "){", "})", ":!0", ":!1", "=!0", "=!1", "=void", "==", "()", "?.", "??", "=this."];
    CODE.iter().any(|part| value.trim_end_matches('=').contains(part))
}

/// A number as source code writes it: `0x80`, `4097u32`, `0xC000006B_u32`, `10L`.
pub(super) fn is_number(value: &str) -> bool {
    const TYPES: [&str; 14] =
        ["u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64", "u128", "i128", "usize", "isize", "f64", "n"];
    let digits = value.strip_prefix(['-', '+']).unwrap_or(value);
    let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let body = hex.unwrap_or(digits);
    let typed = TYPES.iter().find_map(|kind| body.strip_suffix(kind));
    let bare = typed.unwrap_or_else(|| body.trim_end_matches(['u', 'U', 'l', 'L'])).trim_end_matches('_');
    let all = |digit: fn(&u8) -> bool| bare.bytes().all(|b| b == b'_' || digit(&b));
    !bare.is_empty()
        && match hex {
            Some(_) => bare.len() <= 19 && all(u8::is_ascii_hexdigit),
            None => bare.len() < digits.len() && all(u8::is_ascii_digit),
        }
}

/// Whether it is a date, a time of day, or both.
pub(super) fn is_time(value: &str) -> bool {
    let form = |text: &str, form: &str| {
        text.len() >= form.len()
            && text.bytes().zip(form.bytes()).all(|(b, f)| if f == b'0' { b.is_ascii_digit() } else { b == f })
    };
    let rest = value.bytes().skip(10).all(|b| b.is_ascii_digit() || b"T:.+-Z _".contains(&b));
    (form(value, "0000-00-00") && rest)
        || (form(value, "00:00:00") && value.bytes().all(|b| b.is_ascii_digit() || b":.Z".contains(&b)))
}

/// Whether it is a version or a range of versions: `^7.1.3`, `>=2.0.0-beta.1`.
pub(super) fn is_version(value: &str) -> bool {
    let bare = value.trim_start_matches(['^', '~', '<', '>', '=', 'v', ' ']);
    let mut parts = bare.splitn(3, '.');
    let number = |part: Option<&str>| {
        part.is_some_and(|part| {
            (1..=5).contains(&part.len()) && (part == "x" || part == "*" || part.bytes().all(|b| b.is_ascii_digit()))
        })
    };
    number(parts.next())
        && number(parts.next())
        && value.len() <= 40
        && parts.next().is_none_or(|rest| {
            rest.starts_with(|c: char| c.is_ascii_digit() || matches!(c, 'x' | '*'))
                && rest.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '*'))
                && rest
                    .split(['.', '-', '+'])
                    .all(|part| part.len() <= 12 && (is_wordy(part) || part.bytes().all(|b| b.is_ascii_hexdigit())))
        })
}

/// Whether it is a regular expression.
pub(super) fn is_pattern(value: &str) -> bool {
    const PARTS: [&str; 16] = [
        "a-zA-Z", "Z0-9", "[A-Z", "[a-z", "[0-9", "[^", "\\d", "\\w", "\\s", "\\b", "(?:", "(?=", "(?i", ".*", ".+",
        "]+",
    ];
    let parts = PARTS.iter().filter(|part| value.contains(**part)).count();
    parts >= 2 || (parts == 1 && value.starts_with(['/', '^']))
}

/// Whether it is an Ethereum address.
pub(super) fn is_address(value: &str) -> bool {
    value.strip_prefix("0x").is_some_and(|hex| hex.len() == 40 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Removes an index at the end: `<id>:0`.
pub(super) fn without_number(value: &str) -> &str {
    let bare = value.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = value.len() - bare.len();
    bare.strip_suffix([':', '/', '#', '_']).filter(|_| (1..=6).contains(&number)).unwrap_or(value)
}

pub(super) fn is_digits(value: &str) -> bool {
    value.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b':' | b'-' | b',' | b'/' | b'_' | b'%'))
}

pub(super) fn is_uuid(value: &str) -> bool {
    let parts: Vec<usize> = value.split('-').map(str::len).collect();
    parts == [8, 4, 4, 4, 12] && value.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

/// Whether it has the length of a digest in hex, or is one in base64 with its prefix.
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
    fn placeholders_are_recognized() {
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
