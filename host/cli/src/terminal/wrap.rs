//! Breaks text into lines of the terminal's width.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Columns of a tab.
pub(super) const TAB: usize = 8;

/// Width of a character, in columns. Tabs are replaced before.
pub(super) fn width_of(character: char) -> usize {
    character.width().unwrap_or(0)
}

/// Breaks a text into lines of at most `width` columns: at spaces if possible. Tabs become spaces. The text is clean.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(2);
    let mut lines = Vec::new();
    for line in text.split('\n') {
        wrap_line(&line.replace('\t', "    "), width, &mut lines);
    }
    lines
}

fn wrap_line(line: &str, width: usize, lines: &mut Vec<String>) {
    let mut rest = line;
    while rest.width() > width {
        let mut columns = 0;
        let mut fits = rest.len();
        for (at, character) in rest.char_indices() {
            columns += width_of(character);
            if columns > width {
                fits = at;
                break;
            }
        }
        // A break that leaves less than half of the line empty.
        let (head, _) = rest.split_at(fits);
        let at = match head.rfind(' ') {
            _ if rest.get(fits..).is_some_and(|after| after.starts_with(' ')) => fits,
            Some(at) if head.get(..at).is_some_and(|before| before.width() * 2 >= width) => at,
            _ => fits,
        };
        let (head, tail) = rest.split_at(at.max(1).min(rest.len()));
        lines.push(head.to_owned());
        rest = tail.strip_prefix(' ').unwrap_or(tail);
    }
    lines.push(rest.to_owned());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn breaks_at_spaces_and_inside_long_words() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("one two", 7), ["one two"]);
        assert_eq!(wrap("0123456789abc", 5), ["01234", "56789", "abc"]);
        assert_eq!(wrap("a 0123456789", 6), ["a 0123", "456789"]);
        assert_eq!(wrap("日本語日本語", 5), ["日本", "語日", "本語"]);
        assert_eq!(wrap("a\n\nb", 5), ["a", "", "b"]);
    }

    proptest! {
        #[test]
        fn lines_fit_and_keep_all_characters(text in "[ a-c日\n]{0,40}", width in 2_usize..12) {
            let lines = wrap(&text, width);
            prop_assert!(lines.iter().all(|line| line.width() <= width), "{:?}", lines);
            let kept = |text: &str| text.chars().filter(|character| !character.is_whitespace()).collect::<String>();
            prop_assert_eq!(kept(&lines.concat()), kept(&text));
        }
    }
}
