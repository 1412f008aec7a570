//! The changes that a tool of claude makes to a file, as a diff. claude itself shows one only afterwards.

use std::fmt::Write as _;

use serde_json::Value;

use crate::items::text;

/// The changes of an edit; none for other tools. The lines are not numbered: only claude has read the file.
pub(super) fn diff(name: &str, input: &Value) -> Option<String> {
    let edits: Vec<&Value> = match name {
        "Edit" => vec![input],
        "MultiEdit" => input.get("edits")?.as_array()?.iter().collect(),
        "NotebookEdit" => {
            let path = text(input, "notebook_path");
            return Some(format!("--- {path}\n+++ {path}\n@@ @@\n{}", lines('+', text(input, "new_source"))));
        }
        _ => return None,
    };
    let path = text(input, "file_path");
    let mut diff = format!("--- {path}\n+++ {path}\n");
    for edit in edits {
        let all = if edit.get("replace_all").and_then(Value::as_bool) == Some(true) { " every occurrence" } else { "" };
        let _ = writeln!(diff, "@@ @@{all}");
        diff.push_str(&lines('-', text(edit, "old_string")));
        diff.push_str(&lines('+', text(edit, "new_string")));
    }
    Some(diff)
}

fn lines(sign: char, text: &str) -> String {
    text.lines().fold(String::new(), |mut all, line| {
        let _ = writeln!(all, "{sign}{line}");
        all
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn edits_are_shown_as_removed_and_added_lines() {
        let edit = json!({"file_path": "/a.txt", "old_string": "one\ntwo", "new_string": "three"});
        assert_eq!(diff("Edit", &edit).unwrap(), "--- /a.txt\n+++ /a.txt\n@@ @@\n-one\n-two\n+three\n");
        let many = json!({"file_path": "/a", "edits": [
            {"old_string": "a", "new_string": "b"}, {"old_string": "c", "new_string": "", "replace_all": true},
        ]});
        let expected = "--- /a\n+++ /a\n@@ @@\n-a\n+b\n@@ @@ every occurrence\n-c\n";
        assert_eq!(diff("MultiEdit", &many).unwrap(), expected);
        assert!(diff("Write", &json!({"content": "x"})).is_none() && diff("MultiEdit", &json!({})).is_none());
    }
}
