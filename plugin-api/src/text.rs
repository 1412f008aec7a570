//! Text functions that several providers use.

use std::borrow::Cow;

/// Removes ANSI escape sequences from a line: CSI (colors, cursor), OSC (titles, links), and two-character escapes. An
/// incomplete sequence at the end is removed, too. Everything else is unchanged.
///
/// ```
/// assert_eq!(ostler_plugin::strip_ansi("\u{1b}[33mwarning\u{1b}[0m: x"), "warning: x");
/// assert_eq!(ostler_plugin::strip_ansi("plain"), "plain");
/// ```
#[must_use]
pub fn strip_ansi(text: &str) -> Cow<'_, str> {
    if !text.contains('\u{1b}') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character != '\u{1b}' {
            plain.push(character);
            continue;
        }
        match rest.next() {
            // CSI: parameter and intermediate bytes up to a final byte.
            Some('[') => {
                let _ = rest.find(|c| ('@'..='~').contains(c));
            }
            // OSC, DCS, SOS, PM, APC: up to BEL or ESC \.
            Some(']' | 'P' | 'X' | '^' | '_') => {
                while let Some(c) = rest.next() {
                    if c == '\u{7}' {
                        break;
                    }
                    if c == '\u{1b}' {
                        let _ = rest.next();
                        break;
                    }
                }
            }
            // An nF escape (character sets): intermediate bytes, then one final byte.
            Some(' '..='/') => {
                let _ = rest.find(|c| !(' '..='/').contains(c));
            }
            Some(_) | None => {}
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::strip_ansi;

    #[test]
    fn removes_every_kind_of_escape_sequence() {
        for (from, to) in [
            ("\u{1b}[1;31mred\u{1b}[m", "red"),
            ("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{7}", "link"),
            ("\u{1b}(Bok\u{1b}7", "ok"),
            ("a\u{1b}", "a"),
            ("a\u{1b}[31", "a"),
            ("a\u{1b}]title", "a"),
            ("ü\u{1b}[2Kß", "üß"),
            ("", ""),
        ] {
            assert_eq!(strip_ansi(from), to, "{from:?}");
        }
    }
}
