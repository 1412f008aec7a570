//! What may stand in a command line.

/// The longest single argument that Linux starts a process with, without its final NUL.
pub const MAX_BYTES: usize = 128 * 1024 - 1;

/// Why a text cannot be an argument, if it cannot.
#[must_use]
pub fn unfit(text: &str) -> Option<String> {
    if text.contains('\0') {
        Some("contains a NUL character, which no argument can carry; remove it".to_owned())
    } else if text.len() > MAX_BYTES {
        Some(format!("has {} bytes, and an argument holds at most {MAX_BYTES}; shorten it", text.len()))
    } else {
        None
    }
}

/// The text as one word for a POSIX shell, in single quotes.
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
    fn limits() {
        assert!(unfit("fine").is_none());
        assert!(unfit(&"x".repeat(MAX_BYTES)).is_none());
        assert!(unfit(&"x".repeat(MAX_BYTES + 1)).unwrap().contains("131072 bytes"));
        assert!(unfit("a\0b").unwrap().contains("NUL"));
        assert!(
            is_variable_name("_A1") && !is_variable_name("1A") && !is_variable_name("A.B") && !is_variable_name("")
        );
    }

    proptest! {
        #[test]
        fn a_quoted_word_is_read_back(text in "\\PC*") {
            prop_assert_eq!(crate::shell::split(&shell_quote(&text)), Some(vec![text]));
        }
    }
}
