//! Parses a prompt: the first word of its first line selects the action.

use super::talk::{self, TalkAct};
use nix::sys::signal::Signal;
use std::str::FromStr;

/// How the stand-in fails: the failure classes of the plugin interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureClass {
    Unknown,
    Authentication,
    Transient,
    RateLimited,
    ResumeInvalid,
    Usage,
    Limit,
    Incomplete,
}

impl FailureClass {
    pub(super) const ALL: [Self; 8] = [
        Self::Unknown,
        Self::Authentication,
        Self::Transient,
        Self::RateLimited,
        Self::ResumeInvalid,
        Self::Usage,
        Self::Limit,
        Self::Incomplete,
    ];

    /// The name in prompts and in the output.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Authentication => "authentication",
            Self::Transient => "transient",
            Self::RateLimited => "rate-limited",
            Self::ResumeInvalid => "resume-invalid",
            Self::Usage => "usage",
            Self::Limit => "limit",
            Self::Incomplete => "incomplete",
        }
    }
}

/// An action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    Say(String),
    Think(String),
    Json(String),
    Run(String),
    Slow(u64),
    /// KiB.
    Big(u64),
    Usage(u64, u64),
    /// Seed of the made-up secrets.
    Leak(u64),
    Fail {
        class: FailureClass,
        /// Milliseconds to wait before the next try.
        retry_after: Option<u64>,
        once: bool,
    },
    /// Seconds.
    Sleep(u64),
    System,
    Model,
    Turns,
    Tools,
    Files,
    Env(String),
    /// KiB.
    Line(u64),
    /// MiB.
    Flood(u64),
    Raw,
    Signal(Signal),
    /// Seconds.
    Stubborn(u64),
    /// Seconds.
    Orphan(u64),
    Tree {
        processes: u64,
        /// How long they live unless they are ended.
        seconds: u64,
        /// Whether to end without waiting for them.
        leave: bool,
    },
    Talk(TalkAct),
}

/// The words of this module.
const WORDS: [&str; 24] = [
    "SAY", "THINK", "JSON", "RUN", "SLOW", "BIG", "USAGE", "LEAK", "FAIL", "FAILONCE", "SLEEP", "SYSTEM", "MODEL",
    "TURNS", "TOOLS", "FILES", "ENV", "LINE", "FLOOD", "RAW", "SIGNAL", "STUBBORN", "ORPHAN", "TREE",
];

/// Limits, so that a typing error takes neither an hour nor a disk.
const MAX_CHUNKS: u64 = 3_000;
const MAX_BIG_KIB: u64 = 8 * 1024;
const MAX_LINE_KIB: u64 = 1024 * 1024;
const MAX_FLOOD_MIB: u64 = 4 * 1024;
const MAX_SECONDS: u64 = 3_600;
const MAX_PROCESSES: u64 = 200;
const MAX_WAIT_MS: u64 = 600_000;

/// Parses a message of a conversation: if every line begins with a word, each is a step of the turn.
pub(super) fn read_all(prompt: &str) -> Result<Vec<Act>, String> {
    let lines: Vec<&str> = prompt.lines().filter(|line| !line.trim().is_empty()).collect();
    let is_word = |line: &&str| {
        let word = line.split_whitespace().next().unwrap_or_default();
        WORDS.contains(&word) || talk::WORDS.contains(&word)
    };
    if lines.len() > 1 && lines.iter().all(is_word) {
        return lines.into_iter().map(read).collect();
    }
    read(prompt).map(|act| vec![act])
}

/// Parses a prompt. A word with an invalid argument is an error that names both.
pub(super) fn read(prompt: &str) -> Result<Act, String> {
    let prompt = prompt.trim_start_matches(['\n', '\r']).trim_end_matches(['\n', '\r']);
    let first = prompt.lines().next().unwrap_or_default().trim();
    let (word, line_rest) = first.split_once(char::is_whitespace).unwrap_or((first, ""));
    let line_rest = line_rest.trim();
    // For the words that take a text: everything after the word, further lines too.
    let rest = || prompt.trim_start().strip_prefix(word).unwrap_or_default().trim_start_matches([' ', '\t']).to_owned();
    // Input that was piped to the run is not part of a command or a document.
    let alone = || rest().split_once("\n\n<stdin>\n").map_or_else(rest, |(alone, _)| alone.to_owned());
    let mut arguments = line_rest.split_whitespace();
    let mut count = |what: &str, default: Option<u64>, most: u64| match (arguments.next(), default) {
        (None, Some(default)) => Ok(default),
        (given, _) => given
            .and_then(|text| text.parse::<u64>().ok())
            .filter(|number| *number <= most)
            .ok_or_else(|| format!("{word} needs {what}, a number up to {most}")),
    };
    Ok(match word {
        "SAY" => Act::Say(rest()),
        "THINK" => Act::Think(rest()),
        "JSON" => Act::Json(alone()),
        "RUN" if line_rest.is_empty() => return Err("RUN needs a command".to_owned()),
        "RUN" => Act::Run(alone()),
        "SLOW" => Act::Slow(count("how many chunks", None, MAX_CHUNKS)?),
        "BIG" => Act::Big(count("how many KiB", None, MAX_BIG_KIB)?),
        "USAGE" => Act::Usage(count("input tokens", None, u64::MAX)?, count("output tokens", None, u64::MAX)?),
        "LEAK" => Act::Leak(count("a seed", Some(1), u64::MAX)?),
        "FAIL" | "FAILONCE" => fail(word, line_rest)?,
        "SLEEP" => Act::Sleep(count("how many seconds", None, MAX_SECONDS)?),
        "SYSTEM" if line_rest.is_empty() => Act::System,
        "MODEL" if line_rest.is_empty() => Act::Model,
        "TURNS" if line_rest.is_empty() => Act::Turns,
        "TOOLS" if line_rest.is_empty() => Act::Tools,
        "FILES" if line_rest.is_empty() => Act::Files,
        "ENV" if line_rest.is_empty() => return Err("ENV needs the name of a variable".to_owned()),
        "ENV" => Act::Env(line_rest.to_owned()),
        "LINE" => Act::Line(count("how many KiB", None, MAX_LINE_KIB)?),
        "FLOOD" => Act::Flood(count("how many MiB", None, MAX_FLOOD_MIB)?),
        "RAW" if line_rest.is_empty() => Act::Raw,
        "SIGNAL" => Act::Signal(signal(line_rest)?),
        "STUBBORN" => Act::Stubborn(count("how many seconds", Some(60), MAX_SECONDS)?),
        "ORPHAN" => Act::Orphan(count("how many seconds", Some(60), MAX_SECONDS)?),
        "TREE" => {
            let processes = count("how many processes", None, MAX_PROCESSES)?.max(1);
            tree(processes, arguments.next())?
        }
        _ => match talk::read(word, line_rest) {
            Some(act) => Act::Talk(act?),
            None => Act::Say(prompt.to_owned()),
        },
    })
}

fn fail(word: &str, rest: &str) -> Result<Act, String> {
    let mut arguments = rest.split_whitespace();
    let name = arguments.next().unwrap_or("unknown");
    let class = FailureClass::ALL.into_iter().find(|class| class.name() == name).ok_or_else(|| {
        let names = FailureClass::ALL.map(FailureClass::name).join(", ");
        format!("{word} knows no failure class '{name}'; there are {names}")
    })?;
    let retry_after = arguments
        .next()
        .map(|text| {
            text.parse::<u64>()
                .ok()
                .filter(|ms| *ms <= MAX_WAIT_MS)
                .ok_or_else(|| format!("{word} takes a time to wait of up to {MAX_WAIT_MS} ms, not '{text}'"))
        })
        .transpose()?;
    Ok(Act::Fail { class, retry_after, once: word == "FAILONCE" })
}

fn tree(processes: u64, argument: Option<&str>) -> Result<Act, String> {
    let (leave, seconds) = match argument {
        None => (false, 60),
        Some("leave") => (true, 60),
        Some(text) => match text.parse() {
            Ok(seconds) if seconds <= MAX_SECONDS => (false, seconds),
            _ => {
                return Err(format!(
                    "TREE takes 'leave' or up to {MAX_SECONDS} seconds after the number, not '{text}'"
                ));
            }
        },
    };
    Ok(Act::Tree { processes, seconds, leave })
}

fn signal(name: &str) -> Result<Signal, String> {
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    Signal::from_str(&full).map_err(|_| format!("SIGNAL knows no signal '{name}'"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn every_documented_word_is_known() {
        let page = include_str!("../../../docs/rehearsal.md");
        let cells = page.lines().filter_map(|line| line.strip_prefix("| `")?.split("` | ").next());
        let words = cells.flat_map(|cell| cell.split("`, `")).filter_map(|prompt| prompt.split([' ', '`']).next());
        let words: Vec<&str> = words.collect();
        let known: Vec<&str> = WORDS.iter().chain(&talk::WORDS).copied().collect();
        assert_eq!(words.len(), known.len(), "{words:?}");
        for word in words {
            let echoed = read(word).is_ok_and(|act| act == Act::Say(word.to_owned()));
            assert!(!echoed || word == "SAY", "{word} is echoed");
            assert!(known.contains(&word), "{word} is not in the list");
        }
    }

    #[test]
    fn message_with_a_word_in_each_line_has_as_many_steps() {
        assert_eq!(read_all("SAY a\n\nSAY b\n").unwrap(), [Act::Say("a".into()), Act::Say("b".into())]);
        assert_eq!(read_all("SAY a\nand b").unwrap(), [Act::Say("a\nand b".into())]);
        assert_eq!(read_all("RUN echo a\necho b").unwrap(), [Act::Run("echo a\necho b".into())]);
        assert!(read_all("SAY a\nSLOW soon").unwrap_err().contains("how many chunks"));
    }

    #[test]
    fn first_word_decides_and_anything_else_is_echoed() {
        assert_eq!(read("SAY hello there\nand more\n").unwrap(), Act::Say("hello there\nand more".into()));
        assert_eq!(read("\n  RUN echo a\necho b").unwrap(), Act::Run("echo a\necho b".into()));
        assert_eq!(read("RUN ls\n\n<stdin>\na log\n</stdin>\n").unwrap(), Act::Run("ls".into()));
        assert_eq!(read("JSON {}\n\n<stdin>\na\n</stdin>\n").unwrap(), Act::Json("{}".into()));
        assert_eq!(read("SAY so\n\n<stdin>\na\n</stdin>").unwrap(), Act::Say("so\n\n<stdin>\na\n</stdin>".into()));
        assert_eq!(read("please SAY no").unwrap(), Act::Say("please SAY no".into()));
        assert_eq!(read("-- dashes first").unwrap(), Act::Say("-- dashes first".into()));
        assert_eq!(read("MODEL trains are fun").unwrap(), Act::Say("MODEL trains are fun".into()));
        assert_eq!(read("SLOW 3").unwrap(), Act::Slow(3));
        assert_eq!(read("USAGE 12 34").unwrap(), Act::Usage(12, 34));
        assert_eq!(read("TREE 7 leave").unwrap(), Act::Tree { processes: 7, seconds: 60, leave: true });
        assert_eq!(read("SIGNAL kill").unwrap(), Act::Signal(Signal::SIGKILL));
        assert_eq!(read("LEAK").unwrap(), Act::Leak(1));
    }

    #[test]
    fn every_failure_class_can_be_requested() {
        for class in FailureClass::ALL {
            let act = read(&format!("FAIL {}", class.name())).unwrap();
            assert_eq!(act, Act::Fail { class, retry_after: None, once: false });
        }
        let act = read("FAILONCE rate-limited 250").unwrap();
        assert_eq!(act, Act::Fail { class: FailureClass::RateLimited, retry_after: Some(250), once: true });
    }

    #[test]
    fn invalid_arguments_are_reported() {
        for (prompt, part) in [
            ("SLOW soon", "how many chunks"),
            ("BIG 99999999", "number up to"),
            ("USAGE 1", "output tokens"),
            ("FAIL loudly", "'loudly'"),
            ("SIGNAL nine", "'nine'"),
            ("RUN", "needs a command"),
            ("ENV", "variable"),
            ("TREE 3 stay", "'stay'"),
        ] {
            let error = read(prompt).unwrap_err();
            assert!(error.contains(part), "{prompt}: {error}");
        }
    }
}
