//! The text for the CLI's standard input.

use std::fmt::Write as _;

/// Joins the prompt, a block with the names and paths of files, and a block with piped content.
#[must_use]
pub fn compose(prompt: &str, files: &[(&str, &str, &str)], piped: Option<&str>) -> String {
    let mut text = prompt.to_owned();
    if !files.is_empty() {
        text.push_str("\n\n<files>\n");
        for (name, mime_type, path) in files {
            let _ = writeln!(text, "{name} ({mime_type}): {path}");
        }
        text.push_str("</files>");
    }
    if let Some(piped) = piped.filter(|piped| !piped.is_empty()) {
        text.push_str("\n\n<stdin>\n");
        text.push_str(piped);
        if !piped.ends_with('\n') {
            text.push('\n');
        }
        text.push_str("</stdin>");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_follow_the_prompt() {
        assert_eq!(compose("do", &[], None), "do");
        assert_eq!(compose("do", &[], Some("a")), "do\n\n<stdin>\na\n</stdin>");
        assert_eq!(
            compose("do", &[("a.txt", "text/plain", "/p/a.txt")], Some("x\n")),
            "do\n\n<files>\na.txt (text/plain): /p/a.txt\n</files>\n\n<stdin>\nx\n</stdin>"
        );
    }
}
