//! The answers of the model. The first word of the prompt selects the answer.
//!
//! | prompt | answer |
//! |---|---|
//! | `SAY text` | the text |
//! | `JSON value` | the value: through a tool for structured output if the CLI offers one, otherwise as text |
//! | `RUN command` | a call of the CLI's shell tool; when its result has come back, that result |
//! | `TOOL name input` | the same with any tool, by its name or the end of it, and a JSON object |
//! | `LOOP command` | a call of the shell tool after each result, without end |
//! | `MISFIT value` | the value through the tool for structured output, again and again, whatever the CLI answers |
//! | `READ …` | a call of `Read` with the first file that the CLI or its adapter names below the prompt |
//! | `THINK text` | reasoning, then the text |
//! | `SLOW n` | n pieces, 200 ms apart |
//! | `BIG n` | n KiB |
//! | `USAGE in out` | `counted`, with these numbers of tokens |
//! | `LEAK` | made-up secrets, split over deltas; see [`Secrets`] |
//! | `FAIL status [seconds]` | that HTTP status, with the time to wait |
//! | `FAILONCE status` | the same for the first request with this prompt |
//! | `CUT` | a stream that is cut off |
//! | `TURNS`, `MODEL`, `SYSTEM`, `TOOLS` | the number of prompts, the model, the system prompt, the tools' names |
//! | anything else | the prompt |

use serde_json::{Map, Value, json};
use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// A request, independent of the protocol.
#[derive(Debug, Default)]
pub(super) struct Turn {
    pub(super) model: String,
    pub(super) system: String,
    /// Texts of the user's messages, oldest first, without what the CLI adds.
    pub(super) prompts: Vec<String>,
    /// Results of tools after the newest prompt.
    pub(super) results: Vec<String>,
    /// Names of the tools that were called after the newest prompt.
    pub(super) called: Vec<String>,
    pub(super) tools: Vec<Tool>,
    /// Names of tools that have to be looked up before they are offered.
    pub(super) deferred: Vec<String>,
    pub(super) stream: bool,
}

impl Turn {
    /// Whether the last result is that of a look-up, so that the tool itself must be called next.
    fn has_looked_up(&self) -> bool {
        self.called.last().is_some_and(|name| name == LOOK_UP)
    }
}

/// The tool that looks up other tools.
pub(super) const LOOK_UP: &str = "ToolSearch";

#[derive(Debug, Clone)]
pub(super) struct Tool {
    pub(super) name: String,
    /// JSON Schema of its input.
    pub(super) input: Value,
    /// Group that it belongs to, repeated in a call.
    pub(super) namespace: Option<String>,
}

/// A call of a tool.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) input: Value,
    pub(super) namespace: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) thinking: Option<String>,
    /// The text as it is streamed.
    pub(super) pieces: Vec<String>,
    pub(super) pause: Duration,
    pub(super) call: Option<Call>,
    pub(super) tokens: Option<(u64, u64)>,
    /// The connection ends after the first piece.
    pub(super) cut: bool,
}

impl Reply {
    pub(super) fn text(&self) -> String {
        self.pieces.concat()
    }

    /// Input and output tokens; by default a quarter of the bytes.
    pub(super) fn tokens(&self) -> (u64, u64) {
        self.tokens.unwrap_or_else(|| (100, self.text().len() as u64 / 4 + 1))
    }

    fn say(text: impl Into<String>) -> Self {
        let text: String = text.into();
        let pieces = if text.len() > 64 * 1024 {
            text.as_bytes().chunks(4096).map(|part| String::from_utf8_lossy(part).into_owned()).collect()
        } else {
            text.split_inclusive(' ').map(str::to_owned).collect()
        };
        Self { pieces, ..Self::default() }
    }
}

pub(super) enum Verdict {
    Reply(Reply),
    /// HTTP status, and seconds to wait.
    Refuse(u16, Option<u64>),
}

#[derive(Default)]
pub(super) struct Script {
    /// Prompts that have failed once.
    failed: Mutex<HashSet<String>>,
}

const MAX_PIECES: usize = 600;
const MAX_KIB: usize = 8 * 1024;

impl Script {
    pub(super) fn decide(&self, turn: &Turn) -> Verdict {
        let prompt = turn.prompts.last().map(String::as_str).unwrap_or_default().trim();
        let first = prompt.lines().next().unwrap_or_default();
        let (word, rest) = first.split_once(' ').unwrap_or((first, ""));
        let rest = rest.trim();
        let number = |default: usize| rest.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(default);
        if matches!(word, "FAIL" | "FAILONCE") {
            let again = || {
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.insert(prompt.to_owned())
            };
            if word == "FAIL" || again() {
                let seconds = rest.split(' ').nth(1).and_then(|text| text.parse().ok());
                return Verdict::Refuse(u16::try_from(number(500)).unwrap_or(500), seconds);
            }
            return Verdict::Reply(Reply::say("recovered"));
        }
        if !turn.results.is_empty() && !matches!(word, "LOOP" | "MISFIT") && !turn.has_looked_up() {
            return Verdict::Reply(Reply::say(match word {
                "JSON" => rest.to_owned(),
                _ => format!("the tool said: {}", turn.results.join("\n")),
            }));
        }
        Verdict::Reply(match word {
            "SAY" => Reply::say(rest),
            "THINK" => Reply { thinking: Some(format!("thinking of {rest}")), ..Reply::say(rest) },
            "RUN" | "LOOP" => shell_call(&turn.tools, rest).map_or_else(
                || Reply::say("there is no shell tool"),
                |call| Reply { call: Some(call), ..Reply::default() },
            ),
            "TOOL" => any_call(turn, rest).map_or_else(
                || Reply::say("there is no such tool"),
                |call| Reply { call: Some(call), ..Reply::default() },
            ),
            "READ" => named_file(prompt)
                .and_then(|path| any_call(turn, &format!("Read {}", json!({ "file_path": path }))))
                .map_or_else(
                    || Reply::say("there is nothing to read"),
                    |call| Reply { call: Some(call), ..Reply::default() },
                ),
            "JSON" | "MISFIT" => structured(&turn.tools, rest),
            "SLOW" => Reply {
                pieces: (1..=number(5).min(MAX_PIECES)).map(|n| format!("piece {n} ")).collect(),
                pause: Duration::from_millis(200),
                ..Reply::default()
            },
            "BIG" => Reply { pieces: vec![format!("{:.<1023}\n", ""); number(64).min(MAX_KIB)], ..Reply::default() },
            "USAGE" => {
                let mut numbers = rest.split_whitespace().filter_map(|text| text.parse().ok());
                let tokens = (numbers.next().unwrap_or(1), numbers.next().unwrap_or(1));
                Reply { tokens: Some(tokens), ..Reply::say("counted") }
            }
            "LEAK" => {
                let text = format!("the keys are {} and {}", Secrets::github(), Secrets::anthropic());
                let pieces = text.as_bytes().chunks(7).map(|part| String::from_utf8_lossy(part).into_owned()).collect();
                Reply { pieces, ..Reply::default() }
            }
            "CUT" => Reply { cut: true, ..Reply::say("this breaks off in the middle of it all") },
            "TURNS" => Reply::say(turn.prompts.len().to_string()),
            "MODEL" => Reply::say(turn.model.clone()),
            "SYSTEM" => Reply::say(turn.system.clone()),
            "TOOLS" => {
                let mut names: Vec<_> = turn.tools.iter().map(|tool| tool.name.as_str()).collect();
                names.sort_unstable();
                Reply::say(names.join(" "))
            }
            _ => Reply::say(prompt),
        })
    }
}

/// Secrets that `LEAK` prints. They are built here, so that no file contains anything that looks like one.
pub struct Secrets;

impl Secrets {
    fn body(length: usize, step: usize) -> String {
        let letters: Vec<char> = ('a'..='z').chain('0'..='9').chain('A'..='Z').collect();
        (0..length).map(|n| letters[(n * n * step + 11 * n + 5 * step) % letters.len()]).collect()
    }

    /// In the format of a GitHub token.
    pub fn github() -> String {
        format!("{}{}", ["gh", "p_"].concat(), Self::body(36, 7))
    }

    /// In the format of an Anthropic key.
    pub fn anthropic() -> String {
        format!("{}{}AA", ["sk-", "ant-", "api03-"].concat(), Self::body(93, 13))
    }
}

/// Removes the text that CLIs put around a prompt.
pub(super) fn without_context(text: &str) -> String {
    let mut text = text.to_owned();
    for tag in [
        "system-reminder",
        "environment_context",
        "user_instructions",
        "INSTRUCTIONS",
        "permissions instructions",
        "skills_instructions",
        "collaboration_mode",
        // An earlier turn was interrupted.
        "turn_aborted",
    ] {
        let close = format!("</{tag}>");
        while let Some(start) = text.find(&format!("<{tag}>")) {
            let end = text[start..].find(&close).map_or(text.len(), |at| start + at + close.len());
            text.replace_range(start..end, "");
        }
    }
    // An earlier turn was interrupted; claude joins this with the next prompt.
    let own = text.lines().filter(|line| !line.starts_with("[Request interrupted by user"));
    own.collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// The shell tool of the CLI, with any name: the tool with a command parameter.
fn shell_call(tools: &[Tool], command: &str) -> Option<Call> {
    let key_of = |tool: &Tool| {
        let properties = tool.input.get("properties")?.as_object()?;
        ["cmd", "command"].into_iter().find(|key| properties.contains_key(*key))
    };
    let named = |tool: &&Tool| ["exec_command", "shell_command", "shell", "Bash"].contains(&tool.name.as_str());
    let tool = tools.iter().filter(named).chain(tools).find(|tool| key_of(tool).is_some())?;
    let key = key_of(tool)?;
    let list = tool.input["properties"][key]["type"] == "array";
    let value = if list { json!(["bash", "-lc", command]) } else { json!(command) };
    let mut input = Map::from_iter([(key.to_owned(), value)]);
    complete(&tool.input, &mut input);
    Some(Call { name: tool.name.clone(), input: Value::Object(input), namespace: tool.namespace.clone() })
}

/// The path in the first line `name (type): path`.
fn named_file(prompt: &str) -> Option<&str> {
    prompt.lines().find_map(|line| line.split_once("): ").map(|(_, path)| path.trim()))
}

/// `name input`. CLIs put the name of a server before that of its tool.
fn any_call(turn: &Turn, words: &str) -> Option<Call> {
    let (name, input) = words.split_once(' ').unwrap_or((words, "{}"));
    let fits = |known: &str| known == name || known.ends_with(&format!("__{name}"));
    let Some(tool) = turn.tools.iter().find(|tool| fits(&tool.name)) else {
        let deferred = turn.deferred.iter().find(|known| fits(known)).filter(|_| !turn.has_looked_up())?;
        let input = json!({ "query": format!("select:{deferred}") });
        return Some(Call { name: LOOK_UP.to_owned(), input, namespace: None });
    };
    let Ok(Value::Object(mut input)) = serde_json::from_str(input) else { return None };
    complete(&tool.input, &mut input);
    Some(Call { name: tool.name.clone(), input: Value::Object(input), namespace: tool.namespace.clone() })
}

fn structured(tools: &[Tool], text: &str) -> Reply {
    let tool = tools.iter().find(|tool| tool.name == "StructuredOutput");
    match (tool, serde_json::from_str(text)) {
        (Some(tool), Ok(input)) => Reply {
            call: Some(Call { name: tool.name.clone(), input, namespace: tool.namespace.clone() }),
            ..Reply::default()
        },
        _ => Reply { pieces: vec![text.to_owned()], ..Reply::default() },
    }
}

/// Gives every other required member a value of its type.
fn complete(schema: &Value, input: &mut Map<String, Value>) {
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    for name in required {
        if input.contains_key(name) {
            continue;
        }
        let member = &schema["properties"][name];
        let value = match (member["enum"].get(0), member["type"].as_str()) {
            (Some(first), _) => first.clone(),
            (None, Some("number" | "integer")) => json!(1),
            (None, Some("boolean")) => json!(false),
            (None, Some("array")) => json!([]),
            (None, Some("object")) => json!({}),
            _ => json!("as scripted"),
        };
        input.insert(name.to_owned(), value);
    }
}
