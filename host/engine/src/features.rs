//! What a payload asks for and the installed CLI cannot do, by the words of its capabilities.
//!
//! A plugin says in `capabilities.features` what its CLI can do. Whatever its `prepare` then does, an option whose word is
//! missing counts as dropped: it is reported, or the run is refused where it restricts the agent.

use serde_json::Value;

use ostler_plugin_host::types::DroppedOption;
use ostler_protocol::lies_in;

/// The CLI asks before it uses tools.
pub(crate) const APPROVALS: &str = "approvals";
/// The CLI reports its tool uses.
pub(crate) const TOOL_EVENTS: &str = "tool-events";
/// The CLI can run in a terminal.
pub(crate) const TERMINAL: &str = "terminal";
/// The sessions of the CLI have no protocol: they run in a terminal.
pub(crate) const TERMINAL_ONLY: &str = "terminal-only";

/// Says whether an option really asks for something.
type Asks = fn(&Value) -> bool;

/// The options that need a word: their pointer, the word, and what of their values asks for it.
const OPTIONS: [(&str, &str, Asks); 20] = [
    ("/model", "model", is_there),
    ("/harness/resumeSessionId", "resume", is_there),
    ("/harness/continueSession", "continue", is_true),
    ("/harness/inputFormat", "input-format", |value| value != "text"),
    ("/harness/additionalDirectories", "additional-directories", is_not_empty),
    ("/harness/tools", "tools", is_there),
    ("/harness/permissions/sandboxMode", "sandbox", |value| value != "full-access"),
    ("/harness/permissions/autoApprove", "auto-approve", is_there),
    // Where nothing holds the network back, it is there.
    ("/harness/permissions/networkAccess", "network-access", |value| *value == Value::Bool(false)),
    ("/harness/permissions/approvalPolicy", APPROVALS, |value| value != "never"),
    ("/harness/limits/maxBudgetUsd", "max-budget", is_there),
    ("/harness/limits/maxTurns", "max-turns", is_there),
    ("/harness/structuredOutput", "structured-output", is_there),
    ("/harness/systemPrompt", "system-prompt", is_there),
    ("/harness/appendSystemPrompt", "append-system-prompt", is_there),
    ("/harness/pipedContent", "piped-content", is_not_empty),
    ("/harness/images", "images", is_not_empty),
    ("/harness/files", "files", is_not_empty),
    // Those of each server; see `servers`.
    ("enabledTools", "mcp-tool-filter", is_there),
    ("disabledTools", "mcp-tool-filter", is_not_empty),
];

fn is_there(value: &Value) -> bool {
    !value.is_null()
}

fn is_true(value: &Value) -> bool {
    *value == Value::Bool(true)
}

fn is_not_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => !items.is_empty(),
        Value::String(text) => !text.is_empty(),
        other => is_there(other),
    }
}

/// The options that a payload asks for and that need a word which the CLI's capabilities do not have. What the plugin has
/// dropped by itself is not named again, nor what the host enforces, by pointer.
pub(crate) fn missing(
    payload: &Value,
    features: &[String],
    dropped: &[DroppedOption],
    enforced_by_host: &[&str],
) -> Vec<DroppedOption> {
    let has = |word: &str| features.iter().any(|feature| feature == word);
    let plain = OPTIONS.iter().filter(|(pointer, ..)| pointer.starts_with('/'));
    let asked = plain.filter_map(|(pointer, word, asks)| {
        let value = payload.pointer(pointer)?;
        asks(value).then(|| ((*pointer).to_owned(), *word))
    });
    asked
        .chain(servers(payload))
        .filter(|(pointer, word)| !has(word) && !enforced_by_host.contains(&pointer.as_str()))
        .filter(|(pointer, _)| !dropped.iter().any(|dropped| covers(&dropped.pointer, pointer)))
        .map(|(pointer, word)| DroppedOption {
            // Whether it restricts the agent is the host's own knowledge.
            restricts: false,
            pointer,
            reason: format!("the plugin does not say that the installed CLI can do this (`{word}`)"),
        })
        .collect()
}

/// The servers that are to be started, by the word of their transport, and what of them needs another word.
fn servers(payload: &Value) -> impl Iterator<Item = (String, &'static str)> {
    let servers = payload.pointer("/harness/mcp/servers").and_then(Value::as_array);
    let enabled = |(_, server): &(usize, &Value)| server.get("enabled") != Some(&Value::Bool(false));
    servers.into_iter().flatten().enumerate().filter(enabled).flat_map(|(index, server)| {
        let pointer = format!("/harness/mcp/servers/{index}");
        let word = match server.get("type").and_then(Value::as_str) {
            Some("http") => "mcp-http",
            Some("sse") => "mcp-sse",
            None if server.get("url").is_some() && server.get("command").is_none() => "mcp-http",
            _ => "mcp",
        };
        let filters = OPTIONS.iter().filter(|(name, ..)| !name.starts_with('/')).filter_map({
            let pointer = pointer.clone();
            move |(name, word, asks)| asks(server.get(name)?).then(|| (format!("{pointer}/{name}"), *word))
        });
        let filters: Vec<_> = filters.collect();
        std::iter::once((pointer, word)).chain(filters)
    })
}

/// Whether what was said about one pointer is about the other, too: it, something in it, or something around it.
fn covers(dropped: &str, asked: &str) -> bool {
    lies_in(asked, dropped) && !dropped.is_empty() || lies_in(dropped, asked)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::json;

    use super::*;

    fn everything() -> Value {
        json!({"model": "m", "harness": {
            "resumeSessionId": "s", "continueSession": true, "inputFormat": "stream-json",
            "additionalDirectories": ["/a"], "tools": [], "systemPrompt": "x", "appendSystemPrompt": "y",
            "pipedContent": "z", "images": [{}], "files": [{}], "structuredOutput": {"schema": {}},
            "permissions": {"sandboxMode": "read-only", "autoApprove": false, "networkAccess": false, "approvalPolicy": "on-request"},
            "limits": {"maxBudgetUsd": 1.0, "maxTurns": 2},
            "mcp": {"servers": [
                {"name": "a", "command": "x", "enabledTools": []}, {"name": "b", "url": "http://x"},
                {"name": "c", "type": "sse", "url": "http://x", "disabledTools": ["t"]}, {"name": "d", "enabled": false}
            ]}
        }})
    }

    fn pointers(dropped: &[DroppedOption]) -> Vec<&str> {
        dropped.iter().map(|dropped| dropped.pointer.as_str()).collect()
    }

    #[test]
    fn every_option_whose_word_is_missing_counts_as_dropped() {
        let missing = missing(&everything(), &[], &[], &[]);
        let expected: Vec<&str> =
            OPTIONS.iter().map(|(pointer, ..)| *pointer).filter(|pointer| pointer.starts_with('/')).collect();
        let found = pointers(&missing);
        assert_eq!(found[..expected.len()], expected);
        assert_eq!(
            found[expected.len()..],
            [
                "/harness/mcp/servers/0",
                "/harness/mcp/servers/0/enabledTools",
                "/harness/mcp/servers/1",
                "/harness/mcp/servers/2",
                "/harness/mcp/servers/2/disabledTools"
            ]
        );
    }

    #[test]
    fn nothing_is_dropped_that_the_cli_can_do_or_nobody_asked_for() {
        let words: Vec<String> = ["mcp", "mcp-http", "mcp-sse"]
            .into_iter()
            .chain(OPTIONS.iter().map(|(_, word, _)| *word))
            .map(str::to_owned)
            .collect();
        assert_eq!(missing(&everything(), &words, &[], &[]), []);
        let nothing = json!({"prompt": "x", "harness": {
            "continueSession": false, "inputFormat": "text", "pipedContent": "",
            "permissions": {"sandboxMode": "full-access", "networkAccess": true, "approvalPolicy": "never"}
        }});
        assert_eq!(missing(&nothing, &[], &[], &[]), []);
    }

    #[test]
    fn what_the_plugin_dropped_or_the_host_enforces_is_not_named_again() {
        let payload = json!({"harness": {"tools": ["shell"], "mcp": {"servers": [{"command": "x"}]},
            "permissions": {"sandboxMode": "read-only", "networkAccess": false}}});
        let dropped =
            |pointer: &str| DroppedOption { pointer: pointer.to_owned(), reason: String::new(), restricts: true };
        let by_plugin = [dropped("/harness/tools/0"), dropped("/harness/mcp"), dropped("")];
        let by_host = ["/harness/permissions/sandboxMode"];
        assert_eq!(pointers(&missing(&payload, &[], &by_plugin, &by_host)), ["/harness/permissions/networkAccess"]);
    }

    #[test]
    fn every_word_stands_in_the_vocabulary() {
        for (_, word, _) in OPTIONS {
            assert!(ostler_plugin::vocabulary::features::ALL.contains(&word), "{word}");
        }
    }
}
