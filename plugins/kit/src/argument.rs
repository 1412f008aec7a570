//! Limits and quoting of command line arguments.

/// Maximum length of a single argument on Linux, without the final NUL.
pub const MAX_BYTES: usize = 128 * 1024 - 1;

/// The reason why a text cannot be an argument; none if it can.
#[must_use]
pub fn argument_problem(text: &str) -> Option<String> {
    if text.contains('\0') {
        Some("contains a NUL character, which an argument cannot contain; remove it".to_owned())
    } else if text.len() > MAX_BYTES {
        Some(format!("has {} bytes, but an argument has at most {MAX_BYTES}; shorten it", text.len()))
    } else {
        None
    }
}

/// Quotes a text as one word for a POSIX shell.
#[must_use]
pub fn shell_quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Whether a POSIX shell can export a variable of this name.
#[must_use]
pub fn is_variable_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rejects_long_arguments_and_nul_characters() {
        assert!(argument_problem("fine").is_none());
        assert!(argument_problem(&"x".repeat(MAX_BYTES)).is_none());
        assert!(argument_problem(&"x".repeat(MAX_BYTES + 1)).unwrap().contains("131072 bytes"));
        assert!(argument_problem("a\0b").unwrap().contains("NUL"));
        assert!(
            is_variable_name("_A1") && !is_variable_name("1A") && !is_variable_name("A.B") && !is_variable_name("")
        );
    }

    proptest! {
        #[test]
        fn quoted_word_is_split_into_the_original_text(text in "\\PC*") {
            prop_assert_eq!(crate::shell::split(&shell_quote(&text)), Some(vec![text]));
        }
    }
}
