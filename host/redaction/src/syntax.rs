//! Static analysis of a pattern: at which distance from a keyword its matches start, and whether they can contain white
//! space. Because of the first, a rule is tried only at a few positions; because of both, little text must be held back.

use regex_syntax::hir::{Class, Hir, HirKind};

/// Bytes after which text can be split: a match that has no white space and no non-ASCII text cannot contain them.
pub(super) fn is_breaker(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte >= 0x80
}

/// The most literals that are computed for the start of one pattern.
const MAX_LEADS: usize = 512;
/// The most bytes of a start that are computed.
const MAX_LEAD_LENGTH: usize = 48;
/// The largest character class that is expanded.
const MAX_CLASS: usize = 16;

/// Where matches start: for each possible start, the keyword in it (index into the rule's keywords) and the number of
/// bytes before that keyword. `None` if some match may start without a keyword.
pub(super) fn keyword_offsets(hir: &Hir, keywords: &[String]) -> Option<Vec<(usize, usize)>> {
    let mut offsets = Vec::new();
    for lead in leads(hir) {
        let (offset, keyword) = keywords
            .iter()
            .enumerate()
            .filter_map(|(index, keyword)| Some((lead.text.find(keyword.as_str())?, index)))
            .min()?;
        if lead.text.as_bytes().get(..offset + keywords.get(keyword)?.len())?.iter().copied().any(is_breaker) {
            return None;
        }
        if !offsets.contains(&(keyword, offset)) {
            offsets.push((keyword, offset));
        }
    }
    Some(offsets)
}

/// Whether a match can contain a byte at which text can be split.
pub(super) fn crosses_breakers(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => false,
        HirKind::Literal(literal) => literal.0.iter().copied().any(is_breaker),
        HirKind::Class(Class::Unicode(class)) => class.iter().any(|range| {
            range.end() as u32 >= 0x80
                || (range.start()..=range.end()).any(|c| (c as u32) < 0x80 && is_breaker(c as u8))
        }),
        HirKind::Class(Class::Bytes(class)) => class.iter().any(|range| (range.start()..=range.end()).any(is_breaker)),
        HirKind::Repetition(repetition) => crosses_breakers(&repetition.sub),
        HirKind::Capture(capture) => crosses_breakers(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().any(crosses_breakers),
    }
}

#[derive(Clone)]
struct Lead {
    /// Lower case.
    text: String,
    /// Whether the whole expression was expanded, so that the next one may be appended.
    exact: bool,
}

impl Lead {
    fn open() -> Self {
        Self { text: String::new(), exact: false }
    }
}

fn leads(hir: &Hir) -> Vec<Lead> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => vec![Lead { text: String::new(), exact: true }],
        HirKind::Literal(literal) => match std::str::from_utf8(&literal.0) {
            Ok(text) => vec![Lead { text: text.to_ascii_lowercase(), exact: true }],
            Err(_) => vec![Lead::open()],
        },
        HirKind::Class(class) => class_leads(class),
        HirKind::Capture(capture) => leads(&capture.sub),
        HirKind::Repetition(repetition) => {
            let once = repetition.min == 1 && repetition.max == Some(1);
            let mut found = leads(&repetition.sub);
            if !once && repetition.max != Some(1) {
                found.iter_mut().for_each(|lead| lead.exact = false);
            }
            if repetition.min == 0 {
                found.push(Lead { text: String::new(), exact: true });
            }
            found
        }
        HirKind::Alternation(parts) => {
            let found: Vec<Lead> = parts.iter().flat_map(leads).collect();
            if found.len() > MAX_LEADS { vec![Lead::open()] } else { found }
        }
        HirKind::Concat(parts) => concat_leads(parts),
    }
}

fn class_leads(class: &Class) -> Vec<Lead> {
    let mut letters: Vec<char> = Vec::new();
    let ranges: Vec<(u32, u32)> = match class {
        Class::Unicode(class) => class.iter().map(|range| (range.start() as u32, range.end() as u32)).collect(),
        Class::Bytes(class) => class.iter().map(|range| (u32::from(range.start()), u32::from(range.end()))).collect(),
    };
    for (start, end) in ranges {
        if end >= 0x80 {
            // Case folding adds a few letters like the Kelvin sign, which no keyword search could find anyway.
            if end - start > 1 {
                return vec![Lead::open()];
            }
            continue;
        }
        for code in start..=end {
            let Some(letter) = char::from_u32(code).map(|c| c.to_ascii_lowercase()) else { continue };
            if !letters.contains(&letter) {
                letters.push(letter);
            }
            if letters.len() > MAX_CLASS {
                return vec![Lead::open()];
            }
        }
    }
    letters.into_iter().map(|letter| Lead { text: letter.to_string(), exact: true }).collect()
}

fn concat_leads(parts: &[Hir]) -> Vec<Lead> {
    let mut found = vec![Lead { text: String::new(), exact: true }];
    for part in parts {
        if !found.iter().any(|lead| lead.exact) {
            break;
        }
        let next = leads(part);
        let growing = found.iter().filter(|lead| lead.exact).count();
        if growing * next.len() + found.len() > MAX_LEADS {
            found.iter_mut().for_each(|lead| lead.exact = false);
            break;
        }
        let mut longer = Vec::with_capacity(growing * next.len() + found.len() - growing);
        for lead in found {
            if !lead.exact {
                longer.push(lead);
            } else if lead.text.len() >= MAX_LEAD_LENGTH {
                longer.push(Lead { text: lead.text, exact: false });
            } else {
                longer.extend(
                    next.iter().map(|tail| Lead { text: format!("{}{}", lead.text, tail.text), exact: tail.exact }),
                );
            }
        }
        found = longer;
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn offsets(pattern: &str, keywords: &[&str]) -> Option<Vec<(usize, usize)>> {
        let hir = regex_syntax::parse(pattern).unwrap();
        let keywords: Vec<String> = keywords.iter().map(|k| (*k).to_owned()).collect();
        keyword_offsets(&hir, &keywords)
    }

    #[test]
    fn literal_start_gives_the_offset_of_the_keyword() {
        assert_eq!(offsets("ghp_[A-Za-z0-9]{36}", &["ghp_"]), Some(vec![(0, 0)]));
        assert_eq!(offsets("(?:x-)?api[_-]?key", &["api"]), Some(vec![(0, 2), (0, 0)]));
        assert_eq!(offsets("(?i:pass(?:word|wd))=", &["password", "passwd"]), Some(vec![(0, 0), (1, 0)]));
        assert_eq!(offsets("gh[pousr]_[a-z]+", &["ghp_", "gho_", "ghu_", "ghs_", "ghr_"]).unwrap().len(), 5);
    }

    #[test]
    fn open_start_gives_no_offset() {
        assert_eq!(offsets(r"[a-z0-9]{14}\.atlasv1\.", &["atlasv1"]), None);
        assert_eq!(offsets("a?b", &["a"]), None);
        assert_eq!(offsets("x (?:key)", &["key"]), None);
    }

    #[test]
    fn white_space_in_a_pattern_is_detected() {
        let crosses = |pattern: &str| crosses_breakers(&regex_syntax::parse(pattern).unwrap());
        assert!(crosses(r"a\s*b"));
        assert!(crosses(r"[^x]"));
        assert!(!crosses(r"[!-~]+(?:abc)?"));
    }
}
