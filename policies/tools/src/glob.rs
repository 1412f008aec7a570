//! Globs for paths, programs, arguments, tools and hosts.
//!
//! `?` matches one character except `/`, `*` any number of them, `[…]` one of a set, `**/` any number of folders, and `/**` at
//! the end a folder and everything in it. `\` quotes the next character.
//!
//! The text that is matched may have unknown parts, see [`crate::text`].

use crate::text::{DYNAMIC, ONE, STAR};

/// The most tokens of one glob: its states fit into the bits of a number.
const MAX_TOKENS: usize = 120;

/// Literal characters that the last part of a text with wildcards must have so that it may be the name of a file that a glob
/// names. `cat *` is not a reason to suspect that a key is read.
const MIN_LITERAL: usize = 2;

/// Whether something matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Match {
    No,
    /// It depends on a part that is not known.
    Maybe,
    Yes,
}

#[derive(Clone, Debug)]
pub(crate) struct Glob {
    tokens: Vec<Token>,
    /// The longest literal part: a text without it does not match. Without tokens, the whole glob.
    literal: String,
    /// Whether the last part of a path may begin with anything.
    last_is_open: bool,
}

#[derive(Clone, Debug)]
enum Token {
    Char(char),
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    One,
    Star,
    /// `**` that is not a whole part of a path.
    Any,
    /// `**/`: what follows may begin here. Always followed by [`Token::Folders`].
    FoldersStart,
    /// Inside the folders that `**/` matches.
    Folders,
    /// `/**` at the end.
    Tail,
    /// Inside what `/**` matches.
    InTail,
}

impl Glob {
    /// # Errors
    /// What is wrong with the glob.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        if !text.contains(['*', '?', '[', '\\']) && !text.is_empty() && text.len() <= MAX_TOKENS {
            return Ok(Self { tokens: Vec::new(), literal: text.to_owned(), last_is_open: false });
        }
        let mut tokens = Vec::new();
        let chars: Vec<char> = text.chars().collect();
        let mut at = 0;
        while let Some(&c) = chars.get(at) {
            let rest = &chars[at..];
            let starts_part = at == 0 || chars[at - 1] == '/';
            match c {
                '/' if rest == ['/', '*', '*'] => {
                    tokens.extend([Token::Tail, Token::InTail]);
                    break;
                }
                '*' if starts_part && rest.starts_with(&['*', '*', '/']) => {
                    tokens.extend([Token::FoldersStart, Token::Folders]);
                    at += 2;
                }
                '*' if rest.starts_with(&['*', '*']) => {
                    tokens.push(Token::Any);
                    at += 1;
                }
                '*' => tokens.push(Token::Star),
                '?' => tokens.push(Token::One),
                '[' => {
                    let (class, length) = class(rest).ok_or("a `[` is not closed; quote it as `\\[`")?;
                    tokens.push(class);
                    at += length - 1;
                }
                '\\' => {
                    at += 1;
                    let quoted = chars.get(at).ok_or("a `\\` at the end quotes nothing")?;
                    tokens.push(Token::Char(*quoted));
                }
                c => tokens.push(Token::Char(c)),
            }
            at += 1;
        }
        match tokens.len() {
            0 => Err("must not be empty".to_owned()),
            1..=MAX_TOKENS => {
                let last_is_open = text.rsplit('/').next().is_some_and(|last| last.starts_with(['*', '?', '[']));
                Ok(Self { literal: longest_literal(&tokens), tokens, last_is_open })
            }
            _ => Err(format!("must have at most {MAX_TOKENS} characters")),
        }
    }

    /// Whether every text that the subject can stand for matches.
    pub(crate) fn covers(&self, subject: &str) -> bool {
        if self.tokens.is_empty() {
            return subject == self.literal;
        }
        if !subject.contains(&self.literal) {
            return false;
        }
        let mut states = self.enter(0);
        for c in subject.chars() {
            states = self.step(states, c);
            if states == 0 {
                return false;
            }
        }
        self.accepts(states)
    }

    /// Whether the path matches. A path with wildcards may match, if the last part of it has enough literal characters;
    /// a path with a [`DYNAMIC`] part only matches if it does so whatever that part is.
    pub(crate) fn path(&self, subject: &str) -> Match {
        if self.covers(subject) {
            return Match::Yes;
        }
        let last = subject.rsplit('/').next().unwrap_or_default();
        let literal = last.chars().filter(|c| !matches!(*c, STAR | ONE)).count();
        if subject.contains(DYNAMIC) || !subject.contains([STAR, ONE]) || literal < MIN_LITERAL {
            return Match::No;
        }
        if last.starts_with([STAR, ONE]) && !self.last_is_open {
            return Match::No;
        }
        if self.overlaps(subject) { Match::Maybe } else { Match::No }
    }

    /// Whether the word matches; one with an unknown part may.
    pub(crate) fn word(&self, subject: &str) -> Match {
        if self.covers(subject) {
            Match::Yes
        } else if subject.contains([STAR, ONE, DYNAMIC]) && self.overlaps(subject) {
            Match::Maybe
        } else {
            Match::No
        }
    }

    /// Whether some text that the subject can stand for matches.
    fn overlaps(&self, subject: &str) -> bool {
        if self.tokens.is_empty() {
            let tokens = self.literal.chars().map(Token::Char).collect();
            return Self { tokens, ..self.clone() }.overlaps(subject);
        }
        let mut states = self.enter(0);
        let mut starts_part = true;
        for c in subject.chars() {
            states = match c {
                ONE => self.step_unknown(states, false, !starts_part),
                STAR | DYNAMIC => {
                    let slashes = c == DYNAMIC;
                    let mut all = states | self.step_unknown(states, slashes, !starts_part || slashes);
                    loop {
                        let more = all | self.step_unknown(all & !states, slashes, true);
                        if more == all {
                            break all;
                        }
                        all = more;
                    }
                }
                c => self.step(states, c),
            };
            if states == 0 {
                return false;
            }
            starts_part = c == '/';
        }
        self.accepts(states)
    }

    fn accepts(&self, states: u128) -> bool {
        states & (1 << self.tokens.len()) != 0
    }

    /// The states in which matching can be on entering a token.
    fn enter(&self, index: usize) -> u128 {
        let own = 1 << index;
        match self.tokens.get(index) {
            Some(Token::Star | Token::Any) => own | self.enter(index + 1),
            Some(Token::FoldersStart) => self.enter(index + 2) | (1 << (index + 1)),
            Some(Token::Tail) => own | (1 << (index + 2)),
            _ => own,
        }
    }

    fn step(&self, states: u128, c: char) -> u128 {
        self.advance(states, |index| match (&self.tokens[index], c) {
            (Token::Char(own), c) => (*own == c, false, true),
            (Token::Class { negated, ranges }, c) => {
                let known = c != '/' && !matches!(c, STAR | ONE | DYNAMIC);
                (known && ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) != *negated, false, true)
            }
            (Token::One, c) => (!matches!(c, '/' | STAR | DYNAMIC), false, true),
            (Token::Star, c) => (false, !matches!(c, '/' | DYNAMIC), true),
            (Token::Any, _) => (false, true, true),
            (Token::FoldersStart, _) => (false, false, false),
            (Token::Folders, c) => (c == '/', true, true),
            (Token::Tail, c) => (c == '/', false, true),
            (Token::InTail, _) => (true, true, false),
        })
    }

    /// A step over one unknown character.
    fn step_unknown(&self, states: u128, slashes: bool, dots: bool) -> u128 {
        self.advance(states, |index| match &self.tokens[index] {
            Token::Char('/') => (slashes, false, true),
            Token::Char('.') => (dots, false, true),
            Token::Char(_) | Token::Class { .. } | Token::One => (true, false, true),
            Token::Star => (false, true, true),
            Token::Any => (false, true, true),
            Token::FoldersStart => (false, false, false),
            Token::Folders => (slashes, true, true),
            Token::Tail => (slashes, false, true),
            Token::InTail => (true, true, false),
        })
    }

    /// The states after a character. For each state: whether the next token is entered, whether this state is kept, and
    /// whether entering includes what can be skipped.
    fn advance(&self, states: u128, step: impl Fn(usize) -> (bool, bool, bool)) -> u128 {
        let mut next = 0;
        let mut left = states & !(1 << self.tokens.len());
        while left != 0 {
            let index = left.trailing_zeros() as usize;
            left &= left - 1;
            let (enters, stays, skips) = step(index);
            if enters {
                next |= if skips { self.enter(index + 1) } else { 1 << (index + 1) };
            }
            if stays {
                next |= 1 << index;
                // What a star matched may end here.
                if matches!(self.tokens[index], Token::Star | Token::Any) {
                    next |= self.enter(index + 1);
                }
            }
        }
        next
    }
}

fn longest_literal(tokens: &[Token]) -> String {
    let parts = tokens.split(|token| !matches!(token, Token::Char(_)));
    let longest = parts.max_by_key(|part| part.len()).unwrap_or_default();
    longest.iter().filter_map(|token| if let Token::Char(c) = token { Some(*c) } else { None }).collect()
}

/// The class at the beginning of the text, and how many characters it has.
fn class(text: &[char]) -> Option<(Token, usize)> {
    let mut at = 1;
    let negated = matches!(text.get(at), Some('!' | '^'));
    at += usize::from(negated);
    let first = at;
    let mut ranges = Vec::new();
    loop {
        let from = *text.get(at)?;
        if from == ']' && at > first {
            return Some((Token::Class { negated, ranges }, at + 1));
        }
        if text.get(at + 1) == Some(&'-') && text.get(at + 2).is_some_and(|to| *to != ']') {
            ranges.push((from, text[at + 2]));
            at += 3;
        } else {
            ranges.push((from, from));
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    #[test]
    fn globs_match_parts_of_paths() {
        for (glob, yes, no) in [
            ("**/.env", &["/a/b/.env", ".env", "/.env"][..], &["/a/.env.example", "/a/b.env", ".envx"][..]),
            ("~/.ssh/**", &["~/.ssh", "~/.ssh/a", "~/.ssh/a/b"], &["~/.sshx", "~/.ss", "/.ssh/a"]),
            ("*.pem", &["a.pem", ".pem"], &["a/b.pem", "a.pe"]),
            ("/a/**/b", &["/a/b", "/a/x/b", "/a/x/y/b"], &["/a/xb", "/b", "/ab"]),
            ("id_[a-z]*", &["id_rsa", "id_x"], &["id_", "id_1"]),
            ("[!a]?", &["bx"], &["ax", "b", "b/"]),
            ("a**z", &["a/x/z", "az"], &["a/x"]),
            ("a\\*", &["a*"], &["ab"]),
            ("**", &["", "a/b"], &[]),
        ] {
            let glob = Glob::new(glob).unwrap();
            for text in yes {
                assert!(glob.covers(text), "{glob:?} {text}");
            }
            for text in no {
                assert!(!glob.covers(text), "{glob:?} {text}");
            }
        }
        assert!(["", "[a", "a\\", &"x".repeat(121)].iter().all(|glob| Glob::new(glob).is_err()));
    }

    #[test]
    fn texts_with_unknown_parts_match_fully_or_perhaps() {
        let path = |glob: &str, text: &str| {
            let text = text.replace('*', "\u{f8f0}").replace('?', "\u{f8f1}").replace('$', "\u{f8f2}");
            Glob::new(glob).unwrap().path(&text)
        };
        assert_eq!(path("**/.ssh/**", "/home/me/.ssh/*"), Match::Yes);
        assert_eq!(path("**/.env", "$/.env"), Match::Yes);
        assert_eq!(path("**/.env", "/w/.e*"), Match::Maybe);
        assert_eq!(path("**/.env", "/w/.e?v"), Match::Maybe);
        assert_eq!(path("**/id_*", "/w/id_?sa"), Match::Yes);
        for (glob, text) in [
            ("**/.env", "/w/*"),
            ("**/.env", "/w/*nv"),
            ("**/*.pem", "/w/*"),
            ("**/.env", "/w/$"),
            ("**/.env", "/w/$x"),
            ("**/.env", "/w/*.rs"),
            ("**/id_ecdsa*", "/w/*.rs"),
        ] {
            assert_eq!(path(glob, text), Match::No, "{glob} {text}");
        }
    }
}
