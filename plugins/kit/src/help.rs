//! Parsing of version lines and help pages.

use std::collections::BTreeSet;

/// The first word of a text that looks like a version: `1.2`, `0.169.0`, `2.1.0-beta.1`.
#[must_use]
pub fn version(text: &str) -> Option<String> {
    text.split_whitespace().map(|word| word.trim_matches(|c: char| matches!(c, '(' | ')' | ',' | ';' | ':'))).find_map(
        |word| {
            let word = word.strip_prefix('v').unwrap_or(word);
            let mut parts = word.splitn(3, '.');
            let numeric = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            let first = parts.next().is_some_and(numeric);
            let rest = parts.next().is_some_and(|part| part.bytes().next().is_some_and(|byte| byte.is_ascii_digit()));
            let plain = word.len() <= 64
                && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+' | b'_'));
            (first && rest && plain).then(|| word.to_owned())
        },
    )
}

/// The long options that a help page lists: words with two dashes at the beginning of a line. Options that are only
/// mentioned in a description are ignored.
#[must_use]
pub fn long_options(page: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in page.lines() {
        let line = line.trim_start();
        if !line.starts_with('-') {
            continue;
        }
        for word in line.split_whitespace() {
            let word = word.trim_end_matches(',');
            if !word.starts_with('-') {
                break;
            }
            if let Some(name) = word.strip_prefix("--") {
                let end = name.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(name.len());
                let name = name.get(..end).unwrap_or_default();
                if !name.is_empty() {
                    found.insert(format!("--{name}"));
                }
            }
        }
    }
    found
}

/// The quoted values after `choices:` that a help page lists for an option.
#[must_use]
pub fn choices(page: &str, option: &str) -> BTreeSet<String> {
    let mut lines = page.lines().skip_while(|line| {
        let line = line.trim_start();
        !(line.starts_with('-') && line.split([' ', ',', '=']).any(|word| word == option))
    });
    let first = lines.next().unwrap_or_default().to_owned();
    let rest = lines.take_while(|line| !line.trim_start().starts_with('-') && !line.trim().is_empty());
    let text = rest.fold(first, |all, line| format!("{all} {}", line.trim()));
    let Some((_, listed)) = text.split_once("choices:") else { return BTreeSet::new() };
    let listed = listed.split(')').next().unwrap_or_default();
    let word = |part: &str| part.trim().trim_matches('"').to_owned();
    listed.split(',').map(word).filter(|word| !word.is_empty() && !word.contains([' ', ':'])).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn version_is_found_in_a_line() {
        assert_eq!(version("codex-cli 0.169.0\n").unwrap(), "0.169.0");
        assert_eq!(version("2.1.197 (Claude Code)").unwrap(), "2.1.197");
        assert_eq!(version("tool v1.2-beta.1, built today").unwrap(), "1.2-beta.1");
        assert!(version("hello world").is_none());
        assert!(version("error: 42").is_none());
        assert!(version("").is_none());
    }

    #[test]
    fn options_are_read_at_the_beginning_of_lines_only() {
        let page = "Options:\n  -c, --config <key=value>\n      Examples: - `-c model` - see --other\n      --json\n  --no-thing=<X>  text --later\n";
        assert_eq!(long_options(page).into_iter().collect::<Vec<_>>(), ["--config", "--json", "--no-thing"]);
    }

    #[test]
    fn choices_of_other_options_are_ignored() {
        let page = "  --format <f>  the \"default\" way (choices: \"text\",\n     \"json\", default: \"text\")\n  -m, --mode <m>  what it may do\n      (choices: \"all\", \"manual\",\n      \"dontAsk\")\n  --other  instead of \"default\"\n";
        let of = |option: &str| choices(page, option).into_iter().collect::<Vec<_>>();
        assert_eq!(of("--mode"), ["all", "dontAsk", "manual"]);
        assert_eq!(of("--format"), ["json", "text"]);
        assert!(of("--other").is_empty() && of("--absent").is_empty());
    }

    proptest! {
        #[test]
        fn arbitrary_text_does_not_panic(text in "\\PC{0,200}") {
            let _ = (version(&text), long_options(&text), choices(&text, "--x"));
        }
    }
}
