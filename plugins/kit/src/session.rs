//! Session ids.

/// Milliseconds since 1970 that a UUID of version 7 carries; none for every other text.
#[must_use]
pub fn uuid_time(id: &str) -> Option<u64> {
    let bytes = id.as_bytes();
    let shape = bytes.len() == 36
        && bytes.iter().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => *byte == b'-',
            14 => *byte == b'7',
            _ => byte.is_ascii_hexdigit(),
        });
    if !shape {
        return None;
    }
    u64::from_str_radix(&format!("{}{}", id.get(..8)?, id.get(9..13)?), 16).ok()
}

/// Whether a session began after the attempt did. None where the ids do not tell.
#[must_use]
pub fn is_newer(session: &str, attempt: &str) -> Option<bool> {
    Some(uuid_time(session)? >= uuid_time(attempt)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_ids() {
        let (old, new) = ("01a201fd-e403-7082-ac62-b4de0273e428", "01a201fd-fa80-7400-b578-220aef725873");
        assert_eq!(is_newer(new, old), Some(true));
        assert_eq!(is_newer(old, new), Some(false));
        assert_eq!(is_newer(old, "6e3b1d7c-3d4f-4f0e-9a3a-111111111111"), None);
        assert_eq!(uuid_time("not-a-uuid"), None);
        assert_eq!(uuid_time("01a201fd-e403-7082-ac62-b4de0273e42é"), None);
    }
}
