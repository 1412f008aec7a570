//! The words of a script: substitutions inside them, and their values after expansion.
//!
//! The parser says where a word begins and ends. Quotes, variables and braces in it are handled here, as the shell does it
//! after parsing.

use std::collections::BTreeMap;

use rable::{Node, NodeKind};

use super::braces::{braces, closing_brace};
use crate::text::{DYNAMIC, ONE, STAR};

/// Attempts to find the end of a substitution, and the bytes that they may parse.
const MAX_ATTEMPTS: usize = 64;
const MAX_ATTEMPTED: usize = 256 << 10;

/// Variables and substitutions in one word, or in one here-document.
const MAX_EXPANSIONS: usize = 500;

/// A raw word whose substitutions were replaced by [`DYNAMIC`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Stripped {
    pub(crate) raw: String,
    /// The scripts of the substitutions.
    pub(crate) scripts: Vec<String>,
    /// Whether a substitution was found whose end is not clear.
    pub(crate) unclear: bool,
}

/// How quotes count in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quoting {
    /// A word of a script.
    Word,
    /// A here-document or an arithmetic expression: single quotes have no effect.
    Text,
}

/// Takes the substitutions out of a raw text. `parts` are the parser's parts of a word.
///
/// In doubt, a text counts as a substitution: behind `${`, `$((` and `$[`, whose quoting has rules of its own, single quotes
/// do not protect it.
pub(crate) fn strip(raw: &str, parts: &[Node], quoting: Quoting) -> Stripped {
    let mut stripped = Stripped::default();
    let chars: Vec<(usize, char)> = raw.char_indices().collect();
    let (mut at, mut double, mut single_quotes) = (0, false, quoting == Quoting::Word);
    let end_of = |position: usize| chars.get(position).map_or(raw.len(), |(offset, _)| *offset);
    let mut expansions = 0;
    while let Some(&(offset, c)) = chars.get(at) {
        let rest = &raw[offset..];
        expansions += usize::from(matches!(c, '$' | '`' | '<' | '>'));
        if expansions > MAX_EXPANSIONS {
            stripped.unclear = true;
            stripped.raw.push(DYNAMIC);
            return stripped;
        }
        let mut length = 1;
        match c {
            '\\' => length = 2,
            '"' if quoting == Quoting::Word => double = !double,
            '\'' if single_quotes && !double => {
                length = 1 + chars[at + 1..].iter().take_while(|(_, c)| *c != '\'').count() + 1;
            }
            '$' if single_quotes && !double && rest.starts_with("$'") => length = ansi_c(rest).1,
            '$' if rest.starts_with("$((") || rest.starts_with("$[") || rest.starts_with("${") => {
                single_quotes = false;
                if rest.starts_with("$((") {
                    // A subshell in a command substitution can begin like arithmetic.
                    if let Some((script, taken)) = substitution(rest, &[]) {
                        stripped.take(script);
                        at += taken;
                        continue;
                    }
                    let inside: Vec<char> = rest[1..].chars().collect();
                    let end = closing_parenthesis(&inside, 0);
                    let inside: String = inside[..end].iter().skip(2).take(end.saturating_sub(4)).collect();
                    stripped.scripts.extend(not_arithmetic(&inside));
                }
            }
            '$' | '<' | '>' if rest[1..].starts_with('(') && (c == '$' || quoting == Quoting::Word && !double) => {
                let Some((script, taken)) = substitution(rest, if stripped.scripts.is_empty() { parts } else { &[] })
                else {
                    stripped.unclear = true;
                    stripped.raw.push(DYNAMIC);
                    return stripped;
                };
                stripped.take(script);
                at += taken;
                continue;
            }
            '`' => {
                let Some((script, taken)) = backquoted(rest, double) else {
                    stripped.unclear = true;
                    stripped.raw.push(DYNAMIC);
                    return stripped;
                };
                stripped.take(script);
                at += taken;
                continue;
            }
            _ => {}
        }
        stripped.raw.push_str(&raw[offset..end_of(at + length)]);
        at += length;
    }
    stripped
}

impl Stripped {
    fn take(&mut self, script: String) {
        self.raw.push(DYNAMIC);
        self.scripts.push(script);
    }
}

/// The script of the `$(…)`, `<(…)` or `>(…)` at the beginning of the text, and how many characters it takes. None if there
/// is none, or its end is not clear.
///
/// The end is where the parser accepts the text until there as one substitution.
fn substitution(text: &str, parts: &[Node]) -> Option<(String, usize)> {
    // A word with one substitution: what follows it is known.
    let mut substitutions = parts.iter().enumerate().filter(|(_, part)| is_substitution(part));
    if let (Some((index, _)), None) = (substitutions.next(), substitutions.next())
        && let Some(end) = literal_length(&parts[index + 1..]).and_then(|after| text.len().checked_sub(after))
        && text.is_char_boundary(end)
        && text[..end].ends_with(')')
        && let Candidate::Script(script) = candidate(&text[..end])
    {
        return Some((script, text[..end].chars().count()));
    }
    let mut depth = 0_usize;
    // Where the parentheses are balanced, it probably ends.
    let mut unlikely = Vec::new();
    let mut attempted = (0, 0);
    let mut attempt = |end: usize| {
        attempted = (attempted.0 + 1, attempted.1 + end);
        if attempted.0 > MAX_ATTEMPTS || attempted.1 > MAX_ATTEMPTED {
            return Some(None);
        }
        match candidate(&text[..end]) {
            Candidate::Script(script) => Some(Some((script, text[..end].chars().count()))),
            Candidate::Arithmetic => Some(None),
            Candidate::Incomplete => None,
        }
    };
    for (index, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => {
                depth = depth.saturating_sub(1);
                if depth > 0 && !text[..index].ends_with('\n') {
                    unlikely.push(index + 1);
                } else if let Some(result) = attempt(index + 1) {
                    return result;
                }
            }
            _ => {}
        }
    }
    unlikely.into_iter().find_map(attempt).flatten()
}

/// What a text that ends with a parenthesis is.
enum Candidate {
    Script(String),
    Arithmetic,
    Incomplete,
}

fn candidate(text: &str) -> Candidate {
    let Ok(nodes) = rable::parse(&format!(": {text}"), false) else { return Candidate::Incomplete };
    let [Node { kind: NodeKind::Command { words, redirects, .. }, .. }] = &nodes[..] else {
        return Candidate::Incomplete;
    };
    let [_, Node { kind: NodeKind::Word { value, parts, .. }, .. }] = &words[..] else { return Candidate::Incomplete };
    let [part] = &parts[..] else { return Candidate::Incomplete };
    if value != text || !redirects.is_empty() {
        return Candidate::Incomplete;
    }
    match part.kind {
        // A substitution that is nested deeper than the parser resolves is a literal.
        NodeKind::CommandSubstitution { .. } | NodeKind::ProcessSubstitution { .. } | NodeKind::WordLiteral { .. } => {}
        // `$((a); b)` only begins like arithmetic.
        NodeKind::ArithmeticExpansion { .. } if !text.ends_with("))") => {}
        NodeKind::ArithmeticExpansion { .. } => return Candidate::Arithmetic,
        _ => return Candidate::Incomplete,
    }
    text.get(2..text.len() - 1).map_or(Candidate::Incomplete, |script| Candidate::Script(script.to_owned()))
}

fn is_substitution(part: &Node) -> bool {
    match &part.kind {
        NodeKind::CommandSubstitution { .. } | NodeKind::ProcessSubstitution { .. } => true,
        NodeKind::WordLiteral { value } => ["$(", "<(", ">("].iter().any(|begin| value.starts_with(begin)),
        _ => false,
    }
}

/// The length of parts that are literals.
fn literal_length(parts: &[Node]) -> Option<usize> {
    parts
        .iter()
        .map(|part| if let NodeKind::WordLiteral { value } = &part.kind { Some(value.len()) } else { None })
        .sum()
}

/// What an arithmetic text may be instead: `((a); (b))` are commands. None if it is arithmetic.
pub(crate) fn not_arithmetic(text: &str) -> Option<String> {
    let known: String = strip(text, &[], Quoting::Text).raw.replace(DYNAMIC, "1");
    let nodes = rable::parse(&format!(": $(({known}))"), false).ok()?;
    let [Node { kind: NodeKind::Command { words, .. }, .. }] = &nodes[..] else { return None };
    let [_, Node { kind: NodeKind::Word { parts, .. }, .. }] = &words[..] else { return None };
    let is_arithmetic =
        matches!(&parts[..], [Node { kind: NodeKind::ArithmeticExpansion { expression: Some(_) }, .. }]);
    let script = format!("({text})");
    (!is_arithmetic && rable::parse(&script, false).is_ok()).then_some(script)
}

/// The script of the backquotes at the beginning of the text, and how many characters it takes.
fn backquoted(text: &str, double: bool) -> Option<(String, usize)> {
    let mut script = String::new();
    let mut chars = text.chars().enumerate().skip(1);
    while let Some((index, c)) = chars.next() {
        match c {
            '`' => return Some((script, index + 1)),
            '\\' => {
                let (_, next) = chars.next()?;
                if !(matches!(next, '\\' | '$' | '`') || double && next == '"') {
                    script.push('\\');
                }
                script.push(next);
            }
            c => script.push(c),
        }
    }
    None
}

/// The value of the `$'…'` at the beginning of the text, and how many characters it takes.
fn ansi_c(text: &str) -> (String, usize) {
    let chars: Vec<char> = text.chars().collect();
    let mut value = String::new();
    let mut at = 2;
    while let Some(&c) = chars.get(at) {
        at += 1;
        match c {
            '\'' => return (value, at),
            '\\' => {
                let escaped = chars.get(at).copied().unwrap_or('\\');
                at += 1;
                if let Some((radix, most, from)) = match escaped {
                    'x' => Some((16, 2, at)),
                    'u' => Some((16, 4, at)),
                    'U' => Some((16, 8, at)),
                    '0'..='7' => Some((8, 3, at - 1)),
                    _ => None,
                } {
                    let digits =
                        chars.iter().skip(from).take(most).take_while(|c| c.is_digit(radix)).collect::<String>();
                    at = from + digits.len();
                    value.push(u32::from_str_radix(&digits, radix).ok().and_then(char::from_u32).unwrap_or(DYNAMIC));
                    continue;
                }
                value.push(match escaped {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    'a' | 'b' | 'f' | 'v' | 'e' | 'E' => '\u{1}',
                    'c' => DYNAMIC,
                    c => c,
                });
            }
            c => value.push(c),
        }
    }
    (value, at)
}

/// The values of variables that a script sets to texts that are known.
pub(crate) type Values = BTreeMap<String, Vec<String>>;

/// Which of its values each variable has.
pub(crate) type Choice = BTreeMap<String, usize>;

/// Names of the variables in a raw word.
pub(crate) fn variables(raw: &str) -> impl Iterator<Item = &str> {
    raw.match_indices('$').filter_map(|(index, _)| {
        let rest = &raw[index + 1..];
        let rest = rest.strip_prefix('{').unwrap_or(rest);
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        (end > 0).then(|| &rest[..end])
    })
}

/// What a word expands to: none or several words, each with unknown parts as in [`crate::text`].
pub(crate) fn expand(stripped: &str, values: &Values, choice: &Choice) -> Vec<String> {
    braces(stripped)
        .iter()
        .flat_map(|word| Expansion { values, choice, words: Vec::new(), open: None }.run(word))
        .collect()
}

struct Expansion<'a> {
    values: &'a Values,
    choice: &'a Choice,
    words: Vec<String>,
    /// The word that is being built.
    open: Option<String>,
}

impl Expansion<'_> {
    fn run(mut self, raw: &str) -> Vec<String> {
        let chars: Vec<char> = raw.chars().collect();
        let (mut at, mut double) = (0, false);
        while let Some(&c) = chars.get(at) {
            at += 1;
            match c {
                '\\' => {
                    let next = chars.get(at).copied();
                    at += 1;
                    match next {
                        Some('\n') => {}
                        Some(c) if !double || matches!(c, '$' | '`' | '"' | '\\') => self.push(c),
                        Some(c) => {
                            self.push('\\');
                            self.push(c);
                        }
                        None => self.push('\\'),
                    }
                }
                '"' => {
                    double = !double;
                    self.begin();
                }
                '\'' if !double => {
                    self.begin();
                    while let Some(&c) = chars.get(at).filter(|c| **c != '\'') {
                        self.push(c);
                        at += 1;
                    }
                    at += 1;
                }
                '$' if !double && chars.get(at) == Some(&'\'') => {
                    let rest: String = chars[at - 1..].iter().collect();
                    let (value, length) = ansi_c(&rest);
                    self.begin();
                    value.chars().for_each(|c| self.push(c));
                    at += length - 1;
                }
                // A text that is translated, a string in the current language.
                '$' if !double && chars.get(at) == Some(&'"') => {}
                '$' => at = self.variable(&chars, at, double),
                '*' if !double => self.push(STAR),
                '?' if !double => self.push(ONE),
                '[' if !double => match chars[at..].iter().position(|c| *c == ']').filter(|length| *length > 0) {
                    Some(length) if !chars[at..at + length].contains(&'/') => {
                        self.push(ONE);
                        at += length + 1;
                    }
                    _ => self.push('['),
                },
                c => self.push(c),
            }
        }
        self.words.extend(self.open);
        self.words
    }

    fn begin(&mut self) {
        self.open.get_or_insert_default();
    }

    fn push(&mut self, c: char) {
        self.open.get_or_insert_default().push(c);
    }

    /// Adds the value of the variable whose name begins at the position, and returns the position behind it.
    fn variable(&mut self, chars: &[char], at: usize, double: bool) -> usize {
        let name_of = |from: usize| -> String {
            chars[from..].iter().take_while(|c| c.is_ascii_alphanumeric() || **c == '_').collect()
        };
        let (name, rest, end) = match chars.get(at) {
            Some('{') => {
                let Some(close) = closing_brace(chars, at) else {
                    self.push(DYNAMIC);
                    return chars.len();
                };
                let name = name_of(at + 1);
                let rest: String = chars[at + 1 + name.len()..close].iter().collect();
                (name, rest, close + 1)
            }
            Some(c) if c.is_ascii_alphabetic() || *c == '_' => {
                let name = name_of(at);
                let end = at + name.len();
                (name, String::new(), end)
            }
            Some(c) if c.is_ascii_digit() || "@*#?!-$".contains(*c) => (String::new(), String::new(), at + 1),
            Some('[') => {
                let length = chars[at..].iter().position(|c| *c == ']').map_or(chars.len() - at, |length| length + 1);
                (String::new(), String::new(), at + length)
            }
            // What remains of an arithmetic expression.
            Some('(') => {
                self.push(DYNAMIC);
                return closing_parenthesis(chars, at);
            }
            _ => {
                self.push('$');
                return at;
            }
        };
        let is_list = rest.starts_with("[@]") || rest.starts_with("[*]");
        let known = self.values.get(&name).filter(|_| rest.is_empty() || is_list || rest.starts_with('['));
        let default =
            ["-", "=", "+"].iter().find_map(|sign| rest.strip_prefix(':').unwrap_or(&rest).strip_prefix(sign));
        let value = match (known, default) {
            (Some(values), _) => {
                let index = self.choice.get(&name).copied();
                if values.len() > 1 && index.is_none() { None } else { values.get(index.unwrap_or(0)).cloned() }
            }
            // Of a variable that is not set, or set to what is not known.
            (None, Some(text)) if !self.values.contains_key(&name) => Some(
                Expansion { values: self.values, choice: self.choice, words: Vec::new(), open: None }
                    .run(text)
                    .join(" "),
            ),
            _ => None,
        };
        let Some(value) = value else {
            self.push(DYNAMIC);
            return end;
        };
        if double && !is_list {
            self.begin();
            value.chars().for_each(|c| self.push(c));
            return end;
        }
        for c in value.chars() {
            match c {
                c if c.is_ascii_whitespace() => self.words.extend(self.open.take()),
                '*' if !double => self.push(STAR),
                '?' if !double => self.push(ONE),
                c => self.push(c),
            }
        }
        end
    }
}

/// The position behind the parenthesis that closes the one at `at`.
fn closing_parenthesis(chars: &[char], at: usize) -> usize {
    let mut depth = 0_usize;
    for (index, c) in chars[at..].iter().enumerate() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at + index + 1;
        }
    }
    chars.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(raw: &str) -> Vec<String> {
        let values = [("X", vec!["/etc"]), ("L", vec!["rm -rf", "ls"]), ("IFS", vec![" \n"])];
        let values = values
            .into_iter()
            .map(|(name, all)| (name.to_owned(), all.into_iter().map(str::to_owned).collect()))
            .collect();
        let choice = Choice::from([("L".to_owned(), 0)]);
        let words = expand(&strip(raw, &[], Quoting::Word).raw, &values, &choice);
        words.iter().map(|word| word.replace(STAR, "*").replace(ONE, "?").replace(DYNAMIC, "…")).collect()
    }

    #[test]
    fn words_are_expanded_as_the_shell_does() {
        for (raw, words) in [
            (r"r\m", &["rm"][..]),
            ("'rm'\"r\"f", &["rmrf"]),
            (r#""a\b\"c""#, &[r#"a\b"c"#]),
            ("$X/y ", &["/etc/y "]),
            ("${X}", &["/etc"]),
            ("'$X'", &["$X"]),
            ("$L", &["rm", "-rf"]),
            ("\"$L\"", &["rm -rf"]),
            ("rm${IFS}-rf${IFS}/", &["rm", "-rf", "/"]),
            ("${Y:-a b}", &["a", "b"]),
            ("$Y", &["…"]),
            ("a$(b c)d", &["a…d"]),
            ("`a`", &["…"]),
            ("$((1+2))x", &["…x"]),
            ("{a,b}c", &["ac", "bc"]),
            ("{rm,-rf,{x,y}}", &["rm", "-rf", "x", "y"]),
            ("a{1..3}", &["a*"]),
            ("{a}", &["{a}"]),
            ("'{a,b}'", &["{a,b}"]),
            ("*.[ch]?", &["*.??"]),
            ("\"*\"", &["*"]),
            (r"$'r\x6d'", &["rm"]),
            (r"$'\162m'", &["rm"]),
            ("$\"rm\"", &["rm"]),
            ("''", &[""]),
            ("$@", &["…"]),
            ("a$", &["a$"]),
        ] {
            assert_eq!(expanded(raw), words, "{raw}");
        }
    }

    #[test]
    fn substitutions_are_found_where_the_shell_runs_them() {
        let scripts = |raw: &str| strip(raw, &[], Quoting::Word).scripts;
        for (raw, found) in [
            ("$(a)", &["a"][..]),
            ("\"$(a \"b)\" c)\"", &["a \"b)\" c"]),
            ("x$(a $(b))y$(c)", &["a $(b)", "c"]),
            ("`a \\`b\\``", &["a `b`"]),
            ("'$(a)'", &[]),
            ("\\$(a)", &[]),
            ("\"'$(a)'\"", &["a"]),
            ("${x:-$(a)}", &["a"]),
            ("${x:-'}'}$(a)", &["a"]),
            ("\"${x:-\"'$(a)'\"}\"", &["a"]),
            ("$((1+$(a)))", &["a"]),
            ("$[1+$(a)]", &["a"]),
            ("$'\\'$(a)'", &[]),
            ("<(a)", &["a"]),
            (">(a b)", &["a b"]),
            ("$(a # )\n b)", &["a # )\n b"]),
            ("$(case x in x) a;; esac)", &["case x in x) a;; esac"]),
            ("$( (a) )", &[" (a) "]),
            ("$((a); b)", &["(a); b"]),
            ("$(cat <<E\n)\nE\na)", &["cat <<E\n)\nE\na"]),
        ] {
            assert_eq!(scripts(raw), found, "{raw}");
        }
        assert_eq!(strip("it's $(a) 'b'", &[], Quoting::Text).scripts, ["a"]);
        assert!(strip("$(a", &[], Quoting::Text).unclear);
        assert!(strip("`a", &[], Quoting::Text).unclear);
    }
}
