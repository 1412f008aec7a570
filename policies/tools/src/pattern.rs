//! Patterns of commands, as settings and the built-in rules write them.
//!
//! `git push -f|--force` matches the program `git` whose first operand is `push` and that has one of the two options, in any
//! order and with whatever else it has. The words of a pattern:
//!
//! - The first is the program, without its folder.
//! - A word that begins with `-` is an option that the command must have. `-f=GLOB` also says what its value must be.
//!   `!-n` is an option that it must not have.
//! - Every other word is an operand: the first ones of the command, in this order. `...` stands for any number of operands.
//!
//! Each word is one or several globs, separated by `|`.

use crate::act::{Command, Operand, Opt};
use crate::glob::{Glob, Match};

#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    programs: Vec<Glob>,
    options: Vec<Vec<OptionPattern>>,
    excluded: Vec<Vec<OptionPattern>>,
    /// None stands for any number of operands.
    operands: Vec<Option<Vec<Glob>>>,
}

#[derive(Clone, Debug)]
struct OptionPattern {
    text: String,
    name: Glob,
    value: Option<Glob>,
}

impl Pattern {
    /// # Errors
    /// What is wrong with the pattern.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let program = words.next().ok_or("must name a program")?;
        if program.starts_with('-') || program == "..." {
            return Err(format!("must begin with the name of a program, not with `{program}`"));
        }
        if program.contains('/') {
            let name = program.rsplit('/').next().unwrap_or_default();
            return Err(format!("names a program by its path; use only its name, `{name}`"));
        }
        if let Some(separator) = text.split_whitespace().find(|word| matches!(*word, "&&" | "||" | ";" | "|" | "&")) {
            return Err(format!(
                "is a pattern of one command and cannot contain `{separator}`; use one pattern for each command"
            ));
        }
        let mut pattern =
            Self { programs: globs(program)?, options: Vec::new(), excluded: Vec::new(), operands: Vec::new() };
        for word in words {
            if let Some(excluded) = word.strip_prefix("!-") {
                pattern.excluded.push(options(&format!("-{excluded}"))?);
            } else if word.starts_with('-') {
                pattern.options.push(options(word)?);
            } else if word == "..." {
                pattern.operands.push(None);
            } else {
                pattern.operands.push(Some(globs(word)?));
            }
        }
        Ok(pattern)
    }

    /// How much of a command it names. A rule that allows must name as much as a built-in rule that it lowers.
    pub(crate) fn detail(&self) -> usize {
        self.options.len() + self.operands.iter().flatten().count()
    }

    /// Whether the command matches. `strict`: what only might be meant does not.
    pub(crate) fn matches(&self, command: &Command, strict: bool) -> Match {
        let program = any(&self.programs, |glob| glob.word(&command.program));
        if program != Match::Yes {
            // Nothing is known of a program whose name is not; that is reported by itself.
            return Match::No;
        }
        if strict && !command.is_usual {
            return Match::No;
        }
        let has = |alternatives: &Vec<OptionPattern>, strict| {
            any(alternatives, |pattern| any(&command.options, |option| pattern.matches(option, strict)))
        };
        if self.excluded.iter().any(|alternatives| has(alternatives, true) == Match::Yes) {
            return Match::No;
        }
        let options = all(&self.options, |alternatives| has(alternatives, strict));
        options.min(operands(&self.operands, &command.operands, strict))
    }

    /// The part of a command that matches, for a message.
    pub(crate) fn shown(&self, command: &Command) -> String {
        let operands = self.operands.iter().take_while(|operand| operand.is_some()).count();
        let operands = command.operands.iter().take(operands).map(|operand| operand.text.as_str());
        let options = self.options.iter().filter_map(|alternatives| {
            let matching =
                |option: &&Opt| alternatives.iter().any(|pattern| pattern.matches(option, false) == Match::Yes);
            command.options.iter().find(matching).map(|option| option.name.as_str())
        });
        let words: Vec<&str> = Some(command.program.as_str()).into_iter().chain(operands).chain(options).collect();
        words.join(" ")
    }
}

impl OptionPattern {
    fn matches(&self, option: &Opt, strict: bool) -> Match {
        let named = self.name.covers(&option.name)
            // Most programs accept the beginning of a long option.
            || !strict && option.name.len() > 2 && option.name.starts_with("--") && self.text.starts_with(&option.name);
        match (&self.value, &option.value) {
            _ if !named => Match::No,
            (None, _) => Match::Yes,
            (Some(glob), Some(value)) => glob.word(value),
            (Some(_), None) => Match::No,
        }
    }
}

/// Whether operands match. One that may be the value of an option can be skipped, unless that is `strict`.
fn operands(patterns: &[Option<Vec<Glob>>], operands_left: &[Operand], strict: bool) -> Match {
    let Some((first, patterns_left)) = patterns.split_first() else { return Match::Yes };
    let Some(globs) = first else {
        // `...`
        let most = operands_left.len().min(64);
        return any(&(0..=most).collect::<Vec<_>>(), |skipped| {
            operands(patterns_left, &operands_left[*skipped..], strict)
        });
    };
    let Some((operand, left)) = operands_left.split_first() else { return Match::No };
    let mut here = any(globs, |glob| glob.word(&operand.text));
    if here != Match::No {
        here = here.min(operands(patterns_left, left, strict));
    }
    if strict && operand.may_be_value {
        // The operand that counts may be another one.
        return Match::No;
    }
    let skipped = if operand.may_be_value && !strict { operands(patterns, left, strict) } else { Match::No };
    here.max(skipped)
}

fn any<T>(list: &[T], matches: impl Fn(&T) -> Match) -> Match {
    list.iter().map(matches).max().unwrap_or(Match::No)
}

fn all<T>(list: &[T], matches: impl Fn(&T) -> Match) -> Match {
    list.iter().map(matches).min().unwrap_or(Match::Yes)
}

fn globs(word: &str) -> Result<Vec<Glob>, String> {
    word.split('|').map(|text| Glob::new(text).map_err(|error| format!("`{word}`: {error}"))).collect()
}

fn options(word: &str) -> Result<Vec<OptionPattern>, String> {
    word.split('|')
        .map(|text| {
            let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
            if !name.starts_with('-') {
                return Err(format!("`{word}`: an alternative of an option must begin with `-`"));
            }
            let glob = |text: &str| Glob::new(text).map_err(|error| format!("`{word}`: {error}"));
            Ok(OptionPattern { text: name.to_owned(), name: glob(name)?, value: value.map(glob).transpose()? })
        })
        .collect()
}
