//! Words as they stand in a command line that is being typed.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// A word without its quotation marks and backslashes. A quotation that is still open ends with the word.
pub(super) fn unquoted(word: &OsStr) -> OsString {
    let mut out = Vec::new();
    let mut quote = None;
    let mut bytes = word.as_bytes().iter().copied();
    while let Some(byte) = bytes.next() {
        match (quote, byte) {
            (None, b'\'' | b'"') => quote = Some(byte),
            (Some(open), _) if byte == open => quote = None,
            // Between single quotation marks a backslash is an ordinary character.
            (None | Some(b'"'), b'\\') => out.extend(bytes.next()),
            _ => out.push(byte),
        }
    }
    OsString::from_vec(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_quotation() {
        for (typed, meant) in [
            ("plain", "plain"),
            ("'a b'", "a b"),
            ("\"a b", "a b"),
            ("a\\ b", "a b"),
            ("'a\\b'", "a\\b"),
            ("\"it's\"", "it's"),
            ("--home='/x y'/z", "--home=/x y/z"),
            ("\\", ""),
            ("", ""),
        ] {
            assert_eq!(unquoted(OsStr::new(typed)), meant, "{typed}");
        }
    }
}
