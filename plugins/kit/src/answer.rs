//! Structured answers in plain text.

use serde_json::Value;

/// Parses an answer that consists of one JSON document, and returns the document as compact text. A fence of three
/// backticks, with `json` after it or not, around the whole answer is removed. An answer with text before or after the
/// document is not accepted.
#[must_use]
pub fn json(text: &str) -> Option<String> {
    let text = text.trim();
    let document = parse(text).or_else(|| parse(unfence(text)?))?;
    serde_json::to_string(&document).ok()
}

fn parse(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

fn unfence(text: &str) -> Option<&str> {
    let (head, body) = text.strip_prefix("```")?.strip_suffix("```")?.split_once('\n')?;
    (matches!(head.trim(), "" | "json" | "JSON") && !body.contains("```")).then_some(body)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn accepts_documents_with_or_without_a_fence_but_no_other_text() {
        assert_eq!(json(" {\"a\": 1}\n").unwrap(), r#"{"a":1}"#);
        assert_eq!(json("```json\n{\"a\": [1]}\n```").unwrap(), r#"{"a":[1]}"#);
        assert_eq!(json("```\n7\n```\n").unwrap(), "7");
        assert!(json("here it is: {\"a\":1}").is_none());
        assert!(json("```json\n{}\n```\n```json\n{}\n```").is_none());
        assert!(json("```python\n1\n```").is_none());
        assert!(json("").is_none());
        assert!(json("```").is_none());
    }
}
