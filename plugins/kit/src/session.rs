//! Session ids.

/// Whether a text has the form of a UUID, 8-4-4-4-12 hexadecimal digits. CLIs treat such a text as an id, and any other as a
/// name.
#[must_use]
pub fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// The time in a UUID of version 7, in milliseconds since 1970; none for any other text.
#[must_use]
pub fn uuid_time(id: &str) -> Option<u64> {
    if !is_uuid(id) || id.as_bytes().get(14) != Some(&b'7') {
        return None;
    }
    u64::from_str_radix(&format!("{}{}", id.get(..8)?, id.get(9..13)?), 16).ok()
}

/// Whether a session was created after the attempt began. None if one of the ids has no time.
#[must_use]
pub fn is_newer(session: &str, attempt: &str) -> Option<bool> {
    Some(uuid_time(session)? >= uuid_time(attempt)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_session_is_recognized_by_its_id() {
        let (old, new) = ("01a201fd-e403-7082-ac62-b4de0273e428", "01a201fd-fa80-7400-b578-220aef725873");
        assert_eq!(is_newer(new, old), Some(true));
        assert_eq!(is_newer(old, new), Some(false));
        assert_eq!(is_newer(old, "6e3b1d7c-3d4f-4f0e-9a3a-111111111111"), None);
        assert!(is_uuid(new) && is_uuid("6e3b1d7c-3d4f-4f0e-9a3a-111111111111") && !is_uuid("my session"));
        assert_eq!(uuid_time("not-a-uuid"), None);
        assert_eq!(uuid_time("01a201fd-e403-7082-ac62-b4de0273e42é"), None);
    }
}
