//! The words for conversations: questions to the user, and faults of the two-way protocol.

use serde_json::{Value, json};

/// Every word of this module.
pub(in super::super) const WORDS: [&str; 17] = [
    "ASK",
    "QUESTION",
    "ELICIT",
    "OPEN",
    "SHOW-USE",
    "ASK-TWICE",
    "ASK-BIG",
    "WITHDRAW",
    "UNKNOWN-REQUEST",
    "LISTEN",
    "BACKGROUND",
    "REMEMBER",
    "RECALL",
    "GARBAGE",
    "DIE",
    "DEAF",
    "HANDSHAKE",
];

/// The words that need someone to talk to. Elsewhere, the stand-in says that there is nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum TalkAct {
    /// Ask, and wait for the answer.
    Ask(Subject),
    /// Ask, and go on without waiting.
    Open(Subject),
    /// Show a use of a tool before it happens, and wait for the answer if the host wants to see uses.
    ShowUse(Subject),
    /// Ask for two different things with one id.
    Twice(Subject),
    /// Ask for a command of so many MiB.
    Big(u64),
    /// Ask, and withdraw the question.
    Withdraw(Withdrawal, Subject),
    /// Send a request that no host knows.
    Unknown,
    /// Answer with the next message of the user, in the same turn.
    Listen,
    /// Leave a task that ends after so many seconds and then takes a turn of its own.
    Background(u64, String),
    /// Ignore interrupts for so many seconds.
    Deaf(u64),
    Remember(String),
    Recall,
    Garbage,
    /// Exit at once with this code.
    Die(u8),
    /// Only the first word of the first prompt can spoil the handshake.
    Handshake,
}

/// When a question is withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Withdrawal {
    /// After so many milliseconds without an answer.
    After(u64),
    /// When the answer arrives: the two cross.
    Answered,
}

/// What a question is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Subject {
    Shell(String),
    Patch { path: String, text: String },
    Read(String),
    Fetch(String),
    Mcp { server: String, tool: String },
    Tool(String),
    Network(String),
    Permissions(String),
    Questions(Vec<Question>),
    Elicit(String),
}

/// A question to the user, with the answers to choose from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Question {
    text: String,
    options: Vec<String>,
    many: bool,
    secret: bool,
}

const MAX_SECONDS: u64 = 3_600;
const MAX_WAIT_MS: u64 = 600_000;
const MAX_BIG_MIB: u64 = 256;

/// Parses a prompt that begins with `word`. `rest` is what follows it.
pub(in super::super) fn read(word: &str, rest: &str) -> Option<Result<TalkAct, String>> {
    Some(match word {
        "ASK" => subject(word, rest).map(TalkAct::Ask),
        "OPEN" => subject(word, rest).map(TalkAct::Open),
        "SHOW-USE" => subject(word, rest).map(TalkAct::ShowUse),
        "ASK-TWICE" => subject(word, rest).map(TalkAct::Twice),
        "QUESTION" => questions(rest).map(|all| TalkAct::Ask(Subject::Questions(all))),
        "ELICIT" if rest.is_empty() => Err("ELICIT needs a text".to_owned()),
        "ELICIT" => Ok(TalkAct::Ask(Subject::Elicit(rest.to_owned()))),
        "ASK-BIG" => count(word, rest, "how many MiB", MAX_BIG_MIB).map(TalkAct::Big),
        "WITHDRAW" => withdraw(rest),
        "UNKNOWN-REQUEST" if rest.is_empty() => Ok(TalkAct::Unknown),
        "LISTEN" if rest.is_empty() => Ok(TalkAct::Listen),
        "BACKGROUND" => {
            let (seconds, text) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            count(word, seconds, "how many seconds", MAX_SECONDS)
                .map(|seconds| TalkAct::Background(seconds, text.trim().to_owned()))
        }
        "DEAF" => count(word, rest, "how many seconds", MAX_SECONDS).map(TalkAct::Deaf),
        "REMEMBER" if rest.is_empty() => Err("REMEMBER needs a text".to_owned()),
        "REMEMBER" => Ok(TalkAct::Remember(rest.to_owned())),
        "RECALL" if rest.is_empty() => Ok(TalkAct::Recall),
        "GARBAGE" if rest.is_empty() => Ok(TalkAct::Garbage),
        "DIE" if rest.is_empty() => Ok(TalkAct::Die(1)),
        "DIE" => rest.parse().map(TalkAct::Die).map_err(|_| "DIE takes an exit code up to 255".to_owned()),
        "HANDSHAKE" if matches!(rest, "none" | "garbage") => Ok(TalkAct::Handshake),
        "HANDSHAKE" => Err("HANDSHAKE takes none or garbage".to_owned()),
        _ => return None,
    })
}

fn count(word: &str, text: &str, what: &str, most: u64) -> Result<u64, String> {
    text.trim()
        .parse()
        .ok()
        .filter(|number| *number <= most)
        .ok_or_else(|| format!("{word} needs {what}, a number up to {most}"))
}

fn withdraw(rest: &str) -> Result<TalkAct, String> {
    let (when, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let when = if when == "answered" {
        Withdrawal::Answered
    } else {
        let ms = when.parse().ok().filter(|ms| *ms <= MAX_WAIT_MS);
        Withdrawal::After(ms.ok_or_else(|| {
            format!("WITHDRAW needs 'answered' or a number of milliseconds up to {MAX_WAIT_MS}, and then a question")
        })?)
    };
    subject("WITHDRAW", rest.trim()).map(|subject| TalkAct::Withdraw(when, subject))
}

/// Parses `kind: what`; the colon may be left out.
fn subject(word: &str, rest: &str) -> Result<Subject, String> {
    let (kind, what) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let (kind, what) = (kind.trim_end_matches(':'), what.trim());
    let two = || {
        let (first, second) = what.split_once([' ', '/']).unwrap_or((what, ""));
        (first.to_owned(), second.trim().to_owned())
    };
    if what.is_empty() {
        return Err(format!("{word} needs a kind and what it is about: {word} shell: ls"));
    }
    Ok(match kind {
        "shell" => Subject::Shell(what.to_owned()),
        "patch" => {
            let (path, text) = what.split_once(char::is_whitespace).unwrap_or((what, "a new line"));
            Subject::Patch { path: path.to_owned(), text: text.trim().to_owned() }
        }
        "read" => Subject::Read(what.to_owned()),
        "fetch" => Subject::Fetch(what.to_owned()),
        "mcp" => {
            let (server, tool) = two();
            Subject::Mcp { server, tool }
        }
        "tool" => Subject::Tool(what.to_owned()),
        "network" => Subject::Network(what.to_owned()),
        "permissions" => Subject::Permissions(what.to_owned()),
        _ => {
            return Err(format!(
                "{word} knows no kind '{kind}'; there are shell, patch, read, fetch, mcp, tool, network and permissions"
            ));
        }
    })
}

/// Parses `text | answer | answer || text | …`; a text may begin with `many:` or `secret:`.
fn questions(rest: &str) -> Result<Vec<Question>, String> {
    rest.split("||")
        .map(|one| {
            let mut parts = one.split('|').map(str::trim);
            let text = parts.next().unwrap_or_default();
            let (many, secret) = (text.strip_prefix("many:"), text.strip_prefix("secret:"));
            let plain = many.or(secret).unwrap_or(text).trim();
            if plain.is_empty() {
                return Err("QUESTION needs a text".to_owned());
            }
            Ok(Question {
                text: plain.to_owned(),
                options: parts.filter(|option| !option.is_empty()).map(str::to_owned).collect(),
                many: many.is_some(),
                secret: secret.is_some(),
            })
        })
        .collect()
}

impl Subject {
    /// What it is about, in one line.
    pub(in super::super) fn shown(&self) -> String {
        match self {
            Self::Shell(text) | Self::Read(text) | Self::Fetch(text) | Self::Tool(text) => text.clone(),
            Self::Network(text) | Self::Permissions(text) | Self::Elicit(text) => text.clone(),
            Self::Patch { path, .. } => path.clone(),
            Self::Mcp { server, tool } => format!("{server}/{tool}"),
            Self::Questions(all) => all.iter().map(|one| one.text.as_str()).collect::<Vec<_>>().join(" "),
        }
    }

    /// Whether this is the use of a tool. Network, permissions and the questions of MCP servers are not.
    pub(super) fn is_tool(&self) -> bool {
        !matches!(self, Self::Network(_) | Self::Permissions(_) | Self::Elicit(_))
    }

    /// Whether the input can be edited.
    pub(super) fn editable(&self) -> bool {
        matches!(self, Self::Shell(_) | Self::Questions(_) | Self::Elicit(_))
    }

    /// The members of a line that describe it.
    pub(super) fn fields(&self) -> Value {
        match self {
            Self::Shell(command) => json!({ "name": "shell", "command": command }),
            Self::Patch { path, text } => json!({
                "name": "patch", "path": path, "diff": format!("--- a/{path}\n+++ b/{path}\n@@ -1,0 +2 @@\n+{text}\n"),
            }),
            Self::Read(path) => json!({ "name": "read", "path": path }),
            Self::Fetch(url) => json!({ "name": "fetch", "url": url }),
            Self::Mcp { server, tool } => json!({ "name": "mcp", "server": server, "serverTool": tool }),
            Self::Tool(name) => json!({ "name": name }),
            Self::Network(host) => json!({ "name": "network", "url": host }),
            Self::Permissions(text) => json!({ "name": "permissions", "text": text }),
            Self::Questions(all) => {
                let all: Vec<Value> = (1..)
                    .zip(all)
                    .map(|(number, one): (u32, _)| {
                        let options: Vec<Value> = one.options.iter().map(|label| json!({ "label": label })).collect();
                        json!({
                            "id": format!("q{number}"), "question": one.text, "options": options,
                            "multiSelect": one.many, "secret": one.secret,
                        })
                    })
                    .collect();
                json!({ "name": "question", "questions": all })
            }
            Self::Elicit(text) => json!({
                "name": "elicit",
                "text": text,
                "schema": {
                    "type": "object",
                    "properties": { "answer": { "type": "string", "description": text } },
                    "required": ["answer"],
                },
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn act(prompt: &str) -> Result<TalkAct, String> {
        let (word, rest) = prompt.split_once(' ').unwrap_or((prompt, ""));
        read(word, rest).unwrap()
    }

    #[test]
    fn questions_are_read_with_their_answers() {
        let TalkAct::Ask(Subject::Questions(all)) = act("QUESTION Which? | red | blue || many: Sizes? | S").unwrap()
        else {
            panic!("not a question")
        };
        assert_eq!((all.len(), all[0].options.len(), all[0].many, all[1].many), (2, 2, false, true));
        assert_eq!(all[1].text, "Sizes?");
    }

    #[test]
    fn subjects_are_read_with_or_without_a_colon() {
        let shell = Subject::Shell("rm -rf x".to_owned());
        assert_eq!(act("ASK shell: rm -rf x").unwrap(), TalkAct::Ask(shell.clone()));
        assert_eq!(act("OPEN shell rm -rf x").unwrap(), TalkAct::Open(shell.clone()));
        assert_eq!(
            act("WITHDRAW 20 shell: rm -rf x").unwrap(),
            TalkAct::Withdraw(Withdrawal::After(20), shell.clone())
        );
        assert_eq!(act("WITHDRAW answered shell: rm -rf x").unwrap(), TalkAct::Withdraw(Withdrawal::Answered, shell));
        let mcp = Subject::Mcp { server: "db".to_owned(), tool: "drop".to_owned() };
        assert_eq!(act("SHOW-USE mcp: db/drop").unwrap(), TalkAct::ShowUse(mcp));
        let patch = Subject::Patch { path: "a.txt".to_owned(), text: "more text".to_owned() };
        assert_eq!(act("ASK patch a.txt more text").unwrap(), TalkAct::Ask(patch));
    }

    #[test]
    fn invalid_arguments_are_named() {
        for (prompt, part) in [
            ("ASK", "needs a kind"),
            ("ASK dance: now", "'dance'"),
            ("QUESTION", "needs a text"),
            ("ELICIT", "needs a text"),
            ("ASK-BIG lots", "how many MiB"),
            ("WITHDRAW shell: ls", "milliseconds"),
            ("BACKGROUND", "how many seconds"),
            ("DEAF", "how many seconds"),
            ("DIE never", "exit code"),
            ("REMEMBER", "needs a text"),
            ("HANDSHAKE firm", "none or garbage"),
        ] {
            let error = act(prompt).unwrap_err();
            assert!(error.contains(part), "{prompt}: {error}");
        }
    }
}
