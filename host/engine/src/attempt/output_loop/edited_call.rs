//! A tool use whose input a user has replaced, so that the policies can judge what will run.
//!
//! Only the plugin knows how commands and files follow from an input. The host finds where in the original input they stand,
//! and takes what the new input has at the same places.

use serde_json::Value;

use crate::session::answer::texts;
use ostler_plugin_host::types::ToolCall;

/// The use with another input. `None` if the commands and files of the original use do not stand in its input, or the new
/// input has nothing in their places.
pub(super) fn edited_call(call: &ToolCall, input: &str) -> Option<ToolCall> {
    let original: Value = serde_json::from_str(&call.input).ok()?;
    let edited: Value = serde_json::from_str(input).ok()?;
    let places = texts(&original);
    let replaced = |text: &str| {
        let (pointer, _) = places.iter().find(|(_, value)| *value == text)?;
        edited.pointer(pointer)?.as_str().map(str::to_owned)
    };
    let mut result = ToolCall { input: input.to_owned(), ..call.clone() };
    for command in &mut result.commands {
        *command = replaced(command)?;
    }
    for file in &mut result.files {
        file.path = replaced(&file.path)?;
        // The change that was shown is no longer the one that happens.
        file.change = None;
    }
    for url in &mut result.urls {
        *url = replaced(url)?;
    }
    Some(result)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use ostler_plugin_host::types::{FileAccess, FileEffect};
    use serde_json::json;

    use super::*;
    use crate::attempt::tool_use::unknown_tool;

    fn call(input: &Value) -> ToolCall {
        ToolCall { input: input.to_string(), ..unknown_tool() }
    }

    #[test]
    fn commands_files_and_addresses_are_those_of_the_new_input() {
        let original = json!({"command": "ls", "path": "a", "nested": [{"url": "http://x"}]});
        let file = FileAccess { path: "a".to_owned(), effect: FileEffect::Modify, change: Some("+1".to_owned()) };
        let call = ToolCall {
            commands: vec!["ls".to_owned()],
            files: vec![file],
            urls: vec!["http://x".to_owned()],
            ..call(&original)
        };
        let edited = json!({"command": "rm -rf b", "path": "/etc/b", "nested": [{"url": "http://y"}]}).to_string();
        let found = edited_call(&call, &edited).unwrap();
        assert_eq!(
            (found.commands.as_slice(), found.urls.as_slice()),
            (&["rm -rf b".to_owned()][..], &["http://y".to_owned()][..])
        );
        assert_eq!((found.files[0].path.as_str(), &found.files[0].change), ("/etc/b", &None));
        assert_eq!(found.input, edited);
    }

    #[test]
    fn input_whose_meaning_is_not_known_gives_nothing() {
        let wrapped = ToolCall { commands: vec!["ls".to_owned()], ..call(&json!({"argv": ["bash", "-c", "ls -l"]})) };
        assert_eq!(edited_call(&wrapped, r#"{"argv": ["rm"]}"#), None);
        let plain = ToolCall { commands: vec!["ls".to_owned()], ..call(&json!({"command": "ls"})) };
        assert_eq!(edited_call(&plain, r#"{"other": "rm"}"#), None, "the command is missing");
        assert_eq!(edited_call(&plain, "no json"), None);
    }
}
