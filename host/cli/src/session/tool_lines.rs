//! The tools that an agent uses, as lines of a conversation.

use std::collections::HashMap;

use super::super::output::{BAD, DIM, paint};
use super::super::printer::tool_summary;
use super::super::{clean, table};
use ostler_protocol::Semantic;
use ostler_protocol::semantic::ToolResult;

/// Lines of a tool's output that are shown.
const MAX_LINES: usize = 3;
/// The same of a tool that failed.
const MAX_LINES_OF_FAILURE: usize = 8;
/// Bytes of output that are kept until the tool has ended.
const MAX_KEPT: usize = 16 << 10;

/// Turns the events about tools into lines.
#[derive(Debug, Default)]
pub(super) struct ToolLines {
    /// The output of tools that run, by the id of the use.
    running: HashMap<String, String>,
}

impl ToolLines {
    /// The lines of an event; empty if there is nothing to show.
    pub(super) fn take(&mut self, semantic: &Semantic, width: usize, color: bool) -> String {
        match semantic {
            Semantic::ToolStart(call) => {
                let indent = if call.parent.is_some() { "  " } else { "" };
                let summary = format!("{indent}● {}", clean::line(&tool_summary(call)));
                self.running.insert(call.id.clone(), String::new());
                format!("{}\n", paint(color, DIM, &table::cut(&summary, width)))
            }
            Semantic::ToolDelta(piece) => {
                if let Some(output) = self.running.get_mut(&piece.id).filter(|output| output.len() < MAX_KEPT) {
                    output.push_str(&piece.text);
                }
                String::new()
            }
            Semantic::ToolResult(result) => {
                let joined = self.running.remove(&result.id).unwrap_or_default();
                lines(result, result.output.as_deref().unwrap_or(&joined), width, color)
            }
            _ => String::new(),
        }
    }
}

fn lines(result: &ToolResult, output: &str, width: usize, color: bool) -> String {
    let code = result.exit_code.filter(|code| *code != 0);
    let failed = result.is_error || code.is_some();
    let mut shown = String::new();
    if failed {
        let text = code.map_or_else(|| "failed".to_owned(), |code| format!("exit code {code}"));
        shown.push_str(&format!("  {}\n", paint(color, BAD, &text)));
    }
    let output = clean::text(output);
    let all: Vec<&str> = output.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let limit = if failed { MAX_LINES_OF_FAILURE } else { MAX_LINES };
    for line in all.iter().take(limit) {
        let line = line.replace('\t', "    ");
        shown.push_str(&format!("  {}\n", paint(color, DIM, &table::cut(&line, width.saturating_sub(2)))));
    }
    if all.len() > limit {
        let note = format!("… {} more lines", all.len() - limit);
        shown.push_str(&format!("  {}\n", paint(color, DIM, &note)));
    }
    shown
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn shows_use_and_first_lines_of_output() {
        let mut tools = ToolLines::default();
        let mut take = |value: Value| tools.take(&serde_json::from_value(value).unwrap(), 40, false);
        let start = |id: &str| json!({"kind": "tool_start", "id": id, "tool": "shell", "commands": ["cargo test --workspace --locked --all"]});
        assert_eq!(take(start("t")), "● shell: cargo test --workspace --locke…\n");
        assert_eq!(take(json!({"kind": "tool_delta", "id": "t", "text": "one\n\u{1b}[2Jtwo\n"})), "");
        assert_eq!(take(json!({"kind": "tool_delta", "id": "t", "text": "3\n4\n5\n"})), "");
        let end = take(json!({"kind": "tool_result", "id": "t", "isError": false, "exitCode": 0}));
        assert_eq!(end, "  one\n  ␛[2Jtwo\n  3\n  … 2 more lines\n");
        take(start("u"));
        let end = take(json!({"kind": "tool_result", "id": "u", "isError": true, "exitCode": 7, "output": "no\n"}));
        assert_eq!(end, "  exit code 7\n  no\n");
    }
}
