//! Values that are base64 and are checked after decoding.

fn decode(value: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(value.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0);
    for byte in value.trim_end_matches('=').bytes() {
        let sextet = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(sextet);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    Some(out)
}

/// Whether the decoded text is printable ASCII.
pub(super) fn is_readable(value: &str) -> bool {
    decode(value)
        .is_some_and(|bytes| bytes.len() >= 5 && bytes.iter().all(|b| matches!(b, b' '..=b'~' | b'\n' | b'\r' | b'\t')))
}

/// Whether it is `user:password`. Both may contain characters that are not ASCII.
pub(super) fn is_user_and_password(value: &str) -> bool {
    let Some(bytes) = decode(value) else { return false };
    let Ok(text) = String::from_utf8(bytes) else { return false };
    !text.chars().any(char::is_control) && text.split_once(':').is_some_and(|(_, password)| password.len() >= 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_credentials_and_words_are_distinguished() {
        assert!(is_user_and_password("b3BzOmREYnVweUZUYUdIMGNTeG94Vw=="));
        assert!(!is_user_and_password("authentication"));
        assert!(is_readable("c2VjcmV0LXZhbHVl"));
        assert!(!is_readable("required"));
    }
}
