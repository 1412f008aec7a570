//! Brace expansion.

use crate::text::{DYNAMIC, STAR};

/// Words that one word with braces may become.
const MAX_BRACES: usize = 64;

/// Brace expansion of a raw word: `a{b,c}` becomes `ab` and `ac`. Of a range, `*` is known.
pub(super) fn braces(raw: &str) -> Vec<String> {
    if !raw.contains('{') {
        return vec![raw.to_owned()];
    }
    let (mut todo, mut done) = (vec![raw.to_owned()], Vec::new());
    while let Some(word) = todo.pop() {
        if todo.len() + done.len() > MAX_BRACES {
            return vec![DYNAMIC.to_string()];
        }
        match first_brace(&word) {
            None => done.push(word),
            // The first alternative is expanded first.
            Some(words) => todo.extend(words.into_iter().rev()),
        }
    }
    done
}

/// The words after expansion of the first pair of braces; none if there is none.
fn first_brace(word: &str) -> Option<Vec<String>> {
    let bytes = word.as_bytes();
    let (mut at, mut double) = (0, false);
    let mut opened: Vec<(usize, Vec<usize>)> = Vec::new();
    let mut closed: Vec<(usize, usize, Vec<usize>)> = Vec::new();
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 1,
            b'"' => double = !double,
            b'\'' if !double => at += word[at + 1..].find('\'').map_or(word.len(), |length| length + 1),
            b'$' if bytes.get(at + 1) == Some(&b'{') => {
                let chars: Vec<char> = word[at + 1..].chars().collect();
                let close = closing_brace(&chars, 0).map_or(chars.len(), |close| close + 1);
                at += chars[..close].iter().map(|c| c.len_utf8()).sum::<usize>();
            }
            b'{' if !double => opened.push((at, Vec::new())),
            b',' if !double => {
                if let Some((_, commas)) = opened.last_mut() {
                    commas.push(at);
                }
            }
            b'}' if !double => {
                if let Some((open, commas)) = opened.pop() {
                    let is_range = word[open..at].contains("..");
                    if !commas.is_empty() || is_range {
                        closed.push((open, at, commas));
                    }
                }
            }
            _ => {}
        }
        at += 1;
    }
    let (open, close, commas) = closed.into_iter().min_by_key(|(open, ..)| *open)?;
    let (before, after) = (&word[..open], &word[close + 1..]);
    if commas.is_empty() {
        return Some(vec![format!("{before}{STAR}{after}")]);
    }
    let mut from = open + 1;
    let alternatives = commas.into_iter().chain(Some(close)).map(|to| {
        let alternative = format!("{before}{}{after}", &word[from..to]);
        from = to + 1;
        alternative
    });
    Some(alternatives.take(MAX_BRACES + 1).collect())
}

/// The position of the brace that closes the one at `at`.
pub(super) fn closing_brace(chars: &[char], at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut position = at;
    while let Some(c) = chars.get(position) {
        match c {
            '\\' => position += 1,
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(position);
                }
            }
            _ => {}
        }
        position += 1;
    }
    None
}
