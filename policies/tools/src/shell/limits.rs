//! What is refused before it is parsed.
//!
//! The parser recurses for each level of nesting, and tries substitutions that do not end several times. Both are bounded here,
//! without parsing, so that no script exhausts the stack of a plugin or the time of a call.

/// The longest script, in bytes. Longer ones are mostly files that a here-document writes.
pub(crate) const MAX_SCRIPT: usize = 128 << 10;

/// The deepest nesting of brackets and compound commands. The parser needs about 3 KiB of stack for a level.
const MAX_NESTING: usize = 60;

/// Commands and lines of a script. The parser nests the commands of a list.
const MAX_COMMANDS: usize = 1000;

/// The parser needs twice the time for each backquote inside a substitution that does not end.
const MAX_MIXED: usize = 14;

/// Words that begin and end a compound command.
const BEGIN: &[&str] = &["if", "elif", "while", "until", "for", "case", "select"];
const END: &[&str] = &["fi", "done", "esac"];
/// Words after which a command begins.
const BEFORE_COMMAND: &[&str] = &["if", "then", "else", "elif", "while", "until", "do", "time", "coproc", "in"];

/// Why the script is too complex, if it is.
pub(crate) fn refuse(script: &str) -> Option<String> {
    if script.len() > MAX_SCRIPT {
        return Some(format!("it is longer than {} KiB", MAX_SCRIPT >> 10));
    }
    let count = |part: &str| script.matches(part).count();
    if count("`").min(count("$(") + count("<(") + count(">(")) > MAX_MIXED {
        return Some("it mixes too many backquotes and `$(…)`".to_owned());
    }
    let parsed = without_here_documents(script);
    if parsed.matches([';', '&', '|', '\n']).count() > MAX_COMMANDS {
        return Some(format!("it has more than {MAX_COMMANDS} commands or lines"));
    }
    if nesting(&parsed) > MAX_NESTING {
        return Some(format!("it is nested more than {MAX_NESTING} levels deep"));
    }
    None
}

/// An upper estimate of the deepest nesting.
fn nesting(script: &str) -> usize {
    let (mut brackets, mut compounds, mut deepest) = (0_usize, 0_usize, 0);
    // Functions whose body is another function.
    let mut functions = 0_usize;
    let mut word = String::new();
    let mut at_command = true;
    let mut last = ' ';
    for c in script.chars().chain(Some('\n')) {
        if c.is_ascii_alphabetic() {
            if word.len() < 10 {
                word.push(c);
            }
            continue;
        }
        if !word.is_empty() {
            if word == "function" {
                functions += 1;
            } else if at_command && BEGIN.contains(&word.as_str()) {
                compounds += 1;
            } else if at_command && END.contains(&word.as_str()) {
                compounds = compounds.saturating_sub(1);
            }
            at_command = BEFORE_COMMAND.contains(&word.as_str());
            word.clear();
            last = 'a';
        }
        match c {
            '(' => brackets += 1,
            ')' => {
                brackets = brackets.saturating_sub(1);
                functions += usize::from(last == '(');
            }
            '{' => {
                brackets += 1;
                functions = 0;
            }
            '}' => brackets = brackets.saturating_sub(1),
            _ => {}
        }
        let separates = matches!(c, '\n' | ';' | '&' | '|' | '(' | ')' | '{' | '}' | '!' | '`');
        at_command = separates || at_command && matches!(c, ' ' | '\t');
        if !matches!(c, ' ' | '\t') {
            last = c;
        }
        deepest = deepest.max(brackets + compounds + functions);
    }
    deepest
}

/// The script without the lines of here-documents whose delimiter is quoted: these are not parsed.
fn without_here_documents(script: &str) -> String {
    let mut kept = String::new();
    let mut lines = script.lines();
    while let Some(line) = lines.next() {
        kept.push_str(line);
        kept.push('\n');
        let Some((_, after)) = line.split_once("<<") else { continue };
        let after = after.strip_prefix('-').unwrap_or(after).trim_start();
        let delimiter = ['\'', '"'].iter().find_map(|quote| after.strip_prefix(*quote)?.split(*quote).next());
        let Some(delimiter) = delimiter else { continue };
        let mut rest = lines.clone();
        if rest.any(|line| line.trim_start_matches('\t') == delimiter) {
            lines = rest;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_ordinary_scripts() {
        let long = format!("cat > a <<'E'\n{}E\n", "if for while case `x` f(a) {b} (see c)\n".repeat(500));
        for script in ["", "for x in a; do if b; then c; fi; done", &long] {
            assert_eq!(refuse(script), None);
        }
    }

    #[test]
    fn refuses_scripts_that_exhaust_the_parser() {
        for part in
            ["(", "$(", "{ ", "if ", "if a; then ", "while ", "case a in a) ", "f() ", "function f ", "${x:-", "<("]
        {
            assert!(refuse(&part.repeat(70)).is_some(), "{part}");
        }
        for part in ["for x in a; do ", "select x in a; do ", "until ", "if a; then b; elif ", "function f() { ", "!("]
        {
            assert!(refuse(&part.repeat(70)).is_some(), "{part}");
        }
        assert!(refuse(&"a $(b `c ".repeat(15)).is_some());
        assert!(refuse(&"a; ".repeat(1001)).is_some());
        assert!(refuse(&"a ".repeat(100_000)).is_some());
    }
}
